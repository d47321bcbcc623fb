//! From every released state of a database, the newest program reaches the schema that a fresh one has, and keeps the
//! rows; where it cannot, it says why and changes nothing.
//!
//! `tests/fixtures/released/<domain>_V<n>.sql` is what the release with that newest migration left on the disk, as text:
//! schema, history, marks, and rows. They are never edited; a release with a new migration adds one per domain.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rowhouse::rusqlite::Connection;
use rowhouse::rusqlite::types::Value;
use rowhouse::{Domain, Home, Migration, Runtime};

const FIXTURES: &str = "tests/fixtures/released";
/// A domain that has come further than the built-in ones.
const SAMPLE: &[Migration] = rowhouse::migrations!("tests/fixtures/migrations_sample");

fn domain(name: &str) -> Domain {
    match name {
        "state" => Domain::state(),
        "logs" => Domain::logs(),
        "goals" => Domain::goals(),
        "device_keys" => Domain::device_keys(),
        "sample" => Domain::new("sample").migrations(SAMPLE).program("shop", "10.0"),
        _ => panic!("no domain {name}"),
    }
}

/// Every fixture: domain, version, text.
fn released() -> Vec<(String, i64, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURES);
    let mut found: Vec<_> = fs::read_dir(folder)
        .expect("the fixtures")
        .map(|entry| {
            let path = entry.expect("a fixture").path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
            let (domain, version) = stem.rsplit_once("_V").expect("a domain and a version");
            let text = fs::read_to_string(&path).expect("a text");
            (domain.to_owned(), version.parse().expect("a number"), text)
        })
        .collect();
    found.sort();
    found
}

