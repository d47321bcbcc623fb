//! A backfill ends with an index that is what the files are, whatever happened on the way.

#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod processes;
mod transcripts;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use processes::folder;
use proptest::prelude::*;
use rowhouse::rollout::{read_metadata, walk};
use rowhouse::stores::backfill::{Backfill, BackfillLimits, BackfillReport, BackfillState, Reread};
use rowhouse::stores::{ThreadFacts, ThreadRow};
use rowhouse::{Domain, ErrorKind, Home, Runtime, ThreadQuery};

struct Place {
    root: tempfile::TempDir,
    runtime: Runtime,
    home: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let home = folder();
        let runtime = Runtime::builder(Home::at(home.path())).domain(Domain::state()).open();
        let runtime = runtime.expect("the home opens");
        // What is done by itself is done, so that each commit from here on is a call's.
        let state = runtime.database("state").expect("the database");
        state.wait_for_steps(Duration::from_secs(20)).expect("no steps are left");
        Self { root: folder(), runtime, home }
    }

    fn root(&self) -> &Path {
        self.root.path()
    }

    fn in_batches_of(&self, batch: usize) -> Backfill {
        let mut limits = BackfillLimits::default();
        limits.batch = batch;
        self.runtime.backfill().limits(limits)
    }

    fn run(&self) -> BackfillReport {
        self.in_batches_of(200).run(self.root(), Reread::Changed, &mut |_| {}).expect("a report")
    }

    fn rows(&self) -> Vec<ThreadRow> {
        let query = ThreadQuery::recent().limit(500);
        let mut all = self.runtime.threads().list(&query).expect("live ones").threads;
        all.extend(self.runtime.threads().list(&query.archived(true)).expect("archived ones").threads);
        all
    }

    fn is_partial(&self) -> bool {
        self.runtime.threads().list(&ThreadQuery::recent()).expect("a page").partial
    }

    fn state(&self) -> BackfillState {
        self.runtime.backfill().status().expect("a status")[0].state
    }

    /// Ends a run behind so many batches as a kill does: nothing of it is tidied up.
    fn run_and_die(&self, batch: usize, batches: usize) {
        let mut left = batches;
        let index = self.in_batches_of(batch);
        let died = catch_unwind(AssertUnwindSafe(|| {
            let _ = index.run(self.root(), Reread::Changed, &mut |_| {
                left = left.checked_sub(1).unwrap_or_else(|| std::panic::resume_unwind(Box::new("dead")));
            });
        }));
        drop(died);
    }
}

#[test]
fn lists_are_partial_until_every_file_had_its_turn() {
    let place = Place::new();
    assert!(!place.is_partial(), "nobody was asked to index anything");
    transcripts::write_all(place.root(), 0..30, 0);
    place.run_and_die(10, 1);
    assert!(place.is_partial());
    assert_eq!((place.rows().len(), place.state()), (20, BackfillState::Running));
    let newest = place.rows().into_iter().map(|row| row.id).max();
    assert_eq!(newest, Some(transcripts::id(29)), "newest first");
    place.run();
    assert!(!place.is_partial());
    assert_eq!((place.rows().len(), place.state()), (30, BackfillState::Complete));
}

#[test]
fn a_second_start_reads_nothing_and_writes_nothing() {
    let place = Place::new();
    transcripts::write_all(place.root(), 0..30, 0);
    fs::write(place.root().join("rollout-bad.jsonl"), "no transcript\n").expect("a file");
    let first = place.run();
    assert_eq!((first.counts.imported, first.counts.bad), (30, 1));
    let commits = || place.runtime.stats()["state"].commits;
    let before = commits();
    for _ in 0..3 {
        let report = place.runtime.backfill().start(place.root()).expect("started").join().expect("a report");
        assert_eq!((report.counts.unchanged, report.counts.bad, report.complete), (30, 1, true));
        assert_eq!(report.problems.len(), 1, "what is bad is named each time");
    }
    assert_eq!(commits(), before);
}

