//! A backup that is made while everybody writes opens alone, is whole, and holds every row that was acknowledged before
//! it began; all its databases show one instant.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod common;
mod processes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use common::let_pass;
use processes::{Child, Numbers, folder, rounds, text};
use rowhouse::rusqlite::backup::Backup;
use rowhouse::{
    BackupOptions, BackupReport, Domain, ErrorKind, Home, Limits, Migration, RestoreOptions, Runtime,
};

const PROCESSES: i64 = 4;
/// In each process.
const WRITERS: i64 = 2;
const SCHEMA: &[Migration] = &[Migration {
    name: "V1__entry",
    sql: "CREATE TABLE entry(writer INTEGER NOT NULL, n INTEGER NOT NULL, body BLOB, PRIMARY KEY(writer, n))",
}];
const INSERT: &str = "INSERT INTO entry(writer, n, body) VALUES (?1, ?2, zeroblob(200))";
/// What is in the databases before: big enough for a copy to take a while.
const FILL: &str = "INSERT INTO entry SELECT -1, value, randomblob(4000)
     FROM (WITH RECURSIVE c(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM c WHERE value < 4000) SELECT value FROM c)";

/// `first` is written before `second` by everybody; `extra` is nobody's need.
fn domains() -> [Domain; 3] {
    ["first", "second", "extra"].map(|name| Domain::new(name).migrations(SCHEMA)).map(|domain| {
        if domain.name() == "extra" {
            domain.durability(rowhouse::Durability::Normal).best_effort()
        } else {
            domain
        }
    })
}

fn builder(home: &Path) -> rowhouse::Builder {
    domains().into_iter().fold(Runtime::builder(Home::at(home)), rowhouse::Builder::domain)
}

fn open(home: &Path) -> Runtime {
    opened(builder(home))
}

fn opened(builder: rowhouse::Builder) -> Runtime {
    let runtime = builder.open().expect("the home opens");
    common::until("the best-effort domain is attached", || {
        runtime.health() == rowhouse::Health::Ready
            && runtime.database("extra").is_ok_and(|extra| extra.health() == rowhouse::Health::Ready)
    });
    runtime
}

/// A home with something in every database, closed again.
fn filled() -> tempfile::TempDir {
    let home = folder();
    let runtime = open(home.path());
    for name in ["first", "second"] {
        runtime.database(name).expect("a domain").write(|tx| tx.execute(FILL, [])).expect("filled");
    }
    home
}

/// A backup of a home that this process does not have open.
fn backup(home: &Path, options: &BackupOptions) -> rowhouse::Result<BackupReport> {
    Runtime::builder(Home::at(home)).backup(options, &mut |_| {})
}

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let home: &Path = arguments[1].as_ref();
    match &*arguments[0] {
        "write" => write(home, arguments[2].parse().expect("a number")),
        "backup" => {
            processes::say("begin");
            backup(home, &BackupOptions::to(&arguments[2])).expect("a backup");
            processes::say("end");
            processes::listen();
        }
        "lock" => {
            let connection = processes::plain(&home.join(format!("{}.sqlite", arguments[2])));
            connection.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
            processes::say("locked");
            processes::listen();
        }
        other => panic!("no such role: {other}"),
    }
}

/// Two threads that write each entry to `first`, then to `second`; answers `mark` with what is acknowledged in both, and
/// makes a backup of its own on `backup FOLDER`.
fn write(home: &Path, process: i64) {
    let runtime = open(home);
    let done: Vec<AtomicI64> = (0..WRITERS).map(|_| AtomicI64::new(0)).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (thread, done) in (0..).zip(&done) {
            let (runtime, stop) = (&runtime, &stop);
            scope.spawn(move || {
                let databases = ["first", "second"].map(|name| runtime.database(name).expect("a domain"));
                for n in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    for database in &databases {
                        database
                            .write(|tx| tx.execute(INSERT, (process * WRITERS + thread, n)))
                            .expect("nobody's write fails during a backup");
                    }
                    done.store(n, Ordering::Release);
                }
            });
        }
        processes::say("ready");
        loop {
            let told = processes::listen();
            if told == "mark" {
                let marks: Vec<_> =
                    done.iter().map(|done| done.load(Ordering::Acquire).to_string()).collect();
                processes::say(&format!("marks {}", marks.join(" ")));
            } else if let Some(folder) = told.strip_prefix("backup ") {
                let report = runtime.backup(&BackupOptions::to(folder), &mut |_| {}).expect("a backup");
                processes::say(&format!("held {}", report.held_us));
            } else {
                stop.store(true, Ordering::Relaxed);
                return;
            }
        }
    });
}

