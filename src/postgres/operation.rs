//! Whether a write is there whose acknowledgement was lost.
//!
//! Each write that changes something leaves its own id in `rowhouse_operation`, in its transaction. When the connection is
//! lost while it is committed, the same id is written once more, as one that is not committed: whichever row comes first
//! stays. So either the write is found, or it can never come any more, also when a server still works at it.
//!
//! Ids are kept for [`KEPT`]; who cannot reach a server for longer than [`LONGEST_QUESTION`] is told that nobody knows. So is
//! who was stopped or suspended meanwhile for so long that the id of a write that is there may have been removed.
//!
//! What is answered is as durable as any commit: the question writes too, so its own commit waits for what the write's had
//! to wait for, a synchronous standby say.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::failure::{Class, Failure};
use super::listener::notification;
use super::pool::Pool;
use super::tries::{Tries, random};
use crate::error::{Error, ErrorKind, Result};

/// How long an id is kept, by the server's clock. Far more than [`LONGEST_QUESTION`], whatever a clock does in between.
const KEPT: Duration = Duration::from_mins(30);
const LONGEST_QUESTION: Duration = Duration::from_mins(5);
const LONGEST_AFTER: Duration = Duration::from_secs(5);

/// Writes of a process after which it removes old ids: twice as many as it left since.
const SWEPT_EVERY: u64 = 1_000;

/// One write.
pub(super) struct Operation {
    id: Uuid,
    /// When it began, by [`since_boot`].
    began: Duration,
}

impl Operation {
    pub(super) fn new() -> Self {
        Self { id: Uuid::now_v7(), began: since_boot() }
    }

    /// Whether an id that is not there may have been removed.
    fn may_be_forgotten(&self, now: Duration) -> bool {
        now.saturating_sub(self.began) > KEPT / 2
    }

    /// Leaves the id, tells who listens, and commits. A write that changed nothing leaves none. The deadline does not count
    /// any more: a commit that waits for a standby would be given up and answered as if it had come there.
    pub(super) fn commit(&self, domain: &str) -> String {
        format!(
            "INSERT INTO rowhouse_operation(id, committed) \
             SELECT '{}', TRUE WHERE pg_current_xact_id_if_assigned() IS NOT NULL; {}; \
             SET LOCAL statement_timeout = 0; COMMIT",
            self.id,
            notification(domain)
        )
    }

    /// Whether it was committed; if not, it never will be. That is asked until the deadline, and where that is near for
    /// `after` from now, at most [`LONGEST_AFTER`]: an answer is worth more than the time, and a new primary takes a
    /// second.
    ///
    /// # Errors
    /// `OutcomeUnknown` when no server could be asked in time, or this process or machine stood still for too long.
    pub(super) fn was_committed(
        &self,
        pool: &Pool,
        schema: &str,
        deadline: Instant,
        after: Duration,
    ) -> Result<bool> {
        let now = Instant::now();
        let until = deadline.clamp(now + after.min(LONGEST_AFTER), now + LONGEST_QUESTION);
        let mut tries = Tries::until(until);
        loop {
            let failure = match self.ask(pool, schema, until) {
                Ok(false) if self.may_be_forgotten(since_boot()) => {
                    let message = "this process was stopped or suspended";
                    return Err(unknown(Error::new(ErrorKind::OutcomeUnknown, message)));
                }
                Ok(found) => return Ok(found),
                Err(failure) => failure,
            };
            tries.again(failure, |time| pool.rest(time)).map_err(unknown)?;
        }
    }

    fn ask(&self, pool: &Pool, schema: &str, until: Instant) -> Result<bool, Failure> {
        let mut connection = pool.take(until).map_err(Failure::told)?;
        let left = until.saturating_duration_since(Instant::now()).as_millis().max(1);
        // Read committed: the second statement sees what the first one had to wait for. A row that is there is written as it
        // is: a transaction that writes nothing waits for no standby, and who was committing it may have been ended while it
        // did.
        let text = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL statement_timeout = {left}; \
             SET LOCAL search_path = {schema}; \
             INSERT INTO rowhouse_operation(id, committed) VALUES ('{0}', FALSE) \
             ON CONFLICT (id) DO UPDATE SET committed = rowhouse_operation.committed; \
             SELECT committed::int FROM rowhouse_operation WHERE id = '{0}'; COMMIT",
            self.id
        );
        let rows = connection.rows(&text).map_err(|mut failure| {
            // The transaction is still open when a statement failed.
            connection.give_up();
            // A standby that is about to take over says so.
            if failure.error.kind() == ErrorKind::ReadOnly {
                failure.class = Class::Again;
                connection.leave_server();
            }
            failure
        })?;
        Ok(rows.first().and_then(|row| row.get(0)) == Some("1"))
    }
}

fn unknown(error: Error) -> Error {
    let why = error.message().to_owned();
    error.as_kind(ErrorKind::OutcomeUnknown).worded(format!(
        "the connection was lost while the write was committed, and no server could be asked for it since: {why}"
    ))
}

/// How long the system runs. It counts on while a system is suspended, which `Instant` does not.
fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    Duration::try_from(rustix::time::clock_gettime(clock)).unwrap_or_default()
}

/// When a process removes old ids: once in [`SWEPT_EVERY`] writes. The first time is left to chance: of many processes that
/// write less than that each, some do it.
pub(super) struct Sweeps(AtomicU64);

impl Sweeps {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new((random() * SWEPT_EVERY as f64) as u64))
    }

    /// Counts a write; whether it is time.
    pub(super) fn is_due(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) % SWEPT_EVERY == SWEPT_EVERY - 1
    }
}

/// Removes ids that nobody asks for any more.
pub(super) fn sweep(schema: &str) -> String {
    format!(
        "DELETE FROM {schema}.rowhouse_operation WHERE id IN (SELECT id FROM {schema}.rowhouse_operation \
         WHERE at < (extract(epoch FROM clock_timestamp()) * 1000)::bigint - {} ORDER BY at LIMIT {} \
         FOR UPDATE SKIP LOCKED)",
        KEPT.as_millis(),
        2 * SWEPT_EVERY
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_asked_for_in_vain_only_while_it_cannot_have_been_removed() {
        let operation = Operation::new();
        let after = |time| operation.may_be_forgotten(operation.began + time);
        assert!(!after(Duration::ZERO) && !after(LONGEST_QUESTION + LONGEST_AFTER));
        assert!(after(KEPT) && after(Duration::from_hours(9)), "a night with the lid closed");
    }

    #[test]
    fn many_short_processes_remove_old_ids_as_often_as_a_long_one() {
        let swept = |processes: u64, writes: u64| {
            let due = |_| {
                let sweeps = Sweeps::new();
                (0..writes).filter(|_| sweeps.is_due()).count()
            };
            (0..processes).map(due).sum::<usize>()
        };
        assert!((99..=101).contains(&swept(1, 100 * SWEPT_EVERY)));
        // 500 are expected, and the deviation is about 22.
        assert!((250..=750).contains(&swept(100_000, 5)), "nobody would remove what these leave");
    }
}
