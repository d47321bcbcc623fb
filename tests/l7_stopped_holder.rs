//! A process stopped at any instant: others start at once and commit, or learn which process it is.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![cfg(target_os = "linux")]

mod processes;

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use processes::{Child, Numbers};
use rowhouse::{ErrorKind, Holder, Home, RuntimeDbRegistry};

const INSERT: &str =
    "INSERT INTO item(job, part, body) VALUES (?1, ?2, 'a line of text that fills a page soon')";
/// How long the others try.
const DEADLINE: Duration = Duration::from_millis(600);
/// The promise for a start.
const START: Duration = Duration::from_secs(1);
/// Looks at the lock between two stops.
const LOOKS: u64 = 20;

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [role, home] = &arguments[..] else { panic!("a role and a home: {arguments:?}") };
    let home: &Path = home.as_ref();
    match &role[..] {
        "busy" => keep_busy(home),
        "start" => start_and_commit(home),
        other => panic!("no such role: {other}"),
    }
}

/// Writes, and rests about three times as long, until it is killed.
fn keep_busy(home: &Path) {
    let runtime = processes::open(home);
    let database = runtime.database("work").expect("the domain").label("import");
    processes::say("ready");
    for number in 0.. {
        let began = Instant::now();
        let job = |tx: &rowhouse::Tx| {
            for part in 0..20 {
                tx.execute(INSERT, (number, part))?;
            }
            Ok(())
        };
        database.write(job).expect("a write");
        rest(3 * began.elapsed().min(Duration::from_millis(10)));
    }
}

/// Lets time pass; nothing is waited for.
fn rest(time: Duration) {
    let (_keep, never) = channel::<()>();
    let _ = never.recv_timeout(time);
}

/// What every other process does: open, and commit one row.
fn start_and_commit(home: &Path) {
    let began = Instant::now();
    let runtime = processes::open(home);
    let opened = began.elapsed().as_millis();
    let database = runtime.database("work").expect("the domain").within(DEADLINE);
    match database.write(|tx| tx.execute(INSERT, (-1, 0))) {
        Ok(_) => processes::say(&format!("fine {opened}")),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
            processes::say(&format!("busy {opened} {error}"));
        }
    }
}

/// One glance at the table of locks. `holder` would look twice where it finds nobody, and so find somebody too often.
fn has_write_lock(pid: i32) -> bool {
    let table = std::fs::read_to_string("/proc/locks").expect("the table of locks");
    table.lines().any(|line| line.contains(&format!(" WRITE {pid} ")) && line.ends_with(" 120 120"))
}

/// What a plain connection with a busy timeout is told.
fn plain_failure(home: &Path) -> String {
    let connection = processes::plain(&processes::file(home));
    connection.busy_timeout(Duration::from_millis(20)).expect("a timeout");
    connection.execute_batch("BEGIN IMMEDIATE").expect_err("the lock is held").to_string()
}

/// Stopped at any instant, a busy process is in nobody's way at the start, and in the way of a commit only when it has
/// the write lock at that instant: no more often than the measured share of time in which it has it (times 1.5), and
/// then each failure names its pid, its command and "stopped".
///
/// Scale: 60 instants (`ROWHOUSE_TEST_ROUNDS` for 1,000), a new process at each; the share from 20 looks at the lock
/// before each.
/// Control: at the same instants a plain connection with a busy timeout fails with "database is locked", and no name.
#[test]
fn l7_a_process_stopped_at_any_instant_is_passed_or_named() {
    let folder = processes::folder();
    let home = folder.path();
    let registry = RuntimeDbRegistry::new(&Home::at(home));
    let holder = || -> Option<Holder> { registry.holder("work").expect("a look") };
    let busy = Child::start("busy", &[processes::text(home)]);
    busy.wait_for("ready");
    // With fewer, the lock may never be hit.
    let rounds = processes::rounds(60).max(30);
    let mut numbers = Numbers::new(7);
    let (mut held, mut failed, mut slowest) = (0_u64, 0_u64, Duration::ZERO);
    for _ in 0..rounds {
        for _ in 0..LOOKS {
            rest(Duration::from_micros(numbers.below(3_000)));
            held += u64::from(has_write_lock(busy.pid()));
        }
        rest(Duration::from_micros(numbers.below(3_000)));
        busy.stop();
        let in_the_way = holder();

        let other = Child::start("start", &[processes::text(home)]);
        let line = other.line().expect("it tells how it went");
        other.finish();
        let (outcome, rest_of_line) = line.split_once(' ').expect("an outcome");
        let (opened, error) = rest_of_line.split_once(' ').unwrap_or((rest_of_line, ""));
        slowest = slowest.max(Duration::from_millis(opened.parse().expect("milliseconds")));
        assert_eq!(outcome == "busy", in_the_way.is_some(), "{line}; holder: {in_the_way:?}");
        if let Some(holder) = in_the_way {
            failed += 1;
            assert!(holder.stopped && i64::from(holder.pid) == i64::from(busy.pid()), "{holder:?}");
            for part in [&format!("pid {}", holder.pid), &holder.command, "stopped"] {
                assert!(error.contains(part), "{part} is not in: {error}");
            }
            assert_eq!(plain_failure(home), "database is locked");
        }
        busy.go_on();
    }
    let share = held as f64 / (rounds * LOOKS) as f64;
    println!(
        "{failed} of {rounds} failed; the lock was held {share:.3} of the time; slowest start {slowest:?}"
    );
    assert!(slowest < START, "a start took {slowest:?}");
    assert!(failed > 0, "the control was never run: the process is not busy enough");
    // A few dozen instants hit a share only roughly: three standard deviations are chance, and vanish with many rounds.
    let expected = share * rounds as f64;
    let chance = 3.0 * (expected * (1.0 - share)).sqrt();
    assert!((failed as f64) <= 1.5 * expected + chance, "{failed} failed, {expected:.1} expected");
}
