//! From lines to turns.
//!
//! One state machine for every reader of a transcript: whoever reads it in pieces, whatever the pieces, gets the turns
//! that reading it at once gives. What must be remembered between two pieces is the turns themselves, the position and
//! whether the last one is still open.
//!
//! A turn begins with `task_started` (`turn_started`) or, in transcripts without these, with a `user_message`, and has
//! all lines up to its end. Lines before the first turn, and between an end and the next beginning, belong to none.
//! What does not fit is recorded and passed: nothing in a transcript stops the projection.
//!
//! Tests: here (each event, pieces against the whole for arbitrary lines), and `tests/c10_turns.rs` on files.

use serde::Deserialize;

use super::model::{Anomaly, AnomalyKind, Turn, TurnStatus};
use crate::error::Result;
use crate::rollout::records::{Lenient, Line};
use crate::rollout::scan::unix_ms;

/// Letters of a text that a list of turns shows.
const TEXT_LETTERS: usize = 400;
/// Letters of a turn's id that count.
const ID_LETTERS: usize = 200;

/// A turn, and where its lines lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredTurn {
    pub(crate) turn: Turn,
    pub(crate) lines: Span,
    pub(crate) rolled_back: bool,
}

/// Lines that follow each other, in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// The number of the first one, from 1.
    pub(crate) first_line: u64,
    /// The offset of its first byte.
    pub(crate) start: u64,
    /// The offset behind the last one.
    pub(crate) end: u64,
}

/// A line, and where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed<'a> {
    /// From 1.
    pub(crate) number: u64,
    pub(crate) start: u64,
    /// Behind its newline.
    pub(crate) end: u64,
    /// As it was written.
    pub(crate) timestamp: Option<&'a str>,
    pub(crate) kind: &'a str,
    /// As JSON.
    pub(crate) payload: &'a str,
}

impl<'a> Placed<'a> {
    /// Of a history that is kept as items: an offset is the number of an item there.
    pub(crate) fn item(seq: u64, line: &'a Line<'_>) -> Self {
        Self {
            number: seq + 1,
            start: seq,
            end: seq + 1,
            timestamp: line.timestamp.map(|time| time.get().trim_matches('"')),
            kind: &line.kind,
            payload: line.payload(),
        }
    }
}

/// Where turns are kept.
pub(crate) trait Turns {
    /// How many there are, rolled-back ones included.
    fn count(&self) -> Result<u64>;
    /// The last one.
    fn last(&self) -> Result<Option<StoredTurn>>;
    /// The status of the one with this id.
    fn status(&self, id: &str) -> Result<Option<TurnStatus>>;
    /// Writes one, in the place of the one with its ordinal.
    fn put(&mut self, turn: &StoredTurn) -> Result<()>;
    /// Marks the last `count` that are not rolled back.
    fn roll_back(&mut self, count: u64) -> Result<()>;
    /// Records what does not fit.
    fn record(&mut self, anomaly: &Anomaly) -> Result<()>;
}

/// Reads lines in their order.
pub(crate) struct Projector<'t, T: Turns> {
    turns: &'t mut T,
    /// The turn that the next line belongs to; it is put when it ends, and at [`finish`](Self::finish).
    open: Option<StoredTurn>,
    next_ordinal: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Event {
    #[serde(rename = "type")]
    kind: Lenient<String>,
    turn_id: Lenient<String>,
    message: Lenient<String>,
    last_agent_message: Lenient<String>,
    num_turns: Lenient<u64>,
}

impl<'t, T: Turns> Projector<'t, T> {
    /// Goes on behind the turns that are there.
    pub(crate) fn resume(turns: &'t mut T) -> Result<Self> {
        let next_ordinal = turns.count()?;
        let open =
            turns.last()?.filter(|last| last.turn.status == TurnStatus::InProgress && !last.rolled_back);
        Ok(Self { turns, open, next_ordinal })
    }

