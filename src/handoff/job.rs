//! One job: its states, its answer, and the waiting for it.
//!
//! ```text
//! Queued ──claim──▶ Running ──▶ Ran ──settle──▶ Settled
//!   │  ▲               ▲         │ └──────────── claim (the batch was lost: run again)
//!   │  └──put back─────┴─────────┤               (the batch was lost: wait for another)
//!   │ deadline, cancel └─────────┘
//!   ▼                             │ deadline of a waiting caller
//! Withdrawn                       ▼
//!                              Abandoned (outcome unknown; never claimed again)
//! ```
//!
//! Invariants:
//! 1. Only the thread that moved a job to Running calls its closure; only it moves the job on to Ran.
//! 2. Settled, Withdrawn and Abandoned are final: `claim` refuses them. A lent closure's owner returns only from one
//!    of these.
//! 3. The answer is on the heap. A job that is Abandoned still gets one; nobody reads it.
//! 4. A waiter is woken by `settle`, and by the end of a run when it said it is impatient.
//!
//! Tests: `models/` drives all of it under shuttle (orders) and Miri (memory); the engine's tests drive each
//! deadline against each state.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::lend::{Body, Lent};
use crate::sync::{Arc, AtomicBool, AtomicU8, Instant, Mutex, Ordering, thread};

const QUEUED: u8 = 0;
const RUNNING: u8 = 1;
/// Running, and its waiter wants to hear when the run ends.
const IMPATIENT: u8 = 2;
const RAN: u8 = 3;
const SETTLED: u8 = 4;
const WITHDRAWN: u8 = 5;
const ABANDONED: u8 = 6;

/// What a job's error type must be able to say for the hand-over itself.
pub(crate) trait JobError: Clone + Send + 'static {
    /// The job panicked with this.
    fn panicked(payload: Box<dyn Any + Send>) -> Self;
    /// Whoever was to run it is gone.
    fn abandoned() -> Self;
    /// True when the job may count in spite of this error.
    fn leaves_open(&self) -> bool {
        false
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    Fine,
    Failed,
    Panicked,
}

/// What was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Fine,
    Failed,
    /// Nobody waited for it any more.
    Gone,
}

/// How waiting ended.
#[derive(Debug)]
pub(crate) enum Waited<T> {
    Answered(T),
    /// The deadline passed before anybody claimed it: it will never run.
    Withdrawn,
    /// The deadline passed after it ran and answered this error: what it did is undone.
    Undone(T),
    /// The deadline passed after it ran: it may yet be committed.
    Unknown,
}

/// One job on a context `C`, answering `Result<R, E>`.
pub(crate) struct Job<C, R, E> {
    state: AtomicU8,
    deadline: Instant,
    body: UnsafeCell<Option<Body<C, Result<R, E>>>>,
    answer: Mutex<Option<Result<R, E>>>,
    /// The answer is an error, and what the job did will not count.
    failed: AtomicBool,
    waiter: Mutex<Option<Waiter>>,
}

enum Waiter {
    Thread(thread::Thread),
    Task(Waker),
}

// SAFETY: `body` is the only part that is not `Sync` by itself. It is touched by `run`, which only the claimer enters
// (invariant 1), and by `discard`, which takes it after a final state in which nobody can claim (invariant 2), by the
// one thread that settled the job. The closure inside is `Send`. `R` and `E` are only reached through a mutex.
unsafe impl<C, R: Send, E: Send> Sync for Job<C, R, E> {}
// SAFETY: as above; nothing in a job belongs to a thread.
unsafe impl<C, R: Send, E: Send> Send for Job<C, R, E> {}

/// A job as the writer sees it, whatever it answers.
pub(crate) trait Task<C, E>: Send + Sync {
    /// When its caller stops waiting.
    fn deadline(&self) -> Instant;
    /// Takes the right to run it, first or again. False when its caller gave up on it: then it must be forgotten.
    fn claim(&self) -> bool;
    /// Runs it. The caller has claimed it.
    fn run(&self, context: &C) -> Ran;
    /// Answers a job that is not running, and acknowledges at once: it was not done, and will not be. False when its
    /// caller gave up on it.
    fn refuse(&self, error: E) -> bool;
    /// Makes this the answer of a job that is claimed or ran, instead of what its run answered.
    fn overrule(&self, error: E);
    /// Acknowledges: the caller learns the answer. Only for a claimed job that ran or was overruled.
    fn settle(&self) -> Settled;
    /// Puts a job that is claimed or ran back among those that wait: what its run did is undone, and it may be run again
    /// or given up as if it never had. False when its caller gave up on it. Only by whoever claimed it.
    fn put_back(&self) -> bool;
    /// Settles whatever is not final yet: nobody will run it, or finish it, any more.
    fn abandon(&self);
    /// True when its caller gave up on it.
    fn is_over(&self) -> bool;
    /// Drops the closure of a job that is over and what it captured. Only by whoever held it to run it.
    fn discard(&self);
}

