//! The few calls of SQLite that rusqlite 0.40 does not offer, each wrapped so that it cannot be misused.
//!
//! - [`Control`]: the engine's own statements (BEGIN, COMMIT, ...), prepared apart from the cache that jobs use.
//! - the header of the main file, read through SQLite's own descriptor: opening the file by name and closing it again
//!   would drop every POSIX lock this process holds on it (<https://sqlite.org/howtocorrupt.html>, 2.2).
//! - [`WalGauge`]: how many pages the write-ahead log holds, told by SQLite after each commit.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::File;
use std::io::Write;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rusqlite::{Connection, Error, Result, ffi};

/// One statement of the engine's own.
struct Statement(*mut ffi::sqlite3_stmt);

impl Statement {
    fn prepare(connection: &Connection, sql: &CStr) -> Result<Self> {
        let mut statement = ptr::null_mut();
        // SAFETY: the handle is open for as long as `connection` is borrowed; `sql` ends in NUL; the out pointer is
        // ours.
        let code = unsafe {
            ffi::sqlite3_prepare_v3(
                connection.handle(),
                sql.as_ptr(),
                -1,
                ffi::SQLITE_PREPARE_PERSISTENT,
                &raw mut statement,
                ptr::null_mut(),
            )
        };
        check(code)?;
        Ok(Self(statement))
    }

    fn run(&self) -> Result<()> {
        // SAFETY: the statement was prepared and is finalized only on drop; `Control` is used by one thread at a time
        // because it sits beside its connection, which is not `Sync`.
        let (step, reset) = unsafe { (ffi::sqlite3_step(self.0), ffi::sqlite3_reset(self.0)) };
        match step {
            ffi::SQLITE_DONE | ffi::SQLITE_ROW => check(reset),
            code => {
                // SAFETY: a live statement; its connection is open as long as it is.
                let connection = unsafe { ffi::sqlite3_db_handle(self.0) };
                // SAFETY: the handle is open.
                Err(failure(unsafe { told_apart(connection, code) }))
            }
        }
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: prepared once, finalized once; `Control` is dropped before its connection closes.
        unsafe { ffi::sqlite3_finalize(self.0) };
    }
}

/// Transaction control. Must be dropped before the connection it was made from.
pub(super) struct Control {
    begin: Statement,
    commit: Statement,
    rollback: Statement,
    savepoint: Statement,
    release: Statement,
    rollback_to: Statement,
    inner_savepoint: Statement,
    inner_release: Statement,
    inner_rollback_to: Statement,
}

// SAFETY: the statements belong to one connection, which is `Send` and used by one thread at a time; `Control` moves
// together with it.
unsafe impl Send for Control {}

impl Control {
    pub(super) fn writer(connection: &Connection) -> Result<Self> {
        Self::new(connection, c"BEGIN IMMEDIATE")
    }

    pub(super) fn reader(connection: &Connection) -> Result<Self> {
        Self::new(connection, c"BEGIN DEFERRED")
    }

    fn new(connection: &Connection, begin: &CStr) -> Result<Self> {
        Ok(Self {
            begin: Statement::prepare(connection, begin)?,
            commit: Statement::prepare(connection, c"COMMIT")?,
            rollback: Statement::prepare(connection, c"ROLLBACK")?,
            savepoint: Statement::prepare(connection, c"SAVEPOINT rowhouse_job")?,
            release: Statement::prepare(connection, c"RELEASE rowhouse_job")?,
            rollback_to: Statement::prepare(connection, c"ROLLBACK TO rowhouse_job")?,
            // Of another name, so that what a job leaves open is inside its own savepoint and ends with it.
            inner_savepoint: Statement::prepare(connection, c"SAVEPOINT rowhouse_inner")?,
            inner_release: Statement::prepare(connection, c"RELEASE rowhouse_inner")?,
            inner_rollback_to: Statement::prepare(connection, c"ROLLBACK TO rowhouse_inner")?,
        })
    }

    pub(super) fn begin(&self) -> Result<()> {
        self.begin.run()
    }

    pub(super) fn commit(&self) -> Result<()> {
        self.commit.run()
    }

    pub(super) fn rollback(&self) -> Result<()> {
        self.rollback.run()
    }

    pub(super) fn savepoint(&self) -> Result<()> {
        self.savepoint.run()
    }

    pub(super) fn release(&self) -> Result<()> {
        self.release.run()
    }

