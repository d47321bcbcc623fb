//! Deleting rows: by age, by what all of them take, and of one thread; always a bounded number of rows at a time.
//!
//! The oldest rows are those with the lowest ids. Deleting by age ends at the first of them that is not old enough. By the
//! cap on age also those go that are from the future, when an old one follows among as many as a step looks at: a clock
//! that was ahead when they were written must not keep all that came after them.
//!
//! Invariants:
//! 1. A transaction deletes at most [`STEP`] rows, or what a cap in bytes asks for in at most [`MOST_STEPS`] of them, and
//!    looks at not many others: none when no row is old enough, else as many as could be in the bytes that have to go.
//! 2. What the rows of threads count is right afterwards ([`insert`](super::insert)).
//!
//! Tests: `tests/log_caps.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::record::OVERHEAD;
use super::{Logs, SLACK};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Row, Session, Value};
use crate::sqlite::now_unix_ns;
use crate::sqlite::tx::Tx;
use crate::stores::threads::row::thread_id;

/// Rows of one transaction.
pub(super) const STEP: i64 = 1000;
/// How many of those a cap in bytes may take at once: that of a thread was lowered, or small rows make room for large ones.
const MOST_STEPS: usize = 16;

const OLDEST: &str = "SELECT id, ts, thread_id, bytes FROM log WHERE id > $1 ORDER BY id LIMIT $2";
const OLDEST_OF_THREAD: &str =
    "SELECT id, ts, thread_id, bytes FROM log WHERE thread_id = $3 AND id > $1 ORDER BY id LIMIT $2";
const DELETE: &str = "DELETE FROM log WHERE id <= $1";
const DELETE_OF_THREAD: &str = "DELETE FROM log WHERE thread_id = $1 AND id <= $2";
const DELETE_OF_RUN: &str =
    "DELETE FROM log WHERE id BETWEEN $1 AND $2 AND thread_id IS NULL AND process_id = $3";
const UNCOUNT: &str = "UPDATE log_thread SET bytes = bytes - $2 WHERE thread_id = $1";
const FORGET_NONE: &str = "DELETE FROM log_thread WHERE thread_id = $1 AND bytes <= 0";
const FORGET: &str = "DELETE FROM log_thread WHERE thread_id = $1";

/// What rows may take. The bytes of all files are [`Domain::max_bytes`](crate::Domain::max_bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogCaps {
    /// What the rows of one thread may count, in bytes. Default 10 MiB.
    pub thread_bytes: i64,
    /// The same for the rows of no thread of one run of a process. Default 10 MiB.
    pub process_bytes: i64,
    /// How old a row may get. Looked at when something is written. Default 10 days.
    pub age: Duration,
}

impl Default for LogCaps {
    fn default() -> Self {
        Self { thread_bytes: 10 << 20, process_bytes: 10 << 20, age: Duration::from_hours(10 * 24) }
    }
}

/// Which rows [`Logs::prune`] deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneOptions {
    /// Only those from before this, in Unix nanoseconds; `i64::MAX` for all. Default: 10 days ago.
    pub before: i64,
    /// Only those of this thread.
    pub thread_id: Option<String>,
    /// Only count them.
    pub dry_run: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self { before: before(now_unix_ns(), LogCaps::default().age), thread_id: None, dry_run: false }
    }
}

/// What [`Logs::prune`] deleted, or would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct PruneReport {
    /// Rows.
    pub rows: u64,
    /// What they counted, in bytes.
    pub bytes: i64,
}

impl Logs {
    /// Deletes old rows, at most 1,000 in a transaction, in the background lane: writers of logs go on between. Their
    /// space is used again, and goes back to the disk in the background, or with [`maintain`](crate::Runtime::maintain).
    ///
    /// # Errors
    /// `Invalid` for an id of a thread that is none; the engine's. What was deleted before stays deleted.
    pub fn prune(&self, options: &PruneOptions) -> Result<PruneReport> {
        let thread = options.thread_id.as_deref().map(thread_id).transpose()?;
        let of = Rows { thread: thread.as_deref(), before: options.before, future: i64::MAX };
        let mut report = PruneReport::default();
        let mut after = 0;
        loop {
            let step = if options.dry_run {
                self.database.get()?.read(|at| Ok(of.find(at, after, i64::MAX)?.0))?
            } else {
                self.database.clone().in_background().get()?.write(|tx| of.delete(tx, i64::MAX))?
            };
            report.rows += step.rows;
            report.bytes = report.bytes.saturating_add(step.bytes);
            after = step.last;
            if !step.more {
                return Ok(report);
            }
        }
    }

