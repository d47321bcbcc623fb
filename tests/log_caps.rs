//! The logs stay within their caps: of a row, a thread, a run of a process, an age, all files, and of what is written.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod processes;

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use processes::Child;
use proptest::prelude::*;
use rowhouse::rusqlite::Connection;
use rowhouse::sql::{Session, Value};
use rowhouse::stores::logs::{LogEvent, LogLevel, LogLevels, LogOptions, LogSink, PruneOptions};
use rowhouse::{Domain, ErrorKind, Home, Runtime};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_mins(2);
const MIB: u64 = 1 << 20;
const DAY: i64 = 86_400_000_000_000;

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["idle", home] => idle(home.as_ref()),
        ["session", home] => session(home.as_ref()),
        ["plain session", file] => plain_session(file.as_ref()),
        ["storm", home, bytes, seconds] => {
            let bound = Some((bytes.parse().expect("bytes"), seconds.parse().expect("seconds")));
            storm(home.as_ref(), bound.filter(|(bytes, _)| *bytes > 0));
        }
        other => panic!("{other:?}"),
    }
}

/// Bytes that this process has given to write calls.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").expect("/proc");
    let wchar = io.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("a count");
    wchar.parse().expect("a number")
}

fn let_pass(time: Duration) {
    let (_keep, never) = channel::<()>();
    let _ = never.recv_timeout(time);
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONG, "{what} did not come");
        let_pass(Duration::from_millis(5));
    }
}

fn thread(n: u64) -> String {
    format!("019cadf1-7a5e-7b04-8f21-{n:012x}")
}

struct Place {
    sink: LogSink,
    runtime: Runtime,
    home: tempfile::TempDir,
}

fn place(logs: Domain, change: impl FnOnce(&mut LogOptions)) -> Place {
    let home = processes::folder();
    let (runtime, sink) = open(home.path(), logs, LogLevels::default(), change);
    Place { sink, runtime, home }
}

fn open(
    home: &Path,
    logs: Domain,
    levels: LogLevels,
    change: impl FnOnce(&mut LogOptions),
) -> (Runtime, LogSink) {
    let runtime = Runtime::builder(Home::at(home)).domain(logs).log_levels(levels).open().expect("opens");
    let mut options = LogOptions::default();
    change(&mut options);
    let sink = runtime.log_sink(options).expect("a sink");
    (runtime, sink)
}

impl Place {
    fn emit(&self, thread_id: Option<u64>, bytes: usize) {
        let event = LogEvent::new(LogLevel::Info, "t", "x".repeat(bytes));
        self.sink.emit(match thread_id {
            Some(n) => event.thread(&thread(n)),
            None => event,
        });
    }

    fn flush(&self) {
        self.sink.flush(LONG).expect("written");
    }

    fn numbers(&self, sql: &str, params: &[Value]) -> Vec<i64> {
        let logs = self.runtime.database("logs").expect("the domain");
        let rows = logs.read(|at| at.query(sql, params)).expect("the rows");
        rows.iter().map(|row| row.get::<Option<i64>>("n").expect("a number").unwrap_or(0)).collect()
    }

    fn number(&self, sql: &str) -> i64 {
        self.numbers(sql, &[])[0]
    }

    fn footprint(&self) -> u64 {
        footprint(&self.home.path().join("logs.sqlite"))
    }

    /// A row of this thread and age in days.
    fn insert(&self, thread_id: Option<u64>, age: i64) {
        let now = i64::try_from(
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_nanos(),
        )
        .expect("a time");
        let logs = self.runtime.database("logs").expect("the domain");
        let params = [(now - age * DAY).into(), thread_id.map(thread).into()];
        let row = "INSERT INTO log(ts, level, target, message, process_id, bytes, thread_id) \
                   VALUES ($1, 3, 't', 'old', 'p', 100, $2)";
        logs.write(|tx| Session::execute(tx, row, &params)).expect("a row");
    }
}

fn footprint(file: &Path) -> u64 {
    let length = |ending: &str| {
        let path = PathBuf::from(format!("{}{ending}", file.display()));
        std::fs::metadata(path).map_or(0, |found| found.len())
    };
    length("") + length("-wal") + length("-shm")
}

