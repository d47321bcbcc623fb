//! Programs of different versions on one database, also while both have it open: side by side as far as the newer one
//! says, and a clear refusal where it says no.

mod processes;

use std::path::Path;
use std::time::{Duration, Instant};

use processes::Child;
use rowhouse::{Domain, Error, ErrorKind, Home, Migration, Runtime};

const V1: Migration = processes::SCHEMA[0];
/// Only adds: an older program's statements still work. Marks the moment.
const V2: Migration = Migration {
    name: "V2__note",
    sql: "ALTER TABLE item ADD COLUMN note TEXT NOT NULL DEFAULT '';
          INSERT INTO item(job, part, note) VALUES (-1, 0, 'migrated');",
};
/// Takes away what an older program's statements need.
const V2_OTHER_NAME: Migration =
    Migration { name: "V2__text", sql: "ALTER TABLE item RENAME COLUMN body TO text;" };
/// Five versions on.
const LATER: [Migration; 5] = [
    V2,
    Migration { name: "V3__a", sql: "CREATE TABLE a(x)" },
    Migration { name: "V4__b", sql: "CREATE TABLE b(x)" },
    Migration { name: "V5__c", sql: "CREATE TABLE c(x)" },
    Migration { name: "V6__d", sql: "CREATE TABLE d(x)" },
];
const WRITERS: usize = 2;
const THREADS: usize = 4;

/// The newer releases: their migrations after V1, and who may still read and write.
fn release(name: &str) -> Domain {
    let domain = |later: &[Migration], version: &str| {
        Domain::new("work").migrations(&[&[V1], later].concat()).program("shop", version)
    };
    match name {
        "older" => domain(&[], "1.0"),
        "adds" => domain(&[V2], "2.0"),
        "readers" => domain(&[V2], "2.1").compatible_from(1, 2),
        // No migration that is not there already: only its word is stricter.
        "stricter" => domain(&[V2], "2.2").compatible_from(2, 2),
        "renames" => domain(&[V2_OTHER_NAME], "2.3").compatible_from(2, 2),
        "later, for readers" => domain(&LATER, "6.0").compatible_from(1, 2),
        "later" => domain(&LATER, "6.1").compatible_from(2, 2),
        _ => panic!("no release {name}"),
    }
}

fn open(home: &Path, name: &str) -> rowhouse::Result<Runtime> {
    Runtime::builder(Home::at(home)).domain(release(name)).open()
}

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match &arguments[..] {
        [role, home, name, seconds] if role == "work" => work(home.as_ref(), name, seconds),
        [role, home] if role == "older" => obey(home.as_ref()),
        [role, home] if role == "plain" => plain(home.as_ref()),
        _ => panic!("a role and a home: {arguments:?}"),
    }
}

/// Reads and writes on some threads; says how many rows it wrote, and the first error.
fn work(home: &Path, name: &str, seconds: &str) {
    let lasting = Duration::from_secs_f64(seconds.parse().expect("seconds"));
    if name == "older" {
        processes::ready();
    }
    let runtime = open(home, name).expect("it opens");
    let database = runtime.database("work").expect("the domain");
    processes::say("open");
    let until = Instant::now() + lasting;
    let run = || {
        let mut written = 0;
        while Instant::now() < until {
            let job = i64::from(std::process::id());
            database
                .write(|tx| tx.execute("INSERT INTO item(job, part, body) VALUES (?1, 1, 'x')", [job]))?;
            written += 1;
            let count = "SELECT count(*) FROM (SELECT body FROM item WHERE job = ?1 LIMIT 10)";
            database.read(|at| at.row(count, [job], |row| row.get::<_, i64>(0)))?;
        }
        Ok(written)
    };
    let answers: Vec<Result<u64, Error>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    match answers.into_iter().sum::<Result<u64, Error>>() {
        Ok(written) => processes::say(&format!("done {written}")),
        Err(error) => processes::say(&format!("failed {error:?}")),
    }
}

/// The older program, which does as it is told.
fn obey(home: &Path) {
    let runtime = open(home, "older").expect("it opens");
    let database = runtime.database("work").expect("the domain");
    let write = || {
        database
            .write(|tx| tx.execute("INSERT INTO item(job, part, body) VALUES (1, 1, 'older')", []))
            .map(drop)
    };
    let read = || {
        database.read(|at| at.row("SELECT count(body) FROM item", [], |row| row.get::<_, i64>(0))).map(drop)
    };
    let told = |answer: Result<(), Error>| match answer {
        Ok(()) => processes::say("fine"),
        Err(error) => processes::say(&format!("{} {error}", error.kind().as_str())),
    };
    // One read, so that a read connection is open from before.
    read().expect("a count");
    write().expect("a row");
    processes::say("open");
    loop {
        match &*processes::listen() {
            "write" => told(write()),
            "read" => told(read()),
            "health" => processes::say(&format!("{:?}", database.health())),
            "write on" => {
                processes::say("writing");
                told(loop {
                    if let Err(error) = write() {
                        break Err(error);
                    }
                });
            }
            "read on" => told(loop {
                if let Err(error) = read() {
                    break Err(error);
                }
            }),
            _ => return,
        }
    }
}

