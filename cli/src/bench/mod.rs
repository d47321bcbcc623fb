//! `rowhouse bench`: what this disk and this library can do, side by side with the usual ways.

mod backend;
mod backfill;
mod contention;
mod growth;
mod machine;
mod render;
mod report;
mod startup;
mod stores;
pub(crate) mod workloads;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::output::{self, Output};
use crate::signals;
use contention::Setting;
pub(crate) use render::{count, micros};

/// Below this, a disk acknowledges without having written.
const HONEST_FSYNC_US: f64 = 50.0;
/// An fsync that changes by more than this factor during a run casts doubt on it.
const UNREST: f64 = 1.5;

#[derive(Args)]
#[command(after_help = "\
Examples:
  rowhouse bench contention --quick
  rowhouse bench startup --only open_warm
  rowhouse bench stores --dir /mnt/data --json > here.json")]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Many callers and many processes on one database
    #[command(
        after_help = "Examples:\n  rowhouse bench contention --quick\n  rowhouse bench contention --only callers_64 --only read_point\n  rowhouse bench contention --dir /mnt/data --json > here.json"
    )]
    Contention(ContentionArguments),
    /// Opening the built-in databases: by one process and by 32 at once, warm and cold, beside a held lock
    #[command(
        after_help = "Examples:\n  rowhouse bench startup\n  rowhouse bench startup --only open_warm\n  rowhouse bench startup --dir /mnt/data --json > here.json"
    )]
    Startup(StartupArguments),
    /// Indexing a folder of transcripts: how fast, and how soon the first threads are listed
    #[command(
        after_help = "Examples:\n  rowhouse bench backfill\n  rowhouse bench backfill --full               20,000 transcripts, 2 GB\n  rowhouse bench backfill --dir /mnt/data --json > here.json"
    )]
    Backfill(BackfillArguments),
    /// A storm of TRACE events: how large the logs get and how much is written, second by second
    #[command(
        after_help = "Examples:\n  rowhouse bench growth\n  rowhouse bench growth --seconds 600 --processes 4\n  rowhouse bench growth --dir /mnt/data --json > here.json"
    )]
    Growth(GrowthArguments),
    /// The built-in stores: a page of threads among few and among many, and use added to a goal
    #[command(
        after_help = "Examples:\n  rowhouse bench stores --quick\n  rowhouse bench stores --only goal_account\n  rowhouse bench stores --only thread_page --threads 100000 --json > here.json"
    )]
    Stores(StoresArguments),
    /// The same work on a file, on a PostgreSQL server, and on one with a synchronous standby
    #[command(
        after_help = "Examples:\n  rowhouse bench backend --quick\n  rowhouse bench backend --only goal_account\n  rowhouse bench backend --url postgres://app@db.example/empty   a server of your own, an empty database\n  rowhouse bench backend --dir /mnt/data --json > here.json"
    )]
    Backend(BackendArguments),
}

#[derive(Args)]
struct ContentionArguments {
    /// Measure the disk of this folder (in a folder of its own there, removed afterwards) [default: the current one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Time for each subject in each round, in seconds [default: 2, with --quick 0.5]
    #[arg(long, value_name = "S", value_parser = positive_seconds)]
    seconds: Option<Duration>,
    /// How often the subjects take turns; medians of the rounds are reported
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Short runs and fewer rows: an impression, not a result
    #[arg(long)]
    quick: bool,
    /// Only this work or target, or those that begin so; may be repeated
    #[arg(long, value_name = "NAME", value_parser = contention::known)]
    only: Vec<String>,
}

#[derive(Args)]
struct StartupArguments {
    /// Measure on the disk of this folder (in a folder of its own there, removed afterwards) [default: the current one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How often the subjects take turns; medians of the rounds are reported
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Fewer opens: an impression, not a result
    #[arg(long)]
    quick: bool,
    /// Only this work, or those that begin so; may be repeated
    #[arg(long, value_name = "NAME", value_parser = startup::known)]
    only: Vec<String>,
}

#[derive(Args)]
struct BackfillArguments {
    /// Measure on the disk of this folder (in a folder of its own there, removed afterwards) [default: the current one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How many transcripts, of 100 KB each [default: 1000, with --quick 200, with --full 20000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    files: Option<u32>,
    /// How often; medians of the rounds are reported
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Few transcripts: an impression, not a result
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// 20,000 transcripts: needs 2 GB of free space, and of memory for the page cache
    #[arg(long)]
    full: bool,
}

