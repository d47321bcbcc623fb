//! What went wrong is counted by class, exactly, and another process reads the same numbers.

mod common;
#[cfg(feature = "agent")]
mod examined;
mod faults;
mod processes;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::*;
use faults::{Effect, Operation, inject};
use processes::Child;
use rowhouse::rusqlite::ffi;
use rowhouse::{Database, Domain, ErrorKind, Health, Home, Migration, Result, Runtime, RuntimeDbRegistry};
use serde_json::{Value, json};

/// A deadline that passes, with room for a busy machine between the call and the fault.
const HASTY: Duration = Duration::from_millis(300);

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [role, home] = &arguments[..] else { panic!("two arguments: {arguments:?}") };
    #[cfg(feature = "agent")]
    if role == "examine" {
        let report = examined::examine_only(home.as_ref(), &["counts"]);
        processes::say(&serde_json::to_string(&report).expect("JSON"));
        return;
    }
    assert_eq!(role, "look");
    let all = RuntimeDbRegistry::new(&Home::at(home)).stats().expect("the home can be looked at");
    processes::say(&serde_json::to_string(&all).expect("JSON"));
}

/// The stats of every database of a home, as another process has them: by name, what its only process did.
fn seen_from_outside(home: &Path) -> BTreeMap<String, Value> {
    let child = Child::start("look", &[processes::text(home)]);
    let line = child.line().expect("an answer");
    child.finish();
    let all: Vec<Value> = serde_json::from_str(&line).expect("JSON");
    let of_process = |database: &Value| {
        let processes = database["processes"].as_array().expect("a list");
        assert_eq!(processes.len(), 1, "{database}");
        assert_eq!(processes[0]["pid"], std::process::id());
        assert_eq!(processes[0]["stats"], database["total"], "one process is all there is");
        (database["name"].as_str().expect("a name").to_owned(), database["total"].clone())
    };
    all.iter().map(of_process).collect()
}

/// What was injected into one database.
#[derive(Default)]
struct Tally {
    errors: BTreeMap<&'static str, u64>,
    jobs: u64,
    /// Jobs that failed or that their callers gave up on: with a deadline it can be either.
    undone: u64,
    dropped: u64,
    opens: u64,
    opens_failed: u64,
}

impl Tally {
    /// The call met the fault that was injected, and not another one.
    fn met<T: std::fmt::Debug>(&mut self, expected: ErrorKind, answer: Result<T>) {
        assert_eq!(kind(answer), expected);
        *self.errors.entry(expected.as_str()).or_default() += 1;
    }

    fn wrote<T: std::fmt::Debug>(&mut self, answer: Result<T>) {
        answer.expect("written");
        self.jobs += 1;
    }

    /// As `stats` tells it; every kind that is not named must be 0.
    fn assert_told(&self, stats: &Value) {
        let errors = stats["errors"].as_object().expect("every kind");
        assert_eq!(errors.len(), 19, "every kind has a number: {errors:?}");
        let came: BTreeMap<&str, u64> = errors
            .iter()
            .map(|(kind, count)| (kind.as_str(), count.as_u64().expect("a number")))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(came, self.errors);
        for (name, injected) in [
            ("jobs", self.jobs),
            ("dropped", self.dropped),
            ("opens", self.opens),
            ("opens_failed", self.opens_failed),
            ("queued", 0),
        ] {
            assert_eq!(stats[name], injected, "{name}");
        }
        let number = |name: &str| stats[name].as_u64().expect("a number");
        assert_eq!(number("jobs_failed") + number("jobs_withdrawn"), self.undone);
    }
}

/// One at a time: its deadlines are short.
struct Rig {
    runtime: Runtime,
    test: Database,
    logs: Database,
    // Dropped last.
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Rig {
    fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        faults::install();
        let folder = processes::folder();
        let mut limits = limits();
        (limits.readers, limits.backlog_jobs) = (1, 3);
        let logs = Domain::new("logs_of_the_test").migrations(MIGRATIONS).best_effort();
        let runtime = Runtime::builder(Home::at(folder.path())).domain(domain()).domain(logs).limits(limits);
        let runtime = runtime.open().expect("opened");
        let database = |name| runtime.database(name).expect("the domain");
        let (test, logs) = (database("test"), database("logs_of_the_test"));
        until("it is attached", || logs.health() == Health::Ready);
        Self { runtime, test, logs, folder, _alone: alone }
    }

