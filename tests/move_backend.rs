//! A home's data goes to a server and back, row by row the same, and at every moment exactly one side counts: whoever is
//! killed, whoever writes meanwhile, whatever is wrong.
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod engines;
mod processes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use engines::server::{self, shared};
use processes::{Child, Numbers, folder, plain, text};
use rowhouse::rollout::{Item, NewRollout};
use rowhouse::rusqlite::types::Value;
use rowhouse::stores::ThreadFacts;
use rowhouse::stores::goals::NewGoal;
use rowhouse::stores::threads::ThreadSearch;
use rowhouse::{
    Backend, Builder, Domain, Error, ErrorKind, Home, MoveOptions, MoveReport, MoveStep, Result, Runtime,
    ThreadQuery, Unholdable,
};

fn id(number: u64) -> String {
    format!("019cadf1-7a5e-7b04-8f21-{number:012x}")
}

fn builder(home: &Path) -> Builder {
    Runtime::builder(Home::at(home)).domain(Domain::state()).domain(Domain::goals())
}

fn open(home: &Path) -> Runtime {
    builder(home).open().expect("the home opens")
}

/// Names a server in a home, and leaves the data where it is.
fn name_server(home: &Path, url: &str) {
    let config = format!("# ours\n[state.postgres] # the cluster\nurl = \"{url}\"\npool_size = 4\n");
    std::fs::write(home.join("config.toml"), config).expect("written");
}

fn config(home: &Path) -> String {
    std::fs::read_to_string(home.join("config.toml")).expect("a text")
}

fn options(to: Backend) -> MoveOptions {
    let mut options = MoveOptions::to(to);
    options.wait = Duration::from_mins(1);
    options
}

fn migrate_with(home: &Path, options: &MoveOptions) -> Result<MoveReport> {
    builder(home).migrate_backend(options, &mut |_| {})
}

fn migrate(home: &Path, to: Backend) -> Result<MoveReport> {
    migrate_with(home, &options(to))
}

fn refused(home: &Path, to: Backend) -> Error {
    migrate(home, to).expect_err("refused")
}

/// What a move says that both sides hold.
fn hashes(report: &MoveReport) -> BTreeMap<(String, String), (u64, String)> {
    let tables = report.tables.iter();
    tables.map(|one| ((one.domain.clone(), one.table.clone()), (one.rows, one.hash.clone()))).collect()
}

/// Every row of every table of a file, as SQLite says it; but for the indexes.
fn rows_of(file: &Path) -> BTreeMap<String, Vec<Vec<Value>>> {
    let connection = plain(file);
    let names = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT GLOB 'sqlite_*' \
                 AND name NOT GLOB 'rowhouse_*' AND name NOT GLOB 'refinery_*' AND name <> 'thread_text'";
    let names: Vec<String> = connection
        .prepare(names)
        .and_then(|mut names| names.query_map([], |row| row.get(0))?.collect())
        .expect("tables");
    let rows = |name: &String| {
        let mut all =
            connection.prepare(&format!("SELECT * FROM \"{name}\" ORDER BY 1, 2, 3")).expect("a table");
        let columns = all.column_count();
        let row = |row: &rowhouse::rusqlite::Row<'_>| (0..columns).map(|at| row.get(at)).collect();
        all.query_map([], row).and_then(Iterator::collect).expect("rows")
    };
    names.iter().map(|name| (name.clone(), rows(name))).collect()
}

/// Fills every table of a closed home by the catalogue, with values at the ends of what they may be.
fn fill(home: &Path, seed: u64, rows: u64) {
    drop(open(home));
    let mut numbers = Numbers::new(seed);
    for (domain, tables) in TABLES {
        let connection = plain(&home.join(format!("{domain}.sqlite")));
        connection.execute_batch("BEGIN").expect("begun");
        for table in *tables {
            let columns: Vec<(String, String, bool)> = connection
                .prepare(&format!("SELECT name, type, \"notnull\" FROM pragma_table_info('{table}')"))
                .and_then(|mut all| {
                    all.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
                })
                .expect("columns");
            let places = vec!["?"; columns.len()].join(", ");
            let mut insert =
                connection.prepare(&format!("INSERT INTO {table} VALUES ({places})")).expect("a table");
            for row in 0..rows {
                let values = columns.iter().map(|(name, kind, needed)| {
                    fixed(table, name, row).unwrap_or_else(|| any(kind, *needed, &mut numbers))
                });
                let values: Vec<Value> = values.collect();
                insert.execute(rowhouse::rusqlite::params_from_iter(values)).expect("a row");
            }
        }
        connection.execute_batch("COMMIT").expect("committed");
    }
}

const TABLES: &[(&str, &[&str])] = &[
    (
        "state",
        &[
            "thread",
            "spawn_edge",
            "memory_job",
            "memory_output",
            "backfill",
            "backfill_file",
            "turn",
            "turn_checkpoint",
            "turn_anomaly",
            "tombstone",
            "thread_history",
            "thread_item",
            "thread_writer",
        ],
    ),
    ("goals", &["goal"]),
];

