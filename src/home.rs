//! Where things are: the home folder, who chose it, and the paths in it.
//!
//! Invariants: nothing is created before the file system below it was found fit; what is created is 0700
//! (folders) or 0600 (files) from the first moment; the paths of a [`PreparedHome`] start at a folder that was
//! canonicalised once, so that databases can be opened without following links. A home that may not be written is
//! left as it is: not even a folder is created in it (`tests/n6_read_only_home.rs`).

pub(crate) mod access;
mod file_system;
mod files;
pub(crate) mod quarantine;
mod user;

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind as Os;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::error::{Error, ErrorKind, Result};
use file_system::Purpose;
pub(crate) use file_system::blame as blame_file_system;
#[cfg(feature = "agent")]
pub(crate) use file_system::of as file_system_of;
#[cfg(target_os = "linux")]
pub(crate) use files::open_index;
#[cfg(feature = "device-keys")]
pub(crate) use files::read_private_file;
pub(crate) use files::{
    LOG_HEADER, Room, check_database_file, create_private_file, is_at, is_hot_journal, open_lock_file,
    open_number, open_to_read, read_file, read_log_header, refuse_too_full, rename_to_free_name, room,
    sync_folder, tighten, with_ending, write_atomically,
};

/// What decided where the home is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HomeOrigin {
    /// The program, with [`Home::at`].
    Given,
    /// The environment variable `ROWHOUSE_HOME`.
    Environment,
    /// `home` in the user's config file, `$XDG_CONFIG_HOME/rowhouse/config.toml`.
    ConfigFile,
    /// Nothing: `$XDG_STATE_HOME/rowhouse`.
    Default,
}

/// The folder that holds the databases.
///
/// ```
/// use rowhouse::{Home, HomeOrigin};
/// let home = Home::at("/var/lib/example");
/// assert_eq!(home.origin(), HomeOrigin::Given);
/// ```
#[derive(Clone, Debug)]
pub struct Home {
    path: PathBuf,
    origin: HomeOrigin,
}

impl Home {
    /// The home at this path; created with mode 0700 when a runtime opens it.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), origin: HomeOrigin::Given }
    }

    /// The home of this user: `ROWHOUSE_HOME`, then `home = "..."` in `$XDG_CONFIG_HOME/rowhouse/config.toml`,
    /// then `$XDG_STATE_HOME/rowhouse`. An empty variable counts as unset; a wrong setting fails.
    ///
    /// # Errors
    /// `Invalid` when the config file cannot be understood, names a relative folder, or when the user has no
    /// home directory; `ReadOnly` when the config file may not be read.
    pub fn resolve() -> Result<Self> {
        resolve_from(std::env::var_os("ROWHOUSE_HOME"), UserFolders::find)
    }

    /// The home that counts where no setting names one: `$XDG_STATE_HOME/rowhouse`.
    ///
    /// # Errors
    /// `Invalid` when the user has no home directory.
    pub fn usual() -> Result<Self> {
        Ok(Self { path: UserFolders::find()?.state.join("rowhouse"), origin: HomeOrigin::Default })
    }

    /// The other homes that a program of this user would choose under other settings, and that hold databases: what a
    /// tool may look at by mistake.
    ///
    /// # Errors
    /// As for [`resolve`](Self::resolve).
    pub fn others(&self) -> Result<Vec<Self>> {
        let own = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut others: Vec<Self> = Vec::new();
        for home in candidates(std::env::var_os("ROWHOUSE_HOME"), &UserFolders::find()?)? {
            let path = fs::canonicalize(&home.path).unwrap_or_else(|_| home.path.clone());
            let is_new = path != own && others.iter().all(|other| other.path != path);
            if is_new && holds_databases(&path) {
                others.push(Self { path, ..home });
            }
        }
        Ok(others)
    }

    /// The user's config file, which [`resolve`](Self::resolve) looks into; it need not be there.
    ///
    /// # Errors
    /// `Invalid` when the user has no home directory.
    pub fn user_config() -> Result<PathBuf> {
        Ok(UserFolders::find()?.config_file())
    }

    /// Its folder, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What decided where it is.
    pub fn origin(&self) -> HomeOrigin {
        self.origin
    }

    /// Creates what is missing, private to this user, and answers the paths in it. A home that is there and may not be
    /// written is answered as it is, with the reason.
    ///
    /// # Errors
    /// `Unsupported` on a network or shared-folder file system, or one whose locks do not hold (before anything is
    /// created), `Invalid` when a file is in the way, `ReadOnly` when it cannot be created or may not be read, `Full` when
    /// the disk has no room.
    pub(crate) fn prepare(&self) -> Result<PreparedHome> {
        let wanted = self.absolute()?;
        file_system::check(&wanted, Purpose::Write)?;
        if !is_folder(&wanted)? {
            create_folder(&wanted)?;
        }
        let home = PreparedHome { folder: canonical(&wanted)?, read_only: None };
        access::readable_folder(&home.folder)?;
        match home.furnish() {
            Ok(()) => Ok(home),
            Err(why) if why.kind() == ErrorKind::ReadOnly => {
                Ok(PreparedHome { read_only: Some(why), ..home })
            }
            Err(error) => Err(error),
        }
    }

    /// Answers the paths of a home of which nothing is used: for what is kept in memory only.
    ///
    /// # Errors
    /// `Invalid` for what is no path.
    pub(crate) fn unused(&self) -> Result<PreparedHome> {
        let wanted = self.absolute()?;
        Ok(PreparedHome { folder: fs::canonicalize(&wanted).unwrap_or(wanted), read_only: None })
    }

    /// Answers the paths in a home that is there already, and creates nothing: for those who only read.
    ///
    /// # Errors
    /// `NotFound` when there is none yet, `Invalid` when a file is in the way, `Unsupported` as for
    /// [`prepare`](Self::prepare).
    pub(crate) fn locate(&self) -> Result<PreparedHome> {
        let wanted = self.absolute()?;
        file_system::check(&wanted, Purpose::Read)?;
        if !is_folder(&wanted)? {
            return Err(Error::new(ErrorKind::NotFound, "there is no home here yet")
                .at_path(&wanted)
                .advise(
                    "a program makes it when it first runs; --home or ROWHOUSE_HOME names another home",
                ));
        }
        Ok(PreparedHome { folder: canonical(&wanted)?, read_only: None })
    }

    fn absolute(&self) -> Result<PathBuf> {
        std::path::absolute(&self.path).map_err(|error| {
            Error::new(ErrorKind::Invalid, "the home is not a path to a folder")
                .at_path(&self.path)
                .advise("name a folder with --home or ROWHOUSE_HOME")
                .caused_by(error)
        })
    }
}

