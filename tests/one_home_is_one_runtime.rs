//! Two opens of one home in a process are one runtime; a domain declared differently is refused.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod common;

use std::os::unix::fs::MetadataExt;

use common::*;
use rowhouse::{Domain, Durability, ErrorKind, Home, Migration, Runtime};

fn open(folder: &std::path::Path, domains: &[Domain]) -> rowhouse::Result<Runtime> {
    domains
        .iter()
        .fold(Runtime::builder(Home::at(folder)), |builder, domain| builder.domain(domain.clone()))
        .open()
}

/// The kernel knows of a lock on the file. It lists them while they change and may leave one out, so that it is asked
/// again; a lock that SQLite lost without knowing does not come back.
fn locked(when: &str, file: &std::path::Path) {
    let inode = format!(":{} ", std::fs::metadata(file).expect("the file").ino());
    until(&format!("the lock {when}"), || {
        std::fs::read_to_string("/proc/locks").expect("/proc").contains(&inode)
    });
}

#[test]
fn however_its_path_is_written() {
    let place = Place::new();
    let link = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(place.folder.path(), link.path().join("home")).expect("a link");
    let descriptors = open_files(place.folder.path()).len();
    for path in [place.folder.path().to_owned(), place.folder.path().join("."), link.path().join("home")] {
        let again = open(&path, &[domain()]).expect("the same runtime");
        again.database("test").expect("the domain").write(count_me).expect("written");
    }
    assert_eq!(place.db.stats().commits, 3, "one database counted them all");
    assert_eq!(open_files(place.folder.path()).len(), descriptors);
}

#[test]
fn opened_by_many_threads_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtimes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| open(folder.path(), &[domain()]).expect("opened"))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
    });
    for runtime in &runtimes {
        runtime.database("test").expect("the domain").write(count_me).expect("written");
    }
    assert_eq!(runtimes[0].database("test").expect("the domain").stats().commits, 8);
}

#[test]
fn a_second_open_may_add_domains() {
    let place = Place::new();
    let again = open(place.folder.path(), &[Domain::new("more")]).expect("the same runtime");
    assert_eq!(place.runtime.names(), ["more", "test"]);
    assert_eq!(again.names(), ["more", "test"]);
    place.runtime.database("more").expect("added").write(|_| Ok(())).expect("it works");
}

#[test]
fn a_domain_declared_differently_is_refused() {
    const OTHER: &[Migration] = &[Migration { name: "V1__tables", sql: "CREATE TABLE other(a)" }];
    let place = Place::new();
    let different =
        [domain().best_effort(), domain().durability(Durability::Normal), domain().migrations(OTHER)];
    for declared in different {
        let error = open(place.folder.path(), &[declared]).expect_err("declared differently");
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("test") && error.advice().is_some(), "{error}");
    }
    let error =
        open(place.folder.path(), &[Domain::new("twice"), Domain::new("twice")]).expect_err("twice at once");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(place.runtime.names(), ["test"]);
    place.db.write(insert("a")).expect("the first one is unharmed");
}

#[test]
fn after_a_close_an_open_is_a_new_one() {
    let place = Place::new();
    place.db.write(insert("a")).expect("a row");
    place.runtime.close(LONG);
    let again = open(place.folder.path(), &[domain()]).expect("opened again");
    let db = again.database("test").expect("the domain");
    assert_eq!(keys(&db), ["a"]);
    assert_eq!(kind(place.db.write(insert("b"))), ErrorKind::Closed, "an old handle stays closed");
    db.write(insert("b")).expect("the new one works");
}

#[test]
fn handles_that_outlive_the_runtime_and_a_new_open_get_along() {
    let Place { db, runtime, folder } = Place::new();
    drop(runtime);
    db.write(count_me).expect("a handle keeps it open");
    let file = folder.path().join("test.sqlite");
    locked("by an open database", &file);
    let again = open(folder.path(), &[domain()]).expect("opened");
    locked("after a second open", &file);
    let new = again.database("test").expect("the domain");
    std::thread::scope(|scope| {
        for handle in [&db, &new] {
            scope.spawn(move || (0..50).for_each(|_| handle.write(count_me).expect("written")));
        }
    });
    assert_eq!((counted(&db), counted(&new)), (101, 101));
    drop((new, again));
    locked("after the second one was closed", &file);
}

/// A runtime that is closed while a domain is added to it keeps none open.
#[test]
fn closed_while_a_domain_is_added() {
    let place = Place::new();
    let (closed, is_closed) = std::sync::mpsc::channel::<()>();
    let (opens, is_opening) = std::sync::mpsc::channel();
    let is_closed = std::sync::Mutex::new(is_closed);
    let slow = Domain::new("slow").on_connect(move |_| {
        let _ = opens.send(());
        // An error once the sender is gone.
        let _ = is_closed.lock().expect("no panic").recv();
        Ok(())
    });
    let folder = place.folder.path().to_owned();
    let adding = std::thread::spawn(move || open(&folder, &[slow]).map(|_| ()));
    is_opening.recv().expect("it is opened");
    place.runtime.close(LONG);
    drop(closed);
    assert_eq!(kind(adding.join().expect("a thread")), ErrorKind::Closed);
    assert_eq!(place.runtime.names(), ["test"]);
}