/// Values that the schema demands.
fn fixed(table: &str, column: &str, row: u64) -> Option<Value> {
    let word = |text: &str| Some(Value::Text(text.to_owned()));
    match (table, column) {
        ("spawn_edge", "parent_id") => word(&id(row + 1_000_000)),
        (_, "id" | "child_id")
        | ("thread_writer", "writer_id")
        | (
            "memory_job" | "memory_output" | "turn" | "turn_checkpoint" | "turn_anomaly" | "tombstone"
            | "goal" | "thread_history" | "thread_item",
            "thread_id",
        ) => word(&id(row)),
        ("backfill", "root") | ("backfill_file", "path") => word(&format!("/a folder/日本/{row}")),
        ("backfill", "token" | "heartbeat_at") | ("backfill_file", "thread_id") => Some(Value::Null),
        ("backfill_file", "reason") => word(""),
        (_, "kind") => word(match table {
            "memory_job" => "extract",
            "backfill_file" => "bad",
            _ => "gap",
        }),
        ("backfill", "state") => word("complete"),
        (_, "status") => word(match table {
            "spawn_edge" => "open",
            "memory_job" => "done",
            "turn" => "completed",
            _ => "active",
        }),
        (_, "memory_mode") => word("polluted"),
        (_, "is_pinned" | "rolled_back" | "listed" | "everything") => {
            Some(Value::Integer(i64::from(row.is_multiple_of(2))))
        }
        (
            _,
            "ordinal" | "seq" | "items" | "tokens_used" | "user_set" | "retries_left" | "usage_count"
            | "token_budget" | "time_used_seconds",
        ) => Some(Value::Integer(if row.is_multiple_of(3) { i64::MAX } else { 0 })),
        _ => None,
    }
}

fn any(kind: &str, needed: bool, numbers: &mut Numbers) -> Value {
    if !needed && numbers.below(4) == 0 {
        return Value::Null;
    }
    match kind {
        "INTEGER" => Value::Integer(match numbers.below(5) {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => -1,
            _ => numbers.below(u64::MAX).cast_signed(),
        }),
        "TEXT" => Value::Text(match numbers.below(8) {
            0 => String::new(),
            1 => "'; DROP TABLE thread; --\\.\t\r\n\u{1}".to_owned(),
            2 => "\u{10FFFF}\u{FFFE}\u{200D}👩‍👩‍👧 e\u{301}é \u{202E}rtl".to_owned(),
            3 => "日本語の文字列".to_owned(),
            4 => "\\N".to_owned(),
            _ => format!("{} words", numbers.below(1 << 40)),
        }),
        "BLOB" => Value::Blob((0..numbers.below(300)).map(|at| (at * 7) as u8).collect()),
        other => panic!("a column of type {other}"),
    }
}

#[test]
fn every_row_of_every_store_comes_there_and_back_the_same() {
    for seed in 0..processes::rounds(3) {
        let home = folder();
        fill(home.path(), seed, 40);
        // Far more than a page, and than what is sent at once.
        let long = "ü".repeat(400_000);
        let state = home.path().join("state.sqlite");
        plain(&state).execute("UPDATE thread SET preview = ?1 WHERE id = ?2", (&long, id(7))).expect("a row");
        let before = (rows_of(&state), rows_of(&home.path().join("goals.sqlite")));
        name_server(home.path(), &server::new_database());

        let there = migrate(home.path(), Backend::Postgres).expect("moved");
        assert_eq!(there.domains, ["goals", "state"]);
        let found = hashes(&there);
        let every: usize = TABLES.iter().map(|(_, tables)| tables.len()).sum();
        assert_eq!(found.len(), every, "all tables, by the catalogue: {found:?}");
        assert!(found.values().all(|(rows, _)| *rows == 40), "{found:?}");
        assert!(there.unholdable.is_empty() && !state.exists());
        assert!(config(home.path()).starts_with("# ours\n[state.postgres] # the cluster\n"));

        let back = migrate(home.path(), Backend::Sqlite).expect("moved back");
        assert_eq!(hashes(&back), found);
        assert_eq!(processes::integrity(&state), "ok");
        let after = (rows_of(&state), rows_of(&home.path().join("goals.sqlite")));
        assert_eq!(after, before, "seed {seed}");
        // The index of texts was made again.
        let index = "INSERT INTO thread_search(thread_search) VALUES ('integrity-check')";
        plain(&state).execute(index, []).expect("it is sound");
        let texts: i64 = plain(&state)
            .query_row("SELECT count(*) FROM thread_text", [], |row| row.get(0))
            .expect("a count");
        assert_eq!(texts, 40);
    }
}

/// What a file's schema is made of, but for what the engine keeps for itself.
fn schema_of(file: &Path) -> Vec<(String, String, Option<String>)> {
    let all = "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name NOT GLOB 'sqlite_stat*' \
               AND tbl_name NOT GLOB 'rowhouse_*' ORDER BY type, name";
    let connection = plain(file);
    let mut all = connection.prepare(all).expect("a schema");
    let found = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    found.and_then(Iterator::collect).expect("its parts")
}

#[test]
fn what_stood_aside_while_tables_were_filled_is_there_again() {
    let (home, other) = (folder(), folder());
    use_a_while(&open(home.path()), 0..3);
    let files = ["state", "goals"].map(|domain| home.path().join(format!("{domain}.sqlite")));
    let before = files.each_ref().map(|file| schema_of(file));
    let (filled, new) = (shared().new_database(), shared().new_database());
    let indexes = |database: &str| -> Vec<String> {
        let all = "SELECT indexdef FROM pg_indexes WHERE schemaname LIKE 'rowhouse%' AND tablename NOT LIKE 'rowhouse%' \
                   ORDER BY 1";
        shared().client(database).query(all, &[]).expect("rows").iter().map(|row| row.get(0)).collect()
    };
    name_server(home.path(), &shared().url("app", &filled));
    migrate(home.path(), Backend::Postgres).expect("moved");
    server::configure(other.path(), &shared().url("app", &new));
    drop(open(other.path()));
    assert!(indexes(&new).len() > 20, "{:?}", indexes(&new));
    assert_eq!(indexes(&filled), indexes(&new));
    migrate(home.path(), Backend::Sqlite).expect("moved back");
    assert_eq!(files.each_ref().map(|file| schema_of(file)), before);
}

