//! How much may be written: [`Domain::max_write_rate`](crate::Domain::max_write_rate).
//!
//! A token bucket that holds a quarter of what may be written in the time given, and is full at the start. What is counted
//! is how the write-ahead log grows from commit to commit, whoever wrote it: so all processes together keep the bound, as
//! far as each of them commits. Each page counts twice, because it is copied to the main file later.
//!
//! Invariants:
//! 1. Counting costs a lock that nobody waits for, a look at the clock and one at the log's header per commit, of domains
//!    that have the bound.
//! 2. Who was over it is let in again when a 64th of the bucket is full, not for each byte.
//!
//! Tests: `tests/bounds_are_kept.rs`, and below.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::admission::Bound;
use super::checkpoint::PAGE;
use super::ffi;
use super::log_cap::{FRAME, size};
use super::shared::Shared;
use crate::error::{Error, ErrorKind};

/// The part of what may be written in the time given that may be written at once.
const AT_ONCE: u64 = 4;
/// The part of the bucket that is full before work is let in again.
const AGAIN: f64 = 1.0 / 64.0;

/// The log at one moment.
#[derive(Clone, Copy)]
struct Log {
    pages: u64,
    /// Its header's number, which is another one each time it begins anew (<https://sqlite.org/fileformat.html>, section
    /// 4.1); none where there is no file.
    begun: Option<[u8; 4]>,
    /// What this connection has written to it since it was opened; pages of a transaction that is larger than the page
    /// cache more than once.
    own: u32,
}

impl Log {
    fn of(connection: &Connection, pages: u64) -> Self {
        let begun = ffi::read_log_header(connection)
            .ok()
            .map(|header| [header[12], header[13], header[14], header[15]]);
        Self { pages, begun, own: ffi::pages_written(connection) }
    }
}

pub(super) struct WriteRate {
    bytes: u64,
    per: Duration,
    /// What may still be written, in bytes; below zero when it was too much.
    left: f64,
    filled: Instant,
    /// After the last commit; unknown at the start.
    log: Option<Log>,
    /// Pages that came to the log before that, since the commit before; and whether others wrote some of them.
    last: u64,
    beside_others: bool,
}

impl WriteRate {
    pub(super) fn new(bound: (u64, Duration), now: Instant) -> Self {
        let (bytes, per) = bound;
        let mut rate = Self {
            bytes,
            per: per.max(Duration::from_millis(1)),
            left: 0.0,
            filled: now,
            log: None,
            last: 0,
            beside_others: false,
        };
        rate.left = rate.bucket();
        rate
    }

    fn bucket(&self) -> f64 {
        (self.bytes / AT_ONCE) as f64
    }

    fn per_second(&self) -> f64 {
        self.bytes as f64 / self.per.as_secs_f64()
    }

    fn fill(&mut self, now: Instant) {
        let time = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.left = (self.left + time * self.per_second()).min(self.bucket());
    }

    /// The log is like this at `now`. True when nothing may be written any more.
    fn grew_to(&mut self, log: Log, now: Instant) -> bool {
        let before = self.log.replace(log).unwrap_or(log);
        let own = u64::from(log.own.wrapping_sub(before.own) & (u32::MAX >> 1));
        let new = match log.pages.checked_sub(before.pages) {
            Some(new) if log.begun == before.begun => {
                self.beside_others = new > own;
                new
            }
            // It began anew, also where others have made it longer than it was. What they had added to the old one is not
            // known: as much as the last time.
            _ => log.pages + if self.beside_others { self.last } else { 0 },
        };
        let new = new.max(own);
        self.last = new;
        self.fill(now);
        self.left -= (new * (FRAME + PAGE)) as f64;
        self.left < 0.0
    }

    /// How long it takes until work is let in again; nothing when it may be now.
    fn wait(&mut self, now: Instant) -> Duration {
        self.fill(now);
        let missing = self.bucket() * AGAIN - self.left;
        if missing < 0.0 || (missing == 0.0 && self.bytes > 0) {
            return Duration::ZERO;
        }
        // Where nothing may be written, it is looked at again and stays so.
        Duration::try_from_secs_f64(missing / self.per_second()).unwrap_or(self.per)
    }

    fn over(&mut self, now: Instant) -> Error {
        let (bytes, seconds) = (size(self.bytes), self.per.as_secs());
        let per = match seconds {
            _ if seconds > 0 && seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
            _ if seconds > 0 && seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
            _ => format!("{:?}", self.per),
        };
        Error::new(
            ErrorKind::Full,
            format!("more was written than the {bytes} in {per} that may be; writes are refused for a while"),
        )
        .advise("write less, or raise Domain::max_write_rate")
        .retry_in(self.wait(now))
    }
}

