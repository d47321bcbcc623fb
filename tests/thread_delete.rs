//! A deleted thread is gone from every database and every file, whatever dies on the way, and nothing else is.

#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod processes;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use processes::{Child, folder, plain, say, text};
use rowhouse::rollout::faults::{Outcome, watch};
use rowhouse::rollout::{Item, NewRollout};
use rowhouse::stores::backfill::Reread;
use rowhouse::stores::goals::NewGoal;
use rowhouse::stores::logs::{LogEvent, LogLevel, LogOptions};
use rowhouse::stores::threads::{Change, ThreadPatch};
use rowhouse::thread_store::{DeleteOptions, Deleted, LocalThreadStore, ThreadStore, TurnQuery};
use rowhouse::{ErrorKind, Home, MaintainOptions, Runtime, ThreadQuery};
use rusqlite::params;
use serde_json::json;

/// In all that is kept of the threads that go.
const CANARY: &str = "Zyzzyvacanary";
/// In all that is kept of the one that stays.
const STAYS: &str = "Quokkastays";
const WAIT: Duration = Duration::from_secs(20);

fn id(number: u32) -> String {
    format!("019b76da-5a3e-7c41-9d52-{number:012}")
}

fn open(home: &Path) -> (Runtime, LocalThreadStore) {
    let runtime = Runtime::open(Home::at(home)).expect("the home opens");
    let store = LocalThreadStore::new(&runtime).expect("a store");
    (runtime, store)
}

/// A thread with a word in its transcript, name, search index, turns, goal, logs and memory.
fn fill(runtime: &Runtime, store: &dyn ThreadStore, number: u32, word: &str) -> String {
    let new = NewRollout { id: Some(id(number)), ..NewRollout::default() };
    let thread = store.create(&new).expect("begun");
    for turn in 0..5 {
        let event = |kind: &str, more: serde_json::Value| {
            let mut payload = json!({"type": kind, "turn_id": format!("t{turn}")});
            payload.as_object_mut().expect("an object").extend(more.as_object().expect("one").clone());
            Item::new("event_msg", &payload).expect("an item")
        };
        let items = [
            event("task_started", json!({})),
            event("user_message", json!({"message": format!("asked {word} {}", "a".repeat(700))})),
            event("agent_message", json!({"message": format!("said {word}")})),
            event("task_complete", json!({})),
        ];
        store.append_items(&thread, &items).expect("appended");
    }
    store.flush(&thread).expect("flushed");
    store.list_turns(&thread, &TurnQuery::new()).expect("turns");
    for name in ["first", "second"] {
        let name = Change::Set(format!("{word} {name}"));
        let patch = ThreadPatch { name, ..ThreadPatch::default() };
        store.update_metadata(&thread, &patch).expect("named");
    }
    store.shutdown(&thread).expect("given back");
    runtime.goals().replace(&thread, &NewGoal::new(format!("reach {word}"))).expect("a goal");
    let sink = runtime.log_sink(LogOptions::default()).expect("a sink");
    for row in 0..300 {
        let message = format!("{word} {row} {}", "l".repeat(row * 40 % 6_000));
        sink.emit(LogEvent::new(LogLevel::Info, "test", message).thread(&thread));
    }
    sink.flush(WAIT).expect("flushed");
    let (memory, of) = (format!("remember {word}"), thread.clone());
    let insert = "INSERT INTO memory_output(thread_id, raw_memory, rollout_summary, source_updated_at, generated_at, \
         last_used_at) VALUES (?1, ?2, ?2, 1, 1, 1)";
    let state = runtime.database("state").expect("state");
    state.write(move |tx| tx.execute(insert, params![of, memory])).expect("a memory");
    thread
}

/// Files below a folder in which a word stands, found by another process: closing a database here would drop its locks.
fn grep(home: &Path, word: &str) -> Vec<PathBuf> {
    let found = Command::new("grep").args(["-rlaF", word]).arg(home).output().expect("grep");
    assert!(found.status.code().is_some_and(|code| code < 2), "{found:?}");
    String::from_utf8_lossy(&found.stdout).lines().map(PathBuf::from).collect()
}

