//! A read is one snapshot while writers go on, sees every write acknowledged before it, and cannot keep others out.

mod common;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use common::*;
use rowhouse::{ErrorKind, Snapshot};

#[test]
fn several_statements_see_the_same_state_while_writers_go_on() {
    let place = Place::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Both change together or not at all.
                place
                    .db
                    .write(|tx| {
                        tx.execute("INSERT INTO t(v) VALUES ('x')", [])?;
                        count_me(tx)
                    })
                    .expect("written");
            }
        });
        let (mut reads, mut moved, mut last) = (0, 0, 0);
        let began = std::time::Instant::now();
        // A slow disk may commit nothing during so few reads.
        while reads < 200 || (moved == 0 && began.elapsed() < LONG) {
            reads += 1;
            let both = |at: &Snapshot| {
                let rows = number(at, "SELECT count(*) FROM t")?;
                std::thread::yield_now();
                Ok((rows, number(at, "SELECT n FROM counter")?, number(at, "SELECT count(*) FROM t")?))
            };
            let (rows, count, again) = place.db.read(both).expect("read");
            assert_eq!((rows, rows), (count, again));
            assert!(rows >= last, "never back in time");
            moved += i64::from(rows > last);
            last = rows;
        }
        done.store(true, Ordering::Relaxed);
        writer.join().expect("the writer");
        assert!(moved > 0, "the writer did write");
    });
}

#[test]
fn a_write_between_two_statements_is_not_seen() {
    let place = Place::new();
    let counts = place.db.read(|at| {
        let before = number(at, "SELECT count(*) FROM t")?;
        place.db.write(insert("a"))?;
        let inner = place.db.read(|at| number(at, "SELECT count(*) FROM t"))?;
        Ok((before, inner, number(at, "SELECT count(*) FROM t")?))
    });
    assert_eq!(counts.expect("read"), (0, 1, 0));
}

#[test]
fn whatever_was_acknowledged_to_anybody_is_seen() {
    let place = Place::new();
    let acknowledged = AtomicI64::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    place.db.write(count_me).expect("written");
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for _ in 0..500 {
            let at_least = acknowledged.load(Ordering::SeqCst);
            let found = counted(&place.db);
            assert!(found >= at_least, "{found} of {at_least}");
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_cursor_that_is_leaked_pins_nothing() {
    let mut limits = limits();
    limits.readers = 1;
    let place = Place::with(limits);
    for k in ["a", "b", "c"] {
        place.db.write(insert(k)).expect("a row");
    }
    let before = keys(&place.db).len();
    // The statement and its rows, or only the rows, so that the statement goes back to the cache as it is.
    for whole in [true, false] {
        place
            .db
            .read(|at| {
                let mut statement = at.prepare("SELECT k FROM t WHERE id > ?1")?;
                let mut rows = statement.query([0])?;
                assert!(rows.next()?.is_some());
                std::mem::forget(rows);
                if whole {
                    std::mem::forget(statement);
                }
                Ok(())
            })
            .expect("read");
        place.db.write(insert(if whole { "d" } else { "e" })).expect("a row");
        let fresh =
            place.db.read(|at| at.rows("SELECT k FROM t WHERE id > ?1", [0], |row| row.get::<_, String>(0)));
        assert_eq!(fresh.expect("read").len(), before + 1 + usize::from(!whole), "the next read is fresh");
    }
    // A pinned snapshot would keep the log from being worked off to its end.
    let (busy, log, done): (i64, i64, i64) = raw(&place.file())
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .expect("a checkpoint");
    assert_eq!((busy, log), (0, done));
}

#[test]
fn control_a_pool_hands_a_leaked_snapshot_to_the_next() {
    let (folder, plain) = plain();
    plain.execute_batch("INSERT INTO t(k) VALUES ('a'), ('b')").expect("rows");
    let manager = r2d2_sqlite::SqliteConnectionManager::file(folder.path().join("plain.sqlite"));
    let pool = r2d2::Pool::builder().max_size(1).build(manager).expect("a pool");
    {
        let connection = pool.get().expect("a connection");
        let mut statement = connection.prepare("SELECT k FROM t").expect("prepared");
        let mut rows = statement.query([]).expect("begun");
        rows.next().expect("a row");
        std::mem::forget(rows);
        std::mem::forget(statement);
    }
    plain.execute("INSERT INTO t(k) VALUES ('c')", []).expect("a row");
    let connection = pool.get().expect("the same connection");
    let found: i64 = connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("a count");
    assert_eq!(found, 2, "it still sees the old state");
}

#[test]
fn it_is_stopped_at_its_age() {
    let mut limits = limits();
    limits.reader_age = Duration::from_millis(50);
    let place = Place::with(limits);
    let started = Instant::now();
    let error = place.db.read(|at| number(at, ENDLESS_QUERY)).expect_err("stopped");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.database(), Some("test"));
    assert!(started.elapsed() < LONG / 2, "it would have run for minutes");
    // Also when it spent that time elsewhere.
    let answer = place.db.read(|at| {
        number(at, "SELECT 1")?;
        let_pass(Duration::from_millis(100));
        number(at, ENDLESS_QUERY)
    });
    assert_eq!(kind(answer), ErrorKind::Timeout);
    assert_eq!(place.db.read(|at| number(at, "SELECT 1")).expect("the next one has its own time"), 1);
}

#[test]
fn a_panic_in_it_leaves_the_pool_fine() {
    let mut limits = limits();
    limits.readers = 1;
    let place = Place::with(limits);
    for _ in 0..5 {
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            place.db.read(|at| -> rowhouse::Result<()> {
                number(at, "SELECT count(*) FROM t")?;
                panic!("a reader")
            })
        }));
        assert!(panicked.is_err(), "it is the reader's own panic");
    }
    place.db.write(insert("a")).expect("a row");
    assert_eq!(keys(&place.db), ["a"]);
    let descriptors = open_files(place.folder.path()).len();
    assert!(descriptors <= 12, "{descriptors} descriptors");
}

#[test]
fn more_readers_than_connections_wait_and_are_told() {
    let mut limits = limits();
    limits.readers = 2;
    let place = Place::with(limits);
    let short = place.db.clone().within(Duration::from_millis(80));
    let answer = place.db.read(|_| {
        place.db.read(|_| {
            let error = short.read(|at| number(at, "SELECT 1")).expect_err("none is free");
            assert_eq!(error.kind(), ErrorKind::Timeout);
            assert!(error.advice().expect("advice").contains("Limits::readers"), "{error}");
            assert_eq!(error.database(), Some("test"));
            Ok(())
        })
    });
    answer.expect("the two");
    // Who waits gets one when one is free.
    let total: i64 = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| place.db.read(|at| number(at, "SELECT 1")).expect("one came free")))
            .collect();
        readers.into_iter().map(|reader| reader.join().expect("a reader")).sum()
    });
    assert_eq!(total, 16);
}
