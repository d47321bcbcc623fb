//! `rowhouse_move` in a schema: each move of its domain between engines, the last one first in what counts.
//!
//! Invariants:
//! - A line comes in the transaction that moves the rows, so it is there when they are, and is asked for to know whether a
//!   move was committed. It stays for ever: the next move must not make the last one look as if it had never been.
//! - A schema whose last line says `out` is not opened: its rows are elsewhere.
//!
//! Tests: `tests/move_backend.rs`.

use super::bulk::Bulk;
use super::connection::Connection;
use super::failure::Failure;
use crate::error::{Error, ErrorKind, Result};

const COLUMNS: &str = "rowhouse_move(
    number BIGINT PRIMARY KEY,
    id UUID NOT NULL UNIQUE,
    direction TEXT COLLATE \"C\" NOT NULL CHECK (direction IN ('in', 'out')),
    place TEXT COLLATE \"C\" NOT NULL,
    at BIGINT NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000)::bigint)";

/// Which way the rows went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    In,
    Out,
}

/// Refuses a schema whose rows were moved away. The caller found its table.
pub(super) fn refuse(connection: &mut Connection, schema: &str) -> Result<(), Failure> {
    let last = format!("SELECT direction, place FROM {schema}.rowhouse_move ORDER BY number DESC LIMIT 1");
    let found = connection.rows(&last)?;
    let Some(row) = found.first().filter(|row| row.get(0) == Some("out")) else { return Ok(()) };
    let message = format!("its data was moved from the server to {}", row.get(1).unwrap_or("a file"));
    Err(Failure::told(Error::new(ErrorKind::Conflict, message).advise(
        "there: `rowhouse migrate-backend --to postgres` moves it back; or use that home instead of the server",
    )))
}

impl Bulk<'_> {
    /// Writes a move down, in the schema as it is in this transaction. `place`: for `Out` where the rows go, for `In` where
    /// they come from.
    ///
    /// # Errors
    /// Of the server.
    pub(crate) fn mark(&mut self, schema: &str, id: &str, direction: Direction, place: &str) -> Result<()> {
        self.batch(&format!("CREATE TABLE IF NOT EXISTS {schema}.{COLUMNS}"))?;
        let word = match direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        let insert = format!(
            "INSERT INTO {schema}.rowhouse_move(number, id, direction, place) \
             SELECT coalesce(max(number), 0) + 1, $1::text::uuid, $2, $3 FROM {schema}.rowhouse_move"
        );
        self.execute(&insert, &[&id, &word, &place])
    }

    /// Puts a schema aside under another name, and begins one in its place that says so.
    ///
    /// # Errors
    /// `ReadOnly` when it is not this user's; of the server.
    pub(crate) fn put_aside(&mut self, schema: &str, aside: &str, id: &str, place: &str) -> Result<()> {
        let there = format!("to_regclass('{aside}.rowhouse_move') IS NOT NULL");
        self.batch(&format!(
            "ALTER SCHEMA {schema} RENAME TO {aside}; CREATE SCHEMA {schema}; CREATE TABLE {schema}.{COLUMNS}"
        ))?;
        if self.says(&there)? {
            self.batch(&format!("INSERT INTO {schema}.rowhouse_move SELECT * FROM {aside}.rowhouse_move"))?;
        }
        self.mark(schema, id, Direction::Out, place)
    }

    /// Refuses a schema whose rows were moved away.
    ///
    /// # Errors
    /// `Conflict`, saying where they are; of the server.
    pub(crate) fn refuse_moved(&mut self, schema: &str) -> Result<()> {
        if self.says(&format!("to_regclass('{schema}.rowhouse_move') IS NOT NULL"))? {
            return self.judged(|connection| refuse(connection, schema));
        }
        Ok(())
    }

    /// Whether this move was committed. With the schema's lock nobody is just committing it.
    ///
    /// # Errors
    /// Of the server.
    pub(crate) fn is_marked(&mut self, schema: &str, id: &str) -> Result<bool> {
        if !self.says(&format!("to_regclass('{schema}.rowhouse_move') IS NOT NULL"))? {
            return Ok(false);
        }
        self.says(&format!("EXISTS (SELECT 1 FROM {schema}.rowhouse_move WHERE id = '{id}')"))
    }

    /// Whether a condition holds.
    pub(crate) fn says(&mut self, condition: &str) -> Result<bool> {
        let found = self.rows(&format!("SELECT ({condition})::int"))?;
        Ok(found.first().and_then(|row| row.first()?.as_deref()) == Some("1"))
    }
}
