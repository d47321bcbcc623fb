//! No error's text carries a bound value or a text of the user's; every error names the database and its file.

mod common;

use std::error::Error as _;

use common::*;
use rowhouse::{Error, ErrorKind, Result, Tx};

const SECRET: &str = "secret-value-42";

/// Nothing of it in any text of the error; the database and the file in all.
fn clean(place: &Place, what: &str, error: &Error) {
    for text in [error.to_string(), format!("{error:?}"), error.advice().unwrap_or_default().to_owned()] {
        assert!(!text.contains("secret"), "{what}: {text}");
    }
    assert_eq!(error.database(), Some("test"), "{what}");
    assert_eq!(error.path(), Some(place.file().canonicalize().expect("the file").as_path()), "{what}");
    assert!(error.to_string().contains("test.sqlite"), "{what}: {error}");
}

/// A job that fails on both paths, through a batch as well.
fn fails(
    place: &Place,
    what: &str,
    expected: ErrorKind,
    job: impl Fn(&Tx) -> Result<()> + Send + Clone + 'static,
) {
    let direct = place.db.write(job.clone()).expect_err(what);
    let hold = Hold::writer(&place.db);
    let queued = place.db.submit(job).expect("queued");
    let neighbour = place.db.submit(count_me).expect("queued");
    hold.release();
    neighbour.wait().expect("a neighbour");
    for error in [direct, queued.wait().expect_err(what)] {
        assert_eq!(error.kind(), expected, "{what}: {error:?}");
        clean(place, what, &error);
    }
}

#[test]
fn of_a_job() {
    let place = Place::new();
    place.db.write(|tx| tx.execute("INSERT INTO t(k) VALUES (?1)", [SECRET])).expect("a row");
    let constraint = ErrorKind::Constraint;
    let execute = |sql: &'static str| move |tx: &Tx| tx.execute(sql, [SECRET]).map(drop);
    fails(&place, "unique", constraint, execute("INSERT INTO t(k) VALUES (?1)"));
    fails(&place, "rollback", constraint, execute("INSERT OR ROLLBACK INTO t(k) VALUES (?1)"));
    fails(&place, "check", constraint, execute("INSERT INTO positive SELECT -length(?1)"));
    fails(&place, "not null", constraint, execute("INSERT INTO positive SELECT nullif(?1, ?1)"));
    fails(&place, "trigger", constraint, execute("INSERT INTO fussy VALUES ('say ' || ?1)"));
    fails(
        &place,
        "type",
        ErrorKind::Constraint,
        execute("INSERT INTO positive(rowid, n) VALUES (1, 1), (1, length(?1))"),
    );
    let invalid = ErrorKind::Invalid;
    fails(&place, "no such table", invalid, execute("INSERT INTO secret_table VALUES (?1)"));
    fails(&place, "syntax", invalid, |tx| tx.execute("INSERT 'secret-value-42'", []).map(drop));
    fails(&place, "no such function", invalid, execute("SELECT secret_function(?1)"));
    fails(&place, "not for execute", invalid, execute("SELECT ?1"));
    fails(&place, "bad json", invalid, |tx| {
        tx.row("SELECT json_extract(?1, '$.a')", [SECRET], |row| row.get::<_, String>(0)).map(drop)
    });
    fails(&place, "wrong type", invalid, |tx| {
        tx.row("SELECT ?1", [SECRET], |row| row.get::<_, i64>(0)).map(drop)
    });
    fails(&place, "no such column", invalid, |tx| {
        tx.row("SELECT ?1 AS a", [SECRET], |row| row.get::<_, String>("secret")).map(drop)
    });
    fails(&place, "parameters", invalid, |tx| tx.execute("DELETE FROM t", [SECRET]).map(drop));
    fails(&place, "two statements", invalid, |tx| {
        tx.execute("DELETE FROM t; SELECT 'secret-value-42'", []).map(drop)
    });
    fails(&place, "no row", ErrorKind::NotFound, |tx| {
        tx.row("SELECT k FROM t WHERE v = ?1", [SECRET], |row| row.get::<_, String>(0)).map(drop)
    });
    fails(&place, "attach", ErrorKind::Unsupported, execute("ATTACH ?1 AS other"));
    fails(&place, "too big", invalid, |tx| {
        tx.execute("INSERT INTO t(v) VALUES (zeroblob(20000000) || ?1)", [SECRET]).map(drop)
    });
    let big = SECRET.repeat(2 << 20);
    fails(&place, "too big to bind", invalid, move |tx| {
        tx.execute("INSERT INTO t(v) VALUES (?1)", [&big]).map(drop)
    });
    fails(&place, "panic", ErrorKind::Panicked, |_| panic!("{SECRET}"));
}

#[test]
fn even_when_a_trigger_words_it_like_a_constraint_of_the_schema() {
    let place = Place::new();
    place
        .db
        .write(|tx| {
            tx.execute(
                "CREATE TRIGGER sly BEFORE INSERT ON t WHEN new.v IS NOT NULL
                 BEGIN SELECT RAISE(ABORT, 'UNIQUE constraint failed: secret value'); END",
                [],
            )
        })
        .expect("a trigger");
    fails(&place, "sly trigger", ErrorKind::Constraint, |tx| {
        tx.execute("INSERT INTO t(v) VALUES (?1)", [SECRET]).map(drop)
    });
}

#[test]
fn of_a_read() {
    let place = Place::new();
    let errors = [
        place.db.read(|at| at.row("SELECT ?1", [SECRET], |row| row.get::<_, i64>(0))).expect_err("a type"),
        place.db.read(|at| at.row("SELECT secret", [], |row| row.get::<_, i64>(0))).expect_err("no column"),
        place
            .db
            .read(|at| at.rows("INSERT INTO t(k) VALUES (?1)", [SECRET], |_| Ok(())))
            .expect_err("a write"),
    ];
    for error in errors {
        clean(&place, "a read", &error);
    }
}

#[test]
fn what_sqlite_said_is_behind_source() {
    let place = Place::new();
    let error =
        place.db.write(|tx| tx.execute("INSERT INTO fussy VALUES ('say it')", [])).expect_err("the trigger");
    let source = error.source().expect("a source").to_string();
    assert!(source.contains("secret-in-a-trigger"), "{source}");
    assert_eq!(error.sqlite_code().map(|code| code & 0xff), Some(19));

    let error = place.db.write(|_| gave_up::<()>()).expect_err("it gave up");
    assert_eq!(error.downcast_ref::<GaveUp>(), Some(&GaveUp));
    assert!(error.to_string().contains("gave up"), "the job's own words are its own");
}