/// A home that exists, by its canonical path.
#[derive(Clone, Debug)]
pub(crate) struct PreparedHome {
    folder: PathBuf,
    /// Why nothing may be written in it, when that is so.
    read_only: Option<Error>,
}

impl PreparedHome {
    /// The canonical folder.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// The main file of a database. The name has passed `Domain::check`.
    pub(crate) fn database_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.sqlite"))
    }

    /// A lock file.
    pub(crate) fn lock_path(&self, file: &str) -> PathBuf {
        self.folder.join("locks").join(file)
    }

    /// The folder of the status pages.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// The registry's file.
    pub(crate) fn registry_path(&self) -> PathBuf {
        self.folder.join("registry.json")
    }

    /// Why nothing may be written in it, when that is so.
    pub(crate) fn read_only(&self) -> Option<&Error> {
        self.read_only.as_ref()
    }

    /// Makes it private, and creates the folders that every home has.
    fn furnish(&self) -> Result<()> {
        access::writable_folder(&self.folder)?;
        make_private(&self.folder)?;
        private_folder(&self.folder, "locks")?;
        private_folder(&self.folder, "run")?;
        access::writable_folder(&self.folder.join("locks"))
    }
}

/// Where this user keeps configuration and state.
struct UserFolders {
    home: PathBuf,
    config: PathBuf,
    state: PathBuf,
}

impl UserFolders {
    fn find() -> Result<Self> {
        let folders = etcetera::base_strategy::Xdg::new().map_err(|error| {
            Error::new(ErrorKind::Invalid, "this user has no home directory")
                .advise("name a home with --home or ROWHOUSE_HOME, or set HOME")
                .caused_by(error)
        })?;
        let state = folders.state_dir().unwrap_or_else(|| folders.home_dir().join(".local/state"));
        Ok(Self { home: folders.home_dir().to_owned(), config: folders.config_dir(), state })
    }

    fn config_file(&self) -> PathBuf {
        self.config.join("rowhouse").join("config.toml")
    }
}

/// This user's own folder, when there is one.
#[cfg(feature = "agent")]
pub(crate) fn users_folder() -> Option<PathBuf> {
    UserFolders::find().ok().map(|folders| folders.home)
}

