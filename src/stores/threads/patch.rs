//! What a caller changes about a thread, and what becomes of the row.
//!
//! Invariants:
//! - What is left alone stays. What a user can set (name, git, pin, archive) is marked as set by a user when the patch
//!   speaks of it, also when that clears it, so that no derived fact brings it back.
//! - Recency only moves forward; a preview that is there is not replaced by an empty one.
//! - A text that cannot be stored is refused before anything is written.
//!
//! Tests: below; `tests/threads_patch.rs`.

use std::path::Path;

use serde::Deserialize;

use super::merge::present;
use super::row::{
    Change, GitFacts, MemoryMode, StoredThread, ThreadRow, UserField, UserSet, directory_text, thread_id,
};
use crate::error::{Error, ErrorKind, Result};

/// The most letters of a name, a title or a preview in a [`ThreadPatch`]: as many as a search looks at.
pub const LONGEST_NAME: usize = 500;
/// The most bytes of any other text in a [`ThreadPatch`].
pub const LONGEST_TEXT: usize = 64 << 10;

/// Changes to one thread, for [`Threads::patch`](super::Threads::patch): what is not named stays as it is. An empty text
/// clears what can be cleared. In JSON a field is not there, a value, or null.
///
/// ```
/// use rowhouse::stores::threads::{Change, ThreadPatch};
/// let patch = ThreadPatch { name: Change::Set("Parser".to_owned()), is_pinned: Some(true), ..ThreadPatch::default() };
/// let same: ThreadPatch = serde_json::from_str(r#"{"name": "Parser", "is_pinned": true}"#).expect("a patch");
/// assert_eq!(patch, same);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThreadPatch {
    /// Its transcript.
    pub rollout_path: Change<String>,
    /// When it began, in Unix milliseconds.
    pub created_at: Option<i64>,
    /// When anything was last added to it, in Unix milliseconds.
    pub updated_at: Option<i64>,
    /// When somebody last worked in it, in Unix milliseconds; an earlier time than the known one is ignored.
    pub recency_at: Option<i64>,
    /// Archived since, in Unix milliseconds, or live again. From a user.
    pub archived_at: Change<i64>,
    /// Where it was started from.
    pub source: Change<String>,
    /// Who serves the model.
    pub model_provider: Change<String>,
    /// The model last used.
    pub model: Change<String>,
    /// The reasoning effort last used.
    pub reasoning_effort: Change<String>,
    /// The working directory.
    pub cwd: Change<String>,
    /// A short line from the first message, of at most [`LONGEST_NAME`] letters.
    pub title: Change<String>,
    /// The name a user gives it, of at most [`LONGEST_NAME`] letters. From a user.
    pub name: Change<String>,
    /// The beginning of the first message, in one line of at most [`LONGEST_NAME`] letters; an empty one is ignored.
    pub preview: Option<String>,
    /// The beginning of the first message as it was written; an empty one is ignored.
    pub first_user_message: Option<String>,
    /// The version of the program that began it.
    pub cli_version: Change<String>,
    /// The sandbox policy last used: a word, or JSON.
    pub sandbox_policy: Change<String>,
    /// The approval policy last used: a word, or JSON.
    pub approval_mode: Change<String>,
    /// Tokens used in all.
    pub tokens_used: Option<i64>,
    /// What the repository is at, field by field. From a user.
    pub git: GitPatch,
    /// What a sub-agent is called.
    pub agent_nickname: Change<String>,
    /// What a sub-agent is for.
    pub agent_role: Change<String>,
    /// The thread it was forked from.
    pub forked_from_id: Change<String>,
    /// Pinned or not. From a user.
    pub is_pinned: Option<bool>,
    /// Whether memories may be drawn from it.
    pub memory_mode: Option<MemoryMode>,
}

/// Changes to what is known of the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GitPatch {
    /// The commit.
    pub sha: Change<String>,
    /// The branch.
    pub branch: Change<String>,
    /// Where `origin` is.
    pub origin_url: Change<String>,
}

