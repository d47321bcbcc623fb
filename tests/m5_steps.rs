//! Rewriting the data of a big database is a step: the program is ready at once, and works on the old data and the new
//! while the rows are rewritten in small pieces, which a kill at any moment neither repeats nor leaves out.
//!
//! `ROWHOUSE_TEST_ROWS` gives the size of the big database: 40,000,000 rows are about 10 GB.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod processes;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use processes::{Child, Numbers};
use rowhouse::{
    Database, Domain, Error, ErrorKind, Home, Limits, Migration, Progress, Runtime, RuntimeDbRegistry, Step,
    StepState, Watermark,
};

/// Far longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_mins(5);

const OLD: &[Migration] = &[Migration {
    name: "V1__page",
    sql: "CREATE TABLE page(id INTEGER PRIMARY KEY, body TEXT NOT NULL, times INTEGER NOT NULL DEFAULT 0);
          CREATE TABLE note(id INTEGER PRIMARY KEY, body TEXT NOT NULL);
          CREATE TABLE piece(id INTEGER PRIMARY KEY, pid INTEGER NOT NULL);",
}];
const NEW: &[Migration] =
    &[OLD[0], Migration { name: "V2__title", sql: "ALTER TABLE page ADD COLUMN title TEXT" }];
/// The same rewrite as a migration.
const CONTROL: &[Migration] = &[
    OLD[0],
    Migration {
        name: "V2__title",
        sql: "ALTER TABLE page ADD COLUMN title TEXT;
              UPDATE page SET title = substr(body, 1, 40), times = times + 1",
    },
];
const FILL: &str =
    "UPDATE page SET title = substr(body, 1, 40), times = times + 1 WHERE id BETWEEN ?1 AND ?2";

/// Bytes of a row's body.
const BODY: usize = 250;

fn rows() -> i64 {
    std::env::var("ROWHOUSE_TEST_ROWS").ok().map_or(200_000, |text| text.parse().expect("a number of rows"))
}

fn domain(migrations: &[Migration]) -> Domain {
    Domain::new("work").migrations(migrations)
}

/// The release that rewrites by a step.
fn release() -> Domain {
    domain(NEW).step(Step::over_rows("fill_title", 2, "page", |tx, rows| tx.execute(FILL, rows)))
}

fn open(home: &Path, domain: Domain) -> (Runtime, Database) {
    let runtime = Runtime::builder(Home::at(home)).domain(domain).open().expect("the home opens");
    let database = runtime.database("work").expect("the domain");
    (runtime, database)
}

/// What the release before left: so many rows of the old form.
fn old_home(rows: i64) -> tempfile::TempDir {
    let home = processes::folder();
    let (_runtime, database) = open(home.path(), domain(OLD));
    let insert = "WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
                  INSERT INTO page(id, body) SELECT i, printf('%010d', i) || ?3 FROM n";
    let body = "x".repeat(BODY);
    for first in (1..=rows).step_by(10_000) {
        let last = rows.min(first + 9_999);
        database.write(|tx| tx.execute(insert, (first, last, &body))).expect("old rows");
    }
    home
}

fn number(database: &Database, sql: &str) -> i64 {
    database.read(|at| at.row(sql, [], |row| row.get(0))).expect(sql)
}

fn log_bytes(home: &Path) -> u64 {
    home.join("work.sqlite-wal").metadata().map_or(0, |found| found.len())
}

