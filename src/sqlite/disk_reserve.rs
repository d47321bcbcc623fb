//! What is left on the disk in the end is kept for required databases: [`Limits::disk_reserve`].
//!
//! Logs fill a disk, and then it is full for everybody at the same moment. So a best-effort database takes no more work when
//! less than the reserve is free, and required ones can go on in what is left, until somebody has made room.
//!
//! Invariants:
//! 1. A best-effort database looks at the free space when it has written a 32nd of the reserve, and once a second: so
//!    several processes together leave most of it. One transaction that is larger than that
//!    is not held up. A look is one statvfs(3), and a commit without one costs a subtraction.
//! 2. Work is taken again when a quarter more than the reserve is free, without anybody's doing.
//! 3. A required database looks at nothing. Its refusal of a disk that is really full says how much is free there.
//!
//! Tests: `tests/c8_disk_full.rs`, and below.

use std::path::Path;
use std::time::Duration;

use rusqlite::ffi as code;

use super::admission::Bound;
use super::checkpoint::PAGE;
use super::core::Core;
use super::shared::Shared;
use crate::error::{Error, ErrorKind};
use crate::home::{self, Room};

/// The part of the reserve by which the log grows between two looks.
const PIECE: u64 = 32;
/// The reserve is at most this part of the file system.
const PART: u64 = 8;

/// What was written since the free space was last looked at, in pages.
#[derive(Default)]
pub(super) struct Looked {
    written: u64,
    /// How long the log was after the last commit.
    log: u64,
}

impl Looked {
    /// The log is this long now. True when it is time to look.
    fn is_due(&mut self, log: u64, reserve: u64) -> bool {
        // A shorter one began anew.
        self.written += log.checked_sub(self.log).unwrap_or(log);
        self.log = log;
        let due = self.written.saturating_mul(PAGE * PIECE) >= reserve;
        if due {
            self.written = 0;
        }
        due
    }
}

/// After a commit.
pub(super) fn committed(core: &mut Core, shared: &Shared) {
    if !shared.best_effort {
        return;
    }
    let reserve = shared.spec.limits.disk_reserve;
    if reserve > 0 && core.free_space.is_due(core.gauge.pages(), reserve) {
        look(shared);
    }
}

/// Looks at the free space, and lets work in or not.
pub(super) fn look(shared: &Shared) {
    let limit = shared.spec.limits.disk_reserve;
    if !shared.best_effort || limit == 0 || shared.spec.memory.is_some() {
        return;
    }
    // What cannot be looked at now is not in anybody's way.
    let Some(room) = shared.spec.path.parent().and_then(|folder| home::room(folder).ok()) else { return };
    let reserve = reserve(limit, room);
    if room.free < reserve {
        if !shared.admission.is_reached(Bound::DiskReserve) {
            shared.shut(Bound::DiskReserve, shut(room, reserve));
        }
    } else if room.free >= enough(reserve) {
        shared.open_again(Bound::DiskReserve);
    }
}

fn reserve(limit: u64, room: Room) -> u64 {
    limit.min(room.total / PART)
}

/// From here on work is taken again.
fn enough(reserve: u64) -> u64 {
    reserve.saturating_add(reserve / 4)
}

fn shut(room: Room, reserve: u64) -> Error {
    let (free, enough) = (room.free, enough(reserve));
    Error::new(
        ErrorKind::Full,
        format!(
            "{free} bytes are free on the disk, of which {reserve} are kept for databases that matter more; \
             it is taken again from {enough} on"
        ),
    )
    .advise("free some space on that disk")
    .retry_in(Duration::from_secs(1))
}

/// The same error, saying how much is free where it met a full disk, and how long a file may become where that is limited.
pub(super) fn count(error: Error, database: &Path) -> Error {
    let full = matches!(error.sqlite_code(), Some(code::SQLITE_FULL | code::SQLITE_IOERR_SHMSIZE));
    // Whoever names its database has been here before.
    if !full || error.database().is_some() {
        return error;
    }
    match database.parent().map(home::room) {
        Some(Ok(room)) => {
            let longest = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
            let longest = longest.map_or_else(String::new, |bytes| {
                format!(", and a file may only become {bytes} bytes long: ulimit -f")
            });
            let message = format!("{} ({} bytes are free there{longest})", error.message(), room.free);
            error.worded(message)
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_is_not_all_reserve() {
        let room = |total| Room { free: 0, total };
        assert_eq!(reserve(64 << 20, room(1 << 40)), 64 << 20);
        assert_eq!(reserve(64 << 20, room(80 << 20)), 10 << 20);
        assert_eq!(enough(u64::MAX), u64::MAX);
    }

    #[test]
    fn what_is_written_adds_up_over_logs_that_begin_anew() {
        let mut looked = Looked::default();
        let reserve = 100 * PAGE * PIECE;
        let lengths = [50, 90, 5, 10, 11, 110, 111];
        let due: Vec<_> = lengths.into_iter().filter(|log| looked.is_due(*log, reserve)).collect();
        assert_eq!(due, [10, 110], "90 + 10, then 1 + 99");
        assert!(Looked::default().is_due(1, 1), "a small reserve is looked after at each commit");
    }

    #[test]
    fn a_full_disk_is_told_with_the_free_space_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sqlite");
        let of = |number| Error::from(rusqlite::Error::SqliteFailure(code::Error::new(number), None));
        let told = count(of(code::SQLITE_FULL), &path).in_database("a", &path);
        assert!(told.message().ends_with("bytes are free there)"), "{told}");
        assert_eq!(count(told.clone(), &path).message(), told.message());
        assert!(!count(of(code::SQLITE_BUSY), &path).message().contains("free"));
    }
}
