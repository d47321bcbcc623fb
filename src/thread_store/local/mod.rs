//! Threads as transcripts in a home, with an index of them in its state database.
//!
//! Invariants, and where they are tested:
//! 1. The transcript is the truth. An append that reached it has succeeded, whatever the index says; a row that could not
//!    be made or changed is pending, told once, and made with a later call, the next flush at the latest
//!    (`tests/thread_store_soft_and_hard.rs`).
//! 2. What a user says about a thread (name, git, pin, archive) is in the transcript, durably, before the index says it;
//!    its goal, when it was recorded (`tests/c4_what_a_user_said.rs`).
//! 3. Every change of a thread goes through its writer's right, also a rename or the archive
//!    (`tests/thread_store_contract.rs`, `tests/l10_hand_over.rs`).
//! 4. Reads write nothing but what the transcripts say: turns, and rows that new transcripts lack.
//! 5. The newest thread is listed within a second, also when nobody could make its row (`newest`;
//!    `tests/thread_store_at_scale.rs`).
//! 6. A deleted thread is gone from every database and file, whatever dies on the way; nothing brings it back
//!    (`tests/thread_delete.rs`).
//!
//! | file | what |
//! |---|---|
//! | `writing` | the threads that this store may write |
//! | `reading` | histories, rows, turns |
//! | `changing` | names, pins, goals, the archive |
//! | `newest` | new transcripts without a row |
//! | `fork` | a thread with another one's past |
//! | `deleting` | a thread goes from everywhere, also after a crash |

mod changing;
mod deleting;
mod fork;
mod newest;
mod reading;
mod writing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::index::Index;
use super::store::{Capabilities, DeleteOptions, Deleted, ForkPoint, History, ThreadStore};
use super::turns::{Anomaly, TurnPage, TurnQuery};
use crate::error::Result;
use crate::rollout::{CompressReport, Item, NewRollout, Rollouts};
use crate::runtime::Runtime;
use crate::stores::goals::Goal;
use crate::stores::threads::row::thread_id;
use crate::stores::threads::{SearchPage, ThreadPage, ThreadPatch, ThreadQuery, ThreadRow, ThreadSearch};
use newest::Newest;
use writing::Writing;

/// How long a change waits for a thread that another process is just done with.
const HAND_OVER: Duration = Duration::from_millis(250);

/// The threads of a home on this machine. Cheap to clone; clones share the right to write.
///
/// ```
/// # fn main() -> rowhouse::Result<()> {
/// use rowhouse::rollout::{Item, NewRollout};
/// use rowhouse::thread_store::{LocalThreadStore, ThreadStore, TurnQuery};
/// use rowhouse::{Home, Runtime};
/// # let folder = tempfile::tempdir().expect("a folder");
/// let store = LocalThreadStore::new(&Runtime::open(Home::at(folder.path().join("home")))?)?;
/// let thread = store.create(&NewRollout { cwd: Some("/home/ada/ledger".to_owned()), ..NewRollout::default() })?;
/// let message = serde_json::json!({"type": "user_message", "message": "Fix the parser"});
/// store.append_items(&thread, &[Item::new("event_msg", &message)?])?;
/// store.flush(&thread)?;
/// assert_eq!(store.list_turns(&thread, &TurnQuery::new())?.turns.len(), 1);
/// store.shutdown(&thread)?;
/// assert_eq!(store.read(&thread)?.title.as_deref(), Some("Fix the parser"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LocalThreadStore {
    inner: Arc<Inner>,
}

struct Inner {
    runtime: Runtime,
    rollouts: Rollouts,
    index: Index,
    newest: Newest,
    /// The threads that this store may write.
    writing: Mutex<HashMap<String, Arc<Mutex<Writing>>>>,
    /// Locked while deletions that were cut short are finished.
    finishing: Mutex<()>,
}

impl LocalThreadStore {
    /// The threads in the home of this runtime.
    ///
    /// # Errors
    /// `NotFound` when the runtime has no state domain; as [`Rollouts::open`].
    pub fn new(runtime: &Runtime) -> Result<Self> {
        let inner = Arc::new(Inner {
            rollouts: Rollouts::open(runtime.home())?,
            index: Index::of_files(runtime.database("state")?),
            runtime: runtime.clone(),
            newest: Newest::default(),
            writing: Mutex::default(),
            finishing: Mutex::default(),
        });
        deleting::finish_in_background(&inner);
        Ok(Self { inner })
    }

