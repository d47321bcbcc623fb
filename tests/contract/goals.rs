//! A goal does what its store promises, and what several processes use adds up exactly.

use std::path::Path;

use proptest::prelude::*;
use rowhouse::stores::goals::{
    Accounting, Goal, GoalChange, GoalPatch, GoalQuery, GoalStatus, Goals, LONGEST_OBJECTIVE, NewGoal,
};
use rowhouse::{Domain, ErrorKind, Home, Runtime};

use crate::engines::{self, Alone};
use crate::processes::{self, Child, rounds};

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
const ACCOUNTINGS: [Accounting; 4] = [
    Accounting::ActiveStatusOnly,
    Accounting::ActiveOnly,
    Accounting::ActiveOrComplete,
    Accounting::ActiveOrStopped,
];

fn open(home: &Path) -> (Runtime, Goals) {
    let runtime = Runtime::builder(Home::at(home)).domain(Domain::goals()).open().expect("a runtime");
    let goals = runtime.goals();
    (runtime, goals)
}

fn alone() -> (Alone, Goals) {
    let alone = engines::alone(Domain::goals());
    let goals = alone.runtime.goals();
    (alone, goals)
}

fn changed(change: GoalChange) -> Goal {
    match change {
        GoalChange::Changed(goal) => goal,
        other => panic!("not changed: {other:?}"),
    }
}

/// A goal with this status and a budget of 100, of which `used` are gone.
fn prepared(goals: &Goals, status: GoalStatus, used: i64) -> Goal {
    goals.replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    goals.account(THREAD, 0, used, Accounting::ActiveOnly, None).expect("used");
    goals.update(THREAD, &GoalPatch::default().token_budget(Some(100)).status(status)).expect("a status");
    goals.get(THREAD).expect("read").expect("the goal")
}

#[test]
fn a_new_goal_is_active_and_nothing_of_it_is_used() {
    let (_runtime, goals) = alone();
    assert_eq!(goals.get(THREAD).expect("read"), None);
    let goal = goals.replace(THREAD, &NewGoal::new("Ship it").token_budget(100)).expect("a goal");
    assert_eq!((goal.status, goal.tokens_used, goal.time_used_seconds), (GoalStatus::Active, 0, 0));
    assert_eq!((goal.token_budget, goal.objective.as_str()), (Some(100), "Ship it"));
    assert_eq!(goals.get(&THREAD.to_uppercase()).expect("read"), Some(goal), "ids are the same in any case");
    assert_eq!(goals.get(OTHER).expect("read"), None);
}

#[test]
fn replacing_gives_a_new_id_and_resets_what_is_used() {
    let (_runtime, goals) = alone();
    let first = goals.replace(THREAD, &NewGoal::new("One").token_budget(10)).expect("a goal");
    goals.account(THREAD, 5, 7, Accounting::ActiveOnly, None).expect("used");
    let second = goals.replace(THREAD, &NewGoal::new("Two")).expect("another");
    assert_ne!(first.goal_id, second.goal_id);
    assert_eq!((second.tokens_used, second.time_used_seconds, second.token_budget), (0, 0, None));
}

#[test]
fn a_goal_is_inserted_only_where_there_is_none_or_a_complete_one() {
    let (_runtime, goals) = alone();
    let first = goals.insert(THREAD, &NewGoal::new("One")).expect("insert").expect("there was none");
    for status in STATUSES {
        goals.update(THREAD, &GoalPatch::default().status(status)).expect("a status");
        let before = goals.get(THREAD).expect("read").expect("a goal");
        let answer = goals.insert(THREAD, &NewGoal::new("Two")).expect("insert");
        if status == GoalStatus::Complete {
            let second = answer.expect("the first was complete");
            assert_ne!(second.goal_id, first.goal_id);
        } else {
            assert_eq!(answer, None, "{status:?}");
            assert_eq!(goals.get(THREAD).expect("read"), Some(before), "untouched");
        }
    }
}

