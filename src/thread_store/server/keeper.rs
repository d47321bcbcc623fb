//! Keeps a writer alive while it has threads.
//!
//! One thread per store, which starts with the first thread that is written and ends soon after the last one: it says every
//! third of the lease that its writer is alive. Whoever asks whether a thread is wanted is answered from what it last saw, and
//! has it look again, at most once a second: the caller never waits for a server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::writer::{self, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::stores::database::Engine;
use crate::telemetry;

/// How often it is looked whether somebody waits, at most.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

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
        state.held += 1;
        Ok(Kept(Arc::clone(&self.shared)))
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
        let mut state = self.state.lock();
        loop {
            let now = Instant::now();
            if state.held == 0 {
                state.runs = false;
                state.wanted.clear();
                return;
            }
            if now >= beats_at {
                drop(state);
                self.beat();
                beats_at = Instant::now() + self.lease / 3;
                state = self.state.lock();
            } else if state.asked && now >= looks_at {
                state.asked = false;
                drop(state);
                // What cannot be looked at now is looked at when somebody asks again.
                let wanted = self.engine.read(|at| self.writer.wanted(at)).unwrap_or_default();
                looks_at = Instant::now() + LOOKS_EVERY;
                state = self.state.lock();
                state.wanted = wanted.into_iter().collect();
            } else {
                let until = if state.asked { beats_at.min(looks_at) } else { beats_at };
                self.changed.wait_until(&mut state, until);
            }
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
