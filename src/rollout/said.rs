//! What a user said about a thread, as its transcript keeps it.
//!
//! Invariants:
//! 1. A `thread_metadata` line holds everything that was said so far: of several the last one counts alone. A field that
//!    is absent was never set, null was set and taken back.
//! 2. What this program does not know (a field of a later one, a goal of another shape) is repeated as it came.
//!
//! Tests: below; `tests/rollout_recorder.rs`.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::item::{Item, SNAPSHOT};
use super::records::Git;
use crate::error::{Error, ErrorKind, Result};
use crate::stores::goals::Goal;
use crate::stores::threads::{Change, GitFacts, MemoryMode};

/// Bytes after which a snapshot is repeated.
pub(super) const REPEATED_AFTER: u64 = 32 << 10;
/// The longest snapshot: with what may follow it, and the newline before it, it fits the 64 KiB that are read of a
/// transcript's end.
pub(super) const LONGEST_SNAPSHOT: usize = 31 << 10;

/// What a user said about a thread; what was not said is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserFacts {
    /// The name given to it.
    pub name: Change<String>,
    /// Whether it is pinned.
    pub is_pinned: Change<bool>,
    /// Since when it is archived, in Unix milliseconds.
    pub archived_at: Change<i64>,
    /// What its repository is at; replaces all three.
    pub git: Change<GitFacts>,
    /// Its goal.
    pub goal: Change<Goal>,
    /// Whether memories may be drawn from it.
    pub memory_mode: Change<MemoryMode>,
    /// What a later program wrote there.
    pub other: Map<String, Value>,
}

impl UserFacts {
    /// With what was said later on top.
    #[must_use]
    pub fn then(self, later: Self) -> Self {
        fn over<T>(earlier: Change<T>, later: Change<T>) -> Change<T> {
            if let Change::Leave = later { earlier } else { later }
        }
        let mut other = self.other;
        other.extend(later.other);
        let mut both = Self {
            name: over(self.name, later.name),
            is_pinned: over(self.is_pinned, later.is_pinned),
            archived_at: over(self.archived_at, later.archived_at),
            git: over(self.git, later.git),
            goal: over(self.goal, later.goal),
            memory_mode: over(self.memory_mode, later.memory_mode),
            other,
        };
        for known in both.known().map(|(name, _)| name).collect::<Vec<_>>() {
            both.other.remove(known);
        }
        both
    }

    /// True when nothing was said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a `thread_metadata` line says; what has another shape than expected is in `other`.
    pub(super) fn of_payload(payload: Option<&RawValue>) -> Self {
        payload.map(|payload| Self::of_text(payload.get())).unwrap_or_default()
    }

    /// The same of its text.
    pub(super) fn of_text(payload: &str) -> Self {
        let mut fields: Map<String, Value> = serde_json::from_str(payload).unwrap_or_default();
        Self {
            name: take(&mut fields, "name", |value| value.as_str().map(str::to_owned)),
            is_pinned: take(&mut fields, "is_pinned", Value::as_bool),
            archived_at: take(&mut fields, "archived_at", Value::as_i64),
            git: take(&mut fields, "git", |value| {
                let git: Option<Git> =
                    value.is_object().then(|| serde_json::from_value(value.clone()).ok())?;
                git.map(Git::facts)
            }),
            goal: take(&mut fields, "goal", |value| serde_json::from_value(value.clone()).ok()),
            memory_mode: take(&mut fields, "memory_mode", |value| {
                value.as_str().and_then(MemoryMode::from_word)
            }),
            other: fields,
        }
    }

    /// The line that says all this.
    ///
    /// # Errors
    /// `Invalid` when it would be longer than 31 KiB.
    pub(crate) fn snapshot(&self) -> Result<Item> {
        let mut payload = self.other.clone();
        payload.extend(self.known().map(|(name, value)| (name.to_owned(), value)));
        let item = Item::new(SNAPSHOT, &payload)?;
        if item.text().len() < LONGEST_SNAPSHOT {
            return Ok(item);
        }
        Err(Error::new(
            ErrorKind::Invalid,
            "a transcript keeps at most 31 KiB of what is said about its thread",
        )
        .advise("shorten the name or the goal"))
    }

