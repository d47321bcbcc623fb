//! Does it open and read: what a program meets first.

use super::super::command::Own;
use super::super::finding::{Finding, is_damage};
use super::super::scope::Scope;
use super::super::subject::Subject;
use super::super::words::number;
use crate::error::{Error, ErrorKind, Result};
use crate::home;
use crate::sqlite::look::{Look, TooLargeToCopy};

pub(super) fn open(scope: &Scope, subject: &Subject) -> Finding {
    if !matches!(home::check_database_file(&subject.path), Ok(Some(found)) if found.len() > 0) {
        return Finding::skipped(format!("there is no file that could be opened: see {}.file", subject.name));
    }
    if let Some(why) = subject.split(scope) {
        return Finding::skipped(why);
    }
    let opened = subject.look(scope).and_then(|look| read(&look));
    match opened {
        Ok(finding) => finding,
        Err(error) if error.downcast_ref::<TooLargeToCopy>().is_some() => {
            Finding::skipped(error.message()).evidence(
                "a program that was killed left the log, and the file with its index is gone; the next program works it off",
            )
        }
        Err(error) => failed(&error, scope, subject),
    }
}

fn read(look: &Look) -> Result<Finding> {
    let objects = look.connection().query_row(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table'",
        [],
        |row| row.get::<_, u32>(0),
    )?;
    let finding = Finding::ok(format!("opens and reads, {}", number(objects.into(), "table")))
        .detail("tables", objects)
        .detail("page_bytes", look.pragma("page_size")? as u64)
        .detail("pages", look.pragma("page_count")? as u64);
    look.check_whole()?;
    Ok(finding)
}

fn failed(error: &Error, scope: &Scope, subject: &Subject) -> Finding {
    let finding = Finding::of_error(error);
    if error.kind() == ErrorKind::ReadOnly {
        return Finding::skipped(format!("this user may not read it: see {}.file", subject.name));
    }
    if error.kind() == ErrorKind::Timeout {
        return finding.into_warning();
    }
    if !is_damage(error) {
        return finding;
    }
    if subject.is_in_use(scope) && subject.info.is_some() {
        return finding
            .evidence("a program that has it open looks into it by itself, and sets the file aside when it is damaged")
            .look(Own::RepairPlan.of(&subject.name));
    }
    match &subject.domain {
        Some(_) => finding.look(Own::RepairPlan.of(&subject.name)).fix(Own::RepairApply.of(&subject.name)),
        None => finding,
    }
}
