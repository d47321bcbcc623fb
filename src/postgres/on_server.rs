//! The domains of a runtime that are on a server.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::database::Database;
use super::server::Server;
use crate::config::Limits;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::unnamed_program;
use crate::sqlite::health::Health;
use crate::sqlite::stats::Stats;
use crate::sqlite::status_page::Slot;

#[derive(Default)]
pub(crate) struct OnServer(RwLock<Open>);

#[derive(Default)]
struct Open {
    server: Option<Arc<Server>>,
    domains: BTreeMap<String, (Domain, Database)>,
}

impl OnServer {
    /// Opens a domain; one that is open stays as it is. The caller lets nobody else add one meanwhile.
    ///
    /// # Errors
    /// `Conflict` when it is declared differently; those of [`Server::domain`].
    pub(crate) fn add(
        &self,
        server: &Arc<Server>,
        domain: &Domain,
        limits: &Limits,
        slot: Option<&Slot>,
    ) -> Result<()> {
        if let Some((known, _)) = self.0.read().domains.get(domain.name()) {
            return if known.server_migrations == domain.server_migrations {
                Ok(())
            } else {
                let message = format!("the domain {} is declared twice, differently", domain.name());
                Err(Error::new(ErrorKind::Conflict, message))
            };
        }
        let (program, version) = domain.program.clone().unwrap_or_else(unnamed_program);
        let database = server.domain(domain, (&program, &version), limits.deadline, slot)?;
        let mut open = self.0.write();
        open.server = Some(server.clone());
        open.domains.insert(domain.name().to_owned(), (domain.clone(), database));
        Ok(())
    }

    pub(crate) fn server(&self) -> Option<Arc<Server>> {
        self.0.read().server.clone()
    }

    pub(crate) fn get(&self, name: &str) -> Option<Database> {
        self.0.read().domains.get(name).map(|(_, database)| database.clone())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.read().domains.keys().cloned().collect()
    }

    /// What each of them did since it was opened.
    pub(crate) fn stats(&self) -> Vec<(String, Stats)> {
        let open = self.0.read();
        open.domains.iter().map(|(name, (_, database))| (name.clone(), database.stats())).collect()
    }

    /// How the server is, when a domain is on it.
    pub(crate) fn health(&self) -> Option<Health> {
        self.0.read().domains.values().next().map(|(_, database)| database.health())
    }

    /// Lends no more connections.
    pub(crate) fn close(&self) {
        if let Some(server) = self.server() {
            server.close();
        }
    }
}
