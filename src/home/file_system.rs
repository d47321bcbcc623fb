//! Which file systems a home may not be on.
//!
//! SQLite's write-ahead log needs memory that every process on the file shares, and locks that hold
//! (<https://sqlite.org/wal.html>). Network and shared-folder file systems promise neither, and what they
//! break stays unnoticed until the database is damaged: they are refused, before anything is created.
//!
//! Invariants:
//! 1. The list of mounts is judged before the path is touched. What it names as refused is not touched at all; what is
//!    not known as local, or lies behind what is not, is touched on a thread that can be left behind ([`helper`]). So
//!    nothing here hangs, and a refusal takes less than 100 ms, an unknown file system's less than a second.
//! 2. The names ([`kinds`]) veto. What they do not know must show that its locks hold ([`probe`]): that can only add a
//!    refusal.
//! 3. Nothing is created but the probe's file, which has no name by the time it is used.
//!
//! Tests: `tests` here (lists of mounts of many systems), `tests/file_systems.rs` (real mounts, alive and dead; whether
//! they are touched), `tests/lock_probe.rs` (overlay, with locks that hold, fail and hang).

mod helper;
mod kinds;
mod mounts;
#[cfg(target_os = "linux")]
mod probe;

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind as Os};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::access;
use crate::error::{Error, ErrorKind, Result};
use helper::Helper;
use kinds::Kind;
use mounts::{Mount, Mounts};

/// How long a refused file system on the way may take to answer, all looks together.
const REFUSED_ANSWERS: Duration = Duration::from_millis(60);

/// The same for one that is not known.
const UNKNOWN_ANSWERS: Duration = Duration::from_millis(800);

/// As many links as the kernel follows (`path_resolution(7)`).
const LINKS: u32 = 40;

/// Where the system lists no mounts.
const UNNAMED: &str = "a file system of unknown kind";

/// Why a home is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To create what is missing, and write.
    Write,
    /// To list what is there: nothing is written, so locks are not tried out.
    Read,
}

/// Refuses a home whose file system cannot hold a database. Looks at the nearest folder that exists. The path is
/// absolute.
///
/// # Errors
/// `Unsupported`, naming the file system and where it is mounted; `Io` and its kin when it cannot be looked at.
pub(super) fn check(home: &Path, purpose: Purpose) -> Result<()> {
    let mut search = Search::new(home);
    let folder = search.nearest_folder()?;
    let kind = search.judge(&folder)?;
    if kind == Kind::Unknown && purpose == Purpose::Write {
        search.try_locks(&folder)?;
    }
    // What locks and tells of each other may be mounted by itself.
    for inside in ["locks", "run"] {
        search.veto(&folder.join(inside))?;
    }
    Ok(())
}

/// Refuses a database file that is mounted by itself (`docker run -v file:file`), and one whose log or index is. Does
/// not touch it.
///
/// # Errors
/// `Unsupported` when its file system is a refused one; else `Invalid`: the log would be beside each of its names.
pub(super) fn check_file(path: &Path) -> Result<()> {
    let files = ["", "-wal", "-shm", "-journal"].map(|ending| super::with_ending(path, ending));
    if !files.iter().any(|file| may_be_mounted(file)) {
        return Ok(());
    }
    let mounts = Mounts::read();
    for file in &files {
        let Some(mount) = mounts.at(file) else { continue };
        if let Kind::Refused(words) = mount.kind() {
            return Err(refusal("the database file", file, Some(mount), words, &mounts));
        }
        return Err(Error::new(
            ErrorKind::Invalid,
            "the database file is mounted by itself: its write-ahead log would not come along",
        )
        .at_path(file)
        .advise("mount the folder that holds it instead"));
    }
    Ok(())
}

/// False when something is certainly not mounted at this place. Asks nobody but this machine's kernel, and is a hundred
/// times faster than the list of mounts.
#[cfg(target_os = "linux")]
fn may_be_mounted(file: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    match rustix::fs::statx(CWD, file, flags, StatxFlags::empty()) {
        Ok(found) => {
            let root = StatxAttributes::MOUNT_ROOT;
            !found.stx_attributes_mask.contains(root) || found.stx_attributes.contains(root)
        }
        Err(error) => error != rustix::io::Errno::NOENT,
    }
}

#[cfg(not(target_os = "linux"))]
fn may_be_mounted(_: &Path) -> bool {
    false
}

