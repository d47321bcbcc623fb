//! How a program declares a step: its name, the schema that it needs, and what one piece of it does.

use std::fmt;
use std::sync::Arc;

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::merge::quoted;
use crate::sqlite::tx::{Snapshot, Tx};

type Work = dyn Fn(&Tx, &Piece) -> Result<Progress> + Send + Sync;
/// Rows or bytes, from a look at the database.
pub(super) type Estimate = dyn Fn(&Snapshot) -> Result<u64> + Send + Sync;

/// A long rewrite of data, done in small pieces in the background after the database is ready.
///
/// A migration should take the same time however many rows there are; what has to touch every row is a step. Its pieces
/// and the [`Watermark`] up to which they came are committed together, so that each piece counts exactly once, also when
/// the program is killed in between. The engine chooses how big a piece is (about 15 ms of work), gives way to other
/// jobs, waits while the write-ahead log is long, and sees to it that one process at a time does it.
///
/// ```
/// use rowhouse::{Domain, Migration, Step};
/// const PAGES: &[Migration] = &[
///     Migration { name: "V1__page", sql: "CREATE TABLE page(id INTEGER PRIMARY KEY, url TEXT NOT NULL)" },
///     Migration { name: "V2__host", sql: "ALTER TABLE page ADD COLUMN host TEXT" },
/// ];
/// let cache = Domain::new("cache").migrations(PAGES).step(Step::over_rows("fill_host", 2, "page", |tx, rows| {
///     tx.execute(
///         "UPDATE page SET host = substr(url, 9) WHERE id BETWEEN ?1 AND ?2 AND host IS NULL",
///         rows,
///     )
/// }));
/// ```
///
/// # Code that reads both
/// Data that is not rewritten yet is a normal state: it lasts for minutes or hours, and a backup of that time brings it
/// back. The release that declares a step
/// - writes new rows in the new form;
/// - reads both: `coalesce(host, substr(url, 9))`, or the old column where the new one is NULL;
/// - keeps older programs from writing rows of the old form behind the watermark, with
///   [`Domain::compatible_from`](crate::Domain::compatible_from), if it has to be sure of every row one day.
///
/// A later release keeps the step declared, and may stop to read the old form only where
/// [`Database::steps`](crate::Database::steps) says [`StepState::Done`](crate::StepState::Done).
///
/// A step goes by its name for ever: one that is done is never run again, and another rewrite is another name. Steps of a
/// domain run in the order in which they are declared, each when those before it are done.
#[derive(Clone)]
pub struct Step {
    pub(super) name: String,
    pub(super) version: i64,
    pub(super) work: Arc<Work>,
    pub(super) total: Option<Arc<Estimate>>,
    pub(super) needs_bytes: Option<Arc<Estimate>>,
    pub(super) again_after_salvage: bool,
}

/// Where the next piece of a step begins, and how much it may do.
#[derive(Clone, Debug)]
pub struct Piece {
    pub(super) after: Watermark,
    pub(super) limit: u32,
}

impl Piece {
    /// What the piece before came to: this one begins behind it.
    pub fn after(&self) -> &Watermark {
        &self.after
    }

    /// How many rows it may look at, at most. The engine begins with one and finds out how many take about 15 ms.
    pub fn limit(&self) -> u32 {
        self.limit
    }
}

/// Up to where the data is rewritten: the last key that was handled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Watermark {
    /// Nothing was handled yet.
    #[default]
    Start,
    /// Everything up to this number, inclusive.
    Number(i64),
    /// Everything up to this text, inclusive.
    Text(String),
}

impl ToSql for Watermark {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Start => ToSqlOutput::Borrowed(ValueRef::Null),
            Self::Number(number) => ToSqlOutput::from(*number),
            Self::Text(text) => ToSqlOutput::from(text.as_str()),
        })
    }
}

impl FromSql for Watermark {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Null => Ok(Self::Start),
            ValueRef::Integer(number) => Ok(Self::Number(number)),
            ValueRef::Text(_) => Ok(Self::Text(value.as_str()?.to_owned())),
            ValueRef::Real(_) | ValueRef::Blob(_) => Err(FromSqlError::InvalidType),
        }
    }
}

/// What a piece of a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There may be more behind `to`.
    More {
        /// Where the next piece begins; another one than this piece began at.
        to: Watermark,
        /// Rows that were handled, for the progress that is shown.
        rows: u64,
    },
    /// Nothing was left to do.
    Done,
}