/// An older program that is a plain connection: writes whenever it is told.
fn plain(home: &Path) {
    let connection = processes::plain(&processes::file(home));
    connection.busy_timeout(Duration::from_secs(10)).expect("a timeout");
    let mut statement =
        connection.prepare("INSERT INTO item(job, part, body) VALUES (1, 1, 'plain')").expect("a statement");
    statement.execute([]).expect("a row");
    processes::say("open");
    while processes::listen() == "write" {
        match statement.execute([]) {
            Ok(_) => processes::say("fine"),
            Err(error) => processes::say(&format!("failed {error}")),
        }
    }
}

fn ask(child: &mut Child, what: &str) -> String {
    child.tell(what);
    child.line().expect("an answer")
}

/// A home that the older program made, with this many rows.
fn made_by_the_older(rows: usize) -> tempfile::TempDir {
    let home = processes::folder();
    let runtime = open(home.path(), "older").expect("it opens");
    let database = runtime.database("work").expect("the domain");
    for _ in 0..rows {
        database.write(|tx| tx.execute("INSERT INTO item(job, part) VALUES (0, 0)", [])).expect("a row");
    }
    home
}

fn number(home: &Path, sql: &str) -> i64 {
    processes::plain(&processes::file(home)).query_row(sql, [], |row| row.get(0)).expect(sql)
}

/// An older and a newer program read and write one database at once, also when the newer one migrates it while the older
/// has it open: no error reaches either.
///
/// Scale: 2 processes of each version x 4 threads, 3 s (`ROWHOUSE_TEST_SECONDS` for more); the newer ones start, and
/// migrate, while the older ones write.
/// Control: where the newer version takes a column away, a plain connection's writes fail with SQLite's own error from
/// then on.
#[test]
fn m3_an_older_and_a_newer_program_at_once() {
    let home = made_by_the_older(1);
    let seconds = processes::seconds(3.0).as_secs_f64().to_string();
    let start = |name| Child::start("work", &[processes::text(home.path()), name, &seconds]);
    let mut older: Vec<_> = (0..WRITERS).map(|_| start("older")).collect();
    processes::start_together(&mut older);
    for child in &older {
        child.wait_for("open");
    }
    let newer: Vec<_> = (0..WRITERS).map(|_| start("adds")).collect();
    let mut written = 1 + 1;
    for child in older.iter().chain(&newer) {
        written += loop {
            let line = child.line().expect("an answer");
            if let Some(rows) = line.strip_prefix("done ") {
                break rows.parse::<i64>().expect("a number");
            }
            assert_eq!(line, "open", "an error reached a caller");
        };
    }
    older.into_iter().chain(newer).for_each(Child::finish);
    assert_eq!(number(home.path(), "SELECT count(*) FROM item"), written);
    assert_eq!(number(home.path(), "SELECT schema_version FROM rowhouse_meta"), 2);
    let after = "SELECT count(DISTINCT job) FROM item
                 WHERE id > (SELECT id FROM item WHERE note = 'migrated') AND job > 0";
    assert_eq!(number(home.path(), after) as usize, 2 * WRITERS, "all wrote after the migration");
    println!("{written} rows of {WRITERS} older and {WRITERS} newer processes");

    let home = made_by_the_older(1);
    let mut control = Child::start("plain", &[processes::text(home.path())]);
    control.wait_for("open");
    assert_eq!(ask(&mut control, "write"), "fine");
    drop(open(home.path(), "renames").expect("the newer one migrates"));
    let told = ask(&mut control, "write");
    println!("control: {told}");
    assert!(told.contains("no column named body"), "the control writes on: {told}");
}

