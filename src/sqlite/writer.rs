//! The writer: takes what is queued, runs it as batches, acknowledges.
//!
//! Invariants:
//! 1. Every job that was accepted is settled, also when the writer's thread dies.
//! 2. The turn is left before the callers are woken: the next process works while they do. Nothing else is done between
//!    their commit and their answer.
//! 3. A caller that passes the gate by itself does what the writer would do for a batch of one.
//! 4. A best-effort database that cannot be attached, that latched, or whose disk is full is tried again twice a second;
//!    its submitted jobs wait meanwhile, in their order.
//! 5. What it does beside its batches ([`Chores`]) goes by the clock: a crowd of jobs, or a caller that commits by itself
//!    all the time, does not put it off.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::batch::{self, Overruled};
use super::core::Core;
use super::damage::suspicion;
use super::entry::Entry;
use super::health::Health;
use super::label::Label;
use super::reclaim::Reclaimer;
use super::recover::{self, Copying};
use super::schema_watch;
use super::shared::Shared;
use super::stats;
use super::turn::LONGEST_KEPT;
use super::tx::Tx;
use crate::error::{Error, ErrorKind, Result};
use crate::handoff::job::{JobError, Ran, Settled};
use crate::handoff::lanes::Woken;
use crate::sync::{Arc, MutexGuard};
use crate::telemetry::span;

/// How often the writer looks whether the file is still its own.
const IDLE_LOOK: Duration = Duration::from_secs(1);
/// How often it looks at bounds that are reached. A little less than that, with which it goes along.
const BOUNDS_LOOK: Duration = Duration::from_millis(900);
/// The same while it was last seen that somebody holds the lock, or that something else is in the way of writes.
const SOON: Duration = Duration::from_millis(100);
/// How long one try to attach a best-effort domain may wait for others: then health says who is in the way.
const ATTACH_TRY: Duration = Duration::from_secs(1);
/// The pause after a try of a best-effort domain failed.
const TRY_EVERY: Duration = Duration::from_millis(500);
/// How often the writer looks whether a database that is opened again is there.
const LOOK_WHILE_ATTACHING: Duration = Duration::from_millis(10);

impl JobError for Error {
    fn panicked(payload: Box<dyn std::any::Any + Send>) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        // Dropping what a panic carries may panic again.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
        Error::new(ErrorKind::Panicked, "the job panicked; what it did was rolled back")
            .caused_by(PanicText(text))
    }

    fn abandoned() -> Self {
        Error::new(ErrorKind::OutcomeUnknown, "the writer died while it had the job")
            .advise("look whether the change is there; open the runtime again")
    }

    fn leaves_open(&self) -> bool {
        // Replaced is found out after the commit.
        matches!(self.kind(), ErrorKind::OutcomeUnknown | ErrorKind::Replaced)
    }
}

/// What a panicking job said, behind the error's `source`.
#[derive(Debug)]
struct PanicText(String);

impl std::fmt::Display for PanicText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PanicText {}

/// The body of the writer's thread.
pub(super) fn work(shared: &Arc<Shared>, attached: &dyn Fn(i64)) {
    let mut end = End { shared, queue: VecDeque::new() };
    let mut chores = Chores::new();
    loop {
        suspicion::run(shared);
        if shared.best_effort && shared.health.is_attaching() && !attach(shared, attached) {
            return;
        }
        chores.run(shared);
        if end.queue.is_empty() {
            let kept = shared.kept.load(Ordering::Acquire);
            let mut until = chores.due(shared);
            if kept {
                until = until.min(Instant::now() + LONGEST_KEPT);
            }
            match shared.lanes.wait(until) {
                Woken::Closed => return,
                Woken::Idle if kept => give_back(shared),
                Woken::Idle | Woken::Poked | Woken::Work => {}
            }
        }
        let room = shared.spec.limits.batch_jobs.saturating_sub(end.queue.len());
        shared.lanes.take(&mut end.queue, room);
        if shared.gives_up() {
            return;
        }
        recover::run(shared);
        if !end.queue.is_empty() && !serve(shared, &mut end.queue) && !shared.health.is_attaching() {
            rest(shared, TRY_EVERY);
        }
    }
}

/// What the writer does beside its batches, and when. Between two batches this costs a look at the clock.
struct Chores {
    looked: Instant,
    bounds: Bounds,
    reclaimer: Reclaimer,
}

impl Chores {
    fn new() -> Self {
        Self { looked: Instant::now(), bounds: Bounds::default(), reclaimer: Reclaimer::new() }
    }

    /// When the idle writer comes back for them. The others go along with the look at the file.
    fn due(&self, shared: &Shared) -> Instant {
        let look = self.next_look(shared);
        self.reclaimer.wakes().map_or(look, |wakes| wakes.min(look))
    }

    fn next_look(&self, shared: &Shared) -> Instant {
        self.looked + if shared.is_unsettled() { SOON } else { IDLE_LOOK }
    }

