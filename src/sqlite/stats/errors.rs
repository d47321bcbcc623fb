//! How many errors of which kind were answered.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::layout::Word;
use crate::error::ErrorKind;

/// One word for each kind.
#[derive(Default)]
#[repr(C)]
pub(crate) struct ErrorCounters([AtomicU64; ErrorKind::ALL.len()]);

impl ErrorCounters {
    pub(crate) fn count(&self, kind: ErrorKind) {
        self.0[kind as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> ErrorCounts {
        ErrorCounts(std::array::from_fn(|at| self.0[at].load(Relaxed)))
    }

    pub(super) fn words() -> impl Iterator<Item = Word> {
        ErrorKind::ALL.iter().map(|kind| Word::single(&name(*kind)))
    }
}

fn name(kind: ErrorKind) -> String {
    format!("error.{}", kind.as_str())
}

/// How many errors of each kind a database's calls answered.
///
/// ```
/// # fn main() -> rowhouse::Result<()> {
/// use rowhouse::{Domain, ErrorKind, Home, Runtime};
/// let runtime = Runtime::builder(Home::at("/nowhere")).domain(Domain::new("cache")).ephemeral().open()?;
/// let cache = runtime.database("cache")?;
/// cache.write(|tx| tx.execute("INSERT INTO no_such_table VALUES (1)", [])).expect_err("no such table");
/// assert_eq!(cache.stats().errors.of_kind(ErrorKind::Invalid), 1);
/// assert_eq!(cache.stats().errors.total(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorCounts([u64; ErrorKind::ALL.len()]);

impl ErrorCounts {
    pub(super) fn of(word: impl Fn(&str) -> u64) -> Self {
        Self(ErrorKind::ALL.map(|kind| word(&name(kind))))
    }

    /// Errors of this kind.
    pub fn of_kind(&self, kind: ErrorKind) -> u64 {
        self.0[kind as usize]
    }

    /// Errors of every kind.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Every kind with its number, also those that did not come.
    pub fn iter(&self) -> impl Iterator<Item = (ErrorKind, u64)> + '_ {
        ErrorKind::ALL.into_iter().zip(self.0)
    }

    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].saturating_sub(earlier.0[at])))
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count = count.saturating_add(more);
        }
    }
}

impl serde::Serialize for ErrorCounts {
    /// Every kind by its word: `{"busy": 2, "timeout": 0, ...}`.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(kind, count)| (kind.as_str(), count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_place_of_its_own() {
        let counters = ErrorCounters::default();
        for (times, kind) in ErrorKind::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| counters.count(kind));
        }
        let found = counters.read();
        for (times, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(found.of_kind(kind), times as u64, "{}", kind.as_str());
        }
    }
}
