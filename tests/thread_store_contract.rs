//! What every implementation of `ThreadStore` keeps to: one suite, run on each.

mod common;
#[cfg(feature = "postgres")]
mod engines;

use std::sync::Arc;

use rowhouse::rollout::{Item, NewRollout};
use rowhouse::stores::Direction;
use rowhouse::stores::threads::{Change, GitPatch, ThreadPatch, ThreadSearch};
use rowhouse::thread_store::{
    DeleteOptions, Deleted, ForkPoint, InMemoryThreadStore, ItemsView, LiveThread, LocalThreadStore,
    ThreadStore, TurnQuery, TurnStatus,
};
use rowhouse::{ErrorKind, Home, Runtime, ThreadQuery};
use serde_json::json;

/// Runs a test on each implementation; `folder` is empty before, and what it keeps lies there.
fn on_each(test: impl Fn(&str, Arc<dyn ThreadStore>)) {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::open(Home::at(folder.path().join("home"))).expect("opened");
    test("local", Arc::new(LocalThreadStore::new(&runtime).expect("a store")));
    test("in memory", Arc::new(InMemoryThreadStore::new().expect("a store")));
    #[cfg(feature = "postgres")]
    on_a_server(&test);
}

/// The same in a home that says that its state is on a server: the program asks its runtime for the store.
#[cfg(feature = "postgres")]
fn on_a_server(test: &impl Fn(&str, Arc<dyn ThreadStore>)) {
    let home = tempfile::tempdir().expect("a folder");
    engines::reach::configure(home.path());
    let runtime = Runtime::open(Home::at(home.path())).expect("opened");
    test("on a server", runtime.thread_store().expect("a store"));
    assert!(!home.path().join("sessions").exists() && !home.path().join("state.sqlite").exists());
}

#[allow(clippy::needless_pass_by_value, reason = "callers build it in place")]
fn event(kind: &str, more: serde_json::Value) -> Item {
    let mut payload = json!({"type": kind});
    payload.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    Item::new("event_msg", &payload).expect("an item")
}

/// A turn of four items.
fn turn(id: &str, asked: &str, answered: &str) -> Vec<Item> {
    vec![
        event("task_started", json!({"turn_id": id})),
        event("user_message", json!({"message": asked})),
        event("agent_message", json!({"message": answered})),
        event("task_complete", json!({"turn_id": id, "last_agent_message": answered})),
    ]
}

fn new(cwd: &str) -> NewRollout {
    NewRollout {
        cwd: Some(cwd.to_owned()),
        source: Some(json!("cli")),
        model_provider: Some("openai".to_owned()),
        ..NewRollout::default()
    }
}

fn history(store: &dyn ThreadStore, thread: &str) -> Vec<String> {
    let items = store.load_history(thread).expect("a history");
    items.map(|item| item.expect("an item").text().to_owned()).collect()
}

fn kinds(store: &dyn ThreadStore, thread: &str) -> Vec<String> {
    let items = store.load_history(thread).expect("a history");
    items.map(|item| item.expect("an item").kind().to_owned()).collect()
}

#[test]
fn a_thread_is_there_with_its_first_item_and_not_before() {
    on_each(|name, store| {
        let thread = store.create(&new("/a")).expect("begun");
        assert_eq!(store.read(&thread).expect_err(name).kind(), ErrorKind::NotFound, "{name}");
        assert_eq!(
            store.load_history(&thread).err().map(|error| error.kind()),
            Some(ErrorKind::NotFound),
            "{name}"
        );
        assert!(store.list(&ThreadQuery::recent()).expect("a page").threads.is_empty(), "{name}");
        store.append_items(&thread, &[]).expect("nothing");
        assert!(store.list(&ThreadQuery::recent()).expect("a page").threads.is_empty(), "{name}");
        store.append_items(&thread, &turn("t1", "Fix it", "Done")).expect("appended");
        store.flush(&thread).expect("flushed");
        let row = store.read(&thread).expect("a row");
        assert_eq!((row.cwd.as_deref(), row.source.as_deref()), (Some("/a"), Some("cli")), "{name}");
        assert_eq!(store.list(&ThreadQuery::recent()).expect("a page").threads.len(), 1, "{name}");
        assert_eq!(kinds(&*store, &thread)[0], "session_meta", "{name}");
        assert_eq!(history(&*store, &thread).len(), 5, "{name}");
    });
}

