//! A job may run more than once, and counts once.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::*;
use rowhouse::ErrorKind;

#[test]
fn however_often_the_batch_is_lost() {
    let place = Place::new();
    let runs = Arc::new(AtomicU32::new(0));
    let hold = Hold::writer(&place.db);
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for n in 0..50 {
        let counts = runs.clone();
        good.push(
            place
                .db
                .submit(move |tx| {
                    counts.fetch_add(1, Ordering::Relaxed);
                    count_me(tx)
                })
                .expect("queued"),
        );
        if n % 10 == 0 {
            bad.push(
                place
                    .db
                    .submit(move |tx| {
                        count_me(tx)?;
                        match n {
                            0 => gave_up(),
                            10 => tx.execute("INSERT INTO fussy VALUES ('roll back')", []).map(drop),
                            20 => tx.execute("INSERT INTO child VALUES (1, 99)", []).map(drop),
                            30 => tx.execute("INSERT INTO positive VALUES (-1)", []).map(drop),
                            _ => panic!("a job"),
                        }
                    })
                    .expect("queued"),
            );
        }
    }
    hold.release();
    for ticket in good {
        ticket.wait().expect("a good job");
    }
    let kinds: Vec<_> = bad.into_iter().map(|ticket| kind(ticket.wait())).collect();
    let constraint = ErrorKind::Constraint;
    assert_eq!(kinds, [ErrorKind::Job, constraint, constraint, constraint, ErrorKind::Panicked]);
    assert_eq!(counted(&place.db), 50);
    assert!(runs.load(Ordering::Relaxed) > 50, "some ran again, or nothing was tested");
    assert!(place.db.stats().batches_retried > 0);
}

#[test]
fn with_many_callers_at_once() {
    let place = Place::new();
    let failed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let (db, failed) = (&place.db, &failed);
            scope.spawn(move || {
                for n in 0..100 {
                    let answer = db.write(|tx| {
                        count_me(tx)?;
                        match (caller + n) % 25 {
                            3 => gave_up(),
                            7 => tx.execute("INSERT INTO fussy VALUES ('roll back')", []).map(drop),
                            11 => tx.execute("INSERT INTO child VALUES (1, 99)", []).map(drop),
                            _ => Ok(()),
                        }
                    });
                    if answer.is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(failed.load(Ordering::Relaxed), 96, "8 callers x 100 jobs, 3 of 25 bad");
    assert_eq!(counted(&place.db), 800 - 96);
}
