//! Every failure says its class, its database, its file, and the step that helps; a backup is brought up for a damaged
//! file only.

#![cfg(all(target_os = "linux", feature = "agent"))]
#![allow(clippy::disallowed_methods, reason = "a test prepares files from outside")]

mod common;
mod examined;
mod faults;
mod processes;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::{ENDLESS_QUERY, LONG, gave_up};
use examined::{copy_home, examine, notable, offers_repair, row};
use faults::{Effect, Operation, inject};
use processes::{BUILT_IN, Child};
use rowhouse::doctor::{Check, Report, Status};
use rowhouse::rusqlite::{Connection, ffi};
use rowhouse::{Domain, Error, ErrorKind, Health, Home, Migration, OnDamage, Runtime};

/// A user who owns nothing.
const NOBODY: u32 = 65534;
/// What brings an older file back: no way out of a lock, a deadline, a full disk, or a version.
const FOR_DAMAGE_ONLY: [&str; 6] =
    ["repair", "restore it", "from a backup", "quarantine", "rebuild", "salvage"];

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match &arguments[..] {
        [role, file] if role == "hold" => processes::hold(file.as_ref()),
        [role, home] if role == "examine as nobody" => {
            become_nobody();
            processes::say(&serde_json::to_string(&examine(home.as_ref())).expect("JSON"));
        }
        [role, home, name] if role == "nobody" => {
            become_nobody();
            let error = failure(home.as_ref(), name);
            processes::say(&format!(
                "{}\t{}\t{}\t{error}",
                error.kind().as_str(),
                error.database().unwrap_or_default(),
                error.path().map(|path| path.display().to_string()).unwrap_or_default(),
            ));
        }
        _ => panic!("a role and its arguments: {arguments:?}"),
    }
}

