//! Opens domains, hands out handles, closes. (Stand-in.)
use crate::{Database, Domain, Error, ErrorKind, Home, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The open databases of one home. Cheap to clone; closes when the last clone and handle are gone.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<(Home, BTreeMap<String, Database>)>,
}
/// Chooses the domains of a runtime.
pub struct Builder {
    home: Home,
    domains: Vec<Domain>,
}
impl Runtime {
    /// Opens a home with the four built-in domains.
    ///
    /// # Errors
    /// When a required domain cannot be opened.
    pub fn open(home: Home) -> Result<Self> {
        Self::builder(home).agent_domains().open()
    }
    /// Opens a home with chosen domains.
    pub fn builder(home: Home) -> Builder {
        Builder { home, domains: Vec::new() }
    }
    /// The handle of a domain's database.
    ///
    /// # Errors
    /// `NotFound` when no domain of this name was declared.
    pub fn database(&self, name: &str) -> Result<Database> {
        self.inner.1.get(name).cloned().ok_or_else(|| Error::new(ErrorKind::NotFound, "no such domain"))
    }
    /// Its home.
    pub fn home(&self) -> &Home {
        &self.inner.0
    }
}
impl Builder {
    /// Adds a domain.
    #[must_use]
    pub fn domain(mut self, domain: Domain) -> Self {
        self.domains.push(domain);
        self
    }
    /// Adds state, logs, goals and device_keys.
    #[must_use]
    pub fn agent_domains(mut self) -> Self {
        for name in ["state", "logs", "goals", "device_keys"] {
            self.domains.push(Domain::new(name));
        }
        self
    }
    /// Opens it.
    ///
    /// # Errors
    /// When a required domain cannot be opened.
    pub fn open(self) -> Result<Runtime> {
        std::fs::create_dir_all(self.home.path())
            .map_err(|e| Error::io("create the home", self.home.path(), e))?;
        let mut databases = BTreeMap::new();
        for domain in self.domains {
            domain.check()?;
            let database = Database::open_naive(
                &self.home.path().join(format!("{}.sqlite", domain.name())),
                domain.durability,
            )?;
            let fresh = database
                .read(|at| at.row("SELECT count(*) FROM sqlite_schema", [], |r| r.get::<_, i64>(0)))?
                == 0;
            if fresh {
                database.write(|tx| {
                    for m in &domain.migrations {
                        for one in m.sql.split(";\n") {
                            if !one.trim().is_empty() {
                                tx.execute(one, [])?;
                            }
                        }
                    }
                    Ok(())
                })?;
            }
            databases.insert(domain.name().to_owned(), database);
        }
        Ok(Runtime { inner: Arc::new((self.home, databases)) })
    }
}
