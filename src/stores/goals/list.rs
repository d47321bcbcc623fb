//! Goals page by page, those of the newest threads first.
//!
//! The order is that of the threads' ids, which never change: a goal that is used or replaced while somebody pages stays
//! in its place. No index serves the statuses, since each use of a goal would have to keep it; a page looks through at
//! most [`SCAN`] goals, and may so be shorter than asked for, or empty, and still name the next one.

use serde::{Deserialize, Serialize};

use super::model::{Goal, GoalStatus};
use super::sql;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Session, Value};
use crate::stores::threads::row::canonical_id;

/// Goals that one page looks through.
const SCAN: i64 = 2_000;
const LARGEST_PAGE: u32 = 500;
/// The first letters of every cursor: what it is, and the version of its form.
const FORM: &str = "g1";
/// Above every id: those are hexadecimal digits and hyphens.
const ABOVE_ALL: &str = "~";

/// A list of goals, to be asked for page by page. Default: goals in every status, 50 a page.
///
/// ```
/// use rowhouse::stores::goals::{GoalQuery, GoalStatus};
/// let query = GoalQuery::new().statuses([GoalStatus::Active, GoalStatus::Paused]).limit(20);
/// let next = query.clone().cursor("from the page before");
/// assert_ne!(query, next);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct GoalQuery {
    statuses: Option<Vec<GoalStatus>>,
    limit: u32,
    cursor: Option<String>,
}

/// One page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoalPage {
    /// The goals; that of the newest thread first. May be fewer than asked for, also none, before the end is reached.
    pub goals: Vec<Goal>,
    /// Where the next page of the same query starts; `None` at the end.
    pub next_cursor: Option<String>,
}

impl Default for GoalQuery {
    fn default() -> Self {
        Self::new()
    }
}

impl GoalQuery {
    /// All goals.
    pub fn new() -> Self {
        Self { statuses: None, limit: 50, cursor: None }
    }

    /// Only goals in one of these statuses; an empty list matches nothing.
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = GoalStatus>) -> Self {
        let given: Vec<_> = statuses.into_iter().collect();
        self.statuses = Some(GoalStatus::ALL.into_iter().filter(|status| given.contains(status)).collect());
        self
    }

    /// Goals per page, 1 to 500; checked when listing. Default 50.
    pub fn limit(mut self, goals: u32) -> Self {
        self.limit = goals;
        self
    }

    /// Goes on where a page of the same query ended.
    pub fn cursor(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }

    /// Which statuses, as one number: a cursor is good for one of them.
    fn filter(&self) -> u8 {
        let chosen = |status: &GoalStatus| self.statuses.as_ref().is_none_or(|these| these.contains(status));
        let bits = GoalStatus::ALL.iter().enumerate().filter(|(_, status)| chosen(status));
        bits.fold(0, |sum, (bit, _)| sum | 1 << bit)
    }

    fn cursor_after(&self, thread: &str) -> String {
        format!("{FORM}-{:02x}-{thread}", self.filter())
    }

    /// The thread whose goal the page before ended with.
    fn start(&self) -> Result<String> {
        let Some(text) = &self.cursor else { return Ok(ABOVE_ALL.to_owned()) };
        let (filter, thread) = parse(text).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "this is no cursor of a goal list")
                .advise("pass next_cursor of a page unchanged, or start without a cursor")
        })?;
        if filter != self.filter() {
            return Err(Error::new(ErrorKind::Invalid, "the cursor belongs to another query")
                .advise("keep the statuses while paging, or start without a cursor"));
        }
        Ok(thread)
    }
}

fn parse(text: &str) -> Option<(u8, String)> {
    let (filter, thread) = text.strip_prefix(FORM)?.strip_prefix('-')?.split_once('-')?;
    let digits = filter.len() == 2 && filter.bytes().all(|byte| byte.is_ascii_hexdigit());
    let filter = u8::from_str_radix(filter, 16).ok().filter(|_| digits)?;
    Some((filter, canonical_id(thread)?))
}

/// A query that was checked, so that nothing is refused inside the snapshot.
pub(super) struct Walk<'q> {
    query: &'q GoalQuery,
    start: String,
}

impl<'q> Walk<'q> {
    pub(super) fn of(query: &'q GoalQuery) -> Result<Self> {
        if !(1..=LARGEST_PAGE).contains(&query.limit) {
            return Err(Error::new(ErrorKind::Invalid, "a page holds 1 to 500 goals")
                .advise("ask for less and go on with the next cursor"));
        }
        Ok(Self { query, start: query.start()? })
    }

    pub(super) fn page(&self, at: &impl Session) -> Result<GoalPage> {
        let wanted = self.query.limit as usize;
        let mut params: Vec<Value> =
            vec![self.start.as_str().into(), SCAN.into(), (i64::from(self.query.limit) + 1).into()];
        match &self.query.statuses {
            None => params.extend(GoalStatus::ALL.map(|status| status.as_str().into())),
            Some(these) => params.extend(these.iter().map(|status| status.as_str().into())),
        }
        params.resize(3 + GoalStatus::ALL.len(), Value::Null);
        let mut goals =
            at.query(sql::LIST, &params)?.iter().map(Goal::from_row).collect::<Result<Vec<_>>>()?;
        let last = if goals.len() > wanted {
            goals.truncate(wanted);
            goals.last().map(|goal| goal.thread_id.clone())
        } else {
            self.last_looked_at(at)?
        };
        Ok(GoalPage { goals, next_cursor: last.map(|thread| self.query.cursor_after(&thread)) })
    }

    /// Where a page had to stop looking; `None` when it saw all there are.
    fn last_looked_at(&self, at: &impl Session) -> Result<Option<String>> {
        let rows = at.query(sql::LAST_OF_SCAN, &[self.start.as_str().into(), (SCAN - 1).into()])?;
        rows.first().map(|row| row.get("thread_id")).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREAD: &str = "019cadf1-7a5e-7b04-8f21-000000000001";

    #[test]
    fn a_cursor_is_good_for_its_statuses_whatever_their_order() {
        let one = GoalQuery::new().statuses([GoalStatus::Paused, GoalStatus::Active, GoalStatus::Paused]);
        let same = GoalQuery::new().statuses([GoalStatus::Active, GoalStatus::Paused]);
        assert_eq!(one, same);
        let cursor = one.cursor_after(THREAD);
        assert_eq!(same.clone().cursor(&cursor).start().expect("its own"), THREAD);
        for other in [GoalQuery::new(), GoalQuery::new().statuses([]), same.statuses([GoalStatus::Active])] {
            let error = other.cursor(&cursor).start().expect_err("another query");
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
        let all = GoalQuery::new().cursor(GoalQuery::new().cursor_after(THREAD));
        assert_eq!(all.statuses(GoalStatus::ALL).start().expect("every status is all"), THREAD);
    }

    #[test]
    fn garbage_is_no_cursor() {
        let good = GoalQuery::new().cursor_after(THREAD);
        let mut bad = vec![format!("{good}0"), format!(" {good}"), good.replace("g1", "t1"), "é".repeat(40)];
        bad.push(good.replace("-3f-", "-+f-"));
        bad.extend((0..good.len()).map(|end| good[..end].to_owned()));
        for text in bad {
            let error = GoalQuery::new().cursor(&text).start().expect_err(&text);
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }
}
