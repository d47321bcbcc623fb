//! Log events are taken without waiting, written in batches, and what is dropped is counted and told.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod processes;

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use processes::Child;
use rowhouse::sql::Session;
use rowhouse::stores::logs::{LogEvent, LogLevel, LogOptions, LogSink};
use rowhouse::{ErrorKind, Home, Runtime};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_mins(1);
const THREAD: &str = "019cadf1-7a5e-7b04-8f21-000000000001";

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["hold", file] => processes::hold(file.as_ref()),
        ["busy", home] => busy(home.as_ref()),
        ["secretive", home] => secretive(home.as_ref()),
        other => panic!("{other:?}"),
    }
}

struct Place {
    sink: LogSink,
    runtime: Runtime,
    home: tempfile::TempDir,
}

fn place(change: impl FnOnce(&mut LogOptions)) -> Place {
    let home = processes::folder();
    let runtime = Runtime::open(Home::at(home.path())).expect("opens");
    let mut options = LogOptions::default();
    change(&mut options);
    let sink = runtime.log_sink(options).expect("a sink");
    Place { sink, runtime, home }
}

impl Place {
    fn file(&self) -> PathBuf {
        self.home.path().join("logs.sqlite")
    }

    fn flush(&self) {
        self.sink.flush(LONG).expect("written");
    }

    /// Messages in the order of their rows.
    fn messages(&self) -> Vec<String> {
        self.column("message")
    }

    fn column<T: rowhouse::sql::FromValue>(&self, name: &str) -> Vec<T> {
        let logs = self.runtime.database("logs").expect("the domain");
        let sql = format!("SELECT {name} FROM log ORDER BY id");
        let rows = logs.read(|at| at.query(&sql, &[])).expect("the rows");
        rows.iter().map(|row| row.get(name).expect(name)).collect()
    }
}

fn event(level: LogLevel, message: impl Into<String>) -> LogEvent {
    LogEvent::new(level, "test", message)
}

fn info(message: impl Into<String>) -> LogEvent {
    event(LogLevel::Info, message)
}

/// Somebody else who has the write lock of a file.
fn holder(file: &Path) -> Child {
    let child = Child::start("hold", &[processes::text(file)]);
    child.wait_for("holding");
    child
}

#[test]
fn a_row_has_everything_that_its_event_says() {
    let place = place(|_| {});
    let event =
        info("hello").thread(&THREAD.to_ascii_uppercase()).field("n", 1).place("m::n", "src/m.rs", 12);
    place.sink.emit(event);
    place.sink.emit(LogEvent::new(LogLevel::Warn, "other", ""));
    place.flush();
    assert_eq!(place.messages(), ["hello", ""]);
    assert_eq!(place.column::<i64>("level"), [3, 4]);
    assert_eq!(place.column::<String>("target"), ["test", "other"]);
    assert_eq!(place.column::<Option<String>>("fields"), [Some("{\"n\":1}".to_owned()), None]);
    assert_eq!(place.column::<Option<String>>("thread_id"), [Some(THREAD.to_owned()), None]);
    assert_eq!(place.column::<Option<String>>("module"), [Some("m::n".to_owned()), None]);
    assert_eq!(place.column::<Option<String>>("file"), [Some("src/m.rs".to_owned()), None]);
    assert_eq!(place.column::<Option<i64>>("line"), [Some(12), None]);
    let processes = place.column::<String>("process_id");
    assert!(processes[0] == processes[1] && processes[0].len() == 36);
    assert!(place.column::<i64>("bytes").iter().all(|bytes| (100..200).contains(bytes)));
    let ts = place.column::<i64>("ts");
    assert!(ts[0] <= ts[1] && ts[0] > 1_700_000_000_000_000_000);
    let stats = place.sink.stats();
    assert_eq!((stats.emitted, stats.written, stats.dropped, stats.waiting), (2, 2, 0, 0));
}

