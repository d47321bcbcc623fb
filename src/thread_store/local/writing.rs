//! The threads that this store may write.
//!
//! Locks are taken in this order: a thread's, then the map's. Nobody waits for a thread while holding the map.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::super::store::not_ours;
use super::{HAND_OVER, Inner};
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::{
    Appended, Item, NewRollout, Recorder, RolloutFacts, Rollouts, WriterLease, derived, read_metadata,
};
use crate::stores::threads::ThreadFacts;
use crate::telemetry;

/// How long an index that did not take a row is left alone: an append must not wait for it each time.
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// A thread that is being written.
pub(super) struct Writing {
    /// `None` once the thread was given back, for whoever waited for this lock meanwhile.
    recorder: Option<Recorder>,
    /// What its row is to say, until the index has taken it.
    pending: Option<ThreadFacts>,
    /// When the index did not take it; that was told.
    refused: Option<Instant>,
    /// Lines wait to be written; that was told.
    waiting_told: bool,
}

impl Writing {
    pub(super) fn new(recorder: Recorder, pending: Option<ThreadFacts>) -> Self {
        Self { recorder: Some(recorder), pending, refused: None, waiting_told: false }
    }

    fn recorder(&mut self, thread: &str) -> Result<&mut Recorder> {
        self.recorder.as_mut().ok_or_else(|| not_ours(thread))
    }

    /// Appends without a word to the index.
    pub(super) fn fill(&mut self, thread: &str, items: &[Item]) -> Result<()> {
        self.recorder(thread)?.append(items)?.written().map(drop)
    }
}

impl Inner {
    pub(super) fn create(&self, new: &NewRollout) -> Result<String> {
        let (writing, thread) = self.begin(new, Rollouts::create)?;
        self.register(&thread, writing)?;
        Ok(thread)
    }

    /// A new thread whose row is made with its first append.
    pub(super) fn begin(
        &self,
        new: &NewRollout,
        create: impl FnOnce(&Rollouts, &NewRollout) -> Result<Recorder>,
    ) -> Result<(Writing, String)> {
        let recorder = create(&self.rollouts, new)?;
        let thread = recorder.id().to_owned();
        // An id that was just made is nobody's; of one that was given the transcripts know as well, should the index be lost.
        if new.id.is_some() && self.is_there(&thread)? {
            return Err(Error::new(ErrorKind::Conflict, format!("there is a thread {thread} already"))
                .advise("resume it, or give the new one an id of its own"));
        }
        if new.id.is_some() && self.index.is_going(&thread).unwrap_or(false) {
            return Err(Error::new(ErrorKind::Conflict, format!("thread {thread} is being deleted"))
                .advise("give the new one an id of its own"));
        }
        let (_, mut facts) = derived::of_new(new, &thread)?;
        facts.rollout_path = recorder.final_path().to_str().map(str::to_owned);
        Ok((Writing::new(recorder, Some(facts)), thread))
    }

