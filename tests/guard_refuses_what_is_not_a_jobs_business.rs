//! A job cannot control transactions, attach files, change settings or load code; trying harms neither the database
//! nor its neighbours.

mod common;

use common::*;
use rowhouse::{ErrorKind, Result, Tx};

const REFUSED: &[&str] = &[
    "COMMIT",
    "END",
    "ROLLBACK",
    "BEGIN",
    "BEGIN IMMEDIATE",
    "SAVEPOINT x",
    "RELEASE rowhouse",
    "ROLLBACK TO rowhouse",
    "ATTACH '/tmp/rowhouse-never.sqlite' AS other",
    "ATTACH ':memory:' AS other",
    "ATTACH ('/tmp/rowhouse-' || 'never.sqlite') AS other",
    "DETACH main",
    "DETACH other",
    "PRAGMA user_version=7",
    "PRAGMA user_version(7)",
    "PRAGMA main.user_version=7",
    "PRAGMA application_id=7",
    "PRAGMA schema_version=7",
    "PRAGMA writable_schema=1",
    "PRAGMA writable_schema",
    "PRAGMA journal_mode=DELETE",
    "PRAGMA synchronous=OFF",
    "PRAGMA foreign_keys=OFF",
    "PRAGMA defer_foreign_keys=ON",
    "PRAGMA locking_mode=EXCLUSIVE",
    "PRAGMA query_only=1",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA wal_autocheckpoint=1",
    "PRAGMA incremental_vacuum",
    "PRAGMA optimize",
    "PRAGMA temp_store_directory='/'",
    "PRAGMA cache_size=1",
    "PRAGMA nonsense",
    "SELECT * FROM pragma_journal_mode('DELETE')",
    "SELECT * FROM pragma_wal_checkpoint",
    "SELECT * FROM pragma_optimize",
    "SELECT * FROM pragma_incremental_vacuum(1)",
    "SELECT load_extension('/lib/libc.so')",
    "SELECT load_extension('/lib/libc.so', 'x')",
    "VACUUM",
    "VACUUM INTO '/tmp/rowhouse-never.sqlite'",
    "CREATE TEMP TABLE mine(a)",
    "CREATE TEMP VIEW mine AS SELECT 1",
    "CREATE TEMP TRIGGER mine AFTER INSERT ON t BEGIN SELECT 1; END",
    "UPDATE sqlite_schema SET sql = ''",
];

const ALLOWED: &[&str] = &[
    "PRAGMA user_version",
    "PRAGMA application_id",
    "PRAGMA journal_mode",
    "PRAGMA page_count",
    "PRAGMA freelist_count",
    "PRAGMA page_size",
    "PRAGMA encoding",
    "PRAGMA data_version",
    "PRAGMA schema_version",
    "PRAGMA table_list",
    "PRAGMA table_info(t)",
    "PRAGMA table_xinfo(t)",
    "PRAGMA index_list(t)",
    "PRAGMA foreign_key_list(child)",
    "PRAGMA foreign_key_check",
    "PRAGMA foreign_key_check(child)",
    "PRAGMA main.table_info(t)",
    "SELECT name FROM pragma_table_info('t')",
    "SELECT user_version FROM pragma_user_version",
    "SELECT json_group_array(id) FROM t",
];

/// Runs a statement in every way a job has.
fn run(tx: &Tx, sql: &str) -> Result<()> {
    if tx.prepare(sql)?.column_count() == 0 {
        return tx.execute(sql, []).map(drop);
    }
    tx.rows(sql, [], |_| Ok(())).map(drop)
}

/// What must not have changed.
fn settings(place: &Place) -> Vec<String> {
    let connection = raw(&place.file());
    let mut found = Vec::new();
    for pragma in ["user_version", "application_id", "journal_mode", "schema_version"] {
        let value = |row: &rusqlite::Row<'_>| row.get::<_, rusqlite::types::Value>(0);
        found.push(format!(
            "{:?}",
            connection.query_row(&format!("PRAGMA {pragma}"), [], value).expect(pragma)
        ));
    }
    let mut schema =
        connection.prepare("SELECT name || coalesce(sql, '') FROM sqlite_schema").expect("prepared");
    found.extend(schema.query_map([], |row| row.get(0)).expect("the schema").map(|sql| sql.expect("text")));
    found
}

