//! What use costs a goal's file, and what would become of it without a counting statement.
#![cfg(feature = "agent")]

mod common;

use std::path::Path;

use common::raw;
use rowhouse::stores::goals::{Accounting, GoalChange, GoalPatch, GoalStatus, Goals, NewGoal};
use rowhouse::{Domain, Home, Runtime};

const THREAD: &str = "019cadf1-7a5e-7b04-8f21-000000000001";
const OTHER: &str = "019cadf1-7a5e-7b04-8f21-000000000002";
const STATUSES: [GoalStatus; 6] = [
    GoalStatus::Active,
    GoalStatus::Paused,
    GoalStatus::Blocked,
    GoalStatus::UsageLimited,
    GoalStatus::BudgetLimited,
    GoalStatus::Complete,
];

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn open(home: &Path) -> (Runtime, Goals) {
    let runtime = Runtime::builder(Home::at(home)).domain(Domain::goals()).open().expect("a runtime");
    let goals = runtime.goals();
    (runtime, goals)
}

#[test]
fn nothing_used_is_not_written() {
    let home = folder();
    let (runtime, goals) = open(home.path());
    let goal = goals.replace(THREAD, &NewGoal::new("One")).expect("a goal");
    let database = runtime.database("goals").expect("the domain");
    let before = database.stats().commits;
    for (seconds, tokens) in [(0, 0), (-5, 0), (0, i64::MIN)] {
        let answer = goals.account(THREAD, seconds, tokens, Accounting::ActiveOnly, None).expect("nothing");
        assert_eq!(answer, GoalChange::Unchanged(goal.clone()));
    }
    assert_eq!(database.stats().commits, before);
    let only_time = goals.account(THREAD, 3, -9, Accounting::ActiveOnly, None).expect("time");
    let GoalChange::Changed(only_time) = only_time else { panic!("not changed: {only_time:?}") };
    assert_eq!((only_time.time_used_seconds, only_time.tokens_used), (3, 0));
}

/// As another connection sees it: its version is another one after every commit that wrote something.
#[test]
fn a_patch_that_changes_nothing_writes_nothing() {
    let home = folder();
    let (_runtime, goals) = open(home.path());
    let other = raw(&home.path().join("goals.sqlite"));
    let version =
        || -> i64 { other.query_row("PRAGMA data_version", [], |row| row.get(0)).expect("a version") };
    let patch = GoalPatch::default;
    for budget in [None, Some(100)] {
        for status in STATUSES {
            let new = NewGoal { token_budget: budget, ..NewGoal::new("Ship it").status(status) };
            let goal = goals.replace(THREAD, &new).expect("a goal");
            let before = version();
            for same in [
                patch().objective("Ship it"),
                patch().status(status),
                patch().token_budget(budget),
                patch().objective("Ship it").status(status).token_budget(budget).expect(&goal.goal_id),
            ] {
                let answer = goals.update(THREAD, &same).expect("a patch");
                assert_eq!(answer, GoalChange::Unchanged(goal.clone()), "{same:?}");
            }
            let another = patch().objective("Another").expect(OTHER);
            assert_eq!(goals.update(THREAD, &another).expect("late"), GoalChange::Mismatch(goal));
            assert_eq!(version(), before, "{status:?}");
            goals.update(THREAD, &patch().objective("Another")).expect("a patch");
            assert_ne!(version(), before, "the control");
        }
    }
}

/// Control: read, add, write in two statements, as a store without a counting statement would, loses what others add.
#[test]
fn adding_in_two_steps_would_lose_what_others_add() {
    let home = folder();
    let (runtime, goals) = open(home.path());
    goals.replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    let database = runtime.database("goals").expect("the domain");
    let read = || database.read(|at| at.row("SELECT tokens_used FROM goal", [], |row| row.get::<_, i64>(0)));
    let (one, other) = (read().expect("a number"), read().expect("a number"));
    for seen in [one, other] {
        database.write(|tx| tx.execute("UPDATE goal SET tokens_used = ?1", [seen + 10])).expect("written");
    }
    assert_eq!(read().expect("a number"), 10, "one of two was lost");
    for _ in 0..2 {
        goals.account(THREAD, 0, 10, Accounting::ActiveOnly, None).expect("used");
    }
    assert_eq!(read().expect("a number"), 30);
}
