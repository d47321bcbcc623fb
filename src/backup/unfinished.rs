//! A folder under construction: it gets its name when it is complete, and is swept away when its maker died.
//!
//! Invariants:
//! 1. Nobody finds an unfinished folder by a name that somebody would look for.
//! 2. A folder is swept only when nobody makes it: the maker holds a flock on it, which ends with the process, in
//!    whatever container it runs. Where folders cannot be locked, nothing is swept.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::ErrorKind as Os;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::home::{self, is_at, sync_folder};
use crate::telemetry;

/// How many names are tried; each is taken by somebody who is working right now, or was swept that moment.
const TRIES: u32 = 100;

pub(crate) struct Unfinished {
    path: PathBuf,
    lock: File,
    done: bool,
}

impl Unfinished {
    /// A new private folder in `parent`, named after `prefix`; sweeps those that dead makers left there.
    pub(crate) fn begin(parent: &Path, prefix: &str) -> Result<Self> {
        sweep(parent, prefix);
        let pid = std::process::id();
        for number in 0..TRIES {
            let path = parent.join(format!("{prefix}{pid}-{number}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == Os::AlreadyExists => continue,
                Err(error) => return Err(Error::io("create the folder", &path, error)),
            }
            let lock =
                home::open_to_read(&path).map_err(|error| Error::io("open the folder", &path, error))?;
            // Somebody who sweeps may have come between: then it is gone.
            if matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) || !is_at(&lock, &path) {
                continue;
            }
            return Ok(Self { path, lock, done: false });
        }
        Err(Error::new(ErrorKind::Conflict, "no name for a new folder is free").at_path(parent))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.lock.sync_all().map_err(|error| Error::io("make the folder durable", &self.path, error))
    }

    /// Gives the folder its name, durably.
    pub(crate) fn publish(mut self, name: &Path) -> Result<()> {
        self.sync()?;
        fs::rename(&self.path, name).map_err(|error| match error.kind() {
            Os::AlreadyExists | Os::DirectoryNotEmpty | Os::NotADirectory => is_there(name),
            _ => Error::io("name the folder", name, error),
        })?;
        self.done = true;
        name.parent().map_or(Ok(()), sync_folder)
    }

    /// Leaves it to somebody else to remove.
    pub(crate) fn keep(mut self) {
        self.done = true;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed now is swept later.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The name is taken.
pub(super) fn is_there(name: &Path) -> Error {
    Error::new(ErrorKind::Conflict, "something of this name is there already")
        .at_path(name)
        .advise("name a folder that does not exist yet")
}

fn sweep(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let named = entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix));
        if !named || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if let Ok(folder) = home::open_to_read(&entry.path())
            && folder.try_lock().is_ok()
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            telemetry::warn(&format_args!(
                "could not remove what a dead process left at {}: {error}",
                entry.path().display()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_makes_is_not_swept_and_what_nobody_makes_is() {
        let parent = tempfile::tempdir().expect("a folder");
        let made = Unfinished::begin(parent.path(), ".x-").expect("begun");
        fs::create_dir(parent.path().join(".x-dead")).expect("a folder");
        fs::create_dir(parent.path().join("x-other")).expect("a folder");
        let other = Unfinished::begin(parent.path(), ".x-").expect("begun");
        assert!(made.path().exists() && !parent.path().join(".x-dead").exists());
        assert!(parent.path().join("x-other").exists());
        made.publish(&parent.path().join("done")).expect("published");
        let error = other.publish(&parent.path().join("x-other/not/there")).expect_err("no such folder");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let mut left: Vec<_> = fs::read_dir(parent.path())
            .expect("a list")
            .map(|entry| entry.expect("one").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["done", "x-other"]);
    }

    #[test]
    fn a_taken_name_is_refused() {
        let parent = tempfile::tempdir().expect("a folder");
        let taken = parent.path().join("taken");
        fs::create_dir_all(taken.join("inside")).expect("a folder");
        let made = Unfinished::begin(parent.path(), ".x-").expect("begun");
        assert_eq!(made.publish(&taken).expect_err("taken").kind(), ErrorKind::Conflict);
    }
}
