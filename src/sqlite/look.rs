//! A look at any SQLite file, also one of another program, that changes nothing: for the doctor.
//!
//! Invariants:
//! 1. Nothing is created, recovered into the main file, worked off or removed beside the database: a log without its index
//!    is read from a private copy, and never by SQLite in its place ([`read_only`](super::read_only)).
//! 2. SQLite is not let near a file whose header makes no sense ([`damage`](super::damage)).
//! 3. A statement ends at the time that the look was given.
//! 4. The write lock is tried only where that creates no file, and is given back at once: nothing was written.
//!
//! Tests: below; `tests/doctor_beside_others.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::connect::{APPLICATION_ID, pause};
use super::holders::{self, Effort, Holder};
use super::log_index;
pub(crate) use super::log_index::LogIndex;
use super::read_only::{LOOKS_AT_FILES, Source};
use super::{cantopen, damage, ffi, pins};
use crate::error::{Error, ErrorKind, Result};
use crate::home::{self, with_ending};

/// For how long a look waits for a log that somebody is just recovering.
const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// How many operations SQLite does between two looks at the clock.
const OPERATIONS: std::ffi::c_int = 1000;
/// Where the header holds the version of the SQLite that wrote it last (<https://sqlite.org/fileformat.html>, 1.3.18).
const WRITTEN_BY: i64 = 96;
/// Where it says how the file is written: 2 for a write-ahead log (1.3.3).
const WRITE_VERSION: i64 = 18;

/// The mark of an error that says: the log can be read from a copy only, and that would be too large.
#[derive(Debug)]
pub(crate) struct TooLargeToCopy;

impl std::fmt::Display for TooLargeToCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a private copy would be too large")
    }
}

impl std::error::Error for TooLargeToCopy {}

/// A database file that is looked at several times. A private copy, where one is needed, is made once.
pub(crate) struct Looked {
    path: PathBuf,
    /// The most bytes that are copied; `None` for any number.
    most_copied: Option<u64>,
    source: Mutex<Option<Arc<Source>>>,
}

impl Looked {
    pub(crate) fn new(path: &Path, most_copied: Option<u64>) -> Self {
        Self { path: path.to_owned(), most_copied, source: Mutex::default() }
    }

    /// Opens it for reading until `until`.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a link or a folder; `Corrupt` for what is no database; `ReadOnly` when this user may not
    /// read it; `Busy` while it is being recovered or written; `Timeout` when a copy takes too long; `Unsupported` with
    /// [`TooLargeToCopy`].
    pub(crate) fn look(&self, until: Instant) -> Result<Look> {
        let (source, connection) = self.open(until)?;
        let left = until.saturating_duration_since(Instant::now());
        connection.busy_timeout(left.min(LONGEST_WAIT))?;
        connection.progress_handler(OPERATIONS, Some(move || Instant::now() >= until))?;
        // SQLite opens the log with the first read: what cannot be opened is told here, not by whatever is asked first.
        let first: rusqlite::Result<i64> =
            connection.pragma_query_value(None, "schema_version", |row| row.get(0));
        first.map_err(|error| cantopen::explain(error.into(), &self.path))?;
        Ok(Look { connection, source })
    }

    /// Lets go of a private copy, as soon as nobody reads it any more. One that is just being made goes with whoever makes it.
    pub(crate) fn forget(&self) {
        if let Some(mut known) = self.source.try_lock() {
            *known = None;
        }
    }

    /// Opens it; again while its users come and go.
    fn open(&self, until: Instant) -> Result<(Arc<Source>, Connection)> {
        let mut again = LOOKS_AT_FILES;
        loop {
            let source = self.source(until)?;
            match source.open() {
                Ok(connection) => return Ok((source, connection)),
                Err(_) if again > 0 && !source.is_current() => again -= 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn source(&self, until: Instant) -> Result<Arc<Source>> {
        let mut known = self.source.lock();
        if let Some(source) = known.as_ref().filter(|source| source.is_current()) {
            return Ok(source.clone());
        }
        // A copy ends with its last look.
        *known = None;
        let found = Source::find_up_to(&self.path, self.most_copied, Some(until))?.ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "its log has no index, and the database is too large to be read from a copy now",
            )
            .at_path(&self.path)
            .caused_by(TooLargeToCopy)
        })?;
        Ok(known.insert(Arc::new(found)).clone())
    }
}

/// A connection that only reads.
pub(crate) struct Look {
    // Closed before the copy that it may read goes.
    connection: Connection,
    source: Arc<Source>,
}

