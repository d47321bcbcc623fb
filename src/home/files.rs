//! Files as the home wants them: private from the first byte, whole or not there.
//!
//! Invariant: nothing here opens a database, its -wal or its -shm, but for [`read_log_header`], [`is_hot_journal`] and
//! [`open_index`], which say why they may. Closing any descriptor of such a file drops
//! all of this process's SQLite locks on it (<https://sqlite.org/howtocorrupt.html>, section 2.2). Everywhere else
//! clippy refuses to open files (`disallowed-methods`), so that whoever needs to comes here and reads this.
//! `tests/p4_no_call_drops_our_locks.rs` looks at the locks around every public call.

#![allow(clippy::disallowed_methods, reason = "the one place that opens files")]

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{ErrorKind as Os, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// Creates a file that was not there: mode 0600, close-on-exec, open to read and write.
///
/// For a database, drop the answer before anybody else in this process can open it.
///
/// # Errors
/// `Conflict` when something of that name exists; `ReadOnly`, `Full` or `Io` from the system.
pub(crate) fn create_private_file(path: &Path) -> Result<File> {
    // The standard library opens with O_CLOEXEC; `create_new` is O_EXCL, which follows no link either.
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        if error.kind() == Os::AlreadyExists {
            return Error::new(ErrorKind::Conflict, "the file exists already").at_path(path).caused_by(error);
        }
        Error::io("create the file", path, error)
    })
}

/// Opens a lock file, creating it with mode 0600. It is never removed: that would split those who wait for it.
///
/// # Errors
/// `ReadOnly`, `Full` or `Io` from the system.
pub(crate) fn open_lock_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| Error::io("open the lock file", path, error))
}

const ZERO: [u8; 8] = [0; 8];
const NUMBER: u64 = ZERO.len() as u64;

/// Opens a file of one number of eight bytes; a new one holds 0. It has its length from the moment on when it has its name,
/// and its place on the disk, so that it can be mapped. It is never removed.
///
/// # Errors
/// `ReadOnly`, `Full` or `Io` from the system.
pub(crate) fn open_number(path: &Path) -> Result<File> {
    let failed = |error| Error::io("open the file", path, error);
    let open = || OpenOptions::new().read(true).write(true).open(path);
    match open() {
        Err(error) if error.kind() == Os::NotFound => {}
        opened => {
            let file = opened.map_err(failed)?;
            if file.metadata().map_err(failed)?.len() < NUMBER {
                fill_up(&file).map_err(failed)?;
            }
            return Ok(file);
        }
    }
    let folder = path.parent().unwrap_or(path);
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder).map_err(failed)?;
    file.write_all(&ZERO).map_err(failed)?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != Os::AlreadyExists => Err(failed(error.error)),
        // Somebody else's, or ours.
        _ => open().map_err(failed),
    }
}

/// Gives a number that somebody emptied its length again: mapped as it is, it would kill the process that looks. One at a time,
/// and after another look: another process may have filled it up, and have counted since.
fn fill_up(file: &File) -> std::io::Result<()> {
    file.lock()?;
    let filled = file.metadata().and_then(|found| {
        let length = found.len().min(NUMBER);
        file.write_all_at(&ZERO[length as usize..], length)
    });
    // It ends with the descriptor in any case.
    let _ = file.unlock();
    filled
}

/// Takes other users' access away from a file or folder of this user's. Nothing is opened: the mode of a database may
/// change while this process has it open. What is missing, a link, or somebody else's stays as it is.
///
/// # Errors
/// `ReadOnly` or `Io` from the system.
pub(crate) fn tighten(path: &Path) -> Result<()> {
    let failed = |error| Error::io("make it private", path, error);
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == Os::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let private = match found.file_type() {
        kind if kind.is_dir() => 0o700,
        kind if kind.is_file() => 0o600,
        _ => return Ok(()),
    };
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    if !ours || found.mode() & 0o777 & !private == 0 {
        return Ok(());
    }
    match fs::set_permissions(path, fs::Permissions::from_mode(found.mode() & private)) {
        // A page or a log that ended meanwhile.
        Err(error) if error.kind() == Os::NotFound => Ok(()),
        changed => changed.map_err(failed),
    }
}

