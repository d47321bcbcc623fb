//! A list of threads takes little memory and no room on the disk, however large the store, and nothing that a killed
//! program leaves is in the way of the next one.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "/proc, and a lock file as other programs make them")]

mod processes;

use std::path::Path;

use rowhouse::rusqlite::Connection;
use rowhouse::stores::threads::{SearchOrder, ThreadSearch};
use rowhouse::stores::{Direction, Sort, ThreadFacts, Threads};
use rowhouse::{Domain, Home, Runtime, ThreadQuery};

use processes::{Child, folder, holds, plain, say, text};

const MIB: u64 = 1 << 20;
const SORTS: [Sort; 3] = [Sort::Created, Sort::Updated, Sort::Recency];

fn open(home: &Path) -> (Runtime, Threads) {
    let runtime = Runtime::builder(Home::at(home)).domain(Domain::state()).open().expect("a runtime");
    let threads = runtime.threads();
    (runtime, threads)
}

fn rows(default: usize) -> usize {
    std::env::var("ROWHOUSE_TEST_ROWS").map_or(default, |text| text.parse().expect("a number of rows"))
}

/// Every page of every thread, in this order.
fn list_all(threads: &Threads, sort: Sort, direction: Direction, limit: u32) -> usize {
    let mut query = ThreadQuery::recent().sort(sort).direction(direction).limit(limit);
    let mut seen = 0;
    loop {
        let page = threads.list(&query).expect("a page");
        seen += page.threads.len();
        match page.next_cursor {
            Some(cursor) => query = query.cursor(cursor),
            None => return seen,
        }
    }
}

fn facts(number: usize, title: &str) -> ThreadFacts {
    let time = 1_800_000_000_000 + i64::try_from(number % 1_000).expect("small");
    ThreadFacts {
        id: format!("019cadf1-7a5e-7b04-8f21-{number:012x}"),
        created_at: time,
        updated_at: time,
        recency_at: time,
        title: Some(title.to_owned()),
        ..ThreadFacts::default()
    }
}

/// A number that the kernel counts for this process.
fn counted(file: &str, name: &str) -> u64 {
    let found = std::fs::read_to_string(file).expect("/proc");
    let line = found.lines().find_map(|line| line.strip_prefix(name)).expect("a count");
    line.trim_end_matches(" kB").trim().parse().expect("a number")
}

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [role, home] = &arguments[..] else { panic!("two arguments: {arguments:?}") };
    let home: &Path = home.as_ref();
    match role.as_str() {
        "memory" => say(&memory_of(|| {
            let (_runtime, threads) = open(home);
            for sort in SORTS {
                list_all(&threads, sort, Direction::Descending, 500);
            }
        })),
        "memory, all at once" => say(&memory_of(|| {
            let connection = plain(&home.join("state.sqlite"));
            let mut all = connection.prepare("SELECT id, title FROM thread").expect("a query");
            let all = all.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
            let all: Result<Vec<_>, _> = all.expect("rows").collect();
            assert!(!all.expect("rows").is_empty());
        })),
        "written" => {
            let (_runtime, threads) = open(home);
            list_all(&threads, Sort::Created, Direction::Ascending, 500);
            let before = counted("/proc/self/io", "wchar: ");
            let mut seen = 0;
            for sort in SORTS {
                for direction in [Direction::Ascending, Direction::Descending] {
                    seen += list_all(&threads, sort, direction, 500);
                }
            }
            for order in [SearchOrder::Rank, SearchOrder::Recency] {
                let found = threads.search(&ThreadSearch::text("tests hang").by(order).limit(500));
                assert_eq!(found.expect("a page").threads.len(), 500);
            }
            say(&format!("{seen} {}", counted("/proc/self/io", "wchar: ") - before));
        }
        "written, sorted" => {
            let connection = plain(&home.join("state.sqlite"));
            let before = counted("/proc/self/io", "wchar: ");
            let seen = sorted(&connection);
            say(&format!("{seen} {}", counted("/proc/self/io", "wchar: ") - before));
        }
        "use until killed" => {
            let lock = std::fs::File::create_new(home.join("program.lock"));
            say(if lock.is_ok() { "started" } else { "another instance is running" });
            let (_runtime, threads) = open(home);
            for number in 0.. {
                threads.upsert(&[facts(number, "Written while it was used")]).expect("written");
                threads.list(&ThreadQuery::recent().limit(500)).expect("a page");
                if number == 20 {
                    say("in use");
                }
            }
        }
        other => panic!("no such role: {other}"),
    }
}

/// How much more memory was resident at most than before, in MiB.
fn memory_of(work: impl FnOnce()) -> String {
    let before = counted("/proc/self/status", "VmRSS:");
    work();
    (counted("/proc/self/status", "VmHWM:").saturating_sub(before) / 1024).to_string()
}

/// What a list without an index for its order does.
fn sorted(connection: &Connection) -> usize {
    let mut query = connection.prepare("SELECT * FROM thread ORDER BY preview").expect("a query");
    let mut rows = query.query([]).expect("rows");
    let mut seen = 0;
    while rows.next().expect("a row").is_some() {
        seen += 1;
    }
    seen
}

