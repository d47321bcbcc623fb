//! Opens domains, hands out handles, closes.
//!
//! Invariants:
//! 1. Nothing is opened lazily: what `open` did not open is not opened later.
//! 2. Two opens of one home in a process are one runtime; domains that the first did not have are added.
//! 3. A required domain is ready, or the open fails. A best-effort domain is never waited for. In a home that may not be
//!    written ready means that it can be read.
//! 4. A runtime that keeps nothing touches no file, and is never the runtime of one that does.
//! 5. A domain is opened once, whoever adds it; and none is added to a runtime that was closed meanwhile.
//! 6. No lock of a runtime is waited for while another one is held, but `adding`, which is taken first.
//!
//! | file | what |
//! |---|---|
//! | [`builder`] | which domains, and opening them |
//! | [`enter`] | having a home open, beside others |
//! | [`whole_home`] | backup, restore, maintenance and moves of all its databases |

mod builder;
mod enter;
mod whole_home;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;
#[cfg(feature = "agent")]
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

pub use builder::Builder;
pub(crate) use builder::unnamed_program;
pub(crate) use enter::unless_open_here;

use crate::backup::{BackupOptions, BackupProgress, BackupReport};
use crate::config::Limits;
use crate::domain::{Domain, Role};
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "agent")]
use crate::forks;
use crate::home::{Home, PreparedHome};
use crate::maintenance::{MaintainOptions, MaintainProgress, MaintainReport};
#[cfg(feature = "postgres")]
use crate::postgres::OnServer;
use crate::presence::Presence;
use crate::registry::{RegistryEntry, RuntimeDbRegistry};
use crate::sqlite::connect::Spec;
use crate::sqlite::health::Health;
use crate::sqlite::memory::Memory;
use crate::sqlite::stats::Stats;
use crate::sqlite::status_page::StatusPage;
use crate::sqlite::steps::{Runner, Step};
use crate::sqlite::{CloseReport, Database};
#[cfg(feature = "agent")]
use crate::stores::logs::{LogLevels, LogOptions, LogSink, setting::LevelSource, sink::SinkSlot};
use crate::telemetry;
#[cfg(feature = "agent")]
use enter::enter;

/// The open databases of one home. Cheap to clone; closes when the last clone and the last handle are gone.
///
/// ```
/// # fn main() -> rowhouse::Result<()> {
/// # let folder = std::env::temp_dir().join(format!("rowhouse-doc-{}", std::process::id()));
/// use rowhouse::{Domain, Home, Migration, Runtime};
///
/// const PAGES: &[Migration] =
///     &[Migration { name: "V1__page", sql: "CREATE TABLE page(url TEXT PRIMARY KEY, body TEXT NOT NULL)" }];
///
/// let runtime = Runtime::builder(Home::at(&folder)).domain(Domain::new("cache").migrations(PAGES)).open()?;
/// let cache = runtime.database("cache")?.label("fetch");
/// let (url, body) = ("https://example.org", "hello");
/// cache.write(|tx| tx.execute("INSERT INTO page VALUES (?1, ?2)", (url, body)))?;
/// let read: String = cache.read(|at| at.row("SELECT body FROM page WHERE url = ?1", [url], |row| row.get(0)))?;
/// assert_eq!(read, body);
/// # drop((cache, runtime));
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    home: Home,
    folder: PreparedHome,
    owner: u32,
    /// Where its databases are when nothing is kept.
    memory: Option<Arc<Memory>>,
    databases: RwLock<BTreeMap<String, (Domain, Database)>>,
    /// What is on a server.
    #[cfg(feature = "postgres")]
    on_server: OnServer,
    /// Held while a database is added.
    adding: Mutex<()>,
    /// No database is added any more.
    closed: AtomicBool,
    /// What this process publishes about itself; `None` where that cannot be.
    page: Option<StatusPage>,
    /// Does the steps of its databases.
    steps: Arc<Runner>,
    /// What writes its logs, when something does.
    #[cfg(feature = "agent")]
    log_sink: SinkSlot,
    /// Which events they take where the user says nothing.
    #[cfg(feature = "agent")]
    log_levels: LogLevels,
    /// The logs' domain, while their level is `off`.
    #[cfg(feature = "agent")]
    logs_off: Mutex<Option<(Domain, Limits)>>,
    /// The device keys when nothing is kept.
    #[cfg(feature = "device-keys")]
    memory_keys: Arc<crate::stores::device_keys::MemoryKeys>,
}

