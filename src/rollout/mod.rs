//! Transcripts: one JSON Lines file per thread, the truth behind its row.
//!
//! A line is `{"timestamp":…,"type":…,"payload":…}`; the first one is a `session_meta` with the thread's id. Files lie
//! in `sessions/YYYY/MM/DD/rollout-YYYY-MM-DDThh-mm-ss-<uuid>.jsonl`, archived ones flat in `archived_sessions/`.
//! [`walk`] finds them, [`read_metadata`] reads what a list shows of one, [`import`] brings a folder into a store.

mod first_message;
mod import;
mod layout;
mod metadata;
mod records;
mod scan;
mod windows;

pub use import::{ImportProblem, ImportReport, Progress, import};
pub use layout::{RolloutFile, Walk, walk};
pub use metadata::{RolloutFacts, read_metadata};
