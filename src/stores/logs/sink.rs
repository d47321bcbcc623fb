//! The way in for log rows: events of any thread go into a bounded queue, and one thread writes them.
//!
//! Invariants:
//! 1. Who says something never waits for the disk, for a lock that is held across IO, or for room; and is never told of
//!    trouble.
//! 2. `emitted` is `written`, `dropped`, what waits, and what is or was in the ring; no event is written twice.
//! 3. What is said on a thread of the sink, or by the library itself, is not taken.
//! 4. In a fork nothing is taken: its parent's lock may have been held at that moment.
//!
//! Tests: `tests/log_sink.rs`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

use super::event::LogEvent;
use super::queue::Queue;
use super::setting::LevelSource;
use super::writer::{Open, Writer};
use super::{LogCaps, LogLevel, LogLevels};
use crate::error::{Error, ErrorKind, Result};
use crate::forks;
use crate::redact::Redactor;
use crate::sqlite::{guard, instant_after, now_unix_ns};
use crate::telemetry;

/// How long the last handle waits for what is queued when it is dropped.
const WAIT_AT_DROP: Duration = Duration::from_secs(2);
/// How long the writer's last steps may take after the deadline of closing.
const LONGEST_END: Duration = Duration::from_secs(1);

/// Bounds of a [`LogSink`]. `Default` gives the documented numbers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogOptions {
    /// Events that may wait to be written; of more, the oldest are dropped. Default 16,384.
    pub queue_events: usize,
    /// Bytes that those may take in memory. Default 8 MiB. What is being written, at most two batches, comes on top.
    pub queue_bytes: usize,
    /// Events from which a batch is written at once. Default 1,024.
    pub batch_events: usize,
    /// The same in bytes of memory. Default 512 KiB; at most a quarter of [`LogCaps::process_bytes`].
    pub batch_bytes: usize,
    /// How long an event waits for others to be written with. Default 200 ms.
    pub batch_time: Duration,
    /// Bytes of the ring, which keeps the last minute of TRACE and DEBUG events in memory until an ERROR follows. Default
    /// 512 KiB.
    pub ring_bytes: usize,
    /// The most that a row may count; longer ones are cut, and say so. Default 64 KiB, at least 1 KiB.
    pub row_bytes: usize,
    /// What rows may take in the file.
    pub caps: LogCaps,
    /// What is never written. Default: its own lists, and the values of this process's environment that are secrets by
    /// their names.
    pub redactor: Redactor,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            queue_events: 16 << 10,
            queue_bytes: 8 << 20,
            batch_events: 1 << 10,
            batch_bytes: 512 << 10,
            batch_time: Duration::from_millis(200),
            ring_bytes: 512 << 10,
            row_bytes: 64 << 10,
            caps: LogCaps::default(),
            redactor: Redactor::default().environment(),
        }
    }
}

/// What became of the events of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct LogStats {
    /// Events that were taken: those that the levels let through.
    pub emitted: u64,
    /// Of these, rows that were committed.
    pub written: u64,
    /// Of these, events that were dropped: the queue was full, or the sink was closed.
    pub dropped: u64,
    /// Rows that were cut because they were too long.
    pub truncated: u64,
    /// Values, and parts of texts, that were replaced because they are or look secret.
    pub redacted: u64,
    /// Events that wait to be written, or are just being written.
    pub waiting: u64,
    /// TRACE and DEBUG events in memory.
    pub in_ring: u64,
    /// What those take, in bytes.
    pub ring_bytes: u64,
    /// Rows that were deleted to keep the caps on all rows: age, and bytes of the file.
    pub pruned: u64,
    /// Rows that were deleted to keep the caps of a thread, and of this run of the process.
    pub expired: u64,
}

/// Takes log events from any thread and writes them in the background. Cheap to clone.
///
/// INFO, WARN and ERROR are written within [`LogOptions::batch_time`]. TRACE and DEBUG stay in memory, in a ring, and are
/// written when an ERROR follows within a minute, or with [`write_ring`](Self::write_ring). Nobody who says something
/// ever waits: what there is no room for is dropped, the oldest first, counted, and told by a row when writing resumes.
///
/// What waits is written when the runtime is closed, or the last handle dropped; a program that ends without either loses
/// its last 200 ms.
///
/// ```
/// # fn main() -> rowhouse::Result<()> {
/// # let folder = tempfile::tempdir().expect("a folder");
/// use rowhouse::stores::logs::{LogEvent, LogLevel, LogOptions};
/// use rowhouse::{Home, Runtime};
/// use std::time::Duration;
/// let runtime = Runtime::open(Home::at(folder.path().join("home")))?;
/// let sink = runtime.log_sink(LogOptions::default())?;
/// sink.emit(LogEvent::new(LogLevel::Info, "app", "started").field("port", 8080));
/// sink.flush(Duration::from_secs(5))?;
/// assert_eq!(sink.stats().written, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LogSink {
    owner: Arc<Owner>,
}

