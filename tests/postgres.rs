//! A domain on a PostgreSQL server: one line of configuration moves it, what is wrong is said and never worked around, a
//! write counts once whatever becomes of its connection, and both engines have one schema.
#![allow(clippy::disallowed_methods, reason = "a test makes and looks at files from outside")]

mod engines;
mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use engines::certificates;
use engines::pair::Pair;
use engines::server::{self, configure, configure_with, new_database, shared};
use engines::wire::{Ending, Wire};
use processes::Child;
use rowhouse::sql::Session;
use rowhouse::stores::goals::{Accounting, NewGoal};
use rowhouse::stores::threads::{SearchOrder, ThreadSearch};
use rowhouse::stores::{Direction, Sort, ThreadFacts};
use rowhouse::{
    Backend, Domain, Engine, Error, ErrorKind, Health, Home, Limits, Migration, MoveOptions, Result, Runtime,
    StoreSession, ThreadQuery,
};

const THREAD: &str = "019cadf1-7a5e-7b04-8f21-000000000001";

fn id(number: u32) -> String {
    format!("019cadf1-7a5e-7b04-8f21-{number:012x}")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A home whose state and goals are on this server.
fn home_on(url: &str) -> tempfile::TempDir {
    let home = folder();
    configure(home.path(), url);
    home
}

fn open(home: &Path) -> Result<Runtime> {
    open_within(home, Limits::default().deadline)
}

fn open_within(home: &Path, deadline: Duration) -> Result<Runtime> {
    let mut limits = Limits::default();
    limits.deadline = deadline;
    Runtime::builder(Home::at(home)).domain(Domain::state()).domain(Domain::goals()).limits(limits).open()
}

/// What lies in a home beside its configuration.
fn files(home: &Path) -> BTreeSet<String> {
    let found = std::fs::read_dir(home).expect("the home").flatten();
    let names = found.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains("sqlite")).collect()
}

fn url_in(database: &str) -> String {
    shared().url("app", database)
}

#[test]
fn state_and_goals_move_by_configuration_and_no_file_is_made_for_them() {
    let url = new_database();
    let (one, other) = (home_on(&url), home_on(&url));
    let runtime = open(one.path()).expect("a runtime");
    runtime.goals().replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    runtime.threads().upsert(&[ThreadFacts { id: id(1), ..ThreadFacts::default() }]).expect("a thread");
    assert_eq!(runtime.names(), ["goals", "state"]);
    let refused = runtime.database("state").expect_err("it is not in a file");
    assert_eq!((refused.kind(), refused.database()), (ErrorKind::Unsupported, Some("state")), "{refused}");
    assert_eq!(files(one.path()), BTreeSet::new());

    let elsewhere = open(other.path()).expect("another home");
    assert_eq!(elsewhere.goals().get(THREAD).expect("read").expect("it is shared").objective, "Ship it");
    assert_eq!(elsewhere.threads().list(&ThreadQuery::recent()).expect("a page").threads.len(), 1);
    runtime.close(Duration::from_secs(5));
    assert_eq!(runtime.goals().get(THREAD).expect_err("closed").kind(), ErrorKind::Closed);
    assert!(elsewhere.goals().get(THREAD).is_ok());
}

/// One database has a schema for each domain, and logs stay in a file unless they are told otherwise.
/// Scale: state, goals and logs of one home.
/// Control: without the setting the same home has them all in files, and nothing is on the server.
#[test]
fn r4_one_database_has_a_schema_for_each_domain_and_logs_stay_here() {
    let database = shared().new_database();
    let open = |home: &Path| {
        let builder = Runtime::builder(Home::at(home)).domain(Domain::state()).domain(Domain::goals());
        let runtime = builder.domain(Domain::logs()).open().expect("a runtime");
        let logs = runtime.database("logs").expect("logs are in a file").within(Duration::from_mins(1));
        logs.write(|_| Ok(())).expect("attached");
        runtime
    };
    let schemas = || {
        let named = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'rowhouse%' ORDER BY 1";
        let rows = shared().client(&database).query(named, &[]).expect("the schemas");
        rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()
    };
    let main_files = |home: &Path| {
        let names = files(home).into_iter().filter(|name| name.ends_with(".sqlite"));
        names.collect::<Vec<_>>()
    };
    let control = folder();
    let _here = open(control.path());
    assert_eq!(main_files(control.path()), ["goals.sqlite", "logs.sqlite", "state.sqlite"]);
    assert_eq!(schemas(), [] as [String; 0]);

    let home = home_on(&url_in(&database));
    let _there = open(home.path());
    assert_eq!(main_files(home.path()), ["logs.sqlite"]);
    assert_eq!(schemas(), ["rowhouse_goals", "rowhouse_state"]);
}

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [role, home] = &arguments[..] else { panic!("two arguments: {arguments:?}") };
    assert_eq!(role, "work");
    let runtime = open(home.as_ref()).expect("a runtime");
    let (memories, goals) = (runtime.memories(), runtime.goals());
    processes::ready();
    loop {
        let claims = memories.claim_extracts(2, None).expect("claims");
        if claims.is_empty() {
            return;
        }
        for claim in claims {
            goals.account(THREAD, 1, 7, Accounting::ActiveOnly, None).expect("counted");
            assert!(memories.extract_without_output(&claim).expect("told"));
            processes::say(&format!("did {}", claim.thread_id));
        }
    }
}

