//! What becomes of jobs that were not done: they go back in the queue, or are told why.

use std::collections::VecDeque;

use crate::error::{Error, ErrorKind};
use crate::handoff::job::{JobError, Settled};
use crate::sqlite::core::Core;
use crate::sqlite::entry::Entry;
use crate::sqlite::guard::InJob;
use crate::sqlite::shared::Shared;
use crate::sqlite::stats;

/// How often a job may be what met damage. Then it is answered, and those behind it are not held up any longer.
const MOST_TRIES: u8 = 8;

/// The end of a batch that met trouble: its jobs go back to the front of the queue, in order, or are answered.
pub(super) fn give_up(
    shared: &Shared,
    batch: Vec<Option<Entry>>,
    error: &Error,
    queue: &mut VecDeque<Entry>,
    done: &mut Vec<Entry>,
) {
    let mut back = VecDeque::new();
    for entry in batch.into_iter().flatten() {
        if error.leaves_open() || !can_wait(shared, &entry) {
            lose(shared, &entry, error);
            entry.task.overrule(error.clone());
            done.push(entry);
        } else if entry.task.put_back() {
            back.push_back(entry);
        } else {
            forget(shared, Some(entry));
        }
    }
    back.append(queue);
    *queue = back;
}

/// The end of a batch one of whose jobs met damage: that one is answered, the others wait until it was looked into.
pub(super) fn suspected(
    shared: &Shared,
    mut batch: Vec<Option<Entry>>,
    by: usize,
    queue: &mut VecDeque<Entry>,
    done: &mut Vec<Entry>,
) {
    done.extend(batch[by].take());
    let refusal = shared.health.refusal().unwrap_or_else(|| shared.busy());
    not_run(shared, batch.into_iter().flatten(), &not_done(refusal), queue);
}

/// What keeps a database from being written, as the answer of a job that was queued.
pub(in crate::sqlite) fn not_done(refusal: Error) -> Error {
    let message = format!("{}; nothing was done", refusal.message());
    refusal.worded(message)
}

/// The same for jobs of which nothing counts whatever the error is: they were not run, or their batch was lost before.
pub(super) fn not_run(
    shared: &Shared,
    entries: impl Iterator<Item = Entry>,
    error: &Error,
    queue: &mut VecDeque<Entry>,
) {
    let mut back = VecDeque::new();
    // What comes while it is opened anew waits, and so does what was here before; also for the verdict on damage.
    let passes = shared.health.is_attaching() || shared.suspicion.is_raised();
    let waits = passes && !shared.best_effort && shared.lanes.is_open();
    for entry in entries {
        if (waits || can_wait(shared, &entry)) && entry.task.put_back() {
            back.push_back(entry);
        } else {
            turn_away(shared, Some(entry), error.clone());
        }
    }
    back.append(queue);
    *queue = back;
}

/// The write transaction did not even begin.
pub(super) fn hold_back(core: &mut Core, shared: &Shared, queue: &mut VecDeque<Entry>, error: &Error) {
    let entries = std::mem::take(queue);
    if shared.best_effort && !entries.is_empty() {
        core.held_back = true;
        shared.degrade(error.clone());
    }
    not_run(shared, entries.into_iter(), error, queue);
}

/// True for a job that may be dropped from the backlog, and so can wait there.
pub(super) fn can_wait(shared: &Shared, entry: &Entry) -> bool {
    entry.keeps.is_some() && entry.tries < MOST_TRIES && shared.lanes.is_open()
}

/// This job was the one that met it. A lack of room or a lock is nobody's fault.
pub(super) fn blame(entry: Option<&mut Entry>, error: &Error) {
    if let Some(entry) = entry
        && !error.is_transient()
    {
        entry.tries += 1;
    }
}

/// A job of the backlog that is answered although nothing of it was done is missing like one that was dropped.
pub(super) fn lose(shared: &Shared, entry: &Entry, error: &Error) {
    if let (Some(bytes), false) = (entry.keeps, error.leaves_open()) {
        shared.count_dropped(bytes);
    }
}

/// Answers every job of a queue with an error: none of them was done.
pub(in crate::sqlite) fn refuse(shared: &Shared, queue: &mut VecDeque<Entry>, error: &Error) {
    for entry in queue.drain(..) {
        turn_away(shared, Some(entry), error.clone());
    }
}

/// A job that was not done and will not be. False when its caller gave up before.
pub(in crate::sqlite) fn turn_away(shared: &Shared, entry: Option<Entry>, error: Error) -> bool {
    let Some(entry) = entry else { return false };
    let _mark = InJob::mark();
    let refused = entry.task.refuse(error);
    if refused {
        shared.counted(0, 1);
        shared.drop_entry(entry);
    } else {
        forget(shared, Some(entry));
    }
    refused
}

/// A job whose caller gave up.
pub(in crate::sqlite) fn forget(shared: &Shared, entry: Option<Entry>) {
    if let Some(entry) = entry {
        stats::add(&shared.counters.jobs_withdrawn, 1);
        shared.drop_entry(entry);
    }
}

/// A job whose answer is decided before the batch is.
pub(super) fn settle(shared: &Shared, entry: Option<Entry>) {
    let Some(entry) = entry else { return };
    match shared.settle(entry) {
        Settled::Gone => stats::add(&shared.counters.jobs_withdrawn, 1),
        Settled::Fine | Settled::Failed => shared.counted(0, 1),
    }
}

pub(super) fn late() -> Error {
    Error::new(ErrorKind::Timeout, "the deadline passed; nothing was done")
}
