//! The bounded queue before the writer: a lane for normal and one for background work.
//!
//! Invariants:
//! 1. Within a lane, first come first served.
//! 2. While both lanes hold work, every eighth job comes from the background lane: neither starves.
//! 3. Who comes when its lane holds `capacity` jobs waits for room until its deadline.
//! 4. After `close` nothing is accepted; what was accepted can still be taken.
//! 5. Who comes with [`push_out`](Lanes::push_out) never waits: when its lane keeps more than the backlog's bound, the
//!    oldest jobs that may go are pushed out, and only those; the newest always stays. What is given back counts too.
//!
//! 6. What is [shown](Depth) of the lanes is how many jobs wait, whenever nobody has the lock.
//!
//! One mutex serves both lanes, so that the writer takes a whole batch in one visit.
//!
//! Tests: below for each invariant; the models for what callers of every kind meet together.

use std::collections::VecDeque;

use crate::sync::{AtomicUsize, Condvar, Instant, Mutex, MutexGuard, Ordering};

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

/// A job as the queue sees it.
pub(crate) trait Queued {
    /// Where it waits.
    fn lane(&self) -> Lane;
    /// The bytes it keeps, when it may be pushed out; `None` for one whose caller stands in line for it.
    fn may_go(&self) -> Option<usize>;
}

/// How much of what may be pushed out each lane keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backlog {
    pub(crate) jobs: usize,
    pub(crate) bytes: usize,
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

/// Is told how many jobs wait.
pub(crate) trait Depth {
    /// In both lanes, and in the background lane. Under the lock: it must not wait.
    fn show(&self, jobs: usize, background: usize);
}

impl Depth for () {
    fn show(&self, _jobs: usize, _background: usize) {}
}

pub(crate) struct Lanes<J, D = ()> {
    inner: Mutex<Inner<J>>,
    depth: D,
    /// The writer waits here.
    work: Condvar,
    /// Callers wait here while their lane is full.
    room: Condvar,
    capacity: usize,
    /// Jobs in both lanes, to be read without the lock.
    len: AtomicUsize,
}

struct Inner<J> {
    normal: Queue<J>,
    background: Queue<J>,
    taken: u32,
    open: bool,
    poked: bool,
    writer_waits: bool,
    callers_wait: usize,
}

/// One lane.
struct Queue<J> {
    jobs: VecDeque<J>,
    /// How many of them may be pushed out, and what those keep.
    movable: Backlog,
}

impl<J: Queued> Queue<J> {
    fn new() -> Self {
        Self { jobs: VecDeque::new(), movable: Backlog { jobs: 0, bytes: 0 } }
    }

    fn push_back(&mut self, job: J) {
        self.came(&job);
        self.jobs.push_back(job);
    }

    fn push_front(&mut self, job: J) {
        self.came(&job);
        self.jobs.push_front(job);
    }

    fn pop_front(&mut self) -> Option<J> {
        let job = self.jobs.pop_front()?;
        self.left(&job);
        Some(job)
    }

    /// Moves the oldest that may go to `out` until the rest is within `bound`, or only one of them is left. Answers how
    /// many went.
    fn push_out(&mut self, bound: Backlog, out: &mut VecDeque<J>) -> usize {
        let before = self.jobs.len();
        while self.movable.jobs > 1 && (self.movable.jobs > bound.jobs || self.movable.bytes > bound.bytes) {
            // Only callers that wait stand before it: no more than there are threads.
            let oldest = self.jobs.iter().position(|job| job.may_go().is_some());
            let Some(job) = oldest.and_then(|at| self.jobs.remove(at)) else { break };
            self.left(&job);
            out.push_back(job);
        }
        before - self.jobs.len()
    }

    fn came(&mut self, job: &J) {
        if let Some(bytes) = job.may_go() {
            self.movable.jobs += 1;
            self.movable.bytes = self.movable.bytes.saturating_add(bytes);
        }
    }

    fn left(&mut self, job: &J) {
        if let Some(bytes) = job.may_go() {
            self.movable.jobs -= 1;
            self.movable.bytes = self.movable.bytes.saturating_sub(bytes);
        }
    }
}

