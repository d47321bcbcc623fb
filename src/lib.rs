//! An embedded multi-database runtime: one SQLite file per domain, one writer per file, fair between processes.
//!
//! - [`Domain`] declares a database; [`Runtime`] opens a home of them; [`Database`] is the handle that is passed around.
//! - [`Database::write`] runs a job in a commit that it may share with other callers, and answers when it is durable;
//!   [`Database::submit`] queues one; [`Database::read`] sees one snapshot.
//! - [`Engine`] is the handle to a domain that may also be on a PostgreSQL server.
//! - [`Step`] is a rewrite of data that is too long for a migration: done in the background, in small pieces.
//! - [`Error`] has a [kind](ErrorKind) to decide on, and names the database, the file, the holder and the next step.
//! - [`doctor`] says what is wrong with a home, and what to do, without changing anything.
//! - [`RuntimeDbRegistry`] tells which databases a home holds, without opening a runtime.
//!
//! The pages behind the design are in the repository: `docs/architecture.md` (how and why), `docs/operations.md` (what
//! is on the disk, what errors mean).
#![doc = include_str!("../README.md")]

#[cfg(not(unix))]
compile_error!(
    "rowhouse needs Unix: its fairness between processes stands on flock, its checks of identity on device and inode"
);

extern crate self as rowhouse;

mod backup;
#[cfg(feature = "agent")]
mod builtin;
mod config;
#[cfg(feature = "agent")]
pub mod doctor;
mod domain;
mod error;
#[cfg(feature = "agent")]
mod folder;
mod forks;
mod handoff;
mod home;
mod maintenance;
mod move_backend;
#[cfg(feature = "agent")]
pub mod portable;
#[cfg(feature = "postgres")]
mod postgres;
mod presence;
mod processes;
#[cfg(feature = "agent")]
pub mod redact;
mod registry;
pub mod repair;
#[cfg(feature = "agent")]
pub mod rollout;
mod runtime;
pub mod salvage;
pub mod sql;
mod sqlite;
#[cfg(feature = "agent")]
pub mod stores;
mod sync;
#[cfg(feature = "metrics")]
pub mod telemetry;
#[cfg(not(feature = "metrics"))]
mod telemetry;
#[cfg(feature = "agent")]
pub mod thread_store;

pub use backup::{
    BackupDatabase, BackupManifest, BackupOptions, BackupProgress, BackupReport, BackupStep, LeftOut,
    RestoreOptions, RestoreReport, RestoredDatabase,
};
pub use config::Limits;
pub use domain::{Domain, Durability, Migration, OnDamage, Role};
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "agent")]
pub use folder::Folder;
pub use home::{Home, HomeOrigin};
pub use maintenance::{
    CompactReport, CompactedDatabase, MaintainOptions, MaintainProgress, MaintainReport, MaintainStep,
    MaintainedDatabase,
};
#[cfg(feature = "postgres")]
pub use move_backend::{
    Backend, Lost, MoveOptions, MoveProgress, MoveReport, MoveStep, MovedTable, Unholdable,
};
#[cfg(feature = "postgres")]
#[doc(hidden)]
pub use postgres::name_of_url;
pub use processes::ProcessState;
pub use registry::{
    DatabaseInfo, DatabaseStats, Inspection, ProcessStats, RuntimeDbRegistry, SchemaMeta, Survey, TableSize,
};
#[cfg(feature = "agent")]
pub use registry::{ServerDomain, ServerPlace, ServerSession, ServerStatus};
/// Embeds a folder of SQL migrations as `&'static [Migration]`, in the order of their numbers.
///
/// The folder is relative to the package's `Cargo.toml`; subfolders are searched too. Files are named
/// `V<number>__<name>.sql`, numbers start at 1 and may leave gaps; an empty folder is an empty list. A number that is
/// used twice, an unversioned (`U1__x.sql`) or misnamed `.sql` file, or a missing folder does not compile.
///
/// ```
/// use rowhouse::Domain;
/// let cache = Domain::new("cache").migrations(rowhouse::migrations!("tests/fixtures/migrations_sample"));
/// ```
///
/// ```compile_fail
/// let missing = rowhouse::migrations!("no_such_folder");
/// ```
///
/// An edited file is compiled in at the next build by itself. For a file that was *added*, cargo must be told to watch
/// the folder, in `build.rs`:
///
/// ```
/// println!("cargo::rerun-if-changed=migrations_cache");
/// ```
///
/// # What a migration may do
/// Everything pending runs in one transaction with its record, so a text may not control transactions, attach or
/// detach databases, vacuum, or set pragmas; `PRAGMA defer_foreign_keys` is allowed. A text that was applied somewhere
/// is never edited again (line endings do not count); a change is the next number.
pub use rowhouse_macros::migrations;
pub use runtime::{Builder, Runtime};
pub use rusqlite;
pub use sqlite::check::{CheckState, Checked};
pub use sqlite::damage::{DamageReport, KeptRows};
pub use sqlite::health::Health;
pub use sqlite::holders::Holder;
pub use sqlite::holders::who::{
    DatabaseHolders, DatabaseLock, DatabaseProcess, DeletedFile, HomeHolders, Unseen,
};
pub use sqlite::read_only::remove_private_copies;
pub use sqlite::stats::{Distribution, ErrorCounts, OpenPhases, Opening, Stats};
pub use sqlite::status_page::{DatabaseStatus, ProcessStatus};
pub use sqlite::steps::{Piece, Progress, Step, StepState, StepStatus, Watermark};
pub use sqlite::tx::{Snapshot, Tx};
pub use sqlite::{CloseReport, Database, Ticket};
#[cfg(feature = "agent")]
pub use stores::database::{Engine, StoreSession};
#[cfg(feature = "agent")]
pub use stores::logs::LogQuery;
#[cfg(feature = "agent")]
pub use stores::threads::ThreadQuery;
