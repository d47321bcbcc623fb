-- The turns of a thread, as far as its transcript was read: a projection that can be thrown away and made again.
-- first_line counts from 1; offsets are of bytes, in a compressed transcript of its uncompressed text.
CREATE TABLE turn (
    thread_id    TEXT COLLATE "C" NOT NULL CHECK (length(thread_id) = 36),
    ordinal      BIGINT NOT NULL CHECK (ordinal >= 0),
    turn_id      TEXT COLLATE "C" NOT NULL,
    status       TEXT COLLATE "C" NOT NULL CHECK (status IN ('completed', 'interrupted', 'failed', 'in_progress')),
    rolled_back  BIGINT NOT NULL DEFAULT 0 CHECK (rolled_back IN (0, 1)),
    started_at   BIGINT,                                       -- Unix milliseconds
    ended_at     BIGINT,                                       -- Unix milliseconds
    user_text    TEXT COLLATE "C", -- its beginning
    agent_text   TEXT COLLATE "C", -- its beginning
    line_count   BIGINT NOT NULL,
    first_line   BIGINT NOT NULL,
    start_offset BIGINT NOT NULL,
    end_offset   BIGINT NOT NULL,
    PRIMARY KEY (thread_id, ordinal)
);

-- A page is a walk of this one, forwards or backwards.
CREATE INDEX turn_visible ON turn (thread_id, ordinal) WHERE rolled_back = 0;
CREATE INDEX turn_by_id ON turn (thread_id, turn_id);

-- How far each transcript was read, and by which version of reading. The last record in front of that place, its beginning
-- and a hash of its text, tells whether the file is still that one; line 0: there is none.
CREATE TABLE turn_checkpoint (
    thread_id   TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(thread_id) = 36),
    reading     BIGINT NOT NULL,
    line        BIGINT NOT NULL,
    line_offset BIGINT NOT NULL,
    line_hash   BIGINT NOT NULL,
    end_line    BIGINT NOT NULL,
    end_offset  BIGINT NOT NULL
);

-- What did not fit, once each.
CREATE TABLE turn_anomaly (
    thread_id TEXT COLLATE "C" NOT NULL CHECK (length(thread_id) = 36),
    line      BIGINT NOT NULL,
    kind      TEXT COLLATE "C" NOT NULL CHECK (kind IN ('bad_line', 'duplicate', 'gap')),
    PRIMARY KEY (thread_id, line, kind)
);

-- What was read of a thread goes with it, whoever deletes it.
CREATE FUNCTION forget_turns() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    DELETE FROM turn WHERE thread_id = old.id;
    DELETE FROM turn_checkpoint WHERE thread_id = old.id;
    DELETE FROM turn_anomaly WHERE thread_id = old.id;
    RETURN NULL;
END $$;

CREATE TRIGGER turn_of_deleted_thread AFTER DELETE ON thread FOR EACH ROW EXECUTE FUNCTION forget_turns();
