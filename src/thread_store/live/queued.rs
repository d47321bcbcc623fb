//! A live thread for callers that may not wait: a user interface, an event loop.
//!
//! Invariants:
//! 1. Only `close` and waiting for a flush wait. Every other call takes a lock that nobody keeps while it reads, writes or
//!    waits for another process.
//! 2. What was taken is appended in its order. Behind an append that failed nothing is appended, so that the history has no
//!    gap; every later call answers that error. A flush that failed is answered to who waits for it, and ends nothing: the
//!    lines wait for the disk as those of a [`LiveThread`] do.
//! 3. What waits is bounded. More is refused, and stays with the caller.
//! 4. What was taken is appended before the thread is given back, also when this is dropped.
//!
//! Tests: below; `tests/f2_keystrokes.rs`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use super::{LiveThread, PersistencePolicy};
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::{Item, NewRollout};
use crate::telemetry;
use crate::thread_store::store::ThreadStore;

/// Bytes that wait to be appended, at most, by default: 64 MiB.
pub const MAX_WAITING: usize = 64 << 20;

/// A thread that is being worked in, written by a thread of its own: nothing but [`close`](Self::close) and
/// [`Flush::wait`] waits for the disk or for another process.
///
/// What was taken is lost with the process, until a [`flush`](Self::flush) behind it has been answered. Dropping it lets
/// what was taken be appended in the background; a program that ends right then calls [`close`](Self::close) instead.
///
/// ```
/// # fn main() -> rowhouse::Result<()> {
/// use std::sync::Arc;
/// use std::time::Duration;
/// use rowhouse::rollout::{Item, NewRollout};
/// use rowhouse::thread_store::{InMemoryThreadStore, QueuedThread, ThreadStore};
/// let store: Arc<dyn ThreadStore> = Arc::new(InMemoryThreadStore::new()?);
/// let live = QueuedThread::create(store.clone(), NewRollout::default())?;
/// live.append(vec![Item::new("event_msg", &serde_json::json!({"type": "user_message", "message": "Hello"}))?])?;
/// live.flush()?.wait(Duration::from_secs(30))?;
/// assert_eq!(store.read(live.id())?.title.as_deref(), Some("Hello"));
/// live.close(Duration::from_secs(30))?;
/// # Ok(())
/// # }
/// ```
pub struct QueuedThread {
    id: String,
    policy: PersistencePolicy,
    max_waiting: usize,
    queue: Arc<Queue>,
}

/// A flush to come.
#[must_use = "it is answered only to who waits for it"]
pub struct Flush {
    queue: Arc<Queue>,
    number: u64,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// There is something to do.
    work: Condvar,
    /// Something was done.
    done: Condvar,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    /// Of the items that wait.
    bytes: usize,
    /// Tasks that were taken, and that were done.
    taken: u64,
    done: u64,
    /// What the flushes up to that one failed with, when they did last.
    flushed: Option<(u64, Error)>,
    closing: bool,
    ended: bool,
    failed: Option<Error>,
}

enum Task {
    Append(Vec<Item>),
    Flush,
}

impl QueuedThread {
    /// Begins a thread; its id is known at once, and that it cannot be begun is the answer of a later call.
    ///
    /// # Errors
    /// `Io` when the system starts no thread.
    pub fn create(store: Arc<dyn ThreadStore>, mut thread: NewRollout) -> Result<Self> {
        let id = thread.id.get_or_insert_with(|| Uuid::now_v7().to_string()).clone();
        Self::begin(id, move || LiveThread::create(store, &thread))
    }

    /// Goes on with a thread; that it cannot be written now is the answer of a later call.
    ///
    /// # Errors
    /// `Io` when the system starts no thread.
    pub fn resume(store: Arc<dyn ThreadStore>, thread: &str) -> Result<Self> {
        let id = thread.to_owned();
        Self::begin(thread.to_owned(), move || LiveThread::resume(store, &id))
    }

    fn begin(id: String, open: impl FnOnce() -> Result<LiveThread> + Send + 'static) -> Result<Self> {
        let queue = Arc::new(Queue::default());
        let worker = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("rowhouse-thread".to_owned())
            .spawn(move || worker.run(open))
            .map_err(|error| Error::new(ErrorKind::Io, "the system starts no thread").caused_by(error))?;
        Ok(Self { id, policy: PersistencePolicy::default(), max_waiting: MAX_WAITING, queue })
    }

