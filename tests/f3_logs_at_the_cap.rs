//! A log at its cap is read as quickly as a small one.
//!
//! In a file of its own: what statements cost is counted for the whole process.
#![cfg(feature = "agent")]

mod log_rows;

use std::time::{Duration, Instant};

use log_rows::*;
use rowhouse::sql::{Session, StatementCost, statement_costs};
use rowhouse::stores::logs::{BYTE_BUDGET, ROW_BUDGET};
use rowhouse::stores::{Direction, FollowFrom, LogFormat, LogLevel, LogQuery, Logs};
use rowhouse::{Database, ErrorKind};

/// Rows of the small log: more than a page looks at.
const FEW: i64 = 25_000;

/// What a row takes in the file, with its entry in the index.
const ROW: i64 = 320;

/// What looking at one row may cost, in steps of SQLite's virtual machine.
const STEPS_A_ROW: u64 = 60;

/// What a page costs beside its rows: binary searches, windows, the ends of the table.
const STEPS_A_PAGE: u64 = 20_000;

/// Far more than 50 ms: this runs without optimisation, beside whatever else loads the machine.
const LAX: Duration = Duration::from_secs(5);

/// One row a second. Threads take turns, some dozens at a time; the first one has its rows at the beginning.
fn made(number: i64) -> Event {
    let mut made = event(
        number * SECOND,
        format!(
            "request {number} of a client took longer than expected and was tried again; {:0>120}",
            number % 977
        ),
    )
    .target(["app", "app::db", "hyper::client", "web::tls"][(number % 4) as usize])
    .level(if number % 1_000 == 7 { LogLevel::Error } else { LogLevel::Info })
    .process(if number < 1_000 { "the first" } else { "another" });
    made.module = Some("app::requests".to_owned());
    made.file = Some("src/requests.rs".to_owned());
    made.thread = match number {
        ..200 => Some(THREAD.to_owned()),
        _ if number % 3 == 0 => None,
        // As many rows to each, however large the log is.
        _ => Some(thread(number / FEW * 100 + number % 40 + 10)),
    };
    if number == 100 {
        made = made.target("needle").fields(serde_json::json!({"where": "haystack"}));
        (made.module, made.file) = (Some("needle".to_owned()), Some("needle.rs".to_owned()));
    }
    made
}

fn thread(number: i64) -> String {
    format!("019cadf1-7a5e-7b04-8f21-{number:012}")
}

/// Adds rows until there are so many, or the log is at its cap; answers how many there are.
fn fill(database: &Database, rows: i64) -> i64 {
    let mut there: i64 =
        database.read(|at| at.row("SELECT count(*) FROM log", [], |row| row.get(0))).expect("read");
    while there < rows {
        let next = (there + 5_000).min(rows);
        let events: Vec<_> = (there..next).map(made).collect();
        let full =
            database.read(|at| at.row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))).expect("read");
        if full * 4096 > 186 << 20 {
            break;
        }
        write(database, &events);
        there = next;
    }
    there
}