/// Root may read and write everything, so its children become somebody else.
fn is_root() -> bool {
    // SAFETY: geteuid(2) cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// File modes count for everybody but root.
fn become_nobody() {
    if is_root() {
        // SAFETY: setuid(2) of a process that does nothing else; the harness's other thread only waits.
        assert_eq!(unsafe { libc::setuid(NOBODY) }, 0, "{}", std::io::Error::last_os_error());
    }
}

/// A settled home that is not open, and the file of one of its databases.
struct Place {
    folder: tempfile::TempDir,
    name: &'static str,
}

impl Place {
    fn new(name: &'static str) -> Self {
        // Made once for each database; every test breaks a copy.
        static SETTLED: Mutex<BTreeMap<&str, Place>> = Mutex::new(BTreeMap::new());
        let mut settled = SETTLED.lock().unwrap_or_else(PoisonError::into_inner);
        let from = settled.entry(name).or_insert_with(|| {
            let place = Self { folder: processes::folder(), name };
            place.settle();
            place
        });
        let place = Self { folder: processes::folder(), name };
        copy_home(&from.home(), &place.home());
        place
    }

    fn settle(&self) {
        let runtime = Runtime::open(Home::at(self.home())).expect("created");
        write(&runtime, self.name).expect("it works");
        runtime.close(LONG);
    }

    fn home(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("the folder")
    }

    fn file(&self) -> PathBuf {
        self.home().join(format!("{}.sqlite", self.name))
    }

    fn beside(&self, ending: &str) -> PathBuf {
        PathBuf::from(format!("{}{ending}", self.file().display()))
    }

    /// Changes the database as a program that knows nothing of the library.
    fn by_hand(&self, sql: &str) {
        processes::plain(&self.file()).execute_batch(sql).expect(sql);
    }
}

fn write(runtime: &Runtime, name: &str) -> rowhouse::Result<()> {
    let database = runtime.database(name)?.within(LONG);
    database.read(|at| at.row("SELECT count(*) FROM rowhouse_meta", [], |row| row.get::<_, i64>(0)))?;
    database.write(|tx| {
        tx.execute("CREATE TABLE IF NOT EXISTS mark(n NOT NULL)", [])?;
        tx.execute("INSERT INTO mark VALUES (zeroblob(20000))", [])
    })?;
    Ok(())
}

/// What a program that opens the home and uses the database meets, and that leaves damage where it is. A best-effort
/// database answers with its reason when it is used.
fn failure(home: &Path, name: &str) -> Error {
    let domains = [Domain::state(), Domain::logs(), Domain::goals(), Domain::device_keys()];
    let builder = domains
        .into_iter()
        .fold(Runtime::builder(Home::at(home)), |all, domain| all.domain(domain.on_damage(OnDamage::Refuse)));
    let runtime = match builder.open() {
        Ok(runtime) => runtime,
        Err(error) => return error,
    };
    let error = write(&runtime, name).expect_err("it must fail");
    runtime.close(Duration::ZERO);
    error
}

/// Class, database, file and next step; nothing that would make it worse.
fn check(case: &str, error: &Error, kind: ErrorKind, name: &str, file: &Path) {
    println!("{case}: {error}");
    let told = error.to_string();
    assert_eq!(error.kind(), kind, "{case}: {told}");
    assert_eq!(error.database(), Some(name), "{case}: {told}");
    assert_eq!(error.path(), Some(file), "{case}: {told}");
    assert!(told.contains(name) && told.contains(&file.display().to_string()), "{case}: {told}");
    assert!(error.advice().is_some_and(|advice| told.contains(advice)), "{case}: {told}");
    for other in BUILT_IN.iter().filter(|other| **other != name) {
        assert!(!told.contains(&format!("{other}.sqlite")), "{case} names {other}: {told}");
    }
    only_damage_asks_for_a_backup(case, error);
}

fn only_damage_asks_for_a_backup(case: &str, error: &Error) {
    let told = error.to_string().to_lowercase();
    let asks = FOR_DAMAGE_ONLY.iter().any(|word| told.contains(word));
    assert_eq!(asks, error.kind() == ErrorKind::Corrupt, "{case}: {told}");
}

/// A failure that is prepared on a closed home.
type Broken = (&'static str, ErrorKind, &'static str, fn(&Place), Which);
/// A file of it.
type Which = fn(&Place) -> PathBuf;

const BROKEN: &[Broken] = &[
    (
        "a text in its place",
        ErrorKind::Corrupt,
        "not an SQLite database",
        |place| {
            let _ = fs::remove_file(place.beside("-wal"));
            fs::write(place.file(), "a text ".repeat(9000)).expect("written");
        },
        Place::file,
    ),
    (
        "flipped bytes",
        ErrorKind::Corrupt,
        "malformed",
        |place| {
            let mut bytes = fs::read(place.file()).expect("its bytes");
            // The cells of the schema's first page; its header stays.
            bytes[100..4096].iter_mut().for_each(|byte| *byte ^= 0x5a);
            fs::write(place.file(), bytes).expect("written");
        },
        Place::file,
    ),
    (
        "a folder in its place",
        ErrorKind::Invalid,
        "folder",
        |place| {
            fs::remove_file(place.file()).expect("removed");
            fs::create_dir(place.file()).expect("a folder");
        },
        Place::file,
    ),
    (
        "a folder in the log's place",
        ErrorKind::Invalid,
        "folder",
        |place| {
            let _ = fs::remove_file(place.beside("-wal"));
            fs::create_dir(place.beside("-wal")).expect("a folder");
        },
        |place| place.beside("-wal"),
    ),
    (
        "a newer schema",
        ErrorKind::SchemaTooNew,
        "install other 9.9",
        |place| {
            place.by_hand(
                "INSERT INTO refinery_schema_history VALUES (99, 'future', '2030-01-01', '1');
                 UPDATE rowhouse_meta SET schema_version = 99, oldest_reader = 99, oldest_writer = 99,
                                          program = 'other', program_version = '9.9'",
            );
        },
        Place::file,
    ),
    (
        "a database of another program",
        ErrorKind::Conflict,
        "another program",
        |place| place.by_hand("PRAGMA application_id = 7"),
        Place::file,
    ),
];

fn broken(name: &'static str) {
    for (case, kind, word, prepare, file) in BROKEN {
        let place = Place::new(name);
        prepare(&place);
        let error = failure(&place.home(), name);
        check(case, &error, *kind, name, &file(&place));
        assert!(error.to_string().contains(word), "{case}: {error}");
    }
}

/// A file that this user may not write, not read, and a folder in which it may create nothing.
fn not_permitted(name: &'static str) {
    let cases: [(&str, Which, u32); 3] = [
        ("may not be written", Place::file, 0o400),
        ("may not be read", Place::file, 0o000),
        ("the log may not be read", |place| place.beside("-wal"), 0o000),
    ];
    for (case, of, mode) in cases {
        let place = Place::new(name);
        chmod(&place, &of(&place), mode);
        let child = Child::start("nobody", &[processes::text(&place.home()), name]);
        let told = child.line().expect("an answer");
        println!("{case}: {told}");
        let words: Vec<_> = told.splitn(4, '\t').collect();
        assert_eq!(words[..2], ["read_only", name], "{case}: {told}");
        assert!(words[2].starts_with(processes::text(&place.file())), "{case}: {told}");
        assert!(told.contains("permission") || told.contains("may"), "{case}: {told}");
        assert!(!FOR_DAMAGE_ONLY.iter().any(|word| told.contains(word)), "{case}: {told}");
        child.finish();
    }
}

/// Gives it to the user who owns nothing, and takes rights on one of its files away.
fn chmod(place: &Place, file: &Path, mode: u32) {
    if is_root() {
        let all = Command::new("chown").arg("-R").arg(NOBODY.to_string()).arg(place.home()).status();
        assert!(all.expect("chown").success());
    }
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("a mode");
}

fn busy(name: &'static str) {
    let place = Place::new(name);
    let runtime = Runtime::open(Home::at(place.home())).expect("opened");
    write(&runtime, name).expect("attached");
    let child = Child::start("hold", &[processes::text(&place.file())]);
    child.wait_for("holding");
    let database = runtime.database(name).expect("it").within(Duration::from_millis(100));
    let refused = || {
        let error = database.write(|tx| tx.execute("DELETE FROM mark", [])).expect_err("the lock is held");
        check("a held lock", &error, ErrorKind::Busy, name, &place.file());
        error
    };
    // The kernel writes its table of locks page by page and may skip one while others come and go.
    let error = (0..10).map(|_| refused()).find(|error| error.holder().is_some());
    let error = error.expect("the holder is named");
    let holder = error.holder().expect("just seen");
    assert_eq!(i64::from(holder.pid), i64::from(child.pid()), "{error}");
    assert!(error.retry_after().is_some() && error.is_transient(), "{error}");
    child.finish();
    runtime.close(LONG);
}

/// A file system of two mebibytes, where this user may make one.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn mount() -> Option<Self> {
        let folder = processes::folder();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(folder.path());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(folder))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

