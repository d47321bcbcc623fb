//! What was acknowledged is on the disk after a power cut, also when a write or fsync failed before it.
//!
//! The disk is a model: it has what was synced ([`faults::power`]).

#![allow(clippy::disallowed_methods, reason = "a test looks at files from outside")]

mod faults;
mod processes;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use faults::power::Disk;
use faults::{Effect, Operation};
use processes::{SCHEMA, file, folder, integrity, plain};
use rowhouse::rusqlite::{self, ffi};
use rowhouse::{Database, Domain, Durability, ErrorKind, Home, Limits, Runtime};

const ROWS: i64 = 40;

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

/// Pages that a checkpoint copied before a failed fsync of the main file are written again before the log is emptied.
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
    assert_ne!(control.as_ref(), Some(&all), "the control kept everything");
    let found = after_the_failure(|database, _| database.reopen().expect("recovered"));
    assert_eq!(found, Some(all));
}

/// The rows on the disk after a failed fsync of the main file, what `then` does about it, and a power cut; `None` when the
/// file cannot be read.
fn after_the_failure(then: impl Fn(&Database, &Path)) -> Option<BTreeSet<i64>> {
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
        insert(&database, 1000).is_err_and(|error| error.kind() == ErrorKind::Latched)
    });
    drop(broken);
    then(&database, &file);
    let elsewhere = folder();
    let cut = disk.after_a_power_cut(elsewhere.path());
    let found = ids(&cut).ok()?;
    (integrity(&cut) == "ok").then_some(found.into_iter().filter(|id| *id < 1000).collect())
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
    assert!(!found.is_some_and(|found| written.is_subset(&found)), "the control kept everything");
    let (written, found) = cut_in_the_recovery(|database, _| {
        assert_eq!(database.reopen().expect_err("the disk still fails").kind(), ErrorKind::Latched);
    });
    // One of unknown outcome may be there as well.
    assert!(found.as_ref().is_some_and(|found| written.is_subset(found)), "{found:?}");
}

fn cut_in_the_recovery(then: impl Fn(&Database, &Path)) -> (BTreeSet<i64>, Option<BTreeSet<i64>>) {
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
    until("the database is shut", || insert(&database, 5000).is_err());
    drop(broken);
    let broken = faults::inject(&[Operation::Sync], &file, Effect::Fail(ffi::SQLITE_IOERR_FSYNC));
    then(&database, &file);
    drop(broken);
    let elsewhere = folder();
    let cut = disk.after_a_power_cut(elsewhere.path());
    let found = ids(&cut).ok().filter(|_| integrity(&cut) == "ok");
    ((0..id).collect(), found.map(|found| found.into_iter().filter(|id| *id < 5000).collect()))
}
