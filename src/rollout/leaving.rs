//! A transcript that goes to another home, as it lies on the disk.
//!
//! Invariants (`tests/b3_portable_home.rs`):
//! 1. Nothing is locked and nothing is changed: whoever writes it goes on.
//! 2. While somebody writes it, it ends between two lines: what is written half is not a line yet.
//! 3. However long it is, one block of it is in memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::item::LONGEST_LINE;
use super::records::Line;
use super::{Rollouts, disk, layout, metadata, torn, windows};
use crate::error::{Error, ErrorKind, Result};
use crate::home::with_ending;

/// A transcript of which so many bytes go.
pub(crate) struct Leaving {
    path: PathBuf,
    file: File,
    at: u64,
    /// Its name, as one of a transcript.
    pub(crate) name: String,
    pub(crate) archived: bool,
    pub(crate) bytes: u64,
}

impl Rollouts {
    /// A thread's transcript: where its row says, or under the names that it gets when it is moved or compressed, also when
    /// the whole home was moved. Without a walk.
    pub(crate) fn near(&self, id: &str, hint: &Path) -> Option<PathBuf> {
        let plain = layout::plain(hint);
        let places = [plain.clone(), self.live_path(&plain), self.archived_path(&plain)];
        let all = places.iter().cloned().chain(places.iter().map(|place| with_ending(place, ".zst")));
        all.into_iter().find(|path| metadata::id_of(path).is_ok_and(|found| found == id))
    }
}

impl Rollouts {
    /// Opens the transcript of a thread that began at this time, in Unix milliseconds.
    ///
    /// # Errors
    /// `NotFound` when it was moved meanwhile; of the system.
    pub(crate) fn leaving(&self, path: &Path, id: &str, began: i64) -> Result<Leaving> {
        let failed = |error| Error::io("read the transcript", path, error);
        let file = disk::open_to_read(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let bytes = if !layout::is_compressed(path) && self.has_writer(id)? {
            of_lines(&file, length).map_err(failed)?
        } else {
            length
        };
        Ok(Leaving {
            path: path.to_owned(),
            file,
            at: 0,
            name: name(path, id, began),
            archived: layout::lies_archived(path),
            bytes,
        })
    }
}

impl Leaving {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// `Replaced` when it became shorter; of the system.
    pub(crate) fn read(&mut self, to: &mut [u8]) -> Result<usize> {
        let wanted = to.len().min(usize::try_from(self.bytes - self.at).unwrap_or(usize::MAX));
        loop {
            match self.file.read_at(&mut to[..wanted], self.at) {
                Ok(0) if wanted > 0 => {
                    return Err(Error::new(
                        ErrorKind::Replaced,
                        "the transcript became shorter while it was read",
                    )
                    .at_path(&self.path)
                    .advise("do it again"));
                }
                Ok(read) => {
                    self.at += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read the transcript", &self.path, error)),
            }
        }
    }
}

/// Up to where a transcript consists of lines, one that lacks only its newline included.
pub(super) fn of_lines(file: &File, length: u64) -> std::io::Result<u64> {
    let end = torn::whole_lines(file, length)?;
    if end == length || length - end > LONGEST_LINE as u64 {
        return Ok(end);
    }
    let mut last = Vec::new();
    windows::append(file, &mut last, end, length, &mut 0)?;
    Ok(if serde_json::from_slice::<Line<'_>>(&last).is_ok() { length } else { end })
}

/// The name it has, when it is one that a home finds, and not another thread's.
fn name(path: &Path, id: &str, began: i64) -> String {
    let own = path.file_name().filter(|name| layout::is_rollout(name)).and_then(|name| name.to_str());
    let own = own.filter(|name| layout::id_in_name(Path::new(name)).is_none_or(|found| found == id));
    own.map_or_else(
        || {
            let ending = if layout::is_compressed(path) { ".zst" } else { "" };
            layout::name(id, Timestamp::from_millisecond(began).unwrap_or_default()) + ending
        },
        str::to_owned,
    )
}
