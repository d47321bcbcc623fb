//! With real locks, of this process and of others.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::home::Home;
use crate::sqlite::status_page::StatusPage;
use crate::sqlite::turn::locks::Locks as TurnLocks;

const DATABASE: &str = "ROWHOUSE_TEST_HOLD";

/// Ends the child also when the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[allow(clippy::disallowed_methods, reason = "a test's own database")]
fn hold(database: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(database).expect("a database");
    connection
        .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t(a); BEGIN IMMEDIATE; INSERT INTO t VALUES (1);")
        .expect("a write transaction");
    connection
}

fn wait_for_line(child: &mut Child) {
    let mut lines = BufReader::new(child.stdout.as_mut().expect("piped")).lines();
    lines
        .find(|line| line.as_ref().expect("text").contains("holding"))
        .expect("the child holds")
        .expect("text");
}

/// Not a test by itself: what the child of the next one runs.
#[test]
fn child_that_holds() {
    let Some(database) = std::env::var_os(DATABASE) else { return };
    let database = std::path::PathBuf::from(database);
    let page = StatusPage::create(&database.with_file_name("run"), "holder", "9.9").expect("a page");
    page.slot("state").job_started(b"import", 1234);
    let _connection = hold(&database);
    println!("holding");
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn another_process_in_a_write_transaction_is_named_with_its_job() {
    let root = tempfile::tempdir().expect("a folder");
    let home = Home::at(root.path()).prepare().expect("a home");
    let database = home.database_path("state");
    assert_eq!(write_lock_holder(&database), None);
    let program = std::env::current_exe().expect("this program");
    let mut child = Killed(
        Command::new(&program)
            .args(["--exact", "sqlite::holders::live::child_that_holds", "--nocapture"])
            .env(DATABASE, &database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child"),
    );
    wait_for_line(&mut child.0);
    let found = write_lock_holder(&database).expect("a holder");
    assert_eq!(found.pid, child.0.id());
    assert_eq!(Some(&*found.command), program.file_name().and_then(|name| name.to_str()));
    assert_eq!((found.label.as_deref(), found.since, found.stopped), (Some("import"), Some(1234), false));
    assert_eq!((found.program.as_deref(), found.version.as_deref()), (Some("holder"), Some("9.9")));

    let pid = rustix::process::Pid::from_child(&child.0);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("stopped");
    rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED).expect("stopped");
    let stopped = write_lock_holder(&database).expect("a holder");
    let told = ", job import since 1970-01-01T00:00:01Z, stopped)";
    assert!(stopped.stopped && stopped.to_string().ends_with(told), "{stopped}");
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("continued");

    child.0.stdin.take().expect("piped").write_all(b"\n").expect("told");
    child.0.wait().expect("ended");
    assert_eq!(write_lock_holder(&database), None);
}

#[test]
fn this_process_can_be_the_holder() {
    let root = tempfile::tempdir().expect("a folder");
    let database = root.path().join("state.sqlite");
    let connection = hold(&database);
    assert_eq!(write_lock_holder(&database).map(|holder| holder.pid), Some(std::process::id()));
    connection.execute_batch("COMMIT").expect("committed");
    assert_eq!(write_lock_holder(&database), None);
    connection.execute_batch("PRAGMA journal_mode=DELETE; BEGIN IMMEDIATE").expect("a transaction");
    assert_eq!(write_lock_holder(&database).map(|holder| holder.pid), Some(std::process::id()));
}

#[test]
fn the_holder_of_a_lock_file_is_named() {
    let root = tempfile::tempdir().expect("a folder");
    let home = Home::at(root.path()).prepare().expect("a home");
    let page = StatusPage::create(&home.run_dir(), "example", "1").expect("a page");
    page.slot("state").job_started(b"import", 1);
    let path = home.lock_path("state.turn");
    assert_eq!(flock_holder(&path), None);
    let file = File::create(&path).expect("a file");
    file.lock().expect("locked");
    let found = flock_holder(&path).expect("a holder");
    assert_eq!((found.pid, found.label.as_deref()), (std::process::id(), Some("import")));
    drop(file);
    assert_eq!(flock_holder(&path), None);
}

/// What this process has of a home's only database. For a moment a child that another test starts has copies of the
/// descriptors, so it need not be the only one.
fn own_use(home: &crate::home::PreparedHome) -> Option<who::DatabaseProcess> {
    let mut found = who::who(home, ["state".to_owned()].into());
    assert_eq!(found.databases.len(), 1, "{found:?}");
    let processes = found.databases.remove(0).processes.expect("told here");
    processes.into_iter().find(|user| user.process.pid == std::process::id())
}

#[test]
fn each_lock_of_a_database_is_called_by_its_name() {
    use who::DatabaseLock::{Init, Snapshot, Turn, Write};
    let folder = tempfile::tempdir().expect("a folder");
    let home = Home::at(folder.path()).prepare().expect("a home");
    let database = home.database_path("state");
    let connection = hold(&database);
    let own = || own_use(&home).expect("it is open here");
    let holds = || own().holds.expect("told here").into_iter().collect::<Vec<_>>();
    assert_eq!(holds(), [Write, Snapshot]);
    connection.execute_batch("COMMIT").expect("committed");
    assert_eq!(holds(), []);
    connection.execute_batch("BEGIN; SELECT * FROM t").expect("a snapshot");
    assert_eq!(holds(), [Snapshot]);
    connection.execute_batch("COMMIT").expect("ended");

    let turn = TurnLocks::open(&home.lock_path("state.room")).expect("a lock file");
    let init = File::create(home.lock_path("state.init")).expect("a lock file");
    assert!(turn.try_room());
    assert_eq!((holds(), own().waits_for), (vec![Turn], Some([].into())));
    assert!(turn.try_lobby());
    init.lock().expect("the right to create");
    assert_eq!((holds(), own().waits_for), (vec![Turn, Init], Some([Turn].into())));
    turn.leave_room();
    turn.leave_lobby();
    init.unlock().expect("left");

    let files = own().open_files;
    assert!(files >= Some(3), "main file, log and index: {files:?}");
    connection.execute_batch("PRAGMA journal_mode=DELETE; BEGIN IMMEDIATE").expect("a transaction");
    assert_eq!(holds(), [Write]);
    drop(connection);
    assert_eq!(own_use(&home), None);
}

#[test]
fn who_waits_behind_a_lock_file_is_seen() {
    let root = tempfile::tempdir().expect("a folder");
    let home = Home::at(root.path()).prepare().expect("a home");
    std::fs::write(home.database_path("state"), "").expect("a file");
    let open = || crate::home::open_lock_file(&home.lock_path("state.room")).expect("a lock file");
    let (first, second) = (open(), open());
    first.lock().expect("the turn");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| second.lock());
        let waits = || own_use(&home).expect("it has the turn").waits_for.expect("told here");
        while !waits().contains(&who::DatabaseLock::Turn) {
            std::thread::yield_now();
        }
        first.unlock().expect("left");
        waiting.join().expect("the waiter").expect("its turn");
    });
}