/// By writer, how many entries are acknowledged in both databases.
fn marks(children: &mut [Child]) -> BTreeMap<i64, i64> {
    for child in &mut *children {
        child.tell("mark");
    }
    let lines = children.iter().map(|child| child.wait_for("marks"));
    let numbers: Vec<i64> = lines
        .flat_map(|line| line.split(' ').map(|word| word.parse().expect("a number")).collect::<Vec<_>>())
        .collect();
    (0..).zip(numbers).collect()
}

/// By writer, how many entries a copy holds, without a gap. It must open alone.
fn entries(copy: &Path) -> BTreeMap<i64, i64> {
    let alone = folder();
    let moved = alone.path().join("moved");
    std::fs::copy(copy, &moved).expect("copied to where nothing is beside it");
    assert_eq!(processes::integrity(&moved), "ok", "{}", copy.display());
    let connection = processes::plain(&moved);
    let mut query = connection
        .prepare("SELECT writer, count(*), max(n) FROM entry WHERE writer >= 0 GROUP BY writer")
        .expect("a query");
    let rows = query
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?)))
        .expect("rows")
        .map(|row| row.expect("a row"));
    rows.map(|(writer, count, last): (i64, i64, i64)| {
        assert_eq!(count, last, "writer {writer} has a gap");
        (writer, last)
    })
    .collect()
}

/// What is wrong with two copies that should show one instant.
fn disagreement(first: &BTreeMap<i64, i64>, second: &BTreeMap<i64, i64>) -> Option<String> {
    (0..PROCESSES * WRITERS).find_map(|writer| {
        let [first, second] = [first, second].map(|found| found.get(&writer).copied().unwrap_or(0));
        // Each writer has at most one entry that is in `first` only.
        (second > first || first > second + 1)
            .then(|| format!("writer {writer}: {first} in the first, {second} in the second"))
    })
}

fn check(backup: &Path, acknowledged: &BTreeMap<i64, i64>) {
    let [first, second] = ["first", "second"].map(|name| entries(&backup.join(format!("{name}.sqlite"))));
    for (writer, mark) in acknowledged {
        let found = second.get(writer).copied().unwrap_or(0);
        assert!(found >= *mark, "writer {writer}: {mark} were acknowledged, {found} are in the copy");
    }
    assert_eq!(disagreement(&first, &second), None);
}

/// The same without the engine: each database is copied by SQLite, one after the other.
fn copied_one_by_one(home: &Path, to: &Path) -> [BTreeMap<i64, i64>; 2] {
    ["first", "second"].map(|name| {
        let copy = to.join(name);
        let source = processes::plain(&home.join(format!("{name}.sqlite")));
        // A snapshot, as the engine's copies have; beside writers the copy would begin anew again and again.
        source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema").expect("a snapshot");
        let mut target = processes::plain(&copy);
        Backup::new(&source, &mut target).expect("a copy").step(-1).expect("all pages");
        drop(target);
        entries(&copy)
    })
}