/// A home with one database as a release left it.
fn left_by_a_release(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let home = processes::folder();
    let file = home.path().join(format!("{name}.sqlite"));
    processes::plain(&file).execute_batch(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    (home, file)
}

/// Opens it with the newest program, waits until it is attached and its steps are done, and closes it; answers the
/// warnings.
fn upgrade(home: &Path, domain: Domain) -> rowhouse::Result<Vec<String>> {
    let name = domain.name().to_owned();
    let runtime = Runtime::builder(Home::at(home)).domain(domain).open()?;
    let database = runtime.database(&name)?;
    database.read(|at| at.row("SELECT 1", [], |row| row.get::<_, i64>(0)))?;
    database.wait_for_steps(std::time::Duration::from_mins(2))?;
    Ok(database.warnings())
}

fn texts(database: &Connection, sql: &str) -> Vec<String> {
    let mut statement = database.prepare(sql).expect(sql);
    let rows = statement.query_map([], |row| row.get(0)).expect(sql);
    rows.collect::<Result<_, _>>().expect(sql)
}

fn tables(database: &Connection) -> Vec<String> {
    texts(database, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
}

/// Everything that makes a schema: its objects with their text, and the columns of each table and index as SQLite
/// understands them.
fn schema(database: &Connection) -> BTreeSet<String> {
    let spaces = |sql: String| sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let objects =
        "SELECT type || ' ' || name || ' ' || tbl_name || ' ' || ifnull(sql, '') FROM sqlite_schema";
    let mut all: BTreeSet<String> = texts(database, objects).into_iter().map(spaces).collect();
    for table in tables(database) {
        for (pragma, columns) in [
            ("table_xinfo", "cid || name || type || \"notnull\" || ifnull(dflt_value, '-') || pk || hidden"),
            (
                "foreign_key_list",
                "id || seq || \"table\" || \"from\" || ifnull(\"to\", '-') || on_update || on_delete",
            ),
            ("index_list", "name || \"unique\" || origin || partial"),
        ] {
            let sql = format!("SELECT {columns} FROM pragma_{pragma}('{table}')");
            all.extend(texts(database, &sql).into_iter().map(|line| format!("{table} {pragma} {line}")));
        }
    }
    all
}

/// Every row of every table but the Migrator's: its values by column.
fn rows(database: &Connection) -> BTreeMap<String, Vec<BTreeMap<String, Value>>> {
    let mut all = BTreeMap::new();
    for table in tables(database) {
        if table == "rowhouse_meta" || table == "refinery_schema_history" || table.starts_with("sqlite_stat")
        {
            continue;
        }
        let mut statement = database.prepare(&format!("SELECT * FROM {table} ORDER BY 1")).expect("a table");
        let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
        let rows = statement
            .query_map([], |row| {
                let value = |(at, column): (usize, &String)| Ok((column.clone(), row.get(at)?));
                columns.iter().enumerate().map(value).collect()
            })
            .expect("rows");
        all.insert(table, rows.collect::<Result<_, _>>().expect("rows"));
    }
    all
}

/// What was there is still there: every old row is a row of today, in the columns that it had.
fn survived(before: &Connection, after: &Connection) -> Result<(), String> {
    let now = rows(after);
    for (table, old) in rows(before) {
        let new = now.get(&table).ok_or_else(|| format!("the table {table} is gone"))?;
        if old.len() != new.len() {
            return Err(format!("{table}: {} rows became {}", old.len(), new.len()));
        }
        for (old, new) in old.iter().zip(new) {
            if old.iter().any(|(column, value)| new.get(column) != Some(value)) {
                return Err(format!("{table}: {old:?} became {new:?}"));
            }
        }
    }
    Ok(())
}

/// Upgraded from any release, a database has the schema of a fresh one, to the letter, and every row that it had.
///
/// Scale: every released version of the four built-in domains, and two of a sample domain with three migrations.
/// Control: the same comparison tells a database apart that came another way: a column of another default, an index that
/// is missing, a row that is gone.
#[test]
fn m4_an_upgraded_schema_equals_a_fresh_one() {
    let mut seen = BTreeSet::new();
    for (name, version, text) in released() {
        let what = format!("{name}_V{version}");
        let (home, file) = left_by_a_release(&name, &text);
        let was = Connection::open_in_memory().expect("an in-memory database");
        was.execute_batch(&text).expect("the fixture");
        let warnings = upgrade(home.path(), domain(&name)).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(warnings, Vec::<String>::new(), "{what}");

        let empty = processes::folder();
        upgrade(empty.path(), domain(&name)).expect("a fresh one");
        let fresh = processes::plain(&empty.path().join(format!("{name}.sqlite")));
        let upgraded = processes::plain(&file);
        let (want, got) = (schema(&fresh), schema(&upgraded));
        let wrong: Vec<_> = want.symmetric_difference(&got).collect();
        assert!(wrong.is_empty(), "{what} is not as a fresh one: {wrong:#?}");
        survived(&was, &upgraded).unwrap_or_else(|error| panic!("{what}: {error}"));
        for pragma in ["auto_vacuum", "application_id", "journal_mode", "encoding"] {
            let value = |database: &Connection| {
                database.pragma_query_value(None, pragma, |row| row.get::<_, Value>(0)).expect(pragma)
            };
            assert_eq!(value(&upgraded), value(&fresh), "{what}: {pragma}");
        }
        assert_eq!(processes::integrity(&file), "ok", "{what}");
        seen.insert(what);
    }
    // A release without its fixture would not be looked at.
    for line in include_str!("../migrations_released.txt").lines().filter(|line| !line.starts_with('#')) {
        let (domain, rest) = line.split_once(' ').expect("domain name checksum");
        let (version, _) = rest.split_once("__").expect("a migration's name");
        let wanted = format!("{domain}_{version}");
        assert!(
            seen.contains(&wanted),
            "{FIXTURES}/{wanted}.sql is missing: what that release left, as text"
        );
    }

    let (_, _, text) =
        released().into_iter().find(|(name, version, _)| name == "sample" && *version == 2).expect("it");
    let (_, _, first) =
        released().into_iter().find(|(name, version, _)| name == "sample" && *version == 1).expect("it");
    let made = |text: &str, change: &str| {
        let database = Connection::open_in_memory().expect("an in-memory database");
        database.execute_batch(text).expect("the fixture");
        database.execute_batch(change).expect(change);
        database
    };
    let good = made(&text, "");
    let other = made(&first, "ALTER TABLE page ADD COLUMN fetched_at INTEGER NOT NULL DEFAULT 1");
    assert_ne!(schema(&good), schema(&other), "another default does not show");
    assert_ne!(schema(&good), schema(&made(&text, "CREATE INDEX i ON page(body)")), "an index does not show");
    assert!(survived(&good, &made(&text, "DELETE FROM page WHERE url = 'b'")).is_err());
    assert!(survived(&good, &made(&text, "UPDATE page SET body = 'x' WHERE url = 'b'")).is_err());
}

/// A database whose record says more than was done cannot reach the new schema: the open answers at once, with the
/// migration, its statement and what SQLite said, and nothing is changed, however often it is tried.
///
/// Scale: a history that claims a migration which was never run, opened twice.
/// Control: refinery's own runner leaves the same database with SQLite's text alone.
#[test]
fn m4_a_chain_that_cannot_reach_the_new_schema_says_so() {
    let (_, _, first) =
        released().into_iter().find(|(name, version, _)| name == "sample" && *version == 1).expect("it");
    let (_, _, second) =
        released().into_iter().find(|(name, version, _)| name == "sample" && *version == 2).expect("it");
    let record = second.lines().find(|line| line.contains("(2, 'fetched_at'")).expect("the record of V2");
    let (home, file) = left_by_a_release("sample", &format!("{first}\n{record}\n"));
    let before = (schema(&processes::plain(&file)), rows(&processes::plain(&file)));
    for _ in 0..2 {
        let error = upgrade(home.path(), domain("sample")).expect_err("V10 needs what V2 makes");
        let told = error.to_string();
        assert!(told.contains("sample: the migration V10__page_by_fetched_at, statement 1"), "{told}");
        assert!(told.contains("nothing was changed") && error.path() == Some(&*file), "{told}");
        let source = std::error::Error::source(&error).expect("what SQLite said").to_string();
        assert!(source.contains("no such column: fetched_at"), "{source}");
        let database = processes::plain(&file);
        assert_eq!((schema(&database), rows(&database)), before);
    }
    let migrations: Vec<_> = SAMPLE
        .iter()
        .map(|given| refinery_core::Migration::unapplied(given.name, given.sql).expect("a migration"))
        .collect();
    let control = refinery_core::Runner::new(&migrations).run(&mut processes::plain(&file));
    let told = control.expect_err("the control reaches it").to_string();
    println!("control: {told}");
    assert!(!told.contains("sample"), "the control names the database: {told}");
}
