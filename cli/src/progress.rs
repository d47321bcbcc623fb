//! How far long work is: a bar on a terminal; else a line for each part that is done; nothing beside a document.
//!
//! Invariants: nothing of a bar stays on the screen when its work has ended, however it ended; a part is told of once.
//!
//! Tests: `cli/tests/backup_and_restore.rs`.

use indicatif::ProgressBar;

use crate::output::{self, Output};

pub(crate) struct Progress {
    bar: ProgressBar,
    /// Where there is no bar, and no document either.
    lines: bool,
    told: Vec<String>,
}

impl Progress {
    pub(crate) fn in_bytes(output: &Output) -> Self {
        Self::with(output::progress_in_bytes(), output)
    }

    pub(crate) fn in_rows(output: &Output) -> Self {
        Self::with(output::progress(0), output)
    }

    fn with(bar: ProgressBar, output: &Output) -> Self {
        let lines = bar.is_hidden() && !output.is_json();
        Self { bar, lines, told: Vec::new() }
    }

    /// So much of it is done; `doing` says what is under way.
    pub(crate) fn show(&self, done: u64, total: u64, doing: String) {
        if self.bar.is_finished() {
            self.bar.reset();
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(doing);
    }

    /// A part is done.
    pub(crate) fn tell(&mut self, part: String) {
        if self.lines && !self.told.contains(&part) {
            output::line(&part);
            self.told.push(part);
        }
    }

    /// Before anything else is said. It may go on afterwards.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
