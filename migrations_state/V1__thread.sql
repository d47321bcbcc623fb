-- One row per thread. All times are Unix milliseconds; ids are UUIDs in lower case with hyphens.
-- user_set: the sum of name 1, git 2, pin 4, archive 8; what a user set is never overwritten by derived facts.
-- rollout_size, rollout_mtime_ns, rollout_inode: the transcript as it was when it was last read.
CREATE TABLE thread (
    id                 TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 36),
    rollout_path       TEXT,
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    recency_at         INTEGER NOT NULL,
    archived_at        INTEGER,
    source             TEXT,
    model_provider     TEXT,
    model              TEXT,
    reasoning_effort   TEXT,
    cwd                TEXT,
    title              TEXT,
    name               TEXT,
    preview            TEXT,
    first_user_message TEXT,
    cli_version        TEXT,
    sandbox_policy     TEXT,
    approval_mode      TEXT,
    tokens_used        INTEGER NOT NULL DEFAULT 0 CHECK (tokens_used >= 0),
    git_sha            TEXT,
    git_branch         TEXT,
    git_origin_url     TEXT,
    agent_nickname     TEXT,
    agent_role         TEXT,
    forked_from_id     TEXT,
    is_pinned          INTEGER NOT NULL DEFAULT 0 CHECK (is_pinned IN (0, 1)),
    memory_mode        TEXT    NOT NULL DEFAULT 'enabled' CHECK (memory_mode IN ('enabled', 'disabled', 'polluted')),
    user_set           INTEGER NOT NULL DEFAULT 0 CHECK (user_set >= 0),
    rollout_size       INTEGER,
    rollout_mtime_ns   INTEGER,
    rollout_inode      INTEGER
) STRICT;

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
