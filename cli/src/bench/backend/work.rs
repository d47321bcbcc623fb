//! What an agent program does all day to the shared state, on whichever engine: the same calls of the same stores.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rowhouse::stores::goals::{Accounting, GoalChange, NewGoal};
use rowhouse::stores::{ThreadFacts, Threads};
use rowhouse::{Error, ErrorKind, Result, Runtime, ThreadQuery};

use super::super::workloads::callers::{Measured, call_for};

/// One work by so many callers.
pub(super) struct Work {
    pub(super) name: &'static str,
    pub(super) callers: usize,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    /// A thread that goes on: its row with a new time and sum; every [`TURNS`]th one is a new thread.
    Upsert,
    /// Use added to the caller's own goal.
    Account,
    /// Use added to one goal by all.
    AccountShared,
    /// The first page of 50, newest first.
    Page,
    /// One thread by its id.
    Read,
}

const fn work(name: &'static str, what: What, callers: usize) -> Work {
    Work { name, callers, what }
}

pub(super) const WORKS: &[Work] = &[
    work("thread_upsert_1", What::Upsert, 1),
    work("thread_upsert_8", What::Upsert, 8),
    work("thread_upsert_64", What::Upsert, 64),
    work("goal_account_1", What::Account, 1),
    work("goal_account_8", What::Account, 8),
    work("goal_account_64", What::Account, 64),
    work("goal_shared_8", What::AccountShared, 8),
    work("goal_shared_64", What::AccountShared, 64),
    work("thread_page_1", What::Page, 1),
    work("thread_page_8", What::Page, 8),
    work("thread_page_64", What::Page, 64),
    work("thread_read_1", What::Read, 1),
    work("thread_read_8", What::Read, 8),
    work("thread_read_64", What::Read, 64),
];

/// Writes to a row before the next one is begun.
const TURNS: u32 = 16;
/// Goals: one for each caller, and the common one behind them.
const GOALS: u32 = 65;
const SHARED: u32 = GOALS - 1;
/// Threads that one transaction fills in.
const BATCH: u32 = 1_000;
/// Unix milliseconds at which the threads that are there begin.
const SINCE: i64 = 1_767_225_600_000;

/// What was acknowledged, to be compared with what is there.
#[derive(Default)]
pub(super) struct Counted {
    tokens: AtomicU64,
    /// The next thread to be made.
    next: AtomicU32,
}

/// New ids lie beside each other, as those do that begin with the time.
fn thread_id(number: u32) -> String {
    format!("{number:08x}-cadf-7b04-8f21-000000000001")
}

fn goal_id(number: u32) -> String {
    format!("{number:08x}-cadf-7b04-8f21-000000000002")
}

fn facts(number: u32, turn: u32) -> ThreadFacts {
    let begun = SINCE + i64::from(number) * 1_000;
    let now = begun + i64::from(turn) * 60_000;
    let asked = format!("Find out why test number {number} hangs");
    ThreadFacts {
        id: thread_id(number),
        created_at: begun,
        updated_at: now,
        recency_at: now,
        source: Some("cli".to_owned()),
        model_provider: Some("openai".to_owned()),
        model: Some("large".to_owned()),
        cwd: Some(format!("/home/ada/{}", number * 13 % 20)),
        preview: Some(format!("{asked} on the second run")),
        first_user_message: Some(format!("{asked} on the second run of the day, and set it right")),
        title: Some(asked),
        cli_version: Some("1.2.3".to_owned()),
        tokens_used: Some(i64::from(turn) * 1_000),
        ..ThreadFacts::default()
    }
}

