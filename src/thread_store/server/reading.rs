//! Histories and turns, read in pages: in memory is a page and what is asked for, however long a history is.

use serde_json::value::RawValue;

use super::super::store::{History as Items, not_found};
use super::super::transcript;
use super::super::turns::{
    self, Anomaly, Checkpoint, ItemsView, PAGE_BYTES, Placed, Projector, StoredTurn, TurnPage, TurnQuery,
    TurnTable, TurnWithItems,
};
use super::Inner;
use super::elsewhere::Where;
use super::items::{self, Stored};
use super::writer::History;
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::Item;
use crate::rollout::records::{Line, kind_of};
use crate::sql::Session;
use crate::stores::database::{Engine, StoreSession};

impl Inner {
    pub(super) fn load_history(&self, thread: &str) -> Result<Items<'static>> {
        let end = match self.elsewhere(thread)? {
            Where::Here(history) => history.items,
            Where::Elsewhere(path) => return transcript::items(&path),
        };
        let pages = Pages::new(&self.engine, thread, 0, end);
        Ok(Box::new(pages.flat_map(|page| match page {
            Ok(items) => items.into_iter().map(|item| Item::line(item.text)).collect(),
            Err(error) => vec![Err(error)],
        })))
    }

    /// Reads the items that were added since the last time, and keeps their turns.
    pub(super) fn catch_up(&self, thread: &str) -> Result<()> {
        loop {
            let (seen, page) = self.engine.read(|at| {
                let seen = TurnTable::new(at, thread).checkpoint()?;
                let from = seen.as_ref().and_then(Checkpoint::items).unwrap_or(0);
                Ok((seen, items::page(at, thread, from, u64::MAX)?))
            })?;
            // Made of a transcript, or by another version: they say nothing here.
            let stale = seen.is_some_and(|seen| seen.items().is_none());
            if page.is_empty() && !stale {
                return Ok(());
            }
            self.engine.write(|tx| {
                let mut turns = TurnTable::new(tx, thread);
                // Somebody else was faster, or the thread has gone.
                if turns.checkpoint()? != seen || History::of(tx, thread)?.is_none() {
                    return Ok(());
                }
                if stale {
                    turns.forget()?;
                }
                let Some(last) = page.last() else { return Ok(()) };
                let behind = last.seq + 1;
                project(&mut turns, &page)?;
                turns.put_checkpoint(Checkpoint::behind_items(behind))
            })?;
        }
    }

    pub(super) fn list_turns(&self, thread: &str, query: &TurnQuery) -> Result<TurnPage> {
        let start = query.start(thread)?;
        if let Where::Elsewhere(path) = self.elsewhere(thread)? {
            let turns = turns::read_whole(&path)?.page(query, start);
            return turns::page_of(&path, thread, query, turns, None);
        }
        self.catch_up(thread)?;
        let me = self.keeper.writer();
        let (shown, more) = self.engine.read(|at| {
            let written_from = known(at, thread)?.written_from(at, me)?;
            let mut turns = TurnTable::new(at, thread).page(query.backwards(), start, query.wanted())?;
            let there = turns.len();
            turns.truncate(query.limit_of_page());
            for turn in &mut turns {
                turn.settle(written_from);
            }
            let shown = with_items(at, thread, turns, query.view())?;
            let more = shown.len() < there;
            Ok((shown, more))
        })?;
        Ok(query.page(thread, shown, more))
    }

    pub(super) fn anomalies(&self, thread: &str) -> Result<Vec<Anomaly>> {
        if let Where::Elsewhere(path) = self.elsewhere(thread)? {
            return Ok(turns::read_whole(&path)?.anomalies);
        }
        self.catch_up(thread)?;
        self.engine.read(|at| TurnTable::new(at, thread).anomalies())
    }
}

/// # Errors
/// `NotFound`.
pub(super) fn known(at: &StoreSession<'_>, thread: &str) -> Result<History> {
    History::of(at, thread)?.ok_or_else(|| not_found(thread))
}

/// The pages of a history as it was when reading began.
pub(super) struct Pages {
    engine: Engine,
    thread: String,
    next: u64,
    end: u64,
}

