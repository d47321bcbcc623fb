//! The threads that this store may write.

use std::sync::Arc;

use parking_lot::Mutex;

use super::super::store::not_ours;
use super::{HAND_OVER, Inner};
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::{Appended, Item, NewRollout, Recorder, derived, read_metadata};
use crate::stores::threads::ThreadFacts;
use crate::telemetry;

/// A thread that is being written.
pub(super) struct Writing {
    /// `None` once the thread was given back, for whoever waited for this lock meanwhile.
    recorder: Option<Recorder>,
    /// What its row is to say, until the index has taken it.
    pending: Option<ThreadFacts>,
    /// That it did not take it was told.
    told: bool,
}

impl Writing {
    pub(super) fn new(recorder: Recorder, pending: Option<ThreadFacts>) -> Self {
        Self { recorder: Some(recorder), pending, told: false }
    }

    pub(super) fn recorder(&mut self, thread: &str) -> Result<&mut Recorder> {
        self.recorder.as_mut().ok_or_else(|| not_ours(thread))
    }
}

impl Inner {
    pub(super) fn create(&self, new: &NewRollout) -> Result<String> {
        let recorder = self.rollouts.create(new)?;
        let thread = recorder.id().to_owned();
        if self.index.get(&thread)?.is_some() {
            return Err(Error::new(ErrorKind::Conflict, format!("there is a thread {thread} already"))
                .advise("resume it, or give the new one an id of its own"));
        }
        let (_, mut facts) = derived::of_new(new, &thread)?;
        facts.rollout_path = recorder.path().to_str().map(str::to_owned);
        self.register(&thread, Writing::new(recorder, Some(facts)))?;
        Ok(thread)
    }

    pub(super) fn resume(&self, thread: &str) -> Result<()> {
        let hint = self.hint(thread)?;
        let recorder = self.rollouts.resume(thread, hint.as_deref(), HAND_OVER)?;
        self.register(thread, Writing::new(recorder, None))
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

    fn ours(&self, thread: &str) -> Result<Arc<Mutex<Writing>>> {
        self.writing(thread).ok_or_else(|| not_ours(thread))
    }

    pub(super) fn append(&self, thread: &str, items: &[Item]) -> Result<()> {
        let writing = self.ours(thread)?;
        let mut writing = writing.lock();
        if let Appended::Kept(error) = writing.recorder(thread)?.append(items)? {
            telemetry::warn(&format_args!("lines of thread {thread} wait to be written: {error}"));
        }
        self.put_pending(thread, &mut writing);
        Ok(())
    }

    pub(super) fn persist(&self, thread: &str) -> Result<()> {
        let writing = self.ours(thread)?;
        let mut writing = writing.lock();
        writing.recorder(thread)?.persist()?.written()?;
        self.put_pending(thread, &mut writing);
        Ok(())
    }

    pub(super) fn flush(&self, thread: &str) -> Result<()> {
        let writing = self.ours(thread)?;
        let mut writing = writing.lock();
        writing.recorder(thread)?.flush()?;
        self.put_pending(thread, &mut writing);
        Ok(())
    }

    pub(super) fn shutdown(&self, thread: &str) -> Result<()> {
        let Some(writing) = self.writing(thread) else { return Ok(()) };
        let mut writing = writing.lock();
        let Some(recorder) = writing.recorder.take() else { return Ok(()) };
        let path = recorder.path().to_owned();
        if let Err((recorder, error)) = recorder.release() {
            writing.recorder = Some(recorder);
            return Err(error);
        }
        self.writing.lock().remove(thread);
        if path.exists() {
            // What it says now, and what the file is like, so that no index has to read it again.
            writing.pending = read_metadata(&path).ok().map(|found| found.thread);
            self.put_pending(thread, &mut writing);
        }
        Ok(())
    }

    pub(super) fn discard(&self, thread: &str) {
        let Some(writing) = self.writing(thread) else { return };
        let mut writing = writing.lock();
        if let Some(recorder) = writing.recorder.take() {
            let _ = recorder.discard();
        }
        self.writing.lock().remove(thread);
    }

    /// Brings what is pending into the index. That it could not be done is told once, and fails nothing: the transcript
    /// has it.
    fn put_pending(&self, thread: &str, writing: &mut Writing) {
        // A thread is there with its file, and not before.
        if writing.recorder.as_ref().is_some_and(|recorder| recorder.lease().is_none()) {
            return;
        }
        let Some(facts) = &writing.pending else { return };
        match self.index.put(facts) {
            Ok(()) => {
                writing.pending = None;
                writing.told = false;
            }
            Err(error) if !writing.told => {
                writing.told = true;
                telemetry::warn(&format_args!(
                    "the list does not show thread {thread} as it is yet: {error}"
                ));
            }
            Err(_) => {}
        }
    }

    /// Runs `work` with the writer of a thread: this store's, or one that is there for as long as this lasts. Afterwards
    /// the index says what the transcript says.
    pub(super) fn with_recorder<T>(
        &self,
        thread: &str,
        work: impl FnOnce(&mut Recorder) -> Result<T>,
    ) -> Result<T> {
        if let Some(writing) = self.writing(thread) {
            return self.work_on(thread, &mut writing.lock(), work);
        }
        let hint = self.hint(thread)?;
        let mut writing = Writing::new(self.rollouts.resume(thread, hint.as_deref(), HAND_OVER)?, None);
        self.work_on(thread, &mut writing, work)
    }

    fn work_on<T>(
        &self,
        thread: &str,
        writing: &mut Writing,
        work: impl FnOnce(&mut Recorder) -> Result<T>,
    ) -> Result<T> {
        let recorder = writing.recorder(thread)?;
        let done = work(recorder)?;
        writing.pending = Some(read_metadata(recorder.path())?.thread);
        self.put_pending(thread, writing);
        Ok(done)
    }
}