/// Whoever holds this keeps the sink open.
struct Owner {
    shared: Arc<Shared>,
}

/// What the handles and the writer share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// The writer has something to do.
    pub(super) wake: Condvar,
    /// Something was written, or the writer has ended.
    pub(super) told: Condvar,
    pub(super) levels: RwLock<LogLevels>,
    /// What is never written.
    #[cfg(feature = "log-layer")]
    pub(super) redactor: Redactor,
    /// Whoever the layer is part of.
    #[cfg(feature = "log-layer")]
    pub(super) dispatch: Mutex<Option<tracing::dispatcher::WeakDispatch>>,
    owner: u32,
    emitted: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) truncated: AtomicU64,
    pub(super) redacted: AtomicU64,
    pub(super) pruned: AtomicU64,
    pub(super) expired: AtomicU64,
}

pub(super) struct State {
    pub(super) queue: Queue,
    /// Of the events that came, those before this are written or dropped: [`Queue::left`] of the last batch.
    pub(super) settled: u64,
    /// Events in batches that are being written.
    pub(super) under_way: u64,
    /// Somebody waits for those before this.
    pub(super) wanted: u64,
    /// Work off what waits until then, and end.
    pub(super) closing: Option<Instant>,
    pub(super) ended: bool,
    /// Why the last try to write failed; nothing when it did not.
    pub(super) trouble: Option<Error>,
}

