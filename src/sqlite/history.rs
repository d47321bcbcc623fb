//! The Migrator's two tables: the history, laid out as refinery's, and `rowhouse_meta`.
//!
//! Invariants, and the tests that hold them (below):
//! - What they hold is data from a file: a row of another shape is an error that names it, never a panic (`*_is_an_error`,
//!   `a_bad_history_row_is_named_by_its_version`).
//! - The version in `rowhouse_meta` never goes down, and who may read or write one version only ever becomes stricter
//!   (`the_version_in_meta_never_goes_down`, `one_version_is_never_opened_to_more_programs`).
//! - Whoever has the database open can tell from the schema cookie that something was written here
//!   (`a_new_description_is_a_new_cookie`).

use std::collections::BTreeMap;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};

use super::migration::Migration;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};

pub(crate) const HISTORY: &str = "refinery_schema_history";
pub(crate) const META: &str = "rowhouse_meta";
/// How far the steps came (`steps::record`).
pub(crate) const STEPS: &str = "rowhouse_steps";
/// The engine's own tables: no job and no migration changes them, and they hold nobody's rows.
pub(crate) const OWN_TABLES: [&str; 3] = [HISTORY, META, STEPS];

/// As refinery creates it.
const CREATE_HISTORY: &str = "
    CREATE TABLE IF NOT EXISTS refinery_schema_history(
        version INT4 PRIMARY KEY,
        name VARCHAR(255),
        applied_on VARCHAR(255),
        checksum VARCHAR(255))";

const INSERT_HISTORY: &str =
    "INSERT INTO refinery_schema_history(version, name, applied_on, checksum) VALUES (?1, ?2, ?3, ?4)";

const READ_HISTORY: &str = "SELECT version, name, checksum FROM refinery_schema_history ORDER BY version";

const CREATE_META: &str = "
    CREATE TABLE IF NOT EXISTS rowhouse_meta(
        id INTEGER PRIMARY KEY CHECK (id = 1),
        domain TEXT NOT NULL,
        schema_version INTEGER NOT NULL,
        oldest_reader INTEGER NOT NULL,
        oldest_writer INTEGER NOT NULL,
        program TEXT NOT NULL,
        program_version TEXT NOT NULL,
        written_at TEXT NOT NULL)";

const WRITE_META: &str = "
    INSERT INTO rowhouse_meta(id, domain, schema_version, oldest_reader, oldest_writer, program, program_version,
                              written_at)
    VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT(id) DO UPDATE SET
        schema_version = max(schema_version, excluded.schema_version),
        oldest_reader = iif(excluded.schema_version > schema_version,
                            excluded.oldest_reader, max(oldest_reader, excluded.oldest_reader)),
        oldest_writer = iif(excluded.schema_version > schema_version,
                            excluded.oldest_writer, max(oldest_writer, excluded.oldest_writer)),
        program = excluded.program,
        program_version = excluded.program_version,
        written_at = excluded.written_at";

const READ_META: &str = "
    SELECT domain, schema_version, oldest_reader, oldest_writer, program, program_version, written_at
    FROM rowhouse_meta WHERE id = 1";

/// Changes the schema cookie (<https://sqlite.org/fileformat.html>, section 1.3.9) and nothing else. A migration of
/// plain UPDATEs, or a new description alone, would not.
const NEW_COOKIE: &str = "
    CREATE VIEW rowhouse_new_cookie AS SELECT 1;
    DROP VIEW rowhouse_new_cookie";

/// One row of the history.
pub(crate) struct Applied {
    pub(crate) name: String,
    pub(crate) checksum: u64,
}

/// The row of `rowhouse_meta`: who wrote the schema and who may still use it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct SchemaMeta {
    /// The domain the database belongs to.
    pub domain: String,
    /// The schema's version.
    pub schema_version: i64,
    /// The oldest schema version whose programs may read it.
    pub oldest_reader: i64,
    /// The oldest schema version whose programs may write it.
    pub oldest_writer: i64,
    /// The program that wrote the schema.
    pub program: String,
    /// That program's version.
    pub program_version: String,
    /// When it did, in RFC 3339.
    pub written_at: String,
}

pub(crate) fn is_there(connection: &Connection, table: &str) -> Result<bool> {
    let kind: Option<String> = connection
        .query_row("SELECT type FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE", [table], |row| row.get(0))
        .optional()?;
    match kind.as_deref() {
        None => Ok(false),
        Some("table") => Ok(true),
        Some(_) => Err(damaged(format!("{table} is not a table"))),
    }
}

/// True when somebody made a table, whatever it is.
pub(crate) fn has_tables(connection: &Connection) -> Result<bool> {
    let any = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!')";
    Ok(connection.query_row(any, [], |row| row.get(0))?)
}