    /// The next line.
    pub(crate) fn line(&mut self, at: Placed<'_>) -> Result<()> {
        let mut event = Event::default();
        if at.kind == "event_msg" {
            // Of another shape than expected, it is a line like any other.
            event = serde_json::from_str(at.payload).unwrap_or_default();
            event.turn_id.0 = cut(event.turn_id.0.as_deref(), ID_LETTERS);
        }
        let time = at.timestamp.and_then(unix_ms);
        match event.kind.0.as_deref() {
            Some("task_started" | "turn_started") => return self.begins(at, event.turn_id.0, time),
            Some("user_message") => {
                let asks_again = |open: &StoredTurn| {
                    !named(open) && (open.turn.user_text.is_some() || open.turn.agent_text.is_some())
                };
                if self.open.as_ref().is_none_or(asks_again) {
                    self.open_turn(at, None, time)?;
                }
                self.extend(at);
                if let Some(open) = &mut self.open
                    && open.turn.user_text.is_none()
                {
                    // A message without words has a picture.
                    open.turn.user_text =
                        beginning(event.message.0.as_deref()).or_else(|| Some("[Image]".to_owned()));
                }
            }
            Some("agent_message") => {
                self.extend(at);
                self.answered(event.message.0.as_deref());
            }
            Some("error") => {
                self.extend(at);
                if let Some(open) = &mut self.open {
                    open.turn.ended_at = time;
                    self.close(TurnStatus::Failed)?;
                }
            }
            Some("task_complete" | "turn_complete") => {
                if self.ends(at, event.turn_id.0.as_deref(), time)? {
                    self.answered(event.last_agent_message.0.as_deref());
                    self.close(TurnStatus::Completed)?;
                }
            }
            Some("turn_aborted") => {
                if self.ends(at, event.turn_id.0.as_deref(), time)? {
                    self.close(TurnStatus::Interrupted)?;
                }
            }
            Some("thread_rolled_back") => {
                self.extend(at);
                self.close(TurnStatus::Interrupted)?;
                self.turns.roll_back(event.num_turns.0.unwrap_or(0))?;
            }
            _ => self.extend(at),
        }
        Ok(())
    }

    /// The next line is no record.
    pub(crate) fn bad_line(&mut self, number: u64) -> Result<()> {
        self.turns.record(&Anomaly { line: number, kind: AnomalyKind::BadLine })
    }

    /// Puts the turn that is open, which stays in progress.
    pub(crate) fn finish(self) -> Result<()> {
        if let Some(open) = &self.open {
            self.turns.put(open)?;
        }
        Ok(())
    }

    fn begins(&mut self, at: Placed<'_>, id: Option<String>, time: Option<i64>) -> Result<()> {
        let again = match &id {
            Some(id) => {
                self.open.as_ref().is_some_and(|open| open.turn.id == *id) || self.turns.status(id)?.is_some()
            }
            None => false,
        };
        if again {
            self.turns.record(&Anomaly { line: at.number, kind: AnomalyKind::Duplicate })?;
            self.extend(at);
            return Ok(());
        }
        self.open_turn(at, id, time)?;
        self.extend(at);
        Ok(())
    }

    /// Whether this is the end of the turn that is open.
    fn ends(&mut self, at: Placed<'_>, id: Option<&str>, time: Option<i64>) -> Result<bool> {
        let odd = match (&self.open, id) {
            (Some(open), Some(id)) if named(open) && open.turn.id != id => Some(id),
            (Some(_), _) => None,
            (None, Some(id)) => Some(id),
            // The end of a turn that failed, in a transcript that names none.
            (None, None) => return Ok(false),
        };
        self.extend(at);
        if let Some(id) = odd {
            let kind = match self.turns.status(id)? {
                // What failed has ended already, and its end is told after the error: no oddity.
                Some(TurnStatus::Failed) => return Ok(false),
                Some(_) => AnomalyKind::Duplicate,
                None => AnomalyKind::Gap,
            };
            self.turns.record(&Anomaly { line: at.number, kind })?;
            return Ok(false);
        }
        if let Some(open) = &mut self.open {
            open.turn.ended_at = time;
        }
        Ok(true)
    }

    /// Begins a turn with this line. One that was open was left by its program without a word.
    fn open_turn(&mut self, at: Placed<'_>, id: Option<String>, time: Option<i64>) -> Result<()> {
        if let Some(open) = &self.open {
            self.close(left(open))?;
        }
        let turn = Turn {
            ordinal: self.next_ordinal,
            id: id.unwrap_or_else(|| format!("{UNNAMED}{}", at.number)),
            status: TurnStatus::InProgress,
            started_at: time,
            ended_at: None,
            user_text: None,
            agent_text: None,
            line_count: 0,
        };
        self.next_ordinal += 1;
        let lines = Span { first_line: at.number, start: at.start, end: at.start };
        self.open = Some(StoredTurn { turn, lines, rolled_back: false });
        Ok(())
    }

    fn extend(&mut self, at: Placed<'_>) {
        if let Some(open) = &mut self.open {
            open.lines.end = at.end;
            open.turn.line_count += 1;
        }
    }

    fn answered(&mut self, text: Option<&str>) {
        if let (Some(open), Some(text)) = (&mut self.open, beginning(text)) {
            open.turn.agent_text = Some(text);
        }
    }

