//! Jobs on their way into the queue, back into it, and out of it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::handoff::job::{Job, Settled};
use crate::handoff::lanes::{Backlog, Lane, Refused};
use crate::sqlite::batch;
use crate::sqlite::entry::Entry;
use crate::sqlite::guard::InJob;
use crate::sqlite::label::Label;
use crate::sqlite::stats;
use crate::sqlite::ticket::Ticket;
use crate::sqlite::tx::Tx;
use crate::sync::Arc;

/// How a job is queued: as in [`Entry`].
#[derive(Clone, Copy)]
pub(in crate::sqlite) struct Queueing {
    pub(in crate::sqlite) label: Label,
    pub(in crate::sqlite) lane: Lane,
    pub(in crate::sqlite) alone: bool,
    pub(in crate::sqlite) keeps: Option<usize>,
    /// When its caller came.
    pub(in crate::sqlite) came: Instant,
}

impl Shared {
    /// Refuses work while a bound is reached, and counts it. `bytes` is what it owns.
    pub(in crate::sqlite) fn admit(&self, lane: Lane, bytes: usize) -> Result<()> {
        let Some(refusal) = self.admission.refusal(lane) else { return Ok(()) };
        self.count_shed(bytes);
        Err(refusal)
    }

    fn count_shed(&self, bytes: usize) {
        stats::add(&self.counters.shed, 1);
        stats::add(&self.counters.shed_bytes, bytes as u64);
    }

    /// Answers what waits in the queue and is not let in any more.
    pub(in crate::sqlite) fn shed(&self, queue: &mut VecDeque<Entry>) {
        if !self.admission.any_reached() {
            return;
        }
        for _ in 0..queue.len() {
            let Some(entry) = queue.pop_front() else { break };
            match self.admission.refusal(entry.lane) {
                Some(refusal) => {
                    let bytes = entry.keeps.unwrap_or(0);
                    if batch::turn_away(self, Some(entry), refusal) {
                        self.count_shed(bytes);
                    }
                }
                None => queue.push_back(entry),
            }
        }
    }

    /// Queues a job that owns what it uses, and waits for room at most until its deadline.
    pub(in crate::sqlite) fn queue<R: Send + 'static>(
        self: &Arc<Self>,
        job: impl Fn(&Tx) -> Result<R> + Send + 'static,
        how: Queueing,
        deadline: Instant,
    ) -> Result<Ticket<R>, Refused> {
        let Queueing { label, lane, alone, keeps, came } = how;
        let came = Some(came);
        let task = Job::owned(job, deadline);
        self.gate.join();
        let entry = Entry { task: task.clone(), label, lane, alone, submitted: true, keeps, tries: 0, came };
        let taken = match keeps {
            Some(_) => self.keep(entry),
            None => self.lanes.push(entry, deadline),
        };
        match taken {
            Ok(()) => Ok(Ticket::new(task, self.clone())),
            Err(refused) => {
                self.gate.leave();
                Err(refused)
            }
        }
    }

    /// Takes a submitted job of a best-effort database without waiting; the oldest go when there is no room.
    pub(in crate::sqlite) fn keep(&self, entry: Entry) -> Result<(), Refused> {
        let mut out = VecDeque::new();
        self.lanes.push_out(entry, self.backlog(), &mut out)?;
        self.drop_from_backlog(out);
        Ok(())
    }

    /// Puts jobs that were not run back in their lanes.
    pub(in crate::sqlite) fn give_back(&self, queue: &mut VecDeque<Entry>) {
        self.lanes.give_back(queue);
        if self.best_effort {
            let mut out = VecDeque::new();
            self.lanes.trim(self.backlog(), &mut out);
            self.drop_from_backlog(out);
        }
    }

    fn backlog(&self) -> Backlog {
        let limits = &self.spec.limits;
        Backlog { jobs: limits.backlog_jobs, bytes: limits.backlog_bytes }
    }

    fn drop_from_backlog(&self, out: VecDeque<Entry>) {
        if out.is_empty() {
            return;
        }
        let why = self.health.trouble().or_else(|| self.health.not_attached()).unwrap_or_else(|| {
            if self.blocked.load(Ordering::Relaxed) {
                Error::new(ErrorKind::Busy, "the database is locked by somebody else")
            } else {
                Error::new(ErrorKind::Full, "more was submitted than could be written")
                    .advise("submit less at once, or raise Limits::backlog_jobs and backlog_bytes")
            }
        });
        let message = format!("dropped from the full backlog, nothing was done: {}", why.message());
        let error = self.name(why.worded(message));
        for entry in out {
            let bytes = entry.keeps.unwrap_or(0);
            let _mark = InJob::mark();
            if entry.task.refuse(error.clone()) {
                self.count_dropped(bytes);
                self.drop_entry(entry);
            } else {
                batch::forget(self, Some(entry));
            }
        }
    }

    pub(in crate::sqlite) fn count_dropped(&self, bytes: usize) {
        stats::add(&self.counters.dropped, 1);
        stats::add(&self.counters.dropped_bytes, bytes as u64);
    }

    /// Acknowledges a job whose fate is decided.
    pub(in crate::sqlite) fn settle(&self, entry: Entry) -> Settled {
        // Whoever is woken may run a little on this thread, and must not wait for it.
        let _mark = InJob::mark();
        let settled = entry.task.settle();
        self.drop_entry(entry);
        settled
    }

    /// Lets go of a job, and of what it captured: on this thread, which may be the writer, so marked and caught.
    pub(in crate::sqlite) fn drop_entry(&self, entry: Entry) {
        if entry.submitted {
            self.gate.leave();
        }
        let _mark = InJob::mark();
        entry.task.discard();
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(entry)));
    }
}
