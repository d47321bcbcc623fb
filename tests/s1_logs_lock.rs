//! Whatever is wrong with the logs, a program that starts is ready at once, and its log rows wait for it to pass.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod processes;

use std::path::Path;
use std::time::{Duration, Instant};

use processes::Child;
use rowhouse::{Database, Domain, ErrorKind, Health, Home, Limits, Migration, Runtime, Ticket};

/// What ready may take beside somebody who holds the logs.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How soon the logs are back when that has passed.
const BACK: Duration = Duration::from_secs(2);
/// Rows that the backlog keeps.
const KEPT: i64 = 1000;
const ROW: &str =
    "INSERT INTO log(ts, level, target, message, process_id, bytes) VALUES (?1, 3, 't', 'm', 'p', 1)";
const NOTES: &[Migration] = &[
    Migration { name: "V1__note", sql: "CREATE TABLE note(n INTEGER)" },
    Migration { name: "V2__more", sql: "CREATE TABLE more(n INTEGER)" },
];

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match &arguments[..] {
        [role, file] if role == "write" => {
            let holder = processes::plain(file.as_ref());
            holder.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
            processes::ready();
            holder.execute_batch("ROLLBACK").expect("let go");
        }
        [role, file] if role == "create" => {
            let file = std::fs::File::options().write(true).create(true).truncate(false).open(file);
            let file = file.expect("the lock file");
            file.lock().expect("the lock of creation");
            processes::ready();
        }
        _ => panic!("a role and a file: {arguments:?}"),
    }
    processes::say("done");
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.backlog_jobs = usize::try_from(KEPT).expect("a small number");
    // No job of the backlog waits for less than that: it has no deadline.
    limits.deadline = Duration::from_millis(500);
    limits
}

fn open(home: &Path) -> Runtime {
    let began = Instant::now();
    let runtime = Runtime::builder(Home::at(home)).agent_domains().limits(limits()).open().expect("ready");
    let took = began.elapsed();
    println!("ready after {took:?}");
    assert!(took < AT_ONCE, "ready after {took:?}");
    runtime
}

/// Creates the databases of a home, with the logs or without: that takes as long as the disk takes to make them durable.
fn create(home: &Path, domains: &[Domain]) {
    let builder = domains
        .iter()
        .fold(Runtime::builder(Home::at(home)), |builder, domain| builder.domain(domain.clone()));
    let runtime = builder.open().expect("created");
    until("all of them", || runtime.health() == Health::Ready);
    runtime.close(Duration::from_secs(10));
}

fn required_domains() -> [Domain; 3] {
    [Domain::state(), Domain::goals(), Domain::device_keys()]
}

/// Another process that holds a lock in this role.
fn holder(role: &str, file: &Path) -> Child {
    let child = Child::start(role, &[processes::text(file)]);
    child.wait_for("ready");
    child
}

fn let_go(mut holder: Child) {
    holder.tell("go");
    holder.wait_for("done");
    holder.finish();
}

/// State takes writes and answers reads.
fn use_state(runtime: &Runtime) {
    let began = Instant::now();
    let state = runtime.database("state").expect("the domain");
    state.write(|tx| tx.execute("CREATE TABLE IF NOT EXISTS own(n INTEGER)", [])).expect("a write");
    state.write(|tx| tx.execute("INSERT INTO own VALUES (1)", [])).expect("a write");
    let count: i64 =
        state.read(|at| at.row("SELECT count(*) FROM own", [], |row| row.get(0))).expect("a read");
    assert!(count > 0 && began.elapsed() < AT_ONCE);
}

fn submit(database: &Database, sql: &'static str, numbers: std::ops::Range<i64>) -> Vec<Ticket<usize>> {
    let began = Instant::now();
    let sized = database.clone().sized(100);
    let tickets =
        numbers.map(|n| sized.submit(move |tx| tx.execute(sql, [n])).expect("it never waits")).collect();
    assert!(began.elapsed() < AT_ONCE);
    tickets
}

fn numbers(database: &Database, sql: &'static str) -> Vec<i64> {
    database.read(|at| at.rows(sql, [], |row| row.get(0))).expect("the rows")
}

fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    let (_never, pause) = std::sync::mpsc::channel::<()>();
    while !holds() {
        assert!(began.elapsed() < Duration::from_mins(1), "{what} did not come");
        let _ = pause.recv_timeout(Duration::from_millis(1));
    }
    began.elapsed()
}

/// Waits until the runtime says that a domain is degraded, and who is in the way where somebody is; answers why, and the
/// holder's process id.
fn degraded(runtime: &Runtime, domain: &str) -> (String, Option<u32>) {
    let mut found = (String::new(), None);
    until("a degraded runtime", || match runtime.health() {
        // A list of locks that changes while it is read may lack one; it is read again every second.
        Health::Degraded { reason, holder } if holder.is_some() || reason.contains("not an SQLite") => {
            found = (reason, holder.map(|holder| holder.pid));
            true
        }
        _ => false,
    });
    println!("health: {} (holder {:?})", found.0, found.1);
    assert!(found.0.starts_with(&format!("{domain}: ")), "{}", found.0);
    found
}

/// Waits until everything is well again.
fn back(runtime: &Runtime) {
    let took = until("the domain", || runtime.health() == Health::Ready);
    println!("back after {took:?}");
    assert!(took < BACK, "back after {took:?}");
}

/// Logs are attached without their write lock and their rows wait in a bounded backlog: whoever holds the lock, a
/// program is ready at once, says who it is, and writes what the backlog kept within two seconds after.
///
/// Scale: the lock held for 3 s; 1,500 rows, a backlog of 1,000.
/// Control: a plain connection that writes to the logs on the way to ready waits for its whole busy timeout, and fails.
#[test]
fn s1_logs_lock_does_not_gate_startup() {
    let home = processes::folder();
    create(home.path(), &required_domains());
    create(home.path(), &[Domain::logs()]);
    let file = home.path().join("logs.sqlite");
    let child = holder("write", &file);

    let held = Instant::now();
    let runtime = open(home.path());
    use_state(&runtime);
    let logs = runtime.database("logs").expect("the domain");
    let mut tickets = submit(&logs, ROW, 0..KEPT);
    let (_, pid) = degraded(&runtime, "logs");
    assert_eq!(pid.map(i64::from), Some(i64::from(child.pid())));
    tickets.extend(submit(&logs, ROW, KEPT..KEPT + KEPT / 2));
    // At once, or when the writer has looked through those that wait.
    until("all that have no room are dropped", || logs.stats().dropped == 500);
    assert_eq!(logs.stats().dropped_bytes, 50_000);
    for ticket in tickets.drain(..500) {
        let error = ticket.wait().expect_err("the oldest are dropped, and told at once");
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        assert!(error.holder().is_none_or(|holder| Some(holder.pid) == pid), "{error}");
        assert!(error.message().contains("dropped"), "{error}");
    }
    until("the end of the time", || held.elapsed() > processes::seconds(3.0));
    assert!(matches!(runtime.health(), Health::Degraded { .. }));
    use_state(&runtime);
    let_go(child);
    back(&runtime);
    for ticket in tickets {
        ticket.wait().expect("written");
    }
    assert_eq!(numbers(&logs, "SELECT ts FROM log ORDER BY id"), (500..1500).collect::<Vec<_>>());
    runtime.close(Duration::from_secs(10));

    // The control.
    let timeout = Duration::from_millis(1500);
    let child = holder("write", &file);
    let began = Instant::now();
    let plain = processes::plain(&file);
    plain.busy_timeout(timeout).expect("a timeout");
    plain.execute(ROW, [1]).expect_err("locked");
    println!("control: failed after {:?}", began.elapsed());
    assert!(began.elapsed() >= timeout);
    let_go(child);
}