#[test]
fn persist_makes_a_thread_without_items_and_discard_drops_what_was_never_written() {
    on_each(|name, store| {
        let kept = store.create(&new("/a")).expect("begun");
        store.persist(&kept).expect("there");
        store.persist(&kept).expect("again");
        assert_eq!(kinds(&*store, &kept), ["session_meta"], "{name}");
        let dropped = store.create(&new("/a")).expect("begun");
        store.discard(&dropped).expect("dropped");
        store.discard(&dropped).expect("again");
        store.discard(&kept).expect("given back");
        let listed = store.list(&ThreadQuery::recent()).expect("a page").threads;
        assert_eq!(listed.iter().map(|row| &row.id).collect::<Vec<_>>(), [&kept], "{name}");
        assert_eq!(store.resume(&dropped).expect_err(name).kind(), ErrorKind::NotFound, "{name}");
    });
}

#[test]
fn a_turn_that_an_earlier_writer_left_open_is_over() {
    on_each(|name, store| {
        let shown = |thread: &str| {
            let page = store.list_turns(thread, &TurnQuery::new()).expect("turns").turns;
            page.into_iter().map(|turn| turn.turn.status).collect::<Vec<_>>()
        };
        let thread = store.create(&new("/a")).expect("begun");
        store.append_items(&thread, &turn("t1", "Fix it", "Done")[..2]).expect("appended");
        assert_eq!(shown(&thread), [TurnStatus::InProgress], "{name}: its writer is at it");
        store.shutdown(&thread).expect("given back");
        store.resume(&thread).expect("another session");
        assert_eq!(
            shown(&thread),
            [TurnStatus::Interrupted],
            "{name}: another one has it, and does nothing yet"
        );
        store.append_items(&thread, &turn("t2", "Go on", "Done")[..1]).expect("appended");
        assert_eq!(shown(&thread), [TurnStatus::Interrupted, TurnStatus::InProgress], "{name}");
        // A fork of it is a session that has begun nothing.
        let forked = store.fork(&thread, &ForkPoint::End, &new("/a")).expect("forked");
        assert_eq!(shown(&forked), [TurnStatus::Interrupted, TurnStatus::Interrupted], "{name}");
        store.shutdown(&forked).expect("given back");

        // Where turns have no names, one that was answered is done, also without another one behind it.
        let unnamed = store.create(&new("/a")).expect("begun");
        let items = turn("", "Fix it", "Done");
        store.append_items(&unnamed, &items[1..3]).expect("appended");
        assert_eq!(shown(&unnamed), [TurnStatus::InProgress], "{name}");
        store.shutdown(&unnamed).expect("given back");
        assert_eq!(shown(&unnamed), [TurnStatus::Completed], "{name}: it was answered");
        store.resume(&unnamed).expect("again");
        store.append_items(&unnamed, &items[1..2]).expect("appended");
        store.shutdown(&unnamed).expect("given back");
        assert_eq!(shown(&unnamed), [TurnStatus::Completed, TurnStatus::Interrupted], "{name}: it was not");
    });
}

#[test]
fn only_who_began_or_resumed_a_thread_writes_it() {
    on_each(|name, store| {
        let thread = store.create(&new("/a")).expect("begun");
        let items = turn("t1", "Fix it", "Done");
        store.append_items(&thread, &items).expect("appended");
        assert_eq!(store.resume(&thread).expect_err(name).kind(), ErrorKind::Conflict, "{name}");
        store.shutdown(&thread).expect("given back");
        store.shutdown(&thread).expect("again");
        assert_eq!(
            store.append_items(&thread, &items).expect_err(name).kind(),
            ErrorKind::Conflict,
            "{name}"
        );
        assert_eq!(store.flush(&thread).expect_err(name).kind(), ErrorKind::Conflict, "{name}");
        store.resume(&thread).expect("resumed");
        store.append_items(&thread, &turn("t2", "And this", "Done")).expect("appended");
        store.shutdown(&thread).expect("given back");
        assert_eq!(history(&*store, &thread).len(), 9, "{name}");
        let again = NewRollout { id: Some(thread.clone()), ..new("/a") };
        assert_eq!(store.create(&again).expect_err(name).kind(), ErrorKind::Conflict, "{name}");
    });
}

