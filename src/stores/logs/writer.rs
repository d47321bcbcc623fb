//! The thread that writes what comes into the queue.
//!
//! It sleeps until an event comes or a batch is due; between, it looks every [`LOOK_EVERY`] whether the levels were set
//! anew. One batch is under way at a time: a job of the logs' database in the normal lane, which a bound that is reached
//! refuses at once, while deleting old rows goes by the background lane, which is let in to make room. When another full
//! batch waits by then, its rows are made meanwhile.
//!
//! Invariants:
//! 1. A batch that could not be written is kept and tried again, unless it is the batch itself that fails: that one is
//!    dropped and counted.
//! 2. Nothing is written while nothing is said.
//! 3. Above [`Room::high`] rows are deleted, the oldest first, down to [`Room::low`], a step after each batch and between,
//!    of twice what the batch added: so the file never meets its bound in a storm, and each row that comes does not push
//!    one out.
//!
//! Tests: `tests/log_sink.rs`, `tests/log_caps.rs`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::MutexGuard;

use super::event::LogEvent;
use super::insert::{self, Batch, Inserted};
use super::own::OwnRows;
use super::prune::{self, Counts, Done};
use super::queue::Gap;
use super::record::Recorder;
use super::setting::LevelSource;
use super::sink::{Shared, State};
use super::{LogLevel, LogOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::tx::Tx;
use crate::sqlite::{Database, instant_after, now_unix_ns};
use crate::telemetry;

/// How often the setting of the levels is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long an answer is waited for before looking at other things.
const SLICE: Duration = Duration::from_millis(250);
/// Rests after failures: the first, and the longest.
const SHORTEST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(5);
/// How many times as long as a step of deleting took others have the database to themselves.
const REST: u32 = 4;
/// How often the age of the oldest row is looked at.
const AGE_EVERY: Duration = Duration::from_mins(1);
/// The part of the age, and of the bytes, that is freed at once.
const PART: u32 = 16;
/// The target of rows that the sink writes by itself.
pub(super) const TARGET: &str = "rowhouse::logs";

/// Gives the database, opening it if that is allowed by now.
pub(crate) type Open = Box<dyn Fn() -> Result<Database> + Send>;

/// A batch on its way.
struct Pending {
    batch: Batch,
    /// Events among its rows.
    events: u64,
    /// What its first row tells, if it does.
    gap: Option<Gap>,
    /// [`super::queue::Queue::left`] when it was taken.
    left: u64,
    bytes: usize,
}

impl Pending {
    fn counts(&self) -> Counts {
        Counts { rows: self.batch.records.len() as u64, bytes: i64::try_from(self.bytes).unwrap_or(i64::MAX) }
    }
}

/// How it went.
struct Written {
    inserted: Inserted,
    used: u64,
    has_older: bool,
}

/// When rows have to go, and how many.
struct Room {
    high: u64,
    low: u64,
    /// Going down to `low`.
    is_tight: bool,
    /// What the last batch adds.
    added: Counts,
    /// Deleting by age.
    is_old: bool,
    next_age: Instant,
    /// When the next step of deleting may be.
    next: Instant,
}

impl Room {
    fn new() -> Self {
        let now = Instant::now();
        let added = Counts::default();
        Self {
            high: u64::MAX,
            low: u64::MAX,
            is_tight: false,
            added,
            is_old: false,
            next_age: now,
            next: now,
        }
    }

    /// A file of at most so many bytes, to which batches of so many are added.
    fn bound(&mut self, most: Option<u64>, batch: u64) {
        if let Some(most) = most {
            let part = most / u64::from(PART);
            self.high = most - part.max(batch * 2).min(most / 4);
            self.low = self.high - part;
        }
    }

    fn wants(&self) -> Option<Instant> {
        (self.is_tight || self.is_old).then_some(self.next)
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    source: LevelSource,
    open: Open,
    options: LogOptions,
    database: Option<Database>,
    recorder: Recorder,
    process: Arc<str>,
    own: OwnRows,
    pending: Option<Pending>,
    /// The batch after that, when its rows are made.
    next: Option<Pending>,
    room: Room,
    next_look: Instant,
    /// After failures in a row: how many, and until when to rest.
    failures: u32,
    rests_until: Option<Instant>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, source: LevelSource, open: Open, options: LogOptions) -> Self {
        let process: Arc<str> = uuid::Uuid::now_v7().to_string().into();
        Self {
            recorder: Recorder::new(options.redactor.clone(), options.row_bytes),
            own: OwnRows::new(options.caps.process_bytes),
            shared,
            source,
            open,
            options,
            database: None,
            process,
            pending: None,
            next: None,
            room: Room::new(),
            next_look: Instant::now() + LOOK_EVERY,
            failures: 0,
            rests_until: None,
        }
    }

    pub(super) fn work(self) {
        let _own = telemetry::Own::mark();
        // Dropped after the writer, also when that panics.
        let _ended = EndsWith(self.shared.clone());
        let mut writer = self;
        writer.run_until_closed();
    }

    fn run_until_closed(&mut self) {
        let shared = self.shared.clone();
        loop {
            self.look();
            let mut state = shared.state.lock();
            if let Some(deadline) = state.closing {
                drop(state);
                return self.drain(deadline);
            }
            let now = Instant::now();
            let due = self.due(&state, now);
            if due.is_none_or(|due| due > now) {
                shared.wake.wait_until(&mut state, due.map_or(self.next_look, |due| due.min(self.next_look)));
                continue;
            }
            drop(state);
            if !self.step(None) {
                return;
            }
        }
    }

    /// When there is something to do.
    fn due(&self, state: &State, now: Instant) -> Option<Instant> {
        let writes = if self.has_rows() || (state.wanted > state.settled && state.queue.waiting() > 0) {
            Some(now)
        } else {
            state.queue.due(self.options.batch_time)
        };
        let wanted = [writes, self.room.wants()].into_iter().flatten().min()?;
        Some(self.rests_until.map_or(wanted, |rest| wanted.max(rest)))
    }

    /// Whether there is a batch whose rows are made.
    fn has_rows(&self) -> bool {
        self.pending.is_some() || self.next.is_some()
    }

    /// Writes a batch that waits, and deletes what has to go. False when the database is closed for good.
    fn step(&mut self, deadline: Option<Instant>) -> bool {
        self.rests_until = None;
        if self.pending.is_none() {
            self.pending = self.next.take().or_else(|| self.take());
        }
        let answer = self.write(deadline).and_then(|()| self.make_room(deadline));
        let Err(error) = answer else {
            if self.failures > 0 {
                self.failures = 0;
                self.shared.state.lock().trouble = None;
            }
            return true;
        };
        let rest = SHORTEST_REST * (1 << self.failures.min(6));
        let rest = error.retry_after().unwrap_or(rest).clamp(SHORTEST_REST, LONGEST_REST);
        self.rests_until = Some(Instant::now() + rest);
        self.failures += 1;
        let goes_on = error.kind() != ErrorKind::Closed;
        self.shared.state.lock().trouble = Some(error);
        goes_on
    }

    /// Makes a batch of what waits.
    fn take(&mut self) -> Option<Pending> {
        let (mut taken, left) = {
            let mut state = self.shared.state.lock();
            let taken = state.queue.take()?;
            state.under_way += taken.events.len() as u64;
            (taken, state.queue.left())
        };
        let mut records = Vec::with_capacity(taken.events.len() + 1);
        records.extend(taken.gap.map(note).map(|event| self.recorder.record(event)));
        let notes = records.len();
        for event in taken.events.drain(..) {
            let ts = event.ts;
            // One event that cannot be made a row must not take the others with it.
            let recorded = std::panic::catch_unwind(AssertUnwindSafe(|| self.recorder.record(event)));
            if let Ok(record) = recorded {
                records.push(record);
            } else {
                let mut state = self.shared.state.lock();
                state.queue.drop_event(ts);
                state.under_way -= 1;
            }
        }
        let events = (records.len() - notes) as u64;
        self.shared.truncated.store(self.recorder.truncated, Ordering::Relaxed);
        self.shared.redacted.store(self.recorder.redacted(), Ordering::Relaxed);
        let unused = self.shared.state.lock().queue.reuse(taken.events);
        // Whoever says something does not wait for that.
        drop(unused);
        let bytes = records.iter().map(|record| record.bytes.unsigned_abs()).sum::<u64>();
        let batch = Batch {
            records: records.into(),
            process: self.process.clone(),
            expired: Vec::new(),
            uncertain: None,
        };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Some(Pending { batch, events, gap: taken.gap, left, bytes })
    }

    /// Makes the rows of the next batch when one waits that is full: others come more slowly than they are written.
    fn take_ahead(&mut self) {
        if self.next.is_none() && self.shared.state.lock().queue.is_full() {
            self.next = self.take();
        }
    }

    /// Writes the batch that is on its way, if one is.
    fn write(&mut self, deadline: Option<Instant>) -> Result<()> {
        let Some(mut pending) = self.pending.take() else { return Ok(()) };
        if pending.batch.records.is_empty() {
            self.settle(&pending);
            return Ok(());
        }
        let threadless = pending.batch.threadless();
        pending.batch.expired = self.own.to_expire(threadless);
        self.room.added = pending.counts();
        let answer = self.try_write(&mut pending, deadline);
        match answer {
            Ok(written) => {
                let Batch { records, expired, .. } = &pending.batch;
                self.own.wrote(expired.len(), written.inserted.last, records.len(), threadless);
                self.room.is_tight |= written.used > self.room.high;
                self.room.is_old |= written.has_older;
                self.shared.written.fetch_add(pending.events, Ordering::Relaxed);
                self.shared.expired.fetch_add(written.inserted.expired, Ordering::Relaxed);
                self.settle(&pending);
                Ok(())
            }
            Err(error) if is_its_own_fault(&error) => {
                self.lose(&pending);
                Err(error)
            }
            Err(error) => {
                self.pending = Some(pending);
                if !self.database.as_ref().is_some_and(|database| database.lacks_room(&error)) {
                    return Err(error);
                }
                // Rows have to go before it is tried again; when some went, that is at once.
                self.room.is_tight |= self.room.low < u64::MAX;
                match self.make_room(deadline) {
                    Ok(rows) if rows > 0 => Ok(()),
                    // Why writes are refused counts, not what deleting met.
                    _ => Err(error),
                }
            }
        }
    }

    fn try_write(&mut self, pending: &mut Pending, deadline: Option<Instant>) -> Result<Written> {
        let database = self.database()?.sized(pending.bytes);
        let too_old = self.looks_at_age().then(|| prune::by_age(now_unix_ns(), self.options.caps.age));
        let (batch, caps) = (pending.batch.clone(), self.options.caps.clone());
        let tried = Arc::new(AtomicI64::new(0));
        let note_id = tried.clone();
        let answer = self.run(&database, deadline, move |tx| {
            let inserted = insert::write(tx, &batch, &caps)?;
            note_id.store(inserted.last, Ordering::Relaxed);
            let has_older = too_old.map_or(Ok(false), |rows| rows.any(tx))?;
            Ok(Written { inserted, used: tx.used_bytes()?, has_older })
        });
        if let Err(error) = &answer
            && matches!(error.kind(), ErrorKind::OutcomeUnknown | ErrorKind::Replaced)
        {
            pending.batch.note_uncertain(tried.load(Ordering::Relaxed));
        }
        answer
    }

    /// One step of deleting old rows, when there is a reason and it is time; answers how many.
    fn make_room(&mut self, deadline: Option<Instant>) -> Result<u64> {
        let now = Instant::now();
        // In a storm each batch is followed by a step; between batches they leave the database to others.
        let is_due = self.room.is_tight || (self.room.is_old && self.room.next <= now);
        if !is_due || deadline.is_some_and(|deadline| now >= deadline) {
            return Ok(0);
        }
        let database = self.database()?.background();
        let done: Done = if self.room.is_tight {
            let (low, added) = (self.room.low, self.room.added);
            let done = self.run(&database, deadline, move |tx| prune::to_bytes(tx, low, added))?;
            self.room.is_tight = done.more;
            done
        } else {
            let age = self.options.caps.age;
            let rows = prune::by_age(now_unix_ns(), age / PART * (PART - 1));
            let done = self.run(&database, deadline, move |tx| rows.delete(tx, i64::MAX))?;
            self.room.is_old = done.more;
            done
        };
        self.shared.pruned.fetch_add(done.rows, Ordering::Relaxed);
        self.room.next = Instant::now() + now.elapsed() * REST;
        Ok(done.rows)
    }

    fn looks_at_age(&mut self) -> bool {
        let now = Instant::now();
        let looks = !self.room.is_old && now >= self.room.next_age;
        if looks {
            self.room.next_age = now + AGE_EVERY;
        }
        looks
    }

    /// Runs a job and waits for its answer; what else has to be looked at meanwhile is. At the deadline of closing the job
    /// is taken back.
    fn run<R: Send + 'static>(
        &mut self,
        database: &Database,
        deadline: Option<Instant>,
        job: impl Fn(&Tx) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let mut ticket = database.submit(job)?;
        self.take_ahead();
        let mut last_call = false;
        loop {
            if let Some(answer) = ticket.wait_for(SLICE) {
                return answer;
            }
            self.look();
            let closing = deadline.or_else(|| self.shared.state.lock().closing);
            if closing.is_none_or(|closing| Instant::now() < closing) {
                continue;
            }
            if ticket.cancel() {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    "the log sink was closed before it could be written",
                ));
            }
            // It runs: its answer comes, unless the disk hangs.
            if std::mem::replace(&mut last_call, true) {
                return Err(Error::new(
                    ErrorKind::OutcomeUnknown,
                    "the log sink was closed while it was written",
                ));
            }
        }
    }

    fn database(&mut self) -> Result<Database> {
        if self.database.is_none() {
            let database = (self.open)()?.label("log sink");
            self.room.bound(database.most_bytes(), self.options.batch_bytes as u64);
            self.database = Some(database);
        }
        // It was put there.
        self.database.clone().ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no database of logs"))
    }

    /// Follows the setting of the levels.
    fn look(&mut self) {
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        self.next_look = if self.source.is_fixed() { instant_after(Duration::MAX) } else { now + LOOK_EVERY };
        if self.source.look() {
            *self.shared.levels.write() = self.source.levels().clone();
            #[cfg(feature = "log-layer")]
            super::layer::levels_changed(&self.shared);
        }
    }

    /// The events of a batch are written.
    fn settle(&self, pending: &Pending) {
        self.settled(self.shared.state.lock(), pending);
    }

    /// The events of a batch are dropped.
    fn lose(&self, pending: &Pending) {
        let mut state = self.shared.state.lock();
        if let Some(gap) = pending.gap {
            state.queue.tell_again(gap);
        }
        let events = usize::try_from(pending.events).unwrap_or(usize::MAX);
        for record in pending.batch.records.iter().rev().take(events) {
            state.queue.drop_event(record.ts);
        }
        self.settled(state, pending);
    }

    fn settled(&self, mut state: MutexGuard<'_, State>, pending: &Pending) {
        state.settled = pending.left;
        state.under_way -= pending.events;
        drop(state);
        self.shared.told.notify_all();
    }

    /// Works off what waits until the deadline.
    fn drain(&mut self, deadline: Instant) {
        let has_work = |writer: &Self| writer.has_rows() || writer.shared.state.lock().queue.waiting() > 0;
        while has_work(self) && Instant::now() < deadline {
            if !self.step(Some(deadline)) {
                break;
            }
            if let Some(rest) = self.rests_until.take() {
                let mut state = self.shared.state.lock();
                // Nobody wakes it but by chance: it is the time that counts.
                let _ = self.shared.wake.wait_until(&mut state, rest.min(deadline));
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        for pending in [self.pending.take(), self.next.take()].into_iter().flatten() {
            self.lose(&pending);
        }
    }
}

/// However the writer ends, nobody waits for it any more, and what is left counts as dropped.
struct EndsWith(Arc<Shared>);

impl Drop for EndsWith {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.queue.drop_all();
        state.settled = state.queue.left();
        state.ended = true;
        self.0.told.notify_all();
    }
}

