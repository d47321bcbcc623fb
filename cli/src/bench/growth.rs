//! `rowhouse bench growth`: what becomes of the logs' budgets in a storm of events.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::report::{Document, Growth, Row, Target};
use super::workloads::Synchronous;
use super::workloads::storm::Second;
use crate::children;
use crate::output;

const MIB: f64 = 1_048_576.0;
/// What the built-in logs may take on the disk, and of that the write-ahead log.
const MOST_BYTES: f64 = 256.0 * MIB;
const MOST_LOG: f64 = 64.0 * MIB;
/// What may be written for them in a day, of that a quarter at once.
const RATE_A_DAY: f64 = 4096.0 * MIB;
const DAY: f64 = 86_400.0;

/// How much, how long and where.
pub(super) struct Setting {
    pub(super) folder: PathBuf,
    pub(super) seconds: u64,
    pub(super) processes: usize,
    pub(super) threads: usize,
}

/// The most that was seen of each file in one second.
#[derive(Clone, Copy, Default)]
struct Sizes {
    file: u64,
    log: u64,
    all: u64,
}

/// Runs the storm and fills the document.
pub(super) fn run(setting: &Setting, document: &mut Document) -> Result<()> {
    let home = setting.folder.join("home");
    drop(rowhouse::Runtime::open(rowhouse::Home::at(&home))?);
    let progress = output::progress(setting.seconds);
    progress.set_message("trace_storm");
    let mut sizes: Vec<Sizes> = Vec::new();
    let began = Instant::now();
    let time = Duration::from_secs(setting.seconds);
    let parts = children::storm(setting.processes, &home, setting.threads, time, || {
        let second = began.elapsed().as_secs();
        progress.set_position(second.min(setting.seconds));
        sizes.resize(usize::try_from(second + 1)?, Sizes::default());
        if let Some(most) = sizes.last_mut() {
            most.look(&home.join("logs.sqlite"));
        }
        Ok(())
    })?;
    progress.finish_and_clear();
    for (at, now) in by_second(&parts).into_iter().enumerate() {
        let seen = sizes.get(at).copied().unwrap_or_default();
        document.rows.push(Row {
            callers: Some(setting.threads),
            processes: Some(setting.processes),
            synchronous: Some(Synchronous::Normal.as_str()),
            ops_per_s: now.stored as f64,
            wal_max_bytes: Some(seen.log),
            growth: Some(Growth {
                second: at + 1,
                written_bytes: now.written,
                file_max_bytes: seen.file,
                all_max_bytes: seen.all,
                shed: now.shed,
            }),
            rounds: 1,
            work: "trace_storm",
            subject: "rowhouse",
            ..Row::default()
        });
    }
    targets(setting, &sizes, &parts, document);
    Ok(())
}

impl Sizes {
    /// Asked by name: a descriptor of our own on a database would cost its owner the locks.
    fn look(&mut self, file: &Path) {
        let length = |ending: &str| {
            let mut name = file.as_os_str().to_owned();
            name.push(ending);
            std::fs::metadata(name).map_or(0, |found| found.len())
        };
        let (file, log) = (length(""), length("-wal"));
        self.file = self.file.max(file);
        self.log = self.log.max(log);
        self.all = self.all.max(file + log + length("-shm"));
    }
}

/// What all processes did in each second.
fn by_second(parts: &[Vec<Second>]) -> Vec<Second> {
    let mut all = vec![Second::default(); parts.iter().map(Vec::len).max().unwrap_or(0)];
    for part in parts {
        for (sum, second) in all.iter_mut().zip(part) {
            sum.stored += second.stored;
            sum.shed += second.shed;
            sum.written += second.written;
        }
    }
    all
}

fn targets(setting: &Setting, sizes: &[Sizes], parts: &[Vec<Second>], document: &mut Document) {
    let most = |of: fn(&Sizes) -> u64| sizes.iter().map(of).max().unwrap_or(0) as f64 / MIB;
    let written: u64 = parts.iter().flatten().map(|second| second.written).sum();
    let may_write = RATE_A_DAY / 4.0 + RATE_A_DAY / DAY * setting.seconds as f64;
    let mib = "MiB";
    document.targets.extend([
        Target::at_most("growth_bytes", most(|sizes| sizes.all), MOST_BYTES / MIB, mib),
        Target::at_most("growth_log", most(|sizes| sizes.log), MOST_LOG / MIB, mib),
    ]);
    if written == 0 {
        document.notes.push("the kernel counts no bytes written here: a file system in memory".to_owned());
    } else {
        document.targets.push(Target::at_most("growth_written", written as f64 / MIB, may_write / MIB, mib));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_of_all_processes_are_added_up() {
        let second = |stored| Second { stored, shed: 1, written: 10 };
        let sums = by_second(&[vec![second(1), second(2)], vec![second(4)]]);
        assert_eq!(sums.iter().map(|sum| sum.stored).collect::<Vec<_>>(), [5, 2]);
        assert_eq!((sums[0].shed, sums[1].written), (2, 10));
    }
}