    /// Faults that a database meets in a job or a read, and goes on after.
    fn in_passing(&self, told: &mut Tally) {
        let db = &self.test;
        let hasty = db.clone().within(HASTY);
        // Locked by somebody else.
        let other = raw(db.path());
        other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
        told.met(ErrorKind::Busy, hasty.write(count_me));
        other.execute_batch("ROLLBACK").expect("freed");
        // Too slow, in a job and in a read; and the only reader in use.
        told.met(ErrorKind::Timeout, hasty.write(|tx| tx.execute(ENDLESS_INSERT, [])));
        told.met(ErrorKind::Timeout, hasty.read(|at| at.rows(ENDLESS_QUERY, [], |_| Ok(()))));
        db.read(|_| {
            told.met(ErrorKind::Timeout, hasty.read(|at| number(at, "SELECT 1")));
            Ok(())
        })
        .expect("read");
        // Its own doing.
        told.met(ErrorKind::Constraint, db.write(|tx| tx.execute("INSERT INTO positive VALUES (0)", [])));
        told.met(ErrorKind::Job, db.write(|_| gave_up::<()>()));
        told.met(
            ErrorKind::Panicked,
            db.write(|_| -> Result<()> { std::panic::resume_unwind(Box::new(())) }),
        );
        let inner = db.clone();
        let (tell, answer) = std::sync::mpsc::channel();
        told.wrote(db.write(move |_| {
            let _ = tell.send(inner.write(count_me));
            Ok(())
        }));
        for answer in answer.try_iter() {
            told.met(ErrorKind::Reentrant, answer);
        }
        // In a batch with neighbours that are unharmed, awaited and by its ticket.
        let hold = Hold::writer(db);
        told.jobs += 1;
        let submit = |sql: &'static str| db.submit(move |tx| tx.execute(sql, [])).expect("queued");
        let fine = submit("INSERT INTO t(v) VALUES ('fine')");
        let bad = submit("INSERT INTO positive VALUES (-1)");
        let worse = submit("INSERT INTO fussy VALUES ('roll back')");
        let withdrawn = submit("INSERT INTO t(v) VALUES ('never')");
        assert!(withdrawn.cancel());
        hold.release();
        told.wrote(fine.wait());
        told.met(ErrorKind::Constraint, bad.wait());
        told.met(ErrorKind::Constraint, block_on(worse));
        // Locked out, too slow, three by their own doing, and three of the batch.
        told.undone += 8;
    }

    /// Faults of the disk.
    fn on_the_disk(&self, told: &mut Tally) {
        let db = &self.test;
        let log = self.folder.path().canonicalize().expect("the folder").join("test.sqlite-wal");
        let main = log.with_file_name("test.sqlite");
        let full = inject(&[Operation::Write], &log, Effect::Fail(ffi::SQLITE_FULL));
        told.met(ErrorKind::Full, db.write(count_me));
        drop(full);
        told.wrote(db.write(count_me));
        // A failed write latches: what comes after is refused until it is opened again, which may fail too.
        let broken = inject(&[Operation::Write], &log, Effect::Fail(ffi::SQLITE_IOERR_WRITE));
        told.met(ErrorKind::OutcomeUnknown, db.write(count_me));
        drop(broken);
        told.met(ErrorKind::Latched, db.write(count_me));
        let no_file = inject(&[Operation::Open], &main, Effect::Fail(ffi::SQLITE_CANTOPEN));
        told.met(ErrorKind::Io, db.reopen());
        told.opens_failed += 1;
        drop(no_file);
        db.reopen().expect("opened again");
        told.opens += 1;
        // A table that nobody has read since.
        let unreadable =
            [&log, &main].map(|file| inject(&[Operation::Read], file, Effect::Fail(ffi::SQLITE_IOERR_READ)));
        told.met(ErrorKind::Io, db.write(|tx| number(tx, "SELECT count(*) FROM child")));
        drop(unreadable);
        told.undone += 3;
        told.wrote(db.write(count_me));
    }

    /// More than a best-effort database keeps.
    fn too_much(&self, told: &mut Tally) {
        let db = &self.logs;
        let hold = Hold::writer(db);
        told.jobs += 1;
        let mut tickets: Vec<_> = (0..5).map(|_| db.submit(count_me).expect("it never waits")).collect();
        for dropped in tickets.drain(..2) {
            told.met(ErrorKind::Full, dropped.wait());
            told.dropped += 1;
        }
        hold.release();
        for kept in tickets {
            told.wrote(kept.wait());
        }
    }

    /// A domain whose migration fails, asked for beside the others.
    fn migration(&self, told: &mut Tally) {
        const BROKEN: &[Migration] = &[Migration { name: "V1__broken", sql: "CREATE TABLE t(" }];
        let domain = Domain::new("broken").migrations(BROKEN);
        told.met(ErrorKind::Invalid, Runtime::builder(self.runtime.home().clone()).domain(domain).open());
        told.opens_failed += 1;
    }
}