    /// Does what is due.
    fn run(&mut self, shared: &Arc<Shared>) {
        let now = Instant::now();
        if now >= self.next_look(shared) {
            self.looked = now;
            look(shared);
        }
        self.bounds.look(shared, now);
        if self.reclaimer.is_due(now) {
            reclaim(shared, &mut self.reclaimer);
        }
        shared.checker.tend(shared);
    }
}

/// The looks at bounds that are reached, and at the log.
#[derive(Default)]
struct Bounds {
    last: Option<Instant>,
}

impl Bounds {
    fn look(&mut self, shared: &Shared, now: Instant) {
        if !shared.health.is_writable() {
            return;
        }
        if !shared.admission.any_reached() && !shared.checkpointer.is_behind() {
            self.last = None;
            return;
        }
        if now.saturating_duration_since(*self.last.get_or_insert(now)) < BOUNDS_LOOK {
            return;
        }
        self.last = Some(now);
        shared.look_at_bounds();
        shared.show();
    }
}

/// One batch. False when jobs went back because of trouble that does not pass at once.
fn serve(shared: &Shared, queue: &mut VecDeque<Entry>) -> bool {
    if shared.checkpointer.is_paused() {
        // A turn that was kept would be kept for the whole pause.
        if let Some(core) = shared.gate.enter().as_mut() {
            core.turn.leave();
        }
        if !shared.checkpointer.pause() {
            shared.gate.release();
        }
    }
    let mut inside = shared.gate.enter();
    let mut fit = true;
    let done = match (shared.health.refusal(), inside.as_mut()) {
        (None, Some(core)) if shared.health.is_writable() => {
            shared.set_in_line(true);
            let came = core.take_turn(shared.spec.limits.turn_wait);
            if !came {
                stats::add(&shared.counters.turns_late, 1);
            }
            shared.set_in_line(false);
            // More may have come meanwhile.
            let room = shared.spec.limits.batch_jobs.saturating_sub(queue.len());
            shared.lanes.take(queue, room);
            shared.shed(queue);
            let span = span!("batch", database = shared.spec.domain.name());
            let done = if queue.is_empty() { Vec::new() } else { batch::run(core, shared, queue) };
            drop(span);
            core.turn.leave();
            fit = !std::mem::take(&mut core.held_back);
            shared.give_back(queue);
            shared.committed(core);
            done
        }
        (None, _) if shared.lanes.is_open() => {
            // It is being opened again: the jobs stay where they are.
            drop(inside);
            shared.give_back(queue);
            if !shared.best_effort {
                shared.lanes.wait_closed(Instant::now() + LOOK_WHILE_ATTACHING);
            }
            return true;
        }
        (refusal, _) => {
            let error = refusal
                .unwrap_or_else(|| shared.name(Error::new(ErrorKind::Closed, "the database is closed")));
            batch::refuse(shared, queue, &batch::not_done(error));
            Vec::new()
        }
    };
    if shared.gate.is_reserved() {
        MutexGuard::unlock_fair(inside);
    } else {
        drop(inside);
    }
    let (mut fine, mut failed) = (0, 0);
    for entry in done {
        match shared.settle(entry) {
            Settled::Fine => fine += 1,
            Settled::Failed => failed += 1,
            Settled::Gone => stats::add(&shared.counters.jobs_withdrawn, 1),
        }
    }
    shared.counted(fine, failed);
    fit
}

/// Waits that long, or until it is closed.
fn rest(shared: &Shared, time: Duration) {
    let until = Instant::now() + time;
    while shared.lanes.is_open() && Instant::now() < until {
        shared.lanes.wait_closed(until);
    }
}

/// Gives the turn back when the caller that kept it does not come again.
fn give_back(shared: &Shared) {
    // Whoever is inside uses it, or will be looked after a millisecond later.
    let Some(mut inside) = shared.gate.try_enter() else { return };
    let kept = inside.as_mut().is_some_and(|core| core.turn.leave_if_over(Instant::now()));
    if !kept {
        shared.kept.store(false, Ordering::Release);
    }
}

/// Looks whether pages are free, and gives some back. In a turn of its own: whoever waits was answered before.
fn reclaim(shared: &Shared, reclaimer: &mut Reclaimer) {
    let mut inside = enter_first(shared);
    match inside.as_mut().filter(|_| shared.lanes.is_open()) {
        Some(core) => reclaimer.run(core, shared),
        None => reclaimer.put_off(),
    }
}

/// Enters also while a caller commits by itself all the time.
fn enter_first(shared: &Shared) -> MutexGuard<'_, Option<Core>> {
    shared.gate.reserve();
    let inside = shared.gate.enter();
    shared.gate.release();
    inside
}

/// The look at the file, and at the write lock when it was somebody else's.
fn look(shared: &Shared) {
    let mut inside = enter_first(shared);
    let Some(core) = inside.as_mut() else { return };
    if !shared.health.is_open() {
        return;
    }
    if !core.is_sound() {
        shared.failed_elsewhere();
        return;
    }
    if let Err(lost) = core.identity.check_now(core.tx.connection()) {
        shared.lost(lost);
        return;
    }
    // Jobs that wait find out by themselves, and more than who has the lock.
    if shared.health.is_writable() && shared.is_unsettled() && shared.lanes.len() == 0 {
        batch::look_at_lock(core, shared);
    }
    if shared.health.is_open() {
        // What shuts it out is in its health then; what keeps it from looking is met by the next write.
        let _ = schema_watch::look(core, shared);
    }
}

