//! Damaged files stop no start: they are kept whole in the quarantine, and what can be read is in a new database.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod common;
mod faults;
mod processes;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::until;
use processes::{BUILT_IN, Child, Numbers, said};
use rowhouse::{Database, Domain, ErrorKind, Health, Home, Migration, OnDamage, Runtime, repair};

/// Rows of each database; the first half is in the main file, the second only in the log.
const ROWS: i64 = 400;
const PAGE: usize = 4096;

/// What was said so far about files in this home.
fn said_about(home: &Path) -> Vec<String> {
    said::warnings_with(&[processes::text(&home.canonicalize().expect("the home"))])
}

/// How a row of each built-in database is written, and how its number is read back without an index.
fn sql(name: &str) -> (&'static str, &'static str) {
    match name {
        "state" => (
            "INSERT INTO thread(id, created_at, updated_at, recency_at, tokens_used, first_user_message)
             VALUES (printf('00000000-0000-0000-0000-%012d', ?1), 1, 1, 1, ?1, ?2)",
            "SELECT tokens_used FROM thread NOT INDEXED WHERE first_user_message IS NOT NULL ORDER BY 1",
        ),
        "goals" => (
            "INSERT INTO goal(thread_id, goal_id, objective, status, created_at, updated_at)
             VALUES (printf('t%d', ?1), 'g', ?2, 'active', ?1, 1)",
            "SELECT created_at FROM goal NOT INDEXED WHERE objective IS NOT NULL ORDER BY 1",
        ),
        "device_keys" => (
            "INSERT INTO binding VALUES (printf('dk_osn_%043d', ?1), ?2, 'c', ?1, 1)",
            "SELECT created_at FROM binding NOT INDEXED WHERE account_user_id IS NOT NULL ORDER BY 1",
        ),
        _ => (
            "INSERT INTO log(ts, level, target, message, process_id, bytes) VALUES (?1, 3, 'app', ?2, 'p', 1)",
            "SELECT ts FROM log NOT INDEXED WHERE message IS NOT NULL ORDER BY 1",
        ),
    }
}

fn text_of(number: i64) -> String {
    format!("row {number:06} {}", "x".repeat(300))
}

fn insert(database: &Database, name: &str, numbers: std::ops::Range<i64>) {
    let (insert, _) = sql(name);
    database
        .write(|tx| {
            for number in numbers.clone() {
                tx.execute(insert, (number, text_of(number)))?;
            }
            Ok(())
        })
        .expect("rows");
}

fn numbers(database: &Database, name: &str) -> rowhouse::Result<Vec<i64>> {
    let (_, select) = sql(name);
    database.read(|at| at.rows(select, [], |row| row.get(0)))
}

fn all_ready(runtime: &Runtime) {
    for name in BUILT_IN {
        let database = runtime.database(name).expect("the domain");
        until(name, || database.health() == Health::Ready);
    }
}

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let home: &Path = arguments[1].as_ref();
    match &*arguments[0] {
        "fill" => {
            for half in [0..ROWS / 2, ROWS / 2..ROWS] {
                let runtime = Runtime::open(Home::at(home)).expect("it opens");
                all_ready(&runtime);
                let last = half.end == ROWS;
                for name in BUILT_IN {
                    insert(&runtime.database(name).expect("the domain"), name, half.clone());
                }
                if last && arguments[2] == "killed" {
                    processes::say("filled");
                    processes::listen();
                }
                runtime.close(Duration::from_secs(20));
            }
            processes::say("filled");
        }
        "start" => start(home),
        "plan" => slow(home, |home, domains| repair::plan(home, domains, None).expect("a plan").len()),
        "apply" => slow(home, |home, domains| repair::apply(home, domains, None).expect("a repair").len()),
        "naive" => naive(&home.join("state.sqlite")),
        "log" => long_log(&home.join("state.sqlite"), arguments[2].parse().expect("a number")),
        other => panic!("no such role: {other}"),
    }
}

/// Looks for damage in the goals; the first read of the file takes until somebody says so.
fn slow(home: &Path, look: fn(&Home, &[Domain]) -> usize) {
    let file = home.canonicalize().expect("the home").join("goals.sqlite");
    let endless = faults::Effect::Delay(Duration::from_hours(1));
    let slow = faults::inject(&[faults::Operation::Read], file, endless);
    let home = Home::at(home);
    let looking = std::thread::spawn(move || look(&home, &[Domain::goals()]));
    until("it reads", || slow.hits() > 0);
    processes::say("inside");
    processes::listen();
    drop(slow);
    processes::say(&format!("found {}", looking.join().expect("no panic")));
}

