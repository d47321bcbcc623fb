//! The items of turns, read from the transcript.

use std::path::Path;

use serde_json::value::RawValue;

use super::projector::StoredTurn;
use super::query::{ItemsView, TurnPage, TurnQuery, TurnWithItems};
use crate::error::Result;
use crate::rollout::records::kind_of;
use crate::rollout::{Position, Reader, RolloutLine};

/// Bytes of items on a page, at most: a page that would have more is shorter, and goes on with its cursor. A turn that
/// alone has more stands alone.
pub(crate) const PAGE_BYTES: usize = 32 << 20;

/// The page of these turns of a transcript, which somebody writes from that byte on, or nobody: a turn that an earlier writer
/// left open is over.
pub(crate) fn page_of(
    path: &Path,
    thread: &str,
    query: &TurnQuery,
    mut turns: Vec<StoredTurn>,
    written_from: Option<u64>,
) -> Result<TurnPage> {
    let there = turns.len();
    turns.truncate(query.limit_of_page());
    for turn in &mut turns {
        turn.settle(written_from);
    }
    let shown = with_items(path, turns, query.view())?;
    let more = shown.len() < there;
    Ok(query.page(thread, shown, more))
}

/// The turns with as much of their lines as the view shows; fewer than given when there would be too much. The transcript is
/// read once, forwards, in whatever order the turns are: a compressed one has no other way.
fn with_items(path: &Path, mut turns: Vec<StoredTurn>, view: ItemsView) -> Result<Vec<TurnWithItems>> {
    if view == ItemsView::Full {
        turns.truncate(fitting(&turns));
    }
    let mut items: Vec<_> = turns.iter().map(|_| Vec::new()).collect();
    let mut in_file: Vec<_> = turns.iter().zip(&mut items).collect();
    in_file.sort_by_key(|(turn, _)| turn.lines.start);
    let mut reader = None;
    for (turn, items) in in_file {
        *items = match view {
            ItemsView::None => continue,
            ItemsView::Summary => summary(at(&mut reader, path, turn)?, turn)?,
            ItemsView::Full => full(at(&mut reader, path, turn)?, turn)?,
        };
    }
    let with = |(turn, items): (StoredTurn, _)| TurnWithItems { turn: turn.turn, items };
    Ok(turns.into_iter().zip(items).map(with).collect())
}

/// How many of these fit on a page: what is between two offsets is what its lines will take.
fn fitting(turns: &[StoredTurn]) -> usize {
    let mut left = PAGE_BYTES as u64;
    let fits = |turn: &&StoredTurn| {
        let long = turn.lines.end - turn.lines.start;
        let fits = long <= left;
        left = left.saturating_sub(long);
        fits
    };
    turns.iter().take_while(fits).count().max(1)
}

/// The reader, at the first line of this turn.
fn at<'r>(reader: &'r mut Option<Reader>, path: &Path, turn: &StoredTurn) -> Result<&'r mut Reader> {
    let begin = Position { offset: turn.lines.start, line: turn.lines.first_line - 1 };
    match reader {
        Some(reader) => {
            reader.go_to(begin)?;
            Ok(reader)
        }
        None => Ok(reader.insert(Reader::open_at(path, begin)?)),
    }
}

fn full(reader: &mut Reader, turn: &StoredTurn) -> Result<Vec<Box<RawValue>>> {
    let mut items = Vec::new();
    each_line(reader, turn, |line| items.extend(raw(line)))?;
    Ok(items)
}

/// What the person wrote first, and the last answer.
fn summary(reader: &mut Reader, turn: &StoredTurn) -> Result<Vec<Box<RawValue>>> {
    let (mut first, mut last) = (None, None);
    each_line(reader, turn, |line| {
        if line.kind != "event_msg" {
            return;
        }
        match kind_of(line.payload).as_ref() {
            "user_message" if first.is_none() => first = raw(line),
            "agent_message" => last = raw(line),
            _ => {}
        }
    })?;
    Ok(first.into_iter().chain(last).collect())
}

fn each_line(reader: &mut Reader, turn: &StoredTurn, mut see: impl FnMut(&RolloutLine<'_>)) -> Result<()> {
    while reader.position().offset < turn.lines.end {
        let Some(line) = reader.next()? else { break };
        if line.offset >= turn.lines.end {
            break;
        }
        see(&line);
    }
    Ok(())
}

fn raw(line: &RolloutLine<'_>) -> Option<Box<RawValue>> {
    // A reader shows only what is JSON.
    RawValue::from_string(line.text.to_owned()).ok()
}
