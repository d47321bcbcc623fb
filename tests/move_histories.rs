//! A thread's history goes with it: a transcript becomes rows on a server, rows become a transcript, byte for byte; and what
//! cannot come along is told before anything is changed.
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod engines;
mod processes;
mod transcripts;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engines::server::shared;
use processes::folder;
use rowhouse::rollout::{Item, NewRollout, Rollouts};
use rowhouse::stores::ThreadFacts;
use rowhouse::stores::backfill::Reread;
use rowhouse::stores::goals::NewGoal;
use rowhouse::stores::threads::{Change, ThreadPatch};
use rowhouse::thread_store::{ForkPoint, LocalThreadStore, ThreadStore, TurnQuery};
use rowhouse::{Backend, Builder, Domain, Error, ErrorKind, Home, MoveOptions, MoveReport, Result, Runtime};
use serde_json::json;
use transcripts::id;

fn builder(home: &Path) -> Builder {
    Runtime::builder(Home::at(home)).domain(Domain::state()).domain(Domain::goals())
}

fn open(home: &Path) -> Runtime {
    builder(home).open().expect("the home opens")
}

fn options(to: Backend) -> MoveOptions {
    let mut options = MoveOptions::to(to);
    options.wait = Duration::from_mins(1);
    options
}

fn migrate(home: &Path, to: Backend) -> Result<MoveReport> {
    builder(home).migrate_backend(&options(to), &mut |_| {})
}

/// A home with threads in files, and a server's name.
fn home_with(prepare: impl FnOnce(&dyn ThreadStore)) -> (tempfile::TempDir, String) {
    let (home, database) = (folder(), shared().new_database());
    let runtime = open(home.path());
    prepare(&*runtime.thread_store().expect("a store"));
    drop(runtime);
    let config = format!("[state.postgres]\nurl = \"{}\"\npool_size = 4\n", shared().url("app", &database));
    std::fs::write(home.path().join("config.toml"), config).expect("written");
    (home, database)
}

fn new(number: usize) -> NewRollout {
    NewRollout {
        id: Some(id(number)),
        started_at: Some(1_767_225_600_000 + i64::try_from(number).expect("small") * 86_400_000),
        cwd: Some("/work".to_owned()),
        ..NewRollout::default()
    }
}

fn message(kind: &str, text: &str) -> Item {
    Item::new("event_msg", &json!({"type": kind, "message": text})).expect("an item")
}

