//! The handle to one database: writes, reads, watching, and opening anew.

use std::path::Path;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::check::CheckState;
use super::clock::{instant_after, later};
use super::closing::{CloseReport, Owner};
#[cfg(feature = "agent")]
use super::connect;
use super::connect::Spec;
use super::damage::DamageReport;
use super::entry::Entry;
use super::health::Health;
use super::label::Label;
use super::shared::{Queueing, Shared};
use super::stats::Stats;
use super::status_page::Slot;
use super::steps::{Runner, StepStatus};
use super::ticket::Ticket;
use super::tx::{Snapshot, Tx};
use super::{ffi, guard, lineage, migrate, readers, recover, stats, steps, ticket, writer};
use crate::domain::Role;
use crate::error::{Error, ErrorKind, Result};
use crate::handoff::job::Job;
use crate::handoff::lanes::{Lane, Refused};
use crate::sync::Arc;

/// A handle to one database. Cheap to clone; its options (label, deadline, lane, alone) live in the handle.
///
/// The database closes when the runtime and the last handle are gone, or with [`Runtime::close`](crate::Runtime::close).
#[derive(Clone)]
pub struct Database {
    owner: Arc<Owner>,
    options: Options,
}

#[derive(Clone, Copy)]
struct Options {
    label: Label,
    deadline: Option<Duration>,
    lane: Lane,
    alone: bool,
    /// What a submitted job owns, in bytes.
    bytes: usize,
}

impl Database {
    /// Opens a required domain, or starts to attach a best-effort one. `recorded` learns of every schema version that
    /// was created or migrated.
    pub(crate) fn open(
        spec: Spec,
        slot: Option<Slot>,
        steps: Arc<Runner>,
        recorded: impl Fn(&Spec, i64) + Send + 'static,
    ) -> Result<Self> {
        let deadline = instant_after(spec.limits.deadline);
        let role = spec.domain.role();
        spec.named(spec.domain.check())?;
        spec.named(steps::validate(&spec.domain.steps, migrate::newest_of(&spec.domain)))?;
        let shared = Arc::new(Shared::new(spec, slot, steps));
        if role == Role::Required {
            let wrote =
                shared.told(shared.attach(deadline)).inspect_err(|_| lineage::leave(&shared.spec.path))?;
            if let Some(version) = wrote {
                recorded(&shared.spec, version);
            }
        }
        let io = |error| {
            shared.name(
                Error::new(ErrorKind::Io, "no thread could be started")
                    .advise("end other programs, or raise the limit of threads (ulimit -u)")
                    .caused_by(error),
            )
        };
        shared.checkpointer.belongs_to(&shared);
        let theirs = shared.clone();
        let writer = std::thread::Builder::new()
            .name(format!("rowhouse-{}", shared.spec.domain.name()))
            .spawn(move || writer::work(&theirs, &|version| recorded(&theirs.spec, version)))
            .map_err(io)?;
        // The log may have been too long already when the file was opened.
        if shared.checkpointer.is_behind() {
            shared.checkpointer.ask();
        }
        shared.steps.belong_to(&shared);
        Ok(Self {
            owner: Arc::new(Owner { shared, writer: Arc::new(Mutex::new(Some(writer))) }),
            options: Options {
                label: Label::default(),
                deadline: None,
                lane: Lane::Normal,
                alone: false,
                bytes: 0,
            },
        })
    }

    /// Why a copy of the file at its path might lack what was acknowledged here: it may not be its file any more.
    pub(crate) fn refuses_backup(&self) -> Option<Error> {
        let shared = self.shared();
        let refuses = matches!(shared.health.get(), Health::Latched | Health::Quarantined | Health::Closed);
        let refusal = || shared.health.refusal().filter(|_| refuses);
        shared.check_process().err().or_else(refusal).map(|error| shared.name(error))
    }

    pub(crate) fn spec(&self) -> &Spec {
        &self.shared().spec
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    /// The same database; its jobs carry this label in errors, `who` and the doctor. At most 32 bytes.
    #[must_use]
    pub fn label(mut self, label: &str) -> Self {
        self.options.label = Label::new(label);
        self
    }

    /// The same database with another deadline for writes and for waiting for a reader. Default 30 s.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.options.deadline = Some(deadline);
        self
    }

    /// The same database; its jobs yield to normal ones, and still get one place in eight.
    #[must_use]
    pub fn background(mut self) -> Self {
        self.options.lane = Lane::Background;
        self
    }

