//! Who is in the way: the processes that hold a database, named without touching a lock.
//!
//! | file | what |
//! |---|---|
//! | [`locks`] | who holds or waits for which lock, `/proc/locks` |
//! | [`open_files`] | which process has which file open, `/proc/PID/fd` |
//! | [`who`] | both, for all databases of a home at once |
//!
//! Invariants, and where they are tested:
//! 1. A database, its -wal and its -shm are looked at by `stat` only, never opened; locks are read from `/proc/locks`,
//!    never tried (`tests/o1_who_holds_what.rs`).
//! 2. What cannot be told is `None`, never a guess: an answer is for a person's eyes, not for a decision.
//! 3. A process that was stopped is named like any other (`tests/l7_stopped_holder.rs`).

mod locks;
mod open_files;
pub(crate) mod who;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::error::{Error, ErrorKind};
use crate::home::with_ending;
use crate::processes::{self, ProcessState};
use crate::sqlite::status_page::{self, ProcessStatus};
use locks::{FileId, Kind, Lock, Locks};
use open_files::Wanted;

/// The byte of a -shm file that a writer locks (<https://sqlite.org/walformat.html>, section 2.3.1).
const WRITE_BYTE: u64 = 120;
/// The one that a checkpoint locks.
const CHECKPOINT_BYTE: u64 = 121;
/// The first of the bytes of a -shm file that say which part of the log a snapshot needs: one for each read mark.
const FIRST_MARK_BYTE: u64 = 123;
/// The reserved byte of a main file, which a writer locks where there is no write-ahead log, and the bytes after it
/// that belong to who has the file for itself (<https://sqlite.org/fileformat.html>, section 1.3.1).
const RESERVED_BYTES: RangeInclusive<u64> = 0x4000_0001..=0x4000_01FF;

/// How hard to look for who holds a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// In the table of all locks: well below a millisecond.
    Table,
    /// Where that shows nothing, in each process: as long as there are processes.
    All,
}

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
    /// True when it is stopped (Ctrl-Z, SIGSTOP): [`state`](Self::state) in short.
    pub stopped: bool,
    /// Whether it goes on.
    pub state: ProcessState,
    /// When that job started, in milliseconds since 1970, where it publishes it.
    pub since: Option<u64>,
    /// When the process started, in RFC 3339, to the second; `None` where that cannot be told.
    pub started_at: Option<String>,
    /// The program, as it named itself to this library.
    pub program: Option<String>,
    /// The program's version.
    pub version: Option<String>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {}", self.command, self.pid)?;
        match (&self.label, self.since.and_then(time), &self.started_at) {
            (Some(label), Some(since), _) => write!(f, ", job {label} since {since:.0}")?,
            (Some(label), None, _) => write!(f, ", job {label}")?,
            (None, Some(since), _) => write!(f, ", a job since {since:.0}")?,
            (None, None, Some(started)) => write!(f, ", started {started}")?,
            (None, None, None) => {}
        }
        f.write_str(if self.stopped { ", stopped)" } else { ")" })
    }
}

fn time(unix_ms: u64) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()
}

/// The process inside a write transaction of a database (`<home>/<name>.sqlite`).
pub(crate) fn write_lock_holder(database: &Path) -> Option<Holder> {
    let shm = with_ending(database, "-shm");
    let pid =
        owner(&[(&shm, Kind::Posix, WRITE_BYTE..=WRITE_BYTE), (database, Kind::Posix, RESERVED_BYTES)])?;
    Some(named(pid, database.parent(), database))
}

/// The process that holds a lock file (`<home>/locks/<name>...`) with flock(2).
pub(crate) fn flock_holder(lock_file: &Path) -> Option<Holder> {
    let pid = owner(&[(lock_file, Kind::Flock, 0..=0)])?;
    Some(named(pid, lock_file.parent().and_then(Path::parent), lock_file))
}

/// The processes inside a snapshot of a database that has the first of these read marks that somebody has: others before
/// this one, and those that are stopped first.
pub(crate) fn snapshot_holders(database: &Path, marks: &[u64], effort: Effort) -> Vec<Holder> {
    let shm = with_ending(database, "-shm");
    let byte = |mark: &u64| FIRST_MARK_BYTE + mark..=FIRST_MARK_BYTE + mark;
    let places: Vec<_> = marks.iter().map(|mark| (shm.as_path(), Kind::Posix, byte(mark))).collect();
    let mut by_mark = owners_of_each(&places, false, effort).into_iter();
    let pids = by_mark.find(|pids| !pids.is_empty()).unwrap_or_default();
    let mut holders: Vec<_> = pids.into_iter().map(|pid| named(pid, database.parent(), database)).collect();
    holders.sort_by_key(|holder| (holder.pid == std::process::id(), !holder.stopped, holder.pid));
    holders
}

/// The process inside a checkpoint of a database.
pub(crate) fn checkpoint_holder(database: &Path) -> Option<Holder> {
    let shm = with_ending(database, "-shm");
    let pid = owner(&[(&shm, Kind::Posix, CHECKPOINT_BYTE..=CHECKPOINT_BYTE)])?;
    Some(named(pid, database.parent(), database))
}

