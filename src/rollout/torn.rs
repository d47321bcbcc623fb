//! The unfinished line at the end of a transcript whose writer died, or whose disk was full.
//!
//! Invariants:
//! 1. What is cut off was kept beside the transcript first, durably: in `<name>.torn`, up to 1 MiB in all.
//! 2. A line that lacks nothing but its newline is no torn line: it gets one.
//!
//! Tests: `tests/rollout_recorder.rs` (torn at every byte), `tests/rollout_crashes.rs`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::disk;
use super::item::LONGEST_LINE;
use super::records::Line;
use super::windows;
use crate::error::{Error, Result};
use crate::home::with_ending;

/// Bytes that are kept of the torn lines of one transcript.
const MOST_KEPT: u64 = 1 << 20;
const BLOCK: u64 = 64 << 10;

/// What was found behind the last whole line of a transcript when it was resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Where it began.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
    /// It was a whole line that lacked its newline, and has it now. Nothing was cut off.
    pub completed: bool,
    /// Where it was kept.
    pub kept_in: Option<PathBuf>,
    /// How much of it was kept: the beginning, as far as there was room in the 1 MiB that a transcript's torn lines get.
    pub kept_bytes: u64,
}

/// Where the last line ends that has its newline.
pub(super) fn whole_lines(file: &File, length: u64) -> io::Result<u64> {
    let mut block = Vec::new();
    let mut end = length;
    while end > 0 {
        let from = end.saturating_sub(BLOCK);
        block.clear();
        windows::append(file, &mut block, from, end, &mut 0)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

/// Has the file end with a whole line; tells its length, and what was behind it.
///
/// # Errors
/// Of the system; the torn line is then still there.
pub(super) fn mend(file: &File, path: &Path) -> Result<(u64, Option<TornTail>)> {
    let failed = |error| Error::io("mend the end of the transcript", path, error);
    let length = file.metadata().map_err(failed)?.len();
    let offset = whole_lines(file, length).map_err(failed)?;
    let bytes = length - offset;
    if bytes == 0 {
        return Ok((length, None));
    }
    let mut torn = TornTail { offset, bytes, completed: false, kept_in: None, kept_bytes: 0 };
    let mut text = Vec::new();
    let readable = bytes.min(LONGEST_LINE as u64);
    windows::append(file, &mut text, offset, offset + readable, &mut 0).map_err(failed)?;
    if readable == bytes && serde_json::from_slice::<Line<'_>>(&text).is_ok() {
        disk::write_at(file, path, b"\n", length).map_err(failed)?;
        torn.completed = true;
        return Ok((length + 1, Some(torn)));
    }
    let (kept_in, kept_bytes) = keep(&text, path)?;
    (torn.kept_in, torn.kept_bytes) = (Some(kept_in), kept_bytes);
    disk::cut(file, path, offset).map_err(failed)?;
    disk::sync(file, path).map_err(failed)?;
    Ok((offset, Some(torn)))
}

/// Puts a torn line behind those that were kept before.
fn keep(text: &[u8], path: &Path) -> Result<(PathBuf, u64)> {
    let kept = with_ending(path, ".torn");
    let failed = |error| Error::io("keep a torn line", &kept, error);
    let file = match disk::open_to_write(&kept) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk::create(&kept)?,
        Err(error) => return Err(failed(error)),
    };
    let end = file.metadata().map_err(failed)?.len();
    let room = MOST_KEPT.saturating_sub(end + 1);
    let part = &text[..text.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
    if !part.is_empty() {
        let mut line = part.to_vec();
        line.push(b'\n');
        disk::write_at(&file, &kept, &line, end).map_err(failed)?;
        disk::sync(&file, &kept).map_err(failed)?;
        disk::sync_folder(kept.parent().unwrap_or(&kept))?;
    }
    Ok((kept.clone(), part.len() as u64))
}
