//! What the checks look at: the home, its databases, and what was found about all of them at once.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

use super::checks;
use super::finding::{Finding, is_damage};
use super::server::OnServer;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::folder::Folder;
use crate::home::{Home, PreparedHome};
use crate::registry::{DatabaseInfo, RuntimeDbRegistry, Survey};
use crate::sqlite::holders::who::{DatabaseHolders, DatabaseLock, DeletedFile, HomeHolders};
use crate::sqlite::look::{Look, Looked, TooLargeToCopy};
use crate::sqlite::status_page::ProcessStatus;

/// A log without an index is read from a copy of at most so many bytes, unless the look is deep.
const MOST_COPIED: u64 = 64 << 20;

/// Where the files are.
pub(super) enum Place {
    /// A home of this library.
    Home { home: Home, folder: Result<PreparedHome> },
    /// Any folder.
    Other(Folder),
    /// Any folder that did not answer.
    Silent(PathBuf),
}

/// Everything the checks share.
pub(super) struct Context {
    pub(super) place: Place,
    pub(super) deep: bool,
    pub(super) survey: Result<Survey>,
    pub(super) subjects: Vec<Subject>,
    /// Where the home's configuration says that domains are on a server; an error when it cannot be followed.
    pub(super) server: Option<Result<OnServer>>,
    who: OnceLock<Result<HomeHolders>>,
    processes: OnceLock<Vec<ProcessStatus>>,
}

impl Context {
    /// Looks which databases there are; opens none.
    pub(super) fn of_home(home: &Home, domains: &[Domain], deep: bool) -> Self {
        let folder = home.locate();
        let survey = RuntimeDbRegistry::new(home).survey();
        // A file that cannot be read at all is told of once: see environment.settings.
        let server =
            OnServer::of(home, domains).filter(|named| named.is_ok() || checks::settings_can_be_read(home));
        let mut found = survey.as_ref().map(|survey| survey.databases.clone()).unwrap_or_default();
        // A file of a domain that is on a server is nobody's: see server.leftover.
        found.retain(|info| !info.is_on_server());
        // Nor are those of a move that is not finished, or a missing one whose data was moved: see home.moved.
        let elsewhere = folder.as_ref().map(super::checks::elsewhere).unwrap_or_default();
        found.retain(|info| !elsewhere.contains(&info.name));
        let subjects = found.into_iter().map(|info| Subject {
            domain: domains.iter().find(|domain| domain.name() == info.name).cloned(),
            ..Subject::new(info.name.clone(), info.path.clone(), Some(info), deep)
        });
        let subjects = subjects.collect();
        Self { server, ..Self::new(Place::Home { home: home.clone(), folder }, survey, subjects, deep) }
    }

    /// The same for a folder whose files are another program's.
    pub(super) fn of_folder(folder: Folder, deep: bool) -> Self {
        let subjects =
            folder.databases().into_iter().map(|(name, path)| Subject::new(name, path, None, deep)).collect();
        Self::new(Place::Other(folder), Ok(Survey::default()), subjects, deep)
    }

    /// A home that did not answer when it was looked at.
    pub(super) fn of_silent_home(home: Home, deep: bool) -> Self {
        let silent = silent(home.path());
        Self::new(Place::Home { home, folder: Err(silent.clone()) }, Err(silent), Vec::new(), deep)
    }

    /// The same of any folder.
    pub(super) fn of_silent_folder(path: &Path, deep: bool) -> Self {
        Self::new(Place::Silent(path.to_owned()), Err(silent(path)), Vec::new(), deep)
    }