/// Threads at rest, and a goal that counts what is done about them.
fn prepare_work(home: &Path, threads: u32) -> Runtime {
    let runtime = open(home).expect("a runtime");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let rested = i64::try_from(now.as_millis()).expect("not so far") - 13 * 3_600_000;
    let facts = |number| ThreadFacts {
        created_at: rested,
        updated_at: rested,
        recency_at: rested,
        ..titled(number, "Work")
    };
    runtime.threads().upsert(&(0..threads).map(facts).collect::<Vec<_>>()).expect("threads");
    runtime.goals().replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    runtime
}

/// Works on them in processes of these homes; answers how often each thread was worked on, and the tokens counted.
fn work(homes: &[&Path], processes: usize) -> (BTreeMap<String, usize>, i64) {
    let starts = homes.iter().flat_map(|home| std::iter::repeat_n(home, processes));
    let mut children: Vec<_> = starts.map(|home| Child::start("work", &[processes::text(home)])).collect();
    processes::start_together(&mut children);
    let mut done = BTreeMap::new();
    for child in children {
        let (lines, status) = child.end();
        assert!(status.success(), "{lines:?}");
        for thread in lines.iter().filter_map(|line| line.strip_prefix("did ")) {
            *done.entry(thread.to_owned()).or_default() += 1;
        }
    }
    let runtime = open(homes[0]).expect("a runtime");
    (done, runtime.goals().get(THREAD).expect("read").expect("a goal").tokens_used)
}

/// Homes of several machines share one state: each job is one process's, and what they count adds up exactly.
/// Scale: 2 homes x 4 processes, 60 jobs; `ROWHOUSE_TEST_PROCESSES` says how many of a home.
/// Control: homes that keep the same state in files do every job twice, and each counts its own.
#[test]
fn r1_homes_of_several_machines_share_one_state() {
    const JOBS: u32 = 60;
    let processes = std::env::var("ROWHOUSE_TEST_PROCESSES");
    let processes = processes.map_or(4, |text| text.parse().expect("a number of processes"));
    let tokens = 7 * i64::from(JOBS);
    let url = new_database();
    let (one, other) = (home_on(&url), home_on(&url));
    let runtime = prepare_work(one.path(), JOBS);
    let (done, used) = work(&[one.path(), other.path()], processes);
    assert_eq!((done.len(), done.values().sum::<usize>()), (JOBS as usize, JOBS as usize), "each once");
    assert_eq!(used, tokens);
    drop(runtime);

    let (one, other) = (folder(), folder());
    let _open = [prepare_work(one.path(), JOBS), prepare_work(other.path(), JOBS)];
    let (done, used) = work(&[one.path(), other.path()], 1);
    assert!(done.values().all(|times| *times == 2), "each in both homes");
    assert_eq!(used, tokens, "what the other home did is not in it");
}

#[test]
fn what_is_not_for_a_server_is_refused_there() {
    let home = folder();
    let url = new_database();
    let text = format!("[logs]\nbackend = \"postgres\"\n[state.postgres]\nurl = \"{url}\"\n");
    std::fs::write(home.path().join("config.toml"), text).expect("a file");
    let error = Runtime::builder(Home::at(home.path())).domain(Domain::logs()).open().expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.advice().is_some_and(|advice| advice.contains("sqlite")), "{error}");
}

/// A program's own domain that the configuration puts on a server has a schema for it, the same one as for a file, or is an
/// error. One that it does not speak of is in a file, also for what is written on a session.
#[test]
fn a_domain_of_a_program_goes_to_a_server_with_a_schema_for_it_or_not_at_all() {
    let database = shared().new_database();
    let home = home_on(&url_in(&database));
    let of = |name: &'static str| [Migration { name, sql: "CREATE TABLE note(id BIGINT PRIMARY KEY)" }];
    let open = |domain: Domain| Runtime::builder(Home::at(home.path())).domain(domain).open();
    let notes = || Domain::new("notes").migrations(&of("V1__note"));
    let refused = open(notes()).expect_err("no schema for a server");
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    assert!(refused.advice().is_some_and(|advice| advice.contains("on_server")), "{refused}");
    let refused = open(notes().on_server(&of("V1__other"))).expect_err("another schema");
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    assert_eq!(files(home.path()), BTreeSet::new());

    let runtime = open(notes().on_server(&of("V1__note"))).expect("a runtime");
    let raw = runtime.database("notes").expect_err("not in a file");
    assert!(raw.advice().is_some_and(|advice| advice.contains("engine")), "{raw}");
    let add = |engine: Engine| engine.write(|tx| tx.execute("INSERT INTO note VALUES ($1)", &[7_i64.into()]));
    add(runtime.engine("notes").expect("the domain")).expect("a note");
    let count = "SELECT count(*) FROM rowhouse_notes.note";
    assert_eq!(shared().client(&database).query_one(count, &[]).expect("a count").get::<_, i64>(0), 1);
    let here = open(Domain::new("drafts").migrations(&of("V1__note")).on_server(&of("V1__note")));
    add(here.expect("a runtime").engine("drafts").expect("the domain")).expect("a draft");
    assert!(files(home.path()).contains("drafts.sqlite"));
}

