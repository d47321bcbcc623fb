//! A thread as it is stored, and as facts arrive about it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Row, Value};

/// One thread. Times are Unix milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadRow {
    /// A UUID in lower case.
    pub id: String,
    /// Its transcript; `None` for a thread without a file.
    pub rollout_path: Option<String>,
    /// When it began.
    pub created_at: i64,
    /// When anything was last added to it.
    pub updated_at: i64,
    /// When somebody last worked in it.
    pub recency_at: i64,
    /// Since when it is archived.
    pub archived_at: Option<i64>,
    /// Where it was started from: `cli`, `vscode`, `exec`, `subagent`, …
    pub source: Option<String>,
    /// Who serves the model.
    pub model_provider: Option<String>,
    /// The model last used.
    pub model: Option<String>,
    /// The reasoning effort last used.
    pub reasoning_effort: Option<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// A short line from the first message.
    pub title: Option<String>,
    /// The name a user gave it.
    pub name: Option<String>,
    /// The beginning of the first message, in one line.
    pub preview: Option<String>,
    /// The beginning of the first message as it was written.
    pub first_user_message: Option<String>,
    /// The version of the program that began it.
    pub cli_version: Option<String>,
    /// The sandbox policy last used: a word, or JSON.
    pub sandbox_policy: Option<String>,
    /// The approval policy last used: a word, or JSON.
    pub approval_mode: Option<String>,
    /// Tokens used in all.
    pub tokens_used: i64,
    /// What the repository was at.
    #[serde(flatten)]
    pub git: GitFacts,
    /// What a sub-agent is called.
    pub agent_nickname: Option<String>,
    /// What a sub-agent is for.
    pub agent_role: Option<String>,
    /// The thread it was forked from.
    pub forked_from_id: Option<String>,
    /// Pinned by a user.
    pub is_pinned: bool,
    /// Whether memories may be drawn from it.
    pub memory_mode: MemoryMode,
    /// What a user set.
    pub user_set: UserSet,
}

impl ThreadRow {
    /// The row that these facts alone make.
    pub(crate) fn of_facts(facts: &ThreadFacts) -> Self {
        super::merge::merge(None, &facts.id, facts).row
    }
}

/// What is known of the repository a thread works in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitFacts {
    /// The commit.
    #[serde(rename = "git_sha")]
    pub sha: Option<String>,
    /// The branch.
    #[serde(rename = "git_branch")]
    pub branch: Option<String>,
    /// Where `origin` is.
    #[serde(rename = "git_origin_url")]
    pub origin_url: Option<String>,
}

/// Whether memories may be drawn from a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryMode {
    /// They may.
    #[default]
    Enabled,
    /// A user said no.
    Disabled,
    /// It read what must not be remembered.
    Polluted,
}

impl MemoryMode {
    /// The mode as one word, as it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Polluted => "polluted",
        }
    }

    /// The mode of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Enabled, Self::Disabled, Self::Polluted].into_iter().find(|mode| mode.as_str() == word)
    }

    /// The one of two that allows less.
    pub(super) fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Polluted, _) | (_, Self::Polluted) => Self::Polluted,
            (Self::Disabled, _) | (_, Self::Disabled) => Self::Disabled,
            (Self::Enabled, Self::Enabled) => Self::Enabled,
        }
    }
}

/// A thing about a thread that a user can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserField {
    /// Its name.
    Name,
    /// Its git facts.
    Git,
    /// Whether it is pinned.
    Pin,
    /// Whether it is archived.
    Archive,
}

impl UserField {
    pub(super) const ALL: [Self; 4] = [Self::Name, Self::Git, Self::Pin, Self::Archive];

    fn bit(self) -> i64 {
        match self {
            Self::Name => 1,
            Self::Git => 2,
            Self::Pin => 4,
            Self::Archive => 8,
        }
    }
}

/// Which things a user set; derived facts leave them alone. A list of words in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<UserField>", into = "Vec<UserField>")]
pub struct UserSet(i64);

