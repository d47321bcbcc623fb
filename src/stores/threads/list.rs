//! One page of a list: which index is walked, and how far.
//!
//! | filters | walk |
//! |---|---|
//! | of all, or one folder | one index, as many rows as the page |
//! | up to 64 folders | eight walks of folders merged by a statement, the statements merged here |
//! | sources, model providers, more folders | one index, every row looked at, up to the budget; then a short page |
//! | children, descendants | the threads below, one by one: at most as many as a walk of edges answers |
//!
//! Tests: `tests/contract/threads.rs` (nothing skipped, nothing repeated), `tests/threads_cost.rs` (rows looked at).

use std::cmp::Ordering;
use std::collections::HashSet;

use super::cursor::Cursor;
use super::filter::{Filter, json};
use super::query::{Direction, ThreadQuery};
use super::row::ThreadRow;
use super::{ThreadPage, sql};
use crate::error::Result;
use crate::sql::{Session, Value};
use crate::stores::database::StoreSession;
use crate::stores::spawn_edges;

/// The most folders that are walked one by one; of more, every thread is looked at.
const FOLDERS_WALKED: usize = 64;

/// What a walk found: up to one thread more than the page holds, or where it gave up.
struct Found {
    threads: Vec<ThreadRow>,
    gave_up_at: Option<Cursor>,
}

pub(super) fn page(at: &StoreSession<'_>, query: &ThreadQuery, start: &Cursor) -> Result<ThreadPage> {
    let Found { mut threads, gave_up_at } = walk(at, query, start)?;
    let more = threads.len() > query.page_size();
    threads.truncate(query.page_size());
    let scope = query.scope();
    let next_cursor = if more { threads.last().map(|last| Cursor::after(scope, last)) } else { gave_up_at };
    let backwards_cursor = threads.first().map(|first| Cursor::after(scope.reversed(), first));
    Ok(ThreadPage {
        threads,
        next_cursor: next_cursor.map(|cursor| cursor.to_string()),
        backwards_cursor: backwards_cursor.map(|cursor| cursor.to_string()),
        // Whoever asks for a page adds it.
        partial: false,
    })
}

fn walk(at: &StoreSession<'_>, query: &ThreadQuery, start: &Cursor) -> Result<Found> {
    let filter = &query.filter;
    if let Some(ids) = ids_below(at, filter)? {
        let mut params = first_params(query, start).to_vec();
        params.push(ids);
        params.extend(filter.row_params());
        params.push(filter.folder_param());
        return whole(sorted_rows(at, sql::page_among(query), &params)?);
    }
    match filter.folders() {
        Some([one]) if filter.looks_into_rows() => {
            let params = scan_params(query, start, one.as_str().into());
            let place = [place_params(query, start).as_slice(), &[one.as_str().into()]].concat();
            scan(at, query, (sql::scan_of_folder(query), &params), (sql::place_in_folder(query), &place))
        }
        Some([one]) => {
            let params = [first_params(query, start).as_slice(), &[one.as_str().into()]].concat();
            whole(rows(at, sql::page_of_folder(query), &params)?)
        }
        Some(folders) if folders.len() <= FOLDERS_WALKED && !filter.looks_into_rows() => {
            whole(merged(at, query, start, folders)?)
        }
        None if !filter.looks_into_rows() => whole(rows(at, sql::page(query), &first_params(query, start))?),
        None | Some(_) => {
            let params = scan_params(query, start, filter.folder_param());
            scan(at, query, (sql::scan(query), &params), (sql::place(query), &place_params(query, start)))
        }
    }
}

