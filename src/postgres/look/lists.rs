//! What the lists of the command say of a server: its schemas, and who is connected.

use std::time::Instant;

use super::super::address::Address;
use super::super::migrate;
use super::super::server::{Settings, schema_of};
use super::{Answer, Asker, reach};
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{ServerDomain, ServerSession};

/// What was asked of a server in one go.
pub(crate) struct Lists {
    pub(crate) version: String,
    pub(crate) domains: Vec<ServerDomain>,
    pub(crate) sessions: Vec<ServerSession>,
}

const VERSION: &str = "SELECT 'PostgreSQL ' || current_setting('server_version') AS words";

const SESSIONS: &str = "SELECT a.pid AS pid, substr(a.application_name, 10) AS name, a.state AS state, \
    (extract(epoch FROM clock_timestamp() - a.xact_start) * 1000)::bigint AS open_ms, \
    (SELECT count(*) FROM pg_stat_activity AS w \
        WHERE w.wait_event_type = 'Lock' AND a.pid = ANY (pg_blocking_pids(w.pid))) AS blocks \
    FROM pg_stat_activity AS a WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() \
        AND a.application_name LIKE 'rowhouse %' ORDER BY a.application_name, a.pid LIMIT 1000";

fn size(schema: &str) -> String {
    format!(
        "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint AS bytes, \
         coalesce(sum(s.n_live_tup), 0)::bigint AS rows \
         FROM pg_class AS c LEFT JOIN pg_stat_user_tables AS s ON s.relid = c.oid \
         WHERE c.relnamespace = to_regnamespace('{schema}') AND c.relkind = 'r'"
    )
}

/// Asks the server for these domains.
///
/// # Errors
/// `Invalid` for a URL that cannot be read; why no host can be used; `Timeout` when one accepts and says nothing.
pub(crate) fn ask(settings: &Settings, domains: &[Domain], until: Instant) -> Result<Lists> {
    let address = Address::parse(&settings.url, settings.root_cert.clone())?;
    let name = address.name().to_owned();
    let silent = || {
        Error::new(ErrorKind::Timeout, "the PostgreSQL server accepts connections, and does not answer")
            .advise("look whether it is stopped or overloaded; `rowhouse doctor --only server` says more")
    };
    let asked = || {
        let (hosts, asker) = reach(&address, until);
        let Some(mut asker) = asker else {
            let why = hosts.into_iter().find_map(|host| match host.answer {
                Answer::Refused(error) | Answer::Full(error) => Some(error),
                _ => None,
            });
            return Err(why.unwrap_or_else(silent));
        };
        gather(&mut asker, domains, until)
    };
    asked().map_err(|error: Error| error.at_path(name.as_ref()))
}

fn gather(at: &mut Asker, domains: &[Domain], until: Instant) -> Result<Lists> {
    let version = at.ask_one(until, VERSION)?.text("words").unwrap_or_default().to_owned();
    let domains = domains.iter().map(|each| domain(at, each, until)).collect::<Result<_>>()?;
    let sessions = at.ask(until, SESSIONS)?;
    let sessions = sessions.iter().map(|row| ServerSession {
        server_pid: row.number("pid").unwrap_or_default(),
        name: row.text("name").unwrap_or_default().to_owned(),
        state: row.text("state").map(str::to_owned),
        transaction_ms: row.number("open_ms").map(|_| row.count("open_ms")),
        blocks: row.count("blocks"),
    });
    Ok(Lists { version, domains, sessions: sessions.collect() })
}

fn domain(at: &mut Asker, domain: &Domain, until: Instant) -> Result<ServerDomain> {
    let schema = schema_of(domain.name());
    let state = at.inside(&schema, until, |connection| migrate::inspect(connection, domain, &schema))?;
    let size = at.ask_one(until, &size(&schema))?;
    Ok(ServerDomain {
        name: domain.name().to_owned(),
        schema_version: state.map(|state| state.found_version),
        bytes: size.count("bytes"),
        rows: size.count("rows"),
    })
}