/// What the caps say about the rows, as far as the table itself knows.
fn check_caps(place: &Place, thread_bytes: i64, process_bytes: i64, row_bytes: i64) {
    for n in
        place.numbers("SELECT sum(bytes) AS n FROM log WHERE thread_id IS NOT NULL GROUP BY thread_id", &[])
    {
        assert!(n <= thread_bytes, "a thread has {n} bytes");
    }
    for n in place.numbers("SELECT sum(bytes) AS n FROM log WHERE thread_id IS NULL GROUP BY process_id", &[])
    {
        assert!(n <= process_bytes, "a run has {n} bytes");
    }
    assert!(place.number("SELECT max(bytes) AS n FROM log") <= row_bytes);
    let wrong = "SELECT count(*) AS n FROM (SELECT thread_id, sum(bytes) AS bytes FROM log \
                 WHERE thread_id IS NOT NULL GROUP BY thread_id \
                 EXCEPT SELECT thread_id, bytes FROM log_thread)";
    assert_eq!(place.number(wrong), 0, "what threads count is right");
    let gone = "SELECT count(*) AS n FROM log_thread WHERE thread_id NOT IN \
                (SELECT thread_id FROM log WHERE thread_id IS NOT NULL)";
    assert_eq!(place.number(gone), 0, "nothing is counted of threads without rows");
}

#[test]
fn a_thread_and_a_run_keep_their_newest_rows_and_rows_are_not_pushed_out_one_by_one() {
    let place = place(Domain::logs(), |options| {
        options.caps.thread_bytes = 100 << 10;
        options.caps.process_bytes = 50 << 10;
    });
    for n in 0..4000 {
        place.emit([Some(1), None][n % 2], 100);
        if n % 50 == 0 {
            place.flush();
        }
    }
    place.emit(Some(2), 100);
    place.flush();
    check_caps(&place, 100 << 10, 50 << 10, 64 << 10);
    let rows = "SELECT count(*) AS n FROM log WHERE thread_id = $1";
    let kept = place.numbers(rows, &[thread(1).into()])[0];
    // A row counts a little over 200 bytes.
    assert!((440..500).contains(&kept), "{kept} rows are kept");
    assert_eq!(place.numbers(rows, &[thread(2).into()]), [1], "others are left alone");
    let oldest = "SELECT min(id) AS n FROM log WHERE thread_id = $1";
    let oldest = place.numbers(oldest, &[thread(1).into()])[0];
    let missing = format!(
        "SELECT {} - count(*) AS n FROM log WHERE id >= {oldest} AND thread_id = '{}'",
        kept,
        thread(1)
    );
    assert_eq!(place.number(&missing), 0, "they are the newest");
    let threadless = place.number("SELECT count(*) AS n FROM log WHERE thread_id IS NULL");
    assert!((180..255).contains(&threadless), "{threadless} rows are kept of the run");
    // What went is counted.
    let stats = place.sink.stats();
    let gone = 4001 - kept.unsigned_abs() - 1 - threadless.unsigned_abs();
    assert_eq!((stats.written, stats.expired, stats.pruned), (4001, gone, 0));
}

#[test]
fn the_numbers_are_the_documented_ones() {
    let LogOptions { queue_events, queue_bytes, batch_events, batch_bytes, batch_time, .. } =
        LogOptions::default();
    assert_eq!((queue_events, queue_bytes), (16_384, 8 << 20));
    assert_eq!((batch_events, batch_bytes, batch_time), (1_024, 512 << 10, Duration::from_millis(200)));
    let LogOptions { row_bytes, caps, ring_bytes, .. } = LogOptions::default();
    assert_eq!((row_bytes, ring_bytes), (64 << 10, 512 << 10));
    assert_eq!((caps.thread_bytes, caps.process_bytes), (10 << 20, 10 << 20));
    assert_eq!(caps.age, Duration::from_hours(240));
    let place = place(Domain::logs(), |_| {});
    let indexes = "SELECT count(*) AS n FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'log'";
    assert_eq!(place.number(indexes), 1, "a second one would cost each event as much again");
}

#[test]
fn rows_above_the_largest_are_cut_and_marked() {
    let place = place(Domain::logs(), |_| {});
    place.emit(None, 4 << 20);
    place.emit(Some(1), 1000);
    place.flush();
    check_caps(&place, 10 << 20, 10 << 20, 64 << 10);
    let marked = "SELECT count(*) AS n FROM log WHERE message LIKE '%… [truncated, 4194304 bytes]'";
    assert_eq!((place.number(marked), place.sink.stats().truncated), (1, 1));
}

