//! A batch that waits for the write lock, and what of it does not wait any longer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::answers::{late, turn_away};
use super::transaction::try_begin;
use crate::error::Error;
use crate::sqlite::connect;
use crate::sqlite::core::Core;
use crate::sqlite::entry::Entry;
use crate::sqlite::shared::Shared;
use crate::sqlite::stats;

/// Jobs of a best-effort database that wait for the write lock longer than this wait in the backlog, where its bound
/// holds for them.
const IN_HAND: Duration = Duration::from_millis(20);
/// How often those that gave up are looked for there.
const LOOK_THROUGH_EVERY: Duration = Duration::from_millis(20);

/// BEGIN IMMEDIATE, looking once a millisecond while somebody else holds the write lock. Jobs whose deadline passes
/// meanwhile are answered. The jobs of a best-effort database wait in the backlog.
pub(super) fn begin(core: &mut Core, shared: &Shared, queue: &mut VecDeque<Entry>) -> Result<(), Error> {
    let mut looked_through = None;
    loop {
        let begun = try_begin(core, shared);
        shared.set_blocked(matches!(begun, Ok(false)));
        if begun? {
            core.blocked.had(shared);
            if looked_through.is_some() {
                shared.lanes.take(queue, shared.spec.limits.batch_jobs);
            }
            return Ok(());
        }
        stats::add(&shared.counters.busy_waits, 1);
        let now = Instant::now();
        let waited = core.blocked.waits(shared, now);
        let due = looked_through.is_none_or(|last| now.duration_since(last) >= LOOK_THROUGH_EVERY);
        if due {
            if looked_through.is_some() {
                shared.lanes.take(queue, usize::MAX);
            }
            answer_late(shared, queue, now);
            if queue.is_empty() {
                shared.set_blocked(false);
                return Err(late());
            }
            if shared.best_effort && waited >= IN_HAND {
                looked_through = Some(now);
                shared.give_back(queue);
            }
        }
        connect::pause();
    }
}

/// Answers the jobs of a queue that nobody waits for any more, or that closing leaves behind.
pub(in crate::sqlite) fn answer_late(shared: &Shared, queue: &mut VecDeque<Entry>, now: Instant) {
    // Found out once for all that give up now.
    let mut why = None;
    for _ in 0..queue.len() {
        let Some(entry) = queue.pop_front() else { break };
        let in_time = now < entry.task.deadline();
        if in_time && !shared.gives_up() && !entry.task.is_over() {
            queue.push_back(entry);
            continue;
        }
        if in_time && !entry.task.is_over() {
            *shared.left.lock() += 1;
        }
        let error = why.get_or_insert_with(|| shared.late()).clone();
        turn_away(shared, Some(entry), error);
    }
}

/// The same for jobs that wait in the backlog.
pub(in crate::sqlite) fn answer_late_in_backlog(shared: &Shared) {
    let mut queue = VecDeque::new();
    shared.lanes.take(&mut queue, usize::MAX);
    answer_late(shared, &mut queue, Instant::now());
    shared.give_back(&mut queue);
}
