//! The last handle may go inside a job, or with what a job captured: nothing waits for itself, and everything closes.

mod common;

use std::sync::Mutex;

use common::*;
use rowhouse::{Home, Runtime, Tx};

/// Opens a home once more and finds everything closed before, and the row written.
fn closed_and_kept(folder: &tempfile::TempDir, rows: &[&str]) {
    until("the last descriptor", || open_files(folder.path()).is_empty());
    let runtime = Runtime::builder(Home::at(folder.path())).domain(domain()).open().expect("opened again");
    let db = runtime.database("test").expect("the domain");
    assert_eq!(keys(&db), rows);
    db.write(insert("again")).expect("it works");
}

#[test]
fn in_the_jobs_own_code() {
    let Place { db, runtime, folder } = Place::new();
    let hold = Hold::writer(&db);
    let last = Mutex::new(Some((db.clone(), runtime.clone())));
    let ticket = db
        .submit(move |tx: &Tx| {
            insert("a")(tx)?;
            drop(last.lock().expect("not poisoned").take());
            Ok(())
        })
        .expect("queued");
    let neighbour = db.submit(insert("b")).expect("queued");
    drop((db, runtime));
    hold.release();
    ticket.wait().expect("committed");
    neighbour.wait().expect("what was queued is done");
    closed_and_kept(&folder, &["a", "b"]);
}

#[test]
fn with_what_the_job_captured() {
    let Place { db, runtime, folder } = Place::new();
    let hold = Hold::writer(&db);
    let captured = (db.clone(), runtime.clone());
    let ticket = db
        .submit(move |tx: &Tx| {
            assert_eq!(captured.0.name(), captured.1.names()[0]);
            insert("a")(tx)
        })
        .expect("queued");
    drop((db, runtime));
    hold.release();
    ticket.wait().expect("committed");
    closed_and_kept(&folder, &["a"]);
}

#[test]
fn with_a_ticket_that_nobody_waits_for() {
    let Place { db, runtime, folder } = Place::new();
    let hold = Hold::writer(&db);
    let captured = (db.clone(), runtime.clone());
    drop(
        db.submit(move |tx: &Tx| {
            let _ = &captured;
            insert("a")(tx)
        })
        .expect("queued"),
    );
    drop((db, runtime));
    hold.release();
    closed_and_kept(&folder, &["a"]);
}

#[test]
fn in_a_job_that_panics() {
    let Place { db, runtime, folder } = Place::new();
    let hold = Hold::writer(&db);
    let captured = (db.clone(), runtime.clone());
    let ticket = db
        .submit(move |tx: &Tx| -> rowhouse::Result<()> {
            let _ = &captured;
            insert("a")(tx)?;
            panic!("with the last handles");
        })
        .expect("queued");
    drop((db, runtime));
    hold.release();
    ticket.wait().expect_err("the panic");
    closed_and_kept(&folder, &[]);
}

#[test]
fn in_a_job_of_another_database() {
    let other = Place::new();
    let Place { db, runtime, folder } = Place::new();
    db.write(insert("a")).expect("a row");
    let last = Mutex::new(Some((db, runtime)));
    other
        .db
        .write(|tx| {
            drop(last.lock().expect("not poisoned").take());
            insert("b")(tx)
        })
        .expect("committed");
    closed_and_kept(&folder, &["a"]);
    assert_eq!(keys(&other.db), ["b"]);
}

#[test]
fn closed_by_a_job_of_its_own() {
    let Place { db, runtime, folder } = Place::new();
    let closing = (db.clone(), runtime.clone());
    let ticket = db
        .submit(move |tx: &Tx| {
            closing.0.close(LONG);
            closing.1.close(LONG);
            insert("a")(tx)
        })
        .expect("queued");
    ticket.wait().expect("committed");
    drop((db, runtime));
    closed_and_kept(&folder, &["a"]);
}

#[test]
fn inside_a_read() {
    let Place { db, runtime, folder } = Place::new();
    db.write(insert("a")).expect("a row");
    let reader = db.clone();
    let last = Mutex::new(Some((db, runtime)));
    let rows = reader.read(|at| {
        drop(last.lock().expect("not poisoned").take());
        number(at, "SELECT count(*) FROM t")
    });
    assert_eq!(rows.expect("the snapshot stays"), 1);
    drop(reader);
    closed_and_kept(&folder, &["a"]);
}