/// A program that has the database open when a newer one migrates it to a schema that it may not write does not write one
/// row more: its writes answer `ReadOnly` and name what to install, its reads go on.
///
/// Scale: one older process that writes as fast as it can while the newer one migrates; then asked again.
/// Control: a plain connection that has the file open writes on into the schema that excludes it.
#[test]
fn m3_a_running_program_stops_writing_when_a_newer_schema_says_so() {
    let home = made_by_the_older(3);
    let mut older = Child::start("older", &[processes::text(home.path())]);
    older.wait_for("open");
    assert_eq!(ask(&mut older, "health"), "Ready");
    assert_eq!(ask(&mut older, "write on"), "writing");
    let newer = open(home.path(), "readers").expect("the newer one migrates");
    let refused = older.line().expect("an answer");
    assert!(refused.starts_with("read_only "), "{refused}");
    assert!(refused.contains("its schema is version 2, this program knows up to 1"), "{refused}");
    assert!(refused.contains("install shop 2.1 or newer"), "{refused}");
    assert_eq!(ask(&mut older, "health"), "ReadOnly");
    // A job that was refused in the middle says in addition that nothing of it was done.
    let why = |refused: &str| refused.replace("; nothing was done", "");
    assert_eq!(why(&ask(&mut older, "write")), why(&refused));
    assert_eq!(ask(&mut older, "read"), "fine");
    // The newer one writes on; and the migration was the last thing that the older one's rows came before.
    let database = newer.database("work").expect("the domain");
    database
        .write(|tx| tx.execute("INSERT INTO item(job, part, note) VALUES (2, 0, 'newer')", []))
        .expect("the newer one writes");
    let late = "SELECT count(*) FROM item
                WHERE body = 'older' AND id > (SELECT id FROM item WHERE note = 'migrated')";
    let count = |sql| database.read(|at| at.row(sql, [], |row| row.get::<_, i64>(0))).expect("a count");
    assert_eq!(count(late), 0, "the older program wrote after it was excluded");
    assert!(count("SELECT count(*) FROM item WHERE job = 0") == 3, "nothing is deleted");

    // A word that is stricter still, without any migration.
    drop((database, newer));
    drop(open(home.path(), "stricter").expect("the strictest opens"));
    let refused = ask(&mut older, "read on");
    assert!(
        refused.starts_with("schema_too_new ") && refused.contains("install shop 2.2 or newer"),
        "{refused}"
    );

    let home = made_by_the_older(3);
    let mut control = Child::start("plain", &[processes::text(home.path())]);
    control.wait_for("open");
    drop(open(home.path(), "readers").expect("the newer one migrates"));
    assert_eq!(ask(&mut control, "write"), "fine", "the control notices by itself");
}

/// A program that has the database open when a newer one migrates it to a schema that it may not read answers
/// `SchemaTooNew` and names what to install, to writes at once, to reads within seconds though it writes nothing.
#[test]
fn a_running_program_stops_reading_when_a_newer_schema_says_so() {
    for first in ["write", "read on"] {
        let home = made_by_the_older(3);
        let mut older = Child::start("older", &[processes::text(home.path())]);
        older.wait_for("open");
        drop(open(home.path(), "stricter").expect("the newer one migrates"));
        for what in [first, "read", "write"] {
            let refused = ask(&mut older, what);
            assert!(refused.starts_with("schema_too_new "), "{what}: {refused}");
            assert!(refused.contains("install shop 2.2 or newer"), "{what}: {refused}");
        }
        assert_eq!(ask(&mut older, "health"), "Latched");
        assert_eq!(number(home.path(), "SELECT count(*) FROM item WHERE job = 0"), 3, "nothing is deleted");
    }
}

/// A program several versions behind opens for reading where the newer one lets it, or is refused with the program and
/// version to install; either way nothing is changed or deleted.
///
/// Scale: five versions behind, twice in a row each.
/// Control: a plain program without the guard fails on its statements with SQLite's own error, or writes.
#[test]
fn m3_a_program_far_behind_reads_or_is_told_what_to_install() {
    let rows = "SELECT count(*) FROM item WHERE job = 0";
    let home = made_by_the_older(3);
    drop(open(home.path(), "later, for readers").expect("migrated"));
    for _ in 0..2 {
        let runtime = open(home.path(), "older").expect("it opens for reading");
        let database = runtime.database("work").expect("the domain");
        assert_eq!(format!("{:?}", database.health()), "ReadOnly");
        let read: i64 = database.read(|at| at.row(rows, [], |row| row.get(0))).expect("its rows");
        assert_eq!(read, 3);
        let refused = database.write(|tx| tx.execute("DELETE FROM item", [])).expect_err("it may not write");
        assert_eq!(refused.kind(), ErrorKind::ReadOnly);
        assert_eq!(refused.advice(), Some("install shop 6.0 or newer"), "{refused}");
        assert!(
            refused.to_string().contains("its schema is version 6, this program knows up to 1"),
            "{refused}"
        );
    }

    let home = made_by_the_older(3);
    drop(open(home.path(), "later").expect("migrated"));
    for _ in 0..2 {
        let refused = open(home.path(), "older").map(drop).expect_err("it may not read");
        assert_eq!((refused.kind(), refused.database()), (ErrorKind::SchemaTooNew, Some("work")));
        assert_eq!(refused.advice(), Some("install shop 6.1 or newer"), "{refused}");
        assert_eq!(number(home.path(), rows), 3, "nothing is deleted");
    }

    let control = processes::plain(&processes::file(home.path()));
    control.execute("DELETE FROM item WHERE job = 0", []).expect("the control refuses by itself");
    assert_eq!(number(home.path(), rows), 0);
}
