//! Backfills: which folders of transcripts are indexed, how far, by whom.
//!
//! This part keeps the books; the work is done in [`rollout`](crate::rollout).
//!
//! Invariants:
//! - One process at a time runs a backfill of a home, however slow it is; when it dies the next one may at once
//!   (`owner`).
//! - A batch of files, what is noted of them, and the watermark behind them are one commit, and need the token of the
//!   claim (`claim`).
//! - Complete is not the end: the next claim begins anew, and files that did not change are not read again.
//! - Reads never write or delete: a row whose file is gone stays until it is swept.
//!
//! Tests: below; `tests/backfill.rs`, `tests/s4_s5_s6_backfill.rs`.

pub(crate) mod claim;
mod model;
pub(crate) mod owner;
mod sql;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use model::{
    BackfillCounts, BackfillOwner, BackfillProblem, BackfillProgress, BackfillReport, BackfillState,
    BackfillStatus, MissingFile, Reread, SweepReport,
};

use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Row, Session, Value};
use crate::sqlite::{Database, holders, now_unix_ms};
use crate::stores::database::FileDatabase;
use crate::stores::goals::{Goal, Goals};
use crate::stores::threads::{FileStamp, Threads, tombstone};
use owner::Right;

/// Files that a report or a status names; all are counted.
pub(crate) const NAMED: usize = 1_000;
/// Rows that one look at the database brings.
const PAGE: i64 = 500;
/// How long announcing a backfill may wait for the writer.
const LONGEST_ANNOUNCEMENT: Duration = Duration::from_millis(50);

/// How a backfill goes about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackfillLimits {
    /// Files that share a commit. Default 200.
    pub batch: usize,
    /// Bytes after which a commit is made while files are read whole. Default 64 MiB.
    pub batch_bytes: u64,
    /// How often an owner says that it is still at it, beside the mark of each batch. Default 10 s.
    pub heartbeat: Duration,
    /// How often a worker that waits for another process looks whether that is still there. Default 250 ms.
    pub look_every: Duration,
}

impl Default for BackfillLimits {
    fn default() -> Self {
        Self {
            batch: 200,
            batch_bytes: 64 << 20,
            heartbeat: Duration::from_secs(10),
            look_every: Duration::from_millis(250),
        }
    }
}

/// The backfills of a home. Cheap to clone.
///
/// ```
/// # fn main() -> rowhouse::Result<()> {
/// # let folder = tempfile::tempdir().expect("a folder");
/// use rowhouse::{Home, Runtime, ThreadQuery};
/// let runtime = Runtime::open(Home::at(folder.path().join("home")))?;
/// let backfill = runtime.backfill().start(folder.path())?; // in the background, from now on
/// let page = runtime.threads().list(&ThreadQuery::recent())?; // whatever is there already
/// if page.partial {
///     println!("there may be more: {:?}", backfill.progress());
/// }
/// println!("{} transcripts", backfill.join()?.counts.files);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Backfill {
    database: FileDatabase,
    /// The lock file of the right to run one; `None` for a database in memory.
    lock: Option<PathBuf>,
    /// What transcripts tell of goals goes there; `None` in a runtime without them.
    goals: Option<Goals>,
    limits: BackfillLimits,
}

/// A row of the table.
pub(crate) struct StoredBackfill {
    pub(crate) state: BackfillState,
    pub(crate) listed: bool,
    pub(crate) everything: bool,
    pub(crate) facts: i64,
    owner: Option<BackfillOwner>,
    heartbeat_at: Option<i64>,
    watermark: Option<String>,
    progress: BackfillProgress,
    finished_at: Option<i64>,
}

/// What is noted of a file beside its thread's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KnownNote {
    Bad,
    Duplicate { thread_id: String },
    Ends,
}

/// A row that was read from a file.
pub(crate) struct RowOfFile {
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) stamp: Option<FileStamp>,
}

impl Backfill {
    /// The backfills of a runtime; one without the state domain answers so at every use.
    pub(crate) fn of(database: Result<Database>, goals: Option<Goals>, lock: Option<PathBuf>) -> Self {
        let database = FileDatabase::in_file(database, "backfill").in_background();
        Self { database, lock, goals: goals.map(Goals::background), limits: BackfillLimits::default() }
    }

    /// With other limits than the default ones.
    #[must_use]
    pub fn limits(mut self, limits: BackfillLimits) -> Self {
        self.limits = limits;
        self
    }

    pub(crate) fn its_limits(&self) -> &BackfillLimits {
        &self.limits
    }

    /// Brings back goals that are missing.
    pub(crate) fn restore_goals(&self, goals: &[Goal]) -> Result<()> {
        self.goals.as_ref().map_or(Ok(()), |store| store.restore(goals))
    }

    /// The threads it fills, in the background lane.
    pub(crate) fn threads(&self) -> Threads {
        Threads::of(self.database.get().cloned().map(Into::into)).background()
    }

