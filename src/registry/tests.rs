#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

use std::fs::File;
use std::os::unix::fs::symlink;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::*;

fn entry(name: &str, schema_version: i64) -> RegistryEntry {
    RegistryEntry {
        name: name.to_owned(),
        role: Role::BestEffort,
        durability: Durability::Normal,
        schema_version,
        program: Some(("example".to_owned(), "1.2.3".to_owned())),
        written_at: None,
    }
}

fn home() -> (tempfile::TempDir, Home, RuntimeDbRegistry) {
    let root = tempfile::tempdir().expect("a folder");
    let home = Home::at(root.path().join("a home, 50% ?#é"));
    let registry = RuntimeDbRegistry::new(&home);
    (root, home, registry)
}

fn content(home: &Home) -> Value {
    let text = fs::read_to_string(home.path().join("registry.json")).expect("a registry");
    serde_json::from_str(&text).expect("JSON")
}

fn entries_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("a list")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[allow(clippy::disallowed_methods, reason = "a test's own database")]
fn migrated(path: &Path) -> Connection {
    let connection = Connection::open(path).expect("a database");
    connection
        .execute_batch(
            "PRAGMA application_id = 7; PRAGMA journal_mode = WAL;
             CREATE TABLE refinery_schema_history(version INTEGER PRIMARY KEY, name TEXT, applied_on TEXT, checksum TEXT);
             INSERT INTO refinery_schema_history(version) VALUES (1), (4), (3);
             CREATE TABLE rowhouse_meta(id INTEGER PRIMARY KEY CHECK (id = 1), domain TEXT NOT NULL,
                schema_version INTEGER NOT NULL, oldest_reader INTEGER NOT NULL, oldest_writer INTEGER NOT NULL,
                program TEXT NOT NULL, program_version TEXT NOT NULL, written_at TEXT NOT NULL);
             INSERT INTO rowhouse_meta VALUES (1, 'state', 4, 1, 2, 'example', '1.2.3', '2030-01-01T00:00:00Z');",
        )
        .expect("a schema");
    connection
}

#[test]
fn a_home_that_does_not_exist_has_no_databases_and_is_not_created() {
    let (_root, home, registry) = home();
    assert_eq!(registry.survey().expect("listed"), Survey::default());
    assert_eq!(registry.processes().expect("listed"), []);
    assert_eq!(registry.holder("state").expect("looked"), None);
    assert_eq!(registry.inspect("state").expect_err("nothing").kind(), ErrorKind::NotFound);
    assert!(!home.path().exists());
}

#[test]
fn declared_and_found_databases_are_listed_with_their_sizes() {
    let (_root, home, registry) = home();
    registry.record(&entry("state", 3)).expect("recorded");
    let at = |name: &str| home.path().join(name);
    for (name, bytes) in
        [("state.sqlite", 5), ("state.sqlite-wal", 7), ("state.sqlite-shm", 9), ("x.sqlite", 1)]
    {
        fs::write(at(name), vec![0; bytes]).expect("written");
    }
    registry.record(&entry("gone", 1)).expect("recorded");
    let found = registry.list().expect("listed");
    let names: Vec<_> = found.iter().map(|database| &*database.name).collect();
    assert_eq!(names, ["gone", "state", "x"]);
    assert!(!found[0].present && found[1].present && found[2].present);
    assert_eq!((found[1].main_bytes, found[1].wal_bytes, found[1].shm_bytes), (5, 7, 9));
    assert_eq!((found[1].role, found[1].durability), (Some(Role::BestEffort), Some(Durability::Normal)));
    assert_eq!((found[1].schema_version, found[1].program.as_deref()), (Some(3), Some("example")));
    assert!(found[1].written_at.as_ref().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()));
    assert_eq!((found[2].role, found[2].schema_version), (None, None));
    let json = serde_json::to_value(&found[1]).expect("JSON");
    assert_eq!((&json["role"], &json["wal_bytes"]), (&json!("best_effort"), &json!(7)));
}

