//! What the tests of transcripts share: a home, lines, and a hook that sees and stops each step on the disk.

#![allow(dead_code)] // each test file uses the part it needs
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rowhouse::Home;
use rowhouse::rollout::faults::{Outcome, Step, watch};
use rowhouse::rollout::{Item, NewRollout, Reader, Recorder, Rollouts, walk};
use serde_json::json;

/// 2026-01-02T03:04:05Z
pub(crate) const STARTED: i64 = 1_767_323_045_000;
pub(crate) const ID: &str = "019b7e00-0000-7000-8000-000000000001";
pub(crate) const NAME: &str = "rollout-2026-01-02T03-04-05-019b7e00-0000-7000-8000-000000000001.jsonl";
pub(crate) const AT_ONCE: Duration = Duration::ZERO;

pub(crate) struct Place {
    pub(crate) rollouts: Rollouts,
    pub(crate) folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("rowhouse-test-").tempdir().expect("a folder");
        Self { rollouts: open(folder.path()), folder }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().canonicalize().expect("the home").join(below)
    }

    pub(crate) fn live(&self) -> PathBuf {
        self.path("sessions/2026/01/02").join(NAME)
    }

    pub(crate) fn archived(&self) -> PathBuf {
        self.path("archived_sessions").join(NAME)
    }

    pub(crate) fn create(&self) -> Recorder {
        self.rollouts.create(&new()).expect("a recorder")
    }

    pub(crate) fn resume(&self) -> Recorder {
        self.rollouts.resume(ID, None, AT_ONCE).expect("resumed")
    }

    /// Every file below the home but the lock files.
    pub(crate) fn files(&self) -> Vec<String> {
        let root = self.path("");
        let mut files = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    files.push(entry.path().strip_prefix(&root).expect("below").display().to_string());
                }
            }
        }
        files.retain(|file| !file.starts_with("locks/"));
        files.sort();
        files
    }
}

pub(crate) fn open(home: &Path) -> Rollouts {
    Rollouts::open(&Home::at(home)).expect("the home opens")
}

pub(crate) fn new() -> NewRollout {
    NewRollout {
        id: Some(ID.to_owned()),
        started_at: Some(STARTED),
        cwd: Some("/home/ada/ledger".to_owned()),
        ..NewRollout::default()
    }
}

/// Line `n`, about so many bytes long.
pub(crate) fn item(n: usize, bytes: usize) -> Item {
    let payload = json!({"type": "agent_message", "n": n, "message": "m".repeat(bytes)});
    Item::at(STARTED + n as i64, "event_msg", &payload).expect("an item")
}

/// The numbers of the items in a transcript; fails on a bad line or a torn end.
pub(crate) fn numbers(path: &Path) -> Vec<usize> {
    let mut reader = Reader::open(path).expect("opens");
    let mut numbers = Vec::new();
    while let Some(line) = reader.next().expect("reads") {
        if line.kind == "event_msg" {
            let payload: serde_json::Value = serde_json::from_str(line.payload).expect("JSON");
            numbers.push(usize::try_from(payload["n"].as_u64().expect("a number")).expect("small"));
        }
    }
    assert_eq!((reader.bad_lines(), reader.torn_bytes()), (0, 0), "{}", path.display());
    numbers
}

/// The transcripts of a home that begin with their thread's id.
pub(crate) fn transcripts(home: &Path) -> Vec<PathBuf> {
    walk(home).expect("a walk").map(|file| file.expect("a file").path).collect()
}

/// The example transcripts of this repository, and those of the folder that `ROWHOUSE_TRANSCRIPTS` names.
pub(crate) fn examples() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/transcripts");
    let mut found = transcripts(&own);
    assert!(found.len() >= 5);
    if let Some(more) = std::env::var_os("ROWHOUSE_TRANSCRIPTS") {
        found.extend(transcripts(Path::new(&more)));
    }
    found
}

/// What becomes of a step, with how many came before it.
pub(crate) type Decide = fn(&Step<'_>, usize) -> Outcome;

thread_local! {
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static FAULT: RefCell<Option<Decide>> = const { RefCell::new(None) };
}

/// Asks `decide` before each step of `work` on this thread, with how many came before; tells their names.
pub(crate) fn steps<T>(decide: Decide, work: impl FnOnce() -> T) -> (T, Vec<String>) {
    watch(|step| {
        let decide = FAULT.with_borrow(|fault| *fault);
        let Some(decide) = decide else { return Outcome::Goes };
        let before = SEEN.with_borrow_mut(|seen| {
            let text = format!("{step:?}");
            seen.push(text.split(['(', ' ']).next().unwrap_or_default().to_owned());
            seen.len() - 1
        });
        decide(step, before)
    });
    FAULT.set(Some(decide));
    SEEN.take();
    let answer = work();
    FAULT.set(None);
    (answer, SEEN.take())
}