fn full(name: &'static str) {
    let Some(disk) = Tiny::mount() else {
        println!("a full disk: not run, this user may mount nothing");
        return;
    };
    let home = disk.0.path().canonicalize().expect("the folder").join("home");
    let runtime = Runtime::open(Home::at(&home)).expect("room enough");
    write(&runtime, name).expect("room enough");
    let ballast = home.with_file_name("ballast");
    let mut size = 2 << 20;
    while fs::write(&ballast, vec![1; size]).is_err() {
        size -= 4096;
    }
    let insert = "INSERT INTO mark VALUES (zeroblob(200000))";
    let error = runtime.database(name).expect("it").write(|tx| tx.execute(insert, [])).expect_err("no room");
    check("a full disk", &error, ErrorKind::Full, name, &home.join(format!("{name}.sqlite")));
    assert!(error.advice().is_some_and(|advice| advice.contains("space")), "{error}");
    runtime.close(Duration::from_secs(1));
}

/// A migration whose text was changed hinders nobody; it is told by name.
fn changed_migration(name: &'static str) {
    let place = Place::new(name);
    place.by_hand("UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1");
    let runtime = Runtime::open(Home::at(place.home())).expect("it opens");
    write(&runtime, name).expect("it works");
    let warnings = runtime.database(name).expect("it").warnings();
    println!("a changed migration: {warnings:?}");
    assert!(
        // The second is the table that this test made.
        matches!(&warnings[..], [told, _] if told.contains("V1__") && told.contains("changed")),
        "{warnings:?}"
    );
    assert!(!FOR_DAMAGE_ONLY.iter().any(|word| warnings[0].contains(word)), "{warnings:?}");
    assert_eq!(runtime.database(name).expect("it").health(), Health::Ready);
    runtime.close(LONG);
}

