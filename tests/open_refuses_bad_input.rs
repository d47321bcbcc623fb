//! Whatever is in a home's or a database's place, opening answers a clear error that names the file, loses nothing,
//! and leaves nothing half made.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::*;
use rowhouse::{Domain, Error, ErrorKind, Home, Migration, OnDamage, Runtime};

fn open(home: &Path, domain: Domain) -> rowhouse::Result<Runtime> {
    Runtime::builder(Home::at(home)).domain(domain).open()
}

fn refused(home: &Path, domain: Domain) -> Error {
    open(home, domain).map(drop).expect_err("it must be refused")
}

/// A home in which `test.sqlite` is made by the test.
struct Prepared {
    folder: tempfile::TempDir,
}

impl Prepared {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn home(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("the folder").join("home")
    }

    fn file(&self) -> PathBuf {
        fs::create_dir_all(self.home()).expect("the home");
        self.home().join("test.sqlite")
    }

    /// Refused with this kind, naming the file, with advice, and nothing changed; twice, to see that the first try
    /// left nothing behind.
    fn refuses(&self, expected: ErrorKind, domain: &Domain) -> Error {
        let before = content(&self.home());
        let mut last = None;
        for _ in 0..2 {
            let error = refused(&self.home(), domain.clone());
            assert_eq!(error.kind(), expected, "{error:?}");
            assert_eq!(error.path(), Some(self.home().join("test.sqlite").as_path()), "{error}");
            assert_eq!(error.database(), Some("test"), "{error}");
            assert!(error.advice().is_some(), "{error}");
            assert!(content(&self.home()) == before, "something was changed, or is half made");
            last = Some(error);
        }
        last.expect("an error")
    }
}

/// Every file of a home by name with its bytes, but for the engine's own folders and SQLite's memory file.
fn content(home: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(home) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| !["locks", "run"].contains(&&*entry.file_name().to_string_lossy()))
        .filter(|entry| !entry.file_name().to_string_lossy().ends_with("-shm"))
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).unwrap_or_default())
        })
        .collect();
    // An empty log says nothing.
    found.retain(|(name, bytes)| !name.ends_with("-wal") || !bytes.is_empty());
    found.sort();
    found
}

#[test]
fn a_home_that_is_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().canonicalize().expect("the folder").join("file");
    fs::write(&file, "precious").expect("written");
    for home in [file.clone(), file.join("below")] {
        let error = refused(&home, domain());
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.path(), Some(file.as_path()));
        assert!(error.advice().is_some(), "{error}");
    }
    assert_eq!(fs::read_to_string(&file).expect("it"), "precious");
}

#[test]
fn a_home_that_cannot_be_made() {
    // Even root makes nothing here.
    for home in ["/proc/rowhouse-home", "/sys/rowhouse-home"] {
        if !Path::new(home).parent().is_some_and(Path::exists) {
            println!("not run for {home}: there is no such file system here");
            continue;
        }
        let error = refused(Path::new(home), domain());
        assert!(
            matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::NotFound | ErrorKind::Io),
            "{error:?}"
        );
        assert!(error.path().is_some_and(|path| path.starts_with(home)), "{error}");
        assert!(!Path::new(home).exists());
    }
}

#[test]
fn a_home_whose_folders_are_files() {
    for taken in ["locks", "run"] {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(taken), "precious").expect("written");
        let error = refused(folder.path(), domain());
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
        assert!(error.path().expect("a path").ends_with(taken), "{error}");
        assert_eq!(fs::read_to_string(folder.path().join(taken)).expect("it"), "precious");
        assert!(!folder.path().join("test.sqlite").exists());
    }
}

#[test]
fn a_folder() {
    let place = Prepared::new();
    fs::create_dir(place.file()).expect("a folder");
    fs::write(place.file().join("precious"), "x").expect("written");
    place.refuses(ErrorKind::Invalid, &domain());
    assert!(place.file().join("precious").exists());
}

