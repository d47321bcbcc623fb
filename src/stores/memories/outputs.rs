//! What was drawn from threads: chosen, used, pruned.

use std::collections::HashSet;
use std::time::Duration;

use super::consolidate::{JOB, Job};
use super::extract::RUNNING;
use super::model::{MemoryOutput, MemoryStatus, SelectedOutput, Selection};
use super::{Memories, before};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Session, Value};
use crate::stores::threads::row::{canonical_id, thread_id};

macro_rules! columns {
    () => {
        "o.thread_id, o.raw_memory, o.rollout_summary, o.rollout_slug, o.source_updated_at, o.generated_at, \
         o.usage_count, o.last_used_at, o.selected_source"
    };
}

const GET: &str = concat!("SELECT ", columns!(), " FROM memory_output AS o WHERE o.thread_id = $1");

/// Outputs that are looked at for one selection, by rank; and the most that a book is made of.
const SCAN: u32 = 5_000;

/// $1 how many to look at, $2 not used since, $3 how many. Only ids: what is sorted once more stays small, however long
/// the memories.
const BY_RANK: &str = "SELECT r.thread_id FROM (SELECT thread_id, usage_count, last_used_at FROM memory_output \
     ORDER BY usage_count DESC, last_used_at DESC, thread_id DESC LIMIT $1) AS r JOIN thread AS t ON t.id = r.thread_id \
     WHERE r.last_used_at >= $2 AND t.memory_mode = 'enabled' \
     ORDER BY r.usage_count DESC, r.last_used_at DESC, r.thread_id DESC LIMIT $3";

/// $1 how many at most.
const SELECTED: &str =
    "SELECT thread_id FROM memory_output WHERE selected_source IS NOT NULL ORDER BY thread_id LIMIT $1";

/// $1 thread, $2 now.
const USED: &str = "UPDATE memory_output SET usage_count = usage_count + 1, \
     last_used_at = CASE WHEN last_used_at > $2 THEN last_used_at ELSE $2 END WHERE thread_id = $1";

/// $1 not used since, $2 how many.
const PRUNE: &str = "DELETE FROM memory_output WHERE thread_id IN (SELECT thread_id FROM memory_output \
     WHERE selected_source IS NULL AND last_used_at < $1 ORDER BY last_used_at, thread_id LIMIT $2)";

const POLLUTE: &str =
    "UPDATE thread SET memory_mode = 'polluted' WHERE id = $1 AND memory_mode <> 'polluted'";

/// Outputs, and jobs, that the status counts.
const COUNTED: i64 = 20_000;

/// $1 how many to count, as in the other two.
const COUNT_OUTPUTS: &str =
    "SELECT count(*) AS n FROM (SELECT thread_id FROM memory_output ORDER BY thread_id LIMIT $1) AS o";
const COUNT_SELECTED: &str = "SELECT count(*) AS n FROM (SELECT thread_id FROM memory_output \
     WHERE selected_source IS NOT NULL ORDER BY thread_id LIMIT $1) AS o";

