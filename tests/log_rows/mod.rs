//! Rows put into a log as they stand, so that a test decides every column.

#![allow(dead_code)] // each test file uses the part it needs

use std::path::Path;

use rowhouse::stores::{LogLevel, LogRow, Logs};
use rowhouse::{Database, Domain, Home, Runtime};

pub(crate) const THREAD: &str = "019cadf1-7a5e-7b04-8f21-000000000001";
pub(crate) const OTHER: &str = "019cadf1-7a5e-7b04-8f21-000000000002";
pub(crate) const SECOND: i64 = 1_000_000_000;

/// A row to be; its id comes with it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) ts: i64,
    pub(crate) level: LogLevel,
    pub(crate) target: String,
    pub(crate) message: String,
    pub(crate) fields: Option<serde_json::Value>,
    pub(crate) thread: Option<String>,
    pub(crate) process: String,
    pub(crate) module: Option<String>,
    pub(crate) file: Option<String>,
}

/// Something at this moment, in Unix nanoseconds.
pub(crate) fn event(ts: i64, message: impl Into<String>) -> Event {
    Event {
        ts,
        level: LogLevel::Info,
        target: "app".to_owned(),
        message: message.into(),
        fields: None,
        thread: None,
        process: "process-1".to_owned(),
        module: None,
        file: None,
    }
}

impl Event {
    pub(crate) fn level(self, level: LogLevel) -> Self {
        Self { level, ..self }
    }
    pub(crate) fn target(self, target: &str) -> Self {
        Self { target: target.to_owned(), ..self }
    }
    pub(crate) fn thread(self, thread: &str) -> Self {
        Self { thread: Some(thread.to_owned()), ..self }
    }
    pub(crate) fn process(self, process: &str) -> Self {
        Self { process: process.to_owned(), ..self }
    }
    pub(crate) fn fields(self, fields: serde_json::Value) -> Self {
        Self { fields: Some(fields), ..self }
    }
}

/// A home with a log.
pub(crate) fn open(home: &Path) -> (Runtime, Database, Logs) {
    let runtime = Runtime::builder(Home::at(home)).domain(Domain::logs()).open().expect("a runtime");
    let database = runtime.database("logs").expect("the domain");
    // A best-effort database is attached in the background.
    database.changes().expect("it is attached");
    let logs = runtime.logs();
    (runtime, database, logs)
}

/// Writes rows in one transaction.
pub(crate) fn write(database: &Database, events: &[Event]) {
    let result = database.write(|tx| {
        let mut insert = tx.prepare(
            "INSERT INTO log(ts, level, target, message, fields, thread_id, process_id, module, file, line, bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 7, ?10)",
        )?;
        for event in events {
            let fields = event.fields.as_ref().map(ToString::to_string);
            let bytes = event.message.len() + fields.as_ref().map_or(0, String::len) + event.target.len();
            insert.execute((
                event.ts,
                event.level as i64 + 1,
                &event.target,
                &event.message,
                fields,
                &event.thread,
                &event.process,
                &event.module,
                &event.file,
                bytes as i64,
            ))?;
        }
        Ok(())
    });
    result.expect("written");
}

/// Deletes rows, as pruning does.
pub(crate) fn delete(database: &Database, condition: &str) {
    database.write(|tx| tx.execute(&format!("DELETE FROM log WHERE {condition}"), [])).expect("deleted");
}

pub(crate) fn messages(rows: &[LogRow]) -> Vec<&str> {
    rows.iter().map(|row| row.message.as_str()).collect()
}

pub(crate) fn ids(rows: &[LogRow]) -> Vec<i64> {
    rows.iter().map(|row| row.id).collect()
}
