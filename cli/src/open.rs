//! Opening the databases of a home to look at them, or to change what is there. A signal closes what is open.

use std::ops::Deref;

use rowhouse::{Domain, Error, ErrorKind, Home, Runtime, RuntimeDbRegistry};

use crate::output;
use crate::signals::{self, AtEnd};

/// A runtime that is closed when a signal ends the program.
pub(crate) struct Opened {
    runtime: Runtime,
    _at_end: AtEnd,
}

impl Opened {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self { _at_end: signals::close_at_end(&runtime), runtime }
    }
}

impl Deref for Opened {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        &self.runtime
    }
}

/// All built-in databases.
///
/// # Errors
/// The engine's.
pub(crate) fn all(home: &Home) -> rowhouse::Result<Opened> {
    Runtime::open(home.clone()).map(Opened::new)
}

/// The threads of a home, and what belongs to them.
///
/// # Errors
/// `NotFound` when there are none yet; the engine's.
pub(crate) fn state(home: &Home) -> rowhouse::Result<Opened> {
    const ADVICE: &str =
        "`rowhouse import DIR` brings transcripts in; --home or ROWHOUSE_HOME names another home";
    existing(home, Domain::state(), "this home holds no threads yet", ADVICE)
}

/// The id of the thread that is meant: a whole one as it is, else that of the thread whose id begins or ends so. Where no
/// threads are known it is what was said.
///
/// # Errors
/// As [`state`], and those of [`find_id`](rowhouse::stores::Threads::find_id).
pub(crate) fn thread_id(home: &Home, text: &str) -> rowhouse::Result<String> {
    const WHOLE: usize = 36;
    if text.len() == WHOLE || !has(home, &Domain::state())? {
        return Ok(text.to_owned());
    }
    state(home)?.threads().find_id(text)
}

/// Whether the home has the file of this database. Looking creates none.
///
/// # Errors
/// Of the registry.
pub(crate) fn holds(home: &Home, database: &str) -> rowhouse::Result<bool> {
    Ok(RuntimeDbRegistry::new(home).list()?.iter().any(|found| found.name == database && found.present))
}

/// The same, also where the database is on a server.
///
/// # Errors
/// Of the registry; of a configuration that cannot be followed.
pub(crate) fn has(home: &Home, domain: &Domain) -> rowhouse::Result<bool> {
    Ok(domain.is_on_server(home)? || holds(home, domain.name())?)
}

/// A runtime with this domain alone: a home that may not be written need not hold the others. Its warnings are told.
///
/// # Errors
/// `NotFound` with `missing` and `advice` when the home has no such database yet: to look at a home creates none.
pub(crate) fn existing(
    home: &Home,
    domain: Domain,
    missing: &'static str,
    advice: &'static str,
) -> rowhouse::Result<Opened> {
    if !has(home, &domain)? {
        return Err(Error::new(ErrorKind::NotFound, missing).at_path(home.path()).advise(advice));
    }
    or_new(home, domain)
}

/// The same; a database that is not there yet is created.
///
/// # Errors
/// The engine's.
pub(crate) fn or_new(home: &Home, domain: Domain) -> rowhouse::Result<Opened> {
    let name = domain.name().to_owned();
    let runtime = Runtime::builder(home.clone()).domain(domain).open()?;
    // One on a server has no file to warn of.
    for warning in runtime.database(&name).map(|database| database.warnings()).unwrap_or_default() {
        output::warn(&warning);
    }
    Ok(Opened::new(runtime))
}
