//! The bounds of a database are kept at each write: the length of the write-ahead log, the bytes of its files, and how
//! much is written. What refuses says why and who is in the way, and ends by itself.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod faults;
mod processes;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use faults::{Effect, Operation};
use processes::{Child, said};
use rowhouse::rusqlite::Connection;
use rowhouse::rusqlite::config::DbConfig;
use rowhouse::{Database, Domain, Durability, Error, ErrorKind, Health, Home, Limits, Runtime};

const INSERT: &str = "INSERT INTO item(job, part, body) VALUES (?1, ?2, ?3)";
const MIB: u64 = 1 << 20;
/// Longer than anything here takes.
const LONG: Duration = Duration::from_mins(1);

/// What was said of this database and `what`.
fn said_of(database: &Database, what: &str) -> Vec<String> {
    said::with(&[&database.path().display().to_string(), what])
}

/// They measure, and write much: one after another.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // A program that knows nothing of the library, with a cursor in each of these files.
        ["cursors", files @ ..] => {
            let connections: Vec<_> = files.iter().map(|file| processes::plain(file.as_ref())).collect();
            let mut statements: Vec<_> = connections
                .iter()
                .map(|connection| connection.prepare("SELECT id FROM item").expect("a statement"))
                .collect();
            let mut cursors: Vec<_> =
                statements.iter_mut().map(|statement| statement.query([]).expect("a cursor")).collect();
            for cursor in &mut cursors {
                cursor.next().expect("a row").expect("one is there");
            }
            processes::say("reading");
            processes::listen();
        }
        // A program that logs until it is refused, and says how much that was.
        ["one after another", home] => {
            let bounded = schema("log").best_effort().max_write_rate(16 * MIB, Duration::from_hours(1));
            let home = Home::at(Path::new(home));
            let runtime = Runtime::builder(home).domain(bounded).open().expect("opens");
            let log = runtime.database("log").expect("the domain");
            let mut taken = 0;
            let error = loop {
                match insert(&log, taken, 16 << 10) {
                    Ok(_) => taken += 1,
                    Err(error) => break error,
                }
            };
            assert!(error.message().contains("more was written"), "{error}");
            processes::say(&format!("taken {taken}"));
            runtime.close(LONG);
        }
        // A program whose log grows because it also reads, until it is killed.
        ["grower", home, bytes] => {
            let home: &Path = home.as_ref();
            let runtime = processes::open_with(home, small());
            let database = runtime.database("work").expect("the domain");
            let bytes = bytes.parse().expect("a number");
            database
                .read(|at| {
                    let _: i64 = at.row("SELECT count(*) FROM item", [], |row| row.get(0))?;
                    for part in 0.. {
                        database.write(|tx| tx.execute(INSERT, (2, part, text(64 << 10))))?;
                        if length(&log_of(database.path())) > bytes {
                            break;
                        }
                    }
                    processes::say("grown");
                    processes::listen();
                    Ok(())
                })
                .expect("a read");
        }
        // Another process that logs.
        ["logger", home] => {
            let runtime = domains(home.as_ref(), small());
            let log = runtime.database("log").expect("the domain");
            processes::ready();
            let error = (0..).find_map(|part| insert(&log, part, 4 << 10).err()).expect("it is refused");
            let holder = error.holder().map_or(0, |holder| holder.pid);
            processes::say(&format!("refused {} {holder}", error.kind().as_str()));
            processes::listen();
            until("work is let in again", || insert(&log, -1, 10).is_ok());
            until("it is ready again", || log.health() == Health::Ready);
            processes::say("let in");
        }
        other => panic!("{other:?}"),
    }
}

fn text(bytes: usize) -> String {
    "x".repeat(bytes)
}

/// A log that is worked off from a quarter of a mebibyte on, and has a cap of four.
fn small() -> Limits {
    let mut limits = Limits::default();
    limits.wal_soft = MIB / 4;
    limits.wal_cap = 4 * MIB;
    limits.reader_age = LONG;
    limits
}

fn log_of(file: &Path) -> PathBuf {
    PathBuf::from(format!("{}-wal", file.display()))
}

