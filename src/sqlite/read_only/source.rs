//! The way to read one database that may not be written, as long as its files are as they were found.

use std::fs::Metadata;
use std::io::ErrorKind as Os;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::private::PrivateFolder;
use crate::error::{Error, ErrorKind, Result};
use crate::home::{self, access, with_ending};
use crate::sqlite::connect::pause;
use crate::sqlite::damage;
use crate::sqlite::ffi;
use crate::sqlite::identity::{changed_at, wall_clock_ns};

/// How old a change must be for the next one to show: several ticks of any clock that a file system uses.
const SETTLED: i64 = 50_000_000;
/// How often, a millisecond apart, it is waited for that; a clock that is ahead is not waited for.
const LOOKS: u32 = 100;
/// How often a copy is begun again because the database was written meanwhile.
const COPIES: u32 = 5;
/// How often the way to read a database is looked for while its users come and go.
pub(in crate::sqlite) const LOOKS_AT_FILES: u32 = 10;

/// One way to read a database, good for as long as the files are as they were found.
pub(crate) struct Source {
    path: PathBuf,
    way: Way,
    found: Files,
}

enum Way {
    Beside,
    Unchanging,
    Copy { file: PathBuf, _folder: PrivateFolder },
}

/// The files that make up a database's content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Files {
    main: Mark,
    /// `None` when missing or empty: it holds nothing then.
    log: Option<Mark>,
    /// `None` also for one that is kept for the next transaction, and has nothing to roll back.
    journal: Option<Mark>,
}

/// A file as it was: whoever writes to it gives it another change time, unless within a tick of the clock.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    length: u64,
    changed_ns: i64,
}

impl Mark {
    fn of(found: &Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino(), length: found.len(), changed_ns: changed_at(found) }
    }
}

impl Files {
    pub(crate) fn look(path: &Path) -> Result<Self> {
        let Some(main) = home::check_database_file(path)? else {
            return Err(Error::new(ErrorKind::NotFound, "there is no such database").at_path(path));
        };
        let beside = |ending: &str| {
            let path = with_ending(path, ending);
            match std::fs::symlink_metadata(&path) {
                Ok(found) => Ok(Some(Mark::of(&found)).filter(|mark| mark.length > 0)),
                Err(error) if error.kind() == Os::NotFound => Ok(None),
                Err(error) => Err(Error::io("look at the file", &path, error)),
            }
        };
        let journal = beside("-journal")?.filter(|_| home::is_hot_journal(&with_ending(path, "-journal")));
        Ok(Self { main: Mark::of(&main), log: beside("-wal")?, journal })
    }

    /// Refuses a log whose database was emptied: SQLite deletes the log of an empty file.
    fn refuse_emptied(&self) -> Result<()> {
        let log = self.log.map_or(0, |log| log.length);
        if self.main.length == 0 && log > home::LOG_HEADER as u64 { Err(damage::emptied()) } else { Ok(()) }
    }

    /// Of all of them.
    fn bytes(&self) -> u64 {
        [Some(self.main), self.log, self.journal].iter().flatten().map(|mark| mark.length).sum()
    }

    /// The same, when nothing of it changed so lately that a further change might not show.
    pub(crate) fn look_settled(path: &Path) -> Result<Self> {
        let mut looks = 0;
        loop {
            let files = Self::look(path)?;
            let latest = [Some(files.main), files.log, files.journal]
                .iter()
                .flatten()
                .map(|mark| mark.changed_ns)
                .max()
                .unwrap_or(0);
            if latest.saturating_add(SETTLED) < wall_clock_ns() || looks == LOOKS {
                return Ok(files);
            }
            looks += 1;
            pause();
        }
    }
}

impl Source {
    /// Finds the way to read a database without writing.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for what is no plain file, `Corrupt` for a file that was emptied while its log was not,
    /// `ReadOnly` when this user may not read what is needed, `Busy` when it is written so often that no copy can be
    /// taken; of the system.
    pub(crate) fn find(path: &Path) -> Result<Self> {
        Self::find_until(path, None)
    }

