//! Programs that wait for a change of a domain on a server learn of it, wherever it was made: at once where they can listen, by
//! looking where they cannot, and never not at all.

mod engines;

use std::path::Path;
use std::time::{Duration, Instant};

use engines::bouncer;
use engines::server::{configure_with, shared};
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;
use rowhouse::stores::goals::{Accounting, NewGoal};
use rowhouse::{Domain, Engine, ErrorKind, Home, Runtime};

const THREAD: &str = "019cadf1-7a5e-7b04-8f21-000000000001";
/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A home on this server; each is a program of its own, with its own connections.
fn open(settings: &str) -> (tempfile::TempDir, Runtime) {
    let home = tempfile::tempdir().expect("a folder");
    configure_with(home.path(), settings);
    let runtime = opened(home.path());
    (home, runtime)
}

fn opened(home: &Path) -> Runtime {
    Runtime::builder(Home::at(home))
        .domain(Domain::state())
        .domain(Domain::goals())
        .open()
        .expect("a runtime")
}

fn direct(database: &str) -> String {
    format!("url = \"{}\"", shared().url("app", database))
}

fn goals(runtime: &Runtime) -> Engine {
    runtime.engine("goals").expect("the domain")
}

/// Connections that listen in this database, by their process ids.
fn listeners(database: &str) -> Vec<i32> {
    let query = "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'rowhouse %' AND \
                 (query LIKE 'LISTEN%' OR query LIKE '%rowhouse_listener(id%')";
    let rows = shared().client("postgres").query(query, &[&database]).expect("the connections");
    rows.iter().map(|row| row.get(0)).collect()
}

fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "{what}");
        std::thread::yield_now();
    }
}

/// Waits until somebody listens.
fn listens(database: &str) {
    until("it listens", || (!listeners(database).is_empty()).then_some(()));
}

/// Waits for a change while `make` makes one, once somebody waits.
fn seen_by(engine: &Engine, ready: impl FnOnce(), make: impl FnOnce() + Send) {
    let before = engine.changes().expect("a number");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| engine.wait_for_change(before, PATIENCE));
        ready();
        make();
        let after = waiting.join().expect("it waits").expect("a number");
        assert!(after > before, "{before} {after}");
    });
}

#[test]
fn a_change_of_another_program_is_seen_and_nothing_else_is() {
    let database = shared().new_database();
    let ((_one, here), (_other, there)) = (open(&direct(&database)), open(&direct(&database)));
    let engine = goals(&here);
    let before = engine.changes().expect("a number");
    assert_eq!(engine.changes().expect("again"), before, "nothing happened");
    there.goals().replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    let after = engine.changes().expect("a number");
    assert!(after > before);
    // What changes nothing, a read, and another domain.
    there.goals().get(THREAD).expect("read").expect("a goal");
    there.goals().delete("019cadf1-7a5e-7b04-8f21-00000000000f").expect("nothing to delete");
    there
        .threads()
        .upsert(&[rowhouse::stores::ThreadFacts { id: THREAD.to_owned(), ..Default::default() }])
        .expect("a thread");
    assert_eq!(engine.changes().expect("a number"), after);
    assert_eq!(engine.wait_for_change(after, Duration::from_millis(10)).expect("a number"), after);
    assert!(here.engine("state").expect("the domain").changes().is_ok());
    let inside = engine.write(|_| engine.wait_for_change(after, PATIENCE)).expect_err("in a job");
    assert_eq!(inside.kind(), ErrorKind::Reentrant, "{inside}");
    here.close(Duration::from_secs(5));
    let closed = engine.wait_for_change(after, PATIENCE).expect_err("closed");
    assert_eq!(closed.kind(), ErrorKind::Closed, "{closed}");
}

/// Transactions that overlap are seen in whatever order they are committed.
/// Control: who remembers the highest number misses the one that was committed late.
#[test]
fn a_transaction_that_is_committed_late_is_seen_too() {
    let database = shared().new_database();
    let (_home, here) = open(&direct(&database));
    let engine = goals(&here);
    let mut client = shared().client(&database);
    client.batch_execute("SET search_path = rowhouse_goals").expect("the schema");
    let highest = |client: &mut Client| -> i64 {
        let text = "SELECT coalesce(max(xid::text::bigint), 0) FROM rowhouse_goals.rowhouse_operation";
        client.query_one(text, &[]).expect("a number").get(0)
    };
    let mut look = shared().client(&database);
    let first = engine.changes().expect("a number");
    let mut late = client.transaction().expect("begun");
    late.batch_execute("INSERT INTO rowhouse_operation(id, committed) VALUES (gen_random_uuid(), TRUE)")
        .expect("written");
    assert_eq!(engine.changes().expect("a number"), first, "it is not committed");
    here.goals().replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    let second = engine.changes().expect("a number");
    assert!(second > first);
    let control = highest(&mut look);
    late.commit().expect("committed");
    assert!(engine.changes().expect("a number") > second);
    assert_eq!(highest(&mut look), control, "its number is lower");
}

