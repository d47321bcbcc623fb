//! Salvaged rows go into a new database as its schema lets them, and what does not go in is counted.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "a test's own database")]

mod salvage;

use std::path::PathBuf;

use rowhouse::rusqlite::Connection;
use rowhouse::salvage::{Known, Report, fill};
use salvage::{Damaged, Original, Random, Subject, known};

struct Made {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn made(sql: &str) -> Made {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("damaged.sqlite");
    let db = Connection::open(&path).expect("a database");
    db.execute_batch("PRAGMA auto_vacuum=INCREMENTAL; PRAGMA foreign_keys=OFF").expect("set");
    db.execute_batch(sql).expect("rows");
    Made { _folder: folder, path }
}

fn target(schema: &str) -> Connection {
    let db = Connection::open_in_memory().expect("a database");
    db.execute_batch("PRAGMA auto_vacuum=INCREMENTAL; PRAGMA foreign_keys=ON").expect("set");
    db.execute_batch(schema).expect("a schema");
    db
}

fn filled(made: &Made, db: &Connection, skip: &[&str]) -> Report {
    fill(&made.path, None, &Known::of(db).expect("known"), db, skip).expect("filled")
}

fn number(db: &Connection, sql: &str) -> i64 {
    db.query_row(sql, [], |row| row.get(0)).expect(sql)
}

fn counts(report: &Report, table: &str) -> (u64, u64) {
    let table = report.table(table).expect("a table");
    (table.kept, table.refused_by_target)
}

/// Damage in, a database out that SQLite finds whole, with the very rows that were kept.
#[test]
fn a_damaged_state_becomes_a_whole_one() {
    let folder = tempfile::tempdir().expect("a folder");
    for kind in [2, 3, 6, 9] {
        let original = Original::make(folder.path(), Subject::State, 4096, true, 400, kind as u64);
        let mut damaged = Damaged::new(&original);
        damaged.strike(&original, kind, &mut Random(kind as u64));
        let path = damaged.write(folder.path());
        let db = target(&Subject::State.schema());
        let report = fill(&path, None, &original.known(), &db, &[]).expect("filled");
        let kept = number(&db, "SELECT count(*) FROM thread") as u64;
        assert_eq!(counts(&report, "thread").0, kept, "{}", damaged.what);
        assert!(kept > 200, "{}: {kept} of {}", damaged.what, original.count());
        let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
        assert_eq!(check, "ok");
    }
}

#[test]
fn children_whose_parent_is_lost_are_left_out_and_counted() {
    let schema = "CREATE TABLE parent(id TEXT PRIMARY KEY);
                  CREATE TABLE child(id INTEGER PRIMARY KEY, parent TEXT REFERENCES parent);
                  CREATE TABLE grandchild(a INTEGER, b INTEGER REFERENCES child(id), PRIMARY KEY (a)) WITHOUT ROWID;";
    let made = made(&format!(
        "{schema} INSERT INTO parent VALUES ('here'); INSERT INTO child VALUES (1, 'here'), (2, 'gone'), (3, NULL);
         INSERT INTO grandchild VALUES (1, 1), (2, 2), (3, NULL)"
    ));
    let db = target(schema);
    let report = filled(&made, &db, &[]);
    assert_eq!(counts(&report, "child"), (2, 1));
    assert_eq!(counts(&report, "grandchild"), (2, 1), "a child of a removed child");
    assert_eq!(number(&db, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
}

#[test]
fn rows_that_the_schema_refuses_are_counted() {
    let made = made(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, u TEXT);
         INSERT INTO t VALUES (1, 5, 'a'), (2, -1, 'b'), (3, 'word', 'c'), (4, 6, 'a'), (5, NULL, 'd'), (6, 7, 'e')",
    );
    let db = target(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER NOT NULL CHECK (n > 0), u TEXT UNIQUE) STRICT",
    );
    let report = filled(&made, &db, &[]);
    assert_eq!(counts(&report, "t"), (2, 4));
    assert_eq!(number(&db, "SELECT sum(id) FROM t"), 7);
}

#[test]
fn an_older_file_takes_the_defaults_of_columns_that_came_later() {
    let made = made(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'old');
         ALTER TABLE t ADD COLUMN n INTEGER NOT NULL DEFAULT 7; ALTER TABLE t ADD COLUMN w TEXT;
         INSERT INTO t VALUES (2, 'new', 8, 'w')",
    );
    let db = target(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, n INTEGER NOT NULL DEFAULT 7, w TEXT, later TEXT DEFAULT 'x')",
    );
    assert_eq!(counts(&filled(&made, &db, &[]), "t"), (2, 0));
    assert_eq!(number(&db, "SELECT n FROM t WHERE id = 1 AND w IS NULL AND later = 'x'"), 7);
    assert_eq!(number(&db, "SELECT n FROM t WHERE id = 2 AND w = 'w'"), 8);
}

#[test]
fn an_id_that_was_given_is_never_given_again() {
    let schema = "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT)";
    let made =
        made(&format!("{schema}; INSERT INTO t(v) VALUES ('a'), ('b'), ('c'); DELETE FROM t WHERE id > 1"));
    let db = target(schema);
    filled(&made, &db, &[]);
    db.execute("INSERT INTO t(v) VALUES ('next')", []).expect("a row");
    assert_eq!(db.last_insert_rowid(), 4);
}

