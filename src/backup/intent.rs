//! `restore.json` in a home: a restore that has begun to move files, and will be finished by whoever comes next.
//!
//! Invariants:
//! 1. It is written when every new file is staged in the home, whole and on the disk. From then on the restore is always
//!    finished, never undone: everything it needs is in the home.
//! 2. While it is there, no database of the home is opened: opening finishes the restore first.
//! 3. What was there is moved to `quarantine/`, never deleted: first all of it, main files with everything beside them,
//!    then the new files get their names.
//! 4. Which files have their names is told by the disk (the inode of each staged file), so the work may be broken off and
//!    taken up anywhere.
//!
//! Tests: below, broken off after every rename; `tests/b2_restore.rs`, by kill -9.

use std::fs;
use std::io::ErrorKind as Os;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::manifest;
use crate::config::Limits;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::home::quarantine::{Sets, bound};
use crate::home::{self, PreparedHome, with_ending};
use crate::presence::{self, Alone};
use crate::sqlite::connect::pause;
use crate::sqlite::holders::flock_holder;
use crate::telemetry;

const FILE: &str = "restore.json";
const LAYOUT: u32 = 1;

/// How the staging folder in the home begins.
pub(super) const STAGING: &str = ".restore-unfinished-";

/// Everything of a database that another one takes the place of.
const ENDINGS: [&str; 4] = ["-wal", "-shm", "-journal", ""];

/// A restore under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intent {
    version: u32,
    /// When it began, in RFC 3339.
    at: String,
    /// The backup that is restored.
    backup: PathBuf,
    /// The folder of the staged files, in the home.
    staging: String,
    /// The folder for what was there, in `quarantine/`.
    quarantine: String,
    databases: Vec<Staged>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Staged {
    name: String,
    /// Of the staged file, also when it has its place.
    inode: u64,
}

/// One file that gets another name.
struct Rename {
    from: PathBuf,
    to: PathBuf,
}

impl Rename {
    fn run(&self) -> Result<()> {
        fs::rename(&self.from, &self.to).map_err(|error| Error::io("rename the file", &self.from, error))
    }
}

/// What is left to be done.
#[derive(Default)]
struct Remaining {
    aside: Vec<Rename>,
    into_place: Vec<Rename>,
}

