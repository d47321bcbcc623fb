//! Folders of our own for private copies of databases, outside the home.
//!
//! Invariants:
//! 1. A folder is in the list of this process for as long as it is there: it is created and removed under the list's lock.
//! 2. Once the list was cleared for the end of the program, no folder is created any more.
//!
//! Tests: `cli/tests/signals.rs`.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind as Os};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::sqlite::connect::pause;

/// How often, a millisecond apart, a folder is removed into which somebody still writes.
const TRIES: u32 = 100;

static FOLDERS: Mutex<Folders> = Mutex::new(Folders { there: BTreeSet::new(), is_over: false });

struct Folders {
    there: BTreeSet<PathBuf>,
    is_over: bool,
}

/// A folder that only this user may look into, removed with this.
pub(super) struct PrivateFolder {
    path: PathBuf,
}

impl PrivateFolder {
    /// In the folder for temporary files.
    pub(super) fn new() -> io::Result<Self> {
        let mut folders = FOLDERS.lock();
        if folders.is_over {
            return Err(io::Error::new(Os::Interrupted, "the program is ending"));
        }
        let folder = tempfile::Builder::new()
            .prefix("rowhouse-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()?;
        // SQLite follows no link.
        let path = folder.path().canonicalize()?;
        folders.there.insert(path.clone());
        // From here on it is removed by the list, or by us.
        let _ = folder.keep();
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        let mut folders = FOLDERS.lock();
        if folders.there.remove(&self.path) {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Removes the private copies of databases that this process reads, wherever they are still in use, and has no more made.
///
/// Copies go by themselves with what reads them. Only a program that ends before that, by a signal or while a check still
/// runs, calls this, as the last thing that it does: what is read from a copy afterwards fails.
pub fn remove_private_copies() {
    let mut folders = FOLDERS.lock();
    folders.is_over = true;
    for folder in std::mem::take(&mut folders.there) {
        for _ in 0..TRIES {
            if std::fs::remove_dir_all(&folder).is_ok() || !folder.exists() {
                break;
            }
            pause();
        }
    }
}
