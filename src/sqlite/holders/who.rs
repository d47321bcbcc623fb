//! Who uses the databases of a home right now: one look at the system for all of them.
//!
//! Which byte of a file means what is SQLite's (<https://sqlite.org/walformat.html>, section 2.3.1, and
//! <https://sqlite.org/fileformat.html>, section 1.3.1). The look is not atomic: a process may come or go during it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::locks::{FileId, Kind, Lock, Locks};
use super::open_files::{self, Deleted, OpenFiles, Wanted};
use super::{FIRST_MARK_BYTE, Holder, RESERVED_BYTES, WRITE_BYTE, describe};
use crate::domain::Domain;
use crate::home::{PreparedHome, with_ending};
use crate::processes;
use crate::sqlite::status_page::{self, ProcessStatus};

const CHECKPOINT_BYTE: u64 = 121;
const RECOVERY_BYTE: u64 = 122;
const SNAPSHOT_BYTES: RangeInclusive<u64> = FIRST_MARK_BYTE..=FIRST_MARK_BYTE + 4;

/// Who uses the databases of a home, as far as this process may see it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct HomeHolders {
    /// By name.
    pub databases: Vec<DatabaseHolders>,
    /// Files that were deleted below the home, are still open somewhere, and belong to none of its databases; `None`
    /// where the system does not tell.
    pub deleted: Option<Vec<DeletedFile>>,
    /// True when nothing could escape the look: [`unseen`](Self::unseen) is empty.
    pub complete: bool,
    /// What could not be seen.
    pub unseen: Vec<Unseen>,
}

impl HomeHolders {
    /// Nobody can use what is not there.
    pub(crate) fn of_no_home() -> Self {
        Self { databases: Vec::new(), deleted: Some(Vec::new()), complete: true, unseen: Vec::new() }
    }
}

/// Who uses one database.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct DatabaseHolders {
    /// The domain's name.
    pub name: String,
    /// The main file.
    pub path: PathBuf,
    /// Every process that has the main file, its -wal or its -shm open, or a lock on it, by process id; `None` where the
    /// system does not tell.
    pub processes: Option<Vec<DatabaseProcess>>,
    /// Its files that were deleted and are still open somewhere; `None` where the system does not tell.
    pub deleted: Option<Vec<DeletedFile>>,
}

/// A process that uses a database.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct DatabaseProcess {
    /// Which one it is, and what it publishes about its work in this database.
    #[serde(flatten)]
    pub process: Holder,
    /// How many descriptors of the database's files it has; `None` where that may not be seen.
    pub open_files: Option<u32>,
    /// The locks it has; `None` where the system does not tell.
    pub holds: Option<BTreeSet<DatabaseLock>>,
    /// The locks it waits for. SQLite itself never waits in the kernel, it tries again and again: who waits for the
    /// write lock without a turn is not among them. `None` where the system does not tell.
    pub waits_for: Option<BTreeSet<DatabaseLock>>,
}

/// A lock on a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DatabaseLock {
    /// The write lock: it is inside a write transaction, or has the file for itself.
    Write,
    /// It works off the write-ahead log.
    Checkpoint,
    /// It rebuilds the index of the write-ahead log after somebody was killed.
    Recovery,
    /// It is inside a snapshot, and so keeps the write-ahead log from being worked off completely. How old the snapshot
    /// is, how much of the log it keeps, and how many of the process's threads read cannot be told from outside.
    /// A write transaction is inside a snapshot too.
    Snapshot,
    /// This process's turn at the write lock.
    Turn,
    /// It creates or migrates the database.
    Init,
}

/// A file that takes space and has no name any more: it is freed when the last of these processes closes it or ends.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct DeletedFile {
    /// The last path it had.
    pub path: PathBuf,
    /// Its size, which is what becomes free; 0 when it still has a name elsewhere.
    pub bytes: u64,
    /// Who has it open, by process id.
    pub processes: Vec<Holder>,
}

