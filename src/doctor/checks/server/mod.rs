//! The server that holds some of a home's domains, where its configuration names one.
//!
//! | file | what |
//! |---|---|
//! | here | the settings |
//! | [`asked`] | the look that all share |
//! | [`reach`] | hosts, version, TLS, pooler, clock |
//! | [`schema`] | schemas, permissions |
//! | [`load`] | connections, transactions |
//! | [`durability`] | what an acknowledged write survives |
//! | [`copies`] | standbys, replication slots |
//! | [`upkeep`] | dead rows, checksums |
//! | [`leftover`] | files that a domain left here |
//!
//! All share one look. Where it could not be made, one row says why and the others name that row.
//!
//! Tests: `tests/doctor_of_a_server.rs`, `cli/tests/server.rs`.

#[cfg(feature = "postgres")]
mod asked;
#[cfg(feature = "postgres")]
mod copies;
#[cfg(feature = "postgres")]
mod durability;
#[cfg(feature = "postgres")]
mod leftover;
#[cfg(feature = "postgres")]
mod load;
#[cfg(feature = "postgres")]
mod reach;
#[cfg(feature = "postgres")]
mod schema;
#[cfg(feature = "postgres")]
mod upkeep;

use super::super::finding::Finding;
use super::super::scope::Scope;
use super::{Definition, Of};

const fn of_server(name: &'static str, about: &'static str, run: fn(&Scope) -> Finding) -> Definition {
    Definition { name, category: "server", about, generic: false, run: Of::Server(run) }
}

#[cfg(not(feature = "postgres"))]
pub(super) const ALL: &[Definition] =
    &[of_server("settings", "the configuration names no server that this program cannot use", settings)];

#[cfg(feature = "postgres")]
pub(super) const ALL: &[Definition] = &[
    of_server("settings", "what the configuration says of a PostgreSQL server can be followed", settings),
    of_server("reachable", "its hosts answer, and one of them takes writes", reach::reachable),
    of_server("version", "it is a release that will do, in UTF-8", reach::version),
    of_server("tls", "what goes over a network is encrypted", reach::tls),
    of_server("pooler", "who stands between, and whether migrations get past", reach::pooler),
    of_server("clock", "its clock and this one agree", reach::clock),
    of_server("schema", "the schemas fit this program, and nobody edited them", schema::schema),
    of_server("permissions", "the user may read, write and migrate", schema::permissions),
    of_server("connections", "it has connections free", load::connections),
    of_server("transactions", "no transaction stays open, and who keeps others waiting", load::transactions),
    of_server("durability", "what was acknowledged survives a crash", durability::durability),
    of_server("replication", "standbys keep up, and no commit waits for one that is gone", copies::standbys),
    of_server("slots", "no replication slot makes it keep its log", copies::slots),
    of_server("vacuum", "deleted rows are cleared away", upkeep::vacuum),
    of_server("checksums", "it found no damaged page", upkeep::checksums),
    of_server("leftover", "no file lies here of a domain that is there", leftover::leftover),
];

#[cfg(not(feature = "postgres"))]
fn settings(scope: &Scope) -> Finding {
    match &scope.context.server {
        Some(Err(error)) => Finding::of_error(error),
        Some(Ok(none)) => match *none {},
        None => Finding::skipped("no domain is on a server"),
    }
}

#[cfg(feature = "postgres")]
fn settings(scope: &Scope) -> Finding {
    let server = match &scope.context.server {
        Some(Ok(server)) => server,
        Some(Err(error)) => return Finding::of_error(error),
        None => return Finding::skipped("no domain is on a server"),
    };
    let names: Vec<_> = server.domains.iter().map(crate::Domain::name).collect();
    Finding::ok(format!("{} on {}", names.join(", "), server.name))
        .detail("server", server.name.as_str())
        .detail("chosen_by", server.origin)
        .detail("domains", names.join(", "))
        .detail("pool_size", server.settings.pool_size)
        .detail("direct_url", server.settings.direct_url.is_some())
}
