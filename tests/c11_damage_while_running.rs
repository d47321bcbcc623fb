//! Damage that happens while programs run: they notice, set it aside, and go on by themselves.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod common;
mod processes;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use common::{let_pass, until};
use processes::Child;
use rowhouse::{Domain, ErrorKind, Health, Home, OnDamage, Runtime};

const THREAD: &str = "INSERT INTO thread(id, created_at, updated_at, recency_at, tokens_used, title)
                      VALUES (printf('00000000-0000-0000-0000-%012d', ?1), 1, 1, 1, ?1, 'a title of some length')";
const LOG: &str =
    "INSERT INTO log(ts, level, target, message, process_id, bytes) VALUES (?1, 3, 'app', 'm', 'p', 1)";

fn open(home: &Path) -> Runtime {
    let runtime = Runtime::open(Home::at(home)).expect("it opens");
    until("all of them", || runtime.health() == Health::Ready);
    runtime
}

/// As Home Assistant's own test does it: by another program, into the file that is open. Closing a descriptor of it in this
/// process would drop its locks.
fn overwrite(file: &Path, pages: u32, seek: u32, keep_the_rest: bool) {
    let mut dd = Command::new("dd");
    dd.args(["if=/dev/urandom", "bs=4096", "status=none"])
        .arg(format!("count={pages}"))
        .arg(format!("seek={seek}"))
        .arg(format!("of={}", file.display()));
    if keep_the_rest {
        dd.arg("conv=notrunc");
    }
    assert!(dd.status().expect("dd").success());
}

fn sets(home: &Path, name: &str) -> Vec<PathBuf> {
    let Ok(found) = std::fs::read_dir(home.join("quarantine")) else { return Vec::new() };
    let of_name = |path: &PathBuf| {
        path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&format!("{name}-2")))
    };
    found.map(|entry| entry.expect("an entry").path()).filter(of_name).collect()
}

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let home: &Path = arguments[1].as_ref();
    match &*arguments[0] {
        "write" => write_on(home, arguments[2].parse().expect("a number")),
        other => panic!("no such role: {other}"),
    }
}

/// Writes threads with numbers of its own, and says each that was acknowledged; tries on when one was not.
fn write_on(home: &Path, from: i64) {
    let runtime = open(home);
    let state = runtime.database("state").expect("the domain");
    processes::ready();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            processes::listen();
            stop.store(true, Ordering::SeqCst);
        });
        for number in from.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            match state.write(|tx| tx.execute(THREAD, [number])) {
                Ok(_) => processes::say(&format!("wrote {number}")),
                Err(error) => {
                    processes::say(&format!("failed {}", error.kind().as_str()));
                    let_pass(Duration::from_millis(5));
                }
            }
        }
    });
    processes::say("end");
}

