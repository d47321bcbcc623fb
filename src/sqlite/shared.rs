//! What the handles, the writer and the checkpointer of one database share.

mod queue;
mod trouble;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::admission::{Admission, Bound};
use super::catalogue::Catalogue;
use super::change::Changes;
use super::check::Checker;
use super::checkpoint::Checkpointer;
use super::clock::{instant_after, now_unix_ms};
use super::connect::Spec;
use super::core::Core;
use super::damage::DamageReport;
use super::damage::suspicion::Suspicion;
use super::disk_reserve;
use super::entry::Entry;
use super::health::{Health, State};
use super::holders;
use super::identity::Sidecars;
use super::label::Label;
use super::lineage;
use super::log_cap;
use super::migrate;
use super::readers::{self, Readers};
use super::recover::Loss;
use super::rescue::Saved;
use super::schema_watch;
use super::space;
use super::stats::{self, Board, Phase, Stats};
use super::status_page::Slot;
use super::steps::{self, Runner, Steps};
use super::write_rate::{self, WriteRate};
use crate::domain::Role;
use crate::error::{Error, ErrorKind, Result};
use crate::forks;
use crate::handoff::gate::Gate;
use crate::handoff::lanes::{Depth, Lanes};
use crate::sync::Arc;
#[cfg(feature = "metrics")]
use crate::telemetry;
use crate::telemetry::span;
pub(super) use crate::telemetry::warn;
pub(super) use queue::Queueing;

/// How long asking for the warnings may wait for a reader, and read.
const LOOK_FOR_OTHERS: Duration = Duration::from_secs(1);

