//! After a full disk, a failed write, damage or a replaced file a best-effort database comes back by itself; what was
//! submitted meanwhile is written then, in order, once.

mod common;
mod faults;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::*;
use faults::{Effect, Operation};
use rowhouse::rusqlite::ffi;
use rowhouse::{Database, Domain, Durability, ErrorKind, Health, Home, OnDamage, Runtime, Ticket, Tx};

/// Trouble that passed is noticed within this time.
const BACK: Duration = Duration::from_secs(2);

struct Logs {
    db: Database,
    _runtime: Runtime,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

fn logs() -> Logs {
    logs_with(rowhouse::Durability::Normal)
}

fn logs_with(durability: rowhouse::Durability) -> Logs {
    logs_of(durability, limits())
}

fn logs_of(durability: rowhouse::Durability, limits: rowhouse::Limits) -> Logs {
    logs_from(domain().best_effort().durability(durability), limits)
}

/// Damage is left where it is, and waited for to go away.
fn logs_that_refuse() -> Logs {
    logs_from(domain().best_effort().durability(Durability::Normal).on_damage(OnDamage::Refuse), limits())
}

fn logs_from(domain: Domain, limits: rowhouse::Limits) -> Logs {
    faults::install();
    let folder = tempfile::tempdir().expect("a folder");
    let runtime =
        Runtime::builder(Home::at(folder.path())).domain(domain).limits(limits).open().expect("opened");
    let db = runtime.database("test").expect("the domain");
    until("it is attached", || db.health() == Health::Ready);
    let file = db.path().to_owned();
    Logs { db, _runtime: runtime, file, _folder: folder }
}

impl Logs {
    fn wal(&self) -> PathBuf {
        self.file.with_extension("sqlite-wal")
    }

    /// Submits rows with these numbers.
    fn submit(&self, numbers: std::ops::Range<i64>) -> Vec<Ticket<usize>> {
        numbers.map(|n| self.db.submit(move |tx| row(tx, n)).expect("it never waits")).collect()
    }

    /// The numbers, in the order in which they were written.
    fn numbers(&self) -> Vec<i64> {
        self.db
            .read(|at| at.rows("SELECT CAST(v AS INTEGER) FROM t ORDER BY id", [], |row| row.get(0)))
            .expect("the rows")
    }

    fn until_degraded(&self) -> String {
        let mut said = String::new();
        until("health says so", || match self.db.health() {
            Health::Degraded { reason, .. } => {
                said = reason;
                true
            }
            _ => false,
        });
        said
    }

