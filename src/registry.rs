//! Which databases exist: told from the home's files and `registry.json`, without opening a runtime.
//!
//! Invariants: listing opens no database; `registry.json` is replaced whole, under its lock, and what other
//! programs and versions wrote into it stays; a damaged `registry.json` is never in the way and never deleted.

mod file;
mod inspect;
#[cfg(feature = "agent")]
pub(crate) mod server;
mod stats;
mod tables;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::domain::{Domain, Durability, Role};
use crate::error::{Error, ErrorKind, Result};
use crate::home::{Home, PreparedHome, blame_file_system, check_database_file, with_ending};
#[cfg(feature = "agent")]
use crate::move_backend::marker;
use crate::sqlite::connect::steps_lock;
pub use crate::sqlite::history::SchemaMeta;
use crate::sqlite::holders::who::{self, HomeHolders};
use crate::sqlite::holders::{self, Holder, write_lock_holder};
use crate::sqlite::status_page::{self, ProcessStatus};
use crate::sqlite::steps::StepStatus;
pub use inspect::Inspection;
#[cfg(feature = "agent")]
pub use server::{ServerDomain, ServerPlace, ServerSession, ServerStatus};
pub use stats::{DatabaseStats, ProcessStats};
pub use tables::TableSize;

/// What is known of a database without opening it. Sizes are in bytes; 0 where the file is missing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct DatabaseInfo {
    /// The domain's name.
    pub name: String,
    /// The main file.
    pub path: PathBuf,
    /// True when the main file is there and is the database.
    pub present: bool,
    /// Where it is instead, when the home's configuration says that it is on a server: then there is no file, and the sizes
    /// below are 0. [`RuntimeDbRegistry::server`] asks for those.
    #[cfg(feature = "agent")]
    pub server: Option<ServerPlace>,
    /// Where its data was moved, when there is no file of it and the configuration does not say that it is there: nothing
    /// opens it then, and [`Domain::is_on_server`] says what to do.
    #[cfg(feature = "agent")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
    /// Whether its program can be ready without it; `None` when no program declared it.
    pub role: Option<Role>,
    /// What its commits survive; `None` when no program declared it.
    pub durability: Option<Durability>,
    /// The schema version, as last written to the registry.
    pub schema_version: Option<i64>,
    /// The program that wrote that schema.
    pub program: Option<String>,
    /// That program's version.
    pub program_version: Option<String>,
    /// When it did, in RFC 3339.
    pub written_at: Option<String>,
    /// Size of the main file.
    pub main_bytes: u64,
    /// Size of the write-ahead log.
    pub wal_bytes: u64,
    /// Size of the shared-memory file.
    pub shm_bytes: u64,
}

impl DatabaseInfo {
    /// True when it is on a server, not in a file.
    pub fn is_on_server(&self) -> bool {
        #[cfg(feature = "agent")]
        return self.server.is_some();
        #[cfg(not(feature = "agent"))]
        false
    }
}

/// The databases of a home, and what was found amiss while listing them.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Survey {
    /// By name.
    pub databases: Vec<DatabaseInfo>,
    /// Sentences for a person: a damaged registry, a database file that is a link.
    pub warnings: Vec<String>,
}

/// What a program declares of one of its databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegistryEntry {
    /// The domain's name.
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) durability: Durability,
    pub(crate) schema_version: i64,
    /// Name and version of the program that wrote the schema.
    pub(crate) program: Option<(String, String)>,
    /// When it did, in RFC 3339, where that is known; else the moment of recording counts.
    pub(crate) written_at: Option<String>,
}

/// Tells which databases a home holds; opens no runtime.
///
/// ```
/// # fn main() -> rowhouse::Result<()> {
/// use rowhouse::{ErrorKind, Home, RuntimeDbRegistry};
/// # let folder = tempfile::tempdir().expect("a folder");
/// # let home = Home::at(folder.path());
/// let registry = RuntimeDbRegistry::new(&home);
/// for database in registry.list()? {
///     println!("{}: {} bytes", database.name, database.main_bytes);
/// }
/// let error = registry.inspect("state").expect_err("nothing was opened in this home yet");
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RuntimeDbRegistry {
    home: Home,
}

impl RuntimeDbRegistry {
    /// The registry of a home. Looks at nothing yet.
    pub fn new(home: &Home) -> Self {
        Self { home: home.clone() }
    }

