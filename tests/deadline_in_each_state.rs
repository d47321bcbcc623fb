//! A deadline does the right thing whatever the job is at: withdrawn while it waits, its SQL stopped while it runs,
//! known or honestly unknown after it ran; and a borrowed value outlives every use of it.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use common::*;
use rowhouse::{ErrorKind, Tx};

const SHORT: Duration = Duration::from_millis(50);

#[test]
fn a_waiting_write_is_withdrawn_and_never_runs() {
    let place = Place::new();
    let runs = AtomicU32::new(0);
    let hold = Hold::writer(&place.db);
    let answer = place.db.clone().within(SHORT).write(|tx| {
        runs.fetch_add(1, Ordering::Relaxed);
        insert("late")(tx)
    });
    let error = answer.expect_err("too late");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("nothing was done"), "{error}");
    hold.release();
    let next = place.db.submit(insert("next")).expect("queued");
    next.wait().expect("the writer goes on, and has seen what came before");
    assert_eq!(runs.load(Ordering::Relaxed), 0);
    assert_eq!(keys(&place.db), ["next"]);
    assert!(place.db.stats().jobs_withdrawn >= 1);
}

#[test]
fn a_waiting_ticket_is_withdrawn_and_never_runs() {
    let place = Place::new();
    let hold = Hold::writer(&place.db);
    let ticket = place.db.clone().within(SHORT).submit(insert("late")).expect("queued");
    let error = ticket.wait().expect_err("too late");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    hold.release();
    place.db.write(insert("next")).expect("the writer goes on");
    assert_eq!(keys(&place.db), ["next"]);
}

#[test]
fn a_ticket_that_nobody_waits_for_does_not_run_after_its_deadline_either() {
    let place = Place::new();
    let hold = Hold::writer(&place.db);
    let mut first = place.db.clone().within(SHORT).submit(insert("late")).expect("queued");
    let awaited = place.db.clone().within(SHORT).submit(insert("later")).expect("queued");
    drop(place.db.clone().within(SHORT).submit(insert("nobody's")).expect("queued"));
    let neighbour = place.db.submit(insert("in time")).expect("queued");
    assert!(first.wait_for(2 * SHORT).is_none(), "wait_for changes nothing");
    hold.release();
    neighbour.wait().expect("a neighbour");
    assert_eq!(kind(first.wait_for(LONG).expect("an answer")), ErrorKind::Timeout);
    assert_eq!(kind(block_on(awaited)), ErrorKind::Timeout);
    assert_eq!(keys(&place.db), ["in time"]);
}

#[test]
fn running_sql_is_stopped_and_the_neighbours_are_committed() {
    let place = Place::new();
    for (sql, before, after) in [(ENDLESS_QUERY, "a", "b"), (ENDLESS_INSERT, "c", "d")] {
        let hold = Hold::writer(&place.db);
        let neighbour = place.db.submit(insert(before)).expect("queued");
        let slow = {
            let db = place.db.clone().within(Duration::from_millis(300));
            aside(move || {
                db.write(|tx| {
                    count_me(tx)?;
                    tx.rows(sql, [], |_| Ok(())).map(drop)
                })
            })
        };
        until("the slow one in the queue", || place.db.stats().queued >= 2);
        let other = place.db.submit(insert(after)).expect("queued");
        hold.release();
        let started = Instant::now();
        let error = soon(&slow).expect_err("stopped");
        assert!(started.elapsed() < LONG / 2, "it would have run for minutes");
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
        neighbour.wait().expect("the neighbour before");
        other.wait().expect("the neighbour after");
    }
    assert_eq!(keys(&place.db), ["a", "b", "c", "d"]);
    assert_eq!(counted(&place.db), 4);
}

#[test]
fn running_sql_is_stopped_on_the_callers_own_thread() {
    let place = Place::new();
    for sql in [ENDLESS_QUERY, ENDLESS_INSERT] {
        let answer = place.db.clone().within(SHORT).write(|tx| {
            count_me(tx)?;
            tx.rows(sql, [], |_| Ok(())).map(drop)
        });
        assert_eq!(kind(answer), ErrorKind::Timeout);
        place
            .db
            .write(insert(if sql == ENDLESS_QUERY { "a" } else { "b" }))
            .expect("the next one is not stopped");
    }
    assert_eq!(counted(&place.db), 2);
}

