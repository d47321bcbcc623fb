//! Space that deleted rows leave behind goes back to the disk, in steps that nobody notices.

mod processes;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use processes::{Child, sparse};
use rowhouse::rusqlite::Connection;
use rowhouse::{ErrorKind, Home, Limits, MaintainOptions, Runtime, Stats};

const MIB: u64 = 1 << 20;
/// What every row of the fill holds, beside its key.
const BODY: i64 = 3000;
/// Processes that write meanwhile, and callers in each.
const WRITERS: usize = 4;
const CALLERS: usize = 2;
/// Longer than anything here takes.
const LONG: Duration = Duration::from_mins(10);

/// How large the database of a test is, in MiB: `default`, or `ROWHOUSE_TEST_MB`.
fn mebibytes(default: u64) -> u64 {
    std::env::var("ROWHOUSE_TEST_MB").ok().map_or(default, |text| text.parse().expect("a number of MiB"))
}

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", home] => write_until_told(home.as_ref()),
        ["idle", home] => {
            let runtime = processes::open(home.as_ref());
            processes::say("open");
            processes::listen();
            drop(runtime);
        }
        ["compact", home] => {
            processes::say("begins");
            let builder = Runtime::builder(Home::at(home));
            builder.compact(&MaintainOptions::default(), &mut |_| {}).expect("compacted");
        }
        ["vacuum_into", file, copy] => {
            limit_file_size(4 * MIB);
            let answer = processes::plain(file.as_ref()).execute("VACUUM INTO ?1", [copy]);
            processes::say(&format!("ended {}", answer.expect_err("a full disk")));
        }
        ["overwrite", file] => {
            overwrite_half(file.as_ref());
            processes::say("half");
            processes::listen();
        }
        ["write_once", file] => {
            let connection = processes::plain(file.as_ref());
            let n: i64 = connection.query_row("SELECT n FROM counter", [], |row| row.get(0)).expect("a read");
            processes::say("open");
            processes::listen();
            connection.execute("UPDATE counter SET n = ?1", [n + 1]).expect("written");
            processes::say("written");
            processes::listen();
        }
        other => panic!("no such role: {other:?}"),
    }
}

/// A home whose table was filled, and of whose rows the oldest nine tenths were deleted, as log entries are pruned. By a
/// plain connection: nothing has given anything back yet.
fn pruned(home: &Path, mib: u64) -> u64 {
    drop(processes::open(home));
    let connection = processes::plain(&processes::file(home));
    let rows = (mib * MIB / 4096).cast_signed();
    connection.pragma_update(None, "synchronous", false).expect("a setting");
    fill(&connection, rows);
    let peak = length(&processes::file(home));
    connection.execute("DELETE FROM item WHERE job < ?1", [rows * 9 / 10]).expect("pruned");
    work_off(&connection);
    assert_eq!(length(&processes::file(home)), peak, "rows that are deleted leave the file as it is");
    peak
}

fn fill(connection: &Connection, rows: i64) {
    connection
        .execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1)
             INSERT INTO item(job, part, body) SELECT i, 0, randomblob(?2) FROM n",
            (rows, BODY),
        )
        .expect("filled");
    work_off(connection);
}

fn work_off(connection: &Connection) {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
}

fn free_pages(connection: &Connection) -> i64 {
    connection.query_row("PRAGMA freelist_count", [], |row| row.get(0)).expect("a number")
}

/// The body of a child whose callers write all the time, and which says how long the longest of them waited.
fn write_until_told(home: &Path) {
    let runtime = processes::open(home);
    let database = runtime.database("work").expect("the domain");
    processes::ready();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let longest = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut longest = Duration::ZERO;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let from = Instant::now();
                        database
                            .write(|tx| tx.execute("UPDATE counter SET n = n + 1 WHERE id = 1", []))
                            .expect("written");
                        longest = longest.max(from.elapsed());
                    }
                    longest
                })
            })
            .collect();
        assert_eq!(processes::listen(), "stop");
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        callers.into_iter().map(|caller| caller.join().expect("a caller")).max()
    });
    let Stats { reclaimed_pages, reclaim_steps, reclaim_us, reclaim_longest_us, .. } = database.stats();
    let longest = longest.expect("callers").as_micros();
    processes::say(&format!(
        "longest {longest} {reclaimed_pages} {reclaim_steps} {reclaim_us} {reclaim_longest_us}"
    ));
}