    pub(super) fn rollback_to(&self) -> Result<()> {
        self.rollback_to.run()
    }

    pub(super) fn inner_savepoint(&self) -> Result<()> {
        self.inner_savepoint.run()
    }

    pub(super) fn inner_release(&self) -> Result<()> {
        self.inner_release.run()
    }

    pub(super) fn inner_rollback_to(&self) -> Result<()> {
        self.inner_rollback_to.run()
    }
}

/// SQLite says "full" for a full disk (ENOSPC), but "a write failed" where it was to make room ahead, for a full quota
/// (EDQUOT), and for a file that may not become longer (EFBIG: `ulimit -f`). To everybody that is the same: it passes when
/// there is room again, and nothing was lost (<https://sqlite.org/c3ref/system_errno.html>).
///
/// # Safety
/// `connection` is open.
unsafe fn told_apart(connection: *mut ffi::sqlite3, code: c_int) -> c_int {
    // SAFETY: the caller's.
    let system = || unsafe { ffi::sqlite3_system_errno(connection) };
    if code == ffi::SQLITE_IOERR_WRITE && matches!(system(), libc::EDQUOT | libc::EFBIG | libc::ENOSPC) {
        ffi::SQLITE_FULL
    } else {
        code
    }
}

fn failure(code: c_int) -> Error {
    Error::SqliteFailure(ffi::Error::new(code), None)
}

pub(super) fn check(code: c_int) -> Result<()> {
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(failure(code)) }
}

/// True when deferred foreign keys are violated at this moment
/// (<https://sqlite.org/c3ref/c_dbstatus_options.html>, `SQLITE_DBSTATUS_DEFERRED_FKS`).
pub(super) fn has_deferred_violations(connection: &Connection) -> bool {
    status(connection, ffi::SQLITE_DBSTATUS_DEFERRED_FKS).is_some_and(|current| current != 0)
}

/// Counts what a connection writes to the log, in pages, from one look to the next.
#[derive(Default)]
pub(super) struct PagesWritten {
    seen: u32,
}

impl PagesWritten {
    /// From now on: what this connection has written until now does not count.
    pub(super) fn from_now(connection: &Connection) -> Self {
        Self { seen: pages_written(connection).unwrap_or(0) }
    }

    /// Those since the last look.
    pub(super) fn since_last(&mut self, connection: &Connection) -> u64 {
        pages_written(connection).map_or(0, |written| self.until(written))
    }

    fn until(&mut self, written: u32) -> u64 {
        u64::from(written.wrapping_sub(std::mem::replace(&mut self.seen, written)) & MOST_TOLD)
    }
}

/// What SQLite tells of a count: its lower 31 bits.
const MOST_TOLD: u32 = u32::MAX >> 1;

/// Since it was opened (<https://sqlite.org/c3ref/c_dbstatus_options.html>, `SQLITE_DBSTATUS_CACHE_WRITE`).
fn pages_written(connection: &Connection) -> Option<u32> {
    status(connection, ffi::SQLITE_DBSTATUS_CACHE_WRITE).map(c_int::cast_unsigned)
}

/// Pages that this connection read from the file or its log (`SQLITE_DBSTATUS_CACHE_MISS`).
pub(super) fn pages_read(connection: &Connection) -> u64 {
    status(connection, ffi::SQLITE_DBSTATUS_CACHE_MISS).map_or(0, |pages| u64::from(pages.cast_unsigned()))
}

fn status(connection: &Connection, what: c_int) -> Option<c_int> {
    let (mut current, mut highest) = (0, 0);
    // SAFETY: the handle is open while `connection` is borrowed; both out pointers are ours.
    let code =
        unsafe { ffi::sqlite3_db_status(connection.handle(), what, &raw mut current, &raw mut highest, 0) };
    (code == ffi::SQLITE_OK).then_some(current)
}

/// The connection's last error, if its last call failed (<https://sqlite.org/c3ref/errcode.html>).
pub(super) fn last_error(connection: &Connection) -> Option<Error> {
    // SAFETY: the handle is open while `connection` is borrowed.
    let code = unsafe { ffi::sqlite3_extended_errcode(connection.handle()) };
    // SAFETY: as before.
    let code = unsafe { told_apart(connection.handle(), code) };
    (!matches!(code, ffi::SQLITE_OK | ffi::SQLITE_ROW | ffi::SQLITE_DONE)).then(|| failure(code))
}

