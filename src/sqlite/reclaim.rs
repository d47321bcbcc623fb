//! Gives the free pages of a file back to the disk, a few milliseconds at a time.
//!
//! Rows that are deleted leave free pages behind, and the file stays as long as it ever was. Giving all of them back at
//! once holds the write lock for seconds and writes the whole file to the log; so it is done in steps.
//!
//! Invariants:
//! 1. A step is one short transaction of the writer between two batches, with the turn. It ends after [`HOLD`] whatever is
//!    left, and the writer then rests for several times as long: nobody waits for more than a step.
//! 2. It adds nothing to a long log: above the soft limit the checkpointer is first.
//! 3. One process of a home does it at a time: who has the lock file.
//! 4. Nothing is written unless the free part is worth it: more than a quarter of the file and more than [`WORTH`]. It
//!    ends at a twentieth: the next rows find room.
//! 5. Afterwards the log is worked off, which is when the file gets shorter.
//!
//! A free page is found by walking the list of free pages, so a step of a file with gigabytes of them frees fewer: such a
//! file takes hours in the background, and `compact` minutes.
//!
//! Tests: below; `tests/space_comes_back.rs`.

pub(crate) mod pages;

use std::time::{Duration, Instant};

use super::batch::{self, Overruled};
use super::core::Core;
use super::ffi::{self, Checkpointed};
use super::shared::{Shared, warn};
use super::space;
use super::stats;
use crate::error::Result;
use crate::handoff::job::Ran;
use crate::handoff::lanes::Lane;
use crate::presence::Held;
use pages::Pages;

/// How often the free part is looked at. A little less than the idle writer's own look, which it uses.
const LOOK_EVERY: Duration = Duration::from_millis(900);
/// The same after something was in the way: somebody else at it, a log that does not start anew, trouble.
const LATER: Duration = Duration::from_secs(10);
/// While the checkpointer works off a long log; twice as long each time, up to six seconds.
const AFTER_THE_LOG: Duration = Duration::from_millis(100);
/// How long a step holds the write lock, its commit included, as far as that can be foreseen.
pub(crate) const HOLD: Duration = Duration::from_millis(8);
/// How many times as long as a step took the writer rests after it.
const REST: u32 = 3;
const SHORTEST_REST: Duration = Duration::from_millis(10);
/// The size of a page: the limits in bytes need no more than that.
const PAGE: u64 = 4096;
/// Free bytes that are worth it.
const WORTH: u64 = 4 << 20;
/// Free bytes that stay in any case.
const STAYS: u64 = 1 << 20;
/// The bounds of a step in pages; what is between them follows from the time that steps take. A commit of the fewest costs
/// about as much as a commit of one: on a busy machine, where every step seems slow, fewer would only make it take longer.
const FIRST: u32 = 64;
const FEWEST: u32 = 16;
const MOST: u32 = 512;

/// True when it is worth it to begin.
fn is_worth_it(found: Pages) -> bool {
    found.free * PAGE > WORTH && found.free * 4 > found.all
}

/// True when it is time to end.
fn is_enough(found: Pages) -> bool {
    found.free <= (STAYS / PAGE).max(found.all / 20)
}

/// How many pages a step frees.
#[derive(Clone, Copy)]
pub(crate) struct Pace(u32);

impl Pace {
    pub(crate) fn new() -> Self {
        Self(FIRST)
    }

    pub(crate) fn pages(self) -> u32 {
        self.0
    }

    /// After a step that took so long, from taking the lock to giving it back. A step that had room for one page only says
    /// nothing of how long others take.
    pub(crate) fn took(&mut self, room: Room, time: Duration) {
        if room != Room::Step {
            return;
        }
        if time > HOLD {
            // A commit has a cost of its own, so half as many pages may take as long: down in halves.
            self.0 = (self.0 / 2).max(FEWEST);
        } else if time < HOLD / 2 {
            self.0 = (self.0 * 2).min(MOST);
        }
    }

    /// How long to leave the database to others after that.
    pub(crate) fn rest(time: Duration) -> Duration {
        (time * REST).max(SHORTEST_REST)
    }

    /// When a step that begins now stops freeing: its commit takes about as long.
    pub(crate) fn until() -> Instant {
        Instant::now() + HOLD / 2
    }
}

/// What may be added to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// A whole step.
    Step,
    /// One page: all is worked off, and whoever commits next starts the log anew.
    OnePage,
    /// Nothing: it has to be worked off first.
    None,
}

