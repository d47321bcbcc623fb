//! What this user may do with a file or a folder, and what to do where that is too little.
//!
//! Asked with access(2), by path: nothing is opened. A sandbox may still refuse what this allows; whoever opens finds
//! out then.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::Access;
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};

/// The way out that every such refusal names.
pub(crate) const WITHOUT_KEEPING: &str = "or run without keeping anything: Builder::ephemeral()";

/// Refuses what this user may not read and write.
///
/// # Errors
/// `ReadOnly`, with the command that helps; `NotFound`; of the system.
pub(crate) fn writable(path: &Path) -> Result<()> {
    allowed(path, "write", Access::READ_OK | Access::WRITE_OK)
}

/// Refuses a folder in which this user may not create files.
///
/// # Errors
/// As [`writable`].
pub(crate) fn writable_folder(path: &Path) -> Result<()> {
    allowed(path, "write in", Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
}

/// Refuses a file that this user may not read.
///
/// # Errors
/// As [`writable`].
pub(crate) fn readable(path: &Path) -> Result<()> {
    allowed(path, "read", Access::READ_OK)
}

/// Refuses a folder that this user may not look into.
///
/// # Errors
/// As [`writable`].
pub(crate) fn readable_folder(path: &Path) -> Result<()> {
    allowed(path, "read", Access::READ_OK | Access::EXEC_OK)
}

fn allowed(path: &Path, what: &str, wanted: Access) -> Result<()> {
    let Err(errno) = rustix::fs::access(path, wanted) else { return Ok(()) };
    let error = match errno {
        Errno::ROFS => Error::new(ErrorKind::ReadOnly, "the file system is mounted read-only").advise(
            format!("mount it for writing, choose another home with --home or ROWHOUSE_HOME, {WITHOUT_KEEPING}"),
        ),
        Errno::ACCESS | Errno::PERM => {
            Error::new(ErrorKind::ReadOnly, format!("this user may not {what} it")).advise(remedy(path))
        }
        other => return Err(Error::io("look at", path, other.into())),
    };
    Err(error.at_path(path).caused_by(std::io::Error::from(errno)))
}

/// The command that gives this user access. A whole home is given at once: where one file has another owner, others
/// have too.
fn remedy(path: &Path) -> String {
    let Some((place, found)) = obstacle(path) else {
        return format!("choose another home with --home or ROWHOUSE_HOME, {WITHOUT_KEEPING}");
    };
    let user = rustix::process::geteuid().as_raw();
    let target = quoted(place);
    if found.uid() == user {
        return format!("run `chmod -R u+rwX {target}`, {WITHOUT_KEEPING}");
    }
    let command = format!("run `sudo chown -R {}: {target}`", super::user::name(user));
    if found.uid() == 0 {
        return format!("a program that ran as root left it: {command}, {WITHOUT_KEEPING}");
    }
    let owner = super::user::name(found.uid());
    format!("it belongs to {owner}; if it is yours, {command}, {WITHOUT_KEEPING}")
}

/// What has to change hands: the home around `path` when everything in it is a home's, else `path` itself.
fn obstacle(path: &Path) -> Option<(&Path, Metadata)> {
    let found = fs::symlink_metadata(path).ok()?;
    let home = path.parent().filter(|_| !found.is_dir() || path.ends_with("locks"));
    let home = home.map(|above| if above.ends_with("locks") { above.parent().unwrap_or(above) } else { above });
    match home.filter(|home| super::holds_only_ours(home).unwrap_or(false)) {
        Some(home) => Some((home, found)),
        None => Some((path, found)),
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/_.-+,@".contains(c);
    if text.chars().all(plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_for_the_shell_only_where_it_must_be() {
        assert_eq!(quoted(Path::new("/home/ann/.local/state")), "/home/ann/.local/state");
        assert_eq!(quoted(Path::new("/home/ann/my files")), "'/home/ann/my files'");
        assert_eq!(quoted(Path::new("/a'b")), r"'/a'\''b'");
    }

    #[test]
    fn what_is_missing_is_said_to_be_missing() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = writable(&folder.path().join("none")).expect_err("missing");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        writable_folder(folder.path()).expect("its own folder");
    }
}
