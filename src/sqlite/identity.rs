//! Are the files at the path still the ones that were opened?
//!
//! Of the main file two marks are compared: device and inode of the path, and the stamp in its header, read through
//! SQLite's own descriptor. The first catches a rename over the path, the second a copy into the same inode, which SQL
//! does not notice (the page cache and the WAL index still describe the old file). Of the write-ahead log and its index
//! the inodes are compared: whoever removes one of them splits the processes into those that still use the removed file
//! and those that create a new one, each invisible to the others (<https://sqlite.org/howtocorrupt.html>, section 2.4).
//!
//! What is at the paths is only looked for again when the folder's change time is another one than at the last look:
//! whoever creates, removes or renames a file in it changes that. A change time of the last moments is not trusted: a
//! second change within one tick of the clock would not show. A mount over a file does not show either, so a look is
//! good for a second at most. The header is read at each check: that costs less than asking for the file's change time.
//!
//! Invariants:
//! 1. A commit is acknowledged only after the check that follows it; with NORMAL durability the check may be up to 10 ms
//!    old.
//! 2. A connection of this process that is opened later is only used when it has the same files (`generation`).
//!
//! Tests: `tests/replaced_file_is_noticed.rs`, `tests/p1_*`, `tests/p3_*`, `tests/p5_*`.

use std::fs::Metadata;
use std::io::ErrorKind as Os;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::damage;
use super::ffi::{self, Stamp};
use crate::domain::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::home;

/// With NORMAL durability: how old a check may be.
const RELAXED_AGE: Duration = Duration::from_millis(10);

/// How old a change time must be to be trusted: several ticks of any clock that a file system uses.
const SETTLED: i64 = 50_000_000;

/// After so long (ns) the files are looked for whatever the folder's change time says.
const LONGEST_UNSEEN: i64 = 1_000_000_000;

/// What is not ours any more.
#[derive(Debug)]
pub(super) enum Lost {
    /// The main file: everything.
    File(Error),
    /// The write-ahead log or its index. The main file is still ours.
    Log(Error),
    /// The file is ours, and what is in it is no database any more.
    Damaged(Error),
    /// Nothing: what is at the paths is ours, and the header could not be read.
    Unread(Error),
}

/// Which files the write-ahead log and its index are, by inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sidecars {
    pub(super) wal: Option<u64>,
    pub(super) shm: Option<u64>,
}

impl Sidecars {
    /// Those beside a database, as they are now.
    pub(super) fn of(database: &Path) -> Self {
        let inode = |ending| {
            std::fs::symlink_metadata(home::with_ending(database, ending)).ok().map(|found| found.ino())
        };
        Self { wal: inode("-wal"), shm: inode("-shm") }
    }
}

/// Device and inode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Place(u64, u64);

impl Place {
    pub(super) fn found(found: &Metadata) -> Self {
        Self(found.dev(), found.ino())
    }

    /// Of what is at a path now; `None` when nothing is, or it cannot be looked at.
    pub(super) fn of(path: &Path) -> Option<Self> {
        look(path).ok().flatten().map(|found| Self::found(&found))
    }
}

/// The files of one generation of a database: for as long as they are at their paths, whatever opens them joins it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    /// The main file; `None` in memory, where nobody can replace anything.
    pub(super) place: Option<Place>,
    stamp: Stamp,
    pub(super) sidecars: Sidecars,
}

impl Marks {
    /// The marks of the generation that `connection`, which has read something, belongs to.
    pub(super) fn of(path: &Path, connection: &Connection) -> Result<Self> {
        let found = look(path)
            .map_err(|error| Error::io("look at the database", path, error))?
            .ok_or_else(|| replaced("its file is gone"))?;
        let stamp = ffi::read_stamp(connection)?;
        let marks = Self { place: Some(Place::found(&found)), stamp, sidecars: Sidecars::of(path) };
        // What was opened may have been moved away, and another file come into its place, before it was looked for.
        if ffi::has_moved(connection)? { Err(replaced("another file is in its place")) } else { Ok(marks) }
    }

    /// Those of a database that only this process can reach.
    pub(super) fn in_memory(connection: &Connection) -> Result<Self> {
        Ok(Self { place: None, stamp: ffi::read_stamp(connection)?, sidecars: Sidecars::default() })
    }

    /// True when its log and its index are at their paths.
    pub(super) fn has_log(&self) -> bool {
        self.sidecars.wal.is_some() && self.sidecars.shm.is_some()
    }

    /// The random number from the database's creation.
    pub(super) fn generation(&self) -> u32 {
        self.stamp.user_version
    }

    /// Refuses the marks of a connection that was opened just now when it does not belong to this generation.
    pub(super) fn refuse_other(&self, found: &Self) -> Result<()> {
        if found.place != self.place || found.stamp != self.stamp {
            return Err(replaced("another file is in its place"));
        }
        if found.sidecars != self.sidecars {
            return Err(log_lost());
        }
        Ok(())
    }
}

