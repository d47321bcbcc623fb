//! What a doctor asks a server, in one go, so that one that stops answering keeps one thread and not ten.

use std::time::{Duration, Instant};

use super::super::address::Address;
use super::super::migrate;
use super::super::server::{Settings, schema_of};
use super::{Answer, Asker, Host, Row, reach};
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::migrate::State;

/// Everything that was seen of a server.
pub(crate) struct Look {
    pub(crate) hosts: Vec<Host>,
    /// What the best of them said; nothing where none could be asked.
    pub(crate) facts: Option<Facts>,
}

/// What a server said. What could not be asked says why.
pub(crate) struct Facts {
    /// `number`, `words`, `encoding`, `follows`, `now_ms`.
    pub(crate) version: Result<Row>,
    pub(crate) clock: Option<Clock>,
    /// Of the connection itself: `encrypted`, `protocol`, `socket`.
    pub(crate) session: Result<Row>,
    pub(crate) pooled: bool,
    pub(crate) direct: Option<Direct>,
    pub(crate) connections: Result<Row>,
    /// That are open, the oldest first.
    pub(crate) transactions: Result<Vec<Row>>,
    /// What a commit waits for: `standbys`, `commits` and where that was `set`, `fsync`, `pages`; for whom: `user`, `database`.
    pub(crate) waits: Result<Row>,
    pub(crate) standbys: Result<Vec<Row>>,
    pub(crate) slots: Result<Vec<Row>>,
    pub(crate) upkeep: Result<Row>,
    /// Those with the most dead rows.
    pub(crate) tables: Result<Vec<Row>>,
    pub(crate) schemas: Vec<Schema>,
}

/// What time the server thinks it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// By how much the server's clock is ahead of this one, in milliseconds; below 0 when it is behind.
    pub(crate) ahead_ms: i64,
    /// How exactly that is known.
    pub(crate) within_ms: i64,
}

/// The way past a pooler.
pub(crate) enum Direct {
    /// To the same database.
    Same,
    /// To another one.
    Other,
    /// There is a pooler here as well.
    Pooled,
    Failed(Error),
}

/// The schema of one domain.
pub(crate) struct Schema {
    pub(crate) domain: String,
    /// What it is called on the server.
    pub(crate) name: String,
    /// `None` when nobody made it yet.
    pub(crate) state: Result<Option<State>>,
    /// `exists`, `may_create`, `may_use`, `closed`: tables that may not be read and written.
    pub(crate) rights: Result<Row>,
    /// Of a row that was written, and rolled back; nothing where there is no schema.
    pub(crate) write: Option<Result<()>>,
}

const VERSION: &str = "SELECT current_setting('server_version_num') AS number, version() AS words, \
    current_setting('server_encoding') AS encoding, pg_is_in_recovery()::int AS follows, \
    (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms";

const SESSION: &str = "SELECT s.ssl::int AS encrypted, s.version AS protocol, (inet_server_addr() IS NULL)::int AS socket, \
    current_database() AS database, pg_postmaster_start_time()::text AS server \
    FROM pg_stat_ssl AS s WHERE s.pid = pg_backend_pid()";

/// Backends are counted per database: who they belong to is not for every user to see.
const CONNECTIONS: &str = "SELECT current_setting('max_connections')::bigint AS most, \
    current_setting('superuser_reserved_connections')::bigint \
        + coalesce(current_setting('reserved_connections', true)::bigint, 0) AS reserved, \
    (SELECT sum(numbackends) FROM pg_stat_database)::bigint AS used, \
    (SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'rowhouse %') AS ours, \
    (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user) AS of_user, \
    (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()) AS of_database";

