//! `rowhouse repair`: what is damaged, what setting it right would keep, and doing it.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, Subcommand};
use rowhouse::repair::{self, Finding};
use rowhouse::{DamageReport, Domain, Holder, Home, KeptRows, OnDamage};
use serde::Serialize;

use crate::agreement::{ADVICE, Agreement};
use crate::bench::count;
use crate::open;
use crate::output::{self, BAD, GOOD, Output, WARNING};
use crate::table::Table;

/// How long the database that takes the place of a damaged one may take to be there.
const MADE_WITHIN: Duration = Duration::from_secs(10);

#[derive(Args)]
#[command(
    after_help = "Examples:\n  rowhouse repair plan\n  rowhouse repair plan logs --json | jq '.databases[].state'\n  rowhouse repair apply state --yes\n\nA database that is locked, slow, not readable for you or of a newer schema is not damaged, and never repaired. The damaged\nfiles are moved to quarantine/, whole; a new database takes their place, with the rows that can be read."
)]
pub(crate) struct RepairArguments {
    #[command(subcommand)]
    command: RepairCommand,
}

#[derive(Subcommand)]
enum RepairCommand {
    /// Look at every page, and say what a repair would do; changes nothing
    #[command(after_help = "Examples:\n  rowhouse repair plan\n  rowhouse repair plan logs --json")]
    Plan {
        /// Only this database
        #[arg(value_name = "DB")]
        database: Option<String>,
    },
    /// Set right what the plan lists; nobody may have the home open
    #[command(after_help = "Examples:\n  rowhouse repair apply\n  rowhouse repair apply state --yes")]
    Apply {
        /// Only this database
        #[arg(value_name = "DB")]
        database: Option<String>,
        #[command(flatten)]
        agreement: Agreement,
    },
}

/// What the look at one database said.
#[derive(Serialize)]
struct Looked {
    database: String,
    #[serde(flatten)]
    state: State,
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum State {
    Fine,
    /// The home has no such file.
    Absent,
    Damaged(Finding),
    /// It cannot be judged now.
    Unknown {
        kind: &'static str,
        reason: String,
        holder: Option<Holder>,
    },
}

#[derive(Serialize)]
struct Plan {
    databases: Vec<Looked>,
}

#[derive(Serialize)]
struct Applied {
    repaired: Vec<DamageReport>,
}

pub(crate) fn run(home: &Home, arguments: &RepairArguments, output: &Output) -> Result<()> {
    match &arguments.command {
        RepairCommand::Plan { database } => plan(home, database.as_deref(), output),
        RepairCommand::Apply { database, agreement } if agreement.dry_run => {
            plan(home, database.as_deref(), output)
        }
        RepairCommand::Apply { database, agreement } => apply(home, database.as_deref(), agreement, output),
    }
}

fn plan(home: &Home, database: Option<&str>, output: &Output) -> Result<()> {
    let plan = look(home, database)?;
    if output.is_json() {
        return output.document(&plan);
    }
    if plan.databases.iter().all(|one| matches!(one.state, State::Absent)) && database.is_none() {
        return output.text(&format!("no databases in {} yet\n", home.path().display()));
    }
    output.text(&plan_text(&plan))
}

/// The domains whose schemas this program knows.
fn domains() -> [Domain; 4] {
    [Domain::device_keys(), Domain::goals(), Domain::logs(), Domain::state()]
}

/// One by one: what is in the way of one is not in the way of the others. What was asked for by name is an error instead.
fn look(home: &Home, database: Option<&str>) -> Result<Plan> {
    let domains = domains();
    let named = |name: &str| repair::plan(home, &domains, Some(name));
    if let Some(name) = database {
        return Ok(Plan { databases: vec![looked(home, name, named(name)?)?] });
    }
    let bar = output::progress(domains.len() as u64);
    let look = |name: &str| {
        bar.set_message(format!("reading {name}"));
        let found = named(name).and_then(|found| looked(home, name, found));
        bar.inc(1);
        found
    };
    let databases = domains.iter().map(Domain::name).map(|name| match look(name) {
        Ok(looked) => looked,
        Err(error) => Looked {
            database: name.to_owned(),
            state: State::Unknown {
                kind: error.kind().as_str(),
                holder: error.holder().cloned(),
                reason: error.to_string(),
            },
        },
    });
    let databases = databases.collect();
    bar.finish_and_clear();
    Ok(Plan { databases })
}

/// What nothing was found in is fine only if it is there.
fn looked(home: &Home, name: &str, found: Vec<Finding>) -> rowhouse::Result<Looked> {
    let state = match found.into_iter().next() {
        Some(damage) => State::Damaged(damage),
        None if open::holds(home, name)? => State::Fine,
        None => State::Absent,
    };
    Ok(Looked { database: name.to_owned(), state })
}

fn plan_text(plan: &Plan) -> String {
    let mut table =
        Table::new(&["database", "state", "what is to be said"]).fit_wrapped(output::width(), &[2], &[]);
    for looked in &plan.databases {
        let (state, said) = match &looked.state {
            State::Fine => ("fine", String::new()),
            State::Absent => {
                ("absent", "it is not there; the next program that needs it makes it".to_owned())
            }
            State::Damaged(found) => ("damaged", found.found.clone()),
            State::Unknown { reason, .. } => ("unknown", reason.clone()),
        };
        table.row(&[looked.database.clone(), state.to_owned(), said]);
    }
    let text = table.render();
    let text = output::paint(&text, "  fine", GOOD);
    let text = output::paint(&text, "  damaged", BAD);
    let mut text = output::paint(&text, "  unknown", WARNING);
    let mut damaged = 0;
    for looked in &plan.databases {
        let State::Damaged(found) = &looked.state else { continue };
        damaged += 1;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n{}: {}", found.database, would(found));
        if let Some(rows) = &found.rows {
            text += &rows_text(rows);
        }
    }
    if damaged > 0 {
        text += "\nnothing was changed; `rowhouse repair apply` does it\n";
    }
    text
}

fn would(found: &Finding) -> &'static str {
    match (found.unfinished, found.action, &found.rows) {
        (true, ..) => "a repair that was broken off would be finished",
        (_, OnDamage::Salvage, Some(_)) => "would be set aside, and these rows kept in a new database",
        (_, OnDamage::Salvage, None) => {
            "would be set aside, and the rows that can be read kept in a new database; how many can only be told while \
             nobody has the home open"
        }
        _ => "would be set aside, and a new, empty one made",
    }
}

