//! The doctor beside programs that write, over large files, and in the homes of other programs: it is quick, in nobody's
//! way, and leaves everything as it was.

#![cfg(all(target_os = "linux", feature = "agent"))]
#![allow(clippy::disallowed_methods, reason = "a test prepares files from outside")]

mod common;
mod examined;
mod fuse;
mod processes;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use common::LONG;
use examined::{examine, notable, options, row};
use processes::Child;
use rowhouse::doctor::{self, Options, Status};
use rowhouse::rusqlite::Connection;
use rowhouse::{Domain, Folder, Home, Runtime};

/// What the scenario allows for a look, and for a lock.
const QUICK: Duration = Duration::from_secs(2);
/// The log of this scenario: five times what is worked off by itself.
const LONG_LOG: u64 = 21 << 20;

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match &arguments[..] {
        // Writes to the logs until it is told to stop; says how long the longest write took.
        [role, home] if role == "write" => write(home),
        [role, file] if role == "hold" => processes::hold(file.as_ref()),
        // A read that stays open.
        [role, file] if role == "read" => {
            let connection = processes::plain(file.as_ref());
            connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema").expect("a snapshot");
            processes::say("ready");
            processes::listen();
        }
        // What `rowhouse top` does, ten times a second.
        [role, home] if role == "look" => {
            let registry = rowhouse::RuntimeDbRegistry::new(&Home::at(home));
            processes::say("ready");
            let stop = common::aside(processes::listen);
            while stop.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
                registry.stats().expect("told");
                registry.processes().expect("told");
                registry.holder("goals").expect("told");
            }
        }
        // The same in a program of this library.
        [role, home] if role == "long read" => {
            let runtime = Runtime::builder(Home::at(home)).domain(Domain::goals()).open().expect("it opens");
            let goals = runtime.database("goals").expect("it").within(LONG);
            let read = goals.read(|at| {
                at.rows("SELECT name FROM sqlite_schema", [], |row| row.get::<_, String>(0))?;
                processes::say("ready");
                processes::listen();
                Ok(())
            });
            read.expect("a read");
            runtime.close(LONG);
        }
        [role, file] if role == "leave" => {
            let connection = processes::plain(file.as_ref());
            connection
                .execute_batch(
                    "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;
                     CREATE TABLE t(a); INSERT INTO t VALUES ('in the log')",
                )
                .expect("a log");
            processes::say("ready");
            processes::listen();
        }
        [role, home] if role == "examine" => {
            let report = examine(home.as_ref());
            processes::say(&format!("notable {}", notable(&report).join(" ")));
        }
        _ => panic!("a role and a place: {arguments:?}"),
    }
}

fn write(home: &str) {
    let all = domains().into_iter().fold(Runtime::builder(Home::at(home)), rowhouse::Builder::domain);
    let runtime = all.open().expect("the home opens");
    let logs = runtime.database("logs").expect("it").within(LONG);
    common::until("the logs", || {
        logs.write(|tx| tx.execute("CREATE TABLE IF NOT EXISTS note(a)", [])).is_ok()
    });
    processes::say("ready");
    let stop = common::aside(processes::listen);
    let (mut longest, mut rows) = (Duration::ZERO, 0);
    while stop.try_recv().is_err() {
        let began = Instant::now();
        let answer = logs.write(|tx| tx.execute("INSERT INTO note VALUES (zeroblob(100))", []));
        longest = longest.max(began.elapsed());
        answer.expect("a row");
        rows += 1;
    }
    processes::say(&format!("longest {} rows {rows}", longest.as_micros()));
    runtime.close(LONG);
}

/// Every file below a folder: which one it is, how long, and what is in the small ones that nobody writes beside us.
fn files(folder: &Path) -> BTreeMap<PathBuf, (u64, u64)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a list").flatten() {
            let about = entry.metadata().expect("it");
            if about.is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.path(), (about.ino(), about.len()));
            }
        }
    }
    found
}

fn settled() -> tempfile::TempDir {
    let folder = processes::folder();
    let runtime = Runtime::open(Home::at(folder.path())).expect("created");
    for name in processes::BUILT_IN {
        let database = runtime.database(name).expect("it").within(LONG);
        common::until("an attached database", || database.write(|_| Ok(())).is_ok());
        database.wait_for_steps(LONG).expect("no steps are left");
    }
    runtime.close(LONG);
    folder
}

