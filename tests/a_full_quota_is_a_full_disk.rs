//! A quota that is used up answers `Full`, as a full disk does: nothing is latched, and with room again it goes on.

mod common;

use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::*;
use rowhouse::rusqlite::ffi;
use rowhouse::{Domain, ErrorKind, Health, Home, Migration, Runtime};

/// From now on the user's quota is used up.
static USED_UP: AtomicBool = AtomicBool::new(false);
/// But for so many writes more.
static SPARE: AtomicU32 = AtomicU32::new(0);

fn is_used_up() -> bool {
    let less = |spare: u32| spare.checked_sub(1);
    USED_UP.load(Ordering::Relaxed) && SPARE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err()
}

/// There is one quota for both tests.
fn in_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused() -> isize {
    // SAFETY: this thread's errno.
    unsafe { *libc::__errno_location() = libc::EDQUOT };
    -1
}

unsafe extern "C" fn write(file: c_int, bytes: *const c_void, count: usize) -> isize {
    if is_used_up() {
        return refused();
    }
    // SAFETY: SQLite's own arguments.
    unsafe { libc::write(file, bytes, count) }
}

unsafe extern "C" fn pwrite(file: c_int, bytes: *const c_void, count: usize, at: i64) -> isize {
    if is_used_up() {
        return refused();
    }
    // SAFETY: SQLite's own arguments.
    unsafe { libc::pwrite64(file, bytes, count, at) }
}

/// Puts these functions in the place of the system's, in SQLite only (<https://sqlite.org/c3ref/vfs.html>,
/// xSetSystemCall).
fn replace_the_systems_writes() {
    let set = |name: &CStr, function: *const ()| {
        // SAFETY: the default VFS lives for ever; the functions have the signatures of the calls that they replace.
        unsafe {
            let vfs = ffi::sqlite3_vfs_find(std::ptr::null());
            let replace = (*vfs).xSetSystemCall.expect("the unix VFS has it");
            let function = std::mem::transmute::<*const (), unsafe extern "C" fn()>(function);
            assert_eq!(replace(vfs, name.as_ptr(), Some(function)), ffi::SQLITE_OK, "{name:?}");
        }
    };
    set(c"write", write as *const ());
    set(c"pwrite", pwrite as *const ());
    set(c"pwrite64", pwrite as *const ());
}

#[test]
fn a_write() {
    replace_the_systems_writes();
    let _alone = in_turn();
    let place = Place::new();
    let db = &place.db;
    db.write(insert("before")).expect("room enough");
    USED_UP.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        let error = db.write(insert("none")).expect_err("no room");
        assert_eq!((error.kind(), error.database()), (ErrorKind::Full, Some("test")), "{error}");
        assert!(error.advice().is_some_and(|advice| advice.contains("quota")), "{error}");
    }
    assert_eq!(db.health(), Health::Ready);
    assert_eq!(keys(db), ["before"], "reads work, what was acknowledged is there");
    USED_UP.store(false, Ordering::Relaxed);
    db.write(insert("after")).expect("with room it goes on by itself");
    assert_eq!(keys(db), ["after", "before"]);
}

/// A job whose statements are larger than the page cache writes to the log before its commit.
#[test]
fn a_statement_that_spills() {
    replace_the_systems_writes();
    let _alone = in_turn();
    let mut limits = limits();
    limits.page_cache = 64 << 10;
    let place = Place::with(limits);
    let db = &place.db;
    let large = |tx: &rowhouse::Tx| -> rowhouse::Result<()> {
        for _ in 0..200 {
            tx.execute("INSERT INTO t(v) VALUES (zeroblob(4000))", [])?;
        }
        Ok(())
    };
    USED_UP.store(true, Ordering::Relaxed);
    for queued in [false, true] {
        let answer = if queued { db.submit(large).and_then(rowhouse::Ticket::wait) } else { db.write(large) };
        assert_eq!(kind(answer), ErrorKind::Full, "queued: {queued}");
    }
    assert_eq!(db.health(), Health::Ready);
    USED_UP.store(false, Ordering::Relaxed);
    db.write(large).expect("with room it goes on by itself");
}

/// The same in a database that has a bound of its own, which it is far from: it is not told that it is at that.
#[test]
fn a_statement_that_spills_in_a_database_with_a_bound() {
    replace_the_systems_writes();
    let _alone = in_turn();
    let mut limits = limits();
    limits.page_cache = 64 << 10;
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::builder(Home::at(folder.path()))
        .domain(domain().max_bytes(64 << 20))
        .limits(limits)
        .open()
        .expect("opened");
    let db = runtime.database("test").expect("the domain");
    let rows = |count: u32| {
        move |tx: &rowhouse::Tx| -> rowhouse::Result<()> {
            for _ in 0..count {
                tx.execute("INSERT INTO t(v) VALUES (zeroblob(4000))", [])?;
            }
            Ok(())
        }
    };
    USED_UP.store(true, Ordering::Relaxed);
    for count in [1, 200] {
        let error = db.write(rows(count)).expect_err("no room");
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        assert!(!error.message().contains("no room left"), "{count} rows: {error}");
    }
    USED_UP.store(false, Ordering::Relaxed);
    // The control: the bound itself, met by a statement that spills as well.
    let error = db.write(rows(20_000)).expect_err("no room");
    assert!(error.message().contains("no room left in the 64 MiB"), "{error}");
    db.write(rows(1)).expect("there is room again");
}

/// A migration says so too, and not that it is to be corrected, wherever it meets the end of the quota.
#[test]
fn a_migration() {
    const SPILLS: &[Migration] = &[
        MIGRATIONS[0],
        Migration {
            name: "V2__large",
            sql: "CREATE TABLE large(a);
                  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
                  INSERT INTO large SELECT zeroblob(4000) FROM n",
        },
    ];
    const SMALL: &[Migration] =
        &[MIGRATIONS[0], Migration { name: "V2__small", sql: "CREATE TABLE small(a)" }];
    replace_the_systems_writes();
    let _alone = in_turn();
    let folder = tempfile::tempdir().expect("a folder");
    // Of one that is written by its commit each write in turn, of one that is written before some.
    let every: Vec<_> = (0..100).collect();
    for (number, (migrations, spared)) in
        [(SMALL, &every[..]), (SPILLS, &[50, 500, 2000])].into_iter().enumerate()
    {
        let home = folder.path().join(number.to_string());
        let open = |migrations| {
            Runtime::builder(Home::at(&home)).domain(Domain::new("test").migrations(migrations)).open()
        };
        let runtime = open(MIGRATIONS).expect("room enough");
        runtime.database("test").expect("it").write(insert("a")).expect("written");
        runtime.close(LONG);
        drop(runtime);
        let (mut refused, mut in_the_migration) = (0, 0);
        for spare in spared {
            SPARE.store(*spare, Ordering::Relaxed);
            USED_UP.store(true, Ordering::Relaxed);
            let opened = open(migrations).map(drop);
            USED_UP.store(false, Ordering::Relaxed);
            let Err(error) = opened else { break };
            assert_eq!(error.kind(), ErrorKind::Full, "{spare}: {error}");
            let advice = error.advice().unwrap_or_default();
            assert!(advice.contains("free some space") && !advice.contains("correct"), "{spare}: {error}");
            refused += 1;
            in_the_migration += usize::from(error.message().contains("V2__"));
        }
        println!("{refused} refused, {in_the_migration} of them in the migration");
        assert!(in_the_migration > 0 && refused < every.len());
        let runtime = open(migrations).expect("with room it works");
        assert_eq!(keys(&runtime.database("test").expect("it")), ["a"]);
        runtime.close(LONG);
    }
}
