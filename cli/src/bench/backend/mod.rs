//! `rowhouse bench backend`: the same work on a file, on a PostgreSQL server, and on one whose synchronous standby has to
//! acknowledge every commit, by turns.
//!
//! The servers are throw-away ones beside the file, with the settings that PostgreSQL comes with: same disk, same
//! processors. So what is compared is what an engine costs, not what another machine would add by its distance.

mod subjects;
mod throw_away;
mod work;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::report::{Document, Row, ratio, rounded};
use super::workloads::callers::Measured;
use crate::output;
use subjects::Subject;
use work::{WORKS, Work};

/// How much, how long and where.
pub(super) struct Setting {
    pub(super) folder: PathBuf,
    /// For each subject in each round of a work.
    pub(super) seconds: Duration,
    pub(super) rounds: u32,
    /// Threads that are there from the beginning.
    pub(super) threads: u32,
    /// Connections of the process to a server.
    pub(super) pool: u32,
    /// Where the server's programs are, instead of the usual places.
    pub(super) programs: Option<PathBuf>,
    /// A server to be measured instead of throw-away ones.
    pub(super) url: Option<String>,
}

/// Checks a name given with `--only`.
pub(super) fn known(name: &str) -> Result<String, String> {
    super::begins_one_of(name, WORKS.iter().map(|work| work.name))
}

/// Runs the works asked for and fills the document.
pub(super) fn run(setting: &Setting, only: &[String], document: &mut Document) -> Result<()> {
    let is_wanted = |work: &&Work| only.is_empty() || only.iter().any(|name| work.name.starts_with(name));
    let wanted: Vec<_> = WORKS.iter().filter(is_wanted).collect();
    let progress = output::progress(wanted.len() as u64 + 1);
    progress.set_message("servers");
    let subjects = subjects::open(setting)?;
    for subject in &subjects {
        work::fill(&subject.runtime, setting.threads)
            .with_context(|| format!("while filling {}", subject.name))?;
    }
    progress.inc(1);
    for work in wanted {
        progress.set_message(work.name);
        measure(setting, work, &subjects, document)?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    for subject in &subjects {
        work::verify(&subject.runtime, &subject.counted)
            .with_context(|| format!("after measuring {}", subject.name))?;
        document.notes.extend(subject.note.clone());
    }
    Ok(())
}

fn measure(setting: &Setting, work: &Work, subjects: &[Subject], document: &mut Document) -> Result<()> {
    let mut rounds: Vec<Vec<Measured>> = vec![Vec::new(); subjects.len()];
    for _ in 0..setting.rounds {
        for (subject, rounds) in subjects.iter().zip(&mut rounds) {
            let measured =
                work::run(work, &subject.runtime, &subject.counted, setting.threads, setting.seconds);
            rounds.push(
                measured.with_context(|| format!("while measuring {} on {}", work.name, subject.name))?,
            );
        }
    }
    for (index, (subject, its)) in subjects.iter().zip(&rounds).enumerate() {
        document.rows.push(Row {
            callers: Some(work.callers),
            processes: Some(1),
            // The first one is the file.
            over_file: (index > 0).then(|| rounded(ratio(its, &rounds[0], Measured::ops_per_s))),
            ..Row::of(work.name, subject.name, its)
        });
    }
    Ok(())
}
