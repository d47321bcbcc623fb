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
//! - No clock makes two owners of a job, or an owner for ever. Set ahead, it ends a lease early: somebody else may claim,
//!   and the marks of who had the job answer false. Set back, a lease, a retry or a cooldown would last longer than it
//!   can: it is cut to what it would be if it began now (the retry of an extract is due at once), so that nobody alive
//!   loses a job, and one of a dead owner is free a lease later.
//! - No statement looks at more than [`MemoryLimits::scan`] threads, 5,000 outputs, or 20,000 of each for the status.
//!
//! Tests: `tests/contract/memories.rs`; what a statement may look at: `tests/stores_look_at_little.rs`.

mod consolidate;
mod extract;
mod model;
mod outputs;
pub(crate) mod portable;

pub use model::{
    ConsolidateClaim, ExtractClaim, MemoryLimits, MemoryOutput, MemoryStatus, NewMemory, SelectedOutput,
    Selection, UsedOutput,
};

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::Database;
use crate::stores::database::{Engine, StoreDatabase, StoreSession};

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
    /// `None`: that of the database, which all who share it have in common.
    clock: Option<fn() -> i64>,
}

impl Memories {
    /// The memories in this database, which holds the tables of the `state` domain.
    pub fn new(database: Database) -> Self {
        Self::of(Ok(database.into()))
    }

    /// The memories of a runtime; a runtime without the state domain answers so at every use.
    pub(crate) fn of(engine: Result<Engine>) -> Self {
        Self {
            database: StoreDatabase::new(engine, "memories"),
            limits: MemoryLimits::default(),
            clock: None,
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
        self.clock = Some(clock);
        self
    }

    /// Asked before a job, on the caller's thread; a job may run on another.
    fn now(&self) -> Now {
        Now(self.clock.map(|clock| clock()))
    }
}

/// The time of one call: given, or that of the database when it is asked.
#[derive(Clone, Copy)]
struct Now(Option<i64>);

impl Now {
    fn at(self, at: &StoreSession<'_>) -> Result<i64> {
        self.0.map_or_else(|| at.now_unix_ms(), Ok)
    }
}

/// The longest text of a memory, in bytes of UTF-8.
const LONGEST_TEXT: usize = 1 << 20;
/// The longest short name, in bytes.
const LONGEST_SLUG: usize = 100;
/// The longest reason of a failure that is kept.
const LONGEST_REASON: usize = 4 << 10;

/// A text that SQLite and PostgreSQL both keep as it is.
fn check_text(text: &str) -> Result<()> {
    if text.len() > LONGEST_TEXT {
        return Err(Error::new(ErrorKind::Invalid, "a text of a memory has at most 1 MiB"));
    }
    no_nul(text)
}

/// A name that can be part of a file's, in any folder and on any system.
fn check_slug(slug: &str) -> Result<()> {
    let unfit = |letter: char| letter.is_control() || matches!(letter, '/' | '\\');
    if (1..=LONGEST_SLUG).contains(&slug.len()) && !slug.starts_with('.') && !slug.contains(unfit) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, "the short name of a memory is not fit for a file").advise(
        "1 to 100 bytes without slashes, backslashes and control characters, and no dot in front; or none",
    ))
}

fn no_nul(text: &str) -> Result<()> {
    if text.contains('\0') {
        return Err(Error::new(ErrorKind::Invalid, "a text of a memory holds no NUL character"));
    }
    Ok(())
}

/// Why something failed, as it is kept: a failure that is told at length is told nevertheless.
fn reason(why: &str) -> Result<&str> {
    no_nul(why)?;
    Ok(&why[..why.floor_char_boundary(LONGEST_REASON)])
}

/// A time so much earlier or later, at the end of time if there is no such.
fn after(now: i64, wait: std::time::Duration) -> i64 {
    now.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}

fn before(now: i64, wait: std::time::Duration) -> i64 {
    now.saturating_sub(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}