#[test]
fn a_patch_changes_what_it_names_and_only_the_goal_it_expects() {
    let (_runtime, goals) = alone();
    let goal = goals.replace(THREAD, &NewGoal::new("One").token_budget(10)).expect("a goal");
    let patch = GoalPatch::default().objective("Two").expect(goal.goal_id.to_uppercase());
    let after = changed(goals.update(THREAD, &patch).expect("a patch"));
    assert_eq!(after, Goal { objective: "Two".to_owned(), updated_at: after.updated_at, ..goal.clone() });

    let replaced = goals.replace(THREAD, &NewGoal::new("Three")).expect("replaced");
    let late = GoalPatch::default().status(GoalStatus::Complete).expect(&goal.goal_id);
    assert_eq!(goals.update(THREAD, &late).expect("late"), GoalChange::Mismatch(replaced.clone()));
    let late = goals.account(THREAD, 1, 1, Accounting::ActiveOnly, Some(&goal.goal_id)).expect("late");
    assert_eq!(late, GoalChange::Mismatch(replaced.clone()));
    assert_eq!(goals.get(THREAD).expect("read"), Some(replaced.clone()), "untouched");

    assert_eq!(goals.update(THREAD, &GoalPatch::default()).expect("a read"), GoalChange::Unchanged(replaced));
    assert_eq!(
        goals.update(OTHER, &GoalPatch::default().status(GoalStatus::Paused)).expect("none"),
        GoalChange::Missing
    );
}

#[test]
fn a_budget_that_is_used_up_limits_an_active_goal_at_once() {
    let (_runtime, goals) = alone();
    let status = |change: GoalChange| changed(change).status;
    for (used, expected) in [(99, GoalStatus::Active), (100, GoalStatus::BudgetLimited)] {
        let before = prepared(&goals, GoalStatus::Blocked, used);
        assert_eq!(before.status, GoalStatus::Blocked);
        let set = GoalPatch::default().status(GoalStatus::Active);
        assert_eq!(status(goals.update(THREAD, &set).expect("active")), expected, "used {used}");
    }
    prepared(&goals, GoalStatus::Active, 50);
    let lower = |to| GoalPatch::default().token_budget(Some(to));
    assert_eq!(status(goals.update(THREAD, &lower(51)).expect("lower")), GoalStatus::Active);
    assert_eq!(status(goals.update(THREAD, &lower(50)).expect("lower")), GoalStatus::BudgetLimited);
    let none = GoalPatch::default().token_budget(None);
    assert_eq!(
        status(goals.update(THREAD, &none).expect("no bound")),
        GoalStatus::BudgetLimited,
        "until it is set active"
    );
    let active = GoalPatch::default().status(GoalStatus::Active);
    assert_eq!(status(goals.update(THREAD, &active).expect("active")), GoalStatus::Active);
}

#[test]
fn pausing_stops_an_active_goal_and_leaves_a_limited_one_limited() {
    let (_runtime, goals) = alone();
    prepared(&goals, GoalStatus::Active, 0);
    assert_eq!(changed(goals.pause(THREAD).expect("paused")).status, GoalStatus::Paused);
    let paused = goals.get(THREAD).expect("read").expect("a goal");
    assert_eq!(goals.pause(THREAD).expect("again"), GoalChange::Unchanged(paused));
    let limited = prepared(&goals, GoalStatus::Active, 100);
    assert_eq!(limited.status, GoalStatus::BudgetLimited);
    assert_eq!(goals.pause(THREAD).expect("paused"), GoalChange::Unchanged(limited));
    let limited = prepared(&goals, GoalStatus::Active, 100);
    let patched = goals.update(THREAD, &GoalPatch::default().status(GoalStatus::Paused)).expect("paused");
    assert_eq!(patched, GoalChange::Unchanged(limited));
    let both = GoalPatch::default().status(GoalStatus::Paused).objective("Another");
    assert_eq!(changed(goals.update(THREAD, &both).expect("renamed")).status, GoalStatus::BudgetLimited);
    prepared(&goals, GoalStatus::Active, 0);
    assert_eq!(changed(goals.usage_limit(THREAD).expect("limited")).status, GoalStatus::UsageLimited);
    assert_eq!(goals.pause(OTHER).expect("none"), GoalChange::Missing);
}

#[test]
fn deleting_answers_the_goal() {
    let (_runtime, goals) = alone();
    let goal = goals.replace(THREAD, &NewGoal::new("One")).expect("a goal");
    goals.replace(OTHER, &NewGoal::new("Two")).expect("another");
    assert_eq!(goals.delete(THREAD).expect("gone"), Some(goal));
    assert_eq!(goals.delete(THREAD).expect("gone"), None);
    assert!(goals.get(OTHER).expect("read").is_some());
}

