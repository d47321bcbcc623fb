use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

use super::*;
use crate::domain;

const V1: domain::Migration =
    domain::Migration { name: "V1__page", sql: "CREATE TABLE page(url TEXT PRIMARY KEY, body TEXT) STRICT;" };
const V2: domain::Migration = domain::Migration {
    name: "V2__seen",
    sql: "ALTER TABLE page ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;",
};
const V3: domain::Migration = domain::Migration {
    name: "V3__by_seen",
    sql: "-- Two.\nCREATE INDEX by_seen ON page(seen);\nSELECT 1;\n",
};
const PROGRAM: (&str, &str) = ("shop", "1.2.3");

fn cache(migrations: &[domain::Migration]) -> Domain {
    Domain::new("cache").migrations(migrations)
}

fn text(name: &'static str, sql: &'static str) -> domain::Migration {
    domain::Migration { name, sql }
}

fn memory() -> Connection {
    Connection::open_in_memory().expect("an in-memory database")
}

/// A connection that never waits for a lock.
fn open(path: &Path) -> Connection {
    #[expect(clippy::disallowed_methods, reason = "a test of the schema, not of how files are opened")]
    let connection = Connection::open(path).expect("a database");
    connection.pragma_update(None, "busy_timeout", 0).expect("no busy timeout");
    connection.pragma_update(None, "journal_mode", "WAL").expect("WAL");
    connection
}

fn file() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache.sqlite");
    (folder, path)
}

fn migrated(migrations: &[domain::Migration]) -> Connection {
    let connection = memory();
    migrate(&connection, &cache(migrations), PROGRAM).expect("migrated");
    connection
}

fn meta_of(connection: &Connection) -> history::SchemaMeta {
    history::read_meta(connection).expect("meta").expect("a row")
}

/// Everything that a migration could leave behind.
fn contents(connection: &Connection) -> Vec<String> {
    let read = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).expect(sql);
        let rows = statement.query_map([], |row| row.get(0)).expect(sql);
        rows.collect::<rusqlite::Result<_>>().expect(sql)
    };
    let mut all =
        read("SELECT type || ' ' || name || ' ' || ifnull(sql, '') FROM sqlite_schema ORDER BY name");
    if all.iter().any(|line| line.contains(HISTORY)) {
        all.extend(read("SELECT version || ' ' || name || ' ' || checksum FROM refinery_schema_history"));
    }
    if all.iter().any(|line| line.starts_with("table rowhouse_meta ")) {
        all.extend(read("SELECT domain || schema_version || program_version FROM rowhouse_meta"));
    }
    all
}

/// Migrating fails, and leaves everything, and the connection, as they were.
fn fails(connection: &Connection, domain: &Domain) -> Error {
    let before = contents(connection);
    let error = migrate(connection, domain, PROGRAM).expect_err("a failure");
    assert!(connection.is_autocommit(), "a transaction is left open");
    assert_eq!(contents(connection), before);
    connection.execute_batch("SAVEPOINT free; RELEASE free").expect("the authorizer is gone");
    error
}

#[test]
fn a_fresh_file_gets_schema_history_and_meta() {
    let connection = memory();
    let domain = cache(&[V1, V2]).compatible_from(1, 2);
    let state = inspect(&connection, &domain).expect("a look");
    assert_eq!((state.access.clone(), state.found_version, state.settled()), (Access::ReadWrite, 0, false));
    let names: Vec<_> = state.pending.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["V1__page", "V2__seen"]);

    let outcome = migrate(&connection, &domain, PROGRAM).expect("migrated");
    assert_eq!(outcome, Outcome { applied: names, schema_version: 2 });
    let meta = meta_of(&connection);
    assert_eq!((&*meta.domain, meta.schema_version), ("cache", 2));
    assert_eq!((meta.oldest_reader, meta.oldest_writer), (1, 2));
    assert_eq!((&*meta.program, &*meta.program_version), PROGRAM);
    let times: String = connection
        .query_row("SELECT applied_on FROM refinery_schema_history WHERE version = 2", [], |row| row.get(0))
        .expect("a row");
    assert!(times.ends_with('Z') && times.parse::<jiff::Timestamp>().is_ok(), "{times}");
}