/// Files below a folder whose name holds a word.
fn named(home: &Path, word: &str) -> Vec<PathBuf> {
    let found = Command::new("find").arg(home).arg("-name").arg(format!("*{word}*")).output().expect("find");
    String::from_utf8_lossy(&found.stdout).lines().map(PathBuf::from).collect()
}

fn count(runtime: &Runtime, database: &str, sql: &'static str) -> i64 {
    let database = runtime.database(database).expect("a database");
    database.read(|at| Ok(at.prepare(sql)?.query_row([], |row| row.get(0))?)).expect("a count")
}

/// Nothing is left of the first threads, and all of the last one.
fn is_gone(home: &Path, what: &str) {
    let (runtime, store) = open(home);
    assert_eq!(store.finish_deletes().expect(what), [] as [String; 0], "{what}");
    assert_eq!(grep(home, CANARY), [] as [PathBuf; 0], "{what}");
    assert_eq!(named(home, &id(1)), [] as [PathBuf; 0], "{what}");
    for (database, sql) in [
        ("state", "SELECT count(*) FROM thread WHERE id NOT LIKE '%9'"),
        ("state", "SELECT count(*) FROM tombstone"),
        ("state", "SELECT count(*) FROM spawn_edge"),
        ("state", "SELECT count(*) FROM turn WHERE thread_id NOT LIKE '%9'"),
        ("state", "SELECT count(*) FROM turn_checkpoint WHERE thread_id NOT LIKE '%9'"),
        ("state", "SELECT count(*) FROM memory_output WHERE thread_id NOT LIKE '%9'"),
        ("goals", "SELECT count(*) FROM goal WHERE thread_id NOT LIKE '%9'"),
        ("logs", "SELECT count(*) FROM log WHERE thread_id NOT LIKE '%9'"),
        ("logs", "SELECT count(*) FROM log_thread WHERE thread_id NOT LIKE '%9'"),
    ] {
        assert_eq!(count(&runtime, database, sql), 0, "{what}: {sql}");
    }
    let other = id(9);
    assert_eq!(store.read(&other).expect(what).name.as_deref(), Some(&*format!("{STAYS} second")), "{what}");
    assert_eq!(store.list_turns(&other, &TurnQuery::new()).expect(what).turns.len(), 5, "{what}");
    assert!(runtime.goals().get(&other).expect(what).is_some(), "{what}");
    assert_eq!(count(&runtime, "logs", "SELECT count(*) FROM log WHERE thread_id LIKE '%9'"), 300, "{what}");
    assert_eq!(count(&runtime, "state", "SELECT count(*) FROM memory_output"), 1, "{what}");
    runtime.close(WAIT);
}

/// Threads 1 (which started 2) and 9.
fn filled(home: &Path) {
    let (runtime, store) = open(home);
    for (number, word) in [(1, CANARY), (2, CANARY), (9, STAYS)] {
        fill(&runtime, &store, number, word);
    }
    runtime.spawn_edges().add(&id(1), &id(2)).expect("an edge");
    runtime.close(WAIT);
}

const ALL: DeleteOptions = DeleteOptions { descendants: true, dry_run: false, forget: false };