#[test]
fn hidden_rowids_generated_columns_and_full_text_come_along() {
    let schema = "CREATE TABLE page(body TEXT, size INTEGER GENERATED ALWAYS AS (length(body)) STORED);
                  CREATE VIRTUAL TABLE words USING fts5(body, content='page', content_rowid='rowid');
                  CREATE TRIGGER page_in AFTER INSERT ON page BEGIN
                      INSERT INTO words(rowid, body) VALUES (new.rowid, new.body); END;";
    let made = made(&format!(
        "{schema} INSERT INTO page(rowid, body) VALUES (7, 'seven dwarfs'), (9, 'nine lives')"
    ));
    let db = target(schema);
    let report = filled(&made, &db, &[]);
    assert!(report.virtual_tables.is_empty(), "its texts are in another table");
    assert_eq!(number(&db, "SELECT rowid FROM words WHERE words MATCH 'lives'"), 9);
    assert_eq!(number(&db, "SELECT size FROM page WHERE rowid = 7"), 12);
    assert!(report.table("words_data").is_none());
}

/// A full-text index that keeps its texts itself is salvaged by them, also when the file has lost its schema; what keeps
/// none is told.
#[test]
fn full_text_indexes_that_keep_their_texts_come_along() {
    let schema = "CREATE VIRTUAL TABLE note USING fts5(title, body, lang UNINDEXED, tokenize='porter');
                  CREATE VIRTUAL TABLE bare USING fts5(body, content='');
                  CREATE VIRTUAL TABLE place USING rtree(id, x0, x1);";
    for without_schema in [false, true] {
        let made = made(&format!(
            "{schema} INSERT INTO note(rowid, title, body, lang) VALUES (3, 'walking', 'dogs', 'en'), (5, 'b', NULL, 'de');
             INSERT INTO bare(rowid, body) VALUES (1, 'gone'); INSERT INTO place VALUES (1, 0, 1);"
        ));
        if without_schema {
            let mut bytes = std::fs::read(&made.path).expect("the file");
            bytes[..4096].fill(0);
            std::fs::write(&made.path, bytes).expect("overwritten");
        }
        let db = target(schema);
        let report = filled(&made, &db, &[]);
        assert_eq!(counts(&report, "note_content"), (2, 0), "{report:?}");
        assert_eq!(report.virtual_tables, ["bare", "place"]);
        assert_eq!(number(&db, "SELECT rowid FROM note WHERE note MATCH 'title:walk'"), 3);
        assert_eq!(number(&db, "SELECT count(*) FROM note WHERE body IS NULL AND lang = 'de'"), 1);
        db.execute_batch(
            "INSERT INTO note(title) VALUES ('later'); DELETE FROM note WHERE rowid = 3;
             INSERT INTO note(note) VALUES ('integrity-check')",
        )
        .expect("it is used like any other");
        assert_eq!(number(&db, "SELECT max(rowid) FROM note WHERE note MATCH 'later'"), 6);
    }
}

#[test]
fn tables_to_skip_and_tables_without_a_place_are_left_alone() {
    let made = made(
        "CREATE TABLE history(version INTEGER); INSERT INTO history VALUES (9);
         CREATE TABLE unknown(v); INSERT INTO unknown VALUES (1), (2)",
    );
    let db = target("CREATE TABLE history(version INTEGER); INSERT INTO history VALUES (1)");
    let report = filled(&made, &db, &["history"]);
    assert_eq!(number(&db, "SELECT max(version) FROM history"), 1);
    assert_eq!(counts(&report, "history"), (0, 0));
    assert_eq!(counts(&report, "unknown"), (0, 2));
}

#[test]
fn a_failure_of_the_target_leaves_it_as_it_was() {
    let made = made("CREATE TABLE t(v); INSERT INTO t VALUES (1), (2), (3)");
    let db = target(
        "CREATE TABLE t(v); CREATE TRIGGER refuse BEFORE INSERT ON t WHEN new.v = 3
             BEGIN SELECT no_such_function(); END",
    );
    let result = fill(&made.path, None, &known("CREATE TABLE t(v)", true), &db, &[]);
    assert!(result.is_err());
    assert_eq!(number(&db, "SELECT count(*) FROM t"), 0);
}

#[test]
fn utf_16_is_refused_and_an_empty_file_has_nothing() {
    let wide = made("PRAGMA encoding='UTF-16le'; CREATE TABLE t(v TEXT); INSERT INTO t VALUES ('wide')");
    let db = target("CREATE TABLE t(v TEXT)");
    let known = Known::of(&db).expect("known");
    let error = fill(&wide.path, None, &known, &db, &[]).expect_err("UTF-16");
    assert_eq!(error.kind(), rowhouse::ErrorKind::Unsupported);
    std::fs::write(&wide.path, b"").expect("emptied");
    assert_eq!(fill(&wide.path, None, &known, &db, &[]).expect("nothing").kept(), 0);
    std::fs::remove_file(&wide.path).expect("removed");
    let error = fill(&wide.path, None, &known, &db, &[]).expect_err("no file");
    assert_eq!(error.kind(), rowhouse::ErrorKind::NotFound);
}
