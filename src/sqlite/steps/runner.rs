//! The thread that does the steps of a runtime's databases, a piece at a time.
//!
//! Invariants:
//! 1. There is at most one per runtime, and none while there is nothing to do.
//! 2. It keeps no database open: what it knows of one is weak, and [`Runner::leave`] answers only when it has let go.
//!
//! Tests: `tests/m5_steps.rs`.

use std::sync::Weak;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::work::{Next, Work};
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
    thread: Option<ThreadId>,
}

/// A database with steps that are not done.
struct Enlisted {
    shared: Weak<Shared>,
    due: Instant,
    work: Work,
}

impl List {
    fn knows(&self, shared: &Weak<Shared>) -> bool {
        let listed = self.waiting.iter().map(|enlisted| &enlisted.shared).chain(&self.current);
        listed.into_iter().any(|other| other.ptr_eq(shared))
    }

    /// The database that is due first.
    fn first(&self) -> Option<usize> {
        (0..self.waiting.len()).min_by_key(|&at| self.waiting[at].due)
    }
}

impl Runner {
    /// Takes a database on, once, and starts the thread when there is none.
    pub(super) fn enlist(self: &Arc<Self>, shared: &Weak<Shared>) {
        let mut list = self.list.lock();
        if list.knows(shared) {
            return;
        }
        list.waiting.push(Enlisted { shared: shared.clone(), due: Instant::now(), work: Work::default() });
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
            let next = match enlisted.shared.upgrade() {
                Some(shared) => enlisted.work.go_on(&shared),
                None => Next::Nothing,
            };
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
            // Closed meanwhile: who waits in `leave` finds it nowhere.
            let is_open =
                |enlisted: &Enlisted| enlisted.shared.upgrade().is_some_and(|shared| shared.lanes.is_open());
            list.waiting.extend(waits.filter(is_open));
            self.changed.notify_all();
        }
    }
}