/// Errors are counted by kind, opens, dropped and withdrawn jobs by number: after every class of fault, injected and
/// counted, `stats()` and what another process reads equal the injected numbers exactly, and all else is 0.
///
/// Scale: 3 rounds of 19 faults of 10 kinds on 3 databases; `ROWHOUSE_TEST_SECONDS=3600` for an hour of them.
/// Control: r2d2's pool meets a lock and a constraint, and tells of neither: its state is the same before and after
/// (`the_control_a_pool_tells_nothing`).
#[test]
fn o4_every_injected_fault_is_counted_once_under_its_class() {
    let rig = Rig::new();
    let mut told: BTreeMap<&str, Tally> = BTreeMap::new();
    for name in ["test", "logs_of_the_test"] {
        told.entry(name).or_default().opens = 1;
    }
    let end = Instant::now() + processes::seconds(0.0);
    let mut rounds = 0;
    while rounds < 3 || Instant::now() < end {
        rig.in_passing(told.entry("test").or_default());
        rig.on_the_disk(told.entry("test").or_default());
        rig.too_much(told.entry("logs_of_the_test").or_default());
        rig.migration(told.entry("broken").or_default());
        rounds += 1;
    }
    let seen = seen_from_outside(rig.folder.path());
    assert_eq!(seen.keys().collect::<Vec<_>>(), told.keys().collect::<Vec<_>>());
    for (name, tally) in &told {
        tally.assert_told(&seen[*name]);
    }
    let own = rig.runtime.stats();
    for (name, stats) in &own {
        assert_eq!(json!(stats), seen[name], "stats() and another process say the same of {name}");
    }
    let test = &own["test"];
    assert!(test.opening.first.attach_us > 0 && test.opening.last.attach_us >= test.opening.last.connect_us);
    // What was rolled back held the lock too.
    assert!(test.hold_us.count() > test.commits && test.queue_wait_us.count() > 0 && test.written_bytes > 0);
    assert_eq!(test.batch_jobs.count(), test.commits);
}

/// The doctor's row of a database has the same numbers as evidence: after every class of fault, injected and counted, each
/// kind of error stands there with exactly how often it was injected, no other kind, and what was dropped; only that is
/// worth a warning.
///
/// Scale: 1 round of 19 faults of 10 kinds on 3 databases (`ROWHOUSE_TEST_ROUNDS` for more), told by a process of its own.
/// Control: before the first fault the row names no error; and r2d2's pool tells of none
/// (`the_control_a_pool_tells_nothing`).
#[cfg(feature = "agent")]
#[test]
fn o4_the_doctor_counts_what_was_injected() {
    let rig = Rig::new();
    let counts = |name: &str| {
        let child = Child::start("examine", &[processes::text(rig.folder.path())]);
        let report: Value = serde_json::from_str(&child.line().expect("an answer")).expect("JSON");
        child.finish();
        report["checks"][format!("{name}.counts")].clone()
    };
    let errors = |row: &Value| -> BTreeMap<String, u64> {
        let evidence = row["evidence"].as_array().expect("a list").iter().filter_map(Value::as_str);
        let told =
            evidence.filter_map(|told| told.strip_prefix("errors: ")).flat_map(|told| told.split(", "));
        told.map(|one| one.split_once(' ').expect("a kind and a number"))
            .map(|(kind, count)| (kind.to_owned(), count.parse().expect("a number")))
            .collect()
    };
    let before = counts("test");
    assert_eq!((errors(&before), &before["status"]), (BTreeMap::new(), &"ok".into()), "{before:#}");
    let (mut test, mut logs) = (Tally::default(), Tally::default());
    for _ in 0..processes::rounds(1) {
        rig.in_passing(&mut test);
        rig.on_the_disk(&mut test);
        rig.too_much(&mut logs);
    }
    for (name, tally, status) in [("test", &test, "ok"), ("logs_of_the_test", &logs, "warning")] {
        let row = counts(name);
        let injected: BTreeMap<_, _> =
            tally.errors.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
        assert_eq!((errors(&row), &row["status"]), (injected, &status.into()), "{row:#}");
        let details = &row["details"];
        assert_eq!(details["errors"], tally.errors.values().sum::<u64>(), "{row:#}");
        assert_eq!(details["dropped"], tally.dropped, "{row:#}");
        assert_eq!(details["opens_failed"], tally.opens_failed, "{row:#}");
    }
}

#[test]
fn what_waits_now_is_seen_from_outside_by_lane() {
    let rig = Rig::new();
    let waits = || {
        let seen = &seen_from_outside(rig.folder.path())["test"];
        ["queued", "queued_background"].map(|name| seen[name].as_u64().expect("a number"))
    };
    let hold = Hold::writer(&rig.test);
    let background = rig.test.clone().background();
    let tickets = [&background, &rig.test, &background].map(|db| db.submit(count_me).expect("queued"));
    assert_eq!(waits(), [3, 2]);
    hold.release();
    for ticket in tickets {
        ticket.wait().expect("written");
    }
    assert_eq!(waits(), [0, 0]);
}

/// Two calls meet a fault, and the pool, asked for all that it can tell, says what it said before.
#[test]
fn the_control_a_pool_tells_nothing() {
    let (folder, first) = plain();
    let manager = r2d2_sqlite::SqliteConnectionManager::file(folder.path().join("plain.sqlite"))
        .with_init(|connection| connection.busy_timeout(Duration::from_millis(20)));
    let pool = r2d2::Pool::builder().max_size(2).build(manager).expect("a pool");
    let say = || format!("{:?}", pool.state());
    until("all connections are there", || pool.state().idle_connections == 2);
    let before = say();
    first.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let connection = pool.get().expect("a connection");
    connection.execute("INSERT INTO t(v) VALUES ('busy')", []).expect_err("busy");
    first.execute_batch("ROLLBACK").expect("freed");
    connection.execute("INSERT INTO positive VALUES (0)", []).expect_err("a constraint");
    drop(connection);
    assert_eq!(say(), before);
}
