//! One domain on a server: its reads and writes, and when they run again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::changes::Seen;
use super::connection::Connection;
use super::failure::{Class, Failure};
use super::figures::Figures;
use super::operation::{Operation, Sweeps, sweep};
use super::server::Server;
use super::session::Session;
use super::tries::Tries;
use crate::error::{Error, ErrorKind, Result};
use crate::handoff::job::JobError;
use crate::sqlite::guard::{self, InJob};
use crate::sqlite::health::Health;
use crate::sqlite::instant_after;
use crate::sqlite::stats::Stats;

/// A write that lost so often to others gets in line, behind a lock that only such writes take.
const IN_LINE_AFTER: u32 = 3;

/// A domain on a server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Database {
    shared: Arc<Shared>,
    deadline: Duration,
}

pub(super) struct Shared {
    pub(super) server: Arc<Server>,
    pub(super) domain: String,
    pub(super) schema: String,
    sweeps: Sweeps,
    figures: Figures,
    /// What was seen of others' commits.
    pub(super) seen: Mutex<Seen>,
}

/// How one attempt at a write failed.
enum Failed<R> {
    /// For good.
    Told(Error),
    /// Nothing was done, and it may be done again.
    Again(Failure),
    /// It was being committed, with this answer.
    Unanswered(R, Failure),
}

impl Database {
    pub(super) fn new(
        server: Arc<Server>,
        domain: &str,
        schema: String,
        deadline: Duration,
        figures: Figures,
    ) -> Self {
        let domain = domain.to_owned();
        let (sweeps, seen) = (Sweeps::new(), Mutex::default());
        Self { shared: Arc::new(Shared { server, domain, schema, sweeps, figures, seen }), deadline }
    }

