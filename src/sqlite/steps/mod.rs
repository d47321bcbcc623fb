//! Steps: rewrites of data that are too long for a migration, done in pieces after the database is ready.
//!
//! | file | what |
//! |---|---|
//! | [`declare`] | what a program says of a step |
//! | [`record`] | how far it came: the table `rowhouse_steps` |
//! | [`pace`] | how big a piece is, and when it comes |
//! | [`work`] | one piece, and whether it may be done now |
//! | [`runner`] | the thread |
//!
//! Invariants:
//! 1. A piece and its watermark are one commit, and a piece reads the watermark in its own transaction: each counts
//!    exactly once, whoever is killed, and also if two processes did the same step.
//! 2. One process at a time does the steps of a database: the one that has the lock file `<name>.steps`. The lock ends
//!    with the process, and another one goes on within a second.
//! 3. Opening waits for no step. A domain without steps costs a test of an empty list, one whose steps are done one read
//!    on the connection that is there, and no thread.
//! 4. Pieces are jobs of the background lane. None begins while the write-ahead log is long and not worked off, or while a
//!    bound is reached that its writes would add to. A full database is no reason to wait: a step may make room.
//! 5. A step runs on the schema that its program knows, and no newer one: an older program leaves it to the newer.
//! 6. What goes wrong in a step is in nobody's way: it is tried again, later and smaller, and told.
//! 7. Steps run in their order on each file: when the database has another file, the first one that is not done there is
//!    next, and a piece that was meant for the file before does nothing.
//!
//! Tests: in the files; `tests/m5_steps.rs`.

mod declare;
mod pace;
mod record;
mod runner;
mod work;

use std::collections::BTreeMap;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use rusqlite::Connection;

pub(super) use declare::validate;
pub use declare::{Piece, Progress, Step, Watermark};
use record::Record;
pub(crate) use runner::Runner;

use super::shared::{Shared, warn};
use crate::domain::Domain;
use crate::error::{Error, Result};
use crate::sync::{Arc, Ordering};

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Begun, and not done. Somebody works at it while a program that declares it has the database open.
    Running,
    /// Its last tries failed, or it waits for room on the disk: see [`StepStatus::trouble`]. It is tried again.
    Waiting,
    /// Every row was handled.
    Done,
}

/// A step of a database, as its record says: also one that another process works at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct StepStatus {
    /// Its name.
    pub name: String,
    /// How far it is.
    pub state: StepState,
    /// Rows that were handled.
    pub rows: u64,
    /// Rows that there are to handle, as estimated before the first piece.
    pub total: Option<u64>,
    /// Of the total, in percent, and below 100 until it is done; `None` without a total.
    pub percent: Option<u8>,
    /// When it was begun, in RFC 3339.
    pub started_at: Option<String>,
    /// When its last piece was done, in RFC 3339.
    pub finished_at: Option<String>,
    /// Why it does not go on.
    pub trouble: Option<String>,
}

impl StepStatus {
    fn pending(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: StepState::Pending,
            rows: 0,
            total: None,
            percent: None,
            started_at: None,
            finished_at: None,
            trouble: None,
        }
    }

    fn of(record: Record) -> Self {
        let Record { name, rows, total, started_at, finished_at, trouble, .. } = record;
        let state = match (&finished_at, &trouble) {
            (Some(_), _) => StepState::Done,
            (None, Some(_)) => StepState::Waiting,
            (None, None) => StepState::Running,
        };
        let percent = match (state, total) {
            (StepState::Done, _) => Some(100),
            (_, None) => None,
            (_, Some(total)) => {
                let percent = u128::from(rows) * 100 / u128::from(total.max(1));
                Some(u8::try_from(percent).unwrap_or(99).min(99))
            }
        };
        Self { name, state, rows, total, percent, started_at: Some(started_at), finished_at, trouble }
    }

    /// True when every row was handled.
    pub fn is_done(&self) -> bool {
        self.state == StepState::Done
    }
}

/// Makes the table of the records, unless it is there: for rows that come from another file.
///
/// # Errors
/// Of SQLite.
pub(super) fn make_room(connection: &Connection) -> Result<()> {
    Ok(connection.execute_batch(record::CREATE)?)
}

/// Forgets the steps that [begin anew](Step::again_after_salvage) after a salvage.
///
/// # Errors
/// Of SQLite.
pub(super) fn begin_anew_after_salvage(connection: &Connection, domain: &Domain) -> Result<()> {
    for step in domain.steps.iter().filter(|step| step.again_after_salvage) {
        record::forget(connection, &step.name)?;
    }
    Ok(())
}

