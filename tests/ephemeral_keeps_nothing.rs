//! A runtime that keeps nothing works as one on a disk, touches no file, and is never the runtime of one that does.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::*;
use rowhouse::{Database, Error, ErrorKind, Health, Home, Runtime};

fn ephemeral(home: &Path) -> Runtime {
    Runtime::builder(Home::at(home)).domain(domain()).limits(limits()).ephemeral().open().expect("opened")
}

/// A runtime whose home can be nowhere, another one each time, and its database.
fn nowhere() -> (Runtime, Database) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let home = format!("/proc/nowhere/{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let runtime = ephemeral(home.as_ref());
    let db = runtime.database("test").expect("the domain");
    (runtime, db)
}

#[test]
fn it_says_so_and_creates_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    let runtime = Runtime::builder(Home::at(&home))
        .agent_domains()
        .domain(domain())
        .ephemeral()
        .open()
        .expect("opened");
    assert!(runtime.is_ephemeral());
    for name in runtime.names() {
        let db = runtime.database(&name).expect("it");
        until("attached", || db.health() == Health::Ready);
        assert!(
            db.warnings().iter().any(|warning| warning.contains("in memory only")),
            "{:?}",
            db.warnings()
        );
        let versions = "SELECT count(*) FROM refinery_schema_history";
        assert!(db.read(|at| number(at, versions)).expect("read") >= 1, "{name} is migrated");
        assert!(db.path().to_string_lossy().starts_with("memory:"), "{}", db.path().display());
    }
    let db = runtime.database("test").expect("it");
    db.write(insert("a")).expect("written");
    assert_eq!(keys(&db), ["a"]);
    assert_eq!(open_files(folder.path()), 0);
    drop((db, runtime));
    assert_eq!(std::fs::read_dir(folder.path()).expect("a list").count(), 0);
}

/// Descriptors of this process below a folder.
fn open_files(below: &Path) -> usize {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return 0 };
    open.flatten()
        .filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to.starts_with(below)))
        .count()
}

#[test]
fn it_is_never_the_runtime_of_the_same_home_on_disk() {
    let place = Place::new();
    place.db.write(insert("kept")).expect("written");
    let other = ephemeral(place.folder.path());
    let db = other.database("test").expect("it");
    db.write(insert("not kept")).expect("written");
    assert_eq!(keys(&db), ["not kept"]);
    assert_eq!(keys(&place.db), ["kept"]);
    assert!(!place.runtime.is_ephemeral());
    // A second open of it in this process is the same one, as on a disk.
    assert_eq!(keys(&ephemeral(place.folder.path()).database("test").expect("it")), ["not kept"]);
    drop((db, other));
    assert_eq!(keys(&ephemeral(place.folder.path()).database("test").expect("it")), Vec::<String>::new());
}

#[test]
fn reads_are_snapshots_that_stop_no_writer_and_may_write_inside() {
    let (_runtime, db) = nowhere();
    db.write(insert("a")).expect("written");
    let counts = db
        .read(|at| {
            let before = number(at, "SELECT count(*) FROM t")?;
            db.clone().within(LONG).write(insert("b"))?;
            let inner = db.read(|at| number(at, "SELECT count(*) FROM t"))?;
            Ok((before, inner, number(at, "SELECT count(*) FROM t")?))
        })
        .expect("read");
    assert_eq!(counts, (1, 2, 1));
}

#[test]
fn every_acknowledged_write_is_read_and_nothing_is_lost_under_load() {
    let (_runtime, db) = nowhere();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|_| {
                let db = db.clone();
                scope.spawn(move || {
                    for _ in 0..200 {
                        let mine = db
                            .write(|tx| {
                                count_me(tx)?;
                                tx.execute("INSERT INTO t(v) VALUES (hex(randomblob(500)))", [])?;
                                number(tx, "SELECT n FROM counter WHERE name = 'jobs'")
                            })
                            .expect("written");
                        assert!(counted(&db) >= mine, "its own write is read");
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let both =
                    |at: &rowhouse::Snapshot| Ok((counted_at(at)?, number(at, "SELECT count(*) FROM t")?));
                let (jobs, rows) = db.read(both).expect("read");
                assert_eq!(jobs, rows, "one snapshot");
            }
        });
        for writer in writers {
            writer.join().expect("wrote");
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().expect("read");
    });
    assert_eq!(counted(&db), 1600);
    // A log that is never worked off would grow for as long as the program runs.
    assert!(db.stats().wal_pages < 10_000, "{}", db.stats().wal_pages);
}

fn counted_at(at: &rowhouse::Snapshot) -> rowhouse::Result<i64> {
    number(at, "SELECT n FROM counter WHERE name = 'jobs'")
}

#[test]
fn deadlines_savepoints_tickets_and_changes_work_as_on_a_disk() {
    let (runtime, db) = nowhere();
    let began = Instant::now();
    let short = db.clone().within(Duration::from_millis(50));
    assert_eq!(kind(short.write(|tx| tx.execute(ENDLESS_INSERT, []))), ErrorKind::Timeout);
    assert!(began.elapsed() < LONG);

    let partly = db.write(|tx| {
        let undone = tx.savepoint(|tx| {
            insert("undone")(tx)?;
            Err::<(), _>(Error::job(std::io::Error::other("no")))
        });
        assert_eq!(kind(undone), ErrorKind::Job);
        insert("done")(tx)
    });
    partly.expect("written");
    assert_eq!(keys(&db), ["done"]);

    let seen = db.changes().expect("a number");
    let waits = db.clone();
    let woken = aside(move || waits.wait_for_change(seen, LONG));
    db.submit(insert("queued")).expect("queued").wait().expect("written");
    assert_ne!(soon(&woken).expect("woken"), seen);

    db.reopen().expect("opened again");
    assert_eq!(keys(&db), ["done", "queued"], "it is the same memory");
    assert!(runtime.close(LONG).values().all(|report| report.in_time));
    assert_eq!(kind(db.write(insert("late"))), ErrorKind::Closed);
}