/// Makes the log of the goals this long.
fn fill_log(writer: &Connection) {
    writer
        .execute_batch(
            "PRAGMA wal_autocheckpoint = 0; CREATE TABLE IF NOT EXISTS blob(a);
             BEGIN; DELETE FROM blob; INSERT INTO blob VALUES (zeroblob(22500000)); COMMIT",
        )
        .expect("a long log");
}

/// A log of 21 MB that is worked off and only kept its length is healthy; the same log with a snapshot that keeps it is
/// starved, by the process that has the snapshot, named with its id and since when it runs.
///
/// Scale: a log of 21 MB, beside one writer and one reader.
/// Control: the size of the file, by which others judge, is the same in both.
#[test]
fn w5_a_long_log_is_starved_only_when_somebody_keeps_it() {
    let folder = settled();
    let file = folder.path().join("goals.sqlite");
    let writer = processes::plain(&file);
    fill_log(&writer);
    let checkpoint = || -> (i64, i64) {
        let row =
            writer.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(1)?, row.get(2)?)));
        row.expect("a checkpoint")
    };
    let (log, done) = checkpoint();
    assert_eq!(log, done, "all of it is worked off");
    let bytes = || fs::metadata(folder.path().join("goals.sqlite-wal")).expect("the log").len();
    let healthy_bytes = bytes();
    assert!(healthy_bytes > LONG_LOG, "{healthy_bytes}");
    let report = examine(folder.path());
    let healthy = row(&report, "goals.log");
    assert!(healthy.status == Status::Ok && healthy.summary.starts_with("healthy"), "{healthy:#?}");
    assert!(notable(&report).iter().all(|id| !id.starts_with("goals.log")), "{:#?}", report.notable());

    let reader = Child::start("read", &[processes::text(&file)]);
    reader.wait_for("ready");
    fill_log(&writer);
    let (log, done) = checkpoint();
    assert!(done < log, "{done} of {log}");
    let report = examine(folder.path());
    let starved = row(&report, "goals.log");
    assert_eq!(notable(&report), ["goals.log"], "{:#?}", report.notable());
    assert!(starved.status == Status::Warning && starved.summary.contains("starved"), "{starved:#?}");
    assert!(starved.summary.contains(&format!("pid {}", reader.pid())), "{}", starved.summary);
    assert!(starved.summary.contains("started 20"), "since when: {}", starved.summary);
    assert!(bytes() >= healthy_bytes, "the control");
    println!("healthy: {}\nstarved: {}", healthy.summary, starved.summary);
    reader.finish();
    let (log, done) = checkpoint();
    assert_eq!((log, row(&examine(folder.path()), "goals.log").status), (done, Status::Ok));
}

/// What a program of this library knows of its own reads and checkpoints stands in the row of the log: how long its oldest
/// read lasts, and how many rounds came to nothing.
#[test]
fn a_kept_log_comes_with_the_age_of_the_read_that_keeps_it() {
    let folder = settled();
    let writer = processes::plain(&folder.path().join("goals.sqlite"));
    fill_log(&writer);
    let mut reader = Child::start("long read", &[processes::text(folder.path())]);
    reader.wait_for("ready");
    fill_log(&writer);
    common::until("the age of the read", || {
        let report = examined::examine_only(folder.path(), &["goals.log"]);
        let log = row(&report, "goals.log");
        let named = format!("(pid {}): its oldest read lasts ", reader.pid());
        log.status == Status::Warning
            && log.summary.contains("starved")
            && examined::number(log, "oldest_reader_ms") > 0
            && log.evidence.iter().any(|told| told.contains(&named))
            && examined::number(log, "checkpoint_busy_streak") > 0
    });
    reader.tell("go");
    reader.finish();
    let log = examined::examine_only(folder.path(), &["goals.log"]);
    assert_eq!(examined::detail(row(&log, "goals.log"), "oldest_reader_ms"), None, "nobody is there to say");
}