    /// The same; a copy is given up at `until`.
    ///
    /// # Errors
    /// As [`find`](Self::find); `Timeout`.
    fn find_until(path: &Path, until: Option<Instant>) -> Result<Self> {
        Self::find_up_to(path, None, until)
            .map(|found| found.expect("without a bound there is no copy that is too large"))
    }

    /// The same; `None` where it takes a copy of more than `most` bytes.
    ///
    /// # Errors
    /// As [`find`](Self::find); `Timeout`.
    pub(crate) fn find_up_to(path: &Path, most: Option<u64>, until: Option<Instant>) -> Result<Option<Self>> {
        home::check_database_file(path)?;
        access::readable(path)?;
        let (log, index) = (with_ending(path, "-wal"), with_ending(path, "-shm"));
        let found = Files::look(path)?;
        found.refuse_emptied()?;
        let is_empty = |found: &Files| found.main.length == 0;
        if !is_empty(&found)
            && found.journal.is_none()
            && access::readable(&log).is_ok()
            && access::readable(&index).is_ok()
        {
            return Ok(Some(Self { path: path.to_owned(), way: Way::Beside, found }));
        }
        let found = Files::look_settled(path)?;
        found.refuse_emptied()?;
        // Beside an empty file SQLite would delete even a log that holds nothing.
        if (found.log.is_none() || is_empty(&found)) && found.journal.is_none() {
            return Ok(Some(Self { path: path.to_owned(), way: Way::Unchanging, found }));
        }
        for _ in 0..COPIES {
            let found = Files::look_settled(path)?;
            if most.is_some_and(|most| found.bytes() > most) {
                return Ok(None);
            }
            let way = copy(path, &found, until)?;
            if Files::look(path)? == found {
                return Ok(Some(Self { path: path.to_owned(), way, found }));
            }
        }
        Err(Error::new(
            ErrorKind::Busy,
            "it is written all the time, and the index of its log may not be read",
        )
        .at_path(&index)
        .advise("have its owner let you read the file ending in -shm, or try again when it is not in use"))
    }

    /// Finds the way and opens it; again while users of the database come and go. A copy is given up at `until`.
    ///
    /// # Errors
    /// As [`find`](Self::find) and [`open`](Self::open); `Timeout`.
    pub(crate) fn reach(path: &Path, until: Option<Instant>) -> Result<(Self, Connection)> {
        let mut again = LOOKS_AT_FILES;
        loop {
            let source = Self::find_until(path, until)?;
            match source.open() {
                Ok(connection) => return Ok((source, connection)),
                Err(_) if again > 0 && !source.is_current() => again -= 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// True while it is the way to read what is there now.
    pub(crate) fn is_current(&self) -> bool {
        match (&self.way, Files::look(&self.path)) {
            // SQLite itself sees every commit; another file at the path it does not. The last user takes log and index
            // away: SQLite would create both.
            (Way::Beside, Ok(now)) => {
                let is_there = |ending| with_ending(&self.path, ending).symlink_metadata().is_ok();
                (now.main.device, now.main.inode) == (self.found.main.device, self.found.main.inode)
                    && now.main.length > 0
                    && is_there("-wal")
                    && is_there("-shm")
            }
            (_, Ok(now)) => now == self.found,
            (_, Err(_)) => false,
        }
    }

    /// False when what was read from it just now may be a mixture of before and after a change.
    pub(crate) fn was_whole(&self) -> bool {
        match self.way {
            Way::Beside | Way::Copy { .. } => true,
            // Commits go to a log first, which this way does not look at; only a checkpoint changes the file.
            Way::Unchanging => Files::look(&self.path).is_ok_and(|now| now.main == self.found.main),
        }
    }

    /// True when it is read as any reader does, log and index with it.
    #[cfg(feature = "agent")]
    pub(crate) fn is_beside(&self) -> bool {
        matches!(self.way, Way::Beside)
    }

    /// A connection to a file for its bytes alone.
    ///
    /// # Errors
    /// Of SQLite.
    #[cfg(feature = "agent")]
    pub(crate) fn unchanging(path: &Path) -> Result<Connection> {
        open_unchanging(path)
    }

    /// The error for such a read.
    pub(crate) fn changed(&self) -> Error {
        Error::new(ErrorKind::Busy, "it was written while it was read")
            .at_path(&self.path)
            .advise("read again")
    }

    /// A connection, read-only. SQLite looks at nothing before its first statement: until then it is told here whether it
    /// may be let near what is there now.
    ///
    /// # Errors
    /// `Corrupt` for a file that was emptied while its log was not, and for a header that makes no sense; `Busy` when the
    /// last user of a log went; of SQLite.
    #[allow(
        clippy::disallowed_methods,
        reason = "opens what `connect` must not: files that may not be written"
    )]
    pub(crate) fn open(&self) -> Result<Connection> {
        let (connection, file) = match &self.way {
            Way::Beside => (Connection::open_with_flags(&self.path, flags())?, &self.path),
            Way::Unchanging => (open_unchanging(&self.path)?, &self.path),
            Way::Copy { file, .. } => (Connection::open_with_flags(file, flags())?, file),
        };
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        if matches!(self.way, Way::Beside) {
            Files::look(&self.path)?.refuse_emptied()?;
            if !self.is_current() {
                return Err(self.changed());
            }
        }
        damage::check_header(&connection, file)?;
        Ok(connection)
    }
}

fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW
}

