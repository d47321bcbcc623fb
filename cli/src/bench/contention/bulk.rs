//! A million inserts through `submit`, against one transaction of the same size.

use std::time::Duration;

use anyhow::Result;

use super::super::report::{Row, Target, rounded};
use super::super::workloads::bulk::{one_transaction, submit};
use super::super::workloads::subjects::{Kind, connect, open_library};
use super::super::workloads::{Synchronous, verify};
use super::{DOMAIN, Found, Run};

const ROWS: u64 = 1_000_000;
const ROWS_QUICK: u64 = 50_000;
const HALVES: u64 = 2;

pub(super) fn run(run: &Run) -> Result<Found> {
    let rows = if run.setting.quick { ROWS_QUICK } else { ROWS };
    let ours = run.setting.folder(run.name, "rowhouse");
    let theirs = run.setting.folder(run.name, "one_transaction");
    std::fs::create_dir_all(&theirs).map_err(|e| rowhouse::Error::io("create the folder", &theirs, e))?;
    let file = theirs.join("raw.db");
    let library = open_library(&ours, DOMAIN, Synchronous::Full)?;
    let mut connection = connect(&file, Synchronous::Full)?;

    let (mut submitted, mut ceiling) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..HALVES {
        submitted += submit(&library.database, rows / HALVES)?;
        ceiling += one_transaction(&mut connection, rows / HALVES)?;
    }
    drop((library, connection));
    verify(&Kind::Rowhouse.file(&ours, DOMAIN), rows)?;
    verify(&file, rows)?;

    let row = |subject, took: Duration| Row {
        work: run.name,
        subject,
        callers: Some(1),
        processes: Some(1),
        synchronous: Some(Synchronous::Full.as_str()),
        ops_per_s: rounded(rows as f64 / took.as_secs_f64()),
        rounds: HALVES as usize,
        ..Row::default()
    };
    Ok(Found {
        rows: vec![row("rowhouse", submitted), row("one_transaction", ceiling)],
        targets: vec![Target::at_least(
            "bulk_submit",
            ceiling.as_secs_f64() / submitted.as_secs_f64(),
            0.5,
            "x",
        )],
    })
}