/// The connection's last error when that was a full disk or quota, and SQLite itself calls it a failed write.
pub(super) fn full_quota(connection: &Connection) -> Option<Error> {
    // SAFETY: the handle is open while `connection` is borrowed.
    let code = unsafe { ffi::sqlite3_extended_errcode(connection.handle()) };
    // SAFETY: as before.
    let told = unsafe { told_apart(connection.handle(), code) };
    (told != code).then(|| failure(told))
}

/// True while the connection holds a read or write transaction open, also one that an unfinished statement holds in
/// autocommit (<https://sqlite.org/c3ref/txn_state.html>).
pub(super) fn in_transaction(connection: &Connection) -> bool {
    // SAFETY: the handle is open while `connection` is borrowed; a null name asks for all schemas.
    unsafe { ffi::sqlite3_txn_state(connection.handle(), ptr::null()) != ffi::SQLITE_TXN_NONE }
}

/// Resets every statement that is still running, so that nothing pins a snapshot.
pub(super) fn reset_statements(connection: &Connection) {
    let mut statement = ptr::null_mut();
    loop {
        // SAFETY: the handle is open while `connection` is borrowed; the walk ends with null, and resetting a
        // statement does not change the list.
        statement = unsafe { ffi::sqlite3_next_stmt(connection.handle(), statement) };
        if statement.is_null() {
            return;
        }
        // SAFETY: a live statement of this connection.
        unsafe {
            if ffi::sqlite3_stmt_busy(statement) != 0 {
                ffi::sqlite3_reset(statement);
            }
        }
    }
}

/// The two numbers that tell whose file it is (<https://sqlite.org/fileformat.html>, header offsets 60 and 68).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) user_version: u32,
    pub(super) application_id: u32,
}

/// Reads the stamp from the main file through SQLite's own descriptor.
pub(super) fn read_stamp(connection: &Connection) -> Result<Stamp> {
    let bytes: [u8; 12] = read_header(connection, 60)?;
    let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    Ok(Stamp { user_version: number(0), application_id: number(8) })
}

/// True when the header says that the database is in WAL mode (<https://sqlite.org/fileformat.html>, section
/// 1.3.3). `PRAGMA journal_mode` does not tell it of a file opened as immutable.
pub(crate) fn is_wal(connection: &Connection) -> bool {
    const READ_VERSION_AT: ffi::sqlite3_int64 = 19;
    matches!(read_header(connection, READ_VERSION_AT), Ok([2]))
}

/// The header of the write-ahead log (<https://sqlite.org/fileformat.html>, section 4.1), read through SQLite's own
/// descriptor.
pub(super) fn read_log_header(connection: &Connection) -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    read_file(connection, ffi::SQLITE_FCNTL_JOURNAL_POINTER, &mut bytes, 0)?;
    Ok(bytes)
}

/// Fills `bytes` from the write-ahead log, through SQLite's own descriptor.
pub(super) fn read_log(connection: &Connection, bytes: &mut [u8], at: u64) -> Result<()> {
    let at = ffi::sqlite3_int64::try_from(at).map_err(|_| failure(ffi::SQLITE_TOOBIG))?;
    read_file(connection, ffi::SQLITE_FCNTL_JOURNAL_POINTER, bytes, at)
}

/// The length of the write-ahead log's file; 0 when it is not open.
pub(super) fn log_length(connection: &Connection) -> Result<u64> {
    let Some((file, methods)) = file_of(connection, ffi::SQLITE_FCNTL_JOURNAL_POINTER)? else { return Ok(0) };
    let Some(size) = methods.xFileSize else { return Err(failure(ffi::SQLITE_MISUSE)) };
    let mut length = 0;
    // SAFETY: the file is open while `connection` is borrowed, and the method is its own; it writes one number, which is ours.
    check(unsafe { size(file, &raw mut length) })?;
    Ok(u64::try_from(length).unwrap_or(0))
}

