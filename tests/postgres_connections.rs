//! What becomes of connections to a server, and of what was under way on them: ended, cut, refused, too much said, behind a
//! pooler with TLS.
#![allow(
    clippy::disallowed_methods,
    reason = "a test makes and looks at files of its own, none of them a database"
)]

mod engines;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use engines::bouncer::Bouncer;
use engines::pair::Pair;
use engines::server::{Server, configure, configure_with, shared};
use engines::wire::{Ending, Wire, error};
use postgres::{Client, NoTls};
use rowhouse::sql::{Session, Value};
use rowhouse::stores::goals::{Accounting, Goals, NewGoal};
use rowhouse::{Domain, Engine, ErrorKind, Home, Result, Runtime, StoreSession};

const THREAD: &str = "019cadf1-7a5e-7b04-8f21-000000000001";
/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

fn home_with(settings: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder");
    configure_with(home.path(), settings);
    home
}

fn home_on(url: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder");
    configure(home.path(), url);
    home
}

fn open(home: &Path) -> Result<Runtime> {
    Runtime::builder(Home::at(home)).domain(Domain::goals()).open()
}

/// A runtime with a goal.
fn runtime(home: &Path) -> Runtime {
    let runtime = open(home).expect("a runtime");
    runtime.goals().replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    runtime
}

fn count(goals: &Goals) -> Result<()> {
    goals.account(THREAD, 0, 1, Accounting::ActiveOnly, None).map(drop)
}

fn counted(goals: &Goals) -> i64 {
    goals.get(THREAD).expect("read").expect("a goal").tokens_used
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::yield_now();
    }
}

/// What ends a connection in answer to a COMMIT, and what nobody here knows, says nothing of the write: it is asked for. One that
/// is there is answered, one that is not is done again, or told where the server said why.
///
/// Control: a client that takes such an answer for the last word tells of a failure, and the write is there.
#[test]
fn an_answer_that_leaves_a_commit_open_is_not_the_last_word() {
    let database = shared().new_database();
    let wire = Wire::to(shared());
    let home = home_on(&wire.url(&database));
    let runtime = runtime(home.path());
    let goals = runtime.goals();
    let open = [
        ("FATAL", "57P01", false),
        ("FATAL", "57P04", false),
        ("FATAL", "XX000", false),
        ("FATAL", "53200", false),
        ("PANIC", "XX000", false),
        // A pooler that lost its server.
        ("FATAL", "08P01", true),
        ("FATAL", "58000", true),
        ("ERROR", "40003", false),
        ("ERROR", "ZZ001", false),
    ];
    let mut done = 0;
    for (severity, code, is_pooler) in open {
        wire.next_commit(Ending::Said(error(severity, code, is_pooler)));
        count(&goals).unwrap_or_else(|error| panic!("{severity} {code}: {error}"));
        assert!(wire.is_done(), "{severity} {code}");
        done += 1;
        assert_eq!(counted(&goals), done, "{severity} {code}: there, and once");
    }
    assert_eq!(runtime.stats()["goals"].outcomes_settled, open.len() as u64);

    for (severity, code, is_pooler) in
        [("FATAL", "XX000", false), ("FATAL", "08P01", true), ("ERROR", "40001", false)]
    {
        wire.next_commit(Ending::Refused(error(severity, code, is_pooler)));
        count(&goals).unwrap_or_else(|error| panic!("{severity} {code}: {error}"));
        done += 1;
        assert_eq!(counted(&goals), done, "{severity} {code}: done again");
    }
    for (code, kind) in [("ZZ001", ErrorKind::Io), ("23505", ErrorKind::Constraint)] {
        wire.next_commit(Ending::Refused(error("ERROR", code, false)));
        let refused = count(&goals).expect_err(code);
        assert!(refused.kind() == kind && refused.message().contains(code), "{refused}");
        assert_eq!(counted(&goals), done, "{code}: told, and not there");
    }

    let plain = || Client::connect(&wire.url(&database), NoTls).expect("a connection");
    wire.next_commit(Ending::Said(error("ERROR", "40003", false)));
    let add = "BEGIN; UPDATE rowhouse_goals.goal SET tokens_used = tokens_used + 1; COMMIT";
    let told = plain().batch_execute(add).expect_err("told");
    assert_eq!(told.code().map(postgres::error::SqlState::code), Some("40003"));
    assert_eq!(counted(&goals), done + 1, "and there");
}