    fn close(&mut self, status: TurnStatus) -> Result<()> {
        if let Some(mut open) = self.open.take() {
            open.turn.status = status;
            self.turns.put(&open)?;
        }
        Ok(())
    }
}

impl StoredTurn {
    /// How a turn is shown that its transcript leaves open: in progress only where it begins behind what was there when
    /// whoever writes the thread now got it. One of an earlier writer is over.
    pub(crate) fn settle(&mut self, written_from: Option<u64>) {
        let is_at_it = written_from.is_some_and(|from| self.lines.start >= from);
        if self.turn.status == TurnStatus::InProgress && !is_at_it {
            self.turn.status = left(self);
        }
    }
}

/// What a turn is that its program left without a word: done when it was answered and the transcript names no turns, else
/// interrupted.
fn left(open: &StoredTurn) -> TurnStatus {
    let done = !named(open) && open.turn.agent_text.is_some();
    if done { TurnStatus::Completed } else { TurnStatus::Interrupted }
}

/// How the id of a turn begins that the transcript does not name.
const UNNAMED: &str = "line-";

fn named(turn: &StoredTurn) -> bool {
    !turn.turn.id.starts_with(UNNAMED)
}

fn beginning(text: Option<&str>) -> Option<String> {
    cut(text.map(str::trim), TEXT_LETTERS)
}

