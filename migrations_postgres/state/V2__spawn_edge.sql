-- Which thread was started by which. A thread has at most one parent; one of them may be unknown to the thread table.
CREATE TABLE spawn_edge (
    child_id   TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(child_id) = 36),
    parent_id  TEXT COLLATE "C" NOT NULL CHECK (length(parent_id) = 36 AND parent_id <> child_id),
    status     TEXT COLLATE "C" NOT NULL CHECK (status IN ('open', 'closed')),
    created_at BIGINT NOT NULL                                 -- Unix milliseconds
);

-- The children of a thread, oldest first.
CREATE INDEX spawn_edge_by_parent ON spawn_edge (parent_id, created_at, child_id);
