//! A process killed at any instant loses no acknowledged row and leaves no half job.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use processes::{Child, Numbers};
use rowhouse::{Database, Result, Tx};

const INSERT: &str = "INSERT INTO item(job, part, body) VALUES (?1, ?2, 'x')";
/// Threads that write, and as many that submit.
const THREADS: i64 = 3;

/// A job writes this many rows.
fn parts(job: i64) -> i64 {
    1 + job % 4
}

fn insert(tx: &Tx, job: i64) -> Result<()> {
    for part in 0..parts(job) {
        tx.execute(INSERT, (job, part))?;
    }
    Ok(())
}

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [_, home, round] = &arguments[..] else { panic!("three arguments: {arguments:?}") };
    let round: i64 = round.parse().expect("a number");
    let runtime = processes::open(home.as_ref());
    let database = runtime.database("work").expect("the domain");
    processes::ready();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (writing, submitting) = (&database, &database);
            scope.spawn(move || write(writing, (2 * thread + round * 2 * THREADS) * 1_000_000));
            scope.spawn(move || submit(submitting, (2 * thread + 1 + round * 2 * THREADS) * 1_000_000));
        }
    });
}

/// Writes until the end, which is a kill.
fn write(database: &Database, first: i64) {
    for job in first.. {
        database.write(|tx| insert(tx, job)).expect("a write");
        processes::say(&format!("ack {job}"));
    }
}

/// The same through tickets, sixteen under way at a time.
fn submit(database: &Database, first: i64) {
    for sixteen in (first..).step_by(16) {
        let tickets: Vec<_> = (sixteen..sixteen + 16)
            .map(|job| (job, database.submit(move |tx| insert(tx, job)).expect("queued")))
            .collect();
        for (job, ticket) in tickets {
            ticket.wait().expect("a write");
            processes::say(&format!("ack {job}"));
        }
    }
}

/// Lets a child write, kills it after some acknowledgements and a moment; answers all that it acknowledged.
fn killed_round(home: &Path, round: u64, numbers: &mut Numbers) -> Vec<i64> {
    let mut child = Child::start("write", &[processes::text(home), &round.to_string()]);
    processes::start_together(std::slice::from_mut(&mut child));
    let job = |line: String| line.strip_prefix("ack ")?.parse::<i64>().ok();
    let mut acknowledged = Vec::new();
    for _ in 0..numbers.below(300) {
        acknowledged.extend(child.line().and_then(job));
    }
    let until = Instant::now() + Duration::from_micros(numbers.below(3000));
    while let Some(line) = child.line_by(until) {
        acknowledged.extend(job(line));
    }
    child.kill();
    while let Some(line) = child.line() {
        acknowledged.extend(job(line));
    }
    acknowledged
}

/// A kill proves nothing about power cuts: the kernel still has every page that was written. What it does prove is
/// that acknowledging comes after committing, and that nothing is left in the way of the next process.
#[test]
fn kill_in_mid_batch() {
    let home = processes::folder();
    drop(processes::open(home.path()));
    let mut numbers = Numbers::new(20_250);
    let mut acknowledged = BTreeSet::new();
    for round in 0..processes::rounds(10) {
        acknowledged.extend(killed_round(home.path(), round, &mut numbers));

        // Warm: whoever holds the lock file of creation and migration is not waited for.
        let init = File::open(home.path().join("locks/work.init")).expect("the lock file");
        init.lock().expect("nobody else holds it");
        let began = Instant::now();
        let runtime = processes::open(home.path());
        let opened = began.elapsed();
        drop(init);
        let database = runtime.database("work").expect("the domain");
        let found: BTreeMap<i64, i64> = database
            .read(|at| {
                at.rows("SELECT job, count(*) FROM item GROUP BY job", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
            })
            .expect("a read")
            .into_iter()
            .collect();
        for (job, count) in &found {
            assert_eq!(*count, parts(*job), "round {round}: job {job} is there in part");
        }
        for job in &acknowledged {
            assert!(found.contains_key(job), "round {round}: acknowledged job {job} is lost");
        }
        database.write(|tx| tx.execute("UPDATE counter SET n = n + 1", [])).expect("the next write");
        drop((database, runtime));
        assert_eq!(processes::integrity(&processes::file(home.path())), "ok", "round {round}");
        assert!(opened < Duration::from_secs(5), "round {round}: opened in {opened:?}");
    }
    println!("{} acknowledged jobs, all there", acknowledged.len());
    assert!(!acknowledged.is_empty());
}