impl LogSink {
    /// Starts the writer.
    ///
    /// # Errors
    /// `Io` when no thread can be started.
    fn start(source: LevelSource, open: Open, mut options: LogOptions) -> Result<Self> {
        let most = usize::try_from(options.caps.process_bytes / 4).unwrap_or(0);
        options.batch_bytes = options.batch_bytes.min(most);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: Queue::new(&options),
                settled: 0,
                under_way: 0,
                wanted: 0,
                closing: None,
                ended: false,
                trouble: None,
            }),
            wake: Condvar::new(),
            told: Condvar::new(),
            levels: RwLock::new(source.levels().clone()),
            #[cfg(feature = "log-layer")]
            redactor: options.redactor.clone(),
            #[cfg(feature = "log-layer")]
            dispatch: Mutex::default(),
            owner: forks::generation(),
            emitted: AtomicU64::new(0),
            written: AtomicU64::new(0),
            truncated: AtomicU64::new(0),
            redacted: AtomicU64::new(0),
            pruned: AtomicU64::new(0),
            expired: AtomicU64::new(0),
        });
        let writer = Writer::new(shared.clone(), source, open, options);
        std::thread::Builder::new().name("rowhouse-log".to_owned()).spawn(move || writer.work()).map_err(
            |error| {
                Error::new(ErrorKind::Io, "no thread could be started for the logs")
                    .advise("end other programs, or raise the limit of threads (ulimit -u)")
                    .caused_by(error)
            },
        )?;
        Ok(Self { owner: Arc::new(Owner { shared }) })
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.owner.shared
    }

    /// Takes an event, if the levels let it through. Never waits, never fails.
    pub fn emit(&self, event: LogEvent) {
        if self.takes(&event.target, event.level) {
            self.push(event);
        }
    }

    /// Whether an event of this target and level is taken now.
    pub fn takes(&self, target: &str, level: LogLevel) -> bool {
        let shared = self.shared();
        !shared.is_forked() && !telemetry::is_own() && shared.levels.read().takes(target, level)
    }

    /// Takes an event that the levels let through.
    pub(super) fn push(&self, event: LogEvent) {
        let shared = self.shared();
        if shared.is_forked() {
            return;
        }
        shared.emitted.fetch_add(1, Ordering::Relaxed);
        let mut state = shared.state.lock();
        if state.ended || state.closing.is_some() {
            state.queue.drop_event(event.ts);
        } else if state.queue.push(event) {
            drop(state);
            shared.wake.notify_one();
        }
    }

    /// Has the TRACE and DEBUG events of the last minute written, as if an ERROR had followed.
    pub fn write_ring(&self) {
        let shared = self.shared();
        if !shared.is_forked() && shared.state.lock().queue.write_ring(now_unix_ns()) {
            shared.wake.notify_one();
        }
    }

    /// Waits until every event that came before is written or dropped, for at most `wait`.
    ///
    /// # Errors
    /// `Timeout` when it took longer; when there is a reason, it is behind [`source`](std::error::Error::source).
    /// `Reentrant` from inside a job; `Closed` in a fork.
    pub fn flush(&self, wait: Duration) -> Result<()> {
        guard::refuse_in_job()?;
        let shared = self.shared();
        if shared.is_forked() {
            return Err(Error::new(
                ErrorKind::Closed,
                "this process is a fork of the one that started the log sink",
            ));
        }
        let deadline = instant_after(wait);
        let mut state = shared.state.lock();
        let wanted = state.queue.pushed();
        state.wanted = state.wanted.max(wanted);
        shared.wake.notify_one();
        while state.settled < wanted && !state.ended {
            if shared.told.wait_until(&mut state, deadline).timed_out() && state.settled < wanted {
                let late = Error::new(ErrorKind::Timeout, "the events were not written until the deadline")
                    .advise("they stay in the queue: `rowhouse who` tells what is in the way of the logs");
                return Err(match state.trouble.clone() {
                    Some(trouble) => late.caused_by(trouble),
                    None => late,
                });
            }
        }
        Ok(())
    }

    /// What became of the events so far.
    pub fn stats(&self) -> LogStats {
        let shared = self.shared();
        if shared.is_forked() {
            return LogStats::default();
        }
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let state = shared.state.lock();
        let (in_ring, ring_bytes) = state.queue.ring();
        LogStats {
            emitted: read(&shared.emitted),
            written: read(&shared.written),
            dropped: state.queue.dropped,
            truncated: read(&shared.truncated),
            redacted: read(&shared.redacted),
            waiting: state.queue.waiting() as u64 + state.under_way,
            in_ring: in_ring as u64,
            ring_bytes: ring_bytes as u64,
            pruned: read(&shared.pruned),
            expired: read(&shared.expired),
        }
    }

    /// The levels that count now; off in a fork.
    pub fn levels(&self) -> LogLevels {
        let shared = self.shared();
        if shared.is_forked() {
            return LogLevels::off();
        }
        shared.levels.read().clone()
    }

    /// Writes what waits, for at most `wait`, and ends: what comes afterwards is dropped and counted. Closing twice is
    /// fine. False when it took longer: what was left is dropped.
    pub fn close(&self, wait: Duration) -> bool {
        self.owner.close(wait)
    }
}

impl std::fmt::Debug for LogSink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LogSink").field("levels", &self.levels().to_string()).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn is_forked(&self) -> bool {
        forks::current() != self.owner
    }
}

impl Owner {
    fn close(&self, wait: Duration) -> bool {
        let shared = &self.shared;
        if shared.is_forked() {
            return true;
        }
        let deadline = instant_after(wait);
        let mut state = shared.state.lock();
        let dropped = state.queue.dropped;
        state.closing.get_or_insert(deadline);
        shared.wake.notify_one();
        if guard::in_job() || telemetry::is_own() {
            // The thread that it would wait for may wait for this one, or is this one.
            return state.ended;
        }
        while !state.ended && !shared.told.wait_until(&mut state, deadline + LONGEST_END).timed_out() {}
        state.ended && state.queue.dropped == dropped
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.close(WAIT_AT_DROP);
    }
}

/// The one sink of a runtime, while somebody has it.
#[derive(Default)]
pub(crate) struct SinkSlot(Mutex<Weak<Owner>>);

impl SinkSlot {
    /// The one that is open, or a new one.
    pub(crate) fn get_or_start(
        &self,
        source: impl FnOnce() -> LevelSource,
        open: Open,
        options: LogOptions,
    ) -> Result<LogSink> {
        let mut slot = self.0.lock();
        if let Some(owner) = slot.upgrade().filter(|owner| owner.shared.state.lock().closing.is_none()) {
            return Ok(LogSink { owner });
        }
        let sink = LogSink::start(source(), open, options)?;
        *slot = Arc::downgrade(&sink.owner);
        Ok(sink)
    }

    /// Closes it, if somebody has it.
    pub(crate) fn close(&self, wait: Duration) {
        let owner = self.0.lock().upgrade();
        if let Some(owner) = owner {
            owner.close(wait);
        }
    }
}