/// Random bytes over a log database that is being written: rows go on within five seconds, into a new file; what was
/// submitted meanwhile is in it.
///
/// Scale: 500 pages of random bytes, as Home Assistant's own test; one process.
/// Control: a plain connection under the same bytes fails with each write, and the next program that opens the file too.
#[test]
fn c11_logs_resume_in_a_new_file() {
    let plain = processes::folder();
    let file = plain.path().join("plain.sqlite");
    let connection = processes::plain(&file);
    connection.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE log(n)").expect("a table");
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("all in the file");
    overwrite(&file, 500, 0, false);
    drop(connection);
    let again = processes::plain(&file).execute("INSERT INTO log VALUES (1)", []);
    println!("control: {}", again.expect_err("no database"));

    for in_place in [true, false] {
        let home = processes::folder();
        let runtime = open(home.path());
        let logs = runtime.database("logs").expect("the domain");
        logs.write(|tx| (0..5000).try_for_each(|n| tx.execute(LOG, [n]).map(drop))).expect("rows");
        overwrite(&home.path().join("logs.sqlite"), 500, 0, in_place);
        let began = Instant::now();
        let mut tickets = Vec::new();
        until("a row in a new file", || {
            let number = 10_000 + tickets.len() as i64;
            tickets.push(logs.submit(move |tx| tx.execute(LOG, [number])).expect("it never waits"));
            let_pass(Duration::from_millis(2));
            logs.damage().is_some() && logs.health() == Health::Ready
        });
        let took = began.elapsed();
        println!("rows again after {took:?}");
        let expected: BTreeSet<_> = tickets
            .into_iter()
            .zip(10_000_i64..)
            .filter_map(|(ticket, number)| match ticket.wait() {
                Ok(_) => Some(number),
                // It was committed to the old file, and not acknowledged.
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
                    None
                }
            })
            .collect();
        let found: BTreeSet<i64> = logs
            .read(|at| at.rows("SELECT ts FROM log", [], |row| row.get(0)))
            .expect("the rows")
            .into_iter()
            .collect();
        // With NORMAL durability the file is looked at every 10 ms: what was acknowledged just before is in the old one.
        let missing: Vec<_> = expected.difference(&found).collect();
        println!("acknowledged {}, of which {} are in the old file", expected.len(), missing.len());
        assert!(missing.len() < expected.len(), "they go on");
        assert!(took < Duration::from_secs(5), "it took {took:?}");
        assert_eq!(sets(home.path(), "logs").len(), 1);
        assert_eq!(logs.damage().expect("it is told").action, OnDamage::Fresh);
    }
}

/// Random bytes over the state that four processes write: writes stop, one process salvages it, and all go on with the new
/// file by themselves. Every row that was acknowledged since the last checkpoint is there.
///
/// Scale: 4 processes, 500 pages.
/// Control: the rows come from the log that the old file left behind: the main file alone is random bytes.
#[test]
fn c11_state_is_salvaged_under_four_writers() {
    const PROCESSES: i64 = 4;
    const MILLION: i64 = 1_000_000;
    let home = processes::folder();
    drop(open(home.path()));
    let mut children: Vec<_> = (0..PROCESSES)
        .map(|at| Child::start("write", &[processes::text(home.path()), &(at * MILLION).to_string()]))
        .collect();
    processes::start_together(&mut children);
    let acknowledged = AtomicI64::new(0);
    let mut written: Vec<BTreeSet<i64>> = vec![BTreeSet::new(); PROCESSES.unsigned_abs() as usize];
    let listen = |child: &Child, rows: &mut BTreeSet<i64>| {
        let line = child.line().expect("it lives");
        if let Some(number) = line.strip_prefix("wrote ") {
            rows.insert(number.parse().expect("a number"));
            acknowledged.fetch_add(1, Ordering::SeqCst);
            return true;
        }
        println!("child {}: {line}", child.pid());
        false
    };
    // Enough for the file to grow, so that its first page is in the log; far from what makes a checkpoint take the rows out.
    for (child, rows) in children.iter().zip(&mut written) {
        for _ in 0..12 {
            listen(child, rows);
        }
    }
    let file = home.path().join("state.sqlite");
    overwrite(&file, 500, 0, true);
    let began = Instant::now();
    let set = {
        until("a set", || !sets(home.path(), "state").is_empty());
        sets(home.path(), "state").remove(0)
    };
    until("a new file", || file.exists() && began.elapsed() > Duration::ZERO && is_done(&set));
    println!("a new file after {:?}", began.elapsed());
    // Everybody writes into it.
    let mark = rows_of(&file);
    for (child, rows) in children.iter().zip(&mut written) {
        while !(listen(child, rows) && rows.last().is_some_and(|last| rows_of(&file).contains(last))) {
            assert!(began.elapsed() < 3 * common::LONG, "child {} does not come back", child.pid());
        }
    }
    println!("all of them write again after {:?}", began.elapsed());
    for child in &mut children {
        child.tell("stop");
    }
    for (child, rows) in children.into_iter().zip(&mut written) {
        while let Some(line) = child.line() {
            if let Some(number) = line.strip_prefix("wrote ") {
                rows.insert(number.parse().expect("a number"));
            }
        }
        child.finish();
    }
    let found = rows_of(&file);
    let expected: BTreeSet<i64> = written.iter().flatten().copied().collect();
    let lost: Vec<_> = expected.difference(&found).collect();
    println!("{} acknowledged, {} found, {} salvaged at least", expected.len(), found.len(), mark.len());
    assert!(lost.is_empty(), "{} acknowledged rows are lost: {lost:?}", lost.len());
    assert_eq!(sets(home.path(), "state").len(), 1, "one process set it aside");
    assert_eq!(processes::integrity(&file), "ok");
    std::fs::copy(set.join("state.sqlite"), home.path().join("alone")).expect("a copy without its log");
    let alone = processes::plain(&home.path().join("alone"));
    println!("control: {}", alone.execute_batch("SELECT * FROM thread").expect_err("random bytes"));
}