/// Names the file system in an error that is its doing: a file of a database gave fewer bytes than it has
/// (<https://sqlite.org/rescode.html#ioerr_short_read>). Other errors stay as they are.
pub(crate) fn blame(error: Error, file: &Path) -> Error {
    let short = error.sqlite_code() == Some(rusqlite::ffi::SQLITE_IOERR_SHORT_READ);
    if !short {
        return error;
    }
    let mounts = Mounts::read();
    let kind = mounts.of(file).map_or_else(|| UNNAMED.to_owned(), in_words);
    error.advise(format!(
        "its file system ({kind}) gave fewer bytes of the database or its -wal than were written: check that disk, and \
         that nothing cuts these files; then open the database again"
    ))
}

/// Which file system something is on.
#[cfg(feature = "agent")]
pub(crate) struct FileSystem {
    /// As the system calls it: `ext4`.
    pub(crate) name: String,
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// Both, as a person reads them.
    pub(crate) words: String,
}

/// Which file system an existing path is on; `None` where the system lists no mounts.
#[cfg(feature = "agent")]
pub(crate) fn of(path: &Path) -> Option<FileSystem> {
    let mounts = Mounts::read();
    let mount = mounts.of(path)?;
    Some(FileSystem { name: mount.name.clone(), point: mount.point.clone(), words: in_words(mount) })
}

fn in_words(mount: &Mount) -> String {
    format!("{}, mounted at {}", mount.name, mount.point.display())
}

/// The way to a home.
struct Search<'a> {
    home: &'a Path,
    mounts: Mounts,
    helper: RefCell<Helper>,
}

/// What is at a path.
enum Found {
    Nothing,
    Folder,
    Link(PathBuf),
    Other,
}

impl<'a> Search<'a> {
    fn new(home: &'a Path) -> Self {
        Self { home, mounts: Mounts::read(), helper: RefCell::default() }
    }

    /// Follows the path as the kernel does, link by link; answers the last folder that exists, by its canonical path.
    /// Before each step, all that is left of the path is judged as it is written.
    fn nearest_folder(&mut self) -> Result<PathBuf> {
        let mut at = PathBuf::from("/");
        let mut left: Vec<OsString> = parts(self.home);
        let mut links = 0;
        loop {
            let rest: PathBuf = left.iter().rev().collect();
            self.veto(&mounts::written_out(&at.join(rest)))?;
            let Some(name) = left.pop() else { return Ok(at) };
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            if self.mount_appears(&next)? {
                left.push(name);
                continue;
            }
            match self.touch(&next, look)? {
                Found::Folder => at = next,
                Found::Nothing | Found::Other => return Ok(at),
                Found::Link(target) => {
                    links += 1;
                    if links > LINKS {
                        let error = io::Error::from_raw_os_error(libc::ELOOP);
                        return Err(Error::io("follow the links to the home", self.home, error));
                    }
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    left.extend(parts(&target));
                }
            }
        }
    }