/// What a process publishes is read without it: beside somebody who looks ten times a second it writes as fast as alone,
/// by far not half as fast. Both are measured by turns; who looks is stopped meanwhile.
#[test]
fn who_looks_on_costs_a_writer_nothing() {
    let folder = settled();
    let runtime = Runtime::builder(Home::at(folder.path())).domain(Domain::goals()).open().expect("it opens");
    let goals = runtime.database("goals").expect("it").within(LONG);
    goals.write(|tx| tx.execute("CREATE TABLE note(a)", [])).expect("a table");
    let writes = || {
        let until = Instant::now() + Duration::from_millis(150);
        let mut count = 0_u32;
        while Instant::now() < until {
            goals.write(|tx| tx.execute("INSERT INTO note VALUES (1)", [])).expect("a row");
            count += 1;
        }
        count
    };
    let looker = Child::start("look", &[processes::text(folder.path())]);
    looker.wait_for("ready");
    processes::once_in_three(|| {
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..7 {
            looker.stop();
            alone.push(writes());
            looker.go_on();
            beside.push(writes());
        }
        alone.sort_unstable();
        beside.sort_unstable();
        let (alone, beside) = (alone[3], beside[3]);
        println!("writes in 150 ms, the median of seven: alone {alone}, looked at {beside}");
        processes::holds(beside * 2 > alone, || format!("alone {alone}, looked at {beside}"))
    });
    looker.finish();
    runtime.close(LONG);
}

/// Free space inside a file is a finding until it went back; a program that has it open says how much did.
#[test]
fn free_space_is_told_until_it_went_back() {
    let folder = settled();
    let goals = folder.path().join("goals.sqlite");
    processes::plain(&goals)
        .execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(20000000)); DROP TABLE t")
        .expect("free pages");
    let pages = || {
        let report = examined::examine_only(folder.path(), &["goals.pages"]);
        row(&report, "goals.pages").clone()
    };
    let before = pages();
    assert_eq!((before.status, examined::number(&before, "free_percent") > 50), (Status::Warning, true));
    assert_eq!(examined::detail(&before, "given_back_bytes"), None, "{before:#?}");
    let runtime = Runtime::builder(Home::at(folder.path())).domain(Domain::goals()).open().expect("it opens");
    let goals = runtime.database("goals").expect("it").within(LONG);
    common::until("the free space goes back", || {
        goals.write(|tx| tx.execute("CREATE TABLE IF NOT EXISTS t(a)", [])).expect("a write");
        let after = pages();
        after.status == Status::Ok && examined::number(&after, "given_back_bytes") > 8 << 20
    });
    runtime.close(LONG);
}

/// A mount whose server is gone is what the doctor says, in one row and in time, of a home and of any folder.
///
/// The control is that nobody else comes back: a plain look at the same folder is still under way at the end.
#[test]
fn a_dead_mount_is_one_finding_in_time() {
    if !fuse::available("a_dead_mount_is_one_finding_in_time") {
        return;
    }
    let folder = processes::folder();
    let place = folder.path().to_owned();
    let mut options = Options::default();
    options.deadline = Some(Duration::from_millis(500));
    // The mounts are of this thread and of those that it starts.
    let told = common::aside(move || {
        fuse::own_mounts();
        fuse::mount_dead(&place, "fuse.sshfs");
        let plain = place.clone();
        let plain = common::aside(move || fs::read_dir(plain).map(drop));
        let began = Instant::now();
        let any = doctor::run_dir(&place, &options, &mut |_| {}).expect("a report");
        let home = doctor::run(&Home::at(place.join("home")), &options).expect("a report");
        let found = doctor::find_dir(&place, Duration::from_millis(500)).expect_err("a dead mount");
        assert_eq!(found.kind(), rowhouse::ErrorKind::Timeout, "{found}");
        (any, home, began.elapsed(), plain.try_recv().is_ok())
    });
    let (any, home, took, plain_came_back) = common::soon(&told);
    println!("three looks at a dead mount took {took:?}");
    examined::names_only("any folder", &any, "disk.file_system", Status::Fail);
    let summary = &row(&any, "disk.file_system").summary;
    assert!(summary.starts_with("the folder does not answer") && summary.contains("fuse.sshfs"), "{summary}");
    examined::names_only("a home", &home, "home.folder", Status::Fail);
    assert!(!plain_came_back, "the control");
}

/// What the logs may take here: no bound is in the way of the size that is wanted.
fn domains() -> Vec<Domain> {
    vec![Domain::device_keys(), Domain::goals(), Domain::logs().max_bytes(1 << 40), Domain::state()]
}

