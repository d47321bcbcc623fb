//! Runs jobs that share a commit, and finds who is to blame when they cannot.
//!
//! Invariants:
//! 1. A job's effects are committed whole or not at all, whatever its neighbours do.
//! 2. Nothing is acknowledged before COMMIT has returned and the file is still ours.
//! 3. When the transaction is lost (a job ended it, COMMIT failed), every job runs again, also those that answered an
//!    error: it may have been an artefact of a neighbour. Only a job that panicked keeps its answer. First all but
//!    the culprit as one batch, then one by one.
//! 4. A job that cannot be blamed never gets somebody else's error.
//! 5. In a best-effort database no trouble of the disk costs a submitted job its turn: where nothing was committed for
//!    sure, it goes back to the backlog, in order. That is so for whatever failed before COMMIT, and for a COMMIT for
//!    which the log had no room: its last frame is not in it. A COMMIT that failed otherwise may be in the log, and a
//!    replaced file is found out after it: those jobs are told so, and never run again.
//! 6. Nothing is committed from the moment on when a job met damage until that was looked into
//!    ([`suspicion`](super::damage::suspicion)). Its neighbours wait for the verdict: they run in the file that was found
//!    whole or in the new one, or are refused; nothing of them was done until then.
//!
//! A batch first runs without savepoints, which cost as much as a small insert. The first job that fails ends that
//! attempt: it is rolled back and run again with a savepoint around each job. A batch that met a failure makes the
//! next ones wary: they use savepoints from the start.
//!
//! Tests: `tests/batch_*.rs`, each against neighbours that must be unharmed; `tests/best_effort_comes_back.rs`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::ffi as code;

use super::clock::instant_after;
use super::core::Core;
use super::damage::suspicion;
use super::ffi;
use super::guard::InJob;
use super::label::Label;
use super::schema_watch;
use super::shared::Shared;
use super::space;
use super::stats;
use super::tx::Tx;
use crate::domain::Durability;
use crate::error::{Error, ErrorKind};
use crate::handoff::job::{JobError, Ran, Settled, Task};
use crate::handoff::lanes::{Lane, Queued};

/// How many batches use savepoints from the start after one that met a failure.
const WARY_BATCHES: u32 = 64;
/// Of commits that no disk is waited for, one in so many is timed: looking at the clock twice costs a hundredth of one.
const TIMED_COMMITS: u64 = 16;
/// What a page takes in the write-ahead log (<https://sqlite.org/fileformat2.html#walformat>).
const LOGGED_PAGE: u64 = 4096 + 24;
/// How often a job may be what met damage. Then it is answered, and those behind it are not held up any longer.
const MOST_TRIES: u8 = 8;
/// Jobs of a best-effort database that wait for the write lock longer than this wait in the backlog, where its bound
/// holds for them.
const IN_HAND: Duration = Duration::from_millis(20);
/// How often those that gave up are looked for there.
const LOOK_THROUGH_EVERY: Duration = Duration::from_millis(20);

/// A queued job.
pub(super) struct Entry {
    pub(super) task: Arc<dyn Task<Tx, Error>>,
    pub(super) label: Label,
    /// Where it goes back to when its batch has no time for it.
    pub(super) lane: Lane,
    /// It wants a commit of its own.
    pub(super) alone: bool,
    /// It was submitted: nobody stands in line for it, so whoever settles it leaves the line.
    pub(super) submitted: bool,
    /// Of a submitted job of a best-effort database, which may be dropped from the backlog: the bytes it owns.
    pub(super) keeps: Option<usize>,
    /// How often it was what met damage.
    pub(super) tries: u8,
    /// When its caller came, until it ran for the first time.
    pub(super) came: Option<Instant>,
}

impl Entry {
    /// It runs at `now`: for how long its caller waited for that is counted, the first time.
    fn waited(&mut self, shared: &Shared, now: Instant) {
        let Some(came) = self.came.take() else { return };
        let waits = match self.lane {
            Lane::Normal => &shared.counters.queue_wait_us,
            Lane::Background => &shared.counters.queue_wait_background_us,
        };
        waits.record(now.saturating_duration_since(came).as_micros() as u64);
    }
}

impl Queued for Entry {
    fn lane(&self) -> Lane {
        self.lane
    }

