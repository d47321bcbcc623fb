//! How long the write-ahead log may get, and what follows when it cannot be kept so short.
//!
//! A log is worked off and then begins anew, so its length stays near the soft limit. It grows past that only while
//! somebody's snapshot needs it ([`pins`]), or while the disk is too slow for what is written.
//!
//! Invariants:
//! 1. A best-effort database refuses writes from three quarters of the cap on; the rest is for what is under way. One
//!    transaction that is larger than that quarter still goes beyond the cap.
//! 2. A required database goes on, and its health says who is in the way; also when the log has not moved for as long as
//!    a read may last ([`Limits::reader_age`]), wherever the cap is.
//! 3. Nothing a checkpoint answers is thrown away: a round that found work and moved nothing, or failed, counts in the busy
//!    streak, and a long log is looked at again each second until one gets to the end.
//! 4. A log that was long is cut to nothing once it is worked off, so that it does not keep its largest size for ever;
//!    one of normal length is used again as it is.
//! 5. Who is in the way is looked for at most once a second, and not while anybody waits; but for one look at the table of
//!    locks in the commit that shuts a best-effort database.
//!
//! Tests: `tests/bounds_are_kept.rs`, and below.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;

use super::admission::Bound;
use super::checkpoint::PAGE;
use super::ffi::Checkpointed;
use super::holders::Effort;
use super::pins::{self, Pin};
use super::shared::{Shared, warn};
use crate::config::Limits;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};

/// A page in the log, with its header (<https://sqlite.org/fileformat.html>, section 4.1).
pub(super) const FRAME: u64 = PAGE + 24;

/// A log that has not moved for so long is pinned by one read; before, it may be many that follow each other.
const PINNED: Duration = Duration::from_secs(1);

/// How often it is looked who is in the way.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The lengths of the log at which something happens, in pages; the two in bytes say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lengths {
    /// It is worked off.
    pub(super) soft: u64,
    /// Once it is worked off its file is cut.
    pub(super) cut: u64,
    /// A best-effort database takes no more writes.
    pub(super) shut: u64,
    /// The cap, in bytes.
    pub(super) cap_bytes: u64,
    /// What SQLite keeps of a longer file when it begins anew, in bytes; a longer file at the start is cut.
    pub(super) kept_bytes: u64,
}

impl Lengths {
    pub(super) fn of(limits: &Limits, domain: &Domain) -> Self {
        let cap_bytes = domain.max_bytes.map_or(limits.wal_cap, |most| limits.wal_cap.min(most / 4));
        let soft_bytes = limits.wal_soft.min(cap_bytes / 4);
        let soft = (soft_bytes / PAGE).max(8);
        let shut = (cap_bytes / FRAME * 3 / 4).max(2 * soft);
        let cut = (6 * soft).min(shut);
        Self { soft, cut, shut, cap_bytes, kept_bytes: 2 * soft * PAGE }
    }
}

/// How the rounds of the checkpointer went.
#[derive(Default)]
pub(super) struct Progress {
    log: AtomicU64,
    lag: AtomicU64,
    streak: AtomicU64,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    log: u64,
    done: u64,
    stuck_since: Option<Instant>,
    /// Why the last round failed, if it did.
    failure: Option<Error>,
    /// Another process was at it.
    busy: bool,
    /// When it was last looked who is in the way.
    looked: Option<Instant>,
}

impl Progress {
    /// Pages in the log after the last round.
    pub(super) fn log(&self) -> u64 {
        self.log.load(Ordering::Relaxed)
    }

    /// Pages that the last round left in the log.
    pub(super) fn lag(&self) -> u64 {
        self.lag.load(Ordering::Relaxed)
    }

    /// Rounds in a row that moved nothing although there was something to move.
    pub(super) fn streak(&self) -> u64 {
        self.streak.load(Ordering::Relaxed)
    }

    /// True when nothing has moved for longer than most reads last, and does not now.
    pub(super) fn is_pinned_at(&self, found: Checkpointed, now: Instant) -> bool {
        let last = self.last.lock();
        let long = last.stuck_since.is_some_and(|since| now.saturating_duration_since(since) >= PINNED);
        long && !found.busy && found.done < found.log && found.done == last.done
    }

    /// After a round. Answers for how long none has moved anything.
    fn note(&self, found: Checkpointed, now: Instant) -> Duration {
        let mut last = self.last.lock();
        let left = found.log.saturating_sub(found.done);
        let moved = found.done != last.done || found.log < last.log;
        (last.log, last.done, last.busy, last.failure) = (found.log, found.done, found.busy, None);
        self.log.store(found.log, Ordering::Relaxed);
        self.lag.store(left, Ordering::Relaxed);
        if left == 0 || moved {
            last.stuck_since = None;
            self.streak.store(0, Ordering::Relaxed);
            return Duration::ZERO;
        }
        self.stuck(&mut last, now)
    }

