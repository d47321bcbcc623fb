//! Reading rows: page by page, one after the other, and what there is in all.

use std::collections::VecDeque;

use super::Logs;
use super::cursor::Cursor;
use super::filter::{Filter, LARGEST_PAGE};
use super::ids::{self, Ids, first};
use super::model::LogRow;
use super::query::LogQuery;
use super::scan::{ROW_BUDGET, scan};
use super::{sql, time_range};
use crate::error::{Error, ErrorKind, Result};
use crate::home::with_ending;
use crate::sql::Session;
use crate::stores::threads::Direction;

/// The most rows of [`Logs::tail`], and that following begins with: they are in memory all at once.
pub const LONGEST_TAIL: u32 = 10_000;

/// One page of a log query.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LogPage {
    /// The rows, in the order asked for. Fewer than the limit, even none, when the page looked at as much as a page may
    /// ([`ROW_BUDGET`], [`BYTE_BUDGET`](super::BYTE_BUDGET)).
    pub rows: Vec<LogRow>,
    /// Where the next page of the same query starts; `None` at the end.
    pub next_cursor: Option<String>,
    /// How many rows were looked at.
    pub scanned: u64,
}

/// What there is in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogTotals {
    /// Rows from the oldest to the newest id: rows deleted in between, as with their thread, count too.
    pub rows: u64,
    /// Bytes of its files on the disk; 0 where nothing is kept.
    pub bytes: u64,
    /// When the row written first happened, in Unix nanoseconds.
    pub oldest: Option<i64>,
    /// The same of the row written last.
    pub newest: Option<i64>,
    /// The levels of the newest rows.
    pub recent: LevelCounts,
}

/// How many rows of each level are among the newest ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs, reason = "named like the levels")]
pub struct LevelCounts {
    /// Rows that were counted: those of the newest [`ROW_BUDGET`] ids.
    pub counted: u64,
    pub trace: u64,
    pub debug: u64,
    pub info: u64,
    pub warn: u64,
    pub error: u64,
}

impl Logs {
    /// One page of rows.
    ///
    /// It looks at a bounded number of rows whatever the filters, and answers what it found with a cursor for the rest.
    /// Paging neither skips nor repeats a row that is there throughout, whatever is written or deleted meanwhile.
    ///
    /// ```
    /// # fn main() -> rowhouse::Result<()> {
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// use rowhouse::stores::{LogLevel, LogQuery};
    /// use rowhouse::{Home, Runtime};
    /// let runtime = Runtime::open(Home::at(folder.path().join("home")))?;
    /// let page = runtime.logs().query(&LogQuery::recent().level(LogLevel::Warn).limit(20))?;
    /// for row in &page.rows {
    ///     println!("{row}");
    /// }
    /// let wrong = runtime.logs().query(&LogQuery::recent().cursor("not a cursor"));
    /// assert_eq!(wrong.expect_err("refused").kind(), rowhouse::ErrorKind::Invalid);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Invalid` for a limit outside 1 to 1,000; a thread's id that is no UUID; a text to filter by that holds a NUL or is
    /// longer than [`LONGEST_FILTER`](super::LONGEST_FILTER); a cursor that is none, or belongs to another query. `Conflict` for
    /// a cursor of a log that was begun anew since. The engine's.
    pub fn query(&self, query: &LogQuery) -> Result<LogPage> {
        let filter = Filter::of(query)?;
        let cursor = query.cursor.as_deref().map(|text| Cursor::parse_for(&filter, text)).transpose()?;
        let (found, generation) = self.database.get()?.read(|at| {
            let generation = ids::generation(at)?;
            let mut ahead = range(at, &filter)?;
            if let Some(cursor) = cursor {
                same_log(cursor.generation, generation)?;
                ahead = ahead.behind(filter.direction, cursor.id);
            }
            Ok((scan(at, &filter, ahead, query.limit as usize)?, generation))
        })?;
        let next = found.ahead.map(|ahead| {
            let last = match filter.direction {
                Direction::Ascending => ahead.low.saturating_sub(1),
                Direction::Descending => ahead.high.saturating_add(1),
            };
            Cursor::after(&filter, generation, last).to_string()
        });
        Ok(LogPage { rows: found.rows, next_cursor: next, scanned: found.scanned })
    }

    /// The newest `rows` rows of a query, oldest first, however far back they are; its direction, limit and cursor do not
    /// count.
    ///
    /// # Errors
    /// `Invalid` for more than [`LONGEST_TAIL`]; else as [`rows`](Self::rows).
    pub fn tail(&self, query: &LogQuery, rows: u32) -> Result<Vec<LogRow>> {
        if rows > LONGEST_TAIL {
            return Err(Error::new(ErrorKind::Invalid, "a tail has at most 10,000 rows")
                .advise("export more of them than that"));
        }
        let newest = query.clone().direction(Direction::Descending);
        let mut rows = self.rows(&newest)?.take(rows as usize).collect::<Result<Vec<_>>>()?;
        rows.reverse();
        Ok(rows)
    }