    /// Deletes all rows of a thread, as [`prune`](Self::prune) does.
    ///
    /// # Errors
    /// As there.
    pub fn delete_thread(&self, id: &str) -> Result<PruneReport> {
        self.prune(&PruneOptions { before: i64::MAX, thread_id: Some(id.to_owned()), dry_run: false })
    }
}

/// Unix nanoseconds that long ago.
pub(super) fn before(now: i64, age: Duration) -> i64 {
    now.saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX))
}

/// Those that are older than the cap on age allows.
pub(super) fn by_age(now: i64, age: Duration) -> Rows<'static> {
    let future = now.saturating_add(i64::try_from(SLACK.as_nanos()).unwrap_or(i64::MAX));
    Rows { thread: None, before: before(now, age), future }
}

/// What one transaction deleted, or found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) rows: u64,
    pub(super) bytes: i64,
    /// The highest id of them.
    last: i64,
    /// There may be more.
    pub(super) more: bool,
}

/// The oldest rows of a thread, or of all.
#[derive(Clone, Copy)]
pub(super) struct Rows<'t> {
    pub(super) thread: Option<&'t str>,
    /// In Unix nanoseconds; `i64::MAX` for any.
    pub(super) before: i64,
    /// What is from after this goes with older rows that were written after it.
    pub(super) future: i64,
}

impl Rows<'_> {
    /// Those after this id, at most a step's, and not more than count `bytes`; and what they count by thread.
    fn find(self, at: &impl Session, after: i64, bytes: i64) -> Result<(Done, BTreeMap<String, i64>)> {
        // No row counts less than what it takes beside its texts.
        let most = STEP.min(bytes / OVERHEAD as i64 + 1);
        let mut found = Vec::new();
        if self.before == i64::MAX || !self.ends_at(&self.oldest(at, after, 1)?)? {
            found = self.oldest(at, after, most)?;
        }
        let old = self.old_enough(&found)?;
        let (mut done, mut by_thread) = (Done::default(), BTreeMap::new());
        for row in &found[..old] {
            if done.bytes >= bytes {
                break;
            }
            let counts: i64 = row.get("bytes")?;
            if let Some(thread) = row.get::<Option<String>>("thread_id")? {
                *by_thread.entry(thread).or_insert(0) += counts;
            }
            done.bytes += counts;
            done.rows += 1;
            done.last = row.get("id")?;
        }
        done.more = old as i64 == most && done.bytes < bytes;
        Ok((done, by_thread))
    }

    fn oldest(self, at: &impl Session, after: i64, most: i64) -> Result<Vec<Row>> {
        let mut params: Vec<Value> = vec![after.into(), most.into()];
        params.extend(self.thread.map(Value::from));
        at.query(if self.thread.is_some() { OLDEST_OF_THREAD } else { OLDEST }, &params)
    }

    /// True when the first of these rows is one that stays, or there is none.
    fn ends_at(self, found: &[Row]) -> Result<bool> {
        let Some(row) = found.first() else { return Ok(true) };
        let ts: i64 = row.get("ts")?;
        Ok(ts >= self.before && ts <= self.future)
    }

    /// How many of these rows, which are in the order of their ids, are old enough.
    fn old_enough(self, found: &[Row]) -> Result<usize> {
        if self.before == i64::MAX {
            return Ok(found.len());
        }
        let mut old = 0;
        for (at, row) in found.iter().enumerate() {
            let ts: i64 = row.get("ts")?;
            if ts < self.before {
                old = at + 1;
            } else if ts <= self.future {
                break;
            }
        }
        Ok(old)
    }

    /// True when there is one that is old enough.
    pub(super) fn any(self, at: &impl Session) -> Result<bool> {
        Ok(self.find(at, 0, i64::MAX)?.0.rows > 0)
    }

    /// Deletes the oldest, at most a step's, until they count `bytes`.
    pub(super) fn delete(self, at: &impl Session, bytes: i64) -> Result<Done> {
        let (done, by_thread) = self.find(at, 0, bytes)?;
        if done.rows == 0 {
            return Ok(done);
        }
        match self.thread {
            Some(thread) => at.execute(DELETE_OF_THREAD, &[thread.into(), done.last.into()])?,
            None => at.execute(DELETE, &[done.last.into()])?,
        };
        for (thread, bytes) in by_thread {
            at.execute(UNCOUNT, &[thread.as_str().into(), bytes.into()])?;
            at.execute(FORGET_NONE, &[thread.into()])?;
        }
        Ok(done)
    }
}

