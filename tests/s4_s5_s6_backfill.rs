//! A backfill survives whoever runs it: killed it goes on where it was, stopped it is left alone, and complete is not
//! the end.

#![cfg(feature = "agent")]

mod processes;
mod transcripts;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use processes::{Child, Numbers, folder, listen, plain, role, rounds, say, text};
use rowhouse::rollout::read_metadata;
use rowhouse::rusqlite::{Connection, params};
use rowhouse::stores::ThreadRow;
use rowhouse::stores::backfill::{BackfillLimits, BackfillReport, BackfillState, Reread};
use rowhouse::{Domain, ErrorKind, Home, Runtime, ThreadQuery};

/// Files of the first backfill, or as many as `ROWHOUSE_TEST_TRANSCRIPTS` says.
fn files() -> usize {
    let given = std::env::var("ROWHOUSE_TEST_TRANSCRIPTS").ok();
    given.map_or(1_000, |text| text.parse().expect("a number of transcripts"))
}

/// So many files share a commit here.
const BATCH: usize = 50;
const BYTES: usize = 4_000;
/// The scenarios allow a second, which a new process alone may take on a busy machine: as many times as long. Printed is
/// what it took.
const PROMPT: Duration = Duration::from_secs(10);
/// A lease that only time ends.
const LEASE: Duration = Duration::from_millis(300);

fn open(home: &Path) -> Runtime {
    Runtime::builder(Home::at(home)).domain(Domain::state()).open().expect("the home opens")
}

fn limits() -> BackfillLimits {
    let mut limits = BackfillLimits::default();
    limits.batch = BATCH;
    limits
}

/// All rows, and whether there may be more.
fn rows(runtime: &Runtime) -> (Vec<ThreadRow>, bool) {
    let (mut all, mut query, mut partial) = (Vec::new(), ThreadQuery::recent().limit(500), false);
    loop {
        let page = runtime.threads().list(&query).expect("a page");
        all.extend(page.threads);
        partial |= page.partial;
        match page.next_cursor {
            Some(cursor) => query = ThreadQuery::recent().limit(500).cursor(cursor),
            None => return (all, partial),
        }
    }
}

fn told(report: &BackfillReport) -> String {
    serde_json::to_string(report).expect("json")
}

/// Not a test by itself: what the children of the others run.
#[test]
fn child_entry() {
    let Some(arguments) = role() else { return };
    let (role, home, root) = (arguments[0].as_str(), Path::new(&arguments[1]), Path::new(&arguments[2]));
    match role {
        // Says when each batch is done that brought something.
        "index" => {
            let runtime = open(home);
            let index = runtime.backfill().limits(limits());
            let mut imported = None;
            let report = index.run(root, Reread::Changed, &mut |progress| {
                if imported.replace(progress.counts.imported) != Some(progress.counts.imported) {
                    say(&format!("batch {}", progress.counts.files));
                }
            });
            say(&format!("done {}", told(&report.expect("a report"))));
        }
        // The same, and waits to be told to go on behind each.
        "index slowly" => {
            let runtime = open(home);
            let index = runtime.backfill().limits(limits());
            let report = index.run(root, Reread::Changed, &mut |progress| {
                say(&format!("batch {}", progress.counts.files));
                listen();
            });
            match report {
                Ok(report) => say(&format!("done {}", told(&report))),
                Err(error) => say(&format!("failed {:?}", error.kind())),
            }
        }
        // A program at its start: in the background.
        "prompt" => {
            let began = Instant::now();
            let runtime = open(home);
            let index = runtime.backfill().limits(limits()).start(root).expect("started");
            let page = runtime.threads().list(&ThreadQuery::recent()).expect("a page");
            say(&format!("prompt {} {} {}", began.elapsed().as_millis(), page.partial, page.threads.len()));
            while !index.wait(Duration::from_millis(5)) {
                if let Some(trouble) = index.trouble() {
                    say(&format!("waits for {}", trouble.holder().map_or(0, |holder| holder.pid)));
                }
            }
            say(&format!("done {}", told(&index.join().expect("a report"))));
        }
        // The control: everything is one transaction.
        "all at once" => all_at_once(home, root),
        "lease" => hold_a_lease(home),
        other => panic!("no role {other}"),
    }
}

