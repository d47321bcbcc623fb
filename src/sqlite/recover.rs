//! Leaves the files that a database has open for those that are at its paths.
//!
//! Invariants:
//! 1. What was acknowledged and is only in files that are not at their paths any more is not let go of before it is in
//!    the main file, or in a copy in the home's `quarantine/`. Without room for the copy the connection stays open.
//! 2. A log that somebody removed is worked off into the main file only under the init lock, and only while nobody has
//!    begun a new one: who opens a database without a log waits for that lock (`connect`).
//! 3. A database whose main file is another one stays shut until somebody calls `reopen()`. One that only lost its log is
//!    opened again at once, and so is one whose file this library set aside because it was damaged.
//! 4. One to which a write of another process failed is opened again as soon as somebody has recovered it; reads go on
//!    meanwhile. After a failed write of this process it stays shut until somebody calls `reopen()`.
//!
//! Tests: `tests/p1_*`, `tests/p3_*`, `tests/p5_*`, `tests/replaced_file_is_noticed.rs`.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::batch;
use super::clock::instant_after;
use super::connect::{self, lock_until};
use super::core::Core;
use super::ffi;
use super::health::Health;
use super::identity::{Lost, Sidecars};
use super::latch;
use super::merge::{self, Merged};
use super::rescue::{self, Saved};
use super::shared::{Shared, warn};
use super::stats;
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::span;

/// How long a removed log is worked off before a copy is made instead: another process's read may keep it from being
/// done.
const LONGEST_WORK_OFF: Duration = Duration::from_secs(2);

/// How long a read under way is waited for before the files are opened anew.
const LONGEST_READ: Duration = Duration::from_secs(1);

/// How often what cannot be read is tried to be copied before it is left until somebody calls `reopen()`.
const MOST_COPIES: u32 = 3;

/// How long jobs and reads wait for a database to be recovered after a failed write, before they are refused or go on in
/// what was there.
const LONGEST_PROOF: Duration = Duration::from_secs(1);

/// What was found not to be ours any more, or not to be relied upon.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    File,
    Log,
    /// The files are ours, but a write of another process to them failed ([`latch`](super::latch)).
    Trust,
}

/// Called by the writer between two batches: looks after what was found lost.
pub(super) fn run(shared: &Shared) {
    let Some(loss) = shared.found_lost.lock().take() else { return };
    let _span = span!("recover", database = shared.spec.domain.name());
    let _opening = shared.opening.lock();
    if !shared.lanes.is_open() {
        return;
    }
    // Its user has to know of a failure of its own before it is opened again.
    let failed = shared.failed.load(Ordering::Relaxed);
    let deadline = instant_after(shared.spec.limits.deadline);
    let opens = !failed && (loss != Loss::File || is_in_quarantine(shared));
    let answer = match loss {
        Loss::Trust if failed => return,
        Loss::Trust => prove(shared, instant_after(LONGEST_PROOF))
            .and_then(|()| again(shared, deadline, Copying::Unbounded)),
        Loss::Log | Loss::File if opens => again(shared, deadline, Copying::Unbounded),
        Loss::Log | Loss::File => keep_copy(shared),
    };
    let Err(error) = answer else { return };
    if opens {
        // It stays shut, for this reason.
        shared.health.set(Health::Latched, Some(error.clone()));
        if let Some(slot) = &shared.slot {
            slot.set_latched(true);
        }
    }
    warn(&error);
    let passes = loss == Loss::Trust || may_pass(&error);
    if passes || shared.failed_copies.fetch_add(1, Ordering::Relaxed) < MOST_COPIES {
        // The next look tries again.
        *shared.found_lost.lock() = Some(loss);
    }
}

/// Closes every connection and opens the files that are there now.
pub(super) fn reopen(shared: &Shared, deadline: Instant) -> Result<()> {
    let Some(_opening) = shared.opening.try_lock_until(deadline) else {
        return Err(shared.name(Error::new(ErrorKind::Busy, "the database is still being opened")));
    };
    if !shared.lanes.is_open() {
        return Err(shared.name(Error::new(ErrorKind::Closed, "the database is closed")));
    }
    // When that fails it stays as it is.
    prove(shared, deadline).inspect_err(|_| stats::add(&shared.counters.opens_failed, 1))?;
    let answer = again(shared, deadline, Copying::By(deadline));
    match &answer {
        Ok(()) => {}
        Err(error) if shared.best_effort => shared.detach(error.clone()),
        // It stays shut, for this reason; opening it again may be tried again.
        Err(error) => shared.health.set(Health::Latched, Some(error.clone())),
    }
    answer
}

/// Has the database recovered after a failed write, if there was one, while everything is still open: what can be read is
/// read until the disk works again.
fn prove(shared: &Shared, deadline: Instant) -> Result<()> {
    let ours = match shared.gate.enter().as_mut() {
        Some(core) => {
            matches!(core.identity.check_now(core.tx.connection()), Ok(()) | Err(Lost::Unread(_)))
        }
        None => false,
    };
    if !ours {
        // What is at the paths is only touched after the old files were left.
        return Ok(());
    }
    match shared.spec.recover_latched(deadline) {
        // It is cut when nobody has it open any more.
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(()),
        answer => answer,
    }
}

