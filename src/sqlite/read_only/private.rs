//! Folders of our own for private copies of databases, outside the home.
//!
//! Invariants:
//! 1. A folder is in the list of this process for as long as it is there: it is created and removed under the list's lock.
//! 2. Once the list was cleared for the end of the program, no folder is created any more.
//! 3. What a process left that was killed is removed by the next one that makes a copy or ends: a folder's name says whose it
//!    is, and one whose process may be alive stays.
//!
//! Tests: below; `cli/tests/signals.rs`.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind as Os};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::processes;
use crate::sqlite::connect::pause;

/// How often, a millisecond apart, a folder is removed into which somebody still writes.
const TRIES: u32 = 100;

/// How the names of such folders begin.
const PREFIX: &str = "rowhouse-copy-";

/// Whose folder it is. A process of another namespace cannot be told dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    namespace: u64,
    pid: u32,
    start_time: u64,
}

impl Owner {
    fn us() -> Self {
        let pid = std::process::id();
        let start_time = processes::stat(pid).map_or(0, |found| found.start_time);
        Self { namespace: processes::namespace(), pid, start_time }
    }

    fn prefix(self) -> String {
        format!("{PREFIX}{}-{}-{}-", self.namespace, self.pid, self.start_time)
    }

    fn of(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.splitn(4, '-');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (namespace, pid, start_time) = (number()?, number()?, number()?);
        Some(Self { namespace, pid: pid.try_into().ok()?, start_time })
    }

    /// For certain.
    fn is_dead(self) -> bool {
        self.namespace == processes::namespace()
            && processes::stat(self.pid).is_none_or(|found| found.start_time != self.start_time)
    }
}

/// Removes the copies of processes that were killed. Those of other users stay: this one may not remove them.
fn remove_left_behind(temporary: &Path) {
    for entry in std::fs::read_dir(temporary).into_iter().flatten().flatten() {
        let owner = entry.file_name().to_str().and_then(Owner::of);
        if owner.is_some_and(Owner::is_dead) && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

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
        remove_left_behind(&std::env::temp_dir());
        let folder = tempfile::Builder::new()
            .prefix(&Owner::us().prefix())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_goes_and_all_else_stays() {
        let temporary = tempfile::tempdir().expect("a folder");
        let us = Owner::us();
        let dead = Owner { start_time: us.start_time + 1, ..us };
        let elsewhere = Owner { namespace: us.namespace + 1, ..dead };
        assert_eq!(Owner::of(&format!("{}x1", us.prefix())), Some(us));
        let make = |name: String| {
            let folder = temporary.path().join(name);
            std::fs::create_dir(&folder).expect("a folder");
            std::fs::create_dir(folder.join("inside")).expect("a folder");
            folder
        };
        let left = make(format!("{}x1", dead.prefix()));
        let others = [
            us.prefix(),
            elsewhere.prefix(),
            PREFIX.to_owned(),
            format!("{PREFIX}1-2-"),
            "rowhouse-".to_owned(),
        ];
        let kept = others.map(|prefix| make(format!("{prefix}x2")));
        remove_left_behind(temporary.path());
        assert!(!left.exists() && kept.iter().all(|folder| folder.exists()));
    }
}
