//! The doctor names what is broken, and only that: each thing is broken in turn, in a home where all else is well.

#![cfg(all(target_os = "linux", feature = "agent"))]
#![allow(clippy::disallowed_methods, reason = "a test breaks files from outside")]

mod common;
#[path = "processes/confined.rs"]
mod confined;
mod examined;
mod processes;
mod small_disk;
mod transcripts;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use common::LONG;
use examined::{copy_home, examine, names_only, notable, options, row};
use processes::{BUILT_IN, Child, sparse};
use rowhouse::doctor::{self, Detail, Report, Status};
use rowhouse::stores::backfill::Reread;
use rowhouse::{BackupOptions, Domain, ErrorKind, Home, MaintainOptions, RestoreOptions, Runtime};
use small_disk::SmallDisk;

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match &arguments[..] {
        [role, file] if role == "hold" => processes::hold(file.as_ref()),
        [role, file] if role == "open" => {
            let connection = processes::plain(file.as_ref());
            let rows =
                connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
            rows.expect("a read");
            processes::say("ready");
            processes::listen();
        }
        // May do less than others when it opens the file.
        [role, file] if role == "few files" => limited(libc::RLIMIT_NOFILE, 64, file.as_ref()),
        [role, file] if role == "short files" => limited(libc::RLIMIT_FSIZE, 8 << 20, file.as_ref()),
        [role, file] if role == "all files" => limited(libc::RLIMIT_NOFILE, 300, file.as_ref()),
        [role, file] if role == "lock" => {
            let lock =
                fs::File::options().write(true).create(true).truncate(false).open(file).expect("the file");
            lock.lock().expect("nobody has it");
            processes::say("ready");
            processes::listen();
        }
        // As a program that loads the system's SQLite, an old one.
        [role, file] if role == "old" => {
            let folder = processes::folder();
            let library = folder.path().join("libsqlite3.so.0.8.6");
            fs::write(&library, [&[0; 4096][..], b"\x003.46.1\0", &[0; 4096]].concat()).expect("written");
            let library = fs::File::open(library).expect("it");
            // SAFETY: nobody changes or shortens this file of our own, and nothing is read from the mapping.
            let _loaded = unsafe { memmap2::Mmap::map(&library) }.expect("mapped");
            let connection = processes::plain(file.as_ref());
            let rows =
                connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
            rows.expect("a read");
            processes::say("ready");
            processes::listen();
        }
        [role, file] if role == "keep" => {
            let _kept = fs::File::open(file).expect("the file");
            processes::say("ready");
            processes::listen();
        }
        [role, home] if role == "see mounted" || role == "see as a user" || role == "see hidden" => {
            let home = Path::new(home);
            match &**role {
                "see mounted" => confined::mount_read_only(home),
                "see hidden" => confined::hide_processes(),
                _ => {}
            }
            if role != "see mounted" && confined::is_root() {
                confined::become_user();
            }
            let report = examine(home);
            processes::say(&format!("notable {}", notable(&report).join(" ")));
            let unchecked = report.checks.iter().filter(|check| check.summary.starts_with("not checked: "));
            processes::say(&format!(
                "unchecked {}",
                unchecked.map(|check| &*check.id).collect::<Vec<_>>().join(" ")
            ));
            let access = row(&report, "home.access");
            processes::say(&format!("access {}", access.remediation.as_deref().unwrap_or_default()));
            if report.check("goals.holders").is_none() {
                return;
            }
            let holders = row(&report, "goals.holders");
            processes::say(&format!("holders {} {}", holders.summary, holders.evidence.join(" ")));
        }
        // A program whose callers ask for more than is written.
        [role, home] if role == "jam" || role == "jam itself" => {
            let runtime = Runtime::builder(Home::at(home)).domain(Domain::goals()).open().expect("it opens");
            let goals = runtime.database("goals").expect("it").within(LONG);
            let (tell, told) = std::sync::mpsc::channel::<()>();
            let is_stuck = role == "jam itself";
            let first = goals.submit(move |_| {
                // Until it is told to go on.
                if is_stuck {
                    let _ = told.recv();
                }
                Ok(())
            });
            let mut tickets = vec![first.expect("queued")];
            common::until("the writer has the first", || goals.stats().queued == 0);
            tickets.extend((0..1_100).map(|_| goals.submit(|_| Ok(())).expect("queued")));
            processes::say("ready");
            processes::listen();
            drop(tell);
            for ticket in tickets {
                ticket.wait().expect("it runs when the way is free");
            }
            processes::say("drained");
            processes::listen();
            runtime.close(LONG);
        }
        _ => panic!("a role and a file: {arguments:?}"),
    }
}

/// Opens the file with a limit; with one for 300 files it has all but a few of them open.
fn limited(of: libc::__rlimit_resource_t, most: u64, file: &Path) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the limit is ours, and outlives the call.
    assert_eq!(unsafe { libc::setrlimit(of, &raw const limit) }, 0);
    let connection = processes::plain(file);
    let rows = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    rows.expect("a read");
    let mut open = Vec::new();
    while most == 300 && open.len() < 285 {
        let Ok(one) = fs::File::open("/dev/null") else { break };
        open.push(one);
    }
    processes::say("ready");
    processes::listen();
}