#[test]
fn what_was_bad_is_tried_again_also_when_it_looks_the_same() {
    let place = Place::new();
    let path = transcripts::write(place.root(), 1, 0);
    transcripts::set_time(&path, 1_700_000_000);
    let text = fs::read(&path).expect("its text");
    transcripts::poison(&path);
    transcripts::write(place.root(), 2, 0);
    let report = place.run();
    assert_eq!((report.counts.bad, report.counts.imported), (1, 1), "it blocks nobody");
    let status = &place.runtime.backfill().status().expect("a status")[0];
    assert_eq!(status.problems, report.problems);
    assert_eq!(
        (status.problems[0].path.as_path(), status.problems[0].line),
        (path.canonicalize().expect("its path").as_path(), Some(1))
    );
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).expect("it"));
    let before = inode();
    fs::write(&path, text).expect("whole again");
    transcripts::set_time(&path, 1_700_000_000);
    assert_eq!(inode(), before);
    let report = place.run();
    assert_eq!((report.counts.bad, report.counts.imported), (0, 1));
    assert!(place.runtime.backfill().status().expect("a status")[0].problems.is_empty());
}

#[test]
fn a_file_that_says_more_between_its_ends_is_read_whole_later() {
    let place = Place::new();
    let line = |name: &str| {
        format!(
            "{{\"timestamp\":\"2026-01-01T00:00:01.000Z\",\"type\":\"thread_metadata\",\"payload\":{{\"name\":\"{name}\"}}}}\n"
        )
    };
    let long = transcripts::text(1, 400_000);
    let (path, at) = (transcripts::write(place.root(), 1, 0), 200_000);
    let at = at + long[at..].find('\n').expect("a line") + 1;
    fs::write(&path, format!("{}{}{}", &long[..at], line("Ledger"), &long[at..])).expect("a long one");
    // One whose end says it all need not be.
    let snapshot = transcripts::write(place.root(), 2, 0);
    fs::write(snapshot, transcripts::text(2, 400_000) + &line("Books")).expect("a long one");

    let mut rows_when_listed = 0;
    let report = place
        .in_batches_of(200)
        .run(place.root(), Reread::Changed, &mut |progress| {
            if !progress.listed {
                assert!(progress.counts.bytes_read <= 256 << 10);
                rows_when_listed = place.rows().len();
            }
        })
        .expect("a report");
    assert_eq!((rows_when_listed, report.counts.read_whole, report.counts.files), (2, 1, 2));
    let name =
        |number| place.runtime.threads().get(&transcripts::id(number)).expect("it").expect("a row").name;
    assert_eq!((name(1).as_deref(), name(2).as_deref()), (Some("Ledger"), Some("Books")));
    assert_eq!(place.run().counts.bytes_read, 0);
}

#[test]
fn everything_is_read_again_when_that_is_asked_for_and_a_kill_does_not_begin_it_anew() {
    let place = Place::new();
    let bytes = transcripts::write_all(place.root(), 0..30, 0);
    place.run();
    let mut left = 1;
    let index = place.in_batches_of(10);
    let died = catch_unwind(AssertUnwindSafe(|| {
        let _ = index.run(place.root(), Reread::Everything, &mut |_| {
            if left == 0 {
                std::panic::resume_unwind(Box::new("dead"));
            }
            left -= 1;
        });
    }));
    died.expect_err("dead");
    let report = place.run();
    assert_eq!((report.counts.files, report.counts.unchanged), (30, 30));
    let all = place.runtime.backfill().status().expect("a status")[0].progress.counts.bytes_read;
    assert_eq!(all, bytes, "each once more");
    assert!(report.counts.bytes_read < bytes / 2, "the rest of it");
    assert_eq!(place.run().counts.bytes_read, 0);
}

#[test]
fn a_duplicate_whose_name_does_not_tell_is_read_once() {
    let place = Place::new();
    transcripts::write(place.root(), 1, 4_000);
    let copy = place.root().join("rollout-copy.jsonl");
    fs::write(&copy, transcripts::text(1, 0)).expect("a shorter copy");
    let report = place.run();
    assert_eq!((report.counts.imported, report.counts.duplicates), (1, 1));
    let report = place.run();
    assert_eq!((report.counts.duplicates, report.counts.bytes_read), (1, 0));
    fs::remove_file(transcripts::path(place.root(), 1)).expect("removed");
    assert_eq!(place.run().counts.updated, 1, "now it is all there is");
    assert_eq!(
        place.rows()[0].rollout_path,
        copy.canonicalize().expect("its path").to_str().map(str::to_owned)
    );
}

