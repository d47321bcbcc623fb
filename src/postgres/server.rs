//! One server, as a runtime uses it: its address, its connections, and whether it will do.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::address::Address;
use super::connection::Connection;
use super::database::Database;
use super::failure::Failure;
use super::figures::Figures;
use super::listener::Listener;
use super::migrate;
use super::pool::{Lent, Pool};
use super::pooler::Pooler;
use super::tries::Tries;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::forks;
use crate::sqlite::status_page::Slot;

/// The oldest release whose SQL is used here, as `server_version_num` counts.
pub(crate) const OLDEST: i64 = 150_000;
/// How long an opening program waits for a server that is not there: long enough for one that starts, or a standby that
/// takes over; short enough for a person who mistyped a port.
const LONGEST_FIRST_WAIT: Duration = Duration::from_secs(3);

/// The schema of a domain.
pub(crate) fn schema_of(domain: &str) -> String {
    format!("rowhouse_{domain}")
}

/// What the configuration says about a server.
pub(crate) struct Settings {
    /// Where it is.
    pub(crate) url: String,
    /// Where it is for migrations, past a pooler.
    pub(crate) direct_url: Option<String>,
    /// What stands before the server; `None`: it is found out.
    pub(crate) pooler: Option<Pooler>,
    /// Connections that this process has at most.
    pub(crate) pool_size: usize,
    /// Certificates to trust instead of the system's, as PEM.
    pub(crate) root_cert: Option<PathBuf>,
}

/// A server that was reached.
pub(crate) struct Server {
    pub(super) pool: Pool,
    address: Address,
    /// For what needs a connection of its own.
    direct: Option<Pool>,
    /// Hears of commits while somebody waits for one.
    pub(super) listener: Listener,
    owner: u32,
}

impl Server {
    /// Connects once, and looks whether it is a server that will do.
    ///
    /// # Errors
    /// `Invalid` for a URL that cannot be read, a user or password that is refused; `NotFound` when there is no such
    /// database; `Unsupported` for an older server or another encoding than UTF-8; `Io` when it cannot be reached.
    pub(crate) fn open(settings: &Settings, deadline: Instant) -> Result<Arc<Self>> {
        let address = Address::parse(&settings.url, settings.root_cert.clone())?;
        let direct = settings
            .direct_url
            .as_ref()
            .map(|url| Address::parse(url, settings.root_cert.clone()))
            .transpose()?
            .map(|address| Pool::new(address, None, 1));
        let pool = Pool::new(address.clone(), settings.pooler, settings.pool_size);
        let (listener, owner) = (Listener::default(), forks::generation());
        let server = Self { pool, address, direct, listener, owner };
        server.check(deadline).map_err(|error| error.at_path(server.name().as_ref()))?;
        Ok(Arc::new(server))
    }

    fn check(&self, deadline: Instant) -> Result<()> {
        let mut tries = Tries::until(deadline.min(Instant::now() + LONGEST_FIRST_WAIT));
        let (version, encoding) = loop {
            let failure = match self.ask(deadline) {
                Ok(found) => break found,
                Err(failure) => failure,
            };
            tries.again(failure, |time| self.pool.rest(time))?;
        };
        if version < OLDEST {
            let message =
                format!("the server is PostgreSQL {}, the oldest that will do is 15", version / 10_000);
            return Err(Error::new(ErrorKind::Unsupported, message).advise("upgrade the server"));
        }
        if encoding != "UTF8" {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the database on the server is not kept in UTF-8",
            )
            .advise("create it with ENCODING 'UTF8'"));
        }
        Ok(())
    }

    fn ask(&self, deadline: Instant) -> Result<(i64, String), Failure> {
        let mut connection = self.pool.take_once(deadline)?;
        let text = "SELECT current_setting('server_version_num'), current_setting('server_encoding')";
        let rows = connection.rows(text)?;
        let read = || {
            let row = rows.first()?;
            Some((row.get(0)?.parse().ok()?, row.get(1)?.to_owned()))
        };
        read().ok_or_else(|| {
            Failure::told(Error::new(ErrorKind::Unsupported, "the server does not say which release it is"))
        })
    }

    /// A domain on it: its schema is created and migrated as far as needed. It counts in the `slot`.
    ///
    /// # Errors
    /// `Unsupported` for a domain without migrations for a server; those of a migration; `SchemaTooNew`, `ReadOnly`
    /// when a newer program wrote it; `ReadOnly` for want of a permission; `Busy` while another program migrates it.
    pub(crate) fn domain(
        self: &Arc<Self>,
        domain: &Domain,
        program: (&str, &str),
        limit: Duration,
        slot: Option<&Slot>,
    ) -> Result<Database> {
        let schema = schema_of(domain.name());
        let deadline = Instant::now() + limit;
        migrate::migrate(self, domain, &schema, program, deadline)
            .map_err(|error| error.in_database(domain.name(), self.name().as_ref()))?;
        let figures = Figures::of(domain.name(), slot);
        self.pool.tell(&figures);
        Ok(Database::new(self.clone(), domain.name(), schema, limit, figures))
    }

    /// A connection past a pooler, where the way there was given; else that which the caller has.
    pub(super) fn take_direct<'s>(&'s self, has: Lent<'s>, deadline: Instant) -> Result<Lent<'s>> {
        let Some(direct) = &self.direct else { return Ok(has) };
        // Its place is free for others meanwhile.
        drop(has);
        direct.take(deadline)
    }

    /// A connection of its own, past a pooler where the way there was given.
    pub(super) fn connect_apart(&self, deadline: Instant) -> Result<Connection, Failure> {
        self.direct.as_ref().unwrap_or(&self.pool).connect_apart(deadline)
    }

    pub(super) fn has_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// By what errors call it.
    pub(crate) fn name(&self) -> &str {
        self.address.name()
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// # Errors
    /// `Closed` in a fork: the connections are its parent's.
    pub(super) fn check_process(&self) -> Result<()> {
        if forks::current() == self.owner {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Closed, "this process is a fork of the one that opened the database")
            .advise("fork before the runtime is opened, close it before forking, or exec"))
    }

    /// Lends no more connections.
    pub(crate) fn close(&self) {
        self.pool.close();
        self.listener.close();
        if let Some(direct) = &self.direct {
            direct.close();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if forks::current() != self.owner {
            self.pool.leave_to_parent();
            if let Some(direct) = &mut self.direct {
                direct.leave_to_parent();
            }
        }
    }
}
