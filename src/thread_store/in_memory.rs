//! Threads that are kept nowhere: for tests of programs that build on the store.
//!
//! Lists, searches and patches go through the same index as those of a home, in a database that is in memory. Calls are
//! counted, so that a test can prove that nothing went past the store.
//!
//! Tests: `tests/thread_store_contract.rs`, with every other implementation.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::deletion;
use super::index::Index;
use super::store::{
    Capabilities, DeleteOptions, Deleted, ForkPoint, History, ThreadStore, not_found, not_ours,
};
use super::turns::{
    Anomaly, ItemsView, Placed, Projector, StoredTurn, TurnList, TurnPage, TurnQuery, TurnWithItems,
};
use crate::error::{Error, ErrorKind, Result};
use crate::home::Home;
use crate::rollout::records::{Line, kind_of};
use crate::rollout::{Item, NewRollout, derived};
use crate::runtime::Runtime;
use crate::sqlite::now_unix_ms;
use crate::stores::threads::row::thread_id;
use crate::stores::threads::{
    Change, SearchPage, ThreadFacts, ThreadPage, ThreadPatch, ThreadQuery, ThreadRow, ThreadSearch, tombstone,
};

/// A store that keeps its threads in memory, and counts its calls. Cheap to clone; clones are one store.
///
/// ```
/// # fn main() -> rowhouse::Result<()> {
/// use rowhouse::rollout::NewRollout;
/// use rowhouse::thread_store::{InMemoryThreadStore, ThreadStore};
/// let store = InMemoryThreadStore::new()?;
/// let thread = store.create(&NewRollout::default())?;
/// store.persist(&thread)?;
/// assert_eq!(store.calls()["persist"], 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct InMemoryThreadStore {
    inner: Arc<Inner>,
}

struct Inner {
    /// The database lives as long as its runtime.
    runtime: Runtime,
    index: Index,
    threads: Mutex<HashMap<String, Thread>>,
    calls: Mutex<BTreeMap<&'static str, u64>>,
}

struct Thread {
    items: Vec<Item>,
    /// What it begins with, and its row, until there are items.
    begin: Option<(Item, ThreadFacts)>,
    /// Somebody may write it.
    written: bool,
    /// Items that were there when it was given to whoever writes it.
    found: u64,
}

impl InMemoryThreadStore {
    /// A store without threads.
    ///
    /// # Errors
    /// `Io` when there is no memory.
    pub fn new() -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        // Nothing is ever created there; each store needs a name of its own.
        let home = Home::at(format!("/proc/in-memory/{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let runtime = Runtime::builder(home).agent_domains().ephemeral().open()?;
        let index = Index::new(runtime.database("state")?);
        let inner = Inner { runtime, index, threads: Mutex::default(), calls: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How often each call of [`ThreadStore`] was made, by its name.
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.inner.calls.lock().clone()
    }

    /// The runtime below it, whose databases are in memory: for what belongs to threads elsewhere.
    pub fn runtime(&self) -> &Runtime {
        &self.inner.runtime
    }

    fn count(&self, call: &'static str) {
        *self.inner.calls.lock().entry(call).or_default() += 1;
    }

    /// Changes a thread that this store may write.
    fn write<T>(&self, thread: &str, work: impl FnOnce(&mut Thread) -> T) -> Result<T> {
        let thread = thread_id(thread)?;
        let mut threads = self.inner.threads.lock();
        let found =
            threads.get_mut(&thread).filter(|found| found.written).ok_or_else(|| not_ours(&thread))?;
        Ok(work(found))
    }

    /// Makes a thread exist.
    fn begin(&self, thread: &str) -> Result<()> {
        if let Some((first, facts)) = self.write(thread, |found| found.begin.take())? {
            self.inner.index.put(&facts)?;
            self.write(thread, |found| found.items.push(first))?;
        }
        Ok(())
    }

    fn give_back(&self, thread: &str) -> Result<()> {
        let thread = thread_id(thread)?;
        let mut threads = self.inner.threads.lock();
        if let Some(found) = threads.get_mut(&thread) {
            found.written = false;
            if found.begin.is_some() {
                threads.remove(&thread);
            }
        }
        Ok(())
    }

    fn items(&self, thread: &str) -> Result<Vec<Item>> {
        let thread = thread_id(thread)?;
        let threads = self.inner.threads.lock();
        let found = threads.get(&thread).filter(|found| !found.items.is_empty());
        found.map(|found| found.items.clone()).ok_or_else(|| not_found(&thread))
    }

    fn turns(&self, thread: &str) -> Result<(TurnList, Vec<Item>)> {
        let items = self.items(thread)?;
        let mut turns = TurnList::default();
        let mut projector = Projector::resume(&mut turns)?;
        for (at, item) in items.iter().enumerate() {
            let Ok(line) = serde_json::from_str::<Line<'_>>(item.text()) else { continue };
            projector.line(Placed::item(at as u64, &line))?;
        }
        projector.finish()?;
        Ok((turns, items))
    }

    fn set_archived(&self, thread: &str, archived: bool) -> Result<ThreadRow> {
        let row = self.inner.index.read(&thread_id(thread)?)?;
        if row.archived_at.is_some() == archived {
            return Ok(row);
        }
        let now = i64::try_from(now_unix_ms()).unwrap_or(i64::MAX);
        let archived_at = if archived { Change::Set(now) } else { Change::Clear };
        self.inner.index.patch(&row.id, &ThreadPatch { archived_at, ..ThreadPatch::default() })
    }
}

impl ThreadStore for InMemoryThreadStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities { durable: false, files: false, search: true, turns: true, delete: true, fork: true }
    }

