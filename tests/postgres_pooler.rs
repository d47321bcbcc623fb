//! Behind PgBouncer in transaction mode, where each transaction may meet another connection to the server.
mod engines;

use std::path::Path;

use engines::bouncer;
use engines::server::{configure, configure_with, shared};
use rowhouse::stores::goals::{Accounting, NewGoal};
use rowhouse::{Domain, ErrorKind, Home, Result, Runtime};

const THREAD: &str = "019cadf1-7a5e-7b04-8f21-000000000001";

fn home_with(settings: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder");
    configure_with(home.path(), settings);
    home
}

fn open(home: &Path) -> Result<Runtime> {
    Runtime::builder(Home::at(home)).domain(Domain::state()).domain(Domain::goals()).open()
}

/// A pooler is found by what it announces, so nobody has to say that there is one: writers on more connections than it has
/// to the server do not mix up their statements. The setting says the same.
///
/// Control: statements that are prepared by name fail there, or are somebody else's.
#[test]
fn a_pooler_is_recognised_and_no_statement_has_a_name_there() {
    let database = shared().new_database();
    let (through, direct) = (bouncer::shared().url(&database), shared().url("app", &database));
    let recognised = format!("url = \"{through}\"\ndirect_url = \"{direct}\"");
    for settings in [recognised.clone(), format!("{recognised}\npooler = \"transaction\"")] {
        let home = home_with(&settings);
        let runtime = open(home.path()).expect("a runtime");
        let goals = runtime.goals();
        goals.replace(THREAD, &NewGoal::new("Ship it")).expect("a goal");
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        goals.account(THREAD, 0, 1, Accounting::ActiveOnly, None).expect("counted");
                        goals.get(THREAD).expect("read").expect("a goal");
                    }
                });
            }
        });
        assert_eq!(goals.get(THREAD).expect("read").expect("a goal").tokens_used, 120);
    }

    let client = || postgres::Client::connect(&through, postgres::NoTls).expect("a connection");
    let (mut one, mut other) = (client(), client());
    let named = one.prepare("SELECT 1").expect("on one connection to the server");
    // That connection is the next transaction's.
    let mut holds = other.transaction().expect("begun");
    holds.batch_execute("SELECT 1").expect("held");
    let refused = one.query(&named, &[]).expect_err("on another one");
    assert_eq!(refused.code().map(postgres::error::SqlState::code), Some("26000"), "{refused}");
    drop(holds);

    // Told that there is no such pooler, it says what is wrong.
    let home = home_with(&format!("{recognised}\npooler = \"session\""));
    let runtime = open(home.path()).expect("a runtime");
    let goals = runtime.goals();
    goals.get(THREAD).expect("prepared");
    let mut holds = other.transaction().expect("begun");
    holds.batch_execute("SELECT 1").expect("held");
    let refused = goals.get(THREAD).expect_err("on another one");
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    assert!(refused.advice().is_some_and(|advice| advice.contains("pooler")), "{refused}");
}

/// A schema is made and migrated past the pooler, and read through it. Without a way past it that is an error, and nothing
/// was done.
#[test]
fn a_schema_is_migrated_past_a_pooler_or_not_at_all() {
    let database = shared().new_database();
    let (through, direct) = (bouncer::shared().url(&database), shared().url("app", &database));
    let schemas = || {
        let count = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'rowhouse%'";
        shared().client(&database).query_one(count, &[]).expect("a count").get::<_, i64>(0)
    };
    let alone = home_with(&format!("url = \"{through}\""));
    let twice = home_with(&format!("url = \"{through}\"\ndirect_url = \"{through}\""));
    for home in [&alone, &twice] {
        let refused = open(home.path()).expect_err("no way past it");
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
        assert!(refused.advice().is_some_and(|advice| advice.contains("direct_url")), "{refused}");
        assert_eq!(schemas(), 0, "{refused}");
    }
    let with = home_with(&format!("url = \"{through}\"\ndirect_url = \"{direct}\""));
    drop(open(with.path()).expect("past it"));
    assert_eq!(schemas(), 2);
    // It is there: it is only read. Also where the way past the pooler is shut.
    open(alone.path()).expect("nothing to migrate").goals().get(THREAD).expect("read");
    let shut = home_with(&format!("url = \"{through}\"\ndirect_url = \"host=/nowhere user=app\""));
    open(shut.path()).expect("nothing to migrate");
    // The server itself needs no more than its URL.
    let itself = tempfile::tempdir().expect("a folder");
    configure(itself.path(), &direct);
    open(itself.path()).expect("the server itself");
}
