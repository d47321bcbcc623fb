//! Spawn edges: which thread started which.
//!
//! Invariants:
//! - A thread has at most one parent, for good.
//! - A walk is breadth first, visits each thread once, and so ends also where the edges form a cycle. It is one snapshot.
//! - A walk looks at most at [`LONGEST_WALK`] edges, by one statement per thread that it looks under.
//!
//! Tests: `tests/contract/spawn_edges.rs`.

use std::collections::{HashSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Row, Session, Value};
use crate::sqlite::{Database, now_unix_ms};
use crate::stores::database::{Engine, StoreDatabase};
use crate::stores::threads::row::{canonical_id, thread_id};

/// The most edges that one walk looks at.
pub const LONGEST_WALK: usize = 10_000;

/// One thread and the one that started it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnEdge {
    /// Who started it.
    pub parent_id: String,
    /// Who was started.
    pub child_id: String,
    /// Whether the child still works for its parent.
    pub status: SpawnStatus,
    /// When it was started, in Unix milliseconds.
    pub created_at: i64,
    /// How far below the thread that was asked for; 1 for a child.
    pub depth: u32,
}

/// Whether a child still works for its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpawnStatus {
    /// It does.
    Open,
    /// It has ended, or was let go.
    Closed,
}

impl SpawnStatus {
    /// The status as one lower-case word, as it is stored and appears in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// What is below a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descendants {
    /// Breadth first; children of one thread oldest first.
    pub edges: Vec<SpawnEdge>,
    /// True when there are more than [`LONGEST_WALK`], whatever their status: these are of the first ones.
    pub truncated: bool,
}

/// The spawn edges of a `state` database. Cheap to clone.
///
/// ```
/// # fn main() -> rowhouse::Result<()> {
/// # let folder = tempfile::tempdir().expect("a folder");
/// use rowhouse::stores::spawn_edges::SpawnStatus;
/// use rowhouse::{Home, Runtime};
/// let runtime = Runtime::open(Home::at(folder.path().join("home")))?;
/// let edges = runtime.spawn_edges();
/// let (parent, child) = ("019cadf1-7a5e-7b04-8f21-000000000001", "019cadf1-7a5e-7b04-8f21-000000000002");
/// edges.add(parent, child)?;
/// assert_eq!(edges.children(parent, Some(SpawnStatus::Open))?.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SpawnEdges {
    database: StoreDatabase,
}

/// $1 parent, $2 how many.
const OF_PARENT: &str = "SELECT parent_id, child_id, status, created_at FROM spawn_edge \
     WHERE parent_id = $1 ORDER BY created_at, child_id LIMIT $2";
const CHILDREN: &str =
    "SELECT child_id FROM spawn_edge WHERE parent_id = $1 ORDER BY created_at, child_id LIMIT $2";
const OF_CHILD: &str = "SELECT parent_id, child_id, status, created_at FROM spawn_edge WHERE child_id = $1";
const ADD: &str =
    "INSERT INTO spawn_edge(child_id, parent_id, status, created_at) VALUES ($1, $2, 'open', $3)";
/// $1 behind this child, $2 how many.
const BEHIND: &str = "SELECT parent_id, child_id, status, created_at FROM spawn_edge \
     WHERE child_id > $1 ORDER BY child_id LIMIT $2";
const RESTORE: &str =
    "INSERT INTO spawn_edge(child_id, parent_id, status, created_at) VALUES ($1, $2, $3, $4)";
const SET: &str = "UPDATE spawn_edge SET status = $2 WHERE child_id = $1 AND status <> $2";

impl SpawnEdges {
    /// The edges in this database, which holds the tables of the `state` domain.
    pub fn new(database: Database) -> Self {
        Self::of(Ok(database.into()))
    }

    /// The edges of a runtime; a runtime without the state domain answers so at every use.
    pub(crate) fn of(engine: Result<Engine>) -> Self {
        Self { database: StoreDatabase::new(engine, "spawn_edges") }
    }

