//! Counters of one database since it was opened.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What a database did since this process opened it.
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Jobs waiting in the queue now.
            pub queued: u64,
            /// Pages in the write-ahead log after the last commit of this process.
            pub wal_pages: u64,
            /// Times the write-ahead log began anew, as far as this process saw it.
            pub checkpoint_restarts: u64,
            /// Pages that the last checkpoint had to leave in the log.
            pub checkpoint_lag: u64,
            /// Rounds of checkpoints in a row that found something to do and could do nothing of it: somebody's snapshot
            /// needs the log, or somebody else keeps the checkpoint's lock.
            pub checkpoint_busy_streak: u64,
            /// How long the oldest read of this process that is under way has lasted, in milliseconds; 0 without one.
            pub oldest_reader_ms: u64,
        }

        #[derive(Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
        }

        impl Counters {
            pub(super) fn read(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed),)* ..Stats::default() }
            }
        }
    };
}

counters! {
    /// Jobs that were committed.
    jobs,
    /// Commits; several jobs may share one.
    commits,
    /// Commits that a caller made by itself, without the writer thread.
    direct_commits,
    /// Batches that were rolled back and run again.
    batches_retried,
    /// Jobs that answered an error or panicked.
    jobs_failed,
    /// Jobs whose caller gave up before they ran.
    jobs_withdrawn,
    /// Submitted jobs of a best-effort database that were dropped because its backlog was full.
    dropped,
    /// What those owned, in bytes, as far as it was told.
    dropped_bytes,
    /// Jobs that a best-effort database refused, because one of its bounds was reached: they were never run.
    shed,
    /// What those owned, in bytes, as far as it was told.
    shed_bytes,
    /// Times the write lock was held by somebody else.
    busy_waits,
    /// Batches that went on without their turn.
    turns_late,
    /// Reads.
    reads,
    /// Checkpoints, whether or not they got to the end.
    checkpoints,
    /// Those of them after which nothing was left in the log.
    checkpoints_complete,
    /// Checkpoints that were finished while the writer was held.
    checkpoints_held,
    /// Free pages that were given back to the disk.
    reclaimed_pages,
    /// Transactions in which that was done.
    reclaim_steps,
    /// For how long these held the write lock, all together, in microseconds.
    reclaim_us,
    /// The longest of these, in microseconds.
    reclaim_longest_us,
    /// Pages of the file that held nothing when that was last looked at, at most a second ago unless writes are in trouble.
    free_pages,
}

pub(super) fn set(gauge: &AtomicU64, n: u64) {
    gauge.store(n, Ordering::Relaxed);
}

pub(super) fn highest(gauge: &AtomicU64, n: u64) {
    gauge.fetch_max(n, Ordering::Relaxed);
}

pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
