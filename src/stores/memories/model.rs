//! What is asked and answered.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::sql::Row;

/// The numbers of the two flows, with their defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryLimits {
    /// Threads that one claim looks through, newest first. Default 5,000.
    pub scan: u32,
    /// Threads that are worked on at any time, by all processes. Default 64.
    pub running: u32,
    /// How long a thread must have been at rest. Default 12 h.
    pub idle: Duration,
    /// How old a thread may be. Default 30 days.
    pub age: Duration,
    /// How long a claimed job belongs to who claimed it. Default 1 h. The same in all programs of a home: a claim cuts
    /// leases that end later than its own would.
    pub lease: Duration,
    /// How often a job that failed is tried again. Default 3.
    pub retries: u32,
    /// How long after a failure. Default 1 h.
    pub retry_after: Duration,
    /// How long after a success the next consolidation may begin. Default 6 h.
    pub cooldown: Duration,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self {
            scan: 5_000,
            running: 64,
            idle: Duration::from_hours(12),
            age: Duration::from_hours(30 * 24),
            lease: Duration::from_hours(1),
            retries: 3,
            retry_after: Duration::from_hours(1),
            cooldown: Duration::from_hours(6),
        }
    }
}

/// A thread to draw a memory from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractClaim {
    /// The thread.
    pub thread_id: String,
    /// Its `updated_at` when it was claimed.
    pub source_updated_at: i64,
    /// Says whose job it is.
    pub token: String,
    /// Until when, in Unix milliseconds; later it may be somebody else's.
    pub lease_until: i64,
}

/// The answer to who wants to consolidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ConsolidateClaim {
    /// It is yours.
    Claimed {
        /// Says whose job it is.
        token: String,
        /// The newest source that an output was made from; 0 while there is none.
        watermark: i64,
        /// Up to where the last book was made, as it was said then; `None` while there was none. The same as `watermark`
        /// when no output is newer than that book.
        last_watermark: Option<i64>,
    },
    /// Somebody else is at it.
    Running,
    /// It failed not long ago.
    RetryLater,
    /// It was done not long ago.
    Cooldown,
}

/// What was drawn from a thread. Each text has at most 1 MiB, without NUL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMemory {
    /// The memory itself.
    pub raw_memory: String,
    /// What the thread was about.
    pub rollout_summary: String,
    /// A short name of it, fit for a file: 1 to 100 bytes, no slash, backslash or control character, no dot in front.
    pub rollout_slug: Option<String>,
}

/// What was drawn from a thread, as it is kept. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryOutput {
    /// The thread.
    pub thread_id: String,
    /// What was drawn from it.
    #[serde(flatten)]
    pub memory: NewMemory,
    /// The thread's `updated_at` when it was read.
    pub source_updated_at: i64,
    /// When it was made.
    pub generated_at: i64,
    /// How often it was of use.
    pub usage_count: i64,
    /// When last; of one that was never used, `source_updated_at`.
    pub last_used_at: i64,
}

/// An output that is chosen for the next book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectedOutput {
    /// The output.
    #[serde(flatten)]
    pub output: MemoryOutput,
    /// The last book used it, as it is now.
    pub is_retained: bool,
}

/// What the next book is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// By rank.
    pub selected: Vec<SelectedOutput>,
    /// Threads of the last book that are not in it any more.
    pub removed: Vec<String>,
}

/// An output that a book was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedOutput {
    /// The thread.
    pub thread_id: String,
    /// Which of its outputs.
    pub source_updated_at: i64,
}

impl From<&SelectedOutput> for UsedOutput {
    fn from(selected: &SelectedOutput) -> Self {
        let MemoryOutput { thread_id, source_updated_at, .. } = &selected.output;
        Self { thread_id: thread_id.clone(), source_updated_at: *source_updated_at }
    }
}

/// How far memories are. Times are Unix milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// Outputs that are kept.
    pub outputs: i64,
    /// Of these, those in the last book.
    pub selected: i64,
    /// Threads that are worked on now.
    pub extracting: i64,
    /// Threads whose worker let its lease end.
    pub lost: i64,
    /// Threads from which all was drawn that was there.
    pub done: i64,
    /// Threads whose last try failed.
    pub failed: i64,
    /// True when there are more than 20,000 outputs or threads with a job: the counts are of the first ones.
    pub truncated: bool,
    /// Somebody makes a book now.
    pub consolidating: bool,
    /// When the last book was made.
    pub consolidated_at: Option<i64>,
    /// Up to where it was made: its watermark.
    pub watermark: Option<i64>,
    /// Until when no book is made because one was made not long ago; may have passed.
    pub cooldown_until: Option<i64>,
    /// Until when no book is made because it failed not long ago; may have passed.
    pub retry_at: Option<i64>,
}

impl MemoryOutput {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            thread_id: row.get("thread_id")?,
            memory: NewMemory {
                raw_memory: row.get("raw_memory")?,
                rollout_summary: row.get("rollout_summary")?,
                rollout_slug: row.get("rollout_slug")?,
            },
            source_updated_at: row.get("source_updated_at")?,
            generated_at: row.get("generated_at")?,
            usage_count: row.get("usage_count")?,
            last_used_at: row.get("last_used_at")?,
        })
    }
}