#[test]
fn a_deleted_database_is_still_told_with_its_bytes() {
    let root = tempfile::tempdir().expect("a folder");
    let home = Home::at(root.path()).prepare().expect("a home");
    let (database, other) = (home.database_path("state"), home.path().join("sessions"));
    std::fs::write(&database, [0; 3000]).expect("a file");
    std::fs::write(&other, [0; 70]).expect("a file");
    let _open = [File::open(&database), File::open(&other)].map(|file| file.expect("open"));
    let nothing = who::who(&home, ["state".to_owned()].into());
    assert_eq!(nothing.databases[0].deleted.as_deref(), Some(&[][..]));
    assert_eq!(nothing.deleted.as_deref(), Some(&[][..]));

    for gone in [&database, &other] {
        std::fs::remove_file(gone).expect("removed");
    }
    // Nothing names the database any more but its deleted file.
    let found = who::who(&home, std::collections::BTreeSet::new());
    assert_eq!(found.databases[0].name, "state");
    for (deleted, path, bytes) in [(&found.databases[0].deleted, database, 3000), (&found.deleted, other, 70)]
    {
        let [deleted] = &deleted.as_ref().expect("told here")[..] else { panic!("one file: {found:?}") };
        assert_eq!((&deleted.path, deleted.bytes), (&path, bytes));
        assert!(deleted.processes.iter().any(|process| process.pid == std::process::id()), "{deleted:?}");
    }
}
