//! What the page is about: gathered once, all texts cleaned.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use rowhouse::doctor::{self, Check, Detail, Status};
use rowhouse::{DatabaseStats, ErrorKind, Home, Inspection, RuntimeDbRegistry, TableSize};
use serde::Serialize;

use super::samples::{self, Sample};
use crate::clean::Cleaner;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    Warning,
    Fail,
}

/// Something to know, and what to do about it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    /// The doctor's check.
    id: String,
    pub(super) level: Level,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) database: Option<String>,
    pub(super) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

impl Finding {
    /// A row of the doctor that somebody should look at. It was cleaned when it was made.
    fn of(check: Check) -> Option<Self> {
        let level = match check.status {
            Status::Fail => Level::Fail,
            Status::Warning => Level::Warning,
            Status::Ok | Status::Skipped => return None,
        };
        let (id, database) = (check.id, check.database);
        Some(Self { id, level, database, text: check.summary, advice: check.remediation })
    }
}

/// A database, and what could be seen of it.
pub(super) struct Database {
    pub(super) stats: DatabaseStats,
    pub(super) inspection: Option<Inspection>,
    /// Why there are none, when there are none.
    pub(super) tables: std::result::Result<Vec<TableSize>, String>,
    /// What the doctor found in its log, or why it could not look.
    pub(super) log: std::result::Result<Log, String>,
}

impl Database {
    /// How many of its pages are so many bytes.
    pub(super) fn pages(&self, bytes: u64) -> Option<u64> {
        bytes.checked_div(u64::try_from(self.inspection.as_ref()?.page_size).ok()?)
    }
}

/// A write-ahead log. The size of its file is no measure of what waits in it: it begins anew without getting shorter.
#[derive(Clone, Copy)]
pub(super) struct Log {
    /// Not in the main file yet.
    pub(super) left_bytes: u64,
    pub(super) file_bytes: u64,
}

impl Log {
    fn of(check: &Check) -> std::result::Result<Self, String> {
        let number = |wanted| {
            check.details.iter().find_map(|(name, value)| match value {
                Detail::Number(number) if *name == wanted => Some(*number),
                _ => None,
            })
        };
        match (number("left_bytes"), number("file_bytes")) {
            (Some(left_bytes), Some(file_bytes)) => Ok(Self { left_bytes, file_bytes }),
            _ => Err(check.summary.clone()),
        }
    }
}

pub(super) struct Facts {
    pub(super) home: String,
    pub(super) generated_at: jiff::Timestamp,
    /// The most important first.
    pub(super) findings: Vec<Finding>,
    pub(super) databases: Vec<Database>,
    /// Sizes over time, the oldest first, those of now last.
    pub(super) samples: Vec<Sample>,
}

impl Facts {
    /// Looks at everything; at the tables of each database for at most this long.
    ///
    /// # Errors
    /// Those of listing the home. What is wrong inside is a finding.
    pub(super) fn gather(home: &Home, per_database: Duration) -> Result<Self> {
        let registry = RuntimeDbRegistry::new(home);
        let cleaner = Cleaner::new();
        let stats = registry.stats()?;
        let examined = doctor::run(home, &doctor::Options::default())?;
        let log = |name: &str| {
            let id = format!("{name}.log");
            let check = examined.checks.iter().find(|check| check.id == id);
            check.map_or_else(|| Err("the doctor did not look at it".to_owned()), Log::of)
        };
        let looked = |stats: DatabaseStats| {
            let log = log(&stats.info.name);
            look(&registry, stats, log, per_database, &cleaner)
        };
        let databases: Vec<_> = stats.into_iter().map(looked).collect();
        let mut findings: Vec<_> = examined.checks.into_iter().filter_map(Finding::of).collect();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        let generated_at = jiff::Timestamp::now();
        let mut samples = samples::kept(home);
        samples.push(Sample { at: generated_at, bytes: sizes(&databases) });
        Ok(Self {
            home: cleaner.text(&home.path().display().to_string()),
            generated_at,
            findings,
            databases,
            samples,
        })
    }

    /// The worst of all findings.
    pub(super) fn status(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    /// What the files take now, by database.
    pub(super) fn sizes(&self) -> BTreeMap<String, u64> {
        sizes(&self.databases)
    }
}

fn sizes(databases: &[Database]) -> BTreeMap<String, u64> {
    let present = databases.iter().map(|database| &database.stats.info).filter(|info| info.present);
    present.map(|info| (info.name.clone(), info.main_bytes)).collect()
}

fn look(
    registry: &RuntimeDbRegistry,
    stats: DatabaseStats,
    log: std::result::Result<Log, String>,
    per_database: Duration,
    cleaner: &Cleaner,
) -> Database {
    let name = &stats.info.name;
    if let Some(place) = stats.info.server.clone() {
        let why = format!("it is on {}, in the schema {}", place.server, place.schema);
        return Database { stats, inspection: None, tables: Err(why), log };
    }
    if !stats.info.present {
        return Database { stats, inspection: None, tables: Err("there is no file yet".to_owned()), log };
    }
    // What is in the way of a look is a finding of the doctor.
    let inspection = registry.inspect(name).ok();
    let tables = registry.table_sizes(name, per_database).map_err(|error| match error.kind() {
        ErrorKind::Timeout => {
            format!("there was no time to look at every page in {} s", per_database.as_secs())
        }
        _ => cleaner.text(&error.to_string()),
    });
    Database { stats, inspection, tables, log }
}
