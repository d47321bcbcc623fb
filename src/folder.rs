//! Any folder with SQLite files in it, such as another program's home.
//!
//! Invariants:
//! 1. Nothing is created, changed or removed in it.
//! 2. Links are not followed, and a look ends after [`MOST_ENTRIES`] names.
//!
//! Tests: below; `tests/doctor_beside_others.rs`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::holders::who::{self, HomeHolders};
use crate::sqlite::look::{begins_as_database, is_database};

/// What SQLite files are usually called.
const ENDINGS: [&str; 5] = ["sqlite", "sqlite3", "db", "db3", "s3db"];
/// Folders below the given one that are looked into.
const DEEPEST: u8 = 3;
const MOST_ENTRIES: usize = 20_000;

/// A folder whose SQLite files may be another program's.
///
/// ```
/// # fn main() -> rowhouse::Result<()> {
/// # let folder = tempfile::tempdir().expect("a folder");
/// let folder = rowhouse::Folder::find(folder.path())?;
/// assert!(folder.databases().is_empty() && folder.who().databases.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    databases: Vec<(String, PathBuf)>,
}

impl Folder {
    /// True for a file that begins as every SQLite database does, even when the rest of it is damaged. What this user may not
    /// read is none. No lock that this process has on it is dropped, as closing a descriptor of it would.
    pub fn is_database(path: &Path) -> bool {
        // SQLite follows no link, not even to a folder.
        fs::canonicalize(path).is_ok_and(|path| begins_as_database(&path))
    }

    /// Looks for SQLite files (`.sqlite`, `.sqlite3`, `.db`, `.db3`, `.s3db`, by their first bytes) in a folder and up to
    /// three folders below it. Links are not followed; of more than 20,000 names the first count.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for what is no folder, `ReadOnly` where this user may not look, of the system.
    pub fn find(path: &Path) -> Result<Self> {
        let failed = |error| Error::io("look into the folder", path, error);
        let folder = fs::canonicalize(path).map_err(failed)?;
        if !folder.is_dir() {
            return Err(Error::new(ErrorKind::Invalid, "a folder is needed here, this is a file")
                .at_path(&folder)
                .advise("name the folder it lies in"));
        }
        fs::read_dir(&folder).map_err(failed)?;
        let mut databases: Vec<_> = candidates(&folder)
            .into_iter()
            .filter(|path| is_database(path))
            .filter_map(|path| {
                let name = path.strip_prefix(&folder).ok()?.to_string_lossy().into_owned();
                Some((name, path))
            })
            .collect();
        databases.sort();
        Ok(Self { path: folder, databases })
    }

    /// Its path, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The SQLite files, by their path in the folder.
    pub fn databases(&self) -> Vec<(String, PathBuf)> {
        self.databases.clone()
    }

    /// Who has them open, writes, reads, or keeps deleted ones. Takes no lock and opens none of them.
    pub fn who(&self) -> HomeHolders {
        who::who_of_files(&self.path, self.databases.clone())
    }
}

/// Plain files that are named like a database and are long enough to be one.
fn candidates(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut seen) = (Vec::new(), 0);
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        // One that may not be listed holds nothing that could be looked at.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MOST_ENTRIES {
                return found;
            }
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            if kind.is_dir() && depth < DEEPEST {
                folders.push((path, depth + 1));
            } else if kind.is_file() && path.extension().and_then(OsStr::to_str).is_some_and(is_ending) {
                found.push(path);
            }
        }
    }
    found
}

fn is_ending(ending: &str) -> bool {
    ENDINGS.contains(&ending)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares files from outside")]
mod tests {
    use super::*;

    #[test]
    fn databases_are_known_by_their_name_and_their_first_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for below in ["a/b/c", "a/b/c/d", "link"] {
            fs::create_dir_all(at(below)).expect("a folder");
        }
        for name in ["state_5.sqlite", "a/b/c/cache.db", "a/b/c/d/too_deep.db", "notes.txt"] {
            rusqlite::Connection::open(at(name))
                .and_then(|database| database.execute_batch("CREATE TABLE t(a)"))
                .expect("a database");
        }
        fs::write(at("text.db"), "not a database, however long this text may be").expect("a file");
        fs::write(at("empty.db"), "").expect("a file");
        std::os::unix::fs::symlink(at("state_5.sqlite"), at("link/state.sqlite")).expect("a link");
        let found = Folder::find(folder.path()).expect("a folder");
        let names: Vec<_> = found.databases().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a/b/c/cache.db", "state_5.sqlite"]);
        assert_eq!(Folder::find(&at("missing")).expect_err("missing").kind(), ErrorKind::NotFound);
        assert_eq!(Folder::find(&at("text.db")).expect_err("a file").kind(), ErrorKind::Invalid);
    }
}
