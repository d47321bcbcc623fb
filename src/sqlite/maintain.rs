//! What the background does a little at a time, done to its end: free pages given back, the log worked off, the planner's
//! statistics brought up to date. Beside programs that go on writing.
//!
//! Invariants:
//! 1. The write lock is taken in its turn, and for the steps of [`reclaim`](super::reclaim) only.
//! 2. The log stays short: it is worked off before a step that would make it longer than the soft limit.
//! 3. A failed write of its own ends it, and is told to all; after one of another process it ends as well.
//! 4. What others free meanwhile is left for the next time: it comes to an end.
//!
//! Tests: `tests/space_comes_back.rs`, `tests/latch_across_processes.rs`.

use std::time::{Duration, Instant};

use super::connect::{Patience, Spec, pause, wait_a_moment};
use super::ffi;
use super::generation::User;
use super::latch::is_of_the_disk;
use super::log_cap::Lengths;
use super::reclaim::pages::{self, Pages};
use super::reclaim::{Pace, Room};
use super::visit::Visit;
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::clock::instant_after;

/// Rows of an index that are looked at for the statistics (<https://sqlite.org/lang_analyze.html>, 4).
const ANALYSIS_LIMIT: u32 = 400;
/// Looks at every table, not only at those that this connection has queried
/// (<https://sqlite.org/pragma.html#pragma_optimize>).
const OPTIMIZE: &str = "PRAGMA optimize=0x10002";

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) page_size: u64,
    pub(crate) after: Pages,
    pub(crate) freed: u64,
    pub(crate) longest: Duration,
    /// Pages of the log that somebody's read kept from being worked off.
    pub(crate) log_left: u64,
    /// Pages can be given back one by one.
    pub(crate) can_be_freed: bool,
    /// The statistics are up to date.
    pub(crate) optimized: bool,
}

/// Maintains one database; `progress` learns of bytes given back and to give back. Each lock, and each reader that keeps the log from
/// being worked off, is waited for as long as `wait` says.
///
/// # Errors
/// Of [`Visit::begin`]; `Busy` naming who has the write lock, or because a reader keeps a long log; `Full`; of SQLite.
pub(crate) fn maintain(spec: &Spec, wait: Duration, progress: &mut dyn FnMut(u64, u64)) -> Result<Done> {
    let mut visit = Visit::begin(spec, User::Maintenance, wait)?;
    let answer = try_maintain(&mut visit, wait, progress);
    spec.named(answer)
}

fn try_maintain(visit: &mut Visit, wait: Duration, progress: &mut dyn FnMut(u64, u64)) -> Result<Done> {
    let before = Pages::of(visit.connection())?;
    let mut done = Done {
        page_size: pages::page_size(visit.connection())?,
        can_be_freed: pages::can_be_freed(visit.connection())?,
        ..Done::default()
    };
    if done.can_be_freed {
        give_back(visit, wait, before.free, &mut done, progress)?;
    }
    done.optimized = optimize(visit, wait)?;
    done.log_left = work_off(visit, wait)?;
    done.after = Pages::of(visit.connection())?;
    Ok(done)
}

fn give_back(
    visit: &mut Visit,
    wait: Duration,
    wanted: u64,
    done: &mut Done,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let soft = Lengths::of(&visit.spec().limits, &visit.spec().domain).soft;
    let mut pace = Pace::new();
    while done.freed < wanted {
        let log = ffi::checkpoint_noop(visit.connection())?;
        let room = Room::in_log(log, soft);
        if room == Room::None {
            if work_off(visit, wait)? > 0 {
                return Err(Error::new(
                    ErrorKind::Busy,
                    "somebody reads what is in the write-ahead log, so nothing more is given back now",
                )
                .advise("`rowhouse who` tells who has the database open; try again when that has ended")
                .retry_in(Duration::from_secs(30)));
            }
            continue;
        }
        let most = room.pages(pace).min(u32::try_from(wanted - done.freed).unwrap_or(u32::MAX));
        visit.lock(instant_after(wait))?;
        let from = Instant::now();
        let freed = match pages::free(visit.connection(), most, Pace::until()) {
            Ok(freed) => freed,
            Err(error) => {
                visit.unlock();
                return visit.judge(Err(error));
            }
        };
        visit.commit()?;
        let took = from.elapsed();
        if freed == 0 {
            // Others used the rest meanwhile.
            break;
        }
        done.freed += freed;
        done.longest = done.longest.max(took);
        pace.took(room, took);
        progress(done.freed * done.page_size, wanted * done.page_size);
        // Half of the time is the others'.
        let until = Instant::now() + took;
        while Instant::now() < until {
            pause();
        }
    }
    progress(wanted * done.page_size, wanted * done.page_size);
    Ok(())
}

/// Works the log off, the last piece while nobody of this library writes; answers how many pages are left after `wait`.
fn work_off(visit: &mut Visit, wait: Duration) -> Result<u64> {
    let until = instant_after(wait);
    loop {
        let mut left = work_off_once(visit)?;
        if left > 0 {
            visit.take_turn(until);
            let last = work_off_once(visit);
            visit.leave();
            left = last?;
        }
        if left == 0 || Instant::now() >= until {
            return Ok(left);
        }
        pause();
    }
}

/// What is left is asked for afterwards: the checkpoint itself only tells of what was in the log when it began.
fn work_off_once(visit: &Visit) -> Result<u64> {
    visit.check_latch()?;
    visit.judge(ffi::checkpoint_passive(visit.connection()))?;
    let left = ffi::checkpoint_noop(visit.connection())?;
    Ok(left.log.saturating_sub(left.done))
}

/// Each table's statistics are a short transaction of their own. False when it failed: a schema may use functions that only
/// its own program knows, and nothing depends on statistics.
///
/// # Errors
/// Of a failed write.
fn optimize(visit: &Visit, wait: Duration) -> Result<bool> {
    visit.check_latch()?;
    let _patience = Patience::until(instant_after(wait));
    let connection = visit.connection();
    let run = || {
        connection.busy_handler(Some(wait_a_moment))?;
        connection.execute_batch(&format!("PRAGMA analysis_limit={ANALYSIS_LIMIT}"))?;
        let mut statement = connection.prepare(OPTIMIZE)?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok::<_, rusqlite::Error>(())
    };
    let done = visit.judge(run());
    // Nothing of it is open: the next statement waits in its own way again.
    let _ = connection.busy_handler(None);
    match done {
        Ok(()) => Ok(true),
        Err(error) if is_of_the_disk(&error) => Err(error),
        Err(error) => {
            log::info!("{}: no statistics for the query planner: {error}", visit.spec().domain.name());
            Ok(false)
        }
    }
}
