//! What a migration's text may do: an authorizer that keeps it inside the Migrator's transaction.
//!
//! Tested where it is used: `a_text_that_would_leave_the_transaction_is_refused` and
//! `what_migrations_usually_do_is_allowed` in the Migrator.

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use super::history::OWN_TABLES;
use crate::error::Result;

/// An authorizer for as long as a migration's text runs (<https://sqlite.org/c3ref/set_authorizer.html>).
pub(crate) struct Fence<'c> {
    connection: &'c Connection,
    refused: Arc<Mutex<Option<String>>>,
}

impl<'c> Fence<'c> {
    /// Stands until it is dropped, and then leaves the connection without an authorizer.
    pub(crate) fn around(connection: &'c Connection) -> Result<Self> {
        let refused = Arc::new(Mutex::new(None));
        let note = Arc::clone(&refused);
        connection.authorizer(Some(move |context: AuthContext<'_>| match forbidden(context.action) {
            Some(what) => {
                note.lock().get_or_insert(what);
                Authorization::Deny
            }
            None => Authorization::Allow,
        }))?;
        Ok(Self { connection, refused })
    }

    /// What it refused first.
    pub(crate) fn refused(&self) -> Option<String> {
        self.refused.lock().clone()
    }
}

impl Drop for Fence<'_> {
    fn drop(&mut self) {
        // Fails only for connections that rusqlite does not own, and on those it was not set either.
        let _ = self.connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>);
    }
}

/// What a migration's text may not do, in words; `None` for what it may.
fn forbidden(action: AuthAction<'_>) -> Option<String> {
    match action {
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => {
            Some("transaction control".to_owned())
        }
        // An ATTACH of an expression has no file name yet, and arrives as the bare code 24.
        AuthAction::Attach { .. } | AuthAction::Unknown { code: 24, .. } => Some("ATTACH".to_owned()),
        AuthAction::Detach { .. } => Some("DETACH".to_owned()),
        AuthAction::Unknown { code, .. } => Some(format!("the action with SQLite's code {code}")),
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let harmless = match &*pragma_name.to_ascii_lowercase() {
                // SQLite itself runs quick_check for ALTER TABLE ... ADD COLUMN of a STRICT table, FTS reads
                // data_version, and RTREE reads page_size.
                "defer_foreign_keys" | "quick_check" => true,
                "data_version" | "page_size" => pragma_value.is_none(),
                _ => false,
            };
            (!harmless).then(|| format!("PRAGMA {pragma_name}"))
        }
        AuthAction::CreateTable { table_name }
        | AuthAction::Insert { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::Delete { table_name }
        | AuthAction::DropTable { table_name }
        | AuthAction::AlterTable { table_name, .. }
        | AuthAction::CreateTrigger { table_name, .. } => OWN_TABLES
            .into_iter()
            .find(|own| table_name.eq_ignore_ascii_case(own))
            .map(|own| format!("a change of {own}")),
        _ => None,
    }
}
