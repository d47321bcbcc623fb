//! Threads: one row per conversation, listed by index walks.
//!
//! Invariants:
//! - A page is a walk of one index from (sort value, id). It neither skips nor repeats a row that is there
//!   throughout, however many rows share a timestamp and whoever writes meanwhile.
//! - Facts derived from a transcript never overwrite what a user set, `recency_at` only moves forward, and a row
//!   that would not change is not written.
//! - Reads never write.

mod cursor;
mod merge;
mod query;
pub(crate) mod row;
mod sql;

use std::cmp::Ordering;

pub use query::{Direction, Sort, ThreadQuery};
pub use row::{Change, FileStamp, GitFacts, MemoryMode, ThreadFacts, ThreadRow, UserField, UserSet};

use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Row, Session, Value};
use crate::sqlite::Database;
use crate::stores::database::StoreDatabase;
use cursor::Cursor;
use merge::merge;
use row::{StoredThread, canonical_id};

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
}

/// The transcript a row was read from, as it was then.
#[derive(Clone, Debug)]
pub(crate) struct KnownFile {
    pub(crate) path: String,
    pub(crate) size: i64,
}

impl Threads {
    /// The store in this database, which holds the tables of the `state` domain.
    pub fn new(database: Database) -> Self {
        Self::of(Ok(database))
    }

    /// The store of a runtime; a runtime without the state domain answers so at every use.
    pub(crate) fn of(database: Result<Database>) -> Self {
        Self { database: StoreDatabase::new(database, "threads") }
    }

    /// The same store; its writes go to the background lane.
    #[must_use]
    pub fn background(self) -> Self {
        Self { database: self.database.background() }
    }

    /// One page of threads.
    ///
    /// # Errors
    /// `Invalid` for a limit outside 1 to 500, and for a cursor that is no cursor or belongs to another query; the
    /// engine's.
    pub fn list(&self, query: &ThreadQuery) -> Result<ThreadPage> {
        query.check()?;
        let start = match query.cursor_text() {
            Some(text) => Cursor::parse_for(query, text)?,
            None => Cursor::before_all(query),
        };
        let wanted = query.page_size() + 1;
        let mut threads = self.database.get()?.read(|at| walk(at, query, &start, wanted))?;
        let more = threads.len() as u64 >= wanted;
        threads.truncate(query.page_size() as usize);
        let next_cursor = threads
            .last()
            .filter(|_| more)
            .map(|last| Cursor::after(query, query.sort, query.direction, last));
        let backwards_cursor =
            threads.first().map(|first| Cursor::after(query, query.sort, query.direction.reversed(), first));
        Ok(ThreadPage {
            threads,
            next_cursor: next_cursor.map(|cursor| cursor.to_string()),
            backwards_cursor: backwards_cursor.map(|cursor| cursor.to_string()),
        })
    }

    /// The thread of this id, or `None`.
    ///
    /// # Errors
    /// The engine's.
    pub fn get(&self, id: &str) -> Result<Option<ThreadRow>> {
        let Some(id) = canonical_id(id) else { return Ok(None) };
        Ok(self.database.get()?.read(|at| stored(at, &id))?.map(|found| found.row))
    }

    /// Brings derived facts into the store, all of them or none.
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
                        Ok(KnownFile { path: row.get("rollout_path")?, size: row.get("rollout_size")? })
                    };
                    rows.first().map(known).transpose()
                })
                .collect()
        })
    }
}

/// Up to `wanted` threads from `start` on. Several folders are merged walks, each of up to eight folders.
fn walk(at: &impl Session, query: &ThreadQuery, start: &Cursor, wanted: u64) -> Result<Vec<ThreadRow>> {
    let position = || [Value::Integer(start.value), Value::Text(start.id.clone())];
    let limit = Value::Integer(wanted as i64);
    let mut found = Vec::new();
    match query.folders() {
        None => {
            let [value, id] = position();
            for row in at.query(sql::page(query), &[value, id, limit])? {
                found.push(ThreadRow::from_row(&row)?);
            }
        }
        Some([one]) => {
            let [value, id] = position();
            for row in at.query(sql::page_of_folder(query), &[value, id, limit, one.as_str().into()])? {
                found.push(ThreadRow::from_row(&row)?);
            }
        }
        Some(folders) => {
            for eight in folders.chunks(sql::FOLDERS_PER_WALK) {
                let mut params = position().to_vec();
                params.push(limit.clone());
                params.extend(eight.iter().map(|folder| Value::from(folder.as_str())));
                params.resize(3 + sql::FOLDERS_PER_WALK, Value::Null);
                for row in at.query(sql::page_of_folders(query), &params)? {
                    found.push(ThreadRow::from_row(&row)?);
                }
            }
            if folders.len() > sql::FOLDERS_PER_WALK {
                found.sort_by(|a, b| order(query, a, b));
                found.truncate(wanted as usize);
            }
        }
    }
    Ok(found)
}

fn order(query: &ThreadQuery, a: &ThreadRow, b: &ThreadRow) -> Ordering {
    let ascending = (query.sort.of(a), &a.id).cmp(&(query.sort.of(b), &b.id));
    match query.direction {
        Direction::Ascending => ascending,
        Direction::Descending => ascending.reverse(),
    }
}

fn stored(at: &impl Session, id: &str) -> Result<Option<StoredThread>> {
    at.query(sql::BY_ID, &[id.into()])?.first().map(StoredThread::from_row).transpose()
}

fn upsert(tx: &impl Session, ids: &[String], facts: &[ThreadFacts]) -> Result<Upserted> {
    let mut done = Upserted::default();
    for (id, facts) in ids.iter().zip(facts) {
        let before = stored(tx, id)?;
        let after = merge(before.as_ref(), id, facts);
        if before.as_ref() == Some(&after) {
            done.unchanged += 1;
            continue;
        }
        tx.execute(sql::PUT, &after.params())?;
        if before.is_some() {
            done.updated += 1;
        } else {
            done.inserted += 1;
        }
    }
    Ok(done)
}
