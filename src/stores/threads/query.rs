//! What to list: order, filters, page size, and where to go on.

use std::path::Path;

use super::row::{ThreadRow, directory_text};
use crate::error::{Error, ErrorKind, Result};

/// By which time a list is ordered; ties go by id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// When the thread began.
    Created,
    /// When anything was last added to it.
    Updated,
    /// When somebody last worked in it; only moves forward.
    #[default]
    Recency,
}

/// Which end of the order comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Oldest first.
    Ascending,
    /// Newest first.
    #[default]
    Descending,
}

impl Sort {
    pub(super) fn of(self, row: &ThreadRow) -> i64 {
        match self {
            Self::Created => row.created_at,
            Self::Updated => row.updated_at,
            Self::Recency => row.recency_at,
        }
    }
}

impl Direction {
    /// The other one.
    #[must_use]
    pub fn reversed(self) -> Self {
        match self {
            Self::Ascending => Self::Descending,
            Self::Descending => Self::Ascending,
        }
    }
}

/// A list of threads, to be asked for page by page. Default: live threads of every folder, by recency, newest first,
/// 50 a page.
///
/// ```
/// use rowhouse::{ThreadQuery, stores::{Direction, Sort}};
/// let query = ThreadQuery::recent()
///     .sort(Sort::Created)
///     .direction(Direction::Ascending)
///     .cwds(["/home/ada/ledger", "/home/ada/notes"])
///     .limit(20);
/// let next = query.clone().cursor("from the page before");
/// assert_ne!(query, next);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadQuery {
    pub(super) sort: Sort,
    pub(super) direction: Direction,
    pub(super) archived: bool,
    /// Sorted, each once; `None` matches all.
    cwds: Option<Vec<String>>,
    limit: u32,
    cursor: Option<String>,
}

impl Default for ThreadQuery {
    fn default() -> Self {
        Self::recent()
    }
}

impl ThreadQuery {
    const LARGEST_PAGE: u32 = 500;

    /// Live threads, the most recently used first.
    pub fn recent() -> Self {
        Self {
            sort: Sort::Recency,
            direction: Direction::Descending,
            archived: false,
            cwds: None,
            limit: 50,
            cursor: None,
        }
    }

    /// Orders by this time. Default [`Sort::Recency`].
    #[must_use]
    pub fn sort(mut self, sort: Sort) -> Self {
        self.sort = sort;
        self
    }

    /// Starts at this end. Default [`Direction::Descending`].
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// Only threads of this working directory.
    #[must_use]
    pub fn cwd(self, directory: impl AsRef<Path>) -> Self {
        self.cwds([directory])
    }

    /// Only threads of these working directories; an empty list matches nothing.
    #[must_use]
    pub fn cwds<D: AsRef<Path>>(mut self, directories: impl IntoIterator<Item = D>) -> Self {
        let mut cwds: Vec<_> = directories.into_iter().map(|one| directory_text(one.as_ref())).collect();
        cwds.sort_unstable();
        cwds.dedup();
        self.cwds = Some(cwds);
        self
    }

    /// Archived threads instead of live ones, or live ones again; never both. Default live.
    #[must_use]
    pub fn archived(mut self, archived: bool) -> Self {
        self.archived = archived;
        self
    }

    /// Threads per page, 1 to 500; checked when listing. Default 50.
    #[must_use]
    pub fn limit(mut self, threads: u32) -> Self {
        self.limit = threads;
        self
    }

    /// Goes on where a page of the same query ended, or (in the opposite direction) began.
    #[must_use]
    pub fn cursor(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        if (1..=Self::LARGEST_PAGE).contains(&self.limit) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Invalid, "a page holds 1 to 500 threads")
            .advise("ask for less and go on with the next cursor"))
    }

    pub(super) fn page_size(&self) -> u64 {
        u64::from(self.limit)
    }

    pub(super) fn folders(&self) -> Option<&[String]> {
        self.cwds.as_deref()
    }

    pub(super) fn cursor_text(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// A hash of the filters, the same in every process and version. FNV-1a, 64 bits.
    pub(super) fn filter_hash(&self) -> u64 {
        let mut hash = Fnv::default();
        hash.add(&[u8::from(self.archived), u8::from(self.cwds.is_some())]);
        for cwd in self.cwds.iter().flatten() {
            hash.add(&(cwd.len() as u64).to_le_bytes());
            hash.add(cwd.as_bytes());
        }
        hash.0
    }
}

struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_and_repetition_of_folders_do_not_make_another_query() {
        let one = ThreadQuery::recent().cwds(["/b", "/a", "/b/"]);
        assert_eq!(one, ThreadQuery::recent().cwds(["/a", "/b"]));
        assert_eq!(one.filter_hash(), ThreadQuery::recent().cwds(["/a", "/b"]).filter_hash());
    }

    #[test]
    fn each_filter_changes_the_hash() {
        let none: [&str; 0] = [];
        let all = [
            ThreadQuery::recent(),
            ThreadQuery::recent().archived(true),
            ThreadQuery::recent().cwds(none),
            ThreadQuery::recent().cwd("/a"),
            ThreadQuery::recent().cwds(["/a", "/b"]),
            ThreadQuery::recent().cwd("/a/b"),
        ];
        let hashes: std::collections::BTreeSet<_> = all.iter().map(ThreadQuery::filter_hash).collect();
        assert_eq!(hashes.len(), all.len());
    }

    #[test]
    fn a_page_size_out_of_range_is_refused() {
        for bad in [0, 501, u32::MAX] {
            assert_eq!(
                ThreadQuery::recent().limit(bad).check().expect_err("size").kind(),
                ErrorKind::Invalid
            );
        }
        for good in [1, 50, 500] {
            ThreadQuery::recent().limit(good).check().expect("size");
        }
    }
}