/// A home with [`ROWS`] rows in each database, whose process is gone.
fn filled(how: &str) -> tempfile::TempDir {
    let home = processes::folder();
    let mut child = Child::start("fill", &[processes::text(home.path()), how]);
    child.wait_for("filled");
    if how == "killed" {
        child.kill();
    } else {
        child.finish();
    }
    home
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", file.display()))
}

/// The bytes of the three files.
fn trio(file: &Path) -> BTreeMap<&'static str, Vec<u8>> {
    ["", "-wal", "-shm"]
        .into_iter()
        .filter_map(|ending| Some((ending, fs::read(beside(file, ending)).ok()?)))
        .collect()
}

fn overwrite(file: &Path, at: usize, bytes: &[u8]) {
    let mut opened = fs::OpenOptions::new().write(true).open(file).expect("the file");
    opened.seek(SeekFrom::Start(at as u64)).expect("a place");
    opened.write_all(bytes).expect("written");
}

fn random(length: usize) -> Vec<u8> {
    let mut numbers = Numbers::new(7);
    (0..length).map(|_| u8::try_from(numbers.below(256)).expect("a byte")).collect()
}

/// The place of a table's leaf page with this row.
fn leaf_with(file: &Path, number: i64) -> usize {
    let (bytes, row) = (fs::read(file).expect("its bytes"), format!("row {number:06}"));
    let pages = bytes.chunks(PAGE).enumerate().skip(1);
    let holds = |page: &[u8]| page[0] == 13 && page.windows(row.len()).any(|found| found == row.as_bytes());
    pages.into_iter().find(|(_, page)| holds(page)).expect("a page with the row").0 * PAGE
}

/// What is done to a file, how its process ended before, and which rows must be kept: these at least, these at most.
struct Kind {
    name: &'static str,
    ended: &'static str,
    damage: fn(&Path),
    kept: fn(&[i64]) -> bool,
}

fn all(kept: &[i64]) -> bool {
    kept == (0..ROWS).collect::<Vec<_>>()
}

/// What was written last, on pages that are in the log.
fn those_in_the_log(kept: &[i64]) -> bool {
    (ROWS / 2..ROWS).all(|number| kept.contains(&number))
}

/// A page holds about a dozen rows.
fn all_but_one_page(kept: &[i64]) -> bool {
    (ROWS - 20..ROWS).contains(&(kept.len() as i64)) && !kept.contains(&100)
}

const KINDS: [Kind; 6] = [
    Kind {
        name: "0 byte",
        ended: "killed",
        damage: |file| fs::write(file, []).expect("emptied"),
        kept: those_in_the_log,
    },
    Kind {
        name: "random bytes",
        ended: "killed",
        damage: |file| {
            let length = fs::metadata(file).expect("it").len();
            fs::write(file, random(usize::try_from(length).expect("small"))).expect("overwritten");
        },
        kept: those_in_the_log,
    },
    Kind {
        name: "truncated",
        ended: "closed",
        damage: |file| {
            let length = fs::metadata(file).expect("it").len();
            let cut = length / 2 / PAGE as u64 * PAGE as u64;
            fs::OpenOptions::new().write(true).open(file).expect("it").set_len(cut).expect("cut");
        },
        kept: |kept| kept.len() as i64 > ROWS / 10,
    },
    Kind { name: "zeroed page 1", ended: "closed", damage: |file| overwrite(file, 0, &[0; PAGE]), kept: all },
    Kind {
        name: "zeroed middle page",
        ended: "closed",
        damage: |file| overwrite(file, leaf_with(file, 100), &[0; PAGE]),
        kept: all_but_one_page,
    },
    Kind {
        name: "garbage WAL",
        ended: "killed",
        damage: |file| {
            let log = beside(file, "-wal");
            let length = fs::metadata(&log).expect("a log").len();
            assert!(length > 10_000, "the second half is in the log");
            fs::write(&log, random(usize::try_from(length).expect("small"))).expect("overwritten");
        },
        kept: |kept| kept == (0..ROWS / 2).collect::<Vec<_>>(),
    },
];

/// The folders in a home's quarantine for a database.
fn sets(home: &Path, name: &str) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(home.join("quarantine")) else { return Vec::new() };
    let of_name = |path: &PathBuf| {
        path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&format!("{name}-2")))
    };
    found.map(|entry| entry.expect("an entry").path()).filter(of_name).collect()
}

