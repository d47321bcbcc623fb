//! Who types is not held up by a disk: a thread of its own writes what a session says.

#![allow(clippy::disallowed_methods, reason = "a test is a slow disk")]
#![cfg(feature = "agent")]

mod faults;
mod processes;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use faults::{Effect, Operation, inject};
use processes::{holds, once_in_three};
use rowhouse::rollout::faults::{Outcome, Step, watch};
use rowhouse::rollout::{Item, NewRollout};
use rowhouse::thread_store::{LiveThread, LocalThreadStore, QueuedThread, ThreadStore};
use rowhouse::{ErrorKind, Home, Runtime};
use serde_json::{Value, json};

/// What each access to a file takes.
const ACCESS: Duration = Duration::from_millis(50);
/// How fast a screen has to answer a key.
const ECHO: Duration = Duration::from_millis(16);
/// Far longer than anything takes here.
const LONG: Duration = Duration::from_mins(5);

static STEPS: AtomicU64 = AtomicU64::new(0);
/// The tests of this file share one disk.
static DISK: Mutex<()> = Mutex::new(());
static IS_FULL: AtomicBool = AtomicBool::new(false);
static IS_SLOW: AtomicBool = AtomicBool::new(false);

/// Every step of a transcript.
fn disk(step: &Step<'_>) -> Outcome {
    STEPS.fetch_add(1, Ordering::Relaxed);
    if IS_SLOW.load(Ordering::Relaxed) {
        std::thread::sleep(ACCESS);
    }
    let is_full = IS_FULL.load(Ordering::Relaxed) && matches!(step, Step::Write { .. });
    if is_full { Outcome::Fails(libc::ENOSPC) } else { Outcome::Goes }
}

fn key(number: usize) -> Item {
    Item::new("event_msg", &json!({"type": "user_message", "message": format!("key {number}")}))
        .expect("an item")
}

/// How long each of these keys was held up; the first one begins the thread.
fn typed(keys: usize, mut on_key: impl FnMut(usize)) -> Vec<Duration> {
    let mut took: Vec<_> = (0..keys)
        .map(|number| {
            let begun = Instant::now();
            on_key(number);
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    took
}

fn messages(store: &dyn ThreadStore, thread: &str) -> Vec<String> {
    let history = store.load_history(thread).expect("a history");
    let lines =
        history.map(|item| serde_json::from_str::<Value>(item.expect("an item").text()).expect("JSON"));
    lines.filter_map(|line| Some(line["payload"]["message"].as_str()?.to_owned())).collect()
}

/// Beginning a thread, and each key that is said in it, waits for no file: p99 is below a frame of a screen. All of it is
/// there, once and in order, when the thread was given back.
///
/// Scale: 50 ms for every access to the transcript and to the state database, 2,000 keys (`ROWHOUSE_TEST_KEYS` for more).
/// Control: the same keys appended in the foreground are each held up for an access at least.
#[test]
fn f2_no_key_waits_for_a_slow_disk() {
    let keys = std::env::var("ROWHOUSE_TEST_KEYS").map_or(2_000, |keys| keys.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::open(Home::at(folder.path())).expect("opened");
    let store: Arc<dyn ThreadStore> = Arc::new(LocalThreadStore::new(&runtime).expect("a store"));
    let _disk = DISK.lock().unwrap_or_else(PoisonError::into_inner);
    watch(disk);
    IS_SLOW.store(true, Ordering::Relaxed);
    let all = [Operation::Open, Operation::Read, Operation::Write, Operation::Sync];
    let home = folder.path().canonicalize().expect("the home");
    let _slow = ["", "-wal"]
        .map(|file| inject(&all, home.join(format!("state.sqlite{file}")), Effect::Delay(ACCESS)));

    once_in_three(|| {
        let before = STEPS.load(Ordering::Relaxed);
        let mut live = None;
        let took = typed(keys, |number| {
            let live = live.get_or_insert_with(|| {
                QueuedThread::create(store.clone(), NewRollout::default()).expect("begun")
            });
            live.append(vec![key(number)]).expect("taken");
        });
        let live = live.expect("keys were typed");
        let id = live.id().to_owned();
        live.close(LONG).expect("all of it was written");
        let said = messages(&*store, &id);
        assert_eq!(said, (0..keys).map(|number| format!("key {number}")).collect::<Vec<_>>());
        assert!(STEPS.load(Ordering::Relaxed) > before, "the disk was slow");
        let (p99, worst) = (took[took.len() * 99 / 100], took[took.len() - 1]);
        println!("{keys} keys: p99 {p99:?}, worst {worst:?}");
        holds(p99 < ECHO, || format!("p99 {p99:?}"))
    });

    let live = LiveThread::create(store, &NewRollout::default()).expect("begun");
    let took = typed(10, |number| live.append(&[key(number)]).expect("appended"));
    println!("control: the fastest of 10 keys took {:?}", took[0]);
    assert!(took[0] >= ACCESS, "{took:?}");
    IS_SLOW.store(false, Ordering::Relaxed);
}

/// A full disk loses nothing that was taken: who asks whether it is durable is told, the lines wait, and are written when
/// there is room. A line that may not be in a history is refused by itself, and takes no other one with it.
#[test]
fn a_full_disk_loses_nothing_that_was_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::open(Home::at(folder.path())).expect("opened");
    let store: Arc<dyn ThreadStore> = Arc::new(LocalThreadStore::new(&runtime).expect("a store"));
    let _disk = DISK.lock().unwrap_or_else(PoisonError::into_inner);
    watch(disk);
    let live = QueuedThread::create(store.clone(), NewRollout::default()).expect("begun");
    let id = live.id().to_owned();
    live.append(vec![key(0)]).expect("taken");
    live.flush().expect("asked for").wait(LONG).expect("durable");
    IS_FULL.store(true, Ordering::Relaxed);
    live.append(vec![key(1)]).expect("taken");
    let error = live.flush().expect("asked for").wait(LONG).expect_err("there is no room");
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    live.append(vec![key(2)]).expect("taken all the same");
    let said = Item::new("thread_metadata", &json!({"name": "x"})).expect("an item");
    let error = live.append(vec![key(3), said]).expect_err("it is no part of a history");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    IS_FULL.store(false, Ordering::Relaxed);
    live.flush().expect("asked for").wait(LONG).expect("there is room");
    live.close(LONG).expect("given back");
    assert_eq!(messages(&*store, &id), ["key 0", "key 1", "key 2"]);
}
