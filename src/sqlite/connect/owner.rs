//! Whose a database is, by the marks in its header.

use rusqlite::Connection;

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::ffi;
use crate::sqlite::rebuilt;

/// "rowh": the application id of every database this library creates (<https://sqlite.org/pragma.html#pragma_application_id>).
pub(crate) const APPLICATION_ID: u32 = 0x726f_7768;

/// What its header says, before anything was read by SQLite.
pub(super) fn is_ours(connection: &Connection) -> bool {
    ffi::read_stamp(connection).is_ok_and(|stamp| stamp.application_id == APPLICATION_ID)
}

/// Whose a database is, as far as its marks tell.
#[derive(PartialEq, Eq)]
pub(in crate::sqlite) enum Whose {
    Ours,
    /// Empty, and without marks.
    Nobodys,
    /// With tables, and without marks: as a dump leaves it when it is loaded.
    Unmarked,
}

pub(in crate::sqlite) fn whose(connection: &Connection) -> Result<Whose> {
    let id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if id.cast_unsigned() == APPLICATION_ID {
        return Ok(Whose::Ours);
    }
    let objects: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (id, objects) {
        (0, 0) => Ok(Whose::Nobodys),
        (0, _) => Ok(Whose::Unmarked),
        _ => Err(rebuilt::another_programs()),
    }
}

/// Marks an empty file as ours, in rollback mode, so that the marks are in the main file.
pub(in crate::sqlite) fn stamp(connection: &Connection) -> Result<()> {
    let mut random = [0u8; 4];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Error::new(ErrorKind::Io, "the system gave no random bytes").caused_by(error))?;
    let generation = (i32::from_ne_bytes(random) & i32::MAX) | 1;
    // auto_vacuum only takes before the first table, and not any more after the switch to WAL.
    connection.execute_batch(&format!(
        "PRAGMA auto_vacuum=INCREMENTAL; BEGIN IMMEDIATE; PRAGMA application_id={APPLICATION_ID}; \
         PRAGMA user_version={generation}; COMMIT;"
    ))?;
    Ok(())
}

pub(super) fn is_wal(connection: &Connection) -> Result<bool> {
    Ok(connection.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0))? == "wal")
}
