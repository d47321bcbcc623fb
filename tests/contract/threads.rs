//! Paging neither skips nor repeats a thread, whatever the order, the ties, and the writers in between.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use rowhouse::stores::threads::Change;
use rowhouse::stores::{Direction, Sort, ThreadFacts, ThreadPage, ThreadRow, Threads};
use rowhouse::{Domain, Durability, ErrorKind, Home, Runtime, ThreadQuery};

use crate::engines;
use crate::processes::{self, Child};

const FOLDERS: [&str; 4] = ["/home/ada/ledger", "/home/ada/notes", "/home/ada/site", "/"];
const SOURCES: [&str; 3] = ["cli", "vscode", "exec"];

fn open(home: &Path) -> (Runtime, Threads) {
    let domain = Domain::state().durability(Durability::Normal);
    let runtime = Runtime::builder(Home::at(home)).domain(domain).open().expect("a runtime");
    let threads = runtime.threads();
    (runtime, threads)
}

fn threads() -> (tempfile::TempDir, Runtime, Threads) {
    let home = engines::home();
    let (runtime, threads) = open(home.path());
    (home, runtime, threads)
}

fn id(number: u32) -> String {
    format!("{:08x}-0000-7000-8000-{:012x}", number.wrapping_mul(0x9e37_79b1), number)
}

#[derive(Clone, Debug)]
struct Made {
    number: u32,
    times: [i64; 3],
    folder: usize,
    archived: bool,
    source: Option<usize>,
    provider: Option<usize>,
    parent: Option<u32>,
}

impl Made {
    fn facts(&self) -> ThreadFacts {
        ThreadFacts {
            id: id(self.number),
            created_at: self.times[0],
            updated_at: self.times[1],
            recency_at: self.times[2],
            cwd: Some(FOLDERS[self.folder].to_owned()),
            archived_at: if self.archived { Change::Set(1) } else { Change::Leave },
            source: self.source.map(|source| SOURCES[source].to_owned()),
            model_provider: self.provider.map(|provider| SOURCES[provider].to_owned()),
            ..ThreadFacts::default()
        }
    }
}

fn put(runtime: &Runtime, threads: &Threads, made: &[Made]) {
    let edges = runtime.spawn_edges();
    for one in made {
        if let Some(parent) = one.parent {
            edges.add(&id(parent), &id(one.number)).expect("an edge");
        }
    }
    threads.upsert(&made.iter().map(Made::facts).collect::<Vec<_>>()).expect("upsert");
}

/// Few times, folders, sources and parents: ties everywhere.
fn made(most: usize) -> impl Strategy<Value = Vec<Made>> {
    let word = || prop::option::of(0..SOURCES.len());
    let one = (any::<[u8; 3]>(), 0..FOLDERS.len(), any::<bool>(), word(), word(), prop::option::of(0..4_u32));
    prop::collection::vec(one, 0..most).prop_map(|all| {
        all.into_iter()
            .zip(0..)
            .map(|((times, folder, archived, source, provider, parent), number)| Made {
                number,
                times: times.map(|time| i64::from(time % 4) - 1),
                folder,
                archived,
                source,
                provider,
                parent: parent.map(|parent| parent * 3).filter(|parent| *parent < number),
            })
            .collect()
    })
}

/// A query, and what it should answer.
#[derive(Clone, Debug)]
struct Wanted {
    sort: Sort,
    direction: Direction,
    archived: bool,
    folders: Option<Vec<usize>>,
    sources: Option<Vec<usize>>,
    providers: Option<Vec<usize>>,
    parent: Option<u32>,
    ancestor: Option<u32>,
    limit: u32,
    looks: u32,
}

impl Wanted {
    fn query(&self) -> ThreadQuery {
        let mut query = ThreadQuery::recent()
            .sort(self.sort)
            .direction(self.direction)
            .archived(self.archived)
            .limit(self.limit)
            .looks(self.looks);
        let words = |words: &[usize]| words.iter().map(|word| SOURCES[*word]).collect::<Vec<_>>();
        if let Some(folders) = &self.folders {
            query = query.cwds(folders.iter().copied().map(folder_name));
        }
        if let Some(sources) = &self.sources {
            query = query.sources(words(sources));
        }
        if let Some(providers) = &self.providers {
            query = query.model_providers(words(providers));
        }
        if let Some(parent) = self.parent {
            query = query.children_of(&id(parent));
        }
        if let Some(ancestor) = self.ancestor {
            query = query.descendants_of(&id(ancestor).to_uppercase());
        }
        query
    }