#[test]
fn bad_input_is_refused_and_nothing_is_written() {
    let (_runtime, goals) = alone();
    let refused = |answer: rowhouse::Result<Goal>| answer.expect_err("refused").kind();
    let long = "x".repeat(LONGEST_OBJECTIVE + 1);
    for objective in ["", " \n", "a\0b", &long] {
        assert_eq!(refused(goals.replace(THREAD, &NewGoal::new(objective))), ErrorKind::Invalid);
        let patch = GoalPatch::default().objective(objective);
        assert_eq!(goals.update(THREAD, &patch).expect_err("refused").kind(), ErrorKind::Invalid);
    }
    for budget in [0, -1, i64::MIN] {
        assert_eq!(
            refused(goals.replace(THREAD, &NewGoal::new("One").token_budget(budget))),
            ErrorKind::Invalid
        );
    }
    assert_eq!(refused(goals.replace("nine", &NewGoal::new("One"))), ErrorKind::Invalid);
    assert_eq!(goals.get("nine").expect("no such thread"), None);
    goals.replace(THREAD, &NewGoal::new("x".repeat(LONGEST_OBJECTIVE))).expect("the longest");
    for _ in 0..2 {
        goals.account(THREAD, i64::MAX, i64::MAX, Accounting::ActiveOnly, None).expect("a lot");
    }
    let goal = goals.get(THREAD).expect("read").expect("a goal");
    assert_eq!((goal.tokens_used, goal.time_used_seconds), (i64::MAX, i64::MAX), "sums end there");
}

/// Which goals use counts for, and which of them it limits, as the documentation's table has it.
fn table(accounting: Accounting) -> (&'static [GoalStatus], &'static [GoalStatus]) {
    use GoalStatus::{Active, Blocked, BudgetLimited, Complete, Paused, UsageLimited};
    match accounting {
        Accounting::ActiveStatusOnly => (&[Active], &[Active]),
        Accounting::ActiveOnly => (&[Active, BudgetLimited], &[Active]),
        Accounting::ActiveOrComplete => (&[Active, BudgetLimited, Complete], &[Active]),
        Accounting::ActiveOrStopped => {
            const STOPPED: &[GoalStatus] = &[Active, Paused, Blocked, UsageLimited, BudgetLimited];
            (STOPPED, STOPPED)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever was used before, and whatever is used now.
    #[test]
    fn accounting_follows_its_table(
        status in proptest::sample::select(&STATUSES[..]),
        accounting in proptest::sample::select(&ACCOUNTINGS[..]),
        used in 0i64..120,
        seconds in -3i64..3,
        tokens in -3i64..120,
    ) {
        thread_local!(static GOALS: (Alone, Goals) = alone());
        GOALS.with(|(_, goals)| {
            let before = prepared(goals, status, used);
            let after = goals.account(THREAD, seconds, tokens, accounting, None).expect("used");
            let (counts, limits) = table(accounting);
            let (seconds, tokens) = (seconds.max(0), tokens.max(0));
            let mut expected = before.clone();
            if counts.contains(&before.status) && (seconds, tokens) != (0, 0) {
                expected.time_used_seconds += seconds;
                expected.tokens_used += tokens;
                if limits.contains(&before.status) && expected.tokens_used >= 100 {
                    expected.status = GoalStatus::BudgetLimited;
                }
                let after = changed(after);
                expected.updated_at = after.updated_at;
                prop_assert_eq!(after, expected);
            } else {
                prop_assert_eq!(after, GoalChange::Unchanged(expected));
            }
            Ok(())
        })?;
    }
}

pub(super) fn child(arguments: &[String]) {
    match arguments {
        [role, home, number, rounds] if role == "use" => use_at_once(home, number, rounds),
        [role, home] if role == "account" => account_as_told(home.as_ref()),
        other => panic!("no such role: {other:?}"),
    }
}

fn use_at_once(home: &str, number: &str, rounds: &str) {
    let number: i64 = number.parse().expect("a number");
    let rounds: i64 = rounds.parse().expect("a number");
    let (_runtime, goals) = open(home.as_ref());
    processes::ready();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let goals = &goals;
            scope.spawn(move || {
                for round in 0..rounds {
                    goals
                        .account(THREAD, 1, number * 4 + thread + round % 3, Accounting::ActiveOnly, None)
                        .expect("used");
                }
            });
        }
    });
}

#[test]
fn what_processes_use_at_once_adds_up_exactly() {
    const PROCESSES: i64 = 4;
    let home = engines::home();
    let (_runtime, goals) = open(home.path());
    goals.replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    let rounds = i64::try_from(rounds(30)).expect("a small number");
    let path = home.path().to_str().expect("text");
    let mut children: Vec<_> = (0..PROCESSES)
        .map(|number| Child::start("use", &[path, &number.to_string(), &rounds.to_string()]))
        .collect();
    processes::start_together(&mut children);
    children.into_iter().for_each(Child::finish);
    let used: i64 = (0..PROCESSES)
        .flat_map(|number| (0..4).map(move |thread| number * 4 + thread))
        .map(|base| (0..rounds).map(|round| base + round % 3).sum::<i64>())
        .sum();
    let goal = goals.get(THREAD).expect("read").expect("a goal");
    assert_eq!((goal.tokens_used, goal.time_used_seconds), (used, PROCESSES * 4 * rounds));
}