/// Threads, goals, and what is known of them.
fn use_a_while(runtime: &Runtime, threads: std::ops::Range<u64>) {
    let facts = |number: u64| ThreadFacts {
        id: id(number),
        created_at: number.cast_signed() * 1_000,
        updated_at: number.cast_signed() * 1_000,
        recency_at: number.cast_signed() * 1_000,
        title: Some(format!("Thread {number}")),
        cwd: Some("/work".to_owned()),
        ..ThreadFacts::default()
    };
    runtime.threads().upsert(&threads.clone().map(facts).collect::<Vec<_>>()).expect("threads");
    for number in threads {
        runtime.goals().replace(&id(number), &NewGoal::new("Ship it")).expect("a goal");
    }
}

/// Threads with histories; the last one is archived.
fn begin_threads(home: &Path, threads: std::ops::Range<u64>) {
    let runtime = open(home);
    let store = runtime.thread_store().expect("a store");
    for number in threads.clone() {
        let new = NewRollout { id: Some(id(number)), ..NewRollout::default() };
        store.create(&new).expect("created");
        let message = serde_json::json!({"type": "user_message", "message": format!("Thread {number}")});
        store
            .append_items(&id(number), &[Item::new("event_msg", &message).expect("an item")])
            .expect("appended");
        store.shutdown(&id(number)).expect("shut down");
    }
    store.archive(&id(threads.end - 1)).expect("archived");
}

/// Their histories, line by line.
fn told(home: &Path, threads: std::ops::Range<u64>) -> Vec<Vec<String>> {
    let runtime = open(home);
    let store = runtime.thread_store().expect("a store");
    let of = |number| {
        let items = store.load_history(&id(number)).expect("a history");
        items.map(|item| item.expect("an item").text().to_owned()).collect()
    };
    threads.map(of).collect()
}

/// How many threads and goals there are.
fn used(runtime: &Runtime, goals: std::ops::Range<u64>) -> (usize, usize) {
    let threads = runtime.threads().list(&ThreadQuery::recent()).expect("a page").threads.len();
    let there = goals.filter(|number| runtime.goals().get(&id(*number)).expect("read").is_some());
    (threads, there.count())
}

#[test]
fn programs_go_on_where_the_data_is_without_another_word() {
    let home = folder();
    use_a_while(&open(home.path()), 0..20);
    name_server(home.path(), &server::new_database());
    let moved = migrate(home.path(), Backend::Postgres).expect("moved");
    assert_eq!(moved.config, ["[state] backend = \"postgres\""]);
    let folder = moved.folder.clone().expect("a folder");
    let manifest: MoveReport =
        serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).expect("a file")).expect("JSON");
    assert_eq!(manifest, moved);
    assert!(folder.join("state.sqlite").exists() && !home.path().join("move.json").exists());

    let runtime = open(home.path());
    assert_eq!(used(&runtime, 0..20), (20, 20));
    assert_eq!(runtime.threads().search(&ThreadSearch::text("thread 7")).expect("a page").threads.len(), 1);
    use_a_while(&runtime, 20..25);
    runtime.close(Duration::from_secs(5));
    drop(runtime);
    let error = refused(home.path(), Backend::Postgres);
    assert_eq!(error.kind(), ErrorKind::Conflict, "it is there already: {error}");

    let back = migrate(home.path(), Backend::Sqlite).expect("moved back");
    assert_eq!(back.config, ["[state] backend = \"sqlite\""]);
    let runtime = open(home.path());
    assert_eq!(used(&runtime, 0..25), (25, 25));
    assert_eq!(runtime.threads().search(&ThreadSearch::text("thread 22")).expect("a page").threads.len(), 1);
    assert!(runtime.database("state").is_ok(), "it is in a file");
    runtime.close(Duration::from_secs(5));
    drop(runtime);
    // And there once more, beside what is kept of the first time.
    migrate(home.path(), Backend::Postgres).expect("moved again");
    assert_eq!(used(&open(home.path()), 0..25), (25, 25));
}

#[test]
fn the_side_that_was_left_is_refused_and_says_where_the_data_is() {
    let (home, other) = (folder(), folder());
    let url = server::new_database();
    use_a_while(&open(home.path()), 0..3);
    name_server(home.path(), &url);
    migrate(home.path(), Backend::Postgres).expect("moved");
    // Somebody writes the old line again.
    let text = config(home.path());
    std::fs::write(home.path().join("config.toml"), text.replace("\"postgres\"", "\"sqlite\""))
        .expect("written");
    let error = builder(home.path()).open().expect_err("its data is elsewhere");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.message().contains("postgres://") && error.advice().is_some(), "{error}");
    assert!(!home.path().join("state.sqlite").exists(), "no new one is begun");
    // Nor where the mark cannot be read: here it is a folder.
    let (mark, kept) = (home.path().join("state.moved.json"), home.path().join("kept.json"));
    std::fs::rename(&mark, &kept).and_then(|()| std::fs::create_dir(&mark)).expect("another mark");
    let error = builder(home.path()).open().expect_err("it may be elsewhere");
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(!home.path().join("state.sqlite").exists(), "no new one is begun");
    std::fs::remove_dir(&mark).and_then(|()| std::fs::rename(&kept, &mark)).expect("the mark");
    std::fs::write(home.path().join("config.toml"), &text).expect("written");

    server::configure(other.path(), &url);
    let elsewhere = open(other.path());
    migrate(home.path(), Backend::Sqlite).expect("moved back");
    // Who has the server open finds nothing there any more, and who opens it is told.
    let read = elsewhere.threads().list(&ThreadQuery::recent()).expect_err("it is gone");
    let write = elsewhere.goals().replace(&id(9), &NewGoal::new("Lost?")).expect_err("it is gone");
    assert_eq!((read.kind(), write.kind()), (ErrorKind::NotFound, ErrorKind::NotFound), "{read} {write}");
    drop(elsewhere);
    let error = builder(other.path()).open().expect_err("its data is elsewhere");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.message().contains(text_of(home.path())), "{error}");
    assert_eq!(refused(other.path(), Backend::Sqlite).kind(), ErrorKind::Conflict);
    assert_eq!(used(&open(home.path()), 0..3), (3, 3));
}

