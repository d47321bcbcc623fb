//! The database behind a store: a file here, or a schema on a server. A store is written once, on [`Session`], and does not
//! ask which. Those that need what only a file has (its queue, its path, its lanes) are on a [`FileDatabase`].

use crate::error::{Error, Result};
#[cfg(feature = "postgres")]
use crate::postgres;
use crate::sql::{Row, Session, Value};
use crate::sqlite::tx::Snapshot;
use crate::sqlite::{Database, now_unix_ms};

/// The database a store speaks to, or why there is none: a runtime without the domain answers so at every use.
#[derive(Clone)]
pub(super) struct StoreDatabase<D = Engine>(Result<D>);

/// The same for a store that only a file serves.
pub(super) type FileDatabase = StoreDatabase<Database>;

/// A domain's database, on the engine that its home's configuration names.
#[derive(Clone)]
pub(crate) enum Engine {
    File(Database),
    #[cfg(feature = "postgres")]
    Server(postgres::Database),
}

/// What a store's closure sees: a transaction, or a snapshot, of either engine.
pub(crate) enum StoreSession<'a> {
    File(&'a Snapshot),
    #[cfg(feature = "postgres")]
    Server(&'a (dyn Session + 'a)),
}

impl<D> StoreDatabase<D> {
    pub(super) fn get(&self) -> Result<&D> {
        self.0.as_ref().map_err(Error::clone)
    }
}

impl StoreDatabase<Engine> {
    /// Its calls are named `label` in the statistics.
    pub(super) fn new(engine: Result<Engine>, label: &'static str) -> Self {
        Self(engine.map(|engine| engine.label(label)))
    }

    /// The same database; writes go to the background lane.
    pub(super) fn background(self) -> Self {
        Self(self.0.map(Engine::background))
    }
}

impl FileDatabase {
    /// Its calls are named `label` in the statistics.
    pub(super) fn in_file(database: Result<Database>, label: &'static str) -> Self {
        Self(database.map(|database| database.label(label)))
    }

    /// The same database; writes go to the background lane.
    pub(super) fn in_background(self) -> Self {
        Self(self.0.map(Database::background))
    }
}

impl From<Database> for Engine {
    fn from(database: Database) -> Self {
        Self::File(database)
    }
}

#[cfg(feature = "postgres")]
impl From<postgres::Database> for Engine {
    fn from(database: postgres::Database) -> Self {
        Self::Server(database)
    }
}

impl Engine {
    /// Reads one snapshot. The closure may run again when a server was lost meanwhile.
    ///
    /// # Errors
    /// Those of `read`; the engine's.
    pub(crate) fn read<R>(&self, read: impl Fn(&StoreSession<'_>) -> Result<R>) -> Result<R> {
        match self {
            Self::File(database) => database.read(|at| read(&StoreSession::File(at))),
            #[cfg(feature = "postgres")]
            Self::Server(database) => database.read(|at| read(&StoreSession::Server(at))),
        }
    }

    /// Runs a job in a transaction, and answers when it is durable. It may run more than once, of which one counts.
    ///
    /// # Errors
    /// Those of `job`; the engine's.
    pub(crate) fn write<R: Send + 'static>(
        &self,
        job: impl Fn(&StoreSession<'_>) -> Result<R> + Send,
    ) -> Result<R> {
        match self {
            Self::File(database) => database.write(move |tx| job(&StoreSession::File(tx))),
            #[cfg(feature = "postgres")]
            Self::Server(database) => database.write(|tx| job(&StoreSession::Server(tx))),
        }
    }

    /// The database, when it is in a file.
    #[cfg_attr(not(feature = "postgres"), allow(clippy::unnecessary_wraps, reason = "all of them are"))]
    pub(crate) fn as_file(&self) -> Option<&Database> {
        match self {
            Self::File(database) => Some(database),
            #[cfg(feature = "postgres")]
            Self::Server(_) => None,
        }
    }

    fn label(self, label: &str) -> Self {
        match self {
            Self::File(database) => Self::File(database.label(label)),
            #[cfg(feature = "postgres")]
            Self::Server(database) => Self::Server(database),
        }
    }

    fn background(self) -> Self {
        match self {
            Self::File(database) => Self::File(database.background()),
            // A server has no line in which to stand back.
            #[cfg(feature = "postgres")]
            Self::Server(database) => Self::Server(database),
        }
    }
}

impl StoreSession<'_> {
    /// The time by which leases are kept, in Unix milliseconds: that of the server, or of this machine.
    ///
    /// # Errors
    /// The engine's.
    #[cfg_attr(
        not(feature = "postgres"),
        allow(clippy::unnecessary_wraps, reason = "a clock here cannot fail")
    )]
    pub(crate) fn now_unix_ms(&self) -> Result<i64> {
        match self {
            Self::File(_) => Ok(i64::try_from(now_unix_ms()).unwrap_or(i64::MAX)),
            #[cfg(feature = "postgres")]
            Self::Server(session) => {
                const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now";
                session.query(NOW, &[])?.first().map_or(Ok(0), |row| row.get("now"))
            }
        }
    }

    /// For the few statements that each engine has in its own words.
    pub(crate) fn is_on_server(&self) -> bool {
        !matches!(self, Self::File(_))
    }
}

impl Session for StoreSession<'_> {
    fn execute(&self, sql: &str, params: &[Value]) -> Result<u64> {
        match self {
            Self::File(session) => session.execute(sql, params),
            #[cfg(feature = "postgres")]
            Self::Server(session) => session.execute(sql, params),
        }
    }

    fn execute_many<'p, P>(&self, sql: &str, lists: impl Iterator<Item = P>) -> Result<u64>
    where
        P: IntoIterator<Item = &'p Value>,
    {
        match self {
            Self::File(session) => session.execute_many(sql, lists),
            #[cfg(feature = "postgres")]
            Self::Server(session) => {
                let list = |params: P| params.into_iter().cloned().collect::<Vec<_>>();
                lists.map(|params| session.execute(sql, &list(params))).sum()
            }
        }
    }

    fn query(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>> {
        match self {
            Self::File(session) => session.query(sql, params),
            #[cfg(feature = "postgres")]
            Self::Server(session) => session.query(sql, params),
        }
    }
}
