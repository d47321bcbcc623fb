//! With `--json`, standard output is one valid document and nothing else, whatever the command and however it ends.

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

fn rowhouse(folder: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = Command::cargo_bin("rowhouse")
        .expect("the binary is built")
        .current_dir(folder)
        .env_remove("ROWHOUSE_HOME")
        .args(["--json", "--home"])
        .arg(folder.join("home"))
        .args(arguments)
        .output()
        .expect("the command runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let document =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}{told}"));
    (output.status.code(), document)
}

#[test]
fn status_of_a_home_without_databases_is_an_empty_list() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, document) = rowhouse(folder.path(), &["status"]);
    assert_eq!(code, Some(0));
    assert_eq!(document["databases"].as_array().map(Vec::len), Some(0), "{document}");
}

#[test]
fn an_unknown_database_is_an_error_document() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, document) = rowhouse(folder.path(), &["status", "nowhere"]);
    assert_eq!(code, Some(1));
    assert_eq!(document["error"]["kind"], "not_found", "{document}");
    assert!(
        document["error"]["message"].is_string() && document["error"]["advice"].is_string(),
        "{document}"
    );
}

#[test]
fn what_was_imported_is_listed_page_by_page_and_importing_again_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/transcripts");
    let (code, first) = rowhouse(folder.path(), &["import", samples]);
    assert_eq!((code, &first["imported"], &first["bad"]), (Some(0), &6.into(), &0.into()), "{first}");
    let (code, second) = rowhouse(folder.path(), &["import", samples]);
    assert_eq!(
        (code, &second["imported"], &second["unchanged"]),
        (Some(0), &0.into(), &6.into()),
        "{second}"
    );
    assert_eq!(second["bytes_read"], 0, "{second}");

    let mut seen = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut arguments = vec!["threads", "list", "--sort", "created", "--limit", "2"];
        if let Some(cursor) = &cursor {
            arguments.extend(["--cursor", cursor]);
        }
        let (code, page) = rowhouse(folder.path(), &arguments);
        assert_eq!(code, Some(0), "{page}");
        let threads = page["threads"].as_array().expect("threads");
        seen.extend(threads.iter().map(|thread| thread["created_at"].as_str().expect("RFC 3339").to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(seen.len(), 5, "one of six is archived: {seen:?}");
    assert!(seen.is_sorted_by(|newer, older| newer >= older), "{seen:?}");
    let (_, archived) = rowhouse(folder.path(), &["threads", "list", "--archived"]);
    assert_eq!(archived["threads"].as_array().map(Vec::len), Some(1), "{archived}");
    let (_, none) = rowhouse(folder.path(), &["threads", "list", "--cwd", "/nowhere"]);
    assert_eq!(none["threads"].as_array().map(Vec::len), Some(0), "{none}");

    let (_, status) = rowhouse(folder.path(), &["status", "state"]);
    assert!(status["databases"][0]["schema_version"].as_i64() >= Some(1), "{status}");
    assert_eq!(status["databases"][0]["durability"], "full", "{status}");
}

#[test]
fn bad_transcripts_are_named_and_not_fatal() {
    let folder = tempfile::tempdir().expect("a folder");
    let bad = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/bad_transcripts");
    let (code, report) = rowhouse(folder.path(), &["import", bad]);
    assert_eq!((code, &report["bad"]), (Some(0), &2.into()), "{report}");
    let problems = report["problems"].as_array().expect("problems");
    assert!(problems.iter().all(|problem| problem["path"].is_string() && problem["line"] == 1), "{report}");
}

#[test]
fn looking_at_a_home_that_is_not_there_creates_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, document) = rowhouse(folder.path(), &["threads", "list"]);
    assert_eq!((code, &document["error"]["kind"]), (Some(1), &"not_found".into()), "{document}");
    assert!(!folder.path().join("home").exists());
    let (code, document) = rowhouse(folder.path(), &["import", "missing"]);
    assert_eq!((code, &document["error"]["kind"]), (Some(1), &"not_found".into()), "{document}");
    assert!(!folder.path().join("home").exists());
}

#[test]
fn the_demo_loses_nothing_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, document) = rowhouse(folder.path(), &["demo", "--seconds", "1"]);
    assert_eq!(code, Some(0), "{document}");
    assert!(document["writing"]["commits"].as_u64() > Some(0), "{document}");
    assert_eq!(document["databases"][0]["name"], "demo", "{document}");
    assert!(!folder.path().join("home").exists(), "the demo has a home of its own");
}

