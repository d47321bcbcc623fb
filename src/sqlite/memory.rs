//! Databases in memory, for programs that may keep nothing: an SQLite VFS whose files are memory of this process
//! (<https://sqlite.org/vfs.html>).
//!
//! SQLite's own in-memory databases have no write-ahead log: a reader there stops the writer, and a write from within a
//! read waits for itself. With files that can be locked and have a log and its index, everything above works as on a
//! disk: writer, readers, snapshots, checkpoints.
//!
//! Invariants:
//! 1. No file is created, whatever SQLite asks for: temporary files are memory too.
//! 2. A database lives as long as its [`Memory`], also while no connection is open, and ends with it.
//! 3. Locks and the index mean what they do on a disk (<https://sqlite.org/lockingv3.html>,
//!    <https://sqlite.org/walformat.html#wal_locks>); none waits.
//!
//! Tests: `tests/ephemeral_keeps_nothing.rs`, and below.

mod file;
mod vfs;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use file::MemoryFile;

/// The name that SQLite knows the VFS by.
pub(super) const VFS: &std::ffi::CStr = c"rowhouse-memory";

/// The files that have a name.
static FILES: Mutex<BTreeMap<String, Arc<MemoryFile>>> = Mutex::new(BTreeMap::new());

/// The databases of one runtime that keeps nothing. They are gone when it is dropped.
pub(crate) struct Memory {
    /// What their names begin with: not a path, so that nobody takes it for a file.
    prefix: String,
}

impl Memory {
    /// A place for databases.
    ///
    /// # Errors
    /// `Unsupported` when this SQLite takes no VFS.
    pub(crate) fn new() -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        vfs::register().map_err(|error| {
            Error::new(ErrorKind::Unsupported, "this SQLite cannot keep databases in memory").caused_by(error)
        })?;
        Ok(Self { prefix: format!("memory:{}:", COUNT.fetch_add(1, Ordering::Relaxed)) })
    }

    /// What a database goes by here, and in errors.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        format!("{}{name}", self.prefix).into()
    }

    /// Creates an empty database unless it is there.
    pub(super) fn create(&self, name: &str) {
        FILES.lock().entry(format!("{}{name}", self.prefix)).or_default();
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        FILES.lock().retain(|name, _| !name.starts_with(&self.prefix));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rusqlite::{Connection, OpenFlags};

    use super::*;

    #[allow(clippy::disallowed_methods)]
    fn open(path: &Path) -> rusqlite::Result<Connection> {
        Connection::open_with_flags_and_vfs(path, OpenFlags::SQLITE_OPEN_READ_WRITE, VFS)
    }

    fn rows(connection: &Connection) -> i64 {
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("a count")
    }

    fn wal_database(memory: &Memory) -> (PathBuf, Connection) {
        let path = memory.path("test");
        memory.create("test");
        let writer = open(&path).expect("opened");
        let mode: String = writer.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0)).expect("a mode");
        assert_eq!(mode, "wal");
        writer.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES (1)").expect("a table");
        (path, writer)
    }

    #[test]
    fn a_reader_keeps_its_snapshot_beside_a_writer_that_checkpoints() {
        let memory = Memory::new().expect("a place");
        let (path, writer) = wal_database(&memory);
        let reader = open(&path).expect("opened");
        reader.execute_batch("BEGIN").expect("begun");
        assert_eq!(rows(&reader), 1);
        for _ in 0..500 {
            writer
                .execute_batch("INSERT INTO t VALUES (randomblob(3000))")
                .expect("written beside the reader");
        }
        writer.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).expect("checkpointed");
        assert_eq!(rows(&reader), 1, "its snapshot");
        reader.execute_batch("COMMIT").expect("ended");
        assert_eq!(rows(&reader), 501);
        let check: String =
            writer.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
        assert_eq!(check, "ok");
    }

    #[test]
    fn only_one_connection_writes_at_a_time() {
        let memory = Memory::new().expect("a place");
        let (path, writer) = wal_database(&memory);
        let other = open(&path).expect("opened");
        other.busy_handler(None).expect("no waiting");
        writer.execute_batch("BEGIN IMMEDIATE").expect("begun");
        let refused = other.execute_batch("BEGIN IMMEDIATE").expect_err("taken");
        assert_eq!(refused.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
        writer.execute_batch("ROLLBACK").expect("ended");
        other.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (2); COMMIT").expect("its turn");
        assert_eq!(rows(&writer), 2);
    }

    #[test]
    fn rollback_journals_work_too() {
        let memory = Memory::new().expect("a place");
        let path = memory.path("journal");
        memory.create("journal");
        let connection = open(&path).expect("opened");
        connection
            .execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES (1); BEGIN; DELETE FROM t; ROLLBACK")
            .expect("rolled back");
        let reader = open(&path).expect("opened");
        reader.execute_batch("BEGIN; SELECT * FROM t").expect("reading");
        connection.busy_handler(None).expect("no waiting");
        assert!(connection.execute_batch("DELETE FROM t").is_err(), "a reader holds the file");
        reader.execute_batch("COMMIT").expect("ended");
        connection.execute_batch("ROLLBACK").ok();
        connection.execute_batch("DELETE FROM t").expect("free");
        assert_eq!(rows(&reader), 0);
    }

    #[test]
    fn content_outlives_its_connections_and_ends_with_its_owner() {
        let memory = Memory::new().expect("a place");
        let (path, writer) = wal_database(&memory);
        drop(writer);
        let again = open(&path).expect("opened");
        assert_eq!(rows(&again), 1);
        drop(again);
        drop(memory);
        assert!(open(&path).is_err(), "gone");
        assert!(FILES.lock().keys().all(|name| !name.starts_with(&*path.to_string_lossy())));
    }

    #[test]
    fn what_sorts_and_spills_creates_no_file() {
        let memory = Memory::new().expect("a place");
        let (_, writer) = wal_database(&memory);
        writer
            .execute_batch(
                "PRAGMA cache_size=10; PRAGMA temp_store=FILE;
                 CREATE TEMP TABLE big AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
                     SELECT i, randomblob(100) AS b FROM n;
                 CREATE TABLE sorted AS SELECT * FROM big ORDER BY b;",
            )
            .expect("spilled");
        #[cfg(target_os = "linux")]
        for entry in std::fs::read_dir("/proc/self/fd").expect("descriptors").flatten() {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            assert!(!target.to_string_lossy().contains("etilqs"), "{}", target.display());
        }
    }
}
