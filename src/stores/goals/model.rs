//! A goal as it is stored, asked for, and changed.

use serde::{Deserialize, Serialize};

use super::LONGEST_OBJECTIVE;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::Row;
use crate::stores::threads::Change;
use crate::stores::threads::row::canonical_id;

/// What a thread is to reach. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goal {
    /// The thread it belongs to.
    pub thread_id: String,
    /// A UUID, another one each time the goal is replaced.
    pub goal_id: String,
    /// What is to be reached.
    pub objective: String,
    /// How it stands.
    pub status: GoalStatus,
    /// Tokens it may use; `None` for no bound.
    pub token_budget: Option<i64>,
    /// Tokens it used.
    pub tokens_used: i64,
    /// Seconds it was worked on.
    pub time_used_seconds: i64,
    /// When it was set.
    pub created_at: i64,
    /// When it was last changed; never before that of an earlier change, also when the clock was set back.
    pub updated_at: i64,
}

/// How a goal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoalStatus {
    /// Being worked on.
    Active,
    /// Stopped by a person.
    Paused,
    /// Needs something that is not there.
    Blocked,
    /// Stopped by a limit of the account.
    UsageLimited,
    /// Stopped because its budget is used up.
    BudgetLimited,
    /// Reached.
    Complete,
}

impl GoalStatus {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Active, Self::Paused, Self::Blocked, Self::UsageLimited, Self::BudgetLimited, Self::Complete];

    /// The status as one lower-case word, as it is stored and appears in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Blocked => "blocked",
            Self::UsageLimited => "usage_limited",
            Self::BudgetLimited => "budget_limited",
            Self::Complete => "complete",
        }
    }
}

impl std::str::FromStr for GoalStatus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str).join(", ");
            Error::new(ErrorKind::Invalid, "no such status of a goal").advise(format!("one of {words}"))
        })
    }
}

/// A goal that is to be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct NewGoal {
    /// What is to be reached: 1 byte to 64 KiB, without NUL.
    pub objective: String,
    /// How it stands at first. Default active.
    pub status: GoalStatus,
    /// Tokens it may use, at least one; default no bound.
    pub token_budget: Option<i64>,
}

impl NewGoal {
    /// An active goal without a budget.
    pub fn new(objective: impl Into<String>) -> Self {
        Self { objective: objective.into(), status: GoalStatus::Active, token_budget: None }
    }

    /// Tokens it may use.
    pub fn token_budget(mut self, tokens: i64) -> Self {
        self.token_budget = Some(tokens);
        self
    }

    /// How it stands at first.
    pub fn status(mut self, status: GoalStatus) -> Self {
        self.status = status;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        check_objective(&self.objective)?;
        check_budget(self.token_budget)
    }
}

/// A change of a goal: what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct GoalPatch {
    pub(super) expected_goal_id: Option<String>,
    pub(super) objective: Option<String>,
    pub(super) status: Option<GoalStatus>,
    pub(super) token_budget: Change<i64>,
}

impl GoalPatch {
    /// Only when this is still the thread's goal; a replaced one stays as it is.
    pub fn expect(mut self, goal_id: impl Into<String>) -> Self {
        self.expected_goal_id = Some(goal_id.into());
        self
    }

    /// Another objective.
    pub fn objective(mut self, objective: impl Into<String>) -> Self {
        self.objective = Some(objective.into());
        self
    }

    /// Another status. Active with a budget that is used up is `budget_limited`; a `budget_limited` goal that is to be
    /// paused stays so.
    pub fn status(mut self, status: GoalStatus) -> Self {
        self.status = Some(status);
        self
    }

    /// Another budget, or none. An active goal that has used as much becomes `budget_limited`; one that
    /// is `budget_limited` stays so until it is set active.
    pub fn token_budget(mut self, tokens: Option<i64>) -> Self {
        self.token_budget = tokens.map_or(Change::Clear, Change::Set);
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.objective.is_none() && self.status.is_none() && self.token_budget == Change::Leave
    }

    /// What the budget is to be, when it is to be another.
    pub(super) fn new_budget(&self) -> Option<i64> {
        match self.token_budget {
            Change::Set(tokens) => Some(tokens),
            Change::Leave | Change::Clear => None,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        self.objective.as_deref().map_or(Ok(()), check_objective)?;
        check_budget(self.new_budget())
    }
}

/// Which goals use counts for, by status, and which of these it may make `budget_limited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accounting {
    /// Counts for active ones; these may become limited.
    ActiveStatusOnly,
    /// Counts for active and `budget_limited` ones: what runs on after the budget was reached. Active ones may become limited.
    ActiveOnly,
    /// Counts for active, `budget_limited` and complete ones. Active ones may become limited.
    ActiveOrComplete,
    /// Counts for all but complete ones; all of these may become limited.
    ActiveOrStopped,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "goal", rename_all = "snake_case")]
pub enum GoalChange {
    /// Done: the goal as it is now.
    Changed(Goal),
    /// There was nothing to change: the goal as it is.
    Unchanged(Goal),
    /// The thread has another goal than the one expected: this one, untouched.
    Mismatch(Goal),
    /// The thread has no goal.
    Missing,
}

impl GoalChange {
    /// The thread's goal, whatever became of the change.
    pub fn goal(&self) -> Option<&Goal> {
        match self {
            Self::Changed(goal) | Self::Unchanged(goal) | Self::Mismatch(goal) => Some(goal),
            Self::Missing => None,
        }
    }

    pub(super) fn unchanged(found: Option<Goal>, expected: Option<&str>) -> Self {
        match found {
            None => Self::Missing,
            Some(goal) if expected.is_some_and(|id| !id.eq_ignore_ascii_case(&goal.goal_id)) => {
                Self::Mismatch(goal)
            }
            Some(goal) => Self::Unchanged(goal),
        }
    }
}

impl Goal {
    /// Whether a goal that was read elsewhere is one that this store could have made.
    pub(super) fn check(&self) -> Result<()> {
        check_objective(&self.objective)?;
        check_budget(self.token_budget)?;
        if canonical_id(&self.goal_id).is_none() || self.tokens_used < 0 || self.time_used_seconds < 0 {
            return Err(Error::new(ErrorKind::Invalid, "it is no goal of this store"));
        }
        Ok(())
    }

    pub(super) fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            thread_id: row.get("thread_id")?,
            goal_id: row.get("goal_id")?,
            objective: row.get("objective")?,
            status: row.get::<String>("status")?.parse()?,
            token_budget: row.get("token_budget")?,
            tokens_used: row.get("tokens_used")?,
            time_used_seconds: row.get("time_used_seconds")?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
        })
    }
}

fn check_objective(objective: &str) -> Result<()> {
    let wrong = if objective.trim().is_empty() {
        "an objective says something"
    } else if objective.len() > LONGEST_OBJECTIVE {
        "an objective has at most 64 KiB"
    } else if objective.contains('\0') {
        "an objective holds no NUL character"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Invalid, wrong))
}

fn check_budget(tokens: Option<i64>) -> Result<()> {
    if tokens.is_some_and(|tokens| tokens < 1) {
        return Err(Error::new(ErrorKind::Invalid, "a token budget is at least one")
            .advise("give no budget for a goal without a bound"));
    }
    Ok(())
}
