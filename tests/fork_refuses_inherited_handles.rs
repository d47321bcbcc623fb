//! A forked child may not use the handles it inherits, and neither that nor dropping them harms its parent.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![cfg(target_os = "linux")]

mod processes;

use std::path::Path;
use std::time::Duration;

use processes::Child;
use rowhouse::stores::logs::LogOptions;
use rowhouse::{Database, Domain, ErrorKind, Home, Runtime};

const INSERT: &str = "INSERT INTO item(job, part) VALUES (?1, 0)";

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [role, home] = &arguments[..] else { panic!("a role and a home: {arguments:?}") };
    let home: &Path = home.as_ref();
    let runtime = processes::open(home);
    let database = runtime.database("work").expect("the domain");
    insert(&database, 1).expect("a write");
    count(&database).expect("a read");
    match role.as_str() {
        "use" => uses_and_drops(home, runtime, database),
        "turn" => dies_inside_a_job(&database, true),
        "turn-untouched" => dies_inside_a_job(&database, false),
        "fresh" => opens_afresh(home, runtime, database),
        other => panic!("no role {other}"),
    }
}

fn insert(database: &Database, job: i64) -> rowhouse::Result<usize> {
    database.write(|tx| tx.execute(INSERT, [job]))
}

fn count(database: &Database) -> rowhouse::Result<i64> {
    database.read(|at| at.row("SELECT count(*) FROM item", [], |row| row.get(0)))
}

/// Forks; `child` runs in the child and answers its exit status, which ends there. Answers the child's id.
///
/// The calling process has threads, so strictly only async-signal-safe calls are allowed in the child. It was idle
/// when it forked: no lock of the allocator or of standard output was held.
fn fork(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: see above; the child leaves by `_exit` and runs no destructor of its parent's.
    match unsafe { libc::fork() } {
        -1 => panic!("no fork"),
        0 => {
            let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(99);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(answer) }
        }
        pid => {
            // What the child was given stays open in the parent.
            std::mem::forget(child);
            pid
        }
    }
}

/// Waits for a forked child; answers its exit status.
fn status_of(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(libc::WIFEXITED(status), "the child ended by a signal: {status}");
    libc::WEXITSTATUS(status)
}

/// The locks of a process, as the kernel lists them.
fn read_locks_of(pid: u32) -> Vec<String> {
    let mut locks: Vec<_> = std::fs::read_to_string("/proc/locks")
        .expect("the kernel's list")
        .lines()
        .filter(|line| line.split_ascii_whitespace().nth(4) == Some(&pid.to_string()))
        .map(|line| line.split_once(':').expect("a number").1.to_owned())
        .collect();
    locks.sort();
    locks
}

/// The same. The list is put together piece by piece while other processes come and go, and may lack one or have one twice:
/// so it is read until it says the same twice.
fn locks_of(process: u32) -> Vec<String> {
    let mut found = read_locks_of(process);
    loop {
        let again = read_locks_of(process);
        if again == found {
            return found;
        }
        found = again;
    }
}

fn uses_and_drops(home: &Path, runtime: Runtime, database: Database) {
    let own = std::process::id();
    let before = locks_of(own);
    assert!(!before.is_empty(), "an open database holds locks");
    let (their_runtime, theirs) = (runtime.clone(), database.clone());
    let child = fork(move || {
        let refused = [
            insert(&theirs, 2).map(drop),
            count(&theirs).map(drop),
            theirs.submit(|tx| tx.execute(INSERT, [3])).map(drop),
            theirs.changes().map(drop),
            theirs.reopen(),
            their_runtime.log_sink(LogOptions::default()).map(drop),
        ];
        if let Some(at) = refused.iter().position(|answer| !is_closed(answer)) {
            return 10 + at as i32;
        }
        their_runtime.close(Duration::from_secs(1));
        drop((their_runtime, theirs));
        // The last handles too: nothing is left that would keep the connections open.
        drop((runtime, database));
        0
    });
    assert_eq!(status_of(child), 0);
    assert_eq!(locks_of(own), before, "the child's end took locks of its parent");
    let runtime = processes::open(home);
    let database = runtime.database("work").expect("the domain");
    insert(&database, 4).expect("the parent goes on");
    assert_eq!(count(&database).expect("a read"), 2);
    processes::say("done");
}

fn is_closed(answer: &rowhouse::Result<()>) -> bool {
    matches!(answer, Err(error) if error.kind() == ErrorKind::Closed)
}