/// The content of a file that is no database: a setting, something of the kernel's.
///
/// # Errors
/// From the system.
pub(crate) fn read_file(path: impl AsRef<Path>) -> std::io::Result<Vec<u8>> {
    debug_assert!(!may_be_a_database(path.as_ref()));
    fs::read(path)
}

/// The length of a write-ahead log's header.
pub(crate) const LOG_HEADER: usize = 32;

/// The header of a write-ahead log that holds something; `None` where there is none. Without a lock: SQLite locks the main
/// file and the -shm, never the log itself, so that closing a descriptor of it drops nothing.
///
/// # Errors
/// From the system.
pub(crate) fn read_log_header(log: &Path) -> std::io::Result<Option<[u8; LOG_HEADER]>> {
    use std::io::Read;
    let mut bytes = [0; LOG_HEADER];
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(log) {
        Err(error) if error.kind() == Os::NotFound => return Ok(None),
        opened => opened?,
    };
    // A log ends with a frame, which is longer than that; what a crash left before the first one holds nothing.
    if file.metadata()?.len() <= 2 * LOG_HEADER as u64 {
        return Ok(None);
    }
    (&file).read_exact(&mut bytes)?;
    Ok((bytes != [0; LOG_HEADER]).then_some(bytes))
}

/// True for a rollback journal that has something to roll back: it begins with its magic number, which a finished
/// transaction takes away (<https://sqlite.org/fileformat.html>, section 3). What cannot be read counts. SQLite locks the main
/// file and the -shm, never a journal, so that closing a descriptor of it drops nothing.
pub(crate) fn is_hot_journal(journal: &Path) -> bool {
    use std::io::Read;
    const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    let mut bytes = [0; MAGIC.len()];
    match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(journal) {
        Ok(mut file) => match file.read_exact(&mut bytes) {
            Ok(()) => bytes == MAGIC,
            Err(error) => error.kind() != Os::UnexpectedEof,
        },
        Err(error) => error.kind() != Os::NotFound,
    }
}

/// Opens the index of a log, to lock it. Closing it drops the locks that this process's connections have on it: for a
/// database that is being set aside, to which it has none.
///
/// # Errors
/// From the system.
#[cfg(target_os = "linux")]
pub(crate) fn open_index(index: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(index)
}

/// Opens a file that is no database, to read it.
///
/// # Errors
/// From the system.
pub(crate) fn open_to_read(path: &Path) -> std::io::Result<File> {
    debug_assert!(!may_be_a_database(path));
    File::open(path)
}

/// The content of a file of at most `longest` bytes, and what was found of it; `None` when there is none. For secrets: only a
/// plain file with one name, never through a link; what was read of it is erased when it is dropped.
///
/// # Errors
/// `Invalid` for everything else, and for a longer one; of the system.
#[cfg(feature = "device-keys")]
pub(crate) fn read_private_file(
    path: &Path,
    longest: usize,
) -> Result<Option<(zeroize::Zeroizing<Vec<u8>>, Metadata)>> {
    use std::io::Read;
    debug_assert!(!may_be_a_database(path));
    let failed = |error| Error::io("read the file", path, error);
    let refused = |what| {
        Err(Error::new(ErrorKind::Invalid, what)
            .at_path(path)
            .advise("move it away; put the file itself in its place"))
    };
    // O_NONBLOCK: a pipe without a writer does not keep us.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == Os::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return refused("the file is a symbolic link");
        }
        Err(error) => return Err(failed(error)),
    };
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return refused("this is not a regular file");
    }
    if found.nlink() > 1 {
        return refused("the file has a second name (a hard link)");
    }
    let length = match usize::try_from(found.len()) {
        Ok(length) if length <= longest => length,
        _ => return refused("the file is longer than any of its kind"),
    };
    let mut bytes = zeroize::Zeroizing::new(vec![0; length]);
    file.read_exact(&mut bytes).map_err(failed)?;
    Ok(Some((bytes, found)))
}