#[test]
fn events_are_written_without_being_asked_for_and_at_close() {
    let place = place(|_| {});
    let logs = place.runtime.database("logs").expect("the domain");
    let seen = logs.changes().expect("a number");
    place.sink.emit(info("first"));
    assert!(logs.wait_for_change(seen, LONG).expect("a change") > seen, "by time");
    place.sink.emit(info("last"));
    drop(logs);
    place.runtime.close(LONG);
    let plain = processes::plain(&place.file());
    let rows: i64 = plain.query_row("SELECT count(*) FROM log", [], |row| row.get(0)).expect("a count");
    assert_eq!(rows, 2);
    place.sink.emit(info("too late"));
    let stats = place.sink.stats();
    assert_eq!((stats.emitted, stats.written, stats.dropped), (3, 2, 1));
    place.sink.flush(LONG).expect("nothing waits");
}

/// Neither asked for, nor by time: a batch is due when it is full, in events or in bytes.
#[test]
fn a_full_batch_is_written_at_once() {
    let full: [fn(&mut LogOptions); 2] =
        [|options| options.batch_events = 10, |options| options.batch_bytes = 10 << 10];
    for full in full {
        let place = place(|options| {
            options.batch_time = 10 * LONG;
            full(options);
        });
        let logs = place.runtime.database("logs").expect("the domain");
        let seen = logs.changes().expect("a number");
        for _ in 0..9 {
            place.sink.emit(info("x".repeat(500)));
        }
        assert_eq!(place.sink.stats().written, 0, "nothing is due");
        for _ in 9..20 {
            place.sink.emit(info("x".repeat(500)));
        }
        assert!(logs.wait_for_change(seen, LONG).expect("a change") > seen);
    }
}

#[test]
fn many_events_share_commits() {
    let place = place(|_| {});
    for n in 0..10_000 {
        place.sink.emit(info(format!("event {n}")));
    }
    place.flush();
    assert_eq!(place.sink.stats().written, 10_000);
    let commits = place.runtime.stats()["logs"].commits;
    assert!(commits < 200, "{commits} commits");
    let messages = place.messages();
    assert!(messages.iter().enumerate().all(|(n, message)| *message == format!("event {n}")));
}

#[test]
fn details_stay_in_memory_until_an_error_or_on_request() {
    let place = place(|_| {});
    rowhouse::stores::logs::set_log_levels(place.runtime.home(), Some(&"trace".parse().expect("a level")))
        .expect("set");
    let began = Instant::now();
    while !place.sink.takes("test", LogLevel::Trace) {
        assert!(began.elapsed() < LONG);
        std::thread::yield_now();
    }
    place.sink.emit(event(LogLevel::Trace, "step 1"));
    place.sink.emit(info("note"));
    place.sink.emit(event(LogLevel::Debug, "step 2"));
    place.flush();
    assert_eq!(place.messages(), ["note"]);
    assert_eq!(place.sink.stats().in_ring, 2);
    place.sink.emit(event(LogLevel::Error, "failed"));
    place.flush();
    assert_eq!(place.messages(), ["note", "step 1", "step 2", "failed"]);
    place.sink.emit(event(LogLevel::Debug, "step 3"));
    place.sink.write_ring();
    place.flush();
    assert_eq!(place.messages().last().map(String::as_str), Some("step 3"));
    let stats = place.sink.stats();
    assert_eq!((stats.in_ring, stats.ring_bytes, stats.written), (0, 0, 5));
}

/// How many events a row says were dropped.
fn number(note: &str) -> u64 {
    note.split(' ').next().expect("a number").replace(',', "").parse().expect("a number")
}

