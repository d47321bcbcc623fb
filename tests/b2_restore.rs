//! A restore puts all databases of a backup in place or none, whatever lay beside them, and never under somebody's hands.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod common;
mod processes;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::let_pass;
use processes::{Child, Numbers, folder, rounds, text};
use rowhouse::{
    BackupOptions, Domain, ErrorKind, Home, Migration, RestoreOptions, RestoreReport, Result, Runtime,
};

const NAMES: [&str; 2] = ["first", "second"];
const SCHEMA: &[Migration] =
    &[Migration { name: "V1__entry", sql: "CREATE TABLE entry(id INTEGER PRIMARY KEY, body TEXT NOT NULL)" }];
/// Some megabytes, so that a restore takes a while.
const FILL: &str = "INSERT INTO entry SELECT NULL, ?1 || hex(zeroblob(1000))
     FROM (WITH RECURSIVE c(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM c WHERE value < 2000) SELECT value FROM c)";

fn builder(home: &Path) -> rowhouse::Builder {
    let domains = NAMES.map(|name| Domain::new(name).migrations(SCHEMA));
    domains.into_iter().fold(Runtime::builder(Home::at(home)), rowhouse::Builder::domain)
}

fn open(home: &Path) -> Runtime {
    builder(home).open().expect("the home opens")
}

fn restore(home: &Path, from: &Path) -> Result<RestoreReport> {
    builder(home).restore(from, &RestoreOptions::default(), &mut |_| {})
}

/// Fills every database with rows that begin with `word`, in the place of those that were there.
fn fill(runtime: &Runtime, word: &str) {
    for name in NAMES {
        let database = runtime.database(name).expect("a domain");
        database.write(|tx| tx.execute("DELETE FROM entry", [])).expect("emptied");
        database.write(|tx| tx.execute(FILL, [word])).expect("filled");
    }
}

/// The words that the rows of all databases begin with.
fn words(runtime: &Runtime) -> Vec<String> {
    let words = NAMES.iter().flat_map(|name| {
        let database = runtime.database(name).expect("a domain");
        database
            .read(|at| {
                at.rows("SELECT DISTINCT substr(body, 1, 3) FROM entry", [], |row| row.get::<_, String>(0))
            })
            .expect("words")
    });
    words.collect()
}

/// A home with rows of `new`, closed, and a backup of it when they were `old`.
fn home_and_backup() -> (tempfile::TempDir, tempfile::TempDir, PathBuf) {
    let home = folder();
    let out = folder();
    let runtime = open(home.path());
    fill(&runtime, "old");
    let backup = runtime.backup(&BackupOptions::to(out.path().join("b")), &mut |_| {}).expect("a backup");
    fill(&runtime, "new");
    drop(runtime);
    (home, out, backup.folder)
}

fn file(home: &Path, name: &str, ending: &str) -> PathBuf {
    home.join(format!("{name}.sqlite{ending}"))
}

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let home: &Path = arguments[1].as_ref();
    match &*arguments[0] {
        // Fills a home, and keeps it open until it is killed: its logs are left as they are.
        "fill" => {
            let runtime = open(home);
            fill(&runtime, &arguments[2]);
            processes::say("filled");
            processes::listen();
        }
        "restore" => {
            processes::say("begin");
            restore(home, arguments[2].as_ref()).expect("restored");
            processes::say("end");
            processes::listen();
        }
        "plain" => {
            let connection = processes::plain(&file(home, "first", ""));
            connection.query_row("SELECT count(*) FROM entry", [], |_| Ok(())).expect("open");
            processes::say("open");
            processes::listen();
        }
        other => panic!("no such role: {other}"),
    }
}