/// A way to read, with its name.
type Way = (&'static str, Box<dyn Fn(&Logs)>);

/// Every way to read that is shipped, at its dearest: what is looked for is rare, far away, or not there.
fn shipped(rows: i64) -> Vec<Way> {
    let recent = LogQuery::recent;
    let middle = rows / 2 * SECOND;
    // Of the newest threads that have all their rows.
    let of = |number: i64| thread((rows / FEW - 1) * 100 + number);
    let queries = [
        ("recent", recent().limit(1_000)),
        ("oldest first", recent().direction(Direction::Ascending).limit(1_000)),
        ("level", recent().level(LogLevel::Error).limit(1_000)),
        ("time range", recent().since(middle).until(middle + 600 * SECOND).limit(1_000)),
        ("an early range", recent().until(500 * SECOND)),
        ("a late range", recent().since(rows * 2 * SECOND)),
        ("target", recent().target("needle")),
        ("many targets", recent().targets((0..10_000).map(|n| format!("needle{n}")))),
        ("module", recent().module("needle")),
        ("file", recent().file("needle.rs")),
        ("no thread", recent().threadless().level(LogLevel::Error)),
        ("process", recent().process("the first")),
        ("text", recent().text("haystack")),
        ("text that is not there", recent().text("nowhere").direction(Direction::Ascending)),
        ("thread", recent().thread(of(11)).limit(1_000)),
        ("a thread of long ago", recent().thread(THREAD)),
        ("a thread, filtered", recent().thread(of(11)).target("needle")),
        ("threads", recent().threads((10..18).map(of)).level(LogLevel::Error)),
        ("many threads", recent().threads((1_000..101_000).map(thread))),
        (
            "everything",
            recent().since(0).target("app").module("app").file(".rs").process("another").text("EXPECTED"),
        ),
    ];
    let mut ways: Vec<Way> = Vec::new();
    for (name, query) in queries {
        ways.push((name, Box::new(move |logs| drop(logs.query(&query).expect("a page")))));
    }
    ways.push(("tail", Box::new(|logs| drop(logs.tail(&LogQuery::recent(), 100).expect("rows")))));
    ways.push(("stats", Box::new(|logs| assert_ne!(logs.stats().expect("stats").rows, 0))));
    ways.push((
        "the first rows of an export",
        Box::new(|logs| {
            let rows = logs.rows(&LogQuery::recent().direction(Direction::Ascending)).expect("rows");
            assert_eq!(rows.take(100).count(), 100);
        }),
    ));
    ways.push((
        "follow",
        Box::new(|logs| {
            let follow = logs.follow(&LogQuery::recent().level(LogLevel::Error), FollowFrom::Newest(5));
            assert_eq!(follow.expect("it begins").wait(Duration::ZERO).expect("it is read").len(), 5);
        }),
    ));
    ways.push((
        "feedback",
        Box::new(|logs| {
            let told = logs.feedback(OTHER, LogFormat::JsonLines, &mut Vec::new()).expect("a bundle");
            assert_eq!(told.written.rows, 20);
        }),
    ));
    ways.push((
        "feedback on nothing",
        Box::new(|logs| {
            let none = logs.feedback(&thread(999_999), LogFormat::JsonLines, &mut Vec::new());
            assert_eq!(none.expect_err("none").kind(), ErrorKind::NotFound);
        }),
    ));
    ways
}

/// The last rows: of a process that has just begun, some of them of a thread.
fn begin_a_process(database: &Database, after: i64) {
    let ms = after * 1_000;
    let process = format!("{:08x}-{:04x}-7000-8000-{ms:012x}", ms >> 16, ms & 0xffff);
    let row = |n| event((after + n) * SECOND, "begun").process(&process);
    let events: Vec<_> = (0..20).map(|n| if n % 2 == 0 { row(n) } else { row(n).thread(OTHER) }).collect();
    delete(database, &format!("thread_id = '{OTHER}'"));
    write(database, &events);
}

struct Cost {
    name: &'static str,
    steps: u64,
    rows: u64,
    took: Duration,
}

fn cost_of(name: &'static str, read: &dyn Fn(&Logs), logs: &Logs) -> Cost {
    read(logs);
    let started = Instant::now();
    read(logs);
    let took = started.elapsed();
    let ((), costs) = statement_costs(|| read(logs));
    assert!(!costs.is_empty(), "{name}");
    for StatementCost { sql, full_scan_steps, sorts, automatic_index_rows, .. } in &costs {
        assert_eq!((*full_scan_steps, *sorts, *automatic_index_rows), (0, 0, 0), "{name}: {sql}");
    }
    let sum = |of: fn(&StatementCost) -> u64| costs.iter().map(of).sum();
    Cost { name, steps: sum(|cost| cost.vm_steps), rows: sum(|cost| cost.rows), took }
}

/// Whatever is asked of the log, a page looks at the rows of its budget and no more, so a log at its cap costs no more
/// than one that a page sees the whole of; no statement scans the table, sorts, or makes an index of its own.
///
/// Scale: 64 MiB of rows (200,000); `ROWHOUSE_TEST_LOG_MIB` for more, up to the cap of 256 MiB with its write-ahead log.
///
/// Control: `count(*)` and `LIKE` over the table, in the same two logs, scan all of it: their cost grows as the log does.
#[test]
fn f3_every_query_of_a_log_at_its_cap_looks_at_no_more_than_its_budget() {
    let mebibytes: i64 = std::env::var("ROWHOUSE_TEST_LOG_MIB").map_or(64, |text| text.parse().expect("MiB"));
    let folder = tempfile::tempdir().expect("a folder");
    let (_runtime, database, logs) = open(folder.path());
    let few = fill(&database, FEW);
    begin_a_process(&database, few);
    let small: Vec<_> = shipped(few).iter().map(|(name, read)| cost_of(name, read, &logs)).collect();
    let scans = [
        "SELECT count(*) AS n FROM log WHERE level >= $1",
        "SELECT count(*) AS n FROM log WHERE message LIKE $1",
    ];
    let scan = |sql: &str, value: rowhouse::sql::Value| {
        let started = Instant::now();
        let ((), costs) =
            statement_costs(|| drop(database.read(|at| at.query(sql, &[value])).expect("counted")));
        (costs[0].vm_steps, costs[0].full_scan_steps, started.elapsed())
    };
    let control = || [scan(scans[0], 1.into()), scan(scans[1], "%haystack%".into())];
    let small_scans = control();

    let many = fill(&database, (mebibytes << 20) / ROW);
    assert!(many >= 4 * few, "{many} rows");
    begin_a_process(&database, many);
    for ((name, read), before) in shipped(many).iter().zip(&small) {
        let cost = cost_of(name, read, &logs);
        println!(
            "{name:30} {:>9} steps {:>6} rows {:>6.1} ms; of {few} rows {:>9} steps {:>6.1} ms",
            cost.steps,
            cost.rows,
            cost.took.as_secs_f64() * 1e3,
            before.steps,
            before.took.as_secs_f64() * 1e3,
        );
        assert!(cost.steps <= ROW_BUDGET * STEPS_A_ROW + STEPS_A_PAGE, "{}: {} steps", cost.name, cost.steps);
        assert!(cost.steps <= before.steps * 3 / 2 + STEPS_A_PAGE, "{}: {} steps", cost.name, cost.steps);
        assert!(cost.rows <= ROW_BUDGET + 2_048 + 1_000, "{}: {} rows", cost.name, cost.rows);
        assert!(cost.took < LAX, "{}: {:?}", cost.name, cost.took);
    }
    assert!(BYTE_BUDGET < (mebibytes as u64) << 20, "a page is a part of it");
    for ((before, scanned_before, _), (after, scanned, took)) in small_scans.into_iter().zip(control()) {
        println!(
            "control: {before} steps over {scanned_before} rows, {after} steps over {scanned} rows, {took:?}"
        );
        assert!(after > before * (many as u64 / few as u64) * 9 / 10 && scanned + 1 >= many as u64);
    }
}
