//! Contention is normal: while every wait is short nothing is logged, and health stays as it is.

#[cfg(all(target_os = "linux", feature = "agent"))]
mod examined;
mod processes;

use std::cell::Cell;
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use processes::{Child, said};
use rowhouse::Health;

const PROCESSES: usize = 4;
const THREADS: usize = 2;
const INSERT: &str = "INSERT INTO item(job, part) VALUES (1, 1)";
/// What counts as a long wait: nobody is bothered before.
const LONG_WAIT: Duration = Duration::from_secs(1);
/// A plain program says "busy" at most so often, as Nix does it: by one clock for the whole process.
const PLAIN_SILENCE: Duration = Duration::from_millis(500);

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    if let [role, file] = &arguments[..] {
        assert_eq!(role, "hold");
        processes::hold(file.as_ref());
        return;
    }
    let [role, home, seconds] = &arguments[..] else { panic!("three arguments: {arguments:?}") };
    said::listen();
    let lasting = Duration::from_secs_f64(seconds.parse().expect("seconds"));
    let home: &Path = home.as_ref();
    let longest = if role == "engine" { engine(home, lasting) } else { plain(home, lasting) };
    let said = said::warnings_with(&[]);
    processes::say(&format!("done {} {} {}", longest.as_millis(), said.len(), said.join(" | ")));
}

/// Writes on all threads until the time is up; answers the longest wait.
fn contend(lasting: Duration, write: impl Fn() + Sync) -> Duration {
    processes::ready();
    let until = Instant::now() + lasting;
    let worker = || {
        let mut longest = Duration::ZERO;
        while Instant::now() < until {
            let began = Instant::now();
            write();
            longest = longest.max(began.elapsed());
        }
        longest
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a writing thread")).max().unwrap_or_default()
    })
}

fn engine(home: &Path, lasting: Duration) -> Duration {
    let runtime = processes::open(home);
    let database = runtime.database("work").expect("the domain");
    contend(lasting, || {
        database.write(|tx| tx.execute(INSERT, [])).expect("a write");
        let health = database.health();
        if health != Health::Ready {
            log::warn!("{health:?}");
        }
    })
}

fn plain(home: &Path, lasting: Duration) -> Duration {
    static UNTIL: OnceLock<Instant> = OnceLock::new();
    thread_local! {
        static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
        static CONNECTION: Cell<Option<rusqlite::Connection>> = const { Cell::new(None) };
    }
    fn busy(attempts: i32) -> bool {
        static SPEAK_AGAIN: Mutex<Option<Instant>> = Mutex::new(None);
        let now = Instant::now();
        if attempts == 0 {
            BEGAN.set(Some(now));
        }
        let mut again = SPEAK_AGAIN.lock().expect("no panic there");
        if again.is_none_or(|again| now > again) {
            // Some plain waits are long; only a word about a short one is noise.
            if again.is_some() && BEGAN.get().is_some_and(|began| now - began < LONG_WAIT) {
                log::warn!("SQLite database is busy");
            }
            *again = Some(now + PLAIN_SILENCE);
        }
        std::thread::yield_now();
        // Plain waiters starve each other; at the end nobody waits any more.
        UNTIL.get().is_some_and(|until| now < *until)
    }
    let file = processes::file(home);
    contend(lasting, || {
        let connection = CONNECTION.take().unwrap_or_else(|| {
            let connection = processes::plain(&file);
            connection.busy_handler(Some(busy)).expect("a busy handler");
            connection
        });
        let until = UNTIL.get_or_init(|| Instant::now() + lasting);
        let written = connection.execute(INSERT, []);
        assert!(written.is_ok() || Instant::now() >= *until, "{written:?}");
        CONNECTION.set(Some(connection));
    })
}

/// All processes at once: the longest wait, and what they said.
fn contest(role: &str, lasting: Duration) -> (Duration, Vec<String>) {
    let home = processes::folder();
    drop(processes::open(home.path()));
    contest_in(home.path(), role, lasting, || {})
}