/// Writes `bytes` into the write-ahead log, through SQLite's own descriptor.
pub(super) fn write_log(connection: &Connection, bytes: &[u8], at: u64) -> Result<()> {
    let too_big = || failure(ffi::SQLITE_TOOBIG);
    let at = ffi::sqlite3_int64::try_from(at).map_err(|_| too_big())?;
    let length = c_int::try_from(bytes.len()).map_err(|_| too_big())?;
    let Some((file, methods)) = file_of(connection, ffi::SQLITE_FCNTL_JOURNAL_POINTER)? else {
        return Err(failure(ffi::SQLITE_MISUSE));
    };
    let Some(write) = methods.xWrite else { return Err(failure(ffi::SQLITE_MISUSE)) };
    // SAFETY: the file is open while `connection` is borrowed, and the method is its own; it reads the `length` bytes that
    // it is given, which are borrowed.
    check(unsafe { write(file, bytes.as_ptr().cast(), length, at) })
}

/// True when a file ended before what was to be read.
pub(super) fn is_short_read(error: &Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHORT_READ)
}

/// Makes the write-ahead log durable, through SQLite's own descriptor.
pub(super) fn sync_log(connection: &Connection) -> Result<()> {
    sync(connection, ffi::SQLITE_FCNTL_JOURNAL_POINTER)
}

/// Makes the main file durable, through SQLite's own descriptor.
pub(super) fn sync_main_file(connection: &Connection) -> Result<()> {
    sync(connection, ffi::SQLITE_FCNTL_FILE_POINTER)
}

fn sync(connection: &Connection, which: c_int) -> Result<()> {
    let Some((file, methods)) = file_of(connection, which)? else { return Ok(()) };
    let Some(sync) = methods.xSync else { return Err(failure(ffi::SQLITE_MISUSE)) };
    // SAFETY: the file is open while `connection` is borrowed, and the method is its own.
    check(unsafe { sync(file, ffi::SQLITE_SYNC_FULL) })
}

/// True when no other connection of any process has the database open. From then on none can be opened before this one
/// closes, as when SQLite itself closes the last one (<https://sqlite.org/wal.html>, section 6). The connection has read.
pub(super) fn shut_others_out(connection: &Connection) -> Result<bool> {
    let Some((file, methods)) = main_file(connection)? else { return Ok(false) };
    let (Some(lock), Some(unlock)) = (methods.xLock, methods.xUnlock) else { return Ok(false) };
    // SAFETY: the file is open while `connection` is borrowed, and the methods are its own. A connection to a log has the
    // shared lock as long as it is open, so it may ask for the exclusive one, and keeps the shared one when that is refused.
    unsafe {
        match lock(file, ffi::SQLITE_LOCK_EXCLUSIVE) {
            ffi::SQLITE_OK => Ok(true),
            code if code & 0xff == ffi::SQLITE_BUSY => {
                check(unlock(file, ffi::SQLITE_LOCK_SHARED)).map(|()| false)
            }
            code => Err(failure(code)),
        }
    }
}

/// Bytes of the main file from `at` on.
pub(super) fn read_header<const N: usize>(
    connection: &Connection,
    at: ffi::sqlite3_int64,
) -> Result<[u8; N]> {
    let mut bytes = [0u8; N];
    read_file(connection, ffi::SQLITE_FCNTL_FILE_POINTER, &mut bytes, at)?;
    Ok(bytes)
}

/// Writes the first `length` bytes of the main file to `target`.
///
/// # Errors
/// `TimedOut` at `until`; of SQLite, also when the file is shorter by now; of the system.
pub(super) fn copy_file(
    connection: &Connection,
    length: u64,
    mut target: &File,
    until: Option<Instant>,
) -> std::io::Result<()> {
    let mut piece = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        if until.is_some_and(|until| Instant::now() >= until) {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        let rest = usize::try_from(length - at).unwrap_or(usize::MAX).min(piece.len());
        let from = ffi::sqlite3_int64::try_from(at).map_err(std::io::Error::other)?;
        read_file(connection, ffi::SQLITE_FCNTL_FILE_POINTER, &mut piece[..rest], from)
            .map_err(std::io::Error::other)?;
        target.write_all(&piece[..rest])?;
        at += rest as u64;
    }
    Ok(())
}

/// Fills `bytes` from the main file or its log, whichever `which` asks for, through SQLite's own descriptor.
fn read_file(connection: &Connection, which: c_int, bytes: &mut [u8], at: ffi::sqlite3_int64) -> Result<()> {
    let length = c_int::try_from(bytes.len()).map_err(|_| failure(ffi::SQLITE_TOOBIG))?;
    let Some((file, methods)) = file_of(connection, which)? else {
        return Err(failure(ffi::SQLITE_MISUSE));
    };
    let Some(read) = methods.xRead else { return Err(failure(ffi::SQLITE_MISUSE)) };
    // SAFETY: the file is open while `connection` is borrowed, and the method is its own; it writes at most the `length`
    // bytes that it is asked for, which are ours, or fails.
    check(unsafe { read(file, bytes.as_mut_ptr().cast(), length, at) })
}

