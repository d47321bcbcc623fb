//! One connection to a database, made ready as every one is.

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::Spec;
use super::owner::is_ours;
use super::waiting::wait_a_moment;
use crate::domain::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::home::access;
use crate::sqlite::damage;
use crate::sqlite::generation::{Counted, User};
use crate::sqlite::memory;

impl Spec {
    pub(in crate::sqlite) fn connect(&self, mode: OpenFlags, user: User) -> Result<Counted> {
        // What is opened beside a write connection is compared with that one.
        let anew = !self.generation.is_attached();
        self.open(mode, user, anew)
    }

    /// The same, as if this process had no other connection to it.
    pub(in crate::sqlite) fn connect_anew(&self, mode: OpenFlags, user: User) -> Result<Counted> {
        self.open(mode, user, true)
    }

    #[allow(clippy::disallowed_methods)] // the one place that opens a database
    pub(super) fn open(&self, mode: OpenFlags, user: User, anew: bool) -> Result<Counted> {
        let entry = self.generation.enter(user)?;
        // Whoever creates it is the writer. Anybody else's first statement would have SQLite delete the log.
        if user != User::Writer && self.is_cut_to_nothing() {
            return Err(damage::emptied());
        }
        let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = match &self.memory {
            Some(_) => Connection::open_with_flags_and_vfs(&self.path, flags, memory::VFS)?,
            None => Connection::open_with_flags(&self.path, flags)?,
        };
        if mode == OpenFlags::SQLITE_OPEN_READ_WRITE && connection.is_readonly("main")? {
            // SQLite asked the system and was refused, by a sandbox for one.
            return Err(Error::new(ErrorKind::ReadOnly, "the file may not be written").advise(format!(
                "give this program write permission to it, choose another home, {}",
                access::WITHOUT_KEEPING
            )));
        }
        if anew && self.memory.is_none() {
            damage::check_header(&connection, &self.path)?;
        }
        // What is not ours is closed as SQLite would do it, but for a log that was there: not a byte of it is changed.
        leave_log_when_closed(&connection, is_ours(&connection) || self.has_log())?;
        Ok(entry.counts(self.made_ready(connection)?))
    }

    /// What every connection gets.
    pub(in crate::sqlite) fn made_ready(&self, connection: Connection) -> Result<Connection> {
        connection.busy_handler(Some(wait_a_moment))?;
        self.settle(&connection).map_err(not_a_database)?;
        if let Some(run) = &self.domain.on_connect {
            run(&connection)?;
            // What it prepared was not judged by the guard.
            connection.flush_prepared_statement_cache();
        }
        Ok(connection)
    }

    /// Settings that need no lock (<https://sqlite.org/pragma.html>).
    pub(super) fn settle(&self, connection: &Connection) -> Result<()> {
        let limits = &self.limits;
        let synchronous = match self.domain.durability {
            Durability::Full => "FULL",
            Durability::Normal => "NORMAL",
        };
        connection.set_prepared_statement_cache_capacity(limits.statement_cache);
        connection
            .set_limit(Limit::SQLITE_LIMIT_LENGTH, i32::try_from(limits.value_bytes).unwrap_or(i32::MAX))?;
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
        connection.execute_batch(&format!(
            "PRAGMA synchronous={synchronous}; PRAGMA cache_size=-{}; PRAGMA journal_size_limit={}; \
             PRAGMA mmap_size=0; PRAGMA wal_autocheckpoint=0; PRAGMA foreign_keys=ON; PRAGMA cell_size_check=ON; PRAGMA fullfsync=ON; \
             PRAGMA checkpoint_fullfsync=ON;",
            limits.page_cache / 1024,
            self.log_lengths().kept_bytes,
        ))?;
        Ok(())
    }
}

/// SQLite works the log off when it closes the last connection, tells nobody when that fails, and knows nothing of the latch:
/// for a database of ours [`core`](crate::sqlite::core) does it.
pub(super) fn leave_log_when_closed(connection: &Connection, leave: bool) -> Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, leave)?;
    Ok(())
}

/// The first thing that SQLite reads is the header.
fn not_a_database(error: Error) -> Error {
    if error.sqlite_code() == Some(rusqlite::ffi::SQLITE_NOTADB) { no_database(error) } else { error }
}

fn no_database(error: Error) -> Error {
    error
        .worded("the file is not an SQLite database")
        .advise("move it away, or restore it from a backup; nothing in it was changed")
}
