//! Threads without files: their histories are rows on the server that has the home's state, so that a thread begun on one
//! machine is gone on with on another.
//!
//! Invariants, and where they are tested (`tests/threads_on_postgres.rs`; the contract: `tests/thread_store_contract.rs`):
//! 1. The items of one append are there together and in their order, or none of them is; their numbers are contiguous.
//! 2. One session writes a thread, across machines. Its token is looked at in the transaction that appends: who lost the
//!    right, however (stopped, cut off, a clock), appends nothing any more.
//! 3. An append whose answer was lost counts once, whether the store tries it again or its caller does so with a flush.
//! 4. A history is read in pages of about a MiB, whatever its length.
//! 5. Nothing is written to the disk of this machine.
//!
//! | file | what |
//! |---|---|
//! | `writer`, `keeper` | who may write a thread, and how that stays so |
//! | `items` | the rows of a history |
//! | `writing` | the threads that this store may write |
//! | `reading` | histories and turns |
//! | `elsewhere` | threads whose history is a transcript outside the home that was moved |
//! | `leaving` | a history on its way to another home |
//! | `changing` | what a user says, forks, deletions |

mod changing;
mod elsewhere;
mod items;
mod keeper;
pub(crate) mod leaving;
mod reading;
mod sql;
mod writer;
mod writing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::store::{Capabilities, DeleteOptions, Deleted, ForkPoint, History, ThreadStore};
use super::turns::{Anomaly, TurnPage, TurnQuery};
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::{Item, NewRollout};
use crate::runtime::Runtime;
use crate::stores::Threads;
use crate::stores::database::Engine;
use crate::stores::threads::row::thread_id;
use crate::stores::threads::{SearchPage, ThreadPage, ThreadPatch, ThreadQuery, ThreadRow, ThreadSearch};
use crate::telemetry;
use keeper::Keeper;
use writing::Writing;

/// How long the right to write lasts without a sign of life.
const LEASE: Duration = Duration::from_secs(30);

/// The threads of homes whose state is on a server. Cheap to clone; clones share the right to write.
///
/// The right to write a thread is kept alive by this process, whatever the caller does. When the process ends without giving
/// it back, another one gets it after the lease, by the server's clock; on the same machine at once.
///
/// [`Runtime::thread_store`] answers it for such a home.
#[derive(Clone)]
pub struct ServerThreadStore {
    inner: Arc<Inner>,
}

struct Inner {
    runtime: Runtime,
    engine: Engine,
    threads: Threads,
    keeper: Keeper,
    /// The threads that this store may write.
    writing: Mutex<HashMap<String, Arc<Mutex<Writing>>>>,
}

impl ServerThreadStore {
    /// The threads on the server of this runtime, with a lease of 30 seconds.
    ///
    /// # Errors
    /// `NotFound` when the runtime has no state domain, `Unsupported` when that is in a file.
    pub fn new(runtime: &Runtime) -> Result<Self> {
        Self::with_lease(runtime, LEASE)
    }

    /// The same with another lease, 1 second to 1 hour: so long nobody gets a thread whose writer's machine is gone; and a
    /// program that is stopped for longer may lose its threads to others.
    ///
    /// # Errors
    /// As [`new`](Self::new); `Invalid` for another time.
    pub fn with_lease(runtime: &Runtime, lease: Duration) -> Result<Self> {
        if !(Duration::from_secs(1)..=Duration::from_hours(1)).contains(&lease) {
            return Err(Error::new(ErrorKind::Invalid, "a lease is 1 second to 1 hour long"));
        }
        let engine = runtime.engine("state")?;
        if let Some(file) = engine.as_file() {
            return Err(Error::new(ErrorKind::Unsupported, "the threads of this home are in files")
                .at_path(file.path())
                .advise("use Runtime::thread_store()"));
        }
        let inner = Arc::new(Inner {
            threads: runtime.threads(),
            keeper: Keeper::new(engine.clone(), lease),
            runtime: runtime.clone(),
            writing: Mutex::default(),
            engine,
        });
        if let Err(error) = inner.finish_deletes() {
            telemetry::warn(&format_args!("deletions of threads are not finished: {error}"));
        }
        Ok(Self { inner })
    }

    /// The runtime below it.
    pub fn runtime(&self) -> &Runtime {
        &self.inner.runtime
    }
}

impl ThreadStore for ServerThreadStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities { durable: true, files: false, search: true, turns: true, delete: true, fork: true }
    }

    fn create(&self, thread: &NewRollout) -> Result<String> {
        self.inner.create(thread)
    }

    fn resume(&self, thread: &str) -> Result<()> {
        self.inner.resume(&thread_id(thread)?)
    }

    fn is_wanted(&self, thread: &str) -> bool {
        thread_id(thread)
            .is_ok_and(|thread| self.inner.ours(&thread).is_ok() && self.inner.keeper.is_wanted(&thread))
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
        self.inner.discard(&thread_id(thread)?)
    }

    fn load_history(&self, thread: &str) -> Result<History<'_>> {
        self.inner.load_history(&thread_id(thread)?)
    }

    fn read(&self, thread: &str) -> Result<ThreadRow> {
        self.inner.read(&thread_id(thread)?)
    }

    fn list(&self, query: &ThreadQuery) -> Result<ThreadPage> {
        self.inner.threads.list(query)
    }

    fn search(&self, search: &ThreadSearch) -> Result<SearchPage> {
        self.inner.threads.search(search)
    }

    fn list_turns(&self, thread: &str, query: &TurnQuery) -> Result<TurnPage> {
        self.inner.list_turns(&thread_id(thread)?, query)
    }

    fn anomalies(&self, thread: &str) -> Result<Vec<Anomaly>> {
        self.inner.anomalies(&thread_id(thread)?)
    }

    fn rebuild(&self, thread: &str) -> Result<ThreadRow> {
        self.inner.rebuild(&thread_id(thread)?)
    }

    fn update_metadata(&self, thread: &str, patch: &ThreadPatch) -> Result<ThreadRow> {
        self.inner.update_metadata(&thread_id(thread)?, patch)
    }

    fn archive(&self, thread: &str) -> Result<ThreadRow> {
        self.inner.set_archived(&thread_id(thread)?, true)
    }

    fn unarchive(&self, thread: &str) -> Result<ThreadRow> {
        self.inner.set_archived(&thread_id(thread)?, false)
    }

    fn delete(&self, thread: &str, options: &DeleteOptions) -> Result<Deleted> {
        self.inner.delete(&thread_id(thread)?, options)
    }

    fn fork(&self, source: &str, point: &ForkPoint, thread: &NewRollout) -> Result<String> {
        self.inner.fork(&thread_id(source)?, point, thread)
    }
}