/// A home with the four databases, and three transcripts that are indexed. Made once; every test breaks a copy.
fn sound() -> &'static Path {
    static HOME: OnceLock<tempfile::TempDir> = OnceLock::new();
    HOME.get_or_init(|| {
        let folder = processes::folder();
        let runtime = Runtime::open(Home::at(folder.path())).expect("created");
        for name in BUILT_IN {
            let database = runtime.database(name).expect("it").within(LONG);
            common::until("an attached database", || database.write(|_| Ok(())).is_ok());
            let steps = database.wait_for_steps(LONG);
            steps.expect("no steps are left");
        }
        runtime.close(LONG);
        folder
    })
    .path()
}

struct Place {
    folder: tempfile::TempDir,
    /// Ended before the folder goes.
    children: Vec<Child>,
}

impl Place {
    fn new() -> Self {
        let folder = processes::folder();
        copy_home(sound(), folder.path());
        let place = Self { folder, children: Vec::new() };
        // Rows name their files by path, so each home indexes its own.
        transcripts::write_all(&place.home(), 0..3, 0);
        for number in 0..3 {
            transcripts::set_time(&transcripts::path(&place.home(), number), 1_767_225_600);
        }
        let runtime =
            Runtime::builder(Home::at(place.home())).domain(Domain::state()).open().expect("it opens");
        runtime.backfill().run(&place.home(), Reread::Changed, &mut |_| {}).expect("indexed");
        runtime.close(LONG);
        place
    }

    fn home(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("the folder")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home().join(format!("{name}.sqlite"))
    }

    fn beside(&self, name: &str, ending: &str) -> PathBuf {
        self.home().join(format!("{name}.sqlite{ending}"))
    }

    /// Changes a database as a program that knows nothing of the library, and leaves no log.
    fn by_hand(&self, name: &str, sql: &str) {
        processes::plain(&self.file(name)).execute_batch(sql).expect(sql);
    }

    fn write_at(&self, name: &str, at: u64, bytes: &[u8]) {
        let file = fs::File::options().write(true).open(self.file(name)).expect("the database");
        file.write_all_at(bytes, at).expect("written");
    }

    fn child(&mut self, role: &str, file: &Path) -> &Child {
        let child = Child::start(role, &[processes::text(file)]);
        child.wait_for(if role == "hold" { "holding" } else { "ready" });
        self.children.push(child);
        self.children.last().expect("just now")
    }

    fn transcript(&self, number: usize) -> PathBuf {
        transcripts::path(&self.home(), number)
    }

    fn report(&self) -> Report {
        examine(&self.home())
    }
}

type Break = fn(&mut Place, &str);
type BreakHome = fn(&mut Place);

/// What is broken in a database, and which of its rows tells.
const OF_A_DATABASE: &[(&str, Break, &str, Status)] = &[
    (
        "no database",
        |place, name| fs::write(place.file(name), [0xA5; 8192]).expect("written"),
        "open",
        Status::Fail,
    ),
    ("removed", |place, name| fs::remove_file(place.file(name)).expect("removed"), "file", Status::Fail),
    (
        "emptied, with its log",
        |place, name| {
            fs::write(place.file(name), "").expect("emptied");
            fs::write(place.beside(name, "-wal"), [1; 5000]).expect("a log");
        },
        "file",
        Status::Fail,
    ),
    (
        "a link",
        |place, name| {
            let moved = place.home().join("moved");
            fs::rename(place.file(name), &moved).expect("moved");
            symlink(moved, place.file(name)).expect("a link");
        },
        "file",
        Status::Fail,
    ),
    (
        "a second name",
        |place, name| fs::hard_link(place.file(name), place.home().join("second")).expect("a name"),
        "file",
        Status::Fail,
    ),
    (
        "open to others",
        |place, name| {
            fs::set_permissions(place.file(name), fs::Permissions::from_mode(0o644)).expect("a mode");
        },
        "file",
        Status::Warning,
    ),
    ("a damaged page", |place, name| damage_a_table(place, name), "integrity", Status::Fail),
    (
        "a newer schema",
        |place, name| {
            place.by_hand(
                name,
                "INSERT INTO refinery_schema_history VALUES (99, 'later', '2026-01-01', '1');
                 UPDATE rowhouse_meta SET schema_version = 99, oldest_reader = 99, oldest_writer = 99",
            );
        },
        "schema",
        Status::Fail,
    ),
    (
        "a newer schema that may be read",
        |place, name| {
            place.by_hand(
                name,
                "INSERT INTO refinery_schema_history VALUES (99, 'later', '2026-01-01', '1');
                 UPDATE rowhouse_meta SET schema_version = 99, oldest_writer = 99",
            );
        },
        "schema",
        Status::Warning,
    ),
    (
        "a changed migration",
        |place, name| {
            place.by_hand(name, "UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1");
        },
        "schema",
        Status::Warning,
    ),
    (
        "a history that makes no sense",
        |place, name| place.by_hand(name, "UPDATE refinery_schema_history SET checksum = 'abc'"),
        "schema",
        Status::Fail,
    ),
    (
        "another domain's file",
        |place, name| {
            let other = if name == "goals" { "device_keys" } else { "goals" };
            fs::copy(place.file(other), place.file(name)).expect("copied");
        },
        "schema",
        Status::Fail,
    ),
    (
        "another program's stamp",
        |place, name| place.by_hand(name, "PRAGMA application_id = 7"),
        "stamp",
        Status::Fail,
    ),
    (
        "no write-ahead log, beside a process",
        |place, name| {
            place.by_hand(name, "PRAGMA journal_mode = DELETE");
            let file = place.file(name);
            place.child("open", &file);
        },
        "stamp",
        Status::Warning,
    ),
    (
        "made anew without auto_vacuum",
        |place, name| {
            place.by_hand(
                name,
                "PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM; PRAGMA journal_mode = WAL",
            );
        },
        "pages",
        Status::Warning,
    ),
    (
        "written by an SQLite that damages files",
        |place, name| place.write_at(name, 96, &3_046_001_u32.to_be_bytes()),
        "sqlite",
        Status::Warning,
    ),
    (
        "open with an SQLite that damages files",
        |place, name| {
            let file = place.file(name);
            place.child("old", &file);
        },
        "sqlite",
        Status::Warning,
    ),
    (
        "held",
        |place, name| {
            let file = place.file(name);
            place.child("hold", &file);
        },
        "write",
        Status::Warning,
    ),
    (
        "held by a stopped process",
        |place, name| {
            let file = place.file(name);
            place.child("hold", &file).stop();
        },
        "write",
        Status::Fail,
    ),
    (
        "open in a stopped process",
        |place, name| {
            let file = place.file(name);
            place.child("open", &file).stop();
        },
        "holders",
        Status::Warning,
    ),
    (
        "a write that failed",
        |place, name| {
            fs::write(place.home().join(format!("locks/{name}.latch")), 1_u64.to_ne_bytes())
                .expect("a number");
        },
        "write",
        Status::Fail,
    ),
    ("a log without its index", |place, name| leave_a_log(place, name), "sidecars", Status::Warning),
    (
        "a deleted file that is still open",
        |place, name| {
            let file = place.beside(name, ".old");
            fs::write(&file, [0; 4096]).expect("a file");
            place.child("keep", &file);
            fs::remove_file(&file).expect("removed");
        },
        "deleted",
        Status::Warning,
    ),
    (
        "its log removed beside a process",
        |place, name| {
            let file = place.file(name);
            place.child("open", &file);
            fs::remove_file(place.beside(name, "-wal")).expect("removed");
        },
        "deleted",
        Status::Fail,
    ),
];

