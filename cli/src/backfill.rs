//! `rowhouse backfill`, `rowhouse reindex` and `rowhouse import`: transcripts become threads.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use bytesize::ByteSize;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use jiff::Timestamp;
use rowhouse::rollout::CodexNames;
use rowhouse::stores::backfill::{
    BackfillProblem, BackfillProgress, BackfillReport, BackfillState, BackfillStatus, MissingFile, Reread,
    SweepReport,
};
use rowhouse::{Domain, Error, ErrorKind, Home, Runtime, RuntimeDbRegistry};
use serde::Serialize;

use crate::agreement::{ADVICE, Agreement};
use crate::bench::count;
use crate::open::{self, Opened};
use crate::output::{self, Output, WARNING};
use crate::table::{Table, age, time};
use crate::waiting::telling_who_stalls;
use crate::words::number;

/// Files that a person is shown; the document names more.
const SHOWN: usize = 20;
/// How often progress is told to a script.
const TELL_EVERY: Duration = Duration::from_millis(250);

#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  rowhouse import ~/.myagent/sessions\n  rowhouse import codex                    the threads of Codex, with their names, where they are\n  rowhouse import home threads.rowhouse    what `rowhouse export` made of another home\n  rowhouse import old/ --json | jq '.problems[].path'\n\nNothing in the folder is changed. Files that were imported before are looked at again only when they changed. A folder\ncalled home or codex is given as ./home."
)]
pub(crate) struct ImportArguments {
    #[command(subcommand)]
    command: Option<ImportCommand>,
    /// The folder that holds the transcripts (*.jsonl, *.jsonl.zst), at any depth
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

#[derive(Subcommand)]
enum ImportCommand {
    /// The threads of a Codex home: its transcripts as they are, and their names
    Codex(CodexArguments),
    /// The threads of another home, from the file that `rowhouse export` made
    Home(crate::portable::ImportHomeArguments),
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  rowhouse import codex\n  rowhouse import codex /backup/.codex --json | jq .names\n\nTranscripts are read where they are, also archived and compressed ones; nothing is copied, and nothing in the folder is\nchanged. Done again it brings in what is new. A name that was given here stays."
)]
struct CodexArguments {
    /// The folder of Codex [default: the one that Codex itself uses, mostly ~/.codex]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  rowhouse backfill                        the transcripts of the home, as far as they are new\n  rowhouse backfill --follow               the same; when a program is at it already, watch it\n  rowhouse backfill status\n  rowhouse backfill --json | jq -c 'select(.event == \"progress\")'\n\nStopped or killed at any moment it goes on where it was. With --json: one document a line."
)]
pub(crate) struct BackfillArguments {
    #[command(subcommand)]
    command: Option<BackfillCommand>,
    /// The folder that holds the transcripts [default: the home, with its live and archived sessions]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// When another process is at it, show how far it is until it is done, and take over should it end
    #[arg(long)]
    follow: bool,
}

#[derive(Subcommand)]
enum BackfillCommand {
    /// Which folders are indexed, how far, and by whom
    #[command(
        after_help = "Examples:\n  rowhouse backfill status\n  rowhouse backfill status --json | jq '.backfills[].state'"
    )]
    Status,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  rowhouse reindex                         find files that are new, changed, moved or gone\n  rowhouse reindex --everything            read every file again\n  rowhouse reindex --sweep --dry-run       name the threads whose file is gone\n  rowhouse reindex --sweep                 remove them, after a question\n  rowhouse reindex --json | jq '.missing_files[].path'"
)]
pub(crate) struct ReindexArguments {
    /// The folder that holds the transcripts [default: the home, with its live and archived sessions]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Read every file again, also those that did not change
    #[arg(long)]
    everything: bool,
    /// Remove the threads whose file is gone, also what users said of them
    #[arg(long)]
    sweep: bool,
    #[command(flatten)]
    agreement: Agreement,
}

