//! Where a page ends: direction, filters, the log's generation, and the id of the last row that was looked at, as one
//! opaque word.
//!
//! The word holds no text of a user: filters appear as a hash. A log that was begun anew counts its ids from one, so a
//! cursor is only good for the log it came from.

use std::fmt;

use super::filter::Filter;
use crate::error::{Error, ErrorKind, Result};
use crate::stores::threads::Direction;

/// The first letters of every cursor: what it is, and the version of its form.
const FORM: &str = "l1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    direction: Direction,
    filters: u64,
    pub(super) generation: i64,
    pub(super) id: i64,
}

impl Cursor {
    pub(super) fn after(filter: &Filter, generation: i64, id: i64) -> Self {
        Self { direction: filter.direction, filters: filter.fingerprint, generation, id }
    }

    /// The cursor of this text, for this query.
    pub(super) fn parse_for(filter: &Filter, text: &str) -> Result<Self> {
        let cursor = parse(text).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "this is no cursor of a log query")
                .advise("pass next_cursor of a page unchanged, or start without a cursor")
        })?;
        if cursor.filters != filter.fingerprint {
            return Err(Error::new(ErrorKind::Invalid, "the cursor belongs to another query")
                .advise("keep the filters while paging, or start without a cursor"));
        }
        if cursor.direction != filter.direction {
            return Err(Error::new(ErrorKind::Invalid, "the cursor walks in the other direction")
                .advise("keep the direction while paging, or start without a cursor"));
        }
        Ok(cursor)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Ascending => 'a',
            Direction::Descending => 'd',
        };
        write!(f, "{FORM}{direction}-{:016x}-{:x}-{:x}", self.filters, self.generation, self.id)
    }
}

fn parse(text: &str) -> Option<Cursor> {
    let mut parts = text.strip_prefix(FORM)?.split('-');
    let direction = match parts.next()? {
        "a" => Direction::Ascending,
        "d" => Direction::Descending,
        _ => return None,
    };
    let mut number = || {
        let digits = parts.next()?;
        let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        plain.then(|| u64::from_str_radix(digits, 16).ok())?
    };
    let cursor = Cursor { direction, filters: number()?, generation: number()? as i64, id: number()? as i64 };
    // Only what is written here is read: not the same numbers in other letters, or with more behind.
    (cursor.to_string() == text).then_some(cursor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::logs::{LogLevel, LogQuery};

    fn of(query: &LogQuery) -> Filter {
        Filter::of(query).expect("a good query")
    }

    #[test]
    fn the_text_brings_the_same_position_back() {
        for direction in [Direction::Ascending, Direction::Descending] {
            for number in [i64::MIN, -1, 0, 1, 1_767_225_600, i64::MAX] {
                let filter = of(&LogQuery::recent().direction(direction).text("Zürich"));
                let cursor = Cursor::after(&filter, number, number.wrapping_add(7));
                assert_eq!(Cursor::parse_for(&filter, &cursor.to_string()).expect("its own"), cursor);
            }
        }
    }

    #[test]
    fn a_cursor_of_another_query_is_refused_with_advice() {
        let query = LogQuery::recent().target("a");
        let text = Cursor::after(&of(&query), 1, 7).to_string();
        let thread = "019cadf1-7a5e-7b04-8f21-000000000001";
        let none: [&str; 0] = [];
        for other in [
            LogQuery::recent(),
            LogQuery::recent().targets(none),
            LogQuery::recent().target("b"),
            LogQuery::recent().module("a"),
            LogQuery::recent().file("a"),
            LogQuery::recent().process("a"),
            LogQuery::recent().text("a"),
            query.clone().threadless(),
            query.clone().thread(thread),
            query.clone().threads(none),
            query.clone().level(LogLevel::Warn),
            query.clone().direction(Direction::Ascending),
        ] {
            let error = Cursor::parse_for(&of(&other), &text).expect_err("another query");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{other:?}");
            assert!(error.advice().is_some());
        }
        for same in
            [query.clone().limit(7), query.clone().since(1).until(9), query.clone().targets(["a", "ab", "a"])]
        {
            Cursor::parse_for(&of(&same), &text).expect("it may go on");
        }
    }

    #[test]
    fn garbage_is_refused_and_not_repeated_in_the_message() {
        let filter = of(&LogQuery::recent());
        let good = Cursor::after(&filter, 7, 7).to_string();
        let mut bad = vec![
            "select * from log".to_owned(),
            "ünïcödé-ünïcödé-ünïcödé".to_owned(),
            "x".repeat(1 << 20),
            format!("{good}0"),
            format!("{good}-1"),
            format!(" {good}"),
            good.to_uppercase(),
            good.replace("l1", "l2"),
            good.replace("-7", "-+7"),
        ];
        bad.extend((0..good.len()).map(|end| good[..end].to_owned()));
        for text in bad {
            // One with a digit more is a position of its own; nothing can tell.
            let Err(error) = Cursor::parse_for(&filter, &text) else {
                assert_eq!(text, format!("{good}0"));
                continue;
            };
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.advice().is_some());
            assert!(text.len() < 5 || !error.to_string().contains(&text));
        }
    }
}
