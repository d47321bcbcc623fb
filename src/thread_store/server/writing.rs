//! The threads that this store may write.
//!
//! What was appended and has no answer yet stays here, and goes with the next append or flush, once: the token and the number
//! of the next item tell whether an earlier try came through.
//!
//! Locks are taken in this order: a thread's, then the map's. Nobody waits for a thread while holding the map.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::super::store::{not_found, not_ours};
use super::Inner;
use super::items::{self, Appended, Batch, is_going, is_there};
use super::keeper::Kept;
use super::sql;
use super::writer::{self, History, Taken, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::{Item, NewRollout, derived};
use crate::sql::Session;
use crate::sqlite::now_unix_ms;
use crate::stores::database::StoreSession;
use crate::stores::threads::{ThreadFacts, tombstone};

/// How long a change waits for a thread that another session is just done with, and how often it looks.
const HAND_OVER: Duration = Duration::from_millis(250);
const LOOKS_EVERY: Duration = Duration::from_millis(25);
/// How long dropping a store may take to give its threads back.
const LAST_WORD: Duration = Duration::from_secs(2);
/// Bytes without an answer that a thread may have before it takes no more.
const MOST_UNANSWERED: usize = 64 << 20;

/// A thread that is being written.
pub(super) struct Writing {
    /// Of the right to write.
    token: String,
    /// What it begins with, and its row, until somebody wants it to exist.
    begin: Option<(Item, ThreadFacts)>,
    /// Its row, until it is there.
    new: Option<ThreadFacts>,
    /// How many items the server has said that it has.
    next: u64,
    /// Items that it has not answered for, in their order, and their bytes.
    unanswered: Vec<Item>,
    bytes: usize,
    /// Something was appended since it was taken.
    moved: bool,
    /// It was given back, or taken away, while somebody waited for its lock.
    ended: bool,
    _kept: Kept,
}

impl Writing {
    fn new(token: String, kept: Kept) -> Self {
        Self {
            token,
            begin: None,
            new: None,
            next: 0,
            unanswered: Vec::new(),
            bytes: 0,
            moved: false,
            ended: false,
            _kept: kept,
        }
    }

    fn check(&self, thread: &str) -> Result<()> {
        if self.ended { Err(not_ours(thread)) } else { Ok(()) }
    }

    fn take(&mut self, item: Item) {
        self.bytes += item.text().len();
        self.unanswered.push(item);
    }

    /// Wants the thread to exist.
    fn begin(&mut self) {
        if let Some((first, facts)) = self.begin.take() {
            self.take(first);
            self.new = Some(facts);
        }
    }

    /// Whether the server knows the thread.
    fn is_there(&self) -> bool {
        self.begin.is_none() && self.new.is_none()
    }
}

fn new_token() -> String {
    uuid::Uuid::now_v7().to_string()
}

impl Inner {
    pub(super) fn create(&self, new: &NewRollout) -> Result<String> {
        let thread = new.thread_id()?;
        let begin = derived::of_new(new, &thread)?;
        if new.id.is_some() {
            self.refuse_known(&thread)?;
        }
        let writing = Writing { begin: Some(begin), ..Writing::new(new_token(), self.keeper.keep()?) };
        self.register(&thread, Arc::new(Mutex::new(writing)))?;
        Ok(thread)
    }

    fn refuse_known(&self, thread: &str) -> Result<()> {
        self.engine.read(|at| {
            if tombstone::stands(at, thread)? {
                return Err(is_going(thread));
            }
            let row = at.query(sql::HAS_ROW, &[thread.into()])?;
            if row.is_empty() && History::of(at, thread)?.is_none() { Ok(()) } else { Err(is_there(thread)) }
        })
    }

    pub(super) fn resume(&self, thread: &str) -> Result<()> {
        let entry = Arc::new(Mutex::new(Writing::new(new_token(), self.keeper.keep()?)));
        // Nobody else of this store takes it meanwhile, and who finds it waits for this.
        let mut writing = entry.lock();
        self.register(thread, Arc::clone(&entry))?;
        match self.take(thread, &writing.token) {
            Ok(items) => writing.next = items,
            Err(error) => {
                writing.ended = true;
                self.unregister(thread, &entry);
                self.leave_nothing(thread, &writing.token, &error);
                return Err(self.or_only_read(thread, error));
            }
        }
        Ok(())
    }

    /// A right that nobody here has may be there all the same when this was the answer to who took it.
    pub(super) fn leave_nothing(&self, thread: &str, token: &str, answer: &Error) {
        if answer.kind() == ErrorKind::OutcomeUnknown {
            self.keeper.give_back(thread, token);
        }
    }

    /// Takes the right to write a thread; answers how many items it has.
    fn take(&self, thread: &str, token: &str) -> Result<u64> {
        let keeper = &self.keeper;
        self.handed_over(thread, |tx, asks| {
            match keeper.writer().take(tx, (thread, token), keeper.lease(), asks)? {
                Taken::Yes { items } => Ok(Ok(items)),
                Taken::Held(other) => Ok(Err(other)),
                Taken::Missing => Err(not_found(thread)),
            }
        })
    }

    /// Changes something about a thread that nobody else writes.
    pub(super) fn change<T: Send + 'static>(
        &self,
        thread: &str,
        work: impl Fn(&StoreSession<'_>) -> Result<T> + Sync,
    ) -> Result<T> {
        let me = self.keeper.writer();
        self.handed_over(thread, |tx, asks| {
            let found = History::of(tx, thread)?;
            let other = found.map(|found| found.other(tx, me)).transpose()?.flatten();
            let Some(other) = other else { return work(tx).map(Ok) };
            if asks {
                writer::ask(tx, thread)?;
            }
            Ok(Err(other))
        })
    }

    /// Does what needs a thread, and waits a moment for whoever has it.
    fn handed_over<T: Send + 'static>(
        &self,
        thread: &str,
        work: impl Fn(&StoreSession<'_>, bool) -> Result<Result<T, Writer>> + Sync,
    ) -> Result<T> {
        let until = Instant::now() + HAND_OVER;
        let mut asks = true;
        loop {
            match self.engine.write(|tx| work(tx, asks))? {
                Ok(done) => return Ok(done),
                Err(other) if Instant::now() >= until => {
                    return Err(other.in_the_way(thread, self.keeper.writer()));
                }
                Err(_) => std::thread::park_timeout(LOOKS_EVERY),
            }
            asks = false;
        }
    }

    fn register(&self, thread: &str, writing: Arc<Mutex<Writing>>) -> Result<()> {
        let mut all = self.writing.lock();
        if all.contains_key(thread) {
            return Err(Error::new(ErrorKind::Conflict, format!("thread {thread} is being written already"))
                .advise("shut it down first"));
        }
        all.insert(thread.to_owned(), writing);
        Ok(())
    }

    /// Takes this one out of the map; another one of the same thread stays.
    fn unregister(&self, thread: &str, writing: &Arc<Mutex<Writing>>) {
        let mut all = self.writing.lock();
        if all.get(thread).is_some_and(|found| Arc::ptr_eq(found, writing)) {
            all.remove(thread);
        }
    }

    pub(super) fn ours(&self, thread: &str) -> Result<Arc<Mutex<Writing>>> {
        self.writing.lock().get(thread).cloned().ok_or_else(|| not_ours(thread))
    }

    pub(super) fn append(&self, thread: &str, items: &[Item]) -> Result<()> {
        items.iter().try_for_each(Item::refuse_said)?;
        let entry = self.ours(thread)?;
        let mut writing = entry.lock();
        writing.check(thread)?;
        if items.is_empty() {
            return Ok(());
        }
        if writing.bytes > MOST_UNANSWERED {
            self.write(thread, &entry, &mut writing)?;
        }
        writing.begin();
        for item in items {
            writing.take(item.clone());
        }
        self.write(thread, &entry, &mut writing)
    }

    pub(super) fn persist(&self, thread: &str) -> Result<()> {
        let entry = self.ours(thread)?;
        let mut writing = entry.lock();
        writing.check(thread)?;
        writing.begin();
        self.write(thread, &entry, &mut writing)
    }

    pub(super) fn flush(&self, thread: &str) -> Result<()> {
        let entry = self.ours(thread)?;
        let mut writing = entry.lock();
        writing.check(thread)?;
        self.write(thread, &entry, &mut writing)
    }

    /// Writes what has no answer yet, in one transaction.
    fn write(&self, thread: &str, entry: &Arc<Mutex<Writing>>, writing: &mut Writing) -> Result<()> {
        if writing.unanswered.is_empty() {
            return Ok(());
        }
        let batch = Batch {
            thread,
            token: &writing.token,
            next: writing.next,
            items: &writing.unanswered,
            new: writing.new.as_ref(),
        };
        let (writer, lease) = (self.keeper.writer(), self.keeper.lease());
        let appended = self.engine.write(|tx| {
            if batch.new.is_some() {
                writer.is_alive(tx, lease)?;
            }
            batch.write(tx, writer)
        })?;
        match appended {
            Appended::Yes => {
                writing.next += writing.unanswered.len() as u64;
                (writing.unanswered, writing.bytes, writing.new) = (Vec::new(), 0, None);
                writing.moved = true;
                Ok(())
            }
            // It will not be this one's again: what has no answer was never in the history.
            Appended::Taken(other) => {
                writing.ended = true;
                self.unregister(thread, entry);
                Err(taken_over(thread, other.as_ref()))
            }
            Appended::Gone => {
                writing.ended = true;
                self.unregister(thread, entry);
                Err(not_found(thread))
            }
        }
    }

    pub(super) fn shutdown(&self, thread: &str) -> Result<()> {
        let Ok(entry) = self.ours(thread) else { return Ok(()) };
        let mut writing = entry.lock();
        if writing.ended {
            return Ok(());
        }
        self.write(thread, &entry, &mut writing)?;
        if writing.is_there() {
            let (token, items) = (&writing.token, writing.next);
            let now = i64::try_from(now_unix_ms()).unwrap_or(i64::MAX);
            self.engine.write(|tx| {
                let is_ours =
                    History::of(tx, thread)?.is_some_and(|found| found.token.as_ref() == Some(token));
                // While nobody else can say anything about the thread.
                if is_ours && writing.moved {
                    let facts = items::facts(tx, thread, items, now)?;
                    facts.map_or(Ok(()), |facts| items::put_row(tx, thread, &facts))?;
                }
                writer::give_back(tx, thread, token)
            })?;
        }
        writing.ended = true;
        self.unregister(thread, &entry);
        Ok(())
    }

    pub(super) fn discard(&self, thread: &str) -> Result<()> {
        let Ok(entry) = self.ours(thread) else { return Ok(()) };
        let mut writing = entry.lock();
        self.unregister(thread, &entry);
        if std::mem::replace(&mut writing.ended, true) || writing.begin.is_some() {
            return Ok(());
        }
        let given = self.engine.write(|tx| writer::give_back(tx, thread, &writing.token));
        given.inspect_err(|_| self.keeper.give_back(thread, &writing.token))
    }

    /// Ends writing a thread that is being deleted.
    pub(super) fn end(&self, thread: &str) {
        if let Ok(entry) = self.ours(thread) {
            entry.lock().ended = true;
            self.unregister(thread, &entry);
        }
    }

    /// A thread whose history another one's was copied into, to be gone on with.
    pub(super) fn go_on(&self, thread: &str, token: String, items: u64) -> Result<()> {
        let writing = Writing { next: items, ..Writing::new(token, self.keeper.keep()?) };
        self.register(thread, Arc::new(Mutex::new(writing)))
    }
}

impl Drop for Inner {
    /// Whoever comes next need not wait for the lease to end. What cannot be told the server ends with it.
    fn drop(&mut self) {
        let all = std::mem::take(&mut *self.writing.lock());
        let held: Vec<_> = all
            .into_iter()
            .filter_map(|(thread, entry)| {
                let writing = entry.try_lock()?;
                (!writing.ended && writing.begin.is_none()).then(|| (thread, writing.token.clone()))
            })
            .chain(self.keeper.take_unused())
            .collect();
        if !held.is_empty() {
            let soon = self.engine.clone().within(LAST_WORD);
            let _ = soon
                .write(|tx| held.iter().try_for_each(|(thread, token)| writer::give_back(tx, thread, token)));
        }
    }
}

fn taken_over(thread: &str, other: Option<&Writer>) -> Error {
    let by = other.map_or_else(|| "somebody else".to_owned(), ToString::to_string);
    let message =
        format!("the right to write thread {thread} went to {by}, since this program gave no sign of life");
    Error::new(ErrorKind::Conflict, message).advise("resume the thread, and see what was added")
}
