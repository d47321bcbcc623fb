//! What a home's configuration puts on a PostgreSQL server, and what that server says of it when it is asked.
//!
//! Invariants: listing asks no server; no user and no password is in what is answered; a server that does not answer is an
//! error by the deadline.

use std::collections::BTreeSet;

use crate::config::backend::Backends;
use crate::error::Result;
use crate::home::PreparedHome;

/// Where a domain is that is not in a file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ServerPlace {
    /// The server and its database, without user and password: `postgres://db.example:5432/agents`.
    pub server: String,
    /// The schema in that database.
    pub schema: String,
}

/// What a server says of a home's domains.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ServerStatus {
    /// As in [`ServerPlace`].
    pub server: String,
    /// `PostgreSQL 15.14`.
    pub version: String,
    /// By name.
    pub domains: Vec<ServerDomain>,
    /// Connections of programs of this library to that database, of all machines, by name; at most 1,000.
    pub sessions: Vec<ServerSession>,
}

/// A domain on a server.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ServerDomain {
    /// The domain's name.
    pub name: String,
    /// The last migration that was applied; `None` where no program made the schema yet.
    pub schema_version: Option<i64>,
    /// Tables with their indexes.
    pub bytes: u64,
    /// Rows of all tables, as the server estimates them.
    pub rows: u64,
}

/// A connection of a program of this library, also of one on another machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ServerSession {
    /// The server's process, which `pg_terminate_backend` takes.
    pub server_pid: i64,
    /// `program@machine:process`.
    pub name: String,
    /// `active`, `idle`, `idle in transaction`; `None` where this user may not see it.
    pub state: Option<String>,
    /// For how long its transaction is open, in milliseconds; `None` without one.
    pub transaction_ms: Option<u64>,
    /// Others that wait for its locks.
    pub blocks: u64,
}

/// The domains of a home that are on a server.
#[derive(Default)]
pub(super) struct Moved {
    /// Nothing where the configuration cannot be followed.
    server: Option<String>,
    names: BTreeSet<String>,
}

impl Moved {
    /// Of these domains and the built-in ones. What is wrong with the configuration is a warning.
    pub(super) fn of(home: &PreparedHome, known: &BTreeSet<String>, warnings: &mut Vec<String>) -> Self {
        let mut told = |error| warnings.push(format!("{UNKNOWN}: {error}"));
        let built_in = ["device_keys", "goals", "logs", "state"];
        let names: BTreeSet<_> = known.iter().map(String::as_str).chain(built_in).collect();
        match Backends::of(home.path(), names.iter().copied()) {
            Ok(backends) => {
                let there = names.into_iter().filter(|name| backends.is_on_server(name));
                let names = there.map(str::to_owned).collect();
                let server = name_of(home, &backends).unwrap_or_else(|error| {
                    told(error);
                    None
                });
                Self { server, names }
            }
            Err(error) => {
                told(error);
                Self::default()
            }
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.names.iter()
    }

    pub(super) fn place(&self, name: &str) -> Option<ServerPlace> {
        let server = || self.server.clone().unwrap_or_else(|| "a PostgreSQL server".to_owned());
        let schema = format!("rowhouse_{name}");
        self.names.contains(name).then(|| ServerPlace { server: server(), schema })
    }
}

/// How a warning begins that nobody can tell from the configuration whether domains are on a server, and where that is.
pub(crate) const UNKNOWN: &str = "the home's config.toml cannot be followed";
/// What is said of a file that nobody reads any more.
pub(crate) const NOT_READ: &str = "is not read: the configuration says that its domain is on a server";

#[cfg(not(feature = "postgres"))]
fn name_of(_: &PreparedHome, _: &Backends) -> Result<Option<String>> {
    Ok(None)
}

#[cfg(feature = "postgres")]
fn name_of(home: &PreparedHome, backends: &Backends) -> Result<Option<String>> {
    let settings = backends.server(home.path())?;
    settings.map(|settings| Ok(crate::postgres::look::facts::name(&settings)?.0)).transpose()
}

/// Asks the server about these domains.
#[cfg(feature = "postgres")]
pub(super) fn ask(
    home: &PreparedHome,
    domains: &[crate::domain::Domain],
    deadline: std::time::Duration,
) -> Result<Option<ServerStatus>> {
    use crate::postgres::look::{facts, lists};
    let backends = Backends::of(home.path(), domains.iter().map(crate::domain::Domain::name))?;
    let Some(settings) = backends.server(home.path())? else { return Ok(None) };
    let (server, _) = facts::name(&settings)?;
    let there = domains.iter().filter(|domain| backends.is_on_server(domain.name())).cloned();
    let lists = lists::ask(&settings, &there.collect::<Vec<_>>(), crate::sqlite::instant_after(deadline))?;
    Ok(Some(ServerStatus {
        server,
        version: lists.version,
        domains: lists.domains,
        sessions: lists.sessions,
    }))
}

/// Without the feature what names a server was an error.
#[cfg(not(feature = "postgres"))]
pub(super) fn ask(
    home: &PreparedHome,
    domains: &[crate::domain::Domain],
    _: std::time::Duration,
) -> Result<Option<ServerStatus>> {
    Backends::of(home.path(), domains.iter().map(crate::domain::Domain::name)).map(|_| None)
}
