//! What a salvage found, kept and lost.

use super::wal::WalReport;

/// What became of a damaged file. Counts only: no names but those of tables, no values.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Report {
    /// One entry for each table that the file or the program knows.
    pub tables: Vec<TableReport>,
    /// In bytes.
    pub page_size: u64,
    /// Pages of the file, or of the file with its log.
    pub pages: u64,
    /// Pages that the free list or the pointer map call free. What they hold was deleted, and is not read.
    pub free_pages: u64,
    /// Pages of trees that no table can be told for, or more than one. Their rows are lost.
    pub unassigned_pages: u64,
    /// Every table's declaration could be read from the file.
    pub schema_read: bool,
    /// What was used of the log, where one was given.
    pub wal: Option<WalReport>,
    /// Virtual tables, whose rows this does not read; those with triggers on ordinary tables fill themselves. The texts that
    /// an FTS5 table keeps itself are read, as the rows of its `_content` table. After [`fill`](super::fill): those that have
    /// none of their rows.
    pub virtual_tables: Vec<String>,
}

impl Report {
    /// Rows kept, of all tables.
    pub fn kept(&self) -> u64 {
        self.tables.iter().map(|table| table.kept).sum()
    }

    /// The entry of a table.
    pub fn table(&self, name: &str) -> Option<&TableReport> {
        self.tables.iter().find(|table| table.name == name)
    }
}

/// What became of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct TableReport {
    /// Its name.
    pub name: String,
    /// Rows that were read, and after [`fill`](super::fill) are in the new database.
    pub kept: u64,
    /// Of the rows kept, those on pages that no tree led to any more.
    pub kept_from_strays: u64,
    /// Rows of which something was seen, and that were refused: cut, out of order, of another shape.
    pub refused: u64,
    /// Rows that were there before under the same key, on a page that had the better claim.
    pub duplicates: u64,
    /// Rows that the new database refused: a constraint, a missing parent, no such table. Only of
    /// [`fill`](super::fill).
    pub refused_by_target: u64,
    /// Pages that the table's tree leads to and that cannot be read, or are another's.
    pub unreadable_pages: u64,
    /// How many rows are lost, as far as it can be told: those seen and not kept, and for each lost page as many as
    /// the other pages have.
    pub lost_estimate: u64,
}