/// True while the name leads to the open file.
pub(crate) fn is_at(opened: &File, path: &Path) -> bool {
    match (opened.metadata(), fs::symlink_metadata(path)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// True for the names of databases and of what lies beside them.
fn may_be_a_database(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(".sqlite"))
}

/// The path with something after its name: `state.sqlite` and `-wal`.
pub(crate) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Replaces a file: readers find the old or the new content, whole, and after a power cut as well. Mode 0600.
///
/// # Errors
/// `ReadOnly`, `Full` or `Io` from the system; the old file is then untouched.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let writing = |error| Error::io("write the file", path, error);
    let folder = path.parent().ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "a file is needed here, not the root folder").at_path(path)
    })?;
    // `tempfile` creates with mode 0600 and removes the file again when it is dropped before `persist`.
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder).map_err(writing)?;
    file.write_all(bytes).map_err(writing)?;
    file.as_file().sync_all().map_err(writing)?;
    file.persist(path).map_err(|error| writing(error.error))?;
    sync_folder(folder)
}

/// Gives a file another name, which nothing has. In one step where the file system can (renameat2(2)); elsewhere somebody who
/// takes the name at that very moment loses it.
///
/// # Errors
/// `AlreadyExists`; of the system.
pub(crate) fn rename_to_free_name(from: &Path, to: &Path) -> std::io::Result<()> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            done => return done.map_err(Into::into),
        }
    }
    match fs::symlink_metadata(to) {
        Ok(_) => Err(Os::AlreadyExists.into()),
        Err(error) if error.kind() == Os::NotFound => fs::rename(from, to),
        Err(error) => Err(error),
    }
}

/// Makes the names in a folder durable.
///
/// # Errors
/// `Io` from the system.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|opened| opened.sync_all())
        .map_err(|error| Error::io("make the folder durable", folder, error))
}

/// The bytes of a file system, and those of them that this user may still fill.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) free: u64,
    pub(crate) total: u64,
}