/// A pooler whose connection to the server ends while a write is committed says so in its own words; the write is found.
///
/// Control: a client of the driver's own is told that it failed, and it is there.
#[test]
fn a_pooler_that_loses_its_server_in_a_commit_loses_no_write() {
    let pair = Pair::synchronous();
    let bouncer = Bouncer::before(&pair.primary);
    let database = pair.primary.new_database();
    let (through, direct) = (bouncer.url(&database), pair.primary.url("app", &database));
    let home = home_with(&format!("url = \"{through}\"\ndirect_url = \"{direct}\""));
    let runtime = runtime(home.path());
    let goals = runtime.goals();
    let mut client = pair.primary.client(&database);
    client.batch_execute("CREATE TABLE plain(id BIGINT)").expect("a table");
    // From here on a commit is there, and waits for a standby that gets nothing more.
    pair.cut();
    let mut ends_who_commits = || {
        let end =
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        until("a commit waits", || !client.query(end, &[]).expect("asked").is_empty());
    };
    std::thread::scope(|scope| {
        let write = scope.spawn(|| {
            let mut plain = Client::connect(&through, NoTls).expect("a connection");
            plain.batch_execute("INSERT INTO plain VALUES (1)")
        });
        ends_who_commits();
        write.join().expect("no panic").expect_err("told that it failed");
        let write = scope.spawn(|| count(&goals));
        ends_who_commits();
        // What asks for it waits for the standby, too.
        let mut client = pair.primary.client("postgres");
        client.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").expect("alone");
        client.batch_execute("SELECT pg_reload_conf()").expect("from now on");
        write.join().expect("no panic").expect("found");
    });
    assert_eq!(counted(&goals), 1);
    assert_eq!(runtime.stats()["goals"].outcomes_settled, 1);
    let there = client.query_one("SELECT count(*) FROM plain", &[]).expect("a count").get::<_, i64>(0);
    assert_eq!(there, 1, "and there it is");
}

/// Reads as many at once as there are connections; answers the processes that served them.
fn all_at_once(engine: &Engine, connections: usize) -> BTreeSet<i64> {
    let together = Barrier::new(connections);
    std::thread::scope(|scope| {
        let read = || {
            engine.read(|at| {
                let process = process(at)?;
                together.wait();
                Ok(process)
            })
        };
        let reads: Vec<_> = (0..connections).map(|_| scope.spawn(read)).collect();
        reads.into_iter().map(|read| read.join().expect("no panic").expect("read")).collect()
    })
}

fn process(at: &StoreSession<'_>) -> Result<i64> {
    at.query("SELECT pg_backend_pid()::bigint AS pid", &[])?[0].get("pid")
}

/// Whoever loses a connection makes one anew, and the others stay as they are: each is asked before it is lent again. Those of a
/// server that is gone are all made anew.
///
/// Control: after a crash of the server none of them is the same.
#[test]
fn one_ended_connection_costs_nobody_else_theirs() {
    const CONNECTIONS: usize = 4;
    let server = Server::start();
    let database = server.new_database();
    let home = home_with(&format!("url = \"{}\"\npool_size = {CONNECTIONS}", server.url("app", &database)));
    let runtime = open(home.path()).expect("a runtime");
    let engine = runtime.engine("goals").expect("the domain");
    let before = all_at_once(&engine, CONNECTIONS);
    assert_eq!(before.len(), CONNECTIONS);
    // The last one used is the next one, so that its loss is found while the others rest.
    let ended = engine.read(process).expect("read");
    let pid = i32::try_from(ended).expect("a process");
    server.client("postgres").execute("SELECT pg_terminate_backend($1, 30000)", &[&pid]).expect("ended");
    let next = engine.read(process).expect("read again");
    assert!(next != ended && before.contains(&next), "{next} of {before:?}");
    let after = all_at_once(&engine, CONNECTIONS);
    let stayed: Vec<_> = before.intersection(&after).collect();
    assert_eq!((stayed.len(), after.contains(&ended)), (CONNECTIONS - 1, false), "{before:?} {after:?}");
    assert_eq!(runtime.stats()["goals"].connections, CONNECTIONS as u64);

    server.crash();
    let anew = all_at_once(&engine, CONNECTIONS);
    assert!(anew.len() == CONNECTIONS && anew.is_disjoint(&after), "{after:?} {anew:?}");
}

