//! The work of a backfill: a folder of transcripts becomes rows, a batch of files at a time, newest first.
//!
//! Invariants:
//! - A file whose size, time and inode are those of its last reading is not read again, and a second run over the same
//!   folder writes nothing.
//! - No file stops the others: what cannot be read is counted and named, with its line where there is one.
//! - Of several files of one thread the longest counts, as transcripts only grow; of equals the one already known, but a
//!   file of this home before one elsewhere. A compressed file with the plain one beside it is none.
//! - Killed at any moment, it goes on behind the last batch that was committed; what came before it is looked at once
//!   more, by stamps, for files that changed meanwhile.
//!
//! | file | what |
//! |---|---|
//! | [`run`] | one run over a folder |
//! | [`reading`] | the files of a batch, by two threads |
//! | [`missing`] | rows whose file is gone, and their sweep |
//! | [`worker`] | a run in the background |
//!
//! Tests: `tests/import_transcripts.rs`, `tests/backfill.rs`, `tests/s4_s5_s6_backfill.rs`.

mod missing;
mod reading;
mod run;
mod worker;

pub use worker::BackfillHandle;

use std::path::Path;

use crate::error::Result;
use crate::stores::backfill::{Backfill, BackfillProgress, BackfillReport, Reread};
use run::Run;
use worker::Stop;

/// Which version of reading a transcript this is. A program that draws more from a file than the one before counts it up:
/// folders that were complete are then read again, once.
const FACTS: i64 = 1;

impl Backfill {
    /// Brings the transcripts of a folder into the store: what [`walk`](crate::rollout::walk) finds, newest first, 200 to
    /// a commit in the background lane. Goes on where an earlier run was interrupted, and looks at every file; read are
    /// those that are new or changed. `progress` hears of each batch, on this thread.
    ///
    /// # Errors
    /// `NotFound` when there is no such folder; `Busy` naming the process that runs a backfill of this home; those of the
    /// database. A bad file is none: the report names it.
    pub fn run(
        &self,
        root: &Path,
        reread: Reread,
        progress: &mut dyn FnMut(&BackfillProgress),
    ) -> Result<BackfillReport> {
        Run::new(self, root, reread, &Stop::default(), progress)?.until_done()
    }
}