/// As a full disk, for this process.
fn limit_file_size(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: both calls concern this process only; the pointer is to a local.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

fn log_of(file: &Path) -> std::path::PathBuf {
    file.with_extension("sqlite-wal")
}

/// What was seen while others wrote.
#[derive(Debug, Default)]
struct Seen {
    longest_wait: Duration,
    longest_log: u64,
    reclaimed: u64,
    steps: u64,
    mean_hold: Duration,
    longest_hold: Duration,
    took: Duration,
}

/// Runs the writers until `done`; looks at the log meanwhile.
fn beside_writers(home: &Path, mut done: impl FnMut() -> bool) -> Seen {
    let mut writers: Vec<_> = (0..WRITERS).map(|_| Child::start("write", &[processes::text(home)])).collect();
    processes::start_together(&mut writers);
    let mut seen = Seen::default();
    let from = Instant::now();
    let log = log_of(&processes::file(home));
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    while !done() {
        seen.longest_log = seen.longest_log.max(length(&log));
        assert!(from.elapsed() < LONG, "it does not end: {seen:?}");
        let _ = never.recv_timeout(Duration::from_millis(5));
    }
    seen.took = from.elapsed();
    let mut held = 0;
    for mut writer in writers {
        writer.tell("stop");
        let said = writer.wait_for("longest");
        let numbers: Vec<u64> = said.split(' ').map(|n| n.parse().expect("a number")).collect();
        let [wait, pages, steps, us, longest] = numbers[..] else { panic!("five numbers: {said}") };
        seen.longest_wait = seen.longest_wait.max(Duration::from_micros(wait));
        seen.reclaimed += pages;
        seen.steps += steps;
        held += us;
        seen.longest_hold = seen.longest_hold.max(Duration::from_micros(longest));
        writer.finish();
    }
    seen.mean_hold = Duration::from_micros(held / seen.steps.max(1));
    seen
}

/// Free pages are given back by the writers themselves, between two batches and in their turn, some hundred at a time, by
/// one process at a time, and the log is worked off on the way: the file shrinks beside writers that never stop.
///
/// Scale: 64 MiB of which nine tenths are pruned (`ROWHOUSE_TEST_MB=1024` for the whole), 4 processes with 2 writers each that
/// commit without a pause; a fifth of the file is left, and the log stays under 32 MiB.
/// Control: without it the file stays at its peak, and `PRAGMA incremental_vacuum(1000)`, executed as a statement without
/// rows is, frees one page; run to its end at once it keeps writers out for far longer than a step.
#[test]
fn g3_pruned_space_goes_back_beside_live_writers() {
    let folder = processes::folder();
    let home = folder.path();
    let peak = pruned(home, mebibytes(64));
    let file = processes::file(home);
    {
        let control = processes::plain(&file);
        let free = free_pages(&control);
        control.execute_batch("PRAGMA incremental_vacuum(1000)").expect("executed");
        assert_eq!(free_pages(&control), free - 1);
        work_off(&control);
        assert!(length(&file) >= peak - 4096);
    }
    let at_once = unbounded(home);

    let seen = beside_writers(home, || length(&file) * 5 < peak);
    println!("{seen:?}; all at once {at_once:?}");
    assert!(seen.reclaimed > 0 && seen.steps > 1, "{seen:?}");
    assert!(seen.longest_log < 32 * MIB, "{seen:?}");
    // A step is measured in milliseconds; what is measured on a busy machine is also the others.
    assert!(seen.mean_hold < Duration::from_millis(50), "{seen:?}");
    assert!(at_once > 5 * seen.mean_hold, "{at_once:?} at once, {seen:?}");
    assert_eq!(processes::integrity(&file), "ok");
}

/// A caller that commits by itself all the time, and so keeps the turn, does not keep the space from coming back.
#[test]
fn space_comes_back_beside_a_caller_that_never_rests() {
    let folder = processes::folder();
    let home = folder.path();
    pruned(home, 32);
    let (peak, began) = (length(&processes::file(home)), Instant::now());
    let runtime = processes::open(home);
    let database = runtime.database("work").expect("the domain");
    while length(&processes::file(home)) * 5 >= peak {
        assert!(began.elapsed() < LONG, "it stays as it is: {:?}", database.stats());
        database.write(|tx| tx.execute("UPDATE counter SET n = n + 1 WHERE id = 1", [])).expect("written");
    }
    let Stats { direct_commits, reclaim_steps, .. } = database.stats();
    println!("{direct_commits} commits beside {reclaim_steps} steps in {:?}", began.elapsed());
    assert!(direct_commits > reclaim_steps, "{direct_commits} commits, {reclaim_steps} steps");
}

/// How long one transaction takes that gives everything back: nobody else writes meanwhile. It is rolled back.
fn unbounded(home: &Path) -> Duration {
    let connection = processes::plain(&processes::file(home));
    let from = Instant::now();
    connection.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    {
        let mut statement = connection.prepare("PRAGMA incremental_vacuum").expect("prepared");
        let mut rows = statement.query([]).expect("run");
        while rows.next().expect("a step").is_some() {}
    }
    assert_eq!(free_pages(&connection), 0);
    let took = from.elapsed();
    connection.execute_batch("ROLLBACK").expect("rolled back");
    took
}

/// What is not worth giving back is left alone, and what was given back is done with: a settled home is read once a second
/// and not written.
///
/// Scale: a pruned file of 64 MiB, settled; then 4 s without one byte written by the process (`ROWHOUSE_TEST_SECONDS` for
/// more).
/// Control: the same counter of the kernel grows while the space is given back.
#[test]
fn g3_a_settled_home_is_not_written() {
    let folder = processes::folder();
    let home = folder.path();
    pruned(home, 64);
    let file = processes::file(home);
    let mut child = Child::start("idle", &[processes::text(home)]);
    child.wait_for("open");
    let before = written(&child);
    let from = Instant::now();
    let mut last = (written(&child), length(&file), Instant::now());
    let quiet = processes::seconds(4.0);
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    loop {
        assert!(from.elapsed() < LONG + quiet, "it never settles: {last:?}");
        let _ = never.recv_timeout(Duration::from_millis(20));
        let now = (written(&child), length(&file));
        if now != (last.0, last.1) {
            last = (now.0, now.1, Instant::now());
        } else if now.1 < 16 * MIB && last.2.elapsed() > quiet {
            break;
        }
    }
    assert!(last.0 > before, "giving back writes");
    child.tell("end");
    child.finish();
}

/// Half of another file over this one.
#[allow(clippy::disallowed_methods)] // nobody has it open
fn overwrite_half(file: &Path) {
    let mut content = std::fs::read(file).expect("the file");
    content.reverse();
    std::fs::write(file, &content[..content.len() / 2]).expect("written");
}

/// Bytes that a process wrote, by the kernel's count.
#[allow(clippy::disallowed_methods)] // a file of the kernel's
fn written(child: &Child) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", child.pid())).expect("our child");
    let wchar = io.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("a count");
    wchar.parse().expect("a number")
}

