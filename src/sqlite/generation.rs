//! Which files the write connection has open, and which other connections of this process to them there are.
//!
//! SQLite keeps one mapping of a database's -shm file for each process and main file: a connection that still has a removed
//! log open would hand that log's index on to a connection to the new log.
//!
//! Invariants:
//! 1. Every connection of this process to the database is counted here for as long as it is open.
//! 2. While the files are opened anew, nothing but the write connection is opened.
//! 3. The write connection is opened only when no other connection of this process has the same main file open with
//!    another log or index. `Busy` names what is still open.
//! 4. A connection beside the write connection is used only when it has the same files open.
//!
//! Tests: below; `tests/p1_removed_log.rs`.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::identity::{Marks, Place, Sidecars};
use crate::error::{Error, ErrorKind, Result};

/// Shared by all who open connections to one database.
#[derive(Clone, Default)]
pub(super) struct Generation(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    phase: Phase,
    /// By number, in the order in which they were opened.
    open: BTreeMap<u64, Open>,
    next: u64,
}

#[derive(Clone, Copy, Default)]
enum Phase {
    /// There is no write connection, nor will there be one that others must fit.
    #[default]
    Apart,
    /// The write connection has these files open.
    Attached(Marks),
    /// The files that others must fit are being opened.
    Changing,
}

#[derive(Clone, Copy)]
struct Open {
    user: User,
    /// What it has open, once it has read.
    files: Option<(Option<Place>, Sidecars)>,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum User {
    Writer,
    Read,
    Watch,
    Checkpoint,
    Check,
    Backup,
    Maintenance,
}

impl User {
    fn named(self) -> &'static str {
        match self {
            Self::Writer => "the write connection",
            Self::Read => "a read",
            Self::Watch => "a wait for changes",
            Self::Checkpoint => "a checkpoint",
            Self::Check => "a step of the check",
            Self::Backup => "a backup",
            Self::Maintenance => "maintenance",
        }
    }
}

/// A connection, counted for as long as it is open.
pub(super) struct Counted {
    // Closed before it is counted as closed.
    connection: Connection,
    entry: Option<Entry>,
}

impl Deref for Counted {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Counted {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// To what nobody else can open.
impl From<Connection> for Counted {
    fn from(connection: Connection) -> Self {
        Self { connection, entry: None }
    }
}

/// The place of a connection that is open, or being opened.
pub(super) struct Entry {
    generation: Generation,
    number: u64,
}

impl Entry {
    pub(super) fn counts(self, connection: Connection) -> Counted {
        Counted { connection, entry: Some(self) }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.generation.0.lock().open.remove(&self.number);
    }
}

impl Generation {
    /// Counts a connection that is about to be opened.
    ///
    /// # Errors
    /// `Busy` while the files are being opened anew.
    pub(super) fn enter(&self, user: User) -> Result<Entry> {
        let mut state = self.0.lock();
        if matches!(state.phase, Phase::Changing) && user != User::Writer {
            return Err(opened_anew());
        }
        let number = state.next;
        state.next += 1;
        state.open.insert(number, Open { user, files: None });
        Ok(Entry { generation: self.clone(), number })
    }

