//! What exactly one thread at a time may use: the write connection and all that belongs to it.

use std::time::Duration;

use rusqlite::Connection;

use super::blocked::Blocked;
use super::connect::Spec;
use super::disk_reserve::Looked;
use super::ffi::{self, PagesWritten, WalGauge};
use super::identity::{Identity, Lost, Sidecars};
use super::latch::Joined;
use super::schema_watch::SchemaWatch;
use super::turn::Turn;
use super::tx::Tx;
use crate::error::{Error, Result};
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
    pub(super) pages_written: PagesWritten,
    /// A job was refused because the file may not grow: is there still room for others?
    pub(super) met_space: bool,
    /// Told by the connection's commits, so dropped after it.
    pub(super) gauge: WalGauge,
}

/// How often the last connection to close looks whether it is the last: two that close at the same moment are in each
/// other's way.
const LAST_LOOKS: u32 = 3;

/// How many times the bound the turn is waited for while the line moves.
pub(super) const PATIENCE_IN_A_MOVING_LINE: u32 = 8;

impl Core {
    /// Closes the connection for good. The last one of all processes works the log off, unless other files are at its paths
    /// by now, the file is damaged, or a write to it failed: whoever opens it next recovers it then.
    pub(super) fn close(mut self) {
        // In memory nothing is left that could be long.
        let Some(latch) = self.latch.clone() else { return };
        if self.identity.check_now(self.tx.connection()).is_ok() {
            let worked_off = work_off_last(self.tx.connection(), &latch);
            drop(latch.judge(worked_off.map_err(Error::from)));
        }
    }

    /// Closes the connection, to open the files anew. When other files are at the paths by now, it answers which the old log
    /// and its index are.
    pub(super) fn close_for_another(mut self) -> Option<Sidecars> {
        match self.identity.check_now(self.tx.connection()) {
            // The log belongs to the damaged file, and stays with it.
            Ok(()) | Err(Lost::Damaged(_) | Lost::Unread(_)) => None,
            Err(Lost::File(_) | Lost::Log(_)) => Some(self.identity.marks().sidecars),
        }
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
            pages_written: PagesWritten::default(),
            met_space: false,
            gauge: opened.gauge,
        })
    }
}

/// Works the log off and cuts it to nothing when no other connection of any process has the database open. Nobody can open it
/// from then on, until this one is closed.
fn work_off_last(connection: &Connection, latch: &Joined) -> rusqlite::Result<()> {
    let mut alone = false;
    for look in 0..LAST_LOOKS {
        if look > 0 {
            std::thread::yield_now();
        }
        alone = ffi::shut_others_out(connection)?;
        if alone {
            break;
        }
    }
    // Only now nobody can fail any more: whoever did, and is gone, left the log to be recovered.
    if alone && latch.holds() && ffi::log_length(connection)? > 0 {
        ffi::checkpoint_truncate(connection)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rusqlite::config::DbConfig;

    use super::*;
    use crate::config::Limits;
    use crate::domain::Domain;
    use crate::home::Home;
    use crate::presence::Presence;
    use crate::sqlite::connect::Opened;
    use crate::sqlite::generation::User;

    /// A database of this process, with a row in its log.
    fn stage() -> (tempfile::TempDir, Spec, Opened) {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(folder.path()).prepare().expect("a home");
        let program = ("test".to_owned(), "1".to_owned());
        let spec =
            Spec::new(&Domain::new("test"), &home, program, &Limits::default(), None, &Presence::default());
        let opened = spec.open_writer(Instant::now() + Duration::from_secs(20)).expect("created");
        opened.tx.connection().execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES (1)").expect("a row");
        assert!(spec.log_bytes() > 0);
        (folder, spec, opened)
    }

    #[test]
    fn the_last_one_that_closes_leaves_an_empty_log() {
        let (_folder, spec, opened) = stage();
        let read = spec.open_reader(User::Read).expect("a reader");
        let core = Core::new(&spec, opened).expect("a write connection");
        core.close();
        assert!(spec.log_bytes() > 0, "somebody reads");
        drop(read);
        let again = || spec.open_writer(Instant::now() + Duration::from_secs(20)).expect("opened");
        Core::new(&spec, again()).expect("a write connection").close();
        assert_eq!(spec.log_bytes(), 0);
        let rows: i64 =
            again().tx.connection().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("rows");
        assert_eq!(rows, 1);
    }

    #[test]
    fn no_connection_works_the_log_off_behind_our_back() {
        let (_folder, spec, opened) = stage();
        for connection in [
            spec.open_reader(User::Read).expect("a reader").connection(),
            &spec.open_checker().expect("the check's"),
            &spec.open_checkpointer(User::Checkpoint).expect("the checkpointer's"),
            opened.tx.connection(),
        ] {
            let leaves = connection.db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE);
            assert!(leaves.expect("known"));
        }
        // As when what follows the opening fails, or another process has failed meanwhile.
        spec.latch.raise();
        drop(opened);
        assert!(spec.log_bytes() > 0, "an fsync would have answered that all is well");

        let (_folder, spec, opened) = stage();
        spec.latch.raise();
        let as_sqlite_would = opened.tx.connection();
        as_sqlite_would.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).expect("known");
        drop(opened);
        assert_eq!(spec.log_bytes(), 0, "the control");
    }

    #[test]
    fn a_failure_of_somebody_who_is_gone_by_now_is_seen_when_nobody_else_can_fail() {
        let (_folder, spec, opened) = stage();
        let latch = spec.latch.joined().expect("joined");
        latch.raise();
        work_off_last(opened.tx.connection(), &latch).expect("nothing to do");
        assert!(spec.log_bytes() > 0);
        drop(opened);
        let opened = spec.open_writer(Instant::now() + Duration::from_secs(20)).expect("recovered");
        opened.tx.connection().execute_batch("INSERT INTO t VALUES (2)").expect("a row");
        work_off_last(opened.tx.connection(), &spec.latch.joined().expect("joined")).expect("worked off");
        assert_eq!(spec.log_bytes(), 0, "the control: nobody had failed");
    }
}
