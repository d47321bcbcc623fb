//! The file system: what it is, and how much room it has.

use super::super::command::Own;
use super::super::finding::Finding;
use super::super::scope::{NO_ANSWER, Place, Scope};
use super::super::words::bytes;
use crate::config::Limits;
use crate::error::ErrorKind;
use crate::home::{self, access};

/// How many more files the file system must have room for.
const FEWEST_INODES: u64 = 1_000;

pub(super) fn file_system(scope: &Scope) -> Finding {
    if let Place::Home { folder: Err(error), .. } = &scope.context.place {
        return match error.kind() {
            ErrorKind::Unsupported => Finding::skipped("it cannot hold a database: see home.folder"),
            _ => Finding::skipped("there is no folder to look at: see home.folder"),
        };
    }
    let told = home::file_system_of(scope.context.path());
    if let Place::Silent(path) = &scope.context.place {
        let words = told.as_ref().map_or("its file system", |told| &told.words);
        return Finding::fail(format!("the folder does not answer: {words}"))
            .kind(ErrorKind::Timeout)
            .detail("path", path.display().to_string())
            .remedy(NO_ANSWER);
    }
    let mounted = access::writable_folder(scope.context.path()).err().filter(access::is_of_the_mount);
    let Some(told) = told else {
        let unknown = || Finding::skipped("this system does not list what is mounted");
        return mounted.as_ref().map_or_else(unknown, Finding::of_error);
    };
    let finding = mounted.as_ref().map_or_else(|| Finding::ok(told.words.clone()), Finding::of_error);
    finding.detail("file_system", told.name).detail("mounted_at", told.point.display().to_string())
}

pub(super) fn space(scope: &Scope) -> Finding {
    let room = match home::room(scope.context.path()) {
        Ok(room) => room,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Finding::skipped("there is no folder to look at");
        }
        Err(error) => return Finding::of_error(&error),
    };
    let sizes = scope.context.subjects.iter().map(|subject| subject.bytes("") + subject.bytes("-wal"));
    let (all, largest) = (sizes.clone().sum::<u64>(), sizes.max().unwrap_or(0));
    let reserve = Limits::default().disk_reserve.min(room.total / 8);
    let told = |finding: Finding| {
        finding
            .detail("free_bytes", room.free)
            .detail("total_bytes", room.total)
            .detail("databases_bytes", all)
            .detail("largest_bytes", largest)
    };
    let free = bytes(room.free);
    if room.free < reserve / 4 {
        return told(Finding::fail(format!("the disk is full: {free} are free")).kind(ErrorKind::Full))
            .detail("path", scope.context.path().display().to_string())
            .evidence("writes are refused, or soon will be; what is there stays good")
            .remedy("free some space on that disk; programs go on by themselves")
            .look(Own::Who);
    }
    if room.free < reserve {
        return told(Finding::warning(format!("only {free} are free: logs are not written any more")))
            .remedy("free some space on that disk; what is not written is counted as shed");
    }
    if room.free < largest {
        return told(Finding::warning(format!("{free} are free, less than the largest database takes")))
            .evidence("a backup, a compaction or a repair needs as much again")
            .remedy("free some space on that disk, or back up to another one (`rowhouse backup DIR`)");
    }
    told(Finding::ok(format!("{free} are free, the databases take {}", bytes(all))))
}

pub(super) fn inodes(scope: &Scope) -> Finding {
    let Ok(found) = rustix::fs::statvfs(scope.context.path()) else {
        return Finding::skipped("there is no folder to look at");
    };
    // Some file systems make them as they go, and say so by having none.
    if found.f_files == 0 {
        return Finding::ok("this file system has no fixed number of files");
    }
    let told = |finding: Finding| finding.detail("free", found.f_favail).detail("total", found.f_files);
    if found.f_favail < FEWEST_INODES {
        return told(Finding::fail(format!("the file system has room for {} more files", found.f_favail)))
            .remedy("remove files that nobody needs: a database needs a log, an index and lock files");
    }
    told(Finding::ok(format!("room for {} more files", found.f_favail)))
}