#[test]
fn a_domain_without_migrations_gets_only_meta() {
    let connection = migrated(&[]);
    assert_eq!(contents(&connection).len(), 2, "the table and its row");
    assert_eq!(meta_of(&connection).schema_version, 0);
    assert!(inspect(&connection, &cache(&[])).expect("a look").settled());
    let outcome = migrate(&connection, &cache(&[V1]), PROGRAM).expect("its first migration");
    assert_eq!(outcome, Outcome { applied: vec!["V1__page".to_owned()], schema_version: 1 });
}

#[test]
fn a_warm_look_passes_beside_a_writer() {
    let (_folder, path) = file();
    let domain = cache(&[V1, V2, V3]);
    migrate(&open(&path), &domain, PROGRAM).expect("migrated");
    let writer = open(&path);
    writer.execute_batch("BEGIN IMMEDIATE; INSERT INTO page(url) VALUES ('a')").expect("the write lock");

    let warm = open(&path);
    warm.pragma_update(None, "query_only", true).expect("no statement that writes");
    let state = inspect(&warm, &domain).expect("no lock in the way");
    assert!(state.settled() && state.warnings.is_empty(), "{state:?}");
    let outcome = migrate(&warm, &domain, PROGRAM).expect("no lock in the way");
    assert_eq!(outcome, Outcome { applied: Vec::new(), schema_version: 3 });
    assert!(warm.is_autocommit(), "the snapshot is given back");
    warm.pragma_update(None, "query_only", false).expect("writes again");
    let newer = cache(&[V1, V2, V3, text("V4__x", "SELECT 1")]);
    let error = migrate(&warm, &newer, PROGRAM).expect_err("needs the lock");
    assert_eq!(error.kind(), ErrorKind::Busy, "the writer does hold the lock");
}

#[test]
fn a_second_look_finds_what_another_process_did() {
    static WAITING: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
    fn waits(_: i32) -> bool {
        *WAITING.0.lock() = true;
        WAITING.1.notify_one();
        true
    }
    let (_folder, path) = file();
    let domain = cache(&[V1, V2]);
    let first = open(&path);
    first.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    apply(&first, &domain, &inspect(&first, &domain).expect("a look"), PROGRAM).expect("all but the commit");
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let connection = open(&path);
            connection.busy_handler(Some(waits)).expect("a busy handler");
            migrate(&connection, &domain, PROGRAM)
        });
        let mut waiting = WAITING.0.lock();
        while !*waiting {
            WAITING.1.wait(&mut waiting);
        }
        drop(waiting);
        first.execute_batch("COMMIT").expect("the first one's migrations");
        let outcome = second.join().expect("no panic").expect("nothing left to do");
        assert_eq!(outcome, Outcome { applied: Vec::new(), schema_version: 2 });
    });
}

#[test]
fn an_upgrade_keeps_rows_and_moves_meta() {
    let connection = migrated(&[V1]);
    connection.execute("INSERT INTO page(url) VALUES ('a')", []).expect("a row");
    let outcome = migrate(&connection, &cache(&[V1, V2, V3]), ("shop", "2.0.0")).expect("upgraded");
    assert_eq!(outcome.applied, ["V2__seen", "V3__by_seen"]);
    let seen: i64 = connection.query_row("SELECT seen FROM page", [], |row| row.get(0)).expect("a row");
    assert_eq!(seen, 0);
    let meta = meta_of(&connection);
    assert_eq!((meta.schema_version, &*meta.program_version), (3, "2.0.0"));
}

#[test]
fn a_database_that_plain_refinery_migrated_is_taken_over() {
    let connection = migrated(&[V1, V2]);
    connection.execute("DROP TABLE rowhouse_meta", []).expect("as refinery leaves it");
    let state = inspect(&connection, &cache(&[V1, V2])).expect("a look");
    assert!(state.pending.is_empty() && !state.settled());
    let outcome = migrate(&connection, &cache(&[V1, V2]), PROGRAM).expect("described");
    assert_eq!(outcome, Outcome { applied: Vec::new(), schema_version: 2 });
    assert!(inspect(&connection, &cache(&[V1, V2])).expect("a look").settled());
}

