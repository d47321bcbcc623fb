-- One row per event.
--
-- AUTOINCREMENT: an id is never used again, so that whoever follows the log with "id > last seen" misses nothing
-- after the newest rows were deleted (a deleted thread, an expired log). It costs about a sixth of the insert rate.
-- Rows are inserted in time order: a time range is a binary search by id, and ts needs no index.
CREATE TABLE log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    ts INTEGER NOT NULL,                                        -- Unix nanoseconds
    level INTEGER NOT NULL CHECK (level BETWEEN 1 AND 5),       -- 1 TRACE, 2 DEBUG, 3 INFO, 4 WARN, 5 ERROR
    target TEXT NOT NULL,
    message TEXT NOT NULL,
    fields TEXT,                                                -- of the event and its spans, a JSON object
    thread_id TEXT,
    process_id TEXT NOT NULL,                                   -- of one run of a process, never used again
    module TEXT,
    file TEXT,
    line INTEGER,
    bytes INTEGER NOT NULL CHECK (bytes >= 0)                   -- what the row counts towards the caps
) STRICT;

-- The one secondary index. The cap per thread, the deletion of a thread and its feedback bundle must find a few rows
-- among hundreds of megabytes; every other filter scans newest first within a row budget. Each entry ends in the row's
-- id, so that a thread's rows come in the order of their ids without a sort. Partial: rows of no thread cost nothing.
CREATE INDEX log_by_thread ON log(thread_id) WHERE thread_id IS NOT NULL;
