//! What the library tells the application while it works: warnings, spans, metrics.
//!
//! - Warnings go to [`log`](https://docs.rs/log), or to [`tracing`](https://docs.rs/tracing) with the feature of that name
//!   (which passes them on to `log` when there is no subscriber).
//! - With `tracing`, spans of target `rowhouse` at level debug surround opening a database and its phases, the writer's
//!   batches, checkpoints, recovery and backups.
//! - With `metrics`, [`publish`] gives what every database of the process counts to the recorder of the
//!   [`metrics`](https://docs.rs/metrics) facade. There is no exporter here, and no timer: the application calls it when
//!   somebody asks, or on a timer of its own.
//!
//! Invariants:
//! 1. A logger, subscriber or recorder may use a database: where locks may be held, its thread is marked as inside a job,
//!    so that a write is refused at once (`Reentrant`) and never waits for itself.
//! 2. What is told here never comes back as a row of the logs: the thread is marked ([`Own`]), and the log sink takes
//!    nothing from it. Else each write of the logs could be the reason for the next.
//! 3. Without the features, or when nobody listens, nothing is made ready to be told.
//!
//! Tests: `tests/telemetry.rs`, `tests/log_layer.rs`.

#[cfg(feature = "metrics")]
mod sink;

use std::cell::Cell;
use std::fmt::Display;
#[cfg(feature = "metrics")]
use std::sync::Arc;

use crate::sqlite::guard::InJob;
#[cfg(feature = "metrics")]
use crate::sqlite::stats::Board;

#[cfg(feature = "metrics")]
pub use sink::publish;

thread_local! {
    static OWN: Cell<bool> = const { Cell::new(false) };
}

/// Marks what this thread says as the library's own until it is dropped.
pub(crate) struct Own {
    was: bool,
}

impl Own {
    pub(crate) fn mark() -> Self {
        Self { was: OWN.replace(true) }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        OWN.set(self.was);
    }
}

/// True where what is said is the library's own.
#[cfg(feature = "agent")]
pub(crate) fn is_own() -> bool {
    OWN.try_with(Cell::get).unwrap_or(true)
}

/// Tells who has no call to be told by.
pub(crate) fn warn(trouble: &dyn Display) {
    let (_mark, _own) = (InJob::mark(), Own::mark());
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "rowhouse", "{trouble}");
    #[cfg(not(feature = "tracing"))]
    log::warn!(target: "rowhouse", "{trouble}");
}

/// A span that lasts until it is dropped.
#[must_use]
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    entered: Option<tracing::span::EnteredSpan>,
}

impl Span {
    #[cfg(feature = "tracing")]
    pub(crate) fn enter(span: impl FnOnce() -> tracing::Span) -> Self {
        let (_mark, _own) = (InJob::mark(), Own::mark());
        Self { entered: Some(span().entered()) }
    }

    #[cfg(not(feature = "tracing"))]
    pub(crate) fn none() -> Self {
        Self {}
    }
}

#[cfg(feature = "tracing")]
impl Drop for Span {
    fn drop(&mut self) {
        let (_mark, _own) = (InJob::mark(), Own::mark());
        self.entered = None;
    }
}

/// Enters a span with this name: `span!("batch", database)`.
macro_rules! span {
    ($name:literal $(, $field:ident = $value:expr)*) => {{
        #[cfg(feature = "tracing")]
        let span =
            $crate::telemetry::Span::enter(|| tracing::debug_span!(target: "rowhouse", $name $(, $field = $value)*));
        #[cfg(not(feature = "tracing"))]
        let span = $crate::telemetry::Span::none();
        span
    }};
}
pub(crate) use span;

/// A database counts there from now on.
#[cfg(feature = "metrics")]
pub(crate) fn counts(database: &str, board: &Arc<Board>) {
    sink::add(database, board);
}