/// Seconds, tokens, and how they count.
type Delta = (i64, i64, usize);

/// Adds what each line says, and answers what of it counted.
fn account_as_told(home: &Path) {
    let (_runtime, goals) = open(home);
    processes::ready();
    loop {
        let line = processes::listen();
        if line.is_empty() {
            return;
        }
        let deltas: Vec<Delta> = serde_json::from_str(&line).expect("deltas");
        let mut counted = (0, 0);
        for (seconds, tokens, accounting) in deltas {
            let answer = goals.account(THREAD, seconds, tokens, ACCOUNTINGS[accounting], None).expect("used");
            if let GoalChange::Changed(_) = answer {
                counted = (counted.0 + seconds.max(0), counted.1 + tokens.max(0));
            }
        }
        processes::say(&serde_json::to_string(&counted).expect("two numbers"));
    }
}

/// Whatever several processes add at once, in whatever ways of counting, with a budget or none.
#[test]
fn whatever_processes_use_at_once_adds_up_exactly() {
    let home = engines::home();
    let (_runtime, goals) = open(home.path());
    let path = home.path().to_str().expect("text");
    let mut children: Vec<_> = (0..3).map(|_| Child::start("account", &[path])).collect();
    processes::start_together(&mut children);
    let children = std::cell::RefCell::new(children);
    let deltas = proptest::collection::vec((-2i64..5, -50i64..200, 0..ACCOUNTINGS.len()), 1..12);
    let case = (proptest::option::of(1i64..3_000), proptest::collection::vec(deltas, 3));
    let cases = u32::try_from(rounds(12)).expect("a small number");
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = proptest::test_runner::TestRunner::new(config).run(&case, |(budget, deltas)| {
        let mut children = children.borrow_mut();
        let new = NewGoal { token_budget: budget, ..NewGoal::new("Ship it") };
        goals.replace(THREAD, &new).expect("a goal");
        for (child, deltas) in children.iter_mut().zip(&deltas) {
            child.tell(&serde_json::to_string(deltas).expect("numbers"));
        }
        let counted = children.iter().map(|child| child.line().expect("an answer"));
        let counted: Vec<(i64, i64)> =
            counted.map(|line| serde_json::from_str(&line).expect("two numbers")).collect();
        let goal = goals.get(THREAD).expect("read").expect("a goal");
        prop_assert_eq!(goal.time_used_seconds, counted.iter().map(|one| one.0).sum::<i64>());
        prop_assert_eq!(goal.tokens_used, counted.iter().map(|one| one.1).sum::<i64>());
        let limited = budget.is_some_and(|budget| goal.tokens_used >= budget);
        prop_assert_eq!(goal.status == GoalStatus::BudgetLimited, limited);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    children.into_inner().into_iter().for_each(Child::finish);
}

#[test]
fn goals_are_listed_newest_thread_first_whatever_happens_to_them_meanwhile() {
    let (_runtime, goals) = alone();
    let thread = |number: usize| format!("019cadf1-7a5e-7b04-8f21-{number:012x}");
    for number in 0..25 {
        goals.replace(&thread(number), &NewGoal::new(format!("Goal {number}"))).expect("a goal");
    }
    let mut query = GoalQuery::new().limit(4);
    let mut seen = Vec::new();
    loop {
        let page = goals.list(&query).expect("a page");
        seen.extend(page.goals.into_iter().map(|goal| goal.thread_id));
        // What is used, replaced, set anew in front or removed behind moves none of the others.
        goals.account(&thread(3), 1, 1, Accounting::ActiveOnly, None).expect("used");
        goals.replace(&thread(12), &NewGoal::new("Another")).expect("replaced");
        goals.replace(&thread(1_000), &NewGoal::new("New")).expect("a goal");
        match page.next_cursor {
            Some(cursor) => query = query.cursor(cursor),
            None => break,
        }
    }
    assert_eq!(seen, (0..25).rev().map(thread).collect::<Vec<_>>());

    goals.pause(&thread(5)).expect("paused");
    let found = |query: &GoalQuery| goals.list(query).expect("a page").goals.len();
    assert_eq!(found(&GoalQuery::new().statuses([GoalStatus::Paused])), 1);
    assert_eq!(found(&GoalQuery::new().statuses([GoalStatus::Paused, GoalStatus::Active])), 26);
    assert_eq!(found(&GoalQuery::new().statuses([])), 0, "an empty list matches nothing");
    for limit in [0, 501] {
        assert_eq!(
            goals.list(&GoalQuery::new().limit(limit)).expect_err("refused").kind(),
            ErrorKind::Invalid
        );
    }
}