/// The steps that were begun in a database, by name.
///
/// # Errors
/// `Corrupt` when their table does not hold what a program writes there; of SQLite.
pub(crate) fn recorded(connection: &Connection) -> Result<Vec<StepStatus>> {
    Ok(record::read(connection)?.into_iter().map(StepStatus::of).collect())
}

/// True when a declared step is not done, or nobody can tell.
pub(super) fn unfinished(connection: &Connection, domain: &Domain) -> bool {
    if domain.steps.is_empty() {
        return false;
    }
    let Ok(records) = record::read(connection) else { return true };
    let done =
        |step: &Step| records.iter().any(|record| record.name == step.name && record.finished_at.is_some());
    !domain.steps.iter().all(done)
}

/// What a database has to do with steps.
pub(super) struct Steps {
    runner: Arc<Runner>,
    known: Mutex<Known>,
    /// Counts the files that were opened.
    file: Arc<AtomicU64>,
    /// Why they do not go on, by step; what concerns all of them under no name.
    troubles: Mutex<BTreeMap<String, String>>,
}

/// Both are there before the database is enlisted, whichever comes first.
#[derive(Default)]
struct Known {
    owner: Option<Weak<Shared>>,
    /// Some were not done when the file was opened.
    unfinished: bool,
}

impl Steps {
    pub(super) fn new(runner: Arc<Runner>) -> Self {
        Self { runner, known: Mutex::default(), file: Arc::default(), troubles: Mutex::default() }
    }

    /// Says whose steps they are. To be called once.
    pub(super) fn belong_to(&self, shared: &Arc<Shared>) {
        self.enlist(|known| known.owner = Some(Arc::downgrade(shared)));
    }

    /// A file is about to be used for writes. To be called before the first of them.
    pub(super) fn open_another_file(&self) {
        self.file.fetch_add(1, Ordering::SeqCst);
    }

    /// The file was opened.
    pub(super) fn found(&self, unfinished: bool) {
        self.enlist(|known| known.unfinished = unfinished);
    }

    fn enlist(&self, learn: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock();
        learn(&mut known);
        let owner = known.owner.clone().filter(|_| known.unfinished);
        drop(known);
        if let Some(owner) = owner {
            self.runner.enlist(&owner);
        }
    }

    /// The database closes: when this answers, the runner does not use it any more.
    pub(super) fn leave(&self) {
        let owner = self.known.lock().owner.clone();
        if let Some(owner) = owner {
            self.runner.leave(&owner);
        }
    }

    /// Says why a step does not go on, or that it does.
    fn tell(&self, shared: &Shared, step: &str, trouble: Option<&Error>) {
        let mut troubles = self.troubles.lock();
        let Some(trouble) = trouble else {
            troubles.remove(step);
            return;
        };
        let text = trouble.to_string();
        if troubles.insert(step.to_owned(), text.clone()).is_none() {
            drop(troubles);
            warn(&format_args!("{}: {}", shared.spec.domain.name(), sentence(step, &text)));
        }
    }

    /// For the warnings, a sentence each.
    pub(super) fn troubles(&self) -> Vec<String> {
        self.troubles.lock().iter().map(|(step, text)| sentence(step, text)).collect()
    }

    /// The declared steps, and those of other programs; what this process knows of their troubles included.
    pub(super) fn status(&self, domain: &Domain, mut recorded: Vec<StepStatus>) -> Vec<StepStatus> {
        let mut all = Vec::with_capacity(recorded.len());
        for step in &domain.steps {
            let at = recorded.iter().position(|status| status.name == step.name);
            all.push(at.map_or_else(|| StepStatus::pending(&step.name), |at| recorded.remove(at)));
        }
        all.append(&mut recorded);
        let troubles = self.troubles.lock();
        let declared = domain.steps.len();
        for (at, status) in all.iter_mut().enumerate().filter(|(_, status)| !status.is_done()) {
            let of_all = || troubles.get("").filter(|_| at < declared);
            if let Some(trouble) = troubles.get(&status.name).or_else(of_all) {
                (status.state, status.trouble) = (StepState::Waiting, Some(trouble.clone()));
            }
        }
        all
    }
}

fn sentence(step: &str, trouble: &str) -> String {
    match step {
        "" => format!("the steps do not go on: {trouble}"),
        step => format!("the step {step} does not go on: {trouble}"),
    }
}