fn length(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |found| found.len())
}

/// What all files of a database take.
fn footprint(file: &Path) -> u64 {
    let index = PathBuf::from(format!("{}-shm", file.display()));
    length(file) + length(&log_of(file)) + length(&index)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let (_keep, never) = channel::<()>();
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONG, "{what} did not come");
        let _ = never.recv_timeout(Duration::from_millis(5));
    }
}

/// A home with a required domain `work` and a best-effort one `log`, each with a row.
struct Place {
    runtime: Runtime,
    work: Database,
    log: Database,
    home: tempfile::TempDir,
}

fn schema(name: &str) -> Domain {
    // What is durable is not the question here, and an fsync for each row would take most of the time.
    Domain::new(name).migrations(processes::SCHEMA).durability(Durability::Normal)
}

fn place(limits: Limits) -> Place {
    place_of(limits, schema("work"), schema("log").best_effort())
}

fn domains(home: &Path, limits: Limits) -> Runtime {
    let home = Home::at(home);
    Runtime::builder(home)
        .domain(schema("work"))
        .domain(schema("log").best_effort())
        .limits(limits)
        .open()
        .expect("opens")
}

fn place_of(limits: Limits, work: Domain, log: Domain) -> Place {
    said::listen();
    let home = processes::folder();
    let runtime = Runtime::builder(Home::at(home.path()))
        .domain(work)
        .domain(log)
        .limits(limits)
        .open()
        .expect("opens");
    let [work, log] = ["work", "log"].map(|name| runtime.database(name).expect("the domain"));
    for database in [&work, &log] {
        database.write(|tx| tx.execute(INSERT, (0, 0, "first"))).expect("a row");
        until("it is ready", || database.health() == Health::Ready);
    }
    Place { runtime, work, log, home }
}

fn insert(database: &Database, part: i64, bytes: usize) -> rowhouse::Result<usize> {
    database.write(|tx| tx.execute(INSERT, (1, part, text(bytes))))
}

fn rows(database: &Database) -> i64 {
    database
        .read(|at| at.row("SELECT count(*) FROM item WHERE job = 1", [], |row| row.get(0)))
        .expect("a read")
}

fn names(error: &Error, child: &Child) -> bool {
    error.holder().is_some_and(|holder| i64::from(holder.pid) == i64::from(child.pid()) && holder.stopped)
}

