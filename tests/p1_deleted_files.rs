//! Files that were deleted under a live process are told, with their bytes and with who keeps them.

#![cfg(target_os = "linux")]

mod processes;

use std::path::Path;

use processes::Child;
use rowhouse::{DeletedFile, Home, RuntimeDbRegistry};

const BYTES: i64 = 1 << 20;

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [_, home] = &arguments[..] else { panic!("a role and a home: {arguments:?}") };
    let runtime = processes::open(home.as_ref());
    let database = runtime.database("work").expect("the domain");
    let insert = "INSERT INTO item(job, part, body) VALUES (1, 1, zeroblob(?1))";
    database.write(|tx| tx.execute(insert, [BYTES])).expect("a write");
    processes::ready();
}

fn deleted(home: &Path) -> Vec<DeletedFile> {
    let found = RuntimeDbRegistry::new(&Home::at(home)).who_has("work").expect("a look").databases.remove(0);
    found.deleted.expect("this system tells")
}

/// What `du` adds up: the files that have a name.
fn named_bytes(home: &Path) -> u64 {
    let entries = std::fs::read_dir(home).expect("the home").map(|entry| entry.expect("an entry"));
    entries.map(|entry| entry.metadata().expect("a file").len()).sum()
}

/// After `rm` of the log under a suspended process, `who` tells the file, its bytes, and the stopped process that keeps
/// them; they are gone from the list when that process is.
///
/// Scale: 1 process, a log of over 1 MiB.
/// Control: the folder shows a size without those bytes, and nobody's name.
#[test]
fn p1_deleted_log_is_told_with_its_bytes_and_who_keeps_it() {
    let folder = processes::folder();
    let home = folder.path().canonicalize().expect("its path");
    let mut child = Child::start("fill", &[processes::text(&home)]);
    child.wait_for("ready");
    assert_eq!(deleted(&home), []);
    // As a terminal's Ctrl-Z does; so it cannot notice and reopen either.
    child.stop();
    let wal = home.join("work.sqlite-wal");
    let bytes = std::fs::metadata(&wal).expect("the log").len();
    assert!(bytes >= BYTES as u64, "{bytes}");
    let before = named_bytes(&home);
    std::fs::remove_file(&wal).expect("removed");
    assert_eq!(named_bytes(&home), before - bytes, "the control: the folder looks smaller");

    let found = deleted(&home);
    let [file] = &found[..] else { panic!("one file: {found:?}") };
    assert_eq!((&file.path, file.bytes), (&wal, bytes));
    let [keeper] = &file.processes[..] else { panic!("one process: {file:?}") };
    assert_eq!(i64::from(keeper.pid), i64::from(child.pid()));
    assert!(keeper.stopped && keeper.program.is_some(), "{keeper:?}");

    child.kill();
    assert_eq!(deleted(&home), []);
}