#[test]
fn a_failed_migration_leaves_nothing() {
    let bad =
        text("V3__bad", "CREATE TABLE half(a);\n\nINSERT INTO half VALUES (1), (2); CREATE TABLE half(b);");
    for connection in [memory(), migrated(&[V1])] {
        let error = fails(&connection, &cache(&[V1, V2, bad]));
        let told = error.to_string();
        assert!(told.contains("V3__bad, statement 3") && told.contains("SQLite code 1"), "{told}");
    }
}

#[test]
fn a_failed_statement_that_rolls_everything_back_leaves_nothing() {
    let rollback = text(
        "V2__or_rollback",
        "CREATE TABLE one(a UNIQUE); INSERT INTO one VALUES (1);
         INSERT OR ROLLBACK INTO one VALUES (1); CREATE TABLE outside(a);",
    );
    let raise = text(
        "V2__raise",
        "CREATE TABLE one(a); CREATE TRIGGER t BEFORE INSERT ON one BEGIN SELECT RAISE(ROLLBACK, 'no'); END;
         INSERT INTO one VALUES (1); CREATE TABLE outside(a);",
    );
    for bad in [rollback, raise] {
        let error = fails(&migrated(&[V1]), &cache(&[V1, bad]));
        assert_eq!(error.kind(), ErrorKind::Constraint, "{error}");
        assert!(error.sqlite_code().is_some() && error.to_string().contains(bad.name), "{error}");
    }
}

#[test]
fn a_failed_commit_leaves_nothing() {
    let orphan = text(
        "V2__orphan",
        "PRAGMA defer_foreign_keys = ON; CREATE TABLE child(url TEXT REFERENCES page(url));
         INSERT INTO child VALUES ('nowhere');",
    );
    let connection = migrated(&[V1]);
    connection.pragma_update(None, "foreign_keys", true).expect("foreign keys");
    let error = fails(&connection, &cache(&[V1, orphan]));
    assert_eq!(error.kind(), ErrorKind::Constraint);
    assert_eq!(error.sqlite_code(), Some(rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY));
    assert!(error.to_string().contains("V2__orphan"), "{error}");
}

#[test]
fn a_text_that_would_leave_the_transaction_is_refused() {
    for (sql, what) in [
        ("COMMIT", "transaction control"),
        ("CREATE TABLE a(b); END; CREATE TABLE c(d)", "transaction control"),
        ("ROLLBACK", "transaction control"),
        ("BEGIN", "transaction control"),
        ("SAVEPOINT s", "transaction control"),
        ("RELEASE s", "transaction control"),
        ("ATTACH 'other.sqlite' AS other", "ATTACH"),
        ("ATTACH ':mem' || 'ory:' AS other", "ATTACH"),
        ("DETACH main", "DETACH"),
        ("PRAGMA journal_mode = DELETE", "PRAGMA journal_mode"),
        ("PRAGMA user_version = 7", "PRAGMA user_version"),
        ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys"),
        ("PRAGMA writable_schema = ON", "PRAGMA writable_schema"),
        ("SELECT * FROM pragma_table_info('page')", "PRAGMA table_info"),
        ("DELETE FROM refinery_schema_history", "a change of refinery_schema_history"),
        ("UPDATE rowhouse_meta SET schema_version = 0", "a change of rowhouse_meta"),
        ("DROP TABLE Rowhouse_Meta", "a change of rowhouse_meta"),
        ("ALTER TABLE rowhouse_meta RENAME TO x", "a change of rowhouse_meta"),
    ] {
        let bad = domain::Migration { name: "V2__bad", sql };
        let error = fails(&migrated(&[V1]), &cache(&[V1, bad, text("V3__x", "CREATE TABLE x(y)")]));
        let told = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{sql}: {told}");
        assert!(
            told.contains("V2__bad") && told.contains(&format!("{what} is not allowed")),
            "{sql}: {told}"
        );
        assert_eq!(error.sqlite_code(), Some(rusqlite::ffi::SQLITE_AUTH), "{sql}: {told}");
    }
    for sql in ["VACUUM", "VACUUM INTO 'copy.sqlite'"] {
        let error = fails(&migrated(&[V1]), &cache(&[V1, domain::Migration { name: "V2__bad", sql }]));
        assert!(error.to_string().contains("V2__bad"), "{sql}: {error}");
    }
}