/// How long five looks at a home took beside two writers, and of each the check of the logs' pages. Its files stay the ones
/// that they were, and nothing is notable.
fn looks_beside_writers(home: &Path) -> (Vec<Duration>, Vec<Duration>) {
    let writers = ["write", "write"].map(|role| Child::start(role, &[processes::text(home)]));
    for writer in &writers {
        writer.wait_for("ready");
    }
    let before = files(home);
    let mut options = Options::default();
    options.domains = domains();
    let (mut looks, mut of_the_check) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let began = Instant::now();
        let report = doctor::run(&Home::at(home), &options).expect("a report");
        looks.push(began.elapsed());
        of_the_check.push(Duration::from_millis(row(&report, "logs.integrity").duration_ms));
        // A check that the machine did not let end in time says nothing about the home.
        let told: Vec<_> =
            report.notable().into_iter().filter(|row| !row.summary.contains("did not end")).collect();
        assert!(told.is_empty(), "{told:#?}");
    }
    let after = files(home);
    for (path, (inode, _)) in before.iter().filter(|(path, _)| !path.starts_with(home.join("run"))) {
        let now = after.get(path).map(|(inode, _)| inode);
        assert_eq!(now, Some(inode), "{} is the file that it was", path.display());
    }
    for path in after.keys().filter(|path| !before.contains_key(*path)) {
        let is_the_writers = path.starts_with(home.join("locks")) || path.starts_with(home.join("run"));
        assert!(is_the_writers, "{} is new", path.display());
    }
    for mut writer in writers {
        writer.tell("stop");
        let told = writer.wait_for("longest");
        println!("a writer beside the doctor: longest write in µs {told}");
        let longest: u64 = told.split(' ').next().expect("a number").parse().expect("a number");
        assert!(Duration::from_micros(longest) < QUICK, "{told}");
        writer.finish();
    }
    looks.sort_unstable();
    of_the_check.sort_unstable();
    (looks, of_the_check)
}

/// A quick look at a home whose logs take gigabytes, while programs write them, takes less than two seconds, leaves every
/// file the one that it was, and holds no lock that anybody notices: no writer waits as long as one look may take. It takes
/// no more than ten times as long as at a small home.
///
/// Scale: logs of 100 MB, 2 writers, 5 looks; `scripts/doctor_at_size.sh` for 5 GB (`ROWHOUSE_TEST_LOGS_BYTES`), at which the
/// slowest look took 0.2 s and SQLite's own check 63 s.
/// Control: SQLite's own check of the whole file, the way that others look, takes longer than this check of the doctor's.
#[test]
fn o2_a_quick_look_at_large_logs_beside_writers() {
    let bytes =
        std::env::var("ROWHOUSE_TEST_LOGS_BYTES").map_or(100 << 20, |text| text.parse().expect("bytes"));
    let (small, large) = (settled(), settled());
    let home = |folder: &tempfile::TempDir| folder.path().canonicalize().expect("the folder");
    let file = home(&large).join("logs.sqlite");
    fill(&file, bytes);
    let of_the_check = RefCell::new(Vec::new());
    processes::once_in_three(|| {
        let (of_small, _) = looks_beside_writers(&home(&small));
        let (of_large, check) = looks_beside_writers(&home(&large));
        of_the_check.replace(check);
        let size = fs::metadata(&file).expect("the logs").len();
        println!("logs of {} MB: the doctor took {of_large:?}; at a small home {of_small:?}", size >> 20);
        processes::holds(of_large[4] < QUICK, || format!("{of_large:?}"))?;
        processes::holds(of_large[2] < 10 * of_small[2], || format!("{of_large:?} {of_small:?}"))
    });
    let median = of_the_check.borrow()[2];
    processes::once_in_three(|| {
        let began = Instant::now();
        let whole = processes::integrity(&file);
        let took = began.elapsed();
        println!("this check of the doctor's {median:?}, SQLite's of the whole file {took:?}: {whole:.40}");
        processes::holds(took > median, || format!("{took:?} {median:?}"))
    });
}

/// So many bytes of rows as programs write them, by one connection that waits for no disk.
fn fill(file: &Path, bytes: i64) {
    let connection = processes::plain(file);
    connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").expect("in bulk");
    let pages =
        || -> i64 { connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("a number") };
    let mut first = 0;
    while pages() * 4096 < bytes {
        connection.execute(ROWS, [first]).expect("rows");
        first += 100_000;
    }
    connection.execute_batch("PRAGMA journal_mode = WAL").expect("as it was");
    drop(connection);
    // Else the first checkpoint waits for all of it.
    fs::File::options().write(true).open(file).and_then(|file| file.sync_all()).expect("on the disk");
}