/// Opens a file that nobody writes (<https://sqlite.org/uri.html#uriimmutable>).
#[allow(clippy::disallowed_methods, reason = "opens what `connect` must not: files that may not be written")]
fn open_unchanging(path: &Path) -> Result<Connection> {
    let flags = flags() | OpenFlags::SQLITE_OPEN_URI;
    Ok(Connection::open_with_flags(format!("file:{}?immutable=1", escaped(path)), flags)?)
}

/// A path as part of a URI: every byte that could mean something there is written as `%XX`.
fn escaped(path: &Path) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/_.-".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a String never fails.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Copies a database and its log into a folder of our own, which goes with the answer. Given up at `until`.
fn copy(path: &Path, found: &Files, until: Option<Instant>) -> Result<Way> {
    let temporary = std::env::temp_dir();
    let failed = |error| {
        Error::io("create a folder for a private copy", &temporary, error)
            .advise("its log can only be read from a copy: name a folder for temporary files with TMPDIR")
    };
    let folder = PrivateFolder::new().map_err(failed)?;
    let file = folder.path().join("copy.sqlite");
    for (ending, mark) in [("", Some(found.main)), ("-wal", found.log), ("-journal", found.journal)] {
        let Some(mark) = mark else { continue };
        let (from, to) = (with_ending(path, ending), with_ending(&file, ending));
        access::readable(&from)?;
        let target = home::create_private_file(&to)?;
        // A log is opened as a database, too: nothing but its bytes is asked for.
        ffi::copy_file(&open_unchanging(&from)?, mark.length, &target, until).map_err(|error| {
            if error.kind() == Os::TimedOut {
                return Error::new(ErrorKind::Timeout, "there was no time to copy the database")
                    .at_path(path)
                    .advise("its log can only be read from a copy: allow more time");
            }
            Error::io("copy the database", &to, error)
        })?;
    }
    Ok(Way::Copy { file, _folder: folder })
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods)] // a writer that this module knows nothing of
    fn writer(path: &Path) -> Connection {
        let connection = Connection::open(path).expect("opened");
        connection
            .execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE IF NOT EXISTS t(x);
                 INSERT INTO t VALUES (1)",
            )
            .expect("written");
        connection
    }

    fn rows(source: &Source) -> i64 {
        let connection = source.open().expect("opened");
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("a count")
    }

    /// This process's locks on a file, as the kernel lists them. While others lock and unlock the list may leave some
    /// out, so it is read several times; one that is gone stays gone.
    #[cfg(target_os = "linux")]
    fn locks_on(path: &Path) -> std::collections::BTreeSet<String> {
        let pid = format!(" {} ", std::process::id());
        let inode = format!(":{} ", std::fs::symlink_metadata(path).expect("there").ino());
        let mut found = std::collections::BTreeSet::new();
        for _ in 0..30 {
            let all = std::fs::read_to_string("/proc/locks").expect("the list");
            let ours = all.lines().filter(|line| line.contains(&pid) && line.contains(&inode));
            found.extend(ours.filter_map(|line| Some(line.split_once(": ")?.1.to_owned())));
        }
        found
    }

    #[test]
    fn a_path_becomes_a_uri_whatever_is_in_it() {
        assert_eq!(escaped(Path::new("/a b/c?d#e%f")), "/a%20b/c%3Fd%23e%25f");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_copy_drops_no_lock_of_this_process() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().canonicalize().expect("canonical").join("a.sqlite");
        let writer = writer(&path);
        writer.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (2)").expect("begun");
        let before = locks_on(&path);
        assert!(!before.is_empty(), "the writer holds locks");
        let found = Files::look(&path).expect("files");
        let way = copy(&path, &found, None).expect("copied");
        assert_eq!(locks_on(&path), before);
        let source = Source { path: path.clone(), way, found };
        assert_eq!(rows(&source), 1, "what was committed");

        // Control: the usual way to copy drops them.
        drop(std::fs::read(&path).expect("read"));
        assert_ne!(locks_on(&path), before);
    }

    #[test]
    fn a_private_copy_is_private_and_goes_with_its_last_user() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().canonicalize().expect("canonical").join("a.sqlite");
        drop(writer(&path));
        let found = Files::look(&path).expect("files");
        let way = copy(&path, &found, None).expect("copied");
        let Way::Copy { file, _folder: private } = &way else { panic!("a copy") };
        let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!((mode(private.path()), mode(file)), (0o700, 0o600));
        let file = file.clone();
        drop(way);
        assert!(!file.exists());
    }

    #[test]
    fn a_copy_is_given_up_in_time_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().canonicalize().expect("canonical").join("a.sqlite");
        let _writer = writer(&path);
        let found = Files::look(&path).expect("files");
        let error = copy(&path, &found, Some(Instant::now())).err().expect("no time");
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }

    #[test]
    fn nothing_is_created_when_the_last_user_goes_before_the_first_statement() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().canonicalize().expect("canonical").join("a.sqlite");
        let beside = || ["-wal", "-shm"].map(|ending| with_ending(&path, ending).exists());
        let writer = writer(&path);
        let source = Source::find(&path).expect("a way");
        assert!(matches!(source.way, Way::Beside) && source.is_current());
        drop(writer);
        assert!(!source.is_current());
        assert_eq!(source.open().expect_err("another way is the right one").kind(), ErrorKind::Busy);
        let (source, connection) = Source::reach(&path, None).expect("another way");
        assert_eq!((rows(&source), beside()), (1, [false; 2]));
        drop(connection);

        // Control: SQLite opens the same file for reading, and creates both.
        let plain = Connection::open_with_flags(&path, flags()).expect("opened");
        plain.query_row("SELECT count(*) FROM t", [], |_| Ok(())).expect("read");
        assert_eq!(beside(), [true; 2]);
    }

    #[test]
    fn what_is_read_as_unchanging_is_noticed_to_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().canonicalize().expect("canonical").join("a.sqlite");
        // The last connection takes log and index away.
        drop(writer(&path));
        let source = Source::find(&path).expect("a way");
        assert!(matches!(source.way, Way::Unchanging));
        assert_eq!(rows(&source), 1);
        assert!(source.is_current() && source.was_whole());
        let live = writer(&path);
        assert!(!source.is_current(), "there is a log now");
        assert!(source.was_whole(), "its commits are only in the log");
        live.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
        assert!(!source.was_whole(), "the file itself was written");
        assert_eq!(rows(&Source::find(&path).expect("a way")), 2);
    }
}
