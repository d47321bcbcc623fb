//! What exactly one thread at a time may use: the write connection and all that belongs to it.

use super::connect::Spec;
use super::ffi::WalGauge;
use super::identity::Identity;
use super::turn::Turn;
use super::tx::Tx;
use crate::error::Result;
use crate::sqlite::connect::Opened;

pub(super) struct Core {
    pub(super) tx: Tx,
    pub(super) identity: Identity,
    pub(super) turn: Turn,
    /// Batches that still use savepoints from the start.
    pub(super) wary: u32,
    /// Told by the connection's commits, so dropped after it.
    pub(super) gauge: WalGauge,
}

impl Core {
    pub(super) fn new(spec: &Spec, opened: Opened) -> Result<Self> {
        Ok(Self {
            identity: Identity::of(&spec.path, opened.stamp, spec.domain.durability)?,
            turn: Turn::open(&spec.lobby, &spec.room)?,
            tx: opened.tx,
            wary: 0,
            gauge: opened.gauge,
        })
    }
}
