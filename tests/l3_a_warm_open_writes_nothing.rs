//! Opening a settled home writes nothing and runs no statement that could: what runs is traced on every connection.

mod processes;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use processes::{BUILT_IN, Child};
use rowhouse::rusqlite::{Connection, ErrorCode, ffi};
use rowhouse::{Home, Runtime};

const LONG: Duration = Duration::from_secs(20);

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [file] = &arguments[1..] else { panic!("a database: {arguments:?}") };
    processes::hold(file.as_ref());
}

/// Statements that began to run, on any connection of this process, and whether SQLite says that they only read.
static RAN: Mutex<Vec<(String, bool)>> = Mutex::new(Vec::new());

/// Traces every connection from its opening on: SQLite calls this before its opener gets it.
unsafe extern "C" fn on_open(
    connection: *mut ffi::sqlite3,
    _: *mut *mut c_char,
    _: *const ffi::sqlite3_api_routines,
) -> c_int {
    // SAFETY: a connection that was just opened; the callback is a plain function and needs no context.
    unsafe {
        ffi::sqlite3_trace_v2(
            connection,
            ffi::SQLITE_TRACE_STMT as c_uint,
            Some(on_statement),
            std::ptr::null_mut(),
        )
    }
}

unsafe extern "C" fn on_statement(
    _: c_uint,
    _: *mut c_void,
    statement: *mut c_void,
    _: *mut c_void,
) -> c_int {
    let statement = statement.cast::<ffi::sqlite3_stmt>();
    // SAFETY: SQLite hands over the statement that begins to run; its text ends in NUL and lives as long.
    let (text, reads) =
        unsafe { (CStr::from_ptr(ffi::sqlite3_sql(statement)), ffi::sqlite3_stmt_readonly(statement) != 0) };
    RAN.lock().expect("no panic there").push((text.to_string_lossy().into_owned(), reads));
    0
}

fn trace_every_connection() {
    // SAFETY: a plain function of the type that it asks for (<https://sqlite.org/c3ref/auto_extension.html>).
    assert_eq!(unsafe { ffi::sqlite3_auto_extension(Some(on_open)) }, ffi::SQLITE_OK);
}

/// What ran since the last call and may write. SQLite counts every `PRAGMA journal_mode` as one that could change the
/// mode; without a value it only asks.
fn writing() -> Vec<String> {
    let ran = std::mem::take(&mut *RAN.lock().expect("no panic there"));
    assert!(!ran.is_empty(), "the trace sees the statements");
    ran.into_iter()
        .filter(|(text, reads)| !reads && text != "PRAGMA journal_mode")
        .map(|(text, _)| text)
        .collect()
}

/// Length and last change of a database's file and its log.
fn state(file: &Path) -> Vec<Option<(u64, i64, i64)>> {
    ["", "-wal"]
        .iter()
        .map(|ending| {
            let found = std::fs::metadata(format!("{}{ending}", file.display())).ok()?;
            Some((found.len(), found.mtime(), found.mtime_nsec()))
        })
        .collect()
}

/// What programs send at every start although nothing changes.
const ZERO_ROWS: [&str; 4] = [
    "INSERT OR IGNORE INTO rowhouse_meta SELECT * FROM rowhouse_meta",
    "UPDATE rowhouse_meta SET program = program WHERE id = 2",
    "DROP TRIGGER IF EXISTS t; CREATE TRIGGER t AFTER DELETE ON rowhouse_meta BEGIN SELECT 1; END",
    "PRAGMA user_version = 1",
];

/// On a settled schema an open asks and compares; it sends no statement that needs the write lock, and neither a
/// database nor its log changes by a byte.
///
/// Scale: the four databases, every statement of every connection traced; then each held by another process.
/// Control: writes that change no row (`INSERT OR IGNORE`, `UPDATE` of nothing, `CREATE TRIGGER` again,
/// `PRAGMA user_version`) are seen by the trace, and each of them fails on the lock.
#[test]
fn l3_a_warm_open_writes_nothing() {
    let home = processes::folder();
    let open = || Runtime::open(Home::at(home.path())).expect("the home opens");
    let look = |runtime: &Runtime| {
        for name in BUILT_IN {
            let database = runtime.database(name).expect("the domain");
            let rows = "SELECT count(*) FROM sqlite_schema";
            database.read(|at| at.row(rows, [], |row| row.get::<_, i64>(0))).expect("a read");
        }
    };
    trace_every_connection();
    let runtime = open();
    look(&runtime);
    let created = writing();
    assert!(created.iter().any(|text| text.contains("CREATE TABLE")), "the trace sees writes");
    runtime.close(LONG);
    drop(runtime);
    RAN.lock().expect("no panic there").clear();

    let files = BUILT_IN.map(|name| home.path().join(format!("{name}.sqlite")));
    let before = files.each_ref().map(|file| state(file));
    let runtime = open();
    look(&runtime);
    assert_eq!(writing(), [] as [&str; 0], "these could write");
    assert_eq!(files.each_ref().map(|file| state(file)), before, "and nothing was written");

    // A one-shot process that only reads is not in a sibling's way, and a sibling not in its.
    runtime.close(LONG);
    drop(runtime);
    for file in &files {
        let child = Child::start("hold", &[processes::text(file)]);
        child.wait_for("holding");
        let runtime = open();
        look(&runtime);
        assert_eq!(writing(), [] as [&str; 0], "these could write");
        runtime.close(LONG);
        drop(runtime);

        let plain: Connection = processes::plain(file);
        plain.busy_timeout(Duration::from_millis(20)).expect("a timeout");
        for zero in ZERO_ROWS {
            let error = plain.execute_batch(zero).expect_err(zero);
            assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy), "{zero}: {error}");
        }
        assert!(!writing().is_empty(), "the trace tells them");
        drop(plain);
        child.finish();
    }
}
