//! The doctor names what is wrong with the server that a home's configuration names, and only that: each thing is broken
//! in turn, on a real server.
#![allow(clippy::disallowed_methods, reason = "a test makes and looks at files from outside")]

mod engines;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use engines::server::{Server, configure, shared};
use postgres::{Client, NoTls};
use rowhouse::doctor::{self, Check, Options, Report, Status};
use rowhouse::{Backend, Domain, Home, MoveOptions, MoveReport, Runtime};
use tempfile::TempDir;

/// Time enough for a busy machine.
const LONG: Duration = Duration::from_mins(1);
/// What must not be printed.
const CANARY: &str = "canary-of-a-password";

fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("rowhouse-doctor-").tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).expect("private");
    folder
}

/// A home whose state and goals are on this server, with their schemas made.
fn home_on(url: &str) -> TempDir {
    let home = folder();
    configure(home.path(), url);
    drop(open(home.path()));
    home
}

fn open(home: &Path) -> Runtime {
    let builder = Runtime::builder(Home::at(home)).domain(Domain::state()).domain(Domain::goals());
    builder.open().expect("a runtime")
}

fn examine(home: &Path) -> Report {
    examine_within(home, LONG)
}

/// Nothing is left behind by a look, and nobody's secret is in it.
fn examine_within(home: &Path, deadline: Duration) -> Report {
    let mut options = Options::default();
    options.deadline = Some(deadline);
    let before = files(home);
    let report = doctor::run(&Home::at(home), &options).expect("a report");
    assert_eq!(files(home), before, "the look left something");
    assert!(!format!("{report:?}").contains(CANARY), "{report:#?}");
    report
}

fn files(home: &Path) -> BTreeSet<String> {
    let found = std::fs::read_dir(home).expect("the home").flatten();
    found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn row<'r>(report: &'r Report, id: &str) -> &'r Check {
    report.check(id).unwrap_or_else(|| panic!("no row {id}: {report:#?}"))
}

/// Notable is this, and nothing else, in words that name what it is.
fn names_only(report: &Report, id: &str, status: Status, says: &str) {
    let notable: Vec<_> = report.notable().iter().map(|check| check.id.as_str()).collect();
    assert_eq!(notable, [id], "{:#?}", report.notable());
    let check = row(report, id);
    assert_eq!(check.status, status, "{check:#?}");
    let words = format!("{} {:?}", check.summary, check.evidence);
    assert!(words.contains(says), "{check:#?}");
    assert!(check.remediation.is_some(), "no way out: {check:#?}");
}

fn is_sound(report: &Report) {
    assert!(report.notable().is_empty(), "{:#?}", report.notable());
}

/// A database on the server that most tests share.
struct Place {
    database: String,
    home: TempDir,
}

impl Place {
    fn new() -> Self {
        let database = shared().new_database();
        let home = home_on(&shared().url("app", &database));
        Self { database, home }
    }

    fn by_hand(&self, sql: &str) {
        shared().client(&self.database).batch_execute(sql).expect(sql);
    }

    fn report(&self) -> Report {
        examine(self.home.path())
    }

    /// The same for another user.
    fn report_of(&self, user: &str) -> Report {
        configure(self.home.path(), &shared().url(user, &self.database));
        self.report()
    }
}

#[test]
fn a_sound_server_has_a_row_for_each_check() {
    let place = Place::new();
    let report = place.report();
    is_sound(&report);
    let rows = report.checks.iter().filter(|check| check.category == "server");
    let skipped: Vec<_> = rows.clone().filter(|check| check.status == Status::Skipped).collect();
    assert!(rows.count() == 16 && skipped.is_empty(), "{skipped:#?}");
    assert!(row(&report, "server.version").summary.starts_with("PostgreSQL "));
    assert!(row(&report, "server.schema").summary.contains("goals version"));
    assert!(row(&report, "server.permissions").summary.contains("rolled back"));
    let mut client = shared().client(&place.database);
    let left = client.query_one("SELECT count(*) FROM rowhouse_state.rowhouse_operation", &[]);
    assert_eq!(left.expect("a count").get::<_, i64>(0), 0, "the probe was rolled back");
}

