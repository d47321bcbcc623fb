//! A process that dies at any write of creating, appending, archiving, taking back, forking, compressing, renaming or
//! importing leaves a store that opens: nothing that was flushed is lost, no line is merged with another, row and file agree
//! once they were reconciled, and a fork is whole or not there.
//!
//! The writes are found, not guessed: a child does it and kills itself before its first step on a transcript or its row,
//! another one before its second, and so on, until one comes through. Of a write both are tried, dying before it and after
//! half of it. Every other ending is one of a power cut, with every file cut to what was synced.
//!
//! Deleting: `tests/thread_delete.rs`. Transcripts alone, each ending twice: `tests/rollout_crashes.rs`.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![cfg(feature = "agent")]

mod dying;
#[allow(unreachable_pub, reason = "shared with the tests of the engine")]
mod processes;
mod rollouts;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dying::Death;
use processes::text;
use rollouts::{ID, item, numbers, transcripts};
use rowhouse::portable::ImportOptions;
use rowhouse::rollout::{NewRollout, read_metadata};
use rowhouse::stores::backfill::Reread;
use rowhouse::stores::threads::{Change, ThreadPatch};
use rowhouse::thread_store::{ForkPoint, LocalThreadStore, ThreadStore, TurnQuery};
use rowhouse::{Domain, ErrorKind, Home, Runtime, ThreadQuery};

const FORK: &str = "019b7e00-0000-7000-8000-0000000000f0";

fn store(home: &Path) -> LocalThreadStore {
    let runtime = Runtime::builder(Home::at(home)).domain(Domain::state()).domain(Domain::goals()).open();
    LocalThreadStore::new(&runtime.expect("a runtime")).expect("a store")
}

#[test]
fn child_entry() {
    let Some(role) = processes::role() else { return };
    let store = store(Path::new(&role[1]));
    dying::at(&role[2]);
    run(&role[0], &store, role.get(3).map(String::as_str));
    say("done");
}

/// To whoever watches the child.
fn say(line: &str) {
    if processes::role().is_some() {
        processes::say(line);
    }
}

fn append(store: &LocalThreadStore, from: usize, to: usize) {
    let items: Vec<_> = (from..to).map(|n| item(n, 300)).collect();
    store.append_items(ID, &items).expect("appended");
    store.flush(ID).expect("flushed");
    say(&format!("flushed {to}"));
}

fn named(name: &str) -> ThreadPatch {
    ThreadPatch { name: Change::Set(name.to_owned()), ..ThreadPatch::default() }
}

fn run(operation: &str, store: &LocalThreadStore, file: Option<&str>) {
    match operation {
        "create" => {
            store.create(&rollouts::new()).expect("created");
            append(store, 0, 2);
            store.shutdown(ID).expect("shut down");
        }
        "append" => {
            store.resume(ID).expect("resumed");
            append(store, 2, 3);
            append(store, 3, 5);
            store.shutdown(ID).expect("shut down");
        }
        "archive" => drop(store.archive(ID).expect("archived")),
        "unarchive" => drop(store.unarchive(ID).expect("back")),
        "fork" => {
            let new = NewRollout { id: Some(FORK.to_owned()), ..rollouts::new() };
            store.fork(ID, &ForkPoint::End, &new).expect("forked");
            say("forked");
            store.shutdown(FORK).expect("shut down");
        }
        "rename" => {
            store.update_metadata(ID, &named("Ledger")).expect("named");
            say("named");
        }
        "compress" => {
            let path = store.rollouts().locate(ID, None).expect("found").path;
            store.rollouts().compress(&path).expect("compressed");
        }
        "import" => {
            let file = Path::new(file.expect("a file"));
            let done = store.runtime().import_home(file, &ImportOptions::default(), &mut |_| {});
            assert_eq!(done.expect("imported").left, 0);
            say("imported");
        }
        other => panic!("no operation {other}"),
    }
}

/// Runs the operation to every one of its steps, each time in a home of its own; `check` is given that home after the crash.
fn die_at_every_step(
    operation: &str,
    prepare: impl Fn(&Path),
    file: &str,
    check: impl Fn(&Path, &Death, &str),
) -> usize {
    let mut dies_at = 0;
    loop {
        let folder = tempfile::Builder::new().prefix("rowhouse-test-").tempdir().expect("a folder");
        let home = folder.path().canonicalize().expect("the home");
        prepare(&home);
        let death = Death::of(operation, &[text(&home), &dies_at.to_string(), file]);
        let power_cut = dies_at % 4 < 2;
        if power_cut {
            death.cut_the_power(&home, &home);
        }
        check(&home, &death, &format!("{operation}, died at {dies_at}, power cut: {power_cut}"));
        if death.came_through {
            return dies_at / 2;
        }
        dies_at = death.next(dies_at);
    }
}

