//! What is done to whole transcripts: moving, compressing, decompressing.
//!
//! Invariants, and where they are tested (`tests/rollout_crashes.rs`, `tests/rollout_archive.rs`):
//! 1. After a crash at any point there is one good copy that counts: the plain one where it is there, else the compressed
//!    one. The copy that is to go goes only after the other one was written, read back, made durable and named.
//! 2. An unfinished copy is called `.<name>.new`: nobody takes it for a transcript, and the next attempt begins it anew.
//! 3. Nothing that is there is ever replaced, but for a compressed copy of which the plain one is there and says more.
//! 4. Everything here happens under the thread's lease.

use std::fs;
use std::io::ErrorKind as Os;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::lease::WriterLease;
use super::{Rollouts, compressed, disk, layout};
use crate::error::{Error, ErrorKind, Result};
use crate::home::{refuse_too_full, with_ending};
use crate::sqlite::now_unix_ms;

/// After how long an archived transcript is compressed: 7 days.
pub const COMPRESSED_AFTER: Duration = Duration::from_hours(7 * 24);
/// Problems that a report names; all are counted.
const NAMED_PROBLEMS: usize = 100;

/// What a round of compressing did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CompressReport {
    /// Transcripts that were compressed.
    pub compressed: u64,
    /// Their bytes before.
    pub bytes_before: u64,
    /// Their bytes now.
    pub bytes_after: u64,
    /// Transcripts that were left for the next round: somebody writes them, or they could not be read.
    pub left: u64,
    /// Why, for the first 100 of them.
    pub problems: Vec<String>,
}

impl Rollouts {
    /// Compresses the archived transcripts that nobody changed for so long, oldest first; at most `most` of them. Where there
    /// is an index of them, `LocalThreadStore::compress_archived` brings it up to date as well.
    ///
    /// # Errors
    /// `Unsupported` without the feature `zstd`; `Full`; when the archive cannot be listed. What is wrong with one file
    /// leaves that one for the next round.
    pub fn compress_archived(&self, older_than: Duration, most: u64) -> Result<CompressReport> {
        self.compress_each(older_than, most, &mut |_| true)
    }

    /// The same; `done` is told where each one is now, and answers whether to go on.
    pub(crate) fn compress_each(
        &self,
        older_than: Duration,
        most: u64,
        done: &mut dyn FnMut(&Path) -> bool,
    ) -> Result<CompressReport> {
        let mut report = CompressReport::default();
        let folder = self.home.path().join("archived_sessions");
        if !cfg!(feature = "zstd") {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "this program was built without compressed transcripts",
            )
            .advise("build with the feature `zstd`"));
        }
        if !folder.is_dir() {
            return Ok(report);
        }
        let before = if older_than.is_zero() {
            // Also what was written before the clock was set back.
            i64::MAX
        } else {
            i64::try_from(now_unix_ms()).unwrap_or(i64::MAX)
                - i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX)
        };
        let left = |report: &mut CompressReport, error: &Error| {
            report.left += 1;
            if report.problems.len() < NAMED_PROBLEMS {
                report.problems.push(error.to_string());
            }
        };
        let mut old = Vec::new();
        for file in layout::walk(&folder)? {
            match file {
                Ok(file) if file.compressed || file.stamp.mtime_ns / 1_000_000 > before => {}
                Ok(file) => old.push(file),
                Err(error) => left(&mut report, &error),
            }
        }
        old.sort_by_key(|file| file.stamp.mtime_ns);
        for file in old {
            // What cannot be compressed does not keep the others from it.
            if report.compressed >= most {
                break;
            }
            match self.compress(&file.path) {
                Ok(after) => {
                    report.compressed += 1;
                    report.bytes_before += file.stamp.size as u64;
                    report.bytes_after += after;
                    if !done(&with_ending(&file.path, ".zst")) {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Full => return Err(error),
                Err(error) => left(&mut report, &error),
            }
        }
        Ok(report)
    }

    /// Compresses a transcript; tells its bytes afterwards.
    ///
    /// # Errors
    /// `Conflict`, naming the owner, when somebody writes it, or when a compressed one of that name says something else;
    /// `Full` when there is no room for both; `Unsupported` without the feature `zstd`; `Invalid` for what is no transcript,
    /// lies outside this home, or ends in a torn line; of the system.
    pub fn compress(&self, path: &Path) -> Result<u64> {
        let path = &self.own(path)?;
        let id = super::metadata::id_of(path)?;
        let _lease = self.lease(&id, Duration::ZERO)?;
        let failed = |error| Error::io("compress the transcript", path, error);
        // Looked at again under the lease: it may have moved.
        let plain = disk::open_to_read(path).map_err(failed)?;
        let length = plain.metadata().map_err(failed)?.len();
        if super::torn::whole_lines(&plain, length).map_err(failed)? != length {
            return Err(Error::new(ErrorKind::Invalid, "the transcript ends in a torn line")
                .at_path(path)
                .advise("resume the thread once"));
        }
        let folder = path.parent().unwrap_or(path);
        refuse_too_full(length, folder, "compressing a transcript")?;
        let target = with_ending(path, ".zst");
        if part_in_copy(&target, &plain)? != Some(length) {
            let new = unfinished(&target);
            let copy = create_anew(&new)?;
            compressed::compress(&plain, &copy, &new)
                .map_err(|error| Error::io("compress the transcript", path, error))?;
            if !holds(&copy, &plain).map_err(failed)? {
                return Err(not_as_written(path));
            }
            disk::sync(&copy, &new).map_err(failed)?;
            remove_if_there(&target)?;
            rename_durably(&new, &target)?;
        }
        disk::remove(path).map_err(failed)?;
        disk::sync_folder(folder)?;
        Ok(target.metadata().map_or(0, |found| found.len()))
    }

    /// Puts the plain form of a compressed transcript into its place; its path. The caller has the lease.
    ///
    /// # Errors
    /// `Conflict` when another plain one is there; `Full`; `Corrupt`; of the system.
    pub(super) fn decompress(path: &Path) -> Result<PathBuf> {
        let failed = |error| Error::io("decompress the transcript", path, error);
        let target = path.with_extension("");
        if target.symlink_metadata().is_ok() {
            let error =
                Error::new(ErrorKind::Conflict, "a plain file of that name is there, and is no transcript");
            return Err(error.at_path(&target).advise("move one of the two away"));
        }
        let new = unfinished(&target);
        let copy = create_anew(&new)?;
        let from = disk::open_to_read(path).map_err(failed)?;
        let length = compressed::decompress(from.try_clone().map_err(failed)?, path, &copy, &new)?;
        if !holds(&from, &copy).map_err(failed)? || copy.metadata().map_err(failed)?.len() != length {
            return Err(not_as_written(&new));
        }
        disk::sync(&copy, &new).map_err(failed)?;
        rename_durably(&new, &target)?;
        remove_compressed_copy(&target)?;
        Ok(target)
    }
}