impl UserSet {
    /// As the column has it.
    #[cfg(feature = "postgres")]
    pub(crate) fn of_number(number: i64) -> Self {
        Self(number)
    }

    /// Whether this was set.
    pub fn contains(self, field: UserField) -> bool {
        self.0 & field.bit() != 0
    }

    /// With this one set.
    #[must_use]
    pub fn with(self, field: UserField) -> Self {
        Self(self.0 | field.bit())
    }

    /// Without this one.
    #[must_use]
    pub fn without(self, field: UserField) -> Self {
        Self(self.0 & !field.bit())
    }
}

impl From<Vec<UserField>> for UserSet {
    fn from(fields: Vec<UserField>) -> Self {
        fields.into_iter().fold(Self::default(), Self::with)
    }
}

impl From<UserSet> for Vec<UserField> {
    fn from(set: UserSet) -> Self {
        UserField::ALL.into_iter().filter(|field| set.contains(*field)).collect()
    }
}

/// What happens to something that may be absent. In JSON: not there, a value, or null.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It stays as it is.
    #[default]
    Leave,
    /// It becomes this.
    Set(T),
    /// It goes.
    Clear,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        Ok(Option::deserialize(from)?.map_or(Self::Clear, Self::Set))
    }
}

/// A file as it was at one moment; another size, time or inode is another file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// Bytes.
    pub size: i64,
    /// When it was last modified, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Its inode.
    pub inode: i64,
}

/// What was learned about a thread, from its transcript or while it runs. `None` leaves what is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadFacts {
    /// A UUID.
    pub id: String,
    /// Its transcript.
    pub rollout_path: Option<String>,
    /// The transcript as it was when it was read.
    pub stamp: Option<FileStamp>,
    /// When it began.
    pub created_at: i64,
    /// When anything was last added to it.
    pub updated_at: i64,
    /// When somebody last worked in it; an earlier time than the known one is ignored.
    pub recency_at: i64,
    /// Archived since, or not archived.
    pub archived_at: Change<i64>,
    /// Where it was started from.
    pub source: Option<String>,
    /// Who serves the model.
    pub model_provider: Option<String>,
    /// The model last used.
    pub model: Option<String>,
    /// The reasoning effort last used.
    pub reasoning_effort: Option<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// A short line from the first message; an empty one is ignored.
    pub title: Option<String>,
    /// The name a user gave it. Without [`UserField::Name`] in `user_set` it is one that another program's user gave, and
    /// counts only while no user of this one said anything of it.
    pub name: Option<String>,
    /// The beginning of the first message, in one line; an empty one is ignored.
    pub preview: Option<String>,
    /// The beginning of the first message; an empty one is ignored.
    pub first_user_message: Option<String>,
    /// The version of the program that began it.
    pub cli_version: Option<String>,
    /// The sandbox policy last used: a word, or JSON.
    pub sandbox_policy: Option<String>,
    /// The approval policy last used: a word, or JSON.
    pub approval_mode: Option<String>,
    /// Tokens used in all.
    pub tokens_used: Option<i64>,
    /// What the repository was at. From a user ([`UserField::Git`] in `user_set`) it replaces all three.
    pub git: GitFacts,
    /// What a sub-agent is called.
    pub agent_nickname: Option<String>,
    /// What a sub-agent is for.
    pub agent_role: Option<String>,
    /// The thread it was forked from.
    pub forked_from_id: Option<String>,
    /// Pinned. Counts only with [`UserField::Pin`] in `user_set`.
    pub is_pinned: bool,
    /// Whether memories may be drawn from it. Counts only for a thread that is new to the store.
    pub memory_mode: Option<MemoryMode>,
    /// Which of these a user said; the others are derived.
    pub user_set: UserSet,
}

/// A row with what only the store looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StoredThread {
    pub(super) row: ThreadRow,
    pub(super) stamp: Option<FileStamp>,
}

