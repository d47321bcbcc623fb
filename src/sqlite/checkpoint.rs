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
//! 5. A log that cannot be worked off (a reader pins it) is tried again after it grew by a mebibyte, and once a second
//!    ([`log_cap`]), not in a loop; the writer is not held for it.
//! 6. A log that was much too long, or whose file is when the database is opened, is cut to nothing when every page of it
//!    is in the main file: with the writer held and the turn, for at most [`PATIENCE`], and only at a moment at which nobody
//!    reads from it.
//! 7. The thread starts when there is work for the first time: most processes end before, and start sooner without.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::admission::Bound;
use super::batch::latching;
use super::connect;
use super::ffi::{self, Checkpointed};
use super::generation::{Counted, User};
use super::log_cap::{self, Lengths, Progress};
use super::shared::{Shared, warn};
use super::stats;
use crate::sync::Arc;
use crate::telemetry::span;

/// SQLite's page size here; every database of this library has it.
pub(super) const PAGE: u64 = 4096;
/// Pages by which a log that could not be worked off must grow before the next try: 1 MiB.
const RETRY_AFTER: u64 = (1 << 20) / PAGE;
/// The last piece is at most this long; with more to do, another bulk run comes first.
const LAST_PIECE: u64 = 512;
/// Bulk runs before the writer is held whatever is left.
const BULK_RUNS: u32 = 4;
/// The writer pauses for at most this long: on a disk that slow, a long log is the smaller evil.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long the writer is held for a log that is much too long, while reads that need it end. Less than others wait for
/// their turn before they go on without.
const PATIENCE: Duration = Duration::from_millis(200);
/// After that was for nothing, it is not held like this again for so many times as long.
const IMPATIENCE: u32 = 10;

/// Its connection is closed when there was nothing to do for so long.
const IDLE: Duration = Duration::from_secs(10);

