//! A set in quarantine: the files of one damaged database, and a manifest that says how far their move has come.
//!
//! | state | on the disk | what comes next |
//! |---|---|---|
//! | `moving` | the manifest; of -shm, -wal and main, in this order, some are in the folder | the rest moves |
//! | `moved` | all of them are in the folder, and nothing is at the path | the new database is built, or left to creation |
//! | `built` | the new database lies in the folder as [`BUILT`], durable, or at the path already | it goes to the path |
//! | `done` | | nothing |
//! | `given_up` | somebody put another file at the path meanwhile | nothing; that file counts |
//!
//! Invariants:
//! 1. Each step is durable before the state that says so, and doing it again does no harm. So whoever finds a state that
//!    is not final goes on from there.
//! 2. The main file moves last: until it has moved, the next opener finds it. A log without its main file never stays
//!    behind.
//! 3. What is at the path is never overwritten.
//! 4. Only the holder of the database's init lock moves anything, or reads a state in order to go on.

use std::fs;
use std::io::ErrorKind as Os;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::report::DamageReport;
use super::{Place, rebuild};
use crate::domain::OnDamage;
use crate::error::{Error, ErrorKind, Result};
use crate::home::{self, new_private_folder, private_folder, sync_folder, with_ending};
use crate::sqlite::connect::Spec;

const QUARANTINE: &str = "quarantine";
const MANIFEST: &str = "manifest.json";
/// The new database before it has its name.
const BUILT: &str = "built";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Moving,
    Moved,
    Built,
    Done,
    GivenUp,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    state: State,
    program: String,
    program_version: String,
    /// The main file, to tell it from one that somebody put in its place; `None` when it was missing.
    main: Option<Place>,
    report: DamageReport,
}

pub(super) struct Set {
    folder: PathBuf,
    manifest: Manifest,
}

impl Set {
    /// A new one, with nothing in it but the intent, which is durable.
    ///
    /// # Errors
    /// `ReadOnly`, `Full` or `Io` from the system.
    pub(super) fn begin(spec: &Spec, found: &str) -> Result<Self> {
        let now = jiff::Timestamp::now();
        let all = private_folder(home_of(spec), QUARANTINE)?;
        let name = format!("{}-{}", spec.domain.name(), now.strftime("%Y%m%dT%H%M%SZ"));
        let folder = new_private_folder(&all, &name)?;
        let manifest = Manifest {
            version: 1,
            state: State::Moving,
            program: spec.program.0.clone(),
            program_version: spec.program.1.clone(),
            main: Place::of(&spec.path),
            report: DamageReport {
                database: spec.domain.name().to_owned(),
                found: found.to_owned(),
                at: now.to_string(),
                evidence: folder.clone(),
                action: spec.domain.damage_policy(),
                tables: Vec::new(),
                not_read: Vec::new(),
                log_lost: false,
            },
        };
        let set = Self { folder, manifest };
        set.write()?;
        Ok(set)
    }

    /// One of this database that somebody left undone. The caller holds the init lock.
    pub(super) fn unfinished(spec: &Spec) -> Option<Self> {
        sets(spec).find(|set| !matches!(set.manifest.state, State::Done | State::GivenUp))
    }

    /// True when this file is in the quarantine because it was found damaged, or is just being moved there.
    pub(super) fn holds(spec: &Spec, main: Place) -> bool {
        sets(spec).any(|set| Place::of(&set.file(spec, "")) == Some(main))
    }