pub(super) struct Shared {
    pub(super) spec: Spec,
    /// The write connection; `None` before it is attached and after it is closed.
    pub(super) gate: Gate<Option<Core>>,
    pub(super) lanes: Lanes<Entry, Arc<Board>>,
    pub(super) readers: Readers,
    pub(super) checkpointer: Checkpointer,
    pub(super) checker: Checker,
    pub(super) changes: Changes,
    pub(super) steps: Steps,
    pub(super) health: State,
    pub(super) admission: Admission,
    /// Damage that was met and is not looked into yet.
    pub(super) suspicion: Suspicion,
    /// What became of a damaged file.
    pub(super) damage: Mutex<Option<DamageReport>>,
    /// Outlives the files that it counts for: being attached again makes nothing undone.
    pub(super) write_rate: Option<Mutex<WriteRate>>,
    pub(super) counters: Arc<Board>,
    pub(super) slot: Option<Slot>,
    /// Of the process that opened it ([`forks`]); a fork must not touch the connections.
    owner: u32,
    /// Somebody of this process waits for the write lock.
    blocked: AtomicBool,
    /// Somebody of this process waits for the turn.
    in_line: AtomicBool,
    /// The write lock was somebody else's when it was last looked for: the idle writer looks again soon.
    unsettled: AtomicBool,
    /// A program can be ready without it: submitted jobs wait in a backlog, and after trouble it is attached again.
    pub(super) best_effort: bool,
    /// The log and index of a file that was replaced, to be set aside before the new one is opened.
    pub(super) left_behind: Mutex<Option<Sidecars>>,
    /// Held while the write connection is opened, opened again, or closed.
    pub(super) opening: Mutex<()>,
    /// The files were found lost, and nobody has looked after what they held.
    pub(super) found_lost: Mutex<Option<Loss>>,
    /// How often what removed files held could not be read.
    pub(super) failed_copies: AtomicU32,
    /// A write of this process failed, and nobody has called `reopen()` since.
    pub(super) failed: AtomicBool,
    /// A copy of what removed files held, whose rows are to be brought back when the database is open again.
    pub(super) saved: Mutex<Option<Saved>>,
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

impl Depth for Arc<Board> {
    fn show(&self, jobs: usize, background: usize) {
        stats::set(&self.queued, jobs as u64);
        stats::set(&self.queued_background, background as u64);
    }
}

impl Shared {
    pub(super) fn new(spec: Spec, slot: Option<Slot>, steps: Arc<Runner>) -> Self {
        let counters = Arc::new(Board::new(slot.as_ref()));
        #[cfg(feature = "metrics")]
        telemetry::counts(spec.domain.name(), &counters);
        Self {
            gate: Gate::new(None),
            lanes: Lanes::showing(spec.limits.queue_jobs, counters.clone()),
            readers: Readers::new(),
            checkpointer: Checkpointer::new(spec.log_lengths()),
            checker: Checker::new(),
            changes: Changes::default(),
            steps: Steps::new(steps),
            health: State::new(),
            admission: Admission::default(),
            suspicion: Suspicion::default(),
            damage: Mutex::new(None),
            write_rate: spec.domain.max_write_rate.map(|bound| Mutex::new(WriteRate::new(bound))),
            counters,
            slot,
            owner: forks::generation(),
            blocked: AtomicBool::new(false),
            in_line: AtomicBool::new(false),
            unsettled: AtomicBool::new(false),
            best_effort: spec.domain.role() == Role::BestEffort,
            left_behind: Mutex::new(None),
            opening: Mutex::new(()),
            found_lost: Mutex::new(None),
            failed_copies: AtomicU32::new(0),
            failed: AtomicBool::new(false),
            saved: Mutex::new(None),
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
        let _span = span!("open", database = self.spec.domain.name());
        let times = &self.spec.times;
        times.begin();
        let opening = times.enter(Phase::Attach);
        let answer = self.attach_now(deadline);
        drop(opening);
        if answer.is_ok() {
            let before = self.counters.opens.fetch_add(1, Ordering::Relaxed);
            self.counters.opening.opened(times, before == 0);
        } else {
            stats::add(&self.counters.opens_failed, 1);
        }
        answer
    }

    fn attach_now(&self, deadline: Instant) -> Result<Option<i64>> {
        lineage::enter(&self.spec.path).map_err(|error| self.name(error))?;
        let opened = match self.spec.open_writer(deadline) {
            Err(why) if why.kind() == ErrorKind::ReadOnly => {
                self.attach_to_read(why, deadline)?;
                return Ok(None);
            }
            opened => opened?,
        };
        let mut warnings = [&opened.notes[..], &opened.warnings].concat();
        let damage = opened.damage.clone();
        let (wrote, access) = (opened.wrote, opened.access.clone());
        if self.spec.memory.is_some() {
            warnings.push("it is kept in memory only, and gone when the program ends".to_owned());
        }
        let unfinished = steps::unfinished(opened.tx.connection(), &self.spec.domain);
        let mut core = self.spec.named(Core::new(&self.spec, opened))?;
        self.spec.generation.attached(core.identity.marks());
        space::look(&mut core, self);
        self.steps.open_another_file();
        write_rate::attached(self, core.tx.connection());
        *self.gate.enter() = Some(core);
        self.readers.open(&self.spec);
        self.health.set_warnings(warnings);
        if let Some(report) = damage {
            self.tell_damage(report);
        }
        // A schema that shuts it out from writing is an answer here: it may still be read.
        if schema_watch::shut_out(self, &access).is_ok() {
            self.health.attached();
            disk_reserve::look(self);
            self.checkpointer.look_at_file(self.spec.log_bytes());
            self.steps.found(unfinished);
        }
        Ok(wrote)
    }

    /// The file may not be written: it is read as it is.
    fn attach_to_read(&self, why: Error, deadline: Instant) -> Result<()> {
        self.spec.generation.apart();
        self.health.set_warnings(self.spec.open_to_read(&why, deadline)?);
        self.readers.open(&self.spec);
        self.health.set(Health::ReadOnly, Some(why));
        Ok(())
    }

    /// What is odd but in nobody's way: what was found when it was opened or when its schema changed, and what others
    /// made in it, which is looked for now.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.health.warnings();
        warnings.extend(self.steps.troubles());
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
        let connection = self.readers.take(deadline)?;
        readers::read(&connection, Label::default(), deadline, LOOK_FOR_OTHERS, |at| {
            // What a newer program made cannot be told from what others made.
            if migrate::inspect(at.connection(), &self.spec.domain)?.newer {
                return Ok(Vec::new());
            }
            Ok(fresh.differences(&Catalogue::of(at.connection())?))
        })
    }