/// $2 now.
const COUNT_JOBS: &str = "SELECT count(*) AS jobs, \
     count(CASE WHEN status = 'running' AND lease_until <= $2 THEN 1 END) AS lost, \
     count(CASE WHEN status = 'done' THEN 1 END) AS done, \
     count(CASE WHEN status = 'failed' THEN 1 END) AS failed \
     FROM (SELECT status, lease_until FROM memory_job WHERE kind = 'extract' ORDER BY thread_id LIMIT $1) AS j";

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

    /// What the next book is made of: up to `most` outputs, 5,000 at most, that were used, or made, within `max_unused`; most often used
    /// first, then most recently. Those of threads whose memories are not enabled any more are left out.
    ///
    /// # Errors
    /// The engine's.
    pub fn select(&self, most: u32, max_unused: Duration) -> Result<Selection> {
        let now = self.now();
        self.database.get()?.read(|at| select(at, most, before(now.at(at)?, max_unused)))
    }

    /// Memories were of use. Ids that have none are passed over; answers how many had.
    ///
    /// # Errors
    /// `Invalid` for more than 5,000, and when one is no UUID: then none was counted; the engine's.
    pub fn used(&self, threads: &[&str]) -> Result<u64> {
        check_count(threads.len())?;
        let threads = threads.iter().map(|id| thread_id(id)).collect::<Result<Vec<_>>>()?;
        let now = self.now();
        self.database.get()?.write(|tx| {
            let now = now.at(tx)?;
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
        let now = self.now();
        self.database
            .get()?
            .write(|tx| tx.execute(PRUNE, &[before(now.at(tx)?, max_unused).into(), i64::from(most).into()]))
    }

    /// Nothing is drawn from this thread any more, and what was leaves the next selection. False when that was so already,
    /// or there is no such thread. Only the database knows of it;
    /// [`update_metadata`](crate::thread_store::ThreadStore::update_metadata) also says it in the thread's transcript, which
    /// brings it back when the database is lost.
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
        self.database.get()?.read(|at| status(at, now.at(at)?, self.limits.cooldown))
    }
}

/// How many outputs one call may name.
///
/// # Errors
/// `Invalid` for more.
pub(super) fn check_count(outputs: usize) -> Result<()> {
    if outputs > SCAN as usize {
        return Err(Error::new(ErrorKind::Invalid, "at most 5,000 outputs are named at once"));
    }
    Ok(())
}

fn status(at: &impl Session, now: i64, cooldown: Duration) -> Result<MemoryStatus> {
    const ONE_MORE: i64 = COUNTED + 1;
    let outputs = count(at, COUNT_OUTPUTS, ONE_MORE)?;
    let rows = at.query(COUNT_JOBS, &[ONE_MORE.into(), now.into()])?;
    let jobs = |column| rows.first().map_or(Ok(0), |row| row.get::<i64>(column));
    let rows = at.query(JOB, &[])?;
    let book = rows.first().map(Job::from_row).transpose()?;
    let book = book.as_ref();
    Ok(MemoryStatus {
        outputs: outputs.min(COUNTED),
        selected: count(at, COUNT_SELECTED, ONE_MORE)?.min(COUNTED),
        extracting: count(at, RUNNING, now)?,
        lost: jobs("lost")?,
        done: jobs("done")?,
        failed: jobs("failed")?,
        truncated: outputs.max(jobs("jobs")?) > COUNTED,
        consolidating: book.is_some_and(|book| book.is_running(now)),
        consolidated_at: book.and_then(|book| book.finished_at),
        watermark: book.and_then(|book| book.done_source),
        cooldown_until: book.and_then(|book| book.cooldown_until(cooldown)),
        retry_at: book.and_then(Job::retry_at),
    })
}

/// What a statement with one parameter counts.
fn count(at: &impl Session, statement: &str, param: i64) -> Result<i64> {
    at.query(statement, &[param.into()])?.first().map_or(Ok(0), |row| row.get("n"))
}

fn select(at: &impl Session, most: u32, since: i64) -> Result<Selection> {
    let mut selected = Vec::new();
    for chosen in at.query(BY_RANK, &[i64::from(SCAN).into(), since.into(), i64::from(most).into()])? {
        let rows = at.query(GET, &[chosen.get::<String>("thread_id")?.into()])?;
        let Some(row) = rows.first() else { continue };
        let output = MemoryOutput::from_row(row)?;
        let is_retained = row.get::<Option<i64>>("selected_source")? == Some(output.source_updated_at);
        selected.push(SelectedOutput { output, is_retained });
    }
    let now: HashSet<&str> = selected.iter().map(|one| one.output.thread_id.as_str()).collect();
    let before = at.query(SELECTED, &[i64::from(SCAN).into()])?;
    let before = before.iter().map(|row| row.get::<String>("thread_id")).collect::<Result<Vec<_>>>()?;
    let removed = before.into_iter().filter(|thread| !now.contains(thread.as_str())).collect();
    Ok(Selection { selected, removed })
}
