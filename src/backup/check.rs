//! Is this file a whole database, and which one? Asked of a copy right after it was made, and before it is restored.
//!
//! Invariant: the file is read only, and with nothing that lies beside it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use sha2::{Digest, Sha256};

use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::home;
use crate::sqlite::history::{self, SchemaMeta};
use crate::sqlite::migrate::{self, Access};

/// Read at once.
const PIECE: usize = 1 << 20;

/// What a file holds.
pub(crate) struct Content {
    pub(crate) rows: BTreeMap<String, u64>,
    pub(crate) application_id: u32,
    pub(crate) user_version: u32,
    pub(crate) meta: Option<SchemaMeta>,
}

/// Checks the whole file and counts its rows.
///
/// # Errors
/// `Corrupt`; `Unsupported` when it needs functions or collations that the domain does not bring along.
pub(crate) fn content(file: &Path, domain: &Domain) -> Result<Content> {
    let connection = open(file)?;
    if let Some(run) = &domain.on_connect {
        run(&connection)?;
    }
    read(&connection).map_err(|error| match error.sqlite_code().map(|code| code & 0xFF) {
        Some(rusqlite::ffi::SQLITE_ERROR) => Error::new(
            ErrorKind::Unsupported,
            "it cannot be checked here: its schema may use functions or collations of its program",
        )
        .advise("do it from that program, with Runtime::backup or Builder::restore")
        .caused_by(error),
        Some(rusqlite::ffi::SQLITE_NOTADB) => error.worded("the file is not an SQLite database"),
        _ => error,
    })
}

/// How far the domain's program may go with a file.
///
/// # Errors
/// `Conflict` when it belongs to another domain or its history does not fit; `Corrupt`.
pub(super) fn access(file: &Path, domain: &Domain) -> Result<Access> {
    let state = migrate::inspect(&open(file)?, domain)?;
    state.check()?;
    Ok(state.access)
}

fn read(connection: &Connection) -> Result<Content> {
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(
            Error::new(ErrorKind::Corrupt, "it fails SQLite's integrity check").caused_by(Found(found))
        );
    }
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    Ok(Content {
        application_id: number("application_id")?.cast_unsigned(),
        user_version: number("user_version")?.cast_unsigned(),
        rows: rows(connection)?,
        meta: history::read_meta(connection)?,
    })
}

/// Virtual tables have no pages of their own: what they hold is in other tables.
const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 AND name NOT GLOB 'sqlite_*' ORDER BY name";

/// Rows of each table.
///
/// # Errors
/// Of SQLite.
pub(crate) fn rows(connection: &Connection) -> Result<BTreeMap<String, u64>> {
    let mut tables = connection.prepare(TABLES)?;
    let names = tables.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut rows = BTreeMap::new();
    for name in names {
        // A name cannot be a parameter; quoted, it cannot be anything but a name.
        let count = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
        let count: i64 = connection.query_row(&count, [], |row| row.get(0))?;
        rows.insert(name, count.cast_unsigned());
    }
    Ok(rows)
}

#[allow(clippy::disallowed_methods, reason = "a file of a backup, no database of a home")]
fn open(file: &Path) -> Result<Connection> {
    for ending in ["-wal", "-shm", "-journal"] {
        let beside = home::with_ending(file, ending);
        if std::fs::symlink_metadata(&beside).is_ok() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "a copy is one file, and this one has another beside it",
            )
            .at_path(&beside)
            .advise("somebody opened the copy to write: restore another backup"));
        }
    }
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Ok(Connection::open_with_flags(file, flags)?)
}

/// What SQLite's check said: it may quote names of the schema, so it stays behind the error.
#[derive(Debug)]
struct Found(String);

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Found {}

/// Reads a file to its end, writing it to `copy` as well; answers its SHA-256 in hexadecimal. `progress` learns how many
/// bytes are done. Never for a database that this process has open.
pub(super) fn digest(file: &Path, copy: Option<&mut File>, progress: &mut dyn FnMut(u64)) -> Result<String> {
    let reading = |error| Error::io("read the copy", file, error);
    let mut copy = copy;
    let mut from = open_copy(file).map_err(reading)?;
    let mut piece = vec![0; PIECE];
    let mut hash = Sha256::new();
    let mut done = 0;
    loop {
        let length = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(reading(error)),
        };
        hash.update(&piece[..length]);
        if let Some(copy) = &mut copy {
            copy.write_all(&piece[..length]).map_err(|error| Error::io("write the copy of", file, error))?;
        }
        done += length as u64;
        progress(done);
    }
    let digits =
        |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
    Ok(hash.finalize().iter().flat_map(digits).collect())
}

/// Opens a copy as a file. No connection of this process has it open.
#[allow(clippy::disallowed_methods, reason = "a file of a backup, no database of a home")]
pub(crate) fn open_copy(file: &Path) -> std::io::Result<File> {
    File::open(file)
}
