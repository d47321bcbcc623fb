//! What a job may not do, and how its SQL is stopped in time.
//!
//! Invariants:
//! 1. The authorizer is set once per connection (setting it again would expire every cached statement) and reads a
//!    flag. While a job or a read runs it denies transaction control, ATTACH (also the raw code 24 that a computed
//!    file name arrives as), DETACH, temporary tables, views and triggers (the connection is not the job's: they would
//!    be there for every later one), every pragma outside a short read-only list, loading extensions, and every code
//!    that it does not know.
//! 2. SQL is stopped by the connection's own progress handler, which reads the deadline of what runs now. Nothing is
//!    interrupted from another thread, so a stop never hits a neighbour or the COMMIT.
//! 3. Nothing is committed while a job runs: after a statement that rolled the transaction back (`INSERT OR ROLLBACK`),
//!    the job's next one would be a commit of its own, and the job runs again. A commit hook refuses it.
//! 4. A thread that runs a job is marked. Starting a write from it, on any database of the process, fails at once
//!    instead of waiting for itself.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use super::history::OWN_TABLES;
use crate::error::{Error, ErrorKind, Result};

/// How many steps of SQLite's virtual machine pass between two looks at the clock: about 20 µs of work.
const STEPS_BETWEEN_LOOKS: i32 = 1000;

/// Pragmas that only read; those of the second list also when given an argument. SQLite itself runs some of them
/// (`data_version` and `page_size` for FTS5 and RTREE, `quick_check` for ALTER TABLE on STRICT tables).
const READ_PRAGMAS: &[&str] = &[
    "application_id",
    "collation_list",
    "compile_options",
    "data_version",
    "encoding",
    "freelist_count",
    "function_list",
    "journal_mode",
    "page_count",
    "page_size",
    "schema_version",
    "table_list",
    "user_version",
];
const READ_PRAGMAS_OF_A_NAME: &[&str] = &[
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "quick_check",
    "table_info",
    "table_xinfo",
];

/// The flag and the deadline that a connection's hooks read.
pub(super) struct Guard {
    inside: AtomicBool,
    /// Nanoseconds since `base`; `u64::MAX` for none.
    deadline: AtomicU64,
    base: Instant,
}

impl Guard {
    /// Sets the hooks of a connection, once.
    pub(super) fn install(connection: &Connection) -> rusqlite::Result<Arc<Self>> {
        let guard = Arc::new(Self {
            inside: AtomicBool::new(false),
            deadline: AtomicU64::new(u64::MAX),
            base: Instant::now(),
        });
        let reads = guard.clone();
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            if reads.inside.load(Ordering::Relaxed) { judge(&context) } else { Authorization::Allow }
        }))?;
        let reads = guard.clone();
        connection.commit_hook(Some(move || reads.inside.load(Ordering::Relaxed)))?;
        let reads = guard.clone();
        connection.progress_handler(
            STEPS_BETWEEN_LOOKS,
            Some(move || {
                let deadline = reads.deadline.load(Ordering::Relaxed);
                deadline != u64::MAX && reads.elapsed(Instant::now()) > deadline
            }),
        )?;
        Ok(guard)
    }

    fn elapsed(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX - 1)
    }

    /// What runs until the answer is dropped is a job's or a reader's: guarded, and stopped at `deadline`.
    pub(super) fn enter(&self, deadline: Instant) -> Inside<'_> {
        self.deadline.store(self.elapsed(deadline), Ordering::Relaxed);
        self.inside.store(true, Ordering::Relaxed);
        Inside(self)
    }

    /// The engine's own statements are not a job's, and not stopped at its deadline.
    pub(super) fn pause(&self) -> Paused<'_> {
        let was = self.inside.swap(false, Ordering::Relaxed);
        Paused { guard: self, was, deadline: self.deadline.swap(u64::MAX, Ordering::Relaxed) }
    }
}

pub(super) struct Inside<'g>(&'g Guard);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.store(false, Ordering::Relaxed);
        self.0.deadline.store(u64::MAX, Ordering::Relaxed);
    }
}

pub(super) struct Paused<'g> {
    guard: &'g Guard,
    was: bool,
    deadline: u64,
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.guard.deadline.store(self.deadline, Ordering::Relaxed);
        self.guard.inside.store(self.was, Ordering::Relaxed);
    }
}

fn judge(context: &AuthContext<'_>) -> Authorization {
    let own = |table: &str| OWN_TABLES.iter().any(|own| own.eq_ignore_ascii_case(table));
    let allowed = match &context.action {
        AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. } => {
            // A temporary virtual table shows only here, as a row of the temporary schema.
            !own(table_name) && context.database_name != Some("temp")
        }
        AuthAction::DropTable { table_name } | AuthAction::AlterTable { table_name, .. } => !own(table_name),
        AuthAction::CreateVtable { .. } => context.database_name != Some("temp"),
        AuthAction::Unknown { .. }
        | AuthAction::Transaction { .. }
        | AuthAction::Savepoint { .. }
        | AuthAction::Attach { .. }
        | AuthAction::Detach { .. }
        | AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateTempView { .. } => false,
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let name = pragma_name.to_ascii_lowercase();
            let name = name.as_str();
            READ_PRAGMAS_OF_A_NAME.contains(&name) || (pragma_value.is_none() && READ_PRAGMAS.contains(&name))
        }
        AuthAction::Function { function_name } => !function_name.eq_ignore_ascii_case("load_extension"),
        _ => true,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}

thread_local! {
    static IN_JOB: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as running a job until it is dropped.
pub(crate) struct InJob {
    was: bool,
}

impl InJob {
    pub(crate) fn mark() -> Self {
        Self { was: IN_JOB.replace(true) }
    }
}

impl Drop for InJob {
    fn drop(&mut self) {
        IN_JOB.set(self.was);
    }
}

/// True on a thread that runs a job.
pub(crate) fn in_job() -> bool {
    // During thread exit the mark is gone, and no job runs there.
    IN_JOB.try_with(Cell::get).unwrap_or(false)
}

/// Refuses what would wait for itself.
///
/// # Errors
/// `Reentrant` on a thread that runs a job.
pub(crate) fn refuse_in_job() -> Result<()> {
    if in_job() {
        return Err(Error::new(ErrorKind::Reentrant, "a write was started from inside a job")
            .advise("use the `tx` that the job was given, or write after the job has answered"));
    }
    Ok(())
}
