//! Log events: what saying one costs the thread that says it, and how many reach the file.
//!
//! What is measured is the way in below the `tracing` layer. How many reach the file is asked of a sink without a bound on
//! what is written a day, which a storm meets within minutes; and again of a store at its cap of bytes, where old rows are
//! deleted beside it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use rowhouse::stores::logs::{LogEvent, LogLevel, LogOptions, LogSink};
use rowhouse::{Domain, Home, Runtime};

use super::super::report::{Document, Row, Target, median_of};
use super::super::workloads::Synchronous;
use super::super::workloads::callers::Measured;
use super::Setting;

const MESSAGE: &str = "sent 12 of 40 pieces of the answer, 3 more are under way";
/// Events between two looks at the sink, when as many as possible are to be stored.
const PIECE: usize = 512;
/// What may wait: below it nothing is dropped.
const WAITING: u64 = 8 << 10;
/// How long is waited while that many wait: much less than it takes to write them.
const PAUSE: Duration = Duration::from_millis(1);
/// How long the last events may take to be written.
const PATIENCE: Duration = Duration::from_mins(1);
/// Events a second that a program says in `log_event`: many, and far from what can be stored.
const SAID_A_SECOND: u32 = 20_000;
/// The small store of `log_rate_at_cap`.
const CAP: u64 = 8 << 20;
/// How long it may take to fill it.
const FILLING: Duration = Duration::from_mins(2);
/// More than is written in any run.
const NO_RATE: u64 = 1 << 40;

fn event(number: u64) -> LogEvent {
    LogEvent::new(LogLevel::Info, "agent::stream", MESSAGE).field("piece", number).field("model", "large")
}

fn open(home: &Path, cap: Option<u64>) -> Result<(Runtime, LogSink)> {
    let logs = Domain::logs().max_write_rate(NO_RATE, Duration::from_hours(24));
    let logs = match cap {
        Some(bytes) => logs.max_bytes(bytes),
        None => logs.max_bytes(NO_RATE),
    };
    let runtime = Runtime::builder(Home::at(home)).domain(logs).open()?;
    let sink = runtime.log_sink(LogOptions::default())?;
    Ok((runtime, sink))
}

/// What an event costs its thread while others say some too.
pub(super) fn event_cost(setting: &Setting, home: &Path, document: &mut Document) -> Result<()> {
    let (_runtime, sink) = open(home, None)?;
    let mut rounds = Vec::new();
    for _ in 0..setting.rounds {
        rounds.push(say_steadily(&sink, setting.seconds));
        sink.flush(PATIENCE)?;
    }
    let p99 = median_of(&rounds, |round| round.latency.quantile_us(0.99));
    document.rows.push(row("log_event", &rounds));
    document.targets.push(Target::at_most("log_event", p99, 2.0, "us"));
    Ok(())
}

/// Events at an even pace: one that is due late does not make others follow at once.
fn say_steadily(sink: &LogSink, time: Duration) -> Measured {
    let every = Duration::from_secs(1) / SAID_A_SECOND;
    let mut measured = Measured::default();
    let begun = Instant::now();
    let mut next = begun;
    while begun.elapsed() < time {
        while Instant::now() < next {
            std::hint::spin_loop();
        }
        let before = Instant::now();
        sink.emit(event(measured.ops));
        measured.latency.record(before.elapsed());
        measured.ops += 1;
        next = Instant::now() + every;
    }
    measured.seconds = begun.elapsed().as_secs_f64();
    measured
}

/// How many events of two threads are committed, none of them dropped.
pub(super) fn rate(
    setting: &Setting,
    work: &'static str,
    at_cap: bool,
    home: &Path,
    document: &mut Document,
) -> Result<()> {
    let (_runtime, sink) = open(home, at_cap.then_some(CAP))?;
    let begun = Instant::now();
    while at_cap && sink.stats().pruned == 0 {
        if begun.elapsed() > FILLING {
            anyhow::bail!("the logs did not reach their {} MiB", CAP >> 20);
        }
        store_for(&sink, Duration::from_millis(100))?;
    }
    let mut rounds = Vec::new();
    for _ in 0..setting.rounds {
        rounds.push(store_for(&sink, setting.seconds)?);
    }
    document.rows.push(row(work, &rounds));
    let stats = sink.stats();
    if stats.dropped > 0 {
        document.notes.push(format!("{work}: {} events were dropped", stats.dropped));
    }
    if at_cap {
        let pruned = stats.pruned;
        document.notes.push(format!("{work}: {pruned} rows were deleted to keep to {} MiB", CAP >> 20));
    } else {
        let rate = median_of(&rounds, Measured::ops_per_s);
        document.targets.push(Target::at_least("log_rate", rate, 200_000.0, "/s"));
    }
    Ok(())
}

fn store_for(sink: &LogSink, time: Duration) -> Result<Measured> {
    let written = sink.stats().written;
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let flushed = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut said = 0;
                while !stop.load(Ordering::Relaxed) {
                    if sink.stats().waiting > WAITING {
                        // Whoever spins takes the processor from those who write.
                        std::thread::park_timeout(PAUSE);
                        continue;
                    }
                    for _ in 0..PIECE {
                        sink.emit(event(said));
                        said += 1;
                    }
                }
            });
        }
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        let _ = never.recv_timeout(time);
        stop.store(true, Ordering::Relaxed);
        sink.flush(PATIENCE)
    });
    flushed?;
    let ops = sink.stats().written - written;
    Ok(Measured { ops, seconds: begun.elapsed().as_secs_f64(), ..Measured::default() })
}

fn row(work: &'static str, rounds: &[Measured]) -> Row {
    let timed = rounds.iter().any(|round| round.latency.max_us() > 0.0);
    let row = Row::of(work, "rowhouse", rounds);
    Row {
        processes: Some(1),
        synchronous: Some(Synchronous::Normal.as_str()),
        slowest_over_fastest: None,
        p50_us: row.p50_us.filter(|_| timed),
        p99_us: row.p99_us.filter(|_| timed),
        max_us: row.max_us.filter(|_| timed),
        ..row
    }
}
