//! A whole home as one file: to another machine, another path, or into a home that has threads already.
//!
//! In the file are the threads: transcripts byte for byte (also archived and compressed ones, and those outside the home that
//! its rows name; a history on a server as the transcript that a move to files would make of it), what users said of them,
//! goals, memories, spawn edges, and rows without a transcript. Not in it are the keys of a device, which belong to it; logs; whose lease a job is and which memories the last book was made of; what is
//! in the trash, in quarantine or in backups; the half lines that are kept beside a transcript.
//!
//! Invariants, and where they are tested:
//! 1. Nothing in the exporting home is changed or locked, and its programs go on (`tests/b3_portable_home.rs`, of a server
//!    `tests/home_elsewhere.rs`).
//! 2. An import merges by thread: what is here stays, what went on there comes in, and what went on in both places is left
//!    as it is and named. Done twice it changes nothing (`tests/b3_portable_home.rs`).
//! 3. All of the file is checked before anything is changed: one that is torn or damaged at any byte is refused with the
//!    place (`tests/portable_damage.rs`).
//! 4. A thread is seen when all of it is there. After a crash at any step the next import does what is left
//!    (`tests/thread_store_crashes.rs`).
//! 5. However large the home is, one thread's rows and a block of its transcript are in memory, and the ids of threads whose
//!    transcript is not where their row says.
//!
//! | file | what |
//! |---|---|
//! | `format` | the bytes |
//! | `stream` | plain or compressed |
//! | `export`, `leaves` | out of a home |
//! | `import`, `rows` | into a home |

mod export;
mod format;
mod import;
mod leaves;
mod rows;
mod stream;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::Result;
use crate::runtime::Runtime;

/// Problems that a report names; all are counted.
const NAMED: usize = 1_000;

/// What was exported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExportReport {
    /// The file.
    pub file: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// What is in it.
    #[serde(flatten)]
    pub counts: PortableCounts,
    /// Transcripts that are not in it, and histories on a server that could not be one.
    pub left_out: u64,
    /// The first 1,000 of them.
    pub problems: Vec<PortableProblem>,
}

/// What is in an exported home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PortableCounts {
    /// Rows of threads.
    pub rows: u64,
    /// Transcripts.
    pub transcripts: u64,
    /// Bytes of these.
    pub transcript_bytes: u64,
    /// Goals.
    pub goals: u64,
    /// Memories.
    pub memories: u64,
    /// Spawn edges.
    pub edges: u64,
}

/// How an import goes about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Check the file and say what would be done; nothing is changed.
    pub dry_run: bool,
}

impl ImportOptions {
    /// Nothing is changed.
    pub fn dry_run() -> Self {
        Self { dry_run: true }
    }
}

/// What an import did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ImportReport {
    /// The program that exported the home.
    pub exported_by: String,
    /// When, in RFC 3339.
    pub exported_at: String,
    /// What is in the file.
    #[serde(flatten)]
    pub counts: PortableCounts,
    /// Threads that were not here.
    pub new: u64,
    /// Threads of which there was more in the file than here.
    pub updated: u64,
    /// Threads that are here as they are in the file, or went on since.
    pub unchanged: u64,
    /// Threads that were left as they are: they went on here and there, somebody writes them now, or they were deleted here a
    /// moment ago.
    pub left: u64,
    /// Why, for the first 1,000 of them.
    pub problems: Vec<PortableProblem>,
    /// Nothing was changed: it was only found out what would be.
    pub dry_run: bool,
}

/// A thread, or a transcript, that an export or an import left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortableProblem {
    /// The thread, where that is known.
    pub thread: Option<String>,
    /// Why.
    pub reason: String,
}

impl Runtime {
    /// Writes all threads of this home into one file, which is not there yet: see [`portable`](crate::portable) for what is
    /// in it. A name that ends in `.zst` is compressed (with the feature `zstd`). The file is there when it is whole.
    /// `heard` is called after each thread.
    ///
    /// ```
    /// # fn main() -> rowhouse::Result<()> {
    /// use rowhouse::portable::ImportOptions;
    /// use rowhouse::{Home, Runtime};
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// let file = folder.path().join("threads.rowhouse");
    /// Runtime::open(Home::at(folder.path().join("here")))?.export_home(&file, &mut |_| {})?;
    /// // On another machine, once or twice:
    /// let there = Runtime::open(Home::at(folder.path().join("there")))?;
    /// assert_eq!(there.import_home(&file, &ImportOptions::default(), &mut |_| {})?.left, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Conflict` when the file exists; `Full`, `ReadOnly`, `Io` of its folder; `Unsupported` for `.zst` without the feature;
    /// `Replaced` when a thread was removed while its transcript was read; `NotFound` when the runtime has no state domain; the engine's. Then no file is left behind.
    pub fn export_home(&self, file: &Path, heard: &mut dyn FnMut(&ExportReport)) -> Result<ExportReport> {
        export::export(self, file, heard)
    }

    /// Brings the threads of an exported home into this one. `heard` is called after each thread.
    ///
    /// A transcript comes to where this home has such ones, whatever the other home's paths were. What a thread lacks here
    /// comes in; where it went on here it stays; where it went on in both places nothing of it is changed, and it is
    /// [`left`](ImportReport::left). Imported twice, or again after a crash, nothing is there twice.
    ///
    /// # Errors
    /// `Corrupt` naming the place when the file is torn or damaged, `Invalid` when it is something else, `Unsupported` when a
    /// later version made it: then nothing was changed. `Unsupported` in a runtime that keeps nothing, unless it is a dry run;
    /// `ReadOnly`, `Full`, `Io`; the engine's: then what came before is in, and the next import does the rest.
    pub fn import_home(
        &self,
        file: &Path,
        options: &ImportOptions,
        heard: &mut dyn FnMut(&ImportReport),
    ) -> Result<ImportReport> {
        import::import(self, file, options, heard)
    }
}
