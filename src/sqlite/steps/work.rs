//! What the runner does for one database when it is due: one piece of one step, or a look whether it may.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::declare::{Estimate, Piece, Progress, Step, Watermark};
use super::pace::Pace;
use super::record::{self, Advance, Record};
use crate::error::{Error, ErrorKind, Result};
use crate::handoff::lanes::Lane;
use crate::home;
use crate::presence::Held;
use crate::sqlite::admission::Bound;
use crate::sqlite::clock::instant_after;
use crate::sqlite::history;
use crate::sqlite::holders;
use crate::sqlite::label::Label;
use crate::sqlite::migrate;
use crate::sqlite::readers;
use crate::sqlite::shared::{Queueing, Shared};
use crate::sqlite::tx::{Snapshot, Tx};
use crate::sync::{Arc, Ordering};

/// How often it is looked whether another process has stopped doing the steps, and whether the database can be written.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether a long write-ahead log is worked off, and how often that is asked for. A log that somebody
/// pins is looked at as seldom as it is tried.
const LOOK_AT_LOG: Duration = Duration::from_millis(50);
const ASK_FOR_CHECKPOINT: Duration = Duration::from_secs(1);
/// How often it is looked whether the process that does the steps is stopped.
const LOOK_FOR_STOPPED: Duration = Duration::from_secs(5);
/// How often the free space is looked at while there is too little.
const LOOK_AT_ROOM: Duration = Duration::from_secs(5);
/// How long an estimate, or a look at the records, may read.
const LONGEST_READ: Duration = Duration::from_secs(1);

pub(super) enum Next {
    At(Instant),
    /// Every step is done, or a newer program's.
    Nothing,
}

impl Next {
    pub(super) fn after(wait: Duration) -> Self {
        Self::At(instant_after(wait))
    }
}

#[derive(Default)]
pub(super) struct Work {
    /// While this is held no other process does the steps.
    lock: Option<Held>,
    under_way: Option<UnderWay>,
    asked_for_checkpoint: Option<Instant>,
    looked_for_stopped: Option<Instant>,
}

/// The step whose turn it is.
struct UnderWay {
    step: Step,
    pace: Pace,
    total: Option<u64>,
    /// The growth that is still to come, where the step estimates it.
    needs: Option<u64>,
    /// The file that it was found unfinished in.
    file: u64,
    /// Why its last tries failed, if somebody was told.
    told: Option<String>,
}

/// What the job of a piece found and did.
enum Did {
    Rows {
        took: Duration,
    },
    /// It was the last piece, or somebody else had done that.
    Finished,
    /// The schema is not the one that the step was written for.
    OtherSchema,
    /// The database has another file meanwhile.
    OtherFile,
}

impl Work {
    pub(super) fn go_on(&mut self, shared: &Arc<Shared>) -> Next {
        if !shared.health.is_writable() {
            *self = Self::default();
            return Next::after(LOOK_EVERY);
        }
        match self.has_lock(shared) {
            Ok(true) => {}
            Ok(false) => {
                self.look_for_stopped(shared);
                return Next::after(LOOK_EVERY);
            }
            Err(error) => {
                shared.steps.tell(shared, "", Some(&error));
                return Next::after(LOOK_EVERY);
            }
        }
        let admission = &shared.admission;
        let adds_to = |bound| admission.is_reached(bound);
        if adds_to(Bound::LogCap)
            || adds_to(Bound::WriteRate)
            || admission.refusal(Lane::Background).is_some()
        {
            return Next::after(LOOK_EVERY);
        }
        if self.is_log_long(shared) {
            let pinned = shared.checkpointer.progress.streak() > 0;
            return Next::after(if pinned { LOOK_EVERY } else { LOOK_AT_LOG });
        }
        let file = shared.steps.file.load(Ordering::SeqCst);
        self.under_way.take_if(|step| step.file != file);
        if self.under_way.is_none() {
            match begin_next(shared, file) {
                Ok(Some(step)) => self.under_way = Some(step),
                Ok(None) => return Next::Nothing,
                Err(error) => {
                    shared.steps.tell(shared, "", Some(&error));
                    return Next::after(LOOK_EVERY);
                }
            }
        }
        let Some(step) = &mut self.under_way else { return Next::Nothing };
        if let Err(error) = step.refuse_without_room(shared) {
            shared.steps.tell(shared, step.step.name(), Some(&error));
            // Estimated anew then.
            self.under_way = None;
            return Next::after(LOOK_AT_ROOM);
        }
        match step.go_on(shared) {
            Went::Again(next) => next,
            Went::Finished | Went::OtherFile => {
                self.under_way = None;
                Next::after(Duration::ZERO)
            }
            // A process with the newer program does them from now on.
            Went::OtherSchema => Next::Nothing,
        }
    }

