//! The items of turns, read from the transcript.

use std::path::Path;

use serde_json::value::RawValue;

use super::projector::StoredTurn;
use super::query::{ItemsView, TurnWithItems};
use crate::error::Result;
use crate::rollout::records::kind_of;
use crate::rollout::{Position, Reader, RolloutLine};

/// Bytes of items on a page, at most: a page that would have more is shorter, and goes on with its cursor. A turn that
/// alone has more stands alone.
const PAGE_BYTES: usize = 32 << 20;

/// The turns with as much of their lines as the view shows; fewer than given when there would be too much.
pub(crate) fn with_items(path: &Path, turns: Vec<StoredTurn>, view: ItemsView) -> Result<Vec<TurnWithItems>> {
    let mut page = Vec::with_capacity(turns.len());
    let mut bytes = 0;
    for turn in turns {
        let items = match view {
            ItemsView::None => Vec::new(),
            ItemsView::Summary => summary(path, &turn)?,
            ItemsView::Full => {
                // What is between two offsets is what its lines will take.
                let long = usize::try_from(turn.lines.end - turn.lines.start).unwrap_or(usize::MAX);
                if bytes + long > PAGE_BYTES && !page.is_empty() {
                    break;
                }
                full(path, &turn)?
            }
        };
        bytes += items.iter().map(|item| item.get().len()).sum::<usize>();
        page.push(TurnWithItems { turn: turn.turn, items });
    }
    Ok(page)
}

fn full(path: &Path, turn: &StoredTurn) -> Result<Vec<Box<RawValue>>> {
    let mut items = Vec::new();
    each_line(path, turn, |line| items.extend(raw(line)))?;
    Ok(items)
}

/// What the person wrote first, and the last answer.
fn summary(path: &Path, turn: &StoredTurn) -> Result<Vec<Box<RawValue>>> {
    let (mut first, mut last) = (None, None);
    each_line(path, turn, |line| {
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

fn each_line(path: &Path, turn: &StoredTurn, mut see: impl FnMut(&RolloutLine<'_>)) -> Result<()> {
    let begin = Position { offset: turn.lines.start, line: turn.lines.first_line - 1 };
    let mut reader = Reader::open_at(path, begin)?;
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
