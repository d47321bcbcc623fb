//! No call of the library drops a lock that this process holds: `/proc/locks` is looked at around every public call.

#![cfg(all(target_os = "linux", feature = "agent"))]
#![allow(clippy::disallowed_methods, reason = "the control opens a database by hand")]

mod common;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::*;
use rowhouse::doctor;
use rowhouse::stores::backfill::Reread;
use rowhouse::stores::{ThreadFacts, Threads};
use rowhouse::{Database, Domain, Error, Home, Limits, Runtime, RuntimeDbRegistry, ThreadQuery};

const BUILT_IN: [&str; 4] = ["state", "logs", "goals", "device_keys"];
/// A byte of each of a connection's lasting locks: the shared range of the main file
/// (<https://sqlite.org/fileformat.html>, section 1.3.1), and the byte of the -shm file that says "somebody has it open".
const LASTING: [(&str, u64); 2] = [("", 0x4000_0002), ("-shm", 128)];

/// The lasting locks of this process on these databases, by file. The kernel writes the table page by page and may skip
/// an entry while others come and go, so it is read until all are seen, or twenty times.
fn lasting_locks(databases: &[PathBuf]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for _ in 0..20 {
        found.extend(look_once(databases));
        if found.len() == LASTING.len() * databases.len() {
            break;
        }
    }
    found
}

fn look_once(databases: &[PathBuf]) -> BTreeSet<String> {
    let own = std::process::id().to_string();
    let table = std::fs::read_to_string("/proc/locks").expect("/proc");
    let held: Vec<(u64, u64, u64)> = table
        .lines()
        .filter_map(|line| {
            // 5: POSIX  ADVISORY  READ 3215 fe:00:12345 1073741826 1073742335
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            let [_, "POSIX", _, _, pid, file, first, last] = words[..] else { return None };
            let inode = file.rsplit(':').next()?.parse().ok()?;
            (pid == own).then_some((inode, first.parse().ok()?, last.parse().unwrap_or(u64::MAX)))
        })
        .collect();
    let mut found = BTreeSet::new();
    for database in databases {
        for (ending, byte) in LASTING {
            let file = PathBuf::from(format!("{}{ending}", database.display()));
            let inode = std::fs::metadata(&file).map_or(0, |found| found.ino());
            // The kernel joins it with a reader's on the next byte.
            if held.iter().any(|lock| lock.0 == inode && (lock.1..=lock.2).contains(&byte)) {
                found.insert(file.display().to_string());
            }
        }
    }
    found
}

/// One public call, and what it is called.
type Call<'a> = (&'static str, Box<dyn Fn() + 'a>);

fn call<'a>(name: &'static str, run: impl Fn() + 'a) -> Call<'a> {
    (name, Box::new(run))
}

