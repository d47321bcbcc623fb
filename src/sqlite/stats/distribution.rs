//! A histogram of fixed size: one word for each power of two.
//!
//! Invariants: recording is three loads and stores of one writer at a time, which other threads and processes may read
//! at any moment; a value answered for a quantile is at most twice the true one, and never more than the largest.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::add_alone;

/// Bucket 0 is for 0, bucket n for values below 2^n; the last one is for all that is larger (over two minutes in µs).
const BUCKETS: usize = 28;

/// Where values are recorded.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Histogram {
    sum: AtomicU64,
    largest: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Histogram {
    pub(in crate::sqlite) const WORDS: usize = BUCKETS + 2;

    /// Only by whoever is inside the gate.
    #[inline]
    pub(in crate::sqlite) fn record(&self, value: u64) {
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        add_alone(&self.buckets[bucket.min(BUCKETS - 1)], 1);
        add_alone(&self.sum, value);
        if value > self.largest.load(Relaxed) {
            self.largest.store(value, Relaxed);
        }
    }

    pub(super) fn read(&self) -> Distribution {
        let load = |word: &AtomicU64| word.load(Relaxed);
        Distribution {
            sum: load(&self.sum),
            max: load(&self.largest),
            buckets: self.buckets.iter().map(load).collect(),
        }
    }
}

/// How often which values came, as far as a histogram of powers of two tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    sum: u64,
    max: u64,
    /// As in [`Histogram`]; empty where nobody counted.
    buckets: Vec<u64>,
}

impl Distribution {
    /// The words of a page: sum, largest, then the buckets, of which another version may have more or fewer.
    pub(super) fn of(words: &[AtomicU64]) -> Self {
        let load = |word: &AtomicU64| word.load(Relaxed);
        match words {
            [sum, max, buckets @ ..] => {
                Self { sum: load(sum), max: load(max), buckets: buckets.iter().map(load).collect() }
            }
            _ => Self::default(),
        }
    }

    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        // Another process's page may hold anything.
        self.buckets.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Their sum.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that this share of all values (0.5, 0.99) does not exceed, to a factor of two; 0 without values.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.count() as f64 * share.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0_u64;
        for (at, count) in self.buckets.iter().enumerate() {
            seen = count.saturating_add(seen);
            if seen >= wanted {
                let end = if at + 1 == self.buckets.len() { u64::MAX } else { (1_u64 << at) - 1 };
                return end.min(self.max);
            }
        }
        0
    }

    /// The values that came after it was `earlier`. Which of them was the largest is not known: it is at most
    /// [`max`](Self::max).
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.buckets.iter().copied().chain(std::iter::repeat(0));
        Self {
            sum: self.sum.wrapping_sub(earlier.sum),
            max: self.max,
            buckets: self.buckets.iter().zip(before).map(|(now, then)| now.saturating_sub(then)).collect(),
        }
    }

    /// How the values are spread: the largest value of each bucket, and how many lie in it. They grow by a factor of two;
    /// the last one holds all that is larger.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let last = self.buckets.len().saturating_sub(1);
        let end = move |at: usize| if at == last { u64::MAX } else { (1_u64 << at.min(63)) - 1 };
        self.buckets.iter().enumerate().map(move |(at, count)| (end(at), *count))
    }

    /// Adds the values of another one.
    pub fn merge(&mut self, other: &Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.max = self.max.max(other.max);
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count = count.saturating_add(*more);
        }
    }
}

impl serde::Serialize for Distribution {
    /// `{"count": 3, "sum": 40, "p50": 15, "p99": 20, "max": 20}`
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut told = serializer.serialize_struct("Distribution", 5)?;
        told.serialize_field("count", &self.count())?;
        told.serialize_field("sum", &self.sum)?;
        told.serialize_field("p50", &self.quantile(0.5))?;
        told.serialize_field("p99", &self.quantile(0.99))?;
        told.serialize_field("max", &self.max)?;
        told.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_within_a_factor_of_two_and_never_above_the_largest() {
        let histogram = Histogram::default();
        assert_eq!(histogram.read().quantile(0.99), 0, "nothing yet");
        (1..=1000).for_each(|value| histogram.record(value));
        let found = histogram.read();
        assert_eq!((found.count(), found.sum(), found.max()), (1000, 500_500, 1000));
        for (share, exact) in [(0.5, 500), (0.9, 900), (0.99, 990), (1.0, 1000)] {
            let told = found.quantile(share);
            assert!((exact..=2 * exact).contains(&told) && told <= 1000, "{share}: {told}");
        }
    }

    #[test]
    fn nothing_is_too_large_or_too_small() {
        let histogram = Histogram::default();
        histogram.record(0);
        assert_eq!(histogram.read().quantile(1.0), 0);
        histogram.record(u64::MAX);
        assert_eq!((histogram.read().count(), histogram.read().quantile(1.0)), (2, u64::MAX));
    }

    #[test]
    fn what_came_since_is_told_apart_from_what_came_before() {
        let histogram = Histogram::default();
        (0..100).for_each(|_| histogram.record(3));
        let earlier = histogram.read();
        (0..10).for_each(|_| histogram.record(1000));
        let since = histogram.read().since(&earlier);
        assert_eq!((since.count(), since.sum(), since.quantile(0.5)), (10, 10_000, 1000));
        assert_eq!(since.buckets().filter(|(_, count)| *count > 0).collect::<Vec<_>>(), [(1023, 10)]);
        assert_eq!(since.since(&Distribution::default()), since, "nothing came before");
        assert_eq!(since.buckets().last().map(|(end, _)| end), Some(u64::MAX));
    }

    #[test]
    fn other_versions_may_have_other_buckets() {
        let words: Vec<_> = [10, 6, 0, 0, 1].map(AtomicU64::new).into();
        let mut sum = Distribution::of(&words);
        assert_eq!((sum.count(), sum.quantile(0.5)), (1, 6));
        let histogram = Histogram::default();
        histogram.record(100);
        sum.merge(&histogram.read());
        assert_eq!((sum.count(), sum.sum(), sum.max()), (2, 110, 100));
        assert_eq!(Distribution::of(&[]).count(), 0);
    }
}
