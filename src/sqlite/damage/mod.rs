//! A damaged database: found, set aside whole, and replaced by a new one that holds what can still be read.
//!
//! | file | what |
//! |---|---|
//! | [`header`] | what the first bytes tell before SQLite touches anything |
//! | [`set`] | the quarantined files and their manifest, step by step |
//! | [`rebuild`] | the new database, filled from them |
//! | [`old_writers`] | keeps those who still have the old files open from changing them |
//! | [`suspicion`] | what was met at run time, and whether it is so |
//! | [`survey`] | the read-only look for [`repair`](crate::repair) |
//! | [`report`] | what became of it |
//!
//! Invariants:
//! 1. Nothing is moved that was not found damaged twice: once by whoever met it, and once more under the init lock, which
//!    one process has at a time. Whoever comes later finds another file in its place, and opens that.
//! 2. SQLite is never asked about a file whose header makes no sense: it would delete the log beside it.
//! 3. The files of a damaged database stay together and are not changed any more: -shm, -wal and main move into one
//!    folder, in this order, after a manifest there said so. Nothing is deleted.
//! 4. A step that a killed process left undone is done by the next one that opens the database ([`set`]).
//! 5. Nothing that was acknowledged to anybody is left out of what is read from the moved files: [`old_writers`] says why.
//! 6. A lock, a deadline, missing permissions, a full disk or a newer schema never leads here ([`is_damage`]).
//!
//! Tests: `tests/c1_damage.rs`, `tests/c11_damage_while_running.rs`, `tests/m7_rebuilt_and_foreign.rs`.

mod header;
#[cfg(target_os = "linux")]
mod old_writers;
mod rebuild;
mod report;
mod set;
mod survey;
pub(super) mod suspicion;

use std::time::{Duration, Instant, SystemTime};

use rusqlite::{OpenFlags, ffi};

use super::connect::{Spec, Whose, lock_until, pause, whose};
use super::generation::User;
use super::history::Unusable;
use super::identity::{Marks, Place};
use super::shared::warn;
use super::{migrate, rebuilt};
use crate::domain::{OnDamage, Role};
use crate::error::{Error, ErrorKind, Result};
pub(super) use header::{check as check_header, is_there as has_header, not_a_database};
pub use report::{DamageReport, KeptRows};
use set::Set;

/// A file that changed within this time is still being written.
const STILL_BEING_WRITTEN: Duration = Duration::from_millis(300);

/// The mark of an error that says: the bytes of this file are not what SQLite wrote there.
#[derive(Debug)]
struct Damaged;

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the file's bytes were changed from outside")
    }
}

impl std::error::Error for Damaged {}

/// The error for damage that was found without asking SQLite.
pub(super) fn damaged(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, what)
        .advise("restore the file from a backup; nothing in it was changed")
        .caused_by(Damaged)
}

/// True when an error says that a database is damaged as a whole. A broken virtual table or an index that does not fit
/// its table is not that.
pub(super) fn is_damage(error: &Error) -> bool {
    error.downcast_ref::<Damaged>().is_some()
        || error.sqlite_code().is_some_and(|code| matches!(code, ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB))
}

impl Spec {
    /// True when opening failed in a way that a new file cures.
    pub(super) fn may_be_replaced(&self, error: &Error) -> bool {
        if self.memory.is_some() || self.domain.damage_policy() == OnDamage::Refuse {
            return false;
        }
        // A record that was edited by hand is no damage that a salvage would cure.
        let edited = error.downcast_ref::<Unusable>().is_some();
        is_damage(error) || (edited && self.domain.role() == Role::BestEffort)
    }

    /// Looks again, under the lock, and sets the file aside if it is still damaged. `None` when another process has done
    /// so already.
    ///
    /// # Errors
    /// Of opening it again; of moving and salvaging. What is not finished is finished by the next opener.
    pub(super) fn make_room(&self, deadline: Instant) -> Result<Option<DamageReport>> {
        self.wait_until_written(deadline)?;
        let _lock = lock_until(&self.init_lock, deadline)?;
        if let Some(report) = self.finish_unfinished()? {
            return Ok(Some(report));
        }
        match self.look_again() {
            Err(error) if self.may_be_replaced(&error) => self.set_damaged_aside(&error).map(Some),
            answer => answer.map(|()| None),
        }
    }

