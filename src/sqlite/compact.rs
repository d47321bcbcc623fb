//! A copy of a database without its free pages, in a file that is to take its place.
//!
//! `VACUUM` in place writes the whole database into its log, and gives rows of tables without an INTEGER PRIMARY KEY other
//! numbers. `VACUUM INTO` writes it once, into another file, and keeps them (<https://sqlite.org/lang_vacuum.html>); until
//! that file is renamed the old one is as it was.
//!
//! Invariants:
//! 1. Nobody else has the database open: the caller sees to that.
//! 2. The old file holds everything before its log goes, and is whole at every moment.
//!
//! Tests: `tests/space_comes_back.rs`.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::limits::Limit;

use super::connect::Spec;
use super::ffi;
use super::generation::User;
use super::reclaim::pages::{self, Pages};
use super::visit::Visit;
use crate::error::{Error, ErrorKind, Result};

/// How often the progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Ends the statement where `progress` panics: the caller gave up, and would wait for all of it.
struct StopWhenUnwound(rusqlite::InterruptHandle);

impl Drop for StopWhenUnwound {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.interrupt();
        }
    }
}

/// A database that is about to be compacted.
pub(crate) struct Original {
    visit: Visit,
    /// What the copy will have, as far as can be known: what is free is left out.
    pub(crate) bytes: u64,
}

impl Original {
    /// Opens it, and works its log off.
    ///
    /// # Errors
    /// Of [`Visit::begin`]; `Busy` when somebody reads it; `Full` when the log does not fit into the file; of SQLite.
    pub(crate) fn open(spec: &Spec, wait: Duration) -> Result<Self> {
        let visit = Visit::begin(spec, User::Maintenance, wait)?;
        let open = || {
            if !visit.work_log_off()? {
                return Err(Error::new(
                    ErrorKind::Busy,
                    "somebody reads the database, so it cannot be rewritten; nothing was changed",
                )
                .advise("stop that program and try again"));
            }
            let found = Pages::of(visit.connection())?;
            Ok((found.all - found.free).saturating_mul(pages::page_size(visit.connection())?))
        };
        let bytes = spec.named(open())?;
        Ok(Self { visit, bytes })
    }

    pub(crate) fn connection(&self) -> &Connection {
        self.visit.connection()
    }

    /// Writes the copy into an empty file; not yet durable. `progress` learns of bytes done and to do.
    ///
    /// # Errors
    /// Of SQLite; `Full`.
    pub(crate) fn rewrite(&mut self, file: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let answer = self.try_rewrite(file, progress);
        self.visit.spec().named(answer)
    }

    fn try_rewrite(&mut self, file: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let bytes = self.bytes;
        let text = file
            .to_str()
            .ok_or_else(|| Error::new(ErrorKind::Invalid, "the home's path is not UTF-8").at_path(file))?;
        let connection = self.visit.connection_mut();
        // The copy is attached while it is written.
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 1)?;
        if !pages::can_be_freed(connection)? {
            // For the copy: this file stays as it is. One that has the mode would be written.
            connection.execute_batch("PRAGMA auto_vacuum=INCREMENTAL")?;
        }
        let (tell, told) = channel::<()>();
        let stop = StopWhenUnwound(connection.get_interrupt_handle());
        std::thread::scope(|scope| {
            // Dropped before the scope waits for the statement.
            let _stop = stop;
            // One long statement: it runs on a thread of its own, and this one shows how far it is.
            let rewriting = scope.spawn(move || {
                let _tell = tell;
                connection.execute("VACUUM INTO ?1", [text])
            });
            while told.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                let done = std::fs::symlink_metadata(file).map_or(0, |found| found.len());
                progress(done.min(bytes), bytes);
            }
            rewriting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        progress(bytes, bytes);
        Ok(())
    }

    /// Closes it, when its file still holds everything.
    ///
    /// # Errors
    /// `Busy` when that is not so any more; `Latched` after a failed write of somebody else; of SQLite.
    pub(crate) fn close(self) -> Result<()> {
        self.visit.check_latch()?;
        let log = ffi::checkpoint_noop(self.connection())?;
        if log.done < log.log {
            return Err(Error::new(ErrorKind::Busy, "somebody wrote into the database meanwhile")
                .advise("stop that program and try again; nothing was changed"));
        }
        Ok(())
    }
}
