//! A whole file is read in the background, never on the way to ready; damage turns the health red before anybody needs the
//! row; and what is kept of damaged databases, and as backups, is bounded.

#![allow(clippy::disallowed_methods, reason = "a test prepares, damages and looks at files from outside")]

mod processes;

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use processes::{Child, file, folder, rounds, text};
use rowhouse::{
    BackupOptions, BackupReport, CheckState, Database, Domain, ErrorKind, Health, Home, Limits, OnDamage,
    Runtime,
};

const PAGE: u64 = 4096;
/// Longer than anything here takes.
const LONG: Duration = Duration::from_mins(5);
/// A row of the fill: no overflow page, so that all of it is in one leaf.
const FILL: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
    INSERT INTO item(job, part, body) SELECT i, 0, hex(randomblob(500)) FROM n";

/// How large the databases are, in MiB: `default`, or `ROWHOUSE_TEST_MB`.
fn mebibytes(default: u64) -> u64 {
    std::env::var("ROWHOUSE_TEST_MB").ok().map_or(default, |text| text.parse().expect("a number of MiB"))
}

/// A home whose database stays where it is when it is damaged, read as often as `every`.
fn open(home: &Path, every: Duration) -> Runtime {
    let mut limits = Limits::default();
    limits.check_every = every;
    let work = Domain::new("work").migrations(processes::SCHEMA).on_damage(OnDamage::Refuse);
    Runtime::builder(Home::at(home)).domain(work).limits(limits).open().expect("opened")
}

fn work(runtime: &Runtime) -> Database {
    runtime.database("work").expect("the domain")
}

/// Fills it with so many MiB, all of which is in the main file afterwards.
fn fill(runtime: &Runtime, mebibytes: u64) {
    let rows = (mebibytes << 20) / 900;
    for _ in 0..rows.div_ceil(4000) {
        work(runtime).write(|tx| tx.execute(FILL, [rows.min(4000).cast_signed()])).expect("filled");
    }
    work_off(runtime);
}

fn work_off(runtime: &Runtime) {
    let connection = processes::plain(work(runtime).path());
    // The database's own checkpointer, or a step of its check, may be at it.
    wait_until("a checkpoint", || {
        let done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        done.is_ok_and(|busy| busy == 0)
    });
}

/// Looks every 10 ms until it holds; answers how long that took.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let from = Instant::now();
    while !holds() {
        assert!(from.elapsed() < LONG, "{what} did not come");
        let_pass(Duration::from_millis(10));
    }
    from.elapsed()
}

/// Waits that long without doing anything.
fn let_pass(time: Duration) {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}

/// Waits for a pass that begins from now on, however slow the machine.
fn checked(database: &Database) -> CheckState {
    wait_until("a pass", || database.check_state().last.is_some());
    database.check_state()
}

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let home: &Path = arguments[1].as_ref();
    match &*arguments[0] {
        // Another process: closing a descriptor of the file drops all locks of the one that has the database open.
        "damage" => {
            let at = (arguments[2].parse::<u64>().expect("a page") - 1) * PAGE;
            let page = arguments.get(3).map_or(vec![0; 4096], |kept| std::fs::read(kept).expect("the page"));
            overwrite(&file(home), at, &page);
            processes::say("damaged");
        }
        "keep" => {
            let at = (arguments[2].parse::<u64>().expect("a page") - 1) * PAGE;
            let mut page = [0; 4096];
            let mut file = std::fs::File::open(file(home)).expect("the file");
            file.seek(SeekFrom::Start(at)).expect("there");
            file.read_exact(&mut page).expect("a page");
            std::fs::write(&arguments[3], page).expect("kept");
            processes::say("kept");
        }
        "open" => {
            let (bytes, from) = (bytes_read(), Instant::now());
            let runtime = open(home, Duration::MAX);
            work(&runtime).write(|tx| tx.execute("UPDATE counter SET n = n + 1", [])).expect("ready");
            processes::say(&format!("{} {}", from.elapsed().as_micros(), bytes_read() - bytes));
            if arguments.get(2).is_some_and(|then| then == "die") {
                processes::listen();
            }
        }
        "check first" => {
            let (bytes, from) = (bytes_read(), Instant::now());
            let connection = processes::plain(&file(home));
            let found: String =
                connection.query_row("PRAGMA quick_check", [], |row| row.get(0)).expect("a check");
            assert_eq!(found, "ok");
            processes::say(&format!("{} {}", from.elapsed().as_micros(), bytes_read() - bytes));
        }
        "look" => {
            let runtime = open(home, Duration::from_millis(10));
            let of = wait_until("somebody else", || work(&runtime).check_state().elsewhere.is_some());
            let state = work(&runtime).check_state();
            assert!(of < LONG && state.last.is_none() && state.percent.is_none(), "{state:?}");
            processes::say(&state.elsewhere.expect("somebody").pid.to_string());
        }
        other => panic!("no such role: {other}"),
    }
}

