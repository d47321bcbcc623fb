//! How much may be written: [`Domain::max_write_rate`](crate::Domain::max_write_rate).
//!
//! A token bucket that holds a quarter of what may be written in the time given, and is full when the database is new. All
//! processes share it, and it outlives them: a program that is started again and again gets no new one. Each takes out what
//! it writes to the log, twice, because a page is copied to the main file later.
//!
//! `locks/<name>.rate` holds one number, the time when the bucket is full again, in nanoseconds of the system's clock. To
//! take bytes out is to move that time on; to fill up needs nobody.
//!
//! Invariants:
//! 1. Counting costs a look at the clock and an atomic addition per commit, of domains that have the bound.
//! 2. Who was over it is let in again when a 64th of the bucket is full, not for each byte.
//! 3. Wherever the clock jumps to, work is let in again after the bound's own time.
//!
//! Tests: `tests/bounds_are_kept.rs`, and below.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;

use super::admission::Bound;
use super::checkpoint::PAGE;
use super::connect::Spec;
use super::ffi::PagesWritten;
use super::identity::wall_clock_ns;
use super::log_cap::{FRAME, size};
use super::shared::{Shared, warn};
use super::shared_number::SharedNumber;
use crate::error::{Error, ErrorKind};

/// The part of what may be written in the time given that may be written at once.
const AT_ONCE: u64 = 4;
/// The part of the bucket that is full before work is let in again.
const AGAIN: u64 = 64;

pub(super) struct WriteRate {
    bytes: u64,
    per: Duration,
    /// When the bucket is full again. `None` before the database is opened, and where the number cannot be had.
    full_at: Option<SharedNumber>,
    counted: PagesWritten,
}

impl WriteRate {
    pub(super) fn new((bytes, per): (u64, Duration)) -> Self {
        Self {
            bytes,
            per: per.max(Duration::from_millis(1)),
            full_at: None,
            counted: PagesWritten::default(),
        }
    }

    fn per_ns(&self) -> u64 {
        u64::try_from(self.per.as_nanos()).unwrap_or(u64::MAX)
    }

    /// How long the empty bucket takes to be full.
    fn bucket_ns(&self) -> u64 {
        self.per_ns() / AT_ONCE
    }

    /// How long it takes until so many bytes may be written again.
    fn cost_ns(&self, bytes: u64) -> u64 {
        let cost = u128::from(bytes) * u128::from(self.per_ns()) / u128::from(self.bytes.max(1));
        u64::try_from(cost).unwrap_or(u64::MAX)
    }

    /// When the bucket is full at the latest, however much was written, and whatever the clock said before.
    fn latest(&self, now: u64) -> u64 {
        now.saturating_add(self.per_ns())
    }

    /// This process wrote so many pages. True when nothing may be written any more.
    fn wrote(&mut self, pages: u64, now: u64) -> bool {
        let Some(full_at) = &self.full_at else { return false };
        let cost = self.cost_ns(pages * (FRAME + PAGE));
        let latest = self.latest(now);
        let full_at = full_at.update(|full_at| full_at.max(now).saturating_add(cost).min(latest));
        self.bytes == 0 || full_at - now > self.bucket_ns()
    }

    /// How long it takes until work is let in again; nothing when it may be now.
    fn wait(&self, now: u64) -> Duration {
        if self.bytes == 0 {
            // It is looked at again, and stays so.
            return self.per;
        }
        let latest = self.latest(now);
        let full_at = self.full_at.as_ref().map_or(0, |full_at| match full_at.get() {
            // Written only where it changes something: whoever waits looks often.
            found if found > latest => full_at.update(|found| found.min(latest)),
            found => found,
        });
        let enough = self.bucket_ns() - self.bucket_ns() / AGAIN;
        Duration::from_nanos(full_at.saturating_sub(now).saturating_sub(enough))
    }

