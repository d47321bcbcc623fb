//! One job per thread: draw a memory from it.

use super::consolidate::NEW_SOURCE;
use super::model::{ExtractClaim, NewMemory};
use super::{Memories, after, before, check_slug, check_text, reason};
use crate::error::Result;
use crate::sql::{Session, Value};
use crate::stores::threads::row::thread_id;

/// $1 now.
pub(super) const RUNNING: &str = "SELECT count(*) AS n FROM memory_job \
     WHERE kind = 'extract' AND status = 'running' AND lease_until > $1";

/// $1 where a lease ends that begins now.
const CUT_LEASES: &str = "UPDATE memory_job SET lease_until = $1 \
     WHERE kind = 'extract' AND status = 'running' AND lease_until > $1";

/// $1 latest and $2 earliest change, $3 how many to look at, $4 not this thread, $5 now, $6 how many, $7 when a retry is
/// due after a failure now.
const CANDIDATES: &str = "SELECT t.id, t.updated_at, j.source, j.retries_left \
     FROM (SELECT id, updated_at, memory_mode FROM thread \
           WHERE archived_at IS NULL AND updated_at <= $1 AND updated_at >= $2 \
           ORDER BY updated_at DESC, id DESC LIMIT $3) AS t \
     LEFT JOIN memory_job AS j ON j.kind = 'extract' AND j.thread_id = t.id \
     WHERE t.memory_mode = 'enabled' AND t.id <> $4 \
       AND (j.thread_id IS NULL \
         OR ((j.done_source IS NULL OR j.done_source < t.updated_at) \
           AND (j.status <> 'running' OR j.lease_until <= $5) \
         AND (j.source < t.updated_at OR (j.retries_left > 0 AND (j.retry_at <= $5 OR j.retry_at > $7))))) \
     ORDER BY t.updated_at DESC, t.id DESC LIMIT $6";

/// $1 thread, $2 token, $3 lease, $4 retries, $5 source.
const CLAIM: &str = "INSERT INTO memory_job(kind, thread_id, status, token, lease_until, retry_at, retries_left, source) \
     VALUES ('extract', $1, 'running', $2, $3, 0, $4, $5) \
     ON CONFLICT (kind, thread_id) DO UPDATE SET status = 'running', token = excluded.token, \
     lease_until = excluded.lease_until, retries_left = excluded.retries_left, source = excluded.source";

/// $1 thread, $2 token, $3 now.
const DONE: &str = "UPDATE memory_job SET status = 'done', done_source = source, finished_at = $3, error = NULL \
     WHERE kind = 'extract' AND thread_id = $1 AND status = 'running' AND token = $2";

/// $1 thread, $2 token, $3 now, $4 when it may be tried again, $5 why.
const FAILED: &str = "UPDATE memory_job SET status = 'failed', finished_at = $3, retry_at = $4, error = $5 \
     WHERE kind = 'extract' AND thread_id = $1 AND status = 'running' AND token = $2";

/// $1 thread, $2 to $4 what was drawn, $5 source, $6 now. How often it was of use stays. Nothing is kept of a thread whose
/// memories were switched off since it was claimed.
const PUT: &str = "INSERT INTO memory_output(thread_id, raw_memory, rollout_summary, rollout_slug, source_updated_at, \
     generated_at, last_used_at) SELECT id, $2, $3, $4, $5, $6, $5 FROM thread WHERE id = $1 AND memory_mode = 'enabled' \
     ON CONFLICT (thread_id) DO UPDATE SET raw_memory = excluded.raw_memory, \
     rollout_summary = excluded.rollout_summary, rollout_slug = excluded.rollout_slug, \
     source_updated_at = excluded.source_updated_at, generated_at = excluded.generated_at, \
     last_used_at = CASE WHEN memory_output.last_used_at > excluded.last_used_at THEN memory_output.last_used_at \
     ELSE excluded.last_used_at END";

const REMOVE: &str = "DELETE FROM memory_output WHERE thread_id = $1";

/// The times and counts of one claim.
struct Wanted {
    now: i64,
    latest: i64,
    earliest: i64,
    lease_until: i64,
    retry_at: i64,
}

impl Memories {
    /// Claims up to `most` threads to draw memories from, newest first: those that have been at rest for long enough, are
    /// not too old, whose memories are enabled, and in which is more than was drawn from them. Not `current`, which is
    /// still being worked in.
    ///
    /// # Errors
    /// `Invalid` when `current` is no UUID; the engine's.
    pub fn claim_extracts(&self, most: u32, current: Option<&str>) -> Result<Vec<ExtractClaim>> {
        let current = current.map(thread_id).transpose()?.unwrap_or_default();
        let now = self.now();
        self.database.get()?.write(|tx| {
            let now = now.at(tx)?;
            let wanted = Wanted {
                now,
                latest: before(now, self.limits.idle),
                earliest: before(now, self.limits.age),
                lease_until: after(now, self.limits.lease),
                retry_at: after(now, self.limits.retry_after),
            };
            self.claim(tx, most, &current, &wanted)
        })
    }