/// Bytes that this process got from read(2) and its like.
fn bytes_read() -> u64 {
    let counters = std::fs::read_to_string("/proc/self/io").expect("/proc");
    let line = counters.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.expect("rchar").trim().parse().expect("a number")
}

fn overwrite(file: &Path, at: u64, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().write(true).open(file).expect("the file");
    file.seek(SeekFrom::Start(at)).expect("there");
    file.write_all(bytes).expect("damaged");
}

/// The leaves of the table, in its order.
fn leaves(home: &Path) -> Vec<i64> {
    const LEAVES: &str = "SELECT pageno FROM dbstat WHERE name = 'item' AND pagetype = 'leaf' ORDER BY path";
    let connection = processes::plain(&file(home));
    let mut leaves = connection.prepare(LEAVES).expect("dbstat");
    let leaves: Result<Vec<i64>, _> = leaves.query_map([], |row| row.get(0)).expect("leaves").collect();
    leaves.expect("leaves")
}

/// Has a child do something with a page; a descriptor of the file that is closed here would drop our locks.
fn with_page(doing: &str, home: &Path, page: i64, kept: Option<&Path>) {
    let page = page.to_string();
    let arguments: Vec<&str> = [text(home), &page].into_iter().chain(kept.map(text)).collect();
    Child::start(doing, &arguments).finish();
}

/// A child's report: microseconds and bytes.
fn report(child: &Child) -> (Duration, u64) {
    let line = child.wait_for("");
    let mut numbers = line.split(' ').map(|number| number.parse().expect("a number"));
    (Duration::from_micros(numbers.next().expect("a time")), numbers.next().expect("bytes"))
}

/// Ready does not depend on the size: opening reads the header, the schema and the log, however the last program ended. The
/// file is read afterwards, in the background, and the result is there to be asked for.
///
/// Scale: 12 MiB (`ROWHOUSE_TEST_MB` for more).
/// Control: the check before ready, as others do it, reads every page: more bytes than the file has, against less than a
/// mebibyte beside the log.
#[test]
fn s8_a_large_file_does_not_delay_the_start() {
    let home = folder();
    fill(&open(home.path(), Duration::MAX), mebibytes(12));
    let size = std::fs::metadata(file(home.path())).expect("the file").len();
    assert!(size > mebibytes(12) << 20);

    let mut killed = Child::start("open", &[text(home.path()), "die"]);
    let (after_clean_end, read) = report(&killed);
    println!("after a clean end: {after_clean_end:?}, {read} bytes");
    assert!(read < 1 << 20 && after_clean_end < Duration::from_secs(1), "{after_clean_end:?}, {read}");
    killed.kill();
    let log = std::fs::metadata(file(home.path()).with_extension("sqlite-wal")).expect("the log").len();
    assert!(log > 0, "it was killed with something in the log");
    let again = Child::start("open", &[text(home.path())]);
    let (after_kill, read) = report(&again);
    println!("after kill -9: {after_kill:?}, {read} bytes, log {log} bytes");
    assert!(read < (1 << 20) + 2 * log && after_kill < Duration::from_secs(1), "{after_kill:?}, {read}");
    again.finish();

    let control = Child::start("check first", &[text(home.path())]);
    let (check, read) = report(&control);
    println!("the control: {check:?}, {read} bytes");
    assert!(read > size, "{read}");
    control.finish();

    let runtime = open(home.path(), Duration::from_millis(10));
    let state = checked(&work(&runtime));
    println!("{state:?}");
    let last = state.last.expect("a pass");
    assert!(last.is_ok() && last.pages * PAGE == size && last.skipped == 0, "{last:?}");
    assert_eq!(state.percent, None);
}

/// What nobody writes to is not read again, nothing is written for it, and of several processes one does it; when that
/// one has ended another takes over.
#[test]
fn an_idle_database_is_read_once_by_one_process() {
    let home = folder();
    let runtime = open(home.path(), Duration::from_millis(10));
    fill(&runtime, 1);
    let first = wait_until("the pass after the last commit", || {
        let before = work(&runtime).check_state().last;
        let_pass(Duration::from_millis(1500));
        before.is_some()
            && before == work(&runtime).check_state().last
            && work(&runtime).check_state().percent.is_none()
    });
    assert!(first < LONG);
    let other = Child::start("look", &[text(home.path())]);
    assert_eq!(other.wait_for(""), std::process::id().to_string());
    other.finish();
    let before = work(&runtime).check_state().last.expect("a pass");
    work(&runtime).write(|tx| tx.execute("UPDATE counter SET n = n + 1", [])).expect("a commit");
    wait_until("another pass", || work(&runtime).check_state().last.is_some_and(|last| last != before));
    drop(runtime);
    checked(&work(&open(home.path(), Duration::from_millis(10))));
}

