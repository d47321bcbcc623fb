//! A miniature of the engine: what `sqlite::{mod, writer, batch, ticket}` do with the hand-over, on a list of numbers
//! instead of a database.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize as Count, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::handoff::gate::Gate;
use crate::handoff::job::{Job, JobError, Ran, Settled, Task, Waited};
use crate::handoff::lanes::{Backlog, Lane, Lanes, Queued, Refused, Woken};
use crate::harness::{burst, chance, never};
use crate::sync::{Arc, Instant, MutexGuard};

/// What a job can answer but a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It said so.
    Own,
    Panicked,
    /// The writer died with it.
    Abandoned,
    /// Claimed, and not run.
    Closed,
    /// Run, and nobody knows.
    Fatal,
    /// Never run: there was no room for it.
    PushedOut,
}

impl JobError for Failure {
    fn panicked(payload: Box<dyn std::any::Any + Send>) -> Self {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
        Self::Panicked
    }

    fn abandoned() -> Self {
        Self::Abandoned
    }
}

/// What became of one write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told<R> {
    Answer(Result<R, Failure>),
    Withdrawn,
    Unknown,
    Refused(Refused),
}

/// The "database": the numbers written since the last commit, and those before it.
#[derive(Default)]
pub(crate) struct Ledger {
    open: RefCell<Vec<u32>>,
    kept: RefCell<Vec<u32>>,
}

impl Ledger {
    pub(crate) fn add(&self, number: u32) {
        self.open.borrow_mut().push(number);
    }

    fn mark(&self) -> usize {
        self.open.borrow().len()
    }

    fn back_to(&self, mark: usize) {
        self.open.borrow_mut().truncate(mark);
    }

    fn commit(&self) {
        self.kept.borrow_mut().append(&mut self.open.borrow_mut());
    }
}

struct Entry {
    task: Arc<dyn Task<Ledger, Failure>>,
    lane: Lane,
    submitted: bool,
    /// As in a best-effort database: it may be pushed out, and waits for another batch when its own met trouble.
    may_go: bool,
}

impl Queued for Entry {
    fn lane(&self) -> Lane {
        self.lane
    }

    fn may_go(&self) -> Option<usize> {
        self.may_go.then_some(1)
    }
}

impl Entry {
    fn written(task: Arc<dyn Task<Ledger, Failure>>, lane: Lane) -> Self {
        Self { task, lane, submitted: false, may_go: false }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abandon();
    }
}

/// What the writer meets, each with some probability.
#[derive(Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools)] // each comes with any other
pub(crate) struct Weather {
    /// A batch is lost, and run again.
    pub(crate) loses: bool,
    /// A write fails for good: the batch is overruled.
    pub(crate) fails: bool,
    /// A batch meets trouble that passes: nothing of it counts, and who may wait waits for another.
    pub(crate) holds: bool,
    /// The writer dies in the middle of a batch.
    pub(crate) dies: bool,
}

pub(crate) struct Engine {
    pub(crate) gate: Gate<Ledger>,
    lanes: Lanes<Entry>,
    weather: Weather,
    /// Jobs the queue took, and jobs the writer let go of.
    accepted: Count,
    ended: Count,
    died: AtomicBool,
}

impl Engine {
    pub(crate) fn new(capacity: usize, weather: Weather) -> Self {
        Self {
            gate: Gate::new(Ledger::default()),
            lanes: Lanes::new(capacity),
            weather,
            accepted: Count::new(0),
            ended: Count::new(0),
            died: AtomicBool::new(false),
        }
    }

