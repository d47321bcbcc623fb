-- One goal per thread. The goal_id tells a replaced goal from the one that a caller has seen.
CREATE TABLE goal (
    thread_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    goal_id TEXT COLLATE "C" NOT NULL,
    objective TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL
        CHECK (status IN ('active', 'paused', 'blocked', 'usage_limited', 'budget_limited', 'complete')),
    token_budget BIGINT CHECK (token_budget >= 0),             -- NULL: no budget
    tokens_used BIGINT NOT NULL DEFAULT 0 CHECK (tokens_used >= 0),
    time_used_seconds BIGINT NOT NULL DEFAULT 0 CHECK (time_used_seconds >= 0),
    created_at BIGINT NOT NULL,                                -- Unix milliseconds
    updated_at BIGINT NOT NULL                                 -- Unix milliseconds
);
