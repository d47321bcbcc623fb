//! Rows of whole tables, out of a side and into the other, a row at a time.

use std::collections::BTreeMap;

use rusqlite::{Connection, params_from_iter};
use tokio_postgres::types::{ToSql, Type};

use super::cell::{self, Cell, Unholdable};
use super::table::{self, Line, Table};
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::bulk::{Bulk, Received};

/// Rows of a commit in a new file.
const ROWS_OF_A_COMMIT: u64 = 20_000;

/// Is given each row, with what the other side cannot hold of it: the number of the column, and why.
pub(super) type Each<'e> = dyn FnMut(&[Cell<'_>], &[(usize, Unholdable)]) -> Result<()> + 'e;
/// Takes one row.
pub(super) type Put<'p> = dyn FnMut(&[Cell<'_>]) -> Result<()> + 'p;

/// One of the two.
pub(super) trait Side {
    /// The tables of a domain.
    fn tables(&mut self, domain: &Domain) -> Result<Vec<Table>>;
    /// Reads a table.
    fn read(&mut self, domain: &str, table: &Table, each: &mut Each<'_>) -> Result<()>;
    /// Fills a table: `rows` gives each row to what it is given. What is in the table goes.
    fn fill(
        &mut self,
        domain: &str,
        table: &Table,
        rows: &mut dyn FnMut(&mut Put<'_>) -> Result<()>,
    ) -> Result<()>;
    /// After the last table: what the engine keeps of them beside the rows.
    fn settle(&mut self, domain: &str, tables: &[Table]) -> Result<()>;
}

/// Databases in files, by domain: those that are there, or new ones.
pub(super) struct Files<'f>(pub(super) BTreeMap<String, &'f Connection>);

impl Files<'_> {
    fn of(&self, domain: &str) -> Result<&Connection> {
        self.0.get(domain).copied().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the domain {domain} is not among those that are moved"))
        })
    }
}

impl Side for Files<'_> {
    fn tables(&mut self, domain: &Domain) -> Result<Vec<Table>> {
        table::of_file(self.of(domain.name())?, domain)
    }

    fn read(&mut self, domain: &str, table: &Table, each: &mut Each<'_>) -> Result<()> {
        let text = format!("SELECT {} FROM {}", table.column_list(), table.quoted());
        let mut statement = self.of(domain)?.prepare(&text)?;
        let mut rows = statement.query([])?;
        let mut odd = Vec::new();
        while let Some(row) = rows.next()? {
            odd.clear();
            let mut cells = Vec::with_capacity(table.columns.len());
            for (at, column) in table.columns.iter().enumerate() {
                let (cell, why) = cell::of_file(row.get_ref(at)?, column.kind);
                odd.extend(why.map(|why| (at, why)));
                cells.push(cell);
            }
            each(&cells, &odd)?;
        }
        Ok(())
    }

    fn fill(
        &mut self,
        domain: &str,
        table: &Table,
        rows: &mut dyn FnMut(&mut Put<'_>) -> Result<()>,
    ) -> Result<()> {
        let connection = self.of(domain)?;
        let (name, columns) = (table.quoted(), table.column_list());
        let places: Vec<_> = (1..=table.columns.len()).map(|at| format!("?{at}")).collect();
        connection.execute_batch(&format!("BEGIN; DELETE FROM {name}"))?;
        let insert = format!("INSERT INTO {name} ({columns}) VALUES ({})", places.join(", "));
        let mut insert = connection.prepare(&insert)?;
        let mut count: u64 = 0;
        rows(&mut |cells| {
            insert.execute(params_from_iter(cells))?;
            count += 1;
            if count.is_multiple_of(ROWS_OF_A_COMMIT) {
                connection.execute_batch("COMMIT; BEGIN")?;
            }
            Ok(())
        })?;
        Ok(connection.execute_batch("COMMIT")?)
    }

    fn settle(&mut self, domain: &str, _: &[Table]) -> Result<()> {
        // Numbers of AUTOINCREMENT follow the rows by themselves.
        Ok(self.of(domain)?.execute_batch("ANALYZE")?)
    }
}

