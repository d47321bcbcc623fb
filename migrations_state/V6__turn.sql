-- The turns of a thread, as far as its transcript was read: a projection that can be thrown away and made again.
-- first_line counts from 1; offsets are of bytes, in a compressed transcript of its uncompressed text.
CREATE TABLE turn (
    thread_id    TEXT    NOT NULL CHECK (length(thread_id) = 36),
    ordinal      INTEGER NOT NULL CHECK (ordinal >= 0),
    turn_id      TEXT    NOT NULL,
    status       TEXT    NOT NULL CHECK (status IN ('completed', 'interrupted', 'failed', 'in_progress')),
    rolled_back  INTEGER NOT NULL DEFAULT 0 CHECK (rolled_back IN (0, 1)),
    started_at   INTEGER,                                       -- Unix milliseconds
    ended_at     INTEGER,                                       -- Unix milliseconds
    user_text    TEXT,                                          -- its beginning
    agent_text   TEXT,                                          -- its beginning
    line_count   INTEGER NOT NULL,
    first_line   INTEGER NOT NULL,
    start_offset INTEGER NOT NULL,
    end_offset   INTEGER NOT NULL,
    PRIMARY KEY (thread_id, ordinal)
) STRICT, WITHOUT ROWID;

-- A page is a walk of this one, forwards or backwards.
CREATE INDEX turn_visible ON turn (thread_id, ordinal) WHERE rolled_back = 0;
CREATE INDEX turn_by_id ON turn (thread_id, turn_id);

-- How far each transcript was read, and by which version of reading. The last record in front of that place, its beginning
-- and a hash of its text, tells whether the file is still that one; line 0: there is none.
CREATE TABLE turn_checkpoint (
    thread_id   TEXT    NOT NULL PRIMARY KEY CHECK (length(thread_id) = 36),
    reading     INTEGER NOT NULL,
    line        INTEGER NOT NULL,
    line_offset INTEGER NOT NULL,
    line_hash   INTEGER NOT NULL,
    end_line    INTEGER NOT NULL,
    end_offset  INTEGER NOT NULL
) STRICT;

-- What did not fit, once each.
CREATE TABLE turn_anomaly (
    thread_id TEXT    NOT NULL CHECK (length(thread_id) = 36),
    line      INTEGER NOT NULL,
    kind      TEXT    NOT NULL CHECK (kind IN ('bad_line', 'duplicate', 'gap')),
    PRIMARY KEY (thread_id, line, kind)
) STRICT, WITHOUT ROWID;

-- What was read of a thread goes with it, whoever deletes it.
CREATE TRIGGER turn_of_deleted_thread AFTER DELETE ON thread BEGIN
    DELETE FROM turn WHERE thread_id = old.id;
    DELETE FROM turn_checkpoint WHERE thread_id = old.id;
    DELETE FROM turn_anomaly WHERE thread_id = old.id;
END;