/// Giving space back on demand works the log off before it would get long, and takes the lock in its turn: the log stays
/// at a few mebibytes, and everything that was free is gone from the file.
///
/// Scale: 64 MiB, nine tenths pruned (`ROWHOUSE_TEST_MB` for more), beside 4 processes with 2 writers each; cap 32 MiB.
/// Control: `VACUUM` writes the whole database into the log; on a plain connection that is over the cap with 64 MiB.
#[test]
fn g8_an_online_pass_keeps_the_log_short() {
    let folder = processes::folder();
    let home = folder.path();
    let peak = pruned(home, mebibytes(64));
    let file = processes::file(home);
    let (tell, told) = std::sync::mpsc::channel();
    let place = home.to_owned();
    let mut started = false;
    let mut report = None;
    let seen = beside_writers(home, || {
        if !std::mem::replace(&mut started, true) {
            let (tell, place) = (tell.clone(), place.clone());
            std::thread::spawn(move || {
                let builder = Runtime::builder(Home::at(&place));
                let _ = tell.send(builder.maintain(&MaintainOptions::only("work"), &mut |_| {}));
            });
        }
        report = told.try_recv().ok();
        report.is_some()
    });
    let report = report.expect("it ended").expect("maintained");
    let found = &report.databases[0];
    println!("{seen:?} {report:?}");
    assert!(seen.longest_log < 32 * MIB, "{seen:?}");
    assert!(report.left_out.is_empty() && found.warnings.is_empty(), "{report:?}");
    assert!(found.bytes * 5 < peak && found.free_bytes * 10 < peak, "{report:?}");
    assert!(found.optimized && found.log_bytes == 0, "{report:?}");

    let folder = processes::folder();
    let file_of_control = folder.path().join("control.sqlite");
    let control = processes::plain(&file_of_control);
    control.execute_batch("PRAGMA auto_vacuum=INCREMENTAL").expect("a setting");
    control.pragma_update(None, "journal_mode", "wal").expect("WAL");
    control.execute_batch(processes::SCHEMA[0].sql).expect("the tables");
    control.execute_batch("PRAGMA wal_autocheckpoint=0").expect("a setting");
    fill(&control, (64 * MIB / 4096).cast_signed());
    control.execute_batch("VACUUM").expect("rewritten");
    assert!(length(&log_of(&file_of_control)) > 32 * MIB);
    assert_eq!(processes::integrity(&file), "ok");
}

