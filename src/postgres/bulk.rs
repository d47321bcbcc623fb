//! One long transaction with copies of whole tables: the way of a move between engines, and of nothing else.
//!
//! Invariants:
//! - Everything in it is one commit, or nothing: whoever drops it, or is killed, leaves the server as it was.
//! - Its commit is durable when it is answered, also where the server is set up otherwise.
//! - It takes as long as it takes; only a server that says nothing for [`LONGEST_SILENCE`] is given up.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_core::Stream;
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutRow, BinaryCopyOutStream};
use tokio_postgres::types::{ToSql, Type};

use super::connection::Connection;
use super::failure::Failure;
use super::migrate;
use super::pool::Lent;
use super::server::Server;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};

/// For one answer: it may have to read a large table, or wait for a standby.
const LONGEST_SILENCE: Duration = Duration::from_hours(1);

/// A transaction.
pub(crate) struct Bulk<'s> {
    connection: Lent<'s>,
    name: &'s str,
}

/// A row that is being sent.
pub(crate) type Sent<'v> = &'v [&'v (dyn ToSql + Sync)];
/// Sends one row.
pub(crate) type SendRow<'f> = dyn FnMut(Sent<'_>) -> Result<()> + 'f;
/// A row that has come.
pub(crate) type Received = BinaryCopyOutRow;

/// How a commit went.
pub(crate) enum Committed {
    Yes,
    /// It was refused.
    No(Error),
    /// The connection was lost meanwhile.
    Unknown,
}

impl<'s> Bulk<'s> {
    /// Begins, with these domains' locks: nobody creates, migrates or moves them meanwhile. A lock is waited for that long.
    ///
    /// # Errors
    /// `Busy` when one does not come; `ReadOnly` when the server takes no writes; of the way to it.
    pub(crate) fn begin(server: &'s Server, schemas: &[String], wait: Duration) -> Result<Self> {
        server.check_process()?;
        let until = Instant::now() + wait;
        let connection = server.take_direct(server.pool.take(until)?, until)?;
        let mut bulk = Self { connection, name: server.name() };
        bulk.judged(|connection| migrate::refuse_pooled(connection))?;
        let wait = wait.as_millis().clamp(1, i32::MAX.unsigned_abs().into());
        // Read committed: what is read after a lock came is what its last holder left.
        let mut text = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL statement_timeout = 0; \
             SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = {wait}; \
             SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
        );
        for schema in schemas {
            text.push_str("; ");
            text.push_str(&migrate::lock(schema));
        }
        bulk.judged(|connection| connection.batch(&text).map_err(Failure::at_begin))?;
        Ok(bulk)
    }

    /// Asks something of the connection, and names the server where that fails.
    pub(super) fn judged<T>(&mut self, ask: impl FnOnce(&mut Connection) -> Result<T, Failure>) -> Result<T> {
        self.connection.lend(Instant::now() + LONGEST_SILENCE);
        ask(&mut self.connection).map_err(|failure| failure.error.at_path(self.name.as_ref()))
    }

    /// Statements without parameters and rows.
    ///
    /// # Errors
    /// Of the server.
    pub(crate) fn batch(&mut self, text: &str) -> Result<()> {
        self.judged(|connection| connection.batch(text))
    }

    /// One statement, its values bound.
    ///
    /// # Errors
    /// Of the server.
    pub(crate) fn execute(&mut self, text: &str, params: Sent<'_>) -> Result<()> {
        self.judged(|connection| connection.ask(|asks| asks.execute(text, params)).map(drop))
    }

    /// What a statement without parameters answers, as text.
    ///
    /// # Errors
    /// Of the server.
    pub(crate) fn rows(&mut self, text: &str) -> Result<Vec<Vec<Option<String>>>> {
        let rows = self.judged(|connection| connection.rows(text))?;
        let cells = |row: tokio_postgres::SimpleQueryRow| {
            (0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()
        };
        Ok(rows.into_iter().map(cells).collect())
    }

    /// Creates and migrates the schema of a domain, as far as needed, and looks there from now on.
    ///
    /// # Errors
    /// As [`Server::domain`].
    pub(crate) fn bring_up(&mut self, domain: &Domain, schema: &str, program: (&str, &str)) -> Result<()> {
        self.look_in(schema)?;
        let domain = migrate::on_server(domain)?;
        self.judged(|connection| migrate::bring_up_locked(connection, &domain, schema, program))
    }

    /// Names, also those in triggers, mean what is in this schema.
    ///
    /// # Errors
    /// Of the server.
    pub(crate) fn look_in(&mut self, schema: &str) -> Result<()> {
        self.batch(&format!("SET LOCAL search_path = {schema}"))
    }

    /// Sends rows to a `COPY .. FROM STDIN BINARY`; `rows` calls what it is given for each.
    ///
    /// # Errors
    /// Of `rows`; of the server.
    pub(crate) fn copy_in(
        &mut self,
        text: &str,
        types: &[Type],
        rows: &mut dyn FnMut(&mut SendRow<'_>) -> Result<()>,
    ) -> Result<()> {
        let sink = self.judged(|connection| connection.ask(|asks| asks.copy_in(text)))?;
        let mut writer = Box::pin(BinaryCopyInWriter::new(sink, types));
        let sent = rows(&mut |row| self.judged(|connection| connection.ask(|_| writer.as_mut().write(row))));
        // What the server refused it says when it is asked how the copy ended.
        match sent {
            Ok(()) => self.judged(|connection| connection.ask(|_| writer.as_mut().finish())).map(drop),
            Err(error) if error.kind() == ErrorKind::Io => {
                let end = self.judged(|connection| connection.ask(|_| writer.as_mut().finish()));
                Err(end.err().unwrap_or(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Receives the rows of a `COPY .. TO STDOUT BINARY`.
    ///
    /// # Errors
    /// Of `each`; of the server.
    pub(crate) fn copy_out(
        &mut self,
        text: &str,
        types: &[Type],
        each: &mut dyn FnMut(&Received) -> Result<()>,
    ) -> Result<()> {
        let stream = self.judged(|connection| connection.ask(|asks| asks.copy_out(text)))?;
        let mut rows = Box::pin(BinaryCopyOutStream::new(stream, types));
        while let Some(row) = self.judged(|connection| connection.ask(|_| next(rows.as_mut())))? {
            each(&row)?;
        }
        Ok(())
    }

    /// Makes it durable.
    pub(crate) fn commit(mut self) -> Committed {
        self.connection.lend(Instant::now() + LONGEST_SILENCE);
        match self.connection.commit("COMMIT") {
            Ok(()) => Committed::Yes,
            Err(failure) if failure.leaves_open() => Committed::Unknown,
            Err(failure) => Committed::No(failure.error.at_path(self.name.as_ref())),
        }
    }
}

/// The next row of a copy.
async fn next(
    mut rows: Pin<&mut BinaryCopyOutStream>,
) -> Result<Option<BinaryCopyOutRow>, tokio_postgres::Error> {
    poll_fn(|context| match rows.as_mut().poll_next(context) {
        Poll::Ready(row) => Poll::Ready(row.transpose()),
        Poll::Pending => Poll::Pending,
    })
    .await
}

impl Drop for Bulk<'_> {
    fn drop(&mut self) {
        // A connection that is ended rolls back, whatever it was doing; after a commit it is of no more use either: what
        // was prepared on it is of the schema as it was.
        self.connection.give_up();
    }
}
