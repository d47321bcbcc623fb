//! What a user says about a thread, forks, and deletions.
//!
//! What a user says is in the thread's row, and nowhere else: row and history are in one database, and cannot come apart.

use std::time::Duration;

use super::super::deletion;
use super::super::store::{DeleteOptions, Deleted, ForkPoint, not_found, refuse_place};
use super::super::turns::TurnTable;
use super::Inner;
use super::elsewhere;
use super::items;
use super::reading::known;
use super::sql;
use super::writer::{History, millis};
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::{NewRollout, derived};
use crate::sql::{Row, Session};
use crate::sqlite::now_unix_ms;
use crate::stores::database::StoreSession;
use crate::stores::spawn_edges;
use crate::stores::threads::{self, Change, ThreadPatch, ThreadRow, tombstone};
use crate::telemetry;

/// Threads that are deleted in one transaction.
const AT_ONCE: usize = 256;
/// A deletion that is older was cut short.
const CUT_SHORT: Duration = Duration::from_mins(1);

impl Inner {
    pub(super) fn read(&self, thread: &str) -> Result<ThreadRow> {
        self.threads.get(thread)?.ok_or_else(|| not_found(thread))
    }

    pub(super) fn update_metadata(&self, thread: &str, patch: &ThreadPatch) -> Result<ThreadRow> {
        refuse_place(patch)?;
        patch.check()?;
        if patch.is_empty() {
            return self.read(thread);
        }
        self.patch(thread, patch)
    }

