//! Another process's last close never takes the log away from under a live writer; and when somebody does take it away,
//! and others begin a new one, what was acknowledged on either side is there in the end.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod processes;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use processes::{Child, file, folder, integrity, open, plain, role, rounds, say, text};
use rowhouse::{Database, ErrorKind, Result, Tx};

const INSERT: &str = "INSERT INTO item(id, job, part) VALUES (?1, ?2, 0)";
/// Where the other process's ids begin.
const OTHERS: i64 = 1_000_000;

#[test]
fn child_entry() {
    let Some(arguments) = role() else { return };
    let [what, file, first, times] = &arguments[..] else {
        panic!("a file, a number and a count: {arguments:?}")
    };
    let connection = plain(Path::new(file));
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
    match &**what {
        "count" => return say(&format!("rows {}", number("SELECT count(*) FROM item"))),
        "checkpoint" => {
            assert_eq!(number("PRAGMA wal_checkpoint(TRUNCATE)"), 0);
            return say("done");
        }
        _ => connection.close().expect("closed"),
    }
    let first: i64 = first.parse().expect("a number");
    let times: i64 = times.parse().expect("a count");
    for id in first..first + times {
        let connection = plain(Path::new(file));
        connection.busy_timeout(Duration::from_mins(1)).expect("a timeout");
        connection.execute(INSERT, (id, 2)).expect("a row");
        connection.close().expect("closed");
    }
    say("done");
}

/// A process without the library opens, writes a row and closes, so many times.
fn others_write(file: &Path, first: i64, times: i64) {
    let child = Child::start("write", &[text(file), &first.to_string(), &times.to_string()]);
    child.wait_for("done");
    child.finish();
}

fn insert(id: i64) -> impl Fn(&Tx) -> Result<()> + Send + 'static {
    move |tx| tx.execute(INSERT, (id, 1)).map(drop)
}

fn ids(database: &Database) -> BTreeSet<i64> {
    let rows = database.read(|at| at.rows("SELECT id FROM item", [], |row| row.get(0))).expect("rows");
    rows.into_iter().collect()
}

fn remove_log(file: &Path) {
    for ending in ["-wal", "-shm"] {
        std::fs::remove_file(beside(file, ending)).expect("removed");
    }
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

fn log_of(file: &Path) -> u64 {
    std::fs::metadata(beside(file, "-wal")).expect("a log").ino()
}

/// Nothing of this library drops its own locks on the file, so SQLite never takes another process's close for the last.
///
/// Scale: 100 opens, writes and closes of a process without the library beside a live writer (`ROWHOUSE_TEST_ROUNDS`
/// for more).
///
/// Control: after descriptors of the file and its -shm were closed by hand, the next close of the other process removes the
/// log.
#[test]
fn p3_a_close_of_another_process_leaves_the_log_alone() {
    let folder = folder();
    let runtime = open(folder.path());
    let database = runtime.database("work").expect("the domain");
    database.write(insert(0)).expect("a row");
    let (file, rounds) = (file(folder.path()), i64::try_from(rounds(100)).expect("a count"));
    let log = log_of(&file);
    for n in 0..rounds / 10 {
        others_write(&file, OTHERS + n * 10, 10);
        database.write(insert(n + 1)).expect("a row");
        assert_eq!(log_of(&file), log, "round {n}");
    }
    assert_eq!(i64::try_from(ids(&database).len()).expect("a count"), rounds / 10 * 11 + 1);

    // What the header sniffers, hashers and copiers of other programs do.
    for ending in ["", "-shm"] {
        drop(std::fs::File::open(beside(&file, ending)).expect("a file"));
    }
    others_write(&file, 2 * OTHERS, 1);
    let found = std::fs::metadata(beside(&file, "-wal"));
    assert!(found.map_or(true, |found| found.ino() != log), "the control kept its log");
}

/// The writer reports within one commit; it copies what only the removed log holds into the quarantine, goes on with the
/// new log, and adds the rows that are missing there.
///
/// Scale: 300 rows before, 50 of another process in a log of its own; with and without a job in the queue.
///
/// Control: a plain connection commits on into the removed log, and nobody ever sees it.
#[test]
fn p3_a_removed_log_loses_no_acknowledged_row() {
    for queued in [false, true] {
        let folder = folder();
        let runtime = open(folder.path());
        let database = runtime.database("work").expect("the domain");
        let mut acknowledged: BTreeSet<i64> = (0..300).collect();
        let file = file(folder.path());
        // The schema is in the main file, the rows are only in the log.
        plain_checkpoint(&file);
        for id in &acknowledged {
            database.write(insert(*id)).expect("a row");
        }
        // The writer is kept from looking while the others begin anew, as it is when it is stopped.
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let (inside, entered) = std::sync::mpsc::channel();
        let held = database
            .submit(move |_| {
                inside.send(()).expect("the test waits");
                let _ = wait.recv();
                Ok(())
            })
            .expect("queued");
        entered.recv().expect("the writer is inside");
        remove_log(&file);
        others_write(&file, OTHERS, 50);
        acknowledged.extend(OTHERS..OTHERS + 50);
        let queued = queued.then(|| database.submit(insert(999)).expect("queued"));
        go_on.send(()).expect("the writer waits");
        assert_eq!(held.wait().expect_err("the log is not ours").kind(), ErrorKind::Replaced);
        if let Some(queued) = queued {
            queued.wait().expect("it ran when the database was open again");
            acknowledged.insert(999);
        }
        database.write(insert(1000)).expect("it works again");
        acknowledged.insert(1000);
        let found = ids(&database);
        assert!(acknowledged.is_subset(&found), "lost: {:?}", acknowledged.difference(&found));
        let told = database.warnings().join("\n");
        assert!(told.contains("quarantine") && told.contains("brought back"), "{told}");
        drop((database, runtime));
        assert_eq!(integrity(&file), "ok");
    }

    let folder = folder();
    let file = folder.path().join("plain.sqlite");
    let connection = plain(&file);
    connection
        .execute_batch(
            "PRAGMA journal_mode=WAL; CREATE TABLE item(id INTEGER PRIMARY KEY, job, part);
             PRAGMA wal_checkpoint(TRUNCATE)",
        )
        .expect("a table");
    remove_log(&file);
    others_write(&file, OTHERS, 1);
    connection.execute(INSERT, (1, 1)).expect("SQLite says it is committed");
    let child = Child::start("count", &[text(&file), "0", "0"]);
    assert_eq!(child.wait_for("rows"), "1", "the control lost nothing: the other process sees its row");
    child.finish();
}

/// Works the log off, in a process of its own: a connection of this one would share its locks.
fn plain_checkpoint(file: &Path) {
    let child = Child::start("checkpoint", &[text(file), "0", "0"]);
    child.wait_for("done");
    child.finish();
}