    /// The same with another deadline.
    pub(crate) fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Reads one snapshot. Runs again when the connection was lost meanwhile.
    ///
    /// # Errors
    /// Those of `read`; of the server; `Busy`, `Timeout`, `Closed`.
    pub(crate) fn read<R>(&self, read: impl Fn(&Session<'_>) -> Result<R>) -> Result<R> {
        let shared = &*self.shared;
        shared.server.check_process()?;
        let deadline = instant_after(self.deadline);
        let mut tries = Tries::until(deadline);
        loop {
            let failure = match shared.read_once(deadline, &read) {
                Ok(answer) => {
                    shared.figures.read();
                    return answer.map_err(|error| self.told(error));
                }
                Err(failure) => failure,
            };
            self.rest(&mut tries, failure)?;
        }
    }

    /// Runs a job in a transaction, and answers when it is durable. The job may run more than once, of which one counts.
    ///
    /// # Errors
    /// The job's own; of the server; `Busy` while others go on writing what it reads, or no connection is free;
    /// `Timeout`; `OutcomeUnknown` when the connection was lost in the commit and no server could be asked since;
    /// `Reentrant`, `Panicked`, `Closed`.
    pub(crate) fn write<R>(&self, job: impl Fn(&Session<'_>) -> Result<R>) -> Result<R> {
        let shared = &*self.shared;
        // In a fork nothing is counted: the page is the parent's.
        shared.server.check_process().map_err(|error| self.name(error))?;
        guard::refuse_in_job().map_err(|error| self.told(error))?;
        let deadline = instant_after(self.deadline);
        let mut tries = Tries::until(deadline);
        loop {
            let operation = Operation::new();
            let failure = match shared.write_once(deadline, tries.failed(), &operation, &job) {
                Ok(answer) => {
                    shared.figures.wrote();
                    shared.server.listener.tell(&shared.domain);
                    return Ok(answer);
                }
                Err(Failed::Told(error)) => return Err(self.told(error)),
                Err(Failed::Again(failure)) => failure,
                Err(Failed::Unanswered(answer, failure)) => {
                    let pool = &shared.server.pool;
                    let there = operation
                        .was_committed(pool, &shared.schema, deadline, self.deadline)
                        .map_err(|error| self.told(error))?;
                    shared.figures.settled();
                    if there {
                        shared.figures.wrote();
                        return Ok(answer);
                    }
                    failure
                }
            };
            self.rest(&mut tries, failure)?;
        }
    }

    /// Waits before the transaction runs again.
    ///
    /// # Errors
    /// The failure's own when it does not.
    fn rest(&self, tries: &mut Tries, failure: Failure) -> Result<()> {
        let kind = failure.error.kind();
        let pool = &self.shared.server.pool;
        tries.again(failure, |time| pool.rest(time)).map_err(|error| self.told(error))?;
        self.shared.figures.runs_again(kind);
        Ok(())
    }

    /// A number that grows with every change that is seen, of any program. Take it before reading.
    ///
    /// # Errors
    /// Of the server; `Closed`.
    pub(crate) fn changes(&self) -> Result<u64> {
        let shared = &*self.shared;
        shared.server.check_process().map_err(|error| self.name(error))?;
        shared.changes(instant_after(self.deadline)).map_err(|error| self.told(error))
    }

    /// Waits until something was committed since `seen`, for at most `wait`; answers the new number, or `seen` itself.
    ///
    /// # Errors
    /// Of the server, when it cannot be asked at the end; `Closed`; `Reentrant` inside a job.
    pub(crate) fn wait_for_change(&self, seen: u64, wait: Duration) -> Result<u64> {
        let shared = &*self.shared;
        shared.server.check_process().map_err(|error| self.name(error))?;
        shared.wait_for_change(seen, instant_after(wait)).map_err(|error| self.told(error))
    }

    /// The schema's place, as errors name it.
    pub(crate) fn place(&self) -> &Path {
        Path::new(self.shared.server.name())
    }

    /// How it is, as far as known without asking the server.
    pub(crate) fn health(&self) -> Health {
        self.shared.server.pool.health()
    }

    /// What it did since it was opened.
    pub(crate) fn stats(&self) -> Stats {
        self.shared.figures.stats()
    }

    /// What a caller is told who needs a file.
    pub(crate) fn no_file(&self) -> Error {
        self.name(Error::new(ErrorKind::Unsupported, "this domain is on a PostgreSQL server, not in a file"))
            .advise(
                "use it by Runtime::engine or the stores, or keep it here: backend = \"sqlite\" in the home's config.toml",
            )
    }

    /// What a call answers, counted.
    fn told(&self, error: Error) -> Error {
        self.shared.figures.answered(&error);
        self.name(error)
    }

    fn name(&self, error: Error) -> Error {
        error.in_database(&self.shared.domain, self.place())
    }
}

impl Shared {
    fn read_once<R>(
        &self,
        deadline: Instant,
        read: &impl Fn(&Session<'_>) -> Result<R>,
    ) -> Result<Result<R>, Failure> {
        let mut connection = self.server.pool.take(deadline).map_err(Failure::told)?;
        let mut begin = self.begin("REPEATABLE READ READ ONLY", deadline);
        // A plan for every page size and every word reads far more than one for these.
        begin.push_str("; SET LOCAL plan_cache_mode = force_custom_plan");
        connection.batch(&begin)?;
        let end = RollBack(&mut connection);
        let session = Session::new(end.0, &self.schema);
        let answer = read(&session);
        match session.into_failure().inspect(|failure| self.figures.ended(failure)) {
            // Whatever it answers, it answers from half a snapshot.
            Some(failure) if answer.is_ok() || failure.class != Class::Final => Err(failure),
            _ => Ok(answer),
        }
    }

    fn write_once<R>(
        &self,
        deadline: Instant,
        failed: u32,
        operation: &Operation,
        job: &impl Fn(&Session<'_>) -> Result<R>,
    ) -> Result<R, Failed<R>> {
        let mut connection = self.server.pool.take(deadline).map_err(Failed::Told)?;
        let mut begin = self.begin("SERIALIZABLE READ WRITE", deadline);
        // Where an index will do, no whole table is read: serializable transactions collide by what they looked at.
        begin.push_str("; SET LOCAL enable_seqscan = off");
        if failed >= IN_LINE_AFTER {
            // Before the first statement: the snapshot must not be older than the lock.
            begin.push_str("; LOCK TABLE rowhouse_line IN EXCLUSIVE MODE");
        }
        if let Err(failure) = connection.batch(&begin).map_err(Failure::at_begin) {
            drop(RollBack(&mut connection));
            return Err(self.sorted(&mut connection, failure));
        }
        let end = RollBack(&mut connection);
        let session = Session::new(&mut *end.0, &self.schema);
        let ran = {
            let _mark = InJob::mark();
            catch_unwind(AssertUnwindSafe(|| job(&session)))
        };
        let failure = session.into_failure().inspect(|failure| self.figures.ended(failure));
        let answer = match (ran, failure) {
            (Err(payload), _) => return Err(Failed::Told(Error::panicked(payload))),
            (Ok(Err(error)), None) => return Err(Failed::Told(error)),
            (Ok(Err(error)), Some(failure)) => {
                return Err(match self.sorted(end.0, failure) {
                    // The job's own words for it.
                    Failed::Told(_) => Failed::Told(error),
                    other => other,
                });
            }
            (Ok(Ok(_)), Some(failure)) => return Err(self.sorted(end.0, failure)),
            (Ok(Ok(answer)), None) => answer,
        };
        if let Err(failure) = end.0.commit(&operation.commit(&self.domain)) {
            return Err(if failure.leaves_open() {
                Failed::Unanswered(answer, failure)
            } else {
                self.sorted(end.0, failure)
            });
        }
        std::mem::forget(end);
        if self.sweeps.is_due() {
            // What stays is removed the next time, by whomever.
            let _ = connection.batch(&sweep(&self.schema));
        }
        Ok(answer)
    }

    /// The beginning of a transaction; it sets all that it depends on.
    fn begin(&self, how: &str, deadline: Instant) -> String {
        format!("BEGIN ISOLATION LEVEL {how}; {}", settings(&self.schema, deadline))
    }

    fn sorted<R>(&self, connection: &mut Connection, failure: Failure) -> Failed<R> {
        if failure.class == Class::Final && !self.leave_wrong_server(connection, &failure) {
            return Failed::Told(failure.error);
        }
        Failed::Again(Failure { class: Class::Again, ..failure })
    }

    /// A server that takes no writes any more is left for the one that does, where there are several. True when it was.
    fn leave_wrong_server(&self, connection: &mut Connection, failure: &Failure) -> bool {
        let leaves = failure.error.kind() == ErrorKind::ReadOnly && self.server.address().has_others();
        if leaves {
            connection.leave_server();
        }
        leaves
    }
}

/// Where a transaction looks, and until when.
pub(super) fn settings(schema: &str, deadline: Instant) -> String {
    let left = deadline.saturating_duration_since(Instant::now()).as_millis();
    let left = left.clamp(1, i32::MAX.unsigned_abs().into());
    // The server's own end of it comes a little before the caller's, so that its answer is still heard; and a little less
    // for a lock: that it was one is what a caller should learn.
    let for_statements = (left - left / 32).max(1);
    let for_locks = (left - left / 16).max(1);
    // For a client that is gone; one that lives ends its transaction itself.
    let for_silence = left.saturating_add(10_000).min(i32::MAX.unsigned_abs().into());
    format!(
        "SET LOCAL search_path = {schema}; SET LOCAL statement_timeout = {for_statements}; SET LOCAL lock_timeout = {for_locks}; \
         SET LOCAL idle_in_transaction_session_timeout = {for_silence}"
    )
}

/// Ends a transaction that was not committed.
struct RollBack<'c>(&'c mut Connection);

impl Drop for RollBack<'_> {
    fn drop(&mut self) {
        if !self.0.is_lost() && self.0.batch("ROLLBACK").is_err() {
            self.0.give_up();
        }
    }
}
