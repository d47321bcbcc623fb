//! Many processes of a newer program that open an older database at once migrate it once, and all become ready.

mod processes;

use std::time::{Duration, Instant};

use processes::Child;
use rowhouse::{Domain, Home, Migration, Runtime};

const PROCESSES: usize = 16;
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
    let [_, home] = &arguments[..] else { panic!("a role and a home: {arguments:?}") };
    processes::ready();
    let began = Instant::now();
    let written = Runtime::builder(Home::at(home))
        .domain(Domain::new("work").migrations(&NEWER))
        .open()
        .and_then(|open| {
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

#[test]
fn upgrade_together() {
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
        let database = processes::plain(&processes::file(home.path()));
        let number = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
        assert_eq!(number("SELECT count(*) FROM refinery_schema_history"), 3);
        assert_eq!(number("SELECT schema_version FROM rowhouse_meta"), 3);
        assert_eq!(number("SELECT n FROM counter WHERE id = 2"), 100, "each migration ran once");
        assert_eq!(
            number("SELECT count(*) FROM item WHERE note = 'new'") as usize,
            PROCESSES - failures.len()
        );
    }
    println!("{rounds} rounds of {PROCESSES}: slowest open {:?}", Duration::from_micros(slowest));
    assert!(failures.is_empty(), "{failures:#?}");
}