#[test]
fn a_name_that_is_no_utf_8_is_counted_and_named() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let good = transcripts::write(place.root(), 1, 0);
    let name = std::ffi::OsStr::from_bytes(b"rollout-\xff.jsonl");
    let path = good.parent().expect("a folder").join(name);
    // A system that refuses such names has no such transcripts.
    if fs::write(&path, transcripts::text(2, 0)).is_err() {
        return;
    }
    for _ in 0..2 {
        let report = place.run();
        assert_eq!((report.counts.bad, report.problems.len(), place.rows().len()), (1, 1, 1));
        assert_eq!(report.problems[0].path, path.canonicalize().expect("its path"));
    }
}

#[test]
fn a_thread_that_another_program_took_back_from_the_archive_is_live() {
    let place = Place::new();
    let live = transcripts::write(place.root(), 1, 0);
    let archived = place.root().join("archived_sessions").join(live.file_name().expect("a name"));
    fs::create_dir_all(archived.parent().expect("a folder")).expect("folders");
    fs::rename(&live, &archived).expect("moved");
    let said = "{\"timestamp\":\"2026-01-01T00:00:01.000Z\",\"type\":\"thread_metadata\",\"payload\":{\"archived_at\":5000}}\n";
    fs::write(&archived, transcripts::text(1, 0) + said).expect("a user archived it");
    place.run();
    let archived_at =
        || place.runtime.threads().get(&transcripts::id(1)).expect("it").expect("a row").archived_at;
    assert_eq!(archived_at(), Some(5_000));
    fs::rename(&archived, &live).expect("moved back");
    place.run();
    assert_eq!(archived_at(), None);
}

#[test]
fn a_transcript_that_was_moved_or_compressed_is_not_missing() {
    let place = Place::new();
    let live = transcripts::write(place.root(), 1, 0);
    place.run();
    let archive = place.root().join("archived_sessions");
    fs::create_dir_all(&archive).expect("a folder");
    let archived = archive.join(live.file_name().expect("a name"));
    let index = place.runtime.backfill();
    let mut before = live.clone();
    for path in [live.with_extension("jsonl.zst"), archived.clone(), archived.with_extension("jsonl.zst")] {
        // What is in it is told by its name, not here: nothing that is there may be lost.
        fs::rename(&before, &path).expect("moved");
        assert_eq!(index.sweep(place.root()).expect("a sweep").threads, 0, "{}", path.display());
        before = path;
    }
    // Another thread's file in its place is none.
    fs::rename(&before, &archived).expect("moved");
    fs::write(&archived, transcripts::text(2, 0)).expect("another's");
    assert_eq!(index.sweep(place.root()).expect("a sweep").threads, 1);
}

/// Control: the same folder, there and empty, has the row removed.
#[test]
fn a_folder_of_transcripts_that_is_not_there_removes_nothing() {
    let place = Place::new();
    transcripts::write(place.root(), 1, 0);
    place.run();
    let (sessions, away) = (place.root().join("sessions"), place.root().join("away"));
    fs::rename(&sessions, &away).expect("unmounted");
    let index = place.runtime.backfill();
    let error = index.sweep(place.root()).expect_err("nobody knows what is in it");
    assert_eq!((error.kind(), place.rows().len()), (rowhouse::ErrorKind::NotFound, 1), "{error}");
    fs::create_dir(&sessions).expect("an empty folder");
    assert_eq!(index.sweep(place.root()).expect("a sweep").threads, 1);
}

