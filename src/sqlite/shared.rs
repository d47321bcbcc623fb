//! What the handles, the writer and the checkpointer of one database share.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::admission::{Admission, Bound};
use super::batch;
use super::catalogue::Catalogue;
use super::change::Changes;
use super::check::{self, Checker};
use super::checkpoint::Checkpointer;
use super::clock::{instant_after, now_unix_ms};
use super::connect::Spec;
use super::core::Core;
use super::damage::DamageReport;
use super::damage::suspicion::{self, Suspicion};
use super::disk_reserve;
use super::entry::Entry;
use super::guard::InJob;
use super::health::{Health, State};
use super::holders;
use super::identity::{Lost, Sidecars};
use super::label::Label;
use super::latch;
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
use super::ticket::Ticket;
use super::tx::Tx;
use super::write_rate::{self, WriteRate};
use crate::domain::Role;
use crate::error::{Error, ErrorKind, Result};
use crate::forks;
use crate::handoff::gate::Gate;
use crate::handoff::job::{Job, Settled};
use crate::handoff::lanes::{Backlog, Depth, Lane, Lanes, Refused};
use crate::sync::Arc;
#[cfg(feature = "metrics")]
use crate::telemetry;
use crate::telemetry::span;
pub(super) use crate::telemetry::warn;

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

/// How a job is queued: as in [`Entry`].
#[derive(Clone, Copy)]
pub(super) struct Queueing {
    pub(super) label: Label,
    pub(super) lane: Lane,
    pub(super) alone: bool,
    pub(super) keeps: Option<usize>,
    /// When its caller came.
    pub(super) came: Instant,
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

    /// The files are not ours any more. Nothing is written to them from here on; the writer looks after what they held.
    pub(super) fn lost(&self, found: Lost) -> Error {
        let (loss, error) = match found {
            // Its commit is in the log, and whoever salvages may find it there.
            Lost::Damaged(error) => return self.suspect(error).as_kind(ErrorKind::OutcomeUnknown),
            // Its commit stands, as far as anybody can tell.
            Lost::Unread(error) => return self.name(error).as_kind(ErrorKind::OutcomeUnknown),
            Lost::File(error) => (Loss::File, self.latch(error)),
            Lost::Log(error) if self.best_effort => return self.latch(error),
            Lost::Log(error) => {
                // Opened again by the writer, at once: what comes meanwhile waits.
                self.health.open_anew();
                (Loss::Log, self.name(error))
            }
        };
        if !self.best_effort {
            *self.found_lost.lock() = Some(loss);
        }
        self.lanes.poke();
        error
    }

