//! A home whose state and goals were moved to a server, and whose configuration says a file: no command takes it for an empty
//! one, by one table of all commands. What it advises works.
#![allow(clippy::disallowed_methods, reason = "a test prepares files from outside")]

mod common;
#[cfg(feature = "postgres")]
#[path = "../../tests/engines/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the library's tests")]
mod server;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::{document, rowhouse};
use serde_json::Value;

const THREAD: &str = "019cadf1-7a5e-7b04-8f21-5d0c9a41e001";
const OTHER: &str = "019caf52-d0c4-7310-a6be-2f7718c3e002";

/// Commands that show, change, copy or bring back what was moved. `{words}` are of [`Sample`].
const OF_THE_DATA: &[(&str, &str)] = &[
    ("threads list", ""),
    ("threads search", "rounding"),
    ("threads tree", "{thread}"),
    ("threads show", "{thread}"),
    ("threads turns", "{thread}"),
    ("threads export", "{thread}"),
    ("threads rename", "{thread} name"),
    ("threads pin", "{thread}"),
    ("threads unpin", "{thread}"),
    ("threads archive", "{other}"),
    ("threads unarchive", "{other}"),
    ("threads fork", "{thread}"),
    ("goals list", ""),
    ("goals show", "{thread}"),
    ("goals set", "{other} --objective Ship"),
    ("goals update", "{thread} --budget 10"),
    ("goals pause", "{thread}"),
    ("goals resume", "{thread}"),
    ("goals rm", "{thread} --yes"),
    ("memories status", ""),
    ("stats", ""),
    ("import", "{transcripts}"),
    ("import codex", "{transcripts}"),
    ("import home", "{export}"),
    ("export", "{new}/threads.rowhouse"),
    ("backfill", ""),
    ("backfill status", ""),
    ("reindex", ""),
    ("maintain", ""),
    ("compact", ""),
    ("backup", "{new}/copy"),
    ("restore", "{backup} --yes"),
    ("repair apply", "--yes"),
    ("threads rm", "{other} --yes"),
];

/// Those that are about the home, its logs, its keys, or nothing of it.
const OF_THE_HOME: &[(&str, &str)] = &[
    ("status", ""),
    ("who", ""),
    ("path", ""),
    ("config show", ""),
    ("logs tail", ""),
    ("logs query", ""),
    ("logs export", ""),
    ("logs stats", ""),
    ("logs level", ""),
    ("logs prune", "--dry-run"),
    ("keys list", ""),
    ("stats", "logs"),
    ("maintain", "logs"),
    ("compact", "logs"),
    ("repair plan", ""),
    ("report", "--html {new}/report.html"),
    ("support bundle", "{new}/report.tar.gz --yes"),
];

/// They need a key, a home, a terminal, rows of a thread's log; nothing that was moved is in their way.
const ELSEWHERE: &[&str] = &[
    "bench",
    "completions",
    "demo",
    "doctor",
    "keys clean",
    "keys create",
    "keys public",
    "keys remove",
    "keys sign",
    "logs feedback",
    "man",
    "migrate-backend",
    "top",
];

/// A home with threads, goals and logs.
struct Sample {
    folder: tempfile::TempDir,
    home: PathBuf,
}

impl Sample {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().join("home");
        let transcripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/transcripts");
        copy(&transcripts, &home);
        copy(&transcripts, &folder.path().join("transcripts"));
        let sample = Self { folder, home };
        sample.does("reindex", "");
        sample.does("goals set", "{thread} --objective Ship");
        let logs = rowhouse::Runtime::open(rowhouse::Home::at(&sample.home)).expect("opened");
        let attached = logs.database("logs").expect("logs").within(std::time::Duration::from_mins(1));
        attached.write(|_| Ok(())).expect("attached");
        logs.close(std::time::Duration::from_mins(1));
        sample.does("backup", "{backup}");
        sample.does("export", "{export}");
        sample
    }

    fn run(&self, command: &str, arguments: &str) -> (Option<i32>, String) {
        let place = |name: &str| self.folder.path().join(name).display().to_string();
        let filled = |word: &str| {
            word.replace("{thread}", THREAD)
                .replace("{other}", OTHER)
                .replace("{transcripts}", &place("transcripts"))
                .replace("{backup}", &place("backup"))
                .replace("{export}", &place("threads.rowhouse"))
        };
        // What a command makes is gone when the next one runs.
        let new = tempfile::tempdir().expect("a folder");
        let words = command.split(' ').chain(arguments.split_whitespace());
        let words: Vec<_> =
            words.map(|word| filled(word).replace("{new}", &new.path().display().to_string())).collect();
        let (code, stdout, stderr) =
            rowhouse(&self.home, &words.iter().map(String::as_str).collect::<Vec<_>>());
        (code, stdout + &stderr)
    }

    fn does(&self, command: &str, arguments: &str) -> String {
        let (code, told) = self.run(command, arguments);
        assert_eq!(code, Some(0), "{command} {arguments}: {told}");
        told
    }

    /// It ends with an error that says where the data is, and both ways on.
    fn refuses(&self, command: &str, arguments: &str) {
        let (code, told) = self.run(command, arguments);
        assert_eq!(code, Some(1), "{command} {arguments}: {told}");
        says_where(&told, &format!("{command} {arguments}"));
    }

    /// Puts everything aside that a move puts aside, and leaves its marks: what such a home looks like, without a server.
    fn move_away(&self) {
        let aside = self.folder.path().join("aside");
        fs::create_dir(&aside).expect("a folder");
        let moved = |name: &str| {
            ["state.", "goals.", "sessions", "archived_"].iter().any(|one| name.starts_with(one))
        };
        for entry in fs::read_dir(&self.home).expect("the home").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if moved(&name) {
                fs::rename(entry.path(), aside.join(&name)).expect("moved");
            }
        }
        for domain in ["state", "goals"] {
            let mark = serde_json::json!({"version": 1, "id": "x", "moved_to": "postgres://db.example:5432/agents",
                "at": "2026-03-01T08:00:00Z", "kept": aside});
            fs::write(self.home.join(format!("{domain}.moved.json")), mark.to_string()).expect("a mark");
        }
    }

    fn is_made(&self, name: &str) -> bool {
        self.home.join(name).symlink_metadata().is_ok()
    }
}

