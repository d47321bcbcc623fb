//! An exported home that is torn, or damaged at any byte, is refused with its place, and nothing is changed.

#![allow(clippy::disallowed_methods, reason = "a test prepares and damages files from outside")]
#![cfg(feature = "agent")]

use std::fs;
use std::path::{Path, PathBuf};

use rowhouse::portable::ImportOptions;
use rowhouse::rollout::{Item, NewRollout};
use rowhouse::thread_store::{LocalThreadStore, ThreadStore};
use rowhouse::{Domain, Error, ErrorKind, Home, Runtime, ThreadQuery};
use serde_json::json;

fn runtime(home: &Path) -> Runtime {
    let home = Home::at(home);
    Runtime::builder(home).domain(Domain::state()).domain(Domain::goals()).open().expect("a runtime")
}

fn exported(folder: &Path, name: &str) -> PathBuf {
    let runtime = runtime(&folder.join("from"));
    let store = LocalThreadStore::new(&runtime).expect("a store");
    for n in 0..3 {
        let id = store.create(&NewRollout::default()).expect("created");
        let payload = json!({"type": "user_message", "message": format!("message {n}")});
        store.append_items(&id, &[Item::new("event_msg", &payload).expect("an item")]).expect("appended");
        store.shutdown(&id).expect("shut down");
    }
    let file = folder.join(name);
    let report = runtime.export_home(&file, &mut |_| {}).expect("exported");
    assert_eq!(report.counts.transcripts, 3);
    file
}

struct Target {
    runtime: Runtime,
    home: tempfile::TempDir,
}

impl Target {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a home");
        Self { runtime: runtime(home.path()), home }
    }

    fn import(&self, file: &Path) -> rowhouse::Result<u64> {
        self.runtime.import_home(file, &ImportOptions::default(), &mut |_| {}).map(|report| report.new)
    }

    /// Refuses this file, and stays empty.
    fn refuses(&self, bytes: &[u8], what: &str) -> Error {
        let file = self.home.path().join("damaged.rowhouse");
        fs::write(&file, bytes).expect("written");
        let Err(error) = self.import(&file) else { panic!("{what} came in") };
        let threads = self.runtime.threads().list(&ThreadQuery::recent()).expect("a list").threads;
        assert!(threads.is_empty(), "{what}");
        assert!(!self.home.path().join("sessions").exists(), "{what}");
        assert_eq!(error.path(), Some(file.as_path()), "{what}: {error}");
        error
    }
}

#[test]
fn a_torn_file_is_refused_wherever_it_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = fs::read(exported(folder.path(), "home.rowhouse")).expect("it reads");
    let target = Target::new();
    let header = whole.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
    for length in (0..whole.len()).step_by(whole.len() / 150).chain(whole.len() - 3..whole.len()) {
        let error = target.refuses(&whole[..length], &format!("{length} of {} bytes", whole.len()));
        let expected = if length < header { ErrorKind::Invalid } else { ErrorKind::Corrupt };
        assert_eq!(error.kind(), expected, "{length}: {error}");
        if length >= header {
            assert!(error.message().contains(&format!("and {length}: it ends there")), "{length}: {error}");
        }
    }
    let longer = [&whole[..], b"x"].concat();
    assert_eq!(target.refuses(&longer, "one byte more").kind(), ErrorKind::Corrupt);
    // The control: all of it comes in.
    let good = folder.path().join("home.rowhouse");
    assert_eq!(target.import(&good).expect("imported"), 3);
}

#[test]
fn a_changed_byte_is_found_and_its_place_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = fs::read(exported(folder.path(), "home.rowhouse")).expect("it reads");
    let target = Target::new();
    let header = whole.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
    for at in (0..whole.len()).step_by(whole.len() / 200) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let error = target.refuses(&bytes, &format!("another byte at {at}"));
        if at >= header {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{at}: {error}");
            let numbers: Vec<usize> =
                error.message().split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
            assert!(numbers[0] <= at && at <= numbers[1], "{at}: {error}");
        }
        assert!(!error.to_string().contains("message 0"), "no text of a thread in {error}");
    }
    // A section that was cut out whole, with its check.
    let text = String::from_utf8(whole.clone()).expect("UTF-8");
    let begin = text.find("{\"thread\"").expect("a section");
    let end = begin + text[begin..].find("\n{\"check\"").expect("a check") + 1;
    let end = end + text[end..].find('\n').expect("a line") + 1;
    let second = end + text[end..].find("\n{\"check\"").expect("a check") + 1;
    let second = second + text[second..].find('\n').expect("a line") + 1;
    let cut = [&whole[..end], &whole[second..]].concat();
    let error = target.refuses(&cut, "a section less");
    assert!(error.message().contains("sections are missing"), "{error}");
}

#[test]
fn what_is_no_export_and_what_a_later_version_made_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = fs::read_to_string(exported(folder.path(), "home.rowhouse")).expect("it reads");
    let target = Target::new();
    for other in
        ["", "\n", "{}\n", "{\"format\":\"another\",\"version\":1,\"program\":\"\",\"created_at\":\"\"}\n"]
    {
        assert_eq!(target.refuses(other.as_bytes(), other).kind(), ErrorKind::Invalid);
    }
    let later = whole.replacen("\"version\":1", "\"version\":2", 1);
    let error = target.refuses(later.as_bytes(), "a later version");
    assert!(
        error.kind() == ErrorKind::Unsupported && error.to_string().contains("newer rowhouse"),
        "{error}"
    );
    let refused = target.import(folder.path()).expect_err("a folder");
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    let refused = target.import(&folder.path().join("none")).expect_err("nothing");
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
}

/// A name that leads out of the home, or another thread's transcript, is not believed, also in a file whose checks are good.
#[test]
fn a_forged_place_is_refused() {
    use sha2::{Digest, Sha256};
    let hex = |text: &str| {
        let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
        let hex = Sha256::digest(text).iter().flat_map(digits).collect();
        String::from_utf8(hex).expect("digits")
    };
    let id = "019b7e00-0000-7000-8000-000000000001";
    let first = |id: &str| {
        format!(
            "{{\"timestamp\":\"2026-01-02T03:04:05.000Z\",\"type\":\"session_meta\",\"payload\":{{\"id\":\"{id}\"}}}}\n"
        )
    };
    let target = Target::new();
    let other = "019b7e00-0000-7000-8000-000000000002";
    let good = format!("rollout-2026-01-02T03-04-05-{id}.jsonl");
    for (name, content, fits) in [
        (format!("../../{good}"), first(id), false),
        (format!("/tmp/{good}"), first(id), false),
        (format!("a/{good}"), first(id), false),
        ("..".to_owned(), first(id), false),
        ("state.sqlite".to_owned(), first(id), false),
        (good.clone(), first(other), false),
        (good, first(id), true),
    ] {
        let header = json!({"format": "rowhouse-home", "version": 1, "program": "x", "created_at": ""});
        let transcript = json!({"name": name, "archived": false, "bytes": content.len()});
        let section = json!({"thread": {"id": id, "transcript": transcript}});
        let checked = |text: String| format!("{text}{}\n", json!({"check": hex(&text)}));
        let text = checked(format!("{header}\n{section}\n{content}\n"))
            + &checked("{\"end\":{\"sections\":1}}\n".to_owned());
        let file = target.home.path().join("forged.rowhouse");
        fs::write(&file, text).expect("written");
        let report = target
            .runtime
            .import_home(&file, &ImportOptions::default(), &mut |_| {})
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((report.new, report.left), if fits { (1, 0) } else { (0, 1) }, "{name}: {report:?}");
    }
}
