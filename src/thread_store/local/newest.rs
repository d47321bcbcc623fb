//! New transcripts without a row: their program died, or could not reach the index, before it could make one.
//!
//! A list looks at the newest names of the newest day, at most once a second, and makes the rows that are missing: four
//! folders are read, and a transcript only when its row is not there. What is older waits for a backfill.
//!
//! Tests: `tests/thread_store_at_scale.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Inner;
use crate::error::Result;
use crate::rollout::{read_metadata, walk};

/// How often it is looked, at most.
const EVERY: Duration = Duration::from_secs(1);
/// Transcripts whose rows are looked for.
const LOOKED_AT: usize = 16;

/// When it was last looked.
#[derive(Default)]
pub(super) struct Newest(Mutex<Option<Instant>>);

impl Newest {
    /// True when it is time to look again, for one caller.
    fn is_due(&self) -> bool {
        let mut last = self.0.lock();
        let due = last.is_none_or(|last| last.elapsed() >= EVERY);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

impl Inner {
    /// Makes the rows of the newest transcripts that have none. What keeps that from being done keeps no list from being
    /// shown: the next look tries again.
    pub(super) fn look_for_the_newest(&self) {
        if self.newest.is_due() {
            let _ = self.make_missing_rows();
        }
    }

    fn make_missing_rows(&self) -> Result<()> {
        let found = walk(&self.rollouts.home_path().join("sessions"))?;
        let newest = found.flatten().filter(|file| !file.compressed).take(LOOKED_AT);
        let mut paths: BTreeMap<String, PathBuf> =
            newest.filter_map(|file| Some((file.id_in_name()?, file.path))).collect();
        for known in self.index.known(&paths.keys().map(String::as_str).collect::<Vec<_>>())? {
            paths.remove(&known);
        }
        for (id, path) in paths {
            // One that is bad is named by a backfill.
            if let Ok(found) = read_metadata(&path)
                && found.thread.id == id
            {
                self.bring_in(found)?;
            }
        }
        Ok(())
    }
}
