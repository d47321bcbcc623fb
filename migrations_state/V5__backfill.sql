-- Which folders of transcripts are indexed, how far, and by whom. All times are Unix milliseconds.
--
-- One row per folder. The token is given to whoever runs it; who does not have it any more has lost it. watermark: the
-- last file of the last batch, in the order in which a folder is walked; null before the first one. listed: every file has
-- had its turn, only whole readings are left. everything: files are read again though they did not change. facts: which
-- version of reading a transcript the rows were made by.
CREATE TABLE backfill (
    root         TEXT    NOT NULL PRIMARY KEY CHECK (root <> ''),
    state        TEXT    NOT NULL CHECK (state IN ('pending', 'running', 'complete')),
    token        TEXT,
    owner_host   TEXT,
    owner_boot   TEXT,
    owner_pid    INTEGER,
    owner_start  INTEGER,                                       -- in clock ticks since the machine started
    heartbeat_at INTEGER,
    watermark    TEXT,
    listed       INTEGER NOT NULL CHECK (listed IN (0, 1)),
    everything   INTEGER NOT NULL CHECK (everything IN (0, 1)),
    facts        INTEGER NOT NULL,
    progress     TEXT    NOT NULL,                              -- JSON
    finished_at  INTEGER,
    CHECK ((state = 'running') = (token IS NOT NULL))
) STRICT;

-- A list says whether it may lack threads.
CREATE INDEX backfill_unlisted ON backfill (root) WHERE listed = 0;

-- Files that need more than the stamp in their thread's row. bad: it could not be read, to be tried again. duplicate:
-- another file of its thread holds as much or more, which its name does not tell. ends: its row comes from its two ends,
-- and what lies between is still to be read.
CREATE TABLE backfill_file (
    path      TEXT    NOT NULL PRIMARY KEY,
    size      INTEGER NOT NULL,
    mtime_ns  INTEGER NOT NULL,
    inode     INTEGER NOT NULL,
    kind      TEXT    NOT NULL CHECK (kind IN ('bad', 'duplicate', 'ends')),
    thread_id TEXT             CHECK ((kind = 'bad') = (thread_id IS NULL)),
    line      INTEGER,
    reason    TEXT             CHECK ((kind = 'bad') = (reason IS NOT NULL))
) STRICT;

CREATE INDEX backfill_file_kind ON backfill_file (kind, path);
