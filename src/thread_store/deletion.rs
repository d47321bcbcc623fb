//! What of a thread lies in which database, and how it goes: the part that every implementation shares.

use super::store::{DeleteOptions, Deleted};
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::RuntimeDbRegistry;
use crate::runtime::Runtime;
use crate::stores::database::Engine;
use crate::stores::logs::PruneOptions;
use crate::stores::spawn_edges;
use crate::stores::threads::tombstone;

/// A thread and those below it, breadth first.
///
/// # Errors
/// `Conflict` when there are some below it and they are not to go; `Unsupported` when there are too many to name.
pub(super) fn family(state: &Engine, thread: &str, options: &DeleteOptions) -> Result<Vec<String>> {
    let below = state.read(|at| spawn_edges::descendants_of(at, thread))?;
    if !below.is_empty() && !options.descendants && !options.dry_run {
        return Err(has_descendants(thread, below.len()));
    }
    Ok(std::iter::once(thread.to_owned()).chain(below).collect())
}

pub(super) fn has_descendants(thread: &str, below: usize) -> Error {
    let what = if below == 1 { "1 thread is".to_owned() } else { format!("{below} threads are") };
    Error::new(ErrorKind::Conflict, format!("{what} below thread {thread}, started by it or by those"))
        .advise("look at them with `rowhouse threads tree`; delete them too with --descendants")
}

/// What the databases hold of these threads; files are the caller's. A database that is not there holds nothing.
pub(super) fn count(runtime: &Runtime, state: &Engine, threads: &[String]) -> Result<Deleted> {
    let memories = state.read(|at| tombstone::memories_of(at, threads))?;
    let mut counted = Deleted { threads: threads.to_vec(), memories, ..Deleted::default() };
    for thread in threads {
        match runtime.goals().get(thread) {
            Ok(goal) => counted.goals += u64::from(goal.is_some()),
            Err(error) => add_pending(&mut counted.pending, runtime, &Domain::goals(), &error),
        }
        let rows = PruneOptions { before: i64::MAX, thread_id: Some(thread.clone()), dry_run: true };
        match runtime.logs().prune(&rows) {
            Ok(report) => counted.log_rows += report.rows,
            Err(error) => add_pending(&mut counted.pending, runtime, &Domain::logs(), &error),
        }
    }
    Ok(counted)
}

/// Whether there is anything of a thread that was counted.
pub(super) fn is_anything(state: &Engine, thread: &str, counted: &Deleted) -> Result<bool> {
    let Deleted { files, goals, log_rows, .. } = *counted;
    Ok(files + goals + log_rows > 0 || state.read(|at| tombstone::is_known(at, thread))?)
}

/// Removes a thread's goal and its log rows, and counts them.
pub(super) fn remove(runtime: &Runtime, thread: &str, deleted: &mut Deleted) {
    match runtime.goals().delete(thread) {
        Ok(goal) => deleted.goals += u64::from(goal.is_some()),
        Err(error) => add_pending(&mut deleted.pending, runtime, &Domain::goals(), &error),
    }
    match runtime.logs().delete_thread(thread) {
        Ok(report) => deleted.log_rows += report.rows,
        Err(error) => add_pending(&mut deleted.pending, runtime, &Domain::logs(), &error),
    }
}

/// What could not be done, once; unless the home has no such database, which confirms it.
fn add_pending(pending: &mut Vec<String>, runtime: &Runtime, domain: &Domain, error: &Error) {
    if error.kind() == ErrorKind::NotFound && !is_in_home(runtime, domain.name()) {
        return;
    }
    let why = format!("{}: {error}", domain.name());
    if !pending.contains(&why) {
        pending.push(why);
    }
}

fn is_in_home(runtime: &Runtime, name: &str) -> bool {
    let databases = RuntimeDbRegistry::new(runtime.home()).list();
    databases.map_or(true, |all| all.iter().any(|found| found.name == name && found.present))
}
