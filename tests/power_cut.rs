//! What was acknowledged is on the disk after a power cut, also when a write or fsync failed before it.
//!
//! The disk is a model: it has what was synced ([`faults::power`]).

#![allow(clippy::disallowed_methods, reason = "a test looks at files from outside")]

mod faults;
mod processes;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use faults::power::{Cuts, Disk};
use faults::{Effect, Operation};
use processes::{SCHEMA, file, folder, integrity, plain};
use rowhouse::rusqlite::{self, ffi};
use rowhouse::{Database, Domain, Durability, ErrorKind, Home, Limits, Runtime};

const ROWS: i64 = 40;
/// Rows from this one on were not acknowledged: they may be there or not.
const UNKNOWN: i64 = 100_000;

fn open(home: &Path, durability: Durability) -> Runtime {
    let mut limits = Limits::default();
    limits.wal_soft = 1 << 20;
    Runtime::builder(Home::at(home))
        .domain(Domain::new("work").migrations(SCHEMA).durability(durability))
        .limits(limits)
        .open()
        .expect("the home opens")
}

/// More than a page a row.
fn insert(database: &Database, id: i64) -> rowhouse::Result<()> {
    let body = format!("{id:04}").repeat(1200);
    database.write(move |tx| {
        tx.execute("INSERT INTO item(id, job, part, body) VALUES (?1, 0, 0, ?2)", (id, &body)).map(drop)
    })
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_mins(1), "{what}");
        std::thread::yield_now();
    }
}

fn ids(file: &Path) -> rusqlite::Result<BTreeSet<i64>> {
    let connection = plain(file);
    let mut rows = connection.prepare("SELECT id FROM item")?;
    rows.query_map([], |row| row.get(0))?.collect()
}

/// Pages that a checkpoint copied before a failed fsync of the main file are copied again before the log is emptied.
///
/// Scale: 80 rows of 5 kB; a snapshot in the middle keeps half of the log from being worked off, so that what was copied of
/// it was not synced; then one fsync of the main file fails.
///
/// Control: `PRAGMA wal_checkpoint(TRUNCATE)` after the same failure is told that all is well, and the disk lacks rows.
#[test]
fn pages_copied_before_a_failed_fsync_are_on_the_disk_after_the_recovery() {
    let control = after_the_failure(|_, file| {
        let (busy, _, _): (i64, i64, i64) = plain(file)
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .expect("SQLite is content");
        assert_eq!(busy, 0);
    });
    let all: BTreeSet<_> = (0..2 * ROWS).collect();
    // Where the disk has learned that the log was cut.
    assert_ne!(control.at_once[Cuts::AtOnce as usize].as_ref(), Some(&all), "the control kept everything");
    let found = after_the_failure(|database, _| database.reopen().expect("recovered"));
    assert_eq!(found.at_once, [Some(all.clone()), Some(all.clone())]);
    assert_eq!(found.left_in_log, 0, "closing worked it off");
    assert_eq!(found.closed, [Some(all.clone()), Some(all)]);
}

/// The rows on either disk after a power cut; `None` when the file cannot be read.
fn rows_after_a_power_cut(disk: &Disk) -> [Option<BTreeSet<i64>>; 2] {
    Cuts::ALL.map(|cuts| {
        let elsewhere = folder();
        let cut = disk.after_a_power_cut(elsewhere.path(), cuts);
        let found = ids(&cut).ok()?;
        (integrity(&cut) == "ok").then(|| found.into_iter().filter(|id| *id < UNKNOWN).collect())
    })
}

/// The rows after a power cut.
struct Found {
    at_once: [Option<BTreeSet<i64>>; 2],
    /// When the database was closed before it.
    closed: [Option<BTreeSet<i64>>; 2],
    /// Bytes that closing left in the log.
    left_in_log: u64,
}

