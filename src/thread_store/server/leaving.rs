//! A history that goes to another home, as the transcript that a move to files would make of it.
//!
//! Invariants (`tests/home_elsewhere.rs`):
//! 1. It is read to its end before any of it goes: what is said of it, its length too, is true of what follows.
//! 2. What is appended meanwhile stays behind. Items that are there do not change.
//! 3. In memory is a page of it, however long it is; one that is a page is read once.

use super::items::Stored;
use super::reading::Pages;
use super::writer::History;
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::becoming::{Becoming, put_line};
use crate::stores::database::Engine;
use crate::stores::threads::ThreadRow;

/// What there is of a thread's history on a server.
pub(crate) enum Leaving {
    /// None: the thread has its transcript elsewhere, or none at all.
    Nothing,
    /// Something that becomes no transcript, and why.
    Odd(Error),
    Whole(Box<LeavingHistory>),
}

/// A history, to be read as the bytes of its transcript.
pub(crate) struct LeavingHistory {
    /// The name of the transcript.
    pub(crate) name: String,
    pub(crate) archived: bool,
    pub(crate) bytes: u64,
    /// The bytes that were not given yet.
    left: u64,
    pages: Pages,
    /// Lines that were read, and how much of them was given.
    block: Vec<u8>,
    given: usize,
}

/// Looks at the history of a thread, to its end.
///
/// # Errors
/// Of the server.
pub(crate) fn leaving(engine: &Engine, row: &ThreadRow) -> Result<Leaving> {
    let Some(history) = engine.read(|at| History::of(at, &row.id))? else { return Ok(Leaving::Nothing) };
    let pages = |from| Pages::new(engine, &row.id, from, history.items);
    let archived = row.archived_at.is_some();
    let mut becoming = Becoming::of(archived, Some(row.created_at));
    let (mut read, mut block) = (0, Vec::new());
    for page in pages(0) {
        let page = match page {
            Ok(page) => page,
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(Leaving::Odd(error)),
            // It was deleted meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Leaving::Nothing),
            Err(error) => return Err(error),
        };
        for item in &page {
            let seq = i64::try_from(item.seq).unwrap_or(i64::MAX);
            becoming.see(&row.id, seq, &item.kind, item.text.as_bytes());
        }
        read += 1;
        block = if read == 1 { lines(&page) } else { Vec::new() };
    }
    let name = becoming.place().file_name().and_then(|name| name.to_str());
    let (Some(name), true) = (name, becoming.is_whole(history.items)) else {
        return Ok(Leaving::Odd(Error::new(
            ErrorKind::Corrupt,
            "its history does not begin with the session_meta of a thread, or lacks items",
        )));
    };
    let pages = pages(if read == 1 { history.items } else { 0 });
    Ok(Leaving::Whole(Box::new(LeavingHistory {
        name: name.to_owned(),
        archived,
        bytes: becoming.bytes(),
        left: becoming.bytes(),
        pages,
        block,
        given: 0,
    })))
}

impl LeavingHistory {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// `Replaced` when it was removed meanwhile; of the server.
    pub(crate) fn read(&mut self, to: &mut [u8]) -> Result<usize> {
        while self.given == self.block.len() {
            let Some(page) = self.pages.next() else {
                return if self.left == 0 { Ok(0) } else { Err(removed()) };
            };
            self.block = page.map(|page| lines(&page)).map_err(|error| match error.kind() {
                ErrorKind::NotFound | ErrorKind::Corrupt => removed().caused_by(error),
                _ => error,
            })?;
            self.given = 0;
        }
        let rest = &self.block[self.given..];
        let count = rest.len().min(to.len());
        // Somebody who rewrites items by hand must not change the length that was told.
        self.left = self.left.checked_sub(count as u64).ok_or_else(removed)?;
        to[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok(count)
    }
}

fn lines(page: &[Stored]) -> Vec<u8> {
    let mut block = Vec::with_capacity(page.iter().map(|item| item.text.len() + 1).sum());
    for item in page {
        // Writing to memory cannot fail.
        let _ = put_line(&mut block, item.text.as_bytes());
    }
    block
}

fn removed() -> Error {
    Error::new(ErrorKind::Replaced, "the history of a thread was removed while it was read")
        .advise("do it again")
}
