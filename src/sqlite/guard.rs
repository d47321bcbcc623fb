//! placeholder
use crate::error::Result;
use rusqlite::Connection;
pub(crate) struct Nested<'c>(&'c Connection);
impl<'c> Nested<'c> {
    pub(crate) fn open(connection: &'c Connection) -> Result<Self> {
        connection.execute_batch("SAVEPOINT nested")?;
        Ok(Self(connection))
    }
    pub(crate) fn close(self, keep: bool) -> Result<()> {
        self.0.execute_batch(if keep { "RELEASE nested" } else { "ROLLBACK TO nested; RELEASE nested" })?;
        Ok(())
    }
}