/// After a failed fsync of the main file, what `then` does about it, and a power cut.
fn after_the_failure(then: impl Fn(&Database, &Path)) -> Found {
    let home = folder();
    drop(open(home.path(), Durability::Full));
    let file = file(&home.path().canonicalize().expect("a home"));
    let disk = Disk::of(&file);
    let runtime = open(home.path(), Durability::Full);
    let database = runtime.database("work").expect("the domain");
    for id in 0..ROWS {
        insert(&database, id).expect("acknowledged");
    }
    // Who reads needs what follows in the log, so what is copied is not synced.
    let reader = plain(&file);
    reader.execute_batch("BEGIN; SELECT count(*) FROM item").expect("a snapshot");
    for id in ROWS..2 * ROWS {
        insert(&database, id).expect("acknowledged");
    }
    until("the checkpoint gets as far as the snapshot", || {
        let stats = database.stats();
        stats.checkpoint_lag > 0 && stats.wal_pages > stats.checkpoint_lag
    });
    let broken = faults::inject(&[Operation::Sync], &file, Effect::Fail(ffi::SQLITE_IOERR_FSYNC));
    reader.execute_batch("COMMIT").expect("it ends");
    drop(reader);
    until("the next checkpoint meets it", || broken.hits() > 0);
    until("the database is shut", || {
        insert(&database, UNKNOWN).is_err_and(|error| error.kind() == ErrorKind::Latched)
    });
    drop(broken);
    // What the log's index says of copied pages stays as it is for as long as somebody has it open.
    let beside = plain(&file);
    beside.query_row("SELECT count(*) FROM item", [], |_| Ok(())).expect("read");
    then(&database, &file);
    let at_once = rows_after_a_power_cut(&disk);
    drop(beside);
    drop((database, runtime));
    let left_in_log = std::fs::metadata(file.with_extension("sqlite-wal")).expect("a log").len();
    Found { at_once, closed: rows_after_a_power_cut(&disk), left_in_log }
}

/// A log whose fsync failed is written again before any page of it goes into the main file: a recovery that the power cuts
/// off leaves a log that can be recovered.
///
/// Scale: a log of 1 MiB at NORMAL, whose first fsync fails; the fsync of the main file fails as well, so the recovery ends
/// there.
///
/// Control: a checkpoint of SQLite's own instead of the recovery leaves a log that begins with a gap.
#[test]
fn a_log_whose_fsync_failed_is_on_the_disk_before_it_is_copied() {
    let (written, found) = cut_in_the_recovery(|_, file| {
        let checkpoint = |row: &rusqlite::Row| row.get::<_, i64>(0);
        plain(file)
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], checkpoint)
            .expect_err("it is broken off");
    });
    let whole = |found: &Option<BTreeSet<_>>| found.as_ref().is_some_and(|found| written.is_subset(found));
    assert!(!found.iter().any(whole), "the control kept everything");
    let (written, found) = cut_in_the_recovery(|database, _| {
        assert_eq!(database.reopen().expect_err("the disk still fails").kind(), ErrorKind::Latched);
    });
    let whole = |found: &Option<BTreeSet<_>>| found.as_ref().is_some_and(|found| written.is_subset(found));
    assert!(found.iter().all(whole), "{found:?}");
}

fn cut_in_the_recovery(then: impl Fn(&Database, &Path)) -> (BTreeSet<i64>, [Option<BTreeSet<i64>>; 2]) {
    let home = folder();
    drop(open(home.path(), Durability::Normal));
    let file = file(&home.path().canonicalize().expect("a home"));
    let disk = Disk::of(&file);
    let runtime = open(home.path(), Durability::Normal);
    let database = runtime.database("work").expect("the domain");
    // It begins the log, with an fsync of its own.
    insert(&database, 0).expect("acknowledged");
    let log = file.with_extension("sqlite-wal");
    let broken = faults::inject(&[Operation::Sync], &log, Effect::Fail(ffi::SQLITE_IOERR_FSYNC));
    let mut id = 1;
    until("a checkpoint meets it", || {
        id += i64::from(insert(&database, id).is_ok());
        broken.hits() > 0
    });
    until("the database is shut", || insert(&database, UNKNOWN).is_err());
    drop(broken);
    let broken = faults::inject(&[Operation::Sync], &file, Effect::Fail(ffi::SQLITE_IOERR_FSYNC));
    then(&database, &file);
    drop(broken);
    ((0..id).collect(), rows_after_a_power_cut(&disk))
}

