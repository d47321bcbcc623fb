//! Who follows the log sees new rows of every process within a second, costs nothing while there are none, and goes on
//! over whatever becomes of the file.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "a test looks at files from outside")]

mod common;
mod log_rows;
mod processes;

use std::fs;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use common::{LONG, aside, soon, until};
use log_rows::*;
use processes::{Child, listen, rounds, say, text};
use rowhouse::stores::logs::LogFollow;
use rowhouse::stores::{FollowFrom, LogLevel, LogQuery, LogRow};
use rowhouse::{Database, ErrorKind, Runtime};

/// What is promised of rows of other processes.
const PROMISED: Duration = Duration::from_secs(1);

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [role, home] = &arguments[..] else { panic!("{arguments:?}") };
    match &**role {
        "write" => write_on_demand(home.as_ref()),
        "write many" => write_many(home.as_ref()),
        "keep from opening" => keep_from_opening(home.as_ref()),
        other => panic!("{other}"),
    }
}

/// Writes what it is told, and says when it was committed.
fn write_on_demand(home: &Path) {
    let (_runtime, database, _) = open(home);
    say("ready");
    loop {
        let word = listen();
        if word.is_empty() {
            return;
        }
        write(&database, &[event(1, word).process("a child")]);
        say("written");
    }
}

/// Numbered rows, each a commit of its own, now and then with some that are deleted at once.
fn write_many(home: &Path) {
    let (_runtime, database, _) = open(home);
    let process = std::process::id().to_string();
    processes::ready();
    for number in 0..rounds(200) {
        write(&database, &[event(1, number.to_string()).process(&process)]);
        if number % 10 == 0 {
            write(&database, &[event(1, "gone").process(&process)]);
            delete(&database, "message = 'gone'");
        }
    }
    say("done");
    listen();
}

/// Holds the lock under which the log is created.
fn keep_from_opening(home: &Path) {
    let folder = home.join("locks");
    fs::create_dir_all(&folder).expect("a folder");
    let lock = fs::File::create(folder.join("logs.init")).expect("the lock file");
    lock.lock().expect("the lock");
    say("holding");
    listen();
}

/// The next row, which must come.
fn next(follow: &mut LogFollow) -> LogRow {
    let mut rows = follow.wait(LONG).expect("it is read");
    assert_eq!(rows.len(), 1, "one row: {rows:?}");
    rows.remove(0)
}

fn close(runtime: &Runtime) {
    runtime.close(LONG);
}

#[test]
fn a_row_of_another_process_comes_within_a_second() {
    let folder = processes::folder();
    let (_runtime, _, logs) = open(folder.path());
    let mut child = Child::start("write", &[text(folder.path())]);
    child.wait_for("ready");
    let mut follow = logs.follow(&LogQuery::recent(), FollowFrom::Newest(0)).expect("it begins");
    for word in ["one", "two", "three"] {
        // It is waited for before the row is there.
        let (send, received) = channel();
        let waiting = std::thread::spawn(move || {
            let row = next(&mut follow);
            let _ = send.send(Instant::now());
            (row, follow)
        });
        child.tell(word);
        child.wait_for("written");
        let written = Instant::now();
        let seen = soon(&received);
        let (row, back) = waiting.join().expect("no panic");
        follow = back;
        assert_eq!((&*row.message, &*row.process_id), (word, "a child"));
        assert!(seen.saturating_duration_since(written) < PROMISED);
    }
    // What was written while nobody waited is not missed.
    for word in ["four", "five"] {
        child.tell(word);
        child.wait_for("written");
    }
    let rows = follow.wait(LONG).expect("it is read");
    assert_eq!(messages(&rows), ["four", "five"]);
    child.tell("");
    child.finish();
}

