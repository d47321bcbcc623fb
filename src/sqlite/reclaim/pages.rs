//! The free pages of a file, and giving them back.
//!
//! A step of `PRAGMA incremental_vacuum` frees one page: it moves the last page of the file into a free one, or takes it off
//! the list of free ones. Whoever does not step the statement to its end frees one page only. So how long a transaction
//! gets can be decided page by page.

use std::time::Instant;

use rusqlite::{Connection, Result};

/// A file's pages, those in its log included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pages {
    pub(crate) all: u64,
    /// Of these, pages that hold nothing.
    pub(crate) free: u64,
}

impl Pages {
    pub(crate) fn of(connection: &Connection) -> Result<Self> {
        Ok(Self { all: number(connection, "page_count")?, free: number(connection, "freelist_count")? })
    }
}

/// The size of a page in bytes.
pub(crate) fn page_size(connection: &Connection) -> Result<u64> {
    number(connection, "page_size")
}

/// False for a file that cannot give pages back one by one: it was made without `auto_vacuum`, by a dump or by another
/// tool (<https://sqlite.org/pragma.html#pragma_auto_vacuum>).
pub(crate) fn can_be_freed(connection: &Connection) -> Result<bool> {
    const INCREMENTAL: u64 = 2;
    Ok(number(connection, "auto_vacuum")? == INCREMENTAL)
}

/// Gives back up to `most` pages, until `until`, inside the write transaction that is open; answers how many.
pub(crate) fn free(connection: &Connection, most: u32, until: Instant) -> Result<u64> {
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({most})"))?;
    let mut pages = statement.query([])?;
    let mut freed = 0;
    while pages.next()?.is_some() {
        freed += 1;
        if Instant::now() >= until {
            break;
        }
    }
    Ok(freed)
}

fn number(connection: &Connection, pragma: &str) -> Result<u64> {
    connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[allow(clippy::disallowed_methods, reason = "in memory")]
    fn with_free_pages() -> Connection {
        let connection = Connection::open_in_memory().expect("a database");
        connection
            .execute_batch(
                "PRAGMA auto_vacuum=INCREMENTAL; CREATE TABLE t(v); \
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) \
                 INSERT INTO t SELECT randomblob(5000) FROM n; DELETE FROM t",
            )
            .expect("filled and emptied");
        connection
    }

    #[test]
    fn pages_are_freed_up_to_the_bound_and_the_time() {
        let connection = with_free_pages();
        let before = Pages::of(&connection).expect("pages");
        assert!(before.free > 100 && can_be_freed(&connection).expect("a mode"));
        let long = Instant::now() + Duration::from_mins(1);
        assert_eq!(free(&connection, 10, long).expect("freed"), 10);
        assert_eq!(free(&connection, 10, Instant::now()).expect("freed"), 1, "the time is over after one");
        let after = Pages::of(&connection).expect("pages");
        assert_eq!((after.free, after.all), (before.free - 11, before.all - 11));
        assert_eq!(free(&connection, 10_000, long).expect("freed"), after.free, "to its end");
    }

    /// What happens to those who run the statement as others.
    #[test]
    fn a_single_step_frees_a_single_page() {
        let connection = with_free_pages();
        let before = Pages::of(&connection).expect("pages");
        let mut statement = connection.prepare("PRAGMA incremental_vacuum(50)").expect("prepared");
        statement.query([]).expect("run").next().expect("one step");
        drop(statement);
        assert_eq!(Pages::of(&connection).expect("pages").free, before.free - 1);
    }
}
