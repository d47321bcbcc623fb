//! The versions of SQLite: of this program, and of whoever wrote a file last.

use super::super::finding::Finding;
use super::super::scope::{Scope, Subject};
use crate::sqlite::connect::check_engine;

pub(super) fn version(_: &Scope) -> Finding {
    let version = rusqlite::version();
    match check_engine(rusqlite::version_number()) {
        Ok(()) => Finding::ok(format!("SQLite {version}")).detail("sqlite", version),
        Err(error) => Finding::of_error(&error).detail("sqlite", version),
    }
}

/// Before the fix, two connections that write and checkpoint at once can damage a file
/// (<https://sqlite.org/wal.html#walresetbug>). 3.50.7 has it as a backport.
pub(super) fn written_by(scope: &Scope, subject: &Subject) -> Finding {
    subject.opened(scope, |look| {
        let number = look.written_by()?;
        if number == 0 {
            return Ok(Finding::skipped("the file does not tell"));
        }
        let version = format!("{}.{}.{}", number / 1_000_000, number / 1_000 % 1_000, number % 1_000);
        let sound = number == 3_050_007 || check_engine(i32::try_from(number).unwrap_or(i32::MAX)).is_ok();
        if sound || !look.has_log()? {
            return Ok(Finding::ok(format!("changed last by SQLite {version}")).detail("sqlite", version));
        }
        Ok(Finding::warning(format!(
            "a program with SQLite {version} changed it, which can damage a database that several connections write"
        ))
        .detail("sqlite", version)
        .evidence("the file's header names the SQLite that changed its first page last")
        .remedy("find that program (rowhouse who) and give it SQLite 3.51.3 or later"))
    })
}
