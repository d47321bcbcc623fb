//! `rowhouse import`: transcripts of a folder become threads.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use rowhouse::rollout::{self, ImportReport};
use rowhouse::{Error, ErrorKind, Home, Runtime};

use crate::bench::count;
use crate::output::{self, Output, WARNING};

/// Bad files that a person is shown; the document has all of them.
const SHOWN: usize = 20;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  rowhouse import ~/.myagent/sessions\n  rowhouse import old/ --json | jq '.problems[].path'\n\nNothing in the folder is changed. Files that were imported before are looked at again only when they changed."
)]
pub(crate) struct ImportArguments {
    /// The folder that holds the transcripts (*.jsonl, *.jsonl.zst), at any depth
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(crate) fn run(home: &Home, arguments: &ImportArguments, output: &Output) -> Result<()> {
    let folder = &arguments.folder;
    if !folder.is_dir() {
        return Err(Error::new(ErrorKind::NotFound, "no such folder")
            .at_path(folder)
            .advise("name the folder that holds the transcripts")
            .into());
    }
    let bar = output::progress(0);
    let runtime = Runtime::open(home.clone())?;
    let report = rollout::import(&runtime.threads(), folder, &mut |progress| {
        bar.set_position(progress.files);
        bar.set_message(ByteSize::b(progress.bytes_read).to_string());
    });
    bar.finish_and_clear();
    let report = report?;
    if output.is_json() { output.document(&report) } else { output.text(&text(&report)) }
}

/// The report for people, also shown by the demo.
pub(crate) fn text(report: &ImportReport) -> String {
    let mut text = format!(
        "{} files: {} imported, {} updated, {} unchanged, {} bad ({} compressed, {} read)\n",
        count(report.files as f64),
        count(report.imported as f64),
        count(report.updated as f64),
        count(report.unchanged as f64),
        count(report.bad as f64),
        count(report.compressed as f64),
        ByteSize::b(report.bytes_read)
    );
    for problem in report.problems.iter().take(SHOWN) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{WARNING}bad:{WARNING:#} {}", problem.path.display());
        if let Some(line) = problem.line {
            let _ = write!(text, ":{line}");
        }
        let _ = writeln!(text, ": {}", problem.reason);
    }
    if report.problems.len() > SHOWN {
        let _ = writeln!(text, "and {} more (--json names all)", report.problems.len() - SHOWN);
    }
    text
}
