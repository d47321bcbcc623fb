//! Which older backups go when a new one is there.
//!
//! Invariants:
//! 1. The newest stay, as many as were asked for; the new one is complete and checked before anything is removed.
//! 2. The newest backup in which a database is good stays, whatever its age: a backup that had to leave a database out does
//!    not push out the last good copy of it.
//! 3. Only what has the manifest of a backup is counted and removed, and only in the home's own `backups/`.
//! 4. A backup goes whole: it loses its name first, to one that the next backup sweeps.
//!
//! Tests: below; `tests/background_checks.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::UNFINISHED;
use super::manifest::BackupManifest;
use crate::error::{Error, Result};

/// A backup, and the databases that are good in it.
struct Made {
    folder: PathBuf,
    at: Timestamp,
    good: BTreeSet<String>,
}

/// Removes what is superfluous; answers the folders that are gone.
///
/// # Errors
/// Of the system.
pub(super) fn rotate(backups: &Path, keep: usize) -> Result<Vec<PathBuf>> {
    let listing = |error| Error::io("list the backups", backups, error);
    let mut made = Vec::new();
    for entry in fs::read_dir(backups).map_err(listing)? {
        made.extend(look(entry.map_err(listing)?.path()));
    }
    made.sort_by(|one, other| (other.at, &other.folder).cmp(&(one.at, &one.folder)));
    let mut removed = Vec::new();
    for at in superfluous(&made, keep) {
        let folder = &made[at].folder;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let unnamed = backups.join(format!("{UNFINISHED}removed-{name}"));
        match fs::rename(folder, &unnamed).and_then(|()| fs::remove_dir_all(&unnamed)) {
            // Another process was at it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("remove the older backup", folder, error)),
            Ok(()) => removed.push(folder.clone()),
        }
    }
    removed.reverse();
    Ok(removed)
}

/// When the newest backup of a home was made, and how many there are; `None` without any.
#[cfg(feature = "agent")]
pub(crate) fn newest(home: &Path) -> Option<(Timestamp, usize)> {
    let entries = fs::read_dir(home.join("backups")).ok()?.flatten();
    let made: Vec<_> = entries.filter_map(|entry| look(entry.path())).collect();
    Some((made.iter().map(|backup| backup.at).max()?, made.len()))
}

/// `None` for what is no backup, or one that this version does not understand.
fn look(folder: PathBuf) -> Option<Made> {
    if folder.file_name()?.to_string_lossy().starts_with(UNFINISHED) {
        return None;
    }
    let manifest = BackupManifest::read(&folder).ok()?;
    let at = manifest.created_at.parse().ok()?;
    Some(Made { folder, at, good: manifest.databases.into_iter().map(|database| database.name).collect() })
}

/// Which of the backups, given from the newest to the oldest, nobody needs.
fn superfluous(made: &[Made], keep: usize) -> Vec<usize> {
    let mut kept = BTreeSet::new();
    let mut gone = Vec::new();
    for (at, backup) in made.iter().enumerate() {
        let has_the_last_good_one = !backup.good.is_subset(&kept);
        if at < keep || has_the_last_good_one {
            kept.extend(backup.good.iter().cloned());
        } else {
            gone.push(at);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(good: &[&str]) -> Made {
        let good = good.iter().map(|name| (*name).to_owned()).collect();
        Made { folder: PathBuf::new(), at: Timestamp::UNIX_EPOCH, good }
    }

    #[test]
    fn the_last_good_copy_of_each_database_stays() {
        let whole = ["logs", "state"];
        let all = [made(&whole), made(&whole), made(&whole)];
        assert_eq!(superfluous(&all, 2), [2]);
        assert!(superfluous(&all, 3).is_empty() && superfluous(&[], 1).is_empty());
        // The logs are damaged since the fourth backup.
        let all = [made(&["state"]), made(&["state"]), made(&["state"]), made(&whole), made(&whole)];
        assert_eq!(superfluous(&all, 2), [2, 4]);
        // What is good in none of those that stay.
        let all = [made(&["a"]), made(&["a", "b"]), made(&["b", "c"]), made(&["a", "b", "c"])];
        assert_eq!(superfluous(&all, 1), [3]);
    }
}
