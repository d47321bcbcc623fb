//! Reading a database that may not be written: a home made read-only, a read-only mount, another user's files.
//!
//! SQLite needs a log and its index to read a database in WAL mode, and creates both where it can
//! (<https://sqlite.org/wal.html#read_only_databases>). So it is told how to read by what lies there:
//!
//! | -wal | -shm | read |
//! |---|---|---|
//! | there | readable | beside its writers, as any reader |
//! | missing or empty | missing or not readable | as a file that does not change, and checked that it did not |
//! | with content | missing or not readable | from a private copy of both, outside the home |
//!
//! Invariants, tested in `tests/n6_read_only_home.rs`:
//! 1. Nothing is created, written or removed beside the database.
//! 2. A commit that is in the log is never left out: `immutable=1` ignores the log, so it is used only while there is
//!    none, and what was read meanwhile counts only if the file stayed as it was.
//! 3. No descriptor of the database is closed under a lock of this process. A copy is read through SQLite's own files,
//!    which SQLite keeps open while any connection of this process holds a lock on them.

mod private;
mod source;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::connect::{Patience, Spec, Whose, pause, whose};
use super::generation::User;
use super::identity::Marks;
use super::migrate;
use super::rebuilt;
use super::tx::Snapshot;
use crate::error::{Error, ErrorKind, Result};
use crate::home::access;
pub use private::remove_private_copies;
pub(super) use source::LOOKS_AT_FILES;
pub(crate) use source::{Files, Source};

/// How one database is read while it may not be written; `None` while it may.
#[derive(Clone, Default)]
pub(super) struct ReadOnly(Arc<Mutex<Option<State>>>);

struct State {
    source: Option<Arc<Source>>,
    /// What its schema lacks, when it is older than this program's.
    lacks: Option<String>,
}

impl ReadOnly {
    /// From now on the database is read without being written.
    pub(super) fn begin(&self) {
        *self.0.lock() = Some(State { source: None, lacks: None });
    }

    /// The database may be written again.
    pub(super) fn end(&self) {
        *self.0.lock() = None;
    }

    /// Its schema lacks what this program's has.
    pub(super) fn set_lacks(&self, what: String) {
        if let Some(state) = &mut *self.0.lock() {
            state.lacks = Some(what);
        }
    }

    /// What SQLite says about a database that may not be written, as it is meant: a name that an older schema lacks, a
    /// log that only a writer can make readable again.
    pub(super) fn explain(&self, error: Error) -> Error {
        use rusqlite::ffi::{SQLITE_ERROR, SQLITE_READONLY_CANTINIT, SQLITE_READONLY_RECOVERY};
        let state = self.0.lock();
        match (&*state, error.sqlite_code()) {
            (Some(State { lacks: Some(lacks), .. }), Some(SQLITE_ERROR)) => error.advise(lacks.clone()),
            (Some(_), Some(SQLITE_READONLY_RECOVERY | SQLITE_READONLY_CANTINIT)) => error
                .as_kind(ErrorKind::Busy)
                .worded("a writer of it died, and its log has not been recovered yet")
                .advise("try again: the next program that may write it recovers the log"),
            _ => error,
        }
    }

    /// The way to read `path` now; `None` when it is read as usual.
    pub(super) fn source(&self, path: &Path) -> Result<Option<Arc<Source>>> {
        let mut state = self.0.lock();
        let Some(state) = &mut *state else { return Ok(None) };
        if let Some(source) = state.source.as_ref().filter(|source| source.is_current()) {
            return Ok(Some(source.clone()));
        }
        // A copy ends with the last connection to it.
        state.source = None;
        Ok(Some(state.source.insert(Arc::new(Source::find(path)?)).clone()))
    }
}

/// Looks again when a look fell between the two halves of the index's head that a commit was just writing. Without the right to
/// write, SQLite takes that for the head that a dead writer left (`walIndexReadHdr`); of a living one it is whole at once.
pub(super) fn again<T>(look: impl Fn() -> Result<T>) -> Result<T> {
    const LOOKS: u32 = 10;
    let torn = |answer: &Result<T>| {
        answer
            .as_ref()
            .is_err_and(|error| error.sqlite_code() == Some(rusqlite::ffi::SQLITE_READONLY_RECOVERY))
    };
    for _ in 1..LOOKS {
        let answer = look();
        if !torn(&answer) {
            return answer;
        }
        pause();
    }
    look()
}

impl Spec {
    /// Looks at a database that may not be written, and has it read as it is from now on. `why` it may not. Answers what
    /// its user should know.
    pub(super) fn open_to_read(&self, why: &Error, deadline: Instant) -> Result<Vec<String>> {
        let _patience = Patience::until(deadline);
        self.read_only.begin();
        self.named(self.look_to_read(why)).inspect_err(|_| self.read_only.end())
    }

