//! Rows of whole tables, out of a side and into the other, a row at a time.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params_from_iter};
use tokio_postgres::types::{ToSql, Type};

use super::cell::{self, Cell, Unholdable};
use super::indexes::Aside;
use super::sum::Sum;
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
    /// Reads a table for its sum alone, in any order; answers that of the rows that were summed up already, and are not given.
    fn look(&mut self, domain: &str, table: &Table, each: &mut Each<'_>) -> Result<Sum>;
}

/// Where the rows are.
pub(super) trait Source: Side {
    /// Reads a table, the items of one history after the other, each from its beginning.
    fn read(&mut self, domain: &str, table: &Table, each: &mut Each<'_>) -> Result<()>;
}

/// Where they go.
pub(super) trait Target: Side {
    /// Before the first table is filled.
    fn prepare(&mut self, domain: &str, tables: &[Table]) -> Result<()>;
    /// Fills a table: `rows` gives each row to what it is given. What is in the table goes.
    fn fill(
        &mut self,
        domain: &str,
        table: &Table,
        rows: &mut dyn FnMut(&mut Put<'_>) -> Result<()>,
    ) -> Result<()>;
    /// After the last one: what the engine keeps of them beside the rows.
    fn settle(&mut self, domain: &str, tables: &[Table]) -> Result<()>;
}

/// Databases in files: those that are there, or new ones.
pub(super) struct Files<'f> {
    of: BTreeMap<String, &'f Connection>,
    aside: BTreeMap<String, Aside>,
}

impl<'f> Files<'f> {
    /// By domain.
    pub(super) fn new(of: BTreeMap<String, &'f Connection>) -> Self {
        Self { of, aside: BTreeMap::new() }
    }

    pub(super) fn get(&self, domain: &str) -> Option<&'f Connection> {
        self.of.get(domain).copied()
    }

    fn of(&self, domain: &str) -> Result<&'f Connection> {
        self.get(domain).ok_or_else(|| not_among(domain))
    }
}

fn not_among(domain: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("the domain {domain} is not among those that are moved"))
}

impl Side for Files<'_> {
    fn tables(&mut self, domain: &Domain) -> Result<Vec<Table>> {
        table::of_file(self.of(domain.name())?, domain)
    }

    fn look(&mut self, domain: &str, table: &Table, each: &mut Each<'_>) -> Result<Sum> {
        self.read(domain, table, each).map(|()| Sum::default())
    }
}

impl Source for Files<'_> {
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
}

impl Target for Files<'_> {
    fn prepare(&mut self, domain: &str, _: &[Table]) -> Result<()> {
        let aside = Aside::in_file(self.of(domain)?, domain)?;
        self.aside.insert(domain.to_owned(), aside);
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
        let connection = self.of(domain)?;
        self.aside.remove(domain).unwrap_or_default().restore_in_file(connection, domain)?;
        // Numbers of AUTOINCREMENT follow the rows by themselves.
        Ok(connection.execute_batch("ANALYZE")?)
    }
}

/// A server, in one transaction; each domain in a schema, by the name that it has there.
pub(super) struct OnServer<'b, 's> {
    pub(super) bulk: &'b mut Bulk<'s>,
    schemas: BTreeMap<String, String>,
    /// Schemas that were made in this transaction.
    fresh: BTreeSet<String>,
    /// Of a value in a file, in bytes.
    longest: u32,
    aside: BTreeMap<String, Aside>,
}

impl<'b, 's> OnServer<'b, 's> {
    /// The schemas by domain, and how long a value in a file may be.
    pub(super) fn new(bulk: &'b mut Bulk<'s>, schemas: BTreeMap<String, String>, longest: u32) -> Self {
        Self { bulk, schemas, fresh: BTreeSet::new(), longest, aside: BTreeMap::new() }
    }

    /// Of these nobody else knows yet.
    pub(super) fn with_fresh(self, fresh: &BTreeSet<String>) -> Self {
        Self { fresh: fresh.clone(), ..self }
    }

    /// The schema of a domain.
    pub(super) fn of(&self, domain: &str) -> Result<String> {
        self.schemas.get(domain).cloned().ok_or_else(|| not_among(domain))
    }

    fn copy(&mut self, domain: &str, table: &Table, order: &str, each: &mut Each<'_>) -> Result<()> {
        let (schema, longest) = (self.of(domain)?, self.longest);
        let (name, columns) = (table.quoted(), table.column_list());
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

    fn look(&mut self, domain: &str, table: &Table, each: &mut Each<'_>) -> Result<Sum> {
        self.copy(domain, table, "", each).map(|()| Sum::default())
    }
}

impl Source for OnServer<'_, '_> {
    fn read(&mut self, domain: &str, table: &Table, each: &mut Each<'_>) -> Result<()> {
        let order = if table.name == "thread_item" { " ORDER BY thread_id, seq" } else { "" };
        self.copy(domain, table, order, each)
    }
}

impl Target for OnServer<'_, '_> {
    fn prepare(&mut self, domain: &str, _: &[Table]) -> Result<()> {
        let schema = self.of(domain)?;
        if self.fresh.contains(&schema) {
            let aside = Aside::on_server(self.bulk, domain, &schema)?;
            self.aside.insert(domain.to_owned(), aside);
        }
        Ok(())
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
        self.aside.remove(domain).unwrap_or_default().restore_on_server(self.bulk, domain)?;
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
                        "SELECT setval({sequence}, max({column})) FROM {name} HAVING max({column}) > 0"
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
