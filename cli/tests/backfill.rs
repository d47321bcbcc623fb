//! `rowhouse backfill` and `rowhouse reindex`: to a person and to a script, alone and beside a program that is at it.

#![allow(clippy::disallowed_methods, reason = "a test prepares files")]

mod common;

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{document, rowhouse};
use rowhouse::stores::backfill::Reread;
use rowhouse::{Home, Runtime};
use serde_json::{Value, json};

/// A home with the sample transcripts in its own folders.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder");
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/transcripts");
    for found in rowhouse::rollout::walk(&samples).expect("a walk") {
        let from = found.expect("a transcript").path;
        let root = samples.canonicalize().expect("the samples");
        let to = home.path().join(from.strip_prefix(root).expect("inside"));
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("folders");
        std::fs::copy(from, to).expect("a copy");
    }
    home
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a document on each line")).collect()
}

#[test]
fn the_homes_own_transcripts_are_indexed_and_their_state_is_told() {
    let home = home();
    let (code, error) = document(home.path(), &["backfill", "status"]);
    assert_eq!((code, &error["error"]["kind"]), (Some(1), &json!("not_found")), "{error}");
    let (code, text, errors) = rowhouse(home.path(), &["backfill", "--json"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{text}");
    let told = lines(&text);
    let done = told.last().expect("a line");
    assert_eq!(
        (&done["event"], &done["imported"], &done["complete"]),
        (&json!("done"), &json!(6), &json!(true))
    );
    assert!(told[..told.len() - 1].iter().all(|line| line["event"] == "progress"), "{text}");

    let (_, followed, _) = rowhouse(home.path(), &["backfill", "--follow", "--json"]);
    let done = lines(&followed).pop().expect("a line");
    assert_eq!((&done["event"], &done["unchanged"]), (&json!("done"), &json!(6)), "{followed}");

    let (code, status) = document(home.path(), &["backfill", "status"]);
    let backfill = &status["backfills"][0];
    assert_eq!((code, &backfill["state"], &backfill["listed"]), (Some(0), &json!("complete"), &json!(true)));
    assert_eq!(
        (&backfill["progress"]["imported"], &backfill["holder"]),
        (&json!(6), &Value::Null),
        "{status}"
    );
    let (code, text, _) = rowhouse(home.path(), &["backfill", "status"]);
    assert!(code == Some(0) && text.contains("complete") && text.contains("just now"), "{text}");
}

#[test]
fn what_is_gone_is_named_and_swept_on_request_only() {
    let home = home();
    rowhouse(home.path(), &["backfill"]);
    let archived = home.path().join("archived_sessions");
    let file = std::fs::read_dir(&archived).expect("the folder").next().expect("one").expect("it").path();
    std::fs::remove_file(&file).expect("removed");
    let (code, text, _) = rowhouse(home.path(), &["reindex"]);
    assert!(
        code == Some(0) && text.contains(file.file_name().expect("a name").to_str().expect("UTF-8")),
        "{text}"
    );
    assert!(text.contains("1 thread without a file (to remove: rowhouse reindex --sweep)"), "{text}");
    let (_, report) = document(home.path(), &["reindex"]);
    assert_eq!(
        (&report["missing"], &report["bytes_read"], &report["sweep"]),
        (&json!(1), &json!(0), &Value::Null)
    );
    let (_, swept) = document(home.path(), &["reindex", "--sweep", "--yes"]);
    assert_eq!(swept["sweep"]["threads"], 1, "{swept}");
    let (_, report) = document(home.path(), &["reindex", "--everything"]);
    assert_eq!((&report["missing"], &report["unchanged"]), (&json!(0), &json!(5)), "{report}");
    assert!(report["bytes_read"].as_u64() > Some(0), "{report}");
}

#[test]
fn a_backfill_that_somebody_is_at_is_named_and_lists_are_partial() {
    let home = home();
    let runtime = Runtime::open(Home::at(home.path())).expect("the home opens");
    let mut seen = false;
    let index = runtime.backfill();
    let report = index.run(home.path(), Reread::Changed, &mut |progress| {
        if progress.listed {
            return;
        }
        seen = true;
        let (code, refused) = document(home.path(), &["reindex"]);
        assert_eq!((code, &refused["error"]["kind"]), (Some(1), &json!("busy")), "{refused}");
        let (_, status) = document(home.path(), &["backfill", "status"]);
        let backfill = &status["backfills"][0];
        assert_eq!(
            (&backfill["state"], &backfill["holder"]["pid"]),
            (&json!("running"), &json!(std::process::id()))
        );
        let (_, page) = document(home.path(), &["threads", "list"]);
        assert_eq!((&page["partial"], page["threads"].as_array().map(Vec::len)), (&json!(true), Some(5)));
        let (_, _, told) = rowhouse(home.path(), &["threads", "list"]);
        assert!(told.contains("still being indexed"), "{told}");
    });
    assert!(seen && report.expect("a report").complete);
    let (_, page) = document(home.path(), &["threads", "list"]);
    assert_eq!(page["partial"], false);
}

#[test]
fn a_bench_of_few_transcripts_has_its_rows_and_targets() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().to_str().expect("UTF-8");
    let arguments = ["bench", "backfill", "--files", "20", "--rounds", "1", "--dir", place];
    let (code, found) = document(&folder.path().join("home"), &arguments);
    assert_eq!((code, &found["bench"]), (Some(0), &json!("backfill")), "{found}");
    let subjects: Vec<_> =
        found["rows"].as_array().expect("rows").iter().map(|row| &row["subject"]).collect();
    assert_eq!(subjects, ["rowhouse", "whole_files"]);
    let names: Vec<_> =
        found["targets"].as_array().expect("targets").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["backfill_rate", "backfill_first", "backfill_bytes"]);
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing is left behind");
}

/// Control: the same while nobody has the database locked says nothing.
#[test]
fn a_reindex_that_waits_says_for_whom_and_can_be_ended() {
    let home = home();
    let (code, _, told) = rowhouse(home.path(), &["reindex"]);
    assert_eq!((code, told.as_str()), (Some(0), ""));
    let other = rowhouse::rusqlite::Connection::open(home.path().join("state.sqlite")).expect("opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    for goes_on in [true, false] {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
            .arg("--home")
            .arg(home.path())
            .args(["reindex", "--everything"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut said = String::new();
        BufReader::new(child.stderr.take().expect("piped")).read_line(&mut said).expect("a line");
        let own = format!("pid {}", std::process::id());
        assert!(said.starts_with("waiting for ") && said.contains(&own), "{said}");
        if goes_on {
            other.execute_batch("ROLLBACK").expect("let go");
            assert!(child.wait().expect("it ends").success());
            other.execute_batch("BEGIN IMMEDIATE").expect("locked");
        } else {
            // While the lock is held still.
            let id = child.id().to_string();
            assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill runs").success());
            assert_eq!(child.wait().expect("it ends").signal(), Some(2));
        }
    }
}
