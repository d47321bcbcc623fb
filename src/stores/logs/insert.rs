//! Writing a batch: one transaction that adds the rows and keeps the caps of what they belong to.
//!
//! Invariants:
//! 1. What a thread's rows count is in `log_thread` after every transaction that adds or deletes some of them; nothing is
//!    ever added up.
//! 2. After a batch no thread that it wrote to is above its cap. It then goes down by a [`ROOM`]th of the cap at once, so
//!    that not every row that comes pushes one out. What is deleted is at most that and as much as came.
//! 3. A batch whose commit is uncertain is written only if it is not there.
//!
//! Tests: `tests/log_caps.rs`, `tests/log_sink.rs`.

use std::collections::BTreeMap;
use std::iter;
use std::sync::{Arc, LazyLock};

use super::prune::{self, LogCaps};
use super::record::{Record, VALUES};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Session, Value, rows_of_values};

/// The part of a cap that is freed at once.
pub(super) const ROOM: i64 = 32;

/// Rows of one statement: what a statement costs by itself, and what it takes to count ids up, is shared by so many. With
/// more of them it takes longer to find out which of its parameters is which.
const TOGETHER: usize = 16;

static ROW: LazyLock<String> = LazyLock::new(|| insert(1));
static ROWS: LazyLock<String> = LazyLock::new(|| insert(TOGETHER));
static LAST_ROW: LazyLock<String> = LazyLock::new(|| insert(1) + " RETURNING id");
const COUNT: &str = "INSERT INTO log_thread(thread_id, bytes) VALUES ($1, $2) \
     ON CONFLICT(thread_id) DO UPDATE SET bytes = log_thread.bytes + excluded.bytes RETURNING bytes";
const IS_THERE: &str = "SELECT id FROM log WHERE id = $1 AND ts = $2 AND process_id = $3";

/// The statement that adds so many rows. `$1` is the run of the process, which all of them have; the values of each row
/// follow, in the order of [`Record::values`].
fn insert(rows: usize) -> String {
    format!(
        "INSERT INTO log(process_id, ts, level, target, message, fields, thread_id, module, file, line, bytes) VALUES {}",
        rows_of_values(rows, "$1, ", 2, VALUES)
    )
}

/// Rows that are written together.
#[derive(Clone)]
pub(super) struct Batch {
    pub(super) records: Arc<Vec<Record>>,
    /// The run of the process that writes it.
    pub(super) process: Arc<str>,
    /// Earlier rows of this run that have to go, by their ids: see [`own`](super::own).
    pub(super) expired: Vec<(i64, i64)>,
    /// The id that its last row got in a try whose commit is uncertain.
    pub(super) uncertain: Option<i64>,
}

impl Batch {
    /// What its rows of no thread count.
    pub(super) fn threadless(&self) -> i64 {
        self.records.iter().filter(|record| record.thread.is_none()).map(|record| record.bytes).sum()
    }

    /// Nobody knows whether a try was committed in which its last row got this id; 0 when it was not begun.
    pub(super) fn note_uncertain(&mut self, id: i64) {
        // A try that was not begun says nothing about an earlier one.
        if id > 0 {
            self.uncertain = Some(id);
        }
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inserted {
    /// The id of its last row.
    pub(super) last: i64,
    /// Rows that went for it, to keep the caps of threads and of the run.
    pub(super) expired: u64,
}

/// Writes it.
pub(super) fn write<'b>(at: &impl Session, batch: &'b Batch, caps: &LogCaps) -> Result<Inserted> {
    let Some((last, records)) = batch.records.split_last() else {
        return Err(Error::new(ErrorKind::Invalid, "a batch has a row"));
    };
    if let Some(id) = batch.uncertain {
        let params = [id.into(), last.ts.into(), batch.process.as_ref().into()];
        if !at.query(IS_THERE, &params)?.is_empty() {
            return Ok(Inserted { last: id, expired: 0 });
        }
    }
    let mut expired = 0;
    for (first, last) in &batch.expired {
        expired += prune::run_rows(at, &batch.process, *first, *last)?;
    }
    let process = Value::from(batch.process.as_ref());
    let values = |records: &'b [Record]| records.iter().flat_map(|record| &record.values);
    let (together, rest) = records.as_chunks::<TOGETHER>();
    at.execute_many(&ROWS, together.iter().map(|records| iter::once(&process).chain(values(records))))?;
    at.execute_many(&ROW, rest.chunks(1).map(|record| iter::once(&process).chain(values(record))))?;
    let params: Vec<_> = iter::once(process.clone()).chain(last.values.iter().cloned()).collect();
    let id = number(at, &LAST_ROW, &params, "id")?;
    let mut threads = BTreeMap::new();
    for record in batch.records.iter() {
        if let Some(thread) = &record.thread {
            *threads.entry(thread).or_insert(0) += record.bytes;
        }
    }
    for (thread, bytes) in threads {
        let counts = number(at, COUNT, &[thread.as_ref().into(), bytes.into()], "bytes")?;
        if counts > caps.thread_bytes {
            expired += prune::thread_to(at, thread, counts, caps.thread_bytes - caps.thread_bytes / ROOM)?;
        }
    }
    Ok(Inserted { last: id, expired })
}

fn number(at: &impl Session, sql: &str, params: &[Value], column: &str) -> Result<i64> {
    let rows = at.query(sql, params)?;
    rows.first()
        .ok_or_else(|| Error::new(ErrorKind::Io, "what was written was not answered"))
        .and_then(|row| row.get(column))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::tx::Snapshot;
    use crate::stores::logs::LogLevel;
    use crate::stores::logs::event::LogEvent;
    use crate::stores::logs::record::Recorder;

    #[test]
    fn a_batch_that_is_there_is_not_written_again_however_many_tries_were_not_begun() {
        let at = Snapshot::in_memory(concat!(
            include_str!("../../../migrations_logs/V1__log.sql"),
            include_str!("../../../migrations_logs/V2__log_thread.sql")
        ));
        let mut recorder = Recorder::new(crate::redact::Redactor::default(), 64 << 10);
        let records = [recorder.record(LogEvent::new(LogLevel::Info, "t", "m"))];
        let mut batch = Batch {
            records: Vec::from(records).into(),
            process: "run".into(),
            expired: Vec::new(),
            uncertain: None,
        };
        let written = write(&at, &batch, &LogCaps::default()).expect("written");
        for tried in [written.last, 0, 0] {
            batch.note_uncertain(tried);
            assert_eq!(write(&at, &batch, &LogCaps::default()).expect("found"), written);
        }
        assert_eq!(number(&at, "SELECT count(*) AS n FROM log", &[], "n").expect("a count"), 1);
    }
}
