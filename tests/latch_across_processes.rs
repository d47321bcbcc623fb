//! After a failed write or fsync in one process no process acknowledges anything until one has recovered the database.

#![allow(clippy::disallowed_methods, reason = "a test looks at files from outside")]

mod faults;
mod processes;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use faults::{Effect, Injected, Operation};
use processes::{Child, SCHEMA, file, folder, integrity, listen, plain, role, say, seconds, text};
use rowhouse::rusqlite::{self, ffi};
use rowhouse::{
    BackupOptions, Builder, Database, Domain, Durability, ErrorKind, Home, MaintainOptions, Migration,
    Result, Runtime, Tx,
};

const INSERT: &str = "INSERT INTO item(id, job, part) VALUES (?1, 0, 0)";

fn insert(id: i64) -> impl Fn(&Tx) -> Result<()> + Send + 'static {
    move |tx| tx.execute(INSERT, [id]).map(drop)
}

fn builder(home: &Path, durability: Durability) -> Builder {
    let domain = Domain::new("work").migrations(SCHEMA).durability(durability);
    Runtime::builder(Home::at(home)).domain(domain)
}

fn open(home: &Path, durability: Durability) -> Result<Runtime> {
    builder(home, durability).open()
}

fn word<T>(answer: &Result<T>) -> String {
    answer.as_ref().map_or_else(|error| format!("{:?}", error.kind()), |_| "fine".to_owned())
}

/// What the disk does to this process.
fn broken(what: &str, file: &Path) -> Vec<Injected> {
    let log = file.with_extension("sqlite-wal");
    let fail = |operation, path: &Path, code| faults::inject(&[operation], path, Effect::Fail(code));
    match what {
        "write" => vec![fail(Operation::Write, &log, ffi::SQLITE_IOERR_WRITE)],
        "sync" => vec![
            fail(Operation::Sync, &log, ffi::SQLITE_IOERR_FSYNC),
            fail(Operation::Sync, file, ffi::SQLITE_IOERR_FSYNC),
        ],
        _ => panic!("no such trouble: {what}"),
    }
}

#[test]
fn child_entry() {
    let Some(arguments) = role() else { return };
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    faults::install();
    match &arguments[..] {
        ["obey", home, durability] => obey(Path::new(home), durability),
        ["plain", file] => {
            let connection = plain(Path::new(file));
            say(&format!("row {}", connection.execute(INSERT, [900]).is_ok()));
        }
        ["storm", home, first] => storm(Path::new(home), first.parse().expect("a number")),
        ["stuck", home] => {
            let file = file(&Path::new(home).canonicalize().expect("a home"));
            let stuck = faults::inject(&[Operation::Sync], &file, Effect::Delay(Duration::from_hours(1)));
            let home = home.to_string();
            std::thread::spawn(move || drop(open(Path::new(&home), Durability::Full)));
            while stuck.hits() == 0 {
                std::thread::yield_now();
            }
            say("inside");
            listen();
        }
        other => panic!("no such role: {other:?}"),
    }
}

/// Does what it is told, and says what came of it.
fn obey(home: &Path, durability: &str) {
    let durability = if durability == "full" { Durability::Full } else { Durability::Normal };
    let runtime = open(home, durability).expect("opened");
    let database = runtime.database("work").expect("the domain");
    let path = database.path().to_owned();
    let mut trouble = Vec::new();
    say("ready");
    loop {
        let told = listen();
        let answer = match told.split(' ').collect::<Vec<_>>()[..] {
            ["write", id] => word(&database.write(insert(id.parse().expect("a number")))),
            ["submit", id] => {
                let id = id.parse().expect("a number");
                word(&database.submit(insert(id)).and_then(rowhouse::Ticket::wait))
            }
            ["read"] => {
                word(&database.read(|at| at.row("SELECT count(*) FROM item", [], |row| row.get::<_, i64>(0))))
            }
            ["health"] => format!("{:?}", database.health()),
            ["break", what] => {
                trouble = broken(what, &path);
                "broken".to_owned()
            }
            ["mend"] => {
                trouble.clear();
                "mended".to_owned()
            }
            ["reopen"] => word(&database.reopen()),
            _ => return,
        };
        say(&format!("answer {answer}"));
    }
}

struct Obedient(Child);

impl Obedient {
    fn start(home: &Path, durability: &str) -> Self {
        let child = Child::start("obey", &[text(home), durability]);
        child.wait_for("ready");
        Self(child)
    }

    fn ask(&mut self, what: &str) -> String {
        self.0.tell(what);
        self.0.wait_for("answer")
    }

