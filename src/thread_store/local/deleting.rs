//! A thread goes from everywhere.
//!
//! The order: the right to write all of them; a tombstone each, with which the rows go; files to the trash; goals; logs; the
//! trash; the write-ahead logs, in which all of it still stands; the tombstones. A crash leaves tombstones, and whoever
//! opens the store next goes on behind them: every step may be done again.
//!
//! A tombstone goes while no backfill runs, since one may have read a file before it went and be about to store what it
//! says. Facts and turns that a session read look whether their file is still there, in the transaction that stores them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::super::deletion;
use super::super::store::{DeleteOptions, Deleted, not_found};
use super::{HAND_OVER, Inner};
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::WriterLease;
use crate::sqlite::now_unix_ms;
use crate::stores::spawn_edges;
use crate::stores::threads::tombstone::{self, Tombstone};
use crate::telemetry;

/// Threads that are deleted at once: each needs a descriptor for its lock.
const AT_ONCE: usize = 256;
/// How long a write-ahead log is waited for that somebody reads.
const CUT_WITHIN: Duration = Duration::from_secs(2);
/// The databases that hold something of a thread.
const DATABASES: [&str; 3] = ["state", "goals", "logs"];

impl Inner {
    pub(super) fn delete(&self, thread: &str, options: &DeleteOptions) -> Result<Deleted> {
        let (state, engine) = (self.index.state(), self.index.engine());
        let family = deletion::family(&engine, thread, options)?;
        if options.dry_run {
            let counted = self.count(&family, options)?;
            return if deletion::is_anything(&engine, thread, &counted)? {
                Ok(Deleted { dry_run: true, ..counted })
            } else {
                Err(not_found(thread))
            };
        }
        if !state.read(|at| tombstone::is_known(at, thread))?
            && !deletion::is_anything(&engine, thread, &self.count(&family, options)?)?
        {
            return Err(not_found(thread));
        }
        // Before anybody's right to write is taken: what is refused ends no session.
        let named = state.read(|at| tombstone::paths_of(at, &family))?;
        let pairs: Vec<_> = family.iter().zip(&named).collect();
        self.refuse_outside(&pairs, &self.files(&pairs)?, options)?;
        if family.len() > AT_ONCE {
            // Nobody may have one of them; not all can be held at once.
            for id in &family {
                if self.writing(id).is_none() {
                    self.rollouts.lease(id, HAND_OVER)?;
                }
            }
        }
        let mut deleted = Deleted { threads: family.clone(), ..Deleted::default() };
        // The lowest first, so that those above still lead to what is left.
        for some in family.rchunks(AT_ONCE) {
            self.delete_some(thread, &family, some, options, &mut deleted)?;
        }
        Ok(deleted)
    }

    fn delete_some(
        &self,
        root: &str,
        family: &[String],
        threads: &[String],
        options: &DeleteOptions,
        deleted: &mut Deleted,
    ) -> Result<()> {
        let leases = self.leases_of(threads)?;
        let named = self.index.state().read(|at| tombstone::paths_of(at, threads))?;
        let pairs: Vec<_> = threads.iter().zip(&named).collect();
        let files = self.files(&pairs)?;
        self.refuse_outside(&pairs, &files, options)?;
        let noted: Vec<Vec<String>> = threads
            .iter()
            .zip(&named)
            .map(|(id, named)| {
                let files = files.iter().filter(|(of, _)| of == id).flat_map(|(_, files)| files);
                files.filter_map(|path| path.to_str().map(str::to_owned)).chain(named.clone()).collect()
            })
            .collect();
        let now = i64::try_from(now_unix_ms()).unwrap_or(i64::MAX);
        let known: BTreeSet<&String> = family.iter().collect();
        deleted.memories += self.index.state().write(|tx| {
            let below = spawn_edges::descendants_of(tx, root)?;
            if below.iter().any(|id| !known.contains(id)) {
                return Err(Error::new(ErrorKind::Conflict, "the thread started another one just now")
                    .advise("end it, and try again"));
            }
            let mut memories = 0;
            for (id, noted) in threads.iter().zip(&noted) {
                memories += tombstone::set(tx, id, noted, now)?;
            }
            Ok(memories)
        })?;
        self.carry_out(&leases, files, deleted);
        Ok(())
    }

    /// The right to write each of these threads. Those that this store has are taken last: a refusal leaves them.
    fn leases_of(&self, threads: &[String]) -> Result<Vec<WriterLease>> {
        let (ours, others): (Vec<_>, Vec<_>) = threads.iter().partition(|id| self.writing(id).is_some());
        let mut leases =
            others.into_iter().map(|id| self.rollouts.lease(id, HAND_OVER)).collect::<Result<Vec<_>>>()?;
        for id in ours {
            leases.push(match self.take_over(id) {
                Some(lease) => lease,
                None => self.rollouts.lease(id, HAND_OVER)?,
            });
        }
        Ok(leases)
    }

    /// The files of each thread; with what its row named.
    fn files(&self, threads: &[(&String, &Option<String>)]) -> Result<Vec<(String, Vec<PathBuf>)>> {
        let threads: Vec<_> =
            threads.iter().map(|(id, named)| (id.as_str(), named.as_deref().map(Path::new))).collect();
        Ok(self.rollouts.files_of(&threads)?.into_iter().collect())
    }

    fn refuse_outside(
        &self,
        threads: &[(&String, &Option<String>)],
        files: &[(String, Vec<PathBuf>)],
        options: &DeleteOptions,
    ) -> Result<()> {
        if options.forget {
            // What lies outside is among nobody's files here, so it stays.
            return Ok(());
        }
        threads.iter().try_for_each(|(id, named)| {
            let own = files.iter().find(|(of, _)| of == *id).map_or(&[][..], |(_, files)| files);
            self.rollouts.refuse_outside(id, named.as_deref().map(Path::new), own)
        })
    }