const TRANSACTIONS: &str = "SELECT a.pid AS pid, a.application_name AS program, a.state AS state, \
    (extract(epoch FROM clock_timestamp() - a.xact_start) * 1000)::bigint AS open_ms, \
    (extract(epoch FROM clock_timestamp() - a.state_change) * 1000)::bigint AS since_ms, \
    (SELECT count(*) FROM pg_stat_activity AS w \
        WHERE w.wait_event_type = 'Lock' AND a.pid = ANY (pg_blocking_pids(w.pid))) AS blocks \
    FROM pg_stat_activity AS a \
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL \
        AND a.backend_type = 'client backend' ORDER BY a.xact_start LIMIT 20";

const WAITS: &str = "SELECT current_setting('synchronous_standby_names') AS standbys, \
    s.setting AS commits, s.source AS set, current_setting('fsync') AS fsync, \
    current_setting('full_page_writes') AS pages, quote_ident(current_user) AS user, \
    quote_ident(current_database()) AS database FROM pg_settings AS s WHERE s.name = 'synchronous_commit'";

const STANDBYS: &str = "SELECT application_name AS name, state, sync_state AS kind, \
    pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS lag_bytes, \
    (extract(epoch FROM replay_lag) * 1000)::bigint AS lag_ms \
    FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup' ORDER BY application_name LIMIT 20";

const SLOTS: &str = "SELECT slot_name AS name, active::int AS active, wal_status AS status, \
    pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint AS kept_bytes \
    FROM pg_replication_slots WHERE NOT temporary ORDER BY slot_name LIMIT 50";

const UPKEEP: &str = "SELECT current_setting('autovacuum') AS autovacuum, current_setting('track_counts') AS counts, \
    current_setting('data_checksums') AS checksums, age(d.datfrozenxid) AS age, \
    coalesce(s.checksum_failures, 0) AS failures \
    FROM pg_database AS d JOIN pg_stat_database AS s ON s.datid = d.oid WHERE d.datname = current_database()";

fn tables(schemas: &[String]) -> String {
    let named: Vec<_> = schemas.iter().map(|schema| format!("'{schema}'")).collect();
    format!(
        "SELECT schemaname || '.' || relname AS name, n_dead_tup AS dead, n_live_tup AS live \
         FROM pg_stat_user_tables WHERE schemaname IN ({}) ORDER BY n_dead_tup DESC LIMIT 5",
        named.join(", ")
    )
}

fn rights(schema: &str) -> String {
    let may =
        ["SELECT", "INSERT", "UPDATE", "DELETE"].map(|what| format!("has_table_privilege(c.oid, '{what}')"));
    format!(
        "SELECT (n.oid IS NOT NULL)::int AS exists, has_database_privilege(current_database(), 'CREATE')::int AS may_create, \
         coalesce(has_schema_privilege(n.oid, 'USAGE'), false)::int AS may_use, \
         (SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class AS c WHERE c.relnamespace = n.oid \
             AND c.relkind IN ('r', 'p') AND NOT ({})) AS closed \
         FROM (SELECT '{schema}' AS name) AS one LEFT JOIN pg_namespace AS n ON n.nspname = one.name",
        may.join(" AND ")
    )
}

/// A row that counts nowhere, in the table that every write leaves one in.
const PROBE: &str = "INSERT INTO rowhouse_operation(id, committed) VALUES (gen_random_uuid(), FALSE)";

/// How an address is called, and whether what is said there goes over a network.
///
/// # Errors
/// `Invalid` for a URL that cannot be read, that of `direct_url` included.
pub(crate) fn name(settings: &Settings) -> Result<(String, bool)> {
    let address = Address::parse(&settings.url, settings.root_cert.clone())?;
    if let Some(url) = &settings.direct_url {
        Address::parse(url, settings.root_cert.clone())?;
    }
    Ok((address.name().to_owned(), address.is_near()))
}

