//! Who is in the way: the process that holds a lock, named without touching the lock.
//!
//! Invariants: a database, its -wal and its -shm are looked at by `stat` only, never opened; locks are read from
//! `/proc/locks`, never tried. What cannot be told is `None`: an answer is for an error's text, not for a decision.

use std::path::Path;

use crate::home::with_ending;
use crate::processes;
use crate::sqlite::status_page;

/// A process that holds a database.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its command line's first word, without the folder; `unknown` where it cannot be read.
    pub command: String,
    /// The label of the job it runs, where it publishes one.
    pub label: Option<String>,
    /// True when it is stopped (Ctrl-Z, SIGSTOP).
    pub stopped: bool,
    /// When that job started, in milliseconds since 1970, where it publishes it.
    pub since: Option<u64>,
    /// The program, as it named itself to this library.
    pub program: Option<String>,
    /// The program's version.
    pub version: Option<String>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {}", self.command, self.pid)?;
        if let Some(label) = &self.label {
            write!(f, ", job {label}")?;
        }
        f.write_str(if self.stopped { ", stopped)" } else { ")" })
    }
}

/// The process inside a write transaction of a database (`<home>/<name>.sqlite`).
///
/// In WAL mode that is a lock on byte 120 of the -shm file (<https://sqlite.org/walformat.html>, section 2.3.1),
/// else on the reserved byte of the main file (<https://sqlite.org/fileformat.html>, section 1.3.1).
pub(crate) fn write_lock_holder(database: &Path) -> Option<Holder> {
    let shm = with_ending(database, "-shm");
    let locks = system::held_locks()?;
    let pid = system::pid_of(&locks, Kind::Posix, &shm, 120)
        .or_else(|| system::pid_of(&locks, Kind::Posix, database, 0x4000_0001))?;
    Some(describe(pid, database.parent(), database))
}

/// The process that holds a lock file (`<home>/locks/<name>...`) with flock(2).
pub(crate) fn flock_holder(lock_file: &Path) -> Option<Holder> {
    let pid = system::pid_of(&system::held_locks()?, Kind::Flock, lock_file, 0)?;
    Some(describe(pid, lock_file.parent().and_then(Path::parent), lock_file))
}

/// Adds what is known of the process, and what it published about the database the file is named after.
fn describe(pid: u32, home: Option<&Path>, file: &Path) -> Holder {
    let page = home
        .map(|home| status_page::read_all(&home.join("run")))
        .into_iter()
        .flatten()
        .find(|process| process.pid == pid && process.alive);
    let name = file.file_name().and_then(|name| name.to_str()).and_then(|name| name.split('.').next());
    let database =
        page.as_ref().and_then(|page| page.databases.iter().find(|database| Some(&*database.name) == name));
    Holder {
        pid,
        command: processes::command(pid),
        label: database.and_then(|database| database.label.clone()),
        stopped: processes::stat(pid).is_some_and(processes::ProcessStat::is_stopped),
        since: database.and_then(|database| database.since_unix_ms),
        program: page.as_ref().map(|page| page.program.clone()),
        version: page.as_ref().map(|page| page.version.clone()),
    }
}

/// The two kinds of lock that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// fcntl(2), SQLite's.
    Posix,
    /// flock(2), our lock files'.
    Flock,
}

/// An exclusive lock that somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeldLock {
    kind: Kind,
    pid: u32,
    device: (u32, u32),
    inode: u64,
    first: u64,
    last: u64,
}

/// Reads one line of `/proc/locks` (`proc_locks(5)`); `None` for shared locks, those who wait (`->`), and other
/// kinds.
fn parse_lock(line: &str) -> Option<HeldLock> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let kind = match words.next()? {
        "POSIX" => Kind::Posix,
        "FLOCK" => Kind::Flock,
        _ => return None,
    };
    let mut words = words.skip(1);
    if words.next()? != "WRITE" {
        return None;
    }
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
    Some(HeldLock { kind, pid, device, inode, first, last })
}

/// The owner of the lock on a byte of a file. Some file systems (Btrfs) tell `stat` another device than
/// `/proc/locks`: with the device unknown there, `has_open` decides.
fn owner(
    locks: &[HeldLock],
    kind: Kind,
    (device, inode): ((u32, u32), u64),
    byte: u64,
    has_open: impl Fn(u32) -> bool,
) -> Option<u32> {
    let fitting = || {
        locks.iter().filter(move |lock| {
            lock.kind == kind && lock.inode == inode && (lock.first..=lock.last).contains(&byte)
        })
    };
    fitting()
        .find(|lock| lock.device == device)
        .or_else(|| fitting().find(|lock| has_open(lock.pid)))
        .map(|lock| lock.pid)
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::{HeldLock, Kind, owner, parse_lock};

    /// The exclusive locks of all processes that this one can see.
    pub(super) fn held_locks() -> Option<Vec<HeldLock>> {
        let bytes = crate::home::read_file("/proc/locks").ok()?;
        Some(String::from_utf8_lossy(&bytes).lines().filter_map(parse_lock).collect())
    }

    pub(super) fn pid_of(locks: &[HeldLock], kind: Kind, file: &Path, byte: u64) -> Option<u32> {
        let found = fs::symlink_metadata(file).ok()?;
        let device = (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()));
        owner(locks, kind, (device, found.ino()), byte, |pid| has_open(pid, file))
    }

    /// True when a process has a file of this path open.
    fn has_open(pid: u32, file: &Path) -> bool {
        let Ok(file) = fs::canonicalize(file) else { return false };
        fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .any(|open| open == file)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::path::Path;

    use super::{HeldLock, Kind, owner, parse_lock};

    /// Nothing tells who holds which lock here.
    pub(super) fn held_locks() -> Option<Vec<HeldLock>> {
        let _ = parse_lock;
        None
    }

    pub(super) fn pid_of(locks: &[HeldLock], kind: Kind, _: &Path, byte: u64) -> Option<u32> {
        owner(locks, kind, ((0, 0), 0), byte, |_| false)
    }
}

#[cfg(test)]
mod tests;
