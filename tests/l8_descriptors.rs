//! However often it is opened and closed, and however many threads use it, a database takes few descriptors.

mod processes;

use std::path::Path;

use processes::{folder, open, rounds};
use rowhouse::{Database, Limits};

/// Descriptors of one database: of its file, its log and index, and of its lock files. The home's own lock is not counted.
fn descriptors(home: &Path) -> usize {
    let home = home.canonicalize().expect("the home");
    let open = std::fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    open.filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter(|path| path.starts_with(&home) && !path.ends_with("locks/home"))
        .count()
}

/// 50 threads that read and write, as the subagents of one program do.
fn busy(database: &Database) {
    std::thread::scope(|scope| {
        for job in 0..50 {
            scope.spawn(move || {
                let insert = "INSERT INTO item(job, part) VALUES (?1, 1)";
                database.write(|tx| tx.execute(insert, [job])).expect("a row");
                let count = |at: &rowhouse::Snapshot| {
                    at.row("SELECT count(*) FROM item", [], |row| row.get::<_, i64>(0))
                };
                assert!(database.read(count).expect("a count") > 0);
                database.changes().expect("a number");
            });
        }
    });
}

/// The writer's connection, the index of the log and the turn take four descriptors; a reader takes two, and so does what
/// watches for changes.
///
/// Scale: 50 threads on one database, then 200 opens and closes of the runtime (`ROWHOUSE_TEST_ROUNDS` for more) beside
/// another runtime of the same process.
///
/// Control: a connection for each of the 50 threads, as a pool without a bound has, takes over a hundred.
#[test]
fn l8_descriptors_stay_few_and_flat() {
    let home = folder();
    let runtime = open(home.path());
    let database = runtime.database("work").expect("the domain");
    assert_eq!(descriptors(home.path()), 4, "nothing was read yet");
    let readers = usize::try_from(Limits::default().readers).expect("a small number");
    for _ in 0..10 {
        busy(&database);
        assert!(descriptors(home.path()) <= 4 + 2 * (readers + 1), "{}", descriptors(home.path()));
    }

    let others = folder();
    let mut first = None;
    for round in 0..rounds(200) {
        let runtime = open(others.path());
        let database = runtime.database("work").expect("the domain");
        if round < 10 {
            busy(&database);
        }
        drop((database, runtime));
        let left = descriptors(others.path());
        assert_eq!(left, *first.get_or_insert(left), "round {round}");
    }
    assert_eq!(first, Some(0), "everything is closed");

    let connections: Vec<_> = (0..50)
        .map(|_| {
            let connection = processes::plain(&processes::file(others.path()));
            connection
                .query_row("SELECT count(*) FROM item", [], |row| row.get::<_, i64>(0))
                .expect("a count");
            connection
        })
        .collect();
    assert!(descriptors(others.path()) > 100, "the control: {}", descriptors(others.path()));
    drop(connections);
}
