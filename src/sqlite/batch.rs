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
//! Here is how jobs share a transaction; [`waiting`] begins one, [`transaction`] is what each goes through, [`trouble`] finds
//! out what an error means for the database, and [`answers`] what becomes of the jobs that were not done.
//!
//! Tests: `tests/batch_*.rs`, each against neighbours that must be unharmed; `tests/best_effort_comes_back.rs`.

mod answers;
mod transaction;
mod trouble;
mod waiting;

use std::collections::VecDeque;
use std::time::Instant;

use super::core::Core;
use super::entry::Entry;
use super::ffi;
use super::shared::Shared;
use super::stats;
use crate::error::Error;
use crate::handoff::job::{JobError, Ran};
use answers::{blame, can_wait, give_up, hold_back, late, lose, not_run, settle, suspected};
pub(super) use answers::{forget, not_done, refuse, turn_away};
pub(super) use transaction::{Overruled, begin_again, guarded, look_at_lock, rollback, transact, try_begin};
use transaction::{after_commit, deferred_violation, end, run_job, trouble_of_commit};
pub(super) use trouble::latching;
use trouble::{Met, fatal, trouble_of_a_job};
pub(super) use waiting::answer_late_in_backlog;
use waiting::begin;

/// How many batches use savepoints from the start after one that met a failure.
const WARY_BATCHES: u32 = 64;

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

fn lost(core: &mut Core, shared: &Shared, culprit: Option<usize>) -> Outcome {
    let fatal = fatal(core, shared);
    let _ = rollback(core);
    match fatal {
        Some(error) => Outcome::Fatal(error),
        None => Outcome::Lost(culprit),
    }
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