#[test]
fn old_rows_go_with_the_next_event_a_bounded_number_at_a_time() {
    let place = place(Domain::logs(), |_| {});
    let logs = place.runtime.database("logs").expect("the domain");
    for age in [11, 9] {
        place.insert(Some(1), age);
        let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2499) \
                    INSERT INTO log(ts, level, target, message, process_id, bytes, thread_id) \
                    SELECT ts, 3, 't', 'old', 'p', 100, thread_id FROM n, (SELECT * FROM log ORDER BY id DESC LIMIT 1)";
        logs.write(|tx| tx.execute(many, [])).expect("rows");
    }
    assert_eq!(place.number("SELECT count(*) AS n FROM log"), 5000);
    place.emit(None, 10);
    place.flush();
    until("those of eleven days go", || place.number("SELECT count(*) AS n FROM log") == 2501);
    until("that is counted", || place.sink.stats().pruned == 2500);
}

#[test]
fn rows_are_deleted_on_demand() {
    let place = place(Domain::logs(), |_| {});
    let logs = place.runtime.logs();
    for (thread_id, age) in [(Some(1), 30), (None, 12), (Some(2), 8), (Some(1), 1)] {
        for _ in 0..3 {
            place.insert(thread_id, age);
        }
    }
    let rows = || place.number("SELECT count(*) AS n FROM log");
    let mut options = PruneOptions::default();
    options.dry_run = true;
    let report = logs.prune(&options).expect("a count");
    assert_eq!((report.rows, report.bytes, rows()), (6, 600, 12));
    options.thread_id = Some(thread(1));
    assert_eq!(logs.prune(&options).expect("a count").rows, 3);
    options.dry_run = false;
    assert_eq!(logs.prune(&options).expect("deleted").rows, 3);
    options.thread_id = None;
    options.before += 3 * DAY;
    assert_eq!((logs.prune(&options).expect("deleted").rows, rows()), (6, 3));
    assert_eq!((logs.delete_thread(&thread(1).to_uppercase()).expect("deleted").rows, rows()), (3, 0));
    assert_eq!(logs.delete_thread(&thread(1)).expect("nothing").rows, 0);
    assert_eq!(logs.delete_thread("1 OR 1").expect_err("no id").kind(), ErrorKind::Invalid);

    place.emit(Some(1), 10);
    place.emit(Some(2), 10);
    place.flush();
    assert_eq!(place.number("SELECT count(*) AS n FROM log_thread"), 2);
    logs.delete_thread(&thread(1)).expect("deleted");
    check_caps(&place, 10 << 20, 10 << 20, 64 << 10);
    options.before = i64::MAX;
    assert_eq!(logs.prune(&options).expect("deleted").rows, 1);
    assert_eq!(place.number("SELECT count(*) AS n FROM log_thread"), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn caps_hold_after_any_sequence_of_events(
        steps in prop::collection::vec((prop::option::of(0_u64..4), 0_usize..3000, 0_u8..10), 1..200),
        batch in 1_usize..20,
    ) {
        let (thread_bytes, process_bytes, most) = (8 << 10, 6 << 10, MIB);
        let place = place(Domain::logs().max_bytes(most), |options| {
            options.caps.thread_bytes = thread_bytes;
            options.caps.process_bytes = process_bytes;
            options.row_bytes = 2 << 10;
            options.batch_events = batch;
            options.batch_bytes = 16 << 10;
        });
        for (thread_id, bytes, then) in steps {
            place.emit(thread_id, bytes);
            if then == 0 {
                place.flush();
                check_caps(&place, thread_bytes, process_bytes, 2 << 10);
            }
            prop_assert!(place.footprint() <= most + most / 10);
        }
        place.flush();
        check_caps(&place, thread_bytes, process_bytes, 2 << 10);
        let stats = place.sink.stats();
        prop_assert_eq!(stats.emitted, stats.written + stats.dropped);
        prop_assert_eq!(stats.dropped, 0);
        let rows = place.number("SELECT count(*) AS n FROM log").unsigned_abs();
        prop_assert_eq!(rows, stats.written - stats.expired - stats.pruned);
    }
}

/// All files of the logs together stay within their bytes at every look, whoever writes how much; the oldest rows go, and
/// the newest are there.
///
/// Scale: 200 threads that log 100 kB each, a cap of 4 MiB; more threads with `ROWHOUSE_TEST_ROUNDS` (10,000 x 5 MB: set
/// `ROWHOUSE_TEST_LOG_KB` to 5000).
/// Control: a plain table in which only each thread has a cap, of 10 MiB, takes several times the bytes.
#[test]
fn g4_many_threads_stay_within_the_bytes_of_all_files() {
    let (cap, threads) = (4 * MIB, processes::rounds(200));
    let kilobytes: u64 =
        std::env::var("ROWHOUSE_TEST_LOG_KB").map_or(100, |text| text.parse().expect("a number"));
    let place = place(Domain::logs().max_bytes(cap), |options| options.batch_bytes = 64 << 10);
    let mut most = 0;
    for n in 0..threads {
        for part in 0..kilobytes {
            place.emit(Some(n), 900);
            // The queue holds what comes while a batch is written.
            if part % 50 == 49 {
                place.flush();
            }
            if part % 10 == 0 {
                most = most.max(place.footprint());
                assert!(most <= cap + cap / 10, "{most} bytes");
            }
        }
    }
    place.flush();
    let stats = place.sink.stats();
    println!("at most {most} bytes; {stats:?}");
    assert_eq!((stats.written, stats.dropped), (threads * kilobytes, 0));
    let newest =
        place.numbers("SELECT count(*) AS n FROM log WHERE thread_id = $1", &[thread(threads - 1).into()])[0];
    assert!(newest.unsigned_abs() >= kilobytes.min(100), "the newest are there: {newest}");
    assert!(place.number("SELECT sum(bytes) AS n FROM log").unsigned_abs() > cap / 4, "the room is used");
    check_caps(&place, 10 << 20, 10 << 20, 64 << 10);

    let folder = processes::folder();
    let file = folder.path().join("plain.sqlite");
    let plain = plain_logs(&file);
    for n in 0..threads.min(200) {
        plain.execute_batch("BEGIN").expect("a transaction");
        for _ in 0..kilobytes.min(100) {
            plain
                .execute("INSERT INTO log(thread_id, message) VALUES (?1, ?2)", (thread(n), "x".repeat(900)))
                .expect("a row");
        }
        plain.execute_batch("COMMIT").expect("committed");
    }
    let grown = footprint(&file);
    println!("plain: {grown} bytes");
    assert!(grown > 3 * cap, "the control stays small: {grown}");
}

/// A table of log rows as programs make it.
fn plain_logs(file: &Path) -> Connection {
    let plain = processes::plain(file);
    plain
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
             CREATE TABLE log(id INTEGER PRIMARY KEY, thread_id TEXT, message TEXT);
             CREATE INDEX log_by_thread ON log(thread_id, id);",
        )
        .expect("a table");
    plain
}

