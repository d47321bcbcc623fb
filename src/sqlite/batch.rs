//! Runs jobs that share a commit, and finds who is to blame when they cannot.
//!
//! Invariants:
//! 1. A job's effects are committed whole or not at all, whatever its neighbours do.
//! 2. Nothing is acknowledged before COMMIT has returned and the file is still ours.
//! 3. When the transaction is lost (a job ended it, COMMIT failed), every job runs again, also those that answered an
//!    error: it may have been an artefact of a neighbour. Only a job that panicked keeps its answer. First all but
//!    the culprit as one batch, then one by one.
//! 4. A job that cannot be blamed never gets somebody else's error.
//!
//! A batch first runs without savepoints, which cost as much as a small insert. The first job that fails ends that
//! attempt: it is rolled back and run again with a savepoint around each job. A batch that met a failure makes the
//! next ones wary: they use savepoints from the start.
//!
//! Tests: `tests/batch_*.rs`, each against neighbours that must be unharmed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use rusqlite::ffi as code;

use super::core::Core;
use super::ffi;
use super::guard::InJob;
use super::label::Label;
use super::schema_watch;
use super::shared::Shared;
use super::stats;
use super::tx::Tx;
use crate::error::{Error, ErrorKind};
use crate::handoff::job::{Ran, Task};
use crate::handoff::lanes::Lane;

/// How many batches use savepoints from the start after one that met a failure.
const WARY_BATCHES: u32 = 64;

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
    /// A write or fsync failed, or the file was replaced. Nothing is known, nothing is run again.
    Fatal(Error),
}

