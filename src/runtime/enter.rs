//! Having a home open, in turn with whoever restores or moves it whole.

use std::time::Instant;

use super::OPEN;
use crate::backup;
use crate::error::{ErrorKind, Result};
use crate::home::PreparedHome;
use crate::move_backend;
use crate::presence::Presence;

/// Has the home open, after finishing a restore or a move that was broken off.
pub(super) fn enter(folder: &PreparedHome, deadline: Instant) -> Result<Presence> {
    loop {
        let presence = Presence::enter(folder, deadline)?;
        if !backup::is_interrupted(folder) {
            #[cfg(feature = "postgres")]
            if move_backend::marker::is_cutting_over(folder) {
                drop(presence);
                move_backend::settle(folder, deadline)?;
                continue;
            }
            move_backend::marker::refuse_cutting_over(folder)?;
            return Ok(presence);
        }
        drop(presence);
        backup::finish_interrupted(folder, deadline).map_err(|error| match error.kind() {
            ErrorKind::ReadOnly => error
                .worded("a restore of this home was interrupted, and is not finished")
                .advise("open it once as a user who may write it: that finishes the restore"),
            _ => error,
        })?;
    }
}

/// Does something while this process neither has the home open nor opens it: who opens it meanwhile waits. `None` when it
/// has.
pub(crate) fn unless_open_here<T>(folder: &PreparedHome, then: impl FnOnce() -> T) -> Option<T> {
    let place = OPEN.lock().entry((folder.path().to_owned(), false)).or_default().clone();
    let place = place.try_lock()?;
    place.upgrade().is_none().then(then)
}