/// A program that has logged, and then does nothing.
fn idle(home: &Path) {
    let (runtime, sink) = open(home, Domain::logs(), LogLevels::default(), |_| {});
    for n in 0..1000 {
        sink.emit(LogEvent::new(LogLevel::Info, "t", format!("event {n}")));
    }
    sink.flush(LONG).expect("written");
    // What the last commits still want done.
    let mut before = written();
    until("nothing is left to do", || {
        let_pass(Duration::from_secs(1));
        std::mem::replace(&mut before, written()) == before
    });
    let_pass(processes::seconds(3.0));
    processes::say(&format!("idle {}", written() - before));
    drop(runtime);
}

/// Chunks of a session's answers.
const CHUNKS: usize = 5000;
/// What each brings.
const CHUNK: usize = 2 << 10;

/// A session with a model: each chunk of an answer is said at TRACE, with its content, and a few things at INFO.
fn session(home: &Path) {
    let (runtime, sink) = open(home, Domain::logs(), LogLevels::all(LogLevel::Trace), |_| {});
    let turns = usize::try_from(processes::rounds(100)).expect("a number");
    for turn in 0..turns {
        let say = |level, text: String| {
            sink.emit(LogEvent::new(level, "session", text).thread(&thread(1)).field("turn", turn));
            // As if more than a batch's time lay between.
            sink.flush(LONG).expect("written");
        };
        say(LogLevel::Info, "request".to_owned());
        for chunk in 0..CHUNKS / turns {
            sink.emit(
                LogEvent::new(LogLevel::Trace, "session::stream", "x".repeat(CHUNK)).field("chunk", chunk),
            );
            sink.emit(LogEvent::new(LogLevel::Debug, "session::stream", "parsed"));
        }
        say(LogLevel::Info, "answered".to_owned());
        say(LogLevel::Info, "tool called".to_owned());
        if turn % 20 == 19 {
            say(LogLevel::Error, "a tool failed".to_owned());
        }
    }
    let stats = sink.stats();
    drop(sink);
    runtime.close(LONG);
    processes::say(&format!("wrote {} of {}", written(), stats.emitted));
}

