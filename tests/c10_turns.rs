//! Nothing that stands in a transcript stops the projection of its turns, and what was read is not read again.

#![allow(clippy::disallowed_methods, reason = "a test prepares and damages files from outside")]
#![cfg(feature = "agent")]

#[allow(unreachable_pub, reason = "shared with the tests of the engine")]
mod processes;
mod transcripts;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use processes::{Child, ready, say, start_together, text};
use rowhouse::rusqlite::Connection;
use rowhouse::stores::Direction;
use rowhouse::thread_store::{
    Anomaly, AnomalyKind, ItemsView, LocalThreadStore, ThreadStore, TurnQuery, TurnStatus,
};
use rowhouse::{Home, Runtime};
use serde_json::{Value, json};

#[test]
fn child_entry() {
    let Some(role) = processes::role() else { return };
    let (home, thread) = (Path::new(&role[1]), transcripts::id(0));
    match role[0].as_str() {
        // Reads the turns, as soon as it is told to.
        "project" => {
            let store = open(home);
            ready();
            let turns = turns(&store, &thread);
            say(&format!("turns {}", turns.len()));
        }
        other => panic!("no role {other}"),
    }
}

fn open(home: &Path) -> LocalThreadStore {
    LocalThreadStore::new(&Runtime::open(Home::at(home)).expect("opened")).expect("a store")
}

/// A transcript that a test writes line by line.
struct Transcript {
    folder: tempfile::TempDir,
    thread: String,
    path: PathBuf,
    lines: String,
    count: u64,
}

impl Transcript {
    /// With so many turns, and written.
    fn of_turns(turns: usize) -> Self {
        let folder = tempfile::Builder::new().prefix("rowhouse-test-").tempdir().expect("a folder");
        let path = transcripts::write(folder.path(), 0, 0);
        let mut transcript =
            Self { thread: transcripts::id(0), path, lines: transcripts::text(0, 0), count: 1, folder };
        // Its first message belongs to no turn that this test counts.
        let first = transcript.lines.find('\n').expect("a first line") + 1;
        transcript.lines.truncate(first);
        transcript.turns(0..turns);
        transcript.write();
        transcript
    }

    /// Adds an event; answers the number of its line.
    fn event(&mut self, payload: &Value) -> u64 {
        let line = json!({"timestamp": "2026-01-01T00:00:01.000Z", "type": "event_msg", "payload": payload});
        self.raw(&line.to_string())
    }

    fn raw(&mut self, line: &str) -> u64 {
        self.lines.push_str(line);
        self.lines.push('\n');
        self.count += 1;
        self.count
    }

    fn begin(&mut self, turn: usize) -> u64 {
        self.event(&json!({"type": "task_started", "turn_id": format!("t{turn}")}))
    }

    fn end(&mut self, turn: usize) -> u64 {
        self.event(&json!({"type": "task_complete", "turn_id": format!("t{turn}")}))
    }

    fn turns(&mut self, numbers: std::ops::Range<usize>) {
        for turn in numbers {
            self.begin(turn);
            self.event(&json!({"type": "user_message", "message": format!("ask {turn}")}));
            self.event(&json!({"type": "agent_message", "message": format!("answer {turn}")}));
            self.end(turn);
        }
    }

    /// The file becomes what stands here, in its place.
    fn write(&self) {
        fs::write(&self.path, &self.lines).expect("written");
    }

    /// Adds what stands here and not yet there.
    fn append(&self) {
        let there = fs::metadata(&self.path).expect("the file").len() as usize;
        let mut file = OpenOptions::new().append(true).open(&self.path).expect("opens");
        file.write_all(&self.lines.as_bytes()[there..]).expect("written");
    }

    fn home(&self) -> &Path {
        self.folder.path()
    }
}