impl Look {
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Refuses what was read when the files changed meanwhile in a way that SQLite did not see.
    ///
    /// # Errors
    /// `Busy`.
    pub(crate) fn check_whole(&self) -> Result<()> {
        if self.source.was_whole() { Ok(()) } else { Err(self.source.changed()) }
    }

    /// One number of a pragma.
    ///
    /// # Errors
    /// Of SQLite.
    pub(crate) fn pragma(&self, name: &str) -> Result<i64> {
        Ok(self.connection.pragma_query_value(None, name, |row| row.get(0))?)
    }

    /// True when somebody made a table of this name.
    ///
    /// # Errors
    /// Of SQLite.
    pub(crate) fn has_table(&self, name: &str) -> Result<bool> {
        let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        Ok(self.connection.query_row(sql, [name], |_| Ok(())).optional()?.is_some())
    }

    /// True for a database with a write-ahead log.
    ///
    /// # Errors
    /// Of the system.
    pub(crate) fn has_log(&self) -> Result<bool> {
        Ok(ffi::read_header::<1>(&self.connection, WRITE_VERSION)? == [2])
    }

    /// The version of the SQLite that changed the main file's first page last, as `3_051_003`.
    ///
    /// # Errors
    /// Of the system.
    pub(crate) fn written_by(&self) -> Result<u32> {
        Ok(u32::from_be_bytes(ffi::read_header(&self.connection, WRITTEN_BY)?))
    }

    /// Whether it is this library's file, and the number that it got when it was created.
    ///
    /// # Errors
    /// Of the system.
    pub(crate) fn stamp(&self) -> Result<(bool, u32)> {
        let stamp = ffi::read_stamp(&self.connection)?;
        Ok((stamp.application_id == APPLICATION_ID, stamp.user_version))
    }

    /// How far the log is worked off; `None` where there is none, or it is read from a copy.
    ///
    /// # Errors
    /// Of SQLite.
    pub(crate) fn log(&self) -> Result<Option<LogIndex>> {
        if !self.source.is_beside() {
            return Ok(None);
        }
        // The first read maps the index.
        self.pragma("schema_version")?;
        Ok(log_index::read(&self.connection))
    }
}

/// The processes whose snapshots keep this log from being worked off, this one excepted.
pub(crate) fn pinned_by(path: &Path, log: &LogIndex) -> Vec<Holder> {
    let marks = pins::keeping(Some(log.marks), log.pages);
    let mut holders = holders::snapshot_holders(path, &marks, Effort::All);
    holders.retain(|holder| holder.pid != std::process::id());
    holders
}

/// The process that is working the log off right now.
pub(crate) fn checkpoint_by(path: &Path) -> Option<Holder> {
    holders::checkpoint_holder(path)
}

/// What came of trying the write lock.
#[derive(Debug)]
pub(crate) enum WriteLock {
    /// It was taken and given back.
    Free,
    /// Others have it in turn, and commit.
    InUse,
    /// Somebody has had it all the time.
    Held(Option<Holder>),
    /// Trying would create a file, or change one.
    NotTried(&'static str),
}

/// Takes the write lock and gives it back at once. The file was looked at before, is a database, and `has_log` or not.
///
/// # Errors
/// `ReadOnly`, `Full` or `Io` of the system; of SQLite.
pub(crate) fn try_write_lock(path: &Path, has_log: bool, patience: Duration) -> Result<WriteLock> {
    if let Some(why) = in_the_way(path, has_log) {
        return Ok(WriteLock::NotTried(why));
    }
    let connection = open_to_write(path)?;
    let version = || connection.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0)).ok();
    let (began, first) = (Instant::now(), version());
    loop {
        let error = match connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
            Ok(()) => return Ok(WriteLock::Free),
            Err(error) => Error::from(error),
        };
        if error.kind() != ErrorKind::Busy {
            return Err(error);
        }
        if began.elapsed() >= patience {
            return Ok(if version() == first {
                WriteLock::Held(holders::write_lock_holder(path))
            } else {
                WriteLock::InUse
            });
        }
        pause();
    }
}

