//! The database behind a store.

use crate::error::{Error, Result};
use crate::sqlite::Database;

/// The database a store speaks to, or why there is none: a runtime without the domain answers so at every use.
#[derive(Clone)]
pub(super) struct StoreDatabase(Result<Database>);

impl StoreDatabase {
    /// Its calls are named `label` in the statistics.
    pub(super) fn new(database: Result<Database>, label: &'static str) -> Self {
        Self(database.map(|database| database.label(label)))
    }

    pub(super) fn get(&self) -> Result<&Database> {
        self.0.as_ref().map_err(Error::clone)
    }

    /// The same database; writes go to the background lane.
    pub(super) fn background(self) -> Self {
        Self(self.0.map(Database::background))
    }
}