#[test]
fn a_home_in_files_has_none_of_them() {
    let home = folder();
    drop(open(home.path()));
    let report = examine(home.path());
    assert!(report.checks.iter().all(|check| check.category != "server"), "{report:#?}");
}

/// Where nothing was made yet that is no trouble, and nothing is made.
#[test]
fn an_empty_database_is_no_trouble() {
    let database = shared().new_database();
    let home = folder();
    configure(home.path(), &shared().url("app", &database));
    let report = examine(home.path());
    is_sound(&report);
    assert!(row(&report, "server.schema").summary.contains("not there yet"));
    let made = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'rowhouse%'";
    let made = shared().client(&database).query_one(made, &[]).expect("a count");
    assert_eq!(made.get::<_, i64>(0), 0);
}

#[test]
fn wrong_settings_are_named() {
    let nowhere = folder();
    let socket = nowhere.path().display();
    let too_large = format!("host={socket} user=app password={CANARY}\"\npool_size = \"many");
    for (url, id, says) in [
        (format!("postgres://app:{CANARY}@h:x/y"), "server.settings", "URL"),
        (format!("host=10.0.0.9 user=app sslmode=disable password={CANARY}"), "server.settings", "encrypted"),
        (too_large, "server.settings", "[state.postgres]"),
        (format!("host={socket} user=app password={CANARY}"), "server.reachable", "cannot be reached"),
        (shared().url("nobody", "postgres"), "server.reachable", "28000"),
        (shared().url("app", "no_such_database"), "server.reachable", "3D000"),
    ] {
        let home = folder();
        configure(home.path(), &url);
        names_only(&examine(home.path()), id, Status::Fail, says);
    }
}

#[test]
fn a_wrong_password_is_named_and_not_told() {
    let place = Place::new();
    place.by_hand("CREATE ROLE guarded LOGIN PASSWORD 'right'");
    let url = shared().url("guarded", &place.database);
    configure(place.home.path(), &format!("{url} password={CANARY}"));
    names_only(&place.report(), "server.reachable", Status::Fail, "28P01");
    let file = place.home.path().join("server.url");
    std::fs::write(&file, format!("{url} password={CANARY}")).expect("a file");
    let text = "[state]\nbackend = \"postgres\"\n[state.postgres]\nurl_file = \"server.url\"\n";
    std::fs::write(place.home.path().join("config.toml"), text).expect("written");
    names_only(&place.report(), "server.reachable", Status::Fail, "28P01");
    std::fs::remove_file(&file).expect("removed");
    names_only(&place.report(), "server.settings", Status::Fail, "no file");
}

#[test]
fn a_missing_permission_is_named() {
    let place = Place::new();
    let all = "GRANT ALL ON ALL TABLES IN SCHEMA rowhouse_state, rowhouse_goals TO clerk";
    place.by_hand("CREATE ROLE clerk LOGIN");
    names_only(&place.report_of("clerk"), "server.permissions", Status::Fail, "rowhouse_goals");
    place.by_hand(&format!("GRANT USAGE ON SCHEMA rowhouse_state, rowhouse_goals TO clerk; {all}"));
    is_sound(&place.report());
    place.by_hand("REVOKE INSERT ON rowhouse_goals.goal FROM clerk");
    names_only(&place.report(), "server.permissions", Status::Fail, "goal");
    place.by_hand("DROP SCHEMA rowhouse_goals CASCADE");
    names_only(&place.report(), "server.permissions", Status::Fail, "may not create");
}