fn text_of(path: &Path) -> &str {
    text(path)
}

#[test]
fn what_the_other_side_cannot_hold_is_listed_and_lost_only_when_one_agrees() {
    let home = folder();
    use_a_while(&open(home.path()), 0..5);
    let state = home.path().join("state.sqlite");
    let set = |sql: &str, number: u64| {
        let done = plain(&state).execute(&format!("UPDATE thread SET {sql} WHERE id = ?1"), [id(number)]);
        assert_eq!(done.expect(sql), 1);
    };
    set("title = 'a' || char(0) || 'b'", 1);
    set("title = 'c' || char(0)", 2);
    set("cwd = CAST(x'2FFF2F' AS TEXT)", 3);
    let before = rows_of(&home.path().join("goals.sqlite"));
    name_server(home.path(), &server::new_database());
    let mut look = options(Backend::Postgres);
    look.dry_run = true;
    let plan = migrate_with(home.path(), &look).expect("a plan");
    let listed: Vec<_> =
        plan.unholdable.iter().map(|lost| (lost.column.as_str(), lost.why, lost.values)).collect();
    assert_eq!(listed, [("cwd", Unholdable::InvalidUtf8, 1), ("title", Unholdable::NulInText, 2)]);
    assert_eq!(plan.unholdable[0].key, ["id"]);
    let error = refused(home.path(), Backend::Postgres);
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("2 in state.thread.title"), "{error}");
    assert_eq!(rows_of(&home.path().join("goals.sqlite")), before);
    // What only the server knows that it cannot hold: longer than an entry of an index there.
    set("title = 'a', cwd = hex(randomblob(20000))", 4);
    let mut agreed = options(Backend::Postgres);
    agreed.replace_unholdable = true;
    let error = migrate_with(home.path(), &agreed).expect_err("too long for an index");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.message().contains("state.thread") && error.message().contains("54000"), "{error}");
    set("cwd = '/work'", 4);
    assert_eq!(open(home.path()).threads().list(&ThreadQuery::recent()).expect("a page").threads.len(), 5);

    let moved = migrate_with(home.path(), &agreed).expect("moved");
    assert!(moved.replaced);
    let title = |number: u64| {
        let page = open(home.path()).threads().list(&ThreadQuery::recent()).expect("a page");
        page.threads.into_iter().find(|thread| thread.id == id(number)).expect("a thread").title
    };
    assert_eq!(title(1).as_deref(), Some("a\u{FFFD}b"));
    let kept = Path::new(moved.kept.iter().find(|file| file.contains("state")).expect("a file"));
    let original: Vec<u8> = plain(kept)
        .query_row("SELECT CAST(title AS BLOB) FROM thread WHERE id = ?1", [id(1)], |row| row.get(0))
        .expect("it is kept");
    assert_eq!(original, b"a\0b");
}

/// The schemas of a database on the server.
fn schemas(database: &str) -> Vec<String> {
    let all = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'rowhouse%' ORDER BY 1";
    shared().client(database).query(all, &[]).expect("schemas").iter().map(|row| row.get(0)).collect()
}