fn data_bytes(home: &Path) -> u64 {
    home.join("work.sqlite").metadata().expect("the database").len()
}

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let home: &Path = arguments[1].as_ref();
    match &*arguments[0] {
        "pin" => {
            let mut connection = processes::plain(&home.join("work.sqlite"));
            let pin = connection.transaction().expect("a read");
            let count = |row: &rowhouse::rusqlite::Row<'_>| row.get::<_, i64>(0);
            pin.query_row("SELECT count(*) FROM note", [], count).expect("a snapshot");
            processes::say("pinned");
            processes::listen();
        }
        "release" => work_and_tell(&open(home, release()).1),
        "migrate" => drop(open(home, domain(CONTROL))),
        "slow" => {
            let (_runtime, database) = open(home, slow());
            processes::say("open");
            processes::listen();
            drop(database);
        }
        "threads" => {
            let finish = || {
                let (_runtime, database) = open(home, release());
                database.wait_for_steps(LONG).expect("an empty table is done at once");
            };
            finish();
            let (_runtime, database) = open(home, release());
            assert!(database.steps().expect("steps")[0].is_done());
            // A thread has its name when it has begun to work.
            database.submit(|_| Ok(())).expect("queued").wait().expect("done");
            processes::say(&format!("threads {}", own_threads().join(" ")));
        }
        role => panic!("no role {role}"),
    }
}

/// The names of this process's threads.
fn own_threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc").flatten();
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
    tasks.filter_map(name).map(|name| name.trim().to_owned()).collect()
}

/// Writes while the step goes on, and tells how far it is; until it is done, or killed.
fn work_and_tell(database: &Database) {
    let mut told = 0;
    processes::say("open");
    loop {
        database.write(|tx| tx.execute("INSERT INTO note(body) VALUES ('meanwhile')", [])).expect("a write");
        let step = database.steps().expect("the steps").remove(0);
        if step.rows != told {
            told = step.rows;
            processes::say(&format!("rows {told}"));
        }
        if step.is_done() {
            processes::say("done");
            processes::listen();
            return;
        }
    }
}

/// A step that would take an hour: a row at a time, each written down with who did it.
fn slow() -> Domain {
    domain(NEW).step(
        Step::new("slow", 2, |tx, piece| {
            let last = if let Watermark::Number(last) = piece.after() { *last } else { 0 };
            tx.execute("INSERT INTO piece(id, pid) VALUES (?1, ?2)", (last + 1, std::process::id()))?;
            Ok(Progress::More { to: Watermark::Number(last + 1), rows: 1 })
        })
        .total(|_| Ok(1_000_000)),
    )
}

/// What was seen from outside while a step ran.
#[derive(Default)]
struct Seen {
    longest_log: u64,
    progress: Vec<u64>,
    writes: i64,
    slowest_write: Duration,
}

/// Reads, writes and looks until the steps are done.
fn watch(home: &Path, database: &Database) -> Seen {
    let mut seen = Seen::default();
    loop {
        let step = database.steps().expect("the steps").remove(0);
        seen.progress.push(step.rows);
        seen.longest_log = seen.longest_log.max(log_bytes(home));
        let began = Instant::now();
        database.write(|tx| tx.execute("INSERT INTO note(body) VALUES ('meanwhile')", [])).expect("a write");
        seen.slowest_write = seen.slowest_write.max(began.elapsed());
        seen.writes += 1;
        // A program of this release reads both forms.
        let read = "SELECT coalesce(title, substr(body, 1, 40)) FROM page ORDER BY id DESC LIMIT 1";
        let title: String = database.read(|at| at.row(read, [], |row| row.get(0))).expect("a read");
        assert_eq!(title.len(), 40);
        if step.is_done() {
            return seen;
        }
    }
}

