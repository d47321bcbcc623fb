//! What a backfill says of itself.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::sqlite::holders::Holder;

/// How far a folder is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackfillState {
    /// Nobody has begun, or whoever did has stopped and left word how far it came.
    #[default]
    Pending,
    /// Somebody has begun. Whether it is still at it, [`BackfillStatus::holder`] tells.
    Running,
    /// Every file that was there is indexed. It begins again by itself when files changed.
    Complete,
}

impl BackfillState {
    const ALL: [Self; 3] = [Self::Pending, Self::Running, Self::Complete];

    /// The state as one word, as it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Complete => "complete",
        }
    }

    /// The state of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// The process that runs a backfill, so that no other one is taken for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillOwner {
    /// The machine's name.
    pub host: String,
    /// Which start of the machine; empty where the system does not tell.
    pub boot_id: String,
    /// Its process id.
    pub pid: i64,
    /// When the process started, in clock ticks since the machine did; 0 where the system does not tell.
    pub start_time: i64,
}

/// What was found and done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackfillCounts {
    /// Transcripts that had their turn, compressed and bad ones included.
    pub files: u64,
    /// Threads that are new in the store.
    pub imported: u64,
    /// Threads that changed.
    pub updated: u64,
    /// Files whose threads are as they were.
    pub unchanged: u64,
    /// Files of threads that the store has from another file, which holds as much or more.
    pub duplicates: u64,
    /// Files, links and folders that could not be read.
    pub bad: u64,
    /// `.jsonl.zst` files; without the feature `zstd` they are passed over.
    pub compressed: u64,
    /// Bad lines inside transcripts that were read nevertheless.
    pub bad_lines: u64,
    /// Files of which more than the two ends was read.
    pub read_whole: u64,
    /// Bytes read of transcripts.
    pub bytes_read: u64,
}

impl BackfillCounts {
    /// Both together.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            files: self.files + other.files,
            imported: self.imported + other.imported,
            updated: self.updated + other.updated,
            unchanged: self.unchanged + other.unchanged,
            duplicates: self.duplicates + other.duplicates,
            bad: self.bad + other.bad,
            compressed: self.compressed + other.compressed,
            bad_lines: self.bad_lines + other.bad_lines,
            read_whole: self.read_whole + other.read_whole,
            bytes_read: self.bytes_read + other.bytes_read,
        }
    }
}

/// How far a backfill has come, with what others did of it before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackfillProgress {
    /// What was found and done.
    #[serde(flatten)]
    pub counts: BackfillCounts,
    /// Transcripts in all, as soon as they are counted.
    pub total: Option<u64>,
    /// Every file has had its turn; what is left is reading some of them whole.
    pub listed: bool,
}

/// What a backfill of this process did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackfillReport {
    /// What was found and done, here: without what other processes did before.
    #[serde(flatten)]
    pub counts: BackfillCounts,
    /// Everything is done; false when it was stopped.
    pub complete: bool,
    /// Threads whose file is gone. Their rows stay until [`sweep`](super::Backfill::sweep).
    pub missing: u64,
    /// Which ones, the first 1,000.
    pub missing_files: Vec<MissingFile>,
    /// What could not be read, the first 1,000; `bad` counts all.
    pub problems: Vec<BackfillProblem>,
    /// Whoever ran it before and did not come to the end.
    pub taken_over_from: Option<BackfillOwner>,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackfillProblem {
    /// Where.
    pub path: PathBuf,
    /// In which line, from 1, where it is a line's fault.
    pub line: Option<u64>,
    /// Why, without any of its text.
    pub reason: String,
}

/// A row whose file is gone, or holds another thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissingFile {
    /// The thread.
    pub thread_id: String,
    /// Where its transcript was.
    pub path: PathBuf,
}

/// What [`sweep`](super::Backfill::sweep) removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SweepReport {
    /// Rows of threads that were removed.
    pub threads: u64,
    /// Which ones, the first 1,000.
    pub removed: Vec<MissingFile>,
}

/// A folder of transcripts, as the database knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackfillStatus {
    /// The folder.
    pub root: PathBuf,
    /// How far it is.
    pub state: BackfillState,
    /// Every file has had its turn: lists are whole.
    pub listed: bool,
    /// Who runs it, or ran it last.
    pub owner: Option<BackfillOwner>,
    /// The process that runs a backfill of this home right now, as the system tells. While the state is running and there
    /// is none, it was interrupted: the next one takes over.
    pub holder: Option<Holder>,
    /// When its owner was last heard of, in Unix milliseconds.
    pub heartbeat_at: Option<i64>,
    /// The last file of the last batch.
    pub watermark: Option<PathBuf>,
    /// How far it has come.
    pub progress: BackfillProgress,
    /// When it was last complete, in Unix milliseconds.
    pub finished_at: Option<i64>,
    /// Files that could not be read, the first 1,000 in the order of their paths.
    pub problems: Vec<BackfillProblem>,
}

/// Which files a backfill reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reread {
    /// Those whose size, time or inode is not the one of their last reading.
    #[default]
    Changed,
    /// All of them.
    Everything,
}