impl Intent {
    /// Announces the restore of files that are staged, whole and durable. Makes the folder for what is there now.
    pub(super) fn announce(
        home: &PreparedHome,
        backup: &Path,
        staging: &Path,
        names: &[String],
    ) -> Result<Self> {
        let now = jiff::Timestamp::now();
        let quarantine = home::private_folder(home.path(), "quarantine")?;
        let folder = (0..u32::MAX)
            .map(|n| format!("restore-{}-{n}", now.as_millisecond()))
            .find(|folder| !quarantine.join(folder).exists())
            .expect("no disk holds so many restores of one millisecond");
        let kept = home::private_folder(&quarantine, &folder)?;
        if device(&kept)? != device(home.path())? {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the quarantine is on another disk than its home",
            )
            .at_path(&quarantine)
            .advise("move it onto the home's own disk; nothing was changed"));
        }
        let mut databases = Vec::new();
        for name in names {
            let file = staging.join(manifest::file_name(name));
            let found = fs::symlink_metadata(&file).map_err(|error| Error::io("look at", &file, error))?;
            databases.push(Staged { name: name.clone(), inode: found.ino() });
        }
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let intent = Self {
            version: LAYOUT,
            at: now.to_string(),
            backup: backup.to_owned(),
            staging: name(staging).expect("a staging folder has a name"),
            quarantine: folder,
            databases,
        };
        let text = serde_json::to_vec_pretty(&intent).expect("texts and numbers are JSON");
        // The same text says, beside the old files, why they are there.
        home::write_atomically(&kept.join(manifest::FILE), &text)?;
        home::write_atomically(&home.path().join(FILE), &text)?;
        Ok(intent)
    }

    fn read(home: &PreparedHome) -> Result<Option<Self>> {
        let path = home.path().join(FILE);
        let text = match home::read_file(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == Os::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read the restore under way", &path, error)),
        };
        let plain = |name: &str| Path::new(name).file_name() == Some(name.as_ref());
        serde_json::from_slice::<Self>(&text)
            .ok()
            .filter(|intent| {
                intent.version <= LAYOUT
                    && plain(&intent.quarantine)
                    && plain(&intent.staging)
                    && intent.databases.iter().all(|staged| Domain::new(&staged.name).check().is_ok())
            })
            .map(Some)
            .ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, "a restore was interrupted, and its description is damaged")
                    .at_path(&path)
                    .advise("the old files are in quarantine/: move restore.json away and restore once more")
            })
    }

    /// Where the old files go.
    pub(super) fn quarantine(&self, home: &PreparedHome) -> PathBuf {
        home.path().join("quarantine").join(&self.quarantine)
    }

    /// After the end: where the old files are. When there were none, the folder for them goes.
    pub(super) fn kept(&self, home: &PreparedHome) -> Option<PathBuf> {
        let folder = self.quarantine(home);
        let files = fs::read_dir(&folder).into_iter().flatten().flatten();
        if files.filter(|file| file.file_name() != manifest::FILE).count() > 0 {
            return Some(folder);
        }
        // One with a description alone does no harm either.
        let _ = fs::remove_dir_all(&folder);
        None
    }

    fn remaining(&self, home: &PreparedHome) -> Result<Remaining> {
        let mut remaining = Remaining::default();
        for Staged { name, inode } in &self.databases {
            let target = home.database_path(name);
            let inode_of = |path: &Path| fs::symlink_metadata(path).ok().map(|found| found.ino());
            if inode_of(&target) == Some(*inode) {
                continue;
            }
            let staged = home.path().join(&self.staging).join(manifest::file_name(name));
            if inode_of(&staged) != Some(*inode) {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!("a restore was interrupted, and its staged file for {name} is gone"),
                )
                .at_path(&staged)
                .advise("move restore.json away and restore once more; the old files are in quarantine/"));
            }
            for ending in ENDINGS {
                let from = with_ending(&target, ending);
                if inode_of(&from).is_some() {
                    let to = self.quarantine(home).join(manifest::file_name(name) + ending);
                    remaining.aside.push(Rename { from, to });
                }
            }
            remaining.into_place.push(Rename { from: staged, to: target });
        }
        Ok(remaining)
    }

    /// Does what is left, and ends the restore. Nobody has a database of the home open.
    pub(super) fn finish(&self, home: &PreparedHome) -> Result<()> {
        let remaining = self.remaining(home)?;
        let quarantine = self.quarantine(home);
        remaining.aside.iter().try_for_each(Rename::run)?;
        home::sync_folder(&quarantine)?;
        // An old log is durably gone before a new file is beside its place.
        home::sync_folder(home.path())?;
        remaining.into_place.iter().try_for_each(Rename::run)?;
        let staging = home.path().join(&self.staging);
        if staging.is_dir() {
            home::sync_folder(&staging)?;
        }
        home::sync_folder(home.path())?;
        let file = home.path().join(FILE);
        fs::remove_file(&file).map_err(|error| Error::io("end the restore", &file, error))?;
        home::sync_folder(home.path())?;
        // It is empty, or will be swept by the next restore.
        let _ = fs::remove_dir(&staging);
        // The restore is done, whatever becomes of older ones.
        let _ = bound(
            home.path(),
            Sets::OfRestores,
            &self.quarantine(home),
            0,
            Limits::default().quarantine_sets,
        );
        Ok(())
    }
}

fn device(folder: &Path) -> Result<u64> {
    let found = fs::metadata(folder).map_err(|error| Error::io("look at the folder", folder, error))?;
    Ok(found.dev())
}

/// True when a restore of this home was broken off and not finished yet, or is under way.
pub(crate) fn is_interrupted(home: &PreparedHome) -> bool {
    fs::symlink_metadata(home.path().join(FILE)).is_ok()
}

/// Finishes a restore that was broken off. The caller has no database of the home open, nor waits to.
///
/// # Errors
/// `Busy` while somebody else is at it until `deadline`; `Corrupt` when it cannot be finished; of the system.
pub(crate) fn finish_interrupted(home: &PreparedHome, deadline: Instant) -> Result<()> {
    loop {
        if let Some(alone) = Alone::try_enter(home)? {
            return finish_alone(home, &alone).map(drop);
        }
        if !is_interrupted(home) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::new(
                ErrorKind::Busy,
                "a restore was interrupted, and somebody has the home open",
            )
            .at_path(home.path())
            .held_by(flock_holder(&presence::lock_file(home))));
        }
        pause();
    }
}