/// A release that rewrites a big table opens at once on the old data; the step goes through it in pieces of typically
/// 15 ms with a short write-ahead log, while the program reads and writes, and shows how far it is.
///
/// Scale: 200,000 rows, 60 MB; `ROWHOUSE_TEST_ROWS` for more.
/// Control: the same UPDATE as a migration takes the open many times as long, and its log grows to the size of the
/// table.
#[test]
fn m5_a_big_rewrite_is_ready_at_once_and_bounded() {
    let home = old_home(rows());
    let pieces: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let timed = pieces.clone();
    let release = domain(NEW).step(Step::over_rows("fill_title", 2, "page", move |tx, rows| {
        let began = Instant::now();
        let done = tx.execute(FILL, rows);
        timed.lock().expect("times").push(began.elapsed());
        done
    }));
    let began = Instant::now();
    let (runtime, database) = open(home.path(), release);
    let ready = began.elapsed();
    let Seen { longest_log, progress, writes, slowest_write } = watch(home.path(), &database);
    let mut pieces = std::mem::take(&mut *pieces.lock().expect("times"));
    pieces.sort();
    let typical = pieces[pieces.len() / 2];
    println!(
        "{} MB: ready in {ready:?}, {} pieces of {typical:?}, longest {:?}, log at most {} MiB, {writes} writes \
         meanwhile, slowest {slowest_write:?}",
        data_bytes(home.path()) / 1_000_000,
        pieces.len(),
        pieces[pieces.len() - 1],
        longest_log >> 20,
    );
    assert!(typical < Duration::from_millis(100), "a piece takes {typical:?}");
    assert!(longest_log <= 64 << 20, "the log grew to {longest_log} bytes");
    assert!(progress.windows(2).all(|two| two[0] <= two[1]), "{progress:?}");
    assert!(
        progress.iter().any(|done| (1..rows().cast_unsigned()).contains(done)),
        "nobody saw it under way"
    );
    assert_eq!(number(&database, "SELECT count(*) FROM note"), writes);
    assert_eq!(number(&database, "SELECT count(*) FROM page WHERE times = 1 AND title IS NOT NULL"), rows());
    let step = database.steps().expect("the steps").remove(0);
    assert_eq!((step.state, step.rows, step.percent), (StepState::Done, rows().cast_unsigned(), Some(100)));
    assert_eq!(database.warnings(), Vec::<String>::new());
    drop((database, runtime, home));

    let home = old_home(rows());
    let began = Instant::now();
    let _control = open(home.path(), domain(CONTROL));
    let (migrated, log) = (began.elapsed(), log_bytes(home.path()));
    println!("as a migration: ready in {migrated:?}, log {} MiB", log >> 20);
    // On a busy machine both take longer.
    assert!(ready < Duration::from_secs(1).max(migrated / 4), "ready in {ready:?}, migrated in {migrated:?}");
    assert!(migrated > ready, "a migration that rewrites all is as fast: {migrated:?}");
    assert!(log > data_bytes(home.path()) / 2 && log > longest_log, "the log of the migration: {log} bytes");
}

/// A step that is killed at any moment goes on behind its watermark: every row is rewritten exactly once, and what was
/// done is never done again.
///
/// Scale: 200,000 rows, 5 kills at random moments; `ROWHOUSE_TEST_ROUNDS`, `ROWHOUSE_TEST_ROWS` for more.
/// Control: a migration that is killed in the middle of the same UPDATE has done nothing.
#[test]
fn m5_a_killed_step_resumes_and_counts_each_row_once() {
    let home = old_home(rows());
    let file = home.path().join("work.sqlite");
    let mut numbers = Numbers::new(776);
    let (mut before, mut in_the_middle) = (0, 0);
    for round in 0..processes::rounds(5) {
        let mut child = Child::start("release", &[processes::text(home.path())]);
        child.wait_for("open");
        for _ in 0..=numbers.below(12) {
            if child.line().is_none_or(|line| line == "done") {
                break;
            }
        }
        let _ = child.line_by(Instant::now() + Duration::from_micros(numbers.below(20_000)));
        child.kill();
        let look = processes::plain(&file);
        let one = |sql: &str| look.query_row(sql, [], |row| row.get::<_, i64>(0)).expect(sql);
        let watermark = one("SELECT ifnull(max(watermark), 0) FROM rowhouse_steps");
        let wrong = format!("SELECT count(*) FROM page WHERE times <> (id <= {watermark})");
        assert_eq!(one(&wrong), 0, "round {round}: rows that were left out or done twice");
        assert_eq!(one("SELECT ifnull(max(rows_done), 0) FROM rowhouse_steps"), watermark);
        assert!(watermark >= before, "round {round}: {watermark} after {before}");
        in_the_middle += i64::from(watermark > before && watermark < rows());
        before = watermark;
    }
    println!("{in_the_middle} kills in the middle, the last at row {before}");
    assert!(in_the_middle > 0, "no kill met the step under way");
    let (runtime, database) = open(home.path(), release());
    database.wait_for_steps(LONG).expect("done");
    assert_eq!(number(&database, "SELECT count(*) FROM page WHERE times = 1"), rows());
    assert_eq!(number(&database, "SELECT rows_done FROM rowhouse_steps"), rows());
    drop((database, runtime));
    assert_eq!(processes::integrity(&file), "ok");
    drop(home);

    let home = old_home(rows());
    let mut child = Child::start("migrate", &[processes::text(home.path())]);
    while log_bytes(home.path()) < 12 << 20 {
        assert!(child.line_by(Instant::now() + Duration::from_millis(1)).is_none());
    }
    child.kill();
    let look = processes::plain(&home.path().join("work.sqlite"));
    let done: i64 = look.query_row("SELECT sum(times) FROM page", [], |row| row.get(0)).expect("a sum");
    assert_eq!(done, 0, "what the migration had rewritten is gone");
}