    /// Refuses what the name of its file system rules out.
    fn veto(&self, path: &Path) -> Result<()> {
        match self.mounts.of(path) {
            Some(mount) => match mount.kind() {
                Kind::Refused(words) => Err(self.refusal(Some(mount), words)),
                Kind::Local | Kind::Unknown => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// Touches a folder of automatic mounts; true when something was mounted there.
    fn mount_appears(&mut self, path: &Path) -> Result<bool> {
        if !self.mounts.of(path).is_some_and(Mount::is_automatic) {
            return Ok(false);
        }
        // Of the calls that only look, this one mounts.
        self.touch(path, |path| match rustix::fs::statfs(path) {
            Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        })?;
        let now = Mounts::read();
        let appeared = now.of(path) != self.mounts.of(path);
        self.mounts = now;
        Ok(appeared)
    }

    /// Refuses what the magic number rules out: for a mount that is not listed, or has an unknown name.
    fn judge(&self, folder: &Path) -> Result<Kind> {
        let mount = self.mounts.of(folder);
        match (mount.map_or(Kind::Unknown, Mount::kind), self.touch(folder, kind_of)?) {
            (_, Kind::Refused(words)) => Err(self.refusal(mount, words)),
            (Kind::Local, _) | (_, Kind::Local) => Ok(Kind::Local),
            _ => Ok(Kind::Unknown),
        }
    }

    /// Refuses where locks do not hold.
    #[cfg(target_os = "linux")]
    fn try_locks(&self, folder: &Path) -> Result<()> {
        // Where no file can be made (no permission, no room), what comes next says so better.
        match self.ask(folder, |folder| Ok(probe::fault(folder).unwrap_or(None)))? {
            Some(fault) => {
                let kind = self.in_words(folder);
                Err(self.unsupported(format!(
                    "the home is on {kind}, where {fault}: a SQLite database gets damaged there"
                )))
            }
            None => Ok(()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unnecessary_wraps, clippy::unused_self)] // as on Linux
    fn try_locks(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    /// Looks at a path: directly where that cannot hang, else on the helper.
    fn touch<T: Send + 'static>(
        &self,
        path: &Path,
        look: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let way = self.mounts.way(path);
        if !way.is_empty() && way.iter().all(|mount| mount.kind() == Kind::Local) {
            return look(path).map_err(|error| access::refused("look at the file system", path, error));
        }
        self.ask(path, look)
    }

    /// Looks at a path on the helper.
    fn ask<T: Send + 'static>(
        &self,
        path: &Path,
        look: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let suspect = self.suspect(path);
        let refused = suspect.is_some_and(|mount| matches!(mount.kind(), Kind::Refused(_)));
        let limit = if refused { REFUSED_ANSWERS } else { UNKNOWN_ANSWERS };
        let point = suspect.map_or(path, |mount| &mount.point);
        let theirs = path.to_owned();
        let kind = || suspect.map_or_else(|| UNNAMED.to_owned(), in_words);
        let answer = self.helper.borrow_mut().ask(point, limit, move || look(&theirs));
        match answer {
            Ok(Some(Ok(found))) => Ok(found),
            Ok(Some(Err(error))) if refused => {
                let message = format!("the way to the home leads through {}, which fails: {error}", kind());
                Err(self.unsupported(message).caused_by(error))
            }
            Ok(Some(Err(error))) => Err(Error::io("look at the file system", path, error)),
            Ok(None) => {
                let message = format!("the way to the home leads through {}, which does not answer", kind());
                Err(self.unsupported(message))
            }
            Err(error) => Err(Error::io("start a thread that looks at the home", self.home, error)),
        }
    }

    /// The mount to blame when the way to a path is not passable: the last refused one, else the last unknown one.
    fn suspect(&self, path: &Path) -> Option<&Mount> {
        let way = self.mounts.way(path);
        let last = |bad: fn(Kind) -> bool| way.iter().rev().copied().find(|mount| bad(mount.kind()));
        last(|kind| matches!(kind, Kind::Refused(_))).or_else(|| last(|kind| kind == Kind::Unknown))
    }

    fn in_words(&self, path: &Path) -> String {
        self.mounts.of(path).map_or_else(|| UNNAMED.to_owned(), in_words)
    }

    fn unsupported(&self, message: String) -> Error {
        Error::new(ErrorKind::Unsupported, message).at_path(self.home).advise(way_out(&self.mounts))
    }

    fn refusal(&self, mount: Option<&Mount>, words: &str) -> Error {
        refusal("the home", self.home, mount, words, &self.mounts)
    }
}

/// The names in a path, the first one last.
fn parts(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

fn look(path: &Path) -> io::Result<Found> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if matches!(error.kind(), Os::NotFound | Os::NotADirectory) => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    Ok(match found {
        kind if kind.is_symlink() => Found::Link(fs::read_link(path)?),
        kind if kind.is_dir() => Found::Folder,
        _ => Found::Other,
    })
}

fn kind_of(folder: &Path) -> io::Result<Kind> {
    Ok(judged(&rustix::fs::statfs(folder)?))
}

#[cfg(target_os = "linux")]
fn judged(found: &rustix::fs::StatFs) -> Kind {
    kinds::by_magic(found.f_type as u32)
}

#[cfg(target_os = "macos")]
fn judged(found: &rustix::fs::StatFs) -> Kind {
    if found.f_flags & libc::MNT_LOCAL as u32 == 0 {
        Kind::Refused("a network file system")
    } else {
        Kind::Local
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn judged(_: &rustix::fs::StatFs) -> Kind {
    Kind::Unknown
}

fn refusal(what: &str, path: &Path, mount: Option<&Mount>, words: &str, mounts: &Mounts) -> Error {
    let place = mount.map(|mount| format!(" ({})", in_words(mount))).unwrap_or_default();
    Error::new(
        ErrorKind::Unsupported,
        format!("{what} is on {words}{place}, where a SQLite database gets damaged"),
    )
    .at_path(path)
    .advise(way_out(mounts))
}

/// What to do instead, with a folder that is on a local disk here.
fn way_out(mounts: &Mounts) -> String {
    let users = super::UserFolders::find().ok().map(|folders| folders.state.join("rowhouse"));
    let local = |folder: &PathBuf| {
        let mount = mounts.of(&mounts::written_out(folder));
        mount.is_none_or(|mount| !matches!(mount.kind(), Kind::Refused(_)))
    };
    let folder = users.filter(|folder| folder.is_absolute()).filter(local);
    let folder = folder.unwrap_or_else(|| PathBuf::from("/var/lib/rowhouse"));
    let folder = folder.display();
    format!(
        "choose a home on a local disk, with --home {folder} or ROWHOUSE_HOME={folder} for example (in a container: \
         on a volume, not in a folder of its host), or configure PostgreSQL"
    )
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