#[test]
fn every_row_of_many_processes_comes_once_in_the_order_of_ids_also_while_rows_are_pruned() {
    let folder = processes::folder();
    let (_runtime, _, logs) = open(folder.path());
    let mut children: Vec<_> = (0..3).map(|_| Child::start("write many", &[text(folder.path())])).collect();
    let mut follow = logs.follow(&LogQuery::recent(), FollowFrom::Oldest).expect("it begins");
    processes::start_together(&mut children);
    let wanted = rounds(200) * 3;
    let mut seen = Vec::new();
    while (seen.len() as u64) < wanted {
        let rows = follow.wait(LONG).expect("it is read");
        assert!(!rows.is_empty(), "{} of {wanted} rows", seen.len());
        seen.extend(rows.into_iter().filter(|row| row.message != "gone"));
    }
    assert!(ids(&seen).is_sorted_by(|one, next| one < next));
    for child in &children {
        let process = child.pid().to_string();
        let theirs: Vec<_> = seen.iter().filter(|row| row.process_id == process).collect();
        assert!(
            theirs
                .iter()
                .map(|row| &row.message)
                .eq(&(0..rounds(200)).map(|n| n.to_string()).collect::<Vec<_>>())
        );
    }
    children.into_iter().for_each(Child::finish);
}

#[test]
fn it_begins_with_the_newest_rows_that_match_and_goes_on_with_new_ones() {
    let folder = processes::folder();
    let (_runtime, database, logs) = open(folder.path());
    let numbered = |numbers: std::ops::Range<i64>| -> Vec<_> {
        let level = |n| if n % 2 == 0 { LogLevel::Warn } else { LogLevel::Info };
        numbers.map(|n| event(n, n.to_string()).level(level(n))).collect()
    };
    write(&database, &numbered(0..100));
    let query = LogQuery::recent().level(LogLevel::Warn);
    let mut follow = logs.follow(&query, FollowFrom::Newest(3)).expect("it begins");
    write(&database, &numbered(100..103));
    let mut seen = follow.wait(LONG).expect("it is read");
    assert_eq!(messages(&seen), ["94", "96", "98"]);
    seen = follow.wait(LONG).expect("it is read");
    assert_eq!(messages(&seen), ["100", "102"]);
    assert_eq!(follow.wait(Duration::ZERO).expect("it is read"), []);
    // As an iterator it waits by itself.
    write(&database, &numbered(103..107));
    assert_eq!(follow.map(|row| row.expect("a row").message).take(2).collect::<Vec<_>>(), ["104", "106"]);
    let oldest = logs.follow(&query, FollowFrom::Oldest).expect("it begins");
    assert_eq!(oldest.take(54).count(), 54);
    for rows in [10_001, u32::MAX] {
        let error = logs.follow(&query, FollowFrom::Newest(rows)).map(drop).expect_err("too many");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    let bad = logs.follow(&LogQuery::recent().text("a\0"), FollowFrom::Oldest).map(drop);
    assert_eq!(bad.expect_err("bad").kind(), ErrorKind::Invalid);
}

#[test]
fn pruning_what_was_seen_or_everything_hides_nothing_new() {
    let folder = processes::folder();
    let (_runtime, database, logs) = open(folder.path());
    write(&database, &[event(1, "a"), event(2, "b")]);
    let mut follow = logs.follow(&LogQuery::recent(), FollowFrom::Newest(1)).expect("it begins");
    assert_eq!(next(&mut follow).message, "b");
    delete(&database, "message = 'b'");
    write(&database, &[event(3, "c")]);
    assert_eq!(next(&mut follow).message, "c");
    delete(&database, "1");
    assert_eq!(follow.wait(Duration::ZERO).expect("it is read"), []);
    write(&database, &[event(4, "d")]);
    assert_eq!(next(&mut follow).message, "d");
}

/// What waiting does to the disk and to the table.
fn files(home: &Path) -> Vec<(u64, std::time::SystemTime)> {
    let look = |name: &str| {
        let file = fs::metadata(home.join(name)).expect(name);
        (file.len(), file.modified().expect("a time"))
    };
    ["logs.sqlite", "logs.sqlite-wal"].map(look).to_vec()
}

#[test]
fn while_nothing_is_written_it_neither_writes_nor_reads_the_table() {
    let folder = processes::folder();
    let (_runtime, database, logs) = open(folder.path());
    write(&database, &[event(1, "a")]);
    let mut follow = logs.follow(&LogQuery::recent(), FollowFrom::Newest(1)).expect("it begins");
    next(&mut follow);
    assert_eq!(follow.wait(Duration::from_millis(50)).expect("it is read"), []);
    let (before, reads) = (files(folder.path()), database.stats().reads);
    let started = Instant::now();
    assert_eq!(follow.wait(Duration::from_millis(1500)).expect("it is read"), []);
    assert!(started.elapsed() >= Duration::from_millis(1500));
    assert_eq!(files(folder.path()), before);
    // The one with which each wait begins; a table that is polled is read every time.
    assert!(database.stats().reads <= reads + 2, "{} reads", database.stats().reads - reads);
}

/// The files of the log are gone; the engine begins a new one within some seconds.
fn remove(database: &Database) {
    for ending in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{ending}", database.path().display()));
    }
}

