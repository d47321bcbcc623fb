//! A stopped process does not stop the others: they go on without its turn, and name it when it is inside a job.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod processes;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use processes::Child;
use rowhouse::{Database, Domain, ErrorKind, Home, Limits, Runtime};

const LABEL: &str = "import";
const INSERT: &str = "INSERT INTO item(job, part) VALUES (?1, ?2)";
/// What a busy machine may add to a bound.
const SLACK: Duration = Duration::from_millis(500);

/// These tests measure waits, so they run one after another.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [role, home] = &arguments[..] else { panic!("a role and a home: {arguments:?}") };
    let home: &Path = home.as_ref();
    if role == "room" || role == "lobby" || role == "init" {
        // Its turn, or the place in front of it, without the lock of SQLite: frozen before BEGIN, or in line. Or
        // frozen before it creates the database.
        let name = if role == "init" { "work.init" } else { "work.room" };
        let place = home.join("locks").join(name);
        let place =
            File::options().write(true).create(true).truncate(false).open(place).expect("the lock file");
        if role == "lobby" {
            lock_first_byte(&place);
        } else {
            place.lock().expect("its turn");
        }
        processes::say("ready");
        processes::listen();
        return;
    }
    let began = Instant::now();
    let runtime = processes::open(home);
    let database = runtime.database("work").expect("the domain").label(LABEL);
    if role == "look" {
        rows(&database, 1);
        processes::say(&format!("done {}", began.elapsed().as_millis()));
        return;
    }
    let write = || database.write(|tx| tx.execute(INSERT, (1, 0))).expect("a write");
    write();
    if role == "idle" {
        processes::ready();
        write();
    } else {
        let inside = |tx: &rowhouse::Tx| {
            tx.execute(INSERT, (2, 0))?;
            processes::say("ready");
            assert_eq!(processes::listen(), "go");
            Ok(())
        };
        database.write(inside).expect("a long write");
    }
    processes::say("done");
}

/// A home, a runtime on it in this process, and a stopped child in the given role.
fn stopped(role: &str) -> (tempfile::TempDir, Runtime, Database, Child) {
    let home = processes::folder();
    let runtime = processes::open(home.path());
    let database = runtime.database("work").expect("the domain");
    let child = Child::start(role, &[processes::text(home.path())]);
    child.wait_for("ready");
    child.stop();
    (home, runtime, database, child)
}

fn write(database: &Database, number: i64) -> rowhouse::Result<Duration> {
    let began = Instant::now();
    database.write(|tx| tx.execute(INSERT, (9, number)))?;
    Ok(began.elapsed())
}

fn rows(database: &Database, job: i64) -> i64 {
    let began = Instant::now();
    let count = database
        .read(|at| at.row("SELECT count(*) FROM item WHERE job = ?1", [job], |row| row.get(0)))
        .expect("a read");
    assert!(began.elapsed() < SLACK, "a read took {:?}", began.elapsed());
    count
}

#[test]
fn a_stopped_idle_process_is_not_noticed() {
    let _alone = alone();
    let (_home, _runtime, database, mut child) = stopped("idle");
    let worst = (0..50).map(|number| write(&database, number).expect("a write")).max();
    println!("idle: worst wait {worst:?}");
    assert!(worst < Some(SLACK));
    assert_eq!(database.stats().turns_late, 0);
    assert_eq!(rows(&database, 9), 50);
    child.go_on();
    child.tell("go");
    child.wait_for("done");
    assert_eq!(rows(&database, 1), 2);
    child.finish();
}

/// The lobby: a lock of the open file description on the first byte.
fn lock_first_byte(file: &File) {
    // SAFETY: plain numbers, of which all zeros are a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_whence, lock.l_len) = (libc::F_WRLCK as i16, libc::SEEK_SET as i16, 1);
    // SAFETY: the descriptor is open; the command reads one `flock`.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) }, 0);
}

#[test]
fn a_stopped_process_loses_its_turn() {
    let _alone = alone();
    loses_its_turn("room");
}

#[test]
fn a_process_stopped_in_line_loses_its_place() {
    let _alone = alone();
    loses_its_turn("lobby");
}

fn loses_its_turn(role: &str) {
    let (_home, _runtime, database, mut child) = stopped(role);
    let waits: Vec<_> = (0..50).map(|number| write(&database, number).expect("a write")).collect();
    let (first, later) = (waits[0], waits[1..].iter().max().expect("more writes"));
    println!("{role} held: first wait {first:?}, worst later {later:?}");
    let turn_wait = Limits::default().turn_wait;
    assert!(first < turn_wait + SLACK, "the first waited {first:?}");
    assert!(*later < SLACK, "a later one waited {later:?}");
    assert!(database.stats().turns_late > 0);
    assert_eq!(rows(&database, 9), 50);

    child.go_on();
    child.tell("go");
    child.finish();
    println!("{role} free: a direct commit after {} writes", direct_again(&database));
}

/// Writes until a lone caller commits directly again, which it only does with a turn and when nobody is counted as
/// waiting; answers how many writes that took.
fn direct_again(database: &Database) -> i64 {
    let before = database.stats().direct_commits;
    let until = Instant::now() + Duration::from_secs(30);
    let mut writes = 0;
    while database.stats().direct_commits == before {
        assert!(Instant::now() < until, "no direct commit any more: {:?}", database.stats());
        writes += 1;
        write(database, 100 + writes).expect("a write");
    }
    writes
}

