//! `rowhouse goals` sets, shows, changes and removes goals; `rowhouse memories status` tells how far memories are. What a
//! program sees is one document each, what went wrong has a kind and a next step.

mod common;

use rowhouse::rollout::{Item, NewRollout};
use rowhouse::stores::ThreadFacts;
use rowhouse::stores::goals::{Accounting, NewGoal};
use rowhouse::stores::memories::NewMemory;
use rowhouse::thread_store::{LocalThreadStore, ThreadStore};
use rowhouse::{Domain, Home, Runtime};
use serde_json::{Value, json};

use common::{document, rowhouse};

const THREAD: &str = "019cadf1-7a5e-7b04-8f21-000000000001";
const OTHER: &str = "019cadf1-7a5e-7b04-8f21-000000000002";

/// The document of a command that worked.
fn done(home: &std::path::Path, arguments: &[&str]) -> Value {
    let (code, told) = document(home, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {told}");
    told
}

/// The kind of a failure, which has a next step.
fn refused(home: &std::path::Path, arguments: &[&str]) -> String {
    let (code, told) = document(home, arguments);
    assert_eq!(code, Some(1), "{arguments:?}: {told}");
    assert!(told["error"]["advice"].is_string(), "{arguments:?}: {told}");
    told["error"]["kind"].as_str().expect("a kind").to_owned()
}

#[test]
fn a_goal_is_set_once_replaced_on_demand_and_changed_where_it_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    let set = ["goals", "set", THREAD, "--objective", "Ship it", "--budget", "1000"];
    let first = done(home, &set);
    assert_eq!((&first["outcome"], &first["goal"]["status"]), (&"set".into(), &"active".into()), "{first}");
    assert_eq!(first["goal"]["token_budget"], 1000, "{first}");
    assert!(first["goal"]["created_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{first}");
    assert_eq!(refused(home, &set), "conflict");
    let second = done(home, &[&set[..], &["--replace"]].concat());
    assert_ne!(second["goal"]["goal_id"], first["goal"]["goal_id"]);

    let old = first["goal"]["goal_id"].as_str().expect("an id");
    let update = ["goals", "update", THREAD, "--objective", "Ship it today"];
    assert_eq!(refused(home, &[&update[..], &["--expect", old]].concat()), "conflict");
    let now = second["goal"]["goal_id"].as_str().expect("an id");
    let changed = done(home, &[&update[..], &["--budget", "none", "--expect", now]].concat());
    assert_eq!(changed["outcome"], "changed");
    assert_eq!(
        (&changed["goal"]["objective"], &changed["goal"]["token_budget"]),
        (&"Ship it today".into(), &Value::Null)
    );

    assert_eq!(done(home, &["goals", "pause", THREAD])["goal"]["status"], "paused");
    assert_eq!(done(home, &["goals", "pause", THREAD])["outcome"], "unchanged");
    assert_eq!(done(home, &["goals", "resume", THREAD])["goal"]["status"], "active");
    assert_eq!(done(home, &["goals", "show", THREAD])["goal"]["objective"], "Ship it today");
    for arguments in
        [&["goals", "show", OTHER][..], &["goals", "pause", OTHER], &["goals", "rm", OTHER, "--yes"]]
    {
        assert_eq!(refused(home, arguments), "not_found", "{arguments:?}");
    }
}

#[test]
fn a_thread_is_named_by_its_last_letters_as_a_list_shows_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    {
        let runtime = Runtime::builder(Home::at(home)).domain(Domain::state()).open().expect("a runtime");
        let thread = ThreadFacts { id: THREAD.to_owned(), ..ThreadFacts::default() };
        runtime.threads().upsert(&[thread]).expect("a thread");
    }
    assert_eq!(
        done(home, &["goals", "set", "00000001", "--objective", "Ship it"])["goal"]["thread_id"],
        THREAD
    );
    assert_eq!(done(home, &["goals", "pause", "8f21-000000000001"])["goal"]["status"], "paused");
    assert_eq!(refused(home, &["goals", "show", "0badcafe"]), "not_found");
}

/// What became of a goal is in the thread's transcript: lost databases bring it back, and a removed one stays away.
#[test]
fn a_goal_outlives_the_databases_and_a_removed_one_stays_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    let thread = {
        let runtime = Runtime::open(Home::at(home)).expect("a runtime");
        let store = LocalThreadStore::new(&runtime).expect("a store");
        let thread = store.create(&NewRollout::default()).expect("begun");
        let asked = Item::new("event_msg", &json!({"type": "user_message", "message": "Fix it"}));
        store.append_items(&thread, &[asked.expect("an item")]).expect("appended");
        store.shutdown(&thread).expect("given back");
        thread
    };
    let lose_the_databases = || {
        for entry in std::fs::read_dir(home).expect("the home") {
            let path = entry.expect("an entry").path();
            if path.is_file() && path.to_string_lossy().contains(".sqlite") {
                std::fs::remove_file(path).expect("removed");
            }
        }
        let (code, _, stderr) = rowhouse(home, &["backfill"]);
        assert_eq!(code, Some(0), "{stderr}");
    };
    done(home, &["goals", "set", &thread, "--objective", "Ship it"]);
    done(home, &["goals", "pause", &thread]);
    lose_the_databases();
    let goal = &done(home, &["goals", "show", &thread])["goal"];
    assert_eq!((&goal["objective"], &goal["status"]), (&json!("Ship it"), &json!("paused")));
    done(home, &["goals", "rm", &thread, "--yes"]);
    lose_the_databases();
    assert_eq!(refused(home, &["goals", "show", &thread]), "not_found");
}

