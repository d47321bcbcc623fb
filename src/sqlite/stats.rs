//! What a database did since it was opened, counted where other processes can read it.
//!
//! The counters of a database are words of its process's status page ([`Board`]), so that nothing has to be published:
//! what is counted is what `rowhouse stats` shows, also while the process is stopped. Where there is no page they are in
//! its memory.
//!
//! Invariants:
//! 1. Counting never waits, allocates or makes a system call.
//! 2. A name says its unit (`_us`, `_bytes`, `_pages`; else a number of things) and stays what it is.
//! 3. The page says in text which word is which counter ([`layout`]), so that programs of different versions read each
//!    other's: by name, never by place.
//! 4. Every error that a call answers is counted once, under its kind ([`Shared::told`](super::shared::Shared::told)).
//! 5. What did not change is not stored again: a page may be on a disk, and an idle process writes nothing.
//! 6. Distributions have one writer at a time: whoever is inside the gate.
//!
//! Tests: below and in its parts; `tests/o4_counted_faults.rs`.

mod board;
mod distribution;
mod errors;
mod layout;
mod opening;

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use errors::ErrorCounters;
use layout::Word;
use opening::OpenTimes;

pub(crate) use board::Board;
pub use distribution::Distribution;
use distribution::Histogram;
pub use errors::ErrorCounts;
pub(crate) use layout::{TEXT, Table};
pub use opening::{OpenPhases, Opening};
pub(super) use opening::{Phase, Times};

