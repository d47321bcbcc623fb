//! The write-ahead log is worked off where nobody waits for it, and a file that gets shorter kills nobody who reads it.

mod common;
mod faults;
mod processes;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{LONG, domain, raw, soon, until};
use faults::Operation::{Truncate, Write};
use processes::Child;
use rowhouse::{BackupOptions, Database, Home, MaintainOptions, Runtime};

/// Longer than the log gets before the writer pauses, with rows of this size.
const ROWS: u32 = 160;
const BODY: i64 = 100_000;
/// How this thread goes by while it calls what it calls.
const CALLER: &str = "caller";

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["big_log", home] => {
            // Killed before it closes anything: the log stays.
            let runtime = open(home.as_ref());
            let connection = raw(&home_file(home.as_ref()));
            connection.execute_batch("PRAGMA wal_autocheckpoint=0").expect("a setting");
            for _ in 0..ROWS / 4 {
                connection.execute("INSERT INTO t(v) VALUES (randomblob(?1))", [BODY]).expect("written");
            }
            processes::say("left");
            processes::listen();
            drop((runtime, connection));
        }
        ["reads", home] => read_until_told(home.as_ref()),
        ["mapped", file] => read_mapped(file.as_ref()),
        other => panic!("no such role: {other:?}"),
    }
}

fn home_file(home: &Path) -> std::path::PathBuf {
    home.join("test.sqlite")
}

fn open(home: &Path) -> Runtime {
    Runtime::builder(Home::at(home)).domain(domain()).open().expect("opened")
}

/// Runs it on a thread that goes by the name of [`CALLER`].
fn as_caller(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().name(CALLER.to_owned()).spawn(work).expect("a thread");
    thread.join().expect("it went well");
}

fn insert(db: &Database) {
    db.write(|tx| tx.execute("INSERT INTO t(v) VALUES (randomblob(?1))", [BODY])).expect("written");
}

/// Every public call that an application makes in its normal life, with a log that is long before each.
fn every_call(home: &Path) {
    let runtime = open(home);
    let db = runtime.database("test").expect("the domain");
    let seen = db.changes().expect("a number");
    for _ in 0..ROWS {
        insert(&db);
    }
    let background = db.clone().background().alone().label("test").within(LONG);
    background.write(|tx| tx.execute("DELETE FROM t WHERE id % 2 = 0", [])).expect("deleted");
    let tickets: Vec<_> = (0..ROWS)
        .map(|_| db.submit(|tx| tx.execute("INSERT INTO t(v) VALUES (randomblob(?1))", [BODY])))
        .collect();
    for ticket in tickets {
        ticket.expect("queued").wait().expect("written");
    }
    db.read(|at| at.row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))).expect("read");
    db.wait_for_change(seen, LONG).expect("a change");
    let _ = (db.health(), runtime.health(), db.stats(), db.warnings());
    insert(&db);
    db.reopen().expect("opened again");
    insert(&db);
    runtime.backup(&BackupOptions::default(), &mut |_| {}).expect("copied");
    insert(&db);
    runtime.close(LONG);
}

/// The database file is written, once it is created, by the checkpointer's thread and by the one that closes the last
/// connection, and never by a thread that calls: not while it opens a home with a long log, nor writes, reads, opens again,
/// copies or closes. Who made the log long goes on meanwhile, or pauses while the writer is held for the last piece.
///
/// Scale: every call of an application's life over 48 MiB of log in pieces, and how long the writer is held for the last piece of
/// each round is counted in `Stats` (11 ms on average on a quiet machine).
/// Control: on a plain connection the thread that commits writes the file itself; and the observer sees it.
#[test]
fn w4_no_call_works_off_the_log() {
    faults::install();
    let folder = processes::folder();
    let home = folder.path().to_owned();
    drop(open(&home));
    let mut child = Child::start("big_log", &[processes::text(&home)]);
    child.wait_for("left");
    child.kill();

    let observed = faults::observe(&[Write, Truncate], home_file(&home));
    let (tell, told) = std::sync::mpsc::channel();
    as_caller({
        let home = home.clone();
        move || {
            every_call(&home);
            let runtime = open(&home);
            let db = runtime.database("test").expect("the domain");
            for _ in 0..ROWS {
                insert(&db);
            }
            until("a checkpoint", || db.stats().checkpoints_held > 0);
            let _ = tell.send(db.stats());
            drop((db, runtime));
        }
    });
    let threads = observed.threads();
    drop(observed);
    println!("the file was written by {threads:?}");
    assert!(threads.contains("rowhouse-ckpt-test"), "{threads:?}");
    assert!(threads.iter().all(|name| name.starts_with("rowhouse-")), "{threads:?}");
    let stats = soon(&told);
    let mean = Duration::from_micros(stats.checkpoint_held_us / stats.checkpoints_held);
    println!("held {} times, {mean:?} on average", stats.checkpoints_held);
    // Milliseconds; on a busy machine it is also what the disk does for others.
    assert!(mean < Duration::from_secs(1), "{stats:?}");

    let plain = home.join("plain.sqlite");
    let observed = faults::observe(&[Write, Truncate], &plain);
    as_caller(move || {
        let connection = raw(&plain);
        connection.pragma_update(None, "journal_mode", "wal").expect("WAL");
        connection.execute_batch("CREATE TABLE t(v)").expect("a table");
        for _ in 0..ROWS {
            connection.execute("INSERT INTO t VALUES (randomblob(?1))", [BODY]).expect("written");
        }
        std::mem::forget(connection);
    });
    assert!(observed.threads().contains(CALLER), "{:?}", observed.threads());
}

