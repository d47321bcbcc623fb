//! Goals: at most one per thread, with what it may use and what it used.
//!
//! Invariants:
//! - What is used only grows until the goal is replaced: deltas of several processes add up exactly, because each is
//!   added by one statement, and a negative one counts as zero.
//! - An active goal with a budget has not used it up: whatever makes it so (using, a smaller budget, setting it active)
//!   makes it `budget_limited` in the same statement.
//! - A caller that names the goal it has seen (`expected_goal_id`) changes no other.
//! - What changes nothing is not written.
//! - What a transcript tells of a goal never takes the place of what was said later (`tests/c4_what_a_user_said.rs`).
//! - A list neither skips nor repeats a goal that is there throughout.
//!
//! Tests: `tests/contract/goals.rs`; what a statement may look at: `tests/stores_look_at_little.rs`.

mod list;
mod model;
mod sql;

pub use list::{GoalPage, GoalQuery};
pub use model::{Accounting, Goal, GoalChange, GoalPatch, GoalStatus, NewGoal};

use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Session, Value};
use crate::sqlite::{Database, now_unix_ms};
use crate::stores::database::{Engine, StoreDatabase};
use crate::stores::threads::Change;
use crate::stores::threads::row::{self, canonical_id};
use list::Walk;

/// The longest objective, in bytes of UTF-8.
pub const LONGEST_OBJECTIVE: usize = 64 << 10;

/// The goal store of a `goals` database. Cheap to clone.
///
/// ```
/// # fn main() -> rowhouse::Result<()> {
/// # let folder = tempfile::tempdir().expect("a folder");
/// use rowhouse::stores::goals::{Accounting, GoalStatus, NewGoal};
/// use rowhouse::{Home, Runtime};
/// let runtime = Runtime::open(Home::at(folder.path().join("home")))?;
/// let goals = runtime.goals();
/// let thread = "019cadf1-7a5e-7b04-8f21-000000000001";
/// goals.replace(thread, &NewGoal::new("Make the build green").token_budget(10_000))?;
/// goals.account(thread, 60, 12_000, Accounting::ActiveOnly, None)?;
/// assert_eq!(goals.get(thread)?.expect("a goal").status, GoalStatus::BudgetLimited);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Goals {
    database: StoreDatabase,
}

impl Goals {
    /// The store in this database, which holds the tables of the `goals` domain.
    pub fn new(database: Database) -> Self {
        Self::of(Ok(database.into()))
    }

    /// The store of a runtime; a runtime without the goals domain answers so at every use.
    pub(crate) fn of(engine: Result<Engine>) -> Self {
        Self { database: StoreDatabase::new(engine, "goals") }
    }

    /// The goal of a thread, or `None`.
    ///
    /// # Errors
    /// The engine's.
    pub fn get(&self, thread_id: &str) -> Result<Option<Goal>> {
        let Some(thread) = canonical_id(thread_id) else { return Ok(None) };
        self.database.get()?.read(|at| read(at, &thread))
    }

    /// One page of goals. A rare status may answer a short page, also an empty one, with a cursor to go on.
    ///
    /// # Errors
    /// `Invalid` for a limit outside 1 to 500, and for a cursor that is no cursor or belongs to another query; the
    /// engine's.
    pub fn list(&self, query: &GoalQuery) -> Result<GoalPage> {
        let walk = Walk::of(query)?;
        self.database.get()?.read(|at| walk.page(at))
    }

    /// Gives the thread this goal, whatever it had: with an id of its own, and nothing used.
    ///
    /// # Errors
    /// `Invalid` for an id that is no UUID, an objective that is empty, longer than [`LONGEST_OBJECTIVE`] or holds a NUL,
    /// and a budget below one; the engine's.
    pub fn replace(&self, thread_id: &str, goal: &NewGoal) -> Result<Goal> {
        let params = row_of(thread_id, goal)?;
        self.database.get()?.write(|tx| only(tx, sql::REPLACE, &params)?.ok_or_else(vanished))
    }

    /// Gives the thread this goal when it has none, or a complete one. `None` when it has one that is not complete, which
    /// stays as it is.
    ///
    /// # Errors
    /// As [`replace`](Self::replace).
    pub fn insert(&self, thread_id: &str, goal: &NewGoal) -> Result<Option<Goal>> {
        let params = row_of(thread_id, goal)?;
        self.database.get()?.write(|tx| only(tx, sql::INSERT, &params))
    }

    /// Changes what the patch names. One that changes nothing writes nothing; an empty one is a read.
    ///
    /// # Errors
    /// `Invalid` as [`replace`](Self::replace); the engine's.
    pub fn update(&self, thread_id: &str, patch: &GoalPatch) -> Result<GoalChange> {
        let thread = row::thread_id(thread_id)?;
        patch.check()?;
        if patch.is_empty() {
            let found = self.database.get()?.read(|at| read(at, &thread))?;
            return Ok(GoalChange::unchanged(found, patch.expected_goal_id.as_deref()));
        }
        self.change(
            &thread,
            patch.expected_goal_id.as_deref(),
            sql::UPDATE,
            [
                patch.objective.clone().into(),
                patch.status.map(GoalStatus::as_str).into(),
                (patch.token_budget != Change::Leave).into(),
                patch.new_budget().into(),
                now().into(),
            ],
        )
    }