/// One connection listens, from when somebody waits; when it is lost, changes are seen all the same, and it is made again.
/// Control: a client that listens, and listens again when it was cut off, never hears of what was committed between.
#[test]
fn a_listening_connection_that_is_lost_is_made_up_for() {
    let database = shared().new_database();
    let ((_one, here), (_other, there)) = (open(&direct(&database)), open(&direct(&database)));
    let (engine, state) = (goals(&here), here.engine("state").expect("the domain"));
    there.goals().replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    let used = || drop(there.goals().account(THREAD, 0, 1, Accounting::ActiveOnly, None).expect("counted"));
    engine.changes().expect("a number");
    assert_eq!(listeners(&database), [0; 0], "nobody has waited");
    seen_by(&engine, || listens(&database), used);
    // Waiting in two domains, at once and again, takes one connection.
    let _ = state.wait_for_change(state.changes().expect("a number"), Duration::from_millis(10));
    assert_eq!(listeners(&database).len(), 1);

    let end = |process: i32| {
        let text = "SELECT pg_terminate_backend($1)";
        shared().client("postgres").execute(text, &[&process]).expect("ended");
    };
    for _ in 0..3 {
        let process = listeners(&database)[0];
        seen_by(&engine, || end(process), used);
        until("another one listens", || {
            listeners(&database).iter().any(|other| *other != process).then_some(())
        });
    }

    let mut control = shared().client(&database);
    control.batch_execute("LISTEN rowhouse").expect("it listens");
    let process: i32 = control.query_one("SELECT pg_backend_pid()", &[]).expect("a process").get(0);
    end(process);
    used();
    let mut control = shared().client(&database);
    control.batch_execute("LISTEN rowhouse").expect("it listens again");
    let heard = control.notifications().timeout_iter(Duration::from_millis(500)).next().expect("nothing");
    assert!(heard.is_none(), "{heard:?}");
}

/// Behind a pooler in transaction mode nobody can listen, and nobody does: looking finds the change.
/// Control: what a client listens for through the pooler does not come.
#[test]
fn behind_a_pooler_changes_are_looked_for() {
    let database = shared().new_database();
    let url = bouncer::shared().url(&database);
    // Migrated by another program, as a pooler cannot.
    let (_other, there) = open(&direct(&database));
    let (_one, here) = open(&format!("url = \"{url}\""));
    there.goals().replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    let used = || drop(there.goals().account(THREAD, 0, 1, Accounting::ActiveOnly, None).expect("counted"));
    let engine = goals(&here);
    for _ in 0..2 {
        seen_by(&engine, || (), used);
    }
    assert_eq!(listeners(&database), [0; 0]);

    let mut control = Client::connect(&url, postgres::NoTls).expect("a connection");
    control.batch_execute("LISTEN rowhouse").expect("it seems to listen");
    shared().client(&database).batch_execute("NOTIFY rowhouse, 'goals'").expect("told");
    let heard = control.notifications().timeout_iter(Duration::from_millis(500)).next().expect("nothing");
    assert!(heard.is_none(), "{heard:?}");

    // With a way past the pooler it listens there.
    let past = format!("url = \"{url}\"\ndirect_url = \"{}\"", shared().url("app", &database));
    let (_third, here) = open(&past);
    seen_by(&goals(&here), || listens(&database), used);
}

/// Commits are not told of when nobody listens: telling lets one transaction commit at a time.
#[test]
fn a_commit_tells_only_when_somebody_listens() {
    let database = shared().new_database();
    let ((_one, here), (_other, there)) = (open(&direct(&database)), open(&direct(&database)));
    there.goals().replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    let used = || drop(there.goals().account(THREAD, 0, 1, Accounting::ActiveOnly, None).expect("counted"));
    let mut hears = shared().client(&database);
    hears.batch_execute("LISTEN rowhouse").expect("it listens");
    let mut told = |within: u64| -> Option<String> {
        let mut notifications = hears.notifications();
        let mut next = notifications.timeout_iter(Duration::from_millis(within));
        next.next().expect("a connection").map(|notification| notification.payload().to_owned())
    };
    used();
    assert_eq!(told(300), None);
    let engine = goals(&here);
    seen_by(&engine, || listens(&database), used);
    // Whoever said so a moment ago is found by the next commit.
    let payload = until("it is told", || {
        used();
        told(300)
    });
    assert_eq!(payload, "goals", "the domain, and nothing else");
}
