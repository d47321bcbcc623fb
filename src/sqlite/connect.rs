//! How a database file is opened: the only place that does.
//!
//! Here is what happens in which order; [`files`] looks at the files by name, [`connection`] opens one connection, [`owner`]
//! tells whose file it is, and [`waiting`] waits for who is in the way.
//!
//! Invariants:
//! 1. A warm open takes no write lock: it runs no statement that needs one, not even to find out.
//! 2. Whatever must be created or migrated is done under the init lock file, after a second look.
//! 3. The file is private (0600) from its first byte, and a real file with one name. It is never opened but by SQLite.
//!    What turns out not to be ours is closed without a change of a byte.
//! 4. The stamp (application id and a random user version) is in the header of the main file before the switch to
//!    WAL, so that it can be read from the file itself ever after.
//! 5. No connection to a database of ours works its log off by being closed.
//!
//! Tests: `tests/open_*.rs` (another connection inside BEGIN IMMEDIATE, a text file, a directory, races of many
//! processes); the stamp in `identity`; what closing leaves in `core`.

mod connection;
mod files;
mod owner;
mod waiting;

use std::fs::Metadata;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::OpenFlags;

use super::cantopen;
use super::damage::{self, DamageReport};
use super::disk_reserve;
use super::ffi::{self, WalGauge};
use super::generation::{Counted, Generation, User};
use super::holders;
use super::identity::{Marks, Place, Sidecars};
use super::latch::{self, Latch};
use super::log_cap::Lengths;
use super::memory::Memory;
use super::migrate::{self, Access};
use super::read_only::ReadOnly;
use super::rebuilt;
use super::space;
use super::stats::{Phase, Times};
use super::tx::{Snapshot, Tx};
use crate::config::Limits;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::home::{self, PreparedHome};
use crate::presence::Presence;
use crate::salvage;
use connection::leave_log_when_closed;
pub(super) use files::SMALLEST_DATABASE;
pub(crate) use owner::APPLICATION_ID;
use owner::is_wal;
pub(super) use owner::{Whose, stamp, whose};
pub(crate) use waiting::{Locked, lock_until, pause};
pub(super) use waiting::{Patience, wait_a_moment};

/// The oldest SQLite without the WAL-reset bug (<https://sqlite.org/wal.html#walresetbug>).
const OLDEST_SQLITE: i32 = 3_051_003;

/// Everything needed to open a database, at the first and at any later time.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) domain: Domain,
    pub(crate) path: PathBuf,
    /// Held while the file is created or migrated.
    pub(crate) init_lock: PathBuf,
    /// The turn's lock file.
    pub(crate) room: PathBuf,
    /// Held by the process that does the steps.
    pub(crate) steps_lock: PathBuf,
    /// Held while free pages are given back to the disk.
    pub(crate) reclaim_lock: PathBuf,
    /// Held by the process that reads the whole file in the background.
    pub(crate) check_lock: PathBuf,
    /// Name and version of the program, as recorded in what it creates.
    pub(crate) program: (String, String),
    pub(crate) limits: Limits,
    /// Which files are open; whatever is opened beside the write connection must have the same.
    pub(super) generation: Generation,
    /// Whether a write to it failed, in any process.
    pub(super) latch: Latch,
    /// Where it is kept when nothing may be kept on the disk.
    pub(crate) memory: Option<Arc<Memory>>,
    /// How it is read while it may not be written.
    pub(super) read_only: ReadOnly,
    /// Tells other processes that somebody has this database open.
    pub(crate) presence: Presence,
    /// How long opening takes.
    pub(super) times: Times,
}

/// An opened write connection and what was found.
pub(super) struct Opened {
    pub(super) tx: Tx,
    pub(super) gauge: WalGauge,
    pub(super) marks: Marks,
    pub(super) access: Access,
    pub(super) warnings: Vec<String>,
    /// What opening had to do that somebody should know.
    pub(super) notes: Vec<String>,
    /// What became of the damaged file that was there.
    pub(super) damage: Option<DamageReport>,
    /// Of the schema that `access` is about.
    pub(super) cookie: i64,
    /// Something was created or migrated: the schema version to record.
    pub(super) wrote: Option<i64>,
}

