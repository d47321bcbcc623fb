//! Damage that was met while the database was open: is it so, and then what.
//!
//! Invariants:
//! 1. One bad answer of SQLite moves nothing: the writer looks at the whole file with a connection of its own, off the hot
//!    path. A query that fails over a broken full-text table or an index leaves the database as it is.
//! 2. Nothing is written between a job that met damage and the verdict. Reads go on.
//! 3. A file that was not found damaged is not looked at again for a while, however often a query fails.
//! 4. The database comes back by itself, with the new file, in every process that has it open.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, ffi};

use super::{Place, emptied, is_damage};
use crate::domain::OnDamage;
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::clock::instant_after;
use crate::sqlite::connect::Patience;
use crate::sqlite::generation::User;
use crate::sqlite::health::Health;
use crate::sqlite::identity::Lost;
use crate::sqlite::recover::{self, Loss};
use crate::sqlite::shared::{Shared, warn};

/// How long the look at the whole file may take. Of a file that needs longer, what was looked at counts.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// How often damage that such a look did not reach is met before it is believed.
const MOST_UNSURE: u32 = 3;
/// How often it is looked whether a backup has ended.
const VISITS_LOOK: Duration = Duration::from_millis(20);
/// For how long a file that was not found damaged is not looked at again.
const CALM: Duration = Duration::from_mins(1);

/// What was met, and what earlier looks said.
#[derive(Default)]
pub(in crate::sqlite) struct Suspicion {
    met: Mutex<Option<Error>>,
    unsure: AtomicU32,
    looked: Mutex<Option<Instant>>,
}

impl Suspicion {
    /// To be looked into by the writer.
    pub(in crate::sqlite) fn raise(&self, error: Error) {
        self.met.lock().get_or_insert(error);
    }

    /// True while something is to be looked into.
    pub(in crate::sqlite) fn is_raised(&self) -> bool {
        self.met.lock().is_some()
    }

    /// It was met twice by connections of their own: a look that takes too long for a verdict is not needed.
    pub(in crate::sqlite) fn confirm(&self) {
        self.unsure.store(MOST_UNSURE, Ordering::Relaxed);
    }

    /// True while a look just now did not find the file damaged.
    pub(in crate::sqlite) fn is_calm(&self) -> bool {
        self.looked.lock().is_some_and(|at| at.elapsed() < CALM)
    }
}

/// True for every code by which SQLite says that something it read makes no sense.
pub(in crate::sqlite) fn is_suspicious(code: i32) -> bool {
    matches!(code & 0xFF, ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB)
}

/// What a look at a whole file said.
pub(super) enum Verdict {
    Whole,
    /// It took too long.
    Unsure,
    /// It is not what SQLite wrote there.
    Damaged(String),
}

/// Has SQLite check the structure of the whole file, until `until`. Values that a schema does not allow are no damage, nor
/// is a broken virtual table.
///
/// # Errors
/// Of SQLite, when it is not about damage.
pub(super) fn check(connection: &Connection, until: Option<Instant>) -> Result<Verdict> {
    const OPERATIONS: std::ffi::c_int = 1000;
    connection.progress_handler(OPERATIONS, until.map(|until| move || Instant::now() >= until))?;
    let verdict = read_check(connection);
    connection.progress_handler(0, None::<fn() -> bool>)?;
    match verdict {
        Ok(true) => Ok(Verdict::Whole),
        Ok(false) => Ok(Verdict::Damaged("SQLite's check finds it malformed".to_owned())),
        Err(error) if error.sqlite_code() == Some(ffi::SQLITE_INTERRUPT) => Ok(Verdict::Unsure),
        Err(error) if is_damage(&error) => Ok(Verdict::Damaged(error.message().to_owned())),
        Err(error) => Err(error),
    }
}