    /// All rows of a query that are there now, one after the other: its limit and its cursor do not count.
    ///
    /// Rows are read page by page, each from a snapshot of its own, so that reading slowly keeps neither memory nor the
    /// write-ahead log; a row that is deleted before its page is read is not answered. Rows written later are not, either.
    ///
    /// # Errors
    /// `Invalid` as [`query`](Self::query). What the engine answers for a page ends the list, and so does a log that was begun
    /// anew meanwhile, with `Conflict`.
    pub fn rows(&self, query: &LogQuery) -> Result<LogRows> {
        let filter = Filter::of(&query.clone().limit(LARGEST_PAGE))?;
        Ok(LogRows { logs: self.clone(), filter, ahead: None, buffer: VecDeque::new(), ended: false })
    }

    /// What there is in the log, by looking at its ends: nothing is counted but the levels of the newest rows.
    ///
    /// # Errors
    /// The engine's.
    pub fn stats(&self) -> Result<LogTotals> {
        let database = self.database.get()?;
        let mut stats = database.read(|at| {
            let oldest = first(at, Direction::Ascending, Ids::ALL)?;
            let newest = first(at, Direction::Descending, Ids::ALL)?;
            let Some((oldest, newest)) = oldest.zip(newest) else { return Ok(LogTotals::default()) };
            let recent = newest.id.saturating_sub(ROW_BUDGET as i64 - 1);
            Ok(LogTotals {
                rows: newest.id.abs_diff(oldest.id).saturating_add(1),
                bytes: 0,
                oldest: Some(oldest.ts),
                newest: Some(newest.ts),
                recent: levels(at, recent)?,
            })
        })?;
        let size =
            |ending| std::fs::metadata(with_ending(database.path(), ending)).map_or(0, |file| file.len());
        stats.bytes = ["", "-wal", "-shm"].into_iter().map(size).sum();
        Ok(stats)
    }
}

/// Rows of a query, read as they are asked for: see [`Logs::rows`].
pub struct LogRows {
    logs: Logs,
    filter: Filter,
    /// The log it began with, and what is still to be read of it.
    ahead: Option<(i64, Ids)>,
    buffer: VecDeque<LogRow>,
    ended: bool,
}

impl LogRows {
    /// Those of these ids.
    pub(super) fn of(logs: Logs, filter: Filter, generation: i64, ids: Ids) -> Self {
        Self { logs, filter, ahead: Some((generation, ids)), buffer: VecDeque::new(), ended: false }
    }

    /// Reads the next page that has rows. `false` when there is none.
    fn fill(&mut self) -> Result<bool> {
        while self.buffer.is_empty() && !self.ended {
            let (filter, before) = (&self.filter, self.ahead);
            let (found, generation) = self.logs.database.get()?.read(|at| {
                let generation = ids::generation(at)?;
                let ahead = match before {
                    None => range(at, filter)?,
                    Some((then, ahead)) => {
                        same_log(then, generation)?;
                        ahead
                    }
                };
                Ok((scan(at, filter, ahead, LARGEST_PAGE as usize)?, generation))
            })?;
            self.buffer.extend(found.rows);
            self.ended = found.ahead.is_none();
            self.ahead = found.ahead.map(|ahead| (generation, ahead));
        }
        Ok(!self.buffer.is_empty())
    }
}

impl Iterator for LogRows {
    type Item = Result<LogRow>;

    fn next(&mut self) -> Option<Result<LogRow>> {
        match self.fill() {
            Ok(_) => self.buffer.pop_front().map(Ok),
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}

/// The ids that a query has to look at, of those there are.
pub(super) fn range(at: &impl Session, filter: &Filter) -> Result<Ids> {
    if filter.is_empty() {
        return Ok(Ids::NONE);
    }
    time_range::within(at, filter, ids::all(at)?)
}

fn same_log(then: i64, now: i64) -> Result<()> {
    if then == now {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Conflict, "the log was begun anew since this list was begun")
        .advise("start again without a cursor"))
}

fn levels(at: &impl Session, since: i64) -> Result<LevelCounts> {
    let rows = at.query(sql::LEVELS, &[since.into()])?;
    let Some(row) = rows.first() else { return Ok(LevelCounts::default()) };
    let of = |name| row.get::<i64>(name).map(i64::unsigned_abs);
    Ok(LevelCounts {
        counted: of("counted")?,
        trace: of("trace")?,
        debug: of("debug")?,
        info: of("info")?,
        warn: of("warn")?,
        error: of("error")?,
    })
}
