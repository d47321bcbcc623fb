//! `rowhouse backup`: copies of all databases at one instant, while programs go on writing.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use rowhouse::{BackupOptions, BackupProgress, BackupReport, BackupStep, Home, Runtime};

use crate::bench::count;
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::signals;
use crate::table::Table;
use crate::waiting::telling_who_stalls;
use crate::words::number;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  rowhouse backup\n  rowhouse backup --keep 7\n  rowhouse backup /mnt/usb/monday\n  rowhouse backup --json | jq -r .folder\n\nPrograms may go on writing. Every copy is one file that opens alone; manifest.json has its SHA-256. Nothing has the\nfolder's name before all of it is complete. What is on a PostgreSQL server is not in it, which is told each time: back that up\nthere (pg_dump)."
)]
pub(crate) struct BackupArguments {
    /// The folder to make; default: one named after the time, in the home's backups/
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// How long somebody who has a database locked is waited for
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    wait: u32,
    /// Remove older backups of the home's backups/ but the newest N, when this one is complete and checked; the last good
    /// copy of a database always stays
    #[arg(long, value_name = "N", conflicts_with = "folder", value_parser = clap::value_parser!(u16).range(1..))]
    keep: Option<u16>,
}

pub(crate) fn run(home: &Home, arguments: &BackupArguments, output: &Output) -> Result<()> {
    let mut options = BackupOptions::default();
    options.to.clone_from(&arguments.folder);
    options.keep = arguments.keep.map(usize::from);
    options.wait = Duration::from_secs(arguments.wait.into());
    let mut progress = Progress::in_bytes(output);
    let report = signals::interruptible(|| {
        let builder = Runtime::builder(home.clone());
        // No domain names it: a backup takes those that are there.
        let builder = builder.program("rowhouse", env!("CARGO_PKG_VERSION"));
        telling_who_stalls(home, |moves_on| {
            builder.backup(&options, &mut |step| {
                moves_on();
                show(&mut progress, step);
            })
        })
    });
    progress.clear();
    let report = report?;
    if output.is_json() {
        return output.document(&report);
    }
    for left_out in &report.manifest.left_out {
        output::warn(&format!("left out {}", left_out.reason));
    }
    output.text(&text(&report))
}

fn text(report: &BackupReport) -> String {
    let databases = &report.manifest.databases;
    let mut table = Table::new(&["database", "schema", "rows", "size"]).right(&[1, 2, 3]);
    for database in databases {
        table.row(&[
            database.name.clone(),
            database.schema_version.map_or_else(|| "-".to_owned(), |version| version.to_string()),
            count(database.rows.values().sum::<u64>() as f64),
            ByteSize::b(database.bytes).to_string(),
        ]);
    }
    let mut text = table.render();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "\n{}, {}, in {}\nwriters were held for {:.1} ms",
        number(databases.len() as u64, "database", "databases"),
        ByteSize::b(databases.iter().map(|database| database.bytes).sum()),
        report.folder.display(),
        report.held_us as f64 / 1000.0
    );
    for removed in &report.removed {
        let _ = writeln!(text, "removed {}", removed.display());
    }
    text
}

/// One step of a backup, or of a restore, which checks in the same way.
pub(crate) fn show(progress: &mut Progress, now: &BackupProgress<'_>) {
    signals::may_end();
    let (doing, did) = match now.step {
        BackupStep::Copying => ("copying", "copied"),
        _ => ("checking", "checked"),
    };
    progress.show(now.bytes_done, now.bytes_total, format!("{doing} {}", now.database));
    if now.bytes_done >= now.bytes_total {
        progress.tell(format!("{did} {}: {}", now.database, ByteSize::b(now.bytes_total)));
    }
}