#[test]
fn a_write_returns_only_after_its_closure_and_what_it_borrows_stays() {
    let place = Place::new();
    let hold = Hold::writer(&place.db);
    let (entered, inside) = channel();
    let (go_on, released) = channel::<()>();
    let db = place.db.clone().within(2 * SHORT);
    let answer = aside(move || {
        let borrowed = vec![7_u8; 1 << 16];
        let finished = AtomicU32::new(0);
        let (lent, counts) = (&borrowed, &finished);
        let answer = db.write(move |_| {
            let _ = entered.send(());
            let _ = released.recv_timeout(LONG);
            assert!(lent.iter().all(|byte| *byte == 7));
            counts.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        (answer, finished.load(Ordering::SeqCst))
    });
    until("it in the queue", || place.db.stats().queued >= 1);
    hold.release();
    soon(&inside);
    // Its deadline passes while the closure waits for us, outside SQL.
    assert!(answer.recv_timeout(6 * SHORT).is_err(), "write may not leave its closure");
    go_on.send(()).expect("it waits");
    let (answer, finished) = soon(&answer);
    assert_eq!(finished, 1);
    place.db.submit(|_| Ok(())).expect("queued").wait().expect("the writer goes on");
    // It ran through. Whether the commit came first, or the caller that had waited too long, is open; a refusal that
    // claims that nothing was done would be a lie.
    assert!(matches!(&answer, Ok(())) || kind(answer) == ErrorKind::OutcomeUnknown);
}

#[test]
fn after_it_ran_the_outcome_is_unknown_and_wait_for_still_learns_it() {
    let place = Place::new();
    // One batch: the first two jobs have run, the third keeps the batch from its commit.
    let hold = Hold::writer(&place.db);
    let db = place.db.clone().within(6 * SHORT);
    let (ran, has_run) = channel();
    let caller = aside(move || {
        db.write(|tx| {
            let _ = ran.send(());
            insert("written")(tx)
        })
    });
    until("it in the queue", || place.db.stats().queued >= 1);
    let mut ticket = place.db.clone().within(6 * SHORT).submit(insert("submitted")).expect("queued");
    let (entered, inside) = channel();
    let (go_on, released) = channel::<()>();
    let last = place
        .db
        .submit(move |_: &Tx| {
            let _ = entered.send(());
            let _ = released.recv_timeout(LONG);
            Ok(())
        })
        .expect("queued");
    hold.release();
    soon(&has_run);
    soon(&inside);
    assert_eq!(kind(soon(&caller)), ErrorKind::OutcomeUnknown);
    assert!(ticket.wait_for(8 * SHORT).is_none(), "not committed, not given up");
    go_on.send(()).expect("it waits");
    ticket.wait_for(LONG).expect("an answer").expect("committed");
    last.wait().expect("committed");
    assert_eq!(keys(&place.db), ["submitted", "written"]);
}

#[test]
fn a_job_that_gave_up_before_the_deadline_is_not_unknown() {
    let place = Place::new();
    let hold = Hold::writer(&place.db);
    let db = place.db.clone().within(6 * SHORT);
    let (ran, has_run) = channel();
    // Make the writer wary, so that the failing job does not end the attempt.
    let failed = place.db.submit(|_| gave_up::<()>()).expect("queued");
    hold.release();
    assert_eq!(kind(failed.wait()), ErrorKind::Job);
    place.db.submit(|_| Ok(())).expect("queued").wait().expect("fine");

    let hold = Hold::writer(&place.db);
    let neighbour = place.db.submit(|_| gave_up::<()>()).expect("queued");
    let caller = aside(move || {
        db.write(move |tx| {
            let _ = ran.send(());
            insert("undone")(tx)?;
            gave_up::<()>()
        })
    });
    until("both in the queue", || place.db.stats().queued >= 2);
    let (entered, inside) = channel();
    let (go_on, released) = channel::<()>();
    let last = place
        .db
        .submit(move |_: &Tx| {
            let _ = entered.send(());
            let _ = released.recv_timeout(LONG);
            Ok(())
        })
        .expect("queued");
    hold.release();
    soon(&has_run);
    soon(&inside);
    // Its deadline passes while the last job holds the batch: nothing of it will ever be committed.
    let answer = caller.recv_timeout(20 * SHORT).expect("it does not wait for the batch");
    assert_eq!(kind(answer), ErrorKind::Timeout);
    go_on.send(()).expect("it waits");
    last.wait().expect("committed");
    assert_eq!(kind(neighbour.wait()), ErrorKind::Job);
    assert_eq!(keys(&place.db), [""; 0]);
}

#[test]
fn a_write_lock_of_somebody_else_is_busy_and_only_while_it_lasts() {
    let place = Place::new();
    let other = raw(&place.file());
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let started = Instant::now();
    let error = place.db.clone().within(SHORT).write(insert("a")).expect_err("locked");
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert_eq!(error.holder().map(|holder| holder.pid), Some(std::process::id()), "{error}");
    assert!(started.elapsed() < LONG / 2);
    let seen = place.db.stats().busy_waits;
    let patient = place.db.submit(insert("b")).expect("queued");
    until("the writer at the lock", || place.db.stats().busy_waits > seen);
    other.execute_batch("ROLLBACK").expect("freed");
    patient.wait().expect("free again");

    let hold = Hold::writer(&place.db);
    assert_eq!(
        kind(place.db.clone().within(SHORT).write(insert("c"))),
        ErrorKind::Timeout,
        "nobody else is in the way"
    );
    hold.release();
    assert_eq!(keys(&place.db), ["b"]);
}

#[test]
fn a_deadline_that_has_passed_and_one_that_never_will() {
    let place = Place::new();
    let answer = place.db.clone().within(Duration::ZERO).write(|tx| tx.rows(ENDLESS_QUERY, [], |_| Ok(())));
    assert_eq!(kind(answer), ErrorKind::Timeout);
    let patient = place.db.clone().within(Duration::MAX);
    patient.write(insert("a")).expect("written");
    let runs = Arc::new(AtomicU32::new(0));
    let counts = runs.clone();
    let mut ticket = patient.submit(move |_| Ok(counts.fetch_add(1, Ordering::Relaxed))).expect("queued");
    ticket.wait_for(Duration::MAX).expect("an answer").expect("committed");
    assert_eq!(patient.read(|at| number(at, "SELECT count(*) FROM t")).expect("read"), 1);
    let seen = patient.changes().expect("a number");
    patient.write(insert("b")).expect("written");
    assert!(patient.wait_for_change(seen, Duration::MAX).expect("a change") > seen);
    assert!(patient.close(Duration::MAX).in_time);
}
