//! A signal ends a command as it should: what is open is closed, folders of our own are removed, and the parent sees the
//! signal.
#![allow(clippy::disallowed_methods, reason = "a test looks at files from outside")]

mod common;
#[path = "../../tests/log_rows/mod.rs"]
mod log_rows;

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
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
    let pages = entries(&home.join("run"));
    assert!(
        !pages.iter().any(|page| page.contains(&pid.to_string())),
        "its page went with it: {pid}: {pages:?}"
    );
}

/// The only entry of a folder for temporary ones, once something is in it: then it is known what is to be removed.
fn folder_of_our_own(folder: &Path) -> PathBuf {
    loop {
        let ours = entries(folder).into_iter().find(|name| name.contains("rowhouse-"));
        if let Some(ours) = ours.map(|ours| folder.join(ours)).filter(|ours| !entries(ours).is_empty()) {
            return ours;
        }
        std::thread::yield_now();
    }
}

/// Waits until the processes of a demonstration write.
fn until_it_writes(demo: &Path) {
    let log = demo.join("home/demo.sqlite-wal");
    while std::fs::metadata(&log).map_or(0, |log| log.len()) < 200_000 {
        std::thread::yield_now();
    }
}

/// The command has its processes write for ten minutes: it must be ended both before they begin and in the midst.
#[test]
fn a_folder_of_our_own_is_removed_when_we_are_interrupted() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    let demo = &["demo", "--seconds", "600"][..];
    for (arguments, writing) in
        [(demo, false), (demo, true), (&["bench", "growth", "--seconds", "600"], false)]
    {
        let child = start(&home, folder.path(), arguments);
        let ours = folder_of_our_own(folder.path());
        if writing {
            until_it_writes(&ours);
        }
        signal(&child, "-TERM");
        // The processes it started share its standard error: this waits for their end too.
        let ended = child.wait_with_output().expect("it ends");
        let told = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.signal(), Some(15), "{told}");
        assert!(!told.contains("error"), "{told}");
        assert_eq!(entries(folder.path()), [""; 0], "{arguments:?}");
    }
}

/// The processes of a demonstration share its standard error: it ends when the last of them has ended.
#[test]
fn no_process_outlives_the_killed_one_that_started_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    let mut child = start(&home, folder.path(), &["demo", "--seconds", "600"]);
    until_it_writes(&folder_of_our_own(folder.path()));
    let begun = std::time::Instant::now();
    child.kill().expect("killed");
    child.wait_with_output().expect("they end");
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}

/// A home whose log has lost its index, so that it is read from a private copy; large enough to be read for a while.
fn without_index(home: &Path, live: &Path) {
    let domain = rowhouse::Domain::new("large");
    let runtime = rowhouse::Runtime::builder(rowhouse::Home::at(live)).domain(domain).open().expect("opened");
    let database = runtime.database("large").expect("it");
    database
        .write(|tx| {
            tx.execute("CREATE TABLE piece(number INTEGER PRIMARY KEY, text TEXT UNIQUE)", [])?;
            tx.execute(
                "INSERT INTO piece WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 40000)
                 SELECT i, printf('%0300d', i) FROM n",
                [],
            )
        })
        .expect("written");
    std::fs::create_dir(home).expect("a folder");
    for ending in ["", "-wal"] {
        let name = format!("large.sqlite{ending}");
        std::fs::copy(live.join(&name), home.join(&name)).expect("copied");
    }
}

/// Scale: a database of about 30 MB; the command is stopped while its private copy is there, and then ended.
/// Control: ended by SIGKILL at the same place, which nobody can act upon, it leaves the copy.
#[test]
fn a_private_copy_of_a_database_goes_with_whoever_ends_the_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let (home, temporary) = (folder.path().join("home"), folder.path().join("temporary"));
    std::fs::create_dir(&temporary).expect("a folder");
    without_index(&home, &folder.path().join("live"));
    let deep = &["doctor", "--deep", "--timeout", "60", "--only", "large"][..];
    // Stopped while it reads from its copy; `None` when it was faster.
    let stopped = || {
        let mut child = start(&home, &temporary, deep);
        let has_copy = || {
            let all = entries(&temporary).into_iter();
            all.map(|name| temporary.join(name)).any(|folder| entries(&folder).len() == 2)
        };
        while !has_copy() && child.try_wait().expect("a child").is_none() {
            std::thread::yield_now();
        }
        if child.try_wait().expect("a child").is_some() {
            return None;
        }
        signal(&child, "-STOP");
        if has_copy() {
            return Some(child);
        }
        signal(&child, "-CONT");
        child.wait().expect("it ends");
        None
    };
    let again = || (0..100).find_map(|_| stopped()).expect("one is stopped in time");
    for (name, number) in [("-INT", 2), ("-TERM", 15)] {
        let child = again();
        signal(&child, name);
        signal(&child, "-CONT");
        let ended = child.wait_with_output().expect("it ends");
        assert_eq!(ended.status.signal(), Some(number), "{}", String::from_utf8_lossy(&ended.stderr));
        assert_eq!(entries(&temporary), [""; 0], "{name}");
    }
    // One whose checks do not end in time.
    for timeout in ["0.001", "0.02"] {
        let arguments = ["doctor", "--deep", "--timeout", timeout, "--only", "large"];
        start(&home, &temporary, &arguments).wait_with_output().expect("it ends");
        assert_eq!(entries(&temporary), [""; 0], "{timeout} s");
    }

    let mut child = again();
    child.kill().expect("killed");
    child.wait().expect("it ended");
    assert_eq!(entries(&temporary).len(), 1);
}

