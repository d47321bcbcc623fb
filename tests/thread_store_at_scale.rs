//! Big answers, many threads and many processes: what the thread store costs then.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![cfg(feature = "agent")]

#[allow(unreachable_pub, reason = "shared with the tests of the engine")]
mod processes;
mod transcripts;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use processes::{Child, holds, listen, once_in_three, ready, say, start_together, text};
use rowhouse::rollout::{Item, NewRollout, read_metadata, walk};
use rowhouse::rusqlite::Connection;
use rowhouse::stores::backfill::Reread;
use rowhouse::stores::threads::ThreadPatch;
use rowhouse::thread_store::{LiveThread, LocalThreadStore, PersistencePolicy, ThreadStore};
use rowhouse::{Home, Runtime, ThreadQuery};
use serde_json::{Value, json};

/// A named number of the environment, or a smaller one.
fn size(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn open(home: &Path) -> LocalThreadStore {
    LocalThreadStore::new(&Runtime::open(Home::at(home)).expect("opened")).expect("a store")
}

fn event(payload: &Value) -> Item {
    Item::new("event_msg", payload).expect("an item")
}

fn begin(store: &LocalThreadStore) -> LiveThread {
    let live = LiveThread::create(Arc::new(store.clone()), &NewRollout::default()).expect("begun");
    live.append(&[event(&json!({"type": "user_message", "message": "Go"}))]).expect("appended");
    live
}

#[test]
fn child_entry() {
    let Some(role) = processes::role() else { return };
    let store = open(Path::new(&role[1]));
    match role[0].as_str() {
        // Stores a big tool output, a MiB to a line.
        "output" => {
            let live = begin(&store);
            let mebibytes: usize = role[2].parse().expect("a number");
            ready();
            for part in 0..mebibytes {
                let output =
                    json!({"type": "function_call_output", "part": part, "output": "o".repeat(1 << 20)});
                live.append(&[Item::new("response_item", &output).expect("an item")]).expect("stored");
            }
            live.flush().expect("durable");
            let held = store.runtime().stats()["state"].hold_us.quantile(1.0);
            live.close().expect("given back");
            say(&format!("held {held}"));
        }
        // Commits small rows until it is told to end, one after another.
        "rows" => {
            let thread = begin(&store);
            let threads = store.runtime().threads();
            let (done, mut worst) = (Arc::new(std::sync::atomic::AtomicBool::new(false)), Duration::ZERO);
            let end = done.clone();
            ready();
            std::thread::spawn(move || {
                listen();
                end.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            let mut tokens = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                tokens += 1;
                let patch = ThreadPatch { tokens_used: Some(tokens), ..ThreadPatch::default() };
                let begun = Instant::now();
                threads.patch(thread.id(), &patch).expect("no trouble reaches a caller");
                worst = worst.max(begun.elapsed());
            }
            thread.close().expect("given back");
            say(&format!("rows {tokens} {}", worst.as_micros()));
        }
        other => panic!("no role {other}"),
    }
}

/// A big tool output goes into its transcript, so that eight other processes commit small rows beside it: none fails, and
/// none waits for the output.
///
/// Scale: 48 MB and 8 processes (`ROWHOUSE_TEST_OUTPUT_MB` for 200); seen beside other work on two
/// cores: the storing process held the state's lock for 24 ms at most, the longest commit took 390 ms; in one transaction 500 ms.
/// Control: the same output in one transaction of the state database holds its write lock for as long as storing takes,
/// and everybody waits for that.
#[test]
fn l4_a_big_output_holds_up_no_small_commit() {
    let mebibytes = size("ROWHOUSE_TEST_OUTPUT_MB", 48);
    once_in_three(|| {
        let folder = processes::folder();
        drop(open(folder.path()));
        let mut children = vec![Child::start("output", &[text(folder.path()), &mebibytes.to_string()])];
        children.extend((0..8).map(|_| Child::start("rows", &[text(folder.path())])));
        start_together(&mut children);
        let held: u64 = children[0].wait_for("held").parse().expect("a number");
        let held = Duration::from_micros(held);
        let mut longest = Duration::ZERO;
        for child in &mut children[1..] {
            child.tell("end");
            let said = child.wait_for("rows");
            let (rows, worst) = said.split_once(' ').expect("two numbers");
            assert!(rows.parse::<u64>().expect("a number") > 0);
            longest = longest.max(Duration::from_micros(worst.parse().expect("a number")));
        }
        children.into_iter().for_each(Child::finish);
        let control = in_one_transaction(folder.path(), mebibytes);
        println!("held {held:?}, longest commit {longest:?}; in one transaction held {control:?}");
        holds(held < Duration::from_millis(100), || format!("held {held:?}"))?;
        holds(longest < Duration::from_secs(5), || format!("a commit took {longest:?}"))?;
        holds(control > held, || format!("the control held {control:?}, and not more than {held:?}"))
    });
}

/// How long the write lock is held by whoever stores the output in the database.
fn in_one_transaction(home: &Path, mebibytes: usize) -> Duration {
    let connection = Connection::open(home.join("control.sqlite")).expect("opens");
    let pragmas = "PRAGMA journal_mode=WAL; CREATE TABLE output(part INTEGER, text TEXT); BEGIN IMMEDIATE";
    connection.execute_batch(pragmas).expect("begun");
    let begun = Instant::now();
    for part in 0..mebibytes {
        let output = "o".repeat(1 << 20);
        connection.execute("INSERT INTO output VALUES (?1, ?2)", (part as i64, output)).expect("stored");
    }
    connection.execute_batch("COMMIT").expect("stored");
    begun.elapsed()
}

/// Bytes of all files of a home.
fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let each = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes(&entry.path()),
        found => found.map_or(0, |found| found.len()),
    });
    each.sum()
}

