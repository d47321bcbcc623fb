//! Who holds a database is told at once, without touching a lock or opening a file.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![cfg(target_os = "linux")]

#[cfg(feature = "agent")]
mod examined;
mod processes;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use processes::Child;
use rowhouse::{DatabaseLock, DatabaseProcess, Home, HomeHolders, Runtime, RuntimeDbRegistry};

/// What the scenario allows.
const PROMISED: Duration = Duration::from_millis(200);
const LABEL: &str = "trace";

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [role, home] = &arguments[..] else { panic!("a role and a home: {arguments:?}") };
    #[cfg(feature = "agent")]
    if role == "examine" {
        for _ in 0..10 {
            let began = Instant::now();
            let report = examined::examine_only(home.as_ref(), &["logs.holders"]);
            let took = began.elapsed();
            let told = &examined::row(&report, "logs.holders").evidence;
            processes::say(&format!("took {} {}", took.as_micros(), told.join("; ")));
        }
        processes::say("done");
        return;
    }
    if role == "sleep" {
        processes::say("ready");
        processes::listen();
        return;
    }
    let runtime = Runtime::open(Home::at(home)).expect("the home opens");
    let database = runtime.database("logs").expect("the domain").label(LABEL);
    match &role[..] {
        "write" => {
            let inside = |_: &rowhouse::Tx| {
                processes::ready();
                Ok(())
            };
            database.write(inside).expect("a write");
        }

        "read" => database
            .read(|at| {
                at.rows("SELECT name FROM sqlite_schema", [], |row| row.get::<_, String>(0))?;
                processes::ready();
                Ok(())
            })
            .expect("a read"),
        other => panic!("no such role: {other}"),
    }
}

/// A child that is being started has copies of this process's descriptors for a moment; and these tests measure.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The locks of another process on these files, as the kernel lists them.
#[cfg(feature = "agent")]
fn locks_on(pid: i32, inodes: &BTreeSet<u64>) -> BTreeSet<String> {
    let pid = pid.to_string();
    let table = std::fs::read_to_string("/proc/locks").expect("the table of locks");
    let is_theirs = |line: &&str| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let inode = words
            .iter()
            .find_map(|word| word.rsplit_once(':').filter(|(file, _)| file.contains(':'))?.1.parse().ok());
        words.contains(&&*pid) && inode.is_some_and(|inode| inodes.contains(&inode))
    };
    table.lines().filter(is_theirs).filter_map(|line| Some(line.split_once(": ")?.1.to_owned())).collect()
}

fn started(role: &str, home: &Path) -> Child {
    let child = Child::start(role, &[processes::text(home)]);
    child.wait_for("ready");
    child
}

/// What a child does with the logs.
fn use_of_logs(found: &HomeHolders, child: &Child) -> DatabaseProcess {
    let logs = found.databases.iter().find(|database| database.name == "logs").expect("the domain");
    let users = logs.processes.as_ref().expect("this system tells");
    let user = users.iter().find(|user| i64::from(user.process.pid) == i64::from(child.pid()));
    user.unwrap_or_else(|| panic!("{} is not among {users:?}", child.pid())).clone()
}

fn holds(user: &DatabaseProcess, lock: DatabaseLock) -> bool {
    user.holds.as_ref().expect("this system tells").contains(&lock)
}

/// The locks of this process, as the kernel lists them, without the line's number. The kernel lists them in pieces: one
/// may be missing when a lock of somebody else is freed meanwhile, but none is ever invented.
fn own_locks() -> BTreeSet<String> {
    let own = std::process::id().to_string();
    let table = std::fs::read_to_string("/proc/locks").expect("the table of locks");
    table
        .lines()
        .filter(|line| line.split_ascii_whitespace().any(|word| word == own))
        .filter_map(|line| Some(line.split_once(": ")?.1.to_owned()))
        .collect()
}

/// Looks until the kernel lists all of them.
fn still_has(locks: &BTreeSet<String>) {
    let until = Instant::now() + Duration::from_secs(20);
    while own_locks() != *locks {
        assert!(Instant::now() < until, "{locks:?} became {:?}", own_locks());
    }
}