/// A plain program's start on a damaged trio: opens, makes its table if that is missing, writes and counts.
fn plain_start(file: &Path, name: &str) -> Result<Vec<i64>, String> {
    let (insert, select) = sql(name);
    let connection = processes::plain(file);
    let run = || -> rowhouse::rusqlite::Result<Vec<i64>> {
        connection.execute_batch("PRAGMA journal_mode=WAL")?;
        connection.execute(insert, (ROWS, "new"))?;
        connection.prepare(select)?.query_map([], |row| row.get(0))?.collect()
    };
    run().map_err(|error| error.to_string())
}

/// Each of the four databases, damaged in each of six ways, opens and takes writes within two seconds; its files are in
/// the quarantine, byte for byte; one line says so; a required one holds what the undamaged part allows, and nothing else.
///
/// Scale: 4 databases x 6 kinds of damage, 400 rows each.
/// Control: a plain connection on a copy of the same files fails at its first statement, or in the middle, each time it is
/// started; or says nothing and has lost the rows of the log, and their bytes.
#[test]
fn c1_a_damaged_database_stops_no_start() {
    said::listen();
    for kind in KINDS {
        let home = filled(kind.ended);
        let mut damaged = BTreeMap::new();
        for name in BUILT_IN {
            let file = home.path().join(format!("{name}.sqlite"));
            (kind.damage)(&file);
            let files = trio(&file);
            control(&kind, name, &files);
            damaged.insert(name, files);
        }
        let began = Instant::now();
        let runtime = Runtime::open(Home::at(home.path())).expect(kind.name);
        all_ready(&runtime);
        for name in BUILT_IN {
            insert(&runtime.database(name).expect("the domain"), name, ROWS..ROWS + 1);
        }
        let took = began.elapsed();
        println!("{}: usable after {took:?}", kind.name);
        assert!(took < common::LONG, "{}: usable after {took:?}", kind.name);
        for (name, files) in damaged {
            let case = format!("{} of {name}", kind.name);
            let database = runtime.database(name).expect("the domain");
            if kind.name == "zeroed middle page" {
                // Nobody has looked at that page yet.
                let _ = numbers(&database, name);
                until(&case, || database.damage().is_some() && database.health() == Health::Ready);
                insert(&database, name, ROWS + 1..ROWS + 2);
            }
            let report = database.damage().expect(&case);
            let [set] = &sets(home.path(), name)[..] else { panic!("{case}: one set") };
            assert_eq!(report.evidence, set.canonicalize().expect("it"), "{case}");
            let kept = trio(&set.join(format!("{name}.sqlite")));
            let endings: &[&str] =
                if kind.name == "zeroed middle page" { &[""] } else { &["", "-wal", "-shm"] };
            for ending in endings {
                assert!(kept.get(ending) == files.get(ending), "{case}: {ending:?} was changed");
            }
            let mut rows = numbers(&database, name).expect(&case);
            rows.retain(|number| *number < ROWS);
            println!("{case}: {} rows, {report}", rows.len());
            if name == "logs" {
                assert_eq!((report.action, rows.len()), (OnDamage::Fresh, 0), "{case}");
            } else {
                assert_eq!(report.action, OnDamage::Salvage, "{case}");
                assert!((kind.kept)(&rows), "{case}: {rows:?}");
                assert!(report.kept() >= rows.len() as u64, "{case}: {report:?}");
                assert!(rows.windows(2).all(|pair| pair[0] < pair[1]), "{case}: no row twice");
            }
            let told = |line: &&String| line.contains(processes::text(&report.evidence));
            assert_eq!(said_about(home.path()).iter().filter(told).count(), 1, "{case}: one notice");
            assert_eq!(database.warnings().iter().filter(told).count(), 1, "{case}");
        }
        runtime.close(Duration::from_secs(20));
        drop(runtime);
        for name in BUILT_IN {
            assert_eq!(processes::integrity(&home.path().join(format!("{name}.sqlite"))), "ok");
            assert_eq!(sets(home.path(), name).len(), 1, "{}: {name}", kind.name);
        }
        assert_eq!(said_about(home.path()).len(), BUILT_IN.len(), "{:#?}", said_about(home.path()));
    }
}

fn control(kind: &Kind, name: &str, files: &BTreeMap<&'static str, Vec<u8>>) {
    let folder = processes::folder();
    let file = folder.path().join("plain.sqlite");
    for (ending, bytes) in files {
        fs::write(beside(&file, ending), bytes).expect("a copy");
    }
    match plain_start(&file, name) {
        Err(error) => println!("control, {} of {name}: {error}", kind.name),
        Ok(rows) => {
            assert!((rows.len() as i64) < ROWS, "{}: a plain start loses nothing: {}", kind.name, rows.len());
            assert!(trio(&file).get("-wal") != files.get("-wal"), "its log is as it was");
            println!("control, {} of {name}: {} of {ROWS} rows, and no word", kind.name, rows.len());
        }
    }
}

