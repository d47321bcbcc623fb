//! Turns in the state database.
//!
//! Invariant: turns, anomalies and the checkpoint change in one transaction, and only forward from the checkpoint that
//! the writer had seen; so that two processes that read the same lines write them once.

use super::model::{Anomaly, AnomalyKind, Turn, TurnStatus};
use super::projector::{Span, StoredTurn, Turns};
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::Position;
use crate::sql::{Row, Session, Value};

/// Of one thread, at most; a file that is no transcript would fill the database with them.
const MOST_ANOMALIES: i64 = 1_000;

/// How far a transcript was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    reading: i64,
    /// The last record in front of it; `None` when all lines so far are bad.
    pub(crate) last: Option<LastLine>,
    /// The place.
    pub(crate) end: Position,
}

/// A line by which a file is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastLine {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// Where it begins.
    pub(crate) start: u64,
    /// A hash of its text.
    pub(crate) hash: i64,
}

/// Goes up when the same lines make other turns than before: what an earlier program made is then made anew.
const READING: i64 = 1;
/// The same of histories in a database, whose offsets count items: of what was read of a file nothing holds for them.
#[cfg(feature = "postgres")]
const READING_OF_ITEMS: i64 = 1_001;

const CHECKPOINT: &str = "SELECT * FROM turn_checkpoint WHERE thread_id = $1";
const PUT_CHECKPOINT: &str =
    "INSERT INTO turn_checkpoint(thread_id, reading, line, line_offset, line_hash, end_line, end_offset)
     VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT (thread_id) DO UPDATE SET reading = excluded.reading, line = excluded.line,
        line_offset = excluded.line_offset, line_hash = excluded.line_hash,
        end_line = excluded.end_line, end_offset = excluded.end_offset";
const COUNT: &str = "SELECT max(ordinal) + 1 AS found FROM turn WHERE thread_id = $1";
const LAST: &str = "SELECT * FROM turn WHERE thread_id = $1 ORDER BY ordinal DESC LIMIT 1";
const STATUS: &str = "SELECT status FROM turn WHERE thread_id = $1 AND turn_id = $2 ORDER BY ordinal LIMIT 1";
const PUT: &str =
    "INSERT INTO turn(thread_id, ordinal, turn_id, status, rolled_back, started_at, ended_at, user_text,
        agent_text, line_count, first_line, start_offset, end_offset)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
     ON CONFLICT (thread_id, ordinal) DO UPDATE SET
        status = excluded.status, rolled_back = excluded.rolled_back, ended_at = excluded.ended_at,
        user_text = excluded.user_text, agent_text = excluded.agent_text, line_count = excluded.line_count,
        end_offset = excluded.end_offset";
const ROLL_BACK: &str = "UPDATE turn SET rolled_back = 1
     WHERE thread_id = $1 AND ordinal IN (
        SELECT ordinal FROM turn WHERE thread_id = $1 AND rolled_back = 0 ORDER BY ordinal DESC LIMIT $2)";
const RECORD: &str = "INSERT INTO turn_anomaly(thread_id, line, kind)
     SELECT $1, $2, $3
     WHERE (SELECT count(*) FROM turn_anomaly WHERE thread_id = $1) < $4
     ON CONFLICT DO NOTHING";
const ANOMALIES: &str = "SELECT line, kind FROM turn_anomaly WHERE thread_id = $1 ORDER BY line, kind";
const FORGET: [&str; 3] = [
    "DELETE FROM turn WHERE thread_id = $1",
    "DELETE FROM turn_anomaly WHERE thread_id = $1",
    "DELETE FROM turn_checkpoint WHERE thread_id = $1",
];
const FIND: &str = "SELECT * FROM turn WHERE thread_id = $1 AND turn_id = $2 AND rolled_back = 0 LIMIT 1";
const PAGE_FORWARD: &str = "SELECT * FROM turn
     WHERE thread_id = $1 AND rolled_back = 0 AND ordinal > $2 ORDER BY ordinal LIMIT $3";
const PAGE_BACKWARD: &str = "SELECT * FROM turn
     WHERE thread_id = $1 AND rolled_back = 0 AND ordinal < $2 ORDER BY ordinal DESC LIMIT $3";

/// The turns of one thread, inside a transaction.
pub(crate) struct TurnTable<'s, S: Session> {
    session: &'s S,
    thread: &'s str,
}

impl Checkpoint {
    /// At this place, by this program's reading.
    pub(crate) fn at(end: Position, last: Option<LastLine>) -> Self {
        Self { reading: READING, last, end }
    }

    /// Behind so many items of a history in a database.
    #[cfg(feature = "postgres")]
    pub(crate) fn behind_items(items: u64) -> Self {
        Self { reading: READING_OF_ITEMS, last: None, end: Position { offset: items, line: items } }
    }

    /// How many items were read, if it was made by this program's reading of items.
    #[cfg(feature = "postgres")]
    pub(crate) fn items(&self) -> Option<u64> {
        (self.reading == READING_OF_ITEMS).then_some(self.end.offset)
    }

    /// Whether this program reads lines as the one that made it.
    pub(crate) fn is_of_this_reading(&self) -> bool {
        self.reading == READING
    }
}

impl<'s, S: Session> TurnTable<'s, S> {
    pub(crate) fn new(session: &'s S, thread: &'s str) -> Self {
        Self { session, thread }
    }

