//! What a move did, or would do: the answer to the caller, and `manifest.json` beside what was put aside.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Backend, Unholdable};

/// Of the document. It changes when a field changes its meaning or goes; new ones may come at any time.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// What a move did, or would do. `manifest.json` holds the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MoveReport {
    /// The version of this document.
    pub schema_version: u32,
    /// The move, as the server knows it.
    pub id: String,
    /// When, in RFC 3339.
    pub at: String,
    /// The home.
    pub home: PathBuf,
    /// Where the data is now.
    pub to: Backend,
    /// The server, without user and password.
    pub server: String,
    /// True when nothing was changed.
    pub dry_run: bool,
    /// The domains that were moved.
    pub domains: Vec<String>,
    /// Their tables.
    pub tables: Vec<MovedTable>,
    /// What the other side cannot hold.
    pub unholdable: Vec<Lost>,
    /// Of these texts, U+FFFD stands for what could not be held; the originals are in what was put aside.
    pub replaced: bool,
    /// The line of the home's `config.toml` that says where the data is, for each section.
    pub config: Vec<String>,
    /// What the source is called now: files, or schemas of the server.
    pub kept: Vec<String>,
    /// The folder of the manifest, and of files that were put aside.
    pub folder: Option<PathBuf>,
    /// An earlier move had been broken off, and was finished first.
    pub finished_earlier: bool,
    /// From the first row read to the last one compared, in milliseconds.
    pub took_ms: u64,
    /// Sentences for a person.
    pub warnings: Vec<String>,
}

/// A table that was moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MovedTable {
    /// The domain's name.
    pub domain: String,
    /// The table's.
    pub table: String,
    /// Its rows, the same on both sides.
    pub rows: u64,
    /// Bytes of its values.
    pub bytes: u64,
    /// What it holds, in hexadecimal, the same on both sides: the sum of the first 128 bits of SHA-256 over each row.
    pub hash: String,
    /// Rows copied in a second.
    pub rows_per_second: Option<u64>,
}

/// Values that the other side cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lost {
    /// The domain's name.
    pub domain: String,
    /// The table's.
    pub table: String,
    /// The columns that tell its rows apart.
    pub key: Vec<String>,
    /// The column of the values.
    pub column: String,
    /// Why.
    pub why: Unholdable,
    /// How many.
    pub values: u64,
}