/// While a stopped process has a cursor open, the log of a best-effort database stays below its cap because its writes
/// are refused, naming the process; a required one goes on committing and raises the alarm.
///
/// Scale: cap 4 MiB, two processes that log; 8 MiB written to each database, more with `ROWHOUSE_TEST_ROUNDS` (in MiB).
/// Control: the log of a plain connection under the same work and cursor grows past the cap.
#[test]
fn w1_a_pinned_log_sheds_and_names_the_process() {
    let _alone = alone();
    let Place { runtime, work, log, home } = place(small());
    let mut other = Child::start("logger", &[processes::text(home.path())]);
    other.wait_for("ready");
    let files = [work.path(), log.path()].map(processes::text);
    let mut child = Child::start("cursors", &files);
    child.wait_for("reading");
    child.stop();
    other.tell("go");

    let cap = 4 * MIB;
    let (mut refused, mut acknowledged) = (None, 0);
    for part in 0..i64::try_from(processes::rounds(8)).expect("small") * 64 {
        insert(&work, part, 16 << 10).expect("a required database goes on");
        match insert(&log, part, 16 << 10) {
            Ok(_) => acknowledged += 1,
            Err(error) => refused = Some(error),
        }
        // A submitted job is told as quickly.
        if let Err(error) = log.submit(move |tx| tx.execute(INSERT, (3, part, "x"))) {
            assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        }
        let now = length(&log_of(log.path()));
        assert!(now <= cap, "{now} bytes of log");
    }
    let error = refused.expect("it is refused");
    println!("{error}");
    assert_eq!((error.kind(), error.database()), (ErrorKind::Full, Some("log")), "{error}");
    assert!(names(&error, &child), "{error}");
    assert!(error.advice().is_some_and(|advice| advice.contains("kill -CONT")), "{error}");
    let stats = log.stats();
    assert!(stats.shed > 0 && stats.dropped == 0, "{stats:?}");
    let own = "SELECT count(*) FROM item WHERE job = 1 AND length(body) > 4096";
    let own: i64 = log.read(|at| at.row(own, [], |row| row.get(0))).expect("a read");
    assert_eq!(own, acknowledged, "what was acknowledged is there, what was refused is not");
    assert!(length(&log_of(work.path())) > cap, "the required one goes on");
    for database in [&work, &log] {
        until("health names it", || {
            matches!(database.health(), Health::Degraded { holder: Some(holder), .. }
                if i64::from(holder.pid) == i64::from(child.pid()) && holder.stopped)
        });
        let said = said_of(database, "write-ahead log");
        assert_eq!(said.len(), 1, "one warning at the change, not one per job: {said:#?}");
    }
    assert!(work.stats().checkpoint_busy_streak > 0, "{:?}", work.stats());
    assert_eq!(other.wait_for("refused"), format!("full {}", child.pid()));

    child.go_on();
    child.tell("end");
    child.finish();
    // Nobody writes: what pinned it is gone, and that is noticed.
    for database in [&work, &log] {
        until("it is ready again", || database.health() == Health::Ready);
        until("its log is short again", || length(&log_of(database.path())) <= MIB);
        insert(database, -1, 10).expect("writes are let in again");
        until("the streak ends", || database.stats().checkpoint_busy_streak == 0);
    }
    other.tell("look");
    other.wait_for("let in");
    other.finish();
    runtime.close(LONG);

    let control = processes::folder();
    let plain = plain_database(&processes::file(control.path()));
    let child = Child::start("cursors", &[processes::text(&processes::file(control.path()))]);
    child.wait_for("reading");
    child.stop();
    for part in 0..512 {
        plain.execute(INSERT, (1, part, text(16 << 10))).expect("a row");
    }
    let grown = length(&log_of(&processes::file(control.path())));
    println!("plain: {grown} bytes of log");
    assert!(grown > cap, "the control's log is not pinned: {grown}");
}

/// A connection without the library, as programs open it.
fn plain_database(file: &Path) -> Connection {
    let plain = processes::plain(file);
    plain
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA journal_size_limit=524288;",
        )
        .expect("WAL");
    plain.execute_batch(processes::SCHEMA[0].sql).expect("the tables");
    plain.execute(INSERT, (0, 0, "first")).expect("a row");
    plain
}

