//! A process's turn at the write lock.
//!
//! Two locks, the lobby and the room ([`locks`]): who wants to write takes the lobby, then the room, and leaves the lobby. A
//! process that just had the room queues in the lobby behind those who wait; with one flock it would barge past the
//! waiter that the kernel is still waking.
//!
//! Invariants:
//! 1. Nobody waits for a turn that does not move longer than the bound given: there is no timed flock, so a helper thread blocks, and a
//!    turn that comes too late is given back at once. The writer has then gone on without (SQLite's own lock still
//!    keeps it safe; only the fairness is gone).
//! 2. While the helper is still stuck behind a stopped process, nobody waits for the turn again.
//! 3. The kernel frees the turn of a process that dies.
//! 4. A caller that commits again and again while nobody waits may keep the turn over several commits, for at most a
//!    millisecond; then it goes to the end of the line. If the caller does not come back, the writer gives the turn back.

pub(super) mod locks;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::clock::instant_after;
use crate::error::Result;
use locks::Locks;

pub(super) struct Turn {
    /// Shared with the helper thread, which may outlive the database while it is stuck. `None` where no other process can
    /// be: it is always this one's turn.
    locks: Option<Arc<Locks>>,
    helper: Option<Arc<Helper>>,
    held: bool,
    /// It came after a wait: others want it too.
    waited: bool,
    /// Turns for which it does not stay awake, because the processors are too busy for that.
    tired: u32,
    /// When it was left after such a wait.
    left: Option<Instant>,
    /// While it is held between two commits: when it ends at the latest.
    kept_until: Option<Instant>,
    /// When the last commit that used it ended.
    last_use: Option<Instant>,
}

/// How long a turn is kept at most.
pub(super) const LONGEST_KEPT: Duration = Duration::from_millis(1);
/// A caller that writes again within this time is expected to do so again.
const SOON: Duration = Duration::from_micros(100);

/// How long the next in line looks for the room by itself before it lets the helper wait for it.
const LONGEST_AWAKE: Duration = Duration::from_micros(300);

/// A yield that takes longer than this was a whole time slice of somebody else: on a busy machine who sleeps is woken
/// sooner than who yields.
const LONGEST_YIELD: Duration = Duration::from_micros(200);
const TIRED_TURNS: u32 = 64;
/// How long it takes at most, mostly, until a thread that the kernel wakes is there.
const WAKING: Duration = Duration::from_micros(50);

struct Helper {
    state: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    /// To get the lobby.
    Lobby,
    /// To get the room, and to leave the lobby then.
    Room,
    Granted,
    /// Nobody wants it any more; what comes is given back.
    GivenUp,
    Stop,
}

impl Helper {
    /// Has the helper block for a lock. False when it was given up.
    fn get(&self, what: Asked, wait: &mut Wait<impl FnMut() -> bool>) -> bool {
        let mut state = self.state.lock();
        *state = what;
        self.changed.notify_all();
        while *state == what {
            if self.changed.wait_until(&mut state, wait.until).timed_out()
                && *state == what
                && !wait.goes_on()
            {
                *state = Asked::GivenUp;
                return false;
            }
        }
        let granted = *state == Asked::Granted;
        *state = Asked::Nothing;
        granted
    }
}

/// How long a wait in line goes on.
struct Wait<M> {
    bound: Duration,
    end: Instant,
    until: Instant,
    rounds_left: u32,
    compared: bool,
    moves: M,
}

impl<M: FnMut() -> bool> Wait<M> {
    fn new(bound: Duration, rounds: u32, moves: M) -> Self {
        let (until, end) = (instant_after(bound / 4), instant_after(bound));
        Self { bound, end, until, rounds_left: rounds.saturating_sub(1), compared: false, moves }
    }

    /// At `until`: whether to wait on.
    fn goes_on(&mut self) -> bool {
        let moved = (self.moves)();
        if !std::mem::replace(&mut self.compared, true) {
            self.until = self.end;
            return true;
        }
        if !moved || self.rounds_left == 0 {
            return false;
        }
        self.rounds_left -= 1;
        self.until = instant_after(self.bound);
        true
    }
}

