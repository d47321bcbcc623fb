//! One connection, and the statements that are prepared on it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio_postgres::types::ToSql;
use tokio_postgres::{
    Client as Asks, Error as DriverError, Row, SimpleQueryMessage, SimpleQueryRow, Statement,
};

use super::client::Client;
use super::failure::{Class, Failure};
use super::host::Host;

/// Prepared statements that a connection keeps.
const MOST_STATEMENTS: usize = 256;

pub(super) struct Connection {
    client: Client,
    host: Host,
    /// By schema, then by text: one text means other tables in another schema.
    statements: HashMap<Box<str>, HashMap<Box<str>, Statement>>,
    kept: usize,
    commits: bool,
    lost: bool,
    given_back: Instant,
}

impl Connection {
    pub(super) fn new(client: Client, host: Host) -> Self {
        Self {
            client,
            host,
            statements: HashMap::new(),
            kept: 0,
            commits: false,
            lost: false,
            given_back: Instant::now(),
        }
    }

    /// A text, prepared once. The schema is the one that the transaction under way looks in.
    pub(super) fn prepare(&mut self, schema: &str, text: &str) -> Result<Statement, Failure> {
        if let Some(known) = self.statements.get(schema).and_then(|of| of.get(text)) {
            return Ok(known.clone());
        }
        let made = self.ask(|asks| asks.prepare(text))?;
        if self.kept == MOST_STATEMENTS {
            self.statements.clear();
            self.kept = 0;
        }
        self.kept += 1;
        self.statements.entry(schema.into()).or_default().insert(text.into(), made.clone());
        Ok(made)
    }

    /// Runs a prepared statement; answers how many rows it changed.
    pub(super) fn execute(
        &mut self,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Failure> {
        self.ask(|asks| asks.execute(statement, params))
    }

    /// Runs a prepared statement; answers its rows.
    pub(super) fn query(
        &mut self,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        self.ask(|asks| asks.query(statement, params))
    }

    /// Statements without parameters and rows, in one round trip.
    pub(super) fn batch(&mut self, text: &str) -> Result<(), Failure> {
        self.ask(|asks| asks.batch_execute(text))
    }

    /// Statements without parameters, in one round trip; the rows of all of them, as text.
    pub(super) fn rows(&mut self, text: &str) -> Result<Vec<SimpleQueryRow>, Failure> {
        let messages = self.ask(|asks| asks.simple_query(text))?;
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// The end of a transaction that is committed. It is never cancelled: a server that waits for its standby would
    /// answer as if that had it.
    pub(super) fn commit(&mut self, text: &str) -> Result<(), Failure> {
        self.commits = true;
        self.batch(text)?;
        self.commits = false;
        Ok(())
    }

    /// Whatever the driver can ask, until the time for which the connection was lent. What takes longer is cancelled when the
    /// connection is dropped, and it is lost.
    pub(super) fn ask<'c, T, F>(&'c mut self, ask: impl FnOnce(&'c Asks) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, DriverError>>,
    {
        let Self { client, lost, .. } = self;
        client.run(ask).inspect_err(|failure| *lost |= failure.class == Class::Lost)
    }

    /// It is not used again: it is lost, or answers from the wrong place.
    pub(super) fn give_up(&mut self) {
        self.lost = true;
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost || self.client.is_closed()
    }

    /// What is done on it ends at that time.
    pub(super) fn lend(&mut self, until: Instant) {
        self.client.lend(until);
    }

    pub(super) fn rested(&mut self) {
        self.given_back = Instant::now();
    }

    /// Whether the server still answers on it. One that rested for less than `unasked` is believed.
    pub(super) fn is_good(&mut self, unasked: Duration, until: Instant) -> bool {
        if self.given_back.elapsed() >= unasked {
            self.lend(until);
            let _ = self.ask(Asks::check_connection);
        }
        !self.is_lost()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(statement) = self.client.unanswered().filter(|_| !self.commits) {
            self.host.cancel(statement);
        }
    }
}
