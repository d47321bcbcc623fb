//! A job that panics is answered `Panicked`, its neighbours are committed, and the writer lives on.

mod common;

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::*;
use rowhouse::ErrorKind;

#[test]
fn the_neighbours_are_committed_and_the_panic_is_answered() {
    let place = Place::new();
    // The second round finds a wary writer, which uses savepoints from the start.
    for (round, names) in [["a", "b", "c"], ["d", "e", "f"]].into_iter().enumerate() {
        let runs = Arc::new(AtomicU32::new(0));
        let counts = runs.clone();
        let hold = Hold::writer(&place.db);
        let before = place.db.submit(insert(names[0])).expect("queued");
        let panics = place
            .db
            .submit(move |tx| -> rowhouse::Result<()> {
                counts.fetch_add(1, Ordering::Relaxed);
                insert(names[1])(tx)?;
                panic!("secret text")
            })
            .expect("queued");
        let after = place.db.submit(insert(names[2])).expect("queued");
        hold.release();
        before.wait().expect("a neighbour");
        after.wait().expect("a neighbour");
        let error = panics.wait().expect_err("the panic");
        assert_eq!(error.kind(), ErrorKind::Panicked);
        assert!(!error.to_string().contains("secret") && !format!("{error:?}").contains("secret"), "{error}");
        assert_eq!(error.source().expect("a source").to_string(), "secret text");
        assert_eq!(error.database(), Some("test"));
        assert_eq!(runs.load(Ordering::Relaxed), 1, "a panicked job is not run again");
        assert_eq!(keys(&place.db).len(), 2 * (round + 1));
    }
    assert_eq!(keys(&place.db), ["a", "c", "d", "f"]);
    assert_eq!(counted(&place.db), 4);
    place.db.write(insert("later")).expect("the writer lives");
}

#[test]
fn a_panic_inside_a_savepoint_takes_the_whole_job_with_it() {
    let place = Place::new();
    for round in 0..2 {
        let hold = Hold::writer(&place.db);
        let fails = place.db.submit(|_| gave_up::<()>()).expect("queued");
        let panics = place
            .db
            .submit(|tx| {
                insert("before the savepoint")(tx)?;
                tx.savepoint(|tx| -> rowhouse::Result<()> {
                    insert("in the savepoint")(tx)?;
                    panic!("in a savepoint")
                })
            })
            .expect("queued");
        let name = if round == 0 { "one" } else { "two" };
        let after = place.db.submit(insert(name)).expect("queued");
        hold.release();
        assert_eq!(kind(fails.wait()), ErrorKind::Job);
        assert_eq!(kind(panics.wait()), ErrorKind::Panicked);
        after.wait().expect("a neighbour");
    }
    assert_eq!(keys(&place.db), ["one", "two"]);
    assert_eq!(counted(&place.db), 2);
}

#[test]
fn a_panic_on_the_callers_own_thread_is_answered_too() {
    let place = Place::new();
    let error = place
        .db
        .write(|tx| -> rowhouse::Result<()> {
            insert("a")(tx)?;
            panic!("{} text", "secret")
        })
        .expect_err("the panic");
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert_eq!(error.source().expect("a source").to_string(), "secret text");
    place.db.write(insert("b")).expect("the database works");
    assert_eq!(keys(&place.db), ["b"]);
}

#[test]
fn a_capture_whose_drop_panics_does_no_harm() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "a drop that panics");
        }
    }
    let place = Place::new();
    let bomb = Bomb;
    let ticket = place
        .db
        .submit(move |tx| {
            let _ = &bomb;
            insert("a")(tx)
        })
        .expect("queued");
    ticket.wait().expect("committed");
    place.db.submit(insert("b")).expect("queued").wait().expect("the writer lives");
}

#[test]
fn control_without_the_engine_the_neighbours_are_lost() {
    let (_folder, mut plain) = plain();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let together = plain.transaction().expect("begun");
        together.execute("INSERT INTO t(k) VALUES ('a')", []).expect("a neighbour");
        panic!("a job");
    }));
    panicked.expect_err("it panicked");
    let left: i64 = plain.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("a count");
    assert_eq!(left, 0, "one transaction without savepoints loses the neighbour");
}
