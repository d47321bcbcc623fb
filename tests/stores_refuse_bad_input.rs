//! Whatever is handed to a store is refused with a typed error, or taken as its documentation says; and what is refused has
//! changed nothing: the rows are compared before and after.
#![cfg(feature = "agent")]

use std::cell::Cell;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use rowhouse::stores::goals::{
    Accounting, GoalChange, GoalPatch, GoalQuery, GoalStatus, LONGEST_OBJECTIVE, NewGoal,
};
use rowhouse::stores::memories::{ConsolidateClaim, ExtractClaim, MemoryLimits, NewMemory, UsedOutput};
use rowhouse::stores::spawn_edges::SpawnStatus;
use rowhouse::stores::threads::{Change, SearchOrder, ThreadPatch, ThreadSearch};
use rowhouse::stores::{Direction, Sort, ThreadFacts};
use rowhouse::{Domain, ErrorKind, Home, Result, Runtime, ThreadQuery};

const THREAD: &str = "019cadf1-7a5e-7b04-8f21-000000000001";
const OTHER: &str = "019cadf1-7a5e-7b04-8f21-000000000002";
/// Of no row.
const UNKNOWN: &str = "019cadf1-7a5e-7b04-8f21-00000000ffff";
const NOW: i64 = 1_800_000_000_000;
const DAY: i64 = 86_400_000;
/// More than any list of a caller has.
const MANY: usize = 100_000;

/// What is no id of a thread.
const NO_IDS: [&str; 9] = [
    "",
    " ",
    "nine",
    "\0",
    "019cadf1-7a5e-7b04-8f21-00000000000",
    "019cadf1-7a5e-7b04-8f21-0000000000001",
    "019cadf1-7a5e-7b04-8f21-00000000000\0",
    "019cadf1x7a5e-7b04-8f21-000000000001",
    "' OR 1 = 1 --",
];

thread_local!(static CLOCK: Cell<i64> = const { Cell::new(NOW) });

/// Two threads at rest, one of which started the other, with a goal, an output, and a job that is being worked on.
struct Place {
    runtime: Runtime,
    claim: ExtractClaim,
}

fn facts(id: &str) -> ThreadFacts {
    let at = NOW - DAY;
    ThreadFacts {
        id: id.to_owned(),
        created_at: at,
        updated_at: at,
        recency_at: at,
        ..ThreadFacts::default()
    }
}

fn memory(text: &str) -> NewMemory {
    NewMemory { raw_memory: text.to_owned(), ..NewMemory::default() }
}

fn used(thread: &str) -> UsedOutput {
    UsedOutput { thread_id: thread.to_owned(), source_updated_at: NOW - DAY }
}

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let home = format!("/nowhere/{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let builder = Runtime::builder(Home::at(home)).domain(Domain::state()).domain(Domain::goals());
        let runtime = builder.ephemeral().open().expect("a runtime");
        runtime.threads().upsert(&[facts(THREAD), facts(OTHER)]).expect("threads");
        runtime.spawn_edges().add(THREAD, OTHER).expect("an edge");
        runtime.goals().replace(THREAD, &NewGoal::new("Ship it").token_budget(100)).expect("a goal");
        let memories = runtime.memories().clock(|| CLOCK.get());
        let mut claims = memories.claim_extracts(2, None).expect("claims");
        let claim = claims.pop().expect("two");
        assert!(memories.extracted(&claims[0], &memory("a")).expect("kept"));
        Self { runtime, claim }
    }

    fn memories(&self) -> rowhouse::stores::Memories {
        self.runtime.memories().clock(|| CLOCK.get())
    }

    /// Every row of every table.
    fn rows(&self) -> Vec<String> {
        const TABLES: [(&str, &str); 5] = [
            ("state", "SELECT * FROM thread ORDER BY 1"),
            ("state", "SELECT * FROM spawn_edge ORDER BY 1"),
            ("state", "SELECT * FROM memory_job ORDER BY 1, 2"),
            ("state", "SELECT * FROM memory_output ORDER BY 1"),
            ("goals", "SELECT * FROM goal ORDER BY 1"),
        ];
        let all = TABLES.iter().flat_map(|(name, sql)| {
            let database = self.runtime.database(name).expect("the domain");
            let row = |row: &rowhouse::rusqlite::Row<'_>| {
                let columns = row.as_ref().column_count();
                (0..columns).map(|column| row.get_ref(column).map(|value| format!("{value:?}"))).collect()
            };
            database.read(|at| at.rows::<Vec<String>>(sql, [], row)).expect("the rows")
        });
        all.map(|row| row.join("|")).collect()
    }

    /// Refused as invalid, and nothing is changed.
    fn refuses<T: Debug>(&self, what: &str, call: impl FnOnce(&Runtime) -> Result<T>) {
        let before = self.rows();
        let error = call(&self.runtime).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
        assert_eq!(self.rows(), before, "{what}");
    }

    /// Answered, and nothing is changed.
    #[expect(clippy::needless_pass_by_value, reason = "what is expected reads better as a value")]
    fn ignores<T: Debug + PartialEq>(
        &self,
        what: &str,
        expected: T,
        call: impl FnOnce(&Runtime) -> Result<T>,
    ) {
        let before = self.rows();
        assert_eq!(call(&self.runtime).expect(what), expected, "{what}");
        assert_eq!(self.rows(), before, "{what}");
    }
}

