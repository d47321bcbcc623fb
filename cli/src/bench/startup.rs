//! `rowhouse bench startup`: how long the four built-in databases of a home take to open.
//!
//! Warm is a home that is settled, cold one that does not exist yet. A held lock is another process inside a write
//! transaction on each of the four; a home that does not exist can only be held as far as it does, so there it is the
//! logs alone. Every sample opens what nobody of its process has open, and closes it again, which is not measured.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::report::{Document, Row, Target, p50_us, ratio};
use super::workloads::callers::Measured;
use super::workloads::opens::{DOMAINS, Opener, create_logs};
use crate::children;
use crate::output;

/// Opens of each subject in a round, where one process opens at a time.
const OPENS: usize = 100;
const OPENS_QUICK: usize = 20;
/// The same, where each is a process of its own.
const PROCESSES_IN_A_ROW: usize = 20;
const PROCESSES_IN_A_ROW_QUICK: usize = 4;
const MANY: usize = 32;

/// How much and where.
pub(super) struct Setting {
    pub(super) folder: PathBuf,
    pub(super) rounds: u32,
    pub(super) quick: bool,
}

struct Work {
    name: &'static str,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    /// Both openers in turns, in this process.
    InTurns {
        beside_another: bool,
    },
    Processes {
        at_once: usize,
        cold: bool,
        held: bool,
    },
}

const fn processes(name: &'static str, at_once: usize, cold: bool, held: bool) -> Work {
    Work { name, what: What::Processes { at_once, cold, held } }
}

#[rustfmt::skip]
const WORKS: &[Work] = &[
    Work { name: "open_warm", what: What::InTurns { beside_another: false } },
    Work { name: "open_warm_beside", what: What::InTurns { beside_another: true } },
    processes("warm_1", 1, false, false),
    processes("warm_1_held", 1, false, true),
    processes("warm_32", MANY, false, false),
    processes("warm_32_held", MANY, false, true),
    processes("cold_1", 1, true, false),
    processes("cold_1_held", 1, true, true),
    processes("cold_32", MANY, true, false),
    processes("cold_32_held", MANY, true, true),
];

/// Checks a name given with `--only`.
pub(super) fn known(name: &str) -> Result<String, String> {
    super::begins_one_of(name, WORKS.iter().map(|work| work.name))
}

/// Runs the works asked for and fills the document.
pub(super) fn run(setting: &Setting, only: &[String], document: &mut Document) -> Result<()> {
    let is_wanted = |work: &&Work| only.is_empty() || only.iter().any(|name| work.name.starts_with(name));
    let wanted: Vec<_> = WORKS.iter().filter(is_wanted).collect();
    let progress = output::progress(wanted.len() as u64);
    for work in wanted {
        progress.set_message(work.name);
        let doing = || format!("while measuring {}", work.name);
        match work.what {
            What::InTurns { beside_another } => {
                in_turns(setting, work.name, beside_another, document).with_context(doing)?;
            }
            What::Processes { at_once, cold, held } => {
                for opener in [Opener::Rowhouse, Opener::Plain] {
                    // By hand nobody creates four databases in 32 processes at once: that fails.
                    if cold && opener == Opener::Plain {
                        continue;
                    }
                    let rounds = (0..setting.rounds)
                        .map(|_| round(setting, opener, at_once, cold, held))
                        .collect::<Result<Vec<_>>>()
                        .with_context(doing)?;
                    document.rows.push(row(work.name, opener, at_once, &rounds));
                }
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(())
}

fn row(work: &'static str, opener: Opener, processes: usize, rounds: &[Measured]) -> Row {
    Row {
        processes: Some(processes),
        // How evenly the processes were served says nothing where each opens once.
        slowest_over_fastest: None,
        ..Row::of(work, opener.as_str(), rounds)
    }
}

/// Both open a home of their own in this process, one open each in turns; who begins alternates. Alone, the first
/// connection finds the log's index to be built anew, and a plain one also its files, which it removed when it closed.
/// Beside another process that has the home open, neither does: the smallest that opening costs.
fn in_turns(
    setting: &Setting,
    work: &'static str,
    beside_another: bool,
    document: &mut Document,
) -> Result<()> {
    const OPENERS: [Opener; 2] = [Opener::Rowhouse, Opener::Plain];
    let opens = if setting.quick { OPENS_QUICK } else { OPENS };
    let homes = OPENERS.map(|opener| Home::create(&setting.folder, opener.as_str()));
    let [ours, theirs] = homes;
    let homes = [ours?, theirs?];
    let _others = beside_another
        .then(|| homes.each_ref().into_iter().map(|home| children::keep(&home.0)).collect::<Result<Vec<_>>>())
        .transpose()?;
    let mut rounds: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..setting.rounds {
        let mut took: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
        for open in 0..2 * opens {
            // 0 1 1 0 0 1 1 0: each is first as often as second.
            let place = usize::from(open % 4 == 1 || open % 4 == 2);
            took[place].push(Measured::once(OPENERS[place].time(&homes[place].0)?));
        }
        for (rounds, took) in rounds.iter_mut().zip(took) {
            rounds.push(Measured::in_sequence(&took));
        }
    }
    for (opener, rounds) in OPENERS.into_iter().zip(&rounds) {
        document.rows.push(row(work, opener, 1, rounds));
    }
    let times = ratio(&rounds[0], &rounds[1], p50_us);
    if beside_another {
        document.notes.push(format!("beside another process that has the home open: {times:.2} times plain"));
    } else {
        document.targets.push(Target::at_most("open_warm", times, 2.0, "x"));
    }
    Ok(())
}

/// Processes that open one home, each once: all at once, or one after the other.
fn round(setting: &Setting, opener: Opener, at_once: usize, cold: bool, held: bool) -> Result<Measured> {
    let repeats = match (at_once, setting.quick) {
        (1, false) => PROCESSES_IN_A_ROW,
        (1, true) => PROCESSES_IN_A_ROW_QUICK,
        _ => 1,
    };
    let all = DOMAINS.map(|(name, _)| name);
    if !cold {
        let home = Home::create(&setting.folder, "warm")?;
        let _holder = held.then(|| children::hold(&home.0, &all)).transpose()?;
        return opens(repeats, || children::open(at_once, opener, &home.0));
    }
    opens(repeats, || {
        let home = Home(setting.folder.join("cold"));
        if held {
            create_logs(&home.0)?;
        }
        let _holder = held.then(|| children::hold(&home.0, &["logs"])).transpose()?;
        children::open(at_once, opener, &home.0)
    })
}

fn opens(repeats: usize, mut open: impl FnMut() -> Result<Vec<Measured>>) -> Result<Measured> {
    let mut all = Vec::new();
    for _ in 0..repeats {
        all.extend(open()?);
    }
    Ok(Measured::in_sequence(&all))
}

/// A home's folder, removed again when it is dropped.
struct Home(PathBuf);

impl Home {
    /// A settled one.
    fn create(folder: &Path, name: &str) -> Result<Self> {
        let home = Self(folder.join(name));
        Opener::Rowhouse.time(&home.0)?;
        Ok(home)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // What is left goes with the folder of all measurements.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn works_are_known_by_their_beginning() {
        assert!(known("warm_32").is_ok());
        assert!(known("nothing").expect_err("unknown").contains("cold_32_held"));
    }
}