/// Streams an answer in pieces; answers by how much the home grew.
fn stream(policy: PersistencePolicy, pieces: usize, piece: &str) -> u64 {
    let folder = processes::folder();
    let store = open(folder.path());
    let live = begin(&store).policy(policy);
    let before = bytes(folder.path());
    for _ in 0..pieces {
        live.append(&[event(&json!({"type": "agent_message_delta", "delta": piece}))]).expect("appended");
    }
    let answer = event(&json!({"type": "agent_message", "message": piece.repeat(pieces)}));
    live.append(&[answer]).expect("appended");
    live.flush().expect("durable");
    bytes(folder.path()) - before
}

/// An answer that comes in thousands of pieces is stored once: the home, databases and their logs included, grows by less
/// than twice its size.
///
/// Scale: 5,000 pieces, 1 MB (`ROWHOUSE_TEST_PIECE_BYTES` for pieces of 2,000, 10 MB).
/// Control: with every piece kept it grows by more than that.
#[test]
fn g5_an_answer_in_pieces_is_stored_once() {
    let piece = "a".repeat(size("ROWHOUSE_TEST_PIECE_BYTES", 200));
    let whole = (5_000 * piece.len()) as u64;
    let grown = stream(PersistencePolicy::default(), 5_000, &piece);
    let control = stream(PersistencePolicy::All, 5_000, &piece);
    println!("{whole} bytes: grown by {grown}, by {control} with every piece");
    assert!(grown <= 2 * whole, "{grown} of {whole}");
    assert!(control > 2 * whole, "{control} of {whole}");
}

/// The first page comes from the index whatever the number of transcripts, and the newest thread is on it also when its
/// row is missing.
///
/// Scale: 3,000 threads (`ROWHOUSE_TEST_THREADS` for 50,000); seen: 0.6 ms, 270 ms by reading all transcripts.
/// Control: a list that reads the transcripts takes longer the more there are; and the store of rows alone does not list
/// the thread whose row is missing.
#[test]
fn f1_the_first_page_is_fast_and_has_the_newest_thread() {
    let count = size("ROWHOUSE_TEST_THREADS", 3_000);
    let folder = processes::folder();
    let home = folder.path();
    let store = open(home);
    transcripts::write_all(home, 0..count, 0);
    let report = store.runtime().backfill().run(home, Reread::Changed, &mut |_| {}).expect("indexed");
    assert_eq!(report.counts.imported, count as u64);
    let created = ThreadQuery::recent().sort(rowhouse::stores::Sort::Created);
    store.list(&created).expect("a page");

    once_in_three(|| {
        let begun = Instant::now();
        let page = store.list(&created).expect("a page");
        let took = begun.elapsed();
        assert_eq!(page.threads.len(), 50);
        let begun = Instant::now();
        let read = walk(home).expect("a walk").flatten().filter(|file| read_metadata(&file.path).is_ok());
        assert_eq!(read.count(), count);
        let scanned = begun.elapsed();
        println!("the first page of {count} threads: {took:?}; by reading all transcripts: {scanned:?}");
        holds(took * 5 < scanned, || format!("{took:?}, by scanning {scanned:?}"))
    });

    // Another program made it, and died before it could make the row.
    let path = transcripts::write(home, count, 0);
    let id = transcripts::id(count);
    let has = |threads: Vec<rowhouse::stores::ThreadRow>| threads.iter().any(|row| row.id == id);
    let alone = store.runtime().threads();
    let newest = ThreadQuery::recent().limit(500);
    assert!(!has(alone.list(&newest).expect("a page").threads), "the control");
    let begun = Instant::now();
    while !has(store.list(&newest).expect("a page").threads) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the newest thread is not listed");
    }
    println!("the newest thread was listed after {:?}", begun.elapsed());
    let row = store.read(&id).expect("a row");
    assert_eq!(row.rollout_path.as_deref(), path.canonicalize().expect("the file").to_str());
    assert!(has(alone.list(&newest).expect("a page").threads), "it has its row now");
}