/// Rows that a table numbers itself go on behind those that were moved, on either side.
///
/// Control: a server that counts from the beginning refuses the next row.
#[test]
fn a_table_that_numbers_its_rows_goes_on_behind_those_that_were_moved() {
    let database = shared().new_database();
    let home = folder();
    let text = format!("[state.postgres]\nurl = \"{}\"\n", url_in(&database));
    std::fs::write(home.path().join("config.toml"), text).expect("a file");
    let made = |sql| [Migration { name: "V1__note", sql }];
    let here = made(
        "CREATE TABLE note(id INTEGER PRIMARY KEY, body TEXT NOT NULL); CREATE TABLE debt(id INTEGER PRIMARY KEY)",
    );
    // The largest number of the second one is none that its sequence could have given.
    let there = made(
        "CREATE TABLE note(id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, body TEXT COLLATE \"C\" NOT NULL);
         CREATE TABLE debt(id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY)",
    );
    let notes = Domain::new("notes").migrations(&here).on_server(&there);
    let builder = || Runtime::builder(Home::at(home.path())).domain(notes.clone());
    let add = |runtime: &Runtime| {
        let engine = runtime.engine("notes").expect("the domain");
        engine.write(|tx| {
            let row = tx.query("INSERT INTO note(body) VALUES ($1) RETURNING id", &["more".into()])?;
            row[0].get::<i64>("id")
        })
    };
    let migrate = |to: Backend| {
        let mut options = MoveOptions::to(to);
        options.wait = Duration::from_mins(1);
        builder().migrate_backend(&options, &mut |_| {}).expect("moved")
    };
    let added = || add(&builder().open().expect("a runtime"));
    assert_eq!((1..=5).map(|_| added().expect("a note")).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let owe = |tx: &dyn Session| tx.execute("INSERT INTO debt(id) VALUES (-3)", &[]);
    let runtime = builder().open().expect("a runtime");
    runtime.engine("notes").expect("the domain").write(|tx| owe(tx)).expect("a debt");
    drop(runtime);
    migrate(Backend::Postgres);
    assert_eq!([6, 7].map(|_| added().expect("a note on the server")), [6, 7]);
    let restart = "ALTER TABLE rowhouse_notes.note ALTER COLUMN id RESTART";
    shared().client(&database).batch_execute(restart).expect("from the beginning");
    assert_eq!(added().expect_err("it is there").kind(), ErrorKind::Constraint);
    migrate(Backend::Sqlite);
    assert_eq!(added().expect("a note in the file"), 8);
    migrate(Backend::Postgres);
    assert_eq!(added().expect("a note on the server"), 9);
}

/// What a program has prepared is of the columns that a table had then: when another program's migration changes them, the
/// work is done again with what is prepared anew.
#[test]
fn a_migration_of_another_program_is_met_by_preparing_again() {
    let database = shared().new_database();
    let home = home_on(&url_in(&database));
    let made = [Migration { name: "V1__note", sql: "CREATE TABLE note(id BIGINT PRIMARY KEY)" }];
    let notes = Domain::new("notes").migrations(&made).on_server(&made);
    let runtime = Runtime::builder(Home::at(home.path())).domain(notes).open().expect("a runtime");
    let engine = runtime.engine("notes").expect("the domain");
    let columns = |tx: &StoreSession<'_>| {
        let rows = tx.query("SELECT * FROM note WHERE id >= $1", &[0_i64.into()])?;
        rows.first().map_or(Ok(0), |row| row.get::<i64>("more"))
    };
    let all = || (engine.read(columns).expect("read"), engine.write(columns).expect("written"));
    assert_eq!(all(), (0, 0));
    let change = "INSERT INTO rowhouse_notes.note VALUES (1); \
                  ALTER TABLE rowhouse_notes.note ADD COLUMN more BIGINT NOT NULL DEFAULT 7";
    shared().client(&database).batch_execute(change).expect("another program's migration");
    assert_eq!(all(), (7, 7));
}