fn asked(role: &str, home: &Path) -> Vec<u64> {
    let child = Child::start(role, &[text(home)]);
    let line = child.line().expect("an answer");
    child.finish();
    line.split(' ').map(|number| number.parse().expect("a number")).collect()
}

/// A title is cut when it is stored, and again when it is listed, and no list is ever in memory at once: opening a store of
/// threads with titles of 1 MB and listing all of them in pages of 500 takes less than 50 MB.
///
/// Scale: 2,000 threads whose titles of 1 MB come through the store, and 100 that another program wrote whole; the first
/// number is `ROWHOUSE_TEST_ROWS`.
/// Control: a program that reads all rows into memory grows by more than the titles that lie in the file.
#[test]
fn f4_titles_of_a_megabyte_take_no_memory() {
    const WHOLE: usize = 100;
    let home = folder();
    let many = rows(2_000);
    {
        let (runtime, threads) = open(home.path());
        let title = "A title as long as a novel, since it was pasted. ".repeat(21_400);
        for batch in (0..many).collect::<Vec<_>>().chunks(20) {
            let batch: Vec<_> = batch.iter().map(|number| facts(*number, &title)).collect();
            threads.upsert(&batch).expect("written");
        }
        let other = "INSERT INTO thread(id, created_at, updated_at, recency_at, title)
            VALUES (?1, 1800000000000, 1800000000000, 1800000000000, ?2)";
        let database = runtime.database("state").expect("the domain");
        database
            .write(|tx| {
                (many..many + WHOLE)
                    .try_for_each(|number| tx.execute(other, (facts(number, "").id, &title)).map(drop))
            })
            .expect("written");
        assert_eq!(list_all(&threads, Sort::Recency, Direction::Descending, 500), many + WHOLE);
        let page = threads.list(&ThreadQuery::recent().limit(500)).expect("a page");
        assert!(
            page.threads.iter().all(|thread| thread.title.as_ref().is_some_and(|title| title.len() == 500))
        );
        let whole = threads.get(&facts(many, "").id).expect("read").expect("it is there");
        assert_eq!(whole.title, Some(title), "one thread is answered whole");
    }
    let [grown] = asked("memory", home.path())[..] else { panic!("one number") };
    assert!(grown < 50, "{grown} MiB");
    let [grown] = asked("memory, all at once", home.path())[..] else { panic!("one number") };
    assert!(grown > 90, "only {grown} MiB");
}

/// Every page of a list is the walk of an index and a search sorts no more than a page, so that not a byte is written for them, to no temporary
/// file nor elsewhere; a program that was killed in the middle of its work leaves nothing in the way of the next one, which
/// works at its first start.
///
/// Scale: 3,000 threads, 20 MB, every page in six orders, and two searches; `ROWHOUSE_TEST_ROWS=106000` for 700 MB. Three times killed.
/// Control: one query without an index for its order writes more than half of the store into temporary files; and the lock
/// file of a killed program, made as programs make them, stops the next one.
#[test]
fn g7_a_list_writes_nothing_and_a_killed_program_starts_again() {
    let home = folder();
    let many = rows(3_000);
    {
        let (_runtime, threads) = open(home.path());
        let message = "what was said in the first message of this thread, at some length. ".repeat(60);
        for batch in (0..many).collect::<Vec<_>>().chunks(500) {
            let of = |number: &usize| ThreadFacts {
                // In an order of its own, and as long as others are.
                preview: Some(format!("{:08x} {}", number * 7919 % 1_000_003, &message[..400])),
                first_user_message: Some(message.clone()),
                sandbox_policy: Some(message[..2_000].to_owned()),
                ..facts(*number, "Find out why the tests hang")
            };
            threads.upsert(&batch.iter().map(of).collect::<Vec<_>>()).expect("written");
        }
    }
    let file = home.path().join("state.sqlite");
    let stored = std::fs::metadata(&file).expect("the file").len();
    assert!(stored > many as u64 * 6_000, "{stored} bytes");
    processes::once_in_three(|| {
        // What it does now and then by itself, a checkpoint say, may fall into the time of one measurement.
        let [seen, written] = asked("written", home.path())[..] else { panic!("two numbers") };
        assert_eq!(seen, 6 * many as u64);
        holds(written == 0, || format!("{written} bytes were written"))
    });
    let [seen, written] = asked("written, sorted", home.path())[..] else { panic!("two numbers") };
    assert_eq!(seen, many as u64);
    assert!(written > stored / 2 && written > 8 * MIB, "{written} bytes of {stored}");

    for round in 0..3 {
        let mut child = Child::start("use until killed", &[text(home.path())]);
        let started = child.line().expect("a line");
        assert_eq!(started == "started", round == 0, "its own lock file was left: {started}");
        child.wait_for("in use");
        child.kill();
        let (_runtime, threads) = open(home.path());
        assert_eq!(list_all(&threads, Sort::Updated, Direction::Descending, 500), many);
    }
}
