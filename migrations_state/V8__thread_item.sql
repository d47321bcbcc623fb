-- The history of threads in a home whose state is on a server, and who writes each. In a file these tables stay empty: there
-- the transcripts have the history, and locks say who writes one.
CREATE TABLE thread_history (
    thread_id    TEXT    NOT NULL PRIMARY KEY CHECK (length(thread_id) = 36),
    items        INTEGER NOT NULL CHECK (items >= 0), -- how many there are: the number of the next one
    writer_id    TEXT,                                -- who may append: one of thread_writer; NULL: nobody
    writer_token TEXT,                                -- another one each time that right is taken
    writer_found INTEGER,                             -- how many items there were then
    wanted_at    INTEGER                              -- when somebody last waited for it, in Unix milliseconds
) STRICT, WITHOUT ROWID;

-- Owners look here whether somebody waits for them.
CREATE INDEX thread_history_wanted ON thread_history (wanted_at) WHERE wanted_at IS NOT NULL;

CREATE TABLE thread_item (
    thread_id TEXT    NOT NULL CHECK (length(thread_id) = 36),
    seq       INTEGER NOT NULL CHECK (seq >= 0), -- from 0, without a gap
    kind      TEXT    NOT NULL,                  -- the beginning of its type
    item      BLOB    NOT NULL,                  -- the line, byte for byte, without its newline
    PRIMARY KEY (thread_id, seq)
) STRICT, WITHOUT ROWID;

-- Programs that write threads, for as long as they give signs of life.
CREATE TABLE thread_writer (
    writer_id  TEXT    NOT NULL PRIMARY KEY,
    host       TEXT    NOT NULL,
    boot_id    TEXT    NOT NULL, -- another one after each start of the host
    namespace  INTEGER NOT NULL, -- of process ids
    pid        INTEGER NOT NULL,
    start_time INTEGER NOT NULL, -- in ticks of the host's clock
    program    TEXT    NOT NULL,
    until      INTEGER NOT NULL  -- Unix milliseconds: when it counts as gone
) STRICT, WITHOUT ROWID;