/// The same in a home that nobody has open: then the pass itself is the only one who works the log off.
#[test]
fn a_pass_over_a_closed_home_keeps_the_log_short() {
    let folder = processes::folder();
    let home = folder.path();
    let peak = pruned(home, 64);
    let log = log_of(&processes::file(home));
    let mut limits = Limits::default();
    limits.wal_soft = MIB;
    let mut longest = 0;
    let report = Runtime::builder(Home::at(home))
        .limits(limits)
        .maintain(&MaintainOptions::only("work"), &mut |_| longest = longest.max(length(&log)))
        .expect("maintained");
    assert!(report.databases[0].bytes * 5 < peak, "{report:?}");
    // What is left is some 7 MiB, of which most is moved; a step may be added to the soft limit.
    assert!(longest > 0 && longest < 5 * MIB, "the log grew to {longest} bytes");
}

/// A compaction asks for the room of the new file before it begins, and refuses with both numbers; nothing is changed.
///
/// Scale: a sparse database that says it is larger than what is free on the disk by a gibibyte.
/// Control: `VACUUM INTO` on a plain connection begins, and only ends when the disk is full; here at 4 MiB of 8, by a bound
/// on the size of files.
#[test]
fn g8_compact_refuses_without_room_and_with_numbers() {
    let folder = processes::folder();
    let home = folder.path();
    drop(processes::open(home));
    let file = processes::file(home);
    work_off(&processes::plain(&file));
    let disk = rustix::fs::statvfs(home).expect("the disk");
    let needed = disk.f_bavail * disk.f_frsize + (1 << 30);
    sparse::grow(&file, needed);
    let before = std::fs::metadata(&file).expect("the file");

    let answer = Runtime::builder(Home::at(home)).compact(&MaintainOptions::only("work"), &mut |_| {});
    let error = answer.expect_err("there is not enough room");
    assert_eq!((error.kind(), error.database()), (ErrorKind::Full, Some("work")), "{error}");
    let numbers: Vec<u64> = error.message().split(' ').filter_map(|word| word.parse().ok()).collect();
    let [asked, free] = numbers[..] else { panic!("two numbers: {error}") };
    assert!(asked >= needed && free < asked && error.advice().is_some(), "{error}");
    let after = std::fs::metadata(&file).expect("the file");
    assert_eq!((after.len(), after.mtime(), after.ino()), (before.len(), before.mtime(), before.ino()));
    assert_eq!(unfinished(home), 0);

    let folder = processes::folder();
    let file = processes::file(folder.path());
    let copy = folder.path().join("copy");
    drop(processes::open(folder.path()));
    fill(&processes::plain(&file), (8 * MIB / 4096).cast_signed());
    let control = Child::start("vacuum_into", &[processes::text(&file), processes::text(&copy)]);
    let said = control.wait_for("ended");
    assert!(said.contains("disk I/O error") || said.contains("full"), "{said}");
    assert!(length(&copy) > 0, "it had begun");
}

