//! What to list: order, filters, page size, and where to go on.

use super::cursor::Scope;
use super::filter::{Filter, Fnv, filter_methods};
use super::row::ThreadRow;
use crate::error::{Error, ErrorKind, Result};

/// How many rows one page of a list looks at, at most, where no index has its filters. Default of
/// [`ThreadQuery::looks`].
pub const LOOKS: u32 = 20_000;

const LARGEST_PAGE: u32 = 500;

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

    pub(super) fn column(self) -> &'static str {
        match self {
            Self::Created => "created_at",
            Self::Updated => "updated_at",
            Self::Recency => "recency_at",
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

/// A list of threads, to be asked for page by page: those for which all filters hold. Default: all live threads, by
/// recency, newest first, 50 a page.
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
    pub(super) filter: Filter,
    limit: u32,
    budget: u32,
    cursor: Option<String>,
}

impl Default for ThreadQuery {
    fn default() -> Self {
        Self::recent()
    }
}

impl ThreadQuery {
    filter_methods!();

    /// Live threads, the most recently used first.
    pub fn recent() -> Self {
        Self {
            sort: Sort::Recency,
            direction: Direction::Descending,
            filter: Filter::default(),
            limit: 50,
            budget: LOOKS,
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

    /// Threads per page, 1 to 500; checked when listing. Default 50.
    #[must_use]
    pub fn limit(mut self, threads: u32) -> Self {
        self.limit = threads;
        self
    }

    /// How many rows one page may look at when no index has the filters, at least 1: sources, model providers, more than
    /// 64 working directories, or both of these and several directories. A page that has looked at so many answers what
    /// it found, which may be nothing, with a cursor that goes on. Default [`LOOKS`].
    #[must_use]
    pub fn looks(mut self, rows: u32) -> Self {
        self.budget = rows.max(1);
        self
    }

    /// Goes on where a page of the same query ended, or (in the opposite direction) began.
    #[must_use]
    pub fn cursor(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        check_page_size(self.limit)?;
        self.filter.check()
    }

    pub(super) fn page_size(&self) -> usize {
        self.limit as usize
    }

    pub(super) fn budget(&self) -> i64 {
        i64::from(self.budget)
    }

    pub(crate) fn cursor_text(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// What a cursor of this query is good for.
    pub(super) fn scope(&self) -> Scope {
        let mut hash = Fnv::default();
        self.filter.hash_into(&mut hash);
        Scope { sort: self.sort, direction: self.direction, filters: hash.finish() }
    }
}

/// # Errors
/// `Invalid`.
pub(super) fn check_page_size(limit: u32) -> Result<()> {
    if (1..=LARGEST_PAGE).contains(&limit) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, "a page holds 1 to 500 threads")
        .advise("ask for less and go on with the next cursor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_and_repetition_of_folders_do_not_make_another_query() {
        let one = ThreadQuery::recent().cwds(["/b", "/a", "/b/"]);
        assert_eq!(one, ThreadQuery::recent().cwds(["/a", "/b"]));
        assert_eq!(one.scope(), ThreadQuery::recent().cwds(["/a", "/b"]).scope());
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
            ThreadQuery::recent().sources(none),
            ThreadQuery::recent().sources(["/a"]),
            ThreadQuery::recent().model_providers(none),
            ThreadQuery::recent().model_providers(["/a"]),
            ThreadQuery::recent().cwd("/a").sources(["/b"]),
            ThreadQuery::recent().children_of("/a"),
            ThreadQuery::recent().descendants_of("/a"),
        ];
        let hashes: std::collections::BTreeSet<_> = all.iter().map(|query| query.scope().filters).collect();
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