/// An answer that is cut in its middle is asked for again from its beginning: nothing of it is missing, and nothing twice.
#[test]
fn an_answer_that_is_cut_is_asked_for_again() {
    let database = shared().new_database();
    let wire = Wire::to(shared());
    let home = home_on(&wire.url(&database));
    let runtime = runtime(home.path());
    let engine = runtime.engine("goals").expect("the domain");
    let rows =
        "SELECT i::bigint AS i, repeat('x', 1000) AS body FROM generate_series(1, 3000) AS i ORDER BY i";
    let numbers = |at: &dyn Fn(&str) -> Result<Vec<rowhouse::sql::Row>>| {
        at(rows)?.iter().map(|row| row.get("i")).collect::<Result<Vec<i64>>>()
    };
    let whole: Vec<i64> = (1..=3000).collect();
    wire.cut_after(1_500_000);
    assert_eq!(engine.read(|at| numbers(&|text| at.query(text, &[]))).expect("read"), whole);
    assert!(wire.is_done(), "it was cut");
    wire.cut_after(1_500_000);
    let written = engine.write(|tx| {
        let found = numbers(&|text| tx.query(text, &[]))?;
        tx.execute("UPDATE goal SET tokens_used = tokens_used + 1", &[])?;
        Ok(found)
    });
    assert_eq!(written.expect("written"), whole);
    assert!(wire.is_done(), "it was cut");
    assert_eq!((counted(&runtime.goals()), runtime.stats()["goals"].retried_lost), (1, 2));
}

/// Bytes of this process that were in memory at most so far.
fn most_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

/// A statement that would answer more than anybody wants in memory is refused on either engine when so much has come: the
/// server stops at it, and the handles go on. The same rows are had in pages.
/// Scale: a table of 100 GB, as far as the server knows.
/// Control: the driver's own client takes in whatever comes.
#[test]
fn an_answer_that_is_too_large_is_refused_before_it_is_there() {
    const MOST: usize = 256 << 20;
    let database = shared().new_database();
    let url = shared().url("app", &database);
    let home = home_on(&url);
    let runtime = runtime(home.path());
    let in_file = tempfile::tempdir().expect("a folder");
    let in_file =
        Runtime::builder(Home::at(in_file.path())).domain(Domain::goals()).open().expect("a runtime");
    let engines = [
        (
            runtime.engine("goals").expect("the domain"),
            "SELECT i, repeat('x', 1048576) AS body FROM generate_series(1, 100000) AS i",
        ),
        (
            in_file.engine("goals").expect("the domain"),
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) \
             SELECT i, zeroblob(1048576) AS body FROM n",
        ),
    ];
    let before = most_memory();
    let mut told = BTreeSet::new();
    for (engine, text) in engines {
        for refused in [
            engine.read(|at| at.query(text, &[]).map(drop)).expect_err("read"),
            engine.write(|tx| tx.query(text, &[]).map(drop)).expect_err("written"),
        ] {
            assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
            assert!(refused.advice().is_some_and(|advice| advice.contains("pages")), "{refused}");
            told.insert(refused.message().to_owned());
        }
        let page = engine.read(|at| at.query(&format!("{text} LIMIT $1"), &[Value::Integer(10)]));
        assert_eq!(page.expect("a page").len(), 10);
    }
    assert_eq!(told.len(), 1, "both engines say the same: {told:?}");
    let taken = most_memory() - before;
    assert!(taken < MOST + MOST / 2, "{} MiB", taken >> 20);
    let at_it = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND query LIKE '%repeat%' AND state = 'active'";
    let mut client = shared().client("postgres");
    until("the server goes on", || {
        client.query_one(at_it, &[&database]).expect("a count").get::<_, i64>(0) == 0
    });

    let mut plain = Client::connect(&url, NoTls).expect("a connection");
    let rows = plain.query("SELECT repeat('x', 1048576) FROM generate_series(1, 448)", &[]).expect("all");
    assert!(rows.len() == 448 && most_memory() - before > 448 << 20);
}

