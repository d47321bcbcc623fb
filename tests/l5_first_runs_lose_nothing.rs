//! First runs of many processes at once: who ends well has written its row, who did not says which.

mod processes;

use std::collections::BTreeSet;
use std::path::Path;

use processes::{Child, SCHEMA};
use rowhouse::{Domain, Home, Runtime};

const PROCESSES: i64 = 24;
/// The control ends with its first loss; it would fail the test after this many rounds without one.
const MOST_PLAIN_ROUNDS: usize = 400;
const INSERT: &str = "INSERT INTO item(job, part) VALUES (?1, 0)";
/// A row that the schema refuses.
const INSERT_BAD: &str = "INSERT INTO item(job, part) VALUES (?1, NULL)";

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match &arguments[..] {
        [role, home, row] if role == "first" => first_run(home.as_ref(), row, INSERT),
        [role, home, row] if role == "bad" => first_run(home.as_ref(), row, INSERT_BAD),
        [role, folder, row] if role == "plain" => plain_runs(folder.as_ref(), row),
        _ => panic!("a role, a folder and a row: {arguments:?}"),
    }
}

/// A program's first run: opens everything, writes its row, and ends with what came out.
fn first_run(home: &Path, row: &str, insert: &str) {
    processes::ready();
    let number: i64 = row.parse().expect("a row");
    let written = Runtime::builder(Home::at(home))
        .agent_domains()
        .domain(Domain::new("work").migrations(SCHEMA))
        .open()
        .and_then(|runtime| runtime.database("work")?.write(|tx| tx.execute(insert, [number])));
    match written {
        Ok(_) => processes::say(&format!("wrote {row}")),
        Err(error) => {
            processes::say(&format!("row {row} was not written: {error}"));
            std::process::exit(1);
        }
    }
}

/// One round on a fresh home. Answers the rows of those that ended well, and what the others said.
fn round() -> (BTreeSet<i64>, Vec<String>) {
    let home = processes::folder();
    let mut children: Vec<_> = (0..=PROCESSES)
        .map(|row| {
            let role = if row == PROCESSES { "bad" } else { "first" };
            Child::start(role, &[processes::text(home.path()), &row.to_string()])
        })
        .collect();
    processes::start_together(&mut children);
    let (mut wrote, mut failed) = (BTreeSet::new(), Vec::new());
    for (row, child) in (0..).zip(children) {
        let (said, status) = child.end();
        match said.as_slice() {
            [line] if status.success() => {
                assert_eq!(*line, format!("wrote {row}"));
                wrote.insert(row);
            }
            [line] if status.code() == Some(1) => {
                assert!(line.starts_with(&format!("row {row} was not written: work: ")), "{line}");
                failed.push(line.clone());
            }
            _ => panic!("process {row} ended with {status} and said {said:?}"),
        }
    }
    let plain = processes::plain(&processes::file(home.path()));
    let mut rows = plain.prepare("SELECT job FROM item").expect("the table");
    let rows = rows.query_map([], |row| row.get(0)).expect("the rows").map(|row| row.expect("a row"));
    let rows: Vec<i64> = rows.collect();
    assert_eq!(rows.len(), wrote.len(), "rows: {rows:?}, processes that ended well: {wrote:?}");
    assert_eq!(rows.into_iter().collect::<BTreeSet<_>>(), wrote);
    (wrote, failed)
}

/// As programs do it by hand: whoever opens first creates, and an error while saving is not worth failing for.
fn plain_runs(folder: &Path, row: &str) {
    processes::say("ready");
    loop {
        let round = processes::listen();
        if round.is_empty() {
            return;
        }
        let connection = processes::plain(&folder.join(round));
        let _ = connection
            .execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA busy_timeout=5000; CREATE TABLE IF NOT EXISTS t(x);",
            )
            .and_then(|()| connection.execute("INSERT INTO t VALUES (?1)", [row]));
        processes::say("ended well");
    }
}

/// Rounds until rows were lost: how many rounds, and how many rows.
fn plain_losses() -> (usize, i64) {
    let folder = processes::folder();
    let mut children: Vec<_> = (0..PROCESSES)
        .map(|row| Child::start("plain", &[processes::text(folder.path()), &row.to_string()]))
        .collect();
    for child in &children {
        child.wait_for("ready");
    }
    for round in 1..=MOST_PLAIN_ROUNDS {
        let name = format!("{round}.sqlite");
        for child in &mut children {
            child.tell(&name);
        }
        for child in &children {
            assert_eq!(child.line().as_deref(), Some("ended well"));
        }
        let rows: i64 = processes::plain(&folder.path().join(name))
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .expect("a count");
        if rows < PROCESSES {
            return (round, PROCESSES - rows);
        }
    }
    (MOST_PLAIN_ROUNDS, 0)
}

/// A write that was acknowledged is there, and one that was not is an error that the program cannot overlook: after
/// every first run together the rows are those of the processes that ended well.
///
/// Scale: 24 processes on a fresh home, 3 rounds (`ROWHOUSE_TEST_ROUNDS=50` for more); in each round one more, whose
/// row the schema refuses, ends with 1 and names it.
/// Control: plain connections that create the database themselves and swallow the error end well without their row.
#[test]
fn l5_first_runs_lose_nothing() {
    let rounds = processes::rounds(3);
    for _ in 0..rounds {
        let (wrote, failed) = round();
        assert_eq!(wrote.len() as i64, PROCESSES, "{failed:?}");
        assert!(matches!(&failed[..], [line] if line.contains("item.part")), "{failed:?}");
    }
    let (plain_rounds, lost) = plain_losses();
    println!("{rounds} rounds of {PROCESSES}: nothing lost; plain: {lost} rows lost in round {plain_rounds}");
    assert!(lost > 0, "the control never loses a row: the runs do not collide");
}
