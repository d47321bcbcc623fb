//! Whatever a server does, or the network on the way to it: a call ends at its deadline, and what it says is so.
#![allow(clippy::disallowed_methods, reason = "a test makes files of its own, none of them a database")]

mod engines;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use engines::server::{Server, configure, shared};
use rowhouse::sql::Session;
use rowhouse::stores::goals::{Accounting, Goals, NewGoal};
use rowhouse::{Domain, ErrorKind, Home, Limits, Result, Runtime};

const THREAD: &str = "019cadf1-7a5e-7b04-8f21-000000000001";
const DEADLINE: Duration = Duration::from_secs(2);
/// Five times what a call may take: a write that was being committed asks for it once more as long.
const LONGEST: Duration = Duration::from_secs(20);

fn home_on(url: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder");
    configure(home.path(), url);
    home
}

fn open(home: &Path, deadline: Duration) -> Result<Runtime> {
    let mut limits = Limits::default();
    limits.deadline = deadline;
    Runtime::builder(Home::at(home)).domain(Domain::goals()).limits(limits).open()
}

/// A database with a goal in it, and the URL at which this server has it.
fn prepared(server: &Server) -> String {
    let url = server.url("app", &server.new_database());
    let home = home_on(&url);
    let runtime = open(home.path(), Limits::default().deadline).expect("a runtime");
    runtime.goals().replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
    url
}

fn count(goals: &Goals) -> Result<()> {
    goals.account(THREAD, 0, 1, Accounting::ActiveOnly, None).map(drop)
}

fn counted(goals: &Goals) -> i64 {
    goals.get(THREAD).expect("read").expect("a goal").tokens_used
}

/// What it answers, which it does in time.
fn in_time<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = Instant::now();
    let answer = call();
    assert!(before.elapsed() < LONGEST, "{:?} {:?}", before.elapsed(), answer.err());
    answer
}

/// A server all of whose processes stand still answers nobody, and every call ends at its deadline: reads, writes, commits
/// under way, opening. When it goes on so do the same handles; what was answered counts once, what timed out not at all.
/// Scale: 4 writers, a deadline of 2 s; `ROWHOUSE_TEST_ROUNDS` says how often the server is stopped, 1 as a rule.
/// Control: the driver's own client, with the same deadline as its statement timeout, answers when the server goes on.
#[test]
fn a_server_that_stands_still_holds_nobody_past_the_deadline() {
    let rounds = std::env::var("ROWHOUSE_TEST_ROUNDS").map_or(1, |text| text.parse().expect("a number"));
    let server = Server::start();
    let url = prepared(&server);
    let (home, other) = (home_on(&url), home_on(&url));
    let runtime = open(home.path(), DEADLINE).expect("a runtime");
    let goals = runtime.goals();
    let (done, unknown) = (AtomicI64::new(0), AtomicI64::new(0));
    for _ in 0..rounds {
        let mut plain = postgres::Client::connect(&url, postgres::NoTls).expect("a connection");
        plain.batch_execute("SET statement_timeout = 2000").expect("a deadline");
        let (stop, stopped) = (AtomicBool::new(false), AtomicI64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::SeqCst) {
                        match in_time(|| count(&goals)) {
                            Ok(()) => done.fetch_add(1, Ordering::SeqCst),
                            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {
                                stopped.fetch_add(1, Ordering::SeqCst);
                                unknown.fetch_add(1, Ordering::SeqCst)
                            }
                            // One that wrote at once with others may also have found no end of them.
                            Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Busy) => {
                                stopped.fetch_add(1, Ordering::SeqCst)
                            }
                            Err(error) => panic!("{error:?}"),
                        };
                    }
                });
            }
            until(|| done.load(Ordering::SeqCst) > 8, "the writers begin");
            let frozen = server.freeze();
            let (answers, answered) = channel();
            std::thread::spawn(move || answers.send(plain.batch_execute("SELECT 1").is_ok()));
            // What one of them met before it stood still is no answer to that.
            stopped.store(0, Ordering::SeqCst);
            let refused = in_time(|| goals.get(THREAD)).expect_err("it stands still");
            assert_eq!(refused.kind(), ErrorKind::Timeout, "{refused}");
            assert!(refused.advice().is_some(), "{refused}");
            let refused = in_time(|| open(other.path(), DEADLINE)).expect_err("it stands still");
            assert_eq!(refused.kind(), ErrorKind::Timeout, "{refused}");
            until(|| stopped.load(Ordering::SeqCst) >= 4, "each writer is answered");
            assert_eq!(answered.try_recv().ok(), None, "the plain client waits");
            let before = done.load(Ordering::SeqCst);
            drop(frozen);
            assert_eq!(answered.recv_timeout(LONGEST), Ok(true), "until the server goes on");
            until(|| done.load(Ordering::SeqCst) > before + 8, "the writers go on");
            stop.store(true, Ordering::SeqCst);
        });
    }
    let (done, unknown) = (done.into_inner(), unknown.into_inner());
    // With time enough: what was given up may still be ending.
    let calm = home_on(&url);
    let calm = open(calm.path(), Limits::default().deadline).expect("a runtime");
    count(&calm.goals()).expect("behind all of them");
    let found = counted(&calm.goals()) - 1;
    assert!((done..=done + unknown).contains(&found), "{done} + at most {unknown}, and {found} are there");
}