    /// As `Database::write`.
    pub(crate) fn write<R: Send + 'static>(
        &self,
        lane: Lane,
        deadline: Instant,
        job: impl Fn(&Ledger) -> Result<R, Failure> + Send,
    ) -> Told<R> {
        if lane == Lane::Normal
            && let Some(ledger) = self.gate.pass()
        {
            return Told::Answer(directly(&ledger, &job));
        }
        self.queue(lane, deadline, job)
    }

    /// The same for a job that does not pass the gate by itself.
    pub(crate) fn queue<R: Send + 'static>(
        &self,
        lane: Lane,
        deadline: Instant,
        job: impl Fn(&Ledger) -> Result<R, Failure> + Send,
    ) -> Told<R> {
        self.queue_with(deadline, job, |task| self.push(Entry::written(task, lane), deadline))
    }

    /// The same, and panics after the job was queued.
    pub(crate) fn queue_and_burst<R: Send + 'static>(
        &self,
        deadline: Instant,
        job: impl Fn(&Ledger) -> Result<R, Failure> + Send,
    ) -> Told<R> {
        self.queue_with(deadline, job, |task| {
            let _ = self.push(Entry::written(task, Lane::Normal), deadline);
            burst()
        })
    }

    fn queue_with<R: Send + 'static>(
        &self,
        deadline: Instant,
        job: impl Fn(&Ledger) -> Result<R, Failure> + Send,
        enqueue: impl FnOnce(Arc<Job<Ledger, R, Failure>>) -> Result<(), Refused>,
    ) -> Told<R> {
        let _in_line = InLine::join(self);
        match Job::lend(job, deadline, enqueue) {
            Ok(waited) => waited.into(),
            Err(refused) => Told::Refused(refused),
        }
    }

    /// As `Database::submit`.
    pub(crate) fn submit<R: Send + 'static>(
        &self,
        deadline: Instant,
        job: impl Fn(&Ledger) -> Result<R, Failure> + Send + 'static,
    ) -> Result<Ticket<R>, Refused> {
        let task = Job::owned(job, deadline);
        self.gate.join();
        let entry = Entry { task: task.clone(), lane: Lane::Normal, submitted: true, may_go: false };
        let pushed = self.push(entry, deadline);
        pushed.map(|()| Ticket(task)).inspect_err(|_| self.gate.leave())
    }

    /// As `Database::submit` of a best-effort database, whose backlog keeps `most` jobs.
    pub(crate) fn keep<R: Send + 'static>(
        &self,
        deadline: Instant,
        most: usize,
        job: impl Fn(&Ledger) -> Result<R, Failure> + Send + 'static,
    ) -> Result<Ticket<R>, Refused> {
        let task = Job::owned(job, deadline);
        self.gate.join();
        let entry = Entry { task: task.clone(), lane: Lane::Normal, submitted: true, may_go: true };
        let mut out = VecDeque::new();
        let backlog = Backlog { jobs: most, bytes: usize::MAX };
        self.lanes.push_out(entry, backlog, &mut out).inspect_err(|_| self.gate.leave())?;
        self.accepted.fetch_add(1, Relaxed);
        for entry in out {
            let _ = entry.task.refuse(Failure::PushedOut);
            self.let_go(entry);
        }
        Ok(Ticket(task))
    }

    fn push(&self, entry: Entry, deadline: Instant) -> Result<(), Refused> {
        self.lanes.push(entry, deadline)?;
        self.accepted.fetch_add(1, Relaxed);
        Ok(())
    }

    /// As a checkpoint: inside, before any caller that comes later.
    pub(crate) fn reserve(&self) -> MutexGuard<'_, Ledger> {
        self.gate.reserve();
        assert!(self.gate.pass().is_none(), "nobody passes while it is reserved");
        let inside = self.gate.enter();
        self.gate.release();
        inside
    }

    pub(crate) fn close(&self) {
        self.lanes.close();
    }

    /// The body of the writer's thread; batches of at most `most`.
    pub(crate) fn work(&self, most: usize) {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let mut end = End { engine: self, queue: VecDeque::new() };
            loop {
                match self.lanes.wait(never()) {
                    Woken::Closed => return,
                    Woken::Idle => unreachable!("it waits without a deadline"),
                    Woken::Poked | Woken::Work => {}
                }
                self.lanes.take(&mut end.queue, most);
                self.serve(&mut end.queue);
            }
        }));
        self.died.store(ended.is_err(), Relaxed);
    }

    fn serve(&self, queue: &mut VecDeque<Entry>) {
        let ledger = self.gate.enter();
        let done = self.batch(&ledger, queue);
        drop(ledger);
        self.lanes.give_back(queue);
        for entry in done {
            self.settle(entry);
        }
    }

    fn batch(&self, ledger: &Ledger, queue: &mut VecDeque<Entry>) -> Vec<Entry> {
        let mut batch: Vec<Entry> = queue.drain(..).collect();
        let mut losses = if self.weather.loses { 2 } else { 0 };
        loop {
            let mut ran = Vec::with_capacity(batch.len());
            let mut rest = batch.into_iter();
            while let Some(entry) = rest.next() {
                if !entry.task.claim() {
                    self.let_go(entry);
                    continue;
                }
                if self.weather.dies && chance(4) {
                    // With the one it has claimed, those that ran, and those that did not.
                    ledger.back_to(0);
                    let _held = (entry, ran, rest);
                    burst();
                }
                let mark = ledger.mark();
                let how = entry.task.run(ledger);
                if how != Ran::Fine {
                    ledger.back_to(mark);
                }
                if how == Ran::Panicked {
                    self.settle(entry);
                } else {
                    ran.push(entry);
                }
            }
            if losses > 0 && chance(2) {
                losses -= 1;
                ledger.back_to(0);
                batch = ran;
                continue;
            }
            if self.weather.holds && chance(2) {
                // Nothing of it counts; who may wait does, in order.
                ledger.back_to(0);
                return self.hold_back(ran, queue);
            }
            if self.weather.fails && chance(2) {
                ledger.back_to(0);
                for entry in &ran {
                    entry.task.overrule(Failure::Fatal);
                }
            }
            ledger.commit();
            return ran;
        }
    }

    fn hold_back(&self, ran: Vec<Entry>, queue: &mut VecDeque<Entry>) -> Vec<Entry> {
        let mut done = Vec::new();
        for entry in ran {
            if !entry.may_go {
                entry.task.overrule(Failure::Fatal);
                done.push(entry);
            } else if entry.task.put_back() {
                queue.push_back(entry);
            } else {
                self.let_go(entry);
            }
        }
        done
    }

    fn settle(&self, entry: Entry) -> Settled {
        let settled = entry.task.settle();
        self.let_go(entry);
        settled
    }

    fn let_go(&self, entry: Entry) {
        if entry.submitted {
            self.gate.leave();
        }
        self.ended.fetch_add(1, Relaxed);
        entry.task.discard();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(entry)));
    }

    /// What must hold when everybody has gone. Answers what was committed, in order.
    pub(crate) fn audit(self) -> Vec<u32> {
        if !self.died.load(Relaxed) {
            assert_eq!(
                self.accepted.load(Relaxed),
                self.ended.load(Relaxed),
                "every accepted job was let go of"
            );
            assert!(self.gate.pass().is_some(), "nobody is left in line");
        }
        assert_eq!(self.lanes.len(), 0, "nothing is left in the queue");
        let ledger = self.gate.enter();
        assert!(ledger.open.borrow().is_empty(), "nothing is left uncommitted");
        ledger.kept.take()
    }
}

