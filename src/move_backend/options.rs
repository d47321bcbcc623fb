//! What a caller says about a move, and is told while it goes on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a domain's data is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Backend {
    /// Files of the home.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
}

/// How a move is done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MoveOptions {
    /// Where the data goes.
    pub to: Backend,
    /// Only look, and say what would be done.
    pub dry_run: bool,
    /// How long those are waited for who have the home open, or write on the server. Default 10 s.
    pub wait: Duration,
    /// Writes U+FFFD for what a server cannot hold of a text, instead of refusing the move. The originals stay in the
    /// file that is put aside.
    pub replace_unholdable: bool,
}

impl MoveOptions {
    /// The default options.
    pub fn to(to: Backend) -> Self {
        Self { to, dry_run: false, wait: Duration::from_secs(10), replace_unholdable: false }
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MoveStep {
    /// The source is read, to see how much it is and what the other side cannot hold.
    Planning,
    /// Rows are copied.
    Copying,
    /// Both sides are read and compared.
    Verifying,
    /// The target takes the source's place.
    CuttingOver,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct MoveProgress<'a> {
    /// What is being done.
    pub step: MoveStep,
    /// With which table (`state.thread`), or the part of the cut-over that comes next.
    pub what: &'a str,
    /// Rows of this step and table that are done.
    pub rows_done: u64,
    /// All of them, as far as known; 0 for a cut-over.
    pub rows_total: u64,
}

/// Told about the progress.
pub(crate) type OnProgress<'a> = dyn FnMut(&MoveProgress<'_>) + 'a;