#[test]
fn what_is_no_id_is_refused_or_names_nothing() {
    let at = Place::new();
    let long = "a".repeat(16 << 20);
    for id in NO_IDS.into_iter().chain([long.as_str()]) {
        let goal = NewGoal::new("One");
        at.refuses("replace", |on| on.goals().replace(id, &goal));
        at.refuses("insert", |on| on.goals().insert(id, &goal));
        at.refuses("update", |on| on.goals().update(id, &GoalPatch::default().objective("Two")));
        at.refuses("an empty update", |on| on.goals().update(id, &GoalPatch::default()));
        at.refuses("pause", |on| on.goals().pause(id));
        at.refuses("usage limit", |on| on.goals().usage_limit(id));
        at.refuses("account", |on| on.goals().account(id, 1, 1, Accounting::ActiveOnly, None));
        at.refuses("delete", |on| on.goals().delete(id));
        at.ignores("get", None, |on| on.goals().get(id));

        at.refuses("add a child", |on| on.spawn_edges().add(THREAD, id));
        at.refuses("add to a parent", |on| on.spawn_edges().add(id, THREAD));
        at.refuses("set status", |on| on.spawn_edges().set_status(id, SpawnStatus::Closed, true));
        at.refuses("set below", |on| on.spawn_edges().set_descendants(id, SpawnStatus::Closed));
        at.ignores("parent", None, |on| on.spawn_edges().parent(id));
        at.ignores("children", 0, |on| on.spawn_edges().children(id, None).map(|found| found.len()));
        at.ignores("descendants", 0, |on| {
            on.spawn_edges().descendants(id, None).map(|found| found.edges.len())
        });

        at.refuses("upsert among good ones", |on| on.threads().upsert(&[facts(UNKNOWN), facts(id)]));
        at.ignores("get a thread", None, |on| on.threads().get(id));
        let pinned = ThreadPatch { is_pinned: Some(true), ..ThreadPatch::default() };
        at.refuses("patch", |on| on.threads().patch(id, &pinned));
        at.refuses("children of", |on| on.threads().list(&ThreadQuery::recent().children_of(id)));

        at.refuses("claim", |on| on.memories().claim_extracts(1, Some(id)));
        at.refuses("used", |on| on.memories().used(&[THREAD, id]));
        at.refuses("pollute", |on| on.memories().pollute(id));
        at.ignores("output", None, |on| on.memories().output(id));
        let forged = ExtractClaim { thread_id: id.to_owned(), ..at.claim.clone() };
        at.ignores("a mark for no thread", false, |on| on.memories().extracted(&forged, &memory("b")));
    }
}

