//! A home that may not be written is read, with a warning, and nothing is created in it.
#![cfg(target_os = "linux")]

#[path = "processes/confined.rs"]
mod confined;
mod processes;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use confined::{content, is_root, make_read_only, make_writable, open_the_way};
use processes::{Child, SCHEMA, file, listen, open, plain, say, text};
use rowhouse::rusqlite::{Connection, OpenFlags};
use rowhouse::{Database, Domain, Home, Migration, Result, Runtime, RuntimeDbRegistry};

const COUNT: &str = "SELECT count(*) FROM item";
const INSERT: &str = "INSERT INTO item(job, part) VALUES (1, 1)";

/// The schema of a later version.
const NEWER: &[Migration] =
    &[SCHEMA[0], Migration { name: "V2__colour", sql: "ALTER TABLE item ADD COLUMN colour TEXT" }];

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["write", home] => write_and_wait(home.as_ref()),
        ["look", how, domains, home] => {
            match how {
                "user" => confined::become_user(),
                "mount" => confined::mount_read_only(home.as_ref()),
                "sandbox" => confined::write_only_below(&std::env::temp_dir()),
                "as-is" => {}
                other => panic!("{other}"),
            }
            look(home.as_ref(), domains);
        }
        _ => panic!("{words:?}"),
    }
}

/// Five rows that stay in the log.
fn write_and_wait(home: &Path) {
    let runtime = open(home);
    let work = runtime.database("work").expect("the domain");
    for _ in 0..5 {
        work.write(|tx| tx.execute(INSERT, [])).expect("written");
    }
    say("written");
    listen();
}

/// Opens a home and does what it is told.
fn look(home: &Path, domains: &str) {
    let builder = Runtime::builder(Home::at(home));
    let work = Domain::new("work").migrations(SCHEMA);
    let opened = match domains {
        "work" => builder.domain(work),
        "newer" => builder.domain(Domain::new("work").migrations(NEWER)),
        "required" => builder.domain(work).domain(Domain::new("extra")),
        "best effort" => builder.domain(work).domain(Domain::new("extra").best_effort()),
        other => panic!("{other}"),
    }
    .open();
    let runtime = match opened {
        Ok(runtime) => runtime,
        Err(error) => return say(&format!("failed {error:?}")),
    };
    let database = runtime.database("work").expect("the domain");
    say(&format!("opened {:?} {:?}", runtime.health(), database.warnings()));
    loop {
        let told = listen();
        let answer = match told.split_once(' ').unwrap_or((&told, "")) {
            ("", _) => return,
            ("count", _) => shown(number(&database, COUNT)),
            ("sql", sql) => shown(number(&database, sql)),
            ("write", name) => {
                let database =
                    if name.is_empty() { database.clone() } else { runtime.database(name).expect("it") };
                let began = Instant::now();
                let answer = database.write(|tx| tx.execute(INSERT, []));
                format!("{} {}", began.elapsed().as_millis(), shown(answer))
            }
            ("health", name) => format!("{:?}", runtime.database(name).expect("it").health()),
            ("registry", _) => {
                let registry = RuntimeDbRegistry::new(&Home::at(home));
                let listed = registry.list().expect("a list").len();
                shown(registry.inspect("work").map(|found| (listed, found.page_count > 0)))
            }
            ("reopen", _) => shown(database.reopen()),
            ("watch", _) => {
                let seen = database.changes().expect("a number");
                say("watching");
                shown(database.wait_for_change(seen, processes::seconds(20.0)).map(|now| now != seen))
            }
            ("plain", _) => plainly(&file(home), ""),
            ("immutable", _) => plainly(&file(home), "?immutable=1"),
            other => panic!("{other:?}"),
        };
        say(&answer);
    }
}

fn number(database: &Database, sql: &str) -> Result<i64> {
    database.read(|at| at.row(sql, [], |row| row.get(0)))
}

fn shown<T: std::fmt::Debug>(answer: Result<T>) -> String {
    match answer {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{error:?}"),
    }
}

/// What a read-only connection of SQLite's own answers.
#[allow(clippy::disallowed_methods)] // the control
fn plainly(path: &Path, how: &str) -> String {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let count = || {
        let connection = Connection::open_with_flags(format!("file:{}{how}", path.display()), flags)?;
        connection.query_row(COUNT, [], |row| row.get::<_, i64>(0))
    };
    count().map_or_else(|error| format!("failed: {error}"), |count| count.to_string())
}