/// What lies beside the old files goes with them: the restored databases are whole and show the backup's rows, and the old
/// set is kept in `quarantine/`.
///
/// Scale: 2 databases of 4 MiB, whose last process was killed and left logs of several megabytes.
///
/// Control: `cp` of the copies over the files, beside the old logs, is malformed or shows other rows.
#[test]
fn b2_stale_logs_do_not_survive_a_restore() {
    let (home, _out, backup) = home_and_backup();
    let killed = |home: &Path| {
        let mut child = Child::start("fill", &[text(home), "new"]);
        child.wait_for("filled");
        child.kill();
        for name in NAMES {
            assert!(fs::metadata(file(home, name, "-wal")).expect("a log").len() > 100_000);
        }
    };
    killed(home.path());
    let report = restore(home.path(), &backup).expect("restored");
    let quarantine = report.quarantine.expect("something was there");
    for name in NAMES {
        for ending in ["-wal", "-shm", "-journal"] {
            assert!(!file(home.path(), name, ending).exists(), "{name}{ending} lies beside it");
        }
        for ending in ["", "-wal", "-shm"] {
            assert!(file(&quarantine, name, ending).exists(), "{name}{ending} is kept");
        }
        let kept = processes::plain(&file(&quarantine, name, "")).query_row(
            "SELECT count(*) FROM entry WHERE body LIKE 'new%'",
            [],
            |row| row.get::<_, i64>(0),
        );
        assert_eq!(kept.expect("the old set is whole"), 2000);
        assert_eq!(processes::integrity(&file(home.path(), name, "")), "ok");
    }
    let runtime = open(home.path());
    assert_eq!(words(&runtime), ["old", "old"]);
    fill(&runtime, "yet");
    drop(runtime);
    assert_eq!(words(&open(home.path())), ["yet", "yet"]);

    // Without the engine.
    let (home, _out, backup) = home_and_backup();
    killed(home.path());
    let mut harmed = 0;
    for name in NAMES {
        fs::copy(file(&backup, name, ""), file(home.path(), name, "")).expect("cp");
        let connection = processes::plain(&file(home.path(), name, ""));
        let found = connection
            .query_row("SELECT count(*) FROM entry WHERE body LIKE 'old%'", [], |row| row.get::<_, i64>(0));
        let check = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
        println!("cp beside an old log: {found:?} of 2000 old rows, check: {check:?}");
        harmed += i32::from(found.ok() != Some(2000) || check.ok().as_deref() != Some("ok"));
    }
    assert!(harmed > 0, "the control: cp beside the old logs worked");
}

/// Whoever has a database open keeps a lock that a restore needs alone, and is named; nothing is changed. A program that
/// uses SQLite directly is found by what it has open.
///
/// Scale: another process, a stopped process, this process, and a plain SQLite connection; each with and without dry run.
///
/// Control: `cp` over the file of a live process goes through, and what that process writes afterwards is lost or
/// damages it.
#[test]
fn b2_a_live_process_is_named_and_left_alone() {
    let (home, _out, backup) = home_and_backup();
    let refused = |pid: i32| {
        let names = ["first", "second", "first-wal"].map(|name| file(home.path(), name, ""));
        let before = names.clone().map(|path| fs::read(path).ok());
        for options in [RestoreOptions::default(), RestoreOptions::dry_run()] {
            let error =
                builder(home.path()).restore(&backup, &options, &mut |_| {}).expect_err("somebody is there");
            assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
            let holder = error.holder().unwrap_or_else(|| panic!("nobody is named: {error}"));
            assert_eq!(i32::try_from(holder.pid), Ok(pid), "{error}");
        }
        assert_eq!(names.map(|path| fs::read(path).ok()), before, "nothing was changed");
        assert!(!home.path().join("restore.json").exists());
    };
    let mut child = Child::start("fill", &[text(home.path()), "new"]);
    child.wait_for("filled");
    refused(child.pid());
    child.stop();
    refused(child.pid());
    child.kill();

    let mut child = Child::start("plain", &[text(home.path())]);
    child.wait_for("open");
    refused(child.pid());
    child.kill();

    let own = i32::try_from(std::process::id()).expect("a pid");
    let runtime = open(home.path());
    let error = restore(home.path(), &backup).expect_err("this process is there");
    assert_eq!(error.holder().map(|holder| i32::try_from(holder.pid)), Some(Ok(own)), "{error}");
    let database = runtime.database("first").expect("a domain");
    drop(runtime);
    assert_eq!(restore(home.path(), &backup).expect_err("a handle is left").kind(), ErrorKind::Busy);
    drop(database);
    let runtime = open(home.path());
    runtime.close(common::LONG);
    restore(home.path(), &backup).expect("a closed runtime has nothing open");
    assert_eq!(words(&open(home.path())), ["old", "old"]);

    // Without the engine: nobody stops a cp, and the live process goes on in what is neither the one nor the other.
    let file = home.path().join("plain.sqlite");
    let live = common::raw(&file);
    live.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE entry(id INTEGER PRIMARY KEY, body TEXT);
         INSERT INTO entry VALUES (1, 'before'); PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO entry VALUES (2, 'x');",
    )
    .expect("a live database");
    let moved = home.path().join("moved.sqlite");
    fs::copy(backup.join("first.sqlite"), &moved).expect("cp");
    fs::rename(&moved, &file).expect("put in place");
    live.execute("INSERT INTO entry VALUES (3, 'acknowledged')", []).expect("SQLite says it is committed");
    drop(live);
    let found =
        common::raw(&file).query_row("SELECT count(*) FROM entry WHERE body = 'acknowledged'", [], |row| {
            row.get::<_, i64>(0)
        });
    assert_ne!(found.ok(), Some(1), "the control: the acknowledged row is there");
}