    /// With another policy than the default one.
    #[must_use]
    pub fn policy(mut self, policy: PersistencePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// With another bound of what waits than [`MAX_WAITING`]: bytes.
    #[must_use]
    pub fn max_waiting(mut self, bytes: usize) -> Self {
        self.max_waiting = bytes;
        self
    }

    /// The thread.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Takes what the policy keeps, to be appended soon. Items that are more than may wait are taken when nothing else
    /// waits.
    ///
    /// # Errors
    /// `Busy` when too much waits, `Invalid` for an item that says something about the thread, which
    /// [`update_metadata`](LiveThread::update_metadata) is for: none of these items was taken. What an earlier append failed
    /// with: neither were these.
    pub fn append(&self, mut items: Vec<Item>) -> Result<()> {
        items.retain(|item| self.policy.keeps(item));
        // Among others it would fail them all.
        items.iter().try_for_each(Item::refuse_said)?;
        if items.is_empty() {
            return Ok(());
        }
        let bytes = items.iter().map(|item| item.text().len()).sum::<usize>();
        let mut state = self.queue.state.lock();
        state.check()?;
        if state.bytes > 0 && state.bytes.saturating_add(bytes) > self.max_waiting {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("{} bytes of thread {} wait to be written already", state.bytes, self.id),
            )
            .advise("take the same items again after a flush; look at the disk"));
        }
        state.bytes += bytes;
        state.push(Task::Append(items));
        drop(state);
        self.queue.work.notify_one();
        Ok(())
    }

    /// Asks for what was taken so far to survive a power cut, and for the list to show it.
    ///
    /// # Errors
    /// What an earlier append failed with.
    pub fn flush(&self) -> Result<Flush> {
        let mut state = self.queue.state.lock();
        state.check()?;
        state.push(Task::Flush);
        let number = state.taken;
        drop(state);
        self.queue.work.notify_one();
        Ok(Flush { queue: Arc::clone(&self.queue), number })
    }

    /// Bytes that wait to be appended.
    pub fn waiting(&self) -> usize {
        self.queue.state.lock().bytes
    }

    /// Appends what was taken, flushes, gives the thread back, and waits for that.
    ///
    /// # Errors
    /// `Timeout` when it takes longer than this; it goes on all the same. What an append failed with, or giving it back.
    pub fn close(self, within: Duration) -> Result<()> {
        let queue = Arc::clone(&self.queue);
        drop(self);
        queue.wait(within, |state| state.ended)?;
        queue.state.lock().check()
    }
}

impl Drop for QueuedThread {
    fn drop(&mut self) {
        self.queue.state.lock().closing = true;
        self.queue.work.notify_one();
    }
}