#[test]
fn a_schema_that_does_not_fit_is_named() {
    let place = Place::new();
    place.by_hand("UPDATE rowhouse_state.refinery_schema_history SET checksum = '1' WHERE version = 1");
    names_only(&place.report(), "server.schema", Status::Warning, "state: the migration V1");
    let newer = |oldest_reader: u32| {
        format!(
            "DELETE FROM rowhouse_goals.refinery_schema_history WHERE version = 900; \
             INSERT INTO rowhouse_goals.refinery_schema_history VALUES (900, 'later', 'now', '1'); \
             UPDATE rowhouse_goals.rowhouse_meta SET schema_version = 900, oldest_reader = {oldest_reader}, \
             oldest_writer = 900, program = 'later', program_version = '9'"
        )
    };
    for oldest_reader in [1, 900] {
        place.by_hand(&newer(oldest_reader));
        names_only(&place.report(), "server.schema", Status::Fail, "goals: ");
    }
    place.by_hand("UPDATE rowhouse_goals.refinery_schema_history SET checksum = 'x'");
    names_only(&place.report(), "server.schema", Status::Fail, "goals: ");
    let older = Place::new();
    older.by_hand(
        "DELETE FROM rowhouse_state.refinery_schema_history WHERE version > 1; \
         UPDATE rowhouse_state.rowhouse_meta SET schema_version = 1",
    );
    let report = older.report();
    is_sound(&report);
    assert!(row(&report, "server.schema").evidence.iter().any(|line| line.contains("newer migration")));
}

#[test]
fn a_forgotten_transaction_is_named_with_its_program() {
    let place = Place::new();
    let url = format!("{} application_name=forgetful", shared().url("app", &place.database));
    let mut forgets = Client::connect(&url, NoTls).expect("a connection");
    let mut clock = shared().client(&place.database);
    forgets.batch_execute("BEGIN; SELECT 1").expect("begun");
    // By the server's clock, which is what counts.
    clock.batch_execute("SELECT pg_sleep(5.5)").expect("some seconds");
    names_only(&place.report(), "server.transactions", Status::Warning, "forgetful");
    forgets.batch_execute("ROLLBACK; BEGIN; LOCK TABLE rowhouse_goals.goal").expect("a lock");
    let waits = shared().client(&place.database);
    std::thread::scope(|scope| {
        let mut waits = waits;
        let waiting = scope.spawn(move || waits.batch_execute("SELECT count(*) FROM rowhouse_goals.goal"));
        clock.batch_execute("SELECT pg_sleep(1.5)").expect("a while");
        let until = Instant::now() + LONG;
        let seen = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        while clock.query_one(seen, &[]).expect("a count").get::<_, i64>(0) == 0 {
            assert!(Instant::now() < until, "nobody waits");
        }
        names_only(&place.report(), "server.transactions", Status::Warning, "waiting");
        forgets.batch_execute("ROLLBACK").expect("let go");
        waiting.join().expect("no panic").expect("it came");
    });
    is_sound(&place.report());
}

#[test]
fn a_file_that_the_domain_left_behind_is_named_and_not_opened() {
    let database = shared().new_database();
    let home = folder();
    drop(open(home.path()));
    configure(home.path(), &shared().url("app", &database));
    drop(open(home.path()));
    std::fs::write(home.path().join("state.sqlite"), "no database any more").expect("written");
    std::fs::remove_file(home.path().join("goals.sqlite")).expect("removed");
    let report = examine(home.path());
    names_only(&report, "server.leftover", Status::Warning, "state.sqlite");
    assert!(report.check("state.open").is_none(), "it is nobody's");
}

#[test]
fn a_server_that_is_stopped_or_stands_still_is_one_row() {
    let server = Server::start();
    let home = home_on(&format!("{} password={CANARY}", server.url("app", "postgres")));
    is_sound(&examine(home.path()));
    let frozen = server.freeze();
    let began = Instant::now();
    let report = examine_within(home.path(), Duration::from_secs(8));
    drop(frozen);
    names_only(&report, "server.reachable", Status::Fail, "does not answer");
    assert!(began.elapsed() < LONG, "it waits no longer than it may");
    assert!(report.check("home.folder").is_some(), "the run went on");
    server.kill();
    names_only(&examine(home.path()), "server.reachable", Status::Fail, "cannot be reached");
}

