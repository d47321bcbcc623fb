-- Memories: who works on what, and what came of it. All times are Unix milliseconds.
--
-- One job per thread (extract) and one for all of them (consolidate, of the thread ''). The token is given to whoever
-- claims a job; who does not have it any more has lost it.
CREATE TABLE memory_job (
    kind         TEXT COLLATE "C" NOT NULL CHECK (kind IN ('extract', 'consolidate')),
    thread_id    TEXT COLLATE "C" NOT NULL CHECK (length(thread_id) = CASE kind WHEN 'extract' THEN 36 ELSE 0 END),
    status       TEXT COLLATE "C" NOT NULL CHECK (status IN ('running', 'done', 'failed')),
    token        TEXT COLLATE "C" NOT NULL,
    lease_until  BIGINT NOT NULL,
    retry_at     BIGINT NOT NULL,                              -- after a failure; not before
    retries_left BIGINT NOT NULL CHECK (retries_left >= 0),    -- for this source
    source       BIGINT NOT NULL,                              -- how new what it was claimed for is
    done_source  BIGINT,                                       -- the same, of the last success
    finished_at  BIGINT,
    error        TEXT COLLATE "C",
    PRIMARY KEY (kind, thread_id)
);

CREATE INDEX memory_job_running ON memory_job (kind, lease_until) WHERE status = 'running';

CREATE TABLE memory_output (
    thread_id         TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(thread_id) = 36),
    raw_memory        TEXT COLLATE "C" NOT NULL,
    rollout_summary   TEXT COLLATE "C" NOT NULL,
    rollout_slug      TEXT COLLATE "C",
    source_updated_at BIGINT NOT NULL,
    generated_at      BIGINT NOT NULL,
    usage_count       BIGINT NOT NULL DEFAULT 0 CHECK (usage_count >= 0),
    last_used_at      BIGINT NOT NULL,                         -- of one that was never used: its source_updated_at
    selected_source   BIGINT                                   -- the source that the last consolidation used
);

-- The order in which outputs are chosen.
CREATE INDEX memory_output_rank ON memory_output (usage_count, last_used_at, thread_id);
CREATE INDEX memory_output_selected ON memory_output (thread_id) WHERE selected_source IS NOT NULL;
-- What retention may remove, oldest first.
CREATE INDEX memory_output_unused ON memory_output (last_used_at, thread_id) WHERE selected_source IS NULL;
