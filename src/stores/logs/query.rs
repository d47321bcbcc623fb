//! Which rows to read: filters, order, page size, and where to go on.

use super::model::LogLevel;
use crate::stores::threads::Direction;

/// A list of log rows, to be asked for page by page. Default: all rows, newest first, 100 a page.
///
/// Every filter narrows the list; of one that is set twice the last one counts.
///
/// ```
/// use rowhouse::stores::{LogLevel, LogQuery};
/// let query = LogQuery::recent()
///     .level(LogLevel::Warn)
///     .target("ledger::sync")
///     .text("connection refused")
///     .limit(20);
/// let next = query.clone().cursor("from the page before");
/// assert_ne!(query, next);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    pub(super) direction: Direction,
    pub(super) level: LogLevel,
    pub(super) since: Option<i64>,
    pub(super) until: Option<i64>,
    pub(super) targets: Option<Vec<String>>,
    pub(super) module: Option<String>,
    pub(super) file: Option<String>,
    pub(super) threads: OfThreads,
    pub(super) process: Option<String>,
    pub(super) text: Option<String>,
    pub(super) limit: u32,
    pub(super) cursor: Option<String>,
}

/// Rows of which threads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum OfThreads {
    Any,
    /// Rows that speak of no thread.
    None,
    These(Vec<String>),
}

impl Default for LogQuery {
    fn default() -> Self {
        Self::recent()
    }
}

impl LogQuery {
    /// All rows, newest first.
    pub fn recent() -> Self {
        Self {
            direction: Direction::Descending,
            level: LogLevel::Trace,
            since: None,
            until: None,
            targets: None,
            module: None,
            file: None,
            threads: OfThreads::Any,
            process: None,
            text: None,
            limit: 100,
            cursor: None,
        }
    }

    /// Starts at this end: the order is that in which rows were written. Default [`Direction::Descending`].
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// Only rows of at least this level.
    #[must_use]
    pub fn level(mut self, least: LogLevel) -> Self {
        self.level = least;
        self
    }

    /// Only rows of this moment or later, in Unix nanoseconds. Rows that were written more than
    /// [`SLACK`](super::SLACK) out of their order may be missing.
    #[must_use]
    pub fn since(mut self, unix_ns: i64) -> Self {
        self.since = Some(unix_ns);
        self
    }

    /// Only rows from before this moment, in Unix nanoseconds; else as [`since`](Self::since).
    #[must_use]
    pub fn until(mut self, unix_ns: i64) -> Self {
        self.until = Some(unix_ns);
        self
    }

    /// Only rows whose target begins so.
    #[must_use]
    pub fn target(self, prefix: impl Into<String>) -> Self {
        self.targets([prefix])
    }

    /// Only rows whose target begins with one of these; an empty list matches nothing.
    #[must_use]
    pub fn targets<P: Into<String>>(mut self, prefixes: impl IntoIterator<Item = P>) -> Self {
        self.targets = Some(prefixes.into_iter().map(Into::into).collect());
        self
    }

    /// Only rows whose module begins so.
    #[must_use]
    pub fn module(mut self, prefix: impl Into<String>) -> Self {
        self.module = Some(prefix.into());
        self
    }

    /// Only rows whose source file ends so: `sync.rs` and `ledger/src/sync.rs` both find the second.
    #[must_use]
    pub fn file(mut self, ending: impl Into<String>) -> Self {
        self.file = Some(ending.into());
        self
    }

    /// Only rows of this thread. They are found by an index.
    #[must_use]
    pub fn thread(self, id: impl Into<String>) -> Self {
        self.threads([id])
    }

    /// Only rows of these threads; an empty list matches nothing. Up to [`THREADS_BY_INDEX`](super::THREADS_BY_INDEX) are
    /// found by an index, more by looking at every row.
    #[must_use]
    pub fn threads<I: Into<String>>(mut self, ids: impl IntoIterator<Item = I>) -> Self {
        self.threads = OfThreads::These(ids.into_iter().map(Into::into).collect());
        self
    }

    /// Only rows that speak of no thread.
    #[must_use]
    pub fn threadless(mut self) -> Self {
        self.threads = OfThreads::None;
        self
    }

    /// Only rows of this run of a process.
    #[must_use]
    pub fn process(mut self, process_id: impl Into<String>) -> Self {
        self.process = Some(process_id.into());
        self
    }

    /// Only rows that hold this text in their message or their fields. Letters of any language match in either case:
    /// both sides are compared in lower case, as Unicode has it. Nothing in it has a special meaning. Fields are looked
    /// through as the JSON that they are, so a name and a value are found, one beside the other are not.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Rows per page, 1 to 1,000; checked when it is asked for. Default 100.
    #[must_use]
    pub fn limit(mut self, rows: u32) -> Self {
        self.limit = rows;
        self
    }

    /// Goes on where a page of the same query ended. The time range and the page size may be others: `since` an hour
    /// ago is another moment for the second page.
    #[must_use]
    pub fn cursor(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }
}
