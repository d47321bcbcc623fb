//! `rowhouse status`: the databases of a home, as the registry knows them. Opens none of them but those with steps; a server
//! that has some of them is asked.

use std::collections::BTreeMap;

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use rowhouse::{
    DatabaseInfo, Domain, Durability, Error, ErrorKind, Home, Role, RuntimeDbRegistry, ServerStatus,
    StepState, StepStatus, Survey,
};
use serde::Serialize;

use crate::on_server;
use crate::output::{self, Output};
use crate::table::{Table, age};
use crate::words::number;

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
    /// By database: steps that a program had to do in it.
    steps: &'d BTreeMap<String, Vec<StepStatus>>,
    /// What the server says that has some of them; nothing where none has, or it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<ServerStatus>,
    warnings: &'d [String],
}

pub(crate) fn run(home: &Home, arguments: &StatusArguments, output: &Output) -> Result<()> {
    let registry = RuntimeDbRegistry::new(home);
    let Survey { mut databases, mut warnings, .. } = registry.survey()?;
    let wanted = |name: &String| arguments.names.is_empty() || arguments.names.contains(name);
    let mut steps = BTreeMap::new();
    for name in databases.iter().map(|entry| &entry.name).filter(|name| wanted(name)) {
        match registry.steps(name) {
            Ok(found) if found.is_empty() => {}
            Ok(found) => drop(steps.insert(name.clone(), found)),
            Err(error) => warnings.push(format!("how far the steps are could not be read: {error}")),
        }
    }
    // Here it is a note; every command that needs the data fails with it.
    for name in databases.iter().filter(|entry| entry.moved_to.is_some()).map(|entry| &entry.name) {
        warnings.extend(Domain::new(name).is_on_server(home).err().map(|error| error.to_string()));
    }
    let shown: Vec<_> = databases.iter().filter(|entry| wanted(&entry.name)).cloned().collect();
    let server = on_server::ask(home, &shown, &mut warnings);
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
    databases = shown;
    if output.is_json() {
        return output.document(&Document {
            home: home.path(),
            databases: &databases,
            steps: &steps,
            server,
            warnings: &warnings,
        });
    }
    if databases.is_empty() {
        return output.text(&format!("no databases in {} yet\n", home.path().display()));
    }
    let there = on_server::text(&databases, server.as_ref());
    output.text(&(table(&databases) + &unfinished(&steps) + &there))
}

/// A line for each step that is not done.
fn unfinished(steps: &BTreeMap<String, Vec<StepStatus>>) -> String {
    let all = steps.iter().flat_map(|(database, steps)| steps.iter().map(move |step| (database, step)));
    all.filter(|(_, step)| !step.is_done()).map(|(database, step)| line(database, step)).collect()
}

fn line(database: &str, step: &StepStatus) -> String {
    let state = match step.state {
        StepState::Running => "under way",
        StepState::Waiting => "waiting",
        _ => "not begun",
    };
    let percent = step.percent.map_or_else(String::new, |percent| format!(" {percent} %,"));
    let trouble = step.trouble.as_ref().map_or_else(String::new, |trouble| format!(": {trouble}"));
    let rows = number(step.rows, "row", "rows");
    format!("step {database}.{}: {state},{percent} {rows} done{trouble}\n", step.name)
}

/// The table, also shown by the demo.
pub(crate) fn table(databases: &[DatabaseInfo]) -> String {
    let mut table =
        Table::new(&["database", "role", "durability", "schema", "written by", "when", "size", "log"])
            .right(&[3, 6, 7])
            .fit(output::width(), 4, &[5, 2, 1, 4]);
    let now = jiff::Timestamp::now();
    for entry in databases {
        let size = |bytes| match entry.present {
            true => ByteSize::b(bytes).to_string(),
            false if entry.is_on_server() => "on a server".to_owned(),
            false if entry.moved_to.is_some() => "moved away".to_owned(),
            false => "absent".to_owned(),
        };
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