#[test]
fn history_is_raw() {
    on_each(|name, store| {
        let thread = store.create(&new("/a")).expect("begun");
        let odd = r#"{ "type":"later", "payload" : {"n": 1.10, "b":"\u0041"} }"#;
        store.append_items(&thread, &[Item::line(odd).expect("a line")]).expect("appended");
        assert_eq!(history(&*store, &thread)[1], odd, "{name}");
        // Nothing is inferred: only who holds a live thread tells the list.
        store.append_items(&thread, &turn("t1", "Fix it", "Done")).expect("appended");
        assert_eq!(store.read(&thread).expect("a row").title, None, "{name}");
    });
}

#[test]
fn turns_are_listed_in_both_directions_with_as_much_as_is_asked_for() {
    on_each(|name, store| {
        let thread = store.create(&new("/a")).expect("begun");
        for id in 1..=5 {
            store
                .append_items(&thread, &turn(&format!("t{id}"), &format!("ask {id}"), "so"))
                .expect("appended");
        }
        store.append_items(&thread, &[event("task_started", json!({"turn_id": "t6"}))]).expect("appended");
        let all = |query: TurnQuery| {
            let page = store.list_turns(&thread, &query).expect("turns");
            let ids: Vec<String> = page.turns.iter().map(|turn| turn.turn.id.clone()).collect();
            (ids, page)
        };
        let (ids, page) = all(TurnQuery::new().limit(4));
        assert_eq!(ids, ["t1", "t2", "t3", "t4"], "{name}");
        let (ids, last) = all(TurnQuery::new().limit(4).cursor(page.next_cursor.expect("more")));
        assert_eq!(
            (ids.as_slice(), last.next_cursor),
            (&["t5".to_owned(), "t6".to_owned()][..], None),
            "{name}"
        );
        assert_eq!(last.turns[1].turn.status, TurnStatus::InProgress, "{name}");
        let back =
            TurnQuery::new().direction(Direction::Descending).cursor(last.backwards_cursor.expect("before"));
        assert_eq!(all(back).0, ["t4", "t3", "t2", "t1"], "{name}");
        let (_, summary) = all(TurnQuery::new().items(ItemsView::Summary).limit(1));
        assert_eq!(summary.turns[0].items.len(), 2, "{name}");
        assert!(summary.turns[0].items[0].get().contains("ask 1"), "{name}");
        let (_, full) = all(TurnQuery::new().items(ItemsView::Full).limit(1));
        let lines: Vec<&str> = full.turns[0].items.iter().map(|item| item.get()).collect();
        assert_eq!(lines, history(&*store, &thread)[1..5], "{name}");
        store
            .append_items(&thread, &[event("thread_rolled_back", json!({"num_turns": 2}))])
            .expect("appended");
        assert_eq!(all(TurnQuery::new()).0, ["t1", "t2", "t3", "t4"], "{name}");
        store.append_items(&thread, &[event("task_started", json!({"turn_id": "t7"}))]).expect("appended");
        store.shutdown(&thread).expect("given back");
        let (_, page) = all(TurnQuery::new());
        assert_eq!(page.turns[4].turn.status, TurnStatus::Interrupted, "{name}: nobody is at it");
    });
}