#[test]
fn names_that_lead_elsewhere_are_warnings() {
    let (root, home, registry) = home();
    home.prepare().expect("a home");
    fs::write(
        home.path().join("registry.json"),
        r#"{"databases": {"../x": {"role": "required"}, "logs": {}}}"#,
    )
    .expect("written");
    fs::write(home.path().join("My.db.sqlite"), "").expect("written");
    fs::write(root.path().join("elsewhere"), "").expect("written");
    symlink(root.path().join("elsewhere"), home.path().join("state.sqlite")).expect("a link");
    let found = registry.survey().expect("listed");
    assert_eq!(found.databases.len(), 2);
    assert_eq!(found.warnings.len(), 3, "{:?}", found.warnings);
    assert_eq!(registry.inspect("state").expect_err("a link").kind(), ErrorKind::Invalid);
    assert_eq!(registry.inspect("../elsewhere").expect_err("no name").kind(), ErrorKind::Invalid);
}

#[test]
fn recording_keeps_what_others_wrote() {
    let (_root, home, registry) = home();
    home.prepare().expect("a home");
    let theirs = json!({
        "format": 9,
        "databases": {"theirs": {"role": "required", "program": "other"}, "state": {"role": "required", "note": [1]}},
    });
    fs::write(home.path().join("registry.json"), theirs.to_string()).expect("written");
    registry.record_all(&[entry("state", 3), entry("logs", 1)]).expect("recorded");
    let now = content(&home);
    assert_eq!(now["format"], 9);
    assert_eq!(now["databases"]["theirs"], theirs["databases"]["theirs"]);
    assert_eq!(now["databases"]["state"]["note"], json!([1]));
    assert_eq!(now["databases"]["state"]["role"], "best_effort");
    assert_eq!(now["databases"]["logs"]["program_version"], "1.2.3");
}

#[test]
fn recording_the_same_again_changes_and_locks_nothing() {
    let (_root, home, registry) = home();
    registry.record(&entry("state", 3)).expect("recorded");
    let before = content(&home);
    let lock = File::open(home.path().join("locks/registry.lock")).expect("the lock file");
    lock.lock().expect("locked");
    registry.record(&entry("state", 3)).expect("nothing to do");
    assert_eq!(content(&home), before);
    let error = registry.record(&entry("state", 4)).expect_err("locked");
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(cfg!(not(target_os = "linux")) || error.holder().is_some(), "{error}");
    drop(lock);
    let timed = RegistryEntry { written_at: Some("2030-01-01T00:00:00Z".to_owned()), ..entry("state", 4) };
    registry.record(&timed).expect("recorded");
    assert_eq!(content(&home)["databases"]["state"]["written_at"], "2030-01-01T00:00:00Z");
}

#[test]
fn many_threads_record_at_once_and_none_is_lost() {
    let (_root, home, registry) = home();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let registry = &registry;
            scope.spawn(move || registry.record(&entry(&format!("d{number}"), 1)).expect("recorded"));
        }
    });
    assert_eq!(content(&home)["databases"].as_object().map(serde_json::Map::len), Some(8));
}

#[test]
fn a_damaged_registry_is_a_warning_and_is_set_aside() {
    let (_root, home, registry) = home();
    home.prepare().expect("a home");
    fs::write(home.path().join("state.sqlite"), "").expect("written");
    let file = home.path().join("registry.json");
    for (number, damage) in ["", "{\"databases\": {", "[]", "{\"databases\": [1]}"].iter().enumerate() {
        fs::write(&file, damage).expect("written");
        let found = registry.survey().expect("listed");
        assert_eq!((found.databases.len(), found.warnings.len()), (1, 1), "{damage}");
        assert!(found.warnings[0].contains("registry.json"), "{:?}", found.warnings);
        registry.record(&entry("state", 1)).expect("recorded");
        let aside = home.path().join(format!("registry.json.bad-{}", number + 1));
        assert_eq!(fs::read_to_string(aside).expect("kept"), *damage);
        assert_eq!(registry.survey().expect("listed").warnings, Vec::<String>::new());
    }
}

