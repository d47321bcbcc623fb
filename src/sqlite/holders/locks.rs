//! What the system tells of locks (`proc_locks(5)`): read, never tried.
//!
//! `/proc/locks` lists every lock that SQLite has (fcntl) and every one of our lock files (flock), of all users, with the
//! file's device and inode, and who waits for it. It has two weaknesses. The kernel gives it in pieces of a page: when a
//! lock is freed between two pieces, those after it move up, and one that somebody holds all the time slips through.
//! And Btrfs and its kin tell `stat` another device than they write here. So what it shows is true, and what it does
//! not show may be there: then `/proc/PID/fdinfo` is asked, which is exact and lists a descriptor's own locks in lines of
//! the same form, but not those of processes that one may not look into, nor who waits.

use std::fs::{self, Metadata};
use std::io::Read;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::home;

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

/// The kinds of lock that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// fcntl(2), SQLite's.
    Posix,
    /// flock(2), our lock files'.
    Flock,
    /// Of an open file description, as the lobby of the turn is. The table does not tell whose.
    Description,
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
    /// Those that a process has by way of a descriptor.
    pub(super) fn of_descriptor(pid: u32, descriptor: &str) -> Vec<Self> {
        let info = home::read_file(format!("/proc/{pid}/fdinfo/{descriptor}")).unwrap_or_default();
        let info = String::from_utf8_lossy(&info);
        let locks = info.lines().filter_map(|line| parse(line.strip_prefix("lock:")?));
        // The line names who took it: a flock that was inherited is held by both.
        locks.map(|lock| Self { pid, ..lock }).collect()
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// It is held, and on some of these bytes.
    pub(super) fn holds(&self, kind: Kind, bytes: &RangeInclusive<u64>) -> bool {
        !self.waits && self.kind == kind && self.first <= *bytes.end() && self.last >= *bytes.start()
    }
}

/// Room for most tables, so that they come in few pieces.
const TABLE_BYTES: usize = 64 * 1024;

/// The locks of the system.
#[derive(Debug)]
pub(super) struct Locks(Vec<Lock>);

impl Locks {
    /// `None` where the system has no such table.
    pub(super) fn read() -> Option<Self> {
        let mut table = Vec::with_capacity(TABLE_BYTES);
        home::open_to_read(Path::new("/proc/locks"))
            .and_then(|mut file| file.read_to_end(&mut table))
            .ok()?;
        Some(Self::parse(&String::from_utf8_lossy(&table)))
    }

    fn parse(table: &str) -> Self {
        Self(table.lines().filter_map(parse).filter(|lock| lock.pid > 0).collect())
    }

    /// Those on a file. On Btrfs and its kin: none.
    pub(super) fn on(&self, file: FileId) -> impl Iterator<Item = &Lock> {
        let device = numbers(file.device);
        self.0.iter().filter(move |lock| lock.inode == file.inode && lock.device == device)
    }
}

/// Reads one line; `None` for other kinds of lock. The process is 0 where the line does not name one.
fn parse(line: &str) -> Option<Lock> {
    let mut words = line.split_ascii_whitespace().skip(1).peekable();
    let waits = words.next_if_eq(&"->").is_some();
    let kind = match words.next()? {
        "POSIX" => Kind::Posix,
        "FLOCK" => Kind::Flock,
        "OFDLCK" => Kind::Description,
        _ => return None,
    };
    let mut words = words.skip(1);
    let exclusive = match words.next()? {
        "WRITE" => true,
        "READ" => false,
        _ => return None,
    };
    // -1 where no process owns it, 0 for one of another namespace.
    let pid = words.next()?.parse::<i64>().ok()?.try_into().unwrap_or(0);
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
    use std::fs::File;

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

    fn held(kind: Kind, file: FileId, bytes: RangeInclusive<u64>) -> Vec<(u32, bool)> {
        let locks = Locks::parse(TABLE);
        let held = locks.on(file).filter(|lock| lock.holds(kind, &bytes));
        held.map(|lock| (lock.pid, lock.exclusive)).collect()
    }

    #[test]
    fn locks_that_a_process_holds_or_waits_for_are_read_and_no_others() {
        let Locks(locks) = Locks::parse(TABLE);
        let pids: Vec<_> = locks.iter().map(|lock| lock.pid).collect();
        assert_eq!(pids, [10, 11, 12, 13, 17, 14, 16]);
        let last = locks[6];
        assert_eq!((last.device, last.inode, last.first, last.last), ((0x103, 0xa1), 80, 0, u64::MAX));
        let waiting: Vec<_> = locks.iter().filter(|lock| lock.waits).map(|lock| lock.pid).collect();
        assert_eq!(waiting, [12, 17]);
    }

    #[test]
    fn a_lock_is_found_by_kind_file_and_bytes() {
        let here = file(8, 1, 77);
        assert_eq!(held(Kind::Posix, here, 120..=120), [(11, true)]);
        assert_eq!(held(Kind::Posix, here, 121..=121), [(11, true)]);
        assert_eq!(held(Kind::Posix, here, 122..=122), []);
        assert_eq!(held(Kind::Posix, here, 123..=127), [(10, false)]);
        assert_eq!(held(Kind::Posix, file(8, 1, 79), 120..=120), []);
        assert_eq!(held(Kind::Flock, file(0, 0x2f, 77), 0..=0), [(13, true)]);
        assert_eq!(held(Kind::Flock, file(8, 1, 78), 0..=0), [(14, false)]);
        assert_eq!(held(Kind::Posix, file(0, 35, 77), 120..=120), [], "another device");
    }

    #[test]
    fn a_descriptor_tells_its_own_locks_only() {
        let (locked, free) = (tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"));
        locked.lock().expect("locked");
        let of = |file: &File| {
            let descriptor = std::os::fd::AsRawFd::as_raw_fd(file).to_string();
            Lock::of_descriptor(std::process::id(), &descriptor)
        };
        let [lock] = &of(&locked)[..] else { panic!("one lock: {:?}", of(&locked)) };
        assert!(lock.exclusive && lock.holds(Kind::Flock, &(0..=0)) && lock.pid == std::process::id());
        assert_eq!(of(&free), []);
        assert_eq!(Lock::of_descriptor(u32::MAX, "0"), []);
        let lobby = parse(" 5: OFDLCK ADVISORY  WRITE -1 08:01:77 0 0").expect("a lock of a description");
        assert_eq!((lobby.kind(), lobby.pid), (Kind::Description, 0));
    }
}