    fn create(&self, thread: &NewRollout) -> Result<String> {
        self.count("create");
        let id = match &thread.id {
            Some(id) => thread_id(id)?,
            None => uuid::Uuid::now_v7().to_string(),
        };
        let begin = Some(derived::of_new(thread, &id)?);
        let mut threads = self.inner.threads.lock();
        if threads.contains_key(&id) {
            return Err(Error::new(ErrorKind::Conflict, format!("there is a thread {id} already"))
                .advise("resume it, or give the new one an id of its own"));
        }
        threads.insert(id.clone(), Thread { items: Vec::new(), begin, written: true, found: 0 });
        Ok(id)
    }

    fn resume(&self, thread: &str) -> Result<()> {
        self.count("resume");
        let thread = thread_id(thread)?;
        let mut threads = self.inner.threads.lock();
        let found = threads.get_mut(&thread).ok_or_else(|| not_found(&thread))?;
        if std::mem::replace(&mut found.written, true) {
            return Err(Error::new(ErrorKind::Conflict, format!("thread {thread} is being written already"))
                .advise("shut it down first"));
        }
        found.found = found.items.len() as u64;
        Ok(())
    }

    fn append_items(&self, thread: &str, items: &[Item]) -> Result<()> {
        self.count("append_items");
        if !items.is_empty() {
            self.begin(thread)?;
        }
        self.write(thread, |found| found.items.extend_from_slice(items))
    }

    fn persist(&self, thread: &str) -> Result<()> {
        self.count("persist");
        self.begin(thread)
    }

    fn flush(&self, thread: &str) -> Result<()> {
        self.count("flush");
        self.write(thread, |_| ())
    }

    fn shutdown(&self, thread: &str) -> Result<()> {
        self.count("shutdown");
        self.give_back(thread)
    }

    fn discard(&self, thread: &str) -> Result<()> {
        self.count("discard");
        self.give_back(thread)
    }

