//! A full queue answers `Full` with a time to come back, after the caller's deadline; what was accepted is done, and
//! background work still gets its eighth.

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use rowhouse::{Database, ErrorKind, Ticket};

fn small_queue() -> Place {
    let mut limits = limits();
    limits.queue_jobs = 3;
    Place::with(limits)
}

#[test]
fn after_the_deadline_it_is_full() {
    let place = small_queue();
    let hold = Hold::writer(&place.db);
    let accepted = ["a", "b", "c"].map(|k| place.db.submit(insert(k)).expect("room"));
    let impatient = place.db.clone().within(Duration::from_millis(50));
    let started = Instant::now();
    for answer in [impatient.submit(insert("d")).map(drop), impatient.write(insert("e"))] {
        let error = answer.expect_err("no room");
        assert_eq!(error.kind(), ErrorKind::Full);
        assert!(error.retry_after().is_some() && error.advice().is_some() && error.is_transient(), "{error}");
        assert_eq!(error.database(), Some("test"));
    }
    assert!(started.elapsed() >= Duration::from_millis(100), "it waits for room until the deadline");
    // The other lane has room of its own.
    let background = place.db.clone().background().submit(insert("f")).expect("room");
    hold.release();
    for ticket in accepted {
        ticket.wait().expect("accepted is done");
    }
    background.wait().expect("accepted is done");
    assert_eq!(keys(&place.db), ["a", "b", "c", "f"]);
    assert_eq!(counted(&place.db), 4);
}

#[test]
fn who_waits_for_room_gets_it() {
    let place = small_queue();
    let hold = Hold::writer(&place.db);
    let accepted = ["a", "b", "c"].map(|k| place.db.submit(insert(k)).expect("room"));
    let db = place.db.clone();
    let waiting = aside(move || db.write(insert("d")));
    assert!(waiting.recv_timeout(Duration::from_millis(50)).is_err(), "no room yet");
    hold.release();
    soon(&waiting).expect("room came");
    for ticket in accepted {
        ticket.wait().expect("accepted is done");
    }
    assert_eq!(counted(&place.db), 4);
}

#[test]
fn background_work_gets_one_place_in_eight() {
    let place = Place::new();
    let order = Arc::new(Mutex::new(String::new()));
    let submit = |db: &Database, letter: char| -> Ticket<()> {
        let order = order.clone();
        db.submit(move |_| {
            order.lock().expect("not poisoned").push(letter);
            Ok(())
        })
        .expect("room")
    };
    let background = place.db.clone().background();
    let hold = Hold::writer(&place.db);
    let mut tickets: Vec<_> = (0..4).map(|_| submit(&background, 'b')).collect();
    tickets.extend((0..40).map(|_| submit(&place.db, 'n')));
    hold.release();
    for ticket in tickets {
        ticket.wait().expect("done");
    }
    let order = order.lock().expect("not poisoned").clone();
    let places: Vec<_> = order.match_indices('b').map(|(at, _)| at).collect();
    assert_eq!(places.len(), 4);
    assert!(places.windows(2).all(|pair| pair[1] - pair[0] == 8), "{order}");
    assert!(places[0] < 8, "{order}");
}

#[test]
fn an_idle_writer_takes_background_work_at_once() {
    let place = Place::new();
    place.db.clone().background().write(insert("a")).expect("written");
    assert_eq!(keys(&place.db), ["a"]);
}