fn all_at_once(database: &Path, root: &Path) {
    let connection = plain(database);
    connection.execute_batch("CREATE TABLE IF NOT EXISTS thread(id TEXT PRIMARY KEY); BEGIN").expect("begun");
    for (number, found) in rowhouse::rollout::walk(root).expect("a walk").enumerate() {
        let facts = read_metadata(&found.expect("a file").path).expect("facts");
        connection.execute("INSERT INTO thread VALUES (?1)", [facts.thread.id]).expect("a row");
        if (number + 1).is_multiple_of(BATCH) {
            say("batch");
        }
    }
    connection.execute_batch("COMMIT").expect("committed");
    say("done");
}

/// What is finished, by what the database says.
fn finished(home: &Path) -> BTreeSet<PathBuf> {
    let database = plain(&home.join("state.sqlite"));
    let mut statement = database.prepare("SELECT rollout_path FROM thread").expect("a statement");
    let paths = statement.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    paths.map(|path| path.expect("a path").into()).collect()
}

/// The first prompt is there at once, whatever there is to index, and says that its list is partial. Killed again and
/// again, the backfill completes, and no file whose batch was committed is ever read again: each is made unreadable as
/// soon as it is finished, with its size, time and inode as they were, and all come in well.
///
/// Scale: 1,000 transcripts of 4 KB in batches of 50, kill -9 after one to three batches each, until it is complete;
/// `ROWHOUSE_TEST_TRANSCRIPTS=20000` for the whole.
/// Control: the same files in one transaction (an index that is built at the first start, whole): no kill leaves a row,
/// so it never completes.
#[test]
fn s4_a_killed_backfill_goes_on_and_never_reads_a_finished_file_again() {
    let (home, place) = (folder(), folder());
    let root = place.path().canonicalize().expect("its path");
    let files = files();
    let bytes = transcripts::write_all(&root, 0..files, BYTES);

    let first = Child::start("prompt", &[text(home.path()), text(&root)]);
    let prompt = first.wait_for("prompt");
    let (ms, rest) = prompt.split_once(' ').expect("a time");
    println!("prompt after {ms} ms: {rest}");
    assert!(Duration::from_millis(ms.parse().expect("a number")) < PROMPT, "{prompt}");
    assert!(rest.starts_with("true"), "it says that there may be more: {prompt}");
    drop(first); // kill -9

    let (mut kills, mut poisoned, mut numbers) = (1, BTreeSet::new(), Numbers::new(files as u64));
    let report = loop {
        for path in finished(home.path()).difference(&poisoned.clone()) {
            transcripts::poison(path);
            poisoned.insert(path.clone());
        }
        let child = Child::start("index", &[text(home.path()), text(&root)]);
        let most = numbers.below(3) + 1;
        let mut batches = 0;
        let done = loop {
            let line = child.line().expect("it works");
            if let Some(report) = line.strip_prefix("done ") {
                break Some(report.to_owned());
            }
            batches += 1;
            if batches == most {
                break None;
            }
        };
        if let Some(report) = done {
            child.finish();
            break report;
        }
        drop(child); // kill -9
        kills += 1;
    };
    println!("{files} files, {kills} kills, {} finished before the last run", poisoned.len());
    assert!(kills > files / BATCH / 4, "killed all the time");
    assert!(report.contains("\"complete\":true") && report.contains("\"bad\":0"), "{report}");

    let runtime = open(home.path());
    let (threads, partial) = rows(&runtime);
    assert_eq!((threads.len(), partial), (files, false));
    assert!(
        threads.iter().all(|thread| thread.title.as_ref().is_some_and(|title| title.starts_with("Task ")))
    );
    let status = &runtime.backfill().status().expect("a status")[0];
    assert_eq!((status.state, status.problems.len()), (BackfillState::Complete, 0));
    assert_eq!(status.progress.counts.bytes_read, bytes, "each file once");

    // The control reads what is not poisoned.
    let place = folder();
    transcripts::write_all(place.path(), 0..10 * BATCH, BYTES);
    let control = home.path().join("control.sqlite");
    for _ in 0..3 {
        let mut child = Child::start("all at once", &[text(&control), text(place.path())]);
        for _ in 0..3 {
            child.wait_for("batch");
        }
        child.kill();
        let count = plain(&control).query_row("SELECT count(*) FROM thread", [], |row| row.get::<_, i64>(0));
        assert_eq!(count.expect("a number"), 0, "the control kept something");
    }
}

