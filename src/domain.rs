//! What a database is, declared once: its name, schema, durability, and whether a program can live without it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "agent")]
use crate::config::backend::Backends;
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "agent")]
use crate::move_backend::marker;
use crate::sqlite::steps::Step;

/// Whether a program can be ready without the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Opening the runtime fails when this database cannot be opened.
    Required,
    /// Never on the way to ready: attached in the background.
    BestEffort,
}

/// What becomes of a database whose file is damaged. The damaged files always go to the home's `quarantine/`, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDamage {
    /// A new database is filled with the rows that can still be read.
    Salvage,
    /// A new, empty database takes its place.
    Fresh,
    /// Nothing is moved: opening fails with [`ErrorKind::Corrupt`], and a best-effort domain stays unattached until
    /// somebody puts a good file there.
    Refuse,
}

/// What an acknowledged commit survives (<https://sqlite.org/pragma.html#pragma_synchronous>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// A power cut. `synchronous=FULL`.
    Full,
    /// A crash of the program; a power cut may take the last commits, never the database. `synchronous=NORMAL`.
    Normal,
}

/// One migration: its file name without the ending (`V1__create_page`), and its SQL text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// `V<number>__<name>`
    pub name: &'static str,
    /// The SQL, of one or more statements.
    pub sql: &'static str,
}

/// What runs on each new connection of a domain, before it is used.
pub(crate) type OnConnect = dyn Fn(&rusqlite::Connection) -> rusqlite::Result<()> + Send + Sync;

/// The declaration of a database.
///
/// ```
/// use rowhouse::{Domain, Durability};
/// let cache = Domain::new("cache")
///     .migrations(&[rowhouse::Migration { name: "V1__page", sql: "CREATE TABLE page(url TEXT PRIMARY KEY, body TEXT)" }])
///     .durability(Durability::Normal)
///     .best_effort();
/// assert_eq!(cache.name(), "cache");
/// ```
#[derive(Clone)]
pub struct Domain {
    pub(crate) name: String,
    pub(crate) migrations: Vec<Migration>,
    /// The same schema in the SQL of a server; empty for a domain that is always a file.
    #[cfg(feature = "postgres")]
    pub(crate) server_migrations: Vec<Migration>,
    pub(crate) steps: Vec<Step>,
    pub(crate) role: Role,
    pub(crate) durability: Durability,
    pub(crate) program: Option<(String, String)>,
    pub(crate) oldest_reader: i64,
    pub(crate) oldest_writer: i64,
    pub(crate) on_connect: Option<Arc<OnConnect>>,
    /// Rows that were acknowledged in files which somebody removed come back, also those that others deleted since.
    pub(crate) merges_rescued: bool,
    /// Tables that hold nothing of their own, with the statement that fills them anew from the others: they are never
    /// merged row by row.
    pub(crate) totals: &'static [(&'static str, &'static str)],
    /// Tables that the schema's own triggers make of the others, in each engine's own way: they are not moved to another
    /// engine.
    #[cfg(feature = "postgres")]
    pub(crate) derived: &'static [&'static str],
    /// `None`: as its role says.
    pub(crate) on_damage: Option<OnDamage>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) max_write_rate: Option<(u64, Duration)>,
}

