//! The quarantine: where a database goes that cannot be used and that the program can do without. Nothing is deleted.
//!
//! Invariants:
//! 1. Only a best-effort domain's file is moved, after a second look under the init lock, and only when nothing in it
//!    tells which schema it holds ([`Unusable`]).
//! 2. The main file moves last: until it has moved, the next opener finds it and begins again. A log without its main
//!    file never stays behind.
//! 3. Whoever still has the file open keeps it, with its log, by descriptor; it finds out that the file was replaced.
//!
//! Tests: `tests/m7_rebuilt_and_foreign.rs`, and below.

use std::fs;
use std::io::ErrorKind as Os;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::OpenFlags;

use super::connect::{Spec, Whose, lock_until, whose};
use super::generation::User;
use super::history::Unusable;
use super::shared::warn;
use super::{migrate, rebuilt};
use crate::domain::Role;
use crate::error::{Error, Result};
use crate::home::{new_private_folder, private_folder, sync_folder, with_ending};

impl Spec {
    /// True when opening failed in a way that a new file cures, and the program can do without the old one.
    pub(super) fn may_be_replaced(&self, error: &Error) -> bool {
        self.domain.role() == Role::BestEffort && error.downcast_ref::<Unusable>().is_some()
    }

    /// Moves the file into quarantine, unless another process has done so already; answers what the warnings say.
    ///
    /// # Errors
    /// Of opening it again; of [`move_aside`].
    pub(super) fn make_room(&self, deadline: Instant) -> Result<Option<String>> {
        let _lock = lock_until(&self.init_lock, deadline)?;
        match self.look_again() {
            Err(error) if self.may_be_replaced(&error) => {
                let folder = move_aside(&self.path, self.domain.name())?;
                let folder = folder.display();
                let note = format!("{}: the file was moved to {folder}, and a new one made", error.message());
                warn(&format_args!("{}: {note}", self.domain.name()));
                Ok(Some(note))
            }
            answer => answer.map(|()| None),
        }
    }

    /// What opening would find. No connection is left open.
    fn look_again(&self) -> Result<()> {
        if self.look()? == 0 {
            return Ok(());
        }
        let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE, User::Writer)?;
        match whose(&connection)? {
            Whose::Ours => migrate::inspect(&connection, &self.domain).map(drop),
            Whose::Unmarked => rebuilt::recognise(&connection, &self.domain),
            Whose::Nobodys => Ok(()),
        }
    }
}

/// Moves a database with its log and index into `quarantine/<name>-<UTC time>/` beside it; answers that folder. The
/// caller holds the init lock and has no connection to it.
///
/// # Errors
/// `ReadOnly`, `Full` or `Io` from the system. What was not moved yet is where it was.
fn move_aside(database: &Path, name: &str) -> Result<PathBuf> {
    let home = database.parent().unwrap_or(database);
    let all = private_folder(home, "quarantine")?;
    let name = format!("{name}-{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
    let folder = new_private_folder(&all, &name)?;
    for ending in ["-shm", "-wal", ""] {
        let from = with_ending(database, ending);
        let to = folder.join(from.file_name().unwrap_or_default());
        match fs::rename(&from, &to) {
            Err(error) if error.kind() == Os::NotFound => {}
            moved => moved.map_err(|error| io(&from, error))?,
        }
    }
    sync_folder(&folder)?;
    sync_folder(home)?;
    Ok(folder)
}

fn io(path: &Path, error: std::io::Error) -> Error {
    Error::io("move the database into quarantine", path, error)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
mod tests {
    use super::*;

    #[test]
    fn the_set_moves_whole_and_no_folder_is_used_twice() {
        let home = tempfile::tempdir().expect("a folder");
        let file = home.path().join("logs.sqlite");
        let mut folders = Vec::new();
        for round in ["one", "two"] {
            for ending in ["", "-wal"] {
                fs::write(with_ending(&file, ending), round).expect("written");
            }
            let folder = move_aside(&file, "logs").expect("moved");
            assert!(folder.starts_with(home.path().join("quarantine")), "{folder:?}");
            for name in ["logs.sqlite", "logs.sqlite-wal"] {
                assert_eq!(fs::read_to_string(folder.join(name)).expect(name), round);
                assert!(!home.path().join(name).exists());
            }
            folders.push(folder);
        }
        assert_ne!(folders[0], folders[1]);
    }
}