/// A deleted thread's words stand in no file of the home any more: not in tables, free pages, the search index, write-ahead
/// logs, turns, logs, goals, memories or transcripts, while the program goes on. What would go is listed and counted before.
///
/// Scale: a tree of two threads with 600 log rows up to 6 KiB, and one that stays.
///
/// Control: the same log rows deleted from a database with SQLite's defaults still stand in its files; and before the
/// deletion the words stand in every one of the three databases and in the transcript.
#[test]
fn x3_a_deleted_thread_leaves_no_word_in_any_file() {
    let folder = folder();
    let home = folder.path();
    filled(home);
    let (runtime, store) = open(home);
    let before = grep(home, CANARY);
    assert!(before.len() >= 5, "{before:?}");
    for name in ["state", "goals", "logs"] {
        assert!(before.iter().any(|path| text(path).contains(name)), "{name}: {before:?}");
    }
    let refused = store.delete(&id(1), &DeleteOptions::default()).expect_err("it has a descendant");
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.message().contains("1 thread is below"), "{refused}");
    let dry = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    let told = store.delete(&id(1), &dry).expect("counted");
    assert_eq!(told.threads, [id(1), id(2)]);
    assert_eq!((told.files, told.goals, told.log_rows, told.memories), (2, 2, 600, 2));
    assert!(told.file_bytes > 2_000 && told.dry_run && told.pending.is_empty(), "{told:?}");
    assert_eq!(grep(home, CANARY), before, "nothing has changed");

    let deleted = store.delete(&id(1), &ALL).expect("deleted");
    assert_eq!(deleted, Deleted { dry_run: false, ..told });
    assert_eq!(grep(home, CANARY), [] as [PathBuf; 0], "while it is open");
    assert!(!grep(home, STAYS).is_empty());
    for error in [store.read(&id(1)).err(), store.resume(&id(2)).err(), store.delete(&id(1), &ALL).err()] {
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::NotFound));
    }
    runtime.close(WAIT);
    is_gone(home, "afterwards");

    let plain_file = home.join("plain.sqlite");
    let control = plain(&plain_file);
    control.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE log(thread_id, message)").expect("a table");
    for row in 0..300 {
        control
            .execute(
                "INSERT INTO log VALUES ('x', ?1)",
                [format!("{CANARY} {}", "l".repeat(row * 40 % 6_000))],
            )
            .expect("a row");
    }
    control.execute_batch("DELETE FROM log; PRAGMA wal_checkpoint(TRUNCATE)").expect("deleted");
    assert!(!grep(home, CANARY).is_empty(), "SQLite's defaults leave it");
}

/// Twice the number of the step to die before.
static DIES_AT: AtomicUsize = AtomicUsize::new(usize::MAX);
static SEEN: AtomicUsize = AtomicUsize::new(0);

#[test]
fn child_entry() {
    let Some(role) = processes::role() else { return };
    let home = Path::new(&role[1]);
    DIES_AT.store(role[2].parse().expect("a number"), Ordering::Relaxed);
    watch(|_| {
        if SEEN.fetch_add(1, Ordering::Relaxed) == DIES_AT.load(Ordering::Relaxed) {
            die();
        }
        Outcome::Goes
    });
    let (runtime, store) = open(home);
    match role[0].as_str() {
        "delete" | "delete when told" => {
            if role[0] != "delete" {
                say("ready");
                processes::listen();
            }
            let deleted = store.delete(&id(1), &ALL).expect("deleted");
            say(&format!("deleted, pending: {:?}", deleted.pending));
        }
        "hold" => {
            store.resume(&id(2)).expect("resumed");
            say("held");
            processes::listen();
        }
        other => panic!("no role {other}"),
    }
    runtime.close(WAIT);
}

/// As a crash does.
fn die() -> ! {
    // SAFETY: ends this process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    unreachable!("it was killed")
}

fn copied(from: &Path) -> tempfile::TempDir {
    let to = folder();
    let done = Command::new("cp").arg("-a").arg(from.join(".")).arg(to.path()).status().expect("cp");
    assert!(done.success());
    to
}

/// Killed before each step on its files, a deletion is finished by the next store that opens: nothing of the threads is left,
/// and nothing else is gone.
///
/// Scale: every step of two threads (moves, syncs, removals).
///
/// Control: before the store opens again, the words are still there after at least one of the crashes, and are not shown.
#[test]
fn a_deletion_that_is_killed_at_any_step_is_finished_by_the_next_start() {
    let origin = folder();
    filled(origin.path());
    let (mut dies_at, mut left_over) = (0, 0);
    loop {
        let place = copied(origin.path());
        let (lines, status) = Child::start("delete", &[text(place.path()), &dies_at.to_string()]).end();
        let what = format!("died at {dies_at}: {lines:?}");
        if status.signal() != Some(libc::SIGKILL) {
            assert!(lines.iter().any(|line| line == "deleted, pending: []"), "{status} {what}");
            is_gone(place.path(), "not killed");
            break;
        }
        left_over += usize::from(!grep(place.path(), CANARY).is_empty());
        let threads = Runtime::open(Home::at(place.path())).expect("opens");
        let listed = threads.threads().list(&ThreadQuery::recent()).expect("a page").threads;
        assert_eq!(listed.len(), 1, "it is shown no more: {what}");
        threads.close(WAIT);
        is_gone(place.path(), &what);
        dies_at += 1;
    }
    assert!(dies_at >= 8 && left_over > 0, "{dies_at} steps, {left_over} of them left something");
}

