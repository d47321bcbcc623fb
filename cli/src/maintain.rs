//! `rowhouse maintain` and `rowhouse compact`: space that deleted rows left behind goes back to the disk.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use rowhouse::{
    CompactReport, Home, MaintainOptions, MaintainProgress, MaintainReport, MaintainStep, Runtime,
};

use crate::bench::count;
use crate::on_server;
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::signals;
use crate::table::Table;
use crate::waiting::telling_who_stalls;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  rowhouse maintain\n  rowhouse maintain logs --json | jq '.databases[].reclaimed_bytes'\n\nPrograms may go on writing: the write lock is taken for some milliseconds at a time. Running programs do the same by\nthemselves when more than a quarter of a file is free; this does all of it now."
)]
pub(crate) struct MaintainArguments {
    /// Only these databases; default: all of the home
    #[arg(value_name = "DATABASE")]
    databases: Vec<String>,
    /// How long somebody who has a database locked, or reads a long log, is waited for
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    wait: u32,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  rowhouse compact logs\n  rowhouse compact --json | jq '.databases[] | .bytes_before - .bytes'\n\nNobody may have the home open. Needs as much free space as the new file has, and refuses without. The new file takes the\nold one's place when it is whole and checked; stopped at any moment, the old file is as it was."
)]
pub(crate) struct CompactArguments {
    /// Only these databases; default: all of the home
    #[arg(value_name = "DATABASE")]
    databases: Vec<String>,
}

pub(crate) fn maintain(home: &Home, arguments: &MaintainArguments, output: &Output) -> Result<()> {
    let mut options = MaintainOptions::default();
    options.databases.clone_from(&arguments.databases);
    options.wait = Duration::from_secs(arguments.wait.into());
    let mut progress = Progress::in_bytes(output);
    // Each piece is whole or not there by itself: a signal ends it wherever it is.
    let report = telling_who_stalls(home, |moves_on| {
        builder(home).maintain(&options, &mut |now| {
            moves_on();
            show(&mut progress, now);
        })
    });
    progress.clear();
    let report = report?;
    on_server::tell(home, "the server gives space back by itself (autovacuum)")?;
    if output.is_json() {
        return output.document(&report);
    }
    for left_out in &report.left_out {
        output::warn(&format!("left out {}", left_out.reason));
    }
    for database in &report.databases {
        for warning in &database.warnings {
            output::warn(&format!("{}: {warning}", database.name));
        }
    }
    output.text(&maintained(&report))
}

pub(crate) fn compact(home: &Home, arguments: &CompactArguments, output: &Output) -> Result<()> {
    let mut options = MaintainOptions::default();
    options.databases.clone_from(&arguments.databases);
    let mut progress = Progress::in_bytes(output);
    let report = signals::interruptible(|| {
        builder(home).compact(&options, &mut |now| {
            signals::may_end();
            show(&mut progress, now);
        })
    });
    progress.clear();
    let report = report?;
    on_server::tell(home, "VACUUM FULL there writes its tables anew")?;
    if output.is_json() { output.document(&report) } else { output.text(&compacted(&report)) }
}

/// The built-in domains are declared for what their schemas need.
fn builder(home: &Home) -> rowhouse::Builder {
    Runtime::builder(home.clone()).agent_domains()
}

fn maintained(report: &MaintainReport) -> String {
    let mut table = Table::new(&["database", "before", "now", "given back", "still free", "longest hold"])
        .right(&[1, 2, 3, 4, 5])
        .fit(output::width(), 0, &[5, 4, 1]);
    for database in &report.databases {
        table.row(&[
            database.name.clone(),
            ByteSize::b(database.bytes_before).to_string(),
            ByteSize::b(database.bytes).to_string(),
            ByteSize::b(database.reclaimed_bytes).to_string(),
            ByteSize::b(database.free_bytes).to_string(),
            format!("{:.1} ms", database.longest_hold_us as f64 / 1000.0),
        ]);
    }
    let mut text = table.render();
    let reclaimed = report.databases.iter().map(|database| database.reclaimed_bytes).sum();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n{} given back to the disk", ByteSize::b(reclaimed));
    text
}

fn compacted(report: &CompactReport) -> String {
    let mut table = Table::new(&["database", "rows", "before", "now"]).right(&[1, 2, 3]);
    for database in &report.databases {
        table.row(&[
            database.name.clone(),
            count(database.rows as f64),
            ByteSize::b(database.bytes_before).to_string(),
            ByteSize::b(database.bytes).to_string(),
        ]);
    }
    let mut text = table.render();
    let saved = |of: &rowhouse::CompactedDatabase| of.bytes_before.saturating_sub(of.bytes);
    // Writing to a String cannot fail.
    let _ =
        writeln!(text, "\n{} given back to the disk", ByteSize::b(report.databases.iter().map(saved).sum()));
    text
}

fn show(progress: &mut Progress, now: &MaintainProgress<'_>) {
    let (doing, did) = match now.step {
        MaintainStep::Rewriting => ("rewriting", "rewrote"),
        _ => ("giving back", "gave back"),
    };
    progress.show(now.bytes_done, now.bytes_total, format!("{doing} {}", now.database));
    if now.bytes_done >= now.bytes_total {
        progress.tell(format!("{did} {}: {}", now.database, ByteSize::b(now.bytes_total)));
    }
}