/// The runtimes of this process, by canonical home, and by whether they keep anything.
static OPEN: LazyLock<Mutex<BTreeMap<(PathBuf, bool), Place>>> = LazyLock::new(Mutex::default);

/// The runtime of one home, while there is one. Locked while it is opened.
type Place = Arc<Mutex<Weak<Inner>>>;

impl Runtime {
    /// Opens a home with the four built-in domains: state, logs, goals, device keys.
    ///
    /// # Errors
    /// As [`Builder::open`].
    #[cfg(feature = "agent")]
    pub fn open(home: Home) -> Result<Self> {
        Self::builder(home).agent_domains().open()
    }

    /// Opens a home with chosen domains.
    pub fn builder(home: Home) -> Builder {
        Builder {
            home,
            domains: Vec::new(),
            limits: Limits::default(),
            program: None,
            ephemeral: false,
            #[cfg(feature = "agent")]
            log_levels: LogLevels::default(),
            #[cfg(feature = "agent")]
            logs_by_level: false,
        }
    }

    /// A handle to a domain's database.
    ///
    /// # Errors
    /// `NotFound` when the runtime was not opened with this domain; `Unsupported` when it is on a server, where
    /// `Runtime::engine` reaches it.
    pub fn database(&self, name: &str) -> Result<Database> {
        // Its lock is given back before another one is taken.
        self.inner.get(name).ok_or_else(|| {
            #[cfg(feature = "postgres")]
            if let Some(database) = self.inner.on_server.get(name) {
                return database.no_file();
            }
            #[cfg(feature = "agent")]
            if name == "logs" && self.inner.logs_off.lock().is_some() {
                return logs_are_off().at_path(self.inner.folder.path());
            }
            Error::new(ErrorKind::NotFound, format!("this runtime has no domain {name:.32}"))
                .at_path(self.inner.folder.path())
                .advise("declare it with Runtime::builder(home).domain(..)")
        })
    }

    /// A handle to a domain by which code that is written on [`Session`](crate::sql::Session) reads and writes it wherever
    /// the home's configuration has it: in a file, or on a server. The built-in stores are on it as well.
    ///
    /// # Errors
    /// `NotFound` when the runtime was not opened with this domain.
    #[cfg(feature = "agent")]
    pub fn engine(&self, name: &str) -> Result<crate::stores::database::Engine> {
        #[cfg(feature = "postgres")]
        if let Some(database) = self.inner.on_server.get(name) {
            return Ok(database.into());
        }
        self.database(name).map(Into::into)
    }

