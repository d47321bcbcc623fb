//! What holds for every command, by one table of them: with `--json` standard output is JSON and nothing else, a reader
//! that has seen enough is no failure, and nothing is coloured that nobody would see. A command without a row fails.
#![allow(clippy::disallowed_methods, reason = "a test prepares files from outside")]

mod common;
#[path = "../../tests/log_rows/mod.rs"]
mod log_rows;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{document, rowhouse};
use log_rows::{event, open, write};
use rowhouse::stores::LogLevel;
use serde_json::{Value, json};

const THREAD: &str = "019cadf1-7a5e-7b04-8f21-5d0c9a41e001";
const OTHER: &str = "019caf52-d0c4-7310-a6be-2f7718c3e002";

/// Command and arguments, in an order in which all of them have something to do. `{words}` are of [`Sample`].
const TABLE: &[(&str, &str)] = &[
    ("status", ""),
    ("stats", ""),
    ("who", ""),
    ("path", ""),
    ("doctor", "--list"),
    ("import", "{transcripts}"),
    ("import codex", "{transcripts}"),
    ("export", "{folder}/threads.rowhouse"),
    ("import home", "{folder}/threads.rowhouse"),
    ("backfill", ""),
    ("backfill status", ""),
    ("reindex", ""),
    ("threads list", ""),
    ("threads search", "rounding"),
    ("threads tree", "{thread}"),
    ("threads show", "{thread}"),
    ("threads turns", "{thread}"),
    ("threads export", "{thread} --output {folder}/thread.md"),
    ("threads rename", "{thread} name"),
    ("threads pin", "{thread}"),
    ("threads unpin", "{thread}"),
    ("threads archive", "{other}"),
    ("threads unarchive", "{other}"),
    ("threads fork", "{thread}"),
    ("logs tail", ""),
    ("logs query", ""),
    ("logs export", ""),
    ("logs feedback", "{thread}"),
    ("logs stats", ""),
    ("logs level", ""),
    ("logs prune", "--dry-run"),
    ("keys list", ""),
    ("keys create", "--account user-2 --client laptop"),
    ("keys public", "{key} --format json"),
    (
        "keys sign",
        "{key} --domain example.org/v1 --audience connect --origin https://example.org --path /connect {payload}",
    ),
    ("keys clean", "--dry-run"),
    ("keys remove", "{key} --yes"),
    ("goals list", ""),
    ("goals show", "{thread}"),
    ("goals set", "{other} --objective Ship"),
    ("goals update", "{thread} --budget 10"),
    ("goals pause", "{thread}"),
    ("goals resume", "{thread}"),
    ("goals rm", "{thread} --yes"),
    ("memories status", ""),
    ("maintain", ""),
    ("compact", ""),
    ("backup", "{folder}/copy"),
    ("restore", "{backup} --dry-run"),
    ("repair plan", ""),
    ("repair apply", "--yes"),
    ("threads rm", "{other} --yes"),
    ("demo", "--seconds 1"),
    ("bench contention", "--quick --only callers_1_full --seconds 0.1 --rounds 1 --dir {folder}"),
    ("bench startup", "--quick --rounds 1 --only open_warm --dir {folder}"),
    ("bench backfill", "--quick --rounds 1 --files 10 --dir {folder}"),
    ("bench growth", "--quick --seconds 2 --threads 1 --processes 1 --dir {folder}"),
    ("bench stores", "--quick --only goal_account_1 --seconds 0.1 --rounds 1 --threads 10 --dir {folder}"),
    ("bench backend", "--quick --only thread_read_1 --seconds 0.1 --rounds 1 --threads 50 --dir {folder}"),
    ("config show", ""),
    ("report", "--html {folder}/report.html"),
    ("support bundle", "{folder}/report.tar.gz --yes"),
    ("completions", "bash"),
    ("man", ""),
];

/// Needs a terminal, and says so: `cli/tests/top.rs`.
const DRAWS: &str = "top";

/// Needs a server: `cli/tests/migrate_backend.rs`.
const NEEDS_A_SERVER: &str = "migrate-backend";

/// A home in which every command has something to do.
struct Sample {
    folder: tempfile::TempDir,
    home: PathBuf,
    key: String,
}

impl Sample {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().join("home");
        let transcripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/transcripts");
        copy(&transcripts, &home);
        copy(&transcripts, &folder.path().join("transcripts"));
        let did = |arguments: &[&str]| {
            let (code, told) = document(&home, arguments);
            assert_eq!(code, Some(0), "{arguments:?}: {told}");
            told
        };
        did(&["reindex"]);
        did(&["goals", "set", THREAD, "--objective", "Ship it"]);
        let made = did(&["keys", "create", "--account", "user-1", "--client", "laptop"]);
        let key = made["key_id"].as_str().expect("an id").to_owned();
        did(&["backup", &folder.path().join("backup").display().to_string()]);
        let payload = serde_json::to_string(&payload()).expect("JSON");
        fs::write(folder.path().join("payload.json"), payload).expect("written");
        let (_runtime, database, _) = open(&home);
        let now = i64::try_from(since_1970().as_nanos()).expect("not so late");
        write(&database, &[event(now, "one").thread(THREAD), event(now, "two").level(LogLevel::Error)]);
        Self { folder, home, key }
    }

    /// A command with its arguments, as they are for this home.
    fn words(&self, command: &str, arguments: &str) -> Vec<String> {
        let place = |name: &str| self.folder.path().join(name).display().to_string();
        let filled = |word: &str| {
            word.replace("{thread}", THREAD)
                .replace("{other}", OTHER)
                .replace("{key}", &self.key)
                .replace("{transcripts}", &place("transcripts"))
                .replace("{payload}", &place("payload.json"))
                .replace("{backup}", &place("backup"))
                .replace("{folder}", &self.folder.path().display().to_string())
        };
        command.split(' ').map(str::to_owned).chain(arguments.split_whitespace().map(filled)).collect()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the samples").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::write(to, fs::read(from).expect("read")).expect("written");
        }
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