    fn claim(
        &self,
        tx: &impl Session,
        most: u32,
        current: &str,
        wanted: &Wanted,
    ) -> Result<Vec<ExtractClaim>> {
        let &Wanted { now, latest, earliest, lease_until, retry_at } = wanted;
        tx.execute(CUT_LEASES, &[lease_until.into()])?;
        let running = match tx.query(RUNNING, &[now.into()])?.first() {
            Some(row) => row.get::<i64>("n")?,
            None => 0,
        };
        let room = i64::from(self.limits.running).saturating_sub(running).min(i64::from(most));
        if room <= 0 {
            return Ok(Vec::new());
        }
        let scan = i64::from(self.limits.scan);
        let params: [Value; 7] = [
            latest.into(),
            earliest.into(),
            scan.into(),
            current.into(),
            now.into(),
            room.into(),
            retry_at.into(),
        ];
        let mut claims = Vec::new();
        for row in tx.query(CANDIDATES, &params)? {
            let (thread_id, source): (String, i64) = (row.get("id")?, row.get("updated_at")?);
            let retries = match row.get::<Option<i64>>("source")? {
                Some(last) if last >= source => row.get::<i64>("retries_left")? - 1,
                _ => i64::from(self.limits.retries),
            };
            let token = uuid::Uuid::now_v7().to_string();
            tx.execute(
                CLAIM,
                &[
                    thread_id.as_str().into(),
                    token.as_str().into(),
                    lease_until.into(),
                    retries.into(),
                    source.into(),
                ],
            )?;
            claims.push(ExtractClaim { thread_id, source_updated_at: source, token, lease_until });
        }
        Ok(claims)
    }

    /// Keeps what was drawn from a thread, in the place of what was drawn earlier. False, and nothing is kept, when the
    /// job is not this claim's any more; also when the thread's memories were switched off or marked polluted meanwhile:
    /// then the job is done.
    ///
    /// # Errors
    /// `Invalid` for a text with a NUL or of more than 1 MiB, and a short name that is not fit for a file; the engine's.
    pub fn extracted(&self, claim: &ExtractClaim, memory: &NewMemory) -> Result<bool> {
        let slug = memory.rollout_slug.as_deref();
        [&memory.raw_memory, &memory.rollout_summary].into_iter().try_for_each(|text| check_text(text))?;
        slug.map_or(Ok(()), check_slug)?;
        let now = self.now();
        self.database.get()?.write(|tx| {
            let now = now.at(tx)?;
            let output: [Value; 6] = [
                claim.thread_id.as_str().into(),
                memory.raw_memory.as_str().into(),
                memory.rollout_summary.as_str().into(),
                slug.into(),
                claim.source_updated_at.into(),
                now.into(),
            ];
            finish(tx, claim, now, |tx| {
                let kept = Session::execute(tx, PUT, &output)? == 1;
                if kept {
                    Session::execute(tx, NEW_SOURCE, &[claim.source_updated_at.into()])?;
                }
                Ok(kept)
            })
        })
    }

    /// Nothing was to be drawn from a thread: what was drawn earlier goes. False, and nothing is changed, when the job is
    /// not this claim's any more.
    ///
    /// # Errors
    /// The engine's.
    pub fn extract_without_output(&self, claim: &ExtractClaim) -> Result<bool> {
        let now = self.now();
        let thread = [Value::from(claim.thread_id.as_str())];
        self.database.get()?.write(|tx| {
            finish(tx, claim, now.at(tx)?, |tx| Session::execute(tx, REMOVE, &thread).map(|_| true))
        })
    }

    /// It failed: to be tried again after [`MemoryLimits::retry_after`](super::MemoryLimits), if retries are left. False
    /// when the job is not this claim's any more.
    ///
    /// # Errors
    /// `Invalid` when `why` holds a NUL, of which the first 4 KiB are kept; the engine's.
    pub fn extract_failed(&self, claim: &ExtractClaim, why: &str) -> Result<bool> {
        let why = reason(why)?;
        let now = self.now();
        self.database.get()?.write(|tx| {
            let now = now.at(tx)?;
            let params: [Value; 5] = [
                claim.thread_id.as_str().into(),
                claim.token.as_str().into(),
                now.into(),
                after(now, self.limits.retry_after).into(),
                why.into(),
            ];
            Ok(tx.execute(FAILED, &params)? == 1)
        })
    }
}

/// Ends the job of this claim, if it still is, and answers what `keep` does.
fn finish<S: Session>(
    tx: &S,
    claim: &ExtractClaim,
    now: i64,
    keep: impl Fn(&S) -> Result<bool>,
) -> Result<bool> {
    let ours =
        tx.execute(DONE, &[claim.thread_id.as_str().into(), claim.token.as_str().into(), now.into()])?;
    if ours > 0 { keep(tx) } else { Ok(false) }
}