/// Deletes the oldest rows of a thread that counts this much, until it counts `most`; answers how many.
pub(super) fn thread_to(at: &impl Session, thread: &str, counts: i64, most: i64) -> Result<u64> {
    let (rows, mut left) = (Rows { thread: Some(thread), before: i64::MAX, future: i64::MAX }, counts);
    let mut deleted = 0;
    for _ in 0..MOST_STEPS {
        if left <= most {
            break;
        }
        let done = rows.delete(at, left - most)?;
        left -= done.bytes;
        deleted += done.rows;
        if done.rows == 0 {
            // It has no rows at all: the count was wrong.
            at.execute(FORGET, &[thread.into()])?;
            break;
        }
    }
    Ok(deleted)
}

/// Deletes rows of no thread in a range of ids that this run wrote.
pub(super) fn run_rows(at: &impl Session, process: &str, first: i64, last: i64) -> Result<u64> {
    at.execute(DELETE_OF_RUN, &[first.into(), last.into(), process.into()])
}

/// Rows, and what they count in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) rows: u64,
    pub(super) bytes: i64,
}

/// Deletes the oldest rows of all while they take more than `most` bytes of the main file: at least a step, and twice what
/// was added last, which may be more bytes in as many rows.
pub(super) fn to_bytes(tx: &Tx, most: u64, added: Counts) -> Result<Done> {
    let used = tx.used_bytes()?;
    if used <= most {
        return Ok(Done::default());
    }
    let too_much = i64::try_from(used - most).unwrap_or(i64::MAX);
    let mut all = delete_bytes(tx, too_much, added)?;
    if all.rows == 0 {
        return Err(Error::new(
            ErrorKind::Full,
            "the files of the logs take more than they may, without a row",
        ));
    }
    all.more = true;
    Ok(all)
}

