//! What the handles, the writer and the checkpointer of one database share.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::batch::Entry;
use super::catalogue::Catalogue;
use super::change::Changes;
use super::checkpoint::Checkpointer;
use super::clock::{instant_after, now_unix_ms};
use super::connect::Spec;
use super::core::Core;
use super::health::{Health, State};
use super::holders;
use super::label::Label;
use super::lineage;
use super::migrate;
use super::readers::Readers;
use super::schema_watch;
use super::stats::{self, Counters, Stats};
use super::status_page::Slot;
use crate::error::{Error, ErrorKind, Result};
use crate::forks;
use crate::handoff::gate::Gate;
use crate::handoff::job::Settled;
use crate::handoff::lanes::Lanes;

/// How long asking for the warnings may wait for a reader, and read.
const LOOK_FOR_OTHERS: Duration = Duration::from_secs(1);

pub(super) struct Shared {
    pub(super) spec: Spec,
    /// The write connection; `None` before it is attached and after it is closed.
    pub(super) gate: Gate<Option<Core>>,
    pub(super) lanes: Lanes<Entry>,
    pub(super) readers: Readers,
    pub(super) checkpointer: Checkpointer,
    pub(super) changes: Changes,
    pub(super) health: State,
    pub(super) counters: Counters,
    pub(super) slot: Option<Slot>,
    /// Of the process that opened it ([`forks`]); a fork must not touch the connections.
    owner: u32,
    /// Somebody of this process waits for the write lock.
    blocked: AtomicBool,
    /// Somebody of this process waits for the turn.
    in_line: AtomicBool,
    /// Held while the write connection is opened, opened again, or closed.
    pub(super) opening: Mutex<()>,
    /// A caller may have kept the turn: the writer sees to it that it is given back.
    pub(super) kept: AtomicBool,
    /// When closing stops waiting, in nanoseconds since `opened`; 0 while it does not close.
    gives_up_at: AtomicU64,
    opened: Instant,
    /// What became of jobs during close.
    pub(super) left: Mutex<u64>,
    /// What the migrations make, once somebody asked for what is there beside it.
    fresh: OnceLock<Catalogue>,
}

impl Shared {
    pub(super) fn new(spec: Spec, slot: Option<Slot>) -> Self {
        Self {
            gate: Gate::new(None),
            lanes: Lanes::new(spec.limits.queue_jobs),
            readers: Readers::new(&spec),
            checkpointer: Checkpointer::new(spec.limits.wal_soft),
            changes: Changes::default(),
            health: State::new(),
            counters: Counters::default(),
            slot,
            owner: forks::generation(),
            blocked: AtomicBool::new(false),
            in_line: AtomicBool::new(false),
            opening: Mutex::new(()),
            kept: AtomicBool::new(false),
            gives_up_at: AtomicU64::new(0),
            opened: Instant::now(),
            left: Mutex::new(0),
            fresh: OnceLock::new(),
            spec,
        }
    }

    /// Opens the file and makes the database ready.
    pub(super) fn attach(&self, deadline: Instant) -> Result<Option<i64>> {
        lineage::enter(&self.spec.path).map_err(|error| self.name(error))?;
        let opened = self.spec.open_writer(deadline)?;
        let warnings = [&opened.notes[..], &opened.warnings].concat();
        let (wrote, access) = (opened.wrote, opened.access.clone());
        let core = self.spec.named(Core::new(&self.spec, opened))?;
        *self.gate.enter() = Some(core);
        self.health.set_warnings(warnings);
        // A schema that shuts it out from writing is an answer here: it may still be read.
        if schema_watch::shut_out(self, &access).is_ok() {
            self.health.set(Health::Ready, None);
        }
        Ok(wrote)
    }