impl Rollouts {
    /// Removes the unfinished files beside this one, and this one, whose makers died: those whose lease is free, or is this
    /// one.
    ///
    /// # Errors
    /// Of the system.
    pub(super) fn remove_abandoned(&self, path: &Path, own: &WriterLease) -> Result<()> {
        let folder = path.parent().unwrap_or(path);
        let failed = |error| Error::io("look for unfinished files", folder, error);
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let Some(id) = layout::name_to_be(&path).and_then(layout::id_in_name) else { continue };
            if id == own.id() || self.lease(&id, Duration::ZERO).is_ok() {
                // Somebody else may have done it meanwhile.
                let _ = disk::remove(&path);
            }
        }
        Ok(())
    }
}

/// Removes the compressed copy beside a plain transcript, which a crash left there, when the plain one holds all of it.
/// The caller has the lease.
pub(super) fn remove_compressed_copy(plain: &Path) -> Result<()> {
    let copy = with_ending(plain, ".zst");
    let Ok(compressed) = disk::open_to_read(&copy) else { return Ok(()) };
    let failed = |error| Error::io("look at the compressed copy", &copy, error);
    let plain = disk::open_to_read(plain).map_err(failed)?;
    if matches!(compressed::length_in(&compressed, &plain), Ok(Some(_))) {
        disk::remove(&copy).map_err(failed)?;
        disk::sync_folder(copy.parent().unwrap_or(&copy))?;
    }
    Ok(())
}

/// How much of the plain transcript the compressed copy beside it holds, from its beginning: all of it when a crash came
/// before the plain one was removed, a part when it is older. `None` where there is no copy.
///
/// # Errors
/// `Conflict` for one that holds anything else, or cannot be read: nobody knows that it may go.
fn part_in_copy(copy: &Path, plain: &fs::File) -> Result<Option<u64>> {
    let compressed = match disk::open_to_read(copy) {
        Ok(compressed) => compressed,
        Err(error) if error.kind() == Os::NotFound => return Ok(None),
        Err(error) => return Err(another_copy(copy).caused_by(error)),
    };
    match compressed::length_in(&compressed, plain) {
        Ok(Some(part)) => Ok(Some(part)),
        Ok(None) => Err(another_copy(copy)),
        Err(error) => Err(another_copy(copy).caused_by(error)),
    }
}

fn another_copy(copy: &Path) -> Error {
    Error::new(ErrorKind::Conflict, "a compressed transcript of that name is there, and says something else")
        .at_path(copy)
        .advise("look which of the two is the thread's, and move the other one away")
}

/// Gives a file another name that nothing has, so that it has exactly one after a power cut as well.
pub(super) fn rename_durably(from: &Path, to: &Path) -> Result<()> {
    disk::rename(from, to).map_err(|error| {
        if error.kind() == Os::AlreadyExists {
            return Error::new(ErrorKind::Conflict, "a file of that name is there already").at_path(to);
        }
        Error::io("move the transcript", from, error)
    })?;
    let (source, target) = (from.parent().unwrap_or(from), to.parent().unwrap_or(to));
    // The new name first: never none.
    disk::sync_folder(target)?;
    if source == target { Ok(()) } else { disk::sync_folder(source) }
}

/// Whether a compressed transcript holds exactly what the plain one does.
fn holds(compressed: &fs::File, plain: &fs::File) -> std::io::Result<bool> {
    Ok(compressed::length_in(compressed, plain)? == Some(plain.metadata()?.len()))
}

fn not_as_written(path: &Path) -> Error {
    Error::new(ErrorKind::Io, "a copy of the transcript did not read back as it was written")
        .at_path(path)
        .advise("look at the disk and the memory of this machine; the transcript is as it was")
}

pub(super) fn unfinished(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.new"))
}

/// An empty file, instead of what a crash left there.
pub(super) fn create_anew(path: &Path) -> Result<fs::File> {
    remove_if_there(path)?;
    disk::create(path)
}

fn remove_if_there(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    disk::remove(path).map_err(|error| Error::io("remove an old copy", path, error))
}
