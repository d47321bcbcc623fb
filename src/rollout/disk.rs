//! Every step by which a transcript changes on the disk, one function each.
//!
//! Invariants:
//! 1. Nothing else in [`rollout`](super) creates, writes, cuts, syncs, renames or removes a file. So a test that stops
//!    a process before each step has stopped it everywhere it can leave traces (`tests/rollout_crashes.rs`).
//! 2. Nothing here opens a database: the names are those of transcripts and of what lies beside them.
//! 3. A rename never replaces a file; [`replace`] does, for one of which the new one holds all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::faults::{Outcome, Step, ask};
use crate::home;

/// Opens a transcript: never through a symbolic link, and never waiting for a pipe's other end.
pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, false)
}

/// The same, to append to it.
pub(super) fn open_to_write(path: &Path) -> io::Result<File> {
    open(path, true)
}

#[allow(clippy::disallowed_methods, reason = "a transcript, found by its name, is no database")]
fn open(path: &Path, write: bool) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).write(write).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a plain file"));
    }
    Ok(file)
}

/// Creates a file that was not there, mode 0600, open to read and write.
pub(super) fn create(path: &Path) -> crate::Result<File> {
    go(&Step::Create(path)).map_err(|error| crate::Error::io("create the file", path, error))?;
    home::create_private_file(path)
}

/// Creates a folder in another one, unless it is there.
pub(super) fn create_folder(parent: &Path, name: &str) -> crate::Result<std::path::PathBuf> {
    let path = parent.join(name);
    if !path.is_dir() {
        go(&Step::Create(&path)).map_err(|error| crate::Error::io("create the folder", &path, error))?;
    }
    home::private_folder(parent, name)
}

/// Writes at a place; all of it, or an error and some of it.
pub(super) fn write_at(file: &File, path: &Path, bytes: &[u8], at: u64) -> io::Result<()> {
    match ask(&Step::Write { path, at, bytes }) {
        Outcome::Goes => file.write_all_at(bytes, at),
        Outcome::Fails(code) => Err(io::Error::from_raw_os_error(code)),
        Outcome::Stops { after, code } => {
            file.write_all_at(&bytes[..after.min(bytes.len())], at)?;
            Err(io::Error::from_raw_os_error(code))
        }
    }
}

/// Makes a file's content durable.
pub(super) fn sync(file: &File, path: &Path) -> io::Result<()> {
    go(&Step::Sync(path))?;
    file.sync_data()
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> crate::Result<()> {
    go(&Step::SyncFolder(folder))
        .map_err(|error| crate::Error::io("make the folder durable", folder, error))?;
    home::sync_folder(folder)
}

/// Makes the names of a folder and of those above it durable, down from the home: another process may have made them a
/// moment ago, and not be there yet.
pub(super) fn sync_folders(home: &Path, folder: &Path) -> crate::Result<()> {
    folder.ancestors().take_while(|above| above.starts_with(home)).try_for_each(sync_folder)
}

/// Cuts a file off.
pub(super) fn cut(file: &File, path: &Path, to: u64) -> io::Result<()> {
    go(&Step::Cut { path, to })?;
    file.set_len(to)
}

/// Gives a file another name, which nothing may have yet.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    go(&Step::Rename { from, to })?;
    home::rename_to_free_name(from, to)
}

/// Puts a file in the place of another one.
pub(super) fn replace(from: &Path, to: &Path) -> io::Result<()> {
    go(&Step::Rename { from, to })?;
    fs::rename(from, to)
}

/// Removes a file.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    go(&Step::Remove(path))?;
    fs::remove_file(path)
}

/// Removes an empty folder.
pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    go(&Step::Remove(path))?;
    fs::remove_dir(path)
}

fn go(step: &Step<'_>) -> io::Result<()> {
    match ask(step) {
        Outcome::Goes => Ok(()),
        Outcome::Fails(code) | Outcome::Stops { code, .. } => Err(io::Error::from_raw_os_error(code)),
    }
}
