//! The answer to a submitted job, to come.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::clock::instant_after;
use super::shared::Shared;
use super::tx::Tx;
use crate::error::{Error, ErrorKind, Result};
use crate::handoff::job::{Job, Waited};
use crate::sync::Arc;

/// A submitted job's answer. Wait for it, look at it, await it, or drop it: the job runs all the same.
///
/// It is a [`Future`] of the answer on any executor.
///
/// # Panics
/// Polling it again after it was ready panics, as with any future.
#[must_use = "dropping a ticket gives up the answer, not the job"]
pub struct Ticket<R: Send + 'static> {
    job: Arc<Job<Tx, R, Error>>,
    shared: Arc<Shared>,
    taken: bool,
}

impl<R: Send + 'static> Ticket<R> {
    pub(super) fn new(job: Arc<Job<Tx, R, Error>>, shared: Arc<Shared>) -> Self {
        Self { job, shared, taken: false }
    }

    /// Waits for the answer, at most until the job's deadline. A job that was submitted to a best-effort database without
    /// [`within`](crate::Database::within) has none: to bound the wait, use [`wait_for`](Self::wait_for).
    ///
    /// # Errors
    /// The job's; the engine's; `Timeout` or `Busy` when it did not run by its deadline and never will;
    /// `OutcomeUnknown` when it ran and was not durable by then.
    pub fn wait(mut self) -> Result<R> {
        let answer = self.wait_out();
        self.shared.told(answer)
    }

    /// As [`wait`](Self::wait), for the engine's own jobs: what it answers no caller is told.
    pub(super) fn wait_out(&mut self) -> Result<R> {
        self.may_wait()?;
        if self.taken {
            return Err(Self::gone());
        }
        let waited = self.job.wait_out();
        self.taken = true;
        self.tell(waited)
    }

    /// Waits for the answer for at most this long; `None` when there is none yet. The job goes on.
    pub fn wait_for(&mut self, wait: Duration) -> Option<Result<R>> {
        let answer = self.answer_in(wait)?;
        Some(self.shared.told(answer))
    }

    fn answer_in(&mut self, wait: Duration) -> Option<Result<R>> {
        if let Err(error) = self.may_wait() {
            return Some(Err(error));
        }
        if self.taken {
            return Some(Err(Self::gone()));
        }
        let waited = self.job.answer_by(Some(instant_after(wait)))?;
        self.taken = true;
        Some(self.tell(waited))
    }

    /// Takes the job out of the queue. False when it runs or ran already; then it takes its course.
    #[must_use]
    pub fn cancel(&self) -> bool {
        self.job.withdraw()
    }

    fn may_wait(&self) -> Result<()> {
        let checked = super::guard::refuse_in_job().and_then(|()| self.shared.check_process());
        checked.map_err(|error| self.shared.name(error))
    }

    fn tell(&self, waited: Waited<Result<R>>) -> Result<R> {
        tell(&self.shared, waited)
    }

    fn gone() -> Error {
        Error::new(ErrorKind::Closed, "the answer was taken already")
    }
}

/// How waiting ended, as the caller learns it.
pub(super) fn tell<R>(shared: &Shared, waited: Waited<Result<R>>) -> Result<R> {
    match waited {
        Waited::Answered(answer) => answer.map_err(|error| shared.name(error)),
        Waited::Withdrawn => Err(shared.late()),
        // Any other error may be an artefact of a neighbour, and there is no time left to find out.
        Waited::Undone(Err(error)) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Panicked) => {
            Err(shared.name(error))
        }
        Waited::Undone(_) => Err(shared
            .name(Error::new(ErrorKind::Timeout, "the deadline passed after it failed; nothing was done"))),
        Waited::Unknown => Err(shared.name(
            Error::new(ErrorKind::OutcomeUnknown, "the deadline passed while the commit was under way")
                .advise("look whether the change is there before doing it again"),
        )),
    }
}

impl<R: Send + 'static> Future for Ticket<R> {
    type Output = Result<R>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<R>> {
        assert!(!self.taken, "a ticket was polled after it was ready");
        if let Err(error) = self.may_wait() {
            return Poll::Ready(self.shared.told(Err(error)));
        }
        let waited = std::task::ready!(self.job.poll(context));
        self.taken = true;
        Poll::Ready(self.shared.told(self.tell(waited)))
    }
}