/// Trying it again would fail again.
fn is_its_own_fault(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Constraint
            | ErrorKind::Invalid
            | ErrorKind::Panicked
            | ErrorKind::Unsupported
            | ErrorKind::Job
    )
}

/// The row that tells of dropped events.
fn note(gap: Gap) -> LogEvent {
    let time = |ts: i64| {
        Timestamp::from_nanosecond(i128::from(ts))
            .map_or_else(|_| ts.to_string(), |time| format!("{time:.3}"))
    };
    let (first, last) = (time(gap.first), time(gap.last));
    let events = if gap.events == 1 { "event" } else { "events" };
    let message = format!("{} {events} dropped between {first} and {last}", grouped(gap.events));
    let event = LogEvent::new(LogLevel::Warn, TARGET, message)
        .field("dropped", gap.events)
        .field("first_ts", gap.first)
        .field("last_ts", gap.last);
    LogEvent { ts: gap.last, ..event }
}

/// 12345 as 12,345.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_tells_how_many_and_when() {
        let event =
            note(Gap { events: 12_345, first: 1_767_225_600_000_000_000, last: 1_767_225_661_500_000_000 });
        assert_eq!(
            event.message,
            "12,345 events dropped between 2026-01-01T00:00:00.000Z and 2026-01-01T00:01:01.500Z"
        );
        assert_eq!((event.level, event.ts), (LogLevel::Warn, 1_767_225_661_500_000_000));
        assert!(
            note(Gap { events: 1, first: i64::MIN, last: i64::MAX }).message.starts_with("1 event dropped")
        );
        assert_eq!([grouped(0), grouped(999), grouped(1_000_000)], ["0", "999", "1,000,000"]);
    }

    #[test]
    fn room_is_made_well_before_the_bound() {
        let mut room = Room::new();
        room.bound(None, 1 << 20);
        assert!(room.high == u64::MAX && room.wants().is_none());
        for most in [1 << 20, 3 << 20, 192 << 20] {
            room.bound(Some(most), 512 << 10);
            assert!(room.low < room.high && room.high < most && room.low >= most / 2, "{most}");
        }
    }
}
