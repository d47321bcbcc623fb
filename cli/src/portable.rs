//! `rowhouse export` and `rowhouse import home`: all threads of a home as one file, and back.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use rowhouse::portable::{ExportReport, ImportOptions, ImportReport, PortableCounts, PortableProblem};
use rowhouse::{Domain, Home, Runtime};

use crate::bench::count;
use crate::open;
use crate::output::{self, Output, WARNING};
use crate::signals;
use crate::words::number;

/// Problems that a person is shown; the document names more.
const SHOWN: usize = 20;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  rowhouse export threads.rowhouse\n  rowhouse export /mnt/usb/threads.rowhouse.zst      the same, compressed\n  rowhouse export t.rowhouse && scp t.rowhouse there: && ssh there rowhouse import home t.rowhouse\n\nIn the file are transcripts (archived and compressed ones as well), names, pins, goals, memories, and which thread started\nwhich. Not in it: keys of this device, logs. Programs may go on writing. For a copy of the databases as they are, see\nrowhouse backup."
)]
pub(crate) struct ExportArguments {
    /// The file to make; a name that ends in .zst is compressed
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  rowhouse import home threads.rowhouse --dry-run\n  rowhouse import home threads.rowhouse\n  rowhouse import home threads.rowhouse --json | jq '.problems[].reason'\n\nThe whole file is checked first. What is here stays; what went on there comes in; a thread that went on in both places is\nleft as it is, and named. Imported twice, or again after it was broken off, nothing is there twice."
)]
pub(crate) struct ImportHomeArguments {
    /// The file that `rowhouse export` made
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Check the file and only say what would be done
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn export(home: &Home, arguments: &ExportArguments, output: &Output) -> Result<()> {
    let runtime = threads_of(home)?;
    let bar = output::progress_in_bytes();
    let report = signals::interruptible(|| {
        runtime.export_home(&arguments.file, &mut |report| {
            signals::may_end();
            bar.set_length(report.bytes);
            bar.set_position(report.bytes);
        })
    });
    bar.finish_and_clear();
    let report = report?;
    if output.is_json() { output.document(&report) } else { output.text(&exported(&report)) }
}

pub(crate) fn import(home: &Home, arguments: &ImportHomeArguments, output: &Output) -> Result<()> {
    // Before a home is created for nothing.
    std::fs::metadata(&arguments.file)
        .map_err(|error| rowhouse::Error::io("read the export", &arguments.file, error))?;
    let builder = Runtime::builder(home.clone()).domain(Domain::state());
    let runtime = if !arguments.dry_run {
        builder.domain(Domain::goals()).open()?
    } else if open::has(home, &Domain::state())? {
        builder.open()?
    } else {
        // To look creates nothing.
        builder.ephemeral().open()?
    };
    let options = if arguments.dry_run { ImportOptions::dry_run() } else { ImportOptions::default() };
    let bar = output::progress(0);
    let report = signals::interruptible(|| {
        runtime.import_home(&arguments.file, &options, &mut |report| {
            signals::may_end();
            bar.set_position(report.new + report.updated + report.unchanged);
        })
    });
    bar.finish_and_clear();
    let report = report?;
    if output.is_json() { output.document(&report) } else { output.text(&imported(&report, &arguments.file)) }
}

/// A home may have no goals yet; and its databases may be lost while its transcripts are there.
fn threads_of(home: &Home) -> rowhouse::Result<Runtime> {
    let transcripts = ["sessions", "archived_sessions"].iter().any(|name| home.path().join(name).is_dir());
    if !transcripts {
        drop(open::state(home)?);
    }
    let builder = Runtime::builder(home.clone()).domain(Domain::state());
    let goals = Domain::goals();
    if open::has(home, &goals)? { builder.domain(goals).open() } else { builder.open() }
}

fn exported(report: &ExportReport) -> String {
    let mut text = counts(&report.counts);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{} in {}", ByteSize::b(report.bytes), report.file.display());
    problems(&mut text, "left out", &report.problems);
    text
}

fn imported(report: &ImportReport, file: &Path) -> String {
    let mut text = counts(&report.counts);
    let did = if report.dry_run { "would be new" } else { "new" };
    let _ = writeln!(
        text,
        "{} {did}, {} with more than was here, {} as they are here, {} left as they are",
        count(report.new as f64),
        count(report.updated as f64),
        count(report.unchanged as f64),
        count(report.left as f64),
    );
    problems(&mut text, "left", &report.problems);
    if report.dry_run {
        let _ = writeln!(text, "nothing was changed (to import: rowhouse import home {})", file.display());
    }
    text
}

fn counts(counts: &PortableCounts) -> String {
    format!(
        "{}, {} ({}), {}, {}, {}\n",
        number(counts.rows, "thread", "threads"),
        number(counts.transcripts, "transcript", "transcripts"),
        ByteSize::b(counts.transcript_bytes),
        number(counts.goals, "goal", "goals"),
        number(counts.memories, "memory", "memories"),
        number(counts.edges, "edge", "edges"),
    )
}

fn problems(text: &mut String, what: &str, problems: &[PortableProblem]) {
    for PortableProblem { thread, reason } in problems.iter().take(SHOWN) {
        let _ = write!(text, "{WARNING}{what}:{WARNING:#} ");
        if let Some(thread) = thread {
            let _ = write!(text, "{thread}: ");
        }
        let _ = writeln!(text, "{reason}");
    }
    if problems.len() > SHOWN {
        let _ = writeln!(text, "and {} more (--json names them)", problems.len() - SHOWN);
    }
}