fn until(so: impl Fn() -> bool, what: &str) {
    let last = Instant::now() + Duration::from_mins(2);
    while !so() {
        assert!(Instant::now() < last, "{what}");
        std::thread::yield_now();
    }
}

/// A network that can swallow what is sent: nobody is told that it does not arrive, and it may do so later.
struct Network {
    folder: tempfile::TempDir,
    to: Arc<To>,
}

#[derive(Default)]
struct To {
    server: PathBuf,
    ails: Mutex<Ails>,
    healed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Ails {
    #[default]
    Nothing,
    /// The next COMMIT, and what follows it on its connection, is swallowed.
    NextCommit,
    /// That was, and all else arrives.
    OneConnection,
    Everything,
}

impl Network {
    fn to(server: &Server) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).expect("a socket");
        let server = server.folder().join(".s.PGSQL.5432");
        let to = Arc::new(To { server, ..To::default() });
        let shared = to.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = UnixStream::connect(&shared.server).expect("the server");
                let (from, back) =
                    (client.try_clone().expect("one more"), server.try_clone().expect("one more"));
                let to = shared.clone();
                std::thread::spawn(move || to.carry(from, server));
                let (mut back, mut client) = (back, client);
                std::thread::spawn(move || std::io::copy(&mut back, &mut client));
            }
        });
        Self { folder, to }
    }

    fn home(&self, url: &str) -> tempfile::TempDir {
        let (_, rest) = url.split_once(' ').expect("the host comes first");
        home_on(&format!("host={} {rest}", self.folder.path().display()))
    }

    fn swallows(&self, ails: Ails) {
        *self.to.ails.lock().expect("no panic") = ails;
        self.to.healed.notify_all();
    }
}

impl To {
    /// What the client sends; what was swallowed arrives when all is well again and its connection has ended.
    fn carry(&self, mut client: UnixStream, mut server: UnixStream) {
        let (mut buffer, mut kept, mut met) = (vec![0; 65536], Vec::new(), false);
        while let Ok(read @ 1..) = client.read(&mut buffer) {
            let commits = buffer[..read].windows(6).any(|bytes| bytes == b"COMMIT");
            let mut ails = self.ails.lock().expect("no panic");
            if commits && *ails == Ails::NextCommit {
                (*ails, met) = (Ails::OneConnection, true);
            }
            met |= *ails == Ails::Everything;
            drop(ails);
            if met {
                kept.extend_from_slice(&buffer[..read]);
            } else if server.write_all(&buffer[..read]).is_err() {
                return;
            }
        }
        let ailing = self.ails.lock().expect("no panic");
        drop(self.healed.wait_while(ailing, |ails| met && *ails != Ails::Nothing));
        let _ = server.write_all(&kept);
        let _ = server.shutdown(std::net::Shutdown::Write);
    }
}