    fn may_go(&self) -> Option<usize> {
        self.keeps
    }
}

impl Drop for Entry {
    /// A job that is let go of without an answer, because the writer dies, gets one.
    fn drop(&mut self) {
        self.task.abandon();
    }
}

/// What became of one transaction.
enum Outcome {
    /// Durable: every job of it may be acknowledged.
    Committed,
    /// Rolled back because this job failed and had no savepoint.
    Unprotected,
    /// The whole transaction is gone; the job that ended it, if that is known.
    Lost(Option<usize>),
    /// A write or fsync failed, or the file was replaced; in a best-effort database, also a full disk and damage. Nothing
    /// is run again now.
    Fatal(Error),
    /// Rolled back because this job met damage in a required database, which is to be looked into first.
    Suspected(usize),
}

/// What a job met that is more than its own trouble.
enum Met {
    /// As [`Outcome::Fatal`].
    Trouble(Error),
    /// As [`Outcome::Suspected`].
    Damage,
}

/// What overrules a job's own answer.
pub(super) enum Overruled {
    /// What the job did.
    ByJob(Error),
    /// As [`Outcome::Fatal`].
    ByTrouble(Error),
}

/// What became of a job that was alone.
enum Alone {
    Done(Entry),
    /// It was not run, and is answered.
    Gone,
    /// It waits in the backlog for another batch.
    Back(Entry),
}

/// Runs one batch from the front of `queue`; answers the jobs whose fate is decided, to be settled in this order.
pub(super) fn run(core: &mut Core, shared: &Shared, queue: &mut VecDeque<Entry>) -> Vec<Entry> {
    let mut done = Vec::new();
    if let Err(error) = begin(core, shared, queue) {
        hold_back(core, shared, queue, &error);
        return done;
    }
    let together = queue.iter().take_while(|entry| !entry.alone).count().min(shared.spec.limits.batch_jobs);
    if together <= 1 {
        let Some(entry) = queue.pop_front() else {
            let _ = rollback(core);
            return done;
        };
        match run_alone(core, shared, entry, true) {
            Alone::Done(entry) => done.push(entry),
            Alone::Back(entry) => queue.push_front(entry),
            Alone::Gone => {}
        }
        return done;
    }
    let mut batch: Vec<Option<Entry>> = queue.drain(..together).map(Some).collect();
    let wary = core.wary > 0;
    core.wary = core.wary.saturating_sub(1);
    let (outcome, ran) = attempt(core, shared, &mut batch, wary, true);
    // What did not run for lack of time goes back to the front of the queue, and from there to its lane.
    for entry in batch.drain(ran..).rev().flatten() {
        queue.push_front(entry);
    }
    let outcome = match outcome {
        Outcome::Unprotected => {
            core.wary = WARY_BATCHES;
            stats::add(&shared.counters.batches_retried, 1);
            again(core, shared, &mut batch)
        }
        other => other,
    };
    match outcome {
        Outcome::Committed => done.extend(batch.into_iter().flatten()),
        Outcome::Fatal(error) => give_up(shared, batch, &error, queue, &mut done),
        Outcome::Suspected(by) => suspected(shared, batch, by, queue, &mut done),
        Outcome::Lost(culprit) => {
            core.wary = WARY_BATCHES;
            stats::add(&shared.counters.batches_retried, 1);
            recover(core, shared, batch, culprit, queue, &mut done);
        }
        Outcome::Unprotected => unreachable!("an attempt with savepoints protects every job"),
    }
    done
}