/// 100,000 rows of the log, every eighth of them of a thread.
const ROWS: &str = "WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 + 99999)
    INSERT INTO log(ts, level, target, message, thread_id, process_id, bytes)
    SELECT 1767225600000000000 + i * 1000000, 1 + i % 5, 'app::part_' || i % 20,
        printf('request %d of session %d was answered after %d ms: ', i, i / 50, i % 977) || substr(hex(i * i), 1, 24)
            || replace(hex(zeroblob(150)), '00', 'ab'),
        CASE WHEN i % 8 = 0 THEN printf('019cadf1-7a5e-7b04-8f21-%012x', i / 4000) END, 'process-' || i / 100000, 400
    FROM n";

/// The locks of a log's index, by byte (<https://sqlite.org/walformat.html>, 2.3.1): that to write, to work it off, to
/// recover it, and those of snapshots.
const INDEX_LOCKS: [(&str, std::ops::RangeInclusive<u64>); 4] =
    [("write", 120..=120), ("checkpoint", 121..=121), ("recovery", 122..=122), ("snapshot", 123..=127)];

/// The locks that a process has on the indexes of these databases, by database and kind.
fn index_locks(pid: u32, databases: &[(String, u64)]) -> BTreeSet<(String, &'static str)> {
    let table = fs::read_to_string("/proc/locks").expect("/proc");
    let mut found = BTreeSet::new();
    for line in table.lines() {
        // 5: POSIX  ADVISORY  READ 3215 fe:00:12345 123 127
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let [_, "POSIX", _, _, holder, file, first, last] = words[..] else { continue };
        let inode = file.rsplit(':').next().and_then(|inode| inode.parse().ok()).unwrap_or(0_u64);
        let (Ok(first), last) = (first.parse::<u64>(), last.parse().unwrap_or(u64::MAX)) else { continue };
        let Some((name, _)) = databases.iter().find(|(_, known)| *known == inode) else { continue };
        if holder.parse() == Ok(pid) {
            let kinds =
                INDEX_LOCKS.iter().filter(|(_, bytes)| first <= *bytes.end() && last >= *bytes.start());
            found.extend(kinds.map(|(kind, _)| (name.clone(), *kind)));
        }
    }
    found
}