#[test]
fn a_text_may_not_stand_in_for_the_migrators_tables() {
    for sql in ["CREATE TABLE refinery_schema_history(version)", "CREATE TABLE rowhouse_meta(id)"] {
        let error = fails(&memory(), &cache(&[domain::Migration { name: "V1__own", sql }]));
        assert!(error.to_string().contains("V1__own, statement 1: a change of"), "{error}");
    }
}

#[test]
fn what_migrations_usually_do_is_allowed() {
    let connection = migrated(&[V1]);
    connection.execute("INSERT INTO page VALUES ('a', 'words')", []).expect("a row");
    let usual = text(
        "V2__usual",
        "PRAGMA Defer_Foreign_Keys = ON;
         CREATE VIRTUAL TABLE words USING fts5(body, content='page');
         INSERT INTO words(words) VALUES ('rebuild');
         CREATE TRIGGER added AFTER INSERT ON page BEGIN
             INSERT INTO words(rowid, body) VALUES (new.rowid, new.body);
         END;
         ALTER TABLE page ADD COLUMN size INTEGER NOT NULL DEFAULT 0 CHECK (size >= 0);
         ALTER TABLE page RENAME COLUMN size TO bytes;
         ALTER TABLE page DROP COLUMN bytes;
         CREATE TABLE copy AS SELECT * FROM page;
         DROP TABLE copy;
         CREATE VIRTUAL TABLE area USING rtree(id, a, b);
         INSERT INTO area VALUES (1, 2, 3);
         CREATE VIEW urls AS SELECT url FROM page;
         INSERT INTO page VALUES ('b', 'more words') RETURNING url;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT count(*) FROM n;
         ANALYZE; REINDEX;
         /* the end */",
    );
    migrate(&connection, &cache(&[V1, usual]), PROGRAM).expect("allowed");
    let hits: i64 = connection
        .query_row("SELECT count(*) FROM words WHERE words MATCH 'words'", [], |row| row.get(0))
        .expect("a search");
    assert_eq!(hits, 2);
}

#[test]
fn everything_is_one_commit() {
    static COMMITS: AtomicUsize = AtomicUsize::new(0);
    let connection = memory();
    let count = || COMMITS.fetch_add(1, Ordering::Relaxed) == usize::MAX;
    connection.commit_hook(Some(count)).expect("a hook");
    migrate(&connection, &cache(&[V1, V2, V3]), PROGRAM).expect("migrated");
    assert_eq!(COMMITS.load(Ordering::Relaxed), 1);
    migrate(&connection, &cache(&[V1, V2, V3]), PROGRAM).expect("settled");
    assert_eq!(COMMITS.load(Ordering::Relaxed), 1);
}

#[test]
fn a_connection_lost_before_the_commit_leaves_nothing() {
    let (_folder, path) = file();
    let domain = cache(&[V1, V2, V3]);
    let lost = open(&path);
    lost.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    let state = inspect(&lost, &domain).expect("a look");
    apply(&lost, &domain, &state, PROGRAM).expect("all but the commit");
    assert!(contents(&lost).len() > 3);
    drop(lost);

    let next = open(&path);
    assert_eq!(contents(&next), Vec::<String>::new());
    assert_eq!(migrate(&next, &domain, PROGRAM).expect("from the start").schema_version, 3);
}

#[test]
fn a_gap_is_named() {
    let connection = migrated(&[V1, V3_ALONE]);
    let error = fails(&connection, &cache(&[V1, V2, V3_ALONE]));
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("V2__seen was never applied, although V3 was"), "{error}");
}

const V3_ALONE: domain::Migration = domain::Migration { name: "V3__alone", sql: "CREATE TABLE alone(a)" };