pub(crate) fn import(home: &Home, arguments: &ImportArguments, output: &Output) -> Result<()> {
    match (&arguments.command, &arguments.folder) {
        (Some(ImportCommand::Codex(codex)), _) => import_codex(home, codex, output),
        (Some(ImportCommand::Home(from)), _) => crate::portable::import(home, from, output),
        (None, folder) => import_folder(home, folder.as_deref(), output),
    }
}

fn import_folder(home: &Home, folder: Option<&Path>, output: &Output) -> Result<()> {
    let Some(folder) = folder else {
        return Err(Error::new(ErrorKind::Invalid, "there is nothing to import")
            .advise("name the folder that holds the transcripts")
            .into());
    };
    check(folder)?;
    let runtime = open::all(home)?;
    let report = run(&runtime, folder, Reread::Changed)?;
    if output.is_json() { output.document(&report) } else { output.text(&text(&report)) }
}

fn import_codex(home: &Home, arguments: &CodexArguments, output: &Output) -> Result<()> {
    let folder = match &arguments.folder {
        Some(folder) => folder.clone(),
        None => codex_home()?,
    };
    if arguments.folder.is_none() && !folder.is_dir() {
        return Err(Error::new(ErrorKind::NotFound, "Codex has no home here")
            .at_path(&folder)
            .advise("name it: rowhouse import codex DIR, or set CODEX_HOME")
            .into());
    }
    check(&folder)?;
    let runtime = open::all(home)?;
    let report = watched(&runtime, |bar, moves_on| {
        runtime.backfill().import_codex(&folder, &mut |progress| {
            moves_on();
            show(bar, progress);
        })
    })?;
    if output.is_json() {
        return output.document(&report);
    }
    let mut told = text(&report.transcripts);
    let CodexNames { found, given, without_thread, bad_lines, .. } = report.names;
    // Writing to a String cannot fail.
    let _ = writeln!(told, "{} named there, {} taken over", threads(found), number(given, "name", "names"));
    if without_thread > 0 {
        let _ = writeln!(told, "{} of them without a transcript", threads(without_thread));
    }
    if bad_lines > 0 {
        let _ =
            writeln!(told, "{} of session_index.jsonl could not be read", number(bad_lines, "line", "lines"));
    }
    output.text(&told)
}

fn codex_home() -> Result<PathBuf> {
    let given = std::env::var_os("CODEX_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    given.or_else(|| Some(std::env::home_dir()?.join(".codex"))).ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "this user has no home directory")
            .advise("name the folder of Codex")
            .into()
    })
}

#[derive(Serialize)]
struct Reindexed {
    #[serde(flatten)]
    report: BackfillReport,
    /// What was removed, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    sweep: Option<SweepReport>,
}

pub(crate) fn reindex(home: &Home, arguments: &ReindexArguments, output: &Output) -> Result<()> {
    let folder = folder(home, arguments.folder.as_deref())?;
    let runtime = open::all(home)?;
    let reread = if arguments.everything { Reread::Everything } else { Reread::Changed };
    let report = run(&runtime, &folder, reread)?;
    let agreement = &arguments.agreement;
    let sweep = arguments.sweep && report.missing > 0 && !agreement.dry_run;
    let mut told = text(&report);
    if sweep && !agreement.yes {
        output.can_ask(ADVICE)?;
        output.text(&(std::mem::take(&mut told) + &missing(&report)))?;
        agreement
            .given(&format!("remove {}, with what was said of them?", threads(report.missing)), output)?;
    }
    let sweep = sweep.then(|| runtime.backfill().sweep(&folder)).transpose()?;
    if output.is_json() {
        return output.document(&Reindexed { report, sweep });
    }
    match sweep {
        // Writing to a String cannot fail.
        Some(swept) => drop(writeln!(told, "{} removed", threads(swept.threads))),
        None => told.push_str(&missing(&report)),
    }
    output.text(&told)
}

/// One line of `backfill --json`.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'l> {
    Progress {
        #[serde(flatten)]
        progress: &'l BackfillProgress,
    },
    /// Somebody else is at it.
    Waiting {
        pid: Option<u32>,
        reason: String,
        #[serde(flatten)]
        progress: BackfillProgress,
    },
    Done {
        #[serde(flatten)]
        report: &'l BackfillReport,
    },
}