fn prepared(before: &[&str]) -> impl Fn(&Path) {
    move |home| {
        let store = store(home);
        for operation in before {
            run(operation, &store, None);
        }
    }
}

/// The row says what the transcript does, and there is one of each.
fn agree(store: &LocalThreadStore, home: &Path, id: &str, what: &str) {
    let report = store.runtime().backfill().run(home, Reread::Changed, &mut |_| {});
    assert_eq!(report.expect("reconciled").counts.bad, 0, "{what}");
    let path = store.rollouts().locate(id, None).expect("a transcript").path;
    let row = store.read(id).expect("a row");
    assert_eq!(row.rollout_path.as_deref().map(Path::new), Some(path.as_path()), "{what}");
    let said = read_metadata(&path).expect("facts");
    assert_eq!(row.archived_at.is_some(), path.starts_with(home.join("archived_sessions")), "{what}");
    let name = match said.said.name {
        Change::Set(name) => Some(name),
        Change::Leave | Change::Clear => None,
    };
    assert_eq!(row.name, name, "{what}");
    let query = ThreadQuery::recent();
    let mut listed = store.list(&query).expect("a list").threads;
    listed.extend(store.list(&query.archived(true)).expect("a list").threads);
    assert_eq!(listed.iter().filter(|listed| listed.id == id).count(), 1, "{what}");
}

/// The store opens, has at least so many whole items of the thread, and takes another one.
fn opens_with(home: &Path, at_least: usize, what: &str) -> LocalThreadStore {
    let store = store(home);
    agree(&store, home, ID, what);
    let path = store.rollouts().locate(ID, None).expect("a transcript").path;
    store.resume(ID).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = numbers(&store.rollouts().locate(ID, None).expect("a transcript").path);
    assert_eq!(found, (0..found.len()).collect::<Vec<_>>(), "{what}: {}", path.display());
    assert!(found.len() >= at_least, "{what}: {found:?}");
    append(&store, found.len(), found.len() + 1);
    store.shutdown(ID).expect("shut down");
    agree(&store, home, ID, what);
    let path = store.rollouts().locate(ID, None).expect("a transcript").path;
    assert_eq!(numbers(&path).len(), found.len() + 1, "{what}");
    assert!(store.list_turns(ID, &TurnQuery::new()).is_ok(), "{what}");
    store
}

/// No file is left that nobody takes for a transcript.
fn unfinished(home: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(home).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut found = Vec::new();
    for path in entries {
        if path.is_dir() {
            found.extend(unfinished(&path));
        } else if path.extension().is_some_and(|ending| ending == "new") {
            found.push(path);
        }
    }
    found
}

#[test]
fn creating_leaves_a_thread_or_nothing() {
    let steps = die_at_every_step("create", prepared(&[]), "", |home, death, what| {
        if let Some(flushed) = death.flushed() {
            opens_with(home, flushed, what);
            return;
        }
        let store = store(home);
        match store.resume(ID) {
            Ok(()) => store.shutdown(ID).expect("shut down"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{what}: {error}");
                // Not even its first line is there: it can be created again.
                fs::remove_dir_all(home.join("sessions")).ok();
                run("create", &store, None);
            }
        }
        agree(&store, home, ID, what);
    });
    assert!(steps >= 8, "{steps}");
}

#[test]
fn appending_loses_nothing_that_was_flushed() {
    let steps = die_at_every_step("append", prepared(&["create"]), "", |home, death, what| {
        opens_with(home, death.flushed().unwrap_or(2), what);
    });
    assert!(steps >= 6, "{steps}");
}

#[test]
fn archiving_is_whole_or_undone() {
    for (operation, before) in [("archive", &["create"][..]), ("unarchive", &["create", "archive"])] {
        let steps = die_at_every_step(operation, prepared(before), "", |home, death, what| {
            let path = transcripts(home);
            assert_eq!(path.len(), 1, "{what}: {path:?}");
            if death.came_through {
                assert_eq!(path[0].starts_with(home.join("archived_sessions")), operation == "archive");
            }
            opens_with(home, 2, what);
        });
        assert!(steps >= 6, "{operation}: {steps}");
    }
}