#[cfg(feature = "zstd")]
#[test]
fn a_compressed_copy_beside_the_plain_one_is_not_read() {
    let place = Place::new();
    let plain = transcripts::write(place.root(), 1, 2_000);
    let copy = plain.with_extension("jsonl.zst");
    let text = fs::read(&plain).expect("text");
    fs::write(&copy, zstd::encode_all(&text[..], 1).expect("compressed")).expect("written");
    let row_path = || place.rows()[0].rollout_path.clone().map(PathBuf::from);
    let real = |path: &Path| Some(path.parent()?.canonicalize().expect("its folder").join(path.file_name()?));
    place.run();
    assert_eq!(row_path(), real(&plain));
    fs::remove_file(&plain).expect("removed");
    assert_eq!(place.run().missing, 0);
    assert_eq!(row_path(), real(&copy));
    fs::write(&plain, &text).expect("decompressed");
    place.run();
    assert_eq!(row_path(), real(&plain));
    assert_eq!(place.run().counts.bytes_read, 0);
}

/// A copied home brings rows with the paths of the one it was copied from.
#[test]
fn a_copied_home_lists_its_own_files() {
    let place = Place::new();
    let original = transcripts::write(place.root(), 1, 0);
    place.run();
    let home = place.home.path();
    let own = transcripts::write(home, 1, 0);
    let run = || place.in_batches_of(200).run(home, Reread::Changed, &mut |_| {}).expect("a report");
    assert_eq!(run().counts.updated, 1);
    let path = || place.rows()[0].rollout_path.clone().map(PathBuf::from);
    assert_eq!(path(), Some(own.canonicalize().expect("its path")));
    // Neither takes it from the other from then on.
    for report in [run(), place.run(), run()] {
        assert_eq!((report.counts.updated, report.counts.bytes_read), (0, 0));
    }
    // A longer one counts wherever it lies.
    fs::write(&original, transcripts::text(1, 2_000)).expect("longer");
    place.run();
    run();
    assert_eq!(path(), Some(original.canonicalize().expect("its path")));
}

#[test]
fn a_sweep_takes_what_belongs_to_a_thread_and_nothing_else() {
    let place = Place::new();
    transcripts::write_all(place.root(), 0..3, 0);
    place.run();
    let no_file = ThreadFacts { id: transcripts::id(7), ..ThreadFacts::default() };
    let elsewhere = ThreadFacts {
        id: transcripts::id(8),
        rollout_path: Some("/nowhere/x.jsonl".into()),
        ..ThreadFacts::default()
    };
    place.runtime.threads().upsert(&[no_file, elsewhere]).expect("two more");
    let edges = place.runtime.spawn_edges();
    edges.add(&transcripts::id(0), &transcripts::id(1)).expect("an edge");
    fs::remove_file(transcripts::path(place.root(), 1)).expect("removed");
    let report = place.run();
    assert_eq!((report.missing, report.missing_files[0].thread_id.clone()), (1, transcripts::id(1)));
    assert_eq!(place.rows().len(), 5, "a report removes nothing");
    let swept = place.runtime.backfill().sweep(place.root()).expect("a sweep");
    assert_eq!((swept.threads, swept.removed), (1, report.missing_files));
    assert_eq!((place.rows().len(), edges.parent(&transcripts::id(1)).expect("a look")), (4, None));
    let gone = place.root().join("sessions/gone");
    assert_eq!(place.runtime.backfill().sweep(&gone).expect_err("no folder").kind(), ErrorKind::NotFound);
}

#[test]
fn a_handle_stops_its_run_and_the_next_one_goes_on() {
    let place = Place::new();
    transcripts::write_all(place.root(), 0..400, 0);
    let handle = place.in_batches_of(1).start(place.root()).expect("started");
    while handle.progress().counts.files == 0 {
        assert!(!handle.wait(Duration::from_millis(1)), "400 batches take a while");
    }
    handle.stop();
    let report = handle.join().expect("a report");
    assert!(!report.complete && report.counts.imported < 400, "{report:?}");
    assert_eq!(place.state(), BackfillState::Pending);
    drop(place.in_batches_of(1).start(place.root()).expect("started"));
    assert_eq!(place.state(), BackfillState::Pending);
    let rest = place.run();
    assert!(rest.complete && rest.taken_over_from.is_none(), "they left word");
    assert_eq!(place.rows().len(), 400);
    let read = place.runtime.backfill().status().expect("a status")[0].progress.counts;
    assert_eq!((read.imported, read.files >= 400), (400, true));
}

