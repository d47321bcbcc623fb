//! Log rows come out by every filter, page by page, exported, and bundled for a report.
#![cfg(feature = "agent")]

mod common;
mod log_rows;

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use common::{LONG, raw};
use log_rows::*;
use proptest::prelude::*;
use rowhouse::stores::logs::{FEEDBACK_BYTES, LONGEST_FILTER, ROW_BUDGET, SLACK, THREADS_BY_INDEX};
use rowhouse::stores::{Direction, LogFormat, LogLevel, LogPage, LogQuery, LogRow, Logs};
use rowhouse::{Database, ErrorKind, Runtime};

struct Place {
    logs: Logs,
    database: Database,
    _runtime: Runtime,
    folder: tempfile::TempDir,
}

fn place(events: &[Event]) -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    let (runtime, database, logs) = open(folder.path());
    write(&database, events);
    Place { logs, database, _runtime: runtime, folder }
}

fn pages(logs: &Logs, query: &LogQuery, mut between: impl FnMut(usize)) -> Vec<LogPage> {
    let mut pages: Vec<LogPage> = Vec::new();
    loop {
        let query = match pages.last() {
            None => query.clone(),
            Some(LogPage { next_cursor: Some(cursor), .. }) => query.clone().cursor(cursor),
            Some(_) => return pages,
        };
        pages.push(logs.query(&query).expect("a page"));
        assert!(pages.len() < 1_000, "paging ends");
        between(pages.len());
    }
}

fn all(logs: &Logs, query: &LogQuery) -> Vec<LogRow> {
    pages(logs, query, |_| {}).into_iter().flat_map(|page| page.rows).collect()
}

fn refused(answer: rowhouse::Result<LogPage>) -> rowhouse::Error {
    let error = answer.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    error
}

// ---- one filter after the other

#[test]
fn a_row_comes_back_as_it_was_written() {
    let mut one = event(1_772_366_400_123_456_789, "no answer")
        .level(LogLevel::Warn)
        .target("ledger::sync")
        .thread(THREAD)
        .fields(serde_json::json!({"attempt": 3, "peer": "a.example"}));
    (one.module, one.file) = (Some("ledger::sync::net".to_owned()), Some("src/sync/net.rs".to_owned()));
    let place = place(&[one]);
    let rows = all(&place.logs, &LogQuery::recent());
    assert_eq!(
        rows,
        [LogRow {
            id: 1,
            ts: 1_772_366_400_123_456_789,
            level: LogLevel::Warn,
            target: "ledger::sync".to_owned(),
            message: "no answer".to_owned(),
            fields: Some(serde_json::json!({"attempt": 3, "peer": "a.example"})),
            thread_id: Some(THREAD.to_owned()),
            process_id: "process-1".to_owned(),
            module: Some("ledger::sync::net".to_owned()),
            file: Some("src/sync/net.rs".to_owned()),
            line: Some(7),
            bytes: rows[0].bytes,
        }]
    );
}

#[test]
fn a_level_means_at_least() {
    let place = place(&LogLevel::ALL.map(|level| event(1, level.as_str()).level(level)));
    let rows = all(&place.logs, &LogQuery::recent().level(LogLevel::Warn));
    assert_eq!(messages(&rows), ["error", "warn"]);
    assert_eq!(all(&place.logs, &LogQuery::recent()).len(), 5);
}

#[test]
fn a_time_range_has_its_beginning_and_not_its_end() {
    let place = place(&[event(10, "a"), event(20, "b"), event(30, "c")]);
    let of = |since, until| {
        let rows = all(&place.logs, &LogQuery::recent().since(since).until(until));
        messages(&rows).concat()
    };
    assert_eq!(of(10, 30), "ba");
    assert_eq!(of(11, 31), "cb");
    assert_eq!((of(30, 10), of(20, 20)), (String::new(), String::new()), "an empty range");
    assert_eq!(of(i64::MIN, i64::MAX), "cba");
    assert_eq!(of(-5, 0), "");
}

