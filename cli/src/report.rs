//! `rowhouse report`: one page that holds everything it needs, for a browser, a phone, or a mail.
//!
//! Invariants: no script, nothing loaded from anywhere, one file; what a name may hold cannot become markup; no secret, and
//! not the name of the user's folder; the databases are only read, each for a bounded time.
//!
//! Tests: in its parts; `cli/tests/report.rs`; in a browser, `scripts/report_in_a_browser.sh`.

mod charts;
mod facts;
mod html;
mod page;
mod samples;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use rowhouse::{Error, Home};
use serde::Serialize;

use crate::named_file::Overwrite;
use crate::output::{self, Output};
use crate::words::number;
use facts::{Facts, Finding, Level};

#[derive(Args)]
#[command(after_help = "\
Examples:
  rowhouse report --html report.html
  rowhouse report --html report.html --json | jq -r '.findings[].text'
  0 6 * * *  rowhouse report --html /srv/state.html --force    (daily by cron: the growth becomes a line)

The page needs nothing else: no network, no script; it is made for a phone and for dark rooms too. Each report keeps the
sizes of the databases in sizes.jsonl of the home, a line at most every ten minutes and the last 500 of them, unless
--no-sample says not to; the backups of the home tell sizes as well.")]
pub(crate) struct ReportArguments {
    /// The page to write
    #[arg(long, value_name = "FILE")]
    html: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    /// How long the tables of each database may be looked at
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    wait: u32,
    /// Keep no sizes in the home
    #[arg(long)]
    no_sample: bool,
}

#[derive(Serialize)]
struct Document<'f> {
    file: &'f std::path::Path,
    bytes: u64,
    status: Level,
    findings: &'f [Finding],
}

pub(crate) fn run(home: &Home, arguments: &ReportArguments, output: &Output) -> Result<()> {
    let path = &arguments.html;
    arguments.overwrite.look(path)?;
    let bar = output::busy("reading the tables");
    let facts = Facts::gather(home, Duration::from_secs(arguments.wait.into()));
    bar.finish_and_clear();
    let facts = facts?;
    if !arguments.no_sample
        && let Err(error) = samples::keep(home, &facts)
    {
        output::note(&format!("the sizes of today were not kept: {error}"));
    }
    let text = page::page(&facts);
    arguments.overwrite.write(path, |to| {
        Ok(to.write_all(text.as_bytes()).map_err(|error| Error::io("write the page", path, error))?)
    })?;
    let (status, bytes) = (facts.status(), text.len() as u64);
    if output.is_json() {
        return output.document(&Document { file: path, bytes, status, findings: &facts.findings });
    }
    let findings = match facts.findings.len() as u64 {
        0 => "nothing to worry about".to_owned(),
        many => number(many, "finding", "findings"),
    };
    output.text(&format!("{findings}; {} in {}\n", ByteSize::b(bytes), path.display()))
}
