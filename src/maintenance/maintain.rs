//! Maintains the databases of a home, one after the other.

use std::time::Duration;

use super::{
    Candidate, MaintainOptions, MaintainProgress, MaintainReport, MaintainStep, MaintainedDatabase,
    OnProgress,
};
use crate::backup::LeftOut;
use crate::error::{Error, Result};
use crate::home::PreparedHome;
use crate::sqlite::maintain::{self, Done};

/// # Errors
/// As [`Runtime::maintain`](crate::Runtime::maintain).
pub(crate) fn maintain(
    home: &PreparedHome,
    candidates: Vec<Candidate>,
    options: &MaintainOptions,
    progress: &mut OnProgress<'_>,
) -> Result<MaintainReport> {
    let mut report =
        MaintainReport { home: home.path().to_owned(), databases: Vec::new(), left_out: Vec::new() };
    let mut first = None;
    for candidate in candidates {
        let name = candidate.spec.domain.name().to_owned();
        match one(candidate, options.wait, progress) {
            Ok(maintained) => report.databases.push(maintained),
            Err(error) => {
                report.left_out.push(LeftOut { name, reason: error.to_string() });
                first.get_or_insert(error);
            }
        }
    }
    match first {
        Some(error) if report.databases.is_empty() => Err(error),
        _ => Ok(report),
    }
}

fn one(
    Candidate { spec, refusal }: Candidate,
    wait: Duration,
    progress: &mut OnProgress<'_>,
) -> Result<MaintainedDatabase> {
    refusal.map_or(Ok(()), Err::<(), Error>)?;
    let name = spec.domain.name();
    // Asked by name: closing a descriptor of a database drops the process's locks on it.
    let length = || std::fs::symlink_metadata(&spec.path).map_or(0, |found| found.len());
    let bytes_before = length();
    let done = maintain::maintain(&spec, wait, &mut |bytes_done, bytes_total| {
        let step = MaintainStep::GivingBack;
        progress(&MaintainProgress { database: name, step, bytes_done, bytes_total });
    })?;
    let Done { page_size, freed, longest, .. } = done;
    Ok(MaintainedDatabase {
        name: name.to_owned(),
        path: spec.path.clone(),
        bytes_before,
        bytes: length(),
        reclaimed_bytes: freed * page_size,
        free_bytes: done.after.free * page_size,
        log_bytes: done.log_left * page_size,
        longest_hold_us: u64::try_from(longest.as_micros()).unwrap_or(u64::MAX),
        optimized: done.optimized,
        warnings: warnings(name, &done),
    })
}

fn warnings(name: &str, done: &Done) -> Vec<String> {
    let mut warnings = Vec::new();
    if !done.can_be_freed && done.after.free > 0 {
        warnings.push(format!(
            "it was made without auto_vacuum, so its free pages cannot be given back one by one: stop its programs and \
             run `rowhouse compact {name}`"
        ));
    }
    if done.log_left > 0 {
        warnings.push(
            "somebody reads what is in the write-ahead log, so the file gets shorter later: `rowhouse who` tells who has it \
             open"
                .to_owned(),
        );
    }
    warnings
}