/// What could not be seen, and so may be missing in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Unseen {
    /// Nothing here tells who has a file open (no Linux, or no `/proc`).
    OpenFiles,
    /// Nothing here tells who has a lock (no Linux, or no `/proc/locks`).
    Locks,
    /// The open files of processes that belong to other users, or have more rights than this one. Those among them that
    /// have an SQLite connection are listed all the same, by their locks.
    OpenFilesOfOthers {
        /// How many processes.
        processes: usize,
    },
    /// Processes of other users: the system hides them (`hidepid`).
    HiddenProcesses,
    /// Processes outside this container.
    OutsideTheContainer,
}

impl std::fmt::Display for Unseen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OpenFiles => f.write_str("who has which file open (this system does not tell)"),
            Self::Locks => f.write_str("who holds which lock (this system does not tell)"),
            Self::OpenFilesOfOthers { processes } => write!(
                f,
                "open files of {processes} process{} of another user, or with more rights than yours",
                if *processes == 1 { "" } else { "es" }
            ),
            Self::HiddenProcesses => f.write_str("processes of other users, which /proc hides (hidepid)"),
            Self::OutsideTheContainer => f.write_str("processes outside this container"),
        }
    }
}

/// Looks at the databases of these names, and at what else was deleted below the home.
pub(crate) fn who(home: &PreparedHome, names: BTreeSet<String>) -> HomeHolders {
    let mut wanted = Wanted::default();
    let mut databases: Vec<_> =
        names.into_iter().map(|name| DatabaseFiles::find(home, name, &mut wanted)).collect();
    let look = Looks::at(&wanted, home.path(), status_page::read_all(&home.run_dir()));
    for file in look.deleted() {
        if let Some(name) = database_of(home.path(), &file.path)
            && !databases.iter().any(|database| database.name == name)
        {
            databases.push(DatabaseFiles::find(home, name, &mut Wanted::default()));
        }
    }
    look.told(databases, |path| database_of(home.path(), path))
}

/// The same for files of any program, by name and path.
#[cfg(feature = "agent")]
pub(crate) fn who_of_files(folder: &Path, files: Vec<(String, PathBuf)>) -> HomeHolders {
    let mut wanted = Wanted::default();
    let databases: Vec<_> =
        files.into_iter().map(|(name, path)| DatabaseFiles::of_file(name, path, &mut wanted)).collect();
    let look = Looks::at(&wanted, folder, Vec::new());
    let owners: Vec<_> =
        databases.iter().map(|database| (database.name.clone(), database.path.clone())).collect();
    look.told(databases, |path| {
        let is_beside =
            |main: &Path| ["", "-wal", "-shm"].iter().any(|ending| with_ending(main, ending) == path);
        owners.iter().find(|(_, main)| is_beside(main)).map(|(name, _)| name.clone())
    })
}

/// What the system told at one time.
struct Looks {
    open: Option<OpenFiles>,
    locks: Option<Locks>,
    pages: Vec<ProcessStatus>,
}

impl Looks {
    fn at(wanted: &Wanted, folder: &Path, pages: Vec<ProcessStatus>) -> Self {
        // Open files first: who locks something in between is in the second list.
        let open = open_files::look(wanted, Some(folder));
        Self { open, locks: Locks::read(), pages }
    }

    fn deleted(&self) -> impl Iterator<Item = &Deleted> {
        self.open.iter().flat_map(|open| open.deleted.values())
    }

    /// `owner` names the database that a deleted file belonged to.
    fn told(
        &self,
        mut databases: Vec<DatabaseFiles>,
        owner: impl Fn(&Path) -> Option<String>,
    ) -> HomeHolders {
        let mut deleted: BTreeMap<Option<String>, Vec<DeletedFile>> = BTreeMap::new();
        for file in self.deleted() {
            let name = owner(&file.path);
            let told = tell_deleted(file, &self.pages, name.as_deref().unwrap_or_default());
            deleted.entry(name).or_default().push(told);
        }
        databases.sort_by(|one, other| one.name.cmp(&other.name));
        let mut deleted_of = |name: Option<&str>| {
            self.open.as_ref().map(|_| {
                let mut files = deleted.remove(&name.map(str::to_owned)).unwrap_or_default();
                files.sort_by(|one, other| one.path.cmp(&other.path));
                files
            })
        };
        let databases = databases
            .into_iter()
            .map(|database| DatabaseHolders {
                processes: database.processes(self.open.as_ref(), self.locks.as_ref(), &self.pages),
                deleted: deleted_of(Some(&database.name)),
                name: database.name,
                path: database.path,
            })
            .collect();
        let unseen = unseen(self.open.as_ref(), self.locks.as_ref());
        HomeHolders { databases, deleted: deleted_of(None), complete: unseen.is_empty(), unseen }
    }
}