/// Threads and goals to begin with.
///
/// # Errors
/// `Conflict` when there are some already; the engine's.
pub(super) fn fill(runtime: &Runtime, threads: u32) -> Result<()> {
    let (store, goals) = (runtime.threads(), runtime.goals());
    let is_empty = |query: ThreadQuery| store.list(&query.limit(1)).map(|page| page.threads.is_empty());
    if !(is_empty(ThreadQuery::recent())? && is_empty(ThreadQuery::recent().archived(true))?) {
        return Err(Error::new(ErrorKind::Conflict, "the database to be measured holds threads")
            .advise("name one that is empty: what the bench writes stays in it"));
    }
    for first in (0..threads).step_by(BATCH as usize) {
        let batch: Vec<_> = (first..threads.min(first + BATCH)).map(|number| facts(number, 0)).collect();
        store.upsert(&batch)?;
    }
    for goal in 0..GOALS {
        goals.replace(&goal_id(goal), &NewGoal::new("Use as much as possible"))?;
    }
    Ok(())
}

/// Lets callers work until the time is up; `threads` are there from the beginning.
///
/// # Errors
/// The first one that a caller met.
pub(super) fn run(
    work: &Work,
    runtime: &Runtime,
    counted: &Counted,
    threads: u32,
    time: Duration,
) -> Result<Measured> {
    let (store, goals, callers) = (runtime.threads(), runtime.goals(), AtomicU32::new(0));
    let account = |goal: u32| match goals.account(&goal_id(goal), 1, 1, Accounting::ActiveOnly, None)? {
        GoalChange::Changed(_) => {
            counted.tokens.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        _ => Err(Error::new(ErrorKind::NotFound, "the goal of the bench is gone")),
    };
    let newest = ThreadQuery::recent();
    call_for(work.callers, time, || {
        let caller = callers.fetch_add(1, Ordering::Relaxed);
        let (store, account, newest, what) = (store.clone(), &account, &newest, work.what);
        let mut own = 0;
        move |number| {
            let number = number as u32;
            match what {
                What::Upsert => {
                    if number.is_multiple_of(TURNS) {
                        own = threads + counted.next.fetch_add(1, Ordering::Relaxed);
                    }
                    store.upsert(&[facts(own, number % TURNS)]).map(drop)
                }
                What::Account => account(caller),
                What::AccountShared => account(SHARED),
                What::Page => store.list(newest).map(drop),
                What::Read => read(&store, (caller * 7_919 + number) % threads),
            }
        }
    })
}

fn read(store: &Threads, number: u32) -> Result<()> {
    match store.get(&thread_id(number))? {
        Some(_) => Ok(()),
        None => Err(Error::new(ErrorKind::NotFound, "a thread of the bench is gone")),
    }
}

/// Compares what the goals count with what was acknowledged.
///
/// # Errors
/// `Corrupt` when the two differ; the engine's.
pub(super) fn verify(runtime: &Runtime, counted: &Counted) -> Result<()> {
    let (goals, acknowledged) = (runtime.goals(), counted.tokens.load(Ordering::Relaxed));
    let mut used = 0;
    for goal in 0..GOALS {
        used += goals.get(&goal_id(goal))?.map_or(0, |goal| goal.tokens_used as u64);
    }
    if used == acknowledged {
        return Ok(());
    }
    let message = format!("{acknowledged} tokens were acknowledged, the goals counted {used}");
    Err(Error::new(ErrorKind::Corrupt, message))
}

#[cfg(test)]
mod tests {
    use rowhouse::{Domain, Home};

    use super::*;

    #[test]
    fn every_work_runs_on_a_file_and_what_it_counts_is_there() {
        let home = tempfile::tempdir().expect("a folder");
        let builder = Runtime::builder(Home::at(home.path())).domain(Domain::state()).domain(Domain::goals());
        let (runtime, counted) = (builder.open().expect("it opens"), Counted::default());
        fill(&runtime, 60).expect("filled");
        for work in WORKS {
            let seen = run(work, &runtime, &counted, 60, Duration::from_millis(5)).expect(work.name);
            assert!(seen.ops >= work.callers as u64, "{}", work.name);
        }
        verify(&runtime, &counted).expect("all of it");
        assert_eq!(fill(&runtime, 60).expect_err("in use").kind(), ErrorKind::Conflict);
        counted.tokens.fetch_add(1, Ordering::Relaxed);
        assert_eq!(verify(&runtime, &counted).expect_err("one less").kind(), ErrorKind::Corrupt);
    }
}