/// While somebody else has the write lock the oldest are dropped, and a row says so at the place of those that are
/// missing.
#[test]
fn what_is_dropped_is_counted_and_told() {
    let place = place(|options| {
        options.queue_events = 100;
        options.batch_events = 10;
    });
    place.sink.emit(info("first"));
    place.flush();
    let mut holder = holder(&place.file());
    let began = Instant::now();
    for n in 0..12_445 {
        place.sink.emit(info(format!("{n}")));
    }
    println!("{:?} for each event beside a lock", began.elapsed() / 12_445);
    let late = place.sink.flush(Duration::from_millis(300)).expect_err("it cannot be written");
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    let stats = place.sink.stats();
    // A hundred wait, and of two batches some are being written.
    assert!((12_325..=12_345).contains(&stats.dropped), "{stats:?}");
    assert_eq!(stats.emitted, stats.written + stats.dropped + stats.waiting, "{stats:?}");
    holder.tell("end");
    holder.finish();
    place.flush();
    let messages = place.messages();
    let notes: Vec<_> = messages.iter().filter(|message| message.contains("dropped between")).collect();
    let stats = place.sink.stats();
    assert_eq!(notes.iter().map(|note| number(note)).sum::<u64>(), stats.dropped, "{messages:?}");
    assert_eq!(stats.emitted, stats.written + stats.dropped);
    assert_eq!(messages.len(), usize::try_from(stats.written).expect("a count") + notes.len());
    assert_eq!(messages.last().map(String::as_str), Some("12444"), "the newest are there");
}

#[test]
fn closing_beside_a_lock_is_bounded_and_counts_what_is_lost() {
    let place = place(|_| {});
    place.sink.emit(info("first"));
    place.flush();
    let holder = holder(&place.file());
    for _ in 0..10 {
        place.sink.emit(info("lost"));
    }
    let began = Instant::now();
    assert!(!place.sink.close(Duration::from_millis(200)), "it took longer");
    assert!(began.elapsed() < Duration::from_secs(20));
    let stats = place.sink.stats();
    assert_eq!((stats.emitted, stats.written, stats.dropped), (11, 1, 10));
    holder.finish();
    drop(place.runtime);
}