impl<J: Queued> Lanes<J> {
    /// Lanes that show nothing.
    #[cfg_attr(not(test), allow(dead_code, reason = "for the tests and the models"))]
    pub(crate) fn new(capacity: usize) -> Self {
        Self::showing(capacity, ())
    }
}

impl<J: Queued, D: Depth> Lanes<J, D> {
    /// Each lane holds `capacity` jobs.
    pub(crate) fn showing(capacity: usize, depth: D) -> Self {
        Self {
            depth,
            inner: Mutex::new(Inner {
                normal: Queue::new(),
                background: Queue::new(),
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
    pub(crate) fn push(&self, job: J, deadline: Instant) -> Result<(), Refused> {
        let lane = job.lane();
        let mut inner = self.inner.lock();
        loop {
            if !inner.open {
                return Err(Refused::Closed);
            }
            if inner.lane(lane).jobs.len() < self.capacity {
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
        self.show(&inner);
        self.wake_writer(inner);
        Ok(())
    }

    /// Puts a job at the end of its lane without waiting. What must go for it is moved to `out`, oldest first.
    ///
    /// # Errors
    /// `Closed` after [`close`](Self::close).
    pub(crate) fn push_out(&self, job: J, bound: Backlog, out: &mut VecDeque<J>) -> Result<(), Refused> {
        let mut inner = self.inner.lock();
        if !inner.open {
            return Err(Refused::Closed);
        }
        let lane = inner.lane(job.lane());
        lane.push_back(job);
        let gone = lane.push_out(bound, out);
        self.len.fetch_add(1, Ordering::AcqRel);
        self.len.fetch_sub(gone, Ordering::AcqRel);
        self.show(&inner);
        self.wake_writer(inner);
        Ok(())
    }

    fn show(&self, inner: &Inner<J>) {
        let (normal, background) = (inner.normal.jobs.len(), inner.background.jobs.len());
        self.depth.show(normal + background, background);
    }

    fn wake_writer(&self, mut inner: MutexGuard<'_, Inner<J>>) {
        if std::mem::take(&mut inner.writer_waits) {
            drop(inner);
            self.work.notify_one();
        }
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
        self.show(&inner);
        if count > 0 && inner.callers_wait > 0 {
            drop(inner);
            self.room.notify_all();
        }
    }

    /// Puts jobs that were taken and not run back to the front of their lanes, in their order: whoever comes with
    /// more urgent work meanwhile does not wait for them.
    pub(crate) fn give_back(&self, jobs: &mut VecDeque<J>) {
        if jobs.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        self.len.fetch_add(jobs.len(), Ordering::AcqRel);
        while let Some(job) = jobs.pop_back() {
            inner.lane(job.lane()).push_front(job);
        }
        self.show(&inner);
    }

    /// Moves what is beyond the backlog's bound to `out`, oldest first: for jobs that were given back, which come before
    /// what was pushed meanwhile.
    pub(crate) fn trim(&self, bound: Backlog, out: &mut VecDeque<J>) {
        let mut inner = self.inner.lock();
        let gone = inner.normal.push_out(bound, out) + inner.background.push_out(bound, out);
        self.len.fetch_sub(gone, Ordering::AcqRel);
        self.show(&inner);
        if gone > 0 && inner.callers_wait > 0 {
            drop(inner);
            self.room.notify_all();
        }
    }

    /// Waits for work until `until`.
    pub(crate) fn wait(&self, until: Instant) -> Woken {
        let mut inner = self.inner.lock();
        loop {
            if std::mem::take(&mut inner.poked) {
                return Woken::Poked;
            }
            if !inner.normal.jobs.is_empty() || !inner.background.jobs.is_empty() {
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

impl<J: Queued> Inner<J> {
    fn lane(&mut self, lane: Lane) -> &mut Queue<J> {
        match lane {
            Lane::Normal => &mut self.normal,
            Lane::Background => &mut self.background,
        }
    }

    fn next(&mut self) -> Option<J> {
        let background_turn = self.taken % BACKGROUND_SHARE == BACKGROUND_SHARE - 1;
        let job = if background_turn || self.normal.jobs.is_empty() {
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

    /// From 100 on background work; from 1000 on it may go, and keeps as many bytes as its thousands say.
    impl Queued for usize {
        fn lane(&self) -> Lane {
            if self % 1000 < 100 { Lane::Normal } else { Lane::Background }
        }

        fn may_go(&self) -> Option<usize> {
            (*self >= 1000).then_some(self / 1000)
        }
    }

    fn all(lanes: &Lanes<usize>) -> Vec<usize> {
        let mut taken = VecDeque::new();
        lanes.take(&mut taken, usize::MAX);
        taken.into()
    }

    #[test]
    fn every_eighth_job_is_background_work_while_both_lanes_hold_some() {
        let lanes = Lanes::new(100);
        for n in (0..40).chain(100..105) {
            lanes.push(n, soon()).expect("room");
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
            lanes.push(n, soon()).expect("room");
        }
        let mut taken = VecDeque::new();
        lanes.take(&mut taken, 10);
        assert_eq!(taken.pop_front(), Some(100));
        lanes.push(1, soon()).expect("room");
        lanes.give_back(&mut taken);
        assert!(taken.is_empty());
        assert_eq!(lanes.len(), 10);
        // The tenth job taken before and the first now: not the background's place yet.
        assert_eq!(all(&lanes), [1, 101, 102, 103, 104, 105, 106, 107, 108, 109]);
    }

    #[test]
    fn a_full_lane_refuses_at_the_deadline_and_the_other_lane_still_takes() {
        let lanes = Lanes::new(2);
        lanes.push(1, soon()).expect("room");
        lanes.push(2, soon()).expect("room");
        assert_eq!(lanes.push(3, soon()), Err(Refused::Full));
        lanes.push(104, soon()).expect("its own room");
        assert_eq!(lanes.len(), 3);
    }

    #[test]
    fn after_close_nothing_is_accepted_and_the_rest_can_be_taken() {
        let lanes = Lanes::new(2);
        lanes.push(1, soon()).expect("room");
        lanes.close();
        assert_eq!(lanes.push(2, soon()), Err(Refused::Closed));
        let mut out = VecDeque::new();
        assert_eq!(lanes.push_out(1001, Backlog { jobs: 1, bytes: 9 }, &mut out), Err(Refused::Closed));
        assert_eq!((lanes.wait(soon()), out.len()), (Woken::Work, 0));
        assert_eq!(all(&lanes), [1]);
        assert_eq!(lanes.wait(soon()), Woken::Closed);
    }

    #[test]
    fn the_oldest_that_may_go_are_pushed_out_of_their_own_lane_and_nobody_else() {
        let lanes = Lanes::new(1);
        let (bound, mut out) = (Backlog { jobs: 3, bytes: 100 }, VecDeque::new());
        lanes.push(1, soon()).expect("room");
        for n in [1002, 1003, 1104, 1005, 1006, 1007] {
            lanes.push_out(n, bound, &mut out).expect("it never waits");
        }
        assert_eq!(out, [1002, 1003]);
        assert_eq!((lanes.len(), all(&lanes)), (5, vec![1, 1005, 1006, 1007, 1104]));
    }

    #[test]
    fn bytes_push_out_too_and_the_newest_stays_whatever_it_keeps() {
        let lanes = Lanes::new(9);
        let (bound, mut out) = (Backlog { jobs: 9, bytes: 10 }, VecDeque::new());
        for n in [4001, 4002, 3003, 99_004] {
            lanes.push_out(n, bound, &mut out).expect("it never waits");
        }
        assert_eq!((out, lanes.len(), all(&lanes)), (VecDeque::from([4001, 4002, 3003]), 1, vec![99_004]));
    }

    #[test]
    fn what_is_given_back_is_the_oldest() {
        let lanes = Lanes::new(9);
        let (bound, mut out, mut taken) = (Backlog { jobs: 3, bytes: 100 }, VecDeque::new(), VecDeque::new());
        for n in [1001, 1002, 1003] {
            lanes.push_out(n, bound, &mut out).expect("it never waits");
        }
        lanes.take(&mut taken, 3);
        for n in [1004, 1005] {
            lanes.push_out(n, bound, &mut out).expect("it never waits");
        }
        lanes.give_back(&mut taken);
        assert!(out.is_empty(), "what is taken does not count");
        lanes.trim(bound, &mut out);
        assert_eq!((out, all(&lanes)), (VecDeque::from([1001, 1002]), vec![1003, 1004, 1005]));
    }
}