/// Whatever is wrong with the server is an error that says so, and no file is made in the home instead.
/// Scale: 8 wrong settings: URL, server, password, user, database, permission, encoding, plain text over a network.
/// Control: the same home without the setting makes its files, which is what a fall-back would look like.
#[test]
fn r5_a_wrong_setting_is_told_and_leaves_nothing_behind() {
    let server = shared();
    let database = server.new_database();
    let mut client = server.client(&database);
    client
        .batch_execute(
            "CREATE ROLE guarded LOGIN PASSWORD 'right'; CREATE ROLE bystander LOGIN; \
             REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        )
        .expect("roles");
    let ascii = format!("{database}_ascii");
    client
        .batch_execute(&format!(
            "CREATE DATABASE {ascii} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
        ))
        .expect("another encoding");
    let nowhere = folder();
    let cases = [
        ("postgres://app@nowhere.invalid:x/y".to_owned(), ErrorKind::Invalid, "URL"),
        (format!("host={} user=app password=s3cret", nowhere.path().display()), ErrorKind::Io, "reached"),
        (format!("{} password=s3cret", server.url("guarded", &database)), ErrorKind::Invalid, "28P01"),
        (server.url("nobody", &database), ErrorKind::Invalid, "28000"),
        (url_in("no_such_database"), ErrorKind::NotFound, "3D000"),
        (server.url("bystander", &database), ErrorKind::ReadOnly, "42501"),
        (url_in(&ascii), ErrorKind::Unsupported, "UTF-8"),
        ("host=10.0.0.9 user=app sslmode=disable".to_owned(), ErrorKind::Invalid, "encrypted"),
    ];
    for (url, kind, says) in cases {
        let home = home_on(&url);
        let before = Instant::now();
        let error = open(home.path()).err().unwrap_or_else(|| panic!("{url} was accepted"));
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(says) && error.advice().is_some(), "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        assert_eq!(files(home.path()), BTreeSet::new(), "{error}");
        // A person waits for it.
        assert!(before.elapsed() < Duration::from_secs(30), "{error}");
    }
    let control = folder();
    open(control.path()).expect("in files");
    assert_eq!(files(control.path()).iter().filter(|name| name.ends_with(".sqlite")).count(), 2);
    let right = home_on(&format!("{} password=right", server.url("guarded", &database)));
    client.batch_execute(&format!("GRANT CREATE ON DATABASE {database} TO guarded")).expect("granted");
    open(right.path()).expect("the right password");
}

#[test]
fn programs_that_start_together_migrate_once() {
    let url = new_database();
    let homes: Vec<_> = (0..6).map(|_| home_on(&url)).collect();
    std::thread::scope(|scope| {
        let started: Vec<_> = homes.iter().map(|home| scope.spawn(|| open(home.path()).map(drop))).collect();
        for one in started {
            one.join().expect("no panic").expect("a runtime");
        }
    });
    open(homes[0].path()).expect("a settled one");
}

/// A migration that another program is at is waited for until the deadline, and no longer.
#[test]
fn the_wait_for_a_migration_has_an_end() {
    let database = shared().new_database();
    let mut other = shared().client(&database);
    other
        .batch_execute("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('rowhouse_state', 0))")
        .expect("a lock");
    let home = home_on(&url_in(&database));
    let error = open_within(home.path(), Duration::from_millis(500)).expect_err("held");
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    other.batch_execute("ROLLBACK").expect("let go");
    open(home.path()).expect("free");
}

#[test]
fn a_newer_schema_is_left_alone() {
    let database = shared().new_database();
    let home = home_on(&url_in(&database));
    drop(open(home.path()).expect("a runtime"));
    let newer = "INSERT INTO rowhouse_state.refinery_schema_history VALUES (900, 'later', 'now', '1'); \
                 UPDATE rowhouse_state.rowhouse_meta SET schema_version = 900, oldest_reader = 900, \
                 oldest_writer = 900, program = 'later', program_version = '9'";
    shared().client(&database).batch_execute(newer).expect("a newer program");
    let error = open(home.path()).expect_err("too new");
    assert_eq!(error.kind(), ErrorKind::SchemaTooNew, "{error}");
    assert!(error.advice().is_some_and(|advice| advice.contains("later 9")), "{error}");
}

#[test]
fn a_write_that_cannot_have_its_lock_ends_at_its_deadline() {
    let database = shared().new_database();
    let home = home_on(&url_in(&database));
    drop(open(home.path()).expect("migrated"));
    let runtime = open_within(home.path(), Duration::from_millis(400)).expect("a runtime");
    let mut other = shared().client(&database);
    other.batch_execute("BEGIN; LOCK TABLE rowhouse_goals.goal").expect("a lock");
    let error = runtime.goals().replace(THREAD, &NewGoal::new("Ship it")).expect_err("held");
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert_eq!(error.database(), Some("goals"), "{error}");
    other.batch_execute("ROLLBACK").expect("let go");
    assert_eq!(runtime.goals().get(THREAD).expect("read"), None, "nothing was done");
}

/// What is tried again, waited for and given up on a server is counted, each by its reason.
#[test]
fn figures_tell_what_was_tried_again_and_why() {
    let database = shared().new_database();
    let home = folder();
    configure_with(home.path(), &format!("url = \"{}\"\npool_size = 1", url_in(&database)));
    let runtime = open(home.path()).expect("a runtime");
    runtime.goals().replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    let goals = runtime.engine("goals").expect("the domain");
    let figures = || runtime.stats().remove("goals").expect("the domain");
    let other = std::sync::Mutex::new(shared().client(&database));
    // The other does its part between what a job reads and what it writes, the first time it runs.
    let meets = |text: &str| {
        let first = AtomicBool::new(true);
        goals.write(|tx| {
            tx.query("SELECT tokens_used FROM goal", &[])?;
            if first.swap(false, Ordering::SeqCst) {
                other.lock().expect("one thread").batch_execute(text).expect("done");
            }
            tx.execute("UPDATE goal SET tokens_used = tokens_used + 1", &[])
        })
    };
    assert_eq!((figures().jobs, figures().connections, figures().connections_most), (1, 1, 1));

    meets("UPDATE rowhouse_goals.goal SET tokens_used = 100").expect("written after the other");
    let counted = figures();
    assert_eq!((counted.jobs, counted.retried_conflict, counted.retried_lost), (2, 1, 0), "{counted:?}");
    meets(
        "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .expect("written over another connection");
    let counted = figures();
    assert_eq!((counted.jobs, counted.retried_conflict, counted.retried_lost), (3, 1, 1), "{counted:?}");

    let short = goals.clone().within(Duration::from_millis(200));
    let late = short.read(|at| at.query("SELECT pg_sleep(60)::text", &[])).expect_err("too long");
    let busy = goals
        .read(|_| {
            assert_eq!(figures().connections_lent, 1);
            Ok(short.read(|_| Ok(())).expect_err("one connection"))
        })
        .expect("read");
    assert_eq!((late.kind(), busy.kind()), (ErrorKind::Timeout, ErrorKind::Busy));
    let counted = figures();
    assert_eq!((counted.statements_cancelled, counted.connection_waits, counted.connections_lent), (1, 1, 0));
    let longest = counted.connection_wait_longest_us;
    assert!(longest >= 100_000 && longest == counted.connection_wait_us, "{counted:?}");
    let kinds = [ErrorKind::Timeout, ErrorKind::Busy].map(|kind| counted.errors.of_kind(kind));
    assert_eq!((kinds, counted.errors.total()), ([1, 1], 2), "each answer once");

    runtime.close(Duration::from_secs(5));
    assert_eq!(figures().connections, 0, "closed");
}

/// Two writers that read and then write never both do it on what the other changes.
#[test]
fn what_a_job_reads_is_still_so_when_it_writes() {
    const CHILDREN: u32 = 20;
    let home = home_on(&new_database());
    let runtime = open(home.path()).expect("a runtime");
    let edges = runtime.spawn_edges();
    let won = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for parent in 1_000..1_006 {
            let (edges, won) = (&edges, &won);
            scope.spawn(move || {
                for child in 0..CHILDREN {
                    match edges.add(&id(parent), &id(child)) {
                        Ok(true) => drop(won.fetch_add(1, Ordering::Relaxed)),
                        Ok(false) => panic!("its own edge was there"),
                        // What the store says of another parent, not what the server says of a key.
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(won.load(Ordering::Relaxed), CHILDREN);
}

/// A write whose acknowledgement was lost is found on the server, and not done again.
///
/// Control: a client that does again what failed without an answer counts twice.
#[test]
fn a_write_whose_acknowledgement_was_lost_counts_once() {
    let database = shared().new_database();
    let wire = Wire::to(shared());
    let home = home_on(&wire.url(&database));
    let runtime = open(home.path()).expect("a runtime");
    let goals = runtime.goals();
    goals.replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    for round in 1..=5 {
        wire.next_commit(Ending::Cut);
        goals.account(THREAD, 0, 7, Accounting::ActiveOnly, None).expect("counted");
        assert!(wire.is_done(), "an acknowledgement was taken away");
        assert_eq!(goals.get(THREAD).expect("read").expect("a goal").tokens_used, 7 * round);
    }
    let counted = &runtime.stats()["goals"];
    assert_eq!((counted.outcomes_settled, counted.jobs), (5, 6), "and told in the figures");

    let add = "BEGIN; UPDATE rowhouse_goals.goal SET tokens_used = tokens_used + 7; COMMIT";
    let plain = || postgres::Client::connect(&wire.url(&database), postgres::NoTls).expect("a connection");
    wire.next_commit(Ending::Cut);
    if plain().batch_execute(add).is_err() {
        plain().batch_execute(add).expect("again");
    }
    assert_eq!(goals.get(THREAD).expect("read").expect("a goal").tokens_used, 35 + 14, "counted twice");
}

/// Writers go on through connections that are ended and a server that is started again; what was answered is there, once.
#[test]
fn writers_survive_ended_connections_and_a_crash() {
    let server = server::Server::start();
    let database = server.new_database();
    let home = home_on(&server.url("app", &database));
    let runtime = open(home.path()).expect("a runtime");
    let goals = runtime.goals();
    goals.replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    let (stop, answered) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    goals.account(THREAD, 0, 1, Accounting::ActiveOnly, None).expect("counted");
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let more = |than: u32| {
            let until = Instant::now() + Duration::from_mins(1);
            while answered.load(Ordering::SeqCst) <= than {
                assert!(Instant::now() < until, "the writers do not go on");
                std::thread::yield_now();
            }
        };
        for _ in 0..3 {
            more(answered.load(Ordering::SeqCst) + 5);
            let ended = server.client("postgres").execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'rowhouse %'",
                &[],
            );
            assert!(ended.expect("ended") > 0);
        }
        more(answered.load(Ordering::SeqCst) + 5);
        server.crash();
        more(answered.load(Ordering::SeqCst) + 5);
        stop.store(true, Ordering::SeqCst);
    });
    let used = goals.get(THREAD).expect("read").expect("a goal").tokens_used;
    assert_eq!(used, i64::from(answered.load(Ordering::SeqCst)));
}

/// A standby takes over while writers write: all that was answered is there, once, and nobody had to do anything.
///
/// Control: with one host in the URL the same writer ends with an error.
#[test]
fn writers_follow_a_fail_over() {
    let pair = Pair::synchronous();
    let Pair { primary, standby } = &pair;
    let database = primary.new_database();
    // What is answered can also be read there.
    let mut client = primary.client("postgres");
    client.batch_execute("ALTER SYSTEM SET synchronous_commit = remote_apply").expect("applied");
    client.batch_execute("SELECT pg_reload_conf()").expect("from now on");
    let (both, one) = (home_on(&pair.url(&database)), home_on(&primary.url("app", &database)));
    let runtime = open(both.path()).expect("a runtime");
    let alone = open_within(one.path(), Duration::from_secs(2)).expect("a runtime");
    let goals = runtime.goals();
    goals.replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    let follower = home_on(&standby.url("app", &database));
    let follower = open(follower.path()).expect("it can be read");
    follower.goals().get(THREAD).expect("read");
    let refused = follower.goals().replace(THREAD, &NewGoal::new("Ship it")).expect_err("a standby");
    assert_eq!(refused.kind(), ErrorKind::ReadOnly, "{refused}");
    drop(follower);

    let (stop, answered) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    goals.account(THREAD, 0, 1, Accounting::ActiveOnly, None).expect("counted");
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let more = || {
            let (than, until) =
                (answered.load(Ordering::SeqCst) + 5, Instant::now() + Duration::from_mins(1));
            while answered.load(Ordering::SeqCst) <= than {
                assert!(Instant::now() < until, "the writers do not go on");
                std::thread::yield_now();
            }
        };
        more();
        pair.fail_over();
        more();
        stop.store(true, Ordering::SeqCst);
    });
    let used = goals.get(THREAD).expect("read").expect("a goal").tokens_used;
    assert_eq!(used, i64::from(answered.load(Ordering::SeqCst)));

    let error = alone.goals().account(THREAD, 0, 1, Accounting::ActiveOnly, None).expect_err("nobody there");
    assert!([ErrorKind::Io, ErrorKind::Busy].contains(&error.kind()), "{error}");
    assert!(matches!(alone.health(), Health::Degraded { .. }), "{:?}", alone.health());
}

/// What goes to a server by TCP with `sslmode=require` is encrypted, and only to one whose certificate is trusted.
#[test]
fn a_server_is_trusted_by_its_certificate() {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let server = server::Server::start_with(|folder| {
        certificates::make(folder);
        let at = folder.display();
        format!(
            "-c ssl=on -c ssl_cert_file={at}/server.pem -c ssl_key_file={at}/server.key \
             -c listen_addresses=127.0.0.1 -c port={port}"
        )
    });
    let url = format!("host=localhost port={port} user=app dbname=postgres sslmode=require");
    let home_trusting = |name: &str| {
        let home = folder();
        let root = server.folder().join(name);
        let text = format!(
            "[state]\nbackend = \"postgres\"\n[state.postgres]\nurl = \"{url}\"\nroot_cert = \"{}\"\n",
            root.display()
        );
        std::fs::write(home.path().join("config.toml"), text).expect("written");
        home
    };
    let error = open(home_trusting("wrong.pem").path()).expect_err("not trusted");
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    let home = home_trusting("right.pem");
    let _runtime = open(home.path()).expect("trusted");
    let mut look = postgres::Client::connect(
        &format!("host={} port={port} user=app dbname=postgres", server.folder().display()),
        postgres::NoTls,
    )
    .expect("a connection");
    let encrypted = look
        .query_one(
            "SELECT count(*) FILTER (WHERE ssl), count(*) FILTER (WHERE NOT ssl) FROM pg_stat_ssl \
             JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'rowhouse %'",
            &[],
        )
        .expect("counts");
    assert!(encrypted.get::<_, i64>(0) > 0 && encrypted.get::<_, i64>(1) == 0);
}

/// A write that was committed here and never came to the standby is not answered as one that is there, also when the process
/// of the server that waited for the standby was ended meanwhile.
#[test]
fn what_the_standby_never_got_is_not_acknowledged() {
    let pair = Pair::synchronous();
    let home = home_on(&pair.primary.url("app", "postgres"));
    let runtime = open_within(home.path(), Duration::from_secs(4)).expect("a runtime");
    runtime.goals().replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    pair.cut();
    std::thread::scope(|scope| {
        let goals = runtime.goals();
        let write = scope.spawn(move || goals.account(THREAD, 0, 1, Accounting::ActiveOnly, None).map(drop));
        let mut client = pair.primary.client("postgres");
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE wait_event = 'SyncRep' AND application_name LIKE 'rowhouse %'";
        while client.query(end, &[]).expect("asked").is_empty() {
            std::thread::yield_now();
        }
        let answer = write.join().expect("an answer");
        assert_eq!(answer.map_err(|error| error.kind()), Err(ErrorKind::OutcomeUnknown));
    });
}

#[test]
fn ids_of_old_writes_go() {
    let database = shared().new_database();
    let home = home_on(&url_in(&database));
    let runtime = open(home.path()).expect("a runtime");
    let goals = runtime.goals();
    goals.replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    let mut client = shared().client(&database);
    let old = "INSERT INTO rowhouse_goals.rowhouse_operation SELECT gen_random_uuid(), TRUE, 0 FROM generate_series(1, 1500)";
    client.batch_execute(old).expect("ids of long ago");
    for _ in 0..1_000 {
        goals.account(THREAD, 0, 1, Accounting::ActiveOnly, None).expect("counted");
    }
    let count = "SELECT count(*) FILTER (WHERE at = 0), count(*) FILTER (WHERE at > 0) FROM rowhouse_goals.rowhouse_operation";
    let left = client.query_one(count, &[]).expect("counts");
    assert_eq!(left.get::<_, i64>(0), 0, "the old ones went");
    assert_eq!(left.get::<_, i64>(1), 1_001, "those that may be asked for stayed");
}

/// Name, type, nullability and place in the primary key.
type Column = (String, String, bool, u32);

fn of_file(domain: Domain, name: &str) -> BTreeMap<String, Vec<Column>> {
    let at = format!("/nowhere/schema-{name}");
    let runtime = Runtime::builder(Home::at(at)).domain(domain).ephemeral().open().expect("a runtime");
    let read = "SELECT m.name, p.name, p.type, p.\"notnull\" OR p.pk > 0, p.pk FROM sqlite_schema AS m \
                JOIN pragma_table_info(m.name) AS p WHERE m.type = 'table' ORDER BY m.name, p.name";
    let database = runtime.database(name).expect("the domain");
    let rows = database.read(|at| {
        at.rows(read, [], |row| {
            let column = (row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get(3)?, row.get(4)?);
            Ok((row.get::<_, String>(0)?, column))
        })
    });
    tables(rows.expect("the schema"))
}

fn of_server(database: &str, name: &str) -> BTreeMap<String, Vec<Column>> {
    let read = "SELECT c.table_name::text, c.column_name::text, c.data_type::text, c.is_nullable = 'NO', \
                coalesce((SELECT k.ordinal_position FROM information_schema.table_constraints AS t \
                    JOIN information_schema.key_column_usage AS k USING (constraint_schema, constraint_name) \
                    WHERE t.constraint_type = 'PRIMARY KEY' AND t.table_schema = c.table_schema \
                      AND t.table_name = c.table_name AND k.column_name = c.column_name), 0)::int8 \
                FROM information_schema.columns AS c WHERE c.table_schema = $1";
    let rows = shared().client(database).query(read, &[&format!("rowhouse_{name}")]).expect("the schema");
    tables(
        rows.iter()
            .map(|row| {
                let ty = match row.get::<_, &str>(2) {
                    "bigint" => "INTEGER",
                    "text" => "TEXT",
                    "double precision" => "REAL",
                    "bytea" => "BLOB",
                    other => other,
                };
                let key = u32::try_from(row.get::<_, i64>(4)).expect("a place");
                (row.get(0), (row.get(1), ty.to_owned(), row.get(3), key))
            })
            .collect(),
    )
}

/// The tables of the application: not the engines' own, and not the search's index, which each engine has in its own way.
fn tables(columns: Vec<(String, Column)>) -> BTreeMap<String, Vec<Column>> {
    let mut tables: BTreeMap<String, Vec<Column>> = BTreeMap::new();
    for (table, column) in columns {
        let own = ["refinery_", "rowhouse_", "sqlite_", "thread_search", "thread_text"];
        if !own.iter().any(|prefix| table.starts_with(prefix)) {
            tables.entry(table).or_default().push(column);
        }
    }
    for columns in tables.values_mut() {
        columns.sort();
    }
    tables
}

#[test]
fn both_engines_have_one_schema_by_the_same_migrations() {
    let database = shared().new_database();
    let home = home_on(&url_in(&database));
    open(home.path()).expect("migrated");
    for (domain, name) in [(Domain::state(), "state"), (Domain::goals(), "goals")] {
        assert_eq!(of_file(domain, name), of_server(&database, name), "{name}");
        let names = |folder: &str| -> BTreeSet<String> {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            let found = std::fs::read_dir(folder).expect("migrations").flatten();
            let texts =
                found.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|is| is == "sql"));
            texts.map(|path| path.file_name().expect("a file").to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(&format!("migrations_{name}")), names(&format!("migrations_postgres/{name}")));
    }
}

fn titled(number: u32, title: &str) -> ThreadFacts {
    ThreadFacts {
        id: id(number),
        created_at: number.into(),
        recency_at: number.into(),
        title: Some(title.to_owned()),
        ..ThreadFacts::default()
    }
}

#[test]
fn threads_are_searched_on_a_server() {
    let home = home_on(&new_database());
    let runtime = open(home.path()).expect("a runtime");
    let threads = runtime.threads();
    let titles = [
        "Fix the parser's flaky test",
        "Résumé of the café",
        "修复解析器",
        "Move src/main.rs to foo_bar",
        "Weekly notes",
    ];
    let facts: Vec<_> = (1..).zip(titles).map(|(number, title)| titled(number, title)).collect();
    threads.upsert(&facts).expect("threads");
    let noted = ThreadFacts { preview: Some("the parser again".to_owned()), ..titled(6, "Other") };
    threads.upsert(&[noted]).expect("one more");
    let found = |text: &str| {
        let page = threads.search(&ThreadSearch::text(text)).expect("a page");
        assert!(!page.partial && !page.truncated);
        page.threads.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(found("parser"), [id(1), id(6)], "a title counts more than a preview");
    assert_eq!(found("pars FLAKY"), [] as [String; 0], "only the last word is open at its end");
    assert_eq!(found("parser flak"), [id(1)]);
    assert_eq!(found("resume CAFE"), [id(2)]);
    assert_eq!(found("解析"), [id(3)], "inside a run of letters");
    assert_eq!(found("析解"), [] as [String; 0], "in its order");
    assert_eq!(found("main.rs"), [id(4)]);
    assert_eq!(found("bar"), [id(4)]);
    assert_eq!(found("' | & ! notes"), [id(5)], "punctuation is no syntax");
    assert_eq!(found("???"), [] as [String; 0]);
    let by_recency = ThreadSearch::text("the").by(SearchOrder::Recency).limit(2);
    let page = threads.search(&by_recency).expect("a page");
    assert_eq!(page.threads.iter().map(|row| row.id.clone()).collect::<Vec<_>>(), [id(6), id(2)]);
    let rest = threads.search(&by_recency.cursor(page.next_cursor.expect("more"))).expect("a page");
    assert_eq!(rest.threads.iter().map(|row| row.id.clone()).collect::<Vec<_>>(), [id(1)]);
    threads.upsert(&[titled(5, "Daily notes")]).expect("another title");
    assert_eq!((found("weekly"), found("daily")), (vec![], vec![id(5)]));
}

/// Rows of the threads' tables that the server read for these lists, with so many threads.
fn rows_read(threads: i64) -> Vec<i64> {
    let database = shared().new_database();
    let home = home_on(&url_in(&database));
    drop(open(home.path()).expect("migrated"));
    let mut client = shared().client(&database);
    client
        .batch_execute(&format!(
            "SET search_path = rowhouse_state;
             INSERT INTO thread(id, created_at, updated_at, recency_at, archived_at, cwd, title)
             SELECT format('%s-0000-7000-8000-%s', lpad(to_hex(i * 7919 % 1000003), 8, '0'), lpad(to_hex(i), 12, '0')),
                 i, i * 31 % {threads}, i * 17 % {threads}, CASE WHEN i % 7 = 0 THEN 1 END, '/home/ada/' || i * 13 % 20,
                 'Fix number ' || i FROM generate_series(1, {threads}) AS i;
             ANALYZE"
        ))
        .expect("threads");
    let folders = (0..8).map(|number| format!("/home/ada/{number}"));
    let queries = [
        ThreadQuery::recent(),
        ThreadQuery::recent().sort(Sort::Created).direction(Direction::Ascending),
        ThreadQuery::recent().sort(Sort::Updated).archived(true),
        ThreadQuery::recent().cwd("/home/ada/3"),
        ThreadQuery::recent().cwds(folders).sort(Sort::Updated),
        ThreadQuery::recent().sources(["none"]).looks(200),
    ];
    let mut read = || -> i64 {
        let counted = "SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname LIKE 'thread%') \
                       + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname LIKE 'thread%')";
        client.query_one(&format!("SELECT ({counted})::int8"), &[]).expect("a count").get(0)
    };
    let each = queries.map(|query| {
        let before = read();
        let runtime = open(home.path()).expect("a runtime");
        // As often as it takes for a server to try one plan for all.
        for _ in 0..8 {
            let page = runtime.threads().list(&query).expect("a page");
            let rare = page.threads.is_empty() && page.next_cursor.is_some();
            assert!(page.threads.len() == 50 || rare, "{query:?}");
        }
        // What a connection read is counted when it ends.
        runtime.close(Duration::from_secs(5));
        drop(runtime);
        let until = Instant::now() + Duration::from_secs(30);
        while read() == before {
            assert!(Instant::now() < until, "the server does not count");
            std::thread::yield_now();
        }
        read() - before
    });
    each.into()
}

#[test]
fn a_page_reads_as_many_rows_among_ten_times_as_many() {
    let (few, many) = (rows_read(2_000), rows_read(20_000));
    for (one, more) in few.iter().zip(&many) {
        assert!(*more <= one + one / 2 + 100, "{few:?} {many:?}");
    }
}

/// A value that a server cannot hold matches nothing there, and fails nothing.
#[test]
fn a_filter_that_no_row_can_match_matches_none() {
    let home = home_on(&new_database());
    let runtime = open(home.path()).expect("a runtime");
    runtime.threads().upsert(&[titled(1, "One")]).expect("a thread");
    for query in [ThreadQuery::recent().sources(["a\0b"]), ThreadQuery::recent().cwd("/a\0b")] {
        let found: std::result::Result<_, Error> = runtime.threads().list(&query);
        assert_eq!(found.expect("a page").threads, []);
    }
}
