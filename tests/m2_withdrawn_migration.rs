//! What was released stays as it was: checked against a committed list. Where it happened nevertheless, the database
//! opens, and says so.

mod processes;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use refinery_core::Runner;
use rowhouse::{Domain, Error, ErrorKind, Home, Migration, Runtime};

/// Every migration of the built-in domains that was ever in a release.
const RELEASED: &str = include_str!("../migrations_released.txt");
const BUILT_IN: [(&str, &[Migration]); 4] = [
    ("state", rowhouse::migrations!("migrations_state")),
    ("logs", rowhouse::migrations!("migrations_logs")),
    ("goals", rowhouse::migrations!("migrations_goals")),
    ("device_keys", rowhouse::migrations!("migrations_device_keys")),
];

/// The line of the list for a migration, with refinery's checksum of its text with the line endings of Unix.
fn line(domain: &str, migration: &Migration) -> String {
    let text = migration.sql.replace("\r\n", "\n");
    let checksum =
        refinery_core::Migration::unapplied(migration.name, &text).expect("a migration").checksum();
    format!("{domain} {} {checksum}", migration.name)
}

/// What is wrong between the list and the migrations, each with what to do.
fn problems(released: &str, domains: &[(&str, &[Migration])]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut listed = BTreeMap::new();
    for entry in released.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let [domain, name, _] = entry.split(' ').collect::<Vec<_>>()[..] else {
            problems.push(format!("`{entry}` is not `domain name checksum`"));
            continue;
        };
        if listed.insert((domain, name), entry).is_some() {
            problems.push(format!("{domain} {name} is listed twice"));
        }
    }
    for (domain, migrations) in domains {
        for migration in *migrations {
            let now = line(domain, migration);
            match listed.remove(&(*domain, migration.name)) {
                Some(then) if then == now => {}
                Some(_) => problems.push(format!(
                    "{domain} {}: its text was changed after its release; put the old text back, and make the change \
                     a migration of its own with the next number",
                    migration.name
                )),
                None => problems.push(format!("not in the list yet; append this line to it: {now}")),
            }
        }
    }
    problems.extend(listed.keys().map(|(domain, name)| {
        format!(
            "{domain} {name} was released and is gone, or has another number or name; put it back as it was, and undo \
             what it does in a migration of its own with the next number"
        )
    }));
    problems
}

fn open(home: &Path, migrations: &[Migration]) -> rowhouse::Result<Runtime> {
    Runtime::builder(Home::at(home)).domain(Domain::new("cache").migrations(migrations)).open()
}

const V1: Migration = Migration { name: "V1__page", sql: "CREATE TABLE page(url TEXT PRIMARY KEY)" };
const V2: Migration = Migration { name: "V2__seen", sql: "ALTER TABLE page ADD COLUMN seen INTEGER" };
const V2_AGAIN: Migration = Migration { name: "V2__body", sql: "ALTER TABLE page ADD COLUMN body TEXT" };
const V3: Migration = Migration { name: "V3__by_url", sql: "CREATE INDEX by_url ON page(url)" };

/// A home that a release with V1 and V2 left, with a row.
fn left_by_a_release() -> tempfile::TempDir {
    let home = processes::folder();
    let runtime = open(home.path(), &[V1, V2]).expect("the release opens");
    let database = runtime.database("cache").expect("the domain");
    database.write(|tx| tx.execute("INSERT INTO page VALUES ('a', 1)", [])).expect("a row");
    home
}

/// refinery's own runner on what the release left.
fn plain(home: &Path, migrations: &[Migration]) -> Result<(), String> {
    let mut connection = processes::plain(&home.join("cache.sqlite"));
    let migrations: Vec<_> = migrations
        .iter()
        .map(|given| refinery_core::Migration::unapplied(given.name, given.sql).expect("a migration"))
        .collect();
    Runner::new(&migrations).run(&mut connection).map(drop).map_err(|error| error.to_string())
}

