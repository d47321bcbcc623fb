//! Events on their way: a bounded queue to the writer, and the ring of those that are written only if something fails.
//!
//! Invariants:
//! 1. Neither takes more than its bounds; beyond them the oldest goes. What the queue lets go is counted, with the times
//!    of the first and the last of them, until a row says so ([`Gap`]). What the ring lets go was not meant to be kept.
//! 2. Its lock is held for moving events only: no IO, no formatting, nothing of the application's.
//! 3. An ERROR has what the ring holds put before it. The ring's events are at most [`RING_AGE`] older than that, so that
//!    rows stand in the order of their times to within it.
//!
//! Tests: below; `tests/log_sink.rs`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::event::LogEvent;
use super::{LogLevel, LogOptions, SLACK};

/// How much older than an event what was in the ring before it may be.
pub(super) const RING_AGE: Duration = Duration::from_mins(1);
// Lists with a time range find rows that come later than younger ones, up to that.
const _: () = assert!(RING_AGE.as_secs() < SLACK.as_secs());

/// Events that were dropped and of which no row tells yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) events: u64,
    /// Unix nanoseconds.
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Gap {
    fn with(self, ts: i64) -> Self {
        Self { events: self.events + 1, first: self.first.min(ts), last: self.last.max(ts) }
    }
}

/// Events in order, and what they take.
#[derive(Default)]
struct Line {
    events: VecDeque<LogEvent>,
    bytes: usize,
}

impl Line {
    fn push(&mut self, event: LogEvent, size: usize) {
        self.bytes += size;
        self.events.push_back(event);
    }

    /// The oldest, and what it took.
    fn pop(&mut self) -> Option<(LogEvent, usize)> {
        let event = self.events.pop_front()?;
        let size = event.size();
        self.bytes -= size;
        Some((event, size))
    }
}

/// A batch that was taken from the queue.
pub(super) struct Taken {
    pub(super) events: VecDeque<LogEvent>,
    /// To be told before them.
    pub(super) gap: Option<Gap>,
}

pub(super) struct Queue {
    /// What waits, in the batches that it will be taken in: so taking one costs those who come meanwhile nothing. All but
    /// the last one are full, or were.
    batches: VecDeque<Line>,
    waiting: usize,
    bytes: usize,
    /// An empty one, for the memory that it has.
    spare: VecDeque<LogEvent>,
    most_events: usize,
    most_bytes: usize,
    batch_events: usize,
    batch_bytes: usize,
    ring: Line,
    ring_bytes: usize,
    gap: Option<Gap>,
    /// When the first event came that waits.
    since: Option<Instant>,
    /// Events that ever came into the line.
    pushed: u64,
    /// Events that ever left its front: taken or dropped.
    left: u64,
    pub(super) dropped: u64,
}

impl Queue {
    pub(super) fn new(options: &LogOptions) -> Self {
        Self {
            batches: VecDeque::new(),
            waiting: 0,
            bytes: 0,
            spare: VecDeque::new(),
            most_events: options.queue_events.max(1),
            most_bytes: options.queue_bytes,
            batch_events: options.batch_events.max(1),
            batch_bytes: options.batch_bytes,
            ring: Line::default(),
            ring_bytes: options.ring_bytes,
            gap: None,
            since: None,
            pushed: 0,
            left: 0,
            dropped: 0,
        }
    }

    /// Takes an event in. True when the writer has to be woken: there is a first event, or a batch is full.
    pub(super) fn push(&mut self, event: LogEvent) -> bool {
        let size = event.size();
        if event.level < LogLevel::Info {
            self.keep_in_ring(event, size);
            return false;
        }
        if event.level == LogLevel::Error {
            self.write_ring(event.ts);
        }
        self.push_line(event, size)
    }

    fn push_line(&mut self, event: LogEvent, size: usize) -> bool {
        let was_full = self.is_full();
        let is_first = self.since.is_none();
        if is_first {
            self.since = Some(Instant::now());
        }
        if self.batches.back().is_none_or(|last| self.is_batch(last)) {
            self.batches.push_back(Line { events: std::mem::take(&mut self.spare), bytes: 0 });
        }
        if let Some(last) = self.batches.back_mut() {
            last.push(event, size);
        }
        self.waiting += 1;
        self.bytes += size;
        self.pushed += 1;
        // The newest stays, whatever its size: its texts are bounded by themselves.
        while self.waiting > self.most_events || (self.bytes > self.most_bytes && self.waiting > 1) {
            self.drop_oldest();
        }
        is_first || (!was_full && self.is_full())
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.batches.front_mut() else { return };
        if let Some((event, size)) = oldest.pop() {
            self.waiting -= 1;
            self.bytes -= size;
            self.left += 1;
            self.drop_event(event.ts);
        }
        if self.batches.front().is_some_and(|oldest| oldest.events.is_empty()) {
            self.batches.pop_front();
        }
    }