/// True when the file has a `rowhouse_meta`, whatever it says.
pub(crate) fn has_meta(connection: &Connection) -> Result<bool> {
    is_there(connection, META)
}

/// Whose file it is; `None` where nobody said.
pub(crate) fn read_meta(connection: &Connection) -> Result<Option<SchemaMeta>> {
    let read = |row: &Row<'_>| {
        Ok(SchemaMeta {
            domain: row.get(0)?,
            schema_version: row.get(1)?,
            oldest_reader: row.get(2)?,
            oldest_writer: row.get(3)?,
            program: row.get(4)?,
            program_version: row.get(5)?,
            written_at: row.get(6)?,
        })
    };
    if !is_there(connection, META)? {
        return Ok(None);
    }
    connection.query_row(READ_META, [], read).optional().map_err(|error| unreadable(META, error))
}

/// What was applied, by version; empty where nothing was.
pub(crate) fn read_history(connection: &Connection) -> Result<BTreeMap<i64, Applied>> {
    if !is_there(connection, HISTORY)? {
        return Ok(BTreeMap::new());
    }
    let mut statement = connection.prepare(READ_HISTORY).map_err(|error| unreadable(HISTORY, error))?;
    let mut rows = statement.query([])?;
    let mut history = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let version = match row.get_ref(0)? {
            ValueRef::Integer(version) => version,
            ValueRef::Null => return Err(damaged(format!("{HISTORY} has a row whose version is NULL"))),
            _ => return Err(damaged(format!("{HISTORY} has a row whose version is not a number"))),
        };
        let name = row.get_ref(1)?.as_str().ok().map(str::to_owned);
        let checksum = row.get_ref(2)?.as_str().ok().and_then(|digits| digits.parse().ok());
        let (Some(name), Some(checksum)) = (name, checksum) else {
            return Err(damaged(format!("{HISTORY} has no usable name and checksum for version {version}")));
        };
        if history.insert(version, Applied { name, checksum }).is_some() {
            return Err(damaged(format!("{HISTORY} has version {version} twice")));
        }
    }
    Ok(history)
}

/// Failures that come from what the table holds or how it looks are damage; the others are SQLite's.
fn unreadable(table: &str, error: rusqlite::Error) -> Error {
    match error {
        rusqlite::Error::SqliteFailure(..) => Error::from(error),
        error => damaged(format!("{table} does not hold what a program writes there"))
            .caused_by(Unusable(Some(error))),
    }
}

/// The mark of an error that says: SQLite finds nothing wrong with the file, and nothing in it tells which schema it
/// holds. Waiting or asking again does not change that. A file that SQLite cannot read, that belongs to somebody else,
/// or whose migrations have a gap does not carry it.
#[derive(Debug)]
pub(crate) struct Unusable(Option<rusqlite::Error>);

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nothing in the file tells which schema it holds")
    }
}

impl std::error::Error for Unusable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.as_ref().map(|error| error as _)
    }
}

/// SQLite finds nothing wrong with the file, and its content makes no sense.
pub(crate) fn damaged(message: String) -> Error {
    Error::new(ErrorKind::Corrupt, message)
        .advise("it was edited by hand or damaged: restore it from a backup; nothing was changed")
        .caused_by(Unusable(None))
}

/// Writes one applied migration down. The caller is in a transaction.
pub(crate) fn record(connection: &Connection, migration: &Migration) -> Result<()> {
    connection.execute(CREATE_HISTORY, [])?;
    let values = (migration.version(), migration.name(), now(), migration.checksum().to_string());
    connection.execute(INSERT_HISTORY, values)?;
    Ok(())
}

/// Writes down whose file it is, at which version, and by which program. The caller is in a transaction.
pub(crate) fn describe(
    connection: &Connection,
    domain: &Domain,
    schema_version: i64,
    program: (&str, &str),
) -> Result<()> {
    connection.execute(CREATE_META, [])?;
    let (oldest_reader, oldest_writer) = (domain.oldest_reader, domain.oldest_writer);
    let values = (&domain.name, schema_version, oldest_reader, oldest_writer, program.0, program.1, now());
    connection.execute(WRITE_META, values)?;
    connection.execute_batch(NEW_COOKIE)?;
    Ok(())
}

/// Changes with every change of the schema, and with every new description.
pub(crate) fn cookie(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get(0))
}

