//! Brings a schema on a server to the newest version: the same migrations as a file's, by id and name, in its own SQL.
//!
//! Invariants:
//! - Everything pending, the history and `rowhouse_meta` are one commit, under an advisory lock that ends with it. What
//!   another program did before the lock came is not done again.
//! - The lock is waited for until the deadline and no longer.
//! - A settled schema is only read, also through a pooler. Nothing is migrated through one: its own timeouts would end
//!   a long migration in the middle, and it may have other servers behind it than the one that takes writes.

use std::time::Instant;

use super::connection::Connection;
use super::database::settings;
use super::failure::{Class, Failure};
use super::history::{self, Record};
use super::moved;
use super::server::Server;
use super::tries::Tries;
use crate::domain::{Domain, Migration};
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::migrate::{State, judge, validate};

/// Creates and migrates the schema of a domain, as far as needed.
pub(super) fn migrate(
    server: &Server,
    domain: &Domain,
    schema: &str,
    program: (&str, &str),
    deadline: Instant,
) -> Result<()> {
    let domain = on_server(domain)?;
    let mut tries = Tries::until(deadline);
    loop {
        let failure = match brought_up(server, &domain, schema, program, deadline) {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        let failure =
            if failure.class == Class::Lost { Failure { class: Class::Again, ..failure } } else { failure };
        tries.again(failure, |time| server.pool.rest(time))?;
    }
}

fn brought_up(
    server: &Server,
    domain: &Domain,
    schema: &str,
    program: (&str, &str),
    deadline: Instant,
) -> Result<(), Failure> {
    let mut connection = server.pool.take(deadline).map_err(Failure::told)?;
    let settled = is_settled(&mut connection, domain, schema, deadline)
        // Whatever transaction is open ends with it.
        .inspect_err(|_| connection.give_up())?;
    if settled {
        return Ok(());
    }
    let mut connection = server.take_direct(connection, deadline).map_err(Failure::told)?;
    let done = bring_up(&mut connection, domain, schema, program, deadline);
    if done.is_err() || server.has_direct() {
        // What is not the pool's was for this alone.
        connection.give_up();
    }
    done
}

fn is_settled(
    connection: &mut Connection,
    domain: &Domain,
    schema: &str,
    deadline: Instant,
) -> Result<bool, Failure> {
    let within = settings(schema, deadline);
    connection.batch(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {within}"))?;
    let record = not_moved(connection, schema)?;
    let settled = record.has_tables && look(domain, record)?.settled();
    connection.batch("COMMIT")?;
    Ok(settled)
}

/// The domain with its migrations for a server.
///
/// # Errors
/// `Unsupported` when it has none.
pub(super) fn on_server(domain: &Domain) -> Result<Domain> {
    if domain.server_migrations.is_empty() {
        return Err(Error::new(ErrorKind::Unsupported, "this domain has no schema for a PostgreSQL server")
            .advise("keep it in a file: backend = \"sqlite\" in the home's config.toml; or declare Domain::on_server"));
    }
    let names = |migrations: &[Migration]| migrations.iter().map(|one| one.name).collect::<Vec<_>>();
    if names(&domain.migrations) != names(&domain.server_migrations) {
        let message = "the migrations for a server have not the numbers and names of those for a file";
        return Err(Error::new(ErrorKind::Invalid, message)
            .advise("declare the same in Domain::migrations and Domain::on_server"));
    }
    Ok(Domain { migrations: domain.server_migrations.clone(), ..domain.clone() })
}

/// The lock of whoever creates, migrates or moves a schema. It ends with the transaction.
pub(super) fn lock(schema: &str) -> String {
    format!("SELECT pg_advisory_xact_lock(hashtextextended('{schema}', 0))")
}

fn bring_up(
    connection: &mut Connection,
    domain: &Domain,
    schema: &str,
    program: (&str, &str),
    deadline: Instant,
) -> Result<(), Failure> {
    refuse_pooled(connection)?;
    let within = settings(schema, deadline);
    // Read committed: what is read after the lock came is what its last holder left.
    let begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {within}; {}", lock(schema));
    connection.batch(&begin).map_err(Failure::at_begin)?;
    not_moved(connection, schema)?;
    bring_up_locked(connection, domain, schema, program)?;
    connection.batch("SET LOCAL statement_timeout = 0; COMMIT")
}

/// Refuses a connection through a pooler.
pub(super) fn refuse_pooled(connection: &Connection) -> Result<(), Failure> {
    if !connection.is_pooled() {
        return Ok(());
    }
    let message = "the schema is to be created, migrated or moved, and what the URL leads to is a pooler";
    Err(Failure::told(
        Error::new(ErrorKind::Unsupported, message)
            .advise("name the server itself for that: direct_url under [state.postgres]"),
    ))
}

/// The record of a schema whose rows were not moved elsewhere.
fn not_moved(connection: &mut Connection, schema: &str) -> Result<Record, Failure> {
    let record = history::read(connection, schema)?;
    if record.was_moved {
        moved::refuse(connection, schema)?;
    }
    Ok(record)
}

/// The same in a transaction that has the lock, also for what was moved away.
pub(super) fn bring_up_locked(
    connection: &mut Connection,
    domain: &Domain,
    schema: &str,
    program: (&str, &str),
) -> Result<(), Failure> {
    let record = history::read(connection, schema)?;
    if !record.exists {
        connection.batch(&format!("CREATE SCHEMA {schema}"))?;
    }
    let state = look(domain, record)?;
    if !state.settled() {
        history::create(connection)?;
        apply(connection, schema, domain, &state, program)?;
    }
    Ok(())
}

/// What the schema of a domain is, beside what this program knows; `None` when nobody made it yet. The caller is in a
/// transaction whose `search_path` is the schema.
pub(super) fn inspect(
    connection: &mut Connection,
    domain: &Domain,
    schema: &str,
) -> Result<Option<State>, Failure> {
    let record = not_moved(connection, schema)?;
    if !record.has_tables {
        return Ok(None);
    }
    on_server(domain).and_then(|domain| compare(&domain, record)).map(Some).map_err(Failure::told)
}

fn compare(domain: &Domain, record: Record) -> Result<State> {
    let Record { has_tables, meta, applied, .. } = record;
    judge(domain, validate(domain)?, meta, &applied, || Ok(has_tables))
}

fn look(domain: &Domain, record: Record) -> Result<State, Failure> {
    // One that may be read only is not opened at all: there is no place here that would refuse its writes.
    let judged = compare(domain, record).and_then(|state| state.access.refusal().map_or(Ok(state), Err));
    judged.map_err(Failure::told)
}

fn apply(
    connection: &mut Connection,
    schema: &str,
    domain: &Domain,
    state: &State,
    program: (&str, &str),
) -> Result<(), Failure> {
    let mut version = state.found_version;
    for migration in &state.pending {
        connection.batch(migration.sql()).map_err(|failure| {
            let message = format!("the migration {migration}: {}", failure.error.message());
            Failure { error: failure.error.worded(message), ..failure }
        })?;
        history::record(connection, schema, migration)?;
        version = version.max(migration.version());
    }
    history::describe(connection, schema, domain, version, program)
}
