//! Callers that all add what they used to one goal.

use std::path::Path;
use std::time::Duration;

use rowhouse::stores::goals::{Accounting, Goal, NewGoal};
use rowhouse::{Domain, Error, ErrorKind, Home, Result, Runtime};

use super::callers::{Measured, call_for};

const THREAD: &str = "019cadf1-7a5e-7b04-8f21-000000000001";

/// The goals of a home.
///
/// # Errors
/// The engine's.
pub(crate) fn open(home: &Path) -> Result<Runtime> {
    Runtime::builder(Home::at(home)).domain(Domain::goals()).open()
}

/// Gives the one thread its goal.
///
/// # Errors
/// The engine's.
pub(crate) fn set(home: &Path) -> Result<Goal> {
    open(home)?.goals().replace(THREAD, &NewGoal::new("Use as much as possible"))
}

/// Lets `callers` threads add one second and one token at a time until the time is up.
///
/// # Errors
/// The first one that a caller met.
pub(crate) fn account_for(runtime: &Runtime, callers: usize, time: Duration) -> Result<Measured> {
    let goals = runtime.goals();
    call_for(callers, time, || {
        let goals = goals.clone();
        move |_| goals.account(THREAD, 1, 1, Accounting::ActiveOnly, None).map(drop)
    })
}

/// Compares what the goal counted with what was acknowledged.
///
/// # Errors
/// `Corrupt` when the two differ; the engine's.
pub(crate) fn verify(home: &Path, acknowledged: u64) -> Result<()> {
    let goal = open(home)?.goals().get(THREAD)?;
    let counted = goal.map_or(0, |goal| goal.tokens_used);
    if counted as u64 == acknowledged {
        return Ok(());
    }
    let message = format!("{acknowledged} tokens were acknowledged, the goal counted {counted}");
    Err(Error::new(ErrorKind::Corrupt, message).at_path(home))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acknowledged_is_counted() {
        let home = tempfile::tempdir().expect("a folder");
        set(home.path()).expect("a goal");
        let runtime = open(home.path()).expect("it opens");
        let seen = account_for(&runtime, 3, Duration::from_millis(30)).expect("it counts");
        drop(runtime);
        verify(home.path(), seen.ops).expect("all of it");
        assert_eq!(verify(home.path(), seen.ops + 1).expect_err("less").kind(), ErrorKind::Corrupt);
    }
}
