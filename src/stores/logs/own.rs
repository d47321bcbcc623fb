//! The rows of no thread that this run of a process wrote, and their cap.
//!
//! Nobody else adds to them, so what they count is known here without a table; and a batch is one transaction, so its
//! rows are one range of ids. When the run has ended its rows only get fewer.
//!
//! Invariants:
//! 1. After every batch they count at most the cap, of which a batch is a part.
//! 2. In a file that was begun anew no range of the old one is deleted.
//!
//! Tests: below; `tests/log_caps.rs`.

use std::collections::VecDeque;

use super::insert::ROOM;

/// Ranges that follow each other become one up to this, in bytes: what goes at once.
const PART: i64 = 64 << 10;

/// A range of ids, and what its rows of no thread count.
struct Part {
    first: i64,
    last: i64,
    bytes: i64,
}

pub(super) struct OwnRows {
    parts: VecDeque<Part>,
    bytes: i64,
    cap: i64,
}

impl OwnRows {
    pub(super) fn new(cap: i64) -> Self {
        Self { parts: VecDeque::new(), bytes: 0, cap }
    }

    /// Ranges that have to go before rows that count this much are added, and how many ranges that are.
    pub(super) fn to_expire(&self, bytes: i64) -> Vec<(i64, i64)> {
        if bytes == 0 || self.bytes + bytes <= self.cap {
            return Vec::new();
        }
        let most = (self.cap - self.cap / ROOM - bytes).max(0);
        let mut left = self.bytes;
        let goes = self.parts.iter().take_while(|part| {
            let goes = left > most;
            left -= part.bytes;
            goes
        });
        goes.map(|part| (part.first, part.last)).collect()
    }

    /// A batch was written that expired so many ranges, and ended in this id.
    pub(super) fn wrote(&mut self, expired: usize, last: i64, rows: usize, bytes: i64) {
        for part in self.parts.drain(..expired) {
            self.bytes -= part.bytes;
        }
        let first = last - i64::try_from(rows).unwrap_or(i64::MAX) + 1;
        if self.parts.back().is_some_and(|part| first <= part.last) {
            // No id is used twice in a file: this is another one, and those ranges are of other rows in it.
            self.parts.clear();
            self.bytes = 0;
        }
        if bytes == 0 {
            return;
        }
        self.bytes += bytes;
        match self.parts.back_mut() {
            Some(part) if part.last + 1 == first && part.bytes + bytes <= PART => {
                part.last = last;
                part.bytes += bytes;
            }
            _ => self.parts.push_back(Part { first, last, bytes }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_ranges_go_a_part_of_the_cap_at_once() {
        let mut own = OwnRows::new(10 * PART);
        let mut id = 0;
        let mut expired = 0;
        for _ in 0..1000 {
            let ranges = own.to_expire(PART / 2);
            expired += ranges.len();
            assert!(own.bytes <= 10 * PART);
            id += 5;
            // Another process wrote one between.
            id += 1;
            own.wrote(ranges.len(), id, 5, PART / 2);
            assert!(own.bytes <= 10 * PART, "{}", own.bytes);
            assert!(own.bytes > 9 * PART || id < 20 * 6, "{}", own.bytes);
        }
        assert_eq!(expired + own.parts.len(), 1000);
        assert_eq!(own.parts.front().map(|part| part.last - part.first), Some(4));
    }

    #[test]
    fn ranges_that_follow_each_other_are_one() {
        let mut own = OwnRows::new(100 * PART);
        for batch in 1..=1000 {
            own.wrote(0, batch * 3, 3, PART / 100);
        }
        assert!(own.parts.len() <= 11, "{}", own.parts.len());
        own.wrote(0, 4000, 4, 0);
        assert_eq!(own.parts.back().map(|part| part.last), Some(3000), "rows of threads are not its own");
    }
    #[test]
    fn a_file_that_was_begun_anew_has_none_of_the_old_ranges() {
        let mut own = OwnRows::new(10 * PART);
        for batch in 1..=10 {
            own.wrote(0, batch * 3, 3, PART);
        }
        assert!(!own.to_expire(PART).is_empty());
        // Rows of threads only.
        own.wrote(0, 3, 3, 0);
        assert_eq!((own.to_expire(PART), own.bytes), (Vec::new(), 0));
        own.wrote(0, 6, 3, PART);
        assert_eq!((own.parts.len(), own.bytes), (1, PART));
    }
}
