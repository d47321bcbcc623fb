//! The database's file, by its name: never opened.

use std::os::unix::fs::MetadataExt;

use super::super::command::{Command, Own};
use super::super::finding::Finding;
use super::super::scope::{Place, Scope};
use super::super::subject::Subject;
use super::super::words::bytes;
use crate::home::{self, access, with_ending};

pub(super) fn file(scope: &Scope, subject: &Subject) -> Finding {
    let found = match home::check_database_file(&subject.path) {
        Ok(Some(found)) => found,
        Ok(None) => return missing(scope, subject),
        Err(error) => return Finding::of_error(&error),
    };
    let (log, index) = (subject.bytes("-wal"), subject.bytes("-shm"));
    let sizes = |finding: Finding| {
        finding.detail("main_bytes", found.len()).detail("log_bytes", log).detail("index_bytes", index)
    };
    let read_only = scope.context.read_only();
    let told = |finding: Finding| sizes(finding.detail("path", subject.path.display().to_string()));
    if found.len() == 0 && log > home::LOG_HEADER as u64 {
        return told(Finding::fail("the file is empty, and its log is not"))
            .evidence("SQLite would delete the log when it opens the file")
            .remedy("keep both files, and put the database file back: from the backup, or the program that emptied it");
    }
    let us = rustix::process::geteuid().as_raw();
    let files = [("", true), ("-wal", log > 0), ("-shm", index > 0)];
    for (ending, _) in files.into_iter().filter(|(_, is_there)| *is_there) {
        let path = with_ending(&subject.path, ending);
        // The error tells the file: the one that is in the way.
        if let Err(error) = access::readable(&path) {
            return sizes(match read_only {
                Some("home.access") if found.uid() != us => not_checked("home.access"),
                _ => Finding::of_error(&error),
            });
        }
        // Another program's file may be one that is only read.
        if let Some(error) = subject.info.as_ref().and_then(|_| access::writable(&path).err()) {
            return sizes(read_only.map_or_else(|| Finding::of_error(&error), not_checked));
        }
    }
    if found.uid() != us && us != 0 {
        let owner = home::user_name(found.uid());
        let finding = told(Finding::warning(format!("it belongs to {owner}")));
        return finding.remedy(match &scope.context.place {
            Place::Home { home, .. } => {
                format!("the programs of a home run as one user: {}", access::as_owner(&owner, home.path()))
            }
            _ => format!("its programs should run as one user, {owner}"),
        });
    }
    if subject.info.is_some() && found.mode() & 0o077 != 0 {
        return told(Finding::warning("other users may read it"))
            .detail("mode", format!("{:04o}", found.mode() & 0o7777))
            .remedy("its program makes it private when it opens it next")
            .fix(Command::System("chmod 600", subject.path.clone()));
    }
    told(Finding::ok(format!("{}, and {} of log", bytes(found.len()), bytes(log))))
}

/// One cause for all databases of a home, told by one row.
pub(super) fn not_checked(teller: &'static str) -> Finding {
    Finding::skipped(format!("not checked: the home is read-only, see {teller}"))
}

/// Only what a program has declared is missing.
fn missing(scope: &Scope, subject: &Subject) -> Finding {
    let log = subject.bytes("-wal");
    let held = subject.who(scope).and_then(|database| database.deleted.as_ref());
    let main = held.into_iter().flatten().find(|file| file.path == subject.path);
    let finding = Finding::fail("the database file is gone")
        .detail("path", subject.path.display().to_string())
        .detail("log_bytes", log);
    if let Some(holder) = main.and_then(|file| file.processes.first()) {
        let finding = finding
            .holder(holder)
            .evidence("that process still has the deleted file open: its content is not lost yet");
        return match &holder.program {
            Some(_) => finding
                .remedy("let that process go on: it saves what it has into quarantine/; do not end it with kill -9")
                .look(Own::Who.of(&subject.name)),
            None => finding
                .remedy("before it ends, copy the deleted file, and its -wal, from the numbers that this lists")
                .look(Command::System("ls -l", format!("/proc/{}/fd", holder.pid).into())),
        };
    }
    if log > home::LOG_HEADER as u64 {
        return finding.evidence("its log is still there, and useless without it").remedy(
            "put the file back, from where it was moved or from a backup, before a program creates a new one",
        );
    }
    finding
        .evidence("registry.json says that a program made it")
        .remedy("put it back, or bring a backup back; otherwise the next program that opens the home creates an empty one")
        .fix(Own::Restore.of("BACKUP"))
}
