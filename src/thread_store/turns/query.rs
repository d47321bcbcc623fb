//! Which turns of a thread to list: direction, page size, how much of each, and where to go on.
//!
//! A cursor is the ordinal of the last turn of a page, with the thread and the direction it is good for. Turns that are
//! added behind it, or rolled back meanwhile, move nothing else.

use serde::{Deserialize, Serialize};

use super::model::{Turn, TurnStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::stores::threads::Direction;

/// How much of a turn a page carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemsView {
    /// None of its items.
    #[default]
    None,
    /// What the person wrote and the last answer.
    Summary,
    /// All of them, as they stand in the transcript.
    Full,
}

/// The turns of a thread, to be asked for page by page. Default: oldest first, 50 a page, without items.
///
/// ```
/// use rowhouse::stores::Direction;
/// use rowhouse::thread_store::{ItemsView, TurnQuery};
/// let query = TurnQuery::new().direction(Direction::Descending).items(ItemsView::Summary).limit(10);
/// assert_ne!(query, TurnQuery::new());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnQuery {
    direction: Direction,
    items: ItemsView,
    limit: u32,
    cursor: Option<String>,
}

impl Default for TurnQuery {
    fn default() -> Self {
        Self::new()
    }
}

impl TurnQuery {
    const LARGEST_PAGE: u32 = 500;

    /// All turns of a thread, oldest first.
    pub fn new() -> Self {
        Self { direction: Direction::Ascending, items: ItemsView::None, limit: 50, cursor: None }
    }

    /// Starts at this end. Default [`Direction::Ascending`].
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// How much of each turn. Default [`ItemsView::None`].
    #[must_use]
    pub fn items(mut self, items: ItemsView) -> Self {
        self.items = items;
        self
    }

    /// Turns per page, 1 to 500; checked when listing. Default 50.
    #[must_use]
    pub fn limit(mut self, turns: u32) -> Self {
        self.limit = turns;
        self
    }

    /// Goes on where a page of the same thread ended, or (in the opposite direction) began.
    #[must_use]
    pub fn cursor(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }

    pub(crate) fn view(&self) -> ItemsView {
        self.items
    }

    pub(crate) fn backwards(&self) -> bool {
        self.direction == Direction::Descending
    }

    /// One more than the page holds, so that its end is known.
    pub(crate) fn wanted(&self) -> u64 {
        u64::from(self.limit) + 1
    }

    /// The ordinal that the page begins behind; `None` at the end that the direction starts from.
    pub(crate) fn start(&self, thread: &str) -> Result<Option<u64>> {
        if !(1..=Self::LARGEST_PAGE).contains(&self.limit) {
            return Err(Error::new(ErrorKind::Invalid, "a page holds 1 to 500 turns")
                .advise("ask for less and go on with the next cursor"));
        }
        self.cursor.as_deref().map(|text| parse(text, thread, self.direction)).transpose()
    }

    /// How many turns a page holds.
    pub(crate) fn limit_of_page(&self) -> usize {
        self.limit as usize
    }

    /// A page of these turns; `more` when there are others behind them.
    pub(crate) fn page(&self, thread: &str, turns: Vec<TurnWithItems>, more: bool) -> TurnPage {
        let cursor = |turn: &TurnWithItems, direction| cursor(thread, direction, turn.turn.ordinal);
        TurnPage {
            next_cursor: turns.last().filter(|_| more).map(|last| cursor(last, self.direction)),
            backwards_cursor: turns.first().map(|first| cursor(first, self.direction.reversed())),
            turns,
        }
    }
}

/// One page of turns.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TurnPage {
    /// The turns, in the order asked for; rolled-back ones are left out.
    pub turns: Vec<TurnWithItems>,
    /// Where the next page starts; `None` at the end.
    pub next_cursor: Option<String>,
    /// For the opposite direction: what lies before this page. Kept from the last page, it catches up on what came
    /// later.
    pub backwards_cursor: Option<String>,
}

/// A turn, with as much of it as was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TurnWithItems {
    /// The turn.
    #[serde(flatten)]
    pub turn: Turn,
    /// Its items, as they stand in the transcript; empty with [`ItemsView::None`].
    pub items: Vec<Box<serde_json::value::RawValue>>,
}

impl TurnWithItems {
    /// Whether nobody is at it any more.
    pub fn has_ended(&self) -> bool {
        self.turn.status != TurnStatus::InProgress
    }
}

/// The first letters of every cursor: what it is, and the version of its form.
const FORM: &str = "n1";

fn cursor(thread: &str, direction: Direction, ordinal: u64) -> String {
    format!("{FORM}{}-{}-{ordinal:x}", letter(direction), thread.replace('-', ""))
}

fn letter(direction: Direction) -> char {
    match direction {
        Direction::Ascending => 'a',
        Direction::Descending => 'd',
    }
}

fn parse(text: &str, thread: &str, direction: Direction) -> Result<u64> {
    let parts = || {
        let (walks, rest) = text.strip_prefix(FORM)?.split_once('-')?;
        let (of, ordinal) = rest.split_once('-')?;
        let walks = [Direction::Ascending, Direction::Descending]
            .into_iter()
            .find(|way| walks == letter(*way).to_string())?;
        Some((walks, of, u64::from_str_radix(ordinal, 16).ok()?))
    };
    let Some((walks, of, ordinal)) = parts() else {
        return Err(Error::new(ErrorKind::Invalid, "this is no cursor of a list of turns")
            .advise("pass next_cursor or backwards_cursor of a page unchanged, or start without a cursor"));
    };
    if of != thread.replace('-', "") {
        return Err(Error::new(ErrorKind::Invalid, "the cursor belongs to another thread")
            .advise("start without a cursor"));
    }
    if walks != direction {
        return Err(Error::new(ErrorKind::Invalid, "the cursor walks in the other direction").advise(
            "next_cursor goes with the direction of its query, backwards_cursor with the opposite one",
        ));
    }
    Ok(ordinal)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREAD: &str = "019b76da-5a3e-7c41-9d52-0c1f9a6be001";

    fn refused(query: &TurnQuery, thread: &str) {
        assert_eq!(query.start(thread).expect_err("refused").kind(), ErrorKind::Invalid);
    }

    #[test]
    fn a_cursor_is_good_for_its_thread_and_direction() {
        let text = cursor(THREAD, Direction::Descending, 300);
        let query = TurnQuery::new().direction(Direction::Descending).cursor(&text);
        assert_eq!(query.start(THREAD).expect("its own"), Some(300));
        refused(&TurnQuery::new().cursor(&text), THREAD);
        refused(&query, "019b76da-5a3e-7c41-9d52-0c1f9a6be002");
    }

    #[test]
    fn what_is_no_cursor_and_a_page_of_a_wrong_size_are_refused() {
        for text in ["", "n1", "n1a-", "n1a-x-", "t1a-x-1", "n1b-x-1", "n1a-x-zz"] {
            refused(&TurnQuery::new().cursor(text), THREAD);
        }
        for limit in [0, 501] {
            refused(&TurnQuery::new().limit(limit), THREAD);
        }
    }
}
