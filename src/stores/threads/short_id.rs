//! Threads by the end of their id, which is how a list shows them: the beginning of an id is a time, and alike for
//! threads of one day.

use super::sql;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::Session;

/// The fewest letters that [`Threads::find_id`](super::Threads::find_id) takes.
pub const SHORTEST_ID: usize = 8;
/// How many ids of live, and of archived threads, [`Threads::find_id`](super::Threads::find_id) looks at, the last used
/// first.
pub const IDS_LOOKED_AT: usize = 100_000;

/// The digits of a short id.
///
/// # Errors
/// `Invalid`.
pub(super) fn letters_of(text: &str) -> Result<String> {
    let end: String =
        text.chars().filter(|letter| *letter != '-').map(|letter| letter.to_ascii_lowercase()).collect();
    if (SHORTEST_ID..=32).contains(&end.len()) && end.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(end);
    }
    Err(Error::new(ErrorKind::Invalid, "this is no thread's id, nor the end of one")
        .advise("give the whole id, or its last 8 letters or more, as `rowhouse threads list` shows them"))
}

/// The id of which these are all digits.
pub(super) fn whole(letters: &str) -> Option<String> {
    let id = uuid::Uuid::try_parse(letters).ok()?;
    Some(id.hyphenated().to_string())
}

/// # Errors
/// `NotFound`, `Conflict`; the engine's.
pub(super) fn find(at: &impl Session, end: &str) -> Result<String> {
    let params = [end.into(), (end.len() as i64).into(), (IDS_LOOKED_AT as i64).into()];
    let mut found: Vec<String> = Vec::new();
    for text in sql::IDS_THAT_END {
        for row in at.query(text, &params)? {
            found.push(row.get("id")?);
        }
    }
    match found.len() {
        0 => Err(Error::new(ErrorKind::NotFound, "no thread's id ends so")
            .advise("look for it with: rowhouse threads list (or list --archived)")),
        1 => Ok(found.remove(0)),
        _ => Err(Error::new(ErrorKind::Conflict, "the ids of several threads end so")
            .advise("give more of it, or the whole id: `rowhouse threads list --json` shows them in full")),
    }
}
