//! How a database is, in one word, changed in one place.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::holders::Holder;
use crate::error::{Error, ErrorKind};

/// How a database, or a runtime, is.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Health {
    /// Being opened in the background; writes queue up.
    Attaching,
    /// Everything works.
    Ready,
    /// It works, but not fully.
    Degraded {
        /// What is wrong.
        reason: String,
        /// Who is in the way, where it could be told.
        holder: Option<Holder>,
    },
    /// Reads work, writes are refused: its schema is newer than this program. A newer program may have migrated it while
    /// this one had it open.
    ReadOnly,
    /// After a failed write, or because the file was replaced, or because a newer program migrated it to a schema that
    /// this one may not read: refuses writes until it is reopened.
    Latched,
    /// Damaged and set aside.
    Quarantined,
    /// Closed.
    Closed,
}

const ATTACHING: u8 = 0;
const READY: u8 = 1;
const DEGRADED: u8 = 2;
const READ_ONLY: u8 = 3;
const LATCHED: u8 = 4;
const CLOSED: u8 = 6;

/// The health of one database.
pub(super) struct State {
    /// The word, readable without the lock.
    word: AtomicU8,
    detail: Mutex<Detail>,
    changed: Condvar,
}

struct Detail {
    health: Health,
    /// Why work is refused, when it is.
    refusal: Option<Error>,
    warnings: Vec<String>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            word: AtomicU8::new(ATTACHING),
            detail: Mutex::new(Detail { health: Health::Attaching, refusal: None, warnings: Vec::new() }),
            changed: Condvar::new(),
        }
    }

    /// The only place where health changes. A closed database stays closed.
    pub(super) fn set(&self, health: Health, refusal: Option<Error>) {
        let mut detail = self.detail.lock();
        if detail.health == Health::Closed {
            return;
        }
        let word = match &health {
            // Degraded because it cannot be attached: it is still being attached.
            Health::Degraded { .. } if refusal.is_some() => ATTACHING,
            Health::Attaching => ATTACHING,
            Health::Ready => READY,
            Health::Degraded { .. } => DEGRADED,
            Health::ReadOnly => READ_ONLY,
            Health::Latched | Health::Quarantined => LATCHED,
            Health::Closed => CLOSED,
        };
        detail.health = health;
        detail.refusal = refusal;
        self.word.store(word, Ordering::Release);
        self.changed.notify_all();
    }

    pub(super) fn set_warnings(&self, warnings: Vec<String>) {
        self.detail.lock().warnings = warnings;
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        self.detail.lock().warnings.clone()
    }

    pub(super) fn get(&self) -> Health {
        self.detail.lock().health.clone()
    }

    /// True when a write may run at once.
    pub(super) fn is_writable(&self) -> bool {
        matches!(self.word.load(Ordering::Acquire), READY | DEGRADED)
    }

    /// Why a write is refused for good, if it is. While attaching it is not: it waits in the queue.
    pub(super) fn refusal(&self) -> Option<Error> {
        match self.word.load(Ordering::Acquire) {
            ATTACHING | READY | DEGRADED => None,
            _ => {
                let closed = || Error::new(ErrorKind::Closed, "the database is closed");
                Some(self.detail.lock().refusal.clone().unwrap_or_else(closed))
            }
        }
    }

    /// Why it is not attached yet, when it is not.
    pub(super) fn not_attached(&self) -> Option<Error> {
        (self.word.load(Ordering::Acquire) == ATTACHING).then(|| {
            let waiting =
                || Error::new(ErrorKind::Busy, "the database is still being attached; nothing was done");
            self.detail.lock().refusal.clone().unwrap_or_else(waiting)
        })
    }

    /// Waits while attaching, until `deadline`; then says why it cannot be read.
    pub(super) fn readable(&self, deadline: Instant) -> Result<(), Error> {
        if matches!(self.word.load(Ordering::Acquire), READY | DEGRADED | READ_ONLY) {
            return Ok(());
        }
        let mut detail = self.detail.lock();
        loop {
            let refusal = || detail.refusal.clone();
            match self.word.load(Ordering::Acquire) {
                READY | DEGRADED | READ_ONLY => return Ok(()),
                CLOSED => {
                    return Err(
                        refusal().unwrap_or_else(|| Error::new(ErrorKind::Closed, "the database is closed"))
                    );
                }
                // A latched database still reads; a replaced one would read what is not there any more, and one with a
                // schema that is too new what it does not understand.
                LATCHED => {
                    let bars = |kind| matches!(kind, ErrorKind::Replaced | ErrorKind::SchemaTooNew);
                    return refusal().filter(|error| bars(error.kind())).map_or(Ok(()), Err);
                }
                // What keeps it from being attached does not go away by waiting.
                _ if refusal().is_some_and(|error| !error.is_transient()) => {
                    return refusal().map_or(Ok(()), Err);
                }
                _ if Instant::now() >= deadline => {
                    let waiting = || Error::new(ErrorKind::Busy, "the database is still being attached");
                    return Err(refusal().unwrap_or_else(waiting));
                }
                _ => drop(self.changed.wait_until(&mut detail, deadline)),
            }
        }
    }
}
