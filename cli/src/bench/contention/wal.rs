//! How large the write-ahead log gets while one and several processes never stop writing.

use std::time::Duration;

use anyhow::Result;

use super::super::report::{Row, Target};
use super::super::workloads::Synchronous;
use super::super::workloads::callers::Measured;
use super::super::workloads::subjects::Kind;
use super::processes::together;
use super::{DOMAIN, Found, Run, remove};
use crate::children::Work;

const TIME: Duration = Duration::from_mins(1);
const TIME_QUICK: Duration = Duration::from_secs(10);
/// Callers in all processes together.
const CALLERS: usize = 64;
const BOUND_MIB: f64 = 16.0;

pub(super) fn run(run: &Run) -> Result<Found> {
    let mut found = Found::default();
    let mut largest = 0;
    for processes in [1, 4] {
        let work = Work {
            subject: Kind::Rowhouse,
            folder: run.setting.folder(run.name, &processes.to_string()),
            domain: DOMAIN.to_owned(),
            // The most commits a second, so the most log.
            synchronous: Synchronous::Normal,
            callers: CALLERS / processes,
            time: if run.setting.quick { TIME_QUICK } else { TIME },
        };
        let log = work.folder.join(format!("{DOMAIN}.sqlite-wal"));
        let mut most = 0;
        let parts = together(processes, &work, || {
            // Asked by path: a descriptor of our own on the file would cost its owner the locks.
            most = most.max(std::fs::metadata(&log).map_or(0, |found| found.len()));
            Ok(())
        })?;
        remove(&work.folder)?;
        largest = largest.max(most);
        found.rows.push(Row {
            callers: Some(work.callers),
            processes: Some(processes),
            synchronous: Some(work.synchronous.as_str()),
            wal_max_bytes: Some(most),
            ..Row::of(run.name, work.subject.as_str(), &[Measured::together(&parts)])
        });
    }
    let mib = largest as f64 / f64::from(1 << 20);
    found.targets.push(Target::at_most("wal_bound", mib, BOUND_MIB, "MiB"));
    Ok(found)
}
