//! Where a database counts.

use std::ops::Deref;

use super::Counters;
use crate::sqlite::status_page::Slot;

/// The counters of one database: in its process's status page, else in memory.
pub(crate) enum Board {
    Published(Slot),
    Private(Box<Counters>),
}

impl Board {
    pub(crate) fn new(slot: Option<&Slot>) -> Self {
        match slot {
            Some(slot) if slot.counters().is_some() => Self::Published(slot.clone()),
            _ => Self::Private(Box::default()),
        }
    }
}

impl Deref for Board {
    type Target = Counters;

    fn deref(&self) -> &Counters {
        match self {
            Self::Published(slot) => slot.counters().expect("a board is made of a slot with counters"),
            Self::Private(counters) => counters,
        }
    }
}