/// A COMMIT that does not arrive is asked for over another connection. Answered there that it is not, it never will be,
/// also when it arrives after all; and where nothing arrives, nobody knows, and that is what is said.
///
/// Control: the driver's own client waits for an answer that does not come.
#[test]
fn a_commit_that_is_swallowed_is_answered_at_the_deadline_and_never_counts_later() {
    let url = prepared(shared());
    let network = Network::to(shared());
    let home = network.home(&url);
    let runtime = open(home.path(), DEADLINE).expect("a runtime");
    let goals = runtime.goals();
    let direct = home_on(&url);
    let direct = open(direct.path(), Limits::default().deadline).expect("a runtime");
    until(|| count(&goals).is_ok(), "it arrives");

    network.swallows(Ails::NextCommit);
    let refused = in_time(|| count(&goals)).expect_err("it does not arrive");
    assert_eq!(refused.kind(), ErrorKind::Timeout, "{refused}");
    // It arrives after all. Until then its transaction is open on the server, and the next write waits for it.
    network.swallows(Ails::Nothing);
    count(&direct.goals()).expect("another one");
    assert_eq!(counted(&direct.goals()), 2, "never");

    network.swallows(Ails::Everything);
    let refused = in_time(|| count(&goals)).expect_err("nothing arrives");
    // Nothing arrived, so it was given up before its commit.
    assert_eq!(refused.kind(), ErrorKind::Timeout, "{refused}");
    let refused = in_time(|| goals.get(THREAD)).expect_err("nothing arrives");
    assert_eq!(refused.kind(), ErrorKind::Timeout, "{refused}");
    network.swallows(Ails::Nothing);
    until(|| count(&goals).is_ok(), "it arrives again");
    assert_eq!(counted(&direct.goals()), 3);

    let (_, rest) = url.split_once(' ').expect("the host comes first");
    let through = format!("host={} {rest}", network.folder.path().display());
    let mut plain = postgres::Client::connect(&through, postgres::NoTls).expect("a connection");
    let (answers, answered) = channel();
    network.swallows(Ails::NextCommit);
    std::thread::spawn(move || answers.send(plain.batch_execute("BEGIN; COMMIT").is_ok()));
    assert_eq!(answered.recv_timeout(3 * DEADLINE), Err(RecvTimeoutError::Timeout), "the plain client waits");
}

/// A statement that nobody waits for any more is stopped on the server, also when nothing there would end it.
///
/// Control: when a client of the driver's own gives up and is gone, its statement goes on.
#[test]
fn a_statement_that_nobody_waits_for_is_cancelled() {
    let database = shared().new_database();
    let url = shared().url("app", &database);
    let home = home_on(&url);
    let runtime = open(home.path(), Limits::default().deadline).expect("a runtime");
    let sleepers = || {
        let count =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND query LIKE 'SELECT pg_sleep%'";
        shared().client("postgres").query_one(count, &[&database]).expect("a count").get::<_, i64>(0)
    };
    let engine = runtime.engine("goals").expect("the domain").within(DEADLINE);
    // Also on a connection whose last commit was refused: only one that has no answer is left alone.
    let refused = engine.write(|tx| {
        tx.execute(
            "CREATE TEMP TABLE twice(id BIGINT UNIQUE DEFERRABLE INITIALLY DEFERRED) ON COMMIT DROP",
            &[],
        )?;
        tx.execute("INSERT INTO twice VALUES (1), (1)", &[])
    });
    assert_eq!(refused.expect_err("refused by the commit").kind(), ErrorKind::Constraint);
    let refused = in_time(|| {
        engine.write(|tx| {
            tx.execute("SET LOCAL statement_timeout = 0", &[])?;
            tx.query("SELECT pg_sleep(300)::text AS slept", &[]).map(drop)
        })
    });
    let refused = refused.expect_err("it sleeps longer");
    assert_eq!(refused.kind(), ErrorKind::Timeout, "{refused}");
    until(|| sleepers() == 0, "it is cancelled");

    let of_tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let given_up = of_tokio.block_on(async {
        let (plain, connection) = tokio_postgres::connect(&url, postgres::NoTls).await.expect("a connection");
        tokio::spawn(connection);
        tokio::time::timeout(DEADLINE, plain.batch_execute("SELECT pg_sleep(300)")).await
    });
    assert!(given_up.is_err(), "it sleeps longer");
    drop(of_tokio);
    assert_eq!(sleepers(), 1, "it goes on");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    shared().client("postgres").query(end, &[&database]).expect("ended");
}

/// In an asynchronous runtime a call blocks its thread, as any other call of this library, and nothing else happens.
///
/// Control: the driver's own blocking client panics there.
#[test]
fn an_asynchronous_runtime_is_no_other_place() {
    let url = prepared(shared());
    let home = home_on(&url);
    let of_tokio = tokio::runtime::Builder::new_current_thread().build().expect("a runtime of its own");
    let used = of_tokio.block_on(async {
        let runtime = open(home.path(), Limits::default().deadline).expect("a runtime");
        count(&runtime.goals()).expect("counted");
        counted(&runtime.goals())
    });
    assert_eq!(used, 1);
    let control = of_tokio.block_on(async {
        catch_unwind(AssertUnwindSafe(|| postgres::Client::connect(&url, postgres::NoTls).map(drop)))
    });
    assert!(control.is_err(), "it panics");
}
