//! Rows on their way from home to home.
//!
//! Tests: `tests/b3_portable_home.rs`.

use super::merge::merge;
use super::row::{MemoryMode, StoredThread, ThreadFacts, ThreadRow, UserField};
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
        // Mostly nothing changed since the last time, and then nothing is written.
        let (changed, missing) = database.read(|at| to_be_named(at, names))?;
        if changed.is_empty() {
            return Ok((0, missing));
        }
        database.write(|tx| {
            let (changed, missing) = to_be_named(tx, names)?;
            for after in &changed {
                Session::execute(tx, &sql::PUT, &after.params())?;
            }
            Ok((changed.len() as u64, missing))
        })
    }
}

/// The rows that get another name from elsewhere, with it; and how many of these threads are not there.
fn to_be_named(at: &impl Session, names: &[(String, String)]) -> Result<(Vec<StoredThread>, u64)> {
    let (mut changed, mut missing) = (Vec::new(), 0);
    for (id, name) in names {
        let Some(known) = stored(at, id)? else {
            missing += 1;
            continue;
        };
        let mut after = known.clone();
        if !known.row.user_set.contains(UserField::Name) {
            after.row.name = Some(name.clone());
        }
        let after = bounds::bounded(after);
        if after != known {
            changed.push(after);
        }
    }
    Ok((changed, missing))
}

/// Brings facts about one thread into its row, in their order. With `dry_run` it is only found out what would become of it.
///
/// `memory_mode` is what the other home's row said: it holds for a new row, whatever its transcript says; of a row that is
/// here the stricter one holds, so that no import lets memories be drawn which somebody forbade in either place.
pub(crate) fn restore(
    at: &impl Session,
    id: &str,
    facts: &[ThreadFacts],
    memory_mode: Option<MemoryMode>,
    dry_run: bool,
) -> Result<Restored> {
    let before = stored(at, id)?;
    let mut after =
        facts.iter().fold(before.clone(), |row, facts| Some(bounds::bounded(merge(row.as_ref(), id, facts))));
    if let (Some(after), Some(there)) = (&mut after, memory_mode) {
        after.row.memory_mode =
            before.as_ref().map_or(there, |before| before.row.memory_mode.stricter(there));
    }
    let Some(after) = after.filter(|after| before.as_ref() != Some(after)) else {
        return Ok(Restored::Unchanged);
    };
    if !dry_run {
        at.execute(&sql::PUT, &after.params())?;
    }
    Ok(if before.is_some() { Restored::Updated } else { Restored::Inserted })
}