/// A home with five rows in its file, in a folder that everybody may pass.
struct Place {
    home: PathBuf,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        // Not below the folder for temporary files, which a sandbox may write.
        let folder =
            tempfile::Builder::new().prefix("rowhouse-test-").tempdir_in("/var/tmp").expect("a folder");
        open_the_way(folder.path());
        let home = folder.path().canonicalize().expect("canonical").join("home");
        let runtime = open(&home);
        for _ in 0..5 {
            runtime.database("work").expect("it").write(|tx| tx.execute(INSERT, [])).expect("written");
        }
        runtime.close(processes::seconds(20.0));
        Self { home, folder }
    }

    fn beside(&self, ending: &str) -> PathBuf {
        self.home.join(format!("work.sqlite{ending}"))
    }

    /// Takes the permission to write away, where that is what keeps a home from being written.
    fn make_read_only(&self, how: &str) {
        if how != "sandbox" {
            make_read_only(&self.home);
        }
    }

    /// Five more rows, in a log whose writer was killed.
    fn kill_a_writer(&self) {
        let mut child = Child::start("write", &[text(&self.home)]);
        child.wait_for("written");
        child.kill();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        make_writable(&self.home);
        assert!(self.folder.path().exists());
    }
}

/// A child that may not write, and what it says.
struct Looker(Child);

impl Looker {
    fn start(how: &str, domains: &str, home: &Path) -> (Self, String) {
        let child = Child::start("look", &[how, domains, text(home)]);
        let opened = child.line().expect("it opens");
        (Self(child), opened)
    }

    fn ask(&mut self, what: &str) -> String {
        self.0.tell(what);
        self.0.line().expect("an answer")
    }
}

/// How a home is kept from being written: by its permissions, by a mount, by a sandbox.
fn ways() -> Vec<&'static str> {
    let mut ways = if is_root() { vec!["user", "mount"] } else { vec!["as-is"] };
    if confined::has_sandboxes() {
        ways.push("sandbox");
    }
    ways
}

/// Read by what lies there: beside its writers, as a file that does not change, or from a private copy of a log that
/// has no index; writes are refused at once, and not a byte of the home changes.
///
/// Scale: 5 states of a home, by permissions as another user, through a read-only mount, and in a sandbox (Landlock).
/// Control: SQLite's own read-only connection fails where log and index are missing, and an immutable one misses the
/// five rows in the log.
#[test]
fn n6_a_home_that_may_not_be_written_is_read_and_left_as_it_is() {
    let (mut plain_failures, mut immutable_misses) = (0, 0);
    for how in ways() {
        for state in ["closed", "closed, no log", "log and index", "log, no index", "log, index unreadable"] {
            let place = Place::new();
            let mut expected = "5";
            match state {
                "closed" => {}
                "closed, no log" => {
                    fs::remove_file(place.beside("-wal")).expect("removed");
                    fs::remove_file(place.beside("-shm")).expect("removed");
                }
                _ => {
                    place.kill_a_writer();
                    expected = "10";
                }
            }
            if state == "log, no index" {
                fs::remove_file(place.beside("-shm")).expect("removed");
            }
            place.make_read_only(how);
            if state == "log, index unreadable" {
                confined::set_mode(&place.beside("-shm"), 0o000);
            }
            let before = content(&place.home);
            let (mut looker, opened) = Looker::start(how, "work", &place.home);
            let case = format!("{how}, {state}");
            assert!(opened.starts_with("opened ReadOnly"), "{case}: {opened}");
            assert!(opened.contains("it can only be read"), "{case}: {opened}");
            for _ in 0..3 {
                assert_eq!(looker.ask("count"), expected, "{case}");
            }
            let refused = looker.ask("write");
            let (took, refused) = refused.split_once(' ').expect("time and error");
            assert!(
                refused.starts_with("read_only: work: ") && refused.contains("ephemeral"),
                "{case}: {refused}"
            );
            assert!(took.parse::<u64>().expect("milliseconds") < 1000, "{case}: {took} ms");
            assert_eq!(looker.ask("registry"), "(1, true)", "{case}");
            plain_failures += usize::from(looker.ask("plain").starts_with("failed"));
            immutable_misses += usize::from(looker.ask("immutable") == "5" && expected == "10");
            looker.0.finish();
            assert_eq!(content(&place.home), before, "{case}");
        }
    }
    assert!(plain_failures > 0, "control: SQLite's own read-only connection never failed");
    assert!(immutable_misses > 0, "control: an immutable connection never missed a row");
}

/// A reader without any right to write sees each commit of a writer beside it at its next read, and is woken by it.
///
/// Scale: 50 commits, read as another user, through a read-only mount, and in a sandbox.
/// Control: an immutable connection sees none of them.
#[test]
fn n6_commits_of_a_writer_beside_are_seen() {
    for how in ways() {
        let place = Place::new();
        let runtime = open(&place.home);
        let work = runtime.database("work").expect("it");
        // Its writer made it private; its owner lets others read it, and not write.
        for path in confined::everything(&place.home) {
            confined::set_mode(&path, if path.is_dir() { 0o755 } else { 0o644 });
        }
        if how == "as-is" {
            make_read_only(&place.home);
        }
        let (mut looker, opened) = Looker::start(how, "work", &place.home);
        assert!(opened.starts_with("opened ReadOnly"), "{how}: {opened}");
        let before = confined::everything(&place.home);
        let mut misses = 0;
        for round in 0..50 {
            assert_eq!(looker.ask("count"), (5 + round).to_string(), "{how}");
            looker.0.tell("watch");
            looker.0.wait_for("watching");
            work.write(|tx| tx.execute(INSERT, [])).expect("written");
            assert_eq!(looker.0.line().as_deref(), Some("true"), "{how}: it is woken");
            misses += usize::from(looker.ask("immutable") != (6 + round).to_string());
        }
        assert!(misses > 0, "control: an immutable connection saw every commit");
        looker.0.finish();
        assert_eq!(confined::everything(&place.home), before);
    }
}