pub(crate) fn backfill(home: &Home, arguments: &BackfillArguments, output: &Output) -> Result<()> {
    if matches!(arguments.command, Some(BackfillCommand::Status)) {
        return status(home, output);
    }
    let folder = folder(home, arguments.folder.as_deref())?;
    let runtime = open::all(home)?;
    let report = if arguments.follow {
        follow(&runtime, &folder, output)?
    } else {
        let mut told = None;
        watched(&runtime, |bar, moves_on| {
            runtime.backfill().run(&folder, Reread::Changed, &mut |progress| {
                moves_on();
                show(bar, progress);
                if output.is_json() && told.is_none_or(|at: std::time::Instant| at.elapsed() >= TELL_EVERY) {
                    told = Some(std::time::Instant::now());
                    // A reader that has gone is met at the end as well.
                    let _ = output.json_line(&Line::Progress { progress });
                }
            })
        })?
    };
    if output.is_json() {
        return output.json_line(&Line::Done { report: &report });
    }
    output.text(&(text(&report) + &missing(&report)))
}

/// Does it, or watches whoever does.
fn follow(runtime: &Runtime, folder: &Path, output: &Output) -> Result<BackfillReport> {
    let backfill = runtime.backfill();
    let handle = backfill.start(folder)?;
    let bar = output::progress(0);
    while !handle.wait(TELL_EVERY) {
        let Some(trouble) = handle.trouble() else {
            let progress = handle.progress();
            show(&bar, &progress);
            if output.is_json() {
                output.json_line(&Line::Progress { progress: &progress })?;
            }
            continue;
        };
        let running = |status: &BackfillStatus| status.state == BackfillState::Running;
        let progress =
            backfill.status()?.into_iter().find(running).map(|status| status.progress).unwrap_or_default();
        show(&bar, &progress);
        bar.set_message(trouble.to_string());
        if output.is_json() {
            let pid = trouble.holder().map(|holder| holder.pid);
            output.json_line(&Line::Waiting { pid, reason: trouble.message().to_owned(), progress })?;
        }
    }
    bar.finish_and_clear();
    Ok(handle.join()?)
}

#[derive(Serialize)]
struct StatusDocument<'d> {
    home: &'d Path,
    backfills: &'d [BackfillStatus],
}

fn status(home: &Home, output: &Output) -> Result<()> {
    if !RuntimeDbRegistry::new(home).list()?.iter().any(|known| known.name == "state") {
        return Err(Error::new(ErrorKind::NotFound, "no threads here yet")
            .at_path(home.path())
            .advise("index a folder of transcripts with: rowhouse import DIR")
            .into());
    }
    let runtime = Opened::new(Runtime::builder(home.clone()).domain(Domain::state()).open()?);
    let found = runtime.backfill().status()?;
    if output.is_json() {
        return output.document(&StatusDocument { home: home.path(), backfills: &found });
    }
    if found.is_empty() {
        return output.text("nothing was indexed yet\n");
    }
    let mut table = Table::new(&["folder", "state", "files", "bad", "read", "by", "heard of"])
        .right(&[2, 3, 4])
        .fit_wrapped(output::width(), &[0], &[4, 6, 3, 5]);
    for status in &found {
        table.row(&row(status));
    }
    let mut told = table.render();
    for status in &found {
        problems(&mut told, &status.problems);
    }
    output.text(&told)
}

fn row(status: &BackfillStatus) -> [String; 7] {
    let BackfillProgress { counts, total, .. } = status.progress;
    let state = match (status.state, &status.holder) {
        (BackfillState::Running, None) => "interrupted",
        (BackfillState::Running, Some(holder)) if holder.stopped => "stopped",
        (state, _) => state.as_str(),
    };
    let files = match total.filter(|_| status.state != BackfillState::Complete) {
        Some(total) => format!("{} of {}", count(counts.files as f64), count(total as f64)),
        None => count(counts.files as f64),
    };
    let by = match (&status.holder, &status.owner) {
        (Some(holder), _) => holder.to_string(),
        (None, Some(owner)) => format!("pid {} on {}", owner.pid, owner.host),
        (None, None) => String::new(),
    };
    [
        status.root.display().to_string(),
        state.to_owned(),
        files,
        count(counts.bad as f64),
        ByteSize::b(counts.bytes_read).to_string(),
        by,
        status.heartbeat_at.map(|at| age(time(at), Timestamp::now())).unwrap_or_default(),
    ]
}