/// All but the culprit once more as one batch; if that is lost too, one by one. The culprit by itself, last.
fn recover(
    core: &mut Core,
    shared: &Shared,
    mut batch: Vec<Option<Entry>>,
    blamed: Option<usize>,
    queue: &mut VecDeque<Entry>,
    done: &mut Vec<Entry>,
) {
    let known = blamed.is_some();
    // One that panicked is settled, and gone from the batch.
    let culprit = blamed.and_then(|at| batch[at].take());
    let outcome = if known && batch.iter().flatten().count() > 1 {
        again(core, shared, &mut batch)
    } else {
        Outcome::Lost(None)
    };
    match outcome {
        Outcome::Committed => done.extend(batch.into_iter().flatten()),
        Outcome::Fatal(error) => {
            if let Some(at) = blamed {
                batch[at] = culprit;
            }
            give_up(shared, batch, &error, queue, done);
            return;
        }
        Outcome::Suspected(by) => {
            // Whoever lost the transaction waits with the others.
            if let Some(at) = blamed {
                batch[at] = culprit;
            }
            suspected(shared, batch, by, queue, done);
            return;
        }
        Outcome::Lost(_) | Outcome::Unprotected => {
            let mut rest = batch.into_iter().flatten().chain(culprit);
            while let Some(entry) = rest.next() {
                let back = match run_alone(core, shared, entry, false) {
                    Alone::Done(entry) => {
                        done.push(entry);
                        None
                    }
                    Alone::Gone => None,
                    Alone::Back(entry) => Some(entry),
                };
                // Trouble does not pass from one job to the next.
                if back.is_some() || !shared.health.is_writable() {
                    let refusal = shared.health.refusal().or_else(|| shared.health.trouble());
                    let error = refusal.unwrap_or_else(|| shared.busy());
                    not_run(shared, back.into_iter().chain(rest), &error, queue);
                    return;
                }
            }
            return;
        }
    }
    if let Some(culprit) = culprit {
        match run_alone(core, shared, culprit, false) {
            Alone::Done(entry) => done.push(entry),
            Alone::Back(entry) => queue.push_front(entry),
            Alone::Gone => {}
        }
    }
}

/// A second attempt, with savepoints.
fn again(core: &mut Core, shared: &Shared, batch: &mut [Option<Entry>]) -> Outcome {
    match begin_again(core, shared) {
        Ok(()) => attempt(core, shared, batch, true, false).0,
        // Each will meet it, and report it, by itself.
        Err(_) => Outcome::Lost(None),
    }
}

/// One transaction over a batch. It has begun. Answers what became of it and how many entries were looked at.
fn attempt(
    core: &mut Core,
    shared: &Shared,
    batch: &mut [Option<Entry>],
    savepoints: bool,
    bounded: bool,
) -> (Outcome, usize) {
    let started = Instant::now();
    let (outcome, looked_at) = attempt_from(started, core, shared, batch, savepoints, bounded);
    shared.counters.held(started, Instant::now());
    (outcome, looked_at)
}

fn attempt_from(
    started: Instant,
    core: &mut Core,
    shared: &Shared,
    batch: &mut [Option<Entry>],
    savepoints: bool,
    bounded: bool,
) -> (Outcome, usize) {
    let mut looked_at = 0;
    #[allow(clippy::needless_range_loop)] // entries are taken out of the batch on the way
    for at in 0..batch.len() {
        let now = Instant::now();
        if bounded && at > 0 && now - started > shared.spec.limits.batch_time {
            break;
        }
        looked_at = at + 1;
        let Some(entry) = &mut batch[at] else { continue };
        if now >= entry.task.deadline() {
            turn_away(shared, batch[at].take(), late());
            continue;
        }
        if !entry.task.claim() {
            forget(shared, batch[at].take());
            continue;
        }
        entry.waited(shared, now);
        if savepoints && core.tx.control().savepoint().is_err() {
            return (lost(core, shared, None), looked_at);
        }
        let ran = run_job(&core.tx, shared, entry);
        match trouble_of_a_job(core, shared, ran) {
            Some(Met::Trouble(error)) => {
                blame(batch[at].as_mut(), &error);
                let _ = rollback(core);
                return (Outcome::Fatal(error), looked_at);
            }
            Some(Met::Damage) => {
                let _ = rollback(core);
                return (Outcome::Suspected(at), looked_at);
            }
            None => {}
        }
        let connection = core.tx.connection();
        if connection.is_autocommit() {
            if ran == Ran::Panicked {
                // It keeps its answer and is not run again.
                settle(shared, batch[at].take());
            }
            return (Outcome::Lost(Some(at)), looked_at);
        }
        if savepoints {
            // What a job leaked in the middle must not be in the next one's way.
            ffi::reset_statements(connection);
        }
        let violated = ran == Ran::Fine && ffi::has_deferred_violations(connection);
        if violated {
            entry.task.overrule(deferred_violation());
        }
        if ran == Ran::Fine && !violated {
            if savepoints && core.tx.control().release().is_err() {
                return (lost(core, shared, Some(at)), looked_at);
            }
            continue;
        }
        if !savepoints {
            let _ = rollback(core);
            if ran == Ran::Panicked {
                settle(shared, batch[at].take());
            }
            return (Outcome::Unprotected, looked_at.max(at + 1));
        }
        let undone = core.tx.control().rollback_to().and_then(|()| core.tx.control().release());
        if ran == Ran::Panicked {
            settle(shared, batch[at].take());
        }
        if undone.is_err() {
            return (lost(core, shared, None), looked_at);
        }
    }
    let jobs = batch[..looked_at].iter().flatten().count();
    (commit(core, shared, jobs), looked_at)
}