/// One of the many that start at once.
fn start(home: &Path) {
    processes::ready();
    let runtime = Runtime::open(Home::at(home)).expect("it opens");
    let state = runtime.database("state").expect("the domain");
    let number = ROWS + i64::from(std::process::id());
    state.write(|tx| tx.execute(sql("state").0, (number, "new"))).expect("it takes writes");
    processes::say(if state.damage().is_some() { "repaired" } else { "fine" });
    processes::listen();
}

/// The control: what each of them does by itself when it meets a file that is no database.
fn naive(file: &Path) {
    let broken = processes::plain(file).execute_batch("SELECT count(*) FROM sqlite_schema").is_err();
    assert!(broken);
    processes::ready();
    let moved = fs::rename(file, beside(file, &format!(".corrupt-{}", std::process::id())));
    let new = processes::plain(file);
    new.busy_timeout(Duration::from_secs(20)).expect("a timeout");
    let row = new.execute_batch("CREATE TABLE IF NOT EXISTS t(n); INSERT INTO t VALUES (1)");
    processes::say(if moved.is_ok() && row.is_ok() { "fine" } else { "failed" });
    processes::listen();
}

/// Sixteen processes meet one corrupt database at once: one of them sets it aside, all are usable, and no row that any of
/// them writes is lost.
///
/// Scale: 16 processes.
/// Control: sixteen that each move the broken file away move each other's new one, or fail.
#[test]
fn c3_sixteen_meet_it_and_one_sets_it_aside() {
    const PROCESSES: usize = 16;
    let home = filled("closed");
    let file = home.path().join("state.sqlite");
    overwrite(&file, 0, &random(PAGE));
    let damaged = fs::read(&file).expect("its bytes");
    let run = |role: &str, home: &Path| {
        let mut children: Vec<_> =
            (0..PROCESSES).map(|_| Child::start(role, &[processes::text(home)])).collect();
        processes::start_together(&mut children);
        let said: Vec<_> = children.iter().map(|child| child.line().expect("an answer")).collect();
        for mut child in children {
            child.tell("end");
            child.finish();
        }
        said
    };

    let plain = processes::folder();
    fs::write(plain.path().join("state.sqlite"), &damaged).expect("a copy");
    let said = run("naive", plain.path());
    let moved = fs::read_dir(plain.path()).expect("a list").flatten();
    let moved = moved.filter(|entry| entry.file_name().to_string_lossy().contains(".corrupt-")).count();
    println!("control: {moved} files moved away, {said:?}");
    assert!(moved > 1 || said.iter().any(|line| line == "failed"), "control: {moved} files moved away");

    let said = run("start", home.path());
    assert_eq!(said.iter().filter(|line| *line == "repaired").count(), 1, "{said:?}");
    let [set] = &sets(home.path(), "state")[..] else { panic!("one set: {:?}", sets(home.path(), "state")) };
    assert!(fs::read(set.join("state.sqlite")).expect("it is kept") == damaged);
    let state = processes::plain(&file);
    let rows: i64 = state.query_row("SELECT count(*) FROM thread", [], |row| row.get(0)).expect("a count");
    assert_eq!(rows, ROWS + PROCESSES as i64, "what was there, and one of each");
}

/// Fills the log of a database without working it off, and waits to be killed.
fn long_log(file: &Path, bytes: usize) {
    let connection = processes::plain(file);
    connection.execute_batch("PRAGMA wal_autocheckpoint=0").expect("set");
    let mut number = ROWS;
    while fs::metadata(beside(file, "-wal")).map_or(0, |found| found.len()) < bytes as u64 {
        let text = "long ".repeat(50_000);
        connection.execute(sql("state").0, (number, text)).expect("a row");
        number += 1;
    }
    processes::say(&format!("filled {}", number - ROWS));
    processes::listen();
}

