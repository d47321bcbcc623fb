//! Compressed transcripts: zstd, the end in a frame of its own.
//!
//! Decompressed it is the transcript, byte for byte. The last frame holds the last whole lines, at most 64 KiB, so that
//! what a list shows can be read from both ends, as of a plain one. It is found from the file's end: where a frame begins
//! that ends with the file. What other programs compressed has mostly one frame; such a file is read to its end.
//! Source of the format: RFC 8878.
//!
//! Tests: below; `tests/rollout_archive.rs`.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::Path;

use zstd::stream::read::Decoder;
use zstd::zstd_safe;

use super::disk;
use super::windows::{self, WIDEST, WINDOW, Windows};
use crate::error::{Error, ErrorKind, Result};

/// How a frame begins (RFC 8878, section 3.1.1).
const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// What a frame of `WINDOW` bytes that do not compress has on top: headers of the frame and its blocks, and the checksum.
const FRAME_HEADERS: u64 = 1 << 10;

/// The plain text of a compressed transcript.
pub(super) struct Plain(Decoder<'static, BufReader<File>>);

impl Plain {
    pub(super) fn of(file: File, path: &Path) -> Result<Self> {
        Decoder::new(file).map(Self).map_err(|error| explain(error, path))
    }
}

impl Read for Plain {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.0.read(to)
    }
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Plain")
    }
}

/// Errors that the system did not name are the decoder's.
pub(super) fn explain(error: io::Error, path: &Path) -> Error {
    if error.raw_os_error().is_some() {
        return Error::io("read the transcript", path, error);
    }
    Error::new(ErrorKind::Corrupt, "the compressed transcript is damaged")
        .at_path(path)
        .advise("put it back from a backup; `zstd -dc` shows what comes before the damage")
        .caused_by(error)
}

/// The first line with its newline. `None` when it is longer than 4 MiB.
pub(super) fn first_line(file: File, path: &Path) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut plain = Plain::of(file, path)?.take(WIDEST);
    let mut block = [0; 4 << 10];
    loop {
        let read = plain.read(&mut block).map_err(|error| explain(error, path))?;
        line.extend_from_slice(&block[..read]);
        if let Some(at) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(at + 1);
            return Ok(Some(line));
        }
        if read == 0 {
            return Ok((plain.limit() > 0).then_some(line));
        }
    }
}

/// An unnamed plain copy, which goes when it is closed.
pub(super) fn plain_copy(file: File, path: &Path) -> Result<File> {
    let mut plain = Plain::of(file, path)?;
    let failed = |error| Error::io("write a plain copy of the transcript", &std::env::temp_dir(), error);
    let mut copy = tempfile::tempfile().map_err(failed)?;
    let mut block = vec![0; 64 << 10];
    loop {
        match plain.read(&mut block).map_err(|error| explain(error, path))? {
            0 => return Ok(copy),
            read => copy.write_all(&block[..read]).map_err(failed)?,
        }
    }
}

/// Both ends, as [`windows::read`] answers them. `None` when the first line is longer than 4 MiB.
pub(super) fn windows(file: &File, path: &Path) -> Result<Option<Windows>> {
    both_ends(file).map_err(|error| explain(error, path))
}

fn both_ends(file: &File) -> io::Result<Option<Windows>> {
    let size = file.metadata()?.len();
    let mut bytes_read = 0;
    if let Some((begin, tail)) = last_frame(file, size, &mut bytes_read)? {
        if begin == 0 {
            return Ok(Some(Windows { head: tail, tail: None, bytes_read }));
        }
        let mut from_start = file.try_clone()?;
        from_start.rewind()?;
        let mut first = Decoder::new(from_start)?.single_frame();
        let mut head = Vec::new();
        let ended = read_head(&mut first, &mut head)?;
        let mut buffered = first.finish();
        // What the decoder did not take is still in its buffer.
        let read = buffered.stream_position()?;
        bytes_read += read;
        match ended {
            Head::TooLong => return Ok(None),
            Head::More => {
                cut_to_lines(&mut head);
                return Ok(Some(Windows { head, tail: Some(from_a_line(tail)), bytes_read }));
            }
            Head::Ended if read == begin => {
                head.extend(tail);
                return Ok(Some(Windows { head, tail: None, bytes_read }));
            }
            // Frames between the two.
            Head::Ended => {}
        }
    }
    whole(file, bytes_read + size)
}

/// Reads to the end, and keeps both of them.
fn whole(file: &File, bytes_read: u64) -> io::Result<Option<Windows>> {
    let mut from_start = file.try_clone()?;
    from_start.rewind()?;
    let mut plain = Decoder::new(from_start)?;
    let mut head = Vec::new();
    match read_head(&mut plain, &mut head)? {
        Head::TooLong => return Ok(None),
        Head::Ended => return Ok(Some(Windows { head, tail: None, bytes_read })),
        Head::More => {}
    }
    let keep = head.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    // What follows the head's last whole line: all of it, while it fits.
    let mut tail = head.split_off(keep);
    let mut from_head = true;
    let mut block = vec![0; WINDOW as usize];
    loop {
        let read = plain.read(&mut block)?;
        if read == 0 {
            break;
        }
        tail.extend_from_slice(&block[..read]);
        if tail.len() as u64 > 4 * WINDOW {
            tail.drain(..tail.len() - WINDOW as usize);
            from_head = false;
        }
    }
    if from_head {
        head.append(&mut tail);
        return Ok(Some(Windows { head, tail: None, bytes_read }));
    }
    let first = tail.iter().position(|byte| *byte == b'\n');
    tail.drain(..first.map_or(tail.len(), |at| at + 1));
    Ok(Some(Windows { head, tail: Some(tail), bytes_read }))
}

