//! Can it be written: the write lock is taken and given back at once.

use std::time::{Duration, Instant};

use super::super::command::Own;
use super::super::finding::Finding;
use super::super::scope::{Place, Scope};
use super::super::subject::Subject;
use super::file::not_checked;
use crate::error::{ErrorKind, Result};
use crate::home::{self, access};
use crate::sqlite::look::{self, WriteLock};

/// For how long the lock is tried while somebody has it: many times a normal transaction.
const PATIENCE: Duration = Duration::from_millis(300);

pub(super) fn write(scope: &Scope, subject: &Subject) -> Finding {
    if subject.info.is_none() && access::writable(&subject.path).is_err() {
        return Finding::skipped("this user may not write it");
    }
    if home::check_database_file(&subject.path).is_err() || access::writable(&subject.path).is_err() {
        let own = || Finding::skipped(format!("the file may not be written: see {}.file", subject.name));
        return scope.context.read_only().map_or_else(own, not_checked);
    }
    if let Some(why) = subject.split(scope) {
        return Finding::skipped(why);
    }
    if let Some(finding) = latched(scope, subject) {
        return finding;
    }
    // A file that is no database is not tried.
    let Some(tried) = tried(scope, subject) else {
        return subject.opened(scope, |_| Ok(Finding::skipped("it cannot be read")));
    };
    match tried {
        Ok(WriteLock::Free) => Finding::ok("the write lock was taken and given back"),
        Ok(WriteLock::InUse) => Finding::ok("others write, in turn"),
        Ok(WriteLock::NotTried(why)) => {
            Finding::ok("it may be written").evidence(format!("asked, not tried: {why}"))
        }
        Ok(WriteLock::Held(Some(holder))) if holder.stopped => {
            Finding::fail(format!("the write lock is held by {holder}"))
                .kind(ErrorKind::Busy)
                .evidence(
                    "a stopped process keeps its locks: everybody who writes waits until their deadline",
                )
                .remedy("let it go on (fg, kill -CONT), or end it")
                .holder(holder)
        }
        Ok(WriteLock::Held(Some(holder))) => {
            Finding::warning(format!("{holder} has held the write lock all the time"))
                .kind(ErrorKind::Busy)
                .evidence(format!(
                    "it was tried for {} ms, and nothing was committed meanwhile",
                    PATIENCE.as_millis()
                ))
                .remedy("look at what it does; a long job should be several short ones")
                .holder(holder)
                .look(Own::Who.of(&subject.name))
        }
        Ok(WriteLock::Held(None)) => {
            Finding::warning("somebody has held the write lock all the time, and cannot be seen from here")
                .kind(ErrorKind::Busy)
                .remedy("look as that user, as root, or outside of the container")
                .look(Own::Who.of(&subject.name))
        }
        Err(error) if error.kind() == ErrorKind::Full => {
            Finding::skipped("there is no room for it: see disk.space")
        }
        Err(error) => Finding::of_error(error),
    }
}

/// The write lock, tried once for all checks; `None` for a file that cannot be read.
fn tried<'s>(scope: &Scope, subject: &'s Subject) -> Option<&'s Result<WriteLock>> {
    let has_log = subject.look(scope).and_then(|look| look.has_log()).ok()?;
    let left = scope.until.saturating_duration_since(Instant::now());
    Some(subject.write_lock(|| look::try_write_lock(&subject.path, has_log, PATIENCE.min(left / 2))))
}

/// Whether this check tells of somebody who has the write lock all the time.
pub(super) fn is_held(scope: &Scope, subject: &Subject) -> bool {
    access::writable(&subject.path).is_ok()
        && subject.split(scope).is_none()
        && matches!(tried(scope, subject), Some(Ok(WriteLock::Held(_))))
}

/// After a failed write nobody writes until one has recovered the database.
fn latched(scope: &Scope, subject: &Subject) -> Option<Finding> {
    let Place::Home { folder: Ok(folder), .. } = &scope.context.place else { return None };
    let number = home::read_file(folder.lock_path(&format!("{}.latch", subject.name))).ok()?;
    let number = u64::from_ne_bytes(number.get(..8)?.try_into().ok()?);
    let own: Vec<_> = scope
        .context
        .processes()
        .iter()
        .filter(|process| {
            process.databases.iter().any(|database| database.name == subject.name && database.latched)
        })
        .collect();
    if number.is_multiple_of(2) && own.is_empty() {
        return None;
    }
    let finding = Finding::fail("a write or an fsync failed, and it refuses to be written since")
        .kind(ErrorKind::Latched)
        .evidence("what was acknowledged before is good; what came back as outcome_unknown may be missing")
        .remedy("check the disk and the system's log, then start the program whose write failed again (or let it call reopen())");
    Some(own.iter().fold(finding, |finding, process| {
        let (program, version) = (&process.program, &process.version);
        finding.evidence(format!("refused in {program} {version} (pid {})", process.pid))
    }))
}
