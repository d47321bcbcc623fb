//! Which word of a page is which counter, as text: `jobs commits ... hold_us:30 ... error.busy ...`.
//!
//! A name is followed by the number of its words when that is not 1. A reader takes what it knows by name, and passes
//! over the rest: counters may come, go and move from version to version.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// A counter's place: its name and how many words it has.
pub(super) struct Word {
    pub(super) name: String,
    pub(super) length: usize,
}

impl Word {
    pub(super) fn single(name: &str) -> Self {
        Self { name: name.to_owned(), length: 1 }
    }
}

/// This version's own words.
pub(crate) static TEXT: LazyLock<String> = LazyLock::new(|| {
    let words = super::words().into_iter().map(|Word { name, length }| match length {
        1 => name,
        _ => format!("{name}:{length}"),
    });
    words.collect::<Vec<_>>().join(" ")
});

/// Where another process's counters are.
pub(crate) struct Table(HashMap<String, (usize, usize)>);

impl Table {
    /// Of the text of a page; what cannot be understood ends it.
    pub(crate) fn read(text: &str) -> Self {
        let (mut table, mut at) = (HashMap::new(), 0_usize);
        for word in text.split_ascii_whitespace() {
            let (name, length) = match word.split_once(':').map(|(name, length)| (name, length.parse())) {
                None => (word, 1),
                Some((name, Ok(length))) => (name, length),
                Some((_, Err(_))) => break,
            };
            table.insert(name.to_owned(), (at, length));
            let Some(next) = at.checked_add(length) else { break };
            at = next;
        }
        Self(table)
    }

    /// The words of a name; none where it is not counted.
    pub(super) fn words<'w>(&self, words: &'w [AtomicU64], name: &str) -> &'w [AtomicU64] {
        let found = self.0.get(name).and_then(|(at, length)| words.get(*at..at.checked_add(*length)?));
        found.unwrap_or_default()
    }

    /// The first of them, or 0.
    pub(super) fn word(&self, words: &[AtomicU64], name: &str) -> u64 {
        self.words(words, name).first().map_or(0, |word| word.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Counters, Stats, add};
    use super::*;
    use crate::error::ErrorKind;

    fn of(text: &str, words: &[u64]) -> Stats {
        let words: Vec<_> = words.iter().copied().map(AtomicU64::new).collect();
        Stats::of(&Table::read(text), &words)
    }

    #[test]
    fn counters_are_found_by_name_wherever_they_are() {
        let found =
            of("new_one commits hold_us:4 error.new_kind error.busy jobs", &[9, 2, 70, 60, 0, 1, 8, 5, 3]);
        assert_eq!((found.commits, found.jobs, found.errors.of_kind(ErrorKind::Busy)), (2, 3, 5));
        assert_eq!((found.hold_us.count(), found.hold_us.sum(), found.hold_us.max()), (1, 70, 60));
        assert_eq!(
            (found.reads, found.errors.total(), found.commit_us.count()),
            (0, 5, 0),
            "not counted there"
        );
    }

    #[test]
    fn a_text_that_makes_no_sense_counts_nothing() {
        let largest = format!("jobs:{} commits", usize::MAX);
        for text in ["", "jobs:x", "jobs:-1", "jobs:99", ":", "jobs:0", &largest] {
            assert_eq!(of(text, &[1, 2]).jobs, 0, "{text}");
            assert_eq!(of(text, &[1, 2]).commits, 0, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let counters = Counters::default();
        add(&counters.jobs, 5);
        counters.hold_us.record(40);
        counters.errors.count(ErrorKind::Io);
        // SAFETY: `Counters` is `repr(C)` and nothing but words.
        let words = unsafe {
            std::slice::from_raw_parts((&raw const counters).cast::<AtomicU64>(), size_of::<Counters>() / 8)
        };
        assert_eq!(Stats::of(&Table::read(&TEXT), words), counters.read());
    }
}
