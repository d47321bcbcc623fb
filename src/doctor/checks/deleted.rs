//! Deleted files of it that somebody keeps open.

use super::super::command::Command;
use super::super::finding::Finding;
use super::super::scope::Scope;
use super::super::subject::Subject;
use super::super::words::{bytes, number};
use crate::sqlite::holders::who::DeletedFile;

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
