//! Rows by key: through `Database::read`, and through a cached statement of a bare connection.

use std::time::{Duration, Instant};

use rowhouse::rusqlite::Connection;
use rowhouse::{Database, Result};

use super::histogram::Histogram;
use super::{SELECT, VALUE, bulk};

/// Rows of a table that is read from: they fit the page cache.
pub(crate) const ROWS: u64 = 10_000;
/// Reads between two looks at the clock, so that the clock is not what is measured.
const BLOCK: u32 = 16;

/// Picks keys evenly over the table without a random source.
#[derive(Default)]
pub(crate) struct Keys(u64);

impl Keys {
    pub(crate) fn next(&mut self) -> i64 {
        // Adding a number that shares no factor with ROWS meets every key once before it repeats.
        self.0 = (self.0 + 6_181) % ROWS;
        self.0 as i64 + 1
    }
}

/// Reads one row through the library.
///
/// # Errors
/// Those of the library.
pub(crate) fn through_library(database: &Database, key: i64) -> Result<usize> {
    database
        .read(|at| at.row(SELECT, [key], |row| row.get_ref(0)?.as_str().map(str::len).map_err(Into::into)))
}

/// Reads one row through a bare connection.
///
/// # Errors
/// Of SQLite.
pub(crate) fn through_connection(connection: &Connection, key: i64) -> Result<usize> {
    let mut statement = connection.prepare_cached(SELECT)?;
    Ok(statement.query_row([key], |row| row.get_ref(0)?.as_str().map(str::len).map_err(Into::into))?)
}

/// Fills both tables with the same rows.
///
/// # Errors
/// Those of the library; of SQLite.
pub(crate) fn fill(database: &Database, connection: Option<&mut Connection>) -> Result<()> {
    bulk::submit(database, ROWS)?;
    if let Some(connection) = connection {
        bulk::one_transaction(connection, ROWS)?;
    }
    Ok(())
}

/// What alternating reads took, library first.
pub(crate) struct Alternating {
    pub(crate) library: Histogram,
    pub(crate) connection: Histogram,
    pub(crate) reads_each: u64,
    pub(crate) library_seconds: f64,
    pub(crate) connection_seconds: f64,
}

/// Reads blocks of rows in turn through the library and the connection. A histogram's entry is the mean of a block.
///
/// # Errors
/// Those of the library; of SQLite.
pub(crate) fn alternate(database: &Database, connection: &Connection, time: Duration) -> Result<Alternating> {
    let mut seen = Alternating {
        library: Histogram::default(),
        connection: Histogram::default(),
        reads_each: 0,
        library_seconds: 0.0,
        connection_seconds: 0.0,
    };
    let mut keys = Keys::default();
    let begun = Instant::now();
    while begun.elapsed() < time {
        let took = block(|key| through_library(database, key), &mut keys)?;
        seen.library.record(took / BLOCK);
        seen.library_seconds += took.as_secs_f64();
        let took = block(|key| through_connection(connection, key), &mut keys)?;
        seen.connection.record(took / BLOCK);
        seen.connection_seconds += took.as_secs_f64();
        seen.reads_each += u64::from(BLOCK);
    }
    Ok(seen)
}

fn block(read: impl Fn(i64) -> Result<usize>, keys: &mut Keys) -> Result<Duration> {
    let begun = Instant::now();
    let mut bytes = 0;
    for _ in 0..BLOCK {
        bytes += read(keys.next())?;
    }
    let took = begun.elapsed();
    assert_eq!(bytes, VALUE.len() * BLOCK as usize, "every key of the table is there, with its whole value");
    Ok(took)
}

/// Reads one row after another through the library until the time is up, each call timed.
///
/// # Errors
/// Those of the library.
pub(crate) fn read_for(database: &Database, time: Duration) -> Result<(Histogram, u64, f64)> {
    let mut latency = Histogram::default();
    let mut keys = Keys::default();
    let mut reads = 0;
    let begun = Instant::now();
    let mut before = begun;
    while before - begun < time {
        through_library(database, keys.next())?;
        let after = Instant::now();
        latency.record(after - before);
        before = after;
        reads += 1;
    }
    Ok((latency, reads, (before - begun).as_secs_f64()))
}
