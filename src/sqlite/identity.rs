//! Is the file at the path still the one that was opened?
//!
//! Two marks are compared: device and inode of the path, and the stamp in the header of the main file, read through
//! SQLite's own descriptor. The first catches a rename over the path, the second a copy into the same inode, which
//! SQL does not notice (the page cache and the WAL index still describe the old file).
//!
//! Invariant: a commit is acknowledged only after the check that follows it; with NORMAL durability the check may be
//! up to 10 ms old.

use std::io::ErrorKind as Os;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::ffi::{self, Stamp};
use crate::domain::Durability;
use crate::error::{Error, ErrorKind, Result};

/// With NORMAL durability: how old a check may be.
const RELAXED_AGE: Duration = Duration::from_millis(10);

pub(super) struct Identity {
    place: (u64, u64),
    stamp: Stamp,
    max_age: Option<Duration>,
    checked: Instant,
}

impl Identity {
    /// The identity of the file that `stamp` was read from, at `path`.
    pub(super) fn of(path: &Path, stamp: Stamp, durability: Durability) -> Result<Self> {
        let place = place(path)
            .map_err(|error| Error::io("look at the database", path, error))?
            .ok_or_else(|| replaced("its file is gone"))?;
        let max_age = (durability == Durability::Normal).then_some(RELAXED_AGE);
        Ok(Self { place, stamp, max_age, checked: Instant::now() })
    }

    /// Checks, unless the last check is recent enough for this durability.
    pub(super) fn check(&mut self, path: &Path, connection: &Connection) -> Result<()> {
        if let Some(age) = self.max_age {
            let now = Instant::now();
            if now.duration_since(self.checked) < age {
                return Ok(());
            }
            self.checked = now;
        }
        self.check_now(path, connection)
    }

    /// Checks.
    ///
    /// # Errors
    /// `Replaced`.
    pub(super) fn check_now(&self, path: &Path, connection: &Connection) -> Result<()> {
        match place(path) {
            Ok(Some(found)) if found == self.place => {}
            Ok(None) => return Err(replaced("its file was removed or renamed")),
            Ok(Some(_)) => return Err(replaced("another file was put in its place")),
            // That the folder cannot be looked at now says nothing about the file, which is still open.
            Err(_) => {}
        }
        match ffi::read_stamp(connection) {
            Ok(found) if found == self.stamp => Ok(()),
            Ok(_) => Err(replaced("its contents were overwritten by another database")),
            Err(error) => Err(replaced("its header cannot be read any more").caused_by(error)),
        }
    }
}

fn place(path: &Path) -> std::io::Result<Option<(u64, u64)>> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) if matches!(error.kind(), Os::NotFound | Os::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn replaced(how: &'static str) -> Error {
    Error::new(ErrorKind::Replaced, format!("the database was replaced while it was open: {how}"))
        .advise("stop whatever replaces it, then call reopen() or start the program again")
}