#[test]
fn a_user_names_pins_and_archives_threads() {
    on_each(|name, store| {
        let thread = store.create(&new("/a")).expect("begun");
        store.append_items(&thread, &turn("t1", "Fix it", "Done")).expect("appended");
        for closed in [false, true] {
            let title = format!("Ledger {closed}");
            let patch = ThreadPatch {
                name: Change::Set(title.clone()),
                is_pinned: Some(true),
                git: GitPatch { branch: Change::Set("main".to_owned()), ..GitPatch::default() },
                tokens_used: Some(7),
                ..ThreadPatch::default()
            };
            let row = store.update_metadata(&thread, &patch).expect("patched");
            assert_eq!(row, store.read(&thread).expect("a row"), "{name}");
            assert_eq!(
                (row.name.as_deref(), row.is_pinned, row.tokens_used),
                (Some(&*title), true, 7),
                "{name}"
            );
            assert_eq!(row.git.branch.as_deref(), Some("main"), "{name}");
            let archived = store.archive(&thread).expect("archived");
            assert!(archived.archived_at.is_some() && archived.name.as_deref() == Some(&*title), "{name}");
            assert_eq!(store.archive(&thread).expect("again"), archived, "{name}");
            assert!(store.list(&ThreadQuery::recent()).expect("a page").threads.is_empty(), "{name}");
            assert_eq!(
                store.list(&ThreadQuery::recent().archived(true)).expect("a page").threads.len(),
                1,
                "{name}"
            );
            assert_eq!(store.unarchive(&thread).expect("live").archived_at, None, "{name}");
            assert_eq!(
                store.search(&ThreadSearch::text("ledger")).expect("found").threads.len(),
                1,
                "{name}"
            );
            store.shutdown(&thread).expect("given back");
        }
        let place = ThreadPatch { archived_at: Change::Set(1), ..ThreadPatch::default() };
        assert_eq!(
            store.update_metadata(&thread, &place).expect_err(name).kind(),
            ErrorKind::Invalid,
            "{name}"
        );
        let before = store.read(&thread).expect("a row");
        assert_eq!(
            store.update_metadata(&thread, &ThreadPatch::default()).expect("a read"),
            before,
            "{name}"
        );
        assert_eq!(store.rebuild(&thread).expect("rebuilt").name, before.name, "{name}");
    });
}

#[test]
fn a_fork_has_the_past_of_its_source_up_to_a_turn() {
    on_each(|name, store| {
        let thread = store.create(&new("/a")).expect("begun");
        for id in ["t1", "t2", "t3"] {
            store.append_items(&thread, &turn(id, id, "so")).expect("appended");
        }
        let past = history(&*store, &thread);
        for (point, items) in [
            (ForkPoint::End, 12),
            (ForkPoint::AfterTurn("t2".to_owned()), 8),
            (ForkPoint::BeforeTurn("t2".to_owned()), 4),
            (ForkPoint::BeforeTurn("t1".to_owned()), 0),
        ] {
            let fork = store.fork(&thread, &point, &new("/b")).expect("forked");
            assert_eq!(history(&*store, &fork)[1..], past[1..=items], "{name} {point:?}");
            let row = store.read(&fork).expect("a row");
            assert_eq!(row.forked_from_id.as_deref(), Some(&*thread), "{name}");
            assert_eq!(row.cwd.as_deref(), Some("/b"), "{name}");
            store.append_items(&fork, &turn("t9", "on", "so")).expect("appended");
            store.shutdown(&fork).expect("given back");
        }
        let threads = store.list(&ThreadQuery::recent()).expect("a page").threads.len();
        let nowhere = ForkPoint::AfterTurn("t9".to_owned());
        assert_eq!(
            store.fork(&thread, &nowhere, &new("/b")).expect_err(name).kind(),
            ErrorKind::NotFound,
            "{name}"
        );
        assert_eq!(store.list(&ThreadQuery::recent()).expect("a page").threads.len(), threads, "{name}");
        assert_eq!(history(&*store, &thread), past, "{name}");
    });
}

#[test]
fn a_live_thread_keeps_no_progress_and_tells_the_list() {
    on_each(|name, store| {
        let live = LiveThread::create(store.clone(), &new("/a")).expect("begun");
        live.append(&[event("agent_message_delta", json!({"delta": "so"}))]).expect("not kept");
        assert_eq!(store.read(live.id()).expect_err(name).kind(), ErrorKind::NotFound, "{name}");
        live.append(&turn("t1", "Fix the parser", "Done")).expect("appended");
        let tokens = json!({"info": {"total_token_usage": {"total_tokens": 41}}});
        let context = Item::new("turn_context", &json!({"model": "gpt-5"})).expect("an item");
        live.append(&[event("token_count", tokens), context]).expect("appended");
        let row = store.read(live.id()).expect("a row");
        assert_eq!((row.title.as_deref(), row.tokens_used), (Some("Fix the parser"), 41), "{name}");
        assert_eq!(row.model.as_deref(), Some("gpt-5"), "{name}");
        live.append(&turn("t2", "Another thing", "Done")).expect("appended");
        let thread = live.id().to_owned();
        live.close().expect("given back");
        let row = store.read(&thread).expect("a row");
        assert_eq!(row.title.as_deref(), Some("Fix the parser"), "{name}: the first message counts");
        let live = LiveThread::resume(store.clone(), &thread).expect("resumed");
        assert_eq!(store.read(&thread).expect("a row"), row, "{name}: opening changes nothing");
        drop(live);
        store.resume(&thread).expect("a dropped one was given back");
    });
}

