//! Brings a folder of transcripts into a store, a batch of files at a time.
//!
//! Invariants:
//! - A file whose size, time and inode are those of the last reading is not read again, and a second run over the same
//!   folder changes nothing.
//! - No file stops the others: what cannot be read is counted and named, with its line where there is one.
//! - Of several files of one thread the longest counts, as transcripts only grow; of equals the one already known.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::layout::{RolloutFile, walk};
use super::metadata::{self, BadRollout};
use crate::error::{Error, Result};
use crate::stores::threads::{ThreadFacts, Threads};

/// Files that share a transaction.
const BATCH: usize = 200;
/// Problems that a report names; all are counted.
const NAMED_PROBLEMS: usize = 1_000;

/// How far an import has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Transcripts looked at.
    pub files: u64,
    /// Threads that are new in the store.
    pub imported: u64,
    /// Threads that changed.
    pub updated: u64,
    /// Threads that are as they were.
    pub unchanged: u64,
    /// Files, links and folders that could not be read.
    pub bad: u64,
    /// Bytes read.
    pub bytes_read: u64,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// Transcripts found, compressed and bad ones included.
    pub files: u64,
    /// Threads that are new in the store.
    pub imported: u64,
    /// Threads that changed.
    pub updated: u64,
    /// Threads that are as they were.
    pub unchanged: u64,
    /// Files of threads that the store has from another file, which holds as much or more.
    pub duplicates: u64,
    /// Files, links and folders that could not be read.
    pub bad: u64,
    /// `.jsonl.zst` files, which are not read yet.
    pub compressed: u64,
    /// Bad lines inside transcripts that were read nevertheless.
    pub bad_lines: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// What could not be read, the first 1,000; `bad` counts all.
    pub problems: Vec<ImportProblem>,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImportProblem {
    /// Where.
    pub path: PathBuf,
    /// In which line, from 1, where it is a line's fault.
    pub line: Option<u64>,
    /// Why, without any of its text.
    pub reason: String,
}

/// Brings the transcripts of a folder into the store: what [`walk`](super::walk) finds, newest first, 200 to a
/// transaction in the background lane. `progress` hears of each batch.
///
/// # Errors
/// When there is no such folder, and those of the store's database. A bad file is none: the report names it.
pub fn import(threads: &Threads, dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<ImportReport> {
    let mut run = Import { threads: threads.clone().background(), report: ImportReport::default() };
    let mut files = walk(dir)?;
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        for found in files.by_ref() {
            match found {
                Ok(file) => batch.extend(run.wanted(file)),
                Err(error) => run.problem(dir, None, &error),
            }
            if batch.len() == BATCH {
                break;
            }
        }
        if batch.is_empty() {
            break;
        }
        run.batch(batch)?;
        progress(run.progress());
    }
    Ok(run.report)
}

struct Import {
    threads: Threads,
    report: ImportReport,
}

/// A file whose path can be stored.
struct Candidate {
    file: RolloutFile,
    path: String,
}

impl Import {
    fn wanted(&mut self, file: RolloutFile) -> Option<Candidate> {
        self.report.files += 1;
        if file.compressed {
            self.report.compressed += 1;
            return None;
        }
        let Some(path) = file.path.to_str().map(str::to_owned) else {
            let error = Error::new(crate::ErrorKind::Unsupported, "its path is not UTF-8");
            self.problem(&file.path, None, &error);
            return None;
        };
        Some(Candidate { file, path })
    }

    fn batch(&mut self, mut batch: Vec<Candidate>) -> Result<()> {
        let keys: Vec<_> = batch.iter().map(|one| (one.path.as_str(), one.file.stamp)).collect();
        let mut known = self.threads.are_read(&keys)?.into_iter();
        let before = batch.len();
        batch.retain(|_| !known.next().unwrap_or(false));
        self.report.unchanged += (before - batch.len()) as u64;

        // Most duplicates are told by their name, and are not even read.
        let named: Vec<_> = batch.iter().map(|one| one.file.id_in_name().unwrap_or_default()).collect();
        let longest = self.longest_known(&named)?;
        let mut read: Vec<ThreadFacts> = Vec::with_capacity(batch.len());
        for (one, id) in batch.into_iter().zip(&named) {
            if longest.get(id.as_str()).is_some_and(|known| known.beats(&one.path, one.file.stamp.size)) {
                self.report.duplicates += 1;
            } else {
                read.extend(self.read(&one.file.path));
            }
        }
        self.store(read)
    }

    fn read(&mut self, path: &Path) -> Option<ThreadFacts> {
        match metadata::read(path) {
            Ok(facts) => {
                self.report.bytes_read += facts.bytes_read;
                self.report.bad_lines += facts.bad_lines;
                Some(facts.thread)
            }
            Err(BadRollout { line, error, bytes_read }) => {
                self.report.bytes_read += bytes_read;
                self.problem(path, line, &error);
                None
            }
        }
    }

    /// Stores one file per thread: the longest, if it is longer than the one known.
    fn store(&mut self, mut read: Vec<ThreadFacts>) -> Result<()> {
        let ids: Vec<_> = read.iter().map(|facts| facts.id.clone()).collect();
        let mut longest = self.longest_known(&ids)?;
        for (id, facts) in ids.iter().zip(&read) {
            let (path, size) = place(facts);
            if !longest.get(id.as_str()).is_some_and(|known| known.beats(path, size)) {
                longest.insert(id, Longest { path: path.to_owned(), size });
            }
        }
        let before = read.len();
        read.retain(|facts| longest.get(facts.id.as_str()).is_some_and(|known| known.path == place(facts).0));
        self.report.duplicates += (before - read.len()) as u64;
        let done = self.threads.upsert(&read)?;
        self.report.imported += done.inserted;
        self.report.updated += done.updated;
        self.report.unchanged += done.unchanged;
        Ok(())
    }

    /// For each id the file that its row was read from, where that still exists.
    fn longest_known<'a>(&self, ids: &'a [String]) -> Result<HashMap<&'a str, Longest>> {
        let keys: Vec<_> = ids.iter().map(String::as_str).collect();
        let known = self.threads.files_of(&keys)?;
        let still_there = |path: &str| Path::new(path).symlink_metadata().is_ok_and(|found| found.is_file());
        Ok(keys
            .into_iter()
            .zip(known)
            .filter_map(|(id, known)| Some((id, known?)))
            .filter(|(_, known)| still_there(&known.path))
            .map(|(id, known)| (id, Longest { path: known.path, size: known.size }))
            .collect())
    }

    fn problem(&mut self, path: &Path, line: Option<u64>, error: &Error) {
        self.report.bad += 1;
        if self.report.problems.len() < NAMED_PROBLEMS {
            let path = error.path().unwrap_or(path).to_owned();
            self.report.problems.push(ImportProblem { path, line, reason: error.message().to_owned() });
        }
    }

    fn progress(&self) -> Progress {
        let ImportReport { files, imported, updated, unchanged, bad, bytes_read, .. } = self.report;
        Progress { files, imported, updated, unchanged, bad, bytes_read }
    }
}

struct Longest {
    path: String,
    size: i64,
}

impl Longest {
    fn beats(&self, path: &str, size: i64) -> bool {
        self.path != path && self.size >= size
    }
}

fn place(facts: &ThreadFacts) -> (&str, i64) {
    (facts.rollout_path.as_deref().unwrap_or_default(), facts.stamp.map_or(0, |stamp| stamp.size))
}