    /// The names of its domains.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.inner.databases.read().keys().cloned().collect();
        #[cfg(feature = "postgres")]
        names.extend(self.inner.on_server.names());
        names.sort_unstable();
        names
    }

    /// The threads store, on the state database.
    #[cfg(feature = "agent")]
    pub fn threads(&self) -> crate::stores::Threads {
        crate::stores::Threads::of(self.engine("state"))
    }

    /// The threads of the home with their histories, for sessions to write: transcripts in the home, or rows on the server
    /// that its configuration names.
    ///
    /// # Errors
    /// `NotFound` when the runtime has no state domain; of the home's folders.
    #[cfg(feature = "agent")]
    pub fn thread_store(&self) -> Result<Arc<dyn crate::thread_store::ThreadStore>> {
        #[cfg(feature = "postgres")]
        if self.inner.on_server.get("state").is_some() {
            return Ok(Arc::new(crate::thread_store::ServerThreadStore::new(self)?));
        }
        Ok(Arc::new(crate::thread_store::LocalThreadStore::new(self)?))
    }

    /// Brings folders of transcripts into the threads store.
    #[cfg(feature = "agent")]
    pub fn backfill(&self) -> crate::stores::Backfill {
        let lock = (!self.is_ephemeral()).then(|| self.inner.folder.lock_path("state.backfill"));
        crate::stores::Backfill::of(self.database("state"), self.goals_if_any(), lock)
    }

    /// Which thread started which, on the state database.
    #[cfg(feature = "agent")]
    pub fn spawn_edges(&self) -> crate::stores::SpawnEdges {
        crate::stores::SpawnEdges::of(self.engine("state"))
    }

    /// Memories drawn from threads, on the state database.
    #[cfg(feature = "agent")]
    pub fn memories(&self) -> crate::stores::Memories {
        crate::stores::Memories::of(self.engine("state"))
    }

    /// The log store, on the logs database.
    #[cfg(feature = "agent")]
    pub fn logs(&self) -> crate::stores::Logs {
        crate::stores::Logs::of(self.database("logs"))
    }

    /// What takes log events and writes them to the logs database; the one of this runtime, whose options are those of
    /// the first call. It follows the level that is set in the home within seconds, and opens the logs' database when
    /// that was `off` and is not any more.
    ///
    /// # Errors
    /// `NotFound` when the runtime was opened without logs; `Io` when no thread can be started; `Closed` in a fork.
    #[cfg(feature = "agent")]
    pub fn log_sink(&self, options: LogOptions) -> Result<LogSink> {
        let inner = &self.inner;
        // Before any lock: another thread may have held it when the process was forked.
        if inner.owner != forks::generation() {
            return Err(Error::new(
                ErrorKind::Closed,
                "this process is a fork of the one that opened the runtime",
            ));
        }
        if inner.logs_off.lock().is_none() {
            self.database("logs")?;
        }
        let weak = Arc::downgrade(inner);
        let open = move || weak.upgrade().ok_or_else(closed).and_then(|inner| inner.logs());
        let folder = inner.memory.is_none().then(|| inner.folder.path());
        let source = || LevelSource::new(folder, inner.log_levels.clone());
        inner.log_sink.get_or_start(source, Box::new(open), options)
    }

    /// The goal store, on the goals database.
    #[cfg(feature = "agent")]
    pub fn goals(&self) -> crate::stores::Goals {
        crate::stores::Goals::of(self.engine("goals"))
    }

    /// The goal store, in a runtime that has the domain.
    #[cfg(feature = "agent")]
    pub(crate) fn goals_if_any(&self) -> Option<crate::stores::Goals> {
        self.engine("goals").ok().map(|engine| crate::stores::Goals::of(Ok(engine)))
    }

    /// The device keys, on the device keys database; their private parts are in files of the home, or, when nothing is kept,
    /// in the memory of this runtime.
    #[cfg(feature = "device-keys")]
    pub fn device_keys(&self) -> crate::stores::DeviceKeys {
        let database = self.database("device_keys");
        if self.is_ephemeral() {
            return crate::stores::DeviceKeys::in_memory(database, self.inner.memory_keys.clone());
        }
        crate::stores::DeviceKeys::in_home(database, self.inner.folder.path())
    }

    /// Its home.
    pub fn home(&self) -> &Home {
        &self.inner.home
    }

    /// True when nothing is kept: see [`Builder::ephemeral`].
    pub fn is_ephemeral(&self) -> bool {
        self.inner.memory.is_some()
    }

    /// The worst state of its databases; a best-effort one can at most degrade it. The reason names each domain that is
    /// degraded, the holder is the first that is known.
    pub fn health(&self) -> Health {
        let (mut reasons, mut known) = (Vec::new(), None);
        for (name, (domain, database)) in &*self.inner.databases.read() {
            match (database.health(), domain.role()) {
                (Health::Ready, _) => {}
                (Health::Closed, _) => return Health::Closed,
                (found, Role::Required) if !matches!(found, Health::Degraded { .. }) => return found,
                // The reason begins with the domain's name.
                (Health::Degraded { reason, holder }, _) => {
                    reasons.push(reason);
                    known = known.or(holder);
                }
                (found, _) => reasons.push(format!("{name} is {}", word(&found))),
            }
        }
        #[cfg(feature = "postgres")]
        match self.inner.on_server.health() {
            None | Some(Health::Ready) => {}
            Some(Health::Degraded { reason, .. }) => reasons.push(reason),
            Some(other) => return other,
        }
        if reasons.is_empty() {
            return Health::Ready;
        }
        Health::Degraded { reason: reasons.join("; "), holder: known }
    }

    /// What each of its databases did since it was opened.
    ///
    /// ```
    /// # fn main() -> rowhouse::Result<()> {
    /// # use rowhouse::{Domain, Home, Runtime};
    /// let runtime = Runtime::builder(Home::at("/nowhere")).domain(Domain::new("cache")).ephemeral().open()?;
    /// runtime.database("cache")?.write(|tx| tx.execute("CREATE TABLE page(url TEXT)", []))?;
    /// let cache = &runtime.stats()["cache"];
    /// println!("{} commits, 99 % of them held the lock for at most {} µs", cache.commits, cache.hold_us.quantile(0.99));
    /// assert_eq!(cache.commits, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> BTreeMap<String, Stats> {
        let databases = self.inner.databases.read();
        let in_files = databases.iter().map(|(name, (_, database))| (name.clone(), database.stats()));
        #[cfg(feature = "postgres")]
        let in_files = in_files.chain(self.inner.on_server.stats());
        in_files.collect()
    }

    /// Copies all databases of the home, as they are at one instant, while everybody goes on writing: also those that this
    /// runtime does not have open. Every copy is one file that opens alone; `manifest.json` says what is in it.
    ///
    /// Writers wait for some milliseconds until the instant is found. While the copies are made, the write-ahead logs
    /// grow; they are worked off afterwards. `progress` is called on this thread.
    ///
    /// ```
    /// # fn main() -> rowhouse::Result<()> {
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let home = rowhouse::Home::at(folder.path().join("home"));
    /// use rowhouse::{BackupOptions, Domain, RestoreOptions, Runtime};
    /// let runtime = Runtime::builder(home.clone()).domain(Domain::new("cache")).open()?;
    /// let report = runtime.backup(&BackupOptions::default(), &mut |_| {})?;
    /// println!("{} databases in {}", report.manifest.databases.len(), report.folder.display());
    ///
    /// drop(runtime); // nobody may have the home open
    /// Runtime::builder(home).restore(&report.folder, &RestoreOptions::default(), &mut |_| {})?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Then nothing is left behind.
    /// - `Busy`: the write lock of a required database did not come in time; names who has it.
    /// - `Corrupt`: a required database is damaged. `NotFound`: it is missing, or there is none at all.
    /// - `Latched`, `Replaced`, `Closed`: a required database of this runtime takes no writes now.
    /// - `Conflict`: the folder exists already. `Full`: there is not enough room for the copies.
    /// - `Unsupported`: a schema needs functions or collations that this program does not bring along.
    /// - `ReadOnly`, `Io`: of the system.
    pub fn backup(
        &self,
        options: &BackupOptions,
        progress: &mut dyn FnMut(&BackupProgress<'_>),
    ) -> Result<BackupReport> {
        self.inner.backup(options, progress)
    }

    /// Gives the free pages of the home's databases back to the disk, works their logs off, and brings the query planner's
    /// statistics up to date, while everybody goes on writing. In the background that happens by itself where it is worth
    /// it; this does all of it now, also for databases that this runtime does not have open.
    ///
    /// The write lock is taken in its turn and for some milliseconds at a time. `progress` is called on this thread, which
    /// does all of it: this call, and [`Builder::maintain`], are the only ones that work off a log themselves.
    ///
    /// # Errors
    /// When nothing could be done for any database: the first one's error. Else such a database is in
    /// [`MaintainReport::left_out`].
    /// - `Busy`: the write lock did not come in time, or somebody reads what is in a long log.
    /// - `NotFound`: there is no database of that name. `Corrupt`, `Full`, `Io`: of its file.
    /// - `Latched`, `Replaced`, `Closed`: a database of this runtime takes no writes now.
    /// - `Reentrant`: called from inside a job. `ReadOnly`: the home may not be written.
    pub fn maintain(
        &self,
        options: &MaintainOptions,
        progress: &mut dyn FnMut(&MaintainProgress<'_>),
    ) -> Result<MaintainReport> {
        self.inner.maintain(options, progress)
    }

    /// Closes every database: writes what log events wait, refuses new work, works off what is queued, for at most `wait`
    /// each. Closing twice is fine. Handles answer `Closed` from then on.
    pub fn close(&self, wait: Duration) -> BTreeMap<String, CloseReport> {
        #[cfg(feature = "agent")]
        self.inner.log_sink.close(wait);
        // Before its databases are looked at: who adds one looks at this while nobody else looks at them.
        self.inner.closed.store(true, Ordering::SeqCst);
        let databases: Vec<_> = self
            .inner
            .databases
            .read()
            .iter()
            .map(|(name, (_, database))| (name.clone(), database.clone()))
            .collect();
        #[cfg(feature = "postgres")]
        self.inner.on_server.close();
        let reports = databases.into_iter().map(|(name, database)| (name, database.close(wait))).collect();
        // It has nothing more to say, however long handles are kept.
        if let Some(page) = &self.inner.page {
            page.withdraw();
        }
        reports
    }
}

fn word(health: &Health) -> &'static str {
    match health {
        Health::Attaching => "being attached",
        Health::Ready => "ready",
        Health::Degraded { .. } => "degraded",
        Health::ReadOnly => "read-only",
        Health::Latched => "latched",
        Health::Quarantined => "in quarantine",
        Health::Closed => "closed",
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("home", &self.inner.home.path())
            .field("domains", &self.names())
            .finish()
    }
}

