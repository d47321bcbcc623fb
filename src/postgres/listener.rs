//! Hears of commits on a server: one connection per process that listens, while somebody waits.
//!
//! Invariants:
//! - It is made when somebody waits for the first time, and closed a minute after the last one did. Behind a pooler in
//!   transaction mode there is none: a pooler passes no notifications on.
//! - Nobody depends on it (`changes.rs`). A connection that is lost is made again, and whoever waits looks meanwhile.
//! - Commits pay for notifications only while somebody listens: the server lets one transaction at a time commit that
//!   notifies. So who listens says so in `rowhouse_listener`, for a minute at a time, and a write looks there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use super::connection::Connection;
use super::failure::Failure;
use super::server::Server;

/// On which notifications come; what they carry is the domain.
const CHANNEL: &str = "rowhouse";
/// How long it goes on when nobody waits any more.
const LINGERS: Duration = Duration::from_mins(1);
/// How often it says that it listens, and for how long each time, in milliseconds.
const SAYS_EVERY: Duration = Duration::from_secs(20);
const SAID_FOR: u64 = 60_000;
/// How often it looks whether it is still wanted, and tries again to connect.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// How long connecting may take.
const LONGEST_CONNECT: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Listener {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How many notifications came of each domain.
    heard: BTreeMap<String, u64>,
    /// The schemas that somebody waited for.
    schemas: BTreeSet<String>,
    waiting: usize,
    /// When the last one ended waiting.
    left: Option<Instant>,
    runs: bool,
    /// A pooler is in the way.
    cannot: bool,
    closed: bool,
}

/// Somebody waits until it is dropped.
pub(super) struct Waits(Arc<Shared>);

impl Listener {
    /// Listens from now on, if that can be.
    pub(super) fn wait_with(&self, server: &Arc<Server>, schema: &str) -> Waits {
        let mut state = self.shared.state.lock();
        state.waiting += 1;
        if !state.schemas.contains(schema) {
            state.schemas.insert(schema.to_owned());
        }
        if !state.runs && !state.cannot && !state.closed {
            let (shared, weak) = (Arc::clone(&self.shared), Arc::downgrade(server));
            let run = move || shared.run(&weak);
            let started = std::thread::Builder::new().name("rowhouse-listen".to_owned()).spawn(run);
            // Who waits looks all the same.
            state.runs = started.is_ok();
        }
        Waits(Arc::clone(&self.shared))
    }

    /// How many notifications came of a domain.
    pub(super) fn heard(&self, domain: &str) -> u64 {
        self.shared.state.lock().heard.get(domain).copied().unwrap_or(0)
    }

    /// Waits for one more than `heard`.
    pub(super) fn wait(&self, domain: &str, heard: u64, until: Instant) {
        let mut state = self.shared.state.lock();
        while state.heard.get(domain).copied().unwrap_or(0) == heard && !state.closed {
            if self.shared.changed.wait_until(&mut state, until).timed_out() {
                return;
            }
        }
    }

    /// A commit of this process.
    pub(super) fn tell(&self, domain: &str) {
        let mut state = self.shared.state.lock();
        if state.waiting > 0 {
            state.hear(domain);
            drop(state);
            self.shared.changed.notify_all();
        }
    }

