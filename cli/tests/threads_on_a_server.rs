//! `rowhouse threads` in a home whose state is on a server: every command works as on files, and makes none.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files")]

mod common;
#[path = "../../tests/engines/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the library's tests")]
mod server;

use std::path::Path;

use common::{document, rowhouse};
use rowhouse::rollout::{Item, NewRollout};
use rowhouse::{Domain, Home, Runtime};
use serde_json::{Value, json};

/// Two homes on one database, and a thread of two turns in it.
fn homes() -> ([tempfile::TempDir; 2], String) {
    let url = server::new_database();
    let homes = [(); 2].map(|()| {
        let home = tempfile::tempdir().expect("a folder");
        server::configure(home.path(), &url);
        home
    });
    let runtime = Runtime::builder(Home::at(homes[0].path())).domain(Domain::state()).open().expect("opened");
    let store = runtime.thread_store().expect("a store");
    let new = NewRollout { cwd: Some("/srv/ledger".to_owned()), ..NewRollout::default() };
    let id = store.create(&new).expect("begun");
    for turn in ["a", "b"] {
        let event = |kind: &str, text: &str| {
            Item::new("event_msg", &json!({"type": kind, "turn_id": turn, "message": text})).expect("an item")
        };
        let items = [
            event("task_started", ""),
            event("user_message", "Fix the parser"),
            event("agent_message", turn),
            event("task_complete", ""),
        ];
        store.append_items(&id, &items).expect("appended");
    }
    store.shutdown(&id).expect("given back");
    (homes, id)
}

fn done(home: &Path, arguments: &[&str]) -> Value {
    let (code, told) = document(home, &[&["threads"], arguments].concat());
    assert_eq!(code, Some(0), "{arguments:?}: {told}");
    told
}

fn databases(home: &Path) -> Vec<String> {
    let found = std::fs::read_dir(home).expect("the home").flatten();
    let names = found.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains("sqlite") || name.contains("sessions")).collect()
}

#[test]
fn every_command_works_in_either_home_and_makes_no_file() {
    let ([one, other], id) = homes();
    let (one, other) = (one.path(), other.path());
    let short = &id[28..];
    assert_eq!(done(other, &["list"])["threads"][0]["id"], id);
    let (code, text, _) = rowhouse(other, &["threads", "show", short]);
    assert!(code == Some(0) && text.contains("Fix the parser"), "{text}");
    assert_eq!(done(other, &["turns", short])["turns"].as_array().expect("turns").len(), 2);
    let (code, lines, _) = rowhouse(other, &["threads", "export", "--format", "jsonl", short]);
    assert_eq!((code, lines.lines().count()), (Some(0), 9), "{lines}");
    assert!(lines.starts_with(r#"{"timestamp":"#) && lines.contains(r#""session_meta""#), "{lines}");
    let (code, text, _) = rowhouse(other, &["threads", "export", short]);
    assert!(code == Some(0) && text.contains("Fix the parser"), "{text}");

    let elsewhere = tempfile::tempdir().expect("a folder");
    let file = elsewhere.path().join("threads.rowhouse");
    let (code, told) = document(other, &["export", file.to_str().expect("text")]);
    assert_eq!((code, &told["transcripts"], &told["left_out"]), (Some(0), &json!(1), &json!(0)), "{told}");
    let files = elsewhere.path().join("home");
    assert_eq!(document(&files, &["import", "home", file.to_str().expect("text")]).0, Some(0));
    let (_, there, _) = rowhouse(&files, &["threads", "export", "--format", "jsonl", short]);
    assert_eq!(there, lines);

    let forked = done(other, &["fork", "--after-turn", "a", short]);
    let fork = forked["id"].as_str().expect("an id").to_owned();
    assert_eq!(done(one, &["turns", &fork])["turns"].as_array().expect("turns").len(), 1);
    assert_eq!(done(one, &["rename", &fork, "Parser"])["threads"][0]["title"], "Parser");
    let runtime = Runtime::builder(Home::at(one)).domain(Domain::state()).open().expect("opened");
    let is_pinned = || runtime.threads().get(&fork).expect("read").expect("a row").is_pinned;
    done(other, &["pin", &fork]);
    assert!(is_pinned());
    done(one, &["unpin", &fork]);
    assert!(!is_pinned());
    assert!(done(one, &["archive", &fork])["threads"][0]["archived_at"].is_string());
    assert!(done(other, &["unarchive", &fork])["threads"][0]["archived_at"].is_null());
    assert_eq!(done(other, &["search", "parser"])["threads"].as_array().expect("threads").len(), 2);

    let (code, _) = document(one, &["goals", "set", &fork, "--objective", "Ship it"]);
    assert_eq!(code, Some(0));
    let removed = &done(other, &["rm", "--yes", &fork])["deleted"][0];
    assert_eq!((&removed["threads"], &removed["goals"]), (&json!([fork]), &json!(1)), "{removed}");
    assert_eq!(removed["pending"], json!([]));
    let (code, _) = document(one, &["threads", "show", &fork]);
    assert_eq!(code, Some(1));
    for home in [one, other] {
        assert_eq!(databases(home), [] as [String; 0]);
    }
}

#[test]
fn a_thread_that_another_program_writes_is_refused_with_its_name() {
    let ([one, other], id) = homes();
    let runtime = Runtime::builder(Home::at(one.path())).domain(Domain::state()).open().expect("opened");
    let store = runtime.thread_store().expect("a store");
    store.resume(&id).expect("resumed");
    let (code, told) = document(other.path(), &["threads", "rename", &id, "Parser"]);
    assert_eq!(code, Some(1), "{told}");
    let message = told["error"].to_string();
    assert!(message.contains(&std::process::id().to_string()) && message.contains("on host"), "{message}");
    store.shutdown(&id).expect("given back");
    done(other.path(), &["rename", &id, "Parser"]);
}
