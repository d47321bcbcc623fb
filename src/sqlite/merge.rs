//! Brings rows back that were acknowledged in files which somebody removed, while others began anew without them.
//!
//! What is missing is added; what is there stays as it is. A row of the same key with other contents is counted, and
//! stays in the copy: nobody knows which one is meant. A row that others deleted meanwhile comes back, for a lost row is
//! worse than one to be deleted again.
//!
//! Invariants:
//! 1. All or nothing: one transaction, with foreign keys checked at its end.
//! 2. Only tables that both sides have with the same columns; virtual tables and their shadows follow by the triggers
//!    that the schema has for them.
//! 3. A row of a table without any key is added unless the same row is there.
//! 4. What only counts other rows is counted anew, in the same transaction.

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::batch::{self, Overruled};
use super::clock::instant_after;
use super::core::Core;
use super::history::OWN_TABLES;
use super::shared::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::handoff::job::Ran;

/// What a merge did, in rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    /// Missing, and added.
    pub(super) added: u64,
    /// There under the same key, with other contents: left as they are.
    pub(super) other: u64,
}

/// Merges a copy into the database.
///
/// # Errors
/// Of SQLite; then nothing was added.
#[allow(clippy::disallowed_methods, reason = "a file of our own in the quarantine, no database of the home")]
pub(super) fn merge(shared: &Shared, core: &mut Core, copy: &Path) -> Result<Merged> {
    let copy = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let until = instant_after(shared.spec.limits.deadline);
    core.take_turn(shared.spec.limits.turn_wait);
    while let Err(error) = batch::begin_again(core, shared) {
        if error.kind() != ErrorKind::Busy || Instant::now() >= until {
            core.turn.leave();
            return Err(error);
        }
    }
    let mut answer = None;
    let overruled = batch::transact(core, shared, |tx| {
        let merged = merge_all(&copy, tx.connection(), shared.spec.domain.totals);
        let ran = if merged.is_ok() { Ran::Fine } else { Ran::Failed };
        answer = Some(merged);
        ran
    });
    core.turn.leave();
    match (overruled, answer) {
        (Some(Overruled::ByJob(error) | Overruled::ByTrouble(error)), _) => Err(error),
        (None, Some(answer)) => answer,
        (None, None) => Err(Error::new(ErrorKind::Io, "the merge did not run")),
    }
}

/// Without these tables, which are counted anew.
fn merge_all(copy: &Connection, target: &Connection, totals: &[(&str, &str)]) -> Result<Merged> {
    target.execute_batch("PRAGMA defer_foreign_keys=ON")?;
    let mut merged = Merged::default();
    for table in tables(copy)? {
        if totals.iter().any(|(total, _)| *total == table) {
            continue;
        }
        let columns = columns(copy, &table)?;
        if !columns.is_empty() && columns == self::columns(target, &table)? {
            merge_table(copy, target, &table, &columns, &mut merged)?;
        }
    }
    if merged.added > 0 {
        count_anew(target, totals)?;
    }
    Ok(merged)
}

/// Fills tables that only count what is in others.
fn count_anew(target: &Connection, totals: &[(&str, &str)]) -> Result<()> {
    let there = tables(target)?;
    for (table, fill) in totals.iter().filter(|(table, _)| there.iter().any(|name| name == table)) {
        target.execute(&format!("DELETE FROM {}", quoted(table)), [])?;
        target.execute(fill, [])?;
    }
    Ok(())
}

/// The ordinary tables that have rows.
///
/// # Errors
/// Of SQLite.
pub(super) fn tables_with_rows(connection: &Connection) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for table in tables(connection)? {
        let any = format!("SELECT EXISTS (SELECT 1 FROM {})", quoted(&table));
        if connection.query_row(&any, [], |row| row.get(0))? {
            found.push(table);
        }
    }
    Ok(found)
}

