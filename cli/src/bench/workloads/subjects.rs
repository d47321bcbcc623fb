//! Who is measured: the library, and three ways to share a database that people use without it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use r2d2_sqlite::SqliteConnectionManager;
use rowhouse::rusqlite::{self, Connection, TransactionBehavior};
use rowhouse::{Database, Domain, Durability, Error, ErrorKind, Home, Limits, Migration, Result, Runtime};

use super::{INSERT, KEY, SCHEMA, Synchronous, VALUE};

const BUSY_TIMEOUT: Duration = Duration::from_mins(1);
const POOL_CONNECTIONS: u32 = 10;
/// What a baseline's log may keep on disk after a reset.
const JOURNAL_SIZE_LIMIT: u64 = 16 << 20;

/// The ways to write that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The library.
    Rowhouse,
    /// r2d2 with ten connections, BEGIN IMMEDIATE and a busy timeout of a minute.
    Pool,
    /// One connection behind a mutex.
    Mutex,
    /// One connection, one caller, everything prepared once: the floor.
    Raw,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rowhouse => "rowhouse",
            Self::Pool => "pool",
            Self::Mutex => "mutex",
            Self::Raw => "raw",
        }
    }

    /// The database file inside the folder given to [`open`](Self::open).
    pub(crate) fn file(self, folder: &Path, domain: &str) -> PathBuf {
        match self {
            Self::Rowhouse => folder.join(format!("{domain}.sqlite")),
            _ => folder.join(format!("{}.db", self.as_str())),
        }
    }

    /// Opens it inside a folder; creates the table the first time.
    ///
    /// # Errors
    /// When the database cannot be opened.
    pub(crate) fn open(self, folder: &Path, domain: &str, synchronous: Synchronous) -> Result<Subject> {
        std::fs::create_dir_all(folder).map_err(|error| Error::io("create the folder", folder, error))?;
        let file = self.file(folder, domain);
        Ok(match self {
            Self::Rowhouse => Subject::Rowhouse(open_library(folder, domain, synchronous)?),
            Self::Pool => Subject::Pool(open_pool(&file, synchronous)?),
            Self::Mutex => Subject::Mutex(Mutex::new(connect(&file, synchronous)?)),
            Self::Raw => Subject::Raw(Mutex::new(connect(&file, synchronous)?)),
        })
    }
}

/// An opened way to write. Dropping it closes it.
pub(crate) enum Subject {
    Rowhouse(Library),
    Pool(r2d2::Pool<SqliteConnectionManager>),
    Mutex(Mutex<Connection>),
    Raw(Mutex<Connection>),
}

/// The library with one domain open.
pub(crate) struct Library {
    pub(crate) database: Database,
    /// Kept open as long as the database is used.
    _runtime: Runtime,
}

impl Subject {
    /// What one calling thread writes through.
    pub(crate) fn caller(&self) -> Caller<'_> {
        match self {
            Self::Rowhouse(library) => Caller::Rowhouse(library.database.clone()),
            Self::Pool(pool) => Caller::Pool(pool.clone()),
            Self::Mutex(connection) => Caller::Mutex(connection),
            Self::Raw(connection) => Caller::Raw(lock(connection)),
        }
    }
}

/// One calling thread's way in.
pub(crate) enum Caller<'s> {
    Rowhouse(Database),
    Pool(r2d2::Pool<SqliteConnectionManager>),
    Mutex(&'s Mutex<Connection>),
    Raw(MutexGuard<'s, Connection>),
}

impl Caller<'_> {
    /// Commits one row.
    ///
    /// # Errors
    /// When it was not acknowledged.
    pub(crate) fn insert(&mut self, number: i64) -> Result<()> {
        match self {
            Self::Rowhouse(database) => {
                database.write(|tx| tx.execute(INSERT, (KEY, VALUE, number)))?;
            }
            Self::Pool(pool) => insert_immediate(&mut *check_out(pool)?, number)?,
            Self::Mutex(connection) => insert_immediate(&mut lock(connection), number)?,
            Self::Raw(connection) => {
                connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
                connection.prepare_cached(INSERT)?.execute((KEY, VALUE, number))?;
                connection.prepare_cached("COMMIT")?.execute([])?;
            }
        }
        Ok(())
    }
}

/// One row in a transaction of its own, as programs write it.
fn insert_immediate(connection: &mut Connection, number: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.prepare_cached(INSERT)?.execute((KEY, VALUE, number))?;
    transaction.commit()
}

/// Opens a runtime whose only domain holds the table.
///
/// # Errors
/// Those of [`Runtime`].
pub(crate) fn open_library(home: &Path, domain: &str, synchronous: Synchronous) -> Result<Library> {
    let durability = match synchronous {
        Synchronous::Full => Durability::Full,
        Synchronous::Normal => Durability::Normal,
    };
    let declared = Domain::new(domain)
        .migrations(&[Migration { name: "V1__item", sql: SCHEMA }])
        .durability(durability)
        .program("rowhouse", env!("CARGO_PKG_VERSION"));
    let runtime = Runtime::builder(Home::at(home)).domain(declared).open()?;
    Ok(Library { database: runtime.database(domain)?, _runtime: runtime })
}

/// A connection with the pragmas that the library uses, and the table.
///
/// # Errors
/// Of SQLite.
pub(crate) fn connect(file: &Path, synchronous: Synchronous) -> Result<Connection> {
    #[expect(clippy::disallowed_methods, reason = "the baselines are what the library is compared with")]
    let connection = Connection::open(file)?;
    prepare(&connection, synchronous)?;
    if !connection.table_exists(None, "item")? {
        connection.execute_batch(SCHEMA)?;
    }
    Ok(connection)
}

fn prepare(connection: &Connection, synchronous: Synchronous) -> rusqlite::Result<()> {
    let limits = Limits::default();
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", synchronous.as_str())?;
    connection.pragma_update(None, "cache_size", -((limits.page_cache >> 10) as i64))?;
    connection.pragma_update(None, "journal_size_limit", JOURNAL_SIZE_LIMIT as i64)?;
    connection.set_prepared_statement_cache_capacity(limits.statement_cache);
    Ok(())
}

fn open_pool(file: &Path, synchronous: Synchronous) -> Result<r2d2::Pool<SqliteConnectionManager>> {
    drop(connect(file, synchronous)?);
    let manager = SqliteConnectionManager::file(file).with_init(move |new| prepare(new, synchronous));
    r2d2::Pool::builder()
        .max_size(POOL_CONNECTIONS)
        .connection_timeout(2 * BUSY_TIMEOUT)
        .build(manager)
        .map_err(pool_error)
}

fn check_out(
    pool: &r2d2::Pool<SqliteConnectionManager>,
) -> Result<r2d2::PooledConnection<SqliteConnectionManager>> {
    pool.get().map_err(pool_error)
}

fn pool_error(error: r2d2::Error) -> Error {
    Error::new(ErrorKind::Busy, "the pool gave no connection").caused_by(error)
}

fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}
