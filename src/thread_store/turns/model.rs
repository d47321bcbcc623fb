//! What a turn is, and how turns are asked for.

use serde::{Deserialize, Serialize};

/// One exchange: what a person asked, and everything until the answer was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Its place in the thread, from 0. Rolled-back turns keep theirs, so places may have gaps.
    pub ordinal: u64,
    /// As the transcript names it; `line-<number>` for one that it does not name.
    pub id: String,
    /// How it ended, if it did.
    pub status: TurnStatus,
    /// When it began, in Unix milliseconds; `None` when its lines carry no time.
    pub started_at: Option<i64>,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// The beginning of what the person wrote.
    pub user_text: Option<String>,
    /// The beginning of the last answer.
    pub agent_text: Option<String>,
    /// How many lines it has in the transcript.
    pub line_count: u64,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnStatus {
    /// The answer was done.
    Completed,
    /// A person, or the end of the program, stopped it.
    Interrupted,
    /// It ended with an error.
    Failed,
    /// Somebody is at it.
    InProgress,
}

impl TurnStatus {
    const ALL: [Self; 4] = [Self::Completed, Self::Interrupted, Self::Failed, Self::InProgress];

    /// The status as one word, as it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::InProgress => "in_progress",
        }
    }

    /// The status of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// Something in a transcript that does not fit. It is passed, and told once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// The number of its line, from 1.
    pub line: u64,
    /// What is odd about it.
    pub kind: AnomalyKind,
}

/// What is odd about a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyKind {
    /// It is no record.
    BadLine,
    /// It begins or ends a turn that began or ended before.
    Duplicate,
    /// It ends a turn that never began: lines before it are missing.
    Gap,
}

impl AnomalyKind {
    const ALL: [Self; 3] = [Self::BadLine, Self::Duplicate, Self::Gap];

    /// The kind as one word, as it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadLine => "bad_line",
            Self::Duplicate => "duplicate",
            Self::Gap => "gap",
        }
    }

    /// The kind of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}