#[test]
fn a_read_of_this_process_is_named_with_its_label_and_age() {
    let _alone = alone();
    let Place { log, runtime, home: _home, .. } = place(small());
    let reading = log.clone().label("export");
    let (inside, entered) = channel();
    let (release, released) = channel::<()>();
    let reader = std::thread::spawn(move || {
        reading.read(|at| {
            let _: i64 = at.row("SELECT count(*) FROM item", [], |row| row.get(0))?;
            inside.send(()).expect("the test listens");
            // Outside of SQL, where nothing can stop it.
            let _ = released.recv();
            Ok(())
        })
    });
    entered.recv().expect("it reads");
    let error = (0..512).find_map(|part| insert(&log, part, 16 << 10).err()).expect("it is refused");
    assert!(error.message().contains("a read of this process (export) that began"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Full);
    until("its age is told", || log.stats().oldest_reader_ms > 0);
    drop(release);
    reader.join().expect("the reader").expect("a read");
    assert_eq!(log.stats().oldest_reader_ms, 0);
    until("it is ready again", || log.health() == Health::Ready);
    insert(&log, -1, 10).expect("let in again");
    drop(runtime);
}

/// Of two processes with a snapshot the one is named that keeps more of the log, not the one that is stopped.
#[test]
fn of_two_snapshots_the_older_one_is_named() {
    let _alone = alone();
    let Place { log, runtime, home: _home, .. } = place(small());
    let cursors = || {
        let child = Child::start("cursors", &[processes::text(log.path())]);
        child.wait_for("reading");
        child
    };
    let mut older = cursors();
    for part in 0..32 {
        insert(&log, part, 4 << 10).expect("a row");
    }
    let mut younger = cursors();
    younger.stop();
    let error = (0..512).find_map(|part| insert(&log, part, 16 << 10).err()).expect("it is refused");
    let named = error.holder().map(|holder| (i64::from(holder.pid), holder.stopped));
    assert_eq!(named, Some((i64::from(older.pid()), false)), "{error}");
    older.tell("end");
    older.finish();
    // Then it is the other one's.
    until("the other one is named", || {
        matches!(log.health(), Health::Degraded { holder: Some(holder), .. }
            if i64::from(holder.pid) == i64::from(younger.pid()))
    });
    younger.go_on();
    younger.tell("end");
    younger.finish();
    until("it is ready again", || log.health() == Health::Ready);
    drop(runtime);
}

/// Reads that last longer than a writer may be held for, two of them at any time, and a log that begins anew all the same.
/// Control: on plain connections it only grows, however often it is worked off.
#[test]
fn a_log_begins_anew_although_long_reads_follow_each_other() {
    const LASTS: Duration = Duration::from_millis(300);
    let _alone = alone();
    let Place { work, runtime, home: _home, .. } = place(small());
    let ended = AtomicBool::new(false);
    let (began, beginning) = channel();
    std::thread::scope(|scope| {
        let mut stops = Vec::new();
        for _ in 0..2 {
            let (work, ended, began) = (work.clone(), &ended, began.clone());
            let (stop, stopped) = channel::<()>();
            stops.push(stop);
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let read = work.read(|at| {
                        let _: i64 = at.row("SELECT count(*) FROM item", [], |row| row.get(0))?;
                        let _ = began.send(());
                        let _ = stopped.recv_timeout(LASTS);
                        Ok(())
                    });
                    read.expect("a read");
                }
            });
            // The next one begins in the middle of this one.
            beginning.recv().expect("it reads");
            let _ = stops[0].send(());
        }
        let before = work.stats().checkpoint_restarts;
        let mut longest = 0;
        until("the log begins anew, twice", || {
            insert(&work, 0, 16 << 10).expect("a row");
            longest = longest.max(length(&log_of(work.path())));
            work.stats().checkpoint_restarts >= before + 2
        });
        println!("{longest} bytes of log, {:?}", work.stats());
        ended.store(true, Ordering::Relaxed);
        drop(stops);
    });
    runtime.close(LONG);

    let control = processes::folder();
    let file = processes::file(control.path());
    let plain = plain_database(&file);
    let readers = [processes::plain(&file), processes::plain(&file)];
    readers[0].execute_batch("BEGIN; SELECT count(*) FROM item").expect("a read");
    for part in 0..512_u32 {
        plain.execute(INSERT, (1, part, text(16 << 10))).expect("a row");
        if part % 16 == 0 {
            let at = usize::from(part % 32 != 0);
            readers[1 - at].execute_batch("BEGIN; SELECT count(*) FROM item").expect("the next read");
            readers[at].execute_batch("COMMIT").expect("it ends");
            plain.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").expect("as far as it goes");
        }
    }
    assert!(length(&log_of(&file)) > 8 * MIB, "the control's log never begins anew");
}