    /// Pauses an active goal. One in another status stays as it is; above all one that used up its budget.
    ///
    /// # Errors
    /// `Invalid` for an id that is no UUID; the engine's.
    pub fn pause(&self, thread_id: &str) -> Result<GoalChange> {
        self.stop(thread_id, GoalStatus::Paused)
    }

    /// Marks an active goal as stopped by a usage limit of its account. One in another status stays as it is.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub fn usage_limit(&self, thread_id: &str) -> Result<GoalChange> {
        self.stop(thread_id, GoalStatus::UsageLimited)
    }

    /// Adds time and tokens to a goal in a status that counts ([`Accounting`]); it becomes `budget_limited` when that uses
    /// up its budget. A negative delta counts as zero; two that are zero write nothing. Sums end at [`i64::MAX`].
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub fn account(
        &self,
        thread_id: &str,
        seconds: i64,
        tokens: i64,
        accounting: Accounting,
        expected_goal_id: Option<&str>,
    ) -> Result<GoalChange> {
        let thread = row::thread_id(thread_id)?;
        let (seconds, tokens) = (seconds.max(0), tokens.max(0));
        if (seconds, tokens) == (0, 0) {
            let found = self.database.get()?.read(|at| read(at, &thread))?;
            return Ok(GoalChange::unchanged(found, expected_goal_id));
        }
        self.change(
            &thread,
            expected_goal_id,
            sql::account(accounting),
            [seconds.into(), tokens.into(), now().into()],
        )
    }

    /// Removes the goal of a thread, and answers it.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub fn delete(&self, thread_id: &str) -> Result<Option<Goal>> {
        let thread = row::thread_id(thread_id)?;
        self.database.get()?.write(|tx| only(tx, sql::DELETE, &[thread.as_str().into()]))
    }

    /// Brings back goals as transcripts tell them: those that are missing here, or were last changed earlier. What no store
    /// of goals could have made is passed over.
    pub(crate) fn restore(&self, goals: &[Goal]) -> Result<()> {
        let good: Vec<_> = goals.iter().filter_map(|goal| Some((goal, restorable(goal).ok()?))).collect();
        if good.is_empty() {
            return Ok(());
        }
        let database = self.database.get()?;
        let wanted = database.read(|at| {
            let mut wanted = Vec::new();
            for (goal, params) in &good {
                if read(at, &goal.thread_id)?.is_none_or(|known| known.updated_at < goal.updated_at) {
                    wanted.push(params);
                }
            }
            Ok(wanted)
        })?;
        if wanted.is_empty() {
            return Ok(());
        }
        database.write(|tx| {
            wanted.iter().try_for_each(|params| Session::execute(tx, sql::RESTORE, *params).map(drop))
        })
    }

    /// The same goals; writes go to the background lane.
    pub(crate) fn background(self) -> Self {
        Self { database: self.database.background() }
    }

    fn stop(&self, thread_id: &str, status: GoalStatus) -> Result<GoalChange> {
        let thread = row::thread_id(thread_id)?;
        self.change(&thread, None, sql::STOP, [status.as_str().into(), now().into()])
    }

    /// One statement that changes at most one goal, and answers it. Its first two parameters say for which it is meant.
    fn change(
        &self,
        thread: &str,
        expected: Option<&str>,
        statement: &'static str,
        rest: impl IntoIterator<Item = Value>,
    ) -> Result<GoalChange> {
        let meant = [thread.into(), expected.map(str::to_ascii_lowercase).into()];
        let params: Vec<Value> = meant.into_iter().chain(rest).collect();
        self.database.get()?.write(|tx| match only(tx, statement, &params)? {
            Some(goal) => Ok(GoalChange::Changed(goal)),
            None => Ok(GoalChange::unchanged(read(tx, thread)?, expected)),
        })
    }
}

fn row_of(thread_id: &str, goal: &NewGoal) -> Result<[Value; 6]> {
    let thread = row::thread_id(thread_id)?;
    goal.check()?;
    Ok([
        thread.into(),
        uuid::Uuid::now_v7().to_string().into(),
        goal.objective.as_str().into(),
        goal.status.as_str().into(),
        goal.token_budget.into(),
        now().into(),
    ])
}

fn restorable(goal: &Goal) -> Result<[Value; 9]> {
    goal.check()?;
    Ok([
        row::thread_id(&goal.thread_id)?.into(),
        row::thread_id(&goal.goal_id)?.into(),
        goal.objective.as_str().into(),
        goal.status.as_str().into(),
        goal.token_budget.into(),
        goal.tokens_used.into(),
        goal.time_used_seconds.into(),
        goal.created_at.into(),
        goal.updated_at.into(),
    ])
}

fn read(at: &impl Session, thread: &str) -> Result<Option<Goal>> {
    only(at, sql::GET, &[thread.into()])
}

fn only(at: &impl Session, statement: &str, params: &[Value]) -> Result<Option<Goal>> {
    at.query(statement, params)?.first().map(Goal::from_row).transpose()
}

fn now() -> i64 {
    i64::try_from(now_unix_ms()).unwrap_or(i64::MAX)
}

/// An INSERT that answers what it wrote has written.
fn vanished() -> Error {
    Error::new(ErrorKind::Io, "the goal that was written was not answered")
}
