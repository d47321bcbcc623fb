//! What takes something away asks, is told `--yes`, or only looks with `--dry-run`; with nobody to ask it does nothing.
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod common;
#[path = "../../tests/log_rows/mod.rs"]
mod log_rows;

use std::path::{Path, PathBuf};

use common::{document, rowhouse};
use log_rows::{THREAD, event, open, write};
use serde_json::Value;

fn done(home: &Path, arguments: &[&str]) -> Value {
    let (code, told) = document(home, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {told}");
    told
}

/// A home in which each of these commands would take something away.
fn home(folder: &Path) -> (PathBuf, Vec<Vec<String>>) {
    let home = folder.join("home");
    let (from, to) = (concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/transcripts"), folder.join("old"));
    std::fs::create_dir(&to).expect("a folder");
    let name = "rollout-2026-01-18T11-05-30-019bd0c3-f3ba-7d65-9072-e1a84b5ce006.jsonl";
    let text = std::fs::read(Path::new(from).join("archived_sessions").join(name)).expect("a sample");
    std::fs::write(to.join(name), text).expect("written");
    done(&home, &["import", &to.display().to_string()]);
    std::fs::remove_file(to.join(name)).expect("removed");
    done(&home, &["goals", "set", THREAD, "--objective", "Ship it"]);
    let key = done(&home, &["keys", "create", "--account", "a", "--client", "c"])["key_id"].clone();
    let backup = folder.join("backup").display().to_string();
    done(&home, &["backup", &backup]);
    write(&open(&home).1, &[event(1_772_366_400_000_000_000, "one").thread(THREAD)]);
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let commands = vec![
        words(&format!("goals rm {THREAD}")),
        words(&format!("keys remove {}", key.as_str().expect("an id"))),
        words(&format!("logs prune --thread {THREAD}")),
        words(&format!("reindex {} --sweep", to.display())),
        words(&format!("restore {backup}")),
    ];
    (home, commands)
}

/// What is to be seen of the home, without times.
fn seen(home: &Path) -> Vec<Value> {
    let mut seen: Vec<_> = [&["goals", "list"][..], &["keys", "list"], &["threads", "list"]]
        .iter()
        .map(|list| done(home, list))
        .collect();
    let (_, rows, _) = rowhouse(home, &["logs", "query", "--json"]);
    seen.push(rows.lines().count().into());
    seen
}

#[test]
fn with_nobody_to_ask_and_in_a_dry_run_nothing_goes_and_with_yes_it_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let (home, commands) = home(folder.path());
    let before = seen(&home);
    for command in &commands {
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        let (code, _, stderr) = rowhouse(&home, &command);
        assert_eq!(code, Some(1), "{command:?}: {stderr}");
        assert!(stderr.contains("nobody is there to be asked") && stderr.contains("--yes"), "{stderr}");
        let (code, _, stderr) = rowhouse(&home, &[&command[..], &["--dry-run"]].concat());
        assert_eq!((code, seen(&home)), (Some(0), before.clone()), "{command:?}: {stderr}");
        let (code, ..) = rowhouse(&home, &[&command[..], &["--dry-run", "--yes"]].concat());
        assert_eq!(code, Some(2), "{command:?}: one of them");
    }
    for command in &commands {
        let before = seen(&home);
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        done(&home, &[&command[..], &["--yes"]].concat());
        assert_ne!(seen(&home), before, "{command:?}");
    }
}