fn again(shared: &Shared, deadline: Instant, copying: Copying) -> Result<()> {
    shared.health.set(Health::Attaching, None);
    leave(shared, deadline, copying)?;
    // What was found of the old files has been looked after; what is found of the new ones comes later.
    let found = shared.found_lost.lock().take();
    let failed = shared.failed.swap(false, Ordering::Relaxed);
    shared.attach(deadline).inspect_err(|_| {
        *shared.found_lost.lock() = found;
        shared.failed.store(failed, Ordering::Relaxed);
    })?;
    shared.failed_copies.store(0, Ordering::Relaxed);
    if let Some(slot) = &shared.slot {
        slot.set_latched(false);
    }
    let saved = shared.saved.lock().take();
    if let Some(saved) = saved {
        told(shared, &saved);
    }
    Ok(())
}

/// Closes the write connection for good. What was acknowledged and is only in files that are gone is kept first, also when
/// nobody had noticed yet.
pub(super) fn close(shared: &Shared) {
    let mut inside = shared.gate.enter();
    if let Some(core) = inside.as_mut() {
        match keep(shared, core, instant_after(shared.spec.limits.close_deadline), Copying::Last) {
            Ok(None) => {}
            Ok(Some(saved)) => warn(&format_args!(
                "{}: what its removed files held was copied to {}",
                shared.spec.domain.name(),
                saved.copy.display()
            )),
            Err(error) => warn(&shared.name(error)),
        }
    }
    if let Some(core) = inside.take() {
        core.close();
    }
}

/// Closes every connection, if there are any, so that the files at the paths now can be opened. Not from inside the gate;
/// the caller holds `opening`.
pub(super) fn leave(shared: &Shared, deadline: Instant, copying: Copying) -> Result<()> {
    let marks = shared.spec.generation.changing();
    shared.checkpointer.let_go();
    shared.checker.let_go();
    if let Err(error) = close_all(shared, deadline, copying) {
        // The write connection is still there.
        if let Some(marks) = marks {
            shared.spec.generation.attached(marks);
            shared.readers.open(&shared.spec);
        }
        return shared.spec.named(Err(error));
    }
    let mut left = shared.left_behind.lock();
    if let Some(old) = &*left {
        shared.spec.named(shared.spec.set_aside(old, deadline))?;
        *left = None;
    }
    Ok(())
}

fn close_all(shared: &Shared, deadline: Instant, copying: Copying) -> Result<()> {
    let mut inside = shared.gate.enter();
    shared.readers.close(deadline.min(instant_after(LONGEST_READ)));
    shared.changes.let_go();
    let kept = inside.as_mut().map_or(Ok(None), |core| keep(shared, core, deadline, copying));
    kept.map(|copy| {
        if copy.is_some() {
            // Until its rows are back, whatever fails on the way.
            *shared.saved.lock() = copy;
        }
        if let Some(old) = inside.take().and_then(Core::close_for_another) {
            *shared.left_behind.lock() = Some(old);
        }
    })
}

/// Closes every connection to files that are damaged: nothing of them is worked off, copied or set aside here. The caller
/// holds `opening`.
pub(super) fn let_go(shared: &Shared, deadline: Instant) {
    shared.spec.generation.changing();
    shared.checkpointer.let_go();
    shared.checker.let_go();
    let mut inside = shared.gate.enter();
    shared.readers.close(deadline.min(instant_after(LONGEST_READ)));
    shared.changes.let_go();
    drop(inside.take());
}

/// Says what became of a copy, after bringing its rows back where the domain wants that.
fn told(shared: &Shared, saved: &Saved) {
    // A schema that shuts this program out takes no rows of it.
    let wanted = saved.of_the_same_file && shared.spec.domain.merges_rescued && shared.health.is_writable();
    let merged = if wanted {
        let mut inside = shared.gate.enter();
        inside.as_mut().map_or(Ok(Merged::default()), |core| merge::merge(shared, core, &saved.copy))
    } else {
        Ok(Merged::default())
    };
    let path = saved.copy.display();
    let told = match merged {
        Ok(Merged { added: 0, other: 0, .. }) => format!("what its removed files held was copied to {path}"),
        Ok(merged) => format!(
            "what its removed files held was copied to {path}; {} rows were brought back, {} are another now",
            merged.added, merged.other
        ),
        Err(error) => {
            if latch::is_of_the_disk(&error) {
                shared.latch(error.clone());
            }
            format!(
                "what its removed files held was copied to {path}; its rows could not be brought back: {error}"
            )
        }
    };
    warn(&format_args!("{}: {told}", shared.spec.domain.name()));
    shared.health.warn(told);
}