    /// No more writes: after this answer nothing of this generation can be believed. A best-effort database is attached
    /// again by its writer.
    pub(super) fn latch(&self, error: Error) -> Error {
        if error.sqlite_code().is_some_and(suspicion::is_suspicious) {
            return self.suspect(error);
        }
        let error = self.name(error);
        if latch::is_of_the_disk(&error) {
            self.spec.latch.raise();
        }
        if self.best_effort {
            self.detach(error.clone());
            self.lanes.poke();
            return error;
        }
        if error.kind() != ErrorKind::Replaced {
            self.failed.store(true, Ordering::Relaxed);
        }
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

    /// A write of another process failed, so nothing is acknowledged here either. The writer opens the database again when
    /// somebody has recovered it.
    pub(super) fn failed_elsewhere(&self) -> Error {
        let error = self.name(latch::failed_elsewhere());
        if self.best_effort {
            self.detach(error.clone());
        } else {
            self.health.open_anew();
            self.found_lost.lock().get_or_insert(Loss::Trust);
        }
        self.lanes.poke();
        error
    }

    /// The background check found damage, twice. When SQLite says so too, the file is set aside as the domain wants it; when
    /// the trees of a table do not fit to each other, it stays, for nobody can tell which one is right.
    pub(super) fn damaged(&self, found: check::Damage) {
        match found {
            check::Damage::Pages(error) => {
                self.suspicion.confirm();
                self.suspect(error);
            }
            check::Damage::Trees(error) if self.best_effort => {
                // The next pass finds it again.
                if !self.health.warnings().iter().any(|told| told == error.message()) {
                    self.health.warn(error.message().to_owned());
                    warn(&self.name(error));
                }
            }
            check::Damage::Trees(error) if self.health.is_writable() => self.refuse_damaged(&error),
            // It is shut for another reason, which must not be forgotten for this one.
            check::Damage::Trees(error) => warn(&self.name(error)),
        }
    }

    /// SQLite met damage. Nothing is written until the writer has looked into it.
    pub(super) fn suspect(&self, error: Error) -> Error {
        let error = self.name(error);
        if self.best_effort {
            self.detach(error.clone());
        } else if self.health.is_writable() {
            let told = Error::new(
                ErrorKind::Corrupt,
                "SQLite met damage in the database; it is being looked into, and nothing is written meanwhile",
            );
            self.health.set(Health::Latched, Some(self.name(told.caused_by(error.clone()))));
        }
        self.suspicion.raise(error.clone());
        self.lanes.poke();
        error
    }

    /// A read failed. Whether that is damage of the file is looked into; nothing waits for it.
    pub(super) fn met_in_a_read(&self, error: &Error) {
        let suspicious = error.sqlite_code().is_some_and(suspicion::is_suspicious);
        if suspicious && self.health.is_writable() && !self.suspicion.is_calm() {
            self.suspicion.raise(error.clone());
            self.lanes.poke();
        }
    }

    /// The file is whole, or nothing can be said of it.
    pub(super) fn suspicion_passed(&self) {
        let of_this = self.health.refusal().is_some_and(|refusal| refusal.kind() == ErrorKind::Corrupt);
        if of_this && !self.failed.load(Ordering::Relaxed) && self.gate.enter().is_some() {
            self.health.attached();
        }
    }

    /// The file is damaged, and its domain wants it to stay where it is.
    pub(super) fn refuse_damaged(&self, error: &Error) {
        let told = Error::new(ErrorKind::Corrupt, format!("the database is damaged: {}", error.message()))
            .caused_by(error.clone());
        let told = self.name(told);
        warn(&told);
        self.health.set(Health::Latched, Some(told));
    }

    /// The file is damaged, and is being set aside.
    pub(super) fn quarantine(&self, error: &Error) {
        let told = Error::new(
            ErrorKind::Corrupt,
            format!(
                "the database is damaged ({}); it is being set aside, and comes back by itself",
                error.message()
            ),
        )
        .advise("look whether what you wrote last is there when it is back");
        let told = self.name(told);
        // Said aloud once it is done.
        if self.best_effort {
            self.health.detach(told);
        } else {
            self.health.set(Health::Quarantined, Some(told));
        }
    }

    /// It was set aside, and there is a new one.
    pub(super) fn tell_damage(&self, report: DamageReport) {
        self.health.warn(report.to_string());
        *self.damage.lock() = Some(report);
    }

    /// Something is in the way of writes.
    pub(super) fn degrade(&self, trouble: Error) {
        let trouble = self.name(trouble);
        if self.health.degrade(trouble.clone()) {
            warn(&trouble);
        }
    }

    /// A bound is reached. A best-effort database lets no work in until it is [opened](Self::open_again); a required one
    /// only says so, in its health.
    pub(super) fn shut(&self, bound: Bound, why: Error) {
        self.raise(bound, why, self.best_effort);
    }

    /// A bound is about to be reached, or cannot be kept any more: the health says so, and work goes on.
    pub(super) fn alarm(&self, bound: Bound, why: Error) {
        self.raise(bound, why, false);
    }

    fn raise(&self, bound: Bound, why: Error, refuses: bool) {
        let why = self.name(why);
        let news = self.admission.reach(bound, why.clone(), refuses);
        self.health.bounded(|| self.admission.alarm());
        if news {
            warn(&why);
        }
    }

    /// A bound is not reached any more.
    pub(super) fn open_again(&self, bound: Bound) {
        if self.admission.is_reached(bound) {
            self.admission.open(bound);
            self.health.bounded(|| self.admission.alarm());
        }
    }

    /// Refuses work while a bound is reached, and counts it. `bytes` is what it owns.
    pub(super) fn admit(&self, lane: Lane, bytes: usize) -> Result<()> {
        let Some(refusal) = self.admission.refusal(lane) else { return Ok(()) };
        self.count_shed(bytes);
        Err(refusal)
    }

    fn count_shed(&self, bytes: usize) {
        stats::add(&self.counters.shed, 1);
        stats::add(&self.counters.shed_bytes, bytes as u64);
    }

    /// Answers what waits in the queue and is not let in any more.
    pub(super) fn shed(&self, queue: &mut VecDeque<Entry>) {
        if !self.admission.any_reached() {
            return;
        }
        for _ in 0..queue.len() {
            let Some(entry) = queue.pop_front() else { break };
            match self.admission.refusal(entry.lane) {
                Some(refusal) => {
                    let bytes = entry.keeps.unwrap_or(0);
                    if batch::turn_away(self, Some(entry), refusal) {
                        self.count_shed(bytes);
                    }
                }
                None => queue.push_back(entry),
            }
        }
    }

    /// A best-effort database cannot be used until it is attached again.
    pub(super) fn detach(&self, trouble: Error) {
        let trouble = self.name(trouble);
        if self.health.detach(trouble.clone()) {
            warn(&trouble);
        }
    }

    /// Queues a job that owns what it uses, and waits for room at most until its deadline.
    pub(super) fn queue<R: Send + 'static>(
        self: &Arc<Self>,
        job: impl Fn(&Tx) -> Result<R> + Send + 'static,
        how: Queueing,
        deadline: Instant,
    ) -> Result<Ticket<R>, Refused> {
        let Queueing { label, lane, alone, keeps, came } = how;
        let came = Some(came);
        let task = Job::owned(job, deadline);
        self.gate.join();
        let entry = Entry { task: task.clone(), label, lane, alone, submitted: true, keeps, tries: 0, came };
        let taken = match keeps {
            Some(_) => self.keep(entry),
            None => self.lanes.push(entry, deadline),
        };
        match taken {
            Ok(()) => Ok(Ticket::new(task, self.clone())),
            Err(refused) => {
                self.gate.leave();
                Err(refused)
            }
        }
    }

