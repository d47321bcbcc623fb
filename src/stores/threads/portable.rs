//! Rows on their way from home to home.
//!
//! Tests: `tests/b3_portable_home.rs`.

use super::merge::merge;
use super::row::{StoredThread, ThreadFacts, ThreadRow, UserField};
use super::{Threads, bounds, sql, stored};
use crate::error::Result;
use crate::sql::Session;

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restored {
    Inserted,
    Updated,
    Unchanged,
}

impl Threads {
    /// The threads behind this id, in the order of their ids, with their texts whole.
    pub(crate) fn behind(&self, id: &str, most: u32) -> Result<Vec<ThreadRow>> {
        let params = [id.into(), i64::from(most).into()];
        let rows = self.database.get()?.read(|at| at.query(sql::BEHIND, &params))?;
        rows.iter().map(ThreadRow::from_row).collect()
    }

    /// Gives threads names that another program's user gave them, unless a user of this one named them. Answers how many
    /// were given, and how many of these threads are not there.
    pub(crate) fn name_from_elsewhere(&self, names: &[(String, String)]) -> Result<(u64, u64)> {
        let database = self.database.get()?;
        let named = |at: &dyn Fn(&str) -> Result<Option<StoredThread>>| {
            let (mut changed, mut missing) = (Vec::new(), 0);
            for (id, name) in names {
                let Some(known) = at(id)? else {
                    missing += 1;
                    continue;
                };
                if known.row.user_set.contains(UserField::Name) {
                    continue;
                }
                let mut after = known.clone();
                after.row.name = Some(name.clone());
                let after = bounds::bounded(after);
                if after != known {
                    changed.push(after);
                }
            }
            Ok((changed, missing))
        };
        // Mostly nothing changed since the last time, and then nothing is written.
        let (changed, missing) = database.read(|at| named(&|id| stored(at, id)))?;
        if changed.is_empty() {
            return Ok((0, missing));
        }
        database.write(|tx| {
            let (changed, missing) = named(&|id| stored(tx, id))?;
            for after in &changed {
                Session::execute(tx, sql::PUT, &after.params())?;
            }
            Ok((changed.len() as u64, missing))
        })
    }
}

/// Brings facts about one thread into its row, in their order. With `dry_run` it is only found out what would become of it.
pub(crate) fn restore(at: &impl Session, id: &str, facts: &[ThreadFacts], dry_run: bool) -> Result<Restored> {
    let before = stored(at, id)?;
    let after =
        facts.iter().fold(before.clone(), |row, facts| Some(bounds::bounded(merge(row.as_ref(), id, facts))));
    let Some(after) = after.filter(|after| before.as_ref() != Some(after)) else {
        return Ok(Restored::Unchanged);
    };
    if !dry_run {
        at.execute(sql::PUT, &after.params())?;
    }
    Ok(if before.is_some() { Restored::Updated } else { Restored::Inserted })
}
