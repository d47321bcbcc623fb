//! Facts that say nothing new are not written, and a batch of facts comes in whole or not at all.
#![cfg(feature = "agent")]

use rowhouse::stores::{ThreadFacts, Threads, Upserted};
use rowhouse::{Domain, ErrorKind, Home, Runtime, ThreadQuery};

fn open(home: &std::path::Path) -> (Runtime, Threads) {
    let runtime = Runtime::builder(Home::at(home)).domain(Domain::state()).open().expect("a runtime");
    let database = runtime.database("state").expect("the database");
    // What is done by itself is done, so that each commit from here on is a call's.
    database.wait_for_steps(std::time::Duration::from_secs(20)).expect("no steps are left");
    (runtime, Threads::new(database))
}

fn facts(number: u64, title: &str) -> ThreadFacts {
    ThreadFacts {
        id: format!("019cadf1-7a5e-7b04-8f21-{number:012x}"),
        created_at: 1,
        updated_at: 2,
        recency_at: 2,
        title: Some(title.to_owned()),
        ..ThreadFacts::default()
    }
}

#[test]
fn the_same_facts_again_write_nothing() {
    let home = tempfile::tempdir().expect("a home");
    let (_runtime, threads) = open(home.path());
    let all: Vec<_> = (0..50).map(|number| facts(number, "Fix the parser")).collect();
    assert_eq!(threads.upsert(&all).expect("new"), Upserted { inserted: 50, ..Upserted::default() });

    #[expect(clippy::disallowed_methods, reason = "a bystander, as another program would be")]
    let watcher =
        rowhouse::rusqlite::Connection::open(home.path().join("state.sqlite")).expect("a connection");
    let version =
        || watcher.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0)).expect("a number");
    let before = version();
    assert_eq!(threads.upsert(&all).expect("the same"), Upserted { unchanged: 50, ..Upserted::default() });
    let older = ThreadFacts { recency_at: 1, title: Some(String::new()), ..facts(7, "") };
    assert_eq!(threads.upsert(&[older]).expect("less"), Upserted { unchanged: 1, ..Upserted::default() });
    assert_eq!(version(), before, "no commit changed a page");

    let other = [facts(7, "Fix the printer"), facts(8, "Fix the parser")];
    assert_eq!(
        threads.upsert(&other).expect("one differs"),
        Upserted { updated: 1, unchanged: 1, ..Upserted::default() }
    );
    assert_ne!(version(), before);
}

#[test]
fn one_bad_id_keeps_the_whole_batch_out() {
    let home = tempfile::tempdir().expect("a home");
    let (_runtime, threads) = open(home.path());
    let bad = ThreadFacts { id: "nine".to_owned(), ..facts(9, "") };
    let error = threads.upsert(&[facts(1, "One"), bad]).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(threads.list(&ThreadQuery::recent()).expect("a page").threads.is_empty());
}

/// More children than are looked at one by one.
#[test]
fn too_many_children_are_refused_and_not_cut_off() {
    let home = tempfile::tempdir().expect("a home");
    let (runtime, threads) = open(home.path());
    let id = |number: u64| facts(number, "").id;
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10001)
        INSERT INTO spawn_edge SELECT printf('00000000-0000-7000-8000-%012x', i), ?1, 'open', i FROM n";
    runtime.database("state").expect("the database").write(|tx| tx.execute(fill, [id(1)])).expect("edges");
    for query in [ThreadQuery::recent().children_of(&id(1)), ThreadQuery::recent().descendants_of(&id(1))] {
        let error = threads.list(&query).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.advice().is_some());
    }
}