#[test]
fn a_runtime_has_one_sink_and_one_without_logs_has_none() {
    let place = place(|_| {});
    let again = place.runtime.log_sink(LogOptions::default()).expect("the same");
    again.emit(info("by the other"));
    place.flush();
    assert_eq!(place.sink.stats().written, 1);
    let home = processes::folder();
    let runtime =
        Runtime::builder(Home::at(home.path())).domain(rowhouse::Domain::goals()).open().expect("opens");
    let error = runtime.log_sink(LogOptions::default()).expect_err("no logs");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_runtime_that_keeps_nothing_logs_too() {
    let runtime = Runtime::builder(Home::at("/nowhere")).agent_domains().ephemeral().open().expect("opens");
    let sink = runtime.log_sink(LogOptions::default()).expect("a sink");
    sink.emit(info("here"));
    sink.flush(LONG).expect("written");
    assert_eq!(sink.stats().written, 1);
}

/// What so many of 100 are below.
fn percentile<T: Ord + Copy>(all: &mut [T], of_100: usize) -> T {
    all.sort();
    all[all.len() * of_100 / 100]
}

/// Says something 200 times a second, and commits to state with every tenth of it.
fn busy(home: &Path) {
    const QUEUED: usize = 100;
    const BATCH: usize = 50;
    let runtime = Runtime::open(Home::at(home)).expect("opens");
    let mut options = LogOptions::default();
    options.queue_events = QUEUED;
    options.batch_events = BATCH;
    let sink = runtime.log_sink(options).expect("a sink");
    let state = runtime.database("state").expect("the domain");
    processes::ready();
    let (_keep, never) = channel::<()>();
    let mut said = Vec::new();
    let mut work = |at_least: usize| {
        let mut commits = Vec::new();
        let (began, first) = (Instant::now(), said.len());
        while began.elapsed() < processes::seconds(3.0) / 2 || said.len() - first < at_least {
            let n = said.len();
            let from = Instant::now();
            sink.emit(info(format!("chunk {n}")).field("n", n));
            said.push(from.elapsed());
            if n.is_multiple_of(10) {
                let from = Instant::now();
                let row = |tx: &rowhouse::Tx| tx.execute("INSERT INTO own VALUES (1)", []);
                state.write(row).expect("a commit of state");
                commits.push(from.elapsed());
            }
            let _ = never.recv_timeout(Duration::from_millis(5));
        }
        commits
    };
    let before = work(0);
    processes::say("before");
    processes::listen();
    // More than waits at most, however slow the machine is.
    let beside = work(2 * (QUEUED + BATCH));
    processes::say("through");
    processes::listen();
    sink.flush(LONG).expect("written");
    let counts = sink.stats();
    assert_eq!(counts.emitted, counts.written + counts.dropped, "{counts:?}");
    let longest = said.iter().max().expect("something was said").as_micros();
    let said = percentile(&mut said, 99).as_micros();
    processes::say(&format!(
        "counts {} {} {} {said} {longest}",
        counts.emitted, counts.written, counts.dropped
    ));
    for (word, commits) in [("free", before), ("held", beside)] {
        let commits: Vec<_> = commits.iter().map(|took| took.as_micros().to_string()).collect();
        processes::say(&format!("{word} {}", commits.join(" ")));
    }
    runtime.close(LONG);
}

/// While one process holds the logs' write lock, others say what they want and commit to state as ever: an event waits
/// for nothing, no commit of state is lost, and what was dropped is exactly what is missing.
///
/// Scale: 8 processes with 200 events/s for 3 s (`ROWHOUSE_TEST_SECONDS`), the lock held for the second half; half of
/// state's commits take below 500 ms meanwhile. (What 99 of 100 take is printed: with this few it is the machine's.)
/// Control: a plain connection with a busy timeout of 5 s waits for as long as the lock is held, with each event.
#[test]
fn l1_a_locked_log_holds_nobody_up() {
    const PROCESSES: usize = 8;
    let place = place(|_| {});
    let state = place.runtime.database("state").expect("the domain");
    state.write(|tx| tx.execute("CREATE TABLE own(n INTEGER)", [])).expect("a table");
    place.sink.emit(info("first"));
    place.flush();
    let start = |_| Child::start("busy", &[processes::text(place.home.path())]);
    let mut children: Vec<_> = (0..PROCESSES).map(start).collect();
    processes::start_together(&mut children);
    for child in &children {
        child.wait_for("before");
    }
    let mut holder = holder(&place.file());
    let held_from = Instant::now();
    for child in &mut children {
        child.tell("go on");
    }

    // The control is in the same position meanwhile.
    let plain = processes::plain(&place.file());
    plain.busy_timeout(Duration::from_secs(1)).expect("a timeout");
    let began = Instant::now();
    let row =
        "INSERT INTO log(ts, level, target, message, process_id, bytes) VALUES (1, 3, 't', 'plain', 'p', 1)";
    plain.execute(row, []).expect_err("somebody else has the lock");
    let waited = began.elapsed();
    drop(plain);

    for child in &children {
        child.wait_for("through");
    }
    let held_for = held_from.elapsed();
    holder.tell("end");
    holder.finish();
    let (mut emitted, mut written, mut dropped) = (0, 0, 0);
    let (mut free, mut held) = (Vec::new(), Vec::new());
    for mut child in children {
        child.tell("end");
        let line = child.wait_for("counts");
        let numbers = |line: String| -> Vec<u64> {
            line.split(' ').map(|count| count.parse().expect("a number")).collect()
        };
        let counts = numbers(line);
        (emitted, written) = (emitted + counts[0], written + counts[1]);
        dropped += counts[2];
        assert!(counts[3] < 500_000, "p99 of events: {} µs", counts[3]);
        let longest = Duration::from_micros(counts[4]);
        assert!(longest < held_for / 2, "an event took {longest:?}, the lock was held for {held_for:?}");
        free.extend(numbers(child.wait_for("free")));
        held.extend(numbers(child.wait_for("held")));
        child.finish();
    }
    let rows = free.len() + held.len();
    let (free, all_held) = (percentile(&mut free, 99), percentile(&mut held, 99));
    println!(
        "{emitted} events, {written} written, {dropped} dropped; p99 of {rows} commits: {free} µs, held {all_held} µs"
    );
    let held = percentile(&mut held, 50);
    assert!(held < 500_000, "half of state's commits take {held} µs while the lock of the logs is held");
    assert!(waited >= Duration::from_millis(900), "the control waits: {waited:?}");
    assert!(dropped > 0 && written > 0, "{dropped} of {emitted}");
    let messages = place.messages();
    let chunks = messages.iter().filter(|message| message.starts_with("chunk")).count() as u64;
    assert_eq!((chunks, emitted - chunks), (written, dropped), "what is missing is what was dropped");
    let told: u64 =
        messages.iter().filter(|message| message.contains("dropped between")).map(|note| number(note)).sum();
    assert_eq!(told, dropped, "and what rows tell");
    let stored =
        state.read(|at| at.row("SELECT count(*) FROM own", [], |row| row.get::<_, i64>(0))).expect("a count");
    assert_eq!(usize::try_from(stored).expect("a count"), rows, "no row of state is lost");
}

/// What must not be found afterwards. Only the fourth is in the environment: by its value no other one is known.
const CANARIES: [&str; 10] = [
    "canary1prompt0f8e",
    "canary2header3b7a",
    "canary3tooloutput5c",
    "canary4environment9",
    "canary5url6d21",
    "canary6assigned77ab",
    "canary7json4e90",
    "sk-canary8shape1234567890AB",
    "canary9name5b1c",
    "canary10target2e",
];

/// Texts as programs write them, each with a canary of its own in the place of the `*`: `shape` and its number.
const SHAPES: [&str; 29] = [
    "Login { password: Some(\"*\"), user: 1 }",
    "with ApiKey(\"*\")",
    "auth: Ok(Some(\"*\"))",
    "Secret { inner: \"*\" }",
    "Login {\n    password: Some(\n        \"*\",\n    ),\n}",
    "{\"cookie\":[\"sid=*\"]}",
    "{\"secrets\":{\"a\":\"*\"}}",
    "{\\\\\\\"password\\\\\\\":\\\\\\\"*\\\\\\\"}",
    "password:\t*",
    "password =\n *",
    "password => *",
    "password := *",
    "[(\"authorization\", \"*\"), (\"accept\", \"a\")]",
    "[(\"x-api-key\", \"*\")]",
    "run --password * --verbose",
    "[\"--token\", \"*\"]",
    "PGPASSWORD=*",
    "AWSSecretKey=*",
    "DBPassword=*",
    "IDToken=*",
    "clientsecret=*",
    "password1=*",
    "auth=* session",
    "session_id=*",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n*\n-----END PGP PRIVATE KEY BLOCK-----",
    "body {\"prompt\":\"*\",\"n\":1}",
    "body {\"content\":[{\"text\":\"*\"}]}",
    "{\"http.request.body\":\"*\"}",
    "Env { vars: {\"OPENAI_API_KEY\": \"*\"} }",
];

/// Every canary.
fn canaries() -> Vec<String> {
    let shapes = (0..SHAPES.len()).map(|n| format!("shape{n}canary"));
    CANARIES.into_iter().map(str::to_owned).chain(shapes).collect()
}

/// What a program says of a request: a text, and values.
fn request() -> (String, Vec<(String, serde_json::Value)>) {
    let [prompt, header, tool, environment, url, assigned, json, shape, name, _] = CANARIES;
    let message = format!(
        "sent with {environment} to https://me:{url}@host/v1?api_key={assigned}, body {{\"password\": \"{json}\"}}, {shape}"
    );
    let mut fields: Vec<(String, serde_json::Value)> = vec![
        ("prompt".to_owned(), format!("my secret is {prompt}").into()),
        ("authorization".to_owned(), format!("Bearer {header}").into()),
        ("tool_output".to_owned(), format!("PASSWORD {tool}").into()),
        (
            "request".to_owned(),
            serde_json::json!({"headers": {"x-api-key": header}, "messages": [{"content": prompt}]}),
        ),
        ("http.request.body".to_owned(), prompt.into()),
        (format!("api_key={name}"), 1.into()),
    ];
    for (n, text) in SHAPES.into_iter().enumerate() {
        fields.push((format!("debug{n}"), text.replace('*', &format!("shape{n}canary")).into()));
    }
    (message, fields)
}

/// Says it as programs do that know nothing of the sink.
#[cfg(feature = "log-layer")]
fn request_by_tracing(sink: &LogSink) {
    use tracing_subscriber::layer::SubscriberExt;

    let (message, fields) = request();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(sink.layer()), || {
        let _span = tracing::info_span!("turn", prompt = CANARIES[0], login = %SHAPES[0].replace('*', "shape0canary")).entered();
        for (_, value) in fields.iter().filter(|(name, _)| name.starts_with("debug")) {
            tracing::info!(value = %value, debug = ?value, "{value}");
        }
        tracing::info!(http.request.body = CANARIES[0], tool_output = CANARIES[2], "{message}");
        tracing::debug!("{fields:?}");
        tracing::error!(?fields, "failed");
    });
}

