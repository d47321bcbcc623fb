//! The thread that does the steps of a runtime's databases, a piece at a time.
//!
//! Invariants:
//! 1. There is at most one per runtime, and none while there is nothing to do.
//! 2. It keeps no database open: what it knows of one is weak, and [`Runner::leave`] answers only when it has let go.
//! 3. Who is enlisted is looked at from then on, also while the thread is about to have done with it.
//! 4. It survives what panics below it: a logger, mostly.
//!
//! Tests: below; `tests/m5_steps.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::work::{LOOK_EVERY, Next, Work};
use crate::error::Error;
use crate::handoff::job::JobError;
use crate::sqlite::clock::instant_after;
use crate::sqlite::shared::{Shared, warn};
use crate::sync::Arc;

/// How long a database that closes waits for the piece under way: its job is answered by then, or a read of it ends.
const LONGEST_LEAVE: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(crate) struct Runner {
    list: Mutex<List>,
    changed: Condvar,
}

#[derive(Default)]
struct List {
    waiting: Vec<Enlisted>,
    /// The database that is worked on.
    current: Option<Weak<Shared>>,
    /// It was enlisted once more meanwhile.
    again: bool,
    thread: Option<ThreadId>,
}

/// A database with steps that are not done.
struct Enlisted {
    shared: Weak<Shared>,
    due: Instant,
    work: Work,
}

impl Enlisted {
    fn new(shared: Weak<Shared>) -> Self {
        Self { shared, due: Instant::now(), work: Work::default() }
    }

    fn go_on(&mut self) -> Next {
        let Some(shared) = self.shared.upgrade() else { return Next::Nothing };
        survive(|| self.work.go_on(&shared)).unwrap_or_else(|| {
            self.work = Work::default();
            Next::after(LOOK_EVERY)
        })
    }
}

/// What it answers; `None` when it panics.
fn survive<R>(work: impl FnOnce() -> R) -> Option<R> {
    // Making an error of what the panic carries disposes of it; the hook for panics has told.
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| drop(Error::panicked(payload))).ok()
}

impl List {
    /// The database that is due first.
    fn first(&self) -> Option<usize> {
        (0..self.waiting.len()).min_by_key(|&at| self.waiting[at].due)
    }
}

impl Runner {
    /// Takes a database on, once, and starts the thread when there is none.
    pub(super) fn enlist(self: &Arc<Self>, shared: &Weak<Shared>) {
        let mut list = self.list.lock();
        if list.current.as_ref().is_some_and(|current| current.ptr_eq(shared)) {
            list.again = true;
            return;
        }
        if list.waiting.iter().any(|enlisted| enlisted.shared.ptr_eq(shared)) {
            return;
        }
        list.waiting.push(Enlisted::new(shared.clone()));
        self.changed.notify_all();
        if list.thread.is_some() {
            return;
        }
        let own = self.clone();
        match std::thread::Builder::new().name("rowhouse-steps".into()).spawn(move || own.run()) {
            Ok(thread) => list.thread = Some(thread.thread().id()),
            Err(error) => {
                list.waiting.clear();
                drop(list);
                warn(&format_args!("no thread could be started for the steps of the databases: {error}"));
            }
        }
    }

    /// Lets go of a database that closes: when this answers, nothing of it is used here any more.
    pub(super) fn leave(&self, shared: &Weak<Shared>) {
        let until = instant_after(LONGEST_LEAVE);
        let mut list = self.list.lock();
        list.waiting.retain(|enlisted| !enlisted.shared.ptr_eq(shared));
        // It may have nothing left to do.
        self.changed.notify_all();
        let own = Some(std::thread::current().id());
        while list.current.as_ref().is_some_and(|current| current.ptr_eq(shared)) && list.thread != own {
            if self.changed.wait_until(&mut list, until).timed_out() {
                return;
            }
        }
    }

    fn run(&self) {
        let mut list = self.list.lock();
        loop {
            let Some(at) = list.first() else {
                list.thread = None;
                return;
            };
            let due = list.waiting[at].due;
            if Instant::now() < due {
                self.changed.wait_until(&mut list, due);
                continue;
            }
            let mut enlisted = list.waiting.swap_remove(at);
            list.current = Some(enlisted.shared.clone());
            drop(list);
            let next = enlisted.go_on();
            let shared = enlisted.shared.clone();
            // Its lock ends here when it is done, before who waits for that is told.
            let waits = match next {
                Next::At(due) => Some(Enlisted { due, ..enlisted }),
                Next::Nothing => {
                    drop(enlisted);
                    None
                }
            };
            list = self.list.lock();
            list.current = None;
            let again = std::mem::take(&mut list.again);
            let waits = waits.or_else(|| again.then(|| Enlisted::new(shared)));
            // Closed meanwhile: who waits in `leave` finds it nowhere.
            let is_open =
                |enlisted: &Enlisted| enlisted.shared.upgrade().is_some_and(|shared| shared.lanes.is_open());
            list.waiting.extend(waits.filter(is_open));
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_survived_also_one_whose_payload_panics() {
        struct Worse;
        impl Drop for Worse {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        assert_eq!(survive(|| 1), Some(1));
        assert_eq!(survive(|| std::panic::panic_any(Worse)), None::<()>);
    }
}
