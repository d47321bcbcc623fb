//! What lies beside a database and does not belong there.

use std::fs;

use super::super::finding::Finding;
use super::super::scope::Scope;
use super::super::subject::Subject;
use crate::home::{self, with_ending};

pub(super) fn sidecars(scope: &Scope, subject: &Subject) -> Finding {
    if subject.bytes("") == 0 {
        return Finding::skipped(format!("there is no database: see {}.file", subject.name));
    }
    if let Some(why) = subject.split(scope) {
        return Finding::skipped(why);
    }
    let journal = with_ending(&subject.path, "-journal");
    // One that is kept for the next transaction holds nothing, however long it is.
    if subject.bytes("-journal") > 0 && home::is_hot_journal(&journal) {
        let finding = if subject.is_in_use(scope) {
            Finding::ok("somebody is inside a transaction without a write-ahead log")
        } else {
            Finding::warning("a rollback journal of a program that was killed lies beside it")
                .remedy("leave it there: the next program that opens the database rolls the transaction back")
        };
        return finding.detail("journal_bytes", subject.bytes("-journal"));
    }
    let index = fs::symlink_metadata(with_ending(&subject.path, "-shm")).is_ok();
    if subject.bytes("-wal") > home::LOG_HEADER as u64 && !index {
        if subject.is_in_use(scope) {
            return Finding::ok("its log has no index (-shm): its only user keeps that in memory")
                .detail("log_bytes", subject.bytes("-wal"))
                .evidence("PRAGMA locking_mode = EXCLUSIVE does that");
        }
        return Finding::warning(
            "its log has no index (-shm): somebody removed it, or copied two of three files",
        )
        .detail("log_bytes", subject.bytes("-wal"))
        .evidence("nothing is lost: the next program that opens the database makes the index anew")
        .remedy("copy databases with `rowhouse backup`, never file by file");
    }
    Finding::ok("nothing that does not belong to it")
}
