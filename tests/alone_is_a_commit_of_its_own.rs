//! A job of an `alone()` handle shares its commit with nobody.

mod common;

use common::*;

#[test]
fn commits_are_counted() {
    let place = Place::new();
    let alone = place.db.clone().alone();
    for (handle, expected) in [(&place.db, 1), (&alone, 10)] {
        let hold = Hold::writer(&place.db);
        let before = place.db.stats().commits;
        let tickets: Vec<_> = (0..10).map(|_| handle.submit(count_me).expect("queued")).collect();
        hold.release();
        for ticket in tickets {
            ticket.wait().expect("committed");
        }
        // One more is the holding job's.
        assert_eq!(place.db.stats().commits - before, expected + 1);
    }
    assert_eq!(counted(&place.db), 20);
}

#[test]
fn in_the_middle_of_others_and_in_order() {
    let place = Place::new();
    let alone = place.db.clone().alone();
    let hold = Hold::writer(&place.db);
    let before = place.db.stats().commits;
    let add = |k: &'static str| {
        move |tx: &rowhouse::Tx| {
            insert(k)(tx)?;
            number(tx, "SELECT count(*) FROM t")
        }
    };
    let tickets = [
        place.db.submit(add("a")).expect("queued"),
        place.db.submit(add("b")).expect("queued"),
        alone.submit(add("c")).expect("queued"),
        place.db.submit(add("d")).expect("queued"),
        place.db.submit(add("e")).expect("queued"),
    ];
    hold.release();
    let seen = tickets.map(|ticket| ticket.wait().expect("committed"));
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    assert_eq!(place.db.stats().commits - before, 3 + 1, "two, one, two, and the holding job");
}

#[test]
fn a_failing_one_is_nobodys_trouble() {
    let place = Place::new();
    let hold = Hold::writer(&place.db);
    let one = place.db.submit(insert("a")).expect("queued");
    let bad = place
        .db
        .clone()
        .alone()
        .submit(|tx| tx.execute("INSERT INTO fussy VALUES ('roll back')", []))
        .expect("queued");
    let two = place.db.submit(insert("b")).expect("queued");
    hold.release();
    one.wait().expect("committed");
    two.wait().expect("committed");
    assert_eq!(kind(bad.wait()), rowhouse::ErrorKind::Constraint);
    assert_eq!(place.db.stats().batches_retried, 0);
    assert_eq!(counted(&place.db), 2);
}