/// A database whose first page was overwritten keeps its log: after the start it is in the quarantine, byte for byte, and
/// every row that was only in the log is in the new database.
///
/// Scale: a log of 8 MiB; `ROWHOUSE_TEST_LOG_MIB=64` for one of 64 MiB.
/// Control: a plain connection that writes to the emptied file deletes the log of the same copy, and one on the overwritten
/// file fails.
#[test]
fn c9_the_log_of_an_overwritten_file_is_kept() {
    let mebibytes: usize =
        std::env::var("ROWHOUSE_TEST_LOG_MIB").map_or(8, |text| text.parse().expect("a number"));
    for (how, damage) in [
        ("overwritten", (|file| overwrite(file, 0, &random(PAGE))) as fn(&Path)),
        ("emptied", |file| fs::write(file, []).expect("emptied")),
    ] {
        let home = filled("closed");
        let file = home.path().join("state.sqlite");
        let mut child = Child::start("log", &[processes::text(home.path()), &(mebibytes << 20).to_string()]);
        let written: i64 = child.wait_for("filled").parse().expect("a number");
        child.kill();
        damage(&file);
        let damaged = trio(&file);
        assert!(damaged["-wal"].len() >= mebibytes << 20);

        let folder = processes::folder();
        let copy = folder.path().join("state.sqlite");
        for (ending, bytes) in &damaged {
            fs::write(beside(&copy, ending), bytes).expect("a copy");
        }
        let plain = processes::plain(&copy);
        match plain.execute_batch("CREATE TABLE IF NOT EXISTS t(n)") {
            Ok(()) => {
                drop(plain);
                assert!(trio(&copy).get("-wal") != damaged.get("-wal"), "control, {how}: the log is kept");
            }
            Err(error) => println!("control, {how}: {error}"),
        }

        let began = Instant::now();
        let runtime = Runtime::open(Home::at(home.path())).expect(how);
        println!("{how}: {mebibytes} MiB of log, open after {:?}", began.elapsed());
        let [set] = &sets(home.path(), "state")[..] else { panic!("{how}: one set") };
        let kept = trio(&set.join("state.sqlite"));
        assert!(kept == damaged, "{how}: byte for byte");
        let count = "SELECT count(*) FROM thread WHERE tokens_used >= 400";
        let state = runtime.database("state").expect("the domain");
        let found: i64 = state.read(|at| at.row(count, [], |row| row.get(0))).expect("a count");
        assert_eq!(found, written, "{how}");
    }
}

/// The manifest of a finished set, as it was at an earlier step.
fn manifest_at(finished: &str, state: &str, main: &Path) -> String {
    let mut manifest: serde_json::Value = serde_json::from_str(finished).expect("JSON");
    manifest["state"] = state.into();
    let found = fs::symlink_metadata(main).expect("the damaged file");
    manifest["main"] = serde_json::json!([found.dev(), found.ino()]);
    manifest.to_string()
}

/// A step, the state in the manifest, which files have moved, and the new database where there is one.
type Step<'a> = (&'a str, &'a str, &'a [&'a str], Option<&'a [u8]>);

/// A process that is killed at any step of setting a database right leaves what the next start finishes: one set in the
/// quarantine, every row that can be read, nothing half done at the path.
///
/// Scale: every state that a manifest can be in, and between them each file moved or not.
/// Control: without its manifest the set is only a folder: what is in the home then is opened as it is, and a main file
/// without its log is missing the rows of the log.
#[test]
fn c1_a_killed_repair_is_finished() {
    // What a whole repair leaves.
    let model = filled("killed");
    let file = model.path().join("state.sqlite");
    overwrite(&file, 0, &[0; PAGE]);
    let damaged = trio(&file);
    Runtime::open(Home::at(model.path())).expect("it opens").close(common::LONG);
    let set = sets(model.path(), "state").remove(0);
    let finished = fs::read_to_string(set.join("manifest.json")).expect("a manifest");
    let built = fs::read(&file).expect("the new database");

    let steps: [Step<'_>; 8] = [
        ("intent", "moving", &[], None),
        ("-shm moved", "moving", &["-shm"], None),
        ("-wal moved", "moving", &["-shm", "-wal"], None),
        ("all moved", "moving", &["-shm", "-wal", ""], None),
        ("moved", "moved", &["-shm", "-wal", ""], None),
        ("half built", "moved", &["-shm", "-wal", ""], Some(b"half of a new one")),
        ("built", "built", &["-shm", "-wal", ""], Some(&built)),
        ("in place", "built", &["-shm", "-wal", ""], None),
    ];
    for (step, state, moved, new) in steps {
        let home = filled("killed");
        let file = home.path().join("state.sqlite");
        for (ending, bytes) in &damaged {
            fs::write(beside(&file, ending), bytes).expect("the damaged trio");
        }
        let set = home.path().join("quarantine/state-20260101T000000Z");
        fs::create_dir_all(&set).expect("a folder");
        fs::write(set.join("manifest.json"), manifest_at(&finished, state, &file)).expect("a manifest");
        for ending in moved {
            let from = beside(&file, ending);
            fs::rename(&from, set.join(from.file_name().expect("a name"))).expect("moved");
        }
        if let Some(new) = new {
            fs::write(set.join("built"), new).expect("a new one");
        }
        if step == "in place" {
            fs::write(&file, &built).expect("in place");
        }
        let runtime = Runtime::open(Home::at(home.path())).expect(step);
        let state = runtime.database("state").expect("the domain");
        assert!(all(&numbers(&state, "state").expect(step)), "{step}");
        assert!(state.damage().is_some(), "{step}: it is told");
        assert_eq!(sets(home.path(), "state").len(), 1, "{step}");
        assert!(trio(&set.join("state.sqlite")) == damaged, "{step}: byte for byte");
        let now = fs::read_to_string(set.join("manifest.json")).expect("a manifest");
        assert!(now.contains("\"done\""), "{step}: {now}");
        assert!(!set.join("built").exists(), "{step}");
        runtime.close(common::LONG);
        drop((state, runtime));
        assert_eq!(processes::integrity(&file), "ok", "{step}");
        let runtime = Runtime::open(Home::at(home.path())).expect(step);
        assert!(runtime.database("state").expect("it").damage().is_none(), "{step}: it is over");
    }

    let home = filled("killed");
    let file = home.path().join("state.sqlite");
    fs::rename(beside(&file, "-wal"), home.path().join("aside")).expect("moved");
    let runtime = Runtime::open(Home::at(home.path())).expect("control: it opens");
    let rows = numbers(&runtime.database("state").expect("it"), "state").expect("control");
    assert!(!all(&rows), "control: the log is not missed");
}

