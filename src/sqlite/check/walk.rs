//! One walk: all entries of one B-tree in its order, in steps that each begin where the last one ended.
//!
//! Invariants:
//! 1. A step goes on after the key that the last one ended with, whatever was inserted or deleted meanwhile: it begins
//!    anew at the top of the tree, by the tree's own order (`NULL`s, collations, descending columns).
//! 2. It reads in the tree's order, so nothing is sorted or kept, and a step can end after any entry.
//! 3. What it compares, it compares within one statement, so within one snapshot.
//!
//! Tests: below.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use crate::error::Result;

/// A column that a tree is sorted by.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// As it stands in a statement.
    pub(super) name: String,
    /// Its collation there; `None` for a rowid.
    pub(super) collation: Option<String>,
    pub(super) descending: bool,
    /// The column turns numbers into text (<https://sqlite.org/datatype3.html>, section 3).
    pub(super) is_text: bool,
}

/// What is read of each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Every column of a table's row, with its overflow pages.
    Rows,
    /// The entry of an index.
    Entries,
    /// The entry of an index, and whether the table has the row.
    HasRow,
    /// The row of a table, and whether an index has its entry.
    HasEntry,
}

/// A table or an index, and where the walk is in it.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    pub(super) look: Look,
    pub(super) table: String,
    /// Walked, or for [`Look::HasEntry`] looked into.
    pub(super) index: Option<String>,
    /// What the walked tree is sorted by.
    pub(super) keys: Vec<Key>,
    /// What is read of each entry beside its key.
    pub(super) columns: String,
    /// Where the walked tree is, with the name of the index.
    pub(super) from: String,
    /// Of a partial index that is walked.
    pub(super) only: Option<String>,
    pub(super) after: Option<Vec<Value>>,
}

/// What a step saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stepped {
    pub(super) entries: u64,
    /// The walk is at its end.
    pub(super) ended: bool,
    /// An entry has no counterpart.
    pub(super) mismatch: bool,
}

/// A range of the tree that begins after the last key: the first columns are the same, the next one is beyond.
struct Range {
    same: usize,
    beyond: Beyond,
}

impl Range {
    /// How many columns of the last key it is told.
    fn parameters(&self) -> usize {
        match self.beyond {
            Beyond::Greater | Beyond::Less => self.same + 1,
            Beyond::Null | Beyond::NotNull => self.same,
        }
    }
}

#[derive(Clone, Copy)]
enum Beyond {
    Greater,
    Less,
    Null,
    NotNull,
}

impl Walk {
    /// Goes on until the end, or until `is_over` says so, which is asked after each entry.
    pub(super) fn step(
        &mut self,
        connection: &Connection,
        is_over: &mut dyn FnMut() -> bool,
    ) -> Result<Stepped> {
        let mut stepped = Stepped { entries: 0, ended: false, mismatch: false };
        let ranges: Vec<Option<Range>> = match &self.after {
            None => vec![None],
            Some(after) => self.ranges(after).into_iter().map(Some).collect(),
        };
        let after = self.after.clone().unwrap_or_default();
        for range in ranges {
            let mut statement = connection.prepare(&self.statement(range.as_ref()))?;
            let bound = range.as_ref().map_or(0, Range::parameters);
            let mut rows = statement.query(params_from_iter(&after[..bound]))?;
            while let Some(row) = rows.next()? {
                stepped.entries += 1;
                if matches!(self.look, Look::HasRow | Look::HasEntry)
                    && row.get::<_, bool>(self.keys.len())?
                {
                    stepped.mismatch = true;
                    return Ok(stepped);
                }
                if is_over() {
                    self.after = Some(self.key(row)?);
                    return Ok(stepped);
                }
            }
        }
        stepped.ended = true;
        Ok(stepped)
    }

    fn key(&self, row: &Row<'_>) -> Result<Vec<Value>> {
        Ok((0..self.keys.len()).map(|at| row.get::<_, Value>(at)).collect::<Result<_, _>>()?)
    }