#[cfg(not(feature = "log-layer"))]
fn request_by_tracing(_: &LogSink) {}

fn secretive(home: &Path) {
    let levels = rowhouse::stores::logs::LogLevels::all(LogLevel::Trace);
    let runtime = Runtime::builder(Home::at(home)).agent_domains().log_levels(levels).open().expect("opens");
    let mut options = LogOptions::default();
    options.caps.process_bytes = 200 << 10;
    let sink = runtime.log_sink(options).expect("a sink");
    for n in 0..300 {
        for level in LogLevel::ALL {
            let (message, fields) = request();
            for (_, value) in fields.iter().filter(|(name, _)| n % 50 == 0 && name.starts_with("debug")) {
                sink.emit(event(level, value.as_str().expect("a text")));
            }
            let event = LogEvent::new(level, format!("https://me:{}@host", CANARIES[9]), message);
            sink.emit(fields.into_iter().fold(event, |event, (name, value)| event.field(name, value)));
        }
        if n % 20 == 0 {
            request_by_tracing(&sink);
            sink.flush(LONG).expect("written");
        }
    }
    sink.flush(LONG).expect("written");
    let stats = sink.stats();
    assert!(stats.redacted > 300 * 8, "{stats:?}");
    processes::say("said");
    processes::listen();
    runtime.close(LONG);
}