#[test]
fn one_at_a_time_also_in_one_process_and_in_memory() {
    let root = folder();
    transcripts::write_all(root.path(), 0..3, 0);
    for runtime in [
        Place::new().runtime,
        Runtime::builder(Home::at("/nowhere")).domain(Domain::state()).ephemeral().open().expect("in memory"),
    ] {
        let other = runtime.clone();
        let mut heard = 0;
        let report = runtime.backfill().run(root.path(), Reread::Changed, &mut |progress| {
            if progress.listed {
                return;
            }
            heard += 1;
            let error = other.backfill().run(root.path(), Reread::Changed, &mut |_| {}).expect_err("taken");
            assert_eq!(error.kind(), ErrorKind::Busy);
        });
        assert_eq!((report.expect("a report").counts.imported, heard), (3, 1));
    }
}

#[test]
fn what_is_no_folder_is_refused_before_anything_is_written() {
    let place = Place::new();
    let file = transcripts::write(place.root(), 1, 0);
    for (root, kind) in [(place.root().join("none"), ErrorKind::NotFound), (file, ErrorKind::Invalid)] {
        let index = place.runtime.backfill();
        assert_eq!(index.run(&root, Reread::Changed, &mut |_| {}).expect_err("refused").kind(), kind);
        assert_eq!(index.start(&root).expect_err("refused").kind(), kind);
    }
    assert!(place.runtime.backfill().status().expect("a status").is_empty());
}

#[test]
fn closing_the_home_ends_a_backfill() {
    let place = Place::new();
    transcripts::write_all(place.root(), 0..400, 0);
    let handle = place.in_batches_of(1).start(place.root()).expect("started");
    place.runtime.close(Duration::from_secs(5));
    assert_eq!(handle.join().expect_err("closed").kind(), ErrorKind::Closed);
}

/// Something that happens to files, or to whoever indexes them.
#[derive(Clone, Debug)]
enum Event {
    Write(usize),
    Grow(usize),
    Shrink(usize),
    Archive(usize),
    Unarchive(usize),
    Copy(usize, usize),
    Become(usize, usize),
    Spoil(usize),
    Remove(usize),
    Run,
    /// A batch of so many, and so many of them before the kill.
    Die(usize, usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let number = || 0..12_usize;
    prop::collection::vec(
        prop_oneof![
            4 => number().prop_map(Event::Write),
            2 => number().prop_map(Event::Grow),
            1 => number().prop_map(Event::Shrink),
            1 => number().prop_map(Event::Archive),
            1 => number().prop_map(Event::Unarchive),
            1 => (number(), 0..3_000_usize).prop_map(|(number, bytes)| Event::Copy(number, bytes)),
            1 => (number(), number()).prop_map(|(number, other)| Event::Become(number, other)),
            1 => number().prop_map(Event::Spoil),
            2 => number().prop_map(Event::Remove),
            1 => Just(Event::Run),
            4 => (1..4_usize, 0..5_usize).prop_map(|(batch, batches)| Event::Die(batch, batches)),
        ],
        1..40,
    )
}

/// Files as the events make them; each change has a time of its own, as changes of people have.
struct Files<'p> {
    place: &'p Place,
    time: u64,
}

