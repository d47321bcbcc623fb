//! Snapshots of several databases at one common instant, while everybody goes on writing.
//!
//! A commit needs the write lock of its database. So whoever has the write locks of all of them at once can begin a
//! snapshot of each, and no commit of any process lies between two of these.
//!
//! Invariants:
//! 1. The locks are taken in the order given, which is the same for everybody, after the turn: this process's own writer
//!    waits in line like those of others, between two batches, and needs to be told nothing.
//! 2. They are held together for at most [`LONGEST_HOLD`]. When one does not come in that time all are given back, that
//!    one is waited for alone, and all are taken anew: a stuck holder of one database does not hold the others up.
//! 3. Nothing is written: the connection that takes the lock rolls back, and closes without a checkpoint.
//!
//! Tests: `tests/b1_backup.rs`.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::clock::instant_after;
use super::connect::Spec;
use super::generation::User;
use super::tx::Snapshot;
use super::visit::Visit;
use crate::error::{Error, ErrorKind, Result};

/// How long the write locks are held while others are waited for. Far below any writer's deadline.
const LONGEST_HOLD: Duration = Duration::from_secs(1);

/// Pages between two looks at the progress: 8 MiB.
const STEP: i32 = 2048;

/// A database that is about to be copied.
pub(crate) struct Source {
    snapshot: Snapshot,
    /// Takes the write lock, and does nothing else.
    visit: Visit,
    /// What is left of the time that its lock is waited for.
    patience: Duration,
}

/// A database whose lock did not come, or that could not be read.
pub(crate) struct Failed {
    pub(crate) index: usize,
    pub(crate) error: Error,
}

impl Source {
    /// Opens a database as it is: creates nothing, migrates nothing, and takes a newer schema as well.
    ///
    /// # Errors
    /// As [`Visit::begin`].
    pub(crate) fn open(spec: &Spec, patience: Duration) -> Result<Self> {
        let visit = Visit::begin(spec, User::Backup, patience)?;
        Ok(Self { snapshot: spec.open_reader(User::Backup)?, visit, patience })
    }

    pub(crate) fn name(&self) -> &str {
        self.visit.spec().domain.name()
    }

    /// Takes the turn and the write lock. `Busy` with the holder when they do not come by `until`.
    fn lock(&mut self, until: Instant) -> Result<()> {
        self.visit.lock(until).map_err(|error| match error.kind() {
            ErrorKind::Busy => {
                error.worded("the database is locked by somebody else, so no common instant could be found")
            }
            _ => error,
        })
    }

    fn unlock(&mut self) {
        self.visit.unlock();
    }

    /// Waits for the lock without holding any other, and gives it back.
    fn wait_alone(&mut self) -> Result<()> {
        let from = Instant::now();
        self.lock(instant_after(self.patience))?;
        self.unlock();
        // The vain wait of the round before counts too, so that rounds come to an end.
        self.patience = self.patience.saturating_sub(from.elapsed() + LONGEST_HOLD);
        Ok(())
    }

    fn begin_snapshot(&self) -> Result<()> {
        self.snapshot.control().begin()?;
        self.snapshot.row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
        Ok(())
    }

    /// How many bytes the copy will have.
    ///
    /// # Errors
    /// Of SQLite.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let number = |pragma: &str| {
            self.snapshot.connection().pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
        };
        let bytes = || Ok(number("page_count")?.saturating_mul(number("page_size")?).cast_unsigned());
        self.visit.spec().named(bytes())
    }

    /// Copies the snapshot into an empty file, as one file that needs no other beside it; not yet durable. `progress`
    /// learns of bytes done and to do.
    ///
    /// # Errors
    /// Of SQLite.
    pub(crate) fn copy_to(&self, file: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        self.visit.spec().named(self.try_copy_to(file, progress))
    }

    #[allow(clippy::disallowed_methods, reason = "a file of our own outside the home's databases")]
    fn try_copy_to(&self, file: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        use rusqlite::OpenFlags;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut target = Connection::open_with_flags(file, flags)?;
        // The caller makes the whole file durable, once.
        target.pragma_update(None, "synchronous", false)?;
        let total = self.bytes()?;
        {
            let backup = Backup::new(self.snapshot.connection(), &mut target)?;
            loop {
                match backup.step(STEP)? {
                    StepResult::Done => break,
                    StepResult::More => {
                        let left = u64::try_from(backup.progress().remaining).unwrap_or(0);
                        let pages = u64::try_from(backup.progress().pagecount).unwrap_or(0).max(1);
                        progress(total - total.min(total / pages * left), total);
                    }
                    _ => return Err(Error::new(ErrorKind::Busy, "the copy is in use by somebody else")),
                }
            }
        }
        target.query_row("PRAGMA journal_mode=DELETE", [], |_| Ok(()))?;
        target.close().map_err(|(_, error)| error)?;
        progress(total, total);
        Ok(())
    }
}

/// Begins a snapshot of each database at one common instant; answers for how long nobody could write.
///
/// # Errors
/// Which database it failed at, and why: `Busy` naming the holder when its lock did not come in its time.
pub(crate) fn one_instant(sources: &mut [Source]) -> Result<Duration, Failed> {
    loop {
        let failed = match all_at_once(sources) {
            Ok(held) => return Ok(held),
            Err(failed) => failed,
        };
        let source = &mut sources[failed.index];
        let answer = match failed.error.kind() {
            // The first one was waited for alone already.
            ErrorKind::Busy if failed.index > 0 && !source.patience.is_zero() => source.wait_alone(),
            _ => Err(failed.error),
        };
        answer.map_err(|error| Failed {
            index: failed.index,
            error: error.in_database(sources[failed.index].name(), &sources[failed.index].visit.spec().path),
        })?;
    }
}

/// One round: all locks, all snapshots, all locks given back.
fn all_at_once(sources: &mut [Source]) -> Result<Duration, Failed> {
    let mut since = None;
    let mut locked = Ok(());
    let mut count = 0;
    for (index, source) in sources.iter_mut().enumerate() {
        // Nobody is held up yet while the first is waited for.
        let until = since.map_or_else(|| instant_after(source.patience), |since| since + LONGEST_HOLD);
        locked = source.lock(until).map_err(|error| Failed { index, error });
        if locked.is_err() {
            break;
        }
        since.get_or_insert_with(Instant::now);
        count += 1;
    }
    let begun = locked.and_then(|()| {
        let begin = |(index, source): (usize, &Source)| {
            source.begin_snapshot().map_err(|error| Failed { index, error })
        };
        sources.iter().enumerate().try_for_each(begin)
    });
    sources[..count].iter_mut().for_each(Source::unlock);
    if begun.is_err() {
        for source in &mut *sources {
            let _ = source.snapshot.control().commit();
        }
    }
    begun.map(|()| since.map_or(Duration::ZERO, |since| since.elapsed()))
}
