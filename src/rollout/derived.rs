//! What a list shows of items that are not in a file yet.

use super::item::Item;
use super::new_rollout::NewRollout;
use super::records::SessionMeta;
use super::scan::Scan;
use crate::error::{Error, ErrorKind, Result};
use crate::stores::threads::ThreadFacts;

/// The first line of a new thread, and what it says.
///
/// # Errors
/// `Invalid` when it is too long.
pub(crate) fn of_new(new: &NewRollout, id: &str) -> Result<(Item, ThreadFacts)> {
    let first = new.first_line(id)?;
    let line = serde_json::from_str(first.text()).map_err(|error| {
        Error::new(ErrorKind::Invalid, "the beginning of a thread is not JSON").caused_by(error)
    })?;
    let meta: SessionMeta = super::records::Line::read(&line);
    let facts = Scan::beginning_with(&line).facts(id.to_owned(), meta, new.started().as_millisecond());
    Ok((first, facts))
}

/// What these items say of their thread; of a field that they say nothing about, nothing. `now` dates items without a
/// time, in Unix milliseconds.
pub(crate) fn of_items(id: &str, items: &[Item], now: i64) -> ThreadFacts {
    let mut text = String::with_capacity(items.iter().map(|item| item.text().len() + 1).sum());
    for item in items {
        text.push_str(item.text());
        text.push('\n');
    }
    let mut scan = Scan::empty();
    scan.head(text.as_bytes());
    scan.facts(id.to_owned(), SessionMeta::default(), now)
}

/// What a history says of its thread by its two ends: `head` is lines from the first on, `tail` the last ones when some
/// between them were left out. `otherwise` dates a history that does not date itself, in Unix milliseconds.
///
/// # Errors
/// `Invalid` when it does not begin with a `session_meta`.
#[cfg(feature = "postgres")]
pub(crate) fn of_ends(id: &str, head: &str, tail: Option<&str>, otherwise: i64) -> Result<ThreadFacts> {
    let (first, rest) = head.split_once('\n').unwrap_or((head, ""));
    let first: Option<super::records::Line<'_>> = serde_json::from_str(first).ok();
    let first = first.filter(|line| line.kind == "session_meta").ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "a history begins with the session_meta of its thread")
    })?;
    let meta: SessionMeta = first.read();
    let mut scan = Scan::beginning_with(&first);
    scan.head(rest.as_bytes());
    if let Some(tail) = tail {
        scan.tail(tail.as_bytes());
    }
    Ok(scan.facts(id.to_owned(), meta, otherwise))
}
