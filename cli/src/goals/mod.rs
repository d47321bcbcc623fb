//! `rowhouse goals`: what threads are to reach, and what they used for it.

mod render;

use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use rowhouse::stores::goals::{Goal, GoalChange, GoalPatch, GoalQuery, GoalStatus, Goals, NewGoal};
use rowhouse::thread_store::LocalThreadStore;
use rowhouse::{Domain, Error, ErrorKind, Home, Runtime};
use serde::Serialize;

use crate::agreement::Agreement;
use crate::open::{self, Opened};
use crate::output::{self, Output};
use crate::table::rfc3339;
use crate::waiting::telling_who;

#[derive(Args)]
#[command(after_help = "\
Examples:
  rowhouse goals list --status active
  rowhouse goals set THREAD --objective 'Make the build green' --budget 200000
  rowhouse goals pause THREAD")]
pub(crate) struct GoalsArguments {
    #[command(subcommand)]
    command: GoalsCommand,
}

#[derive(Subcommand)]
enum GoalsCommand {
    /// List goals, those of the newest threads first
    #[command(
        after_help = "Examples:\n  rowhouse goals list\n  rowhouse goals list --status active --status paused\n  rowhouse goals list --json | jq -r '.goals[].objective'"
    )]
    List(ListArguments),
    /// Show the goal of a thread
    #[command(
        after_help = "Examples:\n  rowhouse goals show 0badcafe\n  rowhouse goals show 019cadf1-7a5e-7b04-8f21-00000badcafe --json | jq .goal.tokens_used"
    )]
    Show {
        /// The thread; the beginning or the end of its id is enough
        thread: String,
    },
    /// Give a thread a goal, when it has none or a complete one
    #[command(
        after_help = "Examples:\n  rowhouse goals set THREAD --objective 'Make the build green' --budget 200000\n  rowhouse goals set THREAD --objective 'Something else' --replace"
    )]
    Set(SetArguments),
    /// Change what is named; the rest stays
    #[command(
        after_help = "Examples:\n  rowhouse goals update THREAD --status complete\n  rowhouse goals update THREAD --budget 500000 --status active\n  rowhouse goals update THREAD --budget none"
    )]
    Update(UpdateArguments),
    /// Pause an active goal; one that used up its budget stays as it is
    #[command(after_help = "Examples:\n  rowhouse goals pause THREAD")]
    Pause {
        /// The thread; the beginning or the end of its id is enough
        thread: String,
    },
    /// Set a goal active again; one that used up its budget stays limited
    #[command(after_help = "Examples:\n  rowhouse goals resume THREAD")]
    Resume {
        /// The thread; the beginning or the end of its id is enough
        thread: String,
    },
    /// Remove the goal of a thread
    #[command(
        after_help = "Examples:\n  rowhouse goals rm THREAD --dry-run\n  rowhouse goals rm THREAD --yes --json"
    )]
    Rm {
        /// The thread; the beginning or the end of its id is enough
        thread: String,
        #[command(flatten)]
        agreement: Agreement,
    },
}

#[derive(Args)]
struct ListArguments {
    /// Only goals in this status; may be repeated
    #[arg(long, value_name = "STATUS", value_parser = status())]
    status: Vec<GoalStatus>,
    /// Goals on a page
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Where the page before this one ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

#[derive(Args)]
struct SetArguments {
    /// The thread; the beginning or the end of its id is enough
    thread: String,
    /// What is to be reached
    #[arg(long, value_name = "TEXT")]
    objective: String,
    /// Tokens it may use [default: no bound]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(1..))]
    budget: Option<i64>,
    /// Whatever goal it has; what was used begins at zero again
    #[arg(long)]
    replace: bool,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("change").args(["objective", "status", "budget"]).required(true).multiple(true))]
struct UpdateArguments {
    /// The thread; the beginning or the end of its id is enough
    thread: String,
    /// Another objective
    #[arg(long, value_name = "TEXT")]
    objective: Option<String>,
    /// Another status
    #[arg(long, value_name = "STATUS", value_parser = status())]
    status: Option<GoalStatus>,
    /// Another budget in tokens, or `none`
    #[arg(long, value_name = "N|none", allow_negative_numbers = true, value_parser = budget)]
    budget: Option<Budget>,
    /// Only if this is still its goal
    #[arg(long, value_name = "GOAL_ID")]
    expect: Option<String>,
}

