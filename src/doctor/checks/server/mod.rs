//! The server that holds some of a home's domains, where its configuration names one.
//!
//! | file | what |
//! |---|---|
//! | here | the settings, and files that they left behind |
//! | [`reach`] | hosts, version, TLS, pooler, clock |
//! | [`schema`] | schemas, permissions |
//! | [`load`] | connections, transactions |
//! | [`copies`] | standbys, replication slots |
//! | [`upkeep`] | dead rows, checksums |
//!
//! All share one look. Where it could not be made, one row says why and the others name that row.
//!
//! Tests: `tests/doctor_of_a_server.rs`, `cli/tests/server.rs`.

#[cfg(feature = "postgres")]
mod copies;
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
use super::super::server::OnServer;
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
    of_server("replication", "standbys keep up, and no commit waits for one that is gone", copies::standbys),
    of_server("slots", "no replication slot makes it keep its log", copies::slots),
    of_server("vacuum", "deleted rows are cleared away", upkeep::vacuum),
    of_server("checksums", "it found no damaged page", upkeep::checksums),
    of_server("leftover", "no file lies here of a domain that is there", leftover),
];

/// The row of a check that ends early.
struct Early(Box<Finding>);

fn skipped(why: impl Into<String>) -> Early {
    Early(Box::new(Finding::skipped(why)))
}

const SEE_SETTINGS: &str = "the server is not known: see server.settings";

fn named<'c>(scope: &Scope<'c>) -> Result<&'c OnServer, Early> {
    match &scope.context.server {
        Some(Ok(server)) => Ok(server),
        _ => Err(skipped(SEE_SETTINGS)),
    }
}

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

/// What the one look found, for checks that need an answer of the server.
#[cfg(feature = "postgres")]
fn facts<'c>(scope: &Scope<'c>) -> Result<&'c crate::postgres::look::facts::Facts, Early> {
    use crate::postgres::look::Answer;
    let look = named(scope)?.look(scope.until).map_err(|_| skipped(SEE_SETTINGS))?;
    look.facts.as_ref().ok_or_else(|| {
        let full = look.hosts.iter().any(|host| matches!(host.answer, Answer::Full(_)));
        skipped(format!(
            "the server could not be asked: see server.{}",
            if full { "connections" } else { "reachable" }
        ))
    })
}

/// What could be asked of it; a question that failed is a skipped check, with the reason.
#[cfg(feature = "postgres")]
fn asked<T>(answer: &crate::Result<T>) -> Result<&T, Early> {
    answer.as_ref().map_err(|error| skipped(format!("the server does not tell: {}", error.message())))
}

/// A check that ends early with the row that says why.
#[cfg(feature = "postgres")]
fn judged(judge: impl FnOnce() -> Result<Finding, Early>) -> Finding {
    judge().unwrap_or_else(|Early(finding)| *finding)
}

#[cfg(feature = "postgres")]
fn leftover(scope: &Scope) -> Finding {
    judged(|| {
        let server = named(scope)?;
        let home = scope.context.home().map_err(skipped)?;
        let left = server.domains.iter().map(|domain| home.database_path(domain.name()));
        let left: Vec<_> = left.filter(|path| path.symlink_metadata().is_ok()).collect();
        let Some(first) = left.first() else { return Ok(Finding::ok("none")) };
        let name =
            |path: &std::path::Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let finding = Finding::warning(format!(
            "{} is not read: the configuration says that its domain is on {}",
            left.iter().map(|path| name(path)).collect::<Vec<_>>().join(", "),
            server.name
        ));
        let finding = finding.detail("path", first.display().to_string()).evidence(
            "what was written before the domain moved may be only there, or only on the server: no program looks at both",
        );
        Ok(finding.remedy(
            "look into it (sqlite3 -readonly), then move it out of the home; or set backend = \"sqlite\" again if it is the one that counts",
        ))
    })
}
