//! What keeps a database open, and its end: what is queued is worked off, then readers, checkpointer and writer close, in
//! this order.
//!
//! Tests: `tests/close_while_busy_drains_and_reports.rs`.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::clock::instant_after;
use super::health::Health;
use super::shared::Shared;
use super::{guard, lineage, recover};
use crate::sync::Arc;

/// Whoever holds this keeps the database open.
pub(super) struct Owner {
    pub(super) shared: Arc<Shared>,
    /// Locked while the writer ends: a second closer waits for the first.
    pub(super) writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What closing did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CloseReport {
    /// Jobs that were queued and were not run: each was answered `Closed`, or `Busy` naming who held the lock.
    pub left: u64,
    /// Everything ended within the deadline.
    pub in_time: bool,
}

impl Owner {
    pub(super) fn close(&self, wait: Duration) -> CloseReport {
        let shared = &self.shared;
        if shared.is_forked() {
            return CloseReport::default();
        }
        if self.writer.try_lock().is_some_and(|writer| writer.is_none()) {
            // Whoever closed it has finished.
            return CloseReport { left: *shared.left.lock(), in_time: true };
        }
        let until = instant_after(wait);
        shared.give_up_after(wait);
        shared.lanes.close();
        let (theirs, writer) = (shared.clone(), self.writer.clone());
        let (tell, finished) = std::sync::mpsc::channel();
        let finishing = std::thread::Builder::new().name("rowhouse-close".into()).spawn(move || {
            finish(&theirs, &writer);
            let _ = tell.send(());
        });
        if guard::in_job() {
            // The writer itself, or a thread that it waits for: it ends when the job has, nobody waits for it here.
            // Without a thread to be had, the connections close with the process.
            return CloseReport::default();
        }
        match finishing {
            Ok(_) => drop(finished.recv_timeout(wait.saturating_add(LONGEST_FINISH))),
            Err(_) => finish(shared, &self.writer),
        }
        CloseReport { left: *shared.left.lock(), in_time: Instant::now() <= until }
    }
}

/// How long closing waits for the connections to be closed after it has stopped working off the queue. A disk that takes
/// longer is left to a thread.
const LONGEST_FINISH: Duration = Duration::from_secs(1);

/// How long a read under way is waited for before the write connection closes: it keeps its own.
const LONGEST_READ_AT_CLOSE: Duration = Duration::from_millis(500);

/// When the writer has ended: readers first, then the checkpointer, then the write connection.
fn finish(shared: &Shared, writer: &Mutex<Option<JoinHandle<()>>>) {
    let mut writer = writer.lock();
    if let Some(writer) = writer.take() {
        let _ = writer.join();
    }
    shared.steps.leave();
    let _opening = shared.opening.lock();
    shared.health.set(Health::Closed, None);
    // A helper thread may hold on to the pool for a moment, and closes its connections when it lets go.
    shared.readers.close(instant_after(LONGEST_READ_AT_CLOSE));
    shared.changes.close();
    shared.checkpointer.stop();
    shared.checker.stop();
    recover::close(shared);
    lineage::leave(&shared.spec.path);
    shared.spec.presence.leave();
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.shared.is_forked() {
            // The connections belong to the parent: neither used nor closed here. Nor is the parent's thread let go
            // of: a thread of this process may go by the same number.
            std::mem::forget(self.shared.clone());
            std::mem::forget(self.writer.lock().take());
            return;
        }
        self.close(self.shared.spec.limits.close_deadline);
    }
}
