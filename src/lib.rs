//! An embedded multi-database runtime.
extern crate self as rowhouse;

#[cfg(feature = "agent")]
mod builtin;
mod config;
mod domain;
mod error;
mod home;
// These three move into `sqlite/mod.rs` when the opener calls them.
#[path = "sqlite/fence.rs"]
mod fence;
#[path = "sqlite/history.rs"]
mod history;
#[allow(dead_code)]
#[path = "sqlite/migrate.rs"]
mod migrate;
mod runtime;
pub mod sql;
mod sqlite;

pub use config::Limits;
pub use domain::{Domain, Durability, Migration, Role};
pub use error::{Error, ErrorKind, Result};
pub use home::Home;
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
pub use sqlite::holders::Holder;
pub use sqlite::tx::{Snapshot, Tx};
pub use sqlite::{Database, Ticket};
