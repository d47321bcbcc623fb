//! `rowhouse status`: the databases of a home, as the registry knows them. Opens none of them.

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use rowhouse::{DatabaseInfo, Durability, Error, ErrorKind, Home, Role, RuntimeDbRegistry, Survey};
use serde::Serialize;

use crate::output::{self, Output};
use crate::table::{Table, age};

#[derive(Args)]
#[command(after_help = "Examples:\n  rowhouse status\n  rowhouse status state logs --json")]
pub(crate) struct StatusArguments {
    /// Only these databases
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Serialize)]
struct Document<'d> {
    home: &'d std::path::Path,
    databases: &'d [DatabaseInfo],
    warnings: &'d [String],
}

pub(crate) fn run(home: &Home, arguments: &StatusArguments, output: &Output) -> Result<()> {
    let Survey { mut databases, warnings, .. } = RuntimeDbRegistry::new(home).survey()?;
    for warning in &warnings {
        output::warn(warning);
    }
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
        return output.document(&Document { home: home.path(), databases: &databases, warnings: &warnings });
    }
    if databases.is_empty() {
        return output.text(&format!("no databases in {} yet\n", home.path().display()));
    }
    output.text(&table(&databases))
}

/// The table, also shown by the demo.
pub(crate) fn table(databases: &[DatabaseInfo]) -> String {
    let mut table =
        Table::new(&["database", "role", "durability", "schema", "written by", "when", "size", "log"])
            .right(&[3, 6, 7]);
    let now = jiff::Timestamp::now();
    for entry in databases {
        let size = |bytes| if entry.present { ByteSize::b(bytes).to_string() } else { "absent".to_owned() };
        let program = entry.program.as_ref().map_or_else(dash, |program| {
            format!("{program} {}", entry.program_version.as_deref().unwrap_or_default())
        });
        table.row(&[
            entry.name.clone(),
            entry.role.map_or_else(dash, |role| role_text(role).to_owned()),
            entry.durability.map_or_else(dash, |durability| durability_text(durability).to_owned()),
            entry.schema_version.map_or_else(dash, |version| version.to_string()),
            program,
            entry.written_at.as_deref().and_then(|at| at.parse().ok()).map_or_else(dash, |at| age(at, now)),
            size(entry.main_bytes),
            size(entry.wal_bytes),
        ]);
    }
    table.render()
}

fn role_text(role: Role) -> &'static str {
    match role {
        Role::Required => "required",
        Role::BestEffort => "best effort",
    }
}

fn durability_text(durability: Durability) -> &'static str {
    match durability {
        Durability::Full => "full",
        Durability::Normal => "normal",
    }
}

fn dash() -> String {
    "-".to_owned()
}
