//! Who has it open, and who of them is stopped.

use super::super::finding::Finding;
use super::super::scope::Scope;
use super::super::subject::Subject;
use super::log;
use crate::sqlite::holders::who::{DatabaseLock, DatabaseProcess, Unseen};

pub(super) fn holders(scope: &Scope, subject: &Subject) -> Finding {
    let holders = match scope.context.who() {
        Ok(holders) => holders,
        Err(error) => return Finding::of_error(error),
    };
    let Some(users) = subject.who(scope).and_then(|database| database.processes.as_ref()) else {
        return Finding::skipped("this system does not tell who has a file open");
    };
    let others: Vec<_> = users.iter().filter(|user| user.process.pid != std::process::id()).collect();
    let stopped: Vec<_> = others.iter().filter(|user| user.process.stopped).collect();
    let finding = match &stopped[..] {
        [] if others.is_empty() && holders.unseen.contains(&Unseen::HiddenProcesses) => {
            Finding::ok("nobody that can be seen from here has it open")
        }
        [] if others.is_empty() => Finding::ok("nobody has it open"),
        [] => Finding::ok(format!("{} it open", have(others.len()))),
        _ if subject.is_held_by_stopped(scope) => Finding::ok(format!(
            "{} it open; a stopped one is told by {}.write",
            have(others.len()),
            subject.name
        )),
        _ if log::is_starved(scope, subject) => Finding::ok(format!(
            "{} it open; a stopped one is told by {}.log",
            have(others.len()),
            subject.name
        )),
        [first, ..] => Finding::warning(format!("{} has it open and is stopped", first.process))
            .evidence("it holds no write lock now; a program that ends beside it cannot clear up")
            .remedy("let it go on (fg, kill -CONT), or end it")
            .holder(&first.process),
    };
    let finding = finding.detail("processes", others.len());
    let finding = others.iter().take(20).fold(finding, |finding, user| finding.evidence(what_it_does(user)));
    holders.unseen.iter().fold(finding, |finding, unseen| finding.evidence(format!("not seen: {unseen}")))
}

/// Who it is, and what its locks tell of it. No lock is touched to find out.
fn what_it_does(user: &DatabaseProcess) -> String {
    let holds = |lock| user.holds.as_ref().is_some_and(|locks| locks.contains(&lock));
    let process = &user.process;
    if holds(DatabaseLock::Write) {
        format!("{process} has the write lock")
    } else if holds(DatabaseLock::Checkpoint) {
        format!("{process} works off the log")
    } else if holds(DatabaseLock::Snapshot) {
        format!("{process} reads")
    } else {
        process.to_string()
    }
}

fn have(count: usize) -> String {
    if count == 1 { "1 process has".to_owned() } else { format!("{count} processes have") }
}