#[test]
fn a_server_without_a_free_connection_is_named() {
    let server =
        Server::start_with(|_| "-c max_connections=9 -c superuser_reserved_connections=3".to_owned());
    let home = home_on(&server.url("app", "postgres"));
    let text = std::fs::read_to_string(home.path().join("config.toml")).expect("read");
    let config = |pool_size: u32| {
        std::fs::write(home.path().join("config.toml"), format!("{text}pool_size = {pool_size}\n"))
            .expect("written");
    };
    config(7);
    names_only(&examine(home.path()), "server.connections", Status::Warning, "pool_size is 7");
    config(4);
    is_sound(&examine(home.path()));
    let mut taken: Vec<_> = (0..5).map(|_| server.client("postgres")).collect();
    names_only(&examine(home.path()), "server.connections", Status::Warning, "in use");
    // The server counts one that has just ended for a while.
    let until = Instant::now() + LONG;
    while let Ok(one) = Client::connect(&server.url("app", "postgres"), NoTls) {
        taken.push(one);
        assert!(taken.len() <= 9 && Instant::now() < until);
    }
    let until = Instant::now() + LONG;
    while taken.len() < 9 {
        taken.extend(Client::connect(&server.url("app", "postgres"), NoTls).ok());
        assert!(Instant::now() < until, "the server does not let go");
    }
    names_only(&examine(home.path()), "server.connections", Status::Fail, "53300");
    drop(taken);
    let until = Instant::now() + LONG;
    while !examine(home.path()).notable().is_empty() {
        assert!(Instant::now() < until, "{:#?}", examine(home.path()).notable());
    }
}

#[test]
fn a_standby_that_is_behind_or_gone_is_named() {
    let primary = Server::start();
    let database = primary.new_database();
    let home = home_on(&primary.url("app", &database));
    is_sound(&examine(home.path()));
    let standby = primary.standby();
    let mut client = primary.client(&database);
    let until = Instant::now() + LONG;
    let follows = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
    while client.query_one(follows, &[]).expect("a count").get::<_, i64>(0) == 0 {
        assert!(Instant::now() < until, "it does not follow");
    }
    let report = examine(home.path());
    is_sound(&report);
    assert!(row(&report, "server.replication").summary.contains("1 standby, asynchronous"), "{report:#?}");

    configure(home.path(), &standby.url("app", &database));
    names_only(&examine(home.path()), "server.reachable", Status::Fail, "standby");
    let both = format!("{},{}", standby.folder().display(), primary.folder().display());
    configure(home.path(), &format!("host={both} user=app dbname={database}"));
    is_sound(&examine(home.path()));

    let mut paused = standby.client(&database);
    paused.batch_execute("SELECT pg_wal_replay_pause()").expect("paused");
    let log =
        "SELECT pg_logical_emit_message(false, 'rowhouse', repeat('x', 1000000)) FROM generate_series(1, 20)";
    client.batch_execute(log).expect("20 MB of log");
    let behind = "SELECT count(*) FROM pg_stat_replication \
                  WHERE pg_wal_lsn_diff(flush_lsn, replay_lsn) > 17000000";
    while client.query_one(behind, &[]).expect("a count").get::<_, i64>(0) == 0 {
        assert!(Instant::now() < until + LONG, "it is not behind");
    }
    names_only(&examine(home.path()), "server.replication", Status::Warning, "MiB behind");
    paused.batch_execute("SELECT pg_wal_replay_resume()").expect("resumed");
    drop(paused);

    standby.kill();
    configure(home.path(), &primary.url("app", &database));
    client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").expect("set");
    client.batch_execute("SELECT pg_reload_conf()").expect("reloaded");
    let none = "SELECT count(*) FROM pg_stat_replication";
    let until = Instant::now() + LONG;
    let is_set = |client: &mut Client| {
        client.query_one("SHOW synchronous_standby_names", &[]).expect("one").get::<_, String>(0) == "*"
    };
    while client.query_one(none, &[]).expect("a count").get::<_, i64>(0) > 0 || !is_set(&mut client) {
        assert!(Instant::now() < until, "the standby is still there");
    }
    names_only(&examine(home.path()), "server.replication", Status::Fail, "none is connected");
}