/// A database that somebody put back while a repair was unfinished is kept, and the repair given up.
#[test]
fn a_file_that_was_put_back_meanwhile_counts() {
    let home = filled("closed");
    let file = home.path().join("state.sqlite");
    let good = fs::read(&file).expect("it");
    overwrite(&file, 0, &[0; PAGE]);
    Runtime::open(Home::at(home.path())).expect("it opens").close(common::LONG);
    let set = sets(home.path(), "state").remove(0);
    let manifest = manifest_at(
        &fs::read_to_string(set.join("manifest.json")).expect("a manifest"),
        "moved",
        &set.join("state.sqlite"),
    );
    fs::write(set.join("manifest.json"), manifest).expect("as if killed");
    for ending in ["-wal", "-shm"] {
        fs::remove_file(beside(&file, ending)).expect("removed");
    }
    fs::write(&file, good).expect("a backup");
    let runtime = Runtime::open(Home::at(home.path())).expect("it opens");
    let state = runtime.database("state").expect("the domain");
    assert!(all(&numbers(&state, "state").expect("rows")) && state.damage().is_none());
    let manifest = fs::read_to_string(set.join("manifest.json")).expect("a manifest");
    assert!(manifest.contains("given_up"), "{manifest}");
}

/// Every file of a home with its bytes, but for lock files, status pages, and the index of a log, which any reader makes
/// anew.
fn content(home: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(home).expect("a list").flatten().map(|entry| entry.path());
    let counts = |path: &PathBuf| path.is_file() && !path.to_string_lossy().ends_with("-shm");
    entries.filter(counts).map(|path| (path.clone(), fs::read(path).expect("it"))).collect()
}

