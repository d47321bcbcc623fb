//! One connection, and the statements that are prepared on it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use futures_core::Stream;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{
    Client as Asks, Error as DriverError, Row, RowStream, SimpleQueryMessage, SimpleQueryRow,
};
use uuid::Uuid;

use super::client::Client;
use super::failure::{Class, Failure};
use super::host::{Host, Reached};
use super::pooler::Pooler;
use super::statements::{Prepared, Statements, Typed, types_of};
use crate::error::{Error, ErrorKind};

/// What is bound, as many as the statement has types.
pub(super) type Params<'p> = [&'p (dyn ToSql + Sync)];

pub(super) struct Connection {
    client: Client,
    host: Host,
    /// Each transaction may meet another process of the server.
    pooled: bool,
    statements: Statements,
    /// A COMMIT was sent, and its answer is not there.
    commits: bool,
    lost: Option<Loss>,
    given_back: Instant,
}

/// Why a connection is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It ended, or nobody waits for its answer: others may be as they were.
    Own,
    /// What is wrong with it is wrong with all that were made before: the server takes no writes any more, or says nothing, or
    /// has another schema.
    Shared,
}

impl Connection {
    /// `said` of a pooler counts more than what was found.
    pub(super) fn new(Reached { client, host, pooled }: Reached, said: Option<Pooler>) -> Self {
        Self {
            client,
            host,
            pooled: said.map_or(pooled, |pooler| pooler == Pooler::Transaction),
            statements: Statements::default(),
            commits: false,
            lost: None,
            given_back: Instant::now(),
        }
    }

    /// Whether a pooler stands before the server that gives each transaction what process it likes.
    pub(super) fn is_pooled(&self) -> bool {
        self.pooled
    }

    /// A text, prepared once. The schema is the one that the transaction under way looks in.
    pub(super) fn prepare(&mut self, schema: &str, text: &str) -> Result<Prepared, Failure> {
        if let Some(known) = self.statements.get(schema, text) {
            return Ok(known);
        }
        let made = if self.pooled {
            // Without the first one there is none. Not everything that takes none can be prepared.
            let types = if text.contains("$1") { self.learn(text)? } else { Vec::new() };
            Prepared::Typed(Arc::new(Typed { text: text.into(), types }))
        } else {
            Prepared::Named(self.ask(|asks| asks.prepare(text))?)
        };
        self.statements.keep(schema, text, made.clone());
        Ok(made)
    }

    /// The types of a text's parameters, as the server finds them: inside the transaction under way, and by a name that
    /// no other program has. The text is sent alone, so it is one statement.
    fn learn(&mut self, text: &str) -> Result<Vec<Type>, Failure> {
        let name = format!("rowhouse_{}", Uuid::now_v7().simple());
        let prepare = format!("PREPARE {name} AS {text}");
        self.ask(|asks| asks.execute_typed(&prepare, &[]))?;
        let look = format!(
            "SELECT parameter_types::oid[]::text FROM pg_prepared_statements WHERE name = '{name}'; DEALLOCATE {name}"
        );
        let rows = self.rows(&look)?;
        rows.first().and_then(|row| types_of(row.get(0)?)).ok_or_else(|| {
            Failure::told(Error::new(
                ErrorKind::Unsupported,
                "the server does not say what a statement takes",
            ))
        })
    }

    /// Runs a prepared statement; answers how many rows it changed.
    pub(super) fn execute(&mut self, prepared: &Prepared, params: &Params<'_>) -> Result<u64, Failure> {
        match prepared {
            Prepared::Named(statement) => self.ask(|asks| asks.execute(statement, params)),
            Prepared::Typed(typed) => {
                let params = with_types(params, typed);
                self.ask(|asks| asks.execute_typed(&typed.text, &params))
            }
        }
    }

