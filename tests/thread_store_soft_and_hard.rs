//! An index that cannot take a fact fails no append: the transcript has it, that is told once, and the fact comes later.
//! What a user asked for fails aloud.

#![allow(clippy::disallowed_methods, reason = "a test is in the way of a database from outside")]
#![cfg(feature = "agent")]

mod faults;
#[path = "processes/said.rs"]
#[allow(dead_code, reason = "shared")]
mod said;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use faults::{Effect, Operation, inject};
use rowhouse::rollout::faults::{Outcome, Step, watch};
use rowhouse::rollout::{Item, NewRollout};
use rowhouse::rusqlite::{Connection, ffi};
use rowhouse::stores::backfill::Reread;
use rowhouse::stores::threads::{Change, GitPatch, ThreadPatch};
use rowhouse::thread_store::{LiveThread, LocalThreadStore, ThreadStore, TurnQuery};
use rowhouse::{ErrorKind, Home, Runtime, ThreadQuery};
use serde_json::json;

struct Place {
    store: LocalThreadStore,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        said::listen();
        faults::install();
        let folder = tempfile::tempdir().expect("a folder");
        Self { store: open(&folder), folder }
    }

    /// The state database, or what lies beside it.
    fn state(&self, ending: &str) -> PathBuf {
        self.folder.path().canonicalize().expect("the home").join(format!("state.sqlite{ending}"))
    }

    fn live(&self) -> LiveThread {
        LiveThread::create(Arc::new(self.store.clone()), &NewRollout::default()).expect("begun")
    }

    fn lines(&self, thread: &str) -> usize {
        self.store.load_history(thread).expect("a history").inspect(|item| assert!(item.is_ok())).count()
    }

    fn model(&self, thread: &str) -> Option<String> {
        self.store.runtime().threads().get(thread).expect("read").and_then(|row| row.model)
    }
}

fn open(folder: &tempfile::TempDir) -> LocalThreadStore {
    LocalThreadStore::new(&Runtime::open(Home::at(folder.path())).expect("opened")).expect("a store")
}

fn message(text: &str) -> Item {
    Item::new("event_msg", &json!({"type": "user_message", "message": text})).expect("an item")
}

fn with_model(model: &str) -> Item {
    Item::new("turn_context", &json!({"model": model})).expect("an item")
}

/// Warnings of the thread store about this thread.
fn told(thread: &str) -> usize {
    said::warnings_with(&[thread, "the list does not show"]).len()
}

/// Appends succeed and are durable, and that the list does not show them is told once.
fn goes_on(place: &Place, live: &LiveThread) {
    for model in ["one", "two", "three"] {
        live.append(&[with_model(model)]).expect("an append fails for no list");
    }
    live.flush().expect("durable");
    assert_eq!(told(live.id()), 1, "told once");
    assert_eq!(place.lines(live.id()), 5);
}

#[test]
fn a_full_index_fails_no_append_and_hears_of_it_when_there_is_room() {
    let place = Place::new();
    let live = place.live();
    live.append(&[message("Fix it")]).expect("appended");
    let full = inject(&[Operation::Write], place.state("-wal"), Effect::Fail(ffi::SQLITE_FULL));
    goes_on(&place, &live);
    assert_eq!(place.model(live.id()), None, "the list waits");
    drop(full);
    live.append(&[message("And this")]).expect("appended");
    live.flush().expect("durable");
    assert_eq!(place.model(live.id()).as_deref(), Some("three"), "all of it comes with the next flush");
    let row = place.store.read(live.id()).expect("a row");
    assert_eq!(row.title.as_deref(), Some("Fix it"));
    assert_eq!(told(live.id()), 1);
}

#[test]
fn a_thread_that_the_index_could_not_take_is_read_from_its_transcript_until_it_can() {
    let place = Place::new();
    let thread = place.store.create(&NewRollout::default()).expect("begun");
    let full = inject(&[Operation::Write], place.state("-wal"), Effect::Fail(ffi::SQLITE_FULL));
    for text in ["Fix it", "And this"] {
        place.store.append_items(&thread, &[message(text)]).expect("appended");
    }
    assert_eq!(told(&thread), 1);
    assert_eq!(place.store.runtime().threads().get(&thread).expect("read"), None);
    let row = place.store.read(&thread).expect("the transcript says it");
    assert_eq!(row.title.as_deref(), Some("Fix it"));
    let turns = place.store.list_turns(&thread, &TurnQuery::new()).expect("from the transcript").turns;
    assert_eq!(turns.len(), 2);
    drop(full);
    place.store.flush(&thread).expect("durable");
    let listed = place.store.list(&ThreadQuery::recent()).expect("a page").threads;
    assert_eq!(listed.iter().map(|row| &row.id).collect::<Vec<_>>(), [&thread]);
}

