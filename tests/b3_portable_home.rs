//! A home goes to another machine as one file, and into one that has threads already.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![cfg(feature = "agent")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use rowhouse::portable::{ExportReport, ImportOptions, ImportReport};
use rowhouse::rollout::{Item, NewRollout, Reader, walk};
use rowhouse::stores::goals::{Accounting, Goal, NewGoal};
use rowhouse::stores::memories::{MemoryLimits, NewMemory};
use rowhouse::stores::spawn_edges::SpawnStatus;
use rowhouse::stores::threads::{Change, GitFacts, MemoryMode, ThreadFacts, ThreadPatch, UserField, UserSet};
use rowhouse::thread_store::{LocalThreadStore, ThreadStore};
use rowhouse::{Domain, ErrorKind, Home, Runtime, ThreadQuery};
use serde_json::json;

/// 2026-01-02T03:04:05Z
const STARTED: i64 = 1_767_323_045_000;
const NO_FILE: &str = "019b7e00-0000-7000-8000-0000000000ff";
const UNKNOWN: &str = "019b7e00-0000-7000-8000-0000000000ee";

struct Machine {
    store: LocalThreadStore,
    runtime: Runtime,
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = Runtime::builder(Home::at(folder.path().join("home")))
            .domain(Domain::state())
            .domain(Domain::goals())
            .open()
            .expect("a runtime");
        Self { store: LocalThreadStore::new(&runtime).expect("a store"), runtime, folder }
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home").canonicalize().expect("the home")
    }

    fn thread(&self, n: usize, items: usize) -> String {
        let id = id(n);
        let new = NewRollout {
            id: Some(id.clone()),
            started_at: Some(STARTED + n as i64 * 1000),
            cwd: Some("/home/ada/ledger".to_owned()),
            ..NewRollout::default()
        };
        self.store.create(&new).expect("created");
        self.say(&id, 0, items);
        self.store.shutdown(&id).expect("shut down");
        id
    }

    fn say(&self, id: &str, from: usize, to: usize) {
        for n in from..to {
            let payload = json!({"type": "user_message", "message": format!("message {n} of {id}")});
            let item = Item::at(STARTED + 60_000 + n as i64, "event_msg", &payload).expect("an item");
            self.store.append_items(id, &[item]).expect("appended");
        }
    }

    fn go_on(&self, id: &str, from: usize, to: usize) {
        self.store.resume(id).expect("resumed");
        self.say(id, from, to);
        self.store.shutdown(id).expect("shut down");
    }

    fn export(&self, name: &str) -> (PathBuf, ExportReport) {
        let file = self.folder.path().join(name);
        let report = self.runtime.export_home(&file, &mut |_| {}).expect("exported");
        (file, report)
    }

    fn import(&self, file: &Path) -> ImportReport {
        self.runtime.import_home(file, &ImportOptions::default(), &mut |_| {}).expect("imported")
    }

    fn path(&self, id: &str) -> PathBuf {
        self.store.rollouts().locate(id, None).expect("a transcript").path
    }

    /// The rows of all threads, with the place of each transcript in the home.
    fn list(&self) -> BTreeMap<String, String> {
        let query = ThreadQuery::recent().limit(500);
        let mut all = self.store.list(&query).expect("a list").threads;
        all.extend(self.store.list(&query.archived(true)).expect("a list").threads);
        let shown = all.into_iter().map(|mut row| {
            let found = row.rollout_path.take().map(|_| self.path(&row.id));
            row.rollout_path =
                found.map(|path| path.strip_prefix(self.home()).expect("below").display().to_string());
            (row.id.clone(), serde_json::to_string(&row).expect("JSON"))
        });
        shown.collect()
    }

    /// Every transcript, by its place in the home.
    fn transcripts(&self) -> BTreeMap<PathBuf, String> {
        let found = walk(&self.home()).expect("a walk").map(|file| file.expect("a file").path);
        found
            .map(|path| {
                let bytes = digest(&path);
                (path.strip_prefix(self.home()).expect("below").to_owned(), bytes)
            })
            .collect()
    }

    /// Everything below the home but locks and databases.
    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = all_files(&self.home());
        files.retain(|file| {
            let name = file.file_name().expect("a name").to_string_lossy();
            !file.starts_with(self.home().join("locks"))
                && !name.contains(".sqlite")
                && name != "registry.json"
        });
        files
    }
}

