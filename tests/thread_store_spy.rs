//! A store that is not local leaves no byte in a home: everything above it goes through its calls, and nothing past them.

#![allow(clippy::disallowed_methods, reason = "a test looks at files from outside")]
#![cfg(feature = "agent")]

mod faults;
mod processes;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use faults::Operation;
use processes::{Child, say, text};
use rowhouse::rollout::faults::{Outcome, Step, watch};
use rowhouse::rollout::{Item, NewRollout};
use rowhouse::stores::threads::{Change, ThreadPatch, ThreadSearch};
use rowhouse::thread_store::{
    DeleteOptions, ForkPoint, InMemoryThreadStore, LiveThread, LocalThreadStore, QueuedThread, ThreadStore,
    TurnQuery,
};
use rowhouse::{Home, Runtime, ThreadQuery};
use serde_json::json;

static STEPS: AtomicU64 = AtomicU64::new(0);

fn count(_: &Step<'_>) -> Outcome {
    STEPS.fetch_add(1, Ordering::Relaxed);
    Outcome::Goes
}

fn message(kind: &str, words: &str) -> Item {
    Item::new("event_msg", &json!({"type": kind, "turn_id": "a", "message": words})).expect("an item")
}

/// All that a program does with threads.
fn session(store: &Arc<dyn ThreadStore>) {
    let live = LiveThread::create(store.clone(), &NewRollout::default()).expect("begun");
    let id = live.id().to_owned();
    live.append(&[message("task_started", ""), message("user_message", "Fix it")]).expect("appended");
    live.append(&[message("agent_message", "Done"), message("task_complete", "")]).expect("appended");
    live.flush().expect("durable");
    live.close().expect("given back");
    let queued = QueuedThread::resume(store.clone(), &id).expect("resumed");
    queued.append(vec![message("user_message", "And this")]).expect("taken");
    queued.close(Duration::from_mins(2)).expect("given back");
    let name = ThreadPatch { name: Change::Set("Parser".to_owned()), ..ThreadPatch::default() };
    store.update_metadata(&id, &name).expect("named");
    store.archive(&id).expect("archived");
    store.unarchive(&id).expect("taken back");
    assert_eq!(store.list(&ThreadQuery::recent()).expect("a page").threads.len(), 1);
    assert_eq!(store.search(&ThreadSearch::text("parser")).expect("a page").threads.len(), 1);
    assert!(!store.list_turns(&id, &TurnQuery::new()).expect("turns").turns.is_empty());
    assert!(store.load_history(&id).expect("a history").count() > 4);
    let fork = store.fork(&id, &ForkPoint::End, &NewRollout::default()).expect("forked");
    store.shutdown(&fork).expect("given back");
    store.delete(&id, &DeleteOptions::default()).expect("deleted");
}

#[test]
fn child_entry() {
    let Some(role) = processes::role() else { return };
    watch(count);
    let opened = faults::observe(&[Operation::Open], "");
    let store: Arc<dyn ThreadStore> = if role[0] == "memory" {
        Arc::new(InMemoryThreadStore::new().expect("a store"))
    } else {
        let runtime = Runtime::open(Home::at(Path::new(&role[1]))).expect("opened");
        Arc::new(LocalThreadStore::new(&runtime).expect("a store"))
    };
    session(&store);
    say(&format!("took {} {}", STEPS.load(Ordering::Relaxed), opened.hits()));
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .flat_map(|path| {
            let inside = if path.is_dir() { below(&path) } else { Vec::new() };
            std::iter::once(path).chain(inside)
        })
        .collect()
}

/// A session over the store in memory, in a process whose folders (home, settings, temporary files) are all one empty
/// folder: it is empty afterwards, no step of a transcript was taken, and SQLite opened no file.
///
/// Control: the same session over the local store leaves files there, takes steps and opens files.
#[test]
fn a_store_in_memory_leaves_no_byte_in_the_home() {
    let run = |kind: &str| {
        let folder = processes::folder();
        let home = text(folder.path());
        let names = ["HOME", "ROWHOUSE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TMPDIR"];
        let child = Child::start_in(kind, &[home], &names.map(|name| (name, home)));
        let said = child.wait_for("took");
        child.finish();
        let (steps, opened) = said.split_once(' ').expect("two numbers");
        (below(folder.path()).len(), steps != "0", opened != "0")
    };
    assert_eq!(run("memory"), (0, false, false));
    let (files, took_steps, opened_files) = run("local");
    assert!(files > 5 && took_steps && opened_files, "{files} files");
}