/// The same when it dies between two databases: at the one whose write lock somebody else has.
#[test]
fn a_deletion_that_dies_between_two_databases_is_finished_by_the_next_start() {
    let origin = folder();
    filled(origin.path());
    for (database, before) in [("state", 3), ("goals", 1), ("logs", 1)] {
        let place = copied(origin.path());
        let (runtime, _) = open(place.path());
        let file = runtime.database(database).expect("a database").path().to_owned();
        runtime.close(WAIT);
        let holder = plain(&file);
        holder.busy_timeout(WAIT).expect("a wait");
        let mut child = Child::start("delete when told", &[text(place.path()), "999999"]);
        child.wait_for("ready");
        holder.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
        child.tell("go");
        let reader = plain(&place.path().join(file_name(&runtime, "state")));
        let rows = || reader.query_row("SELECT count(*) FROM thread", [], |row| row.get::<_, i64>(0));
        let until = std::time::Instant::now() + WAIT;
        while rows().expect("a count") != before && std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        child.kill();
        holder.execute_batch("ROLLBACK").expect("given back");
        drop((holder, reader));
        if database == "state" {
            let (runtime, store) = open(place.path());
            store.delete(&id(1), &ALL).expect("nothing was done yet, or all");
            runtime.close(WAIT);
        }
        is_gone(place.path(), database);
    }
}

fn file_name(runtime: &Runtime, database: &str) -> PathBuf {
    PathBuf::from(runtime.database(database).expect("a database").path().file_name().expect("a name"))
}

#[test]
fn a_thread_that_is_written_elsewhere_is_not_deleted_and_its_writer_is_named() {
    let place = folder();
    filled(place.path());
    let mut child = Child::start("hold", &[text(place.path()), "999999"]);
    child.wait_for("held");
    let (runtime, store) = open(place.path());
    let refused = store.delete(&id(1), &ALL).expect_err("2 is written");
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    assert_eq!(refused.holder().map(|holder| holder.pid as i32), Some(child.pid()), "{refused}");
    assert!(store.read(&id(1)).is_ok() && store.read(&id(2)).is_ok(), "nothing has changed");
    assert_eq!(count(&runtime, "state", "SELECT count(*) FROM tombstone"), 0);
    child.kill();
    // This store's own right does not keep it from it, and ends.
    store.resume(&id(1)).expect("resumed");
    assert_eq!(store.delete(&id(1), &ALL).expect("deleted").threads.len(), 2);
    assert_eq!(store.append_items(&id(1), &[]).expect_err("gone").kind(), ErrorKind::Conflict);
    runtime.close(WAIT);
    is_gone(place.path(), "in the end");
}

/// While a database is not there, a deletion keeps its tombstone: nothing shows the thread, imports it or begins it anew.
#[test]
fn a_deletion_that_cannot_be_finished_keeps_the_thread_away() {
    let place = folder();
    filled(place.path());
    let home = Home::at(place.path());
    let state_alone = Runtime::builder(home).domain(rowhouse::Domain::state()).open().expect("opens");
    let store = LocalThreadStore::new(&state_alone).expect("a store");
    let deleted = store.delete(&id(1), &ALL).expect("as far as it goes");
    let pending = deleted.pending.join("; ");
    assert!(pending.contains("goals: ") && pending.contains("logs: "), "{pending}");
    let facts = rowhouse::stores::ThreadFacts { id: id(1), ..Default::default() };
    let told = state_alone.threads().upsert(&[facts]).expect("not taken");
    assert_eq!((told.inserted, told.deleted), (0, 1));
    let again = NewRollout { id: Some(id(1)), ..NewRollout::default() };
    assert_eq!(store.create(&again).expect_err("it goes").kind(), ErrorKind::Conflict);
    let file = place.path().join(format!("sessions/2026/01/02/rollout-2026-01-02T03-04-05-{}.jsonl", id(1)));
    fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    let first = json!({"timestamp": "2026-01-02T03:04:05.000Z", "type": "session_meta",
        "payload": {"id": id(1), "timestamp": "2026-01-02T03:04:05.000Z", "cwd": CANARY}});
    fs::write(&file, format!("{first}\n")).expect("restored by somebody");
    state_alone.backfill().run(place.path(), Reread::Everything, &mut |_| {}).expect("a report");
    assert_eq!(count(&state_alone, "state", "SELECT count(*) FROM thread"), 1);
    assert_eq!(store.read(&id(1)).expect_err("not shown").kind(), ErrorKind::NotFound);
    assert_eq!(store.resume(&id(1)).expect_err("not shown").kind(), ErrorKind::NotFound);
    assert!(store.finish_deletes().expect("not yet").len() >= 2);
    drop(store);
    state_alone.close(WAIT);
    is_gone(place.path(), "with all databases");
}

