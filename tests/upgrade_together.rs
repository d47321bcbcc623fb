//! Many processes of a newer program that open an older database at once migrate it once, and all become ready; one that
//! is killed in the middle leaves nothing half done.

mod processes;

use std::path::Path;
use std::time::{Duration, Instant};

use processes::Child;
use rowhouse::rusqlite::hooks::Action;
use rowhouse::{Domain, Home, Migration, Runtime};

const PROCESSES: usize = 16;
/// The control ends at its first failures; it would fail the test after this many rounds without one.
const MOST_PLAIN_ROUNDS: usize = 50;
/// A second version that would fail, or show, if it ran twice.
const NEWER: [Migration; 3] = [
    processes::SCHEMA[0],
    Migration {
        name: "V2__note",
        sql: "ALTER TABLE item ADD COLUMN note TEXT; INSERT INTO counter VALUES (2, 0);",
    },
    Migration { name: "V3__bump", sql: "UPDATE counter SET n = n + 100 WHERE id = 2;" },
];

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match &arguments[..] {
        [role, home] if role == "open" => {
            processes::ready();
            open(home.as_ref(), newer());
        }
        [role, home] if role == "open at once" => open(home.as_ref(), newer()),
        [role, home] if role == "stuck" => open(home.as_ref(), stuck()),
        [role, folder] if role == "plain" => plain(folder.as_ref()),
        [role, file] if role == "plain, stuck" => {
            let database = processes::plain(file.as_ref());
            database.execute_batch(NEWER[1].sql).expect("migrated");
            processes::say("inside");
            processes::listen();
        }
        _ => panic!("a role and a home: {arguments:?}"),
    }
}

fn newer() -> Domain {
    Domain::new("work").migrations(&NEWER)
}

/// The same; it stops in the middle of V3, with V2 and half of V3 done in its transaction.
fn stuck() -> Domain {
    newer().on_connect(|connection| {
        connection.update_hook(Some(|action: Action, _: &str, table: &str, _| {
            if action == Action::SQLITE_UPDATE && table == "counter" {
                processes::say("inside");
                processes::listen();
            }
        }))
    })
}

/// Opens, writes a row, and says how long the opening took.
fn open(home: &Path, domain: Domain) {
    let began = Instant::now();
    let written = Runtime::builder(Home::at(home)).domain(domain).open().and_then(|open| {
        let took = began.elapsed();
        let row = "INSERT INTO item(job, part, note) VALUES (?1, 0, 'new')";
        open.database("work")?.write(|tx| tx.execute(row, [std::process::id()]))?;
        Ok(took)
    });
    match written {
        Ok(took) => processes::say(&format!("fine {}", took.as_micros())),
        Err(error) => processes::say(&format!("failed {error:?}")),
    }
}

/// As programs do it by hand: look at the version, then alter, each statement patient with locks.
fn plain(folder: &Path) {
    processes::say("ready");
    loop {
        let round = processes::listen();
        if round.is_empty() {
            return;
        }
        let database = processes::plain(&folder.join(round));
        let migrate = || -> rowhouse::rusqlite::Result<()> {
            database.busy_timeout(Duration::from_secs(20))?;
            let version: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            if version < 2 {
                database.execute_batch(&format!("{} PRAGMA user_version = 2;", NEWER[1].sql))?;
            }
            Ok(())
        };
        match migrate() {
            Ok(()) => processes::say("fine"),
            Err(error) => processes::say(&format!("failed {error}")),
        }
    }
}

/// An older database, as a plain program has it.
fn plain_older(file: &Path) {
    let database = processes::plain(file);
    database.pragma_update(None, "journal_mode", "wal").expect("WAL");
    database.execute_batch(NEWER[0].sql).expect("the tables");
}

