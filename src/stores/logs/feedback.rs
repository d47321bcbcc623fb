//! What a user sends along with a report: the rows of one thread, and those of its last process that speak of no thread.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::Logs;
use super::export::{LogExport, LogFormat, unwritten};
use super::filter::{Filter, LARGEST_PAGE};
use super::model::LogRow;
use super::query::LogQuery;
use super::read::range;
use super::scan::scan;
use super::sql;
use super::time_range::SLACK;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::redact::{Cleaner, Redactor};
use crate::sql::Session;
use crate::sqlite::read_only::read_unopened;
use crate::stores::threads::row::thread_id;

/// The most bytes of a feedback bundle: 10 MiB.
pub const FEEDBACK_BYTES: u64 = 10 << 20;

/// What a feedback bundle holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogFeedback {
    /// Of which thread.
    pub thread_id: String,
    /// The process that wrote the newest row of the thread.
    pub process_id: String,
    /// Rows and bytes that were written out.
    #[serde(flatten)]
    pub written: LogExport,
    /// There were older rows, for which there was no room.
    pub is_cut: bool,
}

impl Logs {
    /// Writes out what belongs to a report about a thread: all rows of the thread, and of the process that last worked in
    /// it those that speak of no thread. Oldest first; the newest [`FEEDBACK_BYTES`] of them, with what looks like a secret
    /// taken out once more.
    ///
    /// To find the rows of the process it looks through the log since that began, page by page as [`rows`](Self::rows), and
    /// keeps what it writes in memory until it has all of it.
    ///
    /// # Errors
    /// `Invalid` for an id that is no UUID; `NotFound` when the log holds no row of the thread: nothing is written out
    /// then. Else as [`export`](Self::export).
    pub fn feedback(&self, thread: &str, format: LogFormat, to: &mut dyn Write) -> Result<LogFeedback> {
        let thread = thread_id(thread)?;
        let last = self.database.get()?.read(|at| {
            at.query(sql::LAST_OF_THREAD, &[thread.as_str().into()])?
                .first()
                .map(|row| row.get::<String>("process_id"))
                .transpose()
        })?;
        let process = last.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "the log holds no rows of this thread")
                .advise("look for its id with: rowhouse threads list")
        })?;
        let theirs = self.rows(&LogQuery::recent().thread(&thread))?;
        let beside = LogQuery::recent().threadless().process(&process);
        let beside = self.rows(&began(&process).into_iter().fold(beside, LogQuery::since))?;
        let rows = NewestFirst(theirs.peekable(), beside.peekable());
        let (written, is_cut) = write_cleaned(rows, format, to)?;
        Ok(LogFeedback { thread_id: thread, process_id: process, written, is_cut })
    }

    /// Writes out the newest rows, whoever wrote them: at most so many, and [`FEEDBACK_BYTES`] of them. Oldest first, with
    /// what looks like a secret taken out once more.
    ///
    /// # Errors
    /// As [`export`](Self::export).
    pub fn newest(&self, rows: usize, format: LogFormat, to: &mut dyn Write) -> Result<LogExport> {
        Ok(write_cleaned(self.rows(&LogQuery::recent())?.take(rows), format, to)?.0)
    }
}

/// The same as [`Logs::newest`] for a log that no runtime opens.
///
/// # Errors
/// As [`read_unopened`]; `Full` or `Io` of the writer.
pub(crate) fn newest_unopened(
    path: &Path,
    rows: usize,
    format: LogFormat,
    to: &mut dyn Write,
) -> Result<LogExport> {
    const PATIENCE: Duration = Duration::from_secs(1);
    // Whoever is slow to take them does not hold up the log: they are few enough to be kept.
    let mut kept = Vec::new();
    let written = read_unopened(path, &Domain::logs(), PATIENCE, |at| {
        let filter = Filter::of(&LogQuery::recent().limit(LARGEST_PAGE))?;
        let mut ahead = Some(range(at, &filter)?);
        let pages = std::iter::from_fn(|| {
            let found = scan(at, &filter, ahead.take()?, LARGEST_PAGE as usize);
            Some(found.map_or_else(
                |error| vec![Err(error)],
                |found| {
                    ahead = found.ahead;
                    found.rows.into_iter().map(Ok).collect()
                },
            ))
        });
        Ok(write_cleaned(pages.flatten().take(rows), format, &mut kept)?.0)
    })?;
    to.write_all(&kept).and_then(|()| to.flush()).map_err(unwritten)?;
    Ok(written)
}

