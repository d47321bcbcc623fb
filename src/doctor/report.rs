//! What a doctor says: one row for each check.
//!
//! `docs/doctor.schema.json` describes the JSON form; `cli/tests/doctor.rs` holds every output against it.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// The number of the JSON form. Fields may be added under the same number.
pub const SCHEMA_VERSION: u32 = 1;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nothing is wrong.
    Ok,
    /// It was not done; the summary says why.
    Skipped,
    /// Something to know and to act on, that is in nobody's way yet.
    Warning,
    /// Something does not work, or is about to be lost.
    Fail,
}

impl Status {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Fail => "fail",
        }
    }

    /// True for what somebody should look at.
    pub fn is_notable(self) -> bool {
        self >= Self::Warning
    }
}

/// A detail's value. A key that ends in `_bytes` or `_ms` says its unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Detail {
    /// A word or a sentence.
    Text(String),
    /// A number of things, or of the unit in the key.
    Number(u64),
    /// Yes or no.
    Flag(bool),
}

macro_rules! details_from {
    ($($from:ty => $variant:ident),* $(,)?) => {$(
        impl From<$from> for Detail {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}

details_from! { &str => Text, String => Text, u64 => Number, u32 => Number, bool => Flag }

impl From<usize> for Detail {
    fn from(value: usize) -> Self {
        Self::Number(value as u64)
    }
}

/// A command that helps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fix {
    /// As a shell takes it.
    pub command: String,
    /// True when it changes something; false when it only looks.
    pub writes: bool,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// Which check of what: `state.log`, `home.folder`. Stays what it is from version to version.
    pub id: String,
    /// The group: `home`, `disk`, `database`, ... as [`list`](super::list) tells.
    pub category: &'static str,
    /// The database that it is about, by name.
    pub database: Option<String>,
    /// How it went.
    pub status: Status,
    /// One sentence.
    pub summary: String,
    /// What was found, by name, in the order of importance.
    #[serde(serialize_with = "by_name")]
    pub details: Vec<(&'static str, Detail)>,
    /// What the judgement rests on, as sentences.
    pub evidence: Vec<String>,
    /// What to do.
    pub remediation: Option<String>,
    /// Commands for that.
    pub fixes: Vec<Fix>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

fn by_name<S: Serializer>(details: &[(&'static str, Detail)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(details.len()))?;
    for (name, value) in details {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

fn by_id<S: Serializer>(checks: &[Check], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(checks.len()))?;
    for check in checks {
        map.serialize_entry(&check.id, check)?;
    }
    map.end()
}

/// Everything a doctor found. It holds no secret: every row was cleaned when it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When it was made, in RFC 3339.
    pub generated_at: String,
    /// The version of this library.
    pub rowhouse: &'static str,
    /// The version of SQLite in this program.
    pub sqlite: &'static str,
    /// The folder that was looked at; `~` is the user's own.
    pub home: String,
    /// Whether everything was read, however long that takes.
    pub deep: bool,
    /// `Fail` when a check failed, else `Warning` when one warned, else `Ok`.
    pub overall_status: Status,
    /// How many checks went which way.
    pub counts: BTreeMap<&'static str, usize>,
    /// How long all took, in milliseconds.
    pub duration_ms: u64,
    /// One for each check, in the order of [`list`](super::list), by database. In JSON an object, by id.
    #[serde(serialize_with = "by_id")]
    pub checks: Vec<Check>,
}

impl Report {
    /// One row by its id.
    pub fn check(&self, id: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.id == id)
    }

    /// The rows that somebody should look at, failures first.
    pub fn notable(&self) -> Vec<&Check> {
        let mut notable: Vec<_> = self.checks.iter().filter(|check| check.status.is_notable()).collect();
        notable.sort_by_key(|check| std::cmp::Reverse(check.status));
        notable
    }
}

/// The worst of these; `Ok` when none is notable.
pub(super) fn overall(checks: &[Check]) -> Status {
    checks.iter().map(|check| check.status).filter(|status| status.is_notable()).max().unwrap_or(Status::Ok)
}

/// How many there are of each status; all four are named.
pub(super) fn counts(checks: &[Check]) -> BTreeMap<&'static str, usize> {
    [Status::Ok, Status::Skipped, Status::Warning, Status::Fail]
        .map(|status| (status.as_str(), checks.iter().filter(|check| check.status == status).count()))
        .into()
}
