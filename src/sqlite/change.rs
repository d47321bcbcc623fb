//! Waiting for commits, of this process and of others.
//!
//! A commit of this process wakes the waiters. Commits of other processes are seen by `PRAGMA data_version` on a
//! connection of its own (<https://sqlite.org/pragma.html#pragma_data_version>), looked at 50 times a second while
//! somebody waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::connect::{Patience, Spec};
use super::shared::instant_after;
use super::tx::Snapshot;
use crate::error::Result;

/// How often other processes' commits are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(super) struct Changes {
    watch: Mutex<Option<Watch>>,
    waiting: AtomicUsize,
    signal: Mutex<u64>,
    changed: Condvar,
}

struct Watch {
    connection: Snapshot,
    version: i64,
    count: u64,
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
        let mut slot = self.watch.lock();
        let watch = match &mut *slot {
            Some(watch) => watch,
            none => none.insert(Watch { connection: spec.open_reader()?, version: -1, count: 0 }),
        };
        let version = watch.connection.row("PRAGMA data_version", [], |row| row.get(0))?;
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

    /// Lets go of its connection.
    pub(super) fn close(&self) {
        *self.watch.lock() = None;
    }
}
