//! A process that dies at any step of creating, appending, archiving, taking back, compressing or throwing away leaves a
//! thread that opens, with everything that was flushed, and no line merged with another.
//!
//! The steps are found, not guessed: a child runs the operation and kills itself before its first step, another one before
//! its second, and so on, until one comes through. Of a write both are tried, dying before it and after half of it. Each
//! ending is looked at twice: as the kernel has it, and as a power cut may leave it, with every file cut to what was synced.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![cfg(feature = "agent")]

mod dying;
#[allow(unreachable_pub, reason = "shared with the tests of the engine")]
mod processes;
mod rollouts;

use std::fs;
use std::path::Path;

use dying::Death;
use processes::{say, text};
use rollouts::{AT_ONCE, ID, Place, item, numbers, transcripts};
use rowhouse::rollout::{Rollouts, read_metadata};

#[test]
fn child_entry() {
    let Some(role) = processes::role() else { return };
    let rollouts = rollouts::open(Path::new(&role[1]));
    dying::at(&role[2]);
    run(&role[0], &rollouts);
    say("done");
}

fn run(operation: &str, rollouts: &Rollouts) {
    match operation {
        "create" => {
            let mut recorder = rollouts.create(&rollouts::new()).expect("a recorder");
            let _ = recorder.append(&[item(0, 300), item(1, 300)]).expect("taken");
            recorder.flush().expect("flushed");
            say("flushed 2");
        }
        "append" => {
            let mut recorder = rollouts.resume(ID, None, AT_ONCE).expect("resumed");
            for n in 2..5 {
                let _ = recorder.append(&[item(n, 300)]).expect("taken");
                if n != 3 {
                    recorder.flush().expect("flushed");
                    say(&format!("flushed {}", n + 1));
                }
            }
        }
        "archive" => rollouts.resume(ID, None, AT_ONCE).expect("resumed").archive(5_000).expect("archived"),
        "unarchive" => rollouts.resume(ID, None, AT_ONCE).expect("resumed").unarchive().expect("back"),
        "compress" => {
            let path = rollouts.locate(ID, None).expect("found").path;
            rollouts.compress(&path).expect("compressed");
        }
        "trash" => {
            let lease = rollouts.lease(ID, AT_ONCE).expect("the lease");
            rollouts.trash(&lease).expect("moved");
            rollouts.empty_trash(ID).expect("removed");
        }
        other => panic!("no operation {other}"),
    }
}

/// A home that an operation is to be tried in.
fn prepare(before: &[&str]) -> Place {
    let place = Place::new();
    for operation in before {
        match *operation {
            "torn" => {
                use std::io::Write;
                let mut file = fs::OpenOptions::new().append(true).open(place.live()).expect("opens");
                file.write_all(b"{\"timestamp\":\"2026").expect("torn");
            }
            operation => run_quietly(operation, &place.rollouts),
        }
    }
    place
}

fn run_quietly(operation: &str, rollouts: &Rollouts) {
    match operation {
        "create" => {
            let mut recorder = rollouts.create(&rollouts::new()).expect("a recorder");
            let _ = recorder.append(&[item(0, 300), item(1, 300)]).expect("taken");
            recorder.flush().expect("flushed");
        }
        other => run(other, rollouts),
    }
}

