//! Reads of one row: beside a bare statement, and beside busy writers.

use anyhow::Result;

use super::super::report::{Row, Target, median, p50_us, ratio};
use super::super::workloads::callers::{Measured, insert_for};
use super::super::workloads::reads::{ROWS, alternate, fill, read_for};
use super::super::workloads::subjects::{Kind, Subject, connect, open_library};
use super::super::workloads::{Synchronous, verify};
use super::{DOMAIN, Found, Run};

const WRITERS: usize = 64;

pub(super) fn point(run: &Run) -> Result<Found> {
    let home = run.setting.folder(run.name, "rowhouse");
    let library = open_library(&home, DOMAIN, Synchronous::Full)?;
    let file = run.setting.folder.join(run.name).join("raw.db");
    let mut connection = connect(&file, Synchronous::Full)?;
    fill(&library.database, Some(&mut connection))?;
    alternate(&library.database, &connection, run.setting.warm_up())?;

    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..run.setting.rounds {
        let seen = alternate(&library.database, &connection, run.setting.seconds)?;
        ours.push(of_one(seen.library, seen.reads_each, seen.library_seconds));
        raw.push(of_one(seen.connection, seen.reads_each, seen.connection_seconds));
    }
    let row = |subject, rounds| Row {
        callers: Some(1),
        processes: Some(1),
        slowest_over_fastest: None,
        ..Row::of(run.name, subject, rounds)
    };
    Ok(Found {
        rows: vec![row("rowhouse", &ours), row("raw", &raw)],
        targets: vec![Target::at_most("read_point", ratio(&ours, &raw, p50_us), 1.4, "x")],
    })
}

pub(super) fn under_write(run: &Run) -> Result<Found> {
    let home = run.setting.folder(run.name, "rowhouse");
    let subject = Kind::Rowhouse.open(&home, DOMAIN, Synchronous::Full)?;
    let Subject::Rowhouse(library) = &subject else { anyhow::bail!("the library was asked for") };
    fill(&library.database, None)?;
    read_for(&library.database, run.setting.warm_up())?;
    let mut acknowledged = ROWS + insert_for(&subject, WRITERS, run.setting.warm_up())?.ops;

    let half = run.setting.seconds / 2;
    let (mut alone, mut beside, mut writers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..run.setting.rounds {
        let (latency, reads, seconds) = read_for(&library.database, half)?;
        alone.push(of_one(latency, reads, seconds));
        let (written, read) = std::thread::scope(|scope| {
            let writing = scope.spawn(|| insert_for(&subject, WRITERS, half));
            let read = read_for(&library.database, half);
            (writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), read)
        });
        let (latency, reads, seconds) = read?;
        beside.push(of_one(latency, reads, seconds));
        writers.push(written?);
    }
    acknowledged += writers.iter().map(|round| round.ops).sum::<u64>();
    drop(subject);
    verify(&Kind::Rowhouse.file(&home, DOMAIN), acknowledged)?;

    let reader = |subject, rounds| Row {
        callers: Some(1),
        processes: Some(1),
        slowest_over_fastest: None,
        ..Row::of(run.name, subject, rounds)
    };
    let p99: Vec<_> = beside.iter().map(|round| round.latency.quantile_us(0.99)).collect();
    Ok(Found {
        rows: vec![
            reader("reads_alone", &alone),
            reader("reads_beside_writers", &beside),
            Row {
                callers: Some(WRITERS),
                processes: Some(1),
                synchronous: Some(Synchronous::Full.as_str()),
                ..Row::of(run.name, "writers", &writers)
            },
        ],
        targets: vec![
            Target::at_most("read_under_write", ratio(&beside, &alone, p50_us), 1.5, "x"),
            Target::at_most("read_under_write_p99", median(&p99), 200.0, "us"),
        ],
    })
}

fn of_one(latency: super::super::workloads::histogram::Histogram, ops: u64, seconds: f64) -> Measured {
    Measured { ops, seconds, latency, slowest: ops, fastest: ops }
}
