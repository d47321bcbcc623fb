//! The first page of a list: of few threads and of many, side by side.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use rowhouse::stores::{Direction, Sort, Threads};
use rowhouse::{Domain, Home, Runtime, ThreadQuery};

use super::super::report::{Document, Row, Target, p50_us, ratio};
use super::super::workloads::callers::Measured;
use super::Setting;

/// Threads in the small store.
const FEW: u32 = 1_000;
/// Threads that one transaction writes.
const BATCH: u32 = 10_000;
/// How long a transaction of so many may take on a slow disk.
const PATIENCE: Duration = Duration::from_mins(5);

/// $1 the first number, $2 the last. Every tenth is archived; times are as those of a program in use: several threads of
/// one second, in no order of their 20 folders.
const FILL: &str = "WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
    INSERT INTO thread(id, rollout_path, created_at, updated_at, recency_at, archived_at, source, model_provider, model,
        cwd, title, preview, first_user_message, cli_version, tokens_used, git_branch)
    SELECT printf('019cadf1-%04x-7b04-8f21-%012x', i * 7919 % 65536, i),
        printf('/home/ada/.agent/sessions/2026/01/01/rollout-%012x.jsonl', i),
        1767225600000 + i / 3 * 1000, 1767225600000 + i * 31 % 1000003 * 1000, 1767225600000 + i * 17 % 1000003 * 1000,
        iif(i % 10 = 0, 1767225600000, NULL), 'cli', 'openai', 'large', '/home/ada/' || (i * 13 % 20),
        'Find out why test number ' || i || ' hangs', 'Find out why test number ' || i || ' hangs on the second run',
        'Find out why test number ' || i || ' hangs on the second run of the day, and set it right', '1.2.3', i, 'main'
    FROM n";

/// The filters that a page may have at any size of the store.
const FILTERS: [(&str, Filter); 4] = [
    ("thread_page", |query| query),
    ("thread_page_folder", |query| query.cwd("/home/ada/3")),
    ("thread_page_archived_folder", |query| query.archived(true).cwd("/home/ada/0")),
    ("thread_page_8_folders", |query| query.cwds((0..8).map(|folder| format!("/home/ada/{folder}")))),
];

type Filter = fn(ThreadQuery) -> ThreadQuery;

pub(super) fn run(setting: &Setting, home: &Path, document: &mut Document) -> Result<()> {
    let stores = [("few", FEW), ("many", setting.threads)];
    let mut opened = Vec::new();
    for (name, threads) in stores {
        opened.push(filled(&home.join(name), threads)?);
    }
    let mut worst: f64 = 0.0;
    let time = setting.seconds / FILTERS.len() as u32;
    for (work, filter) in FILTERS {
        let mut rounds: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..setting.rounds {
            let pages = pages([&opened[0].1, &opened[1].1], filter, time)?;
            for (rounds, measured) in rounds.iter_mut().zip(pages) {
                rounds.push(measured);
            }
        }
        for ((name, threads), rounds) in stores.iter().zip(&rounds) {
            document.rows.push(Row {
                callers: Some(1),
                processes: Some(1),
                stored: Some(u64::from(*threads)),
                // One caller is served as it is served.
                slowest_over_fastest: None,
                ..Row::of(work, name, rounds)
            });
        }
        worst = worst.max(ratio(&rounds[1], &rounds[0], p50_us));
    }
    document.targets.push(Target::at_most("thread_page", worst, 2.0, "x"));
    Ok(())
}

fn filled(home: &Path, threads: u32) -> Result<(Runtime, Threads)> {
    let runtime = Runtime::builder(Home::at(home)).domain(Domain::state()).open()?;
    let database = runtime.database("state")?.label("fill").within(PATIENCE);
    for first in (0..threads).step_by(BATCH as usize) {
        let last = threads.min(first + BATCH) - 1;
        database.write(|tx| tx.execute(FILL, [first, last]))?;
    }
    let threads = runtime.threads();
    Ok((runtime, threads))
}

/// First pages of 50, of one store and the other in turns, in every order.
fn pages(stores: [&Threads; 2], filter: Filter, time: Duration) -> Result<[Measured; 2]> {
    let mut queries = Vec::new();
    for sort in [Sort::Created, Sort::Updated, Sort::Recency] {
        for direction in [Direction::Ascending, Direction::Descending] {
            queries.push(filter(ThreadQuery::recent().sort(sort).direction(direction)));
        }
    }
    let mut measured = [Measured::default(), Measured::default()];
    let begun = Instant::now();
    while begun.elapsed() < time {
        for query in &queries {
            for (threads, measured) in stores.iter().zip(&mut measured) {
                let before = Instant::now();
                let page = threads.list(query)?;
                let took = before.elapsed();
                debug_assert!(!page.threads.is_empty(), "every filter finds some");
                measured.ops += 1;
                measured.seconds += took.as_secs_f64();
                measured.latency.record(took);
            }
        }
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_fills_its_page_of_the_small_store() {
        let home = tempfile::tempdir().expect("a folder");
        let (_runtime, threads) = filled(home.path(), FEW).expect("filled");
        for (name, filter) in FILTERS {
            let found = threads.list(&filter(ThreadQuery::recent())).expect("a page").threads.len();
            assert_eq!(found, 50, "{name}");
        }
    }
}
