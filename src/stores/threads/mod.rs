//! Threads: one row per conversation, listed by index walks.
//!
//! Invariants:
//! - A page is a walk of one index from (sort value, id). It neither skips nor repeats a row that is there
//!   throughout, however many rows share a timestamp and whoever writes meanwhile.
//! - Facts derived from a transcript never overwrite what a user set, `recency_at` only moves forward, and a row
//!   that would not change is not written.
//! - Reads never write.
//! - A page takes megabytes at most, however long the texts of its rows (`bounds`).

mod bounds;
mod cursor;
mod filter;
mod list;
mod merge;
mod patch;
pub(crate) mod portable;
mod query;
pub(crate) mod row;
mod script;
mod search;
pub(crate) mod search_index;
mod short_id;
mod sql;
pub(crate) mod tombstone;
mod transcript;

pub use filter::LONGEST_FILTER;
pub use patch::{GitPatch, LONGEST_NAME, LONGEST_TEXT, ThreadPatch};
pub use query::{Direction, LOOKS, Sort, ThreadQuery};
pub use row::{Change, FileStamp, GitFacts, MemoryMode, ThreadFacts, ThreadRow, UserField, UserSet};
pub use search::{LONGEST_SEARCH, SEARCHED_HITS, SearchOrder, SearchPage, ThreadSearch};
pub use short_id::{IDS_LOOKED_AT, SHORTEST_ID};
pub use transcript::TranscriptState;

use std::collections::HashSet;

use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Row, Session, Value};
use crate::sqlite::Database;
use crate::stores::database::{Engine, StoreDatabase};
use cursor::Cursor;
use merge::merge;
use row::{StoredThread, canonical_id};

/// Rows that are kept in memory before they are written.
const AT_ONCE: usize = 16 * sql::TOGETHER;

/// The thread store of a `state` database. Cheap to clone.
///
/// ```no_run
/// # fn main() -> rowhouse::Result<()> {
/// use rowhouse::{Home, Runtime, ThreadQuery};
/// let runtime = Runtime::open(Home::resolve()?)?;
/// let page = runtime.threads().list(&ThreadQuery::recent().cwd("/home/ada/ledger"))?;
/// for thread in &page.threads {
///     println!("{} {}", thread.id, thread.title.as_deref().unwrap_or("(untitled)"));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Threads {
    database: StoreDatabase,
}

/// One page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ThreadPage {
    /// The threads, in the order asked for.
    pub threads: Vec<ThreadRow>,
    /// Where the next page of the same query starts; `None` at the end.
    pub next_cursor: Option<String>,
    /// For the same query in the opposite [`Direction`]: what lies before this page, nearest first. `None` when the
    /// page is empty. Kept from a first page, it catches up on what came later.
    pub backwards_cursor: Option<String>,
    /// A folder of transcripts is still being indexed, or the home is of an older release that cannot tell: there may be
    /// threads that this list lacks.
    pub partial: bool,
}

/// What [`Threads::upsert`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Upserted {
    /// Rows that were not there before.
    pub inserted: u64,
    /// Rows that changed.
    pub updated: u64,
    /// Rows that hold all of it already; they were not written.
    pub unchanged: u64,
    /// Those of threads that are being deleted: nothing was written.
    #[serde(default)]
    pub deleted: u64,
}

/// The transcript a row was read from, as it was then.
#[derive(Clone, Debug)]
pub(crate) struct KnownFile {
    pub(crate) path: String,
    pub(crate) stamp: FileStamp,
}

impl Threads {
    /// The store in this database, which holds the tables of the `state` domain.
    pub fn new(database: Database) -> Self {
        Self::of(Ok(database.into()))
    }

    /// The store of a runtime; a runtime without the state domain answers so at every use.
    pub(crate) fn of(engine: Result<Engine>) -> Self {
        Self { database: StoreDatabase::new(engine, "threads") }
    }

    /// The same store; its writes go to the background lane.
    #[must_use]
    pub fn background(self) -> Self {
        Self { database: self.database.background() }
    }

    /// One page of threads. Titles, names and previews are cut after 500 letters, first messages and sandbox policies after
    /// 4,096: [`get`](Self::get) has them whole.
    ///
    /// # Errors
    /// `Invalid` for a limit outside 1 to 500, for a filter of more than [`LONGEST_FILTER`] values, for an id above children
    /// or descendants that is no UUID, and for a cursor that is no cursor or belongs to another query; the engine's.
    pub fn list(&self, query: &ThreadQuery) -> Result<ThreadPage> {
        query.check()?;
        let start = Cursor::start_of(query.scope(), query.cursor_text())?;
        if query.filter.matches_nothing() {
            return Ok(ThreadPage::default());
        }
        self.database
            .get()?
            .read(|at| Ok(ThreadPage { partial: is_partial(at)?, ..list::page(at, query, &start)? }))
    }