#[test]
fn a_slot_that_nobody_reads_and_an_autovacuum_that_is_off_are_named() {
    let server = Server::start();
    let home = home_on(&server.url("app", "postgres"));
    let mut client = server.client("postgres");
    client.batch_execute("SELECT pg_create_physical_replication_slot('forgotten', true)").expect("a slot");
    is_sound(&examine(home.path()));
    let log =
        "SELECT pg_logical_emit_message(false, 'rowhouse', repeat('x', 1000000)) FROM generate_series(1, 70)";
    client.batch_execute(log).expect("70 MB of log");
    names_only(&examine(home.path()), "server.slots", Status::Warning, "forgotten");
    client.batch_execute("SELECT pg_drop_replication_slot('forgotten')").expect("dropped");
    client.batch_execute("ALTER SYSTEM SET autovacuum = off").expect("set");
    client.batch_execute("SELECT pg_reload_conf()").expect("reloaded");
    let until = Instant::now() + LONG;
    while client.query_one("SHOW autovacuum", &[]).expect("one").get::<_, String>(0) != "off" {
        assert!(Instant::now() < until, "it is still on");
    }
    names_only(&examine(home.path()), "server.vacuum", Status::Warning, "autovacuum is off");
}

/// What an acknowledged write would not survive is told, wherever it was set, with what changes it.
#[test]
fn settings_that_lose_acknowledged_writes_are_named_with_what_changes_them() {
    let server = Server::start();
    let home = home_on(&server.url("app", "postgres"));
    let mut client = server.client("postgres");
    is_sound(&examine(home.path()));
    let remedy = |report: &Report| row(report, "server.durability").remediation.clone().expect("a way out");
    for (set, reset, says) in [
        ("ALTER ROLE app", "ALTER ROLE app RESET synchronous_commit", "is off"),
        ("ALTER DATABASE postgres", "ALTER DATABASE postgres RESET synchronous_commit", "is off"),
        (
            "ALTER ROLE app IN DATABASE postgres",
            "ALTER ROLE app IN DATABASE postgres RESET synchronous_commit",
            "is off",
        ),
    ] {
        client.batch_execute(&format!("{set} SET synchronous_commit = off")).expect(set);
        let report = examine(home.path());
        names_only(&report, "server.durability", Status::Warning, says);
        assert!(remedy(&report).contains(reset), "{}", remedy(&report));
        client.batch_execute(reset).expect(reset);
        is_sound(&examine(home.path()));
    }

    let mut on_the_server = |setting: &str, value: &str| {
        client.batch_execute(&format!("ALTER SYSTEM SET {setting} = {value}")).expect("set");
        client.batch_execute("SELECT pg_reload_conf()").expect("reloaded");
        let shown = value.trim_matches('\'');
        let until = Instant::now() + LONG;
        while client.query_one(&format!("SHOW {setting}"), &[]).expect("one").get::<_, String>(0) != shown {
            assert!(Instant::now() < until, "{setting} stays");
        }
    };
    on_the_server("full_page_writes", "off");
    let report = examine(home.path());
    names_only(&report, "server.durability", Status::Warning, "full_page_writes is off");
    assert!(remedy(&report).contains("ALTER SYSTEM SET full_page_writes = on"), "{}", remedy(&report));
    on_the_server("full_page_writes", "on");
    on_the_server("synchronous_commit", "local");
    is_sound(&examine(home.path()));
    on_the_server("synchronous_standby_names", "'*'");
    names_only(&examine(home.path()), "server.durability", Status::Warning, "is local");

    let careless = Server::start_with(|_| "-c fsync=off".to_owned());
    let home = home_on(&careless.url("app", "postgres"));
    names_only(&examine(home.path()), "server.durability", Status::Warning, "fsync is off");
}

