//! How big the next piece is, and when it comes.
//!
//! Invariants, and the tests that hold them (below):
//! - A piece never has fewer than one row, and grows at most fourfold: `it_finds_the_size_and_stays_there`.
//! - Neither the time that a piece keeps the writer busy nor what it adds to the write-ahead log grows with the table:
//!   `wide_rows_make_small_pieces`.
//! - A step has at most half of the writer's time, a quarter where others write: `others_have_most_of_the_time`.

use std::time::{Duration, Instant};

/// The work of one piece.
const TARGET: Duration = Duration::from_millis(15);
/// The pages that one piece may add to the write-ahead log: 2 MiB, half of the length from which it is worked off.
const TARGET_PAGES: u64 = 512;
const FASTEST_GROWTH: f64 = 4.0;
/// A piece that failed may have been too big.
const SMALLER: u32 = 8;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_mins(1);
/// From here on somebody is told: once is no reason.
const TELL_AFTER: u32 = 3;

#[derive(Debug)]
pub(super) struct Pace {
    limit: u32,
    failures: u32,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { limit: 1, failures: 0 }
    }

    /// Rows of the next piece.
    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// A piece took so long and added so many pages to the log; answers how long the step rests.
    pub(super) fn went(&mut self, took: Duration, pages: u64, others_write: bool) -> Duration {
        self.failures = 0;
        let by_time = TARGET.as_secs_f64() / took.as_secs_f64().max(1e-6);
        let by_pages = TARGET_PAGES as f64 / pages.max(1) as f64;
        let factor = by_time.min(by_pages).min(FASTEST_GROWTH);
        // A cast of a float saturates.
        self.limit = ((f64::from(self.limit) * factor) as u32).max(1);
        if others_write { 3 * took } else { took }
    }

    /// A piece failed; answers when to try again.
    pub(super) fn failed(&mut self, now: Instant) -> Instant {
        self.limit = (self.limit / SMALLER).max(1);
        self.failures = self.failures.saturating_add(1);
        let doubled = FIRST_RETRY.saturating_mul(1 << (self.failures - 1).min(16));
        now + doubled.min(LAST_RETRY)
    }

    /// True when it failed so often that somebody should know.
    pub(super) fn is_to_be_told(&self) -> bool {
        self.failures >= TELL_AFTER
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The sizes that it chooses when a row takes so long and fills so many pages.
    fn sizes(row: Duration, pages: f64) -> Vec<u32> {
        let mut pace = Pace::new();
        (0..30)
            .map(|_| {
                let limit = pace.limit();
                pace.went(row * limit, (f64::from(limit) * pages) as u64, false);
                limit
            })
            .collect()
    }

    proptest! {
        #[test]
        fn it_finds_the_size_and_stays_there(micros in 1_u64..100_000) {
            let row = Duration::from_micros(micros);
            let found = sizes(row, 0.0);
            prop_assert!(found.windows(2).all(|two| two[1] <= two[0] * 4 && two[1] >= 1));
            let last = found[found.len() - 1];
            prop_assert!(row * last <= TARGET || last == 1, "{} rows of {:?}", last, row);
            prop_assert!(row * (last + 1) * 2 > TARGET, "{} rows of {:?}", last, row);
        }
    }

    #[test]
    fn wide_rows_make_small_pieces() {
        let found = sizes(Duration::from_micros(1), 64.0);
        assert!(found.iter().skip(5).all(|rows| *rows == 8), "{found:?}");
        let widest = sizes(Duration::from_micros(1), 4096.0);
        assert!(widest.iter().all(|rows| *rows == 1), "{widest:?}");
    }

    #[test]
    fn others_have_most_of_the_time() {
        let mut pace = Pace::new();
        let took = Duration::from_millis(10);
        assert_eq!(pace.went(took, 1, false), took);
        assert_eq!(pace.went(took, 1, true), 3 * took);
    }

    #[test]
    fn it_tries_again_later_and_smaller_and_tells_from_the_third_time_on() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        for _ in 0..5 {
            pace.went(Duration::from_micros(10), 0, false);
        }
        let before = pace.limit();
        let waits: Vec<_> =
            (0..9).map(|_| (pace.failed(now).duration_since(now).as_secs(), pace.is_to_be_told())).collect();
        assert_eq!(pace.limit(), (before / 8 / 8 / 8 / 8).max(1));
        assert_eq!(
            waits.iter().map(|(seconds, _)| *seconds).collect::<Vec<_>>(),
            [1, 2, 4, 8, 16, 32, 60, 60, 60]
        );
        assert_eq!(waits.iter().position(|(_, told)| *told), Some(2));
        pace.went(TARGET, 0, false);
        assert_eq!(pace.failed(now).duration_since(now), FIRST_RETRY);
    }
}