/// The main file and its methods, for calls that SQLite itself makes no other way; `None` when it is not open.
pub(super) fn main_file(
    connection: &Connection,
) -> Result<Option<(*mut ffi::sqlite3_file, &ffi::sqlite3_io_methods)>> {
    file_of(connection, ffi::SQLITE_FCNTL_FILE_POINTER)
}

/// The main file or its log, whichever `which` asks for, and its methods; `None` when it is not open.
fn file_of(
    connection: &Connection,
    which: c_int,
) -> Result<Option<(*mut ffi::sqlite3_file, &ffi::sqlite3_io_methods)>> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the handle is open while `connection` is borrowed; this file control writes one pointer.
    check(unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            which,
            (&raw mut file).cast::<c_void>(),
        )
    })?;
    // SAFETY: the pointer is null, or the connection's main file or log, which lives as long as the connection; its
    // methods are those of the VFS that opened it, which are never freed, and null for a file that is not open.
    let methods = unsafe { file.as_ref().and_then(|file| file.pMethods.as_ref()) };
    Ok(methods.map(|methods| (file, methods)))
}

/// How often pages were written in the middle of a transaction because the page cache was full
/// (<https://sqlite.org/c3ref/c_dbstatus_options.html>, `SQLITE_DBSTATUS_CACHE_SPILL`), since the last time it was asked.
pub(super) fn spills(connection: &Connection) -> c_int {
    let (mut current, mut highest) = (0, 0);
    // SAFETY: the handle is open while `connection` is borrowed; both out pointers are ours.
    unsafe {
        ffi::sqlite3_db_status(
            connection.handle(),
            ffi::SQLITE_DBSTATUS_CACHE_SPILL,
            &raw mut current,
            &raw mut highest,
            1,
        );
    }
    current
}

/// A number that stays the same from this connection's COMMIT until it begins a transaction that sees a commit of somebody
/// else (<https://sqlite.org/c3ref/c_fcntl_begin_atomic_write.html>, `SQLITE_FCNTL_DATA_VERSION`).
pub(super) fn content_number(connection: &Connection) -> Result<u32> {
    let mut number: u32 = 0;
    // SAFETY: the handle is open while `connection` is borrowed; this file control writes one unsigned int.
    check(unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_DATA_VERSION,
            (&raw mut number).cast::<c_void>(),
        )
    })?;
    Ok(number)
}

/// Keeps -wal and -shm in place when the last connection closes
/// (<https://sqlite.org/c3ref/c_fcntl_begin_atomic_write.html>, `SQLITE_FCNTL_PERSIST_WAL`).
pub(super) fn persist_wal(connection: &Connection) -> Result<()> {
    let mut on: c_int = 1;
    // SAFETY: the handle is open while `connection` is borrowed; this file control reads and writes one int.
    check(unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_PERSIST_WAL,
            (&raw mut on).cast::<c_void>(),
        )
    })
}

/// True when the file that was opened is not at its path any more
/// (<https://sqlite.org/c3ref/c_fcntl_begin_atomic_write.html>, `SQLITE_FCNTL_HAS_MOVED`).
pub(super) fn has_moved(connection: &Connection) -> Result<bool> {
    let mut moved: c_int = 0;
    // SAFETY: the handle is open while `connection` is borrowed; this file control writes one int.
    check(unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_HAS_MOVED,
            (&raw mut moved).cast::<c_void>(),
        )
    })?;
    Ok(moved != 0)
}

/// What one checkpoint did, in pages (<https://sqlite.org/c3ref/wal_checkpoint_v2.html>).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpointed {
    /// Pages in the log.
    pub(super) log: u64,
    /// Of these, pages that are in the main file.
    pub(super) done: u64,
    /// Another process was at it.
    pub(super) busy: bool,
}

/// A PASSIVE checkpoint: as much as can be done without waiting for anybody.
pub(super) fn checkpoint_passive(connection: &Connection) -> Result<Checkpointed> {
    checkpoint(connection, ffi::SQLITE_CHECKPOINT_PASSIVE)
}