pub(super) fn declared_twice(domain: &Domain) -> Error {
    Error::new(ErrorKind::Conflict, format!("the domain {} is declared twice, differently", domain.name()))
        .advise("declare each domain once, and open the runtime once in main")
}

impl Inner {
    fn is_closed(&self) -> bool {
        let databases = self.databases.read();
        self.closed.load(Ordering::SeqCst)
            || databases.values().any(|(_, database)| database.health() == Health::Closed)
    }

    fn get(&self, name: &str) -> Option<Database> {
        self.databases.read().get(name).map(|(_, database)| database.clone())
    }

    /// The logs' database; opens it when it was left out.
    #[cfg(feature = "agent")]
    fn logs(&self) -> Result<Database> {
        // Looked at, not kept: who asks for a database meanwhile asks for this lock too.
        let off = self.logs_off.lock().clone();
        if let Some((domain, limits)) = off {
            if self.is_closed() {
                return Err(closed());
            }
            let presence = enter(&self.folder, Instant::now() + limits.deadline)?;
            self.add(&domain, &limits, &presence)?;
            *self.logs_off.lock() = None;
        }
        self.get("logs").ok_or_else(closed)
    }

    fn add(&self, domain: &Domain, limits: &Limits, presence: &Presence) -> Result<()> {
        // An open, and the sink of logs that were off: one adds a domain, the other finds it. What runs while it is
        // opened, an `on_connect` or a logger, may look at the runtime.
        let _alone = self.adding.lock();
        if let Some((known, _)) = self.databases.read().get(domain.name()) {
            let same = known.migrations == domain.migrations
                && known.role == domain.role
                && known.durability == domain.durability
                && known.steps.iter().map(Step::name).eq(domain.steps.iter().map(Step::name));
            return if same { Ok(()) } else { Err(declared_twice(domain)) };
        }
        let name = domain.name();
        let program = domain.program.clone().unwrap_or_else(unnamed_program);
        let spec = Spec::new(domain, &self.folder, program, limits, self.memory.clone(), presence);
        let slot = self.page.as_ref().map(|page| page.slot(name));
        let registry = self.memory.is_none().then(|| RuntimeDbRegistry::new(&self.home));
        let database = Database::open(spec, slot, self.steps.clone(), move |spec, schema_version| {
            let Some(registry) = &registry else { return };
            let entry = RegistryEntry {
                name: spec.domain.name().to_owned(),
                role: spec.domain.role(),
                durability: spec.domain.durability,
                schema_version,
                program: Some(spec.program.clone()),
                written_at: None,
            };
            // The registry describes; what counts is in the database itself.
            if let Err(error) = registry.record(&entry) {
                telemetry::warn(&format_args!("the registry could not be written: {error}"));
            }
        })?;
        let mut databases = self.databases.write();
        if self.closed.load(Ordering::SeqCst) {
            // It was closed meanwhile, without this one, which closes here.
            drop(databases);
            return Err(closed());
        }
        databases.insert(name.to_owned(), (domain.clone(), database));
        Ok(())
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the runtime is closed")
}

#[cfg(feature = "agent")]
fn logs_are_off() -> Error {
    Error::new(ErrorKind::NotFound, "the logs are off: their level is `off`, and they were not opened")
        .advise("`rowhouse logs level info` turns them on, also for programs that run")
}