impl Room {
    /// How many pages a step may free.
    pub(super) fn pages(self, pace: Pace) -> u32 {
        match self {
            Self::Step => pace.pages(),
            Self::OnePage => 1,
            Self::None => 0,
        }
    }

    /// `soft` pages are a long log.
    pub(super) fn in_log(log: Checkpointed, soft: u64) -> Self {
        match log {
            log if log.log < soft => Self::Step,
            log if log.done >= log.log => Self::OnePage,
            _ => Self::None,
        }
    }
}

/// The writer's part in it.
pub(super) struct Reclaimer {
    next: Instant,
    pace: Pace,
    /// Held from the first step to the last.
    at_it: Option<Doing>,
    /// After the last step: the log's length then, and how often it was looked whether that is worked off.
    to_shorten: Option<(u64, u32)>,
    /// Steps in a row that were put off until the log is worked off.
    waits: u32,
    /// What is in the way was told, and is not told again before a step went well.
    told: bool,
}

/// This process gives pages back.
struct Doing {
    /// The lock file; none for what only this process can reach.
    _lock: Option<Held>,
}

impl Reclaimer {
    pub(super) fn new() -> Self {
        Self {
            next: Instant::now() + LOOK_EVERY,
            pace: Pace::new(),
            at_it: None,
            to_shorten: None,
            waits: 0,
            told: false,
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// When the idle writer should come back for it, if that is before its own look.
    pub(super) fn wakes(&self) -> Option<Instant> {
        self.at_it.as_ref().map(|_| self.next)
    }

    /// A look, and a step when it is worth it. Called inside the gate between two batches; whether the turn is held or not,
    /// it is left afterwards when there was a step.
    pub(super) fn run(&mut self, core: &mut Core, shared: &Shared) {
        self.next = Instant::now() + LOOK_EVERY;
        let let_in = shared.admission.refusal(Lane::Background).is_none();
        if !shared.health.is_writable() || shared.is_unsettled() || !let_in {
            self.at_it = None;
            return;
        }
        if let Err(error) = self.try_run(core, shared) {
            self.put_off();
            if !std::mem::replace(&mut self.told, true) {
                let name = shared.spec.domain.name();
                warn(&format_args!("{name}: free pages could not be given back: {error}"));
            }
        }
    }

    fn try_run(&mut self, core: &mut Core, shared: &Shared) -> Result<()> {
        let connection = core.tx.connection();
        let found = Pages::of(connection)?;
        stats::set(&shared.counters.free_pages, found.free);
        if self.at_it.is_none() && !self.begin(core, shared, found)? {
            return Ok(());
        }
        if is_enough(found) {
            return self.end(core, shared);
        }
        let log = ffi::checkpoint_noop(core.tx.connection())?;
        let room = Room::in_log(log, shared.checkpointer.lengths().soft);
        if room == Room::None {
            shared.checkpointer.ask();
            self.wait_for_the_log(self.waits);
            return Ok(());
        }
        let waits = self.waits;
        if !self.step(core, shared, room)? {
            self.put_off();
        } else if room == Room::OnePage && core.gauge.pages() > log.log {
            // Somebody reads what is in it, or the checkpointer was just at it: it did not start anew.
            self.wait_for_the_log(waits);
        }
        Ok(())
    }

    fn wait_for_the_log(&mut self, waits: u32) {
        self.next = Instant::now() + (AFTER_THE_LOG * (1 << waits.min(6)));
        self.waits = waits + 1;
    }

    /// Whether to begin.
    fn begin(&mut self, core: &Core, shared: &Shared, found: Pages) -> Result<bool> {
        if !is_worth_it(found) {
            self.shorten(core, shared)?;
            return Ok(false);
        }
        if !pages::can_be_freed(core.tx.connection())? {
            if !std::mem::replace(&mut self.told, true) {
                shared.health.warn(format!(
                    "{} of its {} pages are free, and cannot be given back to the disk one by one, because it was made \
                     without auto_vacuum: stop its programs and run `rowhouse compact {}`",
                    found.free,
                    found.all,
                    shared.spec.domain.name()
                ));
            }
            return Ok(false);
        }
        let mut lock = None;
        if shared.spec.memory.is_none() {
            lock = Held::try_alone(&shared.spec.reclaim_lock)?;
            if lock.is_none() {
                // Another process is at it.
                self.put_off();
                return Ok(false);
            }
        }
        self.at_it = Some(Doing { _lock: lock });
        Ok(true)
    }

    /// One step. False when the turn or the lock did not come.
    fn step(&mut self, core: &mut Core, shared: &Shared, room: Room) -> Result<bool> {
        if !core.take_turn(shared.spec.limits.turn_wait) {
            return Ok(false);
        }
        let from = Instant::now();
        let answer = give_back(core, shared, room.pages(self.pace));
        core.turn.leave();
        let took = from.elapsed();
        let Some(freed) = answer? else { return Ok(false) };
        stats::add(&shared.counters.reclaimed_pages, freed);
        stats::add(&shared.counters.reclaim_steps, 1);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        stats::add(&shared.counters.reclaim_us, micros);
        stats::highest(&shared.counters.reclaim_longest_us, micros);
        self.pace.took(room, took);
        (self.waits, self.told) = (0, false);
        // Also when this should be the last step, because something is in the way of the next.
        self.to_shorten = Some((core.gauge.pages(), 0));
        self.next = Instant::now() + Pace::rest(took);
        shared.committed(core);
        Ok(true)
    }

    fn end(&mut self, core: &mut Core, shared: &Shared) -> Result<()> {
        self.at_it = None;
        // A file that was larger than it may be must not grow to that again.
        space::look(core, shared);
        self.to_shorten = Some((core.gauge.pages(), 0));
        self.shorten(core, shared)
    }

    /// The file gets shorter when the last step is worked off. That is seen to, at longer and longer intervals, because a
    /// reader may be in the way.
    fn shorten(&mut self, core: &Core, shared: &Shared) -> Result<()> {
        let Some((length, looks)) = self.to_shorten else { return Ok(()) };
        let log = ffi::checkpoint_noop(core.tx.connection())?;
        if log.done >= log.log || log.log < length {
            self.to_shorten = None;
            return Ok(());
        }
        shared.checkpointer.ask();
        self.to_shorten = Some((length, looks + 1));
        self.next = Instant::now() + LOOK_EVERY * looks.clamp(1, 30);
        Ok(())
    }

    /// Something is in the way.
    pub(super) fn put_off(&mut self) {
        self.at_it = None;
        self.next = Instant::now() + LATER;
    }
}

/// One transaction that gives back up to `most` pages. `None` when somebody else has the write lock.
fn give_back(core: &mut Core, shared: &Shared, most: u32) -> Result<Option<u64>> {
    if !batch::try_begin(core, shared)? {
        return Ok(None);
    }
    let mut freed = Ok(0);
    let overruled = batch::transact(core, shared, |tx| {
        freed = pages::free(tx.connection(), most, Pace::until());
        if freed.is_ok() { Ran::Fine } else { Ran::Failed }
    });
    match overruled {
        Some(Overruled::ByJob(error) | Overruled::ByTrouble(error)) => Err(error),
        None => Ok(Some(freed?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_or_well_used_file_is_left_alone() {
        let pages = |all, free| Pages { all, free };
        assert!(!is_worth_it(pages(1000, 999)), "less than 4 MiB");
        assert!(!is_worth_it(pages(100_000, 25_000)), "a quarter is not more than a quarter");
        assert!(is_worth_it(pages(100_000, 25_001)));
        assert!(!is_enough(pages(100_000, 5_001)) && is_enough(pages(100_000, 5_000)));
        assert!(is_enough(pages(300, 256)), "a mebibyte stays");
    }

    #[test]
    fn steps_get_shorter_when_they_take_too_long_and_longer_again() {
        let mut pace = Pace::new();
        for _ in 0..10 {
            pace.took(Room::Step, HOLD * 2);
        }
        assert_eq!((pace.pages(), Room::Step.pages(pace)), (FEWEST, FEWEST));
        pace.took(Room::OnePage, HOLD / 4);
        assert_eq!((pace.pages(), Room::OnePage.pages(pace)), (FEWEST, 1), "one page says nothing");
        for _ in 0..20 {
            pace.took(Room::Step, HOLD / 4);
        }
        assert_eq!(pace.pages(), MOST, "the shortest steps are left as well");
        pace.took(Room::Step, HOLD / 8 * 7);
        pace.took(Room::OnePage, HOLD * 2);
        assert_eq!(pace.pages(), MOST, "as it should be");
    }

    #[test]
    fn a_long_log_gets_no_longer() {
        let log = |log, done| Room::in_log(Checkpointed { log, done, busy: false }, 1024);
        assert_eq!(log(1023, 0), Room::Step);
        assert_eq!(log(1024, 1023), Room::None);
        assert_eq!(log(9000, 9000), Room::OnePage);
    }
}
