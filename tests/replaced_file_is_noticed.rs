//! When another file takes the database's place, the next write is not acknowledged, nor is any later one until the
//! database is reopened.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod common;
mod faults;

use std::path::Path;
use std::process::Command;

use common::*;
use rowhouse::{ErrorKind, Health, Home, Runtime};

/// A closed database of the same domain with one row, in one file.
fn another(folder: &Path, k: &'static str) -> std::path::PathBuf {
    let home = folder.join(k);
    let runtime = Runtime::builder(Home::at(&home)).domain(domain()).open().expect("opened");
    runtime.database("test").expect("the domain").write(insert(k)).expect("a row");
    runtime.close(LONG);
    drop(runtime);
    let file = home.join("test.sqlite");
    checkpoint(&file);
    file
}

/// Moves everything from the log into the main file.
fn checkpoint(file: &Path) {
    let truncated = raw(file).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    assert_eq!(truncated.expect("a checkpoint"), 0);
}

fn replaced<T: std::fmt::Debug>(answer: rowhouse::Result<T>) {
    let error = answer.expect_err("replaced");
    assert_eq!(error.kind(), ErrorKind::Replaced, "{error:?}");
    assert!(error.advice().expect("advice").contains("reopen"), "{error}");
    assert_eq!(error.database(), Some("test"));
}

#[test]
fn by_a_rename_on_both_paths() {
    for direct in [true, false] {
        let place = Place::new();
        place.db.write(insert("a")).expect("a row");
        std::fs::rename(another(place.folder.path(), "b"), place.file()).expect("renamed");
        if direct {
            replaced(place.db.write(insert("lost")));
        } else {
            let hold = Hold::writer(&place.db);
            let tickets = ["lost", "lost too"].map(|k| place.db.submit(insert(k)).expect("queued"));
            hold.let_go();
            for ticket in tickets {
                replaced(ticket.wait());
            }
        }
        replaced(place.db.write(insert("lost again")));
        replaced(place.db.submit(insert("lost again")).and_then(rowhouse::Ticket::wait));
        replaced(place.db.read(|at| number(at, "SELECT 1")));
        assert_eq!(place.db.health(), Health::Latched);
    }
}

#[test]
fn after_reopen_it_works_on_the_new_file_and_the_old_log_is_kept_apart() {
    let place = Place::new();
    // In the old file's log only.
    place.db.write(insert("a")).expect("a row");
    std::fs::rename(another(place.folder.path(), "b"), place.file()).expect("renamed");
    // The write that notices goes to the old file's log; it is not acknowledged.
    replaced(place.db.write(insert("lost")));
    place.db.reopen().expect("a database of this domain");
    assert_eq!(keys(&place.db), ["b"], "the old log was not applied");
    let kept = std::fs::read_dir(place.file().parent().expect("a folder"))
        .expect("the home")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .filter(|name| name.starts_with("test.sqlite-wal.replaced-"))
        .count();
    assert_eq!(kept, 1, "the old log is evidence");
    assert_eq!(place.db.health(), Health::Ready);
    place.db.write(insert("c")).expect("it works");
    assert_eq!(keys(&place.db), ["b", "c"]);
    place.db.submit(insert("d")).expect("queued").wait().expect("the writer too");
}

#[test]
fn what_is_written_after_reopen_stays() {
    const ROWS: i64 = 300;
    let mut limits = limits();
    limits.wal_soft = 64 << 10;
    let place = Place::with(limits);
    let fill = || {
        for _ in 0..ROWS {
            place.db.write(|tx| tx.execute("INSERT INTO t(v) VALUES (zeroblob(4000))", [])).expect("a row");
        }
    };
    fill();
    until("a checkpoint", || place.db.stats().checkpoints > 0);
    until("the end of that checkpoint", || {
        let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
        raw(&place.file()).query_row(truncate, [], |row| row.get::<_, i64>(0)).is_ok_and(|busy| busy == 0)
    });
    std::fs::rename(another(place.folder.path(), "b"), place.file()).expect("renamed");
    replaced(place.db.write(|_| Ok(())));
    place.db.reopen().expect("a database of this domain");
    let before = place.db.stats().checkpoints;
    fill();
    until("a checkpoint of the new file", || place.db.stats().checkpoints > before);
    assert!(place.db.close(LONG).in_time);
    let after = raw(&place.file());
    let rows: i64 = after.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("a count");
    let check: String = after.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
    assert_eq!((rows, check.as_str()), (ROWS + 1, "ok"), "they went into the new file, not into the old one");
}

#[test]
fn a_connection_that_is_opened_later_does_not_join_another_file() {
    let place = Place::new();
    place.db.write(insert("a")).expect("a row");
    std::fs::rename(another(place.folder.path(), "b"), place.file()).expect("renamed");
    // Neither the writer nor a reader has looked since.
    replaced(place.db.read(|at| number(at, "SELECT count(*) FROM t")));
    replaced(place.db.changes());
}