fn names_in(home: &Path) -> Vec<String> {
    let found = std::fs::read_dir(home).expect("the home").flatten();
    let mut names: Vec<_> = found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_plan_changes_nothing_on_either_side() {
    let home = folder();
    use_a_while(&open(home.path()), 0..5);
    let database = shared().new_database();
    name_server(home.path(), &shared().url("app", &database));
    let dry = |to| {
        let mut look = options(to);
        look.dry_run = true;
        migrate_with(home.path(), &look)
    };
    let (names, text) = (names_in(home.path()), config(home.path()));
    // Programs may go on meanwhile.
    let runtime = open(home.path());
    let plan = dry(Backend::Postgres).expect("a plan");
    assert!(plan.dry_run && plan.folder.is_none() && !plan.config.is_empty());
    assert_eq!(hashes(&plan)[&("state".to_owned(), "thread".to_owned())].0, 5);
    assert_eq!(schemas(&database), [] as [String; 0]);
    runtime.close(Duration::from_secs(5));
    drop(runtime);
    assert_eq!((names_in(home.path()), config(home.path())), (names, text));
    let moved = migrate(home.path(), Backend::Postgres).expect("moved");
    assert_eq!(hashes(&moved), hashes(&plan));

    let (names, before) = (names_in(home.path()), schemas(&database));
    let runtime = open(home.path());
    let plan = dry(Backend::Sqlite).expect("a plan");
    assert_eq!(hashes(&plan), hashes(&moved));
    assert_eq!((names_in(home.path()), schemas(&database)), (names, before));
    use_a_while(&runtime, 5..6);
}

#[test]
fn what_is_wrong_is_said_and_changes_nothing() {
    let home = folder();
    use_a_while(&open(home.path()), 0..3);
    let database = shared().new_database();
    let good = shared().url("app", &database);
    let names = names_in(home.path());
    let unchanged = |kind: ErrorKind, error: &Error| {
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.advice().is_some(), "{error}");
        let _ = std::fs::remove_file(home.path().join("config.toml"));
        assert_eq!(names_in(home.path()), names);
        assert_eq!(used(&open(home.path()), 0..3), (3, 3));
    };
    unchanged(ErrorKind::Invalid, &refused(home.path(), Backend::Postgres));
    name_server(home.path(), "postgres://app@127.0.0.1:9/none");
    unchanged(ErrorKind::Io, &refused(home.path(), Backend::Postgres));
    name_server(home.path(), &shared().url("app", "no_such_database"));
    unchanged(ErrorKind::NotFound, &refused(home.path(), Backend::Postgres));
    shared()
        .client(&database)
        .batch_execute(&format!("CREATE ROLE reader LOGIN; REVOKE CREATE ON DATABASE {database} FROM PUBLIC"))
        .expect("a role");
    name_server(home.path(), &shared().url("reader", &database));
    unchanged(ErrorKind::ReadOnly, &refused(home.path(), Backend::Postgres));
    std::fs::write(
        home.path().join("config.toml"),
        format!("state = {{ postgres = {{ url = \"{good}\" }} }}\n"),
    )
    .expect("written");
    unchanged(ErrorKind::Invalid, &refused(home.path(), Backend::Postgres));
    assert_eq!(schemas(&database), [] as [String; 0]);

    // Another home's rows are there.
    let other = folder();
    server::configure(other.path(), &good);
    use_a_while(&open(other.path()), 7..8);
    name_server(home.path(), &good);
    unchanged(ErrorKind::Conflict, &refused(home.path(), Backend::Postgres));
    // A file that is not in use is in the place of the one to come.
    std::fs::write(other.path().join("state.sqlite"), "").expect("written");
    assert_eq!(refused(other.path(), Backend::Sqlite).kind(), ErrorKind::Conflict);
    std::fs::remove_file(other.path().join("state.sqlite")).expect("removed");
    assert_eq!(used(&open(other.path()), 0..9), (1, 1));
    // What the schemas have alone would be lost.
    shared()
        .client(&database)
        .batch_execute("ALTER TABLE rowhouse_goals.goal ADD COLUMN mine TEXT")
        .expect("it");
    let error = refused(other.path(), Backend::Sqlite);
    assert!(error.kind() == ErrorKind::Conflict && error.message().contains("goal"), "{error}");
    assert_eq!(used(&open(other.path()), 0..9), (1, 1));
}

#[test]
fn who_has_the_home_open_is_named_and_waited_for() {
    let home = folder();
    use_a_while(&open(home.path()), 0..3);
    name_server(home.path(), &server::new_database());
    let mut child = Child::start("keep open", &[text(home.path())]);
    child.wait_for("open");
    let mut impatient = options(Backend::Postgres);
    impatient.wait = Duration::from_millis(50);
    let error = migrate_with(home.path(), &impatient).expect_err("somebody is there");
    assert_eq!(error.kind(), ErrorKind::Busy);
    let holder = error.holder().expect("it is named");
    assert_eq!(i64::from(holder.pid), i64::from(child.pid()), "{error}");
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| migrate(home.path(), Backend::Postgres));
        child.tell("close");
        child.finish();
        moving.join().expect("a thread").expect("moved when it had left");
    });
    assert_eq!(used(&open(home.path()), 0..3), (3, 3));
}

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let home: &Path = arguments[1].as_ref();
    match &*arguments[0] {
        "keep open" => {
            let runtime = open(home);
            processes::say("open");
            processes::listen();
            drop(runtime);
        }
        "migrate" => {
            let to = if arguments[2] == "server" { Backend::Postgres } else { Backend::Sqlite };
            let dies_at: usize = arguments[3].parse().expect("a number");
            let mut seen = 0;
            let done = builder(home).migrate_backend(&options(to), &mut |now| {
                // Of each table the same happens: one stands for all.
                let one_table = now.what == "state.thread"
                    || (now.what == "state.thread_item" && now.step == MoveStep::Copying);
                if now.step == MoveStep::CuttingOver || (one_table && now.rows_done == 0) {
                    if seen == dies_at {
                        processes::say(&format!("dies {:?} {}", now.step, now.what));
                        // SAFETY: ends this process.
                        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
                    }
                    seen += 1;
                }
            });
            done.expect("moved");
            processes::say("done");
        }
        other => panic!("no such role: {other}"),
    }
}

/// Whether the data is on the server: what the home says, and that the other side is not there to be used.
fn is_on_server(home: &Path, database: &str) -> bool {
    let there = Domain::state().is_on_server(&Home::at(home)).expect("a config");
    for domain in ["state", "goals"] {
        let file = home.join(format!("{domain}.sqlite"));
        assert_eq!(file.exists(), !there, "{domain}: exactly one side");
        let table = if domain == "state" { "thread" } else { "goal" };
        let ask = format!("SELECT to_regclass('rowhouse_{domain}.{table}') IS NOT NULL");
        let found: bool = shared().client(database).query_one(&ask, &[]).expect("an answer").get(0);
        assert_eq!(found, there, "{domain}: exactly one side");
    }
    for folder in ["sessions", "archived_sessions"] {
        assert!(!(there && home.join(folder).exists()), "{folder}: exactly one side");
    }
    assert!(!home.join("move.json").exists());
    there
}

