//! What a user says about threads on the command line: it is in the transcript, it waits for no program that has the thread,
//! and what lies outside the home is left alone.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{document, rowhouse};
use rowhouse::rollout::{Item, NewRollout};
use rowhouse::thread_store::{LocalThreadStore, ThreadStore};
use rowhouse::{Home, Runtime};
use serde_json::{Value, json};

/// A store in a new home, and two threads of two turns each.
fn home() -> (tempfile::TempDir, LocalThreadStore, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    let store =
        LocalThreadStore::new(&Runtime::open(Home::at(folder.path())).expect("opened")).expect("a store");
    let threads = ["Fix the parser", "Write the manual"].map(|asked| {
        let id = store
            .create(&NewRollout { cwd: Some("/srv/ledger".to_owned()), ..NewRollout::default() })
            .expect("begun");
        for turn in ["a", "b"] {
            let event = |kind: &str, text: &str| {
                Item::new("event_msg", &json!({"type": kind, "turn_id": turn, "message": text}))
                    .expect("an item")
            };
            let items = [
                event("task_started", ""),
                event("user_message", asked),
                event("agent_message", turn),
                event("task_complete", ""),
            ];
            store.append_items(&id, &items).expect("appended");
        }
        store.shutdown(&id).expect("given back");
        id
    });
    (folder, store, threads.to_vec())
}

fn done(home: &Path, arguments: &[&str]) -> Value {
    let (code, told) = document(home, &[&["threads"], arguments].concat());
    assert_eq!(code, Some(0), "{arguments:?}: {told}");
    told
}

fn refused(home: &Path, arguments: &[&str]) -> Value {
    let (code, told) = document(home, &[&["threads"], arguments].concat());
    assert_eq!(code, Some(1), "{arguments:?}: {told}");
    assert!(told["error"]["advice"].is_string(), "{told}");
    told["error"].clone()
}

