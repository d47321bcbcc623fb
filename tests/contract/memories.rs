//! Memories: each job is one worker's at a time, nothing is tried for ever, and what is chosen follows its use.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use rowhouse::stores::memories::{
    ConsolidateClaim, ExtractClaim, Memories, MemoryLimits, NewMemory, UsedOutput,
};
use rowhouse::stores::threads::{MemoryMode, ThreadPatch};
use rowhouse::stores::{ThreadFacts, Threads};
use rowhouse::{Domain, ErrorKind, Home, Runtime};

use crate::engines::{self, Alone};
use crate::processes::{self, Child};

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
    _alone: Option<Alone>,
}

fn on(runtime: Runtime) -> Place {
    let memories = runtime.memories().clock(|| CLOCK.get());
    Place { memories, threads: runtime.threads(), _runtime: runtime, _alone: None }
}

fn place() -> Place {
    let alone = engines::alone(Domain::state());
    let place = on(alone.runtime.clone());
    Place { _alone: Some(alone), ..place }
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
fn the_numbers_are_the_documented_ones() {
    let limits = MemoryLimits::default();
    assert_eq!((limits.scan, limits.running, limits.retries), (5_000, 64, 3));
    let hours = [limits.idle, limits.age, limits.lease, limits.retry_after, limits.cooldown];
    assert_eq!(hours.map(|time| time.as_secs() / 3600), [12, 30 * 24, 1, 1, 6]);
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
    for attempt in 0..3 {
        let claims = claim(&place, 1);
        assert_eq!(claims.len(), 1, "there is more in it now: attempt {attempt}");
        assert!(place.memories.extract_failed(&claims[0], "no model").expect("told"));
        pass(HOUR);
    }
    let claims = claim(&place, 1);
    assert_eq!(claims.len(), 1, "the last of as many tries as before");
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
fn success_keeps_all_that_was_drawn_and_counts_its_use() {
    let place = place();
    thread(&place, 1, 13 * HOUR);
    let drawn = NewMemory {
        raw_memory: "They like short answers".to_owned(),
        rollout_summary: "About the build".to_owned(),
        rollout_slug: Some("about-the-build".to_owned()),
    };
    let claim = claim(&place, 1).remove(0);
    pass(60);
    assert!(place.memories.extracted(&claim, &drawn).expect("kept"));
    let output = || place.memories.output(&id(1).to_uppercase()).expect("read").expect("an output");
    let source = NOW - 13 * HOUR;
    let kept = output();
    assert_eq!((&kept.memory, kept.source_updated_at, kept.generated_at), (&drawn, source, NOW + 60));
    assert_eq!((kept.usage_count, kept.last_used_at), (0, source), "never used: as old as its source");
    pass(DAY);
    assert_eq!(place.memories.used(&[&id(1)]).expect("counted"), 1);
    assert_eq!((output().usage_count, output().last_used_at), (1, CLOCK.get()));
    thread(&place, 1, 12 * HOUR);
    let again = place.memories.claim_extracts(1, None).expect("claims").remove(0);
    assert!(place.memories.extracted(&again, &memory("More")).expect("kept"));
    assert_eq!((output().usage_count, output().memory), (1, memory("More")), "how often it was of use stays");
}

#[test]
fn nothing_is_drawn_where_a_user_said_no() {
    let place = place();
    thread(&place, 1, 13 * HOUR);
    let say = |mode| {
        let patch = ThreadPatch { memory_mode: Some(mode), ..ThreadPatch::default() };
        place.threads.patch(&id(1), &patch).expect("a thread");
    };
    for mode in [MemoryMode::Disabled, MemoryMode::Polluted] {
        say(mode);
        assert_eq!(claim(&place, 1).len(), 0, "{mode:?}");
        // Its transcript is read again, and began with memories.
        let began = ThreadFacts {
            id: id(1),
            created_at: NOW - 13 * HOUR,
            updated_at: NOW - 13 * HOUR,
            memory_mode: Some(MemoryMode::Enabled),
            ..ThreadFacts::default()
        };
        place.threads.upsert(&[began]).expect("a thread");
        assert_eq!(claim(&place, 1).len(), 0, "{mode:?}");
    }
    say(MemoryMode::Enabled);
    assert_eq!(claim(&place, 1).len(), 1);
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

/// Whoever claims the job sees whether there is anything that the last book does not have.
#[test]
fn a_claim_of_the_book_says_up_to_where_the_last_one_was_made() {
    let place = place();
    let claim = || match place.memories.claim_consolidate().expect("a claim") {
        ConsolidateClaim::Claimed { token, watermark, last_watermark } => (token, watermark, last_watermark),
        other => panic!("not claimed: {other:?}"),
    };
    with_outputs(&place, 2);
    let newest = NOW - 13 * HOUR;
    let (token, watermark, last) = claim();
    assert_eq!((watermark, last), (newest, None));
    assert!(place.memories.consolidate_failed(&token, "no model").expect("told"));
    pass(HOUR);
    let (token, watermark, last) = claim();
    assert_eq!((watermark, last, place.memories.status().expect("read").watermark), (newest, None, None));
    assert!(place.memories.consolidated(&token, watermark, &[]).expect("done"));
    pass(6 * HOUR);
    let (token, watermark, last) = claim();
    assert_eq!((watermark, last), (newest, Some(newest)), "nothing is newer");
    assert!(place.memories.consolidated(&token, watermark, &[]).expect("done"));
    thread(&place, 1, 12 * HOUR);
    let more = place.memories.claim_extracts(1, None).expect("claims").remove(0);
    assert!(place.memories.extracted(&more, &memory("more")).expect("kept"));
    pass(6 * HOUR);
    let (_, watermark, last) = claim();
    assert_eq!((watermark, last), (more.source_updated_at, Some(newest)));
    assert_eq!(place.memories.status().expect("read").watermark, Some(newest));
}

#[test]
fn nothing_is_kept_of_a_thread_that_was_polluted_while_it_was_worked_on() {
    let place = place();
    with_outputs(&place, 1);
    pass(DAY);
    for (number, mode) in [(0, None), (1, Some(MemoryMode::Disabled))] {
        thread(&place, number, 13 * HOUR);
        let claimed = claim(&place, 1).remove(0);
        if mode.is_some() {
            let patch = ThreadPatch { memory_mode: mode, ..ThreadPatch::default() };
            place.threads.patch(&id(number), &patch).expect("a thread");
        } else {
            assert!(place.memories.pollute(&id(number)).expect("polluted"));
        }
        assert!(!place.memories.extracted(&claimed, &memory("of what nobody may know")).expect("an answer"));
        let kept = place.memories.output(&id(number)).expect("read");
        assert_eq!(kept.map(|kept| kept.memory), (number == 0).then(|| memory(&id(0))), "as it was");
    }
    let status = place.memories.status().expect("read");
    assert_eq!((status.extracting, status.done), (0, 2), "nobody waits for it");
    let ConsolidateClaim::Claimed { watermark, .. } = place.memories.claim_consolidate().expect("a claim")
    else {
        panic!("nobody else is there")
    };
    assert_eq!(watermark, NOW - 13 * HOUR, "nor does a book");
}

#[test]
fn a_short_name_is_fit_for_a_file() {
    let place = place();
    thread(&place, 1, 13 * HOUR);
    let claimed = claim(&place, 1).remove(0);
    let named = |slug: &str| NewMemory { rollout_slug: Some(slug.to_owned()), ..memory("a") };
    for bad in ["", ".", "..", ".hidden", "../../etc/passwd", "a/b", "a\\b", "a\0b", "a\nb", &"x".repeat(101)]
    {
        let error = place.memories.extracted(&claimed, &named(bad)).expect_err(bad);
        assert!(error.kind() == ErrorKind::Invalid && error.advice().is_some(), "{error}");
    }
    assert_eq!(place.memories.output(&id(1)).expect("read"), None);
    let good = named(&"\u{e4}".repeat(50));
    assert!(place.memories.extracted(&claimed, &good).expect("kept"));
    assert_eq!(place.memories.output(&id(1)).expect("read").expect("kept").memory, good);
}

#[test]
fn a_selection_says_what_the_last_book_had_and_what_changed_since() {
    let place = place();
    with_outputs(&place, 3);
    let ConsolidateClaim::Claimed { token, watermark, .. } =
        place.memories.claim_consolidate().expect("a claim")
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
    let ConsolidateClaim::Claimed { token, watermark, .. } =
        place.memories.claim_consolidate().expect("a claim")
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

pub(super) fn child(arguments: &[String]) {
    let [role, home] = arguments else { panic!("two arguments: {arguments:?}") };
    let place = on(Runtime::builder(Home::at(home)).domain(Domain::state()).open().expect("a runtime"));
    processes::ready();
    if role == "claim" {
        return processes::say(&claim(&place, 40).len().to_string());
    }
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

/// The bound is counted inside the claim: processes that claim at the same moment share it.
#[test]
fn never_more_than_the_bound_are_worked_on_by_all_processes() {
    let home = engines::home();
    let place =
        on(Runtime::builder(Home::at(home.path())).domain(Domain::state()).open().expect("a runtime"));
    for number in 0..200 {
        thread(&place, number, 13 * HOUR);
    }
    let path = home.path().to_str().expect("text");
    let mut children: Vec<_> = (0..4).map(|_| Child::start("claim", &[path])).collect();
    processes::start_together(&mut children);
    let claimed =
        children.iter().map(|child| child.line().expect("a number").parse::<i64>().expect("a number"));
    assert_eq!(claimed.sum::<i64>(), 64, "four asked for 40 each");
    children.into_iter().for_each(Child::finish);
    assert_eq!(place.memories.status().expect("read").extracting, 64);
}

#[test]
fn processes_never_work_on_one_thread_twice() {
    let home = engines::home();
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

/// What one of several workers does, or the clock.
#[derive(Clone, Debug)]
enum Move {
    /// Forwards or backwards.
    Pass(i64),
    /// A thread grows, and comes to rest again.
    Grow(usize),
    Claim,
    /// Marks one of all claims that were ever made: extracted, without output, failed.
    Mark(usize, u8),
    ClaimBook,
    Heartbeat(usize),
    /// Done or failed.
    MarkBook(usize, bool),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        3 => (-3 * HOUR..3 * HOUR).prop_map(Move::Pass),
        1 => (0usize..4).prop_map(Move::Grow),
        3 => Just(Move::Claim),
        4 => (any::<usize>(), 0u8..3).prop_map(|(which, how)| Move::Mark(which, how)),
        3 => Just(Move::ClaimBook),
        2 => any::<usize>().prop_map(Move::Heartbeat),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, how)| Move::MarkBook(which, how)),
    ];
    proptest::collection::vec(one, 1..60)
}

/// Who has a job, by the token, and until when.
#[derive(Clone, Debug)]
struct Owner {
    token: String,
    until: i64,
}

impl Owner {
    fn new(token: &str) -> Self {
        Self { token: token.to_owned(), until: CLOCK.get() + HOUR }
    }

    /// What a claim makes of a lease that ends later than one that begins now.
    fn cut(&mut self) {
        self.until = self.until.min(CLOCK.get() + HOUR);
    }

    fn is_alive(&self) -> bool {
        self.until > CLOCK.get()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: engines::cases(150), failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever workers do, in whatever order, and wherever the clock jumps: a job has at most one owner, nobody alive loses
    /// one, and a mark is true for the owner alone.
    #[test]
    fn a_job_has_at_most_one_owner(moves in moves()) {
        CLOCK.set(NOW);
        let place = place();
        for number in 0..4 {
            thread(&place, number, 20 * HOUR);
        }
        let mut claims: Vec<ExtractClaim> = Vec::new();
        let mut owners: BTreeMap<String, Owner> = BTreeMap::new();
        let mut tokens: Vec<String> = Vec::new();
        let mut book: Option<Owner> = None;
        for one in moves {
            match one {
                Move::Pass(time) => pass(time),
                Move::Grow(number) => thread(&place, number, 13 * HOUR),
                Move::Claim => {
                    owners.values_mut().for_each(Owner::cut);
                    for new in claim(&place, 2) {
                        let before = owners.insert(new.thread_id.clone(), Owner::new(&new.token));
                        prop_assert!(!before.as_ref().is_some_and(Owner::is_alive), "{before:?} lost {new:?}");
                        claims.push(new);
                    }
                }
                Move::Mark(which, how) if !claims.is_empty() => {
                    let marked = &claims[which % claims.len()];
                    let answer = match how {
                        0 => place.memories.extracted(marked, &memory("a")),
                        1 => place.memories.extract_without_output(marked),
                        _ => place.memories.extract_failed(marked, "no model"),
                    };
                    let owns = owners.get(&marked.thread_id).is_some_and(|owner| owner.token == marked.token);
                    prop_assert_eq!(answer.expect("an answer"), owns);
                    if owns {
                        owners.remove(&marked.thread_id);
                    }
                }
                Move::ClaimBook => {
                    book.iter_mut().for_each(Owner::cut);
                    let alive = book.as_ref().is_some_and(Owner::is_alive);
                    match place.memories.claim_consolidate().expect("an answer") {
                        ConsolidateClaim::Claimed { token, .. } => {
                            prop_assert!(!alive, "{book:?} lost the book");
                            book = Some(Owner::new(&token));
                            tokens.push(token);
                        }
                        other => prop_assert_eq!(alive, other == ConsolidateClaim::Running),
                    }
                }
                Move::Heartbeat(which) if !tokens.is_empty() => {
                    let token = &tokens[which % tokens.len()];
                    let owns = book.as_ref().is_some_and(|owner| owner.token == *token);
                    prop_assert_eq!(place.memories.heartbeat(token).expect("an answer"), owns);
                    if owns {
                        book = Some(Owner::new(token));
                    }
                }
                Move::MarkBook(which, done) if !tokens.is_empty() => {
                    let token = &tokens[which % tokens.len()];
                    let answer = if done {
                        place.memories.consolidated(token, 1, &[])
                    } else {
                        place.memories.consolidate_failed(token, "no model")
                    };
                    let owns = book.as_ref().is_some_and(|owner| owner.token == *token);
                    prop_assert_eq!(answer.expect("an answer"), owns);
                    if owns {
                        book = None;
                    }
                }
                Move::Mark(..) | Move::Heartbeat(_) | Move::MarkBook(..) => {}
            }
        }
    }
}

/// A clock that was years ahead when jobs were claimed, failed or done is set right: nobody alive loses a job at once, and
/// nothing lasts longer than it can.
#[test]
fn a_clock_set_back_keeps_nothing_for_ever() {
    const YEARS: i64 = 1_000 * DAY;
    let place = place();
    let book = || place.memories.claim_consolidate().expect("an answer");
    let token = |claim| match claim {
        ConsolidateClaim::Claimed { token, .. } => token,
        other => panic!("not claimed: {other:?}"),
    };
    pass(YEARS);
    thread(&place, 1, 13 * HOUR);
    let lost = claim(&place, 1).remove(0);
    let first = token(book());
    CLOCK.set(NOW);
    thread(&place, 1, 13 * HOUR);
    assert_eq!(claim(&place, 1).len(), 0, "its owner may be alive");
    assert_eq!(book(), ConsolidateClaim::Running);
    pass(HOUR);
    let held = claim(&place, 1).remove(0);
    assert!(!place.memories.extracted(&lost, &memory("late")).expect("lost"));
    let second = token(book());
    assert!(!place.memories.heartbeat(&first).expect("lost"));

    pass(YEARS);
    assert!(place.memories.extract_failed(&held, "no model").expect("told"));
    assert!(place.memories.consolidate_failed(&second, "no model").expect("told"));
    CLOCK.set(NOW + 2 * HOUR);
    assert_eq!(claim(&place, 1).len(), 1, "a retry of years is due");
    assert_eq!(book(), ConsolidateClaim::RetryLater);
    pass(HOUR);
    let third = token(book());

    pass(YEARS);
    assert!(place.memories.consolidated(&third, 0, &[]).expect("done"));
    CLOCK.set(NOW + 4 * HOUR);
    assert_eq!(book(), ConsolidateClaim::Cooldown);
    assert_eq!(place.memories.status().expect("read").cooldown_until, Some(NOW + 10 * HOUR));
    pass(6 * HOUR);
    token(book());
}

/// A clock that is set ahead ends leases early: who had the job is told so, and keeps nothing.
#[test]
fn a_clock_set_ahead_ends_a_lease_early_and_says_so() {
    let place = place();
    thread(&place, 1, 13 * HOUR);
    let first = claim(&place, 1).remove(0);
    pass(DAY);
    let second = claim(&place, 1).remove(0);
    CLOCK.set(NOW);
    assert!(!place.memories.extracted(&first, &memory("late")).expect("lost"));
    assert!(place.memories.extracted(&second, &memory("held")).expect("kept"));
}

#[test]
fn the_status_says_when_the_next_book_may_be_made() {
    let place = place();
    with_outputs(&place, 1);
    let status = || place.memories.status().expect("read");
    assert_eq!((status().consolidated_at, status().cooldown_until), (None, None));
    let ConsolidateClaim::Claimed { token, watermark, .. } =
        place.memories.claim_consolidate().expect("a claim")
    else {
        panic!("nobody else is there")
    };
    assert!(status().consolidating);
    assert!(place.memories.consolidated(&token, watermark, &[]).expect("done"));
    let made = CLOCK.get();
    assert_eq!(status().cooldown_until, Some(made + 6 * HOUR));
    pass(6 * HOUR);
    let ConsolidateClaim::Claimed { token, .. } = place.memories.claim_consolidate().expect("a claim") else {
        panic!("it cooled")
    };
    assert!(place.memories.consolidate_failed(&token, "no model").expect("told"));
    let status = status();
    assert_eq!(status.consolidated_at, Some(made), "the last success, not the failure after it");
    assert_eq!((status.cooldown_until, status.retry_at), (None, Some(CLOCK.get() + HOUR)));
    assert_eq!((status.done, status.extracting, status.lost, status.failed), (1, 0, 0, 0));
}
