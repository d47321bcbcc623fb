//! Closing works off what is queued up to its deadline, answers the rest `Closed` and reports it; closing twice, or
//! by dropping everything under load, is fine.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::*;
use rowhouse::{ErrorKind, Health, Home, Runtime};

#[test]
fn what_is_queued_is_done() {
    let place = Place::new();
    let hold = Hold::writer(&place.db);
    let queued: Vec<_> = (0..20).map(|_| place.db.submit(count_me).expect("queued")).collect();
    let alone = place.db.clone().alone();
    let more: Vec<_> = (0..20).map(|_| alone.submit(count_me).expect("queued")).collect();
    let db = place.db.clone();
    let closing = aside(move || db.close(LONG));
    until("the end of new work", || place.db.submit(|_| Ok(())).is_err());
    hold.release();
    let report = soon(&closing);
    assert_eq!((report.left, report.in_time), (0, true));
    for ticket in queued.into_iter().chain(more) {
        ticket.wait().expect("it was accepted");
    }
    assert_eq!(reopened(place), 40);
}

#[test]
fn what_does_not_fit_before_the_deadline_is_answered_closed() {
    let place = Place::new();
    let hold = Hold::writer(&place.db);
    let alone = place.db.clone().alone();
    let queued: Vec<_> = (0..5).map(|_| alone.submit(count_me).expect("queued")).collect();
    let waiting = {
        let db = place.db.clone();
        aside(move || db.write(count_me))
    };
    until("it in the queue", || place.db.stats().queued >= 6);
    let db = place.db.clone();
    let closing = aside(move || db.close(Duration::from_millis(20)));
    // A job that runs is never left alone: closing waits for it beyond its deadline.
    assert!(closing.recv_timeout(Duration::from_millis(100)).is_err());
    hold.release();
    let report = soon(&closing);
    assert_eq!((report.left, report.in_time), (6, false));
    for ticket in queued {
        let error = ticket.wait().expect_err("not done");
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(error.to_string().contains("nothing was done"), "{error}");
    }
    assert_eq!(kind(soon(&waiting)), ErrorKind::Closed);
    assert_eq!(reopened(place), 0);
}

/// Opens the home again; answers the counter.
fn reopened(place: Place) -> i64 {
    let Place { db, runtime, folder } = place;
    drop((db, runtime));
    let runtime = Runtime::builder(Home::at(folder.path())).domain(domain()).open().expect("opened again");
    counted(&runtime.database("test").expect("the domain"))
}

#[test]
fn a_write_lock_of_somebody_else_does_not_hold_it_up() {
    let place = Place::new();
    let other = raw(&place.file());
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let ticket = place.db.submit(count_me).expect("queued");
    let report = place.db.close(Duration::from_millis(50));
    assert_eq!(report.left, 1, "it was never run");
    assert!(matches!(kind(ticket.wait()), ErrorKind::Busy | ErrorKind::Closed));
    drop(other);
    assert_eq!(reopened(place), 0);
}

#[test]
fn twice_and_after() {
    let place = Place::new();
    place.db.write(insert("a")).expect("a row");
    let seen = place.db.changes().expect("a number");
    assert!(place.db.close(LONG).in_time);
    assert!(place.db.close(LONG).in_time);
    assert!(place.runtime.close(LONG)["test"].in_time);
    assert_eq!(place.db.health(), Health::Closed);
    assert_eq!(place.runtime.health(), Health::Closed);
    let db = &place.db;
    let refused = [
        kind(db.write(insert("b"))),
        kind(db.submit(insert("b")).map(drop)),
        kind(db.clone().background().submit(insert("b")).map(drop)),
        kind(db.read(|at| number(at, "SELECT 1"))),
        kind(db.changes()),
        kind(db.wait_for_change(seen, LONG)),
        kind(db.reopen()),
    ];
    assert_eq!(refused, [ErrorKind::Closed; 7]);
    let error = db.write(insert("b")).expect_err("closed");
    assert_eq!(
        (error.database(), error.path()),
        (Some("test"), Some(place.file().canonicalize().expect("it").as_path()))
    );
    assert_eq!(
        open_files(place.folder.path()).len(),
        usize::from(status_page_in_home(&place)),
        "nothing is open"
    );
}

/// The runtime's status page stays as long as the runtime, and may lie in the home.
fn status_page_in_home(place: &Place) -> bool {
    open_files(place.folder.path()).iter().any(|path| path.extension().is_some_and(|ending| ending == "page"))
}

#[test]
fn twice_at_once_loses_no_queued_work() {
    let place = Place::new();
    let hold = Hold::writer(&place.db);
    let queued: Vec<_> =
        (0..10).map(|_| place.db.clone().alone().submit(count_me).expect("queued")).collect();
    let closing = [place.db.clone(), place.db.clone()].map(|db| aside(move || db.close(LONG)));
    until("the end of new work", || place.db.submit(|_| Ok(())).is_err());
    // Neither may tear down what the other is still working off.
    assert!(closing.iter().all(|closing| closing.recv_timeout(Duration::from_millis(50)).is_err()));
    hold.release();
    for closing in &closing {
        assert_eq!((soon(closing).left, place.db.health()), (0, Health::Closed));
    }
    for ticket in queued {
        ticket.wait().expect("it was accepted");
    }
}

#[test]
fn who_waits_for_a_change_learns_of_it() {
    let place = Place::new();
    let seen = place.db.changes().expect("a number");
    let db = place.db.clone();
    let waiting = aside(move || db.wait_for_change(seen, 3 * LONG));
    assert!(waiting.recv_timeout(Duration::from_millis(50)).is_err());
    place.db.close(LONG);
    assert_eq!(kind(soon(&waiting)), ErrorKind::Closed);
}

#[test]
fn a_read_under_way_ends_in_peace() {
    let place = Place::new();
    place.db.write(insert("a")).expect("a row");
    let db = place.db.clone();
    let rows = place.db.read(|at| {
        let before = number(at, "SELECT count(*) FROM t")?;
        db.close(LONG);
        Ok((before, number(at, "SELECT count(*) FROM t")?))
    });
    assert_eq!(rows.expect("the snapshot stays"), (1, 1));
}

#[test]
fn dropping_everything_under_load_does_not_hang() {
    let place = Place::new();
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..6)
        .map(|n| {
            let (db, stop) = (place.db.clone(), stop.clone());
            aside(move || {
                let mut done = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    match n % 3 {
                        0 => drop(db.write(count_me)),
                        1 => drop(db.submit(count_me)),
                        _ => drop(db.read(|at| number(at, "SELECT n FROM counter"))),
                    }
                    done += 1;
                }
                done
            })
        })
        .collect();
    let_pass(Duration::from_millis(100));
    let Place { db, runtime, folder } = place;
    drop((db, runtime));
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        assert!(soon(&thread) > 0);
    }
    until("the last descriptor", || open_files(folder.path()).is_empty());
}

#[test]
fn closing_under_load_answers_everybody() {
    let place = Place::new();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let db = place.db.clone();
            aside(move || {
                let mut done = 0;
                loop {
                    match db.write(count_me) {
                        Ok(()) => done += 1,
                        Err(error) => return (done, error.kind()),
                    }
                }
            })
        })
        .collect();
    let_pass(Duration::from_millis(100));
    assert!(place.runtime.close(LONG)["test"].in_time);
    let mut acknowledged = 0;
    for thread in threads {
        let (done, end) = soon(&thread);
        assert_eq!(end, ErrorKind::Closed);
        acknowledged += done;
    }
    assert_eq!(reopened(place), acknowledged, "what was acknowledged is there, and nothing else");
}
