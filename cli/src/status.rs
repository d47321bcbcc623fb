//! `rowhouse status`: the databases of a home, as the registry knows them. Opens none of them.

use std::path::PathBuf;

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use rowhouse::{Error, ErrorKind, Home};
use serde::Serialize;

use crate::output::Output;
use crate::table::{Table, age, rfc3339_option, time};

#[derive(Args)]
#[command(after_help = "Examples:\n  rowhouse status\n  rowhouse status state logs --json")]
pub(crate) struct StatusArguments {
    /// Only these databases
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// One database as the registry knows it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) role: Option<String>,
    pub(crate) durability: Option<String>,
    pub(crate) schema_version: Option<i64>,
    pub(crate) program: Option<String>,
    pub(crate) program_version: Option<String>,
    #[serde(serialize_with = "rfc3339_option")]
    pub(crate) written_at: Option<i64>,
    pub(crate) bytes: u64,
    pub(crate) wal_bytes: u64,
    pub(crate) shm_bytes: u64,
    pub(crate) present: bool,
}

#[derive(Serialize)]
struct Document<'d> {
    home: &'d std::path::Path,
    databases: &'d [Entry],
}

pub(crate) fn run(home: &Home, arguments: &StatusArguments, output: &Output) -> Result<()> {
    let mut databases = entries(home)?;
    for name in &arguments.names {
        if !databases.iter().any(|entry| entry.name == *name) {
            return Err(Error::new(ErrorKind::NotFound, format!("no database named {name}"))
                .at_path(home.path())
                .advise("`rowhouse status` without a name lists those that are there")
                .into());
        }
    }
    if !arguments.names.is_empty() {
        databases.retain(|entry| arguments.names.contains(&entry.name));
    }
    if output.is_json() {
        return output.document(&Document { home: home.path(), databases: &databases });
    }
    if databases.is_empty() {
        return output.text(&format!("no databases in {} yet\n", home.path().display()));
    }
    output.text(&table(&databases))
}

/// The table, also shown by the demo.
pub(crate) fn table(databases: &[Entry]) -> String {
    let mut table =
        Table::new(&["database", "role", "durability", "schema", "written by", "when", "size", "log"])
            .right(&[3, 6, 7]);
    let now = jiff::Timestamp::now();
    for entry in databases {
        let text = |field: &Option<String>| field.clone().map_or_else(dash, |text| text.replace('_', " "));
        let size = |bytes| if entry.present { ByteSize::b(bytes).to_string() } else { "absent".to_owned() };
        let program = entry.program.as_ref().map_or_else(dash, |program| {
            format!("{program} {}", entry.program_version.as_deref().unwrap_or_default())
        });
        table.row(&[
            entry.name.clone(),
            text(&entry.role),
            text(&entry.durability),
            entry.schema_version.map_or_else(dash, |version| version.to_string()),
            program,
            entry.written_at.map_or_else(dash, |at| age(time(at), now)),
            size(entry.bytes),
            size(entry.wal_bytes),
        ]);
    }
    table.render()
}

fn dash() -> String {
    "-".to_owned()
}

// ---------------------------------------------------------------------------------------------------------------
// ADAPTER: connect to `rowhouse::RuntimeDbRegistry`: `RuntimeDbRegistry::new(home).list()?`, each mapped to `Entry`
// (role and durability by their serde names). Until then: what the folder shows.
// ---------------------------------------------------------------------------------------------------------------
pub(crate) fn entries(home: &Home) -> rowhouse::Result<Vec<Entry>> {
    let folder = match std::fs::read_dir(home.path()) {
        Ok(folder) => folder,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list the home", home.path(), error)),
    };
    let size = |path: &PathBuf, suffix: &str| {
        let mut path = path.clone().into_os_string();
        path.push(suffix);
        std::fs::metadata(path).map_or(0, |found| found.len())
    };
    let mut found = Vec::new();
    for file in folder {
        let path = file.map_err(|error| Error::io("list the home", home.path(), error))?.path();
        if path.extension().is_some_and(|ending| ending == "sqlite")
            && let Some(name) = path.file_stem()
        {
            found.push(Entry {
                name: name.to_string_lossy().into_owned(),
                bytes: size(&path, ""),
                wal_bytes: size(&path, "-wal"),
                shm_bytes: size(&path, "-shm"),
                present: true,
                path,
                ..Entry::default()
            });
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}