    /// The same database; each of its jobs gets a commit of its own.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.options.alone = true;
        self
    }

    /// The same database; each of its submitted jobs owns that many bytes. They count in the backlog of a best-effort
    /// database ([`Limits::backlog_bytes`](crate::Limits)), which cannot look into a closure: untold, only the closure's
    /// own size does.
    #[must_use]
    pub fn sized(mut self, bytes: usize) -> Self {
        self.options.bytes = bytes;
        self
    }

    /// Its domain's name.
    pub fn name(&self) -> &str {
        self.shared().spec.domain.name()
    }

    /// Its file; in a runtime that keeps nothing, a name that begins with `memory:`.
    pub fn path(&self) -> &Path {
        &self.shared().spec.path
    }

    /// Runs a job in a transaction, together with other callers' where there are any, and answers when it is durable.
    ///
    /// A job is a `Fn`: it may run more than once, of which exactly one counts. It sees its own changes and everything
    /// committed before. When it answers an error or panics, its changes, and only they, are gone. It may borrow: this
    /// call returns only when nobody runs it any more, so a job that ignores its deadline outside SQL delays it.
    ///
    /// # Errors
    /// - The job's own, and those of SQLite within it.
    /// - `Timeout`, or `Busy` naming the holder: it did not run by the deadline; nothing was done.
    /// - `OutcomeUnknown`: it ran, and was not durable by the deadline.
    /// - `Full`: the queue had no room until the deadline; or one of the bounds of a best-effort database is reached
    ///   ([`Stats::shed`]), or the bytes of a required one ([`Domain::max_bytes`](crate::Domain::max_bytes)).
    /// - `ReadOnly`, `Latched`, `Replaced`, `Closed`: the database takes no writes now.
    /// - `Reentrant`: called from inside a job.
    /// - `Panicked`: the job did.
    pub fn write<R: Send + 'static>(&self, job: impl Fn(&Tx) -> Result<R> + Send) -> Result<R> {
        self.shared().told(self.try_write(job))
    }

    fn try_write<R: Send + 'static>(&self, job: impl Fn(&Tx) -> Result<R> + Send) -> Result<R> {
        let (came, deadline) = self.begin_write()?;
        let shared = self.shared();
        let Options { label, lane, alone, .. } = self.options;
        if lane == Lane::Normal
            && let Some(answer) = writer::write_directly(shared, &label, deadline, &job)
        {
            return answer.map_err(|error| shared.name(error));
        }
        let _in_line = InLine::join(shared);
        let waited = Job::lend(job, deadline, |task| {
            let came = Some(came);
            let entry = Entry { task, label, lane, alone, submitted: false, keeps: None, tries: 0, came };
            shared.lanes.push(entry, deadline)
        });
        match waited {
            Ok(waited) => ticket::tell(shared, waited),
            Err(refused) => Err(self.refused(refused)),
        }
    }

    /// Queues a job that owns what it uses; the ticket learns its answer. Waits for room in the queue at most until
    /// the deadline.
    ///
    /// A best-effort database never makes it wait: jobs beyond its backlog ([`Limits::backlog_jobs`](crate::Limits) and
    /// `backlog_bytes`) push out the oldest, which are answered at once with the reason why it takes no writes, and
    /// counted in [`Stats::dropped`]. A job there waits for as long as the backlog keeps it, unless the handle says
    /// [`within`](Self::within); once it runs, the default deadline holds.
    ///
    /// # Errors
    /// As [`write`](Self::write), as far as known now; the rest comes with the ticket. `Full` comes at once while one of
    /// the bounds of a best-effort database is reached, and is counted in [`Stats::shed`].
    pub fn submit<R: Send + 'static>(
        &self,
        job: impl Fn(&Tx) -> Result<R> + Send + 'static,
    ) -> Result<Ticket<R>> {
        self.shared().told(self.try_submit(job))
    }

    fn try_submit<R: Send + 'static>(
        &self,
        job: impl Fn(&Tx) -> Result<R> + Send + 'static,
    ) -> Result<Ticket<R>> {
        let (came, mut deadline) = self.begin_write()?;
        let shared = self.shared();
        let Options { label, lane, alone, bytes, .. } = self.options;
        let keeps = shared.best_effort.then(|| bytes.max(size_of_val(&job)));
        if keeps.is_some() && self.options.deadline.is_none() {
            deadline = instant_after(Duration::MAX);
        }
        shared
            .queue(job, Queueing { label, lane, alone, keeps, came }, deadline)
            .map_err(|refused| self.refused(refused))
    }

    /// Reads one snapshot: everything acknowledged before, nothing committed after its first statement.
    ///
    /// The snapshot ends with this call, and its SQL is stopped after [`Limits::reader_age`](crate::Limits), default
    /// 30 s: a longer one would keep the write-ahead log from being worked off.
    ///
    /// # Errors
    /// Those of `read`; of SQLite; `Timeout` when all readers stayed in use; `Busy` while a best-effort domain is not
    /// attached; `Closed`, `Replaced`.
    pub fn read<R>(&self, read: impl FnOnce(&Snapshot) -> Result<R>) -> Result<R> {
        self.shared().told(self.try_read(read))
    }

    fn try_read<R>(&self, read: impl FnOnce(&Snapshot) -> Result<R>) -> Result<R> {
        let shared = self.shared();
        shared.check_process()?;
        let limits = &shared.spec.limits;
        let deadline = self.deadline();
        stats::add(&shared.counters.reads, 1);
        let connection = loop {
            let taken = shared.health.readable(deadline).and_then(|()| shared.readers.take(deadline));
            match taken {
                // It was detached at this moment, and is being attached again, or is by now.
                Err(error) if error.kind() == ErrorKind::Closed => match shared.health.refusal() {
                    Some(refusal) => break Err(refusal),
                    None if Instant::now() >= deadline => break Err(error),
                    None => {}
                },
                taken => break taken,
            }
        };
        // What the reader's own code fails with may be about another file.
        let looked_after = |at: &Snapshot| {
            let answer = read(at);
            if answer.is_err()
                && let Some(met) = ffi::last_error(at.connection())
            {
                shared.met_in_a_read(&Error::from(met));
            }
            answer
        };
        connection
            .inspect_err(|error| shared.met_in_a_read(error))
            .and_then(|connection| {
                readers::read(&connection, self.options.label, deadline, limits.reader_age, looked_after)
            })
            .map_err(|error| shared.name(shared.spec.read_only.explain(error)))
    }

    /// A number that grows with every commit seen here, of any process. Take it before reading, and give it to
    /// [`wait_for_change`](Self::wait_for_change) after.
    ///
    /// # Errors
    /// Of SQLite; `Closed`.
    pub fn changes(&self) -> Result<u64> {
        let deadline = self.deadline();
        let shared = self.shared();
        shared.told(self.watch(deadline, |shared| shared.changes.now(&shared.spec, deadline)))
    }

    /// Waits until something was committed since `seen`, by any process, for at most `wait`; answers the new number,
    /// or `seen` itself.
    ///
    /// Commits of this process are seen at once, of others within 20 ms.
    ///
    /// # Errors
    /// Of SQLite; `Closed`; `Reentrant` inside a job.
    pub fn wait_for_change(&self, seen: u64, wait: Duration) -> Result<u64> {
        let shared = self.shared();
        let deadline = instant_after(wait);
        shared.told(
            guard::refuse_in_job().map_err(|error| shared.name(error)).and_then(|()| {
                self.watch(deadline, |shared| shared.changes.wait(&shared.spec, seen, deadline))
            }),
        )
    }

    fn watch(&self, deadline: Instant, look: impl Fn(&Shared) -> Result<u64>) -> Result<u64> {
        let shared = self.shared();
        shared.check_process()?;
        loop {
            match shared.health.readable(deadline).and_then(|()| look(shared)) {
                // It is being opened anew since that was looked at.
                Err(error)
                    if error.kind() == ErrorKind::Busy
                        && shared.health.is_attaching()
                        && Instant::now() < deadline => {}
                answer => return answer.map_err(|error| shared.name(error)),
            }
        }
    }

    /// How it is.
    pub fn health(&self) -> Health {
        self.shared().health.get()
    }

    /// What is odd but does not keep it from working: changed or withdrawn migrations; triggers, tables, indexes and
    /// views that the migrations did not make; a step that does not go on; a file that another tool rebuilt; what was
    /// saved of removed files; that it is only kept in memory; and, in a home that may not be written, why, and what it
    /// lacks.
    ///
    /// What others made is looked for now: the first call runs the migrations on an empty database in memory, which
    /// takes milliseconds, and each call reads the schema, waiting at most a second for a reader.
    pub fn warnings(&self) -> Vec<String> {
        self.shared().warnings()
    }

    /// What became of its file when that was found damaged, at open or since; `None` when it was not. Only the process
    /// that set it right knows, and the home's `quarantine/`.
    pub fn damage(&self) -> Option<DamageReport> {
        self.shared().damage.lock().clone()
    }

    /// Its [steps](crate::Step): those that this program declares, in their order, and those of other programs that were
    /// begun in it. Another process may be the one that works at them.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn steps(&self) -> Result<Vec<StepStatus>> {
        let recorded = self.read(|at| steps::recorded(at.connection()))?;
        Ok(self.shared().steps.status(&self.spec().domain, recorded))
    }

    /// Waits until every step that this program declares is done, whoever does it, for at most `wait`: for tools and
    /// tests. A program needs not wait: see [`Step`](crate::Step).
    ///
    /// # Errors
    /// `Timeout`, saying how far the first unfinished step is; those of [`steps`](Self::steps) and
    /// [`wait_for_change`](Self::wait_for_change).
    pub fn wait_for_steps(&self, wait: Duration) -> Result<()> {
        let deadline = instant_after(wait);
        let declared = self.spec().domain.steps.len();
        loop {
            let seen = self.changes()?;
            let Some(open) = self.steps()?.into_iter().take(declared).find(|step| !step.is_done()) else {
                return Ok(());
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let StepStatus { name, rows, trouble, .. } = open;
                let why = trouble.map_or_else(String::new, |trouble| format!(": {trouble}"));
                let message = format!("the step {name} is not done, {rows} rows are{why}");
                return Err(self.shared().name(Error::new(ErrorKind::Timeout, message)));
            }
            self.wait_for_change(seen, left)?;
        }
    }

    /// What it did since it was opened.
    pub fn stats(&self) -> Stats {
        self.shared().stats()
    }

    /// How far the background checks of its file are, and what they found.
    pub fn check_state(&self) -> CheckState {
        let shared = self.shared();
        shared.checker.state(&shared.spec)
    }

    /// Leaves a latched generation: closes every connection and opens the file that is at the path now. When the old one
    /// is not there any more, what it held is first copied into the home's `quarantine/`. A database that could only be
    /// read is written again when it may be by now.
    ///
    /// After a failed write, of this process or another, everything that was committed is first checked and brought into the
    /// main file, unless another process has done so.
    ///
    /// The handle's deadline bounds what is waited for: locks, readers, and the copy. When the file turns out to be damaged, and
    /// this call is the one that salvages it, that is done to the end, however long it takes: broken off it would begin
    /// anew, and nobody could use the database meanwhile.
    ///
    /// # Errors
    /// As when opening; `Full` when there is no room for that copy, `Timeout` when there is no time: then it stays as it was,
    /// and may be tried again. `Latched` when the disk still fails.
    pub fn reopen(&self) -> Result<()> {
        let shared = self.shared();
        let may = guard::refuse_in_job().and_then(|()| shared.check_process());
        shared.told(
            may.map_err(|error| shared.name(error)).and_then(|()| recover::reopen(shared, self.deadline())),
        )
    }

    /// Has the write-ahead log worked off and cut to nothing, so that what was deleted stands in no file any more; waits
    /// for at most `wait`. False when somebody reads what is in it: then it is cut as soon as that has ended, while this
    /// process has the database open.
    ///
    /// # Errors
    /// Of a database that takes no writes.
    #[cfg(feature = "agent")]
    pub(crate) fn cut_log(&self, wait: Duration) -> Result<bool> {
        let shared = self.shared();
        guard::refuse_in_job().and_then(|()| shared.check_process()).map_err(|error| shared.name(error))?;
        let until = instant_after(wait);
        shared.checkpointer.want_cut();
        while shared.checkpointer.wants_cut() {
            if let Some(refusal) = shared.health.refusal() {
                return Err(shared.name(refusal));
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            // Readers of other processes do not tell when they end.
            connect::pause();
            shared.checkpointer.ask();
        }
        Ok(true)
    }

    /// Closes the database for everybody: refuses new work, works off what is queued for at most `wait`, closes the
    /// readers, then the writer. Closing twice is fine. When the disk keeps it from ending a second after `wait`, it ends
    /// in the background, and the report says that it was not in time.
    pub fn close(&self, wait: Duration) -> CloseReport {
        self.owner.close(wait)
    }

    /// When a call that begins now stops waiting.
    fn deadline(&self) -> Instant {
        self.deadline_from(Instant::now())
    }

    fn deadline_from(&self, now: Instant) -> Instant {
        later(now, self.options.deadline.unwrap_or(self.shared().spec.limits.deadline))
    }

    /// Checks what every write needs; answers when it came, and its deadline.
    fn begin_write(&self) -> Result<(Instant, Instant)> {
        let shared = self.shared();
        guard::refuse_in_job().and_then(|()| shared.check_process()).map_err(|error| shared.name(error))?;
        if let Some(refusal) = shared.health.refusal() {
            return Err(shared.name(refusal));
        }
        shared.admit(self.options.lane, self.options.bytes)?;
        let now = Instant::now();
        Ok((now, self.deadline_from(now)))
    }

    fn refused(&self, refused: Refused) -> Error {
        let shared = self.shared();
        shared.name(match refused {
            Refused::Closed => {
                return shared
                    .health
                    .refusal()
                    .unwrap_or_else(|| shared.name(Error::new(ErrorKind::Closed, "the database is closed")));
            }
            Refused::Full => {
                Error::new(ErrorKind::Full, "the queue stayed full until the deadline; nothing was done")
                    .advise("write less at once, or give it a longer deadline")
                    .retry_in(Duration::from_millis(100))
            }
        })
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("name", &self.name())
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

/// A caller that waits for the writer; others do not pass it by.
struct InLine<'a>(&'a Shared);

impl<'a> InLine<'a> {
    fn join(shared: &'a Shared) -> Self {
        shared.gate.join();
        Self(shared)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.gate.leave();
    }
}
