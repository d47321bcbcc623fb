//! A process's turn at the write lock.
//!
//! Two flocks, the lobby and the room: who wants to write takes the lobby, then the room, and leaves the lobby. A
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

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::shared::instant_after;
use crate::error::Result;
use crate::forks;
use crate::home;

/// The two lock files. Shared with the helper thread, which may outlive the database while it is stuck.
pub(super) struct Locks {
    lobby: File,
    room: File,
}

impl Drop for Locks {
    fn drop(&mut self) {
        forks::forget(self.lobby.as_raw_fd());
        forks::forget(self.room.as_raw_fd());
    }
}

pub(super) struct Turn {
    locks: Arc<Locks>,
    helper: Option<Arc<Helper>>,
    held: bool,
    /// While it is held between two commits: when it ends at the latest.
    kept_until: Option<Instant>,
    /// When the last commit that used it ended.
    last_use: Option<Instant>,
}

/// How long a turn is kept at most.
pub(super) const LONGEST_KEPT: Duration = Duration::from_millis(1);
/// A caller that writes again within this time is expected to do so again.
const SOON: Duration = Duration::from_micros(100);

struct Helper {
    state: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    No,
    Yes,
    Granted,
    /// Nobody wants it any more; it is given back when it comes.
    GivenUp,
    Stop,
}

impl Turn {
    pub(super) fn open(lobby: &Path, room: &Path) -> Result<Self> {
        let locks =
            Arc::new(Locks { lobby: home::open_lock_file(lobby)?, room: home::open_lock_file(room)? });
        forks::close_in_child(locks.lobby.as_raw_fd());
        forks::close_in_child(locks.room.as_raw_fd());
        Ok(Self { locks, helper: None, held: false, kept_until: None, last_use: None })
    }

    /// Takes the turn if nobody has it and nobody waits for it.
    pub(super) fn try_take(&mut self) -> bool {
        if self.held {
            return true;
        }
        if self.helper_is_stuck() || self.locks.lobby.try_lock().is_err() {
            return false;
        }
        self.held = self.locks.room.try_lock().is_ok();
        let _ = self.locks.lobby.unlock();
        self.held
    }

    /// Takes the turn, waiting in line for `bound`, and up to `rounds` times as long while the line `moves`. False when
    /// it did not come in time: go on without. `moves` is asked when the wait begins and after each round.
    pub(super) fn take(&mut self, bound: Duration, rounds: u32, mut moves: impl FnMut() -> bool) -> bool {
        if self.try_take() {
            return true;
        }
        if self.helper_is_stuck() {
            return false;
        }
        let Some(helper) = self.helper() else { return false };
        moves();
        let mut until = instant_after(bound);
        let mut round = 1;
        let mut state = helper.state.lock();
        *state = Asked::Yes;
        helper.changed.notify_all();
        while *state == Asked::Yes {
            if helper.changed.wait_until(&mut state, until).timed_out() && *state == Asked::Yes {
                if round >= rounds || !moves() {
                    *state = Asked::GivenUp;
                    return false;
                }
                round += 1;
                until = instant_after(bound);
            }
        }
        self.held = *state == Asked::Granted;
        *state = Asked::No;
        self.held
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
            None if back_soon && self.nobody_waits() => {
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
        if std::mem::take(&mut self.held) {
            let _ = self.locks.room.unlock();
        }
    }

    /// Whoever waits for the turn is in the lobby.
    fn nobody_waits(&self) -> bool {
        let nobody = self.locks.lobby.try_lock().is_ok();
        if nobody {
            let _ = self.locks.lobby.unlock();
        }
        nobody
    }

    fn helper_is_stuck(&self) -> bool {
        self.helper.as_ref().is_some_and(|helper| *helper.state.lock() == Asked::GivenUp)
    }

    fn helper(&mut self) -> Option<Arc<Helper>> {
        if self.helper.is_none() {
            let helper = Arc::new(Helper { state: Mutex::new(Asked::No), changed: Condvar::new() });
            let (locks, shared) = (self.locks.clone(), helper.clone());
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
        match *state {
            Asked::Stop => return,
            Asked::Yes => {}
            _ => {
                helper.changed.wait(&mut state);
                continue;
            }
        }
        drop(state);
        let came = locks.lobby.lock().and_then(|()| locks.room.lock());
        let _ = locks.lobby.unlock();
        state = helper.state.lock();
        match (*state, came) {
            (Asked::Yes, Ok(())) => {
                *state = Asked::Granted;
                helper.changed.notify_all();
            }
            (Asked::Stop, _) => {
                let _ = locks.room.unlock();
                return;
            }
            // Too late, or the lock failed: give back what there is.
            _ => {
                let _ = locks.room.unlock();
                *state = Asked::No;
                helper.changed.notify_all();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(dir: &Path) -> Turn {
        Turn::open(&dir.join("t.lobby"), &dir.join("t.room")).expect("lock files")
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
        let waiting = std::thread::spawn(move || {
            assert!(b.take(Duration::from_secs(10), 1, || false));
            b
        });
        // The lobby is taken as soon as b waits; from then on a cannot come back before b had its turn.
        let probe = turn(dir.path());
        while probe.locks.lobby.try_lock().is_ok() {
            let _ = probe.locks.lobby.unlock();
            std::thread::yield_now();
        }
        a.leave();
        assert!(!a.try_take(), "barged past a waiter");
        let b = waiting.join().expect("b");
        drop(b);
        assert!(a.take(Duration::from_secs(10), 1, || false));
    }
}
