//! How a database is, in one word, changed in one place.
//!
//! Degraded comes in three forms. *Attached*: it takes writes, and something is in their way (a lock that stays, a full
//! disk); a commit ends it. *Bounded*: one of its bounds is reached ([`admission`](super::admission)); commits do not end
//! it. *Detached*, of a best-effort domain only: it is being attached again, which waits for what is wrong to pass. After
//! that it stays degraded, attached, until a commit shows that it works.

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
    /// Reads work, writes are refused: its files may not be written, or its schema is newer than this program. A newer
    /// program may have migrated it while this one had it open.
    ReadOnly,
    /// After a failed write of this process (or, until the disk works again, of another), or because the file was
    /// replaced, or while damage that was met is looked into, or because a newer program migrated it to a schema that
    /// this one may not read: refuses writes until it is reopened.
    Latched,
    /// Damaged, and being set aside; a new file takes its place by itself.
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
/// Degraded by a bound only: nothing is in the way of what is let in.
const BOUNDED: u8 = 7;

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
    /// What is wrong while it is degraded.
    trouble: Option<Error>,
    /// Which bound is reached.
    bound: Option<Error>,
    warnings: Vec<String>,
    /// What happened since it was opened, and should be known for as long as it is.
    notes: Vec<String>,
}

impl Detail {
    fn is_attached(&self) -> bool {
        self.refusal.is_none() && matches!(self.health, Health::Ready | Health::Degraded { .. })
    }

    fn degrade(&mut self, trouble: Error) {
        self.trouble = Some(trouble);
        self.tell();
    }

