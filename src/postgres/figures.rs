//! What a domain on a server counts: words of its process's status page, as for a file.
//!
//! The connections of a process are shared by its domains on the server, so what happens to these is told by each of them.

use std::sync::Arc;
use std::time::Duration;

use super::failure::Failure;
use crate::error::{Error, ErrorKind};
use crate::sqlite::stats::{Board, Stats, add, highest, set};
use crate::sqlite::status_page::Slot;

/// Where one domain counts. A clone is the same place.
#[derive(Clone)]
pub(super) struct Figures(Arc<Board>);

impl Figures {
    pub(super) fn of(domain: &str, slot: Option<&Slot>) -> Self {
        let board = Arc::new(Board::new(slot));
        #[cfg(feature = "metrics")]
        crate::telemetry::counts(domain, &board);
        #[cfg(not(feature = "metrics"))]
        let _ = domain;
        add(&board.opens, 1);
        Self(board)
    }

    pub(super) fn stats(&self) -> Stats {
        self.0.read()
    }

    pub(super) fn wrote(&self) {
        add(&self.0.jobs, 1);
        add(&self.0.commits, 1);
    }

    pub(super) fn read(&self) {
        add(&self.0.reads, 1);
    }

    /// A call answers this error.
    pub(super) fn answered(&self, error: &Error) {
        self.0.errors.count(error.kind());
    }

    pub(super) fn settled(&self) {
        add(&self.0.outcomes_settled, 1);
    }

    /// A statement failed.
    pub(super) fn ended(&self, failure: &Failure) {
        if failure.error.kind() == ErrorKind::Timeout {
            add(&self.0.statements_cancelled, 1);
        }
    }

    /// A transaction runs again after a failure of this kind.
    pub(super) fn runs_again(&self, kind: ErrorKind) {
        let conflict = kind == ErrorKind::Busy;
        add(if conflict { &self.0.retried_conflict } else { &self.0.retried_lost }, 1);
    }

    /// A connection is tried again after a failure of this kind.
    pub(super) fn connects_again(&self, kind: ErrorKind) {
        add(if kind == ErrorKind::Busy { &self.0.retried_busy } else { &self.0.retried_lost }, 1);
    }

    /// A connection was waited for, whether or not one came.
    pub(super) fn waited(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        add(&self.0.connection_waits, 1);
        add(&self.0.connection_wait_us, time);
        highest(&self.0.connection_wait_longest_us, time);
    }

    /// So many connections there are now.
    pub(super) fn connections(&self, open: usize, lent: usize, most: usize) {
        set(&self.0.connections, open as u64);
        set(&self.0.connections_lent, lent as u64);
        set(&self.0.connections_most, most as u64);
    }
}