/// After a commit that left the log this long.
pub(super) fn committed(shared: &Shared, connection: &Connection, pages: u64) {
    let Some(rate) = &shared.write_rate else { return };
    let log = Log::of(connection, pages);
    let (mut rate, now) = (rate.lock(), Instant::now());
    if rate.grew_to(log, now) && !shared.admission.is_reached(Bound::WriteRate) {
        let over = rate.over(now);
        // Others may be told of it now, and write.
        drop(rate);
        shared.shut(Bound::WriteRate, over);
    }
}

/// The files are open: what is in the log by now does not count.
pub(super) fn attached(shared: &Shared, connection: &Connection) {
    let Some(rate) = &shared.write_rate else { return };
    // What keeps it from looking is met by the next write; the first commit does not count then.
    rate.lock().log = ffi::checkpoint_noop(connection).ok().map(|found| Log::of(connection, found.log));
}

/// Lets work in again when it is time.
pub(super) fn look(shared: &Shared) {
    if shared.write_rate.as_ref().is_none_or(|rate| rate.lock().wait(Instant::now()).is_zero()) {
        shared.open_again(Bound::WriteRate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pages: u64) -> Log {
        Log { pages, begun: None, own: 0 }
    }

    #[test]
    fn a_log_that_began_anew_and_is_longer_than_before_counts_whole() {
        let start = Instant::now();
        let mut rate = WriteRate::new((4 << 20, Duration::from_hours(1)), start);
        let log = |pages, begun| Log { pages, begun: Some([0, 0, 0, begun]), own: 0 };
        rate.grew_to(log(100, 1), start);
        let full = rate.left;
        rate.grew_to(log(110, 1), start);
        assert!((full - rate.left - (10 * (FRAME + PAGE)) as f64).abs() < 1.0);
        // And ten more, as many as others added the last time.
        rate.grew_to(log(115, 2), start);
        assert!((full - rate.left - (135 * (FRAME + PAGE)) as f64).abs() < 1.0);
    }

    #[test]
    fn what_a_large_transaction_writes_twice_counts_twice_and_nobody_else_is_guessed_at() {
        let start = Instant::now();
        let mut rate = WriteRate::new((4 << 20, Duration::from_hours(1)), start);
        let log = |pages, begun, own| Log { pages, begun: Some([0, 0, 0, begun]), own };
        rate.grew_to(log(100, 1, 100), start);
        let full = rate.left;
        rate.grew_to(log(110, 1, 120), start);
        rate.grew_to(log(30, 2, 150), start);
        assert!((full - rate.left - (50 * (FRAME + PAGE)) as f64).abs() < 1.0);
    }

    /// Pages that take this many bytes.
    fn pages(bytes: u64) -> u64 {
        bytes / (FRAME + PAGE)
    }

    #[test]
    fn in_any_span_no_more_is_let_in_than_one_and_a_quarter_times_the_bound() {
        let start = Instant::now();
        let (bytes, hour) = (400 << 20, Duration::from_hours(1));
        let mut rate = WriteRate::new((bytes, hour), start);
        let (mut log, mut own, mut written, mut shut) = (0, 0, 0, false);
        rate.grew_to(at(0), start);
        for second in 0..3600 {
            let now = start + Duration::from_secs(second);
            shut = shut && !rate.wait(now).is_zero();
            if !shut {
                // A storm: a mebibyte a second, and a log that begins anew when it is four long.
                log = if log > pages(3 << 20) { pages(1 << 20) } else { log + pages(1 << 20) };
                written += pages(1 << 20) * (FRAME + PAGE);
                own += u32::try_from(pages(1 << 20)).expect("a small number");
                shut = rate.grew_to(Log { own, ..at(log) }, now);
            }
        }
        assert!(written > bytes && written < bytes / 4 * 5 + (2 << 20), "{written}");
    }

    #[test]
    fn where_nothing_may_be_written_it_stays_shut() {
        let start = Instant::now();
        let mut rate = WriteRate::new((0, Duration::from_mins(90)), start);
        rate.grew_to(at(0), start);
        assert!(rate.grew_to(at(1), start) && !rate.wait(start + Duration::from_hours(9)).is_zero());
        assert!(rate.over(start).message().contains("0 MiB in 90 min"));
    }

    #[test]
    fn a_quiet_program_is_never_refused_and_the_bucket_fills_up_again() {
        let start = Instant::now();
        let day = Duration::from_hours(24);
        let mut rate = WriteRate::new((4 << 30, day), start);
        assert!(!rate.grew_to(at(1_000_000), start), "what was there before does not count");
        assert!(!rate.grew_to(at(1_000_000 + pages(1 << 30)), start), "a quarter at once");
        assert!(rate.grew_to(at(1_000_000 + pages(1 << 30) + 2), start), "and not more");
        let wait = rate.wait(start);
        assert!(wait > Duration::from_mins(5) && wait < Duration::from_mins(7), "{wait:?}");
        assert!(rate.wait(start + wait).is_zero());
        rate.fill(start + day);
        assert!((rate.left - rate.bucket()).abs() < 1.0);
    }
}