#[test]
fn a_pooler_is_recognised_and_needs_a_way_past_it() {
    let place = Place::new();
    let through = engines::bouncer::shared().url(&place.database);
    let with = |direct: Option<String>| {
        let direct = direct.map(|url| format!("direct_url = \"{url}\"\n")).unwrap_or_default();
        let text =
            format!("[state]\nbackend = \"postgres\"\n[state.postgres]\nurl = \"{through}\"\n{direct}");
        std::fs::write(place.home.path().join("config.toml"), text).expect("written");
        place.report()
    };
    names_only(&with(None), "server.pooler", Status::Warning, "no way past");
    names_only(&with(Some(through.clone())), "server.pooler", Status::Warning, "pooler as well");
    let report = with(Some(shared().url("app", &place.database)));
    is_sound(&report);
    assert!(row(&report, "server.pooler").summary.contains("go past it"), "{report:#?}");
}

/// A page that the disk gave back otherwise than it was written.
#[test]
fn a_page_that_the_server_found_damaged_is_named() {
    let server = Server::start();
    let home = home_on(&server.url("app", "postgres"));
    let mut client = server.client("postgres");
    client
        .batch_execute("CREATE TABLE page AS SELECT i FROM generate_series(1, 2000) AS i; CHECKPOINT")
        .expect("made");
    let path =
        client.query_one("SELECT pg_relation_filepath('page')", &[]).expect("a path").get::<_, String>(0);
    drop(client);
    let file = server.folder().join("data").join(path);
    server.crash();
    let mut bytes = std::fs::read(&file).expect("the table");
    bytes[4_000] ^= 0xFF;
    std::fs::write(&file, bytes).expect("damaged");
    let mut client = server.client("postgres");
    client.batch_execute("SELECT count(*) FROM page").expect_err("it is noticed");
    drop(client);
    let until = Instant::now() + LONG;
    while examine(home.path()).notable().is_empty() {
        assert!(Instant::now() < until, "the server does not count it");
    }
    names_only(&examine(home.path()), "server.checksums", Status::Fail, "damaged pages");
}

#[test]
fn direct_url_leads_to_the_same_database() {
    let place = Place::new();
    let url = shared().url("app", &place.database);
    let with_direct = |direct: &str| {
        let text = format!(
            "[state]\nbackend = \"postgres\"\n[state.postgres]\nurl = \"{url}\"\ndirect_url = \"{direct}\"\n"
        );
        std::fs::write(place.home.path().join("config.toml"), text).expect("written");
        place.report()
    };
    is_sound(&with_direct(&url));
    names_only(
        &with_direct(&shared().url("app", "postgres")),
        "server.pooler",
        Status::Fail,
        "another database",
    );
    let nowhere = format!("host=/nowhere user=app password={CANARY}");
    names_only(&with_direct(&nowhere), "server.pooler", Status::Fail, "nowhere");
    names_only(
        &with_direct(&format!("postgres://app:{CANARY}@h:x/y")),
        "server.settings",
        Status::Fail,
        "URL",
    );
}

fn migrate(home: &Path, to: Backend) -> MoveReport {
    let mut options = MoveOptions::to(to);
    options.wait = LONG;
    let builder = Runtime::builder(Home::at(home)).domain(Domain::state()).domain(Domain::goals());
    builder.migrate_backend(&options, &mut |_| {}).expect("moved")
}