/// Refuses an SQLite with known corruption bugs.
///
/// # Errors
/// `Unsupported`.
pub(crate) fn check_engine(version: i32) -> Result<()> {
    if version < OLDEST_SQLITE {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("SQLite {version} is older than 3.51.3 and can corrupt a database that several connections write"),
        )
        .advise("build with rusqlite's `bundled` feature, or link SQLite 3.51.3 or later"));
    }
    Ok(())
}

/// The name of the lock file of a domain's steps. It is there once a program had some to do.
pub(crate) fn steps_lock(domain: &str) -> String {
    format!("{domain}.steps")
}

impl Spec {
    /// A domain's database in a home, or in memory.
    pub(crate) fn new(
        domain: &Domain,
        home: &PreparedHome,
        program: (String, String),
        limits: &Limits,
        memory: Option<Arc<Memory>>,
        presence: &Presence,
    ) -> Self {
        let name = domain.name();
        Self {
            path: memory.as_ref().map_or_else(|| home.database_path(name), |memory| memory.path(name)),
            init_lock: home.lock_path(&format!("{name}.init")),
            room: home.lock_path(&format!("{name}.room")),
            steps_lock: home.lock_path(&steps_lock(name)),
            reclaim_lock: home.lock_path(&format!("{name}.reclaim")),
            check_lock: home.lock_path(&format!("{name}.check")),
            program,
            domain: domain.clone(),
            limits: limits.clone(),
            generation: Generation::default(),
            latch: Latch::default(),
            memory,
            read_only: ReadOnly::default(),
            presence: presence.another(),
            times: Times::default(),
        }
    }

    /// Opens the database for writing; creates and migrates it when there is need, waiting for others until
    /// `deadline`.
    pub(super) fn open_writer(&self, deadline: Instant) -> Result<Opened> {
        self.named(self.try_open_writer(deadline))
    }

    fn try_open_writer(&self, deadline: Instant) -> Result<Opened> {
        let _patience = Patience::until(deadline);
        check_engine(rusqlite::version_number())?;
        self.domain.check()?;
        self.read_only.end();
        if let Some(memory) = &self.memory {
            memory.create(self.domain.name());
            return self.create_or_migrate();
        }
        let mut found = None;
        match self.open_soundly(deadline, &mut found) {
            // It was being set aside while it was opened: what comes into its place counts.
            Err(_) if self.was_set_aside(found) => self.open_soundly(deadline, &mut found),
            Err(error) if self.may_be_replaced(&error) => {
                let damage = self.make_room(deadline)?;
                let mut opened = self.open_soundly(deadline, &mut found)?;
                opened.damage = opened.damage.or(damage);
                Ok(opened)
            }
            answer => answer,
        }
    }

    /// What was created or migrated while a write of another process failed may be behind a gap in the log: it is recovered,
    /// and opened again. A failed write of its own is told to all.
    fn open_soundly(&self, deadline: Instant, found: &mut Option<Place>) -> Result<Opened> {
        loop {
            let opened = self.open_once(deadline, found).inspect_err(|error| {
                if latch::is_of_the_disk(error) {
                    self.latch.raise();
                }
            })?;
            if opened.wrote.is_none() || self.latch.holds() {
                return Ok(opened);
            }
        }
    }