    fn until(&mut self, what: &str, wanted: &str) {
        let started = std::time::Instant::now();
        while self.ask(what) != wanted {
            assert!(started.elapsed() < Duration::from_mins(1), "{what} never answered {wanted}");
        }
    }
}

fn ids(file: &Path) -> BTreeSet<i64> {
    let connection = plain(file);
    let mut rows = connection.prepare("SELECT id FROM item").expect("a query");
    rows.query_map([], |row| row.get(0)).expect("rows").collect::<Result<_, _>>().expect("ids")
}

/// The failure is a number in a file that every process has mapped; each looks at it after COMMIT, before it answers.
///
/// Scale: two processes and a third that comes later; a failed write, and a disk on which no sync works.
///
/// Control: a plain connection commits into the same files at that very moment, and is told that all is well.
#[test]
fn no_process_acknowledges_after_the_failed_write_of_another() {
    let folder = folder();
    let home = folder.path();
    let mut one = Obedient::start(home, "normal");
    let mut other = Obedient::start(home, "normal");
    assert_eq!(one.ask("write 1"), "fine");
    assert_eq!(other.ask("write 2"), "fine");
    // At NORMAL a commit syncs nothing: without the latch the other one would notice nothing at all.
    other.ask("break sync");
    one.ask("break write");
    assert_eq!(one.ask("write 3"), "OutcomeUnknown");
    let answer = other.ask("write 4");
    assert!(["OutcomeUnknown", "Latched"].contains(&&*answer), "{answer}");
    for _ in 0..3 {
        assert_eq!(other.ask("write 5"), "Latched", "nobody could recover it");
        assert_eq!(one.ask("write 5"), "Latched");
        assert_eq!((one.ask("read"), other.ask("read")), ("fine".into(), "fine".into()), "reads go on");
    }
    let child = Child::start("plain", &[text(&file(home))]);
    assert_eq!(child.wait_for("row"), "true", "the control noticed");
    child.finish();

    other.ask("mend");
    other.until("health", "Ready");
    assert_eq!(other.ask("write 6"), "fine", "it was opened again by itself");
    assert_eq!(other.ask("submit 7"), "fine");
    assert_eq!(one.ask("write 8"), "Latched", "who failed itself stays latched until reopen()");
    one.ask("mend");
    assert_eq!(one.ask("reopen"), "fine");
    assert_eq!(one.ask("write 9"), "fine");
    assert_eq!(other.ask("write 10"), "fine");
    drop((one, other));
    let found = ids(&file(home));
    for id in [1, 2, 6, 7, 9, 10] {
        assert!(found.contains(&id), "{id} was acknowledged: {found:?}");
    }
    assert!(!found.contains(&5) && !found.contains(&8), "what was refused is not there: {found:?}");
    assert_eq!(integrity(&file(home)), "ok");
}

/// A failed fsync at FULL; the other's disk works, so it recovers the database, and goes on, in the same log.
#[test]
fn a_process_whose_disk_works_recovers_it_at_once() {
    let folder = folder();
    let home = folder.path();
    let mut one = Obedient::start(home, "full");
    let mut other = Obedient::start(home, "full");
    for id in 0..50 {
        assert_eq!(one.ask(&format!("write {id}")), "fine");
    }
    one.ask("break sync");
    assert_eq!(one.ask("submit 100"), "OutcomeUnknown");
    assert_eq!(one.ask("reopen"), "Latched", "its own disk still fails");
    assert_eq!(one.ask("read"), "fine", "what can be read is read");
    // Its writer looks once a second, or meets it at its next write.
    other.until("write 101", "fine");
    drop((one, other));
    let found = ids(&file(home));
    assert!((0..50).chain([101]).all(|id| found.contains(&id)), "{found:?}");
    assert_eq!(integrity(&file(home)), "ok");
}

/// Who is killed while it recovers the database leaves that to the next one, and the failure outlives all processes.
#[test]
fn a_recovery_that_is_killed_is_done_by_the_next_process() {
    let folder = folder();
    let home = folder.path();
    let mut one = Obedient::start(home, "full");
    assert_eq!(one.ask("write 1"), "fine");
    one.ask("break write");
    assert_eq!(one.ask("write 2"), "OutcomeUnknown");
    drop(one);
    let latch = || std::fs::read(home.join("locks/work.latch")).expect("the latch")[0];
    assert_eq!(latch(), 1, "it failed");
    let mut stuck = Child::start("stuck", &[text(home)]);
    stuck.wait_for("inside");
    stuck.kill();
    assert_eq!(latch(), 1, "and is not recovered");
    let mut other = Obedient::start(home, "full");
    assert_eq!(latch(), 2, "it is recovered");
    assert_eq!(other.ask("write 3"), "fine");
    drop(other);
    let found = ids(&file(home));
    assert!(found.contains(&1) && found.contains(&3), "{found:?}");
    assert_eq!(integrity(&file(home)), "ok");
}