    fn known(&self) -> impl Iterator<Item = (&'static str, Value)> {
        fn field<T>(change: &Change<T>, value: impl FnOnce(&T) -> Value) -> Option<Value> {
            match change {
                Change::Leave => None,
                Change::Clear => Some(Value::Null),
                Change::Set(it) => Some(value(it)),
            }
        }
        let git = |git: &GitFacts| json!({"commit_hash": git.sha, "branch": git.branch, "repository_url": git.origin_url});
        [
            ("name", field(&self.name, |name| json!(name))),
            ("is_pinned", field(&self.is_pinned, |pinned| json!(pinned))),
            ("archived_at", field(&self.archived_at, |at| json!(at))),
            ("git", field(&self.git, git)),
            ("goal", field(&self.goal, |goal| json!(goal))),
            ("memory_mode", field(&self.memory_mode, |mode| json!(mode.as_str()))),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

fn take<T>(fields: &mut Map<String, Value>, name: &str, read: impl FnOnce(&Value) -> Option<T>) -> Change<T> {
    let found = match fields.get(name) {
        None => return Change::Leave,
        Some(Value::Null) => Change::Clear,
        Some(value) => match read(value) {
            Some(value) => Change::Set(value),
            None => return Change::Leave,
        },
    };
    fields.remove(name);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::goals::GoalStatus;

    fn payload(json: &str) -> UserFacts {
        UserFacts::of_payload(Some(&serde_json::from_str::<Box<RawValue>>(json).expect("JSON")))
    }

    fn read_back(facts: &UserFacts) -> UserFacts {
        let item = facts.snapshot().expect("a line");
        let line: super::super::records::Line<'_> = serde_json::from_str(item.text()).expect("a line");
        UserFacts::of_payload(line.payload)
    }

    fn goal() -> Goal {
        Goal {
            thread_id: "019b76da-5a3e-7c41-9d52-0c1f9a6be001".to_owned(),
            goal_id: "019b76da-5a3e-7c41-9d52-0c1f9a6be002".to_owned(),
            objective: "Ship it".to_owned(),
            status: GoalStatus::Active,
            token_budget: Some(1_000),
            tokens_used: 7,
            time_used_seconds: 3,
            created_at: 1,
            updated_at: 2,
        }
    }

    #[test]
    fn what_was_said_is_read_back_as_it_was() {
        let git = GitFacts { branch: Some("mine".to_owned()), ..GitFacts::default() };
        let facts = UserFacts {
            name: Change::Set("Ledger \"1\"\n".to_owned()),
            is_pinned: Change::Set(true),
            archived_at: Change::Clear,
            git: Change::Set(git),
            goal: Change::Set(goal()),
            memory_mode: Change::Set(MemoryMode::Polluted),
            other: Map::new(),
        };
        assert_eq!(read_back(&facts), facts);
        assert_eq!(read_back(&UserFacts::default()), UserFacts::default());
    }

    #[test]
    fn later_words_stand_over_earlier_ones_and_silence_leaves_them() {
        let first = payload(r#"{"name":"Ledger","is_pinned":true}"#);
        let both = first.then(payload(r#"{"is_pinned":null,"archived_at":5}"#));
        assert_eq!(both, payload(r#"{"name":"Ledger","is_pinned":null,"archived_at":5}"#));
    }

    #[test]
    fn what_a_later_program_wrote_is_repeated_until_it_is_said_anew() {
        let later = payload(
            r#"{"colour":{"r":1},"goal":{"status":"dreaming"},"memory_mode":"later","name":["a","b"],"is_pinned":true}"#,
        );
        assert_eq!((&later.name, &later.is_pinned), (&Change::Leave, &Change::Set(true)));
        assert_eq!(read_back(&later), later);
        let said = later.then(UserFacts { name: Change::Set("Ledger".to_owned()), ..UserFacts::default() });
        let back = read_back(&said);
        assert_eq!(back.name, Change::Set("Ledger".to_owned()));
        assert_eq!(back.other.keys().collect::<Vec<_>>(), ["colour", "goal", "memory_mode"]);
    }

    #[test]
    fn what_is_no_object_says_nothing() {
        for json in ["null", "7", "[]", "\"x\""] {
            assert!(payload(json).is_empty());
        }
        assert!(UserFacts::of_payload(None).is_empty());
    }

    #[test]
    fn too_much_is_refused() {
        let facts = UserFacts { name: Change::Set("x".repeat(LONGEST_SNAPSHOT)), ..UserFacts::default() };
        assert_eq!(facts.snapshot().expect_err("long").kind(), ErrorKind::Invalid);
    }
}