impl Domain {
    /// A required, fully durable domain without tables. The name becomes the file's: `[a-z][a-z0-9_]{0,31}`,
    /// checked when the runtime opens.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            migrations: Vec::new(),
            #[cfg(feature = "postgres")]
            server_migrations: Vec::new(),
            steps: Vec::new(),
            role: Role::Required,
            durability: Durability::Full,
            program: None,
            oldest_reader: 1,
            oldest_writer: 1,
            on_connect: None,
            merges_rescued: true,
            totals: &[],
            #[cfg(feature = "postgres")]
            derived: &[],
            on_damage: None,
            max_bytes: None,
            max_write_rate: None,
        }
    }

    /// The schema, as numbered steps: `rowhouse::migrations!("migrations_cache")`, or written out.
    #[must_use]
    pub fn migrations(mut self, migrations: &[Migration]) -> Self {
        self.migrations = migrations.to_vec();
        self
    }

    /// The same schema in the SQL of a PostgreSQL server: the domain may be on one, when the home's `config.toml` says so
    /// (`backend = "postgres"` under its name). The migrations have the numbers and names of those for a file. Its tables
    /// are made in a schema `rowhouse_<name>`, in which statements find them by their names alone, and are used by
    /// `Runtime::engine`.
    ///
    /// On a server a domain is required, whatever its role, and a commit survives what the server's does; steps, bounds and
    /// `on_connect` are a file's. Without the feature `postgres` these migrations are not used.
    #[must_use]
    pub fn on_server(mut self, migrations: &[Migration]) -> Self {
        #[cfg(feature = "postgres")]
        self.server_migrations.splice(.., migrations.iter().copied());
        #[cfg(not(feature = "postgres"))]
        let _ = (&mut self, migrations);
        self
    }

    /// A long rewrite of data, done in the background after the database is ready: see [`Step`]. Those of a domain are
    /// done in the order in which they are declared.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The program can be ready without this database; it attaches in the background.
    #[must_use]
    pub fn best_effort(mut self) -> Self {
        self.role = Role::BestEffort;
        self
    }

    /// What an acknowledged commit survives. Default [`Durability::Full`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Who writes this schema: recorded in the database and the registry, so that an older program can say
    /// what to install.
    #[must_use]
    pub fn program(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.program = Some((name.into(), version.into()));
        self
    }

    /// The oldest schema versions whose programs may still read, and still write, what this schema holds.
    /// Default 1 and 1: every migration only adds.
    ///
    /// An older program that may not write any more gets [`ErrorKind::ReadOnly`] for its writes, one that may not read
    /// [`ErrorKind::SchemaTooNew`], with this domain's [`program`](Self::program) as what to install; also when it has the
    /// database open while this one migrates it. A release with the same migrations may be stricter than the one
    /// before; being milder again takes a new migration.
    #[must_use]
    pub fn compatible_from(mut self, oldest_reader: i64, oldest_writer: i64) -> Self {
        self.oldest_reader = oldest_reader;
        self.oldest_writer = oldest_writer.max(oldest_reader);
        self
    }

    /// The most bytes that its files (the database, its write-ahead log and the log's index) may take. Default: no bound;
    /// 256 MiB for the built-in logs. At least 1 MiB.
    ///
    /// The bound is kept at each write: one that would need more is refused with [`ErrorKind::Full`]. Pages that are free
    /// inside the file count as room, so deleting rows makes room at once. A best-effort database then refuses all work
    /// but that of [`background`](crate::Database::background) handles, which may delete, until at least a 64th of the
    /// bound is free again. A quarter of the bound, at most [`Limits::wal_cap`](crate::Limits), is for the log; the log of
    /// a required database is not bounded, see there.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// The most bytes that may be written to the disk for it in some time, by all processes together. Default: no bound;
    /// 4 GiB a day for the built-in logs. A required domain is not held to it: its health says so.
    ///
    /// A quarter of them may be written at once; so in any span of that length it is at most 1.25 times as much. Counted is
    /// what is added to the write-ahead log, twice, because it is copied to the database later: the true number is lower
    /// when pages are written again before they are copied, and higher for a transaction larger than
    /// [`Limits::page_cache`](crate::Limits), which writes some pages more than once. Over it a best-effort database refuses work with
    /// [`ErrorKind::Full`] until a 64th of what may be written at once is free again. A process that starts finds what the
    /// others left. What programs write without this library is not counted.
    #[must_use]
    pub fn max_write_rate(mut self, bytes: u64, per: Duration) -> Self {
        self.max_write_rate = Some((bytes, per));
        self
    }

    /// Runs on each new connection (writer and readers) before it is used: to register functions or collations.
    #[must_use]
    pub fn on_connect(
        mut self,
        run: impl Fn(&rusqlite::Connection) -> rusqlite::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.on_connect = Some(Arc::new(run));
        self
    }

    /// What becomes of its file when that is found damaged, at open or later. Default [`OnDamage::Salvage`] for a
    /// required domain, [`OnDamage::Fresh`] for a best-effort one.
    ///
    /// A file that cannot be opened because of a lock, a deadline, its permissions or a newer schema is not damaged, and
    /// never moved.
    #[must_use]
    pub fn on_damage(mut self, what: OnDamage) -> Self {
        self.on_damage = Some(what);
        self
    }

    /// As its role says, whatever was chosen.
    pub(crate) fn on_damage_by_role(mut self) -> Self {
        self.on_damage = None;
        self
    }

    pub(crate) fn damage_policy(&self) -> OnDamage {
        self.on_damage.unwrap_or(match self.role {
            Role::Required => OnDamage::Salvage,
            Role::BestEffort => OnDamage::Fresh,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a program can be ready without it.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether a home's configuration says that this domain is on a server there, not in a file; or a move that is in its
    /// cut-over has brought it there. Nothing is opened.
    ///
    /// # Errors
    /// `Invalid` when the home's `config.toml` cannot be understood; `Unsupported` when it names a server, and this
    /// program was built without the feature `postgres`; `Conflict` when it says a file, and the data was moved to a server;
    /// of the system.
    #[cfg(feature = "agent")]
    pub fn is_on_server(&self, home: &crate::home::Home) -> Result<bool> {
        let said = || {
            let backends = Backends::of(home.path(), std::iter::once(self.name()))?;
            Ok::<_, Error>(backends.is_on_server(self.name()))
        };
        let (false, Ok(folder)) = (said()?, home.locate()) else { return said() };
        match marker::refuse_moved(&folder, self.name()) {
            Ok(()) => Ok(marker::gone_to(&folder, self.name())?.is_some()),
            // A move may have ended since the configuration was read.
            Err(error) => {
                if said()? {
                    Ok(true)
                } else {
                    Err(error)
                }
            }
        }
    }

    /// Checks the name.
    ///
    /// # Errors
    /// `Invalid` when the name is not `[a-z][a-z0-9_]{0,31}`.
    pub(crate) fn check(&self) -> Result<()> {
        let mut letters = self.name.bytes();
        let first = letters.next().is_some_and(|b| b.is_ascii_lowercase());
        let rest = letters.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if first && rest && self.name.len() <= 32 {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Invalid,
            "a domain's name is a lower-case letter followed by up to 31 of a-z, 0-9 and _",
        )
        .advise("rename the domain in Domain::new"))
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain")
            .field("name", &self.name)
            .field("migrations", &self.migrations.len())
            .field("steps", &self.steps)
            .field("role", &self.role)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_home_are_refused() {
        for bad in ["", "A", "1a", "../x", "a b", "a.b", "ä", &"a".repeat(33)] {
            assert_eq!(Domain::new(bad).check().expect_err(bad).kind(), ErrorKind::Invalid);
        }
        for good in ["a", "device_keys", "x9", &"a".repeat(32)] {
            Domain::new(good).check().expect(good);
        }
    }
}
