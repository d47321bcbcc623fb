//! What the processes of a home did with one database, side by side and summed up.

use super::DatabaseInfo;
use crate::sqlite::stats::Stats;
use crate::sqlite::status_page::ProcessStatus;

/// One database, and what every process that has it open did with it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct DatabaseStats {
    /// The database and the sizes of its files.
    #[serde(flatten)]
    pub info: DatabaseInfo,
    /// What the processes below did, summed up.
    pub total: Stats,
    /// The processes that have it open now, by process id.
    pub processes: Vec<ProcessStats>,
}

/// What one process did with a database since it opened it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ProcessStats {
    /// Its process id.
    pub pid: u32,
    /// The program's name.
    pub program: String,
    /// The program's version.
    pub version: String,
    /// True when the database refuses work there until it is reopened.
    pub latched: bool,
    /// What it did.
    pub stats: Stats,
}

pub(super) fn of(info: DatabaseInfo, processes: &[ProcessStatus]) -> DatabaseStats {
    let of_process = |process: &ProcessStatus| {
        let database = process.databases.iter().find(|database| database.name == info.name)?;
        Some(ProcessStats {
            pid: process.pid,
            program: process.program.clone(),
            version: process.version.clone(),
            latched: database.latched,
            stats: database.stats.clone(),
        })
    };
    let processes: Vec<_> = processes.iter().filter_map(of_process).collect();
    let mut total = Stats::default();
    for process in &processes {
        total.merge(&process.stats);
    }
    DatabaseStats { info, total, processes }
}