/// The new file is written beside the old one, checked, and takes its place by one rename: killed at any moment, the old
/// file holds every row, or the new one is there, and the next compaction sweeps what is left.
///
/// Scale: 12 kills at random moments of compacting 24 MiB (`ROWHOUSE_TEST_ROUNDS` for more).
/// Control: writing the new file over the old one, killed midway, leaves a file that is no database any more.
#[test]
fn g8_compact_killed_midway_leaves_a_whole_database() {
    let folder = processes::folder();
    let home = folder.path();
    let file = processes::file(home);
    drop(processes::open(home));
    let rows = (24 * MIB / 4096).cast_signed();
    fill(&processes::plain(&file), rows);
    let compact = || Child::start("compact", &[processes::text(home)]);
    let from = Instant::now();
    compact().finish();
    let whole = u64::try_from(from.elapsed().as_micros()).expect("a short time");

    let mut random = processes::Numbers::new(8);
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    for _ in 0..processes::rounds(12) {
        let child = compact();
        child.wait_for("begins");
        let _ = never.recv_timeout(Duration::from_micros(random.below(whole)));
        // It may be done by now.
        child.signal(libc::SIGKILL);
        child.end();
        let connection = processes::plain(&file);
        let found: i64 =
            connection.query_row("SELECT count(body) FROM item", [], |row| row.get(0)).expect("rows");
        assert_eq!(found, rows);
    }
    compact().finish();
    assert_eq!((unfinished(home), processes::integrity(&file).as_str()), (0, "ok"));
    let runtime = processes::open(home);
    let work = runtime.database("work").expect("the domain");
    let found: i64 = work.read(|at| at.row("SELECT count(*) FROM item", [], |row| row.get(0))).expect("rows");
    assert_eq!(found, rows);
    runtime.close(Duration::from_secs(10));

    let mut overwrites = Child::start("overwrite", &[processes::text(&file)]);
    overwrites.wait_for("half");
    overwrites.kill();
    let control = processes::plain(&file);
    let check: Result<String, _> = control.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
    assert_ne!(check.as_deref(), Ok("ok"));
}

/// A compaction needs the home alone, and names who has it open; the file stays as it is.
///
/// Scale: another process, a plain connection of this one, and this process's own runtime.
/// Control: a rename over the file of a live process goes through, and what that process writes afterwards is gone.
#[test]
fn g8_compact_names_who_has_the_database_open() {
    let folder = processes::folder();
    let home = folder.path();
    let file = processes::file(home);
    drop(processes::open(home));
    let inode = || std::fs::metadata(&file).expect("the file").ino();
    let before = inode();
    let holder = || {
        let answer = Runtime::builder(Home::at(home)).compact(&MaintainOptions::default(), &mut |_| {});
        let error = answer.expect_err("somebody has it open");
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        error.holder().map(|holder| holder.pid)
    };
    let mut child = Child::start("idle", &[processes::text(home)]);
    child.wait_for("open");
    assert_eq!(holder(), Some(child.pid().cast_unsigned()));
    child.tell("end");
    child.finish();

    let runtime = processes::open(home);
    assert_eq!(holder(), Some(std::process::id()));
    runtime.close(Duration::from_secs(10));
    drop(runtime);
    assert_eq!(inode(), before);
    Runtime::builder(Home::at(home)).compact(&MaintainOptions::default(), &mut |_| {}).expect("alone");
    assert_ne!(inode(), before);

    processes::plain(&file).pragma_update(None, "journal_mode", "wal").expect("WAL");
    let mut victim = Child::start("write_once", &[processes::text(&file)]);
    victim.wait_for("open");
    let copy = home.join("copy.sqlite");
    // This process has it not open.
    #[allow(clippy::disallowed_methods)]
    std::fs::copy(&file, &copy).expect("copied");
    std::fs::rename(&copy, &file).expect("renamed");
    victim.tell("write");
    victim.wait_for("written");
    drop(victim);
    for ending in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(file.with_extension(format!("sqlite{ending}")));
    }
    let n: i64 = processes::plain(&file)
        .query_row("SELECT n FROM counter WHERE id = 1", [], |row| row.get(0))
        .expect("a number");
    assert_eq!(n, 0, "the write was acknowledged");
}

