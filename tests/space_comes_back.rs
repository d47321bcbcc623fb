//! Space that deleted rows leave behind goes back to the disk, in steps that nobody notices.

mod processes;

use std::path::Path;
use std::time::{Duration, Instant};

use processes::Child;
use rowhouse::rusqlite::Connection;
use rowhouse::{Database, Stats};

const MIB: u64 = 1 << 20;
/// What every row of the fill holds, beside its key.
const BODY: u64 = 3000;
/// Processes that write meanwhile, and callers in each.
const WRITERS: usize = 4;
const CALLERS: usize = 2;
/// Longer than anything here takes.
const LONG: Duration = Duration::from_mins(10);

/// How large the database of a test is, in MiB: `default`, or `ROWHOUSE_TEST_MB`.
fn mebibytes(default: u64) -> u64 {
    std::env::var("ROWHOUSE_TEST_MB").ok().map_or(default, |text| text.parse().expect("a number of MiB"))
}

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", home] => write_until_told(home.as_ref()),
        ["fill", home, mib] => {
            let runtime = processes::open(home.as_ref());
            fill_and_prune(&runtime.database("work").expect("the domain"), mib.parse().expect("a number"));
        }
        other => panic!("no such role: {other:?}"),
    }
}

/// Fills a table and deletes the oldest nine tenths, as a table of log entries is pruned.
fn fill_and_prune(database: &Database, mib: u64) {
    let rows = (mib * MIB / 4096).cast_signed();
    for first in (0..rows).step_by(1000) {
        let last = (first + 999).min(rows - 1);
        database
            .write(|tx| {
                tx.execute(
                    "WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
                     INSERT INTO item(job, part, body) SELECT i, 0, randomblob(?3) FROM n",
                    (first, last, BODY.cast_signed()),
                )
            })
            .expect("filled");
    }
    for first in (0..rows * 9 / 10).step_by(1000) {
        let last = (first + 1000).min(rows * 9 / 10);
        database
            .write(|tx| tx.execute("DELETE FROM item WHERE job >= ?1 AND job < ?2", (first, last)))
            .expect("pruned");
    }
}

/// The body of a child whose callers write all the time, and which says how long the longest of them waited.
fn write_until_told(home: &Path) {
    let runtime = processes::open(home);
    let database = runtime.database("work").expect("the domain");
    processes::ready();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let longest = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut longest = Duration::ZERO;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let from = Instant::now();
                        database
                            .write(|tx| tx.execute("UPDATE counter SET n = n + 1 WHERE id = 1", []))
                            .expect("written");
                        longest = longest.max(from.elapsed());
                    }
                    longest
                })
            })
            .collect();
        assert_eq!(processes::listen(), "stop");
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        callers.into_iter().map(|caller| caller.join().expect("a caller")).max()
    });
    let Stats { reclaimed_pages, reclaim_steps, reclaim_us, reclaim_longest_us, .. } = database.stats();
    let longest = longest.expect("callers").as_micros();
    processes::say(&format!(
        "longest {longest} {reclaimed_pages} {reclaim_steps} {reclaim_us} {reclaim_longest_us}"
    ));
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

fn log_of(file: &Path) -> std::path::PathBuf {
    file.with_extension("sqlite-wal")
}

/// What was seen while others wrote.
#[derive(Debug, Default)]
struct Seen {
    longest_wait: Duration,
    longest_log: u64,
    reclaimed: u64,
    steps: u64,
    mean_hold: Duration,
    longest_hold: Duration,
    took: Duration,
}

/// Runs the writers until `done`; looks at the log meanwhile.
fn beside_writers(home: &Path, mut done: impl FnMut() -> bool) -> Seen {
    let mut writers: Vec<_> = (0..WRITERS).map(|_| Child::start("write", &[processes::text(home)])).collect();
    processes::start_together(&mut writers);
    let mut seen = Seen::default();
    let from = Instant::now();
    let log = log_of(&processes::file(home));
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    while !done() {
        seen.longest_log = seen.longest_log.max(length(&log));
        assert!(from.elapsed() < LONG, "it does not end: {seen:?}");
        let _ = never.recv_timeout(Duration::from_millis(5));
    }
    seen.took = from.elapsed();
    let mut held = 0;
    for mut writer in writers {
        writer.tell("stop");
        let said = writer.wait_for("longest");
        let numbers: Vec<u64> = said.split(' ').map(|n| n.parse().expect("a number")).collect();
        let [wait, pages, steps, us, longest] = numbers[..] else { panic!("five numbers: {said}") };
        seen.longest_wait = seen.longest_wait.max(Duration::from_micros(wait));
        seen.reclaimed += pages;
        seen.steps += steps;
        held += us;
        seen.longest_hold = seen.longest_hold.max(Duration::from_micros(longest));
        writer.finish();
    }
    seen.mean_hold = Duration::from_micros(held / seen.steps.max(1));
    seen
}

#[test]
fn g3_try() {
    let folder = processes::folder();
    let home = folder.path();
    let mib = mebibytes(64);
    let child = Child::start("fill", &[processes::text(home), &mib.to_string()]);
    let t = Instant::now();
    while child.line().is_some() {}
    child.finish();
    let file = processes::file(home);
    let peak = length(&file);
    eprintln!("peak {} wal {} after {:?}", peak / MIB, length(&log_of(&file)) / MIB, t.elapsed());
    let t = Instant::now();
    let seen = beside_writers(home, || {
        if t.elapsed().as_millis() % 500 < 6 {
            eprintln!("{:?} {} {}", t.elapsed(), length(&file) / MIB, length(&log_of(&file)) / MIB);
        }
        length(&file) * 5 < peak
    });
    eprintln!("{seen:?} {}", length(&file) / MIB);
    let _: Option<Connection> = None;
}
