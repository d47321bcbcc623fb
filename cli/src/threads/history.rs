//! The turns of a thread, one after the other, as a person reads them. In memory is one page of them.

use std::sync::Arc;

use anyhow::Result;
use rowhouse::Home;
use rowhouse::rollout::Item;
use rowhouse::stores::{Direction, ThreadRow, Threads};
use rowhouse::thread_store::{ItemsView, ThreadStore, Turn, TurnPage, TurnQuery};

use super::entries::{self, Told};
use crate::open;

/// Turns that are read at once.
const AT_ONCE: u32 = 20;
/// Lines that are read at once of a thread without turns.
const LINES_AT_ONCE: usize = 1_000;

/// The store of a home that is there, and the thread whose id this is, or ends so.
pub(super) fn find(home: &Home, id: &str) -> Result<(Arc<dyn ThreadStore>, String)> {
    let (store, threads) = store(home)?;
    Ok((store, threads.find_id(id)?))
}

/// The store of a home that is there, and the rows of its threads. Looking creates none.
pub(super) fn store(home: &Home) -> Result<(Arc<dyn ThreadStore>, Threads)> {
    let runtime = open::state(home)?;
    Ok((runtime.thread_store()?, runtime.threads()))
}

/// Up to so many of the newest turns, oldest first; all of them without a number. A thread whose lines make no turns is
/// shown without them, all of it.
pub(super) fn each_turn(
    store: &dyn ThreadStore,
    thread: &str,
    newest: Option<u32>,
    mut see: impl FnMut(Option<&Turn>, Told) -> Result<()>,
) -> Result<()> {
    let mut cursor = newest.map(|newest| before_newest(store, thread, newest)).transpose()?.flatten();
    let mut any = false;
    loop {
        let mut query = TurnQuery::new().items(ItemsView::Full).limit(AT_ONCE);
        query = cursor.into_iter().fold(query, TurnQuery::cursor);
        let page = store.list_turns(thread, &query)?;
        for turn in &page.turns {
            any = true;
            see(Some(&turn.turn), entries::read(turn.items.iter().map(AsRef::as_ref)))?;
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if any { Ok(()) } else { each_piece(store, thread, see) }
}

/// A cursor that goes on, oldest first, with so many of the newest turns; `None` for all there are.
fn before_newest(store: &dyn ThreadStore, thread: &str, newest: u32) -> Result<Option<String>> {
    let descending = || TurnQuery::new().direction(Direction::Descending);
    let TurnPage { next_cursor: Some(next), .. } = store.list_turns(thread, &descending().limit(newest))?
    else {
        return Ok(None);
    };
    Ok(store.list_turns(thread, &descending().limit(1).cursor(next))?.backwards_cursor)
}

fn each_piece(
    store: &dyn ThreadStore,
    thread: &str,
    mut see: impl FnMut(Option<&Turn>, Told) -> Result<()>,
) -> Result<()> {
    let mut items = store.load_history(thread)?;
    loop {
        let piece = items.by_ref().take(LINES_AT_ONCE).collect::<rowhouse::Result<Vec<_>>>()?;
        if piece.is_empty() {
            return Ok(());
        }
        see(None, entries::read_texts(piece.iter().map(Item::text)))?;
    }
}

/// The user's name for it, else its title.
pub(super) fn title(thread: &ThreadRow) -> &str {
    let title = thread.name.as_ref().or(thread.title.as_ref()).or(thread.preview.as_ref());
    title.map_or("a thread without a title", String::as_str)
}
