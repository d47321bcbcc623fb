//! Salvaged rows into a new database.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, ffi as code, params_from_iter,
};

use super::report::Report;
use super::schema::{Known, SEQUENCE, full_text_indexes, quoted};
use super::{Row, salvage};
use crate::error::{Error, Result};

/// Fills a new database with the rows of a damaged one, in one transaction.
///
/// `target` has the schema already, and its connection the functions and collations that the schema needs; `skip` names
/// tables that are left as they are, such as the history of migrations. A row that the schema refuses, whose key is
/// taken, or whose parent by a foreign key was lost, is left out and counted. Columns that the target lacks are left
/// out; columns that the damaged file lacks take their defaults. Triggers run. Every FTS5 index is made anew, from the texts
/// that it keeps itself or from the table that has them; one that has no texts stays empty, as other virtual tables do.
/// AUTOINCREMENT goes on behind the highest id that either file ever gave.
///
/// # Errors
/// As [`salvage`]; of SQLite when the target cannot take rows at all (full, locked, in defensive mode with an FTS5 table that
/// keeps its texts). Then it is as it was.
pub fn fill(
    source: &Path,
    wal: Option<&Path>,
    known: &Known,
    target: &Connection,
    skip: &[&str],
) -> Result<Report> {
    let transaction = Transaction::new_unchecked(target, TransactionBehavior::Immediate)?;
    target.execute_batch("PRAGMA defer_foreign_keys=ON")?;
    let shape = Known::of(target)?;
    let mut refused: HashMap<String, u64> = HashMap::new();
    let mut inserts: HashMap<String, Option<Insert>> = HashMap::new();
    let mut report = salvage(source, wal, known, |row| {
        if skip.contains(&row.table) {
            return Ok(());
        }
        if row.table == SEQUENCE {
            return raise_sequence(target, row.values);
        }
        if !inserts.contains_key(row.table) {
            inserts.insert(row.table.into(), Insert::new(&shape, row));
        }
        let taken = match &inserts[row.table] {
            Some(insert) => insert.run(target, row)?,
            None => false,
        };
        if !taken {
            *refused.entry(row.table.into()).or_insert(0) += 1;
        }
        Ok(())
    })?;
    let mut orphans: HashMap<String, u64> = HashMap::new();
    while remove_childless(target, &shape, &mut orphans)? > 0 {}
    for table in &mut report.tables {
        let lost = refused.get(&table.name).unwrap_or(&0) + orphans.get(&table.name).unwrap_or(&0);
        table.refused_by_target = lost;
        table.kept = table.kept.saturating_sub(lost);
        table.lost_estimate += lost;
        if skip.contains(&&table.name[..]) {
            (table.kept, table.kept_from_strays) = (0, 0);
        }
    }
    let indexed = index_texts(target)?;
    report.virtual_tables.retain(|name| !indexed.contains(name));
    transaction.commit()?;
    Ok(report)
}

/// Makes all full-text indexes anew from their texts; answers the names of those that have any.
///
/// # Errors
/// Of SQLite.
pub(crate) fn index_texts(target: &Connection) -> Result<Vec<String>> {
    let mut indexed = Vec::new();
    for name in full_text_indexes(target)? {
        if make_anew(target, &name)? {
            indexed.push(name);
        }
    }
    Ok(indexed)
}