/// Runs the operation to every one of its steps; `check` is given the home after the crash, and what was flushed.
fn die_at_every_step(operation: &str, before: &[&str], check: impl Fn(&Place, Option<usize>, &str)) -> usize {
    let mut dies_at = 0;
    loop {
        let place = prepare(before);
        let death = Death::of(operation, &[text(place.folder.path()), &dies_at.to_string()]);
        let what = format!("{operation} after {before:?}, died at {dies_at}");
        for power_cut in [false, true] {
            let copy = Place::new();
            copy_all(&place.path(""), &copy.path(""));
            if power_cut {
                death.cut_the_power(&place.path(""), &copy.path(""));
            }
            check(&copy, death.flushed(), &format!("{what}, power cut: {power_cut}"));
        }
        if death.came_through {
            return dies_at / 2;
        }
        dies_at = death.next(dies_at);
    }
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).expect("a folder");
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// The thread opens, has at least so many items, and takes another one.
fn opens_with(place: &Place, at_least: usize, what: &str) {
    let mut recorder =
        place.rollouts.resume(ID, None, AT_ONCE).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = numbers(recorder.path());
    assert_eq!(found, (0..found.len()).collect::<Vec<_>>(), "{what}");
    assert!(found.len() >= at_least, "{what}: {found:?}");
    let _ = recorder.append(&[item(found.len(), 50)]).expect("taken").written().expect("written");
    recorder.flush().expect("flushed");
    let path = recorder.path().to_owned();
    drop(recorder);
    assert_eq!(numbers(&path).len(), found.len() + 1, "{what}");
    assert_eq!(transcripts(place.folder.path()), [path], "{what}: one copy is left");
}

#[test]
fn creating_leaves_a_thread_or_nothing() {
    let steps = die_at_every_step("create", &[], |place, flushed, what| {
        if let Some(flushed) = flushed {
            return opens_with(place, flushed, what);
        }
        match place.rollouts.resume(ID, None, AT_ONCE) {
            Ok(recorder) => assert!(numbers(recorder.path()).len() <= 2, "{what}"),
            // Not even its first line is there.
            Err(error) => assert_eq!(error.kind(), rowhouse::ErrorKind::NotFound, "{what}: {error}"),
        }
    });
    assert!(steps >= 5, "{steps}");
}

#[test]
fn appending_loses_nothing_that_was_flushed() {
    for before in [&["create"][..], &["create", "torn"]] {
        let steps = die_at_every_step("append", before, |place, flushed, what| {
            opens_with(place, flushed.unwrap_or(2), what);
        });
        assert!(steps >= 5, "{steps}");
    }
}

#[test]
fn archiving_and_taking_back_leave_it_in_one_place() {
    for (operation, before) in [
        ("archive", &["create"][..]),
        ("archive", &["create", "torn"]),
        ("unarchive", &["create", "archive"]),
    ] {
        let steps = die_at_every_step(operation, before, |place, _, what| {
            let path = place.rollouts.locate(ID, None).expect("found").path;
            let facts = read_metadata(&path).expect("facts");
            // Where it lies is what a list shows.
            let archived = matches!(facts.thread.archived_at, rowhouse::stores::threads::Change::Set(_));
            assert_eq!(archived, path == place.archived(), "{what}");
            opens_with(place, 2, what);
        });
        assert!(steps >= 5, "{operation}: {steps}");
    }
}

#[cfg(feature = "zstd")]
#[test]
fn compressing_and_decompressing_leave_one_good_copy_that_counts() {
    for (operation, before) in [
        ("compress", &["create", "archive"][..]),
        ("append", &["create", "archive", "compress"]),
        ("unarchive", &["create", "archive", "compress"]),
    ] {
        let steps = die_at_every_step(operation, before, |place, flushed, what| {
            read_metadata(&place.rollouts.locate(ID, None).expect("found").path).expect("facts");
            opens_with(place, flushed.unwrap_or(2), what);
            assert!(place.rollouts.compress(&place.rollouts.locate(ID, None).expect("found").path).is_ok());
            assert_eq!(transcripts(place.folder.path()).len(), 1, "{what}");
            opens_with(place, flushed.unwrap_or(2) + 1, what);
        });
        assert!(steps >= 5, "{operation}: {steps}");
    }
}

#[test]
fn throwing_away_is_finished_by_doing_it_again() {
    let steps = die_at_every_step("trash", &["create", "archive"], |place, _, what| {
        let lease = place.rollouts.lease(ID, AT_ONCE).expect("the lease");
        place.rollouts.trash(&lease).unwrap_or_else(|error| panic!("{what}: {error}"));
        place.rollouts.empty_trash(ID).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(place.files().is_empty(), "{what}: {:?}", place.files());
    });
    assert!(steps > 5, "{steps}");
}