/// The write locks of all databases are held together for the moment in which a snapshot of each begins, and the copies
/// are made from these: each opens alone, is whole, holds every row acknowledged before, and no entry is in the database
/// that is written second without being in the first.
///
/// Scale: 4 processes with 2 writers each, 16 MiB in each of 2 databases, 4 backups by a process that writes as well and 4
/// by one that has nothing open (`ROWHOUSE_TEST_ROUNDS` for more).
///
/// Control: `cp` of the `.sqlite` files lacks acknowledged rows; SQLite's own copies, one after the other, show two
/// instants.
#[test]
fn b1_a_backup_beside_writers_is_whole_and_of_one_instant() {
    let home = filled();
    let out = folder();
    let mut children: Vec<_> = (0..PROCESSES)
        .map(|process| Child::start("write", &[text(home.path()), &process.to_string()]))
        .collect();
    for child in &children {
        child.wait_for("ready");
    }
    let mut worst = 0;
    for round in 0..rounds(4) {
        let outside = out.path().join(format!("outside-{round}"));
        let before = marks(&mut children);
        let report = backup(home.path(), &BackupOptions::to(&outside)).expect("a backup");
        let after = marks(&mut children);
        check(&outside, &before);
        assert_eq!(report.manifest.left_out, [], "all three databases are in it");
        assert_eq!(report.manifest.databases.len(), 3);
        let wrote: i64 = after.values().sum::<i64>() - before.values().sum::<i64>();
        assert!(wrote > 0, "everybody goes on writing meanwhile");

        let inside = out.path().join(format!("inside-{round}"));
        let before = marks(&mut children);
        children[0].tell(&format!("backup {}", text(&inside)));
        let held: u64 = children[0].wait_for("held").parse().expect("a number");
        check(&inside, &before);
        println!("held for {} and {held} us, {wrote} entries meanwhile", report.held_us);
        worst = worst.max(held).max(report.held_us);
    }
    assert!(worst < 3_000_000, "writers were held for {worst} us");
    assert_only_complete(out.path());

    // Without the engine.
    let mut stale = None;
    let mut torn = None;
    for attempt in 0..20 {
        let before = marks(&mut children);
        let copy = out.path().join("cp");
        std::fs::copy(home.path().join("second.sqlite"), &copy).expect("cp");
        let found =
            processes::plain(&copy)
                .query_row("SELECT count(*) FROM entry WHERE writer >= 0", [], |row| row.get::<_, i64>(0));
        let acknowledged: i64 = before.values().sum();
        stale = stale.or_else(|| match found {
            Ok(found) if found >= acknowledged => None,
            Ok(found) => Some(format!("{found} of {acknowledged} acknowledged entries")),
            Err(error) => Some(error.to_string()),
        });
        let to = out.path().join(format!("plain-{attempt}"));
        std::fs::create_dir(&to).expect("a folder");
        let [first, second] = copied_one_by_one(home.path(), &to);
        torn = torn.or_else(|| disagreement(&first, &second));
        if stale.is_some() && torn.is_some() {
            break;
        }
    }
    println!("cp of the file alone: {stale:?}; one by one: {torn:?}");
    assert!(stale.is_some(), "the control: cp of the file alone has everything");
    assert!(torn.is_some(), "the control: copies made one by one agree");
    for child in &mut children {
        child.tell("stop");
    }
    children.into_iter().for_each(Child::finish);
}

/// Every folder here is a complete backup.
fn assert_only_complete(folder: &Path) {
    let elsewhere = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(folder).expect("a list") {
        let path = entry.expect("an entry").path();
        let report = Runtime::builder(Home::at(elsewhere.path().join("none")))
            .restore(&path, &RestoreOptions::dry_run(), &mut |_| {})
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(!report.databases.is_empty());
    }
}

fn unfinished(parent: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).expect("a list").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.to_str().expect("plain").contains("unfinished")).collect()
}

