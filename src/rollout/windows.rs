//! The beginning and the end of a transcript, without what lies between.
//!
//! At most 64 KiB of each are read, a file of up to 128 KiB whole. Two things widen that, up to 4 MiB each: a first
//! line longer than a window, and an end without one whole line.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

/// Bytes read at either end.
pub(super) const WINDOW: u64 = 64 << 10;
/// Bytes up to which a window is widened.
pub(super) const WIDEST: u64 = 4 << 20;
/// Bytes in which mostly the first line ends.
const FIRST: u64 = 4 << 10;

/// Whole lines of either end, and possibly a torn one last.
pub(super) struct Windows {
    /// From the first byte on. The whole file when there is no tail.
    pub(super) head: Vec<u8>,
    /// The last lines, when something was left out before them.
    pub(super) tail: Option<Vec<u8>>,
    /// What reading cost.
    pub(super) bytes_read: u64,
}

/// Reads both ends of the first `size` bytes. `None` when the first line is longer than 4 MiB.
pub(super) fn read(file: &File, size: u64) -> io::Result<Option<Windows>> {
    let mut bytes_read = 0;
    let mut head = Vec::new();
    let mut wanted = if size <= 2 * WINDOW { size } else { WINDOW };
    append(file, &mut head, 0, wanted, &mut bytes_read)?;
    if size > 2 * WINDOW && !head.contains(&b'\n') {
        while !head.contains(&b'\n') && wanted < size {
            if wanted >= WIDEST {
                return Ok(None);
            }
            let from = wanted;
            wanted = (wanted * 2).min(WIDEST).min(size);
            append(file, &mut head, from, wanted, &mut bytes_read)?;
        }
        // The line that filled the window says little: read what follows it as well.
        let from = wanted;
        wanted = (wanted + WINDOW).min(size);
        append(file, &mut head, from, wanted, &mut bytes_read)?;
    }
    let reached = head.len() as u64;
    let mut width = WINDOW;
    loop {
        let start = size.saturating_sub(width);
        if start <= reached {
            append(file, &mut head, reached, size, &mut bytes_read)?;
            return Ok(Some(Windows { head, tail: None, bytes_read }));
        }
        let mut tail = Vec::new();
        append(file, &mut tail, start, size, &mut bytes_read)?;
        let ends = || tail.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
        let (first, second) = (ends().next(), ends().nth(1));
        if second.is_none() && width < WIDEST {
            width *= 4;
            continue;
        }
        let keep = head.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        head.truncate(keep);
        tail.drain(..first.map_or(tail.len(), |at| at + 1));
        return Ok(Some(Windows { head, tail: Some(tail), bytes_read }));
    }
}

/// The first line with its newline; the whole text where it has none. `None` when it is longer than 4 MiB.
pub(super) fn first_line(file: &File, size: u64) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut wanted = FIRST;
    loop {
        let from = line.len() as u64;
        append(file, &mut line, from, wanted.min(size), &mut 0)?;
        if let Some(at) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(at + 1);
            return Ok(Some(line));
        }
        if wanted >= size {
            return Ok(Some(line));
        }
        if wanted >= WIDEST {
            return Ok(None);
        }
        wanted *= 4;
    }
}

/// Appends the bytes `from..to`, or fewer when the file became shorter.
pub(super) fn append(
    file: &File,
    to: &mut Vec<u8>,
    from: u64,
    until: u64,
    bytes_read: &mut u64,
) -> io::Result<()> {
    let begin = to.len();
    to.resize(begin + until.saturating_sub(from) as usize, 0);
    let mut done = begin;
    while done < to.len() {
        match file.read_at(&mut to[done..], from + (done - begin) as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    to.truncate(done);
    *bytes_read += (done - begin) as u64;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn windows(text: &[u8]) -> Option<Windows> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(text).expect("its text");
        read(&file, text.len() as u64).expect("reading")
    }

    fn lines(count: usize, width: usize) -> Vec<u8> {
        (0..count).flat_map(|n| format!("{}{n:08}\n", "0".repeat(width - 8)).into_bytes()).collect()
    }

    #[test]
    fn a_small_file_is_read_whole() {
        for text in [lines(0, 8), lines(3, 10), b"torn".to_vec(), lines(128, 1023)] {
            let read = windows(&text).expect("windows");
            assert!(read.head == text && read.tail.is_none());
            assert_eq!(read.bytes_read, text.len() as u64);
        }
    }

    #[test]
    fn of_a_large_file_both_ends_are_read_in_whole_lines() {
        let text = lines(5_000, 100);
        let read = windows(&text).expect("windows");
        let tail = read.tail.expect("a tail");
        assert!(text.starts_with(&read.head) && text.ends_with(&tail));
        assert!(read.head.ends_with(b"\n") && tail.len().is_multiple_of(101));
        assert!(read.bytes_read <= 2 * WINDOW);
    }

    #[test]
    fn a_long_first_line_is_read_to_its_end_and_on() {
        for long in [100_000, 300_000, 4_000_000] {
            let mut text = lines(1, long);
            text.extend(lines(10, 100));
            text.extend(lines(2_000, 100));
            let read = windows(&text).expect("windows");
            let ends = read.head.split(|byte| *byte == b'\n').count();
            assert!(ends > 10, "{long}: {ends} lines");
            assert!(read.head.len() as u64 <= WIDEST + 2 * WINDOW + WINDOW);
        }
        assert!(windows(&lines(1, 5_000_000)).is_none());
    }

    #[test]
    fn an_end_without_a_whole_line_is_widened() {
        let mut text = lines(5_000, 100);
        text.extend(lines(1, 200_000));
        let read = windows(&text).expect("windows");
        assert!(read.tail.expect("a tail").len() > 200_000);
        let mut text = lines(5_000, 100);
        text.extend(vec![b'x'; 9_000_000]);
        let read = windows(&text).expect("windows");
        assert!(read.tail.is_some_and(|tail| tail.is_empty()));
    }
}