#[test]
fn renaming_is_said_in_both_places_or_in_none() {
    let steps = die_at_every_step("rename", prepared(&["create"]), "", |home, death, what| {
        let store = opens_with(home, 2, what);
        if death.said("named") {
            assert_eq!(store.read(ID).expect("a row").name.as_deref(), Some("Ledger"), "{what}");
        }
        store.update_metadata(ID, &named("Books")).expect("named again");
        agree(&store, home, ID, what);
    });
    assert!(steps >= 4, "{steps}");
}

#[test]
fn a_fork_is_whole_or_not_there() {
    let steps = die_at_every_step("fork", prepared(&["create", "append"]), "", |home, death, what| {
        let store = store(home);
        agree(&store, home, ID, what);
        let of_fork = transcripts(home).into_iter().filter(|path| path.to_string_lossy().contains(FORK));
        let of_fork: Vec<_> = of_fork.collect();
        match store.read(FORK) {
            Ok(_) => {
                assert_eq!(of_fork.len(), 1, "{what}");
                agree(&store, home, FORK, what);
                assert_eq!(numbers(&of_fork[0]), [0, 1, 2, 3, 4], "{what}");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{what}: {error}");
                assert!(!death.said("forked") && of_fork.is_empty(), "{what}: {of_fork:?}");
                run("fork", &store, None);
                agree(&store, home, FORK, what);
            }
        }
        // What the dead one left goes with the next fork.
        let other = NewRollout { id: None, ..rollouts::new() };
        let other = store.fork(ID, &ForkPoint::End, &other).expect("forked");
        store.shutdown(&other).expect("shut down");
        assert_eq!(unfinished(home), Vec::<PathBuf>::new(), "{what}");
        opens_with(home, 5, what);
    });
    assert!(steps >= 8, "{steps}");
}

#[cfg(feature = "zstd")]
#[test]
fn compressing_and_decompressing_leave_one_good_copy_and_its_row() {
    for (operation, before) in
        [("compress", &["create", "archive"][..]), ("append", &["create", "archive", "compress"])]
    {
        let steps = die_at_every_step(operation, prepared(before), "", |home, death, what| {
            opens_with(home, death.flushed().unwrap_or(2), what);
            assert_eq!(transcripts(home).len(), 1, "{what}");
        });
        assert!(steps >= 6, "{operation}: {steps}");
    }
}

/// The names and lengths of all transcripts, below the home.
fn all_of(home: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let below = |path: PathBuf| {
        let bytes = fs::read(&path).expect("it reads");
        (path.strip_prefix(home).expect("below").to_owned(), bytes)
    };
    transcripts(home).into_iter().map(below).collect()
}

#[test]
fn an_import_is_finished_by_doing_it_again() {
    let from = tempfile::tempdir().expect("a folder");
    let home = from.path().join("home");
    prepared(&["create"])(&home);
    let here = store(&home);
    // The first one goes to homes that have its beginning, live.
    let beginning = from.path().join("beginning.rowhouse");
    here.runtime().export_home(&beginning, &mut |_| {}).expect("exported");
    run("append", &here, None);
    run("rename", &here, None);
    run("fork", &here, None);
    run("archive", &here, None);
    let file = from.path().join("home.rowhouse");
    here.runtime().export_home(&file, &mut |_| {}).expect("exported");
    let wanted = all_of(&home.canonicalize().expect("the home"));
    let name = here.read(ID).expect("a row").name;
    for has_beginning in [false, true] {
        let prepare = |home: &Path| {
            let store = store(home);
            if has_beginning {
                run("import", &store, Some(text(&beginning)));
            }
        };
        let steps = die_at_every_step("import", prepare, text(&file), |home, death, what| {
            let there = store(home);
            // What is seen is whole: the old one, or the new one.
            for id in [ID, FORK] {
                if let Ok(history) = there.load_history(id) {
                    let items =
                        history.filter(|item| item.as_ref().is_ok_and(|item| item.kind() == "event_msg"));
                    let whole = items.count();
                    assert!(
                        whole == 5 || (whole == 2 && id == ID && has_beginning),
                        "{what}: {whole} of {id}"
                    );
                }
            }
            run("import", &there, Some(text(&file)));
            assert_eq!(all_of(home), wanted, "{what}");
            assert_eq!(unfinished(home), Vec::<PathBuf>::new(), "{what}");
            for id in [ID, FORK] {
                agree(&there, home, id, what);
            }
            assert_eq!(there.read(ID).expect("a row").name, name, "{what}");
            if death.came_through {
                let again = there.runtime().import_home(&file, &ImportOptions::default(), &mut |_| {});
                assert_eq!(again.expect("imported").unchanged, 2, "{what}");
            }
        });
        assert!(steps >= 10, "{steps}");
    }
}