impl<C: 'static, R: Send + 'static, E: JobError> Job<C, R, E> {
    fn new(body: Body<C, Result<R, E>>, deadline: Instant, waiter: Option<Waiter>) -> Self {
        Self {
            state: AtomicU8::new(QUEUED),
            deadline,
            body: UnsafeCell::new(Some(body)),
            answer: Mutex::new(None),
            failed: AtomicBool::new(false),
            waiter: Mutex::new(waiter),
        }
    }

    /// A job that owns its closure.
    pub(crate) fn owned(
        closure: impl Fn(&C) -> Result<R, E> + Send + 'static,
        deadline: Instant,
    ) -> Arc<Self> {
        Arc::new(Self::new(Body::Owned(Box::new(closure)), deadline, None))
    }

    /// Lends `closure` to whoever claims the job that `enqueue` is given, and waits for its answer.
    ///
    /// Returns only when the closure can never be called again; so also when `enqueue` fails or panics.
    ///
    /// # Errors
    /// What `enqueue` answers.
    pub(crate) fn lend<Q>(
        closure: impl Fn(&C) -> Result<R, E> + Send,
        deadline: Instant,
        enqueue: impl FnOnce(Arc<Self>) -> Result<(), Q>,
    ) -> Result<Waited<Result<R, E>>, Q> {
        // SAFETY: `closure` is this function's own and stays where it is; not even `enqueue`, which may run at the same
        // time as the claimer, can get at it. The only calls are made by a claimer (invariant 1). `Untouchable` keeps
        // this function from returning or unwinding while the job is claimed, and withdraws it when it is not
        // (invariant 2).
        let body = Body::Lent(unsafe { Lent::new(&closure) });
        let job = Arc::new(Self::new(body, deadline, Some(Waiter::Thread(thread::current()))));
        let guard = Untouchable(&job);
        enqueue(job.clone())?;
        let waited = job.wait(deadline);
        drop(guard);
        Ok(waited)
    }

    /// Waits until the job is final, or its fate at `deadline` is known.
    fn wait(&self, deadline: Instant) -> Waited<Result<R, E>> {
        loop {
            match self.state.load(Ordering::Acquire) {
                SETTLED => return Waited::Answered(self.take_answer()),
                WITHDRAWN => return Waited::Withdrawn,
                ABANDONED => return Waited::Unknown,
                state => {
                    let now = Instant::now();
                    if now < deadline {
                        thread::park_timeout(deadline - now);
                        continue;
                    }
                    match state {
                        QUEUED => drop(self.withdraw()),
                        RAN if self.swap(RAN, ABANDONED) => return self.given_up(),
                        RAN => {}
                        // The closure may not be left while it runs; its own deadline stops its SQL.
                        RUNNING => drop(self.swap(RUNNING, IMPATIENT)),
                        _ => thread::park(),
                    }
                }
            }
        }
    }

    /// What is known of a job that this thread just abandoned. Who failed is never committed, and not run again.
    fn given_up(&self) -> Waited<Result<R, E>> {
        let mut answer = self.answer.lock();
        if !self.failed.load(Ordering::Acquire) {
            return Waited::Unknown;
        }
        answer.take().map_or(Waited::Unknown, Waited::Undone)
    }

