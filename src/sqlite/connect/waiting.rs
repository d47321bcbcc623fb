//! Waiting for somebody else: who creates or migrates a database, and whoever has one of SQLite's locks.

use std::cell::Cell;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::home;
use crate::sqlite::holders;

/// Takes an exclusive flock, looking once a millisecond until `deadline`. It is freed when the answer is dropped.
pub(crate) fn lock_until(path: &Path, deadline: Instant) -> Result<Locked> {
    let file = home::open_lock_file(path)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Locked(file)),
            Err(std::fs::TryLockError::Error(error)) => return Err(Error::io("lock", path, error)),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(Error::new(
                    ErrorKind::Busy,
                    "another process is creating or migrating this database",
                )
                .held_by(holders::flock_holder(path))
                .retry_in(Duration::from_secs(1)));
            }
            Err(std::fs::TryLockError::WouldBlock) => pause(),
        }
    }
}

/// A flock that ends here, also when a process forked meanwhile has a copy of the descriptor.
pub(crate) struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// One millisecond. Only for polling a lock of another process, which cannot tell us when it is free.
#[allow(clippy::disallowed_methods)]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}

thread_local! {
    static PATIENT_UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// How long SQLite's own waits on this thread may take.
pub(in crate::sqlite) struct Patience {
    was: Option<Instant>,
}

impl Patience {
    pub(in crate::sqlite) fn until(deadline: Instant) -> Self {
        Self { was: PATIENT_UNTIL.replace(Some(deadline)) }
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        PATIENT_UNTIL.set(self.was);
    }
}

/// The busy handler: looks again every millisecond (SQLite's own backs off to 100 ms), until this thread's patience
/// ends.
pub(in crate::sqlite) fn wait_a_moment(_attempts: i32) -> bool {
    let patient = PATIENT_UNTIL.get().is_some_and(|until| Instant::now() < until);
    if patient {
        pause();
    }
    patient
}
