//! Why SQLite could not open a database: its one code for that (`SQLITE_CANTOPEN`) names no file and no reason.
//!
//! Invariant: the database, its -wal and its -shm are looked at by name only, never opened.

use std::fs;
use std::io::ErrorKind as Os;
use std::path::Path;

use rustix::fs::Access;
use rustix::io::Errno;

use crate::error::{Error, ErrorKind};
use crate::home::with_ending;

/// What is in the way, if anything is.
struct Reason<'p> {
    kind: ErrorKind,
    message: &'static str,
    path: &'p Path,
    advice: &'static str,
}

/// Says which file could not be opened and why, when that can be seen; any other error stays as it is.
pub(super) fn explain(error: Error, database: &Path) -> Error {
    if error.sqlite_code().is_none_or(|code| code & 0xff != rusqlite::ffi::SQLITE_CANTOPEN) {
        return error;
    }
    let say = |reason: Reason<'_>| {
        error.clone().as_kind(reason.kind).worded(reason.message).at_path(reason.path).advise(reason.advice)
    };
    for ending in ["", "-wal", "-shm"] {
        let file = with_ending(database, ending);
        if let Some(reason) = look_at(&file, ending.is_empty()) {
            return say(reason);
        }
    }
    database.parent().and_then(look_at_folder).map_or_else(|| error.clone(), say)
}

fn look_at(file: &Path, must_exist: bool) -> Option<Reason<'_>> {
    let reason = |kind, message, advice| Some(Reason { kind, message, path: file, advice });
    match fs::symlink_metadata(file) {
        Ok(found) if found.is_dir() => {
            reason(ErrorKind::Invalid, "a folder is in the place of this file", "move the folder away")
        }
        Ok(found) if !found.is_file() => {
            reason(ErrorKind::Invalid, "something that is no file is in its place", "move it away")
        }
        Ok(_) if rustix::fs::access(file, Access::READ_OK | Access::WRITE_OK) == Err(Errno::ACCESS) => {
            reason(
                ErrorKind::ReadOnly,
                "your user may not read and write this file",
                "give your user permission to it, or choose another home",
            )
        }
        Err(error) if error.kind() == Os::PermissionDenied => reason(
            ErrorKind::ReadOnly,
            "your user may not enter the folder of this file",
            "give your user permission to that folder, or choose another home",
        ),
        Err(error) if must_exist && error.kind() == Os::NotFound => reason(
            ErrorKind::NotFound,
            "the file, or its folder, is not there any more",
            "put it back, or open the runtime again to create a new one",
        ),
        _ => None,
    }
}

fn look_at_folder(folder: &Path) -> Option<Reason<'_>> {
    let reason = |kind, message, advice| Some(Reason { kind, message, path: folder, advice });
    // Listing it needs a descriptor, like any open.
    let listed = fs::read_dir(folder).err().and_then(|error| error.raw_os_error());
    match listed.map(Errno::from_raw_os_error) {
        Some(Errno::MFILE | Errno::NFILE) => reason(
            ErrorKind::Io,
            "no file descriptor is left",
            "close files, or raise the limit of open files (ulimit -n)",
        ),
        _ if rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err() => reason(
            ErrorKind::ReadOnly,
            "your user may not create files in this folder, and SQLite needs two beside the database",
            "give your user write permission to the folder, or choose another home",
        ),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares files")]
mod tests {
    use super::*;

    fn cannot_open() -> Error {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        rusqlite::Error::SqliteFailure(code, None).into()
    }

    #[test]
    fn the_file_in_the_way_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("a.sqlite");
        let missing = explain(cannot_open(), &database);
        assert_eq!((missing.kind(), missing.path()), (ErrorKind::NotFound, Some(&*database)), "{missing}");

        fs::write(&database, "").expect("a file");
        let unknown = explain(cannot_open(), &database);
        assert_eq!((unknown.kind(), unknown.path()), (ErrorKind::Io, None), "{unknown}");

        for ending in ["-shm", "-wal", ""] {
            let taken = with_ending(&database, ending);
            let _ = fs::remove_file(&taken);
            fs::create_dir(&taken).expect("a folder");
            let error = explain(cannot_open(), &database);
            assert_eq!((error.kind(), error.path()), (ErrorKind::Invalid, Some(&*taken)), "{error}");
            assert!(error.sqlite_code().is_some() && error.advice().is_some(), "{error}");
        }
    }

    #[test]
    fn other_errors_stay_as_they_are() {
        let error = explain(Error::new(ErrorKind::Busy, "locked"), Path::new("/nowhere/a.sqlite"));
        assert_eq!((error.kind(), error.path()), (ErrorKind::Busy, None));
    }
}
