//! `rowhouse support bundle`: one archive for whoever helps, of what the home says about itself. What is in it is listed
//! before anything is written.
//!
//! Invariants: no row of a user's database but those of the log; no secret, and not the name of the user's folder; a part
//! that cannot be had says why, and is in nobody's way; the archive is complete or not there; nothing in the home changes.
//!
//! Tests: `cli/tests/support.rs`.

mod archive;
mod contents;

use std::path::PathBuf;

use anyhow::Result;
use bytesize::ByteSize;
use clap::{Args, Subcommand};
use rowhouse::Home;
use serde::Serialize;

use crate::agreement::{ADVICE, agreed};
use crate::arguments::Given;
use crate::named_file::Overwrite;
use crate::output::{self, Output};
use crate::table::Table;
use contents::Entry;

#[derive(Args)]
#[command(after_help = "\
Examples:
  rowhouse support bundle report.tar.gz --dry-run
  rowhouse support bundle report.tar.gz")]
pub(crate) struct SupportArguments {
    #[command(subcommand)]
    command: SupportCommand,
}

#[derive(Subcommand)]
enum SupportCommand {
    /// Write what helps to help: states, counters, settings and the last log rows, without secrets
    #[command(after_help = "\
Examples:
  rowhouse support bundle report.tar.gz --dry-run           what would be in it
  rowhouse support bundle report.tar.gz
  rowhouse support bundle report.tar.gz --log-rows 0 --yes
  tar -xzOf report.tar.gz | less                            read it before you send it

What is in it is listed first. No database goes along, no transcript, no key; of the logs the newest rows. What looks like
a secret is taken out, and your home folder is written as ~: read it all the same before you send it.")]
    Bundle(BundleArguments),
}

#[derive(Args)]
struct BundleArguments {
    /// The archive to write, a .tar.gz
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    /// How many of the newest log rows go along
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(..=100_000))]
    log_rows: u32,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// List what would be in it, and write nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

#[derive(Serialize)]
struct Document<'e> {
    file: PathBuf,
    /// Size of the archive; nothing where none was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    dry_run: bool,
    entries: &'e [Entry],
}

pub(crate) fn run(
    home: &rowhouse::Result<Home>,
    given: Given<'_>,
    arguments: &SupportArguments,
    output: &Output,
) -> Result<()> {
    let SupportCommand::Bundle(arguments) = &arguments.command;
    let asks = !arguments.yes && !arguments.dry_run;
    if asks {
        output.can_ask(ADVICE)?;
    }
    if !arguments.dry_run {
        arguments.overwrite.look(&arguments.file)?;
    }
    let entries = contents::gather(home, given, arguments.log_rows);
    let mut document =
        Document { file: arguments.file.clone(), bytes: None, dry_run: arguments.dry_run, entries: &entries };
    if !output.is_json() {
        output.text(&listed(&entries))?;
    }
    if asks {
        agreed(&format!("write this to {}?", arguments.file.display()), output)?;
    }
    if !arguments.dry_run {
        let bytes = arguments.overwrite.write(&arguments.file, |to| Ok(archive::write(&entries, to)?))?;
        document.bytes = Some(bytes);
    }
    if output.is_json() {
        return output.document(&document);
    }
    match document.bytes {
        Some(bytes) => output.text(&format!("\n{} in {}\n", ByteSize::b(bytes), arguments.file.display())),
        None => output.text("\nnothing was written\n"),
    }
}

fn listed(entries: &[Entry]) -> String {
    let mut table =
        Table::new(&["file", "size", "what is in it"]).right(&[1]).fit_wrapped(output::width(), &[2], &[]);
    for entry in entries {
        table.row(&[entry.name.to_owned(), ByteSize::b(entry.bytes()).to_string(), entry.says()]);
    }
    table.render()
}