#[test]
fn a_text_file_of_any_length() {
    for text in ["x".to_owned(), "a text".to_owned(), "a longer text\n".repeat(5000)] {
        let place = Prepared::new();
        fs::write(place.file(), text).expect("written");
        let error = place.refuses(ErrorKind::Corrupt, &domain().on_damage(OnDamage::Refuse));
        assert!(error.to_string().contains("not an SQLite database"), "{error}");
    }
}

#[test]
fn a_symbolic_link_a_dangling_one_and_a_hard_link() {
    for how in ["symbolic", "dangling", "hard"] {
        let place = Prepared::new();
        let elsewhere = place.folder.path().join("elsewhere.sqlite");
        if how != "dangling" {
            raw(&elsewhere).execute_batch(SQL).expect("a database");
        }
        match how {
            "hard" => fs::hard_link(&elsewhere, place.file()).expect("a link"),
            _ => symlink(&elsewhere, place.file()).expect("a link"),
        }
        let before = fs::read(&elsewhere).ok();
        place.refuses(ErrorKind::Invalid, &domain());
        assert_eq!(fs::read(&elsewhere).ok(), before, "{how}");
    }
}

#[test]
fn a_database_of_another_program() {
    let place = Prepared::new();
    raw(&place.file())
        .execute_batch("CREATE TABLE theirs(a); INSERT INTO theirs VALUES (1)")
        .expect("a database");
    place.refuses(ErrorKind::Conflict, &domain());

    let place = Prepared::new();
    raw(&place.file()).execute_batch("PRAGMA application_id=252006673").expect("a database");
    place.refuses(ErrorKind::Conflict, &domain());
}

#[test]
fn a_database_of_another_program_with_changes_in_its_log() {
    let place = Prepared::new();
    let original = place.folder.path().join("original.sqlite");
    let theirs = raw(&original);
    theirs.pragma_update(None, "journal_mode", "wal").expect("WAL");
    theirs.execute_batch("CREATE TABLE theirs(a); INSERT INTO theirs VALUES (1)").expect("tables");
    for ending in ["", "-wal"] {
        let name = |file: &Path| PathBuf::from(format!("{}{ending}", file.display()));
        // Copied by another process: closing a descriptor here would drop the locks of the open connection.
        let copied = std::process::Command::new("cp").arg(name(&original)).arg(name(&place.file())).status();
        assert!(copied.expect("cp").success());
    }
    place.refuses(ErrorKind::Conflict, &domain());
}

#[test]
fn a_database_of_another_domain() {
    let place = Prepared::new();
    drop(open(&place.home(), Domain::new("other").migrations(MIGRATIONS)).expect("opened").close(LONG));
    fs::rename(place.home().join("other.sqlite"), place.file()).expect("renamed");
    for ending in ["-wal", "-shm"] {
        let _ = fs::rename(
            place.home().join(format!("other.sqlite{ending}")),
            place.home().join(format!("test.sqlite{ending}")),
        );
    }
    let error = place.refuses(ErrorKind::Conflict, &domain());
    assert!(error.to_string().contains("other"), "{error}");
}

const V1: Migration = Migration { name: "V1__one", sql: "CREATE TABLE one(a)" };
const V2: Migration = Migration { name: "V2__two", sql: "CREATE TABLE two(a)" };
const V3: Migration = Migration { name: "V3__three", sql: "CREATE TABLE three(a)" };

