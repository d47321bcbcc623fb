//! A job that ends the whole transaction gets the error, nobody else does, and its neighbours are committed.

mod common;

use std::time::Duration;

use common::*;
use rowhouse::{Error, ErrorKind, Result, Tx};

/// Runs `culprit` between two neighbours, in a fresh batch and in a wary one; answers its errors.
fn between_neighbours(
    within: Duration,
    culprit: impl Fn(&Tx) -> Result<()> + Send + Clone + 'static,
) -> [Error; 2] {
    let place = Place::new();
    place.db.write(|tx| tx.execute("INSERT INTO t(k) VALUES ('taken')", [])).expect("a row");
    let errors = [["a", "b"], ["c", "d"]].map(|[one, two]| {
        let hold = Hold::writer(&place.db);
        let before = place.db.submit(insert(one)).expect("queued");
        let bad = place.db.clone().within(within).submit(culprit.clone()).expect("queued");
        let after = place.db.submit(insert(two)).expect("queued");
        hold.release();
        before.wait().expect("the neighbour before");
        after.wait().expect("the neighbour after");
        let mut bad = bad;
        bad.wait_for(LONG).expect("an answer").expect_err("the culprit's error")
    });
    assert_eq!(keys(&place.db), ["a", "b", "c", "d", "taken"]);
    assert_eq!(counted(&place.db), 4, "every neighbour counts once, the culprit never");
    place.db.write(insert("later")).expect("the writer lives");
    place.db.submit(insert("later still")).expect("queued").wait().expect("the writer lives");
    errors
}

#[test]
fn insert_or_rollback() {
    let errors = between_neighbours(LONG, |tx| {
        count_me(tx)?;
        tx.execute("INSERT OR ROLLBACK INTO t(k) VALUES ('taken')", [])?;
        Ok(())
    });
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Constraint);
        assert!(error.to_string().contains("t.k"), "{error}");
    }
}

#[test]
fn raise_rollback_in_a_trigger() {
    let errors = between_neighbours(LONG, |tx| {
        count_me(tx)?;
        tx.execute("INSERT INTO fussy VALUES ('roll back')", [])?;
        Ok(())
    });
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Constraint);
    }
}

#[test]
fn a_job_that_ignores_the_rollback_is_not_believed() {
    let errors = between_neighbours(LONG, |tx| {
        count_me(tx)?;
        let _ = tx.execute("INSERT OR ROLLBACK INTO t(k) VALUES ('taken')", []);
        Ok(())
    });
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Constraint);
    }
}

#[test]
fn what_a_job_does_after_it_ended_the_transaction_is_not_committed_by_itself() {
    let errors = between_neighbours(LONG, |tx| {
        let mut insert = tx.prepare("INSERT INTO t(k) VALUES ('on its own, by a statement at hand')")?;
        let _ = tx.execute("INSERT OR ROLLBACK INTO t(k) VALUES ('taken')", []);
        // Without a transaction around it each of these would be a commit of its own.
        let _ = insert.execute([]);
        let _ = tx.execute("INSERT INTO t(k) VALUES ('on its own')", []);
        let _ = tx.savepoint(|tx| tx.execute("INSERT INTO t(k) VALUES ('in a savepoint')", []));
        let _ = count_me(tx);
        Ok(())
    });
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Constraint);
    }
}

#[test]
fn nor_on_the_callers_own_thread() {
    let place = Place::new();
    place.db.write(insert("taken")).expect("a row");
    let answer = place.db.write(|tx| {
        let _ = tx.execute("INSERT OR ROLLBACK INTO t(k) VALUES ('taken')", []);
        tx.execute("INSERT INTO t(k) VALUES ('on its own')", [])?;
        Ok(())
    });
    assert_eq!(kind(answer), ErrorKind::Constraint);
    assert_eq!(keys(&place.db), ["taken"]);
    assert_eq!(place.db.stats().direct_commits, 1, "the fast path was tested");
}