    fn has_lock(&mut self, shared: &Shared) -> Result<bool> {
        // What is in memory nobody else can reach.
        if self.lock.is_none() && shared.spec.memory.is_none() {
            self.lock = Held::try_alone(&shared.spec.steps_lock)?;
            return Ok(self.lock.is_some());
        }
        Ok(true)
    }

    /// Another process does the steps. While that is stopped, nobody does.
    fn look_for_stopped(&mut self, shared: &Shared) {
        if self.looked_for_stopped.is_some_and(|looked| looked.elapsed() < LOOK_FOR_STOPPED) {
            return;
        }
        self.looked_for_stopped = Some(Instant::now());
        let stopped = holders::flock_holder(&shared.spec.steps_lock).filter(|holder| holder.stopped);
        let trouble = stopped.map(|holder| {
            let advice = format!("let process {0} go on (kill -CONT {0}), or end it", holder.pid);
            Error::new(ErrorKind::Busy, "the process that does them is stopped")
                .held_by(Some(holder))
                .advise(advice)
        });
        shared.steps.tell(shared, "", trouble.as_ref());
    }

    /// True while the log should be worked off before anything is added to it.
    fn is_log_long(&mut self, shared: &Shared) -> bool {
        let long = shared.checkpointer.is_long();
        let due = self.asked_for_checkpoint.is_none_or(|asked| asked.elapsed() >= ASK_FOR_CHECKPOINT);
        if long && due {
            // Whoever pinned the log may have gone without anybody noticing.
            shared.checkpointer.ask();
            self.asked_for_checkpoint = Some(Instant::now());
        }
        long
    }
}

/// The first declared step that is not done; `None` when all are, or are left to a newer program.
fn begin_next(shared: &Shared, file: u64) -> Result<Option<UnderWay>> {
    let look = |at: &Snapshot| Ok((schema_version(at.connection())?, record::read(at.connection())?));
    let (version, records) = read(shared, look)?;
    shared.steps.tell(shared, "", None);
    if version > migrate::newest_of(&shared.spec.domain) {
        return Ok(None);
    }
    let record = |step: &Step| records.iter().find(|record| record.name == step.name);
    let done = |step: &Step| record(step).is_some_and(|record| record.finished_at.is_some());
    let mut steps = shared.spec.domain.steps.iter();
    let next = steps.find(|step| {
        let done = done(step);
        if done {
            shared.steps.tell(shared, step.name(), None);
        }
        !done
    });
    Ok(next.map(|step| UnderWay::begin(shared, step, record(step), file)))
}

/// What came of a piece.
enum Went {
    Again(Next),
    Finished,
    OtherSchema,
    OtherFile,
}

impl UnderWay {
    fn begin(shared: &Shared, step: &Step, record: Option<&Record>, file: u64) -> Self {
        let estimate = |estimate: &Option<Arc<Estimate>>| {
            let estimate = estimate.as_ref()?;
            let asked = || read(shared, |at| estimate(at));
            // Without an answer there is no percentage, or no look at the free space.
            catch_unwind(AssertUnwindSafe(asked)).ok()?.ok()
        };
        let known = record.and_then(|record| record.total);
        let total = known.or_else(|| estimate(&step.total));
        let needs = estimate(&step.needs_bytes).map(|bytes| match (record, total) {
            (Some(record), Some(total)) if total > 0 => {
                let left = total.saturating_sub(record.rows);
                u64::try_from(u128::from(bytes) * u128::from(left) / u128::from(total)).unwrap_or(bytes)
            }
            _ => bytes,
        });
        Self { step: step.clone(), pace: Pace::new(), total, needs, file, told: None }
    }

    /// # Errors
    /// `Full` with the numbers.
    fn refuse_without_room(&mut self, shared: &Shared) -> Result<()> {
        let Some(needs) = self.needs.filter(|_| shared.spec.memory.is_none()) else { return Ok(()) };
        let folder = shared.spec.path.parent().unwrap_or(&shared.spec.path);
        home::refuse_too_full(needs, folder, &format!("the step {}", self.step.name))?;
        // From here on it uses up what it asked for; a disk that others fill is met by a piece.
        self.needs = None;
        Ok(())
    }

    /// One piece.
    fn go_on(&mut self, shared: &Arc<Shared>) -> Went {
        let jobs = || shared.counters.jobs.load(Ordering::Relaxed);
        let (jobs_before, pages_before) = (jobs(), shared.checkpointer.wal_pages());
        match self.piece(shared) {
            Ok(Did::Rows { took }) => {
                self.told = None;
                shared.steps.tell(shared, self.step.name(), None);
                let pages = shared.checkpointer.wal_pages();
                // A log that became shorter began anew.
                let grown = if pages >= pages_before { pages - pages_before } else { pages };
                let others_write = jobs() > jobs_before + 1;
                Went::Again(Next::after(self.pace.went(took, grown, others_write)))
            }
            Ok(Did::Finished) => {
                shared.steps.tell(shared, self.step.name(), None);
                Went::Finished
            }
            Ok(Did::OtherSchema) => Went::OtherSchema,
            Ok(Did::OtherFile) => Went::OtherFile,
            Err(error) => Went::Again(self.failed(shared, error)),
        }
    }

