//! Threads of the home that are not on the server with their histories: transcripts outside a home stay where they are when
//! it is moved. They are read there, on a machine that has them, and never changed, as in a home of files.
//!
//! Tests: `tests/home_elsewhere.rs`.

use std::path::{Path, PathBuf};

use super::super::store::not_found;
use super::Inner;
use super::writer::History;
use crate::error::{Error, ErrorKind, Result};
use crate::rollout;
use crate::stores::database::StoreSession;
use crate::stores::threads::ThreadRow;

/// Where a thread's history is.
pub(super) enum Where {
    /// On the server.
    Here(History),
    /// In this transcript, which is on this machine.
    Elsewhere(PathBuf),
}

impl Inner {
    /// Where the history of a thread is.
    ///
    /// # Errors
    /// `NotFound` when there is no such thread, or no history of it that this machine has; the server's.
    pub(super) fn elsewhere(&self, thread: &str) -> Result<Where> {
        if let Some(history) = self.engine.read(|at| History::of(at, thread))? {
            return Ok(Where::Here(history));
        }
        let Some(path) = self.named(thread)? else {
            let message = format!("thread {thread} has no history");
            return Err(Error::new(ErrorKind::NotFound, message)
                .advise("only its row is there: what was said in it is not kept on this server"));
        };
        if rollout::id_of(&path).is_ok_and(|found| found == thread) {
            return Ok(Where::Elsewhere(path));
        }
        let message = format!(
            "the transcript of thread {thread} is not on this machine, nor is its history on the server"
        );
        Err(Error::new(ErrorKind::NotFound, message)
            .at_path(&path)
            .advise("read the thread on the machine that has this file"))
    }

    /// What is said of a thread that was not found: one that is elsewhere is there, and only read.
    pub(super) fn or_only_read(&self, thread: &str, error: Error) -> Error {
        if error.kind() != ErrorKind::NotFound {
            return error;
        }
        match self.elsewhere(thread) {
            Ok(Where::Elsewhere(path)) => only_read(&path),
            _ => error,
        }
    }

    /// The transcript that a thread's row names.
    fn named(&self, thread: &str) -> Result<Option<PathBuf>> {
        let row = self.threads.get(thread)?.ok_or_else(|| not_found(thread))?;
        Ok(row.rollout_path.map(PathBuf::from))
    }
}

/// Refuses to change the row of a thread that is elsewhere.
///
/// # Errors
/// `Invalid`; the server's.
pub(super) fn refuse(tx: &StoreSession<'_>, row: &ThreadRow) -> Result<()> {
    match &row.rollout_path {
        Some(path) if History::of(tx, &row.id)?.is_none() => Err(only_read(path.as_ref())),
        _ => Ok(()),
    }
}

fn only_read(path: &Path) -> Error {
    Error::new(
        ErrorKind::Invalid,
        "the transcript of the thread lies outside this home, and is only read there",
    )
    .at_path(path)
    .advise("open the home that it lies in")
}