    /// Threads in whose name, title or preview all words of a text are found.
    ///
    /// # Errors
    /// `Invalid` for a text without a word, of more than 64 words (of languages without spaces each letter is one), longer
    /// than [`LONGEST_SEARCH`] or with a NUL in it, for a limit outside 1 to 500, for a cursor that is no cursor or belongs
    /// to another search, for any cursor by rank, and for filters as in [`list`](Self::list); the engine's.
    pub fn search(&self, search: &ThreadSearch) -> Result<SearchPage> {
        let question = search.question()?;
        if search.filter.matches_nothing() {
            return Ok(SearchPage::default());
        }
        let database = self.database.get()?;
        // Asked first: what is indexed meanwhile is found, and may be missed in the answer only if it says so.
        let partial =
            database.as_file().map_or(Ok(false), |file| search_index::is_complete(file).map(|is| !is))?;
        database.read(|at| {
            let partial = partial || is_partial(at)?;
            Ok(SearchPage { partial, ..search.page(at, &question)? })
        })
    }

    /// The threads of these ids, in their order; `None` where there is none.
    ///
    /// # Errors
    /// The engine's.
    pub fn get_all(&self, ids: &[&str]) -> Result<Vec<Option<ThreadRow>>> {
        self.database.get()?.read(|at| {
            let one = |id: &&str| match canonical_id(id) {
                Some(id) => Ok(stored(at, &id)?.map(|found| found.row)),
                None => Ok(None),
            };
            ids.iter().map(one).collect()
        })
    }

    /// The id of the one thread whose id begins or ends with these letters, at least [`SHORTEST_ID`] of them, hyphens left
    /// out or not. A whole id is answered as it is written in the store, whether there is such a thread or
    /// not. Of each of live and archived threads the [`IDS_LOOKED_AT`] last
    /// used are looked at for an end; a beginning is found among all.
    ///
    /// # Errors
    /// `Invalid` when it is too short or no part of an id; `NotFound` when there is none; `Conflict` when there are
    /// several, with up to ten of them; the engine's.
    pub fn find_id(&self, text: &str) -> Result<String> {
        if let Some(id) = canonical_id(text) {
            return Ok(id);
        }
        let end = short_id::letters_of(text)?;
        if let Some(id) = short_id::whole(&end) {
            return Ok(id);
        }
        self.database.get()?.read(|at| short_id::find(at, &end))
    }

    /// The thread of this id, or `None`.
    ///
    /// # Errors
    /// The engine's.
    pub fn get(&self, id: &str) -> Result<Option<ThreadRow>> {
        let Some(id) = canonical_id(id) else { return Ok(None) };
        Ok(self.database.get()?.read(|at| stored(at, &id))?.map(|found| found.row))
    }

    /// Brings derived facts into the store, all of them or none. Titles, names and previews are cut after 500 letters, other
    /// texts after 64 KiB.
    ///
    /// # Errors
    /// `Invalid` when an id is not a UUID; the engine's.
    pub fn upsert(&self, facts: &[ThreadFacts]) -> Result<Upserted> {
        if facts.is_empty() {
            return Ok(Upserted::default());
        }
        let ids =
            facts.iter().map(|one| canonical_id(&one.id)).collect::<Option<Vec<_>>>().ok_or_else(|| {
                Error::new(ErrorKind::Invalid, "a thread's id is a UUID")
                    .advise("leave out threads without one")
            })?;
        self.database.get()?.write(|tx| upsert(tx, &ids, facts))
    }

    /// Changes a thread, all of it or nothing; answers the row as it is afterwards. A patch that leaves everything as it is
    /// only reads.
    ///
    /// # Errors
    /// `NotFound` when there is no such thread; `Invalid` when the id is no UUID, a text is longer than
    /// [`LONGEST_NAME`] or [`LONGEST_TEXT`] or has a NUL in it, or tokens are negative; the engine's.
    pub fn patch(&self, id: &str, patch: &ThreadPatch) -> Result<ThreadRow> {
        let id = row::thread_id(id)?;
        patch.check()?;
        let database = self.database.get()?;
        if patch.is_empty() {
            return Ok(database.read(|at| known(at, &id))?.row);
        }
        database.write(|tx| patched(tx, &id, patch))
    }

