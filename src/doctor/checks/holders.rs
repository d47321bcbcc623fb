//! Who has it open, who of them is stopped, and who keeps deleted files.

use super::super::command::Command;
use super::super::finding::Finding;
use super::super::scope::{Scope, Subject};
use super::super::words::{bytes, number};
use super::log;
use crate::sqlite::holders::who::{DatabaseLock, DatabaseProcess, DeletedFile};

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

/// Its users go on in a file that nobody else can open.
fn removed(log: &DeletedFile) -> Finding {
    let users: Vec<_> = log.processes.iter().map(ToString::to_string).collect();
    let finding = Finding::fail(format!("the -wal was removed while {} uses it", users.join(" and ")))
        .detail("path", log.path.display().to_string())
        .detail("bytes", log.bytes)
        .evidence(
            "what was committed since the last checkpoint is in that file alone, which has no name any more",
        );
    let finding = match log.processes.first().map(|first| (first, &first.program)) {
        Some((_, Some(_))) => finding
            .remedy("let that process go on, and end it normally: it saves what it has; do not end it with kill -9"),
        Some((first, None)) => finding
            .remedy("before it ends, copy the deleted file from the numbers that this lists; never remove a -wal of a database that is in use")
            .look(Command::System("ls -l", format!("/proc/{}/fd", first.pid).into())),
        None => finding,
    };
    log.processes.iter().fold(finding, Finding::holder)
}

pub(super) fn deleted(scope: &Scope, subject: &Subject) -> Finding {
    let Some(files) = subject.who(scope).and_then(|database| database.deleted.as_ref()) else {
        return Finding::skipped("this system does not tell who has a deleted file open");
    };
    if files.is_empty() {
        return Finding::ok("none");
    }
    if files.iter().any(|file| file.path == subject.path) && subject.bytes("") == 0 {
        return Finding::skipped(format!("its main file was deleted: see {}.file", subject.name));
    }
    if let Some(log) = subject.removed_log(scope) {
        return removed(log);
    }
    let all = files.iter().map(|file| file.bytes).sum();
    let finding = Finding::warning(format!(
        "{} that {} deleted {} kept open: {}",
        number(files.len() as u64, "file"),
        if files.len() == 1 { "was" } else { "were" },
        if files.len() == 1 { "is" } else { "are" },
        bytes(all)
    ))
    .detail("bytes", all)
    .evidence("the space becomes free when the process that has it open ends; a -wal that was removed splits its users")
    .remedy("end or restart these processes; never remove a -wal or -shm of a database that is in use");
    files.iter().take(20).fold(finding, |finding, file| {
        let keepers: Vec<_> = file.processes.iter().map(ToString::to_string).collect();
        finding.evidence(format!(
            "{} ({}), kept by {}",
            file.path.display(),
            bytes(file.bytes),
            keepers.join(", ")
        ))
    })
}
