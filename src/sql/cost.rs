//! What statements cost, as SQLite counts it: so that a test can say how much a query looks at, whatever its plan.
//!
//! Counted only inside [`statement_costs`]; otherwise a statement pays for one relaxed load.
//! Source: <https://sqlite.org/c3ref/c_stmtstatus_counter.html>.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rusqlite::{Statement, StatementStatus};

static COUNTING: AtomicBool = AtomicBool::new(false);
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static COSTS: Mutex<Vec<StatementCost>> = Mutex::new(Vec::new());

/// What one run of a statement cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementCost {
    /// Its text.
    pub sql: String,
    /// Rows it answered.
    pub rows: u64,
    /// Steps forward in a scan of a whole table.
    pub full_scan_steps: u64,
    /// Sorts, which read everything before they answer anything.
    pub sorts: u64,
    /// Rows put into indexes that exist for this run only.
    pub automatic_index_rows: u64,
    /// Operations of SQLite's virtual machine: the measure of work that does not lie. A row that is looked at takes
    /// from ten to a hundred.
    pub vm_steps: u64,
}

/// Runs `work` and answers what every statement of this process cost meanwhile that went through a
/// [`Session`](super::Session), in the order in which they ended.
pub fn statement_costs<T>(work: impl FnOnce() -> T) -> (T, Vec<StatementCost>) {
    let _alone = ONE_AT_A_TIME.lock();
    COSTS.lock().clear();
    let counting = Counting::begin();
    let answer = work();
    drop(counting);
    (answer, std::mem::take(&mut *COSTS.lock()))
}

/// Counted while it lives; it ends also when the work panics.
struct Counting;

impl Counting {
    fn begin() -> Self {
        COUNTING.store(true, Ordering::Relaxed);
        Self
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        COUNTING.store(false, Ordering::Relaxed);
    }
}

const COUNTERS: [StatementStatus; 4] = [
    StatementStatus::FullscanStep,
    StatementStatus::Sort,
    StatementStatus::AutoIndex,
    StatementStatus::VmStep,
];

/// Before a statement runs: forgets what earlier runs of it cost.
pub(super) fn begin(statement: &Statement<'_>) {
    if COUNTING.load(Ordering::Relaxed) {
        for counter in COUNTERS {
            statement.reset_status(counter);
        }
    }
}

/// After it ran, and answered `rows`.
pub(super) fn end(statement: &Statement<'_>, sql: &str, rows: usize) {
    if COUNTING.load(Ordering::Relaxed) {
        let [full_scan_steps, sorts, automatic_index_rows, vm_steps] =
            COUNTERS.map(|counter| u64::from(statement.get_status(counter).unsigned_abs()));
        COSTS.lock().push(StatementCost {
            sql: sql.to_owned(),
            rows: rows as u64,
            full_scan_steps,
            sorts,
            automatic_index_rows,
            vm_steps,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_panics_is_not_counted_for_ever() {
        let panicked =
            std::panic::catch_unwind(|| statement_costs(|| std::panic::resume_unwind(Box::new("as a test"))));
        assert!(panicked.is_err());
        let _alone = ONE_AT_A_TIME.lock();
        assert!(!COUNTING.load(Ordering::Relaxed));
    }
}
