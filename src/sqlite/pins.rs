//! Whose snapshot keeps the write-ahead log from being worked off.
//!
//! Invariants:
//! 1. Nothing is locked or tried to find out: the read marks are read in the index that SQLite has mapped, who holds the
//!    lock of a mark is asked of the system.
//! 2. Only marks that keep the log back count: a snapshot of its newest state does not.
//! 3. Another process is named before this one: what is read here is bounded by its age, what others do is not.
//!
//! Tests: `tests/bounds_are_kept.rs`.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::ffi;
use super::holders::{self, Holder};
use super::label::Label;
use super::shared::Shared;

/// What keeps the log.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Pin {
    /// Another process.
    Process(Holder),
    /// A read of this process.
    Read { age: Duration, label: Label },
    /// This process, but none of its reads.
    Own,
}

/// Who needs a log of this many pages, as far as it can be told. `connection` has read the log.
pub(super) fn find(shared: &Shared, connection: &Connection, log: u64) -> Option<Pin> {
    let own = || {
        shared.readers.oldest().map(|(began, label)| {
            let age = Instant::now().saturating_duration_since(began);
            Pin::Read { age, label }
        })
    };
    if shared.spec.memory.is_some() {
        return own();
    }
    let marks = keeping(ffi::read_marks(connection), log);
    let holder = holders::snapshot_holders(&shared.spec.path, &marks).into_iter().next()?;
    if holder.pid == std::process::id() { own().or(Some(Pin::Own)) } else { Some(Pin::Process(holder)) }
}

/// The marks that keep a log of this length from being worked off. The first one means the main file as it is: whoever
/// has it keeps everything back. Where the marks cannot be read, it may be any.
fn keeping(marks: Option<[u32; 5]>, log: u64) -> Vec<u64> {
    let keeps = |at: usize| at == 0 || marks.is_none_or(|marks| u64::from(marks[at]) < log);
    (0..5).filter(|at| keeps(*at)).map(|at| at as u64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marks_before_the_end_keep_the_log() {
        let marks = [0, 100, 40, u32::MAX, 100];
        assert_eq!(keeping(Some(marks), 100), [0, 2]);
        assert_eq!(keeping(Some(marks), 101), [0, 1, 2, 4]);
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
        let marks = ffi::read_marks(&writer).expect("an index");
        let at: Vec<_> = keeping(Some(marks), done.log).into_iter().filter(|at| *at > 0).collect();
        assert!(
            at.iter().any(|at| u64::from(marks[usize::try_from(*at).expect("small")]) == pinned),
            "{marks:?}"
        );
        let holders = holders::snapshot_holders(&folder.path().join("a.sqlite"), &[at[0]]);
        assert!(!cfg!(target_os = "linux") || holders[0].pid == std::process::id());
    }
}
