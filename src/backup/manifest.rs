//! `manifest.json` of a backup: what is in it, to be checked before it is believed.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::domain::{Domain, Durability, Role};
use crate::error::{Error, ErrorKind, Result};
use crate::home;

pub(super) const FILE: &str = "manifest.json";

/// The layout written here. A later one that this version could not restore has a higher number.
const LAYOUT: u32 = 1;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackupManifest {
    /// The layout of this document.
    pub version: u32,
    /// The instant that all its databases show, in RFC 3339.
    pub created_at: String,
    /// The program that made it.
    pub program: String,
    /// That program's version.
    pub program_version: String,
    /// The version of this library that made it.
    pub rowhouse: String,
    /// The version of SQLite that made it.
    pub sqlite: String,
    /// By name.
    pub databases: Vec<BackupDatabase>,
    /// Databases of the home that are not in it.
    pub left_out: Vec<LeftOut>,
}

/// One database of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackupDatabase {
    /// The domain's name.
    pub name: String,
    /// Its file in the backup's folder.
    pub file: String,
    /// Size of that file.
    pub bytes: u64,
    /// SHA-256 of that file, in hexadecimal: `sha256sum` computes the same.
    pub sha256: String,
    /// Rows by table; of virtual tables, those of the tables behind them.
    pub rows: BTreeMap<String, u64>,
    /// Whose file it is (<https://sqlite.org/pragma.html#pragma_application_id>).
    pub application_id: u32,
    /// The random number from the database's creation.
    pub user_version: u32,
    /// The schema's version; `None` when this library never migrated it.
    pub schema_version: Option<i64>,
    /// The program that wrote the schema.
    pub program: Option<String>,
    /// That program's version.
    pub program_version: Option<String>,
    /// When it did, in RFC 3339.
    pub written_at: Option<String>,
    /// Whether its program can be ready without it; `None` when no program declared it.
    pub role: Option<Role>,
    /// What its commits survive; `None` when no program declared it.
    pub durability: Option<Durability>,
}

/// A database that is not in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LeftOut {
    /// The domain's name.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl BackupManifest {
    pub(super) fn new(created_at: String, program: (String, String)) -> Self {
        Self {
            version: LAYOUT,
            created_at,
            program: program.0,
            program_version: program.1,
            rowhouse: env!("CARGO_PKG_VERSION").to_owned(),
            sqlite: rusqlite::version().to_owned(),
            databases: Vec::new(),
            left_out: Vec::new(),
        }
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self).expect("texts and numbers are JSON");
        text.push(b'\n');
        home::write_atomically(&folder.join(FILE), &text)
    }

    /// Reads the manifest of a backup. What it says of files is checked elsewhere; that it names only files of its own
    /// folder, here.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = home::read_file(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::new(ErrorKind::NotFound, "this is no backup: it has no manifest.json")
                    .at_path(folder)
                    .advise("name the folder that `rowhouse backup` made")
            }
            _ => Error::io("read the backup's manifest", &path, error),
        })?;
        let damaged = || {
            Error::new(ErrorKind::Corrupt, "the backup's manifest is damaged")
                .at_path(&path)
                .advise("restore another backup; nothing was changed")
        };
        let layout: Layout = serde_json::from_slice(&text).map_err(|error| damaged().caused_by(error))?;
        if layout.version > LAYOUT {
            return Err(Error::new(ErrorKind::SchemaTooNew, "a newer program made this backup")
                .at_path(folder)
                .advise("restore it with that program"));
        }
        let manifest: Self = serde_json::from_slice(&text).map_err(|error| damaged().caused_by(error))?;
        for (at, database) in manifest.databases.iter().enumerate() {
            let name = &database.name;
            let twice = manifest.databases[..at].iter().any(|other| other.name == *name);
            if Domain::new(name).check().is_err() || database.file != file_name(name) || twice {
                return Err(damaged());
            }
        }
        Ok(manifest)
    }
}

/// The part that every layout has.
#[derive(Deserialize)]
struct Layout {
    version: u32,
}

/// A database's file in a backup.
pub(super) fn file_name(name: &str) -> String {
    format!("{name}.sqlite")
}
