//! Rows written out: as JSON lines for programs, as text for people.

use std::io::Write;

use super::Logs;
use super::model::LogRow;
use super::query::LogQuery;
use crate::error::{Error, ErrorKind, Result};
use crate::stores::threads::Direction;

/// How rows are written out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line: a [`LogRow`].
    #[default]
    JsonLines,
    /// What a [`LogRow`] looks like for people. Further lines of a message are indented.
    Text,
}

impl LogFormat {
    /// One row, with the end of its line.
    pub(super) fn line(self, row: &LogRow) -> Result<String> {
        let mut line = match self {
            Self::JsonLines => serde_json::to_string(row).map_err(|error| {
                Error::new(ErrorKind::Io, "a log row could not be put into JSON").caused_by(error)
            })?,
            Self::Text => row.to_string(),
        };
        line.push('\n');
        Ok(line)
    }
}

/// What an export wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogExport {
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

impl LogExport {
    pub(super) fn write(&mut self, line: &str, to: &mut dyn Write) -> Result<()> {
        to.write_all(line.as_bytes()).map_err(unwritten)?;
        self.rows += 1;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

impl Logs {
    /// Writes all rows of a query, oldest first whatever its direction; its limit and cursor do not count. It takes as
    /// much memory for a large log as for a small one, and holds no snapshot while it writes (see [`rows`](Self::rows)).
    ///
    /// # Errors
    /// As [`rows`](Self::rows); `Full` or `Io` of the writer, with its error as the source. What was written until then
    /// stays.
    pub fn export(&self, query: &LogQuery, format: LogFormat, to: &mut dyn Write) -> Result<LogExport> {
        let mut done = LogExport::default();
        for row in self.rows(&query.clone().direction(Direction::Ascending))? {
            done.write(&format.line(&row?)?, to)?;
        }
        to.flush().map_err(unwritten)?;
        Ok(done)
    }
}

pub(super) fn unwritten(error: std::io::Error) -> Error {
    use std::io::ErrorKind as Os;
    let kind = match error.kind() {
        Os::StorageFull | Os::QuotaExceeded | Os::FileTooLarge => ErrorKind::Full,
        _ => ErrorKind::Io,
    };
    Error::new(kind, "the log rows could not be written out").caused_by(error)
}