/// A file that was made without `auto_vacuum` is named, and becomes one that can give pages back; its rows keep their
/// numbers, also those of a table that has none of its own, and the file its stamp.
#[test]
fn a_compacted_file_can_give_pages_back_and_keeps_what_it_was() {
    let folder = processes::folder();
    let home = folder.path();
    let file = processes::file(home);
    drop(processes::open(home));
    let before = {
        let connection = processes::plain(&file);
        connection
            .execute_batch(
                "PRAGMA journal_mode=DELETE; PRAGMA auto_vacuum=NONE; VACUUM; PRAGMA journal_mode=WAL",
            )
            .expect("as a dump leaves it");
        connection.execute_batch("CREATE TABLE unnumbered(v TEXT)").expect("a table");
        connection.execute_batch("INSERT INTO unnumbered VALUES ('a'), ('b'), ('c')").expect("rows");
        connection.execute_batch("DELETE FROM unnumbered WHERE v = 'b'").expect("a gap");
        fill(&connection, 4000);
        connection.execute_batch("DELETE FROM item").expect("emptied");
        stamp(&connection)
    };
    let runtime = processes::open(home);
    let work = runtime.database("work").expect("the domain");
    let told = |text: &str| text.contains("rowhouse compact work");
    let from = Instant::now();
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    while !work.warnings().iter().any(|warning| told(warning)) {
        assert!(from.elapsed() < LONG, "nobody is told");
        let _ = never.recv_timeout(Duration::from_millis(20));
    }
    let report = runtime.maintain(&MaintainOptions::default(), &mut |_| {}).expect("maintained");
    assert!(report.databases[0].warnings.iter().any(|warning| told(warning)), "{report:?}");
    assert_eq!(report.databases[0].reclaimed_bytes, 0);
    drop(work);
    drop(runtime);

    let mut most = 0;
    let report = Runtime::builder(Home::at(home))
        .compact(&MaintainOptions::only("work"), &mut |now| most = most.max(now.bytes_done))
        .expect("compacted");
    let found = &report.databases[0];
    assert!(found.bytes * 10 < found.bytes_before && most > 0, "{report:?}");
    let connection = processes::plain(&file);
    assert_eq!(stamp(&connection), before);
    let mode: i64 = connection.query_row("PRAGMA auto_vacuum", [], |row| row.get(0)).expect("a mode");
    assert_eq!((mode, free_pages(&connection)), (2, 0));
    let rows = || -> String {
        let rows = "SELECT group_concat(rowid || v) FROM unnumbered";
        connection.query_row(rows, [], |row| row.get(0)).expect("the rows")
    };
    assert_eq!(rows(), "1a,3c");
    connection.execute_batch("VACUUM").expect("rewritten in place");
    assert_eq!(rows(), "1a,2c", "what SQLite's own way does to such rows");
    drop(connection);
    let unknown = Runtime::builder(Home::at(home)).compact(&MaintainOptions::only("nobody"), &mut |_| {});
    assert_eq!(unknown.expect_err("there is none").kind(), ErrorKind::NotFound);
    drop(processes::open(home));
}

fn stamp(connection: &Connection) -> (i64, i64) {
    let number = |pragma: &str| {
        connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).expect("a number")
    };
    (number("application_id"), number("user_version"))
}

/// Folders that a compaction left.
fn unfinished(home: &Path) -> usize {
    let names = std::fs::read_dir(home).expect("the home").flatten();
    names.filter(|entry| entry.file_name().to_string_lossy().starts_with(".compact")).count()
}
