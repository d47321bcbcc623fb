//! A start takes as long as the databases that a program needs: how large its logs have become does not count.

mod processes;

use std::path::Path;
use std::time::{Duration, Instant};

use processes::{Child, sparse};
use rowhouse::{Health, Home, Runtime};

const MIB: u64 = 1 << 20;
/// Longer than anything here takes.
const LONG: Duration = Duration::from_mins(10);

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["start", home] => start(home.as_ref()),
        ["plain", file] => {
            let from = Instant::now();
            let connection = processes::plain(file.as_ref());
            let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
            connection.query_row(checkpoint, [], |_| Ok(())).expect("what a start does in other programs");
            processes::say(&format!("opened {}", from.elapsed().as_micros()));
        }
        other => panic!("no such role: {other:?}"),
    }
}

/// The body of a child that starts as a program does, and says when it was ready, when its logs were there, and how much
/// memory it took at most.
fn start(home: &Path) {
    let from = Instant::now();
    let runtime = Runtime::open(Home::at(home)).expect("opened");
    let state = runtime.database("state").expect("the domain");
    state
        .read(|at| at.row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)))
        .expect("read");
    processes::say(&format!("ready {}", from.elapsed().as_micros()));
    let logs = runtime.database("logs").expect("the domain");
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let pause = || {
        let _ = never.recv_timeout(Duration::from_millis(1));
    };
    while logs.health() == Health::Attaching {
        pause();
    }
    processes::say(&format!("attached {}", from.elapsed().as_micros()));
    while logs.stats().reclaimed_pages == 0 {
        assert!(from.elapsed() < LONG, "nothing is given back: {:?} {:?}", logs.health(), logs.stats());
        pause();
    }
    processes::say(&format!("gives back {}", highest_memory()));
    processes::listen();
}

/// The most memory that this process had at once, in KiB, by the kernel's count.
#[allow(clippy::disallowed_methods)] // a file of the kernel's
fn highest_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a count");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A home whose logs have grown: gigabytes of free pages, as pruning leaves them, and a log that nobody worked off.
/// Answers the length of the log.
fn plant(home: &Path, gibibytes: u64, log_mib: u64) -> u64 {
    drop(Runtime::open(Home::at(home)).expect("opened"));
    let file = home.join("logs.sqlite");
    let connection = processes::plain(&file);
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
    drop(connection);
    sparse::grow_free(&file, gibibytes << 30);
    let connection = processes::plain(&file);
    connection.execute_batch("PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF").expect("settings");
    connection.execute_batch("CREATE TABLE of_another_tool(v)").expect("a table");
    connection.execute_batch("INSERT INTO of_another_tool VALUES (zeroblob(1048576))").expect("a row");
    let log = home.join("logs.sqlite-wal");
    let length = || std::fs::metadata(&log).map_or(0, |found| found.len());
    while length() < log_mib * MIB {
        connection.execute_batch("UPDATE of_another_tool SET v = randomblob(1048576)").expect("a row");
    }
    // As a process that is killed: nothing is worked off.
    let no_checkpoint = rowhouse::rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(no_checkpoint, true).expect("an option");
    drop(connection);
    length()
}

fn micros(said: &str) -> Duration {
    Duration::from_micros(said.parse().expect("a number"))
}

#[test]
fn a_planted_file_is_whole() {
    let folder = processes::folder();
    drop(processes::open(folder.path()));
    let file = processes::file(folder.path());
    drop(processes::plain(&file));
    sparse::grow_free(&file, 16 * MIB);
    assert_eq!(processes::integrity(&file), "ok");
}

/// Logs are attached in the background, where their write-ahead log is read once, and worked off and their free pages given
/// back a little at a time; a program is ready before that, and takes no more memory for it than for small ones.
///
/// Scale: logs of 4 GiB, sparse, with 64 MiB of write-ahead log (`ROWHOUSE_TEST_MB=3000` for a log as long as in the field);
/// ready within a second, 200 MiB of memory at most.
/// Control: a plain connection that opens the same file and works its log off, as programs do at their start, takes as long as
/// the log is.
#[test]
fn s7_big_logs_do_not_hold_up_the_start() {
    let log_mib = std::env::var("ROWHOUSE_TEST_MB").ok().map_or(64, |text| text.parse().expect("MiB"));
    processes::once_in_three(|| {
        let folder = processes::folder();
        let home = folder.path();
        let log = plant(home, 4, log_mib);
        let mut child = Child::start("start", &[processes::text(home)]);
        let ready = micros(&child.wait_for("ready"));
        let attached = micros(&child.wait_for("attached"));
        let memory: u64 = child.wait_for("gives back").parse().expect("a number");
        child.tell("end");
        child.finish();
        println!("a log of {} MiB: ready {ready:?}, attached {attached:?}, {memory} KiB", log / MIB);
        processes::holds(ready < Duration::from_secs(1), || format!("ready after {ready:?}"))?;
        processes::holds(memory < 200 << 10, || format!("{memory} KiB of memory"))?;

        let other = processes::folder();
        plant(other.path(), 4, log_mib);
        let control = Child::start("plain", &[processes::text(&other.path().join("logs.sqlite"))]);
        let opened = micros(&control.wait_for("opened"));
        control.finish();
        println!("a plain connection: {opened:?}");
        processes::holds(opened > ready, || format!("plain {opened:?}, here {ready:?}"))
    });
}