#[test]
fn names_pins_and_the_archive_are_said_on_the_command_line_and_kept_in_the_transcript() {
    let (home, store, threads) = home();
    let short = &threads[0][28..];
    assert_eq!(done(home.path(), &["rename", short, "Parser"])["threads"][0]["title"], "Parser");
    done(home.path(), &["pin", short, &threads[1]]);
    done(home.path(), &["archive", short]);
    let row = store.read(&threads[0]).expect("a row");
    assert!(row.is_pinned && row.archived_at.is_some() && row.name.as_deref() == Some("Parser"), "{row:?}");
    assert!(row.rollout_path.expect("a file").contains("archived_sessions"));
    assert!(store.read(&threads[1]).expect("a row").is_pinned);
    let said: Vec<_> = store
        .load_history(&threads[0])
        .expect("a history")
        .map(|item| item.expect("an item"))
        .filter(|item| item.kind() == "thread_metadata")
        .collect();
    assert!(said.last().expect("a snapshot").text().contains(r#""name":"Parser""#), "{said:?}");

    let (code, stdout, _) = rowhouse(home.path(), &["threads", "unarchive", short]);
    assert_eq!((code, stdout), (Some(0), format!("unarchived  {}  Parser\n", threads[0])));
    done(home.path(), &["unpin", short]);
    assert_eq!(done(home.path(), &["rename", short, ""])["threads"][0]["title"], "Fix the parser");
    let row = store.read(&threads[0]).expect("a row");
    assert!(!row.is_pinned && row.archived_at.is_none() && row.name.is_none(), "{row:?}");
}

#[test]
fn a_thread_that_is_in_use_is_not_changed_and_its_owner_is_named() {
    let (home, store, threads) = home();
    store.resume(&threads[1]).expect("the right to write");
    for arguments in [&["rename", &threads[1], "x"][..], &["pin", &threads[1]], &["archive", &threads[1]]] {
        let error = refused(home.path(), arguments);
        assert_eq!(error["kind"], "conflict", "{error}");
        assert!(error["message"].as_str().expect("words").contains("held by"), "{error}");
        assert!(
            error["message"].as_str().expect("words").contains(&std::process::id().to_string()),
            "{error}"
        );
    }
    let error = refused(home.path(), &["pin", &threads[0], &threads[1]]);
    assert!(
        error["message"].as_str().expect("words").starts_with("1 of 2 threads are pinned, but not "),
        "{error}"
    );
    assert!(
        store.read(&threads[0]).expect("a row").is_pinned
            && !store.read(&threads[1]).expect("a row").is_pinned
    );
    // An id that is none stops it before anything.
    assert_eq!(refused(home.path(), &["unpin", &threads[0], "00000000"])["kind"], "not_found");
    assert!(store.read(&threads[0]).expect("a row").is_pinned);
    // Reading and forking need no right.
    let (code, shown, _) = rowhouse(home.path(), &["threads", "show", &threads[1]]);
    assert!(code == Some(0) && shown.contains("Write the manual"), "{shown}");
    done(home.path(), &["fork", &threads[1]]);
}

#[test]
fn a_fork_has_the_past_up_to_a_turn() {
    let (home, store, threads) = home();
    for (arguments, turns) in [
        (&[][..], vec!["a", "b"]),
        (&["--after-turn", "a"], vec!["a"]),
        (&["--before-turn", "b"], vec!["a"]),
        (&["--before-turn", "a"], vec![]),
    ] {
        let forked = done(home.path(), &[&["fork", &threads[0]], arguments].concat());
        let id = forked["id"].as_str().expect("an id");
        let (_, page) = document(home.path(), &["threads", "turns", id]);
        let found: Vec<_> = page["turns"]
            .as_array()
            .expect("turns")
            .iter()
            .map(|turn| turn["id"].as_str().expect("an id"))
            .collect();
        assert_eq!(found, turns, "{arguments:?}");
        let row = store.read(id).expect("a row");
        assert_eq!(
            (row.forked_from_id.as_ref(), row.cwd.as_deref()),
            (Some(&threads[0]), Some("/srv/ledger"))
        );
    }
    assert_eq!(refused(home.path(), &["fork", &threads[0], "--after-turn", "z"])["kind"], "not_found");
    let (code, stdout, _) =
        rowhouse(home.path(), &["threads", "fork", &threads[0], "--after-turn", "a", "--before-turn", "b"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
}

#[test]
fn what_lies_outside_the_home_is_forked_not_changed() {
    let home = tempfile::tempdir().expect("a folder");
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/transcripts");
    assert_eq!(rowhouse(home.path(), &["import", samples]).0, Some(0));
    let id = "019cd19f-aa40-7e58-b1d3-64c0f29be004";
    let file = Path::new(samples).join(format!("sessions/2026/03/09/rollout-2026-03-09T07-30-00-{id}.jsonl"));
    let before = std::fs::read(&file).expect("the transcript");
    for arguments in [&["rename", id, "x"][..], &["unpin", id], &["archive", id], &["unarchive", id]] {
        let error = refused(home.path(), arguments);
        assert_eq!(error["kind"], "invalid", "{error}");
        assert!(error["message"].as_str().expect("words").contains("outside this home"), "{error}");
        assert!(error["advice"].as_str().expect("words").contains("fork"), "{error}");
    }
    assert_eq!(std::fs::read(&file).expect("the transcript"), before);
    let (_, shown, _) = rowhouse(home.path(), &["threads", "list", "--json"]);
    assert!(shown.contains("Cent rounding"), "{shown}");
    let (code, forked, _) = rowhouse(home.path(), &["threads", "fork", id]);
    let forked = forked.trim_end();
    assert_eq!((code, forked.len()), (Some(0), 36));
    assert_eq!(done(home.path(), &["rename", forked, "Mine"])["threads"][0]["title"], "Mine");
    assert_eq!(std::fs::read(&file).expect("the transcript"), before);
}

/// Control: the same change while nobody has the database locked names nobody.
#[test]
fn a_change_that_waits_says_for_whom() {
    let (home, _store, threads) = home();
    let start = |words: &[&str]| {
        Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
            .arg("--home")
            .arg(home.path())
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts")
    };
    let ended = start(&["threads", "pin", &threads[0]]).wait_with_output().expect("it ends");
    let (own, said) = (format!("pid {}", std::process::id()), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success() && !said.contains(&own), "{said}");
    for (database, words) in [
        ("state", &["threads", "unpin", &threads[0]][..]),
        ("goals", &["goals", "set", &threads[0], "--objective", "Ship it"]),
        ("goals", &["goals", "rm", &threads[0], "--yes"]),
        ("state", &["threads", "rm", &threads[0], "--yes"]),
    ] {
        let file = home.path().join(format!("{database}.sqlite"));
        let other = rowhouse::rusqlite::Connection::open(file).expect("opened");
        other.execute_batch("BEGIN IMMEDIATE").expect("locked");
        let mut child = start(words);
        let mut said = String::new();
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        stderr.read_line(&mut said).expect("a line");
        assert!(said.starts_with("waiting for ") && said.contains(&own), "{words:?}: {said}");
        other.execute_batch("ROLLBACK").expect("let go");
        assert!(child.wait().expect("it ends").success(), "{words:?}");
    }
}

/// Control: without the wait it answered an id at once, and the list did not have it.
#[test]
fn a_fork_beside_a_locked_list_waits_and_is_listed() {
    let (home, store, threads) = home();
    let other = rowhouse::rusqlite::Connection::open(home.path().join("state.sqlite")).expect("opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
        .arg("--home")
        .arg(home.path())
        .args(["threads", "fork", &threads[0]])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = String::new();
    BufReader::new(child.stderr.take().expect("piped")).read_line(&mut said).expect("a line");
    assert!(said.starts_with("waiting for "), "{said}");
    other.execute_batch("ROLLBACK").expect("let go");
    let ended = child.wait_with_output().expect("it ends");
    let forked = String::from_utf8(ended.stdout).expect("an id");
    assert!(ended.status.success());
    let row = store.runtime().threads().get(forked.trim_end()).expect("read").expect("a row");
    assert_eq!(row.forked_from_id.as_ref(), Some(&threads[0]));
}

/// Control: without `--forget` it is refused.
#[test]
fn what_lies_outside_the_home_is_forgotten_and_its_file_stays() {
    let home = tempfile::tempdir().expect("a folder");
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/transcripts");
    assert_eq!(rowhouse(home.path(), &["import", samples]).0, Some(0));
    let id = "019cd19f-aa40-7e58-b1d3-64c0f29be004";
    let file = Path::new(samples).join(format!("sessions/2026/03/09/rollout-2026-03-09T07-30-00-{id}.jsonl"));
    let before = std::fs::read(&file).expect("the transcript");
    let is_listed = || rowhouse(home.path(), &["threads", "list", "--json"]).1.contains("Cent rounding");
    let error = refused(home.path(), &["rm", id, "--yes"]);
    assert!(error["advice"].as_str().expect("words").contains("--forget"), "{error}");
    let would = done(home.path(), &["rm", id, "--forget", "--dry-run"]);
    assert_eq!((&would["deleted"][0]["dry_run"], &would["deleted"][0]["files"]), (&true.into(), &0.into()));
    assert!(is_listed());
    let gone = done(home.path(), &["rm", id, "--forget", "--yes"]);
    assert_eq!(
        (&gone["deleted"][0]["threads"], &gone["deleted"][0]["files"], &gone["deleted"][0]["pending"]),
        (&json!([id]), &0.into(), &json!([]))
    );
    assert_eq!(rowhouse(home.path(), &["reindex"]).0, Some(0));
    assert!(!is_listed());
    assert_eq!(std::fs::read(&file).expect("the transcript"), before);
    assert_eq!(rowhouse(home.path(), &["import", samples]).0, Some(0));
    assert!(is_listed(), "another import brings it back");
}
