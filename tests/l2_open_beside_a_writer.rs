//! Opening one more connection never waits for a writer: of the whole home, of each reader, of the watcher, again.

mod processes;

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use processes::{BUILT_IN, Child};
use rowhouse::{Database, Home, Limits, Runtime};

/// Far more than a start takes on a busy machine, and far less than the holder holds.
const AT_ONCE: Duration = Duration::from_secs(2);

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [file] = &arguments[1..] else { panic!("a database: {arguments:?}") };
    processes::hold(file.as_ref());
}

fn look(database: &Database) {
    database
        .read(|at| at.row("SELECT schema_version FROM rowhouse_meta", [], |row| row.get::<_, i64>(0)))
        .unwrap_or_else(|error| panic!("{error}"));
}

/// Every connection that a database may open, but the checkpointer's, which opens after a commit: that one's test is in
/// `sqlite::connect`.
fn everything(home: &Path, held: &str) -> Vec<(&'static str, Duration)> {
    let mut took = Vec::new();
    let mut timed = |what, run: &mut dyn FnMut()| {
        let began = Instant::now();
        run();
        took.push((what, began.elapsed()));
    };
    let mut opened = None;
    timed("open", &mut || opened = Some(Runtime::open(Home::at(home)).expect("the home opens")));
    let runtime = opened.expect("it is open");
    let database = runtime.database(held).expect("the domain");
    timed("first read", &mut || look(&database));
    let readers = Limits::default().readers as usize;
    timed("every reader at once", &mut || {
        let together = Barrier::new(readers);
        std::thread::scope(|scope| {
            for _ in 0..readers {
                scope.spawn(|| {
                    database
                        .read(|at| {
                            together.wait();
                            at.row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
                        })
                        .expect("a read")
                });
            }
        });
    });
    timed("watcher", &mut || assert!(database.changes().expect("a number") > 0));
    timed("open again", &mut || database.reopen().expect("it opens again"));
    timed("read again", &mut || look(&database));
    took
}

/// An open runs no statement that needs the write lock, so a sibling inside a transaction of any length is not noticed
/// by a start, a reader, the watcher, or a reopen.
///
/// Scale: each of the four databases held in turn, 4 readers each; every step under 2 s while the holder never ends.
/// Control: `PRAGMA auto_vacuum=INCREMENTAL`, sent again as programs do, waits for the holder until its busy timeout.
#[test]
fn l2_open_beside_a_writer() {
    let home = processes::folder();
    drop(Runtime::open(Home::at(home.path())).expect("created").close(Duration::from_secs(20)));
    for held in BUILT_IN {
        let file = home.path().join(format!("{held}.sqlite"));
        let child = Child::start("hold", &[processes::text(&file)]);
        child.wait_for("holding");
        let took = everything(home.path(), held);
        println!("{held} held: {took:?}");
        for (what, took) in took {
            assert!(took < AT_ONCE, "{held}: {what} took {took:?}");
        }

        let plain = processes::plain(&file);
        let patience = Duration::from_millis(200);
        plain.busy_timeout(patience).expect("a timeout");
        plain
            .execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL")
            .expect("these need no lock");
        let began = Instant::now();
        let error = plain.execute_batch("PRAGMA auto_vacuum=INCREMENTAL").expect_err("the lock is held");
        assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy), "{error}");
        assert!(began.elapsed() >= patience, "it waited for the lock");
        drop(plain);
        child.finish();
    }
}
