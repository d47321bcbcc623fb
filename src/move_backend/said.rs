//! What users said of threads on the server, into their new transcripts: there it is in rows alone, and a transcript that is
//! silent about it, or says what was said before it went there, would take it back when it is read again.
//!
//! Invariant: after it a new transcript says of its thread what its row and its goal say. A line is added only where it does
//! not, behind what was moved and compared. Tests: `tests/move_histories.rs`.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row};

use super::histories::Histories;
use super::transcripts::Noted;
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::becoming::put_behind;
use crate::rollout::{RolloutFacts, UserFacts, read_metadata};
use crate::stores::goals::Goal;
use crate::stores::threads::{Change, GitFacts, MemoryMode, UserField, UserSet};

const THREADS: &str = "SELECT id, name, archived_at, git_sha, git_branch, git_origin_url, is_pinned, memory_mode, user_set FROM thread";
const GOAL: &str = "SELECT thread_id, goal_id, objective, status, token_budget, tokens_used, time_used_seconds, created_at, \
     updated_at FROM goal WHERE thread_id = ?1";

/// What a row says that a user said.
struct Told {
    name: Option<String>,
    archived_at: Option<i64>,
    git: GitFacts,
    is_pinned: bool,
    memory_mode: MemoryMode,
    user_set: UserSet,
}

/// Says it in each new transcript that does not. Answers whether any was, and whose is too long for a line.
///
/// # Errors
/// Of the new files.
pub(super) fn say_again(
    histories: &Histories,
    folder: &Path,
    state: &Connection,
    goals: Option<&Connection>,
) -> Result<(bool, Noted)> {
    let (mut any, mut too_long) = (false, Noted::default());
    let mut goal_of = goals.map(|goals| goals.prepare(GOAL)).transpose()?;
    let mut threads = state.prepare(THREADS)?;
    let mut rows = threads.query([])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get("id")?;
        let Some((place, has_said)) = histories.place_of(&id) else { continue };
        let told = told(row)?;
        let goal = match &mut goal_of {
            Some(goal_of) => goal_of.query_row([&id], |row| Ok(goal(row))).optional()?.transpose()?,
            None => None,
        };
        let is_silent = told.user_set == UserSet::default() && told.memory_mode == MemoryMode::default();
        if is_silent && !has_said && goal.is_none() {
            continue;
        }
        let path = folder.join(place);
        let found = read_metadata(&path)?;
        let mut new = new_words(&told, &found);
        if goal_of.is_some() {
            new.goal = new_goal(goal, found.goal().as_ref());
        }
        if new.is_empty() {
            continue;
        }
        match found.said.then(new).snapshot() {
            Ok(item) => put_behind(&path, &item)?,
            Err(error) if error.kind() == ErrorKind::Invalid => too_long.note(id),
            Err(error) => return Err(error),
        }
        any = true;
    }
    Ok((any, too_long))
}

fn told(row: &Row<'_>) -> Result<Told> {
    let mode: String = row.get("memory_mode")?;
    Ok(Told {
        name: row.get("name")?,
        archived_at: row.get("archived_at")?,
        git: GitFacts {
            sha: row.get("git_sha")?,
            branch: row.get("git_branch")?,
            origin_url: row.get("git_origin_url")?,
        },
        is_pinned: row.get("is_pinned")?,
        memory_mode: MemoryMode::from_word(&mode)
            .ok_or_else(|| Error::new(ErrorKind::Corrupt, "memory_mode holds an unknown word"))?,
        user_set: UserSet::of_number(row.get("user_set")?),
    })
}

fn goal(row: &Row<'_>) -> Result<Goal> {
    Ok(Goal {
        thread_id: row.get("thread_id")?,
        goal_id: row.get("goal_id")?,
        objective: row.get("objective")?,
        status: row.get::<_, String>("status")?.parse()?,
        token_budget: row.get("token_budget")?,
        tokens_used: row.get("tokens_used")?,
        time_used_seconds: row.get("time_used_seconds")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

/// What a transcript does not say yet, or says otherwise; but for the goal.
fn new_words(told: &Told, found: &RolloutFacts) -> UserFacts {
    let said = &found.said;
    let mut new = UserFacts::default();
    if told.user_set.contains(UserField::Name) {
        new.name = unless_said(told.name.as_ref(), &said.name);
    }
    if told.user_set.contains(UserField::Archive) {
        new.archived_at = unless_said(told.archived_at.as_ref(), &said.archived_at);
    }
    if told.user_set.contains(UserField::Pin) && (said.is_pinned == Change::Set(true)) != told.is_pinned {
        new.is_pinned = Change::Set(told.is_pinned);
    }
    if told.user_set.contains(UserField::Git) && said.git != Change::Set(told.git.clone()) {
        new.git = Change::Set(told.git.clone());
    }
    if found.thread.memory_mode.unwrap_or_default() != told.memory_mode {
        new.memory_mode = Change::Set(told.memory_mode);
    }
    new
}

/// The goal that a transcript does not tell yet. Where goals do not come along nobody asks.
fn new_goal(goal: Option<Goal>, was: Option<&Goal>) -> Change<Goal> {
    match (goal, was) {
        (Some(goal), Some(was)) if is_same(was, &goal) => Change::Leave,
        (Some(goal), _) => Change::Set(goal),
        (None, Some(_)) => Change::Clear,
        (None, None) => Change::Leave,
    }
}

/// Whether a user said nothing else since: what it used is counted in its row, in a home of files too.
fn is_same(was: &Goal, goal: &Goal) -> bool {
    was.goal_id == goal.goal_id
        && was.objective == goal.objective
        && was.status == goal.status
        && was.token_budget == goal.token_budget
}

/// What is to be said so that this is what was said last.
fn unless_said<T: Clone + PartialEq>(told: Option<&T>, said: &Change<T>) -> Change<T> {
    match (told, said) {
        (Some(told), said) if *said != Change::Set(told.clone()) => Change::Set(told.clone()),
        (None, Change::Set(_)) => Change::Clear,
        _ => Change::Leave,
    }
}
