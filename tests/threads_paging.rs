//! Paging neither skips nor repeats a thread, whatever the order, the ties, and the writers in between.
#![cfg(feature = "agent")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use rowhouse::stores::threads::Change;
use rowhouse::stores::{Direction, Sort, ThreadFacts, ThreadPage, ThreadRow, Threads};
use rowhouse::{Domain, Durability, ErrorKind, Home, Migration, Runtime, ThreadQuery};

const FOLDERS: [&str; 4] = ["/home/ada/ledger", "/home/ada/notes", "/home/ada/site", "/"];

fn threads() -> (tempfile::TempDir, Runtime, Threads) {
    let home = tempfile::tempdir().expect("a home");
    let migration = Migration { name: "V1__thread", sql: include_str!("../migrations_state/V1__thread.sql") };
    let domain = Domain::new("state").migrations(&[migration]).durability(Durability::Normal);
    let runtime = Runtime::builder(Home::at(home.path())).domain(domain).open().expect("a runtime");
    let threads = Threads::new(runtime.database("state").expect("the database"));
    (home, runtime, threads)
}

#[derive(Clone, Debug)]
struct Made {
    number: u32,
    times: [i64; 3],
    folder: usize,
    archived: bool,
}

impl Made {
    fn facts(&self) -> ThreadFacts {
        ThreadFacts {
            id: format!("{:08x}-0000-7000-8000-{:012x}", self.number.wrapping_mul(0x9e37_79b1), self.number),
            created_at: self.times[0],
            updated_at: self.times[1],
            recency_at: self.times[2],
            cwd: Some(FOLDERS[self.folder].to_owned()),
            archived_at: if self.archived { Change::Set(1) } else { Change::Leave },
            ..ThreadFacts::default()
        }
    }
}

/// Few times and few folders: ties everywhere.
fn made(most: usize) -> impl Strategy<Value = Vec<Made>> {
    let one = (any::<[u8; 3]>(), 0..FOLDERS.len(), any::<bool>());
    prop::collection::vec(one, 0..most).prop_map(|all| {
        all.into_iter()
            .zip(0..)
            .map(|((times, folder, archived), number)| Made {
                number,
                times: times.map(|time| i64::from(time % 4) - 1),
                folder,
                archived,
            })
            .collect()
    })
}

fn query() -> impl Strategy<Value = ThreadQuery> {
    let sort = prop::sample::select(vec![Sort::Created, Sort::Updated, Sort::Recency]);
    let direction = prop::sample::select(vec![Direction::Ascending, Direction::Descending]);
    let folders = prop::option::of(prop::collection::vec(0..FOLDERS.len() + 8, 0..12));
    (sort, direction, any::<bool>(), folders, 1..7_u32).prop_map(
        |(sort, direction, archived, folders, limit)| {
            let query = ThreadQuery::recent().sort(sort).direction(direction).archived(archived).limit(limit);
            match folders {
                None => query,
                // Some of them hold nothing, and some lists need more than one walk.
                Some(folders) => query.cwds(folders.into_iter().map(folder_name)),
            }
        },
    )
}

fn folder_name(index: usize) -> String {
    FOLDERS.get(index).map_or_else(|| format!("/empty/{index}"), |name| (*name).to_owned())
}

fn every_page(threads: &Threads, query: &ThreadQuery, mut between: impl FnMut(usize)) -> Vec<ThreadPage> {
    let mut pages: Vec<ThreadPage> = Vec::new();
    loop {
        let query = match pages.last() {
            None => query.clone(),
            Some(page) => match &page.next_cursor {
                Some(cursor) => query.clone().cursor(cursor),
                None => return pages,
            },
        };
        pages.push(threads.list(&query).expect("a page"));
        assert!(pages.len() < 1_000, "paging ends");
        between(pages.len());
    }
}

fn ids(pages: &[ThreadPage]) -> Vec<String> {
    pages.iter().flat_map(|page| &page.threads).map(|thread| thread.id.clone()).collect()
}

