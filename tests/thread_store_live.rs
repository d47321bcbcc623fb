//! A live thread tells the list what is new, and no more than that.

#![cfg(feature = "agent")]

use std::sync::Arc;

use rowhouse::rollout::{Item, NewRollout};
use rowhouse::thread_store::{InMemoryThreadStore, LiveThread, LocalThreadStore, ThreadStore};
use rowhouse::{Home, Runtime};
use serde_json::{Value, json};

/// 2026-01-02T03:04:05Z
const STARTED: i64 = 1_767_323_045_000;

fn item(after_ms: i64, payload: &Value) -> Item {
    Item::at(STARTED + after_ms, "event_msg", payload).expect("an item")
}

fn asked() -> Item {
    item(0, &json!({"type": "user_message", "message": "Fix it"}))
}

fn answered(after_ms: i64) -> Item {
    item(after_ms, &json!({"type": "agent_message", "message": "so"}))
}

fn new() -> NewRollout {
    NewRollout { started_at: Some(STARTED), ..NewRollout::default() }
}

#[test]
fn opening_a_thread_touches_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::open(Home::at(folder.path())).expect("opened");
    let memory = InMemoryThreadStore::new().expect("a store");
    let stores: [Arc<dyn ThreadStore>; 2] =
        [Arc::new(LocalThreadStore::new(&runtime).expect("a store")), Arc::new(memory.clone())];
    for store in stores {
        let live = LiveThread::create(store.clone(), &new()).expect("begun");
        live.append(&[asked(), answered(100)]).expect("appended");
        let id = live.id().to_owned();
        live.close().expect("given back");
        let before = store.read(&id).expect("a row");
        let told = memory.calls().get("update_metadata").copied();
        let live = LiveThread::resume(store.clone(), &id).expect("resumed");
        assert_eq!(store.read(&id).expect("a row"), before);
        live.close().expect("given back");
        assert_eq!(store.read(&id).expect("a row"), before);
        assert_eq!(memory.calls().get("update_metadata").copied(), told);
    }
}

/// The times are those of the items, so no clock is waited for.
#[test]
fn items_that_say_nothing_else_are_told_every_five_seconds() {
    let store = InMemoryThreadStore::new().expect("a store");
    let told = || store.calls().get("update_metadata").copied().unwrap_or(0);
    let live = LiveThread::create(Arc::new(store.clone()), &new()).expect("begun");
    live.append(&[asked()]).expect("appended");
    let updated_at = || store.read(live.id()).expect("a row").updated_at;
    assert_eq!((told(), updated_at()), (1, STARTED));
    for after in (100..5_000).step_by(100) {
        live.append(&[answered(after)]).expect("appended");
    }
    assert_eq!((told(), updated_at()), (1, STARTED));
    live.append(&[answered(5_000)]).expect("appended");
    assert_eq!((told(), updated_at()), (2, STARTED + 5_000));
    live.append(&[answered(9_999)]).expect("appended");
    assert_eq!((told(), updated_at()), (2, STARTED + 5_000));
    // A fact does not wait.
    let context = Item::at(STARTED + 6_000, "turn_context", &json!({"model": "m"})).expect("an item");
    live.append(&[context]).expect("appended");
    assert_eq!((told(), updated_at()), (3, STARTED + 6_000));
    // A clock that was set back moves nothing back.
    live.append(&[answered(-60_000)]).expect("appended");
    assert_eq!((told(), updated_at()), (3, STARTED + 6_000));
}
