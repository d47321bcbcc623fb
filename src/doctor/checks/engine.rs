//! The versions of SQLite: of this program, and of whoever wrote a file last.

use super::super::finding::Finding;
use super::super::scope::Scope;
use super::super::subject::Subject;
use super::loaded;
use crate::sqlite::connect::check_engine;

/// Processes that are asked what they have loaded.
const MOST_ASKED: usize = 20;

pub(super) fn version(_: &Scope) -> Finding {
    let version = rusqlite::version();
    match check_engine(rusqlite::version_number()) {
        Ok(()) => Finding::ok(format!("SQLite {version}")).detail("sqlite", version),
        Err(error) => Finding::of_error(&error).detail("sqlite", version),
    }
}

/// Before the fix, two connections that write and checkpoint at once can damage a file
/// (<https://sqlite.org/wal.html#walresetbug>). 3.50.7 has it as a backport.
fn is_sound(number: u32) -> bool {
    number == 3_050_007 || check_engine(i32::try_from(number).unwrap_or(i32::MAX)).is_ok()
}

fn shown(number: u32) -> String {
    format!("{}.{}.{}", number / 1_000_000, number / 1_000 % 1_000, number % 1_000)
}

/// By the file's header, and by what the processes that have it open have loaded.
pub(super) fn users(scope: &Scope, subject: &Subject) -> Finding {
    subject.opened(scope, |look| {
        let written_by = look.written_by()?;
        let users = subject.who(scope).and_then(|database| database.processes.as_ref()).into_iter().flatten();
        // Programs of this library refuse to run with another one.
        let foreign = users.filter(|user| user.process.program.is_none()).take(MOST_ASKED);
        let loaded: Vec<_> =
            foreign.filter_map(|user| Some((loaded::version(user.process.pid)?, &user.process))).collect();
        let told = |finding: Finding| {
            let finding =
                if written_by > 0 { finding.detail("changed_by", shown(written_by)) } else { finding };
            loaded.iter().fold(finding, |finding, (version, process)| {
                finding.evidence(format!("{process} uses SQLite {}", shown(*version)))
            })
        };
        let unsound = |version: u32| version > 0 && !is_sound(version);
        let harms = "which can damage a database that several connections write";
        let finding = if !look.has_log()? {
            Finding::ok("it has no write-ahead log: any SQLite will do")
        } else if let Some((version, process)) = loaded.iter().find(|(version, _)| unsound(*version)) {
            Finding::warning(format!("{process} has it open with SQLite {}, {harms}", shown(*version)))
                .remedy("give that program SQLite 3.51.3 or later")
        } else if unsound(written_by) {
            Finding::warning(format!("a program with SQLite {} changed it, {harms}", shown(written_by)))
                .evidence("the file's header names the SQLite that changed its first page last")
                .remedy("find that program (`rowhouse who`) and give it SQLite 3.51.3 or later")
        } else if written_by > 0 {
            Finding::ok(format!("changed last by SQLite {}", shown(written_by)))
        } else {
            Finding::skipped("the file does not tell")
        };
        Ok(told(finding))
    })
}
