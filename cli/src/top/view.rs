//! What is shown: the last look, which database is chosen, and how the rates were.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How many looks a sparkline remembers.
const REMEMBERED: usize = 120;

/// One look.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) home: String,
    /// The time of day.
    pub(super) at: String,
    /// That have any of the databases open.
    pub(super) processes: usize,
    pub(super) databases: Vec<Database>,
}

/// A database, now. Rates are of the time since the look before; nothing at the first one.
#[derive(Clone, Debug, Default)]
pub(super) struct Database {
    pub(super) name: String,
    pub(super) queue: u64,
    pub(super) commits_per_s: Option<f64>,
    pub(super) jobs_per_s: Option<f64>,
    pub(super) errors_per_s: Option<f64>,
    /// Nothing when nothing was written.
    pub(super) p99_us: Option<u64>,
    pub(super) lag_pages: u64,
    pub(super) wal_bytes: u64,
    pub(super) bytes: u64,
    /// Who is inside a write transaction.
    pub(super) writer: Option<u32>,
    pub(super) processes: Vec<Process>,
}

/// A process that has a database open.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) program: String,
    pub(super) queue: u64,
    pub(super) commits_per_s: Option<f64>,
    pub(super) p99_us: Option<u64>,
    pub(super) job: Option<String>,
    pub(super) running_ms: Option<u64>,
    pub(super) writes: bool,
    pub(super) latched: bool,
}

#[derive(Default)]
pub(super) struct View {
    pub(super) now: Found,
    /// Which row.
    pub(super) chosen: usize,
    /// The picture stays as it is.
    pub(super) held: bool,
    /// For how long a look has not come back, when that is long.
    pub(super) silent: Option<Duration>,
    /// Commits per second by database, the newest last.
    rates: BTreeMap<String, VecDeque<f64>>,
}

impl View {
    pub(super) fn update(&mut self, found: Found) {
        self.rates.retain(|name, _| found.databases.iter().any(|database| database.name == *name));
        for database in &found.databases {
            let Some(rate) = database.commits_per_s else { continue };
            let rates = self.rates.entry(database.name.clone()).or_default();
            rates.push_back(rate);
            if rates.len() > REMEMBERED {
                rates.pop_front();
            }
        }
        self.now = found;
        self.choose(0);
    }

    /// Goes so many rows down.
    pub(super) fn choose(&mut self, by: isize) {
        let last = self.now.databases.len().saturating_sub(1);
        self.chosen = self.chosen.saturating_add_signed(by).min(last);
    }

    pub(super) fn chosen(&self) -> Option<&Database> {
        self.now.databases.get(self.chosen)
    }

    /// The last rates of a database as bars, as many as there is room for.
    pub(super) fn bars(&self, database: &str, columns: usize) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let Some(rates) = self.rates.get(database) else { return String::new() };
        let shown = rates.iter().skip(rates.len().saturating_sub(columns));
        let highest = shown.clone().fold(0.0_f64, |highest, rate| highest.max(*rate));
        shown
            .map(|rate| {
                if highest <= 0.0 {
                    return BARS[0];
                }
                let height = (rate / highest * 7.0).round();
                BARS[(height as usize).min(7)]
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rates: &[(&str, f64)]) -> Found {
        let database = |(name, rate): &(&str, f64)| Database {
            name: (*name).to_owned(),
            commits_per_s: Some(*rate),
            ..Database::default()
        };
        Found { databases: rates.iter().map(database).collect(), ..Found::default() }
    }

    #[test]
    fn bars_show_the_newest_rates_against_the_highest_shown() {
        let mut view = View::default();
        for rate in [1000.0, 0.0, 50.0, 100.0] {
            view.update(found(&[("state", rate)]));
        }
        assert_eq!(view.bars("state", 3), "▁▅█");
        assert_eq!(view.bars("state", 10), "█▁▁▂");
        assert_eq!(view.bars("nowhere", 10), "");
        (0..500).for_each(|_| view.update(found(&[("state", 0.0)])));
        assert_eq!(view.bars("state", 500).chars().count(), REMEMBERED);
        view.update(found(&[("logs", 1.0)]));
        assert_eq!(view.bars("state", 10), "", "what is gone is forgotten");
    }

    #[test]
    fn what_is_chosen_stays_within_what_is_there() {
        let mut view = View::default();
        view.choose(-1);
        assert!(view.chosen().is_none());
        view.update(found(&[("goals", 0.0), ("logs", 0.0), ("state", 0.0)]));
        view.choose(5);
        assert_eq!(view.chosen().expect("the last").name, "state");
        view.update(found(&[("goals", 0.0)]));
        assert_eq!(view.chosen().expect("the only one").name, "goals");
    }
}