/// While a process is inside a write of the logs, `who` names its pid, command, program, job and lock in far less than
/// 200 ms, the reader beside it too, and the asking process's own locks on the same files stay as they are.
///
/// Scale: 1 writer, 1 reader, 4 databases; 200 looks, each compared with the table of locks before, during and after.
/// Control: SQLite tells a second connection "database is locked", and nothing else.
#[test]
fn o1_who_names_the_holder_and_touches_no_lock() {
    let _alone = alone();
    let home = processes::folder();
    let registry = RuntimeDbRegistry::new(&Home::at(home.path()));
    let (mut writer, mut reader) = (started("write", home.path()), started("read", home.path()));

    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        let found = registry.who().expect("a look");
        fastest = fastest.min(began.elapsed());
        let user = use_of_logs(&found, &writer);
        assert!(holds(&user, DatabaseLock::Write), "{user:?}");
        let binary = std::env::current_exe().expect("this binary");
        let name = binary.file_name().and_then(|name| name.to_str());
        assert_eq!(Some(&*user.process.command), name);
        assert_eq!(user.process.program.as_deref(), Some("rowhouse"), "the built-in domains name it so");
        assert_eq!(user.process.label.as_deref(), Some(LABEL));
        assert!(user.process.since.is_some() && user.process.started_at.is_some() && !user.process.stopped);
        assert!(user.open_files >= Some(3), "{user:?}");

        let user = use_of_logs(&found, &reader);
        assert!(holds(&user, DatabaseLock::Snapshot) && !holds(&user, DatabaseLock::Write), "{user:?}");
    }
    println!("the fastest of 5 looks took {fastest:?}");
    assert!(fastest < PROMISED, "{fastest:?}");

    // A look that closed a descriptor of the file would drop these locks; one that tried a lock would add some.
    let own = processes::plain(&home.path().join("logs.sqlite"));
    own.execute_batch("BEGIN; SELECT * FROM sqlite_schema").expect("a snapshot of our own");
    let mut before = own_locks();
    while before.len() < 3 {
        // The main file, the index, the snapshot.
        before = own_locks();
    }
    let done = AtomicBool::new(false);
    let compared = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut compared = 0;
            while !done.load(Ordering::Acquire) {
                let now = own_locks();
                assert!(now.is_subset(&before), "{before:?} became {now:?}");
                compared += 1;
            }
            compared
        });
        for _ in 0..200 {
            registry.who().expect("a look");
        }
        done.store(true, Ordering::Release);
        watching.join().expect("the locks stay as they are")
    });
    println!("compared {compared} times during 200 looks");
    still_has(&before);
    let found = registry.who_has("logs").expect("a look");
    assert!(found.databases.len() == 1 && holds(&use_of_logs(&found, &writer), DatabaseLock::Write));
    let ourselves = std::process::id();
    let users = found.databases[0].processes.as_ref().expect("this system tells");
    assert!(users.iter().any(|user| user.process.pid == ourselves), "this process is a user like any other");

    own.execute_batch("COMMIT").expect("ended");
    own.busy_timeout(Duration::from_millis(100)).expect("a timeout");
    let told = own.execute_batch("BEGIN IMMEDIATE").expect_err("the writer is inside").to_string();
    println!("SQLite says: {told}");
    assert_eq!(told, "database is locked");
    drop(own);

    for child in [&mut writer, &mut reader] {
        child.tell("go");
    }
    writer.finish();
    reader.finish();
    let found = registry.who().expect("a look");
    for database in found.databases {
        assert_eq!(database.processes.as_deref(), Some(&[][..]), "nobody is left in {}", database.name);
    }
}

