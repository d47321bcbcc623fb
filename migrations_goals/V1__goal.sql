-- One goal per thread. The goal_id tells a replaced goal from the one that a caller has seen.
CREATE TABLE goal (
    thread_id TEXT NOT NULL PRIMARY KEY,
    goal_id TEXT NOT NULL,
    objective TEXT NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('active', 'paused', 'blocked', 'usage_limited', 'budget_limited', 'complete')),
    token_budget INTEGER CHECK (token_budget >= 0),             -- NULL: no budget
    tokens_used INTEGER NOT NULL DEFAULT 0 CHECK (tokens_used >= 0),
    time_used_seconds INTEGER NOT NULL DEFAULT 0 CHECK (time_used_seconds >= 0),
    created_at INTEGER NOT NULL,                                -- Unix milliseconds
    updated_at INTEGER NOT NULL                                 -- Unix milliseconds
) STRICT;
