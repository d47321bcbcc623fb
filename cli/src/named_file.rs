//! A file that a person named: whole or not there, for its owner alone, and in place of another one only with `--force`.
//!
//! Invariants: what appears under the name meanwhile is not replaced either, unless asked for; a device, a pipe, a folder
//! or a database is never replaced; what was begun is removed when it fails and when a signal ends the program.
//!
//! Tests: below; `cli/tests/asking_first.rs`, `cli/tests/logs.rs`, `cli/tests/support.rs`.

use std::io::{BufWriter, ErrorKind as System, Write};
use std::path::Path;

use anyhow::Result;
use clap::Args;
use rowhouse::{Error, ErrorKind, Folder};

use crate::signals;

/// Of every command that writes a file under a name that a person gives it.
#[derive(Args, Clone, Copy)]
pub(crate) struct Overwrite {
    /// Replace the file that is there
    #[arg(long)]
    force: bool,
}

impl Overwrite {
    /// For files that are the command's own.
    pub(crate) const OWN: Self = Self { force: true };

    /// Before work that would be for nothing.
    ///
    /// # Errors
    /// `Conflict` when a file is there and may not be replaced; `Invalid` when what is there is never replaced.
    pub(crate) fn look(self, path: &Path) -> Result<(), Error> {
        let invalid = |message: &'static str, advice: &'static str| {
            Err(Error::new(ErrorKind::Invalid, message).at_path(path).advise(advice))
        };
        if path.is_dir() {
            return invalid("this is a folder; nothing was written", "name a file in it");
        }
        let folder = folder_of(path);
        if !folder.is_dir() {
            return Err(Error::new(ErrorKind::NotFound, "there is no such folder; nothing was written")
                .at_path(folder)
                .advise("make it first (mkdir -p), or name a file in another one"));
        }
        // A device or a pipe would be replaced by a file.
        if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            let advice = "name another file; where the command writes to standard output, redirect that";
            return invalid("what is there is no file; nothing was written", advice);
        }
        if Folder::is_database(path) {
            let advice = "name another file; a database that nobody needs is removed with rm";
            return invalid("what is there is a database; nothing was written", advice);
        }
        if !self.force && path.symlink_metadata().is_ok() {
            return Err(is_there(path));
        }
        Ok(())
    }

    /// Writes the file; it has its name when everything was written.
    ///
    /// # Errors
    /// Those of [`look`](Self::look); of `write`; of the system.
    pub(crate) fn write<R>(self, path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<R>) -> Result<R> {
        self.look(path)?;
        let failed = |error| Error::io("write the file", path, error);
        let begun = tempfile::Builder::new().prefix(".rowhouse-").tempfile_in(folder_of(path));
        let mut file = begun.map_err(failed)?;
        let _at_end = signals::remove_file_at_end(file.path());
        let mut buffered = BufWriter::new(&mut file);
        let done = write(&mut buffered)?;
        buffered.flush().map_err(failed)?;
        drop(buffered);
        let named = if self.force { file.persist(path) } else { file.persist_noclobber(path) };
        named.map_err(|error| match error.error.kind() {
            System::AlreadyExists => is_there(path),
            _ => failed(error.error),
        })?;
        Ok(done)
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn is_there(path: &Path) -> Error {
    Error::new(ErrorKind::Conflict, "the file exists already; nothing was written")
        .at_path(path)
        .advise("name another one, or replace it with --force")
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test looks at files from outside")]
mod tests {
    use std::fs;

    use super::*;

    /// Control: with `--force` it is replaced.
    #[test]
    fn a_file_that_comes_meanwhile_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("page.html");
        let write = |overwrite: Overwrite| {
            overwrite.write(&path, |to| {
                fs::write(&path, "theirs")?;
                Ok(to.write_all(b"ours")?)
            })
        };
        let refused = write(Overwrite { force: false }).expect_err("it is there by now");
        assert_eq!(refused.downcast_ref::<Error>().map(Error::kind), Some(ErrorKind::Conflict), "{refused}");
        assert_eq!(fs::read(&path).expect("the file"), b"theirs");
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1, "nothing beside it");
        write(Overwrite { force: true }).expect("replaced");
        assert_eq!(fs::read(&path).expect("the file"), b"ours");
    }
}
