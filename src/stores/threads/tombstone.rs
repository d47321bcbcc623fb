//! Threads that are being deleted, and what the state database holds of a thread.
//!
//! Databases and files share no transaction. So the state database says first that a thread is being deleted; whoever
//! carries that out, now or after a crash, takes the word back when nothing is left anywhere.
//!
//! Invariants:
//! 1. A thread's rows go in the transaction in which its tombstone comes.
//! 2. While it stands, no facts, turns or notes about the thread get in. Without any tombstone that costs one look at an
//!    empty table per transaction.
//!
//! Tests: `tests/thread_delete.rs`.

use crate::error::Result;
use crate::sql::{Row, Session};

const ANY: &str = "SELECT 1 AS found FROM tombstone LIMIT 1";
const STANDS: &str = "SELECT 1 AS found FROM tombstone WHERE thread_id = $1";
const ALL: &str = "SELECT thread_id, rollout_path FROM tombstone ORDER BY thread_id";
/// $1 thread, $2 now
const SET: &str = "INSERT INTO tombstone(thread_id, rollout_path, deleted_at) \
     VALUES ($1, (SELECT rollout_path FROM thread WHERE id = $1), $2) ON CONFLICT (thread_id) DO NOTHING";
const LIFT: &str = "DELETE FROM tombstone WHERE thread_id = $1";

const THREAD: &str = "DELETE FROM thread WHERE id = $1";
const MEMORY: &str = "DELETE FROM memory_output WHERE thread_id = $1";
/// $1 thread: what else the database holds of it, but for its memory.
const REST: [&str; 5] = [
    "DELETE FROM spawn_edge WHERE child_id = $1 OR parent_id = $1",
    "DELETE FROM memory_job WHERE kind = 'extract' AND thread_id = $1",
    "DELETE FROM turn WHERE thread_id = $1",
    "DELETE FROM turn_anomaly WHERE thread_id = $1",
    "DELETE FROM turn_checkpoint WHERE thread_id = $1",
];
/// $1 path
const NOTE: &str = "DELETE FROM backfill_file WHERE path = $1";
/// $1 thread; one that is being deleted has no row any more.
const PATH: &str = "SELECT rollout_path FROM thread WHERE id = $1 \
     UNION ALL SELECT rollout_path FROM tombstone WHERE thread_id = $1 LIMIT 1";
const HAS_MEMORY: &str = "SELECT 1 AS found FROM memory_output WHERE thread_id = $1";
/// $1 thread: whether anything is known of it.
const KNOWN: [&str; 5] = [
    "SELECT 1 AS found FROM thread WHERE id = $1",
    STANDS,
    "SELECT 1 AS found FROM spawn_edge WHERE child_id = $1 OR parent_id = $1 LIMIT 1",
    HAS_MEMORY,
    "SELECT 1 AS found FROM memory_job WHERE kind = 'extract' AND thread_id = $1",
];

/// A thread that is being deleted.
#[derive(Clone, Debug)]
pub(crate) struct Tombstone {
    pub(crate) thread: String,
    /// Where its row said that its transcript is.
    pub(crate) rollout_path: Option<String>,
}

/// Whether any thread is being deleted.
pub(crate) fn any(at: &impl Session) -> Result<bool> {
    Ok(!at.query(ANY, &[])?.is_empty())
}

/// Whether this one is.
pub(crate) fn stands(at: &impl Session, thread: &str) -> Result<bool> {
    Ok(!at.query(STANDS, &[thread.into()])?.is_empty())
}

pub(crate) fn all(at: &impl Session) -> Result<Vec<Tombstone>> {
    let tombstone =
        |row: &Row| Ok(Tombstone { thread: row.get("thread_id")?, rollout_path: row.get("rollout_path")? });
    at.query(ALL, &[])?.iter().map(tombstone).collect()
}

/// Begins the deletion of a thread: its rows go, and what is noted of these files. Answers how many memories went.
pub(crate) fn set(tx: &impl Session, thread: &str, files: &[String], now: i64) -> Result<u64> {
    tx.execute(SET, &[thread.into(), now.into()])?;
    for path in files {
        tx.execute(NOTE, &[path.as_str().into()])?;
    }
    remove(tx, thread)
}