fn is_done(set: &Path) -> bool {
    std::fs::read_to_string(set.join("manifest.json")).is_ok_and(|text| text.contains("\"done\""))
}

/// The numbers that a plain connection finds.
fn rows_of(file: &Path) -> BTreeSet<i64> {
    let connection = processes::plain(file);
    connection.busy_timeout(common::LONG).expect("a timeout");
    let mut select = connection.prepare("SELECT tokens_used FROM thread").expect("the table");
    let rows = select.query_map([], |row| row.get(0)).expect("its rows");
    rows.collect::<Result<_, _>>().expect("numbers")
}

/// A query that fails over a broken full-text table does not cost the database its file.
///
/// Scale: one process, one broken index.
/// Control: the query does fail with SQLite's code for damage.
#[test]
fn a_broken_full_text_table_costs_no_database() {
    let home = processes::folder();
    let words = rowhouse::Migration {
        name: "V1__words",
        sql: "CREATE TABLE t(n); CREATE VIRTUAL TABLE words USING fts5(body)",
    };
    let domain = Domain::new("words").migrations(&[words]);
    let open = || Runtime::builder(Home::at(home.path())).domain(domain.clone()).open().expect("it opens");
    let runtime = open();
    let words = runtime.database("words").expect("the domain");
    words
        .write(|tx| {
            (0..100)
                .try_for_each(|n| tx.execute("INSERT INTO words VALUES (?1)", [format!("word{n}")]).map(drop))
        })
        .expect("rows");
    drop(words);
    runtime.close(common::LONG);
    drop(runtime);
    processes::plain(&home.path().join("words.sqlite"))
        .execute_batch("UPDATE words_data SET block = x'00' WHERE id > 10")
        .expect("broken");
    let runtime = open();
    let words = runtime.database("words").expect("the domain");
    let search = || {
        words.read(|at| {
            at.rows("SELECT rowid FROM words WHERE words MATCH 'word5'", [], |row| row.get::<_, i64>(0))
        })
    };
    for _ in 0..5 {
        let error = search().expect_err("control: SQLite says that it is damaged");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let broken = words.write(|tx| tx.execute("INSERT INTO words(words) VALUES ('optimize')", []));
        println!("{broken:?}");
        until("it takes writes", || words.write(|tx| tx.execute("INSERT INTO t VALUES (1)", [])).is_ok());
    }
    assert_eq!(words.health(), Health::Ready);
    assert!(words.damage().is_none() && sets(home.path(), "words").is_empty());
}

/// The rows of a small domain whose rows are only in its log: 0 to 199.
fn small(home: &Path) -> (Runtime, rowhouse::Database) {
    let migration = rowhouse::Migration { name: "V1__t", sql: "CREATE TABLE t(n INTEGER PRIMARY KEY)" };
    let domain = Domain::new("work").migrations(&[migration]);
    let runtime = Runtime::builder(Home::at(home)).domain(domain).open().expect("it opens");
    let database = runtime.database("work").expect("the domain");
    for n in 0..200 {
        database.write(|tx| tx.execute("INSERT INTO t VALUES (?1)", [n])).expect("a row");
    }
    (runtime, database)
}