/// A page that somebody zeroes under a live process turns the health red within the time of a pass; from then on every
/// write is refused, and names the damage.
///
/// Scale: 8 MiB, read a second after it changed (`ROWHOUSE_TEST_MB` for more, then with the default of 15 s).
/// Control: a plain connection notices nothing: it counts all rows through the index, and writes on.
#[test]
fn c6_a_zeroed_page_turns_the_health_red_and_stops_the_writes() {
    let home = folder();
    let every =
        std::env::var("ROWHOUSE_TEST_MB").map_or(Duration::from_secs(1), |_| Limits::default().check_every);
    let runtime = open(home.path(), every);
    fill(&runtime, mebibytes(8));
    let database = work(&runtime);
    let plain = processes::plain(&file(home.path()));
    let count = "SELECT count(*) FROM item INDEXED BY item_by_job WHERE job > 0";
    let rows: i64 = plain.query_row(count, [], |row| row.get(0)).expect("a count");

    let leaves = leaves(home.path());
    with_page("damage", home.path(), leaves[leaves.len() / 2], None);
    let noticed = wait_until("red", || database.health() != Health::Ready);
    println!("noticed after {noticed:?}: {:?}", database.check_state());
    assert!(noticed < Duration::from_mins(1), "{noticed:?}");
    let refused = || database.write(|tx| tx.execute("UPDATE counter SET n = n + 1", []));
    wait_until("the verdict", || {
        database.health() == Health::Latched
            && refused().is_err_and(|error| !error.to_string().contains("looked into"))
    });
    let error = refused().expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let last = database.check_state().last.expect("a pass");
    assert!(last.damage.as_ref().is_some_and(|damage| damage.contains("item")), "{last:?}");

    // For the control: what the engine refuses, a plain connection does.
    let by_index: i64 = plain.query_row(count, [], |row| row.get(0)).expect("a count");
    assert_eq!(by_index, rows, "the control notices nothing");
    assert_eq!(plain.execute("UPDATE counter SET n = n + 1", []).expect("the control writes on"), 1);
}

/// A page that never reached the disk, so that its old version is back and the table lacks rows which its index has, is found
/// by comparing them.
///
/// Scale: 1 MiB, two rows.
/// Control: a plain connection counts all rows through the index, and reads the whole table without an error: who does
/// only one of the two notices nothing.
#[test]
fn c6_rows_that_only_an_index_has_are_noticed() {
    let home = folder();
    let runtime = open(home.path(), Duration::from_millis(200));
    fill(&runtime, 1);
    let database = work(&runtime);
    let two_rows = || {
        let insert = "INSERT INTO item(job, part) VALUES (100000, 1), (100000, 2)";
        database.write(|tx| tx.execute(insert, [])).expect("two rows");
        work_off(&runtime);
        *leaves(home.path()).last().expect("a leaf")
    };
    // The first two may have been the first on their page.
    two_rows();
    let last = two_rows();
    let kept = home.path().join("page");
    with_page("keep", home.path(), last, Some(&kept));
    assert_eq!(two_rows(), last, "they had room on the same page");
    let whole = database.check_state();
    assert!(database.health() == Health::Ready && whole.last.is_none_or(|last| last.is_ok()));
    with_page("damage", home.path(), last, Some(&kept));
    let noticed = wait_until("red", || database.health() == Health::Latched);
    println!("noticed after {noticed:?}: {:?}", database.check_state());
    let error = database.write(|tx| tx.execute("UPDATE counter SET n = n + 1", [])).expect_err("damaged");
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("item_by_job"), "{error}");

    let plain = processes::plain(&file(home.path()));
    let one = |sql: &str| {
        plain.query_row(sql, [], |row| row.get::<_, rowhouse::rusqlite::types::Value>(0)).expect(sql)
    };
    assert_ne!(
        one("SELECT count(*) FROM item INDEXED BY item_by_job WHERE job > 0"),
        one("SELECT count(*) FROM item NOT INDEXED")
    );
}

/// Domains of which one is needed and the other is not.
fn two(home: &Path, sets: usize) -> rowhouse::Builder {
    let mut limits = Limits::default();
    limits.quarantine_sets = sets;
    let domain = |name| Domain::new(name).migrations(processes::SCHEMA);
    let builder = Runtime::builder(Home::at(home)).limits(limits);
    builder.domain(domain("work")).domain(domain("logs").best_effort())
}

fn opened(home: &Path, sets: usize) -> Runtime {
    let runtime = two(home, sets).open().expect("opened");
    let logs = runtime.database("logs").expect("the domain");
    wait_until("the logs", || logs.health() == Health::Ready);
    runtime
}