    pub(super) fn close(&self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl State {
    fn hear(&mut self, domain: &str) {
        if let Some(heard) = self.heard.get_mut(domain) {
            *heard += 1;
        } else {
            self.heard.insert(domain.to_owned(), 1);
        }
    }

    fn is_over(&self) -> bool {
        self.closed || (self.waiting == 0 && self.left.is_none_or(|left| left.elapsed() >= LINGERS))
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.waiting -= 1;
        state.left = Some(Instant::now());
    }
}

/// A connection that listens.
struct Hearing {
    connection: Connection,
    id: Uuid,
    /// The schemas in which it said so, and when.
    said: BTreeSet<String>,
    said_at: Instant,
}

impl Shared {
    /// Until it is over.
    fn run(&self, server: &Weak<Server>) {
        let mut hearing: Option<Hearing> = None;
        loop {
            let schemas = {
                let mut state = self.state.lock();
                if state.is_over() || state.cannot {
                    state.runs = false;
                    break;
                }
                state.schemas.clone()
            };
            // Whoever waits has the server.
            let Some(server) = server.upgrade() else { break };
            let heard = match &mut hearing {
                Some(hearing) => hearing.hear(&schemas),
                None => match Hearing::begin(&server, &schemas) {
                    Ok(Some(begun)) => {
                        hearing = Some(begun);
                        // What was committed while nobody listened is looked for now.
                        Ok(self.state.lock().heard.keys().cloned().collect())
                    }
                    Ok(None) => {
                        self.state.lock().cannot = true;
                        Ok(Vec::new())
                    }
                    Err(failure) => Err(failure),
                },
            };
            drop(server);
            match heard {
                Ok(domains) if domains.is_empty() => {}
                Ok(domains) => {
                    let mut state = self.state.lock();
                    for domain in &domains {
                        state.hear(domain);
                    }
                    drop(state);
                    self.changed.notify_all();
                }
                Err(_) => {
                    hearing = None;
                    let mut state = self.state.lock();
                    if !state.closed {
                        self.changed.wait_for(&mut state, LOOKS_EVERY);
                    }
                }
            }
        }
        if let Some(mut hearing) = hearing {
            hearing.end();
        }
    }
}

impl Hearing {
    /// `None` where a pooler would hear it, and pass nothing on.
    fn begin(server: &Server, schemas: &BTreeSet<String>) -> Result<Option<Self>, Failure> {
        let mut connection = server.connect_apart(Instant::now() + LONGEST_CONNECT)?;
        if connection.is_pooled() {
            return Ok(None);
        }
        connection.batch(&format!("LISTEN {CHANNEL}"))?;
        let (id, said_at) = (Uuid::now_v7(), Instant::now());
        let mut hearing = Self { connection, id, said: BTreeSet::new(), said_at };
        hearing.say(schemas)?;
        Ok(Some(hearing))
    }

    /// Lets writes know that somebody listens.
    fn say(&mut self, schemas: &BTreeSet<String>) -> Result<(), Failure> {
        let due = self.said_at.elapsed() >= SAYS_EVERY;
        for schema in schemas.iter().filter(|schema| due || !self.said.contains(*schema)) {
            self.connection.lend(Instant::now() + LONGEST_CONNECT);
            self.connection.batch(&format!(
                "WITH clock AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now) \
                 INSERT INTO {schema}.rowhouse_listener(id, until) SELECT '{}', now + {SAID_FOR} FROM clock \
                 ON CONFLICT (id) DO UPDATE SET until = excluded.until; \
                 DELETE FROM {schema}.rowhouse_listener WHERE until < (extract(epoch FROM now()) * 1000)::bigint",
                self.id
            ))?;
        }
        if due {
            self.said_at = Instant::now();
        }
        self.said.clone_from(schemas);
        Ok(())
    }

    /// Which domains were told of, if any were for a while.
    fn hear(&mut self, schemas: &BTreeSet<String>) -> Result<Vec<String>, Failure> {
        self.say(schemas)?;
        self.connection.lend(Instant::now() + LOOKS_EVERY);
        self.connection.hear()
    }

    /// Nobody listens any more.
    fn end(&mut self) {
        for schema in std::mem::take(&mut self.said) {
            self.connection.lend(Instant::now() + LONGEST_CONNECT);
            let gone = format!("DELETE FROM {schema}.rowhouse_listener WHERE id = '{}'", self.id);
            if self.connection.batch(&gone).is_err() {
                // It ends by itself.
                return;
            }
        }
    }
}

/// What a write says at its end, in its transaction, if somebody listens.
pub(super) fn notification(domain: &str) -> String {
    format!(
        "SELECT pg_notify('{CHANNEL}', '{domain}') WHERE pg_current_xact_id_if_assigned() IS NOT NULL AND EXISTS \
         (SELECT 1 FROM rowhouse_listener WHERE until > (extract(epoch FROM clock_timestamp()) * 1000)::bigint)"
    )
}