/// The body of a child whose readers never stop.
fn read_until_told(home: &Path) {
    let runtime = open(home);
    let db = runtime.database("test").expect("the domain");
    let stop = AtomicBool::new(false);
    let reads = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut reads = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let sum = "SELECT coalesce(sum(length(v)), 0) FROM t";
                        db.read(|at| at.row(sum, [], |row| row.get::<_, i64>(0))).expect("read");
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        processes::say("reading");
        processes::listen();
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().expect("a reader")).sum::<u64>()
    });
    processes::say(&format!("reads {reads}"));
}

/// The body of a child that maps the file, as SQLite does with `mmap_size`, and reads what is mapped when it is told.
fn read_mapped(file: &Path) {
    let connection = raw(file);
    connection.pragma_update(None, "mmap_size", 1 << 30).expect("a setting");
    let mut statement = connection.prepare("SELECT v FROM t").expect("prepared");
    let mut rows = statement.query([]).expect("run");
    rows.next().expect("a read").expect("a row");
    processes::say("mapped");
    processes::listen();
    let mut read = 0;
    while let Ok(Some(_)) = rows.next() {
        read += 1;
    }
    processes::say(&format!("read {read} rows"));
}

/// No connection maps the file, so what is gone from it is an answer of the system, not a signal: readers of two processes
/// go on while the file and its log get shorter and longer under them.
///
/// Scale: filled, emptied and given back to the disk again and again for 3 s (`ROWHOUSE_TEST_SECONDS` for more) beside 2
/// processes with 2 readers each.
/// Control: a plain connection with `mmap_size` is killed by SIGBUS when the file that it reads is cut.
#[test]
fn w6_readers_survive_a_file_that_gets_shorter() {
    let folder = processes::folder();
    let home = folder.path();
    let file = home_file(home);
    let runtime = open(home);
    let db = runtime.database("test").expect("the domain");
    insert(&db);
    let mut readers: Vec<_> = (0..2).map(|_| Child::start("reads", &[processes::text(home)])).collect();
    for reader in &readers {
        reader.wait_for("reading");
    }
    let lasting = processes::seconds(3.0);
    let from = Instant::now();
    let (mut longest, mut cuts) = (0, 0);
    let length = || std::fs::metadata(&file).map_or(0, |found| found.len());
    while from.elapsed() < lasting || cuts == 0 {
        assert!(from.elapsed() < LONG + 2 * lasting, "the file never gets shorter");
        for _ in 0..ROWS / 2 {
            insert(&db);
        }
        longest = longest.max(length());
        db.write(|tx| tx.execute("DELETE FROM t WHERE id > 1", [])).expect("deleted");
        let before = length();
        // A reader may keep the log for longer than it is waited for: then the next one does it.
        let _ = runtime.maintain(&MaintainOptions::default(), &mut |_| {});
        cuts += u64::from(length() < before / 2);
    }
    let mut reads = 0;
    for reader in &mut readers {
        reader.tell("stop");
    }
    for reader in readers {
        reads += reader.wait_for("reads").parse::<u64>().expect("a number");
        reader.finish();
    }
    println!("{cuts} cuts of up to {longest} bytes, {reads} reads");
    assert!(reads > 0);
    drop((db, runtime));

    let plain = home.join("plain.sqlite");
    let connection = raw(&plain);
    connection.execute_batch("CREATE TABLE t(v)").expect("a table");
    for _ in 0..ROWS / 4 {
        connection.execute("INSERT INTO t VALUES (randomblob(?1))", [BODY]).expect("written");
    }
    drop(connection);
    let mut victim = Child::start("mapped", &[processes::text(&plain)]);
    victim.wait_for("mapped");
    #[allow(clippy::disallowed_methods)] // nobody's database
    let cut = std::fs::OpenOptions::new().write(true).open(&plain).expect("the file");
    cut.set_len(8192).expect("cut");
    victim.tell("read");
    let (said, status) = victim.end();
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{said:?}");
}
