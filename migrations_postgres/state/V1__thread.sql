-- The same tables as in `migrations_state`, in the SQL of a server. Texts are compared by bytes, as in a file.
--
-- A list of texts is one parameter of any length, JSON, on either engine: what SQLite calls json_each, for an array of texts.
CREATE FUNCTION json_each(list TEXT) RETURNS TABLE(value TEXT) LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT jsonb_array_elements_text(list::jsonb) $$;

-- One row per thread. All times are Unix milliseconds; ids are UUIDs in lower case with hyphens.
-- user_set: the sum of name 1, git 2, pin 4, archive 8; what a user set is never overwritten by derived facts.
-- rollout_size, rollout_mtime_ns, rollout_inode: the transcript as it was when it was last read.
CREATE TABLE thread (
    id                 TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(id) = 36),
    rollout_path       TEXT COLLATE "C",
    created_at         BIGINT NOT NULL,
    updated_at         BIGINT NOT NULL,
    recency_at         BIGINT NOT NULL,
    archived_at        BIGINT,
    source             TEXT COLLATE "C",
    model_provider     TEXT COLLATE "C",
    model              TEXT COLLATE "C",
    reasoning_effort   TEXT COLLATE "C",
    cwd                TEXT COLLATE "C",
    title              TEXT COLLATE "C",
    name               TEXT COLLATE "C",
    preview            TEXT COLLATE "C",
    first_user_message TEXT COLLATE "C",
    cli_version        TEXT COLLATE "C",
    sandbox_policy     TEXT COLLATE "C",
    approval_mode      TEXT COLLATE "C",
    tokens_used        BIGINT NOT NULL DEFAULT 0 CHECK (tokens_used >= 0),
    git_sha            TEXT COLLATE "C",
    git_branch         TEXT COLLATE "C",
    git_origin_url     TEXT COLLATE "C",
    agent_nickname     TEXT COLLATE "C",
    agent_role         TEXT COLLATE "C",
    forked_from_id     TEXT COLLATE "C",
    is_pinned          BIGINT NOT NULL DEFAULT 0 CHECK (is_pinned IN (0, 1)),
    memory_mode        TEXT COLLATE "C" NOT NULL DEFAULT 'enabled' CHECK (memory_mode IN ('enabled', 'disabled', 'polluted')),
    user_set           BIGINT NOT NULL DEFAULT 0 CHECK (user_set >= 0),
    rollout_size       BIGINT,
    rollout_mtime_ns   BIGINT,
    rollout_inode      BIGINT
);

-- A list is a walk of one of these, forwards or backwards, from (sort value, id). A row is in the live six or in
-- the archived six, never in both.
CREATE INDEX thread_live_created         ON thread (created_at, id)      WHERE archived_at IS NULL;
CREATE INDEX thread_live_updated         ON thread (updated_at, id)      WHERE archived_at IS NULL;
CREATE INDEX thread_live_recency         ON thread (recency_at, id)      WHERE archived_at IS NULL;
CREATE INDEX thread_live_cwd_created     ON thread (cwd, created_at, id) WHERE archived_at IS NULL;
CREATE INDEX thread_live_cwd_updated     ON thread (cwd, updated_at, id) WHERE archived_at IS NULL;
CREATE INDEX thread_live_cwd_recency     ON thread (cwd, recency_at, id) WHERE archived_at IS NULL;
CREATE INDEX thread_archived_created     ON thread (created_at, id)      WHERE archived_at IS NOT NULL;
CREATE INDEX thread_archived_updated     ON thread (updated_at, id)      WHERE archived_at IS NOT NULL;
CREATE INDEX thread_archived_recency     ON thread (recency_at, id)      WHERE archived_at IS NOT NULL;
CREATE INDEX thread_archived_cwd_created ON thread (cwd, created_at, id) WHERE archived_at IS NOT NULL;
CREATE INDEX thread_archived_cwd_updated ON thread (cwd, updated_at, id) WHERE archived_at IS NOT NULL;
CREATE INDEX thread_archived_cwd_recency ON thread (cwd, recency_at, id) WHERE archived_at IS NOT NULL;

-- An import asks for each file whether it is known.
CREATE INDEX thread_rollout_path ON thread (rollout_path) WHERE rollout_path IS NOT NULL;
