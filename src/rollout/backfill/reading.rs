//! The files of a batch, read by two threads.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

use super::worker::Stop;
use crate::rollout::layout::RolloutFile;
use crate::rollout::metadata::{self, BadRollout, RolloutFacts};

/// Threads that read: what they parse is memory, mostly, and a program has other things to do.
const READERS: usize = 2;
/// Files that are worth a second thread.
const WORTH_IT: usize = 16;

/// A file whose path can be stored.
pub(super) struct Candidate {
    pub(super) file: RolloutFile,
    pub(super) path: String,
}

/// What a file said.
pub(super) struct Reading {
    pub(super) candidate: Candidate,
    pub(super) found: Found,
}

pub(super) type Found = Result<RolloutFacts, BadRollout>;

/// Reads both ends of each, in their order; `None` when it was stopped before the end.
pub(super) fn ends(files: &[Candidate], stop: &Stop) -> Option<Vec<Found>> {
    let read = |candidate: &Candidate| metadata::read(Path::new(&candidate.path));
    let answers: Vec<_> = files.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while !stop.is_set() {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(candidate) = files.get(at) else { return };
            *answers[at].lock() = Some(read(candidate));
        }
    };
    if files.len() < WORTH_IT {
        work();
    } else {
        thread::scope(|scope| {
            for _ in 1..READERS {
                // One that cannot be started is done without.
                let _ = thread::Builder::new().name("rowhouse-reader".into()).spawn_scoped(scope, work);
            }
            work();
        });
    }
    answers.into_iter().map(Mutex::into_inner).collect()
}

/// The same, while something else is done on this thread, which answers whether that went well.
pub(super) fn ends_beside<E>(
    files: &[Candidate],
    stop: &Stop,
    other: impl FnOnce() -> Result<(), E>,
) -> Result<Option<Vec<Found>>, E> {
    if files.is_empty() {
        other()?;
        return Ok(ends(files, stop));
    }
    thread::scope(|scope| {
        let reader = thread::Builder::new().name("rowhouse-reader".into());
        let ahead = reader.spawn_scoped(scope, || ends(files, stop));
        other()?;
        Ok(match ahead {
            Ok(ahead) => ahead.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => ends(files, stop),
        })
    })
}