/// Takes all rows of these tables away. Foreign keys are not looked at.
///
/// # Errors
/// Of SQLite.
pub(super) fn empty(connection: &Connection, tables: &[String]) -> Result<()> {
    connection.execute_batch("PRAGMA foreign_keys=OFF")?;
    tables.iter().try_for_each(|table| {
        connection.execute(&format!("DELETE FROM {}", quoted(table)), [])?;
        Ok(())
    })
}

/// Adds the rows of these tables that are missing.
///
/// # Errors
/// Of SQLite; then nothing was added.
pub(super) fn add_missing(copy: &Connection, target: &Connection, tables: &[String]) -> Result<()> {
    let transaction = target.unchecked_transaction()?;
    target.execute_batch("PRAGMA defer_foreign_keys=ON")?;
    for table in tables {
        let columns = columns(copy, table)?;
        if columns == self::columns(target, table)? {
            merge_table(copy, target, table, &columns, &mut Merged::default())?;
        }
    }
    Ok(transaction.commit()?)
}

/// The ordinary tables that hold somebody's rows.
fn tables(connection: &Connection) -> Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT IN (?1, ?2, ?3) ORDER BY name",
    )?;
    let names = statement.query_map(OWN_TABLES, |row| row.get(0))?;
    Ok(names.collect::<rusqlite::Result<_>>()?)
}

#[derive(PartialEq, Eq)]
struct Column {
    name: String,
    in_key: bool,
}

/// The columns that can be written.
fn columns(connection: &Connection, table: &str) -> Result<Vec<Column>> {
    let mut statement = connection
        .prepare("SELECT name, pk > 0 FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid")?;
    let columns =
        statement.query_map([table], |row| Ok(Column { name: row.get(0)?, in_key: row.get(1)? }))?;
    Ok(columns.collect::<rusqlite::Result<_>>()?)
}

fn has_key(connection: &Connection, table: &str, columns: &[Column]) -> Result<bool> {
    let unique = "SELECT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE \"unique\")";
    Ok(columns.iter().any(|column| column.in_key)
        || connection.query_row(unique, [table], |row| row.get::<_, bool>(0))?)
}

fn merge_table(
    copy: &Connection,
    target: &Connection,
    table: &str,
    columns: &[Column],
    merged: &mut Merged,
) -> Result<()> {
    let names: Vec<_> = columns.iter().map(|column| quoted(&column.name)).collect();
    let (list, table_name) = (names.join(", "), quoted(table));
    let marks: Vec<_> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
    let same = names.iter().zip(&marks).fold(String::new(), |mut same, (name, mark)| {
        let and = if same.is_empty() { "" } else { " AND " };
        // Writing to a String never fails.
        let _ = write!(same, "{and}{name} IS {mark}");
        same
    });
    let is_there = format!("SELECT EXISTS (SELECT 1 FROM {table_name} WHERE {same})");
    let insert = format!("INSERT OR IGNORE INTO {table_name} ({list}) VALUES ({})", marks.join(", "));
    let keyed = has_key(target, table, columns)?;
    let (mut is_there, mut insert) = (target.prepare(&is_there)?, target.prepare(&insert)?);
    let mut rows = copy.prepare(&format!("SELECT {list} FROM {table_name}"))?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let values = (0..columns.len()).map(|at| row.get_ref(at)).collect::<rusqlite::Result<Vec<_>>>()?;
        let mut same_row = || {
            is_there.query_row(params_from_iter(values.iter().copied().map(ToSqlRef)), |row| {
                row.get::<_, bool>(0)
            })
        };
        if !keyed && same_row()? {
            continue;
        }
        if insert.execute(params_from_iter(values.iter().copied().map(ToSqlRef)))? > 0 {
            merged.added += 1;
        } else if !same_row()? {
            merged.other += 1;
        }
    }
    Ok(())
}

/// A value on its way from one connection to the other.
struct ToSqlRef<'a>(rusqlite::types::ValueRef<'a>);