/// Writers may come and go: what was read as unchanging is read beside them, and again as unchanging.
///
/// Scale: 5 writers, each with log and index of its own.
/// Control: an immutable connection kept open would go on with what it read first (above).
#[test]
fn n6_writers_may_come_and_go() {
    if !is_root() {
        eprintln!("not root: a writer of the same user could not come to a home that may not be written");
        return;
    }
    let place = Place::new();
    for ending in ["-wal", "-shm"] {
        fs::remove_file(place.beside(ending)).expect("removed");
    }
    let (mut looker, opened) = Looker::start("mount", "work", &place.home);
    assert!(opened.starts_with("opened ReadOnly"), "{opened}");
    for round in 0..5 {
        assert_eq!(looker.ask("count"), (5 + 2 * round).to_string());
        // The last plain connection takes log and index away, unless the reader still has them open.
        let writer = plain(&file(&place.home));
        writer.execute(INSERT, []).expect("written");
        assert_eq!(looker.ask("count"), (6 + 2 * round).to_string());
        writer.execute(INSERT, []).expect("written");
        drop(writer);
    }
    looker.0.finish();
}

/// A required database that is missing says so and names the way out; a best-effort one only degrades.
///
/// Scale: one home, two programs, each way.
/// Control: SQLite says "unable to open database file" for every reason there is.
#[test]
fn n6_a_missing_database_is_named() {
    for how in ways() {
        let place = Place::new();
        place.make_read_only(how);
        let before = content(&place.home);
        let (_, failed) = Looker::start(how, "required", &place.home);
        assert!(
            failed.starts_with("failed read_only: extra: there is no such database in this home"),
            "{failed}"
        );
        assert!(failed.contains("Builder::ephemeral()"), "{failed}");

        let (mut looker, opened) = Looker::start(how, "best effort", &place.home);
        assert!(opened.starts_with("opened ReadOnly"), "{opened}");
        assert_eq!(looker.ask("count"), "5");
        let refused = loop {
            // Attached in the background: by and by it is known to be missing.
            if looker.ask("health extra").starts_with("Degraded") {
                break looker.ask("write extra");
            }
        };
        let (took, refused) = refused.split_once(' ').expect("time and error");
        assert!(refused.starts_with("read_only: extra"), "{refused}");
        assert!(took.parse::<u64>().expect("milliseconds") < 1000, "{took} ms");
        looker.0.finish();
        assert_eq!(content(&place.home), before, "{how}");
    }
}

/// An older schema that may not be migrated is read as far as it goes, and a name that it lacks says why.
///
/// Scale: one home, a program one version ahead, each way.
/// Control: without the explanation the error is "no such column".
#[test]
fn n6_an_older_schema_is_read_as_far_as_it_goes() {
    for how in ways() {
        let place = Place::new();
        place.make_read_only(how);
        let (mut looker, opened) = Looker::start(how, "newer", &place.home);
        assert!(opened.contains("its schema is version 1, this program's is 2"), "{opened}");
        assert_eq!(looker.ask("count"), "5");
        let lacks = looker.ask("sql SELECT count(colour) FROM item");
        assert!(lacks.contains("its schema is older (version 1)"), "{lacks}");
        looker.0.finish();
    }
}

/// A home that may be written again is written after `reopen()`, without a restart.
///
/// Scale: one home of the reader's own, whose permissions come back.
/// Control: before that every write is refused.
#[test]
fn n6_reopen_writes_again_what_may_be_written_again() {
    let place = Place::new();
    let mut how = "as-is";
    if is_root() {
        how = "user";
        for path in confined::everything(&place.home) {
            std::os::unix::fs::chown(&path, Some(confined::USER), Some(confined::USER)).expect("the owner");
        }
    }
    make_read_only(&place.home);
    let (mut looker, opened) = Looker::start(how, "work", &place.home);
    assert!(opened.contains("chmod -R u+rwX"), "{opened}");
    assert!(looker.ask("write").contains("read_only"));
    assert!(looker.ask("reopen").contains("()"), "still to be read");
    assert!(looker.ask("write").contains("read_only"));
    for path in confined::everything(&place.home) {
        confined::set_mode(&path, if path.is_dir() { 0o700 } else { 0o600 });
    }
    assert_eq!(looker.ask("reopen"), "()");
    let wrote = looker.ask("write");
    assert!(wrote.ends_with(" 1"), "{wrote}");
    assert_eq!(looker.ask("count"), "6");
    looker.0.finish();
}
