//! An embedded multi-database runtime.
extern crate self as rowhouse;

mod config;
mod domain;
mod error;
mod home;
mod processes;
mod registry;
mod runtime;
pub mod sql;
mod sqlite;
#[path = "sqlite/status_page.rs"]
mod status_page;

pub use config::Limits;
pub use domain::{Domain, Durability, Migration, Role};
pub use error::{Error, ErrorKind, Result};
pub use home::{Home, HomeOrigin};
pub use registry::{DatabaseInfo, Inspection, RuntimeDbRegistry, SchemaMeta, Survey};
pub use runtime::{Builder, Runtime};
pub use rusqlite;
pub use sqlite::holders::Holder;
pub use sqlite::tx::{Snapshot, Tx};
pub use sqlite::{Database, Ticket};
pub use status_page::{DatabaseStatus, ProcessStatus};
