//! What a fork must not open: the databases that its parent had open.
//!
//! SQLite lists, per process, the files it holds locks on, and a fork inherits the list without the locks: a connection
//! that it opens to such a file locks nothing, another process's last close then removes the write-ahead log under it,
//! and its acknowledged commits are gone (<https://sqlite.org/howtocorrupt.html>, section 2.6).
//!
//! Invariant: a database that was open at the fork is never opened by the fork.
//!
//! Tests: `tests/fork_refuses_inherited_handles.rs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::forks;

/// By path, the generation ([`forks`]) that opened it.
static OPEN: Mutex<BTreeMap<PathBuf, u32>> = Mutex::new(BTreeMap::new());

/// Refuses a file that the parent had open; notes that this process opens it.
///
/// # Errors
/// `Closed`.
pub(super) fn enter(path: &Path) -> Result<()> {
    let mut open = OPEN.lock();
    let own = check(&open, path)?;
    open.insert(path.to_owned(), own);
    Ok(())
}

/// The same for a short visit: true when it was not noted before, and whoever visits must [`leave`].
///
/// # Errors
/// `Closed`.
pub(super) fn visit(path: &Path) -> Result<bool> {
    let mut open = OPEN.lock();
    let own = check(&open, path)?;
    Ok(open.insert(path.to_owned(), own).is_none())
}

fn check(open: &BTreeMap<PathBuf, u32>, path: &Path) -> Result<u32> {
    let own = forks::generation();
    if open.get(path).is_some_and(|owner| *owner != own) {
        return Err(Error::new(
            ErrorKind::Closed,
            "this process is a fork of one that has the database open",
        )
        .advise("fork before the runtime is opened, close it before forking, or exec"));
    }
    Ok(own)
}

/// Every connection of this process to the file is closed. What the parent has open stays noted.
pub(super) fn leave(path: &Path) {
    let own = forks::current();
    OPEN.lock().retain(|open, owner| open != path || *owner != own);
}
