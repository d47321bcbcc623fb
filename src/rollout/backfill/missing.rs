//! Rows whose file is gone, or holds another thread by now: reported by every run, removed only when that is asked for.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::rollout::layout::{self, walk};
use crate::rollout::metadata;
use crate::stores::backfill::{Backfill, MissingFile, NAMED, RowOfFile, SweepReport, root_text};

impl Backfill {
    /// Removes the rows of threads whose file below this folder is gone, with what else the state database holds of them:
    /// turns, spawn edges, memories. A [`run`](Self::run) before it finds files that were only moved. What a user set and only
    /// the row holds goes too, so this happens on request only.
    ///
    /// # Errors
    /// `NotFound` when the folder itself is gone, or the `sessions` or `archived_sessions` in it that such a file was in
    /// (a disk that is not mounted removes nothing); `Busy` while a backfill runs; the engine's.
    pub fn sweep(&self, root: &Path) -> Result<SweepReport> {
        let root = root_text(walk(root)?.root())?.to_owned();
        let gone = self.remove_rows(|| {
            let missing = find(self, &root)?;
            missing.iter().try_for_each(|file| refuse_without_folder(Path::new(&root), &file.path))?;
            Ok(missing)
        })?;
        let threads = gone.len() as u64;
        Ok(SweepReport { threads, removed: gone.into_iter().take(NAMED).collect() })
    }
}

/// A folder of transcripts that is not there at all says nothing of the files that were in it.
fn refuse_without_folder(root: &Path, file: &Path) -> Result<()> {
    let below = file.strip_prefix(root).ok().and_then(|below| below.iter().next());
    let folder = below
        .filter(|name| layout::FOLDERS.iter().any(|known| **name == **known))
        .map(|name| root.join(name));
    match folder.filter(|folder| is_gone(folder)) {
        None => Ok(()),
        Some(folder) => Err(Error::new(
            ErrorKind::NotFound,
            "the folder of the transcripts is not there, so nothing was removed",
        )
        .at_path(&folder)
        .advise("mount the disk, or bring the folder back; an empty one says that its transcripts are gone for good")),
    }
}

/// The rows of a folder whose file is not there.
pub(super) fn find(backfill: &Backfill, root: &str) -> Result<Vec<MissingFile>> {
    let mut missing = Vec::new();
    let mut after = None;
    loop {
        let page = backfill.rows_of_files(root, after.as_ref())?;
        for row in &page {
            let path = Path::new(&row.path);
            if (is_gone(path) || is_of_another(path, row)) && !is_elsewhere(path, row) {
                missing.push(MissingFile { thread_id: row.id.clone(), path: path.to_owned() });
            }
        }
        match page.into_iter().next_back() {
            Some(last) => after = Some(last),
            None => return Ok(missing),
        }
    }
}

/// Whether the file has become another thread's. One that cannot be read says nothing.
fn is_of_another(path: &Path, row: &RowOfFile) -> bool {
    let Ok(found) = path.symlink_metadata() else { return false };
    row.stamp != Some(layout::stamp(&found)) && metadata::id_of(path).is_ok_and(|id| id != row.id)
}

/// Whether it was compressed, decompressed, archived or taken back since: a run over where it lies finds it there. One
/// that cannot be read counts as its thread's.
fn is_elsewhere(path: &Path, row: &RowOfFile) -> bool {
    let places = layout::other_places(path);
    places.iter().any(|place| !is_gone(place) && metadata::id_of(place).map_or(true, |id| id == row.id))
}

/// Only where the system says that there is nothing; a folder that may not be read says nothing of what is in it.
pub(super) fn is_gone(path: &Path) -> bool {
    let gone = |kind| matches!(kind, std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory);
    path.symlink_metadata().is_err_and(|error| gone(error.kind()))
}
