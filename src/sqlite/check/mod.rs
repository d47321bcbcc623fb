//! Reads the whole file again and again, in the background: damage is found before somebody needs the row.
//!
//! Invariants:
//! 1. Never on the way to ready: the first pass begins [`Limits::check_every`](crate::Limits) after that, however the last
//!    program ended.
//! 2. It reads only. An idle database is not read again before [`ANYWAY`]: a pass begins when the file or its log changed
//!    since the last one began, by whoever.
//! 3. A step takes about [`STEP`], its snapshot with it, and is followed by a rest: a fiftieth of a core for a file of up to
//!    100 MB, at most a tenth for a large one. While callers wait in the queue it rests for longer, up to [`GIVE_WAY`].
//! 4. One process of a home does it, as long as it lives: who has the lock file. So nothing has to be written for the others
//!    to know of.
//! 5. Damage is told in one place, [`Shared::damaged`], after a second look.
//!
//! What was read comes from the file system: it sees what others wrote over the file at once, and what went bad on the disk
//! below when the system reads it anew.
//!
//! Tests: `tests/background_checks.rs`; the parts in `walk` and `plan`.

mod pass;
mod plan;
mod walk;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use super::connect::Spec;
use super::holders::{self, Holder};
use super::shared::{Shared, warn};
use crate::error::{Error, Result};
use crate::home;
use crate::presence::Held;
use crate::sync::Arc;
use pass::{Done, Pass, STEP};

/// How often it is looked whether a pass is due.
const LOOK_EVERY: Duration = Duration::from_millis(900);
/// A file that nobody changes is read again after so long, for what goes bad on the disk itself.
const ANYWAY: Duration = Duration::from_hours(6);
/// After a step a database of up to [`SMALL_PAGES`] rests for so many times as long as the step took; a larger one less, but
/// not below [`SHORTEST_REST`].
const REST: u64 = 49;
const SHORTEST_REST: u64 = 9;
/// 100 MB.
const SMALL_PAGES: u64 = 25_000;
/// 400 MB. A pass of a larger file is followed by a pause that is as many times as long as its rests.
const LARGE_PAGES: u64 = 100_000;
const PAUSE_OF_LARGE: u32 = 10;
/// For how long a step waits for callers who are in the queue.
const GIVE_WAY: Duration = Duration::from_millis(500);
/// How long opening the files anew waits for a step under way.
const LET_GO: Duration = Duration::from_millis(500);

/// What the background checks of a database found.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct CheckState {
    /// The last pass over the whole file that this process ended.
    pub last: Option<Checked>,
    /// How far the pass under way is, in percent.
    pub percent: Option<u8>,
    /// The process that checks this database instead of this one.
    pub elsewhere: Option<Holder>,
    /// Why the last try did not come to its end.
    pub trouble: Option<String>,
}

/// A pass over a whole file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Checked {
    /// When it ended, in RFC 3339.
    pub at: String,
    /// How long it took, rests included, in milliseconds.
    pub took_ms: u64,
    /// Pages of the file.
    pub pages: u64,
    /// Rows and entries of indexes that were read.
    pub entries: u64,
    /// Tables and indexes that could not be read, because this program lacks a function or a collation of their schema.
    pub skipped: u64,
    /// The damage that it ended with.
    pub damage: Option<String>,
}

impl Checked {
    /// True when there was no damage.
    pub fn is_ok(&self) -> bool {
        self.damage.is_none()
    }
}

/// What a pass ended with.
pub(super) enum Damage {
    /// A page that makes no sense.
    Pages(Error),
    /// An index has what its table lacks, or the other way round.
    Trees(Error),
}

pub(super) struct Checker {
    began: Instant,
    /// When the writer looks next, in milliseconds since `began`.
    next: AtomicU64,
    stopped: AtomicBool,
    state: Mutex<State>,
    wakes: Condvar,
    /// Held during a step: whoever opens other files waits for its connection to close.
    step: Mutex<()>,
}

