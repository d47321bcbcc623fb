//! A new database file that is filled at once: nobody has it open before it is whole.
//!
//! Invariant: what is finished passed SQLite's check, is durable, and is one file without a log.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::connect::stamp;
use super::migrate;
use crate::backup::check;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::home;

pub(crate) struct NewFile {
    connection: Connection,
    path: PathBuf,
}

impl NewFile {
    /// Creates a file with a domain's schema, where none is.
    ///
    /// # Errors
    /// `Conflict` when something of that name exists; of the migrations; of SQLite.
    pub(crate) fn create(path: &Path, domain: &Domain, program: (&str, &str)) -> Result<Self> {
        drop(home::create_private_file(path)?);
        let connection = open(path)?;
        if let Some(run) = &domain.on_connect {
            run(&connection)?;
        }
        // It is made durable as a whole, at the end.
        connection.execute_batch("PRAGMA synchronous=OFF; PRAGMA cache_size=-65536")?;
        stamp(&connection)?;
        connection.query_row("PRAGMA journal_mode=MEMORY", [], |_| Ok(()))?;
        migrate::migrate(&connection, domain, program)?;
        Ok(Self { connection, path: path.to_owned() })
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Checks it, and makes it durable.
    ///
    /// # Errors
    /// `Io` when it does not pass; of SQLite and the system.
    pub(crate) fn finish(self) -> Result<()> {
        let Self { connection, path } = self;
        let checked: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if checked != "ok" {
            return Err(Error::new(ErrorKind::Io, "the new database does not pass SQLite's check")
                .advise("look at the disk; restore the database from a backup, and report this"));
        }
        connection.query_row("PRAGMA journal_mode=DELETE", [], |_| Ok(()))?;
        connection.close().map_err(|(_, error)| error)?;
        check::open_copy(&path)
            .and_then(|file| file.sync_all())
            .map_err(|error| Error::io("make the new database durable", &path, error))?;
        home::sync_folder(path.parent().unwrap_or(&path))
    }
}

#[allow(clippy::disallowed_methods, reason = "a file of our own, not yet at a database's place")]
fn open(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(path, flags)?)
}