/// Behind a pooler that speaks TLS, and only to who trusts its certificate: reads, writes, and the end of a statement that nobody
/// waits for any more.
///
/// Control: without TLS the pooler lets nobody in, and with another authority this program does not go there.
#[test]
fn a_pooler_is_reached_by_tls() {
    let database = shared().new_database();
    let bouncer = Bouncer::with_tls(shared());
    let url = format!("host=localhost port={} user=app dbname={database} sslmode=require", bouncer.port);
    let direct = shared().url("app", &database);
    let home_trusting = |name: &str| {
        let root = bouncer.folder().join(name);
        home_with(&format!("url = \"{url}\"\ndirect_url = \"{direct}\"\nroot_cert = \"{}\"", root.display()))
    };
    let refused = open(home_trusting("wrong.pem").path()).expect_err("not trusted");
    assert_eq!(refused.kind(), ErrorKind::Io, "{refused}");
    let in_the_clear =
        format!("host=localhost port={} user=app dbname={database} sslmode=disable", bouncer.port);
    assert!(Client::connect(&in_the_clear, NoTls).is_err(), "in plain text");

    let home = home_trusting("right.pem");
    let runtime = runtime(home.path());
    let goals = runtime.goals();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5).for_each(|_| count(&goals).expect("counted")));
        }
    });
    assert_eq!(counted(&goals), 20);
    let engine = runtime.engine("goals").expect("the domain").within(Duration::from_secs(2));
    let late = engine.read(|at| at.query("SELECT pg_sleep(300)::text AS slept", &[])).expect_err("too long");
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND query LIKE 'SELECT pg_sleep%' AND state = 'active'";
    let mut client = shared().client("postgres");
    until("it sleeps on", || client.query_one(sleeps, &[&database]).expect("a count").get::<_, i64>(0) == 0);
    count(&goals).expect("and goes on");
}

/// The name by which errors and lists call a server is a URL without a user and a password, which `psql` takes, and a
/// configuration takes back.
#[test]
fn the_name_of_a_server_leads_back_to_it() {
    let database = shared().new_database();
    let who = std::process::Command::new("id").arg("-un").output().expect("id");
    let who = String::from_utf8(who.stdout).expect("a name").trim().to_owned();
    // As whoever runs this: no name has a user in it.
    let role = format!(
        "DO $$ BEGIN IF to_regrole('{who}') IS NULL THEN CREATE ROLE \"{who}\" SUPERUSER LOGIN; END IF; END $$"
    );
    shared().client(&database).batch_execute(&role).expect("a role");
    let folder = shared().folder().display();
    let given = [
        format!("host={folder} user={who} password=s3cret dbname={database}"),
        format!("host={folder},{folder} user={who} password=s3cret dbname={database}"),
    ];
    for url in given {
        let home = home_on(&url);
        let first = runtime(home.path());
        let refused = first.database("goals").expect_err("it is in no file");
        let name = refused.path().expect("where it is").to_str().expect("text").to_owned();
        assert_eq!(rowhouse::name_of_url(&url).as_ref(), Some(&name));
        assert!(name.starts_with("postgres://") && !name.contains("s3cret") && !name.contains('@'), "{name}");
        let asked =
            Server::psql().args([&name, "-Atc", "SELECT objective FROM rowhouse_goals.goal"]).output();
        let asked = asked.expect("psql");
        assert_eq!(String::from_utf8_lossy(&asked.stdout).trim(), "Ship it", "{name}: {asked:?}");
        let again = home_on(&name);
        let again = open(again.path()).expect("the same server");
        assert_eq!(again.goals().get(THREAD).expect("read").expect("a goal").objective, "Ship it");
    }
}
