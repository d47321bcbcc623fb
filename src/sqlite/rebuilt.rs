//! A database that another tool rebuilt: dumped and loaded again, it has its tables and has lost the marks in the
//! header of the file.
//!
//! | what is left | what happens |
//! |---|---|
//! | tables and record (`VACUUM INTO` keeps the marks as well) | it is marked again, its full-text indexes are made anew, and a warning says so |
//! | tables of ours, and a record that is gone or makes no sense | the record is *unusable* ([`Unusable`]): an error; a best-effort domain's file goes to [`quarantine`](super::quarantine), and a new one is made |
//! | no table of ours | another program's database: an error, and it stays where it is |
//!
//! Tests: `tests/m7_rebuilt_and_foreign.rs`, `tests/open_refuses_bad_input.rs`.
//!
//! [`Unusable`]: super::history::Unusable

use rusqlite::Connection;

use super::catalogue::Catalogue;
use super::history;
use super::migrate;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};

/// What the warnings say of a file that was marked again.
pub(super) const NOTE: &str =
    "another tool rebuilt the file, which had lost its application id and user version: it was marked again";

/// Looks whether a file with tables and without marks is this domain's, and may be marked again.
///
/// # Errors
/// `Conflict` when it is not; of the Migrator's look; `SchemaTooNew`.
pub(super) fn recognise(connection: &Connection, domain: &Domain) -> Result<()> {
    let ours = history::has_meta(connection)?
        || Catalogue::fresh(domain)?.shares_a_table_with(&Catalogue::of(connection)?);
    if !ours {
        return Err(another_programs());
    }
    migrate::inspect(connection, domain)?.check()
}

/// It is not a database of this library.
pub(super) fn another_programs() -> Error {
    Error::new(ErrorKind::Conflict, "the file is a database of another program")
        .advise("choose another home, or another name for the domain; nothing in it was changed")
}