/// Begins a move, which ends where this comes next: nothing after that is done.
fn break_off(home: &Path, to: Backend, at: &str) {
    let mut options = MoveOptions::to(to);
    options.wait = LONG;
    let builder = Runtime::builder(Home::at(home)).domain(Domain::state()).domain(Domain::goals());
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        builder.migrate_backend(&options, &mut |now| {
            if now.what == at {
                std::panic::resume_unwind(Box::new("broken off"));
            }
        })
    }));
    assert!(ended.is_err(), "{at}: it came through");
}

/// A home in files that names a server to move to.
fn home_in_files(database: &str) -> TempDir {
    let home = folder();
    drop(open(home.path()));
    let config = format!("[state.postgres]\nurl = \"{}\"\n", shared().url("app", database));
    std::fs::write(home.path().join("config.toml"), config).expect("written");
    home
}

/// Wherever a move ended too early, one row says so, with the command that finishes it.
#[test]
fn a_move_that_was_broken_off_is_one_row() {
    let home = home_in_files(&shared().new_database());
    for (to, ends) in [
        (Backend::Postgres, ["the commit", "goals.sqlite", "the home's config.toml", "the end"]),
        (Backend::Sqlite, ["the commit", "state.sqlite", "the marks in the home", "the end"]),
    ] {
        for at in ends {
            break_off(home.path(), to, at);
            let report = examine(home.path());
            names_only(&report, "home.moved", Status::Fail, "broken off");
            let (word, back) = match to {
                Backend::Sqlite => ("sqlite", Backend::Postgres),
                _ => ("postgres", Backend::Sqlite),
            };
            let fixes = &row(&report, "home.moved").fixes;
            assert!(fixes[0].command.contains(&format!("migrate-backend --to {word}")), "{at}: {fixes:?}");
            migrate(home.path(), to);
            is_sound(&examine(home.path()));
            migrate(home.path(), back);
        }
        migrate(home.path(), to);
    }
}

/// After a move the doctor says where the data is; a home or a server that is used as before has one row.
#[test]
fn where_moved_data_is_and_who_still_uses_the_other_side() {
    let database = shared().new_database();
    let home = home_in_files(&database);
    let moved = migrate(home.path(), Backend::Postgres);
    let report = examine(home.path());
    is_sound(&report);
    let said = row(&report, "home.moved");
    assert!(said.summary.contains("state is on postgres://"), "{said:#?}");
    let folder = moved.folder.expect("files were put aside");
    let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(said.evidence[0].contains(&name) && said.evidence[0].contains("0 days old"), "{said:#?}");

    let manifest = std::fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    let old = manifest.replace(&moved.at, "2020-01-01T00:00:00Z");
    std::fs::write(folder.join("manifest.json"), old).expect("written");
    names_only(&examine(home.path()), "home.moved", Status::Warning, &name);
    std::fs::write(folder.join("manifest.json"), &manifest).expect("written");

    let config = std::fs::read_to_string(home.path().join("config.toml")).expect("a text");
    std::fs::write(home.path().join("config.toml"), config.replace("\"postgres\"", "\"sqlite\""))
        .expect("written");
    names_only(&examine(home.path()), "home.moved", Status::Fail, "was moved to postgres://");
    for name in ["state.sqlite", "goals.sqlite"] {
        std::fs::copy(folder.join(name), home.path().join(name)).expect("copied");
    }
    names_only(&examine(home.path()), "home.moved", Status::Warning, "a file of that name is used");
    for name in ["state.sqlite", "goals.sqlite"] {
        std::fs::remove_file(home.path().join(name)).expect("removed");
    }
    std::fs::write(home.path().join("config.toml"), config).expect("written");

    let other = home_on(&shared().url("app", &database));
    migrate(home.path(), Backend::Sqlite);
    is_sound(&examine(home.path()));
    names_only(&examine(other.path()), "server.schema", Status::Fail, "moved from the server");
    std::fs::write(home.path().join("move.json"), "{").expect("written");
    names_only(&examine(home.path()), "home.moved", Status::Fail, "damaged");
}