/// The same, and then the log begins anew and its file is cut to nothing. `busy` when somebody writes, or reads from the
/// log, for longer than the connection's busy handler waits.
pub(super) fn checkpoint_truncate(connection: &Connection) -> Result<Checkpointed> {
    checkpoint(connection, ffi::SQLITE_CHECKPOINT_TRUNCATE)
}

/// How far the log is worked off. Changes nothing and takes no lock.
pub(super) fn checkpoint_noop(connection: &Connection) -> Result<Checkpointed> {
    // SQLITE_CHECKPOINT_NOOP, since 3.51 (<https://sqlite.org/c3ref/c_checkpoint_full.html>).
    checkpoint(connection, -1)
}

fn checkpoint(connection: &Connection, mode: c_int) -> Result<Checkpointed> {
    let (mut log, mut done) = (-1, -1);
    // SAFETY: the handle is open while `connection` is borrowed; both out pointers are ours.
    let code = unsafe {
        ffi::sqlite3_wal_checkpoint_v2(
            connection.handle(),
            c"main".as_ptr(),
            mode,
            &raw mut log,
            &raw mut done,
        )
    };
    let pages = |n: c_int| u64::try_from(n).unwrap_or(0);
    match code & 0xff {
        ffi::SQLITE_OK => Ok(Checkpointed { log: pages(log), done: pages(done), busy: false }),
        ffi::SQLITE_BUSY => Ok(Checkpointed { log: pages(log), done: pages(done), busy: true }),
        _ => Err(failure(code)),
    }
}

/// Pages in the write-ahead log after the last commit of this connection.
#[derive(Clone, Default)]
pub(super) struct WalGauge(Arc<AtomicU64>);

/// Beside the number of pages, which has half as many bits: there was a commit.
const NEWS: u64 = 1 << 63;

impl WalGauge {
    /// Lets `connection` report to this gauge instead of checkpointing by itself. The gauge must live as long as the
    /// connection.
    pub(super) fn attach(&self, connection: &Connection) {
        // SAFETY: the pointer is that of the Arc's atomic, which `self` (kept beside the connection by its owner)
        // keeps alive; `on_commit` only stores to it.
        unsafe {
            ffi::sqlite3_wal_hook(
                connection.handle(),
                Some(on_commit),
                Arc::as_ptr(&self.0).cast_mut().cast::<c_void>(),
            );
        }
    }

    pub(super) fn pages(&self) -> u64 {
        self.0.load(Ordering::Relaxed) & !NEWS
    }

    /// True when there was a commit since the last time it was asked.
    pub(super) fn take_news(&self) -> bool {
        self.0.fetch_and(!NEWS, Ordering::Relaxed) & NEWS != 0
    }

    /// The log was cut to nothing, with nobody writing.
    pub(super) fn was_cut(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// SQLite calls this after each commit to the log (<https://sqlite.org/c3ref/wal_hook.html>).
unsafe extern "C" fn on_commit(
    gauge: *mut c_void,
    _connection: *mut ffi::sqlite3,
    _schema: *const c_char,
    pages: c_int,
) -> c_int {
    // SAFETY: `gauge` is the pointer given in `attach`, alive as long as the connection.
    let gauge = unsafe { &*gauge.cast::<AtomicU64>() };
    gauge.store(u64::try_from(pages).unwrap_or(0) | NEWS, Ordering::Relaxed);
    ffi::SQLITE_OK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_on_where_sqlites_own_count_begins_anew() {
        let mut pages = PagesWritten::default();
        assert_eq!(pages.until(10), 10);
        assert_eq!(pages.until(10), 0);
        assert_eq!(pages.until(MOST_TOLD - 2), u64::from(MOST_TOLD) - 12);
        assert_eq!(pages.until(5), 8, "5 - (2^31 - 3), of 31 bits");
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a file of the test's own")]
    fn pages_are_counted_from_one_look_to_the_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let connection = Connection::open(folder.path().join("a.sqlite")).expect("opened");
        connection.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a)").expect("a table");
        let mut pages = PagesWritten::from_now(&connection);
        assert_eq!(pages.since_last(&connection), 0);
        connection.execute("INSERT INTO t VALUES (1)", []).expect("a row");
        assert_eq!((pages.since_last(&connection), pages.since_last(&connection)), (1, 0));
    }
}
