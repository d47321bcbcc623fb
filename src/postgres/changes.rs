//! Whether something was committed in a domain since it was last looked, by any program on any machine.
//!
//! Each write that changes something leaves its id in `rowhouse_operation` (`operation.rs`), with its transaction's number. A
//! look keeps the snapshot it was made in, and the next one asks for numbers that this one could not see: those behind it, and
//! those that were under way. So a look costs the same however much was written, and misses nothing, in whatever order
//! transactions that overlap are committed.
//!
//! Who waits looks every [`POLL`], and at once when it hears that there is something (`listener.rs`). Hearing only makes it
//! faster: whatever becomes of a notification, the next look finds the change.
//!
//! Tests: `tests/changes_on_postgres.rs`.

use std::time::{Duration, Instant};

use super::database::Shared;
use super::failure::Failure;
use super::tries::Tries;
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::guard;

/// How long a change may stay unseen by somebody who waits for one, at most: the time of a look comes on top.
const POLL: Duration = Duration::from_secs(1);
/// How long a look may take, also of somebody who does not wait.
const SHORTEST_LOOK: Duration = Duration::from_secs(1);
/// A look that is older finds its operations removed perhaps: half the time for which they are kept, in seconds.
const TOO_OLD: i64 = 15 * 60;

/// What was seen last.
#[derive(Default)]
pub(super) struct Seen {
    /// The snapshot of that look.
    at: Option<Snapshot>,
    /// Grows with every look that found something.
    count: u64,
}

struct Snapshot {
    /// As the server writes it: `xmin:xmax:` and those between that were under way.
    text: String,
    behind: u64,
    /// The server's clock, in Unix seconds.
    time: i64,
}

impl Shared {
    /// Counts up with every change that is seen.
    pub(super) fn changes(&self, deadline: Instant) -> Result<u64> {
        let mut tries = Tries::until(deadline);
        loop {
            let failure = match self.look(deadline) {
                Ok(count) => return Ok(count),
                Err(failure) => failure,
            };
            tries.again(failure, |time| self.server.pool.rest(time))?;
        }
    }

    fn look(&self, deadline: Instant) -> Result<u64, Failure> {
        let mut connection = self.server.pool.take(deadline).map_err(Failure::told)?;
        // Behind the connection: who waits for one holds up nobody who has one.
        let late =
            || Failure::told(Error::new(ErrorKind::Timeout, "the server did not answer until the deadline"));
        let mut seen = self.seen.try_lock_until(deadline).ok_or_else(late)?;
        let table = format!("{}.rowhouse_operation", self.schema);
        let news = seen.at.as_ref().map_or_else(
            || "TRUE".to_owned(),
            |Snapshot { text, .. }| {
                format!(
                    "EXISTS (SELECT 1 FROM {table} WHERE committed AND xid >= pg_snapshot_xmax('{text}')) \
                     OR EXISTS (SELECT 1 FROM pg_snapshot_xip('{text}') AS under_way \
                                JOIN {table} ON xid = under_way WHERE committed)"
                )
            },
        );
        let text = format!(
            "SELECT pg_current_snapshot()::text, pg_snapshot_xmax(pg_current_snapshot())::text, \
             extract(epoch FROM clock_timestamp())::bigint, ({news})::int"
        );
        let rows = connection.rows(&text)?;
        let found = rows.first().and_then(|row| {
            let now = Snapshot {
                text: row.get(0)?.to_owned(),
                behind: row.get(1)?.parse().ok()?,
                time: row.get(2)?.parse().ok()?,
            };
            Some((now, row.get(3)? == "1"))
        });
        let (now, has_news) = found.ok_or_else(|| {
            Failure::told(Error::new(ErrorKind::Unsupported, "the server does not say what it has seen"))
        })?;
        // A server that was restored counts from before; one that nobody asked for long has forgotten.
        let is_lost = |last: &Snapshot| now.behind < last.behind || now.time - last.time > TOO_OLD;
        if has_news || seen.at.as_ref().is_some_and(is_lost) {
            seen.count += 1;
        }
        seen.at = Some(now);
        Ok(seen.count)
    }

    /// Waits until the count is another one than `seen`, or until `deadline`; answers the count.
    pub(super) fn wait_for_change(&self, seen: u64, deadline: Instant) -> Result<u64> {
        guard::refuse_in_job()?;
        let listener = &self.server.listener;
        let _waits = listener.wait_with(&self.server, &self.schema);
        loop {
            let heard = listener.heard(&self.domain);
            match self.changes(deadline.max(Instant::now() + SHORTEST_LOOK)) {
                Ok(count) if count == seen && Instant::now() < deadline => {}
                found => return found,
            }
            listener.wait(&self.domain, heard, deadline.min(Instant::now() + POLL));
        }
    }
}
