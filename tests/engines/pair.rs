//! A server and the standby that follows it, and may take its place.

use std::time::{Duration, Instant};

use super::server::Server;

pub struct Pair {
    pub primary: Server,
    pub standby: Server,
}

impl Pair {
    /// Nothing is acknowledged that the standby does not have.
    pub fn synchronous() -> Self {
        let pair = Self::asynchronous();
        let mut client = pair.primary.client("postgres");
        client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").expect("synchronous");
        client.batch_execute("SELECT pg_reload_conf()").expect("from now on");
        until("synchronous", || {
            let counted = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
            client.query_one(counted, &[]).expect("a count").get::<_, i64>(0) == 1
        });
        pair
    }

    /// The standby follows as fast as it can, and nobody waits for it.
    pub fn asynchronous() -> Self {
        let primary = Server::start();
        let standby = primary.standby();
        Self { primary, standby }
    }

    /// The URL of a database on whichever of the two takes writes.
    pub fn url(&self, database: &str) -> String {
        let (one, other) = (self.primary.folder().display(), self.standby.folder().display());
        format!("host={one},{other} user=app dbname={database} connect_timeout=2")
    }

    /// From here on the standby gets nothing new.
    pub fn cut(&self) {
        let mut client = self.standby.client("postgres");
        client.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").expect("no primary");
        client.batch_execute("SELECT pg_reload_conf()").expect("from now on");
        until("cut off", || {
            let counted = "SELECT count(*) FROM pg_stat_wal_receiver";
            client.query_one(counted, &[]).expect("a count").get::<_, i64>(0) == 0
        });
    }

    /// The primary is killed, and the standby takes its place.
    pub fn fail_over(&self) {
        self.primary.kill();
        self.standby.promote();
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < end, "the standby is not {what}");
        std::thread::yield_now();
    }
}
