//! Memories: two flows of leased jobs, and what they made.
//!
//! *Extract* draws a memory from each thread that has come to rest; *consolidate* makes one book of them. The store does
//! neither: it says what is to be done, by whom, and keeps what came of it.
//!
//! Invariants:
//! - A job is one process's at a time: a claim gives a token, and a mark with a token that is not the job's any more changes
//!   nothing and says so.
//! - At most [`MemoryLimits::running`] threads are worked on at any time: counted in the transaction that claims.
//! - A thread whose work fails, or whose worker dies, is tried [`MemoryLimits::retries`] times more, until there is more in
//!   it.
//! - What the last consolidation used is not pruned.
//!
//! Tests: `tests/memories.rs`.

mod consolidate;
mod extract;
mod model;
mod outputs;

pub use model::{
    ConsolidateClaim, ExtractClaim, MemoryLimits, MemoryOutput, MemoryStatus, NewMemory, SelectedOutput,
    Selection, UsedOutput,
};

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::{Database, now_unix_ms};
use crate::stores::database::StoreDatabase;

/// The memories of a `state` database. Cheap to clone.
///
/// ```
/// # fn main() -> rowhouse::Result<()> {
/// # let folder = tempfile::tempdir().expect("a folder");
/// use rowhouse::{Home, Runtime};
/// let runtime = Runtime::open(Home::at(folder.path().join("home")))?;
/// let memories = runtime.memories();
/// for claim in memories.claim_extracts(4, None)? {
///     // Read the thread, draw a memory from it, then:
///     memories.extract_without_output(&claim)?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Memories {
    database: StoreDatabase,
    limits: MemoryLimits,
    clock: fn() -> i64,
}

impl Memories {
    /// The memories in this database, which holds the tables of the `state` domain.
    pub fn new(database: Database) -> Self {
        Self::of(Ok(database))
    }

    /// The memories of a runtime; a runtime without the state domain answers so at every use.
    pub(crate) fn of(database: Result<Database>) -> Self {
        Self {
            database: StoreDatabase::new(database, "memories"),
            limits: MemoryLimits::default(),
            clock: || i64::try_from(now_unix_ms()).unwrap_or(i64::MAX),
        }
    }

    /// With other limits than the default ones.
    #[must_use]
    pub fn limits(mut self, limits: MemoryLimits) -> Self {
        self.limits = limits;
        self
    }

    /// With another clock, in Unix milliseconds: for tests of programs that build on this.
    #[must_use]
    pub fn clock(mut self, clock: fn() -> i64) -> Self {
        self.clock = clock;
        self
    }

    fn now(&self) -> i64 {
        (self.clock)()
    }
}

/// A text that SQLite and PostgreSQL both keep as it is.
fn check_text(text: &str) -> Result<()> {
    if text.contains('\0') {
        return Err(Error::new(ErrorKind::Invalid, "a text of a memory holds no NUL character"));
    }
    Ok(())
}

/// A time so much earlier or later, at the end of time if there is no such.
fn after(now: i64, wait: std::time::Duration) -> i64 {
    now.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}

fn before(now: i64, wait: std::time::Duration) -> i64 {
    now.saturating_sub(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}
