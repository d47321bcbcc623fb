//! Who has databases open, for those who need them alone.

use crate::error::{Error, ErrorKind, Result};
use crate::home::PreparedHome;
use crate::sqlite::holders::who::{self, DatabaseLock, DatabaseProcess};

/// Refuses, as far as the system tells, what is to be `done` to databases while somebody has one open; the lock that this
/// library's users keep does not depend on it.
///
/// # Errors
/// `Busy` naming who it is.
pub(crate) fn refuse_live(home: &PreparedHome, names: &[String], done: &str) -> Result<()> {
    refuse(home, names, done, |_| true)
}

/// The same for a process that has them open itself.
///
/// # Errors
/// As [`refuse_live`].
#[cfg(feature = "postgres")]
pub(crate) fn refuse_others(home: &PreparedHome, names: &[String], done: &str) -> Result<()> {
    refuse(home, names, done, |process| process.process.pid != std::process::id())
}

fn refuse(
    home: &PreparedHome,
    names: &[String],
    done: &str,
    counts: impl Fn(&DatabaseProcess) -> bool,
) -> Result<()> {
    for database in who::who(home, names.iter().cloned().collect()).databases {
        let uses = |process: &DatabaseProcess| {
            let init = |lock: &DatabaseLock| *lock == DatabaseLock::Init;
            // Only one that waits to open it, or this process itself, has to do with nothing but the init lock.
            process.open_files != Some(0) || !process.holds.iter().flatten().all(init)
        };
        if let Some(found) =
            database.processes.into_iter().flatten().find(|process| counts(process) && uses(process))
        {
            return Err(in_use(done)
                .in_database(&database.name, &database.path)
                .held_by(Some(found.process)));
        }
    }
    Ok(())
}

/// Somebody has the lock of a home. Who has a database open can be told; who only waits to attach one, cannot.
pub(crate) fn who_is_there(home: &PreparedHome, names: &[String], done: &str) -> Error {
    refuse_live(home, names, done).err().unwrap_or_else(|| in_use(done).at_path(home.path()))
}

fn in_use(done: &str) -> Error {
    Error::new(
        ErrorKind::Busy,
        format!("somebody has the database open, so it cannot be {done}; nothing was changed"),
    )
    .advise("stop that program and try again")
}