/// The homes that the settings of this user name, whichever of them counts.
fn candidates(environment: Option<OsString>, folders: &UserFolders) -> Result<Vec<Home>> {
    let named = environment.filter(|path| !path.is_empty());
    let named = named
        .map(|path| Home { path: path.into(), origin: HomeOrigin::Environment }.absolute())
        .transpose()?;
    let named = named.map(|path| Home { path, origin: HomeOrigin::Environment });
    let configured = configured(folders)?.map(|path| Home { path, origin: HomeOrigin::ConfigFile });
    let usual = Home { path: folders.state.join("rowhouse"), origin: HomeOrigin::Default };
    Ok([named, configured, Some(usual)].into_iter().flatten().collect())
}

fn holds_databases(folder: &Path) -> bool {
    // On a file system that is refused a look can hang.
    file_system::check(folder, Purpose::Read).is_ok()
        && fs::read_dir(folder).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| is_database_name(&entry.file_name())))
        })
}

fn is_database_name(name: &std::ffi::OsStr) -> bool {
    Path::new(name).extension().is_some_and(|ending| ending == "sqlite")
}

/// The name of a user, or the number where there is none.
#[cfg(feature = "agent")]
pub(crate) fn user_name(user: u32) -> String {
    user::name(user)
}

/// The name of the user as whom this process acts.
#[cfg(feature = "postgres")]
pub(crate) fn own_user_name() -> Option<String> {
    user::known_name(rustix::process::geteuid().as_raw())
}

fn resolve_from(
    environment: Option<OsString>,
    folders: impl FnOnce() -> Result<UserFolders>,
) -> Result<Home> {
    if let Some(path) = environment.filter(|path| !path.is_empty()) {
        let home = Home { path: path.into(), origin: HomeOrigin::Environment };
        return Ok(Home { path: home.absolute()?, ..home });
    }
    let folders = folders()?;
    match configured(&folders)? {
        Some(path) => Ok(Home { path, origin: HomeOrigin::ConfigFile }),
        None => Ok(Home { path: folders.state.join("rowhouse"), origin: HomeOrigin::Default }),
    }
}

/// `home` of the user's config file; its other settings are not looked at here.
fn configured(folders: &UserFolders) -> Result<Option<PathBuf>> {
    let file = folders.config_file();
    let bytes = match read_file(&file) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), Os::NotFound | Os::NotADirectory) => return Ok(None),
        Err(error) => return Err(Error::io("read the config file", &file, error)),
    };
    let Ok(text) = String::from_utf8(bytes) else {
        return Err(Error::new(ErrorKind::Invalid, "the config file is not UTF-8 text")
            .at_path(&file)
            .advise("save it as UTF-8"));
    };
    let settings: toml::Table = toml::from_str(&text).map_err(|error| {
        // The parser's own message quotes the line, which may hold a password: it stays behind `source()`.
        let line =
            1 + error.span().map_or(0, |span| text.bytes().take(span.start).filter(|b| *b == b'\n').count());
        Error::new(ErrorKind::Invalid, format!("the config file is not valid TOML, at line {line}"))
            .at_path(&file)
            .advise("correct that line")
            .caused_by(error)
    })?;
    let Some(setting) = settings.get("home") else { return Ok(None) };
    let path = setting.as_str().map(|text| match text.strip_prefix("~/") {
        Some(rest) => folders.home.join(rest),
        None => PathBuf::from(text),
    });
    path.filter(|path| path.is_absolute()).map(Some).ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "`home` in the config file is not an absolute path")
            .at_path(&file)
            .advise("write home = \"/absolute/path\" or home = \"~/path\"")
    })
}

/// Creates a folder in another one, unless it is there: mode 0700, its name durable.
///
/// # Errors
/// `Invalid` when something else is in its place; `ReadOnly`, `Full` or `Io` from the system.
pub(crate) fn private_folder(parent: &Path, name: &str) -> Result<PathBuf> {
    let path = parent.join(name);
    match DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => sync_folder(parent)?,
        Err(error) if error.kind() == Os::AlreadyExists => {
            let found =
                fs::symlink_metadata(&path).map_err(|error| Error::io("look at the folder", &path, error))?;
            if !found.is_dir() {
                return Err(in_the_way(&path));
            }
        }
        Err(error) => return Err(Error::io("create the folder", &path, error)),
    }
    Ok(path)
}

