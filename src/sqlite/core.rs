//! What exactly one thread at a time may use: the write connection and all that belongs to it.

use std::time::Duration;

use rusqlite::config::DbConfig;

use super::blocked::Blocked;
use super::connect::Spec;
use super::disk_reserve::Looked;
use super::ffi::{self, WalGauge};
use super::identity::{Identity, Lost, Sidecars};
use super::latch::Joined;
use super::schema_watch::SchemaWatch;
use super::turn::Turn;
use super::tx::Tx;
use crate::error::Result;
use crate::sqlite::connect::Opened;

pub(super) struct Core {
    pub(super) tx: Tx,
    pub(super) identity: Identity,
    pub(super) turn: Turn,
    pub(super) schema: SchemaWatch,
    /// Batches that still use savepoints from the start.
    pub(super) wary: u32,
    /// What its replaced file held is in a copy.
    pub(super) copied: bool,
    pub(super) blocked: Blocked,
    pub(super) free_space: Looked,
    /// `None` in memory, where no write can fail.
    latch: Option<Joined>,
    /// Jobs went back to the backlog: it is tried again after a pause.
    pub(super) held_back: bool,
    /// Pages that this connection had written when that was last counted.
    pub(super) pages_written: u32,
    /// A job was refused because the file may not grow: is there still room for others?
    pub(super) met_space: bool,
    /// Told by the connection's commits, so dropped after it.
    pub(super) gauge: WalGauge,
}

/// How many times the bound the turn is waited for while the line moves.
pub(super) const PATIENCE_IN_A_MOVING_LINE: u32 = 8;

impl Core {
    /// Closes the connection for good. The last one of all processes works the log off, unless other files are at its paths
    /// by now, the file is damaged, or a write to it failed: whoever opens it next recovers it then.
    pub(super) fn close(mut self) {
        if self.identity.check_now(self.tx.connection()).is_err() || !self.is_sound() {
            self.leave_log();
            return;
        }
        // SQLite would do so when it closes the last one, and not say whether it worked.
        if let Some(latch) = &self.latch
            && let Err(error) = self.work_off_last()
        {
            self.leave_log();
            drop(latch.judge(Err::<(), _>(error.into())));
        }
    }

    fn work_off_last(&self) -> rusqlite::Result<()> {
        if ffi::shut_others_out(self.tx.connection())? {
            ffi::checkpoint_passive(self.tx.connection())?;
        }
        Ok(())
    }

    /// Closes the connection, to open the files anew; the log stays as it is. When other files are at the paths by now, it
    /// answers which the old log and its index are.
    pub(super) fn close_for_another(mut self) -> Option<Sidecars> {
        self.leave_log();
        match self.identity.check_now(self.tx.connection()) {
            // The log belongs to the damaged file, and stays with it.
            Ok(()) | Err(Lost::Damaged(_) | Lost::Unread(_)) => None,
            Err(Lost::File(_) | Lost::Log(_)) => Some(self.identity.marks().sidecars),
        }
    }

    /// Closes the connection to a damaged file, and changes nothing of it.
    pub(super) fn close_damaged(self) {
        self.leave_log();
    }

    fn leave_log(&self) {
        // It can only fail by not knowing the option, and this SQLite knows it.
        let _ = self.tx.connection().set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    }

    /// Waits for this process's turn: for `bound` when nobody commits meanwhile, which means that whoever has the turn
    /// is stuck; for several times that while others commit, because then the line is long and moves. Going on
    /// without the turn then would make everybody poll, and the line would not move any more.
    pub(super) fn take_turn(&mut self, bound: Duration) -> bool {
        let Self { tx, turn, .. } = self;
        let commits = || tx.row("PRAGMA data_version", [], |row| row.get::<_, i64>(0)).ok();
        let mut seen = None;
        turn.take(bound, PATIENCE_IN_A_MOVING_LINE, || {
            let now = commits();
            let moved = seen.is_none_or(|seen| seen != now);
            seen = Some(now);
            moved
        })
    }

    /// False when a write to the database failed since it was opened, in whichever process: nothing may be acknowledged.
    pub(super) fn is_sound(&self) -> bool {
        self.latch.as_ref().is_none_or(Joined::holds)
    }

    pub(super) fn new(spec: &Spec, opened: Opened) -> Result<Self> {
        // Nobody else can reach what is in memory: it cannot be replaced, and there is no line to wait in.
        let turn = if spec.memory.is_some() { Turn::alone() } else { Turn::open(&spec.room)? };
        Ok(Self {
            identity: Identity::of(&spec.path, opened.marks, spec.domain.durability),
            turn,
            schema: SchemaWatch::new(opened.cookie, opened.notes),
            tx: opened.tx,
            wary: 0,
            copied: false,
            blocked: Blocked::default(),
            free_space: Looked::default(),
            latch: spec.latch.joined(),
            held_back: false,
            pages_written: 0,
            met_space: false,
            gauge: opened.gauge,
        })
    }
}