/// Logs that somebody else is creating are waited for in the background.
///
/// Scale: the lock of creation held for over a second; 100 rows.
/// Control: the same domain, required, makes the start wait for its whole deadline, and fails.
#[test]
fn s1_creation_of_logs_does_not_gate_startup() {
    let home = processes::folder();
    create(home.path(), &required_domains());
    let child = holder("create", &home.path().join("locks/logs.init"));
    let runtime = open(home.path());
    use_state(&runtime);
    let logs = runtime.database("logs").expect("the domain");
    let tickets = submit(&logs, ROW, 0..100);
    let (_, pid) = degraded(&runtime, "logs");
    assert_eq!(pid.map(i64::from), Some(i64::from(child.pid())));
    use_state(&runtime);
    let_go(child);
    back(&runtime);
    for ticket in tickets {
        ticket.wait().expect("written");
    }
    assert_eq!(numbers(&logs, "SELECT ts FROM log ORDER BY id"), (0..100).collect::<Vec<_>>());

    let other = processes::folder();
    std::fs::create_dir(other.path().join("locks")).expect("a folder");
    let child = holder("create", &other.path().join("locks/notes.init"));
    required(other.path(), 2).expect_err("somebody else is creating it");
    let_go(child);
}

fn notes(migrations: usize) -> Domain {
    Domain::new("notes").migrations(&NOTES[..migrations])
}

/// The control: what a start meets when the domain is required.
fn required(home: &Path, migrations: usize) -> rowhouse::Result<Runtime> {
    let began = Instant::now();
    let opened = Runtime::builder(Home::at(home)).domain(notes(migrations)).limits(limits()).open();
    println!("control: {opened:?} after {:?}", began.elapsed());
    assert!(began.elapsed() >= limits().deadline);
    opened
}

/// A best-effort schema is migrated in the background, whoever holds the write lock that this takes.
///
/// Scale: the write lock held for over a second; 100 rows.
/// Control: the same domain, required, makes the start wait for its whole deadline, and fails.
#[test]
fn s1_migration_of_logs_does_not_gate_startup() {
    let home = processes::folder();
    let open = |domain| Runtime::builder(Home::at(home.path())).domain(domain).limits(limits()).open();
    open(notes(1)).expect("a first version").close(Duration::from_secs(10));
    let child = holder("write", &home.path().join("notes.sqlite"));
    required(home.path(), 2).expect_err("it cannot be migrated");
    let began = Instant::now();
    let runtime = open(notes(2).best_effort()).expect("ready");
    assert!(began.elapsed() < AT_ONCE, "ready after {:?}", began.elapsed());
    let notes = runtime.database("notes").expect("the domain");
    let tickets = submit(&notes, "INSERT INTO more VALUES (?1)", 0..100);
    let (_, pid) = degraded(&runtime, "notes");
    assert_eq!(pid.map(i64::from), Some(i64::from(child.pid())));
    let_go(child);
    back(&runtime);
    for ticket in tickets {
        ticket.wait().expect("written");
    }
    assert_eq!(numbers(&notes, "SELECT n FROM more ORDER BY rowid"), (0..100).collect::<Vec<_>>());
}

/// Logs that are no database go to the quarantine as they are, new ones are made behind the start, and no row is lost.
///
/// Scale: 100 rows.
/// Control: a plain connection that creates its table on the way to ready fails.
#[test]
fn s1_damaged_logs_do_not_gate_startup() {
    let home = processes::folder();
    create(home.path(), &required_domains());
    create(home.path(), &[Domain::logs()]);
    let file = home.path().join("logs.sqlite");
    let text = "not a database\n".repeat(1000);
    std::fs::write(&file, &text).expect("damaged");
    let create = "CREATE TABLE IF NOT EXISTS log(n INTEGER)";
    println!("control: {}", processes::plain(&file).execute(create, []).expect_err("no database"));

    let runtime = open(home.path());
    use_state(&runtime);
    let logs = runtime.database("logs").expect("the domain");
    let tickets = submit(&logs, ROW, 0..100);
    back(&runtime);
    let report = logs.damage().expect("it is told");
    assert!(report.found.contains("not an SQLite database"), "{report}");
    let kept = std::fs::read_to_string(report.evidence.join("logs.sqlite")).expect("the file");
    assert_eq!(kept, text, "nothing in it was changed");
    for ticket in tickets {
        ticket.wait().expect("written");
    }
    assert_eq!(numbers(&logs, "SELECT ts FROM log ORDER BY id"), (0..100).collect::<Vec<_>>());
}
