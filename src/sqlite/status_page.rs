//! What each process is doing in its databases: one small mapped file per process in the home's `run/` (or in
//! shared memory: see [`place`]).
//!
//! The file is called `<pid>-<start time>.page`, has mode 0600 and 18 times 4096 bytes: words of 8 bytes,
//! little-endian on every platform this crate supports (a page of another byte order fails at its first word).
//! Texts fill their words from the first byte on, the rest is zero.
//!
//! | Words | Content |
//! |---|---|
//! | 0 | `rowhouse`, stored last: before it, the page is not one |
//! | 1 | layout version, 2 |
//! | 2, 3, 4 | process id, its start time, its namespace of process ids (as in `/proc/self/ns/pid`) |
//! | 5, 6..14 | program: length in bytes, text of at most 64 bytes |
//! | 14, 15..19 | version: length in bytes, text of at most 32 bytes |
//! | 32 + 16 n | slot n of 16; after the last one a spare slot that nobody reads |
//! | 512, 513..1024 | which counter is which word: length in bytes, text ([`stats`]) |
//! | 1024 + 512 n | the counters of slot n |
//!
//! | Word of a slot | Content |
//! |---|---|
//! | 0 | length of the database's name, stored after the name; 0: the slot is free |
//! | 1..5 | the name, at most 32 bytes |
//! | 5 | sequence: odd while words 6 to 11 are written |
//! | 6 | when the running job started, in milliseconds since 1970; 0: none runs |
//! | 7, 8..12 | its label: length in bytes, text of at most 32 bytes |
//! | 12..15 | not used |
//! | 15 | 1: latched |
//!
//! Invariants: a page gets its final name when it is complete; a slot's name is written once; a job's start and
//! label are read together or not at all (a sequence lock); a writer never waits and makes no system call.

mod place;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::home::{self, create_private_file};
use crate::processes;
use crate::sqlite::stats::{self, Counters, Stats};

const MAGIC: u64 = u64::from_le_bytes(*b"rowhouse");
const LAYOUT: u64 = 2;
const WORDS: usize = COUNTERS + SLOTS * COUNTERS_WORDS;
const PAGE_BYTES: usize = WORDS * 8;

const PROGRAM: usize = 5;
const PROGRAM_BYTES: usize = 64;
const VERSION: usize = 14;
const VERSION_BYTES: usize = 32;

const SLOTS: usize = 16;
const FIRST_SLOT: usize = 32;
const SLOT_WORDS: usize = 16;
const NAME: usize = 0;
const NAME_BYTES: usize = 32;
const SEQUENCE: usize = 5;
const SINCE: usize = 6;
const LABEL: usize = 7;
const LABEL_BYTES: usize = 32;
const LATCHED: usize = 15;

const TEXT: usize = 512;
const TEXT_BYTES: usize = (COUNTERS - TEXT - 1) * 8;
const COUNTERS: usize = 1024;
const COUNTERS_WORDS: usize = 512;
const _: () = assert!(size_of::<Counters>() <= COUNTERS_WORDS * 8, "the counters fit");

/// How often a reader looks again while a label is being written; a writer is done after some nanoseconds,
/// unless it was stopped or killed right there.
const ATTEMPTS: usize = 1000;

/// A page of a process in another namespace cannot be told dead; it is kept for so long after its last change.
const FOREIGN_AGE: Duration = Duration::from_hours(7 * 24);

/// The mapped file.
struct Map(MmapRaw);

impl Map {
    #[allow(clippy::cast_ptr_alignment, reason = "a mapping is page-aligned")]
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, PAGE_BYTES (= WORDS words) long, and lives as long as `self`. It is
        // shared memory that other processes and threads change: every access in this module is atomic, and a
        // read-only mapping is only ever loaded from. All bit patterns are valid. Nobody shortens a page: it is
        // created at its full size in a folder of mode 0700, and only removed afterwards.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast::<AtomicU64>(), WORDS) }
    }
}

/// This process's page; removed when dropped.
pub(crate) struct StatusPage {
    map: Arc<Map>,
    path: PathBuf,
    file: FileIdentity,
    pid: u32,
    names: Mutex<Vec<String>>,
}

