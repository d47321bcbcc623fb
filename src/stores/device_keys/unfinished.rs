//! `keys/<id>.creating`: a key that is being made, until its binding is stored.
//!
//! Invariants:
//! 1. Before a key exists anywhere its mark is on the disk, locked by the process that makes it; after the binding is
//!    committed, or the key is destroyed again, the mark is removed.
//! 2. Who has a mark's lock may judge its key: nobody makes it any more. A process that dies gives the lock back, a stopped
//!    one keeps it; so a key is never destroyed under its maker's hands.
//!
//! Tests: below; `tests/device_keys.rs`, by a crash between the key and its binding.

use std::fs;
use std::io::ErrorKind as Os;
use std::path::{Path, PathBuf};

use super::file::ids;
use super::model::KeyId;
use crate::error::{Error, Result};
use crate::home;
use crate::presence::Held;

const ENDING: &str = ".creating";

/// The mark of a key, locked by this process.
pub(super) struct Unfinished {
    path: PathBuf,
    _held: Held,
}

impl Unfinished {
    /// Marks a key that is going to be made, or takes over the mark of one whose maker is gone. `None` when somebody else has
    /// it.
    pub(super) fn mark(folder: &Path, key: &KeyId) -> Result<Option<Self>> {
        let path = path(folder, key);
        let Some(held) = Held::try_alone(&path)? else { return Ok(None) };
        // Whoever had it may have removed it meanwhile: then the next one to come makes another.
        if !held.is_at(&path) {
            return Ok(None);
        }
        home::sync_folder(folder)?;
        Ok(Some(Self { path, _held: held }))
    }

    /// There is nothing unfinished any more.
    pub(super) fn done(self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != Os::NotFound => {
                Err(Error::io("remove the mark of a key", &self.path, error))
            }
            _ => Ok(()),
        }
    }
}

/// The marked keys of a folder, those included that are being made right now.
pub(super) fn marked(folder: &Path) -> Result<Vec<KeyId>> {
    ids(folder, ENDING)
}

/// True while somebody makes this key. Only looks.
pub(super) fn is_being_made(folder: &Path, key: &KeyId) -> Result<bool> {
    Held::is_taken(&path(folder, key))
}

fn path(folder: &Path, key: &KeyId) -> PathBuf {
    folder.join(format!("{key}{ENDING}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::device_keys::ProtectionClass;

    #[test]
    fn a_mark_is_one_makers_until_it_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = KeyId::random(ProtectionClass::OsProtected).expect("an id");
        let mark = || Unfinished::mark(folder.path(), &key).expect("a look");
        let being_made = || is_being_made(folder.path(), &key).expect("a look");
        assert!(!being_made() && marked(folder.path()).expect("a list").is_empty(), "looking makes no mark");
        let made = mark().expect("nobody has it");
        assert!(mark().is_none() && being_made());
        assert_eq!(marked(folder.path()).expect("a list"), std::slice::from_ref(&key));
        drop(made);
        assert!(!being_made() && !marked(folder.path()).expect("a list").is_empty(), "its maker died");
        mark().expect("taken over").done().expect("removed");
        assert!(marked(folder.path()).expect("a list").is_empty());
    }

    #[test]
    fn a_mark_that_was_removed_meanwhile_is_nobodys() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = KeyId::random(ProtectionClass::OsProtected).expect("an id");
        let held = Held::try_alone(&path(folder.path(), &key)).expect("a look").expect("free");
        fs::remove_file(path(folder.path(), &key)).expect("removed");
        assert!(!held.is_at(&path(folder.path(), &key)));
        let other = Unfinished::mark(folder.path(), &key).expect("a look").expect("a new one");
        assert!(!held.is_at(&path(folder.path(), &key)));
        other.done().expect("removed");
    }
}
