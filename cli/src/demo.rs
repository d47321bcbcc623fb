//! `rowhouse demo`: four processes write to one database of a throw-away home, and what one sees afterwards.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use rowhouse::stores::backfill::Reread;
use rowhouse::{DatabaseInfo, Error, Home, Runtime, RuntimeDbRegistry, ThreadQuery};
use serde::Serialize;

use crate::bench::workloads::Synchronous;
use crate::bench::workloads::callers::Measured;
use crate::bench::workloads::subjects::Kind;
use crate::bench::workloads::verify;
use crate::bench::{count, micros};
use crate::children::{self, Work};
use crate::output::{self, HEADING, Output};
use crate::{signals, status, threads};

const DOMAIN: &str = "demo";
const PROCESSES: usize = 4;
const CALLERS: usize = 4;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  rowhouse demo\n  rowhouse demo --seconds 10 --json | jq .writing.commits_per_s\n\nNothing is left behind: the home is a temporary folder, removed at the end."
)]
pub(crate) struct DemoArguments {
    /// How long the processes write
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

#[derive(Serialize)]
struct Document {
    threads: Vec<threads::Row>,
    databases: Vec<DatabaseInfo>,
    writing: Writing,
}

/// How the processes fared together.
#[derive(Serialize)]
struct Writing {
    processes: usize,
    callers: usize,
    commits: u64,
    commits_per_s: f64,
    longest_wait_us: f64,
    slowest_over_fastest: f64,
}

pub(crate) fn run(arguments: &DemoArguments, output: &Output) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("rowhouse-demo-")
        .tempdir()
        .map_err(|error| Error::io("create a temporary home", &std::env::temp_dir(), error))?;
    let _removed = signals::remove_at_end(folder.path());
    // Nothing here is long but the wait for the processes, which sees a signal.
    let _ended_first = signals::clear_up_at_end();
    let home = Home::at(folder.path().join("home"));

    output::note(&format!("{PROCESSES} processes of {CALLERS} threads write to one database …"));
    let writing = write_together(&home, Duration::from_secs(arguments.seconds))?;
    let listed = sample_threads(&home, &folder.path().join("transcripts"))?;
    let databases = RuntimeDbRegistry::new(&home).list()?;
    folder.close()?;

    if output.is_json() {
        return output.document(&Document { threads: listed, databases, writing });
    }
    let mut text = String::new();
    if !listed.is_empty() {
        text += &heading("Threads", "rowhouse threads list");
        text += &threads::table(&listed, threads::Sort::Recency, output::width());
        text += "\n";
    }
    text += &heading("Databases", "rowhouse status");
    text += &status::table(&databases);
    text += "\n";
    text += &verdict(&writing);
    output.text(&text)
}

fn heading(what: &str, command: &str) -> String {
    format!("{HEADING}{what}{HEADING:#} ({command})\n")
}

fn write_together(home: &Home, time: Duration) -> Result<Writing> {
    let work = Work {
        subject: Kind::Rowhouse,
        folder: home.path().to_owned(),
        domain: DOMAIN.to_owned(),
        synchronous: Synchronous::Full,
        callers: CALLERS,
        time,
    };
    drop(work.subject.open(&work.folder, DOMAIN, work.synchronous)?);
    let all = Measured::together(&children::insert(PROCESSES, &work, || Ok(()))?);
    verify(&work.subject.file(&work.folder, DOMAIN), all.ops)?;
    Ok(Writing {
        processes: PROCESSES,
        callers: PROCESSES * CALLERS,
        commits: all.ops,
        commits_per_s: all.ops_per_s().round(),
        longest_wait_us: all.latency.max_us().round(),
        slowest_over_fastest: (all.share() * 1000.0).round() / 1000.0,
    })
}

fn verdict(writing: &Writing) -> String {
    format!(
        "{HEADING}{} durable commits/s{HEADING:#} from {} threads in {} processes; nobody waited longer than {}; the slowest process got {:.0} % of the fastest. All {} rows are there.\n",
        count(writing.commits_per_s),
        writing.callers,
        writing.processes,
        micros(writing.longest_wait_us),
        writing.slowest_over_fastest * 100.0,
        count(writing.commits as f64),
    )
}

/// Writes the sample transcripts to a folder and imports them.
fn sample_threads(home: &Home, folder: &Path) -> rowhouse::Result<Vec<threads::Row>> {
    for (name, text) in SAMPLES {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|error| Error::io("create the folder", parent, error))?;
        #[expect(clippy::disallowed_methods, reason = "a transcript in a folder of our own")]
        std::fs::write(&path, text).map_err(|error| Error::io("write a sample", &path, error))?;
    }
    let runtime = Runtime::open(home.clone())?;
    runtime.backfill().run(folder, Reread::Changed, &mut |_| {})?;
    Ok(threads::list(home, &ThreadQuery::recent())?.threads)
}

macro_rules! samples {
    ($($name:literal),* $(,)?) => {
        /// The sample transcripts, by their path below the folder.
        const SAMPLES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../examples/transcripts/", $name)))),*];
    };
}
samples! {
    "archived_sessions/rollout-2026-01-18T11-05-30-019bd0c3-f3ba-7d65-9072-e1a84b5ce006.jsonl",
    "sessions/2026/03/02/rollout-2026-03-02T09-14-05-019cadf1-7a5e-7b04-8f21-5d0c9a41e001.jsonl",
    "sessions/2026/03/02/rollout-2026-03-02T15-40-12-019caf52-d0c4-7310-a6be-2f7718c3e002.jsonl",
    "sessions/2026/03/05/rollout-2026-03-05T20-02-44-019cbfb5-1e37-7c92-9d40-8a53e6f0e003.jsonl",
    "sessions/2026/03/09/rollout-2026-03-09T07-30-00-019cd19f-aa40-7e58-b1d3-64c0f29be004.jsonl",
    "sessions/2026/03/09/rollout-2026-03-09T07-34-10-019cd1a3-7c94-7a01-8e6f-b95d1372e005.jsonl",
}
