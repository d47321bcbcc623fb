//! A process that kills itself at a step on the way of a transcript, or of its row: before it, or after half of a write.

#![allow(dead_code)] // each test file uses the part it needs
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rowhouse::rollout::faults::{Outcome, Step, watch};

use crate::processes::{Child, say};

/// Twice the number of the step to die before; one more: after half of it, when it is a write.
static DIES_AT: AtomicUsize = AtomicUsize::new(usize::MAX);
static SEEN: AtomicUsize = AtomicUsize::new(0);

/// In the child: dies there.
pub(crate) fn at(step: &str) {
    DIES_AT.store(step.parse().expect("a number"), Ordering::Relaxed);
    watch(|step| {
        let seen = SEEN.fetch_add(1, Ordering::Relaxed);
        let dies_at = DIES_AT.load(Ordering::Relaxed);
        match step {
            Step::Write { path, at, bytes } if dies_at == 2 * seen + 1 => {
                let file = fs::OpenOptions::new().write(true).open(path).expect("opens");
                file.write_all_at(&bytes[..bytes.len() / 2], *at).expect("half of it");
                die();
            }
            _ if dies_at == 2 * seen => {
                if matches!(step, Step::Write { .. }) {
                    say("before a write");
                }
                die();
            }
            Step::Sync(path) => {
                let length = fs::metadata(path).map_or(0, |found| found.len());
                say(&format!("synced {length} {}", path.display()));
            }
            Step::Create(path) => say(&format!("synced 0 {}", path.display())),
            Step::Rename { from, to } => say(&format!("renamed {} {}", from.display(), to.display())),
            _ => {}
        }
        Outcome::Goes
    });
}

/// As a crash does.
fn die() -> ! {
    // SAFETY: ends this process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    unreachable!("it was killed")
}

/// What a child said before its death. Nothing in a path of these tests has a space in it.
pub(crate) struct Death {
    /// It was not killed: it was through.
    pub(crate) came_through: bool,
    pub(crate) lines: Vec<String>,
    before_a_write: bool,
}

impl Death {
    /// Runs a child to a step.
    pub(crate) fn of(role: &str, arguments: &[&str]) -> Self {
        let (lines, status) = Child::start(role, arguments).end();
        let came_through = lines.iter().any(|line| line == "done");
        assert!(came_through || status.signal() == Some(libc::SIGKILL), "{role}: {status} {lines:?}");
        let before_a_write = lines.iter().any(|line| line == "before a write");
        Self { came_through, lines, before_a_write }
    }

    /// The step to die at after this one.
    pub(crate) fn next(&self, dies_at: usize) -> usize {
        dies_at + if self.before_a_write { 1 } else { 2 - dies_at % 2 }
    }

    /// How many items were flushed.
    pub(crate) fn flushed(&self) -> Option<usize> {
        let told = self.lines.iter().filter_map(|line| line.strip_prefix("flushed "));
        told.map(|items| items.parse().expect("a number")).next_back()
    }

    pub(crate) fn said(&self, word: &str) -> bool {
        self.lines.iter().any(|line| line == word)
    }

    /// Leaves of each file what is on the disk for sure, as a power cut may. `from` is where the child had it, `to` where it
    /// is now.
    pub(crate) fn cut_the_power(&self, from: &Path, to: &Path) {
        for (path, length) in self.synced() {
            let path = to.join(path.strip_prefix(from).expect("below"));
            let found = fs::metadata(&path).ok().filter(fs::Metadata::is_file);
            if found.is_some_and(|found| found.len() > length) {
                let file = fs::OpenOptions::new().write(true).open(&path).expect("opens");
                file.set_len(length).expect("cut");
            }
        }
    }

    fn synced(&self) -> BTreeMap<PathBuf, u64> {
        let mut synced = BTreeMap::new();
        for line in &self.lines {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["synced", length, path] => {
                    synced.insert(PathBuf::from(path), length.parse().expect("a number"));
                }
                ["renamed", from, to] => {
                    if let Some(length) = synced.remove(Path::new(from)) {
                        synced.insert(PathBuf::from(to), length);
                    }
                }
                _ => {}
            }
        }
        synced
    }
}
