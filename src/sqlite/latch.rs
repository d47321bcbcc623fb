//! After a failed write or fsync no process acknowledges anything until one has recovered the database.
//!
//! The kernel forgets a failed fsync: it marks the pages clean, whether or not they are on the disk, and the next fsync
//! answers that all is well (<https://wiki.postgresql.org/wiki/Fsync_Errors>). So a commit is never tried again, and a log
//! in which something may be missing is never written on: what is acknowledged behind a gap is gone after a power cut.
//!
//! `locks/<name>.latch` holds one number, which every process that writes the database has mapped. Even: good. Odd: a
//! write failed, and nobody has recovered the database since. It only counts up, also by a failure while it is odd: who
//! recovers the database just then begins anew.
//!
//! Invariants:
//! 1. A process acknowledges a commit only if the number, looked at after COMMIT, is the even one that it found when it
//!    opened the database. That costs one load.
//! 2. Whoever sees a write fail makes the number odd before anybody is told, and before the turn is given back. A process
//!    that writes without its turn may acknowledge in between, within those microseconds.
//! 3. Odd becomes even only under the init lock, after [`prove`]: while nobody could write, the whole log was read again and
//!    its checksums hold, each page of it was written once more and synced, it is forgotten that any of it was copied into the
//!    main file, and that is synced. Written once more, because the kernel does not write by itself what it has marked clean;
//!    what was copied before the failure is copied again, by the next checkpoint. Whoever dies on the way leaves it odd; the
//!    next one begins anew.
//! 4. A process whose own write failed stays latched until its `reopen()`. Others open the database again by themselves, and
//!    so does one whose maintenance failed: its caller was told.
//! 5. Whoever writes the files looks and tells: writers, checkpoints, migrations, merges, [`visit`](super::visit)s, and who
//!    closes the last connection. A backup writes nothing, and copies what can be read.
//!
//! What this does not promise: that the disk keeps what it says it has synced. Nothing is read back around the kernel's
//! cache. What the kernel has dropped of a log shows in the checksums: then the log is not used before every process has
//! closed it, and SQLite's own recovery cuts it there.
//!
//! Tests: below; `tests/latch_across_processes.rs`; `tests/power_cut.rs`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, ffi as code};

use super::connect::{Patience, Spec, Whose, lock_until, wait_a_moment, whose};
use super::ffi;
use super::generation::User;
use super::log_index::RecoveryLocks;
use super::shared_number::SharedNumber;
use crate::error::{Error, ErrorKind, Result};
use crate::salvage::log_checksum;

/// The number of one database, as this process found it when it opened the database; `None` before, and in memory.
#[derive(Clone, Default)]
pub(super) struct Latch(Arc<Mutex<Option<Joined>>>);

impl Latch {
    pub(super) fn joined(&self) -> Option<Joined> {
        self.0.lock().clone()
    }

    /// A write of this process failed.
    pub(super) fn raise(&self) {
        if let Some(joined) = &*self.0.lock() {
            joined.raise();
        }
    }

    /// As [`Joined::holds`]; true before the database is opened, and in memory.
    pub(super) fn holds(&self) -> bool {
        self.0.lock().as_ref().is_none_or(Joined::holds)
    }
}

/// A generation of the database between two failures.
#[derive(Clone)]
pub(super) struct Joined {
    word: Arc<SharedNumber>,
    found: u64,
}

impl Joined {
    /// False from the moment on when a write of any process failed.
    pub(super) fn holds(&self) -> bool {
        self.word.get() == self.found
    }

    /// A write of this process failed. Told whatever the number is by now: what was recovered before this failure does not
    /// cover it.
    pub(super) fn raise(&self) {
        self.word.update(|number| number.wrapping_add(if is_good(number) { 1 } else { 2 }));
    }

    /// The same when that is what an answer says.
    pub(super) fn judge<T>(&self, answer: Result<T>) -> Result<T> {
        answer.inspect_err(|error| {
            if is_of_the_disk(error) {
                self.raise();
            }
        })
    }

