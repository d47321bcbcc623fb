//! What the checks look at: the home, its databases, and what was found about all of them at once.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

use super::checks;
use super::server::OnServer;
use super::subject::Subject;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::folder::Folder;
use crate::home::{Home, PreparedHome, access};
use crate::registry::{DatabaseInfo, RuntimeDbRegistry, Survey};
use crate::sqlite::holders::who::HomeHolders;
use crate::sqlite::status_page::ProcessStatus;

/// What to do about a folder that does not answer.
pub(super) const NO_ANSWER: &str = "a network or FUSE mount whose server is gone never does: bring the server back, or unmount it (umount -l)";

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
        let subject = |info: DatabaseInfo| {
            let domain = domains.iter().find(|domain| domain.name() == info.name).cloned();
            Subject::new(info.name.clone(), info.path.clone(), Some(info), deep).declared(domain)
        };
        let subjects = found.into_iter().map(subject).collect();
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

    /// The check that says why nothing may be written in the whole home, when that is so.
    pub(super) fn read_only(&self) -> Option<&'static str> {
        let error = access::writable_folder(self.folder().ok()?.path()).err()?;
        Some(if access::is_of_the_mount(&error) { "disk.file_system" } else { "home.access" })
    }

    /// The home's folder, for checks that look into it.
    ///
    /// # Errors
    /// Why a check is skipped, and where the reason is told.
    pub(super) fn home(&self) -> Result<&PreparedHome, &'static str> {
        let folder = self.folder()?;
        match access::readable_folder(folder.path()) {
            Ok(()) => Ok(folder),
            Err(_) => Err("the home may not be read: see home.access"),
        }
    }

    /// The same, whether or not this user may look into it.
    ///
    /// # Errors
    /// As [`home`](Self::home).
    pub(super) fn folder(&self) -> Result<&PreparedHome, &'static str> {
        match &self.place {
            Place::Home { folder: Ok(folder), .. } => Ok(folder),
            Place::Home { .. } => Err("the home cannot be looked at: see home.folder"),
            Place::Other(_) | Place::Silent(_) => Err("this is no home of this library"),
        }
    }
}

/// Of a place that did not answer in time.
pub(super) fn silent(path: &Path) -> Error {
    Error::new(ErrorKind::Timeout, "the folder does not answer").at_path(path).advise(NO_ANSWER)
}

/// One check's share of the time.
pub(super) struct Scope<'c> {
    pub(super) context: &'c Context,
    /// When it is to end.
    pub(super) until: Instant,
}