/// Rounds until one fails; how many, and the first failure.
fn plain_failure() -> (usize, Option<String>) {
    let folder = processes::folder();
    let mut children: Vec<_> =
        (0..PROCESSES).map(|_| Child::start("plain", &[processes::text(folder.path())])).collect();
    for child in &children {
        child.wait_for("ready");
    }
    for round in 1..=MOST_PLAIN_ROUNDS {
        let name = format!("{round}.sqlite");
        plain_older(&folder.path().join(&name));
        for child in &mut children {
            child.tell(&name);
        }
        let answers: Vec<_> = children.iter().map(|child| child.line().expect("an answer")).collect();
        if let Some(failed) = answers.into_iter().find(|answer| answer != "fine") {
            return (round, Some(failed));
        }
    }
    (MOST_PLAIN_ROUNDS, None)
}

/// Every migration is there, ran once, and is recorded once; and this many processes wrote.
fn check(home: &Path, wrote: usize) {
    let database = processes::plain(&processes::file(home));
    let number = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
    assert_eq!(number("SELECT count(*) FROM refinery_schema_history"), 3);
    assert_eq!(number("SELECT schema_version FROM rowhouse_meta"), 3);
    assert_eq!(number("SELECT n FROM counter WHERE id = 2"), 100, "each migration ran once");
    assert_eq!(number("SELECT count(*) FROM item WHERE note = 'new'") as usize, wrote);
    assert_eq!(processes::integrity(&processes::file(home)), "ok");
}

/// One process migrates under the init lock, in one transaction with the history; the others look again and find it done:
/// no start fails, and each migration is applied once.
///
/// Scale: 16 processes, 5 rounds (`ROWHOUSE_TEST_ROUNDS=100` for more).
/// Control: 16 plain programs that look at the version and then alter fail with "duplicate column name".
#[test]
fn s3_upgrade_together() {
    let (mut failures, mut slowest) = (Vec::new(), 0);
    let rounds = processes::rounds(5);
    for _ in 0..rounds {
        let home = processes::folder();
        drop(processes::open(home.path()));
        let mut children: Vec<_> =
            (0..PROCESSES).map(|_| Child::start("open", &[processes::text(home.path())])).collect();
        processes::start_together(&mut children);
        for child in &children {
            let line = child.line().expect("an answer");
            match line.strip_prefix("fine ") {
                Some(took) => slowest = slowest.max(took.parse().expect("microseconds")),
                None => failures.push(line),
            }
        }
        children.into_iter().for_each(Child::finish);
        check(home.path(), PROCESSES - failures.len());
    }
    println!("{rounds} rounds of {PROCESSES}: slowest open {:?}", Duration::from_micros(slowest));
    assert!(failures.is_empty(), "{failures:#?}");
    let (plain_rounds, control) = plain_failure();
    println!("control: {control:?} in round {plain_rounds}");
    assert!(control.is_some_and(|told| told.contains("duplicate column name")), "the starts do not collide");
}

/// A migrator that is killed in the middle leaves nothing: whoever waits behind it, and whoever comes later, does all of
/// it.
///
/// Scale: killed in the second of two migrations while 4 processes start behind it, 3 rounds (`ROWHOUSE_TEST_ROUNDS`).
/// Control: where a migration and its record are two commits, the next start fails with "duplicate column name" for ever.
#[test]
fn s3_a_migrator_killed_in_the_middle_leaves_nothing() {
    const WAITING: usize = 4;
    for _ in 0..processes::rounds(3) {
        let home = processes::folder();
        drop(processes::open(home.path()));
        let mut killed = Child::start("stuck", &[processes::text(home.path())]);
        killed.wait_for("inside");
        let waiting: Vec<_> =
            (0..WAITING).map(|_| Child::start("open at once", &[processes::text(home.path())])).collect();
        killed.kill();
        for child in waiting {
            child.wait_for("fine");
            child.finish();
        }
        let last = Child::start("open at once", &[processes::text(home.path())]);
        last.wait_for("fine");
        last.finish();
        check(home.path(), WAITING + 1);
    }

    let folder = processes::folder();
    let file = folder.path().join("plain.sqlite");
    plain_older(&file);
    let mut killed = Child::start("plain, stuck", &[processes::text(&file)]);
    killed.wait_for("inside");
    killed.kill();
    for _ in 0..2 {
        let control = processes::plain(&file).execute_batch(NEWER[1].sql).expect_err("the control goes on");
        assert!(control.to_string().contains("duplicate column name"), "{control}");
    }
}
