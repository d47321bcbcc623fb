//! Whether writes are let in: which bounds of a database are reached, and whether that refuses work.
//!
//! Invariants:
//! 1. While no bound is reached, asking costs one relaxed load.
//! 2. A best-effort database refuses at once while a bound is reached: nobody waits, nothing grows. A required one goes on
//!    and only raises the alarm.
//! 3. Work that makes room ([`Lane::Background`](crate::handoff::lanes::Lane)) is let in while only the file is too
//!    large, where SQLite itself refuses what would make it larger, or the disk too full: what filled it must be able to
//!    give back. So that lane is for work that makes room, and not for what fills.
//! 4. It ends by itself: whoever finds that a bound is not reached any more opens it.
//!
//! Tests: below; each bound where it is enforced.

use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;

use crate::error::Error;
use crate::handoff::lanes::Lane;

/// A bound that a database may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// The write-ahead log has grown to its cap ([`checkpoint`](super::checkpoint)).
    LogCap,
    /// The files take all the bytes they may ([`space`](super::space)).
    Space,
    /// More was written than may be for now ([`write_rate`](super::write_rate)).
    WriteRate,
    /// What is left on the disk is kept for required databases.
    DiskReserve,
}

impl Bound {
    /// In the order in which they are told.
    const ALL: [Self; 4] = [Self::LogCap, Self::Space, Self::WriteRate, Self::DiskReserve];

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Bounds that refuse this kind of work.
    fn refusing(lane: Lane) -> u8 {
        match lane {
            Lane::Normal => u8::MAX,
            Lane::Background => !(Self::Space.bit() | Self::DiskReserve.bit()),
        }
    }
}

/// Which bounds are reached.
#[derive(Default)]
pub(super) struct Admission {
    /// By bit: those that refuse work. Changed with `why` locked.
    shut: AtomicU8,
    /// By bit: those that are reached, whether or not they refuse.
    reached: AtomicU8,
    /// Why, by bound.
    why: Mutex<[Option<Error>; Bound::ALL.len()]>,
}

impl Admission {
    /// A bound is reached; from now on it refuses work, or only says so. Answers whether that is news.
    pub(super) fn reach(&self, bound: Bound, why: Error, refuses: bool) -> bool {
        let mut all = self.why.lock();
        all[bound as usize] = Some(why);
        let known = self.reached.fetch_or(bound.bit(), Ordering::Relaxed) & bound.bit() != 0;
        let shut = if refuses {
            self.shut.fetch_or(bound.bit(), Ordering::Relaxed)
        } else {
            self.shut.fetch_and(!bound.bit(), Ordering::Relaxed)
        };
        !known || (refuses && shut & bound.bit() == 0)
    }

    /// It is not reached any more.
    pub(super) fn open(&self, bound: Bound) {
        let mut all = self.why.lock();
        all[bound as usize] = None;
        self.shut.fetch_and(!bound.bit(), Ordering::Relaxed);
        self.reached.fetch_and(!bound.bit(), Ordering::Relaxed);
    }

    /// True while this bound is reached.
    pub(super) fn is_reached(&self, bound: Bound) -> bool {
        self.reached.load(Ordering::Relaxed) & bound.bit() != 0
    }

    /// True while this bound refuses work.
    pub(super) fn refuses(&self, bound: Bound) -> bool {
        self.shut.load(Ordering::Relaxed) & bound.bit() != 0
    }

    /// True while some bound is reached.
    pub(super) fn any_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed) != 0
    }

    /// Why this work is not let in, if it is not.
    pub(super) fn refusal(&self, lane: Lane) -> Option<Error> {
        let refusing = self.shut.load(Ordering::Relaxed) & Bound::refusing(lane);
        if refusing == 0 {
            return None;
        }
        // Opened meanwhile: then there is no reason any more.
        self.first_of(refusing)
    }

    /// What to tell about it: a bound that refuses comes before one that does not.
    pub(super) fn alarm(&self) -> Option<Error> {
        let shut = self.shut.load(Ordering::Relaxed);
        self.first_of(shut).or_else(|| self.first_of(u8::MAX))
    }

    fn first_of(&self, bounds: u8) -> Option<Error> {
        let all = self.why.lock();
        let mut wanted = Bound::ALL.into_iter().filter(|bound| bounds & bound.bit() != 0);
        wanted.find_map(|bound| all[bound as usize].clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn why(message: &'static str) -> Error {
        Error::new(ErrorKind::Full, message)
    }

    fn refused(admission: &Admission, lane: Lane) -> Option<String> {
        admission.refusal(lane).map(|error| error.message().to_owned())
    }

    #[test]
    fn each_bound_refuses_until_it_is_opened_and_the_first_one_is_told() {
        let admission = Admission::default();
        assert_eq!(refused(&admission, Lane::Normal), None);
        admission.reach(Bound::WriteRate, why("rate"), true);
        admission.reach(Bound::LogCap, why("log"), true);
        assert_eq!(refused(&admission, Lane::Normal).as_deref(), Some("log"));
        admission.open(Bound::LogCap);
        assert_eq!(refused(&admission, Lane::Normal).as_deref(), Some("rate"));
        admission.open(Bound::WriteRate);
        assert_eq!(refused(&admission, Lane::Normal), None);
        assert!(!admission.any_reached() && admission.alarm().is_none());
    }

    #[test]
    fn what_makes_room_is_let_in_while_only_the_file_is_too_large_or_the_disk_too_full() {
        let admission = Admission::default();
        admission.reach(Bound::Space, why("space"), true);
        assert_eq!(refused(&admission, Lane::Normal).as_deref(), Some("space"));
        assert_eq!(refused(&admission, Lane::Background), None);
        admission.reach(Bound::DiskReserve, why("disk"), true);
        assert_eq!(refused(&admission, Lane::Background), None);
        admission.reach(Bound::LogCap, why("log"), true);
        assert_eq!(refused(&admission, Lane::Background).as_deref(), Some("log"));
    }

    #[test]
    fn an_alarm_refuses_nothing_and_one_that_refuses_comes_first() {
        let admission = Admission::default();
        assert!(admission.reach(Bound::LogCap, why("log"), false), "news");
        assert!(!admission.reach(Bound::LogCap, why("log"), false), "known");
        assert_eq!(refused(&admission, Lane::Normal), None);
        assert!(admission.is_reached(Bound::LogCap));
        assert_eq!(admission.alarm().expect("one").message(), "log");
        admission.reach(Bound::WriteRate, why("rate"), true);
        assert_eq!(admission.alarm().expect("two").message(), "rate");
        // An alarm may begin to refuse, and end doing so.
        assert!(admission.reach(Bound::LogCap, why("log"), true), "news");
        assert_eq!(refused(&admission, Lane::Background).as_deref(), Some("log"));
        assert!(!admission.reach(Bound::LogCap, why("log"), false), "milder");
        assert_eq!(refused(&admission, Lane::Background).as_deref(), Some("rate"));
    }
}