    /// Waits for the answer until `until`, changing nothing: who polled before is still woken.
    pub(crate) fn answer_by(&self, until: Option<Instant>) -> Option<Waited<Result<R, E>>> {
        let before = self.register(Waiter::Thread(thread::current()));
        loop {
            if let Some(done) = self.finished() {
                return Some(done);
            }
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => {
                    *self.waiter.lock() = before;
                    // It may have been settled meanwhile, and woken this thread instead.
                    return self.finished();
                }
                Some(left) => thread::park_timeout(left),
                None => thread::park(),
            }
        }
    }

    /// Waits until its deadline, and settles its fate then, as the caller of a lent job does.
    pub(crate) fn wait_out(&self) -> Waited<Result<R, E>> {
        drop(self.register(Waiter::Thread(thread::current())));
        self.wait(self.deadline)
    }

    /// The answer, or what became of it, once the job is final.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Waited<Result<R, E>>> {
        if let Some(done) = self.finished() {
            return Poll::Ready(done);
        }
        drop(self.register(Waiter::Task(context.waker().clone())));
        match self.finished() {
            Some(done) => Poll::Ready(done),
            None => Poll::Pending,
        }
    }

    /// Takes it out of the queue. False when it is running or over.
    pub(crate) fn withdraw(&self) -> bool {
        self.swap(QUEUED, WITHDRAWN)
    }

    fn finished(&self) -> Option<Waited<Result<R, E>>> {
        match self.state.load(Ordering::Acquire) {
            SETTLED => Some(Waited::Answered(self.take_answer())),
            WITHDRAWN => Some(Waited::Withdrawn),
            ABANDONED => Some(Waited::Unknown),
            _ => None,
        }
    }

    fn take_answer(&self) -> Result<R, E> {
        self.answer.lock().take().expect("a settled job has an answer, and one waiter that takes it once")
    }

    /// Replaces the answer of an earlier run, if there is one.
    fn put_answer(&self, answer: Result<R, E>, failed: bool) {
        let before = {
            let mut last = self.answer.lock();
            self.failed.store(failed, Ordering::Release);
            last.replace(answer)
        };
        contained(|| drop(before));
    }

    /// Answers who was registered before.
    fn register(&self, waiter: Waiter) -> Option<Waiter> {
        self.waiter.lock().replace(waiter)
    }

    fn wake(&self) {
        let mut waiter = self.waiter.lock();
        match &*waiter {
            // Stays registered: a lender may have to be woken twice, after an impatient run and when it settles.
            Some(Waiter::Thread(waiting)) => waiting.unpark(),
            Some(Waiter::Task(_)) => {
                let taken = waiter.take();
                drop(waiter);
                if let Some(Waiter::Task(waker)) = taken {
                    contained(|| waker.wake());
                }
            }
            None => {}
        }
    }

    fn swap(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl<C: 'static, R: Send + 'static, E: JobError> Task<C, E> for Job<C, R, E> {
    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn claim(&self) -> bool {
        self.swap(QUEUED, RUNNING) || self.swap(RAN, RUNNING)
    }

    fn run(&self, context: &C) -> Ran {
        let answer = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the caller has claimed the job, so no other thread is here (invariant 1), and a lent closure's
            // owner is still waiting (invariant 2).
            let body = unsafe { (*self.body.get()).as_ref() }.expect("a claimed job has its closure");
            // SAFETY: the same.
            unsafe { body.call(context) }
        }));
        let (answer, ran) = match answer {
            Ok(Ok(value)) => (Ok(value), Ran::Fine),
            Ok(Err(error)) => (Err(error), Ran::Failed),
            Err(payload) => (Err(E::panicked(payload)), Ran::Panicked),
        };
        let failed = answer.is_err();
        self.put_answer(answer, failed);
        if self.state.swap(RAN, Ordering::AcqRel) == IMPATIENT {
            self.wake();
        }
        ran
    }

    fn refuse(&self, error: E) -> bool {
        if !self.claim() {
            return false;
        }
        self.put_answer(Err(error), true);
        // From Running, or Impatient by now: only the claimer leaves these.
        self.state.store(SETTLED, Ordering::Release);
        self.wake();
        true
    }

    fn overrule(&self, error: E) {
        let failed = !error.leaves_open();
        self.put_answer(Err(error), failed);
        if self.state.load(Ordering::Acquire) != ABANDONED {
            // Claimed and not run: it counts as having run. An abandoned job stays so.
            let _ = self.swap(RUNNING, RAN) || self.swap(IMPATIENT, RAN);
        }
    }

    fn settle(&self) -> Settled {
        let settled = match &*self.answer.lock() {
            Some(Ok(_)) => Settled::Fine,
            _ => Settled::Failed,
        };
        if !self.swap(RAN, SETTLED) {
            return Settled::Gone;
        }
        self.wake();
        settled
    }

    fn put_back(&self) -> bool {
        match self.state.load(Ordering::Acquire) {
            QUEUED => true,
            RAN => self.swap(RAN, QUEUED),
            RUNNING | IMPATIENT => {
                // Only the claimer leaves these. A caller that is impatient sleeps until the run has ended: it has.
                if self.state.swap(QUEUED, Ordering::AcqRel) == IMPATIENT {
                    self.wake();
                }
                true
            }
            _ => false,
        }
    }

    fn abandon(&self) {
        if matches!(self.state.load(Ordering::Acquire), SETTLED | WITHDRAWN | ABANDONED) {
            return;
        }
        // Unless its caller withdraws it at this moment, it is ours now: claimed by us, or left claimed by a thread
        // that died.
        let _ = self.claim();
        self.overrule(E::abandoned());
        let _ = self.settle();
    }

    fn is_over(&self) -> bool {
        matches!(self.state.load(Ordering::Acquire), WITHDRAWN | ABANDONED)
    }

    fn discard(&self) {
        if matches!(self.state.load(Ordering::Acquire), SETTLED | WITHDRAWN | ABANDONED) {
            // SAFETY: final state, so nobody can claim and call it; only the one thread that held it discards.
            let body = unsafe { (*self.body.get()).take() };
            contained(|| drop(body));
        }
    }
}

/// Runs what callers brought along, wakers and destructors: whoever settles has others to settle, and must not die of
/// it.
fn contained(foreign: impl FnOnce()) {
    let Err(payload) = catch_unwind(AssertUnwindSafe(foreign)) else { return };
    // What a panic carries may panic when it is dropped, and carry something that does.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(payload);
    }
}

/// Keeps a lender from leaving while its closure can still be called.
struct Untouchable<'a, C: 'static, R: Send + 'static, E: JobError>(&'a Job<C, R, E>);

impl<C, R: Send + 'static, E: JobError> Drop for Untouchable<'_, C, R, E> {
    fn drop(&mut self) {
        loop {
            match self.0.state.load(Ordering::Acquire) {
                SETTLED | WITHDRAWN | ABANDONED => return,
                QUEUED => drop(self.0.withdraw()),
                RAN => drop(self.0.swap(RAN, ABANDONED)),
                RUNNING => drop(self.0.swap(RUNNING, IMPATIENT)),
                _ => thread::park(),
            }
        }
    }
}
