//! Transcripts: one JSON Lines file per thread, the truth behind its row.
//!
//! A line is `{"timestamp":…,"type":…,"payload":…}`; the first one is a `session_meta` with the thread's id. Files lie
//! in `sessions/YYYY/MM/DD/rollout-YYYY-MM-DDThh-mm-ss-<uuid>.jsonl`, archived ones flat in `archived_sessions/`; both may
//! be compressed (`.jsonl.zst`, with the feature `zstd`). What a user said about a thread stands in it as well, as
//! `thread_metadata` lines.
//!
//! [`Rollouts`] is the transcripts of a home: it creates and resumes them ([`Recorder`]), reads them beside their writer
//! ([`Reader`]), archives, compresses and removes them. [`walk`] finds the transcripts of any folder, [`read_metadata`]
//! reads what a list shows of one, a [`Backfill`](crate::stores::Backfill) brings a folder into the store.
//!
//! | file | what |
//! |---|---|
//! | `rollouts`, `locate` | the transcripts of a home, and where one is |
//! | `recorder`, `new_rollout`, `item`, `said` | writing: the first line, any line, what the user said |
//! | `append_file`, `torn` | bytes: what is written, what is durable, what a crash left |
//! | `lease` | one writer per thread across processes |
//! | `reader`, `backwards`, `line` | reading in both directions |
//! | `archive`, `compressed`, `trash` | moving, compressing, throwing away |
//! | `metadata`, `windows`, `scan`, `records`, `first_message` | what a list shows, from both ends |
//! | `derived` | the same of items that are not in a file yet |
//! | `arriving`, `leaving` | from home to home |
//! | `becoming` | a history in rows of a server, on its way to a transcript |
//! | `session_index` | the names that a Codex home keeps beside its transcripts |
//! | `layout`, `backfill`, `whole` | a folder of transcripts, and its way into the store |
//! | `disk`, `faults` | each step on the disk, and where a test can stop it |

mod append_file;
mod archive;
pub(crate) mod arriving;
mod backfill;
mod backwards;
#[cfg(feature = "postgres")]
pub(crate) mod becoming;
#[cfg_attr(not(feature = "zstd"), path = "not_compressed.rs")]
mod compressed;
pub(crate) mod derived;
mod disk;
#[doc(hidden)]
pub mod faults;
mod first_message;
mod item;
pub(crate) mod layout;
mod lease;
pub(crate) mod leaving;
mod line;
mod locate;
mod metadata;
mod new_rollout;
mod reader;
mod recorder;
pub(crate) mod records;
mod rollouts;
mod said;
pub(crate) mod scan;
mod session_index;
mod torn;
mod trash;
mod whole;
mod windows;

pub use archive::{COMPRESSED_AFTER, CompressReport};
pub use backfill::BackfillHandle;
pub use backwards::Backwards;
#[cfg(feature = "postgres")]
pub(crate) use item::stored_kind;
pub use item::{Item, LONGEST_LINE};
pub use layout::{RolloutFile, Walk, walk};
pub use lease::WriterLease;
#[cfg(feature = "postgres")]
pub(crate) use lease::refuse_writers;
pub use line::RolloutLine;
pub use locate::{Located, Stale, StalePath};
#[cfg(feature = "postgres")]
pub(crate) use metadata::beginning;
pub(crate) use metadata::id_of;
pub use metadata::{RolloutFacts, read_metadata};
pub use new_rollout::NewRollout;
pub use reader::{Position, Reader};
#[cfg(feature = "postgres")]
pub(crate) use recorder::create_folders;
pub use recorder::{Appended, Recorder};
pub use rollouts::Rollouts;
pub use said::UserFacts;
pub use session_index::{CodexNames, CodexReport};
pub use torn::TornTail;
