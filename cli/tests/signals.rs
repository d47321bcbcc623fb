//! A signal ends a command as it should: what is open is closed, folders of our own are removed, and the parent sees the
//! signal.
#![allow(clippy::disallowed_methods, reason = "a test looks at files from outside")]

mod common;
#[path = "../../tests/log_rows/mod.rs"]
mod log_rows;

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::document;
use log_rows::{event, open, write};

fn start(home: &Path, folder: &Path, arguments: &[&str]) -> Child {
    Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
        .arg("--home")
        .arg(home)
        .args(arguments)
        .current_dir(folder)
        .env("TMPDIR", folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts")
}

fn signal(child: &Child, signal: &str) {
    let done = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill runs");
    assert!(done.success());
}

fn entries(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_follower_that_is_interrupted_closes_its_database_and_says_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    drop(rowhouse::Runtime::open(rowhouse::Home::at(&home)).expect("a home"));
    for (name, number) in [("-INT", 2), ("-TERM", 15), ("-HUP", 1)] {
        let mut child = start(&home, folder.path(), &["stats", "--watch"]);
        let mut line = String::new();
        // Kept until it has ended: a reader that is gone would end it too.
        let mut shown = BufReader::new(child.stdout.take().expect("piped"));
        shown.read_line(&mut line).expect("its first line");
        signal(&child, name);
        let ended = child.wait_with_output().expect("it ends");
        assert_eq!(ended.status.signal(), Some(number), "as its parent expects");
        assert!(ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    let now = jiff::Timestamp::now().as_nanosecond();
    write(&open(&home).1, &[event(i64::try_from(now).expect("not so late"), "one")]);
    let mut child = start(&home, folder.path(), &["logs", "tail", "-f", "--json"]);
    let mut shown = BufReader::new(child.stdout.take().expect("piped"));
    shown.read_line(&mut String::new()).expect("what is there");
    let pid = child.id();
    let found = document(&home, &["stats", "logs"]).1;
    assert_eq!(found["databases"][0]["processes"][0]["pid"], pid, "it has the log open: {found}");
    signal(&child, "-INT");
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.signal(), Some(2));
    assert!(ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(
        !entries(&home.join("run")).iter().any(|page| page.contains(&pid.to_string())),
        "its page went with it"
    );
}

#[test]
fn a_folder_of_our_own_is_removed_when_we_are_interrupted() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    for arguments in [&["demo", "--seconds", "600"][..], &["bench", "growth", "--seconds", "600"]] {
        let child = start(&home, folder.path(), arguments);
        // Something in the folder, not the folder alone: then it is known what is to be removed.
        let ours = || entries(folder.path()).into_iter().find(|name| name.contains("rowhouse-"));
        while ours().is_none_or(|ours| entries(&folder.path().join(ours)).is_empty()) {
            std::thread::yield_now();
        }
        signal(&child, "-TERM");
        let ended = child.wait_with_output().expect("it ends");
        assert_eq!(ended.status.signal(), Some(15), "{}", String::from_utf8_lossy(&ended.stderr));
        assert_eq!(entries(folder.path()), [""; 0], "{arguments:?}");
    }
}