/// What is broken in a home, and which row tells.
const OF_A_HOME: &[(&str, BreakHome, &str, Status)] = &[
    (
        "a registry that makes no sense",
        |place| fs::write(place.home().join("registry.json"), "{").expect("written"),
        "home.registry",
        Status::Warning,
    ),
    (
        "a misnamed database",
        |place| {
            fs::copy(place.file("goals"), place.home().join("My Goals.sqlite")).expect("copied");
        },
        "home.registry",
        Status::Warning,
    ),
    (
        "open to others",
        |place| {
            fs::set_permissions(place.home(), fs::Permissions::from_mode(0o755)).expect("a mode");
        },
        "home.access",
        Status::Warning,
    ),
    (
        "a restore that was broken off",
        |place| fs::write(place.home().join("restore.json"), "{}").expect("written"),
        "home.leftovers",
        Status::Fail,
    ),
    ("a repair that was broken off", |place| quarantine(place, "moving"), "home.leftovers", Status::Warning),
    (
        "damaged files that were set aside",
        |place| quarantine(place, "done"),
        "home.leftovers",
        Status::Warning,
    ),
    (
        "an old generation",
        |place| fs::write(place.beside("logs", "-wal.replaced-17"), "x").expect("written"),
        "home.leftovers",
        Status::Warning,
    ),
    (
        "a backup that was broken off",
        |place| fs::create_dir_all(place.home().join("backups/.backup-unfinished-1-0")).expect("a folder"),
        "home.leftovers",
        Status::Warning,
    ),
    (
        "an old backup",
        |place| {
            let folder = place.home().join("backups/2020-01-01T00-00-00Z");
            fs::create_dir_all(&folder).expect("a folder");
            let manifest = r#"{"version":1,"created_at":"2020-01-01T00:00:00Z","program":"a","program_version":"1",
                "rowhouse":"0.1.0","sqlite":"3.53.2","databases":[],"left_out":[]}"#;
            fs::write(folder.join("manifest.json"), manifest).expect("a manifest");
        },
        "backup.age",
        Status::Warning,
    ),
    (
        "a clock that was set back",
        |place| {
            let file = fs::File::options().write(true).open(place.file("goals")).expect("the file");
            file.set_modified(SystemTime::now() + Duration::from_hours(1)).expect("a time");
        },
        "environment.clock",
        Status::Warning,
    ),
    (
        "a process that may write short files only",
        |place| {
            let file = place.file("goals");
            place.child("short files", &file);
        },
        "environment.limits",
        Status::Warning,
    ),
    (
        "a process that may open few files",
        |place| {
            let file = place.file("logs");
            place.child("few files", &file);
        },
        "environment.limits",
        Status::Warning,
    ),
    (
        "a process that has all its files open",
        |place| {
            let file = place.file("state");
            place.child("all files", &file);
        },
        "environment.limits",
        Status::Warning,
    ),
    (
        "a config file that makes no sense",
        |place| fs::write(place.home().join("config.toml"), "logs = [").expect("written"),
        "environment.settings",
        Status::Fail,
    ),
    (
        "a level that is none",
        |place| {
            fs::write(place.home().join("config.toml"), "[logs]\nlevel = \"loud=very=much\"\n")
                .expect("written");
        },
        "environment.settings",
        Status::Warning,
    ),
    (
        "logs over their bound",
        |place| sparse::grow(&place.file("logs"), 300 << 20),
        "logs.budget",
        Status::Warning,
    ),
    (
        "free space that stays",
        |place| {
            place.by_hand(
                "goals",
                "CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(20000000)); DROP TABLE t",
            );
        },
        "goals.pages",
        Status::Warning,
    ),
    (
        "an indexer that died",
        |place| place.by_hand("state", "UPDATE backfill SET state = 'running', token = 'x', owner_pid = 1"),
        "threads.backfill",
        Status::Warning,
    ),
    (
        "an indexer that is stopped",
        |place| {
            let lock = place.home().join("locks/state.backfill");
            place.child("lock", &lock).stop();
        },
        "threads.backfill",
        Status::Warning,
    ),
    (
        "two transcripts of a thread",
        |place| {
            let (path, name) = (place.transcript(1), place.transcript(1));
            let other = place.home().join("sessions/2026/02/02");
            fs::create_dir_all(&other).expect("a folder");
            fs::copy(path, other.join(name.file_name().expect("a name"))).expect("copied");
        },
        "threads.index",
        Status::Warning,
    ),
    (
        "a transcript that is gone",
        |place| fs::remove_file(place.transcript(1)).expect("removed"),
        "threads.index",
        Status::Warning,
    ),
    (
        "a transcript that changed",
        |place| {
            let path = place.transcript(1);
            fs::write(&path, transcripts::text(1, 5000)).expect("written");
            transcripts::set_time(&path, 1_767_225_700);
        },
        "threads.index",
        Status::Warning,
    ),
    (
        "a transcript that nobody indexed",
        |place| {
            transcripts::write(&place.home(), 7, 0);
        },
        "threads.index",
        Status::Warning,
    ),
    (
        "a transcript in the other folder",
        |place| place.by_hand("state", "UPDATE thread SET archived_at = 1"),
        "threads.index",
        Status::Warning,
    ),
    (
        "a transcript that cannot be read",
        |place| {
            let path = place.transcript(2);
            let text = path.to_str().expect("plain");
            place.by_hand(
                "state",
                &format!("INSERT INTO backfill_file VALUES ('{text}', 1, 1, 1, 'bad', NULL, 1, 'no JSON')"),
            );
        },
        "threads.index",
        Status::Warning,
    ),
];