/// COMMIT, timed where that costs next to nothing.
fn end(core: &Core, shared: &Shared) -> rusqlite::Result<()> {
    let counters = &shared.counters;
    let durable = shared.spec.domain.durability == Durability::Full;
    if !durable && !counters.commits.load(Ordering::Relaxed).is_multiple_of(TIMED_COMMITS) {
        return end_untimed(core);
    }
    let began = Instant::now();
    let ended = end_untimed(core);
    counters.commit_us.record(began.elapsed().as_micros() as u64);
    ended
}

/// COMMIT, also over a statement that writes and that a job leaked in the middle.
fn end_untimed(core: &Core) -> rusqlite::Result<()> {
    match core.tx.control().commit() {
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
            ffi::reset_statements(core.tx.connection());
            core.tx.control().commit()
        }
        ended => ended,
    }
}

/// COMMIT, and what follows it.
fn commit(core: &mut Core, shared: &Shared, jobs: usize) -> Outcome {
    match end(core, shared) {
        Ok(()) => after_commit(core, shared, jobs).map_or(Outcome::Committed, Outcome::Fatal),
        Err(error) => match trouble_of_commit(core, shared, &error) {
            Some(error) => {
                let _ = rollback(core);
                Outcome::Fatal(error)
            }
            None => lost(core, shared, None),
        },
    }
}

/// The trouble of the disk behind a failed COMMIT. The log's index grows after the last frame was written: when there
/// is no room for that, a best-effort database cannot know that nothing was committed, and is attached again to find out
/// what counts.
fn trouble_of_commit(core: &mut Core, shared: &Shared, error: &rusqlite::Error) -> Option<Error> {
    let failure = error.sqlite_error()?;
    let no_index = shared.best_effort && failure.extended_code == code::SQLITE_IOERR_SHMSIZE;
    let open = || no_index.then(|| rusqlite::Error::SqliteFailure(*failure, None).into());
    match latching(error).or_else(open) {
        Some(error) => Some(unknown(shared, error)),
        None => no_room(core, shared, error),
    }
}

/// What follows every COMMIT of so many jobs before anybody is told. Answers the error when the file is not ours any more.
fn after_commit(core: &mut Core, shared: &Shared, jobs: usize) -> Option<Error> {
    let counters = &shared.counters;
    stats::add_alone(&counters.commits, 1);
    counters.batch_jobs.record(jobs as u64);
    let pages = core.pages_written.since_last(core.tx.connection());
    stats::add_alone(&counters.written_bytes, pages * LOGGED_PAGE);
    core.schema.committed(core.tx.connection());
    // A statement that a job leaked would pin its snapshot.
    if ffi::in_transaction(core.tx.connection()) {
        ffi::reset_statements(core.tx.connection());
    }
    if !core.is_sound() {
        let error = shared.failed_elsewhere().as_kind(ErrorKind::OutcomeUnknown);
        return Some(error.advise("look whether the change is there when the database is opened again"));
    }
    let lost = core.identity.check(core.tx.connection()).err();
    if lost.is_none() {
        shared.health.recovered();
    }
    lost.map(|lost| shared.lost(lost))
}

fn lost(core: &mut Core, shared: &Shared, culprit: Option<usize>) -> Outcome {
    let fatal = fatal(core, shared);
    let _ = rollback(core);
    match fatal {
        Some(error) => Outcome::Fatal(error),
        None => Outcome::Lost(culprit),
    }
}

