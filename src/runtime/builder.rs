//! Chooses the domains of a runtime, and opens them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use super::enter::enter;
use super::{Inner, OPEN, Runtime, declared_twice};
use crate::config::Limits;
#[cfg(feature = "agent")]
use crate::config::backend::Backends;
use crate::domain::{Domain, Role};
use crate::error::Result;
use crate::forks;
use crate::home::{Home, PreparedHome};
use crate::move_backend;
#[cfg(feature = "postgres")]
use crate::postgres::{self, OnServer};
use crate::presence::Presence;
use crate::sqlite::memory::Memory;
use crate::sqlite::status_page::{self, StatusPage};
#[cfg(feature = "agent")]
use crate::stores::logs::{LogLevels, setting::LevelSource, sink::SinkSlot};
use crate::telemetry;

/// Chooses the domains of a runtime.
#[must_use]
pub struct Builder {
    pub(super) home: Home,
    pub(super) domains: Vec<Domain>,
    pub(super) limits: Limits,
    pub(super) program: Option<(String, String)>,
    pub(super) ephemeral: bool,
    /// The level of the built-in logs where neither the home nor the environment says one.
    #[cfg(feature = "agent")]
    pub(super) log_levels: LogLevels,
    /// The logs are opened only if something may be written to them.
    #[cfg(feature = "agent")]
    pub(super) logs_by_level: bool,
}

impl Builder {
    /// Adds a domain.
    pub fn domain(mut self, domain: Domain) -> Self {
        self.domains.push(domain);
        self
    }

    /// Name and version of this program, as others read them in lists and in the manifest of a backup. Default: those of the
    /// first domain that names one, else the name of the program's file.
    pub fn program(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.program = Some((name.into(), version.into()));
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
    /// missing, or belong to somebody else. [`Runtime::is_ephemeral`] and [`Database::warnings`](crate::Database::warnings) say so.
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
    /// A home that may not be written is read as it is, and nothing is created in it: [`Health::ReadOnly`](crate::Health::ReadOnly), with the
    /// reason in [`Database::warnings`](crate::Database::warnings). A commit of a program that does write it is seen by the next read.
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

    /// A runtime without databases.
    fn inner(&self, folder: PreparedHome) -> Result<Inner> {
        if let Some(why) = folder.read_only() {
            telemetry::warn(&format_args!("the home can only be read: {why}"));
        }
        let publishes = !self.ephemeral && folder.read_only().is_none();
        if publishes {
            status_page::sweep(&folder.run_dir());
        }
        let (program, version) = self.known_program();
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

    /// The program as it names itself, or as its domains do.
    pub(super) fn known_program(&self) -> (String, String) {
        let of_domains = || self.domains.iter().find_map(|domain| domain.program.clone());
        self.program.clone().or_else(of_domains).unwrap_or_else(unnamed_program)
    }
}

/// A program that does not name itself goes by its file's name.
pub(crate) fn unnamed_program() -> (String, String) {
    let name =
        std::env::current_exe().ok().and_then(|path| Some(path.file_stem()?.to_string_lossy().into_owned()));
    (name.unwrap_or_else(|| "unknown".to_owned()), "unknown".to_owned())
}