    /// After a round that failed. Answers for how long none has moved anything, and whether the failure is news.
    fn note_failure(&self, why: &Error, now: Instant) -> (Duration, bool) {
        let mut last = self.last.lock();
        let code = |error: &Error| (error.kind(), error.sqlite_code());
        let before = last.failure.replace(why.clone());
        let news = before.is_none_or(|before| code(&before) != code(why));
        (self.stuck(&mut last, now), news)
    }

    fn stuck(&self, last: &mut Last, now: Instant) -> Duration {
        self.streak.fetch_add(1, Ordering::Relaxed);
        now.saturating_duration_since(*last.stuck_since.get_or_insert(now))
    }

    /// False when it was looked less than a second ago who is in the way.
    fn may_look(&self, now: Instant) -> bool {
        let mut last = self.last.lock();
        let due = last.looked.is_none_or(|at| now.saturating_duration_since(at) >= LOOK_EVERY);
        if due {
            last.looked = Some(now);
        }
        due
    }
}

/// After a commit that left the log this long.
pub(super) fn committed(shared: &Shared, connection: &Connection, pages: u64) {
    let lengths = shared.checkpointer.lengths();
    if pages >= lengths.shut {
        if shared.best_effort && !shared.admission.refuses(Bound::LogCap) {
            // Callers wait for this: the checkpointer looks closer.
            shared.shut(Bound::LogCap, at_cap(shared, Some(connection), pages, Effort::Table));
        }
    } else if pages < lengths.soft {
        shared.open_again(Bound::LogCap);
    }
}

/// After a round of the checkpointer, which left the log like this, or failed. `connection` is `None` when it could not be
/// opened.
pub(super) fn judge(shared: &Shared, connection: Option<&Connection>, round: Result<Checkpointed>) {
    let (now, lengths) = (Instant::now(), shared.checkpointer.lengths());
    let progress = &shared.checkpointer.progress;
    let (stuck, log) = match round {
        Ok(found) => (progress.note(found, now), found.log),
        Err(why) => {
            let (stuck, news) = progress.note_failure(&why, now);
            if news {
                let message = format!("the write-ahead log cannot be worked off: {}", why.message());
                warn(&why.worded(message));
            }
            (stuck, shared.checkpointer.wal_pages().max(progress.log()))
        }
    };
    let at_the_cap = log >= lengths.shut;
    if !at_the_cap && (stuck <= shared.spec.limits.reader_age || log < lengths.soft) {
        shared.open_again(Bound::LogCap);
        return;
    }
    let refuses = at_the_cap && shared.best_effort;
    let known =
        shared.admission.is_reached(Bound::LogCap) && (!refuses || shared.admission.refuses(Bound::LogCap));
    if !progress.may_look(now) && known {
        return;
    }
    if at_the_cap {
        shared.shut(Bound::LogCap, at_cap(shared, connection, log, Effort::All));
    } else {
        let why = format!(
            "the write-ahead log could not be worked off for {} s and grows",
            shared.spec.limits.reader_age.as_secs()
        );
        shared.alarm(Bound::LogCap, because(&why, shared, connection, log, Effort::All));
    }
}

fn at_cap(shared: &Shared, connection: Option<&Connection>, log: u64, effort: Effort) -> Error {
    let cap = size(shared.checkpointer.lengths().cap_bytes);
    let what = if shared.best_effort {
        format!("the write-ahead log is at its cap of {cap}, and writes are refused")
    } else {
        format!("the write-ahead log is at its cap of {cap} and grows")
    };
    because(&what, shared, connection, log, effort)
}

/// What is in the way, and what to do about it.
fn because(what: &str, shared: &Shared, connection: Option<&Connection>, log: u64, effort: Effort) -> Error {
    let last = shared.checkpointer.progress.last.lock();
    let (stuck_since, busy, failure) = (last.stuck_since, last.busy, last.failure.clone());
    drop(last);
    if let Some(why) = failure {
        let advice = why.advice().unwrap_or("see what is wrong with that disk").to_owned();
        return Error::new(ErrorKind::Full, format!("{what}: each try fails: {}", why.message()))
            .advise(advice)
            .retry_in(Duration::from_secs(1));
    }
    let checkpoint = if busy && effort == Effort::All { pins::find_checkpoint(shared) } else { None };
    let snapshot = || pins::find(shared, connection?, log, stuck_since, effort);
    blame(what, checkpoint.or_else(snapshot))
}

