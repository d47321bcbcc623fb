//! What exactly one thread at a time may use: the write connection and all that belongs to it.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;

use super::connect::{Sidecars, Spec};
use super::ffi::WalGauge;
use super::identity::Identity;
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
    /// The log and its index that belong to the file that was opened.
    pub(super) sidecars: Sidecars,
    /// Batches that still use savepoints from the start.
    pub(super) wary: u32,
    /// Told by the connection's commits, so dropped after it.
    pub(super) gauge: WalGauge,
}

/// How many times the bound the turn is waited for while the line moves.
const PATIENCE_IN_A_MOVING_LINE: u32 = 8;

impl Core {
    /// Closes the connection. When another file is at `path` by now, without writing the old log into that one; then it
    /// answers which the old log and its index are.
    pub(super) fn close(mut self, path: &Path) -> Option<Sidecars> {
        self.identity.check_now(path, self.tx.connection()).err()?;
        // It can only fail by not knowing the option, and this SQLite knows it.
        let _ = self.tx.connection().set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        Some(self.sidecars)
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

    pub(super) fn new(spec: &Spec, opened: Opened) -> Result<Self> {
        Ok(Self {
            identity: Identity::of(&spec.path, opened.stamp, spec.domain.durability)?,
            turn: Turn::open(&spec.lobby, &spec.room)?,
            schema: SchemaWatch::new(opened.cookie, opened.notes),
            sidecars: spec.sidecars(),
            tx: opened.tx,
            wary: 0,
            gauge: opened.gauge,
        })
    }
}
