//! After one run as root the files of a home belong to root: the error names the command that helps, what can be read
//! is read, and a runtime that keeps nothing works.
#![cfg(target_os = "linux")]

#[path = "processes/confined.rs"]
mod confined;
mod processes;

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use confined::{USER, everything, is_root, make_writable, open_the_way, set_mode};
use processes::{Child, SCHEMA, open, plain, say, text};
use rowhouse::rusqlite::Connection;
use rowhouse::{Domain, Home, Runtime};

const INSERT: &str = "INSERT INTO item(job, part) VALUES (1, 1)";
const COUNT: &str = "SELECT count(*) FROM item";

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [who, home] = words[..] else { panic!("{words:?}") };
    if who == "user" {
        confined::become_user();
    }
    let home = Path::new(home);
    match Runtime::builder(Home::at(home)).domain(Domain::new("work").migrations(SCHEMA)).open() {
        Err(error) => say(&format!("opened {error:?}")),
        Ok(runtime) => {
            let work = runtime.database("work").expect("it");
            let count = work.read(|at| at.row(COUNT, [], |row| row.get::<_, i64>(0)));
            let written = work.write(|tx| tx.execute(INSERT, []));
            say(&format!("opened {:?} {count:?} {written:?} {:?}", runtime.health(), work.warnings()));
        }
    }
    let domain = Domain::new("work").migrations(SCHEMA);
    let ephemeral = Runtime::builder(Home::at(home)).domain(domain).ephemeral().open().and_then(|runtime| {
        let work = runtime.database("work")?;
        work.write(|tx| tx.execute(INSERT, []))?;
        work.read(|at| at.row(COUNT, [], |row| row.get::<_, i64>(0)))
    });
    say(&format!("ephemeral {ephemeral:?}"));
    say(&format!("plain {}", plainly(&home.join("work.sqlite"))));
}

#[allow(clippy::disallowed_methods)] // the control
fn plainly(path: &Path) -> String {
    let write = || Connection::open(path)?.execute(INSERT, []);
    write().map_or_else(|error| error.to_string(), |_| "written".to_owned())
}

struct Told {
    opened: String,
    ephemeral: String,
    plain: String,
}

/// What a user finds in a home.
fn told(home: &Path) -> Told {
    let child = Child::start(if is_root() { "user" } else { "owner" }, &[text(home)]);
    let told = Told {
        opened: child.wait_for("opened"),
        ephemeral: child.wait_for("ephemeral"),
        plain: child.wait_for("plain"),
    };
    child.finish();
    told
}

/// A home of the user with one row.
fn home_of_the_user(folder: &Path) -> PathBuf {
    open_the_way(folder);
    let home = folder.canonicalize().expect("canonical").join("home");
    let runtime = open(&home);
    runtime.database("work").expect("it").write(|tx| tx.execute(INSERT, [])).expect("written");
    runtime.close(processes::seconds(20.0));
    drop(runtime);
    if is_root() {
        for path in everything(&home) {
            chown(&path, Some(USER), Some(USER)).expect("the owner");
        }
    }
    home
}

/// Takes a path from the user: by its owner, or, where that cannot be, by its mode.
fn take(path: &Path, mode: u32) {
    if is_root() {
        chown(path, Some(0), Some(0)).expect("the owner");
        set_mode(path, mode);
    } else {
        set_mode(path, mode & 0o444 & if mode & 0o004 == 0 { 0 } else { 0o444 });
    }
}

/// The command that the error must name.
fn command(path: &Path) -> String {
    if is_root() {
        format!("`sudo chown -R nobody: {}`", path.display())
    } else {
        format!("`chmod -R u+rwX {}`", path.display())
    }
}

