//! `rowhouse backup` and `rowhouse restore`, as a person and a script meet them.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod common;
#[path = "common/terminal.rs"]
mod terminal;

use std::path::Path;

use common::{document, rowhouse};
use serde_json::Value;
use terminal::Terminal;

/// A home with the built-in databases and some threads.
fn home() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/transcripts");
    assert_eq!(rowhouse(folder.path(), &["import", samples]).0, Some(0));
    // The best-effort one comes into being in the background.
    let runtime = rowhouse::Runtime::open(rowhouse::Home::at(folder.path())).expect("opened");
    let logs = runtime.database("logs").expect("a domain");
    logs.wait_for_change(0, std::time::Duration::from_secs(20)).expect("attached");
    folder
}

fn threads(home: &Path) -> usize {
    document(home, &["threads", "list"]).1["threads"].as_array().expect("threads").len()
}

#[test]
fn there_and_back_again() {
    let home = home();
    let before = threads(home.path());
    assert!(before > 0);
    let (code, made) = document(home.path(), &["backup"]);
    assert_eq!(code, Some(0), "{made}");
    let folder = made["folder"].as_str().expect("a folder");
    let names: Vec<_> =
        made["databases"].as_array().expect("databases").iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["device_keys", "goals", "logs", "state"]);
    assert!(made["databases"][3]["rows"]["thread"].as_u64() > Some(0), "{made}");
    assert_eq!(
        (&made["program"], &made["program_version"]),
        (&"rowhouse".into(), &env!("CARGO_PKG_VERSION").into())
    );
    assert!(made["held_us"].is_u64() && made["left_out"] == Value::Array(vec![]), "{made}");

    let elsewhere = tempfile::tempdir().expect("a folder");
    let other = elsewhere.path().join("other");
    let (code, dry) = document(&other, &["restore", folder, "--dry-run"]);
    assert_eq!((code, &dry["dry_run"], other.exists()), (Some(0), &true.into(), false), "{dry}");
    let (code, done) = document(&other, &["restore", folder]);
    assert_eq!((code, &done["quarantine"]), (Some(0), &Value::Null), "{done}");
    assert_eq!(threads(&other), before);

    std::fs::write(home.path().join("state.sqlite"), "damaged ".repeat(1000)).expect("damaged");
    // It starts with what can be read of it, which is nothing, and says where the damaged file is.
    let (code, _, told) = rowhouse(home.path(), &["threads", "list"]);
    assert!(code == Some(0) && told.contains("quarantine"), "{code:?} {told}");
    assert_eq!(threads(home.path()), 0);
    let (code, done) = document(home.path(), &["restore", folder, "--yes"]);
    assert_eq!(code, Some(0), "{done}");
    assert!(Path::new(done["quarantine"].as_str().expect("a folder")).join("state.sqlite").exists());
    assert_eq!(threads(home.path()), before);
    let sets = std::fs::read_dir(home.path().join("quarantine")).expect("what was set aside");
    let damaged = sets.flatten().filter_map(|set| std::fs::read(set.path().join("state.sqlite")).ok());
    assert_eq!(damaged.filter(|bytes| bytes.starts_with(b"damaged")).count(), 1, "the evidence is kept");
}

