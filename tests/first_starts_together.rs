//! Many processes that start at once on an empty home all become ready, and make each database once.

mod processes;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use processes::{Child, SCHEMA};
use rowhouse::{Domain, Home, Runtime};

const PROCESSES: usize = 32;
/// The control ends at its first failures; it would fail the test after this many rounds without one.
const MOST_PLAIN_ROUNDS: usize = 400;
const NAMES: [&str; 5] = ["device_keys", "goals", "logs", "state", "work"];

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match &arguments[..] {
        [role, home] if role == "start" => start(home.as_ref()),
        [role, folder] if role == "plain" => plain_starts(folder.as_ref()),
        _ => panic!("a role and a folder: {arguments:?}"),
    }
}

/// Opens the four built-in domains and its own one, and writes a row into that.
fn start(home: &Path) {
    processes::ready();
    let began = Instant::now();
    let opened = Runtime::builder(Home::at(home))
        .agent_domains()
        .domain(Domain::new("work").migrations(SCHEMA))
        .open()
        .and_then(|runtime| {
            let took = began.elapsed();
            let process = std::process::id();
            let row = "INSERT INTO item(job, part) VALUES (?1, 0)";
            runtime.database("work")?.write(|tx| tx.execute(row, [process]))?;
            // Best effort, so attached after ready: a read waits for it.
            let stamps = NAMES.map(|name| {
                let stamp = "SELECT user_version FROM pragma_user_version";
                let stamp: i64 = runtime.database(name)?.read(|at| at.row(stamp, [], |row| row.get(0)))?;
                let inode =
                    std::fs::metadata(home.join(format!("{name}.sqlite"))).map_or(0, |found| found.ino());
                Ok(format!("{name}:{inode}:{stamp}"))
            });
            Ok((took, stamps.into_iter().collect::<rowhouse::Result<Vec<_>>>()?))
        });
    match opened {
        Ok((took, stamps)) => {
            processes::say(&format!("fine {} {}", took.as_micros(), stamps.join(" ")));
        }
        Err(error) => processes::say(&format!("failed {error:?}")),
    }
}

/// One round: all at once on a fresh home. Answers the failures, and the slowest open.
fn round() -> (Vec<String>, Duration) {
    let home = processes::folder();
    let mut children: Vec<_> =
        (0..PROCESSES).map(|_| Child::start("start", &[processes::text(home.path())])).collect();
    processes::start_together(&mut children);
    let (mut failures, mut slowest, mut stamps) = (Vec::new(), Duration::ZERO, BTreeSet::new());
    for child in &children {
        let line = child.line().expect("an answer");
        let Some(found) = line.strip_prefix("fine ") else {
            failures.push(line);
            continue;
        };
        let mut words = found.split(' ');
        let took = words.next().and_then(|word| word.parse().ok()).expect("microseconds");
        slowest = slowest.max(Duration::from_micros(took));
        stamps.extend(words.map(str::to_owned));
    }
    children.into_iter().for_each(Child::finish);
    // Made once: every process found the same file with the same random stamp.
    assert_eq!(stamps.len(), NAMES.len(), "{stamps:?}");
    for name in NAMES {
        let database = processes::plain(&home.path().join(format!("{name}.sqlite")));
        let described: i64 = database
            .query_row("SELECT count(*) FROM rowhouse_meta WHERE domain = ?1", [name], |row| row.get(0))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(described, 1, "{name}");
    }
    let work = processes::plain(&home.path().join("work.sqlite"));
    let rows = |sql: &str| work.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a count");
    assert_eq!(rows("SELECT count(DISTINCT job) FROM item") as usize, PROCESSES - failures.len());
    assert_eq!(rows("SELECT count(*) FROM refinery_schema_history"), 1, "the migration is recorded once");
    assert_eq!(rows("SELECT count(*) FROM counter"), 1, "the migration ran once");
    (failures, slowest)
}

/// As programs do it by hand: WAL and the first table without a lock file, the busy timeout last.
fn plain_starts(folder: &Path) {
    processes::say("ready");
    loop {
        let round = processes::listen();
        if round.is_empty() {
            return;
        }
        let connection = processes::plain(&folder.join(round));
        let made = connection.execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA busy_timeout=5000; CREATE TABLE IF NOT EXISTS t(x);",
        );
        processes::say(if made.is_ok() { "fine" } else { "failed" });
    }
}

/// Rounds until enough failed, and how many did.
fn plain_failures() -> (usize, usize) {
    let folder = processes::folder();
    let mut children: Vec<_> =
        (0..PROCESSES).map(|_| Child::start("plain", &[processes::text(folder.path())])).collect();
    for child in &children {
        child.wait_for("ready");
    }
    let (mut rounds, mut failures) = (0, 0);
    while failures < 5 && rounds < MOST_PLAIN_ROUNDS {
        for child in &mut children {
            child.tell(&format!("{rounds}.sqlite"));
        }
        failures +=
            children.iter().filter(|child| child.line().expect("an answer").contains("failed")).count();
        rounds += 1;
    }
    (rounds, failures)
}

/// One process creates and migrates under a lock file, the others look again and skip: no start fails.
///
/// Scale: 32 processes, 3 rounds (`scripts/first_starts.sh` runs 100).
/// Control: plain connections that switch to WAL without the lock file fail within a few rounds.
#[test]
fn s2_first_starts_together() {
    let (mut failures, mut slowest) = (Vec::new(), Duration::ZERO);
    let rounds = processes::rounds(3);
    for _ in 0..rounds {
        let (failed, slow) = round();
        failures.extend(failed);
        slowest = slowest.max(slow);
    }
    let (plain_rounds, control) = plain_failures();
    println!("{rounds} rounds of {PROCESSES}: {} failures, slowest open {slowest:?}", failures.len());
    println!("plain: {control} failures in {plain_rounds} rounds");
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(control > 0, "the control never fails: the starts do not collide");
}
