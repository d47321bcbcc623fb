//! Throwing a thread's files away: first to `trash/<id>/`, then for good.
//!
//! Invariants, and where they are tested (`tests/rollout_crashes.rs`, `tests/thread_delete.rs`):
//! 1. Done again after a crash at any step, it does what is left.
//! 2. Only what is the thread's by its name, and is not another one's by its first line, is moved; and what a row names,
//!    when it lies in this home and its first line says so.
//! 3. Nothing is replaced, in the trash neither.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind as Os;
use std::path::{Path, PathBuf};

use super::archive::{rename_durably, unfinished};
use super::lease::WriterLease;
use super::{Rollouts, disk, layout, metadata};
use crate::error::{Error, ErrorKind, Result};
use crate::home::with_ending;
use crate::stores::threads::row::thread_id;

impl Rollouts {
    /// Moves everything that is a thread's to `trash/<id>/`: its transcripts, plain and compressed, live and archived, and
    /// the torn lines kept beside them. Tells what was moved; nothing where nothing is.
    ///
    /// Done again after a crash, it moves what is left.
    ///
    /// # Errors
    /// Of the system.
    pub fn trash(&self, lease: &WriterLease) -> Result<Vec<PathBuf>> {
        let mut files = self.files_of(&[(lease.id(), None)])?;
        self.move_to_trash(lease, files.remove(lease.id()).unwrap_or_default())
    }

    /// The files in this home of each of these threads, with one walk; a thread may come with the path that its row names.
    ///
    /// # Errors
    /// Of the system.
    pub(crate) fn files_of(
        &self,
        threads: &[(&str, Option<&Path>)],
    ) -> Result<BTreeMap<String, Vec<PathBuf>>> {
        let mut found: BTreeMap<String, Vec<PathBuf>> =
            threads.iter().map(|(id, _)| ((*id).to_owned(), Vec::new())).collect();
        for (id, named) in threads {
            if let Some(path) = named
                && metadata::id_of(path).is_ok_and(|found| found == *id)
                && let Ok(own) = self.own(path)
            {
                found.entry((*id).to_owned()).or_default().extend(self.around(&own));
            }
        }
        for file in layout::walk(self.home.path())?.with_unfinished() {
            let file = match file {
                // A link is nobody's transcript.
                Err(error) if error.kind() == ErrorKind::Unsupported => continue,
                file => file?,
            };
            if let Some(name) = layout::name_to_be(&file.path) {
                // Of a fork or an arrival whose maker died: no transcript needs to lie beside it.
                if let Some(files) = layout::id_in_name(name).and_then(|id| found.get_mut(&id)) {
                    files.push(file.path);
                }
                continue;
            }
            let Some(files) = file.id_in_name().and_then(|id| found.get_mut(&id)) else { continue };
            // A name may lie; what cannot be read is what its name says.
            if metadata::id_of(&file.path).map_or(true, |id| file.id_in_name() == Some(id)) {
                files.extend(self.around(&file.path));
            }
        }
        for files in found.values_mut() {
            files.retain(|path| path.symlink_metadata().is_ok());
            files.sort();
            files.dedup();
        }
        Ok(found)
    }

    /// Refuses a thread whose only transcript lies outside this home, where it is only read: it would come back.
    ///
    /// # Errors
    /// `Invalid`; of the system.
    pub(crate) fn refuse_outside(&self, id: &str, named: Option<&Path>, own: &[PathBuf]) -> Result<()> {
        let Some(named) = named.filter(|_| own.is_empty()) else { return Ok(()) };
        if metadata::id_of(named).is_ok_and(|found| found == id) && self.in_trash(id)?.is_empty() {
            return self.own(named).map(drop).map_err(|error| {
                error.advise(
                    "`rowhouse threads rm --forget` takes the thread out of this home, and leaves the file as it is",
                )
            });
        }
        Ok(())
    }

    /// A transcript, and what may lie beside it.
    fn around(&self, path: &Path) -> Vec<PathBuf> {
        let plain = layout::plain(path);
        // They stayed where they were when the transcript moved.
        let places = [self.live_path(&plain), self.archived_path(&plain), plain];
        let beside = places.iter().flat_map(|plain| {
            [with_ending(plain, ".torn"), unfinished(plain), unfinished(&with_ending(plain, ".zst"))]
        });
        beside.chain([path.to_owned()]).collect()
    }

    /// Moves these files of a thread to its trash; where they are then.
    ///
    /// # Errors
    /// Of the system.
    pub(crate) fn move_to_trash(&self, lease: &WriterLease, mut files: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
        lease.check()?;
        if files.is_empty() {
            return Ok(files);
        }
        let trash = disk::create_folder(self.home.path(), "trash")?;
        let folder = disk::create_folder(&trash, lease.id())?;
        let mut moved = Vec::new();
        // The transcripts last: what is beside them is found through them.
        files.sort_by_key(|path| !lies_beside(path));
        for path in files {
            let name = path.file_name().unwrap_or_default();
            let mut target = folder.join(name);
            let mut again = 1;
            while target.symlink_metadata().is_ok() {
                again += 1;
                target = folder.join(format!("{}-{again}", name.to_string_lossy()));
            }
            rename_durably(&path, &target)?;
            moved.push(target);
        }
        Ok(moved)
    }

    /// What lies in a thread's trash.
    ///
    /// # Errors
    /// `Invalid` for what is no id; of the system.
    pub(crate) fn in_trash(&self, id: &str) -> Result<Vec<PathBuf>> {
        let folder = self.trash_of(id)?;
        let failed = |error| Error::io("look into the trash", &folder, error);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == Os::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
    }

    /// Removes what [`trash`](Self::trash) moved of a thread; tells how many files. Nothing where nothing is.
    ///
    /// # Errors
    /// `Invalid` for what is no id; of the system.
    pub fn empty_trash(&self, id: &str) -> Result<u64> {
        let folder = self.trash_of(id)?;
        if folder.symlink_metadata().is_err() {
            return Ok(0);
        }
        let failed = |error| Error::io("empty the trash", &folder, error);
        let files = self.in_trash(id)?;
        for file in &files {
            disk::remove(file).map_err(failed)?;
        }
        disk::remove_folder(&folder).map_err(failed)?;
        disk::sync_folder(folder.parent().unwrap_or(&folder))?;
        Ok(files.len() as u64)
    }

    fn trash_of(&self, id: &str) -> Result<PathBuf> {
        Ok(self.home.path().join("trash").join(thread_id(id)?))
    }
}

/// Whether it is one of the files that may lie beside a transcript. What a row names may have any name of its own.
fn lies_beside(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.ends_with(b".torn") || (name.starts_with(b".") && name.ends_with(b".new"))
}
