//! No statement of a store looks at more rows than its page and its stated budget, however many there are: what each call
//! costs is counted by SQLite, with few rows and with four times as many (`ROWHOUSE_TEST_TIMES`).
#![cfg(feature = "agent")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rowhouse::sql::{StatementCost, statement_costs};
use rowhouse::stores::goals::{Accounting, GoalChange, GoalPatch, GoalQuery, GoalStatus, NewGoal};
use rowhouse::stores::memories::{ConsolidateClaim, ExtractClaim, Memories, NewMemory};
use rowhouse::stores::spawn_edges::{LONGEST_WALK, SpawnStatus};
use rowhouse::stores::{Direction, Sort, ThreadFacts};
use rowhouse::{Domain, Home, Runtime, ThreadQuery};

const HOUR: i64 = 3_600_000;
/// The time at which it all happens.
const NOW: i64 = 1_800_000_000_000;

/// What is counted is counted for the whole process, so one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What a call may look at, beside what it answers.
#[derive(Clone, Copy, Default)]
struct Budget {
    /// Steps of a scan from one end of a table or index.
    scanned: u64,
    /// Sorts of what the budget let through.
    sorts: u64,
}

const NOTHING: Budget = Budget { scanned: 0, sorts: 0 };
/// Of memories: the newest 5,000 by rank, or by age, are walked to be chosen from; what is left of them is sorted.
const SCAN: Budget = Budget { scanned: 5_000, sorts: 1 };
/// Of memories: outputs, those of the last book, and jobs.
const COUNTED: Budget = Budget { scanned: 3 * 20_001, sorts: 0 };

/// Why a call with many times as many rows cost more than the one before, or looked at more than it may.
fn about_the_same(few: &[StatementCost], many: &[StatementCost], budget: Budget) -> Result<(), String> {
    let sum = |costs: &[StatementCost], of: fn(&StatementCost) -> u64| costs.iter().map(of).sum::<u64>();
    let steps = |costs| sum(costs, |cost| cost.vm_steps);
    if few.is_empty() || few.len() != many.len() {
        return Err(format!("{} statements, then {}: {}", few.len(), many.len(), shown(many)));
    }
    if steps(many) > steps(few) + steps(few) / 2 + 200 {
        return Err(format!("{} steps, then {}: {}", steps(few), steps(many), shown(many)));
    }
    let (scanned, sorts) = (sum(many, |cost| cost.full_scan_steps), sum(many, |cost| cost.sorts));
    if scanned > budget.scanned || sorts > budget.sorts || sum(many, |cost| cost.automatic_index_rows) > 0 {
        return Err(format!("scanned {scanned}, sorted {sorts} times: {}", shown(many)));
    }
    Ok(())
}

/// What each statement cost, one a line.
fn shown(costs: &[StatementCost]) -> String {
    let line = |cost: &StatementCost| {
        let StatementCost { rows, full_scan_steps, sorts, vm_steps, .. } = cost;
        let sql: String = cost.sql.chars().take(90).collect();
        format!("\n  {vm_steps} steps, {rows} rows, {full_scan_steps} scanned, {sorts} sorts: {sql}")
    };
    costs.iter().map(line).collect()
}

/// How many are many.
fn many_times(few: i64) -> i64 {
    few * std::env::var("ROWHOUSE_TEST_TIMES").ok().map_or(4, |text| text.parse().expect("a number of times"))
}

