//! Whose snapshot keeps the write-ahead log from being worked off.
//!
//! Invariants:
//! 1. Nothing is locked or tried to find out: the read marks are read in the index that SQLite has mapped, who holds the
//!    lock of a mark is asked of the system.
//! 2. Only marks that keep the log back count: a snapshot of its newest state does not.
//! 3. Of several snapshots the one that keeps most is named. Where several processes have the same, another one is named
//!    before this one: what is read here is bounded by its age, what others do is not.
//! 4. A read of this process is only named when it began before the log stood still.
//!
//! Tests: `tests/bounds_are_kept.rs`.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::holders::{self, Effort, Holder};
use super::label::Label;
use super::log_index;
use super::shared::Shared;

/// What keeps the log.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Pin {
    /// A snapshot of another process.
    Process(Holder),
    /// A checkpoint of another process, which was stopped in the middle.
    Checkpoint(Holder),
    /// A read of this process.
    Read { age: Duration, label: Label },
    /// This process, but none of its reads.
    Own,
}

/// Who keeps a log of this many pages, as far as it can be told, when nothing of it has moved since `stuck_since`.
/// `connection` has read the log.
pub(super) fn find(
    shared: &Shared,
    connection: &Connection,
    log: u64,
    stuck_since: Option<Instant>,
    effort: Effort,
) -> Option<Pin> {
    // What began later does not keep it.
    let own = || {
        let (began, label) = shared.readers.oldest()?;
        let keeps = stuck_since.is_none_or(|since| began <= since);
        keeps.then(|| Pin::Read { age: Instant::now().saturating_duration_since(began), label })
    };
    if shared.spec.memory.is_some() {
        return own();
    }
    let marks = keeping(log_index::read_marks(connection), log);
    let holder = holders::snapshot_holders(&shared.spec.path, &marks, effort).into_iter().next()?;
    if holder.pid == std::process::id() { own().or(Some(Pin::Own)) } else { Some(Pin::Process(holder)) }
}

/// The process that is inside a checkpoint, if it is another one.
pub(super) fn find_checkpoint(shared: &Shared) -> Option<Pin> {
    let holder = holders::checkpoint_holder(&shared.spec.path)?;
    (holder.pid != std::process::id()).then_some(Pin::Checkpoint(holder))
}

/// The marks that keep a log of this length from being worked off, those that keep more of it first. The first mark means
/// the main file as it is: whoever has it keeps everything back. Where the marks cannot be read, it may be any.
pub(super) fn keeping(marks: Option<[u32; 5]>, log: u64) -> Vec<u64> {
    let needs = |at: usize| marks.filter(|_| at > 0).map_or(0, |marks| u64::from(marks[at]));
    let mut keeping: Vec<usize> = (0..5).filter(|at| *at == 0 || needs(*at) < log).collect();
    keeping.sort_by_key(|at| (*at > 0, needs(*at)));
    keeping.into_iter().map(|at| at as u64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::ffi;

    #[test]
    fn only_marks_before_the_end_keep_the_log_and_the_lowest_keeps_most() {
        let marks = [0, 100, 40, u32::MAX, 100];
        assert_eq!(keeping(Some(marks), 100), [0, 2]);
        assert_eq!(keeping(Some(marks), 101), [0, 2, 1, 4]);
        assert_eq!(keeping(None, 1), [0, 1, 2, 3, 4]);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test of SQLite's own marks")]
    fn the_marks_are_those_that_snapshots_have() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || rusqlite::Connection::open(folder.path().join("a.sqlite")).expect("a database");
        let (writer, reader) = (open(), open());
        writer
            .execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(a); INSERT INTO t VALUES (1)")
            .expect("a log");
        reader.execute_batch("BEGIN; SELECT * FROM t").expect("a snapshot");
        let pinned = ffi::checkpoint_noop(&writer).expect("numbers").log;
        for _ in 0..10 {
            writer.execute_batch("INSERT INTO t VALUES (2)").expect("a row");
        }
        let done = ffi::checkpoint_passive(&writer).expect("as far as it goes");
        assert_eq!((done.done, done.log > pinned), (pinned, true));
        let marks = log_index::read_marks(&writer).expect("an index");
        let at: Vec<_> = keeping(Some(marks), done.log).into_iter().filter(|at| *at > 0).collect();
        assert!(
            at.iter().any(|at| u64::from(marks[usize::try_from(*at).expect("small")]) == pinned),
            "{marks:?}"
        );
        let holders = holders::snapshot_holders(&folder.path().join("a.sqlite"), &[at[0]], Effort::All);
        assert!(!cfg!(target_os = "linux") || holders[0].pid == std::process::id());
    }
}
