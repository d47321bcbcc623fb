//! What a log row says.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::sql::Row;

/// How much a row matters. In the file: 1 (trace) to 5 (error).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What happened.
    Info,
    /// What should not have happened, and was borne.
    Warn,
    /// What failed.
    Error,
}

impl LogLevel {
    /// All of them, the least important first.
    pub const ALL: [Self; 5] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// Its name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// As it stands in the column.
    pub(super) fn number(self) -> i64 {
        self as i64 + 1
    }

    fn of(number: i64) -> Result<Self> {
        usize::try_from(number - 1)
            .ok()
            .and_then(|at| Self::ALL.get(at).copied())
            .ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("{number} is no level of a log row")))
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for LogLevel {
    type Err = Error;

    /// In any case of letters.
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| Error::new(ErrorKind::Invalid, "a level is trace, debug, info, warn or error"))
    }
}

/// One row of the log.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LogRow {
    /// Grows with every row of the database, whichever process wrote it; never used again.
    pub id: i64,
    /// When it happened, in Unix nanoseconds. Rows of several processes may stand a little out of this order.
    pub ts: i64,
    /// How much it matters.
    pub level: LogLevel,
    /// Which part of a program says it, `crate::module` by default.
    pub target: String,
    /// What it says.
    pub message: String,
    /// The values of the event and of the spans around it.
    pub fields: Option<serde_json::Value>,
    /// Of which thread it speaks; `None` when of none.
    pub thread_id: Option<String>,
    /// Which run of a process said it.
    pub process_id: String,
    /// The module of the source.
    pub module: Option<String>,
    /// The file of the source.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<u32>,
    /// What it counts towards the caps, in bytes.
    pub bytes: i64,
}

impl LogRow {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        let fields: Option<String> = row.get("fields")?;
        Ok(Self {
            id: row.get("id")?,
            ts: row.get("ts")?,
            level: LogLevel::of(row.get("level")?)?,
            target: row.get("target")?,
            message: row.get("message")?,
            // What is no JSON is shown as the text it is.
            fields: fields.map(|text| serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))),
            thread_id: row.get("thread_id")?,
            process_id: row.get("process_id")?,
            module: row.get("module")?,
            file: row.get("file")?,
            line: row.get::<Option<i64>>("line")?.and_then(|line| u32::try_from(line).ok()),
            bytes: row.get("bytes")?,
        })
    }
}