/// How many rows the step has handled, seen from outside.
fn far(registry: &RuntimeDbRegistry) -> u64 {
    registry.steps("work").expect("the steps").first().map_or(0, |step| step.rows)
}

fn reach(registry: &RuntimeDbRegistry, rows: u64) {
    let began = Instant::now();
    while far(registry) < rows {
        assert!(began.elapsed() < LONG, "the step stands still at {} rows", far(registry));
        std::thread::yield_now();
    }
}

/// One process at a time does a step, also with several programs on the database, and when it is killed another one
/// goes on within seconds.
///
/// Scale: 2 processes, 1 kill.
/// Control: two plain connections that keep the watermark apart from the rows rewrite the same row twice.
#[test]
fn m5_one_process_does_a_step_and_another_takes_over() {
    let home = old_home(10);
    let arguments = [processes::text(home.path())];
    let registry = RuntimeDbRegistry::new(&Home::at(home.path()));
    let far = || far(&registry);
    let reach = |rows: u64| reach(&registry, rows);
    let mut first = Child::start("slow", &arguments);
    first.wait_for("open");
    reach(1);
    let mut second = Child::start("slow", &arguments);
    second.wait_for("open");
    reach(far() + 200);
    let step = registry.steps("work").expect("the steps").remove(0);
    assert_eq!((step.state, step.percent, step.total), (StepState::Running, Some(0), Some(1_000_000)));
    first.kill();
    let (killed, at) = (Instant::now(), far());
    reach(at + 200);
    println!("200 pieces of the second process {:?} after the kill of the first", killed.elapsed());
    second.kill();
    let look = processes::plain(&home.path().join("work.sqlite"));
    let mut statement = look.prepare("SELECT pid FROM piece ORDER BY id").expect("the pieces");
    let mut pids: Vec<i32> = statement
        .query_map([], |row| row.get(0))
        .expect("the pieces")
        .map(|pid| pid.expect("a pid"))
        .collect();
    assert_eq!(far(), pids.len() as u64);
    pids.dedup();
    assert_eq!(pids, [first.pid(), second.pid()], "they took turns");

    // What a program does by itself: look how far it is, rewrite the next rows, write down how far it is.
    let other = processes::plain(&home.path().join("work.sqlite"));
    look.execute_batch("CREATE TABLE progress(watermark); INSERT INTO progress VALUES (0)").expect("a table");
    let both = [&look, &other];
    let watermarks = both.map(|program| {
        program.query_row("SELECT watermark FROM progress", [], |row| row.get::<_, i64>(0)).expect("how far")
    });
    for (program, watermark) in both.into_iter().zip(watermarks) {
        program.execute(FILL, (watermark + 1, watermark + 1)).expect("rewritten");
        program.execute("UPDATE progress SET watermark = ?1", [watermark + 1]).expect("written down");
    }
    let times: i64 =
        look.query_row("SELECT times FROM page WHERE id = 1", [], |row| row.get(0)).expect("a row");
    assert_eq!(times, 2, "the control rewrites the row once: it shows nothing");
}

