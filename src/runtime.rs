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

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::backup::{
    self, BackupOptions, BackupProgress, BackupReport, Candidate, RestoreOptions, RestoreReport,
};
use crate::config::Limits;
#[cfg(feature = "agent")]
use crate::config::backend::Backends;
use crate::domain::{Domain, Role};
use crate::error::{Error, ErrorKind, Result};
use crate::forks;
use crate::home::{Home, PreparedHome};
use crate::maintenance::{self, CompactReport, MaintainOptions, MaintainProgress, MaintainReport};
use crate::move_backend;
#[cfg(feature = "postgres")]
use crate::move_backend::{MoveOptions, MoveProgress, MoveReport};
#[cfg(feature = "postgres")]
use crate::postgres::{self, OnServer};
use crate::presence::Presence;
use crate::registry::{RegistryEntry, RuntimeDbRegistry};
use crate::sqlite::connect::Spec;
use crate::sqlite::guard;
use crate::sqlite::health::Health;
use crate::sqlite::memory::Memory;
use crate::sqlite::stats::Stats;
use crate::sqlite::status_page::{self, StatusPage};
use crate::sqlite::steps::{Runner, Step};
use crate::sqlite::{CloseReport, Database};
#[cfg(feature = "agent")]
use crate::stores::logs::{LogLevels, LogOptions, LogSink, setting::LevelSource, sink::SinkSlot};
use crate::telemetry;

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

/// Chooses the domains of a runtime.
#[must_use]
pub struct Builder {
    home: Home,
    domains: Vec<Domain>,
    limits: Limits,
    ephemeral: bool,
    /// The level of the built-in logs where neither the home nor the environment says one.
    #[cfg(feature = "agent")]
    log_levels: LogLevels,
    /// The logs are opened only if something may be written to them.
    #[cfg(feature = "agent")]
    logs_by_level: bool,
}

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

impl Builder {
    /// Adds a domain.
    pub fn domain(mut self, domain: Domain) -> Self {
        self.domains.push(domain);
        self
    }

    /// Adds the built-in domains: state, logs, goals, device keys. The logs are left out, neither created nor opened, while
    /// their level is `off`: see [`log_levels`](Self::log_levels).
    #[cfg(feature = "agent")]
    pub fn agent_domains(mut self) -> Self {
        self.logs_by_level = true;
        self.domains.extend([Domain::state(), Domain::logs(), Domain::goals(), Domain::device_keys()]);
        self
    }

    /// Which events the built-in logs take where the user says nothing. What is set in the home's `config.toml` (`level`
    /// under `[logs]`) comes first, then the environment variable `RUST_LOG`, then this. Default `info`.
    #[cfg(feature = "agent")]
    pub fn log_levels(mut self, levels: LogLevels) -> Self {
        self.log_levels = levels;
        self
    }

