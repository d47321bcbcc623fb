//! A look at a server from outside of a runtime: which hosts answer, and what the server says of itself.
//!
//! | file | what |
//! |---|---|
//! | here | connecting and asking, until a time |
//! | [`facts`] | what a doctor asks |
//! | [`lists`] | what `status` and `who` ask |
//!
//! Invariants:
//! - It ends at its time, also when a host accepts a connection and then says nothing.
//! - Nothing is changed: every transaction is rolled back, and all but the probe of a write are read-only.
//! - No password, value or text of a statement is in what it answers.
//!
//! Tests: `tests/doctor_of_a_server.rs`, `cli/tests/server.rs`.

pub(crate) mod facts;
pub(crate) mod lists;

use std::time::Instant;

use tokio_postgres::SimpleQueryRow;

use super::address::Address;
use super::connection::Connection;
use super::database::settings;
use super::failure::{Class, Failure};
use crate::error::{Error, ErrorKind, Result};

/// A row, its values as texts, by name.
pub(crate) struct Row(SimpleQueryRow);

impl Row {
    /// Nothing where it is null, or not among the columns.
    pub(crate) fn text(&self, column: &str) -> Option<&str> {
        self.0.try_get(column).ok().flatten()
    }

    pub(crate) fn number(&self, column: &str) -> Option<i64> {
        self.text(column)?.parse().ok()
    }

    /// The same of what cannot be below 0; 0 where nothing is said.
    pub(crate) fn count(&self, column: &str) -> u64 {
        self.number(column).and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
    }

    pub(crate) fn is(&self, column: &str) -> bool {
        matches!(self.text(column), Some("1" | "t" | "on"))
    }
}

/// How a host answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// It takes writes.
    Writes,
    /// It follows another server, and can only be read.
    Follows,
    /// It runs, and has no place for one more connection.
    Full(Error),
    /// It cannot be reached, or will not have this user.
    Refused(Error),
    /// It accepted the connection, and said nothing.
    Silent,
}

/// One host of an address.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) answer: Answer,
}

/// A connection for questions.
pub(super) struct Asker {
    pub(super) connection: Connection,
    /// A pooler stands before the server.
    pub(super) pooled: bool,
}

/// Connects to every host of an address, beside each other. The connection is to the one that takes writes, else to one
/// that can be read.
pub(super) fn reach(address: &Address, until: Instant) -> (Vec<Host>, Option<Asker>) {
    let names = address.names_of_hosts();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let connect = |at| move || connect(address, at, until);
        let started: Vec<_> = (0..names.len())
            .map(|at| {
                let thread = std::thread::Builder::new().name("rowhouse-look".to_owned());
                thread.spawn_scoped(scope, connect(at))
            })
            .collect();
        started.into_iter().map(|thread| thread.ok().and_then(|thread| thread.join().ok())).collect()
    });
    let (mut hosts, mut best) = (Vec::new(), None);
    for (name, answer) in names.into_iter().zip(answers) {
        let (answer, asker) = answer.unwrap_or_else(|| {
            let error = Error::new(ErrorKind::Io, "no thread could be started to ask it");
            (Answer::Refused(error.advise("raise the limit of processes (ulimit -u), or end some")), None)
        });
        match answer {
            Answer::Writes => best = asker,
            Answer::Follows if best.is_none() => best = asker,
            _ => {}
        }
        hosts.push(Host { name, answer });
    }
    (hosts, best)
}

fn connect(address: &Address, at: usize, until: Instant) -> (Answer, Option<Asker>) {
    let mut asker = match address.connect_at(at, until) {
        Ok(reached) => Asker { pooled: reached.pooled, connection: Connection::new(reached, None) },
        Err(Failure { class: Class::Again, error, .. }) => return (Answer::Full(error), None),
        Err(Failure { error, .. }) => return (refused(error), None),
    };
    match asker.ask(until, "SELECT pg_is_in_recovery()::int AS follows") {
        Ok(rows) if rows.first().is_some_and(|row| row.is("follows")) => (Answer::Follows, Some(asker)),
        Ok(_) => (Answer::Writes, Some(asker)),
        Err(error) => (refused(error), None),
    }
}

fn refused(error: Error) -> Answer {
    if error.kind() == ErrorKind::Timeout { Answer::Silent } else { Answer::Refused(error) }
}

impl Asker {
    /// Asks in a transaction of its own that can only read.
    ///
    /// # Errors
    /// The server's; `Timeout` at `until`.
    pub(super) fn ask(&mut self, until: Instant, text: &str) -> Result<Vec<Row>> {
        self.run("READ ONLY", "pg_catalog", until, text)
    }

    /// The same where one row is the answer.
    pub(super) fn ask_one(&mut self, until: Instant, text: &str) -> Result<Row> {
        let mut rows = self.ask(until, text)?;
        rows.pop().ok_or_else(|| Error::new(ErrorKind::Unsupported, "the server answers nothing"))
    }

    /// Does it, and rolls it back.
    pub(super) fn try_write(&mut self, schema: &str, until: Instant, text: &str) -> Result<()> {
        self.run("READ WRITE", schema, until, text).map(drop)
    }

    fn run(&mut self, how: &str, schema: &str, until: Instant, text: &str) -> Result<Vec<Row>> {
        let text = format!("BEGIN {how}; {}; {text}; ROLLBACK", settings(schema, until));
        self.connection.lend(until);
        match self.connection.rows(&text) {
            Ok(rows) => Ok(rows.into_iter().map(Row).collect()),
            Err(failure) => {
                self.roll_back();
                Err(failure.error)
            }
        }
    }

    /// Does something with the connection in a transaction that can only read.
    pub(super) fn inside<T>(
        &mut self,
        schema: &str,
        until: Instant,
        then: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T> {
        let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}", settings(schema, until));
        self.connection.lend(until);
        let done = self.connection.batch(&begin).and_then(|()| then(&mut self.connection));
        self.roll_back();
        done.map_err(|failure| failure.error)
    }

    fn roll_back(&mut self) {
        if !self.connection.is_lost() && self.connection.batch("ROLLBACK").is_err() {
            self.connection.give_up();
        }
    }
}
