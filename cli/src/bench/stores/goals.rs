//! Use added to one goal, by callers of one process and of two.

use std::path::Path;

use anyhow::Result;

use super::super::report::{Document, Row};
use super::super::workloads::Synchronous;
use super::super::workloads::callers::Measured;
use super::super::workloads::goals;
use super::Setting;
use crate::children;

pub(super) fn run(
    setting: &Setting,
    work: &'static str,
    home: &Path,
    (processes, callers): (usize, usize),
    document: &mut Document,
) -> Result<()> {
    goals::set(home)?;
    let mut rounds = Vec::new();
    for _ in 0..setting.rounds {
        rounds.push(if processes == 1 {
            goals::account_for(&goals::open(home)?, callers, setting.seconds)?
        } else {
            Measured::together(&children::account(processes, home, callers, setting.seconds)?)
        });
    }
    goals::verify(home, rounds.iter().map(|round| round.ops).sum())?;
    document.rows.push(Row {
        callers: Some(callers),
        processes: Some(processes),
        synchronous: Some(Synchronous::Full.as_str()),
        ..Row::of(work, "rowhouse", &rounds)
    });
    Ok(())
}