    pub(super) fn name(&self, error: Error) -> Error {
        self.spec.name(error)
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

    pub(super) fn set_unsettled(&self, unsettled: bool) {
        self.unsettled.store(unsettled, Ordering::Relaxed);
    }

    /// True while the idle writer should look soon whether writing works again.
    pub(super) fn is_unsettled(&self) -> bool {
        self.health.is_degraded() || (self.unsettled.load(Ordering::Relaxed) && self.health.is_writable())
    }

    pub(super) fn set_in_line(&self, waits: bool) {
        self.in_line.store(waits, Ordering::Relaxed);
    }

    pub(super) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    /// The same error, naming who holds the write lock when that is what it is about and nobody is named yet.
    pub(super) fn held_by_somebody(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::Busy || error.holder().is_some() {
            return error;
        }
        error.held_by(holders::write_lock_holder(&self.spec.path))
    }

    /// The error for a write that did not get the write lock in time; names who has it.
    pub(super) fn busy(&self) -> Error {
        self.name(
            Error::new(ErrorKind::Busy, "the database is locked by somebody else; nothing was done")
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

    /// What a call answers its caller; an error is counted here, and nowhere else. In a fork the counters are its
    /// parent's.
    pub(super) fn told<T>(&self, answer: Result<T>) -> Result<T> {
        if let Err(error) = &answer
            && !self.is_forked()
        {
            self.counters.errors.count(error.kind());
        }
        answer
    }

    /// After a commit, or a batch that came to none: who watches is told, the log is worked off when it is long, and the
    /// bounds are kept.
    pub(super) fn committed(&self, core: &mut Core) {
        self.changes.notify();
        self.failed(core);
        if !core.gauge.take_news() {
            // How long the log is by now is not known.
            return;
        }
        let pages = core.gauge.pages();
        log_cap::committed(self, core.tx.connection(), pages);
        write_rate::committed(self, core.tx.connection());
        disk_reserve::committed(core, self);
        let too_long = self.checkpointer.watch(pages);
        stats::set(&self.counters.wal_pages, pages);
        stats::set(&self.counters.checkpoint_restarts, self.checkpointer.restarts());
        if too_long {
            // Callers queue up from now on, and the writer pauses; the checkpointer releases them.
            self.gate.reserve();
            if !self.checkpointer.begin_pause() {
                self.gate.release();
            }
        }
    }

    /// After a job that failed.
    pub(super) fn failed(&self, core: &mut Core) {
        if core.met_space {
            space::look(core, self);
        }
    }

    /// Looks whether bounds that are reached still are, and whether the log can be worked off by now.
    pub(super) fn look_at_bounds(&self) {
        disk_reserve::look(self);
        if self.checkpointer.is_behind() || self.admission.is_reached(Bound::LogCap) {
            self.checkpointer.ask();
        }
        if self.admission.is_reached(Bound::WriteRate) {
            write_rate::look(self);
        }
        if self.admission.is_reached(Bound::Space)
            && let Some(core) = self.gate.enter().as_mut().filter(|_| self.health.is_writable())
        {
            space::look(core, self);
        }
    }

    /// Jobs whose callers were told.
    pub(super) fn counted(&self, fine: u64, failed: u64) {
        if fine > 0 {
            stats::add(&self.counters.jobs, fine);
        }
        if failed > 0 {
            stats::add(&self.counters.jobs_failed, failed);
        }
    }

    /// Shows what others cannot see by themselves: the state of the log, and for how long the oldest read has lasted. After
    /// each round of checkpoints, and once a second.
    pub(super) fn show(&self) {
        let (counters, checkpointer) = (&self.counters, &self.checkpointer);
        stats::set(&counters.checkpoint_restarts, checkpointer.restarts());
        stats::set(&counters.checkpoint_lag, checkpointer.progress.lag());
        stats::set(&counters.checkpoint_busy_streak, checkpointer.progress.streak());
        let age = |(began, _): (Instant, Label)| began.elapsed().as_millis() as u64;
        stats::set(&counters.oldest_reader_ms, self.readers.oldest().map_or(0, age));
    }

    pub(super) fn stats(&self) -> Stats {
        if !self.is_forked() {
            self.show();
        }
        self.counters.read()
    }
}
