//! Histories, rows, turns.

use std::path::PathBuf;
use std::time::Duration;

use super::super::store::{History, not_found};
use super::super::transcript;
use super::super::turns::{TurnPage, TurnQuery};
use super::Inner;
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::{RolloutFacts, read_metadata};
use crate::stores::threads::{ThreadFacts, ThreadRow};

impl Inner {
    /// Where the index says that the transcript is. An index that cannot be read says nothing: transcripts are found by
    /// their names as well.
    pub(super) fn hint(&self, thread: &str) -> Result<Option<PathBuf>> {
        let row = match self.index.get(thread) {
            Ok(None) => {
                self.refuse_going(thread)?;
                None
            }
            Ok(row) => row,
            Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Closed) => {
                return Err(error);
            }
            Err(_) => None,
        };
        Ok(row.and_then(|row| row.rollout_path).map(PathBuf::from))
    }

    /// Refuses a thread that is being deleted.
    pub(super) fn refuse_going(&self, thread: &str) -> Result<()> {
        if self.index.is_going(thread).unwrap_or(false) { Err(not_found(thread)) } else { Ok(()) }
    }

    /// Where the transcript is.
    pub(super) fn path(&self, thread: &str) -> Result<PathBuf> {
        let hint = self.hint(thread)?;
        match self.rollouts.locate(thread, hint.as_deref()) {
            Ok(found) => Ok(found.path),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(match hint {
                None if self.index.get(thread)?.is_some() => without_transcript(thread),
                hint => missing(thread, hint),
            }),
            Err(error) => Err(error),
        }
    }

    pub(super) fn load_history(&self, thread: &str) -> Result<History<'static>> {
        transcript::items(&self.path(thread)?)
    }

    pub(super) fn read(&self, thread: &str) -> Result<ThreadRow> {
        let row = match self.index.get(thread) {
            Ok(Some(row)) => return Ok(row),
            Ok(None) => {
                self.refuse_going(thread)?;
                not_found(thread)
            }
            Err(error) => error,
        };
        // The transcript has the last word on whether there is such a thread.
        match self.rollouts.locate(thread, None) {
            Ok(found) => Ok(ThreadRow::of_facts(&read_metadata(&found.path)?.thread)),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(row),
            Err(error) => Err(error),
        }
    }

    pub(super) fn list_turns(&self, thread: &str, query: &TurnQuery) -> Result<TurnPage> {
        let path = self.path(thread)?;
        let written_from = self.rollouts.written_from(thread)?;
        self.index.list_turns(thread, &path, query, written_from)
    }

    pub(super) fn rebuild(&self, thread: &str) -> Result<ThreadRow> {
        let path = self.path(thread)?;
        self.bring_in(read_metadata(&path)?)?;
        self.index.rebuild(thread, &path)?;
        self.index.read(thread)
    }

    /// Lets the index say what a transcript says, and the goals. Whoever deletes a thread has the right to write it: without
    /// that a goal could come back behind them, so it waits for a backfill.
    pub(super) fn bring_in(&self, found: RolloutFacts) -> Result<()> {
        let id = &found.thread.id;
        let ours = self.writing(id).is_some();
        let right = (!ours).then(|| self.rollouts.lease(id, Duration::ZERO).ok()).flatten();
        let facts = if ours || right.is_some() {
            self.facts_of(found)
        } else {
            let goal = found.goal();
            ThreadFacts { stamp: found.thread.stamp.filter(|_| goal.is_none()), ..found.thread }
        };
        self.index.put(&facts).map(drop)
    }

    /// Brings back the goal that a transcript tells. Before its row is made, always: a backfill does not read a transcript
    /// again that has its row.
    pub(super) fn restore_goal(&self, found: &RolloutFacts) -> Result<()> {
        match (self.runtime.goals_if_any(), found.goal()) {
            (Some(goals), Some(goal)) => goals.restore(&[goal]),
            _ => Ok(()),
        }
    }
}

fn missing(thread: &str, hint: Option<PathBuf>) -> Error {
    let Some(hint) = hint else { return not_found(thread) };
    Error::new(ErrorKind::NotFound, format!("the transcript of thread {thread} is not there"))
        .at_path(&hint)
        .advise("put it back and run: rowhouse reindex")
}

fn without_transcript(thread: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("thread {thread} has no transcript"))
        .advise("only its row is there: what was said in it is not kept in this home")
}