#[test]
fn a_row_that_was_written_late_is_found_by_its_time() {
    let slack = i64::try_from(SLACK.as_nanos()).expect("minutes");
    // Every tenth row happened almost the slack before the row that was written before it.
    let late = |n: i64| if n % 10 == 9 { n * SECOND - slack + SECOND } else { n * SECOND };
    let events: Vec<_> = (0..3_000).map(|n| event(late(n), n.to_string())).collect();
    let place = place(&events);
    for (since, until) in [(0, 100), (700, 900), (1_500, 1_501), (2_900, 5_000), (-1_000, 0)] {
        let (since, until) = (since * SECOND, until * SECOND);
        let rows = all(&place.logs, &LogQuery::recent().since(since).until(until).limit(1_000));
        let mut expected: Vec<_> = events
            .iter()
            .filter(|event| (since..until).contains(&event.ts))
            .map(|event| &*event.message)
            .collect();
        expected.reverse();
        assert_eq!(messages(&rows), expected);
    }
}

#[test]
fn targets_and_modules_by_their_beginning_and_files_by_their_end() {
    let mut events: Vec<_> = ["app", "app::db", "apple", "web", "web::tls"]
        .map(|target| event(1, target).target(target))
        .into_iter()
        .collect();
    events[1].module = Some("app::db::pool".to_owned());
    events[3].file = Some("web/src/http.rs".to_owned());
    let place = place(&events);
    let none: [&str; 0] = [];
    for (query, expected) in [
        (LogQuery::recent().target("app::"), vec!["app::db"]),
        (LogQuery::recent().target("app"), vec!["apple", "app::db", "app"]),
        (LogQuery::recent().targets(["web::", "app::d", "app"]), vec!["web::tls", "apple", "app::db", "app"]),
        (LogQuery::recent().targets(["b", "webb", "z"]), vec![]),
        (LogQuery::recent().target(""), vec!["web::tls", "web", "apple", "app::db", "app"]),
        (LogQuery::recent().targets(none), vec![]),
        (LogQuery::recent().module("app::db"), vec!["app::db"]),
        (LogQuery::recent().module("db"), vec![]),
        (LogQuery::recent().file("http.rs"), vec!["web"]),
        (LogQuery::recent().file("web"), vec![]),
    ] {
        assert_eq!(messages(&all(&place.logs, &query)), expected, "{query:?}");
    }
}

#[test]
fn a_text_is_found_in_message_and_fields_in_either_case_of_any_language() {
    let place = place(&[
        event(1, "Connection REFUSED by peer"),
        event(2, "Größe ist ÜBERALL gleich"),
        event(3, "50% of_all \"quoted\""),
        event(4, "plain").fields(serde_json::json!({"path": "C:\\Logs\nÄrger", "why": "say \"no\""})),
    ]);
    let of = |text: &str| ids(&all(&place.logs, &LogQuery::recent().text(text)));
    assert_eq!(of("refused BY"), [1]);
    assert_eq!((of("größe"), of("überall"), of("GRÖSSE")), (vec![2], vec![2], vec![]));
    assert_eq!((of("%"), of("_"), of("f_a")), (vec![3], vec![3], vec![3]), "no pattern");
    assert_eq!((of("\"QUOTED\""), of("say \"no\"")), (vec![3], vec![4]));
    assert_eq!((of("c:\\logs\nä"), of("why")), (vec![4], vec![4]));
    assert_eq!((of(""), of("nowhere")), (vec![4, 3, 2, 1], vec![]));
}

#[test]
fn rows_of_threads_of_no_thread_and_of_a_process() {
    let place = place(&[
        event(1, "a").thread(THREAD),
        event(2, "b").thread(OTHER).process("process-2"),
        event(3, "c"),
        event(4, "d").thread(THREAD).process("process-2"),
        event(5, "e").process("process-2"),
    ]);
    let many: Vec<_> = (0..20).map(|n| format!("019cadf1-7a5e-7b04-8f21-{n:012}")).collect();
    assert!(many.len() > THREADS_BY_INDEX);
    let none: [&str; 0] = [];
    for (query, expected) in [
        (LogQuery::recent().thread(THREAD.to_uppercase()), "da"),
        (LogQuery::recent().threads([OTHER, THREAD, OTHER]), "dba"),
        (LogQuery::recent().threads(many), "dba"),
        (LogQuery::recent().threads(none), ""),
        (LogQuery::recent().threadless(), "ec"),
        (LogQuery::recent().process("process-2"), "edb"),
        (LogQuery::recent().process("process-2").threadless(), "e"),
        (LogQuery::recent().thread(THREAD).process("process-2"), "d"),
        (LogQuery::recent().thread(THREAD).direction(Direction::Ascending), "ad"),
        (LogQuery::recent().thread(uuid()), ""),
    ] {
        assert_eq!(messages(&all(&place.logs, &query)).concat(), expected, "{query:?}");
        assert_eq!(messages(&all(&place.logs, &query.clone().limit(1))).concat(), expected, "{query:?}");
    }
}

