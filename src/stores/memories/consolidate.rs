//! The one job that makes a book of all memories.

use std::time::Duration;

use super::model::{ConsolidateClaim, UsedOutput};
use super::{Memories, after, outputs, reason};
use crate::error::Result;
use crate::sql::{Row, Session, Value};
use crate::stores::threads::row::thread_id;

/// `finished_at` and `done_source` are those of the last success, `source` is the newest that an output was made from.
pub(super) const JOB: &str = "SELECT status, lease_until, retry_at, finished_at, source, done_source \
     FROM memory_job WHERE kind = 'consolidate' AND thread_id = ''";

/// $1, $2, $3 where a lease, a retry and a success would be if they began now.
const CUT: &str = "UPDATE memory_job SET \
     lease_until = CASE WHEN lease_until > $1 THEN $1 ELSE lease_until END, \
     retry_at = CASE WHEN retry_at > $2 THEN $2 ELSE retry_at END, \
     finished_at = CASE WHEN finished_at > $3 THEN $3 ELSE finished_at END \
     WHERE kind = 'consolidate' AND thread_id = '' AND (lease_until > $1 OR retry_at > $2 OR finished_at > $3)";

/// $1 token, $2 lease, $3 the source of one that is not there yet.
const CLAIM: &str = "INSERT INTO memory_job(kind, thread_id, status, token, lease_until, retry_at, retries_left, source) \
     VALUES ('consolidate', '', 'running', $1, $2, 0, 0, $3) \
     ON CONFLICT (kind, thread_id) DO UPDATE SET status = 'running', token = excluded.token, \
     lease_until = excluded.lease_until";

/// $1 the source of a new output. What the newest one is stands in the job, where it is found without looking at all of
/// them; so the job is there, as one that never ran, from the first output on.
pub(super) const NEW_SOURCE: &str = "INSERT INTO memory_job(kind, thread_id, status, token, lease_until, retry_at, \
     retries_left, source) VALUES ('consolidate', '', 'done', '', 0, 0, 0, $1) \
     ON CONFLICT (kind, thread_id) DO UPDATE SET source = excluded.source WHERE memory_job.source < excluded.source";

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
const FAILED: &str = concat!("UPDATE memory_job SET status = 'failed', retry_at = $2, error = $3", ours!());

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
        self.database.get()?.write(|tx| self.claim_book(tx, now.at(tx)?))
    }

    fn claim_book(&self, tx: &impl Session, now: i64) -> Result<ConsolidateClaim> {
        let lease_until = after(now, self.limits.lease);
        let retry_at = after(now, self.limits.retry_after);
        tx.execute(CUT, &[lease_until.into(), retry_at.into(), now.into()])?;
        let rows = tx.query(JOB, &[])?;
        let job = rows.first().map(Job::from_row).transpose()?;
        match &job {
            Some(job) if job.is_running(now) => return Ok(ConsolidateClaim::Running),
            Some(job) if job.retry_at().is_some_and(|at| at > now) => {
                return Ok(ConsolidateClaim::RetryLater);
            }
            Some(job) if job.cooldown_until(self.limits.cooldown).is_some_and(|at| at > now) => {
                return Ok(ConsolidateClaim::Cooldown);
            }
            _ => {}
        }
        let (watermark, last_watermark) = job.map_or((0, None), |job| (job.source, job.done_source));
        let token = uuid::Uuid::now_v7().to_string();
        tx.execute(CLAIM, &[token.as_str().into(), lease_until.into(), watermark.into()])?;
        Ok(ConsolidateClaim::Claimed { token, watermark, last_watermark })
    }

    /// Keeps the job for another lease. False when it is somebody else's by now.
    ///
    /// # Errors
    /// The engine's.
    pub fn heartbeat(&self, token: &str) -> Result<bool> {
        let now = self.now();
        self.database.get()?.write(|tx| {
            let lease_until = after(now.at(tx)?, self.limits.lease);
            Ok(tx.execute(HEARTBEAT, &[token.into(), lease_until.into()])? == 1)
        })
    }

    /// The book is made: up to this watermark, of exactly these outputs. False, and nothing is changed, when the job is
    /// somebody else's by now.
    ///
    /// # Errors
    /// `Invalid` for more than 5,000 outputs, and an id that is no UUID; the engine's.
    pub fn consolidated(&self, token: &str, watermark: i64, used: &[UsedOutput]) -> Result<bool> {
        outputs::check_count(used.len())?;
        let used = used
            .iter()
            .map(|one| Ok([thread_id(&one.thread_id)?.into(), one.source_updated_at.into()]))
            .collect::<Result<Vec<[Value; 2]>>>()?;
        let now = self.now();
        self.database.get()?.write(|tx| done(tx, token, watermark, now.at(tx)?, &used))
    }

    /// It failed: to be tried again after [`MemoryLimits::retry_after`](super::MemoryLimits). False when it is somebody
    /// else's by now.
    ///
    /// # Errors
    /// `Invalid` when `why` holds a NUL, of which the first 4 KiB are kept; the engine's.
    pub fn consolidate_failed(&self, token: &str, why: &str) -> Result<bool> {
        let why = reason(why)?;
        let now = self.now();
        self.database.get()?.write(|tx| {
            let retry_at = after(now.at(tx)?, self.limits.retry_after);
            Ok(tx.execute(FAILED, &[token.into(), retry_at.into(), why.into()])? == 1)
        })
    }
}

/// The job as it stands.
pub(super) struct Job {
    status: String,
    lease_until: i64,
    retry_at: i64,
    /// When it last succeeded.
    pub(super) finished_at: Option<i64>,
    source: i64,
    /// The watermark of that success.
    pub(super) done_source: Option<i64>,
}

impl Job {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            status: row.get("status")?,
            lease_until: row.get("lease_until")?,
            retry_at: row.get("retry_at")?,
            finished_at: row.get("finished_at")?,
            source: row.get("source")?,
            done_source: row.get("done_source")?,
        })
    }

    pub(super) fn is_running(&self, now: i64) -> bool {
        self.status == "running" && self.lease_until > now
    }

    /// When one that failed may be tried again.
    pub(super) fn retry_at(&self) -> Option<i64> {
        (self.status == "failed").then_some(self.retry_at)
    }

    /// When one that succeeded may be done again.
    pub(super) fn cooldown_until(&self, cooldown: Duration) -> Option<i64> {
        self.finished_at.filter(|_| self.status == "done").map(|finished| after(finished, cooldown))
    }
}

fn done(tx: &impl Session, token: &str, watermark: i64, now: i64, used: &[[Value; 2]]) -> Result<bool> {
    if tx.execute(DONE, &[token.into(), watermark.into(), now.into()])? == 0 {
        return Ok(false);
    }
    tx.execute(FORGET_SELECTION, &[])?;
    for one in used {
        tx.execute(SELECT, one)?;
    }
    Ok(true)
}