/// Why the lock is better left alone. A database with a log is only tried where log and index are there: they would be
/// created, or recovered.
fn in_the_way(path: &Path, has_log: bool) -> Option<&'static str> {
    let length = |ending| std::fs::symlink_metadata(with_ending(path, ending)).ok().map(|found| found.len());
    if length("-journal").is_some_and(|bytes| bytes > 0) {
        return Some(if home::is_hot_journal(&with_ending(path, "-journal")) {
            "a broken-off transaction waits to be rolled back, which trying would do"
        } else {
            "a rollback journal lies beside it, which trying might change"
        });
    }
    match (length("-wal"), length("-shm")) {
        (None, None) if !has_log => None,
        (Some(_), Some(_)) => None,
        (None | Some(0), None) => Some("nobody has it open, and trying would create its log"),
        (Some(_), None) => Some("its log has no index yet, and trying would make one"),
        (None, Some(_)) => Some("its log is missing, and trying would create one"),
    }
}

#[allow(clippy::disallowed_methods, reason = "opens what `connect` must not: files of other programs")]
fn open_to_write(path: &Path) -> Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    ffi::persist_wal(&connection)?;
    connection.busy_handler(None)?;
    Ok(connection)
}

/// Lets a moment pass, for whoever looks again and again at what other processes do.
pub(crate) fn rest(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        pause();
    }
}

/// True for what begins with a database's magic text, whatever follows (<https://sqlite.org/fileformat.html>, 1.3.1).
pub(crate) fn begins_as_database(path: &Path) -> bool {
    let magic = |connection| ffi::read_header::<16>(&connection, 0);
    Source::unchanging(path)
        .is_ok_and(|connection| magic(connection).is_ok_and(|bytes| bytes == *b"SQLite format 3\0"))
}

/// True when something that may be a database begins like one. Nothing but its bytes is asked for.
pub(crate) fn is_database(path: &Path) -> bool {
    Source::unchanging(path).is_ok_and(|connection| damage::has_header(&connection))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares files from outside")]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn database(path: &Path) -> Connection {
        let connection = Connection::open(path).expect("opened");
        connection
            .execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(a); INSERT INTO t VALUES (1)",
            )
            .expect("written");
        connection
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a list").flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().expect("plain")).collect();
        names.sort();
        names
    }

    #[test]
    fn the_log_is_told_beside_its_writer_and_the_lock_is_free_or_held() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sqlite");
        let writer = database(&path);
        let look = Looked::new(&path, Some(0)).look(soon()).expect("a look");
        let log = look.log().expect("read").expect("a log");
        assert!(log.pages > 0 && log.copied == 0 && look.has_log().expect("read"), "{log:?}");
        assert_eq!(look.written_by().expect("read") as i32, rusqlite::version_number());
        assert!(matches!(try_write_lock(&path, true, Duration::ZERO).expect("tried"), WriteLock::Free));
        writer.execute_batch("BEGIN IMMEDIATE").expect("held");
        assert!(matches!(try_write_lock(&path, true, Duration::ZERO).expect("tried"), WriteLock::Held(_)));
    }

    #[test]
    fn a_log_without_its_index_is_read_from_a_copy_and_never_tried() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sqlite");
        let writer = database(&path);
        let other = tempfile::tempdir().expect("a folder");
        let copied = other.path().join("a.sqlite");
        for ending in ["", "-wal"] {
            std::fs::copy(with_ending(&path, ending), with_ending(&copied, ending)).expect("copied");
        }
        drop(writer);
        let error = Looked::new(&copied, Some(100)).look(soon()).err().expect("too large");
        assert!(error.downcast_ref::<TooLargeToCopy>().is_some(), "{error}");
        let looked = Looked::new(&copied, None);
        let look = looked.look(soon()).expect("a look");
        let rows: i64 =
            look.connection().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("a row");
        assert_eq!((rows, look.log().expect("told")), (1, None));
        assert!(matches!(
            try_write_lock(&copied, true, Duration::ZERO).expect("told"),
            WriteLock::NotTried(_)
        ));
        assert_eq!(names(other.path()), ["a.sqlite", "a.sqlite-wal"]);
    }

    #[test]
    fn a_statement_ends_in_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sqlite");
        let _writer = database(&path);
        let look = Looked::new(&path, None).look(Instant::now()).expect("a look");
        let endless =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let answer = look.connection().query_row(endless, [], |row| row.get::<_, i64>(0));
        assert!(answer.is_err());
    }

    #[test]
    fn what_is_no_database_is_told_without_letting_sqlite_near() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sqlite");
        std::fs::write(&path, vec![7; 8192]).expect("written");
        assert!(!is_database(&path));
        let error = Looked::new(&path, None).look(soon()).err().expect("no database");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        drop(database(&folder.path().join("b.sqlite")));
        assert!(is_database(&folder.path().join("b.sqlite")));
    }
}