fn folder(home: &Home, given: Option<&Path>) -> Result<PathBuf> {
    let folder = given.unwrap_or(home.path());
    if given.is_none() && !folder.exists() {
        return Err(Error::new(ErrorKind::NotFound, "there is no home here yet")
            .at_path(folder)
            .advise("`rowhouse import DIR` brings transcripts in; --home or ROWHOUSE_HOME names another home")
            .into());
    }
    check(folder)?;
    Ok(folder.to_owned())
}

/// Before a home is created for nothing.
fn check(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let is_export = [".rowhouse", ".rowhouse.zst"].iter().any(|end| folder.to_string_lossy().ends_with(end));
    let (what, advice) = match (folder.is_file(), is_export) {
        (true, true) => (
            "this is an exported home, and no folder of transcripts",
            "it is brought in by: rowhouse import home FILE",
        ),
        (true, false) => ("this is a file, and no folder of transcripts", "name the folder that holds it"),
        (false, _) => ("no such folder", "name the folder that holds the transcripts"),
    };
    Err(Error::new(ErrorKind::NotFound, what).at_path(folder).advise(advice).into())
}

fn run(runtime: &Runtime, folder: &Path, reread: Reread) -> rowhouse::Result<BackfillReport> {
    watched(runtime, |bar, moves_on| {
        runtime.backfill().run(folder, reread, &mut |progress| {
            moves_on();
            show(bar, progress);
        })
    })
}

/// Shows a bar, and who keeps it from moving on.
fn watched<T>(runtime: &Runtime, work: impl FnOnce(&ProgressBar, &dyn Fn()) -> T) -> T {
    let bar = output::progress(0);
    let done = telling_who_stalls(runtime.home(), |moves_on| work(&bar, moves_on));
    bar.finish_and_clear();
    done
}

fn show(bar: &ProgressBar, progress: &BackfillProgress) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    bar.set_length(progress.total.unwrap_or(progress.counts.files));
    bar.set_position(progress.counts.files);
    let read = ByteSize::b(progress.counts.bytes_read);
    bar.set_message(if progress.listed {
        format!("{read}, reading {} whole", count(progress.counts.read_whole as f64))
    } else {
        read.to_string()
    });
}

/// The report for people.
fn text(report: &BackfillReport) -> String {
    let counts = report.counts;
    let mut text = format!(
        "{}: {} imported, {} updated, {} unchanged, {} bad ({} compressed, {} read)\n",
        number(counts.files, "file", "files"),
        count(counts.imported as f64),
        count(counts.updated as f64),
        count(counts.unchanged as f64),
        count(counts.bad as f64),
        count(counts.compressed as f64),
        ByteSize::b(counts.bytes_read)
    );
    problems(&mut text, &report.problems);
    text
}

fn problems(text: &mut String, problems: &[BackfillProblem]) {
    for problem in problems.iter().take(SHOWN) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{WARNING}bad:{WARNING:#} {}", problem.path.display());
        if let Some(line) = problem.line {
            let _ = write!(text, ":{line}");
        }
        let _ = writeln!(text, ": {}", problem.reason);
    }
    if problems.len() > SHOWN {
        let _ = writeln!(text, "and {} more (--json names all)", problems.len() - SHOWN);
    }
}

fn missing(report: &BackfillReport) -> String {
    let mut text = String::new();
    for MissingFile { path, .. } in report.missing_files.iter().take(SHOWN) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{WARNING}gone:{WARNING:#} {}", path.display());
    }
    if report.missing > 0 {
        let of = threads(report.missing);
        let _ = writeln!(text, "{of} without a file (to remove: rowhouse reindex --sweep)");
    }
    text
}

fn threads(many: u64) -> String {
    number(many, "thread", "threads")
}
