//! The system's table of locks, `/proc/locks` (`proc_locks(5)`): read, never tried.
//!
//! It names every lock that SQLite has (fcntl) and every one of our lock files (flock), of all users, with the file's
//! device and inode. Btrfs and its kin tell `stat` another device than they write here. So a lock on the right inode of
//! another device is only a suspicion, to be confirmed by the process having the file open.

use std::fs::{self, Metadata};
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Device and inode of a file, as `stat` tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file of this name; a link is not followed. `None` when there is none.
    pub(super) fn of(path: &Path) -> Option<Self> {
        Some(Self::from(&fs::symlink_metadata(path).ok()?))
    }
}

impl From<&Metadata> for FileId {
    fn from(found: &Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino() }
    }
}

/// The two kinds of lock that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// fcntl(2), SQLite's.
    Posix,
    /// flock(2), our lock files'.
    Flock,
}

/// A lock that a process holds, or waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lock {
    kind: Kind,
    pub(super) exclusive: bool,
    pub(super) waits: bool,
    pub(super) pid: u32,
    /// Major and minor number, which are what the table has.
    device: (u32, u32),
    inode: u64,
    first: u64,
    last: u64,
}

impl Lock {
    /// The device fits too.
    pub(super) fn is_certainly_on(&self, file: FileId) -> bool {
        self.inode == file.inode && self.device == numbers(file.device)
    }
}

/// All locks of the system at one moment.
#[derive(Debug)]
pub(super) struct Locks(Vec<Lock>);

impl Locks {
    /// `None` where the system has no such table.
    pub(super) fn read() -> Option<Self> {
        fs::read_to_string("/proc/locks").ok().map(|table| Self::parse(&table))
    }

    fn parse(table: &str) -> Self {
        Self(table.lines().filter_map(parse).collect())
    }

    /// Those on some of the bytes of a file with this inode, whatever the device.
    pub(super) fn on(
        &self,
        kind: Kind,
        file: FileId,
        bytes: &RangeInclusive<u64>,
    ) -> impl Iterator<Item = &Lock> {
        self.0.iter().filter(move |lock| {
            lock.kind == kind
                && lock.inode == file.inode
                && lock.first <= *bytes.end()
                && lock.last >= *bytes.start()
        })
    }
}

/// Reads one line; `None` for other kinds of lock.
fn parse(line: &str) -> Option<Lock> {
    let mut words = line.split_ascii_whitespace().skip(1).peekable();
    let waits = words.next_if_eq(&"->").is_some();
    let kind = match words.next()? {
        "POSIX" => Kind::Posix,
        "FLOCK" => Kind::Flock,
        _ => return None,
    };
    let mut words = words.skip(1);
    let exclusive = match words.next()? {
        "WRITE" => true,
        "READ" => false,
        _ => return None,
    };
    // -1 where no process owns it, 0 for one of another namespace.
    let pid = words.next()?.parse().ok().filter(|pid| *pid > 0)?;
    let mut file = words.next()?.split(':');
    let mut number = || u32::from_str_radix(file.next()?, 16).ok();
    let device = (number()?, number()?);
    let inode = file.next()?.parse().ok()?;
    let first = words.next()?.parse().ok()?;
    let last = match words.next()? {
        "EOF" => u64::MAX,
        last => last.parse().ok()?,
    };
    Some(Lock { kind, exclusive, waits, pid, device, inode, first, last })
}

#[cfg(target_os = "linux")]
fn numbers(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

/// There is no table of locks, so nothing is compared.
#[cfg(not(target_os = "linux"))]
fn numbers(_device: u64) -> (u32, u32) {
    (0, 0)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    const TABLE: &str = "\
1: POSIX  ADVISORY  READ  10 08:01:77 123 123
2: POSIX  ADVISORY  WRITE 11 08:01:77 120 121
2: -> POSIX  ADVISORY  WRITE 12 08:01:77 120 120
3: FLOCK  ADVISORY  WRITE 13 00:2f:77 0 EOF
3:    -> FLOCK  ADVISORY  WRITE 17 00:2f:77 0 EOF
4: FLOCK  ADVISORY  READ  14 08:01:78 0 EOF
5: OFDLCK ADVISORY  WRITE -1 08:01:77 120 120
6: POSIX  ADVISORY  WRITE -1 08:01:79 120 120
7: LEASE  ACTIVE    READ  15 08:01:77 0 EOF
8: POSIX  MANDATORY WRITE 16 103:a1:80 0 EOF
9: POSIX  ADVISORY  WRITE 0 08:01:81 0 EOF
10: POSIX  ADVISORY  UNLCK 18 08:01:77 0 EOF
11: POSIX  ADVISORY  WRITE 19 <none>:0 0 EOF
12: POSIX
nonsense
";

    fn file(major: u32, minor: u32, inode: u64) -> FileId {
        FileId { device: rustix::fs::makedev(major, minor), inode }
    }

    fn pids(kind: Kind, file: FileId, bytes: RangeInclusive<u64>) -> Vec<(u32, bool, bool)> {
        let locks = Locks::parse(TABLE);
        locks.on(kind, file, &bytes).map(|lock| (lock.pid, lock.exclusive, lock.waits)).collect()
    }

    #[test]
    fn locks_that_a_process_holds_or_waits_for_are_read_and_no_others() {
        let Locks(locks) = Locks::parse(TABLE);
        let pids: Vec<_> = locks.iter().map(|lock| lock.pid).collect();
        assert_eq!(pids, [10, 11, 12, 13, 17, 14, 16]);
        let last = locks[6];
        assert_eq!((last.device, last.inode, last.first, last.last), ((0x103, 0xa1), 80, 0, u64::MAX));
        assert!(last.is_certainly_on(file(0x103, 0xa1, 80)));
    }

    #[test]
    fn a_lock_is_found_by_kind_file_and_bytes() {
        let here = file(8, 1, 77);
        assert_eq!(pids(Kind::Posix, here, 120..=120), [(11, true, false), (12, true, true)]);
        assert_eq!(pids(Kind::Posix, here, 121..=121), [(11, true, false)]);
        assert_eq!(pids(Kind::Posix, here, 122..=122), []);
        assert_eq!(pids(Kind::Posix, here, 123..=127), [(10, false, false)]);
        assert_eq!(pids(Kind::Posix, file(8, 1, 79), 120..=120), []);
        assert_eq!(pids(Kind::Flock, file(0, 0x2f, 77), 0..=0), [(13, true, false), (17, true, true)]);
        assert_eq!(pids(Kind::Flock, file(8, 1, 78), 0..=0), [(14, false, false)]);
    }

    #[test]
    fn another_device_is_a_suspicion_only() {
        // Btrfs: another device in stat than in the table.
        let elsewhere = file(0, 35, 77);
        let locks = Locks::parse(TABLE);
        let found = locks.on(Kind::Posix, elsewhere, &(120..=120)).next().expect("the same inode");
        assert!(!found.is_certainly_on(elsewhere) && found.is_certainly_on(file(8, 1, 77)));
    }
}
