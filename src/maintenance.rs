//! Care on demand: space given back beside programs that go on writing, and a full rewrite while nobody does.
//!
//! Invariants:
//! 1. A home is maintained beside whoever uses it; one database in trouble does not keep the others from it.
//! 2. A compaction needs the home alone. The new file takes the old one's place by a rename, when it is whole, checked and
//!    durable: killed at any moment, the old file is as it was, or the new one is there.
//!
//! Tests: `tests/space_comes_back.rs`.

mod compact;
mod maintain;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use compact::compact;
pub(crate) use maintain::maintain;

use crate::backup::LeftOut;
use crate::sqlite::connect::Spec;

/// Which databases are maintained or compacted, and how patiently.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MaintainOptions {
    /// The names of the domains; empty for all of the home.
    pub databases: Vec<String>,
    /// How long the write lock, and a read that keeps the log from being worked off, is waited for each time. Default 10 s.
    pub wait: Duration,
}

impl Default for MaintainOptions {
    fn default() -> Self {
        Self { databases: Vec::new(), wait: Duration::from_secs(10) }
    }
}

impl MaintainOptions {
    /// The default options, for one database.
    pub fn only(name: impl Into<String>) -> Self {
        Self { databases: vec![name.into()], ..Self::default() }
    }
}

/// What is done to a database at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MaintainStep {
    /// Its free pages are given back.
    GivingBack,
    /// It is written anew.
    Rewriting,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct MaintainProgress<'a> {
    /// The domain's name.
    pub database: &'a str,
    /// What happens to it.
    pub step: MaintainStep,
    /// Bytes of this step and database that are done.
    pub bytes_done: u64,
    /// All of them.
    pub bytes_total: u64,
}

/// Told about the progress.
pub(crate) type OnProgress<'a> = dyn FnMut(&MaintainProgress<'_>) + 'a;

/// A database that may be maintained.
pub(crate) struct Candidate {
    pub(crate) spec: Spec,
    /// Why this process must not touch it.
    pub(crate) refusal: Option<crate::error::Error>,
}

/// What maintaining a home did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct MaintainReport {
    /// The home.
    pub home: PathBuf,
    /// The databases, by name.
    pub databases: Vec<MaintainedDatabase>,
    /// Databases in trouble, each with the reason.
    pub left_out: Vec<LeftOut>,
}

/// A database that was maintained.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct MaintainedDatabase {
    /// The domain's name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Size of the file before, and now.
    pub bytes_before: u64,
    /// See `bytes_before`.
    pub bytes: u64,
    /// What was given back.
    pub reclaimed_bytes: u64,
    /// What is free in the file now: others go on, and some files cannot give it back.
    pub free_bytes: u64,
    /// What is left of the write-ahead log, because somebody reads it.
    pub log_bytes: u64,
    /// For how long the write lock was held at most, in microseconds.
    pub longest_hold_us: u64,
    /// The statistics of the query planner are up to date.
    pub optimized: bool,
    /// Sentences for a person.
    pub warnings: Vec<String>,
}

/// What compacting a home did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct CompactReport {
    /// The home.
    pub home: PathBuf,
    /// The databases, by name.
    pub databases: Vec<CompactedDatabase>,
}

/// A database that was compacted.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct CompactedDatabase {
    /// The domain's name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Size of the file before.
    pub bytes_before: u64,
    /// Size of the file now.
    pub bytes: u64,
    /// Rows of all its tables.
    pub rows: u64,
}