fn of_a_database(database: &Database) -> Vec<Call<'_>> {
    const MARK: &str = "CREATE TABLE IF NOT EXISTS mark(n INTEGER)";
    const SCHEMA: &str = "SELECT count(*) FROM sqlite_schema";
    let blob = vec![7_u8; 100_000];
    vec![
        call("write", || {
            database.write(|tx| tx.execute(MARK, [])).expect("a write");
        }),
        // Longer than the log may become: the checkpointer opens its connection and works.
        call("many writes", move || {
            let before = database.stats().checkpoints;
            for _ in 0..10 {
                database.write(|tx| tx.execute("INSERT INTO mark VALUES (?1)", [&blob])).expect("a write");
            }
            until("a checkpoint", || database.stats().checkpoints > before);
        }),
        call("submit, background, alone", || {
            let ticket = database.clone().background().alone().label("p4").submit(|tx| tx.execute(MARK, []));
            ticket.and_then(rowhouse::Ticket::wait).expect("a write");
        }),
        call("a job that gives up", || drop(database.write(|_| gave_up::<()>()).expect_err("it gave up"))),
        call("a job that ends the transaction", || {
            let twice = "INSERT OR ROLLBACK INTO rowhouse_meta SELECT * FROM rowhouse_meta";
            drop(database.write(|tx| tx.execute(twice, [])).expect_err("refused"));
        }),
        call("a deadline", || {
            let soon = database.clone().within(Duration::from_millis(20));
            let endless = |tx: &rowhouse::Tx| tx.row(ENDLESS_QUERY, [], |row| row.get::<_, i64>(0));
            drop(soon.write(endless).expect_err("too late"));
        }),
        call("read", || assert!(database.read(|at| number(at, SCHEMA)).expect("a read") > 0)),
        call("many reads at once", || {
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| database.read(|at| number(at, SCHEMA)).expect("a read"));
                }
            });
        }),
        call("steps, wait_for_steps", || {
            database.steps().expect("the steps");
            database.wait_for_steps(LONG).expect("all are done");
        }),
        call("changes", || assert!(database.changes().expect("a number") > 0)),
        call("wait_for_change", || {
            let seen = database.changes().expect("a number");
            database.wait_for_change(seen, Duration::from_millis(5)).expect("a number");
        }),
        call("health, warnings, stats", || {
            let _ = (database.health(), database.warnings(), database.stats(), database.name());
        }),
        call("reopen", || database.reopen().expect("it opens again")),
        call("a handle that ends", || drop(database.clone())),
    ]
}

fn of_the_runtime<'a>(home: &'a Path, runtime: &'a Runtime) -> Vec<Call<'a>> {
    vec![
        call("database, names, health, home", || {
            drop((runtime.database("state").expect("it"), runtime.names(), runtime.health(), runtime.home()));
        }),
        call("a second open of the home", move || {
            drop(Runtime::open(Home::at(home)).expect("the same runtime"));
        }),
        call("an open that adds a domain", move || {
            let more = Domain::new("more").migrations(MIGRATIONS);
            drop(Runtime::builder(Home::at(home)).domain(more).open().expect("the same runtime"));
        }),
        call("an open that is refused", move || {
            let other = Domain::new("state").migrations(MIGRATIONS);
            let refused = Runtime::builder(Home::at(home)).domain(other).open();
            drop(refused.map(drop).expect_err("declared twice"));
        }),
        call("maintain", || {
            drop(runtime.maintain(&rowhouse::MaintainOptions::default(), &mut |_| {}).expect("maintained"));
        }),
        call("a compaction, which is refused", move || {
            let compacted =
                Runtime::builder(Home::at(home)).compact(&rowhouse::MaintainOptions::default(), &mut |_| {});
            drop(compacted.expect_err("it is in use"));
        }),
        call("a clone that ends", || drop(runtime.clone())),
    ]
}

fn of_the_registry(registry: &RuntimeDbRegistry) -> Vec<Call<'_>> {
    vec![
        call("list, survey", || {
            registry.list().expect("a list");
            registry.survey().expect("a survey");
        }),
        call("inspect", || {
            for name in BUILT_IN {
                registry.inspect(name).unwrap_or_else(|error| panic!("{error}"));
            }
        }),
        call("steps of the registry", || {
            for name in BUILT_IN {
                registry.steps(name).unwrap_or_else(|error| panic!("{error}"));
            }
        }),
        call("inspect of nothing", || drop(registry.inspect("nothing").expect_err("not there"))),
        call("processes", || assert!(!registry.processes().expect("this one").is_empty())),
        call("holder", || {
            for name in BUILT_IN {
                assert_eq!(registry.holder(name).expect("an answer"), None);
            }
        }),
    ]
}