pub(super) struct Checkpointer {
    lengths: Lengths,
    pub(super) progress: Progress,
    restarts: AtomicU64,
    /// The file was too long when it was opened, and is to be cut.
    too_long: AtomicBool,
    /// Until then the writer is not held for long.
    impatient_until: Mutex<Option<Instant>>,
    /// Pages at which the thread is woken next.
    wake_at: AtomicU64,
    /// Pages at which the writer pauses until the thread has done a round.
    pause_at: AtomicU64,
    paused: AtomicBool,
    wal_pages: AtomicU64,
    wish: Mutex<Wish>,
    wished: Condvar,
    /// Locked during a round; before the gate, never inside it.
    connection: Mutex<Option<Counted>>,
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
    pub(super) fn new(lengths: Lengths) -> Self {
        let soft = lengths.soft;
        Self {
            lengths,
            progress: Progress::default(),
            restarts: AtomicU64::new(0),
            too_long: AtomicBool::new(false),
            impatient_until: Mutex::new(None),
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

    pub(super) fn lengths(&self) -> &Lengths {
        &self.lengths
    }

    /// Times the log was seen to begin anew.
    pub(super) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// True while the log waits for somebody else, so that it should be tried again soon.
    pub(super) fn is_behind(&self) -> bool {
        self.progress.streak() > 0 || self.too_long.load(Ordering::Relaxed)
    }

    /// The database is open, and the file of its log is this long: whoever had it before may have been killed.
    pub(super) fn look_at_file(&self, bytes: u64) {
        if bytes > self.lengths.kept_bytes {
            self.too_long.store(true, Ordering::Relaxed);
            self.ask();
        }
    }

    /// How long the writer may be held from now on; `idle` when nothing is let in anyway.
    fn patience(&self, now: Instant, idle: bool) -> Duration {
        let impatient = !idle && self.impatient_until.lock().is_some_and(|until| now < until);
        if impatient { Duration::ZERO } else { PATIENCE }
    }

    /// The writer was held so long for nothing.
    fn held_for_nothing(&self, time: Duration) {
        if !time.is_zero() {
            *self.impatient_until.lock() = Some(Instant::now() + time * IMPATIENCE);
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
            self.began_anew();
        }
        if pages < self.wake_at.load(Ordering::Relaxed) {
            return self.must_pause(pages);
        }
        // Until the thread has looked, no commit wakes it again.
        self.wake_at.store(u64::MAX, Ordering::Relaxed);
        self.ask();
        self.must_pause(pages)
    }

    fn began_anew(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        self.wake_at.fetch_min(self.lengths.soft, Ordering::Relaxed);
        self.pause_at.store(pause_at(self.lengths.soft), Ordering::Relaxed);
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

    /// True while the log is long and a round is due, or the last one could not work it off. Then work that can wait
    /// should: what it adds would only make the log longer.
    pub(super) fn is_long(&self) -> bool {
        let due = || self.wake_at.load(Ordering::Relaxed) == u64::MAX;
        let pinned = || self.progress.lag() > LAST_PIECE;
        self.is_paused() || (self.wal_pages() >= self.lengths.soft && (due() || pinned()))
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
                warn(&format_args!(
                    "{domain}: no thread could be started to work off the write-ahead log: {error}"
                ));
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
        let soft = self.lengths.soft;
        let next = if pages < soft { soft } else { pages + RETRY_AFTER.min(soft) };
        self.wake_at.store(next, Ordering::Relaxed);
        // A log that is pinned grows on: nobody pauses again before it has grown as much once more.
        self.pause_at.store(pause_at(soft).max(pages + soft), Ordering::Relaxed);
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
        let mut connection = own.connection.lock();
        // A log that belongs to another file by now must not be worked off into this one. Looked at with the lock: who
        // opens the files anew says so first, and lets go of the connection then.
        if shared.health.is_writable() {
            connection.take_if(|connection| shared.spec.check_current(connection).is_err());
            if connection.is_none() {
                *connection = shared.spec.open_checkpointer(User::Checkpoint).ok();
            }
            if let Some(connection) = &*connection
                && let Some(found) = run(shared, connection)
            {
                log_cap::judge(shared, connection, found);
            }
        }
        drop(connection);
        own.look_again();
        shared.show();
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

/// One round: bulk, then the last piece. Answers what it left; `None` when a checkpoint failed.
fn run(shared: &Shared, connection: &Connection) -> Option<Checkpointed> {
    let _span = span!("checkpoint", database = shared.spec.domain.name());
    let own = &shared.checkpointer;
    let mut done = passive(shared, connection)?;
    for _ in 1..BULK_RUNS {
        let is_paused = own.paused.load(Ordering::Acquire);
        if done.busy || done.log.saturating_sub(done.done) <= LAST_PIECE || is_paused {
            break;
        }
        let before = std::mem::replace(&mut done, passive(shared, connection)?);
        if done.done == before.done {
            break;
        }
    }
    let is_paused = own.paused.load(Ordering::Acquire);
    let short = done.log < own.lengths.soft && !own.too_long.load(Ordering::Relaxed);
    let pinned = own.progress.is_pinned_at(done, Instant::now());
    if (!done.busy && (pinned || short)) || (done.busy && !is_paused) {
        // Nothing can be done, or somebody else is at it, or did it, and the log has started anew.
        return left(shared, connection, done);
    }
    shared.gate.reserve();
    let mut core = shared.gate.enter();
    shared.gate.release();
    let within = core.as_mut()?;
    let has_turn = within.take_turn(shared.spec.limits.turn_wait);
    let from = Instant::now();
    let done = last_piece(shared, connection);
    if has_turn {
        within.turn.leave();
    }
    let held = u64::try_from(from.elapsed().as_micros()).unwrap_or(u64::MAX);
    stats::add(&shared.counters.checkpoint_held_us, held);
    stats::highest(&shared.counters.checkpoint_longest_us, held);
    // Whoever is told of a failure may want to write.
    drop(core);
    stats::add(&shared.counters.checkpoints_held, 1);
    let done = told(shared, done)?;
    left(shared, connection, done)
}

/// With the writer held. While reads come and go all the time, one of them always needs a part of the log; but as nobody
/// writes, those that come need less and less of it, and from when all is worked off nothing: so a log that is much too
/// long gets to its end when the reads that are under way have ended.
fn last_piece(shared: &Shared, connection: &Connection) -> rusqlite::Result<Checkpointed> {
    let own = &shared.checkpointer;
    let mut patience = None;
    loop {
        let mut done = ffi::checkpoint_passive(connection)?;
        // While another process is at it, it does not tell how long the log is.
        if !done.busy && done.log < own.lengths.cut && !own.too_long.load(Ordering::Relaxed) {
            return Ok(done);
        }
        if is_complete(done) {
            done = cut(own, connection)?;
            if is_complete(done) {
                return Ok(done);
            }
        }
        let now = Instant::now();
        // What there was to copy has taken its time: from here on it is waiting.
        let (patience, until) = *patience.get_or_insert_with(|| {
            let patience = own.patience(now, shared.admission.refuses(Bound::LogCap));
            (patience, now + patience)
        });
        if now >= until || !shared.lanes.is_open() {
            own.held_for_nothing(patience);
            return Ok(done);
        }
        connect::pause();
    }
}

fn passive(shared: &Shared, connection: &Connection) -> Option<Checkpointed> {
    told(shared, ffi::checkpoint_passive(connection))
}

/// Cuts the file of a log that is worked off. The writer is held.
fn cut(own: &Checkpointer, connection: &Connection) -> rusqlite::Result<Checkpointed> {
    let done = ffi::checkpoint_truncate(connection)?;
    if !done.busy {
        own.too_long.store(false, Ordering::Relaxed);
        own.wal_pages.store(0, Ordering::Relaxed);
        own.began_anew();
    }
    Ok(done)
}

fn is_complete(done: Checkpointed) -> bool {
    !done.busy && done.done >= done.log
}

/// What is in the log after a round: a checkpoint that was busy does not always tell.
fn left(shared: &Shared, connection: &Connection, done: Checkpointed) -> Option<Checkpointed> {
    if done.busy { told_of(shared, ffi::checkpoint_noop(connection)) } else { Some(done) }
}

/// Counts a checkpoint.
fn told(shared: &Shared, done: rusqlite::Result<Checkpointed>) -> Option<Checkpointed> {
    let done = told_of(shared, done)?;
    stats::add(&shared.counters.checkpoints, 1);
    if is_complete(done) {
        stats::add(&shared.counters.checkpoints_complete, 1);
    }
    Some(done)
}

/// A failed write or fsync here is as bad as one in a commit: at NORMAL, acknowledged commits stand on it.
fn told_of(shared: &Shared, done: rusqlite::Result<Checkpointed>) -> Option<Checkpointed> {
    done.map_err(|error| {
        if let Some(error) = latching(&error) {
            shared.latch(error);
        }
        warn(&format_args!("{}: a checkpoint failed: {error}", shared.spec.domain.name()));
    })
    .ok()
}