/// A main file that may not grow: nothing can be worked off, and that is told once and tried again.
#[test]
fn a_checkpoint_that_fails_is_told_and_tried_again() {
    let _alone = alone();
    faults::install();
    let mut limits = small();
    limits.reader_age = Duration::from_secs(1);
    let Place { runtime, work, log, home: _home } = place(limits);
    let full = Effect::Fail(rowhouse::rusqlite::ffi::SQLITE_FULL);
    let rules = [&work, &log].map(|database| faults::inject(&[Operation::Write], database.path(), full));
    for part in 0..64 {
        insert(&work, part, 16 << 10).expect("the log takes it");
    }
    until("health says so", || {
        matches!(work.health(), Health::Degraded { reason, .. }
            if reason.contains("could not be worked off") && reason.contains("each try fails"))
    });
    let tries = rules[0].hits();
    until("it is tried again", || rules[0].hits() > tries + 1);
    assert!(work.stats().checkpoint_busy_streak > 1, "{:?}", work.stats());
    let error = (0..512).find_map(|part| insert(&log, part, 16 << 10).err()).expect("it is refused");
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert!(error.message().contains("at its cap") && error.message().contains("each try fails"), "{error}");
    let said = said_of(&work, "cannot be worked off");
    assert_eq!(said.len(), 1, "once, not at each try: {said:#?}");
    drop(rules);
    for database in [&work, &log] {
        until("it is ready again", || database.health() == Health::Ready);
        until("the streak ends", || database.stats().checkpoint_busy_streak == 0);
    }
    runtime.close(LONG);
}

/// The next process that is up cuts the log that five killed ones left, also when it writes nothing itself.
///
/// Scale: five processes, each killed with a log of more than 4 MiB; a log is kept up to 512 KiB.
/// Control: beside a plain connection with the same `journal_size_limit` the log stays as long as it is.
#[test]
fn w2_the_log_is_short_again_after_five_kills() {
    let _alone = alone();
    let home = processes::folder();
    let file = processes::file(home.path());
    let kept = MIB / 2;
    for round in 1..=5_u64 {
        let bytes = (4 * MIB + round * MIB / 4).to_string();
        let mut child = Child::start("grower", &[processes::text(home.path()), &bytes]);
        child.wait_for("grown");
        child.kill();
        println!("killed: {} bytes of log", length(&log_of(&file)));
        assert!(length(&log_of(&file)) > 4 * MIB, "each leaves a long log");
    }

    {
        let plain = processes::plain(&file);
        plain.execute_batch("PRAGMA journal_size_limit=524288").expect("a limit");
        plain.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).expect("as if it were killed");
        let rows: i64 = plain.query_row("SELECT count(*) FROM item", [], |row| row.get(0)).expect("a read");
        plain.execute(INSERT, (3, 0, "x")).expect("a row");
        println!("plain: {rows} rows, {} bytes of log", length(&log_of(&file)));
        assert!(length(&log_of(&file)) > 4 * MIB, "the control is not cut");
    }

    let runtime = processes::open_with(home.path(), small());
    let began = Instant::now();
    until("the log is short", || length(&log_of(&file)) <= kept);
    let took = began.elapsed();
    println!("short after {took:?}");
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    let database = runtime.database("work").expect("the domain");
    assert_eq!(database.stats().jobs, 0, "it wrote nothing itself");
    runtime.close(LONG);
    drop(runtime);
    assert_eq!(processes::integrity(&file), "ok");
}

/// A checkpoint that could do nothing is never taken for a finished one: the streak rises, what is left is told, health
/// says so after it lasts as long as a read may, and nothing says that it is done.
///
/// Scale: a cursor of a stopped process, a log of 1 MiB.
/// Control: `PRAGMA wal_checkpoint(TRUNCATE)` of a plain connection answers without an error, and the log is as it was.
#[test]
fn w3_a_busy_checkpoint_is_not_a_finished_one() {
    let _alone = alone();
    let mut limits = small();
    limits.reader_age = Duration::from_secs(1);
    let Place { runtime, work, home: _home, .. } = place(limits);
    let mut child = Child::start("cursors", &[processes::text(work.path())]);
    child.wait_for("reading");
    child.stop();
    let complete = work.stats().checkpoints_complete;
    for part in 0..64 {
        insert(&work, part, 16 << 10).expect("a row");
    }
    until("the streak rises", || work.stats().checkpoint_busy_streak > 1);
    let stats = work.stats();
    println!("{stats:?}");
    assert!(stats.checkpoint_lag > 200 && stats.checkpoints > 1, "{stats:?}");
    assert_eq!(stats.checkpoints_complete, complete, "{stats:?}");
    until("health says so", || {
        matches!(work.health(), Health::Degraded { reason, holder: Some(holder) }
            if reason.contains("could not be worked off") && i64::from(holder.pid) == i64::from(child.pid()))
    });
    let said = said_of(&work, "write-ahead log");
    assert!(said.len() == 1 && said[0].contains("could not be worked off"), "{said:#?}");

    let control = processes::plain(work.path());
    control.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("no error: it seems to be done");
    assert!(length(&log_of(work.path())) > MIB, "and nothing is");
    control.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).expect("set");
    // Closed only after the runtime: closing it would drop the locks that this process has on the file.
    child.go_on();
    child.tell("end");
    child.finish();
    until("it is ready again", || work.health() == Health::Ready);
    until("the streak ended", || {
        let stats = work.stats();
        stats.checkpoint_busy_streak == 0
            && stats.checkpoint_lag == 0
            && stats.checkpoints_complete > complete
    });
    runtime.close(LONG);
    drop(control);
}

