//! Turns of a transcript: read as far as it goes, kept with how far that was.
//!
//! Invariants:
//! - What is kept is what reading the whole file gives: a file that does not go on from where reading ended (restored,
//!   cut, replaced) is read anew.
//! - A transcript is read once; a list reads what was added since the last one.
//! - Two processes that read the same lines write them once.
//! - A line without its newline waits until it has one.
//!
//! Tests: `tests/c10_turns.rs`.

use std::hash::Hasher;
use std::path::Path;

use siphasher::sip::SipHasher13;

use super::memory::TurnList;
use super::model::Anomaly;
use super::projector::{Placed, Projector, Span, StoredTurn, Turns};
use super::query::TurnQuery;
use super::table::{Checkpoint, LastLine, TurnTable};
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::{Position, Reader, RolloutLine};
use crate::sqlite::Database;
use crate::stores::threads::tombstone;

/// What is read before it is written, at most: so little that it gets done within its deadline on a busy machine, too.
const PIECE_LINES: usize = 500;
const PIECE_BYTES: usize = 1 << 20;

/// Reads what was added to a transcript since the last time, and keeps its turns.
pub(crate) fn catch_up(state: &Database, thread: &str, path: &Path) -> Result<()> {
    'anew: loop {
        let mut seen = state.read(|at| TurnTable::new(at, thread).checkpoint())?;
        let Some(mut reader) = reader_behind(path, seen)? else {
            forget_if(state, thread, seen)?;
            continue;
        };
        loop {
            let piece = Piece::read(&mut reader)?;
            if piece.is_empty() {
                return Ok(());
            }
            let reached = piece.checkpoint(seen, reader.position());
            let wrote = state.write(|tx| {
                // Read before the thread was deleted, they would be its last trace.
                if path.symlink_metadata().is_err() || tombstone::stands(tx, thread)? {
                    return Err(Error::new(ErrorKind::NotFound, "the transcript was moved or removed"));
                }
                let mut turns = TurnTable::new(tx, thread);
                if turns.checkpoint()? != seen {
                    return Ok(false);
                }
                piece.project(&mut turns)?;
                turns.put_checkpoint(reached)?;
                Ok(true)
            })?;
            if !wrote {
                // Another process was faster.
                continue 'anew;
            }
            seen = Some(reached);
        }
    }
}

/// The turns of a transcript, read whole: where nothing can be kept.
pub(crate) fn read_whole(path: &Path) -> Result<TurnList> {
    let mut reader = Reader::open(path)?;
    let mut turns = TurnList::default();
    loop {
        let piece = Piece::read(&mut reader)?;
        if piece.is_empty() {
            return Ok(turns);
        }
        piece.project(&mut turns)?;
    }
}

/// Forgets what was read of a thread, so that the next list reads it anew.
pub(crate) fn forget(state: &Database, thread: &str) -> Result<()> {
    state.write(|tx| TurnTable::new(tx, thread).forget())
}

/// The same, unless somebody else read on meanwhile.
fn forget_if(state: &Database, thread: &str, seen: Option<Checkpoint>) -> Result<()> {
    state.write(|tx| {
        let turns = TurnTable::new(tx, thread);
        if turns.checkpoint()? == seen { turns.forget() } else { Ok(()) }
    })
}

/// Up to as many turns as the query wants, behind `start`, of those that are kept.
pub(crate) fn kept(
    state: &Database,
    thread: &str,
    query: &TurnQuery,
    start: Option<u64>,
) -> Result<Vec<StoredTurn>> {
    state.read(|at| TurnTable::new(at, thread).page(query.backwards(), start, query.wanted()))
}

/// Where the turn of this id lies, of those that are kept and not rolled back.
pub(crate) fn find(state: &Database, thread: &str, turn: &str) -> Result<Option<Span>> {
    state.read(|at| TurnTable::new(at, thread).find(turn))
}

/// True for what only keeps turns from being kept: the transcript can be read all the same.
pub(crate) fn is_of_the_database(error: &Error) -> bool {
    error.database().is_some()
}

