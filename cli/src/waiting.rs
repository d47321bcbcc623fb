//! Who is in the way, said while a change waits: a write waits up to 30 s, and nobody should wonder for so long.
//!
//! Invariants: what is said goes to standard error, once; who is never waited for is never looked for.
//!
//! Tests: `cli/tests/threads_changing.rs`.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rowhouse::{DatabaseLock, ErrorKind, Home, Runtime, RuntimeDbRegistry};

use crate::output;

/// A change that takes longer waits for somebody.
const AFTER: Duration = Duration::from_secs(1);

/// Does it, and says who has this database locked when it takes long.
pub(crate) fn telling_who<T>(home: &Home, database: &str, work: impl FnOnce() -> T) -> T {
    let (working, done) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if done.recv_timeout(AFTER) == Err(RecvTimeoutError::Timeout) {
                tell(home, database);
            }
        });
        // Dropped with the work's end, also when it panics: then nobody waits for the second to pass.
        let _working = working;
        work()
    })
}

/// Waits, up to the deadline of a write, until this database can be written, before work that waits only a moment for it.
/// One on a server is waited for by each write.
///
/// # Errors
/// `Busy` naming who has it locked; the engine's.
pub(crate) fn until_free(home: &Home, runtime: &Runtime, database: &str) -> rowhouse::Result<()> {
    match runtime.database(database) {
        Ok(found) => telling_who(home, database, || found.write(|_| Ok(()))),
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(()),
        Err(error) => Err(error),
    }
}

fn tell(home: &Home, database: &str) {
    let found = RuntimeDbRegistry::new(home).who_has(database);
    let processes =
        found.into_iter().flat_map(|found| found.databases).filter_map(|one| one.processes).flatten();
    let own = std::process::id();
    let writes = processes
        .filter(|user| user.process.pid != own)
        .find(|user| user.holds.as_ref().is_some_and(|holds| holds.contains(&DatabaseLock::Write)));
    match writes {
        Some(user) => output::line(&format!("waiting for {}, which has {database} locked", user.process)),
        None => output::line(&format!("waiting for {database}; `rowhouse who` says who uses it")),
    }
}