#[test]
fn a_best_effort_database_stays_within_its_bytes_and_takes_work_again_after_rows_are_deleted() {
    let _alone = alone();
    let most = 8 * MIB;
    let log = schema("log").best_effort().max_bytes(most);
    let Place { runtime, log, work, home: _home } = place_of(Limits::default(), schema("work"), log);
    let mut refused = Vec::new();
    for part in 0..1024 {
        refused.extend(insert(&log, part, 16 << 10).err());
        // Without a bound: the control.
        insert(&work, part, 16 << 10).expect("no bound");
        let now = footprint(log.path());
        assert!(now <= most, "{now} bytes");
    }
    assert!(footprint(work.path()) > 2 * most, "the same rows take more");
    println!("{}", refused.last().expect("refused"));
    for error in &refused {
        assert_eq!((error.kind(), error.database()), (ErrorKind::Full, Some("log")), "{error}");
        assert!(error.message().contains("no room left in the 8 MiB"), "{error}");
        assert!(error.advice().is_some_and(|advice| advice.contains("delete rows")), "{error}");
    }
    let stats = log.stats();
    assert!(stats.shed + 100 > refused.len() as u64 && stats.shed > 0, "{stats:?}");
    assert!(matches!(log.health(), Health::Degraded { .. }), "{:?}", log.health());
    let said = said_of(&log, "no room left");
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(rows(&log) > 200, "it was used");

    // What makes room is let in, and may not grow the file either.
    let maintenance = log.clone().background();
    let more = maintenance.write(|tx| tx.execute(INSERT, (1, -1, text(1 << 20))));
    assert_eq!(more.expect_err("no room").kind(), ErrorKind::Full);
    maintenance.write(|tx| tx.execute("DELETE FROM item WHERE part < 100", [])).expect("rows go");
    until("it is ready again", || log.health() == Health::Ready);
    for part in 0..50 {
        insert(&log, part, 16 << 10).expect("there is room");
        assert!(footprint(log.path()) <= most);
    }

    // Jobs that share commits: each is done whole, or told that there is no room.
    let before = rows(&log);
    let submit = |part| log.submit(move |tx| tx.execute(INSERT, (1, part, text(16 << 10))));
    let tickets: Vec<_> = (0..200).map(submit).collect();
    let answers: Vec<_> = tickets.into_iter().map(|ticket| ticket.and_then(rowhouse::Ticket::wait)).collect();
    let done = answers.iter().filter(|answer| answer.is_ok()).count();
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(refused.iter().all(|error| error.kind() == ErrorKind::Full), "{refused:#?}");
    assert!((1..200).contains(&done), "{done} of 200");
    assert_eq!(rows(&log) - before, i64::try_from(done).expect("a count"));
    assert!(footprint(log.path()) <= most && log.stats().dropped == 0, "{:?}", log.stats());
    runtime.close(LONG);
}