/// The same with each event as a row, and the oldest pushed out.
fn plain_session(file: &Path) {
    let plain = plain_logs(file);
    for n in 0..CHUNKS {
        plain
            .execute("INSERT INTO log(thread_id, message) VALUES ('t', ?1)", ["x".repeat(CHUNK)])
            .expect("a row");
        plain
            .execute("DELETE FROM log WHERE id <= ?1", [i64::try_from(n).expect("a number") - 1000])
            .expect("pruned");
    }
    drop(plain);
    processes::say(&format!("wrote {}", written()));
}

/// Everything is said as fast as it goes, and something fails all the time. Bytes are of the bound, and how long that is
/// for.
fn storm(home: &Path, bound: Option<(u64, u64)>) {
    let logs = match bound {
        Some((bytes, seconds)) => Domain::logs().max_write_rate(bytes, Duration::from_secs(seconds)),
        None => Domain::logs().max_write_rate(u64::MAX, Duration::from_secs(1)),
    };
    let (runtime, sink) = open(home, logs, LogLevels::all(LogLevel::Trace), |_| {});
    let before = written();
    let (began, time) = (Instant::now(), processes::seconds(2.0));
    let mut n = 0;
    while began.elapsed() < time {
        let level = if n % 50 == 0 { LogLevel::Error } else { LogLevel::Trace };
        sink.emit(LogEvent::new(level, "storm", "x".repeat(CHUNK)));
        n += 1;
    }
    let ran = began.elapsed();
    sink.close(Duration::ZERO);
    runtime.close(LONG);
    let stats = sink.stats();
    let (written, millis) = (written() - before, ran.as_millis());
    processes::say(&format!("storm {written} {millis} {} {}", stats.written, stats.dropped));
}

fn answer(role: &str, arguments: &[&str], word: &str) -> Vec<u64> {
    let child = Child::start(role, arguments);
    let line = child.wait_for(word);
    child.finish();
    line.split(' ').filter_map(|part| part.parse().ok()).collect()
}

/// A program that says nothing writes nothing, one that streams answers writes a few megabytes, because details stay in
/// memory and rows share commits, and one that says everything as fast as it can stays within its bound.
///
/// Scale: 3 s of idling (`ROWHOUSE_TEST_SECONDS`), 5,000 chunks of 2 KiB in 100 turns, a storm of 2 s under 16 MiB in 80 s.
/// Control: a plain table with a row per chunk, inserted and pruned, writes several times the 20 MB; the storm without
/// a bound writes more than the bounded one may.
#[test]
fn g1_idle_writes_nothing_and_a_session_little() {
    let home = processes::folder();
    let idle = answer("idle", &[processes::text(home.path())], "idle");
    assert_eq!(idle, [0], "bytes written while nothing is said");

    let home = processes::folder();
    let session = answer("session", &[processes::text(home.path())], "wrote");
    let folder = processes::folder();
    let plain = answer("plain session", &[processes::text(&folder.path().join("plain.sqlite"))], "wrote");
    println!("a session writes {} bytes, plain {}", session[0], plain[0]);
    assert!(session[0] <= 20_000_000, "{session:?}");
    assert!(plain[0] > 20_000_000, "the control writes little: {plain:?}");

    let (bytes, seconds) = (16 * MIB, 80);
    let bounded = |bytes: u64| {
        let home = processes::folder();
        answer("storm", &[processes::text(home.path()), &bytes.to_string(), &seconds.to_string()], "storm")
    };
    let (storm, free) = (bounded(bytes), bounded(0));
    // A quarter at once, and what may be with time; one commit over it, and what closing writes.
    let may = |millis: u64| bytes / 4 + bytes * millis / (seconds * 1000) + 2 * MIB;
    println!("storm (bytes, ms, written, dropped): {storm:?}, without a bound {free:?}");
    assert!(storm[0] <= may(storm[1]), "{storm:?} of {}", may(storm[1]));
    assert!(storm[2] > 0 && storm[3] > 0, "{storm:?}");
    assert!(free[0] > may(free[1]), "the control is not a storm: {free:?}");
}