/// Every file is checked against its hash, its counts and SQLite's own check before anything is touched, and its bytes
/// once more while they are copied: a damaged backup is refused.
///
/// Scale: one byte of a page, a cut file, a missing file, a file beside it, a changed and a damaged manifest, no manifest.
///
/// Control: `cp` of the same damaged copy goes through and SQLite finds it malformed later.
#[test]
fn b2_a_damaged_backup_is_refused() {
    let (home, out, backup) = home_and_backup();
    let damaged = out.path().join("damaged");
    let copied = || {
        let _ = fs::remove_dir_all(&damaged);
        fs::create_dir(&damaged).expect("a folder");
        for entry in fs::read_dir(&backup).expect("a list") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), damaged.join(entry.file_name())).expect("copied");
        }
    };
    let at = |name: &str| damaged.join(name);
    let spoil = |name: &str, from: &str, to: &str| {
        let text = fs::read_to_string(at(name)).expect("text");
        assert!(text.contains(from), "{from}");
        fs::write(at(name), text.replacen(from, to, 1)).expect("written");
    };
    let flip = || {
        let mut bytes = fs::read(at("second.sqlite")).expect("the copy");
        bytes[50_000..54_000].fill(0x5a);
        fs::write(at("second.sqlite"), bytes).expect("written");
    };
    let cases: [(&str, &dyn Fn(), ErrorKind); 9] = [
        ("a page", &flip, ErrorKind::Corrupt),
        (
            "cut",
            &|| {
                let file = fs::File::options().write(true).open(at("first.sqlite")).expect("the copy");
                file.set_len(8192).expect("cut");
            },
            ErrorKind::Corrupt,
        ),
        ("missing", &|| fs::remove_file(at("first.sqlite")).expect("removed"), ErrorKind::Corrupt),
        ("beside", &|| fs::write(at("first.sqlite-wal"), "x").expect("written"), ErrorKind::Invalid),
        ("hash", &|| spoil("manifest.json", "\"sha256\": \"", "\"sha256\": \"0"), ErrorKind::Corrupt),
        ("rows", &|| spoil("manifest.json", "\"entry\": 2000", "\"entry\": 2001"), ErrorKind::Corrupt),
        ("elsewhere", &|| spoil("manifest.json", "first.sqlite", "../home/x"), ErrorKind::Corrupt),
        ("later", &|| spoil("manifest.json", "\"version\": 1", "\"version\": 2"), ErrorKind::SchemaTooNew),
        ("no manifest", &|| fs::remove_file(at("manifest.json")).expect("removed"), ErrorKind::NotFound),
    ];
    let modified = |name: &str| fs::metadata(file(home.path(), name, "")).and_then(|found| found.modified());
    for (what, spoil, kind) in cases {
        copied();
        spoil();
        let before = NAMES.map(|name| modified(name).expect("there"));
        for options in [RestoreOptions::default(), RestoreOptions::dry_run()] {
            let error = builder(home.path()).restore(&damaged, &options, &mut |_| {}).expect_err(what);
            assert_eq!(error.kind(), kind, "{what}: {error}");
        }
        assert_eq!(NAMES.map(|name| modified(name).expect("there")), before, "{what}");
        assert!(!home.path().join("quarantine").exists(), "{what}");
    }
    assert_eq!(words(&open(home.path())), ["new", "new"]);

    // Without the engine.
    copied();
    flip();
    let plain = out.path().join("plain.sqlite");
    fs::copy(at("second.sqlite"), &plain).expect("cp takes it");
    let found =
        processes::plain(&plain).query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
    assert_ne!(found.ok().as_deref(), Some("ok"), "the control: the damaged copy is whole");
}