/// The classes that need no broken file, and the words of each.
fn at_run_time(name: &'static str) {
    let place = Place::new(name);
    let runtime = Runtime::open(Home::at(place.home())).expect("opened");
    write(&runtime, name).expect("attached");
    let database = runtime.database(name).expect("it");
    let soon = database.clone().within(Duration::from_millis(30));
    let run = |sql: &'static str| database.write(move |tx| tx.execute(sql, [])).expect_err(sql);
    let endless = |tx: &rowhouse::Tx| tx.row(ENDLESS_QUERY, [], |row| row.get::<_, i64>(0));
    let from_inside = || {
        let inner = database.clone();
        database.write(move |_| inner.write(|_| Ok(()))).expect_err("from inside a job")
    };
    let panics = || database.write(|_| -> rowhouse::Result<()> { panic!("a job that panics") });
    let missing =
        |tx: &rowhouse::Snapshot| tx.row("SELECT n FROM mark WHERE n = 7", [], |row| row.get::<_, i64>(0));
    let cases = [
        (ErrorKind::Timeout, soon.write(endless).expect_err("too late")),
        (ErrorKind::Invalid, run("SELECT nothing FROM nowhere")),
        (ErrorKind::Constraint, run("INSERT INTO mark VALUES (NULL)")),
        (ErrorKind::Unsupported, run("PRAGMA user_version = 3")),
        (ErrorKind::NotFound, database.read(missing).expect_err("no row")),
        (ErrorKind::Reentrant, from_inside()),
        (ErrorKind::Job, database.write(|_| gave_up::<()>()).expect_err("it gave up")),
        (ErrorKind::Panicked, panics().expect_err("it panicked")),
    ];
    for (kind, error) in &cases {
        println!("{}: {error}", kind.as_str());
        assert_eq!(error.kind(), *kind, "{error}");
        assert_eq!(error.database(), Some(name), "{error}");
        only_damage_asks_for_a_backup(kind.as_str(), error);
    }

    // Another file in its place; then closed.
    fs::rename(place.file(), place.beside(".moved")).expect("renamed");
    let replaced = run("DELETE FROM mark");
    check("a file that was moved away", &replaced, ErrorKind::Replaced, name, &place.file());
    runtime.close(LONG);
    let closed = run("DELETE FROM mark");
    assert_eq!(closed.database(), Some(name), "{closed}");
    only_damage_asks_for_a_backup("closed", &closed);
}

/// What SQLite alone says of the same failures: no database, no file.
fn plain_words() -> Vec<String> {
    let place = Place::new("goals");
    let plain = |file: &Path| -> String {
        let connection = Connection::open(file).expect("lazily");
        connection.busy_timeout(Duration::ZERO).expect("a timeout");
        let written = connection.execute_batch("CREATE TABLE IF NOT EXISTS mark(n); DELETE FROM mark");
        written.expect_err("it must fail").to_string()
    };
    let child = Child::start("hold", &[processes::text(&place.file())]);
    child.wait_for("holding");
    let mut words = vec![plain(&place.file())];
    child.finish();
    for (_, _, _, prepare, _) in &BROKEN[..2] {
        let place = Place::new("goals");
        prepare(&place);
        words.push(plain(&place.file()));
    }
    words
}

/// Each failure is told as what it is: its class, the database and the file that failed (not the first one of the home),
/// who holds it, and the step that helps; bringing a backup back is advised for damage only.
///
/// Scale: the four databases x 6 broken files, 3 permissions, a held lock, a full disk, a newer schema, a changed
/// migration, and the classes that a job can meet.
/// Control: what SQLite itself says of a held, a damaged and a foreign file names neither database nor file.
#[test]
fn s9_each_failure_is_named() {
    for name in BUILT_IN {
        broken(name);
        not_permitted(name);
        busy(name);
        full(name);
        changed_migration(name);
        at_run_time(name);
    }
    for words in plain_words() {
        println!("plain: {words}");
        assert!(!words.contains("goals") && !words.contains('/'), "{words}");
    }
}

