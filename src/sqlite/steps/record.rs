//! `rowhouse_steps`: how far each step came, a row each.
//!
//! Invariants:
//! - The table is made by the first piece of the first step: a database whose domain has none has no such table.
//! - What it holds is data from a file: a row of another shape is an error that names the table, never a panic
//!   (`a_row_of_another_shape_is_an_error`).
//! - A step that is done stays done, and its rows never become fewer (`a_finished_step_stays_finished`); only a salvage
//!   may [`forget`] it.

use rusqlite::{Connection, OptionalExtension, Row};

use super::declare::Watermark;
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::history::{self, STEPS};

pub(super) const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS rowhouse_steps(
        name TEXT PRIMARY KEY NOT NULL,
        watermark,
        rows_done INTEGER NOT NULL,
        rows_total INTEGER,
        started_at TEXT NOT NULL,
        written_at TEXT NOT NULL,
        finished_at TEXT,
        trouble TEXT)";

const ADVANCE: &str = "
    INSERT INTO rowhouse_steps(name, watermark, rows_done, rows_total, started_at, written_at, finished_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6)
    ON CONFLICT(name) DO UPDATE SET
        watermark = excluded.watermark,
        rows_done = rows_done + min(excluded.rows_done, 9223372036854775807 - rows_done),
        rows_total = ifnull(rows_total, excluded.rows_total),
        written_at = excluded.written_at,
        finished_at = excluded.finished_at,
        trouble = NULL
    WHERE finished_at IS NULL";

const COMPLAIN: &str = "
    INSERT INTO rowhouse_steps(name, rows_done, started_at, written_at, trouble) VALUES (?1, 0, ?2, ?2, ?3)
    ON CONFLICT(name) DO UPDATE SET trouble = excluded.trouble WHERE finished_at IS NULL";

const COLUMNS: &str = "name, watermark, rows_done, rows_total, started_at, finished_at, trouble";

/// How far a step came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) watermark: Watermark,
    pub(super) rows: u64,
    pub(super) total: Option<u64>,
    pub(super) started_at: String,
    pub(super) finished_at: Option<String>,
    pub(super) trouble: Option<String>,
}

impl Record {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok(Self {
            name: row.get(0)?,
            watermark: row.get(1)?,
            rows: row.get(2).map(count)?,
            total: row.get::<_, Option<i64>>(3)?.map(count),
            started_at: row.get(4)?,
            finished_at: row.get(5)?,
            trouble: row.get(6)?,
        })
    }
}

/// Every step that was begun, by name.
///
/// # Errors
/// `Corrupt` when the table does not hold what a program writes there; of SQLite.
pub(super) fn read(connection: &Connection) -> Result<Vec<Record>> {
    if !history::is_there(connection, STEPS)? {
        return Ok(Vec::new());
    }
    let rows = || -> rusqlite::Result<Vec<Record>> {
        let mut statement =
            connection.prepare(&format!("SELECT {COLUMNS} FROM rowhouse_steps ORDER BY name"))?;
        statement.query_map([], Record::of)?.collect()
    };
    rows().map_err(unreadable)
}

/// One step; `None` before its first piece.
///
/// # Errors
/// As [`read`].
pub(super) fn of(connection: &Connection, name: &str) -> Result<Option<Record>> {
    if !history::is_there(connection, STEPS)? {
        return Ok(None);
    }
    let one = || {
        let mut statement =
            connection.prepare(&format!("SELECT {COLUMNS} FROM rowhouse_steps WHERE name = ?1"))?;
        statement.query_row([name], Record::of).optional()
    };
    one().map_err(unreadable)
}

/// Takes a step for one that was never begun.
///
/// # Errors
/// Of SQLite.
pub(super) fn forget(connection: &Connection, name: &str) -> Result<()> {
    connection.execute("DELETE FROM rowhouse_steps WHERE name = ?1", [name])?;
    Ok(())
}

/// What a piece adds to the record of its step.
pub(super) struct Advance<'a> {
    pub(super) name: &'a str,
    pub(super) to: &'a Watermark,
    pub(super) rows: u64,
    pub(super) total: Option<u64>,
    pub(super) finished: bool,
}

/// Writes down that a piece was done, in the transaction of that piece. The table is made where it is missing: after the work
/// of the piece, which may have made the room for it.
///
/// # Errors
/// Of SQLite.
pub(super) fn advance(connection: &Connection, advance: &Advance<'_>) -> Result<()> {
    let now = jiff::Timestamp::now().to_string();
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let Advance { name, to, rows, total, finished } = advance;
    connection.execute_batch(CREATE)?;
    let finished_at = finished.then_some(&now);
    connection.execute(ADVANCE, (name, to, number(*rows), total.map(number), &now, finished_at))?;
    Ok(())
}

