//! What a database's schema holds beside what the migrations make: triggers, tables, indexes and views of others.
//!
//! They are tolerated and told. What the migrations make is found out by running them on an empty database in memory,
//! which takes milliseconds; so nobody does it on the way to ready, but whoever asks for the warnings, once.
//!
//! Tests below; through the engine in `tests/m7_rebuilt_and_foreign.rs`.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::history::OWN_TABLES;
use super::migrate::{self, shown};
use crate::domain::Domain;
use crate::error::Result;

/// The objects of a schema: their text by kind and name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Catalogue(BTreeMap<(String, String), String>);

impl Catalogue {
    /// What the domain's migrations make of an empty database.
    ///
    /// # Errors
    /// Of the migrations; of what the domain does with each new connection.
    pub(crate) fn fresh(domain: &Domain) -> Result<Self> {
        let connection = Connection::open_in_memory()?;
        if let Some(run) = &domain.on_connect {
            run(&connection)?;
        }
        migrate::migrate(&connection, domain, ("", ""))?;
        Self::of(&connection)
    }

    /// What is there, without SQLite's own tables and the engine's.
    ///
    /// # Errors
    /// Of SQLite.
    pub(crate) fn of(connection: &Connection) -> Result<Self> {
        let mut statement = connection.prepare(
            "SELECT type, name, ifnull(sql, '') FROM sqlite_schema WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'",
        )?;
        let rows = statement.query_map([], |row| {
            let sql: String = row.get(2)?;
            Ok(((row.get(0)?, row.get(1)?), normalised(&sql)))
        })?;
        let mut objects: BTreeMap<(String, String), String> = rows.collect::<rusqlite::Result<_>>()?;
        objects.retain(|(_, name), _| !OWN_TABLES.iter().any(|own| own.eq_ignore_ascii_case(name)));
        Ok(Self(objects))
    }

    /// True when a table of ours is among theirs, word for word.
    pub(crate) fn shares_a_table_with(&self, theirs: &Self) -> bool {
        self.0.iter().any(|(key, sql)| key.0 == "table" && theirs.0.get(key) == Some(sql))
    }

    /// How a database differs from a fresh one, a sentence each.
    pub(crate) fn differences(&self, found: &Self) -> Vec<String> {
        let mut told = Vec::new();
        for (key, sql) in &found.0 {
            let (kind, name) = (&key.0, shown(&key.1));
            match self.0.get(key) {
                None => told.push(format!("the {kind} {name} was not made by this program's migrations")),
                Some(ours) if ours != sql => {
                    told.push(format!("the {kind} {name} is not as this program's migrations make it"));
                }
                Some(_) => {}
            }
        }
        for (kind, name) in self.0.keys().filter(|key| !found.0.contains_key(*key)) {
            told.push(format!("the {kind} {name} is missing"));
        }
        told
    }
}

/// Spaces and line ends differ between tools that write a schema down.
fn normalised(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Migration;

    const PAGE: &[Migration] = &[
        Migration { name: "V1__page", sql: "CREATE TABLE page(url TEXT PRIMARY KEY,\n    body TEXT)" },
        Migration { name: "V2__by_body", sql: "CREATE INDEX by_body ON page(body); ANALYZE" },
    ];

    fn differences(change: &str) -> Vec<String> {
        let domain = Domain::new("cache").migrations(PAGE);
        let connection = Connection::open_in_memory().expect("an in-memory database");
        migrate::migrate(&connection, &domain, ("shop", "1")).expect("migrated");
        connection.execute_batch(change).expect(change);
        let fresh = Catalogue::fresh(&domain).expect("a fresh one");
        fresh.differences(&Catalogue::of(&connection).expect("what is there"))
    }

    #[test]
    fn what_others_made_changed_or_dropped_is_named() {
        assert_eq!(differences("ANALYZE"), Vec::<String>::new());
        assert_eq!(
            differences(
                "CREATE TABLE theirs(a UNIQUE); CREATE VIEW seen AS SELECT 1;
                 CREATE TRIGGER tr AFTER INSERT ON page BEGIN SELECT 1; END;
                 CREATE INDEX fast ON page(url, body); DROP INDEX by_body;
                 ALTER TABLE page ADD COLUMN extra",
            ),
            [
                "the index fast was not made by this program's migrations",
                "the table page is not as this program's migrations make it",
                "the table theirs was not made by this program's migrations",
                "the trigger tr was not made by this program's migrations",
                "the view seen was not made by this program's migrations",
                "the index by_body is missing",
            ]
        );
    }

    #[test]
    fn a_tables_layout_on_the_page_does_not_count() {
        let told = differences(
            "DROP TABLE page; CREATE TABLE page(url TEXT PRIMARY KEY, body TEXT); CREATE INDEX by_body ON page(body)",
        );
        assert_eq!(told, Vec::<String>::new());
    }
}