#[test]
fn removal_is_noticed_too() {
    let place = Place::new();
    place.db.write(insert("a")).expect("a row");
    std::fs::rename(place.file(), place.folder.path().join("elsewhere")).expect("renamed");
    replaced(place.db.write(insert("lost")));
    std::fs::rename(place.folder.path().join("elsewhere"), place.file()).expect("put back");
    place.db.reopen().expect("it is the same file again");
    place.db.write(insert("b")).expect("it works");
    assert!(keys(&place.db).contains(&"a".to_owned()));
}

#[test]
fn an_overwrite_in_place_is_noticed_at_the_next_commit() {
    let place = Place::new();
    place.db.write(insert("a")).expect("a row");
    let other = another(place.folder.path(), "b");
    // By another process: closing a descriptor of the file in this one would drop its locks.
    let copied =
        Command::new("cp").arg("--no-preserve=all").arg(&other).arg(place.file()).status().expect("cp");
    assert!(copied.success());
    replaced(place.db.write(insert("lost")));
    replaced(place.db.write(insert("lost again")));
}

#[test]
fn a_copy_that_is_taken_away_is_nothing() {
    let place = Place::new();
    place.db.write(insert("a")).expect("a row");
    let copied =
        Command::new("cp").arg(place.file()).arg(place.folder.path().join("copy")).status().expect("cp");
    assert!(copied.success());
    place.db.write(insert("b")).expect("it is still ours");
}

#[test]
fn control_without_the_check_commits_go_nowhere() {
    let (folder, plain) = plain();
    plain.execute("INSERT INTO t(k) VALUES ('a')", []).expect("a row");
    let file = folder.path().join("plain.sqlite");
    std::fs::rename(another(folder.path(), "b"), &file).expect("renamed");
    plain.execute("INSERT INTO t(k) VALUES ('lost')", []).expect("committed, says SQLite");
    std::fs::rename(folder.path().join("plain.sqlite-wal"), folder.path().join("old-wal"))
        .expect("the log aside");
    let found: i64 = raw(&file)
        .query_row("SELECT count(*) FROM t WHERE k = 'lost'", [], |row| row.get(0))
        .expect("a count");
    assert_eq!(found, 0);
}

#[test]
fn closing_after_a_replacement_writes_nothing_into_the_new_file() {
    let place = Place::new();
    place.db.write(insert("a")).expect("a row");
    let new = another(place.folder.path(), "b");
    let bytes = std::fs::read(&new).expect("the new file");
    // In place: the descriptors of the old generation lead to the new contents.
    std::fs::write(place.file(), &bytes).expect("overwritten");
    replaced(place.db.write(insert("lost")));
    let file = place.file();
    let Place { db, runtime, folder } = place;
    runtime.close(LONG);
    drop((db, runtime));
    assert_eq!(std::fs::read(file).expect("the file"), bytes);
    drop(folder);
}

/// The control: with the old log beside it, plain SQLite serves the old rows from the new file.
#[test]
fn the_old_log_beside_a_new_file_is_applied_to_it() {
    let place = Place::new();
    place.db.write(insert("a")).expect("a row");
    let log = place.file().with_extension("sqlite-wal");
    let new = another(place.folder.path(), "b");
    let beside = new.with_extension("sqlite-wal");
    std::fs::copy(log, &beside).expect("the old log");
    let keys = raw(&new).query_row("SELECT group_concat(k) FROM t", [], |row| row.get::<_, String>(0));
    assert_ne!(keys.ok().as_deref(), Some("b"));
}

/// The inode and the stamp in the header are compared after every commit: the next write answers `Replaced`, nothing more
/// is written to either file, and what the process still reads is copied into the quarantine.
///
/// After `mv` the copy holds every row. After `cp` into the same file the overwritten pages are gone.
///
/// Scale: one process, 200 rows of which some are only in the log; `mv` and `cp`.
///
/// Control: with the check switched off commits go to a file that nobody finds
/// (`control_without_the_check_commits_go_nowhere`).
#[test]
fn p5_a_replaced_database_is_noticed_and_what_it_held_is_kept() {
    for command in ["mv", "cp"] {
        let place = Place::new();
        place.db.write(insert("a")).expect("a row");
        for n in 0..199 {
            let key = format!("row {n}");
            place.db.write(|tx| tx.execute("INSERT INTO t(k) VALUES (?1)", [&key])).expect("a row");
        }
        let other = another(place.folder.path(), "b");
        let bytes = std::fs::read(&other).expect("the other database");
        let done = Command::new(command).arg("-f").arg(&other).arg(place.file()).status().expect("a command");
        assert!(done.success());
        replaced(place.db.write(insert("lost")));
        replaced(place.db.write(insert("lost again")));
        until("what it held is kept", || !place.db.warnings().is_empty());
        let told = place.db.warnings().join("\n");
        if command == "mv" {
            assert_eq!(kept_rows(&place), Some(201), "{told}");
        } else {
            assert!(told.contains("copied"), "{told}");
        }
        // Closing changes nothing either.
        let file = place.file();
        let Place { db, runtime, folder } = place;
        runtime.close(LONG);
        drop((db, runtime));
        assert_eq!(std::fs::read(file).expect("the new file"), bytes, "{command}");
        drop(folder);
    }
}