    pub(crate) fn database(&self) -> Result<&Database> {
        self.database.get()
    }

    /// The folders that were or are to be indexed, in the order of their paths.
    ///
    /// # Errors
    /// The engine's.
    pub fn status(&self) -> Result<Vec<BackfillStatus>> {
        let holder = self.lock.as_deref().and_then(holders::flock_holder);
        self.database.get()?.read(|at| {
            let rows = at.query(sql::ALL, &[])?;
            rows.iter()
                .map(|row| {
                    let root: String = row.get("root")?;
                    let stored = StoredBackfill::from_row(row)?;
                    let (from, below) = within(&root);
                    let params = ["bad".into(), from.into(), below.into(), (NAMED as i64).into()];
                    let problems = at.query(sql::FILES_OF_KIND, &params)?;
                    let running = stored.state == BackfillState::Running;
                    Ok(BackfillStatus {
                        root: root.into(),
                        state: stored.state,
                        listed: stored.listed,
                        owner: stored.owner,
                        holder: holder.clone().filter(|_| running),
                        heartbeat_at: stored.heartbeat_at,
                        watermark: stored.watermark.map(Into::into),
                        progress: stored.progress,
                        finished_at: stored.finished_at,
                        problems: problems.iter().map(problem).collect::<Result<_>>()?,
                    })
                })
                .collect()
        })
    }

    /// What is known of a folder.
    pub(crate) fn stored(&self, root: &str) -> Result<Option<StoredBackfill>> {
        self.database.get()?.read(|at| StoredBackfill::get(at, root))
    }

    /// Has lists say that they may lack threads of this folder, unless it was indexed before. Waits for it as long as a
    /// prompt may: where the writer has no time, that is said a moment later.
    pub(crate) fn announce(&self, root: &str, facts: i64) -> Result<()> {
        if self.stored(root)?.is_some() {
            return Ok(());
        }
        let progress = serde_json::to_string(&BackfillProgress::default()).unwrap_or_default();
        let params: [Value; 3] = [root.into(), facts.into(), progress.into()];
        let job = move |tx: &crate::Tx| Session::execute(tx, sql::ANNOUNCE, &params);
        // Whatever hinders it hinders the claim as well, which answers for it.
        if let Ok(mut ticket) = self.database.get()?.submit(job) {
            let _ = ticket.wait_for(LONGEST_ANNOUNCEMENT);
        }
        Ok(())
    }

    /// The home that threads are listed for; `None` in memory.
    pub(crate) fn home(&self) -> Option<&Path> {
        self.lock.as_deref()?.parent()?.parent()
    }

    fn take_right(&self) -> Result<Right> {
        let database = self.database.get()?.path();
        Right::try_take(self.lock.as_deref(), database)?.ok_or_else(|| owner::busy(self.lock.as_deref()))
    }

    /// Whether another process, or another thread, runs a backfill now. Without a lock file that shows at the claim.
    pub(crate) fn is_taken(&self) -> bool {
        self.lock.as_deref().and_then(holders::flock_holder).is_some()
    }

    /// For each file what is noted of it as it is now.
    pub(crate) fn notes(&self, files: &[(&str, FileStamp)]) -> Result<Vec<Option<KnownNote>>> {
        self.database.get()?.read(|at| {
            let note = |(path, stamp): &(&str, FileStamp)| {
                let rows = at.query(sql::FILE, &[(*path).into()])?;
                let Some(row) = rows.first() else { return Ok(None) };
                if file_stamp(row, ["size", "mtime_ns", "inode"])? != Some(*stamp) {
                    return Ok(None);
                }
                let kind: String = row.get("kind")?;
                Ok(Some(match (kind.as_str(), row.get("thread_id")?) {
                    ("bad", _) => KnownNote::Bad,
                    ("duplicate", Some(thread_id)) => KnownNote::Duplicate { thread_id },
                    _ => KnownNote::Ends,
                }))
            };
            files.iter().map(note).collect()
        })
    }

    /// Files of a folder that are still to be read whole, behind `after`, in the order of their paths.
    pub(crate) fn to_read_whole(&self, root: &str, after: Option<&str>) -> Result<Vec<String>> {
        let (from, below) = within(root);
        let from = after.map_or(from, str::to_owned);
        let params = ["ends".into(), from.into(), below.into(), PAGE.into()];
        self.paths(sql::FILES_OF_KIND, &params)
    }

    /// Files of a folder of which something is noted, behind `after`.
    pub(crate) fn noted(&self, root: &str, after: Option<&str>) -> Result<Vec<String>> {
        let (from, below) = within(root);
        let from = after.map_or(from, str::to_owned);
        self.paths(sql::FILES, &[from.into(), below.into(), PAGE.into()])
    }

