//! Read connections: a small pool, each read one snapshot.
//!
//! Invariants:
//! 1. A read sees every write acknowledged before it began, and nothing that is committed after its first statement.
//! 2. A connection that comes back while it still holds a snapshot (a leaked cursor) is thrown away.
//! 3. A read is stopped at its maximum age.
//!
//! The pool is r2d2's. It opens connections on a helper thread and turns their errors into text, so ours keeps the
//! typed error beside it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use r2d2::{ManageConnection, NopErrorHandler, Pool, PooledConnection};
use scheduled_thread_pool::ScheduledThreadPool;

use super::clock::instant_after;
use super::connect::{Patience, Spec};
use super::ffi;
use super::tx::Snapshot;
use crate::error::{Error, ErrorKind, Result};
use crate::forks;

/// How long one wait for a connection lasts before the last error is looked at.
const LOOK_AFTER: Duration = Duration::from_millis(50);

pub(super) struct Readers {
    pool: Mutex<Option<Readable>>,
    last_error: Arc<Mutex<Option<Error>>>,
}

/// What reads come from, while the database is open. The pool and its helper threads come with the first read: a start is
/// quicker without, and no connection is opened before it either way.
enum Readable {
    Unread(Box<Spec>),
    Pool(Pool<Manager>),
}

pub(super) struct Manager {
    spec: Spec,
    last_error: Arc<Mutex<Option<Error>>>,
}

impl ManageConnection for Manager {
    type Connection = Snapshot;
    type Error = Error;

    fn connect(&self) -> Result<Snapshot> {
        let _patience = Patience::until(instant_after(self.spec.limits.deadline));
        let answer = self.spec.open_reader();
        *self.last_error.lock() = answer.as_ref().err().cloned();
        answer
    }

    fn is_valid(&self, _snapshot: &mut Snapshot) -> Result<()> {
        Ok(())
    }

    fn has_broken(&self, snapshot: &mut Snapshot) -> bool {
        ffi::in_transaction(snapshot.connection())
    }
}

impl Readers {
    pub(super) fn new(spec: &Spec) -> Self {
        let readers = Self { pool: Mutex::new(None), last_error: Arc::default() };
        readers.open(spec);
        readers
    }

    /// Connections are opened from now on.
    pub(super) fn open(&self, spec: &Spec) {
        *self.last_error.lock() = None;
        *self.pool.lock() = Some(Readable::Unread(Box::new(spec.clone())));
    }

    fn pool(&self) -> Result<Pool<Manager>> {
        let mut readable = self.pool.lock();
        let pool = match &*readable {
            None => return Err(Error::new(ErrorKind::Closed, "the database is closed")),
            Some(Readable::Pool(pool)) => return Ok(pool.clone()),
            Some(Readable::Unread(spec)) => self.empty_pool(spec),
        };
        *readable = Some(Readable::Pool(pool.clone()));
        Ok(pool)
    }

    fn empty_pool(&self, spec: &Spec) -> Pool<Manager> {
        let manager = Manager { spec: spec.clone(), last_error: self.last_error.clone() };
        Pool::builder()
            .max_size(spec.limits.readers.max(1))
            .min_idle(Some(0))
            .max_lifetime(None)
            .idle_timeout(None)
            .test_on_check_out(false)
            .error_handler(Box::new(NopErrorHandler))
            .thread_pool(helpers())
            .build_unchecked(manager)
    }

    /// Closes what is idle; a read under way closes its connection when it ends.
    pub(super) fn close(&self) {
        *self.pool.lock() = None;
    }

    /// A connection, waiting for one until `deadline`.
    fn take(&self, deadline: Instant) -> Result<PooledConnection<Manager>> {
        let pool = self.pool()?;
        loop {
            if let Some(ready) = pool.try_get() {
                return Ok(ready);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if let Ok(ready) = pool.get_timeout(left.min(LOOK_AFTER)) {
                return Ok(ready);
            }
            match self.last_error.lock().clone() {
                Some(error) if error.kind() != ErrorKind::Busy => return Err(error),
                other if left <= LOOK_AFTER => {
                    return Err(other.unwrap_or_else(|| {
                        Error::new(ErrorKind::Timeout, "all read connections stayed in use")
                            .advise("end long reads sooner, or raise Limits::readers")
                    }));
                }
                _ => {}
            }
        }
    }

    /// One snapshot: begins at the first statement, ends with `read`.
    pub(super) fn read<R>(
        &self,
        deadline: Instant,
        age: Duration,
        read: impl FnOnce(&Snapshot) -> Result<R>,
    ) -> Result<R> {
        let snapshot = self.take(deadline)?;
        let _patience = Patience::until(deadline);
        snapshot.control().begin()?;
        let ended = Ended(&snapshot);
        let inside = snapshot.guard().enter(deadline.min(instant_after(age)));
        let answer = read(&snapshot);
        drop(inside);
        drop(ended);
        answer
    }
}

/// Ends the snapshot, also when the reader's code panics.
struct Ended<'a>(&'a Snapshot);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let _paused = self.0.guard().pause();
        let _ = self.0.control().commit();
        if ffi::in_transaction(self.0.connection()) {
            ffi::reset_statements(self.0.connection());
        }
    }
}

/// Two threads for the whole process open read connections. A fork has none of its parent's threads and gets its own.
fn helpers() -> Arc<ScheduledThreadPool> {
    static HELPERS: Mutex<Option<(u32, Arc<ScheduledThreadPool>)>> = Mutex::new(None);
    let own = forks::generation();
    let mut helpers = HELPERS.lock();
    if let Some((owner, pool)) = &*helpers
        && *owner == own
    {
        return pool.clone();
    }
    let pool =
        ScheduledThreadPool::builder().num_threads(2).thread_name_pattern("rowhouse-readers-{}").build();
    let pool = Arc::new(pool);
    // The parent's is not dropped here: that would speak to its threads.
    std::mem::forget(helpers.replace((own, pool.clone())));
    pool
}