fn uuid() -> &'static str {
    "019cadf1-7a5e-7b04-8f21-ffffffffffff"
}

// ---- pages

/// A row whose every column takes one of few values.
fn any_event() -> impl Strategy<Value = Event> {
    (0..5_usize, 0..3_usize, 0..4_usize, 0..2_usize, 0..4_usize, 0..40_i64).prop_map(
        |(level, target, thread, process, word, late)| {
            let mut made = event(-late * 20 * SECOND, ["no", "yes", "Yes, no", "ÄÖ"][word])
                .level(LogLevel::ALL[level])
                .target(["app", "app::db", "web"][target])
                .process(["p", "q"][process]);
            made.thread = (thread < 3).then(|| format!("019cadf1-7a5e-7b04-8f21-{thread:012}"));
            made.module = (target > 0).then(|| made.target.clone());
            made.file = (target > 1).then(|| "src/web.rs".to_owned());
            made
        },
    )
}

fn any_log(most: usize) -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(any_event(), 0..most).prop_map(|mut events| {
        // A row each ten seconds, some of them late by less than the slack.
        for (event, n) in events.iter_mut().zip(0..) {
            event.ts = n * 10 * SECOND + (event.ts % (280 * SECOND));
        }
        events
    })
}

fn any_query() -> impl Strategy<Value = LogQuery> {
    let times = (prop::option::of(-30..90_i64), prop::option::of(-30..90_i64));
    let texts = (0..4_usize, 0..3_usize, 0..3_usize, 0..3_usize);
    (any::<bool>(), 0..5_usize, times, 0..4_usize, 0..5_usize, texts, 1..7_u32).prop_map(
        |(newest, level, (since, until), targets, threads, (text, module, file, process), limit)| {
            let direction = if newest { Direction::Descending } else { Direction::Ascending };
            let mut query =
                LogQuery::recent().direction(direction).level(LogLevel::ALL[level / 2]).limit(limit);
            query = since.map_or(query.clone(), |since| query.since(since * 10 * SECOND));
            query = until.map_or(query.clone(), |until| query.until(until * 10 * SECOND));
            query = match targets {
                0 => query.target("app"),
                1 => query.targets(["app::", "web"]),
                _ => query,
            };
            let of = |ids: std::ops::Range<usize>| ids.map(|id| format!("019cadf1-7a5e-7b04-8f21-{id:012}"));
            query = match threads {
                0 => query.threadless(),
                1 => query.threads(of(0..2)),
                2 => query.threads(of(1..20)),
                _ => query,
            };
            query = if text == 0 { query.text("YES") } else { query };
            query = if module == 0 { query.module("app") } else { query };
            query = if file == 0 { query.file(".rs") } else { query };
            if process == 0 { query.process("p") } else { query }
        },
    )
}

/// Whether a row belongs to the list, computed from what the query prints.
fn belongs(query: &LogQuery, row: &LogRow) -> bool {
    let shown = format!("{query:?}");
    let says = |what: &str| shown.contains(what);
    let number = |name: &str| {
        let (_, rest) = shown.split_once(&format!("{name}: Some("))?;
        rest.split_once(')')?.0.parse::<i64>().ok()
    };
    let least = LogLevel::ALL.into_iter().find(|level| says(&format!("level: {level:?}"))).expect("a level");
    let thread = row.thread_id.as_deref();
    row.level >= least
        && number("since").is_none_or(|since| row.ts >= since)
        && number("until").is_none_or(|until| row.ts < until)
        && (!says("targets: Some([\"app\"])") || row.target.starts_with("app"))
        && (!says("targets: Some([\"app::\"") || row.target != "app")
        && (!says("threads: None") || thread.is_none())
        && (!says("threads: These") || thread.is_some_and(says))
        && (!says("text: Some") || row.message.to_lowercase().contains("yes"))
        && (!says("module: Some") || row.module.as_deref().is_some_and(|module| module.starts_with("app")))
        && (!says("file: Some") || row.file.is_some())
        && (!says("process: Some") || row.process_id == "p")
}