/// How much room there is where a folder is.
///
/// # Errors
/// `Io` from the system.
pub(crate) fn room(folder: &Path) -> Result<Room> {
    let found = rustix::fs::statvfs(folder)
        .map_err(|error| Error::io("look at the free space", folder, error.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Room { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
}

/// Refuses to go on unless the file system of a folder has this much room for `what`.
///
/// # Errors
/// `Full` with the numbers; `Io` from the system.
pub(crate) fn refuse_too_full(needed: u64, folder: &Path, what: &str) -> Result<()> {
    let Room { free, .. } = room(folder)?;
    if free >= needed {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Full, format!("{what} needs {needed} bytes of free space, {free} are there"))
        .at_path(folder)
        .advise("free some space on that disk, or choose a folder on another one"))
}

/// Looks at a database file without opening it; `None` when there is none. The path's folder is a canonical one.
///
/// # Errors
/// `Invalid` for a symbolic link, a file with a second name (hard link), one that is mounted by itself, a folder or a
/// device: two names for one database mean two write-ahead logs, and damage
/// (<https://sqlite.org/howtocorrupt.html>, section 2.4). `Unsupported` for one that is mounted from a file system that
/// cannot hold a database; that one is not even touched.
pub(crate) fn check_database_file(path: &Path) -> Result<Option<Metadata>> {
    super::file_system::check_file(path)?;
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == Os::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("look at the database file", path, error)),
    };
    let kind = found.file_type();
    let (what, advice) = if kind.is_symlink() {
        ("the database file is a symbolic link", "put the database itself here, or use the home it leads to")
    } else if kind.is_dir() {
        ("a folder is in the database file's place", "move the folder away")
    } else if !kind.is_file() {
        ("the database file is not a regular file", "move it away")
    } else if found.nlink() > 1 {
        ("the database file has a second name (a hard link)", "remove the other name, or copy the file")
    } else {
        return Ok(Some(found));
    };
    Err(Error::new(ErrorKind::Invalid, what).at_path(path).advise(advice))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("a file").permissions().mode() & 0o777
    }

    #[test]
    fn a_private_file_is_new_and_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        drop(create_private_file(&path).expect("created"));
        assert_eq!(mode(&path), 0o600);
        assert_eq!(create_private_file(&path).expect_err("exists").kind(), ErrorKind::Conflict);
        symlink(folder.path().join("elsewhere"), folder.path().join("link")).expect("a link");
        assert!(create_private_file(&folder.path().join("link")).is_err());
    }

    #[test]
    fn a_name_that_is_taken_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let [from, to, link] = ["from", "to", "link"].map(|name| folder.path().join(name));
        fs::write(&from, "new").expect("a file");
        fs::write(&to, "old").expect("a file");
        symlink(folder.path().join("nowhere"), &link).expect("a link");
        for taken in [&to, &link] {
            let error = rename_to_free_name(&from, taken).expect_err("taken");
            assert_eq!(error.kind(), Os::AlreadyExists);
        }
        assert_eq!(fs::read_to_string(&to).expect("a file"), "old");
        fs::remove_file(&to).expect("removed");
        rename_to_free_name(&from, &to).expect("free");
        assert_eq!(fs::read_to_string(&to).expect("a file"), "new");
        let error = rename_to_free_name(&from, &folder.path().join("other")).expect_err("there is none");
        assert_eq!(error.kind(), Os::NotFound);
    }

    #[test]
    fn an_atomic_write_replaces_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        for text in ["one", "two"] {
            write_atomically(&path, text.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("text"), text);
        }
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("a list").count(), 1);
        let missing = write_atomically(&folder.path().join("no/a"), b"").expect_err("no folder");
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_number_that_was_emptied_is_filled_up_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        fs::write(&path, [7, 0, 0]).expect("cut short");
        let counts = open_number(&path).expect("filled up");
        assert_eq!(fs::read(&path).expect("a number"), [7, 0, 0, 0, 0, 0, 0, 0], "what is there is kept");
        // Two find it empty; one is faster, and counts before the other one goes on.
        let zeroes = |file: &File| file.write_all_at(&ZERO, 0).expect("written");
        for (late, left) in [(zeroes as fn(&File), 0), (|file| fill_up(file).expect("filled up"), 1)] {
            fs::write(&path, "").expect("emptied");
            let found_short = File::options().read(true).write(true).open(&path).expect("opened");
            fill_up(&counts).expect("filled up");
            counts.write_all_at(&[1], 0).expect("counted");
            late(&found_short);
            assert_eq!(fs::read(&path).expect("a number")[0], left, "without a second look it is lost");
        }
    }

    #[test]
    fn only_a_plain_file_with_one_name_is_a_database() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        assert!(check_database_file(&at("a")).expect("nothing").is_none());
        fs::write(at("a"), "four").expect("written");
        assert_eq!(check_database_file(&at("a")).expect("fine").map(|found| found.len()), Some(4));

        symlink(at("a"), at("link")).expect("a link");
        symlink(at("nowhere"), at("dangling")).expect("a link");
        fs::create_dir(at("folder")).expect("a folder");
        fs::hard_link(at("a"), at("second")).expect("a second name");
        for name in ["link", "dangling", "folder", "second", "a"] {
            let error = check_database_file(&at(name)).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert_eq!(error.path(), Some(&*at(name)));
            assert!(error.advice().is_some(), "{error}");
        }
    }

    #[test]
    fn a_disk_without_room_is_told_with_numbers() {
        let folder = tempfile::tempdir().expect("a folder");
        refuse_too_full(1, folder.path(), "it").expect("a byte is free");
        let error = refuse_too_full(u64::MAX, folder.path(), "it").expect_err("nobody has so much");
        assert_eq!(error.kind(), ErrorKind::Full);
        assert!(error.message().contains(&u64::MAX.to_string()) && error.advice().is_some(), "{error}");
    }
}