/// The logs are damaged across many backups: the last copy in which they are good stays, however many newer ones there are,
/// and the others go.
///
/// Scale: 2 good backups and 5 after the damage, 2 kept.
/// Control: the newest two, which is what a rotation by number keeps, hold no logs at all.
#[test]
fn c6_the_last_good_copy_is_never_rotated_away() {
    let home = folder();
    let runtime = opened(home.path(), 3);
    let logs = runtime.database("logs").expect("the domain");
    logs.write(|tx| tx.execute(FILL, [2000])).expect("filled");
    drop((logs, runtime));
    let backup = || -> BackupReport {
        let options = BackupOptions::default().keep(2);
        two(home.path(), 3).backup(&options, &mut |_| {}).expect("the needed one is good")
    };
    let good = [backup(), backup()];
    let leaf = PAGE * 40;
    overwrite(&home.path().join("logs.sqlite"), leaf, &[0; 4096]);
    let after: Vec<_> = (0..5).map(|_| backup()).collect();
    let left: BTreeSet<PathBuf> = std::fs::read_dir(home.path().join("backups"))
        .expect("a list")
        .map(|entry| entry.expect("one").path().canonicalize().expect("there"))
        .collect();
    let expected: BTreeSet<_> = [&good[1], &after[3], &after[4]].map(|report| report.folder.clone()).into();
    assert_eq!(left, expected);
    assert!(
        after[2].removed == [after[0].folder.clone()] && after[0].removed == [good[0].folder.clone()],
        "{after:?}"
    );
    for newest in &after[3..] {
        let names: Vec<_> = newest.manifest.databases.iter().map(|database| &*database.name).collect();
        assert_eq!(names, ["work"], "the control: nothing of the logs");
    }
    let refused = two(home.path(), 3).backup(&BackupOptions::to(home.path().join("x")).keep(2), &mut |_| {});
    assert_eq!(refused.expect_err("not counted there").kind(), ErrorKind::Invalid);
}

/// However often a database is damaged, at most three copies of it are kept, in at most twice its size; the first of them,
/// which tells how it began, and the newest stay.
///
/// Scale: 12 times (`ROWHOUSE_TEST_ROUNDS` for more).
/// Control: what was set aside, all together, is what would be there without the bound: a copy for each time.
#[test]
fn c5_damage_in_a_loop_does_not_fill_the_disk() {
    let home = folder();
    let logs = home.path().join("logs.sqlite");
    let quarantine = home.path().join("quarantine");
    let (mut largest, mut without_bound, mut seen) = (0, 0, Vec::new());
    let rounds = rounds(12);
    for round in 0..rounds {
        let runtime = opened(home.path(), 3);
        let rows = if round == 0 { 1500 } else { 1000 };
        let database = runtime.database("logs").expect("the domain");
        database.write(|tx| tx.execute(FILL, [rows])).expect("the new one works");
        drop((database, runtime));
        largest = largest.max(std::fs::metadata(&logs).expect("the file").len());
        without_bound += std::fs::metadata(&logs).expect("the file").len();
        overwrite(&logs, 0, format!("round {round}, and nothing of a header").as_bytes());
        drop(opened(home.path(), 3));
        let sets = sets(&quarantine);
        assert!(sets.len() <= 3, "{sets:?}");
        let bytes: u64 = sets.iter().map(|set| bytes_in(set)).sum();
        assert!(bytes <= 2 * largest + (1 << 18), "{bytes}, the largest is {largest}");
        let beginnings: Vec<_> = sets.iter().map(|set| beginning(&set.join("logs.sqlite"))).collect();
        assert!(beginnings.contains(&"round 0,".to_owned()), "{beginnings:?}");
        assert!(beginnings.contains(&format!("round {round},")), "{beginnings:?}");
        seen.extend(beginnings);
    }
    let all: BTreeSet<_> = seen.into_iter().collect();
    println!("{} sets, {without_bound} bytes were set aside; the largest had {largest}", all.len());
    assert_eq!(all.len() as u64, rounds, "the control: each was set aside once");
    assert!(without_bound > 4 * largest, "the control: {without_bound}, the largest has {largest}");
}

fn sets(quarantine: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(quarantine).expect("a list").map(|entry| entry.expect("one").path()).collect()
}

fn bytes_in(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).expect("a list").map(|file| file.expect("one"));
    files.map(|file| file.metadata().expect("its size").len()).sum()
}

/// Up to the comma.
fn beginning(file: &Path) -> String {
    let mut bytes = [0; 20];
    std::fs::File::open(file).expect("the file").read_exact(&mut bytes).expect("long enough");
    String::from_utf8_lossy(&bytes).split_inclusive(',').next().unwrap_or_default().to_owned()
}
