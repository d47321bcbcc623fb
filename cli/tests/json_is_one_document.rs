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
fn import_and_threads_answer_one_document() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in [&["import", "."][..], &["import", "missing"], &["threads", "list"]] {
        let (code, document) = rowhouse(folder.path(), arguments);
        assert!(document.is_object(), "{arguments:?}: {document}");
        assert_eq!(code == Some(0), document.get("error").is_none(), "{arguments:?}: {document}");
    }
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
fn a_misunderstood_command_line_is_a_document_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, document) = rowhouse(folder.path(), &["status", "--nonsense"]);
    assert_eq!(code, Some(2));
    assert_eq!(document["error"]["kind"], "usage", "{document}");
}