fn rows_text(rows: &[KeptRows]) -> String {
    let mut table = Table::new(&["table", "kept", "lost"]).right(&[1, 2]);
    for row in rows {
        table.row(&[row.table.clone(), count(row.kept as f64), count(row.lost as f64)]);
    }
    table.render()
}

fn apply(home: &Home, database: Option<&str>, agreement: &Agreement, output: &Output) -> Result<()> {
    if !agreement.yes && !confirmed(home, database, agreement, output)? {
        return Ok(());
    }
    let bar = output::busy("repairing");
    let repaired = repair::apply(home, &domains(), database).and_then(|repaired| begin_anew(home, repaired));
    bar.finish_and_clear();
    let repaired = repaired?;
    if output.is_json() {
        return output.document(&Applied { repaired });
    }
    let mut text = String::new();
    for report in &repaired {
        let _ = writeln!(text, "{}: {report}", report.database);
        if !report.tables.is_empty() {
            text += &rows_text(&report.tables);
        }
    }
    if repaired.is_empty() {
        text += "nothing is damaged\n";
    }
    output.text(&text)
}

/// A database that was set aside is there again at once, and not only when the next program opens the home.
fn begin_anew(home: &Home, repaired: Vec<DamageReport>) -> rowhouse::Result<Vec<DamageReport>> {
    let is_gone = |domain: &Domain| -> rowhouse::Result<bool> {
        Ok(repaired.iter().any(|report| report.database == domain.name())
            && !open::holds(home, domain.name())?)
    };
    for domain in domains() {
        if !is_gone(&domain)? {
            continue;
        }
        let name = domain.name().to_owned();
        let runtime = open::or_new(home, domain)?;
        // A best-effort database is made behind an open that has returned; nothing but a write tells when.
        let database = runtime.database(&name)?.within(MADE_WITHIN);
        let until = Instant::now() + MADE_WITHIN;
        while let Err(error) = database.write(|_| Ok(())) {
            if Instant::now() >= until {
                return Err(error);
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
    Ok(repaired)
}

/// Shows the plan to a person, and asks. False when there is nothing to do.
fn confirmed(home: &Home, database: Option<&str>, agreement: &Agreement, output: &Output) -> Result<bool> {
    output.can_ask(ADVICE)?;
    let plan = look(home, database)?;
    output.text(&plan_text(&plan))?;
    if !plan.databases.iter().any(|looked| matches!(looked.state, State::Damaged(_))) {
        return Ok(false);
    }
    agreement.given("do it?", output)?;
    Ok(true)
}