/// A budget as it is written: a number, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Budget(Option<i64>);

fn budget(text: &str) -> Result<Budget, String> {
    if text == "none" {
        return Ok(Budget(None));
    }
    match text.parse() {
        Ok(tokens @ 1..) => Ok(Budget(Some(tokens))),
        _ => Err("a number of at least 1, or none".to_owned()),
    }
}

fn status() -> impl TypedValueParser<Value = GoalStatus> {
    PossibleValuesParser::new(GoalStatus::ALL.map(GoalStatus::as_str))
        .try_map(|word| word.parse::<GoalStatus>())
}

/// One goal.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    thread_id: String,
    goal_id: String,
    objective: String,
    status: GoalStatus,
    /// Tokens; null for no bound.
    token_budget: Option<i64>,
    tokens_used: i64,
    time_used_seconds: i64,
    #[serde(serialize_with = "rfc3339")]
    created_at: i64,
    #[serde(serialize_with = "rfc3339")]
    updated_at: i64,
}

/// One page of goals.
#[derive(Debug, Default, Serialize)]
struct Page {
    goals: Vec<Row>,
    next_cursor: Option<String>,
}

/// A goal, and what was done with it.
#[derive(Serialize)]
struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    goal: Row,
}

pub(crate) fn run(home: &Home, arguments: &GoalsArguments, output: &Output) -> Result<()> {
    match &arguments.command {
        GoalsCommand::List(list) => show_list(home, list, output),
        GoalsCommand::Show { thread } => {
            let (_runtime, goals) = existing(home)?;
            let goal = goals.get(&open::thread_id(home, thread)?)?.ok_or_else(no_goal)?;
            tell(None, goal, output)
        }
        GoalsCommand::Set(set) => {
            let goal = set_goal(home, set)?;
            keep(home, &goal.thread_id);
            tell(Some("set"), goal, output)
        }
        GoalsCommand::Update(update) => {
            change(home, &update.thread, |goals, thread| goals.update(thread, &update.patch()), output)
        }
        GoalsCommand::Pause { thread } => change(home, thread, Goals::pause, output),
        GoalsCommand::Resume { thread } => {
            let active = GoalPatch::default().status(GoalStatus::Active);
            change(home, thread, |goals, thread| goals.update(thread, &active), output)
        }
        GoalsCommand::Rm { thread, agreement } => remove(home, thread, agreement, output),
    }
}

fn change(
    home: &Home,
    thread: &str,
    work: impl FnOnce(&Goals, &str) -> rowhouse::Result<GoalChange>,
    output: &Output,
) -> Result<()> {
    let thread = open::thread_id(home, thread)?;
    let change = {
        let (_runtime, goals) = existing(home)?;
        telling_who(home, "goals", || work(&goals, &thread))?
    };
    match change {
        GoalChange::Changed(goal) => {
            keep(home, &thread);
            tell(Some("changed"), goal, output)
        }
        GoalChange::Unchanged(goal) => tell(Some("unchanged"), goal, output),
        GoalChange::Mismatch(_) => Err(Error::new(ErrorKind::Conflict, "the thread has another goal by now")
            .advise("look at it with `rowhouse goals show`; nothing was changed")
            .into()),
        GoalChange::Missing => Err(no_goal().into()),
    }
}

fn remove(home: &Home, thread: &str, agreement: &Agreement, output: &Output) -> Result<()> {
    let thread = open::thread_id(home, thread)?;
    let removed = {
        let (_runtime, goals) = existing(home)?;
        let goal = goals.get(&thread)?.ok_or_else(no_goal)?;
        if agreement.dry_run {
            return tell(Some("would remove"), goal, output);
        }
        agreement.given(&format!("remove the goal of {}?", goal.thread_id), output)?;
        telling_who(home, "goals", || goals.delete(&thread))?.ok_or_else(no_goal)?
    };
    keep(home, &thread);
    tell(Some("removed"), removed, output)
}

/// Lets the transcript of the thread say what became of its goal: it is there when the databases are lost. A thread
/// without a transcript has its goal in the database alone.
fn keep(home: &Home, thread: &str) {
    let said = || -> rowhouse::Result<()> {
        if !open::holds(home, "state")? {
            return Ok(());
        }
        let runtime =
            Runtime::builder(home.clone()).domain(Domain::goals()).domain(Domain::state()).open()?;
        LocalThreadStore::new(&runtime)?.record_goal(thread).map(drop)
    };
    match said() {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            output::warn(&format!(
                "the goal is changed, but the thread's transcript does not say so: {error}"
            ));
        }
        _ => {}
    }
}

