//! What SQLite's errors mean for the database, beyond the job that met them.

use rusqlite::ffi as code;

use crate::error::{Error, ErrorKind};
use crate::handoff::job::Ran;
use crate::sqlite::core::Core;
use crate::sqlite::damage::suspicion;
use crate::sqlite::ffi;
use crate::sqlite::shared::Shared;
use crate::sqlite::space;

/// What a job met that is more than its own trouble.
pub(super) enum Met {
    /// As [`Outcome::Fatal`](super::Outcome).
    Trouble(Error),
    /// As [`Outcome::Suspected`](super::Outcome).
    Damage,
}

/// After a failed write or fsync nothing that this generation says can be believed: the kernel may have thrown the
/// pages away and forgotten the error.
pub(in crate::sqlite) fn latching(error: &rusqlite::Error) -> Option<Error> {
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
pub(super) fn fatal(core: &mut Core, shared: &Shared) -> Option<Error> {
    let last = ffi::last_error(core.tx.connection())?;
    if let Some(error) = latching(&last) {
        return Some(shared.latch(error));
    }
    // The bound of the database is the job's own trouble, and passes with no waiting.
    if space::met(core, shared, &last) { None } else { no_room(core, shared, &last) }
}

/// Looks for trouble of the disk behind a job that ended its transaction; in a best-effort database behind any that
/// failed.
pub(super) fn trouble_of_a_job(core: &mut Core, shared: &Shared, ran: Ran) -> Option<Met> {
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
pub(super) fn damage_met(core: &Core) -> Option<Error> {
    let last = ffi::last_error(core.tx.connection())?;
    let found = last.sqlite_error()?.extended_code;
    suspicion::is_suspicious(found).then(|| last.into())
}

/// A full disk in a best-effort database: its jobs wait until there is room. Reads go on.
pub(super) fn no_room(core: &mut Core, shared: &Shared, error: &rusqlite::Error) -> Option<Error> {
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
pub(super) fn unknown(shared: &Shared, error: Error) -> Error {
    let advice = if shared.best_effort {
        "look whether the change is there when the database is back"
    } else {
        "call reopen(), then look whether the change is there"
    };
    shared.latch(error).as_kind(ErrorKind::OutcomeUnknown).advise(advice)
}
