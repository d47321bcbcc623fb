//! What a running session holds: one thread that it writes.
//!
//! Invariants:
//! - What the policy keeps is appended in its order; what the list is to show of it is derived here and sent as one patch.
//! - A list that cannot be told fails no append: the patch stays, and goes with the next one. That is told once.
//! - Opening a thread changes nothing that a list shows.
//!
//! | file | what |
//! |---|---|
//! | `policy` | what is kept |
//! | `facts` | what the list is told of it |
//! | `queued` | for callers that may not wait |
//!
//! Tests: `tests/thread_store_contract.rs`, `tests/thread_store_live.rs`.

mod facts;
mod policy;
mod queued;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub use policy::PersistencePolicy;
pub use queued::{Flush, MAX_WAITING, QueuedThread};

use super::store::ThreadStore;
use crate::error::{ErrorKind, Result};
use crate::rollout::{Item, NewRollout};
use crate::sqlite::now_unix_ms;
use crate::stores::threads::{ThreadPatch, ThreadRow};
use crate::telemetry;
use facts::Facts;

/// A thread that is being worked in. Dropping it gives the thread back; [`close`](Self::close) says what went wrong.
///
/// ```
/// # fn main() -> rowhouse::Result<()> {
/// use std::sync::Arc;
/// use rowhouse::rollout::{Item, NewRollout};
/// use rowhouse::thread_store::{InMemoryThreadStore, LiveThread, ThreadStore};
/// let store: Arc<dyn ThreadStore> = Arc::new(InMemoryThreadStore::new()?);
/// let live = LiveThread::create(store.clone(), &NewRollout::default())?;
/// live.append(&[Item::new("event_msg", &serde_json::json!({"type": "user_message", "message": "Hello"}))?])?;
/// assert_eq!(store.read(live.id())?.title.as_deref(), Some("Hello"));
/// live.close()?;
/// # Ok(())
/// # }
/// ```
pub struct LiveThread {
    store: Arc<dyn ThreadStore>,
    id: String,
    policy: PersistencePolicy,
    state: Mutex<State>,
    closed: AtomicBool,
}

/// How long a list that could not be told is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct State {
    facts: Facts,
    /// What the list could not be told yet.
    pending: ThreadPatch,
    /// When the list could not be told; that was said.
    refused: Option<Instant>,
}

impl LiveThread {
    /// Begins a thread.
    ///
    /// # Errors
    /// As [`ThreadStore::create`].
    pub fn create(store: Arc<dyn ThreadStore>, thread: &NewRollout) -> Result<Self> {
        let id = store.create(thread)?;
        Ok(Self::of(store, id, State::default()))
    }

    /// Goes on with a thread.
    ///
    /// # Errors
    /// As [`ThreadStore::resume`].
    pub fn resume(store: Arc<dyn ThreadStore>, thread: &str) -> Result<Self> {
        store.resume(thread)?;
        // Read when nobody else can change it any more.
        let row = match store.read(thread) {
            Ok(row) => row,
            Err(error) => {
                store.discard(thread)?;
                return Err(error);
            }
        };
        let facts = Facts::of_row(&row);
        Ok(Self::of(store, row.id, State { facts, ..State::default() }))
    }

    fn of(store: Arc<dyn ThreadStore>, id: String, state: State) -> Self {
        Self {
            store,
            id,
            policy: PersistencePolicy::default(),
            state: Mutex::new(state),
            closed: AtomicBool::new(false),
        }
    }

    /// With another policy than the default one.
    #[must_use]
    pub fn policy(mut self, policy: PersistencePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The thread.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Appends what the policy keeps, and tells the list what is new.
    ///
    /// # Errors
    /// As [`ThreadStore::append_items`]; never of the list.
    pub fn append(&self, items: &[Item]) -> Result<()> {
        let kept: Vec<Item> = items.iter().filter(|item| self.policy.keeps(item)).cloned().collect();
        if kept.is_empty() {
            return Ok(());
        }
        let mut state = self.state.lock();
        self.store.append_items(&self.id, &kept)?;
        let now = i64::try_from(now_unix_ms()).unwrap_or(i64::MAX);
        let patch = state.facts.observe(&self.id, &kept, now);
        state.pending = facts::both(std::mem::take(&mut state.pending), patch);
        if state.refused.is_none_or(|at| at.elapsed() >= LEFT_ALONE) {
            self.tell(&mut state);
        }
        Ok(())
    }

    fn tell(&self, state: &mut State) {
        if state.pending.is_empty() {
            return;
        }
        match self.store.update_metadata(&self.id, &state.pending) {
            Ok(_) => {
                state.pending = ThreadPatch::default();
                state.refused = None;
            }
            // It never would: the transcript has it, and the next reading of it tells the list.
            Err(error) if error.kind() == ErrorKind::Invalid => {
                state.pending = ThreadPatch::default();
                telemetry::warn(&format_args!("the list cannot show all of thread {}: {error}", self.id));
            }
            Err(error) if state.refused.replace(Instant::now()).is_none() => {
                telemetry::warn(&format_args!(
                    "the list does not show thread {} as it is yet: {error}",
                    self.id
                ));
            }
            Err(_) => {}
        }
    }

    /// Answers when everything appended so far survives a power cut, and tells the list what it could not be told before.
    ///
    /// # Errors
    /// As [`ThreadStore::flush`]; never of the list.
    pub fn flush(&self) -> Result<()> {
        self.store.flush(&self.id)?;
        self.tell(&mut self.state.lock());
        Ok(())
    }

    /// True while another session waits for this thread: once its client has gone, [`close`](Self::close) it then.
    pub fn is_wanted(&self) -> bool {
        self.store.is_wanted(&self.id)
    }

    /// Changes what a list shows of the thread, for a user.
    ///
    /// # Errors
    /// As [`ThreadStore::update_metadata`].
    pub fn update_metadata(&self, patch: &ThreadPatch) -> Result<ThreadRow> {
        self.store.update_metadata(&self.id, patch)
    }

    /// Flushes, and gives the thread back. After an error the thread is still held: close it again, or
    /// [`discard`](Self::discard) it.
    ///
    /// # Errors
    /// As [`ThreadStore::shutdown`].
    pub fn close(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.tell(&mut self.state.lock());
        self.store.shutdown(&self.id)?;
        self.closed.store(true, Ordering::Release);
        Ok(())
    }

    /// Gives the thread back and drops what could not be written.
    ///
    /// # Errors
    /// As [`ThreadStore::discard`].
    pub fn discard(self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        self.store.discard(&self.id)
    }
}

impl Drop for LiveThread {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            telemetry::warn(&format_args!("thread {} was not given back: {error}", self.id));
        }
    }
}
