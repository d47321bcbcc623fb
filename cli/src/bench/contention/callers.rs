//! Callers of one process.

use std::time::Duration;

use anyhow::Result;

use super::super::report::{Row, Target, median_of, p50_us, ratio, worst_us};
use super::super::workloads::Synchronous;
use super::super::workloads::callers::{Measured, insert_for};
use super::super::workloads::subjects::{Kind, Subject};
use super::{DOMAIN, Found, Run, Series, interleave, verify};

/// A lone caller's calls are compared by their medians, so subjects change places quickly: whatever else the disk
/// has to do meets neighbouring turns alike.
const TURN_OF_ONE: Duration = Duration::from_millis(25);

pub(super) fn run(run: &Run, callers: usize, synchronous: Synchronous) -> Result<Found> {
    let mut kinds = vec![Kind::Rowhouse, Kind::Pool, Kind::Mutex];
    if callers == 1 {
        kinds.push(Kind::Raw);
    }
    let subjects: Vec<Subject> = kinds
        .iter()
        .map(|kind| kind.open(&run.setting.folder(run.name, kind.as_str()), DOMAIN, synchronous))
        .collect::<rowhouse::Result<_>>()?;

    let mut acknowledged = vec![0; kinds.len()];
    for (index, subject) in subjects.iter().enumerate() {
        acknowledged[index] += insert_for(subject, callers, run.setting.warm_up())?.ops;
    }
    let turns = if callers == 1 { turns_within(run.setting.seconds) } else { 1 };
    let time = run.setting.seconds / turns;
    let mut series: Vec<_> = kinds.iter().copied().map(Series::new).collect();
    interleave(run.setting.rounds * turns, &mut series, |index, _, _| {
        let measured = insert_for(&subjects[index], callers, time)?;
        acknowledged[index] += measured.ops;
        Ok(measured)
    })?;

    drop(subjects);
    for (kind, acknowledged) in kinds.iter().zip(acknowledged) {
        verify(&kind.file(&run.setting.folder(run.name, kind.as_str()), DOMAIN), acknowledged)?;
    }
    let rows = series.iter().map(|one| Row {
        callers: Some(callers),
        processes: Some(1),
        synchronous: Some(synchronous.as_str()),
        ..Row::of(run.name, one.kind.as_str(), &one.rounds_of(turns as usize))
    });
    Ok(Found { rows: rows.collect(), targets: targets(run.name, &series) })
}

fn turns_within(round: Duration) -> u32 {
    (round.as_millis() / TURN_OF_ONE.as_millis()).max(1) as u32
}

fn targets(work: &str, series: &[Series]) -> Vec<Target> {
    let rounds = |kind| series.iter().find(|one| one.kind == kind).map_or(&[][..], |one| &one.rounds);
    let (ours, pool, raw) = (rounds(Kind::Rowhouse), rounds(Kind::Pool), rounds(Kind::Raw));
    match work {
        "callers_64_full" => vec![
            Target::at_least("callers_64_full", ratio(ours, pool, Measured::ops_per_s), 15.0, "x"),
            // Our worst wait of all rounds against the pool's worst of a usual round: the harder comparison.
            Target::at_most(
                "callers_64_full_wait",
                worst_us(ours) / median_of(pool, |round| round.latency.max_us()),
                0.05,
                "x",
            ),
        ],
        "callers_64_normal" => {
            vec![Target::at_least("callers_64_normal", ratio(ours, pool, Measured::ops_per_s), 2.0, "x")]
        }
        "callers_1_full" => vec![Target::at_most("callers_1_full", ratio(ours, raw, p50_us), 1.1, "x")],
        "callers_1_normal" => vec![Target::at_most("callers_1_normal", ratio(ours, raw, p50_us), 1.4, "x")],
        _ => Vec::new(),
    }
}
