//! What was drawn from threads: chosen, used, pruned.

use std::collections::HashSet;
use std::time::Duration;

use super::model::{MemoryOutput, MemoryStatus, SelectedOutput, Selection};
use super::{Memories, before};
use crate::error::Result;
use crate::sql::{Session, Value};
use crate::stores::threads::row::{canonical_id, thread_id};

macro_rules! columns {
    () => {
        "o.thread_id, o.raw_memory, o.rollout_summary, o.rollout_slug, o.source_updated_at, o.generated_at, \
         o.usage_count, o.last_used_at, o.selected_source"
    };
}

const GET: &str = concat!("SELECT ", columns!(), " FROM memory_output AS o WHERE o.thread_id = $1");

/// Outputs that are looked at for one selection, by rank.
const SCAN: i64 = 5_000;

/// $1 how many to look at, $2 not used since, $3 how many.
const BY_RANK: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM (SELECT thread_id FROM memory_output ORDER BY usage_count DESC, last_used_at DESC, thread_id DESC LIMIT $1) \
     AS r JOIN memory_output AS o ON o.thread_id = r.thread_id JOIN thread AS t ON t.id = o.thread_id \
     WHERE o.last_used_at >= $2 AND t.memory_mode = 'enabled' \
     ORDER BY o.usage_count DESC, o.last_used_at DESC, o.thread_id DESC LIMIT $3"
);

const SELECTED: &str =
    "SELECT thread_id FROM memory_output WHERE selected_source IS NOT NULL ORDER BY thread_id";

/// $1 thread, $2 now.
const USED: &str = "UPDATE memory_output SET usage_count = usage_count + 1, \
     last_used_at = CASE WHEN last_used_at > $2 THEN last_used_at ELSE $2 END WHERE thread_id = $1";

/// $1 not used since, $2 how many.
const PRUNE: &str = "DELETE FROM memory_output WHERE thread_id IN (SELECT thread_id FROM memory_output \
     WHERE selected_source IS NULL AND last_used_at < $1 ORDER BY last_used_at, thread_id LIMIT $2)";

const POLLUTE: &str =
    "UPDATE thread SET memory_mode = 'polluted' WHERE id = $1 AND memory_mode <> 'polluted'";

/// $1 now.
const STATUS: &str = "SELECT (SELECT count(*) FROM memory_output) AS outputs, \
     (SELECT count(*) FROM memory_output WHERE selected_source IS NOT NULL) AS selected, \
     (SELECT count(*) FROM memory_job WHERE kind = 'extract' AND status = 'running' AND lease_until > $1) AS extracting, \
     (SELECT count(*) FROM memory_job WHERE kind = 'extract' AND status = 'failed') AS failed, \
     (SELECT count(*) FROM memory_job WHERE kind = 'consolidate' AND status = 'running' AND lease_until > $1) \
     AS consolidating, \
     (SELECT max(finished_at) FROM memory_job WHERE kind = 'consolidate' AND done_source IS NOT NULL) AS consolidated_at";

impl Memories {
    /// What was drawn from a thread, or `None`.
    ///
    /// # Errors
    /// The engine's.
    pub fn output(&self, thread: &str) -> Result<Option<MemoryOutput>> {
        let Some(thread) = canonical_id(thread) else { return Ok(None) };
        let rows = self.database.get()?.read(|at| Session::query(at, GET, &[thread.as_str().into()]))?;
        rows.first().map(MemoryOutput::from_row).transpose()
    }

    /// What the next book is made of: up to `most` outputs that were used, or made, within `max_unused`; most often used
    /// first, then most recently. Those of threads whose memories are not enabled any more are left out.
    ///
    /// # Errors
    /// The engine's.
    pub fn select(&self, most: u32, max_unused: Duration) -> Result<Selection> {
        let since = before(self.now(), max_unused);
        self.database.get()?.read(|at| select(at, most, since))
    }

    /// Memories were of use. Ids that have none are passed over; answers how many had.
    ///
    /// # Errors
    /// `Invalid` when one is no UUID, and none was counted; the engine's.
    pub fn used(&self, threads: &[&str]) -> Result<u64> {
        let threads = threads.iter().map(|id| thread_id(id)).collect::<Result<Vec<_>>>()?;
        let now = self.now();
        self.database.get()?.write(|tx| {
            threads
                .iter()
                .map(|thread| Session::execute(tx, USED, &[thread.as_str().into(), now.into()]))
                .sum::<Result<u64>>()
        })
    }

    /// Removes up to `most` outputs that were neither used nor made within `max_unused` and are not in the last book, oldest
    /// first. Answers how many.
    ///
    /// # Errors
    /// The engine's.
    pub fn prune(&self, max_unused: Duration, most: u32) -> Result<u64> {
        let params: [Value; 2] = [before(self.now(), max_unused).into(), i64::from(most).into()];
        self.database.get()?.write(|tx| Session::execute(tx, PRUNE, &params))
    }

    /// Nothing is drawn from this thread any more, and what was leaves the next selection. False when that was so already,
    /// or there is no such thread.
    ///
    /// # Errors
    /// `Invalid` when the id is no UUID; the engine's.
    pub fn pollute(&self, thread: &str) -> Result<bool> {
        let thread = [Value::from(thread_id(thread)?)];
        self.database.get()?.write(|tx| Ok(Session::execute(tx, POLLUTE, &thread)? == 1))
    }

    /// How far memories are.
    ///
    /// # Errors
    /// The engine's.
    pub fn status(&self) -> Result<MemoryStatus> {
        let now = self.now();
        let rows = self.database.get()?.read(|at| Session::query(at, STATUS, &[now.into()]))?;
        let Some(row) = rows.first() else { return Ok(MemoryStatus::default()) };
        Ok(MemoryStatus {
            outputs: row.get("outputs")?,
            selected: row.get("selected")?,
            extracting: row.get("extracting")?,
            failed: row.get("failed")?,
            consolidating: row.get::<i64>("consolidating")? > 0,
            consolidated_at: row.get("consolidated_at")?,
        })
    }
}

fn select(at: &impl Session, most: u32, since: i64) -> Result<Selection> {
    let mut selected = Vec::new();
    for row in at.query(BY_RANK, &[SCAN.into(), since.into(), i64::from(most).into()])? {
        let output = MemoryOutput::from_row(&row)?;
        let is_retained = row.get::<Option<i64>>("selected_source")? == Some(output.source_updated_at);
        selected.push(SelectedOutput { output, is_retained });
    }
    let now: HashSet<&str> = selected.iter().map(|one| one.output.thread_id.as_str()).collect();
    let before = at.query(SELECTED, &[])?;
    let before = before.iter().map(|row| row.get::<String>("thread_id")).collect::<Result<Vec<_>>>()?;
    let removed = before.into_iter().filter(|thread| !now.contains(thread.as_str())).collect();
    Ok(Selection { selected, removed })
}
