//! A file that only grows, by one writer, with what is not known to be durable kept in memory.
//!
//! Nothing is held back from the system: bytes that are pushed go out with the next [`write`](AppendFile::write), so that
//! the death of this process loses none of those written. The copy in memory is for the failures:
//!
//! 1. A write that failed half way is done again from the last good offset with the same bytes, so that no two lines merge,
//!    and a reader that saw some of them sees them again.
//! 2. After a failed fsync the kernel counts pages as clean that never reached the disk; another fsync would then succeed
//!    and mean nothing. So everything since the last good one is written again before the next.
//! 3. At most 4 MiB wait for an fsync; what is more brings one about.
//! 4. Another writer, who does not know the lock, is noticed before anything is written over his bytes.
//!
//! Tests: `tests/rollout_recorder.rs` (1 to 4), `tests/rollout_crashes.rs` (death at each step).

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::disk;
use crate::error::{Error, ErrorKind, Result};

/// Bytes that may wait for an fsync.
pub(super) const MOST_UNSYNCED: usize = 4 << 20;
/// Memory that is kept for the next bytes.
const KEPT_CAPACITY: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct AppendFile {
    path: PathBuf,
    /// `None` until the first write.
    file: Option<File>,
    /// Up to here the file is durable, as far as this writer has to answer for it.
    synced: u64,
    /// Up to here the file holds what it is to hold.
    written: u64,
    /// Everything from `synced` on.
    unsynced: Vec<u8>,
    /// What the file's length must be, if nobody else wrote: more than `written` after a half write.
    length: u64,
    /// Its name is durable.
    named: bool,
    /// The home whose folders above it are to be durable with its name.
    below: Option<PathBuf>,
    /// It was there before, and may hold bytes that are not durable.
    inherited: bool,
    /// It was there before, or a write of it was whole once: somebody may have been told so, whatever failed later.
    ever_written: bool,
}

impl AppendFile {
    /// A file that is created with the first write, in a folder that is there by then. Its names up to the home become
    /// durable with its first sync.
    pub(super) fn new(home: &Path, path: PathBuf) -> Self {
        Self { below: Some(home.to_owned()), ..Self::at(path) }
    }

    fn at(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            synced: 0,
            written: 0,
            unsynced: Vec::new(),
            length: 0,
            named: false,
            below: None,
            inherited: false,
            ever_written: false,
        }
    }

    /// A file that is there, and ends with a whole line.
    pub(super) fn opened(path: PathBuf, file: File, length: u64) -> Self {
        Self {
            file: Some(file),
            synced: length,
            written: length,
            length,
            inherited: true,
            ever_written: true,
            ..Self::at(path)
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// It was renamed; where that is not durable, the next sync sees to it.
    pub(super) fn moved(&mut self, to: PathBuf, durably: bool) {
        self.path = to;
        self.named = durably;
    }

    /// Where the next byte goes.
    pub(super) fn end(&self) -> u64 {
        self.synced + self.unsynced.len() as u64
    }

    /// Bytes that could not be written.
    pub(super) fn unwritten(&self) -> u64 {
        self.end() - self.written
    }

    pub(super) fn exists(&self) -> bool {
        self.file.is_some()
    }

    /// Removes the file, when this writer created it and nothing was ever written whole.
    pub(super) fn remove_if_never_written(&self) {
        if self.file.is_some() && !self.ever_written {
            // What stays is an empty file, which nobody takes for a transcript.
            let _ = disk::remove(&self.path);
        }
    }

    /// Removes the file, whatever was written.
    pub(super) fn remove(&self) {
        if self.file.is_some() {
            // What stays has a name that nobody takes for a transcript's.
            let _ = disk::remove(&self.path);
        }
    }

    /// Takes bytes for the next write.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.unsynced.extend_from_slice(bytes);
    }

    /// Writes what was pushed, with one write(2).
    ///
    /// # Errors
    /// `Conflict` when somebody else wrote, `Replaced` when the file was removed, `Full`, `ReadOnly` or `Io`. What was
    /// pushed stays, for the next time.
    pub(super) fn write(&mut self) -> Result<()> {
        if self.unwritten() == 0 {
            return Ok(());
        }
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(disk::create(&self.path)?),
        };
        let found =
            file.metadata().map_err(|error| Error::io("look at the transcript", &self.path, error))?;
        check(&found, self.length, &self.path)?;
        let from = (self.written - self.synced) as usize;
        if let Err(error) = disk::write_at(file, &self.path, &self.unsynced[from..], self.written) {
            if let Ok(found) = file.metadata() {
                self.length = found.len();
            }
            return Err(Error::io("write the transcript", &self.path, error));
        }
        self.written = self.end();
        self.ever_written = true;
        self.length = self.length.max(self.written);
        if self.unsynced.len() > MOST_UNSYNCED { self.sync() } else { Ok(()) }
    }

    /// Writes what was pushed, and makes everything durable.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(super) fn sync(&mut self) -> Result<()> {
        if self.unwritten() > 0 {
            // It may sync by itself.
            self.write()?;
        }
        let Some(file) = &self.file else { return Ok(()) };
        if self.inherited || !self.unsynced.is_empty() {
            if let Err(error) = disk::sync(file, &self.path) {
                self.written = self.synced;
                return Err(Error::io("make the transcript durable", &self.path, error));
            }
            self.inherited = false;
            self.synced = self.written;
            self.unsynced.clear();
            self.unsynced.shrink_to(KEPT_CAPACITY);
        }
        if !self.named {
            let folder = self.path.parent().unwrap_or(&self.path);
            match &self.below {
                Some(home) => disk::sync_folders(home, folder)?,
                None => disk::sync_folder(folder)?,
            }
            self.below = None;
            self.named = true;
        }
        Ok(())
    }
}

/// Refuses a file that is not as this writer left it.
fn check(found: &Metadata, length: u64, path: &Path) -> Result<()> {
    let (kind, what, advice) = if found.nlink() == 0 {
        (ErrorKind::Replaced, "the transcript was removed while it was written", "put it back from a backup")
    } else if found.len() != length {
        (
            ErrorKind::Conflict,
            "another program changed the transcript while it was written",
            "end that program, and resume the thread",
        )
    } else {
        return Ok(());
    };
    Err(Error::new(kind, what).at_path(path).advise(advice))
}
