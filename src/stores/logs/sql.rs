//! The statements by which rows are read. Each walks the table by id, or the index by thread, within bounds that its
//! caller chose; none of them sorts, and none counts rows that it does not answer.

use crate::stores::threads::Direction;

macro_rules! columns {
    () => {
        "id, ts, level, target, message, fields, thread_id, process_id, module, file, line, bytes"
    };
}

/// One text for each direction.
pub(super) struct Either {
    ascending: &'static str,
    descending: &'static str,
}

impl Either {
    pub(super) fn of(&self, direction: Direction) -> &'static str {
        match direction {
            Direction::Ascending => self.ascending,
            Direction::Descending => self.descending,
        }
    }
}

macro_rules! either {
    ($($text:expr),+; $($end:expr),*) => {
        Either {
            ascending: concat!($($text,)+ " ORDER BY id ASC " $(, $end)*),
            descending: concat!($($text,)+ " ORDER BY id DESC " $(, $end)*),
        }
    };
}

/// $1 and $2 the first and the last id, $3 to $7 as `Filter::params` has them.
macro_rules! rows {
    ($by:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM log ",
            $by,
            " WHERE id >= $1 AND id <= $2 AND level >= $3 AND ts >= $4 AND ts <= $5 \
             AND ($6 IS NULL OR process_id = $6) AND ($7 = 0 OR thread_id IS NULL)"
        )
    };
}

/// $8 the most rows.
pub(super) const ROWS: Either = either!(rows!(""); "LIMIT $8");

/// $8 the thread. `INDEXED BY`: the rows of a thread are few, however far apart their ids are and whatever statistics
/// make SQLite believe (<https://sqlite.org/lang_indexedby.html>).
pub(super) const ROWS_OF_THREAD: Either = either!(rows!("INDEXED BY log_by_thread"), " AND thread_id = $8";);

/// The first ids of a thread between $2 and $3; $1 thread, $4 how many.
pub(super) const IDS_OF_THREAD: Either = either!(
    "SELECT id FROM log INDEXED BY log_by_thread WHERE thread_id = $1 AND id >= $2 AND id <= $3"; "LIMIT $4"
);

/// The first row between $1 and $2.
pub(super) const FIRST: Either = either!("SELECT id, ts FROM log WHERE id >= $1 AND id <= $2"; "LIMIT 1");

/// The newest row of the thread $1.
pub(super) const LAST_OF_THREAD: &str =
    "SELECT id, process_id FROM log INDEXED BY log_by_thread WHERE thread_id = $1 ORDER BY id DESC LIMIT 1";

/// Another number for each log that is begun anew: of SQLite, the stamp that its file got when it was made.
pub(super) const GENERATION: &str = "SELECT user_version AS generation FROM pragma_user_version";

/// How many rows of each level there are from id $1 on.
pub(super) const LEVELS: &str = "SELECT count(*) AS counted, \
     coalesce(sum(CASE WHEN level = 1 THEN 1 ELSE 0 END), 0) AS trace, \
     coalesce(sum(CASE WHEN level = 2 THEN 1 ELSE 0 END), 0) AS debug, \
     coalesce(sum(CASE WHEN level = 3 THEN 1 ELSE 0 END), 0) AS info, \
     coalesce(sum(CASE WHEN level = 4 THEN 1 ELSE 0 END), 0) AS warn, \
     coalesce(sum(CASE WHEN level = 5 THEN 1 ELSE 0 END), 0) AS error \
     FROM log WHERE id >= $1";
