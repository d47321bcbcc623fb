//! An embedded multi-database runtime.
extern crate self as rowhouse;

mod config;
mod domain;
mod error;
mod home;
#[cfg(feature = "agent")]
pub mod rollout;
mod runtime;
pub mod sql;
mod sqlite;
#[cfg(feature = "agent")]
pub mod stores;

pub use config::Limits;
pub use domain::{Domain, Durability, Migration, Role};
pub use error::{Error, ErrorKind, Result};
pub use home::Home;
pub use runtime::{Builder, Runtime};
pub use rusqlite;
pub use sqlite::holders::Holder;
pub use sqlite::tx::{Snapshot, Tx};
pub use sqlite::{Database, Ticket};
#[cfg(feature = "agent")]
pub use stores::threads::ThreadQuery;
