//! What a user said about a thread is in its transcript, and comes back from there.

#![allow(clippy::disallowed_methods, reason = "a test removes files from outside")]
#![cfg(feature = "agent")]

use std::fs;
use std::path::Path;

use rowhouse::rollout::{Item, NewRollout};
use rowhouse::stores::ThreadRow;
use rowhouse::stores::backfill::Reread;
use rowhouse::stores::goals::{Accounting, Goal, GoalPatch, GoalStatus, NewGoal};
use rowhouse::stores::threads::{Change, GitPatch, MemoryMode, ThreadPatch};
use rowhouse::thread_store::{LiveThread, LocalThreadStore, ThreadStore};
use rowhouse::{ErrorKind, Home, Runtime, ThreadQuery};
use serde_json::json;

fn open(home: &Path) -> LocalThreadStore {
    LocalThreadStore::new(&Runtime::open(Home::at(home)).expect("opened")).expect("a store")
}

/// A thread with one message, given back.
fn thread(store: &LocalThreadStore, title: &str) -> String {
    let live = LiveThread::create(std::sync::Arc::new(store.clone()), &NewRollout::default()).expect("begun");
    let message = Item::new("event_msg", &json!({"type": "user_message", "message": title}));
    live.append(&[message.expect("an item")]).expect("appended");
    let id = live.id().to_owned();
    live.close().expect("given back");
    id
}

/// Removes these databases, all of their files.
fn lose(home: &Path, databases: &[&str]) {
    for entry in fs::read_dir(home).expect("the home").flatten() {
        let name = entry.file_name().into_string().expect("a plain name");
        if databases.iter().any(|database| name.starts_with(&format!("{database}.sqlite"))) {
            fs::remove_file(entry.path()).expect("removed");
        }
    }
}

fn index(store: &LocalThreadStore, home: &Path, reread: Reread) {
    let report = store.runtime().backfill().run(home, reread, &mut |_| {}).expect("indexed");
    assert!(report.complete && report.problems.is_empty(), "{report:?}");
}

fn rows(store: &LocalThreadStore) -> Vec<ThreadRow> {
    let mut rows = store.list(&ThreadQuery::recent().limit(500)).expect("live ones").threads;
    rows.extend(store.list(&ThreadQuery::recent().archived(true).limit(500)).expect("archived ones").threads);
    rows.sort_by(|one, other| one.id.cmp(&other.id));
    rows
}

/// What a user can see and set of a row.
fn said(row: &ThreadRow) -> (String, Option<String>, [bool; 2], Option<String>, Option<String>, MemoryMode) {
    let (git, flags) = (row.git.clone(), [row.is_pinned, row.archived_at.is_some()]);
    (row.id.clone(), row.name.clone(), flags, git.branch, git.sha, row.memory_mode)
}

fn goals(store: &LocalThreadStore, threads: &[String]) -> Vec<Option<Goal>> {
    threads.iter().map(|thread| store.runtime().goals().get(thread).expect("read")).collect()
}

/// Names, pins, archive flags, git facts, goals, and that no memory may be drawn come back when the databases are gone and the home is indexed anew.
///
/// Scale: 6 threads, each with other words; state.sqlite and goals.sqlite removed.
/// Control: a goal that was only set in its database, and a name that was only written into the row, are lost.
#[test]
fn c4_names_pins_archive_git_and_goals_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    let store = open(home);
    let threads: Vec<String> = (0..6).map(|n| thread(&store, &format!("Task {n}"))).collect();
    let patch =
        |at: usize, patch: ThreadPatch| drop(store.update_metadata(&threads[at], &patch).expect("set"));
    patch(0, ThreadPatch { name: Change::Set("Parser \"1\"".to_owned()), ..ThreadPatch::default() });
    patch(1, ThreadPatch { is_pinned: Some(true), ..ThreadPatch::default() });
    let git = GitPatch {
        branch: Change::Set("mine".to_owned()),
        sha: Change::Set("abc123".to_owned()),
        ..GitPatch::default()
    };
    patch(2, ThreadPatch { git, name: Change::Set("Both".to_owned()), ..ThreadPatch::default() });
    store.archive(&threads[3]).expect("archived");
    patch(3, ThreadPatch { name: Change::Set("Old".to_owned()), ..ThreadPatch::default() });
    for (at, mode) in [(1, MemoryMode::Polluted), (2, MemoryMode::Disabled), (4, MemoryMode::Polluted)] {
        patch(at, ThreadPatch { memory_mode: Some(mode), ..ThreadPatch::default() });
    }
    patch(4, ThreadPatch { memory_mode: Some(MemoryMode::Enabled), ..ThreadPatch::default() });
    let goal_store = store.runtime().goals();
    goal_store.replace(&threads[4], &NewGoal::new("Ship it").token_budget(1_000)).expect("set");
    goal_store.account(&threads[4], 60, 300, Accounting::ActiveOnly, None).expect("used");
    let recorded = store.record_goal(&threads[4]).expect("recorded").expect("a goal");
    assert_eq!((recorded.tokens_used, recorded.time_used_seconds), (300, 60));

    // The controls: written where an index alone has them.
    goal_store.replace(&threads[5], &NewGoal::new("Only in its database")).expect("set");
    let only_here = ThreadPatch { name: Change::Set("Only in the row".to_owned()), ..ThreadPatch::default() };
    store.runtime().threads().patch(&threads[5], &only_here).expect("set");
    assert!(store.runtime().memories().pollute(&threads[5]).expect("set"));

    let before: Vec<_> = rows(&store).iter().map(said).collect();
    assert_eq!(before[5].1.as_deref(), Some("Only in the row"));
    drop((goal_store, store));
    lose(home, &["state", "goals"]);

    let store = open(home);
    // Whoever lists first finds the newest; the rest comes with the index.
    store.list(&ThreadQuery::recent()).expect("a page");
    index(&store, home, Reread::Changed);
    let after: Vec<_> = rows(&store).iter().map(said).collect();
    assert_eq!(after[..5], before[..5]);
    assert_eq!((&after[5].1, after[5].5), (&None, MemoryMode::Enabled), "the control");
    let came = goals(&store, &threads);
    assert_eq!(came[4], Some(recorded));
    assert_eq!(came.iter().flatten().count(), 1, "the control");
}