#[test]
fn a_process_stopped_inside_a_job_is_named() {
    let _alone = alone();
    let (home, _runtime, database, mut child) = stopped("job");
    let deadline = Duration::from_millis(400);
    let bounded = database.clone().within(deadline);
    let began = Instant::now();
    let errors = [
        write(&bounded, 0).expect_err("the lock is held"),
        bounded
            .submit(|tx| tx.execute(INSERT, (9, 1)))
            .and_then(rowhouse::Ticket::wait)
            .expect_err("the lock is held"),
    ];
    let took = began.elapsed();
    println!("write lock held: {}", errors[0]);
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        let holder = error.holder().expect("the holder is named");
        assert_eq!(i64::from(holder.pid), i64::from(child.pid()));
        let own = std::env::current_exe().expect("this binary");
        assert_eq!(Some(&*holder.command), own.file_name().and_then(|name| name.to_str()));
        assert_eq!(holder.label.as_deref(), Some(LABEL));
        assert!(holder.stopped, "{holder:?}");
        assert!(error.retry_after().is_some());
    }
    assert!(took >= 2 * deadline && took < 2 * deadline + SLACK, "two deadlines took {took:?}");
    assert_eq!(rows(&database, 9), 0, "what was refused was not done");
    assert_eq!(rows(&database, 2), 0, "nor is the open job's change seen");

    // Callers that give up at the moment in which the writer does leave nothing behind.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let hurried = database.clone().within(Duration::from_millis(2));
                for number in 0..100 {
                    let ticket = hurried.submit(move |tx| tx.execute(INSERT, (8, number))).expect("queued");
                    ticket.wait().expect_err("the lock is held");
                }
            });
        }
    });

    // A process that starts now is not held up.
    let starting = Child::start("look", &[processes::text(home.path())]);
    let took = starting.wait_for("done").parse().map(Duration::from_millis).expect("milliseconds");
    println!("write lock held: a start and a read took {took:?}");
    assert!(took < 2 * SLACK, "a start took {took:?}");
    starting.finish();

    child.go_on();
    let waiting = database.submit(|tx| tx.execute(INSERT, (9, 2))).expect("queued");
    child.tell("go");
    child.wait_for("done");
    waiting.wait().expect("everything goes on");
    write(&database, 3).expect("everything goes on");
    assert_eq!((rows(&database, 2), rows(&database, 8), rows(&database, 9)), (1, 0, 2));
    direct_again(&database);
    child.finish();
}

#[test]
fn a_deadline_in_the_queue_after_a_lock_was_free_again_is_no_busy() {
    let _alone = alone();
    let (_home, _runtime, database, mut child) = stopped("job");
    let waiting = database.submit(|tx| tx.execute(INSERT, (9, 0))).expect("queued");
    // The writer has looked at the lock and found it taken.
    while database.stats().busy_waits == 0 {
        std::thread::yield_now();
    }
    child.go_on();
    child.tell("go");
    child.wait_for("done");
    waiting.wait().expect("everything goes on");

    // Now this process's own job is in the way: that is a deadline in the queue, and no holder is to be named.
    let (sender, inside) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Mutex::new(released);
    let long = database
        .submit(move |tx| {
            sender.send(()).expect("the test listens");
            released.lock().expect("one job").recv().expect("the test speaks");
            tx.execute(INSERT, (9, 2))
        })
        .expect("queued");
    inside.recv().expect("the job runs");
    let error =
        write(&database.clone().within(Duration::from_millis(100)), 3).expect_err("the writer is in use");
    release.send(()).expect("the job waits");
    long.wait().expect("a long write");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    child.finish();
}

#[test]
fn closing_does_not_wait_for_a_stopped_process() {
    let _alone = alone();
    let (_home, runtime, database, child) = stopped("job");
    let tickets: Vec<_> = (0..5)
        .map(|number| database.submit(move |tx| tx.execute(INSERT, (9, number))).expect("queued"))
        .collect();
    let wait = Duration::from_millis(300);
    let began = Instant::now();
    let report = runtime.close(wait).remove("work").expect("a report");
    let took = began.elapsed();
    println!("write lock held: closed in {took:?}: {report:?}");
    assert!(took < wait + SLACK, "closing took {took:?}");
    assert_eq!(report.left, 5);
    for ticket in tickets {
        let error = ticket.wait().expect_err("the lock is held");
        assert!(matches!(error.kind(), ErrorKind::Busy | ErrorKind::Closed), "{error}");
    }
    assert_eq!(write(&database, 9).expect_err("closed").kind(), ErrorKind::Closed);
    drop(child);
}

#[test]
fn a_process_stopped_while_it_creates_a_database_is_named() {
    let _alone = alone();
    let home = processes::folder();
    std::fs::create_dir(home.path().join("locks")).expect("a folder");
    let child = Child::start("init", &[processes::text(home.path())]);
    child.wait_for("ready");
    child.stop();
    let mut limits = Limits::default();
    limits.deadline = Duration::from_millis(400);
    let open = || {
        let work = Domain::new("work").migrations(processes::SCHEMA);
        Runtime::builder(Home::at(home.path())).domain(work).limits(limits.clone()).open()
    };
    let began = Instant::now();
    let error = open().expect_err("somebody else is creating it");
    assert!(began.elapsed() < limits.deadline + SLACK, "the open took {:?}", began.elapsed());
    println!("lock of creation held: {error}");
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    let holder = error.holder().expect("the holder is named");
    assert!(holder.stopped && i64::from(holder.pid) == i64::from(child.pid()), "{holder:?}");
    drop(child);
    let runtime = open().expect("its lock ended with it");
    write(&runtime.database("work").expect("the domain"), 0).expect("a write");
}