/// Runs one batch from the front of `queue`; answers the jobs whose fate is decided, to be settled in this order.
pub(super) fn run(core: &mut Core, shared: &Shared, queue: &mut VecDeque<Entry>) -> Vec<Entry> {
    let mut done = Vec::new();
    if let Err(error) = begin(core, shared, queue) {
        refuse(shared, queue, &error);
        return done;
    }
    let together = queue.iter().take_while(|entry| !entry.alone).count().min(shared.spec.limits.batch_jobs);
    if together <= 1 {
        let Some(entry) = queue.pop_front() else {
            let _ = rollback(core);
            return done;
        };
        done.extend(run_alone(core, shared, entry, true));
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
        Outcome::Fatal(error) => settle_unknown(batch.into_iter().flatten(), &error, &mut done),
        Outcome::Lost(culprit) => {
            core.wary = WARY_BATCHES;
            stats::add(&shared.counters.batches_retried, 1);
            recover(core, shared, batch, culprit, &mut done);
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
    culprit: Option<usize>,
    done: &mut Vec<Entry>,
) {
    let known = culprit.is_some();
    // One that panicked is settled, and gone from the batch.
    let culprit = culprit.and_then(|at| batch[at].take());
    let outcome = if known && batch.iter().flatten().count() > 1 {
        again(core, shared, &mut batch)
    } else {
        Outcome::Lost(None)
    };
    match outcome {
        Outcome::Committed => done.extend(batch.into_iter().flatten()),
        Outcome::Fatal(error) => {
            settle_unknown(batch.into_iter().flatten().chain(culprit), &error, done);
            return;
        }
        Outcome::Lost(_) | Outcome::Unprotected => {
            for entry in batch.into_iter().flatten() {
                done.extend(run_alone(core, shared, entry, false));
            }
        }
    }
    if let Some(culprit) = culprit {
        done.extend(run_alone(core, shared, culprit, false));
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
    let mut looked_at = 0;
    #[allow(clippy::needless_range_loop)] // entries are taken out of the batch on the way
    for at in 0..batch.len() {
        let now = Instant::now();
        if bounded && at > 0 && now - started > shared.spec.limits.batch_time {
            break;
        }
        looked_at = at + 1;
        let Some(entry) = &batch[at] else { continue };
        if now >= entry.task.deadline() {
            turn_away(shared, batch[at].take(), late());
            continue;
        }
        if !entry.task.claim() {
            forget(shared, batch[at].take());
            continue;
        }
        if savepoints && core.tx.control().savepoint().is_err() {
            return (lost(core, shared, None), looked_at);
        }
        let ran = run_job(&core.tx, shared, entry);
        let connection = core.tx.connection();
        if connection.is_autocommit() {
            if let Some(error) = fatal(core, shared) {
                return (Outcome::Fatal(error), looked_at);
            }
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
    (commit(core, shared), looked_at)
}

/// COMMIT, also over a statement that writes and that a job leaked in the middle.
fn end(core: &Core) -> rusqlite::Result<()> {
    match core.tx.control().commit() {
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
            ffi::reset_statements(core.tx.connection());
            core.tx.control().commit()
        }
        ended => ended,
    }
}

/// COMMIT, and what follows it.
fn commit(core: &mut Core, shared: &Shared) -> Outcome {
    match end(core) {
        Ok(()) => after_commit(core, shared).map_or(Outcome::Committed, Outcome::Fatal),
        Err(error) => match latching(&error) {
            Some(error) => {
                let _ = rollback(core);
                Outcome::Fatal(unknown(shared.latch(error)))
            }
            None => lost(core, shared, None),
        },
    }
}

/// What follows every COMMIT before anybody is told. Answers the error when the file is not ours any more.
fn after_commit(core: &mut Core, shared: &Shared) -> Option<Error> {
    stats::add(&shared.counters.commits, 1);
    core.schema.committed(core.tx.connection());
    // A statement that a job leaked would pin its snapshot.
    if ffi::in_transaction(core.tx.connection()) {
        ffi::reset_statements(core.tx.connection());
    }
    core.identity.check(&shared.spec.path, core.tx.connection()).err().map(|error| shared.latch(error))
}

fn lost(core: &mut Core, shared: &Shared, culprit: Option<usize>) -> Outcome {
    let fatal = fatal(core, shared);
    let _ = rollback(core);
    match fatal {
        Some(error) => Outcome::Fatal(error),
        None => Outcome::Lost(culprit),
    }
}

fn rollback(core: &Core) -> rusqlite::Result<()> {
    // A statement that writes and that a job leaked in the middle would refuse every later COMMIT.
    ffi::reset_statements(core.tx.connection());
    if core.tx.connection().is_autocommit() { Ok(()) } else { core.tx.control().rollback() }
}

/// One job in a transaction of its own, which has `begun` or begins now. Its answer is decided when this returns;
/// `None` when it was not run.
fn run_alone(core: &mut Core, shared: &Shared, entry: Entry, begun: bool) -> Option<Entry> {
    let ready = match () {
        () if Instant::now() >= entry.task.deadline() => Err(late()),
        () if begun => Ok(()),
        () => begin_again(core, shared),
    };
    if let Err(error) = ready {
        let _ = rollback(core);
        turn_away(shared, Some(entry), error);
        return None;
    }
    if !entry.task.claim() {
        let _ = rollback(core);
        forget(shared, Some(entry));
        return None;
    }
    if let Some(error) = transact(core, shared, |tx| run_job(tx, shared, &entry)) {
        entry.task.overrule(error);
    }
    Some(entry)
}

/// Runs one job in the transaction that has begun, and ends it. Answers the error that overrules the job's own
/// answer, if there is one.
pub(super) fn transact(core: &mut Core, shared: &Shared, run: impl FnOnce(&Tx) -> Ran) -> Option<Error> {
    let ran = run(&core.tx);
    if core.tx.connection().is_autocommit() {
        if let Some(error) = fatal(core, shared) {
            return Some(error);
        }
        // Its own error says why; an answer that ignores it is not to be believed.
        return (ran == Ran::Fine)
            .then(|| Error::new(ErrorKind::Constraint, "a statement rolled the whole transaction back"));
    }
    if ran != Ran::Fine {
        let _ = rollback(core);
        return None;
    }
    match end(core) {
        Ok(()) => after_commit(core, shared),
        Err(error) => {
            let violated = ffi::has_deferred_violations(core.tx.connection());
            let _ = rollback(core);
            match latching(&error) {
                Some(error) => Some(unknown(shared.latch(error))),
                None if violated => Some(deferred_violation()),
                None => Some(error.into()),
            }
        }
    }
}

fn run_job(tx: &Tx, shared: &Shared, entry: &Entry) -> Ran {
    guarded(tx, shared, &entry.label, entry.task.deadline(), || entry.task.run(tx))
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
/// meanwhile are answered.
fn begin(core: &mut Core, shared: &Shared, queue: &mut VecDeque<Entry>) -> Result<(), Error> {
    loop {
        let begun = try_begin(core, shared);
        shared.set_blocked(matches!(begun, Ok(false)));
        if begun? {
            return Ok(());
        }
        stats::add(&shared.counters.busy_waits, 1);
        let now = Instant::now();
        // Found out once for all that give up now.
        let mut busy = None;
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
            let error = busy.get_or_insert_with(|| shared.busy()).clone();
            turn_away(shared, Some(entry), error);
        }
        if queue.is_empty() {
            shared.set_blocked(false);
            return Err(late());
        }
        super::connect::pause();
    }
}

/// BEGIN IMMEDIATE for a repeated attempt: the turn is still ours, so a short wait is enough.
fn begin_again(core: &mut Core, shared: &Shared) -> Result<(), Error> {
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
/// Of SQLite; `ReadOnly` or `SchemaTooNew` when a newer program has migrated it meanwhile. No transaction is open then.
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
    if let Err(error) = schema_watch::check(core, shared) {
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

/// Latches when the statement that ended the transaction failed in a way that says so.
fn fatal(core: &Core, shared: &Shared) -> Option<Error> {
    let last = ffi::last_error(core.tx.connection())?;
    latching(&last).map(|error| shared.latch(error))
}

/// A failed COMMIT may have reached the disk: its frames are valid, whoever recovers the log will find them.
fn unknown(error: Error) -> Error {
    error.as_kind(ErrorKind::OutcomeUnknown).advise("call reopen(), then look whether the change is there")
}

fn late() -> Error {
    Error::new(ErrorKind::Timeout, "the deadline passed; nothing was done")
}

fn deferred_violation() -> Error {
    Error::new(ErrorKind::Constraint, "a deferred foreign key points to no row")
}

/// Nobody knows whether the commit is durable.
fn settle_unknown(entries: impl Iterator<Item = Entry>, error: &Error, done: &mut Vec<Entry>) {
    for entry in entries {
        entry.task.overrule(error.clone());
        done.push(entry);
    }
}

/// Answers every job of a queue with an error: none of them was done.
pub(super) fn refuse(shared: &Shared, queue: &mut VecDeque<Entry>, error: &Error) {
    for entry in queue.drain(..) {
        turn_away(shared, Some(entry), error.clone());
    }
}

/// A job that was not done and will not be.
fn turn_away(shared: &Shared, entry: Option<Entry>, error: Error) {
    let Some(entry) = entry else { return };
    let _mark = InJob::mark();
    if entry.task.refuse(error) {
        shared.counted(0, 1);
        shared.drop_entry(entry);
    } else {
        forget(shared, Some(entry));
    }
}

/// A job whose caller gave up.
fn forget(shared: &Shared, entry: Option<Entry>) {
    if let Some(entry) = entry {
        stats::add(&shared.counters.jobs_withdrawn, 1);
        shared.drop_entry(entry);
    }
}

/// A job whose answer is decided before the batch is.
fn settle(shared: &Shared, entry: Option<Entry>) {
    if let Some(entry) = entry {
        shared.settle(entry);
    }
}
