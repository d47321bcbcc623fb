//! The statements, in the part of SQL that both engines know.

use super::Accounting;

macro_rules! columns {
    () => {
        "thread_id, goal_id, objective, status, token_budget, tokens_used, time_used_seconds, created_at, updated_at"
    };
}

pub(super) const GET: &str = concat!("SELECT ", columns!(), " FROM goal WHERE thread_id = $1");

/// $1 below this thread, $2 how many to look at, $3 how many, $4 to $9 the statuses, NULL where there are fewer.
pub(super) const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM (SELECT ",
    columns!(),
    " FROM goal WHERE thread_id < $1 ORDER BY thread_id DESC LIMIT $2) AS g \
     WHERE status IN ($4, $5, $6, $7, $8, $9) ORDER BY thread_id DESC LIMIT $3"
);

/// The last one that [`LIST`] may look at: $1 below this thread, $2 how many to look at, less one.
pub(super) const LAST_OF_SCAN: &str =
    "SELECT thread_id FROM goal WHERE thread_id < $1 ORDER BY thread_id DESC LIMIT 1 OFFSET $2";

pub(super) const DELETE: &str = concat!("DELETE FROM goal WHERE thread_id = $1 RETURNING ", columns!());

/// $1 thread, $2 goal, $3 objective, $4 status, $5 budget, $6 now.
macro_rules! put {
    ($when:literal) => {
        concat!(
            "INSERT INTO goal(",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, 0, 0, $6, $6) \
             ON CONFLICT (thread_id) DO UPDATE SET goal_id = excluded.goal_id, objective = excluded.objective, \
             status = excluded.status, token_budget = excluded.token_budget, tokens_used = 0, time_used_seconds = 0, \
             created_at = excluded.created_at, updated_at = excluded.updated_at",
            $when,
            " RETURNING ",
            columns!()
        )
    };
}

pub(super) const REPLACE: &str = put!("");
pub(super) const INSERT: &str = put!(" WHERE goal.status = 'complete'");

/// A goal as it was: $1 thread, $2 goal, $3 objective, $4 status, $5 budget, $6 tokens, $7 seconds, $8 created, $9 updated.
pub(super) const RESTORE: &str = concat!(
    "INSERT INTO goal(",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
     ON CONFLICT (thread_id) DO UPDATE SET goal_id = excluded.goal_id, objective = excluded.objective, \
     status = excluded.status, token_budget = excluded.token_budget, tokens_used = excluded.tokens_used, \
     time_used_seconds = excluded.time_used_seconds, created_at = excluded.created_at, \
     updated_at = excluded.updated_at WHERE excluded.updated_at > goal.updated_at"
);

/// Now, or when it was last changed if the clock was set back since.
macro_rules! touched {
    ($now:literal) => {
        concat!("updated_at = CASE WHEN updated_at > ", $now, " THEN updated_at ELSE ", $now, " END")
    };
}

/// For whom it is meant: $1 thread, $2 the goal expected or NULL.
macro_rules! meant {
    () => {
        " WHERE thread_id = $1 AND (CAST($2 AS TEXT) IS NULL OR goal_id = $2)"
    };
}

/// The budget and the status after [`UPDATE`].
macro_rules! new_budget {
    () => {
        "CASE WHEN $5 = 1 THEN $6 ELSE token_budget END"
    };
}
macro_rules! new_status {
    () => {
        concat!(
            "CASE WHEN status = 'budget_limited' AND $4 = 'paused' THEN status \
             WHEN coalesce($4, status) = 'active' AND tokens_used >= ",
            new_budget!(),
            " THEN 'budget_limited' ELSE coalesce($4, status) END"
        )
    };
}

/// $3 objective or NULL, $4 status or NULL, $5 whether the budget is another, $6 the budget, $7 now.
pub(super) const UPDATE: &str = concat!(
    "UPDATE goal SET objective = coalesce($3, objective), token_budget = ",
    new_budget!(),
    ", status = ",
    new_status!(),
    ", ",
    touched!("$7"),
    meant!(),
    " AND (objective <> coalesce($3, objective) OR token_budget IS DISTINCT FROM ",
    new_budget!(),
    " OR status <> ",
    new_status!(),
    ") RETURNING ",
    columns!()
);

/// $3 status, $4 now.
pub(super) const STOP: &str = concat!(
    "UPDATE goal SET status = $3, ",
    touched!("$4"),
    meant!(),
    " AND status = 'active' RETURNING ",
    columns!()
);

/// $3 seconds, $4 tokens, $5 now. Both sums end at the largest integer.
macro_rules! account {
    (counts: $counts:literal, limits: $limits:literal) => {
        concat!(
            "UPDATE goal SET \
             time_used_seconds = time_used_seconds + CASE WHEN $3 > 9223372036854775807 - time_used_seconds \
             THEN 9223372036854775807 - time_used_seconds ELSE $3 END, \
             tokens_used = tokens_used + CASE WHEN $4 > 9223372036854775807 - tokens_used \
             THEN 9223372036854775807 - tokens_used ELSE $4 END, \
             status = CASE WHEN status IN (",
            $limits,
            ") AND $4 >= token_budget - tokens_used THEN 'budget_limited' ELSE status END, ",
            touched!("$5"),
            meant!(),
            " AND status IN (",
            $counts,
            ") RETURNING ",
            columns!()
        )
    };
}

pub(super) fn account(accounting: Accounting) -> &'static str {
    match accounting {
        Accounting::ActiveStatusOnly => account!(counts: "'active'", limits: "'active'"),
        Accounting::ActiveOnly => account!(counts: "'active', 'budget_limited'", limits: "'active'"),
        Accounting::ActiveOrComplete => {
            account!(counts: "'active', 'budget_limited', 'complete'", limits: "'active'")
        }
        Accounting::ActiveOrStopped => account!(
            counts: "'active', 'paused', 'blocked', 'usage_limited', 'budget_limited'",
            limits: "'active', 'paused', 'blocked', 'usage_limited', 'budget_limited'"
        ),
    }
}