    /// Refuses to go on after a failed write of somebody else.
    ///
    /// # Errors
    /// `Latched`.
    pub(super) fn check(&self) -> Result<()> {
        if self.holds() { Ok(()) } else { Err(failed_elsewhere()) }
    }
}

/// True for a failed write or sync, after which the kernel's cache and the disk may differ.
pub(super) fn is_of_the_disk(error: &Error) -> bool {
    matches!(
        error.sqlite_code(),
        Some(
            code::SQLITE_IOERR_WRITE
                | code::SQLITE_IOERR_FSYNC
                | code::SQLITE_IOERR_DIR_FSYNC
                | code::SQLITE_IOERR_TRUNCATE
        )
    )
}

impl Spec {
    /// The latch's file.
    pub(super) fn latch_file(&self) -> PathBuf {
        self.room.with_extension("latch")
    }

    /// Begins a generation, after recovering the database where that is needed.
    ///
    /// # Errors
    /// As [`recover`](Self::recover_latched); of the system.
    pub(super) fn join_latch(&self, deadline: Instant) -> Result<()> {
        let word = Arc::new(SharedNumber::open(&self.latch_file())?);
        let found = loop {
            let found = word.get();
            if is_good(found) {
                break found;
            }
            self.recover_word(&word, deadline)?;
            if !is_good(word.get()) && Instant::now() >= deadline {
                return Err(failed_elsewhere());
            }
        };
        *self.latch.0.lock() = Some(Joined { word, found });
        Ok(())
    }

    /// The same for who writes beside the write connection. The caller holds the init lock, and no repair is unfinished.
    ///
    /// # Errors
    /// As [`recover`](Self::recover_latched).
    pub(super) fn join_latch_beside(&self, deadline: Instant) -> Result<Joined> {
        let word = Arc::new(SharedNumber::open(&self.latch_file())?);
        self.recover_alone(&word, deadline)?;
        let found = word.get();
        let joined = Joined { word, found: found & !1 };
        // It may have failed again since.
        joined.check()?;
        Ok(joined)
    }

    /// Recovers the database, unless somebody has done so. When it fails again meanwhile, that is left to who opens it.
    ///
    /// # Errors
    /// `Latched` when the disk still fails, `Corrupt` when the log cannot be read as it was written, `Busy` while somebody
    /// is in the way.
    pub(super) fn recover_latched(&self, deadline: Instant) -> Result<()> {
        match self.latch.joined() {
            Some(joined) => self.named(self.recover_word(&joined.word, deadline)),
            None => Ok(()),
        }
    }

    fn recover_word(&self, word: &SharedNumber, deadline: Instant) -> Result<()> {
        let _lock = lock_until(&self.init_lock, deadline)?;
        if is_good(word.get()) {
            return Ok(());
        }
        // Whoever was killed while moving a damaged one may have moved its log: opened without it, what that held would be
        // missing.
        self.finish_unfinished()?;
        self.recover_alone(word, deadline)
    }

    /// The caller holds the init lock.
    fn recover_alone(&self, word: &SharedNumber, deadline: Instant) -> Result<()> {
        let found = word.get();
        if is_good(found) {
            return Ok(());
        }
        // A file that somebody took away has nothing to recover; opening says what is wrong with another's.
        if self.look()? > 0 {
            self.generation.refuse_left_over(&self.path)?;
            let _patience = Patience::until(deadline);
            let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE, User::Writer)?;
            if whose(&connection)? == Whose::Ours {
                ffi::persist_wal(&connection)?;
                prove(&connection).map_err(still_failing)?;
            }
        }
        word.change(found, found + 1);
        Ok(())
    }
}

/// The error of everybody else.
pub(super) fn failed_elsewhere() -> Error {
    Error::new(ErrorKind::Latched, "another process's write to the disk failed")
        .advise("check the disk; the database is opened again by itself")
        .retry_in(Duration::from_secs(1))
}

fn is_good(number: u64) -> bool {
    number.is_multiple_of(2)
}