fn expected(logs: &Logs, query: &LogQuery) -> Vec<LogRow> {
    let mut rows: Vec<_> =
        logs.rows(&LogQuery::recent()).expect("rows").map(|row| row.expect("a row")).collect();
    rows.retain(|row| belongs(query, row));
    if format!("{query:?}").contains("Ascending") {
        rows.reverse();
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_filters_in_any_page_size_list_each_row_once_in_order(events in any_log(80), queries in prop::collection::vec(any_query(), 1..8)) {
        let place = place(&events);
        for query in queries {
            prop_assert_eq!(all(&place.logs, &query), expected(&place.logs, &query), "{:?}", query);
            let streamed = place.logs.rows(&query).expect("rows").collect::<rowhouse::Result<Vec<_>>>().expect("rows");
            prop_assert_eq!(streamed, expected(&place.logs, &query), "{:?}", query);
        }
    }

    #[test]
    fn writers_and_pruning_between_pages_neither_hide_nor_double_a_row(events in any_log(60), later in any_log(60), query in any_query(), prune in prop::collection::vec(0..120_i64, 0..30)) {
        let place = place(&events);
        let before = expected(&place.logs, &query);
        let (mut later, mut prune) = (later.chunks(3), prune.chunks(2));
        let pages = pages(&place.logs, &query, |_| {
            write(&place.database, later.next().unwrap_or_default());
            for id in prune.next().unwrap_or_default() {
                delete(&place.database, &format!("id = {id}"));
            }
        });
        let seen: Vec<_> = pages.into_iter().flat_map(|page| page.rows).collect();
        let order = ids(&seen);
        prop_assert!(order.is_sorted_by(|one, next| one < next) || order.is_sorted_by(|one, next| one > next));
        let there: BTreeSet<_> = expected(&place.logs, &query).iter().map(|row| row.id).collect();
        for row in &before {
            prop_assert!(seen.contains(row) || !there.contains(&row.id), "{} was skipped", row.id);
        }
        prop_assert!(seen.iter().all(|row| belongs(&query, row)));
    }
}

#[test]
fn a_rare_row_is_found_after_short_pages_that_say_how_much_they_looked_at() {
    let mut events: Vec<_> = (0..25_000).map(|n| event(n, "x")).collect();
    events[0].message = "the needle".to_owned();
    let place = place(&events);
    let pages = pages(&place.logs, &LogQuery::recent().text("needle"), |_| {});
    assert_eq!(pages.iter().map(|page| page.rows.len()).collect::<Vec<_>>(), [0, 0, 1]);
    for page in &pages {
        assert!(page.scanned <= ROW_BUDGET + 2_048, "{}", page.scanned);
    }
    assert_eq!(pages.iter().map(|page| page.scanned).sum::<u64>(), 25_000);
    assert!(pages[2].next_cursor.is_none());
}

#[test]
fn a_page_of_large_rows_is_short_and_goes_on() {
    let events: Vec<_> = (0..400).map(|n| event(n, "x".repeat(64 << 10))).collect();
    let place = place(&events);
    let pages = pages(&place.logs, &LogQuery::recent().limit(1_000), |_| {});
    assert!(pages.len() > 1, "25 MiB are not one page");
    let seen: Vec<_> = pages.iter().flat_map(|page| ids(&page.rows)).collect();
    assert_eq!(seen, (1..=400).rev().collect::<Vec<_>>());
}

#[test]
fn bad_input_gets_an_error_that_says_what_is_right() {
    let place = place(&[event(1, "a"), event(2, "b")]);
    let logs = &place.logs;
    for limit in [0, 1_001, u32::MAX] {
        refused(logs.query(&LogQuery::recent().limit(limit)));
    }
    for text in ["a\0b".to_owned(), "x".repeat(LONGEST_FILTER + 1), "x".repeat(16 << 20)] {
        for query in [
            LogQuery::recent().text(&*text),
            LogQuery::recent().target(&*text),
            LogQuery::recent().module(&*text),
            LogQuery::recent().file(&*text),
            LogQuery::recent().process(&*text),
        ] {
            let error = refused(logs.query(&query));
            assert!(!error.to_string().contains(&text[..3]), "{error}");
        }
    }
    refused(logs.query(&LogQuery::recent().thread("not a UUID")));
    refused(logs.query(&LogQuery::recent().cursor("not a cursor")));
    let cursor = logs.query(&LogQuery::recent().limit(1)).expect("a page").next_cursor.expect("more");
    refused(logs.query(&LogQuery::recent().text("a").cursor(&*cursor)));
    logs.query(&LogQuery::recent().limit(7).since(-9).cursor(&*cursor))
        .expect("the range may be another one");
    assert_eq!(
        logs.query(&LogQuery::recent().limit(1_000).since(i64::MIN).until(i64::MIN)).expect("none").rows,
        []
    );
}

#[test]
fn a_hundred_thousand_threads_and_targets_are_a_filter_like_any_other() {
    let place = place(&[event(1, "a").thread(THREAD), event(2, "b").thread(OTHER), event(3, "c")]);
    let threads = (0..100_000).map(|n| format!("019cadf1-7a5e-7b04-8f21-{n:012}"));
    let targets = (0..100_000).map(|n| format!("a{n}")).chain(["app".to_owned()]);
    let query = LogQuery::recent().threads(threads).targets(targets).limit(1);
    assert_eq!(ids(&all(&place.logs, &query)), [2, 1]);
}

#[test]
fn a_log_that_was_begun_anew_refuses_the_cursors_of_the_one_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let (home, other) = (folder.path().join("home"), folder.path().join("other"));
    let cursor = {
        let (runtime, database, logs) = open(&home);
        write(&database, &[event(1, "a"), event(2, "b")]);
        let page = logs.query(&LogQuery::recent().limit(1)).expect("a page");
        runtime.close(LONG);
        page.next_cursor.expect("more")
    };
    let (_runtime, database, logs) = open(&other);
    write(&database, &[event(1, "c"), event(2, "d")]);
    let error = logs.query(&LogQuery::recent().cursor(&*cursor)).expect_err("another log");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.advice().is_some());
    let (_runtime, _, logs) = open(&home);
    assert_eq!(messages(&logs.query(&LogQuery::recent().cursor(&*cursor)).expect("its own").rows), ["a"]);
}

