//! The bounded queue before the writer: a lane for normal and one for background work.
//!
//! Invariants:
//! 1. Within a lane, first come first served.
//! 2. While both lanes hold work, every eighth job comes from the background lane: neither starves.
//! 3. Who comes when its lane holds `capacity` jobs waits for room until its deadline.
//! 4. After `close` nothing is accepted; what was accepted can still be taken.
//!
//! One mutex serves both lanes, so that the writer takes a whole batch in one visit.

use std::collections::VecDeque;

use crate::sync::{AtomicUsize, Condvar, Instant, Mutex, Ordering};

/// Of eight jobs taken while both lanes hold work, one is background work.
const BACKGROUND_SHARE: u32 = 8;

/// Which lane a job waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Normal,
    Background,
}

/// Why a job was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
}

/// Why the writer was woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    Work,
    /// Somebody called [`Lanes::poke`].
    Poked,
    /// Nothing came until the time given.
    Idle,
    /// Closed, and nothing is left.
    Closed,
}

pub(crate) struct Lanes<J> {
    inner: Mutex<Inner<J>>,
    /// The writer waits here.
    work: Condvar,
    /// Callers wait here while their lane is full.
    room: Condvar,
    capacity: usize,
    /// Jobs in both lanes, to be read without the lock.
    len: AtomicUsize,
}

struct Inner<J> {
    normal: VecDeque<J>,
    background: VecDeque<J>,
    taken: u32,
    open: bool,
    poked: bool,
    writer_waits: bool,
    callers_wait: usize,
}

impl<J> Lanes<J> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                normal: VecDeque::new(),
                background: VecDeque::new(),
                taken: 0,
                open: true,
                poked: false,
                writer_waits: false,
                callers_wait: 0,
            }),
            work: Condvar::new(),
            room: Condvar::new(),
            capacity: capacity.max(1),
            len: AtomicUsize::new(0),
        }
    }

    /// Jobs waiting in both lanes.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Puts a job at the end of its lane; waits for room until `deadline`.
    ///
    /// # Errors
    /// `Full` when there was no room until then, `Closed` after [`close`](Self::close).
    pub(crate) fn push(&self, lane: Lane, job: J, deadline: Instant) -> Result<(), Refused> {
        let mut inner = self.inner.lock();
        loop {
            if !inner.open {
                return Err(Refused::Closed);
            }
            if inner.lane(lane).len() < self.capacity {
                break;
            }
            if Instant::now() >= deadline {
                return Err(Refused::Full);
            }
            inner.callers_wait += 1;
            self.room.wait_until(&mut inner, deadline);
            inner.callers_wait -= 1;
        }
        inner.lane(lane).push_back(job);
        self.len.fetch_add(1, Ordering::AcqRel);
        if inner.writer_waits {
            inner.writer_waits = false;
            drop(inner);
            self.work.notify_one();
        }
        Ok(())
    }

    /// Moves up to `most` jobs into `into`, in the order they are to run.
    pub(crate) fn take(&self, into: &mut VecDeque<J>, most: usize) {
        if self.len() == 0 {
            return;
        }
        let mut inner = self.inner.lock();
        let mut count = 0;
        while count < most {
            let Some(job) = inner.next() else { break };
            into.push_back(job);
            count += 1;
        }
        self.len.fetch_sub(count, Ordering::AcqRel);
        if count > 0 && inner.callers_wait > 0 {
            drop(inner);
            self.room.notify_all();
        }
    }

    /// Puts jobs that were taken and not run back to the front of their lanes, in their order: whoever comes with
    /// more urgent work meanwhile does not wait for them.
    pub(crate) fn give_back(&self, jobs: &mut VecDeque<J>, lane_of: impl Fn(&J) -> Lane) {
        if jobs.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        self.len.fetch_add(jobs.len(), Ordering::AcqRel);
        while let Some(job) = jobs.pop_back() {
            inner.lane(lane_of(&job)).push_front(job);
        }
    }

    /// Waits for work until `until`.
    pub(crate) fn wait(&self, until: Instant) -> Woken {
        let mut inner = self.inner.lock();
        loop {
            if std::mem::take(&mut inner.poked) {
                return Woken::Poked;
            }
            if !inner.normal.is_empty() || !inner.background.is_empty() {
                return Woken::Work;
            }
            if !inner.open {
                return Woken::Closed;
            }
            if Instant::now() >= until {
                return Woken::Idle;
            }
            inner.writer_waits = true;
            self.work.wait_until(&mut inner, until);
            inner.writer_waits = false;
        }
    }

    /// Wakes the writer for something other than a job.
    pub(crate) fn poke(&self) {
        self.inner.lock().poked = true;
        self.work.notify_one();
    }

    /// Waits until `until`, or until it is closed or poked, whatever is queued.
    pub(crate) fn wait_closed(&self, until: Instant) {
        let mut inner = self.inner.lock();
        while inner.open && !std::mem::take(&mut inner.poked) && Instant::now() < until {
            self.work.wait_until(&mut inner, until);
        }
    }

    /// Accepts nothing from now on. What is queued stays.
    pub(crate) fn close(&self) {
        self.inner.lock().open = false;
        self.work.notify_all();
        self.room.notify_all();
    }

    /// True until [`close`](Self::close).
    pub(crate) fn is_open(&self) -> bool {
        self.inner.lock().open
    }
}