#[derive(Args)]
struct GrowthArguments {
    /// Measure on the disk of this folder (in a folder of its own there, removed afterwards) [default: the current one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How long the storm lasts, in seconds [default: 20, with --quick 5]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(2..=86_400))]
    seconds: Option<u64>,
    /// Processes that submit events
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=32))]
    processes: u8,
    /// Threads in each of them
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
    /// A short storm: an impression, not a result
    #[arg(long)]
    quick: bool,
}

#[derive(Args)]
struct StoresArguments {
    /// Measure on the disk of this folder (in a folder of its own there, removed afterwards) [default: the current one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Time for each work in each round, in seconds [default: 2, with --quick 0.5]
    #[arg(long, value_name = "S", value_parser = positive_seconds)]
    seconds: Option<Duration>,
    /// How often each work is done; medians of the rounds are reported
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Threads in the large store [default: 1000000, with --quick 50000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    threads: Option<u32>,
    /// Short runs and fewer rows: an impression, not a result
    #[arg(long)]
    quick: bool,
    /// Only this work, or those that begin so; may be repeated
    #[arg(long, value_name = "NAME", value_parser = stores::known)]
    only: Vec<String>,
}

#[derive(Args)]
struct BackendArguments {
    /// Measure on the disk of this folder (in a folder of its own there, removed afterwards) [default: the current one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Time for each subject in each round of a work, in seconds [default: 1, with --quick 0.2]
    #[arg(long, value_name = "S", value_parser = positive_seconds)]
    seconds: Option<Duration>,
    /// How often the subjects take turns; medians of the rounds are reported
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Threads in the store from the beginning [default: 10000, with --quick 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(50..=1_000_000))]
    threads: Option<u32>,
    /// Connections to a server, as `pool_size` in a home's configuration
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pool: u32,
    /// Short runs and fewer rows: an impression, not a result
    #[arg(long)]
    quick: bool,
    /// Only this work, or those that begin so; may be repeated
    #[arg(long, value_name = "NAME", value_parser = backend::known)]
    only: Vec<String>,
    /// Where PostgreSQL's programs are [default: the newest in /usr/lib/postgresql, then PATH]
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    programs: Option<PathBuf>,
    /// Measure this server instead of throw-away ones: an empty database, in which the rows of the bench stay
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// Checks a name given with `--only`: one of these, or how some of them begin.
fn begins_one_of<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Result<String, String> {
    let names: Vec<_> = names.collect();
    if names.iter().any(|one| one.starts_with(name)) {
        return Ok(name.to_owned());
    }
    Err(format!("no such work; there are {}", names.join(", ")))
}

fn positive_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if !(0.01..=3600.0).contains(&seconds) {
        return Err("between 0.01 and 3600 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

pub(crate) fn run(arguments: &BenchArguments, output: &Output) -> Result<()> {
    match &arguments.bench {
        Bench::Contention(arguments) => run_contention(arguments, output),
        Bench::Startup(arguments) => run_startup(arguments, output),
        Bench::Growth(arguments) => run_growth(arguments, output),
        Bench::Backfill(arguments) => run_backfill(arguments, output),
        Bench::Stores(arguments) => run_stores(arguments, output),
        Bench::Backend(arguments) => run_backend(arguments, output),
    }
}

fn run_backfill(arguments: &BackfillArguments, output: &Output) -> Result<()> {
    let files = match (arguments.files, arguments.quick, arguments.full) {
        (Some(files), _, _) => files,
        (None, true, _) => 200,
        (None, _, true) => 20_000,
        (None, false, false) => 1_000,
    };
    document("backfill", arguments.dir.as_deref(), arguments.quick, output, |folder, document| {
        let setting =
            backfill::Setting { folder: folder.to_owned(), files: files as usize, rounds: arguments.rounds };
        backfill::run(&setting, document)
    })
}

fn run_stores(arguments: &StoresArguments, output: &Output) -> Result<()> {
    document("stores", arguments.dir.as_deref(), arguments.quick, output, |folder, document| {
        let usual = if arguments.quick { Duration::from_millis(500) } else { Duration::from_secs(2) };
        let setting = stores::Setting {
            folder: folder.to_owned(),
            seconds: arguments.seconds.unwrap_or(usual),
            rounds: arguments.rounds,
            threads: arguments.threads.unwrap_or(if arguments.quick { 50_000 } else { 1_000_000 }),
        };
        stores::run(&setting, &arguments.only, document)
    })
}

fn run_backend(arguments: &BackendArguments, output: &Output) -> Result<()> {
    document("backend", arguments.dir.as_deref(), arguments.quick, output, |folder, document| {
        let usual = Duration::from_millis(if arguments.quick { 200 } else { 1_000 });
        let setting = backend::Setting {
            folder: folder.to_owned(),
            seconds: arguments.seconds.unwrap_or(usual),
            rounds: arguments.rounds,
            threads: arguments.threads.unwrap_or(if arguments.quick { 1_000 } else { 10_000 }),
            pool: arguments.pool,
            programs: arguments.programs.clone(),
            url: arguments.url.clone(),
        };
        backend::run(&setting, &arguments.only, document)
    })
}

fn run_growth(arguments: &GrowthArguments, output: &Output) -> Result<()> {
    document("growth", arguments.dir.as_deref(), arguments.quick, output, |folder, document| {
        let setting = growth::Setting {
            folder: folder.to_owned(),
            seconds: arguments.seconds.unwrap_or(if arguments.quick { 5 } else { 20 }),
            processes: arguments.processes.into(),
            threads: arguments.threads.into(),
        };
        growth::run(&setting, document)
    })
}

fn run_contention(arguments: &ContentionArguments, output: &Output) -> Result<()> {
    document("contention", arguments.dir.as_deref(), arguments.quick, output, |folder, document| {
        let setting = Setting {
            folder: folder.to_owned(),
            seconds: arguments.seconds.unwrap_or(Duration::from_millis(if arguments.quick {
                500
            } else {
                2000
            })),
            rounds: arguments.rounds,
            quick: arguments.quick,
        };
        contention::run(&setting, &arguments.only, document)
    })
}

fn run_startup(arguments: &StartupArguments, output: &Output) -> Result<()> {
    document("startup", arguments.dir.as_deref(), arguments.quick, output, |folder, document| {
        let setting =
            startup::Setting { folder: folder.to_owned(), rounds: arguments.rounds, quick: arguments.quick };
        startup::run(&setting, &arguments.only, document)
    })
}

/// One bench: looks at the machine, measures in a folder of its own, and prints what came out.
fn document(
    bench: &'static str,
    dir: Option<&Path>,
    quick: bool,
    output: &Output,
    measure: impl FnOnce(&Path, &mut report::Document) -> Result<()>,
) -> Result<()> {
    let folder = scratch(dir)?;
    let _removed = signals::remove_at_end(folder.path());
    let machine = machine::Machine::look(folder.path())?;
    let mut document = report::Document::new(bench, machine);
    if let Some(note) = doubt(&document.machine) {
        output::warn(&note);
        document.notes.push(note);
    }
    if quick {
        document.notes.push("a quick run: an impression, not a result".to_owned());
    }
    measure(folder.path(), &mut document)?;
    document.notes.extend(unrest(document.machine.fsync_us, machine::fsync_us(folder.path())?));
    folder.close().context("removing the folder of the measurements")?;
    if output.is_json() { output.document(&document) } else { output.text(&render::tables(&document)) }
}

fn scratch(dir: Option<&Path>) -> Result<tempfile::TempDir> {
    let parent = match dir {
        Some(dir) => dir.to_owned(),
        None => std::env::current_dir().context("finding the current folder")?,
    };
    tempfile::Builder::new()
        .prefix(".rowhouse-bench-")
        .tempdir_in(&parent)
        .map_err(|error| rowhouse::Error::io("create a folder for the measurements", &parent, error).into())
}

fn doubt(machine: &machine::Machine) -> Option<String> {
    if machine.filesystem == "tmpfs" {
        return Some("this folder is in memory (tmpfs): name one on a disk with --dir".to_owned());
    }
    (machine.fsync_us < HONEST_FSYNC_US).then(|| {
        format!(
            "an fsync takes {:.0} µs here: this disk acknowledges before it has written; the targets are meant for {HONEST_FSYNC_US} µs and more",
            machine.fsync_us
        )
    })
}

/// Whether the disk was another one at the end than at the start: then something else used it meanwhile.
fn unrest(before_us: f64, after_us: f64) -> Option<String> {
    (before_us.max(after_us) > UNREST * before_us.min(after_us)).then(|| {
        format!(
            "an fsync took {before_us:.0} µs before and {after_us:.0} µs after: something else uses this disk; compare within a work only"
        )
    })
}