/// A released migration that is not among the program's any more, or has another text, is a warning: the database opens,
/// has its rows, and takes new ones.
///
/// Scale: withdrawn, withdrawn with later ones, and its number used again; one database each.
/// Control: refinery's own runner refuses all three at every start.
#[test]
fn m2_a_withdrawn_migration_does_not_stop_a_start() {
    let gone = "the migration V2__seen was applied, and is not among this program's";
    let changed = "the migration V2__body was changed after it was applied";
    for (what, now, told) in [
        ("withdrawn", &[V1][..], None),
        ("withdrawn, and the next one added", &[V1, V3], Some(gone)),
        ("its number used again", &[V1, V2_AGAIN, V3], Some(changed)),
    ] {
        let home = left_by_a_release();
        let control = plain(home.path(), now).expect_err("the control accepts it");
        println!("control, {what}: {control}");
        for start in ["first", "second"] {
            let runtime = open(home.path(), now).unwrap_or_else(|error| panic!("{what}: {error}"));
            let database = runtime.database("cache").expect("the domain");
            let warnings = database.warnings();
            if let Some(told) = told {
                assert!(warnings.iter().any(|warning| warning == told), "{what}: {warnings:?}");
            }
            database
                .write(|tx| tx.execute("INSERT INTO page(url) VALUES (?1)", [start]))
                .expect("it takes rows");
            let seen: i64 = database
                .read(|at| at.row("SELECT seen FROM page WHERE url = 'a'", [], |row| row.get(0)))
                .expect("the old row with its column");
            assert_eq!(seen, 1);
        }
    }
}

/// A migration that is missing below an applied one is an error that names both, and changes nothing.
#[test]
fn a_gap_is_an_error() {
    let home = processes::folder();
    drop(open(home.path(), &[V1, V3]).expect("the release opens"));
    let error: Error = open(home.path(), &[V1, V2, V3]).map(drop).expect_err("a gap");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("V2__seen was never applied, although V3 was"), "{error}");
    open(home.path(), &[V1, V3]).expect("the release still opens");
}

/// The build fails when a released migration was changed, renumbered or removed, or when a new one is not in the list.
///
/// Scale: every migration of the four built-in domains, against `migrations_released.txt`.
/// Control: the same check reports a changed text, a removed migration, a new number and a missing line.
#[test]
fn m2_released_migrations_stay_as_they_were() {
    let found = problems(RELEASED, &BUILT_IN);
    assert!(found.is_empty(), "migrations_released.txt:\n{}", found.join("\n"));

    let released = BUILT_IN.iter().fold(String::new(), |mut text, (domain, migrations)| {
        for migration in *migrations {
            writeln!(text, "{}", line(domain, migration)).expect("a String takes all");
        }
        text
    });
    assert_eq!(problems(&released, &BUILT_IN), Vec::<String>::new(), "the list is what the check computes");
    for (domain, migrations) in BUILT_IN {
        let report = |now: &[Migration]| {
            let changed: Vec<_> =
                BUILT_IN.iter().map(|&(name, was)| (name, if name == domain { now } else { was })).collect();
            problems(&released, &changed).join("\n")
        };
        let with = |change: fn(&mut Vec<Migration>)| {
            let mut now = migrations.to_vec();
            change(&mut now);
            report(&now)
        };
        assert_eq!(report(migrations), "");
        let changed = with(|now| now[0].sql = format!("{} ", now[0].sql).leak());
        assert!(changed.contains("its text was changed after its release"), "{changed}");
        let removed = with(|now| now.truncate(now.len() - 1));
        assert!(removed.contains("was released and is gone"), "{removed}");
        let renumbered = with(|now| now[0].name = now[0].name.replacen("V1", "V9", 1).leak());
        assert!(renumbered.contains("was released and is gone"), "{renumbered}");
        let added = with(|now| now.push(Migration { name: "V9__new", sql: "SELECT 1" }));
        assert!(added.contains("append this line to it:") && added.contains("V9__new"), "{added}");
    }
}
