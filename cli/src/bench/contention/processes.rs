//! Processes that share one database.

use anyhow::Result;

use super::super::report::{Row, Target, median_of, ratio, worst_us};
use super::super::workloads::Synchronous;
use super::super::workloads::callers::Measured;
use super::super::workloads::subjects::Kind;
use super::{DOMAIN, Found, Run, Series, interleave, remove, verify};
use crate::children::{self, Work};

pub(super) fn run(run: &Run, processes: usize, callers: usize) -> Result<Found> {
    let mut series = vec![Series::new(Kind::Rowhouse), Series::new(Kind::Pool)];
    interleave(run.setting.rounds, &mut series, |_, kind, round| {
        let work = Work {
            subject: kind,
            folder: run.setting.folder(run.name, &format!("{}-{round}", kind.as_str())),
            domain: DOMAIN.to_owned(),
            synchronous: Synchronous::Full,
            callers,
            time: run.setting.seconds,
        };
        let parts = together(processes, &work, || Ok(()))?;
        remove(&work.folder)?;
        Ok(Measured::together(&parts))
    })?;
    let rows = series.iter().map(|one| Row {
        callers: Some(callers),
        processes: Some(processes),
        synchronous: Some(Synchronous::Full.as_str()),
        ..Row::of(run.name, one.kind.as_str(), &one.rounds)
    });
    Ok(Found { rows: rows.collect(), targets: targets(run.name, &series[0].rounds, &series[1].rounds) })
}

/// Creates the database, runs the work in child processes, and counts the rows.
pub(super) fn together(
    processes: usize,
    work: &Work,
    look: impl FnMut() -> Result<()>,
) -> Result<Vec<Measured>> {
    drop(work.subject.open(&work.folder, &work.domain, work.synchronous)?);
    let parts = children::insert(processes, work, look)?;
    verify(&work.subject.file(&work.folder, &work.domain), parts.iter().map(|part| part.ops).sum())?;
    Ok(parts)
}

fn targets(work: &str, ours: &[Measured], pool: &[Measured]) -> Vec<Target> {
    let worst_ms = worst_us(ours) / 1e3;
    match work {
        "processes_8x8_full" => vec![
            Target::at_least("processes_8x8_full", ratio(ours, pool, Measured::ops_per_s), 5.0, "x"),
            Target::at_most("processes_8x8_full_wait", worst_ms, 100.0, "ms"),
        ],
        "processes_32x1_full" => vec![
            Target::at_least("processes_32_share", median_of(ours, Measured::share), 0.8, "x"),
            Target::at_most("processes_32_wait", worst_ms, 250.0, "ms"),
        ],
        _ => Vec::new(),
    }
}