/// How often secrets are found in the files of a database: rows, free pages and log alike.
fn found(file: &Path) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for ending in ["", "-wal", "-shm"] {
        let Ok(bytes) = std::fs::read(format!("{}{ending}", file.display())) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        for canary in canaries() {
            let times = text.matches(&canary).count();
            if times > 0 {
                found.push((canary, times));
            }
        }
    }
    found
}

/// Secrets in prompts, headers, the environment, tool output and texts do not reach the files of the logs, at any level,
/// neither as rows nor in free pages nor in the write-ahead log.
///
/// Scale: 1,500 events with 39 secrets each, of which most rows are deleted again; in a build with the layer for `tracing`
/// some go through it too.
/// Control: a plain table with the same texts holds each of them.
#[test]
fn x2_no_secret_reaches_the_files() {
    let home = processes::folder();
    let environment = [("CANARY_API_KEY", CANARIES[3]), ("RUST_LOG", "trace")];
    let mut child = Child::start_in("secretive", &[processes::text(home.path())], &environment);
    child.wait_for("said");
    let file = home.path().join("logs.sqlite");
    assert_eq!(found(&file), [], "while it is open");
    child.tell("end");
    child.finish();
    assert_eq!(found(&file), [], "when it is closed");
    let plain = processes::plain(&file);
    let rows: i64 = plain.query_row("SELECT count(*) FROM log", [], |row| row.get(0)).expect("a count");
    let free: i64 = plain.pragma_query_value(None, "freelist_count", |row| row.get(0)).expect("a count");
    assert!(rows > 10 && free > 0, "{rows} rows, {free} free pages");

    let folder = processes::folder();
    let file = folder.path().join("plain.sqlite");
    let plain = processes::plain(&file);
    plain
        .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE log(message TEXT, fields TEXT)")
        .expect("a table");
    let (message, fields) = request();
    let fields = format!("{fields:?} {}", CANARIES[9]);
    plain.execute("INSERT INTO log VALUES (?1, ?2)", (message, fields)).expect("a row");
    let names: std::collections::BTreeSet<_> = found(&file).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), canaries().len(), "{names:?}");
}
