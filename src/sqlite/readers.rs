//! Read connections: a small pool, each read one snapshot.
//!
//! Invariants:
//! 1. A read sees every write acknowledged before it began, and nothing that is committed after its first statement.
//! 2. A connection that comes back while it still holds a snapshot (a leaked cursor) is thrown away.
//! 3. A read is stopped at its maximum age. Until its code has ended it can be told, by its age and label.
//! 4. No connection is opened before the database is attached.
//! 5. Before the files are opened anew the read connections to the old ones are closed, unless one does not come back in
//!    time: the helper thread that opened it may still hold on to the pool.
//! 6. A read waits for nobody, but for a moment while the checkpointer lets a log that is much too long begin anew
//!    ([`checkpoint`](super::checkpoint)).
//!
//! The pool is r2d2's. It opens connections on a helper thread and turns their errors into text, so ours keeps the
//! typed error beside it.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use r2d2::{ManageConnection, NopErrorHandler, Pool, PooledConnection};
use scheduled_thread_pool::ScheduledThreadPool;

use super::clock::instant_after;
use super::connect::{self, Patience, Spec};
use super::ffi;
use super::generation::User;
use super::label::Label;
use super::tx::Snapshot;
use crate::error::{Error, ErrorKind, Result};
use crate::forks;

/// A connection that nobody used for so long is closed; the pool looks every 30 s. Opening another takes a fraction of a
/// millisecond.
const IDLE: Duration = Duration::from_secs(10);

/// How long one wait for a connection lasts before the last error is looked at.
const LOOK_AFTER: Duration = Duration::from_millis(50);

pub(super) struct Readers {
    pool: Mutex<Option<Readable>>,
    open: Arc<Open>,
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
    open: Arc<Open>,
    last_error: Arc<Mutex<Option<Error>>>,
}

/// How many read connections there are, and what they do.
#[derive(Default)]
struct Open {
    count: Mutex<usize>,
    fewer: Condvar,
    reads: Mutex<Vec<Weak<UnderWay>>>,
    door: Door,
}

/// Where reads wait before they begin, while the write-ahead log should begin anew.
#[derive(Default)]
struct Door {
    shut: AtomicBool,
    until: Mutex<Option<Instant>>,
    opened: Condvar,
}

impl Door {
    /// Waits until it is open; it opens by itself.
    fn pass(&self, deadline: Instant) {
        if !self.shut.load(Ordering::Relaxed) {
            return;
        }
        let mut until = self.until.lock();
        while let Some(at) = *until {
            if self.opened.wait_until(&mut until, at.min(deadline)).timed_out() {
                return;
            }
        }
    }
}

/// While it lives, reads of this process do not begin.
pub(super) struct HeldBack(Arc<Open>);

impl Drop for HeldBack {
    fn drop(&mut self) {
        let door = &self.0.door;
        door.shut.store(false, Ordering::Relaxed);
        *door.until.lock() = None;
        door.opened.notify_all();
    }
}

/// Since when a connection has been inside a read, and for whom.
type UnderWay = Mutex<Option<(Instant, Label)>>;

/// One of them.
pub(super) struct Reader {
    // Closed before it is counted as closed.
    snapshot: Snapshot,
    under_way: Arc<UnderWay>,
    counted: Counted,
}

struct Counted(Arc<Open>);

impl Drop for Counted {
    fn drop(&mut self) {
        *self.0.count.lock() -= 1;
        self.0.fewer.notify_all();
    }
}

impl Deref for Reader {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl ManageConnection for Manager {
    type Connection = Reader;
    type Error = Error;

    fn connect(&self) -> Result<Reader> {
        let _patience = Patience::until(instant_after(self.spec.limits.deadline));
        *self.open.count.lock() += 1;
        let counted = Counted(self.open.clone());
        let under_way = Arc::<UnderWay>::default();
        let mut reads = self.open.reads.lock();
        reads.retain(|read| read.strong_count() > 0);
        reads.push(Arc::downgrade(&under_way));
        drop(reads);
        let opened = self.spec.open_reader(User::Read);
        let answer = opened.map(|snapshot| Reader { snapshot, under_way, counted });
        *self.last_error.lock() = answer.as_ref().err().cloned();
        answer
    }

