//! `rowhouse doctor`: what is wrong, what it comes from, and what to do.
//!
//! Exit codes: 0 no check failed, 1 one did (with `--strict`: or warned), 2 the command line was not understood, 3 the
//! doctor itself broke.

mod render;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use indicatif::ProgressBar;
use rowhouse::doctor::{self, CheckInfo, Options, Report, Status};
use rowhouse::{ErrorKind, Home};
use serde::Serialize;

use crate::arguments::Arguments;
use crate::failure;
use crate::output::{self, Output, ReaderGone};
use crate::table::Table;
use render::{Amount, Marks};

const FOUND: u8 = 1;
const MISUSED: u8 = 2;
const BROKE: u8 = 3;

#[derive(Args)]
#[command(after_help = "\
Examples:
  rowhouse doctor
  rowhouse doctor --only state --all            everything about one database
  rowhouse doctor --json | jq '.checks[] | select(.status == \"fail\")'
  rowhouse doctor --deep                        read everything, however long that takes
  rowhouse doctor --dir ~/.codex                SQLite files of any program

It changes nothing, leaves no file behind, and is harmless beside programs that write.
Exit codes: 0 no check failed, 1 one did (with --strict: or warned), 2 the command line was not understood,
3 the doctor itself broke.")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct DoctorArguments {
    /// Findings without what they rest on
    #[arg(long, conflicts_with = "all")]
    summary: bool,
    /// Every check with all it found, also those that are well and that were skipped
    #[arg(long)]
    all: bool,
    /// Only these checks: an id (state.log), a name (log), a category, or a database
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    only: Vec<String>,
    /// Not these checks
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    skip: Vec<String>,
    /// Name the checks that there are
    #[arg(long)]
    list: bool,
    /// A warning is a failure too
    #[arg(long)]
    strict: bool,
    /// Read whole files, indexes, and all transcripts
    #[arg(long)]
    deep: bool,
    /// How long each check may take [default: 2, with --deep 600]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Marks that every terminal has
    #[arg(long)]
    ascii: bool,
    /// The SQLite files of any folder, such as another program's home
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "a number of seconds from 0.1 to 86400".to_owned())
}

#[derive(Serialize)]
struct List {
    checks: Vec<CheckInfo>,
}

pub(crate) fn run(all: &Arguments, arguments: &DoctorArguments, output: &Output) -> ExitCode {
    match answer(all, arguments, output) {
        Ok(code) => code,
        Err(error) if error.is::<ReaderGone>() => ExitCode::SUCCESS,
        Err(error) => {
            let misused = error.downcast_ref::<rowhouse::Error>().is_some_and(is_misuse);
            failure::report_cleaned(&error, output);
            ExitCode::from(if misused { MISUSED } else { BROKE })
        }
    }
}

/// A word that names no check, a folder that is not there, or that this user may not look into.
fn is_misuse(error: &rowhouse::Error) -> bool {
    matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::ReadOnly)
}

fn answer(all: &Arguments, arguments: &DoctorArguments, output: &Output) -> Result<ExitCode> {
    if arguments.list {
        list(output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = examine(all, arguments)?;
    let told = if output.is_json() {
        output.document(&report)
    } else {
        let amount = match (arguments.summary, arguments.all) {
            (true, _) => Amount::Summary,
            (_, true) => Amount::All,
            _ => Amount::Usual,
        };
        let marks = if arguments.ascii { Marks::ASCII } else { Marks::SIGNS };
        output.text(&render::text(&report, amount, &marks))
    };
    // Who reads no further than the first finding still asks how it went.
    if let Err(error) = told
        && !error.is::<ReaderGone>()
    {
        return Err(error);
    }
    Ok(code(report.overall_status, arguments.strict))
}

fn code(overall: Status, strict: bool) -> ExitCode {
    match overall {
        Status::Fail => ExitCode::from(FOUND),
        Status::Warning if strict => ExitCode::from(FOUND),
        _ => ExitCode::SUCCESS,
    }
}

fn examine(all: &Arguments, arguments: &DoctorArguments) -> Result<Report> {
    let mut options = Options::default();
    options.deep = arguments.deep;
    options.deadline = arguments.timeout;
    options.only.clone_from(&arguments.only);
    options.skip.clone_from(&arguments.skip);
    let bar = if arguments.deep { output::progress(0) } else { ProgressBar::hidden() };
    let mut on_row = |made: doctor::Made<'_>| {
        bar.set_length(made.total as u64);
        bar.set_position(made.done as u64);
        bar.set_message(made.check.id.clone());
    };
    // A check that breaks off is a row; what its panic says may hold anything.
    std::panic::set_hook(Box::new(|_| {}));
    let report = catch_unwind(AssertUnwindSafe(|| match &arguments.dir {
        Some(dir) => doctor::run_dir(dir, &options, &mut on_row),
        None => doctor::run_watched(&home(all)?, &options, &mut on_row),
    }));
    drop(std::panic::take_hook());
    bar.finish_and_clear();
    match report {
        Ok(report) => Ok(report?),
        Err(_) => anyhow::bail!("the doctor broke off: report it, with the version (rowhouse --version)"),
    }
}

/// Settings that cannot be understood are a finding of their own: the usual place is looked at.
fn home(all: &Arguments) -> rowhouse::Result<Home> {
    all.home().or_else(|error| Home::usual().map_err(|_| error))
}

fn list(output: &Output) -> Result<()> {
    let checks = doctor::list();
    if output.is_json() {
        return output.document(&List { checks });
    }
    let mut table = Table::new(&["check", "what is looked at"]).fit_wrapped(output::width(), &[1], &[]);
    for check in &checks {
        let id = if check.per_database {
            format!("DB.{}", check.name)
        } else {
            format!("{}.{}", check.category, check.name)
        };
        table.row(&[id, check.about.to_owned()]);
    }
    output.text(&table.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_fails_only_when_asked_to() {
        for (overall, strict, expected) in [
            (Status::Ok, true, ExitCode::SUCCESS),
            (Status::Warning, false, ExitCode::SUCCESS),
            (Status::Warning, true, ExitCode::from(FOUND)),
            (Status::Fail, false, ExitCode::from(FOUND)),
        ] {
            assert_eq!(code(overall, strict), expected, "{overall:?} {strict}");
        }
    }

    #[test]
    fn a_timeout_is_some_time() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "x", "nan", "inf", "1e9"] {
            seconds(bad).expect_err(bad);
        }
    }

    #[test]
    fn what_the_caller_named_wrongly_is_misuse() {
        for (kind, expected) in [
            (ErrorKind::Invalid, true),
            (ErrorKind::NotFound, true),
            (ErrorKind::ReadOnly, true),
            (ErrorKind::Io, false),
        ] {
            assert_eq!(is_misuse(&rowhouse::Error::new(kind, "x")), expected, "{kind:?}");
        }
    }
}
