//! Whether the transcripts of the home are indexed, and who is at it.

use rusqlite::Connection;

use super::super::command::Own;
use super::super::finding::Finding;
use super::super::scope::Scope;
use super::super::subject::Subject;
use super::super::words::number;
use crate::error::Result;
use crate::home::PreparedHome;
use crate::sqlite::holders::flock_holder;
use crate::stores::backfill::BackfillState;

/// Held by the process that indexes.
const LOCK: &str = "state.backfill";

const BACKFILLS: &str = "SELECT root, state, owner_pid FROM backfill ORDER BY root LIMIT 100";

/// One indexed folder, as far as it is.
pub(super) struct Indexed {
    pub(super) root: String,
    pub(super) state: BackfillState,
    owner: Option<i64>,
}

/// The home's state database.
pub(super) fn state<'c>(scope: &Scope<'c>) -> Result<(&'c PreparedHome, &'c Subject), &'static str> {
    let home = scope.context.home()?;
    let subject = scope.context.subjects.iter().find(|subject| subject.name == "state");
    match subject.filter(|subject| subject.domain.is_some()) {
        Some(subject) => Ok((home, subject)),
        None => Err("this home has no threads"),
    }
}

/// The folders that somebody indexed.
pub(super) fn indexed(connection: &Connection) -> Result<Vec<Indexed>> {
    let mut statement = connection.prepare(BACKFILLS)?;
    let rows = statement.query_map([], |row| {
        let state: String = row.get(1)?;
        // The schema allows no other word.
        let state = BackfillState::from_word(&state).unwrap_or(BackfillState::Pending);
        Ok(Indexed { root: row.get(0)?, state, owner: row.get(2)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn backfill(scope: &Scope) -> Finding {
    let (home, subject) = match state(scope) {
        Ok(found) => found,
        Err(why) => return Finding::skipped(why),
    };
    let holder = flock_holder(&home.lock_path(LOCK));
    subject.opened(scope, |look| {
        if !look.has_table("backfill")? {
            return Ok(Finding::skipped("its schema is older than this check"));
        }
        let all = indexed(look.connection())?;
        let open: Vec<_> = all.iter().filter(|one| one.state != BackfillState::Complete).collect();
        let told = |finding: Finding| finding.detail("folders", all.len());
        if let Some(holder) = holder {
            let finding = if holder.stopped {
                Finding::warning(format!("{holder} indexes transcripts, and is stopped"))
                    .evidence("nobody takes over from a stopped process: it may go on at any time")
                    .remedy("let it go on (fg, kill -CONT), or end it")
                    .holder(&holder)
            } else {
                Finding::ok(format!("{holder} indexes transcripts"))
            };
            return Ok(told(finding));
        }
        let Some(first) = open.first() else {
            return Ok(told(Finding::ok(format!("{} indexed", number(all.len() as u64, "folder")))));
        };
        let finding = if first.state == BackfillState::Running {
            let owner = first.owner.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            Finding::warning(format!(
                "the process{owner} that indexed {} ended before it was done",
                first.root
            ))
        } else {
            Finding::warning(format!("{} is not indexed yet: lists lack its threads", first.root))
        };
        Ok(told(finding)
            .remedy("a program that opens the home goes on where it ended; to do it now:")
            .fix(Own::Backfill))
    })
}