    /// What the query should answer, computed without it.
    fn expected(&self, threads: &[Made]) -> Vec<String> {
        let any = |list: &Option<Vec<usize>>, one: Option<usize>| {
            list.as_ref().is_none_or(|list| one.is_some_and(|one| list.contains(&one)))
        };
        let below = |one: &Made, ancestor: u32| {
            let mut parent = one.parent;
            while let Some(up) = parent.filter(|up| *up != ancestor) {
                parent = threads.get(up as usize).and_then(|up| up.parent);
            }
            parent.is_some()
        };
        let mut rows: Vec<_> = threads
            .iter()
            .filter(|one| {
                one.archived == self.archived
                    && any(&self.folders, Some(one.folder))
                    && any(&self.sources, one.source)
                    && any(&self.providers, one.provider)
                    && self.parent.is_none_or(|parent| one.parent == Some(parent))
                    && self.ancestor.is_none_or(|ancestor| below(one, ancestor))
            })
            .map(|one| (one.times[self.sort as usize], id(one.number)))
            .collect();
        rows.sort();
        if self.direction == Direction::Descending {
            rows.reverse();
        }
        rows.into_iter().map(|(_, id)| id).collect()
    }
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let sort = prop::sample::select(vec![Sort::Created, Sort::Updated, Sort::Recency]);
    let direction = prop::sample::select(vec![Direction::Ascending, Direction::Descending]);
    // Some folders hold nothing, some lists need more than one walk, and the longest ones a look at every row.
    let folders = prop_oneof![
        3 => Just(None),
        3 => prop::collection::vec(0..FOLDERS.len() + 8, 0..12).prop_map(Some),
        2 => (0..FOLDERS.len()).prop_map(|one| Some(vec![one])),
        1 => (0..FOLDERS.len()).prop_map(|first| Some((first..first + 100).collect())),
    ];
    let words =
        || prop_oneof![2 => Just(None), 1 => prop::collection::vec(0..SOURCES.len(), 0..3).prop_map(Some)];
    let thread = || prop_oneof![4 => Just(None), 1 => (0..4_u32).prop_map(|number| Some(number * 3))];
    ((sort, direction, any::<bool>(), folders, words(), words()), (thread(), thread(), 1..7_u32, 1..15_u32))
        .prop_map(
            |((sort, direction, archived, folders, sources, providers), (parent, ancestor, limit, looks))| {
                Wanted {
                    sort,
                    direction,
                    archived,
                    folders,
                    sources,
                    providers,
                    parent,
                    ancestor,
                    limit,
                    looks,
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

proptest! {
    #![proptest_config(ProptestConfig { cases: engines::cases(u32::try_from(processes::rounds(32)).unwrap_or(u32::MAX)), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_order_and_filter_lists_each_thread_once(made in made(60), wanted in prop::collection::vec(wanted(), 12)) {
        let (_home, runtime, threads) = threads();
        put(&runtime, &threads, &made);
        for wanted in wanted {
            let pages = every_page(&threads, &wanted.query(), |_| {});
            prop_assert_eq!(ids(&pages), wanted.expected(&made), "{:?}", wanted);
        }
    }

    #[test]
    fn writers_between_pages_neither_hide_nor_double_a_thread(made in made(80), split in 0..80_usize, wanted in wanted()) {
        let (_home, runtime, threads) = threads();
        let (before, mut later) = made.split_at(split.min(made.len()));
        put(&runtime, &threads, before);
        let there: BTreeSet<_> = wanted.expected(before).into_iter().collect();
        let pages = every_page(&threads, &wanted.query(), |_| {
            let (now, rest) = later.split_at(later.len().min(3));
            put(&runtime, &threads, now);
            later = rest;
        });
        let listed = ids(&pages);
        let once: BTreeSet<_> = listed.iter().cloned().collect();
        prop_assert_eq!(once.len(), listed.len(), "no thread twice");
        prop_assert!(there.is_subset(&once), "no thread hidden");
    }

    #[test]
    fn a_backwards_cursor_lists_what_lies_before_its_page(made in made(60), wanted in wanted()) {
        let (_home, runtime, threads) = threads();
        put(&runtime, &threads, &made);
        let pages = every_page(&threads, &wanted.query(), |_| {});
        for (number, page) in pages.iter().enumerate() {
            let Some(cursor) = &page.backwards_cursor else {
                prop_assert!(page.threads.is_empty());
                continue;
            };
            let back = wanted.query().direction(wanted.direction.reversed());
            let mut listed = ids(&every_page(&threads, &back.cursor(cursor), |_| {}));
            listed.reverse();
            prop_assert_eq!(listed, ids(&pages[..number]));
        }
    }

    #[test]
    fn a_client_catches_up_from_its_first_page(made in made(60), split in 0..60_usize, wanted in wanted()) {
        let (_home, runtime, threads) = threads();
        let wanted = Wanted { sort: Sort::Created, direction: Direction::Descending, ..wanted };
        let (before, later) = made.split_at(split.min(made.len()));
        put(&runtime, &threads, before);
        let pages = every_page(&threads, &wanted.query(), |_| {});
        let Some(cursor) = pages.iter().find_map(|page| page.backwards_cursor.clone()) else { return Ok(()) };
        // What comes later is newer: there is no clock in the row that another writer could have set back.
        let later: Vec<_> =
            later.iter().map(|one| Made { times: one.times.map(|time| time + 10), ..one.clone() }).collect();
        put(&runtime, &threads, &later);
        let newer = wanted.query().direction(Direction::Ascending).cursor(cursor);
        let mut listed = ids(&every_page(&threads, &newer, |_| {}));
        listed.reverse();
        listed.extend(ids(&pages));
        let all: Vec<_> = before.iter().chain(&later).cloned().collect();
        prop_assert_eq!(listed, wanted.expected(&all));
    }
}

pub(super) fn child(arguments: &[String]) {
    let [role, home, from] = arguments else { panic!("three arguments: {arguments:?}") };
    assert_eq!(role, "write");
    let (runtime, threads) = open(home.as_ref());
    let from: u32 = from.parse().expect("a number");
    processes::ready();
    // New ones of the same few times; and others that were there, to the front and to the archive.
    for round in 0..150 {
        let one = |number, recency| Made {
            number,
            times: [0, 0, recency],
            folder: 0,
            archived: false,
            source: Some(0),
            provider: None,
            parent: None,
        };
        let archived = Made { archived: round % 2 == 0, ..one(1_000_000 + round % 10, 2) };
        put(
            &runtime,
            &threads,
            &[
                one(from + round, i64::from(round % 3)),
                one(2_000_000 + round % 10, i64::from(round)),
                archived,
            ],
        );
    }
    runtime.close(std::time::Duration::from_secs(20));
}

/// Threads that nobody touches are listed once by every walk, while two other processes and a thread write around them.
#[test]
fn writers_of_other_processes_neither_hide_nor_double_a_thread() {
    let (home, runtime, threads) = threads();
    let stays = |number: u32| Made {
        number,
        times: [0, 0, i64::from(number % 3)],
        folder: 0,
        archived: false,
        source: Some(number as usize % 2),
        provider: None,
        parent: None,
    };
    let all: Vec<_> = (0..200).map(stays).collect();
    put(&runtime, &threads, &all);
    let folder = home.path().to_str().expect("a path of letters");
    let mut children = ["10000", "20000"].map(|from| Child::start("write", &[folder, from]));
    processes::start_together(&mut children);
    let mine: BTreeSet<_> = all.iter().map(|one| id(one.number)).collect();
    let queries = [
        ThreadQuery::recent().limit(17),
        ThreadQuery::recent().direction(Direction::Ascending).cwd(FOLDERS[0]).limit(23),
        ThreadQuery::recent().sources([SOURCES[0], SOURCES[1]]).looks(40).limit(29),
    ];
    std::thread::scope(|scope| {
        let done = scope.spawn(|| children.into_iter().for_each(Child::finish));
        let mut rounds = 0;
        while !done.is_finished() || rounds < 3 {
            for query in &queries {
                let listed = ids(&every_page(&threads, query, |_| {}));
                let of_mine: Vec<_> = listed.into_iter().filter(|id| mine.contains(id)).collect();
                let once: BTreeSet<_> = of_mine.iter().cloned().collect();
                assert_eq!((once.len(), of_mine.len()), (mine.len(), mine.len()), "{query:?}");
            }
            rounds += 1;
        }
    });
}

fn plain(number: u32) -> Made {
    Made {
        number,
        times: [7; 3],
        folder: 0,
        archived: false,
        source: Some(0),
        provider: Some(0),
        parent: None,
    }
}

#[test]
fn no_folder_matches_nothing_and_no_list_matches_all() {
    let (_home, _runtime, threads) = threads();
    threads.upsert(&[plain(1).facts()]).expect("upsert");
    let none: [&str; 0] = [];
    for query in [
        ThreadQuery::recent().cwds(none),
        ThreadQuery::recent().sources(none),
        ThreadQuery::recent().model_providers(none),
        ThreadQuery::recent().children_of(&id(1)),
    ] {
        assert_eq!(threads.list(&query).expect("a page"), ThreadPage::default());
    }
    assert_eq!(threads.list(&ThreadQuery::recent()).expect("a page").threads.len(), 1);
    assert_eq!(
        threads.list(&ThreadQuery::recent().cwd("/home/ada/ledger/")).expect("a page").threads.len(),
        1
    );
    assert_eq!(threads.list(&ThreadQuery::recent().archived(true)).expect("a page"), ThreadPage::default());
}

#[test]
fn a_page_has_fifty_threads_unless_another_number_is_asked_for() {
    let (_home, _runtime, threads) = threads();
    let facts: Vec<_> = (0..501).map(|number| plain(number).facts()).collect();
    threads.upsert(&facts).expect("threads");
    let page = |query: &ThreadQuery| {
        let page = threads.list(query).expect("a page");
        (page.threads.len(), page.next_cursor.is_some())
    };
    assert_eq!(page(&ThreadQuery::recent()), (50, true));
    assert_eq!(page(&ThreadQuery::recent().limit(500)), (500, true));
    assert_eq!(page(&ThreadQuery::recent().limit(1)), (1, true));
}

#[test]
fn a_wrong_cursor_or_page_size_is_invalid_and_says_what_to_do() {
    let (_home, _runtime, threads) = threads();
    let made: Vec<_> = (0..3).map(|number| plain(number).facts()).collect();
    threads.upsert(&made).expect("upsert");
    let query = ThreadQuery::recent().limit(2);
    let page = threads.list(&query).expect("a page");
    let next = page.next_cursor.expect("there is more");
    for wrong in [
        query.clone().cursor(&next).sources(["cli"]),
        query.clone().cursor(&next).model_providers(["cli"]),
        query.clone().cursor(&next).cwd("/"),
        query.clone().cursor(&next).children_of(&id(1)),
        query.clone().cursor(&next).descendants_of(&id(1)),
        query.clone().children_of("no id"),
        query.clone().descendants_of(""),
        query.clone().sources((0..100_000).map(|number| number.to_string())),
        query.clone().model_providers((0..100_000).map(|number| number.to_string())),
        query.clone().cwds((0..100_000).map(|number| format!("/{number}"))),
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
    let facts = Made { folder: 3, ..plain(11) }.facts();
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
    let facts = Made { archived: true, ..plain(5) }.facts();
    threads.upsert(std::slice::from_ref(&facts)).expect("upsert");
    let row = threads.get(&facts.id).expect("a read").expect("the thread");
    let json = serde_json::to_string(&row).expect("json");
    assert_eq!(serde_json::from_str::<ThreadRow>(&json).expect("a thread"), row);
}

#[test]
fn the_longest_filters_are_answered() {
    let (_home, _runtime, threads) = threads();
    threads.upsert(&[plain(1).facts(), Made { source: None, ..plain(2) }.facts()]).expect("upsert");
    let many = || (0..9_999).map(|number| number.to_string());
    let sources = ThreadQuery::recent().sources(many().chain(["cli".to_owned()]));
    assert_eq!(threads.list(&sources).expect("a page").threads.len(), 1);
    let folders = ThreadQuery::recent().cwds(many().chain([FOLDERS[0].to_owned()]));
    assert_eq!(threads.list(&folders).expect("a page").threads.len(), 2);
    assert_eq!(threads.list(&folders.sources(many())).expect("a page").threads.len(), 0);
}

#[test]
fn a_rare_filter_answers_a_short_page_that_goes_on() {
    let (_home, _runtime, threads) = threads();
    let mut all: Vec<_> = (0..100).map(|number| plain(number).facts()).collect();
    all[3].source = Some("exec".to_owned());
    all[3].recency_at = 1;
    threads.upsert(&all).expect("upsert");
    let query = ThreadQuery::recent().sources(["exec"]).looks(30);
    let pages = every_page(&threads, &query, |_| {});
    assert_eq!(pages.iter().map(|page| page.threads.len()).collect::<Vec<_>>(), [0, 0, 0, 1]);
    assert_eq!(ids(&pages), [id(3)]);
    assert_eq!(threads.list(&ThreadQuery::recent().sources(["exec"])).expect("a page").threads.len(), 1);
}