    /// Refuses to open the files at the path while another connection of this process has the same main file open with
    /// another log or index.
    ///
    /// # Errors
    /// `Busy` naming what it is.
    pub(super) fn refuse_left_over(&self, path: &Path) -> Result<()> {
        let Some(main) = Place::of(path) else { return Ok(()) };
        let beside = Sidecars::of(path);
        let state = self.0.lock();
        // One that has not read yet may have opened anything.
        let differs = |open: &&Open| {
            open.files.is_none_or(|(place, sidecars)| place == Some(main) && sidecars != beside)
        };
        match state.open.values().find(differs) {
            None => Ok(()),
            Some(open) => Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "{} of this process still uses the removed files; it is tried again when that has ended",
                    open.user.named()
                ),
            )
            .retry_in(Duration::from_secs(1))),
        }
    }

    /// True while a backup or maintenance of this process has the database open.
    pub(super) fn is_visited(&self) -> bool {
        self.0.lock().open.values().any(|open| matches!(open.user, User::Backup | User::Maintenance))
    }

    /// Notes which files a connection has open that has read something.
    pub(super) fn joined(&self, connection: &Counted, marks: &Marks) {
        let Some(entry) = &connection.entry else { return };
        if let Some(open) = self.0.lock().open.get_mut(&entry.number) {
            open.files = Some((marks.place, marks.sidecars));
        }
    }

    /// Refuses a connection beside the write connection that has other files open. It has read something.
    ///
    /// # Errors
    /// `Replaced`; `Busy` while the files are being opened anew.
    pub(super) fn check(&self, path: &Path, connection: &Counted) -> Result<()> {
        let found = Marks::of(path, connection)?;
        self.joined(connection, &found);
        let phase = self.0.lock().phase;
        match phase {
            Phase::Apart => Ok(()),
            Phase::Attached(marks) => marks.refuse_other(&found),
            Phase::Changing => Err(opened_anew()),
        }
    }

    /// True while there is a write connection that others must fit.
    pub(super) fn is_attached(&self) -> bool {
        matches!(self.0.lock().phase, Phase::Attached(_))
    }

    /// The write connection has these files open, and so must whatever is opened beside it.
    pub(super) fn attached(&self, marks: Marks) {
        self.0.lock().phase = Phase::Attached(marks);
    }

    /// There is no write connection that others must fit.
    pub(super) fn apart(&self) {
        self.0.lock().phase = Phase::Apart;
    }

    /// The files are opened anew from now on. Answers whose files they were.
    pub(super) fn changing(&self) -> Option<Marks> {
        match std::mem::replace(&mut self.0.lock().phase, Phase::Changing) {
            Phase::Attached(marks) => Some(marks),
            Phase::Apart | Phase::Changing => None,
        }
    }
}

fn opened_anew() -> Error {
    Error::new(ErrorKind::Busy, "the database is being opened anew").retry_in(Duration::from_millis(100))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares files from outside")]
mod tests {
    use super::*;
    use crate::home::with_ending;

    fn stage() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sqlite");
        (folder, path)
    }

    /// A connection that has read, as the engine's are.
    fn open(generation: &Generation, path: &Path, user: User) -> Result<Counted> {
        let entry = generation.enter(user)?;
        let connection = entry.counts(Connection::open(path).expect("opened"));
        connection
            .execute_batch(
                "PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t(a); INSERT INTO t VALUES (1)",
            )
            .expect("written");
        generation.check(path, &connection)?;
        Ok(connection)
    }

    fn kind<T>(answer: Result<T>) -> ErrorKind {
        answer.err().expect("refused").kind()
    }

    #[test]
    fn what_is_left_over_from_other_files_is_waited_for() {
        let (_folder, path) = stage();
        let generation = Generation::default();
        let read = open(&generation, &path, User::Read).expect("opened");
        generation.refuse_left_over(&path).expect("the same files");
        for ending in ["-wal", "-shm"] {
            std::fs::rename(with_ending(&path, ending), with_ending(&path, &format!("{ending}.old")))
                .expect("moved");
        }
        let error = generation.refuse_left_over(&path).expect_err("the files are gone");
        assert!(error.message().contains("a read of this process"), "{error}");
        for ending in ["-wal", "-shm"] {
            std::fs::write(with_ending(&path, ending), "").expect("somebody began new ones");
        }
        assert_eq!(kind(generation.refuse_left_over(&path)), ErrorKind::Busy);
        // Another main file shares nothing with it.
        std::fs::rename(&path, with_ending(&path, ".old")).expect("moved");
        std::fs::write(&path, "").expect("another");
        generation.refuse_left_over(&path).expect("another main file");
        drop(read);
        generation.refuse_left_over(&path).expect("nothing is open");
        let _not_yet = generation.enter(User::Backup).expect("counted");
        assert_eq!(kind(generation.refuse_left_over(&path)), ErrorKind::Busy, "who knows what it opens");
    }

    #[test]
    fn nothing_is_opened_beside_a_change_and_nothing_else_after_it() {
        let (_folder, path) = stage();
        let generation = Generation::default();
        let writer = open(&generation, &path, User::Writer).expect("opened");
        let marks = Marks::of(&path, &writer).expect("marks");
        generation.attached(marks);
        let read = open(&generation, &path, User::Read).expect("the same files");
        assert!(generation.changing().is_some());
        assert_eq!(kind(generation.enter(User::Read)), ErrorKind::Busy);
        assert_eq!(kind(generation.check(&path, &read)), ErrorKind::Busy, "it was opened a moment too early");
        generation.enter(User::Writer).expect("who changes it");
        generation.attached(marks);
        generation.check(&path, &read).expect("they were the same after all");
        generation.apart();
        generation.check(&path, &read).expect("there is nothing to fit");
    }
}