/// A snapshot that somebody keeps is in no recovery's way, and the log is written once more for it, not at each try: the log
/// stays as long as it is, whole on the disk, and the next checkpoint copies all of it.
///
/// Scale: three failed fsyncs, each with a log of up to 150 pages, below a snapshot that stays open.
///
/// Control: `PRAGMA wal_checkpoint(TRUNCATE)`, which would empty the log, is busy for as long as the snapshot is there.
#[test]
fn a_pinned_log_is_recovered_at_once_and_written_once_more() {
    let home = folder();
    drop(open(home.path(), Durability::Full));
    let file = file(&home.path().canonicalize().expect("a home"));
    let log = file.with_extension("sqlite-wal");
    let disk = Disk::of(&file);
    let runtime = open(home.path(), Durability::Full);
    let database = runtime.database("work").expect("the domain");
    let mut id = 0;
    let mut write = |database: &Database, rows: i64| {
        for _ in 0..rows {
            insert(database, id).expect("acknowledged");
            id += 1;
        }
    };
    write(&database, 5);
    let reader = plain(&file);
    let seen =
        || reader.query_row("SELECT count(*) FROM item", [], |row| row.get::<_, i64>(0)).expect("rows");
    reader.execute_batch("BEGIN").expect("begun");
    assert_eq!(seen(), 5);
    for round in 1..=3 {
        write(&database, 20);
        let broken = faults::inject(&[Operation::Sync], &log, Effect::Fail(ffi::SQLITE_IOERR_FSYNC));
        let error = insert(&database, UNKNOWN + round).expect_err("the disk fails");
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        drop(broken);
        let control = plain(&file);
        control.busy_handler(None).expect("no waiting");
        let busy: i64 = control
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .expect("SQLite is content");
        assert_eq!(busy, 1, "the control");
        drop(control);
        let pages = std::fs::metadata(&log).expect("a log").len() / 4120;
        let writes = faults::observe(&[Operation::Write], &log);
        database.reopen().expect("recovered, below the snapshot");
        let writes = u64::try_from(writes.hits()).expect("a count");
        assert!(writes > 0 && writes <= pages + 1, "{writes} writes for {pages} pages");
        assert_eq!(seen(), 5, "its snapshot");
    }
    write(&database, 1);
    let all: BTreeSet<_> = (0..66).collect();
    assert_eq!(rows_after_a_power_cut(&disk), [Some(all.clone()), Some(all)]);
}

/// Who closes last empties the log when all of it is on the disk in the main file; it does no harm when the disk does not learn
/// of that, nor when it is written on then.
///
/// Scale: 40 rows, then 5 more in a log over the old one.
///
/// Control: a checkpoint that syncs nothing (`synchronous=OFF`) loses rows on the disk that learns of it at once.
#[test]
fn a_log_that_closing_emptied_may_come_back() {
    let home = folder();
    drop(open(home.path(), Durability::Full));
    let file = file(&home.path().canonicalize().expect("a home"));
    let disk = Disk::of(&file);
    let both = |rows: i64| [(); 2].map(|()| Some((0..rows).collect::<BTreeSet<_>>()));
    let write = |rows: std::ops::Range<i64>| {
        let runtime = open(home.path(), Durability::Full);
        let database = runtime.database("work").expect("the domain");
        let end = rows.end;
        rows.for_each(|id| insert(&database, id).expect("acknowledged"));
        assert_eq!(rows_after_a_power_cut(&disk), both(end), "while it is open");
    };
    write(0..ROWS);
    let log = file.with_extension("sqlite-wal");
    assert_eq!(std::fs::metadata(&log).expect("a log").len(), 0, "it was emptied");
    assert_eq!(rows_after_a_power_cut(&disk), both(ROWS));
    write(ROWS..ROWS + 5);
    assert_eq!(rows_after_a_power_cut(&disk), both(ROWS + 5));
    drop(disk);

    let disk = Disk::of(&file);
    let connection = plain(&file);
    connection
        .execute_batch(
            "PRAGMA synchronous=OFF; INSERT INTO item(id, job, part) VALUES (45, 0, 0);
             PRAGMA wal_checkpoint(TRUNCATE)",
        )
        .expect("SQLite is content");
    let [at_once, _] = rows_after_a_power_cut(&disk);
    assert_ne!(at_once, both(ROWS + 6)[0], "the control kept everything");
}
