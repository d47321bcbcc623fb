//! Waiting for a change ends with the next commit, of this process or another one, or when its time is up.

mod common;

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use common::*;

#[test]
fn a_commit_of_this_process_wakes_every_waiter() {
    let place = Place::new();
    place.db.write(insert("a")).expect("a row");
    let seen = place.db.changes().expect("a number");
    let (ready, is_ready) = channel();
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let (db, ready) = (place.db.clone(), ready.clone());
            aside(move || {
                let _ = ready.send(());
                db.wait_for_change(seen, LONG).map(|number| (number, Instant::now()))
            })
        })
        .collect();
    for _ in &waiters {
        soon(&is_ready);
    }
    place.db.write(insert("b")).expect("a row");
    let committed = Instant::now();
    for waiter in waiters {
        let (number, woken) = soon(&waiter).expect("a change");
        assert!(number > seen);
        assert!(woken.saturating_duration_since(committed) < Duration::from_secs(2));
    }
}

#[test]
fn a_commit_before_the_wait_is_not_missed() {
    let place = Place::new();
    for k in ["a", "b", "c", "d"] {
        let seen = place.db.changes().expect("a number");
        place.db.write(insert(k)).expect("a row");
        assert!(place.db.wait_for_change(seen, LONG).expect("a change") > seen);
    }
}

#[test]
fn a_commit_of_another_connection_wakes_too() {
    let place = Place::new();
    let seen = place.db.changes().expect("a number");
    let db = place.db.clone();
    let waiter = aside(move || db.wait_for_change(seen, LONG));
    assert!(waiter.recv_timeout(Duration::from_millis(50)).is_err());
    raw(&place.file()).execute("INSERT INTO t(k) VALUES ('a')", []).expect("a row");
    assert!(soon(&waiter).expect("a change") > seen);
}

#[test]
fn without_one_the_time_is_up_and_the_number_stays() {
    let place = Place::new();
    place.db.write(insert("a")).expect("a row");
    let seen = place.db.changes().expect("a number");
    let started = Instant::now();
    assert_eq!(place.db.wait_for_change(seen, Duration::from_millis(60)).expect("no change"), seen);
    assert!(started.elapsed() >= Duration::from_millis(60));
    assert_eq!(place.db.wait_for_change(seen, Duration::ZERO).expect("no change"), seen);
    // A read and a failed write are no changes.
    keys(&place.db);
    let _ = place.db.write(|_| gave_up::<()>());
    assert_eq!(place.db.changes().expect("a number"), seen);
}