impl Files<'_> {
    fn live(&self, number: usize) -> PathBuf {
        transcripts::path(self.place.root(), number)
    }

    fn archived(&self, number: usize) -> PathBuf {
        let live = self.live(number);
        self.place.root().join("archived_sessions").join(live.file_name().expect("a name"))
    }

    fn put(&mut self, path: &Path, text: &str) {
        self.time += 1;
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, text).expect("a file");
        transcripts::set_time(path, self.time);
    }

    fn apply(&mut self, event: &Event) {
        match *event {
            Event::Write(number) => {
                self.put(&self.live(number), &transcripts::text(number, number % 3 * 1_000));
            }
            Event::Grow(number) => {
                let bytes = fs::metadata(self.live(number)).map_or(0, |found| found.len() as usize);
                self.put(&self.live(number), &transcripts::text(number, bytes + 1));
            }
            Event::Shrink(number) => self.put(&self.live(number), &transcripts::text(number, 0)),
            Event::Archive(number) => Self::rename(&self.live(number), &self.archived(number)),
            Event::Unarchive(number) => Self::rename(&self.archived(number), &self.live(number)),
            Event::Copy(number, bytes) => {
                let copy = self.place.root().join(format!("rollout-copy-{number}.jsonl"));
                self.put(&copy, &transcripts::text(number, bytes));
            }
            Event::Become(number, other) => {
                let copy = self.place.root().join(format!("rollout-copy-{number}.jsonl"));
                self.put(&copy, &transcripts::text(other, 0));
            }
            Event::Spoil(number) => {
                let bad = self.place.root().join(format!("rollout-bad-{number}.jsonl"));
                self.put(&bad, "no transcript\n");
            }
            Event::Remove(number) => drop(fs::remove_file(self.live(number))),
            Event::Run => drop(self.place.run()),
            Event::Die(batch, batches) => self.place.run_and_die(batch, batches),
        }
    }

    fn rename(from: &Path, to: &Path) {
        fs::create_dir_all(to.parent().expect("a folder")).expect("folders");
        // There may be none.
        let _ = fs::rename(from, to);
    }

    /// For each thread its longest files.
    fn longest(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut found: BTreeMap<String, (u64, BTreeSet<String>)> = BTreeMap::new();
        for file in walk(self.place.root()).expect("a walk") {
            let path = file.expect("a file").path;
            let Ok(facts) = read_metadata(&path) else { continue };
            let size = fs::metadata(&path).expect("it").len();
            let text = path.to_str().expect("UTF-8").to_owned();
            let best = found.entry(facts.thread.id).or_default();
            if size > best.0 {
                *best = (size, BTreeSet::new());
            }
            if size == best.0 {
                best.1.insert(text);
            }
        }
        found.into_iter().map(|(id, (_, paths))| (id, paths)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// Files are written, grow, shrink, move, are copied, become another thread's, are spoilt and removed, while runs come
    /// to their end or are killed behind any batch. After one more run each file's thread is listed from the longest of its
    /// files, and nothing is left to read; what is reported missing is every other row; swept, rows and files are equal.
    #[test]
    fn any_interleaving_of_kills_and_changes_ends_with_the_index_that_the_files_are(events in events()) {
        let place = Place::new();
        let mut files = Files { place: &place, time: 1_700_000_000 };
        for event in &events {
            files.apply(event);
        }
        let report = place.run();
        let expected = files.longest();
        let rows: BTreeMap<_, _> = place.rows().into_iter().map(|row| (row.id.clone(), row)).collect();
        for (id, paths) in &expected {
            let row = rows.get(id);
            let path = row.and_then(|row| row.rollout_path.clone()).unwrap_or_default();
            prop_assert!(paths.contains(&path), "{id}: {path} is none of {paths:?}");
            let number = (0..12).find(|number| transcripts::id(*number) == *id).expect("one of ours");
            prop_assert_eq!(row.and_then(|row| row.title.clone()), Some(transcripts::title(number)));
            let archived = row.is_some_and(|row| row.archived_at.is_some());
            prop_assert_eq!(archived, path.contains("archived_sessions"));
        }
        prop_assert_eq!(report.missing as usize, rows.len() - expected.len());
        prop_assert!(report.complete && !place.is_partial());
        let again = place.run();
        prop_assert_eq!((again.counts.imported, again.counts.updated), (0, 0));
        prop_assert_eq!(again.counts.bytes_read, 14 * again.counts.bad, "only what is bad is read again");
        place.runtime.backfill().sweep(place.root()).expect("a sweep");
        let left: BTreeSet<_> = place.rows().into_iter().map(|row| row.id).collect();
        prop_assert_eq!(left, expected.into_keys().collect::<BTreeSet<_>>());
    }
}

/// `ROWHOUSE_TEST_ROUNDS` for more.
fn cases() -> u32 {
    processes::rounds(16) as u32
}
