//! A newer program may migrate the file while this one has it open. This is the look that notices.
//!
//! Invariants:
//! 1. No job runs on a schema that shuts this program out. The look comes after BEGIN IMMEDIATE, so nobody can migrate
//!    between it and the COMMIT.
//! 2. It costs one call that asks the pager for a number (30 ns) while nobody else commits, one pragma (0.4 µs) after a
//!    commit of another process, and the Migrator's look (35 µs) only when the schema cookie is another one.
//! 3. What was seen is remembered only when this program may go on: every later attempt is refused as well.
//!
//! An idle writer looks once a second, so that a program that only reads learns of it too.
//!
//! Tests: `tests/m3_older_and_newer_program.rs`; that the number tells every commit of others, below.

use rusqlite::Connection;

use super::core::Core;
use super::ffi;
use super::health::Health;
use super::history;
use super::migrate::{self, Access};
use super::shared::Shared;
use crate::error::{ErrorKind, Result};

/// What the write connection knows of the schema.
pub(super) struct SchemaWatch {
    /// The pager's number for the content that `cookie` was read from.
    seen: Option<u32>,
    cookie: i64,
    /// What opening had to do, for the warnings.
    notes: Vec<String>,
}

impl SchemaWatch {
    /// The schema with this cookie was found fit when the file was opened.
    pub(super) fn new(cookie: i64, notes: Vec<String>) -> Self {
        Self { seen: None, cookie, notes }
    }

    /// After a COMMIT of its own: until somebody else's, there is nothing to look for.
    pub(super) fn committed(&mut self, connection: &Connection) {
        self.seen = ffi::content_number(connection).ok();
    }
}

/// After BEGIN IMMEDIATE: may this program write what is there now?
///
/// # Errors
/// `ReadOnly` or `SchemaTooNew`, naming what to install; of SQLite.
pub(super) fn check(core: &mut Core, shared: &Shared) -> Result<()> {
    let now = ffi::content_number(core.tx.connection())?;
    if core.schema.seen == Some(now) {
        return Ok(());
    }
    look(core, shared)?;
    core.schema.seen = Some(now);
    Ok(())
}

/// Looks at the schema as it is now, and says so in the database's health when it shuts this program out.
///
/// # Errors
/// As [`check`].
pub(super) fn look(core: &mut Core, shared: &Shared) -> Result<()> {
    let connection = core.tx.connection();
    if history::cookie(connection)? == core.schema.cookie {
        return Ok(());
    }
    let mut warnings = core.schema.notes.clone();
    let cookie = match migrate::inspect(connection, &shared.spec.domain) {
        Ok(state) => {
            shut_out(shared, &state.access)?;
            warnings.extend(state.warnings);
            state.cookie
        }
        // Somebody edited the record by hand. It shuts nobody out, and opening the file again will tell.
        Err(error)
            if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Corrupt)
                && error.sqlite_code().is_none() =>
        {
            warnings.push(error.to_string());
            history::cookie(connection)?
        }
        Err(error) => return Err(error),
    };
    shared.health.set_warnings(warnings);
    core.schema.cookie = cookie;
    Ok(())
}

/// Tells the health why this program may not write, or not even read, and answers that.
///
/// # Errors
/// `ReadOnly` or `SchemaTooNew`, naming what to install.
pub(super) fn shut_out(shared: &Shared, access: &Access) -> Result<()> {
    let Some(refusal) = access.refusal() else { return Ok(()) };
    let refusal = shared.name(refusal);
    let health = match access {
        Access::TooNew(_) => Health::Latched,
        Access::ReadOnly(_) | Access::ReadWrite => Health::ReadOnly,
    };
    shared.health.set(health, Some(refusal.clone()));
    Err(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &std::path::Path) -> Connection {
        #[expect(clippy::disallowed_methods, reason = "a test of SQLite's own number")]
        let connection = Connection::open(path).expect("a database");
        connection.pragma_update(None, "journal_mode", "WAL").expect("WAL");
        connection
    }

    /// The number inside a write transaction.
    fn number(connection: &Connection) -> u32 {
        connection.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
        let number = ffi::content_number(connection).expect("a number");
        connection.execute_batch("ROLLBACK").expect("rolled back");
        number
    }

    #[test]
    fn the_number_after_a_commit_stays_until_somebody_else_commits() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sqlite");
        let (ours, theirs) = (open(&path), open(&path));
        ours.execute_batch("CREATE TABLE t(a)").expect("a table");
        for round in 0..100 {
            ours.execute("INSERT INTO t VALUES (?1)", [round]).expect("a row");
            let mut seen = ffi::content_number(&ours).expect("a number");
            assert_eq!(number(&ours), seen, "nobody else committed");
            match round % 4 {
                0 => theirs.execute_batch("INSERT INTO t VALUES (1)").expect("a row"),
                1 => theirs.execute_batch("CREATE TABLE u(a); DROP TABLE u").expect("a new cookie"),
                2 => {
                    theirs.execute_batch("DELETE FROM t").expect("no row");
                    theirs
                        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                        .expect("the log begins anew");
                    theirs.execute_batch("INSERT INTO t VALUES (1)").expect("a row");
                }
                _ => {
                    // A read in between takes the change in; the number still tells.
                    theirs.execute_batch("INSERT INTO t VALUES (1)").expect("a row");
                    let _: i64 =
                        ours.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("a count");
                }
            }
            assert_ne!(number(&ours), seen, "round {round}: a commit of somebody else is not noticed");
            seen = number(&ours);
            assert_eq!(number(&ours), seen);
        }
    }
}