fn says_where(told: &str, command: &str) {
    for words in ["data was moved to postgres://", "backend = \"postgres\"", "migrate-backend --to sqlite"] {
        assert!(told.contains(words), "{command}: {told}");
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

#[test]
fn every_command_is_in_one_of_the_tables() {
    let (_, manual) = document(Path::new("/nonexistent"), &["man"]);
    let pages = manual["pages"].as_array().expect("pages").iter();
    let both = ["rowhouse backfill", "rowhouse import"];
    let does =
        |page: &&Value| page["is_group"] == false || both.iter().any(|command| page["command"] == *command);
    let name = |page: &Value| page["command"].as_str().expect("a name")["rowhouse ".len()..].to_owned();
    let is_elsewhere =
        |name: &String| ELSEWHERE.iter().any(|one| name == one || name.starts_with(&format!("{one} ")));
    let all: BTreeSet<_> = pages.filter(does).map(name).filter(|name| !is_elsewhere(name)).collect();
    let listed: BTreeSet<_> =
        [OF_THE_DATA, OF_THE_HOME].concat().iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(all, listed, "left: the commands, right: the rows of both tables in this file");
}

/// The control: the same commands in the same home before the move.
#[test]
fn no_command_takes_a_home_whose_data_was_moved_for_an_empty_one() {
    let sample = Sample::new();
    for (command, arguments) in [OF_THE_HOME, OF_THE_DATA].concat() {
        // What is there is not put back.
        let control = if command == "restore" { "{backup} --dry-run" } else { arguments };
        sample.does(command, control);
    }

    sample.move_away();
    for (command, arguments) in OF_THE_DATA {
        sample.refuses(command, arguments);
        for made in ["state.sqlite", "goals.sqlite", "sessions"] {
            assert!(!sample.is_made(made), "{command} makes {made}");
        }
    }
    for (command, arguments) in OF_THE_HOME {
        sample.does(command, arguments);
    }
    sample.refuses("restore", "{backup} --dry-run");
    sample.refuses("import home", "{export} --dry-run");
    let (code, told) = document(&sample.home, &["goals", "list"]);
    assert_eq!((code, told["error"]["kind"].as_str()), (Some(1), Some("conflict")), "{told}");
    says_where(&sample.does("status", ""), "status");
    let status = sample.does("status", "");
    let row = status.lines().find(|line| line.starts_with("state "));
    assert!(row.is_some_and(|row| row.contains("moved away")), "{status}");
    let (_, told) = document(&sample.home, &["status"]);
    let state = told["databases"].as_array().into_iter().flatten().find(|one| one["name"] == "state");
    assert!(
        state.is_some_and(|state| state["moved_to"].as_str().is_some_and(|to| to.contains("db.example"))),
        "{told}"
    );
    let (code, told) = sample.run("doctor", "--only home.moved");
    assert_eq!(code, Some(1), "{told}");
    says_where(&told, "doctor");
    // One that is not moved is not mixed up with it.
    for entry in fs::read_dir(sample.folder.path().join("aside")).expect("the folder").flatten() {
        if entry.file_name().to_string_lossy().starts_with("goals.") {
            fs::rename(entry.path(), sample.home.join(entry.file_name())).expect("back");
        }
    }
    assert!(sample.does("goals list", "").contains("Ship"));
}

/// Both commands that the error names, on a real server, from the state in which it names them.
#[cfg(feature = "postgres")]
#[test]
fn both_ways_on_that_are_advised_bring_the_data_back() {
    let sample = Sample::new();
    let config = sample.home.join("config.toml");
    fs::write(&config, format!("[state.postgres]\nurl = \"{}\"\n", server::new_database())).expect("written");
    let shown = |sample: &Sample| ["threads list", "goals list"].map(|command| sample.run(command, "--json"));
    let before = shown(&sample);
    sample.does("migrate-backend", "--to postgres --yes");
    let moved = fs::read_to_string(&config).expect("read");
    let by_hand = moved.replace("backend = \"postgres\"", "backend = \"sqlite\"");
    assert_ne!(moved, by_hand);

    fs::write(&config, &by_hand).expect("written");
    sample.refuses("threads list", "");
    sample.refuses("migrate-backend", "--to postgres --yes");
    fs::write(&config, moved).expect("written");
    let there = shown(&sample);
    assert_eq!((there[0].0, &there[1]), (Some(0), &before[1]), "{there:?}");

    fs::write(&config, &by_hand).expect("written");
    sample.refuses("goals list", "");
    assert!(sample.does("migrate-backend", "--to sqlite --dry-run").contains("goals.goal"));
    sample.does("migrate-backend", "--to sqlite --yes");
    assert!(sample.is_made("state.sqlite") && !sample.is_made("state.moved.json"));
    let ids = |answer: &(Option<i32>, String)| {
        let page: Value = serde_json::from_str(&answer.1).expect("a document");
        page["threads"].as_array().expect("threads").iter().map(|row| row["id"].clone()).collect::<Vec<_>>()
    };
    let after = shown(&sample);
    assert_eq!((ids(&after[0]), &after[1]), (ids(&before[0]), &before[1]));
    assert_eq!(ids(&there[0]), ids(&before[0]));
}
