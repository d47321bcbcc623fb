//! The files of a database by name. None of them is opened here: another connection of this process may have it open, and
//! closing any descriptor would drop that one's locks.

use std::fs::Metadata;
use std::path::Path;
use std::time::Instant;

use super::Spec;
use super::waiting::lock_until;
use crate::error::{Error, ErrorKind, Result};
use crate::home::{self, access};
use crate::sqlite::damage;
use crate::sqlite::identity::Sidecars;
use crate::telemetry::warn;

/// One page of the smallest size (<https://sqlite.org/fileformat.html>, section 1.3.2).
pub(in crate::sqlite) const SMALLEST_DATABASE: u64 = 512;

impl Spec {
    /// Refuses to write what this user may not: found out before anything is opened or created, and by name.
    pub(super) fn check_writable(&self) -> Result<()> {
        if let Some(folder) = self.path.parent() {
            access::writable_folder(folder)?;
        }
        let beside = |ending| home::with_ending(&self.path, ending);
        let own = [beside(""), beside("-wal"), beside("-shm")];
        for path in own.iter().chain([&self.init_lock, &self.room, &self.latch_file()]) {
            match access::writable(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// To be called when this set of the database was added to the quarantine, and is finished.
    pub(in crate::sqlite) fn bound_quarantine(&self, set: &Path) {
        let home = self.path.parent().unwrap_or(&self.path);
        let sets = home::quarantine::Sets::Of(self.domain.name());
        let bytes = std::fs::symlink_metadata(&self.path).map_or(0, |found| found.len());
        if let Err(error) = home::quarantine::bound(home, sets, set, bytes, self.limits.quarantine_sets) {
            // What was added is safe; the next one tries again.
            warn(&self.name(error));
        }
    }

    /// Takes other users' access to the files of this domain away, where an older program or a copy left it.
    pub(super) fn tighten(&self) -> Result<()> {
        let beside = |ending| home::with_ending(&self.path, ending);
        let own = [beside(""), beside("-wal"), beside("-shm")];
        let locks = [&self.init_lock, &self.room];
        own.iter().chain(locks).try_for_each(|path| home::tighten(path))
    }

    /// Checks the file by name only; answers its length, 0 when it is missing. It is not opened: another connection of
    /// this process may have it open, and closing any descriptor would drop that one's locks.
    pub(in crate::sqlite) fn look(&self) -> Result<u64> {
        Ok(self.look_closely()?.map_or(0, |found| found.len()))
    }

    pub(super) fn look_closely(&self) -> Result<Option<Metadata>> {
        let found = home::check_database_file(&self.path)?;
        if found.as_ref().is_some_and(|found| (1..SMALLEST_DATABASE).contains(&found.len())) {
            // SQLite would take a file of one byte for an empty one.
            return Err(damage::not_a_database());
        }
        Ok(found)
    }

    /// Moves the log and the index of another generation away from the file that is at the path now: SQLite would
    /// apply that log to it. They are kept, under a name of their own. Only what `old` names is moved; another process
    /// may have done it already.
    pub(in crate::sqlite) fn set_aside(&self, old: &Sidecars, deadline: Instant) -> Result<()> {
        let _lock = lock_until(&self.init_lock, deadline)?;
        let now = jiff::Timestamp::now().as_millisecond();
        let found = Sidecars::of(&self.path);
        for (ending, inode) in [
            ("-wal", old.wal.filter(|_| old.wal == found.wal)),
            ("-shm", old.shm.filter(|_| old.shm == found.shm)),
        ] {
            let from = home::with_ending(&self.path, ending);
            if inode.is_some() {
                std::fs::rename(&from, home::with_ending(&from, &format!(".replaced-{now}")))
                    .map_err(|error| Error::io("set the old write-ahead log aside", &from, error))?;
            }
        }
        Ok(())
    }

    pub(super) fn is_cut_to_nothing(&self) -> bool {
        self.memory.is_none() && std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.len() == 0)
    }

    /// True when the write-ahead log holds something.
    pub(in crate::sqlite) fn has_log(&self) -> bool {
        self.memory.is_none() && self.log().is_some_and(|found| found.len() > 0)
    }

    /// The length of the write-ahead log's file.
    pub(in crate::sqlite) fn log_bytes(&self) -> u64 {
        if self.memory.is_some() { 0 } else { self.log().map_or(0, |found| found.len()) }
    }

    pub(super) fn log(&self) -> Option<Metadata> {
        std::fs::symlink_metadata(home::with_ending(&self.path, "-wal")).ok()
    }
}