    /// Goes on from where it is to the end. `None` when it was given up.
    ///
    /// # Errors
    /// Of the system; of [`rebuild`]; `Busy` while a visit of this process has the files open. Then it stays as far as it
    /// came.
    pub(super) fn carry_out(mut self, spec: &Spec) -> Result<Option<DamageReport>> {
        let moves = self.manifest.state == State::Moving;
        if moves && !self.may_move(spec) {
            return self.give_up();
        }
        if moves && spec.generation.is_visited() {
            return Err(Error::new(
                ErrorKind::Busy,
                "the database is damaged, and set aside when a backup or maintenance of this process has ended",
            )
            .retry_in(Duration::from_secs(1)));
        }
        // What is at the path belongs to others, unless it is about to be moved.
        #[cfg(target_os = "linux")]
        let _still = super::old_writers::Still::hold(
            moves.then(|| with_ending(&spec.path, "-shm")).into_iter().chain([self.file(spec, "-shm")]),
        );
        if moves {
            self.move_all(spec)?;
            self.reach(State::Moved)?;
        }
        if self.manifest.state == State::Moved {
            if spec.path.exists() {
                return self.give_up();
            }
            if self.manifest.report.action == OnDamage::Salvage {
                let (main, log) = (self.file(spec, ""), self.file(spec, "-wal"));
                let built = rebuild::build(spec, &main, &log, &self.folder.join(BUILT))?;
                let report = &mut self.manifest.report;
                (report.tables, report.not_read, report.log_lost) =
                    (built.tables, built.not_read, built.log_lost);
                self.reach(State::Built)?;
            } else {
                self.reach(State::Done)?;
            }
        }
        if self.manifest.state == State::Built {
            let built = self.folder.join(BUILT);
            if built.exists() {
                match home::rename_to_free_name(&built, &spec.path) {
                    Err(error) if error.kind() == Os::AlreadyExists => return self.give_up(),
                    renamed => renamed.map_err(|error| io(&spec.path, error))?,
                }
                sync_folder(home_of(spec))?;
            }
            self.reach(State::Done)?;
        }
        spec.bound_quarantine(&self.folder);
        Ok((self.manifest.state == State::Done).then_some(self.manifest.report))
    }

    /// The file at the path is the one that was found damaged, or has moved already.
    fn may_move(&self, spec: &Spec) -> bool {
        let at_path = Place::of(&spec.path);
        at_path == self.manifest.main || (at_path.is_none() && self.file(spec, "").exists())
    }

    fn move_all(&self, spec: &Spec) -> Result<()> {
        for ending in ["-shm", "-wal", ""] {
            let from = with_ending(&spec.path, ending);
            let mut to = self.file(spec, ending);
            loop {
                match home::rename_to_free_name(&from, &to) {
                    // Somebody opened the database between two tries of moving it, and made a new index.
                    Err(error) if error.kind() == Os::AlreadyExists => to = with_ending(&to, ".later"),
                    Err(error) if error.kind() == Os::NotFound => break,
                    moved => {
                        moved.map_err(|error| io(&from, error))?;
                        break;
                    }
                }
            }
        }
        sync_folder(&self.folder)?;
        sync_folder(home_of(spec))
    }

    fn give_up(mut self) -> Result<Option<DamageReport>> {
        self.reach(State::GivenUp)?;
        Ok(None)
    }

    fn file(&self, spec: &Spec, ending: &str) -> PathBuf {
        let name = with_ending(&spec.path, ending);
        self.folder.join(name.file_name().unwrap_or_default())
    }

    fn reach(&mut self, state: State) -> Result<()> {
        self.manifest.state = state;
        self.write()
    }

    fn write(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.manifest).expect("texts and numbers are JSON");
        home::write_atomically(&self.folder.join(MANIFEST), &text)
    }
}

/// Those of a database. Other folders in the quarantine have no such manifest.
fn sets(spec: &Spec) -> impl Iterator<Item = Set> {
    let name = spec.domain.name().to_owned();
    let all = fs::read_dir(home_of(spec).join(QUARANTINE)).into_iter().flatten().flatten();
    all.filter_map(move |entry| {
        let folder = entry.path();
        let begins = entry.file_name().to_str().is_some_and(|found| found.starts_with(&format!("{name}-")));
        let text = begins.then(|| home::read_file(folder.join(MANIFEST)).ok()).flatten()?;
        let mut manifest: Manifest = serde_json::from_slice(&text).ok()?;
        // The home may have been moved.
        manifest.report.evidence.clone_from(&folder);
        (manifest.report.database == name).then_some(Set { folder, manifest })
    })
}

fn home_of(spec: &Spec) -> &Path {
    spec.path.parent().unwrap_or(&spec.path)
}

fn io(path: &Path, error: std::io::Error) -> Error {
    Error::io("move the database into quarantine", path, error)
}