impl Pages {
    /// Those of the items from `next` on and before `end`.
    pub(super) fn new(engine: &Engine, thread: &str, next: u64, end: u64) -> Self {
        Self { engine: engine.clone(), thread: thread.to_owned(), next, end }
    }
}

impl Iterator for Pages {
    type Item = Result<Vec<Stored>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let page = self.engine.read(|at| {
            let page = items::page(at, &self.thread, self.next, self.end)?;
            if page.first().is_none_or(|first| first.seq != self.next) {
                known(at, &self.thread)?;
                return Err(Error::new(ErrorKind::Corrupt, "a history lacks an item")
                    .advise("somebody removed it by hand: bring the server's database back from a backup"));
            }
            Ok(page)
        });
        // Behind an error the place is lost: going on would repeat it for ever.
        self.next = page.as_ref().ok().and_then(|page| page.last()).map_or(self.end, |last| last.seq + 1);
        Some(page)
    }
}

fn project(turns: &mut TurnTable<'_, StoreSession<'_>>, page: &[Stored]) -> Result<()> {
    let mut projector = Projector::resume(turns)?;
    for Stored { seq, text, .. } in page {
        let Ok(line) = serde_json::from_str::<Line<'_>>(text) else {
            projector.bad_line(seq + 1)?;
            continue;
        };
        projector.line(Placed::item(*seq, &line))?;
    }
    projector.finish()
}

/// The turns with as much of their items as the view shows; fewer than given when there would be too much. One that alone
/// has too much stands alone.
fn with_items(
    at: &StoreSession<'_>,
    thread: &str,
    turns: Vec<StoredTurn>,
    view: ItemsView,
) -> Result<Vec<TurnWithItems>> {
    let (mut shown, mut left) = (Vec::with_capacity(turns.len()), PAGE_BYTES);
    for StoredTurn { turn, lines, .. } in turns {
        let span = (lines.start, lines.end);
        let items = match view {
            ItemsView::None => Vec::new(),
            ItemsView::Summary => summary(at, thread, span)?,
            ItemsView::Full => {
                let most = if shown.is_empty() { usize::MAX } else { left };
                let Some(items) = full(at, thread, span, most)? else { break };
                left = left.saturating_sub(bytes(&items));
                items
            }
        };
        shown.push(TurnWithItems { turn, items });
    }
    Ok(shown)
}

fn bytes(items: &[Box<RawValue>]) -> usize {
    items.iter().map(|item| item.get().len()).sum()
}

/// `None` when there are more bytes than this.
fn full(
    at: &StoreSession<'_>,
    thread: &str,
    span: (u64, u64),
    most: usize,
) -> Result<Option<Vec<Box<RawValue>>>> {
    let (mut items, mut read) = (Vec::new(), 0_usize);
    let mut fits = true;
    each_page(at, thread, span, |page| {
        read = read.saturating_add(page.iter().map(|item| item.text.len()).sum());
        fits = read <= most;
        if fits {
            items.extend(page.into_iter().filter_map(|item| RawValue::from_string(item.text).ok()));
        }
        fits
    })?;
    Ok(fits.then_some(items))
}

/// What the person wrote first, and the last answer.
fn summary(at: &StoreSession<'_>, thread: &str, span: (u64, u64)) -> Result<Vec<Box<RawValue>>> {
    let (mut first, mut last) = (None, None);
    each_page(at, thread, span, |page| {
        for item in page.into_iter().filter(|item| item.kind == "event_msg") {
            let line = serde_json::from_str::<Line<'_>>(&item.text);
            match line.map(|line| kind_of(line.payload()).into_owned()).unwrap_or_default().as_str() {
                "user_message" if first.is_none() => first = RawValue::from_string(item.text).ok(),
                "agent_message" => last = RawValue::from_string(item.text).ok(),
                _ => {}
            }
        }
        true
    })?;
    Ok(first.into_iter().chain(last).collect())
}

/// `see` says whether to go on.
fn each_page(
    at: &impl Session,
    thread: &str,
    (mut next, end): (u64, u64),
    mut see: impl FnMut(Vec<Stored>) -> bool,
) -> Result<()> {
    while next < end {
        let page = items::page(at, thread, next, end)?;
        let Some(last) = page.last() else { break };
        next = last.seq + 1;
        if !see(page) {
            break;
        }
    }
    Ok(())
}
