//! Indexes that stand aside while the tables of a new schema are filled: made of all rows at once they cost a fraction of what
//! they cost row by row.
//!
//! Invariant: each comes back by its own definition, or the move ends with an error. What is in between is a new file or an
//! open transaction, so nobody ever sees a schema without them.
//!
//! The index of texts is one of them: of all rows it is made in a twentieth of the time. Those that keep rows apart stay,
//! since they also refuse. A schema with triggers of its own keeps all of them: its triggers may look for rows, at each one
//! that is filled in.
//!
//! Tests: `tests/move_backend.rs`, which also looks whether each is there again.

use rusqlite::Connection;

use super::transcripts::STATE;
use crate::error::Result;
use crate::postgres::bulk::Bulk;

/// Their tables, and the definitions in SQL of what comes back.
#[derive(Default)]
pub(super) struct Aside(Vec<(String, String)>);

/// Also the triggers by which the index of texts follows its table.
const IN_FILE: &str = "SELECT format('DROP %s \"%w\"', type, name), tbl_name, sql FROM sqlite_schema \
     WHERE (type = 'index' AND sql IS NOT NULL AND upper(sql) NOT GLOB 'CREATE UNIQUE *') \
        OR (type = 'trigger' AND tbl_name = 'thread_text')";
const MAKE_TEXTS: &str = "INSERT INTO thread_search (thread_search) VALUES ('rebuild')";
const TRIGGERS_IN_FILE: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger')";

impl Aside {
    /// # Errors
    /// Of SQLite.
    pub(super) fn in_file(connection: &Connection, domain: &str) -> Result<Self> {
        // The triggers of this one look at no index that stands aside.
        if domain != STATE && connection.query_row(TRIGGERS_IN_FILE, [], |row| row.get(0))? {
            return Ok(Self::default());
        }
        let mut found = connection.prepare(IN_FILE)?;
        let found = found.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let found = found.collect::<rusqlite::Result<Vec<(String, String, String)>>>()?;
        for (drop, ..) in &found {
            connection.execute_batch(drop)?;
        }
        Ok(Self(found.into_iter().map(|(_, table, text)| (table, text)).collect()))
    }

    /// # Errors
    /// Of SQLite.
    pub(super) fn restore_in_file(self, connection: &Connection, domain: &str) -> Result<()> {
        if domain == STATE {
            connection.execute_batch(MAKE_TEXTS)?;
        }
        self.0.iter().try_for_each(|(_, text)| Ok(connection.execute_batch(text)?))
    }

    /// Of a schema that was made in this transaction: nobody else waits for its tables.
    ///
    /// # Errors
    /// Of the server.
    pub(super) fn on_server(bulk: &mut Bulk<'_>, domain: &str, schema: &str) -> Result<Self> {
        let triggers = format!(
            "EXISTS (SELECT 1 FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
             WHERE NOT t.tgisinternal AND c.relnamespace = '{schema}'::regnamespace)"
        );
        if domain != STATE && bulk.says(&triggers)? {
            return Ok(Self::default());
        }
        let found = bulk.rows(&format!(
            "SELECT i.indexrelid::regclass, c.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
             WHERE c.relnamespace = '{schema}'::regnamespace AND NOT i.indisunique AND NOT i.indisreplident \
               AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid)"
        ))?;
        let mut aside = Self::default();
        for row in found {
            let Ok([Some(name), Some(table), Some(text)]) = <[_; 3]>::try_from(row) else { continue };
            bulk.batch(&format!("DROP INDEX {name}"))?;
            aside.0.push((table, text));
        }
        Ok(aside)
    }

    /// # Errors
    /// Of the server: a value may be too long for one.
    pub(super) fn restore_on_server(self, bulk: &mut Bulk<'_>, domain: &str) -> Result<()> {
        self.0.iter().try_for_each(|(table, text)| {
            bulk.batch(text).map_err(|error| {
                let message = format!("{domain}.{table}: {}", error.message());
                error.worded(message)
            })
        })
    }
}