/// Copies what a replaced file held, while it is still open.
fn keep_copy(shared: &Shared) -> Result<()> {
    let mut inside = shared.gate.enter();
    let Some(core) = inside.as_mut() else { return Ok(()) };
    let deadline = instant_after(shared.spec.limits.deadline);
    let kept = shared.spec.named(keep(shared, core, deadline, Copying::Unbounded))?;
    drop(inside);
    if let Some(saved) = kept {
        told(shared, &saved);
    }
    Ok(())
}

/// True when another process found the file damaged and set it aside: what replaces it is meant for this one too.
fn is_in_quarantine(shared: &Shared) -> bool {
    let inside = shared.gate.enter();
    inside.as_ref().is_some_and(|core| shared.spec.is_in_quarantine(core.identity.marks()))
}

/// How much is done for a copy of what removed files held.
#[derive(Clone, Copy)]
pub(super) enum Copying {
    /// As long as it takes, and tried again.
    Unbounded,
    /// As long as somebody waits for it. What cannot be read is let go of: they asked to go on.
    By(Instant),
    /// As long as it takes. There is no other time.
    Last,
}

/// Sees to it that nothing is only in files that are gone: answers the copy, where one had to be made. What a best-effort
/// database loses is lost.
fn keep(shared: &Shared, core: &mut Core, deadline: Instant, copying: Copying) -> Result<Option<Saved>> {
    // A transaction that its job left half done must not be part of the copy.
    let rolled_back = batch::rollback(core);
    let lost = core.identity.check_now(core.tx.connection());
    if shared.best_effort {
        if matches!(lost, Err(Lost::Log(_)))
            && let Err(error) = brought_home(shared, core, deadline)
        {
            warn(&shared.name(error));
        }
        return Ok(None);
    }
    rolled_back?;
    let (why, of_the_same_file) = match lost {
        // Of what is damaged, whoever sets it right reads all there is; of what is in quarantine that has been done.
        Ok(()) | Err(Lost::Damaged(_) | Lost::Unread(_)) => return Ok(None),
        Err(Lost::File(_)) if core.copied || shared.spec.is_in_quarantine(core.identity.marks()) => {
            return Ok(None);
        }
        Err(Lost::Log(_)) if brought_home(shared, core, deadline)? => return Ok(None),
        Err(Lost::File(why)) => (why, false),
        Err(Lost::Log(why)) => (why, true),
    };
    let until = match copying {
        Copying::By(until) => until,
        Copying::Unbounded | Copying::Last => instant_after(Duration::MAX),
    };
    match rescue::save(&shared.spec, core, &why, of_the_same_file, until) {
        Ok(saved) => {
            core.copied = true;
            Ok(Some(saved))
        }
        Err(error) if matches!(copying, Copying::By(_)) && !may_pass(&error) => {
            shared.health.warn(format!("what its removed files held could not be copied: {error}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// True for what ends by itself, or what somebody can end: then what the files held is still to be had.
fn may_pass(error: &Error) -> bool {
    use ErrorKind::{Busy, Full, ReadOnly, Timeout};
    matches!(error.kind(), Busy | Full | ReadOnly | Timeout)
}

/// True when what was in the removed log is in the main file, or is kept elsewhere. Under the init lock, which is not kept for a copy: that may
/// take long, and needs nothing that others could change.
fn brought_home(shared: &Shared, core: &Core, deadline: Instant) -> Result<bool> {
    let _lock = lock_until(&shared.spec.init_lock, deadline)?;
    // The log may have gone first, on its way into quarantine with all that is in it.
    Ok(shared.spec.is_in_quarantine(core.identity.marks())
        || is_worked_off(core)?
        || (nobody_began_anew(shared, core) && work_off(shared, core)?))
}

fn is_worked_off(core: &Core) -> Result<bool> {
    let found = ffi::checkpoint_noop(core.tx.connection())?;
    Ok(found.done >= found.log)
}

/// True when at the paths of the log and its index there is nothing, or still our own.
fn nobody_began_anew(shared: &Shared, core: &Core) -> bool {
    let (found, own) = (Sidecars::of(&shared.spec.path), core.identity.marks().sidecars);
    let fits = |found: Option<u64>, own| found.is_none() || found == own;
    fits(found.wal, own.wal) && fits(found.shm, own.shm)
}

/// Works the removed log off into the main file. False when somebody's read keeps it from being done, and after a failed
/// write: then a copy is made, for a second try would be told that all is well.
fn work_off(shared: &Shared, core: &Core) -> Result<bool> {
    let until = instant_after(LONGEST_WORK_OFF);
    loop {
        if let Err(error) = ffi::checkpoint_passive(core.tx.connection()).map_err(Error::from) {
            if !latch::is_of_the_disk(&error) {
                return Err(error);
            }
            shared.spec.latch.raise();
            return Ok(false);
        }
        if is_worked_off(core)? {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        connect::pause();
    }
}
