//! Latencies in buckets 0.4 % wide: small enough to send from a process to its parent, exact at the maximum.

use std::time::Duration;

const STEPS: u32 = 8;
const STEP_COUNT: u64 = 1 << STEPS;
/// Everything above 2^37 ns (two minutes) shares the last bucket.
const LARGEST_SHIFT: u64 = 28;
const BUCKETS: usize = ((LARGEST_SHIFT * STEP_COUNT) + 2 * STEP_COUNT) as usize;

/// How often each latency was seen.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(into = "Sparse", from = "Sparse")]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_ns: u64,
}

/// The same without the empty buckets.
#[derive(serde::Serialize, serde::Deserialize)]
struct Sparse {
    max_ns: u64,
    counts: Vec<(usize, u64)>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max_ns: 0 }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, latency: Duration) {
        self.record_ns(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn record_ns(&mut self, ns: u64) {
        self.counts[bucket(ns)] += 1;
        self.total += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// The latency that this share of all calls stayed within, in microseconds. Zero when nothing was recorded.
    pub(crate) fn quantile_us(&self, share: f64) -> f64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return middle_ns(index).min(self.max_ns as f64) / 1e3;
            }
        }
        0.0
    }

    pub(crate) fn max_us(&self) -> f64 {
        self.max_ns as f64 / 1e3
    }
}

impl From<Histogram> for Sparse {
    fn from(full: Histogram) -> Self {
        let counts = full.counts.into_iter().enumerate().filter(|(_, count)| *count > 0).collect();
        Self { max_ns: full.max_ns, counts }
    }
}

impl From<Sparse> for Histogram {
    fn from(sparse: Sparse) -> Self {
        let mut full = Self { max_ns: sparse.max_ns, ..Self::default() };
        for (index, count) in sparse.counts {
            full.counts[index.min(BUCKETS - 1)] += count;
            full.total += count;
        }
        full
    }
}

fn bucket(ns: u64) -> usize {
    if ns < STEP_COUNT {
        return ns as usize;
    }
    let shift = u64::from(ns.ilog2() - STEPS);
    if shift > LARGEST_SHIFT {
        return BUCKETS - 1;
    }
    ((shift << STEPS) + (ns >> shift)) as usize
}

fn middle_ns(index: usize) -> f64 {
    let index = index as u64;
    if index < STEP_COUNT {
        return index as f64;
    }
    let shift = (index >> STEPS) - 1;
    let lowest = (STEP_COUNT + (index & (STEP_COUNT - 1))) << shift;
    lowest as f64 + ((1u64 << shift) as f64 - 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_at_most_half_a_percent_off_and_order_is_kept() {
        let mut last = 0;
        for ns in (0..40_000_000_000u64).step_by(7_777_777).chain(0..5_000) {
            let middle = middle_ns(bucket(ns));
            assert!((middle - ns as f64).abs() <= ns as f64 * 0.005, "{ns} fell to {middle}");
        }
        for power in 0..64 {
            let index = bucket(1u64 << power);
            assert!(index >= last && index < BUCKETS);
            last = index;
        }
    }

    #[test]
    fn a_histogram_survives_the_way_through_json() {
        let mut one = Histogram::default();
        for us in 1..=1000 {
            one.record(Duration::from_micros(us));
        }
        let text = serde_json::to_string(&one).expect("serializes");
        let mut two: Histogram = serde_json::from_str(&text).expect("deserializes");
        two.merge(&one);
        assert!((two.quantile_us(0.5) - 500.0).abs() < 3.0, "{}", two.quantile_us(0.5));
        assert!((two.quantile_us(0.99) - 990.0).abs() < 5.0, "{}", two.quantile_us(0.99));
        assert!((two.max_us() - 1000.0).abs() < 1e-9);
    }
}
