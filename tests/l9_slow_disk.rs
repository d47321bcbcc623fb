//! On a disk that takes seconds for an open, an fsync or a truncate nobody who submits, waits or reads is held up past
//! their deadline, and what was submitted is there later, once.

mod common;
mod faults;
mod processes;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{LONG, Place, aside, keys, kind, limits, number, soon, until};
use faults::{Effect, Operation};
use rowhouse::{Database, ErrorKind, Health, Home, Runtime, Ticket, Tx};

/// What a call in the foreground may take.
const FOREGROUND: Duration = Duration::from_millis(200);
/// How long such a call is willing to wait.
const WILLING: Duration = Duration::from_millis(10);

/// How slow the disk is.
fn delay() -> Duration {
    processes::seconds(2.0)
}

fn slow() -> Effect {
    Effect::Delay(delay())
}

thread_local! {
    static WORST: Cell<(Duration, &'static str)> = const { Cell::new((Duration::ZERO, "")) };
}

/// A call that must not be held up.
fn foreground<T>(what: &'static str, call: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let answer = call();
    let took = began.elapsed();
    // It did not wait for the disk, however busy the machine is.
    assert!(took < delay() / 2, "{what} took {took:?}");
    WORST.set(WORST.get().max((took, what)));
    answer
}

/// Runs it, and holds the slowest call in the foreground against what one may take.
fn measured(run: impl Fn()) {
    processes::once_in_three(|| {
        WORST.take();
        run();
        let (took, what) = WORST.get();
        println!("slowest in the foreground: {what}, {took:?}");
        processes::holds(took < FOREGROUND, || format!("{what} took {took:?}"))
    });
}

fn row(key: String) -> impl Fn(&Tx) -> rowhouse::Result<usize> + Send + 'static {
    move |tx| tx.execute("INSERT INTO t(k) VALUES (?1)", [&key])
}

fn submit(db: &Database, key: &str) -> Ticket<usize> {
    foreground("submit", || db.submit(row(key.to_owned()))).expect("queued")
}