/// A look stays one pass over the processes, however many there are.
///
/// Scale: 60 more processes (`ROWHOUSE_TEST_ROUNDS` for 300), 4 databases.
/// Control: asking for each database by itself takes a pass each.
#[test]
fn o1_who_is_one_pass_over_many_processes() {
    let _alone = alone();
    let home = processes::folder();
    drop(Runtime::open(Home::at(home.path())).expect("the home opens"));
    let crowd: Vec<_> =
        (0..processes::rounds(60)).map(|_| Child::start("sleep", &[processes::text(home.path())])).collect();
    for child in &crowd {
        child.wait_for("ready");
    }
    let registry = RuntimeDbRegistry::new(&Home::at(home.path()));
    let timed = |look: &dyn Fn()| {
        let began = Instant::now();
        look();
        began.elapsed()
    };
    let at_once = || drop(registry.who().expect("a look"));
    let one_by_one = || {
        for name in ["state", "logs", "goals", "device_keys"] {
            registry.who_has(name).expect("a look");
        }
    };
    // In turns: what else the machine does is in both. The fastest of each is what it takes.
    let (all, each) = (0..15)
        .map(|_| (timed(&at_once), timed(&one_by_one)))
        .reduce(|best, now| (best.0.min(now.0), best.1.min(now.1)))
        .expect("some looks");
    println!("{} more processes: all databases at once {all:?}, one by one {each:?}", crowd.len());
    assert!(all < PROMISED, "{all:?}");
    assert!(all < each, "at once {all:?}, one by one {each:?}");
}

/// While a process is inside a write of the logs, the doctor's check of who uses them names it as the one that has the write
/// lock, ten times of ten, in far less than 200 ms, and has no lock of any database meanwhile.
///
/// Scale: 1 writer, 1 reader, 4 databases; 10 looks in a process of its own, beside which the table of locks is read.
/// Control: the same table shows the writer's own locks at every look; and SQLite tells a second connection "database is
/// locked", and nothing else.
#[cfg(feature = "agent")]
#[test]
fn o1_the_doctor_names_the_holder_and_touches_no_lock() {
    use std::os::unix::fs::MetadataExt;

    let _alone = alone();
    let home = processes::folder();
    let (mut writer, mut reader) = (started("write", home.path()), started("read", home.path()));
    let entries = std::fs::read_dir(home.path()).expect("a list").flatten();
    let inodes: BTreeSet<u64> = entries
        .filter(|entry| entry.file_name().to_string_lossy().contains(".sqlite"))
        .map(|entry| entry.metadata().expect("it").ino())
        .collect();
    processes::once_in_three(|| {
        let doctor = Child::start("examine", &[processes::text(home.path())]);
        let pid = doctor.pid();
        let done = AtomicBool::new(false);
        let said = std::thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let (mut looks, mut theirs) = (0, BTreeSet::new());
                while !done.load(Ordering::Acquire) {
                    theirs.extend(locks_on(pid, &inodes));
                    looks += 1;
                    std::thread::park_timeout(Duration::from_millis(1));
                }
                (looks, theirs)
            });
            let said: Vec<_> =
                std::iter::from_fn(|| doctor.line()).take_while(|line| line != "done").collect();
            done.store(true, Ordering::Release);
            let (looks, theirs) = watching.join().expect("it looks on");
            println!("{looks} looks at the table of locks");
            assert!(theirs.is_empty() && looks > 10, "{theirs:?}");
            said
        });
        doctor.finish();
        assert_eq!(said.len(), 10, "{said:?}");
        println!("{}", said[0]);
        let mut fastest = Duration::MAX;
        for line in said {
            let (took, told) =
                line.strip_prefix("took ").and_then(|line| line.split_once(' ')).expect("both");
            let named = format!("(pid {}, job {LABEL}", writer.pid());
            let found = told.split("; ").find(|told| told.contains(&named));
            assert!(found.is_some_and(|told| told.ends_with("has the write lock")), "{told}");
            fastest = fastest.min(Duration::from_micros(took.parse().expect("a number")));
        }
        println!("the fastest of 10 looks took {fastest:?}");
        processes::holds(fastest < PROMISED, || format!("{fastest:?}"))
    });
    // The kernel lists them in pieces, and may leave one out.
    let seen = (0..100).any(|_| !locks_on(writer.pid(), &inodes).is_empty());
    assert!(seen, "the control: who has locks is seen with them");
    let own = processes::plain(&home.path().join("logs.sqlite"));
    own.busy_timeout(Duration::from_millis(100)).expect("a timeout");
    let told = own.execute_batch("BEGIN IMMEDIATE").expect_err("the writer is inside").to_string();
    assert_eq!(told, "database is locked");
    drop(own);
    for child in [&mut writer, &mut reader] {
        child.tell("go");
    }
    writer.finish();
    reader.finish();
}