    /// Records that `parent` started `child`: an open edge. One that is there already stays as it is. Answers whether it
    /// is new.
    ///
    /// # Errors
    /// `Conflict` when the child has another parent; `Invalid` when an id is no UUID, or a thread would start itself; the
    /// engine's.
    pub fn add(&self, parent_id: &str, child_id: &str) -> Result<bool> {
        let (parent, child) = (thread_id(parent_id)?, thread_id(child_id)?);
        if parent == child {
            return Err(Error::new(ErrorKind::Invalid, "a thread does not start itself"));
        }
        let now = i64::try_from(now_unix_ms()).unwrap_or(i64::MAX);
        self.database.get()?.write(|tx| add(tx, &parent, &child, now))
    }

    /// Who started the thread.
    ///
    /// # Errors
    /// The engine's.
    pub fn parent(&self, child_id: &str) -> Result<Option<SpawnEdge>> {
        let Some(child) = canonical_id(child_id) else { return Ok(None) };
        self.database.get()?.read(|at| edge_to(at, &child))
    }

    /// The edges behind this child, in the order of the children's ids.
    pub(crate) fn behind(&self, child: &str, most: u32) -> Result<Vec<SpawnEdge>> {
        let params = [child.into(), i64::from(most).into()];
        let rows = self.database.get()?.read(|at| Session::query(at, BEHIND, &params))?;
        rows.iter().map(|row| edge(row, 1)).collect()
    }

    /// Whom the thread started, oldest first.
    ///
    /// # Errors
    /// `Unsupported` when it started more than [`LONGEST_WALK`]; the engine's.
    pub fn children(&self, parent_id: &str, status: Option<SpawnStatus>) -> Result<Vec<SpawnEdge>> {
        let Some(parent) = canonical_id(parent_id) else { return Ok(Vec::new()) };
        let mut edges = self.database.get()?.read(|at| below(at, &parent, 1, LONGEST_WALK + 1))?;
        if edges.len() > LONGEST_WALK {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the thread started too many others to name them all",
            )
            .advise("ask for its descendants, which answers the first ones"));
        }
        edges.retain(|edge| status.is_none_or(|one| one == edge.status));
        Ok(edges)
    }

    /// Everything below the thread, breadth first. With a status, only what is reached by edges of that status.
    ///
    /// # Errors
    /// The engine's.
    pub fn descendants(&self, root_id: &str, status: Option<SpawnStatus>) -> Result<Descendants> {
        let Some(root) = canonical_id(root_id) else { return Ok(Descendants::default()) };
        self.database.get()?.read(|at| walk(at, &root, status, LONGEST_WALK))
    }

    /// Closes or opens the edge to a thread. With `cascade` also those to everything below it. Answers how many edges
    /// changed.
    ///
    /// # Errors
    /// `Invalid` when the id is no UUID; `Unsupported` when more than [`LONGEST_WALK`] threads are below it, and nothing
    /// was changed; the engine's.
    pub fn set_status(&self, child_id: &str, status: SpawnStatus, cascade: bool) -> Result<u64> {
        let child = thread_id(child_id)?;
        self.database.get()?.write(|tx| {
            let own = set(tx, &child, status)?;
            Ok(own + if cascade { set_below(tx, &child, status)? } else { 0 })
        })
    }

    /// Closes or opens the edges to everything below a thread, its own left as it is. Answers how many changed.
    ///
    /// # Errors
    /// As [`set_status`](Self::set_status).
    pub fn set_descendants(&self, root_id: &str, status: SpawnStatus) -> Result<u64> {
        let root = thread_id(root_id)?;
        self.database.get()?.write(|tx| set_below(tx, &root, status))
    }
}

fn add(tx: &impl Session, parent: &str, child: &str, now: i64) -> Result<bool> {
    match edge_to(tx, child)? {
        None => tx.execute(ADD, &[child.into(), parent.into(), now.into()]).map(|_| true),
        Some(found) if found.parent_id == parent => Ok(false),
        Some(_) => Err(another_parent()),
    }
}

