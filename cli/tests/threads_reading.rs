//! A thread is read on the command line: on a terminal, in a pipe, as a file; where it may not be written, too.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files")]

mod common;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{document, rowhouse};
use serde_json::{Value, json};

/// Cent rounding: two turns, a name, a pin.
const CENTS: &str = "0f29be004";
const ARCHIVED: &str = "019bd0c3-f3ba-7d65-9072-e1a84b5ce006";

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/transcripts")
}

/// A home that knows the sample transcripts, which lie elsewhere.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder");
    let (code, _, stderr) = rowhouse(home.path(), &["import", samples().to_str().expect("letters")]);
    assert_eq!(code, Some(0), "{stderr}");
    home
}

fn file_of(end: &str) -> PathBuf {
    let mut files =
        rowhouse::rollout::walk(&samples()).expect("a walk").map(|file| file.expect("a file").path);
    files.find(|path| path.to_string_lossy().contains(end)).expect("a sample")
}

fn text(home: &Path, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = rowhouse(home, arguments);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}: {stdout}");
    stdout
}

fn lines(home: &Path, arguments: &[&str]) -> Vec<Value> {
    let told = text(home, &[arguments, &["--json"]].concat());
    told.lines().map(|line| serde_json::from_str(line).expect("a document on each line")).collect()
}