    fn look_to_read(&self, why: &Error) -> Result<Vec<String>> {
        let missing = |what: &str| {
            let advice = why.advice().unwrap_or(access::WITHOUT_KEEPING).to_owned();
            Error::new(ErrorKind::ReadOnly, format!("{what}, and it cannot be created: {}", why.message()))
                .advise(advice)
                .caused_by(why.clone())
        };
        if self.look()? == 0 && !self.has_log() {
            return Err(missing("there is no such database in this home"));
        }
        let Some(snapshot) = self.open_source(User::Read)? else { return Err(why.clone()) };
        let connection = snapshot.connection();
        let state = match whose(connection)? {
            Whose::Ours => migrate::inspect(connection, &self.domain)?,
            Whose::Nobodys => return Err(missing("the database is empty")),
            Whose::Unmarked => return Err(rebuilt::another_programs()),
        };
        state.check()?;
        let mut warnings = vec![format!("it can only be read: {why}")];
        if let Some(newest) = state.pending.last() {
            if state.found_version == 0 {
                return Err(missing("the database has no tables yet"));
            }
            let found = state.found_version;
            warnings.push(format!(
                "its schema is version {found}, this program's is {}, and it cannot be brought there: what is newer \
                 cannot be read",
                newest.version(),
            ));
            self.read_only.set_lacks(format!(
                "its schema is older (version {found}) and may not be changed here: {}",
                why.advice().unwrap_or(access::WITHOUT_KEEPING)
            ));
        }
        warnings.extend(state.warnings);
        snapshot.check_whole()?;
        Ok(warnings)
    }

    /// A read connection where the file may not be written; `None` where it may.
    pub(super) fn open_source(&self, user: User) -> Result<Option<Snapshot>> {
        for again in (0..LOOKS_AT_FILES).rev() {
            let Some(source) = self.read_only.source(&self.path)? else { return Ok(None) };
            let entry = self.generation.enter(user)?;
            match source.open().and_then(|connection| self.made_ready(connection)) {
                Ok(connection) => {
                    let connection = entry.counts(connection);
                    if let Ok(marks) = Marks::of(&self.path, &connection) {
                        self.generation.joined(&connection, &marks);
                    }
                    return Ok(Some(Snapshot::of(source, connection)?));
                }
                // Its writers came or went between the look and this.
                Err(_) if again > 0 && !source.is_current() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// Reads a database of a home that no runtime opens: nothing of it is created, recovered, migrated or set aside. One
/// snapshot, which lasts as long as `read` does.
///
/// # Errors
/// As [`Source::reach`]; `Unsupported` or `Conflict` for a file that is not the domain's; `SchemaTooNew`; `ReadOnly` for an
/// older schema, which is not brought up to date here; those of `read`.
#[cfg(feature = "agent")]
pub(crate) fn read_unopened<R>(
    path: &Path,
    domain: &crate::Domain,
    patience: std::time::Duration,
    read: impl FnOnce(&Snapshot) -> Result<R>,
) -> Result<R> {
    let (source, connection) = Source::reach(path, None)?;
    connection.busy_timeout(patience)?;
    match whose(&connection)? {
        Whose::Ours => {}
        Whose::Nobodys => return Err(Error::new(ErrorKind::NotFound, "the database is empty")),
        Whose::Unmarked => return Err(rebuilt::another_programs()),
    }
    let state = migrate::inspect(&connection, domain)?;
    state.check()?;
    if !state.pending.is_empty() {
        return Err(Error::new(ErrorKind::ReadOnly, "its schema is older, and a look does not change it")
            .advise("open the home with its program first, which brings it up to date"));
    }
    let snapshot = Snapshot::of(Arc::new(source), connection.into())?;
    snapshot.control().begin()?;
    let answer = read(&snapshot);
    snapshot.check_whole()?;
    answer
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn failed(code: i32) -> Error {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None).into()
    }

    /// Control: what a dead writer left is an error after the last look, and so is anything else after the first.
    #[test]
    fn a_head_that_is_just_being_written_is_looked_at_again() {
        for (code, lasts, expected) in [
            (rusqlite::ffi::SQLITE_READONLY_RECOVERY, 3, (4, true)),
            (rusqlite::ffi::SQLITE_READONLY_RECOVERY, u32::MAX, (10, false)),
            (rusqlite::ffi::SQLITE_CORRUPT, 3, (1, false)),
        ] {
            let looks = Cell::new(0);
            let answer = again(|| {
                looks.set(looks.get() + 1);
                if looks.get() > lasts { Ok(()) } else { Err(failed(code)) }
            });
            assert_eq!((looks.get(), answer.is_ok()), expected, "{code}");
        }
    }
}