fn runtime(domain: Domain, fill: &[(&str, i64)]) -> Runtime {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let home = format!("/nowhere/{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let name = domain.name().to_owned();
    let runtime = Runtime::builder(Home::at(home)).domain(domain).ephemeral().open().expect("a runtime");
    let database = runtime.database(&name).expect("the domain").within(Duration::from_mins(2));
    for (sql, rows) in fill {
        database.write(|tx| tx.execute(sql, [rows])).expect("it is filled");
    }
    runtime
}

/// A call that a store answers, and what it may look at.
type Call<S> = (&'static str, Budget, fn(&S));

/// Calls each on a store with few rows and on one with many.
fn compare<S>(few: &S, many: &S, calls: &[Call<S>]) {
    let mut wrong = Vec::new();
    for (name, budget, call) in calls {
        let ((), cheap) = statement_costs(|| call(few));
        let ((), dear) = statement_costs(|| call(many));
        if let Err(why) = about_the_same(&cheap, &dear, *budget) {
            wrong.push(format!("{name}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn id(number: usize) -> String {
    format!("019cadf1-7a5e-7b04-8f21-{number:012x}")
}

/// All complete: none is found by another status.
const GOALS: &str = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
    INSERT INTO goal SELECT printf('019cadf1-7a5e-7b04-8f21-%012x', i), printf('%08x', i), 'Ship it', 'complete',
    NULL, 0, 0, 1, 1 FROM n";

#[test]
fn a_goal_costs_the_same_among_many() {
    let _alone = ALONE.lock();
    let [few, many] = [3_000, many_times(3_000)].map(|rows| runtime(Domain::goals(), &[(GOALS, rows)]));
    compare(
        &few,
        &many,
        &[
            ("get", NOTHING, |at| drop(at.goals().get(&id(700)).expect("read"))),
            ("list", NOTHING, |at| {
                assert_eq!(at.goals().list(&GoalQuery::new()).expect("a page").goals.len(), 50);
            }),
            ("list, on", NOTHING, |at| {
                let first = at.goals().list(&GoalQuery::new().limit(500)).expect("a page");
                let next = GoalQuery::new().limit(500).cursor(first.next_cursor.expect("more"));
                assert_eq!(at.goals().list(&next).expect("a page").goals.len(), 500);
            }),
            ("list of a rare status", NOTHING, |at| {
                let page =
                    at.goals().list(&GoalQuery::new().statuses([GoalStatus::Blocked])).expect("a page");
                assert!(page.goals.is_empty() && page.next_cursor.is_some(), "it stopped looking");
            }),
            ("replace", NOTHING, |at| {
                drop(at.goals().replace(&id(7), &NewGoal::new("One").token_budget(9)).expect("a goal"));
            }),
            ("insert", NOTHING, |at| drop(at.goals().insert(&id(8), &NewGoal::new("One")).expect("a goal"))),
            ("update", NOTHING, |at| {
                drop(at.goals().update(&id(7), &GoalPatch::default().objective("Two")).expect("a goal"));
            }),
            ("account", NOTHING, |at| {
                drop(at.goals().account(&id(7), 1, 1, Accounting::ActiveOrStopped, None).expect("used"));
            }),
            ("pause", NOTHING, |at| drop(at.goals().pause(&id(7)).expect("paused"))),
            ("delete", NOTHING, |at| drop(at.goals().delete(&id(7)).expect("gone"))),
        ],
    );
}

/// Use is added by one statement, so that what others add meanwhile is not lost.
#[test]
fn use_of_a_goal_is_added_by_one_statement() {
    let _alone = ALONE.lock();
    let at = runtime(Domain::goals(), &[(GOALS, 10)]);
    let account = || at.goals().account(&id(7), 1, 1, Accounting::ActiveOrComplete, None);
    let (answer, costs) = statement_costs(account);
    assert!(matches!(answer, Ok(GoalChange::Changed(_))), "{answer:?}");
    assert_eq!(costs.len(), 1, "{}", shown(&costs));
}

/// Threads at rest, newest first by number; every seventh archived; in eight folders.
const THREADS: &str = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
    INSERT INTO thread(id, created_at, updated_at, recency_at, archived_at, cwd)
    SELECT printf('019cadf1-7a5e-7b04-8f21-%012x', i), 1799940000000 - i, 1799940000000 - i, 1799940000000 - i,
    iif(i % 7 = 6, 1, NULL), '/home/ada/' || (i % 8) FROM n";

#[test]
fn a_page_of_threads_costs_the_same_among_many() {
    let _alone = ALONE.lock();
    let [few, many] = [7_000, many_times(7_000)].map(|rows| runtime(Domain::state(), &[(THREADS, rows)]));
    compare(
        &few,
        &many,
        &[
            ("get", NOTHING, |at| drop(at.threads().get(&id(700)).expect("read"))),
            ("list", NOTHING, |at| {
                for sort in [Sort::Created, Sort::Updated, Sort::Recency] {
                    for direction in [Direction::Ascending, Direction::Descending] {
                        for archived in [false, true] {
                            let query =
                                ThreadQuery::recent().sort(sort).direction(direction).archived(archived);
                            let folders = (0..8).map(|n| format!("/home/ada/{n}"));
                            for query in
                                [query.clone(), query.clone().cwd("/home/ada/3"), query.cwds(folders)]
                            {
                                let first = at.threads().list(&query).expect("a page");
                                let next = query.cursor(first.next_cursor.expect("more"));
                                assert_eq!(at.threads().list(&next).expect("a page").threads.len(), 50);
                            }
                        }
                    }
                }
            }),
            ("upsert", NOTHING, |at| {
                let facts = ThreadFacts {
                    id: id(700),
                    created_at: 1,
                    updated_at: 2,
                    recency_at: 3,
                    ..Default::default()
                };
                assert_eq!(at.threads().upsert(&[facts]).expect("written").inserted, 0);
            }),
        ],
    );
}

/// One thread started all the others; one of those started three.
const EDGES: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
    INSERT INTO spawn_edge SELECT printf('019cadf1-7a5e-7b04-8f21-%012x', i),
    printf('019cadf1-7a5e-7b04-8f21-%012x', iif(i BETWEEN 2 AND 4, 1, 0)), 'open', i FROM n";

#[test]
fn a_walk_of_spawn_edges_ends_at_its_bound() {
    let _alone = ALONE.lock();
    let [few, many] = [11_000, many_times(11_000)].map(|rows| runtime(Domain::state(), &[(EDGES, rows)]));
    compare(
        &few,
        &many,
        &[
            ("parent", NOTHING, |at| drop(at.spawn_edges().parent(&id(700)).expect("read"))),
            ("children", NOTHING, |at| {
                assert_eq!(
                    at.spawn_edges().children(&id(1), Some(SpawnStatus::Open)).expect("three").len(),
                    3
                );
            }),
            ("too many children", NOTHING, |at| {
                drop(at.spawn_edges().children(&id(0), None).expect_err("too many"));
            }),
            ("descendants", NOTHING, |at| {
                let found = at.spawn_edges().descendants(&id(0), None).expect("a walk");
                assert!(found.truncated && found.edges.len() == LONGEST_WALK);
            }),
            ("descendants of a status", NOTHING, |at| {
                let found = at.spawn_edges().descendants(&id(0), Some(SpawnStatus::Closed)).expect("a walk");
                assert!(found.truncated && found.edges.is_empty());
            }),
            ("set below", NOTHING, |at| {
                assert_eq!(at.spawn_edges().set_descendants(&id(1), SpawnStatus::Closed).expect("closed"), 3);
            }),
            ("set with what is below", NOTHING, |at| {
                assert_eq!(
                    at.spawn_edges().set_status(&id(1), SpawnStatus::Closed, true).expect("closed"),
                    1
                );
            }),
            ("add", NOTHING, |at| assert!(at.spawn_edges().add(&id(3), &id(1_000_000)).expect("new"))),
        ],
    );
}

/// Control: without its index the same query is found out by the same comparison.
#[test]
fn a_query_without_its_index_is_found_out() {
    let _alone = ALONE.lock();
    let cost = |rows| {
        let without = "DROP INDEX spawn_edge_by_parent";
        let at = runtime(Domain::state(), &[(EDGES, rows)]);
        at.database("state").expect("the domain").write(|tx| tx.execute(without, [])).expect("no index");
        let children = || drop(at.spawn_edges().children(&id(1), None).expect("three"));
        statement_costs(children).1
    };
    let why = about_the_same(&cost(1_000), &cost(10_000), NOTHING).expect_err("it looks at every row");
    assert!(why.contains("steps, then"), "{why}");
}

/// Every thread but the oldest hundred was worked through, and has an output.
const DONE: &str =
    "INSERT INTO memory_job SELECT 'extract', id, 'done', 't', 0, 0, 3, updated_at, updated_at, 1, NULL
    FROM thread WHERE updated_at > 1799940000000 - ?1 + 100";
const OUTPUTS: &str = "INSERT INTO memory_output SELECT id, hex(zeroblob(50)), 's', NULL, updated_at, 1,
    updated_at % 3, updated_at, NULL FROM thread WHERE updated_at > 1799940000000 - ?1 + 100";

fn memories(at: &Runtime) -> Memories {
    at.memories().clock(|| NOW)
}

fn claim(at: &Runtime, number: usize) -> ExtractClaim {
    let facts = ThreadFacts {
        id: id(number),
        created_at: NOW - 13 * HOUR,
        updated_at: NOW - 13 * HOUR,
        recency_at: NOW - 13 * HOUR,
        ..ThreadFacts::default()
    };
    at.threads().upsert(&[facts]).expect("a thread");
    memories(at).claim_extracts(1, None).expect("claims").remove(0)
}

#[test]
fn memories_look_at_their_budget_and_no_further() {
    let _alone = ALONE.lock();
    let fill = |rows| runtime(Domain::state(), &[(THREADS, rows), (DONE, rows), (OUTPUTS, rows)]);
    let (few, many) = (fill(7_000), fill(many_times(7_000)));
    compare(
        &few,
        &many,
        &[
            ("claim, and find nothing", SCAN, |at| {
                assert!(memories(at).claim_extracts(64, None).expect("claims").is_empty());
            }),
            ("extracted", SCAN, |at| {
                assert!(memories(at).extracted(&claim(at, 1_000_001), &NewMemory::default()).expect("kept"));
            }),
            ("without output", SCAN, |at| {
                assert!(memories(at).extract_without_output(&claim(at, 1_000_002)).expect("told"));
            }),
            ("failed", SCAN, |at| {
                assert!(memories(at).extract_failed(&claim(at, 1_000_003), "no model").expect("told"));
            }),
            ("output", NOTHING, |at| assert!(memories(at).output(&id(5)).expect("read").is_some())),
            ("select", SCAN, |at| {
                let found = memories(at).select(50, Duration::from_hours(240)).expect("a selection");
                assert_eq!(found.selected.len(), 50);
            }),
            ("used", NOTHING, |at| assert_eq!(memories(at).used(&[&id(1), &id(2)]).expect("counted"), 2)),
            ("pollute", NOTHING, |at| assert!(memories(at).pollute(&id(8)).expect("polluted"))),
            ("prune", NOTHING, |at| {
                assert_eq!(memories(at).prune(Duration::from_hours(1), 20).expect("pruned"), 20);
            }),
            ("make a book", SCAN, |at| {
                let memories = memories(at);
                let ConsolidateClaim::Claimed { token, watermark, .. } =
                    memories.claim_consolidate().expect("a claim")
                else {
                    panic!("nobody else is there")
                };
                let chosen = memories.select(20, Duration::from_hours(240)).expect("a selection").selected;
                let used: Vec<_> = chosen.iter().map(Into::into).collect();
                assert!(memories.heartbeat(&token).expect("kept"));
                assert!(memories.consolidated(&token, watermark, &used).expect("done"));
                drop(memories.claim_consolidate().expect("an answer"));
            }),
        ],
    );
}

/// Jobs and outputs of threads that need not be there to be counted.
const JOBS: &str = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
    INSERT INTO memory_job SELECT 'extract', printf('019cadf1-7a5e-7b04-8f21-%012x', i), 'done', 't', 0, 0, 3, 1, 1, 1,
    NULL FROM n";
const SELECTED: &str = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
    INSERT INTO memory_output SELECT printf('019cadf1-7a5e-7b04-8f21-%012x', i), 'm', 's', NULL, 1, 1, 0, 1, 1 FROM n";

#[test]
fn the_status_of_memories_counts_so_far_and_says_so() {
    let _alone = ALONE.lock();
    let fill = |rows| runtime(Domain::state(), &[(JOBS, rows), (SELECTED, rows)]);
    let (few, many) = (fill(21_000), fill(many_times(21_000)));
    compare(
        &few,
        &many,
        &[("status", COUNTED, |at| {
            let status = memories(at).status().expect("a status");
            assert_eq!((status.outputs, status.selected, status.truncated), (20_000, 20_000, true));
        })],
    );
    let status = memories(&fill(10)).status().expect("a status");
    assert_eq!((status.outputs, status.done, status.truncated), (10, 10, false));
}
