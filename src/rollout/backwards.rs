//! The lines of a transcript, the last one first: for its tail, and for paging back.
//!
//! The invariants are those of [`Reader`](super::Reader), but that numbers are known only where reading began at a
//! numbered place.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::item::LONGEST_LINE;
use super::line::{Parts, RolloutLine, is_blank};
use super::reader::Position;
use super::torn::whole_lines;
use super::windows;
use crate::error::{Error, ErrorKind, Result};

const BLOCK: u64 = 64 << 10;

/// Reads a transcript backwards; see [`Reader::backwards`](super::Reader::backwards).
#[derive(Debug)]
pub struct Backwards {
    path: PathBuf,
    file: File,
    /// The bytes of the file from `from` on, up to the newline of the next line to show.
    block: Vec<u8>,
    from: u64,
    /// The line that was shown last.
    shown: Vec<u8>,
    /// Lines before the end of the block.
    line: Option<u64>,
    bad_lines: u64,
}

impl Backwards {
    pub(super) fn of(file: File, path: &Path, before: Option<Position>) -> Result<Self> {
        let failed = |error| Error::io("read the transcript", path, error);
        let length = file.metadata().map_err(failed)?.len();
        let end = match before {
            Some(before) => before.offset.min(length),
            None => length,
        };
        let end = whole_lines(&file, end).map_err(failed)?;
        let line = before.filter(|before| before.offset == end).map(|before| before.line);
        Ok(Self {
            path: path.to_owned(),
            file,
            block: Vec::new(),
            from: end,
            shown: Vec::new(),
            line,
            bad_lines: 0,
        })
    }

    /// The line before; `None` at the beginning.
    ///
    /// # Errors
    /// Of the system.
    #[expect(clippy::should_implement_trait, reason = "it lends the line")]
    pub fn next(&mut self) -> Result<Option<RolloutLine<'_>>> {
        loop {
            let Some((begin, too_long)) = self.line_begin()? else { return Ok(None) };
            let number = self.line;
            self.line = number.map(|line| line.saturating_sub(1));
            let offset = self.from + begin as u64;
            if too_long {
                self.bad_lines += 1;
                self.block.truncate(begin);
                continue;
            }
            self.shown.clear();
            self.shown.extend_from_slice(&self.block[begin..self.block.len() - 1]);
            self.block.truncate(begin);
            if let Some(parts) = Parts::of(&self.shown) {
                return Ok(Some(parts.show(&self.shown, number, offset)));
            }
            if !is_blank(&self.shown) {
                self.bad_lines += 1;
            }
        }
    }

    /// Where the next line to show begins: in bytes before which nothing was shown.
    pub fn offset(&self) -> u64 {
        self.from + self.block.len() as u64
    }

    /// Bad lines that were passed so far.
    pub fn bad_lines(&self) -> u64 {
        self.bad_lines
    }

    /// Where in the block the next line to show begins, and whether it is too long to be shown; what is in the block of
    /// such a one is only its beginning. `None` at the beginning of the file.
    fn line_begin(&mut self) -> Result<Option<(usize, bool)>> {
        let mut too_long = false;
        // The last byte is the newline of the line itself.
        let mut unsearched = self.block.len().saturating_sub(1);
        loop {
            if let Some(at) = self.block[..unsearched].iter().rposition(|byte| *byte == b'\n') {
                return Ok(Some((at + 1, too_long)));
            }
            if self.from == 0 {
                return Ok((too_long || !self.block.is_empty()).then_some((0, too_long)));
            }
            if self.block.len() >= LONGEST_LINE {
                too_long = true;
                self.block.clear();
            }
            let was_empty = self.block.is_empty() && !too_long;
            unsearched = self.fill()? - usize::from(was_empty);
        }
    }

    /// Puts the block before in front, of which there is one; tells its length. A long line is not read in thousands of
    /// pieces.
    fn fill(&mut self) -> Result<usize> {
        let wanted = BLOCK.max(self.block.len() as u64).min(4 << 20);
        let begin = self.from.saturating_sub(wanted);
        let mut block = Vec::with_capacity((self.from - begin) as usize + self.block.len());
        windows::append(&self.file, &mut block, begin, self.from, &mut 0)
            .map_err(|error| Error::io("read the transcript", &self.path, error))?;
        if block.len() as u64 != self.from - begin {
            return Err(Error::new(ErrorKind::Replaced, "the transcript became shorter while it was read")
                .at_path(&self.path)
                .advise("read it again"));
        }
        let added = block.len();
        block.append(&mut self.block);
        (self.block, self.from) = (block, begin);
        Ok(added)
    }
}