pub(super) fn rollback(core: &Core) -> rusqlite::Result<()> {
    // A statement that writes and that a job leaked in the middle would refuse every later COMMIT.
    ffi::reset_statements(core.tx.connection());
    if core.tx.connection().is_autocommit() { Ok(()) } else { core.tx.control().rollback() }
}

/// One job in a transaction of its own, which has `begun` or begins now.
fn run_alone(core: &mut Core, shared: &Shared, mut entry: Entry, begun: bool) -> Alone {
    let mut now = Instant::now();
    if now >= entry.task.deadline() {
        let _ = rollback(core);
        turn_away(shared, Some(entry), late());
        return Alone::Gone;
    }
    if !begun && let Err(error) = begin_again(core, shared) {
        let _ = rollback(core);
        if can_wait(shared, &entry) && entry.task.put_back() {
            return Alone::Back(entry);
        }
        turn_away(shared, Some(entry), error);
        return Alone::Gone;
    }
    if !entry.task.claim() {
        let _ = rollback(core);
        forget(shared, Some(entry));
        return Alone::Gone;
    }
    if !begun {
        now = Instant::now();
    }
    entry.waited(shared, now);
    let overruled = transact(core, shared, |tx| run_job(tx, shared, &entry));
    shared.counters.held(now, Instant::now());
    match overruled {
        Some(Overruled::ByTrouble(error)) => {
            blame(Some(&mut entry), &error);
            if !error.leaves_open() && can_wait(shared, &entry) {
                if entry.task.put_back() {
                    return Alone::Back(entry);
                }
                forget(shared, Some(entry));
                return Alone::Gone;
            }
            lose(shared, &entry, &error);
            entry.task.overrule(error);
        }
        Some(Overruled::ByJob(error)) => entry.task.overrule(error),
        None => {}
    }
    Alone::Done(entry)
}

/// Runs one job in the transaction that has begun, and ends it. Answers what overrules the job's own answer, if there
/// is something.
pub(super) fn transact(core: &mut Core, shared: &Shared, run: impl FnOnce(&Tx) -> Ran) -> Option<Overruled> {
    let ran = run(&core.tx);
    if let Some(met) = trouble_of_a_job(core, shared, ran) {
        let _ = rollback(core);
        return match met {
            Met::Trouble(error) => Some(Overruled::ByTrouble(error)),
            // What it answers itself.
            Met::Damage => None,
        };
    }
    if core.tx.connection().is_autocommit() {
        // Its own error says why, but for a full quota, which its statement met as a failed write, and the bound of the
        // database, which it met as a full disk. An answer that ignores it is not to be believed.
        return match ran {
            Ran::Fine => {
                Some(Error::new(ErrorKind::Constraint, "a statement rolled the whole transaction back"))
            }
            Ran::Failed => ffi::full_quota(core.tx.connection())
                .map(Error::from)
                .or_else(|| space::refusal(core, &shared.spec)),
            Ran::Panicked => None,
        }
        .map(Overruled::ByJob);
    }
    if ran != Ran::Fine {
        let _ = rollback(core);
        return None;
    }
    match end(core, shared) {
        Ok(()) => after_commit(core, shared, 1).map(Overruled::ByTrouble),
        Err(error) => {
            let violated = ffi::has_deferred_violations(core.tx.connection());
            let trouble = trouble_of_commit(core, shared, &error);
            let _ = rollback(core);
            Some(match trouble {
                Some(error) => Overruled::ByTrouble(error),
                None if violated => Overruled::ByJob(deferred_violation()),
                None => Overruled::ByJob(error.into()),
            })
        }
    }
}

fn run_job(tx: &Tx, shared: &Shared, entry: &Entry) -> Ran {
    // What waits without a deadline does not run without one.
    let deadline = match entry.keeps {
        Some(_) => entry.task.deadline().min(instant_after(shared.spec.limits.deadline)),
        None => entry.task.deadline(),
    };
    guarded(tx, shared, &entry.label, deadline, || entry.task.run(tx))
}

/// Runs a job's closure: marked, guarded, and shown on the status page.
pub(super) fn guarded(
    tx: &Tx,
    shared: &Shared,
    label: &Label,
    deadline: Instant,
    run: impl FnOnce() -> Ran,
) -> Ran {
    let _mark = InJob::mark();
    let _inside = tx.guard().enter(deadline);
    shared.job_started(label);
    let ran = run();
    shared.job_ended();
    ran
}