/// Names the exact command, whichever file or folder it is, and a runtime that keeps nothing works meanwhile.
///
/// Scale: the whole home, one database, its log, one lock file, the folder of the locks.
/// Control: a plain connection says "unable to open database file" or "readonly database", and no more.
#[test]
fn x4_what_belongs_to_root_is_named_with_the_command_that_helps() {
    let cases: [(&str, &[&str]); 5] = [
        ("the whole home", &["", "work.sqlite", "work.sqlite-wal", "work.sqlite-shm", "locks", "run"]),
        ("the database", &["work.sqlite", "work.sqlite-wal", "work.sqlite-shm"]),
        ("the log", &["work.sqlite-wal"]),
        ("a lock file", &["locks/work.room"]),
        ("the locks", &["locks"]),
    ];
    for (what, paths) in cases {
        let folder = processes::folder();
        let home = home_of_the_user(folder.path());
        for path in paths.iter().rev() {
            let path = home.join(path);
            take(&path, if path.is_dir() { 0o700 } else { 0o600 });
        }
        let told = told(&home);
        make_writable(&home);
        assert!(
            told.opened.contains("read_only") || told.opened.contains("ReadOnly"),
            "{what}: {}",
            told.opened
        );
        assert!(told.opened.contains(&command(&home)), "{what}: {}", told.opened);
        assert!(told.opened.contains("Builder::ephemeral()"), "{what}: {}", told.opened);
        assert_eq!(told.ephemeral, "Ok(1)", "{what}");
        assert!(!told.plain.contains("chown") && !told.plain.contains("chmod"), "control: {}", told.plain);
        // By its owner, or by root, the file is as it was.
        for path in everything(&home).iter().filter(|path| path.is_file()) {
            set_mode(path, 0o600);
        }
        let healthy = home.join("work.sqlite");
        let rows: i64 = plain(&healthy).query_row(COUNT, [], |row| row.get(0)).expect("a count");
        assert!(rows >= 1, "{what}: nothing was lost");
    }
}

/// What root left readable is read, with a warning that names the command; writes are refused with it.
///
/// Scale: one database in a folder of the user.
/// Control: a plain connection can only say "readonly database".
#[test]
fn x4_what_root_left_readable_is_read() {
    let folder = processes::folder();
    let home = home_of_the_user(folder.path());
    for name in ["work.sqlite", "work.sqlite-wal", "work.sqlite-shm"] {
        take(&home.join(name), 0o644);
    }
    let before = everything(&home);
    let told = told(&home);
    assert!(told.opened.starts_with("ReadOnly Ok(1) Err(read_only: work: "), "{}", told.opened);
    assert_eq!(told.opened.matches(&command(&home)).count(), 2, "error and warning: {}", told.opened);
    assert_eq!(told.ephemeral, "Ok(1)");
    assert!(told.plain.contains("readonly"), "control: {}", told.plain);
    make_writable(&home);
    assert_eq!(everything(&home), before, "nothing was created");
    assert!(fs::metadata(home.join("work.sqlite")).expect("there").len() > 0);
}

/// A home that is another user's is not offered to be taken: the error says whose it is, and how to run as that user. Nor
/// is a folder above it, whatever else is in that.
/// Control: what may have been made by one run with sudo can be taken back.
#[test]
fn a_home_of_another_user_is_not_offered_to_be_taken() {
    const OTHER: u32 = 1;
    if !is_root() {
        return;
    }
    for (what, owner, hidden) in [
        ("root's", 0, false),
        ("another's", OTHER, false),
        ("behind root", 0, true),
        ("behind another", OTHER, true),
    ] {
        let folder = processes::folder();
        let home = home_of_the_user(folder.path());
        if hidden {
            chown(folder.path(), Some(owner), Some(owner)).expect("the owner");
            set_mode(folder.path(), 0o700);
        } else {
            for path in everything(&home) {
                chown(path, Some(owner), Some(owner)).expect("the owner");
            }
        }
        let told = told(&home);
        let error = told.opened;
        assert!(error.contains("read_only"), "{what}: {error}");
        assert_eq!(error.contains("chown"), what == "root's", "{what}: {error}");
        let as_owner = format!("`sudo -u {} rowhouse --home {}", confined::user_name(owner), home.display());
        assert!(error.contains(&as_owner), "{what}: {error}");
    }
}