/// For how long each kind of lock was seen at every look, one after the other, until `ended`.
fn longest_seen(
    pid: u32,
    databases: &[(String, u64)],
    mut ended: impl FnMut() -> bool,
) -> (u64, BTreeMap<&'static str, Duration>) {
    let (mut looks, mut since) = (0, BTreeMap::<(String, &'static str), Instant>::new());
    let mut longest = BTreeMap::new();
    while !ended() {
        looks += 1;
        let began = Instant::now();
        let seen = index_locks(pid, databases);
        // What was not seen once was given back, and may be another one later.
        since.retain(|lock, _| seen.contains(lock));
        for lock in seen {
            let kind = lock.1;
            // From the end of the first look to the beginning of this one it was there for sure.
            let first = *since.entry(lock).or_insert_with(Instant::now);
            let longest = longest.entry(kind).or_insert(Duration::ZERO);
            *longest = (*longest).max(began.saturating_duration_since(first));
        }
    }
    (looks, longest)
}

/// While the doctor looks, the table of locks, read as fast as it goes, never shows one of its locks to write, to
/// checkpoint or to recover for longer than ten times what it allows itself.
///
/// Scale: three quick looks beside a writer, one of which may be disturbed by the machine.
/// Control: a process that keeps the write lock while the table is read is seen with it for longer than that.
#[test]
fn no_lock_of_a_quick_look_lasts() {
    const MOST: Duration = Duration::from_millis(100);
    let folder = settled();
    let home = folder.path().canonicalize().expect("the folder");
    let writer = Child::start("write", &[processes::text(&home)]);
    writer.wait_for("ready");
    let databases = processes::BUILT_IN.map(|name| {
        let found = fs::metadata(home.join(format!("{name}.sqlite-shm"))).expect("an index");
        (name.to_owned(), found.ino())
    });
    let pid_of = |child: &Child| u32::try_from(child.pid()).expect("an id");
    processes::once_in_three(|| {
        let child = Child::start("examine", &[processes::text(&home)]);
        let pid = pid_of(&child);
        let ended = common::aside(move || child.wait_for("notable"));
        let (looks, longest) = longest_seen(pid, &databases, || ended.try_recv().is_ok());
        println!("{looks} looks saw the doctor's locks at most so long: {longest:?}");
        processes::holds(looks > 20, || format!("{looks} looks"))?;
        let lasting = longest.iter().find(|(kind, lasted)| **kind != "snapshot" && **lasted > MOST);
        processes::holds(lasting.is_none(), || format!("{longest:?}"))
    });
    let holder = Child::start("hold", &[processes::text(&home.join("goals.sqlite"))]);
    holder.wait_for("holding");
    // The kernel writes the table page by page, and may skip an entry while others come and go.
    common::until("the control's lock", || {
        let until = Instant::now() + 3 * MOST;
        let (looks, longest) = longest_seen(pid_of(&holder), &databases, || Instant::now() >= until);
        println!("the control: {looks} looks, {longest:?}");
        longest.get("write").is_some_and(|lasted| *lasted > MOST)
    });
    holder.finish();
    writer.finish();
}

#[test]
fn a_home_is_left_as_it_was_file_by_file_and_byte_by_byte() {
    let folder = settled();
    let home = folder.path();
    let content = || {
        let all = files(home).into_iter().filter(|(path, _)| !path.to_string_lossy().ends_with("-shm"));
        all.map(|(path, about)| (fs::read(&path).expect("it"), path, about)).collect::<Vec<_>>()
    };
    let before = content();
    let names = files(home).into_keys().collect::<Vec<_>>();
    let mut deep = options();
    for is_deep in [false, true] {
        deep.deep = is_deep;
        let report = doctor::run(&Home::at(home), &deep).expect("a report");
        assert!(notable(&report).is_empty(), "{:#?}", report.notable());
    }
    assert!(content() == before);
    assert_eq!(files(home).into_keys().collect::<Vec<_>>(), names);
}

/// A folder like another agent program's home: databases of its own names, one of them with a log that a killed process left
/// without its index, one held by somebody, one damaged.
#[test]
fn another_programs_home_is_examined_and_left_alone() {
    let folder = processes::folder();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("sqlite")).expect("a folder");
    for name in ["state_5.sqlite", "sqlite/goals_1.sqlite", "logs_2.sqlite"] {
        let made = processes::plain(&at(name));
        made.execute_batch("CREATE TABLE thread(a); INSERT INTO thread VALUES ('x')").expect("made");
    }
    let mut killed = Child::start("leave", &[processes::text(&at("left.sqlite"))]);
    killed.wait_for("ready");
    killed.kill();
    fs::remove_file(at("left.sqlite-shm")).expect("its index");
    let mut damaged = fs::read(at("logs_2.sqlite")).expect("it");
    damaged[4096..].fill(0xA5);
    fs::write(at("logs_2.sqlite"), damaged).expect("damaged");
    let holder = processes::plain(&at("sqlite/goals_1.sqlite"));
    holder.execute_batch("BEGIN IMMEDIATE").expect("held");

    let before = files(folder.path());
    let found = Folder::find(folder.path()).expect("a folder");
    let report = doctor::run_folder(found.clone(), &options(), &mut |_| {}).expect("a report");
    assert_eq!(
        notable(&report).into_iter().collect::<BTreeSet<_>>(),
        ["logs_2.sqlite.integrity", "sqlite/goals_1.sqlite.write", "left.sqlite.sidecars"].into(),
        "{:#?}",
        report.notable()
    );
    for (id, word) in [("state_5.sqlite.open", "1 table"), ("left.sqlite.open", "1 table")] {
        assert!(row(&report, id).summary.contains(word), "{:#?}", row(&report, id));
    }
    assert!(report.check("state_5.sqlite.schema").is_none() && report.check("home.folder").is_none());
    let names: Vec<_> = found.who().databases.into_iter().map(|database| database.name).collect();
    assert_eq!(names, ["left.sqlite", "logs_2.sqlite", "sqlite/goals_1.sqlite", "state_5.sqlite"]);
    assert_eq!(files(folder.path()), before, "no sidecar is left, none is touched");
}