    /// What is odd but in nobody's way: what was found when it was opened or when its schema changed, and what others
    /// made in it, which is looked for now.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.health.warnings();
        match self.made_by_others() {
            Ok(theirs) => warnings.extend(theirs),
            Err(error) => warnings.push(format!("what others made in it could not be looked for: {error}")),
        }
        warnings
    }

    fn made_by_others(&self) -> Result<Vec<String>> {
        let deadline = instant_after(LOOK_FOR_OTHERS);
        if self.is_forked() || self.health.readable(Instant::now()).is_err() {
            return Ok(Vec::new());
        }
        let fresh = if let Some(fresh) = self.fresh.get() {
            fresh
        } else {
            let made = Catalogue::fresh(&self.spec.domain)?;
            self.fresh.get_or_init(|| made)
        };
        self.readers.read(deadline, LOOK_FOR_OTHERS, |at| {
            // What a newer program made cannot be told from what others made.
            if migrate::inspect(at.connection(), &self.spec.domain)?.newer {
                return Ok(Vec::new());
            }
            Ok(fresh.differences(&Catalogue::of(at.connection())?))
        })
    }

    pub(super) fn name(&self, error: Error) -> Error {
        error.in_database(self.spec.domain.name(), &self.spec.path)
    }

    /// Refuses use in a fork of the process that opened the database.
    pub(super) fn check_process(&self) -> Result<()> {
        if !self.is_forked() {
            return Ok(());
        }
        Err(self.name(
            Error::new(ErrorKind::Closed, "this process is a fork of the one that opened the database")
                .advise("fork before the runtime is opened, close it before forking, or exec"),
        ))
    }

    /// True in a fork of the process that opened it.
    pub(super) fn is_forked(&self) -> bool {
        forks::current() != self.owner
    }

    /// No more writes: after this answer nothing of this generation can be believed.
    pub(super) fn latch(&self, error: Error) -> Error {
        let error = self.name(error);
        let refusal = match error.kind() {
            ErrorKind::Replaced => error.clone(),
            _ => self
                .name(Error::new(ErrorKind::Latched, "an earlier write to the disk failed"))
                .advise("check the disk, then call reopen()")
                .caused_by(error.clone()),
        };
        self.health.set(Health::Latched, Some(refusal));
        if let Some(slot) = &self.slot {
            slot.set_latched(true);
        }
        error
    }

    pub(super) fn set_in_line(&self, waits: bool) {
        self.in_line.store(waits, Ordering::Relaxed);
    }

    pub(super) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    /// The error for a write that did not get the write lock in time; names who has it.
    pub(super) fn busy(&self) -> Error {
        self.name(
            Error::new(ErrorKind::Busy, "the database is locked by somebody else; nothing was done")
                .held_by(holders::write_lock_holder(&self.spec.path))
                .retry_in(Duration::from_secs(1)),
        )
    }

    /// The error for a write that never ran.
    pub(super) fn late(&self) -> Error {
        if self.blocked.load(Ordering::Relaxed) {
            return self.busy();
        }
        if let Some(why) = self.health.not_attached() {
            return self.name(why);
        }
        if self.in_line.load(Ordering::Relaxed)
            && let Some(holder) = holders::flock_holder(&self.spec.room)
        {
            return self.name(
                Error::new(
                    ErrorKind::Busy,
                    "it was another process's turn until the deadline; nothing was done",
                )
                .held_by(Some(holder))
                .retry_in(Duration::from_secs(1)),
            );
        }
        self.name(Error::new(ErrorKind::Timeout, "the deadline passed in the queue; nothing was done"))
    }

    /// True when closing does not wait for the write lock any longer.
    pub(super) fn gives_up(&self) -> bool {
        let at = self.gives_up_at.load(Ordering::Acquire);
        at != 0 && self.opened.elapsed().as_nanos() as u64 >= at
    }

    pub(super) fn give_up_after(&self, wait: Duration) {
        let at = u64::try_from(self.opened.elapsed().saturating_add(wait).as_nanos()).unwrap_or(u64::MAX);
        self.gives_up_at.store(at.max(1), Ordering::Release);
    }

    pub(super) fn job_started(&self, label: &Label) {
        if let Some(slot) = &self.slot {
            slot.job_started(label.as_bytes(), now_unix_ms());
        }
    }

    pub(super) fn job_ended(&self) {
        if let Some(slot) = &self.slot {
            slot.job_ended();
        }
    }

    /// Acknowledges a job whose fate is decided.
    pub(super) fn settle(&self, entry: Entry) -> Settled {
        // Whoever is woken may run a little on this thread, and must not wait for it.
        let _mark = super::guard::InJob::mark();
        let settled = entry.task.settle();
        self.drop_entry(entry);
        settled
    }

    /// Lets go of a job, and of what it captured: on this thread, which may be the writer, so marked and caught.
    pub(super) fn drop_entry(&self, entry: Entry) {
        if entry.submitted {
            self.gate.leave();
        }
        let _mark = super::guard::InJob::mark();
        entry.task.discard();
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(entry)));
    }

    /// After a commit: who watches is told, and the log is worked off when it is long.
    pub(super) fn committed(&self, wal_pages: u64) {
        self.changes.notify();
        if self.checkpointer.watch(wal_pages) {
            // Callers queue up from now on, and the writer pauses; the checkpointer releases them.
            self.gate.reserve();
            if !self.checkpointer.begin_pause() {
                self.gate.release();
            }
        }
    }

    /// Jobs whose callers were told.
    pub(super) fn counted(&self, fine: u64, failed: u64) {
        stats::add(&self.counters.jobs, fine);
        stats::add(&self.counters.jobs_failed, failed);
        if let Some(slot) = &self.slot {
            slot.count(1, fine);
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let mut stats = self.counters.read();
        stats.queued = self.lanes.len() as u64;
        stats.wal_pages = self.checkpointer.wal_pages();
        stats
    }
}