#[test]
fn a_required_database_at_its_bytes_refuses_inserts_clearly_and_deletes_go_on() {
    let _alone = alone();
    let Place { runtime, work, home: _home, .. } =
        place_of(Limits::default(), schema("work").max_bytes(4 * MIB), schema("log").best_effort());
    let error = (0..1024).find_map(|part| insert(&work, part, 16 << 10).err()).expect("it is full");
    println!("{error}");
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.message().contains("no room left in the 4 MiB"), "{error}");
    // Neighbours in a batch do not pay for the one that is too large.
    let tickets: Vec<_> = (0..20)
        .map(|part| {
            let bytes = if part == 7 { 2 << 20 } else { 1 };
            work.submit(move |tx| tx.execute(INSERT, (4, part, text(bytes)))).expect("queued")
        })
        .collect();
    for (part, ticket) in tickets.into_iter().enumerate() {
        let answer = ticket.wait();
        assert_eq!(answer.is_err(), part == 7, "{part}: {answer:?}");
    }
    until("its health says so", || matches!(work.health(), Health::Degraded { .. }));
    let stats = work.stats();
    assert_eq!((stats.shed, stats.dropped), (0, 0), "a required database is asked each time: {stats:?}");
    work.write(|tx| tx.execute("DELETE FROM item WHERE part < 50", [])).expect("rows go");
    insert(&work, -1, 16 << 10).expect("there is room");
    until("it is ready again", || work.health() == Health::Ready);
    runtime.close(LONG);
}

#[test]
fn no_more_is_written_than_may_be_and_work_is_let_in_again_with_time() {
    let _alone = alone();
    let (bytes, per) = (16 * MIB, Duration::from_secs(80));
    let Place { runtime, work, log, home: _home } =
        place_of(Limits::default(), schema("work"), schema("log").best_effort().max_write_rate(bytes, per));
    let began = Instant::now();
    let (mut taken, mut refused) = (0, None);
    while began.elapsed() < Duration::from_secs(1) || refused.is_none() {
        assert!(began.elapsed() < LONG, "the machine is too slow to tell");
        match insert(&log, taken, 16 << 10) {
            Ok(_) => taken += 1,
            Err(error) => refused = Some(error),
        }
    }
    // In the log and in the main file.
    let written = u64::try_from(taken).expect("a count") * 2 * (16 << 10);
    let allowed = bytes / 4 + (bytes as f64 * began.elapsed().as_secs_f64() / per.as_secs_f64()) as u64;
    println!("{written} bytes written, {allowed} allowed");
    assert!(written < allowed, "{written} bytes written, {allowed} allowed");
    let error = refused.expect("it is refused");
    println!("{error}");
    assert_eq!((error.kind(), error.database()), (ErrorKind::Full, Some("log")), "{error}");
    assert!(error.message().contains("more was written than the 16 MiB"), "{error}");
    assert!(error.retry_after().is_some_and(|after| !after.is_zero() && after < per), "{error:?}");
    assert!(log.stats().shed > 0);
    until("work is let in again", || insert(&log, -1, 10).is_ok());
    // The control: the same storm without the bound.
    let began = Instant::now();
    let mut taken = 0_u64;
    while taken * 2 * (16 << 10) <= bytes / 2 {
        insert(&work, 0, 16 << 10).expect("no bound");
        taken += 1;
        assert!(began.elapsed() < LONG, "the machine is too slow to tell");
    }
    runtime.close(LONG);
}

/// Programs that are started one after the other, as by a crash loop, share what may be written at once.
///
/// Control: the first of another home may write a quarter of the bound, as each of them could without the shared number.
#[test]
fn a_program_that_is_started_again_gets_no_new_share_of_what_may_be_written() {
    let _alone = alone();
    let taken = |home: &Path| -> u64 {
        let child = Child::start("one after another", &[processes::text(home)]);
        let taken = child.wait_for("taken").parse().expect("a number");
        child.finish();
        taken
    };
    let homes = [processes::folder(), processes::folder()];
    let first = taken(homes[0].path());
    let later: u64 = (0..3).map(|_| taken(homes[0].path())).sum();
    let control = taken(homes[1].path());
    println!("{first} rows, then {later} of three programs; {control} in another home");
    assert!(first > 50 && control > 50, "{first} {control}");
    assert!(later < first / 4, "{later} after {first}");
}