/// The same in this home, with something done `meanwhile`.
fn contest_in(
    home: &Path,
    role: &str,
    lasting: Duration,
    meanwhile: impl FnOnce(),
) -> (Duration, Vec<String>) {
    let seconds = lasting.as_secs_f64().to_string();
    let mut children: Vec<_> =
        (0..PROCESSES).map(|_| Child::start(role, &[processes::text(home), &seconds])).collect();
    processes::start_together(&mut children);
    meanwhile();
    let (mut longest, mut said) = (Duration::ZERO, Vec::new());
    for child in &children {
        let line = child.wait_for("done");
        let mut words = line.splitn(3, ' ');
        let mut number = || words.next().expect("a number").parse::<u64>().expect("a number");
        longest = longest.max(Duration::from_millis(number()));
        if number() > 0 {
            said.push(words.next().unwrap_or_default().to_owned());
        }
    }
    children.into_iter().for_each(Child::finish);
    (longest, said)
}

/// Waiting for one's turn is no trouble: as long as no single wait is long, nothing is logged and health stays ready.
///
/// Scale: 4 processes x 2 threads, 3 s (`ROWHOUSE_TEST_SECONDS` for more).
/// Control: a busy handler that speaks by one clock for the process, not by how long this wait is, says "busy" about
/// waits of less than a second under the same work.
#[test]
fn o5_no_noise() {
    processes::once_in_three(|| {
        let (longest, said) = contest("engine", processes::seconds(3.0));
        println!("engine: longest wait {longest:?}, said {said:?}");
        // A machine that lets somebody wait for so long is another matter.
        processes::holds(longest < LONG_WAIT, || format!("a wait of {longest:?}"))?;
        assert!(said.is_empty(), "longest wait {longest:?}: {said:#?}");
        Ok(())
    });
    let (longest, said) = contest("plain", processes::seconds(3.0));
    println!("plain: longest wait {longest:?}, {} processes complained", said.len());
    assert!(!said.is_empty(), "the control says nothing: the work is too light");
}

/// Beside processes that wait for each other, but none of them for a second, the doctor has nothing to say: no row is
/// notable.
///
/// Scale: 4 processes x 2 threads, 2 s, one look after the other (`ROWHOUSE_TEST_SECONDS=600` for ten minutes).
/// Control: a process that keeps the write lock is a finding at the first look; and a probe that tries the lock once and
/// waits for nothing is refused beside the same work.
#[cfg(all(target_os = "linux", feature = "agent"))]
#[test]
fn o5_the_doctor_says_nothing_about_short_waits() {
    use rusqlite::ErrorCode::DatabaseBusy;

    let lasting = processes::seconds(2.0);
    processes::once_in_three(|| {
        let home = processes::folder();
        drop(processes::open(home.path()));
        let (mut looks, mut refused, mut told) = (0, 0, Vec::new());
        let (longest, _) = contest_in(home.path(), "engine", lasting, || {
            let until = Instant::now() + lasting.mul_f64(0.8);
            let probe = processes::plain(&processes::file(home.path()));
            probe.busy_timeout(Duration::ZERO).expect("no patience");
            while Instant::now() < until {
                let report = examined::examine(home.path());
                told.extend(report.notable().into_iter().cloned());
                looks += 1;
                for _ in 0..20 {
                    let tried = probe.execute_batch("BEGIN IMMEDIATE; ROLLBACK");
                    refused += usize::from(
                        tried.is_err_and(|error| error.sqlite_error_code() == Some(DatabaseBusy)),
                    );
                }
            }
        });
        println!(
            "{looks} looks, the longest wait {longest:?}; a probe without patience was refused {refused} times"
        );
        // A machine that lets somebody wait for so long is another matter.
        processes::holds(longest < LONG_WAIT, || format!("a wait of {longest:?}"))?;
        assert!(told.is_empty(), "longest wait {longest:?}: {told:#?}");
        processes::holds(looks > 0 && refused > 0, || format!("{looks} looks, {refused} refused"))
    });
    let home = processes::folder();
    drop(processes::open(home.path()));
    let holder = Child::start("hold", &[processes::text(&processes::file(home.path()))]);
    holder.wait_for("holding");
    assert_eq!(examined::notable(&examined::examine(home.path())), ["work.write"]);
    holder.finish();
}