    /// For each file, whether a row holds what this file at this path says.
    pub(crate) fn are_read(&self, files: &[(&str, FileStamp)]) -> Result<Vec<bool>> {
        self.database.get()?.read(|at| {
            files
                .iter()
                .map(|(path, stamp)| {
                    let FileStamp { size, mtime_ns, inode } = *stamp;
                    let key = [(*path).into(), size.into(), mtime_ns.into(), inode.into()];
                    Ok(!at.query(sql::IS_READ, &key)?.is_empty())
                })
                .collect()
        })
    }

    /// For each id, the transcript its row was read from.
    pub(crate) fn files_of(&self, ids: &[&str]) -> Result<Vec<Option<KnownFile>>> {
        self.database.get()?.read(|at| {
            ids.iter()
                .map(|id| {
                    let rows = at.query(sql::FILE_OF, &[(*id).into()])?;
                    let known = |row: &Row| {
                        let stamp = FileStamp {
                            size: row.get("rollout_size")?,
                            mtime_ns: row.get("rollout_mtime_ns")?,
                            inode: row.get("rollout_inode")?,
                        };
                        Ok(KnownFile { path: row.get("rollout_path")?, stamp })
                    };
                    rows.first().map(known).transpose()
                })
                .collect()
        })
    }
}

fn stored(at: &impl Session, id: &str) -> Result<Option<StoredThread>> {
    at.query(sql::BY_ID, &[id.into()])?.first().map(StoredThread::from_row).transpose()
}

/// Whether a folder of transcripts is still being indexed. A home that may not be written keeps its schema, which may be
/// older than the table that says so: then nobody knows.
fn is_partial(at: &impl Session) -> Result<bool> {
    match at.query(sql::IS_PARTIAL, &[]) {
        Ok(rows) => Ok(!rows.is_empty()),
        // The text is fixed, so what is refused in it is the table.
        Err(error) if error.kind() == ErrorKind::Invalid => Ok(true),
        Err(error) => Err(error),
    }
}

/// # Errors
/// `NotFound`.
fn known(at: &impl Session, id: &str) -> Result<StoredThread> {
    stored(at, id)?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "there is no such thread")
            .advise("look for it with: rowhouse threads list")
    })
}

/// Changes a thread; what its row is then.
///
/// # Errors
/// `NotFound`; the engine's. The patch was [checked](ThreadPatch::check).
pub(crate) fn patched(tx: &impl Session, id: &str, patch: &ThreadPatch) -> Result<ThreadRow> {
    let before = known(tx, id)?;
    let after = patch.applied_to(&before);
    if after != before {
        tx.execute(&sql::PUT, &after.params())?;
    }
    Ok(after.row)
}

/// Brings derived facts into the table; `ids` are theirs, in the one spelling.
pub(crate) fn upsert(tx: &impl Session, ids: &[String], facts: &[ThreadFacts]) -> Result<Upserted> {
    let mut done = Upserted::default();
    // The rows to write, and whose they are.
    let (mut rows, mut whose) = (Vec::new(), HashSet::new());
    let some_go = tombstone::any(tx)?;
    for (id, facts) in ids.iter().zip(facts) {
        if some_go && tombstone::stands(tx, id)? {
            done.deleted += 1;
            continue;
        }
        // Of facts of one thread the later ones build on the earlier.
        if rows.len() == AT_ONCE || whose.contains(id) {
            put(tx, &rows)?;
            rows.clear();
            whose.clear();
        }
        let before = stored(tx, id)?;
        let after = bounds::bounded(merge(before.as_ref(), id, facts));
        if before.as_ref() == Some(&after) {
            done.unchanged += 1;
            continue;
        }
        rows.push(after.params());
        whose.insert(id);
        if before.is_some() {
            done.updated += 1;
        } else {
            done.inserted += 1;
        }
    }
    put(tx, &rows)?;
    Ok(done)
}

/// Writes whole rows, each of another thread.
fn put(tx: &impl Session, rows: &[Vec<Value>]) -> Result<()> {
    let (together, rest) = rows.as_chunks::<{ sql::TOGETHER }>();
    tx.execute_many(&sql::PUT_TOGETHER, together.iter().map(|rows| rows.iter().flatten()))?;
    tx.execute_many(&sql::PUT, rest.iter())?;
    Ok(())
}