    /// Runs a prepared statement, and gives each of its rows to `each` until that refuses one. The inner error is its.
    pub(super) fn query<E>(
        &mut self,
        prepared: &Prepared,
        params: &Params<'_>,
        each: impl FnMut(&Row) -> Result<(), E>,
    ) -> Result<Result<(), E>, Failure> {
        match prepared {
            Prepared::Named(statement) => {
                self.ask(|asks| walk(asks.query_raw(statement, params.iter().copied()), each))
            }
            Prepared::Typed(typed) => {
                let params = with_types(params, typed);
                self.ask(|asks| walk(asks.query_typed_raw(&typed.text, params), each))
            }
        }
    }

    /// The rest of an answer is not waited for: it would have to be taken in, however long it is. The connection is lost, and
    /// the server told to stop.
    pub(super) fn abandon(&mut self) {
        self.client.abandon();
        self.give_up();
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
        let done = self.batch(text);
        // What was refused is over. What may be there is asked for elsewhere, and this one said its last.
        self.commits = done.as_ref().is_err_and(Failure::leaves_open);
        if self.commits {
            self.give_up();
        }
        done
    }

    /// Whatever the driver can ask, until the time for which the connection was lent. What takes longer is cancelled when the
    /// connection is dropped, and it is lost.
    pub(super) fn ask<'c, T, F>(&'c mut self, ask: impl FnOnce(&'c Asks) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, DriverError>>,
    {
        let Self { client, lost, .. } = self;
        let done = client.run(ask).map_err(Failure::on_connection);
        done.inspect_err(|failure| match failure.class {
            Class::Lost => *lost = lost.or(Some(Loss::Own)),
            Class::Stale => *lost = Some(Loss::Shared),
            Class::Final | Class::Again => {}
        })
    }

    /// What notifications carry that come until the time for which it was lent; nothing when none came.
    pub(super) fn hear(&mut self) -> Result<Vec<String>, Failure> {
        let Self { client, lost, .. } = self;
        client.hear().inspect_err(|_| *lost = Some(Loss::Own))
    }

    /// It is not used again.
    pub(super) fn give_up(&mut self) {
        self.lost = self.lost.or(Some(Loss::Own));
    }

    /// Nor are the others that were made before: they lead to where no writes are taken.
    pub(super) fn leave_server(&mut self) {
        self.lost = Some(Loss::Shared);
    }

    /// Whether it is not used again, and what that says of others.
    pub(super) fn loss(&self) -> Option<Loss> {
        self.lost.or_else(|| self.client.is_closed().then_some(Loss::Own))
    }

    pub(super) fn is_lost(&self) -> bool {
        self.loss().is_some()
    }

    /// What is done on it ends at that time.
    pub(super) fn lend(&mut self, until: Instant) {
        self.client.lend(until);
    }

    pub(super) fn rested(&mut self) {
        self.given_back = Instant::now();
    }

    /// When it was last given back.
    pub(super) fn given_back(&self) -> Instant {
        self.given_back
    }

    /// Whether the server still answers on it, by `until`. A server that says nothing says nothing on the others either.
    pub(super) fn is_good(&mut self, until: Instant) -> bool {
        self.lend(until);
        let asked = self.ask(Asks::check_connection);
        if asked.is_err_and(|failure| failure.error.kind() == ErrorKind::Timeout) {
            self.lost = Some(Loss::Shared);
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

async fn walk<E>(
    rows: impl Future<Output = Result<RowStream, DriverError>>,
    mut each: impl FnMut(&Row) -> Result<(), E>,
) -> Result<Result<(), E>, DriverError> {
    let mut rows = pin!(rows.await?);
    while let Some(row) = poll_fn(|context| rows.as_mut().poll_next(context)).await {
        if let Err(refused) = each(&row?) {
            return Ok(Err(refused));
        }
    }
    Ok(Ok(()))
}

fn with_types<'p>(params: &Params<'p>, typed: &Typed) -> Vec<(&'p (dyn ToSql + Sync), Type)> {
    params.iter().copied().zip(typed.types.iter().cloned()).collect()
}
