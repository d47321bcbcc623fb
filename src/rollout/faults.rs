//! Where a test can see each step by which a transcript changes, and make it fail.
//!
//! Without a hook a step pays for one load. Not part of the promises of this library.

use std::path::Path;
use std::sync::OnceLock;

/// A step that is about to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A file or a folder is created.
    Create(&'a Path),
    /// Bytes are written.
    Write {
        /// Into this file.
        path: &'a Path,
        /// From this place on.
        at: u64,
        /// These.
        bytes: &'a [u8],
    },
    /// What a file holds is made durable.
    Sync(&'a Path),
    /// The names in a folder are made durable.
    SyncFolder(&'a Path),
    /// A file is cut off.
    Cut {
        /// This one.
        path: &'a Path,
        /// To this length.
        to: u64,
    },
    /// A file gets another name.
    Rename {
        /// Its old one.
        from: &'a Path,
        /// Its new one.
        to: &'a Path,
    },
    /// A file or an empty folder is removed.
    Remove(&'a Path),
    /// What a transcript says of its thread is brought into the state database.
    Row(&'a str),
}

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is taken.
    Goes,
    /// It fails with this code of the system; nothing was done.
    Fails(i32),
    /// A write fails with this code after so many bytes.
    Stops {
        /// Bytes that are written.
        after: usize,
        /// The code of the system.
        code: i32,
    },
}

/// Asked before each step, on the thread that takes it.
pub type Hook = fn(&Step<'_>) -> Outcome;

static HOOK: OnceLock<Hook> = OnceLock::new();

/// Has this hook asked from now on, in this process. The first one stays.
pub fn watch(hook: Hook) {
    let _ = HOOK.set(hook);
}

pub(crate) fn ask(step: &Step<'_>) -> Outcome {
    HOOK.get().map_or(Outcome::Goes, |hook| hook(step))
}
