//! Threads by a part of their id: its beginning, which is a time and alike for threads of one day, or its end, which is how
//! a list shows them.

use super::sql;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::Session;

/// The fewest letters that [`Threads::find_id`](super::Threads::find_id) takes.
pub const SHORTEST_ID: usize = 4;
/// How many ids of live, and of archived threads, [`Threads::find_id`](super::Threads::find_id) looks at for one that ends so,
/// the last used first.
pub const IDS_LOOKED_AT: usize = 100_000;
/// Ids that an error names where several are meant.
const NAMED: usize = 10;
/// Where the hyphens of an id stand, counted in digits.
const HYPHENS: [usize; 4] = [8, 12, 16, 20];

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
    Err(Error::new(ErrorKind::Invalid, "this is no thread's id, nor the beginning or the end of one")
        .advise("give the whole id, or 4 letters or more of its beginning or its end, as `rowhouse threads list` shows it"))
}

/// The id of which these are all digits.
pub(super) fn whole(letters: &str) -> Option<String> {
    let id = uuid::Uuid::try_parse(letters).ok()?;
    Some(id.hyphenated().to_string())
}

/// # Errors
/// `NotFound`; `Conflict`, which names them; the engine's.
pub(super) fn find(at: &impl Session, part: &str) -> Result<String> {
    let first = hyphenated(part);
    // Behind every digit.
    let behind = format!("{first}g");
    let begins = [first.into(), behind.into(), (NAMED as i64 + 1).into()];
    let ends = [part.into(), (part.len() as i64).into(), (IDS_LOOKED_AT as i64).into()];
    let mut found: Vec<String> = Vec::new();
    for (text, params) in
        std::iter::once((sql::IDS_THAT_BEGIN, &begins)).chain(sql::IDS_THAT_END.map(|text| (text, &ends)))
    {
        for row in at.query(text, params)? {
            let id = row.get("id")?;
            if !found.contains(&id) {
                found.push(id);
            }
        }
    }
    match found.len() {
        0 => Err(Error::new(ErrorKind::NotFound, "no thread's id begins or ends so")
            .advise("look for it with: rowhouse threads list (or list --archived)")),
        1 => Ok(found.remove(0)),
        many => {
            let more = if many > NAMED { ", and more" } else { "" };
            found.truncate(NAMED);
            Err(Error::new(
                ErrorKind::Conflict,
                format!("several threads have such an id: {}{more}", found.join(", ")),
            )
            .advise("give more of it"))
        }
    }
}

/// The beginning of an id as it is stored.
fn hyphenated(digits: &str) -> String {
    let mut id = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if HYPHENS.contains(&at) {
            id.push('-');
        }
        id.push(digit);
    }
    id
}
