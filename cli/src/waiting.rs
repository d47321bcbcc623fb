//! Who is in the way, said while a change waits: a write waits up to 30 s, and nobody should wonder for so long.
//!
//! Invariants: what is said goes to standard error, once; who is never waited for is never looked for.
//!
//! Tests: `cli/tests/threads_changing.rs`, `cli/tests/backfill.rs`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rowhouse::{DatabaseLock, DatabaseProcess, ErrorKind, Holder, Home, Runtime, RuntimeDbRegistry};

use crate::output;

/// A change that takes longer waits for somebody.
const AFTER: Duration = Duration::from_secs(1);

/// Does it, and says who has this database locked when it takes long.
pub(crate) fn telling_who<T>(home: &Home, database: &str, work: impl FnOnce() -> T) -> T {
    beside(work, |done| {
        if done.recv_timeout(AFTER) == Err(RecvTimeoutError::Timeout) {
            match writer(home, &|name| name == database) {
                Some(user) => tell(&user),
                None => output::line(&format!("waiting for {database}; `rowhouse who` says who uses it")),
            }
        }
    })
}

/// Does work that may well take long, and calls what it is given when it moves on. Says who has a database of the home locked
/// when that does not happen for a second.
pub(crate) fn telling_who_stalls<T>(home: &Home, work: impl FnOnce(&dyn Fn()) -> T) -> T {
    let moves = AtomicU64::new(0);
    let moves_on = || {
        moves.fetch_add(1, Ordering::Relaxed);
    };
    beside(
        || work(&moves_on),
        |done| {
            let mut seen = 0;
            while done.recv_timeout(AFTER) == Err(RecvTimeoutError::Timeout) {
                let now = moves.load(Ordering::Relaxed);
                if now == seen
                    && let Some(user) = writer(home, &|_| true)
                {
                    return tell(&user);
                }
                seen = now;
            }
        },
    )
}

/// Does the work while another thread waits for its end.
fn beside<T>(work: impl FnOnce() -> T, waits: impl FnOnce(&Receiver<()>) + Send) -> T {
    let (working, done) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || waits(&done));
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

/// Another process that has one of these databases locked, and which.
fn writer(home: &Home, is_meant: &dyn Fn(&str) -> bool) -> Option<(String, Holder)> {
    let own = std::process::id();
    let databases = RuntimeDbRegistry::new(home).who().into_iter().flat_map(|found| found.databases);
    databases.filter(|database| is_meant(&database.name)).find_map(|database| {
        let mut users = database.processes.into_iter().flatten();
        let writes = |user: &DatabaseProcess| {
            user.holds.as_ref().is_some_and(|holds| holds.contains(&DatabaseLock::Write))
        };
        let user = users.find(|user| user.process.pid != own && writes(user))?;
        Some((database.name, user.process))
    })
}

/// Whether a database of this home is locked by another process.
pub(crate) fn is_for_others(home: &Home) -> bool {
    writer(home, &|_| true).is_some()
}

fn tell((database, holder): &(String, Holder)) {
    output::line(&format!("waiting for {holder}, which has {database} locked"));
}
