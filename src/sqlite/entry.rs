//! A job in the queue.

use std::sync::Arc;
use std::time::Instant;

use super::label::Label;
use super::shared::Shared;
use super::tx::Tx;
use crate::error::Error;
use crate::handoff::job::Task;
use crate::handoff::lanes::{Lane, Queued};

/// A queued job.
pub(super) struct Entry {
    pub(super) task: Arc<dyn Task<Tx, Error>>,
    pub(super) label: Label,
    /// Where it goes back to when its batch has no time for it.
    pub(super) lane: Lane,
    /// It wants a commit of its own.
    pub(super) alone: bool,
    /// It was submitted: nobody stands in line for it, so whoever settles it leaves the line.
    pub(super) submitted: bool,
    /// Of a submitted job of a best-effort database, which may be dropped from the backlog: the bytes it owns.
    pub(super) keeps: Option<usize>,
    /// How often it was what met damage.
    pub(super) tries: u8,
    /// When its caller came, until it ran for the first time.
    pub(super) came: Option<Instant>,
}

impl Entry {
    /// It runs at `now`: for how long its caller waited for that is counted, the first time.
    pub(super) fn waited(&mut self, shared: &Shared, now: Instant) {
        let Some(came) = self.came.take() else { return };
        let waits = match self.lane {
            Lane::Normal => &shared.counters.queue_wait_us,
            Lane::Background => &shared.counters.queue_wait_background_us,
        };
        waits.record(now.saturating_duration_since(came).as_micros() as u64);
    }
}

impl Queued for Entry {
    fn lane(&self) -> Lane {
        self.lane
    }

    fn may_go(&self) -> Option<usize> {
        self.keeps
    }
}

impl Drop for Entry {
    /// A job that is let go of without an answer, because the writer dies, gets one.
    fn drop(&mut self) {
        self.task.abandon();
    }
}