#[test]
fn ids_of_nothing_change_nothing() {
    let at = Place::new();
    at.ignores("get", None, |on| on.goals().get(UNKNOWN));
    at.ignores("update", GoalChange::Missing, |on| {
        on.goals().update(UNKNOWN, &GoalPatch::default().objective("Two"))
    });
    at.ignores("pause", GoalChange::Missing, |on| on.goals().pause(UNKNOWN));
    at.ignores("account", GoalChange::Missing, |on| {
        on.goals().account(UNKNOWN, 1, 1, Accounting::ActiveOnly, None)
    });
    at.ignores("delete", None, |on| on.goals().delete(UNKNOWN));
    at.ignores("expected another", true, |on| {
        let patch = GoalPatch::default().objective("Two").expect("no id at all\0");
        Ok(matches!(on.goals().update(THREAD, &patch)?, GoalChange::Mismatch(_)))
    });
    at.ignores("parent", None, |on| on.spawn_edges().parent(UNKNOWN));
    at.ignores("close", 0, |on| on.spawn_edges().set_status(UNKNOWN, SpawnStatus::Closed, true));
    at.ignores("used", 0, |on| on.memories().used(&[UNKNOWN]));
    at.ignores("pollute", false, |on| on.memories().pollute(UNKNOWN));
    for token in ["", "\0", "' OR 1 = 1 --", UNKNOWN] {
        let forged = ExtractClaim { token: token.to_owned(), ..at.claim.clone() };
        at.ignores("extracted", false, |on| on.memories().extracted(&forged, &memory("b")));
        at.ignores("without output", false, |on| on.memories().extract_without_output(&forged));
        at.ignores("failed", false, |on| on.memories().extract_failed(&forged, "no model"));
        at.ignores("heartbeat", false, |on| on.memories().heartbeat(token));
        at.ignores("consolidated", false, |on| on.memories().consolidated(token, 1, &[used(THREAD)]));
        at.ignores("book failed", false, |on| on.memories().consolidate_failed(token, "no model"));
    }
}

#[test]
fn texts_that_are_empty_huge_or_hold_a_nul_are_refused_or_cut() {
    let at = Place::new();
    let long = "x".repeat(LONGEST_OBJECTIVE + 1);
    for objective in ["", " \n\t", "a\0b", &long] {
        at.refuses("replace", |on| on.goals().replace(THREAD, &NewGoal::new(objective)));
        at.refuses("insert", |on| on.goals().insert(OTHER, &NewGoal::new(objective)));
        at.refuses("update", |on| on.goals().update(THREAD, &GoalPatch::default().objective(objective)));
    }
    let huge = "é".repeat(1 << 20);
    for text in ["a\0b", &huge] {
        let summary = NewMemory { rollout_summary: text.to_owned(), ..NewMemory::default() };
        let slug = NewMemory { rollout_slug: Some(text.to_owned()), ..NewMemory::default() };
        for bad in [memory(text), summary, slug] {
            at.refuses("a memory", |on| on.memories().extracted(&at.claim, &bad));
        }
    }
    at.refuses("a reason", |on| on.memories().extract_failed(&at.claim, "a\0b"));
    at.refuses("a reason of a book", |on| on.memories().consolidate_failed("t", "a\0b"));
    assert!(at.memories().extract_failed(&at.claim, &huge).expect("a long reason is cut"));
    let kept = at.runtime.database("state").expect("the domain").read(|at| {
        at.row("SELECT length(CAST(error AS BLOB)) FROM memory_job WHERE error IS NOT NULL", [], |row| {
            row.get::<_, i64>(0)
        })
    });
    assert_eq!(kept.expect("a length"), 4 << 10);

    let written = ThreadFacts { title: Some(format!("a\0b{huge}")), model: Some(huge), ..facts(OTHER) };
    at.runtime.threads().upsert(&[written]).expect("cut");
    let row = at.runtime.threads().get(OTHER).expect("read").expect("a thread");
    assert!(row.title.expect("a title").starts_with("abéé"), "without the NUL");
    assert!(row.model.is_some_and(|model| model.len() == 64 << 10));
    let long = "x".repeat((64 << 10) + 1);
    for bad in ["a\0b", &long] {
        let named = ThreadPatch { name: Change::Set(bad.to_owned()), ..ThreadPatch::default() };
        let at_work = ThreadPatch { cwd: Change::Set(bad.to_owned()), ..ThreadPatch::default() };
        at.refuses("a name", |on| on.threads().patch(THREAD, &named));
        at.refuses("a folder", |on| on.threads().patch(THREAD, &at_work));
    }
    for bad in ["", " \n", "a\0b", &long] {
        at.refuses("a search", |on| on.threads().search(&ThreadSearch::text(bad)));
    }
}