#[test]
fn a_thread_is_shown_turn_by_turn() {
    let home = home();
    let shown = text(home.path(), &["threads", "show", CENTS]);
    let heads = [
        "Cent rounding\n",
        "── turn 1 ",
        "user  ",
        "  Totals are off",
        "tool shell  ",
        "  grep -n round",
        "  │ src/amount.rs:41:",
        "assistant  ",
        "  Twice: once",
        "── turn 2 ",
        "  Do that.",
    ];
    let places: Vec<_> = heads.iter().map(|head| shown.find(head)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{shown}");
    assert!(shown.contains("pinned") && shown.contains("14k tokens") && !shown.contains('\u{1b}'), "{shown}");
    assert!(!shown.contains("environment_context") && !shown.contains("small steps"), "{shown}");
    let last = text(home.path(), &["threads", "show", CENTS, "--turns", "1"]);
    assert!(last.contains("── turn 2 ") && !last.contains("── turn 1 "), "{last}");
    assert!(text(home.path(), &["threads", "show", CENTS, "--turns", "2"]).contains("── turn 1 "));

    let told = lines(home.path(), &["threads", "show", CENTS]);
    assert_eq!(
        (told.len(), &told[0]["event"], &told[0]["title"]),
        (3, &json!("thread"), &json!("Cent rounding"))
    );
    let roles: Vec<_> =
        told[1]["entries"].as_array().expect("entries").iter().map(|one| &one["role"]).collect();
    assert_eq!(roles, ["user", "tool", "assistant"]);
    assert_eq!((&told[1]["status"], &told[1]["tokens_used"]), (&json!("completed"), &json!(5200)));
    assert!(text(home.path(), &["threads", "show", ARCHIVED]).contains("12 files renamed."));
}

#[test]
fn turns_are_listed_page_by_page() {
    let home = home();
    let listed = text(home.path(), &["threads", "turns", CENTS]);
    assert!(listed.starts_with("turn  begun") && listed.contains("Do that."), "{listed}");
    let page =
        |arguments: &[&str]| document(home.path(), &[&["threads", "turns", CENTS], arguments].concat());
    let (code, first) = page(&["--desc", "--limit", "1", "--items", "summary"]);
    assert_eq!((code, &first["turns"][0]["user_text"]), (Some(0), &json!("Do that.")), "{first}");
    assert_eq!(first["turns"][0]["items"].as_array().map(Vec::len), Some(2), "{first}");
    assert_eq!(first["turns"][0]["started_at"], "2026-03-09T07:30:07.143Z");
    let cursor = first["next_cursor"].as_str().expect("more");
    let (_, last) = page(&["--desc", "--items", "full", "--cursor", cursor]);
    assert_eq!((&last["turns"][0]["ordinal"], &last["next_cursor"]), (&json!(0), &Value::Null), "{last}");
    assert_eq!(last["turns"][0]["items"].as_array().map(Vec::len), Some(8), "{last}");
    let (code, refused) = page(&["--cursor", cursor]);
    assert_eq!((code, &refused["error"]["kind"]), (Some(1), &json!("invalid")), "{refused}");
}

#[test]
fn an_export_is_the_transcript_byte_for_byte_or_something_to_read() {
    let home = home();
    let original = std::fs::read(file_of(CENTS)).expect("the transcript");
    let told = text(home.path(), &["threads", "export", CENTS, "--format", "jsonl"]);
    assert_eq!(told.as_bytes(), original);
    let target = home.path().join("out.jsonl");
    let to = target.to_str().expect("letters");
    let (code, done) =
        document(home.path(), &["threads", "export", CENTS, "--format", "jsonl", "--output", to]);
    assert_eq!((code, &done["bytes"]), (Some(0), &json!(original.len())), "{done}");
    assert_eq!(std::fs::read(&target).expect("the file"), original);

    let markdown = text(home.path(), &["threads", "export", CENTS]);
    assert!(markdown.starts_with("# Cent rounding\n\n- Thread: 019cd19f-"), "{markdown}");
    assert!(
        markdown.contains("### Tool: shell\n\n```\ncargo test\n```\n\n```\ntest result: ok"),
        "{markdown}"
    );
    let told = text(home.path(), &["threads", "export", CENTS, "--json"]);
    assert_eq!(told.as_bytes(), original, "JSON lines are what it is");
    text(home.path(), &["threads", "export", CENTS, "--output", to, "--force"]);
    assert_eq!(std::fs::read(&target).expect("replaced"), markdown.as_bytes());
    for (arguments, kind) in [
        (&["threads", "export", CENTS, "--format", "markdown"][..], "invalid"),
        (&["threads", "export", CENTS, "--output", "/dev/null"], "invalid"),
        (&["threads", "export", "00000000", "--format", "jsonl"], "not_found"),
        (&["threads", "show", "0193a1b2-0000-7000-8000-00000badcafe"], "not_found"),
    ] {
        let (code, refused) = document(home.path(), arguments);
        assert_eq!((code, &refused["error"]["kind"]), (Some(1), &json!(kind)), "{arguments:?}: {refused}");
        assert!(refused["error"]["advice"].is_string(), "{refused}");
    }
}

/// A line that no program could write is in an export, and stops no reader.
#[test]
fn large_turns_and_bad_lines_stop_nobody() {
    let home = tempfile::tempdir().expect("a folder");
    let id = "019cd19f-0000-7000-8000-00000badcafe";
    let folder = home.path().join("sessions/2026/03/09");
    std::fs::create_dir_all(&folder).expect("folders");
    let big = "x".repeat(17 << 20);
    let mut lines_of_it = vec![
        json!({"timestamp": "2026-03-09T07:30:00Z", "type": "session_meta", "payload": {"id": id}})
            .to_string(),
    ];
    lines_of_it.push("no record".to_owned());
    for asked in ["one", "two", "three"] {
        for payload in [
            json!({"type": "user_message", "message": asked}),
            json!({"type": "agent_message", "message": big}),
        ] {
            lines_of_it.push(
                json!({"timestamp": "2026-03-09T07:30:01Z", "type": "event_msg", "payload": payload})
                    .to_string(),
            );
        }
    }
    let path = folder.join(format!("rollout-2026-03-09T07-30-00-{id}.jsonl"));
    std::fs::write(&path, lines_of_it.join("\n") + "\n{\"torn").expect("a transcript");
    assert_eq!(rowhouse(home.path(), &["backfill"]).0, Some(0));
    let told = lines(home.path(), &["threads", "show", id]);
    let asked: Vec<_> = told[1..].iter().map(|turn| turn["user_text"].as_str().expect("a text")).collect();
    assert_eq!(asked, ["one", "two", "three"], "a page that would be too large is shorter, and goes on");
    let out = home.path().join("out.jsonl");
    text(home.path(), &["threads", "export", id, "--format", "jsonl", "-o", out.to_str().expect("letters")]);
    assert!(std::fs::read(&out).expect("the file") == std::fs::read(&path).expect("the transcript"));
}

/// Runs a command whose standard output is a terminal; answers what the terminal got.
fn on_a_terminal(home: &Path, pager: &str, arguments: &[&str]) -> String {
    let (mut reading, mut writing) = (-1, -1);
    let size = libc::winsize { ws_row: 24, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: two integers to write to, a size to read, and no name or settings; all outlive the call.
    let opened = unsafe {
        libc::openpty(
            &raw mut reading,
            &raw mut writing,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            (&raw const size).cast_mut(),
        )
    };
    assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: just opened, and nobody else's.
    let (reading, writing) = unsafe { (OwnedFd::from_raw_fd(reading), OwnedFd::from_raw_fd(writing)) };
    let mut process = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
        .env("PAGER", pager)
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .arg("--home")
        .arg(home)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(writing)
        .stderr(Stdio::null())
        .spawn()
        .expect("the command runs");
    let mut told = Vec::new();
    let mut block = [0_u8; 4096];
    loop {
        // SAFETY: the block is as long as it says.
        let read = unsafe { libc::read(reading.as_raw_fd(), block.as_mut_ptr().cast(), block.len()) };
        // A terminal that nobody has open any more answers an error on Linux.
        let Some(read) = usize::try_from(read).ok().filter(|read| *read > 0) else { break };
        told.extend_from_slice(&block[..read]);
    }
    assert!(process.wait().expect("it ends").success());
    String::from_utf8_lossy(&told).into_owned()
}

#[test]
fn a_terminal_gets_wrapped_lines_in_colours_through_the_pager() {
    let home = home();
    let shown = home.path().join("shown");
    let pager = format!("cat > {}", shown.display());
    assert_eq!(on_a_terminal(home.path(), &pager, &["threads", "show", CENTS]), "");
    let text = std::fs::read_to_string(&shown).expect("what the pager got");
    assert!(text.contains("\u{1b}[") && text.contains("Cent rounding"), "{text:?}");
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, sequence)) = rest.split_once("\u{1b}[") {
        plain += before;
        rest = sequence.split_once('m').expect("a colour").1;
    }
    plain += rest;
    assert!(plain.lines().all(|line| line.chars().count() <= 60), "{plain}");
    assert!(
        plain.contains("  Totals are off by a cent when amounts have three decimals.\n  Find out"),
        "{plain}"
    );

    // Whoever leaves the pager early has seen enough; who wants none has none.
    on_a_terminal(home.path(), "true", &["threads", "show", CENTS]);
    assert!(on_a_terminal(home.path(), "cat", &["threads", "show", CENTS]).contains("Cent rounding"));
}