    fn is_there(&self, thread: &str) -> Result<bool> {
        if self.index.get(thread).is_ok_and(|row| row.is_some()) {
            return Ok(true);
        }
        match self.rollouts.locate(thread, None) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn resume(&self, thread: &str) -> Result<()> {
        let hint = self.hint(thread)?;
        let recorder = self.rollouts.resume(thread, hint.as_deref(), HAND_OVER)?;
        let moved = hint.is_some_and(|hint| hint != recorder.path());
        // Who had the right before may have died while he deleted it.
        self.refuse_going(thread)?;
        let mut writing = Writing::new(recorder, None);
        if moved {
            // It was moved by somebody else, or decompressed just now.
            self.renew_row(thread, &mut writing);
        }
        self.register(thread, writing)
    }

    pub(super) fn register(&self, thread: &str, writing: Writing) -> Result<()> {
        let mut all = self.writing.lock();
        if all.contains_key(thread) {
            return Err(Error::new(ErrorKind::Conflict, format!("thread {thread} is being written already"))
                .advise("shut it down first"));
        }
        all.insert(thread.to_owned(), Arc::new(Mutex::new(writing)));
        Ok(())
    }

    /// The thread, if this store may write it.
    pub(super) fn writing(&self, thread: &str) -> Option<Arc<Mutex<Writing>>> {
        self.writing.lock().get(thread).cloned()
    }

    pub(super) fn is_wanted(&self, thread: &str) -> bool {
        let Some(writing) = self.writing(thread) else { return false };
        let writing = writing.lock();
        writing.recorder.as_ref().is_some_and(Recorder::is_wanted)
    }

    fn ours(&self, thread: &str) -> Result<Arc<Mutex<Writing>>> {
        self.writing(thread).ok_or_else(|| not_ours(thread))
    }

    /// Takes this one out of the map; another one of the same thread stays.
    fn unregister(&self, thread: &str, writing: &Arc<Mutex<Writing>>) {
        let mut all = self.writing.lock();
        if all.get(thread).is_some_and(|found| Arc::ptr_eq(found, writing)) {
            all.remove(thread);
        }
    }

    pub(super) fn append(&self, thread: &str, items: &[Item]) -> Result<()> {
        let writing = self.ours(thread)?;
        self.append_to(thread, &mut writing.lock(), items)
    }

    fn append_to(&self, thread: &str, writing: &mut Writing, items: &[Item]) -> Result<()> {
        match writing.recorder(thread)?.append(items)? {
            Appended::Written { .. } => writing.waiting_told = false,
            // The place is not this writer's any more, and will not be: waiting helps nobody.
            Appended::Kept(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Replaced) => {
                return Err(error);
            }
            Appended::Kept(error) if !writing.waiting_told => {
                writing.waiting_told = true;
                telemetry::warn(&format_args!("lines of thread {thread} wait to be written: {error}"));
            }
            Appended::Kept(_) => {}
        }
        self.put_pending(thread, writing, false);
        Ok(())
    }

    pub(super) fn persist(&self, thread: &str) -> Result<()> {
        let writing = self.ours(thread)?;
        let mut writing = writing.lock();
        writing.recorder(thread)?.persist()?.written()?;
        self.put_pending(thread, &mut writing, true);
        Ok(())
    }

    pub(super) fn flush(&self, thread: &str) -> Result<()> {
        let writing = self.ours(thread)?;
        let mut writing = writing.lock();
        writing.recorder(thread)?.flush()?;
        self.put_pending(thread, &mut writing, true);
        Ok(())
    }

    /// Makes a fork durable, and its row: it is listed with all it has, or not at all.
    pub(super) fn finish_fork(&self, thread: &str, writing: &mut Writing) -> Result<()> {
        let recorder = writing.recorder(thread)?;
        recorder.persist()?.written()?;
        recorder.show()?;
        self.renew_row(thread, writing);
        Ok(())
    }

    pub(super) fn shutdown(&self, thread: &str) -> Result<()> {
        let Some(entry) = self.writing(thread) else { return Ok(()) };
        let mut writing = entry.lock();
        if writing.recorder.is_none() {
            return Ok(());
        }
        writing.recorder(thread)?.flush()?;
        // While nobody else can say anything about the thread; so that no index has to read it again.
        self.renew_row(thread, &mut writing);
        // Out of the map before the thread is free: whoever then gets it finds its place.
        self.unregister(thread, &entry);
        writing.recorder = None;
        Ok(())
    }

    pub(super) fn discard(&self, thread: &str) {
        let Some(entry) = self.writing(thread) else { return };
        let mut writing = entry.lock();
        self.unregister(thread, &entry);
        if let Some(recorder) = writing.recorder.take() {
            let _ = recorder.discard();
        }
    }

    /// Lets the row say what the transcript says now. A row that cannot be made is told, and fails nothing: the next
    /// start reads the transcript.
    fn renew_row(&self, thread: &str, writing: &mut Writing) {
        let Some(path) = writing.recorder.as_ref().filter(|recorder| recorder.lease().is_some()) else {
            return;
        };
        if let Ok(found) = read_metadata(path.path()) {
            writing.pending = Some(self.facts_of(found));
            self.put_pending(thread, writing, true);
        }
    }

    /// What the index is to say of a transcript. Without its goal, where that could not be restored, it is not taken as read.
    pub(super) fn facts_of(&self, found: RolloutFacts) -> ThreadFacts {
        let restored = self.restore_goal(&found).is_ok();
        let mut facts = found.thread;
        facts.stamp = facts.stamp.filter(|_| restored);
        facts
    }

    /// Ends writing a thread and keeps the right to; `None` when this store did not have it, or there is no file yet.
    pub(super) fn take_over(&self, thread: &str) -> Option<WriterLease> {
        let found = self.writing(thread)?;
        let mut writing = found.lock();
        let lease = writing.recorder.take().and_then(Recorder::into_lease);
        self.unregister(thread, &found);
        lease
    }

    /// Brings what is pending into the index. That it could not be done is told once, and fails nothing: the transcript
    /// has it. An index that was busy a moment ago is asked again only when it `must`.
    fn put_pending(&self, thread: &str, writing: &mut Writing, must: bool) {
        // A thread is there with its file, and not before.
        if writing.recorder.as_ref().is_some_and(|recorder| recorder.lease().is_none()) {
            return;
        }
        let Some(facts) = &writing.pending else { return };
        if !must && writing.refused.is_some_and(|at| at.elapsed() < LEFT_ALONE) {
            return;
        }
        match self.index.put(facts) {
            Ok(true) => {
                writing.pending = None;
                writing.refused = None;
            }
            // There is no file yet, since the disk is full; or none any more.
            Ok(false) => {}
            Err(error) => {
                if writing.refused.replace(Instant::now()).is_none() {
                    telemetry::warn(&format_args!(
                        "the list does not show thread {thread} as it is yet: {error}"
                    ));
                }
            }
        }
    }

    /// Runs `work` with the writer of a thread: this store's, or one that is there for as long as this lasts. Afterwards,
    /// and before anybody else can write it, the index says what the transcript says; then `after` is run.
    pub(super) fn with_recorder<T>(
        &self,
        thread: &str,
        work: impl FnOnce(&mut Recorder) -> Result<()>,
        after: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if let Some(entry) = self.writing(thread) {
            let mut writing = entry.lock();
            // It may have been given back while this waited.
            if writing.recorder.is_some() {
                return self.work_on(thread, &mut writing, work, after);
            }
        }
        let hint = self.hint(thread)?;
        let mut writing = Writing::new(self.rollouts.resume(thread, hint.as_deref(), HAND_OVER)?, None);
        self.refuse_going(thread)?;
        self.work_on(thread, &mut writing, work, after)
    }

    fn work_on<T>(
        &self,
        thread: &str,
        writing: &mut Writing,
        work: impl FnOnce(&mut Recorder) -> Result<()>,
        after: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        work(writing.recorder(thread)?)?;
        self.renew_row(thread, writing);
        after()
    }
}
