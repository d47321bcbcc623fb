//! A home whose threads are on a server shows all of them: its export is whole, a transcript that stayed outside it is still
//! read, and an import of the export is the same home in files.
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod engines;
mod processes;
mod transcripts;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use engines::server::{configure, shared};
use processes::folder;
use rowhouse::portable::{ExportReport, ImportOptions};
use rowhouse::rollout::{Item, NewRollout, walk};
use rowhouse::stores::ThreadFacts;
use rowhouse::stores::goals::{Goal, NewGoal};
use rowhouse::stores::threads::{Change, ThreadPatch};
use rowhouse::thread_store::{ForkPoint, ItemsView, ThreadStore, TurnQuery};
use rowhouse::{Backend, Builder, Domain, ErrorKind, Home, MoveOptions, Runtime};
use serde_json::json;
use transcripts::id;

fn builder(home: &Path) -> Builder {
    Runtime::builder(Home::at(home)).domain(Domain::state()).domain(Domain::goals())
}

fn open(home: &Path) -> Runtime {
    builder(home).open().expect("the home opens")
}

/// Says where the server is, and moves the home.
fn migrate(home: &Path, to: Backend) {
    let mut options = MoveOptions::to(to);
    options.wait = Duration::from_mins(1);
    builder(home).migrate_backend(&options, &mut |_| {}).expect("moved");
}

fn name_server(home: &Path) -> String {
    let database = shared().new_database();
    let config = format!("[state.postgres]\nurl = \"{}\"\npool_size = 4\n", shared().url("app", &database));
    std::fs::write(home.join("config.toml"), config).expect("written");
    database
}

fn message(kind: &str, text: &str) -> Item {
    Item::new("event_msg", &json!({"type": kind, "message": text})).expect("an item")
}

fn begin(store: &dyn ThreadStore, number: usize, items: &[Item]) {
    let new = NewRollout {
        id: Some(id(number)),
        started_at: Some(1_767_225_600_000 + i64::try_from(number).expect("small") * 86_400_000),
        cwd: Some("/work".to_owned()),
        ..NewRollout::default()
    };
    store.create(&new).expect("created");
    store.append_items(&id(number), items).expect("appended");
    store.shutdown(&id(number)).expect("shut down");
}