    /// The check that says why the folder is better left alone, when that is so: it did not answer, or lies on a file system
    /// whose server may be gone. Nothing else looks at it then.
    pub(super) fn left_alone(&self) -> Option<&'static str> {
        match &self.place {
            Place::Home { folder: Err(error), .. }
                if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unsupported) =>
            {
                Some("home.folder")
            }
            Place::Silent(_) => Some("disk.file_system"),
            Place::Home { .. } | Place::Other(_) => None,
        }
    }

    fn new(place: Place, survey: Result<Survey>, subjects: Vec<Subject>, deep: bool) -> Self {
        let server = None;
        Self { place, deep, survey, subjects, server, who: OnceLock::new(), processes: OnceLock::new() }
    }

    /// The folder that is looked at, as it was named.
    pub(super) fn path(&self) -> &Path {
        match &self.place {
            Place::Home { home, .. } => home.path(),
            Place::Other(folder) => folder.path(),
            Place::Silent(path) => path,
        }
    }

    /// Who uses the databases: one look for all checks.
    pub(super) fn who(&self) -> Result<&HomeHolders, &Error> {
        let look = || match &self.place {
            Place::Home { home, .. } => RuntimeDbRegistry::new(home).who(),
            Place::Other(folder) => Ok(folder.who()),
            Place::Silent(path) => Err(silent(path)),
        };
        self.who.get_or_init(look).as_ref()
    }

    /// What the programs that have the home open publish.
    pub(super) fn processes(&self) -> &[ProcessStatus] {
        self.processes.get_or_init(|| match &self.place {
            Place::Home { home, .. } => RuntimeDbRegistry::new(home)
                .processes()
                .map(|all| all.into_iter().filter(|process| process.alive).collect())
                .unwrap_or_default(),
            Place::Other(_) | Place::Silent(_) => Vec::new(),
        })
    }

    /// The home's folder, for checks that look into it.
    ///
    /// # Errors
    /// Why a check is skipped, and where the reason is told.
    pub(super) fn home(&self) -> Result<&PreparedHome, &'static str> {
        match &self.place {
            Place::Home { folder: Ok(folder), .. } => Ok(folder),
            Place::Home { .. } => Err("the home cannot be looked at: see home.folder"),
            Place::Other(_) | Place::Silent(_) => Err("this is no home of this library"),
        }
    }
}

/// Of a place that did not answer in time.
pub(super) fn silent(path: &Path) -> Error {
    Error::new(ErrorKind::Timeout, "the folder does not answer")
        .at_path(path)
        .advise("a network or FUSE mount whose server is gone never does: bring the server back, or unmount it (umount -l)")
}

/// One check's share of the time.
pub(super) struct Scope<'c> {
    pub(super) context: &'c Context,
    /// When it is to end.
    pub(super) until: Instant,
}

/// One database.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// Its declaration, where this program knows it.
    pub(super) domain: Option<Domain>,
    /// What the registry says of it; `None` in a folder of another program.
    pub(super) info: Option<DatabaseInfo>,
    looked: Looked,
}

impl Subject {
    fn new(name: String, path: PathBuf, info: Option<DatabaseInfo>, deep: bool) -> Self {
        let most_copied = (!deep).then_some(MOST_COPIED);
        let looked = Looked::new(&path, most_copied);
        Self { name, path, domain: None, info, looked }
    }

    /// Opens it for reading.
    ///
    /// # Errors
    /// As [`Looked::look`].
    pub(super) fn look(&self, scope: &Scope) -> Result<Look> {
        self.looked.look(scope.until)
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
        let others = |users: &Vec<crate::DatabaseProcess>| {
            users.iter().any(|user| user.process.pid != std::process::id())
        };
        self.who(scope).and_then(|database| database.processes.as_ref()).is_none_or(others)
    }

    /// Whether a stopped process has the write lock.
    pub(super) fn is_held_by_stopped(&self, scope: &Scope) -> bool {
        let users = self.who(scope).and_then(|database| database.processes.as_ref());
        users.into_iter().flatten().any(|user| {
            user.process.stopped
                && user.holds.as_ref().is_some_and(|locks| locks.contains(&DatabaseLock::Write))
        })
    }

    /// The bytes of its file, 0 when it is missing, and of what lies beside it under this ending.
    pub(super) fn bytes(&self, ending: &str) -> u64 {
        let path = crate::home::with_ending(&self.path, ending);
        std::fs::symlink_metadata(path).map_or(0, |found| found.len())
    }
}
