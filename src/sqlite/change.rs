//! Waiting for commits, of this process and of others.
//!
//! A commit of this process wakes the waiters. Commits of other processes are seen by `PRAGMA data_version` on a
//! connection of its own (<https://sqlite.org/pragma.html#pragma_data_version>), looked at 50 times a second while
//! somebody waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::clock::instant_after;
use super::connect::{Patience, Spec};
use super::tx::Snapshot;
use crate::error::{Error, ErrorKind, Result};

/// How often other processes' commits are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(super) struct Changes {
    watch: Mutex<Watch>,
    waiting: AtomicUsize,
    signal: Mutex<u64>,
    changed: Condvar,
}

#[derive(Default)]
struct Watch {
    connection: Option<Snapshot>,
    version: Option<i64>,
    count: u64,
    closed: bool,
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
    pub(super) fn now(&self, spec: &Spec) -> Result<u64> {
        let _patience = Patience::until(instant_after(spec.limits.deadline));
        let mut watch = self.watch.lock();
        if watch.closed {
            return Err(Error::new(ErrorKind::Closed, "the database is closed"));
        }
        if watch.connection.as_ref().is_some_and(|connection| !connection.is_current()) {
            (watch.connection, watch.version) = (None, None);
        }
        let connection = match &mut watch.connection {
            Some(connection) => connection,
            none => none.insert(spec.open_reader()?),
        };
        let version = Some(connection.row("PRAGMA data_version", [], |row| row.get(0))?);
        if version != watch.version {
            watch.version = version;
            watch.count += 1;
        }
        Ok(watch.count)
    }

    /// Waits until the count is another one than `seen`, or until `deadline`; answers the count.
    pub(super) fn wait(&self, spec: &Spec, seen: u64, deadline: Instant) -> Result<u64> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let answer = loop {
            let signal = *self.signal.lock();
            match self.now(spec) {
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
        let mut watch = self.watch.lock();
        (watch.connection, watch.version) = (None, None);
    }

    /// Lets go for good, and tells who waits.
    pub(super) fn close(&self) {
        self.watch.lock().closed = true;
        self.let_go();
        *self.signal.lock() += 1;
        self.changed.notify_all();
    }
}