/// Writes as fast as it can; says which rows were acknowledged. Its disk fails now and then.
fn storm(home: &Path, first: i64) {
    let runtime = open(home, Durability::Full).expect("opened");
    let database = runtime.database("work").expect("the domain");
    let path = database.path().to_owned();
    processes::ready();
    let until = std::time::Instant::now() + seconds(1.5);
    let (mut id, mut fine) = (first, Vec::new());
    while std::time::Instant::now() < until {
        let trouble = (id % 97 == 13).then(|| broken(if id % 2 == 0 { "write" } else { "sync" }, &path));
        match write_soon(&database, id) {
            Ok(()) => fine.push(id),
            Err(_) if trouble.is_some() => {
                drop(trouble);
                let _ = database.reopen();
            }
            Err(_) => {}
        }
        id += 1;
    }
    for id in &fine {
        say(&format!("fine {id}"));
    }
    say(&format!("tried {}", id - first));
}

fn write_soon(database: &Database, id: i64) -> Result<()> {
    database.clone().within(Duration::from_millis(500)).write(insert(id))
}

/// Whatever was acknowledged by anybody is there in the end, once, and the file is whole.
///
/// Scale: three processes for 1.5 s (`ROWHOUSE_TEST_SECONDS`), each with a disk that fails at every 97th write.
#[test]
fn processes_whose_disks_fail_in_turn_lose_nothing() {
    let folder = folder();
    drop(open(folder.path(), Durability::Full).expect("created"));
    let firsts = ["1000000", "2000000", "3000000"];
    let mut children = firsts.map(|first| Child::start("storm", &[text(folder.path()), first]));
    processes::start_together(&mut children);
    let mut acknowledged = BTreeSet::new();
    let mut tried = 0;
    for child in children {
        let (said, status) = child.end();
        assert!(status.success(), "{status}");
        for line in said {
            match line.split_once(' ') {
                Some(("fine", id)) => drop(acknowledged.insert(id.parse::<i64>().expect("an id"))),
                Some(("tried", count)) => tried += count.parse::<usize>().expect("a count"),
                _ => {}
            }
        }
    }
    println!("{} of {tried} acknowledged", acknowledged.len());
    assert!(!acknowledged.is_empty());
    let found = ids(&file(folder.path()));
    assert!(acknowledged.is_subset(&found), "{:?}", acknowledged.difference(&found));
    assert_eq!(integrity(&file(folder.path())), "ok");
}

/// A home with a row in the log of its database, closed as by a process that was killed; and the database's file.
fn with_a_log() -> (tempfile::TempDir, std::path::PathBuf) {
    faults::install();
    let home = folder();
    drop(open(home.path(), Durability::Full).expect("created"));
    let file = file(&home.path().canonicalize().expect("a home"));
    let connection = plain(&file);
    connection
        .set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .and_then(|_| connection.execute(INSERT, [1]))
        .expect("a row in the log");
    drop(connection);
    assert!(log_bytes(&file) > 0);
    (home, file)
}

fn log_bytes(file: &Path) -> u64 {
    std::fs::metadata(file.with_extension("sqlite-wal")).map_or(0, |found| found.len())
}

fn latch(home: &Path) -> u8 {
    std::fs::read(home.join("locks/work.latch")).expect("the latch")[0]
}

/// As if a process had failed that is not there any more.
fn fail_elsewhere(home: &Path) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().write(true).open(home.join("locks/work.latch")).expect("the latch");
    let odd = latch(home) + 1;
    file.write_all_at(&[odd], 0).expect("written");
}

fn maintain(home: &Path) -> Result<()> {
    builder(home, Durability::Full).maintain(&MaintainOptions::default(), &mut |_| {}).map(drop)
}

fn compact(home: &Path) -> Result<()> {
    builder(home, Durability::Full).compact(&MaintainOptions::default(), &mut |_| {}).map(drop)
}

