-- What the rows of a thread count towards its cap, kept with every change of them, so that nobody adds them up.
--
-- Rows that were written before this table was there are not in it: they count towards the total, and expire.
CREATE TABLE log_thread (
    thread_id TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