impl rusqlite::ToSql for ToSqlRef<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(rusqlite::types::ToSqlOutput::Borrowed(self.0))
    }
}

pub(in crate::sqlite) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(sql: &str) -> Connection {
        let connection = Connection::open_in_memory().expect("an in-memory database");
        connection.execute_batch(sql).expect("the test's schema");
        connection
    }

    fn count(connection: &Connection, sql: &str) -> i64 {
        connection.query_row(sql, [], |row| row.get(0)).expect("a count")
    }

    #[test]
    fn what_is_missing_is_added_and_what_is_there_stays() {
        let schema = "CREATE TABLE k(id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE bag(v BLOB);
                      CREATE TABLE child(id TEXT PRIMARY KEY, k INTEGER NOT NULL REFERENCES k(id)) WITHOUT ROWID;
                      CREATE TABLE made(a INTEGER UNIQUE, b INTEGER GENERATED ALWAYS AS (a * 2) STORED);";
        let copy = database(schema);
        copy.execute_batch(
            "INSERT INTO k VALUES (1, 'same'), (2, 'old'), (3, 'only here');
             INSERT INTO bag VALUES (x'00ff'), ('twice'); INSERT INTO child VALUES ('c', 3);
             INSERT INTO made(a) VALUES (7)",
        )
        .expect("rows");
        let target = database(schema);
        target
            .execute_batch("INSERT INTO k VALUES (1, 'same'), (2, 'new'), (4, 'theirs'); INSERT INTO bag VALUES ('twice')")
            .expect("rows");
        target.execute_batch("PRAGMA foreign_keys=ON; BEGIN").expect("begun");
        assert_eq!(merge_all(&copy, &target, &[]).expect("merged"), Merged { added: 4, other: 1 });
        target.execute_batch("COMMIT").expect("the child has its parent");
        assert_eq!(
            count(&target, "SELECT count(*) FROM k WHERE v IN ('same', 'new', 'theirs', 'only here')"),
            4
        );
        assert_eq!(count(&target, "SELECT count(*) FROM bag"), 2);
        assert_eq!(count(&target, "SELECT b FROM made"), 14);
        target.execute_batch("BEGIN").expect("begun");
        assert_eq!(merge_all(&copy, &target, &[]).expect("again"), Merged { added: 0, other: 1 });
    }

    #[test]
    fn tables_of_another_shape_are_left_alone() {
        let copy = database(
            "CREATE TABLE a(x); CREATE TABLE b(x); INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)",
        );
        let target = database("CREATE TABLE a(x, y)");
        assert_eq!(merge_all(&copy, &target, &[]).expect("merged"), Merged::default());
    }

    #[test]
    fn totals_are_counted_anew() {
        let schema = "CREATE TABLE r(id INTEGER PRIMARY KEY, k TEXT, n INTEGER);
                      CREATE TABLE total(k TEXT PRIMARY KEY, n INTEGER)";
        let (copy, target) = (database(schema), database(schema));
        copy.execute_batch(
            "INSERT INTO r VALUES (1, 'a', 1), (2, 'a', 2), (3, 'b', 3);
             INSERT INTO total VALUES ('a', 3), ('b', 3), ('gone', 9)",
        )
        .expect("rows");
        target
            .execute_batch("INSERT INTO r VALUES (1, 'b', 10); INSERT INTO total VALUES ('b', 10)")
            .expect("rows");
        let fill = "INSERT INTO total SELECT k, sum(n) FROM r GROUP BY k";
        let merged = merge_all(&copy, &target, &[("total", fill)]).expect("merged");
        assert_eq!(merged, Merged { added: 2, other: 1 });
        assert_eq!(count(&target, "SELECT count(*) FROM total"), 2);
        assert_eq!(count(&target, "SELECT n FROM total WHERE k = 'a'"), 2);
        assert_eq!(count(&target, "SELECT n FROM total WHERE k = 'b'"), 13);
    }
}