    /// No query: a connection breaks by itself only where the file may not be written.
    fn is_valid(&self, snapshot: &mut Reader) -> Result<()> {
        if snapshot.is_current() { Ok(()) } else { Err(Error::new(ErrorKind::Replaced, "opened anew")) }
    }

    fn has_broken(&self, snapshot: &mut Reader) -> bool {
        ffi::in_transaction(snapshot.connection())
    }
}

impl Readers {
    /// Without connections.
    pub(super) fn new() -> Self {
        Self { pool: Mutex::new(None), open: Arc::default(), last_error: Arc::default() }
    }

    /// Connections are opened from now on: the files are those of the write connection, or are read without one.
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
        let (open, last_error) = (self.open.clone(), self.last_error.clone());
        let manager = Manager { spec: spec.clone(), open, last_error };
        Pool::builder()
            .max_size(spec.limits.readers.max(1))
            .min_idle(Some(0))
            .max_lifetime(None)
            .idle_timeout(Some(IDLE))
            .test_on_check_out(true)
            .error_handler(Box::new(NopErrorHandler))
            .thread_pool(helpers())
            .build_unchecked(manager)
    }

    /// The read of this process that began first of those under way.
    pub(super) fn oldest(&self) -> Option<(Instant, Label)> {
        let reads: Vec<_> = self.open.reads.lock().iter().filter_map(Weak::upgrade).collect();
        reads.iter().filter_map(|read| *read.lock()).min_by_key(|(began, _)| *began)
    }

    /// Lets no read begin until `until`, and waits for those under way to end. `None` when they did not in time, and reads
    /// go on. One that is just beginning may be overlooked.
    pub(super) fn hold_back(&self, until: Instant) -> Option<HeldBack> {
        let door = &self.open.door;
        *door.until.lock() = Some(until);
        door.shut.store(true, Ordering::Relaxed);
        let held = HeldBack(self.open.clone());
        while self.oldest().is_some() {
            if Instant::now() >= until {
                return None;
            }
            connect::pause();
        }
        Some(held)
    }

    /// Closes what is idle; a read under way closes its connection when it ends, and is waited for until `deadline`.
    pub(super) fn close(&self, deadline: Instant) {
        // Closing takes as long as the disk takes; who comes meanwhile does not wait for that.
        let pool = self.pool.lock().take();
        drop(pool);
        let mut open = self.open.count.lock();
        while *open > 0 && !self.open.fewer.wait_until(&mut open, deadline).timed_out() {}
    }

    /// A connection, waiting for one until `deadline`.
    pub(super) fn take(&self, deadline: Instant) -> Result<PooledConnection<Manager>> {
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
}

/// One snapshot on a connection that was [taken](Readers::take): begins at the first statement, ends with `read`.
pub(super) fn read<R>(
    reader: &Reader,
    label: Label,
    deadline: Instant,
    age: Duration,
    read: impl FnOnce(&Snapshot) -> Result<R>,
) -> Result<R> {
    let _patience = Patience::until(deadline);
    reader.counted.0.door.pass(deadline);
    let snapshot = &reader.snapshot;
    snapshot.control().begin()?;
    let ended = Ended(reader);
    let now = Instant::now();
    *reader.under_way.lock() = Some((now, label));
    let inside = snapshot.guard().enter(deadline.min(now.checked_add(age).unwrap_or(deadline)));
    let answer = read(snapshot);
    drop(inside);
    drop(ended);
    snapshot.check_whole()?;
    answer
}

/// Ends the snapshot, also when the reader's code panics.
struct Ended<'a>(&'a Reader);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let snapshot = &self.0.snapshot;
        let _paused = snapshot.guard().pause();
        let _ = snapshot.control().commit();
        if ffi::in_transaction(snapshot.connection()) {
            ffi::reset_statements(snapshot.connection());
        }
        *self.0.under_way.lock() = None;
    }
}

/// Runs something that may take as long as the disk does, beside the callers.
pub(super) fn on_helper(work: impl FnOnce() + Send + 'static) {
    helpers().execute(work);
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
