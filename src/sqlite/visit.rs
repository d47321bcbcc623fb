//! A visit to a database beside those who have it open: takes the write lock in its turn, creates and migrates nothing.
//!
//! Invariants:
//! 1. The lock is taken after the turn: this process's own writer waits in line like those of others, between two batches,
//!    and needs to be told nothing.
//! 2. The connection closes without a checkpoint.
//! 3. After a failed write of any process it goes on only when somebody has recovered the database: it does so itself when it
//!    begins. A failed write of its own is told to all ([`latch`](super::latch)). A backup, which writes nothing, reads also
//!    while the disk fails.
//!
//! Tests: `tests/b1_backup.rs`, `tests/space_comes_back.rs`, `tests/latch_across_processes.rs`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::clock::instant_after;
use super::connect::{self, APPLICATION_ID, Patience, Spec, lock_until, pause};
use super::core::PATIENCE_IN_A_MOVING_LINE;
use super::ffi;
use super::generation::{Counted, User};
use super::holders::{flock_holder, write_lock_holder};
use super::latch::Joined;
use super::lineage;
use super::turn::Turn;
use crate::error::{Error, ErrorKind, Result};
use crate::home;

/// How long a backup waits for a database to be recovered after a failed write, before it copies what can be read.
const LONGEST_PROOF: Duration = Duration::from_secs(1);

/// A database, its turn and its write lock.
pub(crate) struct Visit {
    connection: Counted,
    /// `None` for a backup, which goes on when it has begun.
    latch: Option<Joined>,
    turn: Turn,
    spec: Spec,
    /// Ends after the connection.
    _note: Note,
}

/// Notes for forks that this process has the file open, unless it is noted already.
struct Note(Option<PathBuf>);

impl Note {
    fn take(path: &Path) -> Result<Self> {
        Ok(Self(lineage::visit(path)?.then(|| path.to_owned())))
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            lineage::leave(path);
        }
    }
}

impl Visit {
    /// Opens a database as it is: also one of a newer schema.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`, `Conflict` for a file of another program, `Busy` while somebody creates or migrates it,
    /// `Closed` in a fork of a process that has it open, and those of SQLite.
    pub(super) fn begin(spec: &Spec, user: User, patience: Duration) -> Result<Self> {
        spec.named(Self::try_begin(spec, user, patience))
    }

    fn try_begin(spec: &Spec, user: User, patience: Duration) -> Result<Self> {
        let deadline = instant_after(patience);
        let _patience = Patience::until(deadline);
        let note = Note::take(&spec.path)?;
        // A database without a log gets one by being opened: one at a time (see `connect`).
        let _lock = lock_until(&spec.init_lock, deadline)?;
        if spec.is_being_set_right() {
            return Err(Error::new(ErrorKind::Busy, "a repair of the database was broken off").advise(
                "open it with its program, or run `rowhouse repair apply`; either finishes the repair",
            ));
        }
        let found = home::check_database_file(&spec.path)?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "the database file is missing"))?;
        if found.len() < connect::SMALLEST_DATABASE {
            return Err(Error::new(ErrorKind::Corrupt, "the file is too short to be a database"));
        }
        let latch = join_latch(spec, user, deadline)?;
        let connection = spec.open_checkpointer(user)?;
        if ffi::read_stamp(&connection)?.application_id != APPLICATION_ID {
            return Err(Error::new(ErrorKind::Conflict, "the file is a database of another program"));
        }
        let turn = Turn::open(&spec.room)?;
        Ok(Self { connection, latch, turn, spec: spec.clone(), _note: note })
    }

    /// Refuses to go on after a failed write of somebody else.
    ///
    /// # Errors
    /// `Latched`.
    pub(super) fn check_latch(&self) -> Result<()> {
        self.latch.as_ref().map_or(Ok(()), Joined::check)
    }

    /// To be asked about every answer of a call that writes the database's files: tells all when it failed.
    pub(super) fn judge<T, E: Into<Error>>(&self, answer: Result<T, E>) -> Result<T> {
        let answer = answer.map_err(Into::into);
        match &self.latch {
            Some(latch) => latch.judge(answer),
            None => answer,
        }
    }

    /// Works the log off. False when somebody reads, so that some of it stays.
    pub(super) fn work_log_off(&self) -> Result<bool> {
        let log = self.judge(ffi::checkpoint_passive(&self.connection))?;
        Ok(!log.busy && log.done >= log.log)
    }

    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Waits in line until `until` at the latest. Without a turn (its holder is stopped) false; whatever the answer,
    /// [`leave`](Self::leave) is to follow.
    pub(crate) fn take_turn(&mut self, until: Instant) -> bool {
        let Self { turn, connection, spec, .. } = self;
        let bound = spec.limits.turn_wait.min(until.saturating_duration_since(Instant::now()));
        let mut seen = None;
        turn.take(bound, PATIENCE_IN_A_MOVING_LINE, || {
            let now: Option<i64> = connection.query_row("PRAGMA data_version", [], |row| row.get(0)).ok();
            let moved = seen.is_none_or(|seen| seen != now);
            seen = Some(now);
            moved && Instant::now() < until
        })
    }

    /// Gives the turn back.
    pub(crate) fn leave(&mut self) {
        self.turn.leave();
    }

    /// Takes the turn and the write lock. `Busy` with the holder when they do not come by `until`.
    pub(crate) fn lock(&mut self, until: Instant) -> Result<()> {
        // Without a turn the lock is polled, as a writer does.
        self.take_turn(until);
        loop {
            let error = match self.connection.execute_batch("BEGIN IMMEDIATE") {
                Ok(()) => return self.check_latch().inspect_err(|_| self.unlock()),
                Err(error) => Error::from(error),
            };
            if error.kind() != ErrorKind::Busy {
                self.turn.leave();
                return Err(error);
            }
            if Instant::now() >= until {
                let Spec { path, room, .. } = &self.spec;
                let holder = write_lock_holder(path).or_else(|| flock_holder(room));
                self.turn.leave();
                return Err(Error::new(ErrorKind::Busy, "the database is locked by somebody else")
                    .held_by(holder)
                    .retry_in(Duration::from_secs(1)));
            }
            pause();
        }
    }

    /// Gives the write lock and the turn back; nothing was written.
    pub(crate) fn unlock(&mut self) {
        // What cannot be rolled back ends with the connection.
        let _ = self.connection.execute_batch("ROLLBACK");
        self.turn.leave();
    }

    /// Makes what was written durable, and gives the write lock and the turn back.
    pub(crate) fn commit(&mut self) -> Result<()> {
        let answer = self.judge(self.connection.execute_batch("COMMIT"));
        if answer.is_err() {
            self.unlock();
        }
        self.turn.leave();
        answer?;
        self.check_latch()
    }
}

fn join_latch(spec: &Spec, user: User, deadline: Instant) -> Result<Option<Joined>> {
    if user != User::Backup {
        return spec.join_latch_beside(deadline).map(Some);
    }
    match spec.join_latch_beside(deadline.min(instant_after(LONGEST_PROOF))) {
        Err(error) if !matches!(error.kind(), ErrorKind::Latched | ErrorKind::Busy) => Err(error),
        _ => Ok(None),
    }
}
