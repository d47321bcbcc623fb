//! `rowhouse import`: transcripts of a folder become threads.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use rowhouse::{Error, ErrorKind, Home};
use serde::Serialize;

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

/// How far an import is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub(crate) done: u64,
    pub(crate) files: u64,
}

/// What an import did.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) files: u64,
    pub(crate) imported: u64,
    pub(crate) updated: u64,
    pub(crate) unchanged: u64,
    pub(crate) bad: u64,
    pub(crate) compressed: u64,
    pub(crate) bytes_read: u64,
    pub(crate) problems: Vec<Problem>,
}

/// A file that could not be taken as it is, and where.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Problem {
    pub(crate) path: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    pub(crate) reason: String,
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
    let report = import(home, folder, &mut |progress| {
        bar.set_length(progress.files);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    let report = report?;
    if output.is_json() { output.document(&report) } else { output.text(&text(&report)) }
}

/// The report for people, also shown by the demo.
pub(crate) fn text(report: &Report) -> String {
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

// ---------------------------------------------------------------------------------------------------------------
// ADAPTER: connect to `rowhouse::rollout::import(&runtime.threads(), folder, &mut |progress| …)` on
// `Runtime::open(home.clone())`, its `ImportReport` mapped to `Report`.
// ---------------------------------------------------------------------------------------------------------------
pub(crate) fn import(home: &Home, folder: &Path, seen: &mut dyn FnMut(Progress)) -> rowhouse::Result<Report> {
    let _ = folder;
    seen(Progress { done: 0, files: 0 });
    Err(Error::new(ErrorKind::Unsupported, "this build holds no thread store").at_path(home.path()))
}