impl Turn {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut turn = Self::alone();
        turn.locks = Some(Arc::new(Locks::open(path)?));
        Ok(turn)
    }

    /// The turn of a process that is the only one.
    pub(super) fn alone() -> Self {
        Self {
            locks: None,
            helper: None,
            held: false,
            waited: false,
            tired: 0,
            left: None,
            kept_until: None,
            last_use: None,
        }
    }

    /// Takes the turn if nobody has it and nobody waits for it.
    pub(super) fn try_take(&mut self) -> bool {
        let Some(locks) = self.locks.as_ref().filter(|_| !self.held) else { return true };
        if self.helper_is_stuck() || !locks.try_lobby() {
            return false;
        }
        self.held = locks.try_room();
        self.waited = false;
        locks.leave_lobby();
        self.held
    }

    /// Takes the turn, waiting in line for `bound`, and up to `rounds` times as long while the line `moves`. False when
    /// it did not come in time: go on without. `moves` is asked a while after the wait began, to have something to
    /// compare with, and at the end of each round.
    pub(super) fn take(&mut self, bound: Duration, rounds: u32, moves: impl FnMut() -> bool) -> bool {
        self.let_the_next_in();
        if self.try_take() {
            return true;
        }
        if self.helper_is_stuck() {
            return false;
        }
        let Some((locks, helper)) = self.locks.clone().zip(self.helper()) else { return false };
        self.waited = true;
        let mut wait = Wait::new(bound, rounds, moves);
        if !helper.get(Asked::Lobby, &mut wait) {
            return false;
        }
        // Next in line. A commit takes about as long as it takes to fall asleep and be woken twice, so whoever is next
        // stays awake for that long; at most one process does.
        let mut now = Instant::now();
        let awake_until = now + LONGEST_AWAKE;
        while !locks.try_room() {
            if self.tired > 0 || now >= awake_until {
                self.tired = self.tired.saturating_sub(1);
                self.held = helper.get(Asked::Room, &mut wait);
                return self.held;
            }
            std::thread::yield_now();
            let after = Instant::now();
            if after - now > LONGEST_YIELD {
                self.tired = TIRED_TURNS;
            }
            now = after;
        }
        locks.leave_lobby();
        self.held = true;
        true
    }

    /// Before a caller's own commit, at `now`: true when it can go on with the turn that was kept, false when it has to
    /// take one.
    pub(super) fn go_on(&mut self, now: Instant) -> bool {
        self.leave_if_over(now);
        self.held
    }

    /// After a caller's own commit, which began to wait at `from`: keeps the turn when the caller comes back at once
    /// each time, else gives it to the next in line. Answers whether it is kept from now on.
    pub(super) fn keep_or_leave(&mut self, from: Instant, now: Instant) -> bool {
        let back_soon = self.last_use.is_some_and(|last| from.saturating_duration_since(last) < SOON);
        self.last_use = Some(now);
        match self.kept_until {
            Some(until) if now < until => false,
            None if back_soon && !self.waited && self.nobody_waits() => {
                self.kept_until = Some(now + LONGEST_KEPT);
                true
            }
            _ => {
                self.leave();
                false
            }
        }
    }

    /// Gives back a turn that was kept for too long. Answers whether it is still kept.
    pub(super) fn leave_if_over(&mut self, now: Instant) -> bool {
        if self.kept_until.is_some_and(|until| now >= until) {
            self.leave();
        }
        self.kept_until.is_some()
    }

    /// Gives the turn to the next in line.
    pub(super) fn leave(&mut self) {
        self.kept_until = None;
        if self.waited {
            self.left = Some(Instant::now());
        }
        if let (true, Some(locks)) = (std::mem::take(&mut self.held), &self.locks) {
            locks.leave_room();
        }
    }

    /// The kernel wakes who waits in front of the lobby, and lets whoever comes first have it. Who just had the turn,
    /// and knows that others want it, is always first; so it holds back for as long as waking takes.
    fn let_the_next_in(&mut self) {
        if let (true, Some(left), Some(helper)) = (self.waited && !self.held, self.left, &self.helper) {
            let until = left + WAKING;
            let mut state = helper.state.lock();
            while *state == Asked::Nothing && !helper.changed.wait_until(&mut state, until).timed_out() {}
        }
    }

    /// Whoever waits for the turn is in the lobby.
    fn nobody_waits(&self) -> bool {
        let Some(locks) = &self.locks else { return false };
        let nobody = locks.try_lobby();
        if nobody {
            locks.leave_lobby();
        }
        nobody
    }

    fn helper_is_stuck(&self) -> bool {
        self.helper.as_ref().is_some_and(|helper| *helper.state.lock() == Asked::GivenUp)
    }

    fn helper(&mut self) -> Option<Arc<Helper>> {
        if self.helper.is_none() {
            let helper = Arc::new(Helper { state: Mutex::new(Asked::Nothing), changed: Condvar::new() });
            let (locks, shared) = (self.locks.clone()?, helper.clone());
            // Without a helper (no thread to be had) the writer goes on without turns.
            std::thread::Builder::new()
                .name("rowhouse-turn".into())
                .spawn(move || wait_in_line(&locks, &shared))
                .ok()?;
            self.helper = Some(helper);
        }
        self.helper.clone()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.leave();
        if let Some(helper) = &self.helper {
            // A stuck helper ends when its turn comes; it is not waited for.
            *helper.state.lock() = Asked::Stop;
            helper.changed.notify_all();
        }
    }
}