#[test]
fn the_tail_is_the_newest_rows_oldest_first() {
    let events = (0..30_000).map(|n| event(n, n.to_string()));
    let mut events: Vec<_> = events.collect();
    events[3].level = LogLevel::Error;
    let place = place(&events);
    let all = LogQuery::recent();
    assert_eq!(messages(&place.logs.tail(&all, 3).expect("rows")), ["29997", "29998", "29999"]);
    assert_eq!(place.logs.tail(&all, 0).expect("rows"), []);
    assert_eq!(place.logs.tail(&all, 10_000).expect("rows").len(), 10_000);
    let errors = all.clone().level(LogLevel::Error).direction(Direction::Ascending).limit(1);
    assert_eq!(messages(&place.logs.tail(&errors, 3).expect("rows")), ["3"], "however far back");
    assert_eq!(place.logs.tail(&all, 10_001).expect_err("too many").kind(), ErrorKind::Invalid);
}

// ---- written out

#[test]
fn an_export_is_json_lines_or_text_oldest_first() {
    let events = [
        event(1_772_366_400_000_000_000, "one\ntwo").level(LogLevel::Warn).thread(THREAD),
        event(1_772_366_401_000_000_000, "three").fields(serde_json::json!({"n": 1})),
    ];
    let place = place(&events);
    let mut out = Vec::new();
    let done =
        place.logs.export(&LogQuery::recent().limit(1), LogFormat::JsonLines, &mut out).expect("written");
    assert_eq!((done.rows, done.bytes), (2, out.len() as u64));
    let rows: Vec<LogRow> = std::str::from_utf8(&out)
        .expect("UTF-8")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a row a line"))
        .collect();
    assert_eq!(rows, place.logs.tail(&LogQuery::recent(), 2).expect("rows"));
    let mut out = Vec::new();
    place.logs.export(&LogQuery::recent(), LogFormat::Text, &mut out).expect("written");
    assert_eq!(
        String::from_utf8(out).expect("UTF-8"),
        format!(
            "2026-03-01T12:00:00.000000Z  WARN app: one\n    two thread={THREAD}\n\
             2026-03-01T12:00:01.000000Z  INFO app: three n=1\n"
        )
    );
}

