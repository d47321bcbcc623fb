//! What the first bytes of a database and of its log tell, before SQLite looks at anything else.
//!
//! SQLite has opened the file by then, and reads nothing beside it before the first statement; closed again, it has changed
//! nothing. So the header is read through SQLite's own descriptor, which is safe whoever of this process has the file open
//! (closing another descriptor of it would drop this process's locks).
//!
//! Two looks that are not one instant cannot be fooled by a live writer: what counts as too short is decided only where
//! the log holds nothing, and by a length that was learned after that.

use std::path::Path;

use rusqlite::Connection;

use super::damaged;
use crate::error::Result;
use crate::home::{self, with_ending};
use crate::sqlite::connect::SMALLEST_DATABASE;
use crate::sqlite::ffi;

/// The database header (<https://sqlite.org/fileformat.html>, section 1.3).
const LENGTH: usize = 100;

/// Refuses a file that SQLite must not be let near. The connection has run nothing yet.
///
/// # Errors
/// `Corrupt`, marked as damage.
pub(in crate::sqlite) fn check(connection: &Connection, path: &Path) -> Result<()> {
    let length = || std::fs::symlink_metadata(path).map_or(0, |found| found.len());
    let journal = std::fs::symlink_metadata(with_ending(path, "-journal"));
    if length() == 0 || journal.is_ok_and(|found| found.len() > 0) {
        // New; or being created by somebody who died, and to be rolled back.
        return Ok(());
    }
    if length() < SMALLEST_DATABASE {
        return Err(not_a_database());
    }
    let bytes: [u8; LENGTH] = ffi::read_header(connection, 0)?;
    let header = Header::parse(&bytes).ok_or_else(not_a_database)?;
    let log_is_empty = || {
        let log = std::fs::symlink_metadata(with_ending(path, "-wal"));
        log.map_or(0, |found| found.len()) <= home::LOG_HEADER as u64
    };
    if header.length.is_some_and(|needed| log_is_empty() && length() < needed) {
        return Err(damaged("the database file is shorter than its header says"));
    }
    check_log(path)
}

/// SQLite takes a log whose header makes no sense for an empty one, and overwrites what is in it.
fn check_log(path: &Path) -> Result<()> {
    // While somebody begins the log anew a look may show half of a header.
    for _ in 0..LOOKS {
        match home::read_log_header(&with_ending(path, "-wal")) {
            Ok(Some(bytes)) if !crate::salvage::is_log_header(&bytes) => crate::sqlite::connect::pause(),
            _ => return Ok(()),
        }
    }
    Err(damaged("the header of its write-ahead log is not what SQLite wrote"))
}

const LOOKS: u32 = 5;

/// The error for a file that SQLite never wrote.
pub(in crate::sqlite) fn not_a_database() -> crate::Error {
    damaged("the file is not an SQLite database")
        .advise("move it away, or restore it from a backup; nothing in it was changed")
}

/// True while what is at the beginning of an open file can begin a database.
pub(in crate::sqlite) fn is_there(connection: &Connection) -> bool {
    ffi::read_header(connection, 0).is_ok_and(|bytes| Header::parse(&bytes).is_some())
}

struct Header {
    /// How long the file must be; `None` where an old program's number may stand.
    length: Option<u64>,
}

impl Header {
    fn parse(bytes: &[u8; LENGTH]) -> Option<Self> {
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let page_size = match u32::from(bytes[16]) << 8 | u32::from(bytes[17]) {
            1 => 65_536,
            size => size,
        };
        let sensible = bytes.starts_with(b"SQLite format 3\0")
            && (512..=65_536).contains(&page_size)
            && page_size.is_power_of_two()
            // The three fractions can have no other values.
            && bytes[21..24] == [64, 32, 32];
        let told = word(28) > 0 && word(24) == word(92);
        sensible.then(|| Self { length: told.then(|| u64::from(word(28)) * u64::from(page_size)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..16].copy_from_slice(b"SQLite format 3\0");
        bytes[16..18].copy_from_slice(&4096_u16.to_be_bytes());
        bytes[21..24].copy_from_slice(&[64, 32, 32]);
        bytes[28..32].copy_from_slice(&7_u32.to_be_bytes());
        bytes
    }

    #[test]
    fn each_field_that_can_only_have_some_values_is_looked_at() {
        assert_eq!(Header::parse(&header()).expect("good").length, Some(7 * 4096));
        for at in [0, 15, 16, 17, 21, 22, 23] {
            let mut bytes = header();
            bytes[at] ^= 0x55;
            assert!(Header::parse(&bytes).is_none(), "byte {at}");
        }
    }

    #[test]
    fn an_old_programs_page_count_is_not_believed() {
        let mut bytes = header();
        bytes[27] = 1;
        assert_eq!(Header::parse(&bytes).expect("good").length, None);
    }

    #[test]
    fn the_largest_page_is_written_as_one() {
        let mut bytes = header();
        bytes[16..18].copy_from_slice(&[0, 1]);
        assert_eq!(Header::parse(&bytes).expect("good").length, Some(7 * 65_536));
    }
}