    /// Everything after a key, in the order of the tree.
    fn ranges(&self, after: &[Value]) -> Vec<Range> {
        let mut ranges = Vec::new();
        for (same, (key, value)) in self.keys.iter().zip(after).enumerate().rev() {
            // NULL comes before everything else, and after it in a descending column.
            let beyond: &[Beyond] = match (key.descending, value) {
                (false, Value::Null) => &[Beyond::NotNull],
                (false, _) => &[Beyond::Greater],
                (true, Value::Null) => &[],
                (true, _) if key.collation.is_none() => &[Beyond::Less],
                (true, _) => &[Beyond::Less, Beyond::Null],
            };
            ranges.extend(beyond.iter().map(|beyond| Range { same, beyond: *beyond }));
        }
        ranges
    }

    fn statement(&self, range: Option<&Range>) -> String {
        let collated = |key: &Key| match &key.collation {
            Some(collation) => format!("{} COLLATE {}", key.name, quoted(collation)),
            None => key.name.clone(),
        };
        let names: Vec<&str> = self.keys.iter().map(|key| &*key.name).collect();
        let mut terms: Vec<String> = self.only.iter().map(|only| format!("({only})")).collect();
        let mut order_from = 0;
        if let Some(Range { same, beyond }) = range {
            terms.extend(
                self.keys[..*same]
                    .iter()
                    .enumerate()
                    .map(|(at, key)| format!("{} IS ?{}", collated(key), at + 1)),
            );
            let key = collated(&self.keys[*same]);
            terms.push(match beyond {
                Beyond::Greater => format!("{key} > ?{}", same + 1),
                Beyond::Less => format!("{key} < ?{}", same + 1),
                Beyond::Null => format!("{key} IS NULL"),
                // What comes after NULL. `IS NOT NULL` would look at every NULL first.
                Beyond::NotNull if self.keys[*same].is_text => format!("{key} >= ''"),
                Beyond::NotNull => format!("{key} >= -9e999"),
            });
            order_from = *same;
        }
        let order: Vec<String> = self.keys[order_from..]
            .iter()
            .map(|key| format!("{}{}", collated(key), if key.descending { " DESC" } else { "" }))
            .collect();
        let mut sql = format!("SELECT {}{} FROM {}", names.join(", "), self.columns, self.from);
        if !terms.is_empty() {
            sql += " WHERE ";
            sql += &terms.join(" AND ");
        }
        sql + " ORDER BY " + &order.join(", ")
    }
}