fn read_check(connection: &Connection) -> Result<bool> {
    let mut statement = connection.prepare("PRAGMA quick_check(1000)")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let told: String = row.get(0)?;
        // So SQLite begins what it says about pages and trees, in contrast to values and virtual tables.
        if told.starts_with("*** in database") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Called by the writer between two batches: looks into what was met.
pub(in crate::sqlite) fn run(shared: &Shared) {
    let Some(met) = shared.suspicion.met.lock().take() else { return };
    let refuses = shared.spec.domain.damage_policy() == OnDamage::Refuse;
    if !shared.lanes.is_open() || (refuses && shared.best_effort) {
        return;
    }
    let _opening = shared.opening.lock();
    let Some(looked_at) = still_ours(shared) else { return };
    let own = &shared.suspicion;
    let error = match look(shared) {
        Ok(Verdict::Damaged(found)) => Error::new(ErrorKind::Corrupt, found),
        // A broken virtual table is met again and again, and is no damage of the file.
        Ok(Verdict::Unsure)
            if is_damage(&met) && own.unsure.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_UNSURE =>
        {
            met
        }
        Err(error) if is_damage(&error) => error,
        answer => {
            if matches!(answer, Ok(Verdict::Whole | Verdict::Unsure)) {
                *own.looked.lock() = Some(Instant::now());
            }
            if matches!(answer, Ok(Verdict::Whole)) {
                own.unsure.store(0, Ordering::Relaxed);
            }
            shared.suspicion_passed();
            return;
        }
    };
    // Another file may have come into its place during that look.
    if still_ours(shared) != Some(looked_at) {
        return;
    }
    own.unsure.store(0, Ordering::Relaxed);
    if refuses {
        shared.refuse_damaged(&error);
        return;
    }
    if !wait_for_visits(shared, &error) {
        return;
    }
    if let Err(error) = set_right(shared, looked_at, &error) {
        warn(&error);
        if shared.best_effort {
            shared.detach(error);
        } else {
            let passes = error.kind() != ErrorKind::SchemaTooNew;
            shared.health.set(Health::Latched, Some(error));
            // The next look tries again, where trying helps.
            *shared.found_lost.lock() = passes.then_some(Loss::Log);
        }
    }
}

/// The file that is open. `None` when another one is at its path, or its log is gone: then that is what happened, and what
/// the open files hold is looked after.
fn still_ours(shared: &Shared) -> Option<Place> {
    let mut inside = shared.gate.enter();
    let Some(core) = inside.as_mut() else { return Place::of(&shared.spec.path) };
    match core.identity.check_now(core.tx.connection()) {
        Ok(()) | Err(Lost::Damaged(_) | Lost::Unread(_)) => core.identity.marks().place,
        Err(lost @ (Lost::File(_) | Lost::Log(_))) => {
            drop(inside);
            shared.lost(lost);
            None
        }
    }
}

fn look(shared: &Shared) -> Result<Verdict> {
    if std::fs::symlink_metadata(&shared.spec.path).is_ok_and(|found| found.len() == 0) {
        // SQLite would delete the log beside it.
        return Err(emptied());
    }
    let _patience = Patience::until(instant_after(LONGEST_LOOK));
    let connection = shared.spec.connect_anew(OpenFlags::SQLITE_OPEN_READ_ONLY, User::Read)?;
    check(&connection, Some(instant_after(LONGEST_LOOK)))
}

/// A backup or maintenance of this process goes on in files that are still at their paths. Nothing is written meanwhile; what
/// can be read is read. False when it takes too long, which is looked into again, or the database is closed.
fn wait_for_visits(shared: &Shared, error: &Error) -> bool {
    if !shared.spec.generation.is_visited() {
        return true;
    }
    shared.suspect(error.clone());
    let until = instant_after(shared.spec.limits.deadline);
    while shared.spec.generation.is_visited() {
        if !shared.lanes.is_open() || Instant::now() >= until {
            return false;
        }
        shared.lanes.wait_closed(instant_after(VISITS_LOOK));
    }
    shared.suspicion.met.lock().take();
    true
}

fn set_right(shared: &Shared, looked_at: Place, error: &Error) -> Result<()> {
    let deadline = instant_after(shared.spec.limits.deadline);
    shared.quarantine(error);
    recover::let_go(shared, deadline);
    let report = shared.spec.named(shared.spec.make_room_for(looked_at, error, deadline))?;
    shared.attach(deadline)?;
    if let Some(report) = report {
        shared.tell_damage(report);
    }
    Ok(())
}
