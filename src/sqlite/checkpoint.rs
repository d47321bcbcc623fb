//! Works off the write-ahead log.
//!
//! Invariants:
//! 1. No caller ever runs a checkpoint. Nobody waits for one but during its last piece, which is never more than the soft
//!    limit and for which nobody is waited for.
//! 2. The bulk runs by PASSIVE on a connection of its own, beside the writers.
//! 3. A PASSIVE checkpoint beside a busy writer always ends a few pages short, and the log only starts anew when a
//!    writer finds every page checkpointed. So the last piece runs while this process's writer is held between two
//!    batches and this process has the turn.
//! 4. A writer that outruns the checkpoint pauses: from two and a half times the soft limit on nobody writes until a
//!    round is done, for at most a second.
//! 5. A log that cannot be worked off (a reader pins it) is tried again after it grew by a mebibyte, and once a second
//!    ([`log_cap`]), not in a loop; the writer is not held for it.
//! 6. A log that is much too long, or whose file is when the database is opened, is cut to nothing in the last piece, if
//!    nobody reads from it at that moment.
//! 7. Reads that follow each other keep a log that is much too long: then the reads of this process wait, before they
//!    begin, for those under way to end. For [`SHORTEST_WAIT`] first, for twice as long after each time that this was for
//!    nothing, for [`LONGEST_WAIT`] at most, and never for a read that lasts longer. Those of other processes are not
//!    waited for.
//! 8. The thread starts when there is work for the first time: most processes end before, and start sooner without.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::batch::latching;
use super::connect;
use super::ffi::{self, Checkpointed};
use super::generation::{Counted, User};
use super::latch;
use super::log_cap::{self, Lengths, Progress};
use super::readers::HeldBack;
use super::shared::{Shared, warn};
use super::stats;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Arc;
use crate::telemetry::span;

/// SQLite's page size here; every database of this library has it.
pub(super) const PAGE: u64 = 4096;
/// Pages by which a log that could not be worked off must grow before the next try: 1 MiB.
const RETRY_AFTER: u64 = (1 << 20) / PAGE;
/// With more to do than this, another bulk run comes before the last piece.
const LAST_PIECE: u64 = 512;
/// Bulk runs before the writer is held for what is left, or left alone when that is too much.
const BULK_RUNS: u32 = 4;
/// The writer pauses for at most this long: on a disk that slow, a long log is the smaller evil.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a round waits for another process that is at it, while the writer pauses anyway.
const AT_IT: Duration = Duration::from_millis(200);
/// How long reads wait before they begin so that a log that is much too long can begin anew: at first,
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
/// and at most. It is as long as a pause of the writer.
const LONGEST_WAIT: Duration = LONGEST_PAUSE;
/// After that was for nothing, it is not tried again for so many times as long.
const IMPATIENCE: u32 = 5;

/// Its connection is closed when there was nothing to do for so long.
const IDLE: Duration = Duration::from_secs(10);

