//! The index of a write-ahead log in shared memory, as far as SQLite's own interface does not show it
//! (<https://sqlite.org/walformat.html>, section 2).
//!
//! Invariants:
//! 1. What is read here changes nothing.
//! 2. The one thing that is written, [`RecoveryLocks::forget_copied`], is what SQLite's own recovery of a log writes there,
//!    under the same locks.
//!
//! Tests: `pins`; `tests/power_cut.rs`.

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::{Connection, Result, ffi as code};

use super::ffi;

/// The index's first region.
const REGION: c_int = 32768;
/// How many pages the log has, in the first of the two copies of its header (`mxFrame`).
#[cfg(feature = "agent")]
const PAGES_AT: usize = 4;
/// How many pages of the log were copied into the main file, in words of four bytes (`nBackfill`).
const COPIED_AT: usize = 24;
/// The read marks, which follow it.
const MARKS_AT: usize = 25;
/// The locks from the first on: of the writer, of who works the log off, and of who recovers it (section 2.3).
const RECOVERY: (c_int, c_int) = (0, 3);

/// Read marks: up to where the log is needed by the snapshots that hold each mark's lock (the first mark means the main file
/// alone). `None` where there is no index in shared memory.
pub(super) fn read_marks(connection: &Connection) -> Option<[u32; 5]> {
    let region = region(connection)?;
    Some(std::array::from_fn(|at| region.word(MARKS_AT + at).load(Ordering::Relaxed)))
}

/// How far a log is worked off, and what its readers need of it.
#[cfg(feature = "agent")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogIndex {
    /// Pages in the log.
    pub(crate) pages: u64,
    /// Of these, pages that are in the main file.
    pub(crate) copied: u64,
    /// As [`read_marks`] answers them.
    pub(crate) marks: [u32; 5],
}

/// `None` where there is no index in shared memory, or the connection has not read from it yet. Not one instant: a writer may
/// begin the log anew meanwhile.
#[cfg(feature = "agent")]
pub(super) fn read(connection: &Connection) -> Option<LogIndex> {
    let marks = read_marks(connection)?;
    let region = region(connection)?;
    let word = |at| u64::from(region.word(at).load(Ordering::Relaxed));
    Some(LogIndex { copied: word(COPIED_AT), pages: word(PAGES_AT), marks })
}

/// The index's first region, mapped by a connection that is open.
struct Region<'a> {
    words: *mut u32,
    _connection: &'a Connection,
}

impl Region<'_> {
    /// `at` is below the read marks' end.
    fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at < MARKS_AT + 5, "a word of the index's header");
        // SAFETY: the region is 32 KiB long, aligned to a page, and stays mapped while the connection is open, which is
        // borrowed. Others change it at any time, always by whole atomic words, as it is accessed here.
        unsafe { AtomicU32::from_ptr(self.words.add(at)) }
    }
}

/// `None` where there is no index in shared memory, or the connection has not read from it yet.
fn region(connection: &Connection) -> Option<Region<'_>> {
    let (file, methods) = ffi::main_file(connection).ok()??;
    if methods.iVersion < 2 {
        return None;
    }
    let mut words: *mut u32 = ptr::null_mut();
    // SAFETY: the file is open while `connection` is borrowed, and the method is its own. It answers the first region, which
    // this connection mapped when it first read the log, and with 0 for `extend` maps no more than the file has; the out
    // pointer is ours.
    let answer = unsafe { methods.xShmMap?(file, 0, REGION, 0, (&raw mut words).cast()) };
    let mapped = answer == code::SQLITE_OK && !words.is_null();
    mapped.then_some(Region { words, _connection: connection })
}

/// While this lives nobody writes the database, works its log off, or recovers it. Its own connection must not either.
pub(super) struct RecoveryLocks<'a> {
    connection: &'a Connection,
}

impl<'a> RecoveryLocks<'a> {
    /// `None` while somebody else has one of them. The connection has read, and is in no transaction.
    ///
    /// # Errors
    /// Of the file system.
    pub(super) fn try_take(connection: &'a Connection) -> Result<Option<Self>> {
        match lock(connection, code::SQLITE_SHM_LOCK) {
            Ok(()) => Ok(Some(Self { connection })),
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next checkpoint copies the whole log, also what was copied before. Whoever reads goes on: what is copied once
    /// more is what the main file shows them already.
    ///
    /// # Errors
    /// `SQLITE_MISUSE` without an index.
    pub(super) fn forget_copied(&self) -> Result<()> {
        let region = region(self.connection).ok_or_else(misuse)?;
        region.word(COPIED_AT).store(0, Ordering::SeqCst);
        Ok(())
    }
}

impl Drop for RecoveryLocks<'_> {
    fn drop(&mut self) {
        // To give back what is held cannot fail but by the file system, and then they end with the connection.
        let _ = lock(self.connection, code::SQLITE_SHM_UNLOCK);
    }
}

fn lock(connection: &Connection, what: c_int) -> Result<()> {
    let (file, methods) = ffi::main_file(connection)?.ok_or_else(misuse)?;
    let Some(lock) = methods.xShmLock.filter(|_| methods.iVersion >= 2) else { return Err(misuse()) };
    let (first, count) = RECOVERY;
    // SAFETY: the file is open while `connection` is borrowed, and the method is its own; these are locks that there are.
    ffi::check(unsafe { lock(file, first, count, what | code::SQLITE_SHM_EXCLUSIVE) })
}

fn misuse() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(code::Error::new(code::SQLITE_MISUSE), None)
}
