//! How long the write lock has been somebody else's, and when that is worth telling.
//!
//! Invariants:
//! 1. A wait of less than a second changes nothing that can be seen, and no warning is logged for it.
//! 2. After that health says that somebody holds the lock, and who: found without touching it, and looked for again
//!    once a second, because holders may follow each other.
//! 3. Health says so only while it is so. When nobody waits any more, the idle writer looks ten times a second whether
//!    the lock is free again.
//!
//! Tests: `tests/s1_logs_lock.rs`, and `tests/health_names_who_holds_the_write_lock.rs`.

use std::time::{Duration, Instant};

use super::holders;
use super::shared::Shared;
use crate::error::{Error, ErrorKind};

/// Waits shorter than this are nobody's business.
const LONG: Duration = Duration::from_secs(1);
/// How often the holder of a lock that stays is looked for again.
const NAME_AGAIN: Duration = Duration::from_secs(1);

/// Belongs to whoever is inside the gate.
#[derive(Default)]
pub(super) struct Blocked {
    since: Option<Instant>,
    told: Option<Instant>,
}

impl Blocked {
    /// The lock is somebody else's at `now`. Answers for how long it has been.
    pub(super) fn waits(&mut self, shared: &Shared, now: Instant) -> Duration {
        let since = *self.since.get_or_insert(now);
        let waited = now.saturating_duration_since(since);
        shared.set_unsettled(true);
        if waited >= LONG && self.told.is_none_or(|told| now.saturating_duration_since(told) >= NAME_AGAIN) {
            self.told = Some(now);
            shared.degrade(
                Error::new(
                    ErrorKind::Busy,
                    "the write lock has been held by somebody else for more than a second",
                )
                .held_by(holders::write_lock_holder(&shared.spec.path))
                .retry_in(LONG),
            );
        }
        waited
    }

    /// The lock was had.
    pub(super) fn had(&mut self, shared: &Shared) {
        if self.since.take().is_some() {
            shared.set_unsettled(false);
        }
        if self.told.take().is_some() {
            shared.health.recovered();
        }
    }
}