fn rows(database: &rowhouse::Database) -> rowhouse::Result<i64> {
    database
        .clone()
        .within(Duration::from_secs(1))
        .read(|at| at.row("SELECT count(*) FROM t", [], |row| row.get(0)))
}

/// Rows of 3 kB in a table of their own, and random bytes over one page of it: a job that reads the whole table meets it.
fn damaged_leaf(home: &Path, on_damage: OnDamage) -> (Runtime, rowhouse::Database) {
    let migration = rowhouse::Migration {
        name: "V1__t",
        sql: "CREATE TABLE t(n INTEGER PRIMARY KEY); CREATE TABLE long(n INTEGER PRIMARY KEY, body BLOB)",
    };
    let domain = || Domain::new("work").migrations(&[migration]).on_damage(on_damage);
    let open = || Runtime::builder(Home::at(home)).domain(domain()).open().expect("it opens");
    let runtime = open();
    let database = runtime.database("work").expect("the domain");
    let fill = |tx: &rowhouse::Tx| {
        (0..100).try_for_each(|n| tx.execute("INSERT INTO long VALUES (?1, randomblob(3000))", [n]).map(drop))
    };
    database.write(fill).expect("rows");
    drop((database, runtime));
    overwrite(&home.join("work.sqlite"), 1, 60, true);
    let runtime = open();
    let database = runtime.database("work").expect("the domain");
    (runtime, database)
}

const READ_ALL: &str = "SELECT sum(length(hex(body))) FROM long";

/// Nothing is committed to a file from the moment on when a job met damage in it: its neighbours in the batch wait for the
/// verdict. Then they run in the new file, or are refused, and nothing of them was done.
///
/// Scale: a batch of four jobs, one of which reads a page of random bytes; once each for both kinds of domain.
///
/// Control: a plain connection meets the same damage, is refused its COMMIT, and commits into the same file at once when it
/// tries again without the job that met it.
#[test]
fn the_neighbours_of_a_job_that_met_damage_are_not_committed_to_the_damaged_file() {
    for on_damage in [OnDamage::Salvage, OnDamage::Refuse] {
        let home = processes::folder();
        let (runtime, database) = damaged_leaf(home.path(), on_damage);
        let hold = common::Hold::writer(&database);
        let insert = |n: i64| {
            database.submit(move |tx| tx.execute("INSERT INTO t VALUES (?1)", [n])).expect("there is room")
        };
        let before = [insert(1), insert(2)];
        let reader =
            database.submit(|tx| tx.row(READ_ALL, [], |row| row.get::<_, i64>(0))).expect("there is room");
        let after = [insert(3)];
        hold.release();
        let error = reader.wait().expect_err("it met it");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let answers: Vec<_> = before.into_iter().chain(after).map(rowhouse::Ticket::wait).collect();
        let of_the_file = |file: &Path| -> Vec<i64> {
            let connection = processes::plain(file);
            let mut rows = connection.prepare("SELECT n FROM t ORDER BY n").expect("a query");
            rows.query_map([], |row| row.get(0)).expect("rows").map(|n| n.expect("a number")).collect()
        };
        let file = home.path().join("work.sqlite");
        if on_damage == OnDamage::Salvage {
            assert!(answers.iter().all(Result::is_ok), "{answers:?}");
            drop((database, runtime));
            assert_eq!(of_the_file(&file), [1, 2, 3]);
            let old = sets(home.path(), "work").remove(0).join("work.sqlite");
            assert_eq!(of_the_file(&old), [] as [i64; 0], "nothing was written there");
        } else {
            for answer in answers {
                let error = answer.expect_err("refused");
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                assert!(error.to_string().contains("nothing was done"), "{error}");
            }
            drop((database, runtime));
            assert_eq!(of_the_file(&file), [] as [i64; 0]);
            let mut control = processes::plain(&file);
            let transaction = control.transaction().expect("begun");
            transaction.execute("INSERT INTO t VALUES (1)", []).expect("a row");
            transaction.query_row(READ_ALL, [], |_| Ok(())).expect_err("damage");
            transaction.commit().expect_err("SQLite remembers it for one transaction");
            let transaction = control.transaction().expect("begun");
            transaction.execute("INSERT INTO t VALUES (1)", []).expect("a row");
            transaction.commit().expect("the control is committed");
        }
    }
}

