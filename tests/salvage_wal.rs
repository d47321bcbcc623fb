//! Of a damaged log, what was committed before the damage counts, and nothing behind it.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "a test's own database")]

mod salvage;

use std::path::{Path, PathBuf};

use rowhouse::rusqlite::Connection;
use rowhouse::salvage::WalReport;
use salvage::known;

const SCHEMA: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT NOT NULL) STRICT";
const PAGE: usize = 4096;
const FRAME: usize = 24 + PAGE;

struct Pair {
    _folder: tempfile::TempDir,
    main: PathBuf,
    wal: PathBuf,
}

/// Rows 1 to 10 in the main file; 11 to 20, each in a commit, in the log; row 1 deleted by the last.
fn pair() -> Pair {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("live.sqlite");
    let db = Connection::open(&path).expect("a database");
    db.execute_batch(&format!(
        "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; {SCHEMA}; BEGIN"
    ))
    .expect("set");
    let insert = |id: i64| {
        db.execute("INSERT INTO t VALUES (?1, ?2)", (id, format!("row {id}"))).expect("a row");
    };
    (1..=10).for_each(insert);
    db.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)").expect("checkpointed");
    (11..=20).for_each(insert);
    db.execute("DELETE FROM t WHERE id = 1", []).expect("deleted");
    let (main, wal) = (folder.path().join("main"), folder.path().join("wal"));
    std::fs::copy(&path, &main).expect("copied");
    std::fs::copy(folder.path().join("live.sqlite-wal"), &wal).expect("copied");
    drop(db);
    Pair { _folder: folder, main, wal }
}

fn ids(main: &Path, wal: Option<&Path>) -> (Vec<i64>, Option<WalReport>) {
    let mut ids = Vec::new();
    let report = rowhouse::salvage::salvage(main, wal, &known(SCHEMA, true), |row| {
        ids.push(row.values[0].as_i64().expect("an id"));
        Ok(())
    })
    .expect("salvaged");
    ids.sort_unstable();
    (ids, report.wal)
}

fn change(path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("the log");
    how(&mut bytes);
    std::fs::write(path, bytes).expect("the log");
}

#[test]
fn a_whole_log_counts_to_its_end() {
    let pair = pair();
    assert_eq!(ids(&pair.main, None).0, (1..=10).collect::<Vec<_>>());
    let (found, wal) = ids(&pair.main, Some(&pair.wal));
    assert_eq!(found, (2..=20).collect::<Vec<_>>());
    let wal = wal.expect("a log");
    assert_eq!((wal.frames_used, wal.frames_left, wal.header_holds), (11, 0, true));
}

/// What is done to the log, and the last row that counts then.
type Case<'a> = (&'a str, Box<dyn Fn(&mut Vec<u8>)>, i64);

#[test]
fn what_stands_behind_the_damage_does_not_count() {
    let frame = |number: usize| 32 + (number - 1) * FRAME;
    let cases: Vec<Case> = vec![
        ("garbage behind it", Box::new(|log| log.extend(vec![0x5A; 3 * FRAME + 100])), 20),
        ("a byte of a page", Box::new(move |log| log[frame(4) + 2000] ^= 1), 13),
        ("a frame's page number", Box::new(move |log| log[frame(4) + 3] ^= 1), 13),
        ("a salt", Box::new(move |log| log[frame(6) + 9] ^= 1), 15),
        ("a torn frame", Box::new(move |log| log.truncate(frame(8) + 1000)), 17),
        ("a frame of zeros", Box::new(move |log| log[frame(2)..frame(3)].fill(0)), 11),
    ];
    for (what, damage, last) in cases {
        let pair = pair();
        change(&pair.wal, damage);
        let (found, wal) = ids(&pair.main, Some(&pair.wal));
        let first = if last == 20 { 2 } else { 1 };
        assert_eq!(found, (first..=last).collect::<Vec<_>>(), "{what}");
        let wal = wal.expect("a log");
        assert_eq!(wal.frames_used as i64, if last == 20 { 11 } else { last - 10 }, "{what}");
        assert!(wal.frames_left > 0, "{what}");
    }
}

/// Frames without a commit behind them are of a transaction that was never acknowledged.
#[test]
fn an_unfinished_transaction_does_not_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("live.sqlite");
    let db = Connection::open(&path).expect("a database");
    db.execute_batch(&format!("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; {SCHEMA}"))
        .expect("set");
    db.execute_batch("INSERT INTO t VALUES (1, 'kept')").expect("a row");
    // A transaction larger than the page cache writes frames before it commits.
    db.execute_batch(
        "PRAGMA cache_size=2; BEGIN;
         INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
             SELECT i, hex(randomblob(200)) FROM n",
    )
    .expect("rows");
    let (main, wal) = (folder.path().join("main"), folder.path().join("wal"));
    std::fs::copy(&path, &main).expect("copied");
    std::fs::copy(folder.path().join("live.sqlite-wal"), &wal).expect("copied");
    let (found, report) = ids(&main, Some(&wal));
    assert_eq!(found, [1]);
    assert!(report.expect("a log").frames_left > 100);
}

#[test]
fn a_log_without_its_header_is_left_out() {
    for at in [0, 5, 9, 17, 25] {
        let pair = pair();
        change(&pair.wal, |log| log[at] ^= 0xFF);
        let (found, wal) = ids(&pair.main, Some(&pair.wal));
        assert_eq!(found, (1..=10).collect::<Vec<_>>(), "byte {at}");
        assert!(!wal.expect("a log").header_holds);
    }
    let pair = pair();
    std::fs::write(&pair.wal, b"").expect("emptied");
    assert_eq!(ids(&pair.main, Some(&pair.wal)).0.len(), 10);
}

/// A main file that was emptied is whole in its log, if that began with it.
#[test]
fn an_emptied_main_file_is_read_from_its_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("live.sqlite");
    let db = Connection::open(&path).expect("a database");
    db.execute_batch(&format!(
        "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; {SCHEMA};
         INSERT INTO t VALUES (1, 'a'), (2, 'b')"
    ))
    .expect("set");
    let (main, wal) = (folder.path().join("main"), folder.path().join("wal"));
    std::fs::write(&main, b"").expect("emptied");
    std::fs::copy(folder.path().join("live.sqlite-wal"), &wal).expect("copied");
    assert_eq!(ids(&main, Some(&wal)).0, [1, 2]);
}