impl Flush {
    /// Waits until it was done.
    ///
    /// # Errors
    /// `Timeout` when it takes longer than this; it goes on all the same. What it failed with, or an append before it.
    pub fn wait(&self, within: Duration) -> Result<()> {
        self.queue.wait(within, |state| state.done >= self.number)?;
        match &self.queue.state.lock().flushed {
            Some((last, error)) if *last >= self.number => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// True when it was done, or failed: [`wait`](Self::wait) does not wait then.
    pub fn is_done(&self) -> bool {
        let state = self.queue.state.lock();
        state.done >= self.number || state.failed.is_some()
    }
}

impl State {
    fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn push(&mut self, task: Task) {
        self.taken += 1;
        self.tasks.push_back(task);
    }
}

impl Queue {
    fn wait(&self, within: Duration, reached: impl Fn(&State) -> bool) -> Result<()> {
        let until = Instant::now() + within.min(Duration::from_hours(24 * 365));
        let mut state = self.state.lock();
        while !reached(&state) && state.failed.is_none() {
            if self.done.wait_until(&mut state, until).timed_out() && !reached(&state) {
                state.check()?;
                return Err(Error::new(ErrorKind::Timeout, "the disk did not take it in time")
                    .advise("it goes on; wait again, or look at the disk"));
            }
        }
        if reached(&state) { Ok(()) } else { state.check() }
    }

    /// The thread that writes, until it is closed or something failed.
    fn run(&self, open: impl FnOnce() -> Result<LiveThread>) {
        let written =
            open().map(|live| live.policy(PersistencePolicy::All)).and_then(|live| self.write(&live));
        let mut state = self.state.lock();
        if let Err(error) = written {
            telemetry::warn(&format_args!("what was said last in a thread was not written: {error}"));
            state.failed = Some(error);
            state.tasks.clear();
            state.bytes = 0;
        }
        state.ended = true;
        drop(state);
        self.done.notify_all();
    }

    fn write(&self, live: &LiveThread) -> Result<()> {
        loop {
            let (tasks, number, bytes) = {
                let mut state = self.state.lock();
                while state.tasks.is_empty() && !state.closing {
                    self.work.wait(&mut state);
                }
                if state.tasks.is_empty() {
                    break;
                }
                (std::mem::take(&mut state.tasks), state.taken, state.bytes)
            };
            // All that waits is one append, and one flush at its end when one was asked for.
            let flush = tasks.iter().any(|task| matches!(task, Task::Flush));
            let items: Vec<Item> = tasks.into_iter().flat_map(Task::into_items).collect();
            live.append(&items)?;
            let flushed = if flush { live.flush() } else { Ok(()) };
            let mut state = self.state.lock();
            if flush {
                state.flushed = flushed.err().map(|error| (number, error));
            }
            state.done = number;
            state.bytes -= bytes;
            drop(state);
            self.done.notify_all();
        }
        live.close()
    }
}

impl Task {
    fn into_items(self) -> Vec<Item> {
        match self {
            Self::Append(items) => items,
            Self::Flush => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::thread_store::InMemoryThreadStore;

    const LONG: Duration = Duration::from_mins(2);

    fn message(text: &str) -> Item {
        Item::new("event_msg", &json!({"type": "agent_message", "message": text})).expect("an item")
    }

    fn store() -> Arc<dyn ThreadStore> {
        Arc::new(InMemoryThreadStore::new().expect("a store"))
    }

    #[test]
    fn what_was_taken_is_appended_in_its_order_also_when_it_is_dropped() {
        let store = store();
        let live = QueuedThread::create(store.clone(), NewRollout::default()).expect("begun");
        let id = live.id().to_owned();
        for number in 0..500 {
            live.append(vec![message(&number.to_string())]).expect("taken");
        }
        live.flush().expect("asked for").wait(LONG).expect("written");
        assert_eq!(live.waiting(), 0);
        live.append(vec![message("500")]).expect("taken");
        live.close(LONG).expect("given back");
        let live = QueuedThread::resume(store.clone(), &id).expect("begun");
        // It has the thread from here on; else who resumes it below may be first.
        live.flush().expect("asked for").wait(LONG).expect("resumed");
        live.append(vec![message("501")]).expect("taken");
        drop(live);
        // Whoever comes next waits for the one before.
        let begun = Instant::now();
        while store.resume(&id).is_err() {
            assert!(begun.elapsed() < LONG, "it is never given back");
            std::thread::yield_now();
        }
        let said: Vec<_> = store
            .load_history(&id)
            .expect("a history")
            .map(|item| item.expect("an item"))
            .map(|item| serde_json::from_str::<serde_json::Value>(item.text()).expect("JSON"))
            .filter_map(|line| Some(line["payload"]["message"].as_str()?.to_owned()))
            .collect();
        assert_eq!(said, (0..502).map(|number: i32| number.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn too_much_is_refused_and_an_error_is_the_answer_from_then_on() {
        let store = store();
        let missing = "019cadf1-7a5e-7b04-8f21-000000000001";
        let live = QueuedThread::resume(store.clone(), missing).expect("begun").max_waiting(200);
        let answer = live.flush().and_then(|flush| flush.wait(LONG)).expect_err("no such thread");
        assert_eq!(answer.kind(), ErrorKind::NotFound, "{answer}");
        let error = live.append(vec![message("a")]).expect_err("nothing is taken any more");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(live.close(LONG).expect_err("neither").kind(), ErrorKind::NotFound);

        let live =
            QueuedThread::create(store.clone(), NewRollout::default()).expect("begun").max_waiting(200);
        let mut refused = 0;
        for number in 0..10_000 {
            match live.append(vec![message(&format!("{number:0>150}"))]) {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
                    refused += 1;
                }
            }
            assert!(live.waiting() <= 400, "{}", live.waiting());
        }
        assert!(refused > 0, "two lines of 150 letters are more than 200 bytes");
        live.close(LONG).expect("what was taken is there");
    }
}