fn blame(what: &str, pin: Option<Pin>) -> Error {
    let full = |text: String| Error::new(ErrorKind::Full, text).retry_in(Duration::from_secs(1));
    match pin {
        Some(Pin::Process(holder)) => {
            let advice = if holder.stopped {
                format!("let process {0} go on (kill -CONT {0}), or end it", holder.pid)
            } else {
                format!("end the read of process {0}, or the process", holder.pid)
            };
            full(format!("{what}: a snapshot of another process needs it"))
                .held_by(Some(holder))
                .advise(advice)
        }
        Some(Pin::Checkpoint(holder)) => {
            let advice = format!("let process {0} go on (kill -CONT {0}), or end it", holder.pid);
            full(format!("{what}: another process is in the middle of working it off"))
                .held_by(Some(holder))
                .advise(advice)
        }
        Some(Pin::Read { age, label }) => {
            let whose = label.text().map_or_else(String::new, |label| format!(" ({label})"));
            full(format!("{what}: a read of this process{whose} that began {} s ago needs it", age.as_secs()))
                .advise("let that read end: copy what it needs, and work on it after")
        }
        Some(Pin::Own) => full(format!("{what}: a snapshot of this process needs it"))
            .advise("end the backup, or the connection of its own, that reads it"),
        None => {
            full(format!("{what}: reads that follow each other, or a slow disk, keep it from beginning anew"))
                .advise("write less, or read in shorter pieces; `rowhouse who` shows who has it open")
        }
    }
}

/// Bytes for a person.
pub(super) fn size(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{} KiB", bytes >> 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(log: u64, done: u64) -> Checkpointed {
        Checkpointed { log, done, busy: false }
    }

    #[test]
    fn the_lengths_keep_their_order_whatever_the_limits_are() {
        let default = Lengths::of(&Limits::default(), &Domain::new("a"));
        assert_eq!((default.soft, default.cap_bytes, default.kept_bytes), (1024, 64 << 20, 8 << 20));
        assert!(default.shut * FRAME <= 48 << 20, "{default:?}");
        for (soft, cap, most) in
            [(4 << 20, 1 << 20, None), (1, 1, None), (64 << 20, 64 << 20, Some(1 << 20)), (0, u64::MAX, None)]
        {
            let limits = Limits { wal_soft: soft, wal_cap: cap, ..Limits::default() };
            let domain = Domain { max_bytes: most, ..Domain::new("a") };
            let it = Lengths::of(&limits, &domain);
            assert!(it.soft < it.cut && it.cut <= it.shut, "{it:?}");
            assert!(it.soft > 8 || it.shut * FRAME <= it.cap_bytes.max(16 * FRAME), "{it:?}");
        }
    }

    #[test]
    fn a_streak_is_of_rounds_that_move_nothing_and_lasts_until_one_does() {
        let progress = Progress::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(progress.note(found(100, 40), at(0)), Duration::ZERO, "it moved up to the pin");
        assert_eq!((progress.streak(), progress.lag()), (0, 60));
        assert_eq!(progress.note(found(120, 40), at(1)), Duration::ZERO);
        assert_eq!(progress.note(found(150, 40), at(31)), Duration::from_secs(30));
        assert_eq!((progress.streak(), progress.lag()), (2, 110));
        assert!(
            progress.is_pinned_at(found(170, 40), at(31)) && !progress.is_pinned_at(found(170, 41), at(31))
        );
        assert!(!progress.is_pinned_at(found(170, 40), at(1)), "not for long");
        assert_eq!(progress.note(found(150, 60), at(32)), Duration::ZERO, "it moves");
        assert_eq!(progress.streak(), 0);
        progress.note(found(160, 60), at(33));
        assert_eq!(progress.note(found(20, 0), at(34)), Duration::ZERO, "it began anew");
        progress.note(found(20, 0), at(35));
        assert_eq!(progress.streak(), 1);
        progress.note(found(20, 20), at(36));
        assert_eq!((progress.streak(), progress.lag()), (0, 0), "nothing is left");
    }

    #[test]
    fn a_round_that_fails_counts_as_stuck_and_is_news_once() {
        let progress = Progress::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let why = |kind| Error::new(kind, "it failed");
        assert_eq!(progress.note_failure(&why(ErrorKind::Full), at(0)), (Duration::ZERO, true));
        assert_eq!(progress.note_failure(&why(ErrorKind::Full), at(2)), (Duration::from_secs(2), false));
        assert!(progress.note_failure(&why(ErrorKind::Io), at(3)).1, "something else");
        assert_eq!(progress.streak(), 3);
        progress.note(found(20, 10), at(4));
        assert_eq!(progress.streak(), 0);
        assert!(progress.note_failure(&why(ErrorKind::Io), at(5)).1, "again");
    }
}
