//! What a job and a read see: `Tx` and `Snapshot`. Neither leads to the connection.

use std::ops::Deref;
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, Params, Row};

use super::ffi::Control;
use super::generation::Counted;
use super::guard::Guard;
use super::read_only::Source;
use crate::error::{Error, ErrorKind, Result};

/// One consistent state of a database, to read from.
///
/// Statements are cached by their text. Rows are rusqlite's, read by index or name
/// (<https://docs.rs/rusqlite/0.40/rusqlite/struct.Row.html>).
pub struct Snapshot {
    // Dropped before the connection they were prepared on.
    control: Control,
    connection: Counted,
    guard: Arc<Guard>,
    /// Where a database that may not be written is read from. Dropped after the connection: it may be a copy.
    source: Option<Arc<Source>>,
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
    /// A read connection: guarded, with its statements prepared.
    pub(super) fn new(connection: Counted) -> rusqlite::Result<Self> {
        let control = Control::reader(&connection)?;
        let guard = Guard::install(&connection)?;
        Ok(Self { control, connection, guard, source: None })
    }

    /// A read connection to a database that may not be written.
    pub(super) fn of(source: Arc<Source>, connection: Counted) -> rusqlite::Result<Self> {
        Ok(Self { source: Some(source), ..Self::new(connection)? })
    }

    /// False when another way to read has become the right one.
    pub(super) fn is_current(&self) -> bool {
        self.source.as_ref().is_none_or(|source| source.is_current())
    }

    /// Refuses what was just read when it may not be one state of the database.
    pub(super) fn check_whole(&self) -> Result<()> {
        match &self.source {
            Some(source) if !source.was_whole() => Err(source.changed()),
            _ => Ok(()),
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// A snapshot of a fresh in-memory database, for tests of what only needs a session.
    #[cfg(test)]
    pub(crate) fn in_memory(schema: &str) -> Self {
        let connection = Connection::open_in_memory().expect("an in-memory database");
        connection.execute_batch(schema).expect("the test's schema");
        Self::new(connection.into()).expect("a snapshot")
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
    /// The write connection: guarded, with its statements prepared.
    pub(super) fn new(connection: Counted) -> rusqlite::Result<Self> {
        let control = Control::writer(&connection)?;
        let guard = Guard::install(&connection)?;
        Ok(Self { snapshot: Snapshot { control, connection, guard, source: None } })
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
        // A savepoint outside a transaction would be a transaction, and its release a commit.
        self.refuse_if_ended()?;
        self.engine(Control::inner_savepoint)?;
        let undo = UndoOnPanic(self);
        let answer = inner(self);
        std::mem::forget(undo);
        if answer.is_err() {
            if !self.connection().is_autocommit() {
                self.engine(Control::inner_rollback_to)?;
                self.engine(Control::inner_release)?;
            }
            return answer;
        }
        self.refuse_if_ended()?;
        self.engine(Control::inner_release)?;
        answer
    }

    /// A step of the engine's own in the middle of a job.
    fn engine(&self, step: fn(&Control) -> rusqlite::Result<()>) -> rusqlite::Result<()> {
        let _paused = self.guard().pause();
        step(self.control())
    }

    /// Statements of the engine's own in the middle of a job, in its transaction. They must not be prepared from the
    /// connection's cache, where the job would find them.
    ///
    /// # Errors
    /// `Constraint` when the job ended the transaction; those of `work`.
    pub(super) fn as_engine<R>(&self, work: impl FnOnce(&Connection) -> Result<R>) -> Result<R> {
        // Outside a transaction each of them would be a commit.
        self.refuse_if_ended()?;
        let _paused = self.guard().pause();
        work(self.connection())
    }

    /// Refuses to go on after a statement (RAISE(ROLLBACK), INSERT OR ROLLBACK) ended the whole transaction.
    fn refuse_if_ended(&self) -> Result<()> {
        if self.connection().is_autocommit() {
            return Err(Error::new(ErrorKind::Constraint, "a statement rolled the whole transaction back"));
        }
        Ok(())
    }
}

/// Undoes a savepoint whose inner code panics: left open, it would hide the job's own from the engine.
struct UndoOnPanic<'t>(&'t Tx);

impl Drop for UndoOnPanic<'_> {
    fn drop(&mut self) {
        if !self.0.connection().is_autocommit() {
            let _ = self
                .0
                .engine(Control::inner_rollback_to)
                .and_then(|()| self.0.engine(Control::inner_release));
        }
    }
}
