-- Threads that are being deleted. Their rows went when this one came; it goes when nothing of the thread is left in files
-- and in other databases. Until then nothing about the thread gets in again.
CREATE TABLE tombstone (
    thread_id    TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(thread_id) = 36),
    rollout_path TEXT COLLATE "C", -- as the thread's row said
    deleted_at   BIGINT NOT NULL                               -- Unix milliseconds
);