#[test]
fn a_withdrawn_migration_is_a_warning() {
    let connection = migrated(&[V1, V2, V3]);
    let domain = cache(&[V1, V3]);
    let state = inspect(&connection, &domain).expect("a look");
    assert!(state.settled());
    assert_eq!(state.warnings, ["the migration V2__seen was applied, and is not among this program's"]);
    assert!(migrate(&connection, &domain, PROGRAM).expect("goes on").applied.is_empty());
}

#[test]
fn a_changed_text_is_a_warning() {
    let connection = migrated(&[V1, V2]);
    let changed = domain::Migration { sql: "SELECT 2", ..V2 };
    let domain = cache(&[V1, changed, V3]);
    let state = inspect(&connection, &domain).expect("a look");
    assert_eq!(state.warnings, ["the migration V2__seen was changed after it was applied"]);
    assert_eq!(migrate(&connection, &domain, PROGRAM).expect("goes on").applied, ["V3__by_seen"]);
}

#[test]
fn line_endings_do_not_count() {
    let unix = text("V1__lines", "CREATE TABLE a(b); -- one\nINSERT INTO a VALUES ('x\ny');\n");
    let dos = text("V1__lines", "CREATE TABLE a(b); -- one\r\nINSERT INTO a VALUES ('x\r\ny');\r\n");
    let connection = migrated(&[dos]);
    let state = inspect(&connection, &cache(&[unix])).expect("a look");
    assert!(state.settled() && state.warnings.is_empty(), "{:?}", state.warnings);
    let value: String = connection.query_row("SELECT b FROM a", [], |row| row.get(0)).expect("a row");
    assert_eq!(value, "x\ny", "the same data from either checkout");
}

#[test]
fn bad_meta_is_an_error() {
    for change in [
        "UPDATE rowhouse_meta SET schema_version = 9",
        "DROP TABLE refinery_schema_history",
        "DELETE FROM refinery_schema_history WHERE version = 2",
    ] {
        let connection = migrated(&[V1, V2]);
        connection.execute_batch(change).expect(change);
        let error = inspect(&connection, &cache(&[V1, V2])).expect_err(change);
        assert_eq!((error.kind(), error.sqlite_code()), (ErrorKind::Corrupt, None), "{change}: {error}");
    }
}

/// A file by a program at version 3 that lets programs of these versions in, seen by one at version 1.
fn seen_from_version_1(oldest_reader: i64, oldest_writer: i64) -> (Connection, State) {
    let connection = memory();
    let newer = cache(&[V1, V2, V3]).compatible_from(oldest_reader, oldest_writer);
    migrate(&connection, &newer, ("shop", "3.1")).expect("migrated");
    let state = inspect(&connection, &cache(&[V1])).expect("a look");
    assert_eq!((state.found_version, state.pending.len()), (3, 0));
    (connection, state)
}

#[test]
fn a_newer_schema_may_still_be_written() {
    let (connection, state) = seen_from_version_1(1, 1);
    assert_eq!(state.access, Access::ReadWrite);
    let before = contents(&connection);
    let outcome = migrate(&connection, &cache(&[V1]), PROGRAM).expect("settled");
    assert_eq!(outcome, Outcome { applied: Vec::new(), schema_version: 3 });
    assert_eq!(contents(&connection), before);
}

#[test]
fn a_newer_schema_may_be_for_reading_only() {
    let (connection, state) = seen_from_version_1(1, 2);
    let Access::ReadOnly(newer) = &state.access else { panic!("{:?}", state.access) };
    assert_eq!(newer.install, Some(("shop".to_owned(), "3.1".to_owned())));
    assert!(state.settled() && state.check().is_ok());
    assert!(migrate(&connection, &cache(&[V1]), PROGRAM).expect("no write").applied.is_empty());
}

#[test]
fn a_newer_schema_may_be_too_new() {
    let (connection, state) = seen_from_version_1(2, 3);
    assert!(matches!(state.access, Access::TooNew(_)), "{:?}", state.access);
    let error = fails(&connection, &cache(&[V1]));
    assert_eq!(error.kind(), ErrorKind::SchemaTooNew);
    assert_eq!(
        error.to_string(),
        "its schema is version 3, this program knows up to 1 and may not read it; install shop 3.1 or newer"
    );
    connection.execute("DROP TABLE rowhouse_meta", []).expect("nobody says what is compatible");
    assert_eq!(fails(&connection, &cache(&[V1])).kind(), ErrorKind::SchemaTooNew);
}