    /// The health of what is open, or was: trouble comes before a bound.
    fn tell(&mut self) {
        self.health = match self.trouble.as_ref().or(self.bound.as_ref()) {
            Some(why) => Health::Degraded { reason: why.to_string(), holder: why.holder().cloned() },
            None => Health::Ready,
        };
    }
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            word: AtomicU8::new(ATTACHING),
            detail: Mutex::new(Detail {
                health: Health::Attaching,
                refusal: None,
                trouble: None,
                bound: None,
                warnings: Vec::new(),
                notes: Vec::new(),
            }),
            changed: Condvar::new(),
        }
    }

    /// Changes it. A closed database stays closed.
    pub(super) fn set(&self, health: Health, refusal: Option<Error>) {
        self.change(|detail| {
            (detail.health, detail.refusal, detail.trouble) = (health, refusal, None);
            true
        });
    }

    /// It is opened anew from now on, unless it may not be used at all.
    pub(super) fn open_anew(&self) {
        self.change(|detail| {
            let open = detail.is_attached() || detail.health == Health::ReadOnly;
            if open {
                (detail.health, detail.refusal, detail.trouble) = (Health::Attaching, None, None);
            }
            open
        });
    }

    /// Something is in the way of writes, which are still tried. Answers whether that is news.
    pub(super) fn degrade(&self, trouble: Error) -> bool {
        let mut news = false;
        self.change(|detail| {
            let attached = detail.is_attached();
            news = attached && detail.trouble.is_none();
            if attached {
                detail.degrade(trouble);
            }
            attached
        });
        news
    }

    /// It cannot be written, or not be opened, and is being attached again. Answers whether that is news.
    pub(super) fn detach(&self, trouble: Error) -> bool {
        let mut news = false;
        self.change(|detail| {
            news = detail.trouble.is_none();
            detail.refusal = Some(trouble.clone());
            detail.degrade(trouble);
            true
        });
        news
    }

    /// It was attached, and can be written. If it was degraded, a commit has yet to show that it works again.
    pub(super) fn attached(&self) {
        self.change(|detail| {
            detail.refusal = None;
            detail.tell();
            true
        });
    }

    /// Writing works.
    pub(super) fn recovered(&self) {
        if self.is_degraded() {
            self.change(|detail| {
                let degraded = detail.is_attached() && detail.trouble.is_some();
                if degraded {
                    detail.trouble = None;
                    detail.tell();
                }
                degraded
            });
        }
    }

    /// Which bound is reached by now, if one is. It is asked with the health locked: of two that tell it at once, the second
    /// one asks after both changes.
    pub(super) fn bounded(&self, bound: impl FnOnce() -> Option<Error>) {
        self.change(|detail| {
            detail.bound = bound();
            let attached = detail.is_attached();
            if attached {
                detail.tell();
            }
            attached
        });
    }

    /// The only place where health changes.
    fn change(&self, change: impl FnOnce(&mut Detail) -> bool) {
        let mut detail = self.detail.lock();
        if detail.health == Health::Closed || !change(&mut detail) {
            return;
        }
        let word = match &detail.health {
            // Detached: it is being attached again.
            Health::Degraded { .. } if detail.refusal.is_some() => ATTACHING,
            Health::Attaching => ATTACHING,
            Health::Ready => READY,
            Health::Degraded { .. } if detail.trouble.is_none() => BOUNDED,
            Health::Degraded { .. } => DEGRADED,
            Health::ReadOnly => READ_ONLY,
            Health::Latched | Health::Quarantined => LATCHED,
            Health::Closed => CLOSED,
        };
        self.word.store(word, Ordering::Release);
        self.changed.notify_all();
    }

    pub(super) fn set_warnings(&self, warnings: Vec<String>) {
        self.detail.lock().warnings = warnings;
    }

    /// Adds a warning that stays.
    pub(super) fn warn(&self, warning: String) {
        self.detail.lock().notes.push(warning);
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let detail = self.detail.lock();
        [&detail.notes[..], &detail.warnings].concat()
    }

    pub(super) fn get(&self) -> Health {
        self.detail.lock().health.clone()
    }

    /// True when a write may run at once.
    pub(super) fn is_writable(&self) -> bool {
        matches!(self.word.load(Ordering::Acquire), READY | DEGRADED | BOUNDED)
    }

    /// True when there is a connection that works, if only to read.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.word.load(Ordering::Acquire), READY | DEGRADED | BOUNDED | READ_ONLY)
    }

    /// True while something is in the way of writes, which are still tried.
    pub(super) fn is_degraded(&self) -> bool {
        self.word.load(Ordering::Acquire) == DEGRADED
    }

    /// True while there is no connection to use.
    pub(super) fn is_attaching(&self) -> bool {
        self.word.load(Ordering::Acquire) == ATTACHING
    }

    /// What is wrong while it is degraded.
    pub(super) fn trouble(&self) -> Option<Error> {
        self.detail.lock().trouble.clone()
    }

    /// Why a write is refused for good, if it is. While attaching it is not: it waits in the queue.
    pub(super) fn refusal(&self) -> Option<Error> {
        match self.word.load(Ordering::Acquire) {
            READY | DEGRADED | BOUNDED => None,
            // A database that is missing where none can be created does not come by waiting.
            ATTACHING => {
                self.detail.lock().refusal.clone().filter(|error| error.kind() == ErrorKind::ReadOnly)
            }
            _ => {
                let closed = || Error::new(ErrorKind::Closed, "the database is closed");
                Some(self.detail.lock().refusal.clone().unwrap_or_else(closed))
            }
        }
    }

    /// Why it is not attached yet, when it is not.
    pub(super) fn not_attached(&self) -> Option<Error> {
        self.is_attaching().then(|| {
            let waiting =
                || Error::new(ErrorKind::Busy, "the database is still being attached; nothing was done");
            self.detail.lock().refusal.clone().unwrap_or_else(waiting)
        })
    }

    /// Waits while attaching, until `deadline`; then says why it cannot be read.
    pub(super) fn readable(&self, deadline: Instant) -> Result<(), Error> {
        if matches!(self.word.load(Ordering::Acquire), READY | DEGRADED | BOUNDED | READ_ONLY) {
            return Ok(());
        }
        let mut detail = self.detail.lock();
        loop {
            let refusal = || detail.refusal.clone();
            match self.word.load(Ordering::Acquire) {
                READY | DEGRADED | BOUNDED | READ_ONLY => return Ok(()),
                CLOSED => {
                    return Err(
                        refusal().unwrap_or_else(|| Error::new(ErrorKind::Closed, "the database is closed"))
                    );
                }
                // A latched database still reads; a replaced one would read what is not there any more, and one with a
                // schema that is too new what it does not understand.
                LATCHED => {
                    let moved = detail.health == Health::Quarantined;
                    let bars = |kind| {
                        matches!(kind, ErrorKind::Replaced | ErrorKind::SchemaTooNew)
                            || (moved && kind == ErrorKind::Corrupt)
                    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_be_used_is_not_opened_anew_by_itself() {
        let state = State::new();
        state.attached();
        state.open_anew();
        assert_eq!(state.get(), Health::Attaching);
        state.attached();
        let failed = Error::new(ErrorKind::Latched, "a write failed");
        state.set(Health::Latched, Some(failed));
        state.open_anew();
        assert_eq!(state.get(), Health::Latched);
        assert_eq!(state.refusal().map(|error| error.kind()), Some(ErrorKind::Latched));
    }
}