#[test]
fn killed_anywhere_one_side_counts_and_the_next_finishes() {
    const THREADS: u64 = 12;
    let home = folder();
    // One more, which no list of live ones shows.
    begin_threads(home.path(), 0..THREADS + 1);
    use_a_while(&open(home.path()), 0..THREADS);
    let database = shared().new_database();
    name_server(home.path(), &shared().url("app", &database));
    // Once without trouble: after it transcripts and rows say the same.
    for to in [Backend::Postgres, Backend::Sqlite] {
        migrate(home.path(), to).expect("moved");
    }
    let histories = told(home.path(), 0..THREADS + 1);
    let (mut steps, mut through) = (Vec::new(), 0);
    for dies_at in 0.. {
        for (word, to) in [("server", Backend::Postgres), ("files", Backend::Sqlite)] {
            let (lines, _) = Child::start("migrate", &[text(home.path()), word, &dies_at.to_string()]).end();
            let end = lines.last().cloned().unwrap_or_default();
            let goal = to == Backend::Postgres;
            if end == "done" {
                through += 1;
            } else {
                assert!(end.starts_with("dies"), "{word} {dies_at}: {lines:?}");
                // Who comes next is a program, or the command once more.
                if dies_at % 2 == 0 {
                    assert_eq!(used(&open(home.path()), 0..THREADS), (12, 12), "{end}");
                    let committed = is_on_server(home.path(), &database) == goal;
                    let after = ["marks", "sqlite", "sessions", "config", "manifest", "the end"];
                    assert_eq!(committed, after.iter().any(|part| end.contains(part)), "{end}");
                }
                match migrate(home.path(), to) {
                    Ok(report) => assert_eq!(report.to, to),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "it is there: {error}"),
                }
                steps.push(end);
            }
            assert_eq!(is_on_server(home.path(), &database), goal);
            assert_eq!(used(&open(home.path()), 0..THREADS), (12, 12), "{word} {dies_at}");
            assert_eq!(told(home.path(), 0..THREADS + 1), histories, "{word} {dies_at}");
        }
        if through >= 2 {
            break;
        }
    }
    assert!(steps.len() >= 20, "{steps:?}");
    let left = names_in(home.path());
    assert!(!left.iter().any(|name| name.starts_with(".move")), "{left:?}");
}

#[test]
fn where_the_server_cannot_be_asked_nothing_is_opened() {
    let home = folder();
    use_a_while(&open(home.path()), 0..3);
    let url = server::new_database();
    name_server(home.path(), &url);
    // The steps of the cut-over begin after those of one table: until one of them is the commit.
    let killed = (0..).map(|dies_at| {
        let (lines, _) = Child::start("migrate", &[text(home.path()), "server", &dies_at.to_string()]).end();
        lines.last().cloned().unwrap_or_default()
    });
    let end = killed.take_while(|end| end != "done").find(|end| end.ends_with("the commit"));
    assert!(end.is_some() && home.path().join("move.json").exists());
    name_server(home.path(), "postgres://app@127.0.0.1:9/none");
    for _ in 0..2 {
        let error = builder(home.path()).open().expect_err("nobody knows");
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        assert!(error.advice().is_some());
    }
    assert_eq!(refused(home.path(), Backend::Postgres).kind(), ErrorKind::OutcomeUnknown);
    let restore = builder(home.path()).compact(&rowhouse::MaintainOptions::default(), &mut |_| {});
    assert_eq!(restore.expect_err("not now").kind(), ErrorKind::Busy);
    name_server(home.path(), &url);
    assert_eq!(used(&open(home.path()), 0..3), (3, 3), "it was not committed");
    assert!(home.path().join("state.sqlite").exists() && !home.path().join("move.json").exists());
}