#[test]
fn an_inspection_tells_what_is_there_and_leaves_no_file() {
    let (_root, home, registry) = home();
    let path = home.prepare().expect("a home").database_path("state");
    let connection = migrated(&path);
    let open = registry.inspect("state").expect("inspected while open");
    connection.close().expect("closed");
    let before = entries_in(home.path());
    assert_eq!(before, ["locks", "run", "state.sqlite"]);
    let closed = registry.inspect("state").expect("inspected");
    assert_eq!(entries_in(home.path()), before);
    assert_eq!(open, closed);
    assert_eq!((closed.schema_version, closed.application_id, &*closed.journal_mode), (Some(4), 7, "wal"));
    assert_eq!((closed.page_size, closed.freelist_count), (4096, 0));
    assert!(closed.page_count >= 3);
    let meta = closed.meta.expect("a row");
    assert_eq!((&*meta.domain, meta.oldest_reader, meta.oldest_writer), ("state", 1, 2));
}

#[test]
fn an_inspection_sees_what_is_only_in_the_log_and_passes_a_writer() {
    let (_root, home, registry) = home();
    let path = home.prepare().expect("a home").database_path("state");
    let connection = migrated(&path);
    connection
        .execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA wal_checkpoint(TRUNCATE);")
        .expect("empty log");
    connection.execute_batch("INSERT INTO refinery_schema_history(version) VALUES (9)").expect("written");
    connection
        .execute_batch("BEGIN IMMEDIATE; INSERT INTO refinery_schema_history(version) VALUES (10)")
        .expect("begun");
    assert_eq!(registry.inspect("state").expect("inspected").schema_version, Some(9));
    connection.execute_batch("COMMIT").expect("the writer kept its lock");
    assert_eq!(registry.inspect("state").expect("inspected").schema_version, Some(10));
}

#[test]
fn what_is_no_database_is_told_and_evidence_stays() {
    let (_root, home, registry) = home();
    let path = home.prepare().expect("a home").database_path("state");
    fs::write(&path, "x".repeat(8192)).expect("written");
    let error = registry.inspect("state").expect_err("no database");
    assert_eq!((error.kind(), error.database()), (ErrorKind::Corrupt, Some("state")));
    fs::write(&path, "").expect("written");
    let empty = registry.inspect("state").expect("an empty file is an empty database");
    assert_eq!((empty.schema_version, empty.meta, empty.page_count), (None, None, 0));
    // One too short for a frame holds nothing.
    for (frames, is_lost) in [("frame".to_owned(), false), ("frames".repeat(100), true)] {
        fs::write(with_ending(&path, "-wal"), &frames).expect("written");
        fs::write(with_ending(&path, "-shm"), vec![0; 32768]).expect("written");
        let refused = [
            registry.inspect("state").map(drop),
            registry.table_sizes("state", Duration::from_secs(20)).map(drop),
            inspect::steps(&path).map(drop),
        ];
        for answer in refused {
            let kind = answer.err().map(|error| error.kind());
            assert_eq!(kind == Some(ErrorKind::Corrupt), is_lost, "{kind:?}");
        }
        assert_eq!(fs::read_to_string(with_ending(&path, "-wal")).expect("kept"), frames);
    }
}

#[test]
fn a_log_without_its_index_is_read_from_a_copy() {
    let (root, home, registry) = home();
    let elsewhere = root.path().join("state.sqlite");
    let connection = migrated(&elsewhere);
    connection
        .execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA wal_checkpoint(TRUNCATE);")
        .expect("empty log");
    connection.execute_batch("INSERT INTO refinery_schema_history(version) VALUES (9)").expect("written");
    let path = home.prepare().expect("a home").database_path("state");
    for ending in ["", "-wal"] {
        fs::copy(with_ending(&elsewhere, ending), with_ending(&path, ending)).expect("copied");
    }
    drop(connection);
    assert_eq!(registry.inspect("state").expect("inspected").schema_version, Some(9));
    assert_eq!(entries_in(home.path()), ["locks", "run", "state.sqlite", "state.sqlite-wal"]);
}