    /// The databases of the home, by name: those declared by any program, and other `*.sqlite` files with a
    /// domain's name. Opens none of them. A home that does not exist yet has none.
    ///
    /// # Errors
    /// `Invalid` when the home is not a folder, `Unsupported` when its file system cannot hold databases,
    /// `ReadOnly` or `Io` when the folder cannot be listed. A damaged `registry.json` is no error: see
    /// [`survey`](Self::survey).
    pub fn list(&self) -> Result<Vec<DatabaseInfo>> {
        Ok(self.survey()?.databases)
    }

    /// The same as [`list`](Self::list), with what was found amiss.
    ///
    /// # Errors
    /// As for [`list`](Self::list).
    pub fn survey(&self) -> Result<Survey> {
        let home = match self.home.locate() {
            Ok(home) => home,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Survey::default()),
            Err(error) => return Err(error),
        };
        let mut warnings = Vec::new();
        let entries = file::read(&home.registry_path()).unwrap_or_else(|error| {
            warnings.push(error.to_string());
            serde_json::Map::new()
        });
        let mut names = database_files(home.path(), &mut warnings)?;
        if crate::backup::is_interrupted(&home) {
            warnings.push("a restore of this home is not finished; opening it finishes it".to_owned());
        }
        for name in file::names(&entries) {
            if Domain::new(name).check().is_ok() {
                names.insert(name.to_owned());
            } else {
                warnings.push(format!("registry.json names a database {name:?}, which is no domain's name"));
            }
        }
        #[cfg(feature = "agent")]
        let moved = server::Moved::of(&home, &names, &mut warnings);
        #[cfg(feature = "agent")]
        names.extend(moved.names().cloned());
        #[cfg(feature = "agent")]
        names.extend(marker::marked(&home).into_iter().map(|(name, _)| name));
        let told = |name: &String| {
            #[cfg(feature = "agent")]
            if let Some(place) = moved.place(name) {
                return on_server(&home, name, place, &entries, &mut warnings);
            }
            info(&home, name, &entries, &mut warnings)
        };
        let databases = names.iter().map(told).collect();
        Ok(Survey { databases, warnings })
    }

    /// What the server says of the domains that the home's configuration puts there: sizes, rows, who is connected. `None`
    /// when all are in files. Nothing is changed; it ends by `deadline`.
    ///
    /// ```
    /// # fn main() -> rowhouse::Result<()> {
    /// # use rowhouse::{Home, RuntimeDbRegistry};
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let home = Home::at(folder.path());
    /// let asked = RuntimeDbRegistry::new(&home).server(std::time::Duration::from_secs(2))?;
    /// assert_eq!(asked, None, "this home keeps everything in files");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Invalid` for a configuration that cannot be followed, a wrong user or password; `Unsupported` when it names a server
    /// and this program was built without one; `Io`, `NotFound`, `Busy` or `Timeout` of the server.
    #[cfg(feature = "agent")]
    pub fn server(&self, deadline: Duration) -> Result<Option<ServerStatus>> {
        let home = match self.home.locate() {
            Ok(home) => home,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        server::ask(
            &home,
            &[Domain::device_keys(), Domain::goals(), Domain::logs(), Domain::state()],
            deadline,
        )
    }

    /// Whether `registry.json` can be understood.
    ///
    /// # Errors
    /// `Corrupt`; `ReadOnly` or `Io` from the system.
    #[cfg(feature = "agent")]
    pub(crate) fn check_file(home: &PreparedHome) -> Result<()> {
        file::read(&home.registry_path()).map(drop)
    }

    /// Opens one database read-only and answers what is really in it. Writes nothing, and leaves no -wal or
    /// -shm file that was not there: a -wal without a -shm is read from a private copy of the database.
    /// It does not check the content's integrity.
    ///
    /// # Errors
    /// `NotFound` when there is no such database, `Conflict` when it was moved to a server and the configuration does not say
    /// so, `Invalid` when its file is a link or a folder, `Corrupt` when
    /// it is no database, `ReadOnly` when this user may not read it, `Busy` when it is being recovered for over a
    /// second or was written meanwhile, and those of [`list`](Self::list).
    pub fn inspect(&self, name: &str) -> Result<Inspection> {
        Domain::new(name).check()?;
        let home = self.home.locate()?;
        let path = home.database_path(name);
        let locked = home.lock_path(&format!("{name}.init"));
        inspect::inspect(name, &path).map_err(|error| {
            let error = self.or_moved(name, error);
            let error = blame_file_system(holders::blame(error, &path, &locked), &path);
            error.in_database(name, &path)
        })
    }

    /// How large each table of a database is with its indexes, the largest first. Reads every page of the file, and gives up
    /// after `deadline`. Opens the database as [`inspect`](Self::inspect) does; its log is not worked off meanwhile.
    ///
    /// ```
    /// # fn main() -> rowhouse::Result<()> {
    /// # use rowhouse::{Domain, Home, Runtime, RuntimeDbRegistry};
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let home = Home::at(folder.path());
    /// let runtime = Runtime::builder(home.clone()).domain(Domain::new("cache")).open()?;
    /// let create = "CREATE TABLE page(url TEXT PRIMARY KEY, body TEXT)";
    /// runtime.database("cache")?.write(|tx| tx.execute(create, []))?;
    /// let sizes = RuntimeDbRegistry::new(&home).table_sizes("cache", std::time::Duration::from_secs(2))?;
    /// let page = sizes.iter().find(|size| size.table == "page").expect("the table");
    /// assert_eq!((page.bytes, page.index_bytes), (4096, 4096));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Timeout` after `deadline`; and those of [`inspect`](Self::inspect).
    pub fn table_sizes(&self, name: &str, deadline: Duration) -> Result<Vec<TableSize>> {
        Domain::new(name).check()?;
        let home = self.home.locate()?;
        let path = home.database_path(name);
        if check_database_file(&path)?.is_none() {
            let missing = Error::new(ErrorKind::NotFound, "there is no such database").at_path(&path);
            return Err(self.or_moved(name, missing.advise("list the databases of this home")));
        }
        let told = |error| holders::blame(error, &path, &home.lock_path(&format!("{name}.init")));
        tables::sizes(&path, deadline, inspect::BUSY_TIMEOUT)
            .map_err(|error| blame_file_system(told(error), &path).in_database(name, &path))
    }

    /// Writes out the newest rows of the home's log as [`Logs::newest`](crate::stores::Logs::newest) does, without a runtime:
    /// nothing in the home is created, recovered, migrated or set aside.
    ///
    /// ```
    /// # fn main() -> rowhouse::Result<()> {
    /// # use rowhouse::{Home, Runtime, RuntimeDbRegistry, stores::LogFormat};
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let home = Home::at(folder.path());
    /// # drop(Runtime::open(home.clone())?.logs().query(&rowhouse::LogQuery::recent())?);
    /// let mut lines = Vec::new();
    /// RuntimeDbRegistry::new(&home).newest_logs(100, LogFormat::JsonLines, &mut lines)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `ReadOnly` also for a log with an older schema, `SchemaTooNew` for a newer one, `Unsupported` for another program's;
    /// `Full` or `Io` of the writer; and those of [`inspect`](Self::inspect).
    #[cfg(feature = "agent")]
    pub fn newest_logs(
        &self,
        rows: usize,
        format: crate::stores::LogFormat,
        to: &mut dyn std::io::Write,
    ) -> Result<crate::stores::logs::LogExport> {
        let home = self.home.locate()?;
        let path = home.database_path("logs");
        let told = |error| holders::blame(error, &path, &home.lock_path("logs.init"));
        crate::stores::logs::newest_unopened(&path, rows, format, to)
            .map_err(|error| blame_file_system(told(error), &path).in_database("logs", &path))
    }

    /// How far the [steps](crate::Step) of a database are, by name, whoever does them. Opens the database, read-only and
    /// as [`inspect`](Self::inspect) does, only when a program had steps to do in it in this home.
    ///
    /// # Errors
    /// As for [`inspect`](Self::inspect).
    pub fn steps(&self, name: &str) -> Result<Vec<StepStatus>> {
        Domain::new(name).check()?;
        let home = self.home.locate()?;
        let path = home.database_path(name);
        let told = |error| holders::blame(error, &path, &home.lock_path(&format!("{name}.init")));
        let is_here = || Ok::<_, Error>(check_database_file(&path)?.is_some() && !self.is_on_server(name)?);
        if !home.lock_path(&steps_lock(name)).exists() || !is_here()? {
            return Ok(Vec::new());
        }
        inspect::steps(&path).map_err(|error| blame_file_system(told(error), &path).in_database(name, &path))
    }

    /// What the processes that have this home open publish about themselves. Those that died without clearing
    /// up are listed as not alive.
    ///
    /// # Errors
    /// As for [`list`](Self::list).
    pub fn processes(&self) -> Result<Vec<ProcessStatus>> {
        match self.home.locate() {
            Ok(home) => Ok(status_page::read_all(&home.run_dir())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// What the processes that have this home open did with each database so far, from their own counters. Takes no lock
    /// and opens no database. What processes counted that have ended is gone.
    ///
    /// ```
    /// # fn main() -> rowhouse::Result<()> {
    /// # use rowhouse::{Domain, Home, Runtime, RuntimeDbRegistry};
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let home = Home::at(folder.path());
    /// let runtime = Runtime::builder(home.clone()).domain(Domain::new("cache")).open()?;
    /// runtime.database("cache")?.write(|tx| tx.execute("CREATE TABLE page(url TEXT)", []))?;
    /// let all = RuntimeDbRegistry::new(&home).stats()?;
    /// assert_eq!((all[0].info.name.as_str(), all[0].total.commits, all[0].processes.len()), ("cache", 1, 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`list`](Self::list).
    pub fn stats(&self) -> Result<Vec<DatabaseStats>> {
        let processes: Vec<_> = self.processes()?.into_iter().filter(|process| process.alive).collect();
        let all = self.list()?.into_iter().map(|info| stats::of(info, &processes));
        Ok(all.collect())
    }

    /// Who uses which database of the home right now: who has it open, writes, reads, has the turn or waits for it, and
    /// who keeps deleted files open. Takes no lock and opens no database; the system's own tables tell (Linux).
    ///
    /// ```
    /// # fn main() -> rowhouse::Result<()> {
    /// # use rowhouse::{DatabaseLock, Home, RuntimeDbRegistry};
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let home = Home::at(folder.path());
    /// for database in RuntimeDbRegistry::new(&home).who()?.databases {
    ///     for user in database.processes.iter().flatten() {
    ///         let writes = user.holds.as_ref().is_some_and(|locks| locks.contains(&DatabaseLock::Write));
    ///         println!("{}: {}{}", database.name, user.process, if writes { " writes" } else { "" });
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`list`](Self::list).
    pub fn who(&self) -> Result<HomeHolders> {
        let in_files = self.list()?.into_iter().filter(|database| !database.is_on_server());
        self.look_who(in_files.map(|database| database.name).collect())
    }

    /// The same as [`who`](Self::who) for one database.
    ///
    /// # Errors
    /// `NotFound` when there is no such database, and none of that name was deleted and is still open; `Invalid` when
    /// the name is no domain's; and those of [`list`](Self::list).
    pub fn who_has(&self, name: &str) -> Result<HomeHolders> {
        Domain::new(name).check()?;
        let listed = self.list()?.iter().any(|database| database.name == name);
        let mut found = self.look_who(listed.then(|| name.to_owned()).into_iter().collect())?;
        found.databases.retain(|database| database.name == name);
        found.deleted = found.deleted.map(|_| Vec::new());
        if found.databases.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no database named {name}"))
                .at_path(self.home.path())
                .advise("list the databases of this home"));
        }
        Ok(found)
    }

    fn look_who(&self, names: BTreeSet<String>) -> Result<HomeHolders> {
        match self.home.locate() {
            Ok(home) => Ok(who::who(&home, names)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(HomeHolders::of_no_home()),
            Err(error) => Err(error),
        }
    }

    /// What is said of a database that is not there: where it went, when that is why.
    fn or_moved(&self, name: &str, error: Error) -> Error {
        #[cfg(feature = "agent")]
        if error.kind() == ErrorKind::NotFound {
            return Domain::new(name).is_on_server(&self.home).err().unwrap_or(error);
        }
        #[cfg(not(feature = "agent"))]
        let _ = name;
        error
    }

    fn is_on_server(&self, name: &str) -> Result<bool> {
        Ok(self.list()?.iter().any(|found| found.name == name && found.is_on_server()))
    }

    /// The process that is inside a write transaction of a database right now, where the system tells (Linux).
    ///
    /// # Errors
    /// As for [`list`](Self::list); `Invalid` when the name is no domain's.
    pub fn holder(&self, name: &str) -> Result<Option<Holder>> {
        Domain::new(name).check()?;
        match self.home.locate() {
            Ok(home) => Ok(write_lock_holder(&home.database_path(name))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Merges one entry into `registry.json`. Reads only, takes no lock, when it says so already.
    ///
    /// # Errors
    /// `Busy` when another process keeps the registry's lock for over a second; `ReadOnly`, `Full` or `Io` from
    /// the system. A runtime can go on without: the registry only informs.
    pub(crate) fn record(&self, entry: &RegistryEntry) -> Result<()> {
        self.record_all(std::slice::from_ref(entry))
    }

    /// Merges several entries in one step.
    ///
    /// # Errors
    /// As for [`record`](Self::record).
    pub(crate) fn record_all(&self, entries: &[RegistryEntry]) -> Result<()> {
        file::merge(&self.home.prepare()?, entries)
    }
}

/// The names of the `*.sqlite` files in a folder.
fn database_files(folder: &Path, warnings: &mut Vec<String>) -> Result<BTreeSet<String>> {
    let failed = |error| Error::io("list the home", folder, error);
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = PathBuf::from(entry.map_err(failed)?.file_name());
        if path.extension() != Some(OsStr::new("sqlite")) {
            continue;
        }
        match path.file_stem().and_then(OsStr::to_str).filter(|name| Domain::new(*name).check().is_ok()) {
            Some(name) => {
                names.insert(name.to_owned());
            }
            None => warnings.push(format!("{} is not named like a domain's database", path.display())),
        }
    }
    Ok(names)
}

/// One that is not in a file. What lies in the file's place is nobody's, and is told.
#[cfg(feature = "agent")]
fn on_server(
    home: &PreparedHome,
    name: &str,
    place: ServerPlace,
    entries: &serde_json::Map<String, serde_json::Value>,
    warnings: &mut Vec<String>,
) -> DatabaseInfo {
    let info = info(home, name, entries, &mut Vec::new());
    if info.present {
        warnings.push(format!("{} {}", info.path.display(), server::NOT_READ));
    }
    // What the registry says is of the file that was here.
    DatabaseInfo {
        present: false,
        server: Some(place),
        moved_to: None,
        schema_version: None,
        program: None,
        program_version: None,
        written_at: None,
        main_bytes: 0,
        wal_bytes: 0,
        shm_bytes: 0,
        ..info
    }
}

fn info(
    home: &PreparedHome,
    name: &str,
    entries: &serde_json::Map<String, serde_json::Value>,
    warnings: &mut Vec<String>,
) -> DatabaseInfo {
    let path = home.database_path(name);
    let checked = check_database_file(&path);
    // On a file system that is refused, even asking for the size can hang.
    let refused = checked.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unsupported);
    if let Err(error) = checked {
        warnings.push(error.to_string());
    }
    let size = |ending| {
        if refused {
            return Ok(0);
        }
        fs::symlink_metadata(with_ending(&path, ending)).map(|found| found.len())
    };
    let main = size("");
    let entry = file::entry(entries, name);
    DatabaseInfo {
        name: name.to_owned(),
        present: main.is_ok(),
        #[cfg(feature = "agent")]
        server: None,
        // A mark that cannot be read is told by whoever opens the domain.
        #[cfg(feature = "agent")]
        moved_to: marker::gone_to(home, name).ok().flatten().filter(|_| !marker::is_cutting_over(home)),
        role: entry.and_then(|entry| file::field(entry, "role")),
        durability: entry.and_then(|entry| file::field(entry, "durability")),
        schema_version: entry.and_then(|entry| file::field(entry, "schema_version")),
        program: entry.and_then(|entry| file::field(entry, "program")),
        program_version: entry.and_then(|entry| file::field(entry, "program_version")),
        written_at: entry.and_then(|entry| file::field(entry, "written_at")),
        main_bytes: main.unwrap_or(0),
        wal_bytes: size("-wal").unwrap_or(0),
        shm_bytes: size("-shm").unwrap_or(0),
        path,
    }
}

#[cfg(test)]
mod tests;
