-- The history of threads, and who writes each. An append changes a row of thread_history and inserts into thread_item, of
-- which it reads nothing: appends to different threads are never in each other's way.
CREATE TABLE thread_history (
    thread_id    TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(thread_id) = 36),
    items        BIGINT NOT NULL CHECK (items >= 0), -- how many there are: the number of the next one
    writer_id    TEXT COLLATE "C",                   -- who may append: one of thread_writer; NULL: nobody
    writer_token TEXT COLLATE "C",                   -- another one each time that right is taken
    writer_found BIGINT,                             -- how many items there were then
    wanted_at    BIGINT                              -- when somebody last waited for it, in Unix milliseconds
) WITH (fillfactor = 50);                            -- room for a row's next version beside it

-- Owners look here whether somebody waits for them.
CREATE INDEX thread_history_wanted ON thread_history (wanted_at) WHERE wanted_at IS NOT NULL;

CREATE TABLE thread_item (
    thread_id TEXT COLLATE "C" NOT NULL CHECK (length(thread_id) = 36),
    seq       BIGINT NOT NULL CHECK (seq >= 0), -- from 0, without a gap
    kind      TEXT COLLATE "C" NOT NULL,        -- the beginning of its type
    item      BYTEA NOT NULL,                   -- the line, byte for byte, without its newline
    PRIMARY KEY (thread_id, seq)
);

-- Programs that write threads, for as long as they give signs of life.
CREATE TABLE thread_writer (
    writer_id  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    host       TEXT COLLATE "C" NOT NULL,
    boot_id    TEXT COLLATE "C" NOT NULL, -- another one after each start of the host
    namespace  BIGINT NOT NULL,           -- of process ids
    pid        BIGINT NOT NULL,
    start_time BIGINT NOT NULL,           -- in ticks of the host's clock
    program    TEXT COLLATE "C" NOT NULL,
    until      BIGINT NOT NULL            -- Unix milliseconds by the server's clock: when it counts as gone
) WITH (fillfactor = 50);
