//! A program whose logs run over: events of a usual size, as fast as threads can make them, and a task that deletes the
//! oldest when there is no room.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rowhouse::{Database, Result, Runtime, Ticket};

const INSERT: &str = "INSERT INTO log(ts, level, target, message, fields, process_id, bytes)
                      VALUES (?1, 1, 'transport::sse', ?2, ?3, 'bench', ?4)";
/// Deletes the oldest rows: so few that they fit into the page cache, because what does not is written twice.
const PRUNE: &str = "DELETE FROM log WHERE id <= (SELECT min(id) + (max(id) - min(id)) / 128 FROM log)";
/// How often that is done in a row.
const PRUNES: usize = 8;
/// What an event carries: a piece of a stream as it came over the wire, and where it belongs.
const MESSAGE: &str = "data: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_0123456789abcdef0123456789abcdef\",\
                       \"output_index\":0,\"content_index\":0,\"delta\":\" a few words of an answer\",\
                       \"sequence_number\":1234,\"obfuscation\":\"0123456789abcdef\"}";
const FIELDS: &str =
    "{\"span\":\"turn\",\"conversation\":\"0123456789abcdef0123456789abcdef\",\"model\":\"m\",\"attempt\":1}";
/// Events that a job brings, as a layer that collects them does.
const EVENTS: i64 = 64;
/// Jobs of a thread that it has not waited for. Far below the backlog, so that nothing is pushed out: what is shed is shed
/// by a bound.
const UNDER_WAY: usize = 32;
/// How long a thread that was refused takes for its next events.
const REFUSED: Duration = Duration::from_millis(1);
/// How often it is looked whether rows have to be deleted.
const PRUNE_EVERY: Duration = Duration::from_millis(100);

/// One second of one process.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Second {
    /// Events that are in the file.
    pub(crate) stored: u64,
    /// Events that were refused or pushed out.
    pub(crate) shed: u64,
    /// Bytes that the process wrote, by the kernel's count; 0 where it does not tell.
    pub(crate) written: u64,
}

/// Lets `threads` submit events until the time is up; answers what became of them in each second.
///
/// # Errors
/// Of opening nothing; of the thread that deletes.
pub(crate) fn run(runtime: &Runtime, threads: usize, time: Duration) -> Result<Vec<Second>> {
    let logs = runtime.database("logs")?;
    let events = Events::default();
    let stop = AtomicBool::new(false);
    let until = Instant::now() + time;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| submit_until(&logs, &events, &stop));
        }
        let (tell, ended) = channel::<()>();
        let pruner = scope.spawn({
            let logs = logs.clone().background().label("prune");
            move || {
                let mut shed = 0;
                while ended.recv_timeout(PRUNE_EVERY) == Err(RecvTimeoutError::Timeout) {
                    let now = logs.stats().shed;
                    if now > std::mem::replace(&mut shed, now) {
                        // While more was written than may be, deleting is refused as well.
                        for _ in 0..PRUNES {
                            let _ =
                                logs.clone().within(Duration::from_secs(1)).write(|tx| tx.execute(PRUNE, []));
                        }
                    }
                }
            }
        });
        let seconds = watch(&events, until);
        stop.store(true, Ordering::Relaxed);
        drop(tell);
        drop(pruner.join());
        Ok(seconds)
    })
}

/// What became of the events so far.
#[derive(Default)]
struct Events {
    stored: AtomicU64,
    shed: AtomicU64,
}

fn submit_until(logs: &Database, events: &Events, stop: &AtomicBool) {
    let bytes = MESSAGE.len() + FIELDS.len();
    let logs = logs.clone().sized(bytes * EVENTS as usize);
    let mut under_way = VecDeque::new();
    let (_keep, never) = channel::<()>();
    let mut ts = 0_i64;
    while !stop.load(Ordering::Relaxed) {
        ts += EVENTS;
        let job = logs.submit(move |tx| {
            (ts - EVENTS..ts)
                .try_for_each(|ts| tx.execute(INSERT, (ts, MESSAGE, FIELDS, bytes as i64)).map(drop))
        });
        if let Ok(job) = job {
            under_way.push_back(job);
        } else {
            events.shed.fetch_add(EVENTS as u64, Ordering::Relaxed);
            // The next ones come, whether there is room or not.
            let _ = never.recv_timeout(REFUSED);
        }
        if under_way.len() > UNDER_WAY {
            let answer = under_way.pop_front().map_or(Ok(()), Ticket::wait);
            let count = if answer.is_ok() { &events.stored } else { &events.shed };
            count.fetch_add(EVENTS as u64, Ordering::Relaxed);
        }
    }
}

fn watch(events: &Events, until: Instant) -> Vec<Second> {
    let mut seconds = Vec::new();
    let (_keep, never) = channel::<()>();
    let mut last = total(events);
    let mut next = Instant::now() + Duration::from_secs(1);
    while next <= until + Duration::from_millis(500) {
        let _ = never.recv_timeout(next.saturating_duration_since(Instant::now()));
        let now = total(events);
        seconds.push(Second {
            stored: now.stored - last.stored,
            shed: now.shed - last.shed,
            written: now.written - last.written,
        });
        last = now;
        next += Duration::from_secs(1);
    }
    seconds
}

fn total(events: &Events) -> Second {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Second { stored: count(&events.stored), shed: count(&events.shed), written: written().unwrap_or(0) }
}

/// What this process sent to the disk.
fn written() -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "a file of the kernel's")]
    let io = std::fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}