macro_rules! table {
    (
        counters { $($(#[doc = $counter_doc:literal])* $counter:ident),* $(,)? }
        sums { $($(#[doc = $sum_doc:literal])* $sum:ident),* $(,)? }
        gauges { $($(#[doc = $gauge_doc:literal])* $gauge:ident),* $(,)? }
        distributions { $($(#[doc = $distribution_doc:literal])* $distribution:ident),* $(,)? }
    ) => {
        /// What a database did since its process opened it. Each name says its unit: `_us` are microseconds.
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $counter_doc])* pub $counter: u64,)*
            $($(#[doc = $sum_doc])* pub $sum: u64,)*
            $($(#[doc = $gauge_doc])* pub $gauge: u64,)*
            $($(#[doc = $distribution_doc])* pub $distribution: Distribution,)*
            /// The errors that its calls answered, by kind.
            pub errors: ErrorCounts,
            /// How long opening it took.
            pub opening: Opening,
        }

        /// The words of one database.
        #[derive(Default)]
        #[repr(C)]
        pub(crate) struct Counters {
            $(pub(crate) $counter: AtomicU64,)*
            $(pub(crate) $sum: AtomicU64,)*
            $(pub(crate) $gauge: AtomicU64,)*
            $(pub(super) $distribution: Histogram,)*
            pub(crate) errors: ErrorCounters,
            pub(super) opening: OpenTimes,
        }

        /// The names and lengths of these words, in their order.
        fn words() -> Vec<Word> {
            let distribution = |name: &str| Word { name: name.to_owned(), length: Histogram::WORDS };
            let mut words = vec![
                $(Word::single(stringify!($counter)),)*
                $(Word::single(stringify!($sum)),)*
                $(Word::single(stringify!($gauge)),)*
                $(distribution(stringify!($distribution)),)*
            ];
            words.extend(ErrorCounters::words());
            words.extend(OpenTimes::words());
            words
        }

        impl Counters {
            pub(crate) fn read(&self) -> Stats {
                Stats {
                    $($counter: self.$counter.load(Relaxed),)*
                    $($sum: self.$sum.load(Relaxed),)*
                    $($gauge: self.$gauge.load(Relaxed),)*
                    $($distribution: self.$distribution.read(),)*
                    errors: self.errors.read(),
                    opening: self.opening.read(),
                }
            }
        }

        impl Stats {
            /// What a process published, whatever its version: what it does not count is 0.
            pub(crate) fn of(table: &Table, words: &[AtomicU64]) -> Self {
                Self {
                    $($counter: table.word(words, stringify!($counter)),)*
                    $($sum: table.word(words, stringify!($sum)),)*
                    $($gauge: table.word(words, stringify!($gauge)),)*
                    $($distribution: Distribution::of(table.words(words, stringify!($distribution))),)*
                    errors: ErrorCounts::of(|name| table.word(words, name)),
                    opening: Opening::of(|name| table.word(words, name)),
                }
            }

            /// Adds what another process did with the same database: counters, distributions, what waits and connections
            /// are summed up, of what else is so now and of the times of opening the larger one counts.
            pub fn merge(&mut self, other: &Self) {
                $(self.$counter = self.$counter.saturating_add(other.$counter);)*
                $(self.$sum = self.$sum.saturating_add(other.$sum);)*
                $(self.$gauge = self.$gauge.max(other.$gauge);)*
                $(self.$distribution.merge(&other.$distribution);)*
                self.errors.merge(&other.errors);
                self.opening.merge(&other.opening);
            }

            /// What it did after it was `earlier`: counters, distributions and errors of that time; of what is so now, and
            /// of the times of opening, what they are.
            #[must_use]
            pub fn since(&self, earlier: &Self) -> Self {
                Self {
                    $($counter: self.$counter.saturating_sub(earlier.$counter),)*
                    $($sum: self.$sum,)*
                    $($gauge: self.$gauge,)*
                    $($distribution: self.$distribution.since(&earlier.$distribution),)*
                    errors: self.errors.since(&earlier.errors),
                    opening: self.opening.clone(),
                }
            }

            /// Every counter: its name, what it is, its value.
            #[cfg(feature = "metrics")]
            pub(crate) fn counters(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($counter), concat!($($counter_doc),*).trim_ascii(), self.$counter),)*].into_iter()
            }

            /// The same of what is so now.
            #[cfg(feature = "metrics")]
            pub(crate) fn gauges(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [
                    $((stringify!($sum), concat!($($sum_doc),*).trim_ascii(), self.$sum),)*
                    $((stringify!($gauge), concat!($($gauge_doc),*).trim_ascii(), self.$gauge),)*
                ]
                .into_iter()
            }

            /// The same of the distributions.
            #[cfg(feature = "metrics")]
            pub(crate) fn distributions(
                &self,
            ) -> impl Iterator<Item = (&'static str, &'static str, &Distribution)> {
                [$((
                    stringify!($distribution),
                    concat!($($distribution_doc),*).trim_ascii(),
                    &self.$distribution,
                ),)*]
                .into_iter()
            }

            /// It is closed: nothing of it is so now any more.
            #[cfg(feature = "metrics")]
            pub(crate) fn end(&mut self) {
                $(self.$sum = 0;)*
                $(self.$gauge = 0;)*
            }
        }
    };
}

table! {
    counters {
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
        /// Jobs whose caller gave up on them before they were answered.
        jobs_withdrawn,
        /// Submitted jobs of a best-effort database that were dropped because its backlog was full.
        dropped,
        /// What those owned, in bytes, as far as it was told.
        dropped_bytes,
        /// Jobs that a best-effort database refused, because one of its bounds was reached: they were never run.
        shed,
        /// What those owned, in bytes, as far as it was told.
        shed_bytes,
        /// What its commits wrote to the write-ahead log, in bytes.
        written_bytes,
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
        /// For how long it was held for these, all together, in microseconds.
        checkpoint_held_us,
        /// Free pages that were given back to the disk.
        reclaimed_pages,
        /// Transactions in which that was done.
        reclaim_steps,
        /// For how long these held the write lock, all together, in microseconds.
        reclaim_us,
        /// Times it was opened or attached.
        opens,
        /// Times that failed; a best-effort database is tried again twice a second.
        opens_failed,
        /// Transactions on a server that were run again because others wrote what they read.
        retried_conflict,
        /// Those that were run again because their connection was lost, and tries to connect that were made again.
        retried_lost,
        /// Tries to connect that were made again because the server had no place, or was starting or stopping.
        retried_busy,
        /// Writes whose acknowledgement was lost, and of which the server then said whether they are there.
        outcomes_settled,
        /// Statements that a server was kept from finishing by their deadline.
        statements_cancelled,
        /// Times all connections to the server were in use, and one was waited for.
        connection_waits,
        /// For how long, all together, in microseconds.
        connection_wait_us,
    }
    sums {
        /// Jobs waiting in the queue now.
        queued,
        /// Those of them in the background lane.
        queued_background,
        /// Connections to the server that this process has open. All its domains there share them.
        connections,
        /// Those of them that are in use.
        connections_lent,
        /// The most that it may have open.
        connections_most,
    }
    gauges {
        /// Pages in the write-ahead log after the last commit of this process.
        wal_pages,
        /// Times the write-ahead log began anew, as far as this process saw it.
        checkpoint_restarts,
        /// Pages that the last checkpoint had to leave in the log.
        checkpoint_lag,
        /// Rounds of checkpoints in a row that found something to do and could do nothing of it: somebody's snapshot
        /// needs the log, or somebody else keeps the checkpoint's lock.
        checkpoint_busy_streak,
        /// How long the oldest read of this process that is under way has lasted, in milliseconds; 0 without one. Other
        /// processes see it as of the last second.
        oldest_reader_ms,
        /// The longest that the writer was held for a checkpoint, in microseconds.
        checkpoint_longest_us,
        /// The longest transaction that gave free pages back, in microseconds.
        reclaim_longest_us,
        /// Pages of the file that held nothing when that was last looked at, at most a second ago unless writes are in
        /// trouble.
        free_pages,
        /// The longest that a connection to the server was waited for, in microseconds.
        connection_wait_longest_us,
    }
    distributions {
        /// From the call to the run of jobs that waited in the normal lane.
        queue_wait_us,
        /// The same in the background lane.
        queue_wait_background_us,
        /// How long the write lock was held, from its beginning to the end of the commit.
        hold_us,
        /// COMMIT itself: each one where it waits for the disk, else one in sixteen.
        commit_us,
        /// Jobs that one commit answered.
        batch_jobs,
    }
}

impl Counters {
    /// The write lock was held from then until then.
    #[inline]
    pub(super) fn held(&self, from: Instant, until: Instant) {
        self.hold_us.record(until.saturating_duration_since(from).as_micros() as u64);
    }
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}

/// Stores nothing when it says so already: the page may be a file, and an idle process writes nothing to its disk.
pub(crate) fn set(gauge: &AtomicU64, n: u64) {
    if gauge.load(Relaxed) != n {
        gauge.store(n, Relaxed);
    }
}

pub(crate) fn highest(gauge: &AtomicU64, n: u64) {
    gauge.fetch_max(n, Relaxed);
}

/// Adds to a counter that has one writer at a time, whoever is inside the gate: a fifth of the price of [`add`].
pub(super) fn add_alone(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_words_are_what_the_table_says() {
        let length: usize = words().iter().map(|word| word.length).sum();
        assert_eq!(size_of::<Counters>(), length * 8);
        let mut names: Vec<_> = words().into_iter().map(|word| word.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "each name once");
    }

    #[test]
    fn processes_add_up() {
        let counters = Counters::default();
        add(&counters.jobs, 3);
        set(&counters.wal_pages, 7);
        set(&counters.queued, 2);
        counters.errors.count(ErrorKind::Busy);
        let mut sum = counters.read();
        set(&counters.wal_pages, 5);
        sum.merge(&counters.read());
        assert_eq!((sum.jobs, sum.wal_pages, sum.queued, sum.errors.of_kind(ErrorKind::Busy)), (6, 7, 4, 2));
    }

    #[test]
    fn what_was_done_since_is_told_and_what_is_so_now_stays() {
        let counters = Counters::default();
        add(&counters.jobs, 3);
        set(&counters.wal_pages, 7);
        let earlier = counters.read();
        add(&counters.jobs, 2);
        counters.errors.count(ErrorKind::Busy);
        let since = counters.read().since(&earlier);
        assert_eq!((since.jobs, since.wal_pages, since.errors.total()), (2, 7, 1));
        assert_eq!(earlier.since(&counters.read()).jobs, 0, "a process that began anew");
    }
}
