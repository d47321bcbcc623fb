//! What a fork must not open, and what it must not keep open.
//!
//! `SQLite` lists, per process, the files it holds locks on, and a fork inherits the list without the locks: a connection
//! that it opens to such a file locks nothing, another process's last close then removes the write-ahead log under it,
//! and its acknowledged commits are gone (<https://sqlite.org/howtocorrupt.html>, section 2.6).
//!
//! A lock file belongs to whoever has a descriptor of the same opening, so a fork that keeps its copy would keep its
//! parent's turn after the parent's death.
//!
//! Invariants:
//! 1. A database that was open at the fork is never opened by the fork.
//! 2. A fork closes its copies of the turn's lock files before it does anything else (`pthread_atfork`); the values
//!    that own them are never dropped there.
//!
//! Tests: `tests/fork_refuses_inherited_handles.rs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};

/// By path, the process that opened it.
static OPEN: Mutex<BTreeMap<PathBuf, u32>> = Mutex::new(BTreeMap::new());

/// Refuses a file that the parent had open; notes that this process opens it.
///
/// # Errors
/// `Closed`.
pub(super) fn enter(path: &Path) -> Result<()> {
    let own = std::process::id();
    let mut open = OPEN.lock();
    if open.get(path).is_some_and(|owner| *owner != own) {
        return Err(Error::new(
            ErrorKind::Closed,
            "this process is a fork of one that has the database open",
        )
        .advise("fork before the runtime is opened, close it before forking, or exec"));
    }
    open.insert(path.to_owned(), own);
    Ok(())
}

/// Every connection of this process to the file is closed. What the parent has open stays noted.
pub(super) fn leave(path: &Path) {
    let own = std::process::id();
    OPEN.lock().retain(|open, owner| open != path || *owner != own);
}

/// Descriptors that can be noted: those of 128 databases. What comes on top is not closed in a fork.
const DESCRIPTORS: usize = 256;
const NONE: i32 = -1;

/// The open lock files of this process, where a signal-safe function can read them.
static LOCK_FILES: [AtomicI32; DESCRIPTORS] = [const { AtomicI32::new(NONE) }; DESCRIPTORS];

/// Has a fork close this descriptor, until [`forget`].
pub(super) fn close_in_forks(descriptor: i32) {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        // SAFETY: the handler only swaps atomics and calls close(2), which a handler may in the child of a process with
        // threads (signal-safety(7)); it stays valid, for a program's code is never unloaded. Without memory for it
        // a fork that never uses a handle keeps its copies.
        unsafe { libc::pthread_atfork(None, None, Some(close_inherited)) };
    });
    for slot in &LOCK_FILES {
        if slot.compare_exchange(NONE, descriptor, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}

/// The descriptor is about to be closed.
pub(super) fn forget(descriptor: i32) {
    for slot in &LOCK_FILES {
        if slot.compare_exchange(descriptor, NONE, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}

/// Runs in a fork, before `fork` returns there.
unsafe extern "C" fn close_inherited() {
    for slot in &LOCK_FILES {
        let descriptor = slot.swap(NONE, Ordering::AcqRel);
        if descriptor != NONE {
            // SAFETY: a copy that the fork got; its owner is never used or dropped in a fork.
            unsafe { libc::close(descriptor) };
        }
    }
}