impl ThreadRow {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        let mode: String = row.get("memory_mode")?;
        Ok(Self {
            id: row.get("id")?,
            rollout_path: row.get("rollout_path")?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
            recency_at: row.get("recency_at")?,
            archived_at: row.get("archived_at")?,
            source: row.get("source")?,
            model_provider: row.get("model_provider")?,
            model: row.get("model")?,
            reasoning_effort: row.get("reasoning_effort")?,
            cwd: row.get("cwd")?,
            title: row.get("title")?,
            name: row.get("name")?,
            preview: row.get("preview")?,
            first_user_message: row.get("first_user_message")?,
            cli_version: row.get("cli_version")?,
            sandbox_policy: row.get("sandbox_policy")?,
            approval_mode: row.get("approval_mode")?,
            tokens_used: row.get("tokens_used")?,
            git: GitFacts {
                sha: row.get("git_sha")?,
                branch: row.get("git_branch")?,
                origin_url: row.get("git_origin_url")?,
            },
            agent_nickname: row.get("agent_nickname")?,
            agent_role: row.get("agent_role")?,
            forked_from_id: row.get("forked_from_id")?,
            is_pinned: row.get("is_pinned")?,
            memory_mode: MemoryMode::from_word(&mode)
                .ok_or_else(|| Error::new(ErrorKind::Invalid, "memory_mode holds an unknown word"))?,
            user_set: UserSet(row.get("user_set")?),
        })
    }
}

impl StoredThread {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        let stamp = match row.get::<Option<i64>>("rollout_size")? {
            Some(size) => Some(FileStamp {
                size,
                mtime_ns: row.get("rollout_mtime_ns")?,
                inode: row.get("rollout_inode")?,
            }),
            None => None,
        };
        Ok(Self { row: ThreadRow::from_row(row)?, stamp })
    }

    /// Every column, in the order of [`PUT`](super::sql::PUT).
    pub(super) fn params(&self) -> Vec<Value> {
        let row = &self.row;
        let text = |value: &Option<String>| Value::from(value.clone());
        vec![
            row.id.clone().into(),
            text(&row.rollout_path),
            row.created_at.into(),
            row.updated_at.into(),
            row.recency_at.into(),
            row.archived_at.into(),
            text(&row.source),
            text(&row.model_provider),
            text(&row.model),
            text(&row.reasoning_effort),
            text(&row.cwd),
            text(&row.title),
            text(&row.name),
            text(&row.preview),
            text(&row.first_user_message),
            text(&row.cli_version),
            text(&row.sandbox_policy),
            text(&row.approval_mode),
            row.tokens_used.into(),
            text(&row.git.sha),
            text(&row.git.branch),
            text(&row.git.origin_url),
            text(&row.agent_nickname),
            text(&row.agent_role),
            text(&row.forked_from_id),
            row.is_pinned.into(),
            row.memory_mode.as_str().into(),
            row.user_set.0.into(),
            self.stamp.map(|stamp| stamp.size).into(),
            self.stamp.map(|stamp| stamp.mtime_ns).into(),
            self.stamp.map(|stamp| stamp.inode).into(),
        ]
    }
}

/// The one spelling of a UUID: 36 characters, lower case. `None` for anything else.
pub(crate) fn canonical_id(text: &str) -> Option<String> {
    let hyphen = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let fits = text.len() == 36
        && text.bytes().enumerate().all(
            |(at, byte)| {
                if hyphen(at) { byte == b'-' } else { byte.is_ascii_hexdigit() }
            },
        );
    fits.then(|| text.to_ascii_lowercase())
}

/// The same, for input that must name a thread.
///
/// # Errors
/// `Invalid` when it is no UUID.
pub(crate) fn thread_id(text: &str) -> Result<String> {
    canonical_id(text).ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "a thread's id is a UUID")
            .advise("look for it with: rowhouse threads list")
    })
}

/// A folder as it is stored and compared: without a slash at the end.
pub(crate) fn directory_text(path: &Path) -> String {
    let text = path.to_string_lossy();
    let trimmed = text.trim_end_matches('/');
    if trimmed.is_empty() { text.into_owned() } else { trimmed.to_owned() }
}