enum Head {
    /// There is nothing more.
    Ended,
    /// There is more.
    More,
    /// Not even the first line ends within 4 MiB.
    TooLong,
}

/// Reads 64 KiB, and where the first line is longer than that, up to its end and 64 KiB more.
fn read_head(from: &mut impl Read, head: &mut Vec<u8>) -> io::Result<Head> {
    let mut wanted = WINDOW;
    loop {
        let missing = wanted - head.len() as u64;
        if (from.by_ref().take(missing).read_to_end(head)? as u64) < missing {
            return Ok(Head::Ended);
        }
        if head.contains(&b'\n') {
            break;
        }
        if wanted >= WIDEST {
            return Ok(Head::TooLong);
        }
        wanted = (wanted * 2).min(WIDEST);
    }
    if wanted > WINDOW && (from.by_ref().take(WINDOW).read_to_end(head)? as u64) < WINDOW {
        return Ok(Head::Ended);
    }
    Ok(Head::More)
}

fn cut_to_lines(text: &mut Vec<u8>) {
    text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
}

/// Without the rest of a line that begins in another frame.
fn from_a_line(mut text: Vec<u8>) -> Vec<u8> {
    let first = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1);
    if super::line::Parts::of(&text[..first.saturating_sub(1)]).is_none() {
        text.drain(..first);
    }
    text
}

/// Where the last frame begins, and its text, when it is a small one.
fn last_frame(file: &File, size: u64, bytes_read: &mut u64) -> io::Result<Option<(u64, Vec<u8>)>> {
    let from = size.saturating_sub(WINDOW + FRAME_HEADERS);
    let mut end = Vec::new();
    windows::append(file, &mut end, from, size, bytes_read)?;
    let found = end.windows(MAGIC.len()).enumerate().rev().filter(|(_, word)| *word == MAGIC);
    for (at, _) in found {
        let frame = &end[at..];
        if zstd_safe::find_frame_compressed_size(frame) != Ok(frame.len()) {
            continue;
        }
        if let Ok(text) = zstd::bulk::decompress(frame, WINDOW as usize) {
            return Ok(Some((from + at as u64, text)));
        }
    }
    Ok(None)
}

/// Writes the compressed form of a transcript of whole lines into an empty file.
///
/// # Errors
/// Of the system.
pub(super) fn compress(plain: &File, to: &File, to_path: &Path) -> io::Result<()> {
    let length = plain.metadata()?.len();
    let tail = tail_begin(plain, length)?;
    let mut out = Out { file: to, path: to_path, at: 0 };
    for (from, until) in [(0, tail), (tail, length)] {
        if from == until {
            continue;
        }
        let mut frame = zstd::Encoder::new(&mut out, zstd::DEFAULT_COMPRESSION_LEVEL)?;
        frame.include_checksum(true)?;
        frame.include_contentsize(true)?;
        frame.set_pledged_src_size(Some(until - from))?;
        let mut block = Vec::new();
        let mut at = from;
        while at < until {
            block.clear();
            windows::append(plain, &mut block, at, until.min(at + (256 << 10)), &mut 0)?;
            if block.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            frame.write_all(&block)?;
            at += block.len() as u64;
        }
        frame.finish()?;
    }
    Ok(())
}

/// Where the lines begin that are in the last 64 KiB.
fn tail_begin(plain: &File, length: u64) -> io::Result<u64> {
    let from = length.saturating_sub(WINDOW);
    if from == 0 {
        return Ok(0);
    }
    let mut end = Vec::new();
    windows::append(plain, &mut end, from, length, &mut 0)?;
    Ok(end.iter().position(|byte| *byte == b'\n').map_or(length, |at| from + at as u64 + 1))
}

/// Writes the plain form of a compressed transcript into an empty file; tells its length.
///
/// # Errors
/// `Corrupt`; of the system.
pub(super) fn decompress(file: File, path: &Path, to: &File, to_path: &Path) -> Result<u64> {
    let mut plain = Plain::of(file, path)?;
    let mut block = vec![0; 256 << 10];
    let mut at = 0;
    loop {
        let read = plain.read(&mut block).map_err(|error| explain(error, path))?;
        if read == 0 {
            return Ok(at);
        }
        disk::write_at(to, to_path, &block[..read], at)
            .map_err(|error| Error::io("write the transcript", to_path, error))?;
        at += read as u64;
    }
}

/// How many bytes a compressed transcript holds, when the plain one begins with exactly these.
///
/// # Errors
/// Of the system, or of the decoder.
pub(super) fn length_in(compressed: &File, plain: &File) -> io::Result<Option<u64>> {
    let mut from_start = compressed.try_clone()?;
    from_start.rewind()?;
    let mut one = Decoder::new(from_start)?;
    let mut block = vec![0; 256 << 10];
    let mut other = Vec::new();
    let mut at = 0;
    loop {
        let read = one.read(&mut block)?;
        if read == 0 {
            return Ok(Some(at));
        }
        other.clear();
        windows::append(plain, &mut other, at, at + read as u64, &mut 0)?;
        if other != block[..read] {
            return Ok(None);
        }
        at += read as u64;
    }
}

struct Out<'a> {
    file: &'a File,
    path: &'a Path,
    at: u64,
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        disk::write_at(self.file, self.path, bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
