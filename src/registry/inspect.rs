//! One database, opened read-only and looked into.
//!
//! Invariants: nothing is written, recovered or checkpointed on purpose; evidence of damage (a -wal beside an
//! emptied main file, which SQLite would delete) is left as it is.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::{Error, ErrorKind, Result};
use crate::home::{check_database_file, with_ending};
use crate::sqlite::ffi::is_wal;
use crate::sqlite::history::{self, SchemaMeta};

const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

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

/// Looks into a database.
///
/// # Errors
/// As for `RuntimeDbRegistry::inspect`.
pub(super) fn inspect(name: &str, path: &Path) -> Result<Inspection> {
    let Some(found) = check_database_file(path)? else {
        return Err(Error::new(ErrorKind::NotFound, "there is no such database")
            .at_path(path)
            .advise("list the databases of this home"));
    };
    let wal = std::fs::symlink_metadata(with_ending(path, "-wal"));
    if found.len() == 0 && wal.as_ref().is_ok_and(|wal| wal.len() > 0) {
        return Err(Error::new(ErrorKind::Corrupt, "the main file is empty, its -wal file is not")
            .at_path(path)
            .advise("keep both files and run the doctor: opening the database would delete the -wal"));
    }
    let sidecar = ["-wal", "-shm", "-journal"]
        .iter()
        .any(|ending| std::fs::symlink_metadata(with_ending(path, ending)).is_ok());
    if sidecar {
        return open(path)
            .and_then(|connection| look(name, path, &connection))
            .map_err(|error| unreadable(path, error));
    }
    // Nobody has it open. As an immutable file it can be read without a -wal and -shm coming into being; what
    // was read counts if it stayed untouched meanwhile.
    let looked = open_untouched(path).and_then(|connection| look(name, path, &connection));
    let same =
        |now: &std::fs::Metadata| now.len() == found.len() && now.modified().ok() == found.modified().ok();
    let untouched = check_database_file(path)?.is_some_and(|now| same(&now))
        && std::fs::symlink_metadata(with_ending(path, "-wal")).is_err();
    if untouched { looked } else { look(name, path, &open(path)?) }
}

/// A -wal can only be read beside a -shm, which must be created if it is missing.
fn unreadable(path: &Path, error: Error) -> Error {
    let no_shm = std::fs::symlink_metadata(with_ending(path, "-shm")).is_err();
    if no_shm && error.sqlite_code().is_some_and(|code| code & 0xFF == rusqlite::ffi::SQLITE_CANTOPEN) {
        return error.as_kind(ErrorKind::ReadOnly).advise(
            "its -wal file can only be read in a writable folder: copy the home there and look at the copy",
        );
    }
    error
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

fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW
}

#[allow(clippy::disallowed_methods, reason = "a reader apart from any runtime, with the flags of one")]
fn open(path: &Path) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, flags())?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Opens a file that nobody writes (<https://sqlite.org/uri.html#uriimmutable>).
#[allow(clippy::disallowed_methods, reason = "a reader apart from any runtime, with the flags of one")]
fn open_untouched(path: &Path) -> Result<Connection> {
    let flags = flags() | OpenFlags::SQLITE_OPEN_URI;
    Ok(Connection::open_with_flags(format!("file:{}?immutable=1", escaped(path)), flags)?)
}

/// A path as part of a URI: every byte that could mean something there is written as `%XX`.
fn escaped(path: &Path) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/_.-".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a String never fails.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}
