//! Is the file at the path still the one that was opened?
//!
//! Two marks are compared: device and inode of the path, and the stamp in the header of the main file, read through
//! SQLite's own descriptor. The first catches a rename over the path, the second a copy into the same inode, which
//! SQL does not notice (the page cache and the WAL index still describe the old file).
//!
//! The header is only read again when the file's change time or size is another one than when it was last read:
//! whoever writes to the file, or sets its times, changes its change time. A change time of the last moments is not
//! trusted: a second change within one tick of the clock would not show.
//!
//! Invariant: a commit is acknowledged only after the check that follows it; with NORMAL durability the check may be
//! up to 10 ms old.

use std::fs::Metadata;
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

/// How old a change time must be to be trusted: several ticks of any clock that a file system uses.
const SETTLED: i64 = 50_000_000;

pub(super) struct Identity {
    /// Device and inode; `None` in memory, where nobody can replace anything.
    place: Option<(u64, u64)>,
    stamp: Stamp,
    max_age: Option<Duration>,
    checked: Instant,
    /// The change time (ns) and size of the file when its header was last read and found ours.
    unchanged: Option<(i64, u64)>,
}

impl Identity {
    /// The identity of the file that `stamp` was read from, at `path`.
    pub(super) fn of(path: &Path, stamp: Stamp, durability: Durability) -> Result<Self> {
        let place = place(path)
            .map_err(|error| Error::io("look at the database", path, error))?
            .ok_or_else(|| replaced("its file is gone"))?;
        let max_age = (durability == Durability::Normal).then_some(RELAXED_AGE);
        let place = Some((place.dev(), place.ino()));
        Ok(Self { place, stamp, max_age, checked: Instant::now(), unchanged: None })
    }

    /// Of a database that only this process can reach.
    pub(super) fn unquestioned(stamp: Stamp) -> Self {
        Self { place: None, stamp, max_age: None, checked: Instant::now(), unchanged: None }
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
    pub(super) fn check_now(&mut self, path: &Path, connection: &Connection) -> Result<()> {
        let Some(own) = self.place else { return Ok(()) };
        let change = match place(path) {
            Ok(Some(found)) if (found.dev(), found.ino()) == own => Some((changed_at(&found), found.len())),
            Ok(None) => return Err(replaced("its file was removed or renamed")),
            Ok(Some(_)) => return Err(replaced("another file was put in its place")),
            // That the folder cannot be looked at now says nothing about the file, which is still open.
            Err(_) => None,
        };
        if change.is_some() && change == self.unchanged {
            return Ok(());
        }
        let now = wall_clock_ns();
        match ffi::read_stamp(connection) {
            Ok(found) if found == self.stamp => {
                self.unchanged = change.filter(|(at, _)| at.saturating_add(SETTLED) < now);
                Ok(())
            }
            Ok(_) => Err(replaced("its contents were overwritten by another database")),
            Err(error) => Err(replaced("its header cannot be read any more").caused_by(error)),
        }
    }
}

pub(super) fn changed_at(found: &Metadata) -> i64 {
    found.ctime().saturating_mul(1_000_000_000).saturating_add(found.ctime_nsec())
}

/// The clock that change times are taken from.
pub(super) fn wall_clock_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

fn place(path: &Path) -> std::io::Result<Option<Metadata>> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), Os::NotFound | Os::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn replaced(how: &'static str) -> Error {
    Error::new(ErrorKind::Replaced, format!("the database was replaced while it was open: {how}"))
        .advise("stop whatever replaces it, then call reopen() or start the program again")
}