#[test]
fn a_deferred_foreign_key() {
    let errors = between_neighbours(LONG, |tx| {
        count_me(tx)?;
        tx.execute("INSERT INTO child VALUES (1, 99)", [])?;
        Ok(())
    });
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Constraint);
        assert!(error.to_string().contains("foreign key"), "{error}");
    }
}

#[test]
fn an_interrupted_write() {
    let errors = between_neighbours(Duration::from_millis(300), |tx| {
        count_me(tx)?;
        tx.execute(ENDLESS_INSERT, [])?;
        Ok(())
    });
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
}

#[test]
fn an_unfinished_write_statement_that_a_job_leaks() {
    let place = Place::new();
    for (one, two, leaked) in [("a", "b", "c"), ("d", "e", "f")] {
        let hold = Hold::writer(&place.db);
        let before = place.db.submit(insert(one)).expect("queued");
        let leaks = place
            .db
            .submit(move |tx| {
                let mut statement = tx.prepare("INSERT INTO t(k) VALUES (?1), (?1 || ?1) RETURNING id")?;
                let mut rows = statement.query([leaked])?;
                rows.next()?;
                std::mem::forget(rows);
                std::mem::forget(statement);
                Ok(())
            })
            .expect("queued");
        let after = place.db.submit(insert(two)).expect("queued");
        hold.release();
        before.wait().expect("the neighbour before");
        after.wait().expect("the neighbour after");
        leaks.wait().expect("it did its work, a little carelessly");
        place.db.write(insert(if one == "a" { "x" } else { "y" })).expect("the writer lives");
    }
    assert_eq!(keys(&place.db), ["a", "b", "c", "cc", "d", "e", "f", "ff", "x", "y"]);
}

#[test]
fn two_culprits_in_one_batch() {
    let place = Place::new();
    place.db.write(insert("taken")).expect("a row");
    let hold = Hold::writer(&place.db);
    let bad = |sql: &'static str| {
        move |tx: &Tx| {
            count_me(tx)?;
            tx.execute(sql, []).map(drop)
        }
    };
    let good = ["a", "b", "c"].map(|k| {
        let culprit = if k == "b" {
            "INSERT INTO fussy VALUES ('roll back')"
        } else {
            "INSERT OR ROLLBACK INTO t(k) VALUES ('taken')"
        };
        (place.db.submit(insert(k)).expect("queued"), place.db.submit(bad(culprit)).expect("queued"))
    });
    hold.release();
    for (good, bad) in good {
        good.wait().expect("a neighbour");
        assert_eq!(kind(bad.wait()), ErrorKind::Constraint);
    }
    assert_eq!(keys(&place.db), ["a", "b", "c", "taken"]);
    assert_eq!(counted(&place.db), 4);
}

#[test]
fn control_without_the_engine_the_neighbours_are_lost() {
    let (_folder, mut plain) = plain();
    plain.execute("INSERT INTO t(k) VALUES ('taken')", []).expect("a row");
    for culprit in [
        "INSERT OR ROLLBACK INTO t(k) VALUES ('taken')",
        "INSERT INTO fussy VALUES ('roll back')",
        "INSERT INTO child VALUES (1, 99)",
    ] {
        let together = plain.transaction().expect("begun");
        together.execute("INSERT INTO t(k) VALUES ('a neighbour')", []).expect("a neighbour");
        // A savepoint around the culprit does not help.
        together.execute_batch("SAVEPOINT job").expect("a savepoint");
        let answer = together.execute(culprit, []);
        if answer.is_ok() {
            together.execute_batch("RELEASE job").expect("released");
        }
        let committed = together.commit();
        assert!(answer.is_err() || committed.is_err(), "{culprit}");
        let left: i64 = plain.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("a count");
        assert_eq!(left, 1, "{culprit}: the neighbour is gone");
        if !plain.is_autocommit() {
            plain.execute_batch("ROLLBACK").expect("rolled back");
        }
    }
}
