//! A history in rows, on its way to a transcript.
//!
//! Invariants (`tests/move_histories.rs`, `tests/home_elsewhere.rs`):
//! 1. It becomes one when it is whole and begins as one: numbers without a gap, as many as its row says, each a line, the first
//!    one the `session_meta` of its thread. All others stay rows, and are told.
//! 2. A transcript is what was appended, byte for byte, a newline behind each item.

use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::item::{SNAPSHOT, stored_kind};
use super::metadata::beginning;
use super::{Item, disk, layout};
use crate::error::{Error, Result};

/// The longest first line that a list reads.
pub(crate) const LONGEST_FIRST: usize = 4 << 20;

/// What is known of a history after some of its items.
pub(crate) struct Becoming {
    archived: bool,
    /// When the thread began, in Unix milliseconds, unless its first item says it.
    created_at: i64,
    /// Below a home.
    place: PathBuf,
    /// How many were seen.
    seen: u64,
    /// Of the transcript up to here.
    bytes: u64,
    fits: bool,
    /// It holds a line of what a user said.
    has_said: bool,
}

impl Becoming {
    /// That of a thread as its row says; nothing becomes a transcript without a row.
    pub(crate) fn of(archived: bool, created_at: Option<i64>) -> Self {
        Self {
            archived,
            created_at: created_at.unwrap_or_default(),
            place: PathBuf::new(),
            seen: 0,
            bytes: 0,
            fits: created_at.is_some(),
            has_said: false,
        }
    }

    /// The next item of a thread, as its row has it.
    pub(crate) fn see(&mut self, id: &str, seq: i64, kind: &str, item: &[u8]) {
        let line = std::str::from_utf8(item).ok().and_then(|text| Item::line(text).ok());
        let fits = line.is_some_and(|line| {
            let first = self.seen > 0 || self.begin(id, line.text());
            first && stored_kind(line.kind()) == kind
        });
        self.fits &= fits && u64::try_from(seq) == Ok(self.seen);
        self.has_said |= kind == SNAPSHOT;
        self.seen += 1;
        self.bytes += item.len() as u64 + 1;
    }

    /// Finds its place, when this is how it begins.
    fn begin(&mut self, id: &str, text: &str) -> bool {
        let found = beginning(text.as_bytes()).ok();
        let Some((_, started)) = found.filter(|(found, _)| found == id && text.len() < LONGEST_FIRST) else {
            return false;
        };
        self.place = layout::place(id, started.unwrap_or(self.created_at), self.archived);
        true
    }

    /// Whether it becomes one, after its last item: its row says how many there are.
    pub(crate) fn is_whole(&self, items: u64) -> bool {
        self.fits && self.seen == items && items > 0
    }

    /// Where it will be, below a home.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// Whether it says what a user said of its thread.
    pub(crate) fn has_said(&self) -> bool {
        self.has_said
    }

    /// The bytes of the transcript.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Puts an item behind others, as the line that it will be.
pub(crate) fn put_line(to: &mut impl std::io::Write, item: &[u8]) -> std::io::Result<()> {
    to.write_all(item)?;
    to.write_all(b"\n")
}

/// Puts a line behind a transcript that nobody else knows of yet.
///
/// # Errors
/// Of the system.
pub(crate) fn put_behind(path: &Path, item: &Item) -> Result<()> {
    let put = || {
        let mut file = disk::open_to_write(path)?;
        file.seek(SeekFrom::End(0))?;
        put_line(&mut file, item.text().as_bytes())
    };
    put().map_err(|error| Error::io("write the transcript", path, error))
}
