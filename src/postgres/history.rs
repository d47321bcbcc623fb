//! The Migrator's tables in a schema on a server: those that a file has, and two that writes need.
//!
//! The history is laid out as refinery's, so that its tools can read it.

use std::collections::BTreeMap;

use tokio_postgres::types::ToSql;

use super::connection::Connection;
use super::failure::Failure;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind};
use crate::sqlite::history::{Applied, SchemaMeta};
use crate::sqlite::migration::Migration;

/// Also `rowhouse_operation` (`operation.rs`, `changes.rs`), `rowhouse_listener` (`listener.rs`), and the table that a write
/// locks to get in line (`database.rs`).
const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS refinery_schema_history(
        version INT4 PRIMARY KEY,
        name VARCHAR(255),
        applied_on VARCHAR(255),
        checksum VARCHAR(255));
    CREATE TABLE IF NOT EXISTS rowhouse_meta(
        id BIGINT PRIMARY KEY CHECK (id = 1),
        domain TEXT NOT NULL,
        schema_version BIGINT NOT NULL,
        oldest_reader BIGINT NOT NULL,
        oldest_writer BIGINT NOT NULL,
        program TEXT NOT NULL,
        program_version TEXT NOT NULL,
        written_at TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS rowhouse_operation(
        id UUID PRIMARY KEY,
        committed BOOLEAN NOT NULL,
        at BIGINT NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
        xid XID8 NOT NULL DEFAULT pg_current_xact_id());
    CREATE INDEX IF NOT EXISTS rowhouse_operation_at ON rowhouse_operation(at);
    CREATE INDEX IF NOT EXISTS rowhouse_operation_xid ON rowhouse_operation(xid);
    CREATE TABLE IF NOT EXISTS rowhouse_listener(id UUID PRIMARY KEY, until BIGINT NOT NULL);
    CREATE INDEX IF NOT EXISTS rowhouse_listener_until ON rowhouse_listener(until);
    CREATE TABLE IF NOT EXISTS rowhouse_line(id BIGINT PRIMARY KEY)";

const WRITE_META: &str = "
    INSERT INTO rowhouse_meta AS known(id, domain, schema_version, oldest_reader, oldest_writer, program, program_version,
                                       written_at)
    VALUES (1, $1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (id) DO UPDATE SET
        schema_version = greatest(known.schema_version, excluded.schema_version),
        oldest_reader = CASE WHEN excluded.schema_version > known.schema_version
                        THEN excluded.oldest_reader ELSE greatest(known.oldest_reader, excluded.oldest_reader) END,
        oldest_writer = CASE WHEN excluded.schema_version > known.schema_version
                        THEN excluded.oldest_writer ELSE greatest(known.oldest_writer, excluded.oldest_writer) END,
        program = excluded.program,
        program_version = excluded.program_version,
        written_at = excluded.written_at";

const INSERT_HISTORY: &str =
    "INSERT INTO refinery_schema_history(version, name, applied_on, checksum) VALUES ($1, $2, $3, $4)";

/// What a schema says of itself.
pub(super) struct Record {
    pub(super) exists: bool,
    pub(super) has_tables: bool,
    /// Moves of the domain were written down.
    pub(super) was_moved: bool,
    pub(super) meta: Option<SchemaMeta>,
    pub(super) applied: BTreeMap<i64, Applied>,
}

/// Reads it. The caller is in a transaction whose `search_path` is the schema.
pub(super) fn read(connection: &mut Connection, schema: &str) -> Result<Record, Failure> {
    let there = format!(
        "SELECT (to_regnamespace('{schema}') IS NOT NULL)::int, \
         (SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}' AND tablename <> 'rowhouse_move'), \
         (to_regclass('{schema}.rowhouse_meta') IS NOT NULL \
          AND to_regclass('{schema}.refinery_schema_history') IS NOT NULL)::int, \
         (to_regclass('{schema}.rowhouse_move') IS NOT NULL)::int"
    );
    let rows = connection.rows(&there)?;
    let row = rows.first().ok_or_else(damaged)?;
    let (exists, has_tables) = (row.get(0) == Some("1"), row.get(1) != Some("0"));
    let was_moved = row.get(3) == Some("1");
    let mut record = Record { exists, has_tables, was_moved, meta: None, applied: BTreeMap::new() };
    if row.get(2) != Some("1") {
        return Ok(record);
    }
    let meta = "SELECT domain, schema_version, oldest_reader, oldest_writer, program, program_version, written_at \
                FROM rowhouse_meta WHERE id = 1";
    for row in connection.rows(meta)? {
        let text = |at| row.get(at).map(str::to_owned).ok_or_else(damaged);
        let number = |at| row.get(at).and_then(|digits| digits.parse().ok()).ok_or_else(damaged);
        record.meta = Some(SchemaMeta {
            domain: text(0)?,
            schema_version: number(1)?,
            oldest_reader: number(2)?,
            oldest_writer: number(3)?,
            program: text(4)?,
            program_version: text(5)?,
            written_at: text(6)?,
        });
    }
    for row in connection.rows("SELECT version, name, checksum FROM refinery_schema_history")? {
        let version = row.get(0).and_then(|digits| digits.parse().ok()).ok_or_else(damaged)?;
        let name = row.get(1).ok_or_else(damaged)?.to_owned();
        let checksum = row.get(2).and_then(|digits| digits.parse().ok()).ok_or_else(damaged)?;
        record.applied.insert(version, Applied { name, checksum });
    }
    Ok(record)
}

fn damaged() -> Failure {
    Failure::told(
        Error::new(
            ErrorKind::Corrupt,
            "the record of the migrations on the server does not hold what a program writes",
        )
        .advise("it was edited by hand: bring it back from a backup of the server; nothing was changed"),
    )
}

/// Makes the tables where they are not.
pub(super) fn create(connection: &mut Connection) -> Result<(), Failure> {
    connection.batch(CREATE)
}

/// Writes one applied migration down.
pub(super) fn record(
    connection: &mut Connection,
    schema: &str,
    migration: &Migration,
) -> Result<(), Failure> {
    let version = migration.version() as i32; // parsed from one
    let (at, checksum) = (now(), migration.checksum().to_string());
    let insert = connection.prepare(schema, INSERT_HISTORY)?;
    connection.execute(&insert, &[&version, &migration.name(), &at, &checksum]).map(drop)
}

/// Writes down whose schema it is, at which version, and by which program.
pub(super) fn describe(
    connection: &mut Connection,
    schema: &str,
    domain: &Domain,
    version: i64,
    (program, its_version): (&str, &str),
) -> Result<(), Failure> {
    let Domain { name, oldest_reader, oldest_writer, .. } = domain;
    let write = connection.prepare(schema, WRITE_META)?;
    let params: [&(dyn ToSql + Sync); 7] =
        [name, &version, oldest_reader, oldest_writer, &program, &its_version, &now()];
    connection.execute(&write, &params).map(drop)
}

/// RFC 3339, UTC.
fn now() -> String {
    jiff::Timestamp::now().to_string()
}