/// BEGIN IMMEDIATE, looking once a millisecond while somebody else holds the write lock. Jobs whose deadline passes
/// meanwhile are answered. The jobs of a best-effort database wait in the backlog.
fn begin(core: &mut Core, shared: &Shared, queue: &mut VecDeque<Entry>) -> Result<(), Error> {
    let mut looked_through = None;
    loop {
        let begun = try_begin(core, shared);
        shared.set_blocked(matches!(begun, Ok(false)));
        if begun? {
            core.blocked.had(shared);
            if looked_through.is_some() {
                shared.lanes.take(queue, shared.spec.limits.batch_jobs);
            }
            return Ok(());
        }
        stats::add(&shared.counters.busy_waits, 1);
        let now = Instant::now();
        let waited = core.blocked.waits(shared, now);
        let due = looked_through.is_none_or(|last| now.duration_since(last) >= LOOK_THROUGH_EVERY);
        if due {
            if looked_through.is_some() {
                shared.lanes.take(queue, usize::MAX);
            }
            answer_late(shared, queue, now);
            if queue.is_empty() {
                shared.set_blocked(false);
                return Err(late());
            }
            if shared.best_effort && waited >= IN_HAND {
                looked_through = Some(now);
                shared.give_back(queue);
            }
        }
        super::connect::pause();
    }
}

/// Answers the jobs of a queue that nobody waits for any more, or that closing leaves behind.
pub(super) fn answer_late(shared: &Shared, queue: &mut VecDeque<Entry>, now: Instant) {
    // Found out once for all that give up now.
    let mut why = None;
    for _ in 0..queue.len() {
        let Some(entry) = queue.pop_front() else { break };
        let in_time = now < entry.task.deadline();
        if in_time && !shared.gives_up() && !entry.task.is_over() {
            queue.push_back(entry);
            continue;
        }
        if in_time && !entry.task.is_over() {
            *shared.left.lock() += 1;
        }
        let error = why.get_or_insert_with(|| shared.late()).clone();
        turn_away(shared, Some(entry), error);
    }
}

/// The same for jobs that wait in the backlog.
pub(super) fn answer_late_in_backlog(shared: &Shared) {
    let mut queue = VecDeque::new();
    shared.lanes.take(&mut queue, usize::MAX);
    answer_late(shared, &mut queue, Instant::now());
    shared.give_back(&mut queue);
}

/// While nobody waits for the write lock: is it still somebody else's, and does writing still fail?
pub(super) fn look_at_lock(core: &mut Core, shared: &Shared) {
    match try_begin(core, shared) {
        Ok(true) => {
            let _ = rollback(core);
            core.blocked.had(shared);
            shared.set_unsettled(false);
            shared.health.recovered();
        }
        Ok(false) => drop(core.blocked.waits(shared, Instant::now())),
        // What it means for the database is in its health by now.
        Err(_) => {}
    }
}

/// BEGIN IMMEDIATE for a repeated attempt: the turn is still ours, so a short wait is enough.
pub(super) fn begin_again(core: &mut Core, shared: &Shared) -> Result<(), Error> {
    let until = super::clock::instant_after(shared.spec.limits.turn_wait);
    loop {
        match try_begin(core, shared)? {
            true => return Ok(()),
            false if Instant::now() >= until => return Err(shared.busy()),
            false => super::connect::pause(),
        }
    }
}

/// True when the transaction has begun, false when the write lock is taken.
///
/// # Errors
/// Of SQLite; `ReadOnly` or `SchemaTooNew` when a newer program has migrated it meanwhile; `Latched` when a write of another
/// process failed. No transaction is open then.
pub(super) fn try_begin(core: &mut Core, shared: &Shared) -> Result<bool, Error> {
    let failed = |error| latching(&error).map_or_else(|| error.into(), |error| shared.latch(error));
    if !core.tx.connection().is_autocommit() {
        // Whoever was here before died in the middle.
        rollback(core).map_err(failed)?;
    }
    match core.tx.control().begin() {
        Ok(()) => {}
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
            return Ok(false);
        }
        Err(error) => return Err(failed(error)),
    }
    let fit =
        if core.is_sound() { schema_watch::check(core, shared) } else { Err(shared.failed_elsewhere()) };
    if let Err(error) = fit {
        let _ = rollback(core);
        return Err(error);
    }
    Ok(true)
}