    /// Other limits than the default ones, for all its databases.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Keeps nothing: every database lives in the memory of this process, new and migrated, and is gone with the
    /// runtime. Everything else works as on a disk. No file is read, created or locked, so the home may be anywhere, be
    /// missing, or belong to somebody else. [`Runtime::is_ephemeral`] and [`Database::warnings`] say so.
    ///
    /// ```
    /// # fn main() -> rowhouse::Result<()> {
    /// use rowhouse::{Domain, Home, Runtime};
    /// let runtime = Runtime::builder(Home::at("/nowhere")).domain(Domain::new("cache")).ephemeral().open()?;
    /// assert!(runtime.is_ephemeral());
    /// runtime.database("cache")?.write(|tx| tx.execute("CREATE TABLE page(url TEXT)", []))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn ephemeral(mut self) -> Self {
        self.ephemeral = true;
        self
    }

    /// Opens the home: creates and migrates what is missing, and answers when every required domain is ready.
    /// A best-effort domain is attached in the background.
    ///
    /// A home that may not be written is read as it is, and nothing is created in it: [`Health::ReadOnly`], with the
    /// reason in [`Database::warnings`]. A commit of a program that does write it is seen by the next read.
    ///
    /// # Errors
    /// - `Invalid`: a bad domain name, a home that is a file, a database that is a folder or a link.
    /// - `Conflict`: two declarations of one domain; a file of another program or domain; a gap in its migrations.
    /// - `Corrupt`: a file that is damaged and whose domain refuses to have it replaced ([`Domain::on_damage`]), or that
    ///   does not tell which schema it holds.
    /// - `Unsupported`: a file system or an SQLite that cannot do it.
    /// - `SchemaTooNew`: a newer program wrote it; names what to install.
    /// - `Busy`: somebody else was creating or migrating it for longer than the deadline.
    /// - `ReadOnly`: the home cannot be created; this user may not read it; or it may not be written and a required
    ///   database is missing. Names the command that helps; [`ephemeral`](Self::ephemeral) always opens.
    /// - `Full`, `Io`: of the system.
    #[cfg_attr(not(feature = "agent"), allow(unused_mut))]
    pub fn open(mut self) -> Result<Runtime> {
        for (at, domain) in self.domains.iter().enumerate() {
            domain.check()?;
            if self.domains[..at].iter().any(|other| other.name() == domain.name()) {
                return Err(declared_twice(domain));
            }
        }
        let folder = if self.ephemeral { self.home.unused()? } else { self.home.prepare()? };
        let place = OPEN.lock().entry((folder.path().to_owned(), self.ephemeral)).or_default().clone();
        // Held while opening: a second open of this home waits, and finds the first.
        let mut place = place.lock();
        let open = place.upgrade().filter(|inner| inner.owner == forks::generation() && !inner.is_closed());
        // Before anything is made in the home: a wrong setting leaves nothing behind.
        #[cfg(all(feature = "agent", not(feature = "postgres")))]
        self.backends(&folder)?;
        let enter = || {
            if self.ephemeral {
                return Ok(Presence::default());
            }
            enter(&folder, Instant::now() + self.limits.deadline)
        };
        #[cfg(not(feature = "postgres"))]
        let presence = enter()?;
        #[cfg(feature = "postgres")]
        let (presence, backends, server) = loop {
            let backends = self.backends(&folder)?;
            let server = self.reach_server(&backends, &folder, open.as_deref())?;
            let presence = enter()?;
            // Somebody who moved the data elsewhere had the home alone until now.
            if self.backends(&folder)? == backends {
                break (presence, backends, server);
            }
        };
        let inner = match open {
            Some(inner) => inner,
            None => Arc::new(self.inner(folder)?),
        };
        #[cfg(feature = "agent")]
        if self.logs_by_level && !self.ephemeral {
            self.leave_out_logs(&inner);
        }
        #[cfg(feature = "postgres")]
        if let Some(server) = server {
            self.move_to_server(&inner, &backends, &server)?;
        }
        if !self.ephemeral {
            // Those that are left are files.
            let moved = |domain: &Domain| move_backend::marker::refuse_moved(&inner.folder, domain.name());
            self.domains.iter().try_for_each(moved)?;
        }
        // The best-effort ones first: their own threads attach them while this one opens the required ones.
        for role in [Role::BestEffort, Role::Required] {
            for domain in self.domains.iter().filter(|domain| domain.role == role) {
                inner.add(domain, &self.limits, &presence)?;
            }
        }
        *place = Arc::downgrade(&inner);
        Ok(Runtime { inner })
    }

    /// Which engines its domains are on.
    #[cfg(feature = "agent")]
    fn backends(&self, folder: &PreparedHome) -> Result<Backends> {
        if self.ephemeral {
            return Ok(Backends::default());
        }
        Backends::of(folder.path(), self.domains.iter().map(Domain::name))
    }

    /// The server that domains are on, if any is: that of the open runtime, or a new one.
    #[cfg(feature = "postgres")]
    fn reach_server(
        &self,
        backends: &Backends,
        folder: &PreparedHome,
        open: Option<&Inner>,
    ) -> Result<Option<Arc<postgres::Server>>> {
        let Some(settings) = backends.server(folder.path())? else { return Ok(None) };
        if let Some(server) = open.and_then(|inner| inner.on_server.server()) {
            return Ok(Some(server));
        }
        postgres::Server::open(&settings, Instant::now() + self.limits.deadline).map(Some)
    }

    /// Opens the domains that are on a server, and takes them out of those that become files.
    #[cfg(feature = "postgres")]
    fn move_to_server(
        &mut self,
        inner: &Inner,
        backends: &Backends,
        server: &Arc<postgres::Server>,
    ) -> Result<()> {
        let (there, here) = std::mem::take(&mut self.domains)
            .into_iter()
            .partition(|domain: &Domain| backends.is_on_server(domain.name()));
        self.domains = here;
        let _alone = inner.adding.lock();
        for domain in there {
            let slot = inner.page.as_ref().map(|page| page.slot(domain.name()));
            inner.on_server.add(server, &domain, &self.limits, slot.as_ref())?;
        }
        Ok(())
    }

    /// Leaves the logs out while their level is `off`.
    #[cfg(feature = "agent")]
    fn leave_out_logs(&mut self, inner: &Inner) {
        let source = LevelSource::new(Some(inner.folder.path()), self.log_levels.clone());
        let is_open = inner.databases.read().contains_key("logs");
        if is_open || !source.levels().is_off() {
            return;
        }
        if let Some(at) = self.domains.iter().position(|domain| domain.name() == "logs") {
            *inner.logs_off.lock() = Some((self.domains.remove(at), self.limits.clone()));
        }
    }

    fn refuse_ephemeral(&self) -> Result<()> {
        if self.ephemeral { Err(nothing_on_a_disk()) } else { Ok(()) }
    }

    /// A runtime without databases.
    fn inner(&self, folder: PreparedHome) -> Result<Inner> {
        if let Some(why) = folder.read_only() {
            telemetry::warn(&format_args!("the home can only be read: {why}"));
        }
        let publishes = !self.ephemeral && folder.read_only().is_none();
        if publishes {
            status_page::sweep(&folder.run_dir());
        }
        let (program, version) = self.program();
        Ok(Inner {
            page: publishes.then(|| StatusPage::create(&folder.run_dir(), &program, &version).ok()).flatten(),
            home: self.home.clone(),
            folder,
            owner: forks::generation(),
            memory: self.ephemeral.then(|| Memory::new().map(Arc::new)).transpose()?,
            databases: RwLock::default(),
            #[cfg(feature = "postgres")]
            on_server: OnServer::default(),
            adding: Mutex::default(),
            closed: AtomicBool::new(false),
            steps: Arc::default(),
            #[cfg(feature = "agent")]
            log_sink: SinkSlot::default(),
            #[cfg(feature = "agent")]
            log_levels: self.log_levels.clone(),
            #[cfg(feature = "agent")]
            logs_off: Mutex::default(),
            #[cfg(feature = "device-keys")]
            memory_keys: Arc::default(),
        })
    }

    /// Copies all databases of the home, as [`Runtime::backup`] does, without opening it: nothing is created or migrated.
    /// The domains given here, if any, say which databases are required; for others, that is what the registry says.
    ///
    /// # Errors
    /// As [`Runtime::backup`]; `NotFound` when there is no home.
    pub fn backup(
        self,
        options: &BackupOptions,
        progress: &mut dyn FnMut(&BackupProgress<'_>),
    ) -> Result<BackupReport> {
        self.refuse_ephemeral()?;
        self.home.locate()?;
        let folder = self.home.prepare()?;
        refuse_read_only(&folder, "a backup")?;
        let place = OPEN.lock().entry((folder.path().to_owned(), false)).or_default().clone();
        let place = place.lock();
        if let Some(inner) = place.upgrade().filter(|inner| inner.owner == forks::generation()) {
            drop(place);
            return inner.backup(options, progress);
        }
        let presence = enter(&folder, Instant::now() + options.wait)?;
        let program = self.program();
        let declared = self.domains.into_iter().map(|domain| (domain.clone(), None)).collect();
        let found = candidates(&self.home, &folder, &self.limits, &presence, declared)?;
        backup::make(&folder, found, program, options, progress)
    }

    /// Maintains the databases of the home, as [`Runtime::maintain`] does, without opening it.
    ///
    /// # Errors
    /// As [`Runtime::maintain`]; `NotFound` when there is no home.
    pub fn maintain(
        self,
        options: &MaintainOptions,
        progress: &mut dyn FnMut(&MaintainProgress<'_>),
    ) -> Result<MaintainReport> {
        self.refuse_ephemeral()?;
        self.home.locate()?;
        let folder = self.home.prepare()?;
        refuse_read_only(&folder, "maintaining")?;
        let place = OPEN.lock().entry((folder.path().to_owned(), false)).or_default().clone();
        let place = place.lock();
        if let Some(inner) = place.upgrade().filter(|inner| inner.owner == forks::generation()) {
            drop(place);
            return inner.maintain(options, progress);
        }
        let presence = enter(&folder, Instant::now() + options.wait)?;
        let declared = self.domains.into_iter().map(|domain| (domain, None)).collect();
        let found = candidates(&self.home, &folder, &self.limits, &presence, declared)?;
        maintenance::maintain(&folder, chosen(found, &folder, options)?, options, progress)
    }

    /// Writes databases of the home anew, without their free pages, also those that cannot give them back one by one; each
    /// gets the place of the old file when it is whole and checked. Nobody may have the home open.
    ///
    /// Needs as much free space as the new file has. Killed at any moment it leaves the old file as it was.
    ///
    /// # Errors
    /// Then the database that is named is as it was.
    /// - `Busy`: somebody has a database open; names who.
    /// - `Full`: there is not enough room; says how much is needed and how much is there.
    /// - `Corrupt`: the database, or what was written, is damaged. `NotFound`: there is none of that name.
    /// - `Unsupported`: a schema needs functions or collations that this program does not bring along.
    /// - `ReadOnly`, `Io`: of the system.
    pub fn compact(
        self,
        options: &MaintainOptions,
        progress: &mut dyn FnMut(&MaintainProgress<'_>),
    ) -> Result<CompactReport> {
        self.refuse_ephemeral()?;
        self.home.locate()?;
        let folder = self.home.prepare()?;
        refuse_read_only(&folder, "compacting")?;
        let declared = self.domains.into_iter().map(|domain| (domain, None)).collect();
        // Nobody of this library has it open, so neither has this call: it has the home alone.
        let found = candidates(&self.home, &folder, &self.limits, &Presence::default(), declared)?;
        let specs = chosen(found, &folder, options)?.into_iter().map(|candidate| candidate.spec).collect();
        maintenance::compact(&folder, specs, options, progress)
    }

    /// Puts the databases of a backup into the home, which nobody may have open: all of them or none. Databases that are
    /// not in the backup stay as they are. What was there is moved to the home's `quarantine/`.
    ///
    /// The domains given here are those whose schemas this program knows. A restore that is broken off is finished by
    /// the next one, or by the next [`open`](Self::open).
    ///
    /// # Errors
    /// Then nothing was changed.
    /// - `Busy`: somebody has a database open; names who.
    /// - `Corrupt`: the backup is damaged. `NotFound`: it is no backup.
    /// - `SchemaTooNew`: a newer program made it, or wrote a schema that this one must not read.
    /// - `Conflict`: a database belongs to another domain. `Full`: there is not enough room.
    /// - `Unsupported`, `Invalid`, `ReadOnly`, `Io`: as when opening.
    pub fn restore(
        self,
        backup: &Path,
        options: &RestoreOptions,
        progress: &mut dyn FnMut(&BackupProgress<'_>),
    ) -> Result<RestoreReport> {
        self.refuse_ephemeral()?;
        backup::restore(&self.home, &self.domains, backup, options, progress)
    }

    /// Moves the domains given here that can be on a server there, or back into files of the home, and changes the home's
    /// `config.toml` to say so. Domains that are there already, and those that are always files, stay as they are. With its
    /// threads go their histories: transcripts in a home, rows on a server.
    ///
    /// Nobody may have the home open; on the way to files every table on the server is locked for all machines, which then
    /// find it gone. Both sides are read back and compared before the target counts. The source is put aside, never
    /// deleted. Killed at any moment, exactly one side counts: the next move, or the next [`open`](Self::open), finishes
    /// what was committed. The server is the one that the home's `config.toml` or the variable
    /// `ROWHOUSE_POSTGRES_URL` names.
    ///
    /// # Errors
    /// Then nothing was changed, but for `OutcomeUnknown`.
    /// - `Busy`: somebody writes a transcript; or has the home open, or writes on the server, for longer than [`MoveOptions::wait`].
    /// - `Conflict`: everything is there already; the target holds rows or transcripts of its own; the
    ///   schemas differ; a transcript stands in no list.
    /// - `Invalid`: the other side cannot hold some values, which are named; the configuration names no server, or cannot
    ///   be changed.
    /// - `NotFound`: there is no home, or nothing in it. `Full`: there is not enough room.
    /// - `Corrupt`: what was read back is not what was copied; a transcript cannot be read.
    /// - `OutcomeUnknown`: the connection was lost in the commit and the server cannot be asked: the next call does.
    /// - `SchemaTooNew`, `ReadOnly`, `Unsupported`, `Io`: as when opening.
    #[cfg(feature = "postgres")]
    pub fn migrate_backend(
        self,
        options: &MoveOptions,
        progress: &mut dyn FnMut(&MoveProgress<'_>),
    ) -> Result<MoveReport> {
        self.refuse_ephemeral()?;
        move_backend::run(&self.home, &self.domains, &self.limits, options, progress)
    }

    /// The program as its domains name it.
    fn program(&self) -> (String, String) {
        self.domains.iter().find_map(|domain| domain.program.clone()).unwrap_or_else(unnamed_program)
    }
}

/// A program that does not name itself goes by its file's name.
pub(crate) fn unnamed_program() -> (String, String) {
    let name =
        std::env::current_exe().ok().and_then(|path| Some(path.file_stem()?.to_string_lossy().into_owned()));
    (name.unwrap_or_else(|| "unknown".to_owned()), "unknown".to_owned())
}

fn declared_twice(domain: &Domain) -> Error {
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

    fn backup(
        &self,
        options: &BackupOptions,
        progress: &mut dyn FnMut(&BackupProgress<'_>),
    ) -> Result<BackupReport> {
        if self.memory.is_some() {
            return Err(nothing_on_a_disk());
        }
        refuse_read_only(&self.folder, "a backup")?;
        let open: Vec<_> = self.databases.read().values().cloned().collect();
        let presence = enter(&self.folder, Instant::now() + options.wait)?;
        let program =
            open.iter().find_map(|(domain, _)| domain.program.clone()).unwrap_or_else(unnamed_program);
        let limits =
            open.first().map_or_else(Limits::default, |(_, database)| database.spec().limits.clone());
        let declared = open.into_iter().map(|(domain, database)| (domain, Some(database))).collect();
        let found = candidates(&self.home, &self.folder, &limits, &presence, declared)?;
        backup::make(&self.folder, found, program, options, progress)
    }

    fn maintain(
        &self,
        options: &MaintainOptions,
        progress: &mut dyn FnMut(&MaintainProgress<'_>),
    ) -> Result<MaintainReport> {
        guard::refuse_in_job()?;
        if self.memory.is_some() {
            return Err(nothing_on_a_disk());
        }
        refuse_read_only(&self.folder, "maintaining")?;
        let open: Vec<_> = self.databases.read().values().cloned().collect();
        let presence = enter(&self.folder, Instant::now() + options.wait)?;
        let limits =
            open.first().map_or_else(Limits::default, |(_, database)| database.spec().limits.clone());
        let declared = open.into_iter().map(|(domain, database)| (domain, Some(database))).collect();
        let found = candidates(&self.home, &self.folder, &limits, &presence, declared)?;
        maintenance::maintain(&self.folder, chosen(found, &self.folder, options)?, options, progress)
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

/// Has the home open, after finishing a restore or a move that was broken off.
fn enter(folder: &PreparedHome, deadline: Instant) -> Result<Presence> {
    loop {
        let presence = Presence::enter(folder, deadline)?;
        if !backup::is_interrupted(folder) {
            #[cfg(feature = "postgres")]
            if move_backend::marker::is_cutting_over(folder) {
                drop(presence);
                move_backend::settle(folder, deadline)?;
                continue;
            }
            move_backend::marker::refuse_cutting_over(folder)?;
            return Ok(presence);
        }
        drop(presence);
        backup::finish_interrupted(folder, deadline).map_err(|error| match error.kind() {
            ErrorKind::ReadOnly => error
                .worded("a restore of this home was interrupted, and is not finished")
                .advise("open it once as a user who may write it: that finishes the restore"),
            _ => error,
        })?;
    }
}

/// Does something while this process neither has the home open nor opens it: who opens it meanwhile waits. `None` when it
/// has.
pub(crate) fn unless_open_here<T>(folder: &PreparedHome, then: impl FnOnce() -> T) -> Option<T> {
    let place = OPEN.lock().entry((folder.path().to_owned(), false)).or_default().clone();
    let place = place.try_lock()?;
    place.upgrade().is_none().then(then)
}

/// The databases of a home, by name: those declared here, and those that the registry knows.
fn candidates(
    home: &Home,
    folder: &PreparedHome,
    limits: &Limits,
    presence: &Presence,
    declared: Vec<(Domain, Option<Database>)>,
) -> Result<Vec<Candidate>> {
    let on_disk = |domain: &Domain| {
        let program = domain.program.clone().unwrap_or_else(unnamed_program);
        Spec::new(domain, folder, program, limits, None, presence)
    };
    let mut found = BTreeMap::new();
    for known in RuntimeDbRegistry::new(home).list()? {
        let spec = on_disk(&Domain::new(&known.name));
        let (role, durability) = (known.role, known.durability);
        let elsewhere = elsewhere(&known);
        found.insert(known.name, Candidate { spec, role, durability, refusal: None, elsewhere });
    }
    for (domain, database) in declared {
        domain.check()?;
        let (role, durability) = (Some(domain.role()), Some(domain.durability));
        let refusal = database.as_ref().and_then(Database::refuses_backup);
        let spec = database.map_or_else(|| on_disk(&domain), |database| database.spec().clone());
        let elsewhere = found.remove(domain.name()).and_then(|known: Candidate| known.elsewhere);
        found.insert(domain.name, Candidate { spec, role, durability, refusal, elsewhere });
    }
    Ok(found.into_values().collect())
}

/// On which server it is, when it is not here.
fn elsewhere(known: &crate::registry::DatabaseInfo) -> Option<String> {
    #[cfg(feature = "agent")]
    return known.server.as_ref().map(|place| place.server.clone());
    #[cfg(not(feature = "agent"))]
    {
        let _ = known;
        None
    }
}

/// Those of the candidates that were asked for, or all that have a file.
fn chosen(
    found: Vec<Candidate>,
    folder: &PreparedHome,
    options: &MaintainOptions,
) -> Result<Vec<maintenance::Candidate>> {
    let asked_for =
        |candidate: &&Candidate| options.databases.iter().any(|name| name == candidate.spec.domain.name());
    if let Some((candidate, server)) = found
        .iter()
        .filter(asked_for)
        .find_map(|candidate| Some((candidate, candidate.elsewhere.as_deref()?)))
    {
        let message = format!("{} is on {server}, not in a file", candidate.spec.domain.name());
        return Err(Error::new(ErrorKind::Unsupported, message).advise(
            "the server gives space back by itself (autovacuum); VACUUM FULL there writes its tables anew",
        ));
    }
    let is_there = |candidate: &Candidate| {
        candidate.elsewhere.is_none() && std::fs::symlink_metadata(&candidate.spec.path).is_ok()
    };
    let present: Vec<_> = found.into_iter().filter(is_there).collect();
    let named = |name: &str| present.iter().any(|candidate| candidate.spec.domain.name() == name);
    if let Some(missing) = options.databases.iter().find(|name| !named(name)) {
        return Err(Error::new(ErrorKind::NotFound, format!("this home has no database {missing:.32}"))
            .at_path(folder.path())
            .advise("`rowhouse status` lists the databases of a home"));
    }
    let is_wanted = |candidate: &Candidate| {
        options.databases.is_empty()
            || options.databases.iter().any(|name| name == candidate.spec.domain.name())
    };
    let wanted = present.into_iter().filter(is_wanted);
    Ok(wanted.map(|Candidate { spec, refusal, .. }| maintenance::Candidate { spec, refusal }).collect())
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the runtime is closed")
}

#[cfg(feature = "agent")]
fn logs_are_off() -> Error {
    Error::new(ErrorKind::NotFound, "the logs are off: their level is `off`, and they were not opened")
        .advise("`rowhouse logs level info` turns them on, also for programs that run")
}

fn nothing_on_a_disk() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "databases that are kept in memory only are not copied, restored, maintained or compacted",
    )
}

fn refuse_read_only(folder: &PreparedHome, what: &str) -> Result<()> {
    folder.read_only().map_or(Ok(()), |why| {
        Err(why
            .clone()
            .advise(format!("{what} needs the write locks: do it as a user who may write the home")))
    })
}
