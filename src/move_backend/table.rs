//! The tables that are moved, as the catalogue of either engine tells them: none is listed by hand.
//!
//! Left out are the engines' own tables, and those that a domain derives from the others (an index of texts), which the
//! target's triggers make again. All others must be on both sides, with the same columns: what one side has alone would be
//! lost.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use tokio_postgres::types::Type;

use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Integer,
    Real,
    Text,
    Blob,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Integer, Self::Real, Self::Text, Self::Blob];

    fn in_file(declared: &str) -> Option<Self> {
        match declared.to_ascii_uppercase().as_str() {
            "INTEGER" | "INT" => Some(Self::Integer),
            "REAL" => Some(Self::Real),
            "TEXT" => Some(Self::Text),
            "BLOB" => Some(Self::Blob),
            _ => None,
        }
    }

    fn on_server(named: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.of_server().name() == named)
    }

    pub(super) fn of_server(self) -> Type {
        match self {
            Self::Integer => Type::INT8,
            Self::Real => Type::FLOAT8,
            Self::Text => Type::TEXT,
            Self::Blob => Type::BYTEA,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// A table, its columns by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// Of the columns, those that tell its rows apart.
    pub(super) key: BTreeSet<String>,
}

impl Table {
    /// Its columns as SQL lists them.
    pub(super) fn column_list(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| quoted(&column.name)).collect();
        names.join(", ")
    }

    /// Its name in SQL.
    pub(super) fn quoted(&self) -> String {
        quoted(&self.name)
    }
}

/// A name that SQL takes for nothing but a name.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// One line of a catalogue.
pub(super) struct Line {
    pub(super) table: String,
    pub(super) column: String,
    /// As the engine calls it.
    pub(super) kind: String,
    pub(super) in_key: bool,
}

/// Whose tables are never moved.
fn is_own(table: &str) -> bool {
    ["rowhouse_", "refinery_", "sqlite_"].iter().any(|prefix| table.starts_with(prefix))
}

/// Virtual tables and those behind them are indexes; generated columns are made again.
const OF_FILE: &str = "
    SELECT list.name, column.name, column.type, column.pk > 0
    FROM pragma_table_list AS list JOIN pragma_table_xinfo(list.name) AS column
    WHERE list.schema = 'main' AND list.type = 'table' AND column.hidden = 0
    ORDER BY list.name, column.name";

/// The tables of a domain in a file.
///
/// # Errors
/// `Unsupported` for a column of a type that is on no server; of SQLite.
pub(super) fn of_file(connection: &Connection, domain: &Domain) -> Result<Vec<Table>> {
    let mut statement = connection.prepare(OF_FILE)?;
    let lines = statement.query_map([], |row| {
        Ok(Line { table: row.get(0)?, column: row.get(1)?, kind: row.get(2)?, in_key: row.get(3)? })
    })?;
    tables(lines.collect::<Result<Vec<_>, _>>()?, domain, Kind::in_file)
}

/// The tables of a domain on a server.
///
/// # Errors
/// `Unsupported` for a column of a type that a file does not have.
pub(super) fn of_server(lines: Vec<Line>, domain: &Domain) -> Result<Vec<Table>> {
    tables(lines, domain, Kind::on_server)
}

fn tables(lines: Vec<Line>, domain: &Domain, kind_of: fn(&str) -> Option<Kind>) -> Result<Vec<Table>> {
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    for line in lines {
        if is_own(&line.table) || domain.derived.contains(&&*line.table) {
            continue;
        }
        let kind = kind_of(&line.kind).ok_or_else(|| {
            let message =
                format!("column {} of {} is of a type that only one engine has", line.column, line.table);
            Error::new(ErrorKind::Unsupported, message)
        })?;
        let table = tables.entry(line.table.clone()).or_insert_with(|| Table {
            name: line.table,
            columns: Vec::new(),
            key: BTreeSet::new(),
        });
        if line.in_key {
            table.key.insert(line.column.clone());
        }
        table.columns.push(Column { name: line.column, kind });
    }
    let sorted = |mut table: Table| {
        table.columns.sort();
        table
    };
    Ok(tables.into_values().map(sorted).collect())
}

/// Refuses a move that would leave a table or a column behind.
///
/// # Errors
/// `Conflict`, naming the first difference.
pub(super) fn refuse_differences(source: &[Table], target: &[Table]) -> Result<()> {
    let names = |tables: &[Table]| tables.iter().map(|table| table.name.clone()).collect::<BTreeSet<_>>();
    let (here, there) = (names(source), names(target));
    if let Some(alone) = here.symmetric_difference(&there).next() {
        return Err(differs(format!("only one side has the table {alone}")));
    }
    for (one, other) in source.iter().zip(target) {
        if one.columns != other.columns {
            return Err(differs(format!("the table {} has other columns on the other side", one.name)));
        }
    }
    Ok(())
}

fn differs(message: String) -> Error {
    Error::new(ErrorKind::Conflict, message).advise(
        "somebody changed a schema by hand, or another release made it: bring both to what one release makes; nothing was changed",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::migrate::migrate;

    fn of(sql: &str) -> Result<Vec<Table>> {
        let connection = Connection::open_in_memory().expect("memory");
        connection.execute_batch(sql).expect(sql);
        of_file(&connection, &Domain::new("test"))
    }

    #[test]
    fn tables_are_found_in_the_catalogue_and_indexes_are_not_among_them() {
        let connection = Connection::open_in_memory().expect("memory");
        migrate(&connection, &Domain::state(), ("test", "1")).expect("a schema");
        let found = of_file(&connection, &Domain::state()).expect("tables");
        let names: Vec<_> = found.iter().map(|table| &*table.name).collect();
        assert!(names.contains(&"thread") && names.contains(&"turn") && names.contains(&"tombstone"));
        assert!(!names.iter().any(|name| name.contains("text") || name.contains("search")), "{names:?}");
        let turn = found.iter().find(|table| table.name == "turn").expect("turns");
        assert_eq!(turn.key, ["thread_id", "ordinal"].map(str::to_owned).into());
        assert!(turn.columns.is_sorted());
    }

    #[test]
    fn what_would_be_left_behind_is_refused() {
        let one = of("CREATE TABLE a(x INTEGER, y TEXT) STRICT").expect("tables");
        refuse_differences(&one, &of("CREATE TABLE a(y TEXT, x INTEGER) STRICT").expect("tables"))
            .expect("the order of columns does not count");
        for other in [
            "CREATE TABLE b(x INTEGER)",
            "CREATE TABLE a(x INTEGER)",
            "CREATE TABLE a(x TEXT, y TEXT)",
            "CREATE TABLE a(x INTEGER, y TEXT); CREATE TABLE more(x INTEGER)",
        ] {
            let error = refuse_differences(&one, &of(other).expect("tables")).expect_err(other);
            assert_eq!(error.kind(), ErrorKind::Conflict);
        }
        assert_eq!(of("CREATE TABLE a(x ANY) STRICT").expect_err("any").kind(), ErrorKind::Unsupported);
    }
}
