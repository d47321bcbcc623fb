//! The items of a transcript, for every store that reads one.

use std::path::Path;

use super::store::History;
use crate::error::Result;
use crate::rollout::{Item, Reader};

/// All of them, in their order, read as they are asked for.
///
/// # Errors
/// As [`Reader::open`].
pub(super) fn items(path: &Path) -> Result<History<'static>> {
    let mut reader = Reader::open(path)?;
    let mut ended = false;
    Ok(Box::new(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let next = match reader.next() {
            Ok(None) => return None,
            Ok(Some(line)) => Item::line(line.text),
            // The place is lost: going on would repeat it for ever.
            Err(error) => {
                ended = true;
                Err(error)
            }
        };
        Some(next)
    })))
}