#[test]
fn a_deleted_thread_is_gone_and_its_id_is_free() {
    on_each(|name, store| {
        assert!(store.capabilities().delete, "{name}");
        let other = store.create(&new("/a")).expect("begun");
        store.append_items(&other, &turn("t1", "Stay", "So")).expect("appended");
        for closed in [false, true] {
            let thread = store.create(&new("/a")).expect("begun");
            store.append_items(&thread, &turn("t1", "Fix it", "Done")).expect("appended");
            store.flush(&thread).expect("flushed");
            store.list_turns(&thread, &TurnQuery::new()).expect("turns");
            if closed {
                store.archive(&thread).expect("archived");
                store.shutdown(&thread).expect("given back");
            }
            let dry = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
            let told = store.delete(&thread, &dry).expect("counted");
            assert_eq!((told.threads.as_slice(), told.dry_run), (&[thread.clone()][..], true), "{name}");
            assert_eq!(store.read(&thread).expect("still there").id, thread, "{name}");
            let deleted = store.delete(&thread, &DeleteOptions::default()).expect("deleted");
            assert_eq!(deleted, Deleted { dry_run: false, ..told }, "{name}");
            let errors = [
                store.read(&thread).err(),
                store.load_history(&thread).err(),
                store.list_turns(&thread, &TurnQuery::new()).err(),
                store.resume(&thread).err(),
                store.archive(&thread).err(),
                store.delete(&thread, &DeleteOptions::default()).err(),
            ];
            let kinds = errors.map(|error| error.expect("refused").kind());
            assert_eq!(kinds, [ErrorKind::NotFound; 6], "{name}");
            let appended = store.append_items(&thread, &turn("t2", "And this", "So")).expect_err(name);
            assert_eq!(appended.kind(), ErrorKind::Conflict, "{name}");
            for archived in [false, true] {
                let page = store.list(&ThreadQuery::recent().archived(archived)).expect("a page");
                assert!(page.threads.iter().all(|row| row.id == other), "{name}");
            }
            let again = NewRollout { id: Some(thread.clone()), ..new("/a") };
            assert_eq!(store.create(&again).expect("its id is free"), thread, "{name}");
            store.discard(&thread).expect("dropped");
        }
        assert_eq!(history(&*store, &other).len(), 5, "{name}");
        let never = store.create(&new("/a")).expect("begun");
        assert_eq!(
            store.delete(&never, &DeleteOptions::default()).expect_err(name).kind(),
            ErrorKind::NotFound,
            "{name}: nothing was kept of it"
        );
        store.append_items(&never, &turn("t1", "On", "So")).expect("it still has the right");
    });
}

#[test]
fn what_is_no_thread_is_told_so() {
    on_each(|name, store| {
        let none = "019b76da-5a3e-7c41-9d52-0c1f9a6be001";
        let patch = ThreadPatch { is_pinned: Some(true), ..ThreadPatch::default() };
        let kinds = |id: &str| {
            [
                store.resume(id).err(),
                store.read(id).err(),
                store.load_history(id).err(),
                store.list_turns(id, &TurnQuery::new()).err(),
                store.update_metadata(id, &patch).err(),
                store.archive(id).err(),
                store.fork(id, &ForkPoint::End, &new("/a")).err(),
                store.rebuild(id).err(),
                store.delete(id, &DeleteOptions::default()).err(),
            ]
            .map(|error| error.expect("refused").kind())
        };
        assert_eq!(kinds(none), [ErrorKind::NotFound; 9], "{name}");
        assert_eq!(kinds("no id"), [ErrorKind::Invalid; 9], "{name}");
        assert_eq!(store.append_items("no id", &[]).expect_err(name).kind(), ErrorKind::Invalid, "{name}");
    });
}

/// Everything once more behind PgBouncer in transaction mode.
#[cfg(feature = "postgres")]
#[test]
fn the_whole_contract_behind_a_pooler() {
    engines::reach::again_behind_a_pooler("the_whole_contract", 10);
}

/// Everything once more on a standby that took over from a killed primary.
#[cfg(feature = "postgres")]
#[test]
fn the_whole_contract_after_a_fail_over() {
    engines::reach::again_after_a_fail_over("the_whole_contract", 10);
}