    /// Finishes the deletions that a crash cut short, or that could not be done whole: the first store of each process
    /// begins with it, in the background. Threads that another process is deleting are left to it. Answers those whose
    /// deletion is still not finished, each with the reason.
    ///
    /// # Errors
    /// The state database's.
    pub fn finish_deletes(&self) -> Result<Vec<String>> {
        self.inner.finish_deletes()
    }

    /// The runtime below it.
    pub fn runtime(&self) -> &Runtime {
        &self.inner.runtime
    }

    /// Says the goal of a thread in its transcript, durably, as the [goals](Runtime::goals) are now; answers it. Call it after
    /// a goal was set, changed or removed: without it the goal is in the goals database alone, and lost with it. What it
    /// used is told as of now.
    ///
    /// # Errors
    /// `Invalid` when the goal does not fit the 31 KiB that a transcript keeps of what is said about its thread; then
    /// nothing of it is said. As [`update_metadata`](ThreadStore::update_metadata); of the goals database.
    pub fn record_goal(&self, thread: &str) -> Result<Option<Goal>> {
        self.inner.record_goal(&thread_id(thread)?)
    }

    /// Compresses the archived transcripts that nobody changed for so long, oldest first; at most `most` of them. Their rows
    /// lead to where they are then.
    ///
    /// # Errors
    /// As [`Rollouts::compress_archived`].
    pub fn compress_archived(&self, older_than: Duration, most: u64) -> Result<CompressReport> {
        self.inner.compress_archived(older_than, most, &mut || true)
    }

    /// Its transcripts.
    pub fn rollouts(&self) -> &Rollouts {
        &self.inner.rollouts
    }
}

impl ThreadStore for LocalThreadStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities { durable: true, files: true, search: true, turns: true, delete: true, fork: true }
    }

    fn create(&self, thread: &NewRollout) -> Result<String> {
        self.inner.create(thread)
    }

    fn resume(&self, thread: &str) -> Result<()> {
        self.inner.resume(&thread_id(thread)?)
    }

    fn is_wanted(&self, thread: &str) -> bool {
        thread_id(thread).is_ok_and(|thread| self.inner.is_wanted(&thread))
    }

    fn append_items(&self, thread: &str, items: &[Item]) -> Result<()> {
        self.inner.append(&thread_id(thread)?, items)
    }

    fn persist(&self, thread: &str) -> Result<()> {
        self.inner.persist(&thread_id(thread)?)
    }

    fn flush(&self, thread: &str) -> Result<()> {
        self.inner.flush(&thread_id(thread)?)
    }

    fn shutdown(&self, thread: &str) -> Result<()> {
        self.inner.shutdown(&thread_id(thread)?)
    }

    fn discard(&self, thread: &str) -> Result<()> {
        self.inner.discard(&thread_id(thread)?);
        Ok(())
    }

    fn load_history(&self, thread: &str) -> Result<History<'_>> {
        self.inner.load_history(&thread_id(thread)?)
    }

    fn read(&self, thread: &str) -> Result<ThreadRow> {
        self.inner.read(&thread_id(thread)?)
    }

    fn list(&self, query: &ThreadQuery) -> Result<ThreadPage> {
        if query.cursor_text().is_none() {
            self.inner.look_for_the_newest();
        }
        self.inner.index.list(query)
    }

    fn search(&self, search: &ThreadSearch) -> Result<SearchPage> {
        self.inner.index.search(search)
    }

    fn list_turns(&self, thread: &str, query: &TurnQuery) -> Result<TurnPage> {
        self.inner.list_turns(&thread_id(thread)?, query)
    }

    fn anomalies(&self, thread: &str) -> Result<Vec<Anomaly>> {
        let thread = thread_id(thread)?;
        self.inner.index.anomalies(&thread, &self.inner.path(&thread)?)
    }

    fn rebuild(&self, thread: &str) -> Result<ThreadRow> {
        self.inner.rebuild(&thread_id(thread)?)
    }

    fn update_metadata(&self, thread: &str, patch: &ThreadPatch) -> Result<ThreadRow> {
        self.inner.update_metadata(&thread_id(thread)?, patch)
    }

    fn archive(&self, thread: &str) -> Result<ThreadRow> {
        self.inner.move_to_archive(&thread_id(thread)?, true)
    }

    fn unarchive(&self, thread: &str) -> Result<ThreadRow> {
        self.inner.move_to_archive(&thread_id(thread)?, false)
    }

    fn delete(&self, thread: &str, options: &DeleteOptions) -> Result<Deleted> {
        self.inner.delete(&thread_id(thread)?, options)
    }

    fn fork(&self, source: &str, point: &ForkPoint, thread: &NewRollout) -> Result<String> {
        self.inner.fork(&thread_id(source)?, point, thread)
    }
}