#[test]
fn a_bench_has_the_documents_shape() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, document) = rowhouse(
        folder.path(),
        &["bench", "contention", "--quick", "--only", "callers_1_full", "--seconds", "0.2"],
    );
    assert_eq!(code, Some(0), "{document}");
    assert_eq!(document["bench"], "contention");
    for field in ["cpu", "cores", "kernel", "filesystem", "fsync_us", "sqlite"] {
        assert!(!document["machine"][field].is_null(), "{field}: {document}");
    }
    let rows = document["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 4, "rowhouse, pool, mutex, raw: {document}");
    for row in rows {
        assert_eq!(row["work"], "callers_1_full");
        assert_eq!((&row["callers"], &row["processes"]), (&Value::from(1), &Value::from(1)));
        assert_eq!(row["synchronous"], "full");
        for field in ["ops_per_s", "p50_us", "p99_us", "max_us", "slowest_over_fastest"] {
            assert!(row[field].as_f64() > Some(0.0), "{field}: {row}");
        }
    }
    let target = &document["targets"][0];
    assert_eq!(target["name"], "callers_1_full");
    let (value, bound) =
        (target["value"].as_f64().expect("a value"), target["bound"].as_f64().expect("a bound"));
    assert_eq!(target["holds"].as_bool(), Some(value <= bound), "{target}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing is left behind");
}

#[test]
fn processes_are_measured_and_every_row_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, document) = rowhouse(
        folder.path(),
        &["bench", "contention", "--quick", "--only", "processes_2x1", "--seconds", "0.2", "--rounds", "1"],
    );
    assert_eq!(code, Some(0), "{document}");
    let subjects: Vec<_> =
        document["rows"].as_array().expect("rows").iter().map(|row| &row["subject"]).collect();
    assert_eq!(subjects, ["rowhouse", "pool"]);
}

#[test]
fn starting_is_measured_alone_together_and_beside_a_held_lock() {
    let folder = tempfile::tempdir().expect("a folder");
    let only = ["--only", "open_warm", "--only", "warm_32_held", "--only", "cold_1"];
    let arguments = ["bench", "startup", "--quick", "--rounds", "1"].into_iter().chain(only);
    let (code, document) = rowhouse(folder.path(), &arguments.collect::<Vec<_>>());
    assert_eq!((code, &document["bench"]), (Some(0), &"startup".into()), "{document}");
    let rows = document["rows"].as_array().expect("rows");
    let told = |row: &Value| {
        let word = |field: &str| row[field].as_str().expect("a word").to_owned();
        (word("work"), word("subject"), row["processes"].as_u64().expect("a number"))
    };
    let expected = [
        ("open_warm", "rowhouse", 1),
        ("open_warm", "plain", 1),
        ("open_warm_beside", "rowhouse", 1),
        ("open_warm_beside", "plain", 1),
        ("warm_32_held", "rowhouse", 32),
        ("warm_32_held", "plain", 32),
        ("cold_1", "rowhouse", 1),
        ("cold_1_held", "rowhouse", 1),
    ];
    let expected = expected.map(|(work, subject, number)| (work.to_owned(), subject.to_owned(), number));
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), expected, "{document}");
    for row in rows {
        assert!(
            row["p50_us"].as_f64() > Some(0.0) && row["max_us"].as_f64() >= row["p50_us"].as_f64(),
            "{row}"
        );
        assert!(row["slowest_over_fastest"].is_null(), "{row}");
    }
    assert_eq!(
        (&document["targets"][0]["name"], &document["targets"][0]["bound"]),
        (&"open_warm".into(), &2.0.into())
    );
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing is left behind");
}

#[test]
fn stores_are_measured_with_few_rows_and_many_by_one_process_and_two() {
    let folder = tempfile::tempdir().expect("a folder");
    let little = ["bench", "stores", "--quick", "--rounds", "1", "--seconds", "0.1", "--threads", "2000"];
    let only = ["thread_page", "goal_account_1", "goal_account_2x1", "log_event", "log_rate"];
    let only: Vec<_> = only.iter().flat_map(|name| ["--only", name]).collect();
    let (code, document) = rowhouse(folder.path(), &[&little[..], &only].concat());
    assert_eq!((code, &document["bench"]), (Some(0), &"stores".into()), "{document}");
    let rows = document["rows"].as_array().expect("rows");
    let of = |work: &str| rows.iter().filter(|row| row["work"] == work).collect::<Vec<_>>();
    let stored: Vec<_> = of("thread_page_8_folders").iter().map(|row| row["stored"].as_u64()).collect();
    assert_eq!(stored, [Some(1_000), Some(2_000)], "{document}");
    for (work, processes) in [("goal_account_1", 1), ("goal_account_2x1", 2)] {
        let [row] = of(work)[..] else { panic!("one row of {work}: {document}") };
        assert_eq!(
            (&row["processes"], row["ops_per_s"].as_f64() > Some(0.0)),
            (&processes.into(), true),
            "{row}"
        );
    }
    let names: Vec<_> =
        document["targets"].as_array().expect("targets").iter().map(|target| &target["name"]).collect();
    assert_eq!(names, ["thread_page", "log_event", "log_rate"], "{document}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing is left behind");
}

#[test]
fn a_misunderstood_command_line_is_a_document_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, document) = rowhouse(folder.path(), &["status", "--nonsense"]);
    assert_eq!(code, Some(2));
    assert_eq!(document["error"]["kind"], "usage", "{document}");
}