#[test]
fn a_migration_that_fails_leaves_the_database_as_it_was() {
    const BAD: Migration =
        Migration { name: "V2__bad", sql: "CREATE TABLE two(a); INSERT INTO nowhere VALUES (1)" };
    let with = |steps: &[Migration]| Domain::new("test").migrations(steps);
    let place = Prepared::new();
    let runtime = open(&place.home(), with(&[V1])).expect("opened");
    runtime
        .database("test")
        .expect("it")
        .write(|tx| tx.execute("INSERT INTO one VALUES (1)", []))
        .expect("a row");
    runtime.close(LONG);
    drop(runtime);
    for _ in 0..2 {
        let error = refused(&place.home(), with(&[V1, BAD]));
        assert_eq!((error.kind(), error.database()), (ErrorKind::Invalid, Some("test")), "{error:?}");
        assert!(error.to_string().contains("V2__bad") && error.path().is_some(), "{error}");
    }
    // The older program still works, with its row, and nothing of the failed step is there.
    let runtime = open(&place.home(), with(&[V1])).expect("opened");
    let db = runtime.database("test").expect("it");
    assert_eq!(db.read(|at| number(at, "SELECT count(*) FROM one")).expect("a count"), 1);
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'two'";
    assert_eq!(db.read(|at| number(at, tables)).expect("a count"), 0);
    runtime.close(LONG);
    drop((db, runtime));
    open(&place.home(), with(&[V1, V2])).expect("a mended one goes through");
}

#[test]
fn a_first_migration_that_fails_can_be_mended() {
    const BAD: Migration = Migration { name: "V1__bad", sql: "CREATE TABLE one(a); SYNTAX" };
    let place = Prepared::new();
    let error = refused(&place.home(), Domain::new("test").migrations(&[BAD]));
    assert!(error.to_string().contains("V1__bad") && error.path().is_some(), "{error}");
    let runtime = open(&place.home(), domain()).expect("nothing is in the way");
    runtime.database("test").expect("it").write(insert("a")).expect("it works");
}

#[test]
fn a_gap_in_the_history() {
    let place = Prepared::new();
    drop(open(&place.home(), Domain::new("test").migrations(&[V1, V3])).expect("opened").close(LONG));
    let error = place.refuses(ErrorKind::Conflict, &Domain::new("test").migrations(&[V1, V2, V3]));
    assert!(error.to_string().contains("V2__two"), "{error}");
    open(&place.home(), Domain::new("test").migrations(&[V1, V3]))
        .expect("the program that made it still works");
}

#[test]
fn a_bad_row_in_the_history() {
    for bad in [
        "UPDATE refinery_schema_history SET version = 'x'",
        "UPDATE refinery_schema_history SET checksum = 'secret'",
        "UPDATE refinery_schema_history SET name = NULL",
        "UPDATE rowhouse_meta SET schema_version = 99",
        "DELETE FROM refinery_schema_history",
    ] {
        let place = Prepared::new();
        drop(open(&place.home(), Domain::new("test").migrations(&[V1])).expect("opened").close(LONG));
        raw(&place.file()).execute_batch(bad).expect(bad);
        let error = place.refuses(ErrorKind::Corrupt, &Domain::new("test").migrations(&[V1]));
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn a_bad_name_creates_nothing() {
    for name in ["", "../x", "A", "a/b", "a.b"] {
        let place = Prepared::new();
        assert_eq!(refused(&place.home(), Domain::new(name)).kind(), ErrorKind::Invalid);
        assert!(!place.home().exists(), "{name}");
    }
}

#[test]
fn one_bad_database_closes_the_others_again() {
    let place = Prepared::new();
    fs::write(place.file(), "a text").expect("written");
    let refuses = domain().on_damage(OnDamage::Refuse);
    let answer = Runtime::builder(Home::at(place.home())).domain(Domain::new("good")).domain(refuses).open();
    assert_eq!(answer.map(drop).expect_err("one is bad").kind(), ErrorKind::Corrupt);
    until("the last descriptor", || open_files(&place.home()).is_empty());
    fs::remove_file(place.file()).expect("removed");
    let runtime =
        Runtime::builder(Home::at(place.home())).domain(Domain::new("good")).domain(domain()).open();
    runtime.expect("now it works").database("test").expect("it").write(insert("a")).expect("written");
}