/// The rows in the one copy in the quarantine: those acknowledged, and the one that found out.
fn kept_rows(place: &Place) -> Option<i64> {
    let folders = std::fs::read_dir(place.folder.path().join("quarantine")).expect("a quarantine");
    let folders: Vec<_> = folders.map(|entry| entry.expect("an entry").path()).collect();
    let [folder] = &folders[..] else { panic!("one copy: {folders:?}") };
    assert!(folder.join("manifest.json").exists());
    raw(&folder.join("test.sqlite")).query_row("SELECT count(*) FROM t", [], |row| row.get(0)).ok()
}

/// What lies in the quarantine.
fn kept(place: &Place) -> Vec<std::path::PathBuf> {
    let folder = place.folder.path().join("quarantine");
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// Who calls `reopen()` says how long it may take; a copy that is not done by then is not left lying about.
#[test]
fn a_copy_that_takes_too_long_is_given_up_and_made_again() {
    let place = Place::new();
    place
        .db
        .write(|tx| {
            for _ in 0..3000 {
                tx.execute("INSERT INTO t(v) VALUES (zeroblob(4000))", [])?;
            }
            count_me(tx)
        })
        .expect("more than one step of a copy");
    let old = place.folder.path().join("elsewhere");
    std::fs::rename(place.file(), &old).expect("renamed");
    let hasty = place.db.clone().within(std::time::Duration::ZERO).reopen();
    let error = hasty.expect_err("no time");
    // The writer may have been first to notice: then it is at it.
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Busy), "{error:?}");
    if error.kind() == ErrorKind::Timeout {
        assert!(kept(&place).iter().all(|folder| folder.join("manifest.json").exists()), "{error}");
    }
    place.db.reopen().expect("with time it works");
    let kept = kept(&place);
    assert_eq!(kept.len(), 1, "{kept:?}");
    let copy = raw(&kept[0].join("test.sqlite"));
    let rows: i64 = copy.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("a count");
    assert_eq!(rows, 3000);
}

/// What cannot be read any more is not tried for ever, and does not keep anybody from going on.
#[test]
fn what_cannot_be_copied_is_told_and_left_when_somebody_reopens() {
    faults::install();
    let place = Place::new();
    place.db.write(insert("a")).expect("a row");
    checkpoint(&place.file());
    let main = place.file().canonicalize().expect("the file");
    std::fs::rename(place.file(), place.folder.path().join("elsewhere")).expect("renamed");
    let cannot_be_read = || {
        let code = rowhouse::rusqlite::ffi::SQLITE_IOERR_READ;
        faults::inject(&[faults::Operation::Read], &main, faults::Effect::Fail(code))
    };
    let unreadable = cannot_be_read();
    until("the idle writer notices", || place.db.health() == Health::Latched);
    until("a try", || unreadable.hits() > 2);
    let mut last = unreadable.hits();
    until("no more tries", || {
        let_pass(std::time::Duration::from_millis(1500));
        std::mem::replace(&mut last, unreadable.hits()) == last
    });
    assert_eq!(kept(&place), Vec::<std::path::PathBuf>::new(), "no half copy is left");
    drop(unreadable);
    assert_eq!(place.db.health(), Health::Latched);
    let unreadable = cannot_be_read();
    std::fs::rename(another(place.folder.path(), "b"), place.file()).expect("another in its place");
    // The new file is read through the same name: it works from the second try on.
    let _ = place.db.reopen();
    drop(unreadable);
    place.db.reopen().expect("it goes on");
    assert_eq!(keys(&place.db), ["b"]);
    let told = place.db.warnings().join("; ");
    assert!(told.contains("could not be copied"), "{told}");
}

/// A header that cannot be read says nothing about whose file it is: one failed read disturbs nobody, and while it goes on
/// a commit is not acknowledged, nothing is moved or copied, and no `reopen()` is needed.
#[test]
fn a_header_that_cannot_be_read_is_no_other_file() {
    faults::install();
    let place = Place::new();
    place.db.write(insert("a")).expect("a row");
    let file = place.file().canonicalize().expect("the file");
    let fail = faults::Effect::Fail(rowhouse::rusqlite::ffi::SQLITE_IOERR_READ);
    let once = faults::inject_times(1, &[faults::Operation::Read], &file, fail);
    place.db.write(insert("b")).expect("one failure is passed over");
    assert!(once.hits() > 1);
    drop(once);
    let broken = faults::inject(&[faults::Operation::Read], &file, fail);
    let error = place.db.write(insert("c")).expect_err("nobody can tell whose file it is");
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    assert!(error.message().contains("header"), "{error}");
    assert_eq!(place.db.health(), Health::Ready);
    drop(broken);
    place.db.write(insert("d")).expect("it goes on");
    assert_eq!(keys(&place.db), ["a", "b", "c", "d"]);
    assert!(kept(&place).is_empty(), "nothing was copied");
}