/// While the process that does the steps is stopped, the others say so, and who it is.
#[test]
fn a_stopped_process_that_does_the_steps_is_named() {
    let home = old_home(10);
    let first = Child::start("slow", &[processes::text(home.path())]);
    first.wait_for("open");
    // Who is open may not have begun: only after a piece of its own is it the one that does them.
    reach(&RuntimeDbRegistry::new(&Home::at(home.path())), 1);
    let (_runtime, database) = open(home.path(), slow());
    let step = || database.steps().expect("the steps").remove(0);
    let wait_for = |state: StepState| {
        let began = Instant::now();
        while step().state != state {
            assert!(began.elapsed() < LONG, "{:?}", step());
            std::thread::yield_now();
        }
    };
    wait_for(StepState::Running);
    first.stop();
    wait_for(StepState::Waiting);
    let trouble = step().trouble.expect("why");
    assert!(trouble.contains(&format!("kill -CONT {}", first.pid())), "{trouble}");
    first.go_on();
    wait_for(StepState::Running);
}

/// While a reader pins the write-ahead log, a step waits before it makes the log long, and goes on when the reader is
/// gone; other writes go on all the time.
///
/// Scale: 200,000 rows, 60 MB, a snapshot of another process.
/// Control: one UPDATE over the table beside the same reader puts all of it into the log.
#[test]
fn m5_a_step_waits_while_the_log_is_pinned() {
    let home = old_home(rows());
    let pin = Child::start("pin", &[processes::text(home.path())]);
    pin.wait_for("pinned");
    let (runtime, database) = open(home.path(), release());
    let far = || database.steps().expect("the steps")[0].rows;
    // It stands still when nothing came in a second, for which it rests otherwise after a piece of a third of that.
    let (mut seen, mut since) = (far(), Instant::now());
    while seen == 0 || since.elapsed() < Duration::from_secs(1) {
        database
            .write(|tx| tx.execute("UPDATE note SET body = 'meanwhile' WHERE id = 0", []))
            .expect("a write");
        let now = far();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    let pinned_log = log_bytes(home.path());
    println!("{seen} rows and {} MiB of log beside the reader", pinned_log >> 20);
    assert!(seen < rows().cast_unsigned(), "it did not wait");
    assert!(pinned_log < 16 << 20, "the pinned log grew to {pinned_log} bytes");
    pin.finish();
    database.wait_for_steps(LONG).expect("done");
    assert_eq!(number(&database, "SELECT count(*) FROM page WHERE times = 1"), rows());
    drop((database, runtime));

    let pin = Child::start("pin", &[processes::text(home.path())]);
    pin.wait_for("pinned");
    let plain = processes::plain(&home.path().join("work.sqlite"));
    plain.execute("UPDATE page SET times = times + 1", []).expect("rewritten");
    assert!(
        log_bytes(home.path()) > 3 * pinned_log,
        "the log of the control: {} bytes",
        log_bytes(home.path())
    );
    drop(plain);
    pin.finish();
}

/// The step of a database with nothing to rewrite ends at once, and one that is done leaves no thread behind.
#[test]
fn a_finished_step_costs_no_thread() {
    let home = processes::folder();
    let child = Child::start("threads", &[processes::text(home.path())]);
    let threads = child.wait_for("threads");
    assert!(threads.contains("rowhouse-work"), "{threads}");
    assert!(!threads.contains("rowhouse-steps"), "{threads}");
    child.finish();
}

/// A step that fails or panics again and again is in nobody's way; it is told by name, here and to other processes, and
/// goes on when what was wrong has passed.
#[test]
fn a_failing_step_is_told_and_in_nobodys_way() {
    let home = old_home(100);
    let (fails, tries) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let (fail, count) = (fails.clone(), tries.clone());
    let release = domain(NEW).step(Step::over_rows("fill_title", 2, "page", move |tx, rows| {
        let done = tx.execute(FILL, rows)?;
        if fail.load(Ordering::SeqCst) {
            assert!(count.fetch_add(1, Ordering::SeqCst) % 2 == 0, "every other try panics");
            return Err(Error::new(ErrorKind::Job, "no titles today"));
        }
        Ok(done)
    }));
    let (_runtime, database) = open(home.path(), release);
    let told = || database.warnings().into_iter().find(|warning| warning.contains("fill_title"));
    let began = Instant::now();
    while told().is_none() {
        assert!(began.elapsed() < LONG, "nobody was told");
        database.write(|tx| tx.execute("INSERT INTO note(body) VALUES ('meanwhile')", [])).expect("a write");
    }
    assert!(tries.load(Ordering::SeqCst) >= 3);
    let step = database.steps().expect("the steps").remove(0);
    assert_eq!((step.state, step.rows), (StepState::Waiting, 0));
    assert!(step.trouble.is_some_and(|trouble| trouble.contains("no titles today")));
    assert_eq!(database.health(), rowhouse::Health::Ready);
    assert_eq!(number(&database, "SELECT sum(times) FROM page"), 0);
    let seen = database.changes().expect("changes");
    let others = || RuntimeDbRegistry::new(&Home::at(home.path())).steps("work").expect("the steps");
    while others().first().is_none_or(|step| step.state != StepState::Waiting) {
        database.wait_for_change(seen, Duration::from_millis(20)).expect("a wait");
    }
    let late = database.wait_for_steps(Duration::ZERO).expect_err("it is not done");
    assert!(late.kind() == ErrorKind::Timeout && late.to_string().contains("fill_title"), "{late}");

    fails.store(false, Ordering::SeqCst);
    database.wait_for_steps(LONG).expect("done");
    assert_eq!((told(), number(&database, "SELECT sum(times) FROM page")), (None, 100));
}

/// When a step fails for another reason than before, that reason is told from then on.
#[test]
fn another_reason_to_fail_is_told_as_well() {
    let home = old_home(1);
    let later = Arc::new(AtomicBool::new(false));
    let now = later.clone();
    let fails = Step::new("fails", 2, move |_, _| {
        Err(Error::new(ErrorKind::Job, if now.load(Ordering::SeqCst) { "no ink" } else { "no paper" }))
    });
    let (_runtime, database) = open(home.path(), domain(NEW).step(fails));
    let seen = database.changes().expect("changes");
    let wait_for = |reason: &str| {
        let began = Instant::now();
        while !database.warnings().iter().any(|warning| warning.contains(reason)) {
            assert!(began.elapsed() < LONG, "nobody was told: {:?}", database.warnings());
            database.wait_for_change(seen, Duration::from_millis(20)).expect("a wait");
        }
    };
    wait_for("no paper");
    later.store(true, Ordering::SeqCst);
    wait_for("no ink");
}

/// When the file is replaced while a later step is under way, and opened again, the steps of the new file begin with the
/// first.
#[test]
fn steps_run_in_order_on_a_file_that_took_the_place_of_another() {
    let (home, other) = (old_home(100), old_home(100));
    let too_early = Arc::new(AtomicU64::new(0));
    let count = too_early.clone();
    let second = Step::new("second", 2, move |tx, piece| {
        let left: i64 = tx.row("SELECT count(*) FROM page WHERE title IS NULL", [], |row| row.get(0))?;
        count.fetch_add(left.unsigned_abs(), Ordering::SeqCst);
        let last = if let Watermark::Number(last) = piece.after() { *last } else { 0 };
        Ok(Progress::More { to: Watermark::Number(last + 1), rows: 1 })
    });
    let (_runtime, database) = open(home.path(), release().step(second));
    // Of the release before the steps.
    drop(open(other.path(), domain(NEW)));
    let reach_second = || {
        let began = Instant::now();
        while database.steps().expect("the steps")[1].rows == 0 {
            assert!(began.elapsed() < LONG, "{:?}", database.steps());
            std::thread::yield_now();
        }
    };
    reach_second();
    std::fs::rename(other.path().join("work.sqlite"), home.path().join("work.sqlite")).expect("replaced");
    let note = || database.write(|tx| tx.execute("INSERT INTO note(body) VALUES ('meanwhile')", []));
    // A piece may have found out before.
    assert!(matches!(note().expect_err("replaced").kind(), ErrorKind::Replaced | ErrorKind::Latched));
    database.reopen().expect("the other file");
    reach_second();
    assert_eq!(number(&database, "SELECT count(*) FROM page WHERE times = 1"), 100);
    assert_eq!(too_early.load(Ordering::SeqCst), 0, "rows that the first step had left");
}

/// A step that deletes rows goes on in a best-effort database that is full, and makes room; also the room for its record,
/// where a row is larger than that.
#[test]
fn a_step_makes_room_in_a_full_database() {
    let home = processes::folder();
    let log = |migrations| domain(migrations).best_effort().max_bytes(2 << 20);
    let attached = |database: &Database| {
        while database.read(|at| at.row("SELECT 1", [], |row| row.get::<_, i64>(0))).is_err() {
            std::thread::yield_now();
        }
    };
    let fill = |database: &Database| {
        let insert = "INSERT INTO page(body) VALUES (?1)";
        let body = "x".repeat(16 << 10);
        (0..100_000).find_map(|_| database.write(|tx| tx.execute(insert, [&body])).err())
    };
    {
        let (_runtime, database) = open(home.path(), log(NEW));
        attached(&database);
        assert_eq!(fill(&database).expect("it is full").kind(), ErrorKind::Full);
    }
    let prune = Step::over_rows("prune", 2, "page", |tx, rows| {
        tx.execute("DELETE FROM page WHERE id BETWEEN ?1 AND ?2", rows)
    });
    let (_runtime, database) = open(home.path(), log(NEW).step(prune));
    attached(&database);
    database.wait_for_steps(LONG).expect("done");
    assert_eq!(number(&database, "SELECT count(*) FROM page"), 0);
}

/// A step for which the disk has no room waits, says so with the numbers, and begins when there is room.
#[test]
fn a_step_waits_for_room() {
    let home = old_home(100);
    let needs = Arc::new(AtomicU64::new(u64::MAX));
    let needed = needs.clone();
    let step = Step::over_rows("fill_title", 2, "page", |tx, rows| tx.execute(FILL, rows));
    let release = domain(NEW).step(step.needs_bytes(move |_| Ok(needed.load(Ordering::SeqCst))));
    let (_runtime, database) = open(home.path(), release);
    let began = Instant::now();
    while !database.warnings().iter().any(|warning| warning.contains(&u64::MAX.to_string())) {
        assert!(began.elapsed() < LONG, "nobody was told: {:?}", database.warnings());
        database.write(|tx| tx.execute("INSERT INTO note(body) VALUES ('meanwhile')", [])).expect("a write");
    }
    assert_eq!(database.steps().expect("the steps")[0].state, StepState::Waiting);
    assert_eq!(number(&database, "SELECT sum(times) FROM page"), 0);
    needs.store(1, Ordering::SeqCst);
    database.wait_for_steps(LONG).expect("done");
    assert_eq!(database.warnings(), Vec::<String>::new());
}

/// An older program leaves its step to the newer one, whose schema it only works with.
#[test]
fn an_older_program_leaves_its_steps_to_the_newer() {
    const NEWEST: &[Migration] =
        &[NEW[0], NEW[1], Migration { name: "V3__tag", sql: "CREATE TABLE tag(id INTEGER PRIMARY KEY)" }];
    let home = old_home(100);
    drop(open(home.path(), domain(NEWEST)));
    {
        let (_runtime, database) = open(home.path(), release());
        database.wait_for_steps(Duration::from_millis(300)).expect_err("it must not run");
        assert_eq!(database.steps().expect("the steps")[0].state, StepState::Pending);
        database.write(|tx| tx.execute("INSERT INTO note(body) VALUES ('meanwhile')", [])).expect("a write");
    }
    let newer = release().migrations(NEWEST);
    let (_runtime, database) = open(home.path(), newer);
    database.wait_for_steps(LONG).expect("done");
    assert_eq!(number(&database, "SELECT sum(times) FROM page"), 100);
}

/// Steps run in the order of their declaration, by text keys as well, and one that was done is not done again.
#[test]
fn steps_run_in_order_and_once() {
    let home = old_home(100);
    let both = || {
        release().step(Step::new("by_body", 2, |tx, piece| {
            let after = match piece.after() {
                Watermark::Text(last) => last.as_str(),
                _ => "",
            };
            let sql = "SELECT body FROM page WHERE body > ?1 AND title IS NOT NULL ORDER BY body LIMIT ?2";
            let found: Vec<String> = tx.rows(sql, (after, piece.limit()), |row| row.get(0))?;
            let Some(last) = found.last() else { return Ok(Progress::Done) };
            let update = "UPDATE page SET times = times + 10 WHERE body > ?1 AND body <= ?2";
            let rows = tx.execute(update, (after, last))? as u64;
            Ok(Progress::More { to: Watermark::Text(last.clone()), rows })
        }))
    };
    for _ in 0..2 {
        let (_runtime, database) = open(home.path(), both());
        database.wait_for_steps(LONG).expect("done");
        let steps = database.steps().expect("the steps");
        assert_eq!(
            steps.iter().map(|step| (&*step.name, step.rows)).collect::<Vec<_>>(),
            [("fill_title", 100), ("by_body", 100)]
        );
        assert_eq!(number(&database, "SELECT count(*) FROM page WHERE times = 11"), 100);
    }
    let standing = domain(NEW)
        .step(Step::new("stands", 2, |_, piece| Ok(Progress::More { to: piece.after().clone(), rows: 1 })));
    let (_runtime, database) = open(home.path(), standing);
    let late = database.wait_for_steps(Duration::from_millis(100)).expect_err("it never ends");
    assert_eq!(late.kind(), ErrorKind::Timeout);
}

/// A step that could never run, or not be told apart, is refused when the runtime opens.
#[test]
fn a_step_that_fits_no_schema_is_refused() {
    let home = processes::folder();
    let open = |domain: Domain| Runtime::builder(Home::at(home.path())).domain(domain).open();
    let step = |name: &str, version| Step::new(name, version, |_, _| Ok(Progress::Done));
    for (bad, told) in [
        (domain(NEW).step(step("fill", 3)), "version 3"),
        (domain(NEW).step(step("Fill it", 2)), "Fill it"),
        (domain(NEW).step(step("fill", 1)).step(step("fill", 2)), "twice"),
    ] {
        let error = open(bad).expect_err(told);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(told), "{error}");
    }
    let _runtime = open(domain(NEW).step(step("fill", 2))).expect("a good one");
    assert_eq!(open(domain(NEW)).expect_err("another declaration").kind(), ErrorKind::Conflict);
}

/// In a runtime that keeps nothing steps run as everywhere; jobs cannot touch their record.
#[test]
fn in_memory_too_and_out_of_reach_of_jobs() {
    let builder = Runtime::builder(Home::at("/nowhere")).domain(release()).limits(Limits::default());
    let runtime = builder.ephemeral().open().expect("a runtime");
    let database = runtime.database("work").expect("the domain");
    database.wait_for_steps(LONG).expect("done");
    let error = database.write(|tx| tx.execute("DELETE FROM rowhouse_steps", [])).expect_err("not a job's");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
