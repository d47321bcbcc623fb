//! The log of a home is read on the command line: beside those who write it, by every filter, in lines for people and
//! for programs.

#![allow(clippy::disallowed_methods, reason = "a test reads what a command wrote, and gets in its way")]

mod common;
#[path = "../../tests/log_rows/mod.rs"]
mod log_rows;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{document, rowhouse};
use log_rows::*;
use rowhouse::stores::{LogLevel, LogRow};
use serde_json::{Value, json};

/// A home with a few rows, whose writer goes on having it open.
fn home() -> (tempfile::TempDir, rowhouse::Runtime, rowhouse::Database) {
    let folder = tempfile::tempdir().expect("a folder");
    let (runtime, database, _) = open(folder.path());
    write(
        &database,
        &[
            event(1_772_366_400_000_000_000, "one").thread(THREAD),
            event(1_772_366_401_000_000_000, "two").level(LogLevel::Error).target("ledger::sync"),
            event(1_772_366_402_000_000_000, "three").fields(json!({"api_key": "hunter2"})).thread(THREAD),
        ],
    );
    (folder, runtime, database)
}

fn lines(stdout: &str) -> Vec<LogRow> {
    stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// What a command prints as JSON lines.
fn rows(home: &Path, arguments: &[&str]) -> Vec<String> {
    let (code, stdout, stderr) = rowhouse(home, &[arguments, &["--json"]].concat());
    assert_eq!(code, Some(0), "{arguments:?}: {stdout}{stderr}");
    lines(&stdout).into_iter().map(|row| row.message).collect()
}

#[test]
fn rows_are_queried_by_every_filter_newest_first() {
    let (folder, _runtime, _) = home();
    let query = |filters: &[&str]| rows(folder.path(), &[&["logs", "query"], filters].concat());
    assert_eq!(query(&[]), ["three", "two", "one"]);
    assert_eq!(query(&["--asc"]), ["one", "two", "three"]);
    assert_eq!(query(&["--level", "WARN"]), ["two"]);
    assert_eq!(query(&["--since", "2026-03-01T12:00:01Z", "--until", "2026-03-01T12:00:02Z"]), ["two"]);
    assert_eq!(query(&["--since", "1 min ago"]), [""; 0]);
    assert_eq!(query(&["--target", "ledger", "--target", "web"]), ["two"]);
    assert_eq!(query(&["--module", "x"]), [""; 0]);
    assert_eq!(query(&["--file", "x"]), [""; 0]);
    assert_eq!(query(&["--thread", THREAD, "--text", "HUNTER2"]), ["three"]);
    assert_eq!(query(&["--threadless", "--process", "process-1"]), ["two"]);
}

#[test]
fn a_page_ends_in_the_cursor_of_the_next_one() {
    let (folder, _runtime, _) = home();
    let mut seen = Vec::new();
    let mut arguments =
        vec!["logs".to_owned(), "query".to_owned(), "--limit=1".to_owned(), "--json".to_owned()];
    loop {
        let borrowed: Vec<_> = arguments.iter().map(String::as_str).collect();
        let (code, stdout, stderr) = rowhouse(folder.path(), &borrowed);
        assert_eq!(code, Some(0), "{stderr}");
        seen.extend(lines(&stdout).into_iter().map(|row| row.message));
        let Some(cursor) = stderr.strip_prefix("next_cursor ") else { break };
        arguments.truncate(4);
        arguments.push(format!("--cursor={}", cursor.trim()));
    }
    assert_eq!(seen, ["three", "two", "one"]);
}

/// Control: where no thread is known only a whole id names one.
#[test]
fn a_thread_is_named_by_the_beginning_or_the_end_of_its_id() {
    use rowhouse::stores::ThreadFacts;
    let (folder, _runtime, _) = home();
    let (code, told) = document(folder.path(), &["logs", "query", "--thread", "00000001"]);
    assert_eq!((code, &told["error"]["kind"]), (Some(1), &json!("invalid")), "{told}");
    let state = rowhouse::Runtime::builder(rowhouse::Home::at(folder.path()))
        .domain(rowhouse::Domain::state())
        .open()
        .expect("opened");
    let facts = |id: &str| ThreadFacts { id: id.to_owned(), ..ThreadFacts::default() };
    state.threads().upsert(&[facts(THREAD), facts(OTHER)]).expect("threads");
    for command in ["query", "tail", "export"] {
        let mut found = rows(folder.path(), &["logs", command, "--thread", "00000001"]);
        found.sort();
        assert_eq!(found, ["one", "three"], "{command}");
    }
    let (code, told) = document(folder.path(), &["logs", "query", "--thread", "019cadf1"]);
    assert_eq!((code, &told["error"]["kind"]), (Some(1), &json!("conflict")), "two begin so: {told}");
    let (code, stdout, _) = rowhouse(folder.path(), &["logs", "feedback", "00000001"]);
    assert_eq!((code, lines(&stdout).len()), (Some(0), 3), "{stdout}");
    assert_eq!(document(folder.path(), &["logs", "prune", "--thread", "00000001", "--yes"]).1["rows"], 2);
}

#[test]
fn people_see_a_line_a_row_and_colours_only_on_a_terminal() {
    let (folder, _runtime, _) = home();
    let (code, stdout, _) = rowhouse(folder.path(), &["logs", "tail", "-n", "2"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        stdout,
        format!(
            "2026-03-01T12:00:01.000000Z ERROR ledger::sync: two\n\
             2026-03-01T12:00:02.000000Z  INFO app: three api_key=hunter2 thread={THREAD}\n"
        )
    );
    let coloured = |variable: &str| {
        let output = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
            .env(variable, "1")
            .arg("--home")
            .arg(folder.path())
            .args(["logs", "tail"])
            .output()
            .expect("the command runs");
        output.stdout.contains(&0x1b)
    };
    assert!(coloured("CLICOLOR_FORCE") && !coloured("NO_COLOR"));
    let (code, stdout, _) = rowhouse(folder.path(), &["logs", "query", "--text", "nowhere"]);
    assert_eq!((code, &*stdout), (Some(0), "no rows\n"));
}

/// A command that runs on; killed with its handle.
struct Running(Child);

impl Running {
    fn start(home: &Path, arguments: &[&str]) -> Self {
        let child = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
            .arg("--home")
            .arg(home)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.expect("the command runs"))
    }

    fn lines(&mut self) -> impl Iterator<Item = String> {
        let stdout = self.0.stdout.take().expect("piped");
        BufReader::new(stdout).lines().map(|line| line.expect("a line"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn following_shows_what_another_process_writes() {
    let (folder, _runtime, database) = home();
    let mut command =
        Running::start(folder.path(), &["logs", "tail", "-f", "-n", "1", "--thread", THREAD, "--json"]);
    let mut lines = command.lines();
    let mut next = || {
        let line = lines.next().expect("a line");
        serde_json::from_str::<LogRow>(&line).unwrap_or_else(|error| panic!("{error}: {line}")).message
    };
    assert_eq!(next(), "three");
    write(&database, &[event(1, "four").thread(THREAD), event(2, "not of the thread")]);
    assert_eq!(next(), "four");
    write(&database, &[event(3, "five").thread(THREAD)]);
    assert_eq!(next(), "five");
}

#[test]
fn following_waits_for_a_log_that_is_not_there_and_makes_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    for command in ["query", "tail", "stats", "export"] {
        let (code, error) = document(&home, &["logs", command]);
        assert_eq!((code, &error["error"]["kind"]), (Some(1), &json!("not_found")), "{error}");
        assert!(error["error"]["advice"].is_string(), "{error}");
    }
    let mut command = Running::start(&home, &["logs", "tail", "-f", "--json"]);
    let mut lines = command.lines();
    assert!(!home.exists(), "nothing was made");
    let (_runtime, database, _) = open(&home);
    write(&database, &[event(1, "first")]);
    assert!(lines.next().expect("a line").contains("first"));
}

#[test]
fn reading_needs_no_lock_that_a_writer_has() {
    let (folder, runtime, database) = home();
    let file = database.path().to_owned();
    runtime.close(std::time::Duration::from_secs(20));
    drop((runtime, database));
    let writer = rowhouse::rusqlite::Connection::open(file).expect("the log");
    writer.execute_batch("BEGIN IMMEDIATE; DELETE FROM log").expect("the write lock");
    assert_eq!(rows(folder.path(), &["logs", "query"]), ["three", "two", "one"]);
    assert_eq!(rows(folder.path(), &["logs", "tail", "-n1"]), ["three"]);
    assert_eq!(rows(folder.path(), &["logs", "export", "--level=warn"]), ["two"]);
    let mut command = Running::start(folder.path(), &["logs", "tail", "-f", "--json"]);
    let seen: Vec<_> = command.lines().take(3).collect();
    assert!(seen[2].contains("three"), "{seen:?}");
}

#[test]
fn an_export_goes_to_a_private_file_whole_or_not_at_all() {
    let (folder, _runtime, _) = home();
    let out = tempfile::tempdir().expect("a folder");
    let file = out.path().join("out.jsonl");
    let name = file.to_str().expect("UTF-8");
    let (code, done) = document(folder.path(), &["logs", "export", "--level", "error", "--output", name]);
    assert_eq!((code, &done["rows"]), (Some(0), &json!(1)), "{done}");
    let text = std::fs::read_to_string(&file).expect("the file");
    assert_eq!((lines(&text)[0].message.as_str(), done["bytes"].as_u64()), ("two", Some(text.len() as u64)));
    assert_eq!(file.metadata().expect("the file").permissions().mode() & 0o777, 0o600);

    let (code, stdout, _) = rowhouse(folder.path(), &["logs", "export", "--format", "text"]);
    assert_eq!((code, stdout.lines().count()), (Some(0), 3), "{stdout}");
    assert_eq!(rows(folder.path(), &["logs", "export"]), ["one", "two", "three"]);
    let (code, error) = document(folder.path(), &["logs", "export", "--format", "text"]);
    assert_eq!((code, &error["error"]["kind"]), (Some(1), &json!("invalid")), "{error}");
    let (code, error) =
        document(folder.path(), &["logs", "export", "--output", out.path().to_str().expect("UTF-8")]);
    assert_eq!((code, &error["error"]["kind"]), (Some(1), &json!("invalid")), "{error}");
    let (code, error) = document(folder.path(), &["logs", "feedback", OTHER, "--output", name, "--force"]);
    assert_eq!((code, &error["error"]["kind"]), (Some(1), &json!("not_found")), "{error}");
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), text, "as it was");
    assert_eq!(std::fs::read_dir(out.path()).expect("the folder").count(), 1, "nothing beside it");
}

#[test]
fn feedback_is_redacted() {
    let (folder, _runtime, _) = home();
    let (code, stdout, _) = rowhouse(folder.path(), &["logs", "feedback", THREAD]);
    assert_eq!(code, Some(0));
    assert_eq!(lines(&stdout).len(), 3);
    assert!(!stdout.contains("hunter2") && stdout.contains("api_key"), "{stdout}");
}

#[test]
fn stats_are_a_table_or_a_document() {
    let (folder, _runtime, _) = home();
    let (code, stats) = document(folder.path(), &["logs", "stats"]);
    assert_eq!((code, &stats["rows"], &stats["recent"]["error"]), (Some(0), &json!(3), &json!(1)), "{stats}");
    assert_eq!(stats["oldest"], "2026-03-01T12:00:00Z", "{stats}");
    assert!(stats["bytes"].as_u64().is_some_and(|bytes| bytes > 4096), "{stats}");
    let (code, stdout, _) = rowhouse(folder.path(), &["logs", "stats"]);
    assert!(code == Some(0) && stdout.contains("of the newest 3: 1 error, 0 warn, 2 info"), "{stdout}");
}

#[test]
fn bad_input_is_told_and_ends_with_the_usual_codes() {
    let (folder, _runtime, _) = home();
    for (arguments, code, kind) in [
        (&["query", "--thread", "x"][..], 1, "invalid"),
        (&["query", "--cursor", "x"], 1, "invalid"),
        (&["feedback", "x"], 1, "invalid"),
        (&["query", "--level", "loud"], 2, "usage"),
        (&["query", "--since", "soon"], 2, "usage"),
        (&["query", "--limit", "0"], 2, "usage"),
        (&["query", "--limit", "1001"], 2, "usage"),
        (&["tail", "-n", "-1"], 2, "usage"),
    ] {
        let (found, error) = document(folder.path(), &[&["logs"], arguments].concat());
        assert_eq!(
            (found, &error["error"]["kind"]),
            (Some(code), &Value::from(kind)),
            "{arguments:?}: {error}"
        );
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (folder, _runtime, database) = home();
    write(&database, &(0..20_000).map(|n| event(n, "x".repeat(100))).collect::<Vec<_>>());
    for arguments in
        [&["logs", "export"][..], &["logs", "tail", "-n", "10000"], &["logs", "export", "--format=text"]]
    {
        let mut command = Running::start(folder.path(), arguments);
        let mut some = [0; 10];
        command.0.stdout.take().expect("piped").read_exact(&mut some).expect("something");
        assert_eq!(command.0.wait().expect("it ends").code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn the_level_is_shown_and_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    let level = |arguments: &[&str]| {
        let (code, stdout, stderr) = rowhouse(&home, &[&["logs", "level"], arguments].concat());
        (code, stdout, stderr)
    };
    assert!(level(&[]).1.starts_with("info"), "{:?}", level(&[]));
    assert!(!home.exists(), "looking creates nothing");
    let (code, stdout, _) = level(&["warn,my_app=debug"]);
    assert_eq!((code, stdout.as_str()), (Some(0), "warn,my_app=debug  (set in the home's config.toml)\n"));
    let (_, set) = document(&home, &["logs", "level"]);
    assert_eq!(set, json!({"levels": "warn,my_app=debug", "origin": "config"}));
    let (code, _, stderr) = level(&["my_app=loud"]);
    assert_eq!(code, Some(2), "{stderr}");
    for (word, about) in [("nonsense", "nonsense"), ("warn,debg", "debg"), ("inf0", "inf0")] {
        let (code, _, stderr) = level(&[word]);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains("off, error, warn, info, debug, trace"), "{stderr}");
        assert!(stderr.contains(&format!("{about}=debug")), "what a directive looks like: {stderr}");
    }
    assert!(level(&[]).1.starts_with("warn,my_app=debug"), "it is as it was");
    let (code, ..) = level(&["off"]);
    assert_eq!(code, Some(0));
    drop(rowhouse::Runtime::open(rowhouse::Home::at(&home)).expect("opens"));
    assert!(!home.join("logs.sqlite").exists(), "off");
    let (_, stdout, _) = level(&["--reset"]);
    assert!(stdout.starts_with("info"), "{stdout}");
}

#[test]
fn old_rows_and_those_of_a_thread_are_deleted() {
    let (folder, _runtime, _database) = home();
    let prune = |arguments: &[&str]| {
        let (code, stdout, stderr) = rowhouse(folder.path(), &[&["logs", "prune"], arguments].concat());
        assert_eq!(code, Some(0), "{stderr}");
        stdout
    };
    assert!(
        prune(&["--older-than", "2026-03-01T12:00:01Z", "--dry-run"]).starts_with("1 row would be deleted")
    );
    assert_eq!(document(folder.path(), &["logs", "prune", "--thread", THREAD, "--yes"]).1["rows"], 2);
    assert_eq!(rows(folder.path(), &["logs", "query"]), ["two"]);
    assert!(prune(&["--older-than", "0s", "--yes"]).starts_with("1 row deleted"));
    let (code, _, stderr) = rowhouse(folder.path(), &["logs", "prune", "--thread", "mine", "--yes"]);
    assert_eq!(code, Some(1), "{stderr}");
}