    fn count(&self, family: &[String], options: &DeleteOptions) -> Result<Deleted> {
        let state = self.index.state();
        let mut counted = deletion::count(&self.runtime, &self.index.engine(), family)?;
        let named = state.read(|at| tombstone::paths_of(at, family))?;
        let pairs: Vec<_> = family.iter().zip(&named).collect();
        let all = self.files(&pairs)?;
        self.refuse_outside(&pairs, &all, options)?;
        for (id, mut files) in all {
            files.extend(self.rollouts.in_trash(&id)?);
            add_files(&mut counted, &files);
        }
        Ok(counted)
    }

    /// Everything behind the tombstones of these threads. What fails is pending, and their tombstones stay.
    fn carry_out(&self, leases: &[WriterLease], files: Vec<(String, Vec<PathBuf>)>, deleted: &mut Deleted) {
        let before = deleted.pending.len();
        let mut files: std::collections::BTreeMap<_, _> = files.into_iter().collect();
        for lease in leases {
            let id = lease.id();
            let moved = self
                .rollouts
                .move_to_trash(lease, files.remove(id).unwrap_or_default())
                .and_then(|_| self.rollouts.in_trash(id));
            deletion::remove(&self.runtime, id, deleted);
            let emptied = moved.and_then(|trash| {
                add_files(deleted, &trash);
                self.rollouts.empty_trash(id)
            });
            if let Err(error) = emptied {
                deleted.pending.push(format!("files: {error}"));
            }
        }
        self.cut_logs(&mut deleted.pending);
        if deleted.pending.len() == before {
            let lifted = self.runtime.backfill().while_none_runs(|| {
                // A backfill that read a transcript before it went may have brought its goal back.
                if let Some(goals) = self.runtime.goals_if_any() {
                    leases.iter().try_for_each(|lease| goals.delete(lease.id()).map(drop))?;
                }
                self.index
                    .state()
                    .write(|tx| leases.iter().try_for_each(|lease| tombstone::lift(tx, lease.id())))
            });
            if let Err(error) = lifted {
                deleted.pending.push(format!("state: {error}"));
            }
        }
    }

    /// What was deleted, and what was there before it, stands in the write-ahead logs until they are cut.
    fn cut_logs(&self, pending: &mut Vec<String>) {
        if self.runtime.is_ephemeral() {
            return;
        }
        for name in DATABASES {
            // One that is not there was told already, if it matters.
            let Ok(database) = self.runtime.database(name) else { continue };
            match database.cut_log(CUT_WITHIN) {
                Ok(true) => {}
                Ok(false) => pending.push(format!("{name}: somebody reads what is in its write-ahead log")),
                Err(error) => pending.push(format!("{name}: {error}")),
            }
        }
    }

    pub(super) fn finish_deletes(&self) -> Result<Vec<String>> {
        let _one_at_a_time = self.finishing.lock();
        let mut left = Vec::new();
        let tombstones = self.index.state().read(tombstone::all)?;
        for some in tombstones.chunks(AT_ONCE) {
            left.extend(self.finish_some(some)?);
        }
        Ok(left)
    }

    fn finish_some(&self, tombstones: &[Tombstone]) -> Result<Vec<String>> {
        let (mut leases, mut left) = (Vec::new(), Vec::new());
        for Tombstone { thread, .. } in tombstones {
            match self.rollouts.lease(thread, Duration::ZERO) {
                Ok(lease) => leases.push(lease),
                Err(error) => left.push(error.to_string()),
            }
        }
        // Whoever had one of them a moment ago may be through with it, and a new thread may have its id.
        let still = self.index.state().read(|at| {
            leases.iter().map(|lease| tombstone::stands(at, lease.id())).collect::<Result<Vec<_>>>()
        })?;
        let mut still = still.into_iter();
        leases.retain(|_| still.next().unwrap_or(false));
        let held = |thread: &str| leases.iter().any(|lease| lease.id() == thread);
        let tombstones: Vec<_> = tombstones.iter().filter(|tombstone| held(&tombstone.thread)).collect();
        let threads: Vec<_> = tombstones.iter().map(|one| (&one.thread, &one.rollout_path)).collect();
        let files = self.files(&threads)?;
        let mut deleted = Deleted::default();
        if !leases.is_empty() {
            self.carry_out(&leases, files, &mut deleted);
        }
        left.extend(deleted.pending);
        Ok(left)
    }
}

fn add_files(deleted: &mut Deleted, files: &[PathBuf]) {
    deleted.files += files.len() as u64;
    let bytes = |path: &PathBuf| path.symlink_metadata().map_or(0, |found| found.len());
    deleted.file_bytes += files.iter().map(bytes).sum::<u64>();
}

/// Goes on with deletions that were cut short, if there are any, on a thread that ends with them.
pub(super) fn finish_in_background(inner: &Arc<Inner>) {
    let soon = inner.index.state().clone().within(Duration::from_millis(100));
    // Where that cannot be read now, nothing is deleted now either.
    if !soon.read(tombstone::any).unwrap_or(false) {
        return;
    }
    let inner = Arc::clone(inner);
    let work = move || match inner.finish_deletes() {
        Ok(left) => left.iter().for_each(|why| {
            telemetry::warn(&format_args!("a deletion of a thread is not finished: {why}"));
        }),
        Err(error) => telemetry::warn(&format_args!("deletions of threads are not finished: {error}")),
    };
    if let Err(error) = std::thread::Builder::new().name("rowhouse-delete".to_owned()).spawn(work) {
        telemetry::warn(&format_args!("no thread could be started to finish deletions: {error}"));
    }
}
