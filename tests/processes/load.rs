//! A workload of many processes, with the library or with a plain pool of connections in each process.

use std::path::Path;
use std::time::{Duration, Instant};

use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rowhouse::rusqlite::TransactionBehavior;

use super::{Child, file, open, ready, say, start_together, text};

const INSERT: &str = "INSERT INTO item(job, part, body) VALUES (?1, ?2, ?3)";
const BODY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// With what a process writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Engine,
    /// r2d2 with 10 connections, BEGIN IMMEDIATE, busy timeout 60 s, the same pragmas.
    Pool,
}

/// What one process did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    pub(crate) writes: u64,
    pub(crate) worst: Duration,
    pub(crate) errors: u64,
    pub(crate) first_error: String,
}

/// A plain pool on the same file.
pub(crate) fn pool(home: &Path) -> Pool<SqliteConnectionManager> {
    let manager = SqliteConnectionManager::file(file(home)).with_init(|connection| {
        connection.execute_batch(
            "PRAGMA busy_timeout=60000; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;
             PRAGMA journal_size_limit=8388608; PRAGMA cache_size=-8192;",
        )
    });
    Pool::builder().max_size(10).connection_timeout(Duration::from_mins(1)).build(manager).expect("a pool")
}

/// The body of a child with the role `load`: home, subject, threads, seconds.
pub(crate) fn child(arguments: &[String]) {
    let [home, subject, threads, seconds] = arguments else { panic!("four arguments: {arguments:?}") };
    let (home, threads): (&Path, i64) = (home.as_ref(), threads.parse().expect("threads"));
    let lasting = Duration::from_secs_f64(seconds.parse().expect("seconds"));
    if subject == "pool" {
        let pool = pool(home);
        ready();
        let until = Instant::now() + lasting;
        run(threads, until, |thread, number| {
            let mut connection = pool.get().map_err(|error| error.to_string())?;
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(|error| error.to_string())?;
            transaction
                .prepare_cached(INSERT)
                .and_then(|mut insert| insert.execute((thread, number, BODY)))
                .map_err(|error| error.to_string())?;
            transaction.commit().map_err(|error| error.to_string())
        });
    } else {
        let runtime = open(home);
        let database = runtime.database("work").expect("the domain");
        ready();
        let until = Instant::now() + lasting;
        run(threads, until, |thread, number| {
            database
                .write(|tx| tx.execute(INSERT, (thread, number, BODY)).map(drop))
                .map_err(|error| format!("{error:?}"))
        });
    }
}

/// Runs `write` on each thread, one call after another, until `until`; prints what was done.
fn run(threads: i64, until: Instant, write: impl Fn(i64, i64) -> Result<(), String> + Sync) {
    let done = std::thread::scope(|scope| {
        let write = &write;
        let work = move |thread: i64| {
            let mut done = Done::default();
            let base = i64::from(std::process::id()) * 1000 + thread;
            while Instant::now() < until {
                let began = Instant::now();
                match write(base, done.writes as i64) {
                    Ok(()) => done.writes += 1,
                    Err(error) => {
                        done.errors += 1;
                        done.first_error = error;
                    }
                }
                done.worst = done.worst.max(began.elapsed());
            }
            done
        };
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a writing thread")).reduce(|one, other| Done {
            writes: one.writes + other.writes,
            worst: one.worst.max(other.worst),
            errors: one.errors + other.errors,
            first_error: if one.first_error.is_empty() { other.first_error } else { one.first_error },
        })
    });
    let Done { writes, worst, errors, first_error } = done.unwrap_or_default();
    say(&format!("done {writes} {} {errors} {first_error}", worst.as_micros()));
}

/// Starts one process for each number of threads, all at once; answers what each did, in this order.
pub(crate) fn together(home: &Path, subject: Subject, threads: &[u64], lasting: Duration) -> Vec<Done> {
    let subject = if subject == Subject::Pool { "pool" } else { "engine" };
    let lasting = lasting.as_secs_f64().to_string();
    let mut children: Vec<_> = threads
        .iter()
        .map(|threads| Child::start("load", &[text(home), subject, &threads.to_string(), &lasting]))
        .collect();
    start_together(&mut children);
    let done = children.iter().map(|child| parse(&child.wait_for("done"))).collect();
    children.into_iter().for_each(Child::finish);
    done
}

fn parse(line: &str) -> Done {
    let mut words = line.splitn(4, ' ');
    let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
    let (writes, worst, errors) = (number(), Duration::from_micros(number()), number());
    Done { writes, worst, errors, first_error: words.next().unwrap_or_default().to_owned() }
}

/// The slowest process's writes over the fastest one's.
pub(crate) fn share(done: &[Done]) -> f64 {
    let writes = || done.iter().map(|done| done.writes);
    writes().min().unwrap_or(0) as f64 / writes().max().unwrap_or(0).max(1) as f64
}

/// Writes of all, worst wait of any.
pub(crate) fn sum(done: &[Done]) -> (u64, Duration) {
    (done.iter().map(|done| done.writes).sum(), done.iter().map(|done| done.worst).max().unwrap_or_default())
}

/// No write answered an error.
pub(crate) fn all_fine(done: &[Done]) {
    for done in done {
        assert_eq!(done.errors, 0, "{}", done.first_error);
    }
}