/// Overwrites the root page of the largest table that is the domain's own.
fn damage_a_table(place: &Place, name: &str) {
    let root: i64 = processes::plain(&place.file(name))
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 AND name NOT LIKE 'refinery%' \
             AND name NOT LIKE 'rowhouse%' AND name NOT LIKE 'sqlite%' ORDER BY rootpage DESC LIMIT 1",
            [],
            |row| row.get(0),
        )
        .expect("a table");
    place.write_at(name, (root as u64 - 1) * 4096, &[0xA5; 4096]);
}

/// What a copy of two of three files leaves.
fn leave_a_log(place: &Place, name: &str) {
    let (from, to) = (place.file(name), place.home().join("copy"));
    let writer = processes::plain(&from);
    writer
        .execute_batch(
            "PRAGMA wal_autocheckpoint = 0; CREATE VIEW something AS SELECT 1; DROP VIEW something",
        )
        .expect("a log");
    for ending in ["", "-wal"] {
        fs::copy(place.beside(name, ending), format!("{}{ending}", to.display())).expect("copied");
    }
    drop(writer);
    for ending in ["-wal", "-shm"] {
        let _ = fs::remove_file(place.beside(name, ending));
    }
    for ending in ["", "-wal"] {
        fs::rename(format!("{}{ending}", to.display()), place.beside(name, ending)).expect("moved");
    }
}

