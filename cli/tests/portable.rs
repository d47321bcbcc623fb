//! `rowhouse export`, `rowhouse import home` and `rowhouse import codex`: to a person and to a script.

#![allow(clippy::disallowed_methods, reason = "a test prepares files")]

mod common;

use std::path::Path;

use common::{document, rowhouse};
use serde_json::json;

fn samples() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/transcripts"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_home_goes_to_another_one_and_twice_is_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    let file = folder.path().join("threads.rowhouse");
    let (code, refused) = document(&here, &["export", text(&file)]);
    assert_eq!((code, &refused["error"]["kind"]), (Some(1), &json!("not_found")), "{refused}");
    rowhouse(&here, &["import", text(samples())]);
    let (code, told, errors) = rowhouse(&here, &["export", text(&file)]);
    assert!(code == Some(0) && told.contains("6 threads, 6 transcripts"), "{told}{errors}");
    let (code, refused) = document(&here, &["export", text(&file)]);
    assert_eq!((code, &refused["error"]["kind"]), (Some(1), &json!("conflict")), "{refused}");

    let (code, told, _) = rowhouse(&there, &["import", "home", text(&file), "--dry-run"]);
    assert!(
        code == Some(0) && told.contains("6 would be new") && told.contains("nothing was changed"),
        "{told}"
    );
    assert!(!there.exists(), "to look creates nothing");
    let (code, done) = document(&there, &["import", "home", text(&file)]);
    assert_eq!((code, &done["new"], &done["left"]), (Some(0), &json!(6), &json!(0)), "{done}");
    let (_, again) = document(&there, &["import", "home", text(&file)]);
    assert_eq!((&again["new"], &again["updated"], &again["unchanged"]), (&json!(0), &json!(0), &json!(6)));
    let ids = |home: &Path| {
        let (_, page) = document(home, &["threads", "list"]);
        page["threads"].as_array().expect("threads").iter().map(|row| row["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&there), ids(&here));

    let (code, refused) = document(&there, &["import", "home", text(&samples().join("sessions"))]);
    assert_eq!((code, &refused["error"]["kind"]), (Some(1), &json!("invalid")), "{refused}");
    let (code, _, _) = rowhouse(&there, &["import"]);
    assert_eq!(code, Some(2), "there is nothing to import");
}

#[test]
fn a_codex_home_comes_in_with_its_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let (home, codex) = (folder.path().join("home"), folder.path().join("codex"));
    for found in rowhouse::rollout::walk(samples()).expect("a walk") {
        let found = found.expect("a transcript");
        let to = codex.join(if found.archived { "archived_sessions" } else { "sessions/2026/03/02" });
        std::fs::create_dir_all(&to).expect("folders");
        std::fs::copy(&found.path, to.join(found.path.file_name().expect("a name"))).expect("a copy");
    }
    let name =
        json!({"id": "019cadf1-7a5e-7b04-8f21-5d0c9a41e001", "thread_name": "The ledger", "updated_at": ""});
    std::fs::write(codex.join("session_index.jsonl"), format!("{name}\n")).expect("written");
    let (code, told, errors) = rowhouse(&home, &["import", "codex", text(&codex)]);
    assert!(code == Some(0) && told.contains("1 thread named there, 1 name taken over"), "{told}{errors}");
    let (_, again) = document(&home, &["import", "codex", text(&codex)]);
    assert_eq!((&again["unchanged"], &again["names"]["given"]), (&json!(6), &json!(0)), "{again}");
    let (_, found) = document(&home, &["threads", "search", "ledger", "--limit", "9"]);
    assert_eq!(found["threads"][0]["title"], "The ledger", "{found}");
    let (code, refused) = document(&home, &["import", "codex", text(folder.path())]);
    assert_eq!((code, &refused["error"]["kind"]), (Some(1), &json!("not_found")), "{refused}");
}