/// Deletes the oldest rows of all until they count so much, or twice what was added.
fn delete_bytes(at: &impl Session, too_much: i64, added: Counts) -> Result<Done> {
    let mut all = Done::default();
    for _ in 0..MOST_STEPS {
        let done =
            Rows { thread: None, before: i64::MAX, future: i64::MAX }.delete(at, too_much - all.bytes)?;
        all.rows += done.rows;
        all.bytes += done.bytes;
        let gains = all.rows >= added.rows * 2 && all.bytes >= added.bytes.saturating_mul(2);
        if done.rows == 0 || gains || all.bytes >= too_much {
            break;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sqlite::tx::Snapshot;

    /// A log of so many rows, which count so much.
    pub(super) fn log(rows: i64, bytes: i64) -> Snapshot {
        let at = Snapshot::in_memory(concat!(
            include_str!("../../../migrations_logs/V1__log.sql"),
            include_str!("../../../migrations_logs/V2__log_thread.sql")
        ));
        let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
                    INSERT INTO log(ts, level, target, message, process_id, bytes) SELECT i, 3, 't', 'm', 'p', $2 FROM n WHERE i <= $1";
        Session::execute(&at, fill, &[rows.into(), bytes.into()]).expect("rows");
        at
    }

    #[test]
    fn a_step_frees_twice_what_came_however_small_the_old_rows_are() {
        let at = log(20_000, 200);
        let added = Counts { rows: 1_000, bytes: 500_000 };
        let done = delete_bytes(&at, i64::MAX, added).expect("deleted");
        assert_eq!((done.rows, done.bytes), (5_000, 1_000_000));
        let many_rows = Counts { rows: 1_025, bytes: 1_025 };
        assert_eq!(delete_bytes(&at, i64::MAX, many_rows).expect("deleted").rows, 3_000);
        assert_eq!(delete_bytes(&at, 1_000, added).expect("deleted").rows, 5, "not more than is too much");
        let much = Counts { rows: 1, bytes: i64::MAX };
        assert_eq!(delete_bytes(&at, i64::MAX, much).expect("all").rows, 11_995);
        assert_eq!(delete_bytes(&at, i64::MAX, much).expect("none").rows, 0);
    }

    proptest! {
        /// Whatever the clocks said when rows were written: by age go those that are old, and those from the future before
        /// them, up to the first one that is neither.
        #[test]
        fn by_age_goes_what_is_old_and_nothing_behind_what_is_not(
            ages in prop::collection::vec(prop_oneof![3 => 10_i64..14, 2 => -3_i64..0, 1 => 0_i64..10], 0..60),
            threads in prop::collection::vec(0..3_i64, 60),
        ) {
            const DAY: i64 = 86_400_000_000_000;
            let now = 100 * DAY;
            let at = log(0, 0);
            for (age, thread) in ages.iter().zip(&threads) {
                // Half a day, so that none is just at the cap.
                let ts = now - age * DAY - DAY / 2;
                let row = "INSERT INTO log(ts, level, target, message, process_id, thread_id, bytes) \
                           VALUES ($1, 3, 't', 'm', 'p', $2, 100)";
                let thread = (*thread > 0).then(|| format!("thread {thread}"));
                at.execute(row, &[ts.into(), thread.clone().into()]).expect("a row");
                if let Some(thread) = thread {
                    let count = "INSERT INTO log_thread VALUES ($1, 100) \
                                 ON CONFLICT (thread_id) DO UPDATE SET bytes = bytes + 100";
                    at.execute(count, &[thread.into()]).expect("a count");
                }
            }
            let kept = ages.iter().position(|age| (0..10).contains(age)).unwrap_or(ages.len());
            let expected = ages[..kept].iter().rposition(|age| *age >= 10).map_or(0, |last| last + 1);
            let age = by_age(now, Duration::from_hours(10 * 24));
            prop_assert_eq!(age.any(&at).expect("looked"), expected > 0);
            prop_assert_eq!(age.delete(&at, i64::MAX).expect("deleted").rows, expected as u64);
            prop_assert!(!age.any(&at).expect("looked"));
            let number = |sql: &'static str| -> i64 {
                at.query(sql, &[]).expect(sql)[0].get("n").expect("a number")
            };
            prop_assert_eq!(number("SELECT count(*) AS n FROM log"), (ages.len() - expected) as i64);
            prop_assert_eq!(number("SELECT count(*) AS n FROM (SELECT thread_id, sum(bytes) AS bytes FROM log \
                WHERE thread_id IS NOT NULL GROUP BY thread_id EXCEPT SELECT thread_id, bytes FROM log_thread)"), 0);
            prop_assert_eq!(number("SELECT count(*) AS n FROM log_thread WHERE thread_id NOT IN \
                (SELECT thread_id FROM log WHERE thread_id IS NOT NULL)"), 0);
        }
    }

    #[test]
    fn a_row_from_the_future_does_not_keep_those_after_it() {
        const DAY: i64 = 86_400_000_000_000;
        let at = log(10, 100);
        // The first three are from next month, and so is the eighth; the last one is of now.
        let set = "UPDATE log SET ts = CASE WHEN id <= 3 OR id = 8 THEN $1 WHEN id = 10 THEN $2 ELSE $3 END";
        Session::execute(&at, set, &[(60 * DAY).into(), (30 * DAY).into(), DAY.into()]).expect("rows");
        let age = by_age(30 * DAY, Duration::from_hours(10 * 24));
        assert!(age.any(&at).expect("looked"));
        // On demand only those go that are from before a moment.
        let asked = Rows { thread: None, before: 20 * DAY, future: i64::MAX };
        assert_eq!(asked.delete(&at, i64::MAX).expect("none").rows, 0);
        assert_eq!(age.delete(&at, i64::MAX).expect("deleted").rows, 9);
        assert!(!age.any(&at).expect("looked"));
        Session::execute(&at, "UPDATE log SET ts = $1", &[(60 * DAY).into()]).expect("a row");
        assert_eq!(age.delete(&at, i64::MAX).expect("none").rows, 0, "alone it stays");
    }
}
