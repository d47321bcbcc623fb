//! Waiting for commits, of this process and of others.
//!
//! A commit of this process wakes the waiters. Commits of other processes are seen by `PRAGMA data_version` on a
//! connection of its own (<https://sqlite.org/pragma.html#pragma_data_version>), looked at 50 times a second while
//! somebody waits.
//!
//! Invariant: nobody waits past their deadline for that connection to be opened; a helper thread opens it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::clock::instant_after;
use super::connect::{Patience, Spec};
use super::generation::User;
use super::tx::Snapshot;
use super::{read_only, readers};
use crate::error::{Error, ErrorKind, Result};

/// How often other processes' commits are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(super) struct Changes {
    watch: Arc<Watching>,
    waiting: AtomicUsize,
    signal: Mutex<u64>,
    changed: Condvar,
}

/// Shared with the helper thread that opens the connection.
#[derive(Default)]
struct Watching {
    watch: Mutex<Watch>,
    opened: Condvar,
}

#[derive(Default)]
struct Watch {
    connection: Option<Snapshot>,
    /// A helper opens it, for the file of this generation.
    opening: bool,
    generation: u64,
    failed: Option<Error>,
    version: Option<i64>,
    count: u64,
    closed: bool,
}

impl Watch {
    /// Lets go of a connection to a file that may not be written and was changed all the same.
    fn forget_stale(&mut self) {
        if self.connection.as_ref().is_some_and(|connection| !connection.is_current()) {
            (self.connection, self.version) = (None, None);
        }
    }
}

impl Changes {
    /// A commit of this process.
    pub(super) fn notify(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            *self.signal.lock() += 1;
            self.changed.notify_all();
        }
    }

    /// Counts up with every change seen.
    pub(super) fn now(&self, spec: &Spec, deadline: Instant) -> Result<u64> {
        let late = || Error::new(ErrorKind::Timeout, "the disk did not answer until the deadline");
        let mut watch = self.watch.watch.try_lock_until(deadline).ok_or_else(late)?;
        let connection = loop {
            if watch.closed {
                return Err(Error::new(ErrorKind::Closed, "the database is closed"));
            }
            watch.forget_stale();
            if let Some(connection) = &watch.connection {
                break connection;
            }
            if let Some(error) = watch.failed.take() {
                return Err(error);
            }
            if !std::mem::replace(&mut watch.opening, true) {
                self.open(spec, watch.generation);
            }
            if self.watch.opened.wait_until(&mut watch, deadline).timed_out() && watch.connection.is_none() {
                return Err(late());
            }
        };
        let _patience = Patience::until(deadline);
        let version = Some(read_only::again(|| connection.row("PRAGMA data_version", [], |row| row.get(0)))?);
        if version != watch.version {
            watch.version = version;
            watch.count += 1;
        }
        Ok(watch.count)
    }

    fn open(&self, spec: &Spec, generation: u64) {
        let (watching, spec) = (self.watch.clone(), spec.clone());
        readers::on_helper(move || {
            let patience = Patience::until(instant_after(spec.limits.deadline));
            let opened = spec.open_reader(User::Watch);
            drop(patience);
            let mut watch = watching.watch.lock();
            watch.opening = false;
            if watch.generation == generation && !watch.closed {
                match opened {
                    Ok(connection) => watch.connection = Some(connection),
                    Err(error) => watch.failed = Some(error),
                }
            }
            drop(watch);
            watching.opened.notify_all();
        });
    }

    /// Waits until the count is another one than `seen`, or until `deadline`; answers the count.
    pub(super) fn wait(&self, spec: &Spec, seen: u64, deadline: Instant) -> Result<u64> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let answer = loop {
            let signal = *self.signal.lock();
            match self.now(spec, deadline) {
                Err(error) if error.kind() == ErrorKind::Timeout => break Ok(seen),
                Ok(count) if count == seen && Instant::now() < deadline => {}
                other => break other,
            }
            let mut current = self.signal.lock();
            if *current == signal {
                let until = deadline.min(Instant::now() + LOOK_EVERY);
                self.changed.wait_until(&mut current, until);
            }
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    /// Lets go of its connection; the next look opens the file anew, and counts as a change.
    pub(super) fn let_go(&self) {
        let mut watch = self.watch.watch.lock();
        watch.generation += 1;
        (watch.connection, watch.version, watch.failed) = (None, None, None);
    }

    /// Lets go for good, and tells who waits.
    pub(super) fn close(&self) {
        self.watch.watch.lock().closed = true;
        self.let_go();
        self.watch.opened.notify_all();
        *self.signal.lock() += 1;
        self.changed.notify_all();
    }
}
