//! How a home of the stores' contract reaches its server: directly, through a pooler, or after a fail-over.
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::pair::Pair;
use super::{bouncer, server};

/// Says it; without it a home goes to the server directly.
const VARIABLE: &str = "ROWHOUSE_TEST_REACH";
const POOLER: &str = "pooler";
const FAIL_OVER: &str = "fail-over";

/// Says in a home that its state is in a new database.
pub fn configure(home: &Path) {
    match std::env::var(VARIABLE).as_deref() {
        Err(_) => server::configure(home, &server::new_database()),
        Ok(POOLER) => {
            let database = server::shared().new_database();
            let (through, direct) =
                (bouncer::shared().url(&database), server::shared().url("app", &database));
            let settings =
                format!("url = \"{through}\"\ndirect_url = \"{direct}\"\npooler = \"transaction\"");
            server::configure_with(home, &settings);
        }
        Ok(FAIL_OVER) => {
            let pair = failed_over();
            server::configure(home, &pair.url(&pair.standby.new_database()));
        }
        Ok(other) => panic!("{VARIABLE} is {other}"),
    }
}

/// A synchronous pair whose primary is dead, and whose standby has taken its place.
fn failed_over() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| {
        let pair = Pair::synchronous();
        pair.fail_over();
        // Nobody follows it any more.
        let mut client = pair.standby.client("postgres");
        client.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").expect("alone");
        client.batch_execute("SELECT pg_reload_conf()").expect("from now on");
        pair
    })
}

/// Runs all other tests of this program once more, more than `some` of them, in a process of their own that reaches its
/// server through a pooler.
pub fn again_behind_a_pooler(but: &str, some: usize) {
    again(POOLER, but, some);
}

/// The same on what was the standby of a server that was killed.
pub fn again_after_a_fail_over(but: &str, some: usize) {
    again(FAIL_OVER, but, some);
}

fn again(how: &str, but: &str, some: usize) {
    let this = std::env::current_exe().expect("this test's binary");
    let done = Command::new(this).args(["--skip", but]).env(VARIABLE, how).output().expect("it runs");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{how}: {said}\n{}", String::from_utf8_lossy(&done.stderr));
    let passed = said.lines().filter(|line| line.starts_with("test ") && line.ends_with("... ok")).count();
    assert!(passed > some, "{how}: only {passed} tests");
}