    fn paths(&self, text: &'static str, params: &[Value]) -> Result<Vec<String>> {
        let rows = self.database.get()?.read(|at| at.query(text, params))?;
        rows.iter().map(|row| row.get("path")).collect()
    }

    /// Rows that were read from files of a folder, behind `after`, in the order of their paths.
    pub(crate) fn rows_of_files(&self, root: &str, after: Option<&RowOfFile>) -> Result<Vec<RowOfFile>> {
        let (from, below) = within(root);
        let (from, id) = after.map_or((from, ""), |row| (row.path.clone(), &row.id));
        let params = [from.into(), id.into(), below.into(), PAGE.into()];
        let rows = self.database.get()?.read(|at| at.query(sql::ROWS_OF_FILES, &params))?;
        let row = |row: &Row| {
            Ok(RowOfFile {
                id: row.get("id")?,
                path: row.get("rollout_path")?,
                stamp: file_stamp(row, ["rollout_size", "rollout_mtime_ns", "rollout_inode"])?,
            })
        };
        rows.iter().map(row).collect()
    }

    /// Does something while no backfill of the home runs, so that none has read files and is still to store what they say.
    ///
    /// # Errors
    /// `Busy` while one runs; those of `work`.
    pub(crate) fn while_none_runs<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let _right = self.take_right()?;
        work()
    }

    /// Removes the rows of these threads, and what the database holds of them, where they still have that file. Holds the
    /// right to run a backfill meanwhile, so that none finds the file elsewhere. Answers how many there were.
    ///
    /// # Errors
    /// `Busy` while a backfill runs; the engine's.
    pub(crate) fn remove_rows(
        &self,
        find: impl FnOnce() -> Result<Vec<MissingFile>>,
    ) -> Result<Vec<MissingFile>> {
        let _right = self.take_right()?;
        let gone = find()?;
        for some in gone.chunks(self.limits.batch) {
            self.database.get()?.write(|tx| {
                for file in some {
                    let path = file.path.to_string_lossy().into_owned();
                    let id = file.thread_id.as_str();
                    if Session::execute(tx, sql::SWEEP, &[id.into(), path.into()])? == 1 {
                        tombstone::remove_rest(tx, id)?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(gone)
    }
}

impl StoredBackfill {
    fn get(at: &impl Session, root: &str) -> Result<Option<Self>> {
        at.query(sql::GET, &[root.into()])?.first().map(Self::from_row).transpose()
    }

    fn from_row(row: &Row) -> Result<Self> {
        let state: String = row.get("state")?;
        let progress: String = row.get("progress")?;
        let owner = match row.get::<Option<String>>("owner_host")? {
            Some(host) => Some(BackfillOwner {
                host,
                boot_id: row.get("owner_boot")?,
                pid: row.get("owner_pid")?,
                start_time: row.get("owner_start")?,
            }),
            None => None,
        };
        Ok(Self {
            state: BackfillState::from_word(&state)
                .ok_or_else(|| Error::new(ErrorKind::Invalid, "state holds an unknown word"))?,
            listed: row.get("listed")?,
            everything: row.get("everything")?,
            facts: row.get("facts")?,
            owner,
            heartbeat_at: row.get("heartbeat_at")?,
            watermark: row.get("watermark")?,
            // Numbers for people: what another version wrote differently is no reason to stop.
            progress: serde_json::from_str(&progress).unwrap_or_default(),
            finished_at: row.get("finished_at")?,
        })
    }
}

fn file_stamp(row: &Row, [size, mtime_ns, inode]: [&str; 3]) -> Result<Option<FileStamp>> {
    let Some(size) = row.get(size)? else { return Ok(None) };
    Ok(Some(FileStamp { size, mtime_ns: row.get(mtime_ns)?, inode: row.get(inode)? }))
}

fn problem(row: &Row) -> Result<BackfillProblem> {
    let line: Option<i64> = row.get("line")?;
    let reason: Option<String> = row.get("reason")?;
    Ok(BackfillProblem {
        path: row.get::<String>("path")?.into(),
        line: line.and_then(|line| u64::try_from(line).ok()),
        reason: reason.unwrap_or_default(),
    })
}

/// The bounds of all paths below a folder: behind the first one, before the second.
fn within(root: &str) -> (String, String) {
    let folder = root.trim_end_matches('/');
    // `0` is the character after `/`.
    (format!("{folder}/"), format!("{folder}0"))
}

/// A folder as it is stored.
///
/// # Errors
/// `Unsupported` when its path is not UTF-8.
pub(crate) fn root_text(root: &Path) -> Result<&str> {
    root.to_str().ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "the path of the folder is not UTF-8")
            .at_path(root)
            .advise("rename it, or reach it by a mount of another name")
    })
}

fn now() -> i64 {
    i64::try_from(now_unix_ms()).unwrap_or(i64::MAX)
}