    /// Takes a submitted job of a best-effort database without waiting; the oldest go when there is no room.
    pub(super) fn keep(&self, entry: Entry) -> Result<(), Refused> {
        let mut out = VecDeque::new();
        self.lanes.push_out(entry, self.backlog(), &mut out)?;
        self.drop_from_backlog(out);
        Ok(())
    }

    /// Puts jobs that were not run back in their lanes.
    pub(super) fn give_back(&self, queue: &mut VecDeque<Entry>) {
        self.lanes.give_back(queue);
        if self.best_effort {
            let mut out = VecDeque::new();
            self.lanes.trim(self.backlog(), &mut out);
            self.drop_from_backlog(out);
        }
    }

    fn backlog(&self) -> Backlog {
        let limits = &self.spec.limits;
        Backlog { jobs: limits.backlog_jobs, bytes: limits.backlog_bytes }
    }

    fn drop_from_backlog(&self, out: VecDeque<Entry>) {
        if out.is_empty() {
            return;
        }
        let why = self.health.trouble().or_else(|| self.health.not_attached()).unwrap_or_else(|| {
            if self.blocked.load(Ordering::Relaxed) {
                Error::new(ErrorKind::Busy, "the database is locked by somebody else")
            } else {
                Error::new(ErrorKind::Full, "more was submitted than could be written")
                    .advise("submit less at once, or raise Limits::backlog_jobs and backlog_bytes")
            }
        });
        let message = format!("dropped from the full backlog, nothing was done: {}", why.message());
        let error = self.name(why.worded(message));
        for entry in out {
            let bytes = entry.keeps.unwrap_or(0);
            let _mark = InJob::mark();
            if entry.task.refuse(error.clone()) {
                self.count_dropped(bytes);
                self.drop_entry(entry);
            } else {
                batch::forget(self, Some(entry));
            }
        }
    }

    pub(super) fn count_dropped(&self, bytes: usize) {
        stats::add(&self.counters.dropped, 1);
        stats::add(&self.counters.dropped_bytes, bytes as u64);
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

    /// Acknowledges a job whose fate is decided.
    pub(super) fn settle(&self, entry: Entry) -> Settled {
        // Whoever is woken may run a little on this thread, and must not wait for it.
        let _mark = InJob::mark();
        let settled = entry.task.settle();
        self.drop_entry(entry);
        settled
    }

    /// Lets go of a job, and of what it captured: on this thread, which may be the writer, so marked and caught.
    pub(super) fn drop_entry(&self, entry: Entry) {
        if entry.submitted {
            self.gate.leave();
        }
        let _mark = InJob::mark();
        entry.task.discard();
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(entry)));
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
