//! A write, a submit or a wait from inside a job fails at once with `Reentrant`, on any database of the process,
//! instead of waiting for itself; a read is allowed.

mod common;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::*;
use rowhouse::{Database, ErrorKind, Ticket, Tx};

/// Everything that could wait for the job itself. Answers the kinds.
fn try_everything(db: &Database, ticket: &Mutex<Option<Ticket<()>>>) -> Vec<ErrorKind> {
    let mut kinds = vec![
        kind(db.write(|_| Ok(()))),
        kind(db.clone().background().write(|_| Ok(()))),
        kind(db.clone().alone().write(|_| Ok(()))),
        kind(db.submit(|_| Ok(())).map(drop)),
        kind(db.wait_for_change(0, LONG)),
        kind(db.reopen()),
    ];
    if let Some(mut ticket) = ticket.lock().expect("not poisoned").take() {
        kinds.push(kind(ticket.wait_for(LONG).expect("an answer at once")));
        kinds.push(kind(block_on(&mut ticket)));
        kinds.push(kind(ticket.wait()));
    }
    kinds
}

fn all_reentrant(kinds: &[ErrorKind], count: usize) {
    assert_eq!(kinds, vec![ErrorKind::Reentrant; count]);
}

#[test]
fn to_the_same_and_to_another_database_on_both_paths() {
    let (one, two) = (Place::new(), Place::new());
    let started = Instant::now();
    for db in [&one.db, &two.db] {
        // A job that has not run, to wait for.
        let hold = Hold::writer(&two.db);
        let pending = Mutex::new(Some(two.db.submit(|_| Ok(())).expect("queued")));
        all_reentrant(&one.db.write(|_| Ok(try_everything(db, &pending))).expect("the fast path"), 9);
        hold.release();

        let (db, pending) = (db.clone(), Mutex::new(None));
        let queued = one.db.submit(move |_| Ok(try_everything(&db, &pending))).expect("queued");
        all_reentrant(&queued.wait().expect("the writer's thread"), 6);
    }
    assert!(started.elapsed() < LONG / 2, "nothing waited for its deadline");
    assert!(one.db.stats().direct_commits > 0, "the fast path was tested");
}

#[test]
fn the_error_says_what_to_do_and_the_job_goes_on() {
    let place = Place::new();
    place
        .db
        .write(|tx: &Tx| {
            let error = place.db.write(insert("inner")).expect_err("reentrant");
            assert_eq!(error.database(), Some("test"));
            assert!(error.advice().expect("advice").contains("tx"), "{error}");
            insert("outer")(tx)
        })
        .expect("the outer job");
    assert_eq!(keys(&place.db), ["outer"]);
    place.db.write(insert("after")).expect("the mark is gone");
}

#[test]
fn a_read_inside_a_job_sees_what_was_committed_before_it() {
    let (one, two) = (Place::new(), Place::new());
    let job = |tx: &Tx| {
        insert("mine")(tx)?;
        Ok((keys(&one.db).len(), keys(&two.db).len(), one.db.changes()?))
    };
    let (own, other, _) = one.db.write(job).expect("a job that reads");
    assert_eq!((own, other), (0, 0));
    assert_eq!(keys(&one.db), ["mine"]);
}

#[test]
fn a_write_inside_a_read_is_no_job() {
    let place = Place::new();
    let seen = place
        .db
        .read(|at| {
            let before = number(at, "SELECT count(*) FROM t")?;
            place.db.write(insert("meanwhile"))?;
            Ok((before, number(at, "SELECT count(*) FROM t")?))
        })
        .expect("both");
    assert_eq!(seen, (0, 0), "the snapshot stays");
    assert_eq!(keys(&place.db), ["meanwhile"]);
}

#[test]
fn control_a_pool_waits_for_itself() {
    let (folder, _plain) = plain();
    let manager = r2d2_sqlite::SqliteConnectionManager::file(folder.path().join("plain.sqlite"))
        .with_init(|connection| connection.busy_timeout(Duration::from_millis(50)));
    let pool = r2d2::Pool::builder().max_size(2).build(manager).expect("a pool");
    let mut outer = pool.get().expect("a connection");
    let outer = outer.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).expect("begun");
    let inner = pool.get().expect("another").execute("INSERT INTO t(k) VALUES ('inner')", []);
    assert_eq!(
        inner.expect_err("it waits for the outer one").sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy)
    );
    drop(outer);
}