fn payload() -> Value {
    json!({
        "nonce": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
        "audience": "connect",
        "target_origin": "https://example.org",
        "target_path": "/connect",
        "account_user_id": "user-1",
        "client_id": "laptop",
        "expires_at": u64::try_from(since_1970().as_millis()).expect("not so late") + 600_000,
        "claims": {},
    })
}

/// The commands that do something, as the manual has them.
fn commands() -> BTreeSet<String> {
    let (_, manual) = document(Path::new("/nonexistent"), &["man"]);
    let pages = manual["pages"].as_array().expect("pages").iter();
    let both = ["rowhouse backfill", "rowhouse import"];
    let does =
        |page: &&Value| page["is_group"] == false || both.iter().any(|command| page["command"] == *command);
    let name = |page: &Value| page["command"].as_str().expect("a name")["rowhouse ".len()..].to_owned();
    pages.filter(does).map(name).filter(|name| name != DRAWS && name != NEEDS_A_SERVER).collect()
}

#[test]
fn every_command_is_in_the_table() {
    let listed: BTreeSet<_> = TABLE.iter().map(|(command, _)| (*command).to_owned()).collect();
    assert_eq!(commands(), listed, "left: the commands, right: the rows of TABLE in this file");
}

#[test]
fn every_command_prints_json_and_nothing_else_when_asked_to() {
    let sample = Sample::new();
    for (command, arguments) in TABLE {
        let mut words = sample.words(command, arguments);
        words.push("--json".to_owned());
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let (code, stdout, stderr) = rowhouse(&sample.home, &words);
        assert_eq!(code, Some(0), "{command}: {stdout}{stderr}");
        let one = serde_json::from_str::<Value>(&stdout).is_ok();
        let lines = || stdout.lines().all(|line| serde_json::from_str::<Value>(line).is_ok());
        assert!(one || lines(), "{command}: {stdout}");
    }
}

/// Runs every command with nobody at the other end of its standard output.
fn without_a_reader(table: impl Iterator<Item = &'static (&'static str, &'static str)>, more: &[&str]) {
    let sample = Sample::new();
    for (command, arguments) in table {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
            .arg("--home")
            .arg(&sample.home)
            .args(sample.words(command, arguments))
            .args(more)
            .stdin(Stdio::null())
            .stdout(writer)
            .output()
            .expect("the command runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{command}: {told}");
        assert!(!told.contains("error") && !told.contains("panic"), "{command}: {told}");
    }
}

#[test]
fn a_reader_that_is_gone_is_no_failure_of_any_command() {
    without_a_reader(TABLE.iter(), &[]);
}

#[test]
fn a_reader_that_is_gone_is_no_failure_of_any_document() {
    // Those that measure take seconds, and print as all others do.
    let quick = TABLE.iter().filter(|(command, _)| !command.starts_with("bench") && *command != "demo");
    without_a_reader(quick, &["--json"]);
}

#[test]
fn a_typo_is_answered_with_what_was_meant() {
    for (typed, meant) in [
        (&["statu"][..], "'status'"),
        (&["threads", "lst"], "'list'"),
        (&["threads", "list", "--archive"], "'--archived'"),
        (&["completions", "bsh"], "'bash'"),
    ] {
        let (code, stdout, stderr) = rowhouse(Path::new("/nonexistent"), typed);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{typed:?}");
        assert!(stderr.contains("similar") && stderr.contains(meant), "{typed:?}: {stderr}");
    }
}

/// Standard output of `who --help` with these variables and arguments.
fn help(variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let output = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
        .args(arguments)
        .args(["who", "--help"])
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .envs(variables.iter().copied())
        .output()
        .expect("the command runs");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn colours_are_where_somebody_asked_for_them() {
    let is_coloured = |variables: &[_], arguments: &[_]| help(variables, arguments).contains('\u{1b}');
    assert!(!is_coloured(&[], &[]), "a pipe");
    assert!(is_coloured(&[], &["--color", "always"]));
    assert!(is_coloured(&[], &["--color=always"]));
    assert!(is_coloured(&[("CLICOLOR_FORCE", "1")], &[]));
    assert!(!is_coloured(&[("CLICOLOR_FORCE", "1")], &["--color", "never"]), "the command line comes first");
    assert!(!is_coloured(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &[]));
    assert!(is_coloured(&[("NO_COLOR", "1")], &["--color", "always"]));
}

#[test]
fn manual_pages_and_completions_know_every_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("man1");
    let (code, written) = document(folder.path(), &["man", "--dir", &pages.display().to_string()]);
    assert_eq!(code, Some(0), "{written}");
    let (_, bash, _) = rowhouse(folder.path(), &["completions", "bash"]);
    for command in commands() {
        let name = format!("rowhouse-{}.1", command.replace(' ', "-"));
        let page = fs::read_to_string(pages.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains(".SH EXAMPLES") && page.contains(".SH OPTIONS"), "{name}");
        let completed = format!("rowhouse__subcmd__{}", command.replace(' ', "__subcmd__"));
        assert!(bash.contains(&completed), "{completed}");
    }
    assert!(!pages.join("rowhouse-worker.1").exists(), "what is for the program itself stays so");
    assert!(!bash.contains("worker"), "{bash}");
}
