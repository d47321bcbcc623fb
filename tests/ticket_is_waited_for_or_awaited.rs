//! A ticket learns its job's answer by waiting, by looking now and then, or as a future on any executor; dropping it
//! gives up the answer, not the job; cancelling takes the job out of the queue.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::*;
use rowhouse::ErrorKind;

#[test]
fn looking_now_and_then() {
    let place = Place::new();
    let hold = Hold::writer(&place.db);
    let mut ticket = place.db.submit(|tx| insert("a")(tx).map(|()| 7)).expect("queued");
    assert!(ticket.wait_for(Duration::ZERO).is_none());
    assert!(ticket.wait_for(Duration::from_millis(20)).is_none());
    hold.release();
    assert_eq!(ticket.wait_for(LONG).expect("an answer").expect("committed"), 7);
    assert_eq!(kind(ticket.wait_for(Duration::ZERO).expect("an answer")), ErrorKind::Closed, "it was taken");
}

#[test]
fn awaiting_before_and_after_the_answer_is_there() {
    let place = Place::new();
    let hold = Hold::writer(&place.db);
    let ticket = place.db.submit(|tx| insert("a")(tx).map(|()| "early")).expect("queued");
    let failing = place.db.submit(|_| gave_up::<()>()).expect("queued");
    let waiting = aside(move || block_on(ticket));
    hold.release();
    assert_eq!(soon(&waiting).expect("committed"), "early");
    let error = block_on(failing).expect_err("it gave up");
    assert_eq!(error.downcast_ref::<GaveUp>(), Some(&GaveUp));

    let ticket = place.db.submit(|_| Ok("late")).expect("queued");
    place.db.submit(|_| Ok(())).expect("queued").wait().expect("everything before has run");
    assert_eq!(block_on(ticket).expect("committed"), "late");
}

#[test]
fn looking_first_and_awaiting_then() {
    let place = Place::new();
    let hold = Hold::writer(&place.db);
    let mut ticket = place.db.submit(|_| Ok(7)).expect("queued");
    assert!(ticket.wait_for(Duration::from_millis(1)).is_none());
    let waiting = aside(move || block_on(&mut ticket));
    hold.release();
    assert_eq!(soon(&waiting).expect("committed"), 7);
}

#[test]
fn dropping_one_does_not_stop_the_job() {
    let place = Place::new();
    let hold = Hold::writer(&place.db);
    drop(place.db.submit(insert("a")).expect("queued"));
    hold.release();
    place.db.submit(insert("b")).expect("queued").wait().expect("committed");
    assert_eq!(keys(&place.db), ["a", "b"]);
}

#[test]
fn cancelling() {
    let place = Place::new();
    let runs = Arc::new(AtomicU32::new(0));
    let counts = runs.clone();
    let hold = Hold::writer(&place.db);
    let ticket = place
        .db
        .submit(move |tx| {
            counts.fetch_add(1, Ordering::Relaxed);
            insert("a")(tx)
        })
        .expect("queued");
    assert!(ticket.cancel());
    assert!(!ticket.cancel(), "once");
    hold.release();
    assert_eq!(kind(ticket.wait()), ErrorKind::Timeout);
    let ticket = place.db.submit(insert("b")).expect("queued");
    place.db.submit(|_| Ok(())).expect("queued").wait().expect("everything before has run");
    assert!(!ticket.cancel(), "too late");
    ticket.wait().expect("committed");
    assert_eq!(runs.load(Ordering::Relaxed), 0);
    assert_eq!(keys(&place.db), ["b"]);
}
