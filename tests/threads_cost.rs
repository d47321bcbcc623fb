//! No query of threads looks at more rows than its page and its stated budget: ten times the threads cost the same.
//! Counted by SQLite's own counters, for the whole process: hence a file of its own.
#![cfg(feature = "agent")]

use rowhouse::sql::{StatementCost, statement_costs};
use rowhouse::stores::threads::{Change, LONGEST_FILTER, SearchOrder, ThreadPatch, ThreadSearch};
use rowhouse::stores::{Direction, Sort, ThreadFacts, Threads};
use rowhouse::{Domain, Durability, Home, Runtime, ThreadQuery};

/// Threads in 10 folders, every second archived, every third from another source, a tenth of them at one time. All say
/// "common", forty say "rare".
const FILL: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
    INSERT INTO thread (id, created_at, updated_at, recency_at, archived_at, cwd, source, model_provider, title)
    SELECT printf('%08x-0000-7000-8000-%012x', i * 7919 % 1000003, i), max(i, ?1 / 10), max(i * 31 % ?1, ?1 / 10),
        max(i * 17 % ?1, ?1 / 10), iif(i % 2 = 0, 1, NULL), '/home/ada/' || (i / 6 % 10),
        iif(i % 3 = 0, 'cli', 'exec'), 'near', iif(i % (?1 / 20) IN (0, 1), 'rare common', 'common') FROM n";

const ROOT: &str = "00000000-0000-7000-8000-000000000000";

struct Place {
    threads: Threads,
    runtime: Runtime,
    _home: tempfile::TempDir,
}

fn filled(count: i64) -> Place {
    let home = tempfile::tempdir().expect("a home");
    let runtime = Runtime::builder(Home::at(home.path()))
        .domain(Domain::state().durability(Durability::Normal))
        .open()
        .expect("a runtime");
    let database = runtime.database("state").expect("the database");
    database.wait_for_steps(std::time::Duration::from_mins(1)).expect("the index is whole");
    database.write(|tx| tx.execute(FILL, [count])).expect("threads");
    let edges = "INSERT INTO spawn_edge SELECT id, ?1, 'open', recency_at FROM thread ORDER BY created_at DESC, id LIMIT 40";
    database.write(|tx| tx.execute(edges, [ROOT])).expect("edges");
    Place { threads: runtime.threads(), runtime, _home: home }
}

/// What work costs: steps of all its statements.
fn cost(work: impl FnOnce()) -> (u64, Vec<StatementCost>) {
    let ((), costs) = statement_costs(work);
    for cost in &costs {
        assert_eq!((cost.full_scan_steps, cost.automatic_index_rows), (0, 0), "{cost:?}");
    }
    assert!(!costs.is_empty());
    (costs.iter().map(|cost| cost.vm_steps).sum(), costs)
}

/// Ten times the threads cost at most so much of what a tenth of them cost.
fn same(name: &str, few: &Place, many: &Place, work: impl Fn(&Threads)) -> u64 {
    let (of_few, _) = cost(|| work(&few.threads));
    let (of_many, statements) = cost(|| work(&many.threads));
    assert!(of_many * 4 <= of_few * 5, "{name}: {of_few} steps became {of_many}: {statements:#?}");
    of_many
}

fn lists() -> Vec<(String, ThreadQuery)> {
    let mut all = Vec::new();
    for sort in [Sort::Created, Sort::Updated, Sort::Recency] {
        for direction in [Direction::Ascending, Direction::Descending] {
            for archived in [false, true] {
                let of =
                    || ThreadQuery::recent().sort(sort).direction(direction).archived(archived).looks(600);
                let folders = |count: usize| (0..count).map(|number| format!("/home/ada/{number}"));
                for (name, query) in [
                    ("all", of()),
                    ("a folder", of().cwds(folders(1))),
                    ("8 folders", of().cwds(folders(8))),
                    ("64 folders", of().cwds(folders(64))),
                    ("100 folders", of().cwds(folders(100))),
                    ("a source", of().sources(["cli"])),
                    ("no such source", of().sources(["vscode"])),
                    ("a provider of a folder", of().model_providers(["near"]).cwds(folders(1))),
                    ("a source of folders", of().sources(["vscode"]).cwds(folders(3))),
                    ("children", of().children_of(ROOT)),
                    ("descendants", of().descendants_of(ROOT).sources(["cli"])),
                ] {
                    all.push((format!("{name}, {sort:?} {direction:?} {archived}"), query));
                }
            }
        }
    }
    all
}