    fn until_back(&self, numbers: std::ops::Range<i64>) {
        let began = Instant::now();
        until("health says that it is back", || self.db.health() == Health::Ready);
        assert!(began.elapsed() < BACK, "it took {:?}", began.elapsed());
        until("all rows", || self.db.stats().queued == 0);
        assert_eq!(self.numbers(), numbers.collect::<Vec<_>>());
    }
}

fn row(tx: &Tx, number: i64) -> rowhouse::Result<usize> {
    tx.execute("INSERT INTO t(v) VALUES (?1)", [number.to_string()])
}

fn fail(code: i32) -> Effect {
    Effect::Fail(code)
}

#[test]
fn a_full_disk_holds_rows_back_and_reads_go_on() {
    let logs = logs();
    for ticket in logs.submit(0..3) {
        ticket.wait().expect("room enough");
    }
    let full = faults::inject(&[Operation::Write], logs.wal(), fail(ffi::SQLITE_FULL));
    // One alone, and a batch.
    let mut tickets = logs.submit(3..4);
    let reason = logs.until_degraded();
    assert!(reason.starts_with("test: ") && reason.contains("free some space"), "{reason}");
    tickets.extend(logs.submit(4..50));
    let met = full.hits();
    until("more tries", || full.hits() > met + 1);
    assert!(matches!(logs.db.health(), Health::Degraded { .. }), "it stays degraded from try to try");
    assert_eq!(logs.numbers(), [0, 1, 2], "reads go on");
    assert_eq!(kind(logs.db.write(|tx| row(tx, 99))), ErrorKind::Full, "who waits is told");
    assert!(tickets[0].wait_for(Duration::ZERO).is_none(), "who does not, waits for room");
    drop(full);
    logs.until_back(0..50);
    for ticket in tickets {
        assert_eq!(ticket.wait().expect("written"), 1);
    }
    assert_eq!(logs.db.stats().dropped, 0);
}

#[test]
fn a_required_database_says_full_at_once() {
    faults::install();
    let place = Place::new();
    let wal = place.file().canonicalize().expect("the file").with_extension("sqlite-wal");
    let _full = faults::inject(&[Operation::Write], wal, fail(ffi::SQLITE_FULL));
    let ticket = place.db.submit(|tx| row(tx, 1)).expect("queued");
    assert_eq!(kind(ticket.wait()), ErrorKind::Full);
    assert_eq!(place.db.health(), Health::Ready);
}

#[test]
fn a_failed_commit_is_unknown_and_never_done_twice() {
    for (operation, code) in
        [(Operation::Write, ffi::SQLITE_IOERR_WRITE), (Operation::Sync, ffi::SQLITE_IOERR_FSYNC)]
    {
        let logs = logs_with(rowhouse::Durability::Full);
        for ticket in logs.submit(0..3) {
            ticket.wait().expect("a row");
        }
        let broken = faults::inject(&[operation], logs.wal(), fail(code));
        let unknown = logs.db.submit(|tx| row(tx, 3)).expect("queued");
        assert_eq!(kind(unknown.wait()), ErrorKind::OutcomeUnknown, "its frames may be in the log");
        let reason = logs.until_degraded();
        let tickets = logs.submit(4..40);
        drop(broken);
        until("it is back", || logs.db.health() == Health::Ready);
        let mut answered = Vec::new();
        for ticket in tickets {
            answered.push(ticket.wait());
        }
        let numbers = logs.numbers();
        println!("{operation:?}: {reason}; row 3 is there: {}", numbers.contains(&3));
        let known: Vec<_> = numbers.iter().copied().filter(|n| *n != 3).collect();
        // The first of them may have met the same, in the batch before the end of the trouble.
        let fine: Vec<_> = (0..3)
            .chain((4..).zip(&answered).filter(|(_, answer)| answer.is_ok()).map(|(number, _)| number))
            .collect();
        assert_eq!(known, fine, "in order, once");
        assert!(numbers.iter().filter(|n| **n == 3).count() <= 1);
    }
}

#[test]
fn a_commit_without_room_for_the_index_of_the_log_is_unknown() {
    let mut limits = limits();
    // All pages are in memory until the commit.
    limits.page_cache = 64 << 20;
    let logs = logs_of(rowhouse::Durability::Normal, limits);
    let full = faults::inject(&[Operation::MapShm], &logs.file, fail(ffi::SQLITE_IOERR_SHMSIZE));
    let large = logs.db.submit(|tx| {
        for number in 0..5000 {
            tx.execute("INSERT INTO t(v) VALUES (?1)", [format!("{number:<4000}")])?;
        }
        Ok(())
    });
    assert_eq!(kind(large.expect("queued").wait()), ErrorKind::OutcomeUnknown, "every frame is in the log");
    let met = full.hits();
    drop(full);
    assert_eq!(met, 1, "at the commit");
    logs.submit(5000..5001).pop().expect("a ticket").wait().expect("it is back");
    let numbers = logs.numbers();
    println!("{} rows of it are there", numbers.len() - 1);
    assert!(numbers == [5000] || numbers == (0..=5000).collect::<Vec<_>>(), "all or nothing, once");
}

#[test]
fn flapping_loses_neither_order_nor_jobs() {
    let logs = logs();
    let mut tickets = Vec::new();
    let mut next = 0;
    // No room in the log, or for its index.
    for round in 0..rounds() {
        let _trouble = if round % 2 == 0 {
            faults::inject_times(3, &[Operation::Write], logs.wal(), fail(ffi::SQLITE_FULL))
        } else {
            faults::inject_times(2, &[Operation::MapShm], &logs.file, fail(ffi::SQLITE_FULL))
        };
        for _ in 0..5 {
            tickets.extend(logs.submit(next..next + 40));
            next += 40;
            let_pass(Duration::from_millis(60));
        }
    }
    for ticket in tickets {
        ticket.wait().expect("written");
    }
    logs.until_back(0..next);
}

fn rounds() -> usize {
    std::env::var("ROWHOUSE_TEST_ROUNDS").ok().map_or(4, |text| text.parse().expect("a number of rounds"))
}

#[test]
fn damage_holds_rows_back_until_the_file_is_whole_again() {
    let logs = logs_that_refuse();
    for ticket in logs.submit(0..3) {
        ticket.wait().expect("a row");
    }
    // After somebody else's commit nothing in memory is good any more: pages are read again.
    raw(&logs.file).execute("UPDATE counter SET n = n + 1", []).expect("a commit");
    let damaged = faults::inject(&[Operation::Read], &logs.file, fail(ffi::SQLITE_CORRUPT));
    let in_log = faults::inject(&[Operation::Read], logs.wal(), fail(ffi::SQLITE_CORRUPT));
    let tickets = logs.submit(3..30);
    let reason = logs.until_degraded();
    println!("{reason}");
    assert!(damaged.hits() + in_log.hits() > 0);
    drop((damaged, in_log));
    logs.until_back(0..30);
    for ticket in tickets {
        ticket.wait().expect("written");
    }
    assert_eq!(logs.db.stats().dropped, 0);
}

#[test]
fn a_job_that_meets_damage_each_time_does_not_hold_up_the_others_for_ever() {
    let logs = logs_that_refuse();
    for ticket in logs.submit(0..3) {
        ticket.wait().expect("a row");
    }
    let other = raw(&logs.file);
    let root: i64 = other
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 't'", [], |row| row.get(0))
        .expect("the table");
    other
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
        .expect("all of it in the file");
    other.execute("UPDATE counter SET n = 0", []).expect("nothing in memory is good any more");
    // By another process: closing a descriptor of the file in this one would drop its locks.
    let damaged = std::process::Command::new("dd")
        .args(["if=/dev/urandom", "bs=4096", "count=1", "conv=notrunc", "status=none"])
        .arg(format!("seek={}", root - 1))
        .arg(format!("of={}", logs.file.display()))
        .status()
        .expect("dd");
    assert!(damaged.success());
    let poor = logs.submit(3..4).pop().expect("a ticket");
    let behind = logs.db.submit(count_me).expect("queued");
    logs.until_degraded();
    assert_eq!(kind(poor.wait()), ErrorKind::Corrupt);
    behind.wait().expect("it met no damage");
    assert_eq!(counted(&logs.db), 1);
    assert_eq!(logs.db.stats().dropped, 1, "it is missing, and counted");
}

#[test]
fn a_replaced_file_is_left_and_the_rows_go_into_the_new_one() {
    let logs = logs_with(rowhouse::Durability::Full);
    logs.submit(0..1).pop().expect("a ticket").wait().expect("a row");
    std::fs::rename(&logs.file, logs.file.with_extension("old")).expect("moved away");
    let late = logs.submit(1..2).pop().expect("a ticket");
    let answer = late.wait();
    assert_eq!(kind(answer), ErrorKind::Replaced, "found out after its commit");
    let reason = logs.until_degraded();
    assert!(reason.contains("replaced"), "{reason}");
    let tickets = logs.submit(2..20);
    for ticket in tickets {
        ticket.wait().expect("written");
    }
    logs.until_back(2..20);
}