/// Without NUL, which not every engine stores; nothing when nothing is left.
fn cut(text: Option<&str>, letters: usize) -> Option<String> {
    let text: String = text?.chars().filter(|letter| *letter != '\0').take(letters).collect();
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::memory::TurnList;
    use super::*;
    use crate::rollout::records::Line;

    fn event(kind: &str, more: &str) -> String {
        format!(
            r#"{{"timestamp":"2026-01-01T00:00:00Z","type":"event_msg","payload":{{"type":"{kind}"{more}}}}}"#
        ) + "\n"
    }

    fn started(id: u8) -> String {
        event("task_started", &format!(r#","turn_id":"t{id}""#))
    }

    fn complete(id: u8) -> String {
        event("task_complete", &format!(r#","turn_id":"t{id}","last_agent_message":"answer {id}""#))
    }

    fn aborted(id: u8) -> String {
        event("turn_aborted", &format!(r#","turn_id":"t{id}""#))
    }

    fn user(text: &str) -> String {
        event("user_message", &format!(r#","message":"{text}""#))
    }

    fn agent(text: &str) -> String {
        event("agent_message", &format!(r#","message":"{text}""#))
    }

    fn rolled_back(count: u64) -> String {
        event("thread_rolled_back", &format!(r#","num_turns":{count}"#))
    }

    /// Reads the lines in pieces of these sizes, over and over.
    fn read(lines: &[String], pieces: &[usize]) -> TurnList {
        let mut turns = TurnList::default();
        let (mut number, mut start) = (0, 0);
        let mut sizes = pieces.iter().cycle();
        let mut rest = lines;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*sizes.next().expect("a size")).clamp(1, rest.len()));
            rest = after;
            let mut projector = Projector::resume(&mut turns).expect("turns in memory");
            for line in piece {
                number += 1;
                let end = start + line.len() as u64;
                match serde_json::from_str::<Line<'_>>(line) {
                    Ok(record) => {
                        let timestamp = record.timestamp.map(|time| time.get().trim_matches('"'));
                        let payload = record.payload.map_or("null", |payload| payload.get());
                        let at = Placed { number, start, end, timestamp, kind: &record.kind, payload };
                        projector.line(at).expect("a line");
                    }
                    Err(_) => projector.bad_line(number).expect("recorded"),
                }
                start = end;
            }
            projector.finish().expect("put");
        }
        turns
    }

    fn shown(turns: &TurnList) -> Vec<(String, TurnStatus)> {
        let visible = turns.turns.iter().filter(|turn| !turn.rolled_back);
        visible.map(|turn| (turn.turn.id.clone(), turn.turn.status)).collect()
    }

    fn of(lines: &[String]) -> Vec<(String, TurnStatus)> {
        shown(&read(lines, &[lines.len()]))
    }

    fn turn(id: &str, status: TurnStatus) -> (String, TurnStatus) {
        (id.to_owned(), status)
    }

    #[test]
    fn a_turn_ends_completed_interrupted_failed_or_is_in_progress() {
        use TurnStatus::*;
        let lines = [
            started(1),
            user("one"),
            agent("so"),
            complete(1),
            started(2),
            aborted(2),
            started(3),
            event("error", ""),
            complete(3),
            started(4),
            started(5),
            user("five"),
        ];
        let turns = read(&lines, &[99]);
        let all =
            [("t1", Completed), ("t2", Interrupted), ("t3", Failed), ("t4", Interrupted), ("t5", InProgress)];
        assert_eq!(shown(&turns), all.map(|(id, status)| turn(id, status)));
        assert_eq!(turns.anomalies, []);
        let first = &turns.turns[0];
        assert_eq!(first.turn.user_text.as_deref(), Some("one"));
        assert_eq!(first.turn.agent_text.as_deref(), Some("answer 1"));
        assert_eq!(
            (first.turn.started_at, first.turn.ended_at),
            (Some(1_767_225_600_000), Some(1_767_225_600_000))
        );
        assert_eq!(first.turn.line_count, 4);
        let length: usize = lines[..4].iter().map(String::len).sum();
        assert_eq!(first.lines, Span { first_line: 1, start: 0, end: length as u64 });
    }

    #[test]
    fn without_names_a_message_begins_a_turn() {
        use TurnStatus::*;
        let lines =
            [user("one"), agent("so"), user("two"), user("three"), agent("so"), event("task_complete", "")];
        let all = [turn("line-1", Completed), turn("line-3", Interrupted), turn("line-4", Completed)];
        assert_eq!(of(&lines), all);
    }

    #[test]
    fn a_second_message_in_a_named_turn_belongs_to_it() {
        let lines = [started(1), user("one"), user("and this"), complete(1)];
        let turns = read(&lines, &[99]);
        assert_eq!(shown(&turns), [turn("t1", TurnStatus::Completed)]);
        assert_eq!(turns.turns[0].turn.user_text.as_deref(), Some("one"));
    }

    #[test]
    fn what_was_rolled_back_is_hidden_and_rolled_back_once() {
        use TurnStatus::*;
        let mut lines: Vec<_> = (1..=4).flat_map(|id| [started(id), complete(id)]).collect();
        lines.push(rolled_back(1));
        lines.push(rolled_back(1));
        lines.extend([started(5), rolled_back(1), started(6)]);
        assert_eq!(of(&lines), [turn("t1", Completed), turn("t2", Completed), turn("t6", InProgress)]);
        assert_eq!(of(&[started(1), rolled_back(99)]), []);
    }

    #[test]
    fn duplicates_gaps_and_bad_lines_are_recorded_and_passed() {
        use AnomalyKind::*;
        let lines = [
            started(1),
            started(1),
            complete(1),
            complete(1),
            aborted(9),
            "{\"type\":\"event_msg\",\"payl\n".to_owned(),
            started(1),
            started(2),
            complete(2),
        ];
        let turns = read(&lines, &[99]);
        assert_eq!(shown(&turns), [turn("t1", TurnStatus::Completed), turn("t2", TurnStatus::Completed)]);
        let found: Vec<_> = turns.anomalies.iter().map(|odd| (odd.line, odd.kind)).collect();
        assert_eq!(found, [(2, Duplicate), (4, Duplicate), (5, Gap), (6, BadLine), (7, Duplicate)]);
    }

    #[test]
    fn texts_are_cut_and_hold_no_nul() {
        let long = "é".repeat(TEXT_LETTERS + 1);
        let turns = read(&[user(&long), agent("a\\u0000b")], &[9]);
        assert_eq!(
            turns.turns[0].turn.user_text.as_ref().map(|text| text.chars().count()),
            Some(TEXT_LETTERS)
        );
        assert_eq!(turns.turns[0].turn.agent_text.as_deref(), Some("ab"));
    }

    fn any_line() -> impl Strategy<Value = String> {
        prop_oneof![
            (1..5_u8).prop_map(started),
            (1..5_u8).prop_map(complete),
            (1..5_u8).prop_map(aborted),
            Just(user("words")),
            Just(agent("words")),
            Just(event("error", "")),
            (0..3_u64).prop_map(rolled_back),
            Just("{torn\n".to_owned()),
            Just("{\"type\":\"later\",\"payload\":7}\n".to_owned()),
            Just(event("task_started", "")),
            Just(event("turn_complete", "")),
        ]
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(
            lines in prop::collection::vec(any_line(), 0..40),
            pieces in prop::collection::vec(1_usize..9, 1..5),
        ) {
            let whole = read(&lines, &[lines.len().max(1)]);
            let parts = read(&lines, &pieces);
            prop_assert_eq!(&parts.turns, &whole.turns);
            prop_assert_eq!(&parts.anomalies, &whole.anomalies);
            for (place, turn) in whole.turns.iter().enumerate() {
                prop_assert_eq!(turn.turn.ordinal, place as u64);
            }
            let in_progress = whole.turns.iter().filter(|turn| turn.turn.status == TurnStatus::InProgress);
            prop_assert!(in_progress.count() <= 1);
        }
    }
}