impl<J> Inner<J> {
    fn lane(&mut self, lane: Lane) -> &mut VecDeque<J> {
        match lane {
            Lane::Normal => &mut self.normal,
            Lane::Background => &mut self.background,
        }
    }

    fn next(&mut self) -> Option<J> {
        let background_turn = self.taken % BACKGROUND_SHARE == BACKGROUND_SHARE - 1;
        let job = if background_turn || self.normal.is_empty() {
            self.background.pop_front().or_else(|| self.normal.pop_front())
        } else {
            self.normal.pop_front()
        };
        if job.is_some() {
            self.taken = self.taken.wrapping_add(1);
        }
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(1)
    }

    #[test]
    fn every_eighth_job_is_background_work_while_both_lanes_hold_some() {
        let lanes = Lanes::new(100);
        for n in 0..40 {
            lanes.push(Lane::Normal, n, soon()).expect("room");
        }
        for n in 100..105 {
            lanes.push(Lane::Background, n, soon()).expect("room");
        }
        let mut taken = VecDeque::new();
        lanes.take(&mut taken, 24);
        let at: Vec<_> = taken.iter().enumerate().filter(|(_, n)| **n >= 100).map(|(at, _)| at).collect();
        assert_eq!(at, [7, 15, 23]);
        let normal: Vec<_> = taken.iter().copied().filter(|n| *n < 100).collect();
        assert_eq!(normal, (0..21).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_given_back_keeps_its_order_and_yields_to_what_came_meanwhile() {
        let lanes = Lanes::new(100);
        for n in 100..110 {
            lanes.push(Lane::Background, n, soon()).expect("room");
        }
        let mut taken = VecDeque::new();
        lanes.take(&mut taken, 10);
        assert_eq!(taken.pop_front(), Some(100));
        lanes.push(Lane::Normal, 1, soon()).expect("room");
        lanes.give_back(&mut taken, |n| if *n >= 100 { Lane::Background } else { Lane::Normal });
        assert!(taken.is_empty());
        assert_eq!(lanes.len(), 10);
        // The tenth job taken before and the first now: not the background's place yet.
        lanes.take(&mut taken, 10);
        assert_eq!(taken, [1, 101, 102, 103, 104, 105, 106, 107, 108, 109]);
    }

    #[test]
    fn a_full_lane_refuses_at_the_deadline_and_the_other_lane_still_takes() {
        let lanes = Lanes::new(2);
        lanes.push(Lane::Normal, 1, soon()).expect("room");
        lanes.push(Lane::Normal, 2, soon()).expect("room");
        assert_eq!(lanes.push(Lane::Normal, 3, soon()), Err(Refused::Full));
        lanes.push(Lane::Background, 4, soon()).expect("its own room");
        assert_eq!(lanes.len(), 3);
    }

    #[test]
    fn after_close_nothing_is_accepted_and_the_rest_can_be_taken() {
        let lanes = Lanes::new(2);
        lanes.push(Lane::Normal, 1, soon()).expect("room");
        lanes.close();
        assert_eq!(lanes.push(Lane::Normal, 2, soon()), Err(Refused::Closed));
        assert_eq!(lanes.wait(soon()), Woken::Work);
        let mut taken = VecDeque::new();
        lanes.take(&mut taken, 9);
        assert_eq!(taken, [1]);
        assert_eq!(lanes.wait(soon()), Woken::Closed);
    }
}
