//! One write transaction from BEGIN to what follows COMMIT, whoever runs in it.
//!
//! Invariants:
//! 1. A transaction begins only in a database whose schema fits and which nobody failed to write.
//! 2. COMMIT counts only when it has returned, the database is still sound and its files are still ours.

use std::sync::atomic::Ordering;
use std::time::Instant;

use rusqlite::ffi as code;

use super::trouble::{Met, latching, no_room, trouble_of_a_job, unknown};
use crate::domain::Durability;
use crate::error::{Error, ErrorKind};
use crate::handoff::job::Ran;
use crate::sqlite::clock::instant_after;
use crate::sqlite::connect;
use crate::sqlite::core::Core;
use crate::sqlite::entry::Entry;
use crate::sqlite::ffi;
use crate::sqlite::guard::InJob;
use crate::sqlite::label::Label;
use crate::sqlite::schema_watch;
use crate::sqlite::shared::Shared;
use crate::sqlite::space;
use crate::sqlite::stats;
use crate::sqlite::tx::Tx;

/// Of commits that no disk is waited for, one in so many is timed: looking at the clock twice costs a hundredth of one.
const TIMED_COMMITS: u64 = 16;
/// What a page takes in the write-ahead log (<https://sqlite.org/fileformat2.html#walformat>).
const LOGGED_PAGE: u64 = 4096 + 24;

/// What overrules a job's own answer.
pub(in crate::sqlite) enum Overruled {
    /// What the job did.
    ByJob(Error),
    /// As [`Outcome::Fatal`](super::Outcome).
    ByTrouble(Error),
}

/// BEGIN IMMEDIATE for a repeated attempt: the turn is still ours, so a short wait is enough.
pub(in crate::sqlite) fn begin_again(core: &mut Core, shared: &Shared) -> Result<(), Error> {
    let until = instant_after(shared.spec.limits.turn_wait);
    loop {
        match try_begin(core, shared)? {
            true => return Ok(()),
            false if Instant::now() >= until => return Err(shared.busy()),
            false => connect::pause(),
        }
    }
}

/// True when the transaction has begun, false when the write lock is taken.
///
/// # Errors
/// Of SQLite; `ReadOnly` or `SchemaTooNew` when a newer program has migrated it meanwhile; `Latched` when a write of another
/// process failed. No transaction is open then.
pub(in crate::sqlite) fn try_begin(core: &mut Core, shared: &Shared) -> Result<bool, Error> {
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

/// While nobody waits for the write lock: is it still somebody else's, and does writing still fail?
pub(in crate::sqlite) fn look_at_lock(core: &mut Core, shared: &Shared) {
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

/// Runs one job in the transaction that has begun, and ends it. Answers what overrules the job's own answer, if there
/// is something.
pub(in crate::sqlite) fn transact(
    core: &mut Core,
    shared: &Shared,
    run: impl FnOnce(&Tx) -> Ran,
) -> Option<Overruled> {
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

pub(super) fn run_job(tx: &Tx, shared: &Shared, entry: &Entry) -> Ran {
    // What waits without a deadline does not run without one.
    let deadline = match entry.keeps {
        Some(_) => entry.task.deadline().min(instant_after(shared.spec.limits.deadline)),
        None => entry.task.deadline(),
    };
    guarded(tx, shared, &entry.label, deadline, || entry.task.run(tx))
}

/// Runs a job's closure: marked, guarded, and shown on the status page.
pub(in crate::sqlite) fn guarded(
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

/// COMMIT, timed where that costs next to nothing.
pub(super) fn end(core: &Core, shared: &Shared) -> rusqlite::Result<()> {
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
pub(super) fn end_untimed(core: &Core) -> rusqlite::Result<()> {
    match core.tx.control().commit() {
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
            ffi::reset_statements(core.tx.connection());
            core.tx.control().commit()
        }
        ended => ended,
    }
}

/// The trouble of the disk behind a failed COMMIT. The log's index grows after the last frame was written: when there
/// is no room for that, a best-effort database cannot know that nothing was committed, and is attached again to find out
/// what counts.
pub(super) fn trouble_of_commit(core: &mut Core, shared: &Shared, error: &rusqlite::Error) -> Option<Error> {
    let failure = error.sqlite_error()?;
    let no_index = shared.best_effort && failure.extended_code == code::SQLITE_IOERR_SHMSIZE;
    let open = || no_index.then(|| rusqlite::Error::SqliteFailure(*failure, None).into());
    match latching(error).or_else(open) {
        Some(error) => Some(unknown(shared, error)),
        None => no_room(core, shared, error),
    }
}

/// What follows every COMMIT of so many jobs before anybody is told. Answers the error when the file is not ours any more.
pub(super) fn after_commit(core: &mut Core, shared: &Shared, jobs: usize) -> Option<Error> {
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

pub(in crate::sqlite) fn rollback(core: &Core) -> rusqlite::Result<()> {
    // A statement that writes and that a job leaked in the middle would refuse every later COMMIT.
    ffi::reset_statements(core.tx.connection());
    if core.tx.connection().is_autocommit() { Ok(()) } else { core.tx.control().rollback() }
}

pub(super) fn deferred_violation() -> Error {
    Error::new(ErrorKind::Constraint, "a deferred foreign key points to no row")
}