/// How a folder was at a time (ns).
#[derive(Clone, Copy)]
struct Seen {
    folder: Place,
    changed: i64,
    at: i64,
}

pub(super) struct Identity {
    marks: Marks,
    main: PathBuf,
    folder: PathBuf,
    max_age: Option<Duration>,
    checked: Instant,
    /// The folder when the files in it were last looked for and found ours.
    seen: Option<Seen>,
}

impl Identity {
    pub(super) fn of(path: &Path, marks: Marks, durability: Durability) -> Self {
        Self {
            marks,
            main: path.to_owned(),
            folder: path.parent().unwrap_or(path).to_owned(),
            max_age: (durability == Durability::Normal).then_some(RELAXED_AGE),
            checked: Instant::now(),
            seen: None,
        }
    }

    pub(super) fn marks(&self) -> Marks {
        self.marks
    }

    /// Checks, unless the last check is recent enough for this durability.
    pub(super) fn check(&mut self, connection: &Connection) -> Result<(), Lost> {
        if let Some(age) = self.max_age {
            let now = Instant::now();
            if now.duration_since(self.checked) < age {
                return Ok(());
            }
            self.checked = now;
        }
        self.check_now(connection)
    }

    /// Checks.
    pub(super) fn check_now(&mut self, connection: &Connection) -> Result<(), Lost> {
        if self.marks.place.is_none() {
            return Ok(());
        }
        let now = wall_clock_ns();
        // That the folder cannot be looked at says nothing about the files: they are looked for.
        let folder = look(&self.folder).ok().flatten();
        let found =
            folder.map(|found| Seen { folder: Place::found(&found), changed: changed_at(&found), at: now });
        let unchanged = self.seen.zip(found).is_some_and(|(seen, found)| found.is_still(&seen));
        if !unchanged {
            self.seen = None;
            self.look_for_main().map_err(Lost::File)?;
        }
        // That the header cannot be read says nothing about the log.
        let unread = match self.check_header(connection) {
            Err(Lost::Unread(error)) => Err(Lost::Unread(error)),
            answer => Ok(answer?),
        };
        if !unchanged {
            if Sidecars::of(&self.main) != self.marks.sidecars {
                return Err(Lost::Log(log_lost()));
            }
            self.seen = found.filter(|found| settled(found.changed, now));
        }
        unread
    }

    fn look_for_main(&self) -> Result<()> {
        match look(&self.main) {
            Ok(Some(found)) if Some(Place::found(&found)) == self.marks.place => Ok(()),
            Ok(None) => Err(replaced("its file was removed or renamed")),
            Ok(Some(_)) => Err(replaced("another file was put in its place")),
            // That the folder cannot be looked at now says nothing about the file, which is still open.
            Err(_) => Ok(()),
        }
    }

    fn check_header(&self, connection: &Connection) -> Result<(), Lost> {
        // A disk may fail once. It is asked twice before anybody is told.
        match ffi::read_stamp(connection).or_else(|_| ffi::read_stamp(connection)) {
            Ok(found) if found == self.marks.stamp => Ok(()),
            Ok(_) if damage::has_header(connection) => {
                Err(Lost::File(replaced("its contents were overwritten by another database")))
            }
            Ok(_) => Err(Lost::Damaged(damage::damaged("its contents were overwritten by no database"))),
            Err(error) if is_cut_short(&error) => {
                Err(Lost::Damaged(damage::damaged("its contents were cut off")))
            }
            Err(error) => Err(Lost::Unread(
                Error::from(error).worded("the header of the database file cannot be read").advise(
                    "check the disk; nothing was moved, and it is looked at again with the next write",
                ),
            )),
        }
    }
}

impl Seen {
    /// True when nothing was created, removed or renamed in the folder since `earlier`, which is not long ago.
    fn is_still(&self, earlier: &Self) -> bool {
        self.folder == earlier.folder
            && self.changed == earlier.changed
            && (0..LONGEST_UNSEEN).contains(&(self.at - earlier.at))
    }
}

fn is_cut_short(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHORT_READ)
}

fn settled(changed: i64, now: i64) -> bool {
    changed.saturating_add(SETTLED) < now
}

pub(super) fn changed_at(found: &Metadata) -> i64 {
    found.ctime().saturating_mul(1_000_000_000).saturating_add(found.ctime_nsec())
}

/// The clock that change times are taken from.
pub(super) fn wall_clock_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

fn look(path: &Path) -> std::io::Result<Option<Metadata>> {
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

fn log_lost() -> Error {
    Error::new(
        ErrorKind::Replaced,
        "the database's -wal or -shm file was removed or replaced while it was open",
    )
    .advise("look whether the change is there; the database is opened again by itself, and keeps what was committed")
}