impl StatusPage {
    /// Creates the page of this process for a home's `run/`, in the place of an earlier one.
    ///
    /// # Errors
    /// `Full`, `ReadOnly`, `Unsupported` or `Io`: a runtime can do without.
    pub(crate) fn create(run_dir: &Path, program: &str, version: &str) -> Result<Self> {
        match Self::create_in(&place::prepare(run_dir)?, program, version) {
            // Another process was the last one there and took the folder away.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Self::create_in(&place::prepare(run_dir)?, program, version)
            }
            created => created,
        }
    }

    fn create_in(folder: &Path, program: &str, version: &str) -> Result<Self> {
        let pid = std::process::id();
        let start_time = processes::stat(pid).map_or(0, |found| found.start_time);
        let path = folder.join(format!("{pid}-{start_time}.page"));
        let unfinished = path.with_extension("new");
        let failed = |error| Error::io("create the status page", &path, error);

        let _ = fs::remove_file(&unfinished);
        let file = create_private_file(&unfinished)?;
        // Written, not just extended: a page without its place on the disk would kill the writer with SIGBUS.
        std::io::Write::write_all(&mut &file, &vec![0; PAGE_BYTES]).map_err(failed)?;
        let map = Map(MmapOptions::new().len(PAGE_BYTES).map_raw(&file).map_err(failed)?);
        let words = map.words();
        words[1].store(LAYOUT, Relaxed);
        words[2].store(pid.into(), Relaxed);
        words[3].store(start_time, Relaxed);
        words[4].store(processes::namespace(), Relaxed);
        store_text(&words[PROGRAM..], program.as_bytes(), PROGRAM_BYTES);
        store_text(&words[VERSION..], version.as_bytes(), VERSION_BYTES);
        store_text(&words[TEXT..], stats::TEXT.as_bytes(), TEXT_BYTES);
        words[0].store(MAGIC, Release);
        let identity = FileIdentity::of(&file.metadata().map_err(failed)?);
        fs::rename(&unfinished, &path).map_err(failed)?;
        Ok(Self { map: Arc::new(map), path, file: identity, pid, names: Mutex::default() })
    }

    /// The slot of a database, the same one each time. A seventeenth database gets one that nobody reads.
    pub(crate) fn slot(&self, database: &str) -> Slot {
        let mut names = self.names.lock();
        let index = names.iter().position(|name| name == database).unwrap_or_else(|| {
            let index = names.len().min(SLOTS);
            if index < SLOTS {
                names.push(database.to_owned());
                let slot = slot_words(self.map.words(), index);
                store_text(&slot[NAME..], database.as_bytes(), NAME_BYTES);
            }
            index
        });
        Slot { map: Arc::clone(&self.map), index }
    }
}

impl StatusPage {
    /// Takes it away, for a process that has nothing open any more.
    pub(crate) fn withdraw(&self) {
        // A forked child has a copy of this value; the page stays its parent's. A later page of this process
        // may have taken the name.
        let still_ours = || fs::symlink_metadata(&self.path).is_ok_and(|found| self.file.is(&found));
        if std::process::id() == self.pid && still_ours() {
            let _ = fs::remove_file(&self.path);
            self.path.parent().map(place::leave);
        }
    }
}

impl Drop for StatusPage {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// Device and inode of a file.
struct FileIdentity(u64, u64);

impl FileIdentity {
    fn of(found: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(found.dev(), found.ino())
    }

    fn is(&self, found: &fs::Metadata) -> bool {
        let other = Self::of(found);
        self.0 == other.0 && self.1 == other.1
    }
}

/// One database of this process's page. Cheap to clone; stays usable after the page was dropped.
#[derive(Clone)]
pub(crate) struct Slot {
    map: Arc<Map>,
    index: usize,
}

impl Slot {
    fn words(&self) -> &[AtomicU64] {
        slot_words(self.map.words(), self.index)
    }

    /// A job runs from now on. Of its label the first 32 bytes are kept, cut between characters.
    pub(crate) fn job_started(&self, label: &[u8], since_unix_ms: u64) {
        publish(self.words(), |words| {
            words[SINCE].store(since_unix_ms, Relaxed);
            store_text(&words[LABEL..], label, LABEL_BYTES);
        });
    }

    /// No job runs any more.
    pub(crate) fn job_ended(&self) {
        publish(self.words(), |words| words[SINCE].store(0, Relaxed));
    }

    /// Where the database counts; `None` for one that nobody reads.
    #[inline]
    pub(crate) fn counters(&self) -> Option<&Counters> {
        let words = counter_words(self.map.words(), self.index)?;
        // SAFETY: `Counters` is `repr(C)` and holds nothing but `AtomicU64`s, of which it has no more than there are words
        // here (asserted above); the words live as long as `self`, and are only ever used atomically.
        Some(unsafe { &*words.as_ptr().cast::<Counters>() })
    }