/// A backup of this process has the damaged files open: they are moved when it has ended, so that nothing it does changes
/// them, and no lock of it is lost.
///
/// Control: without the wait the files are in quarantine while the backup reads them.
#[test]
fn a_damaged_file_is_set_aside_after_a_backup_of_this_process_has_ended() {
    let home = processes::folder();
    let (runtime, database) = damaged_leaf(home.path(), OnDamage::Salvage);
    let out = processes::folder();
    let (inside, entered) = std::sync::mpsc::channel();
    let (go_on, released) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let (runtime, database) = (&runtime, &database);
        scope.spawn(move || {
            let options = rowhouse::BackupOptions::to(out.path().join("a"));
            let _ = runtime.backup(&options, &mut |_| {
                let _ = inside.send(());
                let _ = released.recv_timeout(common::LONG);
            });
        });
        entered.recv_timeout(common::LONG).expect("it copies");
        database.write(|tx| tx.row(READ_ALL, [], |row| row.get::<_, i64>(0))).expect_err("damage");
        until("the file was looked at", || {
            database.health() == Health::Latched && sets(home.path(), "work").is_empty()
        });
        for _ in 0..20 {
            let_pass(Duration::from_millis(10));
            assert!(sets(home.path(), "work").iter().all(|set| !set.join("work.sqlite").exists()));
            database
                .read(|at| at.row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)))
                .expect("a read");
        }
        drop(go_on);
        until("it comes back", || database.damage().is_some() && database.health() == Health::Ready);
    });
    database.write(|tx| tx.execute("INSERT INTO t VALUES (1)", [])).expect("it is written again");
    assert_eq!(sets(home.path(), "work").len(), 1);
}

/// SQLite would delete the log beside an empty file, and with it every row.
#[test]
fn a_file_that_somebody_empties_comes_back_with_what_its_log_held() {
    let home = processes::folder();
    let (_runtime, database) = small(home.path());
    let emptied =
        Command::new("sh").arg("-c").arg(": > \"$0\"").arg(home.path().join("work.sqlite")).status();
    assert!(emptied.expect("a shell").success());
    // Reads are what would open it anew.
    until("every row", || rows(&database).is_ok_and(|rows| rows == 200) && database.damage().is_some());
    assert_eq!(sets(home.path(), "work").len(), 1);
    database.write(|tx| tx.execute("INSERT INTO t VALUES (200)", [])).expect("it is written again");
}

/// What is at the path is no reason to let go of what is open.
#[test]
fn what_is_open_is_kept_when_no_database_takes_its_place_and_a_read_meets_that_first() {
    let home = processes::folder();
    let (_runtime, database) = small(home.path());
    let (file, other) = (home.path().join("work.sqlite"), home.path().join("letter"));
    std::fs::write(&other, "dear all, ".repeat(2000)).expect("a letter");
    std::fs::rename(&other, &file).expect("in its place");
    until("it is noticed", || {
        let _ = rows(&database);
        database
            .write(|tx| tx.execute("INSERT INTO t VALUES (999)", []))
            .is_err_and(|error| error.kind() == ErrorKind::Replaced)
    });
    until("a copy", || {
        let Ok(found) = std::fs::read_dir(home.path().join("quarantine")) else { return false };
        found.flatten().any(|set| {
            let copy = set.path().join("work.sqlite");
            copy.exists()
                && rowhouse::rusqlite::Connection::open(copy)
                    .and_then(|copy| copy.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)))
                    .is_ok_and(|rows| rows >= 200)
        })
    });
}

