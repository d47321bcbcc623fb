//! One database, opened read-only and looked into.
//!
//! Invariants: nothing is written, recovered or checkpointed on purpose; evidence of damage (a -wal beside an
//! emptied main file, which SQLite would delete) is left as it is: [`Source`] does not let SQLite near it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use crate::error::{Error, ErrorKind, Result};
use crate::home::check_database_file;
use crate::sqlite::ffi::is_wal;
use crate::sqlite::history::{self, SchemaMeta};
use crate::sqlite::read_only::Source;
use crate::sqlite::steps::{self, StepStatus};

pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// What is really in a database file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The domain's name.
    pub name: String,
    /// The main file.
    pub path: PathBuf,
    /// The last migration that was applied; `None` when none ever was.
    pub schema_version: Option<i64>,
    /// What the last migration left for other programs; `None` when this library never migrated it.
    pub meta: Option<SchemaMeta>,
    /// Who the file says it belongs to (<https://sqlite.org/pragma.html#pragma_application_id>).
    pub application_id: i32,
    /// `wal` for every database that this library opened.
    pub journal_mode: String,
    /// In bytes.
    pub page_size: i64,
    /// Pages of the database, free ones included.
    pub page_count: i64,
    /// Pages without content.
    pub freelist_count: i64,
}

/// The steps that were begun in a database.
///
/// # Errors
/// As for `RuntimeDbRegistry::steps`.
pub(super) fn steps(path: &Path) -> Result<Vec<StepStatus>> {
    let (source, connection) = Source::reach(path, None)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let found = steps::recorded(&connection);
    if source.was_whole() { found } else { Err(source.changed()) }
}

/// Looks into a database.
///
/// # Errors
/// As for `RuntimeDbRegistry::inspect`.
pub(super) fn inspect(name: &str, path: &Path) -> Result<Inspection> {
    if check_database_file(path)?.is_none() {
        return Err(Error::new(ErrorKind::NotFound, "there is no such database")
            .at_path(path)
            .advise("list the databases of this home"));
    }
    let (source, connection) = Source::reach(path, None)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let looked = look(name, path, &connection);
    if source.was_whole() { looked } else { Err(source.changed()) }
}

fn look(name: &str, path: &Path, connection: &Connection) -> Result<Inspection> {
    let snapshot = connection.unchecked_transaction()?;
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let has_table = |table: &str| {
        connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)",
            [table],
            |row| row.get::<_, bool>(0),
        )
    };
    let schema_version = if has_table("refinery_schema_history")? {
        connection.query_row("SELECT max(version) FROM refinery_schema_history", [], |row| row.get(0))?
    } else {
        None
    };
    let meta = history::read_meta(connection)?;
    let journal_mode = if is_wal(connection) {
        "wal".to_owned()
    } else {
        connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?
    };
    let inspection = Inspection {
        name: name.to_owned(),
        path: path.to_owned(),
        schema_version,
        meta,
        application_id: number("application_id")? as i32,
        journal_mode,
        page_size: number("page_size")?,
        page_count: number("page_count")?,
        freelist_count: number("freelist_count")?,
    };
    snapshot.finish()?;
    Ok(inspection)
}