/// What the query should answer, computed without it.
fn expected(
    threads: &[Made],
    sort: Sort,
    direction: Direction,
    archived: bool,
    folders: Option<&[usize]>,
) -> Vec<String> {
    let mut rows: Vec<_> = threads
        .iter()
        .filter(|one| one.archived == archived && folders.is_none_or(|folders| folders.contains(&one.folder)))
        .map(|one| (one.times[sort as usize], one.facts().id))
        .collect();
    rows.sort();
    if direction == Direction::Descending {
        rows.reverse();
    }
    rows.into_iter().map(|(_, id)| id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_order_and_filter_lists_each_thread_once(made in made(60), limit in 1..9_u32, folders in prop::collection::vec(0..FOLDERS.len(), 0..4), empty in prop::sample::select(vec![0, 9])) {
        let (_home, _runtime, threads) = threads();
        threads.upsert(&made.iter().map(Made::facts).collect::<Vec<_>>()).expect("upsert");
        for sort in [Sort::Created, Sort::Updated, Sort::Recency] {
            for direction in [Direction::Ascending, Direction::Descending] {
                for archived in [false, true] {
                    for folders in [None, Some(&folders[..])] {
                        let query = ThreadQuery::recent().sort(sort).direction(direction).archived(archived).limit(limit);
                        let query = match folders {
                            None => query,
                            Some(folders) => {
                                // Empty folders between the others: more than one walk, merged.
                                let empty = FOLDERS.len()..FOLDERS.len() + empty;
                                query.cwds(folders.iter().copied().chain(empty).map(folder_name))
                            }
                        };
                        let pages = every_page(&threads, &query, |_| {});
                        prop_assert_eq!(ids(&pages), expected(&made, sort, direction, archived, folders));
                    }
                }
            }
        }
    }

    #[test]
    fn writers_between_pages_neither_hide_nor_double_a_thread(made in made(80), split in 0..80_usize, query in query()) {
        let (_home, _runtime, threads) = threads();
        let (before, mut later) = made.split_at(split.min(made.len()));
        threads.upsert(&before.iter().map(Made::facts).collect::<Vec<_>>()).expect("upsert");
        let there: BTreeSet<_> = ids(&every_page(&threads, &query.clone().limit(500), |_| {})).into_iter().collect();
        let pages = every_page(&threads, &query, |_| {
            let (now, rest) = later.split_at(later.len().min(3));
            threads.upsert(&now.iter().map(Made::facts).collect::<Vec<_>>()).expect("upsert");
            later = rest;
        });
        let listed = ids(&pages);
        let once: BTreeSet<_> = listed.iter().cloned().collect();
        prop_assert_eq!(once.len(), listed.len(), "no thread twice");
        prop_assert!(there.is_subset(&once), "no thread hidden");
    }

    #[test]
    fn a_backwards_cursor_lists_what_lies_before_its_page(made in made(60), query in query(), direction in any::<bool>()) {
        let (_home, _runtime, threads) = threads();
        threads.upsert(&made.iter().map(Made::facts).collect::<Vec<_>>()).expect("upsert");
        let direction = if direction { Direction::Ascending } else { Direction::Descending };
        let pages = every_page(&threads, &query.clone().direction(direction), |_| {});
        for (number, page) in pages.iter().enumerate() {
            let Some(cursor) = &page.backwards_cursor else {
                prop_assert!(page.threads.is_empty());
                continue;
            };
            let back = query.clone().direction(direction.reversed()).cursor(cursor);
            let mut first = threads.list(&back).expect("a page");
            let mut listed: Vec<_> = first.threads.iter().map(|thread: &ThreadRow| thread.id.clone()).collect();
            while let Some(next) = first.next_cursor.take() {
                first = threads.list(&back.clone().cursor(next)).expect("a page");
                listed.extend(first.threads.iter().map(|thread| thread.id.clone()));
            }
            listed.reverse();
            prop_assert_eq!(listed, ids(&pages[..number]));
        }
    }
}

#[test]
fn no_folder_matches_nothing_and_no_list_matches_all() {
    let (_home, _runtime, threads) = threads();
    let one = Made { number: 1, times: [1, 2, 3], folder: 0, archived: false };
    threads.upsert(&[one.facts()]).expect("upsert");
    let none: [&str; 0] = [];
    assert_eq!(threads.list(&ThreadQuery::recent().cwds(none)).expect("a page"), ThreadPage::default());
    assert_eq!(threads.list(&ThreadQuery::recent()).expect("a page").threads.len(), 1);
    assert_eq!(
        threads.list(&ThreadQuery::recent().cwd("/home/ada/ledger/")).expect("a page").threads.len(),
        1
    );
    assert_eq!(threads.list(&ThreadQuery::recent().archived(true)).expect("a page"), ThreadPage::default());
}

#[test]
fn a_wrong_cursor_or_page_size_is_invalid_and_says_what_to_do() {
    let (_home, _runtime, threads) = threads();
    let made: Vec<_> =
        (0..3).map(|number| Made { number, times: [7; 3], folder: 0, archived: false }.facts()).collect();
    threads.upsert(&made).expect("upsert");
    let query = ThreadQuery::recent().limit(2);
    let page = threads.list(&query).expect("a page");
    let next = page.next_cursor.expect("there is more");
    for wrong in [
        query.clone().cursor("garbage"),
        query.clone().cursor(&next).archived(true),
        query.clone().cursor(&next).sort(Sort::Created),
        query.clone().cursor(page.backwards_cursor.expect("not empty")),
        query.clone().limit(0),
        query.clone().limit(501),
    ] {
        let error = threads.list(&wrong).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.advice().is_some(), "{error}");
    }
    assert_eq!(threads.list(&query.cursor(next)).expect("the rest").threads.len(), 1);
}

#[test]
fn a_thread_is_found_by_its_id_in_any_case() {
    let (_home, _runtime, threads) = threads();
    let facts = Made { number: 11, times: [1, 2, 3], folder: 3, archived: false }.facts();
    threads.upsert(std::slice::from_ref(&facts)).expect("upsert");
    let found = threads.get(&facts.id.to_uppercase()).expect("a read").expect("the thread");
    assert_eq!((found.id, found.cwd.as_deref()), (facts.id, Some("/")));
    for missing in ["", "11", "00000000-0000-7000-8000-000000000000"] {
        assert!(threads.get(missing).expect("a read").is_none());
    }
    let bad = ThreadFacts { id: "eleven".to_owned(), ..ThreadFacts::default() };
    assert_eq!(threads.upsert(&[bad]).expect_err("no UUID").kind(), ErrorKind::Invalid);
}

#[test]
fn a_thread_goes_through_json_and_back() {
    let (_home, _runtime, threads) = threads();
    let facts = Made { number: 5, times: [1, 2, 3], folder: 1, archived: true }.facts();
    threads.upsert(std::slice::from_ref(&facts)).expect("upsert");
    let row = threads.get(&facts.id).expect("a read").expect("the thread");
    let json = serde_json::to_string(&row).expect("json");
    assert_eq!(serde_json::from_str::<ThreadRow>(&json).expect("a thread"), row);
}