/// A repair on demand first shows what it would do, and changes nothing; then does it; and is refused while the home is
/// open. What is locked, or newer, is not damaged.
#[test]
fn a_repair_is_planned_and_applied() {
    let domains = || [Domain::state(), Domain::logs()].map(|domain| domain.on_damage(OnDamage::Refuse));
    let open = |home: &Path| {
        let [state, logs] = domains();
        Runtime::builder(Home::at(home)).domain(state).domain(logs).open()
    };
    let home = filled("closed");
    let at = Home::at(home.path());
    let plan = || repair::plan(&at, &domains(), None).expect("a plan");
    assert_eq!(plan(), []);
    let holder = processes::plain(&home.path().join("state.sqlite"));
    holder.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    assert_eq!(plan(), [], "locked is not damaged");
    holder
        .execute_batch("UPDATE rowhouse_meta SET schema_version = 9; UPDATE refinery_schema_history SET version = 9 WHERE version = 2; COMMIT")
        .expect("a newer schema");
    assert_eq!(plan(), [], "newer is not damaged");
    drop(holder);

    let home = filled("closed");
    let at = Home::at(home.path());
    let plan = || repair::plan(&at, &domains(), None).expect("a plan");
    let file = home.path().join("state.sqlite");
    overwrite(&file, leaf_with(&file, 100), &[0; PAGE]);
    overwrite(&home.path().join("logs.sqlite"), 0, &[0; PAGE]);
    let before = content(home.path());
    let found = plan();
    assert!(content(home.path()) == before, "a plan changes nothing");
    println!("{found:#?}");
    let names: Vec<_> = found.iter().map(|found| (&*found.database, found.action)).collect();
    assert_eq!(names, [("state", OnDamage::Salvage), ("logs", OnDamage::Fresh)]);
    let rows = found[0].rows.as_ref().expect("nobody has it open");
    let threads = rows.iter().find(|rows| rows.table == "thread").expect("the table");
    assert!(threads.kept > 300 && threads.lost > 0, "{threads:?}");
    let runtime = {
        let refused = open(home.path()).expect("the damaged page is not met by opening");
        let busy = repair::apply(&at, &domains(), None).expect_err("the home is open");
        assert_eq!(busy.kind(), ErrorKind::Busy, "{busy}");
        refused
    };
    let state = runtime.database("state").expect("the domain");
    let _ = numbers(&state, "state");
    until("it says so", || state.health() == Health::Latched);
    let refused = state.write(|tx| tx.execute("DELETE FROM thread", [])).expect_err("it refuses");
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    runtime.close(common::LONG);
    drop((state, runtime));
    assert!(sets(home.path(), "state").is_empty(), "nothing was moved");

    let missing = repair::apply(&at, &domains(), Some("goals")).expect_err("no such domain here");
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    let done = repair::apply(&at, &domains(), None).expect("repaired");
    assert_eq!(done.len(), 2, "{done:?}");
    assert_eq!(done[0].tables.iter().find(|rows| rows.table == "thread"), Some(threads), "as planned");
    assert_eq!(plan(), []);
    let runtime = open(home.path()).expect("it opens");
    assert!(all_but_one_page(&numbers(&runtime.database("state").expect("it"), "state").expect("rows")));
}

/// A plan reads whole files, and nobody waits for that: a program starts and writes meanwhile. What it finds is right all the
/// same.
///
/// Scale: a plan whose first read of the file takes until the program has written.
///
/// Control: a repair that is applied has the home alone, and the program is told so.
#[test]
fn programs_start_and_write_while_a_repair_is_planned() {
    let home = filled("closed");
    for role in ["plan", "apply"] {
        let mut child = Child::start(role, &[processes::text(home.path())]);
        child.wait_for("inside");
        let mut limits = rowhouse::Limits::default();
        limits.deadline = Duration::from_secs(2);
        let opened = Runtime::builder(Home::at(home.path())).domain(Domain::goals()).limits(limits).open();
        if role == "plan" {
            let goals = opened.expect("nobody has it alone").database("goals").expect("the domain");
            insert(&goals, "goals", ROWS..ROWS + 1);
            child.tell("go on");
            assert_eq!(child.wait_for("found"), "0");
            child.finish();
        } else {
            let error = opened.expect_err("somebody has it alone");
            assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
            assert!(
                error.message().contains("repaired") && !error.message().contains("into this home"),
                "{error}"
            );
            child.kill();
        }
    }
}

/// A full-text index over another table, here through a view, is whole after a salvage: what is found is what is there, and
/// it is kept in step with what is written later.
#[test]
fn a_full_text_index_over_another_table_works_after_a_salvage() {
    let migration = Migration {
        name: "V1__item",
        sql: "CREATE TABLE item(id TEXT PRIMARY KEY, body TEXT);
              CREATE VIEW item_text AS SELECT item.rowid AS number, lower(body) AS body FROM item;
              CREATE VIRTUAL TABLE words USING fts5(body, content='item_text', content_rowid='number');
              CREATE TRIGGER words_in AFTER INSERT ON item BEGIN
                  INSERT INTO words(rowid, body) SELECT number, body FROM item_text WHERE number = new.rowid; END;
              CREATE TRIGGER words_out BEFORE DELETE ON item BEGIN
                  INSERT INTO words(words, rowid, body) SELECT 'delete', number, body FROM item_text WHERE number = old.rowid; END;
              CREATE VIRTUAL TABLE bare USING fts5(body, content='')",
    };
    let home = processes::folder();
    let open = || {
        let domain = Domain::new("work").migrations(&[migration]);
        Runtime::builder(Home::at(home.path())).domain(domain).open().expect("it opens")
    };
    let runtime = open();
    let items = |tx: &rowhouse::Tx| {
        for n in 0..300 {
            let body = format!("Word{n} {}", "filler ".repeat(60));
            tx.execute("INSERT INTO item VALUES (?1, ?2)", (format!("id{n}"), body))?;
        }
        tx.execute("DELETE FROM item WHERE id = 'id7'", [])
    };
    runtime.database("work").expect("the domain").write(items).expect("rows");
    runtime.close(common::LONG);
    drop(runtime);
    let file = home.path().join("work.sqlite");
    overwrite(&file, 0, &[0; PAGE]);
    overwrite(&file, 20 * PAGE, &random(PAGE));

    let runtime = open();
    let work = runtime.database("work").expect("the domain");
    let report = work.damage().expect("it was damaged");
    assert_eq!(report.not_read, ["bare"], "{report}");
    assert!(report.to_string().contains("the rows of bare"), "{report}");
    let rows: Vec<String> =
        work.read(|at| at.rows("SELECT id FROM item", [], |row| row.get(0))).expect("rows");
    assert!((250..299).contains(&rows.len()), "a page is lost: {}", rows.len());
    for n in [0, 7, 100, 299] {
        let sql = format!("SELECT count(*) FROM words WHERE words MATCH 'word{n}'");
        let found: i64 = work.read(|at| at.row(&sql, [], |row| row.get(0))).expect("found");
        assert_eq!(found == 1, rows.contains(&format!("id{n}")), "{n}");
    }
    work.write(|tx| {
        tx.execute("DELETE FROM item WHERE id = ?1", [&rows[0]])?;
        tx.execute("INSERT INTO item VALUES ('later', 'Later')", [])?;
        // It compares the index with the texts.
        tx.execute("INSERT INTO words(words, rank) VALUES ('integrity-check', 1)", [])
    })
    .expect("in step");
}