/// After a failed write or fsync nothing that this generation says can be believed: the kernel may have thrown the
/// pages away and forgotten the error.
pub(super) fn latching(error: &rusqlite::Error) -> Option<Error> {
    let extended = error.sqlite_error().map(|error| error.extended_code)?;
    let fatal = matches!(
        extended,
        code::SQLITE_IOERR_WRITE
            | code::SQLITE_IOERR_FSYNC
            | code::SQLITE_IOERR_DIR_FSYNC
            | code::SQLITE_IOERR_TRUNCATE
            | code::SQLITE_IOERR_SHMMAP
            | code::SQLITE_IOERR_DATA
    ) || extended & 0xff == code::SQLITE_CORRUPT
        || extended & 0xff == code::SQLITE_NOTADB;
    fatal.then(|| rusqlite::Error::SqliteFailure(code::Error::new(extended), None).into())
}

/// Latches when what was done last failed in a way that says so; a best-effort database is held back when there was no
/// room.
fn fatal(core: &mut Core, shared: &Shared) -> Option<Error> {
    let last = ffi::last_error(core.tx.connection())?;
    if let Some(error) = latching(&last) {
        return Some(shared.latch(error));
    }
    // The bound of the database is the job's own trouble, and passes with no waiting.
    if space::met(core, shared, &last) { None } else { no_room(core, shared, &last) }
}

/// Looks for trouble of the disk behind a job that ended its transaction; in a best-effort database behind any that
/// failed.
fn trouble_of_a_job(core: &mut Core, shared: &Shared, ran: Ran) -> Option<Met> {
    if ran == Ran::Failed
        && let Some(error) = damage_met(core)
    {
        // The file was found whole: what the job met is its own, a broken full-text table or index.
        if shared.suspicion.is_calm() {
            return None;
        }
        if !shared.best_effort {
            shared.suspect(error);
            return Some(Met::Damage);
        }
    }
    let suspect = core.tx.connection().is_autocommit() || (shared.best_effort && ran == Ran::Failed);
    if suspect { fatal(core, shared).map(Met::Trouble) } else { None }
}

/// What SQLite said last, if that is that what it read makes no sense.
fn damage_met(core: &Core) -> Option<Error> {
    let last = ffi::last_error(core.tx.connection())?;
    let found = last.sqlite_error()?.extended_code;
    suspicion::is_suspicious(found).then(|| last.into())
}

/// A full disk in a best-effort database: its jobs wait until there is room. Reads go on.
fn no_room(core: &mut Core, shared: &Shared, error: &rusqlite::Error) -> Option<Error> {
    let extended = error.sqlite_error().map(|error| error.extended_code)?;
    let full = extended & 0xff == code::SQLITE_FULL || extended == code::SQLITE_IOERR_SHMSIZE;
    (shared.best_effort && full).then(|| {
        let error: Error = rusqlite::Error::SqliteFailure(code::Error::new(extended), None).into();
        core.held_back = true;
        shared.degrade(error.clone());
        error
    })
}

/// A failed COMMIT may have reached the disk: its frames are valid, whoever recovers the log will find them.
fn unknown(shared: &Shared, error: Error) -> Error {
    let advice = if shared.best_effort {
        "look whether the change is there when the database is back"
    } else {
        "call reopen(), then look whether the change is there"
    };
    shared.latch(error).as_kind(ErrorKind::OutcomeUnknown).advise(advice)
}

fn late() -> Error {
    Error::new(ErrorKind::Timeout, "the deadline passed; nothing was done")
}

fn deferred_violation() -> Error {
    Error::new(ErrorKind::Constraint, "a deferred foreign key points to no row")
}

/// The end of a batch that met trouble: its jobs go back to the front of the queue, in order, or are answered.
fn give_up(
    shared: &Shared,
    batch: Vec<Option<Entry>>,
    error: &Error,
    queue: &mut VecDeque<Entry>,
    done: &mut Vec<Entry>,
) {
    let mut back = VecDeque::new();
    for entry in batch.into_iter().flatten() {
        if error.leaves_open() || !can_wait(shared, &entry) {
            lose(shared, &entry, error);
            entry.task.overrule(error.clone());
            done.push(entry);
        } else if entry.task.put_back() {
            back.push_back(entry);
        } else {
            forget(shared, Some(entry));
        }
    }
    back.append(queue);
    *queue = back;
}