    fn keep_in_ring(&mut self, event: LogEvent, size: usize) {
        if size > self.ring_bytes {
            return;
        }
        self.expire_ring(event.ts);
        self.ring.push(event, size);
        while self.ring.bytes > self.ring_bytes {
            self.ring.pop();
        }
    }

    fn expire_ring(&mut self, now: i64) {
        let oldest = now.saturating_sub(i64::try_from(RING_AGE.as_nanos()).unwrap_or(i64::MAX));
        while self.ring.events.front().is_some_and(|event| event.ts < oldest) {
            self.ring.pop();
        }
    }

    /// Puts what the ring holds into the line. True when there was something, so that the writer has to be woken.
    pub(super) fn write_ring(&mut self, now: i64) -> bool {
        self.expire_ring(now);
        let ring = std::mem::take(&mut self.ring);
        let any = !ring.events.is_empty();
        for event in ring.events {
            let size = event.size();
            self.push_line(event, size);
        }
        any
    }

    /// An event that comes too late, or was lost on its way.
    pub(super) fn drop_event(&mut self, ts: i64) {
        self.dropped += 1;
        let gap = self.gap.unwrap_or(Gap { events: 0, first: ts, last: ts });
        self.gap = Some(gap.with(ts));
    }

    /// The row that told of these was not written.
    pub(super) fn tell_again(&mut self, gap: Gap) {
        let known = self.gap.unwrap_or(Gap { events: 0, ..gap });
        self.gap = Some(Gap {
            events: known.events + gap.events,
            first: known.first.min(gap.first),
            last: known.last.max(gap.last),
        });
    }

    /// Whether a full batch waits.
    pub(super) fn is_full(&self) -> bool {
        self.batches.len() > 1 || self.batches.front().is_some_and(|first| self.is_batch(first))
    }

    fn is_batch(&self, line: &Line) -> bool {
        line.events.len() >= self.batch_events || line.bytes >= self.batch_bytes
    }

    /// When what waits is to be written: at once when a batch is full, else so long after the first of them came.
    pub(super) fn due(&self, batch_time: Duration) -> Option<Instant> {
        let since = self.since?;
        Some(if self.is_full() { since } else { since + batch_time })
    }

    /// Takes the next batch, if anything waits.
    pub(super) fn take(&mut self) -> Option<Taken> {
        let Line { events, bytes } = self.batches.pop_front()?;
        self.waiting -= events.len();
        self.bytes -= bytes;
        self.left += events.len() as u64;
        self.since = (self.waiting > 0).then(Instant::now);
        Some(Taken { events, gap: self.gap.take() })
    }

    /// Takes the memory of a batch that is done with; answers what it has of that kind.
    pub(super) fn reuse(&mut self, memory: VecDeque<LogEvent>) -> VecDeque<LogEvent> {
        std::mem::replace(&mut self.spare, memory)
    }

    /// Events that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Of events that came before, none waits any more once [`left`](Self::left) is that.
    pub(super) fn pushed(&self) -> u64 {
        self.pushed
    }

    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Events in the ring, and what they take.
    pub(super) fn ring(&self) -> (usize, usize) {
        (self.ring.events.len(), self.ring.bytes)
    }