    fn over(&self, now: u64) -> Error {
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

/// The clock that all processes have in common.
fn clock() -> u64 {
    u64::try_from(wall_clock_ns()).unwrap_or(0)
}

impl Spec {
    /// The file of the number.
    fn rate_file(&self) -> PathBuf {
        self.room.with_extension("rate")
    }
}

/// After a commit.
pub(super) fn committed(shared: &Shared, connection: &Connection) {
    let Some(rate) = &shared.write_rate else { return };
    let (mut rate, now) = (rate.lock(), clock());
    let pages = rate.counted.since_last(connection);
    if rate.wrote(pages, now) && !shared.admission.is_reached(Bound::WriteRate) {
        let over = rate.over(now);
        // Others may be told of it now, and write.
        drop(rate);
        shared.shut(Bound::WriteRate, over);
    }
}

/// The files are open: what their connection has written by now does not count.
pub(super) fn attached(shared: &Shared, connection: &Connection) {
    let Some(rate) = &shared.write_rate else { return };
    let mut rate = rate.lock();
    rate.counted = PagesWritten::from_now(connection);
    if rate.full_at.is_some() || shared.spec.memory.is_some() {
        return;
    }
    match SharedNumber::open(&shared.spec.rate_file()) {
        Ok(number) => rate.full_at = Some(number),
        // Logging goes on without the bound rather than not at all.
        Err(error) => warn(&shared.name(error)),
    }
}

/// Lets work in again when it is time.
pub(super) fn look(shared: &Shared) {
    if shared.write_rate.as_ref().is_none_or(|rate| rate.lock().wait(clock()).is_zero()) {
        shared.open_again(Bound::WriteRate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    /// Some day in 2026.
    const START: u64 = 1_790_000_000 * SECOND;

    /// Pages that take this many bytes.
    fn pages(bytes: u64) -> u64 {
        bytes / (FRAME + PAGE)
    }

    /// What several processes have, of one database.
    fn rates<const N: usize>(bytes: u64, per: Duration) -> (tempfile::TempDir, [WriteRate; N]) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.rate");
        let rates = std::array::from_fn(|_| WriteRate {
            full_at: Some(SharedNumber::open(&path).expect("a number")),
            ..WriteRate::new((bytes, per))
        });
        (folder, rates)
    }

    #[test]
    fn in_any_span_no_more_is_let_in_than_one_and_a_quarter_times_the_bound() {
        let bytes = 400 << 20;
        let (_folder, mut rates) = rates::<2>(bytes, Duration::from_hours(1));
        let (mut written, mut shut) = (0, [false; 2]);
        for second in 0..3600 {
            let now = START + second * SECOND;
            // A storm in two processes: a mebibyte a second.
            for (rate, shut) in rates.iter_mut().zip(&mut shut) {
                *shut = *shut && !rate.wait(now).is_zero();
                if !*shut {
                    written += pages(1 << 19) * (FRAME + PAGE);
                    *shut = rate.wrote(pages(1 << 19), now);
                }
            }
        }
        assert!(written > bytes && written < bytes / 4 * 5 + (2 << 20), "{written}");
    }

    #[test]
    fn where_nothing_may_be_written_it_stays_shut() {
        let (_folder, [mut rate]) = rates(0, Duration::from_mins(90));
        assert!(rate.wrote(1, START) && !rate.wait(START + 9 * 3600 * SECOND).is_zero());
        assert!(rate.over(START).message().contains("0 MiB in 90 min"));
    }

    #[test]
    fn a_quiet_program_is_never_refused_and_the_bucket_fills_up_again() {
        let (_folder, [mut rate]) = rates(4 << 30, Duration::from_hours(24));
        assert!(!rate.wrote(pages(1 << 30), START), "a quarter at once");
        assert!(rate.wrote(2, START), "and not more");
        let wait = rate.wait(START);
        assert!(wait > Duration::from_mins(5) && wait < Duration::from_mins(7), "{wait:?}");
        let later = START + u64::try_from(wait.as_nanos()).expect("minutes");
        assert!(rate.wait(later).is_zero());
        let next_day = START + 24 * 3600 * SECOND;
        assert!(!rate.wrote(pages(1 << 30), next_day) && rate.wrote(2, next_day), "it was full again");
    }

    #[test]
    fn a_process_that_starts_finds_the_bucket_as_the_others_left_it() {
        let (folder, [mut rate]) = rates(4 << 30, Duration::from_hours(24));
        assert!(!rate.wrote(pages(1 << 30), START));
        drop(rate);
        let full_at = Some(SharedNumber::open(&folder.path().join("a.rate")).expect("the number"));
        let mut next = WriteRate { full_at, ..WriteRate::new((4 << 30, Duration::from_hours(24))) };
        assert!(next.wrote(2, START + SECOND / 100), "nothing was left for it");
    }

    #[test]
    fn a_clock_that_jumps_shuts_nobody_out_for_longer_than_the_bounds_own_time() {
        let hour = Duration::from_hours(1);
        let (_folder, [mut rate]) = rates(4 << 20, hour);
        // Years ahead, and back.
        assert!(!rate.wrote(pages(1 << 19), START * 2));
        let wait = rate.wait(START);
        assert!(!wait.is_zero() && wait < hour, "{wait:?}");
        assert!(rate.wait(START + 3600 * SECOND).is_zero(), "nobody has to write for that");
        // Ahead: as if that time had passed.
        assert!(rate.wrote(pages(2 << 20), START + 3600 * SECOND) && rate.wait(START * 2).is_zero());
    }
}