/// Its own locks are left out of what it tells, and are kept.
fn of_the_doctor(home: &Path) -> Vec<Call<'_>> {
    let examine = move |deep: bool| {
        let mut options = doctor::Options::default();
        options.deep = deep;
        options.deadline = Some(LONG);
        let report = doctor::run(&Home::at(home), &options).expect("a report");
        assert!(report.checks.len() > 40, "{report:#?}");
    };
    vec![
        call("the doctor", move || examine(false)),
        call("the doctor, deep", move || examine(true)),
        call("find a folder's databases, and examine them as another program's", move || {
            let folder = rowhouse::Folder::find(home).expect("a folder");
            assert!(folder.databases().len() >= BUILT_IN.len(), "{folder:?}");
            let report = doctor::run_folder(folder, &doctor::Options::default(), &mut |_| {});
            assert!(report.expect("a report").checks.len() > 20);
        }),
        call("ask whether a file is a database", move || {
            assert!(rowhouse::Folder::is_database(&home.join("state.sqlite")));
        }),
        call("who", move || drop(RuntimeDbRegistry::new(&Home::at(home)).who().expect("told"))),
    ]
}

fn of_the_stores<'a>(runtime: &'a Runtime, threads: &'a Threads) -> Vec<Call<'a>> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/transcripts");
    let facts = ThreadFacts {
        id: "019cadf1-7a5e-7b04-8f21-000000000001".to_owned(),
        created_at: 1,
        updated_at: 2,
        recency_at: 2,
        ..ThreadFacts::default()
    };
    vec![
        call("backfill", move || {
            let backfill = runtime.backfill();
            backfill.run(&examples, Reread::Changed, &mut |_| {}).expect("a backfill");
            backfill.start(&examples).expect("a worker").join().expect("a look");
            backfill.sweep(&examples).expect("a sweep");
            backfill.status().expect("a status");
        }),
        call("upsert", move || {
            threads.upsert(std::slice::from_ref(&facts)).expect("upserted");
        }),
        call("list, get", || {
            let page = threads.list(&ThreadQuery::recent()).expect("a page");
            threads.get(&page.threads[0].id).expect("a thread");
        }),
    ]
}

fn open(home: &Path) -> Runtime {
    let mut limits = Limits::default();
    limits.wal_soft = 64 << 10;
    let runtime = Runtime::builder(Home::at(home)).agent_domains().limits(limits).open().expect("opened");
    until("the logs", || runtime.database("logs").expect("it").health() == rowhouse::Health::Ready);
    runtime
}

/// Whatever is called, this process keeps its locks on every database: nothing in the library opens a database but
/// SQLite, and clippy refuses to open files elsewhere.
///
/// Scale: every public call of the runtime, its databases (each of the four), the registry (of databases that are
/// open), the threads store, the backfill and the doctor, each between two looks at `/proc/locks`.
/// Control: a plain `File::open` of a database, dropped again, takes the process's lock on it.
#[test]
fn p4_no_call_drops_our_locks() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().canonicalize().expect("the folder");
    let runtime = open(&home);
    let files = BUILT_IN.map(|name| home.join(format!("{name}.sqlite")));
    let held = lasting_locks(&files);
    assert_eq!(held.len(), LASTING.len() * BUILT_IN.len(), "every database has its locks: {held:#?}");

    let registry = RuntimeDbRegistry::new(&Home::at(&home));
    let threads = runtime.threads();
    let databases = BUILT_IN.map(|name| runtime.database(name).expect("the domain"));
    let mut calls = of_the_runtime(&home, &runtime);
    calls.extend(of_the_stores(&runtime, &threads));
    for database in &databases {
        calls.extend(of_a_database(database));
    }
    calls.extend(of_the_registry(&registry));
    calls.extend(of_the_doctor(&home));
    let error: Error = registry.inspect("nothing").expect_err("not there");
    calls.push(call("an error's words", move || drop(error.to_string())));
    for (name, run) in &calls {
        run();
        assert_eq!(lasting_locks(&files), held, "{name}");
    }
    println!("{} calls, {} locks kept", calls.len(), held.len());

    drop(File::open(&files[0]).expect("it can be read"));
    let left = lasting_locks(&files);
    assert!(left.len() < held.len(), "the control drops no lock");
    drop(calls);
    drop((threads, databases));
    runtime.close(LONG);
    assert_eq!(lasting_locks(&files), BTreeSet::new(), "a closed database is not locked");
}
