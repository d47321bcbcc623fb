//! Rows as they are written, by any process.
//!
//! Invariants:
//! - A row that is written after the position is answered exactly once: ids are given under the write lock, so they
//!   become visible in their order, and are never used again.
//! - Between two looks it holds no snapshot, and waits for the next commit by SQLite's data version; the table is only
//!   read after one. It never writes.
//! - Ids of another file mean nothing here. When the file is another one (it was damaged, removed or rebuilt) the
//!   position is kept if the row at it is still the same one; else all rows of the new file are new.
//!
//! Tests: `tests/logs_follow.rs`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Logs;
use super::filter::{Filter, LARGEST_PAGE};
use super::ids::{self, Ids, Place, first};
use super::model::LogRow;
use super::query::LogQuery;
use super::read::{LONGEST_TAIL, LogRows, range};
use super::scan::scan;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::Session;
use crate::sqlite::{Database, instant_after};
use crate::stores::threads::Direction;

/// How long it is waited for a log that is just being attached, to begin where it ends now.
const LONGEST_START: Duration = Duration::from_secs(1);

/// How long it rests after an error that passes by itself, such as a file that is just being replaced.
const REST: Duration = Duration::from_millis(100);

/// The most rows that a look answers.
const ROWS_PER_LOOK: usize = 500;

/// Where following begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowFrom {
    /// With the oldest row there is.
    Oldest,
    /// With the newest so many rows of the query, at most [`LONGEST_TAIL`]; then what is written after. 0 begins with the
    /// next one.
    Newest(u32),
}

/// New rows of a query, of any process, in the order in which they were written: see [`Logs::follow`].
pub struct LogFollow {
    logs: Logs,
    filter: Filter,
    from: FollowFrom,
    /// `None` before it has begun.
    position: Option<Position>,
    ready: VecDeque<LogRow>,
    ended: bool,
}

#[derive(Clone, Copy)]
struct Position {
    generation: i64,
    /// All rows up to this one were looked at.
    id: i64,
    /// One of them, by which the file is known again.
    mark: Option<Place>,
}

impl Logs {
    /// Follows the log: rows that match the query, as they are written, by this process or another one. Of the query
    /// only the filters count.
    ///
    /// Rows of this process come at once, of others within a fraction of a second. Waiting costs next to nothing and writes
    /// nothing. Following goes on over deleted rows, a log that is not there yet, and one that is begun anew; it keeps the
    /// database open, and ends when that is closed. When the log cannot be read within a second it begins as soon as it
    /// can.
    ///
    /// ```no_run
    /// # fn main() -> rowhouse::Result<()> {
    /// use rowhouse::stores::{FollowFrom, LogLevel, LogQuery};
    /// use rowhouse::{Home, Runtime};
    /// let runtime = Runtime::open(Home::resolve()?)?;
    /// for row in runtime.logs().follow(&LogQuery::recent().level(LogLevel::Warn), FollowFrom::Newest(10))? {
    ///     println!("{}", row?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Invalid` as [`query`](Self::query), and for more than 10,000 rows to begin with; `NotFound` in a runtime without a
    /// log; what the engine answers and does not pass by itself.
    pub fn follow(&self, query: &LogQuery, from: FollowFrom) -> Result<LogFollow> {
        if matches!(from, FollowFrom::Newest(rows) if rows > LONGEST_TAIL) {
            return Err(Error::new(ErrorKind::Invalid, "following begins with at most 10,000 rows")
                .advise("export older ones"));
        }
        let mut plain = query.clone().direction(Direction::Ascending).limit(LARGEST_PAGE);
        plain.cursor = None;
        let filter = Filter::of(&plain)?;
        let mut follow = LogFollow {
            logs: self.clone(),
            filter,
            from,
            position: None,
            ready: VecDeque::new(),
            ended: false,
        };
        let database = self.database.get()?.clone().within(LONGEST_START);
        match follow.begin(&database) {
            Err(error) if !passes(&error) => Err(error),
            _ => Ok(follow),
        }
    }
}

impl LogFollow {
    /// Waits for new rows for at most `wait`; answers some as soon as there are any, and none when the time is up.
    ///
    /// # Errors
    /// `Closed` when the database was closed. What else kept the log from being read for all of that time; it may be tried
    /// again, and nothing is missed.
    pub fn wait(&mut self, wait: Duration) -> Result<Vec<LogRow>> {
        let until = instant_after(wait);
        loop {
            let answer = self.look_or_wait(until);
            let late = Instant::now() >= until;
            match answer {
                Ok(()) if late || !self.ready.is_empty() => return Ok(self.ready.drain(..).collect()),
                Ok(()) => {}
                Err(error) if late || !passes(&error) => return Err(error),
                // Nothing tells when it has passed. Who is woken early only looks early.
                Err(_) => {
                    std::thread::park_timeout(REST.min(until.saturating_duration_since(Instant::now())));
                }
            }
        }
    }

