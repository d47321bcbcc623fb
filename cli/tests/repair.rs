//! `rowhouse repair`, as a person and a script meet it.

#![allow(clippy::disallowed_methods, reason = "a test damages and looks at files from outside")]

mod common;

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use common::{document, rowhouse};
use serde_json::Value;

/// A home with threads, all of it in the main files, and nobody in it.
fn home() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/transcripts");
    assert_eq!(rowhouse(folder.path(), &["import", samples]).0, Some(0));
    let state = rusqlite(&folder.path().join("state.sqlite"));
    state.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
    folder
}

fn rusqlite(file: &Path) -> rowhouse::rusqlite::Connection {
    rowhouse::rusqlite::Connection::open(file).expect("a connection")
}

/// Zeroes the root of an index, whose rows are all in the table.
fn damage(home: &Path) {
    let file = home.join("state.sqlite");
    let root: u64 = {
        let find = "SELECT rootpage FROM sqlite_schema WHERE name = 'thread_live_created'";
        rusqlite(&file).query_row(find, [], |row| row.get::<_, i64>(0)).expect("an index").cast_unsigned()
    };
    let mut file = std::fs::OpenOptions::new().write(true).open(file).expect("the file");
    file.seek(SeekFrom::Start((root - 1) * 4096)).expect("there");
    file.write_all(&[0; 4096]).expect("damaged");
}

fn state_of<'a>(plan: &'a Value, name: &str) -> &'a Value {
    let databases = plan["databases"].as_array().expect("databases");
    databases.iter().find(|one| one["database"] == name).expect(name)
}

/// Every file of the home with its bytes, but those that any look may make.
fn contents(home: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(home).expect("a list").map(|entry| entry.expect("one").path());
    let mut contents: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|ending| ending == "sqlite"))
        .map(|path| (path.display().to_string(), std::fs::read(&path).expect("its bytes")))
        .collect();
    contents.sort();
    contents
}

#[test]
fn a_plan_changes_nothing_and_apply_keeps_the_rows() {
    let home = home();
    let threads = |home: &Path| document(home, &["threads", "list"]).1["threads"].as_array().map(Vec::len);
    let before = threads(home.path());
    assert!(before > Some(0));
    let count = "SELECT count(*) FROM thread";
    let rows: u64 = rusqlite(&home.path().join("state.sqlite"))
        .query_row(count, [], |row| row.get::<_, i64>(0))
        .expect("a count")
        .cast_unsigned();
    let (code, plan) = document(home.path(), &["repair", "plan"]);
    assert_eq!(code, Some(0), "{plan}");
    for name in ["state", "logs", "goals", "device_keys"] {
        assert_eq!(state_of(&plan, name)["state"], "fine", "{plan}");
    }

    damage(home.path());
    let files = contents(home.path());
    let (code, plan) = document(home.path(), &["repair", "plan"]);
    let state = state_of(&plan, "state");
    assert_eq!(
        (code, &state["state"], &state["action"]),
        (Some(0), &"damaged".into(), &"salvage".into()),
        "{plan}"
    );
    let tables = state["rows"].as_array().expect("nobody has it open");
    let kept = tables.iter().find(|row| row["table"] == "thread").expect("the table");
    assert_eq!(kept["kept"].as_u64(), Some(rows), "{plan}");
    assert_eq!(state_of(&plan, "goals")["state"], "fine", "{plan}");
    let (code, stdout, _) = rowhouse(home.path(), &["repair", "plan", "state"]);
    assert_eq!(code, Some(0));
    assert!(
        stdout.contains("damaged") && stdout.contains("thread") && stdout.contains("nothing was changed"),
        "{stdout}"
    );
    assert_eq!(contents(home.path()), files);

    let (code, _, stderr) = rowhouse(home.path(), &["repair", "apply"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("--yes"), "{stderr}");
    assert_eq!(contents(home.path()), files);
    let (code, done) = document(home.path(), &["repair", "apply", "--yes"]);
    assert_eq!(code, Some(0), "{done}");
    let evidence = done["repaired"][0]["evidence"].as_str().expect("a folder");
    assert!(Path::new(evidence).join("state.sqlite").exists(), "{done}");
    assert_eq!(threads(home.path()), before);
    let (code, stdout, _) = rowhouse(home.path(), &["repair", "apply", "--yes"]);
    assert_eq!((code, &*stdout), (Some(0), "nothing is damaged\n"));
}

#[test]
fn what_is_in_use_or_locked_is_not_repaired() {
    let home = home();
    damage(home.path());
    // By itself an open runtime repairs what it meets; this one meets nothing.
    let runtime = rowhouse::Runtime::builder(rowhouse::Home::at(home.path()))
        .domain(rowhouse::Domain::goals())
        .open()
        .expect("opened");
    let (code, plan) = document(home.path(), &["repair", "plan", "state"]);
    let state = state_of(&plan, "state");
    assert_eq!((code, &state["state"], &state["rows"]), (Some(0), &"damaged".into(), &Value::Null), "{plan}");
    let (code, refused) = document(home.path(), &["repair", "apply", "state", "--yes"]);
    assert_eq!((code, &refused["error"]["kind"]), (Some(1), &"busy".into()), "{refused}");
    drop(runtime);
    let (code, none) = document(home.path(), &["repair", "plan", "nobody"]);
    assert_eq!((code, &none["error"]["kind"]), (Some(1), &"not_found".into()), "{none}");

    // Neither a lock nor what is no file at all is damage that a repair would cure.
    let goals = rusqlite(&home.path().join("goals.sqlite"));
    goals.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let keys = home.path().join("device_keys.sqlite");
    std::fs::remove_file(&keys).expect("removed");
    std::fs::create_dir(&keys).expect("a folder");
    let (code, plan) = document(home.path(), &["repair", "plan"]);
    let states = ["state", "goals", "device_keys"].map(|name| state_of(&plan, name)["state"].clone());
    assert_eq!((code, states), (Some(0), ["damaged", "fine", "unknown"].map(Value::from)), "{plan}");
    assert!(state_of(&plan, "device_keys")["reason"].is_string(), "{plan}");
}

#[test]
fn what_is_not_there_is_not_called_fine() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("nowhere");
    let (code, stdout, _) = rowhouse(&nowhere, &["repair", "plan"]);
    assert_eq!((code, stdout), (Some(0), format!("no databases in {} yet\n", nowhere.display())));
    let (code, plan) = document(&nowhere, &["repair", "plan"]);
    assert_eq!((code, &state_of(&plan, "state")["state"]), (Some(0), &"absent".into()), "{plan}");
    assert!(!nowhere.exists());

    let home = home();
    std::fs::remove_file(home.path().join("goals.sqlite")).expect("removed");
    let (_, plan) = document(home.path(), &["repair", "plan"]);
    let states = ["state", "goals"].map(|name| state_of(&plan, name)["state"].clone());
    assert_eq!(states, ["fine", "absent"].map(Value::from), "{plan}");
}