const V1: Migration = Migration {
    name: "V1__item",
    sql:
        "CREATE TABLE item(id INTEGER PRIMARY KEY, old TEXT); CREATE TABLE setting(name TEXT PRIMARY KEY, n);
          INSERT INTO setting VALUES ('changed', 0), ('as made', 0), ('removed', 0)",
};
const V2: Migration = Migration {
    name: "V2__renamed",
    sql: "ALTER TABLE item RENAME COLUMN old TO new; UPDATE item SET new = new || '!'; DROP TABLE setting;
          CREATE TABLE setting2(name TEXT PRIMARY KEY)",
};

const CHANGES: &str = "INSERT INTO item VALUES (1, 'one'); UPDATE setting SET n = 5 WHERE name = 'changed';
                       DELETE FROM setting WHERE name = 'removed'";

/// Rows of an older file go through the migrations that it had not seen; those that a migration made and somebody changed
/// or removed stay so; and a file of a newer schema waits in the quarantine for the program that knows it.
#[test]
fn a_salvaged_file_is_migrated_as_the_whole_one_would_be() {
    let open = |home: &Path, migrations: &[Migration]| {
        Runtime::builder(Home::at(home)).domain(Domain::new("work").migrations(migrations)).open()
    };
    let text = |at: &rowhouse::Snapshot, sql: &str| at.row(sql, [], |row| row.get::<_, String>(0));
    let used = |migrations: &[Migration], sql: &'static str| {
        let home = processes::folder();
        let runtime = open(home.path(), migrations).expect("it opens");
        let work = runtime.database("work").expect("the domain");
        work.write(|tx| sql.split(';').try_for_each(|sql| tx.execute(sql, []).map(drop))).expect("rows");
        runtime.close(common::LONG);
        overwrite(&home.path().join("work.sqlite"), 0, &[0; PAGE]);
        home
    };

    let home = used(&[V1], CHANGES);
    let runtime = open(home.path(), &[V1]).expect("salvaged");
    let settings = "SELECT group_concat(name || n, ',' ORDER BY name) FROM setting";
    let found = runtime.database("work").expect("it").read(|at| text(at, settings)).expect("settings");
    assert_eq!(found, "as made0,changed5");

    let home = used(&[V1], CHANGES);
    let runtime = open(home.path(), &[V1, V2]).expect("salvaged and migrated");
    let work = runtime.database("work").expect("the domain");
    assert_eq!(work.read(|at| text(at, "SELECT new FROM item")).expect("the row"), "one!");

    let home = used(&[V1, V2], "INSERT INTO item VALUES (1, 'two')");
    for _ in 0..2 {
        let error = open(home.path(), &[V1]).expect_err("an older program");
        assert_eq!(error.kind(), ErrorKind::SchemaTooNew, "{error}");
    }
    let runtime = open(home.path(), &[V1, V2]).expect("the newer program");
    let work = runtime.database("work").expect("the domain");
    assert_eq!(work.read(|at| text(at, "SELECT new FROM item")).expect("the row"), "two");
    assert_eq!(sets(home.path(), "work").len(), 1);
}
