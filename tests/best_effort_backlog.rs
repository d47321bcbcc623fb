//! The backlog of a best-effort database is bounded in jobs and bytes: the oldest submitted ones go, are told so at once
//! and counted; nobody who submits ever waits.

mod common;

use std::time::{Duration, Instant};

use common::*;
use rowhouse::{ErrorKind, Health, Home, Limits, Runtime, Tx};

struct BestEffort {
    db: rowhouse::Database,
    _runtime: Runtime,
    _folder: tempfile::TempDir,
}

fn best_effort(limits: Limits) -> BestEffort {
    let folder = tempfile::tempdir().expect("a folder");
    let domain = domain().best_effort();
    let runtime =
        Runtime::builder(Home::at(folder.path())).domain(domain).limits(limits).open().expect("opened");
    let db = runtime.database("test").expect("the domain");
    until("it is attached", || db.health() == Health::Ready);
    BestEffort { db, _runtime: runtime, _folder: folder }
}

fn three_jobs() -> Limits {
    let mut limits = limits();
    limits.backlog_jobs = 3;
    limits
}

fn number(number: i64) -> impl Fn(&Tx) -> rowhouse::Result<usize> + Send + 'static {
    move |tx| tx.execute("INSERT INTO t(id) VALUES (?1)", [number])
}

fn ids(db: &rowhouse::Database) -> Vec<i64> {
    db.read(|at| at.rows("SELECT id FROM t ORDER BY id", [], |row| row.get(0))).expect("the rows")
}

#[test]
fn an_attached_one_that_is_overrun_drops_the_oldest() {
    let place = best_effort(three_jobs());
    let hold = Hold::writer(&place.db);
    let mut tickets: Vec<_> = (0..5).map(|n| place.db.submit(number(n)).expect("it never waits")).collect();
    for ticket in tickets.drain(..2) {
        let error = ticket.wait().expect_err("dropped");
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        assert!(error.message().contains("dropped from the full backlog"), "{error}");
        assert!(error.advice().is_some() && error.database() == Some("test"), "{error}");
    }
    assert_eq!(place.db.stats().dropped, 2);
    assert!(place.db.stats().dropped_bytes >= 2 * size_of::<i64>() as u64, "a closure counts by itself");
    hold.release();
    for ticket in tickets {
        ticket.wait().expect("kept");
    }
    assert_eq!(ids(&place.db), [2, 3, 4]);
}

#[test]
fn bytes_count_as_told() {
    let mut limits = limits();
    limits.backlog_bytes = 1000;
    let place = best_effort(limits);
    let hold = Hold::writer(&place.db);
    let large = place.db.clone().sized(400);
    let mut tickets: Vec<_> = (0..5).map(|n| large.submit(number(n)).expect("it never waits")).collect();
    assert_eq!((place.db.stats().dropped, place.db.stats().dropped_bytes), (3, 1200));
    hold.release();
    for ticket in tickets.drain(3..) {
        ticket.wait().expect("kept");
    }
    assert_eq!(ids(&place.db), [3, 4]);
}

#[test]
fn a_write_waits_and_is_not_dropped() {
    let place = best_effort(three_jobs());
    let hold = Hold::writer(&place.db);
    let db = place.db.clone();
    let writing = aside(move || db.write(number(100)));
    until("it in the queue", || place.db.stats().queued >= 1);
    let tickets: Vec<_> = (0..9).map(|n| place.db.submit(number(n)).expect("it never waits")).collect();
    let hasty = place.db.clone().within(Duration::from_millis(50)).write(number(101));
    assert_eq!(kind(hasty), ErrorKind::Timeout);
    hold.release();
    soon(&writing).expect("written");
    assert_eq!(tickets.into_iter().filter_map(|ticket| ticket.wait().ok()).count(), 3);
    assert_eq!(ids(&place.db), [6, 7, 8, 100]);
}

#[test]
fn a_submitted_job_waits_without_a_deadline_unless_it_has_one() {
    let mut limits = limits();
    limits.deadline = Duration::from_millis(100);
    let place = best_effort(limits);
    let other = raw(place.db.path());
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let began = Instant::now();
    let mut patient = place.db.submit(number(1)).expect("queued");
    let bounded = place.db.clone().within(Duration::from_millis(200));
    let mut late = bounded.submit(number(2)).expect("queued");
    let waited = bounded.submit(number(3)).expect("queued").wait();
    assert_eq!(kind(waited), ErrorKind::Busy);
    assert_eq!(kind(late.wait_for(LONG).expect("it is told without being asked")), ErrorKind::Busy);
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert!(patient.wait_for(Duration::from_millis(200)).is_none(), "past the default deadline");
    other.execute_batch("ROLLBACK").expect("freed");
    patient.wait().expect("written");
    assert_eq!(ids(&place.db), [1]);
    // Once it runs, the default deadline holds.
    let endless = place.db.submit(|tx| tx.rows(ENDLESS_QUERY, [], |_| Ok(()))).expect("queued");
    assert_eq!(kind(endless.wait()), ErrorKind::Timeout);
}

#[test]
fn a_short_program_leaves_its_rows_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Runtime::builder(Home::at(folder.path())).domain(domain().best_effort()).open();
    let runtime = open().expect("ready");
    let db = runtime.database("test").expect("the domain");
    let tickets: Vec<_> = (0..10).map(|n| db.submit(number(n)).expect("queued")).collect();
    // Most likely it is not attached yet.
    assert_eq!(runtime.close(LONG)["test"].left, 0);
    for ticket in tickets {
        ticket.wait().expect("written");
    }
    let runtime = open().expect("ready");
    assert_eq!(ids(&runtime.database("test").expect("the domain")), (0..10).collect::<Vec<_>>());
}
