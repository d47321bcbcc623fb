//! Logs: one row per event, best effort, bounded in bytes, measured.

mod model;

pub use model::{LogLevel, LogRow};

use crate::error::Result;
use crate::sqlite::Database;
use crate::stores::database::StoreDatabase;

/// The log store of a `logs` database. Cheap to clone.
#[derive(Clone)]
pub struct Logs {
    database: StoreDatabase,
}

impl Logs {
    /// The store in this database, which holds the tables of the `logs` domain.
    pub fn new(database: Database) -> Self {
        Self::of(Ok(database))
    }

    /// The store of a runtime; a runtime without the logs domain answers so at every use.
    pub(crate) fn of(database: Result<Database>) -> Self {
        Self { database: StoreDatabase::new(database, "logs") }
    }
}