    fn failed(&mut self, shared: &Arc<Shared>, error: Error) -> Next {
        use ErrorKind::{Closed, Latched, OutcomeUnknown, ReadOnly, Replaced};
        // The database's own trouble, which its health tells of. Where the watermark is, the next piece reads.
        if matches!(error.kind(), Closed | Latched | OutcomeUnknown | ReadOnly | Replaced) {
            return Next::after(LOOK_EVERY);
        }
        let again = self.pace.failed(Instant::now());
        if self.pace.is_to_be_told() {
            let error = shared.name(error);
            let text = error.to_string();
            if self.told.as_ref() != Some(&text) {
                // Another reason than before is told aloud as well.
                shared.steps.tell(shared, self.step.name(), None);
                shared.steps.tell(shared, self.step.name(), Some(&error));
                self.complain(shared, &error);
                self.told = Some(text);
            }
        }
        Next::At(again)
    }

    /// Leaves word in the database, for other processes to see.
    fn complain(&self, shared: &Arc<Shared>, error: &Error) {
        let (name, trouble) = (self.step.name.clone(), error.to_string());
        let job = move |tx: &Tx| tx.as_engine(|connection| record::complain(connection, &name, &trouble));
        // Where that cannot be written either, this process's warnings have to do.
        let _ = queue(shared, &self.step, job);
    }

    fn piece(&self, shared: &Arc<Shared>) -> Result<Did> {
        let (step, total, limit) = (self.step.clone(), self.total, self.pace.limit());
        let newest = migrate::newest_of(&shared.spec.domain);
        let (file, files) = (self.file, shared.steps.file.clone());
        queue(shared, &self.step, move |tx| {
            let began = Instant::now();
            if files.load(Ordering::SeqCst) != file {
                return Ok(Did::OtherFile);
            }
            if !(step.version..=newest).contains(&tx.as_engine(schema_version)?) {
                return Ok(Did::OtherSchema);
            }
            let after = match tx.as_engine(|connection| record::of(connection, &step.name))? {
                Some(record) if record.finished_at.is_some() => return Ok(Did::Finished),
                Some(record) => record.watermark,
                None => Watermark::Start,
            };
            let piece = Piece { after, limit };
            let (to, rows, finished) = match (step.work)(tx, &piece)? {
                Progress::More { to, .. } if to == piece.after => return Err(stands_still(&step)),
                Progress::More { to, rows } => (to, rows, false),
                Progress::Done => (piece.after, 0, true),
            };
            let name = &step.name;
            tx.as_engine(|connection| {
                record::advance(connection, &Advance { name, to: &to, rows, total, finished })
            })?;
            Ok(if finished { Did::Finished } else { Did::Rows { took: began.elapsed() } })
        })
    }
}

/// Runs a job of a step in the background lane, with a commit of its own: no neighbour waits for more than its piece, and
/// none makes it run again.
fn queue<R: Send + 'static>(
    shared: &Arc<Shared>,
    step: &Step,
    job: impl Fn(&Tx) -> Result<R> + Send + 'static,
) -> Result<R> {
    let label = Label::new(&format!("step {}", step.name));
    let came = Instant::now();
    let how = Queueing { label, lane: Lane::Background, alone: true, keeps: None, came };
    let deadline = instant_after(shared.spec.limits.deadline);
    let closed = |_| Error::new(ErrorKind::Closed, "the queue takes no more jobs");
    // Its own, not a caller's: not counted among what callers were answered.
    shared.queue(job, how, deadline).map_err(closed)?.wait_out()
}

fn read<R>(shared: &Shared, look: impl FnOnce(&Snapshot) -> Result<R>) -> Result<R> {
    let deadline = instant_after(LONGEST_READ);
    let connection = shared.readers.take(deadline)?;
    readers::read(&connection, Label::new("steps"), deadline, LONGEST_READ, look)
}

fn schema_version(connection: &Connection) -> Result<i64> {
    Ok(history::read_meta(connection)?.map_or(0, |meta| meta.schema_version))
}

fn stands_still(step: &Step) -> Error {
    Error::new(ErrorKind::Invalid, format!("a piece of the step {} ended where it began", step.name))
        .advise("answer Progress::More with the last key that was handled, or Progress::Done")
}