#[test]
fn a_job_is_refused_and_its_neighbours_are_unharmed() {
    let place = Place::new();
    let before = settings(&place);
    let hold = Hold::writer(&place.db);
    let jobs: Vec<_> = REFUSED
        .iter()
        .map(|sql| {
            let neighbour = place.db.submit(count_me).expect("queued");
            let bad = place
                .db
                .submit(|tx| {
                    count_me(tx)?;
                    run(tx, sql)
                })
                .expect("queued");
            (sql, neighbour, bad)
        })
        .collect();
    hold.release();
    for (sql, neighbour, bad) in jobs {
        neighbour.wait().expect("a neighbour");
        let error = bad.wait().expect_err(sql);
        let refused = matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Invalid);
        assert!(refused, "{sql}: {error:?}");
        assert!(!error.to_string().contains("never.sqlite"), "{error}");
    }
    assert_eq!(counted(&place.db), i64::try_from(REFUSED.len()).expect("few"));
    assert_eq!(settings(&place), before);
    assert!(!std::path::Path::new("/tmp/rowhouse-never.sqlite").exists());
}

#[test]
fn nor_by_trying_twice_or_by_going_on_after_the_refusal() {
    let place = Place::new();
    let before = settings(&place);
    for sql in REFUSED {
        // First on the caller's thread, then on the writer's; each statement twice, so from the cache if it is there.
        let stubborn = move |tx: &Tx| {
            count_me(tx)?;
            for _ in 0..2 {
                if run(tx, sql).is_ok() || tx.execute(sql, []).is_ok() {
                    return gave_up();
                }
            }
            Ok(())
        };
        place.db.write(stubborn).expect(sql);
        place.db.submit(stubborn).expect("queued").wait().expect(sql);
    }
    assert_eq!(counted(&place.db), 2 * i64::try_from(REFUSED.len()).expect("few"));
    assert_eq!(settings(&place), before);
}

#[test]
fn a_file_name_that_is_bound_or_computed_is_no_way_out() {
    let place = Place::new();
    let other = place.folder.path().join("other.sqlite").display().to_string();
    for sql in
        ["ATTACH ?1 AS other", "ATTACH (?1 || '') AS other", "ATTACH (SELECT ?1) AS other", "VACUUM INTO ?1"]
    {
        let answer = place.db.write(|tx| tx.execute(sql, [&other]));
        let error = answer.expect_err(sql);
        assert!(matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Invalid), "{sql}: {error:?}");
        assert!(!error.to_string().contains("other.sqlite"), "{error}");
    }
    assert!(!std::path::Path::new(&other).exists());
}

#[test]
fn a_read_is_refused_the_same_and_more() {
    let place = Place::new();
    place.db.write(insert("a")).expect("a row");
    let before = settings(&place);
    let writes = [
        "INSERT INTO t(k) VALUES ('b')",
        "DELETE FROM t",
        "UPDATE t SET v = 1",
        "DROP TABLE t",
        "CREATE TABLE u(a)",
    ];
    for sql in REFUSED.iter().chain(&writes) {
        let answer = place.db.read(|at| {
            for _ in 0..2 {
                if let Ok(mut statement) = at.prepare(sql) {
                    let mut rows = statement.raw_query();
                    while rows.next()?.is_some() {}
                    return Ok(());
                }
            }
            at.prepare(sql).map(drop)
        });
        let error = answer.expect_err(sql);
        let refused =
            matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Invalid | ErrorKind::ReadOnly);
        assert!(refused, "{sql}: {error:?}");
    }
    assert_eq!(keys(&place.db), ["a"]);
    assert_eq!(settings(&place), before);
}

#[test]
fn what_only_reads_is_allowed() {
    let place = Place::new();
    for sql in ALLOWED {
        place.db.read(|at| at.rows(sql, [], |_| Ok(()))).expect(sql);
        place.db.write(|tx| tx.rows(sql, [], |_| Ok(()))).expect(sql);
    }
    let stamp = place.db.read(|at| number(at, "PRAGMA user_version")).expect("the stamp");
    assert!(stamp != 0);
}

#[test]
fn control_without_the_guard_they_work() {
    let (folder, plain) = plain();
    plain.execute_batch("BEGIN; INSERT INTO t(k) VALUES ('a neighbour')").expect("begun");
    plain.prepare_cached("COMMIT").expect("prepared").execute([]).expect("committed in the middle");
    plain.execute_batch("PRAGMA user_version=7; BEGIN; ROLLBACK").expect("changed");
    let other = folder.path().join("other.sqlite").display().to_string();
    plain.execute("ATTACH ?1 AS other", [&other]).expect("attached");
    plain.execute_batch("CREATE TABLE other.stolen(a)").expect("written");
    assert!(std::path::Path::new(&other).exists());
}