#[test]
fn numbers_out_of_range_are_refused_or_count_as_the_nearest_good_one() {
    let at = Place::new();
    for budget in [0, -1, i64::MIN] {
        at.refuses("a budget", |on| on.goals().replace(THREAD, &NewGoal::new("One").token_budget(budget)));
        at.refuses("a budget", |on| {
            on.goals().update(THREAD, &GoalPatch::default().token_budget(Some(budget)))
        });
    }
    for delta in [0, -1, i64::MIN] {
        at.ignores("no use", true, |on| {
            let answer = on.goals().account(THREAD, delta, delta, Accounting::ActiveOrStopped, None)?;
            Ok(matches!(answer, GoalChange::Unchanged(_)))
        });
    }
    let spent = ThreadPatch { tokens_used: Some(-1), ..ThreadPatch::default() };
    at.refuses("tokens", |on| on.threads().patch(THREAD, &spent));
    for limit in [0, 501, u32::MAX] {
        at.refuses("a page of goals", |on| on.goals().list(&GoalQuery::new().limit(limit)));
        at.refuses("a page of threads", |on| on.threads().list(&ThreadQuery::recent().limit(limit)));
    }
    at.ignores("claim none", 0, |_| at.memories().claim_extracts(0, None).map(|claims| claims.len()));
    at.ignores("select none", 0, |on| {
        on.memories().select(0, Duration::MAX).map(|found| found.selected.len())
    });
    at.ignores("prune nothing", 0, |_| at.memories().prune(Duration::MAX, u32::MAX));
    at.ignores("prune none", 0, |_| at.memories().prune(Duration::ZERO, 0));
    assert_eq!(at.memories().select(u32::MAX, Duration::MAX).expect("all").selected.len(), 1);

    let times = [i64::MIN, -1, 0, i64::MAX];
    for (number, time) in times.into_iter().enumerate() {
        let id = format!("019cadf1-7a5e-7b04-8f21-{:012x}", 100 + number);
        let odd = ThreadFacts {
            created_at: time,
            updated_at: time,
            recency_at: time,
            tokens_used: Some(i64::MIN),
            ..facts(&id)
        };
        at.runtime.threads().upsert(&[odd]).expect("a thread");
        assert_eq!(at.runtime.threads().get(&id).expect("read").expect("a thread").tokens_used, 0);
    }
    for sort in [Sort::Created, Sort::Updated, Sort::Recency] {
        for direction in [Direction::Ascending, Direction::Descending] {
            let mut query = ThreadQuery::recent().sort(sort).direction(direction).limit(1);
            let mut seen = 0;
            while let Ok(page) = at.runtime.threads().list(&query) {
                seen += page.threads.len();
                let Some(cursor) = page.next_cursor else { break };
                query = query.cursor(cursor);
            }
            assert_eq!(seen, 6, "{sort:?} {direction:?}");
        }
    }
}

#[test]
fn lists_of_a_hundred_thousand_are_refused_before_anything_is_done() {
    let at = Place::new();
    let ids = vec![THREAD; MANY];
    at.refuses("used", |on| on.memories().used(&ids));
    let ConsolidateClaim::Claimed { token, .. } = at.memories().claim_consolidate().expect("a claim") else {
        panic!("nobody else is there")
    };
    at.refuses("a book", |on| on.memories().consolidated(&token, 1, &vec![used(THREAD); MANY]));
    at.refuses("a book of no thread", |on| {
        on.memories().consolidated(&token, 1, &[used(THREAD), used("nine")])
    });
    assert!(
        at.memories().consolidated(&token, 1, &[used(THREAD), used(UNKNOWN)]).expect("done"),
        "still its job"
    );
    let folders = || (0..MANY).map(|number| format!("/home/ada/{number}"));
    at.refuses("folders", |on| on.threads().list(&ThreadQuery::recent().cwds(folders())));
    at.refuses("sources", |on| on.threads().list(&ThreadQuery::recent().sources(folders())));
    at.refuses("model providers", |on| on.threads().list(&ThreadQuery::recent().model_providers(folders())));
    at.refuses("a search", |on| on.threads().search(&ThreadSearch::text("it").cwds(folders())));
    at.ignores("statuses", 1, |on| {
        let statuses = std::iter::repeat_n(GoalStatus::Active, MANY);
        on.goals().list(&GoalQuery::new().statuses(statuses)).map(|page| page.goals.len())
    });
}

