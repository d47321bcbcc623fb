//! All rows from one side to the other: looked at first, copied, and read back on both sides.
//!
//! Invariant: what passes here is on the target as it is on the source, row by row, or differs only where the caller agreed to
//! have something replaced, which is counted.

use std::collections::BTreeMap;
use std::time::Instant;

use super::report::{Lost, MovedTable};
use super::side::Side;
use super::sum::Sum;
use super::table::Table;
use super::{MoveProgress, MoveStep, OnProgress};
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};

/// How often progress is told.
const ROWS_OF_A_PROGRESS: u64 = 4_096;

/// The tables of the domains that are moved.
pub(super) type Tables = Vec<(Domain, Vec<Table>)>;

/// What a source holds.
pub(super) struct Found {
    pub(super) tables: Vec<MovedTable>,
    pub(super) lost: Vec<Lost>,
    sums: Vec<Sum>,
}

fn every(tables: &Tables) -> impl Iterator<Item = (&str, &Table)> {
    tables.iter().flat_map(|(domain, tables)| tables.iter().map(|table| (domain.name(), table)))
}

/// Tells of every so many rows, and of the last one.
struct Told<'a, 'p> {
    progress: &'a mut OnProgress<'p>,
    step: MoveStep,
    what: String,
    rows: u64,
    total: u64,
}

impl Told<'_, '_> {
    fn tell(&mut self) {
        let Self { step, what, rows, total, .. } = self;
        (self.progress)(&MoveProgress {
            step: *step,
            what,
            rows_done: *rows,
            rows_total: (*total).max(*rows),
        });
    }

    fn row(&mut self) {
        self.rows += 1;
        if self.rows.is_multiple_of(ROWS_OF_A_PROGRESS) {
            self.tell();
        }
    }
}

/// Reads everything: how much it is, and what the other side cannot hold.
pub(super) fn look(source: &mut dyn Side, tables: &Tables, progress: &mut OnProgress<'_>) -> Result<Found> {
    let mut found = Found { tables: Vec::new(), lost: Vec::new(), sums: Vec::new() };
    for (domain, table) in every(tables) {
        let mut odd = BTreeMap::new();
        let sum = sum(source, domain, table, MoveStep::Planning, 0, progress, &mut |at, why| {
            *odd.entry((at, why)).or_default() += 1;
        })?;
        found.lost.extend(odd.into_iter().map(|((at, why), values)| Lost {
            domain: domain.to_owned(),
            table: table.name.clone(),
            key: table.key.iter().cloned().collect(),
            column: table.columns[at].name.clone(),
            why,
            values,
        }));
        found.tables.push(MovedTable {
            domain: domain.to_owned(),
            table: table.name.clone(),
            rows: sum.rows,
            bytes: sum.bytes,
            hash: sum.hash(),
            rows_per_second: None,
        });
        found.sums.push(sum);
    }
    Ok(found)
}

/// Copies what was found.
pub(super) fn copy(
    source: &mut dyn Side,
    target: &mut dyn Side,
    tables: &Tables,
    found: &mut Found,
    progress: &mut OnProgress<'_>,
) -> Result<()> {
    for ((domain, table), moved) in every(tables).zip(&mut found.tables) {
        let began = Instant::now();
        let what = format!("{domain}.{}", table.name);
        let mut told = Told { progress, step: MoveStep::Copying, what, rows: 0, total: moved.rows };
        told.tell();
        target.fill(domain, table, &mut |put| {
            source.read(domain, table, &mut |cells, _| {
                put(cells)?;
                told.row();
                Ok(())
            })
        })?;
        told.tell();
        let seconds = began.elapsed().as_secs_f64();
        moved.rows_per_second = (moved.rows > 0).then_some((moved.rows as f64 / seconds.max(1e-6)) as u64);
    }
    for (domain, tables) in tables {
        target.settle(domain.name(), tables)?;
    }
    Ok(())
}

/// Reads both sides again, and compares them with what was found.
///
/// # Errors
/// `Corrupt`, naming the table, when they differ.
pub(super) fn verify(
    source: &mut dyn Side,
    target: &mut dyn Side,
    tables: &Tables,
    found: &Found,
    progress: &mut OnProgress<'_>,
) -> Result<()> {
    for ((domain, table), before) in every(tables).zip(&found.sums) {
        let here = sum(source, domain, table, MoveStep::Verifying, before.rows, progress, &mut |_, _| {})?;
        let there = sum(target, domain, table, MoveStep::Verifying, before.rows, progress, &mut |_, _| {})?;
        if here != *before || there != *before {
            let message = format!(
                "what was copied of {domain}.{} is not what is there: {} rows on the one side, {} on the other",
                table.name, here.rows, there.rows
            );
            return Err(Error::new(ErrorKind::Corrupt, message)
                .advise("nothing was changed; look at the disks, at triggers of your own, and report this"));
        }
    }
    Ok(())
}

fn sum(
    side: &mut dyn Side,
    domain: &str,
    table: &Table,
    step: MoveStep,
    total: u64,
    progress: &mut OnProgress<'_>,
    odd: &mut dyn FnMut(usize, super::Unholdable),
) -> Result<Sum> {
    let mut sum = Sum::default();
    let mut told = Told { progress, step, what: format!("{domain}.{}", table.name), rows: 0, total };
    told.tell();
    side.read(domain, table, &mut |cells, found| {
        sum.add(cells);
        for (at, why) in found {
            odd(*at, *why);
        }
        told.row();
        Ok(())
    })?;
    told.tell();
    Ok(sum)
}