/// The ids of all turns, page by page.
fn turns(store: &LocalThreadStore, thread: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut query = TurnQuery::new().items(ItemsView::None).direction(Direction::Ascending).limit(500);
        if let Some(cursor) = &cursor {
            query = query.cursor(cursor.clone());
        }
        let page = store.list_turns(thread, &query).expect("turns");
        for turn in page.turns {
            assert_eq!(turn.turn.status, TurnStatus::Completed, "{}", turn.turn.id);
            found.push(turn.turn.id);
        }
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => return found,
        }
    }
}

fn ids(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|turn| format!("t{turn}")).collect()
}

/// A projector that wants the next ordinal, and ends at any other. Answers the turns that it has, and the line at which it
/// stands for ever.
fn strict(lines: &str) -> (usize, Option<usize>) {
    let mut next = 0;
    for (at, line) in lines.lines().enumerate() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { return (next, Some(at + 1)) };
        let payload = &line["payload"];
        if payload["type"] == "task_started" {
            if payload["turn_id"] != format!("t{next}") {
                return (next, Some(at + 1));
            }
            next += 1;
        }
    }
    (next, None)
}

/// A turn that begins twice, an end without a beginning, a torn line and one that is no record are each told once, with
/// their lines, and passed: the turns behind them are listed at once, also those that come later.
///
/// Scale: 20 turns around four odd lines, then 5 more; seen: 20 ms for the first list.
/// Control: a projector that wants the next ordinal stands at the first odd line of the same transcript, and still does
/// when more lines have come.
#[test]
fn c10_odd_lines_are_told_once_and_stop_nothing() {
    let mut transcript = Transcript::of_turns(10);
    let store = open(transcript.home());
    assert_eq!(turns(&store, &transcript.thread), ids(0..10));
    assert_eq!(strict(&transcript.lines), (10, None));

    // The writer died in turn 10 and used its number again.
    transcript.begin(10);
    let duplicate = transcript.begin(10);
    transcript.end(10);
    let gap = transcript.end(77);
    let torn = transcript.raw(r#"{"timestamp":"2026-01-01T00:0{"timestamp":"2026-01-01T00:00:01.000Z","typ"#);
    let no_record = transcript.raw("no record");
    transcript.turns(11..20);
    transcript.append();

    let begun = Instant::now();
    assert_eq!(turns(&store, &transcript.thread), ids(0..20));
    let took = begun.elapsed();
    println!("listed behind four odd lines after {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    let (kept, stands) = strict(&transcript.lines);
    assert_eq!((kept, stands), (11, Some(duplicate as usize)), "the control stands at the first one");

    let told = [
        Anomaly { line: duplicate, kind: AnomalyKind::Duplicate },
        Anomaly { line: gap, kind: AnomalyKind::Gap },
        Anomaly { line: torn, kind: AnomalyKind::BadLine },
        Anomaly { line: no_record, kind: AnomalyKind::BadLine },
    ];
    assert_eq!(store.anomalies(&transcript.thread).expect("anomalies"), told);
    transcript.turns(20..25);
    transcript.append();
    assert_eq!(turns(&store, &transcript.thread), ids(0..25));
    assert_eq!(strict(&transcript.lines), (kept, stands), "and goes on to");
    assert_eq!(store.anomalies(&transcript.thread).expect("anomalies"), told, "told once");
}

/// `rebuild` reads the file anew: turns that somebody changed in the database are right again, and what was mended in the
/// file is no anomaly any more.
///
/// Scale: 5 turns, one bad line, one damaged row; without it a list, which reads only what was added, goes on showing
/// both.
#[test]
fn a_rebuild_mends_what_is_kept() {
    let mut transcript = Transcript::of_turns(4);
    transcript.raw("no record");
    transcript.turns(4..5);
    transcript.write();
    let store = open(transcript.home());
    assert_eq!(turns(&store, &transcript.thread), ids(0..5));
    let state = transcript.home().join("state.sqlite");
    let damage = "UPDATE turn SET turn_id = 'lost' WHERE ordinal = 2";
    assert_eq!(Connection::open(&state).expect("opens").execute(damage, []).expect("damaged"), 1);
    transcript.lines = transcript.lines.replace("no record", "         ");
    transcript.write();

    assert_eq!(turns(&store, &transcript.thread)[2], "lost", "the control");
    assert_eq!(store.anomalies(&transcript.thread).expect("anomalies").len(), 1);

    let row = store.rebuild(&transcript.thread).expect("rebuilt");
    assert_eq!((row.id, row.title.as_deref()), (transcript.thread.clone(), Some("ask 0")));
    assert_eq!(turns(&store, &transcript.thread), ids(0..5));
    assert_eq!(store.anomalies(&transcript.thread).expect("anomalies"), []);
}

/// A transcript that is cut, put back from a backup or replaced is read anew, whatever was kept of it.
///
/// Scale: 20 turns, cut to 5, grown differently, put back, replaced by a longer file of other turns.
#[test]
fn a_file_that_is_another_one_is_read_anew() {
    let transcript = Transcript::of_turns(20);
    let store = open(transcript.home());
    let (thread, path) = (&transcript.thread, &transcript.path);
    assert_eq!(turns(&store, thread), ids(0..20));
    let offset = transcript.lines.len();

    let mut shorter = Transcript::of_turns(5);
    fs::write(path, &shorter.lines).expect("cut");
    assert!(shorter.lines.len() < offset, "the control has nothing to read");
    assert_eq!(turns(&store, thread), ids(0..5), "cut");

    shorter.turns(50..60);
    fs::write(path, &shorter.lines).expect("grown");
    assert_eq!(turns(&store, thread), [ids(0..5), ids(50..60)].concat(), "grown differently");

    transcript.write();
    assert_eq!(turns(&store, thread), ids(0..20), "put back");

    let mut replaced = Transcript::of_turns(0);
    replaced.turns(1000..1100);
    let beside = path.with_extension("new");
    fs::write(&beside, &replaced.lines).expect("written");
    fs::rename(&beside, path).expect("replaced");
    assert_ne!(replaced.lines.as_bytes()[offset - 1], b'\n', "the control is inside a line");
    assert_eq!(turns(&store, thread), ids(1000..1100), "replaced");
    assert_eq!(store.anomalies(thread).expect("anomalies"), []);
}

/// Processes that project the same lines at once keep each turn and each anomaly once.
///
/// Scale: 4 processes, 500 turns with 10 odd lines, twice (`ROWHOUSE_TEST_ROUNDS` for more).
#[test]
fn processes_that_project_at_once_keep_each_turn_once() {
    for _ in 0..processes::rounds(2) {
        let mut transcript = Transcript::of_turns(0);
        let mut odd = 0;
        for fifty in 0..10 {
            transcript.turns(fifty * 50..fifty * 50 + 50);
            transcript.raw("no record");
            odd += 1;
        }
        transcript.write();
        drop(open(transcript.home()));
        let mut children: Vec<_> =
            (0..4).map(|_| Child::start("project", &[text(transcript.home())])).collect();
        start_together(&mut children);
        for child in &children {
            assert_eq!(child.wait_for("turns"), "500");
        }
        children.into_iter().for_each(Child::finish);
        let store = open(transcript.home());
        assert_eq!(turns(&store, &transcript.thread), ids(0..500));
        assert_eq!(store.anomalies(&transcript.thread).expect("anomalies").len(), odd);
    }
}

/// A list reads what was added since the last one: of a long transcript, a page of its file and the new lines.
///
/// Scale: 20,000 lines (2 MB; `ROWHOUSE_TEST_TURNS` for more than 5,000 turns), then 4 more: the first list reads all of it,
/// the second less than a twentieth.
#[test]
#[cfg(target_os = "linux")]
fn a_second_list_reads_only_what_was_added() {
    let turns = std::env::var("ROWHOUSE_TEST_TURNS").map_or(5_000, |turns| turns.parse().expect("a number"));
    let mut transcript = Transcript::of_turns(turns);
    let size = transcript.lines.len() as u64;
    let store = open(transcript.home());
    let newest = TurnQuery::new().items(ItemsView::None).direction(Direction::Descending).limit(10);
    let list = |last: usize| {
        let before = bytes_read();
        let page = store.list_turns(&transcript_id(), &newest).expect("turns");
        assert_eq!(page.turns[0].turn.id, format!("t{last}"));
        bytes_read() - before
    };
    let first = list(turns - 1);
    assert!(first >= size, "{first} of {size} bytes");
    // On a busy machine a list answers from the file alone, and keeps a part; the next one goes on behind that.
    let begun = Instant::now();
    while list(turns - 1) >= size / 20 {
        assert!(begun.elapsed() < Duration::from_mins(2), "it is never kept");
    }
    let behind = (turns..turns + 3).map(|turn| {
        transcript.turns(turn..turn + 1);
        transcript.append();
        list(turn)
    });
    let second = behind.min().expect("three lists");
    println!("of {size} bytes: {first} at first, {second} then");
    assert!(second < size / 20, "{second} of {size} bytes");
}

/// A page of turns of a compressed transcript is read with one pass over it, in either direction, and is what the plain one
/// shows.
///
/// Scale: 200 turns with 4 KB each that do not compress; a page of 100.
#[test]
#[cfg(all(target_os = "linux", feature = "zstd"))]
fn a_page_of_a_compressed_transcript_decompresses_it_once() {
    let mut transcript = Transcript::of_turns(0);
    let mut noise = 1_u64;
    for turn in 0..200 {
        transcript.event(&json!({"type": "task_started", "turn_id": format!("t{turn}")}));
        let mut message = String::new();
        for _ in 0..250 {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            message.push_str(&noise.to_string());
        }
        transcript.event(&json!({"type": "user_message", "message": message}));
        transcript.event(&json!({"type": "task_complete", "turn_id": format!("t{turn}")}));
    }
    transcript.write();
    let store = open(transcript.home());
    let id = transcript_id();
    let both = [Direction::Ascending, Direction::Descending]
        .map(|direction| TurnQuery::new().items(ItemsView::Full).direction(direction).limit(100));
    let shown = |query: &TurnQuery| store.list_turns(&id, query).expect("turns").turns;
    let plain = both.each_ref().map(shown);
    store.archive(&id).expect("archived");
    let done = store.compress_archived(Duration::ZERO, 1).expect("compressed");
    assert_eq!(done.compressed, 1, "{done:?}");
    let leads_to = || PathBuf::from(store.read(&id).expect("a row").rollout_path.expect("a path"));
    let compressed = store.rollouts().locate(&id, None).expect("found").path;
    assert!(compressed.is_file() && leads_to() == compressed, "{}", leads_to().display());
    for (query, plain) in both.iter().zip(plain) {
        // The first list of it makes sure that it is the one whose turns are kept.
        shown(query);
        let before = bytes_read();
        let page = shown(query);
        let read = bytes_read() - before;
        assert_eq!(format!("{page:?}"), format!("{plain:?}"));
        assert!(read < 4 * done.bytes_after, "{read} bytes of {}", done.bytes_after);
    }
    // Who resumes it has it plain again, and its row says so.
    store.resume(&id).expect("resumed");
    assert_eq!(leads_to(), compressed.with_extension(""));
    store.shutdown(&id).expect("given back");
}

fn transcript_id() -> String {
    transcripts::id(0)
}

/// What this thread has read so far, from files and from what the system caches of them.
#[cfg(target_os = "linux")]
fn bytes_read() -> u64 {
    let io = fs::read_to_string("/proc/thread-self/io").expect("the thread's counters");
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("what it read");
    read.parse().expect("a number")
}
