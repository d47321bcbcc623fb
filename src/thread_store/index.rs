//! What a list shows, in the state database.

use std::path::Path;
use std::time::Duration;

use super::store::not_found;
use super::turns::{self, Anomaly, TurnPage, TurnQuery};
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::faults::{self, Outcome, Step};
use crate::sqlite::Database;
use crate::stores::Threads;
use crate::stores::database::Engine;
use crate::stores::threads::row::thread_id;
use crate::stores::threads::{
    self, SearchPage, ThreadFacts, ThreadPage, ThreadPatch, ThreadQuery, ThreadRow, ThreadSearch, tombstone,
};

/// The rows and turns of threads. Every implementation of the store has one; where it lies is its own affair.
#[derive(Clone)]
pub(super) struct Index {
    threads: Threads,
    /// For what the transcript has anyway: an append must not wait for a list.
    soon: Threads,
    state: Database,
    /// Writing a row is a step on the way of a transcript.
    of_files: bool,
}

/// How long derived facts wait for the database.
const SOON: Duration = Duration::from_millis(250);
/// How long turns wait for it before they are read without being kept.
const TURNS: Duration = Duration::from_secs(1);

impl Index {
    pub(super) fn new(state: Database) -> Self {
        Self {
            threads: Threads::new(state.clone()),
            soon: Threads::new(state.clone().within(SOON)),
            state: state.label("thread_store").within(TURNS),
            of_files: false,
        }
    }

    /// The index of threads whose history is in files.
    pub(super) fn of_files(state: Database) -> Self {
        Self { of_files: true, ..Self::new(state) }
    }

    /// Where a test can see that a row is written beside a transcript, and stop it.
    fn step(&self, thread: &str) -> Result<()> {
        let asked = if self.of_files { faults::ask(&Step::Row(thread)) } else { Outcome::Goes };
        match asked {
            Outcome::Goes => Ok(()),
            Outcome::Fails(code) | Outcome::Stops { code, .. } => {
                let error = std::io::Error::from_raw_os_error(code);
                Err(Error::new(ErrorKind::Io, "the row could not be written").caused_by(error))
            }
        }
    }

    pub(super) fn get(&self, thread: &str) -> Result<Option<ThreadRow>> {
        self.threads.get(thread)
    }

    pub(super) fn read(&self, thread: &str) -> Result<ThreadRow> {
        self.get(thread)?.ok_or_else(|| not_found(thread))
    }

    /// Those of these threads that have a row.
    pub(super) fn known(&self, threads: &[&str]) -> Result<Vec<String>> {
        Ok(self.threads.get_all(threads)?.into_iter().flatten().map(|row| row.id).collect())
    }

    pub(super) fn list(&self, query: &ThreadQuery) -> Result<ThreadPage> {
        self.threads.list(query)
    }

    pub(super) fn search(&self, search: &ThreadSearch) -> Result<SearchPage> {
        self.threads.search(search)
    }

    pub(super) fn patch(&self, thread: &str, patch: &ThreadPatch) -> Result<ThreadRow> {
        self.step(thread)?;
        self.threads.patch(thread, patch)
    }

    /// Derived facts of a row that is there; not for long.
    pub(super) fn patch_soon(&self, thread: &str, patch: &ThreadPatch) -> Result<ThreadRow> {
        self.step(thread)?;
        self.soon.patch(thread, patch)
    }

    /// Makes a row, or brings it up to date; not for long. Facts whose transcript has moved since, or went, are not taken:
    /// they would bring back what was deleted. Answers whether they were taken.
    pub(super) fn put(&self, facts: &ThreadFacts) -> Result<bool> {
        let id = thread_id(&facts.id)?;
        let path = facts.rollout_path.as_ref().map(Path::new);
        let is_gone = || path.is_some_and(|path| path.symlink_metadata().is_err());
        // One whose file could not be made yet asks with every append.
        if is_gone() {
            return Ok(false);
        }
        self.step(&id)?;
        self.state.clone().within(SOON).write(|tx| {
            if is_gone() {
                return Ok(false);
            }
            threads::upsert(tx, std::slice::from_ref(&id), std::slice::from_ref(facts))?;
            Ok(true)
        })
    }

    /// Whether the thread is being deleted. One of which there is a row is not.
    pub(super) fn is_going(&self, thread: &str) -> Result<bool> {
        self.state.read(|at| tombstone::stands(at, thread))
    }

    pub(super) fn state(&self) -> &Database {
        &self.state
    }

    /// The same, as what is shared with threads on a server asks for it.
    pub(super) fn engine(&self) -> Engine {
        self.state.clone().into()
    }

    /// One page of turns of the transcript at this path, which somebody writes from that byte on, or nobody: a turn that an
    /// earlier writer left open is over. Where nothing can be kept, the transcript is read whole for the answer.
    pub(super) fn list_turns(
        &self,
        thread: &str,
        path: &Path,
        query: &TurnQuery,
        written_from: Option<u64>,
    ) -> Result<TurnPage> {
        let start = query.start(thread)?;
        let found = match turns::catch_up(&self.state, thread, path) {
            Ok(()) => turns::kept(&self.state, thread, query, start)?,
            Err(error) if turns::is_of_the_database(&error) => turns::read_whole(path)?.page(query, start),
            Err(error) => return Err(error),
        };
        turns::page_of(path, thread, query, found, written_from)
    }

    /// The place of a turn in the transcript.
    pub(super) fn turn(&self, thread: &str, path: &Path, turn: &str) -> Result<Option<turns::Span>> {
        turns::catch_up(&self.state, thread, path)?;
        turns::find(&self.state, thread, turn)
    }

    pub(super) fn anomalies(&self, thread: &str, path: &Path) -> Result<Vec<Anomaly>> {
        turns::catch_up(&self.state, thread, path)?;
        turns::anomalies(&self.state, thread)
    }

    /// Reads the turns of a transcript anew.
    pub(super) fn rebuild(&self, thread: &str, path: &Path) -> Result<()> {
        turns::forget(&self.state, thread)?;
        turns::catch_up(&self.state, thread, path)
    }
}