impl ThreadPatch {
    /// True when it leaves everything as it is.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// # Errors
    /// `Invalid`.
    pub(crate) fn check(&self) -> Result<()> {
        fn set(change: &Change<String>) -> Option<&String> {
            match change {
                Change::Set(text) => Some(text),
                Change::Leave | Change::Clear => None,
            }
        }
        for text in [set(&self.name), set(&self.title), self.preview.as_ref()].into_iter().flatten() {
            if text.chars().count() > LONGEST_NAME {
                let message = format!("a name, a title or a preview has at most {LONGEST_NAME} letters");
                return Err(Error::new(ErrorKind::Invalid, message).advise("give a shorter one"));
            }
        }
        let clearable = [
            &self.rollout_path,
            &self.source,
            &self.model_provider,
            &self.model,
            &self.reasoning_effort,
            &self.cwd,
            &self.title,
            &self.name,
            &self.cli_version,
            &self.sandbox_policy,
            &self.approval_mode,
            &self.git.sha,
            &self.git.branch,
            &self.git.origin_url,
            &self.agent_nickname,
            &self.agent_role,
            &self.forked_from_id,
        ];
        for text in clearable.into_iter().filter_map(set).chain(&self.preview).chain(&self.first_user_message)
        {
            if text.len() > LONGEST_TEXT {
                let message = format!("a text of a thread has at most {LONGEST_TEXT} bytes");
                return Err(Error::new(ErrorKind::Invalid, message).advise("give a shorter one"));
            }
            if text.contains('\0') {
                return Err(Error::new(ErrorKind::Invalid, "a text of a thread has no NUL in it")
                    .advise("take it out"));
            }
        }
        if let Some(id) = set(&self.forked_from_id).filter(|id| !id.is_empty()) {
            thread_id(id)?;
        }
        if self.tokens_used.is_some_and(|tokens| tokens < 0) {
            return Err(Error::new(ErrorKind::Invalid, "tokens used are not negative"));
        }
        Ok(())
    }

    /// What the user-settable things are that it speaks of.
    fn says(&self) -> impl Iterator<Item = UserField> {
        [
            (self.name != Change::Leave, UserField::Name),
            (self.git != GitPatch::default(), UserField::Git),
            (self.is_pinned.is_some(), UserField::Pin),
            (self.archived_at != Change::Leave, UserField::Archive),
        ]
        .into_iter()
        .filter_map(|(said, field)| said.then_some(field))
    }

    /// The row as it is afterwards.
    pub(super) fn applied_to(&self, before: &StoredThread) -> StoredThread {
        let row = before.row.clone();
        StoredThread {
            row: ThreadRow {
                id: row.id,
                rollout_path: text(&self.rollout_path, row.rollout_path),
                created_at: self.created_at.unwrap_or(row.created_at),
                updated_at: self.updated_at.unwrap_or(row.updated_at),
                recency_at: self.recency_at.map_or(row.recency_at, |time| time.max(row.recency_at)),
                archived_at: match self.archived_at {
                    Change::Leave => row.archived_at,
                    Change::Set(time) => Some(time),
                    Change::Clear => None,
                },
                source: text(&self.source, row.source),
                model_provider: text(&self.model_provider, row.model_provider),
                model: text(&self.model, row.model),
                reasoning_effort: text(&self.reasoning_effort, row.reasoning_effort),
                cwd: text(&self.cwd, row.cwd).map(|cwd| directory_text(Path::new(&cwd))),
                title: text(&self.title, row.title),
                name: text(&self.name, row.name),
                preview: present(self.preview.as_ref()).or(row.preview),
                first_user_message: present(self.first_user_message.as_ref()).or(row.first_user_message),
                cli_version: text(&self.cli_version, row.cli_version),
                sandbox_policy: text(&self.sandbox_policy, row.sandbox_policy),
                approval_mode: text(&self.approval_mode, row.approval_mode),
                tokens_used: self.tokens_used.unwrap_or(row.tokens_used),
                git: GitFacts {
                    sha: text(&self.git.sha, row.git.sha),
                    branch: text(&self.git.branch, row.git.branch),
                    origin_url: text(&self.git.origin_url, row.git.origin_url),
                },
                agent_nickname: text(&self.agent_nickname, row.agent_nickname),
                agent_role: text(&self.agent_role, row.agent_role),
                forked_from_id: text(&self.forked_from_id, row.forked_from_id)
                    .map(|id| id.to_ascii_lowercase()),
                is_pinned: self.is_pinned.unwrap_or(row.is_pinned),
                memory_mode: self.memory_mode.unwrap_or(row.memory_mode),
                user_set: self.says().fold(row.user_set, UserSet::with),
            },
            stamp: before.stamp,
        }
    }
}

fn text(change: &Change<String>, known: Option<String>) -> Option<String> {
    match change {
        Change::Leave => known,
        Change::Set(text) => present(Some(text)),
        Change::Clear => None,
    }
}
