//! A file that is shorter than what was written to it is told as such, of the right database.
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![cfg(target_os = "linux")]

use std::fs::{self, OpenOptions};
use std::path::Path;

use rowhouse::rusqlite::{self, Connection};
use rowhouse::{Domain, Error, ErrorKind, Home, Migration, Runtime};

const TABLE: &str = "CREATE TABLE page(id INTEGER PRIMARY KEY, body BLOB NOT NULL)";
const MIGRATIONS: &[Migration] = &[Migration { name: "V1__page", sql: TABLE }];
const FILL: &str = "INSERT INTO page(body) SELECT randomblob(4000) FROM
    (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) SELECT i FROM n)";
const SUM: &str = "SELECT sum(length(body)) FROM page";
/// `SQLITE_IOERR_SHORT_READ` (<https://sqlite.org/rescode.html#ioerr_short_read>).
const SHORT_READ: i32 = 522;

/// Cuts the log behind its users' backs: it then gives less than they know that it holds, as on AFS.
fn cut_log(database: &Path) {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    let log = OpenOptions::new().write(true).open(log).expect("the log");
    let length = log.metadata().expect("its size").len();
    assert!(length > 500_000, "the rows are not in the log");
    log.set_len(length / 10).expect("cut");
}

/// A short read names the database it happened in and its file system; the other databases of the home go on.
///
/// Scale: two databases of one home, the log of one cut to a tenth under its open connections.
/// Control: the same cut on a plain connection answers code 522 as "disk I/O error", and names no file.
#[test]
fn n2_a_short_read_names_its_database_and_file_system() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().canonicalize().expect("the folder");
    let domain = |name| Domain::new(name).migrations(MIGRATIONS);
    let runtime = Runtime::builder(Home::at(&home))
        .domain(domain("afs"))
        .domain(domain("sound"))
        .open()
        .expect("opened");
    let [afs, sound] = ["afs", "sound"].map(|name| runtime.database(name).expect("the domain"));
    for database in [&afs, &sound] {
        database.write(|tx| tx.execute(FILL, [])).expect("written");
    }
    cut_log(&home.join("afs.sqlite"));
    let sum = |at: &rowhouse::Snapshot| at.row(SUM, [], |row| row.get::<_, i64>(0));
    let error: Error = afs.read(sum).expect_err("a short read");
    assert_eq!(error.sqlite_code(), Some(SHORT_READ), "{error}");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!((error.database(), error.path()), (Some("afs"), Some(&*home.join("afs.sqlite"))));
    let listed = fs::read_to_string("/proc/self/mountinfo").expect("the list of mounts");
    let advice = error.advice().expect("advice");
    let named = advice.split("file system (").nth(1).and_then(|rest| rest.split_once(", mounted at "));
    let (name, rest) = named.unwrap_or_else(|| panic!("{advice}"));
    let (point, _) = rest.split_once(')').expect("a place");
    assert!(home.starts_with(point), "{advice}");
    assert!(listed.contains(&format!(" {point} ")) && listed.contains(&format!(" - {name} ")), "{advice}");
    assert_eq!(sound.read(sum).expect("the other database"), 200 * 4000);

    let error = plain(&home.join("plain.sqlite")).expect_err("a short read");
    let rusqlite::Error::SqliteFailure(code, _) = &error else { panic!("{error}") };
    assert_eq!(code.extended_code, SHORT_READ, "{error}");
    assert!(!error.to_string().contains("plain"), "{error}");
}

#[allow(clippy::disallowed_methods)] // the control
fn plain(path: &Path) -> rusqlite::Result<i64> {
    let writer = Connection::open(path)?;
    writer.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
    writer.pragma_update(None, "wal_autocheckpoint", 0)?;
    writer.execute_batch(&format!("{TABLE}; {FILL};"))?;
    cut_log(path);
    Connection::open(path)?.query_row(SUM, [], |row| row.get(0))
}
