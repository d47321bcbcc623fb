//! `rowhouse threads turns`: what a person asked, and how it ended.

use anyhow::Result;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use rowhouse::Home;
use rowhouse::stores::Direction;
use rowhouse::thread_store::{ItemsView, Turn, TurnPage, TurnQuery, TurnStatus};
use serde::Serialize;
use serde_json::value::RawValue;

use super::history::find;
use crate::output::{self, Output};
use crate::table::{Table, age, fit, rfc3339_option, time};
use crate::who::duration;

/// Where the texts stand.
const ASKED: usize = 4;

#[derive(Args)]
pub(super) struct TurnsArguments {
    /// The thread; the beginning or the end of its id is enough
    #[arg(value_name = "ID")]
    id: String,
    /// How much of each turn `--json` has: no lines, what was asked and answered, or all its lines
    #[arg(long, value_enum, default_value_t = Items::None)]
    items: Items,
    /// Newest first
    #[arg(long)]
    desc: bool,
    /// Turns on a page
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Where the page before this one ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Items {
    None,
    Summary,
    Full,
}

/// One page.
#[derive(Serialize)]
struct Page {
    turns: Vec<WithItems>,
    next_cursor: Option<String>,
    backwards_cursor: Option<String>,
}

#[derive(Serialize)]
struct WithItems {
    #[serde(flatten)]
    turn: Row,
    items: Vec<Box<RawValue>>,
}

/// One turn.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    ordinal: u64,
    id: String,
    status: TurnStatus,
    #[serde(serialize_with = "rfc3339_option")]
    started_at: Option<i64>,
    #[serde(serialize_with = "rfc3339_option")]
    ended_at: Option<i64>,
    /// The beginning of what the person wrote.
    user_text: Option<String>,
    /// The beginning of the last answer.
    agent_text: Option<String>,
    line_count: u64,
}

impl Row {
    pub(super) fn of(turn: &Turn) -> Self {
        let Turn { ordinal, id, status, started_at, ended_at, user_text, agent_text, line_count } =
            turn.clone();
        Self { ordinal, id, status, started_at, ended_at, user_text, agent_text, line_count }
    }
}

impl Page {
    fn of(page: TurnPage) -> Self {
        let with_items = |turn: rowhouse::thread_store::TurnWithItems| WithItems {
            turn: Row::of(&turn.turn),
            items: turn.items,
        };
        Self {
            turns: page.turns.into_iter().map(with_items).collect(),
            next_cursor: page.next_cursor,
            backwards_cursor: page.backwards_cursor,
        }
    }
}

pub(super) fn run(home: &Home, arguments: &TurnsArguments, output: &Output) -> Result<()> {
    let (store, id) = find(home, &arguments.id)?;
    let direction = if arguments.desc { Direction::Descending } else { Direction::Ascending };
    let items = match arguments.items {
        // A table has no room for them.
        _ if !output.is_json() => ItemsView::None,
        Items::None => ItemsView::None,
        Items::Summary => ItemsView::Summary,
        Items::Full => ItemsView::Full,
    };
    let query = TurnQuery::new().direction(direction).items(items).limit(arguments.limit);
    let query = arguments.cursor.iter().fold(query, TurnQuery::cursor);
    let page = Page::of(store.list_turns(&id, &query)?);
    if output.is_json() {
        return output.document(&page);
    }
    if page.turns.is_empty() {
        return output.text("no turns\n");
    }
    output.text(&table(&page.turns, output::width()))?;
    if arguments.items != Items::None {
        output::note("the lines of each turn: --json, or rowhouse threads show");
    }
    if let Some(cursor) = &page.next_cursor {
        output::more(cursor);
    }
    Ok(())
}

/// A line for each turn. Cut to `width` columns; nothing is cut without one.
fn table(turns: &[WithItems], width: Option<usize>) -> String {
    let header = ["turn", "begun", "took", "status", "asked", "answered", "id"];
    let now = Timestamp::now();
    let one_line = |text: &Option<String>| {
        text.as_deref().unwrap_or_default().lines().map(str::trim).collect::<Vec<_>>().join(" ")
    };
    // What was answered goes first where there is no room: what was asked tells more.
    let answer = |text: String| width.map_or_else(|| text.clone(), |width| fit(&text, width / 4));
    let mut table = Table::new(&header).right(&[0, 2]).fit(width, ASKED, &[2, ASKED + 1, 1, 6, 3]);
    for WithItems { turn, .. } in turns {
        let took = turn.started_at.zip(turn.ended_at).map(|(start, end)| duration((end - start) / 1000));
        table.row(&[
            (turn.ordinal + 1).to_string(),
            turn.started_at.map_or_else(String::new, |at| age(time(at), now)),
            took.unwrap_or_default(),
            turn.status.as_str().replace('_', " "),
            one_line(&turn.user_text),
            answer(one_line(&turn.agent_text)),
            turn.id.clone(),
        ]);
    }
    table.render()
}