/// RFC 3339, UTC.
fn now() -> String {
    jiff::Timestamp::now().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file at version 2.
    fn written() -> Connection {
        let connection = Connection::open_in_memory().expect("an in-memory database");
        for name in ["V1__page", "V2__seen"] {
            record(&connection, &Migration::parse(name, "SELECT 1").expect("a migration")).expect("recorded");
        }
        describe(&connection, &Domain::new("cache"), 2, ("shop", "1.2.3")).expect("described");
        connection
    }

    #[test]
    fn what_was_written_is_read() {
        let connection = written();
        let history = read_history(&connection).expect("a history");
        let names: Vec<_> = history.iter().map(|(version, applied)| (*version, &*applied.name)).collect();
        assert_eq!(names, [(1, "page"), (2, "seen")]);
        let meta = read_meta(&connection).expect("meta").expect("a row");
        assert_eq!((&*meta.domain, meta.schema_version, &*meta.program_version), ("cache", 2, "1.2.3"));
    }

    #[test]
    fn a_bad_history_row_is_named_by_its_version() {
        for (change, told) in [
            ("SET checksum = NULL WHERE version = 2", "version 2"),
            ("SET checksum = 'abc' WHERE version = 2", "version 2"),
            ("SET checksum = x'00ff' WHERE version = 1", "version 1"),
            ("SET checksum = '-1' WHERE version = 1", "version 1"),
            ("SET name = NULL WHERE version = 2", "version 2"),
            ("SET name = CAST(x'ff' AS TEXT) WHERE version = 2", "version 2"),
            ("SET version = NULL WHERE version = 2", "version is NULL"),
            ("SET version = 'two' WHERE version = 2", "version is not a number"),
            ("SET version = 1.5 WHERE version = 2", "version is not a number"),
        ] {
            let connection = written();
            connection.execute(&format!("UPDATE refinery_schema_history {change}"), []).expect(change);
            let error = read_history(&connection).err().expect(change);
            assert_eq!((error.kind(), error.sqlite_code()), (ErrorKind::Corrupt, None), "{change}");
            assert!(error.to_string().contains(told), "{change}: {error}");
        }
    }

    #[test]
    fn a_history_of_another_shape_is_an_error() {
        for shape in [
            "CREATE TABLE refinery_schema_history(version INT4 PRIMARY KEY)",
            "CREATE VIEW refinery_schema_history AS SELECT 1 AS version, 'a' AS name, '1' AS checksum",
            "CREATE TABLE refinery_schema_history(version, name, checksum);
             INSERT INTO refinery_schema_history VALUES (1, 'a', '1'), (1, 'a', '1')",
        ] {
            let connection = Connection::open_in_memory().expect("an in-memory database");
            connection.execute_batch(shape).expect(shape);
            let error = read_history(&connection).err().expect(shape);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{shape}: {error}");
        }
    }

    #[test]
    fn meta_of_another_shape_is_an_error() {
        for change in [
            "UPDATE rowhouse_meta SET schema_version = 'two'",
            "UPDATE rowhouse_meta SET domain = x'00'",
            "UPDATE rowhouse_meta SET program = CAST(x'ff' AS TEXT)",
            "ALTER TABLE rowhouse_meta RENAME COLUMN oldest_writer TO x",
        ] {
            let connection = written();
            connection.execute_batch(change).expect(change);
            let error = read_meta(&connection).expect_err(change);
            assert_eq!((error.kind(), error.sqlite_code()), (ErrorKind::Corrupt, None), "{change}: {error}");
        }
    }

    #[test]
    fn the_version_in_meta_never_goes_down() {
        let connection = written();
        describe(&connection, &Domain::new("cache"), 1, ("shop", "0.1")).expect("an older program's row");
        assert_eq!(read_meta(&connection).expect("meta").expect("a row").schema_version, 2);
    }
    #[test]
    fn one_version_is_never_opened_to_more_programs() {
        let connection = written();
        let compatible = |version, reader, writer| {
            let domain = Domain::new("cache").compatible_from(reader, writer);
            describe(&connection, &domain, version, ("shop", "2")).expect("described");
            let meta = read_meta(&connection).expect("meta").expect("a row");
            (meta.schema_version, meta.oldest_reader, meta.oldest_writer)
        };
        assert_eq!(compatible(2, 1, 2), (2, 1, 2));
        assert_eq!(compatible(2, 1, 1), (2, 1, 2), "two programs of one version take the stricter word");
        assert_eq!(compatible(1, 1, 1), (2, 1, 2), "an older program has no say");
        assert_eq!(compatible(3, 1, 1), (3, 1, 1), "a new version has its own");
    }

    #[test]
    fn a_new_description_is_a_new_cookie() {
        let connection = written();
        let objects = |connection: &Connection| -> i64 {
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).expect("a count")
        };
        let (before, had) = (cookie(&connection).expect("a cookie"), objects(&connection));
        describe(&connection, &Domain::new("cache"), 2, ("shop", "1.2.3")).expect("described");
        assert_ne!(cookie(&connection).expect("a cookie"), before);
        assert_eq!(objects(&connection), had, "nothing is left behind");
    }
}
