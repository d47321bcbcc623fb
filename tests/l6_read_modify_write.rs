//! Read-modify-write from many threads of many processes stays exact, and no `SQLITE_BUSY_SNAPSHOT` reaches a caller.

mod processes;

use std::path::Path;
use std::time::{Duration, Instant};

use processes::{Child, load};

const PROCESSES: usize = 4;
const THREADS: usize = 16;
/// `SQLITE_BUSY_SNAPSHOT` (<https://sqlite.org/rescode.html#busy_snapshot>).
const BUSY_SNAPSHOT: i32 = 517;

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [role, home, seconds] = &arguments[..] else { panic!("three arguments: {arguments:?}") };
    let home: &Path = home.as_ref();
    let lasting = Duration::from_secs_f64(seconds.parse().expect("seconds"));
    if role == "engine" {
        let runtime = processes::open(home);
        let database = runtime.database("work").expect("the domain");
        count(lasting, || {
            database
                .write(|tx| {
                    let n: i64 = tx.row("SELECT n FROM counter WHERE id = 1", [], |row| row.get(0))?;
                    tx.execute("UPDATE counter SET n = ?1 WHERE id = 1", [n + 1])
                })
                .map(drop)
                .map_err(|error| error.sqlite_code().unwrap_or(-1))
        });
    } else {
        let pool = load::pool(home);
        count(lasting, || {
            let mut connection = pool.get().map_err(|_| -1)?;
            let mut step = || {
                // Deferred, as a plain BEGIN is.
                let transaction = connection.transaction()?;
                let n: i64 =
                    transaction.query_row("SELECT n FROM counter WHERE id = 1", [], |row| row.get(0))?;
                // Lets others commit in between, as a program that thinks about what it read does.
                std::thread::yield_now();
                transaction.execute("UPDATE counter SET n = ?1 WHERE id = 1", [n + 1])?;
                transaction.commit()
            };
            step().map_err(|error: rowhouse::rusqlite::Error| {
                error.sqlite_error().map_or(-1, |error| error.extended_code)
            })
        });
    }
}

/// Increments on 16 threads; prints how many were acknowledged, how many failed, and how many of those with 517.
fn count(lasting: Duration, increment: impl Fn() -> Result<(), i32> + Sync) {
    processes::ready();
    let until = Instant::now() + lasting;
    let done = std::thread::scope(|scope| {
        let work = || {
            let (mut fine, mut failed, mut snapshot) = (0, 0, 0);
            let (_never, pause) = std::sync::mpsc::channel::<()>();
            while Instant::now() < until {
                match increment() {
                    Ok(()) => fine += 1,
                    Err(code) => {
                        failed += 1;
                        snapshot += i64::from(code == BUSY_SNAPSHOT);
                        // Who fails at once and comes back at once keeps everybody else from the processor.
                        let _ = pause.recv_timeout(Duration::from_millis(1));
                    }
                }
            }
            [fine, failed, snapshot]
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a counting thread")).fold([0; 3], add)
    });
    processes::say(&format!("done {} {} {}", done[0], done[1], done[2]));
}

fn add(one: [i64; 3], other: [i64; 3]) -> [i64; 3] {
    [one[0] + other[0], one[1] + other[1], one[2] + other[2]]
}

/// All processes at once; answers what they did together, and the counter.
fn contest(role: &str, lasting: Duration) -> ([i64; 3], i64) {
    let home = processes::folder();
    drop(processes::open(home.path()));
    let seconds = lasting.as_secs_f64().to_string();
    let mut children: Vec<_> =
        (0..PROCESSES).map(|_| Child::start(role, &[processes::text(home.path()), &seconds])).collect();
    processes::start_together(&mut children);
    let done = children.iter().map(|child| child.wait_for("done")).fold([0; 3], |sum, line| {
        let mut words = line.split(' ').map(|word| word.parse().expect("a number"));
        add(sum, [(); 3].map(|()| words.next().expect("three numbers")))
    });
    children.into_iter().for_each(Child::finish);
    let counter = processes::plain(&processes::file(home.path()))
        .query_row("SELECT n FROM counter WHERE id = 1", [], |row| row.get(0))
        .expect("the counter");
    (done, counter)
}

/// Every write transaction begins as one, so none is refused for what it read before: the counter equals the
/// acknowledged increments and no error reaches a caller.
///
/// Scale: 4 processes x 16 threads, 3 s.
/// Control: a plain pool with deferred transactions meets `SQLITE_BUSY_SNAPSHOT` under the same work.
#[test]
fn l6_read_modify_write_stays_exact() {
    let ([acknowledged, failed, _], counter) = contest("engine", processes::seconds(3.0));
    println!("engine: {acknowledged} increments, {failed} errors, counter {counter}");
    assert_eq!(failed, 0, "errors reached a caller");
    assert!(acknowledged > 0);
    assert_eq!(counter, acknowledged);
    let ([fine, failed, snapshot], _) = contest("deferred", processes::seconds(1.5));
    println!("plain pool, deferred: {fine} increments, {failed} errors, {snapshot} of them 517");
    assert!(snapshot > 0, "the control meets no SQLITE_BUSY_SNAPSHOT: the work is too light");
}