/// Writes down why a step does not come further, for other processes to see.
///
/// # Errors
/// Of SQLite.
pub(super) fn complain(connection: &Connection, name: &str, trouble: &str) -> Result<()> {
    connection.execute_batch(CREATE)?;
    connection.execute(COMPLAIN, (name, jiff::Timestamp::now().to_string(), trouble))?;
    Ok(())
}

fn unreadable(error: rusqlite::Error) -> Error {
    match error {
        // A table of another shape is one, with the code for an error in the SQL.
        rusqlite::Error::SqliteFailure(code, _) if code.extended_code != rusqlite::ffi::SQLITE_ERROR => {
            Error::from(error)
        }
        error => Error::new(ErrorKind::Corrupt, format!("{STEPS} does not hold what a program writes there"))
            .advise("it was edited by hand or damaged: restore the database from a backup")
            .caused_by(error),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn memory() -> Connection {
        Connection::open_in_memory().expect("an in-memory database")
    }

    fn piece(to: &Watermark, rows: u64, finished: bool) -> Advance<'_> {
        Advance { name: "fill", to, rows, total: Some(9), finished }
    }

    #[test]
    fn a_finished_step_stays_finished() {
        let connection = memory();
        assert_eq!(read(&connection).expect("no table"), []);
        assert_eq!(of(&connection, "fill").expect("a look"), None);
        let (to, other) = (Watermark::Number(5), Watermark::Number(1));
        advance(&connection, &piece(&to, 5, true)).expect("written");
        advance(&connection, &piece(&other, 1, false)).expect("nothing to write");
        complain(&connection, "fill", "late").expect("nothing to write");
        let found = of(&connection, "fill").expect("a look").expect("a row");
        assert_eq!((found.watermark, found.rows, found.trouble), (to, 5, None));
        assert!(found.finished_at.is_some());
    }

    #[test]
    fn trouble_ends_with_the_next_piece() {
        let connection = memory();
        complain(&connection, "fill", "no room").expect("written");
        let found = of(&connection, "fill").expect("a look").expect("a row");
        assert_eq!((found.watermark, found.trouble.as_deref()), (Watermark::Start, Some("no room")));
        advance(&connection, &piece(&Watermark::Number(1), 1, false)).expect("written");
        let found = of(&connection, "fill").expect("a look").expect("a row");
        assert_eq!((found.trouble, found.total), (None, Some(9)));
    }

    #[test]
    fn a_row_of_another_shape_is_an_error() {
        for change in [
            "UPDATE rowhouse_steps SET watermark = 1.5",
            "UPDATE rowhouse_steps SET watermark = x'00'",
            "UPDATE rowhouse_steps SET rows_done = 'many'",
            "UPDATE rowhouse_steps SET name = CAST(x'ff' AS TEXT)",
            "ALTER TABLE rowhouse_steps RENAME COLUMN rows_done TO x",
        ] {
            let connection = memory();
            complain(&connection, "fill", "no room").expect("written");
            connection.execute_batch(change).expect(change);
            let error = read(&connection).expect_err(change);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{change}: {error}");
        }
    }

    #[test]
    fn a_count_of_rows_that_is_too_large_stays_at_the_largest() {
        let connection = memory();
        for to in 1..4 {
            of(&connection, "fill").expect("a look");
            advance(&connection, &piece(&Watermark::Number(to), u64::MAX, false)).expect("written");
            let found = of(&connection, "fill").expect("a look").expect("a row");
            assert_eq!((found.rows, found.watermark), (i64::MAX.cast_unsigned(), Watermark::Number(to)));
        }
    }

    fn watermarks() -> impl Strategy<Value = Watermark> {
        prop_oneof![
            Just(Watermark::Start),
            any::<i64>().prop_map(Watermark::Number),
            any::<String>().prop_map(Watermark::Text),
        ]
    }

    proptest! {
        #[test]
        fn a_watermark_comes_back_as_it_was_and_rows_add_up(
            pieces in prop::collection::vec((watermarks(), 0..1_000_000_u64), 1..20)
        ) {
            let connection = memory();
            let mut sum = 0;
            for (to, rows) in &pieces {
                of(&connection, "fill").expect("a look");
                advance(&connection, &piece(to, *rows, false)).expect("written");
                sum += rows;
                let found = of(&connection, "fill").expect("a look").expect("a row");
                prop_assert_eq!(&found.watermark, to);
                prop_assert_eq!(found.rows, sum);
                prop_assert_eq!(&read(&connection).expect("read"), &[found]);
            }
        }
    }
}