    /// Nothing will be written any more.
    pub(super) fn drop_all(&mut self) {
        while self.waiting > 0 {
            self.drop_oldest();
        }
        self.since = None;
        self.ring = Line::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(change: impl FnOnce(&mut LogOptions)) -> Queue {
        let mut options = LogOptions::default();
        change(&mut options);
        Queue::new(&options)
    }

    fn event(level: LogLevel, ts: i64) -> LogEvent {
        LogEvent { ts, ..LogEvent::new(level, "t", "m") }
    }

    fn times(taken: &Taken) -> Vec<i64> {
        taken.events.iter().map(|event| event.ts).collect()
    }

    #[test]
    fn the_oldest_go_first_and_are_counted() {
        let mut queue = queue(|options| options.queue_events = 3);
        assert!(queue.push(event(LogLevel::Info, 1)), "the first wakes the writer");
        for ts in 2..=5 {
            assert!(!queue.push(event(LogLevel::Info, ts)));
        }
        let taken = queue.take().expect("a batch");
        assert_eq!(times(&taken), [3, 4, 5]);
        assert_eq!(taken.gap, Some(Gap { events: 2, first: 1, last: 2 }));
        assert_eq!((queue.dropped, queue.pushed(), queue.left(), queue.waiting()), (2, 5, 5, 0));
        assert!(queue.take().is_none() && queue.due(Duration::ZERO).is_none());
        queue.push(event(LogLevel::Info, 6));
        assert_eq!(queue.take().expect("a batch").gap, None, "told once");
    }

    #[test]
    fn bytes_bound_the_line_too_and_one_event_always_fits() {
        let mut queue = queue(|options| options.queue_bytes = 1000);
        let long = |ts| LogEvent { ts, ..LogEvent::new(LogLevel::Info, "t", "x".repeat(5000)) };
        queue.push(event(LogLevel::Info, 1));
        queue.push(long(2));
        assert_eq!(queue.waiting(), 1);
        queue.push(event(LogLevel::Info, 3));
        assert_eq!(times(&queue.take().expect("a batch")), [3]);
    }

    #[test]
    fn values_of_spans_count_too() {
        let mut queue = queue(|options| (options.queue_bytes, options.ring_bytes) = (100_000, 100_000));
        let span = std::sync::Arc::new(vec![("request".into(), "x".repeat(4000).into())]);
        for ts in 1..=100 {
            for level in [LogLevel::Info, LogLevel::Debug] {
                queue.push(LogEvent { spans: vec![span.clone()], ..event(level, ts) });
            }
        }
        assert!(queue.waiting() < 25 && queue.ring().0 < 25, "{} and {:?}", queue.waiting(), queue.ring());
    }

    #[test]
    fn a_full_batch_is_due_at_once() {
        let mut queue = queue(|options| options.batch_events = 2);
        let hour = Duration::from_hours(1);
        queue.push(event(LogLevel::Info, 1));
        assert!(queue.due(hour) > Some(Instant::now()));
        assert!(queue.push(event(LogLevel::Info, 2)), "a full batch wakes the writer");
        assert!(queue.due(hour) <= Some(Instant::now()));
        assert!(!queue.push(event(LogLevel::Info, 3)), "once");
        assert_eq!(times(&queue.take().expect("a batch")), [1, 2]);
    }

    #[test]
    fn details_wait_in_the_ring_for_an_error() {
        let mut queue = queue(|_| {});
        for (level, ts) in [(LogLevel::Trace, 1), (LogLevel::Info, 2), (LogLevel::Debug, 3)] {
            queue.push(event(level, ts));
        }
        assert_eq!(queue.ring().0, 2);
        assert_eq!(times(&queue.take().expect("a batch")), [2]);
        queue.push(event(LogLevel::Warn, 4));
        queue.push(event(LogLevel::Error, 5));
        assert_eq!(times(&queue.take().expect("a batch")), [4, 1, 3, 5], "before the error, in their order");
        assert_eq!(queue.ring(), (0, 0));
    }

    #[test]
    fn the_ring_forgets_what_is_too_much_or_too_old() {
        let mut queue = queue(|options| options.ring_bytes = 3 * 300);
        for ts in 1..=10 {
            queue.push(event(LogLevel::Debug, ts));
        }
        assert_eq!(queue.ring().0, 3);
        assert_eq!(queue.dropped, 0, "they were not meant to be kept");
        let late = i64::try_from(RING_AGE.as_nanos()).expect("a minute") + 10;
        queue.push(event(LogLevel::Debug, late));
        assert!(queue.write_ring(late));
        assert_eq!(times(&queue.take().expect("a batch")), [10, late]);
        queue.push(LogEvent { ts: late, ..LogEvent::new(LogLevel::Trace, "t", "x".repeat(5000)) });
        assert_eq!(queue.ring().0, 0, "larger than the ring");
        assert!(!queue.write_ring(late));
    }
}