    /// The database refuses work until it is reopened.
    pub(crate) fn set_latched(&self, latched: bool) {
        self.words()[LATCHED].store(latched.into(), Relaxed);
    }
}

fn slot_words(words: &[AtomicU64], index: usize) -> &[AtomicU64] {
    &words[FIRST_SLOT + index * SLOT_WORDS..][..SLOT_WORDS]
}

/// `None` for the spare slot.
fn counter_words(words: &[AtomicU64], index: usize) -> Option<&[AtomicU64]> {
    words[COUNTERS..].get(index * COUNTERS_WORDS..)?.get(..COUNTERS_WORDS)
}

/// Writes under the slot's sequence lock. If another thread is writing right now, that one's content stands.
#[inline]
fn publish(words: &[AtomicU64], write: impl FnOnce(&[AtomicU64])) {
    let sequence = words[SEQUENCE].load(Relaxed);
    let odd = sequence | 1;
    if sequence == odd || words[SEQUENCE].compare_exchange(sequence, odd, Acquire, Relaxed).is_err() {
        return;
    }
    // Orders the odd sequence before the content, as the store below orders the content before the even one.
    fence(Release);
    write(words);
    words[SEQUENCE].store(odd.wrapping_add(1), Release);
}

/// Start and label of the running job, as they were at one moment; `None` when none runs or a writer died in
/// the middle.
fn running_job(words: &[AtomicU64]) -> Option<(u64, String)> {
    for _ in 0..ATTEMPTS {
        let before = words[SEQUENCE].load(Acquire);
        if before & 1 == 0 {
            let since = words[SINCE].load(Relaxed);
            let label = load_bytes::<LABEL_BYTES>(&words[LABEL..], Relaxed);
            fence(Acquire);
            if words[SEQUENCE].load(Relaxed) == before {
                return (since != 0).then(|| (since, text(label)));
            }
        }
        std::hint::spin_loop();
    }
    None
}

/// Stores a text of at most `limit` bytes in the words after the first, then its length in the first.
#[inline]
fn store_text(words: &[AtomicU64], text: &[u8], limit: usize) {
    let text = cut(text, limit);
    let (whole, rest) = text.as_chunks();
    for (word, bytes) in words[1..].iter().zip(whole) {
        word.store(u64::from_le_bytes(*bytes), Relaxed);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        words[1 + whole.len()].store(u64::from_le_bytes(last), Relaxed);
    }
    words[0].store(text.len() as u64, Release);
}

/// The longest beginning of a UTF-8 text within a limit that does not end inside a character.
#[inline]
fn cut(text: &[u8], limit: usize) -> &[u8] {
    if text.len() <= limit {
        return text;
    }
    let inside = |at: usize| text[at] & 0b1100_0000 == 0b1000_0000;
    let end = (0..=limit).rev().find(|at| !inside(*at)).unwrap_or(0);
    &text[..end]
}

/// The length as stored, cut to the limit, and the words after it.
fn load_bytes<const LIMIT: usize>(
    words: &[AtomicU64],
    order: std::sync::atomic::Ordering,
) -> (usize, [u8; LIMIT]) {
    let length = usize::try_from(words[0].load(order)).unwrap_or(LIMIT).min(LIMIT);
    let mut bytes = [0; LIMIT];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(&words[1..]) {
        chunk.copy_from_slice(&word.load(Relaxed).to_le_bytes());
    }
    (length, bytes)
}

fn text<const LIMIT: usize>((length, bytes): (usize, [u8; LIMIT])) -> String {
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

/// What a process published about itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ProcessStatus {
    /// Its process id.
    pub pid: u32,
    /// When it started, in clock ticks since the system did; 0 where that is not known.
    pub start_time: u64,
    /// The program's name.
    pub program: String,
    /// The program's version.
    pub version: String,
    /// True while it runs, also when it is stopped; false when it left its page behind.
    pub alive: bool,
    /// The databases it has open, in the order it opened them.
    pub databases: Vec<DatabaseStatus>,
}

/// What a process published about one of its databases.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct DatabaseStatus {
    /// The domain's name.
    pub name: String,
    /// The label of the running job, if one runs and has a label.
    pub label: Option<String>,
    /// When the running job started, in milliseconds since 1970, if one runs.
    pub since_unix_ms: Option<u64>,
    /// Jobs in the queue.
    pub queue: u64,
    /// Commits since it was opened.
    pub commits: u64,
    /// Jobs done since it was opened.
    pub jobs: u64,
    /// True when it refuses work until it is reopened.
    pub latched: bool,
    /// What it did since it was opened.
    pub stats: Stats,
}

