//! Many rows from one thread: through `submit`, and in one big transaction.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rowhouse::rusqlite::{Connection, TransactionBehavior};
use rowhouse::{Database, Limits, Result};

use super::{INSERT, KEY, VALUE};

/// Submits `rows` inserts and waits for every ticket. As many are on their way as the queue holds.
///
/// # Errors
/// The first one that a ticket answered.
pub(crate) fn submit(database: &Database, rows: u64) -> Result<Duration> {
    let window = Limits::default().queue_jobs;
    let mut tickets = VecDeque::with_capacity(window);
    let begun = Instant::now();
    for number in 0..rows as i64 {
        if tickets.len() == window
            && let Some(oldest) = tickets.pop_front()
        {
            wait(oldest)?;
        }
        tickets.push_back(database.submit(move |tx| tx.execute(INSERT, (KEY, VALUE, number)))?);
    }
    tickets.into_iter().try_for_each(wait)?;
    Ok(begun.elapsed())
}

fn wait(ticket: rowhouse::Ticket<usize>) -> Result<()> {
    ticket.wait().map(drop)
}

/// Inserts `rows` rows in one transaction: the ceiling.
///
/// # Errors
/// Of SQLite.
pub(crate) fn one_transaction(connection: &mut Connection, rows: u64) -> Result<Duration> {
    let begun = Instant::now();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut insert = transaction.prepare_cached(INSERT)?;
        for number in 0..rows as i64 {
            insert.execute((KEY, VALUE, number))?;
        }
    }
    transaction.commit()?;
    Ok(begun.elapsed())
}
