-- What the rows of a thread count towards its cap, kept with every change of them, so that nobody adds them up.
CREATE TABLE log_thread (
    thread_id TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Of rows that are there already, once: the log is bounded in bytes.
INSERT INTO log_thread(thread_id, bytes)
    SELECT thread_id, sum(bytes) FROM log WHERE thread_id IS NOT NULL GROUP BY thread_id;