impl Step {
    /// A step over anything that has an order.
    ///
    /// `name` is `[a-z][a-z0-9_]{0,31}`, and `version` the schema version that brought what the step needs; both are
    /// checked when the runtime opens. `work` does one piece inside a job, so everything that holds for
    /// [`Database::write`](crate::Database::write) holds for it: it may run more than once, of which one counts, and an
    /// error or a panic undoes it. It is then tried again, later and smaller. What it captures lives as long as the
    /// database is open: a handle to that database would keep it open for ever.
    ///
    /// ```
    /// use rowhouse::{Progress, Step, Watermark};
    /// let step = Step::new("lower_urls", 3, |tx, piece| {
    ///     let urls: Vec<String> = match piece.after() {
    ///         Watermark::Text(last) => tx.rows(
    ///             "SELECT url FROM page WHERE url > ?1 ORDER BY url LIMIT ?2", (last, piece.limit()), |row| row.get(0))?,
    ///         _ => tx.rows("SELECT url FROM page ORDER BY url LIMIT ?1", [piece.limit()], |row| row.get(0))?,
    ///     };
    ///     for url in &urls {
    ///         tx.execute("UPDATE page SET lowered = lower(?1) WHERE url = ?1", [url])?;
    ///     }
    ///     let rows = urls.len() as u64;
    ///     Ok(match urls.into_iter().next_back() {
    ///         Some(last) => Progress::More { to: Watermark::Text(last), rows },
    ///         None => Progress::Done,
    ///     })
    /// });
    /// ```
    pub fn new(
        name: impl Into<String>,
        version: i64,
        work: impl Fn(&Tx, &Piece) -> Result<Progress> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            version,
            work: Arc::new(work),
            total: None,
            needs_bytes: None,
            again_after_salvage: false,
        }
    }

    /// A step over the rows of a table that has row ids. `work` is given the first and the last row id of a piece, both
    /// inclusive, fit to be bound: `WHERE rowid BETWEEN ?1 AND ?2`. The engine finds the pieces, keeps the watermark,
    /// and knows when the end is reached.
    ///
    /// The [total](Self::total) is the span of the row ids, which is too much where rows were deleted.
    pub fn over_rows<R>(
        name: impl Into<String>,
        version: i64,
        table: &str,
        work: impl Fn(&Tx, (i64, i64)) -> Result<R> + Send + Sync + 'static,
    ) -> Self {
        let table = quoted(table);
        let next = |behind: &str| {
            format!(
                "SELECT min(id), max(id), count(*) \
                 FROM (SELECT rowid AS id FROM {table} {behind} ORDER BY rowid LIMIT ?1)"
            )
        };
        let (first, more) = (next(""), next("WHERE rowid > ?2"));
        let span = format!(
            "SELECT ifnull((SELECT max(rowid) FROM {table}) - (SELECT min(rowid) FROM {table}) + 1, 0)"
        );
        Self::new(name, version, move |tx, piece| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            let found: (Option<i64>, Option<i64>, i64) = match piece.after() {
                Watermark::Number(last) => tx.row(&more, (piece.limit(), last), read)?,
                Watermark::Start => tx.row(&first, [piece.limit()], read)?,
                Watermark::Text(_) => return Err(strange_watermark()),
            };
            let (Some(from), Some(to), rows) = found else { return Ok(Progress::Done) };
            work(tx, (from, to))?;
            Ok(Progress::More { to: Watermark::Number(to), rows: rows.cast_unsigned() })
        })
        .total(move |at| at.row(&span, [], |row| row.get(0)).map(i64::cast_unsigned))
    }

    /// How many rows there are to handle, for the percentage that is shown. Asked once, before the first piece, in a read
    /// of at most a second; without an answer only the rows handled are shown.
    #[must_use]
    pub fn total(mut self, total: impl Fn(&Snapshot) -> Result<u64> + Send + Sync + 'static) -> Self {
        self.total = Some(Arc::new(total));
        self
    }

    /// By how many bytes the database may grow. While the disk has no such room the step waits, and
    /// [`Database::warnings`](crate::Database::warnings) says so with the numbers. Of a step that was partly done before,
    /// the part that is left counts.
    #[must_use]
    pub fn needs_bytes(mut self, bytes: impl Fn(&Snapshot) -> Result<u64> + Send + Sync + 'static) -> Self {
        self.needs_bytes = Some(Arc::new(bytes));
        self
    }

    /// Begins anew after a salvage, which may have lost some of what it made. For a step that does nothing twice.
    #[cfg(feature = "agent")]
    #[must_use]
    pub(crate) fn again_after_salvage(mut self) -> Self {
        self.again_after_salvage = true;
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

fn strange_watermark() -> Error {
    Error::new(ErrorKind::Conflict, "its watermark is a text, where row ids are numbers")
        .advise("give a rewrite that works in another way another name")
}

/// Checks the steps of a domain whose newest migration is `newest`.
///
/// # Errors
/// `Invalid`.
pub(in crate::sqlite) fn validate(steps: &[Step], newest: i64) -> Result<()> {
    for (at, step) in steps.iter().enumerate() {
        let name = step.name.as_str();
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let well_named = name.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
            && name.bytes().all(letter)
            && name.len() <= 32;
        let wrong = if !well_named {
            "is not a lower-case letter followed by up to 31 of a-z, 0-9 and _".to_owned()
        } else if steps[..at].iter().any(|other| other.name == name) {
            "is declared twice".to_owned()
        } else if !(0..=newest).contains(&step.version) {
            format!("needs schema version {}, and the newest migration is {newest}", step.version)
        } else {
            continue;
        };
        return Err(Error::new(ErrorKind::Invalid, format!("the step {name:?} {wrong}"))
            .advise("correct the declaration of the step"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn step(name: &str, version: i64) -> Step {
        Step::new(name, version, |_, _| Ok(Progress::Done))
    }

    #[test]
    fn a_step_that_could_not_be_told_apart_or_not_run_is_refused() {
        for bad in ["", "A", "1a", "a-b", "a b", "ä", &"a".repeat(33)] {
            let error = validate(&[step(bad, 1)], 1).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
        let twice = validate(&[step("a", 1), step("a", 2)], 2).expect_err("twice");
        assert!(twice.to_string().contains("twice"), "{twice}");
        let early = validate(&[step("a", 3)], 2).expect_err("no such schema");
        assert!(early.to_string().contains("version 3"), "{early}");
        validate(&[step("a", 1), step("fill_2", 2), step(&"a".repeat(32), 0)], 2).expect("good ones");
    }

    /// Does the pieces of a step over `page`, one of each limit and then whole ones; answers what it came to.
    fn run(tx: &Tx, step: &Step, limits: &[u32], mut between: impl FnMut(usize)) -> (Watermark, u64) {
        let mut limits = limits.iter().copied().chain(std::iter::repeat(1000));
        let (mut after, mut sum) = (Watermark::Start, 0);
        for number in 0.. {
            let piece = Piece { after, limit: limits.next().unwrap_or(1) };
            match (step.work)(tx, &piece).expect("a piece") {
                Progress::Done => return (piece.after, sum),
                Progress::More { to, rows } => {
                    assert!(rows <= u64::from(piece.limit) && to != piece.after);
                    (after, sum) = (to, sum + rows);
                }
            }
            between(number);
        }
        unreachable!("it counts for longer than anybody waits")
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_handle_every_row_once(
            ids in prop::collection::btree_set(any::<i64>(), 0..60),
            limits in prop::collection::vec(1_u32..9, 0..60),
            late in prop::collection::vec(any::<i64>(), 0..5),
        ) {
            let connection = rusqlite::Connection::open_in_memory().expect("an in-memory database");
            connection
                .execute_batch("CREATE TABLE \"my page\"(id INTEGER PRIMARY KEY, times INTEGER DEFAULT 0)")
                .expect("a table");
            let tx = Tx::new(connection.into()).expect("a connection");
            let insert = |id: i64| tx.execute("INSERT OR IGNORE INTO \"my page\"(id) VALUES (?1)", [id]).expect("a row");
            for id in &ids {
                insert(*id);
            }
            let step = Step::over_rows("count", 1, "my page", |tx, rows| {
                tx.execute("UPDATE \"my page\" SET times = times + 1 WHERE id BETWEEN ?1 AND ?2", rows)
            });
            let (to, sum) = run(&tx, &step, &limits, |number| {
                late.get(number).copied().map(insert);
            });
            let wrong = "SELECT count(*) FROM \"my page\" WHERE times > 1 OR (times = 0 AND id > ?1)";
            let wrong: i64 = tx.row(wrong, [&to], |row| row.get(0)).expect("a count");
            let handled: i64 = tx.row("SELECT sum(times) FROM \"my page\"", [], |row| row.get::<_, Option<i64>>(0))
                .expect("a sum").unwrap_or(0);
            prop_assert_eq!((wrong, handled), (0, i64::try_from(sum).expect("few")));
            let missed = ids.iter().filter(|id| {
                let times = "SELECT times FROM \"my page\" WHERE id = ?1";
                tx.row(times, [id], |row| row.get::<_, i64>(0)).expect("a row") != 1
            });
            prop_assert_eq!(missed.count(), 0);
        }
    }
}