#[test]
fn a_page_of_many_threads_costs_what_a_page_of_few_does() {
    let (few, many) = (filled(4_000), filled(40_000));
    for (name, query) in lists() {
        let steps = same(&name, &few, &many, |threads| {
            let page = threads.list(&query).expect("a page");
            if let Some(next) = page.next_cursor {
                threads.list(&query.clone().cursor(next)).expect("the next page");
            }
        });
        // Two pages of 50, or two looks at 600 rows and at where they end.
        assert!(steps < 2 * 600 * 200, "{name}: {steps}");
    }

    // The control: a list of another order, which no index has.
    let by_tokens = |place: &Place| {
        let database = place.runtime.database("state").expect("the database");
        let sql = "SELECT id FROM thread WHERE archived_at IS NULL ORDER BY tokens_used DESC LIMIT 50";
        let ((), costs) = statement_costs(|| {
            database.read(|at| rowhouse::sql::Session::query(at, sql, &[])).map(drop).expect("a list");
        });
        costs[0].vm_steps
    };
    assert!(
        by_tokens(&many) > 5 * by_tokens(&few),
        "the control has to cost more, or the test shows nothing"
    );

    let some = |threads: &Threads| threads.list(&ThreadQuery::recent().limit(20)).expect("a page").threads;
    same("reads by id", &few, &many, |threads| {
        let ids: Vec<_> = some(threads).into_iter().map(|thread| thread.id).collect();
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        assert!(threads.get_all(&ids).expect("a read").iter().all(Option::is_some));
        threads.get(ids[0]).expect("a read").expect("the thread");
    });
    same("patches", &few, &many, |threads| {
        for thread in some(threads) {
            let patch = ThreadPatch { name: Change::Set("A name".to_owned()), ..ThreadPatch::default() };
            threads.patch(&thread.id, &patch).expect("patched");
        }
    });
    same("facts", &few, &many, |threads| {
        for thread in some(threads) {
            let facts = ThreadFacts { id: thread.id, updated_at: 7, ..ThreadFacts::default() };
            threads.upsert(&[facts]).expect("facts");
        }
    });

    let rare = || ThreadSearch::text("rare");
    for (name, search) in [
        ("by rank", rare()),
        ("by recency", rare().by(SearchOrder::Recency)),
        ("archived", rare().archived(true)),
        ("in a folder", rare().cwd("/home/ada/0")),
        ("below", rare().descendants_of(ROOT)),
    ] {
        same(name, &few, &many, |threads| drop(threads.search(&search).expect("a search")));
    }
    let longest =
        ThreadQuery::recent().looks(600).sources((0..LONGEST_FILTER).map(|number| number.to_string()));
    same("the longest filter", &few, &many, |threads| drop(threads.list(&longest).expect("a page")));
}

#[test]
fn a_search_of_a_common_word_looks_at_the_newest_hits_only() {
    let (few, many) = (filled(12_000), filled(36_000));
    for order in [SearchOrder::Rank, SearchOrder::Recency] {
        let common = ThreadSearch::text("common").by(order);
        let steps = same("a common word", &few, &many, |threads| {
            let page = threads.search(&common).expect("a search");
            assert!(page.truncated && page.threads.len() == 50);
        });
        assert!(steps < 10_000 * 100, "{steps} for 10,000 hits");
    }
}

#[test]
fn a_short_id_looks_at_ids_only() {
    // Its budget is above what a test should fill: what counts is the price of one id.
    let many = filled(20_000);
    let ((), costs) = statement_costs(|| drop(many.threads.find_id("00000001").expect("the first one")));
    let steps: u64 = costs.iter().map(|cost| cost.vm_steps).sum();
    assert!(steps < 20_000 * 20, "{steps}");
    assert!(costs.iter().all(|cost| (cost.sorts, cost.automatic_index_rows) == (0, 0)), "{costs:?}");

    let whole = ROOT.replace('-', "");
    let ((), costs) = statement_costs(|| assert_eq!(many.threads.find_id(&whole).expect("as it is"), ROOT));
    assert!(costs.is_empty(), "a whole id without hyphens needs no look: {costs:?}");
}