/// Has a `Busy` error that is about to be named after a database also name who is in the way there: who writes, else
/// who creates or migrates it. Other errors, and those that were named already, stay as they are.
pub(crate) fn blame(error: Error, database: &Path, init_lock: &Path) -> Error {
    if error.kind() != ErrorKind::Busy || error.holder().is_some() || error.database().is_some() {
        return error;
    }
    error.held_by(write_lock_holder(database).or_else(|| flock_holder(init_lock)))
}

/// The owner of an exclusive lock on some bytes of the first of these files that has one.
fn owner(places: &[(&Path, Kind, RangeInclusive<u64>)]) -> Option<u32> {
    owners(places, true).first().copied()
}

/// The owners of locks on some bytes of these files, in their order, each once. The table of all locks tells mostly; where
/// it shows none, each process is asked.
fn owners(places: &[(&Path, Kind, RangeInclusive<u64>)], exclusive: bool) -> Vec<u32> {
    let mut seen = BTreeSet::new();
    let each = owners_of_each(places, exclusive, Effort::All);
    each.into_iter().flatten().filter(|pid| seen.insert(*pid)).collect()
}

/// The same for each place.
fn owners_of_each(
    places: &[(&Path, Kind, RangeInclusive<u64>)],
    exclusive: bool,
    effort: Effort,
) -> Vec<Vec<u32>> {
    let mut wanted = Wanted::default();
    let places: Vec<_> =
        places.iter().filter_map(|(file, kind, bytes)| Some((wanted.add(file)?, *kind, bytes))).collect();
    let find = |locks: &dyn Fn(FileId) -> Vec<Lock>| {
        let at = |(file, kind, bytes): &(FileId, Kind, &RangeInclusive<u64>)| {
            let held = |lock: &Lock| lock.exclusive == exclusive && lock.holds(*kind, bytes);
            let pids: BTreeSet<_> = locks(*file).into_iter().filter(held).map(|lock| lock.pid).collect();
            pids.into_iter().collect::<Vec<_>>()
        };
        places.iter().map(at).collect::<Vec<_>>()
    };
    let Some(table) = Locks::read() else { return Vec::new() };
    let shown = find(&|file| table.on(file).copied().collect());
    if effort == Effort::Table || shown.iter().any(|pids| !pids.is_empty()) {
        return shown;
    }
    let open = open_files::look(&wanted, None);
    open.map(|open| find(&|file| open.locks.get(&file).cloned().unwrap_or_default())).unwrap_or_default()
}

/// Names the process, with what it published about the database that the file is named after.
pub(crate) fn named(pid: u32, home: Option<&Path>, file: &Path) -> Holder {
    let pages = home.map(|home| status_page::read_all(&home.join("run"))).unwrap_or_default();
    let name = file.file_name().and_then(|name| name.to_str()).and_then(|name| name.split('.').next());
    describe(pid, &pages, name.unwrap_or_default())
}

/// What `/proc` and the status pages tell of a process and its work in one database.
fn describe(pid: u32, pages: &[ProcessStatus], database: &str) -> Holder {
    let page = pages.iter().find(|process| process.pid == pid && process.alive);
    let work = page.and_then(|page| page.databases.iter().find(|published| published.name == database));
    let stat = processes::stat(pid);
    let state = stat.map_or(ProcessState::Unknown, processes::ProcessStat::state);
    Holder {
        pid,
        command: processes::command(pid),
        label: work.and_then(|work| work.label.clone()),
        stopped: state == ProcessState::Stopped,
        state,
        since: work.and_then(|work| work.since_unix_ms),
        started_at: stat.and_then(processes::ProcessStat::started_at).map(|at| at.to_string()),
        program: page.map(|page| page.program.clone()),
        version: page.map(|page| page.version.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_told_with_its_job_its_age_and_whether_it_is_stopped() {
        let idle = Holder {
            pid: 7,
            command: "tool".to_owned(),
            label: None,
            stopped: false,
            state: ProcessState::Running,
            since: None,
            started_at: None,
            program: None,
            version: None,
        };
        let label = Some("fetch".to_owned());
        let started_at = Some("2026-01-02T03:04:05Z".to_owned());
        let old = Holder { started_at, stopped: true, ..idle.clone() };
        for (holder, text) in [
            (idle.clone(), "tool (pid 7)"),
            (old.clone(), "tool (pid 7, started 2026-01-02T03:04:05Z, stopped)"),
            (Holder { label: label.clone(), ..idle.clone() }, "tool (pid 7, job fetch)"),
            (
                Holder { label, since: Some(1_999), ..old },
                "tool (pid 7, job fetch since 1970-01-01T00:00:01Z, stopped)",
            ),
            (Holder { since: Some(1_000), ..idle.clone() }, "tool (pid 7, a job since 1970-01-01T00:00:01Z)"),
            (Holder { since: Some(u64::MAX), ..idle }, "tool (pid 7)"),
        ] {
            assert_eq!(holder.to_string(), text);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod live;
