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

const MOUNTED_READ_ONLY: &str = "the file system is mounted read-only";

/// Whether one of these refusals is about the mount, and so about everything on it.
#[cfg(feature = "agent")]
pub(crate) fn is_of_the_mount(error: &Error) -> bool {
    error.message() == MOUNTED_READ_ONLY
}

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

/// Why the system did not let this user look at a path: names what hides it, and whose that is.
pub(super) fn refused(doing: &'static str, path: &Path, error: std::io::Error) -> Error {
    let hidden =
        (error.kind() == std::io::ErrorKind::PermissionDenied).then(|| readable(path).err()).flatten();
    hidden.unwrap_or_else(|| Error::io(doing, path, error))
}

fn allowed(path: &Path, what: &str, wanted: Access) -> Result<()> {
    let Err(errno) = rustix::fs::access(path, wanted) else { return Ok(()) };
    let error = match errno {
        Errno::ROFS => Error::new(ErrorKind::ReadOnly, MOUNTED_READ_ONLY).advise(format!(
            "mount it for writing, choose another home with --home or ROWHOUSE_HOME, {WITHOUT_KEEPING}"
        )),
        Errno::ACCESS | Errno::PERM => {
            Error::new(ErrorKind::ReadOnly, format!("this user may not {what} it")).advise(remedy(path))
        }
        other => return Err(Error::io("look at", path, other.into())),
    };
    Err(error.at_path(path).caused_by(std::io::Error::from(errno)))
}

/// How this user gets access: a command that gives back what is theirs, or as whom to run where it is another's. A whole
/// home is given back at once: where one file has another owner, others have too. Of a folder that holds other things as
/// well, only what is in the way is.
fn remedy(path: &Path) -> String {
    let Some((place, found)) = in_the_way(path) else {
        return format!("choose another home with --home or ROWHOUSE_HOME, {WITHOUT_KEEPING}");
    };
    let user = rustix::process::geteuid().as_raw();
    let home = home_of(path, place, found.is_dir());
    // What may not be listed is taken for a home, which its user named.
    let whole = home.filter(|home| super::holds_only_ours(home).unwrap_or(true));
    let (target, deep) = match whole {
        Some(home) => (quoted(home), "-R "),
        None => (quoted(place), ""),
    };
    if found.uid() == user {
        return format!("run `chmod {deep}u+rwX {target}`, {WITHOUT_KEEPING}");
    }
    let owner = super::user::name(found.uid());
    let give_back = format!("run `sudo chown {deep}{}: {target}`", super::user::name(user));
    let is_ours = |home: &Path| fs::symlink_metadata(home).is_ok_and(|found| found.uid() == user);
    if home.is_some_and(is_ours) {
        return format!(
            "it belongs to {owner}, in a home of yours, as a run with sudo leaves it: {give_back}, {WITHOUT_KEEPING}"
        );
    }
    let Some(home) = home else {
        return format!(
            "{} belongs to {owner}: {}, or choose another home with --home or ROWHOUSE_HOME, {WITHOUT_KEEPING}",
            quoted(place),
            as_owner(&owner, path)
        );
    };
    let as_owner = as_owner(&owner, home);
    if found.uid() == 0 {
        return format!(
            "it belongs to root: {as_owner}; if a run with sudo made it for you, {give_back}, {WITHOUT_KEEPING}"
        );
    }
    format!("it belongs to {owner}: {as_owner}, {WITHOUT_KEEPING}")
}

/// What to do with a home that is another user's, and stays so.
pub(crate) fn as_owner(owner: &str, home: &Path) -> String {
    format!("run as that user (`sudo -u {owner} rowhouse --home {} ...`)", quoted(home))
}

/// The home that a path lies in, where `place` is what keeps this user from it; `None` for a folder above, which may hold
/// anything.
fn home_of<'p>(path: &'p Path, place: &'p Path, is_folder: bool) -> Option<&'p Path> {
    let below = path.strip_prefix(place).ok().and_then(|below| below.iter().next());
    let hides_a_home = below.is_some_and(|name| !super::is_ours(&name.to_string_lossy()));
    if hides_a_home && !place.ends_with("locks") {
        return None;
    }
    let home = if is_folder && !place.ends_with("locks") { Some(place) } else { place.parent() };
    home.and_then(|home| if home.ends_with("locks") { home.parent() } else { Some(home) })
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
    fn a_folder_above_a_home_is_nobodys_home() {
        for (path, place, is_folder, home) in [
            ("/h", "/h", true, Some("/h")),
            ("/h/state.sqlite", "/h/state.sqlite", false, Some("/h")),
            ("/h/state.sqlite", "/h", true, Some("/h")),
            ("/h/locks/state.room", "/h/locks/state.room", false, Some("/h")),
            ("/h/locks/state.room", "/h/locks", true, Some("/h")),
            ("/h/locks", "/h", true, Some("/h")),
            ("/root/.local/state/rowhouse", "/root", true, None),
            ("/root/.local/state/rowhouse/state.sqlite", "/root", true, None),
            ("/srv/bob/state.sqlite", "/srv", true, None),
        ] {
            let found = home_of(Path::new(path), Path::new(place), is_folder);
            assert_eq!(found, home.map(Path::new), "{path} behind {place}");
        }
    }

    #[test]
    fn what_is_missing_is_said_to_be_missing() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = writable(&folder.path().join("none")).expect_err("missing");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        writable_folder(folder.path()).expect("its own folder");
    }
}