fn directly<R>(ledger: &Ledger, job: &impl Fn(&Ledger) -> Result<R, Failure>) -> Result<R, Failure> {
    let answer = catch_unwind(AssertUnwindSafe(|| job(ledger))).unwrap_or(Err(Failure::Panicked));
    if answer.is_err() {
        ledger.back_to(0);
    }
    ledger.commit();
    answer
}

struct InLine<'a>(&'a Engine);

impl<'a> InLine<'a> {
    fn join(engine: &'a Engine) -> Self {
        engine.gate.join();
        Self(engine)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.gate.leave();
    }
}

struct End<'a> {
    engine: &'a Engine,
    queue: VecDeque<Entry>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.engine.lanes.close();
        self.engine.lanes.take(&mut self.queue, usize::MAX);
        for entry in self.queue.drain(..) {
            if entry.task.claim() {
                entry.task.overrule(Failure::Closed);
                self.engine.settle(entry);
            } else {
                self.engine.let_go(entry);
            }
        }
    }
}

/// As the engine's `Ticket`.
pub(crate) struct Ticket<R: Send + 'static>(Arc<Job<Ledger, R, Failure>>);

impl<R: Send + 'static> Ticket<R> {
    pub(crate) fn wait(self) -> Told<R> {
        self.0.wait_out().into()
    }

    pub(crate) fn wait_for(&mut self, wait: Duration) -> Option<Told<R>> {
        self.0.answer_by(Some(Instant::now() + wait)).map(Told::from)
    }

    pub(crate) fn wait_for_ever(&mut self) -> Told<R> {
        self.0.answer_by(None).expect("it has no deadline").into()
    }

    pub(crate) fn cancel(&self) -> bool {
        self.0.withdraw()
    }

    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Told<R>> {
        self.0.poll(context).map(Told::from)
    }
}

impl<R> From<Waited<Result<R, Failure>>> for Told<R> {
    fn from(waited: Waited<Result<R, Failure>>) -> Self {
        match waited {
            Waited::Answered(answer) | Waited::Undone(answer) => Self::Answer(answer),
            Waited::Withdrawn => Self::Withdrawn,
            Waited::Unknown => Self::Unknown,
        }
    }
}