/// Puts an edge of another home there, unless the child has one. Answers whether it is new; its depth does not matter.
///
/// # Errors
/// `Conflict` when the child has another parent; `Invalid` when an id is no UUID; the engine's.
pub(crate) fn restore(tx: &impl Session, given: &SpawnEdge, dry_run: bool) -> Result<bool> {
    let (parent, child) = (thread_id(&given.parent_id)?, thread_id(&given.child_id)?);
    match edge_to(tx, &child)? {
        Some(found) if found.parent_id == parent => Ok(false),
        Some(_) => Err(another_parent()),
        None if parent == child => Err(Error::new(ErrorKind::Invalid, "a thread does not start itself")),
        None if dry_run => Ok(true),
        None => {
            let params = [child.into(), parent.into(), given.status.as_str().into(), given.created_at.into()];
            tx.execute(RESTORE, &params).map(|_| true)
        }
    }
}

fn another_parent() -> Error {
    Error::new(ErrorKind::Conflict, "the thread was started by another one")
        .advise("a thread has one parent; start a new thread")
}

fn set(tx: &impl Session, child: &str, status: SpawnStatus) -> Result<u64> {
    tx.execute(SET, &[child.into(), status.as_str().into()])
}

fn set_below(tx: &impl Session, root: &str, status: SpawnStatus) -> Result<u64> {
    let found = walk(tx, root, None, LONGEST_WALK)?;
    if found.truncated {
        return Err(too_many("too many threads are below this one; nothing was changed"));
    }
    found.edges.iter().map(|edge| set(tx, &edge.child_id, status)).sum()
}

/// The threads that this one started, for a filter.
///
/// # Errors
/// `Unsupported` when there are more than [`LONGEST_WALK`]; the engine's.
pub(super) fn children_of(at: &impl Session, parent: &str) -> Result<Vec<String>> {
    let rows = at.query(CHILDREN, &[parent.into(), (LONGEST_WALK as i64 + 1).into()])?;
    if rows.len() > LONGEST_WALK {
        return Err(too_many("too many threads were started by this one to list them"));
    }
    rows.iter().map(|row| row.get("child_id")).collect()
}

/// The threads below this one, for a filter.
///
/// # Errors
/// `Unsupported` when there are more than [`LONGEST_WALK`]; the engine's.
pub(crate) fn descendants_of(at: &impl Session, root: &str) -> Result<Vec<String>> {
    let found = walk(at, root, None, LONGEST_WALK)?;
    if found.truncated {
        return Err(too_many("too many threads are below this one to list them"));
    }
    Ok(found.edges.into_iter().map(|edge| edge.child_id).collect())
}

fn too_many(message: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, message).advise("do it for its children, one by one")
}

fn walk(at: &impl Session, root: &str, status: Option<SpawnStatus>, most: usize) -> Result<Descendants> {
    let mut seen = HashSet::from([root.to_owned()]);
    let mut to_look_under = VecDeque::from([(root.to_owned(), 1)]);
    let mut edges = Vec::new();
    let mut left = most;
    while let Some((parent, depth)) = to_look_under.pop_front() {
        let mut found = below(at, &parent, depth, left + 1)?;
        let truncated = found.len() > left;
        found.truncate(left);
        left -= found.len();
        for edge in found {
            if status.is_none_or(|one| one == edge.status) && seen.insert(edge.child_id.clone()) {
                to_look_under.push_back((edge.child_id.clone(), depth + 1));
                edges.push(edge);
            }
        }
        if truncated {
            return Ok(Descendants { edges, truncated });
        }
    }
    Ok(Descendants { edges, truncated: false })
}

/// Up to `most` of the children of a thread.
fn below(at: &impl Session, parent: &str, depth: u32, most: usize) -> Result<Vec<SpawnEdge>> {
    let rows = at.query(OF_PARENT, &[parent.into(), (most as i64).into()])?;
    rows.iter().map(|row| edge(row, depth)).collect()
}

fn edge_to(at: &impl Session, child: &str) -> Result<Option<SpawnEdge>> {
    at.query(OF_CHILD, &[Value::from(child)])?.first().map(|row| edge(row, 1)).transpose()
}

fn edge(row: &Row, depth: u32) -> Result<SpawnEdge> {
    let status = match row.get::<String>("status")?.as_str() {
        "open" => SpawnStatus::Open,
        _ => SpawnStatus::Closed,
    };
    Ok(SpawnEdge {
        parent_id: row.get("parent_id")?,
        child_id: row.get("child_id")?,
        status,
        created_at: row.get("created_at")?,
        depth,
    })
}
