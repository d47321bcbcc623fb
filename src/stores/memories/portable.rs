//! Memories on their way from home to home. Books and leases stay where they are: which memories are in the last book, and
//! who works on what.
//!
//! Tests: `tests/b3_portable_home.rs`.

use super::model::MemoryOutput;
use super::{Memories, check_text};
use crate::error::Result;
use crate::sql::{Session, Value};
use crate::stores::threads::row::thread_id;

/// $1 behind this thread, $2 how many.
const BEHIND: &str = "SELECT thread_id, raw_memory, rollout_summary, rollout_slug, source_updated_at, generated_at, \
     usage_count, last_used_at FROM memory_output WHERE thread_id > $1 ORDER BY thread_id LIMIT $2";

/// $1 thread.
const SOURCE: &str = "SELECT source_updated_at FROM memory_output WHERE thread_id = $1";

/// $1 thread, $2 to $4 what was drawn, $5 source, $6 made, $7 how often used, $8 when last.
const RESTORE: &str = "INSERT INTO memory_output(thread_id, raw_memory, rollout_summary, rollout_slug, \
     source_updated_at, generated_at, usage_count, last_used_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
     ON CONFLICT (thread_id) DO UPDATE SET raw_memory = excluded.raw_memory, \
     rollout_summary = excluded.rollout_summary, rollout_slug = excluded.rollout_slug, \
     source_updated_at = excluded.source_updated_at, generated_at = excluded.generated_at, \
     usage_count = CASE WHEN memory_output.usage_count > excluded.usage_count THEN memory_output.usage_count \
     ELSE excluded.usage_count END, \
     last_used_at = CASE WHEN memory_output.last_used_at > excluded.last_used_at THEN memory_output.last_used_at \
     ELSE excluded.last_used_at END";

/// What was drawn from a thread there is not drawn from it again here: $1 thread, $2 token, $3 source, $4 when.
const IS_DONE: &str = "INSERT INTO memory_job(kind, thread_id, status, token, lease_until, retry_at, retries_left, source, \
     done_source, finished_at) VALUES ('extract', $1, 'done', $2, 0, 0, 0, $3, $3, $4) \
     ON CONFLICT (kind, thread_id) DO NOTHING";

impl Memories {
    /// What was drawn from the threads behind this one, in the order of their ids.
    pub(crate) fn behind(&self, thread: &str, most: u32) -> Result<Vec<MemoryOutput>> {
        let params = [thread.into(), i64::from(most).into()];
        let rows = self.database.get()?.read(|at| Session::query(at, BEHIND, &params))?;
        rows.iter().map(MemoryOutput::from_row).collect()
    }
}

/// Brings in what another home drew from a thread, unless what is here was drawn from as much of it or more. Answers
/// whether it came in.
///
/// # Errors
/// `Invalid` for what no store of memories could have made; the engine's.
pub(crate) fn restore(tx: &impl Session, output: &MemoryOutput, dry_run: bool) -> Result<bool> {
    let thread = thread_id(&output.thread_id)?;
    let memory = &output.memory;
    let texts = [Some(&memory.raw_memory), Some(&memory.rollout_summary), memory.rollout_slug.as_ref()];
    texts.into_iter().flatten().try_for_each(|text| check_text(text))?;
    let known = tx.query(SOURCE, &[thread.as_str().into()])?;
    if let Some(known) = known.first()
        && known.get::<i64>("source_updated_at")? >= output.source_updated_at
    {
        return Ok(false);
    }
    if dry_run {
        return Ok(true);
    }
    let params: [Value; 8] = [
        thread.as_str().into(),
        memory.raw_memory.as_str().into(),
        memory.rollout_summary.as_str().into(),
        memory.rollout_slug.clone().into(),
        output.source_updated_at.into(),
        output.generated_at.into(),
        output.usage_count.max(0).into(),
        output.last_used_at.into(),
    ];
    tx.execute(RESTORE, &params)?;
    let token = uuid::Uuid::now_v7().to_string();
    let done = [thread.into(), token.into(), output.source_updated_at.into(), output.generated_at.into()];
    tx.execute(IS_DONE, &done)?;
    Ok(true)
}
