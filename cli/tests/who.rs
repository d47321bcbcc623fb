//! `rowhouse who`: told to a person and to a script, without being a user itself.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![cfg(target_os = "linux")]

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{document, rowhouse};
use rowhouse::{Home, Runtime};
use serde_json::Value;

/// The answer for people, without what a sandbox hides from the tests.
fn text(home: &Path, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = rowhouse(home, &[&["who"], arguments].concat());
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    let seen = |line: &&str| !line.starts_with("not seen: ");
    stdout.lines().filter(seen).flat_map(|line| [line, "\n"]).collect()
}

/// Runs `during` while a job of this process is inside the state database.
fn writing(home: &Path, during: impl FnOnce()) {
    let runtime = Runtime::open(Home::at(home)).expect("the home opens");
    let state = runtime.database("state").expect("the domain").label("fetch");
    let (entered, inside) = channel();
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let ticket = state
        .submit(move |_| {
            entered.send(()).expect("the test listens");
            // When the test fails, its end of the channel is dropped.
            let _ = released.lock().expect("one job").recv();
            Ok(())
        })
        .expect("queued");
    inside.recv().expect("the job runs");
    during();
    drop(release);
    ticket.wait().expect("the job ends");
    runtime.close(Duration::from_secs(5));
}

/// A child that another test starts has copies of this process's descriptors for a moment, and would be listed.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stopped process with a file open; ended when dropped.
struct Stopped(Child);

impl Stopped {
    fn with(file: &Path) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", "exec 3<\"$1\" && echo ready && read -r line", "sh"])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it speaks");
        assert_eq!(line, "ready\n");
        let stopped = Self(child);
        let (pid, mut status) = (i32::try_from(stopped.0.id()).expect("a process id"), 0);
        // SAFETY: kill(2) and waitpid(2) with the id of our own child, which was not waited for; WUNTRACED reaps nothing.
        let found = unsafe {
            assert_eq!(libc::kill(pid, libc::SIGSTOP), 0);
            libc::waitpid(pid, &raw mut status, libc::WUNTRACED)
        };
        assert!(found == pid && libc::WIFSTOPPED(status));
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_home_that_is_not_there_and_one_that_nobody_uses_are_sentences() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    let place = home.display();
    assert_eq!(text(&home, &[]), format!("no databases in {place} yet\n"));
    assert!(!home.exists(), "looking creates nothing");
    let (code, empty) = document(&home, &["who"]);
    assert_eq!((code, &empty["databases"]), (Some(0), &Value::Array(Vec::new())), "{empty}");
    assert_eq!(empty["complete"], true, "{empty}");

    std::fs::create_dir(&home).expect("a folder");
    File::create(home.join("cache.sqlite")).expect("a file");
    let told = text(&home, &[]).replace(" that can be seen", "");
    assert_eq!(told, format!("nobody has a database of {place} open\n"));
    let told = text(&home, &["cache"]).replace(" that can be seen", "");
    assert_eq!(told, format!("nobody has cache in {place} open\n"));

    let (code, stdout, stderr) = rowhouse(&home, &["who", "nowhere"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("no database named nowhere") && stderr.contains("hint: "), "{stderr}");
    let (code, error) = document(&home, &["who", "nowhere"]);
    assert_eq!((code, &error["error"]["kind"]), (Some(1), &"not_found".into()), "{error}");
}

#[test]
fn a_person_reads_who_writes_who_is_stopped_and_who_keeps_deleted_files() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().canonicalize().expect("its path");
    let own = std::process::id().to_string();
    writing(&home, || {
        let stopped = Stopped::with(&home.join("state.sqlite"));
        let told = text(&home, &["state"]);
        let sh = stopped.0.id().to_string();
        let line = |pid: &str| {
            let words = |line: &&str| line.split_whitespace().nth(1) == Some(pid);
            told.lines().find(words).unwrap_or_else(|| panic!("{pid} is not in {told}"))
        };
        assert!(told.starts_with("database  "), "{told}");
        assert!(line(&own).contains("rowhouse 0.1.0") && line(&own).contains("writing for "), "{told}");
        assert!(line(&own).contains(", job fetch") && line(&own).ends_with("just now"), "{told}");
        assert!(line(&sh).contains("  sh  ") && line(&sh).contains("  stopped! open  "), "{told}");
        assert!(!told.contains("deleted") && !told.contains('\u{1b}'), "{told}");
        let all = text(&home, &[]);
        for name in ["state", "logs", "goals", "device_keys"] {
            assert!(all.lines().any(|line| line.starts_with(name)), "{name}: {all}");
        }
    });

    let gone = home.join("logs.sqlite.old");
    std::fs::write(&gone, [0; 2048]).expect("a file");
    let stopped = Stopped::with(&gone);
    std::fs::remove_file(&gone).expect("removed");
    let told = text(&home, &[]);
    let line = format!("{}  2.0 KiB  sh (pid {}, stopped!)\n", gone.display(), stopped.0.id());
    assert!(told.contains("deleted, still open") && told.ends_with(&line), "{told}");
}

#[test]
fn a_script_reads_one_document_of_a_stable_shape() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().canonicalize().expect("its path");
    writing(&home, || {
        let (code, found) = document(&home, &["who", "state"]);
        assert_eq!(code, Some(0), "{found}");
        let keys = |of: &Value| of.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&found), ["complete", "databases", "deleted", "home", "unseen"]);
        assert_eq!(found["complete"], Value::Bool(found["unseen"].as_array().is_some_and(Vec::is_empty)));
        let database = &found["databases"][0];
        assert_eq!(keys(database), ["deleted", "name", "path", "processes"]);
        assert_eq!(found["databases"].as_array().map(Vec::len), Some(1));
        let users = database["processes"].as_array().expect("told here");
        let [user] = &users[..] else { panic!("this process, and never the command itself: {found}") };
        let wanted = [
            "command",
            "holds",
            "label",
            "open_files",
            "pid",
            "program",
            "since",
            "started_at",
            "state",
            "stopped",
            "version",
            "waits_for",
        ];
        assert_eq!(keys(user), wanted);
        assert_eq!(user["pid"], std::process::id());
        assert_eq!(
            (&user["label"], &user["state"], &user["stopped"]),
            (&"fetch".into(), &"running".into(), &false.into())
        );
        let holds = user["holds"].as_array().expect("told here");
        assert!(holds.contains(&"write".into()) && holds.contains(&"snapshot".into()), "{user}");
        assert_eq!(user["waits_for"], Value::Array(Vec::new()));
        assert!(user["since"].as_i64() > Some(1_600_000_000_000), "{user}");
        let started: jiff::Timestamp =
            user["started_at"].as_str().expect("RFC 3339").parse().expect("RFC 3339");
        assert!(started <= jiff::Timestamp::now() + Duration::from_secs(2), "{user}");
    });
}