    /// `found` learns which file was there, before anything was done with it.
    fn open_once(&self, deadline: Instant, found: &mut Option<Place>) -> Result<Opened> {
        // Before anything touches the file: it may be on another file system than its folder.
        let looking = self.times.enter(Phase::Look);
        let seen = self.look_closely()?;
        let length = seen.as_ref().map_or(0, Metadata::len);
        *found = seen.as_ref().map(Place::found);
        self.check_writable()?;
        drop(looking);
        self.generation.refuse_left_over(&self.path)?;
        self.join_latch(deadline)?;
        // Without a log it is new, or was copied or restored, or somebody removed the log under those who have it open:
        // the lock keeps apart who begins a new log and who brings home what is in the removed one.
        if length > 0
            && let Some(log) = Sidecars::of(&self.path).wal
        {
            let connecting = self.times.enter(Phase::Connect);
            let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE, User::Writer)?;
            let known = whose(&connection)? == Whose::Ours && is_wal(&connection)?;
            drop(connecting);
            if known {
                let inspecting = self.times.enter(Phase::Migrate);
                let state = migrate::inspect(&connection, &self.domain)?;
                drop(inspecting);
                // It may have been removed since the look, and this be a new one, begun without the lock.
                let same_log = Sidecars::of(&self.path).wal == Some(log);
                if state.settled() && same_log {
                    state.check()?;
                    self.tighten()?;
                    return self.finish(connection, state, Vec::new(), None);
                }
            }
        }
        let waiting = self.times.enter(Phase::LockWait);
        let _lock = lock_until(&self.init_lock, deadline)?;
        drop(waiting);
        // Whoever was killed while moving a damaged one leaves it without a log, or nothing at all.
        let damage = self.finish_unfinished()?;
        if self.look()? == 0 {
            if self.is_emptied() {
                return Err(damage::emptied());
            }
            if !self.path.exists() {
                home::create_private_file(&self.path)?;
            }
        }
        let mut opened = self.create_or_migrate()?;
        opened.damage = damage;
        self.tighten()?;
        Ok(opened)
    }

    /// Whatever is missing. On a disk under the init lock file.
    fn create_or_migrate(&self) -> Result<Opened> {
        let connecting = self.times.enter(Phase::Connect);
        let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE, User::Writer)?;
        let mut notes = Vec::new();
        let found = whose(&connection)?;
        match found {
            Whose::Ours => {}
            Whose::Nobodys => stamp(&connection)?,
            Whose::Unmarked => {
                rebuilt::recognise(&connection, &self.domain)?;
                // The marks belong in the main file; in WAL mode they would go to the log.
                connection.query_row("PRAGMA journal_mode=DELETE", [], |_| Ok(()))?;
                // A dump leaves out the numbers of rows, by which a full-text index knows them.
                salvage::index_texts(&connection)?;
                stamp(&connection)?;
                notes.push(rebuilt::NOTE.to_owned());
            }
        }
        leave_log_when_closed(&connection, true)?;
        if !is_wal(&connection)? {
            let mode: String = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
            if mode != "wal" {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "this file system cannot hold a write-ahead log",
                )
                .advise("choose a home on a local disk with --home or ROWHOUSE_HOME"));
            }
        }
        drop(connecting);
        let migrating = self.times.enter(Phase::Migrate);
        let outcome = migrate::migrate(&connection, &self.domain, (&self.program.0, &self.program.1))?;
        let state = migrate::inspect(&connection, &self.domain)?;
        drop(migrating);
        let wrote = (found != Whose::Ours || !outcome.applied.is_empty()).then_some(outcome.schema_version);
        self.finish(connection, state, notes, wrote)
    }

    /// A read connection.
    pub(super) fn open_reader(&self, user: User) -> Result<Snapshot> {
        let open = || {
            if let Some(snapshot) = self.open_source(user)? {
                return Ok(snapshot);
            }
            let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_ONLY, user)?;
            self.check_current(&connection)?;
            Ok(Snapshot::new(connection)?)
        };
        self.named(open())
    }

    /// A connection that reads the file for a step of its check.
    pub(super) fn open_checker(&self) -> Result<Counted> {
        let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_ONLY, User::Check)?;
        self.check_current(&connection)?;
        Ok(connection)
    }

    /// A connection that works off the log, or takes the write lock and writes nothing.
    pub(super) fn open_checkpointer(&self, user: User) -> Result<Counted> {
        let open = || {
            let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE, user)?;
            ffi::persist_wal(&connection)?;
            // A checkpoint needs to know the log, which the first read finds out.
            self.check_current(&connection)?;
            connection.busy_handler(None)?;
            Ok(connection)
        };
        self.named(open())
    }

    /// Refuses a connection to other files than those that the write connection has open.
    pub(super) fn check_current(&self, connection: &Counted) -> Result<()> {
        // What it opens, it opens at the first read.
        connection.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0))?;
        if self.memory.is_some() { Ok(()) } else { self.generation.check(&self.path, connection) }
    }

    pub(crate) fn named<T>(&self, answer: Result<T>) -> Result<T> {
        answer.map_err(|error| self.name(error))
    }

    /// Names the database, and who, or which file system, is in the way there.
    pub(super) fn name(&self, error: Error) -> Error {
        let error = disk_reserve::count(error, &self.path);
        let error = cantopen::explain(error, &self.path);
        let error = holders::blame(error, &self.path, &self.init_lock);
        home::blame_file_system(error, &self.path).in_database(self.domain.name(), &self.path)
    }

    pub(super) fn log_lengths(&self) -> Lengths {
        Lengths::of(&self.limits, &self.domain)
    }

    /// Makes a connection the write connection.
    fn finish(
        &self,
        connection: Counted,
        state: migrate::State,
        notes: Vec<String>,
        wrote: Option<i64>,
    ) -> Result<Opened> {
        ffi::persist_wal(&connection)?;
        let marks = match &self.memory {
            Some(_) => Marks::in_memory(&connection)?,
            None => Marks::of(&self.path, &connection)?,
        };
        if self.memory.is_none() && !marks.has_log() {
            // The index that it uses is that of a removed log, which a connection of this process that is not the
            // library's still has open: what is written by it could not be recovered.
            return Err(Error::new(
                ErrorKind::Busy,
                "something in this process still uses the removed files; it is tried again when that has ended",
            )
            .retry_in(Duration::from_secs(1)));
        }
        self.generation.joined(&connection, &marks);
        space::limit(&connection, self)?;
        let gauge = WalGauge::default();
        gauge.attach(&connection);
        // From here on the writer itself waits, one look a millisecond.
        connection.busy_handler(None)?;
        let migrate::State { access, warnings, cookie, .. } = state;
        Ok(Opened {
            tx: Tx::new(connection)?,
            gauge,
            marks,
            access,
            warnings,
            notes,
            damage: None,
            cookie,
            wrote,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_of_a_settled_database_opens_beside_a_writer() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = home::Home::at(folder.path()).prepare().expect("a home");
        let program = ("test".to_owned(), "1".to_owned());
        let spec =
            Spec::new(&Domain::new("test"), &home, program, &Limits::default(), None, &Presence::default());
        drop(spec.open_writer(Instant::now() + Duration::from_secs(20)).expect("created"));
        let other = spec.open_checkpointer(User::Checkpoint).expect("a connection");
        other.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
        // With no patience: whoever needed the lock would fail.
        let _impatient = Patience::until(Instant::now());
        spec.open_writer(Instant::now()).expect("the writer's");
        spec.open_reader(User::Read).expect("a reader's, and the watcher's");
        spec.open_checkpointer(User::Checkpoint).expect("the checkpointer's");
        let control = spec.connect(OpenFlags::SQLITE_OPEN_READ_WRITE, User::Writer).expect("opened");
        let error = Error::from(control.execute_batch("PRAGMA auto_vacuum=INCREMENTAL").expect_err("locked"));
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    }

    #[test]
    fn an_sqlite_with_the_wal_reset_bug_is_refused() {
        for old in [3_050_002, 3_051_002] {
            let error = check_engine(old).expect_err("too old");
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("3.51.3"), "{error}");
        }
        check_engine(3_051_003).expect("the first good one");
        check_engine(rusqlite::version_number()).expect("the bundled one");
    }
}
