//! Who types is not held up by a disk: a thread of its own writes what a session says.

#![allow(clippy::disallowed_methods, reason = "a test is a slow disk")]
#![cfg(feature = "agent")]

mod faults;
mod processes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use faults::{Effect, Operation, inject};
use processes::{holds, once_in_three};
use rowhouse::rollout::faults::{Outcome, Step, watch};
use rowhouse::rollout::{Item, NewRollout};
use rowhouse::thread_store::{LiveThread, LocalThreadStore, QueuedThread, ThreadStore};
use rowhouse::{Home, Runtime};
use serde_json::{Value, json};

/// What each access to a file takes.
const ACCESS: Duration = Duration::from_millis(50);
/// How fast a screen has to answer a key.
const ECHO: Duration = Duration::from_millis(16);
/// Far longer than anything takes here.
const LONG: Duration = Duration::from_mins(5);

static STEPS: AtomicU64 = AtomicU64::new(0);

/// Every step of a transcript.
fn slow(_: &Step<'_>) -> Outcome {
    STEPS.fetch_add(1, Ordering::Relaxed);
    std::thread::sleep(ACCESS);
    Outcome::Goes
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
    watch(slow);
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
}
