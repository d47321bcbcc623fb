//! What a home holds can be looked at where it may not be written, and looking leaves it as it is.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "a test prepares files")]

#[path = "../../tests/processes/confined.rs"]
mod confined;

#[path = "../../tests/log_rows/mod.rs"]
mod log_rows;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Runs the command where it may not write the home; answers its code, its document and what it said beside.
fn confined(home: &Path, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"));
    command.args(["--json", "--home"]).arg(home).args(arguments).stdin(Stdio::null());
    if confined::is_root() {
        let home = home.to_owned();
        // SAFETY: between fork and exec of a process with one thread; what it allocates, the C library allows there.
        unsafe {
            command.pre_exec(move || {
                confined::mount_read_only(&home);
                Ok(())
            });
        }
    }
    let output = command.output().expect("the command runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
    (output.status.code(), document, told)
}

#[test]
fn threads_and_status_of_a_read_only_home_are_told_with_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/transcripts");
    assert_cmd::Command::cargo_bin("rowhouse")
        .expect("the binary is built")
        .arg("--home")
        .arg(&home)
        .args(["import", samples])
        .assert()
        .success();
    // A program that keeps only this one: the others need not be there to list threads.
    for name in ["goals", "device_keys"] {
        for ending in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(home.join(format!("{name}.sqlite{ending}")));
        }
    }
    let own = String::from_utf8(
        assert_cmd::Command::cargo_bin("rowhouse")
            .expect("the binary is built")
            .arg("--home")
            .arg(&home)
            .args(["threads", "fork", "0f29be004"])
            .output()
            .expect("a fork")
            .stdout,
    )
    .expect("an id");
    let own = own.trim_end();
    // A writer that died left its lock.
    std::fs::write(home.join(format!("locks/rollout-{own}.lock")), "").expect("a file");
    let exported = folder.path().join("exported.jsonl");
    let exported = exported.to_str().expect("letters");
    if !confined::is_root() {
        confined::make_read_only(&home);
    }
    let before = confined::content(&home);

    let (code, forked, told) = confined(&home, &["threads", "turns", own]);
    assert_eq!((code, forked["turns"].as_array().map(Vec::len)), (Some(0), Some(2)), "{forked}{told}");
    let (code, page, told) = confined(&home, &["threads", "list"]);
    assert_eq!((code, page["threads"].as_array().map(Vec::len)), (Some(0), Some(6)), "{page}{told}");
    assert!(told.contains("warning: it can only be read: "), "{told}");
    let (code, status, told) = confined(&home, &["status", "state"]);
    assert_eq!((code, &status["databases"][0]["present"]), (Some(0), &true.into()), "{status}{told}");
    let id = "019cd19f-aa40-7e58-b1d3-64c0f29be004";
    let (code, turns, told) = confined(&home, &["threads", "turns", id, "--items", "full"]);
    assert_eq!((code, turns["turns"].as_array().map(Vec::len)), (Some(0), Some(2)), "{turns}{told}");
    let (code, session_meta, _) =
        confined(&home, &["threads", "export", id, "--format", "jsonl", "-o", exported]);
    assert_eq!((code, &session_meta["format"]), (Some(0), &"jsonl".into()), "{session_meta}");
    for arguments in [&["threads", "pin", own][..], &["threads", "fork", id]] {
        let (code, refused, _) = confined(&home, arguments);
        assert_eq!(
            (code, &refused["error"]["kind"]),
            (Some(1), &"read_only".into()),
            "{arguments:?}: {refused}"
        );
    }
    let (code, refused, _) = confined(&home, &["import", samples]);
    assert_eq!((code, &refused["error"]["kind"]), (Some(1), &"read_only".into()), "{refused}");
    assert!(refused["error"]["advice"].is_string(), "{refused}");

    assert_eq!(confined::content(&home), before);
    confined::make_writable(&home);
}

#[test]
fn the_log_of_a_read_only_home_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    let (runtime, database, _) = log_rows::open(&home);
    let rows = [log_rows::event(1, "one").thread(log_rows::THREAD), log_rows::event(2, "two")];
    log_rows::write(&database, &rows);
    runtime.close(std::time::Duration::from_secs(20));
    drop((runtime, database));
    if !confined::is_root() {
        confined::make_read_only(&home);
    }
    let before = confined::content(&home);
    for (arguments, found) in [
        (&["logs", "query", "--limit", "1"][..], "two"),
        (&["logs", "tail", "-n", "1"], "two"),
        (&["logs", "export", "--text", "one"], "one"),
    ] {
        let (code, row, told) = confined(&home, arguments);
        let message = row["message"].as_str();
        assert_eq!((code, message), (Some(0), Some(found)), "{arguments:?}: {row}{told}");
        assert!(told.contains("warning: it can only be read: "), "{told}");
    }
    let (code, stats, _) = confined(&home, &["logs", "stats"]);
    assert_eq!((code, &stats["rows"]), (Some(0), &2.into()), "{stats}");
    assert_eq!(confined::content(&home), before);
    confined::make_writable(&home);
}