#[test]
fn a_newer_schema_is_not_given_what_it_left_out() {
    let connection = migrated(&[V1, text("V5__later", "CREATE TABLE later(a)")]);
    let state = inspect(&connection, &cache(&[V1, V2])).expect("a look");
    assert!(state.settled(), "V2 must not run on a schema that went on without it");
    assert_eq!(
        state.warnings,
        ["the migration V2__seen was not applied before the newer schema was written"]
    );
}

#[test]
fn another_domains_file_is_refused() {
    let connection = migrated(&[V1]);
    let error = fails(&connection, &Domain::new("mail").migrations(&[V1, V2]));
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("belongs to the domain cache, not to mail"), "{error}");
}

#[test]
fn a_bad_declaration_is_refused_by_name() {
    for (migrations, told) in [
        (&[text("V1_page", "")][..], "V1_page is not named"),
        (&[text("U1__page", "")], "U1__page is not named"),
        (&[text("|1__page", "")], "|1__page is not named"),
        (&[text("V1__page.sql", "")], "V1__page.sql is not named"),
        (&[text("V1.5__page", "")], "V1.5__page is not named"),
        (&[text("V__page", "")], "V__page is not named"),
        (&[text("V0__page", "")], "V0__page is not named"),
        (&[text("V99999999999__page", "")], "V99999999999__page is not named"),
        (&[V1, text("V01__again", "")], "V01__again comes after V1__page"),
        (&[V2, V1], "V1__page comes after V2__seen"),
        (&[text("V1__nul", "SELECT 1;\0DROP TABLE x")], "V1__nul contains a NUL"),
    ] {
        let error = validate(&cache(migrations)).expect_err(told);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(told), "{error}");
    }
    let error = validate(&cache(&[V1]).compatible_from(1, 2)).expect_err("no version 2");
    assert!(error.to_string().contains("the newest migration is 1"), "{error}");
    validate(&cache(&[V1, V3])).expect("numbers may leave gaps");
}

#[test]
fn a_stricter_word_is_written_without_a_migration() {
    let connection = migrated(&[V1, V2]);
    let strict = cache(&[V1, V2]).compatible_from(1, 2);
    assert!(!inspect(&connection, &strict).expect("a look").settled());
    let outcome = migrate(&connection, &strict, ("shop", "1.2.4")).expect("described");
    assert_eq!(outcome, Outcome { applied: Vec::new(), schema_version: 2 });
    let meta = meta_of(&connection);
    assert_eq!((meta.oldest_writer, &*meta.program_version), (2, "1.2.4"));
    assert!(inspect(&connection, &strict).expect("a look").settled());
    // Nor does the milder program of the same version take it back, or need the lock to find out.
    assert!(inspect(&connection, &cache(&[V1, V2])).expect("a look").settled());
    assert!(matches!(inspect(&connection, &cache(&[V1])).expect("a look").access, Access::ReadOnly(_)));
}

#[test]
fn tables_without_a_history_are_not_migrated() {
    let connection = migrated(&[V1]);
    connection.execute_batch("DROP TABLE rowhouse_meta; DROP TABLE refinery_schema_history").expect("lost");
    let error = fails(&connection, &cache(&[V1, V2]));
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.downcast_ref::<history::Unusable>().is_some(), "{error:?}");
}

#[test]
fn a_foreign_trigger_in_the_way_is_named() {
    let connection = migrated(&[V1]);
    connection
        .execute_batch(
            "CREATE TRIGGER theirs AFTER INSERT ON page BEGIN UPDATE page SET body = new.body; END",
        )
        .expect("a trigger");
    let error = fails(&connection, &cache(&[V1, text("V2__drop", "ALTER TABLE page DROP COLUMN body")]));
    let told = error.to_string();
    assert!(told.contains("V2__drop") && told.contains("the trigger theirs does not fit"), "{told}");
    assert!(told.contains("drop it or repair it"), "{told}");
}
