//! Reads what can be had of a damaged SQLite file.
//!
//! The b-tree pages are read directly (<https://sqlite.org/fileformat.html>; section names of that page stand in
//! brackets in the comments here). SQLite never opens the damaged file: it would stop at the first page that makes no
//! sense, and may delete the log beside it.
//!
//! [`salvage`] hands out the rows, [`fill`] puts them into a new database. What the schema of the file still says is
//! used; what it does not say any more comes from the tables that the program knows ([`Known`]).
//!
//! # What is promised
//! - It ends, whatever the file holds: pages are visited once, lengths are checked and never allocated by.
//! - No row is invented and none is deleted that comes back: `space.rs` says what counts as deleted, `walk.rs` what
//!   a row must be, `strays.rs` which table it goes to.
//! - SQLite has no checksums over its pages. A byte that was changed *inside* a value, or the last overflow page of a
//!   value changed for another, shows in nothing but the value; such a row is kept as it reads now.
//!
//! Held by `tests/salvage_random_damage.rs`, `tests/salvage_wal.rs`, `tests/salvage_fills.rs`, and at their bytes in
//! the modules.
//!
//! # Before it is called
//! Nobody may have the files open: they lie in a quarantine, or are copies. (Closing a file that SQLite has open in the
//! same process would drop SQLite's locks on it.)
//!
//! ```
//! use rowhouse::rusqlite::Connection;
//! use rowhouse::salvage::{Known, salvage};
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("damaged.sqlite");
//! # #[allow(clippy::disallowed_methods)]
//! # let made = Connection::open(&path)?;
//! # made.execute_batch("CREATE TABLE page(url TEXT PRIMARY KEY, body TEXT); INSERT INTO page VALUES ('a', 'b')")?;
//! # drop(made);
//! let schema = Connection::open_in_memory()?;
//! schema.execute_batch("CREATE TABLE page(url TEXT PRIMARY KEY, body TEXT)")?;
//! let report = salvage(&path, None, &Known::of(&schema)?, |row| {
//!     println!("{} {:?}", row.table, row.columns);
//!     Ok(())
//! })?;
//! assert_eq!(report.kept(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod fill;
mod order;
mod page;
mod record;
mod report;
mod rows;
mod schema;
mod source;
mod space;
mod strays;
mod table;
mod wal;
mod walk;

use std::path::Path;

use rusqlite::types::ValueRef;

pub use fill::fill;
pub(crate) use fill::index_texts;
pub use report::{Report, TableReport};
pub use schema::Known;
pub use wal::WalReport;
pub(crate) use wal::{checksum as log_checksum, is_log_header};

use crate::error::{Error, ErrorKind, Result};
use schema::{Declared, SCHEMA};
use source::Source;
use space::Space;
use table::Tree;
use walk::{Seen, Walk};

/// A row that was read.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Row<'a> {
    /// The table it belongs to.
    pub table: &'a str,
    /// The table's columns, without generated ones.
    pub columns: &'a [String],
    /// Its rowid, where no column shows it.
    pub rowid: Option<i64>,
    /// A value for each column. Text is UTF-8.
    pub values: &'a [ValueRef<'a>],
}

/// Reads a damaged database, and its log if there is one, and gives each row that can be had to `sink`.
///
/// Rows come table by table in the order of their keys, then those of pages that no tree led to any more.
///
/// # Errors
/// `NotFound` or `Io` when a file cannot be opened; `Unsupported` when it holds UTF-16; those of `sink`, which end it. Damage is no
/// error: it is in the report.
pub fn salvage(
    source: &Path,
    wal: Option<&Path>,
    known: &Known,
    mut sink: impl FnMut(&Row<'_>) -> Result<()>,
) -> Result<Report> {
    let (file, wal) = Source::open(source, wal)?;
    let space = Space::read(&file);
    let pages = walk::scan(&file, &space);
    let (declared, schema_read) =
        declarations(&file, &space, pages.clone()).map_err(|e| e.at_path(source))?;
    let mut tables = vec![(schema::schema_table(), Some(1))];
    tables.extend(schema::resolve(known, &declared, schema_read)?);
    let internal = |name: &str| name == SCHEMA || known.is_shadow(name);
    let mut sink = |row: &Row<'_>| if internal(row.table) { Ok(()) } else { sink(row) };
    let mut walk = Walk::new(&file, &space, pages, tables, &mut sink)?;
    walk.trees()?;
    let unassigned_pages = walk.strays()?;
    let of_tables = walk.tracked.iter().filter(|t| t.table.tree != Tree::Index && !internal(&t.table.name));
    Ok(Report {
        tables: of_tables.map(walk::Tracked::report).collect(),
        page_size: file.page_size(),
        pages: file.pages.into(),
        free_pages: space.free_count.into(),
        unassigned_pages,
        schema_read,
        wal,
        virtual_tables: known.not_read(),
    })
}

/// What the file's own schema still says, and whether that is all of it.
fn declarations(file: &Source, space: &Space, pages: Vec<Seen>) -> Result<(Vec<Declared>, bool)> {
    let mut declared = Vec::new();
    let mut wide = false;
    let mut sink = |row: &Row<'_>| {
        wide |= matches!(row.values[0], ValueRef::Text([0, _, ..] | [_, 0, ..]));
        declared.extend(Declared::of(row.values));
        Ok(())
    };
    let tables = vec![(schema::schema_table(), Some(1))];
    let mut walk = Walk::new(file, space, pages, tables, &mut sink)?;
    walk.trees()?;
    let complete = !walk.tracked[0].incomplete() && walk.tracked[0].refused == 0;
    if !complete {
        walk.strays()?;
    }
    drop(walk);
    if wide {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "the file holds UTF-16, which this library never writes",
        )
        .advise("use the .recover command of the sqlite3 shell"));
    }
    Ok((declared, complete))
}
