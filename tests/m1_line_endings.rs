//! One schema built from a checkout with CRLF and from one with LF is the same schema.

mod processes;

use std::path::Path;

use processes::Child;
use refinery_core::Runner;
use rowhouse::{Domain, Home, Migration, Runtime};

const UNIX: &[Migration] = rowhouse::migrations!("tests/fixtures/migrations_sample");
const DOS: &[Migration] = rowhouse::migrations!("tests/fixtures/migrations_crlf");
const BUILDS: [(&str, &[Migration]); 2] = [("unix", UNIX), ("dos", DOS)];

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [build, home] = &arguments[..] else { panic!("a build and a home: {arguments:?}") };
    let (_, migrations) = BUILDS.into_iter().find(|(name, _)| name == build).expect("a known build");
    processes::ready();
    let runtime = open(home.as_ref(), migrations);
    let database = runtime.database("cache").expect("the domain");
    let url = std::process::id().to_string();
    database.write(|tx| tx.execute("INSERT INTO page(url, body) VALUES (?1, '')", [&url])).expect("a row");
    processes::say(&format!("warnings {:?}", database.warnings()));
}

fn open(home: &Path, migrations: &[Migration]) -> Runtime {
    Runtime::builder(Home::at(home))
        .domain(Domain::new("cache").migrations(migrations))
        .open()
        .expect("either build opens it")
}

/// What a build leaves on the disk: the schema and the history, without the times.
fn content(home: &Path) -> Vec<String> {
    let database = processes::plain(&home.join("cache.sqlite"));
    let mut statement = database
        .prepare(
            "SELECT ifnull(sql, name) FROM sqlite_schema UNION ALL
             SELECT version || name || checksum FROM refinery_schema_history ORDER BY 1",
        )
        .expect("a query");
    let rows = statement.query_map([], |row| row.get(0)).expect("rows");
    rows.collect::<Result<_, _>>().expect("texts")
}

/// refinery's own runner, which hashes the text as it is: `theirs` on what `ours` made.
fn plain(ours: &[Migration], theirs: &[Migration]) -> Result<(), String> {
    let folder = processes::folder();
    let mut connection = processes::plain(&folder.path().join("plain.sqlite"));
    [ours, theirs].into_iter().try_for_each(|build| {
        let migrations: Vec<_> = build
            .iter()
            .map(|given| refinery_core::Migration::unapplied(given.name, given.sql).expect("a migration"))
            .collect();
        Runner::new(&migrations).run(&mut connection).map(drop).map_err(|error| error.to_string())
    })
}

/// Line endings are normalised before a migration is hashed or run, so builds of either checkout make the same database
/// and use each other's at the same time, without a warning.
///
/// Scale: each build on a home of the other, then 4 processes of both at once; files with CRLF on the disk, through
/// `migrations!`.
/// Control: refinery's own runner, which hashes the text as it is, refuses the other build's database.
#[test]
fn m1_line_endings_do_not_count() {
    assert!(DOS.iter().all(|migration| migration.sql.contains("\r\n")), "the fixtures have lost their CRLF");
    assert!(UNIX.iter().all(|migration| !migration.sql.contains('\r')));
    let mut made = Vec::new();
    for ((_, first), (_, second)) in [(BUILDS[0], BUILDS[1]), (BUILDS[1], BUILDS[0])] {
        let home = processes::folder();
        drop(open(home.path(), first));
        made.push(content(home.path()));
        let runtime = open(home.path(), second);
        let database = runtime.database("cache").expect("the domain");
        assert_eq!(database.warnings(), Vec::<String>::new());
        drop((database, runtime));
        assert_eq!(content(home.path()), made[0], "the second build changed something");

        let mut children: Vec<_> =
            [0, 1, 0, 1].map(|build| Child::start(BUILDS[build].0, &[processes::text(home.path())])).into();
        processes::start_together(&mut children);
        for child in children {
            assert_eq!(child.wait_for("warnings"), "[]");
            child.finish();
        }
        let control = plain(first, second).expect_err("the control accepts the other build's database");
        println!("control: {control}");
        plain(first, first).expect("the control works with its own");
    }
    assert_eq!(made[0], made[1], "the two builds make different databases");
}
