//! On a full disk an open or a write answers `Full`, naming the file; nothing acknowledged is lost, nothing is half
//! made, and with room again it goes on.

mod common;
mod small_disk;

use common::*;
use rowhouse::{Domain, ErrorKind, Home, Migration, Runtime};
use small_disk::SmallDisk;

fn small_disk(test: &str) -> Option<SmallDisk> {
    SmallDisk::mount(test, 512 << 10)
}

#[test]
fn an_open() {
    for room in [0, 4096, 8192, 16384, 32768] {
        let Some(disk) = small_disk("an_open") else { return };
        disk.fill(room);
        let home = disk.path().join("home");
        let open = || Runtime::builder(Home::at(&home)).domain(domain()).open();
        let error = open().map(drop).expect_err("no room");
        assert_eq!(error.kind(), ErrorKind::Full, "{room}: {error:?}");
        assert!(error.path().is_some_and(|path| path.starts_with(disk.path())), "{error}");
        disk.empty();
        let runtime = open().expect("with room it works");
        runtime.database("test").expect("it").write(insert("a")).expect("it works");
        runtime.close(LONG);
    }
}

#[test]
fn a_write() {
    let Some(disk) = small_disk("a_write") else { return };
    let home = disk.path().join("home");
    let runtime =
        Runtime::builder(Home::at(&home)).domain(domain()).limits(limits()).open().expect("room enough");
    let db = runtime.database("test").expect("it");
    db.write(insert("before")).expect("room enough");
    disk.fill(16384);
    let blob = vec![7_u8; 100_000];
    for _ in 0..2 {
        let error = db.write(|tx| tx.execute("INSERT INTO t(v) VALUES (?1)", [&blob])).expect_err("no room");
        assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
        assert_eq!(error.database(), Some("test"));
        assert!(error.message().contains("bytes are free there"), "{error}");
        assert!(error.advice().is_some_and(|advice| advice.contains("free some space")), "{error}");
    }
    // In a batch the small ones are not made to pay for the big one.
    let hold = Hold::writer(&db);
    let small = db.submit(count_me).expect("queued");
    let big = db.submit(move |tx| tx.execute("INSERT INTO t(v) VALUES (?1)", [&blob])).expect("queued");
    hold.let_go();
    assert_eq!(kind(big.wait()), ErrorKind::Full);
    let small = small.wait();
    assert!(small.is_ok() || kind(small) == ErrorKind::Full);
    assert_eq!(keys(&db), ["before"], "reads work, what was acknowledged is there");
    disk.empty();
    db.write(insert("after")).expect("with room it goes on by itself");
    assert_eq!(keys(&db), ["after", "before"]);
    runtime.close(LONG);
}

/// A migration that finds no room says so with the bytes that are free, not that it is to be corrected; nothing of it is
/// done, and with room it goes through.
/// Control: the same migration beside room enough.
#[test]
fn a_migration() {
    const LARGE: &[Migration] = &[
        MIGRATIONS[0],
        Migration {
            name: "V2__large",
            sql: "CREATE TABLE large(a);
                  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
                  INSERT INTO large SELECT zeroblob(4000) FROM n;
                  CREATE INDEX by_a ON large(a)",
        },
    ];
    let Some(disk) = SmallDisk::mount("a_migration", 64 << 20) else { return };
    assert_eq!(MIGRATIONS.len(), 1, "those of the tests before");
    for (number, room) in [0, 4096, 16_384, 65_536, 262_144, 1 << 20].into_iter().enumerate() {
        let home = disk.path().join(number.to_string());
        let open = |migrations| {
            Runtime::builder(Home::at(&home)).domain(Domain::new("test").migrations(migrations)).open()
        };
        let runtime = open(MIGRATIONS).expect("room enough");
        runtime.database("test").expect("it").write(insert("a")).expect("written");
        runtime.close(LONG);
        drop(runtime);
        disk.fill(room);
        let error = open(LARGE).map(drop).expect_err("no room");
        println!("{room}: {error:?}");
        assert_eq!((error.kind(), error.database()), (ErrorKind::Full, Some("test")), "{room}: {error:?}");
        assert!(error.message().contains("bytes are free there"), "{room}: {error}");
        let advice = error.advice().unwrap_or_default();
        assert!(advice.contains("free some space") && !advice.contains("correct"), "{room}: {error}");
        disk.empty();
        let runtime = open(LARGE).expect("with room it works");
        let database = runtime.database("test").expect("it");
        assert_eq!(keys(&database), ["a"]);
        runtime.close(LONG);
    }
}