/// What a killed arrival, fork or compression left of a thread goes with it, wherever it lies.
#[test]
fn unfinished_files_of_a_thread_go_with_it() {
    let place = folder();
    filled(place.path());
    let (runtime, store) = open(place.path());
    let name = |number| format!(".rollout-2026-01-02T03-04-05-{}.jsonl", id(number));
    let (archive, day) = (place.path().join("archived_sessions"), place.path().join("sessions/2026/01/02"));
    for folder in [&archive, &day] {
        fs::create_dir_all(folder).expect("folders");
        for ending in [".new", ".zst.new"] {
            fs::write(folder.join(name(1) + ending), CANARY).expect("written");
        }
    }
    let other = day.join(name(9) + ".new");
    fs::write(&other, STAYS).expect("written");
    let deleted = store.delete(&id(1), &ALL).expect("deleted");
    assert_eq!(deleted.files, 6, "{deleted:?}");
    assert_eq!(grep(place.path(), CANARY), [] as [PathBuf; 0]);
    assert!(other.exists(), "of another thread");
    runtime.close(WAIT);
}

/// A deletion that is refused, for a thread below whose transcript lies outside the home, ends nobody's session.
#[test]
fn a_refused_deletion_ends_no_session() {
    let (place, outside) = (folder(), folder());
    let (runtime, store) = open(place.path());
    fill(&runtime, &store, 1, STAYS);
    let first = json!({"timestamp": "2026-01-02T03:04:05.000Z", "type": "session_meta",
        "payload": {"id": id(2), "timestamp": "2026-01-02T03:04:05.000Z", "cwd": "/home/ada"}});
    let file = outside.path().join(format!("rollout-2026-01-02T03-04-05-{}.jsonl", id(2)));
    fs::write(&file, format!("{first}\n")).expect("written");
    runtime.backfill().run(outside.path(), Reread::Changed, &mut |_| {}).expect("a report");
    runtime.spawn_edges().add(&id(1), &id(2)).expect("an edge");
    store.resume(&id(1)).expect("resumed");
    let refused = store.delete(&id(1), &ALL).expect_err("one lies outside");
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    let item =
        Item::new("event_msg", &json!({"type": "user_message", "message": "and on"})).expect("an item");
    store.append_items(&id(1), &[item]).expect("the session goes on");
    store.shutdown(&id(1)).expect("given back");
    assert!(file.exists() && store.read(&id(2)).is_ok());
    runtime.close(WAIT);
}

/// A transcript whose name does not tell its thread is found by the row alone. A second deletion, while the first one cannot
/// move files, finds it by the tombstone.
///
/// Control: the file is there after the first one.
#[test]
fn a_second_deletion_finds_what_only_the_row_named() {
    let place = folder();
    let folder = place.path().join("sessions/2026/01/02");
    fs::create_dir_all(&folder).expect("folders");
    let file = folder.join("rollout-by-hand.jsonl");
    let first = json!({"timestamp": "2026-01-02T03:04:05.000Z", "type": "session_meta",
        "payload": {"id": id(1), "timestamp": "2026-01-02T03:04:05.000Z", "cwd": CANARY}});
    fs::write(&file, format!("{first}\n")).expect("written");
    let torn = folder.join("rollout-by-hand.jsonl.torn");
    fs::write(&torn, CANARY).expect("written");
    let (runtime, store) = open(place.path());
    runtime.backfill().run(place.path(), Reread::Everything, &mut |_| {}).expect("a report");
    assert!(store.read(&id(1)).is_ok());
    let in_the_way = place.path().join("trash");
    fs::write(&in_the_way, "").expect("a file where the trash should be");
    let deleted = store.delete(&id(1), &ALL).expect("as far as it goes");
    assert!(deleted.pending.iter().any(|why| why.starts_with("files: ")), "{deleted:?}");
    assert!(file.exists() && store.read(&id(1)).is_err(), "the control");
    fs::remove_file(&in_the_way).expect("removed");
    let deleted = store.delete(&id(1), &ALL).expect("the rest");
    assert_eq!((deleted.files, &deleted.pending), (2, &Vec::new()), "{deleted:?}");
    assert!(!file.exists() && !torn.exists());
    runtime.backfill().run(place.path(), Reread::Everything, &mut |_| {}).expect("a report");
    assert_eq!(count(&runtime, "state", "SELECT count(*) FROM thread"), 0, "it does not come back");
    runtime.close(WAIT);
}

