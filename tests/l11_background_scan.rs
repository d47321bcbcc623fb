//! A scan that queues thousands of background writes delays interactive writes by milliseconds, and gets on itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

mod processes;

use rowhouse::{Database, Result, Tx};

/// What the scenario's scan queues at least.
const SCAN: u64 = 10_000;
/// One interactive write each.
const EVERY: Duration = Duration::from_millis(50);

/// One item of the scan: a few rows, as a media scanner writes them.
fn scan_item(tx: &Tx, number: i64) -> Result<()> {
    let body = "0123456789abcdef".repeat(32);
    for part in 0..8 {
        tx.execute("INSERT INTO item(job, part, body) VALUES (?1, ?2, ?3)", (number, part, &body))?;
    }
    Ok(())
}

/// Queues scan items until `stop`, or until the scenario's number when there is none; waits for the last.
fn scan(database: &Database, stop: Option<&AtomicBool>, done: &AtomicU64) -> Duration {
    let began = Instant::now();
    let mut tickets = std::collections::VecDeque::new();
    for number in 0.. {
        let enough = stop.map_or(number >= SCAN, |stop| stop.load(Ordering::Relaxed) && number >= SCAN);
        if enough {
            break;
        }
        let number = number as i64;
        tickets.push_back(database.submit(move |tx| scan_item(tx, number)).expect("no Busy, no Full"));
        // As many under way as the queue takes.
        if tickets.len() > 4000 {
            tickets.pop_front().expect("a ticket").wait().expect("no Busy");
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
    for ticket in tickets {
        ticket.wait().expect("no Busy");
        done.fetch_add(1, Ordering::Relaxed);
    }
    began.elapsed()
}

struct Found {
    /// Items a second of the scan, by itself and beside the interactive writes.
    alone: f64,
    beside: f64,
    median: Duration,
    p99: Duration,
}

/// The scan by itself, then again with interactive writes at their pace.
fn contest(scanning: impl Fn(&Database) -> Database) -> Found {
    let home = processes::folder();
    let runtime = processes::open(home.path());
    let database = runtime.database("work").expect("the domain");
    let in_scan = scanning(&database);
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let alone = SCAN as f64 / scan(&in_scan, None, &done).as_secs_f64();
    done.store(0, Ordering::Relaxed);

    let mut waits = Vec::new();
    let took = std::thread::scope(|scope| {
        let scanning = scope.spawn(|| scan(&in_scan, Some(&stop), &done));
        let until = Instant::now() + processes::seconds(3.0);
        let (_never, pace) = channel::<()>();
        while Instant::now() < until || (done.load(Ordering::Relaxed) < SCAN && !scanning.is_finished()) {
            let due = Instant::now() + EVERY;
            let began = Instant::now();
            database
                .write(|tx| tx.execute("UPDATE counter SET n = n + 1 WHERE id = 1", []))
                .expect("no Busy");
            waits.push(began.elapsed());
            let _ = pace.recv_timeout(due.saturating_duration_since(Instant::now()));
        }
        stop.store(true, Ordering::Relaxed);
        scanning.join().expect("the scan")
    });
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    let scanned = done.load(Ordering::Relaxed) as f64;
    Found { alone, beside: scanned / took.as_secs_f64(), median: at(0.5), p99: at(0.99) }
}

/// Background jobs yield to normal ones, and a batch ends after 5 ms whatever is queued; every eighth job of a mixed
/// queue is a background one, so the scan gets on.
///
/// Scale: one process, at least 10,000 background writes of 8 rows beside 20 interactive writes/s, 3 s.
/// Control: with the scan in the normal lane the interactive writes wait for the whole queue.
#[test]
fn l11_a_scan_does_not_delay_interactive_writes() {
    processes::once_in_three(measure);
}

fn measure() -> Result<(), String> {
    let one_lane = contest(Database::clone);
    let lanes = contest(|database| database.clone().background());
    for (name, found) in [("background", &lanes), ("one lane", &one_lane)] {
        println!(
            "{name}: scan {:.0}/s alone, {:.0}/s beside interactive writes: median {:?}, p99 {:?}",
            found.alone, found.beside, found.median, found.p99
        );
    }
    processes::holds(lanes.p99 < Duration::from_millis(500), || format!("interactive p99 {:?}", lanes.p99))?;
    processes::holds(lanes.beside >= lanes.alone / 2.0, || {
        format!("the scan got {:.0} of {:.0}/s", lanes.beside, lanes.alone)
    })?;
    processes::holds(one_lane.p99 > 2 * lanes.p99, || {
        format!("the control: {:?} against {:?}", one_lane.p99, lanes.p99)
    })
}
