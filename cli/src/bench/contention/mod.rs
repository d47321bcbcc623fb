//! `rowhouse bench contention`: which works there are, and one run over them.

mod bulk;
mod callers;
mod processes;
mod reads;
mod wal;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::report::Document;
use super::workloads::Synchronous::{self, Full, Normal};
use super::workloads::callers::Measured;
use super::workloads::subjects::Kind;
use super::workloads::verify;
use crate::output;

/// The domain that is written to.
const DOMAIN: &str = "bench";

/// How long and where.
pub(super) struct Setting {
    pub(super) folder: PathBuf,
    /// For each subject in each round.
    pub(super) seconds: Duration,
    pub(super) rounds: u32,
    pub(super) quick: bool,
}

impl Setting {
    /// A folder of its own for each subject, so that no file of one lies in the way of another.
    fn folder(&self, work: &str, subject: &str) -> PathBuf {
        self.folder.join(work).join(subject)
    }

    /// Long enough to bring the log to the size it then keeps: later commits overwrite instead of extending it.
    fn warm_up(&self) -> Duration {
        (self.seconds / 2).min(Duration::from_millis(500))
    }
}

/// One work: its name, the targets it decides, and what it does.
struct Work {
    name: &'static str,
    targets: &'static [&'static str],
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Callers(usize, Synchronous),
    Processes { processes: usize, callers: usize },
    Bulk,
    ReadPoint,
    ReadUnderWrite,
    Wal,
}

const fn work(name: &'static str, targets: &'static [&'static str], what: What) -> Work {
    Work { name, targets, what }
}

#[rustfmt::skip]
const WORKS: &[Work] = &[
    work("callers_1_full", &["callers_1_full"], What::Callers(1, Full)),
    work("callers_1_normal", &["callers_1_normal"], What::Callers(1, Normal)),
    work("callers_8_full", &[], What::Callers(8, Full)),
    work("callers_8_normal", &[], What::Callers(8, Normal)),
    work("callers_64_full", &["callers_64_full", "callers_64_full_wait"], What::Callers(64, Full)),
    work("callers_64_normal", &["callers_64_normal"], What::Callers(64, Normal)),
    work("processes_2x1_full", &[], What::Processes { processes: 2, callers: 1 }),
    work("processes_8x8_full", &["processes_8x8_full", "processes_8x8_full_wait"], What::Processes { processes: 8, callers: 8 }),
    work("processes_32x1_full", &["processes_32_share", "processes_32_wait"], What::Processes { processes: 32, callers: 1 }),
    work("bulk_submit", &["bulk_submit"], What::Bulk),
    work("read_point", &["read_point"], What::ReadPoint),
    work("read_under_write", &["read_under_write", "read_under_write_p99"], What::ReadUnderWrite),
    work("wal_bound", &["wal_bound"], What::Wal),
];

impl Work {
    fn is_named(&self, name: &str) -> bool {
        self.name.starts_with(name) || self.targets.contains(&name)
    }

    fn is_wanted(&self, only: &[String]) -> bool {
        only.is_empty() || only.iter().any(|name| self.is_named(name))
    }
}

/// Checks a name given with `--only`.
pub(super) fn known(name: &str) -> Result<String, String> {
    if WORKS.iter().any(|work| work.is_named(name)) {
        return Ok(name.to_owned());
    }
    let names: Vec<_> = WORKS.iter().map(|work| work.name).collect();
    Err(format!("no such work; there are {}", names.join(", ")))
}

/// Runs the works asked for and fills the document.
pub(super) fn run(setting: &Setting, only: &[String], document: &mut Document) -> Result<()> {
    let wanted: Vec<_> = WORKS.iter().filter(|work| work.is_wanted(only)).collect();
    let progress = output::progress(wanted.len() as u64);
    for work in wanted {
        progress.set_message(work.name);
        let run = Run { setting, name: work.name };
        let found = match work.what {
            What::Callers(callers, synchronous) => callers::run(&run, callers, synchronous),
            What::Processes { processes, callers } => processes::run(&run, processes, callers),
            What::Bulk => bulk::run(&run),
            What::ReadPoint => reads::point(&run),
            What::ReadUnderWrite => reads::under_write(&run),
            What::Wal => wal::run(&run),
        };
        let found = found.with_context(|| format!("while measuring {}", work.name))?;
        document.rows.extend(found.rows);
        document.targets.extend(found.targets);
        remove(&setting.folder.join(work.name))?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(())
}

/// Gives the disk back what a work used.
fn remove(folder: &std::path::Path) -> Result<()> {
    std::fs::remove_dir_all(folder)
        .map_err(|error| rowhouse::Error::io("remove a measurement's files", folder, error).into())
}

/// One work under way.
struct Run<'r> {
    setting: &'r Setting,
    name: &'static str,
}

/// What a work adds to the document.
#[derive(Default)]
struct Found {
    rows: Vec<super::report::Row>,
    targets: Vec<super::report::Target>,
}

/// One subject and what its rounds saw.
struct Series {
    kind: Kind,
    rounds: Vec<Measured>,
}

impl Series {
    fn new(kind: Kind) -> Self {
        Self { kind, rounds: Vec::new() }
    }

    /// The rounds, when each was cut into this many turns.
    fn rounds_of(&self, turns: usize) -> Vec<Measured> {
        self.rounds.chunks(turns).map(Measured::in_sequence).collect()
    }
}

/// Lets the subjects take turns: every round all of them, every other round in reverse, so that a disk that gets
/// slower or a neighbour that comes and goes meets all alike.
fn interleave(
    rounds: u32,
    series: &mut [Series],
    mut measure: impl FnMut(usize, Kind, u32) -> Result<Measured>,
) -> Result<()> {
    for round in 0..rounds {
        for place in 0..series.len() {
            let index = if round % 2 == 0 { place } else { series.len() - 1 - place };
            let measured = measure(index, series[index].kind, round)?;
            series[index].rounds.push(measured);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_one_work_and_unknown_names_are_refused() {
        let mut names: Vec<_> = WORKS.iter().flat_map(|work| work.targets).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(known("callers_64_full_wait").is_ok());
        assert!(known("callers").is_ok());
        assert!(known("nothing").expect_err("unknown").contains("bulk_submit"));
    }

    #[test]
    fn subjects_take_turns_in_alternating_order() {
        let mut series = vec![Series::new(Kind::Rowhouse), Series::new(Kind::Pool)];
        let mut order = Vec::new();
        interleave(3, &mut series, |index, _, round| {
            order.push((round, index));
            Ok(Measured::default())
        })
        .expect("nothing fails");
        assert_eq!(order, [(0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (2, 1)]);
    }
}