/// Maintaining and compacting work a log off, so a failed fsync of theirs counts as much as a writer's; and before they do
/// it, they recover what failed before.
///
/// Scale: each of the two calls, on a disk that fails and on one that works again.
///
/// Control: a plain checkpoint into the same files at that moment is told that all is well.
#[test]
fn maintaining_and_compacting_look_at_the_latch_and_raise_it() {
    for call in [maintain, compact] {
        let (home, file) = with_a_log();
        let home = home.path();
        let broken = broken("sync", &file);
        let error = call(home).expect_err("the disk fails");
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert_eq!(latch(home), 1, "all are told");
        let error = call(home).expect_err("the disk still fails");
        assert_eq!(error.kind(), ErrorKind::Latched, "{error}");
        assert_eq!(latch(home), 1);
        drop(broken);
        let connection = plain(&file);
        connection
            .set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .expect("known");
        connection
            .query_row("PRAGMA wal_checkpoint", [], |row| row.get::<_, i64>(0))
            .expect("the control notices nothing");
        drop(connection);
        call(home).expect("recovered, and done");
        assert_eq!(latch(home), 2);
        assert_eq!((ids(&file), integrity(&file)), (BTreeSet::from([1]), "ok".to_owned()));
    }
}

/// Beside a program that writes: what maintenance failed at is recovered by the program, which goes on by itself.
#[test]
fn a_program_goes_on_after_maintenance_beside_it_failed() {
    let (home, file) = with_a_log();
    let home = home.path();
    let mut other = Obedient::start(home, "full");
    assert_eq!(other.ask("write 2"), "fine");
    let broken = broken("sync", &file);
    maintain(home).expect_err("the disk fails here");
    drop(broken);
    other.until("write 3", "fine");
    assert_eq!(latch(home), 2, "it was recovered");
    drop(other);
    assert_eq!(ids(&file), BTreeSet::from([1, 2, 3]));
}

/// A backup writes nothing: it is made also while the disk of the home fails, and recovers the database where it can.
#[test]
fn a_backup_is_made_while_the_disk_fails() {
    let (home, file) = with_a_log();
    let home = home.path();
    fail_elsewhere(home);
    let out = folder();
    let backup = |name: &str| {
        let options = BackupOptions::to(out.path().join(name));
        builder(home, Durability::Full).backup(&options, &mut |_| {}).expect("a backup");
        assert_eq!(ids(&out.path().join(name).join("work.sqlite")), BTreeSet::from([1]));
    };
    let broken = broken("sync", &file);
    backup("a");
    assert_eq!(latch(home), 1, "nobody could recover it");
    drop(broken);
    backup("b");
    assert_eq!(latch(home), 2);
}

/// A migration whose COMMIT fails is told to all, and done by the next one that opens the database.
#[test]
fn a_failed_migration_raises_the_latch() {
    const NEWER: &[Migration] = &[SCHEMA[0], Migration { name: "V2__more", sql: "CREATE TABLE more(a);" }];
    let (home, file) = with_a_log();
    let newer = || {
        let domain = Domain::new("work").migrations(NEWER).durability(Durability::Full);
        Runtime::builder(Home::at(home.path())).domain(domain).open()
    };
    let broken = broken("sync", &file);
    let error = newer().map(drop).expect_err("the disk fails");
    assert_eq!((error.kind(), latch(home.path())), (ErrorKind::Io, 1), "{error}");
    drop(broken);
    drop(newer().expect("recovered, and migrated"));
    assert_eq!(latch(home.path()), 2);
    plain(&file).query_row("SELECT count(*) FROM more", [], |_| Ok(())).expect("a table");
}

/// Who closes the last connection works the log off: when that fails all are told, and after a failure of somebody else it
/// is left to whoever recovers the database.
///
/// Control: a plain connection that is closed last says nothing, and empties the log at the next try.
#[test]
fn closing_looks_at_the_latch_and_raises_it() {
    let (home, file) = with_a_log();
    let home = home.path();
    let runtime = open(home, Durability::Full).expect("opened");
    let trouble = broken("sync", &file);
    drop(runtime);
    assert_eq!(latch(home), 1, "all are told");
    drop(trouble);
    assert!(log_bytes(&file) > 0, "the log is there");
    drop(open(home, Durability::Full).expect("recovered"));
    assert_eq!(latch(home), 2);

    let runtime = open(home, Durability::Full).expect("opened");
    runtime.database("work").expect("the domain").write(insert(2)).expect("acknowledged");
    fail_elsewhere(home);
    drop(runtime);
    assert!(log_bytes(&file) > 0, "an fsync would have answered that all is well");
    drop(open(home, Durability::Full).expect("recovered"));
    assert_eq!(latch(home), 4);
    assert_eq!(ids(&file), BTreeSet::from([1, 2]));

    let (_home, file) = with_a_log();
    let trouble = broken("sync", &file);
    drop(plain(&file).query_row("SELECT count(*) FROM item", [], |_| Ok(())));
    drop(trouble);
    drop(plain(&file).query_row("SELECT count(*) FROM item", [], |_| Ok(())));
    assert_eq!(log_bytes(&file), 0, "the control emptied it");
}
