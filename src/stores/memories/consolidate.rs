//! The one job that makes a book of all memories.

use super::model::{ConsolidateClaim, UsedOutput};
use super::{Memories, after, check_text};
use crate::error::Result;
use crate::sql::{Session, Value};

const JOB: &str = "SELECT status, lease_until, retry_at, retries_left, finished_at, source \
     FROM memory_job WHERE kind = 'consolidate' AND thread_id = ''";

const WATERMARK: &str = "SELECT max(source_updated_at) AS newest FROM memory_output";

/// $1 token, $2 lease, $3 watermark.
const CLAIM: &str = "INSERT INTO memory_job(kind, thread_id, status, token, lease_until, retry_at, retries_left, source) \
     VALUES ('consolidate', '', 'running', $1, $2, 0, 0, $3) \
     ON CONFLICT (kind, thread_id) DO UPDATE SET status = 'running', token = excluded.token, \
     lease_until = excluded.lease_until, source = excluded.source";

/// $1 token; whether it is still its job.
macro_rules! ours {
    () => {
        " WHERE kind = 'consolidate' AND thread_id = '' AND status = 'running' AND token = $1"
    };
}

const HEARTBEAT: &str = concat!("UPDATE memory_job SET lease_until = $2", ours!());
const DONE: &str = concat!(
    "UPDATE memory_job SET status = 'done', done_source = $2, finished_at = $3, error = NULL",
    ours!()
);
const FAILED: &str =
    concat!("UPDATE memory_job SET status = 'failed', finished_at = $2, retry_at = $3, error = $4", ours!());

const FORGET_SELECTION: &str =
    "UPDATE memory_output SET selected_source = NULL WHERE selected_source IS NOT NULL";
const SELECT: &str = "UPDATE memory_output SET selected_source = $2 WHERE thread_id = $1";

impl Memories {
    /// Claims the job of making a book.
    ///
    /// # Errors
    /// The engine's.
    pub fn claim_consolidate(&self) -> Result<ConsolidateClaim> {
        let now = self.now();
        let lease_until = after(now, self.limits.lease);
        let cooled = |finished: i64| after(finished, self.limits.cooldown) <= now;
        self.database.get()?.write(|tx| claim(tx, now, lease_until, cooled))
    }

    /// Keeps the job for another lease. False when it is somebody else's by now.
    ///
    /// # Errors
    /// The engine's.
    pub fn heartbeat(&self, token: &str) -> Result<bool> {
        let lease_until = after(self.now(), self.limits.lease);
        self.database
            .get()?
            .write(|tx| Ok(Session::execute(tx, HEARTBEAT, &[token.into(), lease_until.into()])? == 1))
    }

    /// The book is made: up to this watermark, of exactly these outputs. False, and nothing is changed, when the job is
    /// somebody else's by now.
    ///
    /// # Errors
    /// The engine's.
    pub fn consolidated(&self, token: &str, watermark: i64, used: &[UsedOutput]) -> Result<bool> {
        let now = self.now();
        self.database.get()?.write(|tx| done(tx, token, watermark, now, used))
    }

    /// It failed: to be tried again after [`MemoryLimits::retry_after`](super::MemoryLimits). False when it is somebody
    /// else's by now.
    ///
    /// # Errors
    /// `Invalid` when `why` holds a NUL; the engine's.
    pub fn consolidate_failed(&self, token: &str, why: &str) -> Result<bool> {
        check_text(why)?;
        let now = self.now();
        let retry_at = after(now, self.limits.retry_after);
        let params: [Value; 4] = [token.into(), now.into(), retry_at.into(), why.into()];
        self.database.get()?.write(|tx| Ok(Session::execute(tx, FAILED, &params)? == 1))
    }
}

fn claim(
    tx: &impl Session,
    now: i64,
    lease_until: i64,
    cooled: impl Fn(i64) -> bool,
) -> Result<ConsolidateClaim> {
    if let Some(job) = tx.query(JOB, &[])?.first() {
        let status: String = job.get("status")?;
        match status.as_str() {
            "running" if job.get::<i64>("lease_until")? > now => return Ok(ConsolidateClaim::Running),
            "failed" if job.get::<i64>("retry_at")? > now => return Ok(ConsolidateClaim::RetryLater),
            "done" if !job.get::<Option<i64>>("finished_at")?.is_none_or(&cooled) => {
                return Ok(ConsolidateClaim::Cooldown);
            }
            _ => {}
        }
    }
    let watermark = match tx.query(WATERMARK, &[])?.first() {
        Some(row) => row.get::<Option<i64>>("newest")?.unwrap_or(0),
        None => 0,
    };
    let token = uuid::Uuid::now_v7().to_string();
    tx.execute(CLAIM, &[token.as_str().into(), lease_until.into(), watermark.into()])?;
    Ok(ConsolidateClaim::Claimed { token, watermark })
}

fn done(tx: &impl Session, token: &str, watermark: i64, now: i64, used: &[UsedOutput]) -> Result<bool> {
    if tx.execute(DONE, &[token.into(), watermark.into(), now.into()])? == 0 {
        return Ok(false);
    }
    tx.execute(FORGET_SELECTION, &[])?;
    for one in used {
        tx.execute(SELECT, &[one.thread_id.as_str().into(), one.source_updated_at.into()])?;
    }
    Ok(true)
}