/// The ids that children and descendants leave, as a parameter; `None` when neither is asked for.
pub(super) fn ids_below(at: &impl Session, filter: &Filter) -> Result<Option<Value>> {
    let children = filter.parent.as_deref().map(|id| spawn_edges::children_of(at, id)).transpose()?;
    let below = filter.ancestor.as_deref().map(|id| spawn_edges::descendants_of(at, id)).transpose()?;
    let ids = match (children, below) {
        (None, None) => return Ok(None),
        (Some(ids), None) | (None, Some(ids)) => ids,
        (Some(children), Some(below)) => {
            let below: HashSet<_> = below.into_iter().collect();
            children.into_iter().filter(|id| below.contains(id)).collect()
        }
    };
    Ok(Some(json(Some(&ids))))
}

/// Several folders are merged walks, each of up to eight folders.
fn merged(
    at: &StoreSession<'_>,
    query: &ThreadQuery,
    start: &Cursor,
    folders: &[String],
) -> Result<Vec<ThreadRow>> {
    let text =
        if at.is_on_server() { sql::page_of_folders_on_server(query) } else { sql::page_of_folders(query) };
    let mut found = Vec::new();
    for eight in folders.chunks(sql::FOLDERS_PER_WALK) {
        let mut params = first_params(query, start).to_vec();
        params.extend(eight.iter().map(|folder| Value::from(folder.as_str())));
        params.resize(3 + sql::FOLDERS_PER_WALK, Value::Null);
        found.extend(rows(at, text, &params)?);
    }
    if folders.len() > sql::FOLDERS_PER_WALK {
        found.sort_by(|a, b| order(query, a, b));
        found.truncate(query.page_size() + 1);
    }
    Ok(found)
}

fn order(query: &ThreadQuery, a: &ThreadRow, b: &ThreadRow) -> Ordering {
    let ascending = (query.sort.of(a), &a.id).cmp(&(query.sort.of(b), &b.id));
    match query.direction {
        Direction::Ascending => ascending,
        Direction::Descending => ascending.reverse(),
    }
}

/// Looks at rows one by one. When they did not fill the page: was it the end, or the budget's?
fn scan(
    at: &impl Session,
    query: &ThreadQuery,
    (text, params): (&str, &[Value]),
    (place, place_params): (&str, &[Value]),
) -> Result<Found> {
    let threads = rows(at, text, params)?;
    if threads.len() > query.page_size() {
        return whole(threads);
    }
    let gave_up_at = match at.query(place, place_params)?.first() {
        Some(last) => Some(Cursor::behind(query.scope(), last.get(query.sort.column())?, last.get("id")?)),
        None => None,
    };
    Ok(Found { threads, gave_up_at })
}

#[expect(clippy::unnecessary_wraps, reason = "it ends the arms of a match that answers results")]
fn whole(threads: Vec<ThreadRow>) -> Result<Found> {
    Ok(Found { threads, gave_up_at: None })
}

pub(super) fn rows(at: &impl Session, text: &str, params: &[Value]) -> Result<Vec<ThreadRow>> {
    at.query(text, params)?.iter().map(ThreadRow::from_row).collect()
}

/// Where to start, and one row more than the page holds.
fn first_params(query: &ThreadQuery, start: &Cursor) -> [Value; 3] {
    [start.value.into(), start.id.as_str().into(), (query.page_size() as i64 + 1).into()]
}

fn scan_params(query: &ThreadQuery, start: &Cursor, folders: Value) -> Vec<Value> {
    let mut params = first_params(query, start).to_vec();
    params.push(query.budget().into());
    params.extend(query.filter.row_params());
    params.push(folders);
    params
}

fn place_params(query: &ThreadQuery, start: &Cursor) -> [Value; 3] {
    [start.value.into(), start.id.as_str().into(), (query.budget() - 1).into()]
}

/// The rows of a text that sorts, and so answers their ids.
pub(super) fn sorted_rows(at: &impl Session, text: &str, params: &[Value]) -> Result<Vec<ThreadRow>> {
    let mut found = Vec::new();
    for row in at.query(text, params)? {
        found.extend(rows(at, sql::LISTED, &[row.get::<String>("id")?.into()])?);
    }
    Ok(found)
}