/// A declaration that does not fit is the program's own mistake, and is told as one.
#[test]
fn a_wrong_declaration_is_invalid_and_names_the_domain() {
    let folder = processes::folder();
    let wrong = Domain::new("cache").migrations(&[Migration { name: "first", sql: "SELECT 1" }]);
    let error =
        Runtime::builder(Home::at(folder.path())).domain(wrong).open().map(drop).expect_err("misnamed");
    assert_eq!((error.kind(), error.database()), (ErrorKind::Invalid, Some("cache")), "{error}");
    only_damage_asks_for_a_backup("a wrong declaration", &error);
}

/// The doctor's row: nothing else is notable, and it has the class, the file and a way out. Only damage is repaired.
fn tells(case: &str, report: &Report, id: &str, kind: ErrorKind, file: &Path, words: &str) {
    assert_eq!(notable(report), [id], "{case}: {:#?}", report.notable());
    let check = row(report, id);
    println!(
        "{case}: {}: {} / {}",
        check.id,
        check.summary,
        check.remediation.as_deref().unwrap_or_default()
    );
    assert_eq!(examined::text(check, "kind"), kind.as_str(), "{case}: {check:#?}");
    assert!(examined::text(check, "path").ends_with(processes::text(file)), "{case}: {check:#?}");
    let told = format!("{check:?}");
    assert!(told.contains(words), "{case}: {words}: {check:#?}");
    assert!(check.remediation.is_some(), "{case}: {check:#?}");
    assert_eq!(offers_repair(check), kind == ErrorKind::Corrupt, "{case}: {check:#?}");
    for other in BUILT_IN.iter().filter(|other| !id.starts_with(*other) && id != "disk.space") {
        assert!(!told.contains(&format!("{other}.sqlite")), "{case} names {other}: {check:#?}");
    }
}

/// The row that tells each of [`BROKEN`].
fn row_of(case: &str) -> &'static str {
    match case {
        "a text in its place" | "flipped bytes" | "a folder in the log's place" => "open",
        "a folder in its place" => "file",
        "a newer schema" => "schema",
        "a database of another program" => "stamp",
        other => panic!("no row is known for {other}"),
    }
}

fn the_doctor_on_broken_files(name: &'static str) {
    for (case, kind, _, prepare, file) in BROKEN {
        let place = Place::new(name);
        prepare(&place);
        let id = format!("{name}.{}", row_of(case));
        tells(case, &examine(&place.home()), &id, *kind, &file(&place), "");
    }
    // Damage that is found when the file is read, not when it is opened.
    let place = Place::new(name);
    let root: i64 = processes::plain(&place.file())
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'mark'", [], |row| row.get(0))
        .expect("the table");
    let mut bytes = fs::read(place.file()).expect("its bytes");
    let at = usize::try_from(root - 1).expect("a page") * 4096;
    bytes[at..at + 4096].fill(0xA5);
    fs::write(place.file(), bytes).expect("written");
    let id = format!("{name}.integrity");
    tells("a damaged page", &examine(&place.home()), &id, ErrorKind::Corrupt, &place.file(), "mark");
}

fn the_doctor_on_what_may_not_be_used(name: &'static str) {
    for (case, mode) in [("may not be written", 0o400), ("may not be read", 0o000)] {
        let place = Place::new(name);
        chmod(&place, &place.file(), mode);
        // A user of its own: another one's settings may not be read.
        let (home, nowhere) = (place.home(), ("XDG_CONFIG_HOME", "/nowhere"));
        let child = Child::start_in("examine as nobody", &[processes::text(&home)], &[nowhere]);
        let told: serde_json::Value =
            serde_json::from_str(&child.line().expect("an answer")).expect("a report");
        child.finish();
        let row = &told["checks"][format!("{name}.file")];
        println!("{case}: {}", row["summary"]);
        assert_eq!(
            (&row["status"], &row["details"]["kind"]),
            (&"fail".into(), &"read_only".into()),
            "{row:#}"
        );
        assert_eq!(row["details"]["path"], processes::text(&place.file()), "{row:#}");
        assert!(row["remediation"].as_str().is_some_and(|way| way.contains("chmod")), "{row:#}");
        assert!(!row.to_string().contains("repair"), "{row:#}");
        assert_eq!(told["counts"]["fail"], 1, "{told:#}");
    }
    let place = Place::new(name);
    let no_file = inject(&[Operation::Open], place.file(), Effect::Fail(ffi::SQLITE_CANTOPEN));
    let id = format!("{name}.open");
    tells("it cannot be opened", &examine(&place.home()), &id, ErrorKind::Io, &place.file(), "");
    drop(no_file);
}

