//! What a job and a read see: `Tx` and `Snapshot`. Neither leads to the connection.

use std::ops::Deref;

use rusqlite::{CachedStatement, Connection, Params, Row};

use crate::error::{Error, ErrorKind, Result};

/// One consistent state of a database, to read from.
///
/// Statements are cached by their text. Rows are rusqlite's, read by index or name
/// (<https://docs.rs/rusqlite/0.40/rusqlite/struct.Row.html>).
pub struct Snapshot {
    connection: Connection,
}

/// A write under way: everything a [`Snapshot`] can, and changes.
///
/// It derefs to [`Snapshot`]. What it wrote is durable when the call that ran the job answers, and gone when the
/// job answers an error.
pub struct Tx {
    snapshot: Snapshot,
}

impl Deref for Tx {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl Snapshot {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn into_connection(self) -> Connection {
        self.connection
    }

    /// The snapshot inside a transaction, named so that trait methods of both can be told apart.
    pub(crate) fn session(tx: &Tx) -> &Snapshot {
        &tx.snapshot
    }

    /// The one row of a query, through `read`.
    ///
    /// # Errors
    /// `NotFound` when there is none; of SQLite otherwise. Further rows are not looked at.
    pub fn row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        Ok(self.prepare(sql)?.query_row(params, read)?)
    }

    /// The first row of a query, or `None`.
    ///
    /// # Errors
    /// Of SQLite.
    pub fn optional_row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        match self.row(sql, params, read) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All rows of a query, copied out through `read`.
    ///
    /// # Errors
    /// Of SQLite.
    pub fn rows<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.prepare(sql)?;
        let rows = statement.query_map(params, read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The statement of this text, from the connection's cache. For a loop over many values it saves the look-up.
    ///
    /// # Errors
    /// Of SQLite; `Unsupported` for statements that a job may not run.
    pub fn prepare(&self, sql: &str) -> Result<CachedStatement<'_>> {
        Ok(self.connection.prepare_cached(sql)?)
    }
}

impl Tx {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { snapshot: Snapshot::new(connection) }
    }

    pub(crate) fn into_connection(self) -> Connection {
        self.snapshot.into_connection()
    }

    /// Runs one statement; answers how many rows it changed.
    ///
    /// # Errors
    /// Of SQLite; `Constraint` when the schema refuses the change; `Unsupported` for statements that a job may not
    /// run (transaction control, ATTACH, most pragmas).
    pub fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        Ok(self.prepare(sql)?.execute(params)?)
    }

    /// The row id of the last insert of this connection (<https://sqlite.org/c3ref/last_insert_rowid.html>).
    pub fn last_insert_rowid(&self) -> i64 {
        self.connection().last_insert_rowid()
    }

    /// Runs `inner` so that its changes, and only they, are undone when it answers an error. Nests.
    ///
    /// # Errors
    /// Those of `inner`; of SQLite.
    pub fn savepoint<R>(&self, inner: impl FnOnce(&Tx) -> Result<R>) -> Result<R> {
        let savepoint = super::guard::Nested::open(self.connection())?;
        let answer = inner(self);
        if self.connection().is_autocommit() {
            // The inner code ended the whole transaction (RAISE(ROLLBACK), INSERT OR ROLLBACK): nothing to release.
            return answer
                .and(Err(Error::new(ErrorKind::Job, "the transaction was rolled back inside a savepoint")));
        }
        savepoint.close(answer.is_ok())?;
        answer
    }
}
