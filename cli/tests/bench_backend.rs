//! `rowhouse bench backend`: rows for each engine, in one document; nothing is left behind; what is missing is named.
#![allow(clippy::disallowed_methods, reason = "a test looks at files from outside")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::document;
use serde_json::{Value, json};

/// A folder that a server of root, which runs as another user, can enter.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("open to all");
    folder
}

fn bench(folder: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let little = ["bench", "backend", "--quick", "--rounds", "1", "--seconds", "0.05", "--threads", "60"];
    let place = folder.to_str().expect("a plain path");
    document(folder, &[&little[..], &["--dir", place], more].concat())
}

#[test]
fn a_file_a_server_and_a_server_with_a_standby_do_the_same_work() {
    let folder = folder();
    let works = ["thread_upsert_1", "goal_account_8", "thread_page_8"];
    let only: Vec<_> = works.iter().flat_map(|work| ["--only", work]).collect();
    let (code, found) = bench(folder.path(), &only);
    assert_eq!((code, &found["bench"]), (Some(0), &json!("backend")), "{found}");
    let rows = found["rows"].as_array().expect("rows");
    let of = |field: &str| rows.iter().map(|row| row[field].clone()).collect::<Vec<_>>();
    let subjects = ["sqlite", "postgres", "postgres_standby"];
    assert_eq!(of("subject"), [subjects; 3].concat(), "{found}");
    assert_eq!(of("work"), works.map(|work| [work; 3]).concat(), "{found}");
    assert_eq!(of("callers"), [1, 8, 8].map(|callers| [callers; 3]).concat(), "{found}");
    for row in rows {
        let is_file = row["subject"] == "sqlite";
        assert_eq!(row["over_file"].as_f64().is_some_and(|ratio| ratio > 0.0), !is_file, "{row}");
        for field in ["ops_per_s", "p50_us", "p99_us"] {
            assert!(row[field].as_f64() > Some(0.0), "{field}: {row}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing is left behind");
}

#[test]
fn what_is_missing_is_named_and_nothing_is_left_behind() {
    let folder = folder();
    let (code, found) = bench(folder.path(), &["--programs", "/nonexistent"]);
    assert_eq!((code, &found["error"]["kind"]), (Some(1), &json!("not_found")), "{found}");
    let advice = found["error"]["advice"].as_str().expect("a next step");
    assert!(advice.contains("apt-get install postgresql") && advice.contains("--url"), "{found}");

    let (code, found) =
        bench(folder.path(), &["--url", "host=/nonexistent user=app password=s3cret dbname=agents"]);
    assert_eq!((code, &found["error"]["kind"]), (Some(1), &json!("io")), "{found}");
    assert!(!found.to_string().contains("s3cret"), "{found}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing is left behind");
}