/// Writes rows that come newest first oldest first, as far as there is room; true when there was none for all.
fn write_cleaned(
    rows: impl Iterator<Item = Result<LogRow>>,
    format: LogFormat,
    to: &mut dyn Write,
) -> Result<(LogExport, bool)> {
    let mut cleaner = Cleaner::new(Redactor::default().environment());
    let (mut lines, mut bytes, mut is_cut) = (Vec::new(), 0, false);
    for row in rows {
        let mut row = row?;
        clean(&mut row, &mut cleaner);
        let line = format.line(&row)?;
        bytes += line.len() as u64;
        is_cut = bytes > FEEDBACK_BYTES;
        if is_cut {
            break;
        }
        lines.push(line);
    }
    let mut written = LogExport::default();
    for line in lines.iter().rev() {
        written.write(line, to)?;
    }
    to.flush().map_err(unwritten)?;
    Ok((written, is_cut))
}

/// When a process began to log, in Unix nanoseconds, less what its clock may have been set back by since. Its id says so
/// when it is of the kind that has a time in it.
fn began(process: &str) -> Option<i64> {
    let (seconds, nanos) = uuid::Uuid::parse_str(process).ok()?.get_timestamp()?.to_unix();
    let began = Duration::new(seconds, nanos).checked_sub(SLACK)?;
    i64::try_from(began.as_nanos()).ok()
}

/// Two lists, newest first, as one.
struct NewestFirst<A: Iterator, B: Iterator>(std::iter::Peekable<A>, std::iter::Peekable<B>);

impl<A, B> Iterator for NewestFirst<A, B>
where
    A: Iterator<Item = Result<LogRow>>,
    B: Iterator<Item = Result<LogRow>>,
{
    type Item = Result<LogRow>;

    fn next(&mut self) -> Option<Result<LogRow>> {
        match (self.0.peek(), self.1.peek()) {
            (Some(Ok(one)), Some(Ok(other))) if one.id < other.id => self.1.next(),
            // An error ends its list, and comes first.
            (Some(Ok(_)) | None, Some(Err(_))) | (None, _) => self.1.next(),
            _ => self.0.next(),
        }
    }
}

fn clean(row: &mut LogRow, cleaner: &mut Cleaner) {
    for text in [&mut row.message, &mut row.target].into_iter().chain(&mut row.module).chain(&mut row.file) {
        *text = cleaner.text(std::mem::take(text));
    }
    row.fields = row.fields.take().map(|fields| cleaner.value("", fields));
}

#[cfg(test)]
mod tests {
    use super::super::LogLevel;
    use super::*;

    #[test]
    fn a_row_is_cleaned_as_when_it_was_written() {
        let mut row = LogRow {
            id: 1,
            ts: 1,
            level: LogLevel::Info,
            target: "https://me:hunter2@host".to_owned(),
            message: "password: Some(\"hunter2\")".to_owned(),
            fields: Some(
                serde_json::json!({"token": 12, "list": [{"token": "hunter2"}], "prompt": "hunter2"}),
            ),
            thread_id: None,
            process_id: "p".to_owned(),
            module: Some("m".to_owned()),
            file: Some("password=hunter2".to_owned()),
            line: None,
            bytes: 1,
        };
        clean(&mut row, &mut Cleaner::new(Redactor::default()));
        assert!(!format!("{row:?}").contains("hunter2"), "{row:?}");
        assert_eq!(row.fields.expect("values")["token"], 12, "a count stays");
    }
}