/// The length and a hash of a file.
fn digest(path: &Path) -> String {
    use std::hash::{DefaultHasher, Hasher};
    let bytes = fs::read(path).expect("it reads");
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    format!("{} bytes, {:x}", bytes.len(), hasher.finish())
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> =
        entries.flat_map(|path| if path.is_dir() { all_files(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

fn id(n: usize) -> String {
    format!("019b7e00-0000-7000-8000-{n:012}")
}

/// A home with something of everything.
fn full() -> Machine {
    let machine = Machine::new();
    let threads: Vec<_> = (1..=5).map(|n| machine.thread(n, 3)).collect();
    let name = |name: &str| ThreadPatch { name: Change::Set(name.to_owned()), ..ThreadPatch::default() };
    machine.store.update_metadata(&threads[0], &name("Ledger")).expect("named");
    machine
        .store
        .update_metadata(&threads[1], &ThreadPatch { is_pinned: Some(true), ..ThreadPatch::default() })
        .expect("pinned");
    machine.store.archive(&threads[2]).expect("archived");
    machine.store.archive(&threads[3]).expect("archived");
    #[cfg(feature = "zstd")]
    {
        machine.store.rollouts().compress(&machine.path(&threads[3])).expect("compressed");
        machine.store.rebuild(&threads[3]).expect("a row");
    }
    // What only the databases hold.
    machine.runtime.threads().patch(&threads[4], &name("Only in the row")).expect("named");
    machine
        .runtime
        .threads()
        .upsert(&[ThreadFacts {
            id: NO_FILE.to_owned(),
            created_at: 1,
            updated_at: 2,
            recency_at: 3,
            title: Some("No file".to_owned()),
            git: GitFacts { branch: Some("main".to_owned()), ..GitFacts::default() },
            user_set: UserSet::default().with(UserField::Git),
            memory_mode: Some(MemoryMode::Disabled),
            ..ThreadFacts::default()
        }])
        .expect("a row");
    let goals = machine.runtime.goals();
    goals.replace(&threads[0], &NewGoal::new("Make it green").token_budget(9_000)).expect("a goal");
    goals.account(&threads[0], 60, 5_000, Accounting::ActiveOnly, None).expect("accounted");
    goals.replace(UNKNOWN, &NewGoal::new("Of a thread without a row")).expect("a goal");
    let edges = machine.runtime.spawn_edges();
    edges.add(&threads[0], &threads[1]).expect("an edge");
    edges.set_status(&threads[1], SpawnStatus::Closed, false).expect("closed");
    edges.add(&threads[0], UNKNOWN).expect("an edge");
    let memories = machine.runtime.memories().limits({
        let mut limits = MemoryLimits::default();
        limits.idle = std::time::Duration::ZERO;
        limits.age = std::time::Duration::from_hours(1_000_000);
        limits
    });
    let claims = memories.claim_extracts(1, None).expect("claims");
    let memory = NewMemory {
        raw_memory: "raw".to_owned(),
        rollout_summary: "summary".to_owned(),
        rollout_slug: Some("slug".to_owned()),
    };
    assert!(memories.extracted(&claims[0], &memory).expect("marked"));
    machine
}

fn goals(machine: &Machine) -> Vec<Option<Goal>> {
    [id(1), UNKNOWN.to_owned()].iter().map(|id| machine.runtime.goals().get(id).expect("read")).collect()
}

/// A home is one file on another machine with other paths: the same ids, titles, names, pins, archive, goals, memories,
/// edges, and every transcript byte for byte; imported twice it changes nothing.
///
/// Scale: 7 threads; `rowhouse bench` has larger homes.
/// Control: the databases and transcripts copied as they are, which is what people do, show threads whose files are not
/// where they say.
#[test]
fn b3_a_home_is_the_same_on_another_machine_and_twice_is_once() {
    let here = full();
    let (file, exported) = here.export("home.rowhouse");
    assert_eq!(
        (exported.counts.rows, exported.counts.transcripts, exported.left_out),
        (6, 5, 0),
        "{exported:?}"
    );
    assert_eq!((exported.counts.goals, exported.counts.memories, exported.counts.edges), (2, 1, 2));
    let (list, transcripts, wanted) = (here.list(), here.transcripts(), goals(&here));
    let memory = here.runtime.memories().status().expect("a status");
    assert_eq!(memory.outputs, 1);

    let there = Machine::new();
    let first = there.import(&file);
    assert_eq!((first.left, &first.problems), (0, &Vec::new()));
    assert_eq!(first.counts, exported.counts);
    assert_eq!(there.list(), list);
    assert_eq!(there.transcripts(), transcripts);
    assert_eq!(goals(&there), wanted);
    let edge = there.runtime.spawn_edges().parent(&id(2)).expect("read").expect("an edge");
    assert_eq!((edge.parent_id, edge.status), (id(1), SpawnStatus::Closed));
    assert!(there.runtime.spawn_edges().parent(UNKNOWN).expect("read").is_some());
    assert_eq!(there.runtime.memories().status().expect("a status").done, 1, "it is not drawn again");

    let files = there.files();
    let again = there.import(&file);
    assert_eq!((again.new, again.updated, again.left), (0, 0, 0), "{again:?}");
    assert_eq!((there.list(), there.transcripts(), goals(&there)), (list, transcripts.clone(), wanted));
    assert_eq!(there.files(), files, "nothing is there twice");
    // Where nothing but the transcripts is left, they find everything again that a user said.
    assert!(
        there
            .runtime
            .backfill()
            .run(&there.home(), rowhouse::stores::backfill::Reread::Everything, &mut |_| {})
            .is_ok()
    );
    assert_eq!(there.transcripts(), transcripts);

    // What comes of a home's files where its paths do not exist.
    let copied = Machine::new();
    let rows = here.runtime.threads();
    let facts: Vec<_> = (1..=5)
        .map(|n| rows.get(&id(n)).expect("read").expect("a row"))
        .map(|row| ThreadFacts {
            id: row.id,
            rollout_path: row.rollout_path,
            title: row.title,
            ..ThreadFacts::default()
        })
        .collect();
    copied.runtime.threads().upsert(&facts).expect("rows");
    drop(here);
    let nowhere = (1..=5).filter(|n| copied.store.load_history(&id(*n)).is_err()).count();
    assert_eq!(nowhere, 5, "copied rows lead nowhere");
    assert_eq!((1..=5).filter(|n| there.store.load_history(&id(*n)).is_err()).count(), 0);
}

#[test]
fn what_went_on_comes_in_and_what_went_on_in_both_places_is_named() {
    let here = full();
    let (file, _) = here.export("first.rowhouse");
    let there = Machine::new();
    there.import(&file);
    // 1 goes on here, 2 there, 5 in both places.
    here.go_on(&id(1), 3, 5);
    let named = ThreadPatch { name: Change::Set("Books".to_owned()), ..ThreadPatch::default() };
    here.store.update_metadata(&id(1), &named).expect("named");
    there.go_on(&id(2), 3, 6);
    here.go_on(&id(5), 3, 4);
    let other = json!({"type": "user_message", "message": "another way"});
    there.store.resume(&id(5)).expect("resumed");
    there.store.append_items(&id(5), &[Item::new("event_msg", &other).expect("an item")]).expect("appended");
    there.store.shutdown(&id(5)).expect("shut down");
    let of = |machine: &Machine, n| digest(&machine.path(&id(n)));
    let kept = (of(&there, 2), of(&there, 5));

    let (file, _) = here.export("second.rowhouse");
    let planned =
        there.runtime.import_home(&file, &ImportOptions::dry_run(), &mut |_| {}).expect("looked at");
    let before = (there.list(), there.transcripts(), there.files());
    assert_eq!((planned.new, planned.updated, planned.left), (0, 1, 1), "{planned:?}");
    assert_eq!((there.list(), there.transcripts(), there.files()), before);
    let done = there.import(&file);
    assert_eq!((done.new, done.updated, done.left), (0, 1, 1), "{done:?}");
    assert_eq!(done.problems[0].thread.as_deref(), Some(id(5).as_str()));
    assert_eq!(of(&there, 1), of(&here, 1));
    assert_eq!(there.store.read(&id(1)).expect("a row").name.as_deref(), Some("Books"));
    assert_eq!((of(&there, 2), of(&there, 5)), kept, "what is here stays");

    // And back: each home gets what it lacks.
    let (file, _) = there.export("back.rowhouse");
    let back = here.import(&file);
    assert_eq!((back.updated, back.left), (1, 1), "{back:?}");
    assert_eq!(of(&here, 2), of(&there, 2));
}

#[test]
fn a_thread_that_was_archived_there_is_archived_here() {
    let here = Machine::new();
    here.thread(1, 3);
    here.thread(2, 3);
    let there = Machine::new();
    there.import(&here.export("live.rowhouse").0);
    here.store.archive(&id(1)).expect("archived");
    #[cfg(feature = "zstd")]
    {
        here.store.archive(&id(2)).expect("archived");
        here.store.rollouts().compress(&here.path(&id(2))).expect("compressed");
    }
    there.import(&here.export("archived.rowhouse").0);
    assert_eq!(there.list(), here.list());
    assert_eq!(there.transcripts(), here.transcripts(), "one copy of each is left");
}

/// What may not be remembered there may not be remembered here, whatever the transcript says of how it began; and an older
/// export does not take back what was forbidden here.
#[test]
fn what_memories_may_not_be_drawn_from_stays_so() {
    let here = Machine::new();
    (1..=3).for_each(|n| drop(here.thread(n, 2)));
    let there = Machine::new();
    let set = |machine: &Machine, n, mode| {
        let patch = ThreadPatch { memory_mode: Some(mode), ..ThreadPatch::default() };
        machine.runtime.threads().patch(&id(n), &patch).expect("set in the row");
    };
    let mode = |machine: &Machine, n| {
        machine.runtime.threads().get(&id(n)).expect("read").expect("a row").memory_mode
    };
    set(&here, 1, MemoryMode::Polluted);
    let (open, _) = here.export("open.rowhouse");
    there.import(&open);
    assert_eq!((mode(&there, 1), mode(&there, 2)), (MemoryMode::Polluted, MemoryMode::Enabled));
    set(&here, 2, MemoryMode::Disabled);
    set(&there, 3, MemoryMode::Disabled);
    here.go_on(&id(2), 2, 3);
    here.go_on(&id(3), 2, 3);
    let done = there.import(&here.export("closed.rowhouse").0);
    assert_eq!((done.updated, done.left), (2, 0), "{done:?}");
    assert_eq!((mode(&there, 2), mode(&there, 3)), (MemoryMode::Disabled, MemoryMode::Disabled));
    there.import(&open);
    assert_eq!([1, 2, 3].map(|n| mode(&there, n) == MemoryMode::Enabled), [false; 3]);
}

#[test]
fn a_thread_that_is_written_is_left_and_comes_the_next_time() {
    let here = full();
    let (file, _) = here.export("home.rowhouse");
    let there = Machine::new();
    let new = NewRollout { id: Some(id(1)), ..NewRollout::default() };
    there.store.create(&new).expect("created");
    there.store.persist(&id(1)).expect("it is there");
    let done = there.import(&file);
    assert_eq!(done.left, 1, "{done:?}");
    assert!(done.problems[0].reason.contains("another process writes"), "{done:?}");
    there.store.shutdown(&id(1)).expect("shut down");
    fs::remove_file(there.path(&id(1))).expect("removed");
    let done = there.import(&file);
    assert_eq!((done.left, done.updated), (0, 1), "{done:?}");
    assert_eq!(there.transcripts(), here.transcripts());
}

/// A transcript that lies outside the home, and is only read there, is compared with what comes, and stays as it is.
#[test]
fn a_transcript_outside_the_home_is_compared_and_never_changed() {
    let here = Machine::new();
    (1..=2).for_each(|n| drop(here.thread(n, 3)));
    let there = Machine::new();
    let outside = there.folder.path().join("outside");
    fs::create_dir(&outside).expect("a folder");
    let copies = [1, 2].map(|n| {
        let from = here.path(&id(n));
        let to = outside.join(from.file_name().expect("a name"));
        fs::copy(&from, &to).expect("copied");
        to
    });
    let backfill = there.runtime.backfill();
    backfill.run(&outside, rowhouse::stores::backfill::Reread::Changed, &mut |_| {}).expect("indexed");
    drop(backfill);
    let (file, _) = here.export("same.rowhouse");
    let same = there.import(&file);
    assert_eq!((same.new, same.updated, same.unchanged, same.left), (0, 0, 2, 0), "{same:?}");
    assert!(there.transcripts().is_empty(), "it is not here twice");
    // 1 goes on there, 2 in both places.
    (1..=2).for_each(|n| here.go_on(&id(n), 3, 4));
    let mut other = fs::OpenOptions::new().append(true).open(&copies[1]).expect("opens");
    let item = Item::new("event_msg", &json!({"type": "user_message", "message": "another way"}));
    writeln!(other, "{}", item.expect("an item").text()).expect("another way");
    drop(other);
    let before = copies.each_ref().map(|path| digest(path));
    let done = there.import(&here.export("on.rowhouse").0);
    assert_eq!((done.new, done.updated, done.left), (0, 1, 1), "{done:?}");
    assert_eq!(done.problems[0].thread.as_deref(), Some(id(2).as_str()), "{done:?}");
    assert_eq!(copies.each_ref().map(|path| digest(path)), before);
    assert_eq!(there.transcripts().len(), 1);
    assert!(there.path(&id(1)).starts_with(there.home()));
}

/// What is no file of ours where a transcript should be is in the way of that thread alone.
#[test]
fn an_odd_file_in_the_place_of_a_transcript_leaves_that_thread() {
    let here = Machine::new();
    (1..=3).for_each(|n| drop(here.thread(n, 3)));
    let (file, _) = here.export("home.rowhouse");
    let there = Machine::new();
    let place = |n| there.home().join(here.path(&id(n)).strip_prefix(here.home()).expect("below"));
    fs::create_dir_all(place(1)).expect("a folder in its place");
    std::os::unix::fs::symlink(here.path(&id(2)), place(2)).expect("a link in its place");
    let wanted = digest(&here.path(&id(2)));
    for options in [ImportOptions::dry_run(), ImportOptions::default()] {
        let done = there.runtime.import_home(&file, &options, &mut |_| {}).expect("goes on");
        assert_eq!((done.new, done.left), (1, 2), "{done:?}");
        let named: Vec<_> = done.problems.iter().map(|problem| problem.thread.clone()).collect();
        assert_eq!(named, [Some(id(1)), Some(id(2))]);
    }
    assert!(place(1).is_dir() && place(2).is_symlink());
    assert_eq!(digest(&here.path(&id(2))), wanted);
    assert_eq!(digest(&place(3)), digest(&here.path(&id(3))));
}

/// A transcript under another thread's name comes with a name of its own.
#[test]
fn a_transcript_with_another_threads_name_gets_its_own() {
    let here = Machine::new();
    here.thread(1, 3);
    let path = here.path(&id(1));
    let lies = path.to_str().expect("UTF-8").replace(&id(1), &id(9));
    fs::rename(&path, &lies).expect("renamed");
    let backfill = here.runtime.backfill();
    backfill.run(&here.home(), rowhouse::stores::backfill::Reread::Everything, &mut |_| {}).expect("indexed");
    drop(backfill);
    let there = Machine::new();
    let done = there.import(&here.export("home.rowhouse").0);
    assert_eq!((done.new, done.left), (1, 0), "{done:?}");
    assert_eq!(digest(&there.path(&id(1))), digest(Path::new(&lies)));
    assert!(there.path(&id(1)).to_str().expect("UTF-8").contains(&id(1)));
}

/// A row that comes while an export runs, before the place where it is, takes nothing out of the export.
#[test]
fn an_export_beside_an_import_holds_every_thread() {
    let (here, other) = (full(), Machine::new());
    // Without a row yet: a transcript, and a goal.
    let first = id(0);
    other.thread(0, 3);
    let to = here.home().join("sessions/2026/01/02");
    let from = other.path(&first);
    fs::copy(&from, to.join(from.file_name().expect("a name"))).expect("copied");
    let second = "019b7dff-0000-7000-8000-000000000001";
    here.runtime.goals().replace(second, &NewGoal::new("Without a row")).expect("a goal");
    let file = here.folder.path().join("beside.rowhouse");
    let mut began = false;
    let report = here.runtime.export_home(&file, &mut |_| {
        if !std::mem::replace(&mut began, true) {
            let backfill = here.runtime.backfill();
            backfill
                .run(&here.home(), rowhouse::stores::backfill::Reread::Changed, &mut |_| {})
                .expect("a row");
            let facts = ThreadFacts { id: second.to_owned(), ..ThreadFacts::default() };
            here.runtime.threads().upsert(&[facts]).expect("a row");
        }
    });
    let report = report.expect("exported");
    assert_eq!((report.counts.rows, report.counts.transcripts, report.counts.goals), (8, 6, 3), "{report:?}");
    let there = Machine::new();
    assert_eq!(there.import(&file).left, 0);
    assert_eq!(there.list(), here.list());
    assert_eq!(there.transcripts(), here.transcripts());
    assert!(there.runtime.goals().get(second).expect("read").is_some());
}

/// While a program goes on writing, an export ends each transcript between two lines.
#[test]
fn an_export_beside_a_writer_has_whole_lines() {
    let here = full();
    here.store.resume(&id(1)).expect("resumed");
    here.say(&id(1), 3, 4);
    let mut torn = fs::OpenOptions::new().append(true).open(here.path(&id(1))).expect("opens");
    torn.write_all(b"{\"timestamp\":\"2026").expect("half a line");
    let there = Machine::new();
    there.import(&here.export("home.rowhouse").0);
    let mut reader = Reader::open(&there.path(&id(1))).expect("opens");
    let mut lines = 0;
    while reader.next().expect("reads").is_some() {
        lines += 1;
    }
    assert!(lines >= 5, "{lines}");
    assert_eq!((reader.bad_lines(), reader.torn_bytes()), (0, 0));
    drop(torn);
    let _ = here.store.discard(&id(1));
}

/// Every transcript of the examples, and those of the folder that `ROWHOUSE_TRANSCRIPTS` names, goes through an export byte
/// for byte, also from a home that is moved, where no row is, or where the first line is damaged.
#[test]
fn transcripts_of_any_kind_arrive_byte_for_byte() {
    let here = Machine::new();
    let mut samples = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/transcripts")];
    samples.extend(std::env::var_os("ROWHOUSE_TRANSCRIPTS").map(PathBuf::from));
    let mut count = 0;
    for sample in samples {
        for found in walk(&sample).expect("a walk") {
            let found = found.expect("a file");
            let folder = if found.archived { "archived_sessions" } else { "sessions/2026/01/02" };
            let to = here.home().join(folder);
            fs::create_dir_all(&to).expect("a folder");
            fs::copy(&found.path, to.join(found.path.file_name().expect("a name"))).expect("copied");
            count += 1;
        }
    }
    let damaged =
        here.home().join("archived_sessions").join(format!("rollout-2026-01-02T03-04-05-{}.jsonl", id(9)));
    fs::write(&damaged, "{not JSON}\n{\"type\":\"later\",\"payload\":1}\n").expect("written");
    let by_name = |machine: &Machine| -> BTreeMap<_, _> {
        let all = machine.transcripts().into_iter();
        all.map(|(path, bytes)| (path.file_name().expect("a name").to_owned(), bytes)).collect()
    };
    let (without_rows, report) = here.export("without.rowhouse");
    assert_eq!((report.counts.rows, report.counts.transcripts), (0, count + 1), "{report:?}");
    let there = Machine::new();
    assert_eq!(there.import(&without_rows).left, 0);
    assert_eq!(by_name(&there), by_name(&here));
    assert_eq!(there.list().len() as u64, count);
    assert_eq!(there.import(&without_rows).new, 0);

    // With rows, which name a folder that is not there any more.
    let backfill = here.runtime.backfill();
    backfill.run(&here.home(), rowhouse::stores::backfill::Reread::Changed, &mut |_| {}).expect("indexed");
    drop((backfill, here.store, here.runtime));
    let moved = here.folder.path().join("moved");
    fs::rename(here.folder.path().join("home"), &moved).expect("moved");
    let runtime = Runtime::builder(Home::at(&moved)).domain(Domain::state()).open().expect("a runtime");
    let file = here.folder.path().join("with.rowhouse");
    let report = runtime.export_home(&file, &mut |_| {}).expect("exported");
    assert_eq!((report.counts.rows, report.counts.transcripts), (count, count + 1), "{report:?}");
    let other = Machine::new();
    assert_eq!(other.import(&file).left, 0);
    assert_eq!(by_name(&other), by_name(&there));
}

#[cfg(feature = "zstd")]
#[test]
fn a_compressed_export_is_the_same() {
    let here = full();
    let (plain, compressed) = (here.export("home.rowhouse"), here.export("home.rowhouse.zst"));
    assert!(compressed.1.bytes < plain.1.bytes);
    let there = Machine::new();
    there.import(&compressed.0);
    assert_eq!((there.list(), there.transcripts()), (here.list(), here.transcripts()));
    assert_eq!(there.import(&plain.0).new, 0);
}

#[test]
fn a_file_that_is_there_and_a_runtime_that_keeps_nothing_are_refused() {
    let here = full();
    let (file, _) = here.export("home.rowhouse");
    let refused = here.runtime.export_home(&file, &mut |_| {}).expect_err("it is there");
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    let unseen = Runtime::builder(Home::at(here.folder.path().join("none")))
        .domain(Domain::state())
        .ephemeral()
        .open()
        .expect("a runtime");
    let refused =
        unseen.import_home(&file, &ImportOptions::default(), &mut |_| {}).expect_err("it keeps nothing");
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    unseen.export_home(&here.folder.path().join("empty"), &mut |_| {}).expect("exported");
    assert!(!here.folder.path().join("none").exists());
    let here_again =
        here.runtime.export_home(Path::new("/nowhere/at/all"), &mut |_| {}).expect_err("no folder");
    assert_eq!(here_again.kind(), ErrorKind::NotFound, "{here_again}");
}