/// A backfill whose owner was killed is taken over at once and goes on at its watermark. An owner that is stopped, or
/// only slow, is never pre-empted: the next one waits, and names it. An owner that lost the backfill nevertheless (its
/// lock file was removed) is told so, and changes nothing any more.
///
/// Scale: 400 transcripts; the owner is stopped for five times the lease of the control.
/// Control: a lease that only time ends takes the backfill from an owner that is merely stopped, so that two have it;
/// and of one that was killed it keeps everybody waiting.
#[test]
fn s5_a_dead_owner_is_replaced_at_once_and_a_live_one_never() {
    let (home, place) = (folder(), folder());
    let root = place.path().canonicalize().expect("its path");
    transcripts::write_all(&root, 0..400, BYTES);
    let arguments = [text(home.path()), text(&root)];

    let mut owner = Child::start("index slowly", &arguments);
    owner.wait_for("batch 50");
    owner.tell("go on");
    owner.wait_for("batch 100");
    let waiting = Child::start("prompt", &arguments);
    assert_eq!(waiting.wait_for("waits for"), owner.pid().to_string());
    owner.stop();
    let until = Instant::now() + 5 * LEASE;
    while let Some(line) = waiting.line_by(until) {
        assert!(line.starts_with("waits for"), "pre-empted: {line}");
    }
    {
        let runtime = open(home.path());
        let error = runtime.backfill().run(&root, Reread::Changed, &mut |_| {}).expect_err("it is taken");
        assert_eq!(
            (error.kind(), error.holder().map(|holder| holder.stopped)),
            (ErrorKind::Busy, Some(true))
        );
        let status = &runtime.backfill().status().expect("a status")[0];
        let found = (status.state, status.owner.as_ref().map(|owner| owner.pid), status.watermark.is_some());
        assert_eq!(found, (BackfillState::Running, Some(owner.pid().into()), true));
        drop(waiting);
        runtime.close(Duration::from_secs(5));
    }
    let dead = owner.pid();
    owner.kill();
    let began = Instant::now();
    let next = Child::start("index", &arguments);
    let first = next.wait_for("batch");
    println!("taken over {:?} after the kill; its first batch ends at {first}", began.elapsed());
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    assert_eq!(first, "150", "it goes on behind the 100 that were done");
    let report: serde_json::Value = serde_json::from_str(&next.wait_for("done")).expect("a report");
    assert_eq!(report["taken_over_from"]["pid"], dead);
    assert_eq!((&report["imported"], &report["unchanged"]), (&300.into(), &100.into()), "{report}");
    next.finish();

    // Robbed of its lock: the token decides.
    transcripts::write_all(&root, 400..600, BYTES);
    let mut robbed = Child::start("index slowly", &arguments);
    robbed.wait_for("batch");
    std::fs::remove_file(home.path().join("locks/state.backfill")).expect("removed");
    let thief = Child::start("index", &arguments);
    thief.wait_for("done");
    thief.finish();
    let end = loop {
        robbed.tell("go on");
        let line = robbed.line().expect("it goes on");
        if !line.starts_with("batch") {
            break line;
        }
    };
    assert_eq!(end, "failed Conflict");
    robbed.finish();
    assert_eq!(rows(&open(home.path())).0.len(), 600);

    s5_control(&home.path().join("lease.sqlite"));
}

fn lease(connection: &Connection, who: i64, now_ms: i64) -> bool {
    let until = now_ms + LEASE.as_millis() as i64;
    let text = "INSERT INTO lease VALUES (1, ?1, ?2) ON CONFLICT (id) DO UPDATE SET owner = ?1, until = ?2 \
                WHERE owner = ?1 OR until < ?3";
    connection.execute(text, params![who, until, now_ms]).expect("a try") == 1
}

fn now_ms() -> i64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as i64
}

fn hold_a_lease(database: &Path) {
    let connection = plain(database);
    connection.busy_timeout(Duration::from_secs(5)).expect("a timeout");
    assert!(lease(&connection, i64::from(std::process::id()), now_ms()));
    say("mine");
    listen();
    // It was stopped meanwhile; it believes what it knew.
    say("still mine");
    listen();
}