/// What is told later than the transcript was written stays, and what was taken back stays away.
#[test]
fn a_goal_that_was_set_later_is_not_overwritten_and_a_removed_one_stays_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let goals_of = store.runtime().goals();
    let (later, removed, missing) = (thread(&store, "a"), thread(&store, "b"), thread(&store, "c"));
    for thread in [&later, &removed, &missing] {
        goals_of.replace(thread, &NewGoal::new("First")).expect("set");
        store.record_goal(thread).expect("recorded").expect("a goal");
    }
    // The clock may stand still between the two.
    let first = goals_of.get(&later).expect("read").expect("a goal").updated_at;
    while std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() <= u128::from(first.unsigned_abs())
    {
        std::hint::spin_loop();
    }
    let second = GoalPatch::default().status(GoalStatus::Paused).objective("Second");
    goals_of.update(&later, &second).expect("changed");
    goals_of.delete(&removed).expect("removed").expect("it was there");
    assert_eq!(store.record_goal(&removed).expect("recorded"), None);
    let lost = goals_of.delete(&missing).expect("lost").expect("it was there");

    index(&store, folder.path(), Reread::Everything);
    let second = goals_of.get(&later).expect("read").expect("a goal");
    assert_eq!((second.objective.as_str(), second.status), ("Second", GoalStatus::Paused));
    assert_eq!(goals_of.get(&removed).expect("read"), None);
    assert_eq!(goals_of.get(&missing).expect("read"), Some(lost.clone()));

    goals_of.delete(&missing).expect("lost").expect("it was there");
    store.rebuild(&missing).expect("rebuilt");
    assert_eq!(goals_of.get(&missing).expect("read"), Some(lost), "a rebuild of one thread as well");
}

#[test]
fn a_goal_that_is_too_long_for_a_transcript_is_refused_and_leaves_what_was_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    let store = open(home);
    let id = thread(&store, "a");
    let name = ThreadPatch { name: Change::Set("Kept".to_owned()), ..ThreadPatch::default() };
    store.update_metadata(&id, &name).expect("named");
    store.runtime().goals().replace(&id, &NewGoal::new("x".repeat(40 << 10))).expect("set");
    let refused = store.record_goal(&id).expect_err("too long");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.advice().is_some());
    let elsewhere = store.record_goal("019b7e00-0000-7000-8000-000000000001").expect_err("no such thread");
    assert_eq!(elsewhere.kind(), ErrorKind::NotFound);
    drop(store);
    lose(home, &["state", "goals"]);
    let store = open(home);
    index(&store, home, Reread::Changed);
    assert_eq!(store.read(&id).expect("a row").name.as_deref(), Some("Kept"));
    assert_eq!(goals(&store, &[id]), [None]);
}

/// A transcript that somebody wrote by hand makes no goal that the store of goals would refuse, and stops nothing.
#[test]
fn what_is_no_goal_is_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    let store = open(home);
    let good = thread(&store, "good");
    store.runtime().goals().replace(&good, &NewGoal::new("Ship it")).expect("set");
    let goal = store.record_goal(&good).expect("recorded").expect("a goal");
    let wrong = [
        json!({"objective": ""}),
        json!({"objective": "a\u{0}b"}),
        json!({"token_budget": 0}),
        json!({"tokens_used": -1}),
        json!({"goal_id": "mine"}),
    ];
    let mut ids = Vec::new();
    for change in &wrong {
        let id = thread(&store, "bad");
        let mut told = serde_json::to_value(&goal).expect("JSON");
        told.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        let line = json!({"timestamp": "2026-01-01T00:00:00Z", "type": "thread_metadata", "payload": {"goal": told}});
        let path = store.read(&id).expect("a row").rollout_path.expect("a path");
        let text = fs::read_to_string(&path).expect("a transcript");
        fs::write(&path, format!("{text}{line}\n")).expect("written");
        ids.push(id);
    }
    store.runtime().goals().delete(&good).expect("lost");
    index(&store, home, Reread::Everything);
    assert_eq!(goals(&store, &ids), vec![None; wrong.len()]);
    assert_eq!(goals(&store, &[good]), [Some(goal)]);
}