/// Creates a folder that was not there: of this name, or with a number after it where that one is taken.
///
/// # Errors
/// `ReadOnly`, `Full` or `Io` from the system.
pub(crate) fn new_private_folder(parent: &Path, name: &str) -> Result<PathBuf> {
    let mut folder = parent.join(name);
    let mut again = 1;
    while let Err(error) = DirBuilder::new().mode(0o700).create(&folder) {
        if error.kind() != Os::AlreadyExists {
            return Err(Error::io("create the folder", &folder, error));
        }
        again += 1;
        folder = parent.join(format!("{name}-{again}"));
    }
    sync_folder(parent)?;
    Ok(folder)
}

/// True for a folder, false for nothing.
fn is_folder(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(true),
        Ok(_) => Err(in_the_way(path)),
        Err(error) if error.kind() == Os::NotFound => Ok(false),
        Err(error) if error.kind() == Os::NotADirectory => {
            Err(in_the_way(path.ancestors().find(|above| above.is_file()).unwrap_or(path)))
        }
        Err(error) => Err(access::refused("look at the home", path, error)),
    }
}

fn in_the_way(path: &Path) -> Error {
    Error::new(ErrorKind::Invalid, "a folder is needed here, and something else is in its place")
        .at_path(path)
        .advise("move it away, or name another home with --home or ROWHOUSE_HOME")
}

/// Creates a folder and those above it, and makes their names durable.
fn create_folder(path: &Path) -> Result<()> {
    let present = path.ancestors().skip(1).find(|above| above.exists()).unwrap_or(path).to_owned();
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| match error.kind() {
        Os::AlreadyExists | Os::NotADirectory => in_the_way(path),
        _ => Error::io("create the home", path, error),
    })?;
    path.ancestors().skip(1).take_while(|above| above.starts_with(&present)).try_for_each(sync_folder)
}

fn canonical(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|error| Error::io("resolve the home", path, error))
}

/// Takes other users' access away from a home of ours, and from its files, which an older program or a copy may have
/// left open. A folder that holds other things as well (somebody's project, `/tmp`) keeps its mode, and so does what
/// lies in it: what we put there is private by itself, and a database is made private when it is opened.
fn make_private(folder: &Path) -> Result<()> {
    let found = fs::metadata(folder).map_err(|error| Error::io("look at the home", folder, error))?;
    // Into a private one nobody else can look, and each database is made private when it is opened.
    let open_to_others = found.mode() & 0o077 != 0;
    if !open_to_others || !holds_only_ours(folder)? {
        return Ok(());
    }
    tighten(folder)?;
    for own in ["locks", "run", "backups", "quarantine"] {
        tighten_below(&folder.join(own))?;
    }
    let reading = |error| Error::io("list the home", folder, error);
    for entry in fs::read_dir(folder).map_err(reading)? {
        let name = entry.map_err(reading)?.file_name();
        let path = folder.join(&name);
        // What is mounted here from a file system that is refused is not touched: it is refused when it is opened.
        if is_own_file(&name.to_string_lossy()) && file_system::check_file(&path).is_ok() {
            tighten(&path)?;
        }
    }
    Ok(())
}

/// A folder of ours, if there is one, and everything in it.
fn tighten_below(folder: &Path) -> Result<()> {
    match fs::symlink_metadata(folder) {
        // Into a private one nobody else can look.
        Ok(found) if found.is_dir() && found.mode() & 0o077 != 0 => {}
        _ => return Ok(()),
    }
    tighten(folder)?;
    // One that may not be listed belongs to somebody else, and is theirs to look after.
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            tighten_below(&path)?;
        } else {
            tighten(&path)?;
        }
    }
    Ok(())
}

fn holds_only_ours(folder: &Path) -> Result<bool> {
    let reading = |error| Error::io("list the home", folder, error);
    for entry in fs::read_dir(folder).map_err(reading)? {
        let name = entry.map_err(reading)?.file_name();
        if !is_ours(&name.to_string_lossy()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The name of something that lies in a home.
fn is_ours(name: &str) -> bool {
    const OURS: [&str; 11] = [
        "config.toml",
        "sizes.jsonl",
        "locks",
        "run",
        "sessions",
        "archived_sessions",
        "trash",
        "memories",
        "keys",
        "backups",
        "quarantine",
    ];
    OURS.contains(&name) || is_own_file(name)
}

/// A database, what lies beside one, the registry, or a restore or a compaction under way.
fn is_own_file(name: &str) -> bool {
    name.starts_with("registry.json")
        || name.contains(".sqlite")
        || is_of_a_restore(name)
        || name.starts_with(".compact-unfinished-")
}

fn is_of_a_restore(name: &str) -> bool {
    name == "restore.json" || name.starts_with(".restore-unfinished-")
}

#[cfg(test)]
mod tests;