/// Attaches a best-effort domain, again and again until it works or the database is closed. What of it is open is closed
/// first.
fn attach(shared: &Shared, attached: &dyn Fn(i64)) -> bool {
    if shared.health.trouble().is_some() {
        // It was attached, and the same trouble would be met at once.
        rest(shared, TRY_EVERY);
    }
    loop {
        if !shared.lanes.is_open() && shared.lanes.len() == 0 {
            return false;
        }
        let opening = shared.opening.lock();
        if !shared.health.is_attaching() {
            // Somebody called reopen().
            return true;
        }
        let deadline = Instant::now() + ATTACH_TRY;
        let answer =
            recover::leave(shared, deadline, Copying::Unbounded).and_then(|()| shared.attach(deadline));
        drop(opening);
        match answer {
            Ok(wrote) => {
                if let Some(version) = wrote {
                    attached(version);
                }
                return true;
            }
            Err(error) => shared.detach(shared.held_by_somebody(error)),
        }
        if !shared.lanes.is_open() {
            return false;
        }
        batch::answer_late_in_backlog(shared);
        // Closing wakes; jobs that come wait in the backlog.
        rest(shared, TRY_EVERY);
    }
}

/// Runs when the writer's thread ends, however it ends.
struct End<'a> {
    shared: &'a Shared,
    queue: VecDeque<Entry>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        let shared = self.shared;
        shared.lanes.close();
        let died = std::thread::panicking();
        let reason = if died { "the writer died" } else { "the database was closed; nothing was done" };
        let error = shared.name(Error::new(ErrorKind::Closed, reason));
        if died {
            shared.health.set(Health::Closed, Some(error.clone()));
            if let Some(core) = shared.gate.enter().as_mut() {
                core.turn.leave();
            }
        }
        shared.lanes.take(&mut self.queue, usize::MAX);
        *shared.left.lock() += self.queue.len() as u64;
        batch::refuse(shared, &mut self.queue, &error);
    }
}

/// A caller's own commit. `None` when it has to queue.
pub(super) fn write_directly<R>(
    shared: &Shared,
    label: &Label,
    deadline: Instant,
    job: &(impl Fn(&Tx) -> Result<R> + Send),
) -> Option<Result<R>> {
    let mut inside = shared.gate.pass()?;
    if !shared.health.is_writable() {
        return None;
    }
    let core = inside.as_mut()?;
    // Waiting for the turn here saves two thread switches; the rest of this process gathers behind us meanwhile.
    let from = Instant::now();
    let mut begun = from;
    let wait = shared.spec.limits.turn_wait.min(deadline.saturating_duration_since(from));
    if !core.turn.go_on(from) {
        shared.set_in_line(true);
        let came = core.take_turn(wait);
        shared.set_in_line(false);
        if !came {
            return None;
        }
        begun = Instant::now();
    }
    let answer = commit_directly(shared, core, label, deadline, job);
    if answer.is_none() {
        core.turn.leave();
    } else {
        let ended = Instant::now();
        shared.counters.held(begun, ended);
        if core.turn.keep_or_leave(from, ended) && !shared.kept.swap(true, Ordering::AcqRel) {
            // From now on the writer looks whether we come back.
            shared.lanes.poke();
        }
    }
    match &answer {
        Some(Ok(_)) => {
            stats::add(&shared.counters.direct_commits, 1);
            shared.counted(1, 0);
            shared.committed(core);
        }
        Some(Err(_)) => {
            shared.counted(0, 1);
            shared.failed(core);
        }
        None => {}
    }
    answer
}

fn commit_directly<R>(
    shared: &Shared,
    core: &mut Core,
    label: &Label,
    deadline: Instant,
    job: &impl Fn(&Tx) -> Result<R>,
) -> Option<Result<R>> {
    match batch::try_begin(core, shared) {
        Ok(true) => core.blocked.had(shared),
        // The writer knows how to wait, and whom to blame.
        _ => return None,
    }
    let mut answer = None;
    let overruled = batch::transact(core, shared, |tx| {
        batch::guarded(tx, shared, label, deadline, || {
            let (ran, told) = match catch_unwind(AssertUnwindSafe(|| job(tx))) {
                Ok(Ok(value)) => (Ran::Fine, Ok(value)),
                Ok(Err(error)) => (Ran::Failed, Err(error)),
                Err(payload) => (Ran::Panicked, Err(Error::panicked(payload))),
            };
            answer = Some(told);
            ran
        })
    });
    match overruled {
        Some(Overruled::ByJob(error) | Overruled::ByTrouble(error)) => Some(Err(error)),
        None => answer,
    }
}