#[test]
fn a_cursor_of_another_query_is_refused() {
    let at = Place::new();
    at.runtime.goals().replace(OTHER, &NewGoal::new("Two")).expect("a goal");
    let goals =
        at.runtime.goals().list(&GoalQuery::new().limit(1)).expect("a page").next_cursor.expect("more");
    let threads = at
        .runtime
        .threads()
        .list(&ThreadQuery::recent().limit(1))
        .expect("a page")
        .next_cursor
        .expect("more");
    at.refuses("other statuses", |on| {
        on.goals().list(&GoalQuery::new().statuses([GoalStatus::Paused]).cursor(&goals))
    });
    at.refuses("a list of threads", |on| on.goals().list(&GoalQuery::new().cursor(&threads)));
    at.refuses("a list of goals", |on| on.threads().list(&ThreadQuery::recent().cursor(&goals)));
    at.refuses("a search", |on| {
        on.threads().search(&ThreadSearch::text("it").by(SearchOrder::Recency).cursor(&threads))
    });
    at.refuses("another sort", |on| {
        on.threads().list(&ThreadQuery::recent().sort(Sort::Created).cursor(&threads))
    });
}

/// The ends of time, and back: nothing overflows, nothing is lost, and in ordinary time work goes on.
#[test]
fn a_clock_may_say_anything() {
    let at = Place::new();
    for now in [i64::MIN, -1, 0, 1, i64::MAX, NOW - 1_000 * DAY, NOW + 1_000 * DAY, i64::MIN, i64::MAX] {
        CLOCK.set(now);
        let memories = at.memories();
        let claims = memories.claim_extracts(u32::MAX, None).expect("claims");
        assert!(claims.len() <= 2);
        drop(memories.claim_consolidate().expect("an answer"));
        assert!(memories.status().expect("a status").outputs <= 2);
        drop(memories.select(9, Duration::MAX).expect("a selection"));
        assert!(memories.used(&[THREAD, OTHER]).expect("counted") <= 2);
        assert_eq!(memories.prune(Duration::MAX, 9).expect("pruned"), 0, "at {now}");
    }
    // Leases and cooldowns of those times end within the waits of this one.
    CLOCK.set(NOW);
    drop(at.memories().claim_consolidate().expect("an answer"));
    CLOCK.set(NOW + MemoryLimits::default().cooldown.as_millis() as i64 + DAY);
    let claim = at.memories().claim_consolidate().expect("an answer");
    assert!(matches!(claim, ConsolidateClaim::Claimed { .. }), "{claim:?}");
    let grown = ThreadFacts { updated_at: NOW, ..facts(OTHER) };
    at.runtime.threads().upsert(&[grown]).expect("a thread");
    let claims = at.memories().claim_extracts(9, None).expect("claims");
    assert!(claims.iter().any(|claim| claim.thread_id == OTHER), "{claims:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// No text that somebody makes up is an id, a cursor, a token or a goal's id by chance, and none changes anything.
    #[test]
    fn made_up_words_change_nothing(word in "\\PC{0,60}|[0-9a-f-]{30,40}|[gt]1[a-z0-9-]{0,60}|[\\x00-\\x7f]{0,20}") {
        thread_local!(static PLACE: Place = Place::new());
        PLACE.with(|at| {
            let before = at.rows();
            let on = &at.runtime;
            let invalid = |error: rowhouse::Error| error.kind() == ErrorKind::Invalid;
            prop_assert!(on.goals().list(&GoalQuery::new().cursor(&word)).is_err_and(invalid));
            prop_assert!(on.threads().list(&ThreadQuery::recent().cursor(&word)).is_err_and(invalid));
            prop_assert!(!at.memories().heartbeat(&word).expect("an answer"));
            prop_assert!(on.goals().pause(&word).map_or_else(invalid, |found| found == GoalChange::Missing));
            prop_assert!(on.goals().delete(&word).map_or_else(invalid, |found| found.is_none()));
            prop_assert!(on.memories().pollute(&word).map_or_else(invalid, |found| !found));
            let patch = GoalPatch::default().objective("Two").expect(&word);
            prop_assert!(matches!(on.goals().update(THREAD, &patch), Ok(GoalChange::Mismatch(_))));
            prop_assert_eq!(at.rows(), before);
            Ok(())
        })?;
    }
}