/// Looks at every write whether the log can be worked off to its end.
struct Checkpoints {
    connection: rowhouse::rusqlite::Connection,
    busy: i64,
    writes: u64,
}

impl Write for Checkpoints {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.writes += 1;
        if self.writes.is_multiple_of(500) {
            self.busy += pinned(&self.connection);
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// 1 when somebody's snapshot keeps the log from being worked off.
fn pinned(connection: &rowhouse::rusqlite::Connection) -> i64 {
    connection.execute_batch("UPDATE log SET line = line + 1 WHERE id = 1").expect("something in the log");
    let row = |row: &rowhouse::rusqlite::Row<'_>| row.get(0);
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], row).expect("a checkpoint")
}

#[test]
fn an_export_holds_no_snapshot_while_it_writes() {
    let place = place(&(0..5_000).map(|n| event(n, "x")).collect::<Vec<_>>());
    let connection = raw(&place.folder.path().join("logs.sqlite"));
    // The engine's own checkpoints are over in no time.
    connection.busy_timeout(LONG).expect("patience");
    let mut to = Checkpoints { connection, busy: 0, writes: 0 };
    let done = place.logs.export(&LogQuery::recent(), LogFormat::Text, &mut to).expect("written");
    assert_eq!((done.rows, to.busy), (5_000, 0));
    // Without pages: one read for the whole of it is in the way for as long as it lasts.
    to.connection.busy_timeout(Duration::from_millis(200)).expect("less patience");
    let busy = place.database.read(|at| at.row("SELECT id FROM log", [], |_| Ok(pinned(&to.connection))));
    assert_eq!(busy.expect("read"), 1);
}

#[test]
fn an_export_that_cannot_be_written_says_so() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let place = place(&[event(1, "secret")]);
    let error = place.logs.export(&LogQuery::recent(), LogFormat::Text, &mut Full).expect_err("full");
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(std::error::Error::source(&error).is_some() && !error.to_string().contains("secret"), "{error}");
}

// ---- for a report

fn feedback(logs: &Logs, thread: &str) -> (rowhouse::stores::logs::LogFeedback, Vec<LogRow>) {
    let mut out = Vec::new();
    let told = logs.feedback(thread, LogFormat::JsonLines, &mut out).expect("a bundle");
    assert_eq!(told.written.bytes, out.len() as u64);
    let lines = std::str::from_utf8(&out).expect("UTF-8").lines();
    (told, lines.map(|line| serde_json::from_str(line).expect("a row")).collect())
}

#[test]
fn a_bundle_is_the_thread_and_what_its_last_process_said_of_no_thread() {
    let place = place(&[
        event(1, "early, process-1"),
        event(2, "mine, process-1").thread(THREAD),
        event(3, "early, process-2").process("process-2"),
        event(4, "other thread").thread(OTHER).process("process-2"),
        event(5, "mine, process-2").thread(THREAD).process("process-2"),
        event(6, "late, process-1"),
        event(7, "late, process-2").process("process-2"),
    ]);
    let (told, rows) = feedback(&place.logs, &THREAD.to_uppercase());
    assert_eq!((&*told.thread_id, &*told.process_id, told.is_cut), (THREAD, "process-2", false));
    assert_eq!(
        messages(&rows),
        ["mine, process-1", "early, process-2", "mine, process-2", "late, process-2"]
    );
    assert_eq!(told.written.rows, 4);
}

