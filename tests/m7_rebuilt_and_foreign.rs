//! What users do to a database by hand, a trigger of their own, a file dumped and loaded again, stops no start.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod common;
mod processes;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::until;
use processes::Child;
use refinery_core::Runner;
use rowhouse::rusqlite::Connection;
use rowhouse::{Database, Domain, ErrorKind, Health, Home, Migration, Runtime};

const PROCESSES: usize = 8;
const LOGS: &[Migration] = rowhouse::migrations!("migrations_logs");
const LOG: &str =
    "INSERT INTO log(ts, level, target, message, process_id, bytes) VALUES (1, 3, 'app', 'm', 'p', 1)";
const GOAL: &str = "INSERT INTO goal(thread_id, goal_id, objective, status, created_at, updated_at)
                    VALUES ('t', 'g', 'o', 'active', 1, 1)";
/// "rowh", in the header of every database of this library.
const OURS: i64 = 0x726f_7768;

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [_, home] = &arguments[..] else { panic!("a role and a home: {arguments:?}") };
    processes::ready();
    let runtime = Runtime::open(Home::at(home)).expect("logs stop no start");
    let logs = runtime.database("logs").expect("the domain");
    let write = || logs.write(|tx| tx.execute(LOG, []));
    write().expect("a row");
    processes::say("fine");
    // Stays until all are there: whoever comes last finds the others at work.
    assert_eq!(processes::listen(), "again");
    match write() {
        Ok(_) => processes::say("fine"),
        Err(error) => processes::say(error.kind().as_str()),
    }
}

/// A home with a row in logs and in goals, and nobody in it.
fn used() -> tempfile::TempDir {
    let home = processes::folder();
    let runtime = Runtime::open(Home::at(home.path())).expect("it opens");
    for (name, row) in [("logs", LOG), ("goals", GOAL)] {
        runtime.database(name).expect("the domain").write(|tx| tx.execute(row, [])).expect("a row");
    }
    runtime.close(Duration::from_secs(20));
    home
}

fn number(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).expect(sql)
}

/// Puts a copy of a database in its place, as `VACUUM INTO` makes it.
fn vacuumed(file: &Path) {
    let copy = file.with_extension("copy");
    let target = processes::text(&copy).to_owned();
    processes::plain(file).execute("VACUUM INTO ?1", [target]).expect("a copy");
    put(&copy, file);
}

/// Puts a database in its place whose tables were dumped and loaded, without those in `lost`. The marks in the header are
/// no part of a dump.
fn dumped_and_loaded(file: &Path, lost: &[&str]) {
    let copy = file.with_extension("copy");
    let new = processes::plain(&copy);
    new.execute("ATTACH ?1 AS old", [processes::text(file)]).expect("the old one");
    let mut statement = new
        .prepare("SELECT type, name, sql FROM old.sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid")
        .expect("its schema");
    let objects: Vec<(String, String, String)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .expect("its schema")
        .collect::<Result<_, _>>()
        .expect("its schema");
    for (kind, name, sql) in objects.iter().filter(|(_, name, _)| !lost.contains(&&**name)) {
        new.execute_batch(sql).expect("the object");
        if kind == "table" {
            new.execute_batch(&format!("INSERT INTO main.{name} SELECT * FROM old.{name}"))
                .expect("its rows");
        }
    }
    assert_eq!(number(&new, "PRAGMA application_id"), 0);
    drop(statement);
    drop(new);
    put(&copy, file);
}

fn put(copy: &Path, file: &Path) {
    for ending in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{ending}", file.display()));
    }
    fs::rename(copy, file).expect("in its place");
}

const RECORD: [&str; 2] = ["rowhouse_meta", "refinery_schema_history"];

/// Every way that leaves the tables and no usable record of how they came about.
fn without_record(how: usize, file: &Path) -> &'static str {
    match how {
        0 => {
            dumped_and_loaded(file, &RECORD);
            "dumped and loaded without the record"
        }
        1 => {
            dumped_and_loaded(file, &RECORD[1..]);
            "dumped and loaded without the history"
        }
        2 => {
            processes::plain(file).execute_batch("DELETE FROM refinery_schema_history").expect("emptied");
            "the history emptied in place"
        }
        _ => {
            processes::plain(file)
                .execute_batch("DROP TABLE refinery_schema_history; DROP TABLE rowhouse_meta")
                .expect("dropped");
            "the record dropped in place"
        }
    }
}
const WAYS: usize = 4;

