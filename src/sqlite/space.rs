//! How many bytes the files of a database may take: [`Domain::max_bytes`](crate::Domain::max_bytes).
//!
//! What is left after the write-ahead log's cap and its index is the main file's, and SQLite itself keeps that bound
//! (<https://sqlite.org/pragma.html#pragma_max_page_count>): a job that needs a page more gets `SQLITE_FULL`, as on a full
//! disk, and is rolled back. Nothing is measured per commit.
//!
//! Invariants:
//! 1. A job that meets the bound is told so, not that the disk is full, and nobody waits for room on the disk.
//! 2. Free pages in the file are room. A best-effort database whose room is less than a 64th of the bound takes only work
//!    that may make room ([`admission`](super::admission)), until there is more again; who made it does not matter.
//! 3. A file that was larger before does not grow, and what is given back to the disk is not taken again.
//!
//! Tests: `tests/bounds_are_kept.rs`, and below.

use rusqlite::Connection;
use rusqlite::ffi as code;

#[cfg(feature = "agent")]
use super::Database;
use super::admission::Bound;
use super::checkpoint::PAGE;
use super::connect::Spec;
use super::core::Core;
use super::ffi;
use super::log_cap::{FRAME, size};
use super::shared::Shared;
#[cfg(feature = "agent")]
use super::tx::Tx;
use crate::error::{Error, ErrorKind, Result};
use crate::home;

/// A database is never bound to less.
const LEAST_BYTES: u64 = 1 << 20;
/// The part of the bound that is free before work is let in again.
const ROOM: u64 = 64;
/// While the disk has this much, which is more than a job mostly needs, it was not the disk that was full.
const DISK_HAS_ROOM: u64 = 32 << 20;

/// The most pages that the main file may have.
pub(super) fn most_pages(spec: &Spec) -> Option<u64> {
    let bytes = spec.domain.max_bytes?.max(LEAST_BYTES);
    let cap = spec.log_lengths().cap_bytes;
    Some(bytes.saturating_sub(cap + index_bytes(cap / FRAME)) / PAGE)
}

#[cfg(feature = "agent")]
impl Tx {
    /// What the main file holds, its free pages not counted.
    ///
    /// # Errors
    /// Of SQLite.
    pub(crate) fn used_bytes(&self) -> Result<u64> {
        let number = |sql| self.row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
        Ok(number("PRAGMA page_count")?.saturating_sub(number("PRAGMA freelist_count")?) * PAGE)
    }
}

#[cfg(feature = "agent")]
impl Database {
    /// The most bytes that the main file may have, if there is a bound.
    pub(crate) fn most_bytes(&self) -> Option<u64> {
        most_pages(self.spec()).map(|pages| pages * PAGE)
    }

    /// True when this refusal says that there is no room: deleting rows helps, unlike where too much was written.
    pub(crate) fn lacks_room(&self, error: &Error) -> bool {
        error.kind() == ErrorKind::Full
            && (error.sqlite_code() == Some(code::SQLITE_FULL)
                || self.shared().admission.refuses(Bound::Space))
    }
}

/// What the index of a log of so many pages takes (<https://sqlite.org/walformat.html>, section 2.1).
fn index_bytes(log: u64) -> u64 {
    (log / 4096 + 1) * 32768
}

/// Has SQLite keep the bound on a write connection. Answers the pages that it allows from now on: more than the bound when
/// the file is larger already.
pub(super) fn limit(connection: &Connection, spec: &Spec) -> Result<Option<u64>> {
    let Some(most) = most_pages(spec) else { return Ok(None) };
    let sql = format!("PRAGMA max_page_count={most}");
    let allowed: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
    Ok(Some(allowed.unsigned_abs()))
}

/// After a failed job: true when the bound refused it, not the disk.
pub(super) fn met(core: &mut Core, shared: &Shared, error: &rusqlite::Error) -> bool {
    let full = error.sqlite_error().is_some_and(|error| error.extended_code == code::SQLITE_FULL);
    // Before the COMMIT the disk is only written when the page cache is full.
    let bound = full
        && most_pages(&shared.spec).is_some()
        && (ffi::spills(core.tx.connection()) == 0
            || (ffi::full_quota(core.tx.connection()).is_none() && disk_has_room(&shared.spec)));
    core.met_space |= bound;
    bound
}

/// Looks how much room there is, outside of a transaction, and lets work in or not.
pub(super) fn look(core: &mut Core, shared: &Shared) {
    core.met_space = false;
    // What keeps it from looking is met by the next write.
    let Ok(Some(room)) = room(core.tx.connection(), &shared.spec) else { return };
    if room.free >= room.most / ROOM {
        shared.open_again(Bound::Space);
    } else {
        shared.shut(Bound::Space, over(&shared.spec));
    }
}

struct Room {
    most: u64,
    free: u64,
}

fn room(connection: &Connection, spec: &Spec) -> Result<Option<Room>> {
    // A file that was too large may have become smaller.
    if limit(connection, spec)?.is_none() {
        return Ok(None);
    }
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (pages, free) = (number("page_count")?.unsigned_abs(), number("freelist_count")?.unsigned_abs());
    let most = most_pages(spec).unwrap_or(u64::MAX);
    Ok(Some(Room { most, free: most.saturating_sub(pages) + free }))
}

fn over(spec: &Spec) -> Error {
    let bytes = size(spec.domain.max_bytes.unwrap_or_default().max(LEAST_BYTES));
    Error::new(ErrorKind::Full, format!("the database has no room left in the {bytes} that it may take"))
        .advise("delete rows (what is free inside the file is used again), or raise Domain::max_bytes")
}

/// What a job is told whose transaction the bound ended.
pub(super) fn refusal(core: &Core, spec: &Spec) -> Option<Error> {
    let last = ffi::last_error(core.tx.connection()).filter(|_| core.met_space)?;
    let full = last.sqlite_error().is_some_and(|error| error.extended_code == code::SQLITE_FULL);
    full.then(|| {
        let over = over(spec);
        let message = format!("{}; nothing was done", over.message());
        let error = Error::from(last).worded(message).advise(over.advice().unwrap_or_default().to_owned());
        // Named here: what is free on the disk has nothing to do with it.
        error.in_database(spec.domain.name(), &spec.path)
    })
}

fn disk_has_room(spec: &Spec) -> bool {
    let folder = spec.path.parent().filter(|_| spec.memory.is_none());
    folder.is_none_or(|folder| home::refuse_too_full(DISK_HAS_ROOM, folder, "a write").is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::domain::Domain;
    use crate::presence::Presence;

    #[test]
    fn the_files_together_keep_the_bound() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = home::Home::at(folder.path()).prepare().expect("a home");
        for most in [0, 1 << 20, 8 << 20, 256 << 20, 10 << 30] {
            let domain = Domain::new("a").max_bytes(most);
            let program = ("test".to_owned(), "1".to_owned());
            let spec = Spec::new(&domain, &home, program, &Limits::default(), None, &Presence::default());
            let cap = spec.log_lengths().cap_bytes;
            let main = most_pages(&spec).expect("a bound") * PAGE;
            assert!(main + cap + index_bytes(cap / FRAME) <= most.max(LEAST_BYTES), "{most}");
            assert!(main >= most / 2, "{most}: {main}");
        }
        // 64 MiB of log need an index for 16,289 pages.
        assert_eq!(index_bytes((64 << 20) / FRAME), 4 * 32768);
    }
}