/// Where a test's transcripts cannot be created.
static NO_ROOM: Mutex<Option<PathBuf>> = Mutex::new(None);

/// A thread whose file could not be made with its first lines is shown as soon as it is there.
#[test]
fn a_thread_whose_file_comes_late_is_shown_with_it() {
    watch(|step| match step {
        Step::Create(path) if path.extension().is_some_and(|ending| ending == "jsonl") => {
            let no_room = NO_ROOM.lock().expect("nobody panics with it");
            let fails = no_room.as_ref().is_some_and(|home| path.starts_with(home));
            if fails { Outcome::Fails(libc::ENOSPC) } else { Outcome::Goes }
        }
        _ => Outcome::Goes,
    });
    let place = Place::new();
    let shown = |thread: &str| place.store.runtime().threads().get(thread).expect("read").is_some();
    *NO_ROOM.lock().expect("alone") = place.folder.path().canonicalize().ok();
    let thread = place.store.create(&NewRollout::default()).expect("begun");
    place.store.append_items(&thread, &[message("Fix it")]).expect("kept");
    assert!(!shown(&thread), "there is no file");
    *NO_ROOM.lock().expect("alone") = None;
    place.store.append_items(&thread, &[message("And this")]).expect("written");
    assert!(shown(&thread), "at once, and not when somebody closes it");
    assert_eq!(place.lines(&thread), 3);
}

/// Somebody who holds the write lock for good holds up an append for seconds at most, and loses nothing.
#[test]
fn a_busy_index_holds_up_no_append_for_long() {
    let place = Place::new();
    let live = place.live();
    live.append(&[message("Fix it")]).expect("appended");
    let other = Connection::open(place.state("")).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    let begun = Instant::now();
    goes_on(&place, &live);
    assert_eq!(place.model(live.id()), None);
    let took = begun.elapsed();
    println!("three appends beside a busy list: {took:?}");
    // Three waits of the engine's default would be 90 s.
    assert!(took < Duration::from_mins(1), "{took:?}");
    other.execute_batch("ROLLBACK").expect("free");
    live.append(&[message("And this")]).expect("appended");
    live.flush().expect("durable");
    assert_eq!(place.model(live.id()).as_deref(), Some("three"));
}

/// A database that has latched itself takes nothing more from this process; the next start brings what it missed.
#[test]
fn a_damaged_index_fails_no_append_and_catches_up_with_the_next_start() {
    for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_IOERR_WRITE] {
        let mut place = Place::new();
        let live = place.live();
        live.append(&[message("Fix it")]).expect("appended");
        let damaged = inject(&[Operation::Write], place.state("-wal"), Effect::Fail(code));
        goes_on(&place, &live);
        let thread = live.id().to_owned();
        live.close().expect("the transcript has all of it");
        drop(live);
        let turns = place.store.list_turns(&thread, &TurnQuery::new()).expect("from the transcript").turns;
        assert_eq!(turns.len(), 1, "{code}");
        drop(damaged);
        let Place { store, folder } = place;
        drop(store);
        place = Place { store: open(&folder), folder };
        let home = place.folder.path();
        let backfill = place.store.runtime().backfill();
        backfill.run(home, Reread::Changed, &mut |_| {}).expect("indexed");
        assert_eq!(place.model(&thread).as_deref(), Some("three"), "{code}");
    }
}

/// What a user asks for is answered with the trouble, so that he can ask again.
#[test]
fn a_users_own_words_fail_aloud() {
    let place = Place::new();
    let live = place.live();
    live.append(&[message("Fix it")]).expect("appended");
    let full = inject(&[Operation::Write], place.state("-wal"), Effect::Fail(ffi::SQLITE_FULL));
    let git = GitPatch { branch: Change::Set("mine".to_owned()), ..GitPatch::default() };
    let git_only = ThreadPatch { git, ..ThreadPatch::default() };
    let name = ThreadPatch { name: Change::Set("Parser".to_owned()), ..ThreadPatch::default() };
    for patch in [&git_only, &name] {
        let error = live.update_metadata(patch).expect_err("the list did not take it");
        assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
        assert_eq!(error.database(), Some("state"));
    }
    drop(full);
    live.update_metadata(&git_only).expect("there is room");
    let row = live.update_metadata(&name).expect("there is room");
    assert_eq!((row.git.branch.as_deref(), row.name.as_deref()), (Some("mine"), Some("Parser")));
}
