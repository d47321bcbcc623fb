//! Memories: each job is one worker's at a time, nothing is tried for ever, and what is chosen follows its use.
#![cfg(feature = "agent")]

mod processes;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rowhouse::stores::memories::{
    ConsolidateClaim, ExtractClaim, Memories, MemoryLimits, NewMemory, UsedOutput,
};
use rowhouse::stores::{ThreadFacts, Threads};
use rowhouse::{Domain, ErrorKind, Home, Runtime};

use processes::{Child, folder};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// The time at which the tests begin.
const NOW: i64 = 1_800_000_000_000;

thread_local!(static CLOCK: Cell<i64> = const { Cell::new(NOW) });

fn pass(time: i64) {
    CLOCK.set(CLOCK.get() + time);
}

struct Place {
    memories: Memories,
    threads: Threads,
    _runtime: Runtime,
}

fn on(runtime: Runtime) -> Place {
    let memories = runtime.memories().clock(|| CLOCK.get());
    Place { memories, threads: runtime.threads(), _runtime: runtime }
}

fn place() -> Place {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let home = format!("/nowhere/{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let runtime = Runtime::builder(Home::at(home)).domain(Domain::state()).ephemeral().open();
    on(runtime.expect("a runtime"))
}

fn id(number: usize) -> String {
    format!("019cadf1-7a5e-7b04-8f21-{number:012x}")
}

/// A thread that was last changed so long ago.
fn thread(place: &Place, number: usize, ago: i64) {
    let at = CLOCK.get() - ago;
    let facts = ThreadFacts {
        id: id(number),
        created_at: at,
        updated_at: at,
        recency_at: at,
        ..ThreadFacts::default()
    };
    place.threads.upsert(&[facts]).expect("a thread");
}

fn claim(place: &Place, most: u32) -> Vec<ExtractClaim> {
    place.memories.claim_extracts(most, None).expect("claims")
}

fn names(claims: &[ExtractClaim]) -> Vec<String> {
    claims.iter().map(|claim| claim.thread_id.clone()).collect()
}

fn memory(text: &str) -> NewMemory {
    NewMemory { raw_memory: text.to_owned(), rollout_summary: "About it".to_owned(), rollout_slug: None }
}

#[test]
fn threads_at_rest_are_claimed_newest_first() {
    let place = place();
    for (number, ago) in
        [(1, 13 * HOUR), (2, 12 * HOUR), (3, 12 * HOUR - 1), (4, 30 * DAY), (5, 30 * DAY + 1)]
    {
        thread(&place, number, ago);
    }
    thread(&place, 6, 20 * HOUR);
    assert!(place.memories.pollute(&id(6)).expect("polluted"), "its memories are not wanted");
    assert!(
        !place.memories.pollute(&id(6)).expect("again") && !place.memories.pollute(&id(99)).expect("none")
    );
    thread(&place, 7, 14 * HOUR);
    let claims = place.memories.claim_extracts(10, Some(&id(7).to_uppercase())).expect("claims");
    assert_eq!(names(&claims), [id(2), id(1), id(4)], "not too fresh, not too old, not the current one");
    assert_eq!(names(&claim(&place, 10)), [id(7)], "each once");
    assert_eq!(place.memories.claim_extracts(1, Some("nine")).expect_err("no id").kind(), ErrorKind::Invalid);
}

#[test]
fn one_claim_looks_through_a_bounded_number_of_threads() {
    let place = place();
    for number in 0..20 {
        thread(&place, number, 13 * HOUR + i64::try_from(number).expect("small"));
    }
    let mut limits = MemoryLimits::default();
    limits.scan = 5;
    let memories = place.memories.clone().limits(limits);
    assert_eq!(memories.claim_extracts(100, None).expect("claims").len(), 5);
    assert_eq!(
        memories.claim_extracts(100, None).expect("claims").len(),
        0,
        "those five are being worked on"
    );
}

#[test]
fn never_more_than_the_bound_are_worked_on() {
    let place = place();
    for number in 0..100 {
        thread(&place, number, 13 * HOUR);
    }
    let first = claim(&place, 40);
    assert_eq!(first.len(), 40);
    assert_eq!(claim(&place, 40).len(), 24, "64 in all");
    assert_eq!(claim(&place, 40).len(), 0);
    assert!(place.memories.extracted(&first[0], &memory("a")).expect("kept"));
    assert_eq!(claim(&place, 40).len(), 1, "one place is free");
    pass(HOUR);
    assert_eq!(claim(&place, 100).len(), 64, "who does not come back in an hour has lost it");
}

#[test]
fn a_failed_job_is_tried_three_times_more_and_again_when_there_is_more() {
    let place = place();
    thread(&place, 1, 13 * HOUR);
    for attempt in 0..4 {
        let claims = claim(&place, 1);
        assert_eq!(claims.len(), 1, "attempt {attempt}");
        assert!(place.memories.extract_failed(&claims[0], "no model").expect("told"));
        pass(HOUR - 1);
        assert_eq!(claim(&place, 1).len(), 0, "not before an hour");
        pass(1);
    }
    pass(DAY);
    assert_eq!(claim(&place, 1).len(), 0, "three retries, no more");
    assert_eq!(place.memories.status().expect("read").failed, 1);
    thread(&place, 1, 12 * HOUR);
    let claims = claim(&place, 1);
    assert_eq!(claims.len(), 1, "there is more in it now");
    assert!(place.memories.extracted(&claims[0], &memory("a")).expect("kept"));
    pass(20 * DAY);
    assert_eq!(claim(&place, 1).len(), 0, "nothing new");
}

#[test]
fn a_worker_that_dies_uses_up_a_try() {
    let place = place();
    thread(&place, 1, 13 * HOUR);
    for _ in 0..4 {
        assert_eq!(claim(&place, 1).len(), 1);
        pass(HOUR);
    }
    assert_eq!(claim(&place, 1).len(), 0);
}

#[test]
fn a_lost_lease_makes_every_mark_false() {
    let place = place();
    thread(&place, 1, 13 * HOUR);
    let lost = claim(&place, 1).remove(0);
    pass(HOUR);
    let held = claim(&place, 1).remove(0);
    assert_ne!(lost.token, held.token);
    assert!(!place.memories.extracted(&lost, &memory("late")).expect("refused"));
    assert!(!place.memories.extract_without_output(&lost).expect("refused"));
    assert!(!place.memories.extract_failed(&lost, "late").expect("refused"));
    assert_eq!(place.memories.output(&id(1)).expect("read"), None, "nothing of it was kept");
    assert!(place.memories.extracted(&held, &memory("held")).expect("kept"));
    assert!(!place.memories.extracted(&held, &memory("twice")).expect("it is over"));
    assert_eq!(place.memories.output(&id(1)).expect("read").expect("kept").memory.raw_memory, "held");
}

#[test]
fn success_without_output_removes_what_was_there() {
    let place = place();
    thread(&place, 1, 13 * HOUR);
    assert!(place.memories.extracted(&claim(&place, 1)[0], &memory("one")).expect("kept"));
    pass(DAY);
    thread(&place, 1, 12 * HOUR);
    assert!(place.memories.extract_without_output(&claim(&place, 1)[0]).expect("told"));
    assert_eq!(place.memories.output(&id(1)).expect("read"), None);
    let bad = NewMemory { raw_memory: "a\0b".to_owned(), ..NewMemory::default() };
    pass(DAY);
    thread(&place, 1, 12 * HOUR);
    let claims = claim(&place, 1);
    assert_eq!(place.memories.extracted(&claims[0], &bad).expect_err("refused").kind(), ErrorKind::Invalid);
}

/// Threads with an output each.
fn with_outputs(place: &Place, count: usize) {
    for number in 0..count {
        thread(place, number, 13 * HOUR + i64::try_from(number).expect("small"));
    }
    for claim in claim(place, 64) {
        assert!(place.memories.extracted(&claim, &memory(&claim.thread_id)).expect("kept"));
    }
}

fn select(place: &Place, most: u32, days: u64) -> (Vec<(String, bool)>, Vec<String>) {
    let found = place.memories.select(most, Duration::from_hours(24 * days)).expect("a selection");
    let selected = found.selected.into_iter().map(|one| (one.output.thread_id, one.is_retained)).collect();
    (selected, found.removed)
}

#[test]
fn what_is_used_most_is_chosen_first_then_what_is_newest() {
    let place = place();
    with_outputs(&place, 4);
    let in_order = |numbers: &[usize]| numbers.iter().map(|&one| (id(one), false)).collect::<Vec<_>>();
    assert_eq!(select(&place, 10, 30).0, in_order(&[0, 1, 2, 3]), "newest first");
    assert_eq!(place.memories.used(&[&id(3), &id(2), &id(77)]).expect("counted"), 2);
    pass(HOUR);
    assert_eq!(place.memories.used(&[&id(2)]).expect("counted"), 1);
    assert_eq!(select(&place, 3, 30).0, in_order(&[2, 3, 0]));
    pass(10 * DAY);
    assert_eq!(select(&place, 10, 10).0, in_order(&[2]), "the others were not used within ten days");
    assert!(place.memories.pollute(&id(2)).expect("polluted"));
    assert_eq!(select(&place, 10, 30).0, in_order(&[3, 0, 1]));
}

#[test]
fn a_selection_says_what_the_last_book_had_and_what_changed_since() {
    let place = place();
    with_outputs(&place, 3);
    let ConsolidateClaim::Claimed { token, watermark } = place.memories.claim_consolidate().expect("a claim")
    else {
        panic!("nobody else is there")
    };
    assert_eq!(watermark, NOW - 13 * HOUR);
    let used: Vec<UsedOutput> = place
        .memories
        .select(2, Duration::from_hours(240))
        .expect("two")
        .selected
        .iter()
        .map(Into::into)
        .collect();
    assert!(place.memories.consolidated(&token, watermark, &used).expect("done"));
    assert_eq!(select(&place, 3, 30).0, [(id(0), true), (id(1), true), (id(2), false)]);
    assert_eq!(place.memories.status().expect("read").selected, 2);

    pass(DAY);
    thread(&place, 1, 12 * HOUR);
    assert!(place.memories.extracted(&claim(&place, 1)[0], &memory("more")).expect("kept"));
    assert!(place.memories.pollute(&id(0)).expect("polluted"));
    let (selected, removed) = select(&place, 3, 30);
    assert_eq!(selected, [(id(1), false), (id(2), false)], "1 is another than the book has");
    assert_eq!(removed, [id(0)]);
}

#[test]
fn retention_prunes_only_what_is_not_selected() {
    let place = place();
    with_outputs(&place, 3);
    let ConsolidateClaim::Claimed { token, watermark } = place.memories.claim_consolidate().expect("a claim")
    else {
        panic!("nobody else is there")
    };
    let used = [UsedOutput { thread_id: id(1), source_updated_at: NOW - 13 * HOUR - 1 }];
    assert!(place.memories.consolidated(&token, watermark, &used).expect("done"));
    let month = Duration::from_hours(30 * 24);
    assert_eq!(place.memories.prune(month, 10).expect("none is old"), 0);
    pass(40 * DAY);
    assert_eq!(place.memories.prune(month, 1).expect("one"), 1, "oldest first");
    assert_eq!(place.memories.output(&id(2)).expect("read"), None);
    assert_eq!(place.memories.prune(month, 10).expect("one"), 1);
    assert!(place.memories.output(&id(1)).expect("read").is_some(), "the book has it");
}

#[test]
fn one_at_a_time_makes_the_book_and_not_too_often() {
    let place = place();
    let claim = || place.memories.claim_consolidate().expect("an answer");
    let token = |claim| match claim {
        ConsolidateClaim::Claimed { token, .. } => token,
        other => panic!("not claimed: {other:?}"),
    };
    let first = token(claim());
    assert_eq!(claim(), ConsolidateClaim::Running);
    pass(HOUR - 1);
    assert!(place.memories.heartbeat(&first).expect("kept"));
    pass(HOUR - 1);
    assert_eq!(claim(), ConsolidateClaim::Running);
    pass(1);
    let second = token(claim());
    assert!(!place.memories.heartbeat(&first).expect("lost"));
    assert!(!place.memories.consolidated(&first, 1, &[]).expect("lost"));
    assert!(!place.memories.consolidate_failed(&first, "late").expect("lost"));
    assert!(place.memories.consolidate_failed(&second, "no model").expect("told"));
    assert_eq!(claim(), ConsolidateClaim::RetryLater);
    pass(HOUR);
    let third = token(claim());
    assert!(place.memories.consolidated(&third, 0, &[]).expect("done"));
    assert_eq!(claim(), ConsolidateClaim::Cooldown);
    pass(6 * HOUR - 1);
    assert_eq!(claim(), ConsolidateClaim::Cooldown);
    pass(1);
    token(claim());
}

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [_, home] = &arguments[..] else { panic!("two arguments: {arguments:?}") };
    let place = on(Runtime::builder(Home::at(home)).domain(Domain::state()).open().expect("a runtime"));
    processes::ready();
    loop {
        let claims = claim(&place, 3);
        if claims.is_empty() {
            return;
        }
        for claim in claims {
            assert!(place.memories.extract_without_output(&claim).expect("told"));
            processes::say(&format!("did {}", claim.thread_id));
        }
    }
}

#[test]
fn processes_never_work_on_one_thread_twice() {
    let home = folder();
    let home_path: &Path = home.path();
    let runtime = Runtime::builder(Home::at(home_path)).domain(Domain::state()).open().expect("a runtime");
    let place = on(runtime);
    for number in 0..60 {
        thread(&place, number, 13 * HOUR);
    }
    let path = home_path.to_str().expect("text");
    let mut children: Vec<_> = (0..4).map(|_| Child::start("work", &[path])).collect();
    processes::start_together(&mut children);
    let said: Vec<String> = children.into_iter().flat_map(|child| child.end().0).collect();
    let done: Vec<&str> = said.iter().filter_map(|line| line.strip_prefix("did ")).collect();
    assert_eq!(done.len(), 60, "none twice");
    assert_eq!(done.into_iter().collect::<BTreeSet<_>>().len(), 60, "none left out");
}
