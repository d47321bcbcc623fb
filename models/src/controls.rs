//! Controls: the waiting of a lender in small, with flaws that the checkers must find. A checker that passes one of
//! these would pass a broken hand-over.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::handoff::gate::Gate;
use crate::handoff::lend::{Body, Lent};
use crate::harness::{never, scope};
use crate::sync::{Arc, AtomicU8, Instant, Mutex, Ordering, thread};

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// Nothing: the control of the controls.
    None,
    /// The lender leaves at its deadline, even while its closure runs.
    LeavesARun,
    /// The end of a run wakes nobody, though the lender said it was impatient.
    WakesNobody,
    /// The lender is impatient without saying so.
    SaysNothing,
}

const QUEUED: u8 = 0;
const RUNNING: u8 = 1;
const IMPATIENT: u8 = 2;
const RAN: u8 = 3;
const WITHDRAWN: u8 = 4;

/// A job that runs once, and is over when it ran.
struct Small {
    state: AtomicU8,
    body: UnsafeCell<Body<(), ()>>,
    lender: thread::Thread,
    flaw: Flaw,
}

// SAFETY: none with a flaw; without one, as for `handoff::job::Job`.
unsafe impl Sync for Small {}
// SAFETY: the same.
unsafe impl Send for Small {}

impl Small {
    fn swap(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn run(&self) {
        if self.swap(QUEUED, RUNNING) {
            // SAFETY: as for `handoff::job::Job`.
            unsafe { (*self.body.get()).call(&()) };
            let before = self.state.swap(RAN, Ordering::AcqRel);
            if before == IMPATIENT && self.flaw != Flaw::WakesNobody {
                self.lender.unpark();
            }
        }
    }

    /// Lends and waits; the deadline has passed already.
    fn lend(flaw: Flaw, closure: impl Fn(&()) + Send, enqueue: impl FnOnce(Arc<Self>)) {
        // SAFETY: as for `handoff::job::Job::lend`, unless it has the flaw.
        let body = UnsafeCell::new(Body::Lent(unsafe { Lent::new(&closure) }));
        let job = Arc::new(Self { state: AtomicU8::new(QUEUED), body, lender: thread::current(), flaw });
        enqueue(job.clone());
        loop {
            match job.state.load(Ordering::Acquire) {
                QUEUED => drop(job.swap(QUEUED, WITHDRAWN)),
                RUNNING if flaw == Flaw::LeavesARun => return,
                RUNNING if flaw == Flaw::SaysNothing => thread::park(),
                RUNNING => drop(job.swap(RUNNING, IMPATIENT)),
                IMPATIENT => thread::park(),
                _ => return,
            }
        }
    }
}

/// A moment in which the other threads get on.
fn moment() {
    thread::park_timeout(std::time::Duration::from_nanos(1));
}

fn lend_once(flaw: Flaw) {
    let queue: Mutex<Option<Arc<Small>>> = Mutex::new(None);
    let (begun, gone) = (AtomicBool::new(false), AtomicBool::new(false));
    scope(|scope| {
        scope.spawn(|| {
            let mut tries = 0;
            while tries < 50 {
                let job = queue.lock().take();
                if let Some(job) = job {
                    return job.run();
                }
                tries += 1;
                moment();
            }
        });
        // Not this thread: shuttle wakes it when the other ends.
        scope.spawn(|| {
            let text = String::from("on the lender's stack");
            let closure = |(): &()| {
                begun.store(true, Relaxed);
                for _ in 0..20 {
                    // Under Miri, the use after free itself is what is found.
                    assert!(cfg!(miri) || !gone.load(Relaxed), "the lender has left");
                    assert!(!text.is_empty());
                    moment();
                }
            };
            Small::lend(flaw, closure, |job| {
                *queue.lock() = Some(job);
                for _ in 0..50 {
                    if begun.load(Relaxed) {
                        break;
                    }
                    moment();
                }
            });
            gone.store(true, Relaxed);
            drop(text);
        });
    });
}

/// Nothing is wrong.
pub fn sound() {
    lend_once(Flaw::None);
}

/// A use after free.
pub fn leaves_a_run() {
    lend_once(Flaw::LeavesARun);
}

/// A lost wake-up.
pub fn wakes_nobody() {
    lend_once(Flaw::WakesNobody);
}

/// Another.
pub fn says_nothing() {
    lend_once(Flaw::SaysNothing);
}

/// A gate that is passed although somebody is in line: a caller that submitted, and then writes, overtakes itself.
pub fn overtakes_itself() {
    let gate = Gate::new(Vec::new());
    let queued = AtomicBool::new(false);
    scope(|scope| {
        scope.spawn(|| {
            while !queued.load(Relaxed) {
                moment();
            }
            gate.enter().push(1);
            gate.leave();
        });
        gate.join();
        queued.store(true, Relaxed);
        // Not `pass`, which looks at the line.
        gate.enter().push(2);
    });
    assert_eq!(*gate.enter(), [1, 2], "in order");
}

/// A waiter that looks, and then says that it waits.
pub fn looks_then_waits() {
    let (ready, waiter) = (AtomicU8::new(0), Mutex::new(None::<thread::Thread>));
    scope(|scope| {
        scope.spawn(|| {
            ready.store(1, Ordering::Release);
            if let Some(waiter) = &*waiter.lock() {
                waiter.unpark();
            }
        });
        scope.spawn(|| {
            if ready.load(Ordering::Acquire) == 0 {
                *waiter.lock() = Some(thread::current());
                thread::park_timeout(never() - Instant::now());
            }
        });
    });
}