/// A turn, with what is hard to carry.
fn turn(number: usize) -> [Item; 3] {
    [
        message("user_message", &format!("Fix part {number}")),
        message("agent_message", "a NUL \0, a line\nbreak, 日本 \u{2028}"),
        Item::line(r#"{ "payload" : 1.10e0,  "type":"later\u0000"}"#).expect("a line"),
    ]
}

/// More than two pages, by count and by bytes.
fn long() -> Vec<Item> {
    (0..1_100).map(|number| message("agent_message", &format!("{number} {}", "x".repeat(2_000)))).collect()
}

fn rename(store: &dyn ThreadStore, number: usize, name: &str) {
    let patch =
        ThreadPatch { name: Change::Set(name.to_owned()), is_pinned: Some(true), ..ThreadPatch::default() };
    store.update_metadata(&id(number), &patch).expect("renamed");
}

/// What a home shows of a thread.
#[derive(Debug, PartialEq)]
struct Shown {
    title: Option<String>,
    name: Option<String>,
    is_pinned: bool,
    archived: bool,
    created_at: i64,
    forked_from: Option<String>,
    goal: Option<Goal>,
    items: String,
    turns: usize,
}

fn shown(home: &Path) -> BTreeMap<String, Shown> {
    let runtime = open(home);
    let store = runtime.thread_store().expect("a store");
    let mut all = BTreeMap::new();
    for archived in [false, true] {
        let query = rowhouse::ThreadQuery::recent().archived(archived).limit(100);
        for row in store.list(&query).expect("a list").threads {
            let items = store.load_history(&row.id).expect("a history");
            let items = items.map(|item| item.expect("an item").text().to_owned() + "\n").collect();
            let turns = store.list_turns(&row.id, &TurnQuery::default()).expect("turns").turns.len();
            let goal = runtime.goals().get(&row.id).expect("a goal");
            let shown = Shown {
                title: row.title,
                name: row.name,
                is_pinned: row.is_pinned,
                archived,
                created_at: row.created_at,
                forked_from: row.forked_from_id,
                goal,
                items,
                turns,
            };
            all.insert(row.id, shown);
        }
    }
    all
}

fn export(home: &Path, file: &Path) -> ExportReport {
    open(home).export_home(file, &mut |_| {}).expect("exported")
}

fn names(home: &Path) -> Vec<String> {
    let found = walk(home).expect("a walk").flatten();
    let mut names: Vec<_> =
        found.map(|file| file.path.strip_prefix(home).expect("inside").display().to_string()).collect();
    names.sort();
    names
}

/// The controls: the same home before it went to the server, and its folder, which an export of files alone would find empty.
#[test]
fn an_export_of_a_home_on_a_server_is_that_home_in_files() {
    const PLAIN: usize = 0;
    const ARCHIVED: usize = 1;
    const LONG: usize = 2;
    const BORN_THERE: usize = 3;
    const FORK: usize = 4;
    let (home, place) = (folder(), folder());
    let home = home.path();
    let runtime = open(home);
    let store = runtime.thread_store().expect("a store");
    begin(&*store, PLAIN, &turn(PLAIN));
    begin(&*store, ARCHIVED, &turn(ARCHIVED));
    begin(&*store, LONG, &long());
    rename(&*store, PLAIN, "Ledger");
    store.archive(&id(ARCHIVED)).expect("archived");
    runtime.goals().replace(&id(PLAIN), &NewGoal::new("Ship it")).expect("a goal");
    drop((store, runtime));
    let in_files = export(home, &place.path().join("in_files"));
    let before = shown(home);

    name_server(home);
    migrate(home, Backend::Postgres);
    let moved = export(home, &place.path().join("moved"));
    assert_eq!((moved.counts, moved.left_out), (in_files.counts, 0), "the same threads, byte for byte");
    // What an export of the files of this home has: nothing.
    assert_eq!(names(home), [] as [&str; 0]);

    let runtime = open(home);
    let store = runtime.thread_store().expect("a store");
    begin(&*store, BORN_THERE, &turn(BORN_THERE));
    rename(&*store, BORN_THERE, "Begun there");
    let fork = NewRollout { id: Some(id(FORK)), ..NewRollout::default() };
    store.fork(&id(LONG), &ForkPoint::End, &fork).expect("a fork");
    store.shutdown(&id(FORK)).expect("shut down");
    runtime.goals().replace(&id(BORN_THERE), &NewGoal::new("Here, too")).expect("a goal");
    // Somebody goes on meanwhile, and is in nobody's way.
    store.resume(&id(LONG)).expect("resumed");
    store.append_items(&id(LONG), &turn(LONG)).expect("appended");
    let there = shown(home);
    assert_eq!((before.len(), there.len()), (3, 5));
    let file = place.path().join("there");
    let report = export(home, &file);
    store.shutdown(&id(LONG)).expect("shut down");
    drop((store, runtime));
    assert_eq!((report.counts.rows, report.counts.transcripts, report.left_out), (5, 5, 0), "{report:?}");

    let other = folder();
    let imported = open(other.path()).import_home(&file, &ImportOptions::default(), &mut |_| {});
    assert_eq!(imported.map(|report| (report.new, report.left)).ok(), Some((5, 0)));
    assert_eq!(shown(other.path()), there);
    let again = open(other.path()).import_home(&file, &ImportOptions::default(), &mut |_| {});
    assert_eq!(again.map(|report| report.unchanged).ok(), Some(5), "twice is once");
    // Read anew from its transcripts alone it has the same histories.
    let histories = |home: &Path| {
        shown(home).into_iter().map(|(id, shown)| (id, shown.items)).collect::<BTreeMap<_, _>>()
    };
    migrate(home, Backend::Sqlite);
    assert_eq!(names(other.path()), names(home), "the same names as a move gives them");
    let (imported, back) = (histories(other.path()), histories(home));
    assert_eq!(imported.len(), back.len());
    for (id, items) in imported {
        // What was said of it on the server stands behind, once.
        let said = back[&id].strip_prefix(&*items).unwrap_or_else(|| panic!("the same items: {id}"));
        assert!(said.is_empty() || said.lines().all(|line| line.contains("thread_metadata")), "{said}");
        assert!(said.lines().count() <= 1, "{said}");
    }
}

#[test]
fn a_history_that_is_none_is_told_and_not_exported() {
    let (home, place) = (folder(), folder());
    let home = home.path();
    let database = shared().new_database();
    configure(home, &shared().url("app", &database));
    let runtime = open(home);
    let store = runtime.thread_store().expect("a store");
    for number in 0..3 {
        begin(&*store, number, &turn(number));
    }
    let mut client = shared().client(&database);
    let spoil = |client: &mut postgres::Client, text: &str| {
        client.batch_execute(&format!("SET search_path = rowhouse_state; {text}")).expect("spoilt");
    };
    spoil(&mut client, &format!("DELETE FROM thread_item WHERE thread_id = '{}' AND seq = 1", id(1)));
    spoil(
        &mut client,
        &format!("UPDATE thread_item SET item = '\\xff' WHERE thread_id = '{}' AND seq = 0", id(2)),
    );
    let report = export(home, &place.path().join("threads"));
    assert_eq!((report.counts.rows, report.counts.transcripts, report.left_out), (3, 1, 2), "{report:?}");
    let told: Vec<_> = report.problems.iter().filter_map(|problem| problem.thread.clone()).collect();
    assert_eq!(told, [id(1), id(2)]);
}

/// The control: the same home in files, before it went and when it is back.
#[test]
fn a_transcript_that_stayed_outside_is_read_there_and_changed_nowhere() {
    const OUTSIDE: usize = 0;
    const GONE: usize = 1;
    let (home, elsewhere, place) = (folder(), folder(), folder());
    let home = home.path();
    let path = transcripts::write(elsewhere.path(), OUTSIDE, 0);
    let runtime = open(home);
    let facts = |number, path: &str| ThreadFacts {
        id: id(number),
        title: Some(transcripts::title(number)),
        rollout_path: Some(path.to_owned()),
        ..ThreadFacts::default()
    };
    let rows = [facts(OUTSIDE, path.to_str().expect("text")), facts(GONE, "/elsewhere/rollout.jsonl")];
    runtime.threads().upsert(&rows).expect("rows");
    let read = |runtime: &Runtime| {
        let store = runtime.thread_store().expect("a store");
        let query = TurnQuery::new().items(ItemsView::Full);
        let turns = store.list_turns(&id(OUTSIDE), &query).expect("turns").turns;
        let items: Vec<_> = store.load_history(&id(OUTSIDE)).expect("items").flatten().collect();
        (serde_json::to_string(&turns).expect("JSON"), items, store.anomalies(&id(OUTSIDE)).expect("read"))
    };
    let refused = |runtime: &Runtime| {
        let store = runtime.thread_store().expect("a store");
        let pin = ThreadPatch { is_pinned: Some(true), ..ThreadPatch::default() };
        let kinds = [
            store.update_metadata(&id(OUTSIDE), &pin).expect_err("pinned").kind(),
            store.archive(&id(OUTSIDE)).expect_err("archived").kind(),
            store.resume(&id(OUTSIDE)).expect_err("resumed").kind(),
            store.load_history(&id(GONE)).map(drop).expect_err("read").kind(),
        ];
        assert!(!store.read(&id(OUTSIDE)).expect("a row").is_pinned);
        kinds
    };
    let kinds = [ErrorKind::Invalid, ErrorKind::Invalid, ErrorKind::Invalid, ErrorKind::NotFound];
    // The control: the home in files.
    let before = read(&runtime);
    assert_eq!(before.1.len(), 2);
    assert_eq!(refused(&runtime), kinds);
    drop(runtime);

    name_server(home);
    migrate(home, Backend::Postgres);
    let runtime = open(home);
    assert_eq!(read(&runtime), before);
    assert_eq!(refused(&runtime), kinds);
    let gone = runtime.thread_store().expect("a store").load_history(&id(GONE)).map(drop).expect_err("gone");
    assert_eq!(gone.path(), Some(Path::new("/elsewhere/rollout.jsonl")), "{gone}");
    let report = runtime.export_home(&place.path().join("threads"), &mut |_| {}).expect("exported");
    assert_eq!((report.counts.rows, report.counts.transcripts), (2, 1), "{report:?}");
    drop(runtime);

    migrate(home, Backend::Sqlite);
    let runtime = open(home);
    assert_eq!(read(&runtime), before);
    assert_eq!(refused(&runtime), kinds);
}