#[test]
fn a_log_that_is_begun_anew_is_followed_from_its_first_row_though_ids_begin_again() {
    let folder = processes::folder();
    let (_runtime, database, logs) = open(folder.path());
    write(&database, &(0..50).map(|n| event(n, "old")).collect::<Vec<_>>());
    let mut follow = logs.follow(&LogQuery::recent(), FollowFrom::Newest(0)).expect("it begins");
    let row = aside(move || next(&mut follow));
    remove(&database);
    // What is answered before the engine has noticed may have gone into the removed file.
    until("the new file", || {
        database.path().exists()
            && database
                .read(|at| at.row("SELECT count(*) FROM log", [], |row| row.get::<_, i64>(0)))
                .is_ok_and(|rows| rows == 0)
    });
    write(&database, &[event(60, "new")]);
    let row = soon(&row);
    assert_eq!((&*row.message, row.id), ("new", 1));
}

#[test]
fn a_rebuilt_file_with_the_same_rows_is_followed_from_where_it_was() {
    let folder = processes::folder();
    let home = folder.path().join("home");
    let (runtime, database, logs) = open(&home);
    write(&database, &(0..50).map(|n| event(n, "old")).collect::<Vec<_>>());
    let mut follow = logs.follow(&LogQuery::recent(), FollowFrom::Newest(0)).expect("it begins");
    let row = aside(move || next(&mut follow));
    // The same rows under another stamp.
    let rebuilt = folder.path().join("rebuilt.sqlite");
    let file = common::raw(database.path());
    file.execute("VACUUM INTO ?1", [text(&rebuilt)]).expect("rebuilt");
    drop(file);
    let other = common::raw(&rebuilt);
    other.execute_batch("PRAGMA journal_mode = wal; PRAGMA user_version = 4711;").expect("another stamp");
    drop(other);
    remove(&database);
    fs::rename(&rebuilt, database.path()).expect("in its place");
    until("the rebuilt file is open", || {
        database
            .read(|at| at.row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)))
            .is_ok_and(|stamp| stamp == 4711)
    });
    write(&database, &[event(60, "new")]);
    let row = soon(&row);
    assert_eq!((&*row.message, row.id), ("new", 51));
    close(&runtime);
}

#[test]
fn a_log_that_is_not_there_yet_is_followed_when_it_comes() {
    let folder = processes::folder();
    let mut child = Child::start("keep from opening", &[text(folder.path())]);
    child.wait_for("holding");
    let home = rowhouse::Home::at(folder.path());
    let runtime =
        Runtime::builder(home).domain(rowhouse::Domain::logs()).open().expect("it is not waited for");
    let database = runtime.database("logs").expect("the domain");
    let mut follow = runtime.logs().follow(&LogQuery::recent(), FollowFrom::Newest(5)).expect("later");
    let error = follow.wait(Duration::from_millis(10)).expect_err("not yet");
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    let ticket = database
        .submit(|tx| {
            tx.execute(
                "INSERT INTO log(ts, level, target, message, process_id, bytes) VALUES (1, 3, 't', 'first', 'p', 1)",
                [],
            )
        })
        .expect("it waits in the backlog");
    let row = aside(move || next(&mut follow));
    child.tell("");
    child.finish();
    ticket.wait().expect("written");
    assert_eq!(soon(&row).message, "first");
}

#[test]
fn closing_the_database_ends_it() {
    let folder = processes::folder();
    let (runtime, _, logs) = open(folder.path());
    let mut follow = logs.follow(&LogQuery::recent(), FollowFrom::Oldest).expect("it begins");
    let mut iterator = logs.follow(&LogQuery::recent(), FollowFrom::Oldest).expect("it begins");
    let (ready, is_ready) = channel();
    let ended = aside(move || {
        let _ = ready.send(());
        (follow.wait(LONG).map(drop), iterator.next().is_none())
    });
    soon(&is_ready);
    close(&runtime);
    let (waited, iterated) = soon(&ended);
    assert_eq!(waited.expect_err("closed").kind(), ErrorKind::Closed);
    assert!(iterated);
}