/// The copies are made in a folder of another name, which is renamed when it is complete and durable: killed at any
/// instant, nothing has the backup's name, and the next backup sweeps what is left.
///
/// Scale: 20 kills at random instants of a backup of 2 x 16 MiB (`ROWHOUSE_TEST_ROUNDS` for more).
///
/// Control: SQLite's own copy, killed in the same way, leaves a file of the final name that is no whole database.
#[test]
fn b1_killed_midway_leaves_nothing_of_the_final_name() {
    let home = filled();
    let out = folder();
    let target = |round| out.path().join(format!("round-{round}"));
    let run = |name: &Path| {
        let child = Child::start("backup", &[text(home.path()), text(name)]);
        child.wait_for("begin");
        child
    };
    let began = Instant::now();
    let mut child = run(&out.path().join("whole"));
    child.wait_for("end");
    let lasts = began.elapsed();
    child.tell("go");
    child.finish();
    let mut numbers = Numbers::new(20);
    let (mut midway, mut complete) = (0, 0);
    for round in 0..rounds(20) {
        let mut child = run(&target(round));
        let_pass(Duration::from_micros(numbers.below(lasts.as_micros() as u64)));
        child.kill();
        if target(round).exists() {
            complete += 1;
        } else {
            midway += u64::from(!unfinished(out.path()).is_empty());
        }
    }
    println!("{midway} killed midway, {complete} were done, a backup lasts {lasts:?}");
    assert!(midway > 0, "no kill came midway");
    backup(home.path(), &BackupOptions::to(out.path().join("last"))).expect("a backup");
    assert_eq!(unfinished(out.path()), [] as [PathBuf; 0], "the next backup sweeps");
    assert_only_complete(out.path());

    // Without the engine: the copy stands under its name from the first page on.
    let copy = out.path().join("plain");
    let source = processes::plain(&home.path().join("first.sqlite"));
    let mut into = processes::plain(&copy);
    Backup::new(&source, &mut into).expect("a copy").step(100).expect("some pages");
    drop(into);
    let found =
        processes::plain(&copy).query_row("SELECT count(*) FROM entry", [], |row| row.get::<_, i64>(0));
    assert!(copy.exists() && found.is_err(), "the control has a name and is whole: {found:?}");
}

/// A write lock that does not come is an error that names who has it, and nothing is left behind; a best-effort database
/// is then left out, which the manifest says.
#[test]
fn a_lock_that_does_not_come_names_its_holder() {
    let home = filled();
    let out = folder();
    let options = |name: &str| {
        let mut options = BackupOptions::to(out.path().join(name));
        options.wait = Duration::from_millis(300);
        options
    };
    for (locked, required) in [("first", true), ("second", true), ("extra", false)] {
        let mut child = Child::start("lock", &[text(home.path()), locked]);
        child.wait_for("locked");
        let answer = builder(home.path()).backup(&options(locked), &mut |_| {});
        if required {
            let error = answer.expect_err("locked");
            assert_eq!((error.kind(), error.database()), (ErrorKind::Busy, Some(locked)), "{error}");
            let holder = error.holder().map(|holder| i32::try_from(holder.pid).expect("a pid"));
            assert_eq!(holder, Some(child.pid()), "{error}");
            assert_eq!(std::fs::read_dir(out.path()).expect("a list").count(), 0);
        } else {
            let manifest = answer.expect("a backup without it").manifest;
            let left_out = &manifest.left_out[..];
            assert!(left_out.len() == 1 && left_out[0].name == "extra", "{left_out:?}");
            assert!(left_out[0].reason.contains(&child.pid().to_string()), "{left_out:?}");
            let names: Vec<_> = manifest.databases.iter().map(|database| &*database.name).collect();
            assert_eq!(names, ["first", "second"]);
            assert!(!out.path().join("extra/extra.sqlite").exists());
        }
        child.tell("go");
        child.finish();
    }
}

