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
        Errno::ROFS => {
            Error::new(ErrorKind::ReadOnly, "the file system is mounted read-only").advise(format!(
                "mount it for writing, choose another home with --home or ROWHOUSE_HOME, {WITHOUT_KEEPING}"
            ))
        }
        Errno::ACCESS | Errno::PERM => {
            Error::new(ErrorKind::ReadOnly, format!("this user may not {what} it")).advise(remedy(path))
        }
        other => return Err(Error::io("look at", path, other.into())),
    };
    Err(error.at_path(path).caused_by(std::io::Error::from(errno)))
}

/// The command that gives this user access. A whole home is given at once: where one file has another owner, others
/// have too. Of a folder that holds other things as well, only what is in the way is.
fn remedy(path: &Path) -> String {
    let hidden = || format!("choose another home with --home or ROWHOUSE_HOME, {WITHOUT_KEEPING}");
    let Some((place, found)) = in_the_way(path) else { return hidden() };
    let home = if found.is_dir() && !place.ends_with("locks") { Some(place) } else { place.parent() };
    let home = home.and_then(|home| if home.ends_with("locks") { home.parent() } else { Some(home) });
    // What may not be listed is taken for a home, which its user named.
    let whole = home.filter(|home| super::holds_only_ours(home).unwrap_or(true));
    let (target, deep) = match whole {
        Some(home) => (quoted(home), "-R "),
        None => (quoted(place), ""),
    };
    let user = rustix::process::geteuid().as_raw();
    if found.uid() == user {
        return format!("run `chmod {deep}u+rwX {target}`, {WITHOUT_KEEPING}");
    }
    let command = format!("run `sudo chown {deep}{}: {target}`", super::user::name(user));
    if found.uid() == 0 {
        return format!("a program that ran as root left it: {command}, {WITHOUT_KEEPING}");
    }
    let owner = super::user::name(found.uid());
    format!("it belongs to {owner}; if it should be yours, {command}, {WITHOUT_KEEPING}")
}

/// What keeps this user from `path`: itself, or the folder that hides it.
fn in_the_way(path: &Path) -> Option<(&Path, Metadata)> {
    path.ancestors().find_map(|place| Some((place, fs::symlink_metadata(place).ok()?)))
}

/// A path as a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
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