/// Rows of transcripts that were removed go with a sweep, their turns and edges with them, and the file is as small as before.
///
/// Scale: 150 transcripts of 20 turns; `ROWHOUSE_TEST_TRANSCRIPTS` for more, 1,000 in the scenario.
///
/// Control: without the sweep the rows and turns of the removed transcripts stay, and the file is more than 10 % larger.
#[test]
fn g6_what_was_made_of_removed_transcripts_goes_with_them() {
    let many = std::env::var("ROWHOUSE_TEST_TRANSCRIPTS").map_or(150, |many| many.parse().expect("a number"));
    let (home, root) = (folder(), folder());
    let (runtime, store) = open(home.path());
    let state = runtime.database("state").expect("state");
    state.wait_for_steps(WAIT).expect("indexed");
    let kept = 20;
    let write = |number: u32| {
        let path = root.path().join(format!("rollout-2026-01-02T03-04-05-{}.jsonl", id(number)));
        let mut lines = vec![json!({"timestamp": "2026-01-02T03:04:05.000Z", "type": "session_meta",
            "payload": {"id": id(number), "timestamp": "2026-01-02T03:04:05.000Z", "cwd": "/home/ada"}})];
        for turn in 0..20 {
            for payload in [
                json!({"type": "task_started", "turn_id": format!("t{turn}")}),
                json!({"type": "user_message", "message": format!("{number} {turn} {}", "a".repeat(400))}),
                json!({"type": "task_complete", "turn_id": format!("t{turn}")}),
            ] {
                lines.push(
                    json!({"timestamp": "2026-01-02T03:04:06.000Z", "type": "event_msg", "payload": payload}),
                );
            }
        }
        let text: Vec<_> = lines.iter().map(ToString::to_string).collect();
        fs::write(&path, text.join("\n") + "\n").expect("a transcript");
        path
    };
    let import = || runtime.backfill().run(root.path(), Reread::Changed, &mut |_| {}).expect("a report");
    let size = || {
        runtime.maintain(&MaintainOptions::only("state"), &mut |_| {}).expect("maintained");
        fs::symlink_metadata(state.path()).expect("the file").len()
    };
    for number in 0..kept {
        write(number);
    }
    import();
    for number in 0..kept {
        store.list_turns(&id(number), &TurnQuery::new()).expect("turns");
    }
    let small = size();
    let removed: Vec<_> = (kept..kept + many).map(write).collect();
    import();
    for number in kept..kept + many {
        store.list_turns(&id(number), &TurnQuery::new()).expect("turns");
        runtime.spawn_edges().add(&id(0), &id(number)).expect("an edge");
    }
    for path in &removed {
        fs::remove_file(path).expect("removed");
    }
    assert_eq!(import().missing, u64::from(many));
    assert_eq!(
        count(&runtime, "state", "SELECT count(*) FROM thread"),
        i64::from(kept + many),
        "the control"
    );
    let large = size();
    assert!(large > small + small / 10, "the control: {small} {large}");
    assert_eq!(runtime.backfill().sweep(root.path()).expect("a sweep").threads, u64::from(many));
    for (sql, left) in [
        ("SELECT count(*) FROM thread", kept),
        ("SELECT count(*) FROM turn", 20 * kept),
        ("SELECT count(*) FROM turn_checkpoint", kept),
        ("SELECT count(*) FROM spawn_edge", 0),
    ] {
        assert_eq!(count(&runtime, "state", sql), i64::from(left), "{sql}");
    }
    let now = size();
    assert!(now <= small + small / 10, "{small} {large} {now}");
}
