//! The lines of a transcript, one after the other.
//!
//! Invariants, and where they are tested (`tests/rollout_reader.rs`):
//! 1. In memory are one block and one line, and of a line at most 64 MiB: a longer one is passed like a bad one.
//! 2. A bad line is counted, named by its number, and passed. A blank one is neither bad nor shown.
//! 3. A line without its newline is not shown: somebody may be writing it. The next call reads it again from its beginning,
//!    since a writer may have cut it off and begun another; nothing is locked, so that a reader never waits for the writer.
//! 4. Whatever was shown is what the file holds from `offset` on, byte for byte.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::backwards::Backwards;
use super::item::LONGEST_LINE;
use super::layout::is_compressed;
use super::line::{Parts, RolloutLine, is_blank};
use super::{compressed, disk};
use crate::error::{Error, ErrorKind, Result};

const BLOCK: usize = 64 << 10;
/// Bad lines that are named; all are counted.
const NAMED_LINES: usize = 1_000;

/// A place between two lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// Bytes of the plain transcript before it.
    pub offset: u64,
    /// Lines before it.
    pub line: u64,
}

/// Reads a transcript forwards, plain or compressed, also while somebody writes it.
///
/// ```no_run
/// # fn main() -> rowhouse::Result<()> {
/// use rowhouse::rollout::Reader;
/// let mut reader = Reader::open("sessions/2026/01/01/rollout-….jsonl".as_ref())?;
/// while let Some(line) = reader.next()? {
///     println!("{}: {}", line.kind, line.payload);
/// }
/// // A checkpoint, to go on from later.
/// let position = reader.position();
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    source: Source,
    /// What was read and not shown yet; `at` is where the next line begins.
    block: Vec<u8>,
    at: usize,
    /// Up to here in the block there is no newline.
    searched: usize,
    position: Position,
    /// The last call came to the end: what is left in the block is the beginning of a line, as it was then.
    at_end: bool,
    /// A line that is too long is being passed.
    passing: bool,
    bad_lines: u64,
    bad: Vec<u64>,
}

#[derive(Debug)]
enum Source {
    Plain { file: File, at: u64 },
    Compressed(compressed::Plain),
}

impl Read for Source {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Plain { file, at } => {
                    let read = file.read_at(to, *at);
                    *at += *read.as_ref().unwrap_or(&0) as u64;
                    read
                }
                Self::Compressed(plain) => plain.read(to),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

impl Reader {
    /// Opens a transcript at its first line. A name that ends in `.zst` is a compressed one.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a link or a folder; `Unsupported` for a compressed one without the feature `zstd`; of the
    /// system.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_at(path, Position::default())
    }

    /// Opens it at a place that [`position`](Self::position) told. Of a compressed one everything before is decompressed
    /// first.
    ///
    /// # Errors
    /// As [`open`](Self::open); `Replaced` when the transcript is shorter than that.
    pub fn open_at(path: &Path, position: Position) -> Result<Self> {
        let file = open(path)?;
        let source = if is_compressed(path) {
            let mut plain = compressed::Plain::of(file, path)?;
            let passed = io::copy(&mut plain.by_ref().take(position.offset), &mut io::sink())
                .map_err(|error| Error::io("read the transcript", path, error))?;
            if passed < position.offset {
                return Err(became_shorter(path));
            }
            Source::Compressed(plain)
        } else {
            Source::Plain { file, at: position.offset }
        };
        Ok(Self {
            path: path.to_owned(),
            source,
            block: Vec::new(),
            at: 0,
            searched: 0,
            position,
            at_end: false,
            passing: false,
            bad_lines: 0,
            bad: Vec::new(),
        })
    }

