//! Where a thread's transcript is: a path is believed only if the file's first line carries the thread's id.

use std::path::{Path, PathBuf};

use super::layout::{RolloutFile, walk};
use super::{Reader, Rollouts, metadata};
use crate::error::{Error, ErrorKind, Result};
use crate::stores::threads::row::thread_id;

/// Where a transcript was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The transcript.
    pub path: PathBuf,
    /// The path that was given, when it was wrong.
    pub stale: Option<StalePath>,
}

/// A path that does not lead to the thread's transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StalePath {
    /// The path.
    pub path: PathBuf,
    /// What is there.
    pub reason: Stale,
}

/// Why a path was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stale {
    /// Nothing is there.
    Missing,
    /// The transcript of another thread is there.
    AnotherThread,
    /// What is there cannot be read as a transcript.
    Unreadable,
}

impl Rollouts {
    /// Finds a thread's transcript: where the hint says, else by the names in this home. Of several the plain one counts
    /// before a compressed one, a live one before an archived one, then the longest. Nothing is changed.
    ///
    /// # Errors
    /// `NotFound`, with the hint as its path where there was one; of the system, when it may be in a folder that cannot be
    /// read; `Invalid` for what is no id.
    pub fn locate(&self, id: &str, hint: Option<&Path>) -> Result<Located> {
        let id = thread_id(id)?;
        let stale = match hint.map(|hint| (hint, look(hint, &id))) {
            Some((hint, Ok(()))) => return Ok(Located { path: hint.to_owned(), stale: None }),
            Some((hint, Err(reason))) => Some(StalePath { path: hint.to_owned(), reason }),
            None => None,
        };
        let mut named: Vec<RolloutFile> = Vec::new();
        let mut unread = None;
        for file in walk(self.home.path())? {
            match file {
                Ok(file) if file.id_in_name().as_deref() == Some(&id) => named.push(file),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Unsupported => {}
                Err(error) => unread = Some(error),
            }
        }
        named.sort_by_key(|file| (file.compressed, file.archived, std::cmp::Reverse(file.stamp.size)));
        let found = named.into_iter().find(|file| look(&file.path, &id).is_ok());
        found.map(|file| Located { path: file.path, stale }).ok_or_else(|| {
            unread.unwrap_or_else(|| {
                Error::new(ErrorKind::NotFound, "the thread has no transcript here")
                    .at_path(hint.unwrap_or(self.home.path()))
            })
        })
    }

    /// Opens a thread's transcript to read it, whoever writes it: no lock is looked at.
    ///
    /// # Errors
    /// As [`locate`](Self::locate) and [`Reader::open`].
    pub fn attach(&self, id: &str, hint: Option<&Path>) -> Result<Reader> {
        Reader::open(&self.locate(id, hint)?.path)
    }
}

fn look(path: &Path, id: &str) -> std::result::Result<(), Stale> {
    match metadata::id_of(path) {
        Ok(found) if found == id => Ok(()),
        Ok(_) => Err(Stale::AnotherThread),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Stale::Missing),
        Err(_) => Err(Stale::Unreadable),
    }
}