/// The pages in a home's `run/`, by process id. Files that are no pages, or of another layout, are skipped.
pub(crate) fn read_all(run_dir: &Path) -> Vec<ProcessStatus> {
    let mut found: Vec<_> = pages(run_dir).filter_map(|page| read(&page.path)).collect();
    found.sort_by_key(|process| (process.pid, process.start_time));
    found
}

/// Removes the pages, finished or not, that dead processes left behind; answers how many.
pub(crate) fn sweep(run_dir: &Path) -> usize {
    let alive: BTreeSet<_> =
        pages(run_dir).filter(|page| is_alive(page.pid, page.start_time)).map(|page| page.path).collect();
    pages(run_dir)
        .filter(|page| !alive.contains(&page.path) && !maybe_foreign(&page.path))
        .filter(|page| fs::remove_file(&page.path).is_ok())
        .count()
}

/// A file in `run/` that is named like a page.
struct PageFile {
    path: PathBuf,
    pid: u32,
    start_time: u64,
}

fn pages(run_dir: &Path) -> impl Iterator<Item = PageFile> {
    let folder = place::find(run_dir).and_then(|folder| {
        fs::read_dir(&folder).map_err(|error| Error::io("list the status pages", &folder, error))
    });
    folder.into_iter().flatten().filter_map(|entry| {
        let path = entry.ok()?.path();
        let ending = path.extension()?;
        let (pid, start_time) = path.file_stem()?.to_str()?.split_once('-')?;
        let (pid, start_time) = (pid.parse().ok()?, start_time.parse().ok()?);
        (ending == "page" || ending == "new").then_some(PageFile { path, pid, start_time })
    })
}

fn is_alive(pid: u32, start_time: u64) -> bool {
    processes::stat(pid).is_some_and(|found| found.start_time == start_time)
}

/// True for a page of another namespace of process ids (a container that shares the home) that changed lately.
fn maybe_foreign(path: &Path) -> bool {
    let namespace = open(path).map(|map| map.words()[4].load(Relaxed));
    namespace.is_some_and(|namespace| namespace != processes::namespace())
        && fs::metadata(path)
            .and_then(|found| found.modified())
            .is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age < FOREIGN_AGE))
}

/// Maps a page to read it; `None` when it is not one of this layout.
fn open(path: &Path) -> Option<Map> {
    let found = fs::symlink_metadata(path).ok()?;
    if !found.is_file() || found.len() != PAGE_BYTES as u64 {
        return None;
    }
    let file = home::open_to_read(path).ok()?;
    if file.metadata().ok()?.len() != PAGE_BYTES as u64 {
        return None;
    }
    let map = Map(MmapOptions::new().len(PAGE_BYTES).map_raw_read_only(&file).ok()?);
    let words = map.words();
    (words[0].load(Acquire) == MAGIC && words[1].load(Relaxed) == LAYOUT).then_some(map)
}

fn read(path: &Path) -> Option<ProcessStatus> {
    let map = open(path)?;
    let words = map.words();
    let pid = u32::try_from(words[2].load(Relaxed)).ok()?;
    let start_time = words[3].load(Relaxed);
    let here = words[4].load(Relaxed) == processes::namespace();
    let table = stats::Table::read(&text(load_bytes::<TEXT_BYTES>(&words[TEXT..], Relaxed)));
    let database = |index| {
        let counted = Stats::of(&table, counter_words(words, index)?);
        read_slot(slot_words(words, index), counted)
    };
    Some(ProcessStatus {
        pid,
        start_time,
        program: text(load_bytes::<PROGRAM_BYTES>(&words[PROGRAM..], Relaxed)),
        version: text(load_bytes::<VERSION_BYTES>(&words[VERSION..], Relaxed)),
        alive: here && is_alive(pid, start_time),
        databases: (0..SLOTS).filter_map(database).collect(),
    })
}

fn read_slot(words: &[AtomicU64], stats: Stats) -> Option<DatabaseStatus> {
    let name = load_bytes::<NAME_BYTES>(&words[NAME..], Acquire);
    if name.0 == 0 {
        return None;
    }
    let (since_unix_ms, label) = running_job(words).unzip();
    Some(DatabaseStatus {
        name: text(name),
        label: label.filter(|label| !label.is_empty()),
        since_unix_ms,
        queue: stats.queued,
        commits: stats.commits,
        jobs: stats.jobs,
        latched: words[LATCHED].load(Relaxed) != 0,
        stats,
    })
}

#[cfg(test)]
mod tests;
