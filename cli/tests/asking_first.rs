//! What takes something away asks, is told `--yes`, or only looks with `--dry-run`; with nobody to ask it does nothing.
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod common;
#[path = "../../tests/log_rows/mod.rs"]
mod log_rows;
#[path = "common/terminal.rs"]
mod terminal;

use std::path::{Path, PathBuf};

use common::{document, rowhouse};
use log_rows::{THREAD, event, open, write};
use serde_json::Value;
use terminal::Terminal;

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
    let events =
        [event(1_772_366_400_000_000_000, "one").thread(THREAD), event(1_772_366_400_000_000_000, "two")];
    write(&open(&home).1, &events);
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let commands = vec![
        words(&format!("goals rm {THREAD}")),
        words(&format!("keys remove {}", key.as_str().expect("an id"))),
        words(&format!("logs prune --thread {THREAD}")),
        words("logs prune"),
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

/// Control: a yes, after which it is done and the command has worked.
#[test]
fn a_no_is_told_and_is_no_success() {
    let folder = tempfile::tempdir().expect("a folder");
    let (home, mut commands) = home(folder.path());
    let bundle = folder.path().join("bundle.tar.gz");
    commands.push(vec!["support".to_owned(), "bundle".to_owned(), bundle.display().to_string()]);
    let before = seen(&home);
    let answer = |command: &[String], typed: &str| {
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        let mut terminal = Terminal::start(&home, 80, &command);
        terminal.wait_for("[y/N]");
        terminal.type_in(typed);
        let (ended, shown) = terminal.end();
        (ended.code(), shown)
    };
    for (command, typed) in commands.iter().zip(["n\n", "\n", "\u{4}", "no\n"].iter().cycle()) {
        let (code, shown) = answer(command, typed);
        assert_eq!(code, Some(1), "{command:?}: {shown}");
        assert!(shown.trim_end().ends_with("\nnothing was changed"), "{command:?}: {shown}");
    }
    assert!(seen(&home) == before && !bundle.exists());
    let (code, shown) = answer(&commands[0], "y\n");
    assert!(code == Some(0) && !shown.contains("nothing was changed"), "{shown}");
    assert_ne!(seen(&home), before);
}

#[test]
fn the_question_says_how_much_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/transcripts");
    done(folder.path(), &["import", samples]);
    let asks = |arguments: &[&str], question: &str| {
        let mut terminal = Terminal::start(folder.path(), 80, arguments);
        terminal.wait_for(question);
        terminal.type_in("n\n");
        assert_eq!(terminal.end().0.code(), Some(1));
    };
    let id = "019cd19f-aa40-7e58-b1d3-64c0f29be004";
    asks(&["threads", "rm", id, "--forget"], "delete 1 thread for good? [y/N]");
    let (_, forked, _) = rowhouse(folder.path(), &["threads", "fork", id]);
    asks(&["threads", "rm", forked.trim_end()], "delete 1 thread with 1 file of transcripts (");
}

/// Control: with `--force` each of them is replaced.
#[test]
fn a_file_that_is_there_is_not_replaced_unasked() {
    const ID: &str = "019cd19f-aa40-7e58-b1d3-64c0f29be004";
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    done(&home, &["import", concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/transcripts")]);
    write(&open(&home).1, &[event(1_772_366_400_000_000_000, "one").thread(THREAD)]);
    let file = folder.path().join("mine");
    let name = file.to_str().expect("plain");
    for command in [
        &["report", "--html", name][..],
        &["support", "bundle", name, "--yes"],
        &["logs", "export", "--output", name],
        &["logs", "feedback", THREAD, "--output", name],
        &["threads", "export", ID, "--output", name],
    ] {
        std::fs::write(&file, "mine").expect("written");
        let (code, told) = document(&home, command);
        assert_eq!((code, &told["error"]["kind"]), (Some(1), &"conflict".into()), "{command:?}: {told}");
        assert_eq!(told["error"]["path"], name, "{command:?}");
        assert!(told["error"]["advice"].as_str().is_some_and(|text| text.contains("--force")), "{told}");
        assert_eq!(std::fs::read(&file).expect("read"), b"mine", "{command:?}");
        done(&home, &[command, &["--force"]].concat());
        assert_ne!(std::fs::read(&file).expect("read"), b"mine", "{command:?}");
    }
}
