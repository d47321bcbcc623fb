//! How long the phases of opening a database took.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::layout::Word;
use crate::telemetry::{Span, span};

/// A part of opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Look,
    LockWait,
    Connect,
    Migrate,
    Attach,
}

const PHASES: [(Phase, &str); 5] = [
    (Phase::Look, "look"),
    (Phase::LockWait, "lock_wait"),
    (Phase::Connect, "connect"),
    (Phase::Migrate, "migrate"),
    (Phase::Attach, "attach"),
];

/// How long the phases of the opening under way took so far, in microseconds. A clone is the same one.
#[derive(Clone, Default)]
pub(crate) struct Times(Arc<[AtomicU64; PHASES.len()]>);

impl Times {
    /// Opening begins anew.
    pub(in crate::sqlite) fn begin(&self) {
        self.0.iter().for_each(|time| time.store(0, Relaxed));
    }

    /// The phase lasts until the answer is dropped.
    #[must_use]
    pub(in crate::sqlite) fn enter(&self, phase: Phase) -> Entered<'_> {
        #[allow(clippy::match_same_arms, reason = "without `tracing` every span is nothing")]
        let span = match phase {
            Phase::Look => span!("look"),
            Phase::LockWait => span!("lock_wait"),
            Phase::Connect => span!("connect"),
            Phase::Migrate => span!("migrate"),
            Phase::Attach => span!("attach"),
        };
        Entered { time: &self.0[phase as usize], since: Instant::now(), _span: span }
    }
}

/// A phase that goes on.
pub(crate) struct Entered<'t> {
    time: &'t AtomicU64,
    since: Instant,
    _span: Span,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.time.fetch_add(self.since.elapsed().as_micros() as u64, Relaxed);
    }
}

/// The first and the last opening.
#[derive(Default)]
#[repr(C)]
pub(crate) struct OpenTimes {
    first: [AtomicU64; PHASES.len()],
    last: [AtomicU64; PHASES.len()],
}

impl OpenTimes {
    /// The database is open; `first` when it is so for the first time.
    pub(in crate::sqlite) fn opened(&self, times: &Times, first: bool) {
        for (at, time) in times.0.iter().enumerate() {
            let time = time.load(Relaxed);
            self.last[at].store(time, Relaxed);
            if first {
                self.first[at].store(time, Relaxed);
            }
        }
    }

    pub(super) fn words() -> impl Iterator<Item = Word> {
        let words = |which| PHASES.iter().map(move |(_, phase)| Word::single(&word(which, phase)));
        words("first").chain(words("last"))
    }

    pub(super) fn read(&self) -> Opening {
        let load = |times: &[AtomicU64; PHASES.len()]| {
            OpenPhases::of(|phase, _| times[phase as usize].load(Relaxed))
        };
        Opening { first: load(&self.first), last: load(&self.last) }
    }
}

fn word(which: &str, phase: &str) -> String {
    format!("opening.{which}.{phase}_us")
}

/// How long opening a database took in its process: the first time, and the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Opening {
    /// The first time.
    pub first: OpenPhases,
    /// The last time: after it was opened again, or attached again.
    pub last: OpenPhases,
}

/// How long the phases of one opening took, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct OpenPhases {
    /// Looking at the file, its folder and its file system.
    pub look_us: u64,
    /// Waiting for somebody else who creates or migrates it.
    pub lock_wait_us: u64,
    /// Connecting, which reads the header and recovers the log.
    pub connect_us: u64,
    /// Finding out what is to be migrated, and migrating it.
    pub migrate_us: u64,
    /// All of it, from the first look until it is ready.
    pub attach_us: u64,
}

impl Opening {
    pub(super) fn of(value: impl Fn(&str) -> u64) -> Self {
        let phases = |which| OpenPhases::of(|_, phase| value(&word(which, phase)));
        Self { first: phases("first"), last: phases("last") }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.first.merge(&other.first);
        self.last.merge(&other.last);
    }
}

#[cfg(feature = "metrics")]
impl Opening {
    /// Which opening, which phase, how long in microseconds.
    pub(crate) fn phases(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        [("first", &self.first), ("last", &self.last)].into_iter().flat_map(|(opening, times)| {
            let times =
                [times.look_us, times.lock_wait_us, times.connect_us, times.migrate_us, times.attach_us];
            PHASES.iter().zip(times).map(move |((_, phase), time)| (opening, *phase, time))
        })
    }
}

impl OpenPhases {
    fn of(value: impl Fn(Phase, &str) -> u64) -> Self {
        let [look_us, lock_wait_us, connect_us, migrate_us, attach_us] =
            PHASES.map(|(phase, name)| value(phase, name));
        Self { look_us, lock_wait_us, connect_us, migrate_us, attach_us }
    }

    fn merge(&mut self, other: &Self) {
        for (own, other) in [
            (&mut self.look_us, other.look_us),
            (&mut self.lock_wait_us, other.lock_wait_us),
            (&mut self.connect_us, other.connect_us),
            (&mut self.migrate_us, other.migrate_us),
            (&mut self.attach_us, other.attach_us),
        ] {
            *own = (*own).max(other);
        }
    }
}