    fn patch(&self, thread: &str, patch: &ThreadPatch) -> Result<ThreadRow> {
        let patched = |tx: &StoreSession<'_>| {
            let row = threads::patched(tx, thread, patch)?;
            // A home of files, where it may be one day, could not take back what was said of it here.
            elsewhere::refuse(tx, &row)?;
            Ok(row)
        };
        self.change(thread, patched).map_err(|error| match error.kind() {
            ErrorKind::NotFound => not_found(thread),
            _ => error,
        })
    }

    pub(super) fn set_archived(&self, thread: &str, archived: bool) -> Result<ThreadRow> {
        let row = self.read(thread)?;
        if row.archived_at.is_some() == archived {
            return Ok(row);
        }
        let now = i64::try_from(now_unix_ms()).unwrap_or(i64::MAX);
        let archived_at = if archived { Change::Set(now) } else { Change::Clear };
        self.patch(thread, &ThreadPatch { archived_at, ..ThreadPatch::default() })
    }

    /// Lets the row say what the history says, and forgets its turns, which the next list reads anew.
    pub(super) fn rebuild(&self, thread: &str) -> Result<ThreadRow> {
        let now = i64::try_from(now_unix_ms()).unwrap_or(i64::MAX);
        let rebuilt = self.engine.write(|tx| {
            let found = known(tx, thread)?;
            if let Some(facts) = items::facts(tx, thread, found.items, now)? {
                items::put_row(tx, thread, &facts)?;
            }
            TurnTable::new(tx, thread).forget()
        });
        rebuilt.map_err(|error| self.or_only_read(thread, error))?;
        self.catch_up(thread)?;
        self.read(thread)
    }

    /// The copy is made on the server, with the row in one transaction: there is the whole fork, or none.
    pub(super) fn fork(&self, source: &str, point: &ForkPoint, new: &NewRollout) -> Result<String> {
        let end = self.end_of(source, point).map_err(|error| self.or_only_read(source, error))?;
        let new = NewRollout { forked_from_id: Some(source.to_owned()), ..new.clone() };
        let thread = new.thread_id()?;
        let (first, facts) = derived::of_new(&new, &thread)?;
        let token = uuid::Uuid::now_v7().to_string();
        let keeper = &self.keeper;
        // Alive before it has anything, so that nobody takes the thread before it is known here.
        let _kept = keeper.keep()?;
        let copied = self.engine.write(|tx| {
            known(tx, source)?;
            keeper.writer().is_alive(tx, keeper.lease())?;
            let items = items::fork(tx, (&thread, &token, &first), (source, end), keeper.writer())?;
            let derived = items::facts(tx, &thread, items, facts.updated_at)?;
            items::put_row(tx, &thread, derived.as_ref().unwrap_or(&facts))?;
            Ok(items)
        });
        let copied = copied.inspect_err(|error| self.leave_nothing(&thread, &token, error))?;
        self.go_on(&thread, token, copied)?;
        Ok(thread)
    }

    /// Before which item of a history a fork of it ends.
    fn end_of(&self, source: &str, point: &ForkPoint) -> Result<u64> {
        let items = self.engine.read(|at| known(at, source))?.items;
        let (ForkPoint::AfterTurn(turn) | ForkPoint::BeforeTurn(turn)) = point else { return Ok(items) };
        self.catch_up(source)?;
        let lines = self.engine.read(|at| TurnTable::new(at, source).find(turn))?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("thread {source} has no turn of this id"))
                .advise("list its turns")
        })?;
        Ok(if matches!(point, ForkPoint::AfterTurn(_)) { lines.end } else { lines.start })
    }

    pub(super) fn delete(&self, thread: &str, options: &DeleteOptions) -> Result<Deleted> {
        let family = deletion::family(&self.engine, thread, options)?;
        let counted = deletion::count(&self.runtime, &self.engine, &family)?;
        if !deletion::is_anything(&self.engine, thread, &counted)? {
            return Err(not_found(thread));
        }
        if options.dry_run {
            return Ok(Deleted { dry_run: true, ..counted });
        }
        let mut deleted = Deleted { threads: family.clone(), ..Deleted::default() };
        // The lowest first, so that those above still lead to what is left.
        for some in family.rchunks(AT_ONCE) {
            deleted.memories += self.remove(thread, &family, some)?;
            for id in some {
                self.end(id);
                self.finish(id, &mut deleted);
            }
        }
        Ok(deleted)
    }

    /// Removes rows and histories, and leaves tombstones for what is elsewhere. Answers how many memories went.
    fn remove(&self, root: &str, family: &[String], threads: &[String]) -> Result<u64> {
        let me = self.keeper.writer();
        self.engine.write(|tx| {
            let below = spawn_edges::descendants_of(tx, root)?;
            if below.iter().any(|id| !family.contains(id)) {
                return Err(Error::new(ErrorKind::Conflict, "the thread started another one just now")
                    .advise("end it, and try again"));
            }
            // Also those that go later: what is refused ends no session.
            for id in family {
                let other = History::of(tx, id)?.map(|found| found.other(tx, me)).transpose()?.flatten();
                if let Some(other) = other {
                    return Err(other.in_the_way(id, me));
                }
            }
            let (now, mut memories) = (tx.now_unix_ms()?, 0);
            for id in threads {
                memories += tombstone::set(tx, id, &[], now)?;
                for text in sql::REMOVE {
                    tx.execute(text, &[id.as_str().into()])?;
                }
            }
            Ok(memories)
        })
    }

    /// What is left of a deleted thread in other databases; then its tombstone.
    fn finish(&self, thread: &str, deleted: &mut Deleted) {
        let before = deleted.pending.len();
        deletion::remove(&self.runtime, thread, deleted);
        if deleted.pending.len() == before
            && let Err(error) = self.engine.write(|tx| tombstone::lift(tx, thread))
        {
            deleted.pending.push(format!("state: {error}"));
        }
    }

    /// Goes on with deletions that were cut short, here or on another machine.
    pub(super) fn finish_deletes(&self) -> Result<()> {
        let old = self.engine.read(|at| {
            let before = at.now_unix_ms()?.saturating_sub(millis(CUT_SHORT));
            let rows = at.query(sql::OLD_TOMBSTONES, &[before.into()])?;
            rows.iter().map(|row: &Row| row.get::<String>("thread_id")).collect::<Result<Vec<_>>>()
        })?;
        for thread in old {
            let mut deleted = Deleted::default();
            self.finish(&thread, &mut deleted);
            for why in deleted.pending {
                telemetry::warn(&format_args!("a deletion of a thread is not finished: {why}"));
            }
        }
        Ok(())
    }
}
