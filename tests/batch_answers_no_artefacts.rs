//! A job that failed only because of a neighbour that was rolled back is run again and succeeds.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::*;
use rowhouse::ErrorKind;

/// Inserts a key and then ends the whole transaction.
fn insert_and_roll_back(tx: &rowhouse::Tx) -> rowhouse::Result<()> {
    insert("contested")(tx)?;
    tx.execute("INSERT INTO fussy VALUES ('roll back')", [])?;
    Ok(())
}

#[test]
fn a_conflict_with_a_row_that_never_came_to_be() {
    let place = Place::new();
    for wary in [false, true] {
        let hold = Hold::writer(&place.db);
        let runs = Arc::new(AtomicU32::new(0));
        let counts = runs.clone();
        // It fails, but its row is there for the next one to see until it is rolled back.
        let first = place.db.submit(insert_and_roll_back).expect("queued");
        let second = place
            .db
            .submit(move |tx| {
                counts.fetch_add(1, Ordering::Relaxed);
                insert("contested")(tx)
            })
            .expect("queued");
        hold.release();
        assert_eq!(kind(first.wait()), ErrorKind::Constraint);
        second.wait().expect("nobody has that key");
        assert!(runs.load(Ordering::Relaxed) >= 1);
        assert_eq!(keys(&place.db), ["contested"], "wary: {wary}");
        place.db.write(|tx| tx.execute("DELETE FROM t", [])).expect("deleted");
    }
    assert_eq!(counted(&place.db), 2);
}

#[test]
fn an_error_answered_before_the_batch_was_lost_is_not_kept() {
    let place = Place::new();
    // The second round finds a wary writer, where the third job is what ends the attempt.
    for _wary in [false, true] {
        let runs = Arc::new(AtomicU32::new(0));
        let counts = runs.clone();
        let hold = Hold::writer(&place.db);
        // Inserts the key in its first run only; so the second job conflicts in the first attempt and not later.
        let first_runs = AtomicU32::new(0);
        let first = place
            .db
            .submit(move |tx| {
                if first_runs.fetch_add(1, Ordering::Relaxed) == 0 {
                    insert("contested")(tx)?;
                }
                Ok(())
            })
            .expect("queued");
        let second = place
            .db
            .submit(move |tx| {
                counts.fetch_add(1, Ordering::Relaxed);
                insert("contested")(tx)
            })
            .expect("queued");
        let third =
            place.db.submit(|tx| tx.execute("INSERT INTO fussy VALUES ('roll back')", [])).expect("queued");
        hold.release();
        first.wait().expect("the first");
        second.wait().expect("its conflict was an artefact");
        assert_eq!(kind(third.wait()), ErrorKind::Constraint);
        assert!(runs.load(Ordering::Relaxed) >= 2, "it was run again");
        assert_eq!(keys(&place.db), ["contested"]);
        place.db.write(|tx| tx.execute("DELETE FROM t", [])).expect("deleted");
    }
    assert_eq!(counted(&place.db), 2);
}

#[test]
fn an_error_of_its_own_stays() {
    let place = Place::new();
    let hold = Hold::writer(&place.db);
    let first = place.db.submit(insert("contested")).expect("queued");
    let second = place.db.submit(insert("contested")).expect("queued");
    let third = place.db.submit(insert_and_roll_back).expect("queued");
    hold.release();
    first.wait().expect("the first");
    assert_eq!(kind(second.wait()), ErrorKind::Constraint);
    assert_eq!(kind(third.wait()), ErrorKind::Constraint);
    assert_eq!(counted(&place.db), 1);
}
