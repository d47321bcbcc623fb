//! From moments to ids, by binary search.
//!
//! Rows are written in the order of their time, nearly: a process writes in batches, and what it kept in memory comes
//! later. The assumption is that no row is written after one that is more than [`SLACK`] younger. Then, when a row's
//! time is before `T - SLACK`, all rows written before it are from before `T`; and when a row's time is `T + SLACK` or
//! later, all rows written after it are from `T` or later. The search finds two neighbours on either side of such a
//! moment, so what lies outside its answer cannot be in the range. What lies inside is compared by its own time.
//!
//! A clock that is set back by more than the slack breaks the assumption: rows from around that moment may be missing
//! from a list with a time range, never from one without. So may rows of a process that was stopped, or kept from writing,
//! for longer than that while others wrote.

use std::time::Duration;

use super::filter::Filter;
use super::ids::{Ids, first};
use crate::error::Result;
use crate::sql::Session;
use crate::stores::threads::Direction;

/// How much later than a younger row a row may be written, so that a list with a time range still finds it: five minutes.
pub const SLACK: Duration = Duration::from_mins(5);

const SLACK_NS: i64 = SLACK.as_nanos() as i64;

/// Of these ids, those that may be in the time range.
pub(super) fn within(at: &impl Session, filter: &Filter, ids: Ids) -> Result<Ids> {
    let mut found = ids;
    if let Some(since) = filter.since {
        found.low = from(at, ids, since.saturating_sub(SLACK_NS))?;
    }
    if let Some(until) = filter.until {
        // Ids are positive.
        found.high = from(at, ids, until.saturating_add(SLACK_NS))? - 1;
    }
    Ok(found)
}

/// The least id such that the row before it is from before this moment, and the row at or after it is not; the one
/// behind all of them if there is none.
fn from(at: &impl Session, ids: Ids, moment: i64) -> Result<i64> {
    // The answer is between these two, both included.
    let (mut low, mut high) = (ids.low, ids.high.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        match first(at, Direction::Ascending, Ids { low: middle, high: high - 1 })? {
            Some(row) if row.ts < moment => low = row.id.saturating_add(1),
            // Too young, or there is none in the upper half: rows were deleted.
            _ => high = middle,
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Value;
    use crate::sqlite::tx::Snapshot;
    use crate::stores::logs::LogQuery;

    const SECOND: i64 = 1_000_000_000;

    /// Rows with these ids and seconds.
    fn log(rows: &[(i64, i64)]) -> Snapshot {
        let at = Snapshot::in_memory("CREATE TABLE log(id INTEGER PRIMARY KEY, ts INTEGER NOT NULL)");
        for (id, second) in rows {
            let row = [Value::from(*id), Value::from(second * SECOND)];
            at.execute("INSERT INTO log VALUES ($1, $2)", &row).expect("a row");
        }
        at
    }

    fn ids(rows: &[(i64, i64)], since: i64, until: i64) -> (i64, i64) {
        let filter = Filter::of(&LogQuery::recent().since(since * SECOND).until(until * SECOND));
        let all = Ids { low: rows[0].0, high: rows[rows.len() - 1].0 };
        let found = within(&log(rows), &filter.expect("a query"), all).expect("found");
        (found.low, found.high)
    }

    #[test]
    fn a_range_is_as_wide_as_asked_for_and_the_slack_on_either_side() {
        // A row each minute.
        let rows: Vec<_> = (1..=1_000).map(|id| (id, id * 60)).collect();
        assert_eq!(ids(&rows, 500 * 60, 510 * 60), (495, 514));
        assert_eq!(ids(&rows, 0, 3 * 60), (1, 7));
        assert_eq!(ids(&rows, 999 * 60, 5_000 * 60), (994, 1_000));
        assert_eq!(ids(&rows, 5_000 * 60, 6_000 * 60), (1_001, 1_000));
    }

    #[test]
    fn deleted_rows_are_no_obstacle() {
        let rows: Vec<_> =
            (1..=1_000).filter(|id| id % 97 == 1 || *id > 990).map(|id| (id, id * 60)).collect();
        let (low, high) = ids(&rows, 500 * 60, 510 * 60);
        for (id, second) in rows {
            let inside = (500 * 60..510 * 60).contains(&second);
            assert!(!inside || (low..=high).contains(&id), "{id}");
        }
    }

    #[test]
    fn extreme_moments_are_borne() {
        let rows = [(1, 0), (i64::MAX - 1, 1)];
        let filter = Filter::of(&LogQuery::recent().since(i64::MIN).until(i64::MAX)).expect("a query");
        let found = within(&log(&rows), &filter, Ids { low: 1, high: i64::MAX - 1 }).expect("found");
        assert_eq!((found.low, found.high), (1, i64::MAX - 1));
    }
}
