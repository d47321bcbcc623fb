//! Every busy error names the process in the way, whatever call meets it.

#![cfg(target_os = "linux")]

mod processes;

use std::path::Path;
use std::time::Duration;

use processes::Child;
use rowhouse::{Domain, Error, ErrorKind, Home, Limits, Runtime, RuntimeDbRegistry};

const WAIT: Duration = Duration::from_millis(150);

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [role, home] = &arguments[..] else { panic!("a role and a home: {arguments:?}") };
    let connection = processes::plain(&processes::file(home.as_ref()));
    let sql = match &role[..] {
        "exclusive" => "PRAGMA locking_mode=EXCLUSIVE; BEGIN IMMEDIATE; UPDATE counter SET n = n; COMMIT",
        "writing" => "BEGIN IMMEDIATE",
        other => panic!("no such role: {other}"),
    };
    connection.execute_batch(sql).expect("a lock");
    processes::ready();
}

fn holding(role: &str, home: &Path) -> Child {
    let child = Child::start(role, &[processes::text(home)]);
    child.wait_for("ready");
    child
}

fn work() -> Domain {
    Domain::new("work").migrations(processes::SCHEMA)
}

fn open(home: &Path, domain: Domain) -> rowhouse::Result<Runtime> {
    let mut limits = Limits::default();
    limits.deadline = WAIT;
    Runtime::builder(Home::at(home)).domain(domain).limits(limits).open()
}

fn names(error: &Error, child: &Child) {
    assert_eq!((error.kind(), error.database()), (ErrorKind::Busy, Some("work")), "{error}");
    let holder = error.holder().unwrap_or_else(|| panic!("nobody is named: {error}"));
    assert_eq!(i64::from(holder.pid), i64::from(child.pid()));
    assert!(error.to_string().contains(&format!("pid {}, started 2", holder.pid)), "{error}");
}

#[test]
fn an_open_and_an_inspection_name_who_has_the_file_for_itself() {
    let home = processes::folder();
    drop(processes::open(home.path()));
    let child = holding("exclusive", home.path());
    names(&open(home.path(), work()).expect_err("the file is locked"), &child);
    let registry = RuntimeDbRegistry::new(&Home::at(home.path()));
    names(&registry.inspect("work").expect_err("the file is locked"), &child);
    assert_eq!(
        registry.holder("work").expect("a look").map(|holder| holder.pid),
        u32::try_from(child.pid()).ok()
    );
}

#[test]
fn a_domain_that_is_not_attached_yet_names_who_keeps_it() {
    let home = processes::folder();
    drop(processes::open(home.path()));
    let child = holding("exclusive", home.path());
    let runtime = open(home.path(), work().best_effort()).expect("it is not waited for");
    let database = runtime.database("work").expect("the domain");
    names(&database.read(|_| Ok(())).expect_err("not attached"), &child);
    names(&database.changes().expect_err("not attached"), &child);
    names(&database.write(|_| Ok(())).expect_err("not attached"), &child);
    // An attempt to attach is under way, and closing waits for it.
    drop(child);
    runtime.close(Duration::ZERO);
}

#[test]
fn a_write_that_waits_and_a_migration_name_the_writer() {
    let home = processes::folder();
    let runtime = open(home.path(), work()).expect("opened");
    let child = holding("writing", home.path());
    let database = runtime.database("work").expect("the domain");
    names(&database.write(|_| Ok(())).expect_err("the lock is held"), &child);
    names(
        &database.submit(|_| Ok(())).and_then(rowhouse::Ticket::wait).expect_err("the lock is held"),
        &child,
    );
    drop((database, runtime));

    let newer: Vec<_> = processes::SCHEMA
        .iter()
        .copied()
        .chain([rowhouse::Migration { name: "V2__more", sql: "CREATE TABLE more(a)" }])
        .collect();
    let error = open(home.path(), Domain::new("work").migrations(&newer)).expect_err("the lock is held");
    names(&error, &child);
}
