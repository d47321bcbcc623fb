//! `rowhouse migrate-backend` by its words: a plan, a question, a document, and an exit code for what is wrong.
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod common;
#[path = "../../tests/engines/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the library's tests")]
mod server;

use std::path::Path;

use common::{document, rowhouse};
use serde_json::Value;

const THREAD: &str = "019cadf1-7a5e-7b04-8f21-000000000001";

fn done(home: &Path, arguments: &[&str]) -> Value {
    let (code, told) = document(home, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {told}");
    told
}

fn name_server(home: &Path, url: &str) {
    std::fs::write(home.join("config.toml"), format!("[state.postgres]\nurl = \"{url}\"\n"))
        .expect("written");
}

fn objective(home: &Path) -> Value {
    done(home, &["goals", "show", THREAD])["goal"]["objective"].clone()
}

#[test]
fn a_home_goes_there_and_back_by_two_commands() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    done(home, &["goals", "set", THREAD, "--objective", "Ship it"]);
    name_server(home, &server::new_database());

    let to_server = ["migrate-backend", "--to", "postgres"];
    let plan = done(home, &[&to_server[..], &["--dry-run"]].concat());
    assert_eq!((&plan["dry_run"], &plan["to"]), (&Value::from(true), &Value::from("postgres")));
    let (code, _, told) = rowhouse(home, &to_server);
    assert_eq!(code, Some(1), "nobody is there to be asked");
    assert!(told.contains("--dry-run") && home.join("goals.sqlite").exists(), "{told}");

    let (code, text, told) = rowhouse(home, &[&to_server[..], &["--yes"]].concat());
    assert_eq!(code, Some(0), "{told}");
    assert!(
        text.contains("goals.goal") && text.contains("config.toml says [state] backend = \"postgres\""),
        "{text}"
    );
    assert!(told.contains("copied goals.goal: 1 row\n"), "{told}");
    assert!(!home.join("goals.sqlite").exists());
    assert_eq!(objective(home), "Ship it");

    let moved = done(home, &["migrate-backend", "--to", "sqlite", "--yes"]);
    assert_eq!((&moved["schema_version"], &moved["to"]), (&Value::from(1), &Value::from("sqlite")));
    let goals = moved["tables"].as_array().expect("tables").iter().find(|table| table["table"] == "goal");
    assert_eq!(goals.expect("goals")["rows"], 1);
    assert!(home.join("state.sqlite").exists());
    assert_eq!(objective(home), "Ship it");
}

#[test]
fn what_is_wrong_is_an_exit_code_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    done(home, &["goals", "set", THREAD, "--objective", "Ship it"]);
    let refused = |to: &str| {
        let (code, told) = document(home, &["migrate-backend", "--to", to, "--yes"]);
        assert_eq!(code, Some(1), "{told}");
        assert_eq!(objective(home), "Ship it");
        told["error"]["kind"].clone()
    };
    assert_eq!(refused("postgres"), "invalid", "no server is named");
    assert_eq!(refused("sqlite"), "conflict", "everything is there");
    name_server(home, "postgres://app@127.0.0.1:9/none");
    assert_eq!(refused("postgres"), "io");
    let (code, _, told) = rowhouse(home, &["migrate-backend", "--to", "mysql"]);
    assert_eq!(code, Some(2), "{told}");
}
