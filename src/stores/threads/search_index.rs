//! The full-text index of threads: how threads that were there before it come into it, and whether all are in.
//!
//! Triggers keep the index in step (`migrations_state/V4__thread_search.sql`), whoever writes a thread: also a program
//! that knows nothing of it. What it is made from is in the table `thread_text`, so a salvage makes it anew
//! (`sqlite/damage/rebuild.rs`), and what the table lost comes in from the threads.
//!
//! Tests: `tests/threads_search.rs`.

use crate::error::Result;
use crate::sqlite::Database;
use crate::sqlite::steps::Step;

const NAME: &str = "index_threads";

/// The schema that has the index.
const SINCE: i64 = 4;

/// Most of what is measured for a thread is half of this; Chinese texts take more.
const BYTES_PER_THREAD: &str = "SELECT count(*) * 1024 FROM (SELECT 1 FROM thread LIMIT 10000000)";

/// A change that changes nothing: the trigger brings in what is not in, under the numbers that it gives.
const INDEX: &str = "UPDATE thread SET name = name WHERE rowid BETWEEN ?1 AND ?2
    AND NOT EXISTS (SELECT 1 FROM thread_text WHERE thread_id = id)";

/// Brings the threads in that no trigger has, and those that a salvage could not keep in.
pub(crate) fn step() -> Step {
    Step::over_rows(NAME, SINCE, "thread", |tx, rows| tx.execute(INDEX, rows))
        .needs_bytes(|at| at.row(BYTES_PER_THREAD, [], |row| row.get(0)).map(i64::cast_unsigned))
        .again_after_salvage()
}

/// True when every thread is in it.
pub(super) fn is_complete(database: &Database) -> Result<bool> {
    Ok(database.steps()?.iter().any(|step| step.name == NAME && step.is_done()))
}