    pub(crate) fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        let rows = self.session.query(CHECKPOINT, &[self.thread.into()])?;
        rows.first()
            .map(|row| {
                let last = LastLine {
                    number: number(row, "line")?,
                    start: number(row, "line_offset")?,
                    hash: row.get("line_hash")?,
                };
                Ok(Checkpoint {
                    reading: row.get("reading")?,
                    last: (last.number > 0).then_some(last),
                    end: Position { offset: number(row, "end_offset")?, line: number(row, "end_line")? },
                })
            })
            .transpose()
    }

    pub(crate) fn put_checkpoint(&self, at: Checkpoint) -> Result<()> {
        let last = at.last.unwrap_or(LastLine { number: 0, start: 0, hash: 0 });
        let params = [
            self.thread.into(),
            at.reading.into(),
            (last.number as i64).into(),
            (last.start as i64).into(),
            last.hash.into(),
            (at.end.line as i64).into(),
            (at.end.offset as i64).into(),
        ];
        self.session.execute(PUT_CHECKPOINT, &params).map(drop)
    }

    /// Forgets all that was read of the transcript.
    pub(crate) fn forget(&self) -> Result<()> {
        for delete in FORGET {
            self.session.execute(delete, &[self.thread.into()])?;
        }
        Ok(())
    }

    /// Up to `wanted` turns that are not rolled back, behind this ordinal or (backwards) in front of it.
    pub(crate) fn page(&self, backwards: bool, from: Option<u64>, wanted: u64) -> Result<Vec<StoredTurn>> {
        let (sql, start) = if backwards { (PAGE_BACKWARD, i64::MAX) } else { (PAGE_FORWARD, -1) };
        let start = from.map_or(start, |from| i64::try_from(from).unwrap_or(i64::MAX));
        let rows = self.session.query(sql, &[self.thread.into(), start.into(), (wanted as i64).into()])?;
        rows.iter().map(stored).collect()
    }

    /// Where the turn of this id lies, unless it is rolled back.
    pub(crate) fn find(&self, turn: &str) -> Result<Option<Span>> {
        let rows = self.session.query(FIND, &[self.thread.into(), turn.into()])?;
        Ok(rows.first().map(stored).transpose()?.map(|found| found.lines))
    }

    /// What did not fit, in the order of the lines; at most the first thousand.
    pub(crate) fn anomalies(&self) -> Result<Vec<Anomaly>> {
        let rows = self.session.query(ANOMALIES, &[self.thread.into()])?;
        rows.iter()
            .map(|row| {
                let kind: String = row.get("kind")?;
                let kind = AnomalyKind::from_word(&kind).ok_or_else(unknown_word)?;
                Ok(Anomaly { line: number(row, "line")?, kind })
            })
            .collect()
    }
}

impl<S: Session> Turns for TurnTable<'_, S> {
    fn count(&self) -> Result<u64> {
        let rows = self.session.query(COUNT, &[self.thread.into()])?;
        let found: Option<i64> = rows.first().map(|row| row.get("found")).transpose()?.flatten();
        Ok(found.unwrap_or(0) as u64)
    }

    fn last(&self) -> Result<Option<StoredTurn>> {
        self.session.query(LAST, &[self.thread.into()])?.first().map(stored).transpose()
    }

    fn status(&self, id: &str) -> Result<Option<TurnStatus>> {
        let rows = self.session.query(STATUS, &[self.thread.into(), id.into()])?;
        rows.first().map(status).transpose()
    }

    fn put(&mut self, stored: &StoredTurn) -> Result<()> {
        let StoredTurn { turn, lines, rolled_back } = stored;
        let params: [Value; 13] = [
            self.thread.into(),
            (turn.ordinal as i64).into(),
            turn.id.as_str().into(),
            turn.status.as_str().into(),
            (*rolled_back).into(),
            turn.started_at.into(),
            turn.ended_at.into(),
            turn.user_text.clone().into(),
            turn.agent_text.clone().into(),
            (turn.line_count as i64).into(),
            (lines.first_line as i64).into(),
            (lines.start as i64).into(),
            (lines.end as i64).into(),
        ];
        self.session.execute(PUT, &params).map(drop)
    }

    fn roll_back(&mut self, count: u64) -> Result<()> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.session.execute(ROLL_BACK, &[self.thread.into(), count.into()]).map(drop)
    }

    fn record(&mut self, anomaly: &Anomaly) -> Result<()> {
        let params = [
            self.thread.into(),
            (anomaly.line as i64).into(),
            anomaly.kind.as_str().into(),
            MOST_ANOMALIES.into(),
        ];
        self.session.execute(RECORD, &params).map(drop)
    }
}

fn status(row: &Row) -> Result<TurnStatus> {
    let word: String = row.get("status")?;
    TurnStatus::from_word(&word).ok_or_else(unknown_word)
}

fn stored(row: &Row) -> Result<StoredTurn> {
    Ok(StoredTurn {
        turn: Turn {
            ordinal: number(row, "ordinal")?,
            id: row.get("turn_id")?,
            status: status(row)?,
            started_at: row.get("started_at")?,
            ended_at: row.get("ended_at")?,
            user_text: row.get("user_text")?,
            agent_text: row.get("agent_text")?,
            line_count: number(row, "line_count")?,
        },
        lines: Span {
            first_line: number(row, "first_line")?,
            start: number(row, "start_offset")?,
            end: number(row, "end_offset")?,
        },
        rolled_back: row.get("rolled_back")?,
    })
}

fn number(row: &Row, column: &str) -> Result<u64> {
    Ok(row.get::<i64>(column)?.max(0) as u64)
}

fn unknown_word() -> Error {
    Error::new(ErrorKind::SchemaTooNew, "a turn has a status that this version does not know")
        .advise("update the program")
}