pub(super) struct Checkpointer {
    lengths: Lengths,
    pub(super) progress: Progress,
    restarts: AtomicU64,
    /// The file was too long when it was opened, or holds what was deleted, and is to be cut.
    too_long: AtomicBool,
    tries: Mutex<Tries>,
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

/// When a log that is much too long is tried to be cut next.
struct Tries {
    not_before: Option<Instant>,
    /// How long reads wait for it.
    patience: Duration,
}

impl Default for Tries {
    fn default() -> Self {
        Self { not_before: None, patience: SHORTEST_WAIT }
    }
}

impl Tries {
    fn is_due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| now >= at)
    }

    fn failed(&mut self, now: Instant) {
        self.not_before = Some(now + self.patience * IMPATIENCE);
        self.patience = (self.patience * 2).min(LONGEST_WAIT);
    }
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
            tries: Mutex::default(),
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

    /// Pages that are copied at most while the writer is held.
    fn most_held(&self) -> u64 {
        self.lengths.soft.max(LAST_PIECE)
    }

    /// True while the log waits for somebody else, so that it should be tried again soon.
    pub(super) fn is_behind(&self) -> bool {
        let unfinished = self.progress.lag() > 0 && self.progress.log() >= self.lengths.soft;
        unfinished || self.progress.streak() > 0 || self.too_long.load(Ordering::Relaxed)
    }

    /// The database is open, and the file of its log is this long: whoever had it before may have been killed.
    pub(super) fn look_at_file(&self, bytes: u64) {
        let too_long = bytes > self.lengths.kept_bytes;
        self.too_long.store(too_long, Ordering::Relaxed);
        // At first it is asked when there is a writer.
        if too_long && self.owner.get().is_some() {
            self.ask();
        }
    }

    /// Wants the log cut to nothing, however short it is: what was deleted stands in it.
    #[cfg(feature = "agent")]
    pub(super) fn want_cut(&self) {
        self.too_long.store(true, Ordering::Relaxed);
        *self.tries.lock() = Tries::default();
        self.ask();
    }

    /// True until it was cut.
    #[cfg(feature = "agent")]
    pub(super) fn wants_cut(&self) -> bool {
        self.too_long.load(Ordering::Relaxed)
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
        let round = shared.health.is_writable().then(|| {
            connection.take_if(|connection| shared.spec.check_current(connection).is_err());
            if connection.is_none() {
                *connection = Some(shared.spec.open_checkpointer(User::Checkpoint)?);
            }
            connection.as_ref().map_or(Ok(None), |connection| run(shared, connection).map(Some))
        });
        own.look_again();
        let wish = own.wish.lock();
        if own.paused.swap(false, Ordering::AcqRel) {
            shared.gate.release();
            own.wished.notify_all();
        }
        drop(wish);
        // Nobody waits for what follows.
        if let Some(round) = round.and_then(Result::transpose) {
            log_cap::judge(shared, connection.as_deref(), round);
        }
        drop(connection);
        shared.show();
    }
}

/// Two and a half times the length from which the log is worked off: 10 MiB by default.
fn pause_at(soft: u64) -> u64 {
    soft * 5 / 2
}

/// One round: bulk, then the last piece. Answers what it left.
fn run(shared: &Shared, connection: &Connection) -> Result<Checkpointed> {
    let _span = span!("checkpoint", database = shared.spec.domain.name());
    let own = &shared.checkpointer;
    let mut done = bulk(shared, connection)?;
    let now = Instant::now();
    let much_too_long = done.log >= own.lengths.cut || own.too_long.load(Ordering::Relaxed);
    let short = done.log < own.lengths.soft && !much_too_long;
    if done.busy || short || own.progress.is_pinned_at(done, now) {
        // Nothing can be done, or somebody else is at it, or did it, and the log has started anew.
        return Ok(done);
    }
    let tries = much_too_long && own.tries.lock().is_due(now);
    let held_back = tries.then(|| hold_reads_back(shared, now)).flatten();
    if held_back.is_some() {
        done = bulk(shared, connection)?;
    }
    // What is long was worked off by itself only up to where somebody needs it, or others write faster.
    if done.busy || left(done) > own.most_held() {
        if tries {
            own.tries.lock().failed(Instant::now());
        }
        return Ok(done);
    }
    if much_too_long && !tries && left(done) == 0 {
        // Only cutting it is left, and that was for nothing just now.
        return Ok(done);
    }
    let (done, cut) = last_piece(shared, connection, tries)?;
    drop(held_back);
    if tries {
        let mut tries = own.tries.lock();
        if cut { *tries = Tries::default() } else { tries.failed(Instant::now()) }
    }
    Ok(done)
}

/// Everything that can be copied without anybody waiting for it; by several runs, because writers go on meanwhile.
fn bulk(shared: &Shared, connection: &Connection) -> Result<Checkpointed> {
    let own = &shared.checkpointer;
    let until = Instant::now() + AT_IT;
    let mut done = passive(shared, connection)?;
    // The writers of this process pause until the log is shorter, and so until the other process is through with it.
    while done.busy && own.is_paused() && own.progress.streak() == 0 && Instant::now() < until {
        connect::pause();
        done = passive(shared, connection)?;
    }
    for _ in 1..BULK_RUNS {
        if done.busy || left(done) <= LAST_PIECE {
            break;
        }
        let before = std::mem::replace(&mut done, passive(shared, connection)?);
        if done.done == before.done {
            break;
        }
    }
    // A checkpoint that was busy does not tell how long the log is.
    if done.busy { Ok(Checkpointed { busy: true, ..noop(shared, connection)? }) } else { Ok(done) }
}