/// A server, in one transaction; each domain in a schema, by the name that it has there.
pub(super) struct OnServer<'b, 's> {
    pub(super) bulk: &'b mut Bulk<'s>,
    pub(super) schemas: BTreeMap<String, String>,
    /// Of a value in a file, in bytes.
    pub(super) longest: u32,
}

impl OnServer<'_, '_> {
    fn of(&self, domain: &str) -> Result<String> {
        self.schemas.get(domain).cloned().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the domain {domain} is not among those that are moved"))
        })
    }
}

fn types(table: &Table) -> Vec<Type> {
    table.columns.iter().map(|column| column.kind.of_server()).collect()
}

impl Side for OnServer<'_, '_> {
    fn tables(&mut self, domain: &Domain) -> Result<Vec<Table>> {
        let schema = self.of(domain.name())?;
        let text = format!(
            "SELECT c.relname, a.attname, t.typname, EXISTS (SELECT 1 FROM pg_index i \
               WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY(i.indkey))::int \
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid \
             WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind IN ('r', 'p') \
               AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''"
        );
        let line = |row: Vec<Option<String>>| {
            let [table, column, kind, in_key] = row.try_into().ok()?;
            Some(Line { table: table?, column: column?, kind: kind?, in_key: in_key.as_deref() == Some("1") })
        };
        table::of_server(self.bulk.rows(&text)?.into_iter().filter_map(line).collect(), domain)
    }

    fn read(&mut self, domain: &str, table: &Table, each: &mut Each<'_>) -> Result<()> {
        let (schema, longest) = (self.of(domain)?, self.longest);
        let (name, columns) = (table.quoted(), table.column_list());
        // One history after the other, each from its beginning: so it becomes a transcript.
        let order = if table.name == "thread_item" { " ORDER BY thread_id, seq" } else { "" };
        let text = format!("COPY (SELECT {columns} FROM {schema}.{name}{order}) TO STDOUT (FORMAT binary)");
        let mut odd = Vec::new();
        self.bulk.copy_out(&text, &types(table), &mut |row: &Received| {
            odd.clear();
            let mut cells = Vec::with_capacity(table.columns.len());
            for at in 0..table.columns.len() {
                let cell: Cell<'_> = row.try_get(at).map_err(|_| unreadable(table))?;
                odd.extend(cell.not_for_a_file(longest).map(|why| (at, why)));
                cells.push(cell);
            }
            each(&cells, &odd)
        })
    }

    fn fill(
        &mut self,
        domain: &str,
        table: &Table,
        rows: &mut dyn FnMut(&mut Put<'_>) -> Result<()>,
    ) -> Result<()> {
        let schema = self.of(domain)?;
        // Names in triggers mean those of this schema.
        self.bulk.look_in(&schema)?;
        self.bulk.batch(&format!("DELETE FROM {}", table.quoted()))?;
        let text = format!("COPY {} ({}) FROM STDIN (FORMAT binary)", table.quoted(), table.column_list());
        let filled = self.bulk.copy_in(&text, &types(table), &mut |send| {
            rows(&mut |cells| {
                let values: Vec<_> = cells.iter().map(|cell| cell as &(dyn ToSql + Sync)).collect();
                send(&values)
            })
        });
        filled.map_err(|error| {
            let message = format!("{domain}.{}: {}", table.name, error.message());
            error.worded(message)
        })
    }

    fn settle(&mut self, domain: &str, tables: &[Table]) -> Result<()> {
        self.bulk.look_in(&self.of(domain)?)?;
        for table in tables {
            let name = table.quoted();
            for column in &table.columns {
                // Of a column that the server counts itself: it goes on behind the last one.
                let sequence = format!(
                    "pg_get_serial_sequence('{}', '{}')",
                    name.replace('\'', "''"),
                    column.name.replace('\'', "''")
                );
                if self.bulk.says(&format!("{sequence} IS NOT NULL"))? {
                    let column = format!("\"{}\"", column.name.replace('"', "\"\""));
                    self.bulk.rows(&format!(
                        "SELECT setval({sequence}, max({column})) FROM {name} HAVING count(*) > 0"
                    ))?;
                }
            }
            self.bulk.batch(&format!("ANALYZE {name}"))?;
        }
        Ok(())
    }
}

fn unreadable(table: &Table) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the server sent a value of {} that cannot be read", table.name))
}
