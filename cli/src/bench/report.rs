//! The document that `bench --json` prints.

use serde::Serialize;

use super::machine::Machine;
use super::workloads::callers::Measured;

/// One run of a bench. Fields that do not apply are absent; names stay, new ones may come.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    pub(crate) bench: &'static str,
    pub(crate) machine: Machine,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
    pub(crate) rows: Vec<Row>,
    pub(crate) targets: Vec<Target>,
}

impl Document {
    pub(crate) fn new(bench: &'static str, machine: Machine) -> Self {
        Self { bench, machine, notes: Vec::new(), rows: Vec::new(), targets: Vec::new() }
    }
}

/// What one subject reached in one work: medians of the rounds, and the worst wait of all.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) work: &'static str,
    pub(crate) subject: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) callers: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) processes: Option<usize>,
    /// Rows in the store that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stored: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) synchronous: Option<&'static str>,
    pub(crate) ops_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) slowest_over_fastest: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wal_max_bytes: Option<u64>,
    /// Operations per second, over those of the same work on a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) over_file: Option<f64>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) growth: Option<Growth>,
    pub(crate) rounds: usize,
}

/// A row that is one second of a storm of events.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Growth {
    /// Counted from 1.
    pub(crate) second: usize,
    /// Bytes that all processes sent to the disk.
    pub(crate) written_bytes: u64,
    /// The longest that the database file was.
    pub(crate) file_max_bytes: u64,
    /// The most that the database, its write-ahead log and the log's index took together.
    pub(crate) all_max_bytes: u64,
    /// Events that were refused or pushed out.
    pub(crate) shed: u64,
}

impl Row {
    /// Sums the rounds of one subject up.
    pub(crate) fn of(work: &'static str, subject: &'static str, rounds: &[Measured]) -> Self {
        let middle = |of: fn(&Measured) -> f64| rounded(median_of(rounds, of));
        Self {
            work,
            subject,
            ops_per_s: middle(Measured::ops_per_s),
            p50_us: Some(middle(p50_us)),
            p99_us: Some(middle(|round| round.latency.quantile_us(0.99))),
            max_us: Some(rounded(worst_us(rounds))),
            slowest_over_fastest: Some(middle(Measured::share)),
            rounds: rounds.len(),
            ..Self::default()
        }
    }
}

pub(crate) fn p50_us(round: &Measured) -> f64 {
    round.latency.quantile_us(0.5)
}

pub(crate) fn worst_us(rounds: &[Measured]) -> f64 {
    rounds.iter().map(|round| round.latency.max_us()).fold(0.0, f64::max)
}

pub(crate) fn median_of(rounds: &[Measured], of: impl Fn(&Measured) -> f64) -> f64 {
    median(&rounds.iter().map(of).collect::<Vec<_>>())
}

/// The median of what `of` says about ours over what it says about theirs, round by round.
pub(crate) fn ratio(ours: &[Measured], theirs: &[Measured], of: impl Fn(&Measured) -> f64) -> f64 {
    let each: Vec<_> =
        ours.iter().zip(theirs).map(|(one, other)| of(one) / of(other).max(f64::MIN_POSITIVE)).collect();
    median(&each)
}

/// The middle value; of an even number of values the mean of the middle two. Zero of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match (sorted.get(half), sorted.len() % 2) {
        (None, _) => 0.0,
        (Some(middle), 1) => *middle,
        (Some(middle), _) => f64::midpoint(sorted[half - 1], *middle),
    }
}

/// Four digits are more than any of this repeats to.
pub(crate) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 6);
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// Which side of its bound a value must be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum At {
    Least,
    Most,
}

/// A promise and what was reached. `holds` follows from `value`, `bound` and `at` as they are printed.
#[derive(Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) bound: f64,
    pub(crate) at: At,
    /// `x` (a ratio), `us`, `ms`, `KiB`, `MiB`, `MB/s` or `/s`
    pub(crate) unit: &'static str,
    pub(crate) holds: bool,
}

impl Target {
    pub(crate) fn at_least(name: &'static str, value: f64, bound: f64, unit: &'static str) -> Self {
        let value = rounded(value);
        Self { name, value, bound, at: At::Least, unit, holds: value >= bound }
    }

    pub(crate) fn at_most(name: &'static str, value: f64, bound: f64, unit: &'static str) -> Self {
        let value = rounded(value);
        Self { name, value, bound, at: At::Most, unit, holds: value <= bound }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_even_and_no_values() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-12);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-12);
        assert!(median(&[]).abs() < 1e-12);
    }

    #[test]
    fn a_value_is_judged_as_it_is_printed() {
        assert!(Target::at_most("t", 1.100_04, 1.1, "x").holds);
        assert!(!Target::at_most("t", 1.102, 1.1, "x").holds);
        assert!(Target::at_least("t", 15.0, 15.0, "x").holds);
        assert!((rounded(103_456.78) - 103_457.0).abs() < 1e-9);
        assert!((rounded(1.234_56) - 1.235).abs() < 1e-9);
    }
}
