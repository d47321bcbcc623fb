//! One page: a walk by id, or by the ids of some threads, that ends when the page is full or the budget is spent.
//!
//! Invariants:
//! - Each window of ids is looked at whole, or up to the id that is reported as reached. So the next page, which begins
//!   behind that id, neither skips nor repeats a row; whatever was written or deleted meanwhile has ids of its own.
//! - No statement answers more than [`BATCH`] rows, or [`WINDOW_OF_THREADS`] of few threads, so memory is bounded
//!   whatever the rows hold.
//! - A page looks at [`ROW_BUDGET`] rows and [`BYTE_BUDGET`], and at what one window more holds. Where ids are missing,
//!   what is left between two windows is jumped over.
//!
//! Tests: `tests/logs_read.rs`, `tests/f3_logs_at_the_cap.rs`.

use super::filter::Filter;
use super::ids::{Ids, first};
use super::model::LogRow;
use super::sql;
use crate::error::Result;
use crate::sql::{Row, Session, Value};
use crate::stores::threads::Direction;

/// The most rows that a page looks at. A page that found less than its limit by then is short, and has a cursor.
pub const ROW_BUDGET: u64 = 10_000;

/// The most bytes of rows that a page compares or answers; it may be short for them as well.
pub const BYTE_BUDGET: u64 = 8 << 20;

/// Up to so many threads are looked up by the index. Each costs a few searches for every page and every 64 of its rows.
pub const THREADS_BY_INDEX: usize = 8;

/// Ids that one statement looks at.
const WINDOW: i64 = 2048;
/// Rows that one statement answers: 16 MiB of the largest there are.
const BATCH: usize = 256;
/// Rows that the windows of some threads hold together.
const WINDOW_OF_THREADS: usize = 512;

/// What a page found.
pub(super) struct Found {
    pub(super) rows: Vec<LogRow>,
    /// What is still to be looked at; `None` when there is no row left there.
    pub(super) ahead: Option<Ids>,
    /// Rows that were looked at; where rows were deleted it counts some of those too.
    pub(super) scanned: u64,
}

/// Rows of some ids, in the order of the walk.
struct Window {
    rows: Vec<Row>,
    /// The last id that was looked at.
    reached: i64,
    scanned: u64,
}

/// Walks through `ahead` until `wanted` rows are found.
pub(super) fn scan(at: &impl Session, filter: &Filter, mut ahead: Ids, wanted: usize) -> Result<Found> {
    let (mut rows, mut scanned, mut bytes) = (Vec::new(), 0, 0);
    loop {
        let full = rows.len() >= wanted || scanned >= ROW_BUDGET || bytes >= BYTE_BUDGET;
        if full {
            let more = first(at, filter.direction, ahead)?.is_some();
            return Ok(Found { rows, ahead: more.then_some(ahead), scanned });
        }
        let window = match filter.by_index() {
            Some(threads) => window_of_threads(at, filter, threads, ahead)?,
            None => window(at, filter, ahead, wanted - rows.len())?,
        };
        let Some(mut window) = window else { return Ok(Found { rows, ahead: None, scanned }) };
        for row in window.rows {
            bytes += row.get::<i64>("bytes")?.unsigned_abs();
            if filter.matches(&row)? {
                rows.push(LogRow::from_row(&row)?);
                if rows.len() == wanted {
                    window.reached = row.get("id")?;
                    break;
                }
            }
        }
        scanned += window.scanned;
        ahead = ahead.behind(filter.direction, window.reached);
    }
}

/// The next ids of the table. `None` when no row is left.
fn window(at: &impl Session, filter: &Filter, ahead: Ids, wanted: usize) -> Result<Option<Window>> {
    let Some(begin) = first(at, filter.direction, ahead)? else { return Ok(None) };
    let most = if filter.is_decided_here() { BATCH } else { wanted.min(BATCH) };
    let near = Ids { low: begin.id.saturating_sub(WINDOW - 1), high: begin.id.saturating_add(WINDOW - 1) };
    let ids = ahead.and(near);
    let mut params = bounds(ids, filter);
    params.push((most as i64).into());
    let rows = at.query(sql::ROWS.of(filter.direction), &params)?;
    // When it was cut there may be more behind its last row.
    let reached = match rows.last() {
        Some(last) if rows.len() == most => last.get("id")?,
        _ => ids.end(filter.direction),
    };
    let scanned = reached.abs_diff(begin.id).saturating_add(1);
    Ok(Some(Window { rows, reached, scanned }))
}

/// The next rows of each of these threads, up to where the first of them has more than its share.
fn window_of_threads(
    at: &impl Session,
    filter: &Filter,
    threads: &[String],
    ahead: Ids,
) -> Result<Option<Window>> {
    let direction = filter.direction;
    let share = WINDOW_OF_THREADS / threads.len().max(1);
    let (mut ids, mut found) = (ahead, Vec::new());
    for thread in threads {
        let params = [thread.as_str().into(), ahead.low.into(), ahead.high.into(), (share as i64).into()];
        let theirs = at.query(sql::IDS_OF_THREAD.of(direction), &params)?;
        let theirs = theirs.iter().map(|row| row.get("id")).collect::<Result<Vec<i64>>>()?;
        if theirs.len() == share {
            ids = ids.up_to(direction, theirs[share - 1]);
        }
        found.extend(theirs);
    }
    if found.is_empty() {
        return Ok(None);
    }
    let mut rows = Vec::new();
    for thread in threads {
        let mut params = bounds(ids, filter);
        params.push(thread.as_str().into());
        for row in at.query(sql::ROWS_OF_THREAD.of(direction), &params)? {
            rows.push((row.get::<i64>("id")?, row));
        }
    }
    rows.sort_by_key(|(id, _)| *id);
    if direction == Direction::Descending {
        rows.reverse();
    }
    found.retain(|id| (ids.low..=ids.high).contains(id));
    Ok(Some(Window {
        rows: rows.into_iter().map(|(_, row)| row).collect(),
        reached: ids.end(direction),
        scanned: found.len() as u64,
    }))
}

fn bounds(ids: Ids, filter: &Filter) -> Vec<Value> {
    [ids.low.into(), ids.high.into()].into_iter().chain(filter.params()).collect()
}
