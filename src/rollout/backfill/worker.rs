//! A run in the background.
//!
//! Invariants:
//! - Whoever has the handle is never waited for: dropping it stops the run, and waits for that for at most two seconds.
//! - While another process runs the backfill, this one waits without working; when that dies, it goes on.
//! - Trouble of the database is waited out, as callers' writes wait for it; anything else ends the run.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::FACTS;
use super::run::Run;
use crate::error::{Error, ErrorKind, Result};
use crate::forks;
use crate::handoff::job::JobError;
use crate::rollout::layout::walk;
use crate::stores::backfill::{Backfill, BackfillProgress, BackfillReport, Reread, root_text};

/// How long a handle that is dropped waits for the file or the commit under way.
const LONGEST_STOP: Duration = Duration::from_secs(2);
/// After trouble it is tried again after so long, then after twice that, up to a minute.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_mins(1);

/// Tells a run to stop, also while it rests.
#[derive(Default)]
pub(super) struct Stop {
    set: AtomicBool,
    lock: Mutex<()>,
    woken: Condvar,
}

impl Stop {
    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::Relaxed)
    }

    fn set(&self) {
        let _lock = self.lock.lock();
        self.set.store(true, Ordering::Relaxed);
        self.woken.notify_all();
    }

    /// Waits for so long, or until it is set.
    pub(super) fn rest(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut lock = self.lock.lock();
        while !self.is_set() && !self.woken.wait_until(&mut lock, until).timed_out() {}
    }
}

/// A backfill in the background, from [`Backfill::start`]. Dropping it stops the backfill; the next one goes on there.
#[must_use = "dropping it stops the backfill"]
pub struct BackfillHandle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    owner: u32,
}

struct Shared {
    stop: Stop,
    told: Mutex<Told>,
    ended: Condvar,
}

#[derive(Default)]
struct Told {
    progress: BackfillProgress,
    trouble: Option<Error>,
    end: Option<Result<BackfillReport>>,
}

impl Backfill {
    /// Indexes a folder in the background, as [`run`](Self::run) does, on a thread of its own. From now on lists say
    /// [`partial`](crate::stores::ThreadPage::partial) until every file had its turn, unless this folder was complete
    /// before. A folder where nothing changed is looked at, and nothing is written.
    ///
    /// The home stays open while it runs.
    ///
    /// # Errors
    /// `NotFound` when there is no such folder; the engine's; `Io` when no thread can be started.
    pub fn start(&self, root: &Path) -> Result<BackfillHandle> {
        let root = walk(root)?.root().to_owned();
        self.announce(root_text(&root)?, FACTS)?;
        let shared =
            Arc::new(Shared { stop: Stop::default(), told: Mutex::default(), ended: Condvar::new() });
        let (own, backfill) = (shared.clone(), self.clone());
        let thread = std::thread::Builder::new()
            .name("rowhouse-backfill".into())
            .spawn(move || own.work(&backfill, &root))
            .map_err(|error| {
                Error::new(ErrorKind::Io, "no thread could be started for the backfill").caused_by(error)
            })?;
        Ok(BackfillHandle { shared, thread: Some(thread), owner: forks::generation() })
    }
}

impl Shared {
    fn work(&self, backfill: &Backfill, root: &Path) {
        // Told also when the run panics: whoever waits for the end must not wait for ever.
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.run(backfill, root)))
            .unwrap_or_else(|payload| Err(Error::panicked(payload)));
        self.told.lock().end = Some(end);
        self.ended.notify_all();
    }

    fn run(&self, backfill: &Backfill, root: &Path) -> Result<BackfillReport> {
        let mut rest = FIRST_REST;
        loop {
            let mut heard = |progress: &BackfillProgress| {
                let mut told = self.told.lock();
                told.progress = *progress;
                told.trouble = None;
            };
            let run = Run::new(backfill, root, Reread::Changed, &self.stop, &mut heard);
            let error = match run.and_then(Run::until_done) {
                Ok(report) => return Ok(report),
                Err(error) if self.stop.is_set() || !passes(&error) => return Err(error),
                Err(error) => error,
            };
            let waits_for_another = error.kind() == ErrorKind::Busy && backfill.is_taken();
            self.told.lock().trouble = Some(error);
            if waits_for_another {
                while !self.stop.is_set() && backfill.is_taken() {
                    self.stop.rest(backfill.its_limits().look_every);
                }
                continue;
            }
            self.stop.rest(rest);
            rest = (rest * 2).min(LONGEST_REST);
        }
    }
}

/// Whether it is worth another try.
fn passes(error: &Error) -> bool {
    use ErrorKind::{Busy, Conflict, Full, Latched, OutcomeUnknown, Replaced, Timeout};
    matches!(error.kind(), Busy | Conflict | Full | Latched | OutcomeUnknown | Replaced | Timeout)
}

impl BackfillHandle {
    /// How far it is. While another process does it, [`Backfill::status`] tells.
    pub fn progress(&self) -> BackfillProgress {
        self.shared.told.lock().progress
    }

    /// What it waits for: another process that runs the backfill, a database that takes no writes. `None` while it works.
    pub fn trouble(&self) -> Option<Error> {
        self.shared.told.lock().trouble.clone()
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.shared.told.lock().end.is_some()
    }

    /// Waits for its end for so long; answers whether it came.
    pub fn wait(&self, wait: Duration) -> bool {
        let until = Instant::now().checked_add(wait);
        let mut told = self.shared.told.lock();
        while told.end.is_none() {
            let Some(until) = until else {
                self.shared.ended.wait(&mut told);
                continue;
            };
            if self.shared.ended.wait_until(&mut told, until).timed_out() {
                break;
            }
        }
        told.end.is_some()
    }

    /// Has it stop behind the file under way, and does not wait for that.
    pub fn stop(&self) {
        self.shared.stop.set();
    }

    /// Waits until it is complete, or has stopped; [`BackfillReport::complete`] says which.
    ///
    /// # Errors
    /// As for [`Backfill::run`].
    pub fn join(mut self) -> Result<BackfillReport> {
        if let Some(thread) = self.thread.take() {
            // Its panics are caught, and are its end.
            let _ = thread.join();
        }
        let end = self.shared.told.lock().end.take();
        end.unwrap_or_else(|| Err(Error::new(ErrorKind::Closed, "the backfill has ended without a word")))
    }
}

impl Drop for BackfillHandle {
    fn drop(&mut self) {
        // A fork has no such thread.
        if self.thread.is_some() && forks::current() == self.owner {
            self.stop();
            self.wait(LONGEST_STOP);
        }
    }
}

impl std::fmt::Debug for BackfillHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackfillHandle").field("progress", &self.progress()).finish_non_exhaustive()
    }
}
