//! Where a thread's transcript is: a path is believed only if the file's first line carries the thread's id.

use std::path::{Path, PathBuf};

use super::layout::{RolloutFile, walk};
use super::{Reader, Rollouts, layout, metadata};
use crate::error::{Error, ErrorKind, Result};
use crate::home::with_ending;
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
    /// The compressed copy is there, and beside it the plain one, which counts.
    Compressed,
    /// The transcript is there, outside this home, which has one of that name: it was copied from there.
    Elsewhere,
}

impl Rollouts {
    /// Finds a thread's transcript: where the hint says, else by the names in this home. Of several the plain one counts
    /// before a compressed one, a live one before an archived one, then the longest. A hint that leads out of this home
    /// counts only where this home has no transcript of that name. Nothing is changed.
    ///
    /// # Errors
    /// `NotFound`, with the hint as its path where there was one; of the system, when it may be in a folder that cannot be
    /// read; `Invalid` for what is no id.
    pub fn locate(&self, id: &str, hint: Option<&Path>) -> Result<Located> {
        let id = thread_id(id)?;
        let stale = match hint.map(|hint| (hint, look(hint, &id))) {
            Some((hint, Ok(()))) => return Ok(self.better(hint, &id)),
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

    /// What counts before a transcript that is where it was said to be.
    fn better(&self, hint: &Path, id: &str) -> Located {
        let is_its = |path: &PathBuf| look(path, id).is_ok();
        let instead =
            |path, reason| Located { path, stale: Some(StalePath { path: hint.to_owned(), reason }) };
        if !hint.starts_with(self.home.path()) && self.own(hint).is_err() {
            let plain = layout::plain(hint);
            let places = [self.live_path(&plain), self.archived_path(&plain)];
            let both = places.iter().cloned().chain(places.iter().map(|place| with_ending(place, ".zst")));
            if let Some(inside) = both.into_iter().find(is_its) {
                return instead(inside, Stale::Elsewhere);
            }
        }
        match layout::plain_beside(hint).filter(is_its) {
            Some(plain) => instead(plain, Stale::Compressed),
            None => Located { path: hint.to_owned(), stale: None },
        }
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
