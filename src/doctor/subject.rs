//! One database that is looked at, and what its checks share: one way to open it, one try of its write lock.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::finding::{Finding, is_damage};
use super::scope::Scope;
use crate::domain::Domain;
use crate::error::{ErrorKind, Result};
use crate::registry::DatabaseInfo;
use crate::sqlite::holders::who::{DatabaseHolders, DatabaseLock, DatabaseProcess, DeletedFile};
use crate::sqlite::look::{Look, Looked, TooLargeToCopy, WriteLock};

/// A log without an index is read from a copy of at most so many bytes, unless the look is deep.
const MOST_COPIED: u64 = 64 << 20;

/// One database.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// Its declaration, where this program knows it.
    pub(super) domain: Option<Domain>,
    /// What the registry says of it; `None` in a folder of another program.
    pub(super) info: Option<DatabaseInfo>,
    looked: Looked,
    write_lock: OnceLock<Result<WriteLock>>,
}

impl Subject {
    pub(super) fn new(name: String, path: PathBuf, info: Option<DatabaseInfo>, deep: bool) -> Self {
        let most_copied = (!deep).then_some(MOST_COPIED);
        let looked = Looked::new(&path, most_copied);
        Self { name, path, domain: None, info, looked, write_lock: OnceLock::new() }
    }

    /// With the declaration that this program knows.
    pub(super) fn declared(self, domain: Option<Domain>) -> Self {
        Self { domain, ..self }
    }

    /// Opens it for reading.
    ///
    /// # Errors
    /// As [`Looked::look`].
    pub(super) fn look(&self, scope: &Scope) -> Result<Look> {
        self.looked.look(scope.until)
    }

    /// What came of the one try of its write lock that all checks share.
    pub(super) fn write_lock(&self, attempt: impl FnOnce() -> Result<WriteLock>) -> &Result<WriteLock> {
        self.write_lock.get_or_init(attempt)
    }

    /// Nothing is looked at any more, but by a check that did not end.
    pub(super) fn forget(&self) {
        self.looked.forget();
    }

    /// Why nothing in it can be judged, when its log was removed while somebody uses it: what they commit is in a file
    /// without a name, and every look from outside is at the rest.
    pub(super) fn split(&self, scope: &Scope) -> Option<String> {
        self.removed_log(scope).map(|_| format!("its log was removed: see {}.deleted", self.name))
    }

    /// The removed log that somebody still uses. Where the main file has gone with it, both are an old generation.
    pub(super) fn removed_log<'c>(&self, scope: &Scope<'c>) -> Option<&'c DeletedFile> {
        let deleted = self.who(scope)?.deleted.as_ref()?;
        let log = crate::home::with_ending(&self.path, "-wal");
        if deleted.iter().any(|file| file.path == self.path) {
            return None;
        }
        deleted.iter().find(|file| file.path == log)
    }

    /// For every check but the one that says why it cannot be opened.
    pub(super) fn opened(&self, scope: &Scope, judge: impl FnOnce(&Look) -> Result<Finding>) -> Finding {
        if let Some(why) = self.split(scope) {
            return Finding::skipped(why);
        }
        let look = match self.look(scope) {
            Ok(look) => look,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Finding::skipped("there is no such file");
            }
            Err(error) if error.downcast_ref::<TooLargeToCopy>().is_some() => {
                return Finding::skipped(error.message());
            }
            Err(error) if error.kind() == ErrorKind::Timeout => {
                return Finding::skipped(format!("not told in time: {}", error.message()));
            }
            Err(_) => return Finding::skipped(format!("it cannot be opened: see {}.open", self.name)),
        };
        match judge(&look).and_then(|finding| look.check_whole().map(|()| finding)) {
            Ok(finding) => finding,
            Err(error) if is_damage(&error) => {
                Finding::skipped(format!("it cannot be read: see {}.open and {0}.integrity", self.name))
            }
            Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::Timeout) => {
                Finding::skipped(format!("not told in time: {}", error.message()))
            }
            Err(error) => Finding::of_error(&error),
        }
    }

    /// Who uses it; `None` where that cannot be told.
    pub(super) fn who<'c>(&self, scope: &Scope<'c>) -> Option<&'c DatabaseHolders> {
        scope.context.who().ok()?.databases.iter().find(|database| database.name == self.name)
    }

    /// Whether another process has it open; where that cannot be told it may be so.
    pub(super) fn is_in_use(&self, scope: &Scope) -> bool {
        let others =
            |users: &Vec<DatabaseProcess>| users.iter().any(|user| user.process.pid != std::process::id());
        self.who(scope).and_then(|database| database.processes.as_ref()).is_none_or(others)
    }

    /// Whether somebody has the write lock.
    pub(super) fn is_held(&self, scope: &Scope) -> bool {
        self.writers(scope).next().is_some()
    }

    /// Whether a stopped process has the write lock.
    pub(super) fn is_held_by_stopped(&self, scope: &Scope) -> bool {
        self.writers(scope).any(|user| user.process.stopped)
    }

    fn writers<'c>(&self, scope: &Scope<'c>) -> impl Iterator<Item = &'c DatabaseProcess> {
        let users = self.who(scope).and_then(|database| database.processes.as_ref());
        let writes = |user: &&DatabaseProcess| {
            user.holds.as_ref().is_some_and(|locks| locks.contains(&DatabaseLock::Write))
        };
        users.into_iter().flatten().filter(writes)
    }

    /// The bytes of its file, 0 when it is missing, and of what lies beside it under this ending.
    pub(super) fn bytes(&self, ending: &str) -> u64 {
        let path = crate::home::with_ending(&self.path, ending);
        std::fs::symlink_metadata(path).map_or(0, |found| found.len())
    }
}
