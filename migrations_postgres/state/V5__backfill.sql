-- Which folders of transcripts are indexed, how far, and by whom. All times are Unix milliseconds.
--
-- One row per folder. The token is given to whoever runs it; who does not have it any more has lost it. watermark: the
-- last file of the last batch, in the order in which a folder is walked; null before the first one. listed: every file has
-- had its turn, only whole readings are left. everything: files are read again though they did not change. facts: which
-- version of reading a transcript the rows were made by.
CREATE TABLE backfill (
    root         TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (root <> ''),
    state        TEXT COLLATE "C" NOT NULL CHECK (state IN ('pending', 'running', 'complete')),
    token        TEXT COLLATE "C",
    owner_host   TEXT COLLATE "C",
    owner_boot   TEXT COLLATE "C",
    owner_pid    BIGINT,
    owner_start  BIGINT,                                       -- in clock ticks since the machine started
    heartbeat_at BIGINT,
    watermark    TEXT COLLATE "C",
    listed       BIGINT NOT NULL CHECK (listed IN (0, 1)),
    everything   BIGINT NOT NULL CHECK (everything IN (0, 1)),
    facts        BIGINT NOT NULL,
    progress     TEXT COLLATE "C" NOT NULL,                              -- JSON
    finished_at  BIGINT,
    CHECK ((state = 'running') = (token IS NOT NULL))
);

-- A list says whether it may lack threads.
CREATE INDEX backfill_unlisted ON backfill (root) WHERE listed = 0;

-- Files that need more than the stamp in their thread's row. bad: it could not be read, to be tried again. duplicate:
-- another file of its thread holds as much or more, which its name does not tell. ends: its row comes from its two ends,
-- and what lies between is still to be read.
CREATE TABLE backfill_file (
    path      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    size      BIGINT NOT NULL,
    mtime_ns  BIGINT NOT NULL,
    inode     BIGINT NOT NULL,
    kind      TEXT COLLATE "C" NOT NULL CHECK (kind IN ('bad', 'duplicate', 'ends')),
    thread_id TEXT COLLATE "C" CHECK ((kind = 'bad') = (thread_id IS NULL)),
    line      BIGINT,
    reason    TEXT COLLATE "C" CHECK ((kind = 'bad') = (reason IS NOT NULL))
);

CREATE INDEX backfill_file_kind ON backfill_file (kind, path);