/// Brings everything that was committed to the disk once more, and shows that the disk takes it. Whoever reads goes on, and
/// is not waited for.
fn prove(connection: &Connection) -> Result<()> {
    let locks = take_locks(connection)?;
    // From now on nobody makes it longer or begins it anew.
    let found = ffi::checkpoint_noop(connection)?;
    if found.busy {
        // Somebody died in the middle of a commit just now, and the next one to read sets the index right.
        return Err(still_used());
    }
    if found.log > 0 {
        if !write_log_again(connection, found.log)? {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "after a failed write its log cannot be read as it was written",
            )
            .advise("close every program that has it open: what of the log is whole is used then"));
        }
        ffi::sync_log(connection)?;
        // What is copied into the main file from now on is whole in the log.
        locks.forget_copied()?;
    } else {
        ffi::sync_log(connection)?;
    }
    Ok(ffi::sync_main_file(connection)?)
}

fn take_locks(connection: &Connection) -> Result<RecoveryLocks<'_>> {
    loop {
        if let Some(locks) = RecoveryLocks::try_take(connection)? {
            return Ok(locks);
        }
        if !wait_a_moment(0) {
            return Err(still_used());
        }
    }
}

fn still_used() -> Error {
    Error::new(
        ErrorKind::Busy,
        "after a failed write it is opened again when nobody writes it or works its log off any more",
    )
    .retry_in(Duration::from_secs(1))
}

fn still_failing(error: Error) -> Error {
    if error.kind() != ErrorKind::Io {
        return error;
    }
    Error::new(ErrorKind::Latched, "an earlier write to the disk failed, and the disk still fails")
        .advise("check the disk; the database is usable again when it works")
        .retry_in(Duration::from_secs(1))
        .caused_by(error)
}

