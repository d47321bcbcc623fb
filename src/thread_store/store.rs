//! The trait, and what its calls take and give.

use serde::{Deserialize, Serialize};

use super::turns::{Anomaly, TurnPage, TurnQuery};
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::{Item, NewRollout};
use crate::stores::threads::{
    Change, SearchPage, ThreadPage, ThreadPatch, ThreadQuery, ThreadRow, ThreadSearch,
};

/// Where threads are kept: their history, what a list shows of them, and who may write.
///
/// Calls are sync and may block for the time of a disk write; they are safe from any thread. Ids are UUIDs in any case.
/// A thread is written by one session at a time, across all processes: [`create`](Self::create) and
/// [`resume`](Self::resume) take that right, [`shutdown`](Self::shutdown) and [`discard`](Self::discard) give it back.
/// Everything else needs no right but where it says so.
///
/// Errors are the library's one [`Error`], by [kind](ErrorKind): `NotFound` for a thread that is not there, `Conflict`
/// when another session has the right to write (the error names it), `Invalid` for bad input, `Unsupported` for what
/// this store cannot do.
pub trait ThreadStore: Send + Sync {
    /// What this store can do.
    fn capabilities(&self) -> Capabilities;

    /// Begins a thread, which this store may write from now on; answers its id. Nothing is kept before the first append
    /// or [`persist`](Self::persist).
    ///
    /// # Errors
    /// `Conflict` when there is a thread of this id; `Invalid` for an id that is no UUID.
    fn create(&self, thread: &NewRollout) -> Result<String>;

    /// Takes the right to write a thread that is there, archived or not. Changes nothing that a list shows.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` with the owner's name; the store's.
    fn resume(&self, thread: &str) -> Result<()>;

    /// True while another session waits for a thread that this store may write. An owner whose client has gone calls
    /// [`shutdown`](Self::shutdown) then. Cheap enough for every second. A store where nobody can wait answers false.
    fn is_wanted(&self, thread: &str) -> bool {
        let _ = thread;
        false
    }

    /// Adds items behind what is there, all of them or none: raw history, nothing is inferred from it. They are safe from
    /// a crash of the program at once, from a power cut after [`flush`](Self::flush).
    ///
    /// # Errors
    /// `Conflict` for a thread that this store was not told to [`create`](Self::create) or [`resume`](Self::resume); the
    /// store's. What could not be written stays here and is written with the next append or flush.
    fn append_items(&self, thread: &str, items: &[Item]) -> Result<()>;

    /// Makes a thread exist that has no items yet.
    ///
    /// # Errors
    /// As [`append_items`](Self::append_items).
    fn persist(&self, thread: &str) -> Result<()>;

    /// Answers when everything appended so far survives a power cut.
    ///
    /// # Errors
    /// As [`append_items`](Self::append_items).
    fn flush(&self, thread: &str) -> Result<()>;

    /// Flushes, and gives the right to write back. Nothing happens when this store does not have it.
    ///
    /// # Errors
    /// The store's; the right is given back only when everything was written.
    fn shutdown(&self, thread: &str) -> Result<()>;

    /// Gives the right to write back and drops what was never written. May be called twice.
    ///
    /// # Errors
    /// The store's.
    fn discard(&self, thread: &str) -> Result<()>;

    /// All items of a thread, in their order, read as they are asked for.
    ///
    /// # Errors
    /// `NotFound`; the store's. Items in the stream may fail on their own: the stream goes on behind them.
    fn load_history(&self, thread: &str) -> Result<History<'_>>;

    /// What a list shows of one thread, live or archived.
    ///
    /// # Errors
    /// `NotFound`; the store's.
    fn read(&self, thread: &str) -> Result<ThreadRow>;

    /// One page of threads.
    ///
    /// # Errors
    /// `Invalid` for a bad page size or cursor; the store's.
    fn list(&self, query: &ThreadQuery) -> Result<ThreadPage>;

    /// Threads whose name, title or preview holds these words.
    ///
    /// # Errors
    /// `Invalid` for a bad page size; the store's.
    fn search(&self, search: &ThreadSearch) -> Result<SearchPage>;

    /// One page of turns. Rolled-back turns are hidden.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a bad page size or cursor; the store's.
    fn list_turns(&self, thread: &str, query: &TurnQuery) -> Result<TurnPage>;

    /// What does not fit in the thread's history. It is passed by everything else.
    ///
    /// # Errors
    /// `NotFound`; the store's.
    fn anomalies(&self, thread: &str) -> Result<Vec<Anomaly>>;