/// A name as it stands in a statement: quoted, it cannot be anything but a name.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::super::plan;
    use super::*;

    /// Every kind of tree: rowids, keys of text, NULLs, descending and collated columns, parts of a table, no rowid.
    const SQL: &str = "
        CREATE TABLE a(id INTEGER PRIMARY KEY, k TEXT UNIQUE, n, d, body BLOB);
        CREATE INDEX a_n ON a(n, d DESC);
        CREATE INDEX a_d ON a(d DESC, n COLLATE NOCASE DESC);
        CREATE INDEX a_some ON a(k COLLATE NOCASE) WHERE n IS NOT NULL AND k <> 'WHERE';
        CREATE INDEX a_computed ON a(n + 1);
        CREATE TABLE b(x TEXT, y INTEGER, z, PRIMARY KEY(x, y DESC)) WITHOUT ROWID;
        CREATE INDEX b_z ON b(z, x);
        CREATE TABLE \"it's \"\"odd\"\"\"(\"order by\" TEXT, rowid TEXT, PRIMARY KEY(\"order by\"));
        WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 400)
        INSERT INTO a SELECT i * 3, 'Key' || i, CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN i / 9 WHEN 2 THEN 'T' || (i / 9) ELSE 't' || i END,
                             nullif(i % 7, 3), randomblob(i * 20) FROM c;
        WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 300)
        INSERT INTO b SELECT 'x' || (i / 10), i, nullif(i % 5, 2) FROM c;
        INSERT INTO \"it's \"\"odd\"\"\" VALUES (NULL, 'r'), (NULL, 's'), ('q', NULL), ('', ''), (' !', ''), (x'00', 'blob');
        INSERT INTO a(n, d) VALUES (-9e999, 9e999), (9e999, -9e999), (x'', ''), ('', x'00'), (NULL, NULL), (NULL, NULL), (-1, -1);";

    #[allow(clippy::disallowed_methods, reason = "a test's own database")]
    fn database() -> Connection {
        let connection = Connection::open_in_memory().expect("a connection");
        connection.execute_batch(SQL).expect("the tables");
        connection
    }

    /// Walks it in steps of `entries`; answers all entries seen.
    fn walked(connection: &Connection, mut walk: Walk, entries: u64) -> u64 {
        let mut seen = 0;
        loop {
            let mut left = entries;
            let mut is_over = || {
                left -= 1;
                left == 0
            };
            let stepped = walk.step(connection, &mut is_over).expect("a whole database");
            assert!(!stepped.mismatch, "{walk:?}");
            seen += stepped.entries;
            if stepped.ended {
                return seen;
            }
        }
    }

    #[test]
    fn in_steps_of_any_length_every_entry_is_seen_once() {
        let connection = database();
        let walks = plan::walks(&connection).expect("a plan");
        let of = |look| walks.iter().filter(|walk| walk.look == look).count();
        assert_eq!(
            (of(Look::Rows), of(Look::Entries), of(Look::HasRow), of(Look::HasEntry)),
            (4, 6, 6, 6),
            "the schema is a table, too"
        );
        for walk in walks {
            let from = match (&walk.look, &walk.index, &walk.only) {
                (_, Some(index), Some(only)) if walk.look != Look::HasEntry => {
                    format!("{} INDEXED BY {} WHERE {only}", quoted(&walk.table), quoted(index))
                }
                _ => quoted(&walk.table),
            };
            let count = format!("SELECT count(*) FROM {from}");
            let count: i64 = connection.query_row(&count, [], |row| row.get(0)).expect("a count");
            for entries in [1, 7, 1000] {
                assert_eq!(walked(&connection, walk.clone(), entries), count.cast_unsigned(), "{walk:?}");
            }
        }
    }

    #[test]
    fn nothing_is_sorted_and_each_step_begins_in_the_tree() {
        let connection = database();
        for mut walk in plan::walks(&connection).expect("a plan") {
            let mut left = 3;
            let mut is_over = || {
                left -= 1;
                left == 0
            };
            walk.step(&connection, &mut is_over).expect("a step");
            let after = walk.after.clone().unwrap_or_default();
            let ranges = walk.ranges(&after);
            for range in ranges.iter().map(Some).chain([None]) {
                let sql = walk.statement(range);
                let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect(&sql);
                let plan: Vec<String> = plan
                    .query_map(params_from_iter(&after[..range.map_or(0, Range::parameters)]), |row| {
                        row.get(3)
                    })
                    .expect("a plan")
                    .collect::<Result<_, _>>()
                    .expect("a plan");
                assert!(!plan.iter().any(|line| line.contains("TEMP B-TREE")), "{sql}: {plan:?}");
                let begins = if range.is_some() { "SEARCH" } else { "SCAN" };
                assert!(plan[0].starts_with(begins), "{sql}: {plan:?}");
                // The counterpart is looked for in its tree, not by going through it.
                assert!(plan[1..].iter().all(|line| !line.contains("SCAN")), "{sql}: {plan:?}");
            }
        }
    }

    #[test]
    fn what_one_tree_has_and_the_other_has_not_is_seen() {
        // As a lost or an old page leaves it: the tree of the index is whole, and is not that of the table.
        for (damage, look) in [
            ("DELETE FROM a WHERE id > 900", Look::HasRow),
            ("INSERT INTO a(id, k, n) VALUES (1000000, 'new', 1)", Look::HasEntry),
        ] {
            let connection = database();
            // While the schema says that the index is not there, nobody maintains it.
            connection
                .execute_batch(&format!(
                    "PRAGMA writable_schema=ON;
                     CREATE TEMP TABLE kept AS SELECT * FROM sqlite_schema WHERE name IN ('a_n', 'a_some');
                     DELETE FROM sqlite_schema WHERE name IN ('a_n', 'a_some'); PRAGMA schema_version=100;
                     {damage};
                     INSERT INTO sqlite_schema SELECT * FROM kept; PRAGMA schema_version=101;
                     PRAGMA writable_schema=RESET;"
                ))
                .expect("damaged");
            let mut found = Vec::new();
            for mut walk in plan::walks(&connection).expect("a plan") {
                let stepped = walk.step(&connection, &mut || false).expect("readable");
                if stepped.mismatch {
                    found.push((walk.look, walk.index.unwrap_or_default()));
                }
            }
            assert_eq!(found, [(look, "a_n".to_owned()), (look, "a_some".to_owned())], "{damage}");
        }
    }
}