fn s5_control(database: &Path) {
    let connection = plain(database);
    connection.busy_timeout(Duration::from_secs(5)).expect("a timeout");
    let table = "CREATE TABLE lease(id INTEGER PRIMARY KEY, owner INTEGER, until INTEGER)";
    connection.execute_batch(table).expect("a table");
    let mut owner = Child::start("lease", &[text(database), "-"]);
    owner.wait_for("mine");
    owner.stop();
    assert!(!lease(&connection, 1, now_ms()), "the lease is good for a while");
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(2 * LEASE);
    assert!(lease(&connection, 1, now_ms()), "the control leaves a stopped owner alone");
    owner.go_on();
    owner.tell("go on");
    owner.wait_for("still mine");
    let _ = never.recv_timeout(2 * LEASE);
    let mut owner = Child::start("lease", &[text(database), "-"]);
    owner.wait_for("mine");
    owner.kill();
    let now = now_ms();
    connection.execute("UPDATE lease SET owner = 2, until = ?1", [now + 900_000]).expect("a long lease");
    assert!(!lease(&connection, 3, now + 30_000), "the control does not wait for a dead owner");
}

/// A folder that was complete is looked at again at the next start, and on demand: files that were copied into it, with
/// whatever times they had, are listed. Those that are gone are reported, their rows stay until they are swept, and come
/// back with their files.
///
/// Scale: 336 transcripts come into a home that was complete when it was empty; 100 of them go again, and come back.
/// Control: a program that believes its own mark of completion lists none of them.
#[test]
fn s6_transcripts_that_come_later_are_listed_after_the_next_start() {
    for how in ["start", "reindex"].into_iter().cycle().take(2 * rounds(1) as usize) {
        let (home, place) = (folder(), folder());
        let root = place.path();
        let runtime = open(home.path());
        let index = |runtime: &Runtime| match how {
            "start" => runtime.backfill().start(root).expect("started").join().expect("a report"),
            _ => runtime.backfill().run(root, Reread::Changed, &mut |_| {}).expect("a report"),
        };
        assert_eq!(index(&runtime).counts.files, 0);
        let mut terminal = Terminal::default();
        terminal.start(root);
        let state = |runtime: &Runtime| runtime.backfill().status().expect("a status")[0].state;
        assert_eq!(state(&runtime), BackfillState::Complete);

        for number in 0..336 {
            transcripts::set_time(&transcripts::write(root, number, BYTES), 1_500_000_000);
        }
        terminal.start(root);
        assert_eq!(terminal.rows, 0, "the control finds them");
        let began = Instant::now();
        let report = index(&runtime);
        println!("{how}: 336 transcripts listed after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        assert_eq!((report.counts.imported, report.complete), (336, true));
        assert_eq!((rows(&runtime).0.len(), rows(&runtime).1), (336, false));

        let aside = folder();
        let gone: Vec<_> = (0..100).map(|number| transcripts::path(root, number)).collect();
        for path in &gone {
            std::fs::rename(path, aside.path().join(path.file_name().expect("a name"))).expect("moved");
        }
        let report = index(&runtime);
        assert_eq!((report.missing, report.counts.bytes_read, rows(&runtime).0.len()), (100, 0, 336));
        for path in &gone {
            std::fs::rename(aside.path().join(path.file_name().expect("a name")), path).expect("moved back");
        }
        let report = index(&runtime);
        assert_eq!((report.missing, rows(&runtime).0.len()), (0, 336));
        for path in &gone {
            std::fs::remove_file(path).expect("removed");
        }
        index(&runtime);
        assert_eq!(runtime.backfill().sweep(root).expect("a sweep").threads, 100);
        assert_eq!((rows(&runtime).0.len(), index(&runtime).missing), (236, 0));
    }
}

/// An index whose completion is terminal.
#[derive(Default)]
struct Terminal {
    complete: bool,
    rows: usize,
}

impl Terminal {
    fn start(&mut self, root: &Path) {
        if !self.complete {
            self.rows = rowhouse::rollout::walk(root).expect("a walk").count();
            self.complete = true;
        }
    }
}
