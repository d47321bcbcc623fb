//! Keeps a writer alive while it has threads.
//!
//! One thread per store, which starts with the first thread that is written and ends soon after the last one: it says every
//! third of the lease that its writer is alive. Whoever asks whether a thread is wanted is answered from what it last saw, and
//! has it look again, at most once a second: the caller never waits for a server.
//!
//! A right that nobody here can use is given back: one that was being taken, or given back, when the server went away, and may
//! be this writer's or not. As long as the writer lives for its other threads, nobody else would get it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::writer::{self, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::stores::database::{Engine, StoreSession};
use crate::telemetry;

/// How often it is looked whether somebody waits, at most; and how often it is tried to give back what nobody uses.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// How long one try to give that back may take: it must not keep the writer from saying that it is alive.
const LONGEST_RETURN: Duration = Duration::from_secs(2);

/// The writer of a store, and what keeps it alive. Cheap to clone.
#[derive(Clone)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    writer: Writer,
    lease: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Threads that are written.
    held: usize,
    runs: bool,
    /// Somebody asked whether a thread is wanted.
    asked: bool,
    wanted: BTreeSet<String>,
    /// Rights to be given back, as threads and their tokens.
    unused: BTreeSet<(String, String)>,
}

/// Keeps the writer alive until it is dropped.
pub(super) struct Kept(Arc<Shared>);

impl Keeper {
    pub(super) fn new(engine: Engine, lease: Duration) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Shared { engine, writer: Writer::this_process(), lease, state, changed };
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.shared.writer
    }

    pub(super) fn lease(&self) -> Duration {
        self.shared.lease
    }

    /// Keeps the writer alive from now on.
    ///
    /// # Errors
    /// `Io` when no thread can be started.
    pub(super) fn keep(&self) -> Result<Kept> {
        let mut state = self.shared.state.lock();
        self.start(&mut state)?;
        state.held += 1;
        Ok(Kept(Arc::clone(&self.shared)))
    }

    fn start(&self, state: &mut State) -> Result<()> {
        if !state.runs {
            let shared = Arc::clone(&self.shared);
            let started =
                std::thread::Builder::new().name("rowhouse-writer".to_owned()).spawn(move || shared.run());
            started.map_err(|error| {
                Error::new(ErrorKind::Io, "no thread could be started to keep a thread's writer alive")
                    .caused_by(error)
            })?;
            state.runs = true;
        }
        Ok(())
    }

    /// Gives back a right that may be there or not, as soon as the server can be told. Nothing happens to one that was taken
    /// anew meanwhile, by whomever.
    pub(super) fn give_back(&self, thread: &str, token: &str) {
        let mut state = self.shared.state.lock();
        state.unused.insert((thread.to_owned(), token.to_owned()));
        // Without a thread the next one that is started does it.
        let _ = self.start(&mut state);
        self.shared.changed.notify_one();
    }

    /// The rights that were not given back so far. It is not tried any more.
    pub(super) fn take_unused(&self) -> BTreeSet<(String, String)> {
        let unused = std::mem::take(&mut self.shared.state.lock().unused);
        self.shared.changed.notify_one();
        unused
    }

    /// Whether somebody waited for this thread when that was last looked at.
    pub(super) fn is_wanted(&self, thread: &str) -> bool {
        let mut state = self.shared.state.lock();
        state.asked = true;
        self.shared.changed.notify_one();
        state.wanted.contains(thread)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.state.lock().held -= 1;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn run(&self) {
        let (mut beats_at, mut looks_at) = (Instant::now() + self.lease / 3, Instant::now());
        let mut returns_at = Instant::now();
        let mut state = self.state.lock();
        loop {
            let due = [
                (state.held > 0).then_some(beats_at),
                (state.held > 0 && state.asked).then_some(looks_at),
                (!state.unused.is_empty()).then_some(returns_at),
            ];
            let now = Instant::now();
            let is_due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
            let [beats, looks, returns] = due.map(is_due);
            if beats {
                drop(state);
                self.beat();
                beats_at = Instant::now() + self.lease / 3;
                state = self.state.lock();
            } else if returns {
                let unused = state.unused.clone();
                drop(state);
                let returned = self.return_rights(&unused);
                returns_at = Instant::now() + LOOKS_EVERY;
                state = self.state.lock();
                if returned {
                    state.unused.retain(|right| !unused.contains(right));
                }
            } else if looks {
                state.asked = false;
                drop(state);
                // What cannot be looked at now is looked at when somebody asks again.
                let wanted = self.engine.read(|at| self.writer.wanted(at)).unwrap_or_default();
                looks_at = Instant::now() + LOOKS_EVERY;
                state = self.state.lock();
                state.wanted = wanted.into_iter().collect();
            } else if let Some(next) = due.into_iter().flatten().min() {
                self.changed.wait_until(&mut state, next);
            } else {
                state.runs = false;
                state.wanted.clear();
                return;
            }
        }
    }

    /// Whether they need not be tried again.
    fn return_rights(&self, rights: &BTreeSet<(String, String)>) -> bool {
        let soon = self.engine.clone().within(LONGEST_RETURN);
        let each = |tx: &StoreSession<'_>| {
            rights.iter().try_for_each(|(thread, token)| writer::give_back(tx, thread, token))
        };
        match soon.write(each) {
            Ok(()) => true,
            // The writer ends with its runtime.
            Err(error) => error.kind() == ErrorKind::Closed,
        }
    }

    fn beat(&self) {
        let beaten = self.engine.write(|tx| {
            writer::forget_the_gone(tx)?;
            self.writer.is_alive(tx, self.lease)
        });
        match beaten {
            Err(error) if error.kind() != ErrorKind::Closed => telemetry::warn(&format_args!(
                "the server could not be told that this program still writes its threads, \
                 which others may take over: {error}"
            )),
            _ => {}
        }
    }
}