#[test]
fn a_person_sees_what_was_done_and_what_to_do() {
    let home = home();
    let out = tempfile::tempdir().expect("a folder");
    let folder = out.path().join("monday");
    let name = folder.to_str().expect("plain");
    let (code, stdout, stderr) = rowhouse(home.path(), &["backup", name]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("state") && stdout.contains("4 databases") && stdout.contains(name), "{stdout}");
    assert!(stderr.contains("copied state: ") && stderr.contains("checked state: "), "{stderr}");
    let (code, stdout, stderr) = rowhouse(home.path(), &["restore", name, "--dry-run"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("would be restored into") && stdout.contains("another file"), "{stdout}");

    let (code, stdout, stderr) = rowhouse(home.path(), &["backup", name]);
    assert_eq!((code, &*stdout), (Some(1), ""));
    assert!(stderr.contains("error: ") && stderr.contains("hint: "), "{stderr}");
    let (code, refused) = document(home.path(), &["restore", out.path().to_str().expect("plain")]);
    assert_eq!((code, &refused["error"]["kind"]), (Some(1), &"not_found".into()), "{refused}");
    let (code, none) = document(&out.path().join("nowhere"), &["backup"]);
    assert_eq!((code, &none["error"]["kind"]), (Some(1), &"not_found".into()), "{none}");
    assert!(!out.path().join("nowhere").exists(), "a home is not made to be copied");
}

#[test]
fn a_home_that_somebody_has_open_is_backed_up_and_not_restored() {
    let home = home();
    let runtime = rowhouse::Runtime::open(rowhouse::Home::at(home.path())).expect("opened");
    let (code, made) = document(home.path(), &["backup"]);
    assert_eq!(code, Some(0), "{made}");
    let folder = made["folder"].as_str().expect("a folder");
    let (code, refused) = document(home.path(), &["restore", folder, "--yes"]);
    assert_eq!((code, &refused["error"]["kind"]), (Some(1), &"busy".into()), "{refused}");
    let message = refused["error"]["message"].as_str().expect("a message");
    assert!(message.contains(&format!("pid {}", std::process::id())), "{message}");
    drop(runtime);
    assert_eq!(document(home.path(), &["restore", folder, "--yes"]).0, Some(0));
}

#[test]
fn space_is_given_back_and_a_home_in_use_is_not_compacted() {
    let home = home();
    let before = threads(home.path());
    let (code, done) = document(home.path(), &["maintain"]);
    assert_eq!((code, done["databases"].as_array().map(Vec::len)), (Some(0), Some(4)), "{done}");
    for database in done["databases"].as_array().expect("databases") {
        assert!(database["reclaimed_bytes"].is_u64() && database["free_bytes"] == 0, "{database}");
    }
    let (code, done) = document(home.path(), &["compact", "state", "logs"]);
    assert_eq!((code, &done["databases"][1]["name"]), (Some(0), &"state".into()), "{done}");
    assert!(
        done["databases"][1]["bytes"].as_u64() <= done["databases"][1]["bytes_before"].as_u64(),
        "{done}"
    );
    assert_eq!(threads(home.path()), before);

    let (code, text, said) = rowhouse(home.path(), &["compact"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(text.contains("given back to the disk") && said.contains("rewrote state"), "{text}{said}");
    let runtime = rowhouse::Runtime::open(rowhouse::Home::at(home.path())).expect("opened");
    let (code, refused) = document(home.path(), &["compact", "state"]);
    assert_eq!((code, &refused["error"]["kind"]), (Some(1), &"busy".into()), "{refused}");
    let pid = format!("(pid {}", std::process::id());
    assert!(refused["error"]["message"].as_str().expect("a text").contains(&pid), "{refused}");
    assert_eq!(rowhouse(home.path(), &["maintain", "state"]).0, Some(0), "beside whoever uses it");
    drop(runtime);
    assert_eq!(document(home.path(), &["maintain", "nobody"]).1["error"]["kind"], "not_found");
}

/// Control: what was to be seen before the line was erased: the bar.
#[test]
fn nothing_of_a_bar_stays_on_the_screen() {
    const ERASED: &str = "\u{1b}[2K";
    let home = home();
    let (_, made) = document(home.path(), &["backup"]);
    let folder = made["folder"].as_str().expect("a folder");
    for arguments in [&["restore", folder, "--yes"][..], &["backup"], &["maintain"]] {
        let (ended, shown) = Terminal::start(home.path(), 80, arguments).end();
        assert!(ended.success(), "{arguments:?}: {shown}");
        let (bars, rest) = shown.rsplit_once(ERASED).unwrap_or_else(|| panic!("{arguments:?}: {shown}"));
        assert!(bars.contains(['█', '░']) && rest.contains("database"), "{arguments:?}: {shown}");
        assert!(!rest.contains('█') && !rest.contains('░'), "{arguments:?}: {rest}");
    }
}