/// Files are staged first; from the moment on in which the restore is announced it is always finished, by the next open if
/// need be: killed at any instant, the home opens with all old or all new databases, never some of each.
///
/// Scale: 25 kills at random instants (`ROWHOUSE_TEST_ROUNDS` for more); broken off after every single rename in
/// `backup::intent`.
///
/// Control: `cp` of one file after the other, broken off between them, leaves a home of two generations.
#[test]
fn b2_an_interrupted_restore_is_all_or_nothing() {
    let (home, _out, backup) = home_and_backup();
    let start = || {
        let child = Child::start("restore", &[text(home.path()), text(&backup)]);
        child.wait_for("begin");
        child
    };
    let began = Instant::now();
    let mut child = start();
    child.wait_for("end");
    let lasts = began.elapsed();
    child.tell("go");
    child.finish();
    let mut numbers = Numbers::new(7);
    let (mut old, mut new) = (0, 0);
    for _ in 0..rounds(25) {
        {
            let runtime = open(home.path());
            fill(&runtime, "new");
        }
        let mut child = start();
        // Half of them near the end, where files get their names.
        let end = lasts.as_micros() as u64;
        let wait =
            if numbers.below(2) == 0 { numbers.below(end) } else { end * 3 / 4 + numbers.below(end / 4) };
        let_pass(Duration::from_micros(wait));
        child.kill();
        let found = words(&open(home.path()));
        assert!(!home.path().join("restore.json").exists(), "opening finishes it");
        assert!(found == ["old", "old"] || found == ["new", "new"], "{found:?}");
        if found[0] == "old" { old += 1 } else { new += 1 }
    }
    println!("a restore lasts {lasts:?}; {old} were restored, {new} were not");
    restore(home.path(), &backup).expect("and once more to the end");
    let left = fs::read_dir(home.path()).expect("a list").map(|entry| entry.expect("an entry").file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("unfinished")).collect();
    assert!(left.is_empty(), "the next restore sweeps: {left:?}");
    assert_eq!(words(&open(home.path())), ["old", "old"]);

    // Without the engine.
    let (home, _out, backup) = home_and_backup();
    {
        let runtime = open(home.path());
        runtime.close(common::LONG);
    }
    for ending in ["-wal", "-shm"] {
        let _ = fs::remove_file(file(home.path(), "first", ending));
    }
    fs::copy(file(&backup, "first", ""), file(home.path(), "first", "")).expect("cp, and killed here");
    assert_eq!(words(&open(home.path())), ["old", "new"], "the control: nothing is torn");
}

/// A dry run checks everything and changes nothing; a restore goes to a home that was never there, and leaves alone what
/// the backup does not hold.
#[test]
fn a_dry_run_changes_nothing_and_a_new_home_is_made() {
    let (home, out, backup) = home_and_backup();
    let other = Domain::new("other").migrations(SCHEMA);
    drop(Runtime::builder(Home::at(home.path())).domain(other).open().expect("one more"));
    let listed = |folder: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(folder).expect("a list").map(|entry| entry.expect("an entry").path()).collect();
        names.sort();
        names
    };
    let before = listed(home.path());
    let report =
        builder(home.path()).restore(&backup, &RestoreOptions::dry_run(), &mut |_| {}).expect("a dry run");
    assert!(report.dry_run && report.quarantine.is_none());
    assert!(report.databases.len() == 2 && report.databases.iter().all(|database| database.replaces));
    assert_eq!(report.databases[0].rows, 2000 + 2, "with the two tables of the Migrator");
    assert_eq!(report.untouched, ["other"]);
    assert_eq!(listed(home.path()), before);
    assert_eq!(words(&open(home.path())), ["new", "new"]);

    let elsewhere = out.path().join("new/home");
    let report =
        builder(&elsewhere).restore(&backup, &RestoreOptions::dry_run(), &mut |_| {}).expect("a dry run");
    assert!(report.databases.iter().all(|database| !database.replaces) && !elsewhere.exists());
    let report = restore(&elsewhere, &backup).expect("restored");
    assert_eq!(report.quarantine, None);
    // Nobody has opened it yet, so it has no log.
    let again = Runtime::builder(Home::at(&elsewhere)).backup(&BackupOptions::default(), &mut |_| {});
    assert_eq!(again.expect("a backup").manifest.databases.len(), 2);
    assert!(!file(&elsewhere, "first", "-wal").exists());
    let known = rowhouse::RuntimeDbRegistry::new(&Home::at(&elsewhere)).list().expect("a list");
    assert!(known.len() == 2 && known.iter().all(|database| database.role.is_some()), "{known:?}");
    assert_eq!(words(&open(&elsewhere)), ["old", "old"]);
}

/// Opening waits for a restore that is under way, and says who is at it when that takes too long.
#[test]
fn opening_waits_for_a_restore() {
    let (home, _out, backup) = home_and_backup();
    let child = Child::start("restore", &[text(home.path()), text(&backup)]);
    child.wait_for("begin");
    // Whatever comes first, the other waits for it or is refused; nothing is torn.
    let found = words(&open(home.path()));
    assert!(found == ["old", "old"] || found == ["new", "new"], "{found:?}");
    drop(child);

    let lock =
        fs::File::options().read(true).write(true).open(home.path().join("locks/home")).expect("the lock");
    lock.try_lock().expect("nobody is there");
    let mut limits = rowhouse::Limits::default();
    limits.deadline = Duration::from_millis(100);
    let error = builder(home.path()).limits(limits).open().expect_err("somebody restores");
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.holder().is_some() && error.retry_after().is_some(), "{error}");
    drop(lock);
    open(home.path());
}