fn wait_in_line(locks: &Locks, helper: &Helper) {
    let mut state = helper.state.lock();
    loop {
        let asked = *state;
        match asked {
            Asked::Stop => return,
            Asked::Lobby | Asked::Room => {}
            _ => {
                helper.changed.wait(&mut state);
                continue;
            }
        }
        drop(state);
        let came = if asked == Asked::Lobby {
            locks.wait_for_lobby()
        } else {
            let came = locks.wait_for_room();
            locks.leave_lobby();
            came
        };
        state = helper.state.lock();
        if *state == asked && came.is_ok() {
            *state = Asked::Granted;
        } else {
            // Too late, or the lock failed: give back what there is.
            locks.leave_room();
            locks.leave_lobby();
            if *state == Asked::Stop {
                return;
            }
            *state = Asked::Nothing;
        }
        helper.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(dir: &Path) -> Turn {
        Turn::open(&dir.join("t.room")).expect("a lock file")
    }

    #[test]
    fn a_turn_is_exclusive_and_passes_on() {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut a, mut b) = (turn(dir.path()), turn(dir.path()));
        assert!(a.try_take());
        assert!(!b.try_take());
        a.leave();
        assert!(b.take(Duration::from_secs(10), 1, || false));
        assert!(!a.try_take());
    }

    #[test]
    fn a_turn_that_does_not_come_is_given_up_and_given_back_when_it_comes_late() {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut a, mut b, mut c) = (turn(dir.path()), turn(dir.path()), turn(dir.path()));
        assert!(a.try_take());
        assert!(!b.take(Duration::from_millis(20), 1, || false), "the bound is kept");
        assert!(!b.take(Duration::from_hours(1), 1, || false), "a stuck helper is not waited for again");
        a.leave();
        // b's helper gets it now, and must give it back for c.
        assert!(c.take(Duration::from_secs(10), 1, || false));
        c.leave();
        while !b.take(Duration::from_millis(20), 1, || false) {}
    }

    #[test]
    fn a_turn_is_kept_only_for_who_comes_back_at_once_and_not_for_long() {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut a, mut b) = (turn(dir.path()), turn(dir.path()));
        let start = Instant::now();
        let at = |micros| start + Duration::from_micros(micros);
        assert!(a.try_take() && !a.keep_or_leave(at(0), at(100)), "the first commit leaves");
        assert!(b.try_take(), "so it is free");
        b.leave();
        assert!(a.try_take() && !a.keep_or_leave(at(5_000), at(5_100)), "late: it leaves");
        assert!(a.try_take() && a.keep_or_leave(at(5_110), at(5_200)), "at once: it is kept");
        assert!(!b.try_take(), "so it is not free");
        assert!(a.go_on(at(5_210)) && !a.keep_or_leave(at(5_210), at(5_300)), "it is kept already");
        assert!(a.leave_if_over(at(6_000)), "not over yet");
        assert!(!b.try_take());
        assert!(!a.leave_if_over(at(6_300)), "over, and nobody came back");
        assert!(b.try_take());
    }

    #[test]
    fn who_waits_comes_before_who_just_left() {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut a, mut b) = (turn(dir.path()), turn(dir.path()));
        assert!(a.try_take());
        let (waits, waiting_now) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || {
            let moves = || waits.send(()).is_ok();
            assert!(b.take(Duration::from_millis(40), u32::MAX, moves));
            b
        });
        // Its first try, which leaves the lobby again, is over when b asks whether the line moves. The lobby is taken as
        // soon as b waits; from then on a cannot come back before b had its turn.
        waiting_now.recv().expect("b waits");
        let probe = turn(dir.path());
        let locks = probe.locks.as_ref().expect("opened");
        while locks.try_lobby() {
            locks.leave_lobby();
            std::thread::yield_now();
        }
        a.leave();
        assert!(!a.try_take(), "barged past a waiter");
        let b = waiting.join().expect("b");
        drop(b);
        assert!(a.take(Duration::from_secs(10), 1, || false));
    }
}
