//! All rows from one side to the other: looked at first, copied, and read back on both sides.
//!
//! Invariant: what passes here is on the target as it is on the source, row by row, or differs only where the caller agreed to
//! have something replaced, which is counted. For that the source is read twice, to look at it and to copy it, and the target
//! once: what was found, what was sent and what came back have the same sum, table by table.

use std::collections::BTreeMap;
use std::time::Instant;

use super::report::{Lost, MovedTable};
use super::side::{Side, Source, Target};
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
pub(super) struct Told<'a, 'p> {
    progress: &'a mut OnProgress<'p>,
    step: MoveStep,
    what: String,
    rows: u64,
    total: u64,
}

impl<'a, 'p> Told<'a, 'p> {
    /// Begins, and tells of it.
    pub(super) fn new(
        progress: &'a mut OnProgress<'p>,
        step: MoveStep,
        domain: &str,
        table: &Table,
        total: u64,
    ) -> Self {
        let what = format!("{domain}.{}", table.name);
        let mut told = Self { progress, step, what, rows: 0, total };
        told.tell();
        told
    }

    fn tell(&mut self) {
        let Self { step, what, rows, total, .. } = self;
        (self.progress)(&MoveProgress {
            step: *step,
            what,
            rows_done: *rows,
            rows_total: (*total).max(*rows),
        });
    }

    pub(super) fn row(&mut self) {
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
///
/// # Errors
/// `Corrupt`, naming the table, when it is not what is there any more; of both sides.
pub(super) fn copy(
    source: &mut dyn Source,
    target: &mut dyn Target,
    tables: &Tables,
    found: &mut Found,
    progress: &mut OnProgress<'_>,
) -> Result<()> {
    for (domain, tables) in tables {
        target.prepare(domain.name(), tables)?;
    }
    for (((domain, table), moved), before) in every(tables).zip(&mut found.tables).zip(&found.sums) {
        let began = Instant::now();
        let mut told = Told::new(progress, MoveStep::Copying, domain, table, moved.rows);
        let mut sent = Sum::default();
        target.fill(domain, table, &mut |put| {
            source.read(domain, table, &mut |cells, _| {
                put(cells)?;
                sent.add(cells);
                told.row();
                Ok(())
            })
        })?;
        told.tell();
        if sent != *before {
            return Err(differs(domain, table, before, &sent, "there when it was copied"));
        }
        let seconds = began.elapsed().as_secs_f64();
        moved.rows_per_second = (moved.rows > 0).then_some((moved.rows as f64 / seconds.max(1e-6)) as u64);
    }
    for (domain, tables) in tables {
        target.settle(domain.name(), tables)?;
    }
    Ok(())
}

/// Reads the target, and compares it with what was found, and sent.
///
/// # Errors
/// `Corrupt`, naming the table, when they differ.
pub(super) fn verify(
    target: &mut dyn Side,
    tables: &Tables,
    found: &Found,
    progress: &mut OnProgress<'_>,
) -> Result<()> {
    for ((domain, table), before) in every(tables).zip(&found.sums) {
        let there = sum(target, domain, table, MoveStep::Verifying, before.rows, progress, &mut |_, _| {})?;
        if there != *before {
            return Err(differs(domain, table, before, &there, "on the other side"));
        }
    }
    Ok(())
}

fn differs(domain: &str, table: &Table, found: &Sum, other: &Sum, place: &str) -> Error {
    let message = format!(
        "what was copied of {domain}.{} is not what was found: {} rows at first, {} {place}",
        table.name, found.rows, other.rows
    );
    Error::new(ErrorKind::Corrupt, message)
        .advise("nothing was changed; look at the disks, at triggers of your own, and report this")
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
    let mut told = Told::new(progress, step, domain, table, total);
    let known = side.look(domain, table, &mut |cells, found| {
        sum.add(cells);
        for (at, why) in found {
            odd(*at, *why);
        }
        told.row();
        Ok(())
    })?;
    told.rows += known.rows;
    told.tell();
    Ok(sum.and(known))
}