fn quarantined(home: &Path) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(home.join("quarantine")) else { return Vec::new() };
    found.map(|entry| entry.expect("an entry").path()).collect()
}

fn ready(database: &Database) {
    until("logs ready", || database.health() == Health::Ready);
}

/// Starts as refinery's own runner does, twice; answers why it could not.
fn plain_starts(file: &Path, migrations: &[Migration]) -> Result<(), String> {
    let migrations: Vec<_> = migrations
        .iter()
        .map(|given| refinery_core::Migration::unapplied(given.name, given.sql).expect("a migration"))
        .collect();
    let mut connection = processes::plain(file);
    for _ in 0..2 {
        Runner::new(&migrations).run(&mut connection).map(drop).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// A logs file that nobody can tell the schema of is moved into quarantine, whole, and a new one takes its place; the
/// program is ready before and after, and the warnings say where the old one is.
///
/// Scale: four ways to lose the record (dumped and loaded with and without `rowhouse_meta`, emptied, dropped), each opened
/// twice; then 8 processes at once on one such home.
/// Control: refinery's own runner fails at every start on such a file, because the tables are there.
#[test]
fn m7_a_rebuilt_logs_file_stops_no_start() {
    for how in 0..WAYS {
        let home = used();
        let file = home.path().join("logs.sqlite");
        let way = without_record(how, &file);
        let copy = home.path().join("control");
        fs::copy(&file, &copy).expect("a copy for the control");
        let control = plain_starts(&copy, LOGS).expect_err("the control starts");
        println!("control, {way}: {}", control.lines().next().unwrap_or_default());
        for start in ["first", "second"] {
            let runtime = Runtime::open(Home::at(home.path())).expect("logs stop no start");
            let logs = runtime.database("logs").expect("the domain");
            ready(&logs);
            logs.write(|tx| tx.execute(LOG, [])).expect("it takes rows");
            let warnings = logs.warnings();
            let folders = quarantined(home.path());
            assert_eq!(folders.len(), 1, "{way}, {start} start");
            let noted = warnings.iter().any(|told| told.contains(processes::text(&folders[0])));
            assert_eq!(noted, start == "first", "{way}, {start} start: {warnings:?}");
            assert_eq!(warnings.len(), usize::from(noted), "{warnings:?}");
            runtime.close(Duration::from_secs(20));
        }
        let old = processes::plain(&quarantined(home.path())[0].join("logs.sqlite"));
        assert_eq!(number(&old, "SELECT count(*) FROM log"), 1, "{way}: what was there is kept");
        let new = processes::plain(&file);
        assert_eq!(number(&new, "SELECT count(*) FROM log"), 2, "{way}");
        assert_eq!(number(&new, "PRAGMA application_id"), OURS);
    }

    let home = used();
    without_record(0, &home.path().join("logs.sqlite"));
    let mut children: Vec<_> =
        (0..PROCESSES).map(|_| Child::start("start", &[processes::text(home.path())])).collect();
    processes::start_together(&mut children);
    for child in &children {
        child.wait_for("fine");
    }
    for child in &mut children {
        child.tell("again");
        assert_eq!(child.line().as_deref(), Some("fine"), "another row in the same database");
    }
    children.into_iter().for_each(Child::finish);
    assert_eq!(quarantined(home.path()).len(), 1, "one of them moved it, once");
    let new = processes::plain(&home.path().join("logs.sqlite"));
    assert_eq!(number(&new, "SELECT count(*) FROM log") as usize, 2 * PROCESSES);
}

/// Who still has the old file open when it moves is told that it was replaced, and its rows are in the old file.
#[test]
fn who_has_the_old_file_open_is_told() {
    let home = used();
    let file = home.path().join("logs.sqlite");
    let mut older = Child::start("start", &[processes::text(home.path())]);
    processes::start_together(std::slice::from_mut(&mut older));
    older.wait_for("fine");
    let looked = std::time::Instant::now();
    without_record(2, &file);
    let runtime = Runtime::open(Home::at(home.path())).expect("logs stop no start");
    let logs = runtime.database("logs").expect("the domain");
    ready(&logs);
    // The logs are `Normal`: a look at the file that is less than 10 ms old would do for the next write.
    while looked.elapsed() < std::time::Duration::from_millis(20) {
        std::thread::yield_now();
    }
    older.tell("again");
    assert_eq!(older.line().as_deref(), Some("replaced"));
    older.finish();
    let rows = "SELECT count(*) FROM log";
    assert_eq!(logs.read(|at| at.row(rows, [], |row| row.get::<_, i64>(0))).expect("a count"), 0);
    let old = processes::plain(&quarantined(home.path())[0].join("logs.sqlite"));
    assert!(number(&old, rows) >= 2, "the row of before, and the one that was acknowledged");
}

/// A required domain in that state is an error that says what to do, and stays as it is, to the byte.
#[test]
fn a_required_domain_without_its_record_is_an_error_with_the_next_step() {
    for how in 0..WAYS {
        let home = used();
        let file = home.path().join("goals.sqlite");
        let way = without_record(how, &file);
        let bytes = |ending: &str| fs::read(format!("{}{ending}", file.display())).unwrap_or_default();
        let before = (bytes(""), bytes("-wal"));
        for _ in 0..2 {
            let error = Runtime::open(Home::at(home.path())).map(drop).expect_err(way);
            assert_eq!(
                (error.kind(), error.database()),
                (ErrorKind::Corrupt, Some("goals")),
                "{way}: {error:?}"
            );
            assert_eq!(error.path(), Some(&*file.canonicalize().expect("it is there")), "{way}");
            assert!(
                error.advice().is_some_and(|told| told.contains("nothing was changed")),
                "{way}: {error}"
            );
            assert!((bytes(""), bytes("-wal")) == before, "{way}: something was changed");
        }
        assert!(quarantined(home.path()).is_empty(), "{way}");
    }
}

/// A file that was copied with `VACUUM INTO`, or dumped and loaded whole, keeps its rows; where the marks in its header
/// were lost, it is marked again, and a warning says so.
#[test]
fn a_rebuilt_file_with_its_record_is_taken_over() {
    for (name, table, row) in
        [("logs", "log", LOG), ("goals", "goal", "DELETE FROM goal WHERE thread_id = 'x'")]
    {
        for (loaded, notes) in [(false, 0), (true, 1)] {
            let home = used();
            let file = home.path().join(format!("{name}.sqlite"));
            if loaded {
                dumped_and_loaded(&file, &[]);
            } else {
                vacuumed(&file);
            }
            for start in 0..2 {
                let runtime = Runtime::open(Home::at(home.path())).expect("it opens");
                let database = runtime.database(name).expect("the domain");
                let count = format!("SELECT count(*) FROM {table}");
                let rows: i64 = database.read(|at| at.row(&count, [], |row| row.get(0))).expect("its rows");
                assert_eq!(rows, 1 + if name == "logs" { start } else { 0 });
                let warnings = database.warnings();
                assert_eq!(warnings.len(), if start == 0 { notes } else { 0 }, "{name}: {warnings:?}");
                assert!(warnings.iter().all(|told| told.contains("marked again")), "{warnings:?}");
                database.write(|tx| tx.execute(row, [])).expect("it takes writes");
                runtime.close(Duration::from_secs(20));
            }
            let database = processes::plain(&file);
            assert_eq!(number(&database, "PRAGMA application_id"), OURS);
            assert_ne!(number(&database, "PRAGMA user_version"), 0);
            assert!(quarantined(home.path()).is_empty());
        }
    }
}

/// Another program's database under a best-effort domain's name is left where it is: it is not a rebuilt one.
#[test]
fn another_programs_database_is_not_moved() {
    let home = processes::folder();
    let file = home.path().join("logs.sqlite");
    processes::plain(&file).execute_batch("CREATE TABLE log(theirs)").expect("a database");
    let before = fs::read(&file).expect("it");
    let runtime = Runtime::open(Home::at(home.path())).expect("logs stop no start");
    let logs = runtime.database("logs").expect("the domain");
    until("degraded", || matches!(logs.health(), Health::Degraded { .. }));
    let Health::Degraded { reason, .. } = logs.health() else { panic!("degraded") };
    assert!(reason.contains("a database of another program"), "{reason}");
    runtime.close(Duration::from_secs(20));
    assert!(fs::read(&file).expect("it") == before && quarantined(home.path()).is_empty());
}

const PAGE: Migration =
    Migration { name: "V1__page", sql: "CREATE TABLE page(url TEXT PRIMARY KEY, body TEXT)" };
const NEXT: Migration = Migration {
    name: "V2__seen",
    sql: "ALTER TABLE page ADD COLUMN seen INTEGER NOT NULL DEFAULT 0; CREATE INDEX by_seen ON page(seen)",
};
const DROPS: Migration = Migration { name: "V3__no_body", sql: "ALTER TABLE page DROP COLUMN body" };

fn open(home: &Path, migrations: &[Migration]) -> rowhouse::Result<Runtime> {
    Runtime::builder(Home::at(home)).domain(Domain::new("cache").migrations(migrations)).open()
}

/// Triggers, tables, indexes and views that the migrations did not make stop neither a start nor an upgrade nor a write,
/// and the warnings name each.
///
/// Scale: one of each kind in a required domain, and in the built-in state.
/// Control: a migration that a foreign trigger really breaks is refused by SQLite, with or without the engine; here the
/// error names the trigger and the migration, and the warnings name a trigger whose own statement fails.
#[test]
fn m7_foreign_triggers_and_tables_are_tolerated_and_told() {
    const FOREIGN: &str = "CREATE TABLE theirs(a);
        CREATE TRIGGER copies AFTER INSERT ON page BEGIN INSERT INTO theirs VALUES (new.body); END;
        CREATE INDEX fast ON page(body); CREATE VIEW urls AS SELECT url FROM page;";
    let home = processes::folder();
    let file = home.path().join("cache.sqlite");
    drop(open(home.path(), &[PAGE]).expect("it opens"));
    processes::plain(&file).execute_batch(FOREIGN).expect("their objects");
    let told = ["index fast", "table theirs", "trigger copies", "view urls"]
        .map(|object| format!("the {object} was not made by this program's migrations"));
    for migrations in [&[PAGE][..], &[PAGE, NEXT]] {
        let runtime = open(home.path(), migrations).expect("it opens");
        let database = runtime.database("cache").expect("the domain");
        assert_eq!(database.health(), Health::Ready);
        assert_eq!(database.warnings(), told);
        let url = migrations.len().to_string();
        database.write(|tx| tx.execute("INSERT INTO page(url) VALUES (?1)", [&url])).expect("a row");
        let copies: i64 =
            database.read(|at| at.row("SELECT count(*) FROM theirs", [], |row| row.get(0))).expect("a count");
        assert_eq!(copies, i64::try_from(migrations.len()).expect("small"), "their trigger works");
    }

    // A migration that cannot be reconciled with it.
    let error =
        open(home.path(), &[PAGE, NEXT, DROPS]).map(drop).expect_err("the index and the trigger need it");
    let refused = error.to_string();
    assert!(refused.contains("V3__no_body") && refused.contains("does not fit the change"), "{refused}");
    assert!(["trigger copies", "index fast"].iter().any(|object| refused.contains(object)), "{refused}");
    let control =
        processes::plain(&file).execute_batch(DROPS.sql).expect_err("the control drops it").to_string();
    println!("control: {control}");

    // A trigger that breaks writes: SQLite does not say whose statement it was. The warnings do.
    processes::plain(&file).execute_batch("DROP TABLE theirs").expect("dropped");
    let runtime = open(home.path(), &[PAGE, NEXT]).expect("it opens");
    let database = runtime.database("cache").expect("the domain");
    let error =
        database.write(|tx| tx.execute("INSERT INTO page(url) VALUES ('x')", [])).expect_err("broken");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    assert!(database.warnings().iter().any(|warning| *warning == told[2]), "{:?}", database.warnings());
    drop((database, runtime));

    let home = used();
    processes::plain(&home.path().join("state.sqlite"))
        .execute_batch("CREATE TRIGGER theirs AFTER INSERT ON thread BEGIN SELECT 1; END")
        .expect("a trigger");
    let runtime = Runtime::open(Home::at(home.path())).expect("it opens");
    let warnings = runtime.database("state").expect("the domain").warnings();
    assert_eq!(warnings, ["the trigger theirs was not made by this program's migrations"]);
}
