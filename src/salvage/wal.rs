//! The write-ahead log beside a damaged file (<https://sqlite.org/fileformat.html#walformat>).
//!
//! Invariant: a page counts when its frame's salts and the running checksum hold, and so do those of all frames up to
//! and including a commit. What stands behind the first frame that fails, or behind the last commit, never counts.
//! Held by `tests/salvage_wal.rs`.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::page::be32;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// What was used of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct WalReport {
    /// Frames that belong to whole commits.
    pub frames_used: u64,
    /// Frames, whole or torn, that are left out: of another generation, damaged, or never committed.
    pub frames_left: u64,
    /// The log's own header holds. Without it nothing of the log is used.
    pub header_holds: bool,
}

/// The committed pages of a log.
pub(super) struct Wal {
    file: File,
    pub(super) page_size: usize,
    /// The size of the database after the last commit, in pages.
    pub(super) pages: u32,
    /// Page number to the place of its newest committed content.
    places: HashMap<u32, u64>,
}

impl Wal {
    /// Reads a log from its beginning to its last whole commit; `None` when there is none.
    ///
    /// # Errors
    /// Of reading its header or length.
    pub(super) fn read(file: File) -> std::io::Result<(Option<Self>, WalReport)> {
        let length = file.metadata()?.len();
        let mut report = WalReport::default();
        let mut header = [0; HEADER];
        if length < HEADER as u64 {
            return Ok((None, report));
        }
        file.read_exact_at(&mut header, 0)?;
        let word = |at| be32(&header, at).expect("the header has 32 bytes");
        let page_size = word(8) as usize;
        let frame_size = (FRAME_HEADER + page_size) as u64;
        let big_endian = word(0) & 1 == 1;
        let mut sum = (word(24), word(28));
        if !is_log_header(&header) {
            // The log does not say how long its frames are: those of the usual page size.
            report.frames_left = (length - HEADER as u64).div_ceil((FRAME_HEADER + 4096) as u64);
            return Ok((None, report));
        }
        report.header_holds = true;
        let salts = header[16..24].to_vec();
        let mut wal = Self { file, page_size, pages: 0, places: HashMap::new() };
        let mut since_commit = Vec::new();
        let mut frame = vec![0; FRAME_HEADER + page_size];
        let mut place = HEADER as u64;
        while place + frame_size <= length && wal.file.read_exact_at(&mut frame, place).is_ok() {
            sum = checksum(&frame[..8], sum, big_endian);
            sum = checksum(&frame[FRAME_HEADER..], sum, big_endian);
            let word = |at| be32(&frame, at).expect("a frame has a header");
            let (page, commit) = (word(0), word(4));
            if page == 0 || frame[8..16] != salts[..] || sum != (word(16), word(20)) {
                break;
            }
            since_commit.push((page, place + FRAME_HEADER as u64));
            if commit != 0 {
                report.frames_used += since_commit.len() as u64;
                wal.places.extend(since_commit.drain(..));
                wal.pages = commit;
            }
            place += frame_size;
        }
        report.frames_left = (length - HEADER as u64).div_ceil(frame_size) - report.frames_used;
        Ok(((wal.pages != 0).then_some(wal), report))
    }

    /// The highest page in it.
    pub(super) fn highest(&self) -> u32 {
        self.places.keys().copied().max().unwrap_or(0)
    }

    /// Fills `bytes` with a page, if the log has it.
    pub(super) fn page(&self, number: u32, bytes: &mut [u8]) -> Option<std::io::Result<()>> {
        let place = self.places.get(&number)?;
        Some(self.file.read_exact_at(bytes, *place))
    }
}

/// True when these bytes are the header of a log, whole.
pub(crate) fn is_log_header(header: &[u8; HEADER]) -> bool {
    let word = |at| be32(header, at).expect("the header has 32 bytes");
    let (magic, page_size) = (word(0), word(8));
    magic & !1 == 0x377F_0682
        && page_size.is_power_of_two()
        && (512..=65_536).contains(&page_size)
        && word(4) == 3_007_000
        && checksum(&header[..24], (0, 0), magic & 1 == 1) == (word(24), word(28))
}

/// `#walcksm`. `bytes` are a multiple of eight.
pub(crate) fn checksum(bytes: &[u8], (mut first, mut second): (u32, u32), big_endian: bool) -> (u32, u32) {
    let word = |bytes: &[u8]| {
        let bytes = bytes.try_into().expect("four bytes");
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    for pair in bytes.chunks_exact(8) {
        first = first.wrapping_add(word(&pair[..4])).wrapping_add(second);
        second = second.wrapping_add(word(&pair[4..])).wrapping_add(first);
    }
    (first, second)
}