/// A database that is damaged, missing or not ours ends the backup when it is required, and else is left out.
#[test]
fn what_cannot_be_copied_ends_the_backup_or_is_named() {
    for (required, name) in [(true, "first"), (false, "extra")] {
        for (damage, kind) in
            [("page", ErrorKind::Corrupt), ("text", ErrorKind::Corrupt), ("gone", ErrorKind::NotFound)]
        {
            let home = filled();
            {
                let runtime = open(home.path());
                runtime
                    .database("extra")
                    .expect("a domain")
                    .write(|tx| tx.execute(FILL, []))
                    .expect("filled");
            }
            let file = home.path().join(format!("{name}.sqlite"));
            {
                let connection = processes::plain(&file);
                connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("worked off");
            }
            match damage {
                "page" => {
                    let mut bytes = std::fs::read(&file).expect("the file");
                    bytes[40_960..49_152].fill(0x5a);
                    std::fs::write(&file, bytes).expect("damaged");
                }
                "text" => std::fs::write(&file, "this is no database ".repeat(100)).expect("written"),
                _ => std::fs::remove_file(&file).expect("removed"),
            }
            let out = folder();
            let options = BackupOptions::to(out.path().join("b"));
            match (required, backup(home.path(), &options)) {
                (true, Err(error)) => {
                    assert_eq!((error.kind(), error.database()), (kind, Some(name)), "{damage}: {error}");
                    assert_eq!(std::fs::read_dir(out.path()).expect("a list").count(), 0, "{damage}");
                }
                (false, Ok(report)) => {
                    let left_out = &report.manifest.left_out;
                    assert!(left_out.len() == 1 && left_out[0].name == name, "{damage}: {left_out:?}");
                    assert!(!out.path().join("b").join(format!("{name}.sqlite")).exists(), "{damage}");
                    assert_only_complete(out.path());
                }
                (_, answer) => panic!("{damage} of {name}: {answer:?}"),
            }
        }
    }
}

/// A schema that a newer program wrote is copied as it is.
#[test]
fn a_newer_schema_is_copied_and_not_touched() {
    const NEWER: &[Migration] =
        &[SCHEMA[0], Migration { name: "V2__more", sql: "CREATE TABLE more(a TEXT)" }];
    let home = folder();
    let newer = Domain::new("first").migrations(NEWER).compatible_from(2, 2).program("newer", "2.0");
    drop(Runtime::builder(Home::at(home.path())).domain(newer).open().expect("opened"));
    let out = folder();
    let to = |name: &str| BackupOptions::to(out.path().join(name));
    let older = || Runtime::builder(Home::at(home.path())).domain(Domain::new("first").migrations(SCHEMA));
    let report = older().backup(&to("a"), &mut |_| {}).expect("a backup");
    let found = &report.manifest.databases[0];
    assert_eq!((found.schema_version, found.program.as_deref()), (Some(2), Some("newer")));
    assert_eq!(found.rows.get("more"), Some(&0));
    let error = Runtime::builder(Home::at(out.path().join("other")))
        .domain(Domain::new("first").migrations(SCHEMA))
        .restore(&report.folder, &RestoreOptions::default(), &mut |_| {})
        .expect_err("too new");
    assert_eq!(error.kind(), ErrorKind::SchemaTooNew, "{error}");
    assert!(!out.path().join("other").exists(), "nothing was changed");
}

/// Without a folder given it goes to the home's `backups/`, private; a name that is taken is refused; progress comes to its
/// end for every database.
#[test]
fn the_default_folder_is_in_the_home_and_private() {
    use std::os::unix::fs::PermissionsExt;
    let home = filled();
    let runtime = opened(builder(home.path()).limits(Limits::default()));
    let mut ends = BTreeMap::new();
    let report = runtime
        .backup(&BackupOptions::default(), &mut |progress| {
            assert!(progress.bytes_done <= progress.bytes_total);
            ends.insert(
                (progress.database.to_owned(), format!("{:?}", progress.step)),
                progress.bytes_done == progress.bytes_total,
            );
        })
        .expect("a backup");
    assert_eq!(ends.len(), 6, "{ends:?}");
    assert!(ends.values().all(|end| *end), "{ends:?}");
    let backups = home.path().canonicalize().expect("a path").join("backups");
    assert_eq!(report.folder.parent(), Some(&*backups));
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&report.folder), 0o700);
    let files: Vec<_> =
        std::fs::read_dir(&report.folder).expect("a list").map(|entry| entry.expect("one").path()).collect();
    assert_eq!(files.len(), 4, "three copies and the manifest, nothing beside: {files:?}");
    assert!(files.iter().all(|file| mode(file) == 0o600));
    let error = runtime.backup(&BackupOptions::to(&report.folder), &mut |_| {}).expect_err("taken");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    runtime.close(common::LONG);
    let error = runtime.backup(&BackupOptions::default(), &mut |_| {}).expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}