/// A thread with a turn or two.
fn say(store: &dyn ThreadStore, number: usize) {
    store.create(&new(number)).expect("created");
    let items = [
        message("user_message", &format!("Fix part {number}")),
        message("agent_message", "a NUL \0, a line\nbreak, 日本 \u{2028}"),
        Item::line(r#"{ "payload" : 1.10e0,  "type":"later\u0000"}"#).expect("a line"),
    ];
    store.append_items(&id(number), &items).expect("appended");
    store.shutdown(&id(number)).expect("shut down");
}

/// What a thread's store gives of its history; `None` where it has none.
fn history(store: &dyn ThreadStore, number: usize) -> Option<String> {
    let text = store.load_history(&id(number)).and_then(|items| {
        items.map(|item| item.map(|item| format!("{}\n", item.text()))).collect::<Result<String>>()
    });
    match text {
        Ok(text) => Some(text),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

fn histories(home: &Path, numbers: std::ops::Range<usize>) -> BTreeMap<usize, Option<String>> {
    let runtime = open(home);
    let store = runtime.thread_store().expect("a store");
    numbers.map(|number| (number, history(&*store, number))).collect()
}

/// The turns of each, as a page shows them.
fn turns(home: &Path, numbers: std::ops::Range<usize>) -> Vec<String> {
    let runtime = open(home);
    let store = runtime.thread_store().expect("a store");
    let texts = |number| {
        let page = store.list_turns(&id(number), &TurnQuery::default()).expect("turns");
        let turns =
            page.turns.iter().map(|turn| format!("{:?} {:?}", turn.turn.user_text, turn.turn.agent_text));
        turns.collect::<Vec<_>>().join("; ")
    };
    numbers.map(texts).collect()
}

fn path_of(home: &Path, number: usize) -> PathBuf {
    Rollouts::open(&Home::at(home)).expect("open").locate(&id(number), None).expect("a transcript").path
}

fn append_bytes(path: &Path, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().append(true).open(path).expect("a file");
    file.write_all(bytes).expect("written");
}

/// Rows, bytes and hash of the items, as a report says.
fn items(report: &MoveReport) -> (u64, u64, String) {
    let found = report.tables.iter().find(|table| table.table == "thread_item").expect("a table");
    (found.rows, found.bytes, found.hash.clone())
}

#[test]
fn a_history_is_the_same_bytes_in_files_on_the_server_and_back() {
    const PLAIN: usize = 0;
    const ARCHIVED: usize = 1;
    const COMPRESSED: usize = 2;
    const FORK: usize = 3;
    const TORN: usize = 4;
    const UNENDED: usize = 5;
    const HUGE: usize = 6;
    let (home, _) = home_with(|store| {
        for number in [PLAIN, ARCHIVED, COMPRESSED, TORN, UNENDED, HUGE] {
            say(store, number);
        }
        store.fork(&id(PLAIN), &ForkPoint::End, &new(FORK)).expect("a fork");
        store.append_items(&id(FORK), &[message("user_message", "Another way")]).expect("appended");
        for number in [ARCHIVED, COMPRESSED] {
            store.archive(&id(number)).expect("archived");
        }
        // Longer than a value of a database in a file.
        store.resume(&id(HUGE)).expect("resumed");
        store.append_items(&id(HUGE), &[message("agent_message", &"ü".repeat(9 << 20))]).expect("appended");
    });
    let home = home.path();
    let compressed = path_of(home, COMPRESSED);
    Rollouts::open(&Home::at(home)).expect("open").compress(&compressed).expect("compressed");
    append_bytes(&path_of(home, TORN), b"{\"type\":\"event_msg\",\"payl");
    let unended = r#"{"type":"event_msg","payload":{"type":"agent_message","message":"the last"}}"#;
    append_bytes(&path_of(home, UNENDED), unended.as_bytes());
    let outside = ThreadFacts {
        id: id(7),
        rollout_path: Some("/elsewhere/rollout.jsonl".to_owned()),
        ..ThreadFacts::default()
    };
    open(home).threads().upsert(&[outside]).expect("a row");
    let mut before = histories(home, 0..8);
    before.get_mut(&UNENDED).and_then(Option::as_mut).expect("a text").extend([unended, "\n"]);
    let before_turns = turns(home, 0..4);
    let torn_path = path_of(home, TORN);

    let mut look = options(Backend::Postgres);
    look.dry_run = true;
    let plan = builder(home).migrate_backend(&look, &mut |_| {}).expect("a plan");
    let told = plan.warnings.join("\n");
    assert!(told.contains(&torn_path.display().to_string()) && told.contains("/elsewhere/"), "{told}");
    let there = migrate(home, Backend::Postgres).expect("moved");
    assert_eq!((items(&there), &there.warnings), (items(&plan), &plan.warnings));
    let kept = there.folder.clone().expect("a folder");
    assert!(!home.join("sessions").exists() && !home.join("archived_sessions").exists());
    let aside = std::fs::read(kept.join(torn_path.strip_prefix(home).expect("inside"))).expect("it is kept");
    assert!(aside.ends_with(b"payl"), "as it was");
    assert_eq!(histories(home, 0..8), before);
    assert_eq!(turns(home, 0..4), before_turns);
    let runtime = open(home);
    assert_eq!(runtime.threads().get(&id(PLAIN)).expect("read").expect("a row").rollout_path, None);
    drop(runtime);

    let back = migrate(home, Backend::Sqlite).expect("moved back");
    assert_eq!(items(&back), items(&there));
    assert_eq!(histories(home, 0..8), before);
    assert_eq!(turns(home, 0..4), before_turns);
    let runtime = open(home);
    for number in 0..7 {
        let path = runtime.threads().get(&id(number)).expect("read").expect("a row").rollout_path;
        let path = PathBuf::from(path.expect("a transcript"));
        assert_eq!(path, path_of(home, number));
        assert_eq!(std::fs::read_to_string(&path).ok(), before[&number], "{number}");
        assert_eq!(
            path.starts_with(home.join("archived_sessions")),
            [ARCHIVED, COMPRESSED].contains(&number)
        );
    }
    let stored: i64 = processes::plain(&home.join("state.sqlite"))
        .query_row("SELECT count(*) FROM thread_item", [], |row| row.get(0))
        .expect("a count");
    assert_eq!(stored, 0, "a transcript is the one place");
    // And there once more, with what was written meanwhile.
    let store = runtime.thread_store().expect("a store");
    store.resume(&id(PLAIN)).expect("resumed");
    store.append_items(&id(PLAIN), &[message("user_message", "One more")]).expect("appended");
    drop((store, runtime));
    let before = histories(home, 0..8);
    let there = migrate(home, Backend::Postgres).expect("moved again");
    assert_eq!(items(&there).0, items(&back).0 + 1);
    assert_eq!(histories(home, 0..8), before);
}

#[test]
fn what_begins_on_the_server_is_a_transcript_in_the_home_it_comes_to() {
    let (home, database) = home_with(|store| say(store, 0));
    let home = home.path();
    migrate(home, Backend::Postgres).expect("moved");
    let runtime = open(home);
    let store = runtime.thread_store().expect("a store");
    say(&*store, 1);
    store.resume(&id(0)).expect("resumed");
    store.append_items(&id(0), &[message("user_message", "From the server")]).expect("appended");
    store.shutdown(&id(0)).expect("shut down");
    store.fork(&id(0), &ForkPoint::End, &new(2)).expect("a fork");
    store.archive(&id(1)).expect("archived");
    drop((store, runtime));
    // What is no history of a thread stays what it is.
    let mut client = shared().client(&database);
    client
        .batch_execute(&format!(
            "SET search_path = rowhouse_state; INSERT INTO thread_history(thread_id, items) VALUES ('{}', 2); \
             INSERT INTO thread_item VALUES ('{0}', 1, 'odd', '\\x00')",
            id(9)
        ))
        .expect("rows");
    drop(client);
    let before = histories(home, 0..3);
    let back = migrate(home, Backend::Sqlite).expect("moved back");
    assert!(back.warnings.iter().any(|told| told.contains(&id(9))), "{:?}", back.warnings);
    // That it was archived there is said behind the rest.
    let mut after = histories(home, 0..3);
    let archived = after.get_mut(&1).and_then(Option::as_mut).expect("a text");
    let said = archived.split_off(before[&1].as_ref().expect("a text").len());
    assert!(said.contains("thread_metadata") && said.contains("archived_at"), "{said}");
    assert_eq!(after, before);
    assert!(path_of(home, 1).starts_with(home.join("archived_sessions")));
    let odd: Vec<u8> = processes::plain(&home.join("state.sqlite"))
        .query_row("SELECT item FROM thread_item WHERE thread_id = ?1", [id(9)], |row| row.get(0))
        .expect("it is kept");
    assert_eq!(odd, b"\0");
    // What such a home has as rows goes to a server as such.
    let there = migrate(home, Backend::Postgres).expect("moved again");
    assert_eq!(items(&there).0, items(&back).0 + 1);
}

fn is_pinned(runtime: &Runtime, number: usize) -> bool {
    runtime.threads().get(&id(number)).expect("read").expect("a row").is_pinned
}

/// The names of threads, and the goals of those that have one.
fn said(home: &Path, threads: usize) -> (Vec<Option<String>>, Vec<Option<String>>) {
    let runtime = open(home);
    let name = |number| runtime.threads().get(&id(number)).expect("read").expect("a row").name;
    let goal = |number| runtime.goals().get(&id(number)).expect("read").map(|goal| goal.objective);
    ((0..threads).map(name).collect(), (0..threads).map(goal).collect())
}

/// The databases are gone, and made anew of the transcripts.
fn made_anew(home: &Path) {
    for name in ["state", "goals"] {
        for ending in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(home.join(format!("{name}.sqlite{ending}")));
        }
    }
    open(home).backfill().run(home, Reread::Everything, &mut |_| {}).expect("read");
}

/// A transcript that comes back says what was said on the server, so that an index that is made anew takes nothing back.
/// Control: without the last line of one, its thread has the name again that it had before it went to the server.
#[test]
fn what_was_said_on_the_server_is_in_the_transcripts_that_come_back() {
    let name = |name: &str| ThreadPatch { name: Change::Set(name.to_owned()), ..ThreadPatch::default() };
    let (home, _) = home_with(|store| {
        (0..4).for_each(|number| say(store, number));
        store.update_metadata(&id(0), &name("Before")).expect("named");
        store.update_metadata(&id(3), &name("Stays")).expect("named");
    });
    let home = home.path();
    let runtime = open(home);
    let store = LocalThreadStore::new(&runtime).expect("a store");
    for number in [1, 2] {
        runtime.goals().replace(&id(number), &NewGoal::new("Before")).expect("a goal");
        store.record_goal(&id(number)).expect("said");
    }
    drop((store, runtime));
    let untouched = std::fs::read(path_of(home, 3)).expect("bytes");
    migrate(home, Backend::Postgres).expect("moved");
    let runtime = open(home);
    let store = runtime.thread_store().expect("a store");
    store.update_metadata(&id(0), &name("There")).expect("named");
    let pin = ThreadPatch { is_pinned: Some(true), ..ThreadPatch::default() };
    store.update_metadata(&id(2), &pin).expect("pinned");
    let goals = runtime.goals();
    goals.delete(&id(1)).expect("removed");
    goals.replace(&id(2), &NewGoal::new("There")).expect("a goal");
    drop((goals, store, runtime));
    let back = migrate(home, Backend::Sqlite).expect("moved back");
    assert_eq!(back.warnings, [""; 0]);
    let now = (
        vec![Some("There".to_owned()), None, None, Some("Stays".to_owned())],
        vec![None, None, Some("There".to_owned()), None],
    );
    assert_eq!(said(home, 4), now);
    assert_eq!(std::fs::read(path_of(home, 3)).expect("bytes"), untouched, "nothing new was said of it");
    made_anew(home);
    assert_eq!(said(home, 4), now);
    assert!(is_pinned(&open(home), 2));
    // And nothing more is to be said when it goes there and back again.
    let before = histories(home, 0..4);
    migrate(home, Backend::Postgres).expect("moved");
    migrate(home, Backend::Sqlite).expect("moved back");
    assert_eq!(histories(home, 0..4), before);

    let path = path_of(home, 0);
    let text = std::fs::read_to_string(&path).expect("a text");
    let end = text.trim_end().rfind('\n').expect("lines") + 1;
    std::fs::write(&path, &text[..end]).expect("written");
    made_anew(home);
    assert_eq!(said(home, 1).0, [Some("Before".to_owned())]);
}

/// A move that is refused, with nothing changed.
fn refused(home: &Path, to: Backend, kind: ErrorKind) -> Error {
    let before = (histories(home, 0..2), home.join("state.sqlite").exists(), home.join("sessions").exists());
    let error = migrate(home, to).expect_err("refused");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.advice().is_some(), "{error}");
    let after = (histories(home, 0..2), home.join("state.sqlite").exists(), home.join("sessions").exists());
    assert_eq!(after, before);
    assert!(!home.join("move.json").exists());
    error
}

#[test]
fn a_transcript_that_would_be_lost_refuses_the_move() {
    let (home, _) = home_with(|store| (0..2).for_each(|number| say(store, number)));
    let home = home.path();
    let broken = path_of(home, 1).with_file_name(format!("rollout-2026-01-02T00-00-00-{}.jsonl.zst", id(8)));
    std::fs::write(&broken, "no frame").expect("written");
    let error = refused(home, Backend::Postgres, ErrorKind::Corrupt);
    assert!(error.message().contains(&id(8)), "{error}");
    std::fs::remove_file(&broken).expect("removed");

    let unlisted = transcripts::write(home, 7, 0);
    let error = refused(home, Backend::Postgres, ErrorKind::Conflict);
    assert!(error.message().contains(&id(7)), "{error}");
    std::fs::remove_file(&unlisted).expect("removed");

    let rollouts = Rollouts::open(&Home::at(home)).expect("open");
    let recorder = rollouts.resume(&id(0), None, Duration::ZERO).expect("a recorder");
    let error = refused(home, Backend::Postgres, ErrorKind::Busy);
    assert_eq!(error.holder().map(|holder| holder.pid), Some(std::process::id()), "{error}");
    drop(recorder);

    // A program that knows nothing of locks; and one that does, once the cut-over has begun.
    let path = path_of(home, 0);
    let before = histories(home, 0..2);
    let mut refused_writer = None;
    let error = builder(home)
        .migrate_backend(&options(Backend::Postgres), &mut |now| {
            if now.what == "move.json" {
                append_bytes(&path, b"{\"type\":\"late\"}\n");
            }
        })
        .expect_err("it was written meanwhile");
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    let late = histories(home, 0..2);
    assert_ne!(late, before, "it is there, and counts");
    builder(home)
        .migrate_backend(&options(Backend::Postgres), &mut |now| {
            if now.what == "the commit" {
                refused_writer = rollouts.resume(&id(1), None, Duration::ZERO).err();
            }
        })
        .expect("moved");
    assert_eq!(refused_writer.expect("refused").kind(), ErrorKind::Busy);
    assert_eq!(histories(home, 0..2), late);

    transcripts::write(home, 7, 0);
    let error = refused(home, Backend::Sqlite, ErrorKind::Conflict);
    assert_eq!(error.path(), Some(&*home.join("sessions")), "{error}");
    std::fs::remove_dir_all(home.join("sessions")).expect("removed");
    migrate(home, Backend::Sqlite).expect("moved back");
    assert_eq!(histories(home, 0..2), late);
}