/// Leaves a child behind, and waits inside a job to be killed.
fn dies_inside_a_job(database: &Database, touch: bool) {
    let child = fork(|| {
        let refused = !touch || is_closed(&insert(database, 2).map(drop));
        processes::say(if refused { "child" } else { "broken" });
        // Lives until it is killed.
        loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        }
    });
    let inside = database.write(|tx| {
        tx.execute(INSERT, [5])?;
        processes::say(&format!("inside {child}"));
        processes::listen();
        Ok(())
    });
    panic!("killed before {inside:?}");
}

/// A process that is not our child, killed in the end.
struct Orphan(i32);

impl Drop for Orphan {
    fn drop(&mut self) {
        // SAFETY: a grandchild that waits for nothing else; nobody reaps it before us.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
    }
}

fn turn_ends_with_the_parent(role: &str) {
    let home = processes::folder();
    let runtime = processes::open(home.path());
    let database = runtime.database("work").expect("the domain");
    let mut parent = Child::start(role, &[processes::text(home.path())]);
    let (mut orphan, mut ready) = (None, false);
    while orphan.is_none() || !ready {
        let line = parent.line().expect("both speak");
        ready |= line == "child";
        orphan = orphan.or_else(|| line.strip_prefix("inside ")?.parse().ok().map(Orphan));
    }
    parent.kill();
    insert(&database, 6).expect("a write");
    let stats = database.stats();
    assert_eq!((stats.turns_late, stats.direct_commits), (0, 1), "the turn was free: {stats:?}");
    assert_eq!(count(&database).expect("a read"), 2, "the open job's change is gone");
    drop(orphan);
}

/// A fork may open another home, and must not open this one: SQLite keeps a list of the files that a process has
/// locked, and the fork inherits the list without the locks.
fn opens_afresh(home: &Path, runtime: Runtime, database: Database) {
    let (their_runtime, theirs) = (runtime.clone(), database.clone());
    let child = fork(move || {
        let same = || {
            let work = Domain::new("work").migrations(processes::SCHEMA);
            is_closed(&Runtime::builder(Home::at(home)).domain(work).open().map(drop))
        };
        if !same() {
            return 1;
        }
        let other = processes::open(&home.join("other"));
        let work = other.database("work").expect("the domain");
        if insert(&work, 3).is_err() || count(&work).is_err() {
            return 2;
        }
        // Old handles go while new ones live.
        drop((their_runtime, theirs, runtime, database));
        if insert(&work, 4).is_err() || count(&work).is_err() {
            return 3;
        }
        if !same() {
            return 4;
        }
        if locks_of(std::process::id()).is_empty() {
            return 5;
        }
        let closed = other.close(Duration::from_secs(10));
        if !closed["work"].in_time {
            return 6;
        }
        0
    });
    assert_eq!(status_of(child), 0);
    let runtime = processes::open(home);
    let database = runtime.database("work").expect("the domain");
    insert(&database, 5).expect("the parent goes on");
    assert_eq!(count(&database).expect("a read"), 2);
    // Closed before the fork, the home is free for the child.
    runtime.close(Duration::from_secs(10));
    let child = fork(|| {
        let runtime = processes::open(home);
        let database = runtime.database("work").expect("the domain");
        i32::from(insert(&database, 6).is_err() || locks_of(std::process::id()).is_empty())
    });
    assert_eq!(status_of(child), 0);
    processes::say("done");
}

#[test]
fn a_child_is_refused_and_harms_nothing() {
    let home = processes::folder();
    let child = Child::start("use", &[processes::text(home.path())]);
    child.wait_for("done");
    child.finish();
    assert_eq!(processes::integrity(&processes::file(home.path())), "ok");
}

#[test]
fn the_turn_ends_with_the_parent() {
    turn_ends_with_the_parent("turn");
}

#[test]
fn the_turn_ends_with_the_parent_though_the_child_never_used_a_handle() {
    turn_ends_with_the_parent("turn-untouched");
}

#[test]
fn a_child_opens_what_its_parent_has_not_open() {
    let home = processes::folder();
    let child = Child::start("fresh", &[processes::text(home.path())]);
    child.wait_for("done");
    child.finish();
    for home in [home.path(), &home.path().join("other")] {
        assert_eq!(processes::integrity(&processes::file(home)), "ok");
    }
}
