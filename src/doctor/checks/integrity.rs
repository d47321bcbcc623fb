//! Do its pages make sense.
//!
//! A quick look takes table by table, each for a moment: no snapshot of it lasts longer than [`SLICE`] while others use the
//! database. A deep one has SQLite read the whole file, as one snapshot.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::super::command::Own;
use super::super::finding::{Finding, is_damage};
use super::super::scope::Scope;
use super::super::subject::Subject;
use super::super::words::bytes;
use crate::error::{Error, ErrorKind, Result};

/// How long a table is looked at while others use the database.
const SLICE: Duration = Duration::from_millis(8);
/// The same while nobody does.
const LONG_SLICE: Duration = Duration::from_millis(250);
/// How long all tables of a database take at most.
const QUICK: Duration = Duration::from_millis(600);
/// How many complaints are kept: the first says it, and thousands help nobody.
const MOST_TOLD: usize = 10;
const OPERATIONS: std::ffi::c_int = 200;

pub(super) fn integrity(scope: &Scope, subject: &Subject) -> Finding {
    subject.opened(scope, |look| {
        let connection = look.connection();
        if names(connection).is_err_and(|error| is_damage(&error)) {
            return Ok(Finding::skipped(format!("its schema cannot be read: see {}.open", subject.name)));
        }
        let looked = if scope.context.deep { deep(connection) } else { quick(connection, scope, subject) };
        let looked = match looked {
            Ok(looked) => looked,
            // It opens, so this row is the one that tells.
            Err(error) if is_damage(&error) => {
                Looked { complaints: vec![error.message().to_owned()], ..Looked::default() }
            }
            Err(error) => return Err(error),
        };
        if let Some(first) = looked.complaints.first() {
            let finding = Finding::fail(format!("damaged: {first}"))
                .kind(ErrorKind::Corrupt)
                .detail("complaints", looked.complaints.len());
            let finding = looked
                .complaints
                .iter()
                .take(MOST_TOLD)
                .fold(finding, |finding, complaint| finding.evidence(complaint.as_str()));
            let finding = finding
                .remedy("keep a copy of its files; see what a repair would keep, or bring a backup back");
            return Ok(match &subject.domain {
                Some(_) => {
                    finding.look(Own::RepairPlan.of(&subject.name)).fix(Own::RepairApply.of(&subject.name))
                }
                None => finding,
            });
        }
        let whole = bytes(subject.bytes(""));
        let told =
            |finding: Finding| finding.detail("tables", looked.tables).detail("left_out", looked.left.len());
        if scope.context.deep {
            return Ok(told(Finding::ok(format!("all {whole} were read, with indexes and foreign keys"))));
        }
        Ok(match looked.left.len() {
            0 => told(Finding::ok(format!("all {} tables make sense", looked.tables))),
            left if left < looked.tables => {
                told(Finding::ok(format!("{} of {} tables make sense", looked.tables - left, looked.tables)))
                    .evidence(format!(
                        "too large for a quick look: {}; --deep reads all",
                        looked.left.join(", ")
                    ))
            }
            _ => told(Finding::skipped(format!(
                "too large for a quick look ({whole}): --deep reads all of it"
            ))),
        })
    })
}

#[derive(Default)]
struct Looked {
    tables: usize,
    /// Tables that took too long.
    left: Vec<String>,
    complaints: Vec<String>,
}

fn quick(connection: &Connection, scope: &Scope, subject: &Subject) -> Result<Looked> {
    let slice = if subject.is_in_use(scope) { SLICE } else { LONG_SLICE };
    let until = scope.until.min(Instant::now() + QUICK);
    let names = names(connection)?;
    let mut looked = Looked { tables: names.len(), ..Looked::default() };
    for name in names {
        let end = until.min(Instant::now() + slice);
        connection.progress_handler(OPERATIONS, Some(move || Instant::now() >= end))?;
        let quoted = name.replace('"', "\"\"");
        match complaints(connection, &format!("PRAGMA quick_check(\"{quoted}\")")) {
            Ok(found) => looked.complaints.extend(found),
            Err(error) if error.kind() == ErrorKind::Timeout => looked.left.push(name),
            Err(error) if is_damage(&error) => {
                looked.complaints.push(format!("table {name}: {}", error.message()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(looked)
}

fn deep(connection: &Connection) -> Result<Looked> {
    let tables =
        connection.query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| {
            row.get::<_, u32>(0)
        })?;
    let mut found = match complaints(connection, "PRAGMA integrity_check(1000)") {
        Ok(found) => found,
        // It gave up where it stood: each table by itself says more.
        Err(error) if is_damage(&error) => return by_table(connection, &error, tables as usize),
        Err(error) => return Err(error),
    };
    let mut broken = connection
        .prepare("SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2")?;
    let mut rows = broken.query([])?;
    while let Some(row) = rows.next()? {
        let (table, parent, count): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        found.push(format!("{count} rows of {table} name a row of {parent} that is not there"));
    }
    Ok(Looked { tables: tables as usize, left: Vec::new(), complaints: found })
}

/// What is wrong with which table, where SQLite could not look at all of them at once.
fn by_table(connection: &Connection, error: &Error, tables: usize) -> Result<Looked> {
    let mut looked = Looked { tables, ..Looked::default() };
    for name in names(connection)? {
        let quoted = name.replace('"', "\"\"");
        match complaints(connection, &format!("PRAGMA integrity_check(\"{quoted}\")")) {
            Ok(found) => looked.complaints.extend(found),
            Err(error) if is_damage(&error) => {
                looked.complaints.push(format!("table {name}: {}", error.message()));
            }
            Err(error) => return Err(error),
        }
    }
    if looked.complaints.is_empty() {
        looked.complaints.push(error.message().to_owned());
    }
    Ok(looked)
}

fn names(connection: &Connection) -> Result<Vec<String>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name";
    Ok(connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

fn complaints(connection: &Connection, pragma: &str) -> Result<Vec<String>> {
    let mut statement = connection.prepare(pragma)?;
    let told = statement.query_map([], |row| row.get::<_, String>(0))?;
    let told: Vec<String> = told.collect::<rusqlite::Result<_>>().map_err(Error::from)?;
    // A complaint of many pages is one text of many lines.
    let lines = told.iter().flat_map(|text| text.lines());
    Ok(lines.filter(|line| *line != "ok" && !line.starts_with("***")).map(str::to_owned).collect())
}
