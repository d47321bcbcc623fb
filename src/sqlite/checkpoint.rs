//! Works off the write-ahead log.
//!
//! Invariants:
//! 1. No caller ever runs a checkpoint, and nobody waits for one but during its last piece.
//! 2. The bulk runs by PASSIVE on a connection of its own, beside the writers.
//! 3. A PASSIVE checkpoint beside a busy writer always ends a few pages short, and the log only starts anew when a
//!    writer finds every page checkpointed. So the last piece runs while this process's writer is held between two
//!    batches and this process has the turn.
//! 4. A writer that outruns the checkpoint pauses: from two and a half times the soft limit on nobody writes until a
//!    round is done, for at most a second.
//! 5. A log that cannot be worked off (a reader pins it) is tried again after it grew by a mebibyte, not in a loop.
//! 6. The thread starts when there is work for the first time: most processes end before, and start sooner without.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::batch::latching;
use super::ffi::{self, Checkpointed};
use super::shared::{Shared, warn};
use super::stats;
use crate::sync::Arc;

/// SQLite's page size here; every database of this library has it.
const PAGE: u64 = 4096;
/// Pages by which a log that could not be worked off must grow before the next try: 1 MiB.
const RETRY_AFTER: u64 = (1 << 20) / PAGE;
/// The last piece is at most this long; with more to do, another bulk run comes first.
const LAST_PIECE: u64 = 512;
/// Bulk runs before the writer is held whatever is left.
const BULK_RUNS: u32 = 4;
/// The writer pauses for at most this long: on a disk that slow, a long log is the smaller evil.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Its connection is closed when there was nothing to do for so long.
const IDLE: Duration = Duration::from_secs(10);

pub(super) struct Checkpointer {
    /// Pages from which the log is long.
    soft: u64,
    /// Pages at which the thread is woken next.
    wake_at: AtomicU64,
    /// Pages at which the writer pauses until the thread has done a round.
    pause_at: AtomicU64,
    paused: AtomicBool,
    wal_pages: AtomicU64,
    wish: Mutex<Wish>,
    wished: Condvar,
    /// Locked during a round; before the gate, never inside it.
    connection: Mutex<Option<Connection>>,
    /// Locked before the wish.
    thread: Mutex<Option<JoinHandle<()>>>,
    /// What the thread works for.
    owner: OnceLock<Weak<Shared>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Nothing,
    Work,
    Stop,
}

impl Checkpointer {
    pub(super) fn new(soft_bytes: u64) -> Self {
        let soft = (soft_bytes / PAGE).max(8);
        Self {
            soft,
            wake_at: AtomicU64::new(soft),
            pause_at: AtomicU64::new(pause_at(soft)),
            paused: AtomicBool::new(false),
            wal_pages: AtomicU64::new(0),
            wish: Mutex::new(Wish::Nothing),
            wished: Condvar::new(),
            connection: Mutex::new(None),
            thread: Mutex::new(None),
            owner: OnceLock::new(),
        }
    }

    pub(super) fn wal_pages(&self) -> u64 {
        self.wal_pages.load(Ordering::Relaxed)
    }

    /// Told after each commit how long the log is; wakes the thread when it is long. True when it is so long that
    /// writing should pause until the thread has done a round.
    pub(super) fn watch(&self, pages: u64) -> bool {
        let before = self.wal_pages.swap(pages, Ordering::Relaxed);
        if pages < before {
            // The log started anew.
            self.wake_at.fetch_min(self.soft, Ordering::Relaxed);
            self.pause_at.store(pause_at(self.soft), Ordering::Relaxed);
        }
        if pages < self.wake_at.load(Ordering::Relaxed) {
            return self.must_pause(pages);
        }
        // Until the thread has looked, no commit wakes it again.
        self.wake_at.store(u64::MAX, Ordering::Relaxed);
        self.ask();
        self.must_pause(pages)
    }

    fn must_pause(&self, pages: u64) -> bool {
        pages >= self.pause_at.load(Ordering::Relaxed) && !self.paused.load(Ordering::Acquire)
    }

    /// Begins a pause. The caller has reserved the gate, which the end of the round releases; false when somebody
    /// else began one already.
    pub(super) fn begin_pause(&self) -> bool {
        let first = !self.paused.swap(true, Ordering::AcqRel);
        // A round that is under way may be over before it sees the pause, and the next may not be due yet: without
        // one of its own nobody would end the pause.
        self.ask();
        first
    }

    /// True while nobody writes because the log is too long.
    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Waits for the end of a round. False when it took too long and this call ended the pause: then the caller must
    /// release the gate.
    pub(super) fn pause(&self) -> bool {
        let until = Instant::now() + LONGEST_PAUSE;
        let mut wish = self.wish.lock();
        while self.paused.load(Ordering::Acquire) && *wish != Wish::Stop {
            if self.wished.wait_until(&mut wish, until).timed_out() {
                return !self.paused.swap(false, Ordering::AcqRel);
            }
        }
        true
    }

    /// Says what it works for. To be called once.
    pub(super) fn belongs_to(&self, shared: &Arc<Shared>) {
        // A second call would find it said, and the same.
        let _ = self.owner.set(Arc::downgrade(shared));
    }