    /// Looks for rows; when there are none, waits until something was committed.
    fn look_or_wait(&mut self, until: Instant) -> Result<()> {
        if !self.ready.is_empty() {
            return Ok(());
        }
        let left = || until.saturating_duration_since(Instant::now());
        // One who only looks gives the disk a moment all the same.
        let database = self.logs.database.get()?.clone().within(left().max(LONGEST_START));
        let seen = database.changes()?;
        if self.look(&database)? {
            return Ok(());
        }
        database.wait_for_change(seen, left()).map(drop)
    }

    /// Looks for rows that follow the position; answers whether there may be more to see at once.
    fn look(&mut self, database: &Database) -> Result<bool> {
        let Some(position) = self.position else {
            self.begin(database)?;
            return Ok(true);
        };
        let filter = &self.filter;
        let (found, position) = database.read(|at| {
            let position = carried_over(at, position)?;
            let Some(newest) = first(at, Direction::Descending, Ids::ALL)? else {
                return Ok((None, position));
            };
            let ahead = Ids { low: position.id, high: newest.id }.behind(Direction::Ascending, position.id);
            let found = scan(at, filter, ahead, ROWS_PER_LOOK)?;
            let reached = found.ahead.map_or(newest.id, |ahead| ahead.low - 1).max(position.id);
            let near = first(at, Direction::Descending, Ids { low: i64::MIN, high: reached })?;
            Ok((Some(found), Position { id: reached, mark: near.or(position.mark), ..position }))
        })?;
        self.position = Some(position);
        let Some(found) = found else { return Ok(false) };
        self.ready.extend(found.rows);
        Ok(!self.ready.is_empty() || found.ahead.is_some())
    }

    /// Finds where to begin, and the rows to begin with.
    fn begin(&mut self, database: &Database) -> Result<()> {
        let filter = self.filter.clone().walking(Direction::Descending);
        let (position, before) = database.read(|at| {
            let newest = first(at, Direction::Descending, Ids::ALL)?;
            let generation = ids::generation(at)?;
            let id = newest.map_or(i64::MIN, |newest| newest.id);
            Ok((Position { generation, id, mark: newest }, range(at, &filter)?))
        })?;
        let FollowFrom::Newest(rows) = self.from else {
            self.position = Some(Position { id: i64::MIN, mark: None, ..position });
            return Ok(());
        };
        let before = LogRows::of(self.logs.clone(), filter, position.generation, before);
        let mut ready = before.take(rows as usize).collect::<Result<VecDeque<_>>>()?;
        ready.make_contiguous().reverse();
        (self.position, self.ready) = (Some(position), ready);
        Ok(())
    }
}

impl Iterator for LogFollow {
    type Item = Result<LogRow>;

    /// Waits for the next row, for as long as it takes. `None` when the database was closed, and after an error that does
    /// not pass by itself.
    fn next(&mut self) -> Option<Result<LogRow>> {
        while self.ready.is_empty() && !self.ended {
            match self.look_or_wait(instant_after(Duration::MAX)) {
                Ok(()) => {}
                Err(error) if passes(&error) => std::thread::park_timeout(REST),
                Err(error) => {
                    self.ended = true;
                    return (error.kind() != ErrorKind::Closed).then_some(Err(error));
                }
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

/// The position in the file that is there now.
fn carried_over(at: &impl Session, position: Position) -> Result<Position> {
    let generation = ids::generation(at)?;
    if generation == position.generation {
        return Ok(position);
    }
    let same = match position.mark {
        Some(mark) => first(at, Direction::Ascending, Ids { low: mark.id, high: mark.id })? == Some(mark),
        None => false,
    };
    Ok(if same {
        Position { generation, ..position }
    } else {
        Position { generation, id: i64::MIN, mark: None }
    })
}

/// True for what ends by itself: a log that is being attached, recovered, moved away or begun anew.
fn passes(error: &Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::Closed
            | ErrorKind::Reentrant
            | ErrorKind::Invalid
            | ErrorKind::NotFound
            | ErrorKind::SchemaTooNew
            | ErrorKind::Unsupported
            | ErrorKind::ReadOnly
    )
}