fn quarantine(place: &Place, state: &str) {
    let folder = place.home().join("quarantine/goals-1");
    fs::create_dir_all(&folder).expect("a folder");
    let manifest =
        format!(r#"{{"state":"{state}","report":{{"database":"goals","at":"2026-01-01T00:00:00Z"}}}}"#);
    fs::write(folder.join("manifest.json"), manifest).expect("a manifest");
}

/// Break one thing, in whichever of the four databases or in the home, and exactly that row is notable, with a way out;
/// what cannot be judged because of it is skipped.
///
/// Scale: 24 ways to break a database, three of them on all four and the others by turns on one
/// (`ROWHOUSE_TEST_ROUNDS=4` for all), and 25 of a home.
/// Control: the same home before it is broken has no notable row, and what only looks at the files says so of most that
/// are broken, too.
#[test]
fn o3_the_doctor_names_exactly_what_is_broken() {
    let whole = Place::new();
    let report = whole.report();
    assert!(notable(&report).is_empty(), "{:#?}", report.notable());
    assert_eq!(report.overall_status, Status::Ok);

    let by_turns = usize::try_from(processes::rounds(1)).expect("few").min(BUILT_IN.len());
    let (mut broken, mut all_is_well) = (OF_A_HOME.len(), 0);
    for (at, (case, break_it, name_of_check, status)) in OF_A_DATABASE.iter().enumerate() {
        let of_each = if ["no database", "removed", "a damaged page"].contains(case) { 4 } else { by_turns };
        broken += of_each;
        for name in BUILT_IN.iter().cycle().skip(at).take(of_each) {
            let mut place = Place::new();
            break_it(&mut place, name);
            let report = place.report();
            names_only(&format!("{name}: {case}"), &report, &format!("{name}.{name_of_check}"), *status);
            all_is_well += usize::from(files_look_well(&place.home()));
        }
    }
    for (case, break_it, id, status) in OF_A_HOME {
        let mut place = Place::new();
        break_it(&mut place);
        names_only(case, &place.report(), id, *status);
        all_is_well += usize::from(files_look_well(&place.home()));
    }
    println!("{all_is_well} of {broken} broken homes look well to whoever only looks for their files");
    assert!(all_is_well * 2 > broken);
}

/// What a doctor that looks at files alone sees: all four are there, readable, and not empty.
fn files_look_well(home: &Path) -> bool {
    BUILT_IN.iter().all(|name| {
        fs::read(home.join(format!("{name}.sqlite"))).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3"))
    })
}

#[test]
fn a_home_that_is_not_there_or_no_folder_is_told_and_not_made() {
    let folder = processes::folder();
    let missing = folder.path().join("none");
    names_only("no home", &examine(&missing), "home.folder", Status::Warning);
    assert!(!missing.exists());
    fs::write(&missing, "").expect("a file");
    names_only("a file", &examine(&missing), "home.folder", Status::Fail);
}

#[test]
fn a_full_disk_is_told_and_nothing_else() {
    let Some(disk) = SmallDisk::mount("a_full_disk_is_told_and_nothing_else", 16 << 20) else { return };
    let home = disk.path().join("home");
    let runtime = Runtime::open(Home::at(&home)).expect("created");
    common::until("the logs", || runtime.database("logs").is_ok_and(|logs| logs.write(|_| Ok(())).is_ok()));
    runtime.close(LONG);
    assert!(notable(&examine(&home)).is_empty());
    disk.fill(1 << 20);
    names_only("little room", &examine(&home), "disk.space", Status::Warning);
    disk.empty();
    disk.fill(64 << 10);
    names_only("no room", &examine(&home), "disk.space", Status::Fail);
}

#[test]
fn a_file_system_without_room_for_files_is_told_and_nothing_else() {
    let test = "a_file_system_without_room_for_files_is_told_and_nothing_else";
    let Some(disk) = SmallDisk::mount(test, 16 << 20) else { return };
    let home = disk.path().join("home");
    Runtime::open(Home::at(&home)).expect("created").close(LONG);
    assert!(notable(&examine(&home)).is_empty());
    disk.remount("nr_inodes=500");
    names_only("no room for files", &examine(&home), "disk.inodes", Status::Fail);
}

#[test]
fn a_folder_above_that_others_may_write_is_told_and_nothing_else() {
    let above = processes::folder();
    let home = above.path().join("home");
    Runtime::open(Home::at(&home)).expect("created").close(LONG);
    assert!(notable(&examine(&home)).is_empty());
    fs::set_permissions(above.path(), fs::Permissions::from_mode(0o777)).expect("a mode");
    names_only("open above", &examine(&home), "home.access", Status::Warning);
    // Where only an owner renames and removes, as in /tmp, nobody can put another one there.
    fs::set_permissions(above.path(), fs::Permissions::from_mode(0o1777)).expect("a mode");
    assert!(notable(&examine(&home)).is_empty());
}

#[test]
fn what_programs_dropped_is_told() {
    let folder = processes::folder();
    let runtime = Runtime::builder(Home::at(folder.path()))
        .domain(Domain::new("cache").best_effort().max_bytes(1 << 20))
        .open()
        .expect("opened");
    let cache = runtime.database("cache").expect("it");
    common::until("an attached database", || {
        cache.write(|tx| tx.execute("CREATE TABLE IF NOT EXISTS t(a)", [])).is_ok()
    });
    assert!(notable(&examine(folder.path())).is_empty());
    let mut full = false;
    for _ in 0..100 {
        let answer = cache.write(|tx| tx.execute("INSERT INTO t VALUES (zeroblob(50000))", []));
        full |= answer.is_err_and(|error| error.kind() == ErrorKind::Full);
    }
    assert!(full);
    names_only("a bound", &examine(folder.path()), "cache.counts", Status::Warning);
    let report = examine(folder.path());
    assert!(row(&report, "cache.schema").status == Status::Skipped, "another program's domain");
    runtime.close(LONG);
}

#[test]
fn what_is_asked_for_is_done_and_what_is_unknown_is_refused() {
    let place = Place::new();
    let with = |only: &[&str], skip: &[&str]| {
        let mut options = options();
        options.only = only.iter().map(|word| (*word).to_owned()).collect();
        options.skip = skip.iter().map(|word| (*word).to_owned()).collect();
        doctor::run(&Home::at(place.home()), &options)
    };
    let ids = |report: Report| report.checks.into_iter().map(|check| check.id).collect::<Vec<_>>();
    assert_eq!(
        ids(with(&["state.log", "disk"], &["inodes"]).expect("a report")),
        ["disk.file_system", "disk.space", "state.log"]
    );
    assert_eq!(
        ids(with(&["log"], &["state"]).expect("a report")),
        ["device_keys.log", "goals.log", "logs.log"]
    );
    for word in ["", "state.nothing", "stat", "counts "] {
        let error = with(&[], &[word]).expect_err(word);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let all = ids(with(&[], &[]).expect("a report"));
    // Those of a server are for homes that name one.
    let meant: Vec<_> = doctor::list().into_iter().filter(|check| check.category != "server").collect();
    let of_each = meant.iter().filter(|check| check.per_database).count();
    assert_eq!(all.len(), meant.len() - of_each + 4 * of_each, "{all:?}");
}

/// What a compaction and a restore write has no write-ahead log before its program opens it: that is as it should be.
#[test]
fn what_was_just_written_anew_is_as_it_should_be() {
    let mut place = Place::new();
    let builder = || Runtime::builder(Home::at(place.home())).agent_domains();
    builder().compact(&MaintainOptions::default(), &mut |_| {}).expect("compacted");
    let report = place.report();
    assert!(notable(&report).is_empty(), "{:#?}", report.notable());
    let anew = |report: &Report| {
        let stamps = report.checks.iter().filter(|check| check.id.rsplit('.').next() == Some("stamp"));
        stamps.filter(|check| check.summary.contains("written anew")).count()
    };
    assert!(anew(&report) > 0, "{report:#?}");
    let out = processes::folder();
    let runtime = builder().open().expect("opened");
    common::until("an attached database", || {
        BUILT_IN.iter().all(|name| runtime.database(name).is_ok_and(|it| it.write(|_| Ok(())).is_ok()))
    });
    let options = BackupOptions::to(out.path().join("backup"));
    let backup = runtime.backup(&options, &mut |_| {}).expect("a backup").folder;
    runtime.close(LONG);
    assert_eq!(anew(&place.report()), 0, "opened since");
    builder().restore(&backup, &RestoreOptions::default(), &mut |_| {}).expect("restored");
    let report = place.report();
    assert!(notable(&report).iter().all(|id| *id == "home.leftovers"), "{:#?}", report.notable());
    assert_eq!(anew(&report), 4, "{report:#?}");
    // Somebody else may be there before its program: what is in the way is the lock, and told by its own row.
    let file = place.file("goals");
    place.child("hold", &file);
    let report = place.report();
    let told: Vec<_> = notable(&report).into_iter().filter(|id| *id != "home.leftovers").collect();
    assert_eq!(told, ["goals.write"], "{:#?}", report.notable());
}

/// A home that may not be written, by its mount or by its permissions, is one finding, and what cannot be checked says so.
/// Control: the same home where it may be written has none.
#[test]
fn a_read_only_home_is_one_finding() {
    for (role, teller) in [("see mounted", "disk.file_system"), ("see as a user", "home.access")] {
        let place = Place::new();
        assert_eq!(notable(&place.report()), [""; 0], "the control");
        if role == "see mounted" {
            if !confined::is_root() {
                continue;
            }
        } else {
            give_to_the_user(&place.home());
            confined::make_read_only(&place.home());
        }
        let child = as_somebody(role, &place.home());
        assert_eq!(child.wait_for("notable").trim(), teller, "{role}");
        let unchecked = child.wait_for("unchecked");
        for name in BUILT_IN {
            for check in ["file", "write"] {
                assert!(unchecked.contains(&format!("{name}.{check}")), "{role}: {unchecked}");
            }
        }
        child.finish();
        confined::make_writable(&place.home());
    }
}

/// Where other users' processes are hidden, nobody is said to be nobody.
/// Control: the same look where they are not hidden.
#[test]
fn processes_that_are_hidden_are_said_to_be_hidden() {
    if !confined::is_root() {
        return;
    }
    let mut place = Place::new();
    give_to_the_user(&place.home());
    // Its file is open, and nothing of it is locked.
    let file = place.file("goals");
    let pid = place.child("keep", &file).pid();
    let seen = row(&place.report(), "goals.holders").clone();
    assert!(seen.summary.contains("1 process has it open"), "the control: {seen:#?}");
    assert!(seen.evidence.iter().any(|told| told.contains(&format!("pid {pid}"))), "the control: {seen:#?}");
    let child = as_somebody("see hidden", &place.home());
    let told = child.wait_for("holders");
    assert!(told.contains("nobody that can be seen from here has it open"), "{told}");
    assert_eq!(told.matches("not seen: processes of other users, which /proc hides").count(), 1, "{told}");
    child.finish();
}

/// Whose home it is, is one finding. Another user's is theirs to use; root's may be, or one run with sudo made it.
#[test]
fn another_users_home_is_told_to_be_theirs() {
    if !confined::is_root() {
        return;
    }
    for (owner, may_be_ours) in [(0, true), (1, false)] {
        for (of_folders, of_files) in [(0o755, 0o644), (0o700, 0o600)] {
            let place = Place::new();
            for path in confined::everything(&place.home()) {
                std::os::unix::fs::chown(&path, Some(owner), Some(owner)).expect("the owner");
                confined::set_mode(&path, if path.is_dir() { of_folders } else { of_files });
            }
            let child = as_somebody("see as a user", &place.home());
            assert_eq!(child.wait_for("notable").trim(), "home.access", "{owner} {of_files:o}");
            let access = child.wait_for("access");
            let as_them = format!(" rowhouse --home {} ...`", place.home().display());
            assert!(access.contains("`sudo -u ") && access.contains(&as_them), "{access}");
            assert_eq!(access.contains("chown"), may_be_ours, "{access}");
            child.finish();
        }
    }
}

/// A look by somebody else, whose own settings are not those of this test.
fn as_somebody(role: &str, home: &Path) -> Child {
    Child::start_in(role, &[processes::text(home)], &[("HOME", "/nowhere")])
}

/// So that it is the user's own, whom root becomes.
fn give_to_the_user(home: &Path) {
    if confined::is_root() {
        for path in confined::everything(home) {
            std::os::unix::fs::chown(&path, Some(confined::USER), Some(confined::USER)).expect("the owner");
        }
    }
}

/// Callers who queue behind a writer that does not get on are told by the row that names who is in its way: another program
/// that has the write lock, or a job of its own.
/// Control: the same callers when the way is free.
#[test]
fn a_jam_is_told_by_who_is_in_the_way() {
    for role in ["jam", "jam itself"] {
        let mut place = Place::new();
        let file = place.file("goals");
        let holder = (role == "jam").then(|| {
            let holder = Child::start("hold", &[processes::text(&file)]);
            holder.wait_for("holding");
            holder
        });
        let mut jammed = Child::start(role, &[processes::text(&place.home())]);
        jammed.wait_for("ready");
        let pid = holder.as_ref().map_or(jammed.pid(), Child::pid);
        let counts = || {
            let report = examined::examine_only(&place.home(), &["goals"]);
            (row(&report, "goals.counts").clone(), report)
        };
        // The page is written now and then.
        println!("{role}");
        common::until("the jam is published", || examined::number(&counts().0, "waiting") >= 1_024);
        let (jam, report) = counts();
        assert_eq!(notable(&report), ["goals.write"], "{role}: {report:#?}");
        assert!(jam.summary.ends_with("jobs wait for the write lock: see goals.write"), "{role}: {jam:#?}");
        let told = &row(&report, "goals.write").summary;
        assert!(
            told.contains(&format!("pid {pid}")) && told.contains("has held the write lock"),
            "{role}: {told}"
        );
        if let Some(holder) = holder {
            holder.finish();
        }
        jammed.tell("go on");
        jammed.wait_for("drained");
        common::until("nothing waits", || examined::number(&counts().0, "waiting") == 0);
        assert_eq!(notable(&place.report()), [""; 0], "the control");
        jammed.tell("end");
        jammed.finish();
        place.children.clear();
    }
}

/// Control: the home it was copied from.
#[test]
fn a_copied_home_whose_threads_name_the_transcripts_of_the_other_is_told() {
    let place = Place::new();
    let other = processes::folder();
    fs::set_permissions(other.path(), fs::Permissions::from_mode(0o700)).expect("private");
    copy_home(&place.home(), other.path());
    let other_home = other.path().canonicalize().expect("the folder");
    let report = examine(&other_home);
    names_only("a copy", &report, "threads.index", Status::Warning);
    let check = row(&report, "threads.index");
    assert!(check.details.contains(&("elsewhere", Detail::Number(3))), "{check:#?}");
    assert_eq!(notable(&place.report()), [""; 0], "the control");
    let runtime = Runtime::builder(Home::at(&other_home)).domain(Domain::state()).open().expect("it opens");
    runtime.backfill().run(&other_home, Reread::Changed, &mut |_| {}).expect("indexed");
    runtime.close(LONG);
    assert_eq!(notable(&examine(&other_home)), [""; 0], "after what it advises");
}

/// What is wrong in a config file is one finding, which names the file, the line, and what was meant.
/// Control: the same file without the typing error.
#[test]
fn what_is_wrong_in_a_config_file_is_named_by_its_line() {
    let place = Place::new();
    let config = place.home().join("config.toml");
    let right = "[logs]\nlevel = \"warn\"\n[state]\nbackend = \"sqlite\"\n[cache]\nbackend = \"sqlite\"\n";
    fs::write(&config, right).expect("written");
    assert_eq!(notable(&place.report()), [""; 0], "the control");
    for (wrong, status, expected) in [
        (
            right.replace("[state]", "[stat]"),
            Status::Warning,
            "stat.backend (line 4); did you mean state.backend?",
        ),
        (right.replace("level", "levle"), Status::Warning, "logs.levle (line 2); did you mean logs.level?"),
        (format!("{right}[state.postgres]\nport = 1\n"), Status::Warning, "state.postgres.port (line 8)"),
        (right.replace("[state]", "[state"), Status::Fail, "line 3"),
    ] {
        fs::write(&config, &wrong).expect("written");
        let report = place.report();
        names_only(expected, &report, "environment.settings", status);
        let told = row(&report, "environment.settings");
        assert!(told.summary.contains(expected), "{told:#?}");
        assert!(examined::text(told, "path").ends_with("config.toml"), "{told:#?}");
    }
}

/// Control: the same set before somebody said that it was seen.
#[test]
fn what_was_set_aside_is_news_until_a_person_has_seen_it() {
    let place = Place::new();
    quarantine(&place, "done");
    let report = place.report();
    names_only("not seen", &report, "home.leftovers", Status::Warning);
    let command = &row(&report, "home.leftovers").fixes[0].command;
    assert!(command.starts_with("touch ") && command.ends_with("/quarantine/goals-1/seen"), "{command}");
    fs::write(place.home().join("quarantine/goals-1/seen"), "").expect("said");
    assert_eq!(notable(&place.report()), [""; 0]);
}

/// A home that was moved has every transcript, and each thread is counted once: by where it is looked for.
/// Control: a transcript that did not come along is gone, and is no other finding.
#[test]
fn a_moved_home_is_told_to_have_been_moved() {
    let (place, other) = (Place::new(), processes::folder());
    let moved = other.path().canonicalize().expect("the folder").join("moved");
    fs::rename(place.home(), &moved).expect("moved");
    let report = examine(&moved);
    names_only("moved", &report, "threads.index", Status::Warning);
    let check = row(&report, "threads.index");
    assert!(check.summary.starts_with("this home was moved or copied: 3 threads"), "{check:#?}");
    let counted = |check: &doctor::Check| {
        ["elsewhere", "missing", "unindexed", "duplicate", "stale"].map(|name| examined::number(check, name))
    };
    assert_eq!(counted(check), [3, 0, 0, 0, 0], "{check:#?}");
    assert!(check.fixes.iter().any(|fix| fix.command.starts_with("rowhouse reindex")), "{check:#?}");

    fs::remove_file(transcripts::path(&moved, 1)).expect("left behind");
    let report = examine(&moved);
    assert_eq!(counted(row(&report, "threads.index")), [2, 1, 0, 0, 0], "the control: {report:#?}");
    let runtime = Runtime::builder(Home::at(&moved)).domain(Domain::state()).open().expect("it opens");
    runtime.backfill().run(&moved, Reread::Changed, &mut |_| {}).expect("indexed");
    runtime.close(LONG);
    let report = examine(&moved);
    assert_eq!(counted(row(&report, "threads.index")), [0, 1, 0, 0, 0], "after what it advises: {report:#?}");
}

/// One removed file is one finding, with the process that still uses it; all that cannot be judged then names that row.
#[test]
fn a_removed_log_is_told_once_with_its_user() {
    let mut place = Place::new();
    let file = place.file("state");
    let pid = place.child("open", &file).pid();
    fs::remove_file(place.beside("state", "-wal")).expect("removed");
    let report = place.report();
    assert_eq!(notable(&report), ["state.deleted"], "{:#?}", report.notable());
    let summary = &row(&report, "state.deleted").summary;
    assert!(summary.contains("-wal was removed") && summary.contains(&format!("pid {pid}")), "{summary}");
    for name in ["open", "write", "integrity", "log", "schema", "stamp", "pages", "sidecars"] {
        let check = row(&report, &format!("state.{name}"));
        assert!(check.status == Status::Skipped && check.summary.contains("see state.deleted"), "{check:#?}");
    }
}

#[test]
fn a_deep_look_at_a_damaged_file_says_what_a_quick_one_says() {
    let place = Place::new();
    damage_a_table(&place, "state");
    let told = |deep: bool| {
        let mut options = options();
        options.deep = deep;
        let report = doctor::run(&Home::at(place.home()), &options).expect("a report");
        let check = row(&report, "state.integrity");
        assert_eq!(check.status, Status::Fail, "{check:#?}");
        check.evidence.clone()
    };
    let (quick, deep) = (told(false), told(true));
    println!("quick: {quick:#?}\ndeep: {deep:#?}");
    assert!(deep.len() >= quick.len() && !quick.is_empty(), "{quick:#?} {deep:#?}");
    let is_told = |of_quick: &String| deep.iter().any(|of_deep| of_deep == of_quick);
    assert!(quick.iter().all(is_told), "{quick:#?} {deep:#?}");
}

#[test]
fn a_deep_look_finds_what_a_quick_one_leaves_to_it() {
    let place = Place::new();
    place.by_hand(
        "goals",
        "PRAGMA foreign_keys = OFF; CREATE TABLE parent(a INTEGER PRIMARY KEY); CREATE TABLE child(a REFERENCES parent(a)); INSERT INTO child VALUES (7)",
    );
    let mut deep = options();
    deep.deep = true;
    let home = Home::at(place.home());
    let quick = doctor::run(&home, &options()).expect("a report");
    assert_eq!(row(&quick, "goals.integrity").status, Status::Ok);
    let deep = doctor::run(&home, &deep).expect("a report");
    names_only("a broken reference", &deep, "goals.integrity", Status::Fail);
}