#[derive(Default)]
struct State {
    told: CheckState,
    thread: Option<JoinHandle<()>>,
    /// The process's right to check, once it has it.
    lock: Option<Held>,
    /// Another process had it at the last try.
    refused: bool,
    /// What the files were like when the last pass began, and when.
    seen: Option<(Seen, Instant)>,
    /// No pass begins before.
    not_before: Option<Instant>,
}

/// Changes when somebody writes to the file or its log.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen([Option<(SystemTime, u64)>; 2]);

impl Seen {
    fn of(spec: &Spec) -> Self {
        Self([&spec.path, &home::with_ending(&spec.path, "-wal")].map(|path| {
            let found = std::fs::symlink_metadata(path).ok()?;
            Some((found.modified().ok()?, found.len()))
        }))
    }
}

impl Checker {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            next: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            state: Mutex::default(),
            wakes: Condvar::new(),
            step: Mutex::new(()),
        }
    }

    /// Called by the writer between its batches and when it is idle: begins a pass when one is due. Costs a look at the
    /// clock.
    pub(super) fn tend(&self, shared: &Arc<Shared>) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now < self.next.load(Ordering::Relaxed) {
            return;
        }
        let every = shared.spec.limits.check_every;
        self.next
            .store(now + u64::try_from(LOOK_EVERY.min(every).as_millis()).unwrap_or(1000), Ordering::Relaxed);
        if self.began.elapsed() < every || shared.spec.memory.is_some() || !shared.health.is_writable() {
            return;
        }
        if let Err(error) = self.begin(shared) {
            self.put_off(every, &error);
        }
    }

    fn begin(&self, shared: &Arc<Shared>) -> Result<()> {
        let mut state = self.state.lock();
        let now = Instant::now();
        if self.stopped.load(Ordering::Acquire)
            || state.thread.as_ref().is_some_and(|thread| !thread.is_finished())
            || state.not_before.is_some_and(|then| now < then)
        {
            return Ok(());
        }
        let found = Seen::of(&shared.spec);
        if state.seen.is_some_and(|(seen, at)| seen == found && at.elapsed() < ANYWAY) {
            return Ok(());
        }
        if state.lock.is_none() {
            state.lock = Held::try_alone(&shared.spec.check_lock)?;
            state.refused = state.lock.is_none();
            if state.refused {
                state.not_before = Some(now + shared.spec.limits.check_every);
                return Ok(());
            }
        }
        state.seen = Some((found, now));
        state.told.percent = Some(0);
        let theirs = shared.clone();
        let name = format!("rowhouse-check-{}", shared.spec.domain.name());
        let started = std::thread::Builder::new().name(name).spawn(move || work(&theirs));
        // The one before has ended.
        state.thread = Some(started.map_err(|error| {
            state.told.percent = None;
            Error::io("start a thread for", &shared.spec.path, error)
        })?);
        Ok(())
    }

    fn put_off(&self, time: Duration, trouble: &Error) {
        let mut state = self.state.lock();
        state.not_before = Some(Instant::now() + time);
        // Looked at again, whether it changes or not.
        state.seen = None;
        state.told.percent = None;
        let told_before = state.told.trouble.replace(trouble.to_string()).is_some();
        drop(state);
        if !told_before && !trouble.is_transient() {
            warn(&format_args!("a file could not be checked: {trouble}"));
        }
    }

    pub(super) fn state(&self, spec: &Spec) -> CheckState {
        let state = self.state.lock();
        let (mut told, refused) = (state.told.clone(), state.refused);
        drop(state);
        if refused {
            told.elsewhere = holders::flock_holder(&spec.check_lock);
        }
        told
    }

    /// Waits until the connection of a step under way is closed, but not for long. The caller has seen to it that no
    /// other step begins: health says that the files are being opened.
    pub(super) fn let_go(&self) {
        drop(self.step.try_lock_for(LET_GO));
    }

    /// Ends a pass under way, and lets another process check.
    pub(super) fn stop(&self) {
        let thread = {
            let mut state = self.state.lock();
            self.stopped.store(true, Ordering::Release);
            self.wakes.notify_all();
            state.thread.take()
        };
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        self.state.lock().lock = None;
    }

    /// Waits for so long. False when it is to stop.
    fn rest(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while !self.is_stopped() {
            if self.wakes.wait_until(&mut state, until).timed_out() {
                return !self.is_stopped();
            }
        }
        false
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// The thread's body: one pass.
fn work(shared: &Shared) {
    let own = &shared.checker;
    let began = Instant::now();
    let every = shared.spec.limits.check_every;
    let mut pass = None;
    let answer = run(shared, &mut pass);
    if own.is_stopped() {
        return;
    }
    let damage = match answer {
        // The files are being opened anew, or are latched.
        Ok(false) => {
            return own.put_off(every, &Error::new(crate::ErrorKind::Busy, "the database is not open"));
        }
        Ok(true) => None,
        Err(error) if pass::is_damage(&error) => Some(error),
        Err(error) => {
            return own.put_off(every, &shared.name(error));
        }
    };
    let took = began.elapsed();
    let pages = pass.as_ref().map_or(0, |pass| pass.pages);
    let pause = if pages > LARGE_PAGES { every.max(took * PAUSE_OF_LARGE) } else { every };
    {
        let mut state = own.state.lock();
        state.not_before = Some(Instant::now() + pause);
        state.told.percent = None;
        state.told.trouble = None;
        state.told.last = Some(Checked {
            at: jiff::Timestamp::now().to_string(),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            pages,
            entries: pass.as_ref().map_or(0, |pass| pass.entries),
            skipped: pass.as_ref().map_or(0, |pass| pass.skipped),
            damage: damage.as_ref().map(|error| error.message().to_owned()),
        });
    }
    if let Some(damage) = damage {
        let differs = damage.downcast_ref::<pass::TreesDiffer>().is_some();
        shared.damaged(if differs { Damage::Trees(damage) } else { Damage::Pages(damage) });
    }
}

/// Reads all of it. False when that had to stop.
fn run(shared: &Shared, under_way: &mut Option<Pass>) -> Result<bool> {
    let own = &shared.checker;
    let mut took = Duration::ZERO;
    loop {
        if took > Duration::ZERO
            && !own.rest(rest_after(took, under_way.as_ref().map_or(0, |pass| pass.pages)))
        {
            return Ok(false);
        }
        give_way(shared);
        let _step = own.step.lock();
        if own.is_stopped() || shared.is_forked() || !shared.health.is_writable() {
            return Ok(false);
        }
        let from = Instant::now();
        let done = match under_way {
            None => {
                *under_way = Some(Pass::begin(shared)?);
                Done::Step
            }
            Some(pass) => pass.step(shared, &|| own.is_stopped())?,
        };
        took = from.elapsed();
        if let (Done::Pass, _) | (_, true) = (&done, own.is_stopped()) {
            return Ok(!own.is_stopped());
        }
        own.state.lock().told.percent = under_way.as_ref().map(Pass::percent);
    }
}

/// A file twice as large is read twice as fast, from 100 MB on, so that a pass of some hundred MB takes no longer; a core is
/// never used for more than a tenth.
fn rest_after(took: Duration, pages: u64) -> Duration {
    let times = (REST * SMALL_PAGES / pages.max(SMALL_PAGES)).max(SHORTEST_REST);
    took * u32::try_from(times).unwrap_or(1)
}

/// Lets callers who wait in the queue go first.
fn give_way(shared: &Shared) {
    let until = Instant::now() + GIVE_WAY;
    while shared.lanes.len() > 0 && Instant::now() < until && shared.checker.rest(STEP) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_costs_a_fiftieth_of_a_core_and_a_large_one_a_tenth() {
        let took = Duration::from_millis(10);
        let share = |pages| took.as_secs_f64() / (took + rest_after(took, pages)).as_secs_f64();
        assert!((share(10) - 0.02).abs() < 0.001 && (share(SMALL_PAGES) - 0.02).abs() < 0.001);
        assert!(share(4 * SMALL_PAGES) > 0.07 && share(u64::MAX / REST) < 0.101);
    }
}
