//! What is damaged in a home, and setting it right: for a person who wants to see it first.
//!
//! An open runtime does this by itself ([`Domain::on_damage`]). Here it is shown without changing anything ([`plan`]), and
//! done on demand ([`apply`]), also where the domain's policy is to refuse. A database that is merely locked, slow, not
//! readable for this user, or of a newer schema is not damaged, and never listed.
//!
//! ```
//! # fn main() -> rowhouse::Result<()> {
//! # let folder = tempfile::tempdir().expect("a folder");
//! use rowhouse::{Domain, Home, Runtime, repair};
//! let home = Home::at(folder.path());
//! let domains = [Domain::new("cache")];
//! drop(Runtime::builder(home.clone()).domain(domains[0].clone()).open()?);
//! assert!(repair::plan(&home, &domains, None)?.is_empty());
//! # Ok(())
//! # }
//! ```

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::domain::{Domain, OnDamage};
use crate::error::{Error, ErrorKind, Result};
use crate::home::{Home, PreparedHome};
use crate::move_backend::marker::refuse_moved;
use crate::presence::{Alone, Presence};
use crate::registry::RuntimeDbRegistry;
use crate::runtime;
use crate::sqlite::connect::Spec;
use crate::sqlite::damage::{DamageReport, KeptRows};

/// How long somebody who creates, migrates or repairs a database is waited for.
const INIT_WAIT: Duration = Duration::from_secs(5);

/// A damaged database.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The domain's name.
    pub database: String,
    /// The main file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub found: String,
    /// What [`apply`] would do: [`OnDamage::Salvage`] or [`OnDamage::Fresh`].
    pub action: OnDamage,
    /// Rows that can be kept, by table. `None` when nothing would be salvaged, and when somebody has the home open, or opened
    /// it meanwhile: they are counted in files that nobody writes.
    pub rows: Option<Vec<KeptRows>>,
    /// An earlier repair was broken off, and would be finished.
    pub unfinished: bool,
}

/// Looks for damage; changes nothing. `domains` are those whose schemas the program knows; only these are looked at, or of
/// them the one called `name`.
///
/// Each whole file is read once, a damaged one twice. Nobody waits for that: programs start and write meanwhile.
///
/// # Errors
/// `NotFound` when `name` is none of them; of a database that cannot be looked at for another reason than damage: `Busy`,
/// `ReadOnly`, `Io`, `Conflict` for a file of another program.
pub fn plan(home: &Home, domains: &[Domain], name: Option<&str>) -> Result<Vec<Finding>> {
    let folder = match home.locate() {
        Ok(folder) => folder,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut findings = Vec::new();
    for domain in here(home, &folder, chosen(domains, name)?, name)? {
        let spec = spec(domain, &folder, &Presence::default());
        if let Some(mut found) = spec.named(spec.find_damage())? {
            if !found.unfinished && found.action == OnDamage::Salvage {
                found.rows = unless_open(&folder, || spec.named(spec.count_rows()))?.flatten();
            }
            findings.push(found);
        }
    }
    Ok(findings)
}

/// Does it while this process does not have the home open, nor opens it; no other process has it open at the beginning.
/// `None` when somebody has.
fn unless_open<T>(folder: &PreparedHome, read: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    let here = || match Alone::try_enter(folder) {
        Ok(Some(alone)) => {
            // Others need not wait for what is read.
            drop(alone);
            read().map(Some)
        }
        Ok(None) => Ok(None),
        // A user who may not take the lock cannot know.
        Err(error) if error.kind() == ErrorKind::ReadOnly => Ok(None),
        Err(error) => Err(error),
    };
    runtime::unless_open_here(folder, here).unwrap_or(Ok(None))
}

/// Sets right what [`plan`] would list, and answers what was done. A database that is not damaged stays as it is.
///
/// # Errors
/// As [`plan`]; `Busy` when a program has the home open: an open runtime repairs its own databases; `Full` when there is no
/// room for the new database.
pub fn apply(home: &Home, domains: &[Domain], name: Option<&str>) -> Result<Vec<DamageReport>> {
    let folder = home.locate()?;
    let Some(_alone) = Alone::try_enter(&folder)? else {
        return Err(Error::new(ErrorKind::Busy, "a program has this home open")
            .at_path(folder.path())
            .advise("close it, or let it repair the database: an open runtime does so by itself"));
    };
    let mut done = Vec::new();
    for domain in here(home, &folder, chosen(domains, name)?, name)? {
        let spec = spec(domain, &folder, &Presence::default());
        done.extend(spec.named(spec.repair(Instant::now() + INIT_WAIT))?);
    }
    Ok(done)
}

fn chosen<'a>(domains: &'a [Domain], name: Option<&str>) -> Result<Vec<&'a Domain>> {
    domains.iter().try_for_each(Domain::check)?;
    let chosen: Vec<_> =
        domains.iter().filter(|domain| name.is_none_or(|name| name == domain.name())).collect();
    match name {
        Some(name) if chosen.is_empty() => {
            Err(Error::new(ErrorKind::NotFound, format!("this program has no domain {name:.32}")))
        }
        _ => Ok(chosen),
    }
}

/// Those that are in files. One that was asked for by name and is on a server is an error.
fn here<'a>(
    home: &Home,
    folder: &PreparedHome,
    chosen: Vec<&'a Domain>,
    name: Option<&str>,
) -> Result<Vec<&'a Domain>> {
    let known = RuntimeDbRegistry::new(home).list()?;
    let is_there =
        |domain: &&Domain| known.iter().any(|known| known.name == domain.name() && known.is_on_server());
    let (there, here): (Vec<_>, Vec<_>) = chosen.into_iter().partition(is_there);
    if let (Some(domain), Some(_)) = (there.first(), name) {
        let message = format!("{} is on a PostgreSQL server, not in a file", domain.name());
        return Err(Error::new(ErrorKind::Unsupported, message).advise(
            "`rowhouse doctor --only server` tells of damage there; bring it back from a backup of the server",
        ));
    }
    here.iter().try_for_each(|domain| refuse_moved(folder, domain.name()))?;
    Ok(here)
}

/// A domain that refuses is repaired here as its role says: somebody asked for it.
fn spec(domain: &Domain, folder: &PreparedHome, presence: &Presence) -> Spec {
    let domain = match domain.damage_policy() {
        OnDamage::Refuse => domain.clone().on_damage_by_role(),
        OnDamage::Salvage | OnDamage::Fresh => domain.clone(),
    };
    let program = domain.program.clone().unwrap_or_else(crate::runtime::unnamed_program);
    Spec::new(&domain, folder, program, &Limits::default(), None, presence)
}