    /// A file that somebody is just copying to its place looks damaged until it is all there.
    ///
    /// # Errors
    /// `Busy` when it still changes at the deadline.
    fn wait_until_written(&self, deadline: Instant) -> Result<()> {
        let state =
            || std::fs::symlink_metadata(&self.path).ok().map(|found| (found.len(), found.modified().ok()));
        let written_long_ago = |found: &Option<(u64, Option<SystemTime>)>| {
            let written = found.and_then(|(_, written)| written);
            written.is_none_or(|at| at.elapsed().is_ok_and(|age| age > STILL_BEING_WRITTEN))
        };
        let (mut found, mut since) = (state(), Instant::now());
        while !written_long_ago(&found) && since.elapsed() < STILL_BEING_WRITTEN {
            if Instant::now() >= deadline {
                return Err(Error::new(
                    ErrorKind::Busy,
                    "somebody is writing the database file from outside",
                )
                .advise("wait until it is copied, then try again")
                .retry_in(Duration::from_secs(1)));
            }
            pause();
            let now = state();
            if now != found {
                (found, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// The same for a file that was confirmed to be damaged while it was open: `None` when it is not there any more.
    /// The caller has closed its connections to it.
    ///
    /// # Errors
    /// Of moving and salvaging.
    fn make_room_for(
        &self,
        damaged: Place,
        error: &Error,
        deadline: Instant,
    ) -> Result<Option<DamageReport>> {
        let _lock = lock_until(&self.init_lock, deadline)?;
        if let Some(report) = self.finish_unfinished()? {
            return Ok(Some(report));
        }
        if Place::of(&self.path) != Some(damaged) {
            return Ok(None);
        }
        self.set_damaged_aside(error).map(Some)
    }

    /// Finishes what a killed process began. The caller holds the init lock.
    ///
    /// # Errors
    /// Of moving and salvaging.
    pub(super) fn finish_unfinished(&self) -> Result<Option<DamageReport>> {
        let Some(set) = Set::unfinished(self) else { return Ok(None) };
        self.carry_out(set)
    }

    /// True when somebody left such work undone. The caller holds the init lock.
    pub(super) fn is_being_set_right(&self) -> bool {
        Set::unfinished(self).is_some()
    }

    /// The caller holds the init lock.
    fn set_damaged_aside(&self, error: &Error) -> Result<DamageReport> {
        let set = Set::begin(self, error.message())?;
        let report = self.carry_out(set)?;
        report.ok_or_else(|| {
            Error::new(ErrorKind::Busy, "another file was put in the damaged one's place meanwhile")
        })
    }

    fn carry_out(&self, set: Set) -> Result<Option<DamageReport>> {
        let Some(report) = set.carry_out(self)? else { return Ok(None) };
        warn(&format_args!("{}: {report}", self.domain.name()));
        Ok(Some(report))
    }

    /// What opening would find. No connection is left open.
    fn look_again(&self) -> Result<()> {
        let length = self.look()?;
        if length == 0 && self.is_emptied() {
            return Err(emptied());
        }
        if length == 0 {
            return Ok(());
        }
        let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE, User::Writer)?;
        match whose(&connection)? {
            Whose::Ours => migrate::inspect(&connection, &self.domain).map(drop),
            Whose::Unmarked => rebuilt::recognise(&connection, &self.domain),
            Whose::Nobodys => Ok(()),
        }
    }

    /// True when these files were set aside as damaged.
    pub(super) fn is_in_quarantine(&self, marks: Marks) -> bool {
        marks.place.is_some_and(|main| Set::holds(self, main))
    }

    /// True when the file that was at the path `before` is not there any more, but in quarantine.
    pub(super) fn was_set_aside(&self, before: Option<Place>) -> bool {
        self.memory.is_none()
            && before.is_some_and(|before| Place::of(&self.path) != Some(before) && Set::holds(self, before))
    }

    /// Without content, and with the leavings of a database that had some: a log that holds something, or a log or index
    /// beside a file that is there. Creation never leaves that behind.
    pub(super) fn is_emptied(&self) -> bool {
        let beside = |ending| std::fs::symlink_metadata(crate::home::with_ending(&self.path, ending)).is_ok();
        self.has_log() || (self.path.exists() && (beside("-wal") || beside("-shm")))
    }
}

/// SQLite would delete the log, which may hold all there was.
pub(super) fn emptied() -> Error {
    damaged("the database is empty, and a write-ahead log lies beside it")
        .advise("put the database file back, or move the file ending in -wal away; nothing was changed")
}