/// Makes a full-text index anew from its texts; false when it has none (<https://sqlite.org/fts5.html>, section 6.10).
fn make_anew(target: &Connection, name: &str) -> Result<bool> {
    let name = quoted(name);
    match target.execute(&format!("INSERT INTO {name}({name}) VALUES ('rebuild')"), []) {
        Ok(_) => Ok(true),
        // Without texts, or without the table that should have them, it says that it cannot.
        Err(error) if error.sqlite_error().is_some_and(|error| error.extended_code == code::SQLITE_ERROR) => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// How rows of a table go into the target.
struct Insert {
    sql: String,
    /// Which of a row's values go in.
    places: Vec<usize>,
    with_rowid: bool,
}

impl Insert {
    /// `None` when the target has no such table.
    fn new(shape: &Known, row: &Row<'_>) -> Option<Self> {
        let table = shape.table(row.table).filter(|table| table.sql.is_some())?;
        let places: Vec<usize> = (0..row.columns.len())
            .filter(|at| table.columns.iter().any(|name| name.eq_ignore_ascii_case(&row.columns[*at])))
            .collect();
        let rowid = row.rowid.and_then(|_| super::schema::hidden_rowid(table));
        let names: Vec<String> = rowid
            .map(String::from)
            .into_iter()
            .chain(places.iter().map(|at| quoted(&row.columns[*at])))
            .collect();
        let marks = vec!["?"; names.len()].join(", ");
        let sql =
            format!("INSERT OR IGNORE INTO {}({}) VALUES ({marks})", quoted(&table.name), names.join(", "));
        Some(Self { sql, places, with_rowid: rowid.is_some() })
    }

    /// Whether the target took the row.
    fn run(&self, target: &Connection, row: &Row<'_>) -> Result<bool> {
        let rowid = row.rowid.filter(|_| self.with_rowid).map(ValueRef::Integer);
        let values = rowid.into_iter().chain(self.places.iter().map(|at| row.values[*at]));
        match target.prepare_cached(&self.sql)?.execute(params_from_iter(values.map(ToSqlOutput::Borrowed))) {
            Ok(changed) => Ok(changed > 0),
            // A type that a STRICT table refuses is an error even so.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => Ok(false),
            Err(error) => Err(Error::from(error)),
        }
    }
}

/// An id that was given is never given again.
fn raise_sequence(target: &Connection, values: &[ValueRef<'_>]) -> Result<()> {
    let (Some(ValueRef::Text(_)), Some(ValueRef::Integer(_))) = (values.first(), values.get(1)) else {
        return Ok(());
    };
    let raised = target
        .prepare_cached("UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1")?
        .execute([ToSqlOutput::Borrowed(values[0]), ToSqlOutput::Borrowed(values[1])])?;
    let table = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    if raised == 0
        && target.query_row(table, [ToSqlOutput::Borrowed(values[0])], |_| Ok(())).optional()?.is_some()
    {
        target
            .prepare_cached("INSERT INTO sqlite_sequence(name, seq) VALUES (?1, ?2)")?
            .execute([ToSqlOutput::Borrowed(values[0]), ToSqlOutput::Borrowed(values[1])])?;
    }
    Ok(())
}

/// Its id in its table, the parent table, and the columns here and there; none there is the parent's primary key.
type ForeignKey = (i64, String, Vec<(String, Option<String>)>);

/// Removes rows whose parent is not there, of every table once. A parent that goes may have children: call it again.
fn remove_childless(target: &Connection, shape: &Known, removed: &mut HashMap<String, u64>) -> Result<u64> {
    let mut sum = 0;
    for table in shape.tables.iter().filter(|table| table.sql.is_some()) {
        let mut list = target.prepare_cached(
            "SELECT id, \"table\", \"from\", \"to\" FROM pragma_foreign_key_list(?1) ORDER BY id, seq",
        )?;
        let mut keys: Vec<ForeignKey> = Vec::new();
        let mut rows = list.query([&table.name])?;
        while let Some(row) = rows.next()? {
            let (id, pair) = (row.get(0)?, (row.get(2)?, row.get(3)?));
            match keys.last_mut().filter(|key| key.0 == id) {
                Some(key) => key.2.push(pair),
                None => keys.push((id, row.get(1)?, vec![pair])),
            }
        }
        for (_, parent, pairs) in keys {
            let own = primary_key(target, &parent)?;
            let mut set = Vec::new();
            let mut same = Vec::new();
            for (at, (from, to)) in pairs.iter().enumerate() {
                let Some(to) = to.as_ref().or_else(|| own.get(at)) else { continue };
                set.push(format!("child.{} IS NOT NULL", quoted(from)));
                same.push(format!("parent.{} = child.{}", quoted(to), quoted(from)));
            }
            let gone = target.execute(
                &format!(
                    "DELETE FROM {} AS child WHERE {} AND NOT EXISTS (SELECT 1 FROM {} AS parent WHERE {})",
                    quoted(&table.name),
                    set.join(" AND "),
                    quoted(&parent),
                    same.join(" AND ")
                ),
                [],
            )? as u64;
            *removed.entry(table.name.clone()).or_insert(0) += gone;
            sum += gone;
        }
    }
    Ok(sum)
}

fn primary_key(target: &Connection, table: &str) -> Result<Vec<String>> {
    let mut list =
        target.prepare_cached("SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk")?;
    let names = list.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(names)
}
