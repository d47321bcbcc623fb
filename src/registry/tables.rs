//! How large each table of a database is: every page is looked at, so it takes as long as reading the file.
//!
//! Invariants: nothing is written; the look ends at its deadline, whatever the size, and its snapshot with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::read_only::Source;

/// Every page, with what it belongs to (<https://sqlite.org/dbstat.html>).
const PAGES: &str =
    "SELECT coalesce(s.tbl_name, d.name), coalesce(s.type, 'table') = 'index', d.pgsize, d.unused
    FROM dbstat AS d LEFT JOIN sqlite_schema AS s ON s.name = d.name";

/// What a table takes of its file. Bytes are those of whole pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct TableSize {
    /// The table's name.
    pub table: String,
    /// The rows themselves.
    pub bytes: u64,
    /// All its indexes.
    pub index_bytes: u64,
    /// What of both holds nothing.
    pub unused_bytes: u64,
}

pub(super) fn sizes(path: &Path, deadline: Duration, busy_timeout: Duration) -> Result<Vec<TableSize>> {
    let until = crate::sqlite::instant_after(deadline);
    let (source, connection) = Source::reach(path, Some(until))?;
    connection.busy_timeout(busy_timeout)?;
    let looked = look(&connection, until);
    if source.was_whole() { looked } else { Err(source.changed()) }
}

fn look(connection: &Connection, until: Instant) -> Result<Vec<TableSize>> {
    let mut found: BTreeMap<String, TableSize> = BTreeMap::new();
    let mut statement = connection.prepare(PAGES)?;
    let mut pages = statement.query([])?;
    while let Some(page) = pages.next()? {
        if Instant::now() > until {
            return Err(Error::new(ErrorKind::Timeout, "there was no time to look at every page")
                .advise("allow more time"));
        }
        let name: String = page.get(0)?;
        let table = found.entry(name).or_default();
        let bytes = u64::from(page.get::<_, u32>(2)?);
        if page.get(1)? {
            table.index_bytes += bytes;
        } else {
            table.bytes += bytes;
        }
        table.unused_bytes += u64::from(page.get::<_, u32>(3)?);
    }
    let mut sizes: Vec<_> = found.into_iter().map(|(table, size)| TableSize { table, ..size }).collect();
    sizes.sort_by_key(|size| std::cmp::Reverse(size.bytes + size.index_bytes));
    Ok(sizes)
}
