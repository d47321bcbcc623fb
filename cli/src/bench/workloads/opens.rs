//! Opening the four built-in databases of a home: by the library, and by hand.

use std::path::Path;
use std::time::{Duration, Instant};

use rowhouse::rusqlite::{self, Connection, OpenFlags};
use rowhouse::{Database, Domain, Error, ErrorKind, Health, Home, Limits, Result, Runtime};

/// The built-in domains, in the order in which the library opens them, with SQLite's word for their durability.
pub(crate) const DOMAINS: [(&str, &str); 4] =
    [("state", "full"), ("logs", "normal"), ("goals", "full"), ("device_keys", "full")];
const BUSY_TIMEOUT: Duration = Duration::from_mins(1);
/// Longer than any disk takes to open a database.
const PATIENCE: Duration = Duration::from_mins(1);

/// Who opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Opener {
    /// The library.
    Rowhouse,
    /// Four connections with the same pragmas, and one SELECT on each.
    Plain,
}

/// What was opened. Dropping it closes it.
pub(crate) enum Opened {
    Rowhouse(#[expect(dead_code, reason = "kept open")] Runtime),
    Plain(#[expect(dead_code, reason = "kept open")] Vec<Connection>),
}

impl Opener {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rowhouse => "rowhouse",
            Self::Plain => "plain",
        }
    }

    /// Opens all four, and answers when each of them can be read and written.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub(crate) fn open(self, home: &Path) -> Result<Opened> {
        match self {
            Self::Rowhouse => {
                let runtime = Runtime::open(Home::at(home))?;
                wait_until_ready(&runtime.database("logs")?)?;
                Ok(Opened::Rowhouse(runtime))
            }
            Self::Plain => {
                let open = |(name, synchronous)| connect(&home.join(format!("{name}.sqlite")), synchronous);
                Ok(Opened::Plain(DOMAINS.into_iter().map(open).collect::<Result<_>>()?))
            }
        }
    }

    /// How long an open takes; closing again is not part of it.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub(crate) fn time(self, home: &Path) -> Result<Duration> {
        let begun = Instant::now();
        let opened = self.open(home)?;
        let took = begun.elapsed();
        drop(opened);
        Ok(took)
    }
}

/// The logs are best effort: they are attached beside the program, and here they count as well.
fn wait_until_ready(database: &Database) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while database.health() != Health::Ready {
        if Instant::now() > until {
            let error = Error::new(ErrorKind::Timeout, "the database did not become ready");
            return Err(error.at_path(database.path()));
        }
        // Nothing wakes who waits for health, and a wait of a millisecond is longer than what is measured.
        std::thread::yield_now();
    }
    Ok(())
}

/// A connection as the library settles it, and one look at the schema.
fn connect(file: &Path, synchronous: &str) -> Result<Connection> {
    let limits = Limits::default();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    #[expect(clippy::disallowed_methods, reason = "the baselines are what the library is compared with")]
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(limits.statement_cache);
    connection.execute_batch(&format!(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; PRAGMA cache_size=-{}; \
         PRAGMA journal_size_limit={}; PRAGMA mmap_size=0; PRAGMA foreign_keys=ON; PRAGMA cell_size_check=ON; \
         PRAGMA fullfsync=ON; PRAGMA checkpoint_fullfsync=ON;",
        limits.page_cache / 1024,
        2 * limits.wal_soft,
    ))?;
    connection.query_row("SELECT schema_version FROM rowhouse_meta", [], |row| row.get::<_, i64>(0))?;
    Ok(connection)
}

/// Begins a write transaction on some of the databases and keeps it until the answer is dropped.
///
/// # Errors
/// Of SQLite.
pub(crate) fn hold(home: &Path, databases: &[String]) -> Result<Vec<Connection>> {
    let hold = |name: &String| {
        #[expect(clippy::disallowed_methods, reason = "a program that knows nothing of the library")]
        let connection = Connection::open(home.join(format!("{name}.sqlite")))?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        Ok(connection)
    };
    databases.iter().map(hold).collect::<rusqlite::Result<_>>().map_err(Error::from)
}

/// A home with nothing but its logs.
///
/// # Errors
/// When it cannot be created.
pub(crate) fn create_logs(home: &Path) -> Result<()> {
    let runtime = Runtime::builder(Home::at(home)).domain(Domain::logs()).open()?;
    wait_until_ready(&runtime.database("logs")?)
}