/// Ends it: what came meanwhile goes as well.
pub(crate) fn lift(tx: &impl Session, thread: &str) -> Result<()> {
    remove(tx, thread)?;
    tx.execute(LIFT, &[thread.into()]).map(drop)
}

/// Removes a thread's row and all that belongs to it. Answers how many memories went.
pub(crate) fn remove(tx: &impl Session, thread: &str) -> Result<u64> {
    tx.execute(THREAD, &[thread.into()])?;
    remove_rest(tx, thread)
}

/// The same without the row, which its caller removed.
pub(crate) fn remove_rest(tx: &impl Session, thread: &str) -> Result<u64> {
    for delete in REST {
        tx.execute(delete, &[thread.into()])?;
    }
    tx.execute(MEMORY, &[thread.into()])
}

/// Whether the database knows anything of the thread.
pub(crate) fn is_known(at: &impl Session, thread: &str) -> Result<bool> {
    for query in KNOWN {
        if !at.query(query, &[thread.into()])?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Memories drawn from these threads.
pub(crate) fn memories_of(at: &impl Session, threads: &[String]) -> Result<u64> {
    let mut found = 0;
    for thread in threads {
        found += at.query(HAS_MEMORY, &[thread.as_str().into()])?.len() as u64;
    }
    Ok(found)
}

/// Where the rows of these threads say that their transcripts are, or said when their deletion began.
pub(crate) fn paths_of(at: &impl Session, threads: &[String]) -> Result<Vec<Option<String>>> {
    let path = |thread: &String| {
        let rows = at.query(PATH, &[thread.as_str().into()])?;
        Ok(rows.first().map(|row| row.get("rollout_path")).transpose()?.flatten())
    };
    threads.iter().map(path).collect()
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, StatementStatus};

    use super::*;

    /// Steps of the virtual machine.
    fn cost(connection: &Connection, text: &str) -> i32 {
        let mut statement = connection.prepare(text).expect(text);
        for index in 1..=statement.parameter_count() {
            statement.raw_bind_parameter(index, "none").expect("bound");
        }
        let mut rows = statement.raw_query();
        while rows.next().expect(text).is_some() {}
        drop(rows);
        assert_eq!(statement.get_status(StatementStatus::FullscanStep), 0, "{text}");
        statement.get_status(StatementStatus::VmStep)
    }

    #[test]
    fn a_deletion_costs_the_same_among_ten_times_as_many() {
        let costs = [500, 5_000].map(|rows| {
            let connection = Connection::open_in_memory().expect("a database");
            for migration in rowhouse::migrations!("migrations_state") {
                connection.execute_batch(migration.sql).expect("the schema");
            }
            let id = "printf('%08x-0000-7000-8000-%012x', i, i)";
            for fill in [
                format!("thread(id, created_at, updated_at, recency_at) SELECT {id}, i, i, i"),
                format!("spawn_edge SELECT {id}, printf('%036d', i), 'open', i"),
                format!("memory_output SELECT {id}, 'm', 's', NULL, i, i, 0, i, NULL"),
                format!("memory_job SELECT 'extract', {id}, 'done', 't', 0, 0, 0, 0, 0, 0, NULL"),
                format!("turn_checkpoint SELECT {id}, 1, 1, 1, 1, 1, 1"),
                format!("turn_anomaly SELECT {id}, 1, 'gap'"),
                format!("tombstone SELECT {id}, NULL, i"),
            ] {
                let (into, from) = fill.split_once(" SELECT").expect("a select");
                let numbers = format!(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
                     INSERT INTO {into} SELECT{from} FROM n"
                );
                connection.execute(&numbers, []).expect(&numbers);
            }
            let all = [ANY, STANDS, LIFT, THREAD, MEMORY, NOTE, PATH].into_iter().chain(REST).chain(KNOWN);
            all.map(|text| cost(&connection, text)).collect::<Vec<_>>()
        });
        for (few, many) in costs[0].iter().zip(&costs[1]) {
            assert!(*many <= few + few / 10 + 2, "{costs:?}");
        }
    }
}