fn existing(home: &Home) -> rowhouse::Result<(Opened, Goals)> {
    const ADVICE: &str =
        "`rowhouse goals set` gives a thread one; --home or ROWHOUSE_HOME names another home";
    let runtime = open::existing(home, Domain::goals(), "this home holds no goals yet", ADVICE)?;
    let goals = runtime.goals();
    Ok((runtime, goals))
}

fn no_goal() -> Error {
    Error::new(ErrorKind::NotFound, "the thread has no goal")
        .advise("`rowhouse goals list` shows those there are")
}

fn show_list(home: &Home, list: &ListArguments, output: &Output) -> Result<()> {
    let page = page(home, list)?;
    if output.is_json() {
        return output.document(&page);
    }
    if page.goals.is_empty() {
        return output.text("no goals\n");
    }
    output.text(&render::table(&page.goals, output::width()))?;
    if let Some(cursor) = &page.next_cursor {
        output::more(cursor);
    }
    Ok(())
}

/// A page of the store may be short where a status is rare: then the next ones fill it.
fn page(home: &Home, list: &ListArguments) -> rowhouse::Result<Page> {
    let (_runtime, goals) = existing(home)?;
    let mut query = GoalQuery::new();
    if !list.status.is_empty() {
        query = query.statuses(list.status.iter().copied());
    }
    if let Some(cursor) = &list.cursor {
        query = query.cursor(cursor);
    }
    let mut page = Page::default();
    loop {
        let missing = list.limit - page.goals.len() as u32;
        let found = goals.list(&query.clone().limit(missing))?;
        page.goals.extend(found.goals.into_iter().map(Row::from));
        page.next_cursor = found.next_cursor;
        match &page.next_cursor {
            Some(cursor) if page.goals.len() < list.limit as usize => query = query.cursor(cursor),
            _ => return Ok(page),
        }
    }
}

fn set_goal(home: &Home, set: &SetArguments) -> Result<Goal> {
    let thread = open::thread_id(home, &set.thread)?;
    let runtime = open::or_new(home, Domain::goals())?;
    let new = NewGoal { token_budget: set.budget, ..NewGoal::new(&set.objective) };
    let goals = runtime.goals();
    if set.replace {
        return Ok(telling_who(home, "goals", || goals.replace(&thread, &new))?);
    }
    telling_who(home, "goals", || goals.insert(&thread, &new))?.ok_or_else(|| {
        Error::new(ErrorKind::Conflict, "the thread has a goal that is not complete")
            .advise("--replace puts this one in its place; `rowhouse goals update` changes it")
            .into()
    })
}

impl UpdateArguments {
    fn patch(&self) -> GoalPatch {
        let mut patch = GoalPatch::default();
        if let Some(objective) = &self.objective {
            patch = patch.objective(objective);
        }
        if let Some(status) = self.status {
            patch = patch.status(status);
        }
        if let Some(Budget(tokens)) = self.budget {
            patch = patch.token_budget(tokens);
        }
        match &self.expect {
            Some(goal) => patch.expect(goal),
            None => patch,
        }
    }
}

fn tell(outcome: Option<&'static str>, goal: Goal, output: &Output) -> Result<()> {
    let told = Told { outcome, goal: goal.into() };
    if output.is_json() {
        return output.document(&told);
    }
    if let Some(outcome) = told.outcome {
        output::note(outcome);
    }
    output.text(&render::one(&told.goal))
}

impl From<Goal> for Row {
    fn from(goal: Goal) -> Self {
        Self {
            thread_id: goal.thread_id,
            goal_id: goal.goal_id,
            objective: goal.objective,
            status: goal.status,
            token_budget: goal.token_budget,
            tokens_used: goal.tokens_used,
            time_used_seconds: goal.time_used_seconds,
            created_at: goal.created_at,
            updated_at: goal.updated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_number_or_none() {
        assert_eq!(budget("none"), Ok(Budget(None)));
        assert_eq!(budget("1"), Ok(Budget(Some(1))));
        for bad in ["0", "-1", "", "many", "9223372036854775808"] {
            budget(bad).expect_err(bad);
        }
    }
}