fn the_doctor_on_a_held_lock(name: &'static str) {
    let place = Place::new(name);
    let child = Child::start("hold", &[processes::text(&place.file())]);
    child.wait_for("holding");
    let named = format!("(pid {}", child.pid());
    let id = format!("{name}.write");
    tells("a held lock", &examine(&place.home()), &id, ErrorKind::Busy, &place.file(), &named);
    child.stop();
    let report = examine(&place.home());
    tells("a stopped holder", &report, &id, ErrorKind::Busy, &place.file(), &named);
    assert!(row(&report, &id).fixes.iter().any(|fix| fix.command.starts_with("kill -CONT")), "{report:#?}");
}

/// The disk has no room for anybody: one row says so, and the row of the database that met it counts it.
fn the_doctor_on_a_full_disk(name: &'static str) {
    let Some(disk) = Tiny::mount() else {
        println!("a full disk: not run, this user may mount nothing");
        return;
    };
    let home = disk.0.path().canonicalize().expect("the folder").join("home");
    let runtime = Runtime::open(Home::at(&home)).expect("room enough");
    write(&runtime, name).expect("room enough");
    let ballast = home.with_file_name("ballast");
    let mut size = 2 << 20;
    while fs::write(&ballast, vec![1; size]).is_err() {
        size -= 4096;
    }
    let insert = "INSERT INTO mark VALUES (zeroblob(200000))";
    runtime.database(name).expect("it").write(|tx| tx.execute(insert, [])).expect_err("no room");
    let report = examine(&home);
    let counted = row(&report, &format!("{name}.counts"));
    assert!(counted.evidence.iter().any(|told| told == "errors: full 1"), "{counted:#?}");
    let shed: Vec<_> = notable(&report).into_iter().filter(|id| *id != "disk.space").collect();
    // Logs are refused before the disk is full to the last byte, and say how many were.
    assert!(shed.iter().all(|id| *id == "logs.counts"), "{:#?}", report.notable());
    let check = row(&report, "disk.space");
    println!("a full disk: {} / {:?}", check.summary, check.remediation);
    assert_eq!((check.status, examined::text(check, "kind")), (Status::Fail, "full"), "{check:#?}");
    assert!(check.remediation.as_deref().is_some_and(|way| way.contains("free some space")), "{check:#?}");
    assert!(report.checks.iter().all(|check: &Check| !offers_repair(check)), "{report:#?}");
    runtime.close(Duration::from_secs(1));
}

fn the_doctor_on_a_changed_migration(name: &'static str) {
    let place = Place::new(name);
    place.by_hand("UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1");
    let id = format!("{name}.schema");
    let report = examine(&place.home());
    tells("a changed migration", &report, &id, ErrorKind::Conflict, &place.file(), "V1__");
    assert_eq!(row(&report, &id).status, Status::Warning);
}

/// What is wrong with a database is one row of the doctor, under that database's name: with the class that a program meets,
/// the file, and the way out; a repair is offered for a damaged file and for what is no database, and for nothing else.
///
/// Scale: the four databases x 7 broken files, 3 that may not be used, a held lock, a full disk, a changed migration.
/// Control: what SQLite alone says of the same files names neither database nor file, and to a program that does not look
/// for it a newer schema and a changed migration are no failure.
#[test]
fn s9_the_doctor_tells_class_file_and_way_out() {
    for name in BUILT_IN {
        let place = Place::new(name);
        let report = examine(&place.home());
        assert!(notable(&report).is_empty(), "{:#?}", report.notable());
        the_doctor_on_broken_files(name);
        the_doctor_on_what_may_not_be_used(name);
        the_doctor_on_a_held_lock(name);
        the_doctor_on_a_full_disk(name);
        the_doctor_on_a_changed_migration(name);
    }
    for words in plain_words() {
        assert!(!words.contains("goals") && !words.contains('/'), "{words}");
    }
    let place = Place::new("goals");
    let (_, _, _, newer, _) =
        BROKEN.iter().find(|(case, ..)| *case == "a newer schema").expect("it is there");
    newer(&place);
    place.by_hand("UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1");
    place.by_hand("INSERT INTO mark VALUES (2)");
}