/// A home with a database that takes a while to copy.
fn large(home: &Path) {
    let runtime = rowhouse::Runtime::builder(rowhouse::Home::at(home)).domain(rowhouse::Domain::new("large"));
    let runtime = runtime.open().expect("opened");
    let database = runtime.database("large").expect("it").within(std::time::Duration::from_mins(1));
    database
        .write(|tx| {
            tx.execute("CREATE TABLE piece(number INTEGER PRIMARY KEY, bytes BLOB)", [])?;
            tx.execute(
                "INSERT INTO piece WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000)
                 SELECT i, randomblob(15000) FROM n",
                [],
            )
        })
        .expect("written");
    runtime.close(std::time::Duration::from_mins(1));
}

/// Names in a folder and in those below it.
fn all_entries(folder: &Path) -> Vec<String> {
    let mut all = entries(folder);
    for name in all.clone() {
        all.extend(entries(&folder.join(&name)).into_iter().map(|below| format!("{name}/{below}")));
    }
    all.sort();
    all
}

/// Scale: a database of 45 MB; each command is stopped while its unfinished files are there, and then ended.
/// Control: ended by SIGKILL at the same place, which nobody can act upon, it leaves them.
#[test]
fn what_is_half_copied_goes_when_a_backup_a_compaction_or_a_restore_is_interrupted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (home, backup) = (folder.path().join("home"), folder.path().join("backup"));
    large(&home);
    let place = backup.display().to_string();
    assert_eq!(document(&home, &["backup", &place]).0, Some(0));
    let ours = |folder: &Path| all_entries(folder).into_iter().filter(|name| name.contains("unfinished-"));
    let commands = [vec!["backup"], vec!["compact", "large"], vec!["restore", &place, "--yes"]];
    for arguments in &commands {
        // Stopped while it has something half made; `None` when it was faster.
        let stopped = || {
            let mut child = start(&home, folder.path(), arguments);
            let has = || ours(&home).next().is_some();
            while !has() && child.try_wait().expect("a child").is_none() {
                std::thread::yield_now();
            }
            if child.try_wait().expect("a child").is_some() {
                return None;
            }
            // One that has ended and was not waited for can be signalled still.
            signal(&child, "-STOP");
            if child.try_wait().expect("a child").is_none() && has() {
                return Some(child);
            }
            if child.try_wait().expect("a child").is_none() {
                signal(&child, "-CONT");
                child.wait().expect("it ends");
            }
            None
        };
        let again = || (0..100).find_map(|_| stopped()).expect("one is stopped in time");
        for (name, number) in [("-INT", 2), ("-TERM", 15)] {
            let child = again();
            signal(&child, name);
            signal(&child, "-CONT");
            let ended = child.wait_with_output().expect("it ends");
            let told = String::from_utf8_lossy(&ended.stderr).into_owned();
            // What it was past the point of returning from, it did, and ended well.
            if ended.status.signal().is_some() {
                assert_eq!(ended.status.signal(), Some(number), "{arguments:?}: {told}");
            }
            assert!(!told.contains("error") && !told.contains("panick"), "{arguments:?}: {told}");
            assert_eq!(ours(&home).collect::<Vec<_>>(), [""; 0], "{arguments:?} {name}: {told}");
            assert_eq!(document(&home, &["repair", "plan"]).0, Some(0));
        }
        let mut child = again();
        child.kill().expect("killed");
        child.wait().expect("it ended");
        assert!(ours(&home).count() > 0, "the control: {arguments:?}");
        for left in ours(&home).filter(|name| !name.contains('/')) {
            let _ = std::fs::remove_dir_all(home.join(left));
        }
        let _ = std::fs::remove_dir_all(home.join("backups"));
    }
}