/// A reader behind the checkpoint; `None` when the file is not the one that it was made in, or lines were read otherwise
/// then.
fn reader_behind(path: &Path, seen: Option<Checkpoint>) -> Result<Option<Reader>> {
    let Some(seen) = seen else { return Reader::open(path).map(Some) };
    if !seen.is_of_this_reading() {
        return Ok(None);
    }
    let Some(last) = seen.last else { return replaced_is_none(Reader::open_at(path, seen.end)) };
    let before = Position { offset: last.start, line: last.number - 1 };
    let Some(mut reader) = replaced_is_none(Reader::open_at(path, before))? else { return Ok(None) };
    let found = replaced_is_none(reader.next())?.flatten();
    if !found.is_some_and(|line| line.offset == last.start && hash(line.text) == last.hash) {
        return Ok(None);
    }
    // What comes before was decompressed once for both.
    Ok(replaced_is_none(reader.go_to(seen.end))?.map(|()| reader))
}

fn replaced_is_none<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Err(error) if error.kind() == ErrorKind::Replaced => Ok(None),
        answer => answer.map(Some),
    }
}

fn hash(text: &str) -> i64 {
    let mut hasher = SipHasher13::new();
    hasher.write(text.as_bytes());
    hasher.finish() as i64
}

/// Some lines that follow each other.
#[derive(Default)]
struct Piece {
    lines: Vec<Copied>,
    /// The numbers of those that are no records.
    bad: Vec<u64>,
}

struct Copied {
    number: u64,
    start: u64,
    end: u64,
    timestamp: Option<String>,
    kind: String,
    /// Only of an event: of any other line nothing is read.
    payload: String,
    hash: i64,
}

impl Copied {
    fn of(line: &RolloutLine<'_>, number: u64) -> Self {
        let event = line.kind == "event_msg";
        Self {
            number,
            start: line.offset,
            end: 0,
            timestamp: line.timestamp.map(str::to_owned),
            kind: line.kind.to_string(),
            payload: if event { line.payload.to_owned() } else { String::new() },
            hash: hash(line.text),
        }
    }
}

impl Piece {
    fn read(reader: &mut Reader) -> Result<Self> {
        let mut piece = Self::default();
        let known_bad = reader.bad_line_numbers().len();
        let mut bytes = 0;
        while piece.lines.len() < PIECE_LINES && bytes < PIECE_BYTES {
            let before = reader.position().line;
            let Some(line) = reader.next()? else { break };
            bytes += line.text.len();
            let number = line.number.unwrap_or(before + 1);
            let mut copied = Copied::of(&line, number);
            copied.end = reader.position().offset;
            piece.lines.push(copied);
        }
        piece.bad = reader.bad_line_numbers()[known_bad..].to_vec();
        Ok(piece)
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.bad.is_empty()
    }

    fn project(&self, turns: &mut impl Turns) -> Result<()> {
        let mut projector = Projector::resume(turns)?;
        for number in &self.bad {
            projector.bad_line(*number)?;
        }
        for line in &self.lines {
            projector.line(Placed {
                number: line.number,
                start: line.start,
                end: line.end,
                timestamp: line.timestamp.as_deref(),
                kind: &line.kind,
                payload: &line.payload,
            })?;
        }
        projector.finish()
    }

    /// Behind these lines, and behind the bad ones that follow them.
    fn checkpoint(&self, seen: Option<Checkpoint>, end: Position) -> Checkpoint {
        let last = self.lines.last();
        let last = last.map(|last| LastLine { number: last.number, start: last.start, hash: last.hash });
        Checkpoint::at(end, last.or(seen.and_then(|seen| seen.last)))
    }
}

/// What did not fit in what was kept of a thread.
pub(crate) fn anomalies(state: &Database, thread: &str) -> Result<Vec<Anomaly>> {
    state.read(|at| TurnTable::new(at, thread).anomalies())
}