/// Looks at a server and at these domains on it.
///
/// # Errors
/// `Invalid` for a URL that cannot be read.
pub(crate) fn look(settings: &Settings, domains: &[Domain], until: Instant) -> Result<Look> {
    let address = Address::parse(&settings.url, settings.root_cert.clone())?;
    let direct = settings.direct_url.as_ref().map(|url| Address::parse(url, settings.root_cert.clone()));
    let direct = direct.transpose()?;
    // A host that says nothing must leave time for the one that does.
    let (mut hosts, asker) = reach(&address, halfway(until));
    let Some(asker) = asker else { return Ok(Look { hosts, facts: None }) };
    let facts = gather(asker, direct.as_ref(), domains, until);
    // It stopped answering since.
    if facts.version.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout) {
        let stopped = hosts.iter_mut().filter(|host| matches!(host.answer, Answer::Writes | Answer::Follows));
        stopped.for_each(|host| host.answer = Answer::Silent);
        return Ok(Look { hosts, facts: None });
    }
    Ok(Look { hosts, facts: Some(facts) })
}

fn halfway(until: Instant) -> Instant {
    let now = Instant::now();
    now + until.saturating_duration_since(now) / 2
}

fn gather(mut at: Asker, direct: Option<&Address>, domains: &[Domain], until: Instant) -> Facts {
    let asked = Instant::now();
    let version = at.ask_one(until, VERSION);
    let clock = version.as_ref().ok().and_then(|row| clock(row.number("now_ms")?, asked.elapsed()));
    let (session, pooled) = (at.ask_one(until, SESSION), at.pooled);
    let schemas: Vec<_> = domains.iter().map(|domain| schema(&mut at, domain, until)).collect();
    let names: Vec<_> = schemas.iter().map(|schema| schema.name.clone()).collect();
    Facts {
        direct: direct.map(|direct| compare(session.as_ref().ok(), direct, until)),
        connections: at.ask_one(until, CONNECTIONS),
        transactions: at.ask(until, TRANSACTIONS),
        waits: at.ask_one(until, WAITS),
        standbys: at.ask(until, STANDBYS),
        slots: at.ask(until, SLOTS),
        upkeep: at.ask_one(until, UPKEEP),
        tables: at.ask(until, &tables(&names)),
        version,
        clock,
        session,
        pooled,
        schemas,
    }
}

/// The server's time beside the middle of the question.
fn clock(server_ms: i64, took: Duration) -> Option<Clock> {
    let took = i64::try_from(took.as_millis()).ok()?;
    let here = i64::try_from(crate::sqlite::now_unix_ms()).ok()? - took / 2;
    Some(Clock { ahead_ms: server_ms - here, within_ms: took / 2 + 1 })
}

fn compare(session: Option<&Row>, direct: &Address, until: Instant) -> Direct {
    let (hosts, asker) = reach(direct, until);
    let Some(mut asker) = asker else {
        let why = hosts.into_iter().find_map(|host| match host.answer {
            Answer::Refused(error) | Answer::Full(error) => Some(error),
            _ => None,
        });
        return Direct::Failed(why.unwrap_or_else(|| Error::new(ErrorKind::Timeout, "it does not answer")));
    };
    let other = asker.ask_one(until, SESSION);
    let of = |row: &Row| ["database", "server"].map(|name| row.text(name).map(str::to_owned));
    match (session, other) {
        (_, Err(error)) => Direct::Failed(error),
        (_, Ok(_)) if asker.pooled => Direct::Pooled,
        (Some(session), Ok(other)) if of(session) != of(&other) => Direct::Other,
        _ => Direct::Same,
    }
}

fn schema(at: &mut Asker, domain: &Domain, until: Instant) -> Schema {
    let name = schema_of(domain.name());
    let rights = at.ask_one(until, &rights(&name));
    let state = at.inside(&name, until, |connection| migrate::inspect(connection, domain, &name));
    // One whose data went elsewhere has no tables: that is told of its state.
    let moved = state.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict);
    let exists = rights.as_ref().is_ok_and(|row| row.is("exists"));
    let write = (exists && !moved).then(|| at.try_write(&name, until, PROBE));
    Schema { domain: domain.name().to_owned(), name, state, rights, write }
}