    /// The next line; `None` at the end of what is there by now. Ask again later to see what was added to a plain one.
    ///
    /// # Errors
    /// `Replaced` when the file became shorter than what was read; `Corrupt` for a compressed one that is damaged; of the
    /// system.
    #[expect(clippy::should_implement_trait, reason = "it lends the line")]
    pub fn next(&mut self) -> Result<Option<RolloutLine<'_>>> {
        self.forget_unfinished();
        loop {
            let Some(length) = self.line_end()? else { return Ok(None) };
            let from = self.at;
            let (offset, number) = (self.position.offset, self.position.line + 1);
            self.at += length;
            self.searched = self.at;
            self.position = Position { offset: offset + length as u64, line: number };
            let range = from..self.at - 1;
            if std::mem::take(&mut self.passing) {
                self.count_bad(number);
            } else if let Some(parts) = Parts::of(&self.block[range.clone()]) {
                return Ok(Some(parts.show(&self.block[range], Some(number), offset)));
            } else if !is_blank(&self.block[range]) {
                self.count_bad(number);
            }
        }
    }

    /// Goes on at a place between two lines. Forwards, a compressed transcript is only decompressed up to there; backwards,
    /// from its beginning.
    ///
    /// # Errors
    /// As [`open_at`](Self::open_at).
    pub(crate) fn go_to(&mut self, to: Position) -> Result<()> {
        let Some(on) = to.offset.checked_sub(self.position.offset) else {
            *self = Self::open_at(&self.path, to)?;
            return Ok(());
        };
        let there = self.block.len() - self.at;
        if let Some(missing) = on.checked_sub(there as u64).filter(|missing| *missing > 0) {
            match &mut self.source {
                Source::Plain { at, .. } => *at = to.offset,
                Source::Compressed(plain) => {
                    let passed = io::copy(&mut plain.by_ref().take(missing), &mut io::sink())
                        .map_err(|error| compressed::explain(error, &self.path))?;
                    if passed < missing {
                        return Err(became_shorter(&self.path));
                    }
                }
            }
            self.at = self.block.len();
        } else {
            self.at += on as usize;
        }
        (self.searched, self.position, self.at_end, self.passing) = (self.at, to, false, false);
        Ok(())
    }

    /// The last line, when it lacks nothing but its newline: for a transcript that nobody writes any more. To be asked when
    /// [`next`](Self::next) answered `None`; the place does not move.
    pub fn unfinished(&mut self) -> Option<RolloutLine<'_>> {
        let rest = &self.block[self.at..];
        let parts = Parts::of(rest).filter(|_| !self.passing)?;
        Some(parts.show(rest, Some(self.position.line + 1), self.position.offset))
    }

    /// Bytes behind the last whole line. Counted when [`next`](Self::next) answered `None`.
    pub fn torn_bytes(&self) -> u64 {
        (self.block.len() - self.at) as u64
    }

    /// Whether what is behind the last whole line is longer than a line may be.
    #[cfg(feature = "postgres")]
    pub(crate) fn is_passing(&self) -> bool {
        self.passing
    }

    /// Where the next line begins.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Bad lines that were passed so far.
    pub fn bad_lines(&self) -> u64 {
        self.bad_lines
    }

    /// The numbers of the first 1,000 of them.
    pub fn bad_line_numbers(&self) -> &[u64] {
        &self.bad
    }

    /// A transcript byte for byte, whatever is in it: as it is in its file, or was before it was compressed. Ends where the
    /// file ends by then.
    ///
    /// # Errors
    /// As [`open`](Self::open). Reading it fails with what the system or the decoder says.
    pub fn bytes(path: &Path) -> Result<impl Read + Send + 'static> {
        Ok(Self::open(path)?.source)
    }

    /// The lines before a place, the last one first; `None`: before the end. Of a compressed transcript a plain copy
    /// without a name is written beside the temporary files.
    ///
    /// # Errors
    /// As [`open`](Self::open); `Full`.
    pub fn backwards(path: &Path, before: Option<Position>) -> Result<Backwards> {
        let file = open(path)?;
        let file = if is_compressed(path) { compressed::plain_copy(file, path)? } else { file };
        Backwards::of(file, path, before)
    }

    fn count_bad(&mut self, number: u64) {
        self.bad_lines += 1;
        if self.bad.len() < NAMED_LINES {
            self.bad.push(number);
        }
    }

    /// What was left of a plain file at its end may have been cut off since. A compressed one stays as it is.
    fn forget_unfinished(&mut self) {
        if std::mem::take(&mut self.at_end)
            && let Source::Plain { at, .. } = &mut self.source
        {
            *at = self.position.offset;
            self.block.truncate(self.at);
            self.searched = self.at;
        }
    }

    /// The length of the next line with its newline, which is in the block; `None` when there is none yet. While a line is
    /// passed, the length of what is left of it.
    fn line_end(&mut self) -> Result<Option<usize>> {
        loop {
            // Of a slice this cannot fail; it finds the newline many bytes at a time.
            let length = (&self.block[self.searched..]).skip_until(b'\n').unwrap_or_default();
            let end = self.searched + length;
            if length > 0 && self.block[end - 1] == b'\n' {
                return Ok(Some(end - self.at));
            }
            self.searched = self.block.len();
            if self.block.len() - self.at >= LONGEST_LINE {
                self.passing = true;
            }
            if self.passing {
                self.position.offset += (self.block.len() - self.at) as u64;
                self.at = self.block.len();
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Reads a block more; false at the end.
    fn fill(&mut self) -> Result<bool> {
        self.block.drain(..self.at);
        self.searched -= self.at;
        self.at = 0;
        if self.block.capacity() > 4 * BLOCK && self.block.len() < BLOCK {
            self.block.shrink_to(2 * BLOCK);
        }
        let begin = self.block.len();
        // A long line is not read in thousands of pieces.
        let wanted = BLOCK.max(begin.min(4 << 20));
        self.block.resize(begin + wanted, 0);
        let read = self.source.read(&mut self.block[begin..]);
        self.block.truncate(begin + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => {
                self.at_end = true;
                self.refuse_shorter().map(|()| false)
            }
            Ok(_) => Ok(true),
            Err(error) => Err(compressed::explain(error, &self.path)),
        }
    }

    fn refuse_shorter(&self) -> Result<()> {
        let Source::Plain { file, at } = &self.source else { return Ok(()) };
        let found =
            file.metadata().map_err(|error| Error::io("look at the transcript", &self.path, error))?;
        if found.len() < self.position.offset {
            return Err(became_shorter(&self.path));
        }
        debug_assert!(*at >= self.position.offset);
        Ok(())
    }
}

fn open(path: &Path) -> Result<File> {
    disk::open_to_read(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => {
            Error::new(ErrorKind::Invalid, "a transcript is a plain file").at_path(path)
        }
        _ if error.raw_os_error() == Some(libc::ELOOP) => {
            Error::new(ErrorKind::Invalid, "a symbolic link is not followed").at_path(path)
        }
        _ => Error::io("read the transcript", path, error),
    })
}

fn became_shorter(path: &Path) -> Error {
    Error::new(ErrorKind::Replaced, "the transcript is shorter than what was read of it")
        .at_path(path)
        .advise("read it again from its beginning")
}