    /// Reads the whole history again and makes of it what a list and [`list_turns`](Self::list_turns) show.
    ///
    /// # Errors
    /// `NotFound`; the store's.
    fn rebuild(&self, thread: &str) -> Result<ThreadRow>;

    /// Changes what a list shows of a thread: the only way to do it. One patch is one transaction; an empty one is a
    /// read. Takes the right to write for as long as it lasts, unless this store has it.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` with the owner's name; `Invalid`; the store's.
    fn update_metadata(&self, thread: &str, patch: &ThreadPatch) -> Result<ThreadRow>;

    /// Moves a thread to the archive. One that is there stays as it is.
    ///
    /// # Errors
    /// As [`update_metadata`](Self::update_metadata).
    fn archive(&self, thread: &str) -> Result<ThreadRow>;

    /// Takes a thread out of the archive. One that is not there stays as it is.
    ///
    /// # Errors
    /// As [`update_metadata`](Self::update_metadata).
    fn unarchive(&self, thread: &str) -> Result<ThreadRow>;

    /// Removes a thread for good: its history, its row, its goal, its logs, its memory. Takes the right to write; where
    /// this store has it, it ends. What could not be done, or was cut short by a crash, is done by the next start:
    /// nothing shows the thread meanwhile. A thread of which only something elsewhere is left counts as there.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` with the owner's name, and for a thread with descendants, unless they are to go too;
    /// `Invalid` for a transcript that lies outside the home; the store's. Nothing has changed then, but for a tree of
    /// more than 256 threads, which goes in pieces, the lowest first.
    fn delete(&self, thread: &str, options: &DeleteOptions) -> Result<Deleted>;

    /// Begins a thread with the history of another one up to a point, which this store may write from now on; answers its
    /// id. The other one may be in use.
    ///
    /// # Errors
    /// `NotFound` for the source or the point; `Conflict` when there is a thread of the new id; the store's.
    fn fork(&self, source: &str, point: &ForkPoint, thread: &NewRollout) -> Result<String>;
}

/// The items of a thread.
pub type History<'a> = Box<dyn Iterator<Item = Result<Item>> + Send + 'a>;

/// What a store can do. What it cannot answers `Unsupported`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "one answer per ability")]
pub struct Capabilities {
    /// Keeps threads when the program ends.
    pub durable: bool,
    /// Has one file per thread, whose path the rows tell.
    pub files: bool,
    /// Answers [`search`](ThreadStore::search).
    pub search: bool,
    /// Answers [`list_turns`](ThreadStore::list_turns).
    pub turns: bool,
    /// Answers [`delete`](ThreadStore::delete).
    pub delete: bool,
    /// Answers [`fork`](ThreadStore::fork).
    pub fork: bool,
}

/// Up to where a fork takes the history of its source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForkPoint {
    /// All that was flushed.
    #[default]
    End,
    /// Up to the end of this turn.
    AfterTurn(String),
    /// Up to the beginning of this turn.
    BeforeTurn(String),
}

/// What [`ThreadStore::delete`] may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Also the threads that it started, and theirs. Without it a thread with descendants is not deleted.
    pub descendants: bool,
    /// Only count what would go, descendants included, whoever may write them.
    pub dry_run: bool,
    /// A thread whose transcript lies outside this home goes from its databases, and the file stays as it is: another import
    /// of it brings the thread back. Without it such a thread is not deleted.
    pub forget: bool,
}

/// What went, or would go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The threads, the one asked for first, then those below it, breadth first.
    pub threads: Vec<String>,
    /// Their files.
    pub files: u64,
    /// Bytes of these.
    pub file_bytes: u64,
    /// Goals of theirs.
    pub goals: u64,
    /// Log rows of theirs.
    pub log_rows: u64,
    /// Memories drawn from them.
    pub memories: u64,
    /// Nothing was removed: it was only counted.
    pub dry_run: bool,
    /// What could not be done now, and why; the next start does it.
    pub pending: Vec<String>,
}

pub(super) fn not_found(thread: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no thread {thread}"))
        .advise("list the threads to see which there are")
}

/// A patch does not say where a thread lies.
pub(super) fn refuse_place(patch: &ThreadPatch) -> Result<()> {
    if patch.archived_at == Change::Leave && patch.rollout_path == Change::Leave {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, "where a thread lies is not patched")
        .advise("use archive() or unarchive()"))
}

pub(super) fn not_ours(thread: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("this store does not have the right to write thread {thread}"))
        .advise("create or resume it first")
}
