//! One database file. (Naive stand-in: the real engine replaces the bodies, the signatures stay.)

pub(crate) mod guard;
pub mod holders;
pub(crate) mod tx;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use tx::{Snapshot, Tx};

/// A handle to one database. Cheap to clone; its options (label, deadline, lane) live in the handle.
#[derive(Clone)]
pub struct Database {
    tx: Arc<Mutex<Tx>>,
}

impl Database {
    pub(crate) fn open_naive(path: &Path, durability: crate::Durability) -> Result<Self> {
        #[allow(clippy::disallowed_methods)]
        let connection = rusqlite::Connection::open(path)?;
        connection.execute_batch("PRAGMA busy_timeout=60000; PRAGMA journal_mode=WAL;")?;
        connection.execute_batch(if durability == crate::Durability::Full {
            "PRAGMA synchronous=FULL"
        } else {
            "PRAGMA synchronous=NORMAL"
        })?;
        Ok(Self { tx: Arc::new(Mutex::new(Tx::new(connection))) })
    }
    /// The same database, its jobs named so in errors, `who` and the doctor.
    #[must_use]
    pub fn label(self, _label: &str) -> Self {
        self
    }
    /// The same database with another deadline.
    #[must_use]
    pub fn within(self, _deadline: Duration) -> Self {
        self
    }
    /// The same database; jobs go to the background lane.
    #[must_use]
    pub fn background(self) -> Self {
        self
    }
    /// The same database; each job gets a commit of its own.
    #[must_use]
    pub fn alone(self) -> Self {
        self
    }
    /// Runs a job and answers when it is durable.
    ///
    /// # Errors
    /// The job's; the engine's.
    pub fn write<R: Send + 'static>(&self, job: impl Fn(&Tx) -> Result<R> + Send) -> Result<R> {
        let tx = self.tx.lock();
        tx.connection().execute_batch("BEGIN IMMEDIATE")?;
        match job(&tx) {
            Ok(r) => {
                tx.connection().execute_batch("COMMIT")?;
                Ok(r)
            }
            Err(e) => {
                tx.connection().execute_batch("ROLLBACK")?;
                Err(e)
            }
        }
    }
    /// Queues a job; the ticket learns its answer.
    ///
    /// # Errors
    /// `Full` when the queue stays full.
    pub fn submit<R: Send + 'static>(
        &self,
        job: impl Fn(&Tx) -> Result<R> + Send + 'static,
    ) -> Result<Ticket<R>> {
        Ok(Ticket { answer: Some(self.write(job)) })
    }
    /// Reads one snapshot.
    ///
    /// # Errors
    /// The closure's; the engine's.
    pub fn read<R>(&self, read: impl FnOnce(&Snapshot) -> Result<R>) -> Result<R> {
        let tx = self.tx.lock();
        read(&tx)
    }
}

/// The answer to a submitted job, to come.
pub struct Ticket<R> {
    answer: Option<Result<R>>,
}
impl<R> Ticket<R> {
    /// Waits for it.
    ///
    /// # Errors
    /// The job's; the engine's.
    pub fn wait(mut self) -> Result<R> {
        self.answer.take().unwrap_or_else(|| Err(Error::new(ErrorKind::Closed, "gone")))
    }
}
