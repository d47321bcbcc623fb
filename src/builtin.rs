//! The four built-in domains: their schemas, and how much a program depends on each.
//!
//! The schemas apply to an empty database and refuse values outside their lists; the tests below prove both.

use std::time::Duration;

use crate::domain::{Domain, Durability};

/// What the rows of each thread count.
const LOG_THREAD: &str = "INSERT INTO log_thread(thread_id, bytes) \
     SELECT thread_id, sum(bytes) FROM log WHERE thread_id IS NOT NULL GROUP BY thread_id";

impl Domain {
    /// A domain whose schema is this library's.
    fn own(name: &str) -> Self {
        Self::new(name).program(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
    }

    /// Threads and what belongs to them. Required; a commit survives a power cut.
    pub fn state() -> Self {
        let state = Self::own("state")
            .migrations(rowhouse::migrations!("migrations_state"))
            .on_connect(overwrite_deleted);
        #[cfg(feature = "postgres")]
        let state = Self { derived: &["thread_text"], ..state }
            .on_server(rowhouse::migrations!("migrations_postgres/state"));
        #[cfg(feature = "agent")]
        let state = state.step(crate::stores::threads::search_index::step());
        state
    }

    /// Log rows. Best effort: a program runs without them, and a power cut may take the last commits. At most 256 MiB on the
    /// disk, and 4 GiB written a day: at the limit day and night for a year that is 1.6 TB, of the 600 TB that a common
    /// drive is warranted for.
    pub fn logs() -> Self {
        Self { totals: &[("log_thread", LOG_THREAD)], ..Self::own("logs") }
            .migrations(rowhouse::migrations!("migrations_logs"))
            .on_connect(overwrite_deleted)
            .durability(Durability::Normal)
            .best_effort()
            .max_bytes(256 << 20)
            .max_write_rate(4 << 30, Duration::from_hours(24))
    }

    /// The goal of each thread. Required; a commit survives a power cut.
    pub fn goals() -> Self {
        let goals = Self::own("goals")
            .migrations(rowhouse::migrations!("migrations_goals"))
            .on_connect(overwrite_deleted);
        #[cfg(feature = "postgres")]
        let goals = goals.on_server(rowhouse::migrations!("migrations_postgres/goals"));
        goals
    }

    /// Whom each device key belongs to. Required; a commit survives a power cut.
    pub fn device_keys() -> Self {
        // A key that was revoked must not come back.
        Self { merges_rescued: false, ..Self::own("device_keys") }
            .migrations(rowhouse::migrations!("migrations_device_keys"))
    }
}

/// What a person deletes is overwritten, in tables and in the search index, not only given free.
fn overwrite_deleted(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA secure_delete=ON")
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::domain::Role;
    use crate::error::{Error, ErrorKind};
    use crate::sqlite::migrate::migrate;

    fn migrated(domain: &Domain) -> Connection {
        let connection = Connection::open_in_memory().expect("an in-memory database");
        migrate(&connection, domain, ("test", "1")).expect("a schema that applies");
        connection
    }

    fn refused(connection: &Connection, sql: &str) {
        let error = Error::from(connection.execute(sql, []).expect_err(sql));
        assert_eq!(error.kind(), ErrorKind::Constraint, "{sql}: {error}");
    }

    #[test]
    fn what_threads_count_is_counted_of_the_rows_that_are_there() {
        let logs = Domain::logs();
        let connection = migrated(&Domain::logs().migrations(&logs.migrations[..1]));
        let row = "INSERT INTO log(ts, level, target, message, process_id, thread_id, bytes) \
                   VALUES (1, 3, 't', 'm', 'p', ?1, 7)";
        for thread in [Some("a"), Some("a"), Some("b"), None] {
            connection.execute(row, [thread]).expect("a row");
        }
        let counted = || -> String {
            let all = "SELECT group_concat(thread_id || bytes, ' ') FROM (SELECT * FROM log_thread ORDER BY thread_id)";
            connection.query_row(all, [], |row| row.get(0)).expect("a text")
        };
        migrate(&connection, &logs, ("test", "1")).expect("an upgrade");
        assert_eq!(counted(), "a14 b7");
        connection.execute("DELETE FROM log_thread", []).expect("emptied");
        connection.execute(LOG_THREAD, []).expect("filled anew");
        assert_eq!(counted(), "a14 b7");
    }

    #[test]
    fn only_logs_may_be_missing_or_lose_commits() {
        for domain in [Domain::state(), Domain::goals(), Domain::device_keys()] {
            assert_eq!((domain.role(), domain.durability), (Role::Required, Durability::Full), "{domain:?}");
            assert_eq!((domain.max_bytes, domain.max_write_rate), (None, None), "{domain:?}");
            domain.check().expect("a good name");
            migrated(&domain);
        }
        let logs = Domain::logs();
        assert_eq!((logs.role(), logs.durability), (Role::BestEffort, Durability::Normal));
        assert_eq!(logs.max_bytes, Some(256 << 20));
        assert_eq!(logs.max_write_rate, Some((4 << 30, Duration::from_hours(24))));
    }

    #[test]
    fn a_log_row_of_a_thread_is_found_by_the_index_in_the_order_of_ids() {
        let logs = migrated(&Domain::logs());
        let plan: Vec<String> = logs
            .prepare(
                "EXPLAIN QUERY PLAN SELECT id FROM log WHERE thread_id = ?1 AND id < ?2 ORDER BY id DESC",
            )
            .and_then(|mut plan| {
                plan.raw_bind_parameter(1, "t")?;
                plan.raw_bind_parameter(2, 9)?;
                let mut rows = plan.raw_query();
                let mut lines = Vec::new();
                while let Some(row) = rows.next()? {
                    lines.push(row.get("detail")?);
                }
                Ok(lines)
            })
            .expect("a plan");
        assert_eq!(plan, ["SEARCH log USING COVERING INDEX log_by_thread (thread_id=? AND rowid<?)"]);
    }

    #[test]
    fn a_log_id_is_never_used_again() {
        let logs = migrated(&Domain::logs());
        let insert =
            "INSERT INTO log(ts, level, target, message, process_id, bytes) VALUES (1, 3, 't', 'm', 'p', 9)";
        logs.execute(insert, []).expect("a row");
        logs.execute("DELETE FROM log", []).expect("expired");
        logs.execute(insert, []).expect("a row");
        assert_eq!(logs.last_insert_rowid(), 2);
        refused(
            &logs,
            "INSERT INTO log(ts, level, target, message, process_id, bytes) VALUES (1, 6, 't', 'm', 'p', 9)",
        );
    }

    #[test]
    fn a_goal_has_one_of_six_statuses_and_no_negative_counts() {
        let goals = migrated(&Domain::goals());
        let columns =
            "goal(thread_id, goal_id, objective, status, token_budget, tokens_used, created_at, updated_at)";
        for status in ["active", "paused", "blocked", "usage_limited", "budget_limited", "complete"] {
            let sql =
                format!("INSERT INTO {columns} VALUES ('{status}', 'g', 'o', '{status}', NULL, 0, 1, 1)");
            goals.execute(&sql, []).expect(status);
        }
        refused(
            &goals,
            &format!("INSERT INTO {columns} VALUES ('active', 'g', 'o', 'active', NULL, 0, 1, 1)"),
        );
        refused(&goals, &format!("INSERT INTO {columns} VALUES ('t', 'g', 'o', 'done', NULL, 0, 1, 1)"));
        refused(&goals, &format!("INSERT INTO {columns} VALUES ('t', 'g', 'o', 'active', -1, 0, 1, 1)"));
        refused(&goals, &format!("INSERT INTO {columns} VALUES ('t', 'g', 'o', 'active', 1, -1, 1, 1)"));
    }

    #[test]
    fn a_key_id_carries_a_known_protection_class() {
        let keys = migrated(&Domain::device_keys());
        for (class, good) in [("dk_hse_", true), ("dk_tpm_", true), ("dk_osn_", true), ("dk_foo_", false)] {
            let sql = format!("INSERT INTO binding VALUES ('{class}{}', 'a', 'c', 1, 1)", "x".repeat(43));
            if good {
                keys.execute(&sql, []).expect(class);
            } else {
                refused(&keys, &sql);
            }
        }
        refused(&keys, "INSERT INTO binding VALUES ('dk_osn_short', 'a', 'c', 1, 1)");
    }
}
