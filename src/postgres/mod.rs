//! A domain on a PostgreSQL server: a schema of one database, reached over pooled connections.
//!
//! | file | what |
//! |---|---|
//! | [`address`], [`tls`] | where a server is, and when its traffic must be encrypted |
//! | [`host`], [`socket`], [`client`] | one host: reached, spoken to, and waited for until a deadline |
//! | [`server`], [`pool`], [`connection`] | connections: made when needed, lent to one caller at a time |
//! | [`statements`], [`pooler`] | prepared statements, and whether a pooler forbids their names |
//! | [`on_server`] | the domains of a runtime that are on it |
//! | [`database`] | one domain: reads, writes, and when they run again |
//! | [`session`], [`value`] | `Session` over a transaction |
//! | [`figures`] | what it counts, for `stats` and `top` of any process |
//! | [`failure`], [`tries`] | what an error of the server means, and when to try again |
//! | [`operation`] | whether a write is there whose acknowledgement was lost |
//! | [`changes`], [`listener`] | whether something was committed, and hearing of it at once |
//! | [`migrate`], [`history`] | the schema |
//! | [`bulk`], [`moved`] | whole tables in one transaction; which moves between engines there were |
//! | [`look`] | a look from outside: what a server and its operator's tables say |
//!
//! Invariants:
//! 1. Writes are serializable: each is as if it had run alone, so a job that reads and then writes needs no lock, as in
//!    a file. What the server refuses for that is run again as a whole, never a part of it.
//! 2. A write counts once, also when the connection is lost while it is committed ([`operation`]).
//! 3. A job whose statement failed is never committed, also when it answers otherwise.
//! 4. Everything that a transaction depends on is set inside it: a pooler may give each one another connection.
//! 5. No password, bound value or row is in an error.
//! 6. Every wait ends at the caller's deadline, whatever the server does or the network swallows; only whether a write
//!    was committed is asked for a little longer.
//!
//! Tests: `tests/postgres.rs` (configuration, errors, lost connections), `tests/postgres_connections.rs` (2, one loss and the
//! others, bounds), `tests/postgres_deadlines.rs` (6), `tests/postgres_pooler.rs` (4),
//! `tests/hosts_on_postgres.rs` (2, while a primary is killed), `tests/stores_on_postgres.rs` (the stores' contract:
//! directly, behind a pooler, after a fail-over), `tests/changes_on_postgres.rs`.

mod address;
pub(crate) mod bulk;
mod changes;
mod client;
mod connection;
mod database;
mod failure;
mod figures;
mod history;
mod host;
mod listener;
pub(crate) mod look;
mod migrate;
pub(crate) mod moved;
mod on_server;
mod operation;
mod pool;
mod pooler;
mod server;
mod session;
mod socket;
mod statements;
mod tls;
mod tries;
mod value;

pub(crate) use database::Database;
pub(crate) use on_server::OnServer;
pub(crate) use pooler::Pooler;
pub(crate) use server::{OLDEST, Server, Settings, schema_of};

/// How the server of a URL is called: without user and password. `None` for one that cannot be read.
#[doc(hidden)]
pub fn name_of_url(url: &str) -> Option<String> {
    address::Address::parse(url, None).ok().map(|address| address.name().to_owned())
}
