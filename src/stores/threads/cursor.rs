//! Where a page ends: sort, direction, filters, and the (sort value, id) to go on from, as one opaque word.
//!
//! The word holds no text of a user: filters appear as a hash. A cursor is only good for the query it came from,
//! whatever the page size.

use std::fmt;

use super::query::{Direction, Sort};
use super::row::{ThreadRow, canonical_id};
use crate::error::{Error, ErrorKind, Result};

/// The first letters of every cursor: what it is, and the version of its form.
const FORM: &str = "t1";

/// What a cursor is good for. `filters` is a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) sort: Sort,
    pub(super) direction: Direction,
    pub(super) filters: u64,
}

impl Scope {
    /// The same list from its other end.
    pub(super) fn reversed(self) -> Self {
        Self { direction: self.direction.reversed(), ..self }
    }
}

/// A place in a list: behind this sort value and id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    scope: Scope,
    pub(super) value: i64,
    pub(super) id: String,
}

impl Cursor {
    /// The position in front of the first row.
    pub(super) fn before_all(scope: Scope) -> Self {
        let (value, id) = match scope.direction {
            Direction::Ascending => (i64::MIN, ""),
            // Ids are hexadecimal digits and hyphens: all of them lie below.
            Direction::Descending => (i64::MAX, "~"),
        };
        Self { scope, value, id: id.to_owned() }
    }

    /// The position behind this sort value and id.
    pub(super) fn behind(scope: Scope, value: i64, id: String) -> Self {
        Self { scope, value, id }
    }

    /// The position behind this row.
    pub(super) fn after(scope: Scope, row: &ThreadRow) -> Self {
        Self::behind(scope, scope.sort.of(row), row.id.clone())
    }

    /// The cursor of this text, or the first position without one.
    pub(super) fn start_of(scope: Scope, text: Option<&str>) -> Result<Self> {
        text.map_or_else(|| Ok(Self::before_all(scope)), |text| Self::parse_for(scope, text))
    }

    fn parse_for(scope: Scope, text: &str) -> Result<Self> {
        let cursor = parse(text).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "this is no cursor of a thread list")
                .advise("pass next_cursor or backwards_cursor of a page unchanged, or start without a cursor")
        })?;
        if cursor.scope.filters != scope.filters || cursor.scope.sort != scope.sort {
            return Err(Error::new(ErrorKind::Invalid, "the cursor belongs to another query")
                .advise("keep sort and filters while paging, or start without a cursor"));
        }
        if cursor.scope.direction != scope.direction {
            return Err(Error::new(ErrorKind::Invalid, "the cursor walks in the other direction").advise(
                "next_cursor goes with the direction of its query, backwards_cursor with the opposite one",
            ));
        }
        Ok(cursor)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sort = match self.scope.sort {
            Sort::Created => 'c',
            Sort::Updated => 'u',
            Sort::Recency => 'r',
        };
        let direction = match self.scope.direction {
            Direction::Ascending => 'a',
            Direction::Descending => 'd',
        };
        write!(
            f,
            "{FORM}{sort}{direction}-{:016x}-{:x}-{}",
            self.scope.filters,
            self.value,
            self.id.replace('-', "")
        )
    }
}

fn parse(text: &str) -> Option<Cursor> {
    let (letters, rest) = text.strip_prefix(FORM)?.split_once('-')?;
    let (sort, direction) = match letters.as_bytes() {
        [sort, direction] => (*sort, *direction),
        _ => return None,
    };
    let sort = match sort {
        b'c' => Sort::Created,
        b'u' => Sort::Updated,
        b'r' => Sort::Recency,
        _ => return None,
    };
    let direction = match direction {
        b'a' => Direction::Ascending,
        b'd' => Direction::Descending,
        _ => return None,
    };
    let (filters, rest) = rest.split_once('-')?;
    let (value, id) = rest.split_once('-')?;
    let hex = |digits: &str, most: usize| {
        (digits.len() <= most && !digits.starts_with('+')).then(|| u64::from_str_radix(digits, 16).ok())?
    };
    if id.len() != 32 || !id.is_ascii() || filters.len() != 16 {
        return None;
    }
    let id = format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
    Some(Cursor {
        scope: Scope { sort, direction, filters: hex(filters, 16)? },
        value: hex(value, 16)? as i64,
        id: canonical_id(&id)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::threads::ThreadQuery;

    fn cursor(query: &ThreadQuery, value: i64) -> Cursor {
        Cursor::behind(query.scope(), value, "019b76da-5a3e-7c41-9d52-0c1f9a6be001".to_owned())
    }

    #[test]
    fn the_text_brings_the_same_position_back() {
        for sort in [Sort::Created, Sort::Updated, Sort::Recency] {
            for direction in [Direction::Ascending, Direction::Descending] {
                for value in [i64::MIN, -1, 0, 1_767_225_600_000, i64::MAX] {
                    let query = ThreadQuery::recent().sort(sort).direction(direction).cwd("/home/ada");
                    let cursor = cursor(&query, value);
                    assert_eq!(
                        Cursor::parse_for(query.scope(), &cursor.to_string()).expect("its own"),
                        cursor
                    );
                }
            }
        }
    }

    #[test]
    fn a_cursor_of_another_query_is_refused_with_advice() {
        let query = ThreadQuery::recent().cwd("/home/ada");
        let text = cursor(&query, 7).to_string();
        for other in [
            ThreadQuery::recent(),
            query.clone().archived(true),
            query.clone().sources(["cli"]),
            query.clone().children_of("019b76da-5a3e-7c41-9d52-0c1f9a6be001"),
            query.clone().sort(Sort::Created),
            query.clone().direction(Direction::Ascending),
            ThreadQuery::recent().cwd("/home/bob"),
        ] {
            let error = Cursor::parse_for(other.scope(), &text).expect_err("another query");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.advice().is_some());
        }
        Cursor::parse_for(query.limit(7).scope(), &text).expect("the page size may change");
    }

    #[test]
    fn garbage_is_refused_and_not_repeated_in_the_message() {
        let query = ThreadQuery::recent();
        let good = cursor(&query, 7).to_string();
        let mut bad = vec![
            String::new(),
            "t1".to_owned(),
            "t1rd-".to_owned(),
            "t1rd-+123456789abcdef-7-019b76da5a3e7c419d520c1f9a6be001".to_owned(),
            "select * from thread".to_owned(),
            "ünïcödé-ünïcödé-ünïcödé".to_owned(),
            format!("{good}0"),
            format!(" {good}"),
            good.replace("t1", "t2"),
        ];
        bad.extend((0..good.len()).map(|end| good[..end].to_owned()));
        for text in bad {
            let error = Cursor::parse_for(query.scope(), &text).expect_err(&text);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.advice().is_some());
            assert!(text.len() < 5 || !error.to_string().contains(&text));
        }
    }
}
