//! `rowhouse restore`: the databases of a backup take the place of those in a home.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use rowhouse::{Home, RestoreOptions, RestoreReport, Runtime};

use crate::agreement::{ADVICE, Agreement};
use crate::backup::show;
use crate::bench::count;
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::signals;
use crate::table::Table;
use crate::words::number;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  rowhouse restore ~/.local/state/rowhouse/backups/2026-03-01T08-00-00Z --dry-run\n  rowhouse restore /mnt/usb/monday --home /tmp/look\n  rowhouse restore /mnt/usb/monday --yes\n\nThe whole backup is checked first. Nobody may have the home open. What is there now is moved to quarantine/, never\ndeleted, and you are asked before; databases that the backup does not hold stay. A restore that is broken off is finished by the next one, or when a\nprogram opens the home."
)]
pub(crate) struct RestoreArguments {
    /// The folder that `rowhouse backup` made
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
    #[command(flatten)]
    agreement: Agreement,
}

pub(crate) fn run(home: &Home, arguments: &RestoreArguments, output: &Output) -> Result<()> {
    // One for the look and the work: a database that was checked is told of once.
    let mut progress = Progress::in_bytes(output);
    let mut restore = |options: &RestoreOptions| {
        let builder = Runtime::builder(home.clone()).agent_domains();
        let report = signals::interruptible(|| {
            builder.restore(&arguments.backup, options, &mut |step| show(&mut progress, step))
        });
        progress.clear();
        report
    };
    let agreement = &arguments.agreement;
    if !agreement.yes && !agreement.dry_run {
        let plan = restore(&RestoreOptions::dry_run())?;
        // Where nothing is there, nothing is lost.
        if plan.databases.iter().any(|database| database.replaces) {
            output.can_ask(ADVICE)?;
            output.text(&text(&plan))?;
            agreement.given("put them in place of those that are there?", output)?;
        }
    }
    let report =
        restore(&if agreement.dry_run { RestoreOptions::dry_run() } else { RestoreOptions::default() })?;
    if output.is_json() {
        return output.document(&report);
    }
    for warning in &report.warnings {
        output::warn(warning);
    }
    output.text(&text(&report))
}

fn text(report: &RestoreReport) -> String {
    let mut table = Table::new(&["database", "rows", "size", "before"]).right(&[1, 2]);
    for database in &report.databases {
        table.row(&[
            database.name.clone(),
            count(database.rows as f64),
            ByteSize::b(database.bytes).to_string(),
            if database.replaces { "another file" } else { "nothing" }.to_owned(),
        ]);
    }
    let mut text = table.render();
    // Writing to a String cannot fail.
    let did = if report.dry_run { "would be restored" } else { "restored" };
    let _ = writeln!(
        text,
        "\n{} as of {} {did} into {}",
        number(report.databases.len() as u64, "database", "databases"),
        report.created_at,
        report.home.display()
    );
    if let Some(quarantine) = &report.quarantine {
        let _ = writeln!(text, "what was there is in {}", quarantine.display());
    }
    if !report.untouched.is_empty() {
        let _ = writeln!(text, "not in the backup, and left as they are: {}", report.untouched.join(", "));
    }
    text
}