fn unseen(open: Option<&OpenFiles>, locks: Option<&Locks>) -> Vec<Unseen> {
    let others = open.map_or(0, |open| open.unreadable.len());
    [
        open.is_none().then_some(Unseen::OpenFiles),
        locks.is_none().then_some(Unseen::Locks),
        (others > 0).then_some(Unseen::OpenFilesOfOthers { processes: others }),
        (open.is_some() && processes::stat(1).is_none()).then_some(Unseen::HiddenProcesses),
        (open.is_some() && !processes::sees_all()).then_some(Unseen::OutsideTheContainer),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The database that a file directly in the home belongs to: `state` for `state.sqlite-wal`, and for what was set aside
/// as `state.sqlite-wal.replaced-<time>`.
fn database_of(home: &Path, file: &Path) -> Option<String> {
    let (name, _) = file.file_name()?.to_str()?.split_once(".sqlite")?;
    (file.parent() == Some(home) && Domain::new(name).check().is_ok()).then(|| name.to_owned())
}

fn tell_deleted(file: &Deleted, pages: &[ProcessStatus], database: &str) -> DeletedFile {
    DeletedFile {
        path: file.path.clone(),
        bytes: file.bytes,
        processes: file.pids.iter().map(|pid| describe(*pid, pages, database)).collect(),
    }
}

/// The files of a database, as far as they are there.
struct DatabaseFiles {
    name: String,
    path: PathBuf,
    main: Option<FileId>,
    wal: Option<FileId>,
    shm: Option<FileId>,
    room: Option<FileId>,
    init: Option<FileId>,
}

/// What a process does with a database.
#[derive(Debug, Default, PartialEq, Eq)]
struct Uses {
    open_files: u32,
    holds: BTreeSet<DatabaseLock>,
    waits_for: BTreeSet<DatabaseLock>,
}

impl DatabaseFiles {
    fn find(home: &PreparedHome, name: String, wanted: &mut Wanted) -> Self {
        let lock_file = |what| home.lock_path(&format!("{name}.{what}"));
        // Open in every process that has the database open; of interest when locked.
        let (room, init) = (wanted.add(&lock_file("room")), wanted.add(&lock_file("init")));
        let path = home.database_path(&name);
        Self { room, init, ..Self::of_file(name, path, wanted) }
    }

    /// One that is not this library's has no turn.
    fn of_file(name: String, path: PathBuf, wanted: &mut Wanted) -> Self {
        Self {
            main: wanted.add(&path),
            wal: wanted.add(&with_ending(&path, "-wal")),
            shm: wanted.add(&with_ending(&path, "-shm")),
            room: None,
            init: None,
            path,
            name,
        }
    }

    fn processes(
        &self,
        open: Option<&OpenFiles>,
        locks: Option<&Locks>,
        pages: &[ProcessStatus],
    ) -> Option<Vec<DatabaseProcess>> {
        if open.is_none() && locks.is_none() {
            return None;
        }
        let mut uses: BTreeMap<u32, Uses> = BTreeMap::new();
        if let Some(open) = open {
            for (pid, count) in
                [self.main, self.wal, self.shm].into_iter().flatten().flat_map(|file| open.by(file))
            {
                uses.entry(pid).or_default().open_files += count;
            }
        }
        if let Some(locks) = locks {
            self.add_locks(locks, open, &mut uses);
        }
        let tell = |(pid, uses): (u32, Uses)| {
            let seen = open.is_some_and(|open| !open.unreadable.contains(&pid));
            DatabaseProcess {
                process: describe(pid, pages, &self.name),
                open_files: seen.then_some(uses.open_files),
                holds: locks.map(|_| uses.holds),
                waits_for: locks.map(|_| uses.waits_for),
            }
        };
        Some(uses.into_iter().map(tell).collect())
    }

    fn add_locks(&self, locks: &Locks, open: Option<&OpenFiles>, uses: &mut BTreeMap<u32, Uses>) {
        use DatabaseLock::{Checkpoint, Init, Recovery, Snapshot, Turn, Write};
        let wal_locks = [
            (WRITE_BYTE..=WRITE_BYTE, true, Write),
            (CHECKPOINT_BYTE..=CHECKPOINT_BYTE, true, Checkpoint),
            (RECOVERY_BYTE..=RECOVERY_BYTE, true, Recovery),
            (SNAPSHOT_BYTES, false, Snapshot),
        ];
        let main_locks = [(RESERVED_BYTES, true, Write)];
        // Other locks on these two are those of an open connection.
        for (file, meanings) in [(self.shm, &wal_locks[..]), (self.main, &main_locks)] {
            for lock in all_on(file, locks, open) {
                let uses = uses.entry(lock.pid).or_default();
                let means = |(bytes, exclusive, what): &(RangeInclusive<u64>, bool, DatabaseLock)| {
                    (lock.exclusive == *exclusive && lock.holds(Kind::Posix, bytes)).then_some(*what)
                };
                uses.holds.extend(meanings.iter().filter_map(means));
            }
        }
        for (file, what) in [(self.room, Turn), (self.init, Init)] {
            for lock in all_on(file, locks, open) {
                let uses = uses.entry(lock.pid).or_default();
                // Who has the lobby is the next at the room, and waits.
                let waits = lock.waits || lock.kind() == Kind::Description;
                let which = if waits { &mut uses.waits_for } else { &mut uses.holds };
                which.insert(what);
            }
        }
    }
}

/// The locks on a file: exactly those that the processes have which could be looked into; of others, and of who waits, what
/// the table shows.
fn all_on<'l>(
    file: Option<FileId>,
    locks: &'l Locks,
    open: Option<&'l OpenFiles>,
) -> impl Iterator<Item = &'l Lock> {
    let exact = open.zip(file).and_then(|(open, file)| open.locks.get(&file)).into_iter().flatten();
    let table = file.into_iter().flat_map(|file| locks.on(file));
    let unsure =
        move |lock: &&Lock| lock.waits || open.is_none_or(|open| open.unreadable.contains(&lock.pid));
    exact.chain(table.filter(unsure))
}

