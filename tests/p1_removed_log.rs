//! Somebody removes the write-ahead log, or its index, of an open database: nothing is lost, and nobody goes on in a file
//! that nobody else sees.

mod common;

use std::path::{Path, PathBuf};

use common::*;
use rowhouse::Health;

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// What somebody else reads from the files at the paths. The engine's own locks are not this connection's business: it is
/// SQLite's, in the same process, and shares them.
fn seen_by_others(place: &Place) -> Vec<String> {
    let out = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "others_look", "--nocapture"])
        .env("LOOK_AT", place.file())
        .output()
        .expect("a process");
    let text = String::from_utf8(out.stdout).expect("text");
    text.lines().filter_map(|line| line.split("key ").nth(1)).map(str::to_owned).collect()
}

/// Not a test by itself: the process that looks.
#[test]
fn others_look() {
    let Some(file) = std::env::var_os("LOOK_AT") else { return };
    let connection = raw(Path::new(&file));
    let mut statement = connection.prepare("SELECT k FROM t ORDER BY k").expect("a query");
    for key in statement.query_map([], |row| row.get::<_, String>(0)).expect("rows") {
        println!("key {}", key.expect("a key"));
    }
}

/// The writer compares the folder's change time after every commit and once a second when idle; when the log or its index
/// is gone it works the removed log off into the main file and opens the database again.
///
/// Scale: one process; -wal, -shm and both removed, idle and under way.
///
/// Control: a plain connection goes on writing into the removed log, and what it committed is gone with it.
#[test]
fn p1_a_removed_log_is_noticed_and_nothing_is_lost() {
    for endings in [&["-wal"][..], &["-shm"], &["-wal", "-shm"]] {
        let place = Place::new();
        place.db.write(insert("a")).expect("a row");
        place.db.submit(insert("b")).expect("queued").wait().expect("a row");
        for ending in endings {
            std::fs::remove_file(beside(&place.file(), ending)).expect("removed");
        }
        until("the idle writer notices and begins anew", || {
            ["-wal", "-shm"].iter().all(|ending| beside(&place.file(), ending).exists())
        });
        assert_eq!(keys(&place.db), ["a", "b"], "{endings:?}");
        assert_eq!(seen_by_others(&place), ["a", "b"], "{endings:?}");
        place.db.write(insert("c")).expect("it works");
        assert_eq!(seen_by_others(&place), ["a", "b", "c"], "{endings:?}");
        place.runtime.close(LONG);
        assert_eq!(seen_by_others(&place), ["a", "b", "c"], "{endings:?}");
    }
    // Without the engine.
    let (folder, plain) = plain();
    let file = folder.path().join("plain.sqlite");
    plain
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA wal_autocheckpoint=0")
        .expect("an empty log");
    for ending in ["-wal", "-shm"] {
        std::fs::remove_file(beside(&file, ending)).expect("removed");
    }
    plain.execute("INSERT INTO t(k) VALUES ('lost')", []).expect("SQLite says it is committed");
    without_checkpoint(&plain);
    drop(plain);
    let rows: i64 = raw(&file).query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("a count");
    assert_eq!(rows, 0, "the control lost nothing");
}

/// Closing is as when the process dies.
fn without_checkpoint(connection: &rusqlite::Connection) {
    let option = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(option, true).expect("the option");
}

/// The write that finds out is answered `Replaced` at once, is kept all the same, and those after it just work.
#[test]
fn the_write_that_finds_out_says_so_and_is_kept() {
    for direct in [true, false] {
        let place = Place::new();
        place.db.write(insert("a")).expect("a row");
        std::fs::remove_file(beside(&place.file(), "-wal")).expect("removed");
        let answer = if direct {
            place.db.write(insert("b"))
        } else {
            place.db.submit(insert("b")).and_then(rowhouse::Ticket::wait)
        };
        let error = answer.expect_err("the log was not ours any more");
        assert_eq!(error.kind(), rowhouse::ErrorKind::Replaced, "{error}");
        place.db.write(insert("c")).expect("it works again, without being asked to");
        assert_eq!(keys(&place.db), ["a", "b", "c"]);
        assert_eq!(seen_by_others(&place), ["a", "b", "c"]);
        assert_eq!(place.db.health(), Health::Ready);
    }
}

/// The log is gone and nobody has looked since: closing works it off first.
#[test]
fn closing_keeps_what_only_a_removed_log_holds() {
    for endings in [&["-wal"][..], &["-wal", "-shm"]] {
        let place = Place::new();
        place.db.write(insert("a")).expect("a row");
        for ending in endings {
            std::fs::remove_file(beside(&place.file(), ending)).expect("removed");
        }
        assert!(place.runtime.close(LONG).values().all(|report| report.in_time));
        assert_eq!(seen_by_others(&place), ["a"], "{endings:?}");
    }
}

/// A read that has not ended keeps the removed index mapped in this process: nothing is opened until it has, and it is
/// named. Another process has begun a new log meanwhile, so both files are at their paths.
#[test]
fn a_read_that_goes_on_over_a_removed_log_is_waited_for_and_named() {
    let place = Place::new();
    place.db.write(insert("a")).expect("a row");
    let (inside, entered) = std::sync::mpsc::channel();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let reader = place.db.clone();
    let read = aside(move || {
        reader.read(|at| {
            let found = number(at, "SELECT count(*) FROM t")?;
            inside.send(()).expect("the test waits");
            let _ = wait.recv_timeout(LONG);
            Ok(found)
        })
    });
    soon(&entered);
    for ending in ["-wal", "-shm"] {
        std::fs::remove_file(beside(&place.file(), ending)).expect("removed");
    }
    // The log is in the main file first: the idle writer, or this write, sees to that.
    let _ = place.db.write(insert("b"));
    let mut said = String::new();
    until("it says what it waits for", || {
        // Whoever else comes begins a new log and its index.
        let _ = seen_by_others(&place);
        said = place.db.clone().write(insert("c")).err().map(|error| error.to_string()).unwrap_or_default();
        said.contains("still uses the removed files")
    });
    assert!(said.contains("a read of this process"), "{said}");
    assert!(["-wal", "-shm"].iter().all(|ending| beside(&place.file(), ending).exists()));
    go_on.send(()).expect("the read waits");
    assert_eq!(soon(&read).expect("its snapshot was whole"), 1);
    until("it is open again", || place.db.health() == Health::Ready);
    place.db.write(insert("d")).expect("it works");
    assert_eq!(keys(&place.db), ["a", "b", "d"]);
    assert_eq!(seen_by_others(&place), ["a", "b", "d"], "nobody writes into files that nobody sees");
}

/// Jobs that run one by one because one of them spoiled their batch wait while the log is looked after, as those do that
/// come later: they are not turned away as busy.
#[test]
fn what_is_left_of_a_spoiled_batch_waits_like_the_others() {
    let place = Place::new();
    place.db.write(insert("a")).expect("a row");
    let hold = Hold::writer(&place.db);
    let log = beside(&place.file(), "-wal");
    let first = place
        .db
        .submit(move |tx| {
            // Jobs may run more than once.
            let _ = std::fs::remove_file(&log);
            insert("b")(tx)
        })
        .expect("queued");
    let spoils =
        place.db.submit(|tx| tx.execute("INSERT INTO fussy VALUES ('roll back')", [])).expect("queued");
    hold.release();
    assert_eq!(kind(first.wait()), rowhouse::ErrorKind::Replaced, "it ran first, and found out");
    assert_eq!(kind(spoils.wait()), rowhouse::ErrorKind::Constraint, "it ran, and met its own trouble");
    assert_eq!(keys(&place.db), ["a", "b"]);
}
