//! Savepoints nest, and undo their own part and nothing else.

mod common;

use common::*;
use rowhouse::{ErrorKind, Result, Tx};

fn nested(tx: &Tx) -> Result<()> {
    insert("a")(tx)?;
    let failed = tx.savepoint(|tx| {
        insert("b")(tx)?;
        tx.savepoint(insert("c"))?;
        gave_up::<()>()
    });
    assert_eq!(kind(failed), ErrorKind::Job);
    tx.savepoint(|tx| {
        insert("d")(tx)?;
        let failed = tx.savepoint(|tx| {
            insert("e")(tx)?;
            tx.execute("INSERT INTO t(k) VALUES ('a')", []).map(drop)
        });
        assert_eq!(kind(failed), ErrorKind::Constraint);
        tx.savepoint(insert("f"))
    })?;
    insert("g")(tx)
}

#[test]
fn nesting() {
    let place = Place::new();
    place.db.write(nested).expect("on the caller's thread");
    assert_eq!(keys(&place.db), ["a", "d", "f", "g"]);
    assert_eq!(counted(&place.db), 4);
}

#[test]
fn nesting_within_a_batch_that_uses_savepoints_itself() {
    let place = Place::new();
    let hold = Hold::writer(&place.db);
    let bad = place.db.submit(|_| gave_up::<()>()).expect("queued");
    let good = place.db.submit(nested).expect("queued");
    let twice = place.db.submit(nested).expect("queued");
    hold.release();
    assert_eq!(kind(bad.wait()), ErrorKind::Job);
    good.wait().expect("the first");
    assert_eq!(kind(twice.wait()), ErrorKind::Constraint);
    assert_eq!(keys(&place.db), ["a", "d", "f", "g"]);
    assert_eq!(counted(&place.db), 4);
}

#[test]
fn a_panic_caught_by_the_job_undoes_the_savepoint_it_left() {
    let place = Place::new();
    place
        .db
        .write(|tx| {
            insert("a")(tx)?;
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                tx.savepoint(|tx| -> Result<()> {
                    insert("b")(tx)?;
                    panic!("caught")
                })
            }));
            assert!(caught.is_err());
            insert("c")(tx)
        })
        .expect("committed");
    assert_eq!(keys(&place.db), ["a", "c"]);
}

#[test]
fn the_end_of_the_whole_transaction_inside_one_is_reported() {
    let place = Place::new();
    place.db.write(insert("taken")).expect("a row");
    let ignoring = |tx: &Tx| {
        insert("a")(tx)?;
        let answer = tx.savepoint(|tx| {
            let _ = tx.execute("INSERT OR ROLLBACK INTO t(k) VALUES ('taken')", []);
            Ok(())
        });
        assert_eq!(kind(answer), ErrorKind::Constraint);
        Ok(())
    };
    assert_eq!(kind(place.db.write(ignoring)), ErrorKind::Constraint);
    assert_eq!(kind(place.db.submit(ignoring).expect("queued").wait()), ErrorKind::Constraint);
    assert_eq!(keys(&place.db), ["taken"]);
}
