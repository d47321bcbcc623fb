//! The damaged file and its log as one array of pages: how large a page is, how many there are, and reading one.
//!
//! Invariants: nothing is written. The header is a witness, not an authority: the page size that it names must make
//! sense of the pages. A page that cannot be read is a lost page, not an error.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::page::{Page, be16, be32};
use super::wal::{Wal, WalReport};
use crate::error::{Error, Result};

/// How many pages are looked at to judge a page size.
const SAMPLES: u64 = 128;

/// The fields of the first page's first hundred bytes that matter here (`#the_database_header`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    /// Pages of the database; `None` when it is an old program's guess.
    pub(super) pages: Option<u32>,
    /// The first trunk page of the free list, and how many free pages there are.
    pub(super) free_list: (u32, u32),
    /// There are pointer-map pages.
    pub(super) auto_vacuum: bool,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at| be32(bytes, at);
        // The three fractions can have no other values.
        if bytes.get(21..24)? != [64, 32, 32] || !bytes.starts_with(b"SQLite format 3\0") {
            return None;
        }
        Some(Self {
            pages: Some(word(28)?).filter(|pages| *pages > 0 && word(24) == word(92)),
            free_list: (word(32)?, word(36)?),
            auto_vacuum: word(52)? != 0,
        })
    }
}

/// A damaged file to read from.
pub(super) struct Source {
    main: File,
    wal: Option<Wal>,
    page_size: usize,
    /// A page without the bytes that are reserved at its end.
    pub(super) usable: usize,
    /// Pages that can be there.
    pub(super) pages: u32,
    /// `None`: damaged.
    pub(super) header: Option<Header>,
}

impl Source {
    /// Opens the two files read-only.
    ///
    /// # Errors
    /// `NotFound` or `Io` when one of them cannot be opened or its length not be learned.
    #[expect(clippy::disallowed_methods, reason = "nobody has these files open with SQLite: see `salvage`")]
    pub(super) fn open(main: &Path, wal: Option<&Path>) -> Result<(Self, Option<WalReport>)> {
        let file = File::open(main).map_err(|error| Error::io("open", main, error))?;
        let length = file.metadata().map_err(|error| Error::io("measure", main, error))?.len();
        let (wal, report) = match wal {
            None => (None, None),
            Some(path) => {
                let read = File::open(path).and_then(Wal::read);
                let (wal, report) = read.map_err(|error| Error::io("read", path, error))?;
                (wal, Some(report))
            }
        };
        let mut source = Self { main: file, wal, page_size: 4096, usable: 4096, pages: 0, header: None };
        source.measure(length);
        Ok((source, report))
    }

    /// Finds the page size and the number of pages.
    fn measure(&mut self, length: u64) {
        let mut first = [0; 100];
        // A file that is shorter has no header; its log may, and that one counts.
        let in_log = self.wal.as_ref().and_then(|wal| wal.page(1, &mut first));
        if in_log.is_none_or(|read| read.is_err()) {
            let _ = self.main.read_exact_at(&mut first, 0);
        }
        let named = match be16(&first, 16) {
            Some(1) => 65_536,
            Some(size) => size,
            None => 0,
        };
        let sizes = [4096, 8192, 1024, 16_384, 2048, 32_768, 65_536, 512];
        let reserved = usize::from(first[20]);
        let mut trials: Vec<(usize, usize)> = Vec::new();
        // Bytes that are reserved on every page would be cut off rows: a header that makes no sense is the last to say so.
        let by_trust = if Header::parse(&first).is_some() { [reserved, 0] } else { [0, reserved] };
        if let Some(wal) = &self.wal {
            trials.extend(by_trust.map(|reserved| (wal.page_size, reserved)));
        } else {
            trials.extend(
                by_trust.map(|reserved| (named, reserved)).iter().filter(|trial| sizes.contains(&trial.0)),
            );
            trials.extend(sizes.map(|size| (size, 0)));
        }
        // The first that makes sense; the header's own word comes first, and stands where nothing does.
        let mut best = (trials[0], 0);
        for trial in trials {
            let (size, reserved) = trial;
            if size - reserved < 480 {
                continue;
            }
            let score = self.score(length, size, size - reserved);
            if score > best.1 {
                best = (trial, score);
            }
            // Most pages of a file are of b-trees; with many large values there are fewer.
            if score > 500 {
                break;
            }
        }
        let (size, reserved) = best.0;
        (self.page_size, self.usable) = (size, (size - reserved).max(480));
        let in_file = u32::try_from(length / size as u64).unwrap_or(u32::MAX - 1);
        self.pages = match &self.wal {
            // No more than can be there: a page is in the one file or in the other.
            Some(wal) => wal.pages.min(in_file.max(wal.highest())),
            None => in_file,
        };
        let mut page = vec![0; self.page_size];
        let header = self.read(1, &mut page).then(|| Header::parse(&page)).flatten();
        self.header = header.map(|header| Header {
            pages: self.wal.as_ref().map_or(header.pages, |wal| Some(wal.pages)),
            ..header
        });
    }

    /// How many of a thousand looked-at pages are sound pages of a b-tree, if they are so large.
    fn score(&self, length: u64, size: usize, usable: usize) -> u64 {
        let pages = length / size as u64;
        let step = (pages / SAMPLES).max(1);
        let mut bytes = vec![0; size];
        let (mut sound, mut looked) = (0, 0);
        for page in (0..pages).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            looked += 1;
            if self.main.read_exact_at(&mut bytes, page * size as u64).is_ok() {
                let page = Page::parse(&bytes[..usable], page == 0);
                sound += u64::from(page.is_some_and(|page| page.sound && !page.cells.is_empty()));
            }
        }
        sound * 1000 / looked.max(1)
    }

    pub(super) fn page_size(&self) -> u64 {
        self.page_size as u64
    }

    /// A buffer that fits a page.
    pub(super) fn buffer(&self) -> Vec<u8> {
        vec![0; self.page_size]
    }

    /// Reads a page, its reserved bytes included; false when it is not there or the disk does not give it.
    pub(super) fn read(&self, number: u32, bytes: &mut [u8]) -> bool {
        if number == 0 || number > self.pages {
            return false;
        }
        match self.wal.as_ref().and_then(|wal| wal.page(number, bytes)) {
            Some(read) => read.is_ok(),
            None => self.main.read_exact_at(bytes, u64::from(number - 1) * self.page_size as u64).is_ok(),
        }
    }

    /// The page that SQLite leaves out for its locks.
    pub(super) fn lock_page(&self) -> u32 {
        (0x4000_0000 / self.page_size + 1) as u32
    }
}