/// What others write on the server while its data is moved into files is in the files, or was refused.
#[test]
fn a_write_of_another_host_is_in_the_copy_or_refused() {
    let homes = [folder(), folder(), folder()];
    let url = server::new_database();
    for home in &homes {
        server::configure(home.path(), &url);
    }
    use_a_while(&open(homes[0].path()), 0..1);
    let (written, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let told = std::thread::scope(|scope| {
        let writers: Vec<_> = homes[1..]
            .iter()
            .enumerate()
            .map(|(host, home)| {
                let (written, stop) = (&written, &stop);
                scope.spawn(move || {
                    let runtime = open(home.path());
                    let mut acknowledged = Vec::new();
                    for number in (host as u64 + 1) * 1_000_000.. {
                        // Both domains, in this order and the other.
                        let facts = ThreadFacts { id: id(number), ..ThreadFacts::default() };
                        let thread = runtime.threads().upsert(&[facts]).map(drop);
                        let goal = runtime.goals().replace(&id(number), &NewGoal::new("Ship it")).map(drop);
                        for (what, answer) in [("thread", thread), ("goal", goal)] {
                            match answer {
                                Ok(()) => acknowledged.push((what, number)),
                                Err(error) => {
                                    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                                    stop.store(true, Ordering::Relaxed);
                                }
                            }
                        }
                        written.fetch_add(1, Ordering::Relaxed);
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    acknowledged
                })
            })
            .collect();
        while written.load(Ordering::Relaxed) < 20 {
            std::thread::yield_now();
        }
        let moved = migrate(homes[0].path(), Backend::Sqlite);
        stop.store(moved.is_err(), Ordering::Relaxed);
        moved.expect("moved under load");
        writers.into_iter().flat_map(|writer| writer.join().expect("a writer")).collect::<Vec<_>>()
    });
    let all = |domain: &str, sql: &str| -> Vec<String> {
        let connection = plain(&homes[0].path().join(format!("{domain}.sqlite")));
        let mut all = connection.prepare(sql).expect("a table");
        all.query_map([], |row| row.get(0)).and_then(Iterator::collect).expect("rows")
    };
    for (what, domain, sql) in
        [("thread", "state", "SELECT id FROM thread"), ("goal", "goals", "SELECT thread_id FROM goal")]
    {
        let mut found = all(domain, sql);
        let of_it = told.iter().filter(|(kind, _)| *kind == what).map(|(_, number)| id(*number));
        let mut expected: Vec<_> = of_it.chain([id(0)]).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "no {what} lost, none that was refused");
    }
}

/// The rows of the scenario: threads with what is usual in them, two turns each, a goal for every tenth, and transcripts of four
/// lines.
fn many(home: &Path, threads: u64) {
    drop(open(home));
    let mut folder = PathBuf::new();
    for number in 0..threads {
        let path = transcript_of(home, number, threads);
        if path.parent() != Some(&folder) {
            path.parent().expect("a folder").clone_into(&mut folder);
            std::fs::create_dir_all(&folder).expect("folders");
        }
        let line = |kind: &str, payload: &str| {
            format!(
                "{{\"timestamp\":\"2026-01-01T00:00:00.000Z\",\"type\":\"{kind}\",\"payload\":{payload}}}\n"
            )
        };
        let (month, day) = day_of(number, threads);
        let began = format!("2026-{month:02}-{day:02}T00:00:00.000Z");
        let text = [
            line(
                "session_meta",
                &format!(r#"{{"id":"{}","timestamp":"{began}","cwd":"/work"}}"#, id(number)),
            ),
            line("event_msg", &format!(r#"{{"type":"user_message","message":"Fix part {number}"}}"#)),
            line("response_item", &format!(r#"{{"type":"reasoning","text":"{}"}}"#, "because ".repeat(20))),
            line("event_msg", r#"{"type":"agent_message","message":"It waits for a port that is taken."}"#),
        ];
        std::fs::write(path, text.concat()).expect("a transcript");
    }
    let numbers = format!(
        "WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n + 1 < {threads}) SELECT"
    );
    let id = "printf('019cadf1-7a5e-7b04-8f21-%012x', n)";
    let home_text = text(home);
    // As `day_of` says it.
    let day = format!("n * 336 / {threads}");
    let day = format!("{day} / 28 + 1, {day} % 28 + 1");
    let state = plain(&home.join("state.sqlite"));
    state
        .execute_batch(&format!(
            "PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;
             INSERT INTO thread(id, rollout_path, created_at, updated_at, recency_at, archived_at, source, model, cwd, title,
                                preview, first_user_message, tokens_used, git_branch, is_pinned)
             {numbers} {id}, '{home_text}/' || iif(n % 20 = 0, 'archived_sessions', printf('sessions/2026/%02d/%02d', {day}))
                || printf('/rollout-2026-%02d-%02dT00-00-00-', {day}) || {id} || '.jsonl', 1767225600000 + n, 1767225600000 + n,
                1767225600000 + n, iif(n % 20 = 0, 1767225600000 + n, NULL), 'cli', 'large', '/home/a/project-' || n % 50,
                'Fix the flaky test of part ' || n % 1000, 'The test fails once in a while; find out why ' || n,
                'The test fails once in a while; find out why', n * 7, iif(n % 3, 'main', NULL), n % 100 = 0 FROM c;
             INSERT INTO turn(thread_id, ordinal, turn_id, status, started_at, ended_at, user_text, agent_text, line_count,
                              first_line, start_offset, end_offset)
             {numbers} {id}, o, 'turn-' || o, 'completed', 1767225600000 + n, 1767225600000 + n + 9, 'Why? ' || n,
                'It waits for a port that is taken.', 12, 1 + 12 * o, 900 * o, 900 * (o + 1)
             FROM c, (SELECT 0 AS o UNION ALL SELECT 1);"
        ))
        .expect("rows");
    plain(&home.join("goals.sqlite"))
        .execute_batch(&format!(
            "PRAGMA synchronous=OFF;
             INSERT INTO goal(thread_id, goal_id, objective, status, created_at, updated_at)
             {numbers} {id}, 'g' || n, 'Ship it', 'active', 1767225600000 + n, 1767225600000 + n FROM c WHERE n % 10 = 0;"
        ))
        .expect("goals");
}

/// The month and the day on which it began: as many each day, for a year.
fn day_of(number: u64, threads: u64) -> (u64, u64) {
    let day = number * 336 / threads;
    (day / 28 + 1, day % 28 + 1)
}

/// Where its transcript lies: every twentieth is archived.
fn transcript_of(home: &Path, number: u64, threads: u64) -> PathBuf {
    let (month, day) = day_of(number, threads);
    let folder = if number.is_multiple_of(20) {
        "archived_sessions".to_owned()
    } else {
        format!("sessions/2026/{month:02}/{day:02}")
    };
    home.join(folder).join(format!("rollout-2026-{month:02}-{day:02}T00-00-00-{}.jsonl", id(number)))
}

/// Counts and a number of the contents, by the engine itself.
const LOOK: &str =
    "SELECT count(*), sum(updated_at), sum(length(title || preview)), sum(is_pinned), count(archived_at)";

fn counted_here(home: &Path) -> [i64; 5] {
    let look = format!("{LOOK} FROM thread");
    let connection = plain(&home.join("state.sqlite"));
    connection
        .query_row(&look, [], |row| {
            let at = |at| row.get::<_, i64>(at).expect("a number");
            Ok([0, 1, 2, 3, 4].map(at))
        })
        .expect("a row")
}

fn counted_there(database: &str) -> [i64; 5] {
    let look = format!("SELECT q.*::text FROM ({LOOK} FROM rowhouse_state.thread) AS q");
    let row = shared().client(database).query_one(&look, &[]).expect("a row");
    let text: String = row.get(0);
    let numbers: Vec<i64> =
        text.trim_matches(['(', ')']).split(',').map(|digits| digits.parse().expect("a number")).collect();
    numbers.try_into().expect("five")
}

/// Every row and every transcript goes to a server and back by one command: counts and the hash of each table, of items too, are
/// equal on both sides, both times.
/// Scale: 2,000 threads with 8,000 items, 4,000 turns and 200 goals; `ROWHOUSE_TEST_ROWS` says how many threads, and
/// `scripts/move_at_size.sh` moves a million.
/// Control: the file's own tables and rows, as its schema tells them, are refused by the server: its INTEGER ends at 2^31.
#[test]
fn r3_every_row_goes_to_a_server_and_back_with_equal_hashes() {
    let threads = std::env::var("ROWHOUSE_TEST_ROWS").map_or(2_000, |text| text.parse().expect("a number"));
    let home = folder();
    many(home.path(), threads);
    let database = shared().new_database();

    // Without the engine: what a dump makes of it.
    let mut control = shared().client(&database);
    let schema: String = plain(&home.path().join("goals.sqlite"))
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'goal'", [], |row| row.get(0))
        .expect("a schema");
    control
        .batch_execute(&format!("CREATE SCHEMA dump; SET search_path = dump; {schema}"))
        .expect_err("STRICT");
    control
        .batch_execute(&format!(
            "CREATE SCHEMA dump; SET search_path = dump; {}",
            schema.replace(" STRICT", "")
        ))
        .expect("a table");
    let row =
        "INSERT INTO goal VALUES ('t', 'g', 'Ship it', 'active', NULL, 0, 0, 1767225600000, 1767225600000)";
    let error = control.batch_execute(row).expect_err("no number of 64 bits");
    assert_eq!(error.code().map(postgres::error::SqlState::code), Some("22003"));
    drop(control);

    name_server(home.path(), &shared().url("app", &database));
    let before = counted_here(home.path());
    let said = |report: &MoveReport| {
        let rows: u64 = report.tables.iter().map(|table| table.rows).sum();
        let bytes: u64 = report.tables.iter().map(|table| table.bytes).sum();
        let a_second = |count: u64| count as f64 * 1_000.0 / report.took_ms.max(1) as f64;
        println!(
            "to {:?}: {rows} rows, {} MB in {:.1} s: {:.0} threads/s with their {:.0} items/s, looked at, copied and compared",
            report.to,
            bytes / 1_000_000,
            report.took_ms as f64 / 1_000.0,
            a_second(threads),
            a_second(4 * threads)
        );
        for table in report.tables.iter().filter(|table| table.rows > 0) {
            println!(
                "  {}.{}: {} rows, copied at {} rows/s, {}",
                table.domain,
                table.table,
                table.rows,
                table.rows_per_second.unwrap_or(0),
                table.hash
            );
        }
        rows
    };
    let there = migrate(home.path(), Backend::Postgres).expect("moved");
    // The row of a history and four items beside those of the files.
    assert_eq!(said(&there), threads * (3 + 1 + 4) + threads.div_ceil(10));
    assert_eq!(counted_there(&database), before);
    let back = migrate(home.path(), Backend::Sqlite).expect("moved back");
    said(&back);
    // The place of a transcript is in rows of files only.
    let but_places = |report: &MoveReport| {
        let mut hashes = hashes(report);
        let thread = hashes.remove(&("state".to_owned(), "thread".to_owned())).expect("a table");
        (hashes, thread.0)
    };
    assert_eq!(but_places(&back), but_places(&there));
    println!("hashes of all tables are equal on both sides, there and back");
    assert_eq!(counted_here(home.path()), before);
    let mut compared = 0;
    for number in (0..threads).step_by((threads / 2_000).max(7) as usize) {
        let path = transcript_of(home.path(), number, threads);
        let aside =
            there.folder.as_ref().expect("a folder").join(path.strip_prefix(home.path()).expect("inside"));
        let (there, aside) =
            (std::fs::read(&path).expect("it came back"), std::fs::read(aside).expect("it is kept"));
        let said = there.strip_prefix(&aside[..]).expect("as it was");
        // That it has a goal stood in no transcript before.
        assert_eq!(!said.is_empty(), number % 10 == 0, "{}", String::from_utf8_lossy(said));
        compared += 1;
    }
    assert!(compared > 0);
    let places: i64 = plain(&home.path().join("state.sqlite"))
        .query_row(
            "SELECT count(*) FROM thread WHERE rollout_path LIKE ?1 || '%'",
            [text(home.path())],
            |row| row.get(0),
        )
        .expect("a count");
    assert_eq!(places, threads.cast_signed());
    assert_eq!(before[0], threads.cast_signed());
}
