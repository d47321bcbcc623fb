//! Sizes over time: what earlier reports kept, and what backups say.
//!
//! Invariants: the file has a bounded number of lines, and is replaced whole; a line that is not understood is left out;
//! only a report writes it, so a home that nobody reports on has none.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use rowhouse::{BackupManifest, Error, Home};
use serde::{Deserialize, Serialize};

use super::facts::Facts;
use crate::named_file::Overwrite;

/// In the home.
const FILE: &str = "sizes.jsonl";
/// Of about a hundred bytes each.
const MOST: usize = 500;
const LEAST_APART: SignedDuration = SignedDuration::from_mins(10);

/// How large the databases were at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sample {
    pub(super) at: Timestamp,
    /// Of the main file, by database.
    pub(super) bytes: BTreeMap<String, u64>,
}

/// All that is known of earlier, the oldest first.
pub(super) fn kept(home: &Home) -> Vec<Sample> {
    let mut all = of_reports(home.path());
    all.extend(of_backups(home.path()));
    all.sort_by_key(|sample| sample.at);
    // A clock that went back must not draw lines from right to left.
    let now = Timestamp::now();
    all.retain(|sample| sample.at <= now);
    all
}

/// Adds what is so now, unless that was just done.
///
/// # Errors
/// `ReadOnly`, `Full`, `Io` of the system.
pub(super) fn keep(home: &Home, facts: &Facts) -> Result<()> {
    let sizes = facts.sizes();
    if sizes.is_empty() {
        return Ok(());
    }
    let mut all = of_reports(home.path());
    if all.last().is_some_and(|last| {
        facts.generated_at >= last.at && facts.generated_at.duration_since(last.at) < LEAST_APART
    }) {
        return Ok(());
    }
    all.push(Sample { at: facts.generated_at, bytes: sizes });
    let path = home.path().join(FILE);
    let first = all.len().saturating_sub(MOST);
    Overwrite::OWN.write(&path, |to| {
        for sample in &all[first..] {
            let line = serde_json::to_string(sample)?;
            writeln!(to, "{line}").map_err(|error| Error::io("keep the sizes", &path, error))?;
        }
        Ok(())
    })
}

fn of_reports(home: &Path) -> Vec<Sample> {
    let text = read(&home.join(FILE)).unwrap_or_default();
    text.lines()
        .rev()
        .take(MOST)
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect()
}

/// A backup has the size of each database as it was.
fn of_backups(home: &Path) -> impl Iterator<Item = Sample> {
    let folders = std::fs::read_dir(home.join("backups")).into_iter().flatten().flatten();
    folders.take(MOST).filter_map(|folder| {
        let manifest: BackupManifest =
            serde_json::from_str(&read(&folder.path().join("manifest.json"))?).ok()?;
        let bytes =
            manifest.databases.iter().map(|database| (database.name.clone(), database.bytes)).collect();
        Some(Sample { at: manifest.created_at.parse().ok()?, bytes })
    })
}

fn read(path: &Path) -> Option<String> {
    /// More than any of these has.
    const LONGEST: u64 = 16 << 20;
    let found = std::fs::symlink_metadata(path).ok()?;
    if !found.is_file() || found.len() > LONGEST {
        return None;
    }
    #[expect(clippy::disallowed_methods, reason = "a list of sizes and a manifest are no databases")]
    std::fs::read_to_string(path).ok()
}