/// The end of a batch one of whose jobs met damage: that one is answered, the others wait until it was looked into.
fn suspected(
    shared: &Shared,
    mut batch: Vec<Option<Entry>>,
    by: usize,
    queue: &mut VecDeque<Entry>,
    done: &mut Vec<Entry>,
) {
    done.extend(batch[by].take());
    let refusal = shared.health.refusal().unwrap_or_else(|| shared.busy());
    not_run(shared, batch.into_iter().flatten(), &not_done(refusal), queue);
}

/// What keeps a database from being written, as the answer of a job that was queued.
pub(super) fn not_done(refusal: Error) -> Error {
    let message = format!("{}; nothing was done", refusal.message());
    refusal.worded(message)
}

/// The same for jobs of which nothing counts whatever the error is: they were not run, or their batch was lost before.
fn not_run(
    shared: &Shared,
    entries: impl Iterator<Item = Entry>,
    error: &Error,
    queue: &mut VecDeque<Entry>,
) {
    let mut back = VecDeque::new();
    // What comes while it is opened anew waits, and so does what was here before; also for the verdict on damage.
    let passes = shared.health.is_attaching() || shared.suspicion.is_raised();
    let waits = passes && !shared.best_effort && shared.lanes.is_open();
    for entry in entries {
        if (waits || can_wait(shared, &entry)) && entry.task.put_back() {
            back.push_back(entry);
        } else {
            turn_away(shared, Some(entry), error.clone());
        }
    }
    back.append(queue);
    *queue = back;
}

/// The write transaction did not even begin.
fn hold_back(core: &mut Core, shared: &Shared, queue: &mut VecDeque<Entry>, error: &Error) {
    let entries = std::mem::take(queue);
    if shared.best_effort && !entries.is_empty() {
        core.held_back = true;
        shared.degrade(error.clone());
    }
    not_run(shared, entries.into_iter(), error, queue);
}

/// True for a job that may be dropped from the backlog, and so can wait there.
fn can_wait(shared: &Shared, entry: &Entry) -> bool {
    entry.keeps.is_some() && entry.tries < MOST_TRIES && shared.lanes.is_open()
}

/// This job was the one that met it. A lack of room or a lock is nobody's fault.
fn blame(entry: Option<&mut Entry>, error: &Error) {
    if let Some(entry) = entry
        && !error.is_transient()
    {
        entry.tries += 1;
    }
}

/// A job of the backlog that is answered although nothing of it was done is missing like one that was dropped.
fn lose(shared: &Shared, entry: &Entry, error: &Error) {
    if let (Some(bytes), false) = (entry.keeps, error.leaves_open()) {
        shared.count_dropped(bytes);
    }
}

/// Answers every job of a queue with an error: none of them was done.
pub(super) fn refuse(shared: &Shared, queue: &mut VecDeque<Entry>, error: &Error) {
    for entry in queue.drain(..) {
        turn_away(shared, Some(entry), error.clone());
    }
}

/// A job that was not done and will not be. False when its caller gave up before.
pub(super) fn turn_away(shared: &Shared, entry: Option<Entry>, error: Error) -> bool {
    let Some(entry) = entry else { return false };
    let _mark = InJob::mark();
    let refused = entry.task.refuse(error);
    if refused {
        shared.counted(0, 1);
        shared.drop_entry(entry);
    } else {
        forget(shared, Some(entry));
    }
    refused
}

/// A job whose caller gave up.
pub(super) fn forget(shared: &Shared, entry: Option<Entry>) {
    if let Some(entry) = entry {
        stats::add(&shared.counters.jobs_withdrawn, 1);
        shared.drop_entry(entry);
    }
}

/// A job whose answer is decided before the batch is.
fn settle(shared: &Shared, entry: Option<Entry>) {
    let Some(entry) = entry else { return };
    match shared.settle(entry) {
        Settled::Gone => stats::add(&shared.counters.jobs_withdrawn, 1),
        Settled::Fine | Settled::Failed => shared.counted(0, 1),
    }
}