    /// Wakes the thread, or starts it.
    pub(super) fn ask(&self) {
        let mut wish = self.wish.lock();
        if *wish != Wish::Nothing {
            return;
        }
        *wish = Wish::Work;
        self.wished.notify_all();
        drop(wish);
        self.start();
    }

    fn start(&self) {
        let mut thread = self.thread.lock();
        // Who stops it says so first, and takes the thread then: one that is started here is either seen or not needed.
        if thread.is_some() || *self.wish.lock() == Wish::Stop {
            return;
        }
        let Some(shared) = self.owner.get().and_then(Weak::upgrade) else { return };
        let domain = shared.spec.domain.name().to_owned();
        match std::thread::Builder::new().name(format!("rowhouse-ckpt-{domain}")).spawn(move || work(&shared))
        {
            Ok(started) => *thread = Some(started),
            Err(error) => {
                log::warn!("{domain}: no thread could be started to work off the write-ahead log: {error}");
                let mut wish = self.wish.lock();
                if *wish == Wish::Work {
                    *wish = Wish::Nothing;
                }
                drop(wish);
                self.look_again();
            }
        }
    }

    /// When the log is looked at next, and when the writer pauses next.
    fn look_again(&self) {
        let pages = self.wal_pages();
        let next = if pages < self.soft { self.soft } else { pages + RETRY_AFTER };
        self.wake_at.store(next, Ordering::Relaxed);
        // A log that is pinned grows on: nobody pauses again before it has grown as much once more.
        self.pause_at.store(pause_at(self.soft).max(pages + self.soft), Ordering::Relaxed);
    }

    /// Lets go of the file: another one may be at its path. The next round opens that. Not from inside the gate.
    pub(super) fn let_go(&self) {
        *self.connection.lock() = None;
    }

    /// Stops the thread and waits for it.
    pub(super) fn stop(&self) {
        *self.wish.lock() = Wish::Stop;
        self.wished.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared) {
    let own = &shared.checkpointer;
    loop {
        {
            let mut wish = own.wish.lock();
            while *wish == Wish::Nothing {
                if own.wished.wait_for(&mut wish, IDLE).timed_out() && *wish == Wish::Nothing {
                    // Its descriptors are not needed.
                    own.let_go();
                    own.wished.wait(&mut wish);
                }
            }
            if *wish == Wish::Stop {
                own.let_go();
                return;
            }
            *wish = Wish::Nothing;
        }
        // A log that belongs to another file by now must not be worked off into this one.
        if shared.health.is_writable() {
            let mut connection = own.connection.lock();
            connection.take_if(|connection| shared.spec.check_current(connection).is_err());
            if connection.is_none() {
                *connection = shared.spec.open_checkpointer().ok();
            }
            if let Some(connection) = &*connection {
                run(shared, connection);
            }
        }
        own.look_again();
        let wish = own.wish.lock();
        if own.paused.swap(false, Ordering::AcqRel) {
            shared.gate.release();
            own.wished.notify_all();
        }
        drop(wish);
    }
}

/// Two and a half times the length from which the log is worked off: 10 MiB by default.
fn pause_at(soft: u64) -> u64 {
    soft * 5 / 2
}

/// One round: bulk, then the last piece.
fn run(shared: &Shared, connection: &Connection) -> Option<()> {
    let mut done = Checkpointed::default();
    for _ in 0..BULK_RUNS {
        done = passive(shared, connection)?;
        let left = done.log.saturating_sub(done.done);
        if done.busy || left <= LAST_PIECE || shared.checkpointer.paused.load(Ordering::Acquire) {
            break;
        }
    }
    let paused = shared.checkpointer.paused.load(Ordering::Acquire);
    if (done.busy && !paused) || (!done.busy && done.log < shared.checkpointer.soft) {
        // Somebody else is at it, or did it, and the log has started anew.
        return Some(());
    }
    shared.gate.reserve();
    let mut core = shared.gate.enter();
    shared.gate.release();
    let within = core.as_mut()?;
    let has_turn = within.take_turn(shared.spec.limits.turn_wait);
    let done = ffi::checkpoint_passive(connection);
    if has_turn {
        within.turn.leave();
    }
    // Whoever is told of a failure may want to write.
    drop(core);
    stats::add(&shared.counters.checkpoints, 1);
    stats::add(&shared.counters.checkpoints_held, 1);
    told(shared, done).map(drop)
}

fn passive(shared: &Shared, connection: &Connection) -> Option<Checkpointed> {
    stats::add(&shared.counters.checkpoints, 1);
    told(shared, ffi::checkpoint_passive(connection))
}

/// A failed write or fsync here is as bad as one in a commit: at NORMAL, acknowledged commits stand on it.
fn told(shared: &Shared, done: rusqlite::Result<Checkpointed>) -> Option<Checkpointed> {
    done.map_err(|error| {
        if let Some(error) = latching(&error) {
            shared.latch(error);
        }
        warn(&format_args!("{}: a checkpoint failed: {error}", shared.spec.domain.name()));
    })
    .ok()
}