impl OpenFiles {
    /// Who has this file open, and how often.
    fn by(&self, file: FileId) -> impl Iterator<Item = (u32, u32)> {
        self.open.get(&file).into_iter().flatten().map(|(pid, count)| (*pid, *count))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_file_belongs_to_the_database_it_is_named_after() {
        let home = Path::new("/h");
        for (file, database) in [
            ("/h/state.sqlite", Some("state")),
            ("/h/state.sqlite-shm", Some("state")),
            ("/h/state.sqlite-wal.replaced-17", Some("state")),
            ("/h/quarantine/state.sqlite", None),
            ("/h/run/1-2.page", None),
            ("/h/../x.sqlite", None),
            ("/h/.sqlite", None),
        ] {
            assert_eq!(database_of(home, Path::new(file)).as_deref(), database, "{file}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_said_and_not_guessed() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = crate::home::Home::at(folder.path()).prepare().expect("a home");
        let files = DatabaseFiles::find(&home, "state".to_owned(), &mut Wanted::default());
        assert_eq!(files.processes(None, None, &[]), None);
        assert_eq!(unseen(None, None), [Unseen::OpenFiles, Unseen::Locks]);
        let some = OpenFiles { unreadable: [1, 2].into(), ..OpenFiles::default() };
        assert!(unseen(Some(&some), None).contains(&Unseen::OpenFilesOfOthers { processes: 2 }));
        let told = serde_json::to_value(unseen(Some(&some), None)).expect("plain data");
        assert_eq!(told[0], serde_json::json!({"what": "locks"}));
        assert_eq!(told[1], serde_json::json!({"what": "open_files_of_others", "processes": 2}));
    }
}
