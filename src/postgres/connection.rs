//! One connection, and the statements that are prepared on it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use postgres::{Client, Statement};

use super::failure::{Class, Failure};

/// Prepared statements that a connection keeps.
const MOST_STATEMENTS: usize = 256;

pub(super) struct Connection {
    pub(super) client: Client,
    /// By schema, then by text: one text means other tables in another schema.
    statements: HashMap<Box<str>, HashMap<Box<str>, Statement>>,
    kept: usize,
    lost: bool,
    given_back: Instant,
}

impl Connection {
    pub(super) fn new(client: Client) -> Self {
        Self { client, statements: HashMap::new(), kept: 0, lost: false, given_back: Instant::now() }
    }

    /// A text, prepared once. The schema is the one that the transaction under way looks in.
    pub(super) fn prepare(&mut self, schema: &str, text: &str) -> Result<Statement, Failure> {
        if let Some(known) = self.statements.get(schema).and_then(|of| of.get(text)) {
            return Ok(known.clone());
        }
        let made = self.client.prepare(text).map_err(|error| self.failed(error))?;
        if self.kept == MOST_STATEMENTS {
            self.statements.clear();
            self.kept = 0;
        }
        self.kept += 1;
        self.statements.entry(schema.into()).or_default().insert(text.into(), made.clone());
        Ok(made)
    }

    /// Statements without parameters and rows, in one round trip.
    pub(super) fn batch(&mut self, text: &str) -> Result<(), Failure> {
        self.client.batch_execute(text).map_err(|error| self.failed(error))
    }

    /// What an error means, also for this connection.
    pub(super) fn failed(&mut self, error: postgres::Error) -> Failure {
        let failure = Failure::from(error);
        if failure.class == Class::Lost {
            self.lost = true;
        }
        failure
    }

    /// It is not used again: it is lost, or answers from the wrong place.
    pub(super) fn give_up(&mut self) {
        self.lost = true;
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost || self.client.is_closed()
    }

    pub(super) fn rested(&mut self) {
        self.given_back = Instant::now();
    }

    /// Whether the server still answers on it. One that rested for less than `unasked` is believed.
    pub(super) fn is_good(&mut self, unasked: Duration, within: Duration) -> bool {
        if self.given_back.elapsed() >= unasked && self.client.is_valid(within).is_err() {
            self.lost = true;
        }
        !self.is_lost()
    }
}