/// Reads the first frames of the log again, and writes each once more, for the disk to have it: true when each is what was
/// written (<https://sqlite.org/fileformat.html#walformat>). Of one that is not, nothing is written. A disk that still takes
/// nothing is found out by the header, before the rest is written for nothing.
fn write_log_again(connection: &Connection, frames: u64) -> Result<bool> {
    const FRAME_HEADER: usize = 24;
    let header = ffi::read_log_header(connection)?;
    let word = |bytes: &[u8], at: usize| {
        u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    let big_endian = word(&header, 0) & 1 == 1;
    let mut sum = log_checksum(&header[..24], (0, 0), big_endian);
    let page_size = word(&header, 8) as usize;
    if sum != (word(&header, 24), word(&header, 28)) || !(512..=65_536).contains(&page_size) {
        return Ok(false);
    }
    ffi::write_log(connection, &header, 0)?;
    ffi::sync_log(connection)?;
    let mut frame = vec![0; FRAME_HEADER + page_size];
    for number in 0..frames {
        let at = header.len() as u64 + number * frame.len() as u64;
        match ffi::read_log(connection, &mut frame, at) {
            Ok(()) => {}
            // It is shorter than what was written.
            Err(error) if ffi::is_short_read(&error) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        sum = log_checksum(&frame[..8], sum, big_endian);
        sum = log_checksum(&frame[FRAME_HEADER..], sum, big_endian);
        if frame[8..16] != header[16..24] || sum != (word(&frame, 16), word(&frame, 20)) {
            return Ok(false);
        }
        ffi::write_log(connection, &frame, at)?;
    }
    Ok(true)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares files from outside")]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    use rusqlite::config::DbConfig;

    use super::*;
    use crate::home::with_ending;

    fn open(path: &Path) -> Connection {
        let connection = Connection::open(path).expect("opened");
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .and_then(|_| connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0"))
            .expect("a log that stays");
        connection
    }

    fn two_processes(path: &Path) -> (Latch, SharedNumber) {
        let word = Arc::new(SharedNumber::open(path).expect("new"));
        let latch = Latch(Arc::new(Mutex::new(Some(Joined { word, found: 0 }))));
        (latch, SharedNumber::open(path).expect("the same file"))
    }

    #[test]
    fn the_number_only_counts_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let (latch, other) = two_processes(&folder.path().join("a.latch"));
        assert!(latch.joined().expect("joined").holds());
        latch.raise();
        assert_eq!(other.get(), 1);
        other.change(1, 2);
        assert!(!latch.joined().expect("joined").holds(), "it acknowledges nothing");
        latch.raise();
        assert_eq!(other.get(), 3, "and tells all when it fails again");
    }

    #[test]
    fn a_failure_while_somebody_recovers_an_earlier_one_is_not_lost() {
        let folder = tempfile::tempdir().expect("a folder");
        let (latch, other) = two_processes(&folder.path().join("a.latch"));
        other.change(0, 1);
        // Somebody has found it odd, and has read and written all there was.
        let found = other.get();
        latch.raise();
        other.change(found, found + 1);
        assert!(!is_good(other.get()), "what failed since is recovered as well");
        // The control: told only by who has seen no other failure, this one were forgotten.
        let (_latch, other) = two_processes(&folder.path().join("b.latch"));
        other.change(0, 1);
        other.change(0, 1);
        other.change(found, found + 1);
        assert!(is_good(other.get()));
    }

    #[test]
    fn what_is_written_while_the_locks_are_waited_for_is_recovered_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sqlite");
        let (recovers, writes) = (open(&path), open(&path));
        recovers.busy_handler(Some(wait_a_moment)).expect("a handler");
        writes.execute_batch("CREATE TABLE t(a); PRAGMA wal_checkpoint(TRUNCATE)").expect("a table");
        let rows = |connection: &Connection| {
            connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).expect("rows")
        };
        assert_eq!((rows(&recovers), ffi::checkpoint_noop(&recovers).expect("looked").log), (0, 0));
        prove(&recovers).expect("an empty log is recovered");
        // It was looked at and found empty, and is not when the locks are there.
        writes.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)").expect("written");
        assert_eq!(prove(&recovers).expect_err("somebody writes").kind(), ErrorKind::Busy);
        let (waits, told) = std::sync::mpsc::channel();
        let recovering = std::thread::spawn(move || {
            let _patience = Patience::until(Instant::now() + Duration::from_mins(1));
            waits.send(()).expect("told");
            prove(&recovers).map(|()| recovers)
        });
        told.recv().expect("it waits, or is about to");
        writes.execute_batch("COMMIT").expect("committed");
        let recovers = recovering.join().expect("no panic").expect("recovered");
        let found = ffi::checkpoint_noop(&recovers).expect("looked");
        assert_eq!((found.log, found.done, rows(&recovers)), (1, 0, 1));
    }

    #[test]
    fn a_file_that_somebody_emptied_is_mapped_all_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.latch");
        std::fs::write(&path, [1, 0, 0]).expect("a short file");
        assert_eq!(SharedNumber::open(&path).expect("mapped").get(), 1, "what is there is kept");
        assert_eq!(std::fs::metadata(&path).expect("a file").len(), 8);
    }

    #[test]
    fn a_log_that_is_not_what_was_written_is_not_used_and_cut_when_nobody_has_it_open() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sqlite");
        let connection = open(&path);
        connection.execute_batch("CREATE TABLE t(a); PRAGMA wal_checkpoint(TRUNCATE)").expect("a table");
        for row in 0..3 {
            connection.execute("INSERT INTO t VALUES (?1)", [row]).expect("a row");
        }
        let log = ffi::checkpoint_noop(&connection).expect("its length").log;
        assert_eq!(log, 3);
        assert!(write_log_again(&connection, log).expect("read"));
        // What the kernel had in its cache is gone; the disk has something older there.
        let file = std::fs::File::options().write(true).open(with_ending(&path, "-wal")).expect("the log");
        file.write_all_at(&[7; 64], 32 + 2 * (24 + 4096) + 2000).expect("written");
        drop(file);
        assert!(!write_log_again(&connection, log).expect("read"));
        assert_eq!(prove(&connection).expect_err("not whole").kind(), ErrorKind::Corrupt);
        drop(connection);
        let connection = open(&path);
        let rows: i64 = connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("rows");
        prove(&connection).expect("what is left is whole");
        assert_eq!(rows, 2);
    }
}
