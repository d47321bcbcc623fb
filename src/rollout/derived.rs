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