/// What triggers made of the rows is among the rows: they are not run again.
#[test]
fn a_salvage_runs_no_triggers() {
    let home = processes::folder();
    let migration = rowhouse::Migration {
        name: "V1__t",
        sql: "CREATE TABLE item(n INTEGER PRIMARY KEY); CREATE TABLE outbox(id INTEGER PRIMARY KEY, n INTEGER);
              CREATE TRIGGER send AFTER INSERT ON item BEGIN INSERT INTO outbox(n) VALUES (new.n); END;
              CREATE TABLE text(id INTEGER PRIMARY KEY, body TEXT);
              CREATE VIRTUAL TABLE words USING fts5(body, content='text', content_rowid='id');
              CREATE TRIGGER word AFTER INSERT ON text BEGIN INSERT INTO words(rowid, body) VALUES (new.id, new.body); END;",
    };
    let domain = || Domain::new("work").migrations(&[migration]);
    let runtime = Runtime::builder(Home::at(home.path())).domain(domain()).open().expect("it opens");
    let database = runtime.database("work").expect("the domain");
    let fill = |tx: &rowhouse::Tx| {
        for n in 0..50 {
            tx.execute("INSERT INTO item VALUES (?1)", [n])?;
        }
        tx.execute("DELETE FROM outbox WHERE n <> 7", [])?;
        tx.execute("INSERT INTO text VALUES (1, 'hello there')", [])
    };
    database.write(fill).expect("rows");
    drop((database, runtime));
    // The log goes into the main file with the last close; its first page is what tells that it is a database.
    overwrite(&home.path().join("work.sqlite"), 1, 0, true);
    let runtime = Runtime::builder(Home::at(home.path())).domain(domain()).open().expect("it opens");
    let database = runtime.database("work").expect("the domain");
    let count = |sql: &str| {
        database
            .read(|at| at.row(sql, [], |row| row.get::<_, i64>(0)))
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    };
    assert!(database.damage().is_some());
    assert_eq!(count("SELECT count(*) FROM item"), 50);
    assert_eq!(count("SELECT count(*) FROM outbox"), 1);
    assert_eq!(count("SELECT count(*) FROM words WHERE words MATCH 'hello'"), 1);
}

/// Half of a file looks like a damaged one.
#[test]
fn a_file_that_is_still_being_copied_is_waited_for() {
    let home = processes::folder();
    let (runtime, database) = small(home.path());
    drop((database, runtime));
    let file = home.path().join("work.sqlite");
    let whole = std::fs::read(&file).expect("the database");
    assert!(whole.len() >= 2 * 4096, "there is something to copy");
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(home.path().join(format!("work.sqlite{ending}")));
    }
    std::fs::write(&file, &whole[..4096]).expect("the first page");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // As a slow copy does it. It is closed before anybody has locks on it.
            let mut copy = std::fs::File::options().append(true).open(&file).expect("the copy");
            for part in whole[4096..].chunks(1024) {
                copy.write_all(part).expect("room");
                let_pass(Duration::from_millis(10));
            }
        });
        let migration = rowhouse::Migration { name: "V1__t", sql: "CREATE TABLE t(n INTEGER PRIMARY KEY)" };
        let domain = Domain::new("work").migrations(&[migration]);
        let runtime = Runtime::builder(Home::at(home.path())).domain(domain).open().expect("it opens");
        let database = runtime.database("work").expect("the domain");
        assert_eq!(rows(&database).expect("a count"), 200);
    });
    assert_eq!(sets(home.path(), "work").len(), 0, "nothing was damaged");
}