/// The same for who has the home alone already; true when there was one.
pub(crate) fn finish_alone(home: &PreparedHome, _alone: &Alone) -> Result<bool> {
    let Some(intent) = Intent::read(home)? else { return Ok(false) };
    intent.finish(home)?;
    telemetry::warn(&format_args!(
        "finished the restore of {} that was interrupted; the old files are in {}",
        intent.backup.display(),
        intent.quarantine(home).display()
    ));
    Ok(true)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
mod tests {
    use super::*;
    use crate::home::Home;

    const NAMES: [&str; 2] = ["a", "b"];

    /// A home with two old databases and everything beside them, and two staged new ones.
    fn announced() -> (tempfile::TempDir, PreparedHome, Intent) {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(folder.path().join("home")).prepare().expect("a home");
        let staging = home::private_folder(home.path(), ".restore-unfinished-1-0").expect("a folder");
        for name in NAMES {
            for ending in ENDINGS {
                fs::write(with_ending(&home.database_path(name), ending), "old").expect("written");
            }
            fs::write(staging.join(manifest::file_name(name)), "new").expect("written");
        }
        let names = NAMES.map(str::to_owned);
        let intent = Intent::announce(&home, Path::new("/backup"), &staging, &names).expect("announced");
        (folder, home, intent)
    }

    fn content(home: &PreparedHome) -> Vec<Option<String>> {
        let files = NAMES
            .iter()
            .flat_map(|name| ENDINGS.iter().map(|ending| with_ending(&home.database_path(name), ending)));
        files.map(|file| fs::read_to_string(file).ok()).collect()
    }

    #[test]
    fn broken_off_after_any_rename_it_is_finished_by_who_comes_next() {
        let new: Vec<_> = NAMES.iter().flat_map(|_| [None, None, None, Some("new".to_owned())]).collect();
        let mut renames = 0;
        for stop_after in 0.. {
            let (_folder, home, intent) = announced();
            let remaining = intent.remaining(&home).expect("all there");
            let all: Vec<_> = remaining.aside.iter().chain(&remaining.into_place).collect();
            renames = renames.max(all.len());
            if stop_after > all.len() {
                break;
            }
            all[..stop_after].iter().try_for_each(|rename| rename.run()).expect("renamed");
            assert!(is_interrupted(&home));
            finish_interrupted(&home, Instant::now()).expect("finished");
            assert!(!is_interrupted(&home));
            assert_eq!(content(&home), new, "after {stop_after}");
            let kept = intent.quarantine(&home);
            for name in NAMES {
                for ending in ENDINGS {
                    let file = kept.join(manifest::file_name(name) + ending);
                    assert_eq!(fs::read_to_string(file).expect("kept"), "old", "after {stop_after}");
                }
            }
            assert!(!home.path().join(&intent.staging).exists());
            // Once more does nothing.
            finish_interrupted(&home, Instant::now()).expect("nothing to do");
        }
        assert_eq!(renames, 10);
    }

    #[test]
    fn what_cannot_be_finished_keeps_the_home_shut() {
        let (_folder, home, intent) = announced();
        fs::remove_file(home.path().join(&intent.staging).join("b.sqlite")).expect("removed");
        let error = finish_interrupted(&home, Instant::now()).expect_err("a file is gone");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(is_interrupted(&home));
        assert!(content(&home).iter().all(|text| text.as_deref() == Some("old")), "nothing was moved");
        fs::write(home.path().join(FILE), "{").expect("written");
        let error = finish_interrupted(&home, Instant::now()).expect_err("no JSON");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn an_intent_that_names_files_elsewhere_is_refused() {
        let (_folder, home, intent) = announced();
        for bad in [
            Intent { staging: "../elsewhere".into(), ..intent.clone() },
            Intent { quarantine: "..".into(), ..intent.clone() },
            Intent { databases: vec![Staged { name: "../a".into(), inode: 1 }], ..intent.clone() },
            Intent { version: LAYOUT + 1, ..intent.clone() },
        ] {
            let text = serde_json::to_vec(&bad).expect("JSON");
            fs::write(home.path().join(FILE), text).expect("written");
            assert_eq!(Intent::read(&home).expect_err("refused").kind(), ErrorKind::Corrupt, "{bad:?}");
        }
    }
}