/// The reads of this process that are under way end, and others wait, so that none needs a log that is much too long. Not
/// tried when one of them already lasts longer than others may wait for it.
fn hold_reads_back(shared: &Shared, now: Instant) -> Option<HeldBack> {
    let began = shared.readers.oldest()?.0;
    if now.saturating_duration_since(began) > LONGEST_WAIT {
        return None;
    }
    shared.readers.hold_back(now + shared.checkpointer.tries.lock().patience)
}

/// With the writer held and the turn; `cut` when the log's file is to be cut. Answers also whether it was.
fn last_piece(shared: &Shared, connection: &Connection, cut: bool) -> Result<(Checkpointed, bool)> {
    shared.gate.reserve();
    let mut core = shared.gate.enter();
    shared.gate.release();
    let Some(within) = core.as_mut().filter(|core| core.is_sound()) else {
        drop(core);
        check_latch(shared)?;
        return Ok((noop(shared, connection)?, false));
    };
    let has_turn = within.take_turn(shared.spec.limits.turn_wait);
    let from = Instant::now();
    let answer = copy_last_piece(shared, connection, cut);
    if matches!(answer, Ok((_, true))) {
        within.gauge.was_cut();
        stats::set(&shared.counters.wal_pages, 0);
    }
    if has_turn {
        within.turn.leave();
    }
    let held = u64::try_from(from.elapsed().as_micros()).unwrap_or(u64::MAX);
    stats::add(&shared.counters.checkpoint_held_us, held);
    stats::highest(&shared.counters.checkpoint_longest_us, held);
    // Whoever is told of a failure may want to write.
    drop(core);
    stats::add(&shared.counters.checkpoints_held, 1);
    let (done, cut) = answer.map_err(|error| failed(shared, &error))?;
    count(shared, done);
    Ok((done, cut))
}

/// Waits for nobody, and copies no more than what a writer can be held for.
fn copy_last_piece(
    shared: &Shared,
    connection: &Connection,
    cut: bool,
) -> rusqlite::Result<(Checkpointed, bool)> {
    let own = &shared.checkpointer;
    let found = ffi::checkpoint_noop(connection)?;
    if left(found) > own.most_held() {
        // Others wrote faster, until now.
        return Ok((found, false));
    }
    let done = ffi::checkpoint_passive(connection)?;
    if !cut || !is_complete(done) {
        return Ok((if done.busy { Checkpointed { busy: true, ..found } } else { done }, false));
    }
    let gone = ffi::checkpoint_truncate(connection)?;
    if gone.busy {
        return Ok((done, false));
    }
    own.too_long.store(false, Ordering::Relaxed);
    own.wal_pages.store(0, Ordering::Relaxed);
    own.began_anew();
    Ok((gone, true))
}

fn passive(shared: &Shared, connection: &Connection) -> Result<Checkpointed> {
    check_latch(shared)?;
    let done = ffi::checkpoint_passive(connection).map_err(|error| failed(shared, &error))?;
    count(shared, done);
    Ok(done)
}

fn noop(shared: &Shared, connection: &Connection) -> Result<Checkpointed> {
    ffi::checkpoint_noop(connection).map_err(|error| failed(shared, &error))
}

fn is_complete(done: Checkpointed) -> bool {
    !done.busy && done.done >= done.log
}

/// Pages that are still to be copied.
fn left(done: Checkpointed) -> u64 {
    done.log.saturating_sub(done.done)
}

fn count(shared: &Shared, done: Checkpointed) {
    stats::add(&shared.counters.checkpoints, 1);
    if is_complete(done) {
        stats::add(&shared.counters.checkpoints_complete, 1);
    }
}

/// After a failed write nothing is worked off before the database is recovered: an fsync would answer that all is well, and
/// whoever writes next would begin the log anew.
fn check_latch(shared: &Shared) -> Result<()> {
    // The writer looks after it.
    if shared.spec.latch.holds() { Ok(()) } else { Err(shared.name(latch::failed_elsewhere())) }
}

/// A failed write or fsync here is as bad as one in a commit: at NORMAL, acknowledged commits stand on it.
fn failed(shared: &Shared, error: &rusqlite::Error) -> Error {
    if let Some(error) = latching(error) {
        shared.latch(error);
    }
    let error = error.sqlite_error().map_or_else(
        || Error::new(ErrorKind::Io, error.to_string()),
        |failure| rusqlite::Error::SqliteFailure(*failure, None).into(),
    );
    shared.name(error)
}
