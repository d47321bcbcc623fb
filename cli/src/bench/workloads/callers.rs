//! Many callers, one call after the other, for a while: what each call took, and how evenly they were served.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use rowhouse::Result;

use super::histogram::Histogram;
use super::subjects::Subject;

/// What a run of callers saw. Every call is in it, also the one under way when the time was up.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Measured {
    /// Calls, each acknowledged.
    pub(crate) ops: u64,
    /// From the common start to the last answer.
    pub(crate) seconds: f64,
    pub(crate) latency: Histogram,
    /// Calls of the caller (or process) that got the fewest.
    pub(crate) slowest: u64,
    /// Calls of the one that got the most.
    pub(crate) fastest: u64,
}

impl Measured {
    /// One call.
    pub(crate) fn once(took: Duration) -> Self {
        let mut latency = Histogram::default();
        latency.record(took);
        Self { ops: 1, seconds: took.as_secs_f64(), latency, slowest: 1, fastest: 1 }
    }

    pub(crate) fn ops_per_s(&self) -> f64 {
        if self.seconds > 0.0 { self.ops as f64 / self.seconds } else { 0.0 }
    }

    /// 1 when all were served alike.
    pub(crate) fn share(&self) -> f64 {
        if self.fastest > 0 { self.slowest as f64 / self.fastest as f64 } else { 0.0 }
    }

    /// Runs that took place at the same time, as one: the shares are now between them.
    pub(crate) fn together(parts: &[Self]) -> Self {
        let mut all = Self { slowest: u64::MAX, ..Self::default() };
        for part in parts {
            all.ops += part.ops;
            all.seconds = all.seconds.max(part.seconds);
            all.latency.merge(&part.latency);
            all.slowest = all.slowest.min(part.ops);
            all.fastest = all.fastest.max(part.ops);
        }
        all
    }

    /// Runs that took place one after the other, as one.
    pub(crate) fn in_sequence(parts: &[Self]) -> Self {
        let mut all = Self::default();
        for part in parts {
            all.ops += part.ops;
            all.seconds += part.seconds;
            all.latency.merge(&part.latency);
            all.slowest += part.slowest;
            all.fastest += part.fastest;
        }
        all
    }
}

/// Lets `callers` threads insert through a subject until the time is up.
///
/// # Errors
/// The first one that a caller met.
pub(crate) fn insert_for(subject: &Subject, callers: usize, time: Duration) -> Result<Measured> {
    call_for(callers, time, || {
        let mut caller = subject.caller();
        move |number| caller.insert(number)
    })
}

/// Lets `callers` threads make calls, each numbered from 0, until the time is up.
///
/// # Errors
/// The first one that a caller met.
pub(crate) fn call_for<C: FnMut(i64) -> Result<()>>(
    callers: usize,
    time: Duration,
    caller: impl Fn() -> C + Sync,
) -> Result<Measured> {
    let start = Barrier::new(callers);
    let parts = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..callers).map(|_| scope.spawn(|| call_alone(caller(), &start, time))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(Measured::together(&parts))
}

fn call_alone(mut call: impl FnMut(i64) -> Result<()>, start: &Barrier, time: Duration) -> Result<Measured> {
    let mut latency = Histogram::default();
    let mut ops = 0;
    start.wait();
    let begun = Instant::now();
    let mut before = begun;
    while before - begun < time {
        call(ops)?;
        let after = Instant::now();
        latency.record(after - before);
        before = after;
        ops += 1;
    }
    let ops = ops as u64;
    Ok(Measured { ops, seconds: (before - begun).as_secs_f64(), latency, slowest: ops, fastest: ops })
}