#[test]
fn a_bundle_holds_the_newest_ten_mebibytes() {
    let events: Vec<_> = (0..400)
        .map(|n| {
            let event = event(n, format!("{n:04}{}", "x".repeat(40 << 10)));
            if n % 3 == 0 { event.thread(THREAD) } else { event }
        })
        .collect();
    let place = place(&events);
    let (told, rows) = feedback(&place.logs, THREAD);
    assert!(told.is_cut);
    let bytes = told.written.bytes;
    assert!(bytes <= FEEDBACK_BYTES && bytes > FEEDBACK_BYTES - (48 << 10), "{bytes}");
    let first = 401 - i64::try_from(rows.len()).expect("few");
    assert_eq!(ids(&rows), (first..=400).collect::<Vec<_>>(), "oldest first, none left out");
}

#[test]
fn a_bundle_holds_no_secret() {
    let canary = "sk-proj-c4n4ryc4n4ryc4n4ry";
    let place = place(&[event(1, format!("asked with Authorization: Bearer {canary}"))
        .thread(THREAD)
        .fields(serde_json::json!({
            "api_key": "hunter2-canary",
            "prompt": {"text": "prompt-canary"},
            "nested": [{"note": format!("key {canary} used"), "password": "hunter3-canary"}],
            "count": 3,
        }))]);
    for format in [LogFormat::JsonLines, LogFormat::Text] {
        let mut out = Vec::new();
        place.logs.feedback(THREAD, format, &mut out).expect("a bundle");
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(!text.contains("canary") && !text.contains(canary), "{text}");
        assert!(text.contains("asked with") && text.contains("REDACTED") && text.contains('3'), "{text}");
    }
    // Without it they are there: an export is for the user's own eyes.
    let mut out = Vec::new();
    place.logs.export(&LogQuery::recent(), LogFormat::JsonLines, &mut out).expect("written");
    assert!(String::from_utf8(out).expect("UTF-8").contains(canary));
}

#[test]
fn there_is_no_bundle_of_an_unknown_thread() {
    let place = place(&[event(1, "a")]);
    for (thread, kind) in [(THREAD, ErrorKind::NotFound), ("x", ErrorKind::Invalid), ("", ErrorKind::Invalid)]
    {
        let mut out = Vec::new();
        let error = place.logs.feedback(thread, LogFormat::Text, &mut out).expect_err(thread);
        assert_eq!((error.kind(), out.len()), (kind, 0));
    }
}

// ---- in all

#[test]
fn stats_tell_the_ends_of_the_log_and_the_levels_of_its_newest_rows() {
    let empty = place(&[]);
    let none = empty.logs.stats().expect("stats");
    assert_eq!((none.rows, none.oldest, none.newest, none.recent.counted), (0, None, None, 0));
    let mut events: Vec<_> = (0..25_000).map(|n| event(n, "x")).collect();
    events[24_999].level = LogLevel::Error;
    events[0].level = LogLevel::Warn;
    let place = place(&events);
    delete(&place.database, "id = 7");
    let stats = place.logs.stats().expect("stats");
    assert_eq!((stats.rows, stats.oldest, stats.newest), (25_000, Some(0), Some(24_999)));
    let recent = stats.recent;
    assert_eq!((recent.counted, recent.info, recent.error, recent.warn), (ROW_BUDGET, ROW_BUDGET - 1, 1, 0));
    let on_disk = ["logs.sqlite", "logs.sqlite-wal", "logs.sqlite-shm"]
        .map(|name| std::fs::metadata(place.folder.path().join(name)).expect("a file").len());
    assert_eq!(stats.bytes, on_disk.iter().sum::<u64>());
}

#[test]
fn a_runtime_without_a_log_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = rowhouse::Home::at(folder.path());
    let runtime = Runtime::builder(home).domain(rowhouse::Domain::goals()).open().expect("a runtime");
    let logs = runtime.logs();
    assert_eq!(logs.tail(&LogQuery::recent(), 1).expect_err("none").kind(), ErrorKind::NotFound);
    assert_eq!(logs.stats().expect_err("none").kind(), ErrorKind::NotFound);
}