    fn load_history(&self, thread: &str) -> Result<History<'_>> {
        self.count("load_history");
        Ok(Box::new(self.items(thread)?.into_iter().map(Ok)))
    }

    fn read(&self, thread: &str) -> Result<ThreadRow> {
        self.count("read");
        self.inner.index.read(&thread_id(thread)?)
    }

    fn list(&self, query: &ThreadQuery) -> Result<ThreadPage> {
        self.count("list");
        self.inner.index.list(query)
    }

    fn search(&self, search: &ThreadSearch) -> Result<SearchPage> {
        self.count("search");
        self.inner.index.search(search)
    }

    fn list_turns(&self, thread: &str, query: &TurnQuery) -> Result<TurnPage> {
        self.count("list_turns");
        let thread = thread_id(thread)?;
        let start = query.start(&thread)?;
        let (turns, items) = self.turns(&thread)?;
        let written_from =
            self.inner.threads.lock().get(&thread).filter(|found| found.written).map(|found| found.found);
        let mut found = turns.page(query, start);
        let more = found.len() > query.limit_of_page();
        found.truncate(query.limit_of_page());
        let shown = found.into_iter().map(|mut turn| {
            turn.settle(written_from);
            TurnWithItems { items: items_of(&turn, &items, query.view()), turn: turn.turn }
        });
        Ok(query.page(&thread, shown.collect(), more))
    }

    fn anomalies(&self, thread: &str) -> Result<Vec<Anomaly>> {
        self.count("anomalies");
        Ok(self.turns(thread)?.0.anomalies)
    }

    fn rebuild(&self, thread: &str) -> Result<ThreadRow> {
        self.count("rebuild");
        self.inner.index.read(&thread_id(thread)?)
    }

    fn update_metadata(&self, thread: &str, patch: &ThreadPatch) -> Result<ThreadRow> {
        self.count("update_metadata");
        super::store::refuse_place(patch)?;
        self.inner.index.patch(&thread_id(thread)?, patch)
    }

    fn archive(&self, thread: &str) -> Result<ThreadRow> {
        self.count("archive");
        self.set_archived(thread, true)
    }

    fn unarchive(&self, thread: &str) -> Result<ThreadRow> {
        self.count("unarchive");
        self.set_archived(thread, false)
    }

    fn delete(&self, thread: &str, options: &DeleteOptions) -> Result<Deleted> {
        self.count("delete");
        let Inner { runtime, index, .. } = &*self.inner;
        let thread = thread_id(thread)?;
        let state = index.engine();
        let family = deletion::family(&state, &thread, options)?;
        let mut deleted = deletion::count(runtime, &state, &family)?;
        if !deletion::is_anything(&state, &thread, &deleted)? {
            return Err(not_found(&thread));
        }
        deleted.dry_run = options.dry_run;
        if !options.dry_run {
            self.inner.threads.lock().retain(|id, _| !family.contains(id));
            index.state().write(|tx| family.iter().try_for_each(|id| tombstone::remove(tx, id).map(drop)))?;
            for id in &family {
                runtime.goals().delete(id)?;
                runtime.logs().delete_thread(id)?;
            }
        }
        Ok(deleted)
    }

    fn fork(&self, source: &str, point: &ForkPoint, thread: &NewRollout) -> Result<String> {
        self.count("fork");
        let source = thread_id(source)?;
        let (turns, mut items) = self.turns(&source)?;
        let place = |id: &str| {
            turns
                .turns
                .iter()
                .find(|turn| turn.turn.id == id && !turn.rolled_back)
                .map(|turn| turn.lines)
                .ok_or_else(|| {
                    Error::new(ErrorKind::NotFound, format!("thread {source} has no turn of this id"))
                        .advise("list its turns")
                })
        };
        let end = match point {
            ForkPoint::End => items.len(),
            ForkPoint::AfterTurn(turn) => place(turn)?.end as usize,
            ForkPoint::BeforeTurn(turn) => place(turn)?.start as usize,
        };
        items.truncate(end);
        items.retain(|item| !matches!(item.kind(), "session_meta" | "thread_metadata"));
        let forked = self.create(&NewRollout { forked_from_id: Some(source.clone()), ..thread.clone() })?;
        self.persist(&forked)?;
        self.append_items(&forked, &items)?;
        self.write(&forked, |found| found.found = found.items.len() as u64)?;
        Ok(forked)
    }
}

fn items_of(turn: &StoredTurn, items: &[Item], view: ItemsView) -> Vec<Box<serde_json::value::RawValue>> {
    let lines = &items[turn.lines.start as usize..turn.lines.end as usize];
    let raw = |item: &Item| serde_json::value::RawValue::from_string(item.text().to_owned()).ok();
    let event = |item: &&Item, kind: &str| {
        let line = serde_json::from_str::<Line<'_>>(item.text());
        line.is_ok_and(|line| line.kind == "event_msg" && kind_of(line.payload()) == kind)
    };
    match view {
        ItemsView::None => Vec::new(),
        ItemsView::Full => lines.iter().filter_map(raw).collect(),
        ItemsView::Summary => {
            let first = lines.iter().find(|item| event(item, "user_message"));
            let last = lines.iter().rev().find(|item| event(item, "agent_message"));
            first.into_iter().chain(last).filter_map(raw).collect()
        }
    }
}
