//! What the page is about: gathered once, all texts cleaned.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use rowhouse::{
    DatabaseStats, ErrorKind, Home, HomeHolders, Inspection, ProcessState, RuntimeDbRegistry, StepState,
    TableSize,
};
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
    pub(super) level: Level,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) database: Option<String>,
    pub(super) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

/// A database, and what could be seen of it.
pub(super) struct Database {
    pub(super) stats: DatabaseStats,
    pub(super) inspection: Option<Inspection>,
    /// Why there are none, when there are none.
    pub(super) tables: std::result::Result<Vec<TableSize>, String>,
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
        let survey = registry.survey()?;
        let mut findings = Findings { all: Vec::new(), cleaner: Cleaner::new() };
        for warning in &survey.warnings {
            findings.add(Level::Warning, None, warning, None);
        }
        let mut databases = Vec::new();
        for stats in registry.stats()? {
            databases.push(look(&registry, stats, per_database, &mut findings));
        }
        if let Ok(holders) = registry.who() {
            findings.of_holders(&holders);
        }
        findings.all.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        let generated_at = jiff::Timestamp::now();
        let mut samples = samples::kept(home);
        samples.push(Sample { at: generated_at, bytes: sizes(&databases) });
        Ok(Self {
            home: findings.cleaner.text(&home.path().display().to_string()),
            generated_at,
            findings: findings.all,
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
    per_database: Duration,
    findings: &mut Findings,
) -> Database {
    let name = stats.info.name.clone();
    if !stats.info.present {
        return Database { stats, inspection: None, tables: Err("there is no file yet".to_owned()) };
    }
    let inspection = match registry.inspect(&name) {
        Ok(inspection) => Some(inspection),
        Err(error) => {
            let level = if error.kind() == ErrorKind::Busy { Level::Warning } else { Level::Fail };
            findings.add(level, Some(&name), &error.to_string(), error.advice());
            None
        }
    };
    let tables = registry.table_sizes(&name, per_database).map_err(|error| match error.kind() {
        ErrorKind::Timeout => {
            format!("there was no time to look at every page in {} s", per_database.as_secs())
        }
        _ => findings.cleaner.text(&error.to_string()),
    });
    for step in registry.steps(&name).unwrap_or_default() {
        if step.state == StepState::Waiting
            && let Some(trouble) = &step.trouble
        {
            let text = format!("the step {} waits: {trouble}", step.name);
            findings.add(Level::Warning, Some(&name), &text, None);
        }
    }
    findings.of_counters(&stats);
    Database { stats, inspection, tables }
}

/// Findings under way.
struct Findings {
    all: Vec<Finding>,
    cleaner: Cleaner,
}

impl Findings {
    fn add(&mut self, level: Level, database: Option<&str>, text: &str, advice: Option<&str>) {
        self.all.push(Finding {
            level,
            database: database.map(str::to_owned),
            text: self.cleaner.text(text),
            advice: advice.map(|advice| self.cleaner.text(advice)),
        });
    }

    fn of_counters(&mut self, database: &DatabaseStats) {
        let name = Some(database.info.name.as_str());
        for process in database.processes.iter().filter(|process| process.latched) {
            let text = format!("process {} takes no more work after a failed write", process.pid);
            self.add(Level::Fail, name, &text, Some("end it, or let it open the database again"));
        }
        let total = &database.total;
        if total.checkpoint_busy_streak >= 5 {
            let text = format!("the log was not worked off {} times in a row", total.checkpoint_busy_streak);
            self.add(Level::Warning, name, &text, Some("`rowhouse who` names whose snapshot keeps it"));
        }
        if total.dropped + total.shed > 0 {
            let text =
                format!("{} jobs were dropped or refused to keep its bounds", total.dropped + total.shed);
            self.add(Level::Warning, name, &text, Some("`rowhouse stats` tells by which process"));
        }
    }

    fn of_holders(&mut self, holders: &HomeHolders) {
        for database in &holders.databases {
            let stopped = database.processes.iter().flatten();
            for user in stopped.filter(|user| user.process.state == ProcessState::Stopped) {
                let text = format!("process {} is stopped, and keeps its locks", user.process.pid);
                let advice = format!("continue it (kill -CONT {}) or end it", user.process.pid);
                self.add(Level::Warning, Some(&database.name), &text, Some(&advice));
            }
            for file in database.deleted.iter().flatten() {
                let text = format!("{} was deleted, and is still open", file.path.display());
                self.add(
                    Level::Warning,
                    Some(&database.name),
                    &text,
                    Some("end the process that has it open"),
                );
            }
        }
    }
}