fn place() -> Place {
    faults::install();
    let place = Place::new();
    // Its read connection is open.
    assert_eq!(keys(&place.db), [""; 0]);
    place
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Everything that a caller in the foreground does, while the writer is stuck.
fn use_it(place: &Place) {
    let db = &place.db;
    let mut ticket = submit(db, "later");
    assert!(foreground("wait_for", || ticket.wait_for(WILLING)).is_none());
    let late = foreground("a write with a deadline", || db.clone().within(WILLING).write(row("late".into())));
    assert_eq!(kind(late), ErrorKind::Timeout);
    foreground("read", || db.read(|at| number(at, "SELECT count(*) FROM t"))).expect("it has a connection");
    foreground("stats", || db.stats());
    foreground("health", || place.runtime.health());
    let seen = db.clone().within(WILLING).changes();
    if let Ok(seen) = seen {
        let same = foreground("wait_for_change", || db.wait_for_change(seen, WILLING));
        assert_eq!(same.expect("none"), seen);
    }
    drop(ticket);
}

/// Rows that make the log longer than its index has room for, and longer than it stays.
fn long_log(tx: &Tx) -> rowhouse::Result<()> {
    for _ in 0..6000 {
        tx.execute("INSERT INTO t(v) VALUES (zeroblob(4000))", [])?;
    }
    Ok(())
}

/// Has the writer meet a slow operation; answers what was submitted on the way.
fn lead_to(operation: Operation, place: &Place) -> (faults::Injected, Vec<Ticket<()>>) {
    let file = place.file().canonicalize().expect("the file");
    let log = beside(&file, "-wal");
    let db = &place.db;
    let small = || db.submit(|tx| row("first".into())(tx).map(drop)).expect("queued");
    match operation {
        Operation::MapShm => {
            let rule = faults::inject(&[operation], &file, slow());
            let large = foreground("submit", || db.submit(long_log)).expect("queued");
            (rule, vec![large, small()])
        }
        Operation::Truncate => {
            // A log that is worked off starts anew with the next commit, which shortens it.
            db.submit(long_log).expect("queued").wait().expect("written");
            until("a checkpoint", || db.stats().checkpoints_held > 0);
            let rule = faults::inject(&[operation], log, slow());
            (rule, vec![small()])
        }
        _ => {
            let rule = faults::inject(&[operation], log, slow());
            (rule, vec![small()])
        }
    }
}

/// A disk that is slow with one operation: callers submit and wait no longer than they want to, and each record is there
/// later, once; what was not done by its deadline never is.
///
/// Scale: 2 s in write, fsync, truncate, or the mapping of the -shm file, one after the other; `ROWHOUSE_TEST_SECONDS`
/// for more.
/// Control: on a plain pool the same insert takes as long as the disk does.
#[test]
fn l9_a_slow_disk_holds_up_nobody_in_the_foreground() {
    for operation in [Operation::Write, Operation::Sync, Operation::Truncate, Operation::MapShm] {
        measured(|| one_slow_operation(operation));
    }
    control();
}

fn one_slow_operation(operation: Operation) {
    let place = place();
    let (rule, tickets) = lead_to(operation, &place);
    until("the disk", || rule.hits() > 0);
    use_it(&place);
    let again = submit(&place.db, "again");
    drop(rule);
    again.wait().expect("written");
    for ticket in tickets {
        ticket.wait().expect("written");
    }
    assert_eq!(keys(&place.db), ["again", "first", "later"], "{operation:?}");
}

/// The same on a plain pool.
fn control() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().canonicalize().expect("the folder").join("plain.sqlite");
    let manager = r2d2_sqlite::SqliteConnectionManager::file(&file)
        .with_init(|connection| connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL"));
    let pool = r2d2::Pool::builder().max_size(4).build(manager).expect("a pool");
    pool.get().expect("a connection").execute_batch("CREATE TABLE t(k)").expect("a table");
    let _rule = faults::inject(&[Operation::Sync], beside(&file, "-wal"), slow());
    let began = Instant::now();
    pool.get().expect("a connection").execute("INSERT INTO t VALUES (1)", []).expect("a row");
    println!("control: an insert took {:?}", began.elapsed());
    assert!(began.elapsed() >= delay());
}

/// While the file takes seconds to open, a best-effort database is attached in the background, its rows wait, and a read
/// gives up at its deadline.
///
/// Scale: 2 s in each open; `ROWHOUSE_TEST_SECONDS` for more.
/// Control: the same domain, required, makes the start take that long.
#[test]
fn l9_a_slow_open_holds_up_nobody_in_the_foreground() {
    measured(slow_open);
}

fn slow_open() {
    faults::install();
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().canonicalize().expect("the folder");
    let open = |domain| Runtime::builder(Home::at(&home)).domain(domain).limits(limits()).open();
    open(common::domain()).expect("created").close(LONG);
    let file = home.join("test.sqlite");

    let rule = faults::inject(&[Operation::Open], &file, slow());
    let runtime = foreground("open", || open(common::domain().best_effort())).expect("ready");
    let db = runtime.database("test").expect("the domain");
    let mut ticket = submit(&db, "early");
    assert!(foreground("wait_for", || ticket.wait_for(WILLING)).is_none());
    let hasty = db.clone().within(WILLING);
    assert_eq!(kind(foreground("read", || hasty.read(|at| number(at, "SELECT 1")))), ErrorKind::Busy);
    assert_eq!(kind(foreground("write", || hasty.write(row("late".into())))), ErrorKind::Busy);
    assert_eq!(kind(foreground("changes", || hasty.changes())), ErrorKind::Busy);
    assert_eq!(foreground("health", || db.health()), Health::Attaching);
    drop(rule);
    ticket.wait().expect("written");

    // Attached, and no read connection is open yet.
    let rule = faults::inject(&[Operation::Open], &file, slow());
    assert_eq!(kind(foreground("read", || hasty.read(|at| number(at, "SELECT 1")))), ErrorKind::Timeout);
    assert_eq!(kind(foreground("changes", || hasty.changes())), ErrorKind::Timeout);
    let unseen = foreground("wait_for_change", || db.wait_for_change(7, WILLING)).expect("the same");
    assert_eq!(unseen, 7);
    drop(rule);
    assert_eq!(keys(&db), ["early"], "once, and nothing that was answered late");
    runtime.close(LONG);

    let _rule = faults::inject(&[Operation::Open], &file, slow());
    let began = Instant::now();
    let required = open(common::domain()).expect("ready");
    println!("control: a required domain was opened in {:?}", began.elapsed());
    assert!(began.elapsed() >= delay());
    drop(required);
}

/// A caller that leaves while its commit is on the slow disk is told that the outcome is open, and the record is there
/// once.
///
/// Scale: 2 s in fsync; `ROWHOUSE_TEST_SECONDS` for more.
/// Control: in `l9_a_slow_disk_holds_up_nobody_in_the_foreground`.
#[test]
fn l9_a_late_commit_counts_once() {
    let place = place();
    let wal = beside(&place.file().canonicalize().expect("the file"), "-wal");
    let rule = faults::inject(&[Operation::Sync], wal, slow());
    let deadline = Duration::from_millis(400);
    let ticket = place.db.clone().within(deadline).submit(row("late".into())).expect("queued");
    until("the disk", || rule.hits() > 0);
    let began = Instant::now();
    let answer = ticket.wait();
    assert!(began.elapsed() < delay() / 2, "it waited {:?}", began.elapsed());
    assert_eq!(kind(answer), ErrorKind::OutcomeUnknown);
    drop(rule);
    place.db.submit(row("next".into())).expect("queued").wait().expect("written");
    assert_eq!(keys(&place.db), ["late", "next"]);
}

/// Closing does not wait for a slow disk much longer than it was told to; what is on its way is still done, once.
///
/// Scale: 10 s in fsync.
/// Control: closing a plain connection takes as long as the disk does.
#[test]
fn l9_closing_does_not_wait_for_a_slow_disk() {
    let very_slow = Duration::from_secs(10);
    let place = place();
    let file = place.file().canonicalize().expect("the file");
    let rule = faults::inject(&[Operation::Sync], beside(&file, "-wal"), Effect::Delay(very_slow));
    let mut ticket = submit(&place.db, "on its way");
    until("the disk", || rule.hits() > 0);
    let began = Instant::now();
    let report = place.db.close(FOREGROUND);
    let took = began.elapsed();
    println!("closed in {took:?}: {report:?}");
    assert!(!report.in_time && took < very_slow / 2, "closing took {took:?}");
    drop(rule);
    ticket.wait_for(LONG).expect("it goes on").expect("written");
    assert!(place.db.close(LONG).in_time, "now it is closed");
    assert_eq!(place.db.health(), Health::Closed);
    let rows: i64 = common::raw(&file)
        .query_row("SELECT count(*) FROM t WHERE k = 'on its way'", [], |row| row.get(0))
        .expect("a count");
    assert_eq!(rows, 1);

    let plain = common::raw(&file);
    plain.execute("INSERT INTO t(k) VALUES ('plain')", []).expect("a row");
    let rule = faults::inject(&[Operation::Sync], &file, slow());
    let closed = aside(move || {
        let began = Instant::now();
        drop(plain);
        began.elapsed()
    });
    let took = soon(&closed);
    println!("control: a plain close took {took:?}, {} syncs", rule.hits());
    assert!(took >= delay());
}