#[test]
fn removing_asks_and_nobody_to_ask_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    done(home, &["goals", "set", THREAD, "--objective", "Ship it"]);
    assert_eq!(refused(home, &["goals", "rm", THREAD]), "invalid");
    let (code, stdout, stderr) = rowhouse(home, &["goals", "rm", THREAD]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert_eq!(done(home, &["goals", "rm", THREAD, "--yes"])["goal"]["objective"], "Ship it");
    assert_eq!(refused(home, &["goals", "rm", THREAD, "--yes"]), "not_found");
}

#[test]
fn goals_are_listed_page_by_page_also_where_a_status_is_rare() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    {
        let runtime = Runtime::builder(Home::at(home)).domain(Domain::goals()).open().expect("a runtime");
        let goals = runtime.goals();
        for number in 0..7 {
            let thread = format!("019cadf1-7a5e-7b04-8f21-{number:012x}");
            goals
                .replace(&thread, &NewGoal::new(format!("Goal {number}")).token_budget(100))
                .expect("a goal");
            if number % 3 == 0 {
                goals.pause(&thread).expect("paused");
            } else {
                goals.account(&thread, 90, 42, Accounting::ActiveOnly, None).expect("used");
            }
        }
    }
    let mut seen = Vec::new();
    let mut cursor = None::<String>;
    loop {
        let mut arguments = vec!["goals", "list", "--limit", "2", "--status", "paused"];
        if let Some(cursor) = &cursor {
            arguments.extend(["--cursor", cursor]);
        }
        let page = done(home, &arguments);
        let goals = page["goals"].as_array().expect("goals");
        seen.extend(goals.iter().map(|goal| goal["objective"].as_str().expect("a text").to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(seen, ["Goal 6", "Goal 3", "Goal 0"], "newest threads first");
    let cursor =
        done(home, &["goals", "list", "--limit", "2"])["next_cursor"].as_str().expect("more").to_owned();
    assert_eq!(refused(home, &["goals", "list", "--status", "active", "--cursor", &cursor]), "invalid");

    let (code, text, stderr) = rowhouse(home, &["goals", "list"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(text.contains("██░░░ 42 %") && text.contains("90 s") && text.contains(THREAD), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours in a pipe: {text:?}");
    let (_, text, _) = rowhouse(home, &["goals", "show", THREAD]);
    assert!(text.contains("42 of 100") && text.contains("Goal 1"), "{text}");
}

#[test]
fn looking_creates_nothing_and_a_command_that_says_nothing_is_not_understood() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    for arguments in [
        &["goals", "list"][..],
        &["goals", "show", THREAD],
        &["goals", "pause", THREAD],
        &["memories", "status"],
    ] {
        assert_eq!(refused(&home, arguments), "not_found", "{arguments:?}");
        assert!(!home.exists(), "{arguments:?}");
    }
    for arguments in [
        &["goals", "update", THREAD][..],
        &["goals", "update", THREAD, "--budget", "0"],
        &["goals", "update", THREAD, "--status", "done"],
        &["goals", "set", THREAD],
        &["goals", "list", "--limit", "501"],
        &["memories"],
    ] {
        let (code, stdout, stderr) = rowhouse(&home, arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
    }
    for arguments in [
        &["goals", "set", "019cadf1x7a5e-7b04-8f21-000000000001", "--objective", "x"][..],
        &["goals", "set", THREAD, "--objective", " "],
    ] {
        let (code, told) = document(&home, arguments);
        assert_eq!((code, &told["error"]["kind"]), (Some(1), &"invalid".into()), "{told}");
    }
}

#[test]
fn memories_tell_what_is_being_worked_on_and_what_comes_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    let runtime = Runtime::builder(Home::at(home)).domain(Domain::state()).open().expect("a runtime");
    let day_ago = jiff::Timestamp::now().as_millisecond() - 86_400_000;
    let threads: Vec<_> = (0..4)
        .map(|number| ThreadFacts {
            id: format!("019cadf1-7a5e-7b04-8f21-{number:012x}"),
            created_at: day_ago,
            updated_at: day_ago,
            recency_at: day_ago,
            ..ThreadFacts::default()
        })
        .collect();
    runtime.threads().upsert(&threads).expect("threads");
    let memories = runtime.memories();
    let claims = memories.claim_extracts(3, None).expect("claims");
    assert!(memories.extracted(&claims[0], &NewMemory::default()).expect("kept"));
    assert!(memories.extract_failed(&claims[1], "no model").expect("told"));
    drop(memories);
    drop(runtime);
    let status = done(home, &["memories", "status"]);
    assert_eq!((&status["outputs"], &status["selected"]), (&1.into(), &0.into()), "{status}");
    let extract = &status["extract"];
    assert_eq!(
        [&extract["running"], &extract["lost"], &extract["done"], &extract["failed"]],
        [1, 0, 1, 1].map(Value::from).each_ref(),
        "{status}"
    );
    assert_eq!(
        (&status["consolidate"]["running"], &status["consolidate"]["cooldown_until"]),
        (&false.into(), &Value::Null)
    );
    let (code, text, stderr) = rowhouse(home, &["memories", "status"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(text.contains("never made; the next one may be made"), "{text}");
}
